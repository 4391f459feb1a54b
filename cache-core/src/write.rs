//! How a write takes effect: reserve, copy, lock, decide, publish.
//!
//! Owns: the one path by which all writing operations change the index (P3 in
//! `docs/design.md`). Space is reserved and filled without any lock; the stripe's lock
//! is held only to decide and to publish one slot, for some tens of nanoseconds whatever
//! the value's size. The operations themselves are in `ops`.

use crate::census::Moment;
use crate::deadline::Deadline;
use crate::error::{Error, Result};
use crate::fill;
use crate::hash::Hash;
use crate::host::Host;
use crate::index::{Found, Manner, Path, Stripe};
use crate::item::{Head, extra_bytes};
use crate::lane::{Place, Request};
use crate::layout::{KEY_BYTES_MAX, block, stripe};
use crate::lock::{self, Held, Owner};
use crate::map::Map;
use crate::mark::TagMarks;
use crate::participant::Worker;
use crate::segment::{Purpose, Use};
use crate::slot::{Bucket, Queue, Slot, matches_of_pair};
use crate::split::{Grown, Growth};
use crate::stats::Counter;
use crate::sync::{AtomicU64, Ordering, fence};
use crate::types::{Key, Meta, Namespace, WriteOptions, key_form, kind};

/// Turns that one write takes at most: each but the last found the index grown, or another
/// writer at work in its bucket.
const TURNS_MAX: u32 = 10_000;

/// A value in reserved space, complete but for its version, protected by the worker's
/// publish pin.
pub(crate) struct Proposal<'a> {
    place: Place,
    bytes: u64,
    queue: Queue,
    /// Where its namespace's mark goes, and which tags' marks it gets.
    namespace: Option<(u64, Namespace)>,
    tags: TagMarks<'a>,
}

/// What a write does once it sees, under the lock, what is there.
pub(crate) enum Decision<T> {
    /// Nothing.
    Leave(T),
    /// Unlinks the key.
    Remove(T),
    /// Publishes the proposal.
    Put(T),
}

/// What happened, with what the decision said.
pub(crate) struct Done<T> {
    pub said: T,
    /// The version of the published item; 0 if none was.
    pub version: u64,
}

/// What one turn under the lock came to.
enum Turn<T> {
    Done(Done<T>),
    /// The index must grow first; the turn is taken again.
    Grow(Grown),
}

/// A place in the pair of buckets that a new item can take.
struct Vacancy<'m> {
    bucket: Bucket<'m>,
    slot: &'m AtomicU64,
    /// Empty, or an item that is dead or must go.
    word: Slot,
    /// What must go.
    leaves: Option<Leaving>,
}

/// An item that makes room for another: where it is, and how it is counted.
struct Leaving {
    segment: u32,
    bytes: u64,
    version: u64,
    namespace: Namespace,
    counter: Counter,
}

impl Proposal<'_> {
    fn has_marks(&self) -> bool {
        self.namespace.is_some() || self.tags.len() > 0
    }
}

impl<H: Host> Map<H> {
    /// The calling thread's worker and this process's identity.
    pub(crate) fn enter(&self, deadline: &Deadline) -> Result<(Worker<'_>, Owner)> {
        let Some(owner) = self.owner else { return Err(Error::ReadOnly) };
        let worker =
            Worker::enter(&self.region, &self.geometry, owner.index(), &self.shared_worker, &self.host, deadline)?;
        Ok((worker, owner))
    }

    /// Checks that `key` and `value_bytes` make an item that this region can hold.
    pub(crate) fn check_item(&self, key: Key<'_>, value_bytes: usize, options: &WriteOptions) -> Result<Head> {
        self.check_item_with(key, value_bytes, options, TagMarks::Now(options.tags))
    }

    fn check_item_with(
        &self,
        key: Key<'_>,
        value_bytes: usize,
        options: &WriteOptions,
        tags: TagMarks<'_>,
    ) -> Result<Head> {
        self.check_key(key)?;
        self.check_namespace(key.namespace)?;
        self.check_tags(tags)?;
        if options.kind == kind::FILLER {
            return Err(Error::InvalidArgument { reason: "this kind of value is reserved" });
        }
        if options.key_form > key_form::TUPLE {
            return Err(Error::InvalidArgument { reason: "this form of key does not exist" });
        }
        let fixed = extra_bytes(tags.len()) + key.bytes.len() as u64;
        let bytes_max = self.geometry.item_bytes_max().saturating_sub(fixed);
        if value_bytes as u64 > bytes_max {
            return Err(Error::ValueTooLarge { bytes: value_bytes as u64, bytes_max });
        }
        Ok(Head::for_value(key, value_bytes, options, tags.len()))
    }

