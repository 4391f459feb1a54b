//! What people are shown of a region is what is there, whatever its bytes say.

use super::Random;
use crate::layout::Mode;
use crate::lease::{Kind, Terms};
use crate::observe::SegmentUse;
use crate::stats::Counter;
use crate::testing::{Bench, TestHost};
use crate::types::{Key, NEVER, Namespace, WriteOptions};

#[test]
fn the_segments_add_up_to_what_the_statistics_say() {
    let host = TestHost::default();
    let bench = Bench::new(4 << 20, Mode::Evict);
    let map = bench.attach(&host, 0);
    for number in 0..20_000u64 {
        map.set(&number.to_le_bytes(), &[1; 200], &WriteOptions::default()).unwrap();
    }
    map.set(b"large", &vec![2; 200_000], &WriteOptions::default()).unwrap();
    let stats = map.stats();
    let mut seen = Vec::new();
    map.segments(&mut |info| seen.push(info));
    assert_eq!(seen.len() as u64, stats.segments);
    let bytes = |wanted: &dyn Fn(SegmentUse, bool) -> bool| {
        seen.iter().filter(|info| wanted(info.usage, info.is_main)).count() as u64 * stats.segment_bytes
    };
    assert_eq!(bytes(&|usage, _| usage == SegmentUse::Free), stats.free_bytes);
    assert_eq!(bytes(&|usage, _| usage == SegmentUse::Index), stats.index_bytes);
    assert_eq!(bytes(&|_, is_main| is_main), stats.main_bytes);
    assert!(seen.iter().filter(|info| info.usage == SegmentUse::RunPart).count() > 5);
    let live: u64 = seen.iter().filter(|info| info.usage != SegmentUse::Index).map(|info| info.live_bytes).sum();
    let counted = map.stats().live_bytes;
    assert!(live.abs_diff(counted) <= counted / 10, "{live} of {counted}");
}

#[test]
fn items_and_their_bytes_are_counted_right_after_clears() {
    // What a clear took off the count at once was taken off again when its space came back; and
    // what was appended to a segment from before the clear was not counted at all.
    let host = TestHost::default();
    let bench = Bench::new(16 << 20, Mode::Evict);
    let map = bench.attach(&host, 0);
    let set = |from: u64, count: u64| {
        for key in from..from + count {
            map.set(&key.to_le_bytes(), &[1; 100], &WriteOptions::default()).unwrap();
        }
    };
    set(0, 1_000);
    let bytes_each = map.stats().live_bytes / 1_000;
    set(1_000, 29_000);
    map.set(b"large", &vec![1; 3_000_000], &WriteOptions::default()).unwrap();
    // The same keys again, and others.
    for from in [0, 0, 0, 100_000, 200_000, 300_000, 0] {
        map.clear().unwrap();
        assert_eq!((map.stats().items, map.stats().live_bytes), (0, 0));
        set(from, 10_000);
        while map.work(1 << 20).unwrap() {}
        let stats = map.stats();
        assert_eq!((stats.items, map.len()), (10_000, 10_000));
        let more = stats.live_bytes.checked_sub(10_000 * bytes_each).expect("all that lives is counted");
        assert!(more <= 2 * stats.segment_bytes, "{more} bytes too many: {stats:?}");
    }
}

#[test]
fn a_clear_of_one_namespace_takes_nothing_off_the_count_of_others() {
    let host = TestHost::default();
    let bench = Bench::new(4 << 20, Mode::Evict);
    let map = bench.attach(&host, 0);
    let users = map.namespace(b"users").unwrap();
    let set_all = |space| {
        for key in 0..500u32 {
            map.set(Key::new(space, &key.to_le_bytes()), b"v", &WriteOptions::default()).unwrap();
        }
    };
    set_all(Namespace::DEFAULT);
    set_all(users);
    for (cleared, other) in [(Namespace::DEFAULT, users), (users, Namespace::DEFAULT)] {
        map.clear_of(cleared).unwrap();
        // Catches up.
        set_all(other);
        assert!(map.stats().items >= 500);
        set_all(cleared);
        assert_eq!((map.stats().items, map.len()), (1_000, 1_000));
    }
}

#[test]
fn a_participant_is_shown_with_what_it_holds_and_a_dead_one_as_dead() {
    let host = TestHost::default();
    let bench = Bench::new(4 << 20, Mode::Evict);
    let (map, other) = (bench.attach(&host, 0), bench.attach(&host, 3));
    other.set(b"large", &vec![1; 30_000], &WriteOptions::default()).unwrap();
    let view = other.view(b"large").unwrap().unwrap();
    let name = other.lease_name(Kind::Lock, b"lock").unwrap();
    let terms = Terms { holder: 1, ttl_ms: NEVER, reentrant: false, timeout_ns: 0 };
    other.acquire_lease(name, &terms).unwrap().unwrap();
    let infos = map.participants();
    assert_eq!(
        infos.iter().map(|info| (info.slot, info.is_self, info.is_alive)).collect::<Vec<_>>(),
        [(0, true, true), (3, false, true)]
    );
    assert_eq!((infos[0].read_pins, infos[0].leases.len(), infos[0].count(Counter::Sets)), (0, 0, 0));
    let info = &infos[1];
    assert_eq!((info.read_pins, info.leases.len(), info.stripes, info.lanes), (1, 1, 0, 0));
    assert_eq!((info.leases[0].until_ms, info.count(Counter::Sets)), (NEVER, 1));
    assert_eq!(info.counters().find(|(name, _)| *name == "sets"), Some(("sets", 1)));
    host.dead.lock().unwrap().push(3);
    assert!(!map.participants()[1].is_alive);
    host.dead.lock().unwrap().clear();
    drop(view);
    assert_eq!(map.participants()[1].read_pins, 0);
}

#[test]
fn any_bytes_in_the_tables_give_a_picture() {
    let seed = 0x9e37_79b9_7f4a_7c15;
    println!("seed {seed}");
    let mut random = Random(seed);
    let host = TestHost::default();
    let bench = Bench::new(1 << 20, Mode::Evict);
    let map = bench.attach(&host, 0);
    for number in 0..2_000u64 {
        map.set(&number.to_le_bytes(), &[1; 100], &WriteOptions::default()).unwrap();
    }
    let geometry = map.geometry().clone();
    for _ in 0..3_000 {
        let offset =
            geometry.control_offset + 8 * random.below((geometry.segments_offset - geometry.control_offset) / 8);
        bench.memory.region().word(offset).store(random.next() >> random.below(64), crate::sync::Ordering::Relaxed);
        let mut count = 0;
        map.segments(&mut |info| {
            assert!(info.live_bytes <= info.written_bytes && info.written_bytes <= geometry.segment_bytes());
            count += 1;
        });
        assert_eq!(count, geometry.segment_count);
        assert!(map.participants().len() <= geometry.participant_count as usize);
    }
}
