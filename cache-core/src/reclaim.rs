//! Reclaim: how space comes back.
//!
//! Owns: how much of a victim segment is walked when, and what is done where nothing can be
//! reclaimed. Which segment is next is in `census`, what happens to it in `victim`. The policy is
//! S3-FIFO (Yang et al., SOSP 2023, algorithm 1) a segment at a time: small gives up unused
//! items and remembers them as ghosts, main gives items one more round for each use.
//!
//! Must never take a stripe lock: items are removed and relocated by the same bump and
//! CAS that writers use, so a frozen writer cannot stop reclaim, nor reclaim a writer.
//!
//! The order of one victim (P5 in `docs/design.md`): claim; fence; no write pin; walk;
//! fence; no read pin; sequence + 1; free. Between calls nobody owns a victim: at the end
//! of its share a reclaimer stores how far it got and lets go.

use crate::deadline::Deadline;
use crate::error::Result;
use crate::host::Host;
use crate::layout::control;
use crate::lock::Owner;
use crate::map::Map;
use crate::participant::{self, Pins, Worker};
use crate::segment::{Purpose, RESERVE_COUNT, State, Use};
use crate::stats::Counter;
use crate::sync::{AtomicU64, Ordering, fence};
use crate::types::kind;
use crate::victim::Victim;

/// Work of one share, in bytes walked, below which sets save it up.
const SHARE_BYTES_MIN: u64 = 1024;
/// Condemned bytes beyond which views are copies, in percent of the segments.
const CONDEMNED_PERCENT_MAX: u64 = 5;

/// How long a refusal of the file system, or a futile compaction, counts, in nanoseconds.
const VAIN_NS: u64 = 1_000_000_000;
/// Longest wait for those who walk victims until an evicting region stops to compact, in
/// nanoseconds: they may have been stopped. Longer than many processes on few cores wait for
/// their turn.
const OTHERS_NS_MAX: u64 = 250_000_000;
/// Turns of reclaim for one segment after which an evicting region stops to compact.
const FUTILE_TURNS_MAX: u64 = 16;

/// What a walk does with items that live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub(crate) enum Walk {
    /// S3-FIFO decides.
    Evict = 0,
    /// All are copied on.
    Compact = 1,
    /// All stay; only the dead are unlinked.
    Sweep = 2,
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

/// Drops for one segment what cannot be copied on. However the search for it ends: others work
/// here, and by the next time may have made room.
struct DropsOnce<'m, H: Host> {
    map: &'m Map<H>,
    is_begun: bool,
}

impl<H: Host> DropsOnce<'_, H> {
    fn begin(&mut self) {
        self.map.evict_for_a_while();
        self.is_begun = true;
    }
}

impl<H: Host> Drop for DropsOnce<'_, H> {
    fn drop(&mut self) {
        if self.is_begun {
            // Relaxed: a hint of this process.
            self.map.compaction_futile_ns.store(0, Ordering::Relaxed);
        }
    }
}

impl<H: Host> Map<H> {
    pub(crate) fn stored_walk(&self, progress: &AtomicU64) -> Walk {
        // Relaxed: ordered by the state's Acquire. A no-evict region never evicts,
        // whatever the word says.
        match progress.load(Ordering::Relaxed) >> 32 & 3 {
            0 if !self.is_no_evict() => Walk::Evict,
            0 => Walk::Compact,
            1 => Walk::Compact,
            _ => Walk::Sweep,
        }
    }

