//! What a region with any bytes changed does: a miss, an error or a report, in a bounded
//! time, and never a panic.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use super::Random;
use crate::deadline::Deadline;
use crate::layout::block;
use crate::slot::Link;
use crate::sync::Ordering;
use crate::testing::{Bench, TestHost};
use crate::{Cursor, Map, Mode, WriteOptions};

/// Longest time that one operation may take: its deadline, and what it may walk without one.
const OPERATION_MAX: Duration = Duration::from_secs(2);
const TIMEOUT_NS: u64 = 2_000_000;

pub(super) fn operation(map: &Map<&TestHost>, random: &mut Random) {
    let key = format!("key {}", random.below(300));
    let bytes = key.as_bytes();
    let number = random.below(5) as u8;
    let namespace =
        if number < 3 { map.namespace(&[b'a' + number]).unwrap_or_default() } else { crate::Namespace::DEFAULT };
    let key = crate::Key::new(namespace, bytes);
    let names = [&b"a"[..], b"b", b"c"];
    let tags = &names[..[0, 1, 3][random.below(3) as usize]];
    let options = WriteOptions { timeout_ns: TIMEOUT_NS, tags, ..WriteOptions::default() };
    let mut value = Vec::new();
    // What it says does not matter: only that it says something.
    match random.below(25) {
        0 => drop(map.get(key, &mut value)),
        1 => drop(map.contains(key)),
        2 | 3 => drop(map.set(key, &vec![1; random.below(4000) as usize], &options)),
        4 => drop(map.delete(key, TIMEOUT_NS)),
        5 => drop(map.take(key, TIMEOUT_NS, &mut value)),
        6 => drop(map.len()),
        7 => drop(map.stats()),
        8 => drop(map.incr(key, 1, Some(0), &options)),
        9 => drop(map.touch(key, map.now_ms() + 5, TIMEOUT_NS)),
        10 => drop(map.view(key)),
        11 => drop(map.set(key, &vec![2; 20_000 + random.below(100_000) as usize], &options)),
        12 => drop(map.maintain(1 << 20)),
        13 => drop(map.scan(Cursor::from_u64(random.next()), &mut |_, _| ())),
        14 => drop(map.take_any(crate::Namespace::DEFAULT, TIMEOUT_NS, &mut Vec::new(), &mut value)),
        15 => drop(map.get_many(&[key, b"another".into()], &mut |_, _, _| ())),
        16 => super::leases::use_a_lease(map, bytes, random.next()),
        17 => super::leases::use_a_semaphore(map, bytes, random.next()),
        18 => super::leases::use_a_limit(map, bytes, random.next()),
        19 => drop(map.evict_tag(namespace, b"a")),
        20 => drop(map.clear_of(namespace)),
        21 => drop(map.namespaces()),
        22 => drop(map.append(key, b"tail", Some(b""), &options)),
        23 => drop(map.reset_stats_of(namespace)),
        24 => drop(map.len_of(namespace)),
        _ => unreachable!(),
    }
}

pub(super) fn damage(bench: &Bench, random: &mut Random) {
    let region = bench.memory.region();
    for _ in 0..random.below(200) {
        // Mostly in the fixed parts, where each word has a meaning; the header was copied.
        let area = if random.below(4) == 0 { bench.geometry.region_bytes } else { bench.geometry.segments_offset };
        let offset = (4096 + random.below(area - 4096)) & !7;
        let word = match random.below(6) {
            0 => random.next(),
            1 => random.next() >> 32,
            2 => 0,
            3 => u64::MAX,
            4 => random.below(1 << 20),
            _ => 1 << random.below(64),
        };
        region.word(offset).store(word, Ordering::SeqCst);
    }
}

