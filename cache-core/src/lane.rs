//! Lanes: where new and relocated items are appended.
//!
//! Owns: the order lock, write pin, header word, write offset, by which a segment can be
//! walked from its start whoever died, and no reservation is ever unprotected; and runs,
//! which hold one value larger than a segment.
//!
//! A lane's row names its open segment. The segment is Open exactly while the lane names
//! it: it is named first and opened second, so what a death leaves between the two is a
//! claimed segment, which is freed with its dead owner.

use crate::deadline::Deadline;
use crate::error::{Error, Result};
use crate::host::Host;
use crate::item::{ALIGNED, Head};
use crate::layout::{LINE_BYTES, lane as at};
use crate::lock::{self, Held, Owner};
use crate::map::Map;
use crate::participant::Worker;
use crate::segment::{Purpose, RESERVE_COUNT, State, Use};
use crate::slot::Queue;
use crate::sync::{AtomicU32, AtomicU64, Ordering, fence};

/// Lanes among which a large item looks for room before a new segment is opened, so
/// that its size does not waste the end of one.
const LANES_FOR_LARGE: u32 = 3;
/// A segment is closed to items over 1/64 of it while smaller ones still fill it up.
const LARGE_SHIFT: u32 = 6;

/// Space for one item: reserved, write-pinned, its header word written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub segment: u32,
    pub offset: u64,
}

/// What is asked of a lane.
#[derive(Clone, Copy)]
pub(crate) struct Request {
    pub head: Head,
    /// Bytes of the item.
    pub bytes: u64,
    pub queue: Queue,
    pub purpose: Purpose,
}

/// Turns that one reservation takes at most. In each, others were faster: a damaged word ends in a
/// fresh segment or in an error of its own, so what nobody else changes comes to rest.
const TURNS_MAX: u32 = 10_000;

enum Room {
    /// Reserved.
    Here(Place),
    /// The memory of the segment must be extended to this many bytes first.
    Unbacked { segment: u32, bytes: u64 },
    /// No open segment, or not enough room; so many bytes are left.
    Left(u64),
    /// Somebody holds the lane.
    Held,
}

/// The lanes of the request's queue, in the order in which they are tried: new items begin at
/// their writer's `home`. What is copied on begins at the other end, which is nobody's home, so
/// that new items do not fill the room that it was promised.
fn lanes(request: Request, home: u64) -> [u32; at::PER_QUEUE as usize] {
    let first = if request.queue == Queue::Small { 0 } else { at::PER_QUEUE };
    let last = at::PER_QUEUE - 1;
    std::array::from_fn(|step| match step as u32 {
        step if request.purpose == Purpose::Relocation => first + last - step,
        step if step == last => first + last,
        step => first + (home as u32 + step) % last,
    })
}

impl<H: Host> Map<H> {
    pub(crate) fn lane_lock(&self, lane: u32) -> &AtomicU32 {
        self.region.word32(self.geometry.lane_offset(lane) + at::LOCK)
    }

    pub(crate) fn lane_segment(&self, lane: u32) -> &AtomicU64 {
        self.region.word(self.geometry.lane_offset(lane) + at::SEGMENT)
    }

    /// The segment that is open in `lane`; a hint unless the caller holds the lane.
    fn open_segment(&self, lane: u32) -> Option<u32> {
        // Relaxed: protected by the lane's lock.
        let segment = (self.lane_segment(lane).load(Ordering::Relaxed) as u32).checked_sub(1)?;
        let state = (segment < self.geometry.segment_count).then(|| self.row(segment).state())?;
        (state.usage == Use::Open && u32::from(state.lane) == lane).then_some(segment)
    }

