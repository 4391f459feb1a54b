//! What namespaces and tags promise.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;

use super::Random;
use crate::error::Error;
use crate::layout::{NAMESPACE_NAME_BYTES, TAG_BYTES_MAX, TAG_COUNT_MAX, namespace as at};
use crate::testing::{Bench, TestHost};
use crate::{Cas, Host, Key, Map, Mode, NEVER, Namespace, WriteOptions};

const TIMEOUT_NS: u64 = 1_000_000_000;

fn value_of<H: Host>(map: &Map<H>, key: Key<'_>) -> Option<Vec<u8>> {
    let mut value = Vec::new();
    map.get(key, &mut value).unwrap().map(|_| value)
}

/// A value and its tags.
type Stored<'a> = (Vec<u8>, Vec<&'a [u8]>);

fn tagged<'a>(tags: &'a [&'a [u8]]) -> WriteOptions<'a> {
    WriteOptions { tags, ..WriteOptions::default() }
}

#[test]
fn a_table_of_names_that_no_writer_makes_is_reported_and_mended() {
    let host = TestHost::default();
    let bench = Bench::new(4 << 20, Mode::Evict);
    let map = bench.attach(&host, 0);
    let spaces = [&b"accounts"[..], b"pages", b"codes"].map(|name| map.namespace(name).unwrap());
    let last = Key::new(spaces[2], b"key");
    map.set(last, b"value", &WriteOptions::default()).unwrap();
    let damages: [(u32, u64, u64, &str); 6] = [
        (2, at::NAME_BYTES, 0, "rows behind it"),
        (2, at::NAME_BYTES, 65, "a length"),
        (2, at::NAME, u64::from_le_bytes(*b"accounts"), "twice"),
        (0, at::NAME_BYTES, 5, "the default namespace"),
        (3, at::GENERATION, 1 << 62, "no clear"),
        (map.geometry().namespace_count, u64::MAX, u64::MAX, "no eviction"),
    ];
    for (row, offset, word, said) in damages {
        assert!(map.validate().is_clean(), "{:?}", map.validate());
        match offset {
            u64::MAX => map.generation_word(row).unwrap().store(word, Ordering::Relaxed),
            _ => map.namespace_word(row, offset).store(word, Ordering::Relaxed),
        }
        let report = map.validate();
        assert!(report.problems.iter().any(|problem| problem.contains(said)), "{said}: {:?}", report.problems);
        let repaired = map.repair(TIMEOUT_NS).unwrap();
        assert!(repaired.namespaces > 0 && repaired.left.is_clean(), "{said}: {repaired:?}");
        assert_eq!(map.namespace(b"codes"), Ok(spaces[2]), "{said}");
    }
    assert_eq!(value_of(&map, last), Some(b"value".to_vec()));
}

#[test]
fn the_same_bytes_are_another_key_in_each_namespace() {
    let host = TestHost::default();
    let bench = Bench::new(4 << 20, Mode::Evict);
    let map = bench.attach(&host, 0);
    let spaces: Vec<Namespace> = [&b"users"[..], &[7; NAMESPACE_NAME_BYTES], b"pages"]
        .iter()
        .map(|name| map.namespace(name).unwrap())
        .chain([Namespace::DEFAULT])
        .collect();
    for (number, space) in spaces.iter().enumerate() {
        let value = vec![number as u8; 100 + 20_000 * number];
        map.set(Key::new(*space, b"key"), &value, &WriteOptions::default()).unwrap();
    }
    for (number, space) in spaces.iter().enumerate() {
        let key = Key::new(*space, b"key");
        assert_eq!(value_of(&map, key), Some(vec![number as u8; 100 + 20_000 * number]));
        assert_eq!(map.meta(key).unwrap().unwrap().namespace, *space);
        assert_eq!((map.len_of(*space), map.is_empty_of(*space)), (1, false));
    }
    assert_eq!(map.len(), 4);
    assert!(map.delete(Key::new(spaces[1], b"key"), TIMEOUT_NS).unwrap());
    assert_eq!(value_of(&map, Key::new(spaces[1], b"key")), None);
    assert_eq!((map.len(), map.is_empty_of(spaces[1])), (3, true));
    for key in [Key::new(Namespace::NOWHERE, b"key"), Key::new(Namespace::from_number(9), b"key")] {
        assert_eq!(value_of(&map, key), None);
        assert_eq!(map.delete(key, TIMEOUT_NS), Ok(false));
        if key.namespace == Namespace::NOWHERE {
            assert!(map.set(key, b"", &WriteOptions::default()).is_err());
            assert!(map.clear_of(key.namespace).is_err());
        }
    }
    assert!(map.validate().is_clean(), "{:?}", map.validate());
}

#[test]
fn a_name_has_one_number_in_every_process_and_for_ever() {
    let host = TestHost::default();
    let bench = Bench::new(4 << 20, Mode::Evict);
    let (map, other) = (bench.attach(&host, 0), bench.attach(&host, 1));
    assert_eq!(map.find_namespace(b"a"), Ok(None));
    let first = map.namespace(b"a").unwrap();
    assert_eq!(other.namespace(b"a"), Ok(first));
    let second = other.namespace(b"b").unwrap();
    assert_ne!(first, second);
    map.clear_of(first).unwrap();
    assert_eq!((map.namespace(b"a"), map.find_namespace(b"b")), (Ok(first), Ok(Some(second))));
    let names: Vec<Vec<u8>> = map.namespaces().into_iter().map(|info| info.name).collect();
    assert_eq!(names, [&b""[..], b"a", b"b"]);
    for name in [&b""[..], &[1; NAMESPACE_NAME_BYTES + 1]] {
        let refused = Error::LabelLength { bytes: name.len() as u64, bytes_max: NAMESPACE_NAME_BYTES as u64 };
        assert_eq!(map.namespace(name), Err(refused));
    }
    let rows = bench.geometry.namespace_count;
    for number in 3..rows {
        map.namespace(&number.to_le_bytes()).unwrap();
    }
    assert_eq!(map.namespace(b"one more"), Err(Error::NamespacesFull { count: rows - 1 }));
    assert_eq!(map.namespace(b"b"), Ok(second));
}

/// The lock of the table is held for a few stores; who dies among them leaves a free row.
#[test]
fn a_dead_maker_of_a_namespace_leaves_a_free_row() {
    let host = TestHost::default();
    let bench = Bench::new(4 << 20, Mode::Evict);
    let (map, other) = (bench.attach(&host, 0), bench.attach(&host, 1));
    let word = map.namespaces_lock();
    crate::lock::acquire_until(word, other.owner().unwrap(), &&host, &crate::deadline::Deadline::new(0)).unwrap();
    let half = map.region.word(bench.geometry.namespaces_offset + at::BYTES + at::NAME);
    half.store(u64::MAX, crate::sync::Ordering::Relaxed);
    host.dead.lock().unwrap().push(1);
    let made = map.namespace(b"mine").unwrap();
    assert_eq!((made.number(), map.find_namespace(b"mine")), (1, Ok(Some(made))));
}

#[test]
fn a_clear_takes_the_keys_of_its_namespace_and_no_others() {
    let host = TestHost::default();
    let bench = Bench::new(4 << 20, Mode::Evict);
    let map = bench.attach(&host, 0);
    let [a, b] = [b"a", b"b"].map(|name| map.namespace(name).unwrap());
    let fill = || {
        for number in 0..200u32 {
            for space in [Namespace::DEFAULT, a, b] {
                let key = number.to_le_bytes();
                let value = vec![3; if number == 7 { 30_000 } else { 60 }];
                map.set(Key::new(space, &key), &value, &WriteOptions::default()).unwrap();
            }
        }
    };
    let counts = || [Namespace::DEFAULT, a, b].map(|space| map.len_of(space));
    fill();
    map.clear_of(a).unwrap();
    assert_eq!(counts(), [200, 0, 200]);
    map.clear_of(Namespace::DEFAULT).unwrap();
    assert_eq!(counts(), [0, 0, 200]);
    map.set(Key::new(a, b"new"), b"1", &WriteOptions::default()).unwrap();
    assert_eq!(
        map.add(Key::new(a, &7u32.to_le_bytes()), b"2", &WriteOptions::default()).map(|v| v.is_some()),
        Ok(true)
    );
    assert_eq!(counts(), [0, 2, 200]);
    fill();
    map.clear().unwrap();
    assert_eq!(counts(), [0, 0, 0]);
    fill();
    assert_eq!(counts(), [200, 200, 200]);
    assert!(map.validate().is_clean(), "{:?}", map.validate());
}

#[test]
fn evicting_a_tag_takes_every_value_that_has_it() {
    let host = TestHost::default();
    let bench = Bench::new(4 << 20, Mode::Evict);
    let map = bench.attach(&host, 0);
    let space = map.namespace(b"space").unwrap();
    let [red, blue] = [&b"red"[..], &[1; TAG_BYTES_MAX]];
    let other = |namespace| if namespace == space { Namespace::DEFAULT } else { space };
    for (bytes, namespace) in [0, 5, 100, 20_000].into_iter().flat_map(|b| [(b, Namespace::DEFAULT), (b, space)]) {
        let value = vec![9; bytes];
        let keys = [&b"red"[..], b"blue", b"both", b"none"].map(|key| Key::new(namespace, key));
        let tags: [&[&[u8]]; 4] = [&[red], &[blue], &[blue, red], &[]];
        for (key, tags) in keys.iter().zip(tags) {
            map.set(*key, &value, &tagged(tags)).unwrap();
            assert_eq!(value_of(&map, *key), Some(value.clone()));
            assert_eq!(map.meta(*key).unwrap().unwrap().value_bytes, bytes);
            let view = map.view(*key).unwrap().unwrap();
            assert_eq!(&*view, value);
        }
        assert!(map.validate().is_clean(), "{:?}", map.validate());
        map.evict_tag(other(namespace), red).unwrap();
        assert!(keys.iter().all(|key| map.contains(*key).unwrap()), "tags of another namespace are others");
        map.evict_tag(namespace, red).unwrap();
        assert_eq!(keys.map(|key| map.contains(key).unwrap()), [false, true, false, true], "{bytes}");
        map.evict_tag(namespace, blue).unwrap();
        assert_eq!(keys.map(|key| map.contains(key).unwrap()), [false, false, false, true], "{bytes}");
        map.set(keys[0], &value, &tagged(&[red])).unwrap();
        assert!(map.contains(keys[0]).unwrap(), "what is stored afterwards stays");
    }
    let many = [red; TAG_COUNT_MAX + 1];
    assert!(map.set(b"most", b"", &tagged(&many[1..])).is_ok() && map.contains(b"most").unwrap());
    let refused = Error::TooManyTags { count: TAG_COUNT_MAX as u64 + 1, count_max: TAG_COUNT_MAX as u64 };
    assert_eq!(map.set(b"most", b"", &tagged(&many)), Err(refused));
    for name in [&b""[..], &[1; TAG_BYTES_MAX + 1]] {
        let refused = Error::LabelLength { bytes: name.len() as u64, bytes_max: TAG_BYTES_MAX as u64 };
        assert_eq!(map.evict_tag(Namespace::DEFAULT, name), Err(refused.clone()));
        assert_eq!(map.set(b"key", b"", &tagged(&[b"fine", name])), Err(refused));
    }
}

/// What a value becomes keeps its tags, and a tag that was evicted before stays evicted.
#[test]
fn what_changes_a_value_keeps_its_tags() {
    let host = TestHost::default();
    let bench = Bench::new(4 << 20, Mode::Evict);
    let map = bench.attach(&host, 0);
    let tag = &b"tag"[..];
    let options = tagged(&[tag]).timeout_ns;
    for key in [&b"n"[..], b"s", b"t", b"large"] {
        let value: &[u8] = if key == b"large" { &[1; 20_000] } else { b"1" };
        map.set(key, value, &tagged(&[tag])).unwrap();
    }
    assert_eq!(map.incr(b"n", 5, None, &WriteOptions::default()), Ok(Some(6)));
    assert_eq!(map.append(b"s", b"2", None, &WriteOptions::default()), Ok(Some(2)));
    for key in [&b"t"[..], b"large"] {
        assert_eq!(map.touch(key, 10_000, options), Ok(true));
    }
    map.evict_tag(Namespace::DEFAULT, tag).unwrap();
    for key in [&b"n"[..], b"s", b"t", b"large"] {
        assert!(!map.contains(key).unwrap());
        assert_eq!(map.touch(key, NEVER, options), Ok(false));
    }
    assert_eq!(map.incr(b"n", 5, Some(0), &WriteOptions::default()), Ok(Some(5)));
    map.evict_tag(Namespace::DEFAULT, tag).unwrap();
    assert!(map.contains(b"n").unwrap(), "made anew, it has no tags");
    let version = map.meta(b"n").unwrap().unwrap().version;
    assert!(matches!(map.cas(b"n", version, b"7", &tagged(&[tag])), Ok(Cas::Stored(_))));
    map.evict_tag(Namespace::DEFAULT, tag).unwrap();
    assert!(!map.contains(b"n").unwrap());
}

/// A region that drops nothing finds the room of what was cleared or evicted by a tag.
#[test]
fn the_room_of_what_was_cleared_or_evicted_comes_back_where_nothing_else_is_dropped() {
    let host = TestHost::default();
    let bench = Bench::new(2 << 20, Mode::NoEvict);
    let map = bench.attach(&host, 0);
    let space = map.namespace(b"space").unwrap();
    let tag = &b"tag"[..];
    map.set(b"stays", b"here", &WriteOptions::default()).unwrap();
    let fill = |namespace, options: &WriteOptions<'_>| {
        (0..100_000u32)
            .take_while(|number| map.set(Key::new(namespace, &number.to_le_bytes()), &[5; 200], options).is_ok())
            .count()
    };
    let first = fill(space, &WriteOptions::default());
    assert!((1_000..100_000).contains(&first), "{first}");
    for _ in 0..5 {
        map.clear_of(space).unwrap();
        let again = fill(space, &WriteOptions::default());
        assert!(again * 10 >= first * 9, "{again} of {first}");
    }
    map.clear_of(space).unwrap();
    let tagged_first = fill(Namespace::DEFAULT, &tagged(&[tag]));
    for _ in 0..5 {
        map.evict_tag(Namespace::DEFAULT, tag).unwrap();
        let again = fill(Namespace::DEFAULT, &tagged(&[tag]));
        assert!(again * 10 >= tagged_first * 9, "{again} of {tagged_first}");
    }
    assert_eq!(value_of(&map, b"stays".into()), Some(b"here".to_vec()));
    assert!(map.validate().is_clean(), "{:?}", map.validate());
}

