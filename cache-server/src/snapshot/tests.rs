//! What a snapshot promises, on private regions.

use std::collections::BTreeMap;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::Duration;

use cache_shm::{Cache, Cursor, Key, NEVER, Namespace, WriteOptions, kind};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use super::*;
use crate::failure::{Failure, Result};

fn region(bytes: u64) -> Cache {
    Cache::builder(None).size(bytes).create().unwrap()
}

fn taken(cache: &Cache) -> Vec<u8> {
    let mut bytes = Vec::new();
    let summary = write_to(cache, &mut bytes, &mut unwatched).unwrap();
    assert_eq!(summary.bytes, bytes.len() as u64);
    bytes
}

fn put_back(cache: &Cache, mut bytes: &[u8], options: &Options) -> Result<Restored> {
    restore_from(cache, &mut bytes, Path::new("dump"), options, &mut unwatched)
}

type Place = (Vec<u8>, Vec<u8>);
type Content = (Vec<u8>, u8, u8, (u32, u32), bool);

/// Everything in a region but versions, by namespace and key.
fn contents(cache: &Cache) -> BTreeMap<Place, Content> {
    let map = cache.map().unwrap();
    let names: Vec<Vec<u8>> = cache.namespaces().unwrap().into_iter().map(|info| info.name).collect();
    let mut found = BTreeMap::new();
    let mut cursor = Some(Cursor::START);
    while let Some(from) = cursor.take() {
        let mut keys = Vec::new();
        cursor = map.scan(from, &mut |key, meta| keys.push((meta.namespace, key.to_vec()))).unwrap();
        for (namespace, key) in keys {
            let mut value = Vec::new();
            let carried = map.carry(Key::new(namespace, &key), &mut value).unwrap().unwrap();
            let meta = carried.meta;
            let name = names[usize::from(namespace.number())].clone();
            let content =
                (value, meta.kind, meta.key_form, (meta.client_flags, meta.server_flags), meta.expires_at_ms == NEVER);
            found.insert((name, key), content);
        }
    }
    found
}

fn filled(cache: &Cache, items: &BTreeMap<Place, Content>) {
    for ((name, key), (value, kind, key_form, (client_flags, server_flags), never)) in items {
        let at = if name.is_empty() { cache.clone() } else { cache.namespace(name).unwrap() };
        let expires_at_ms = if *never { NEVER } else { cache.expiry(Duration::from_secs(3600)).unwrap() };
        let options = WriteOptions {
            kind: *kind,
            key_form: *key_form,
            client_flags: *client_flags,
            server_flags: *server_flags,
            expires_at_ms,
            ..cache.options()
        };
        at.set_with(key, value, &options).unwrap();
    }
}

