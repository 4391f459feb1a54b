//! Scans: all keys, piece by piece, while others write.
//!
//! Owns: the cursor and its order. A cursor names a stripe, a bucket number and a prefix
//! of the tag; a split changes neither the stripe nor the bucket number of a key, and
//! only narrows the range of prefixes a block serves. So a key that is there during the
//! whole scan is visited exactly once, whatever splits; one that comes or goes, at most
//! once per life.

use crate::error::{Error, Result};
use crate::hash::{Hash, TAG_BITS};
use crate::host::Host;
use crate::map::Map;
use crate::slot::Slot;
use crate::sync::{Ordering, fence};
use crate::types::{Meta, Namespace};

/// Buckets that one call looks at.
const BUCKETS_PER_CALL: u32 = 64;
/// Reads of one bucket that were overtaken before the scan says Busy.
const TRIES_MAX: u32 = 100_000;

/// Where a scan stands. Plain data: it can be stored, and outlives the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor(u64);

impl Cursor {
    /// The beginning of a scan.
    pub const START: Cursor = Cursor(0);

    /// The cursor as a number, never 0 but at the start.
    pub fn to_u64(self) -> u64 {
        self.0
    }

    /// A cursor from its number. Any number is harmless: the scan goes on from some place.
    pub fn from_u64(number: u64) -> Cursor {
        Cursor(number)
    }

    fn new(stripe: u32, bucket: u64, tag: u64) -> Cursor {
        Cursor(u64::from(stripe) << 32 | bucket << 24 | tag)
    }

    fn stripe(self) -> u32 {
        (self.0 >> 32) as u32
    }

    fn bucket(self) -> u64 {
        self.0 >> 24 & 0xff
    }

    fn tag(self) -> u64 {
        self.0 & ((1 << TAG_BITS) - 1)
    }
}

impl<H: Host> Map<H> {
    /// Visits some keys, of all namespaces, and returns where to go on, `None` at the end. `visit` may call
    /// the map. Does not count as a use of the keys.
    ///
    /// # Errors
    /// `Busy` if writers kept changing one bucket.
    pub fn scan(&self, cursor: Cursor, visit: &mut dyn FnMut(&[u8], &Meta)) -> Result<Option<Cursor>> {
        let (mut stripe, mut bucket, mut tag) = (cursor.stripe(), cursor.bucket(), cursor.tag());
        let mut items: Vec<(Vec<u8>, Meta)> = Vec::new();
        for _ in 0..BUCKETS_PER_CALL {
            if stripe >= self.geometry.stripe_count {
                return Ok(None);
            }
            let depth = if bucket < self.geometry.bucket_count() {
                self.read_bucket(stripe, bucket, tag, &mut items)?
            } else {
                None
            };
            for (key, meta) in &items {
                visit(key, meta);
            }
            match depth {
                // The stripe has no block yet, or the bucket number was not one.
                None => (stripe, bucket, tag) = (stripe + 1, 0, 0),
                Some(depth) => {
                    let width = TAG_BITS - depth;
                    tag = ((tag >> width) + 1) << width;
                    if tag >> TAG_BITS != 0 {
                        (bucket, tag) = (bucket + 1, 0);
                    }
                    if bucket >= self.geometry.bucket_count() {
                        (stripe, bucket) = (stripe + 1, 0);
                    }
                }
            }
        }
        Ok((stripe < self.geometry.stripe_count).then(|| Cursor::new(stripe, bucket, tag)))
    }

    /// A place within a scan, for samples: numbers that are spread evenly give places that are.
    pub fn place(&self, number: u64) -> Cursor {
        let stripe = (number >> 32) % u64::from(self.geometry.stripe_count);
        Cursor::new(stripe as u32, (number >> 24 & 0xff) % self.geometry.bucket_count(), number & ((1 << TAG_BITS) - 1))
    }

    /// Reads the items of one bucket as they were at one moment. Returns the depth of its
    /// block.
    fn read_bucket(
        &self,
        stripe_index: u32,
        number: u64,
        tag: u64,
        items: &mut Vec<(Vec<u8>, Meta)>,
    ) -> Result<Option<u32>> {
        let hash = Hash::of_place(stripe_index, tag);
        let stripe = self.stripe(stripe_index);
        for _ in 0..TRIES_MAX {
            items.clear();
            let Some(path) = self.path(hash) else { return Ok(None) };
            let Some(met) = self.meet(path.entry.offset(), path.entry.depth(), tag, number) else { return Ok(None) };
            let mut is_true = true;
            for slot in met.bucket.slots() {
                // Acquire: pairs with the CAS that published the item.
                let word = Slot(slot.load(Ordering::Acquire));
                if word.0 == 0 {
                    continue;
                }
                if let Some(candidate) = self.candidate(word) {
                    let mut key = Vec::new();
                    candidate.key(&mut key);
                    let meta = candidate.meta;
                    let is_dead = self.is_dead(&meta, stripe);
                    // Acquire: the bytes were read before the re-check of the slot.
                    fence(Ordering::Acquire);
                    is_true &= Slot(slot.load(Ordering::Acquire)).item() == word.item();
                    if !is_dead && is_true {
                        items.push((key, meta));
                    }
                }
            }
            // Acquire: the bucket as a whole did not change, and still serves.
            if is_true && met.bucket.counter().load(Ordering::Acquire) == met.counter && path.is_current() {
                return Ok(Some(met.depth));
            }
        }
        Err(Error::Busy { waited_ms: 0 })
    }

    /// Counts the keys of all namespaces by visiting them: exact when nobody writes. Costs a
    /// walk over the index; `Stats::items` is the cheap estimate.
    pub fn len(&self) -> u64 {
        self.count_keys(|_| true)
    }

    /// Counts the keys of one namespace, by a walk over those of all.
    pub fn len_of(&self, namespace: Namespace) -> u64 {
        self.count_keys(|meta| meta.namespace == namespace)
    }

    fn count_keys(&self, counts: impl Fn(&Meta) -> bool) -> u64 {
        let mut count = 0;
        let mut cursor = Cursor::START;
        while let Ok(Some(next)) = self.scan(cursor, &mut |_, meta| count += u64::from(counts(meta))) {
            cursor = next;
        }
        count
    }

    /// True if no key is there, of any namespace.
    pub fn is_empty(&self) -> bool {
        !self.has_key(|_| true)
    }

    /// True if this namespace has no key.
    pub fn is_empty_of(&self, namespace: Namespace) -> bool {
        !self.has_key(|meta| meta.namespace == namespace)
    }

    fn has_key(&self, counts: impl Fn(&Meta) -> bool) -> bool {
        let mut cursor = Cursor::START;
        let mut found = false;
        while !found && let Ok(Some(next)) = self.scan(cursor, &mut |_, meta| found |= counts(meta)) {
            cursor = next;
        }
        found
    }
}
