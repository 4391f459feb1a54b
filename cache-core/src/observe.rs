//! What people are shown of a region: its segments, and who is attached.
//!
//! Owns: read-only pictures of the segment table and of the participant slots. All of it is
//! hints that were true at some moment of the look; nothing is decided by it, and bytes that
//! mean nothing are shown as such. Costs a walk over the tables: for once a second.

use crate::host::Host;
use crate::layout::{lane, participant as at, stripe};
use crate::lock::Owner;
use crate::map::Map;
use crate::participant;
use crate::segment::{Use, ticket_ms};
use crate::slot::Queue;
use crate::stats::{Counter, NAMES};
use crate::sync::Ordering;

/// What a segment is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SegmentUse {
    /// Nobody's.
    Free,
    /// Being prepared.
    Claimed,
    /// A lane appends to it.
    Open,
    /// Full; its items are read.
    Sealed,
    /// Somebody walks it to free it.
    Reclaiming,
    /// Half walked.
    Draining,
    /// Unlinked; somebody still reads in it.
    Condemned,
    /// Index blocks.
    Index,
    /// A later segment of a value that is larger than one.
    RunPart,
    /// No writer makes such a row.
    Damaged,
}

impl SegmentUse {
    /// The word for it in JSON.
    pub fn word(self) -> &'static str {
        match self {
            SegmentUse::Free => "free",
            SegmentUse::Claimed => "claimed",
            SegmentUse::Open => "open",
            SegmentUse::Sealed => "sealed",
            SegmentUse::Reclaiming => "reclaiming",
            SegmentUse::Draining => "draining",
            SegmentUse::Condemned => "condemned",
            SegmentUse::Index => "index",
            SegmentUse::RunPart => "run_part",
            SegmentUse::Damaged => "damaged",
        }
    }
}

/// What is known of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentInfo {
    /// Its number.
    pub index: u32,
    /// What it is used for.
    pub usage: SegmentUse,
    /// It is of the main queue; of the small one otherwise, if it holds items.
    pub is_main: bool,
    /// Bytes written so far; of a run, this segment's share.
    pub written_bytes: u64,
    /// Bytes of it that live (hint); of a run, this segment's share.
    pub live_bytes: u64,
    /// Milliseconds since it was opened or last kept, if it holds items.
    pub age_ms: Option<u64>,
}

/// A lease that a participant holds: a lock, a permit, or the making of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeldLease {
    /// Half of the seeded hash of its name; the name itself is not in the region.
    pub name_hash: u64,
    /// When it ends by itself, on the region's clock; [`crate::NEVER`] if it does not.
    pub until_ms: u64,
}

/// What is known of a participant: a process that is attached for writing, or was and died.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParticipantInfo {
    /// Its slot.
    pub slot: u32,
    /// Process id, as it noted it itself: in its own pid namespace.
    pub pid: u32,
    /// Start time of the process in clock ticks since boot, which tells a reused id.
    pub start_time: u64,
    /// Milliseconds since it attached.
    pub attached_ms: u64,
    /// The kernel does not say that it is gone.
    pub is_alive: bool,
    /// It is the one that asks.
    pub is_self: bool,
    /// Segments pinned by its views and large reads.
    pub read_pins: u32,
    /// Segments pinned by its writes and reservations.
    pub write_pins: u32,
    /// Stripes that it has locked.
    pub stripes: u32,
    /// Lanes that it has locked.
    pub lanes: u32,
    /// Segments that it prepares or walks.
    pub segments: u32,
    /// Leases that it holds.
    pub leases: Vec<HeldLease>,
    counters: [u64; at::COUNTER_COUNT as usize],
}

impl ParticipantInfo {
    /// What it counted since it attached.
    pub fn count(&self, counter: Counter) -> u64 {
        self.counters[counter as usize]
    }

    /// Its counters by their names.
    pub fn counters(&self) -> impl Iterator<Item = (&'static str, u64)> {
        NAMES.iter().copied().zip(self.counters)
    }
}

impl<H: Host> Map<H> {
    /// Visits every row of the segment table.
    pub fn segments(&self, visit: &mut dyn FnMut(SegmentInfo)) {
        let now_ms = self.host.now_ms();
        for index in 0..self.geometry.segment_count {
            visit(self.segment_info(index, now_ms));
        }
    }

