//! What the engine promises of space, growth and eviction, on small regions.

use super::Random;
use crate::deadline::Deadline;
use crate::layout::block;
use crate::testing::{Bench, TestHost};
use crate::{Error, Map, Mode, NEVER, WriteOptions, kind};

type TestMap<'h> = Map<&'h TestHost>;

fn get(map: &TestMap<'_>, key: &[u8]) -> Option<Vec<u8>> {
    let mut value = Vec::new();
    map.get(key, &mut value).unwrap().map(|_| value)
}

#[test]
fn the_index_grows_by_itself_and_loses_nothing() {
    let host = TestHost::default();
    let bench = Bench::new(64 << 20, Mode::NoEvict);
    let map = bench.attach(&host, 0);
    let options = WriteOptions::default();
    for number in 0..300_000u64 {
        map.set(&number.to_le_bytes(), &number.to_be_bytes(), &options).unwrap();
    }
    for number in 0..300_000u64 {
        assert_eq!(get(&map, &number.to_le_bytes()).as_deref(), Some(&number.to_be_bytes()[..]), "{number}");
    }
    assert_eq!(map.len(), 300_000);
    let report = map.validate();
    assert!(report.is_clean(), "{:?}", report.problems);
    assert!(map.stats().splits > 500, "{:?}", map.stats());
}

#[test]
fn a_full_evicting_region_keeps_taking_values() {
    let host = TestHost::default();
    let bench = Bench::new(2 << 20, Mode::Evict);
    let map = bench.attach(&host, 0);
    let value = [7u8; 200];
    for number in 0..100_000u64 {
        map.set(&number.to_le_bytes(), &value, &WriteOptions::default()).unwrap();
        assert!(map.contains(&number.to_le_bytes()).unwrap(), "{number} is there right after it was set");
    }
    let report = map.validate();
    assert!(report.is_clean(), "{:?}", report.problems);
    assert!(report.items > 5_000, "most of the region is used: {} items", report.items);
    assert!(map.stats().evictions > 80_000);
}

#[test]
fn a_full_no_evict_region_says_so_and_drops_nothing() {
    let host = TestHost::default();
    let bench = Bench::new(2 << 20, Mode::NoEvict);
    let map = bench.attach(&host, 0);
    let value = [7u8; 200];
    let mut stored = 0u64;
    let error = loop {
        match map.set(&stored.to_le_bytes(), &value, &WriteOptions::default()) {
            Ok(_) => stored += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::Full { .. }), "{error:?}");
    assert!(stored * 256 > (2 << 20) * 85 / 100, "only {stored} items fit");
    for number in 0..stored {
        assert!(map.contains(&number.to_le_bytes()).unwrap(), "{number} was dropped");
    }
    for number in 0..stored / 2 {
        assert!(map.delete(&number.to_le_bytes(), 0).unwrap());
    }
    for number in 0..stored / 3 {
        map.set(&number.to_le_bytes(), &value, &WriteOptions::default()).unwrap();
    }
    assert!(map.validate().is_clean());
}

fn overwrite(mode: Mode, region_bytes: u64, sizes: impl Fn(&mut Random) -> usize) {
    let host = TestHost::default();
    let bench = Bench::new(region_bytes, mode);
    let map = bench.attach(&host, 0);
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut sizes_of = std::collections::HashMap::new();
    let mut live = 0u64;
    let mut keys = Vec::new();
    let payload = vec![0xabu8; 70_000];
    let budget = region_bytes * 80 / 100;
    // Fill to 80 % of the region with everything that counts: items, index, fixed parts.
    loop {
        let length = sizes(&mut random);
        let key = random.next().to_le_bytes();
        let stats = map.stats();
        if stats.live_bytes + stats.index_bytes + stats.fixed_bytes + length as u64 > budget {
            break;
        }
        map.set(&key, &payload[..length], &WriteOptions::default()).unwrap();
        sizes_of.insert(key, length);
        keys.push(key);
        live += length as u64;
    }
    let before = map.stats();
    let mut written = 0;
    while written < region_bytes * 10 {
        let key = keys[random.below(keys.len() as u64) as usize];
        let length = sizes_of[&key];
        map.set(&key, &payload[..length], &WriteOptions::default())
            .unwrap_or_else(|error| panic!("{error} after {written} of {} bytes", region_bytes * 10));
        written += length as u64;
    }
    let missing = keys.iter().filter(|key| !map.contains(&key[..]).unwrap()).count();
    assert_eq!(missing, 0, "of {} keys with {live} bytes", keys.len());
    let after = map.stats();
    let copied = (after.relocated_bytes - before.relocated_bytes) as f64 / (after.set_bytes - before.set_bytes) as f64;
    assert!(copied <= 3.0, "{copied:.2} bytes copied per byte set");
    let report = map.validate();
    assert!(report.is_clean(), "{:?}", report.problems);
}

