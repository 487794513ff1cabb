//! Blocks of the cache of keys and values: who holds which, and which still hold a known beginning of some text. It knows
//! no tokens and no tensors.
//!
//! A block that nobody holds keeps its content until somebody needs the room. The one that was given up longest ago goes
//! first, and of one text the last block first: beginnings are what others share.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};

/// What a full block holds: its tokens, everything before them, and what else they depend on. See `prefix`.
pub(crate) type Key = [u8; 32];

pub(crate) struct BlockPool {
    blocks: Vec<Block>,
    /// Held by nobody, and nobody can ask for what they hold.
    empty: Vec<u32>,
    /// Held by nobody, with a key, in the order in which they were given up.
    idle: BTreeMap<u64, u32>,
    known: HashMap<Key, u32>,
    /// How often a block was given up.
    clock: u64,
}

#[derive(Clone, Default)]
struct Block {
    holders: u32,
    key: Option<Key>,
    /// Its place in `idle`, while nobody holds it.
    given_up: u64,
}

impl BlockPool {
    pub(crate) fn new(blocks: usize) -> Self {
        let count = u32::try_from(blocks).unwrap_or(u32::MAX);
        Self {
            blocks: vec![Block::default(); count as usize],
            // From the end, so that the first blocks are the first in use.
            empty: (0..count).rev().collect(),
            idle: BTreeMap::new(),
            known: HashMap::new(),
            clock: 0,
        }
    }

    pub(crate) fn total(&self) -> usize {
        self.blocks.len()
    }

    /// How many blocks [`Self::take`] can give.
    pub(crate) fn free(&self) -> usize {
        self.empty.len() + self.idle.len()
    }

    /// The block with this content, and whether somebody holds it.
    pub(crate) fn find(&self, key: &Key) -> Option<(u32, bool)> {
        let block = *self.known.get(key)?;
        Some((block, self.blocks[block as usize].holders > 0))
    }

    /// One more holder of a block that [`Self::find`] found.
    pub(crate) fn share(&mut self, block: u32) {
        let it = &mut self.blocks[block as usize];
        if it.holders == 0 {
            self.idle.remove(&it.given_up);
        }
        it.holders += 1;
    }

    /// A block of one's own. What it held is forgotten.
    pub(crate) fn take(&mut self) -> Option<u32> {
        let block = self.empty.pop().or_else(|| self.idle.pop_first().map(|(_, block)| block))?;
        let it = &mut self.blocks[block as usize];
        if let Some(key) = it.key.take() {
            self.known.remove(&key);
        }
        it.holders = 1;
        Some(block)
    }

    /// One holder less of each of `blocks`, which are those of one text in order.
    pub(crate) fn give_up(&mut self, blocks: &[u32]) {
        for &block in blocks.iter().rev() {
            let it = &mut self.blocks[block as usize];
            it.holders = it.holders.saturating_sub(1);
            if it.holders > 0 {
                continue;
            }
            if it.key.is_some() {
                self.clock += 1;
                it.given_up = self.clock;
                self.idle.insert(self.clock, block);
            } else {
                self.empty.push(block);
            }
        }
    }

    /// A block is full now and won't change. Where another one holds the same, that one stays the one to be found.
    pub(crate) fn name(&mut self, block: u32, key: Key) {
        let it = &mut self.blocks[block as usize];
        if it.key.is_none() && !self.known.contains_key(&key) {
            it.key = Some(key);
            self.known.insert(key, block);
        }
    }

    /// No content can be relied on any more. Who holds which block stays as it is.
    pub(crate) fn distrust(&mut self) {
        self.known.clear();
        for block in &mut self.blocks {
            block.key = None;
        }
        while let Some((_, block)) = self.idle.pop_first() {
            self.empty.push(block);
        }
    }
}
