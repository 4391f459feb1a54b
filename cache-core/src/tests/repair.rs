//! What a repair heals, what it loses, and what it leaves alone.

use super::Random;
use super::damage::{damage, operation};
use crate::layout::{block, lane, segment as row_at, stripe as stripe_at};
use crate::lock::Owner;
use crate::segment::{State, Use};
use crate::slot::Link;
use crate::sync::Ordering;
use crate::testing::{Bench, TestHost};
use crate::{Error, Map, Mode, Repaired, WriteOptions};

const TIMEOUT_NS: u64 = 2_000_000;

fn key(number: u64) -> Vec<u8> {
    format!("key {number}").into_bytes()
}

fn fill(map: &Map<&TestHost>, count: u64) {
    for number in 0..count {
        map.set(&key(number), &number.to_le_bytes(), &WriteOptions::default()).unwrap();
    }
}

/// Which of the first `count` keys are there, with their value.
fn keys_there(map: &Map<&TestHost>, count: u64) -> Vec<u64> {
    let mut value = Vec::new();
    let mut is_there = |number: &u64| {
        let found = map.get(&key(*number), &mut value).unwrap().is_some();
        assert!(!found || value == number.to_le_bytes(), "key {number} has a wrong value");
        found
    };
    (0..count).filter(&mut is_there).collect()
}

fn stripe_of(map: &Map<&TestHost>, number: u64) -> u32 {
    map.hasher.hash(&key(number)).stripe(map.geometry.stripe_count)
}

/// The keys outside `stripe` are exactly those of `before`.
fn assert_others_kept(map: &Map<&TestHost>, count: u64, stripe: u32) {
    let there = keys_there(map, count);
    for number in (0..count).filter(|number| stripe_of(map, *number) != stripe) {
        assert!(there.binary_search(&number).is_ok(), "key {number} of a sound stripe is gone");
    }
}

#[track_caller]
fn repair(map: &Map<&TestHost>) -> Repaired {
    let repaired = map.repair(TIMEOUT_NS).unwrap();
    assert!(repaired.left.is_clean(), "{:?}", repaired);
    assert!(map.validate().is_clean());
    let again = map.repair(TIMEOUT_NS).unwrap();
    assert!(again.found_nothing(), "the second repair found something: {again:?}");
    repaired
}

fn one_damage(seed: u64, mode: Mode) {
    let host = TestHost::default();
    let bench = Bench::new(1 << 20, mode);
    *host.dead.lock().unwrap() = (1..0xfff).collect();
    let map = bench.attach(&host, 0);
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    for _ in 0..400 {
        operation(&map, &mut random);
    }
    for round in 0..8 {
        damage(&bench, &mut random);
        for _ in 0..random.below(4) {
            operation(&map, &mut random);
        }
        let repaired = map.repair(TIMEOUT_NS).unwrap();
        assert!(repaired.left.is_clean(), "seed {seed}, round {round}: {repaired:?}");
        let again = map.repair(TIMEOUT_NS).unwrap();
        assert!(again.found_nothing(), "seed {seed}, round {round}, second: {again:?}");
        // Another process, which knows nothing of what this one found readable.
        let other = Map::new(bench.memory.region(), bench.geometry.clone(), None, &host);
        let report = other.validate();
        assert!(report.is_clean(), "seed {seed}, round {round}: {:?}", report.problems);
        for number in 0..300 {
            let (key, value) = (key(number), number.to_le_bytes());
            let set = || map.set(&key, &value, &WriteOptions::default());
            let stored = set().or_else(|error| match error {
                // A no-evict region may be full of what the operations stored.
                Error::Full { .. } if mode == Mode::NoEvict => map.clear().and_then(|()| set()),
                error => Err(error),
            });
            assert!(stored.is_ok(), "seed {seed}, round {round}, key {number}: {stored:?}");
            let mut found = Vec::new();
            assert!(map.get(&key, &mut found).unwrap().is_some(), "seed {seed}, round {round}, key {number}");
            assert_eq!(found, value);
        }
        for _ in 0..100 {
            operation(&map, &mut random);
        }
        let report = map.validate();
        assert!(report.is_clean(), "seed {seed}, round {round}, after use: {:?}", report.problems);
    }
}

