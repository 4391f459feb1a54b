//! Runs: consecutive segments that hold one value larger than a segment.
//!
//! Owns: finding a window, emptying the cheapest one where none is free, and giving a
//! run back. The head names the length before its parts name the head, and the parts are
//! freed before the head, so that no death leaves a part without a run.

use crate::deadline::Deadline;
use crate::error::Result;
use crate::host::Host;
use crate::lock::Owner;
use crate::map::Map;
use crate::participant::Worker;
use crate::reclaim::Progress;
use crate::segment::{RESERVE_COUNT, State, Use};
use crate::stats::Counter;
use crate::sync::Ordering;

/// Windows that are tried before a run is given up, whatever the deadline.
const WINDOW_TRIES_MAX: u32 = 1 << 16;
/// Tries by compaction alone before an evict region drops what stands in the way.
const COMPACT_TRIES: u32 = 3;
/// Equal windows among which writers spread.
const EQUALS_MAX: u32 = 8;

impl<H: Host> Map<H> {
    /// The head of a claimed run of `length` segments.
    ///
    /// # Errors
    /// `Full` when no window can be emptied, `Busy` when others kept what it takes until the
    /// deadline, `NoSpace`.
    pub(crate) fn obtain_run(
        &self,
        worker: &Worker<'_>,
        length: u32,
        owner: Owner,
        deadline: &Deadline,
    ) -> Result<u32> {
        let bytes = u64::from(length) << self.geometry.segment_shift;
        let mut hopeless = 0;
        for attempt in 0..WINDOW_TRIES_MAX {
            // Compaction first; an evict region drops what stands in the way if that fails.
            let may_drop = attempt >= COMPACT_TRIES && !self.is_no_evict();
            match self.cheapest_window(length, may_drop, false, owner.index() + worker.index as u32) {
                Some(window) => {
                    if let Some(head) = self.claim_window(worker, window, length, may_drop, owner) {
                        return Ok(head);
                    }
                }
                None => {
                    // What idle lanes hold open may stand in the way, or what others walk. It
                    // stays open where that would not help: what is sealed takes no more items.
                    if self.cheapest_window(length, may_drop, true, 0).is_some() {
                        self.seal_idle_lanes(true);
                    }
                    let progress = self.reclaim(worker, self.geometry.segment_bytes());
                    hopeless = if progress == Progress::Nothing(false) { hopeless + 1 } else { 0 };
                    if hopeless == COMPACT_TRIES {
                        if self.is_no_evict() {
                            // Hints may be wrong after a clear or an eviction by a tag: count.
                            self.recount();
                        } else {
                            self.evict_for_a_while();
                        }
                    }
                    if hopeless > COMPACT_TRIES * 2 {
                        break;
                    }
                }
            }
            if attempt > COMPACT_TRIES * 2 && deadline.left_ns(&self.host) == 0 {
                worker.count(Counter::Busy, 1);
                return Err(deadline.busy(&self.host));
            }
            if attempt > COMPACT_TRIES {
                // Others are at work on what we need: let them.
                crate::sync::yield_now();
            }
        }
        worker.count(Counter::Full, 1);
        Err(self.full(bytes))
    }

    /// What it costs to empty segment `index`: live bytes; `None` if it cannot be.
    /// Runs cannot be moved: they stand in the way unless they may be dropped or are dead.
    /// So do open segments, unless they are to be sealed.
    fn emptying_cost(&self, index: u32, may_drop: bool, seals: bool) -> Option<u64> {
        let row = self.row(index);
        let state = row.state();
        match state.usage {
            Use::Free => Some(0),
            Use::Open if !seals => None,
            Use::Open | Use::Sealed | Use::Draining => {
                // Relaxed: a hint, bounded because costs are added up. One byte even for dead
                // segments: free ones are better.
                let live = row.live_bytes(row.written().load(Ordering::Relaxed).min(self.geometry.data_bytes()));
                (!state.is_run || live == 0 || may_drop).then_some(1 + live)
            }
            Use::RunPart => {
                let head = (state.who < self.geometry.segment_count).then(|| self.row(state.who))?;
                let is_whole = head.state().is_run && head.state().usage == Use::Sealed;
                let live = head.live_bytes(u64::MAX);
                (is_whole && (live == 0 || may_drop)).then_some(1 + live.min(self.geometry.segment_bytes()))
            }
            _ => None,
        }
    }