fn any_items() -> impl Strategy<Value = BTreeMap<Place, Content>> {
    let place = (prop_oneof![Just(vec![]), vec(any::<u8>(), 1..4)], vec(any::<u8>(), 1..40));
    let value = prop_oneof![4 => vec(any::<u8>(), 0..200), 1 => vec(any::<u8>(), 16_000..40_000)];
    let content = (value, 0..=25u8, 0..=3u8, any::<(u32, u32)>(), any::<bool>());
    btree_map(place, content, 0..60).prop_filter("few namespaces", |items| {
        items.keys().map(|(name, _)| name).collect::<std::collections::BTreeSet<_>>().len() <= 10
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn what_was_in_a_region_is_in_the_one_that_it_is_restored_to(items in any_items()) {
        let first = region(16 << 20);
        filled(&first, &items);
        let bytes = taken(&first);
        let second = region(32 << 20);
        let restored = put_back(&second, &bytes, &Options::default()).unwrap();
        prop_assert_eq!(restored.stored, items.len() as u64);
        prop_assert_eq!(contents(&second), items);
        prop_assert!(second.validate().unwrap().is_clean());
    }

    #[test]
    fn a_changed_snapshot_restores_nothing_wrong_and_is_never_taken_for_whole(
        items in any_items(),
        changes in vec((any::<u32>(), 1..=255u8), 0..4),
        length in proptest::option::of(any::<u32>()),
    ) {
        let first = region(16 << 20);
        filled(&first, &items);
        let whole = taken(&first);
        let mut bytes = whole.clone();
        for (at, change) in changes {
            let at = at as usize % bytes.len();
            bytes[at] ^= change;
        }
        if let Some(length) = length {
            bytes.truncate(length as usize % bytes.len());
        }
        for skip_damaged in [false, true] {
            let second = region(16 << 20);
            let done = put_back(&second, &bytes, &Options { skip_damaged, ..Options::default() });
            for (place, content) in contents(&second) {
                prop_assert_eq!(items.get(&place), Some(&content), "a value that was never stored");
            }
            match done {
                Ok(restored) if bytes == whole => prop_assert_eq!(restored.stored, items.len() as u64),
                Ok(restored) => prop_assert!(skip_damaged && !restored.problems.is_empty()),
                Err(Failure::Snapshot { .. } | Failure::Stopped { .. }) => prop_assert!(bytes != whole),
                Err(other) => prop_assert!(false, "{}", other),
            }
        }
    }
}

/// The bytes at which the chunks of a snapshot begin.
fn chunk_starts(bytes: &[u8]) -> Vec<usize> {
    let mut starts = vec![64];
    loop {
        let at = starts[starts.len() - 1];
        let payload_bytes = u64::from_le_bytes(bytes[at + 16..at + 24].try_into().unwrap());
        let next = at + 40 + payload_bytes as usize;
        if next == bytes.len() {
            return starts;
        }
        starts.push(next);
    }
}

#[test]
fn one_damaged_chunk_is_named_with_its_place_and_costs_no_other() {
    let first = region(16 << 20);
    for number in 0..4000u64 {
        first.set(&number.to_le_bytes(), &[7; 400]).unwrap();
    }
    let whole = taken(&first);
    let starts = chunk_starts(&whole);
    assert!(starts.len() > 5, "{starts:?}");
    for damaged in [starts[2] + 3, starts[2] + 17, starts[2] + 5000] {
        let mut bytes = whole.clone();
        bytes[damaged] ^= 0x40;
        let strict = put_back(&region(16 << 20), &bytes, &Options::default());
        let Err(Failure::Stopped { cause: failure, stored, .. }) = strict else { panic!("{strict:?}") };
        assert!(stored > 0);
        let Problem::Damaged { offset, .. } = strict_problem(&failure) else { panic!("{failure}") };
        assert_eq!(offset, starts[2] as u64);
        assert!(failure.to_string().contains(&format!("dump is damaged at byte {offset}")), "{failure}");
        let second = region(16 << 20);
        let restored = put_back(&second, &bytes, &Options { skip_damaged: true, ..Options::default() }).unwrap();
        let lost = 4000 - restored.stored;
        assert!((400..1000).contains(&lost), "{lost} of 4000 were lost with one of {} chunks", starts.len());
        assert_eq!(restored.problems[0], strict_problem(&failure));
        assert_eq!(second.len().unwrap(), restored.stored);
    }
}

fn strict_problem(failure: &Failure) -> Problem {
    let Failure::Snapshot { problem, .. } = failure else { panic!("{failure}") };
    *problem
}

#[test]
fn a_value_that_contains_a_snapshot_is_not_taken_for_a_part_of_it() {
    let inner = region(4 << 20);
    inner.set(b"smuggled", b"in").unwrap();
    let outer = region(4 << 20);
    outer.set(b"dump", &taken(&inner)).unwrap();
    let mut bytes = taken(&outer);
    let start = chunk_starts(&bytes)[0];
    bytes[start] ^= 1;
    let second = region(4 << 20);
    let restored = put_back(&second, &bytes, &Options { skip_damaged: true, ..Options::default() }).unwrap();
    assert_eq!((restored.stored, second.len().unwrap()), (0, 0));
}

#[test]
fn what_is_there_stays_unless_it_is_to_be_replaced() {
    let first = region(4 << 20);
    first.set(b"a", b"old").unwrap();
    first.set(b"b", b"old").unwrap();
    let bytes = taken(&first);
    let second = region(4 << 20);
    second.set(b"a", b"newer").unwrap();
    let restored = put_back(&second, &bytes, &Options::default()).unwrap();
    assert_eq!((restored.stored, restored.kept), (1, 1));
    assert_eq!(second.get(b"a").unwrap().unwrap(), b"newer");
    put_back(&second, &bytes, &Options { replace: true, ..Options::default() }).unwrap();
    assert_eq!(second.get(b"a").unwrap().unwrap(), b"old");
}

#[test]
fn what_expired_meanwhile_is_left_out_and_the_rest_expires_when_it_would_have() {
    let first = region(4 << 20);
    first.set_for(b"short", b"1", Duration::from_millis(300)).unwrap();
    first.set_for(b"long", b"1", Duration::from_secs(1000)).unwrap();
    let bytes = taken(&first);
    let begun = crate::clock::unix_ms();
    while crate::clock::unix_ms() <= begun + 300 {
        std::hint::spin_loop();
    }
    let second = region(4 << 20);
    let restored = put_back(&second, &bytes, &Options::default()).unwrap();
    assert_eq!((restored.stored, restored.expired), (1, 1));
    let left = second.ttl(b"long").unwrap().unwrap();
    assert!((980_000..=1_000_000).contains(&left.as_millis()), "{left:?}");
}

/// As `bytes`, but made this much later.
fn made_later(mut bytes: Vec<u8>, by_ms: u64) -> Vec<u8> {
    let created = u64::from_le_bytes(bytes[24..32].try_into().unwrap());
    bytes[24..32].copy_from_slice(&(created + by_ms).to_le_bytes());
    let crc = crc32fast::hash(&bytes[..60]);
    bytes[60..64].copy_from_slice(&crc.to_le_bytes());
    bytes
}

#[test]
fn a_clock_that_was_set_back_gives_nothing_more_time_than_it_had_left() {
    // A host that comes up before its clock is set kept everything for as long as the clock was behind.
    let first = region(4 << 20);
    first.set_for(b"k", b"1", Duration::from_secs(1000)).unwrap();
    first.set_for(b"short", b"1", Duration::from_secs(100)).unwrap();
    let bytes = made_later(taken(&first), 400_000);
    let second = region(4 << 20);
    let restored = put_back(&second, &bytes, &Options::default()).unwrap();
    assert!(restored.is_from_future());
    assert_eq!((restored.stored, restored.expired), (1, 1));
    let left = second.ttl(b"k").unwrap().unwrap();
    assert!((500_000..=600_000).contains(&left.as_millis()), "{left:?}");
    assert!(!put_back(&second, &taken(&first), &Options::default()).unwrap().is_from_future());
}

#[test]
fn values_with_tags_are_left_out_unless_they_may_lose_them() {
    let first = region(4 << 20);
    let options = WriteOptions { tags: &[b"user:7"], ..first.options() };
    first.set_with(b"page", b"Hello", &options).unwrap();
    first.set(b"plain", b"1").unwrap();
    let bytes = taken(&first);
    let second = region(4 << 20);
    let restored = put_back(&second, &bytes, &Options::default()).unwrap();
    assert_eq!((restored.stored, restored.tagged), (1, 1));
    assert_eq!(second.get(b"page").unwrap(), None);
    put_back(&second, &bytes, &Options { with_tagged: true, ..Options::default() }).unwrap();
    assert_eq!(second.get(b"page").unwrap().unwrap(), b"Hello");
}

#[test]
fn in_a_smaller_region_what_was_in_use_stays() {
    let first = region(16 << 20);
    let count = 20_000u64;
    for number in 0..count {
        first.set(&number.to_le_bytes(), &[1; 400]).unwrap();
    }
    let is_hot = |number: u64| number.is_multiple_of(20);
    for number in (0..count).filter(|number| is_hot(*number)) {
        first.get(&number.to_le_bytes()).unwrap().unwrap();
    }
    let bytes = taken(&first);
    let second = region(4 << 20);
    put_back(&second, &bytes, &Options::default()).unwrap();
    let (mut hot, mut cold) = (0, 0);
    for number in 0..count {
        if second.contains(&number.to_le_bytes()).unwrap() {
            *(if is_hot(number) { &mut hot } else { &mut cold }) += 1;
        }
    }
    assert!(second.len().unwrap() < count / 2, "the region was to be too small");
    assert!(hot >= 990, "{hot} of 1000 values in use and {cold} of 19000 others are left");
}

#[test]
fn each_value_is_one_completed_set_while_others_write() {
    let first = region(16 << 20);
    let value = |number: u64| number.to_le_bytes().repeat(1 + (number % 500) as usize);
    for key in 0..500u64 {
        first.set(&key.to_le_bytes(), &value(key)).unwrap();
    }
    let stop = std::sync::atomic::AtomicBool::new(false);
    let bytes = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut number = 0u64;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                number += 1;
                first.set(&(number * 7 % 500).to_le_bytes(), &value(number)).unwrap();
            }
            number
        });
        let bytes: Vec<Vec<u8>> = (0..20).map(|_| taken(&first)).collect();
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(writer.join().unwrap() > 0);
        bytes
    });
    for bytes in bytes {
        let second = region(16 << 20);
        assert_eq!(
            put_back(&second, &bytes, &Options::default()).unwrap().stored,
            500,
            "every key was there all the time"
        );
        for (_, (stored, ..)) in contents(&second) {
            let number = u64::from_le_bytes(stored[..8].try_into().unwrap());
            assert_eq!(stored, value(number));
        }
    }
}

