//! Reclaim: how space comes back.
//!
//! Owns: the choice of a victim segment, the walk over its items, and its end as free or
//! condemned. The policy is S3-FIFO (Yang et al., SOSP 2023, algorithm 1) a segment at a
//! time: small gives up unused items and remembers them as ghosts, main gives items one
//! more round for each use.
//!
//! Must never take a stripe lock: items are removed and relocated by the same bump and
//! CAS that writers use, so a frozen writer cannot stop reclaim, nor reclaim a writer.
//!
//! The order of one victim (P5 in `docs/design.md`): claim; fence; no write pin; walk;
//! fence; no read pin; sequence + 1; free. Between calls nobody owns a victim: at the end
//! of its share a reclaimer stores how far it got and lets go.

use crate::deadline::Deadline;
use crate::error::Result;
use crate::hash::Hash;
use crate::host::Host;
use crate::item::Head;
use crate::lane::Request;
use crate::layout::{block, control};
use crate::lock::Owner;
use crate::map::Map;
use crate::participant::{self, Pins, Worker};
use crate::segment::{Purpose, State, Use};
use crate::slot::{Queue, Slot, moved};
use crate::stats::Counter;
use crate::sync::{AtomicU64, Ordering, fence};
use crate::types::{NEVER, kind};

/// While live bytes (index and condemned bytes counted) stay below this share of the
/// segments, reclaim drops nothing that lives: it compacts.
const LIVE_PERCENT_KEPT: u64 = 85;
/// Share of the small queue in percent of the segments of both queues.
const SMALL_PERCENT: u64 = 10;
/// Buckets that remember together which keys were dropped.
const GHOST_BUCKETS: u64 = 8;
/// Items looked at together, so that their index lines are fetched at once.
const BATCH: usize = 8;
/// A segment is swept for expired items again when about this part of its items should
/// have expired.
const SWEEP_PARTS: u64 = 16;
/// Shortest time between two sweeps of a segment.
const SWEEP_MS_MIN: u64 = 50;
/// Work of one share, in bytes walked, below which sets save it up.
const SHARE_BYTES_MIN: u64 = 2048;
/// Condemned bytes beyond which views are copies, in percent of the segments.
const CONDEMNED_PERCENT_MAX: u64 = 5;

/// How long a refusal of the file system, or a futile compaction, counts, in nanoseconds.
const VAIN_NS: u64 = 1_000_000_000;
/// Turns of reclaim for one segment after which an evicting region stops to compact.
const FUTILE_TURNS_MAX: u64 = 16;

/// What a walk does with items that live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
enum Walk {
    /// S3-FIFO decides.
    Evict = 0,
    /// All are copied on.
    Compact = 1,
    /// All stay; only the dead are unlinked.
    Sweep = 2,
}

/// A segment in the hands of this thread. Let go on drop, wherever the walk got to.
struct Victim<'m, H: Host> {
    map: &'m Map<H>,
    index: u32,
    /// The state word while it is ours.
    ours: u64,
    walk: Walk,
    at: u64,
    released: bool,
}

/// What came of a piece of reclaim work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// A segment became free.
    Freed,
    /// Something was done.
    Worked,
    /// There was nothing to do; true if others hold what there is.
    Nothing(bool),
}

/// What a look at the whole table found.
#[derive(Default)]
pub(crate) struct Census {
    pub free: u64,
    pub small: u64,
    pub main: u64,
    pub index: u64,
    pub condemned: u64,
    /// Bytes that would be lost by an eviction: live items, index, condemned.
    pub live_bytes: u64,
    pub dead_bytes: u64,
    /// Bytes at the end of sealed segments that no item fitted into.
    pub tail_bytes: u64,
    /// Victims in the hands of others.
    pub in_progress: u64,
    choice: Option<(u64, u64, u32, Walk)>,
}

impl Census {
    fn offer(&mut self, class: u64, score: u64, index: u32, walk: Walk) {
        if self.choice.is_none_or(|(c, s, ..)| (class, score) < (c, s)) {
            self.choice = Some((class, score, index, walk));
        }
    }
}

