//! What the models of `loom-tests` stand on; exists under `cfg(loom)` alone.
//!
//! A [`World`] is a region of a few small segments made of loom's atomics, a [`Process`]
//! an attachment to it, one thread each. Operations are the engine's own; beside them
//! stand its inner steps, one by one, so that a model can run a single protocol, and so
//! that a twin can leave out the one step that the protocol is about.

use std::sync::Arc;

use crate::deadline::Deadline;
use crate::error::Result;
use crate::hash::Hash;
use crate::host::Host;
use crate::index::Manner;
use crate::layout::{Geometry, Mode, control, lane, participant as slot_at, stripe};
use crate::lock::{self, Owner};
use crate::map::Map;
use crate::participant::{self, Pins};
use crate::region::Region;
use crate::segment::{State, Use};
use crate::slot::Slot;
use crate::split::{Grown, Growth};
use crate::sync::{AtomicU32, AtomicU64, Ordering, ProcessU32, yield_now};
use crate::types::WriteOptions;
use crate::write::Decision;

const SEGMENT_SHIFT: u32 = 10;
const SEGMENT_COUNT: u64 = 6;
/// Workers that have counters: no more threads than this run models at once.
const WORKER_COUNT: u64 = 4;
const ALIVE: u32 = 0;
const DEAD: u32 = 1;
const RETIRING: u32 = 2;
/// Longer than any wait that ends.
const WAIT_NS: u64 = u64::MAX;

/// The operating system of a model: processes die when told to, sleeps are yields.
#[derive(Clone)]
pub struct ModelHost {
    lives: Arc<Vec<AtomicU32>>,
    ticks: Arc<ProcessU32>,
}

impl ModelHost {
    /// A system with room for `count` processes, all alive.
    pub fn new(count: u32) -> ModelHost {
        ModelHost {
            lives: Arc::new((0..count).map(|_| AtomicU32::new(ALIVE)).collect()),
            ticks: Arc::new(ProcessU32::new(0)),
        }
    }

    /// The process behind slot `index` is gone. Everything it did happened before.
    pub fn kill(&self, index: u32) {
        // Release: a kernel that tells of a death has seen all that came before it.
        self.lives[index as usize].store(DEAD, Ordering::Release);
    }
}

impl Host for ModelHost {
    fn now_ms(&self) -> u64 {
        1
    }
    fn monotonic_ns(&self) -> u64 {
        // Relaxed: the model runs one thread at a time.
        u64::from(self.ticks.fetch_add(1, Ordering::Relaxed))
    }
    fn futex_wait(&self, _word: &AtomicU32, _expected: u32, _timeout_ns: u64) {
        yield_now();
    }
    fn futex_wake(&self, _word: &AtomicU32, _count: u32) {}
    fn is_dead(&self, owner: Owner) -> bool {
        // Acquire: as a system call that learns of a death.
        self.lives[owner.index() as usize].load(Ordering::Acquire) != ALIVE
    }
    fn retire(&self, index: u32, clean: &mut dyn FnMut()) -> bool {
        let life = &self.lives[index as usize];
        // AcqRel: the liveness lock of the slot.
        if life.compare_exchange(DEAD, RETIRING, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            return false;
        }
        clean();
        life.store(DEAD, Ordering::Release);
        true
    }
    fn back(&self, _offset: u64, _bytes: u64) -> Result<()> {
        Ok(())
    }
    fn populate_read(&self, _offset: u64, _bytes: u64) -> bool {
        true
    }
}

/// What a clean-up of the dead does with a lock that `dead` held.
pub fn release_for_the_dead(word: &AtomicU32, dead: Owner, host: &ModelHost) {
    lock::release_for_the_dead(word, |owner| owner == dead, host);
}

/// A region: one stripe, two buckets a block, six segments of 1 KiB.
pub struct World {
    region: Region,
    geometry: Geometry,
    host: ModelHost,
}

