//! Ghosts: which keys small dropped not long ago.
//!
//! Owns: the fingerprints at the end of each index block. Only hints: a lost race forgets
//! some keys, a fingerprint that two keys share sends one of them to main too early.

use crate::hash::Hash;
use crate::host::Host;
use crate::layout::block;
use crate::map::Map;
use crate::sync::Ordering;

/// Buckets that remember together which keys were dropped.
const GHOST_BUCKETS: u64 = 8;

impl<H: Host> Map<H> {
    /// The offset of the ghosts that a key shares with the neighbours of its first bucket,
    /// and how many words they have.
    ///
    /// Eight buckets remember together, in one cache line, the newest word first: one by
    /// one, what a bucket remembers would end after anything between half and twice the
    /// mean number of drops. Seven of the eight words are used, because a block in steady
    /// state holds three to four items a bucket, and S3-FIFO remembers as many keys as it
    /// holds: a fifth more costs a point on loops that are a little longer than the cache.
    fn ghosts(&self, hash: Hash) -> Option<(u64, u64)> {
        let path = self.path(hash)?;
        let [number, _] = hash.buckets(self.geometry.bucket_shift);
        let mut at = path.entry.offset();
        let mut depth = path.entry.depth();
        // A block that is being split keeps its ghosts until its buckets moved.
        while let Some(child) = self.child(at, depth, hash.tag()) {
            (at, depth) = (child, depth + 1);
        }
        let together = GHOST_BUCKETS.min(self.geometry.bucket_count());
        let first = at + block::BUCKETS + self.geometry.bucket_count() * block::BUCKET_BYTES;
        Some((first + 8 * (number & !(together - 1)), together * 7 / 8))
    }

    /// Remembers that this key was dropped from small.
    pub(crate) fn remember(&self, hash: Hash) {
        let Some((first, count)) = self.ghosts(hash) else { return };
        let mut moved_on = ghost(hash);
        for at in 0..count {
            let word = self.region.word(first + 8 * at);
            // Relaxed: a hint; a lost race forgets some keys.
            let old = word.load(Ordering::Relaxed);
            word.store(old << 16 | moved_on, Ordering::Relaxed);
            moved_on = old >> 48;
        }
    }

    /// True if this key was dropped from small not long ago; forgets it.
    pub(crate) fn recall(&self, hash: Hash) -> bool {
        let Some((first, count)) = self.ghosts(hash) else { return false };
        for at in 0..count {
            // Relaxed: a hint.
            let word = self.region.word(first + 8 * at).load(Ordering::Relaxed);
            for lane in 0..4 {
                if word >> (16 * lane) & 0xffff == ghost(hash) {
                    self.region.word(first + 8 * at).store(word & !(0xffff << (16 * lane)), Ordering::Relaxed);
                    return true;
                }
            }
        }
        false
    }
}

/// Sixteen bits of a key, never 0.
fn ghost(hash: Hash) -> u64 {
    (hash.0 >> 14 & 0xffff).max(1)
}