#[test]
fn whatever_words_were_changed_the_region_is_sound_after_a_repair() {
    let number = |name: &str, default| std::env::var(name).ok().and_then(|it| it.parse().ok()).unwrap_or(default);
    let (first, count): (u64, u64) = (number("CACHE_SHM_SEED", 1), number("CACHE_SHM_SEEDS", 60));
    for seed in first..first + count {
        one_damage(seed, if seed % 2 == 0 { Mode::Evict } else { Mode::NoEvict });
    }
}

#[test]
fn a_sound_region_is_left_as_it_is() {
    let host = TestHost::default();
    let bench = Bench::new(1 << 20, Mode::NoEvict);
    let map = bench.attach(&host, 0);
    fill(&map, 1000);
    map.set(b"a run", &[7; 50_000], &WriteOptions::default()).unwrap();
    let repaired = repair(&map);
    assert!(repaired.found_nothing(), "{repaired:?}");
    assert_eq!(keys_there(&map, 1000).len(), 1000);
    assert_eq!(map.meta(b"a run").unwrap().unwrap().value_bytes, 50_000);
}

#[test]
fn one_damaged_directory_entry_costs_the_keys_of_its_stripe_alone() {
    let host = TestHost::default();
    let bench = Bench::new(1 << 20, Mode::NoEvict);
    let map = bench.attach(&host, 0);
    fill(&map, 1000);
    let stripe = stripe_of(&map, 17);
    let version = map.stripe(stripe).version().load(Ordering::Relaxed);
    let (_, entries) = map.directory(stripe).unwrap();
    map.region.word(entries + 8 * 9).store(Link::new(3, 4, 4096).0, Ordering::Relaxed);
    assert!(!map.validate().is_clean());
    let repaired = repair(&map);
    assert_eq!(repaired.stripes_reset, [stripe]);
    assert_eq!(map.stripe(stripe).resets().load(Ordering::Relaxed), 1);
    assert_others_kept(&map, 1000, stripe);
    assert!(keys_there(&map, 1000).iter().all(|number| stripe_of(&map, *number) != stripe));
    assert!(map.set(&key(17), &17u64.to_le_bytes(), &WriteOptions::default()).unwrap() > version);
}

#[test]
fn a_slot_that_names_nothing_costs_one_key() {
    let host = TestHost::default();
    let bench = Bench::new(1 << 20, Mode::NoEvict);
    let map = bench.attach(&host, 0);
    fill(&map, 1000);
    let found = map.find(map.hasher.hash(&key(5)), (&key(5)).into(), crate::index::Manner::Look).unwrap().unwrap();
    found.slot.fetch_add(8, Ordering::Relaxed);
    let repaired = repair(&map);
    assert_eq!((repaired.slots, repaired.stripes_reset.len()), (1, 0), "{repaired:?}");
    assert_eq!(keys_there(&map, 1000), (0..1000).filter(|number| *number != 5).collect::<Vec<_>>());
}

#[test]
fn a_key_that_is_there_twice_keeps_its_newer_value() {
    let host = TestHost::default();
    let bench = Bench::new(1 << 20, Mode::NoEvict);
    let map = bench.attach(&host, 0);
    fill(&map, 100);
    let hash = map.hasher.hash(&key(5));
    let find = || map.find(hash, (&key(5)).into(), crate::index::Manner::Look).unwrap().unwrap();
    let old = find().word;
    map.set(&key(5), &5u64.to_le_bytes(), &WriteOptions::default()).unwrap();
    let newer = find();
    let free = newer.bucket.slots().iter().find(|slot| slot.load(Ordering::Relaxed) == 0).unwrap();
    free.store(old.0, Ordering::Relaxed);
    let version = newer.meta.version;
    assert!(!map.validate().is_clean());
    assert_eq!(repair(&map).slots, 1);
    assert_eq!(find().meta.version, version);
    assert_eq!(keys_there(&map, 100).len(), 100);
}

