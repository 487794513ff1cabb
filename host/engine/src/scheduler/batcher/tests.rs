use std::collections::{BTreeMap, HashMap};

use proptest::{prelude::*, sample::Index};

use super::{Batcher, Limits, Order, Part, Plan};
use crate::scheduler::prefix::{Mark, Salt};

const BLOCK: usize = 4;

fn limits(step_tokens: usize, sequences: usize) -> Limits {
    Limits { step_tokens, sequences, block_tokens: BLOCK, prefix_caching: true }
}

fn order(rank: i64, number: u64) -> Order {
    Order { rank, number }
}

/// What a model would have in its cache: for each place everything that its keys and values depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Content {
    salt: Salt,
    tokens: Vec<u32>,
}

/// A batcher with a cache that remembers, and sequences that say a number of tokens.
struct Rig {
    batcher: Batcher,
    limits: Limits,
    cache: HashMap<usize, Content>,
    /// Tokens and what is still to be said.
    alive: BTreeMap<u64, (Vec<u32>, usize, Salt)>,
    ended: usize,
}

impl Rig {
    fn new(blocks: usize, limits: Limits) -> Self {
        let batcher = Batcher::new(blocks, limits);
        Self { batcher, limits, cache: HashMap::new(), alive: BTreeMap::new(), ended: 0 }
    }

    fn add(&mut self, order: Order, tokens: &[u32], says: usize, salt: Salt) {
        assert!(tokens.len() + says <= self.batcher.room());
        self.batcher.add(order, tokens.to_vec(), salt.clone());
        self.alive.insert(order.number, (tokens.to_vec(), says, salt));
    }

    /// One step; `fails` leaves rubbish in the blocks.
    fn step(&mut self, fails: bool) -> Plan {
        let plan = self.batcher.plan();
        let budget: usize = plan.parts.iter().map(|it| it.to - it.from).sum();
        assert!(budget <= self.limits.step_tokens, "{budget} tokens");
        assert!(plan.parts.len() <= self.limits.sequences);
        assert!(self.batcher.is_empty() || !plan.parts.is_empty(), "nothing moves on");
        for part in &plan.parts {
            self.compute(part, fails);
        }
        self.check();
        if fails {
            for part in &plan.parts {
                self.end(part.number);
            }
            self.batcher.distrust();
        } else {
            self.batcher.advance(&plan.parts);
            for part in plan.parts.iter().filter(|it| it.last) {
                self.say(part.number);
            }
        }
        self.check();
        plan
    }

    fn compute(&mut self, part: &Part, fails: bool) {
        let (tokens, _, salt) = &self.alive[&part.number];
        assert_eq!(self.batcher.tokens(part), &tokens[part.from..part.to]);
        assert_eq!(part.last, part.to == tokens.len());
        assert!(part.from < part.to);
        let blocks = self.batcher.blocks(part.number);
        let place = |at: usize| blocks[at / BLOCK] as usize * BLOCK + at % BLOCK;
        let content = |at: usize| Content { salt: salt.clone(), tokens: tokens[..=at].to_vec() };
        for at in 0..part.from {
            assert_eq!(self.cache.get(&place(at)), Some(&content(at)), "token {at} of {part:?}");
        }
        for at in part.from..part.to {
            let mut content = content(at);
            if fails {
                content.tokens.clear();
            }
            self.cache.insert(place(at), content);
        }
    }

    fn say(&mut self, number: u64) {
        let Some((tokens, says, _)) = self.alive.get_mut(&number) else { return };
        if *says == 0 {
            self.end(number);
            return;
        }
        *says -= 1;
        let token = tokens.len() as u32 % 3;
        tokens.push(token);
        self.batcher.push(number, token);
    }

    fn end(&mut self, number: u64) {
        self.batcher.remove(number);
        self.ended += usize::from(self.alive.remove(&number).is_some());
    }