impl<H: Host> Map<H> {
    /// Counts the table and chooses the best victim outside `skip`: first the counts,
    /// because they decide how to choose.
    pub(crate) fn census(&self, skip: &[u32]) -> Census {
        let now_ms = self.host.now_ms();
        let segment_bytes = self.geometry.segment_bytes();
        // Relaxed: a hint.
        let cleared = self.control_word(control::CLEARED_TICKET).load(Ordering::Relaxed);
        let mut census = Census::default();
        for index in 0..self.geometry.segment_count {
            let row = self.row(index);
            let state = row.state();
            let length = if state.is_run { row.run_length().min(u64::from(self.geometry.segment_count)) } else { 1 };
            // Relaxed: hints.
            let written = row.written().load(Ordering::Relaxed).min(length * segment_bytes);
            match state.usage {
                Use::Free | Use::Damaged => census.free += 1,
                Use::Index => {
                    census.index += 1;
                    census.live_bytes += segment_bytes;
                }
                Use::Condemned => {
                    census.condemned += length;
                    census.live_bytes += length * segment_bytes;
                }
                Use::Claimed => census.live_bytes += if state.is_run { length * segment_bytes } else { 0 },
                Use::RunPart => {}
                Use::Open | Use::Sealed | Use::Draining | Use::Reclaiming => {
                    census.in_progress += u64::from(state.usage == Use::Reclaiming);
                    let dead = self.is_all_dead(index, now_ms, cleared);
                    let live = if dead { 0 } else { row.live_bytes(written) };
                    let taken = if state.is_run && live > 0 { length * segment_bytes } else { live };
                    census.live_bytes += taken;
                    census.dead_bytes += (length * segment_bytes).saturating_sub(taken);
                    if state.usage != Use::Open && !state.is_run && live > 0 {
                        census.tail_bytes += segment_bytes - written;
                    }
                    match state.queue {
                        Queue::Small => census.small += length,
                        Queue::Main => census.main += length,
                    }
                }
            }
        }
        // The end of a segment into which the next item did not fit holds nothing. A file
        // system without space is a smaller region: it evicts early.
        let taken_bytes = census.live_bytes + census.tail_bytes;
        let is_tight = taken_bytes * 100 > self.geometry.data_bytes() * LIVE_PERCENT_KEPT || self.is_compaction_vain();
        let evicting = !self.is_no_evict() && is_tight;
        self.choose(&mut census, skip, evicting, now_ms, cleared);
        if census.choice.is_none() && !self.is_no_evict() {
            // Nothing is worth compacting: what is dead is spread too thin to be of use.
            self.choose(&mut census, skip, true, now_ms, cleared);
        }
        // A read-only attachment counts as well, but has nowhere to write it down.
        if self.owner.is_some() {
            // Relaxed: a hint.
            self.free_hint().store(census.free, Ordering::Relaxed);
        }
        // Relaxed: a hint.
        self.condemned_hint.store(census.condemned, Ordering::Relaxed);
        census
    }

    /// Offers every segment outside `skip` that could be a victim.
    fn choose(&self, census: &mut Census, skip: &[u32], evicting: bool, now_ms: u64, cleared: u64) {
        let small_first = census.small * 100 > (census.small + census.main) * SMALL_PERCENT;
        for index in 0..self.geometry.segment_count {
            let row = self.row(index);
            let state = row.state();
            if skip.contains(&index) {
                continue;
            }
            match state.usage {
                Use::Draining => census.offer(0, row.ticket(), index, self.stored_walk(row.progress())),
                Use::Sealed => {
                    // Relaxed: hints.
                    let written = row.written().load(Ordering::Relaxed);
                    let live = row.live_bytes(written);
                    if self.is_all_dead(index, now_ms, cleared) {
                        // By the hints; the walk looks at each item.
                        let walk = if evicting { Walk::Evict } else { Walk::Compact };
                        census.offer(1, row.ticket(), index, walk);
                    } else if !evicting {
                        // Compaction gains what is dead; it must be worth the walk.
                        if !state.is_run && written - live > self.geometry.segment_bytes() / 64 {
                            census.offer(2, live, index, Walk::Compact);
                        }
                    } else if !state.is_run && live < written / 2 {
                        census.offer(2, live, index, Walk::Compact);
                    } else if row.sweep_due_ms().load(Ordering::Relaxed) <= now_ms {
                        census.offer(3, row.ticket(), index, Walk::Sweep);
                    } else {
                        let preferred = (state.queue == Queue::Small) == small_first;
                        census.offer(if preferred { 4 } else { 5 }, row.ticket(), index, Walk::Evict);
                    }
                }
                _ => {}
            }
        }
    }

    /// True if every item of the segment expired, was cleared or replaced, by the hints.
    fn is_all_dead(&self, index: u32, now_ms: u64, cleared_ticket: u64) -> bool {
        let row = self.row(index);
        // Relaxed: hints. The walk looks at each item anyway.
        let latest = row.latest_expiry_ms().load(Ordering::Relaxed);
        row.live_bytes(u64::MAX) == 0 || latest <= now_ms || row.ticket() < cleared_ticket
    }