#[test]
fn a_file_appears_whole_is_closed_to_others_and_no_link_is_followed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("r.dump");
    let elsewhere = directory.path().join("elsewhere");
    std::fs::write(&elsewhere, b"untouched").unwrap();
    symlink(&elsewhere, &path).unwrap();
    let cache = region(4 << 20);
    cache.set(b"k", b"v").unwrap();
    let summary = write(&cache, &path, &mut unwatched).unwrap();
    let metadata = std::fs::symlink_metadata(&path).unwrap();
    assert!(metadata.is_file());
    assert_eq!((metadata.permissions().mode() & 0o7777, metadata.len()), (0o600, summary.bytes));
    assert_eq!(std::fs::read(&elsewhere).unwrap(), b"untouched");
    assert_eq!(check(&path, &mut unwatched).unwrap().items, 1);
    let names: Vec<_> = std::fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "{names:?}");

    let failure = write(&cache, &directory.path().join("no/such"), &mut unwatched).unwrap_err();
    assert!(failure.to_string().contains("no/such"), "{failure}");
    write(&cache, directory.path(), &mut unwatched).unwrap_err();
}

#[test]
fn a_snapshot_counts_as_no_use_hit_or_miss() {
    let cache = region(4 << 20);
    cache.set(b"k", b"v").unwrap();
    let before = cache.stats().unwrap();
    taken(&cache);
    assert_eq!(cache.stats().unwrap(), before);
    let carried = cache.map().unwrap().carry(Key::new(Namespace::DEFAULT, b"k"), &mut Vec::new()).unwrap().unwrap();
    assert_eq!((carried.uses, carried.meta.kind), (0, kind::BYTES));
}

