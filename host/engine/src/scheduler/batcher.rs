//! Who moves on in the next step: the budget of tokens, the blocks of the cache, admission and preemption. It knows no
//! model, no text and no clock.
//!
//! - First every sequence that has its prompt behind it gets its one token, so no prompt can hold up answers. What is
//!   left of the budget goes to prompts under way, then to sequences that wait, each in its [`Order`].
//! - A sequence is admitted when there is room for all of its tokens, and a block for each of those that run already. The
//!   first that does not fit is waited for: no stream of short prompts can starve a long one.
//! - When an answer needs a block and there is none, the last in order loses its blocks. It waits for them at its old
//!   place and is computed again, as far as its blocks are not still there. Its tokens stay.

#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};

use super::{
    pool::{BlockPool, Key},
    prefix::Salt,
};

/// The place of a sequence among all: smaller goes first. No two have the same `number`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Order {
    pub(crate) rank: i64,
    pub(crate) number: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Tokens of one step.
    pub(crate) step_tokens: usize,
    /// Sequences that run at once; never more than `step_tokens`.
    pub(crate) sequences: usize,
    pub(crate) block_tokens: usize,
    /// Whether blocks with equal content are shared.
    pub(crate) prefix_caching: bool,
}

/// One step.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) parts: Vec<Part>,
    pub(crate) admitted: Vec<Admitted>,
    /// Numbers of those that lost their blocks.
    pub(crate) preempted: Vec<u64>,
}

/// What one sequence computes in a step: its tokens from `from` up to `to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) number: u64,
    pub(crate) from: usize,
    pub(crate) to: usize,
    /// Its last token is among them, so the next one can be chosen.
    pub(crate) last: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Admitted {
    pub(crate) number: u64,
    /// Tokens whose keys and values were there.
    pub(crate) cached: usize,
}

/// What has happened since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Tokens of admitted prompts.
    pub(crate) prefix_queries: u64,
    /// Those of them that were in the cache.
    pub(crate) prefix_hits: u64,
    pub(crate) preemptions: u64,
}

pub(crate) struct Batcher {
    limits: Limits,
    pool: BlockPool,
    sequences: HashMap<u64, Sequence>,
    waiting: BTreeSet<Order>,
    running: BTreeSet<Order>,
    counts: Counts,
}

struct Sequence {
    order: Order,
    tokens: Vec<u32>,
    salt: Salt,
    /// Of its first full blocks, as far as they are known.
    keys: Vec<Key>,
    blocks: Vec<u32>,
    /// How many tokens have their keys and values in the blocks.
    computed: usize,
    /// It was admitted before, so it is being computed again.
    again: bool,
}

impl Batcher {
    pub(crate) fn new(blocks: usize, mut limits: Limits) -> Self {
        limits.block_tokens = limits.block_tokens.max(1);
        limits.step_tokens = limits.step_tokens.max(1);
        limits.sequences = limits.sequences.clamp(1, limits.step_tokens);
        Self {
            limits,
            pool: BlockPool::new(blocks),
            sequences: HashMap::new(),
            waiting: BTreeSet::new(),
            running: BTreeSet::new(),
            counts: Counts::default(),
        }
    }

    /// How many tokens one sequence can have at most.
    pub(crate) fn room(&self) -> usize {
        self.pool.total() * self.limits.block_tokens
    }

    pub(crate) fn free_blocks(&self) -> usize {
        self.pool.free()
    }

    pub(crate) fn total_blocks(&self) -> usize {
        self.pool.total()
    }