/// Namespaces, tags and clears against a map that knows what must be there; in a region that
/// evicts, what is there must be right.
#[test]
fn namespaces_and_tags_do_what_a_simple_map_does() {
    for (mode, bytes, seed) in [(Mode::NoEvict, 16 << 20, 1), (Mode::Evict, 2 << 20, 2), (Mode::Evict, 1 << 20, 3)] {
        let host = TestHost::default();
        let bench = Bench::new(bytes, mode);
        let map = bench.attach(&host, 0);
        let mut random = Random(seed);
        let names: [Vec<u8>; 3] = [b"a".to_vec(), b"b".to_vec(), b"c".to_vec()];
        let mut spaces = vec![Namespace::DEFAULT];
        spaces.extend(names.iter().map(|name| map.namespace(name).unwrap()));
        // Tags that share no word, in any of the namespaces.
        let mut words = HashSet::new();
        let mut is_alone = |tag: &[u8]| spaces.iter().all(|space| words.insert(map.tag_number(*space, tag)));
        let tags: Vec<[u8; 4]> = (0..u32::MAX).map(u32::to_le_bytes).filter(|tag| is_alone(tag)).take(6).collect();
        let mut known: HashMap<(Namespace, u64), Stored<'_>> = HashMap::new();
        for step in 0..60_000u64 {
            let space = spaces[random.below(4) as usize];
            let number = random.below(3_000);
            let bytes = number.to_le_bytes();
            let key = Key::new(space, &bytes);
            match random.below(1_000) {
                0 => {
                    map.clear_of(space).unwrap();
                    known.retain(|(other, _), _| *other != space);
                }
                1..=4 => {
                    let tag = &tags[random.below(6) as usize][..];
                    map.evict_tag(space, tag).unwrap();
                    known.retain(|(other, _), (_, tags)| *other != space || !tags.contains(&tag));
                }
                5..=500 => {
                    let with: Vec<&[u8]> = tags.iter().map(|tag| &tag[..]).filter(|_| random.below(10) == 0).collect();
                    let value = vec![step as u8; random.below(300) as usize];
                    map.set(key, &value, &tagged(&with)).unwrap();
                    known.insert((space, number), (value, with));
                }
                501..=600 => {
                    assert!(!map.delete(key, TIMEOUT_NS).unwrap() || known.contains_key(&(space, number)));
                    known.remove(&(space, number));
                }
                _ => match (value_of(&map, key), known.get(&(space, number))) {
                    (Some(value), Some((stored, _))) => assert_eq!(value, *stored),
                    (None, stored) => assert!(stored.is_none() || mode == Mode::Evict),
                    (Some(_), None) => panic!("a value that was cleared, evicted or deleted came back"),
                },
            }
        }
        let report = map.validate();
        assert!(report.is_clean(), "{report:?}");
        if mode == Mode::NoEvict {
            assert_eq!(map.len(), known.len() as u64);
        }
    }
}

