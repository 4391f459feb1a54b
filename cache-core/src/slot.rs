//! Slots and buckets: the words by which items are found.
//!
//! ```text
//! slot:   63              43     42      41..40   39                         0
//!         +----------------+------+--------------+----------------------------+
//!         | tag            | main | use count    | location, 8-byte units     |
//!         +----------------+------+--------------+----------------------------+
//! link (root, directory entry):
//!         63              48 47          40 39                               0
//!         +-----------------+--------------+----------------------------------+
//!         | generation      | depth        | location, 8-byte units           |
//!         +-----------------+--------------+----------------------------------+
//! bucket: counter (top bit: moved to the block's children), then seven slots: one line
//! ```
//!
//! An empty slot is 0: location 0 is the header page, never an item. A link of 0 is none.
//! A use count only says how often; a slot is compared with its use count masked.

use crate::hash::TAG_BITS;
use crate::layout::block;
use crate::sync::{AtomicU64, Ordering};

const LOCATION_MASK: u64 = (1 << 40) - 1;
const USE_SHIFT: u32 = 40;
const USE_MASK: u64 = 3 << USE_SHIFT;
const MAIN: u64 = 1 << 42;
const TAG_SHIFT: u32 = 64 - TAG_BITS;
/// A use count that is not raised further.
pub(crate) const USE_MAX: u64 = 3;

/// The two queues of S3-FIFO.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Queue {
    Small,
    Main,
}

/// What a slot says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slot(pub u64);

impl Slot {
    pub fn new(tag: u64, queue: Queue, uses: u64, offset: u64) -> Slot {
        let main = if queue == Queue::Main { MAIN } else { 0 };
        Slot(tag << TAG_SHIFT | main | uses << USE_SHIFT | (offset / 8))
    }

    #[inline(always)]
    pub fn tag(self) -> u64 {
        self.0 >> TAG_SHIFT
    }

    pub fn queue(self) -> Queue {
        if self.0 & MAIN != 0 { Queue::Main } else { Queue::Small }
    }

    #[inline(always)]
    pub fn uses(self) -> u64 {
        (self.0 & USE_MASK) >> USE_SHIFT
    }

    /// Offset of the item from the region's start. Not checked.
    #[inline(always)]
    pub fn offset(self) -> u64 {
        (self.0 & LOCATION_MASK) * 8
    }

    /// The slot without its use count: what stays the same while it names one item.
    #[inline(always)]
    pub fn item(self) -> u64 {
        self.0 & !USE_MASK
    }

    #[inline(always)]
    pub fn used_once_more(self) -> Slot {
        Slot(self.0 + (1 << USE_SHIFT))
    }

    pub fn with_uses(self, uses: u64) -> Slot {
        Slot(self.0 & !USE_MASK | uses << USE_SHIFT)
    }
}

/// A link to a directory or a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Link(pub u64);

impl Link {
    pub fn new(generation: u64, depth: u32, offset: u64) -> Link {
        Link(generation << 48 | u64::from(depth) << 40 | (offset / 8))
    }

    #[inline(always)]
    pub fn depth(self) -> u32 {
        (self.0 >> 40) as u32 & 0xff
    }

    #[inline(always)]
    pub fn offset(self) -> u64 {
        (self.0 & LOCATION_MASK) * 8
    }

    /// The link that replaces this one.
    pub fn next(self, depth: u32, offset: u64) -> Link {
        Link::new((self.0 >> 48).wrapping_add(1) & 0xffff, depth, offset)
    }
}

/// One line of the index.
#[derive(Clone, Copy)]
pub(crate) struct Bucket<'a>(pub &'a [AtomicU64; 8]);

impl<'a> Bucket<'a> {
    #[inline(always)]
    pub fn counter(self) -> &'a AtomicU64 {
        &self.0[0]
    }

    #[inline(always)]
    pub fn slots(self) -> &'a [AtomicU64] {
        &self.0[1..]
    }

    /// Replaces what `from` names by `to`, keeping to the rule of every change of a slot:
    /// load the word, bump the counter, CAS. False if the slot names something else.
    ///
    /// Only the use count may differ from `from`; `to` is built from what is found.
    pub fn replace(self, slot: &AtomicU64, from: Slot, to: impl Fn(Slot) -> Slot) -> bool {
        loop {
            // Acquire: pairs with the publishing CAS below; the word names a finished item.
            let found = Slot(slot.load(Ordering::Acquire));
            if found.item() != from.item() {
                return false;
            }
            // Release: the bump comes before the CAS for everybody who reads slot, then
            // counter. [loom: publish]
            self.counter().fetch_add(1, Ordering::Release);
            // CAS ok = AcqRel: publishes the item's bytes (pairs with the Acquire loads of
            // slots), and orders our later reuse of the old space after it.
            // CAS err = Relaxed: we look again. [loom: publish]
            if slot.compare_exchange(found.0, to(found).0, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                return true;
            }
        }
    }
}