    /// Reserves space for an item. The pin `pin` protects it until it is cleared.
    ///
    /// # Errors
    /// `Busy` when every lane is held by others, `Full` or `NoSpace` when reclaim finds
    /// nothing, `ValueTooLarge`.
    pub(crate) fn reserve(
        &self,
        worker: &Worker<'_>,
        pin: &AtomicU64,
        request: Request,
        deadline: &Deadline,
    ) -> Result<Place> {
        let Some(owner) = self.owner else { return Err(Error::ReadOnly) };
        if request.bytes > self.geometry.segment_bytes() {
            return self.reserve_run(worker, pin, request, owner, deadline);
        }
        // Relaxed, here and below: a number of this worker alone.
        let home = &self.homes[worker.index][request.queue as usize];
        let lanes = lanes(request, home.load(Ordering::Relaxed));
        let is_large = request.bytes > self.geometry.segment_bytes() >> LARGE_SHIFT;
        let mut tried = if is_large { LANES_FOR_LARGE } else { 1 };
        for _ in 0..TURNS_MAX {
            // The lane that gets the next segment: the one with the least room left.
            let (mut refill, mut refill_left) = (None, u64::MAX);
            // The segment that has room and gets no memory for it.
            let mut bare = None;
            let mut seen = 0;
            let mut all_held = true;
            let mut met_held = false;
            for lane in lanes {
                match self.try_append(lane, pin, request, owner, lane == lanes[0]) {
                    Room::Here(place) => {
                        if met_held && request.purpose != Purpose::Relocation {
                            // Writers that meet go different ways: their next items share no line.
                            home.store(u64::from(lane % at::PER_QUEUE), Ordering::Relaxed);
                        }
                        return Ok(place);
                    }
                    Room::Unbacked { segment, bytes } => {
                        all_held = false;
                        (bare, refill) = match self.back_segment(segment, bytes) {
                            Ok(()) => (None, None),
                            // Another segment may have memory: this one is as good as full.
                            Err(Error::NoSpace { .. }) => (Some(segment), Some(lane)),
                            Err(error) => return Err(error),
                        };
                        break;
                    }
                    Room::Left(left) => {
                        all_held = false;
                        if left < refill_left {
                            (refill, refill_left) = (Some(lane), left);
                        }
                        seen += 1;
                        if seen >= tried.max(self.lanes_shared(request.purpose)) {
                            break;
                        }
                    }
                    Room::Held => met_held = true,
                }
            }
            if all_held {
                // Wait for the first lane, with take-over; then look again.
                let taken_over = lock::acquire_until(self.lane_lock(lanes[0]), owner, &self.host, deadline)?;
                worker.count(crate::stats::Counter::TakeOvers, u64::from(taken_over));
                lock::release(self.lane_lock(lanes[0]), &self.host);
                continue;
            }
            if let Some(lane) = refill {
                match self.refill(worker, lane, request, bare, owner, deadline) {
                    // What is copied on takes the room that there is, whoever opened it.
                    Err(_) if request.purpose == Purpose::Relocation && tried < at::PER_QUEUE => tried = at::PER_QUEUE,
                    refilled => refilled?,
                }
            }
        }
        Err(deadline.busy(&self.host))
    }

    /// Lanes in which an item looks for room before a segment is opened for it: where there is
    /// none to spare, and nothing is dropped, new items fill what others left open.
    fn lanes_shared(&self, purpose: Purpose) -> u32 {
        let is_short = self.is_no_evict() && self.free_segments_hint() <= u64::from(RESERVE_COUNT);
        if is_short && purpose == Purpose::Data { at::PER_QUEUE - 1 } else { 1 }
    }

    /// Bytes that are left where items of `queue` are copied to; a hint.
    pub(crate) fn relocation_room(&self, queue: Queue) -> u64 {
        let lane = at::PER_QUEUE - 1 + if queue == Queue::Small { 0 } else { at::PER_QUEUE };
        self.open_segment(lane).map_or(0, |segment| {
            // Relaxed: a hint.
            let written = self.row(segment).written().load(Ordering::Relaxed);
            self.geometry.segment_bytes().saturating_sub(written)
        })
    }

    fn try_append(&self, lane: u32, pin: &AtomicU64, request: Request, owner: Owner, is_home: bool) -> Room {
        let lock_word = self.lane_lock(lane);
        if !lock::try_acquire(lock_word, owner) {
            // Relaxed: the CAS of the take-over decides.
            let current = lock_word.load(Ordering::Relaxed);
            // Who leaves its lane for another does not come back to ask whether the holder lives.
            let asks = current != 0 && (is_home || self.is_suspect(lane));
            if !asks || !lock::take_over(lock_word, current, owner, &self.host) {
                return Room::Held;
            }
        }
        let _held = Held::new(lock_word, &self.host);
        self.append_locked(lane, pin, request)
    }

    /// True now and then: a lane that is found held is asked about only sometimes,
    /// because the question is a system call and other lanes are free.
    fn is_suspect(&self, lane: u32) -> bool {
        // Relaxed: a process-private number that spreads the questions.
        self.held_count[lane as usize % self.held_count.len()].fetch_add(1, Ordering::Relaxed) % 64 == 63
    }

    /// Bytes written to an open segment, and where an item would go; a hint unless the caller
    /// holds the lane.
    fn append_at(&self, segment: u32, request: Request) -> (u64, u64) {
        // Relaxed: protected by the lane's lock. Bounded: the word is not trusted.
        let written = self.row(segment).written().load(Ordering::Relaxed).min(self.geometry.segment_bytes()) & !7;
        let aligned = if request.head.flags & ALIGNED != 0 { LINE_BYTES } else { 1 };
        (written, written.next_multiple_of(aligned))
    }