#[test]
fn what_is_too_large_for_a_region_is_counted_and_the_rest_stored() {
    let first = region(16 << 20);
    first.set(b"large", &vec![1; 2 << 20]).unwrap();
    first.set(b"small", b"1").unwrap();
    let restored = put_back(&region(2 << 20), &taken(&first), &Options::default()).unwrap();
    assert_eq!((restored.stored, restored.too_large), (1, 1));
}

#[test]
fn what_is_not_stored_makes_no_namespace_and_one_too_many_costs_its_own_values_only() {
    let first = region(16 << 20);
    for number in 0..3u64 {
        let at = first.namespace(format!("tagged {number}").as_bytes()).unwrap();
        at.set_with(b"k", b"v", &WriteOptions { tags: &[b"t"], ..at.options() }).unwrap();
    }
    let mut spaces = 0;
    while let Ok(at) = first.namespace(format!("space {spaces}").as_bytes()) {
        at.set(b"k", b"v").unwrap();
        spaces += 1;
    }
    first.set(b"plain", b"v").unwrap();
    let bytes = taken(&first);
    let second = region(16 << 20);
    let restored = put_back(&second, &bytes, &Options::default()).unwrap();
    assert_eq!((restored.stored, restored.tagged, restored.without_namespace), (spaces + 1, 3, 0));
    let names: Vec<Vec<u8>> = second.namespaces().unwrap().into_iter().map(|info| info.name).collect();
    assert!(names.iter().all(|name| !name.starts_with(b"tagged")), "{names:?}");
    let third = region(16 << 20);
    for number in 0..10u64 {
        third.namespace(format!("own {number}").as_bytes()).unwrap();
    }
    let restored = put_back(&third, &bytes, &Options::default()).unwrap();
    assert_eq!((restored.stored, restored.without_namespace), (spaces - 6, 7));
    assert!(third.contains(b"plain").unwrap());
}

