//! What a region that drops nothing promises: it is full when what lives fills it, and only then.

use crate::deadline::Deadline;
use crate::layout::lane;
use crate::lock;
use crate::segment::{Purpose, Use};
use crate::testing::{Bench, TestHost};
use crate::{Error, Map, Mode, WriteOptions};

type TestMap<'h> = Map<&'h TestHost>;

/// Whoever would have to wait is told so.
const AT_ONCE: WriteOptions = WriteOptions {
    kind: crate::kind::BYTES,
    key_form: crate::key_form::TEXT,
    expires_at_ms: crate::NEVER,
    client_flags: 0,
    server_flags: 0,
    tags: &[],
    timeout_ns: 0,
};

fn set(map: &TestMap<'_>, number: u64, bytes: usize) -> crate::Result<u64> {
    map.set(&number.to_le_bytes(), &vec![1; bytes], &AT_ONCE)
}

/// Values of `bytes` bytes under the numbers from 0 on until the region is full. How many.
fn fill(map: &TestMap<'_>, bytes: usize) -> u64 {
    for number in 0.. {
        match set(map, number, bytes) {
            Ok(_) => {}
            Err(Error::Full { .. }) => return number,
            Err(error) => panic!("{number}: {error:?}"),
        }
    }
    unreachable!("a region is full some day")
}

fn segments(map: &TestMap<'_>, usage: Use) -> Vec<u32> {
    (0..map.geometry.segment_count).filter(|index| map.row(*index).state().usage == usage).collect()
}

/// Room was kept for what a stopped reclaimer might still copy, although all of it was cleared:
/// with nothing free, nobody got at segments that need no room to be emptied.
#[test]
fn a_cleared_region_takes_values_beside_a_reclaimer_that_was_stopped() {
    for spared in 0..3 {
        let host = TestHost::default();
        let bench = Bench::new(1 << 20, Mode::NoEvict);
        let map = bench.attach(&host, 0);
        let stored = fill(&map, 200);
        for number in 0..stored / 8 {
            assert!(map.delete(&(number * 8).to_le_bytes(), 0).unwrap());
        }
        {
            let (worker, _) = map.enter(&Deadline::new(0)).unwrap();
            map.reclaim(&worker, 1);
        }
        assert_eq!(segments(&map, Use::Draining).len(), 1, "one is half walked");
        let stopped = bench.attach(&host, 1).owner().unwrap();
        let row = map.row(segments(&map, Use::Sealed)[0]);
        assert!(row.change(row.state_word(), row.state().owned(Use::Reclaiming, stopped)));
        // It also holds the segments that it was to copy to.
        while segments(&map, Use::Free).len() > spared {
            map.take_free(Purpose::Relocation, 1, stopped).unwrap().unwrap();
        }
        map.clear().unwrap();
        for number in 0..stored * 3 / 4 {
            set(&map, number, 200).unwrap_or_else(|error| panic!("{number} with {spared} free: {error:?}"));
        }
        assert!(map.validate().is_clean());
    }
}

/// Segments less than half full: room that nobody gets at.
fn sparse(map: &TestMap<'_>) -> usize {
    let half = map.geometry.segment_bytes() / 2;
    let written = |index: &&u32| map.row(**index).live_bytes(u64::MAX) < half;
    [Use::Open, Use::Sealed].map(|usage| segments(map, usage).iter().filter(written).count()).iter().sum()
}

/// Where the next segment was not to be had, what others had open was sealed, and a segment of a
/// few items without a dead one among them was nobody's victim.
#[test]
fn a_region_is_not_full_while_the_lanes_of_others_are_nearly_empty() {
    let host = TestHost::default();
    let bench = Bench::new(1 << 20, Mode::NoEvict);
    let map = bench.attach(&host, 0);
    for home in 1..lane::PER_QUEUE - 1 {
        let other = bench.attach(&host, home);
        // Who finds lanes held makes the next one its own.
        let held = |number: u32| map.lane_lock(number);
        assert!((0..home).all(|number| lock::try_acquire(held(number), map.owner.unwrap())));
        set(&other, u64::from(home) << 32, 100).unwrap();
        (0..home).for_each(|number| lock::release(held(number), &&host));
    }
    assert_eq!(segments(&map, Use::Open).len(), lane::PER_QUEUE as usize - 2);
    fill(&map, 100);
    assert!(sparse(&map) <= 2, "{} segments are less than half full", sparse(&map));
    assert!(map.validate().is_clean());
}