#[test]
fn each_namespace_has_its_counts_and_they_begin_anew_at_a_reset() {
    let host = TestHost::default();
    let bench = Bench::new(4 << 20, Mode::Evict);
    let (map, other) = (bench.attach(&host, 0), bench.attach(&host, 1));
    let space = map.namespace(b"space").unwrap();
    for number in 0..300u32 {
        let key = number.to_le_bytes();
        map.set(Key::new(space, &key), b"", &WriteOptions::default()).unwrap();
        map.set(&key, b"", &WriteOptions::default()).unwrap();
        assert!(value_of(&other, Key::new(space, &key)).is_some());
    }
    assert_eq!(value_of(&map, Key::new(space, b"missing")), None);
    assert!(map.delete(Key::new(space, &[0; 4]), TIMEOUT_NS).unwrap());
    other.settle_namespaces();
    let infos = map.namespaces();
    let counts: Vec<_> = infos.iter().map(|info| (info.hits, info.misses, info.sets, info.deletes)).collect();
    assert_eq!(counts, [(0, 0, 300, 0), (300, 1, 300, 1)]);
    map.reset_stats_of(space).unwrap();
    assert_eq!(map.namespaces().iter().map(|info| (info.hits, info.sets)).collect::<Vec<_>>(), [(0, 300), (0, 0)]);
    assert!(map.reset_stats_of(Namespace::DEFAULT).is_err() && map.reset_stats_of(Namespace::NOWHERE).is_err());
    map.reset_stats().unwrap();
    assert!(map.namespaces().iter().all(|info| (info.hits, info.misses, info.sets, info.deletes) == (0, 0, 0, 0)));
    assert_eq!((map.stats().hits, map.stats().sets), (0, 0));
    map.set(Key::new(space, b"key"), b"", &WriteOptions::default()).unwrap();
    assert_eq!((map.namespaces()[1].sets, map.stats().sets), (1, 1));
}