    /// Reserves space and writes the item into it. Nobody can see it yet.
    #[expect(clippy::too_many_arguments, reason = "the parts of one write, used once")]
    pub(crate) fn propose<'a>(
        &self,
        worker: &Worker<'_>,
        hash: Hash,
        path: Option<Path<'_>>,
        key: Key<'_>,
        head: Head,
        parts: &[&[u8]],
        options: &WriteOptions,
        tags: TagMarks<'a>,
        deadline: &Deadline,
    ) -> Result<Proposal<'a>> {
        let Some(shape) = head.shape() else { return Err(Error::Internal) };
        let queue = self.queue_for(worker, hash, path, shape.bytes);
        let request = Request { head, bytes: shape.bytes, queue, purpose: Purpose::Data };
        let place = self.reserve(worker, worker.publish_pin, request, deadline)?;
        // Release: before our first byte in this space, so that a reader which meets it
        // sees that the old item is gone. Pairs with the Acquire fence in `examine`.
        fence(Ordering::Release);
        let words = self.region.slice(place.offset, shape.bytes as usize / 8);
        // Relaxed, all: published by the CAS of the slot.
        if let Some(at) = shape.expires_at {
            words[at as usize / 8].store(options.expires_at_ms, Ordering::Relaxed);
        }
        if let Some(at) = shape.client_at {
            let word = u64::from(options.server_flags) << 32 | u64::from(options.client_flags);
            words[at as usize / 8].store(word, Ordering::Relaxed);
        }
        if tags.len() > 0 {
            let value_bytes = parts.iter().map(|part| part.len()).sum();
            self.write_tags(words, key.namespace, tags, value_bytes);
        }
        let Key { namespace, bytes: key } = key;
        let key_at = shape.key_at as usize / 8;
        if shape.value_at == shape.key_at + key.len() as u64 {
            match parts {
                [value] => fill::copy_in(&words[key_at..], &[key, value]),
                [first, second] => fill::copy_in(&words[key_at..], &[key, first, second]),
                _ => return Err(Error::Internal),
            }
        } else {
            fill::copy_in(&words[key_at..], &[key]);
            fill::copy_in(&words[shape.value_at as usize / 8..], parts);
        }
        let row = self.row(place.segment);
        row.note_expiry(options.expires_at_ms);
        row.add_live(shape.bytes);
        let namespace = shape.namespace_at.map(|at| (at, namespace));
        Ok(Proposal { place, bytes: shape.bytes, queue, namespace, tags })
    }

    /// The queue a new value goes to: that of the value it replaces; main if its key was
    /// dropped from small not long ago; else small.
    fn queue_for(&self, worker: &Worker<'_>, hash: Hash, path: Option<Path<'_>>, bytes: u64) -> Queue {
        if let Some(queue) = path.and_then(|path| self.queue_of_tag(&path, hash)) {
            return queue;
        }
        let Some(ghost) = self.recall(hash) else { return Queue::Small };
        self.move_border(ghost, bytes);
        match ghost.queue {
            Queue::Small => {
                worker.count(Counter::GhostHits, 1);
                Queue::Main
            }
            Queue::Main => Queue::Small,
        }
    }

    /// The queue of the first slot that carries the key's tag. The queue is a hint, so the
    /// item behind it is not looked at: another key of the same tag is met once in
    /// thousands of times, and then a value begins in another queue than it might have.
    fn queue_of_tag(&self, path: &Path<'_>, hash: Hash) -> Option<Queue> {
        let tag = hash.tag();
        let buckets = hash.buckets(self.geometry.bucket_shift);
        let [first, second] = buckets.map(|number| self.meet(path.entry.offset(), path.entry.depth(), tag, number));
        let (first, second) = (first?.bucket, second?.bucket);
        let matches = matches_of_pair(first, second, tag);
        if matches == 0 {
            return None;
        }
        let at = matches.trailing_zeros() as usize;
        let slot = &if at < 8 { first } else { second }.0[at & 7];
        // Relaxed: a hint.
        let word = Slot(slot.load(Ordering::Relaxed));
        // What is looked at under the lock, and what will change.
        self.region.prefetch(word.offset());
        let number = buckets[usize::from(at >= 8)];
        fill::prefetch_to_change(&self.region, path.entry.offset() + block::BUCKETS + block::BUCKET_BYTES * number);
        if let Some(segment) = self.geometry.segment_of(word.offset()) {
            fill::prefetch_to_change(&self.region, self.geometry.row_offset(segment));
        }
        (word.0 != 0).then(|| word.queue())
    }

    /// Fetches what a write of this key looks at first.
    #[inline]
    fn prefetch_write(&self, hash: Hash) -> Option<Path<'_>> {
        let stripe_offset = self.geometry.stripe_offset(hash.stripe(self.geometry.stripe_count));
        fill::prefetch_to_change(&self.region, stripe_offset + stripe::LOCK);
        let path = self.path(hash)?;
        self.prefetch_block(&path, hash);
        Some(path)
    }

    /// Takes back a proposal that was not published.
    pub(crate) fn withdraw(&self, worker: &Worker<'_>, proposal: &Proposal<'_>) {
        self.row(proposal.place.segment).sub_live(proposal.bytes);
        // Release: nothing of ours is linked into the segment. Pairs with `pinned_by`.
        worker.publish_pin.store(0, Ordering::Release);
    }

    fn lock_stripe(&self, worker: &Worker<'_>, index: u32, owner: Owner, deadline: &Deadline) -> Result<Held<'_, H>> {
        let word = self.region.word32(self.geometry.stripe_offset(index) + stripe::LOCK);
        match lock::acquire_until(word, owner, &self.host, deadline) {
            Ok(taken_over) => {
                worker.count(Counter::TakeOvers, u64::from(taken_over));
                Ok(Held::new(word, &self.host))
            }
            Err(error) => {
                worker.count(Counter::Busy, 1);
                Err(error)
            }
        }
    }

    /// Decides and publishes under the stripe's lock. `decide` sees what is there (not
    /// expired, not cleared) and may run several times; only its last word counts.
    ///
    /// # Errors
    /// `Busy` while another writer holds the stripe, `Full` or `NoSpace` when the index
    /// cannot grow, `Corrupt`.
    #[expect(clippy::too_many_arguments, reason = "the parts of one write, used by each operation")]
    pub(crate) fn commit<T>(
        &self,
        worker: &Worker<'_>,
        owner: Owner,
        hash: Hash,
        key: Key<'_>,
        proposal: Option<&Proposal<'_>>,
        deadline: &Deadline,
        mut decide: impl FnMut(Option<&Found<'_>>) -> Decision<T>,
    ) -> Result<Done<T>> {
        let stripe_index = hash.stripe(self.geometry.stripe_count);
        // Made only when the index must grow.
        let mut growth: Option<Box<Growth<'_, H>>> = None;
        for _ in 0..TURNS_MAX {
            let held = self.lock_stripe(worker, stripe_index, owner, deadline)?;
            let turn = self.commit_locked(worker, owner, hash, key, proposal, &mut growth, &mut decide)?;
            drop(held);
            match turn {
                Turn::Done(done) => return Ok(done),
                Turn::Grow(grown) => self.after_growth(worker, owner, stripe_index, grown, &mut growth, deadline)?,
            }
        }
        Err(RESTLESS)
    }

    /// Gets, without the lock, what the index needs to grow; or decides that it may not.
    #[cold]
    fn after_growth<'m>(
        &'m self,
        worker: &Worker<'_>,
        owner: Owner,
        stripe_index: u32,
        grown: Grown,
        growth: &mut Option<Box<Growth<'m, H>>>,
        deadline: &Deadline,
    ) -> Result<()> {
        let growth = growth.get_or_insert_with(|| Box::new(Growth::new(self)));
        match grown {
            Grown::Done => {}
            // Nothing may be dropped, or nothing was found to drop.
            Grown::Refused if growth.is_refused => {
                return Err(self.full(self.geometry.block_bytes()));
            }
            Grown::Refused => growth.is_refused = true,
            Grown::Needs(needs) => {
                // An evicting region does not wait for the index to grow: it drops.
                let one_try = Deadline::new(0);
                let deadline = if self.is_no_evict() { deadline } else { &one_try };
                match growth.prepare(worker, stripe_index, needs, owner, deadline) {
                    // Once: a stripe without its first block has nothing to drop.
                    Err(Error::Full { .. } | Error::NoSpace { .. } | Error::Busy { .. }) if !growth.is_refused => {
                        growth.is_refused = true;
                    }
                    prepared => prepared?,
                }
            }
        }
        Ok(())
    }

    #[expect(clippy::too_many_arguments, reason = "as `commit`")]
    fn commit_locked<'m, T>(
        &'m self,
        worker: &Worker<'_>,
        owner: Owner,
        hash: Hash,
        key: Key<'_>,
        proposal: Option<&Proposal<'_>>,
        growth: &mut Option<Box<Growth<'m, H>>>,
        decide: &mut impl FnMut(Option<&Found<'_>>) -> Decision<T>,
    ) -> Result<Turn<T>> {
        let stripe = self.stripe(hash.stripe(self.geometry.stripe_count));
        self.catch_up(stripe);
        for _ in 0..TURNS_MAX {
            // Before anything is judged: see `mark`. [loom: evict]
            if let Some(proposal) = proposal.filter(|proposal| proposal.has_marks()) {
                self.write_marks(self.words_of(proposal), proposal.namespace, proposal.tags);
            }
            let there = self.find_locked(hash, key)?;
            let is_dead = there.as_ref().is_some_and(|found| self.is_dead_locked(&found.meta, stripe));
            let (said, puts) = match decide(there.as_ref().filter(|_| !is_dead)) {
                Decision::Leave(said) => return Ok(Turn::Done(Done { said, version: 0 })),
                Decision::Remove(said) => (said, None),
                Decision::Put(said) => (said, Some(proposal.ok_or(Error::Internal)?)),
            };
            let Some(proposal) = puts else {
                let Some(found) = there else { return Ok(Turn::Done(Done { said, version: 0 })) };
                if !found.bucket.replace(found.slot, found.word, |_| Slot(0)) {
                    // A reclaimer moved or dropped it: decide again.
                    continue;
                }
                self.row(found.segment).sub_live(found.bytes);
                stripe.count_gone(found.meta.version);
                return Ok(Turn::Done(Done { said, version: 0 }));
            };
            let version = self.stamp(stripe, proposal);
            let to = Slot::new(hash.tag(), proposal.queue, 0, proposal.place.offset);
            if let Some(found) = there {
                // Overwriting keeps the uses: the key is as wanted as before.
                if !found
                    .bucket
                    .replace(found.slot, found.word, |was| to.with_uses(if is_dead { 0 } else { was.uses() }))
                {
                    continue;
                }
                self.row(found.segment).sub_live(found.bytes);
                stripe.count_new(Some(found.meta.version));
                worker.count(Counter::Expirations, u64::from(is_dead));
                self.tally(key.namespace, Counter::Expirations, u64::from(is_dead));
                return Ok(Turn::Done(Done { said, version }));
            }
            let is_refused = growth.as_ref().is_some_and(|growth| growth.is_refused);
            let Some(vacancy) = self.vacancy(hash, stripe, is_refused) else {
                let growth = growth.get_or_insert_with(|| Box::new(Growth::new(self)));
                return Ok(Turn::Grow(self.grow(worker, hash, growth, owner)?));
            };
            if !vacancy.bucket.replace(vacancy.slot, vacancy.word, |_| to) {
                continue;
            }
            stripe.count_new(vacancy.leaves.as_ref().map(|leaving| leaving.version));
            if let Some(leaving) = vacancy.leaves {
                self.row(leaving.segment).sub_live(leaving.bytes);
                worker.count(leaving.counter, 1);
                self.tally(leaving.namespace, leaving.counter, 1);
            }
            return Ok(Turn::Done(Done { said, version }));
        }
        Err(RESTLESS)
    }

    /// Gives the proposal the next version of its stripe. The caller holds the lock.
    fn stamp(&self, stripe: Stripe<'_>, proposal: &Proposal<'_>) -> u64 {
        // Relaxed: under the lock. Counted first, used second: a version that a dead
        // writer may have stamped is never given again.
        let version = stripe.version().load(Ordering::Relaxed).wrapping_add(1);
        stripe.version().store(version, Ordering::Relaxed);
        // Relaxed: published by the CAS of the slot.
        self.region.word(proposal.place.offset + 8).store(version, Ordering::Relaxed);
        version
    }

    fn words_of(&self, proposal: &Proposal<'_>) -> &[AtomicU64] {
        self.region.slice(proposal.place.offset, proposal.bytes as usize / 8)
    }

    /// An empty slot in the emptier bucket of the pair; else a dead item's; else, if the
    /// index `is_refused` growth and items may be dropped, the one least worth keeping. `None` =
    /// the index must grow.
    fn vacancy(&self, hash: Hash, stripe: Stripe<'_>, is_refused: bool) -> Option<Vacancy<'_>> {
        let may_drop = is_refused && !self.is_no_evict();
        let path = self.path(hash)?;
        // Acquire: pairs with the Release that began a split, which is finished first.
        if self.region.word(path.entry.offset() + block::CHILD0).load(Ordering::Acquire) != 0 {
            return None;
        }
        let pair = hash
            .buckets(self.geometry.bucket_shift)
            .map(|number| self.meet(path.entry.offset(), path.entry.depth(), hash.tag(), number));
        let [Some(first), Some(second)] = pair else { return None };
        // Relaxed: only the lock's holder fills empty slots.
        let empties =
            |bucket: Bucket<'_>| bucket.slots().iter().filter(|slot| slot.load(Ordering::Relaxed) == 0).count();
        let emptier = if empties(second.bucket) > empties(first.bucket) { second.bucket } else { first.bucket };
        if let Some(slot) = emptier.slots().iter().find(|slot| slot.load(Ordering::Relaxed) == 0) {
            return Some(Vacancy { bucket: emptier, slot, word: Slot(0), leaves: None });
        }
        let moment = self.moment();
        let mut coldest: Option<(u64, Vacancy<'_>)> = None;
        for met in [&first, &second] {
            for slot in met.bucket.slots() {
                // Acquire: pairs with the CAS that published it.
                let word = Slot(slot.load(Ordering::Acquire));
                // Before an answer that there is no room, the hints are not believed.
                if !is_refused && !self.may_be_dead(word, moment) {
                    continue;
                }
                let Some(candidate) = self.candidate(word) else { continue };
                let is_dead = self.is_dead_locked(&candidate.meta, stripe);
                fence(Ordering::Acquire);
                // Acquire, slot then counter: what was read was this item's.
                let is_true = slot.load(Ordering::Acquire) == word.0
                    && met.bucket.counter().load(Ordering::Acquire) == met.counter;
                if !is_true {
                    continue;
                }
                let leaves = |counter| {
                    let (segment, bytes) = (candidate.segment, candidate.shape.bytes);
                    let (version, namespace) = (candidate.meta.version, candidate.meta.namespace);
                    Some(Leaving { segment, bytes, version, namespace, counter })
                };
                if is_dead {
                    let leaves = leaves(Counter::Expirations);
                    return Some(Vacancy { bucket: met.bucket, slot, word, leaves });
                }
                let worth = word.uses() * 2 + u64::from(word.queue() == Queue::Main);
                if may_drop && coldest.as_ref().is_none_or(|(least, _)| worth < *least) {
                    let leaves = leaves(Counter::Evictions);
                    coldest = Some((worth, Vacancy { bucket: met.bucket, slot, word, leaves }));
                }
            }
        }
        coldest.map(|(_, vacancy)| vacancy)
    }

    /// False if nothing in the segment of this item is due to have expired, or was there at the
    /// last clear, by its hints. So a split does not wait for the headers of fourteen items.
    fn may_be_dead(&self, word: Slot, moment: Moment) -> bool {
        self.geometry.segment_of(word.offset()).is_none_or(|segment| {
            let row = self.row(segment);
            // Relaxed: a hint.
            row.state().is_run
                || row.sweep_due_ms().load(Ordering::Relaxed) <= moment.now_ms
                || row.ticket() < moment.cleared_ticket
        })
    }

    /// A complete write of `parts` under `key`: propose, commit, account, reclaim.
    /// `decide` is as for `commit`.
    pub(crate) fn put<T>(
        &self,
        key: Key<'_>,
        parts: &[&[u8]],
        options: &WriteOptions,
        tags: TagMarks<'_>,
        decide: impl FnMut(Option<&Found<'_>>) -> Decision<T>,
    ) -> Result<Done<T>> {
        let value_bytes = parts.iter().map(|part| part.len()).sum();
        let head = self.check_item_with(key, value_bytes, options, tags)?;
        let deadline = Deadline::new(options.timeout_ns);
        let hash = self.hasher.key(key);
        // On its way while the item is reserved and written.
        let path = self.prefetch_write(hash);
        let (worker, owner) = self.enter(&deadline)?;
        let proposal = self.propose(&worker, hash, path, key, head, parts, options, tags, &deadline)?;
        let done = self.commit(&worker, owner, hash, key, Some(&proposal), &deadline, decide);
        match &done {
            Ok(done) if done.version != 0 => {
                // Release: the link is made. Pairs with `pinned_by`.
                worker.publish_pin.store(0, Ordering::Release);
                worker.count(Counter::Sets, 1);
                self.tally(key.namespace, Counter::Sets, 1);
                worker.count(Counter::SetBytes, proposal.bytes);
                self.note_set(hash, proposal.bytes, options.expires_at_ms);
            }
            _ => self.withdraw(&worker, &proposal),
        }
        self.share_reclaim(&worker, proposal.bytes);
        done
    }

    /// A write without a new value: leaves or removes.
    pub(crate) fn settle<T>(
        &self,
        hash: Hash,
        key: Key<'_>,
        timeout_ns: u64,
        decide: impl FnMut(Option<&Found<'_>>) -> Decision<T>,
    ) -> Result<T> {
        let deadline = Deadline::new(timeout_ns);
        let (worker, owner) = self.enter(&deadline)?;
        Ok(self.commit(&worker, owner, hash, key, None, &deadline, decide)?.said)
    }

    /// Sets the expiry of a large item where it lies. False if it is not as `meta` has it any
    /// more, or on its way out and must be replaced instead.
    pub(crate) fn touch_in_place(
        &self,
        hash: Hash,
        key: Key<'_>,
        meta: &Meta,
        expires_at_ms: u64,
        timeout_ns: u64,
    ) -> Result<bool> {
        let deadline = Deadline::new(timeout_ns);
        let (worker, owner) = self.enter(&deadline)?;
        let Some((found, expires_at)) =
            self.lookup(hash, key, Manner::Look, |candidate| Ok(candidate.shape.expires_at))?
        else {
            return Ok(false);
        };
        let Some(expires_at) = expires_at.filter(|_| found.meta.version == meta.version) else { return Ok(false) };
        // Release, then SeqCst: our pin before our look at the state; the reclaimer claims
        // before its fence and scan. One of the two sees the other. [loom: touch]
        worker.publish_pin.store(u64::from(found.segment) + 1, Ordering::Release);
        fence(Ordering::SeqCst);
        if !matches!(self.row(found.segment).state().usage, Use::Open | Use::Sealed) {
            return Ok(false);
        }
        let held = self.lock_stripe(&worker, hash.stripe(self.geometry.stripe_count), owner, &deadline)?;
        let again = self.find(hash, key, Manner::Look)?;
        let same = again.filter(|again| again.word.item() == found.word.item() && again.meta == *meta);
        // The bucket that it is in now: a split may have moved it since it was found first.
        if let Some(Found { bucket, .. }) = &same {
            // Release: the bump before the change, so that a reader of the old expiry that
            // validates by the counter begins again.
            bucket.counter().fetch_add(1, Ordering::Release);
            self.row(found.segment).note_expiry(expires_at_ms);
            // Release: the hint before the word that it must not be older than.
            self.region.word(found.offset + expires_at).store(expires_at_ms, Ordering::Release);
            bucket.counter().fetch_add(1, Ordering::Release);
        }
        drop(held);
        Ok(same.is_some())
    }

    /// Longest key and value together that the region's largest item leaves room for.
    pub fn value_bytes_max(&self) -> u64 {
        self.geometry.item_bytes_max().saturating_sub(extra_bytes(0) + KEY_BYTES_MAX as u64)
    }
}

const RESTLESS: Error = Error::Corrupt { reason: "the index of a stripe does not come to rest" };
