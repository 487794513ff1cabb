//! Timing all peers turn by turn, so that whatever else the machine does falls on all of them.

use std::time::Duration;

use anyhow::Result;

use crate::{
    corpus::Input,
    peer::{Contender, Peer},
};

/// How long to go on.
pub struct Plan {
    /// Texts of a case; one batch of a log worker.
    pub records: usize,
    rounds: u32,
    /// One turn of a peer is at least this long: the clock is read twice, and caches should be warm.
    turn: Duration,
    /// After this much in one case a peer is measured well enough; only slow ones come here.
    enough: Duration,
}

impl Plan {
    pub fn new(smoke: bool) -> Self {
        if smoke {
            let (turn, enough) = (Duration::ZERO, Duration::ZERO);
            return Self { records: 4, rounds: 1, turn, enough };
        }
        let (turn, enough) = (Duration::from_millis(3), Duration::from_secs(4));
        Self { records: 64, rounds: 15, turn, enough }
    }
}

/// Times every peer with the records of every case, and keeps the shortest turn of each. Rounds go over all cases: the neighbours of
/// this machine come and go within seconds, and a case that was measured in one go would be theirs as a whole.
pub fn measure(contenders: &mut [Contender], cases: &[&[Input]], plan: &Plan) {
    let mut turns = vec![vec![Turn::default(); contenders.len()]; cases.len()];
    // The first round only says how often a peer has to do its work to fill a turn.
    for round in 0..=plan.rounds {
        for (records, turns) in cases.iter().zip(&mut turns) {
            for (contender, turn) in contenders.iter_mut().zip(turns) {
                if round == 0 {
                    turn.times = fill(contender, records, plan.turn);
                } else if round == 1 || turn.spent < plan.enough {
                    take(contender, turn, records);
                }
            }
        }
    }
}

/// One turn of one peer.
fn take(contender: &mut Contender, turn: &mut Turn, records: &[Input]) {
    let Some(case) = records.first().map(|it| it.case) else { return };
    let times = turn.times.max(1);
    let spent = contender.ask(|peer| {
        // What the case before left in caches, such as the states of an automaton, is no part of this one.
        let warm = if times > 1 { times.div_ceil(8) } else { 0 };
        turn_of(peer, records, warm)?;
        turn_of(peer, records, times)
    });
    let Some(spent) = spent else { return };
    turn.spent += spent;
    let each = spent.div_f64(f64::from(times) * records.len() as f64);
    contender.best.entry(case).and_modify(|it| *it = each.min(*it)).or_insert(each);
}

/// How often the job has to be done to fill a turn. The first time takes longer than later ones.
fn fill(contender: &mut Contender, records: &[Input], turn: Duration) -> u32 {
    let mut times = 1;
    while let Some(spent) = contender.ask(|peer| turn_of(peer, records, times)) {
        if spent >= turn {
            break;
        }
        times *= 2;
    }
    times
}

fn turn_of(peer: &mut dyn Peer, records: &[Input], times: u32) -> Result<Duration> {
    let mut spent = Duration::ZERO;
    for _ in 0..times {
        spent += peer.time(records)?;
    }
    Ok(spent)
}

#[derive(Clone, Default)]
struct Turn {
    times: u32,
    spent: Duration,
}