#[test]
fn a_working_set_of_80_percent_is_kept_whole_while_it_is_overwritten() {
    overwrite(Mode::Evict, 8 << 20, |_| 200);
}

#[test]
fn a_working_set_of_80_percent_never_makes_a_no_evict_region_full() {
    overwrite(Mode::NoEvict, 8 << 20, |_| 200);
}

#[test]
fn a_working_set_of_mixed_sizes_is_kept_whole_while_it_is_overwritten() {
    // Up to a sixteenth of a segment, as 64 KiB values are in a region of 256 MiB.
    overwrite(Mode::Evict, 32 << 20, |random| 64 + random.below(8 * 1024) as usize);
    overwrite(Mode::NoEvict, 32 << 20, |random| 64 + random.below(8 * 1024) as usize);
}

#[test]
fn expired_items_make_room_before_anything_unexpired_is_dropped() {
    let host = TestHost::default();
    let bench = Bench::new(8 << 20, Mode::Evict);
    let map = bench.attach(&host, 0);
    let value = [1u8; 200];
    let soon = WriteOptions { expires_at_ms: 1000, ..WriteOptions::default() };
    // Every second item expires: no segment is wholly dead.
    for number in 0..24_000u64 {
        let options = if number % 2 == 0 { soon } else { WriteOptions::default() };
        map.set(&number.to_le_bytes(), &value, &options).unwrap();
    }
    assert_eq!(map.stats().evictions, 0);
    host.now_ms.store(5000, std::sync::atomic::Ordering::Relaxed);
    for number in 100_000..110_000u64 {
        map.set(&number.to_le_bytes(), &value, &WriteOptions::default()).unwrap();
    }
    assert_eq!(map.stats().evictions, 0, "{:?}", map.stats());
    for number in (1..24_000u64).step_by(2).chain(100_000..110_000) {
        assert!(map.contains(&number.to_le_bytes()).unwrap(), "{number} is missing");
    }
}

#[test]
fn a_walk_that_was_begun_in_need_drops_nothing_once_there_is_room() {
    let host = TestHost::default();
    let bench = Bench::new(8 << 20, Mode::Evict);
    let map = bench.attach(&host, 0);
    let set = |number: u64| map.set(&number.to_le_bytes(), &[1; 200], &WriteOptions::default()).unwrap();
    let draining = || map.validate().segments[5];
    let mut number = 0;
    while number < 60_000 || draining() == 0 {
        set(number);
        number += 1;
    }
    let there: Vec<u64> = (0..number).filter(|key| map.contains(&key.to_le_bytes()).unwrap()).collect();
    let (kept, deleted): (Vec<_>, Vec<_>) = there.into_iter().partition(|key| key % 10 == 0);
    for key in deleted {
        assert!(map.delete(&key.to_le_bytes(), 0).unwrap());
    }
    let before = map.stats();
    assert!(draining() > 0 && before.live_bytes < bench.geometry.data_bytes() / 4, "{before:?}");
    for key in number..number + 3000 {
        set(key);
    }
    assert_eq!(map.stats().evictions, before.evictions);
    assert!(kept.iter().all(|key| map.contains(&key.to_le_bytes()).unwrap()));
}

