//! The map: one attachment to a region, and all that can be read through it.
//!
//! Owns: the private state of an attachment (geometry, identity, what is readable, which
//! segments are pinned) and the reading operations. Writing operations are in `write`.
//! Reads take no lock and wait for nobody.

use parking_lot::Mutex;
use std::ops::Deref;

use crate::common::{Common, Wanted, buffer_of, value_bytes_common};
use crate::error::{Error, Result};
use crate::hash::{Hash, Hasher};
use crate::host::Host;
use crate::index::Manner;
use crate::layout::{Geometry, KEY_BYTES_MAX, block, control, lane, participant as slot_at, stripe};
use crate::lock::{self, Owner};
use crate::namespace::Tallies;
use crate::participant;
use crate::pin::ReadPins;
use crate::readable::Readable;
use crate::region::Region;
use crate::sample::Chosen;
use crate::segment::State;
use crate::stats::{Counter, Stats};
use crate::sync::{AtomicU64, Ordering, fence};
use crate::types::{Destination, Key, Meta, Namespace};

/// Reads of a batch that are under way at once.
const BATCH: usize = 32;

/// Writers that may overtake the pinning of one value before it is Busy.
const PIN_TRIES_MAX: u32 = 10_000;

/// One attachment to a region. All operations take `&self`, from any thread.
pub struct Map<H: Host> {
    pub(crate) region: Region,
    pub(crate) geometry: Geometry,
    pub(crate) owner: Option<Owner>,
    /// Numbers that every read needs, derived from the geometry.
    pub(crate) block_bytes: u64,
    pub(crate) segment_mask: u64,
    pub(crate) bucket_mask: u64,
    /// The highest place where a block can stand.
    pub(crate) last_block: u64,
    pub(crate) value_bytes_common: usize,
    /// Offset of this participant's workers.
    workers_offset: u64,
    pub(crate) host: H,
    pub(crate) hasher: Hasher,
    /// For names of leases, which are told apart by 128 bits.
    pub(crate) second_hasher: Hasher,
    pub(crate) tallies: Tallies,
    pub(crate) chosen: Chosen,
    pub(crate) readable: Readable,
    pub(crate) read_pins: ReadPins,
    /// Serializes the threads that share the last worker.
    pub(crate) shared_worker: Mutex<()>,
    /// Reclaim work owed by each worker, in bytes.
    pub(crate) debts: [AtomicU64; slot_at::WORKER_COUNT as usize],
    /// The lane of each queue at which each worker begins.
    pub(crate) homes: [[AtomicU64; 2]; slot_at::WORKER_COUNT as usize],
    /// How often each lane was found held.
    pub(crate) held_count: [AtomicU64; lane::COUNT as usize],
    /// Condemned segments at the last census.
    pub(crate) condemned_hint: AtomicU64,
    /// When the table was last counted, and whether it was too full to compact.
    pub(crate) census_ns: AtomicU64,
    pub(crate) was_tight: AtomicU64,
    /// When the file system last refused memory; 0 = never.
    pub(crate) space_refused_ns: AtomicU64,
    /// When compaction last freed no more than it took, or waited for others in vain; 0 = never.
    pub(crate) compaction_futile_ns: AtomicU64,
}

impl<H: Host> Map<H> {
    /// The map over an attached region.
    ///
    /// `owner` is the participant slot whose liveness lock this process holds, or `None`
    /// for a read-only attachment, which leaves no trace: no pins, no counts, no uses.
    pub fn new(region: Region, geometry: Geometry, owner: Option<Owner>, host: H) -> Map<H> {
        Map {
            hasher: Hasher::new(geometry.seed),
            second_hasher: Hasher::second(geometry.seed),
            block_bytes: geometry.block_bytes(),
            segment_mask: geometry.segment_bytes() - 1,
            workers_offset: geometry.participant_offset(owner.map_or(0, Owner::index)) + slot_at::WORKERS,
            bucket_mask: (geometry.bucket_count() - 1) * block::BUCKET_BYTES,
            last_block: geometry.segments_end() - geometry.block_bytes(),
            value_bytes_common: value_bytes_common(geometry.chunk_bytes()),
            readable: Readable::new(&geometry),
            tallies: Tallies::new(&geometry),
            chosen: Chosen::new(&geometry),
            read_pins: ReadPins::new(),
            shared_worker: Mutex::new(()),
            debts: std::array::from_fn(|_| AtomicU64::new(0)),
            homes: std::array::from_fn(|_| std::array::from_fn(|_| AtomicU64::new(0))),
            held_count: std::array::from_fn(|_| AtomicU64::new(0)),
            condemned_hint: AtomicU64::new(0),
            census_ns: AtomicU64::new(0),
            was_tight: AtomicU64::new(0),
            space_refused_ns: AtomicU64::new(0),
            compaction_futile_ns: AtomicU64::new(0),
            region,
            geometry,
            owner,
            host,
        }
    }

