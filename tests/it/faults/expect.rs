//! What must have become of each record: as it was, but for what editors take out; or a stub without content; once.

use std::collections::HashMap;

use chain::StageError;
use record::{event, field};
use serde_json::Value;

use super::{
    canary::redacted,
    case::{Position, Situation},
    evidence::{Evidence, Problems},
    promise::Promise,
    tape::Said,
};

/// Events of the log about itself.
pub(crate) const OWN: [&str; 8] = [
    event::PLUGIN_TRAPPED,
    event::PLUGIN_FAILED,
    event::PLUGIN_OPENED,
    event::LOG_DROPPED,
    event::CHAIN_REVISED,
    event::CHAIN_REFUSED,
    event::SHADOW_DIFFERENCE,
    event::SHADOW_REPORT,
];

/// How many records did not come out.
#[derive(Debug, Default)]
pub(crate) struct Missing {
    /// Since the editor dropped them.
    pub(crate) edited: u64,
    /// For no reason that a record shows.
    pub(crate) other: u64,
}

/// What may become of a record.
struct Fate {
    /// It may come out with its content.
    whole: bool,
    /// It may come out as a stub, for one of these reasons, or since the breaker is open.
    stub: Vec<StageError>,
    breaker: bool,
}

pub(crate) fn records(evidence: &Evidence, problems: &mut Problems) -> Missing {
    let mut lines: HashMap<(Option<&str>, u64, &str), Vec<&Value>> = HashMap::new();
    for line in &evidence.witness {
        let request = line["request_id"].as_str();
        let event = line["event_name"].as_str().unwrap_or_default();
        let own = request.is_none() && OWN.contains(&event);
        // Parts of answers are not the parts that were said.
        if !own && event != event::RESPONSE_DELTA {
            let seq = line["seq"].as_u64().unwrap_or_default();
            lines.entry((request, seq, event)).or_default().push(line);
        }
    }
    let mut missing = Missing::default();
    for said in evidence.said.iter().filter(|it| it.event != event::RESPONSE_DELTA) {
        let key = (said.request.as_deref(), said.seq, said.event.as_str());
        match lines.remove(&key).unwrap_or_default().as_slice() {
            [] if is_dropped(evidence, said) => missing.edited += 1,
            [] => missing.other += 1,
            [line] => record(evidence, said, line, problems),
            more => problems.0.push(format!("{} lines of one record: {said:?}", more.len())),
        }
    }
    for line in lines.into_values().flatten() {
        problems.0.push(format!("a line that nobody wrote: {line}"));
    }
    missing
}

fn is_dropped(evidence: &Evidence, said: &Said) -> bool {
    let dropped = evidence.case.deed == "drop" && evidence.is_edited(said);
    dropped && !said.content.is_empty() && !is_terminal(&said.event)
}

fn is_terminal(event: &str) -> bool {
    event::TERMINAL.contains(&event)
}

fn record(evidence: &Evidence, said: &Said, line: &Value, problems: &mut Problems) {
    let attributes = &line["attributes"];
    for (name, value) in &said.others {
        problems
            .check(attributes[name.as_str()] == *value, || format!("{name} was {value}: {line}"));
    }
    let fate = fate(evidence, said);
    if line["stub"] != true {
        problems.check(fate.whole, || format!("content came out: {line}"));
        for (name, text) in &said.content {
            let found = attributes[name.as_str()].as_str().unwrap_or("nothing");
            let wanted = texts(evidence, said, text);
            problems.check(wanted.iter().any(|it| it == found), || {
                format!("{name} of {} is {found:?}, not {wanted:?}", said.event)
            });
        }
        return;
    }
    for (name, _) in &said.content {
        problems.check(attributes.get(name).is_none(), || format!("a stub with {name}: {line}"));
    }
    let reason = attributes[field::PLUGIN_ERROR].as_str().unwrap_or("nothing");
    let word = fate.stub.iter().any(|it| it.name() == reason);
    let opened = fate.breaker && reason == StageError::BreakerOpen.name();
    let by = attributes[field::PLUGIN] == evidence.case.guest.name();
    problems.check(by && (word || opened), || format!("a stub for no reason: {line}"));
}

