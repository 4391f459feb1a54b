//! Walks over the items of a segment, and the step on the slot that names one.
//!
//! Owns: how an item is met by its place instead of its key. Used by reclaim and by
//! `validate`; takes no lock.

use std::mem::MaybeUninit;

use crate::hash::Hash;
use crate::host::Host;
use crate::index::Met;
use crate::item::Head;
use crate::map::Map;
use crate::region;
use crate::slot::{Queue, Slot, matches_of_pair, moved};
use crate::sync::Ordering;
use crate::types::{Key, Meta};

/// Longest key that is hashed without being copied to the heap.
const KEY_BYTES_SHORT: usize = 64;

/// Where a walk ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Walked {
    /// Bytes from the segment's start.
    pub at: u64,
    /// The memory from there on could not be read, although items stand in it.
    pub is_cut_off: bool,
}

impl<H: Host> Map<H> {
    /// Visits the items of a segment from byte `at` on: offset, header, bytes to the next.
    /// Ends at the write offset, at a header that no writer makes, where the memory cannot be
    /// read, or when told to.
    pub(crate) fn walk_items(&self, index: u32, mut at: u64, visit: &mut dyn FnMut(u64, Head, u64) -> bool) -> Walked {
        let row = self.row(index);
        let start = self.geometry.segment_offset(index);
        // A run holds one item, so that its walk is one step whatever its length.
        let room = if row.state().is_run { u64::from(u32::MAX) } else { self.geometry.segment_bytes() };
        // Acquire: pairs with the Release of the append. Bounded: not trusted. [loom: append]
        let written = row.written().load(Ordering::Acquire).min(room);
        while at + 8 <= written {
            if !self.is_readable(start + at, 8) {
                return Walked { at, is_cut_off: true };
            }
            // Relaxed: below the write offset, which was loaded with Acquire.
            let head = Head::from_word(self.region.word(start + at).load(Ordering::Relaxed));
            let step = head.step();
            if step < 8 || at + step > written {
                break;
            }
            if !visit(start + at, head, step) {
                return Walked { at, is_cut_off: false };
            }
            at += step;
        }
        Walked { at: written.max(at), is_cut_off: false }
    }

    /// Hash and meta of the item at `offset`; its key in `key`.
    pub(crate) fn read_identity(&self, offset: u64, key: &mut Vec<u8>) -> Option<(Hash, Meta)> {
        let candidate = self.candidate(Slot::new(0, Queue::Small, 0, offset))?;
        Some((self.hasher.key(candidate.key(key)), candidate.meta))
    }

    /// As [`Map::read_identity`], for an item whose header was read by a walk of a segment
    /// that the caller owns. The key is put into `long` only if it is long.
    #[inline]
    pub(crate) fn identity_of_step(&self, offset: u64, head: Head, long: &mut Vec<u8>) -> Option<(Hash, Meta)> {
        let shape = head.shape()?;
        if usize::from(head.key_bytes) > KEY_BYTES_SHORT {
            return self.read_identity(offset, long);
        }
        if !self.is_readable(offset, shape.bytes) {
            return None;
        }
        let words = self.region.slice(offset, shape.bytes as usize / 8);
        // Below a write offset that was loaded with Acquire.
        let meta = self.meta_of(words, head, &shape)?;
        let mut key = [MaybeUninit::uninit(); KEY_BYTES_SHORT];
        let key = &mut key[..usize::from(head.key_bytes)];
        region::copy_out(&words[shape.key_at as usize / 8..], 0, key);
        // SAFETY: R7. `copy_out` initialized all of `key`.
        let key = Key::new(meta.namespace, unsafe { key.assume_init_ref() });
        Some((self.hasher.key(key), meta))
    }

    /// The slot that names `offset` now.
    pub(crate) fn find_place(&self, hash: Hash, offset: u64) -> Option<Slot> {
        self.change_place(hash, offset, None)
    }

    /// Makes the slot that names `offset` name `to` instead (0 = nothing). Returns what
    /// it was, `None` if no slot names the place any more.
    ///
    /// Without `to` it only looks. This is the reclaimer's step (P4): bump, CAS, bump; a
    /// moved bit found by a bump sends it to the child, where a split may have copied the
    /// old word. [loom: split]
    pub(crate) fn change_place(&self, hash: Hash, offset: u64, to: Option<Slot>) -> Option<Slot> {
        let tag = hash.tag();
        let mut done = None;
        'again: loop {
            let Some(path) = self.path(hash) else { return done };
            let [first, second] = hash
                .buckets(self.geometry.bucket_shift)
                .map(|number| self.meet(path.entry.offset(), path.entry.depth(), tag, number));
            let (Some(first), Some(second)) = (first, second) else {
                if path.is_current() {
                    return done;
                }
                continue;
            };
            let mut matches = matches_of_pair(first.bucket, second.bucket, tag);
            while matches != 0 {
                let at = matches.trailing_zeros() as usize;
                matches &= matches - 1;
                let met = if at < 8 { &first } else { &second };
                let slot = &met.bucket.0[at & 7];
                // Acquire: pairs with the CAS that published it.
                let word = Slot(slot.load(Ordering::Acquire));
                if word.0 == 0 || word.offset() != offset || word.tag() != tag {
                    continue;
                }
                let Some(to) = to else { return Some(word) };
                // AcqRel: before our CAS for readers, after the split's moved bit for us.
                if moved(met.bucket.counter().fetch_add(1, Ordering::AcqRel)) {
                    continue 'again;
                }
                // CAS ok = AcqRel: publishes the copy, and orders the reuse of the old
                // place after it. err = Relaxed: look again.
                if slot.compare_exchange(word.0, to.0, Ordering::AcqRel, Ordering::Relaxed).is_err() {
                    continue 'again;
                }
                done = Some(word);
                // AcqRel: a split that copied the old word fails its CAS, or its moved
                // bit is seen here.
                if moved(met.bucket.counter().fetch_add(1, Ordering::AcqRel)) || !path.is_current() {
                    continue 'again;
                }
                return done;
            }
            // Acquire: the buckets did not change while they were searched.
            let is_unchanged = |met: &Met<'_>| met.bucket.counter().load(Ordering::Acquire) == met.counter;
            if is_unchanged(&first) && is_unchanged(&second) && path.is_current() {
                return done;
            }
        }
    }
}
