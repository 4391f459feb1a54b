//! What the engine promises beside participants that stop, leave or die.

use crate::deadline::Deadline;
use crate::host::Host;
use crate::lock::Owner;
use crate::segment::Use;
use crate::sync::AtomicU32;
use crate::testing::{Bench, TestHost};
use crate::{Error, Map, Mode, WriteOptions};

#[test]
fn a_dead_participant_leaves_nothing_behind() {
    let host = TestHost::default();
    let bench = Bench::new(4 << 20, Mode::Evict);
    let map = bench.attach(&host, 0);
    let other = bench.attach(&host, 1);
    other.set(b"key", &[3; 20_000], &WriteOptions::default()).unwrap();
    std::mem::forget(other.view(b"key").unwrap());
    assert_eq!(map.stats().pins, 1);
    host.dead.lock().unwrap().push(1);
    assert!(map.delete(b"key", 0).unwrap());
    for number in 0..60_000u64 {
        map.set(&number.to_le_bytes(), &[6; 200], &WriteOptions::default()).unwrap();
    }
    assert_eq!(map.stats().pins, 0, "reclaim asked for the owner of the pin in its way, and retired it");
    assert!(map.validate().is_clean());
}

/// The row of a run's head was emptied with the run's length in it. Whoever cleaned up after
/// somebody at that moment took the parts for strays, and freed them under the writer.
#[test]
fn a_run_in_the_making_keeps_its_parts_while_others_leave() {
    let host = TestHost::default();
    let bench = Bench::new(1 << 20, Mode::NoEvict);
    let (map, other) = (bench.attach(&host, 0), bench.attach(&host, 1));
    let deadline = Deadline::new(0);
    let (worker, owner) = map.enter(&deadline).unwrap();
    let head = map.obtain_run(&worker, 3, owner, &deadline).unwrap();
    let part = map.row(head + 2).state_word();
    map.row(head).reset(map.next_ticket());
    other.clean_slot(1, None);
    assert_eq!(other.release_stray_parts(), 0);
    assert_eq!(map.row(head + 2).state_word(), part);
}

/// The first segment that was due was once the only one that background work tried.
#[test]
fn a_stopped_writer_keeps_its_own_segment_from_being_swept_and_no_other() {
    let host = TestHost::default();
    let bench = Bench::new(4 << 20, Mode::Evict);
    let (map, other) = (bench.attach(&host, 0), bench.attach(&host, 1));
    let soon = WriteOptions { expires_at_ms: 1000, ..WriteOptions::default() };
    for number in 0..5_000u64 {
        let options = if number % 2 == 0 { soon } else { WriteOptions::default() };
        map.set(&number.to_le_bytes(), &[1; 100], &options).unwrap();
    }
    host.now_ms.store(2000, std::sync::atomic::Ordering::Relaxed);
    let sealed = |index: &u32| map.row(*index).state().usage == crate::segment::Use::Sealed;
    let pinned = (0..bench.geometry.segment_count).find(sealed).unwrap();
    let (worker, _) = other.enter(&Deadline::new(0)).unwrap();
    worker.publish_pin.store(u64::from(pinned) + 1, crate::sync::Ordering::Release);
    for _ in 0..1_000 {
        map.maintain(1 << 20).unwrap();
    }
    let expired = map.stats().expirations;
    assert!(expired > 2_300, "{expired} of 2500 were swept; the rest is pinned, or in the open segment");
    assert!(map.validate().is_clean());
}

/// Whoever compacts leaves room for what others still copy. A free segment for each victim was
/// once too much: where several were stopped in the middle of it, each new segment of an evicting
/// region cost a wait, and then what lived in another.
#[test]
fn reclaimers_that_are_stopped_neither_delay_writers_nor_make_them_drop_what_fits() {
    let host = TestHost::default();
    let bench = Bench::new(1 << 20, Mode::Evict);
    let map = bench.attach(&host, 0);
    // One try: whoever would have to wait drops instead.
    let options = WriteOptions { timeout_ns: 0, ..WriteOptions::default() };
    let set = |number: u64| map.set(&number.to_le_bytes(), &[1; 200], &options);
    for number in 0..2_000 {
        set(number).unwrap();
    }
    let sealed = |index: &u32| map.row(*index).state().usage == crate::segment::Use::Sealed;
    for (index, slot) in (0..bench.geometry.segment_count).filter(sealed).take(8).collect::<Vec<_>>().iter().zip(1..) {
        let stopped = bench.attach(&host, slot).owner().unwrap();
        let row = map.row(*index);
        let from = row.state_word();
        assert!(row.change(from, row.state().owned(crate::segment::Use::Reclaiming, stopped)));
    }
    let mut random = super::Random(7);
    for turn in 0..20_000 {
        set(random.below(2_000)).unwrap_or_else(|error| panic!("{turn}: {error:?}"));
    }
    assert_eq!((map.validate().items, map.stats().evictions), (2_000, 0));
}

