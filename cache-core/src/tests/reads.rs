//! Reads by the common way and by the general one: they say the same of every key.

use super::Random;
use crate::index::Manner;
use crate::item::Head;
use crate::slot::{Queue, Slot};
use crate::sync::Ordering;
use crate::testing::{Bench, TestHost};
use crate::{Key, Map, Mode, NEVER, WriteOptions};

#[test]
fn a_location_outside_the_segments_is_a_miss_whatever_lies_there() {
    let host = TestHost::default();
    let bench = Bench::new(4 << 20, Mode::Evict);
    let map = bench.attach(&host, 0);
    let key = b"sixteen byte key";
    map.set(key, b"a value", &WriteOptions::default()).unwrap();
    let found = map.find(map.hash_key(key.into()).unwrap(), key.into(), Manner::Look).unwrap().unwrap();
    // A well-formed item in the reserved rows of namespaces.
    let at = bench.geometry.namespaces_offset;
    let head = Head::for_value(key.into(), 8, &WriteOptions::default(), 0);
    let words = key.as_chunks::<8>().0.iter().map(|part| u64::from_le_bytes(*part));
    let item = [head.to_word(), found.meta.version].into_iter().chain(words).chain([0]);
    for (number, word) in item.enumerate() {
        bench.memory.region().word(at + 8 * number as u64).store(word, Ordering::Relaxed);
    }
    found.slot.store(Slot::new(found.word.tag(), Queue::Small, 0, at).0, Ordering::SeqCst);
    let mut value = Vec::new();
    assert_eq!(map.meta(key).unwrap(), None);
    assert_eq!(map.get(key, &mut value).unwrap(), None);
    assert!(!map.contains(key).unwrap());
    assert_eq!(map.get_many(&[key], &mut |_, _, _| ()).unwrap(), 0);
}

#[test]
fn keys_of_every_length_are_found_by_every_way_of_reading() {
    let host = TestHost::default();
    let bench = Bench::new(8 << 20, Mode::Evict);
    let map = bench.attach(&host, 0);
    let reader = Map::new(bench.memory.region(), bench.geometry.clone(), None, &host);
    let options = WriteOptions::default();
    let keys: Vec<Vec<u8>> = (1..=1100usize)
        .chain([4096, 65_534, 65_535])
        .map(|length| (0..length).map(|at| (at * 31 + length) as u8).collect())
        .collect();
    let value_of = |key: &[u8]| key.len().to_le_bytes();
    for key in &keys {
        map.set(key, &value_of(key), &options).unwrap();
    }
    let mut value = Vec::new();
    for map in [&map, &reader] {
        for key in &keys {
            assert!(map.get(key, &mut value).unwrap().is_some(), "{} bytes", key.len());
            assert_eq!(value, value_of(key));
            assert!(map.peek(key, &mut value).unwrap().is_some() && map.contains(key).unwrap());
            let mut other = key.clone();
            *other.last_mut().unwrap() ^= 1;
            assert!(map.get(&other, &mut value).unwrap().is_none() && !map.contains(&other).unwrap());
        }
        for wrong in [&[][..], &vec![1; 65_536]] {
            assert!(map.get(wrong, &mut value).is_err() && map.contains(wrong).is_err());
            let visited = map.get_many(&[&keys[3], wrong], &mut |_, _, _| panic!("nothing is visited"));
            assert!(visited.is_err());
        }
        let batch: Vec<&[u8]> = keys.iter().flat_map(|key| [key, &keys[0][..], b"absent"]).collect();
        let mut visited = Vec::new();
        let hits = map.get_many(&batch, &mut |at, _, value| {
            assert_eq!(value, value_of(batch[at]));
            visited.push(at);
        });
        assert_eq!(hits.unwrap(), 2 * keys.len());
        assert!(visited.is_sorted() && visited.len() == 2 * keys.len());
    }
}

#[test]
fn values_of_every_length_are_read_whole_across_chunks() {
    let host = TestHost::default();
    let bench = Bench::new(8 << 20, Mode::Evict);
    let map = bench.attach(&host, 0);
    let mut random = Random(3);
    let mut value = Vec::new();
    let about_the_bounds = [0, 1, 2900, 3007, 3008, 3009, 16_383, 16_384, 16_385, 40_000];
    for round in 0..400u64 {
        let length = about_the_bounds[random.below(about_the_bounds.len() as u64) as usize];
        let key = (round % 40).to_le_bytes();
        map.set(&key, &vec![round as u8; length], &WriteOptions::default()).unwrap();
        assert!(map.get(&key, &mut value).unwrap().is_some());
        assert_eq!(value, vec![round as u8; length]);
    }
}

#[test]
fn a_use_is_counted_without_a_look_at_the_value() {
    let host = TestHost::default();
    let bench = Bench::new(8 << 20, Mode::Evict);
    let map = bench.attach(&host, 0);
    for (key, value_bytes) in [(b"small", 5), (b"large", 100_000)] {
        map.set(key, &vec![1; value_bytes], &WriteOptions::default()).unwrap();
        let uses =
            || map.find(map.hash_key(key.into()).unwrap(), key.into(), Manner::Look).unwrap().unwrap().word.uses();
        assert_eq!(uses(), 0);
        assert!(map.mark_used(key).unwrap());
        assert_eq!(uses(), 1);
    }
    assert!(!map.mark_used(b"nothing").unwrap());
    let stats = map.stats();
    assert_eq!((stats.hits, stats.misses), (0, 0));
}

#[test]
fn the_bytes_of_an_item_are_those_that_it_takes() {
    let host = TestHost::default();
    let bench = Bench::new(8 << 20, Mode::Evict);
    let map = bench.attach(&host, 0);
    for value_bytes in [0, 1, 100, 100_000] {
        for (expires_at_ms, client_flags) in [(NEVER, 0), (5_000, 0), (5_000, 7)] {
            let key = Key::from(b"key");
            let options = WriteOptions { expires_at_ms, client_flags, ..WriteOptions::default() };
            map.set(key, &vec![1; value_bytes], &options).unwrap();
            let found = map.find(map.hash_key(key).unwrap(), key, Manner::Look).unwrap().unwrap();
            assert_eq!(found.meta.item_bytes(key), found.bytes + 8);
        }
    }
}

#[test]
fn places_of_samples_are_spread_over_all_keys() {
    let host = TestHost::default();
    let bench = Bench::new(8 << 20, Mode::Evict);
    let map = bench.attach(&host, 0);
    for number in 0..2_000u32 {
        map.set(&number.to_le_bytes(), b"value", &WriteOptions::default()).unwrap();
    }
    let mut random = Random(1);
    let mut met = std::collections::HashSet::new();
    for _ in 0..2_000 {
        map.scan(map.place(random.next()), &mut |key, _| _ = met.insert(key.to_vec())).unwrap();
    }
    assert!(met.len() > 1_900, "{}", met.len());
}