#[test]
fn the_age_of_the_evicted_is_how_long_values_stay() {
    let host = TestHost::default();
    let bench = Bench::new(1 << 20, Mode::Evict);
    let map = bench.attach(&host, 0);
    let mut number = 0u32;
    let mut fill = |count: u32, step_ms: u64| {
        for _ in 0..count {
            number += 1;
            host.now_ms.fetch_add(step_ms, Ordering::Relaxed);
            map.set(&number.to_le_bytes(), &[1; 100], &WriteOptions::default()).unwrap();
        }
        map.stats()
    };
    assert_eq!(fill(1_000, 10).evicted_age_ms, 0, "nothing was evicted");
    // Values of about 130 bytes each 10 ms: a region's worth of them is some 80 seconds.
    let slow = fill(30_000, 10);
    assert!(slow.evictions > 10_000 && (20_000..100_000).contains(&slow.evicted_age_ms), "{}", slow.evicted_age_ms);
    let fast = fill(30_000, 1);
    assert!((2_000..10_000).contains(&fast.evicted_age_ms), "{}", fast.evicted_age_ms);
}

/// Bytes that no writer makes are no item, whatever its marks say.
#[test]
fn marks_that_no_writer_makes_are_a_miss_and_no_panic() {
    let host = TestHost::default();
    let bench = Bench::new(1 << 20, Mode::Evict);
    let map = bench.attach(&host, 0);
    let space = map.namespace(b"space").unwrap();
    let tag = &b"tag"[..];
    let key = Key::new(space, b"key");
    let mut random = Random(5);
    for _ in 0..2_000 {
        let set = || map.set(key, &[1; 40], &tagged(&[tag, tag]));
        if set().is_err() {
            // Slots that name no item are never taken by another.
            map.repair(TIMEOUT_NS).unwrap();
            set().unwrap();
        }
        let found = map.find(map.hash_key(key).unwrap(), key, crate::index::Manner::Look).unwrap().unwrap();
        // The header is the subject of others.
        let word = map.region.word(found.offset + 16 + 8 * random.below(found.bytes / 8 - 2));
        let bits = if random.below(2) == 0 { random.next() } else { 1 << random.below(64) };
        word.fetch_xor(bits, Ordering::Relaxed);
        let _ = map.get(key, &mut Vec::new());
        let _ = map.append(key, b"2", None, &WriteOptions::default());
        map.len();
    }
    let _ = map.repair(TIMEOUT_NS);
    map.set(key, b"sound", &tagged(&[tag])).unwrap();
    assert_eq!(value_of(&map, key), Some(b"sound".to_vec()));
    // A name whose length makes no sense is none.
    map.region.word(bench.geometry.namespaces_offset + at::BYTES + at::NAME_BYTES).store(u64::MAX, Ordering::Relaxed);
    assert_eq!(map.find_namespace(b"space"), Ok(None));
}