fn fate(evidence: &Evidence, said: &Said) -> Fate {
    let (whole, stub) = match evidence.case.promise() {
        _ if !evidence.is_edited(said) => (true, vec![]),
        Promise::NotLoaded(_) => (true, vec![]),
        // One that never enters the guest may come out as it is.
        Promise::Fails(error) => (said.content.is_empty(), vec![error]),
        Promise::Poison => {
            let poison = said.content.iter().any(|(_, text)| text.contains("poison"));
            (!poison, poison.then_some(StageError::Trap).into_iter().collect())
        }
        Promise::May(errors) => (true, errors.to_vec()),
        Promise::Goes => {
            // The last word of a request cannot be dropped.
            let kept = evidence.case.deed == "drop" && is_terminal(&said.event);
            let emptied = kept && !said.content.is_empty();
            (!emptied, emptied.then_some(StageError::Refused).into_iter().collect())
        }
    };
    let breaker = matches!(evidence.case.promise(), Promise::Fails(_) | Promise::May(_));
    Fate { whole, stub, breaker: breaker && evidence.is_edited(said) }
}

/// What a text may have become.
fn texts(evidence: &Evidence, said: &Said, text: &str) -> Vec<String> {
    let case = &evidence.case;
    if !evidence.is_edited(said) {
        return vec![redacted(text)];
    }
    let kept = if case.position == Position::Alone { text.to_owned() } else { redacted(text) };
    match case.deed {
        "overlapping" => vec!["[X]".to_owned()],
        "liar" => vec![kept.replace("secret", "[X]")],
        "waverer" => vec!["[X]".to_owned(), kept],
        _ => vec![kept],
    }
}

/// That each request ends once, that its lines are in order, and that the parts of its answer add up.
pub(crate) fn requests(evidence: &Evidence, problems: &mut Problems) {
    for request in evidence.requests() {
        let events = evidence.of(request).filter_map(|it| it["event_name"].as_str());
        let ends = events.filter(|it| is_terminal(it)).count();
        problems.check(ends == 1, || format!("{request} has {ends} terminal records"));
        let whole = evidence.of(request).filter(|it| it["event_name"] != event::RESPONSE_DELTA);
        let places: Vec<u64> = whole.filter_map(|it| it["seq"].as_u64()).collect();
        problems.check(places.is_sorted(), || format!("{request} is out of order: {places:?}"));
        delta(evidence, request, problems);
    }
}

fn delta(evidence: &Evidence, request: &str, problems: &mut Problems) {
    let parts: Vec<&Said> = evidence
        .said
        .iter()
        .filter(|it| it.event == event::RESPONSE_DELTA && it.request.as_deref() == Some(request))
        .collect();
    // What found no room in the queue is missing in the middle.
    let Some(first) = parts.first().filter(|_| evidence.case.situation != Situation::Full) else {
        return;
    };
    let said: String = parts.iter().flat_map(|it| &it.content).map(|(_, it)| it.as_str()).collect();
    let found = evidence.delta(request);
    let stubs: Vec<&str> = evidence
        .of(request)
        .filter(|it| it["event_name"] == event::RESPONSE_DELTA && it["stub"] == true)
        .filter_map(|it| it["attributes"][field::PLUGIN_ERROR].as_str())
        .collect();
    let wanted = texts(evidence, first, &said);
    let is_whole = stubs.is_empty() && wanted.contains(&found);
    let is = |error: StageError| {
        let reason = |it: &&str| *it == error.name() || *it == StageError::BreakerOpen.name();
        stubs.len() == 1 && stubs.iter().all(reason)
    };
    let good = match evidence.case.promise() {
        _ if !evidence.is_edited(first) => is_whole,
        Promise::NotLoaded(_) | Promise::Poison => is_whole,
        Promise::Fails(error) => found.is_empty() && is(error),
        Promise::May(errors) => {
            let failed = errors.iter().any(|it| is(*it));
            is_whole || (failed && wanted[0].starts_with(found.as_str()))
        }
        Promise::Goes => match evidence.case.deed {
            "drop" => found.is_empty() && stubs.is_empty(),
            // They say that they are sure of what they take back later.
            "liar" | "waverer" => is_whole || is(StageError::BadAnswer),
            _ => is_whole,
        },
    };
    problems.check(good, || {
        format!("the parts of {request} are {found:?} and stubs {stubs:?}, not {wanted:?}")
    });
}