/// A bit for each slot of `first` that carries `tag`, by its position in the line (the first
/// slot is bit 1), and eight bits above it for each of `second`. Empty slots carry tag 0.
/// Without a branch; a filter: whoever acts on it loads the slot again.
#[inline(always)]
pub(crate) fn matches_of_pair(first: Bucket<'_>, second: Bucket<'_>, tag: u64) -> u32 {
    #[cfg(all(target_arch = "x86_64", not(loom), not(miri)))]
    return matches_at_once(first, second, tag);
    #[cfg(not(all(target_arch = "x86_64", not(loom), not(miri))))]
    matches_one_by_one(first, second, tag)
}

/// The counters of two buckets are not slots.
const NOT_COUNTERS: u32 = 0xfefe;

#[cfg(any(test, not(all(target_arch = "x86_64", not(loom), not(miri)))))]
fn matches_one_by_one(first: Bucket<'_>, second: Bucket<'_>, tag: u64) -> u32 {
    let mut found = 0;
    for (at, slot) in first.0.iter().chain(second.0).enumerate() {
        // Acquire: pairs with the CAS that published the item.
        found |= u32::from(Slot(slot.load(Ordering::Acquire)).tag() == tag) << at;
    }
    found & NOT_COUNTERS
}

#[cfg(all(target_arch = "x86_64", not(loom), not(miri)))]
#[inline(always)]
fn matches_at_once(first: Bucket<'_>, second: Bucket<'_>, tag: u64) -> u32 {
    use std::arch::x86_64::{
        __m128i, _mm_castps_si128, _mm_castsi128_ps, _mm_cmpeq_epi32, _mm_movemask_epi8, _mm_packs_epi16,
        _mm_packs_epi32, _mm_set1_epi32, _mm_shuffle_ps, _mm_srli_epi32,
    };

    use crate::sync::fence;
    // SAFETY: R1, a bucket is one line. SSE2 is part of every x86-64. The loads of the
    // lines are acquire loads, as all loads of this processor are; the fence keeps the
    // compiler from moving later ones before them.
    unsafe {
        let lines = [first, second].map(|bucket| crate::region::racy::line(bucket.0.as_ptr().cast()));
        fence(Ordering::Acquire);
        let tags = _mm_set1_epi32(tag as i32);
        // The upper half of each of four words, shifted down to its tag, against the tag.
        let four = |two: __m128i, other: __m128i| {
            let halves = _mm_shuffle_ps::<0b11_01_11_01>(_mm_castsi128_ps(two), _mm_castsi128_ps(other));
            _mm_cmpeq_epi32(_mm_srli_epi32::<{ TAG_SHIFT as i32 - 32 }>(_mm_castps_si128(halves)), tags)
        };
        let [low, high] = lines.map(|[a, b, c, d]| _mm_packs_epi32(four(a, b), four(c, d)));
        _mm_movemask_epi8(_mm_packs_epi16(low, high)) as u32 & NOT_COUNTERS
    }
}

/// True if a bucket's counter says that the bucket moved to the block's children.
#[inline(always)]
pub(crate) fn moved(counter: u64) -> bool {
    counter & block::MOVED != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(not(loom))]
    #[test]
    fn both_ways_to_search_a_bucket_find_the_same_slots() {
        let memory = crate::testing::Memory::new(4096);
        let region = memory.region();
        let (bucket, other) = (Bucket(region.words(64)), Bucket(region.words(512)));
        let mut state = 1u64;
        for round in 0..20_000u64 {
            let tag = round % 5 * 0x6_5432;
            for word in bucket.0.iter().chain(other.0) {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let slot = if state >> 62 == 0 { tag << TAG_SHIFT | state >> 24 } else { state };
                word.store(slot, Ordering::Relaxed);
            }
            assert_eq!(matches_of_pair(bucket, other, tag), matches_one_by_one(bucket, other, tag));
        }
    }

    #[test]
    fn the_fields_of_slots_and_links_do_not_overlap() {
        let tag = (1 << TAG_BITS) - 1;
        let offset = LOCATION_MASK * 8;
        let slot = Slot::new(tag, Queue::Main, 0, offset);
        assert_eq!((slot.tag(), slot.queue(), slot.uses(), slot.offset()), (tag, Queue::Main, 0, offset));
        let used = slot.used_once_more().used_once_more().used_once_more();
        assert_eq!((used.uses(), used.item()), (3, slot.item()));
        assert_eq!(used.with_uses(0), slot);
        let link = Link::new(0xffff, 16, offset);
        assert_eq!((link.depth(), link.offset()), (16, offset));
        assert_eq!(link.next(17, 8), Link::new(0, 17, 8));
    }
}
