//! The look under the lock, laid out for the ordinary case.
//!
//! A second way through the steps of `index::lookup` for a writer that holds the stripe: an
//! ordinary item in a bucket that nobody splits and no reclaimer changes at this moment.
//! Every doubt is left to the general way, which begins from the start. It changes nothing.

use crate::error::Result;
use crate::hash::Hash;
use crate::host::Host;
use crate::index::{Found, Manner};
use crate::item::{EXPIRES, FORM_MASK, HEAD_BYTES, Head};
use crate::layout::COPY_BYTES_MAX;
use crate::map::Map;
use crate::region;
use crate::slot::{Slot, matches_of_pair, moved};
use crate::sync::{Ordering, fence};
use crate::types::{Key, Meta, NEVER, Namespace};

/// Key length and the flags that only the general way knows, in one comparison.
const HEAD_MASK: u64 = 0xffff | (!(EXPIRES | FORM_MASK) as u64) << 24;

/// What the ordinary way came to.
enum Ordinary<'m> {
    Found(Found<'m>),
    Absent,
    Doubt,
}

impl<H: Host> Map<H> {
    /// Finds `key`, also what expired or was cleared. The caller holds the stripe's lock.
    #[inline(always)]
    pub(crate) fn find_locked(&self, hash: Hash, key: Key<'_>) -> Result<Option<Found<'_>>> {
        match self.find_ordinary(hash, key) {
            Ordinary::Found(found) => Ok(Some(found)),
            Ordinary::Absent => Ok(None),
            Ordinary::Doubt => self.find(hash, key, Manner::Dead),
        }
    }

    #[inline(always)]
    fn find_ordinary(&self, hash: Hash, Key { namespace, bytes: key }: Key<'_>) -> Ordinary<'_> {
        if namespace != Namespace::DEFAULT {
            return Ordinary::Doubt;
        }
        let Some(path) = self.path(hash) else { return Ordinary::Doubt };
        let tag = hash.tag();
        let [first, second] =
            hash.buckets(self.geometry.bucket_shift).map(|number| self.bucket(path.entry.offset(), number));
        // Acquire, all loads unless said otherwise, as in `index`: the counters before the slots.
        let counters = [first.counter().load(Ordering::Acquire), second.counter().load(Ordering::Acquire)];
        if moved(counters[0] | counters[1]) {
            return Ordinary::Doubt;
        }
        let matches = matches_of_pair(first, second, tag);
        if matches == 0 {
            let is_unchanged = first.counter().load(Ordering::Acquire) == counters[0]
                && second.counter().load(Ordering::Acquire) == counters[1]
                && path.is_current();
            return if is_unchanged { Ordinary::Absent } else { Ordinary::Doubt };
        }
        let at = matches.trailing_zeros() as usize;
        let (bucket, counter) = if at < 8 { (first, counters[0]) } else { (second, counters[1]) };
        let slot = &bucket.0[at & 7];
        let word = Slot(slot.load(Ordering::Acquire));
        let offset = word.offset();
        if matches & (matches - 1) != 0 || word.tag() != tag || !self.is_readable(offset, HEAD_BYTES) {
            return Ordinary::Doubt;
        }
        // Relaxed, here and below: ordered by the load of the slot, checked by its re-check.
        let head = self.region.word(offset).load(Ordering::Relaxed);
        let expires = (head >> 56) as u8 & EXPIRES != 0;
        let key_at = HEAD_BYTES + 8 * u64::from(expires);
        let parsed = Head::from_word(head);
        let bytes = (key_at + key.len() as u64 + u64::from(parsed.value_bytes)).next_multiple_of(8);
        if (head >> 32) & HEAD_MASK != key.len() as u64
            || parsed.value_bytes as usize > COPY_BYTES_MAX
            || bytes > self.room_after(offset)
            || !self.is_readable(offset, bytes)
        {
            return Ordinary::Doubt;
        }
        let words = self.region.slice(offset, bytes as usize / 8);
        if !region::equals(&words[key_at as usize / 8..], key) {
            return Ordinary::Doubt;
        }
        let meta = Meta {
            value_bytes: parsed.value_bytes as usize,
            kind: parsed.kind,
            key_form: parsed.key_form(),
            version: words[1].load(Ordering::Relaxed),
            expires_at_ms: if expires { words[2].load(Ordering::Relaxed) } else { NEVER },
            client_flags: 0,
            server_flags: 0,
            namespace,
            is_outdated: false,
        };
        // Acquire: the bytes were read before the re-check, as in `index::examine`.
        fence(Ordering::Acquire);
        let is_same = Slot(slot.load(Ordering::Acquire)).item() == word.item()
            && bucket.counter().load(Ordering::Acquire) == counter
            && path.is_current();
        if !is_same {
            return Ordinary::Doubt;
        }
        let segment = ((offset - self.geometry.segments_offset) >> self.geometry.segment_shift) as u32;
        Ordinary::Found(Found { bucket, slot, word, segment, offset, bytes, meta, counter })
    }
}