/// Each large value that did not fit cost the small ones a segment.
#[test]
fn values_that_do_not_fit_take_no_room_from_those_that_do() {
    let host = TestHost::default();
    let bench = Bench::new(1 << 20, Mode::NoEvict);
    let map = bench.attach(&host, 0);
    let large = map.value_bytes_max() as usize;
    let runs = fill(&map, large);
    assert!(runs > 0);
    let room = map.stats().free_bytes / 2;
    let mut stored = 0;
    for number in 1_000.. {
        if stored >= room {
            break;
        }
        set(&map, number, 100).unwrap_or_else(|error| panic!("{stored} of {room} bytes: {error:?}"));
        stored += 100;
        let error = set(&map, runs, large).unwrap_err();
        assert!(matches!(error, Error::Full { .. } | Error::Busy { .. }), "{error:?}");
    }
    assert!(map.validate().is_clean());
}

/// A bucket was full of expired items that the hints of their segment said nothing of, and the
/// index of a region without room refused to grow.
#[test]
fn an_expired_item_gives_its_slot_to_another_before_the_region_is_full() {
    let host = TestHost::default();
    let bench = Bench::new(1 << 20, Mode::NoEvict);
    let map = bench.attach(&host, 0);
    let pair = |number: u64| {
        let hash = map.hasher.hash(&number.to_le_bytes());
        (hash.stripe(map.geometry.stripe_count), hash.buckets(map.geometry.bucket_shift))
    };
    // One more than two buckets have slots.
    let numbers: Vec<u64> = (0..).filter(|number| pair(*number) == pair(0)).take(15).collect();
    let soon = WriteOptions { expires_at_ms: 1_000, ..AT_ONCE };
    for number in &numbers[..14] {
        map.set(&number.to_le_bytes(), b"value", &soon).unwrap();
    }
    map.seal_idle_lanes(true);
    let stopped = bench.attach(&host, 1).owner().unwrap();
    let row = map.row(segments(&map, Use::Sealed)[0]);
    assert!(row.change(row.state_word(), row.state().owned(Use::Reclaiming, stopped)));
    let spare = [(); 2].map(|()| map.take_free(Purpose::Data, 1, stopped).unwrap().unwrap());
    // As a sweep leaves it that met a thousand others which expire later.
    row.sweep_due_ms().store(u64::MAX, crate::sync::Ordering::Relaxed);
    row.latest_expiry_ms().store(crate::NEVER, crate::sync::Ordering::Relaxed);
    {
        let deadline = Deadline::new(0);
        let (worker, owner) = map.enter(&deadline).unwrap();
        while map.own_blocks(&worker, pair(0).0, 1, owner, &deadline).is_ok() {}
    }
    // Room for items beside what the stopped one may copy, and then none for the index.
    spare.into_iter().for_each(|index| map.release_claimed(index));
    let is_beside = |number: &u64| pair(*number).0 == pair(0).0 && pair(*number) != pair(0);
    let another = (0..).find(is_beside).unwrap();
    set(&map, another, 5).unwrap();
    host.now_ms.store(2_000, std::sync::atomic::Ordering::Relaxed);
    set(&map, numbers[14], 5).unwrap();
    assert!(map.validate().is_clean());
}

/// What is stored after a clear into a segment that was open at it lives, and the hints say that
/// all of the segment is dead: with nowhere to copy to, it was tried first, again and again.
#[test]
fn a_segment_that_was_open_at_a_clear_does_not_hide_those_that_are_dead() {
    let host = TestHost::default();
    let bench = Bench::new(1 << 20, Mode::NoEvict);
    let map = bench.attach(&host, 0);
    set(&map, 0, 200).unwrap();
    map.clear().unwrap();
    let soon = WriteOptions { expires_at_ms: 1_000, ..AT_ONCE };
    for number in 0..1_000 {
        let is_first = segments(&map, Use::Sealed).is_empty();
        let options = if is_first { &AT_ONCE } else { &soon };
        map.set(&u64::to_le_bytes(number), &[1; 200], options).unwrap();
    }
    let stopped = bench.attach(&host, 1).owner().unwrap();
    while map.take_free(Purpose::Relocation, 1, stopped).unwrap().is_some() {}
    map.seal_idle_lanes(true);
    host.now_ms.store(2_000, std::sync::atomic::Ordering::Relaxed);
    for number in 1_000..1_500 {
        set(&map, number, 200).unwrap_or_else(|error| panic!("{number}: {error:?}"));
    }
    assert!(map.contains(&1u64.to_le_bytes()).unwrap(), "it was stored after the clear");
    assert!(map.validate().is_clean());
}