#[test]
fn one_item_that_lives_long_does_not_put_off_the_sweep_of_the_others() {
    let host = TestHost::default();
    let bench = Bench::new(8 << 20, Mode::Evict);
    let map = bench.attach(&host, 0);
    let until = |expires_at_ms| WriteOptions { expires_at_ms, ..WriteOptions::default() };
    // The first expire at once, one in sixteen in a month, the others in a minute.
    for number in 0..24_000u64 {
        let expires_at_ms = match number % 16 {
            0 => 1_000,
            1 => 30 * 86_400_000,
            _ => 60_000,
        };
        map.set(&number.to_le_bytes(), &[1; 200], &until(expires_at_ms)).unwrap();
    }
    let now = |ms| host.now_ms.store(ms, std::sync::atomic::Ordering::Relaxed);
    let sweep = || (0..2_000).for_each(|_| assert!(map.maintain(1 << 20).is_ok()));
    now(2_000);
    sweep();
    let early = map.stats().expirations;
    assert!((1_300..=1_500).contains(&early), "{early}");
    now(61_000);
    sweep();
    let expirations = map.stats().expirations;
    assert!(expirations > 21_000, "{expirations} of 22,500; the rest is in the open segments");
}

#[test]
fn a_clear_empties_the_region_at_once_and_its_space_comes_back() {
    let host = TestHost::default();
    let bench = Bench::new(2 << 20, Mode::NoEvict);
    let map = bench.attach(&host, 0);
    for round in 0..20u64 {
        for number in 0..5_000u64 {
            map.set(&number.to_le_bytes(), &[round as u8; 200], &WriteOptions::default())
                .unwrap_or_else(|error| panic!("round {round}, {number}: {error}"));
        }
        assert_eq!(get(&map, &7u64.to_le_bytes()), Some(vec![round as u8; 200]));
        map.clear().unwrap();
        assert_eq!(map.len(), 0);
        assert_eq!(map.stats().items, 0);
        assert!(!map.contains(&7u64.to_le_bytes()).unwrap());
    }
    assert!(map.validate().is_clean());
}

#[test]
fn values_larger_than_a_segment_live_in_runs_and_are_there_right_after_they_were_set() {
    // Where the small queue's share was smaller than a value, and the value all that was in that
    // queue, the work that its own set did for later ones could drop it at once.
    let host = TestHost::default();
    let bench = Bench::new(16 << 20, Mode::Evict);
    let map = bench.attach(&host, 0);
    let mut random = Random(11);
    for round in 0..400u64 {
        let length = random.below(3 << 20) as usize;
        let key = random.below(40).to_le_bytes();
        let value: Vec<u8> = (0..length).map(|at| (at as u64 ^ round) as u8).collect();
        map.set(&key, &value, &WriteOptions::default()).unwrap();
        let found = get(&map, &key);
        let (found_bytes, is_same) = (found.as_ref().map(Vec::len), found.as_ref() == Some(&value));
        assert!(is_same, "round {round}: {length} bytes were set, {found_bytes:?} found; {:?}", map.stats());
    }
    let largest = map.value_bytes_max() as usize;
    map.set(b"largest", &vec![9; largest], &WriteOptions::default()).unwrap();
    assert_eq!(get(&map, b"largest").map(|value| value.len()), Some(largest));
    let error = map.set(b"larger", &vec![9; (16 << 20) / 4 + 1], &WriteOptions::default()).unwrap_err();
    assert!(matches!(error, Error::ValueTooLarge { .. }), "{error:?}");
    let report = map.validate();
    assert!(report.is_clean(), "{:?}", report.problems);
}

#[test]
fn whoever_writes_values_larger_than_a_segment_fills_the_region_with_them() {
    // Writers spread over the free segments; where they left single ones between their runs, those
    // held no run any more: 30 % of the region.
    let host = TestHost::default();
    for writer in 0..10 {
        let bench = Bench::new(64 << 20, Mode::Evict);
        let map = bench.attach(&host, writer);
        for number in 0..200u64 {
            map.set(&number.to_le_bytes(), &[7; 300_000], &WriteOptions::default()).unwrap();
        }
        let stats = map.stats();
        assert!(stats.free_bytes < 8 * stats.segment_bytes, "writer {writer}: {stats:?}");
    }
}

