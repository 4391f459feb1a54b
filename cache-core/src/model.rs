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
use crate::layout::{Geometry, Mode, control, lane, lease, namespace, participant as slot_at, stripe};
use crate::lease::{Name, Terms, Tried};
use crate::lock::{self, Owner};
use crate::map::Map;
use crate::mark::TagMarks;
use crate::participant::{self, Pins};
use crate::region::Region;
use crate::segment::{State, Use};
use crate::slot::Slot;
use crate::split::{Grown, Growth};
use crate::sync::{AtomicU32, AtomicU64, Ordering, ProcessU32, yield_now};
use crate::types::{NEVER, WriteOptions};
use crate::write::Decision;

/// What a region is made of.
#[derive(Clone, Copy)]
struct Shape {
    segment_shift: u32,
    segment_count: u64,
    /// With all counters, which a clean-up of a slot adds up.
    is_whole: bool,
    lease_count: u32,
}

const ORDINARY: Shape = Shape { segment_shift: 10, segment_count: 6, is_whole: false, lease_count: 0 };
/// Two runs of two segments have room beside the reserve.
const FOR_RUNS: Shape = Shape { segment_shift: 9, segment_count: 8, ..ORDINARY };
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
    /// The liveness locks of the slots: held while `ALIVE` or `RETIRING`.
    lives: Arc<Vec<AtomicU32>>,
    ticks: Arc<ProcessU32>,
    /// Where the words of the slots are; without them there are no newcomers.
    slots: Option<(Region, Geometry)>,
}

impl ModelHost {
    /// A system with room for `count` processes, all alive.
    pub fn new(count: u32) -> ModelHost {
        ModelHost {
            lives: Arc::new((0..count).map(|_| AtomicU32::new(ALIVE)).collect()),
            ticks: Arc::new(ProcessU32::new(0)),
            slots: None,
        }
    }

