//! A victim: one segment in the hands of a reclaimer, and the walk over its items.
//!
//! Owns: what happens to each item (dropped, remembered, copied on), and the end of the
//! segment as free or condemned. Which segment it is was decided in `reclaim`.

use crate::deadline::Deadline;
use crate::error::Result;
use crate::hash::Hash;
use crate::host::Host;
use crate::item::Head;
use crate::lane::Request;
use crate::layout::control;
use crate::map::Map;
use crate::participant::{self, Pins, Worker};
use crate::reclaim::{Progress, Walk};
use crate::segment::{Purpose, State, Use};
use crate::slot::{Queue, Slot};
use crate::stats::Counter;
use crate::sync::{Ordering, fence};
use crate::types::{Meta, NEVER, kind};

/// Items looked at together, so that their index lines are fetched at once.
const BATCH: usize = 8;
/// A segment is swept for expired items again when about this part of its live bytes has
/// expired.
const SWEEP_PARTS: u64 = 16;
/// Shortest time between two sweeps of a segment.
const SWEEP_MS_MIN: u64 = 50;

/// A segment in the hands of this thread. Let go on drop, wherever the walk got to.
pub(crate) struct Victim<'m, H: Host> {
    map: &'m Map<H>,
    index: u32,
    /// The state word while it is ours.
    ours: u64,
    walk: Walk,
    at: u64,
    released: bool,
    /// What a sweep leaves.
    staying: Option<Box<Staying>>,
}

/// The bytes that a sweep leaves, by when they expire.
struct Staying {
    bytes: u64,
    /// Bytes that expire in 2^n to 2^(n+1) milliseconds.
    by_magnitude: [u64; 64],
}

impl Default for Staying {
    fn default() -> Self {
        Staying { bytes: 0, by_magnitude: [0; 64] }
    }
}

impl Staying {
    fn add(&mut self, bytes: u64, expires_at_ms: u64, now_ms: u64) {
        self.bytes += bytes;
        if expires_at_ms != NEVER {
            self.by_magnitude[expires_at_ms.saturating_sub(now_ms).max(1).ilog2() as usize] += bytes;
        }
    }

    /// Milliseconds until a good part has expired, or all that ever will; `None` if nothing
    /// expires.
    fn next_sweep_ms(&self) -> Option<u64> {
        let mut expired = 0;
        let mut magnitudes = self.by_magnitude.iter().enumerate().filter(|(_, bytes)| **bytes > 0).peekable();
        while let Some((magnitude, bytes)) = magnitudes.next() {
            expired += bytes;
            if expired * SWEEP_PARTS >= self.bytes || magnitudes.peek().is_none() {
                return Some((1 << magnitude).max(SWEEP_MS_MIN));
            }
        }
        None
    }
}

impl<'m, H: Host> Victim<'m, H> {
    /// A place behind every item: there is nothing to walk.
    pub const WALKED: u64 = u64::MAX;

    /// The segment `index`, whose state the caller has just made `ours`.
    pub fn new(map: &'m Map<H>, index: u32, ours: State, walk: Walk, at: u64) -> Self {
        Victim { map, index, ours: ours.to_word(), walk, at, released: false, staying: None }
    }
}

