//! Timing all peers turn by turn, so that whatever else the machine does falls on all of them.

use std::time::Duration;

use anyhow::Result;

use crate::{
    corpus::Input,
    peer::{Contender, Peer},
};

/// A peer that takes so long has nothing left in caches from the case before when it comes to the second record.
const SLOW: Duration = Duration::from_millis(100);

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
    let mut turns: Vec<Vec<Turn>> = Vec::with_capacity(cases.len());
    for records in cases {
        turns.push(contenders.iter_mut().map(|it| Turn::new(it, records, plan.turn)).collect());
    }
    for round in 0..plan.rounds {
        for (records, turns) in cases.iter().zip(&mut turns) {
            for (contender, turn) in contenders.iter_mut().zip(turns) {
                if round == 0 || turn.spent < plan.enough {
                    turn.take(contender, records);
                }
            }
        }
    }
}

/// What is known of one peer's turns in one case.
struct Turn {
    /// How often the job is done in one.
    times: u32,
    /// And before it, without the clock: what the case before left in caches, and what of it is still to be freed, is no part of it.
    warm: u32,
    /// In all turns.
    spent: Duration,
}

impl Turn {
    /// Does the job as often as it takes to fill a turn. The first time takes longer than later ones, and doesn't count.
    fn new(contender: &mut Contender, records: &[Input], turn: Duration) -> Self {
        let mut times = 1;
        let first = contender.ask(|peer| run(peer, records, 1)).unwrap_or_default();
        let slow = first >= SLOW;
        while !slow && let Some(spent) = contender.ask(|peer| run(peer, records, times)) {
            if spent >= turn {
                break;
            }
            times *= 2;
        }
        let warm = if slow { 0 } else { times.div_ceil(8) };
        Self { times, warm, spent: Duration::ZERO }
    }

    /// Takes one, and keeps it if none was shorter.
    fn take(&mut self, contender: &mut Contender, records: &[Input]) {
        let Some(case) = records.first().map(|it| it.case) else { return };
        let spent = contender.ask(|peer| {
            run(peer, records, self.warm)?;
            run(peer, records, self.times)
        });
        let Some(spent) = spent else { return };
        self.spent += spent;
        let each = spent.div_f64(f64::from(self.times) * records.len() as f64);
        contender.best.entry(case).and_modify(|it| *it = each.min(*it)).or_insert(each);
    }
}

fn run(peer: &mut dyn Peer, records: &[Input], times: u32) -> Result<Duration> {
    let mut spent = Duration::ZERO;
    for _ in 0..times {
        spent += peer.time(records)?;
    }
    Ok(spent)
}
