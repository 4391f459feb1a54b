//! A worker: random operations until it is killed, each result compared with what it may be.
//!
//! Owns: the operations and what they promise. A worker is the only writer of its slot's
//! own keys; their records in the ledger say what they hold. It panics at the first
//! broken promise, which ends its process with another code than 0.

use std::collections::HashSet;
use std::path::Path;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use cache_core::lock;
use cache_shm::{Cache, Cas, Cursor, Error, View, WriteOptions, kind};
use fastrand::Rng;

use crate::ledger::{Ledger, OWNED, OWNED_REGIONS, Record, Slot, State};
use crate::plan::Plan;
use crate::system::Raw;
use crate::value::{self, APPENDS_MAX, Class, Key, blob, piece};

/// The regions: nothing may get lost in the first, everybody writes all of the third.
pub const REGIONS: [&str; 3] = ["keep", "drop", "scratch"];
/// The no-evict region.
pub const KEEP: usize = 0;
/// The evicting region that has keys with one writer.
pub const DROP: usize = 1;
/// The region that is cleared now and then.
pub const SCRATCH: usize = 2;
/// Keys that everybody writes, in each region.
const SHARED: [usize; 3] = [40_000, 60_000, 8_000];
/// Neighbouring keys that are written one after the other, so that the index grows.
const BURST: usize = 200;
/// One operation in so many is a `clear`.
const CLEAR_EVERY: u32 = 40_000;
const VIEWS_MAX: usize = 4;

struct HeldView {
    view: View,
    copy: Vec<u8>,
}

struct Worker<'a> {
    ledger: &'a Ledger,
    slot_index: usize,
    workers: usize,
    caches: [Cache; 3],
    lock_words: Raw,
    random: Rng,
    views: Vec<HeldView>,
    buffer: Vec<u8>,
}

/// Runs worker `slot_index` in its `life`-th life until it is told to stop.
pub fn run(ledger: &Ledger, plan: &Plan, dir: &Path, round: u32, slot_index: usize, life: u64) {
    let open =
        |name: &str| Cache::builder(Some(name)).dir(dir).open().unwrap_or_else(|error| panic!("{name}: {error}"));
    let mut worker = Worker {
        ledger,
        slot_index,
        workers: plan.workers,
        caches: REGIONS.map(open),
        lock_words: Raw::open(&dir.join(REGIONS[DROP])),
        random: plan.worker_random(round, slot_index, life),
        views: Vec::new(),
        buffer: Vec::new(),
    };
    worker.check_all();
    while ledger.stop.load(SeqCst) == 0 {
        worker.grant_wish();
        worker.step();
        worker.slot().counts.operations.fetch_add(1, SeqCst);
    }
    worker.drop_views();
    worker.check_all();
}

