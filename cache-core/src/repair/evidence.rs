//! Evidence: what the stripes name, read without a lock.
//!
//! Owns: [`Named`]. It decides what a segment is whose state word was changed, and where
//! its items begin. Only a slot whose item has a key of exactly that place counts, so
//! that chance does not testify.

use std::collections::HashSet;

use crate::candidate::Candidate;
use crate::hash::Hash;
use crate::host::Host;
use crate::layout::block;
use crate::map::Map;
use crate::slot::{Link, Queue, Slot, moved};
use crate::sync::Ordering;

/// Versions from here on are no writer's: one a nanosecond reaches them in 292 years.
pub(super) const VERSION_END: u64 = 1 << 63;

/// What the stripes name, by segment.
pub(super) struct Named {
    /// Offset and bytes of each item, in order.
    pub items: Vec<Vec<(u64, u64)>>,
    /// A block that a directory leads to is in it.
    pub has_block: Vec<bool>,
    /// The queue that most say its items are in: small is below zero.
    pub queue: Vec<i64>,
    /// Its number of incarnations before the stripes were read.
    pub sequence: Vec<u64>,
}

impl Named {
    pub fn queue(&self, index: u32) -> Queue {
        if self.queue[index as usize] > 0 { Queue::Main } else { Queue::Small }
    }
}

impl<H: Host> Map<H> {
    /// The item that `word`, in bucket `number` of stripe `stripe_index`, names, and the
    /// hash of its key; `None` if it names none whose place that is.
    pub(super) fn item_of_place(
        &self,
        stripe_index: u32,
        number: u64,
        word: Slot,
    ) -> Option<(Candidate<'_>, Hash, Vec<u8>)> {
        let candidate = self.candidate(word)?;
        let mut key = Vec::new();
        let hash = self.hasher.key(candidate.key(&mut key));
        let is_its_place = hash.stripe(self.geometry.stripe_count) == stripe_index
            && hash.tag() == word.tag()
            && hash.buckets(self.geometry.bucket_shift).contains(&number)
            && candidate.meta.version < VERSION_END;
        is_its_place.then_some((candidate, hash, key))
    }

    /// Reads every stripe.
    pub(super) fn gather(&self) -> Named {
        let count = self.geometry.segment_count as usize;
        let mut named = Named {
            items: vec![Vec::new(); count],
            has_block: vec![false; count],
            queue: vec![0; count],
            // Acquire: before what is read of this incarnation.
            sequence: (0..count).map(|index| self.row(index as u32).sequence().load(Ordering::Acquire)).collect(),
        };
        for stripe_index in 0..self.geometry.stripe_count {
            let Some((root, entries)) = self.directory(stripe_index) else { continue };
            if let Some(segment) = (root.0 != 0).then(|| self.geometry.segment_of(entries)).flatten() {
                named.has_block[segment as usize] = true;
            }
            let mut seen = HashSet::new();
            for number in 0..1u64 << Self::directory_depth(root) {
                // Acquire: as every reader.
                let link = Link(self.region.word(entries + 8 * number).load(Ordering::Acquire));
                if link.0 != 0 {
                    self.gather_block(stripe_index, link.offset(), false, &mut seen, &mut named);
                }
            }
        }
        for items in &mut named.items {
            items.sort_unstable();
            items.dedup();
        }
        named
    }

    fn gather_block(&self, stripe_index: u32, at: u64, is_child: bool, seen: &mut HashSet<u64>, named: &mut Named) {
        if !self.is_block(at) || !seen.insert(at) {
            return;
        }
        if let Some(segment) = self.geometry.segment_of(at).filter(|segment| self.is_block_place(*segment, at)) {
            named.has_block[segment as usize] = true;
        }
        let mut has_moved = false;
        for number in 0..self.geometry.bucket_count() {
            let bucket = self.bucket(at, number);
            // Acquire: as every reader.
            if moved(bucket.counter().load(Ordering::Acquire)) {
                has_moved = true;
                continue;
            }
            for slot in bucket.slots() {
                let word = Slot(slot.load(Ordering::Acquire));
                let Some((candidate, ..)) = self.item_of_place(stripe_index, number, word) else { continue };
                let (segment, bytes) = (candidate.segment as usize, candidate.shape.bytes);
                // Acquire: the slot named it after its bytes were read.
                if Slot(slot.load(Ordering::Acquire)).item() == word.item() {
                    named.items[segment].push((candidate.offset, bytes));
                    named.queue[segment] += if word.queue() == Queue::Main { 1 } else { -1 };
                }
            }
        }
        if has_moved && !is_child {
            for which in [block::CHILD0, block::CHILD1] {
                // Acquire: as every reader. A child is a leaf: it is split only once entries name it.
                let child = self.region.word(at + which).load(Ordering::Acquire);
                self.gather_block(stripe_index, child, true, seen, named);
            }
        }
    }
}