    fn segment_info(&self, index: u32, now_ms: u64) -> SegmentInfo {
        let state = self.row(index).state();
        let usage = match state.usage {
            Use::Free => SegmentUse::Free,
            Use::Claimed => SegmentUse::Claimed,
            Use::Open => SegmentUse::Open,
            Use::Sealed => SegmentUse::Sealed,
            Use::Reclaiming => SegmentUse::Reclaiming,
            Use::Draining => SegmentUse::Draining,
            Use::Condemned => SegmentUse::Condemned,
            Use::Index => SegmentUse::Index,
            Use::RunPart => SegmentUse::RunPart,
            Use::Damaged => SegmentUse::Damaged,
        };
        let empty = SegmentInfo { index, usage, is_main: false, written_bytes: 0, live_bytes: 0, age_ms: None };
        // A part is what the head of its run is.
        let (row, state) = match state.usage {
            Use::Free | Use::Claimed | Use::Damaged => return empty,
            Use::Index => {
                let bytes = self.geometry.segment_bytes();
                return SegmentInfo { written_bytes: bytes, live_bytes: bytes, ..empty };
            }
            Use::RunPart if state.who >= self.geometry.segment_count => return empty,
            Use::RunPart => (self.row(state.who), self.row(state.who).state()),
            _ => (self.row(index), state),
        };
        let length = if state.is_run { row.run_length().min(u64::from(self.geometry.segment_count)) } else { 1 };
        let segment_bytes = self.geometry.segment_bytes();
        // Relaxed: a hint, and bounded because it is not trusted.
        let written_bytes = row.written().load(Ordering::Relaxed).min(length * segment_bytes);
        SegmentInfo {
            is_main: state.queue == Queue::Main,
            written_bytes: written_bytes / length,
            live_bytes: row.live_bytes(written_bytes) / length,
            age_ms: Some(now_ms.saturating_sub(ticket_ms(row.ticket()))),
            ..empty
        }
    }

    /// Everybody who is attached for writing, and those who died and were not yet cleaned up after.
    /// Who only reads is not seen. Asks the kernel about each.
    pub fn participants(&self) -> Vec<ParticipantInfo> {
        let (region, geometry) = (&self.region, &self.geometry);
        let mut infos: Vec<ParticipantInfo> = (0..participant::high(region, geometry))
            .filter(|index| participant::occupied(region, geometry, *index))
            .map(|index| self.participant_info(index))
            .collect();
        // The slots are few and in order; the tables are walked once for all.
        let slots: Vec<u32> = infos.iter().map(|info| info.slot).collect();
        let find = |word: u32| {
            let owner = Owner::from_word(word)?;
            let at = slots.binary_search(&owner.index()).ok()?;
            owner.is_generation(participant::generation(region, geometry, owner.index())).then_some(at)
        };
        // Relaxed, all: pictures.
        for number in 0..geometry.stripe_count {
            let word = region.word32(geometry.stripe_offset(number) + stripe::LOCK).load(Ordering::Relaxed);
            find(word).into_iter().for_each(|at| infos[at].stripes += 1);
        }
        for number in 0..lane::COUNT {
            let word = region.word32(geometry.lane_offset(number) + lane::LOCK).load(Ordering::Relaxed);
            find(word).into_iter().for_each(|at| infos[at].lanes += 1);
        }
        for index in 0..geometry.segment_count {
            let owner = self.row(index).state().owner();
            owner.and_then(|owner| find(owner.word())).into_iter().for_each(|at| infos[at].segments += 1);
        }
        let now_ms = self.host.now_ms();
        for index in 0..geometry.lease_count {
            let row = self.lease_row(index);
            let (owner, until_ms) = (row.owner.load(Ordering::Relaxed), row.until_ms.load(Ordering::Relaxed));
            let name_hash = row.low().load(Ordering::Relaxed);
            if name_hash != 0
                && until_ms > now_ms
                && let Some(at) = find(owner as u32)
            {
                infos[at].leases.push(HeldLease { name_hash, until_ms });
            }
        }
        infos
    }

    fn participant_info(&self, index: u32) -> ParticipantInfo {
        let (region, geometry) = (&self.region, &self.geometry);
        let slot = geometry.participant_offset(index);
        let owner = Owner::new(index, participant::generation(region, geometry, index));
        // Relaxed, all: pictures.
        let load = |offset: u64| region.word(slot + offset).load(Ordering::Relaxed);
        let workers = || (0..u64::from(at::WORKER_COUNT)).map(|worker| at::WORKERS + at::WORKER_BYTES * worker);
        let is_set = |offset: &u64| load(*offset) != 0;
        let reservations = (0..u64::from(at::RESERVATION_PIN_COUNT)).map(|cell| at::RESERVATION_PINS + 8 * cell);
        let writes = workers().flat_map(|worker| [worker + at::WORKER_PUBLISH_PIN, worker + at::WORKER_RELOCATE_PIN]);
        let reads = (0..u64::from(at::READ_PIN_COUNT)).map(|cell| at::READ_PINS + 8 * cell);
        let is_self = self.owner == Some(owner);
        ParticipantInfo {
            slot: index,
            pid: participant::pid(region, geometry, index),
            start_time: load(at::START_TIME),
            attached_ms: self.host.now_ms().saturating_sub(load(at::ATTACHED_MS)),
            is_alive: is_self || !self.host.is_dead(owner),
            is_self,
            read_pins: reads.filter(is_set).count() as u32,
            write_pins: reservations.chain(writes).filter(is_set).count() as u32,
            stripes: 0,
            lanes: 0,
            segments: 0,
            leases: Vec::new(),
            counters: std::array::from_fn(|counter| {
                workers()
                    .map(|worker| load(worker + at::WORKER_COUNTERS + 8 * counter as u64))
                    .fold(0, u64::wrapping_add)
            }),
        }
    }
}