/// Runs of a cleared namespace, or of an evicted tag, stood in the way of every later one: their hints
/// said that they live, and nobody counted before the answer that there is no room.
#[test]
fn the_room_of_large_values_comes_back_where_nothing_else_is_dropped() {
    for by_tag in [false, true] {
        let host = TestHost::default();
        let bench = Bench::new(8 << 20, Mode::NoEvict);
        let map = bench.attach(&host, 0);
        let space = map.namespace(b"space").unwrap();
        let tag = &b"tag"[..];
        let fill = || {
            (0..100u32)
                .take_while(|number| {
                    map.set(Key::new(space, &number.to_le_bytes()), &[1; 200_000], &tagged(&[tag])).is_ok()
                })
                .count()
        };
        let first = fill();
        assert!((10..100).contains(&first), "{first}");
        for _ in 0..3 {
            if by_tag { map.evict_tag(space, tag) } else { map.clear_of(space) }.unwrap();
            assert_eq!(map.len(), 0);
            let again = fill();
            assert!(again + 2 >= first, "{again} of {first}");
        }
        assert!(map.validate().is_clean(), "{:?}", map.validate());
    }
}

/// What died by its mark still counted as living: a region with room for all that lived thought
/// itself full, and dropped the oldest of it.
#[test]
fn what_lives_is_kept_while_it_fits_beside_what_was_cleared() {
    for by_tag in [false, true] {
        let host = TestHost::default();
        let bench = Bench::new(8 << 20, Mode::Evict);
        let map = bench.attach(&host, 0);
        let space = map.namespace(b"space").unwrap();
        let tag = &b"tag"[..];
        let put = |space: Namespace, from: u64, count: u64| {
            for number in from..from + count {
                map.set(Key::new(space, &number.to_le_bytes()), &[1; 400], &tagged(&[tag])).unwrap();
            }
        };
        // So many are a tenth of the region.
        let tenth = (8 << 20) / 450 / 10;
        let other = map.namespace(b"other").unwrap();
        put(other, 0, 3 * tenth);
        for round in 0..4 {
            let before = map.stats().evictions;
            put(space, 1_000_000 * round, 5 * tenth);
            assert_eq!(map.stats().evictions, before, "round {round}");
            if by_tag { map.evict_tag(space, tag) } else { map.clear_of(space) }.unwrap();
        }
        assert_eq!(map.len(), 3 * tenth);
    }
}