    pub(crate) fn running(&self) -> usize {
        self.running.len()
    }

    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.sequences.is_empty()
    }

    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }

    /// Takes a sequence in. `tokens` are at least one and, with those that are yet to be chosen, at most
    /// [`Self::room`].
    pub(crate) fn add(&mut self, order: Order, tokens: Vec<u32>, salt: Salt) {
        let sequence = Sequence {
            order,
            tokens,
            salt,
            keys: Vec::new(),
            blocks: Vec::new(),
            computed: 0,
            again: false,
        };
        self.sequences.insert(order.number, sequence);
        self.waiting.insert(order);
    }

    /// A token was chosen for a sequence whose part was its last.
    pub(crate) fn push(&mut self, number: u64, token: u32) {
        if let Some(sequence) = self.sequences.get_mut(&number) {
            sequence.tokens.push(token);
        }
    }

    /// A sequence is over, wherever it was.
    pub(crate) fn remove(&mut self, number: u64) {
        let Some(sequence) = self.sequences.remove(&number) else { return };
        self.pool.give_up(&sequence.blocks);
        self.waiting.remove(&sequence.order);
        self.running.remove(&sequence.order);
    }

    /// How many tokens one step computes.
    pub(crate) fn step_tokens(&self) -> usize {
        self.limits.step_tokens
    }

    /// Blocks for a text that is no sequence, where there are enough: as for a new sequence, a block for each of those that run
    /// is left.
    pub(crate) fn lend(&mut self, tokens: usize) -> Option<Vec<u32>> {
        let needed = tokens.div_ceil(self.limits.block_tokens);
        if needed + self.running.len() > self.pool.free() {
            return None;
        }
        (0..needed).map(|_| self.pool.take()).collect()
    }

    /// What [`Self::lend`] gave comes back.
    pub(crate) fn take_back(&mut self, blocks: &[u32]) {
        self.pool.give_up(blocks);
    }

    pub(crate) fn tokens(&self, part: &Part) -> &[u32] {
        let tokens = self.sequences.get(&part.number).map(|it| it.tokens.as_slice());
        tokens.and_then(|it| it.get(part.from..part.to)).unwrap_or_default()
    }

    pub(crate) fn blocks(&self, number: u64) -> &[u32] {
        self.sequences.get(&number).map_or(&[], |it| &it.blocks)
    }

    /// What to compute next. Nothing has to be taken back if it is not computed: the next plan says the same again.
    pub(crate) fn plan(&mut self) -> Plan {
        let mut plan = Plan::default();
        let mut budget = self.limits.step_tokens;
        let is_answering = |order: &Order| {
            self.sequences.get(&order.number).is_some_and(|it| it.tokens.len() - it.computed == 1)
        };
        let (answers, prompts): (Vec<Order>, Vec<Order>) =
            self.running.iter().partition(|order| is_answering(order));
        for order in answers.into_iter().chain(prompts) {
            if budget == 0 {
                break;
            }
            self.schedule(order, &mut budget, &mut plan);
        }
        // Who has just lost its blocks would be the first to take them back.
        if plan.preempted.is_empty() {
            self.admit(&mut budget, &mut plan);
        }
        plan
    }

    /// The parts of a plan are computed.
    pub(crate) fn advance(&mut self, parts: &[Part]) {
        let block_tokens = self.limits.block_tokens;
        for part in parts {
            let Some(it) = self.sequences.get_mut(&part.number) else { continue };
            it.computed = part.to;
            if !self.limits.prefix_caching {
                continue;
            }
            let full = part.to / block_tokens;
            it.salt.extend(&mut it.keys, &it.tokens, block_tokens, full);
            for block in part.from / block_tokens..full {
                self.pool.name(it.blocks[block], it.keys[block]);
            }
        }
    }

    /// Nothing in the cache can be relied on: all sequences are computed again.
    pub(crate) fn distrust(&mut self) {
        while let Some(order) = self.running.first().copied() {
            self.send_back(order);
        }
        self.pool.distrust();
    }

    /// Gives a running sequence what it can have of the budget, unless that costs it its own blocks.
    fn schedule(&mut self, order: Order, budget: &mut usize, plan: &mut Plan) {
        // Another one may have taken its blocks in this step.
        if !self.running.contains(&order) {
            return;
        }
        let Some(it) = self.sequences.get(&order.number) else { return };
        let (from, end) = (it.computed, it.tokens.len());
        let to = end.min(from + *budget);
        let needed = to.div_ceil(self.limits.block_tokens).saturating_sub(it.blocks.len());
        for _ in 0..needed {
            while self.pool.free() == 0 {
                let Some(last) = self.running.last().copied() else { return };
                self.send_back(last);
                self.counts.preemptions += 1;
                plan.preempted.push(last.number);
                if last == order {
                    return;
                }
            }
            self.take_block(order.number);
        }
        plan.parts.push(Part { number: order.number, from, to, last: to == end });
        *budget -= to - from;
    }

    fn admit(&mut self, budget: &mut usize, plan: &mut Plan) {
        while *budget > 0 && self.running.len() < self.limits.sequences {
            let Some(order) = self.waiting.first().copied() else { return };
            let Some(cached) = self.find_room(order.number) else { return };
            self.waiting.remove(&order);
            self.running.insert(order);
            plan.admitted.push(Admitted { number: order.number, cached });
            self.schedule(order, budget, plan);
        }
    }

    /// Gives a waiting sequence blocks for all of its tokens, where there are enough. Returns how many of the tokens are in
    /// them already: never all, since the last one has to be computed for what comes after it.
    fn find_room(&mut self, number: u64) -> Option<usize> {
        let block_tokens = self.limits.block_tokens;
        let it = self.sequences.get_mut(&number)?;
        let mut shared = Vec::new();
        let mut idle = 0;
        if self.limits.prefix_caching {
            let most = (it.tokens.len() - 1) / block_tokens;
            it.salt.extend(&mut it.keys, &it.tokens, block_tokens, most);
            for key in it.keys.iter().take(most) {
                let Some((block, held)) = self.pool.find(key) else { break };
                shared.push(block);
                idle += usize::from(!held);
            }
        }
        let new = it.tokens.len().div_ceil(block_tokens) - shared.len();
        if new + idle + self.running.len() > self.pool.free() {
            return None;
        }
        for block in &shared {
            self.pool.share(*block);
        }
        let cached = shared.len() * block_tokens;
        it.computed = cached;
        it.blocks = shared;
        if !it.again {
            it.again = true;
            self.counts.prefix_queries += it.tokens.len() as u64;
            self.counts.prefix_hits += cached as u64;
        }
        for _ in 0..new {
            self.take_block(number);
        }
        Some(cached)
    }

    fn take_block(&mut self, number: u64) {
        if let (Some(it), Some(block)) = (self.sequences.get_mut(&number), self.pool.take()) {
            it.blocks.push(block);
        }
    }

    /// From the running to the waiting, without its blocks.
    fn send_back(&mut self, order: Order) {
        self.running.remove(&order);
        self.waiting.insert(order);
        if let Some(it) = self.sequences.get_mut(&order.number) {
            self.pool.give_up(&it.blocks);
            it.blocks.clear();
            it.computed = 0;
        }
    }
}