impl<'a> Worker<'a> {
    fn slot(&self) -> &'a Slot {
        &self.ledger.slots[self.slot_index]
    }

    fn record(&self, region: usize, number: usize) -> &'a Record {
        &self.slot().records[region][number]
    }

    fn wrong(&self, key: Key, what: &str) -> ! {
        self.slot().counts.wrong.fetch_add(1, SeqCst);
        panic!("WRONG: worker {} key {:#x}: {what}", self.slot_index, key.0)
    }

    fn lost(&self, key: Key, what: &str) -> ! {
        self.slot().counts.losses.fetch_add(1, SeqCst);
        panic!("LOST: worker {} key {:#x}: {what}", self.slot_index, key.0)
    }

    /// Finds out what every key of ours holds: after a death, the old or the new state.
    fn check_all(&mut self) {
        for region in 0..OWNED_REGIONS {
            for number in 0..OWNED {
                let key = Key::owned(region, self.slot_index, number);
                let possible = self.record(region, number).possible();
                let state = self.find(region, key, possible);
                self.record(region, number).settle(state);
            }
        }
    }

    /// Reads a key of which nobody writes now, and says which of the possible states it has.
    fn find(&mut self, region: usize, key: Key, possible: [State; 2]) -> State {
        let mut found = std::mem::take(&mut self.buffer);
        let state = match self.caches[region].get_into(&key.bytes(), &mut found) {
            Ok(Some(_)) => self.state_of(key, &found, possible),
            Ok(None) => self.missing(region, key, possible),
            Err(error) => self.wrong(key, &format!("get: {error}")),
        };
        self.buffer = found;
        state
    }

    fn missing(&self, region: usize, key: Key, possible: [State; 2]) -> State {
        if region == KEEP && !possible.contains(&State::Absent) {
            self.lost(key, &format!("missing, and could be {possible:?}"));
        }
        State::Absent
    }

    /// Which of the possible states the bytes are.
    fn state_of(&self, key: Key, found: &[u8], possible: [State; 2]) -> State {
        self.slot().counts.checked.fetch_add(1, SeqCst);
        let is_found = |state: &State| match *state {
            State::Absent => false,
            State::Blob { serial, appends } => blob(key, serial, appends) == found,
            State::Integer(number) => number.to_le_bytes() == found,
        };
        possible.into_iter().find(is_found).unwrap_or_else(|| {
            let fault = value::fault(key, found).unwrap_or_else(|| "whole, but not of now".into());
            let head = &found[..found.len().min(24)];
            self.wrong(key, &format!("{} bytes {head:02x?}: {fault}; could be {possible:?}", found.len()))
        })
    }

    fn check_bytes(&self, key: Key, found: &[u8]) {
        self.slot().counts.checked.fetch_add(1, SeqCst);
        if let Some(fault) = value::fault(key, found) {
            self.wrong(key, &fault);
        }
    }

    fn step(&mut self) {
        let region = match self.random.u32(..20) {
            0..8 => KEEP,
            8..16 => DROP,
            _ => SCRATCH,
        };
        match self.random.u32(..1000) {
            0..400 if region < OWNED_REGIONS => {
                let number = self.random.usize(..OWNED);
                self.change_own(region, number);
            }
            400..600 if region < OWNED_REGIONS => self.read_of_others(region),
            600..620 => self.read_many(region),
            620..650 => self.hold_a_view(region),
            650..660 => self.drop_views(),
            660..662 => self.scan(region),
            662..665 => drop(self.tolerate(self.caches[region].maintain(64 << 10))),
            665..668 => self.burst(region),
            668 if self.random.u32(..CLEAR_EVERY / 1000) == 0 => self.caches[SCRATCH].clear().expect("clear"),
            _ => self.change_shared(region),
        }
    }

    /// The result of a write, or `None` if it was refused for a reason that is no fault.
    fn tolerate<T>(&self, result: Result<T, Error>) -> Option<T> {
        let counts = &self.slot().counts;
        match result {
            Ok(value) => Some(value),
            Err(Error::Busy { .. }) => {
                counts.busy.fetch_add(1, SeqCst);
                None
            }
            Err(Error::Full { .. } | Error::ValueTooLarge { .. }) => {
                counts.full.fetch_add(1, SeqCst);
                None
            }
            Err(error) => panic!("WRONG: worker {}: {error}", self.slot_index),
        }
    }

    /// One operation on a key that only we write.
    fn change_own(&mut self, region: usize, number: usize) {
        let key = Key::owned(region, self.slot_index, number);
        let record = self.record(region, number);
        let state = record.possible()[0];
        let cache = self.caches[region].clone();
        let bytes = key.bytes();
        let mut options = cache.options();
        if self.random.u32(..10) == 0 {
            options.expires_at_ms = cache.expiry(Duration::from_secs(3600)).expect("an expiry");
        }
        if key.class() == Class::Integer {
            return self.change_own_integer(region, key, record, state, &options);
        }
        let serial = self.slot().serial.fetch_add(1, SeqCst) + 1;
        let new = State::Blob { serial, appends: 0 };
        let gone = |worker: &Self| worker.missing(region, key, [state, state]);
        match self.random.u32(..100) {
            0..45 => {
                record.begin(new);
                let done = self.tolerate(cache.set_with(&bytes, &blob(key, serial, 0), &options));
                record.end(if done.is_some() { new } else { state });
            }
            45..53 => {
                record.begin(State::Absent);
                let done = self.tolerate(cache.delete(&bytes));
                match done {
                    Some(true) if state == State::Absent => self.wrong(key, "deleted, and was absent"),
                    Some(false) => drop(gone(self)),
                    _ => {}
                }
                record.end(if done.is_some() { State::Absent } else { state });
            }
            53..58 => {
                record.begin(State::Absent);
                let mut found = Vec::new();
                let done =
                    self.tolerate(cache.writer().and_then(|map| map.take(&bytes, options.timeout_ns, &mut found)));
                match done {
                    Some(Some(_)) => drop(self.state_of(key, &found, [state, state])),
                    Some(None) => drop(gone(self)),
                    None => {}
                }
                record.end(if done.is_some() { State::Absent } else { state });
            }
            58..66 => {
                record.begin(new);
                let done = self.tolerate(cache.add(&bytes, &blob(key, serial, 0), &options));
                record.end(match done {
                    Some(Some(_)) => {
                        gone(self);
                        new
                    }
                    Some(None) if state == State::Absent => self.wrong(key, "there, and was absent"),
                    Some(None) | None => state,
                });
            }
            66..74 => {
                record.begin(new);
                let done = self.tolerate(cache.replace(&bytes, &blob(key, serial, 0), &options));
                record.end(match done {
                    Some(Some(_)) if state == State::Absent => self.wrong(key, "replaced, and was absent"),
                    Some(Some(_)) => new,
                    Some(None) => gone(self),
                    None => state,
                });
            }
            74..82 => self.exchange_own(region, key, record, state, new, &options),
            82..92 => self.append_own(region, key, record, state),
            _ => {
                let ttl = (self.random.bool()).then_some(Duration::from_secs(3600));
                // Nothing changes that a record tells, but readers may take their time.
                if let Some(false) = self.tolerate(cache.touch(&bytes, ttl)) {
                    record.settle(gone(self));
                } else {
                    let state = self.find(region, key, [state, state]);
                    record.settle(state);
                }
            }
        }
    }

    fn change_own_integer(&mut self, region: usize, key: Key, record: &Record, state: State, options: &WriteOptions) {
        let cache = &self.caches[region];
        let bytes = key.bytes();
        let delta = self.random.i64(1..1000);
        match state {
            State::Integer(_) if self.random.u32(..20) == 0 => {
                record.begin(State::Absent);
                let done = self.tolerate(cache.delete(&bytes));
                if done == Some(false) {
                    self.missing(region, key, [state, state]);
                }
                record.end(if done.is_some() { State::Absent } else { state });
            }
            State::Integer(number) => {
                let new = State::Integer(number + delta);
                record.begin(new);
                record.end(match self.tolerate(cache.incr_with(&bytes, delta, None, options)) {
                    Some(Some(sum)) if sum == number + delta => new,
                    Some(Some(sum)) => self.wrong(key, &format!("{number} and {delta} are {sum}")),
                    Some(None) => self.missing(region, key, [state, state]),
                    None => state,
                });
            }
            _ => {
                record.begin(State::Integer(delta));
                record.end(match self.tolerate(cache.incr_with(&bytes, delta, Some(0), options)) {
                    Some(Some(sum)) if sum == delta => State::Integer(delta),
                    Some(sum) => self.wrong(key, &format!("was absent, and is {sum:?} after {delta} were added")),
                    None => state,
                });
            }
        }
    }

    fn exchange_own(
        &mut self,
        region: usize,
        key: Key,
        record: &Record,
        state: State,
        new: State,
        options: &WriteOptions,
    ) {
        let cache = &self.caches[region];
        let mut found = Vec::new();
        let State::Blob { serial, .. } = new else { return };
        let Some(meta) = cache.get_into(&key.bytes(), &mut found).expect("get") else {
            return record.settle(self.missing(region, key, [state, state]));
        };
        self.state_of(key, &found, [state, state]);
        record.begin(new);
        let done = self.tolerate(cache.cas(&key.bytes(), meta.version, &blob(key, serial, 0), options));
        record.end(match done {
            Some(Cas::Stored(_)) => new,
            Some(Cas::Changed(version)) => {
                self.wrong(key, &format!("version {} became {version}, and nobody else writes", meta.version))
            }
            Some(Cas::Missing) => self.missing(region, key, [state, state]),
            None => state,
        });
    }

    fn append_own(&mut self, region: usize, key: Key, record: &Record, state: State) {
        let State::Blob { serial, appends } = state else { return };
        let bytes = value::base_bytes(key, serial);
        if appends == APPENDS_MAX || !value::has_head(bytes) || bytes > 64 << 10 {
            return;
        }
        let new = State::Blob { serial, appends: appends + 1 };
        record.begin(new);
        let done = self.tolerate(self.caches[region].append(&key.bytes(), &piece(key, serial, appends)));
        record.end(match done {
            Some(Some(_)) => new,
            Some(None) => self.missing(region, key, [state, state]),
            None => state,
        });
    }

    /// Reads a key that has one writer. If nothing was begun on it meanwhile, the value is known.
    fn read_of_others(&mut self, region: usize) {
        let slot = self.random.usize(..self.workers);
        let number = self.random.usize(..OWNED);
        let key = Key::owned(region, slot, number);
        let record = &self.ledger.slots[slot].records[region][number];
        let before = record.settled();
        let mut found = std::mem::take(&mut self.buffer);
        let meta = self.caches[region].get_into(&key.bytes(), &mut found).expect("get");
        match before.filter(|(sequence, _)| record.is_still(*sequence)) {
            Some((_, state)) if meta.is_some() => drop(self.state_of(key, &found, [state, state])),
            Some((_, state)) => drop(self.missing(region, key, [state, state])),
            None if meta.is_some() => self.check_bytes(key, &found),
            None => {}
        }
        self.buffer = found;
    }

    fn any_key(&mut self, region: usize) -> Key {
        if region < OWNED_REGIONS && self.random.u32(..4) == 0 {
            Key::owned(region, self.random.usize(..self.workers), self.random.usize(..OWNED))
        } else {
            Key::shared(region, self.random.usize(..SHARED[region]))
        }
    }

    fn read_many(&mut self, region: usize) {
        let keys: Vec<Key> = (0..20).map(|_| self.any_key(region)).collect();
        let bytes: Vec<Vec<u8>> = keys.iter().map(|key| key.bytes()).collect();
        let bytes: Vec<&[u8]> = bytes.iter().map(Vec::as_slice).collect();
        let cache = &self.caches[region];
        cache.get_many(&bytes, &mut |at, _, found| self.check_bytes(keys[at], found)).expect("get_many");
    }

    fn hold_a_view(&mut self, region: usize) {
        if self.views.len() == VIEWS_MAX {
            let at = self.random.usize(..VIEWS_MAX);
            self.drop_view(at);
        }
        let key = self.any_key(region);
        if let Some(view) = self.caches[region].view(&key.bytes()).expect("view") {
            self.check_bytes(key, &view);
            let copy = view.to_vec();
            self.views.push(HeldView { view, copy });
        }
    }

    fn drop_view(&mut self, at: usize) {
        let held = self.views.swap_remove(at);
        assert!(*held.view == *held.copy, "WRONG: worker {}: bytes changed under a view", self.slot_index);
    }

    fn drop_views(&mut self) {
        while !self.views.is_empty() {
            self.drop_view(0);
        }
    }

    /// A whole scan: each key of ours that is there all the time is seen.
    fn scan(&mut self, region: usize) {
        let cache = &self.caches[region];
        let mut seen = HashSet::new();
        let mut cursor = Some(Cursor::START);
        while let Some(at) = cursor {
            let visit = &mut |bytes: &[u8], _: &_| match Key::from_bytes(bytes) {
                Some(key) => drop(seen.insert(key)),
                None => panic!("WRONG: a key that nobody wrote: {bytes:02x?}"),
            };
            cursor = match cache.scan(at, visit) {
                Err(Error::Busy { .. }) => return,
                next => next.expect("scan"),
            };
        }
        if region == KEEP {
            for number in 0..OWNED {
                let key = Key::owned(region, self.slot_index, number);
                if self.record(region, number).possible()[0] != State::Absent && !seen.contains(&key) {
                    self.lost(key, "a scan did not see it");
                }
            }
        }
    }

    /// Many small values in a row.
    fn burst(&mut self, region: usize) {
        let first = self.random.usize(..SHARED[region]);
        for key in (0..BURST).map(|more| Key::shared(region, (first + more) % SHARED[region])) {
            if key.class() == Class::Tiny {
                let value = blob(key, self.random.u64(1..1 << 40), 0);
                let _ = self.tolerate(self.caches[region].set(&key.bytes(), &value));
            }
        }
    }

    /// One operation on a key that others write at the same time.
    fn change_shared(&mut self, region: usize) {
        let key = Key::shared(region, self.random.usize(..SHARED[region]));
        let bytes = key.bytes();
        let cache = self.caches[region].clone();
        let mut options = cache.options();
        if self.random.u32(..8) == 0 {
            let ttl = Duration::from_millis(self.random.u64(1..200));
            options.expires_at_ms = cache.expiry(ttl).expect("an expiry");
        }
        if key.class() == Class::Integer {
            let delta = self.random.i64(-5..=5);
            let _ = self.tolerate(cache.incr_with(&bytes, delta, Some(0), &options));
            return;
        }
        let serial = self.random.u64(1..1 << 40);
        let value = blob(key, serial, 0);
        match self.random.u32(..100) {
            0..50 => drop(self.tolerate(cache.set_with(&bytes, &value, &options))),
            50..60 => drop(self.tolerate(cache.add(&bytes, &value, &options))),
            60..70 => drop(self.tolerate(cache.delete(&bytes))),
            70..75 => {
                let ttl = self.random.bool().then_some(Duration::from_millis(50));
                let _ = self.tolerate(cache.touch(&bytes, ttl));
            }
            turn => {
                let mut found = std::mem::take(&mut self.buffer);
                if let Some(meta) = cache.get_into(&bytes, &mut found).expect("get") {
                    assert_eq!(meta.kind, kind::BYTES, "WRONG: the kind of {key:?}");
                    self.check_bytes(key, &found);
                    if turn < 80 {
                        let _ = self.tolerate(cache.cas(&bytes, meta.version, &value, &options));
                    }
                }
                self.buffer = found;
            }
        }
    }

    /// Takes a stripe's lock if that is wished, as if in the middle of a write, and waits for death.
    fn grant_wish(&self) {
        let slot = self.slot();
        let wish = slot.hold_wish.load(SeqCst);
        if wish == 0 {
            return;
        }
        let map = self.caches[DROP].map().expect("attached");
        let owner = map.owner().expect("a participant");
        let host = map.host();
        let taken = self.lock_words.with_lock(wish as u32 - 1, |word| lock::acquire(word, owner, host, 500_000_000));
        slot.hold_wish.store(0, SeqCst);
        slot.hold_answer.store(if taken.is_ok() { 1 } else { 2 }, SeqCst);
        while taken.is_ok() {
            // SAFETY: a plain system call, that sleeps until a signal ends the process.
            unsafe { libc::pause() };
        }
    }
}