#[test]
fn a_view_stays_as_it_is_whatever_happens_to_its_key() {
    let host = TestHost::default();
    let bench = Bench::new(4 << 20, Mode::Evict);
    let map = bench.attach(&host, 0);
    for (name, length) in [("small", 100), ("large", 20_000), ("run", 200_000)] {
        let key = name.as_bytes();
        map.set(key, &vec![5; length], &WriteOptions::default()).unwrap();
        let view = map.view(key).unwrap().unwrap();
        map.set(key, b"new", &WriteOptions::default()).unwrap();
        for number in 0..60_000u64 {
            map.set(&number.to_le_bytes(), &[6; 200], &WriteOptions::default()).unwrap();
        }
        assert!(view.iter().all(|byte| *byte == 5), "{name}");
        drop(view);
        map.clear().unwrap();
    }
    assert_eq!(map.stats().pins, 0);
    for number in 0..60_000u64 {
        map.set(&number.to_le_bytes(), &[6; 200], &WriteOptions::default()).unwrap();
    }
    let report = map.validate();
    assert!(report.is_clean(), "{:?}", report.problems);
    assert_eq!(report.segments[6], 0, "condemned segments come back when their pins are gone");
}

#[test]
fn a_file_system_without_space_is_an_error_or_early_eviction() {
    let host = TestHost { space: Some((600 * 1024).into()), ..TestHost::default() };
    let bench = Bench::new(2 << 20, Mode::Evict);
    let map = bench.attach(&host, 0);
    for number in 0..20_000u64 {
        map.set(&number.to_le_bytes(), &[6; 200], &WriteOptions::default()).unwrap();
    }
    assert!(map.len() > 1_000, "{} items in what there is", map.len());
    let host = TestHost { space: Some(0.into()), ..TestHost::default() };
    let bench = Bench::new(2 << 20, Mode::Evict);
    let map = bench.attach(&host, 0);
    let error = map.set(b"key", b"value", &WriteOptions::default()).unwrap_err();
    assert!(matches!(error, Error::NoSpace { .. }), "{error:?}");
    assert_eq!(get(&map, b"key"), None);
}

#[test]
fn many_threads_lose_no_update() {
    let host = TestHost::default();
    let bench = Bench::new(8 << 20, Mode::Evict);
    let map = bench.attach(&host, 0);
    let options = WriteOptions { expires_at_ms: NEVER, timeout_ns: 60_000_000_000, ..WriteOptions::default() };
    std::thread::scope(|scope| {
        for thread in 0..12u64 {
            let map = &map;
            scope.spawn(move || {
                let mut random = Random(thread + 1);
                for _ in 0..20_000 {
                    map.incr(b"counter", 1, Some(0), &options).unwrap();
                    let key = random.below(5_000).to_le_bytes();
                    let length = random.below(600) as usize;
                    map.set(&key, &vec![key[0]; length], &options).unwrap();
                    if let Some(value) = get(map, &random.below(5_000).to_le_bytes()) {
                        assert!(value.windows(2).all(|pair| pair[0] == pair[1]), "a torn value");
                    }
                }
            });
        }
    });
    assert_eq!(map.incr(b"counter", 0, None, &options).unwrap(), Some(240_000));
    let report = map.validate();
    assert!(report.is_clean(), "{:?}", report.problems);
}

