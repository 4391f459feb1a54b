//! Segments: their rows, lanes, memory and walks.
//!
//! Owns: what a segment becomes whose state word contradicts what is known of it, and the
//! cure of a walk that does not reach the end. Every change of a state is a CAS from the
//! word that was judged, so that whoever was faster keeps it.

use super::Repaired;
use super::evidence::Named;
use crate::deadline::Deadline;
use crate::host::Host;
use crate::item::Head;
use crate::layout::lane;
use crate::lock::{self, Held, Owner};
use crate::map::Map;
use crate::participant::{self, Pins};
use crate::segment::{State, Use};
use crate::slot::{Queue, Slot};
use crate::sync::{Ordering, fence};

impl<H: Host> Map<H> {
    /// What the table says has memory has it, and so has what was written.
    pub(super) fn mend_backing(&self) {
        for index in 0..self.geometry.segment_count {
            let row = self.row(index);
            let state = row.state();
            // Relaxed: only a size, bounded here.
            let written = row.written().load(Ordering::Relaxed).min(self.geometry.segment_bytes());
            let wanted = match state.usage {
                Use::Free => 0,
                Use::Index => self.index_extent(index),
                Use::RunPart => self.extent_of_part(index, state.who),
                Use::Damaged => self.geometry.segment_bytes(),
                _ => written,
            };
            let bytes = wanted.max(row.backed_bytes(&self.geometry)).next_multiple_of(self.geometry.chunk_bytes());
            // A file system without room leaves it as it is: what cannot be read is a miss.
            if bytes > 0 && self.host.back(self.geometry.segment_offset(index), bytes).is_ok() {
                row.set_backed_bytes(&self.geometry, bytes);
            }
        }
    }

    /// Bytes of a run's item that lie in its part `index`.
    fn extent_of_part(&self, index: u32, head: u32) -> u64 {
        if head >= index {
            return 0;
        }
        // Relaxed: only a size, bounded here.
        let written = self.row(head).written().load(Ordering::Relaxed);
        let before = u64::from(index - head) << self.geometry.segment_shift;
        written.saturating_sub(before).min(self.geometry.segment_bytes())
    }

    /// Seals what is open, so that it can be walked, and makes lanes name segments.
    pub(super) fn mend_lanes(&self, owner: Owner, timeout_ns: u64, repaired: &mut Repaired) {
        for number in 0..lane::COUNT {
            let word = self.lane_lock(number);
            let Ok(taken_over) = lock::acquire_until(word, owner, &self.host, &Deadline::new(timeout_ns)) else {
                repaired.lanes_busy += 1;
                continue;
            };
            repaired.locks += u64::from(taken_over);
            let _held = Held::new(word, &self.host);
            let segment = self.lane_segment(number);
            // Relaxed, both: protected by the lane's lock.
            let named = segment.load(Ordering::Relaxed);
            if named > u64::from(self.geometry.segment_count) {
                segment.store(0, Ordering::Relaxed);
                repaired.lanes += 1;
            }
            self.seal_open(named, repaired, |lane| lane == number);
        }
        // No lane has these: nobody can append to them.
        self.seal_open(0, repaired, |lane| lane >= lane::COUNT);
    }

    /// Seals the open segments of a lane whose lock we hold, and which names `named`.
    fn seal_open(&self, named: u64, repaired: &mut Repaired, is_its: impl Fn(u32) -> bool) {
        for index in 0..self.geometry.segment_count {
            let row = self.row(index);
            let from = row.state_word();
            let state = State::from_word(from);
            if state.usage != Use::Open || !is_its(u32::from(state.lane)) {
                continue;
            }
            let is_sound = named == u64::from(index) + 1 && state.is_made(from);
            let to = State { lane: 0, is_run: false, ..state }.to(Use::Sealed);
            if row.change(from, to) && !is_sound {
                repaired.segments += 1;
            }
        }
    }

