//! Texts of which vectors are wanted: read, and not gone on with. They come between the steps of jobs, a piece of a long text or
//! some short ones each time and never more than a step's budget, so that answers under way wait no longer than for a long prompt.
//! They share nothing that earlier texts left in the cache, and leave nothing there.

use std::{mem, sync::Arc, time::Instant};

use tokio::sync::oneshot;

use super::{Place, Scheduler, Served, step::guarded};
use crate::{error::EngineError, model::Run};

/// Texts of one step, however short: as many as jobs at most.
const TEXTS: usize = 64;

/// One request for vectors.
pub(crate) struct Embed {
    /// The number of its first text as a sequence. The others have those that follow.
    pub(crate) number: u64,
    pub(crate) served: Arc<Served>,
    /// At least one, of at least one token each and at most the context.
    pub(crate) texts: Vec<Vec<u32>>,
    /// The state of each text's last token. Dropping the receiver ends the request.
    pub(crate) reply: oneshot::Sender<Result<Vec<Vec<f32>>, EngineError>>,
    /// Held until it is answered.
    pub(crate) place: Place,
}

/// A request under way.
pub(super) struct Embedding {
    embed: Embed,
    /// States of the texts that are read.
    states: Vec<Vec<f32>>,
    /// The texts after those that are being read: a part of one, or some whole ones.
    blocks: Vec<Vec<u32>>,
    /// How many tokens of the one are read.
    computed: usize,
}

/// What came of a turn.
enum Turn {
    /// The text is longer than a step.
    Unfinished,
    Read,
    /// There is no room in the cache for the next text.
    Full,
}

impl Scheduler {
    pub(super) fn take_embed(&mut self, embed: Embed) {
        self.embeds.push_back(Embedding {
            embed,
            states: Vec::new(),
            blocks: Vec::new(),
            computed: 0,
        });
    }

    /// One step of the request whose turn it is. Requests take turns between texts.
    pub(super) fn embed(&mut self) {
        let Some(mut it) = self.embeds.pop_front() else { return };
        let start = Instant::now();
        let first = it.next_number();
        let given_up = it.embed.reply.is_closed();
        let turn = if given_up { Ok(Turn::Read) } else { self.read(&mut it) };
        if matches!(turn, Ok(Turn::Unfinished)) {
            self.embeds.push_front(it);
        } else {
            for (number, blocks) in (first..).zip(mem::take(&mut it.blocks)) {
                self.batcher.take_back(&blocks);
                self.model.forget(number);
            }
            it.computed = 0;
            let is_over = it.states.len() == it.embed.texts.len();
            match turn {
                _ if given_up => {}
                Ok(Turn::Read) if is_over => answer(it.embed, Ok(it.states)),
                // What is read already is not thrown away: jobs end, and then there is room.
                Ok(Turn::Full) if it.states.is_empty() => {
                    answer(it.embed, Err(EngineError::CacheFull));
                }
                Ok(_) => self.embeds.push_back(it),
                Err(error) => answer(it.embed, Err(error)),
            }
        }
        self.stats.busy += start.elapsed();
        self.count();
    }

    fn read(&mut self, it: &mut Embedding) -> Result<Turn, EngineError> {
        let budget = self.batcher.step_tokens();
        if it.blocks.is_empty() {
            self.lend(it, budget);
        }
        let Some(longest) = it.texts().first().map(Vec::len) else { return Ok(Turn::Full) };
        let from = it.computed;
        let to = longest.min(from + budget);
        let is_last = to == longest;
        let served = &it.embed.served;
        let adapter = served.adapter.is_some().then_some(served.model.name.as_str());
        let first = it.next_number();
        let runs: Vec<_> = (first..)
            .zip(it.texts().iter().zip(&it.blocks))
            .map(|(sequence, (text, blocks))| Run {
                sequence,
                // Of several, all are whole.
                tokens: if it.blocks.len() == 1 { &text[from..to] } else { text },
                position: from,
                blocks,
                adapter,
                images: &[],
                areas: &[],
                logits: is_last,
            })
            .collect();
        let tokens: usize = runs.iter().map(|it| it.tokens.len()).sum();
        let (model, before_step, device) = (&mut self.model, &self.before_step, &self.device);
        let before = Instant::now();
        let states = guarded(|| {
            before_step()?;
            let states = model.embed(&runs)?;
            // As in a step of jobs, the one wait for the device.
            if is_last {
                Ok(states.to_vec2::<f32>()?)
            } else {
                device.synchronize()?;
                Ok(Vec::new())
            }
        });
        self.stats.forward += before.elapsed();
        drop(runs);
        let states = states?;
        self.stats.prompt_tokens += tokens as u64;
        it.computed = to;
        it.states.extend(states);
        Ok(if is_last { Turn::Read } else { Turn::Unfinished })
    }

    /// Blocks for the next text, and for those after it that are read in the same step.
    fn lend(&mut self, it: &mut Embedding, budget: usize) {
        let mut tokens = 0;
        for text in it.embed.texts[it.states.len()..].iter().take(TEXTS) {
            tokens += text.len();
            if !it.blocks.is_empty() && tokens > budget {
                break;
            }
            let Some(blocks) = self.batcher.lend(text.len()) else { break };
            it.blocks.push(blocks);
            if tokens > budget {
                break;
            }
        }
    }
}

impl Embedding {
    /// The number of the first text that is not read yet.
    fn next_number(&self) -> u64 {
        self.embed.number + self.states.len() as u64
    }

    /// Those that have blocks.
    fn texts(&self) -> &[Vec<u32>] {
        let from = self.states.len();
        &self.embed.texts[from..from + self.blocks.len()]
    }
}

/// The place is free before anybody hears of the answer.
fn answer(embed: Embed, answer: Result<Vec<Vec<f32>>, EngineError>) {
    let Embed { reply, place, .. } = embed;
    drop(place);
    let _ = reply.send(answer);
}