    /// The operating system behind the map.
    pub fn host(&self) -> &H {
        &self.host
    }

    /// The fixed numbers of the region.
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// The participant slot of this process; `None` if the attachment is read-only.
    pub fn owner(&self) -> Option<Owner> {
        self.owner
    }

    /// Milliseconds on the region's clock.
    pub fn now_ms(&self) -> u64 {
        self.host.now_ms()
    }

    pub(crate) fn control_word(&self, offset: u64) -> &AtomicU64 {
        self.region.word(self.geometry.control_offset + offset)
    }

    #[inline]
    pub(crate) fn count(&self, counter: Counter, count: u64) {
        if self.owner.is_some() {
            participant::count_read(&self.region, self.workers_offset, counter, count);
        }
    }

    /// Counts for the region and for a namespace.
    #[inline]
    pub(crate) fn count_in(&self, namespace: Namespace, counter: Counter, count: u64) {
        self.count(counter, count);
        self.tally(namespace, counter, count);
    }

    /// The hash of a key in this region, for tables of those who keep something beside it.
    #[inline]
    pub fn hash<'k>(&self, key: impl Into<Key<'k>>) -> u64 {
        self.hasher.key(key.into()).0
    }

    /// The hash of a key that may be stored.
    #[inline]
    pub(crate) fn hash_key(&self, key: Key<'_>) -> Result<Hash> {
        self.check_key(key)?;
        Ok(self.hasher.key(key))
    }

    /// Copies the value of `key` into `destination`. `None` if the key is not there.
    ///
    /// Takes no lock and makes no system call. What is copied is the value of one
    /// completed write that was current at one instant of the call.
    ///
    /// # Errors
    /// `KeyEmpty`, `KeyTooLong`, or what `destination` returns.
    #[inline(always)]
    pub fn get<'k, D: Destination + ?Sized>(
        &self,
        key: impl Into<Key<'k>>,
        destination: &mut D,
    ) -> Result<Option<Meta>> {
        let key = key.into();
        self.get_hashed(self.hasher.key(key), key, destination, Manner::Use)
    }

    /// As [`Map::get`], without counting as a use of the key.
    ///
    /// # Errors
    /// As [`Map::get`].
    pub fn peek<'k, D: Destination + ?Sized>(
        &self,
        key: impl Into<Key<'k>>,
        destination: &mut D,
    ) -> Result<Option<Meta>> {
        let key = key.into();
        self.get_hashed(self.hasher.key(key), key, destination, Manner::Look)
    }

    #[inline(always)]
    fn get_hashed<D: Destination + ?Sized>(
        &self,
        hash: Hash,
        key: Key<'_>,
        destination: &mut D,
        manner: Manner,
    ) -> Result<Option<Meta>> {
        if self.is_sampled(hash) {
            return self.get_chosen(hash, key, destination, manner);
        }
        self.get_counted(hash, key, destination, manner)
    }

    /// As `get_hashed`, for a key of the sample.
    #[cold]
    #[inline(never)]
    fn get_chosen<D: Destination + ?Sized>(
        &self,
        hash: Hash,
        key: Key<'_>,
        destination: &mut D,
        manner: Manner,
    ) -> Result<Option<Meta>> {
        let found = self.get_counted(hash, key, destination, manner)?;
        if manner == Manner::Use {
            self.record_read(hash, key, found.as_ref());
        }
        Ok(found)
    }

    #[inline(always)]
    fn get_counted<D: Destination + ?Sized>(
        &self,
        hash: Hash,
        key: Key<'_>,
        destination: &mut D,
        manner: Manner,
    ) -> Result<Option<Meta>> {
        match self.read_common(hash, key, |meta| buffer_of(destination, meta), manner == Manner::Use) {
            Some(Common::Hit(meta)) => {
                self.count_in(key.namespace, Counter::Hits, 1);
                Ok(Some(meta))
            }
            Some(Common::Miss) => {
                self.count_in(key.namespace, Counter::Misses, 1);
                Ok(None)
            }
            None => self.get_uncommon(key, destination, manner),
        }
    }

    #[cold]
    #[inline(never)]
    fn get_uncommon<D: Destination + ?Sized>(
        &self,
        key: Key<'_>,
        destination: &mut D,
        manner: Manner,
    ) -> Result<Option<Meta>> {
        let hash = self.hash_key(key)?;
        let found = self.lookup(hash, key, manner, |candidate| {
            candidate.copy_value(destination.buffer(&candidate.meta)?);
            Ok(())
        })?;
        self.count_in(key.namespace, if found.is_some() { Counter::Hits } else { Counter::Misses }, 1);
        Ok(found.map(|(found, ())| found.meta))
    }

    /// What is known of `key`'s value. Does not count as a use.
    ///
    /// # Errors
    /// `KeyEmpty`, `KeyTooLong`.
    pub fn meta<'k>(&self, key: impl Into<Key<'k>>) -> Result<Option<Meta>> {
        let key = key.into();
        let hash = self.hash_key(key)?;
        Ok(self.find(hash, key, Manner::Look)?.map(|found| found.meta))
    }

    /// True if `key` is there. Does not count as a use.
    ///
    /// # Errors
    /// `KeyEmpty`, `KeyTooLong`.
    #[inline]
    pub fn contains<'k>(&self, key: impl Into<Key<'k>>) -> Result<bool> {
        let key = key.into();
        match self.read_common(self.hasher.key(key), key, |_| Wanted::Nothing, false) {
            Some(Common::Hit(_)) => Ok(true),
            Some(Common::Miss) => Ok(false),
            None => Ok(self.meta(key)?.is_some()),
        }
    }

    /// Counts a use of `key`, as a read does, without its value: neither a hit nor a miss. True if
    /// it is there.
    ///
    /// # Errors
    /// `KeyEmpty`, `KeyTooLong`.
    pub fn mark_used<'k>(&self, key: impl Into<Key<'k>>) -> Result<bool> {
        let key = key.into();
        let hash = self.hash_key(key)?;
        Ok(self.find(hash, key, Manner::Use)?.is_some())
    }

    /// Lends the value of `key` without copying it. The view stays as it is when the key
    /// is overwritten, deleted or evicted. Where nothing can be pinned (a read-only
    /// attachment, all pins in use, too much condemned space) it is a private copy.
    ///
    /// # Errors
    /// `KeyEmpty`, `KeyTooLong`.
    pub fn view<'k>(&self, key: impl Into<Key<'k>>) -> Result<Option<View<'_, H>>> {
        let key = key.into();
        Ok(self.pin(key)?.map(|value| View { map: self, value }))
    }

    /// The raw form of [`Map::view`] for callers that cannot hold a borrow. Every value
    /// goes back through [`Map::unpin`].
    ///
    /// # Errors
    /// `KeyEmpty`, `KeyTooLong`.
    pub fn pin<'k>(&self, key: impl Into<Key<'k>>) -> Result<Option<PinnedValue>> {
        let key = key.into();
        let hash = self.hash_key(key)?;
        for _ in 0..PIN_TRIES_MAX {
            let Some((found, value_at)) =
                self.lookup(hash, key, Manner::Look, |candidate| Ok(candidate.offset + candidate.shape.value_at))?
            else {
                self.count_in(key.namespace, Counter::Misses, 1);
                self.note_read(hash, key, None);
                return Ok(None);
            };
            let pin = if self.is_condemned_full() { None } else { self.pin_segment(found.segment).ok() };
            let Some(pin) = pin else {
                let mut copy = Vec::new();
                return Ok(self.get_hashed(hash, key, &mut copy, Manner::Use)?.map(|meta| PinnedValue {
                    bytes: copy.as_ptr(),
                    meta,
                    segment: None,
                    copy,
                }));
            };
            // SeqCst: our pin before the slot load; a reclaimer unlinks before its fence and
            // scan. One of the two sees the other. [loom: pin]
            fence(Ordering::SeqCst);
            // The same item still, under the pin: another lookup, now of pinned bytes.
            let again = self.find(hash, key, Manner::Use)?;
            if !again.is_some_and(|again| again.word.item() == found.word.item() && again.meta == found.meta) {
                continue;
            }
            self.count_in(key.namespace, Counter::Hits, 1);
            self.note_read(hash, key, Some(&found.meta));
            return Ok(Some(PinnedValue {
                bytes: self.region.address(value_at, found.meta.value_bytes as u64),
                meta: found.meta,
                segment: Some(pin.keep()),
                copy: Vec::new(),
            }));
        }
        Err(Error::Busy { waited_ms: 0 })
    }

    /// Ends a [`Map::pin`].
    ///
    /// # Safety
    /// - `value` came from `pin` of this very map.
    /// - Nobody uses its bytes any more.
    pub unsafe fn unpin(&self, value: PinnedValue) {
        if let Some(segment) = value.segment {
            self.unpin_segment(segment);
        }
    }

    /// Reads many keys, with their cache misses under way at the same time. `visit` gets
    /// the position of each key that was found, in order. Returns how many were.
    ///
    /// Each key is read as by [`Map::get`]; the batch is not one instant.
    ///
    /// # Errors
    /// `KeyEmpty`, `KeyTooLong`: nothing was visited then.
    pub fn get_many<'k, K: Copy + Into<Key<'k>>>(
        &self,
        keys: &[K],
        visit: &mut dyn FnMut(usize, &Meta, &[u8]),
    ) -> Result<usize> {
        for key in keys {
            self.check_key((*key).into())?;
        }
        let mut hits = 0;
        let mut value = Vec::new();
        let mut at = 0;
        for keys in keys.chunks(BATCH) {
            let mut wanted = [(Hash(0), [0; 2]); BATCH];
            for ((hash, lines), key) in wanted.iter_mut().zip(keys) {
                *hash = self.hasher.key((*key).into());
                *lines = self.prefetch_buckets(*hash);
            }
            for (hash, lines) in &wanted[..keys.len()] {
                self.prefetch_items(*hash, *lines);
            }
            for (key, (hash, _)) in keys.iter().zip(wanted) {
                if let Some(meta) = self.get_hashed(hash, (*key).into(), &mut value, Manner::Use)? {
                    visit(at, &meta, &value);
                    hits += 1;
                }
                at += 1;
            }
        }
        Ok(hits)
    }

    #[inline]
    pub(crate) fn check_key(&self, key: Key<'_>) -> Result<()> {
        match key.bytes.len() {
            0 => Err(Error::KeyEmpty),
            1..=KEY_BYTES_MAX => Ok(()),
            bytes => Err(Error::KeyTooLong { bytes: bytes as u64, bytes_max: KEY_BYTES_MAX as u64 }),
        }
    }

    /// The state of the region in numbers.
    pub fn stats(&self) -> Stats {
        let census = self.census(&[]);
        let segment_bytes = self.geometry.segment_bytes();
        let participants = (0..participant::high(&self.region, &self.geometry))
            .filter(|index| participant::occupied(&self.region, &self.geometry, *index))
            .count();
        let mut stats = Stats {
            items: self.items_hint(),
            live_bytes: census.live_bytes.saturating_sub((census.index + census.condemned) * segment_bytes),
            dead_bytes: census.dead_bytes,
            free_bytes: census.free * segment_bytes,
            index_bytes: census.index * segment_bytes,
            small_bytes: census.small * segment_bytes,
            main_bytes: census.main * segment_bytes,
            condemned_bytes: census.condemned * segment_bytes,
            region_bytes: self.geometry.region_bytes,
            fixed_bytes: self.geometry.segments_offset,
            segment_bytes,
            segments: u64::from(self.geometry.segment_count),
            stripes: u64::from(self.geometry.stripe_count),
            participants: participants as u64,
            participants_max: u64::from(self.geometry.participant_count),
            pins: participant::pin_count(&self.region, &self.geometry),
            // Relaxed: a statistic.
            evicted_age_ms: self.control_word(control::EVICTED_AGE_MS).load(Ordering::Relaxed),
            ..Stats::default()
        };
        stats.add_counters(&self.counters());
        stats
    }

    pub(crate) fn items_hint(&self) -> u64 {
        // What has not caught up with a clear of everything there is holds nothing.
        let namespace = if self.has_namespaces() { Namespace::NOWHERE } else { Namespace::DEFAULT };
        let generation = self.generation(namespace);
        // Relaxed, all: hints.
        (0..self.geometry.stripe_count)
            .map(|index| self.stripe(index))
            .filter(|stripe| stripe.caught_up(namespace).0.load(Ordering::Relaxed) == generation)
            .map(|stripe| (stripe.items().load(Ordering::Relaxed) as i64).max(0) as u64)
            .fold(0, u64::saturating_add)
    }

    /// Releases everything that is owned in the name of participant slot `index` by an
    /// incarnation other than `keep`: pins, locks, lanes, segments, index blocks. Its
    /// counters move into the base. The caller holds the slot's liveness lock.
    ///
    /// Repeatable: one that dies half way is done again by the next.
    pub fn clean_slot(&self, index: u32, keep: Option<Owner>) {
        participant::clear_and_fold(&self.region, &self.geometry, index);
        let is_dead = |owner: Owner| owner.index() == index && Some(owner) != keep;
        let stripes = (0..self.geometry.stripe_count).map(|number| self.geometry.stripe_offset(number) + stripe::LOCK);
        let lanes = (0..lane::COUNT).map(|number| self.geometry.lane_offset(number) + lane::LOCK);
        for offset in stripes.chain(lanes) {
            lock::release_for_the_dead(self.region.word32(offset), is_dead, &self.host);
        }
        for segment in 0..self.geometry.segment_count {
            let from = self.row(segment).state_word();
            if State::from_word(from).owner().is_some_and(is_dead) {
                self.release_segment_of(segment, from);
            }
        }
        self.release_blocks_of(index, keep);
        self.release_leases_of(is_dead);
        lock::release_for_the_dead(self.namespaces_lock(), is_dead, &self.host);
    }
}