#[test]
fn bad_keys_and_values_are_named_and_harm_nothing() {
    let host = TestHost::default();
    let bench = Bench::new(1 << 20, Mode::Evict);
    let map = bench.attach(&host, 0);
    let options = WriteOptions::default();
    map.set(b"key", b"value", &options).unwrap();
    assert_eq!(map.set(b"", b"", &options), Err(Error::KeyEmpty));
    let long = vec![b'k'; 65_536];
    assert_eq!(map.set(&long, b"", &options), Err(Error::KeyTooLong { bytes: 65_536, bytes_max: 65_535 }));
    map.set(&long[1..], b"", &options).unwrap();
    assert!(matches!(map.set(b"big", &vec![0; 1 << 19], &options), Err(Error::ValueTooLarge { .. })));
    assert_eq!(map.incr(b"key", 1, None, &options), Err(Error::NotInteger));
    map.set(b"n", b"9223372036854775807", &options).unwrap();
    assert_eq!(map.incr(b"n", 1, None, &options), Err(Error::Overflow));
    assert_eq!(get(&map, b"n").as_deref(), Some(&b"9223372036854775807"[..]));
    assert_eq!(map.incr(b"n", -7, None, &options), Ok(Some(9_223_372_036_854_775_800)));
    for (kind, value, tail) in
        [(kind::STR, &b"text"[..], &b"\xff"[..]), (kind::FLOAT, &[0; 8], b"a"), (kind::TAGGED, b"\x80", b"a")]
    {
        map.set(b"f", value, &WriteOptions { kind, ..options }).unwrap();
        assert_eq!(map.append(b"f", tail, None, &options), Err(Error::NotAppendable));
        let new = WriteOptions { kind, ..options };
        assert_eq!(map.append(b"new", tail, Some(value), &new), Err(Error::NotAppendable));
        assert_eq!(get(&map, b"new"), None);
        assert_eq!(get(&map, b"f").as_deref(), Some(value));
    }
    assert_eq!(get(&map, b"key").as_deref(), Some(&b"value"[..]));
}

#[test]
fn an_evicting_region_takes_values_that_fill_segments_badly() {
    for (region_bytes, lengths) in [(1 << 20, [1400, 1700]), (1 << 20, [2030, 3000]), (16 << 20, [33_000, 40_000])] {
        for length in lengths {
            let host = TestHost::default();
            let bench = Bench::new(region_bytes, Mode::Evict);
            let map = bench.attach(&host, 0);
            let value = vec![1; length];
            for number in 0..3 * region_bytes / length as u64 {
                map.set(&number.to_le_bytes(), &value, &WriteOptions::default())
                    .unwrap_or_else(|error| panic!("{length} bytes, {number}: {error}"));
            }
            assert!(map.validate().is_clean());
        }
    }
}

#[test]
fn threads_that_write_runs_at_once_all_find_room() {
    let host = TestHost::default();
    let bench = Bench::new(16 << 20, Mode::Evict);
    let map = bench.attach(&host, 0);
    let patient = WriteOptions { timeout_ns: 20_000_000_000, ..WriteOptions::default() };
    std::thread::scope(|scope| {
        for thread in 0..4u64 {
            let map = &map;
            scope.spawn(move || {
                let mut random = Random(thread + 99);
                for round in 0..300 {
                    let key = random.below(12).to_le_bytes();
                    let length = random.below(1 << 20) as usize;
                    map.set(&key, &vec![key[0]; length], &patient)
                        .unwrap_or_else(|error| panic!("thread {thread}, round {round}, {length} bytes: {error}"));
                    if let Some(view) = map.view(&random.below(12).to_le_bytes()).unwrap() {
                        assert!(view.iter().all(|byte| Some(byte) == view.first()), "a torn value");
                    }
                }
            });
        }
    });
    assert!(map.validate().is_clean());
}

#[test]
fn background_work_drops_what_expired_although_nobody_needs_the_space() {
    let host = TestHost::default();
    let bench = Bench::new(4 << 20, Mode::Evict);
    let map = bench.attach(&host, 0);
    let soon = WriteOptions { expires_at_ms: 1000, ..WriteOptions::default() };
    for number in 0..5_000u64 {
        let options = if number % 2 == 0 { soon } else { WriteOptions::default() };
        map.set(&number.to_le_bytes(), &[1; 100], &options).unwrap();
    }
    host.now_ms.store(2000, std::sync::atomic::Ordering::Relaxed);
    for _ in 0..1_000 {
        map.maintain(1 << 20).unwrap();
    }
    let expired = map.stats().expirations;
    assert!(expired > 2_400, "{expired} of 2500 were swept; the rest is in the open segment");
    assert_eq!(map.len(), 2_500);
    assert!(map.validate().is_clean());
}

