use std::collections::BTreeSet;

use proptest::prelude::*;

use super::{BlockPool, Key};

fn key(number: u8) -> Key {
    [number; 32]
}

impl BlockPool {
    /// Every block is in one place, and what can be found has the key that it is found by. `holders` says who holds what.
    pub(in crate::scheduler) fn check(&self, holders: &[&[u32]]) {
        let empty: BTreeSet<u32> = self.empty.iter().copied().collect();
        let idle: BTreeSet<u32> = self.idle.values().copied().collect();
        assert_eq!(
            (empty.len(), idle.len()),
            (self.empty.len(), self.idle.len()),
            "no block twice"
        );
        for (number, block) in (0..).zip(&self.blocks) {
            let holding: usize =
                holders.iter().map(|it| it.iter().filter(|it| **it == number).count()).sum();
            assert_eq!(block.holders as usize, holding, "holders of block {number}");
            let places = [holding > 0, empty.contains(&number), idle.contains(&number)];
            assert_eq!(places.iter().filter(|it| **it).count(), 1, "places of block {number}");
            assert!(!empty.contains(&number) || block.key.is_none());
            if let Some(key) = &block.key {
                assert_eq!(self.known.get(key), Some(&number));
            }
        }
        assert!(
            self.known.iter().all(|(key, block)| self.blocks[*block as usize].key == Some(*key))
        );
    }
}

#[test]
fn the_end_of_what_was_given_up_first_goes_first() {
    let mut pool = BlockPool::new(4);
    let blocks: Vec<u32> = (0..4).map(|_| pool.take().unwrap()).collect();
    for (number, block) in (0..).zip(&blocks) {
        pool.name(*block, key(number));
    }
    pool.give_up(&blocks[..2]);
    pool.give_up(&blocks[2..]);
    assert_eq!(pool.free(), 4);
    let (found, held) = pool.find(&key(0)).unwrap();
    assert_eq!((found, held), (blocks[0], false));
    pool.share(found);
    let gone = |pool: &BlockPool| -> Vec<bool> {
        (0..4).map(|number| pool.find(&key(number)).is_none()).collect()
    };
    for expected in
        [[false, true, false, false], [false, true, false, true], [false, true, true, true]]
    {
        pool.take().unwrap();
        assert_eq!(gone(&pool), expected);
    }
    assert_eq!(pool.take(), None);
}

#[test]
fn of_two_blocks_with_one_content_the_first_is_found() {
    let mut pool = BlockPool::new(2);
    let (first, second) = (pool.take().unwrap(), pool.take().unwrap());
    pool.name(first, key(1));
    pool.name(second, key(1));
    assert_eq!(pool.find(&key(1)), Some((first, true)));
    pool.give_up(&[second]);
    assert_eq!(pool.find(&key(1)), Some((first, true)));
    pool.distrust();
    assert_eq!(pool.find(&key(1)), None);
    pool.check(&[&[first]]);
}

proptest! {
    #[test]
    fn blocks_are_never_lost(steps in prop::collection::vec((0..5u8, any::<prop::sample::Index>(), 0..6u8), 0..80)) {
        let mut pool = BlockPool::new(6);
        let mut holders: Vec<Vec<u32>> = Vec::new();
        for (deed, which, number) in steps {
            match deed {
                0 => holders.extend(pool.take().map(|it| vec![it])),
                1 if !holders.is_empty() => {
                    let gone = holders.swap_remove(which.index(holders.len()));
                    pool.give_up(&gone);
                }
                2 if !holders.is_empty() => {
                    let block = holders[which.index(holders.len())][0];
                    pool.name(block, key(number));
                }
                3 => {
                    if let Some((block, held)) = pool.find(&key(number)) {
                        prop_assert_eq!(held, holders.iter().any(|it| it.contains(&block)));
                        pool.share(block);
                        holders.push(vec![block]);
                    }
                }
                4 if number == 0 => pool.distrust(),
                _ => {}
            }
            let held: Vec<&[u32]> = holders.iter().map(Vec::as_slice).collect();
            pool.check(&held);
            let distinct: BTreeSet<u32> = holders.iter().flatten().copied().collect();
            prop_assert_eq!(pool.free(), pool.total() - distinct.len());
        }
    }
}