/// Writers that share few cores are put aside in the middle of a victim. The others once found
/// every free segment promised to them, segment by segment, waited 5 ms and then dropped what
/// lives, in a region that was two thirds full.
#[test]
fn writers_that_wait_for_a_core_make_nobody_drop_what_fits() {
    const WRITERS: u64 = 24;
    const KEYS: u64 = 20_000;
    let host = TestHost::default();
    let bench = Bench::new(KEYS * 220, Mode::Evict);
    let key = |number: u64| [number.to_le_bytes(), number.to_be_bytes()].concat();
    let first = bench.attach(&host, 0);
    for number in 0..KEYS {
        first.set(&key(number), &[1; 100], &WriteOptions::default()).unwrap();
    }
    std::thread::scope(|scope| {
        for seed in 1..=WRITERS {
            let map = bench.attach(&host, seed as u32);
            scope.spawn(move || {
                let mut random = super::Random(seed);
                for _ in 0..20_000 {
                    let number = random.below(KEYS);
                    map.set(&key(number), &[2; 100], &WriteOptions::default()).unwrap();
                }
            });
        }
    });
    let report = first.validate();
    assert!(report.is_clean(), "{:?}", report.problems);
    assert_eq!((report.items, first.stats().evictions), (KEYS, 0));
}

/// Where all that could be reclaimed was in the hands of others, a set that gave up left the
/// region dropping what lives for a second more.
#[test]
fn a_set_that_gives_up_leaves_nobody_dropping() {
    let host = TestHost::default();
    let bench = Bench::new(1 << 20, Mode::Evict);
    let map = bench.attach(&host, 0);
    let at_once = WriteOptions { timeout_ns: 0, ..WriteOptions::default() };
    for number in 0..2_000u64 {
        map.set(&number.to_le_bytes(), &[1; 200], &at_once).unwrap();
    }
    let stopped = bench.attach(&host, 1).owner().unwrap();
    map.seal_idle_lanes(true);
    for index in 0..bench.geometry.segment_count {
        let (row, state) = (map.row(index), map.row(index).state());
        let usage = if state.usage == Use::Free { Use::Claimed } else { Use::Reclaiming };
        if matches!(state.usage, Use::Free | Use::Sealed) {
            assert!(row.change(row.state_word(), state.owned(usage, stopped)));
        }
    }
    let error = map.set(b"key", &[1; 200], &at_once).unwrap_err();
    assert!(matches!(error, Error::Busy { .. }), "{error:?}");
    assert!(!map.is_compaction_vain());
}

/// A host at whose clock something happens once.
struct Meanwhile<'h> {
    host: &'h TestHost,
    happens: std::sync::Mutex<Option<Box<dyn FnOnce() + Send + 'h>>>,
    is_time: Box<dyn Fn() -> bool + Sync + Send + 'h>,
}

impl Host for &Meanwhile<'_> {
    fn now_ms(&self) -> u64 {
        if (self.is_time)()
            && let Some(happens) = self.happens.lock().unwrap().take()
        {
            happens();
        }
        self.host.now_ms()
    }
    fn monotonic_ns(&self) -> u64 {
        self.host.monotonic_ns()
    }
    fn futex_wait(&self, word: &AtomicU32, expected: u32, timeout_ns: u64) {
        self.host.futex_wait(word, expected, timeout_ns);
    }
    fn futex_wake(&self, word: &AtomicU32, count: u32) {
        self.host.futex_wake(word, count);
    }
    fn is_dead(&self, owner: Owner) -> bool {
        self.host.is_dead(owner)
    }
    fn retire(&self, index: u32, clean: &mut dyn FnMut()) -> bool {
        self.host.retire(index, clean)
    }
    fn back(&self, offset: u64, bytes: u64) -> crate::Result<()> {
        self.host.back(offset, bytes)
    }
    fn populate_read(&self, offset: u64, bytes: u64) -> bool {
        self.host.populate_read(offset, bytes)
    }
}

