//! What witnesses promise: never an old value, and no second look at what nobody touched.

use super::Random;
use crate::testing::{Bench, TestHost};
use crate::{Key, Map, Mode, Namespace, Witness, WriteOptions};

const TIMEOUT_NS: u64 = 1_000_000_000;

type TestMap<'h> = Map<&'h TestHost>;

fn set(map: &TestMap<'_>, key: &[u8], value: &[u8]) {
    map.set(key, value, &WriteOptions::default()).unwrap();
}

fn witness<'k>(map: &TestMap<'_>, key: impl Into<Key<'k>>) -> Witness {
    map.get_witnessed(key, &mut Vec::new()).unwrap().expect("it is there").1
}

#[test]
fn a_witness_holds_until_its_value_changes() {
    let host = TestHost::default();
    let bench = Bench::new(4 << 20, Mode::Evict);
    let (map, other) = (bench.attach(&host, 0), bench.attach(&host, 1));
    for bytes in [0, 100, 30_000, 200_000] {
        let changes: [(&str, &dyn Fn()); 8] = [
            ("set", &|| set(&other, b"key", &vec![1; bytes])),
            ("delete", &|| assert!(other.delete(b"key", TIMEOUT_NS).unwrap())),
            ("clear", &|| other.clear().unwrap()),
            ("clear of its namespace", &|| other.clear_of(Namespace::DEFAULT).unwrap()),
            ("append", &|| {
                let _ = other.append(b"key", b"x", None, &WriteOptions::default()).unwrap();
            }),
            ("an expiry that comes", &|| {
                assert!(other.touch(b"key", 2_000, TIMEOUT_NS).unwrap());
                host.now_ms.fetch_add(5_000, std::sync::atomic::Ordering::Relaxed);
            }),
            ("take", &|| {
                let _ = other.take(b"key", TIMEOUT_NS, &mut Vec::new()).unwrap();
            }),
            ("the same bytes again", &|| set(&other, b"key", &vec![7; bytes])),
        ];
        for (name, change) in changes {
            host.now_ms.store(1_000, std::sync::atomic::Ordering::Relaxed);
            set(&map, b"key", &vec![7; bytes]);
            let mut witness = witness(&map, b"key");
            let hits = map.stats().hits;
            assert!(map.still_holds(&witness) && map.still_holds(&witness), "{bytes}, before {name}");
            assert_eq!(map.stats().hits, hits + 2);
            change();
            assert!(!map.still_holds(&witness), "{bytes}, after {name}");
            assert_eq!(map.renew(b"key", &mut witness), Ok(false), "{bytes}, after {name}");
        }
    }
}

#[test]
fn the_witness_of_a_marked_value_holds_until_it_is_cleared_or_evicted_by_a_tag() {
    let host = TestHost::default();
    let bench = Bench::new(4 << 20, Mode::Evict);
    let map = bench.attach(&host, 0);
    let space = map.namespace(b"space").unwrap();
    let key = Key::new(space, b"key");
    let options = WriteOptions { tags: &[b"red", b"blue"], ..WriteOptions::default() };
    let changes: [(&str, &dyn Fn()); 4] = [
        ("one tag", &|| map.evict_tag(space, b"red").unwrap()),
        ("the other", &|| map.evict_tag(space, b"blue").unwrap()),
        ("the namespace", &|| map.clear_of(space).unwrap()),
        ("the region", &|| map.clear().unwrap()),
    ];
    for (name, change) in changes {
        map.set(key, b"value", &options).unwrap();
        let mut witness = witness(&map, key);
        map.evict_tag(space, b"green").unwrap();
        map.clear_of(Namespace::DEFAULT).unwrap();
        assert!(map.still_holds(&witness), "{name}");
        change();
        assert!(!map.still_holds(&witness), "{name}");
        assert_eq!(map.renew(key, &mut witness), Ok(false), "{name}");
        map.set(key, b"value", &options).unwrap();
        assert!(!map.still_holds(&witness), "{name}: stored again, it is another version");
    }
}