    fn stored_walk(&self, progress: &AtomicU64) -> Walk {
        // Relaxed: ordered by the state's Acquire. A no-evict region never evicts,
        // whatever the word says.
        match progress.load(Ordering::Relaxed) >> 32 & 3 {
            0 if !self.is_no_evict() => Walk::Evict,
            0 => Walk::Compact,
            1 => Walk::Compact,
            _ => Walk::Sweep,
        }
    }

    /// True if another view should rather be a copy.
    pub(crate) fn is_condemned_full(&self) -> bool {
        // Relaxed: a hint.
        self.condemned_hint.load(Ordering::Relaxed) * 100
            > u64::from(self.geometry.segment_count) * CONDEMNED_PERCENT_MAX
    }

    /// Takes the best victim; `None` with true if others hold what there is.
    fn claim_victim(&self, owner: Owner) -> std::result::Result<Victim<'_, H>, bool> {
        // Relaxed: a hint.
        let hint = self.control_word(control::VICTIM_HINT).load(Ordering::Relaxed);
        if let Some(index) = (hint as u32).checked_sub(1).filter(|index| *index < self.geometry.segment_count)
            && let Some(victim) = self.claim(index, Use::Draining, None, owner)
        {
            return Ok(victim);
        }
        let mut skip = Vec::new();
        let mut others = false;
        for _ in 0..16 {
            let census = self.census(&skip);
            others |= census.in_progress > 0;
            if census.condemned > 0 && skip.is_empty() {
                self.revisit_the_condemned(owner);
            }
            let Some((_, _, index, walk)) = census.choice else { break };
            // A compaction needs somewhere to copy to: leave a free segment for each
            // victim that is being walked by somebody else.
            if walk == Walk::Compact && census.in_progress > 0 && census.free <= census.in_progress {
                others = true;
                break;
            }
            let from = self.row(index).state().usage;
            if let Some(victim) = self.claim(index, from, Some(walk), owner) {
                return Ok(victim);
            }
            skip.push(index);
        }
        // With something freed on the way, the caller looks again.
        Err(self.revisit_the_condemned(owner) | self.release_the_dead() | others)
    }

    /// Takes segment `index` from Sealed or Draining. `walk` None = go on as stored.
    fn claim(&self, index: u32, expected: Use, walk: Option<Walk>, owner: Owner) -> Option<Victim<'_, H>> {
        let row = self.row(index);
        let from = row.state_word();
        let state = State::from_word(from);
        if state.usage != expected || !matches!(expected, Use::Sealed | Use::Draining) {
            return None;
        }
        let ours = state.owned(Use::Reclaiming, owner);
        if !row.change(from, ours) {
            return None;
        }
        let (walk, at) = if expected == Use::Draining {
            // Relaxed: ordered by the state's CAS. What is stored may only be used to
            // skip items, so it is bounded by the walk.
            (self.stored_walk(row.progress()), row.progress().load(Ordering::Relaxed) as u32 & !7)
        } else {
            (walk.unwrap_or(Walk::Evict), 0)
        };
        let mut victim = Victim { map: self, index, ours: ours.to_word(), walk, at: u64::from(at), released: false };
        if expected == Use::Sealed {
            // SeqCst: our claim before the scan. A pin was stored before the segment was
            // sealed, or by a `touch` that looks at the state after its own fence. [loom: late_publish]
            fence(Ordering::SeqCst);
            if let Some(pinner) = participant::pinned_by(&self.region, &self.geometry, index, Pins::Write) {
                // To the end of the order: a stopped writer keeps it for as long as it likes.
                row.set_ticket(self.next_ticket());
                victim.release(state.to(Use::Sealed));
                self.retire_if_dead(pinner);
                return None;
            }
        }
        Some(victim)
    }

    fn retire_if_dead(&self, slot: u32) -> bool {
        self.owner.is_some_and(|owner| owner.index() != slot)
            && self.host.retire(slot, &mut || self.clean_slot(slot, None))
    }

    /// Condemned segments whose pins are gone become free. True if one did.
    fn revisit_the_condemned(&self, owner: Owner) -> bool {
        let mut freed = false;
        for index in 0..self.geometry.segment_count {
            let row = self.row(index);
            let from = row.state_word();
            let state = State::from_word(from);
            if state.usage != Use::Condemned {
                continue;
            }
            let ours = state.owned(Use::Reclaiming, owner);
            if row.change(from, ours) {
                let victim =
                    Victim { map: self, index, ours: ours.to_word(), walk: Walk::Evict, at: u64::MAX, released: false };
                freed |= victim.finish();
            }
        }
        freed
    }

    /// Segments in the hands of the dead are given back. True if one was.
    fn release_the_dead(&self) -> bool {
        let mut released = false;
        for index in 0..self.geometry.segment_count {
            let from = self.row(index).state_word();
            if let Some(owner) = State::from_word(from).owner()
                && Some(owner) != self.owner
                && self.host.is_dead(owner)
            {
                released |= self.release_segment_of(index, from);
            }
        }
        released
    }

    /// Gives back what the dead owner of `from` had claimed.
    pub(crate) fn release_segment_of(&self, index: u32, from: u64) -> bool {
        let row = self.row(index);
        let state = State::from_word(from);
        match state.usage {
            // Owned first: two who release the same run would free what a third made of it.
            Use::Claimed if state.is_run => self.owner.is_some_and(|me| {
                let ours = state.owned(Use::Reclaiming, me);
                row.change(from, ours) && self.release_run(index, ours.to_word())
            }),
            Use::Claimed => self.free_segment(index, from),
            // From the start, with the look for write pins that it may have died before.
            Use::Reclaiming => row.change(from, state.to(Use::Sealed)),
            _ => false,
        }
    }

    /// Reclaims segment `index` from its start, copying what lives if `compacts`. True if
    /// it became free.
    #[cfg(loom)]
    pub(crate) fn reclaim_segment(&self, worker: &Worker<'_>, index: u32, compacts: bool, owner: Owner) -> bool {
        let walk = if compacts { Walk::Compact } else { Walk::Evict };
        self.claim(index, Use::Sealed, Some(walk), owner)
            .is_some_and(|victim| victim.run(worker, u64::MAX) == Progress::Freed)
    }

    /// One piece of reclaim work: about `budget` bytes walked.
    pub(crate) fn reclaim(&self, worker: &Worker<'_>, budget: u64) -> Progress {
        let Some(owner) = self.owner else { return Progress::Nothing(false) };
        match self.claim_victim(owner) {
            Ok(victim) => victim.run(worker, budget),
            Err(others) => Progress::Nothing(others),
        }
    }

    /// Empties one segment of a window that a run wants, or the run that it is part of.
    /// False if somebody else has it, or it could not be emptied.
    pub(crate) fn empty_segment(&self, worker: &Worker<'_>, index: u32, may_drop: bool, owner: Owner) -> bool {
        let state = self.row(index).state();
        let index = if state.usage == Use::RunPart { state.who } else { index };
        if index >= self.geometry.segment_count {
            return false;
        }
        let walk = if may_drop { Walk::Evict } else { Walk::Compact };
        let usage = self.row(index).state().usage;
        // An item of a run that was used lives through as many rounds as it has uses left.
        for _ in 0..=crate::slot::USE_MAX {
            // Lost to another writer: what is here next is not what was chosen.
            let Some(victim) = self.claim(index, usage, Some(walk), owner) else { return false };
            if victim.run(worker, u64::MAX) == Progress::Freed {
                return true;
            }
        }
        false
    }

    /// Background work: free segments ahead of need, else a sweep of what expired. About
    /// `budget` bytes are walked.
    pub(crate) fn work_ahead(&self, worker: &Worker<'_>, budget: u64) -> Progress {
        let Some(owner) = self.owner else { return Progress::Nothing(false) };
        if self.census(&[]).free < self.free_target() {
            return self.reclaim(worker, budget);
        }
        let now_ms = self.host.now_ms();
        let due = (0..self.geometry.segment_count).find(|index| {
            let row = self.row(*index);
            // Relaxed: a hint.
            row.state().usage == Use::Sealed && row.sweep_due_ms().load(Ordering::Relaxed) <= now_ms
        });
        let victim = due.and_then(|index| self.claim(index, Use::Sealed, Some(Walk::Sweep), owner));
        victim.map_or(Progress::Nothing(false), |victim| victim.run(worker, budget))
    }

    /// The share of a set that consumed `bytes`: keeps some segments free ahead of need.
    #[inline]
    pub(crate) fn share_reclaim(&self, worker: &Worker<'_>, bytes: u64) {
        // Relaxed: a hint.
        let free = self.free_hint().load(Ordering::Relaxed);
        if free < self.free_target() {
            self.share_reclaim_now(worker, bytes, free);
        }
    }

    #[inline(never)]
    fn share_reclaim_now(&self, worker: &Worker<'_>, bytes: u64, free: u64) {
        // The scarcer free segments are, the more is walked for each byte consumed.
        let target = self.free_target();
        let factor = 2 + 8 * (target - free.min(target)) / target;
        // Relaxed: a number of this worker alone.
        let debt = &self.debts[worker.index];
        let owed = debt.load(Ordering::Relaxed) + bytes * factor;
        if owed < SHARE_BYTES_MIN {
            debt.store(owed, Ordering::Relaxed);
            return;
        }
        debt.store(0, Ordering::Relaxed);
        self.reclaim(worker, owed);
    }

    /// A claimed segment for this request, reclaiming until there is one.
    ///
    /// # Errors
    /// `Full`, `NoSpace`, or `Busy` when others hold all that could be reclaimed.
    pub(crate) fn obtain_segment(
        &self,
        worker: &Worker<'_>,
        purpose: Purpose,
        bytes: u64,
        owner: Owner,
        deadline: &Deadline,
    ) -> Result<u32> {
        let mut refused = None;
        let mut nothing = 0;
        // Each turn frees a segment, or somebody else took it, or there is nothing left.
        for turn in 0..u64::from(self.geometry.segment_count) * 64 {
            if turn >= FUTILE_TURNS_MAX * 2 && deadline.left_ns(&self.host) == 0 {
                break;
            }
            match self.take_free(purpose, owner) {
                Ok(Some(index)) => return Ok(index),
                Ok(None) => {}
                Err(error) => {
                    // Relaxed: a hint of this process.
                    self.space_refused_ns.store(self.host.monotonic_ns().max(1), Ordering::Relaxed);
                    refused = Some(error);
                }
            }
            if purpose == Purpose::Relocation {
                return Err(refused.unwrap_or_else(|| self.full(bytes)));
            }
            let Progress::Nothing(others) = self.reclaim(worker, self.geometry.segment_bytes()) else {
                nothing = 0;
                if turn >= FUTILE_TURNS_MAX && !self.is_no_evict() {
                    // Compaction frees no more than it takes: evict for a while.
                    // Relaxed: a hint of this process.
                    self.compaction_futile_ns.store(self.host.monotonic_ns().max(1), Ordering::Relaxed);
                }
                continue;
            };
            nothing += 1;
            match nothing {
                // What idle lanes hold open can be reclaimed too.
                1 => self.seal_idle_lanes(false),
                2 => self.seal_idle_lanes(true),
                // Hints may be wrong after a death, a clear or mass expiry: count.
                3 => self.recount(),
                _ if !others => break,
                _ => {
                    if deadline.left_ns(&self.host) == 0 {
                        worker.count(Counter::Busy, 1);
                        return Err(deadline.busy(&self.host));
                    }
                    // Others are at work on it: let them.
                    crate::sync::yield_now();
                }
            }
        }
        worker.count(Counter::Full, 1);
        Err(refused.unwrap_or_else(|| self.full(bytes)))
    }

    /// True if the file system refused memory, or compaction gained nothing, a moment ago.
    fn is_compaction_vain(&self) -> bool {
        [&self.space_refused_ns, &self.compaction_futile_ns].iter().any(|noted| {
            // Relaxed: a hint of this process.
            let noted_ns = noted.load(Ordering::Relaxed);
            noted_ns != 0 && self.host.monotonic_ns().saturating_sub(noted_ns) < VAIN_NS
        })
    }

    /// Recounts the live bytes of every sealed segment from its items.
    pub(crate) fn recount(&self) {
        for index in 0..self.geometry.segment_count {
            let row = self.row(index);
            if row.state().usage == Use::Sealed {
                let sequence = row.sequence().load(Ordering::Acquire);
                let live = self.count_live(index);
                if row.sequence().load(Ordering::Acquire) == sequence && row.state().usage == Use::Sealed {
                    // Relaxed: a hint.
                    row.live().store(live, Ordering::Relaxed);
                }
            }
        }
    }

    /// Live bytes of a segment, by a walk that changes nothing.
    pub(crate) fn count_live(&self, index: u32) -> u64 {
        let mut live = 0;
        let mut key = Vec::new();
        self.walk_items(index, 0, &mut |offset, head, step| {
            if head.kind != kind::FILLER
                && let Some((hash, meta)) = self.read_identity(offset, &mut key)
                && self.find_place(hash, offset).is_some()
                && !self.is_dead(&meta, self.stripe(hash.stripe(self.geometry.stripe_count)))
            {
                live += step;
            }
            true
        });
        live
    }

    /// Visits the items of a segment from byte `at` on: offset, header, bytes to the next.
    /// Ends at the write offset, at a header that no writer makes, or when told to.
    pub(crate) fn walk_items(&self, index: u32, mut at: u64, visit: &mut dyn FnMut(u64, Head, u64) -> bool) -> u64 {
        let row = self.row(index);
        let start = self.geometry.segment_offset(index);
        let room = if row.state().is_run { u64::from(u32::MAX) } else { self.geometry.segment_bytes() };
        // Acquire: pairs with the Release of the append. Bounded: not trusted.
        let written = row.written().load(Ordering::Acquire).min(room);
        while at + 8 <= written && self.is_readable(start + at, 8) {
            // Relaxed: below the write offset, which was loaded with Acquire.
            let head = Head::from_word(self.region.word(start + at).load(Ordering::Relaxed));
            let step = head.step();
            if step < 8 || at + step > written {
                return written;
            }
            if !visit(start + at, head, step) {
                return at;
            }
            at += step;
        }
        written.max(at)
    }

    /// Hash and meta of the item at `offset`; its key in `key`.
    pub(crate) fn read_identity(&self, offset: u64, key: &mut Vec<u8>) -> Option<(Hash, crate::types::Meta)> {
        let candidate = self.candidate(Slot::new(0, Queue::Small, 0, offset))?;
        candidate.copy_key(key);
        Some((self.hasher.hash(key), candidate.meta))
    }

    /// The slot that names `offset` now, and the ghost word of its key's first bucket.
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
            for number in hash.buckets(self.geometry.bucket_shift) {
                let Some(met) = self.meet(path.entry.offset(), path.entry.depth(), tag, number) else {
                    if path.is_current() {
                        return done;
                    }
                    continue 'again;
                };
                for slot in met.bucket.slots() {
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
                // Acquire: the bucket did not change while it was searched.
                if met.bucket.counter().load(Ordering::Acquire) != met.counter {
                    continue 'again;
                }
            }
            if path.is_current() {
                return done;
            }
        }
    }

    /// The offset of the ghosts that a key shares with the neighbours of its first bucket,
    /// and how many words they have.
    ///
    /// Eight buckets remember together, in one cache line, the newest word first: one by
    /// one, what a bucket remembers would end after anything between half and twice the
    /// mean number of drops. Seven of the eight words are used, because a block in steady
    /// state holds three to four items a bucket, and S3-FIFO remembers as many keys as it
    /// holds: a fifth more costs a point on loops that are a little longer than the cache.
    fn ghosts(&self, hash: Hash) -> Option<(u64, u64)> {
        let path = self.path(hash)?;
        let [number, _] = hash.buckets(self.geometry.bucket_shift);
        let mut at = path.entry.offset();
        let mut depth = path.entry.depth();
        // A block that is being split keeps its ghosts until its buckets moved.
        while let Some(child) = self.child(at, depth, hash.tag()) {
            (at, depth) = (child, depth + 1);
        }
        let together = GHOST_BUCKETS.min(self.geometry.bucket_count());
        let first = at + block::BUCKETS + self.geometry.bucket_count() * block::BUCKET_BYTES;
        Some((first + 8 * (number & !(together - 1)), together * 7 / 8))
    }

    /// Remembers that this key was dropped from small.
    fn remember(&self, hash: Hash) {
        let Some((first, count)) = self.ghosts(hash) else { return };
        let mut moved_on = ghost(hash);
        for at in 0..count {
            let word = self.region.word(first + 8 * at);
            // Relaxed: a hint; a lost race forgets some keys.
            let old = word.load(Ordering::Relaxed);
            word.store(old << 16 | moved_on, Ordering::Relaxed);
            moved_on = old >> 48;
        }
    }

    /// True if this key was dropped from small not long ago; forgets it.
    pub(crate) fn recall(&self, hash: Hash) -> bool {
        let Some((first, count)) = self.ghosts(hash) else { return false };
        for at in 0..count {
            // Relaxed: a hint.
            let word = self.region.word(first + 8 * at).load(Ordering::Relaxed);
            for lane in 0..4 {
                if word >> (16 * lane) & 0xffff == ghost(hash) {
                    self.region.word(first + 8 * at).store(word & !(0xffff << (16 * lane)), Ordering::Relaxed);
                    return true;
                }
            }
        }
        false
    }
}

