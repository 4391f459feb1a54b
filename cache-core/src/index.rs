//! The index: from a key to its slot, without a lock.
//!
//! Owns: the way stripe -> directory -> block -> bucket -> slot -> item, the re-checks
//! that make what is read along it believable, and the rule when an item is dead.
//! Called by every operation; it changes nothing but use counts.
//!
//! What makes a read true (P2 in `docs/design.md`):
//! - *hit, form one*: slot and then bucket counter are as they were before the bytes
//!   were read: the slot held that item at the moment of its last load.
//! - *hit, form two* (a neighbour in the bucket was written): slot, the segment's
//!   sequence, the slot again, the bytes, the sequence again.
//! - both count only while the directory still leads to the block: a block that was
//!   split and serves another prefix may hold copies that nobody keeps up to date.
//! - *miss*: both buckets unchanged since they were read, and the directory as well.

use crate::candidate::Candidate;
use crate::error::{Error, Result};
use crate::hash::{Hash, prefix, split_bit};
use crate::host::Host;
use crate::item::{HEAD_BYTES, Head, NAMESPACE, Shape, TAGS};
use crate::layout::{COPY_BYTES_MAX, DEPTH_MAX, block, control, stripe};
use crate::map::Map;
use crate::slot::{Bucket, Link, Slot, USE_MAX, matches_of_pair, moved};
use crate::stats::Counter;
use crate::sync::{AtomicU64, Ordering, fence};
use crate::types::{Key, Meta, NEVER, Namespace};

/// Reads begin again only when a writer finished in between; a reader that is overtaken
/// this often is told Busy rather than kept.
const READ_TRIES_MAX: u32 = 1 << 20;

/// The words of one stripe.
#[derive(Clone, Copy)]
pub(crate) struct Stripe<'a>(&'a [AtomicU64; stripe::BYTES as usize / 8]);

impl<'a> Stripe<'a> {
    #[inline(always)]
    fn at(self, offset: u64) -> &'a AtomicU64 {
        &self.0[offset as usize / 8]
    }
    pub fn version(self) -> &'a AtomicU64 {
        self.at(stripe::VERSION)
    }
    pub fn items(self) -> &'a AtomicU64 {
        self.at(stripe::ITEMS)
    }
    pub fn resets(self) -> &'a AtomicU64 {
        self.at(stripe::RESETS)
    }
    pub fn uncounted(self) -> &'a AtomicU64 {
        self.at(stripe::UNCOUNTED)
    }
    /// True if the items of this stripe are counted with the one that has this version.
    pub fn counts(self, version: u64) -> bool {
        // Relaxed: a hint.
        version > self.uncounted().load(Ordering::Relaxed)
    }
    /// An item of this version is in the index no longer.
    pub fn count_gone(self, version: u64) {
        if self.counts(version) {
            // Relaxed: a hint.
            self.items().fetch_sub(1, Ordering::Relaxed);
        }
    }
    /// A new item is in the index, in the place of one of version `replaced`, if of any.
    pub fn count_new(self, replaced: Option<u64>) {
        if replaced.is_none_or(|version| !self.counts(version)) {
            // Relaxed: a hint.
            self.items().fetch_add(1, Ordering::Relaxed);
        }
    }
    /// All that there is goes off the count. The caller holds the lock.
    pub fn count_none(self) {
        // Relaxed, all: hints; the version changes only under the lock.
        self.uncounted().store(self.version().load(Ordering::Relaxed), Ordering::Relaxed);
        self.items().store(0, Ordering::Relaxed);
    }
    #[inline(always)]
    pub fn root(self) -> &'a AtomicU64 {
        self.at(stripe::ROOT)
    }
    /// The entries of the stripe's first directory.
    #[inline(always)]
    pub fn directory(self) -> &'a [AtomicU64; 1 << stripe::DIRECTORY_DEPTH] {
        self.0[stripe::DIRECTORY as usize / 8..].try_into().expect("the directory ends the stripe")
    }
    /// The generation that counts for a namespace, as far as this stripe has caught up, and the
    /// version up to which items died with it.
    #[inline(always)]
    pub fn caught_up(self, namespace: Namespace) -> (&'a AtomicU64, &'a AtomicU64) {
        if namespace == Namespace::DEFAULT {
            (self.seen_default(), self.cleared_default())
        } else {
            (self.seen_region(), self.cleared_region())
        }
    }
    #[inline(always)]
    pub fn seen_region(self) -> &'a AtomicU64 {
        self.at(stripe::SEEN_REGION)
    }
    #[inline(always)]
    pub fn cleared_region(self) -> &'a AtomicU64 {
        self.at(stripe::CLEARED_REGION)
    }
    #[inline(always)]
    pub fn seen_default(self) -> &'a AtomicU64 {
        self.at(stripe::SEEN_DEFAULT)
    }
    #[inline(always)]
    pub fn cleared_default(self) -> &'a AtomicU64 {
        self.at(stripe::CLEARED_DEFAULT)
    }
}