impl World {
    /// An empty region for `processes` processes. Called inside `loom::model`.
    pub fn new(processes: u32) -> World {
        let build = |bytes: u64| {
            Geometry::build(bytes, SEGMENT_SHIFT, 1, processes, 1, (0, 0, 0), Mode::Evict, 42).expect("a geometry")
        };
        let fixed = build(1 << 16).table_offset;
        let bytes =
            (fixed + 64 * SEGMENT_COUNT).next_multiple_of(1 << SEGMENT_SHIFT) + (SEGMENT_COUNT << SEGMENT_SHIFT);
        let geometry = build(bytes);
        assert_eq!(u64::from(geometry.segment_count), SEGMENT_COUNT);
        // Every word costs each execution some time: only those that are used.
        let area = |offset: u64, bytes: u64| offset..offset + bytes;
        let mut areas = vec![area(geometry.control_offset, control::FOLDED)];
        areas.extend((0..lane::COUNT).map(|index| area(geometry.lane_offset(index) + lane::SEGMENT, 8)));
        for index in 0..processes {
            let slot = geometry.participant_offset(index);
            areas.push(area(slot, slot_at::WORKERS + slot_at::WORKER_BYTES * WORKER_COUNT));
            let idle = WORKER_COUNT..u64::from(slot_at::WORKER_COUNT);
            let pins =
                |worker| area(slot + slot_at::WORKERS + slot_at::WORKER_BYTES * worker, slot_at::WORKER_COUNTERS);
            areas.extend(idle.map(pins));
        }
        areas.push(area(geometry.stripe_offset(0), stripe::BYTES));
        areas.push(geometry.table_offset..geometry.segments_end());
        let locks: Vec<u64> = (0..lane::COUNT)
            .map(|index| geometry.lane_offset(index) + lane::LOCK)
            .chain([geometry.stripe_offset(0) + stripe::LOCK])
            .collect();
        World { region: Region::for_model(&areas, &locks), geometry, host: ModelHost::new(processes) }
    }

    /// Attaches as participant `index`.
    pub fn attach(&self, index: u32) -> Process {
        let owner = participant::begin(&self.region, &self.geometry, index, 1, 0, 0);
        Process { map: Map::new(self.region.clone(), self.geometry.clone(), Some(owner), self.host.clone()), owner }
    }

    /// The region's words.
    pub fn region(&self) -> &Region {
        &self.region
    }

    /// The system that its processes run on.
    pub fn host(&self) -> &ModelHost {
        &self.host
    }
}

/// A process with one thread.
pub struct Process {
    map: Map<ModelHost>,
    owner: Owner,
}

/// Where a key is, by offsets.
#[derive(Debug, Clone, Copy)]
pub struct Linked {
    /// The counter of its bucket.
    pub counter: u64,
    /// Its slot.
    pub slot: u64,
    /// What the slot said.
    pub word: u64,
    /// The segment of its item.
    pub segment: u32,
    /// Offset of its item.
    pub offset: u64,
}

impl Process {
    /// All of the engine's operations.
    pub fn map(&self) -> &Map<ModelHost> {
        &self.map
    }

    /// Its identity.
    pub fn owner(&self) -> Owner {
        self.owner
    }

    /// The region's words.
    pub fn region(&self) -> &Region {
        &self.map.region
    }

    fn hash(&self, key: &[u8]) -> Hash {
        self.map.hasher.hash(key)
    }

    fn deadline() -> Deadline {
        Deadline::new(WAIT_NS)
    }

    fn options() -> WriteOptions {
        WriteOptions { timeout_ns: WAIT_NS, ..WriteOptions::default() }
    }

    /// `Map::set`, however long it takes.
    pub fn set(&self, key: &[u8], value: &[u8]) {
        self.map.set(key, value, &Self::options()).expect("room and time");
    }

