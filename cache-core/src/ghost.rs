//! Ghosts: which keys were dropped not long ago.
//!
//! Owns: the fingerprints at the end of each index block, a row for each queue. Only
//! hints: a lost race forgets some keys, a fingerprint that two keys share sends one of
//! them to main too early.

use crate::hash::Hash;
use crate::host::Host;
use crate::index::Path;
use crate::layout::block;
use crate::map::Map;
use crate::slot::{Queue, moved};
use crate::sync::Ordering;

/// Buckets that remember together which keys were dropped, in one cache line.
const LINE_BUCKETS: u64 = 8;
/// Bits of a fingerprint, and how many of them a word holds.
const GHOST_BITS: u32 = 12;
const GHOSTS_PER_WORD: u32 = 64 / GHOST_BITS;
const GHOST_MASK: u64 = (1 << GHOST_BITS) - 1;
/// 1 in each fingerprint of a word.
const EACH_GHOST: u64 = 1 | 1 << GHOST_BITS | 1 << (2 * GHOST_BITS) | 1 << (3 * GHOST_BITS) | 1 << (4 * GHOST_BITS);

/// A key that was dropped and is wanted again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ghost {
    /// Where it was dropped from.
    pub queue: Queue,
    /// How many keys were dropped from there since, of those that share its row.
    pub age: usize,
}

/// The first offset and the words of what each queue dropped, the newest fingerprint first.
struct Rows {
    small: (u64, u64),
    main: (u64, u64),
}

impl<H: Host> Map<H> {
    /// Where the neighbours of a key's first bucket remember together.
    ///
    /// One by one, what a bucket remembers would end after anything between half and twice
    /// the mean number of drops. A block in steady state holds three to four items a bucket;
    /// the 35 fingerprints of the small queue are a quarter more than eight buckets hold,
    /// the five of the main queue a sixth, of which only the newest are of use.
    fn ghosts(&self, hash: Hash) -> Option<Rows> {
        let path = self.path(hash)?;
        let [number, _] = hash.buckets(self.geometry.bucket_shift);
        let mut at = path.entry.offset();
        let mut depth = path.entry.depth();
        // A block that is being split keeps its ghosts until the bucket moved, which takes them
        // along. Acquire: as every reader. Bounded by the depth.
        while moved(self.bucket(at, number).counter().load(Ordering::Acquire)) {
            (at, depth) = (self.child(at, depth, hash.tag())?, depth + 1);
        }
        let together = LINE_BUCKETS.min(self.geometry.bucket_count());
        let first = self.ghost_row(at, number);
        let of_small = (together * 7 / 8).max(1);
        Some(Rows { small: (first, of_small), main: (first + 8 * of_small, together - of_small) })
    }

    /// Offset of the words in which bucket `number` of `block` remembers with its neighbours.
    fn ghost_row(&self, block: u64, number: u64) -> u64 {
        let together = LINE_BUCKETS.min(self.geometry.bucket_count());
        let first = block + block::BUCKETS + self.geometry.bucket_count() * block::BUCKET_BYTES;
        first + 8 * (number & !(together - 1))
    }

    /// Fetches what a store or a drop of a key looks at in its block: both buckets, and what
    /// they remember. Only a hint: a bucket that moved is elsewhere.
    #[inline]
    pub(crate) fn prefetch_block(&self, path: &Path<'_>, hash: Hash) {
        let block = path.entry.offset();
        let numbers = hash.buckets(self.geometry.bucket_shift);
        for number in numbers {
            self.region.prefetch(block + block::BUCKETS + block::BUCKET_BYTES * number);
        }
        self.region.prefetch(self.ghost_row(block, numbers[0]));
    }

    /// Remembers that this key was dropped from `queue`.
    pub(crate) fn remember(&self, hash: Hash, queue: Queue) {
        let Some(rows) = self.ghosts(hash) else { return };
        let (first, count) = if queue == Queue::Small { rows.small } else { rows.main };
        let mut moved_on = fingerprint(hash);
        for at in 0..count {
            let word = self.region.word(first + 8 * at);
            // Relaxed: a hint; a lost race forgets some keys.
            let old = word.load(Ordering::Relaxed);
            word.store(old << GHOST_BITS | moved_on, Ordering::Relaxed);
            moved_on = old >> (GHOST_BITS * (GHOSTS_PER_WORD - 1)) & GHOST_MASK;
        }
    }

    /// What is remembered of this key; forgets it.
    pub(crate) fn recall(&self, hash: Hash) -> Option<Ghost> {
        let rows = self.ghosts(hash)?;
        let everywhere = EACH_GHOST * fingerprint(hash);
        [(Queue::Small, rows.small), (Queue::Main, rows.main)].into_iter().find_map(|(queue, (first, count))| {
            (0..count).find_map(|at| {
                let place = self.region.word(first + 8 * at);
                // Relaxed, both: a hint.
                let word = place.load(Ordering::Relaxed);
                let lane = first_zero(word ^ everywhere)?;
                place.store(word & !(GHOST_MASK << (GHOST_BITS * lane)), Ordering::Relaxed);
                Some(Ghost { queue, age: (at as u32 * GHOSTS_PER_WORD + lane) as usize })
            })
        })
    }
}

/// The lowest lane of a word whose fingerprint is 0, without a loop (S. Anderson, Bit
/// Twiddling Hacks: a borrow reaches the top bit of the lowest zero first).
#[inline(always)]
fn first_zero(word: u64) -> Option<u32> {
    let tops = word.wrapping_sub(EACH_GHOST) & !word & (EACH_GHOST << (GHOST_BITS - 1));
    (tops != 0).then(|| tops.trailing_zeros() / GHOST_BITS)
}

/// Some bits of a key, never 0.
fn fingerprint(hash: Hash) -> u64 {
    (hash.0 >> 14 & GHOST_MASK).max(1)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::layout::Mode;
    use crate::testing::{Bench, TestHost};
    use crate::types::WriteOptions;

    /// Keys of one row that have different fingerprints.
    fn neighbours(count: u64) -> Vec<Hash> {
        (1..=count).map(|number| Hash(7 << 33 | number << 14)).collect()
    }

    #[test]
    fn a_row_recalls_each_key_once_with_the_drops_since_and_forgets_the_oldest() {
        let bench = Bench::new(4 << 20, Mode::Evict);
        let host = TestHost::default();
        let map = bench.attach(&host, 0);
        // Until the place of these keys has a block.
        let mut number = 0u32;
        while map.ghosts(neighbours(1)[0]).is_none() {
            map.set(&number.to_le_bytes(), b"value", &WriteOptions::default()).unwrap();
            number += 1;
        }
        for (queue, kept) in [(Queue::Small, 35), (Queue::Main, 5)] {
            let keys = neighbours(40);
            keys.iter().for_each(|key| map.remember(*key, queue));
            for (drops, key) in keys.iter().rev().enumerate() {
                let expected = (drops < kept).then_some(Ghost { queue, age: drops });
                assert_eq!(map.recall(*key), expected, "{drops} drops ago");
                assert_eq!(map.recall(*key), None, "recalled before");
            }
        }
    }

    #[test]
    fn the_lowest_zero_of_a_word_is_found_wherever_it_is() {
        let mut state = 1u64;
        for _ in 0..100_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let lanes = std::array::from_fn::<u64, 5, _>(|lane| (state >> (9 * lane)) % 3 * 0x7ff);
            let word = lanes.iter().rev().fold(state >> 60, |word, lane| word << GHOST_BITS | lane);
            assert_eq!(first_zero(word), lanes.iter().position(|lane| *lane == 0).map(|lane| lane as u32));
        }
    }
}