/// The way from a stripe to the block of a hash, as it was when it was walked.
pub(crate) struct Path<'a> {
    root_word: &'a AtomicU64,
    root: Link,
    entry_word: &'a AtomicU64,
    pub entry: Link,
}

impl Path<'_> {
    /// True if the directory still leads here. A link never returns to an old value
    /// while its block serves it: depths only grow, and generations tell the rest.
    #[inline(always)]
    pub fn is_current(&self) -> bool {
        // Acquire: ordered after the loads whose result they confirm, which are Acquire
        // or stand before an acquire fence.
        self.entry_word.load(Ordering::Acquire) == self.entry.0 && self.root_word.load(Ordering::Acquire) == self.root.0
    }
}

/// A bucket as a reader met it.
pub(crate) struct Met<'a> {
    pub bucket: Bucket<'a>,
    pub counter: u64,
    /// Depth of the block that the bucket is in.
    pub depth: u32,
}

/// A slot that held the key when it was looked at.
pub(crate) struct Found<'a> {
    pub bucket: Bucket<'a>,
    pub slot: &'a AtomicU64,
    pub word: Slot,
    pub segment: u32,
    pub offset: u64,
    /// Bytes of the whole item.
    pub bytes: u64,
    pub meta: Meta,
    /// The bucket's counter before the slot was looked at.
    pub counter: u64,
}

/// How a lookup treats what it finds.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    /// A use: raises the use count, pins large values while they are copied.
    Use,
    /// A look: leaves no trace.
    Look,
    /// A look that also finds what expired or was cleared.
    Dead,
}