    fn append_locked(&self, lane: u32, pin: &AtomicU64, request: Request) -> Room {
        let Some(segment) = self.open_segment(lane) else { return Room::Left(0) };
        let row = self.row(segment);
        let start = self.geometry.segment_offset(segment);
        let (written, at) = self.append_at(segment, request);
        let (offset, filler) = (start + at, at - written);
        let end = at + request.bytes;
        if end > self.geometry.segment_bytes() {
            return Room::Left(self.geometry.segment_bytes() - written);
        }
        if end > row.backed_bytes(&self.geometry) {
            return Room::Unbacked { segment, bytes: end };
        }
        // Release: the pin is there before the space is anybody's; sealing takes the lane's
        // lock after us, so who finds the segment sealed finds the pin. [loom: late_publish]
        pin.store(u64::from(segment) + 1, Ordering::Release);
        // Release: whatever was unlinked before this space became free stays before our first
        // byte in it, for a reader that meets that byte. Pairs with the Acquire fence in
        // `examine`. [loom: reuse]
        fence(Ordering::Release);
        if filler > 0 {
            // Relaxed: published by the write offset.
            self.region.word(start + written).store(Head::filler(filler).to_word(), Ordering::Relaxed);
        }
        // Relaxed: published by the write offset.
        self.region.word(offset).store(request.head.to_word(), Ordering::Relaxed);
        // Release: a walker that sees the new offset sees the headers below it. [loom: append]
        row.written().store(end, Ordering::Release);
        Room::Here(Place { segment, offset })
    }

    /// For the first writer of a stripe after a clear: what was open before it has new items by now,
    /// and is not all dead.
    pub(crate) fn renew_open_segments(&self) {
        for segment in (0..at::COUNT).filter_map(|lane| self.open_segment(lane)) {
            let row = self.row(segment);
            if row.ticket() < self.cleared_ticket() {
                row.set_ticket(self.next_ticket());
            }
        }
    }

    /// Puts a fresh segment into `lane`, sealing the one it had: that has no room for the
    /// request, or is `bare`, which has no memory for it.
    fn refill(
        &self,
        worker: &Worker<'_>,
        lane: u32,
        request: Request,
        bare: Option<u32>,
        owner: Owner,
        deadline: &Deadline,
    ) -> Result<()> {
        let lacks_room = || {
            self.open_segment(lane).filter(|segment| Some(*segment) != bare).is_none_or(|segment| {
                self.append_at(segment, request).1 + request.bytes > self.geometry.segment_bytes()
            })
        };
        let Some(fresh) = self.obtain_segment(worker, request.purpose, request.bytes, owner, deadline, &lacks_room)?
        else {
            return Ok(());
        };
        // A segment in the hand is one that others wait for: who holds the lane is not waited for.
        let is_held = !lock::try_acquire(self.lane_lock(lane), owner);
        let _held = (!is_held).then(|| Held::new(self.lane_lock(lane), &self.host));
        if is_held || !lacks_room() {
            // Somebody refilled it while we looked for a segment, or is at it.
            self.release_claimed(fresh);
            return Ok(());
        }
        self.seal_locked(lane);
        let row = self.row(fresh);
        row.reset(self.next_ticket());
        // Relaxed, here and below: protected by the lane's lock. Named first, opened second.
        row.progress().store(0, Ordering::Relaxed);
        self.lane_segment(lane).store(u64::from(fresh) + 1, Ordering::Relaxed);
        let open = State { usage: Use::Open, lane: lane as u8, queue: request.queue, is_run: false, who: 0 };
        row.change(State::FREE.owned(Use::Claimed, owner).to_word(), open);
        Ok(())
    }

    fn seal_locked(&self, lane: u32) {
        if let Some(segment) = self.open_segment(lane) {
            let row = self.row(segment);
            let from = row.state_word();
            row.change(from, State { lane: 0, ..State::from_word(from) }.to(Use::Sealed));
        }
    }

    /// Seals what is open in lanes that nobody appends to at this moment, so that it can
    /// be reclaimed. The lanes that are tried first are left alone unless `all`.
    pub(crate) fn seal_idle_lanes(&self, all: bool) {
        let Some(owner) = self.owner else { return };
        for lane in 0..at::COUNT {
            let is_first = [0, at::PER_QUEUE - 1].contains(&(lane % at::PER_QUEUE));
            if (all || !is_first) && lock::try_acquire(self.lane_lock(lane), owner) {
                let _held = Held::new(self.lane_lock(lane), &self.host);
                self.seal_locked(lane);
            }
        }
    }