    fn check(&self) {
        let it = &self.batcher;
        let held: Vec<&[u32]> = it.sequences.values().map(|it| it.blocks.as_slice()).collect();
        it.pool.check(&held);
        assert_eq!(it.running.len() + it.waiting.len(), it.sequences.len());
        assert_eq!(it.sequences.len(), self.alive.len());
        for sequence in it.sequences.values() {
            assert_eq!(it.running.contains(&sequence.order), !sequence.blocks.is_empty());
            assert_ne!(it.running.contains(&sequence.order), it.waiting.contains(&sequence.order));
        }
    }
}

fn part(number: u64, from: usize, to: usize, last: bool) -> Part {
    Part { number, from, to, last }
}

#[test]
fn answers_come_before_prompts_and_prompts_in_order() {
    let mut rig = Rig::new(64, limits(8, 8));
    rig.add(order(0, 1), &[1, 2], 9, Salt::default());
    assert_eq!(rig.step(false).parts, [part(1, 0, 2, true)]);
    rig.add(order(0, 2), &[7; 12], 1, Salt::default());
    rig.add(order(0, 3), &[8; 3], 1, Salt::default());
    assert_eq!(rig.step(false).parts, [part(1, 2, 3, true), part(2, 0, 7, false)]);
    // What is left of the budget is the next one's.
    assert_eq!(
        rig.step(false).parts,
        [part(1, 3, 4, true), part(2, 7, 12, true), part(3, 0, 2, false)]
    );
    assert_eq!(
        rig.step(false).parts,
        [part(1, 4, 5, true), part(2, 12, 13, true), part(3, 2, 3, true)]
    );
}

#[test]
fn a_smaller_rank_goes_first() {
    let mut rig = Rig::new(64, limits(8, 1));
    for (rank, number) in [(5, 1), (0, 2), (0, 3), (-1, 4)] {
        rig.add(order(rank, number), &[number as u32], 0, Salt::default());
    }
    let turns: Vec<u64> = (0..4).map(|_| rig.step(false).parts[0].number).collect();
    assert_eq!(turns, [4, 2, 3, 1]);
}

#[test]
fn nobody_overtakes_one_that_waits_for_room() {
    let mut rig = Rig::new(4, limits(16, 8));
    rig.add(order(0, 1), &[1; 8], 4, Salt::default());
    rig.step(false);
    rig.add(order(0, 2), &[2; 12], 0, Salt::default());
    rig.add(order(0, 3), &[3; 1], 0, Salt::default());
    let plan = rig.step(false);
    assert_eq!(plan.parts, [part(1, 8, 9, true)]);
    let admitted = (0..5).flat_map(|_| rig.step(false).admitted).map(|it| it.number);
    assert_eq!(admitted.collect::<Vec<_>>(), [2, 3]);
}

#[test]
fn the_last_in_order_makes_room() {
    let mut rig = Rig::new(4, Limits { prefix_caching: false, ..limits(16, 8) });
    rig.add(order(0, 1), &[1; 4], 8, Salt::default());
    rig.add(order(0, 2), &[2; 4], 8, Salt::default());
    let mut preempted = Vec::new();
    while !rig.batcher.is_empty() {
        preempted.extend(rig.step(false).preempted);
    }
    assert_eq!(preempted, [2]);
    assert_eq!(rig.batcher.counts().preemptions, 1);
}