/// As `bytes`, but the head of the first chunk says this length, and has a true checksum.
fn with_payload_bytes(mut bytes: Vec<u8>, payload_bytes: u64) -> Vec<u8> {
    bytes[64 + 16..64 + 24].copy_from_slice(&payload_bytes.to_le_bytes());
    let crc = crc32fast::hash(&bytes[64..64 + 36]);
    bytes[64 + 36..64 + 40].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// A stream that never ends, as a sparse file of any length almost does not.
struct Endless<'a>(&'a [u8], u64);

impl std::io::Read for Endless<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> std::io::Result<usize> {
        self.1 += bytes.len() as u64;
        assert!(self.1 < 64 << 20, "it reads on and on");
        let known = self.0.len().min(bytes.len());
        bytes[..known].copy_from_slice(&self.0[..known]);
        bytes[known..].fill(0);
        self.0 = &self.0[known..];
        Ok(bytes.len())
    }
}

#[test]
fn a_length_that_no_chunk_has_takes_no_memory() {
    let first = region(4 << 20);
    first.set(b"k", b"v").unwrap();
    for payload_bytes in [u64::MAX, 1 << 40, 5 << 20] {
        let bytes = with_payload_bytes(taken(&first), payload_bytes);
        let mut endless = Endless(&bytes, 0);
        let second = region(4 << 20);
        let failure =
            restore_from(&second, &mut endless, "d".as_ref(), &Options::default(), &mut unwatched).unwrap_err();
        assert!(matches!(strict_problem(&failure), Problem::Damaged { offset: 64, .. }), "{failure}");
    }
}

#[test]
fn what_follows_the_end_is_damage() {
    let first = region(4 << 20);
    first.set(b"k", b"v").unwrap();
    let mut bytes = taken(&first);
    let length = bytes.len() as u64;
    bytes.push(0);
    let failure = put_back(&region(4 << 20), &bytes, &Options::default()).unwrap_err();
    let Failure::Stopped { cause, stored: 1, items: 1 } = failure else { panic!("{failure}") };
    let Problem::Damaged { offset, what } = strict_problem(&cause) else { panic!("{cause}") };
    assert_eq!((offset, what), (length, "something follows the end"));
    let restored = put_back(&region(4 << 20), &bytes, &Options { skip_damaged: true, ..Options::default() }).unwrap();
    assert_eq!((restored.stored, restored.damaged), (1, 1));
}

#[test]
fn many_damaged_places_are_counted_and_a_hundred_named() {
    let first = region(64 << 20);
    for number in 0..300u64 {
        first.set(&number.to_le_bytes(), &vec![7; 300_000]).unwrap();
    }
    let mut bytes = taken(&first);
    let starts = chunk_starts(&bytes);
    assert!(starts.len() > 110, "{}", starts.len());
    for start in &starts[..starts.len() - 1] {
        bytes[start + 1000] ^= 1;
    }
    let restored = put_back(&region(4 << 20), &bytes, &Options { skip_damaged: true, ..Options::default() }).unwrap();
    assert_eq!((restored.stored, restored.damaged), (0, starts.len() as u64 - 1));
    assert_eq!(restored.problems.len(), 100);
}

#[test]
fn other_files_and_other_versions_are_told_apart() {
    let mut bytes = taken(&region(1 << 20));
    let failure = put_back(&region(1 << 20), b"{}", &Options::default()).unwrap_err();
    assert_eq!(strict_problem(&failure), Problem::NotSnapshot);
    bytes[8] = 9;
    let failure = put_back(&region(1 << 20), &bytes, &Options::default()).unwrap_err();
    assert_eq!(strict_problem(&failure), Problem::Version { found: 9 });
    assert_eq!(failure.json()["error"]["word"], "format_version");
}
