//! What the regions of the sweep hold: keys, values, and the ways to fill a region with them.

use std::time::Duration;

use cache_shm::{Cache, WriteOptions};

/// How long keys live that are to expire.
pub const TTL: Duration = Duration::from_millis(20);

pub fn key(number: u64) -> Vec<u8> {
    format!("key {number}").into_bytes()
}

pub fn value(number: u64, bytes: usize) -> Vec<u8> {
    let mut word = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut out = Vec::with_capacity(bytes + 8);
    while out.len() < bytes {
        word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        out.extend_from_slice(&word.to_le_bytes());
    }
    out.truncate(bytes);
    out
}

pub fn set(cache: &Cache, number: u64, bytes: usize) {
    put(cache, &key(number), &value(number, bytes));
}

pub fn put(cache: &Cache, key: &[u8], value: &[u8]) {
    cache.set(key, value).expect("room");
}

pub fn fill_some(cache: &Cache) {
    (0..150).for_each(|number| set(cache, number, (number as usize * 37) % 600));
    cache.set_with(b"integer", &41i64.to_le_bytes(), &kind(cache, cache_shm::kind::INT)).expect("room");
    cache.set(b"large", &value(5, 20_000)).expect("room");
}

pub fn fill_alike(cache: &Cache) {
    (0..150).for_each(|number| set(cache, number, 200));
}

pub fn fill_full(cache: &Cache) {
    (0..6_000).for_each(|number| set(cache, number % 5_000, 200));
}

pub fn fill_most(cache: &Cache) {
    (0..2_800).for_each(|number| set(cache, number, 200));
}

/// Nearly full, then two thirds dead, thinly spread.
pub fn fill_thinly(cache: &Cache) {
    let is_roomy = || {
        let stats = cache.stats().expect("an open region");
        stats.free_bytes > 3 * stats.segment_bytes
    };
    let mut count = 0;
    while is_roomy() {
        set(cache, count, 200);
        count += 1;
    }
    for number in (0..count).filter(|number| number % 3 != 0) {
        assert!(cache.delete(&key(number)).expect("a writable region"));
    }
}

/// Two of three keys expired, wherever one looks.
pub fn fill_expired(cache: &Cache) {
    expire(cache, 1_500, |number| number % 3 != 0);
}

/// Full of keys that expired.
pub fn fill_full_expired(cache: &Cache) {
    expire(cache, 2_800, |_| true);
}

/// Full, with some keys that expired in every segment.
pub fn fill_full_some_expired(cache: &Cache) {
    expire(cache, 5_000, |number| number % 8 == 0);
}

/// Sets keys, and returns when those that `expires` chooses have expired.
pub fn expire(cache: &Cache, count: u64, expires: fn(u64) -> bool) {
    for number in 0..count {
        let (key, value) = (key(number), value(number, 200));
        let done = if expires(number) { cache.set_for(&key, &value, TTL) } else { cache.set(&key, &value) };
        done.expect("room");
    }
    let of_expiring = |number: &u64| expires(*number);
    while (0..count).filter(of_expiring).any(|number| cache.contains(&key(number)).expect("an open region")) {
        std::thread::yield_now();
    }
}

/// A large value, and no more free segments than call for reclaim.
pub fn fill_around_large(cache: &Cache) {
    cache.set(b"large", &value(5, 20_000)).expect("room");
    for number in 0.. {
        let stats = cache.stats().expect("an open region");
        if stats.free_bytes <= 3 * stats.segment_bytes {
            break;
        }
        set(cache, number, 200);
    }
}

/// Full of values that are larger than a segment.
pub fn fill_with_runs(cache: &Cache) {
    (0..150).for_each(|number| set(cache, number, 9_000));
}

pub fn fill_full_viewed(cache: &Cache) {
    fill_full(cache);
    cache.set(b"viewed", &value(6, 100)).expect("room");
}

/// Thinly filled, and thinnest where the small value is.
pub fn fill_thinly_viewed(cache: &Cache) {
    cache.set(b"viewed", &value(6, 100)).expect("room");
    fill_thinly(cache);
    (0..12).step_by(3).for_each(|number| assert!(cache.delete(&key(number)).expect("a writable region")));
}

pub fn kind(cache: &Cache, kind: u8) -> WriteOptions<'static> {
    WriteOptions { kind, ..cache.options() }
}