#[test]
fn segments_whose_state_was_overwritten_keep_their_items_and_blocks() {
    for word in [0, 9, 255, u64::MAX, 3 | 0xff << 8, 6] {
        let host = TestHost::default();
        let bench = Bench::new(1 << 20, Mode::NoEvict);
        let map = bench.attach(&host, 0);
        fill(&map, 1000);
        map.seal_idle_lanes(true);
        for index in 0..map.geometry.segment_count {
            if matches!(map.row(index).state().usage, Use::Index | Use::Sealed) {
                map.region.word(map.geometry.row_offset(index) + row_at::STATE).store(word, Ordering::Relaxed);
            }
        }
        assert!(!map.validate().is_clean(), "{word:#x}");
        let repaired = repair(&map);
        assert!(repaired.segments > 10 && repaired.stripes_reset.is_empty(), "{word:#x}: {repaired:?}");
        assert_eq!(keys_there(&map, 1000).len(), 1000, "{word:#x}");
    }
}

#[test]
fn a_damaged_header_costs_one_key_and_the_walk_goes_on_behind_it() {
    let host = TestHost::default();
    let bench = Bench::new(1 << 20, Mode::NoEvict);
    let map = bench.attach(&host, 0);
    fill(&map, 1000);
    let found = map.find(map.hasher.hash(&key(5)), (&key(5)).into(), crate::index::Manner::Look).unwrap().unwrap();
    map.region.word(found.offset).store(u64::MAX, Ordering::Relaxed);
    let row = map.row(found.segment);
    row.written().store(u64::MAX, Ordering::Relaxed);
    repair(&map);
    assert_eq!(keys_there(&map, 1000), (0..1000).filter(|number| *number != 5).collect::<Vec<_>>());
}

#[test]
fn hints_are_recounted() {
    let host = TestHost::default();
    let bench = Bench::new(1 << 20, Mode::NoEvict);
    let map = bench.attach(&host, 0);
    fill(&map, 1000);
    repair(&map);
    let before = map.stats();
    for index in 0..map.geometry.segment_count {
        map.row(index).live().store(1 << 50, Ordering::Relaxed);
    }
    for index in 0..map.geometry.stripe_count {
        map.stripe(index).items().store(77, Ordering::Relaxed);
    }
    map.free_hint().store(12_345, Ordering::Relaxed);
    let repaired = repair(&map);
    assert!(repaired.found_nothing() && repaired.hints > u64::from(map.geometry.stripe_count), "{repaired:?}");
    let after = map.stats();
    assert_eq!((after.items, after.live_bytes), (1000, before.live_bytes));
    assert_eq!(map.free_segments_hint() * after.segment_bytes, after.free_bytes);
}

#[test]
fn what_a_dead_owner_held_is_given_back() {
    let host = TestHost::default();
    let bench = Bench::new(1 << 20, Mode::NoEvict);
    let (map, dead) = (bench.attach(&host, 0), bench.attach(&host, 1));
    fill(&map, 500);
    let gone: Owner = dead.owner().unwrap();
    let lock_of = |stripe| map.region.word32(map.geometry.stripe_offset(stripe) + stripe_at::LOCK);
    lock_of(3).store(gone.word(), Ordering::Relaxed);
    map.region.word32(map.geometry.lane_offset(2) + lane::LOCK).store(gone.word(), Ordering::Relaxed);
    let claimed = dead.take_free(crate::segment::Purpose::Data, 1, gone).unwrap().unwrap();
    let (worker, _) = dead.enter(&crate::deadline::Deadline::new(0)).unwrap();
    let deadline = crate::deadline::Deadline::new(0);
    let blocks = dead.own_blocks(&worker, 3, 2, gone, &deadline).unwrap();
    drop(worker);
    let free = map.count_blocks()[1];
    host.dead.lock().unwrap().push(1);
    repair(&map);
    assert_eq!(lock_of(3).load(Ordering::Relaxed), 0);
    assert_eq!(map.row(claimed).state(), State::FREE);
    assert_eq!((blocks.len(), map.count_blocks()[1]), (2, free + 2));
    assert_eq!(keys_there(&map, 500).len(), 500);
}

#[test]
fn a_stripe_in_the_hands_of_the_living_is_reported_and_left_alone() {
    let host = TestHost::default();
    let bench = Bench::new(1 << 20, Mode::NoEvict);
    let (map, other) = (bench.attach(&host, 0), bench.attach(&host, 1));
    fill(&map, 500);
    let word = map.region.word32(map.geometry.stripe_offset(3) + stripe_at::LOCK);
    word.store(other.owner().unwrap().word(), Ordering::Relaxed);
    let repaired = map.repair(TIMEOUT_NS).unwrap();
    assert_eq!(repaired.stripes_busy, [3]);
    assert_eq!(Owner::from_word(word.load(Ordering::Relaxed)), other.owner());
    assert_eq!(keys_there(&map, 500).len(), 500);
}