/// Sixteen bits of a key, never 0.
fn ghost(hash: Hash) -> u64 {
    (hash.0 >> 14 & 0xffff).max(1)
}

impl<H: Host> Victim<'_, H> {
    fn release(&mut self, to: State) {
        self.map.row(self.index).change(self.ours, to);
        self.released = true;
    }

    fn state(&self) -> State {
        State::from_word(self.ours)
    }

    /// Walks about `budget` bytes.
    fn run(mut self, worker: &Worker<'_>, budget: u64) -> Progress {
        if self.state().is_run {
            return self.run_of_segments(worker);
        }
        let mut walked = 0;
        let mut batch: Vec<(u64, u64)> = Vec::with_capacity(BATCH);
        let mut key = Vec::new();
        loop {
            batch.clear();
            let from = self.at;
            let end = self.map.walk_items(self.index, from, &mut |offset, head, step| {
                if batch.len() == BATCH {
                    return false;
                }
                batch.push((offset, if head.kind == kind::FILLER { 0 } else { step }));
                true
            });
            if batch.is_empty() {
                break;
            }
            let mut hashes = [None; BATCH];
            for (slot, (offset, bytes)) in hashes.iter_mut().zip(&batch) {
                if *bytes != 0
                    && let Some((hash, meta)) = self.map.read_identity(*offset, &mut key)
                {
                    self.map.prefetch(hash);
                    *slot = Some((hash, meta));
                }
            }
            for (identity, (offset, bytes)) in hashes.iter().zip(&batch) {
                if let Some((hash, meta)) = identity
                    && !self.dispose(worker, *hash, meta, *offset, *bytes)
                {
                    // Nowhere to copy to: back into the order, for a time when it is better.
                    let sealed = self.state().to(Use::Sealed);
                    self.release(sealed);
                    return Progress::Nothing(false);
                }
                self.at = offset - self.map.geometry.segment_offset(self.index) + bytes.max(&8);
            }
            self.at = end;
            walked += end - from;
            if walked >= budget {
                // Done with this share, unless the end is reached anyway.
                // Relaxed: the segment is ours.
                if self.at < self.map.row(self.index).written().load(Ordering::Relaxed) {
                    return Progress::Worked;
                }
            }
        }
        if self.walk == Walk::Sweep {
            self.end_sweep();
            return Progress::Worked;
        }
        if self.finish() { Progress::Freed } else { Progress::Worked }
    }

    /// Decides over one item. False if it had to be copied and could not be.
    fn dispose(&mut self, worker: &Worker<'_>, hash: Hash, meta: &crate::types::Meta, offset: u64, bytes: u64) -> bool {
        let map = self.map;
        let Some(slot) = map.find_place(hash, offset) else { return true };
        let stripe = map.stripe(hash.stripe(map.geometry.stripe_count));
        let row = map.row(self.index);
        let unlink = |counter: Counter| {
            let unlinked = map.change_place(hash, offset, Some(Slot(0))).is_some();
            if unlinked {
                // Relaxed: hints.
                stripe.items().fetch_sub(1, Ordering::Relaxed);
                row.sub_live(bytes);
                worker.count(counter, 1);
            }
            unlinked
        };
        if map.is_dead(meta, stripe) {
            unlink(Counter::Expirations);
            return true;
        }
        let to = match (self.walk, slot.queue()) {
            (Walk::Sweep, _) => return true,
            (Walk::Compact, queue) => Some((queue, slot.uses())),
            (Walk::Evict, Queue::Small) => (slot.uses() > 0).then_some((Queue::Main, 0)),
            (Walk::Evict, Queue::Main) => (slot.uses() > 0).then(|| (Queue::Main, slot.uses() - 1)),
        };
        if let Some((queue, uses)) = to {
            match self.relocate(worker, hash, meta, offset, bytes, queue, uses) {
                Ok(()) => return true,
                // What was to be kept is kept; a lack of room ends in a walk that evicts.
                Err(_) if map.is_no_evict() || self.walk == Walk::Compact => return false,
                Err(_) => {}
            }
        }
        if slot.queue() == Queue::Small {
            map.remember(hash);
        }
        unlink(Counter::Evictions);
        true
    }

    /// Copies an item on and relinks it.
    #[expect(clippy::too_many_arguments, reason = "the parts of one item, used once")]
    fn relocate(
        &self,
        worker: &Worker<'_>,
        hash: Hash,
        meta: &crate::types::Meta,
        offset: u64,
        bytes: u64,
        queue: Queue,
        uses: u64,
    ) -> Result<()> {
        let map = self.map;
        // Relaxed: the item is linked and never changes.
        let head = Head::from_word(map.region.word(offset).load(Ordering::Relaxed));
        let request = Request { head, bytes, queue, purpose: Purpose::Relocation };
        let place = map.reserve(worker, worker.relocate_pin, request, &Deadline::new(0))?;
        let from = map.region.slice(offset, bytes as usize / 8);
        let to = map.region.slice(place.offset, bytes as usize / 8);
        for (from, to) in from.iter().zip(to).skip(1) {
            // Relaxed: published by the CAS of the relink.
            to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        let row = map.row(place.segment);
        row.note_expiry(meta.expires_at_ms);
        row.add_live(bytes);
        if map.change_place(hash, offset, Some(Slot::new(hash.tag(), queue, uses, place.offset))).is_some() {
            map.row(self.index).sub_live(bytes);
            worker.count(Counter::RelocatedBytes, bytes);
        } else {
            // Its owner replaced it in the meantime; the copy is dead space.
            row.sub_live(bytes);
        }
        // Release: the link is made, or never will be. Pairs with `pinned_by`.
        worker.relocate_pin.store(0, Ordering::Release);
        Ok(())
    }

    /// A run holds one item: it is dropped, or stays where it is for another round.
    fn run_of_segments(mut self, worker: &Worker<'_>) -> Progress {
        let map = self.map;
        let offset = map.geometry.segment_offset(self.index);
        let mut key = Vec::new();
        if let Some((hash, meta)) = map.read_identity(offset, &mut key)
            && let Some(slot) = map.find_place(hash, offset)
        {
            let stripe = map.stripe(hash.stripe(map.geometry.stripe_count));
            let is_dead = map.is_dead(&meta, stripe);
            let stays = !is_dead && (self.walk != Walk::Evict || slot.uses() > 0);
            if stays {
                let uses = if slot.queue() == Queue::Main { slot.uses().saturating_sub(1) } else { 0 };
                let to = match self.walk {
                    Walk::Evict => Slot::new(hash.tag(), Queue::Main, uses, offset),
                    _ => slot,
                };
                map.change_place(hash, offset, Some(to));
                let row = map.row(self.index);
                row.set_ticket(map.next_ticket());
                // Relaxed: a hint. Looked at again when it can have expired.
                row.sweep_due_ms().store(meta.expires_at_ms, Ordering::Relaxed);
                let state = State { queue: to.queue(), ..self.state() };
                self.release(state.to(Use::Sealed));
                return Progress::Worked;
            }
            if !is_dead && slot.queue() == Queue::Small {
                map.remember(hash);
            }
            if map.change_place(hash, offset, Some(Slot(0))).is_some() {
                // Relaxed: a hint.
                stripe.items().fetch_sub(1, Ordering::Relaxed);
                worker.count(if is_dead { Counter::Expirations } else { Counter::Evictions }, 1);
            }
        }
        if self.finish() { Progress::Freed } else { Progress::Worked }
    }

    /// After a sweep: the segment is sealed again, and left alone for a while.
    fn end_sweep(&mut self) {
        let row = self.map.row(self.index);
        let now_ms = self.map.host.now_ms();
        // Relaxed: hints. What had expired was subtracted from the live bytes on the way.
        let latest = row.latest_expiry_ms().load(Ordering::Relaxed);
        let span = if latest == NEVER { SWEEP_MS_MIN * SWEEP_PARTS * 4 } else { latest.saturating_sub(now_ms) };
        row.sweep_due_ms().store(now_ms + (span / SWEEP_PARTS).max(SWEEP_MS_MIN), Ordering::Relaxed);
        let sealed = self.state().to(Use::Sealed);
        self.release(sealed);
    }

    /// Everything is unlinked: free the segment, or condemn it while somebody reads.
    fn finish(mut self) -> bool {
        let map = self.map;
        // SeqCst: our unlinks before the scan; a reader pins, fences and looks at the slot
        // again. One of the two sees the other. [loom: pin]
        fence(Ordering::SeqCst);
        let mut pinner = participant::pinned_by(&map.region, &map.geometry, self.index, Pins::Read);
        if let Some(slot) = pinner
            && map.retire_if_dead(slot)
        {
            pinner = participant::pinned_by(&map.region, &map.geometry, self.index, Pins::Read);
        }
        if pinner.is_some() {
            let condemned = self.state().to(Use::Condemned);
            self.release(condemned);
            return false;
        }
        self.released = true;
        if self.state().is_run {
            map.release_run(self.index, self.ours)
        } else {
            map.free_segment(self.index, self.ours)
        }
    }
}

impl<H: Host> Drop for Victim<'_, H> {
    fn drop(&mut self) {
        if self.released {
            return;
        }
        let row = self.map.row(self.index);
        if self.at == u64::MAX || self.state().is_run {
            // Nothing was walked: begin again from the start.
            row.change(self.ours, self.state().to(Use::Sealed));
            return;
        }
        // Relaxed: ordered by the state's CAS.
        row.progress().store(self.at | (self.walk as u64) << 32, Ordering::Relaxed);
        row.change(self.ours, self.state().to(Use::Draining));
        // Relaxed: a hint.
        self.map.control_word(control::VICTIM_HINT).store(u64::from(self.index) + 1, Ordering::Relaxed);
    }
}