/// Neighbours, splits and copies by reclaim: the value is the same, and one look tells so.
#[test]
fn a_witness_is_renewed_where_only_others_changed() {
    let host = TestHost::default();
    let bench = Bench::new(8 << 20, Mode::NoEvict);
    let map = bench.attach(&host, 0);
    let keys: Vec<[u8; 4]> = (0..20_000u32).map(u32::to_le_bytes).collect();
    set(&map, &keys[0], b"kept");
    let mut kept = witness(&map, &keys[0]);
    let mut renewed = 0;
    for key in &keys[1..] {
        set(&map, key, &[1; 60]);
        if !map.still_holds(&kept) {
            assert_eq!(map.renew(&keys[0], &mut kept), Ok(true));
            assert!(map.still_holds(&kept));
            renewed += 1;
        }
    }
    assert!((10..2_000).contains(&renewed), "{renewed}");
    for key in &keys[1..] {
        map.delete(key, TIMEOUT_NS).unwrap();
    }
    map.maintain(8 << 20).unwrap();
    for key in &keys[1..10_000] {
        set(&map, key, &[1; 300]);
    }
    assert!(map.still_holds(&kept) || map.renew(&keys[0], &mut kept).unwrap());
    map.repair(TIMEOUT_NS).unwrap();
    assert!(map.still_holds(&kept) || map.renew(&keys[0], &mut kept).unwrap());
}

#[test]
fn a_witness_that_holds_counts_as_a_use() {
    let host = TestHost::default();
    let bench = Bench::new(1 << 20, Mode::Evict);
    let map = bench.attach(&host, 0);
    set(&map, b"used", b"value");
    set(&map, b"unused", b"value");
    let mut used = witness(&map, b"used");
    for number in 0..30_000u32 {
        if !map.still_holds(&used) {
            assert!(map.renew(b"used", &mut used).unwrap(), "dropped after {number} sets");
        }
        set(&map, &number.to_le_bytes(), &[1; 400]);
    }
    assert_eq!([&b"used"[..], b"unused"].map(|key| map.contains(key).unwrap()), [true, false]);
}

/// Beside writers of the same few keys, in a region so small that places are used again all the
/// time: a count that a witness vouches for is not below one that somebody has been told of.
#[test]
fn no_thread_is_told_that_an_older_version_still_holds() {
    use std::sync::atomic::{AtomicU64, Ordering};

    let host = TestHost::default();
    let bench = Bench::new(1 << 20, Mode::NoEvict);
    // The greatest count that somebody was told of, for each key.
    let told: Vec<AtomicU64> = (0..8).map(|_| AtomicU64::new(0)).collect();
    let is_over = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for index in 0..2u32 {
            let map = bench.attach(&host, index);
            let (told, is_over) = (&told, &is_over);
            scope.spawn(move || {
                let mut random = Random(u64::from(index));
                for _ in 0..200_000 {
                    let number = random.below(8);
                    let sum = map.incr(&number.to_le_bytes(), 1, Some(0), &WriteOptions::default()).unwrap().unwrap();
                    told[number as usize].fetch_max(sum as u64, Ordering::AcqRel);
                }
                is_over.fetch_add(1, Ordering::AcqRel);
            });
        }
        let map = bench.attach(&host, 2);
        let (mut held, mut random) = (0u64, Random(9));
        let mut witnesses: Vec<Option<(u64, Witness)>> = vec![None; 8];
        while is_over.load(Ordering::Acquire) < 2 {
            let number = random.below(8) as usize;
            let key = (number as u64).to_le_bytes();
            let least = told[number].load(Ordering::Acquire);
            if let Some((known, witness)) = &mut witnesses[number]
                && (map.still_holds(witness) || map.renew(&key, witness).unwrap())
            {
                held += 1;
                assert!(*known >= least, "{known} holds although {least} was told");
                continue;
            }
            let mut value = Vec::new();
            let found = map.get_witnessed(&key, &mut value).unwrap();
            witnesses[number] = found.map(|(_, witness)| (u64::from_le_bytes(value[..8].try_into().unwrap()), witness));
        }
        assert!(held > 1_000, "{held}");
    });
}
