//! No torn value at any size, and no lost update, across processes.

use std::time::{Duration, Instant};

use cache_shm::{Builder, Cas};

use crate::support::{Dir, Peer, listen, say};

/// Sizes around every border in the engine: nothing, header words, lines, the limit of
/// racy copies, a segment, runs, 4 MiB.
const SIZES: [usize; 14] = [0, 1, 7, 8, 100, 4000, 16_000, 16_383, 16_384, 65_536, 262_143, 262_145, 1 << 20, 4 << 20];
const KEYS: u64 = 24;

/// A value that tells by itself whether it is whole: every 8 bytes follow from the
/// first 8, and the length from them too.
fn value(seed: u64) -> Vec<u8> {
    let bytes = SIZES[seed as usize % SIZES.len()];
    let mut word = seed;
    let mut value = Vec::with_capacity(bytes + 8);
    while value.len() < bytes {
        value.extend_from_slice(&word.to_le_bytes());
        word = next(word);
    }
    value.truncate(bytes);
    value
}

fn next(word: u64) -> u64 {
    word.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(23) ^ 0x5851_F42D_4C95_7F2D
}

/// Panics if the value is not one of `value`'s.
fn check(found: &[u8]) {
    if found.len() < 8 {
        return assert!(SIZES.contains(&found.len()), "{} bytes", found.len());
    }
    let seed = u64::from_le_bytes(found[..8].try_into().unwrap());
    let expected = SIZES[seed as usize % SIZES.len()];
    assert_eq!(found.len(), expected, "seed {seed}: the length is another value's");
    let mut word = seed;
    for (at, chunk) in found.chunks(8).enumerate() {
        assert!(chunk == &word.to_le_bytes()[..chunk.len()], "seed {seed}: torn at byte {}", 8 * at);
        word = next(word);
    }
}

fn key(number: u64) -> [u8; 8] {
    (number % KEYS).to_le_bytes()
}

/// Role: overwrites a few keys with values of all sizes until told to stop.
pub fn write_values(region: Builder, argument: &str) {
    let cache = region.open().unwrap();
    let mut random: u64 = argument.parse().unwrap();
    let mut writes = 0u64;
    say("ready");
    listen();
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(4) {
        random = next(random);
        match random >> 60 {
            0 => drop(cache.delete(&key(random >> 8)).unwrap()),
            _ => drop(cache.set(&key(random >> 8), &value(random)).unwrap()),
        }
        writes += 1;
    }
    say(&writes.to_string());
    listen();
}

/// Role: reads in every way there is, and checks each value.
pub fn read_values(region: Builder) {
    let cache = region.open().unwrap();
    let (mut hits, mut number) = (0u64, 0u64);
    say("ready");
    listen();
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(4) {
        number += 1;
        match number % 4 {
            0 => {
                if let Some(view) = cache.view(&key(number / 4)).unwrap() {
                    check(&view);
                    // Twice: it must not change while it is held.
                    check(&view);
                    hits += 1;
                }
            }
            1 => {
                let keys: Vec<[u8; 8]> = (0..8).map(|more| key(number + more)).collect();
                let keys: Vec<&[u8]> = keys.iter().map(|key| &key[..]).collect();
                hits += cache.get_many(&keys, &mut |_, _, found| check(found)).unwrap() as u64;
            }
            _ => {
                if let Some(found) = cache.get(&key(number / 4)).unwrap() {
                    check(&found);
                    hits += 1;
                }
            }
        }
    }
    say(&hits.to_string());
    listen();
}

#[test]
fn no_value_is_torn_at_any_size_under_overwrite_from_many_processes() {
    let dir = Dir::new();
    let cache = dir.region("torn").size(64 << 20).create().unwrap();
    // Seeds are fixed: a failure names the value's own.
    let mut peers: Vec<Peer> = ["11", "22"].map(|seed| Peer::start("write_values", &dir, seed)).into();
    peers.extend((0..2).map(|_| Peer::start("read_values", &dir, "")));
    peers.iter_mut().for_each(|peer| assert_eq!(peer.hear(), "ready"));
    peers.iter_mut().for_each(|peer| peer.tell("go"));
    let counts: Vec<u64> = peers.iter_mut().map(|peer| peer.hear().parse().unwrap()).collect();
    assert!(counts.iter().all(|count| *count > 100), "everybody did something: {counts:?}");
    peers.into_iter().for_each(Peer::finish);
    let report = cache.validate().unwrap();
    assert!(report.is_clean(), "{report:?}");
    for number in 0..KEYS {
        cache.get(&key(number)).unwrap().iter().for_each(|found| check(found));
    }
}

const UPDATES: i64 = 20_000;

/// Role: adds 1 again and again, and appends to a list now and then.
pub fn increment(region: Builder) {
    let cache = region.open().unwrap();
    say("ready");
    listen();
    for number in 0..UPDATES {
        cache.incr(b"count", 1, Some(0)).unwrap();
        if number % 100 == 0 {
            while cache.append(b"list", b"x").unwrap().is_none() {
                cache.add(b"list", b"", &cache.options()).unwrap();
            }
        }
    }
    say("done");
    listen();
}

/// Role: adds 1 by compare-and-swap.
pub fn exchange(region: Builder) {
    let cache = region.open().unwrap();
    say("ready");
    listen();
    let mut bytes = Vec::new();
    for _ in 0..UPDATES / 4 {
        loop {
            let Some(meta) = cache.get_into(b"number", &mut bytes).unwrap() else {
                cache.add(b"number", &0u64.to_le_bytes(), &cache.options()).unwrap();
                continue;
            };
            let sum = u64::from_le_bytes(bytes[..].try_into().unwrap()) + 1;
            match cache.cas(b"number", meta.version, &sum.to_le_bytes(), &cache.options()).unwrap() {
                Cas::Stored(_) => break,
                Cas::Changed(_) => {}
                Cas::Missing => panic!("nobody removes it"),
            }
        }
    }
    say("done");
    listen();
}

fn run(dir: &Dir, role: &str, count: usize) {
    let mut peers: Vec<Peer> = (0..count).map(|_| Peer::start(role, dir, "")).collect();
    peers.iter_mut().for_each(|peer| assert_eq!(peer.hear(), "ready"));
    peers.iter_mut().for_each(|peer| peer.tell("go"));
    peers.iter_mut().for_each(|peer| assert_eq!(peer.hear(), "done"));
    peers.into_iter().for_each(Peer::finish);
}

#[test]
fn no_increment_and_no_append_is_lost_between_processes() {
    let dir = Dir::new();
    let cache = dir.region("sum").size(4 << 20).create().unwrap();
    run(&dir, "increment", 4);
    assert_eq!(cache.incr(b"count", 0, None).unwrap(), Some(4 * UPDATES));
    assert_eq!(cache.get(b"list").unwrap().unwrap().len() as i64, 4 * UPDATES / 100);
    assert!(cache.validate().unwrap().is_clean());
}

#[test]
fn no_compare_and_swap_is_lost_between_processes() {
    let dir = Dir::new();
    let cache = dir.region("sum").size(4 << 20).create().unwrap();
    run(&dir, "exchange", 3);
    let sum = cache.get(b"number").unwrap().unwrap();
    assert_eq!(u64::from_le_bytes(sum[..].try_into().unwrap()), 3 * (UPDATES / 4) as u64);
    assert!(cache.validate().unwrap().is_clean());
}