    /// `Map::get`: the common way first.
    pub fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        let mut value = Vec::new();
        self.map.get(key, &mut value).expect("a read that ends").map(|_| value)
    }

    /// The general way of `Map::get` alone.
    pub fn lookup(&self, key: &[u8]) -> Option<Vec<u8>> {
        let read = |candidate: &crate::index::Candidate<'_>| {
            let mut value = Vec::with_capacity(candidate.meta.value_bytes);
            candidate.copy_value(value.spare_capacity_mut());
            // SAFETY: R7. `copy_value` initialized that many bytes.
            unsafe { value.set_len(candidate.meta.value_bytes) };
            Ok(value)
        };
        self.map.lookup(self.hash(key), key, Manner::Use, read).expect("a read that ends").map(|(_, value)| value)
    }

    /// Where `key` is.
    pub fn find(&self, key: &[u8]) -> Option<Linked> {
        let found = self.map.find(self.hash(key), key, Manner::Dead).expect("a read that ends")?;
        Some(Linked {
            counter: self.map.region.offset_of(found.bucket.counter()),
            slot: self.map.region.offset_of(found.slot),
            word: found.word.0,
            segment: found.segment,
            offset: found.offset,
        })
    }

    /// `Map::set` with `between` run between the reservation and the publication, on the
    /// write pin that protects it.
    pub fn set_with(&self, key: &[u8], value: &[u8], between: impl FnOnce(&AtomicU64)) {
        let (worker, owner) = self.map.enter(&Self::deadline()).expect("a participant");
        let options = Self::options();
        let head = self.map.check_item(key, value.len(), &options).expect("an item");
        let hash = self.hash(key);
        let proposal = self.map.propose(&worker, hash, key, head, &[value], &options, &Self::deadline()).expect("room");
        between(worker.publish_pin);
        let put = |_: Option<&crate::index::Found<'_>>| Decision::Put(());
        self.map.commit(&worker, owner, hash, key, Some(&proposal), &Self::deadline(), put).expect("a link");
    }

    /// Seals what is open in every lane.
    pub fn seal(&self) {
        self.map.seal_idle_lanes(true);
    }

    /// Reclaims sealed segment `segment`: items that were not used are dropped, or all
    /// are copied on if `compacts`. True if it became free.
    pub fn reclaim(&self, segment: u32, compacts: bool) -> bool {
        let (worker, owner) = self.map.enter(&Self::deadline()).expect("a participant");
        self.map.reclaim_segment(&worker, segment, compacts, owner)
    }

    /// What a reclaimer does with a victim whose pins it has looked at, and that it has
    /// not claimed: from the claim on.
    pub fn reclaim_unasked(&self, segment: u32) -> bool {
        let row = self.map.row(segment);
        let from = row.state_word();
        // A draining segment is one whose write pins were looked for.
        State::from_word(from).usage == Use::Sealed
            && row.change(from, State::from_word(from).to(Use::Draining))
            && self.map.empty_segment(
                &self.map.enter(&Self::deadline()).expect("a participant").0,
                self.map.incarnation(segment).expect("a segment"),
                true,
                self.owner,
            )
    }

    /// True if a participant is about to link something into `segment`.
    pub fn is_write_pinned(&self, segment: u32) -> bool {
        participant::pinned_by(&self.map.region, &self.map.geometry, segment, Pins::Write).is_some()
    }

    /// True if a participant reads from `segment`.
    pub fn is_read_pinned(&self, segment: u32) -> bool {
        participant::pinned_by(&self.map.region, &self.map.geometry, segment, Pins::Read).is_some()
    }

    /// Frees `segment` whatever its state is.
    pub fn free(&self, segment: u32) -> bool {
        self.map.free_segment(segment, self.map.row(segment).state_word())
    }

    /// The sequence of `segment`.
    pub fn sequence(&self, segment: u32) -> &AtomicU64 {
        self.map.row(segment).sequence()
    }

    /// Splits the block that serves `key`.
    pub fn split(&self, key: &[u8]) {
        let (worker, owner) = self.map.enter(&Self::deadline()).expect("a participant");
        let word = self.map.region.word32(self.map.geometry.stripe_offset(0) + stripe::LOCK);
        let mut growth = Growth::new(&self.map);
        loop {
            lock::acquire(word, owner, &self.map.host, WAIT_NS).expect("the stripe");
            let grown = self.map.grow(&worker, self.hash(key), &mut growth, owner).expect("a sound index");
            lock::release(word, &self.map.host);
            match grown {
                Grown::Needs(needs) => {
                    growth.prepare(&worker, 0, needs, owner, &Self::deadline()).expect("index memory")
                }
                Grown::Done => return,
                Grown::Refused => unreachable!("a first split"),
            }
        }
    }

    /// The reclaimer's step: the slot of `key` that names `offset` names `to` instead, or
    /// nothing. False if no slot does.
    pub fn change_place(&self, key: &[u8], offset: u64, to: Option<u64>) -> bool {
        let hash = self.hash(key);
        let Some(was) = self.map.find_place(hash, offset) else { return false };
        let to = to.map_or(Slot(0), |to| Slot::new(hash.tag(), was.queue(), 0, to));
        self.map.change_place(hash, offset, Some(to)).is_some()
    }

    /// The buckets that serve `key` now, by the offsets of their counters.
    pub fn buckets(&self, key: &[u8]) -> Vec<u64> {
        let hash = self.hash(key);
        let Some(path) = self.map.path(hash) else { return Vec::new() };
        let numbers = hash.buckets(self.map.geometry.bucket_shift);
        let meet = |number| self.map.meet(path.entry.offset(), path.entry.depth(), hash.tag(), number);
        numbers.into_iter().filter_map(meet).map(|met| self.map.region.offset_of(met.bucket.counter())).collect()
    }

    /// The state word of `segment`.
    pub fn state(&self, segment: u32) -> &AtomicU64 {
        self.map.region.word(self.map.geometry.row_offset(segment))
    }

    /// True if `segment` is sealed.
    pub fn is_sealed(&self, segment: u32) -> bool {
        self.map.row(segment).state().usage == Use::Sealed
    }

    /// True if `segment` is free.
    pub fn is_free(&self, segment: u32) -> bool {
        self.map.row(segment).state().usage == Use::Free
    }

    /// What is wrong with the region, while nobody writes.
    pub fn problems(&self) -> Vec<String> {
        self.map.validate().problems
    }
}