/// The reclaimer that left a run in its place said that it lives, although its key had been
/// deleted meanwhile: nobody looked at it again, and its space was lost.
#[test]
fn a_run_whose_key_is_deleted_while_it_is_walked_does_not_count_as_alive() {
    let host = TestHost::default();
    let bench = Bench::new(1 << 20, Mode::NoEvict);
    let other = bench.attach(&host, 0);
    // It expires one day, so that whoever walks it looks at the clock.
    let options = WriteOptions { expires_at_ms: 1_000_000, ..WriteOptions::default() };
    other.set(b"key", &[1; 20_000], &options).unwrap();
    let head = (0..bench.geometry.segment_count).find(|index| other.row(*index).state().is_run).unwrap();
    let meanwhile = Meanwhile {
        host: &host,
        happens: std::sync::Mutex::new(Some(Box::new(|| assert!(other.delete(b"key", 0).unwrap())))),
        is_time: Box::new(|| other.row(head).state().usage == Use::Reclaiming),
    };
    let owner = crate::participant::begin(&bench.memory.region(), &bench.geometry, 1, 1, 0, 0);
    let map = Map::new(bench.memory.region(), bench.geometry.clone(), Some(owner), &meanwhile);
    other.row(head).sweep_due_ms().store(0, crate::sync::Ordering::Relaxed);
    map.maintain(1).unwrap();
    assert!(meanwhile.happens.lock().unwrap().is_none(), "it was deleted while it was walked");
    assert_eq!(other.row(head).state().usage, Use::Free);
}

/// Nobody gets at a segment whose state is damaged; it was once counted as free.
#[test]
fn a_damaged_segment_is_not_free() {
    let host = TestHost::default();
    let bench = Bench::new(1 << 20, Mode::Evict);
    let map = bench.attach(&host, 0);
    let free = map.stats().free_bytes;
    bench.memory.region().word(bench.geometry.row_offset(7)).store(200, crate::sync::Ordering::Relaxed);
    assert_eq!(map.stats().free_bytes, free - bench.geometry.segment_bytes());
}

/// Whoever sweeps leaves what lives where it is, and needs no room for it.
#[test]
fn a_sweep_that_was_stopped_keeps_no_room_from_others() {
    let host = TestHost::default();
    let bench = Bench::new(1 << 20, Mode::NoEvict);
    let map = bench.attach(&host, 0);
    let soon = WriteOptions { expires_at_ms: 1_000, ..WriteOptions::default() };
    for number in 0..1_000u64 {
        let options = if number % 16 == 0 { soon } else { WriteOptions::default() };
        map.set(&number.to_le_bytes(), &[1; 200], &options).unwrap();
    }
    let promised = || {
        let rows = (0..bench.geometry.segment_count).map(|index| (index, map.row(index).state()));
        rows.map(|(index, state)| map.promised_bytes(index, state, map.moment())).sum::<u64>()
    };
    let most = std::sync::Mutex::new(0);
    let reclaiming = || (0..bench.geometry.segment_count).any(|index| map.row(index).state().usage == Use::Reclaiming);
    let meanwhile = Meanwhile {
        host: &host,
        happens: std::sync::Mutex::new(Some(Box::new(|| *most.lock().unwrap() = promised()))),
        is_time: Box::new(reclaiming),
    };
    host.now_ms.store(2_000, std::sync::atomic::Ordering::Relaxed);
    let owner = crate::participant::begin(&bench.memory.region(), &bench.geometry, 1, 1, 0, 0);
    let sweeper = Map::new(bench.memory.region(), bench.geometry.clone(), Some(owner), &meanwhile);
    sweeper.maintain(1 << 10).unwrap();
    assert!(meanwhile.happens.lock().unwrap().is_none(), "it was looked at while it swept");
    assert_eq!(*most.lock().unwrap(), 0);
}