    /// How to go on with a walk that was begun, or meant, as `walk`.
    pub(crate) fn walk_on(&self, walk: Walk, is_evicting: impl FnOnce() -> bool) -> Walk {
        match walk {
            // Begun when there was no other way, perhaps long ago.
            Walk::Evict if !is_evicting() => Walk::Compact,
            // There is nowhere to copy to.
            Walk::Compact if !self.is_no_evict() && self.is_compaction_vain() => Walk::Evict,
            walk => walk,
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
        if let Some(victim) = self.claim_half_walked(owner) {
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
            let Some((_, _, index, mut walk)) = census.choice else { break };
            // A compaction needs somewhere to copy to, beside what others still copy.
            if census.is_short(self.geometry.segment_bytes()) {
                if self.is_no_evict() || !self.is_compaction_vain() {
                    others = true;
                    break;
                }
                // Who evicts needs no room: what cannot be copied is dropped.
                walk = Walk::Evict;
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

    /// Takes the victim that was let go last.
    fn claim_half_walked(&self, owner: Owner) -> Option<Victim<'_, H>> {
        if self.free_segments_hint() == 0 {
            // What is free is promised: the census says whether this one may go on.
            return None;
        }
        // Relaxed: a hint.
        let hint = self.control_word(control::VICTIM_HINT).load(Ordering::Relaxed);
        let index = (hint as u32).checked_sub(1).filter(|index| *index < self.geometry.segment_count)?;
        self.claim(index, Use::Draining, None, owner)
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
            let stored = self.stored_walk(row.progress());
            let walk = walk.unwrap_or_else(|| self.walk_on(stored, || self.is_tight()));
            // A sweep leaves behind it what lives: who empties the segment begins anew.
            let is_left_behind = stored == Walk::Sweep && walk != Walk::Sweep;
            let at = row.progress().load(Ordering::Relaxed) as u32 & !7;
            (walk, if is_left_behind { 0 } else { at })
        } else {
            (walk.unwrap_or(Walk::Evict), 0)
        };
        let mut victim = Victim::new(self, index, ours, walk, u64::from(at));
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
        // A run's word holds its length.
        if !state.is_run && (self.stored_walk(row.progress()) == Walk::Sweep) != (walk == Walk::Sweep) {
            // Relaxed: says to others what we promise, a hint; ordered by the fence of who looks at
            // the promises of all.
            row.progress().store(u64::from(at) | (walk as u64) << 32, Ordering::Relaxed);
        }
        // What is all dead needs no room.
        if walk == Walk::Compact && !self.has_room_for_all() && !self.is_all_dead(index, self.moment()) {
            victim.put_back();
            return None;
        }
        Some(victim)
    }

    /// False if a compaction that was just claimed and those of others may run out of room to
    /// copy to: then each would stop half way, and no segment would ever be gained. A census
    /// before the claim does not see who claims beside it; of two who look after their claims
    /// at least one sees the other.
    fn has_room_for_all(&self) -> bool {
        if self.free_segments_hint() > u64::from(RESERVE_COUNT) {
            return true;
        }
        // SeqCst: our claim before our look at the claims of others. A guess all the same: what
        // lives is a hint, and a walk that finds no room gives its segment back unharmed.
        fence(Ordering::SeqCst);
        let (mut free, mut walked, mut promised_bytes) = (0, 0, 0);
        let moment = self.moment();
        for index in 0..self.geometry.segment_count {
            let state = self.row(index).state();
            free += u64::from(state.usage == Use::Free);
            walked += u64::from(state.usage == Use::Reclaiming);
            promised_bytes += self.promised_bytes(index, state, moment);
        }
        walked == 1 || promised_bytes <= free * self.geometry.segment_bytes()
    }

    pub(crate) fn retire_if_dead(&self, slot: u32) -> bool {
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
                freed |= Victim::new(self, index, ours, Walk::Evict, Victim::<H>::WALKED).finish();
            }
        }
        freed
    }

