//! Participant slots: who is attached, what they pin, what their threads count.
//!
//! Owns: the words of a slot, the [`Worker`] of a thread in flight, and the scans over
//! everybody's pins. The liveness lock on the slot's byte belongs to the host: only
//! its holder writes the slot.
//!
//! A worker is one thread's part of its process's slot: the first seven threads of a
//! process have one each, the others share the last one under a process-local lock.

use std::cell::Cell;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};

use crate::deadline::Deadline;
use crate::error::Result;
use crate::host::Host;
use crate::layout::{Geometry, control, participant as at};
use crate::lock::Owner;
use crate::region::Region;
use crate::stats::Counter;
use crate::sync::{AtomicU64, Ordering, ProcessU32, fence};

/// Generation of slot `index`: changes with each participant that takes it.
pub fn generation(region: &Region, geometry: &Geometry, index: u32) -> u64 {
    // Acquire: a newcomer publishes its generation before it does anything else; pairs
    // with the Release in `begin`. [loom: newcomer]
    region.word(geometry.participant_offset(index) + at::GENERATION).load(Ordering::Acquire)
}

/// True while somebody may own something in the name of slot `index`.
pub fn occupied(region: &Region, geometry: &Geometry, index: u32) -> bool {
    // Acquire: pairs with the Release in `end`.
    region.word(geometry.participant_offset(index) + at::OCCUPIED).load(Ordering::Acquire) != 0
}

/// Process id in slot `index`, for people.
pub fn pid(region: &Region, geometry: &Geometry, index: u32) -> u32 {
    // Relaxed: a hint.
    region.word(geometry.participant_offset(index) + at::PID).load(Ordering::Relaxed) as u32
}

/// Takes slot `index` for this process. The caller holds the slot's liveness lock,
/// and afterwards calls `Map::clean_slot` if the slot was occupied before.
pub fn begin(region: &Region, geometry: &Geometry, index: u32, pid: u32, start_time: u64, now_ms: u64) -> Owner {
    let slot = geometry.participant_offset(index);
    let generation = generation(region, geometry, index).wrapping_add(1);
    // Release: whoever sees the new generation knows that words of the old one are
    // those of the dead. Pairs with the Acquire in `generation`. [loom: newcomer]
    region.word(slot + at::GENERATION).store(generation, Ordering::Release);
    // Relaxed: hints for people.
    region.word(slot + at::PID).store(u64::from(pid), Ordering::Relaxed);
    region.word(slot + at::START_TIME).store(start_time, Ordering::Relaxed);
    region.word(slot + at::ATTACHED_MS).store(now_ms, Ordering::Relaxed);
    // Release, then the high-water mark: a scan that sees the mark sees the slot.
    region.word(slot + at::OCCUPIED).store(1, Ordering::Release);
    // AcqRel: only ever raised. A reclaimer reads it after a fence that follows its
    // claim; our first pin comes after ours. [loom: retire]
    region.word(geometry.control_offset + control::PARTICIPANT_HIGH).fetch_max(u64::from(index) + 1, Ordering::AcqRel);
    // SeqCst: as just said; and the generation before our first lock, whose word is published
    // by no store of ours. Pairs with the fence in `lock::take_over`. [loom: newcomer]
    fence(Ordering::SeqCst);
    Owner::new(index, generation)
}

/// Says that nothing is owned in the name of slot `index` any more. The caller holds
/// the liveness lock and cleaned the slot.
pub fn end(region: &Region, geometry: &Geometry, index: u32) {
    // Release: whoever sees 0 sees the cleared pins.
    region.word(geometry.participant_offset(index) + at::OCCUPIED).store(0, Ordering::Release);
}

/// True if `owner` is gone: its slot has another generation, or nobody holds the slot's
/// liveness lock, which `is_free` asks. The caller loaded the word that names `owner` before.
pub fn is_gone(region: &Region, geometry: &Geometry, owner: Owner, is_free: impl FnOnce() -> bool) -> bool {
    let index = owner.index();
    // The generation first, the lock second: if this generation is still there and the lock
    // is free, then it is this generation's process that let go of it. A newcomer that took
    // the lock and has not yet written its generation looks alive.
    index >= geometry.participant_count || !owner.is_generation(generation(region, geometry, index)) || is_free()
}

