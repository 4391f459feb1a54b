//! The key hash and how its bits are dealt out.
//!
//! ```text
//! 63       54 53                     33 32      14 13      8 7   6 5       0
//! +----------+-------------------------+----------+---------+-----+---------+
//! | stripe   | tag (directory first)   | ghost    | distance|     | first   |
//! +----------+-------------------------+----------+---------+-----+---------+
//! ```
//!
//! The tag's top bits choose the directory entry and, one by one, the child at each
//! split, so a split needs no key. rapidhash v3 (Nicolas De Carli), seeded per region:
//! stable over processes, builds and languages.

use crate::layout::LINE_BYTES;
use crate::types::Key;
use rapidhash::v3::{RapidSecrets, rapidhash_v3_seeded};

/// Bits of the tag in a slot.
pub(crate) const TAG_BITS: u32 = 21;

const LINE_SHIFT: u32 = LINE_BYTES.ilog2();

/// What tells the seed of the second hash function from that of the first.
const SECOND: u64 = 0x9e37_79b9_7f4a_7c15;

/// The hash function of one region.
#[derive(Clone)]
pub(crate) struct Hasher(RapidSecrets);

impl Hasher {
    pub fn new(seed: u64) -> Hasher {
        Hasher(RapidSecrets::seed(seed))
    }

    /// Another hash function of the same region.
    pub fn second(seed: u64) -> Hasher {
        Hasher::new(seed ^ SECOND)
    }

    #[inline(always)]
    pub fn hash(&self, bytes: &[u8]) -> Hash {
        Hash(rapidhash_v3_seeded(bytes, &self.0))
    }

    /// The hash of a key; in the default namespace that of its bytes.
    #[inline(always)]
    pub fn key(&self, key: Key<'_>) -> Hash {
        Hash(self.hash(key.bytes).0 ^ u64::from(key.namespace.number()).wrapping_mul(SECOND))
    }
}

/// The 64-bit hash of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hash(pub u64);

impl Hash {
    /// A hash that leads to a place of the index, whatever the key.
    pub fn of_place(stripe: u32, tag: u64) -> Hash {
        Hash(u64::from(stripe) << 54 | tag << 33)
    }

    #[inline(always)]
    pub fn stripe(self, stripe_count: u32) -> u32 {
        (self.0 >> 54) as u32 & (stripe_count - 1)
    }

    #[inline(always)]
    pub fn tag(self) -> u64 {
        (self.0 >> 33) & ((1 << TAG_BITS) - 1)
    }

    /// The two candidate buckets: one, and one at an odd distance from it.
    #[inline(always)]
    pub fn buckets(self, bucket_shift: u32) -> [u64; 2] {
        let mask = (1 << bucket_shift) - 1;
        let first = self.0 & mask;
        [first, first ^ ((self.0 >> 8) & mask | 1)]
    }

    /// The same two as bytes from a block's first bucket; `mask` is that of the last bucket's.
    #[inline(always)]
    pub fn bucket_offsets(self, mask: u64) -> [u64; 2] {
        let first = (self.0 << LINE_SHIFT) & mask;
        [first, first ^ ((self.0 >> (8 - LINE_SHIFT)) & mask | LINE_BYTES)]
    }
}

/// The first `depth` bits of a tag.
#[inline(always)]
pub(crate) fn prefix(tag: u64, depth: u32) -> u64 {
    tag >> (TAG_BITS - depth)
}

/// The bit of a tag that a split of a block of this depth goes by.
#[inline(always)]
pub(crate) fn split_bit(tag: u64, depth: u32) -> u64 {
    (tag >> (TAG_BITS - 1 - depth)) & 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_and_their_offsets_are_the_same_two_places() {
        let mut word = 1u64;
        for shift in (1..=6).cycle().take(10_000) {
            word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let offsets = Hash(word).bucket_offsets(((1 << shift) - 1) * LINE_BYTES);
            assert_eq!(Hash(word).buckets(shift).map(|number| number * LINE_BYTES), offsets);
        }
    }
}