    /// Takes the liveness lock of slot `index`; false if somebody holds it.
    fn take(&self, index: u32, to: u32) -> bool {
        // AcqRel: a system call that takes a lock.
        let life = &self.lives[index as usize];
        life.compare_exchange(DEAD, to, Ordering::AcqRel, Ordering::Relaxed).is_ok()
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
        // AcqRel, and never an old value: a system call that looks at a lock.
        let is_free = || self.lives[owner.index() as usize].fetch_add(0, Ordering::AcqRel) == DEAD;
        match &self.slots {
            Some((region, geometry)) => participant::is_gone(region, geometry, owner, is_free),
            None => is_free(),
        }
    }
    fn retire(&self, index: u32, clean: &mut dyn FnMut()) -> bool {
        if !self.take(index, RETIRING) {
            return false;
        }
        match &self.slots {
            Some((region, geometry)) => participant::retire(region, geometry, index, clean),
            None => clean(),
        }
        self.kill(index);
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
#[derive(Clone)]
pub struct World {
    region: Region,
    geometry: Geometry,
    host: ModelHost,
}

impl World {
    /// An empty region for `processes` processes. Called inside `loom::model`.
    pub fn new(processes: u32) -> World {
        World::of(ORDINARY, processes)
    }

    /// The same, in whose slots newcomers can be.
    pub fn for_newcomers(processes: u32) -> World {
        World::of(Shape { is_whole: true, ..ORDINARY }, processes)
    }

    /// The same with eight segments of 512 bytes: runs of two have room.
    pub fn for_runs(processes: u32) -> World {
        World::of(FOR_RUNS, processes)
    }

    /// The same with `count` lease rows.
    pub fn for_leases(processes: u32, count: u32) -> World {
        World::of(Shape { is_whole: true, lease_count: count, ..ORDINARY }, processes)
    }

    fn of(shape: Shape, processes: u32) -> World {
        let (shift, count) = (shape.segment_shift, shape.segment_count);
        let build = |bytes: u64| {
            Geometry::build(bytes, shift, 1, processes, 1, (2, 2, shape.lease_count), Mode::Evict, 42)
                .expect("a geometry")
        };
        let fixed = build(1 << 16).table_offset;
        let bytes = (fixed + 64 * count).next_multiple_of(1 << shift) + (count << shift);
        let geometry = build(bytes);
        assert_eq!(u64::from(geometry.segment_count), count);
        // Every word costs each execution some time: only those that are used.
        let area = |offset: u64, bytes: u64| offset..offset + bytes;
        let control_bytes = if shape.is_whole { control::BYTES } else { control::FOLDED };
        let mut areas = vec![area(geometry.control_offset, control_bytes)];
        areas.extend((0..lane::COUNT).map(|index| area(geometry.lane_offset(index) + lane::SEGMENT, 8)));
        for index in 0..processes {
            let slot = geometry.participant_offset(index);
            if shape.is_whole {
                areas.push(area(slot, slot_at::BYTES));
                continue;
            }
            areas.push(area(slot, slot_at::WORKERS + slot_at::WORKER_BYTES * WORKER_COUNT));
            let idle = WORKER_COUNT..u64::from(slot_at::WORKER_COUNT);
            let pins =
                |worker| area(slot + slot_at::WORKERS + slot_at::WORKER_BYTES * worker, slot_at::WORKER_COUNTERS);
            areas.extend(idle.map(pins));
        }
        areas.push(area(geometry.stripe_offset(0), stripe::BYTES));
        areas.push(geometry.table_offset..geometry.segments_end());
        // One namespace with a name, and the tags.
        let row = geometry.namespaces_offset + namespace::BYTES;
        areas.push(row..row + namespace::COUNTERS);
        if !shape.is_whole {
            areas.push(area(geometry.control_offset + control::EVICTED_AGE_MS, 8));
        }
        areas.push(geometry.tags_offset..geometry.tags_offset + 8 * u64::from(geometry.tag_count));
        let leases: Vec<u64> =
            (0..shape.lease_count).map(|index| geometry.leases_offset + lease::BYTES * u64::from(index)).collect();
        areas.extend(leases.iter().map(|row| row + lease::NAME..row + lease::BELL));
        areas.sort_unstable_by_key(|area| area.start);
        let locks: Vec<u64> = (0..lane::COUNT)
            .map(|index| geometry.lane_offset(index) + lane::LOCK)
            .chain([geometry.stripe_offset(0) + stripe::LOCK, geometry.control_offset + control::NAMESPACES_LOCK])
            .chain(
                leases
                    .iter()
                    .flat_map(|row| [lease::LOCK, lease::PLACE, lease::BELL, lease::AGREED].map(|at| row + at)),
            )
            .collect();
        let region = Region::for_model(&areas, &locks);
        let host = ModelHost { slots: Some((region.clone(), geometry.clone())), ..ModelHost::new(processes) };
        World { region, geometry, host }
    }

    fn map(&self, owner: Option<Owner>) -> Map<ModelHost> {
        Map::new(self.region.clone(), self.geometry.clone(), owner, self.host.clone())
    }

    /// Attaches as participant `index`.
    pub fn attach(&self, index: u32) -> Process {
        let owner = participant::begin(&self.region, &self.geometry, index, 1, 0, 0);
        Process { map: self.map(Some(owner)), owner }
    }

    /// Attaches in slot `index`, whose participant died, with all that a newcomer does.
    /// `None` if somebody holds its liveness lock.
    pub fn attach_anew(&self, index: u32) -> Option<Process> {
        if !self.host.take(index, ALIVE) {
            return None;
        }
        let was_occupied = participant::occupied(&self.region, &self.geometry, index);
        let process = self.attach(index);
        if was_occupied {
            process.map.clean_slot(index, Some(process.owner));
        }
        Some(process)
    }

    /// An attachment without a slot, which pins nothing.
    pub fn attach_read_only(&self) -> Map<ModelHost> {
        self.map(None)
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

    fn options() -> WriteOptions<'static> {
        WriteOptions { timeout_ns: WAIT_NS, ..WriteOptions::default() }
    }

    /// Takes the lease `name`, however long it takes. Returns its token.
    pub fn lease(&self, name: Name) -> u64 {
        let terms = Terms { holder: 1, ttl_ms: NEVER, reentrant: false, timeout_ns: WAIT_NS };
        self.map.acquire_lease(name, &terms).expect("a row and time").expect("time")
    }

    /// One look at the lease `name`, which takes it from `dead` as well: its token, or its owner.
    pub fn try_lease(&self, name: Name, dead: &[Owner]) -> core::result::Result<u64, Owner> {
        let terms = Terms { holder: 1, ttl_ms: NEVER, reentrant: false, timeout_ns: 0 };
        match self.map.try_lease(name, 1, self.owner, &terms, dead, false).expect("a row and time") {
            Tried::Taken(token) => Ok(token),
            Tried::Held { owner, .. } => Err(owner),
        }
    }

    /// Finds a row for `name` without the lock of those who look for a place for it.
    pub fn place_lease_alone(&self, name: Name) {
        drop(self.map.place_lease_alone(name, self.owner));
    }

    /// The owner words of the rows of the lease table.
    pub fn lease_owners(&self) -> impl Iterator<Item = &AtomicU64> {
        (0..self.map.geometry.lease_count).map(|index| self.map.lease_row(index).owner)
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
        let read = |candidate: &crate::candidate::Candidate<'_>| {
            let mut value = Vec::with_capacity(candidate.meta.value_bytes);
            candidate.copy_value(value.spare_capacity_mut());
            // SAFETY: R7. `copy_value` initialized that many bytes.
            unsafe { value.set_len(candidate.meta.value_bytes) };
            Ok(value)
        };
        self.map
            .lookup(self.hash(key), key.into(), Manner::Use, read)
            .expect("a read that ends")
            .map(|(_, value)| value)
    }

    /// Where `key` is.
    pub fn find(&self, key: &[u8]) -> Option<Linked> {
        let found = self.map.find(self.hash(key), key.into(), Manner::Dead).expect("a read that ends")?;
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
        let head = self.map.check_item(key.into(), value.len(), &options).expect("an item");
        let hash = self.hash(key);
        let proposal = self
            .map
            .propose(
                &worker,
                hash,
                self.map.path(hash),
                key.into(),
                head,
                &[value],
                &options,
                TagMarks::Now(&[]),
                &Self::deadline(),
            )
            .expect("room");
        between(worker.publish_pin);
        let put = |_: Option<&crate::index::Found<'_>>| Decision::Put(());
        self.map.commit(&worker, owner, hash, key.into(), Some(&proposal), &Self::deadline(), put).expect("a link");
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

    /// The items below the write offset of `segment` as a walk meets them (offset, header
    /// word, bytes to the next), and where the walk ended.
    pub fn walk(&self, segment: u32) -> (Vec<(u64, u64, u64)>, u64) {
        let mut met = Vec::new();
        let walked = self.map.walk_items(segment, 0, &mut |offset, head, step| {
            met.push((offset, head.to_word(), step));
            true
        });
        (met, self.map.geometry.segment_offset(segment) + walked.at)
    }

    /// How far `segment` was walked; of a run's head, its length.
    pub fn progress(&self, segment: u32) -> &AtomicU64 {
        self.map.row(segment).progress()
    }

    /// Bytes written to `segment`.
    pub fn written(&self, segment: u32) -> &AtomicU64 {
        self.map.row(segment).written()
    }

    /// Gives back what dead owners have in hand.
    pub fn release_the_dead(&self) -> bool {
        self.map.release_the_dead()
    }

    /// Claims `length` consecutive segments and makes them a run; its head.
    pub fn obtain_run(&self, length: u32) -> u32 {
        let (worker, owner) = self.map.enter(&Self::deadline()).expect("a participant");
        self.map.obtain_run(&worker, length, owner, &Self::deadline()).expect("a window")
    }

    /// Parts of runs whose head is no run become free. Returns how many.
    pub fn release_stray_parts(&self) -> u32 {
        self.map.release_stray_parts()
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
        self.map.validate_space().problems
    }
}