#[test]
fn a_half_done_split_is_finished() {
    let host = TestHost::default();
    let bench = Bench::new(1 << 20, Mode::NoEvict);
    let map = bench.attach(&host, 0);
    fill(&map, 300);
    let stripe = stripe_of(&map, 17);
    let path = map.path(map.hasher.hash(&key(17))).unwrap();
    let parent = path.entry.offset();
    let (worker, owner) = map.enter(&crate::deadline::Deadline::new(0)).unwrap();
    let deadline = crate::deadline::Deadline::new(TIMEOUT_NS);
    let blocks = map.own_blocks(&worker, stripe, 2, owner, &deadline).unwrap();
    drop(worker);
    for (which, child) in [block::CHILD1, block::CHILD0].into_iter().zip(&blocks) {
        map.block_is_in_use(*child, stripe);
        map.region.word(parent + which).store(*child, Ordering::Release);
    }
    for number in 0..map.geometry.bucket_count() / 2 {
        map.move_bucket(parent, [blocks[1], blocks[0]], path.entry.depth(), number);
    }
    assert!(map.validate().is_clean(), "{:?}", map.validate().problems);
    assert_eq!(keys_there(&map, 300).len(), 300);
    assert_eq!(repair(&map).splits, 1);
    assert!(!map.leads_to_block(stripe, parent));
    assert!(blocks.iter().all(|child| map.leads_to_block(stripe, *child)));
    assert_eq!(keys_there(&map, 300).len(), 300);
}

#[test]
fn a_version_word_that_was_set_back_is_set_before_every_version_given() {
    let host = TestHost::default();
    let bench = Bench::new(1 << 20, Mode::NoEvict);
    let map = bench.attach(&host, 0);
    fill(&map, 300);
    let stripe = map.stripe(stripe_of(&map, 17));
    for damaged in [0, u64::MAX, 1 << 63] {
        let given = map.set(&key(17), &17u64.to_le_bytes(), &WriteOptions::default()).unwrap();
        stripe.version().store(damaged, Ordering::Relaxed);
        let repaired = repair(&map);
        assert!(repaired.versions == 1 && repaired.stripes_reset.is_empty(), "{damaged:#x}: {repaired:?}");
        assert!(map.set(&key(17), &17u64.to_le_bytes(), &WriteOptions::default()).unwrap() > given);
    }
    assert_eq!(keys_there(&map, 300).len(), 300);
}

#[test]
fn a_split_whose_maker_died_between_two_entries_is_finished() {
    let host = TestHost::default();
    let bench = Bench::new(1 << 20, Mode::NoEvict);
    let map = bench.attach(&host, 0);
    fill(&map, 2000);
    // A stripe that was split: its first block gets the entries of its sibling back, as if
    // they had not been changed yet.
    let (stripe, entries) = (0..map.geometry.stripe_count)
        .find_map(|stripe| {
            let (_, entries) = map.directory(stripe)?;
            (Link(map.region.word(entries).load(Ordering::Relaxed)).depth() == 1).then_some((stripe, entries))
        })
        .expect("2,000 keys split some stripe once");
    let link = |number: u64| Link(map.region.word(entries + 8 * number).load(Ordering::Relaxed));
    let [first, second] = [link(0), link(16)];
    assert_eq!((first.depth(), second.depth()), (1, 1));
    let (worker, owner) = map.enter(&crate::deadline::Deadline::new(0)).unwrap();
    let deadline = crate::deadline::Deadline::new(TIMEOUT_NS);
    let parent = map.own_blocks(&worker, stripe, 1, owner, &deadline).unwrap()[0];
    drop(worker);
    map.block_is_in_use(parent, stripe);
    for (which, child) in [(block::CHILD0, first), (block::CHILD1, second)] {
        map.region.word(parent + which).store(child.offset(), Ordering::Relaxed);
    }
    for number in 0..map.geometry.bucket_count() {
        map.bucket(parent, number).counter().fetch_or(block::MOVED, Ordering::Relaxed);
    }
    for number in 20..32 {
        map.region.word(entries + 8 * number).store(Link::new(9, 0, parent).0, Ordering::Relaxed);
    }
    assert_eq!(keys_there(&map, 2000).len(), 2000);
    assert!(map.validate().is_clean(), "{:?}", map.validate().problems);
    let repaired = repair(&map);
    assert!(repaired.splits == 1 && repaired.stripes_reset.is_empty(), "{repaired:?}");
    assert!((16..32).all(|number| link(number).offset() == second.offset()));
    assert!(!map.is_block_of(parent, stripe));
    assert_eq!(keys_there(&map, 2000).len(), 2000);
}