fn run(seed: u64, mode: Mode) {
    let host = TestHost::default();
    let bench = Bench::new(1 << 20, mode);
    // Whoever a damaged word names is not there, unless it is this process.
    *host.dead.lock().unwrap() = (1..0xfff).collect();
    let map = bench.attach(&host, 0);
    let mut random = Random(seed);
    for _ in 0..400 {
        operation(&map, &mut random);
    }
    for round in 0..40 {
        damage(&bench, &mut random);
        for _ in 0..8 {
            let before = random.0;
            let started = Instant::now();
            let outcome = catch_unwind(AssertUnwindSafe(|| operation(&map, &mut random)));
            assert!(outcome.is_ok(), "seed {seed}, round {round}, {before:#x}: a panic");
            let took = started.elapsed();
            assert!(took < OPERATION_MAX, "seed {seed}, round {round}, {before:#x}: {took:?}");
        }
        drop(map.validate());
    }
}

#[test]
fn any_words_changed_under_any_operation_end_in_an_answer() {
    let first: u64 = std::env::var("CACHE_SHM_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let count: u64 = std::env::var("CACHE_SHM_SEEDS").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20);
    for seed in first..first + count {
        run(seed, if seed % 2 == 0 { Mode::Evict } else { Mode::NoEvict });
    }
}

/// Counts that no writer reaches were added up as they are: a panic where overflow is checked,
/// and a wrong choice elsewhere.
#[test]
fn counts_that_nobody_reaches_overflow_nothing() {
    let host = TestHost::default();
    let bench = Bench::new(1 << 20, Mode::Evict);
    let map = bench.attach(&host, 0);
    for number in 0..4_000u64 {
        map.set(&number.to_le_bytes(), &[1; 200], &WriteOptions::default()).unwrap();
    }
    let most = i64::MAX as u64;
    for index in 0..map.geometry().segment_count {
        map.row(index).live().store(most, Ordering::Relaxed);
        map.row(index).written().store(u64::MAX, Ordering::Relaxed);
    }
    for index in 0..map.geometry().stripe_count {
        map.stripe(index).items().store(most, Ordering::Relaxed);
    }
    assert!(map.stats().items >= most);
    drop(map.set(b"a run", &vec![2; 50_000], &WriteOptions::default()));
    map.free_hint().store(most, Ordering::Relaxed);
    assert!(map.free_segments_hint() <= u64::from(map.geometry().segment_count));
}

/// A split of a block as deep as a directory gets asks for a directory that no segment has
/// room for. A write once made index memory of half the region for it, and dropped the rest.
#[test]
fn a_split_deeper_than_any_directory_is_an_error() {
    let host = TestHost::default();
    let bench = Bench::new(1 << 20, Mode::Evict);
    let map = bench.attach(&host, 0);
    for number in 0..1_000u64 {
        map.set(&number.to_le_bytes(), &[1; 200], &WriteOptions::default()).unwrap();
    }
    let (worker, owner) = map.enter(&Deadline::new(0)).unwrap();
    let (depth, hash) = (map.geometry().depth_max(), map.hasher.hash(b"key"));
    let stripe = hash.stripe(map.geometry().stripe_count);
    let deadline = Deadline::new(TIMEOUT_NS);
    let directory = map.own_directory(&worker, stripe, depth, owner, &deadline).unwrap();
    let blocks = map.own_blocks(&worker, stripe, 3, owner, &deadline).unwrap();
    drop(worker);
    for number in 0..1u64 << depth {
        map.region.word(directory + 8 * number).store(Link::new(1, depth, blocks[0]).0, Ordering::Relaxed);
    }
    map.region.word(blocks[0] + block::CHILD0).store(blocks[1], Ordering::Relaxed);
    map.region.word(blocks[0] + block::CHILD1).store(blocks[2], Ordering::Relaxed);
    map.stripe(stripe).root().store(Link::new(1, depth, directory).0, Ordering::Release);
    let before = map.stats();
    let said = map.set(b"key", b"value", &WriteOptions { timeout_ns: TIMEOUT_NS, ..WriteOptions::default() });
    let after = map.stats();
    assert!(said.is_err(), "{said:?}");
    assert_eq!((after.index_bytes, after.evictions), (before.index_bytes, before.evictions), "{said:?}");
}