    /// Seals what is open and holds only what has expired, so that a sweep meets it.
    pub(crate) fn seal_expired_lanes(&self) {
        let Some(owner) = self.owner else { return };
        let moment = self.moment();
        for lane in 0..at::COUNT {
            let has_expired = || {
                self.open_segment(lane).is_some_and(|segment| {
                    // Relaxed: a hint; protected by the lane's lock when it counts.
                    self.row(segment).written().load(Ordering::Relaxed) > 0 && self.is_bygone(segment, moment)
                })
            };
            if has_expired() && lock::try_acquire(self.lane_lock(lane), owner) {
                let _held = Held::new(self.lane_lock(lane), &self.host);
                if has_expired() {
                    self.seal_locked(lane);
                }
            }
        }
    }

    /// A run of consecutive segments for one value larger than a segment.
    #[inline(never)]
    fn reserve_run(
        &self,
        worker: &Worker<'_>,
        pin: &AtomicU64,
        request: Request,
        owner: Owner,
        deadline: &Deadline,
    ) -> Result<Place> {
        let length = request.bytes.div_ceil(self.geometry.segment_bytes()) as u32;
        if request.bytes > self.geometry.item_bytes_max() {
            return Err(Error::ValueTooLarge { bytes: request.bytes, bytes_max: self.geometry.item_bytes_max() });
        }
        let head = self.obtain_run(worker, length, owner, deadline)?;
        let backed = (0..length).try_for_each(|part| {
            let bytes = request.bytes - (u64::from(part) << self.geometry.segment_shift);
            self.back_segment(head + part, bytes.min(self.geometry.segment_bytes()))
        });
        if let Err(error) = backed {
            self.release_run(head, self.row(head).state_word());
            return Err(error);
        }
        let row = self.row(head);
        row.reset(self.next_ticket());
        // Release: as in `append_locked`.
        fence(Ordering::Release);
        // Relaxed: published by the state change.
        row.written().store(request.bytes, Ordering::Relaxed);
        self.region.word(self.geometry.segment_offset(head)).store(request.head.to_word(), Ordering::Relaxed);
        // Release: the pin is there before the run can be walked.
        pin.store(u64::from(head) + 1, Ordering::Release);
        let sealed = State { usage: Use::Sealed, lane: 0, queue: request.queue, is_run: true, who: 0 };
        row.change(State { is_run: true, ..State::FREE }.owned(Use::Claimed, owner).to_word(), sealed);
        Ok(Place { segment: head, offset: self.geometry.segment_offset(head) })
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::layout::Mode;
    use crate::testing::{Bench, TestHost};
    use crate::types::WriteOptions;

    /// Bytes in what is open in the first lanes.
    fn written<H: Host>(map: &Map<H>) -> [u64; 2] {
        [0, 1]
            .map(|lane| map.open_segment(lane).map_or(0, |segment| map.row(segment).written().load(Ordering::Relaxed)))
    }

    #[test]
    fn a_writer_that_met_another_in_its_lane_stays_in_the_next() {
        let bench = Bench::new(4 << 20, Mode::Evict);
        let host = TestHost::default();
        let (map, other) = (bench.attach(&host, 0), bench.attach(&host, 1));
        let set = |key: u32| map.set(&key.to_le_bytes(), b"value", &WriteOptions::default()).unwrap();
        set(0);
        assert!(lock::try_acquire(other.lane_lock(0), other.owner.unwrap()));
        set(1);
        lock::release(other.lane_lock(0), &&host);
        let met = written(&map);
        assert!(met[0] > 0 && met[1] > 0, "{met:?}");
        set(2);
        assert_eq!(written(&map)[0], met[0]);
        assert!(written(&map)[1] > met[1]);
    }

    #[test]
    fn a_writer_whose_lane_a_dead_one_holds_takes_it_over_at_once() {
        let bench = Bench::new(4 << 20, Mode::Evict);
        let host = TestHost::default();
        let (map, other) = (bench.attach(&host, 0), bench.attach(&host, 1));
        assert!(lock::try_acquire(other.lane_lock(0), other.owner.unwrap()));
        host.dead.lock().unwrap().push(1);
        map.set(b"key", b"value", &WriteOptions::default()).unwrap();
        assert!(written(&map)[0] > 0 && written(&map)[1] == 0);
        assert_eq!(map.lane_lock(0).load(Ordering::Relaxed), 0);
    }
}
