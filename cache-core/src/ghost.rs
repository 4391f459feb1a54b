//! Ghosts: which keys were dropped not long ago.
//!
//! Owns: the fingerprints at the end of each index block, a row for each queue. Only
//! hints: a lost race forgets some keys, a fingerprint that two keys share sends one of
//! them to main too early.

use crate::hash::Hash;
use crate::host::Host;
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

/// A key that was dropped and is wanted again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ghost {
    /// Where it was dropped from.
    pub queue: Queue,
    /// How many keys were dropped from there since, of those that share its row.
    pub age: usize,
}

impl<H: Host> Map<H> {
    /// The offset of the row in which the neighbours of a key's first bucket remember what
    /// `queue` dropped, and its words, the newest fingerprint first.
    ///
    /// One by one, what a bucket remembers would end after anything between half and twice
    /// the mean number of drops. A block in steady state holds three to four items a bucket;
    /// the 35 fingerprints of the small queue are a quarter more than eight buckets hold,
    /// the five of the main queue a sixth, of which only the newest are of use.
    fn ghosts(&self, hash: Hash, queue: Queue) -> Option<(u64, u64)> {
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
        let line =
            at + block::BUCKETS + self.geometry.bucket_count() * block::BUCKET_BYTES + 8 * (number & !(together - 1));
        let of_small = (together * 7 / 8).max(1);
        Some(match queue {
            Queue::Small => (line, of_small),
            Queue::Main => (line + 8 * of_small, together - of_small),
        })
    }

    /// Remembers that this key was dropped from `queue`.
    pub(crate) fn remember(&self, hash: Hash, queue: Queue) {
        let Some((first, count)) = self.ghosts(hash, queue) else { return };
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
        [Queue::Small, Queue::Main].into_iter().find_map(|queue| {
            let (first, count) = self.ghosts(hash, queue)?;
            (0..count).find_map(|at| {
                let place = self.region.word(first + 8 * at);
                // Relaxed, both: a hint.
                let word = place.load(Ordering::Relaxed);
                let shift_of = |lane: u32| lane * GHOST_BITS;
                let lane =
                    (0..GHOSTS_PER_WORD).find(|lane| word >> shift_of(*lane) & GHOST_MASK == fingerprint(hash))?;
                place.store(word & !(GHOST_MASK << shift_of(lane)), Ordering::Relaxed);
                Some(Ghost { queue, age: at as usize * GHOSTS_PER_WORD as usize + lane as usize })
            })
        })
    }
}

/// Some bits of a key, never 0.
fn fingerprint(hash: Hash) -> u64 {
    (hash.0 >> 14 & GHOST_MASK).max(1)
}
