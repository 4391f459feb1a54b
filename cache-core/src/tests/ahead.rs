//! Work that is done in advance is work that no write has to do.

use std::sync::atomic::{AtomicU64 as Clock, Ordering};

use crate::error::Error;
use crate::layout::Mode;
use crate::testing::{Bench, TestHost};
use crate::types::WriteOptions;

#[test]
fn segments_have_memory_before_they_are_used_and_no_more_than_are_used_next() {
    let host = TestHost { space: Some(Clock::new(u64::MAX)), ..TestHost::default() };
    let bench = Bench::new(8 << 20, Mode::Evict);
    let map = bench.attach(&host, 0);
    let segment_bytes = map.geometry().segment_bytes();
    let target = map.free_target();
    let (mut total, mut calls) = (0, 0);
    loop {
        let done = map.back_ahead(segment_bytes / 2).unwrap();
        if done == 0 {
            break;
        }
        assert!(done <= segment_bytes, "{done} at once");
        (total, calls) = (total + done, calls + 1);
    }
    assert_eq!(total, target * segment_bytes);
    assert!(calls >= target, "{calls}");
    let free = |index: &u32| map.row(*index).backed_bytes(map.geometry()) > 0;
    assert_eq!((0..map.geometry().segment_count).filter(free).count() as u64, target);
    // Now a write needs none from the system.
    host.space.as_ref().unwrap().store(0, Ordering::Relaxed);
    map.set(b"key", &[1; 100], &WriteOptions::default()).unwrap();
}

#[test]
fn a_full_file_system_is_told_and_harms_nothing() {
    let host = TestHost { space: Some(Clock::new(u64::MAX)), ..TestHost::default() };
    let bench = Bench::new(8 << 20, Mode::Evict);
    let map = bench.attach(&host, 0);
    map.set(b"key", &[1; 100], &WriteOptions::default()).unwrap();
    host.space.as_ref().unwrap().store(0, Ordering::Relaxed);
    assert!(matches!(map.back_ahead(1 << 20), Err(Error::NoSpace { .. })));
    assert!(map.contains(b"key").unwrap());
}

#[test]
fn who_died_is_retired_and_who_lives_is_not() {
    let host = TestHost::default();
    let bench = Bench::new(4 << 20, Mode::Evict);
    let (map, dead, alive) = (bench.attach(&host, 0), bench.attach(&host, 1), bench.attach(&host, 2));
    dead.set(b"a", &[1; 100], &WriteOptions::default()).unwrap();
    alive.set(b"b", &[1; 100], &WriteOptions::default()).unwrap();
    assert_eq!(map.retire_the_dead().unwrap(), 0);
    host.dead.lock().unwrap().push(1);
    assert_eq!((map.retire_the_dead().unwrap(), map.stats().sets), (1, 2), "what it counted stays");
}

#[test]
fn work_says_when_nothing_is_left() {
    let host = TestHost::default();
    let bench = Bench::new(4 << 20, Mode::Evict);
    let map = bench.attach(&host, 0);
    for number in 0..40_000u64 {
        map.set(&number.to_le_bytes(), &[1; 200], &WriteOptions::default()).unwrap();
    }
    let shares = (0..10_000).take_while(|_| map.work(64 << 10).unwrap()).count();
    assert!(shares < 10_000, "it never ends");
    assert!(map.stats().free_bytes >= map.free_target() * map.geometry().segment_bytes());
    assert!(map.validate().is_clean());
}

#[test]
fn what_has_expired_goes_though_nobody_asks_for_it() {
    for mode in [Mode::Evict, Mode::NoEvict] {
        let host = TestHost::default();
        let bench = Bench::new(4 << 20, mode);
        let map = bench.attach(&host, 0);
        let lives = WriteOptions::default();
        let expires = WriteOptions { expires_at_ms: 2_000, ..lives };
        // In a segment that is open still.
        for number in 0..200u64 {
            map.set(&number.to_le_bytes(), &[1; 100], &expires).unwrap();
        }
        host.now_ms.store(3_000, Ordering::Relaxed);
        while map.work(64 << 10).unwrap() {}
        assert_eq!((map.stats().items, map.stats().expirations), (0, 200), "{mode:?}");
        // In a region that is full, beside as much that lives.
        host.now_ms.store(1_000, Ordering::Relaxed);
        let options = |number: u64| if number.is_multiple_of(2) { &lives } else { &expires };
        let count = (0..40_000u64)
            .take_while(|number| map.set(&number.to_le_bytes(), &[1; 200], options(*number)).is_ok())
            .count();
        let expiring = map.stats().items
            - (0..count as u64).step_by(2).filter(|n| map.contains(&n.to_le_bytes()).unwrap()).count() as u64;
        let before = map.stats();
        host.now_ms.store(3_000, Ordering::Relaxed);
        while map.work(64 << 10).unwrap() {}
        let stats = map.stats();
        let gone = stats.expirations - before.expirations;
        assert!(gone * 10 >= expiring * 9, "{mode:?}: {gone} of {expiring}");
        assert!(stats.free_bytes >= map.free_target() * stats.segment_bytes, "{mode:?}: {stats:?}");
        assert!(map.validate().is_clean());
    }
}

#[test]
fn a_trickle_of_what_expires_soon_takes_no_more_and_more_segments() {
    let host = TestHost::default();
    let bench = Bench::new(8 << 20, Mode::Evict);
    let map = bench.attach(&host, 0);
    let backed =
        || (0..map.geometry().segment_count).filter(|index| map.row(*index).backed_bytes(map.geometry()) > 0).count();
    let mut counts = Vec::new();
    for round in 0..200u64 {
        let options = WriteOptions { expires_at_ms: 1_000 * round + 20, ..WriteOptions::default() };
        host.now_ms.store(1_000 * round, Ordering::Relaxed);
        map.set(&round.to_le_bytes(), &[1; 100], &options).unwrap();
        host.now_ms.store(1_000 * round + 500, Ordering::Relaxed);
        while map.work(64 << 10).unwrap() {}
        counts.push(backed());
    }
    // The index has a block for each stripe in the end.
    let more = counts[199] - counts[0];
    assert!(more as u64 <= map.stats().index_bytes / map.stats().segment_bytes, "{counts:?}");
    assert_eq!((map.stats().items, map.stats().expirations), (0, 200));
}