impl<H: Host> Map<H> {
    #[inline(always)]
    pub(crate) fn stripe(&self, index: u32) -> Stripe<'_> {
        debug_assert!(index < self.geometry.stripe_count);
        // SAFETY: R4. The geometry was checked against the region's length, and every
        // caller's index is below the number of stripes.
        Stripe(unsafe { self.region.words_unchecked(self.geometry.stripe_offset(index)) })
    }

    /// How often this namespace was cleared with the region, or the default one by itself.
    #[inline(always)]
    pub(crate) fn generation(&self, namespace: Namespace) -> u64 {
        const { assert!(control::DEFAULT_GENERATION == control::REGION_GENERATION + 8) };
        // SAFETY: R4. The control area is inside every region of a checked geometry.
        let [region, default] =
            unsafe { self.region.words_unchecked::<2>(self.geometry.control_offset + control::REGION_GENERATION) };
        // Acquire, both: after the stripe's words, see `is_dead`.
        let generation = region.load(Ordering::Acquire);
        if namespace != Namespace::DEFAULT {
            return generation;
        }
        generation.wrapping_add(default.load(Ordering::Acquire))
    }

    /// The directory of a stripe: its link and the offset of its entries. `None` for a
    /// root that no writer makes.
    #[inline(always)]
    pub(crate) fn directory(&self, stripe_index: u32) -> Option<(Link, u64)> {
        // Acquire: pairs with the Release that published the directory.
        let root = Link(self.stripe(stripe_index).root().load(Ordering::Acquire));
        if root.0 == 0 {
            return Some((root, self.geometry.stripe_offset(stripe_index) + stripe::DIRECTORY));
        }
        self.directory_of(root)
    }

    /// The directory that a root which is not 0 names.
    #[inline(always)]
    pub(crate) fn directory_of(&self, root: Link) -> Option<(Link, u64)> {
        let depth = root.depth();
        (depth > stripe::DIRECTORY_DEPTH && depth <= DEPTH_MAX && self.is_readable(root.offset(), 8 << depth))
            .then_some((root, root.offset()))
    }

    /// Depth of the directory that a root names.
    #[inline(always)]
    pub(crate) fn directory_depth(root: Link) -> u32 {
        if root.0 == 0 { stripe::DIRECTORY_DEPTH } else { root.depth() }
    }

    /// The way to the block of `hash`; `None` where there is no block yet.
    #[inline(always)]
    pub(crate) fn path(&self, hash: Hash) -> Option<Path<'_>> {
        let stripe_index = hash.stripe(self.geometry.stripe_count);
        let (root, entries) = self.directory(stripe_index)?;
        let entry_word = self.region.word(entries + 8 * prefix(hash.tag(), Self::directory_depth(root)));
        // Acquire: pairs with the Release that published the block.
        let entry = Link(entry_word.load(Ordering::Acquire));
        if entry.0 == 0 || entry.depth() > Self::directory_depth(root) || !self.is_block(entry.offset()) {
            return None;
        }
        Some(Path { root_word: self.stripe(stripe_index).root(), root, entry_word, entry })
    }

    /// True if a block could stand at `offset`: inside one segment, with memory behind it.
    #[inline(always)]
    pub(crate) fn is_block(&self, offset: u64) -> bool {
        offset.is_multiple_of(64)
            && self.block_bytes <= self.room_after(offset)
            && self.is_readable(offset, self.block_bytes)
    }

    /// Bytes from `offset` to its segment's end, if it is in a segment.
    #[inline(always)]
    pub(crate) fn room_after(&self, offset: u64) -> u64 {
        let mask = self.segment_mask;
        mask + 1 - (offset.wrapping_sub(self.geometry.segments_offset) & mask)
    }

    /// Bucket `number` of the block that serves `tag` now: of `block`, or where it moved.
    #[inline(always)]
    pub(crate) fn meet(&self, block: u64, depth: u32, tag: u64, number: u64) -> Option<Met<'_>> {
        let bucket = self.bucket(block, number);
        // Acquire: before the slots are read; pairs with the Release of every bump
        // and with the CAS that sets the moved bit. [loom: split]
        let counter = bucket.counter().load(Ordering::Acquire);
        if moved(counter) {
            return self.meet_moved(block, depth, tag, number);
        }
        Some(Met { bucket, counter, depth })
    }

    /// Follows moved bits to the child that serves `tag`. Bounded by the depth.
    #[cold]
    #[inline(never)]
    fn meet_moved(&self, mut block: u64, mut depth: u32, tag: u64, number: u64) -> Option<Met<'_>> {
        loop {
            block = self.child(block, depth, tag)?;
            depth += 1;
            let bucket = self.bucket(block, number);
            // Acquire: as in `meet`.
            let counter = bucket.counter().load(Ordering::Acquire);
            if !moved(counter) {
                return Some(Met { bucket, counter, depth });
            }
        }
    }

    #[inline(always)]
    pub(crate) fn bucket(&self, block: u64, number: u64) -> Bucket<'_> {
        Bucket(self.region.words(block + block::BUCKETS + block::BUCKET_BYTES * number))
    }

    /// The child of a split block that serves `tag`.
    #[inline(always)]
    pub(crate) fn child(&self, parent: u64, depth: u32, tag: u64) -> Option<u64> {
        if depth >= DEPTH_MAX {
            return None;
        }
        let which = if split_bit(tag, depth) == 0 { block::CHILD0 } else { block::CHILD1 };
        // Acquire: pairs with the Release that named the children.
        let child = self.region.word(parent + which).load(Ordering::Acquire);
        self.is_block(child).then_some(child)
    }

    /// The bytes that `slot` names, if they could be an item.
    #[inline(always)]
    pub(crate) fn candidate(&self, slot: Slot) -> Option<Candidate<'_>> {
        let offset = slot.offset();
        if !self.is_readable(offset, HEAD_BYTES) {
            return None;
        }
        let room = self.room_after(offset);
        let segment = ((offset - self.geometry.segments_offset) >> self.geometry.segment_shift) as u32;
        // Relaxed: ordered by the caller's Acquire load of the slot, checked by its re-check.
        let head = Head::from_word(self.region.word(offset).load(Ordering::Relaxed));
        let shape = head.shape()?;
        if shape.bytes > room && (room < HEAD_BYTES || !self.is_run(segment, offset, shape.bytes)) {
            return None;
        }
        if !self.is_readable(offset, shape.bytes) {
            return None;
        }
        let words = self.region.slice(offset, shape.bytes as usize / 8);
        let meta = self.meta_of(words, head, &shape)?;
        Some(Candidate { words, offset, segment, head, shape, meta })
    }

    /// What is known of an item by its words; `None` if no writer makes such an item.
    #[inline(always)]
    pub(crate) fn meta_of(&self, words: &[AtomicU64], head: Head, shape: &Shape) -> Option<Meta> {
        // Relaxed: as for the header.
        let word_at = |at: u64| words[at as usize / 8].load(Ordering::Relaxed);
        let client = shape.client_at.map_or(0, word_at);
        let mut meta = Meta {
            value_bytes: head.value_bytes as usize,
            kind: head.kind,
            key_form: head.key_form(),
            version: word_at(8),
            expires_at_ms: shape.expires_at.map_or(NEVER, word_at),
            client_flags: client as u32,
            server_flags: (client >> 32) as u32,
            namespace: Namespace::DEFAULT,
            is_outdated: false,
        };
        let is_marked = head.flags & (NAMESPACE | TAGS) != 0;
        (!is_marked || self.read_marks(words, head, shape, &mut meta)).then_some(meta)
    }

    /// True if an item of `bytes` bytes at `offset` is the content of a run.
    #[cold]
    fn is_run(&self, segment: u32, offset: u64, bytes: u64) -> bool {
        let row = self.row(segment);
        let length = row.run_length();
        offset == self.geometry.segment_offset(segment)
            && row.state().is_run
            && u64::from(segment) + length <= u64::from(self.geometry.segment_count)
            && bytes <= length << self.geometry.segment_shift
    }

    /// True if the item expired, or was cleared or evicted by a tag. Loads clock and generations
    /// now: between the load of the slot and its re-check, which is where the read takes effect.
    #[inline(always)]
    pub(crate) fn is_dead(&self, meta: &Meta, stripe: Stripe<'_>) -> bool {
        if self.is_dead_alone(meta) {
            return true;
        }
        // Acquire, in this order: a stripe that caught up with a clear stores the cleared
        // version before the seen generation, and the generation moves before both.
        let (seen, cleared) = stripe.caught_up(meta.namespace);
        let seen = seen.load(Ordering::Acquire);
        let cleared = cleared.load(Ordering::Acquire);
        seen != self.generation(meta.namespace) || meta.version <= cleared
    }

    /// As [`Map::is_dead`], for a writer that holds the stripe's lock and caught up when it took
    /// it: what happens to the generations since is later than what it does.
    #[inline(always)]
    pub(crate) fn is_dead_locked(&self, meta: &Meta, stripe: Stripe<'_>) -> bool {
        // Relaxed: changes only under the lock that we hold.
        self.is_dead_alone(meta) || meta.version <= stripe.caught_up(meta.namespace).1.load(Ordering::Relaxed)
    }

    /// True if the item is dead by what it carries itself.
    #[inline(always)]
    fn is_dead_alone(&self, meta: &Meta) -> bool {
        meta.is_outdated || (meta.expires_at_ms != NEVER && self.host.now_ms() >= meta.expires_at_ms)
    }

    /// Finds `key` without reading its value.
    #[inline(never)]
    pub(crate) fn find(&self, hash: Hash, key: Key<'_>, manner: Manner) -> Result<Option<Found<'_>>> {
        Ok(self.lookup(hash, key, manner, |_| Ok(()))?.map(|(found, ())| found))
    }

    /// Finds `key`, reads it with `read`, and makes sure that what was read is true.
    /// `read` may run several times; only its last result counts.
    #[inline(always)]
    pub(crate) fn lookup<R>(
        &self,
        hash: Hash,
        key: Key<'_>,
        manner: Manner,
        mut read: impl FnMut(&Candidate<'_>) -> Result<R>,
    ) -> Result<Option<(Found<'_>, R)>> {
        for _ in 0..READ_TRIES_MAX {
            match self.lookup_once(hash, key, manner, &mut read) {
                Attempt::Hit(found, result) => return result.map(|result| Some((found, result))),
                Attempt::Miss => return Ok(None),
                Attempt::Overtaken => self.count_overtaken(),
            }
        }
        Err(Error::Busy { waited_ms: 0 })
    }

    #[inline(always)]
    fn lookup_once<'m, R>(
        &'m self,
        hash: Hash,
        key: Key<'_>,
        manner: Manner,
        read: &mut impl FnMut(&Candidate<'_>) -> Result<R>,
    ) -> Attempt<'m, R> {
        let Some(path) = self.path(hash) else { return Attempt::Miss };
        let tag = hash.tag();
        let buckets = hash.buckets(self.geometry.bucket_shift);
        let [first, second] = buckets.map(|number| self.meet(path.entry.offset(), path.entry.depth(), tag, number));
        let (Some(first), Some(second)) = (first, second) else {
            return if path.is_current() { Attempt::Miss } else { Attempt::Overtaken };
        };
        // Both buckets are searched without a branch that depends on where the key is: the
        // processor cannot guess it, and would wait for the line to find out.
        let mut matches = matches_of_pair(first.bucket, second.bucket, tag);
        while matches != 0 {
            let at = matches.trailing_zeros() as usize;
            matches &= matches - 1;
            let met = if at < 8 { &first } else { &second };
            let slot = &met.bucket.0[at & 7];
            // Acquire: pairs with the CAS that published the item. [loom: publish]
            let word = Slot(slot.load(Ordering::Acquire));
            if word.0 == 0 {
                continue;
            }
            if word.tag() != tag {
                return Attempt::Overtaken;
            }
            match self.examine(&path, met, slot, word, hash, key, manner, read) {
                Examined::Rejected => {}
                Examined::Overtaken => return Attempt::Overtaken,
                Examined::Hit(found, result) => return Attempt::Hit(found, result),
            }
        }
        // Acquire, as in `meet`: the slots did not change while we looked at them.
        let is_unchanged = |met: &Met<'_>| met.bucket.counter().load(Ordering::Acquire) == met.counter;
        if is_unchanged(&first) && is_unchanged(&second) && path.is_current() {
            Attempt::Miss
        } else {
            Attempt::Overtaken
        }
    }

    #[inline(always)]
    #[expect(clippy::too_many_arguments, reason = "the parts of one read, used once")]
    fn examine<'m, R>(
        &'m self,
        path: &Path<'m>,
        met: &Met<'m>,
        slot: &'m AtomicU64,
        word: Slot,
        hash: Hash,
        key: Key<'_>,
        manner: Manner,
        read: &mut impl FnMut(&Candidate<'_>) -> Result<R>,
    ) -> Examined<'m, R> {
        let stripe = self.stripe(hash.stripe(self.geometry.stripe_count));
        // Acquire loads, slot before counter: see form one in the module's front page.
        let same_slot = || Slot(slot.load(Ordering::Acquire)).item() == word.item();
        let mine = |candidate: &Candidate<'_>| {
            candidate.has_key(key) && (manner == Manner::Dead || !self.is_dead(&candidate.meta, stripe))
        };
        let first = self.candidate(word).filter(mine);
        let Some(candidate) = first else {
            // The bytes said no; they may have been a successor's.
            fence(Ordering::Acquire);
            let unchanged = same_slot() && met.bucket.counter().load(Ordering::Acquire) == met.counter;
            return if unchanged { Examined::Rejected } else { Examined::Overtaken };
        };
        let found = Found {
            bucket: met.bucket,
            slot,
            word,
            segment: candidate.segment,
            offset: candidate.offset,
            bytes: candidate.shape.bytes,
            meta: candidate.meta,
            counter: met.counter,
        };
        if candidate.meta.value_bytes > COPY_BYTES_MAX && manner == Manner::Use {
            return self.examine_large(path, found, manner, key, stripe, read);
        }
        let result = read(&candidate);
        // Acquire: the bytes were read before the re-check. Pairs with the Release fence
        // of the writer that reuses the space, between its claim and its first byte.
        fence(Ordering::Acquire);
        if same_slot() && met.bucket.counter().load(Ordering::Acquire) == met.counter && path.is_current() {
            self.raise_use(slot, word, manner);
            return Examined::Hit(found, result);
        }
        self.examine_beside_a_writer(path, met, found, manner, &mine, read)
    }

    /// Form two: a neighbour in the bucket was written while we read.
    #[cold]
    #[inline(never)]
    fn examine_beside_a_writer<'m, R>(
        &'m self,
        path: &Path<'m>,
        met: &Met<'m>,
        found: Found<'m>,
        manner: Manner,
        mine: &dyn Fn(&Candidate<'_>) -> bool,
        read: &mut impl FnMut(&Candidate<'_>) -> Result<R>,
    ) -> Examined<'m, R> {
        let same_slot = || Slot(found.slot.load(Ordering::Acquire)).item() == found.word.item();
        let sequence = self.row(found.segment).sequence();
        // Acquire, all: slot, sequence, slot again, and only then the bytes.
        if !same_slot() || moved(met.bucket.counter().load(Ordering::Acquire)) {
            return Examined::Overtaken;
        }
        let before = sequence.load(Ordering::Acquire);
        if !same_slot() {
            return Examined::Overtaken;
        }
        let Some(candidate) = self.candidate(found.word).filter(mine) else { return Examined::Overtaken };
        let result = read(&candidate);
        let meta = candidate.meta;
        fence(Ordering::Acquire);
        if sequence.load(Ordering::Acquire) != before
            || moved(met.bucket.counter().load(Ordering::Acquire))
            || !path.is_current()
        {
            return Examined::Overtaken;
        }
        self.raise_use(found.slot, found.word, manner);
        Examined::Hit(Found { meta, ..found }, result)
    }

    /// A large value is pinned first and read afterwards: its space cannot be reused
    /// under the copy. Where there is no pin (read-only, or all in use) it is copied and
    /// validated like a small one, with form two.
    #[cold]
    #[inline(never)]
    fn examine_large<'m, R>(
        &'m self,
        path: &Path<'m>,
        found: Found<'m>,
        manner: Manner,
        key: Key<'_>,
        stripe: Stripe<'m>,
        read: &mut impl FnMut(&Candidate<'_>) -> Result<R>,
    ) -> Examined<'m, R> {
        let _pin = self.pin_segment(found.segment).ok();
        // SeqCst: our pin before the slot load; the reclaimer unlinks before its fence
        // and scan. One of the two sees the other. [loom: pin]
        fence(Ordering::SeqCst);
        let sequence = self.row(found.segment).sequence();
        let before = sequence.load(Ordering::Acquire);
        if Slot(found.slot.load(Ordering::Acquire)).item() != found.word.item() || !path.is_current() {
            return Examined::Overtaken;
        }
        let mine = |candidate: &Candidate<'_>| candidate.has_key(key) && !self.is_dead(&candidate.meta, stripe);
        let Some(candidate) = self.candidate(found.word).filter(mine) else { return Examined::Overtaken };
        let result = read(&candidate);
        let meta = candidate.meta;
        fence(Ordering::Acquire);
        if sequence.load(Ordering::Acquire) != before || !path.is_current() {
            return Examined::Overtaken;
        }
        self.raise_use(found.slot, found.word, manner);
        Examined::Hit(Found { meta, ..found }, result)
    }

    #[inline(always)]
    pub(crate) fn raise_use(&self, slot: &AtomicU64, word: Slot, manner: Manner) {
        if manner == Manner::Use && word.uses() < USE_MAX && self.owner.is_some() {
            // CAS both Relaxed: a hint; it changes only the use count of the very word we
            // validated. A failure is somebody else's change, and ignored.
            let _ = slot.compare_exchange(word.0, word.used_once_more().0, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    #[cold]
    fn count_overtaken(&self) {
        self.count(Counter::Retries, 1);
    }
}

enum Attempt<'m, R> {
    Hit(Found<'m>, Result<R>),
    Miss,
    Overtaken,
}

enum Examined<'m, R> {
    Hit(Found<'m>, Result<R>),
    Rejected,
    Overtaken,
}
