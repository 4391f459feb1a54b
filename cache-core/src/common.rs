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
use crate::index::Stripe;
use crate::item::{EXPIRES, FORM_MASK, HEAD_BYTES, Head, NAMESPACE};
use crate::layout::{COPY_BYTES_MAX, LINE_BYTES, block, stripe};
use crate::map::Map;
use crate::slot::{Bucket, Link, Slot, USE_MAX, matches_of_pair, moved};
use crate::sync::{AtomicU64, Ordering, fence};
use crate::types::{Destination, Key, Meta, NEVER, Namespace};

/// What the common way found.
pub(crate) enum Common {
    Hit(Meta),
    Miss,
}

/// What becomes of the value that was found.
pub(crate) enum Wanted {
    /// It is copied to this place, which has room for it.
    At(*mut u8),
    /// Nothing: the caller only asks whether it is there.
    Nothing,
    /// There is no room for it; the general way says so.
    Refused,
}

/// Key length and the flags that only the general way knows, in one comparison.
const HEAD_MASK: u64 = 0xffff | (!(EXPIRES | FORM_MASK) as u64) << 24;
/// What the flags hold, there, of an item with a namespace.
const NAMED: u64 = (NAMESPACE as u64) << 24;
/// Lines behind an item's first that most items reach into.
const ITEM_LINES_COMMON: u64 = 2;
/// Longest key that is an ordinary matter.
const KEY_BYTES_COMMON: usize = 1024;

/// Longest value that is an ordinary matter: with its key and header it reaches from the
/// chunk that it begins in at most into the next.
pub(crate) fn value_bytes_common(chunk_bytes: u64) -> usize {
    (chunk_bytes as usize).saturating_sub(KEY_BYTES_COMMON + 64).min(COPY_BYTES_MAX)
}

/// The way to a key's two buckets, as it was when it was walked.
struct Way<'a> {
    stripe: Stripe<'a>,
    root: u64,
    entry_word: &'a AtomicU64,
    entry: u64,
    block: u64,
    /// Offsets of the buckets. Not checked.
    lines: [u64; 2],
}