#[test]
fn equal_beginnings_are_shared_and_nothing_else() {
    let text: Vec<u32> = (0..12).collect();
    let image = |digest: u8| Salt {
        images: vec![Mark { at: 2, tokens: 3, digest: [digest; 32] }],
        ..Salt::default()
    };
    let adapter = |adapter: u64| Salt { adapter, ..Salt::default() };
    let changed = |at: usize| {
        let mut text = text.clone();
        text[at] = 99;
        text
    };
    for (tokens, salt, cached) in [
        // The last token is always computed.
        (text.clone(), Salt::default(), 8),
        (text[..9].to_vec(), Salt::default(), 8),
        (text[..8].to_vec(), Salt::default(), 4),
        (changed(11), Salt::default(), 8),
        (changed(5), Salt::default(), 4),
        (changed(0), Salt::default(), 0),
        (text.clone(), adapter(1), 0),
        (text.clone(), image(1), 0),
    ] {
        let mut rig = Rig::new(64, limits(64, 8));
        rig.add(order(0, 1), &text, 0, Salt::default());
        rig.step(false);
        assert!(rig.batcher.is_empty());
        rig.add(order(0, 2), &tokens, 0, salt);
        assert_eq!(rig.step(false).admitted[0].cached, cached, "{tokens:?}");
        let counts = rig.batcher.counts();
        assert_eq!(counts.prefix_queries, 12 + tokens.len() as u64);
        assert_eq!(counts.prefix_hits, cached as u64);
    }
    let mut rig = Rig::new(64, limits(64, 8));
    for (number, salt, cached) in [(1, image(1), 0), (2, image(1), 8), (3, image(2), 0)] {
        rig.add(order(0, number), &text, 0, salt);
        assert_eq!(rig.step(false).admitted[0].cached, cached, "{number}");
    }
}

#[test]
fn answers_are_remembered_too() {
    let mut rig = Rig::new(64, limits(64, 8));
    rig.add(order(0, 1), &[5, 6], 8, Salt::default());
    let mut tokens = Vec::new();
    while let Some((text, ..)) = rig.alive.get(&1) {
        tokens.clone_from(text);
        rig.step(false);
    }
    tokens.push(1);
    rig.add(order(0, 2), &tokens, 0, Salt::default());
    assert_eq!(rig.step(false).admitted[0].cached, 8);
}

#[derive(Clone, Debug)]
enum Deed {
    Add { rank: i64, tokens: Vec<u32>, says: usize, adapter: u64 },
    Step,
    Fail,
    Cancel(Index),
}

fn deed() -> impl Strategy<Value = Deed> {
    // Few different tokens, so that beginnings are often the same.
    let add = (0..3i64, prop::collection::vec(0..2u32, 1..20), 0..12usize, 0..2u64);
    prop_oneof![
        4 => add.prop_map(|(rank, tokens, says, adapter)| Deed::Add { rank, tokens, says, adapter }),
        8 => Just(Deed::Step),
        1 => Just(Deed::Fail),
        2 => any::<Index>().prop_map(Deed::Cancel),
    ]
}

proptest! {
    #[test]
    fn every_sequence_ends_and_reads_only_what_is_its_own(
        blocks in 8..24usize,
        step_tokens in 1..24usize,
        sequences in 1..6usize,
        prefix_caching: bool,
        deeds in prop::collection::vec(deed(), 0..60),
    ) {
        let limits = Limits { prefix_caching, ..limits(step_tokens, sequences) };
        let mut rig = Rig::new(blocks, limits);
        let mut added = 0;
        for (number, deed) in (1..).zip(deeds) {
            match deed {
                Deed::Add { rank, tokens, says, adapter } => {
                    let salt = Salt { adapter, ..Salt::default() };
                    rig.add(order(rank, number), &tokens, says, salt);
                    added += 1;
                }
                Deed::Step => drop(rig.step(false)),
                Deed::Fail => drop(rig.step(true)),
                Deed::Cancel(which) if !rig.alive.is_empty() => {
                    let number = *rig.alive.keys().nth(which.index(rig.alive.len())).unwrap();
                    rig.end(number);
                    rig.check();
                }
                Deed::Cancel(_) => {}
            }
        }
        // Each step computes at least one token, and preemption always leaves the first in order alone.
        for _ in 0..20_000 {
            if rig.batcher.is_empty() {
                break;
            }
            rig.step(false);
        }
        prop_assert_eq!(rig.ended, added);
        prop_assert_eq!(rig.batcher.free_blocks(), blocks);
    }
}