#[test]
fn a_buffer_that_is_too_small_is_an_error_and_costs_nothing() {
    let host = TestHost::default();
    let bench = Bench::new(1 << 20, Mode::Evict);
    let map = bench.attach(&host, 0);
    map.set(b"key", b"a longer value", &WriteOptions::default()).unwrap();
    let mut small = [0; 4];
    let expected = Err(Error::BufferTooSmall { bytes: 14, bytes_given: 4 });
    for _ in 0..3 {
        assert_eq!(map.get(b"key", &mut crate::Buffer(&mut small)), expected);
        assert_eq!(map.take(b"key", 0, &mut crate::Buffer(&mut small)), expected);
    }
    assert_eq!(get(&map, b"key").as_deref(), Some(&b"a longer value"[..]));
}

#[test]
fn items_of_a_good_part_of_a_segment_never_fill_an_evicting_region() {
    for length in [12_000usize, 20_000, 24_000] {
        let host = TestHost::default();
        let bench = Bench::new(8 << 20, Mode::Evict);
        let map = bench.attach(&host, 0);
        for number in 0..2_000u64 {
            map.set(&number.to_le_bytes(), &vec![1; length], &WriteOptions::default())
                .unwrap_or_else(|error| panic!("{length} bytes, {number}: {error}"));
        }
        assert!(map.validate().is_clean());
    }
}

#[test]
fn an_evicting_region_takes_large_values_from_whoever_does_not_wait() {
    let host = TestHost::default();
    let bench = Bench::new(4 << 20, Mode::Evict);
    let map = bench.attach(&host, 0);
    let value = vec![1; (bench.geometry.segment_bytes() * 45 / 100) as usize];
    let options = WriteOptions { timeout_ns: 0, ..WriteOptions::default() };
    for number in 0..1_500u64 {
        map.set(&number.to_le_bytes(), &value, &options).unwrap();
        // Whatever is there is wanted.
        for back in 0..100.min(number) {
            drop(get(&map, &(number - back).to_le_bytes()));
        }
    }
}

#[test]
fn a_segment_that_cannot_be_read_holds_up_nobody() {
    for mode in [Mode::Evict, Mode::NoEvict] {
        let host = TestHost::default();
        let bench = Bench::new(1 << 20, mode);
        let maker = bench.attach(&host, 0);
        let set = |map: &TestMap<'_>, number: u64| map.set(&number.to_le_bytes(), &[1; 700], &WriteOptions::default());
        for number in 0..800 {
            set(&maker, number).unwrap();
        }
        let sealed = |index: &u32| maker.row(*index).state().usage == crate::segment::Use::Sealed;
        let cut_off = (0..bench.geometry.segment_count).find(sealed).unwrap();
        // Nothing in it has memory, says its row, nor does anything live.
        let row = bench.memory.region();
        let ticket = row.word(bench.geometry.row_offset(cut_off) + crate::layout::segment::TICKET);
        ticket.fetch_and((1 << 52) - 1, crate::sync::Ordering::Relaxed);
        maker.row(cut_off).live().store(0, crate::sync::Ordering::Relaxed);
        let other = bench.attach(&host, 1);
        for number in 0..3_000 {
            set(&other, number * 7 % 800).unwrap();
        }
        assert_eq!(other.row(cut_off).state().usage, crate::segment::Use::Sealed);
    }
}

