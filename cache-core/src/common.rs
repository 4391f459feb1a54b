//! The common read, laid out for the processor.
//!
//! A second way through the same protocol as `index` (its front page says why a read is
//! true), for the case that nearly every read is: an ordinary item, small enough to be
//! copied, nobody splitting or writing its bucket. Everything else, and every doubt, is
//! answered with `None`, and the general way begins from the start. It exists because
//! the general way costs several times the instructions, and a processor overlaps
//! independent reads only as far as its window of instructions reaches.
//!
//! No branch depends on where in its buckets the key is: the processor cannot guess it,
//! and would wait for memory to find out.

use crate::hash::{Hash, prefix};
use crate::host::Host;
use crate::item::{EXPIRES, FORM_MASK, HEAD_BYTES, Head};
use crate::layout::{COPY_BYTES_MAX, LINE_BYTES, block, stripe};
use crate::map::Map;
use crate::region;
use crate::slot::{Bucket, Link, Slot, USE_MAX, moved};
use crate::sync::{Ordering, fence};
use crate::types::{Destination, Meta, NEVER};

/// What the common way found.
pub(crate) enum Common {
    Hit(Meta),
    Miss,
}

/// Key length and the flags that only the general way knows, in one comparison.
const HEAD_MASK: u64 = 0xffff | (!(EXPIRES | FORM_MASK) as u64) << 24;

impl<H: Host> Map<H> {
    /// Reads `key` if that is an ordinary matter; `None` leaves it to `lookup`.
    #[inline(always)]
    pub(crate) fn read_common(
        &self,
        hash: Hash,
        key: &[u8],
        copy: impl FnOnce(&Meta) -> Option<*mut u8>,
        counts_as_use: bool,
    ) -> Option<Common> {
        let tag = hash.tag();
        let stripe = self.stripe(hash.stripe(self.geometry.stripe_count));
        // Acquire, all loads below unless said otherwise, as in `index`.
        let root_word = stripe.root();
        let root = root_word.load(Ordering::Acquire);
        let entry_word = if root == 0 {
            &stripe.directory()[prefix(tag, stripe::DIRECTORY_DEPTH) as usize]
        } else {
            let (link, entries) = self.directory_of(Link(root))?;
            self.region.word(entries + 8 * prefix(tag, link.depth()))
        };
        let entry = entry_word.load(Ordering::Acquire);
        // Only the two lines that are read are checked, each inside one known chunk; a block
        // that does not stand on a line is not one.
        let block = Link(entry).offset() & !(LINE_BYTES - 1);
        let [first, second] = hash
            .buckets(self.geometry.bucket_shift)
            .map(|number| block + block::BUCKETS + block::BUCKET_BYTES * number);
        if !self.is_known(first) || !self.is_known(second) {
            return None;
        }
        // SAFETY: R4. Both lines are inside chunks of the region that are readable.
        let [first, second] = [first, second].map(|line| unsafe { Bucket(self.region.words_unchecked(line)) });
        let counters = [first.counter().load(Ordering::Acquire), second.counter().load(Ordering::Acquire)];
        if moved(counters[0] | counters[1]) {
            return None;
        }
        let is_current = || entry_word.load(Ordering::Acquire) == entry && root_word.load(Ordering::Acquire) == root;
        let matches = first.matches(tag) | second.matches(tag) << 8;
        if matches == 0 {
            let is_unchanged = first.counter().load(Ordering::Acquire) == counters[0]
                && second.counter().load(Ordering::Acquire) == counters[1];
            return (is_unchanged && is_current()).then_some(Common::Miss);
        }
        if matches & (matches - 1) != 0 {
            // Two candidates: rare enough for the general way.
            return None;
        }
        let number = matches.trailing_zeros() as usize;
        let which = std::hint::select_unpredictable(number < 8, 0, 1);
        let (bucket, counter) = ([first, second][which & 1], counters[which & 1]);
        let slot = &bucket.0[number & 7];
        let word = Slot(slot.load(Ordering::Acquire));
        let offset = word.offset();
        if word.tag() != tag || !self.is_known(offset) {
            return None;
        }
        // SAFETY: R4. The word's chunk is readable, and chunks are whole words.
        // Relaxed: ordered by the load of the slot, checked by its re-check.
        let head = unsafe { self.region.words_unchecked::<1>(offset) }[0].load(Ordering::Relaxed);
        let value_bytes = head as u32 as usize;
        let expires = (head >> 56) as u8 & EXPIRES != 0;
        let key_at = HEAD_BYTES + 8 * u64::from(expires);
        let bytes = (key_at + key.len() as u64 + value_bytes as u64).next_multiple_of(8);
        if (head >> 32) & HEAD_MASK != key.len() as u64
            || value_bytes > COPY_BYTES_MAX
            || !self.is_known_to(offset, offset + bytes - 1)
        {
            return None;
        }
        // SAFETY: R4. First and last byte are in readable chunks that touch.
        let words = unsafe { self.region.slice_unchecked(offset, bytes as usize / 8) };
        let key_at = key_at as usize;
        if !region::equals(&words[key_at / 8..], key) {
            return None;
        }
        let expires_at_ms = if expires { words[2].load(Ordering::Relaxed) } else { NEVER };
        let version = words[1].load(Ordering::Relaxed);
        let parsed = Head::from_word(head);
        let meta = Meta {
            value_bytes,
            kind: parsed.kind,
            key_form: parsed.key_form(),
            version,
            expires_at_ms,
            client_flags: 0,
        };
        if self.is_dead(&meta, stripe) {
            return None;
        }
        let value_at = key_at + key.len();
        if let Some(out) = copy(&meta) {
            // SAFETY: R4 for the source; `copy` gave room for `value_bytes` bytes.
            let out = unsafe { std::slice::from_raw_parts_mut(out.cast(), value_bytes) };
            region::copy_out(&words[value_at / 8..], value_at % 8, out);
        }
        // Acquire: the bytes were read before the re-check, as in `examine`.
        fence(Ordering::Acquire);
        let is_same = Slot(slot.load(Ordering::Acquire)).item() == word.item()
            && bucket.counter().load(Ordering::Acquire) == counter;
        if !is_same || !is_current() {
            return None;
        }
        if counts_as_use && word.uses() < USE_MAX {
            self.raise_use(slot, word, crate::index::Manner::Use);
        }
        Some(Common::Hit(meta))
    }
}

/// A destination's buffer as the common way wants it.
#[inline(always)]
pub(crate) fn buffer_of<D: Destination + ?Sized>(destination: &mut D, meta: &Meta) -> Option<*mut u8> {
    let buffer = destination.buffer(meta).ok()?;
    (buffer.len() >= meta.value_bytes).then(|| buffer.as_mut_ptr().cast())
}