/// Cleans slot `index` with `clean` if somebody died in it. The caller holds the liveness
/// lock, so that no newcomer is in it. [loom: retire]
pub fn retire(region: &Region, geometry: &Geometry, index: u32, clean: &mut dyn FnMut()) {
    if occupied(region, geometry, index) {
        clean();
        end(region, geometry, index);
    }
}

/// Number of slots that were ever used.
pub fn high(region: &Region, geometry: &Geometry) -> u32 {
    // Acquire: pairs with the AcqRel in `begin`. Bounded: the word is not trusted.
    let high = region.word(geometry.control_offset + control::PARTICIPANT_HIGH).load(Ordering::Acquire);
    high.min(u64::from(geometry.participant_count)) as u32
}

/// Copies the read pins of slot `from` into slot `to`, and makes scans that are under
/// way run again. Used by the fork hand-over; `to`'s liveness lock is held.
pub fn copy_read_pins(region: &Region, geometry: &Geometry, from: u32, to: u32) {
    for cell in 0..u64::from(at::READ_PIN_COUNT) {
        let offset = at::READ_PINS + 8 * cell;
        // Acquire and Release, as for every pin cell.
        let pin = region.word(geometry.participant_offset(from) + offset).load(Ordering::Acquire);
        region.word(geometry.participant_offset(to) + offset).store(pin, Ordering::Release);
    }
    // The copies are visible before the count: a scan that read `to` too early sees
    // another count and runs again. [loom: handover]
    fence(Ordering::SeqCst);
    region.word(geometry.control_offset + control::HANDOVER_COUNT).fetch_add(1, Ordering::AcqRel);
}

/// Which pins a scan looks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pins {
    /// Links that are about to be made.
    Write,
    /// Views and large reads.
    Read,
}

/// Scans that hand-overs may overtake before a segment counts as pinned by [`SOMEBODY`].
const SCANS_MAX: u32 = 1000;
/// A pinner that the scan did not find out.
const SOMEBODY: u32 = u32::MAX;

/// The participant that pins segment `segment`, if one does. The caller's fence stands
/// between its claim of the segment and this scan.
pub(crate) fn pinned_by(region: &Region, geometry: &Geometry, segment: u32, which: Pins) -> Option<u32> {
    let wanted = u64::from(segment) + 1;
    let handovers = region.word(geometry.control_offset + control::HANDOVER_COUNT);
    for _ in 0..SCANS_MAX {
        // Acquire, before and after: a hand-over that moved a pin past the scan is noticed.
        // [loom: handover]
        let before = handovers.load(Ordering::Acquire);
        for index in 0..high(region, geometry) {
            if !occupied(region, geometry, index) {
                continue;
            }
            let slot = geometry.participant_offset(index);
            // Acquire: pairs with the Release store of the pin; what its owner did
            // before it unpinned is visible to the reclaimer that sees it gone.
            let holds = |offset: u64| region.word(slot + offset).load(Ordering::Acquire) == wanted;
            let found = match which {
                Pins::Read => (0..u64::from(at::READ_PIN_COUNT)).any(|cell| holds(at::READ_PINS + 8 * cell)),
                Pins::Write => {
                    (0..u64::from(at::RESERVATION_PIN_COUNT)).any(|cell| holds(at::RESERVATION_PINS + 8 * cell))
                        || (0..u64::from(at::WORKER_COUNT)).any(|worker| {
                            let base = at::WORKERS + at::WORKER_BYTES * worker;
                            holds(base + at::WORKER_PUBLISH_PIN) || holds(base + at::WORKER_RELOCATE_PIN)
                        })
                }
            };
            if found {
                return Some(index);
            }
        }
        if handovers.load(Ordering::Acquire) == before {
            return None;
        }
    }
    Some(SOMEBODY)
}

