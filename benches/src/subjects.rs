//! Who is measured: the trait of all subjects, and the cache behind it.
//!
//! Owns: keys and values of the read workloads, and the regions of benchmarks. Every
//! subject copies the value into the caller's buffer, because that is what a cache
//! shared between processes has to do.

use std::time::Duration;

use cache_shm::{Buffer, Builder, Cache, Mode};

use crate::measure::Stopwatch;

/// Bytes of a key of the workloads.
pub const KEY_BYTES: usize = 16;
/// Bytes of a value of the read workloads.
pub const VALUE_BYTES: usize = 100;
/// Keys of a batch.
pub const BATCH: usize = 32;

fn mix(mut word: u64) -> u64 {
    // The finalizer of SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators).
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// The key with this number: computed, so that drawing a key reads no memory.
#[inline]
pub fn key(index: u64) -> [u8; KEY_BYTES] {
    let mut bytes = [0; KEY_BYTES];
    bytes[..8].copy_from_slice(&mix(index ^ 0x9e37_79b9_7f4a_7c15).to_le_bytes());
    bytes[8..].copy_from_slice(&index.to_le_bytes());
    bytes
}

/// Something that maps keys to values, used by any number of threads.
pub trait Subject: Sync {
    /// What one thread uses it through for a while.
    type Session<'a>: Session
    where
        Self: 'a;

    /// Begins to use it.
    fn session(&self) -> Self::Session<'_>;
}

/// One thread's use of a subject.
pub trait Session {
    /// Copies the value into `out` and says how long it is, if it was there.
    fn get(&mut self, key: &[u8], out: &mut [u8]) -> Option<usize>;
    /// Stores a value.
    fn set(&mut self, key: &[u8], value: &[u8]);
}

/// A region of a benchmark's own, destroyed when it goes out of scope.
pub struct Region {
    /// The handle.
    pub cache: Cache,
    /// The region's name, for worker processes.
    pub name: String,
}

impl Region {
    /// A new region of `bytes` in the default directory.
    pub fn create(label: &str, bytes: u64, mode: Mode) -> Region {
        Region::built(label, |builder| builder.size(bytes).mode(mode))
    }

    /// A new region with these options, in the default directory.
    fn built(label: &str, options: impl FnOnce(Builder) -> Builder) -> Region {
        let name = format!("bench-{}-{label}", std::process::id());
        let cache = options(Cache::builder(Some(&name))).create();
        Region { cache: cache.unwrap_or_else(|error| panic!("no region for the benchmark: {error}")), name }
    }

    /// A new region with room to spare for `keys` values of the read workloads.
    pub fn for_keys(label: &str, keys: u64) -> Region {
        Region::create(label, bytes_for(keys), Mode::Evict)
    }

    /// The same, preallocated: in huge pages where the kernel has them.
    pub fn preallocated_for_keys(label: &str, keys: u64) -> Region {
        Region::preallocated(label, bytes_for(keys))
    }

    /// A new region that has all its memory from the start.
    pub fn preallocated(label: &str, bytes: u64) -> Region {
        Region::built(label, |builder| builder.size(bytes).prealloc(true))
    }
}

fn bytes_for(keys: u64) -> u64 {
    (keys * 230).max(8 << 20)
}

impl Drop for Region {
    fn drop(&mut self) {
        // Nothing depends on it: a region that is left over only takes space.
        let _ = self.cache.destroy();
    }
}

/// The cache, as a user calls it.
pub struct Shared(pub Cache);

impl Subject for Shared {
    type Session<'a> = &'a Shared;

    fn session(&self) -> &Shared {
        self
    }
}

impl Session for &Shared {
    #[inline]
    fn get(&mut self, key: &[u8], out: &mut [u8]) -> Option<usize> {
        let map = self.0.map().expect("the region of a benchmark is open");
        let found = map.get(key, &mut Buffer(out)).expect("keys and buffer of a benchmark fit");
        found.map(|meta| meta.value_bytes)
    }

    #[inline]
    fn set(&mut self, key: &[u8], value: &[u8]) {
        self.0.set(key, value).expect("the region of a benchmark has room");
    }
}

/// Gives a subject the keys `0..keys`, in random order as a cache would get them.
pub fn fill(subject: &impl Subject, keys: u64, seed: u64) {
    let mut order: Vec<u32> = (0..u32::try_from(keys).expect("fewer than 2^32 keys")).collect();
    fastrand::Rng::with_seed(seed).shuffle(&mut order);
    let mut session = subject.session();
    for index in order {
        session.set(&key(u64::from(index)), &[index as u8; VALUE_BYTES]);
    }
}

/// Reads `operations` random keys of `0..keys`, every one of which must be there; says
/// how much processor time that took.
pub fn read(subject: &impl Subject, keys: u64, operations: u64, seed: u64) -> Duration {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut out = [0; VALUE_BYTES];
    let mut found = 0;
    let mut session = subject.session();
    let started = Stopwatch::start();
    for _ in 0..operations {
        found += u64::from(session.get(&key(random.u64(..keys)), &mut out).is_some());
        std::hint::black_box(&out);
    }
    let time = started.elapsed();
    assert_eq!(found, operations, "a benchmark of hits must not miss");
    time
}

/// Stores the keys `first..first + count`; says how much processor time that took.
pub fn insert(subject: &impl Subject, first: u64, count: u64) -> Duration {
    let mut session = subject.session();
    let started = Stopwatch::start();
    for index in first..first + count {
        session.set(&key(index), &[index as u8; VALUE_BYTES]);
    }
    started.elapsed()
}

/// As [`read`], [`BATCH`] keys at a time.
pub fn read_batches(cache: &Cache, keys: u64, operations: u64, seed: u64) -> Duration {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut out = [0; VALUE_BYTES];
    let mut found = 0;
    let started = Stopwatch::start();
    for _ in 0..operations / BATCH as u64 {
        let batch: [[u8; KEY_BYTES]; BATCH] = std::array::from_fn(|_| key(random.u64(..keys)));
        let keys: [&[u8]; BATCH] = std::array::from_fn(|index| &batch[index][..]);
        let map = cache.map().expect("the region of a benchmark is open");
        found += map
            .get_many(&keys, &mut |_, _, value| {
                out.copy_from_slice(value);
                std::hint::black_box(&out);
            })
            .expect("keys of a benchmark fit");
    }
    let time = started.elapsed();
    assert_eq!(found as u64, operations / BATCH as u64 * BATCH as u64, "a benchmark of hits must not miss");
    time
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_differ_and_come_back() {
        let keys: std::collections::HashSet<_> = (0..10_000).map(key).collect();
        assert_eq!(keys.len(), 10_000);
    }

    #[test]
    fn the_cache_copies_what_was_stored() {
        let region = Region::create("copies", 4 << 20, Mode::Evict);
        let shared = Shared(region.cache.clone());
        fill(&shared, 100, 1);
        let mut out = [0; VALUE_BYTES];
        assert_eq!(shared.session().get(&key(7), &mut out), Some(VALUE_BYTES));
        assert_eq!(out, [7; VALUE_BYTES]);
        assert_eq!(shared.session().get(&key(100), &mut out), None);
    }

    #[test]
    #[should_panic(expected = "must not miss")]
    fn reading_keys_that_are_not_there_is_no_result() {
        let region = Region::create("misses", 4 << 20, Mode::Evict);
        read(&Shared(region.cache.clone()), 10, 10, 1);
    }
}
