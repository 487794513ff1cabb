//! From records to completions. Each of their texts is a record of its own, so that an editor's cut cannot break the form of the
//! whole; the last record says how many there were.

use std::collections::BTreeMap;

use chain::Released;
use record::{Value, event, field};

use crate::completion::{Call, Choice, Completion, Message, Metadata, Part, Usage, Withheld};

/// Completions of which the last record is still to come. The server makes all records of one in one go, so there are as many as
/// it has threads, and those whose last record was lost.
const PENDING_MAX: usize = 256;
/// Bytes of their texts: 16 of the largest prompts.
const BYTES_MAX: usize = 64 << 20;

/// Records that wait for the last one of their completion.
#[derive(Debug, Default)]
pub(crate) struct Collector {
    /// By their number, which grows: the first one is the oldest.
    pending: BTreeMap<i64, Pending>,
    bytes: usize,
}

/// What came of the records.
#[derive(Debug)]
pub(crate) enum Collected {
    Completion(Box<Completion>),
    /// The metadata of a stored completion are to be these.
    Update {
        batch: i64,
        row: i64,
        metadata: Result<Metadata, Withheld>,
    },
    /// Completions whose last record never came.
    Lost(u64),
}

#[derive(Debug, Default)]
struct Pending {
    records: i64,
    bytes: usize,
    withheld: Option<Withheld>,
    choices: Vec<Choice>,
    /// By choice and place.
    calls: BTreeMap<(i64, i64), Call>,
    /// By message and part.
    parts: BTreeMap<(i64, i64), (String, Option<Part>)>,
    /// Calls of the request's messages, by message and place.
    past_calls: BTreeMap<(i64, i64), Call>,
    /// The calls that messages answer.
    call_ids: BTreeMap<i64, String>,
    metadata: Metadata,
}

impl Collector {
    pub(crate) fn take(&mut self, record: &Released) -> Option<Collected> {
        let batch = int(record, field::STORE_BATCH)?;
        match record.event.as_ref() {
            event::STORE_COMPLETION => {
                let pending = self.remove(batch).closed(record);
                return Some(Collected::Completion(Box::new(pending.completion(record))));
            }
            event::STORE_UPDATE => {
                let Pending { withheld, metadata, .. } = self.remove(batch).closed(record);
                let metadata = withheld.map_or(Ok(metadata), Err);
                let row = int(record, field::STORE_ROW)?;
                return Some(Collected::Update { batch, row, metadata });
            }
            _ => {}
        }
        let pending = self.pending.entry(batch).or_default();
        self.bytes += pending.add(record);
        let mut lost = 0;
        while self.pending.len() > PENDING_MAX || self.bytes > BYTES_MAX {
            let Some(oldest) = self.pending.keys().next().copied() else { break };
            self.remove(oldest);
            lost += 1;
        }
        (lost > 0).then_some(Collected::Lost(lost))
    }

    fn remove(&mut self, batch: i64) -> Pending {
        let pending = self.pending.remove(&batch).unwrap_or_default();
        self.bytes -= pending.bytes;
        pending
    }
}

impl Pending {
    /// The answer is how many bytes it has grown by.
    fn add(&mut self, record: &Released) -> usize {
        self.records += 1;
        self.note(record);
        let before = self.bytes;
        let content = |name| text(record, name).map(str::to_owned);
        let choice = int(record, field::STORE_CHOICE);
        if let (Some(choice), Some(call)) = (choice, int(record, field::STORE_CALL)) {
            let id = text(record, field::STORE_CALL_ID).unwrap_or_default().to_owned();
            let (function, arguments) = (content(field::STORE_KEY), content(field::STORE_TEXT));
            self.calls.insert((choice, call), Call { id, function, arguments });
        } else if let Some(index) = choice {
            let finish_reason = text(record, field::FINISH_REASON).unwrap_or("stop").to_owned();
            let text = content(field::STORE_TEXT);
            self.choices.push(Choice { index, finish_reason, text, calls: Vec::new() });
        } else if let Some(message) = int(record, field::STORE_MESSAGE) {
            self.add_message(message, record);
        }
        let is_metadata = &*record.event == event::STORE_METADATA;
        if let (true, Some(key), Some(value)) =
            (is_metadata, content(field::STORE_KEY), content(field::STORE_VALUE))
        {
            self.metadata.push((key, value));
        }
        self.bytes += record
            .fields
            .iter()
            .map(|it| if let Value::Text(text) = &it.value { text.len() + 64 } else { 64 })
            .sum::<usize>();
        self.bytes - before
    }