/// Number of pins that participants hold.
pub(crate) fn pin_count(region: &Region, geometry: &Geometry) -> u64 {
    let mut count = 0;
    for index in 0..high(region, geometry) {
        let slot = geometry.participant_offset(index);
        for cell in 0..u64::from(at::READ_PIN_COUNT) {
            // Relaxed: a statistic.
            count += u64::from(region.word(slot + at::READ_PINS + 8 * cell).load(Ordering::Relaxed) != 0);
        }
    }
    count
}

/// Clears every pin of slot `index` and moves its counters into the base.
pub(crate) fn clear_and_fold(region: &Region, geometry: &Geometry, index: u32) {
    let slot = geometry.participant_offset(index);
    let pins = (0..u64::from(at::READ_PIN_COUNT)).map(|cell| at::READ_PINS + 8 * cell);
    let pins = pins.chain((0..u64::from(at::RESERVATION_PIN_COUNT)).map(|cell| at::RESERVATION_PINS + 8 * cell));
    let pins = pins.chain((0..u64::from(at::WORKER_COUNT)).flat_map(|worker| {
        let base = at::WORKERS + at::WORKER_BYTES * worker;
        [base + at::WORKER_PUBLISH_PIN, base + at::WORKER_RELOCATE_PIN]
    }));
    for offset in pins {
        // Release: as for every pin cell.
        region.word(slot + offset).store(0, Ordering::Release);
    }
    for worker in 0..u64::from(at::WORKER_COUNT) {
        for counter in 0..u64::from(at::COUNTER_COUNT) {
            let from = region.word(slot + at::WORKERS + at::WORKER_BYTES * worker + at::WORKER_COUNTERS + 8 * counter);
            // Relaxed: statistics. A death between the two steps counts one twice.
            let count = from.load(Ordering::Relaxed);
            if count != 0 {
                region
                    .word(geometry.control_offset + control::FOLDED + 8 * counter)
                    .fetch_add(count, Ordering::Relaxed);
                from.store(0, Ordering::Relaxed);
            }
        }
    }
}

/// Adds up the counters of everybody and of those who left.
pub(crate) fn sum_counters(region: &Region, geometry: &Geometry) -> [u64; at::COUNTER_COUNT as usize] {
    std::array::from_fn(|counter| sum_counter(region, geometry, counter as u64))
}

/// Adds up one of them.
pub(crate) fn sum_counter(region: &Region, geometry: &Geometry, counter: u64) -> u64 {
    // Relaxed: statistics.
    let word = |offset: u64| region.word(offset).load(Ordering::Relaxed);
    let mut sum = word(geometry.control_offset + control::FOLDED + 8 * counter);
    for index in 0..high(region, geometry) {
        let workers = geometry.participant_offset(index) + at::WORKERS + at::WORKER_COUNTERS + 8 * counter;
        for worker in 0..u64::from(at::WORKER_COUNT) {
            sum = sum.wrapping_add(word(workers + at::WORKER_BYTES * worker));
        }
    }
    sum
}

/// The last worker is shared by the threads that found the others taken.
const SHARED: u32 = at::WORKER_COUNT - 1;

/// Which workers of this process belong to a thread, a bit each.
static TAKEN: ProcessU32 = ProcessU32::new(0);

struct Seat(u32);

impl Drop for Seat {
    fn drop(&mut self) {
        // What this thread still does in its last moments it does in the shared seat.
        WORKER.set(SHARED);
        // Release: the next thread in this seat goes on with our counters.
        TAKEN.fetch_and(!(1 << self.0), Ordering::Release);
    }
}

thread_local! {
    static WORKER: Cell<u32> = const { Cell::new(u32::MAX) };
    static SEAT: Cell<Option<Seat>> = const { Cell::new(None) };
}

/// The number of this thread's worker.
#[inline]
fn thread_worker() -> u32 {
    let worker = WORKER.get();
    if worker != u32::MAX { worker } else { take_seat() }
}