    /// Brings the state word of a segment to one that a writer makes and that agrees with
    /// what stripes name. What a living owner has in hand is left alone.
    pub(super) fn mend_row(&self, index: u32, named: &Named, owner: Owner, repaired: &mut Repaired) {
        let row = self.row(index);
        let from = row.state_word();
        let state = State::from_word(from);
        let has_items = !named.items[index as usize].is_empty();
        let found = match (named.has_block[index as usize], has_items) {
            (true, false) => Some(State { usage: Use::Index, ..State::FREE }),
            (false, true) => Some(State { usage: Use::Sealed, queue: named.queue(index), ..State::FREE }),
            _ => None,
        };
        // Acquire: if the segment had another incarnation since, what was named says nothing.
        if row.sequence().load(Ordering::Acquire) != named.sequence[index as usize] {
            return;
        }
        let is_made = state.is_made(from);
        let to = match state.usage {
            Use::Open => return,
            Use::Free => found.unwrap_or(State::FREE),
            // Index memory stays what it is, unless only items are named in it.
            Use::Index => found.unwrap_or(State { usage: Use::Index, ..State::FREE }),
            Use::Claimed | Use::Reclaiming => {
                if state.owner().is_some_and(|who| !self.is_gone(who)) {
                    return;
                }
                match (state.usage, found) {
                    (Use::Reclaiming, _) => State { lane: 0, ..state }.to(Use::Sealed),
                    (_, Some(found)) => found,
                    (_, None) => return self.free_row(index, from, owner, repaired),
                }
            }
            Use::Sealed | Use::Draining | Use::Condemned => {
                if let Some(found) = found.filter(|found| found.usage == Use::Index) {
                    found
                } else if state.is_run {
                    return self.mend_run(index, from, has_items, owner, repaired);
                } else if state.usage == Use::Condemned && !has_items {
                    State { lane: 0, ..state }.to(Use::Condemned)
                } else {
                    // A half-walked segment is walked anew: where it stood is not believed.
                    State { lane: 0, ..state }.to(Use::Sealed)
                }
            }
            // What belongs to no run is freed as a stray.
            Use::RunPart => match found {
                Some(found) if !self.is_part(index, state.who) => found,
                _ => return,
            },
            Use::Damaged => match found {
                Some(found) => found,
                None => return self.free_row(index, from, owner, repaired),
            },
        };
        if to.to_word() == from {
            return;
        }
        if to.usage == Use::Free {
            return self.free_row(index, from, owner, repaired);
        }
        // A walk begins at the start. Draining is no contradiction.
        if row.change(from, to) && !(is_made && state.usage == Use::Draining) {
            repaired.segments += 1;
        }
    }

    /// Ends an incarnation that names nothing; of a run, with its parts.
    fn free_row(&self, index: u32, from: u64, owner: Owner, repaired: &mut Repaired) {
        let state = State::from_word(from);
        // Owned first: two who release the same run would free what a third made of it.
        let ours = State { lane: 0, ..State::FREE }.owned(Use::Reclaiming, owner);
        if self.row(index).change(from, ours) {
            // SeqCst: our claim before the scan, as in `Victim::finish`. [loom: pin]
            fence(Ordering::SeqCst);
            let is_pinned = |which| participant::pinned_by(&self.region, &self.geometry, index, which).is_some();
            if is_pinned(Pins::Read) || is_pinned(Pins::Write) {
                // Reclaim frees it once the pins are gone.
                self.row(index).change(ours.to_word(), ours.to(Use::Condemned));
            } else if state.is_run && matches!(state.usage, Use::Claimed | Use::Sealed | Use::Draining | Use::Condemned)
            {
                self.release_run(index, ours.to_word());
            } else {
                self.free_segment(index, ours.to_word());
            }
            repaired.segments += 1;
        }
    }

    /// A run: one item, whose length says how many parts there are, and they name it.
    fn mend_run(&self, index: u32, from: u64, has_items: bool, owner: Owner, repaired: &mut Repaired) {
        let row = self.row(index);
        let state = State::from_word(from);
        let start = self.geometry.segment_offset(index);
        // Relaxed: the item is sealed, and nothing is believed but what agrees with the parts.
        let head = Head::from_word(self.region.word(start).load(Ordering::Relaxed));
        let bytes = head.shape().map_or(0, |shape| shape.bytes);
        let length = bytes.div_ceil(self.geometry.segment_bytes());
        let part = State { usage: Use::RunPart, who: index, ..State::FREE };
        let names_it = |at: u64| {
            let other = u64::from(index) + at;
            other < u64::from(self.geometry.segment_count) && self.row(other as u32).state_word() == part.to_word()
        };
        let ours = State { lane: 0, ..state }.owned(Use::Reclaiming, owner);
        if length < 2 || !(1..length).all(names_it) {
            // No run. What stands in it is found by a walk, if anything names it.
            let is_single = has_items && !names_it(1);
            if !is_single {
                return self.free_row(index, from, owner, repaired);
            }
            if row.change(from, State { lane: 0, is_run: false, ..state }.to(Use::Sealed)) {
                repaired.segments += 1;
            }
            return;
        }
        let usage = if state.usage == Use::Condemned && !has_items { Use::Condemned } else { Use::Sealed };
        let sealed = State { lane: 0, ..state }.to(usage);
        // Relaxed, both: a sealed run's numbers do not change.
        let is_whole = row.run_length() == length && row.written().load(Ordering::Relaxed) == bytes;
        if (is_whole && sealed.to_word() == from) || !row.change(from, ours) {
            return;
        }
        // Relaxed: the segment is ours; the state change publishes them.
        row.progress().store(length << 32, Ordering::Relaxed);
        row.written().store(bytes, Ordering::Relaxed);
        row.change(ours.to_word(), sealed);
        repaired.segments += 1;
    }