    /// The cost and the first segment of the window that costs least to empty; among equals
    /// another for each `asker`, so that two do not fight for one.
    fn cheapest_window(&self, length: u32, may_drop: bool, seals: bool, asker: u32) -> Option<(u64, u32)> {
        let costs: Vec<Option<u64>> =
            (0..self.geometry.segment_count).map(|index| self.emptying_cost(index, may_drop, seals)).collect();
        let free = costs.iter().filter(|cost| **cost == Some(0)).count() as u32;
        // The best window so far, how many equal ones were before it, and where the next would begin:
        // equal ones do not overlap, or what is left between two that were taken holds no run.
        let (mut best, mut equals, mut next) = (None, 0, 0);
        for (first, window) in costs.windows(length as usize).enumerate() {
            let Some(cost) = window.iter().copied().sum::<Option<u64>>() else { continue };
            let taken = window.iter().filter(|cost| **cost == Some(0)).count() as u32;
            // The reserve stays outside, or relocation has nowhere to copy to.
            if free - taken < RESERVE_COUNT {
                continue;
            }
            equals = match best {
                Some((least, _)) if cost > least || (cost == least && first < next) => continue,
                Some((least, _)) if cost == least => equals + 1,
                _ => 0,
            };
            next = first + length as usize;
            if equals <= asker % EQUALS_MAX {
                best = Some((cost, first as u32));
            }
        }
        best
    }

    /// Claims the window in ascending order, emptying what is in use. On any failure
    /// everything that was claimed is given back; so it is when emptying would cost more
    /// than it did when the window was chosen, because then another writer was here before
    /// us, and what it wrote is not ours to drop.
    fn claim_window(
        &self,
        worker: &Worker<'_>,
        (mut budget, first): (u64, u32),
        length: u32,
        may_drop: bool,
        owner: Owner,
    ) -> Option<u32> {
        let claimed = State::FREE.owned(Use::Claimed, owner);
        let give_back = |until: u32| {
            for index in first..until {
                self.free_segment(index, claimed.to_word());
            }
        };
        for index in first..first + length {
            let row = self.row(index);
            let mut is_ours = false;
            for _ in 0..4 {
                let from = row.state_word();
                if State::from_word(from).usage == Use::Free {
                    is_ours = row.change(from, claimed);
                    break;
                }
                // What is emptied is what the cost was asked of.
                let Some(incarnation) = self.incarnation(index) else { break };
                let left = self.emptying_cost(index, may_drop, false).and_then(|cost| budget.checked_sub(cost));
                let Some(left) = left else { break };
                budget = left;
                if !self.empty_segment(worker, incarnation, may_drop, owner) {
                    break;
                }
            }
            if !is_ours {
                give_back(index);
                return None;
            }
            // Relaxed: a hint.
            self.free_hint().fetch_sub(1, Ordering::Relaxed);
        }
        // The head first, with its length, then the parts that name it. [loom: run]
        let head = self.row(first);
        // Relaxed: published by the state change.
        head.progress().store(u64::from(length) << 32, Ordering::Relaxed);
        head.change(claimed.to_word(), State { is_run: true, ..claimed });
        for index in first + 1..first + length {
            self.row(index).change(claimed.to_word(), State { usage: Use::RunPart, who: first, ..State::FREE });
        }
        Some(first)
    }

    /// Gives a run back whose head has the state word `from`: its sequence first, then
    /// every part, the head last.
    pub(crate) fn release_run(&self, head: u32, from: u64) -> bool {
        let row = self.row(head);
        // Bounded: the length is not trusted.
        let length = row.run_length().min(u64::from(self.geometry.segment_count - head)) as u32;
        // AcqRel: readers that still copy compare it. [loom: run]
        row.sequence().fetch_add(1, Ordering::AcqRel);
        let part = State { usage: Use::RunPart, who: head, ..State::FREE }.to_word();
        for index in head + 1..head + length {
            self.free_segment(index, part);
        }
        self.free_segment(head, from)
    }

    /// Parts of runs whose head is no run become free. Returns how many. No death leaves
    /// such parts, only damage; so only a repair looks for them, and no other process can
    /// take the parts of a run in the making for strays.
    pub(crate) fn release_stray_parts(&self) -> u32 {
        let mut released = 0;
        for index in 0..self.geometry.segment_count {
            let state = self.row(index).state();
            if state.usage != Use::RunPart {
                continue;
            }
            // Acquire: before the part's word. A run ends part by part, then its head's sequence
            // moves, then its head is no run. So if the sequence is still the same once the head
            // is none, the word names no part of a run that ended meanwhile, in whose place
            // another one may have been made. [loom: run]
            let sequence = || (state.who < index).then(|| self.row(state.who).sequence().load(Ordering::Acquire));
            let before = sequence();
            let from = self.row(index).state_word();
            if State::from_word(from) == state
                && !self.is_part(index, state.who)
                && sequence() == before
                && self.free_segment(index, from)
            {
                released += 1;
            }
        }
        released
    }
}