    /// Segments in the hands of the dead are given back. True if one was.
    pub(crate) fn release_the_dead(&self) -> bool {
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
            // [loom: run]
            Use::Claimed if state.is_run => self.owner.is_some_and(|me| {
                let ours = state.owned(Use::Reclaiming, me);
                row.change(from, ours) && self.release_run(index, ours.to_word())
            }),
            Use::Claimed => self.free_segment(index, from),
            // From the start, with the look for write pins that it may have died before.
            Use::Reclaiming => {
                // Relaxed: a hint. A sweep may have died before it said when the next is due.
                row.sweep_due_ms().store(0, Ordering::Relaxed);
                row.change(from, state.to(Use::Sealed))
            }
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

    /// The segment that is walked to empty `index`: itself, or the head of the run that it is
    /// part of; and the number of its incarnation.
    pub(crate) fn incarnation(&self, index: u32) -> Option<(u32, u64)> {
        let word = self.row(index).state_word();
        let state = State::from_word(word);
        let head = if state.usage == Use::RunPart { state.who } else { index };
        if head >= self.geometry.segment_count {
            return None;
        }
        // Acquire: before what is read of this incarnation; and the segment was part of it.
        let sequence = self.row(head).sequence().load(Ordering::Acquire);
        (self.row(index).state_word() == word).then_some((head, sequence))
    }

    /// Empties one segment of a window that a run wants, or the run that it is part of.
    /// False if somebody else has it, if it is another incarnation by now, or if it could not
    /// be emptied.
    pub(crate) fn empty_segment(
        &self,
        worker: &Worker<'_>,
        (index, sequence): (u32, u64),
        may_drop: bool,
        owner: Owner,
    ) -> bool {
        let walk = if may_drop { Walk::Evict } else { Walk::Compact };
        let usage = self.row(index).state().usage;
        // An item of a run that was used lives through as many rounds as it has uses left.
        for _ in 0..=crate::slot::USE_MAX {
            // Lost to another writer: what is here next is not what was chosen.
            let Some(mut victim) = self.claim(index, usage, Some(walk), owner) else { return false };
            // Acquire: it is ours now, and does not change any more.
            if self.row(index).sequence().load(Ordering::Acquire) != sequence {
                victim.put_back();
                return false;
            }
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
            let progress = self.reclaim(worker, budget);
            // A full region that drops nothing has nothing to reclaim until something has expired.
            if !matches!(progress, Progress::Nothing(_)) {
                return progress;
            }
        }
        self.seal_expired_lanes();
        if let Some(victim) = self.claim_half_walked(owner) {
            return victim.run(worker, budget);
        }
        let now_ms = self.host.now_ms();
        let is_due = |index: &u32| {
            let row = self.row(*index);
            // Relaxed: a hint.
            row.state().usage == Use::Sealed && row.sweep_due_ms().load(Ordering::Relaxed) <= now_ms
        };
        // Not only the first: a stopped writer can keep one from being claimed.
        let claim = |index| self.claim(index, Use::Sealed, Some(Walk::Sweep), owner);
        let victim = (0..self.geometry.segment_count).filter(is_due).find_map(claim);
        victim.map_or(Progress::Nothing(false), |victim| victim.run(worker, budget))
    }

    /// The share of a set that consumed `bytes`: keeps some segments free ahead of need.
    #[inline]
    pub(crate) fn share_reclaim(&self, worker: &Worker<'_>, bytes: u64) {
        let free = self.free_segments_hint();
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

    /// A claimed segment for this request, reclaiming until there is one; `None` once it
    /// `is_wanted` no more.
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
        is_wanted: &dyn Fn() -> bool,
    ) -> Result<Option<u32>> {
        let mut refused = None;
        let (mut nothing, mut futile) = (0, 0);
        let mut drops_once = DropsOnce { map: self, is_begun: false };
        // An item of an evicting region lives through as many turns as it has uses; a no-evict
        // region that compacts in vain waits for others to delete.
        let turns_kept = if self.is_no_evict() {
            2 * FUTILE_TURNS_MAX
        } else {
            u64::from(self.geometry.segment_count) * (crate::slot::USE_MAX + 2)
        };
        // Each turn frees a segment, or somebody else took it, or there is nothing left. A wait
        // is no turn.
        let mut turn = 0;
        while turn < u64::from(self.geometry.segment_count) * 64 {
            if turn >= turns_kept && deadline.left_ns(&self.host) == 0 {
                worker.count(Counter::Busy, 1);
                return Err(refused.unwrap_or_else(|| deadline.busy(&self.host)));
            }
            match self.take_free(purpose, bytes, owner) {
                Ok(Some(index)) => {
                    if purpose == Purpose::Relocation {
                        worker.taken_count.set(worker.taken_count.get() + 1);
                    }
                    return Ok(Some(index));
                }
                Ok(None) => {}
                Err(error) => {
                    // Relaxed: a hint of this process.
                    self.space_refused_ns.store(self.host.monotonic_ns().max(1), Ordering::Relaxed);
                    if !(0..self.geometry.segment_count).any(|index| self.could_hold(index, bytes)) {
                        return Err(error);
                    }
                    refused = Some(error);
                }
            }
            if !is_wanted() {
                return Ok(None);
            }
            if purpose == Purpose::Relocation {
                return Err(refused.unwrap_or_else(|| self.full(bytes)));
            }
            turn += 1;
            let taken_count = worker.taken_count.get();
            let progress = self.reclaim(worker, self.geometry.segment_bytes());
            let Progress::Nothing(others) = progress else {
                nothing = 0;
                // What was gained and is gone went to others, who may give it back.
                let is_gain = progress == Progress::Freed && worker.taken_count.get() == taken_count;
                futile = if is_gain { 0 } else { futile + 1 };
                if futile >= FUTILE_TURNS_MAX && !self.is_no_evict() {
                    // Compaction frees no more than it takes.
                    self.evict_for_a_while();
                }
                continue;
            };
            let is_late = deadline.left_ns(&self.host) == 0;
            let has_waited = is_late || deadline.waited_ns(&self.host) > OTHERS_NS_MAX;
            if others && !has_waited {
                // Others are at work on it: let them.
                crate::sync::yield_now();
                turn -= 1;
                continue;
            }
            nothing += 1;
            match nothing {
                // What others copy to is not to be sealed under them.
                _ if others && !self.is_no_evict() && !self.is_compaction_vain() => {
                    drops_once.begin();
                }
                // What idle lanes hold open can be reclaimed too.
                1 => self.seal_idle_lanes(false),
                2 => self.seal_idle_lanes(true),
                // Hints may be wrong after a death, a clear or mass expiry: count.
                3 => self.recount(),
                _ if !self.is_no_evict() && !self.is_compaction_vain() => {
                    drops_once.begin();
                }
                _ if !others => break,
                _ if is_late => {
                    worker.count(Counter::Busy, 1);
                    return Err(deadline.busy(&self.host));
                }
                _ => {
                    crate::sync::yield_now();
                    turn -= 1;
                }
            }
        }
        worker.count(Counter::Full, 1);
        Err(refused.unwrap_or_else(|| self.full(bytes)))
    }

    /// True if the segment has memory for `bytes` bytes, and may be free one day.
    fn could_hold(&self, index: u32, bytes: u64) -> bool {
        let row = self.row(index);
        row.state().usage != Use::Index && row.has_memory(&self.geometry, bytes)
    }

    /// From now on, for a while, what cannot be copied on is dropped.
    pub(crate) fn evict_for_a_while(&self) {
        // Relaxed: a hint of this process.
        self.compaction_futile_ns.store(self.host.monotonic_ns().max(1), Ordering::Relaxed);
    }

    /// True if the file system refused memory, or compaction gained nothing, a moment ago.
    pub(crate) fn is_compaction_vain(&self) -> bool {
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
        let walked = self.walk_items(index, 0, &mut |offset, head, step| {
            if head.kind != kind::FILLER
                && let Some((hash, meta)) = self.read_identity(offset, &mut key)
                && self.find_place(hash, offset).is_some()
                && !self.is_dead(&meta, self.stripe(hash.stripe(self.geometry.stripe_count)))
            {
                live += step;
            }
            true
        });
        // What cannot be read may live.
        if walked.is_cut_off { self.row(index).written().load(Ordering::Relaxed) } else { live }
    }
}