#[test]
fn readers_and_writers_stay_at_work_and_lose_nothing_in_sound_stripes() {
    let host = TestHost::default();
    let bench = Bench::new(8 << 20, Mode::NoEvict);
    let (map, other) = (bench.attach(&host, 0), bench.attach(&host, 1));
    fill(&map, 2000);
    let broken = stripe_of(&map, 17);
    let is_over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let at_work = scope.spawn(|| {
            let mut turns = 0;
            while !is_over.load(std::sync::atomic::Ordering::Relaxed) || turns == 0 {
                for number in 0..2000 {
                    let mut value = Vec::new();
                    let is_there = other.get(&key(number), &mut value).unwrap().is_some();
                    let stripe = stripe_of(&other, number);
                    assert!(is_there || stripe == broken, "key {number} of a sound stripe is gone");
                    assert!(!is_there || value == number.to_le_bytes(), "key {number}: {value:?}");
                    if number % 3 == 0 && stripe != broken {
                        other.set(&key(number), &number.to_le_bytes(), &WriteOptions::default()).unwrap();
                    }
                }
                turns += 1;
            }
        });
        let (_, entries) = map.directory(broken).unwrap();
        for round in 0..40 {
            if round % 4 == 0 {
                fill(&map, 2000);
                map.region.word(entries + 8 * 9).store(Link::new(3, 4, 4096).0, Ordering::Relaxed);
            }
            let repaired = map.repair(1_000_000_000).unwrap();
            let expected: &[u32] = if round % 4 == 0 { &[broken] } else { &[] };
            assert_eq!(repaired.stripes_reset, expected, "{repaired:?}");
        }
        is_over.store(true, std::sync::atomic::Ordering::Relaxed);
        at_work.join().unwrap();
    });
    repair(&map);
    assert_others_kept(&map, 2000, broken);
}

/// A block whose state word means nothing was once made free before its stripe was asked. It
/// stayed free where a living process kept the stripe locked, and others emptied it.
#[test]
fn a_block_of_a_stripe_that_is_locked_is_nobody_elses() {
    let host = TestHost::default();
    let bench = Bench::new(1 << 20, Mode::NoEvict);
    let (map, other) = (bench.attach(&host, 0), bench.attach(&host, 1));
    fill(&map, 500);
    let stripe = stripe_of(&map, 17);
    let block = map.path(map.hasher.hash(&key(17))).unwrap().entry.offset();
    let lock = map.region.word32(map.geometry.stripe_offset(stripe) + stripe_at::LOCK);
    lock.store(other.owner().unwrap().word(), Ordering::Relaxed);
    for word in [0x77, 4 | 0xff_ffff << 8] {
        map.state_of_block(block).unwrap().store(word, Ordering::Relaxed);
        let repaired = map.repair(TIMEOUT_NS).unwrap();
        assert_eq!(repaired.stripes_busy, [stripe]);
        let (worker, owner) = map.enter(&crate::deadline::Deadline::new(0)).unwrap();
        let free = map.count_blocks()[1] as usize;
        let deadline = crate::deadline::Deadline::new(0);
        let taken = map.own_blocks(&worker, (stripe + 1) % 16, free.min(8), owner, &deadline).unwrap();
        assert!(!taken.contains(&block), "{word:#x}: a block that serves keys was given to another stripe");
        map.disown_blocks(&taken);
    }
    lock.store(0, Ordering::Relaxed);
    let repaired = repair(&map);
    assert!(repaired.stripes_reset.is_empty(), "{repaired:?}");
    assert_eq!(keys_there(&map, 500).len(), 500);
}