/// A sweep only looks at what lives and leaves it linked. A segment that was let go in the
/// middle of a sweep was once emptied for a run from there on, and freed: what the sweep had
/// passed was lost, its slots named whatever came next, and validation said so.
#[test]
fn a_segment_half_swept_is_emptied_from_its_start_when_a_run_wants_it() {
    let host = TestHost::default();
    let bench = Bench::new(2 << 20, Mode::NoEvict);
    let map = bench.attach(&host, 0);
    for number in 0..10_000u64 {
        let expires_at_ms = if number % 10 == 0 { 1000 } else { NEVER };
        let options = WriteOptions { expires_at_ms, ..WriteOptions::default() };
        map.set(&number.to_le_bytes(), &number.to_be_bytes(), &options).unwrap();
    }
    host.now_ms.store(2000, std::sync::atomic::Ordering::Relaxed);
    let half_swept = |index: &u32| map.row(*index).state().usage == crate::segment::Use::Draining;
    let segments = || 0..map.geometry().segment_count;
    // One byte: a sweep is begun, and let go after its first step.
    map.maintain(1).unwrap();
    let index = segments().find(half_swept).expect("a sweep that was let go");
    let (worker, owner) = map.enter(&crate::deadline::Deadline::new(0)).unwrap();
    let incarnation = map.incarnation(index).unwrap();
    assert!(map.empty_segment(&worker, incarnation, false, owner));
    drop(worker);
    for number in (0..10_000u64).filter(|number| number % 10 != 0) {
        let found = get(&map, &number.to_le_bytes());
        assert_eq!(found.as_deref(), Some(&number.to_be_bytes()[..]), "{number} is lost");
    }
    let report = map.validate();
    assert!(report.is_clean(), "{:?}", report.problems);
}

/// A segment's memory is asked for piece by piece. A piece that was refused was once asked
/// for again by each write, which failed although the region has other memory to reuse.
#[test]
fn an_evicting_region_goes_on_in_the_memory_that_it_has() {
    let host = TestHost { space: Some((8 << 20).into()), ..TestHost::default() };
    let bench = Bench::new(64 << 20, Mode::Evict);
    let map = bench.attach(&host, 0);
    for number in 0..100_000u64 {
        map.set(&number.to_le_bytes(), &[6; 500], &WriteOptions::default())
            .unwrap_or_else(|error| panic!("{number}: {error:?}"));
    }
    let report = map.validate();
    assert!(report.is_clean(), "{:?}", report.problems);
    assert!(report.items > 5_000, "{} items in what there is", report.items);
}

/// What was dropped while a split was half done was once written to the child, where the rest
/// of the split wrote over it.
#[test]
fn a_split_forgets_no_ghost() {
    let host = TestHost::default();
    let bench = Bench::new(1 << 20, Mode::Evict);
    let map = bench.attach(&host, 0);
    map.set(b"key", b"value", &WriteOptions::default()).unwrap();
    let hash = map.hasher.hash(b"key");
    let stripe = hash.stripe(map.geometry().stripe_count);
    let (worker, owner) = map.enter(&Deadline::new(0)).unwrap();
    let blocks = map.own_blocks(&worker, stripe, 2, owner, &Deadline::new(0)).unwrap();
    let path = map.path(hash).unwrap();
    for (which, child) in [block::CHILD1, block::CHILD0].into_iter().zip(&blocks) {
        map.region.word(path.entry.offset() + which).store(*child, crate::sync::Ordering::Release);
    }
    map.remember(hash, crate::slot::Queue::Small);
    for number in 0..map.geometry().bucket_count() {
        map.move_bucket(path.entry.offset(), [blocks[1], blocks[0]], path.entry.depth(), number);
    }
    assert!(map.recall(hash).is_some());
    drop(worker);
}

#[test]
fn an_evicting_region_finds_room_for_values_of_every_size_whatever_is_used() {
    const SIZES: [usize; 7] = [100, 300, 1000, 4000, 9000, 20_000, 65_000];
    for seed in 1..=4 {
        let (host, bench) = (TestHost::default(), Bench::new(4 << 20, Mode::Evict));
        let map = bench.attach(&host, 0);
        let mut random = Random(seed);
        let value = vec![7; SIZES[6]];
        for turn in 0..60_000 {
            let key = random.below(100_000).to_le_bytes();
            // Uses keep items alive: what is to be reclaimed has to be copied on.
            if random.below(2) == 0 {
                get(&map, &key);
                continue;
            }
            let bytes = SIZES[random.below(7) as usize];
            let stored = map.set(&key, &value[..bytes], &WriteOptions::default());
            assert!(stored.is_ok(), "seed {seed}, turn {turn}, {bytes} bytes: {stored:?}");
        }
        assert!(map.validate().is_clean());
    }
}