#[cold]
fn take_seat() -> u32 {
    let mut worker = SHARED;
    for seat in 0..SHARED {
        // Acquire: pairs with the Release of the thread that had the seat before.
        if TAKEN.fetch_or(1 << seat, Ordering::Acquire) & (1 << seat) == 0 {
            // A thread in its last moments can no longer register a destructor.
            if SEAT.try_with(|mine| mine.set(Some(Seat(seat)))).is_ok() {
                worker = seat;
            } else {
                drop(Seat(seat));
            }
            break;
        }
    }
    WORKER.set(worker);
    worker
}

/// In a forked child: the seats of the parent's other threads are free again. For the
/// thread that was forked, before any other of the child has a seat.
pub fn after_fork_in_child() {
    let mine = WORKER.get();
    // Relaxed: no other thread has a seat.
    TAKEN.store(if mine < SHARED { 1 << mine } else { 0 }, Ordering::Relaxed);
}

/// The calling thread's part of its process's slot.
pub(crate) struct Worker<'a> {
    pub publish_pin: &'a AtomicU64,
    pub relocate_pin: &'a AtomicU64,
    counters: &'a [AtomicU64; at::COUNTER_COUNT as usize],
    exclusive: bool,
    /// Which of the process-private numbers of `Map` belong to this worker.
    pub index: usize,
    /// Segments that this operation took to copy items on.
    pub taken_count: Cell<u32>,
    _shared: Option<MutexGuard<'a, ()>>,
}

/// A counter of this thread, without the right to pin. For readers.
#[inline]
pub(crate) fn count_read(region: &Region, workers_offset: u64, counter: Counter, count: u64) {
    let worker = thread_worker();
    let offset = workers_offset + at::WORKER_BYTES * u64::from(worker) + at::WORKER_COUNTERS + 8 * counter as u64;
    // SAFETY: R4. The slot is one of the geometry, the worker one of the slot.
    let [word] = unsafe { region.words_unchecked(offset) };
    add(word, count, worker != SHARED);
}

#[inline]
fn add(word: &AtomicU64, count: u64, exclusive: bool) {
    if exclusive {
        // Relaxed: a statistic with one writer; no locked instruction on the read path.
        word.store(word.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
    } else {
        // Relaxed: a statistic with several writers.
        word.fetch_add(count, Ordering::Relaxed);
    }
}

impl<'a> Worker<'a> {
    /// The worker of this thread in slot `slot`, for one writing operation.
    ///
    /// # Errors
    /// `Busy` when the threads that share the last worker do not get done.
    pub fn enter<H: Host>(
        region: &'a Region,
        geometry: &Geometry,
        slot: u32,
        shared: &'a Mutex<()>,
        host: &H,
        deadline: &Deadline,
    ) -> Result<Worker<'a>> {
        let worker = thread_worker();
        let guard = if worker == SHARED {
            // Asked for the time only if it is held.
            let wait = || shared.try_lock_for(Duration::from_nanos(deadline.left_ns(host)));
            Some(shared.try_lock().or_else(wait).ok_or_else(|| deadline.busy(host))?)
        } else {
            None
        };
        let base = geometry.participant_offset(slot) + at::WORKERS + at::WORKER_BYTES * u64::from(worker);
        let words = region.words::<{ at::WORKER_BYTES as usize / 8 }>(base);
        let (pins, counters) = words.split_at(at::WORKER_COUNTERS as usize / 8);
        Ok(Worker {
            publish_pin: &pins[0],
            relocate_pin: &pins[1],
            counters: counters.try_into().expect("as many counters as the layout says"),
            exclusive: worker != SHARED,
            index: worker as usize,
            taken_count: Cell::new(0),
            _shared: guard,
        })
    }

    #[inline]
    pub fn count(&self, counter: Counter, count: u64) {
        add(&self.counters[counter as usize], count, self.exclusive);
    }
}

impl Drop for Worker<'_> {
    fn drop(&mut self) {
        // Also on unwind: what was reserved and not published is nobody's.
        // Release: our writes into the pinned segment come before it is let go; pairs
        // with the Acquire in `pinned_by`.
        for pin in [self.publish_pin, self.relocate_pin] {
            if pin.load(Ordering::Relaxed) != 0 {
                pin.store(0, Ordering::Release);
            }
        }
    }
}