    fn add_message(&mut self, message: i64, record: &Released) {
        let content = |name| text(record, name).map(str::to_owned);
        let kind = text(record, field::STORE_KIND);
        if let Some(call) = int(record, field::STORE_CALL) {
            let id = content(field::STORE_VALUE).unwrap_or_default();
            let (function, arguments) = (content(field::STORE_KEY), content(field::STORE_TEXT));
            self.past_calls.insert((message, call), Call { id, function, arguments });
        } else if kind == Some("call_id") {
            self.call_ids.extend(content(field::STORE_VALUE).map(|it| (message, it)));
        } else {
            let part = match kind {
                Some("image") => Some(Part::Image),
                Some(_) => content(field::STORE_TEXT).map(Part::Text),
                // A message without parts: of an assistant that said nothing.
                None => None,
            };
            let role = text(record, field::STORE_ROLE).unwrap_or_default().to_owned();
            let at = (message, int(record, field::STORE_MESSAGE_PART).unwrap_or(0));
            self.parts.insert(at, (role, part));
        }
    }

    /// After the last record: whether all of them came.
    fn closed(mut self, last: &Released) -> Self {
        self.note(last);
        if int(last, field::STORE_RECORDS) != Some(self.records) {
            self.withheld.get_or_insert(Withheld::Incomplete);
        }
        self
    }

    fn note(&mut self, record: &Released) {
        if let Some(stub) = &record.stub {
            let (plugin, error) = (stub.plugin.clone(), stub.error);
            self.withheld.get_or_insert(Withheld::Editor { plugin, error });
        }
    }

    fn completion(self, last: &Released) -> Completion {
        let number = |name| int(last, name).unwrap_or(0);
        let word = |name| text(last, name).unwrap_or_default().to_owned();
        let counted = int(last, field::INPUT_TOKENS).zip(int(last, field::OUTPUT_TOKENS));
        let context = last.context.as_ref();
        let mut messages: Vec<(i64, Message)> = Vec::new();
        for ((at, _), (role, part)) in self.parts {
            match messages.last_mut().filter(|(it, _)| *it == at) {
                Some((_, message)) => message.parts.extend(part),
                None => {
                    let parts = part.into_iter().collect();
                    messages.push((at, Message { role, parts, ..Message::default() }));
                }
            }
        }
        // They are in order.
        let place = |messages: &[(i64, Message)], at: i64| {
            messages.binary_search_by_key(&at, |it| it.0).ok()
        };
        for ((at, _), call) in self.past_calls {
            if let Some(at) = place(&messages, at) {
                messages[at].1.calls.push(call);
            }
        }
        for (at, id) in self.call_ids {
            if let Some(at) = place(&messages, at) {
                messages[at].1.call_id = Some(id);
            }
        }
        let mut choices = self.choices;
        choices.sort_by_key(|it| it.index);
        for ((index, _), call) in self.calls {
            if let Some(choice) = choices.iter_mut().find(|it| it.index == index) {
                choice.calls.push(call);
            }
        }
        let settings =
            [("seed", field::SEED), ("temperature", field::TEMPERATURE), ("top_p", field::TOP_P)];
        let setting = |(name, field): (&'static str, &str)| match last.get(field)? {
            Value::Int(it) => Some((name, (*it).into())),
            Value::Float(it) => Some((name, (*it).into())),
            _ => None,
        };
        let mut completion = Completion {
            id: word(field::RESPONSE_ID),
            request_id: context.map(|it| it.request_id.clone()).unwrap_or_default(),
            created: number(field::STORE_CREATED),
            model: word(field::RESPONSE_MODEL),
            choices,
            usage: counted.map(|(input, output)| Usage {
                input,
                output,
                images: number(field::STORE_IMAGE_TOKENS),
            }),
            settings: settings.into_iter().filter_map(setting).collect(),
            messages: messages.into_iter().map(|(_, it)| it).collect(),
            metadata: self.metadata,
            withheld: None,
        };
        if let Some(why) = self.withheld {
            completion.withhold(why);
        }
        completion
    }
}

fn int(record: &Released, name: &str) -> Option<i64> {
    match record.get(name)? {
        Value::Int(it) => Some(*it),
        _ => None,
    }
}

fn text<'a>(record: &'a Released, name: &str) -> Option<&'a str> {
    match record.get(name)? {
        Value::Text(it) => Some(it),
        _ => None,
    }
}