    /// Makes a sealed segment walkable to its end, whatever headers were changed, and
    /// recounts its hints. Owned meanwhile, as by a reclaimer.
    pub(super) fn mend_items(&self, index: u32, named: &Named, owner: Owner, repaired: &mut Repaired) {
        let row = self.row(index);
        let from = row.state_word();
        let state = State::from_word(from);
        // Acquire: as in `mend_row`.
        let is_same = row.sequence().load(Ordering::Acquire) == named.sequence[index as usize];
        let ours = state.owned(Use::Reclaiming, owner);
        if state.usage != Use::Sealed || !is_same || !row.change(from, ours) {
            return;
        }
        let items = &named.items[index as usize];
        if !state.is_run {
            repaired.segments += u64::from(self.mend_walk(index, items));
        }
        let (mut live, mut latest) = (0, 0);
        for (offset, bytes) in items {
            if let Some(candidate) = self.candidate(Slot::new(0, Queue::Small, 0, *offset)) {
                latest = latest.max(candidate.meta.expires_at_ms);
                let mut key = Vec::new();
                let stripe = self.hasher.key(candidate.key(&mut key)).stripe(self.geometry.stripe_count);
                live += if self.is_dead(&candidate.meta, self.stripe(stripe)) { 0 } else { *bytes };
            }
        }
        // Relaxed, all: hints. The latest expiry may err late only, so it is only raised.
        if row.live().load(Ordering::Relaxed) != live {
            row.live().store(live, Ordering::Relaxed);
            repaired.hints += 1;
        }
        row.latest_expiry_ms().fetch_max(latest, Ordering::Relaxed);
        row.change(ours.to_word(), state);
    }

    /// Puts fillers where no header leads on to the next item that a stripe names. True if
    /// something was changed. The segment is ours.
    fn mend_walk(&self, index: u32, items: &[(u64, u64)]) -> bool {
        let row = self.row(index);
        let start = self.geometry.segment_offset(index);
        // Relaxed: the segment is ours.
        let written = row.written().load(Ordering::Relaxed);
        let room = self.geometry.segment_bytes().min(row.backed_bytes(&self.geometry));
        // A length that no writer makes: everything that may have been written counts.
        let is_length = written <= room && written.is_multiple_of(8);
        let named_end = items.iter().map(|(offset, bytes)| offset + bytes - start).max().unwrap_or(0);
        let end = named_end.max(if is_length { written } else { room & !7 });
        let mut has_changed = false;
        let mut next = items.iter().map(|(offset, _)| offset - start).peekable();
        let mut at = 0;
        while at < end {
            while next.next_if(|named| *named <= at).is_some() {}
            let until = next.peek().copied().unwrap_or(end);
            if !self.is_readable(start + at, 8) {
                break;
            }
            let header = self.region.word(start + at);
            // Relaxed: the segment is ours, and headers in it never change.
            let step = Head::from_word(header.load(Ordering::Relaxed)).step();
            let leads_on = step >= 8 && at + step <= until;
            if !leads_on {
                // Release: no slot names these bytes; a late reader of them validates.
                header.store(Head::filler(until - at).to_word(), Ordering::Release);
                has_changed = true;
            }
            at = if leads_on { at + step } else { until };
        }
        if end != written {
            // Release: the headers below it come first, as in an append.
            row.written().store(end, Ordering::Release);
            has_changed = true;
        }
        has_changed
    }
}