impl<H: Host> Map<H> {
    /// The way to the buckets of a key; `None` for a root that no writer makes.
    #[inline(always)]
    fn way(&self, hash: Hash) -> Option<Way<'_>> {
        let tag = hash.tag();
        let stripe = self.stripe(hash.stripe(self.geometry.stripe_count));
        // Acquire, both, as in `index`.
        let root = stripe.root().load(Ordering::Acquire);
        let entry_word = if root == 0 {
            &stripe.directory()[prefix(tag, stripe::DIRECTORY_DEPTH) as usize]
        } else {
            let (link, entries) = self.directory_of(Link(root))?;
            self.region.word(entries + 8 * prefix(tag, link.depth()))
        };
        let entry = entry_word.load(Ordering::Acquire);
        // A block that does not stand on a line is not one.
        let block = Link(entry).offset() & !(LINE_BYTES - 1);
        let lines = hash.bucket_offsets(self.bucket_mask).map(|offset| block + block::BUCKETS + offset);
        Some(Way { stripe, root, entry_word, entry, block, lines })
    }

    /// Sends for the buckets of a key, and returns their offsets. Only a hint.
    #[inline(always)]
    pub(crate) fn prefetch_buckets(&self, hash: Hash) -> [u64; 2] {
        let lines = self.way(hash).map_or([0; 2], |way| way.lines);
        for line in lines {
            self.region.prefetch(line);
        }
        lines
    }

    /// Sends for the items that may be a key's, by the buckets of `prefetch_buckets`. Only a
    /// hint: nothing that is read here is believed.
    #[inline(always)]
    pub(crate) fn prefetch_items(&self, hash: Hash, lines: [u64; 2]) {
        if !lines.iter().all(|line| self.is_among_blocks(*line) || self.is_marked(*line)) {
            return;
        }
        // SAFETY: R4. Both lines are in chunks that are readable.
        let buckets = lines.map(|line| unsafe { Bucket(self.region.words_unchecked(line)) });
        let mut matches = matches_of_pair(buckets[0], buckets[1], hash.tag());
        while matches != 0 {
            let number = matches.trailing_zeros() as usize;
            matches &= matches - 1;
            // Relaxed: a hint.
            let offset = Slot(buckets[number / 8].0[number % 8].load(Ordering::Relaxed)).offset();
            for line in 0..=ITEM_LINES_COMMON {
                self.region.prefetch(offset + line * LINE_BYTES);
            }
        }
    }

    /// Reads `key` if that is an ordinary matter; `None` leaves it to `lookup`.
    #[inline(always)]
    pub(crate) fn read_common(
        &self,
        hash: Hash,
        key: Key<'_>,
        copy: impl FnOnce(&Meta) -> Wanted,
        counts_as_use: bool,
    ) -> Option<Common> {
        let Key { namespace, bytes: key } = key;
        if key.is_empty() || key.len() > KEY_BYTES_COMMON {
            return None;
        }
        let is_named = namespace != Namespace::DEFAULT;
        // Acquire, all loads below unless said otherwise, as in `index`.
        let Way { stripe, root, entry_word, entry, block, lines: [first, second] } = self.way(hash)?;
        let tag = hash.tag();
        let is_readable = self.is_among_blocks(block) || (self.is_marked(first) && self.is_marked(second));
        if !is_readable {
            return None;
        }
        // SAFETY: R4. Both lines are inside chunks of the region that are readable.
        let [first, second] = [first, second].map(|line| unsafe { Bucket(self.region.words_unchecked(line)) });
        let counters = [first.counter().load(Ordering::Acquire), second.counter().load(Ordering::Acquire)];
        // The way is looked at again here, while the lines are fetched: at this moment the
        // block serves the key, and it cannot cease to without a change of its counters, which
        // only ever grow.
        let is_current = entry_word.load(Ordering::Acquire) == entry && stripe.root().load(Ordering::Acquire) == root;
        if !is_current || moved(counters[0] | counters[1]) {
            return None;
        }
        let matches = matches_of_pair(first, second, tag);
        if matches == 0 {
            let is_unchanged = first.counter().load(Ordering::Acquire) == counters[0]
                && second.counter().load(Ordering::Acquire) == counters[1];
            return is_unchanged.then_some(Common::Miss);
        }
        if matches & (matches - 1) != 0 {
            // Two candidates: rare enough for the general way.
            return None;
        }
        let number = matches.trailing_zeros() as usize;
        let is_first = number < 8;
        let bucket = std::hint::select_unpredictable(is_first, first, second);
        let counter = std::hint::select_unpredictable(is_first, counters[0], counters[1]);
        let slot = &bucket.0[number & 7];
        let word = Slot(slot.load(Ordering::Acquire));
        let offset = word.offset();
        // Whether it still carries the tag does not matter: the key decides.
        let is_among_items = self.is_among_items(offset);
        if !is_among_items && !self.is_marked(offset) {
            return None;
        }
        // Where the value begins is known only when the header is here: the lines that follow
        // it are sent for now.
        for lines in 1..=ITEM_LINES_COMMON {
            self.region.prefetch(offset + lines * LINE_BYTES);
        }
        // SAFETY: R4. The word's chunk is readable, and chunks are whole words.
        // Relaxed: ordered by the load of the slot, checked by its re-check.
        let [head] = unsafe { self.region.words_unchecked(offset) };
        let head = head.load(Ordering::Relaxed);
        let value_bytes = head as u32 as usize;
        let expires = (head >> 56) as u8 & EXPIRES != 0;
        let key_at = offset + HEAD_BYTES + 8 * (u64::from(expires) + u64::from(is_named));
        let value_at = key_at + key.len() as u64;
        if (head >> 32) & HEAD_MASK != key.len() as u64 | (u64::from(is_named) * NAMED)
            || value_bytes > self.value_bytes_common
            || (!is_among_items && !self.is_known_to(offset, value_at + value_bytes as u64 + 7))
        {
            return None;
        }
        // SAFETY: R4. The item ends in this chunk or in the next, and both are readable: by
        // the bounds of its key and value where that is known of both, else by the check.
        if !unsafe { self.region.equals_unchecked(key_at, key) } {
            return None;
        }
        let expires_at_ms = if expires {
            // SAFETY: R4, as above. Relaxed: as for the header.
            let [word] = unsafe { self.region.words_unchecked(offset + HEAD_BYTES) };
            word.load(Ordering::Relaxed)
        } else {
            NEVER
        };
        if is_named {
            // SAFETY: R4, as above. Relaxed: as for the header.
            let [mark] = unsafe { self.region.words_unchecked(key_at - 8) };
            if mark.load(Ordering::Relaxed) != self.namespace_mark(namespace).0 {
                return None;
            }
        }
        // SAFETY: R4, as above. Relaxed: as for the header.
        let [version] = unsafe { self.region.words_unchecked(offset + 8) };
        let parsed = Head::from_word(head);
        let meta = Meta {
            value_bytes,
            kind: parsed.kind,
            key_form: parsed.key_form(),
            version: version.load(Ordering::Relaxed),
            expires_at_ms,
            client_flags: 0,
            server_flags: 0,
            namespace,
            is_outdated: false,
        };
        if self.is_dead(&meta, stripe) {
            return None;
        }
        match copy(&meta) {
            // SAFETY: R4 for the source, as above; `copy` gave room for `value_bytes` bytes.
            Wanted::At(out) => unsafe { self.region.copy_out_unchecked(value_at, out, value_bytes) },
            Wanted::Nothing => {}
            Wanted::Refused => return None,
        }
        // Acquire: the bytes were read before the re-check, as in `examine`.
        fence(Ordering::Acquire);
        let now = Slot(slot.load(Ordering::Acquire));
        let is_same = now == word || now.item() == word.item();
        if !is_same || bucket.counter().load(Ordering::Acquire) != counter {
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
pub(crate) fn buffer_of<D: Destination + ?Sized>(destination: &mut D, meta: &Meta) -> Wanted {
    match destination.buffer(meta) {
        Ok(buffer) if buffer.len() >= meta.value_bytes => Wanted::At(buffer.as_mut_ptr().cast()),
        _ => Wanted::Refused,
    }
}