impl<H: Host> Victim<'_, H> {
    /// Gives the segment back as it was found, walked no further.
    pub fn put_back(&mut self) {
        if self.at == 0 {
            let sealed = self.state().to(Use::Sealed);
            self.release(sealed);
        }
        // Else it is let go half walked, as every victim is on drop.
    }

    /// Items whose memory cannot be read keep their place, at the end of the order, and count
    /// as living for ever: another process may be able to read them.
    fn keep_unreadable(&mut self) {
        let row = self.map.row(self.index);
        row.set_ticket(self.map.next_ticket());
        // Relaxed: hints.
        row.live().store(row.written().load(Ordering::Relaxed), Ordering::Relaxed);
        row.latest_expiry_ms().store(NEVER, Ordering::Relaxed);
        let sealed = self.state().to(Use::Sealed);
        self.release(sealed);
    }

    /// Something lives here: hints that say otherwise would keep it before what is all dead.
    fn correct_hints(&mut self) {
        let row = self.map.row(self.index);
        if self.map.is_all_dead(self.index, self.map.moment()) {
            row.set_ticket(self.map.next_ticket());
            // Relaxed: a hint.
            row.live().store(self.map.count_live(self.index), Ordering::Relaxed);
        }
    }

    /// Says when the segment is swept again, by what this share of a sweep left.
    fn note_staying(&mut self) {
        if let Some(wait_ms) = self.staying.take().and_then(|staying| staying.next_sweep_ms()) {
            let due_ms = self.map.host.now_ms().saturating_add(wait_ms);
            // Relaxed: a hint. The earliest of all shares.
            self.map.row(self.index).sweep_due_ms().fetch_min(due_ms, Ordering::Relaxed);
        }
    }

    /// Gives the segment on as `to`.
    pub fn release(&mut self, to: State) {
        self.map.row(self.index).change(self.ours, to);
        self.released = true;
    }

    fn state(&self) -> State {
        State::from_word(self.ours)
    }

    /// Walks about `budget` bytes.
    pub fn run(mut self, worker: &Worker<'_>, budget: u64) -> Progress {
        if self.state().is_run {
            return self.run_of_segments(worker);
        }
        let is_whole = self.at == 0;
        if self.walk == Walk::Sweep && is_whole {
            // Relaxed: a hint. Each share says anew when the next sweep is due.
            self.map.row(self.index).sweep_due_ms().store(NEVER, Ordering::Relaxed);
        }
        let mut walked = 0;
        let mut batch = [(0, Head::from_word(0), 0); BATCH];
        let mut key = Vec::new();
        loop {
            let from = self.at;
            let (mut count, mut bytes_met) = (0, 0);
            let end = self.map.walk_items(self.index, from, &mut |offset, head, step| {
                // Large items are few at a time: each may have to be copied.
                if count == BATCH || (count > 0 && bytes_met >= budget) {
                    return false;
                }
                batch[count] = (offset, head, if head.kind == kind::FILLER { 0 } else { step });
                (count, bytes_met) = (count + 1, bytes_met + step);
                true
            });
            let batch = &batch[..count];
            if batch.is_empty() {
                if end.is_cut_off {
                    self.keep_unreadable();
                    return Progress::Nothing(false);
                }
                break;
            }
            let mut hashes = [None; BATCH];
            for (slot, (offset, head, bytes)) in hashes.iter_mut().zip(batch) {
                if *bytes == 0 {
                    continue;
                }
                if let Some((hash, meta)) = self.map.identity_of_step(*offset, *head, &mut key) {
                    if let Some(path) = self.map.path(hash) {
                        self.map.prefetch_block(&path, hash);
                    }
                    *slot = Some((hash, meta));
                } else if !self.map.is_readable(*offset, *bytes) {
                    self.keep_unreadable();
                    return Progress::Nothing(false);
                }
            }
            for (identity, (offset, _, bytes)) in hashes.iter().zip(batch) {
                if let Some((hash, meta)) = identity
                    && !self.dispose(worker, *hash, meta, *offset, *bytes)
                {
                    // Nowhere to copy to: back into the order, for a time when it is better.
                    self.correct_hints();
                    let sealed = self.state().to(Use::Sealed);
                    self.release(sealed);
                    return Progress::Nothing(false);
                }
                self.at = offset - self.map.geometry.segment_offset(self.index) + bytes.max(&8);
            }
            self.at = end.at;
            walked += end.at - from;
            if walked >= budget {
                // Done with this share, unless the end is reached anyway.
                // Relaxed: the segment is ours.
                if self.at < self.map.row(self.index).written().load(Ordering::Relaxed) {
                    return Progress::Worked;
                }
            }
        }
        // A sweep that met all of it in one share, and nothing that lives, has unlinked everything.
        if self.walk == Walk::Sweep && !(is_whole && self.staying.is_none()) {
            self.end_sweep();
            return Progress::Worked;
        }
        if self.finish() { Progress::Freed } else { Progress::Worked }
    }

    /// Decides over one item. False if it had to be copied and could not be.
    fn dispose(&mut self, worker: &Worker<'_>, hash: Hash, meta: &Meta, offset: u64, bytes: u64) -> bool {
        let map = self.map;
        let Some(slot) = map.find_place(hash, offset) else { return true };
        let stripe = map.stripe(hash.stripe(map.geometry.stripe_count));
        let row = map.row(self.index);
        let unlink = |counter: Counter| {
            let unlinked = map.change_place(hash, offset, Some(Slot(0))).is_some();
            if unlinked {
                stripe.count_gone(meta.version);
                row.sub_live(bytes);
                worker.count(counter, 1);
                map.tally(meta.namespace, counter, 1);
            }
            unlinked
        };
        if map.is_dead(meta, stripe) {
            unlink(Counter::Expirations);
            return true;
        }
        let to = match (self.walk, slot.queue()) {
            (Walk::Sweep, _) => {
                self.staying.get_or_insert_default().add(bytes, meta.expires_at_ms, map.host.now_ms());
                return true;
            }
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
        map.remember(hash, slot.queue());
        map.note_evicted_age(row);
        unlink(Counter::Evictions);
        true
    }

    /// Copies an item on and relinks it.
    #[expect(clippy::too_many_arguments, reason = "the parts of one item, used once")]
    fn relocate(
        &self,
        worker: &Worker<'_>,
        hash: Hash,
        meta: &Meta,
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
        let identity = map.read_identity(offset, &mut key);
        // Relaxed: the run is ours.
        if identity.is_none() && !map.is_readable(offset, map.row(self.index).written().load(Ordering::Relaxed)) {
            self.keep_unreadable();
            return Progress::Nothing(false);
        }
        if let Some((hash, meta)) = identity
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
                let row = map.row(self.index);
                // Relaxed: hints. Its one item lives: as long as it was written. Before the relink,
                // so that who replaces the item after it takes its bytes off what is said here.
                row.live().store(row.written().load(Ordering::Relaxed), Ordering::Relaxed);
                if map.change_place(hash, offset, Some(to)).is_some() {
                    row.set_ticket(map.next_ticket());
                    // Looked at again when it can have expired.
                    row.sweep_due_ms().store(meta.expires_at_ms, Ordering::Relaxed);
                    let state = State { queue: to.queue(), ..self.state() };
                    self.release(state.to(Use::Sealed));
                    return Progress::Worked;
                }
                // Replaced in the meantime: the run is dead.
            } else if !is_dead {
                map.note_evicted_age(map.row(self.index));
                map.remember(hash, slot.queue());
            }
            if !stays && map.change_place(hash, offset, Some(Slot(0))).is_some() {
                stripe.count_gone(meta.version);
                let counter = if is_dead { Counter::Expirations } else { Counter::Evictions };
                worker.count(counter, 1);
                map.tally(meta.namespace, counter, 1);
            }
        }
        if self.finish() { Progress::Freed } else { Progress::Worked }
    }

    /// After a sweep: the segment is sealed again, and left alone for a while.
    fn end_sweep(&mut self) {
        self.note_staying();
        let sealed = self.state().to(Use::Sealed);
        self.release(sealed);
    }

    /// Everything is unlinked: free the segment, or condemn it while somebody reads.
    pub fn finish(mut self) -> bool {
        let map = self.map;
        // SeqCst: our unlinks before the scan; a reader pins, fences and looks at the slot
        // again. One of the two sees the other. [loom: pin]
        fence(Ordering::SeqCst);
        let mut pinner = participant::pinned_by(&map.region, &map.geometry, self.index, Pins::Read);
        // Who pins beside the retirement of the dead is found by another scan. [loom: retire]
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
        if self.at == Self::WALKED || self.state().is_run {
            // Nothing was walked: begin again from the start.
            row.change(self.ours, self.state().to(Use::Sealed));
            return;
        }
        self.note_staying();
        // Relaxed: ordered by the state's CAS.
        row.progress().store(self.at | (self.walk as u64) << 32, Ordering::Relaxed);
        row.change(self.ours, self.state().to(Use::Draining));
        // Relaxed: a hint.
        self.map.control_word(control::VICTIM_HINT).store(u64::from(self.index) + 1, Ordering::Relaxed);
    }
}