/// A value that is pinned where it lies, or a private copy.
pub struct PinnedValue {
    bytes: *const u8,
    meta: Meta,
    segment: Option<u32>,
    copy: Vec<u8>,
}

// SAFETY: R6. The bytes are pinned shared memory that nobody changes, or owned.
unsafe impl Send for PinnedValue {}
// SAFETY: R6, as above.
unsafe impl Sync for PinnedValue {}

impl PinnedValue {
    /// Address of the value's first byte.
    pub fn as_ptr(&self) -> *const u8 {
        if self.segment.is_some() { self.bytes } else { self.copy.as_ptr() }
    }

    /// What is known of the value.
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// True if the bytes lie in the region; false for a private copy.
    pub fn is_pinned(&self) -> bool {
        self.segment.is_some()
    }
}

/// A value that is read where it lies. Its pin ends on drop.
pub struct View<'m, H: Host> {
    map: &'m Map<H>,
    value: PinnedValue,
}

impl<H: Host> View<'_, H> {
    /// What is known of the value.
    pub fn meta(&self) -> &Meta {
        &self.value.meta
    }
}

impl<H: Host> Deref for View<'_, H> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: R6. Pinned: the segment is not reused while the pin is held, and items
        // never change; its length was checked when it was found.
        unsafe { std::slice::from_raw_parts(self.value.as_ptr(), self.value.meta.value_bytes) }
    }
}

impl<H: Host> Drop for View<'_, H> {
    fn drop(&mut self) {
        if let Some(segment) = self.value.segment {
            self.map.unpin_segment(segment);
        }
    }
}
