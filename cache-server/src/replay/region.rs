//! The region under test: a real cache that the replay asks and fills.
//!
//! Every value begins with a hash of its key and its own length, and every hit is compared
//! with it, so that a replay also shows that the cache hands out what was stored. The
//! length of a hit may differ from what this request says: objects of a trace change.

use cache_shm::{Cache, Error, Mode, WriteOptions};

use super::{Answer, Census, Subject};
use crate::failure::{Failure, Result};

/// A cache with the buffers that the replay needs.
#[derive(Debug)]
pub struct RegionSubject {
    cache: Cache,
    found: Vec<u8>,
    value: Vec<u8>,
    evicted_before: u64,
}

impl RegionSubject {
    /// A private region of `region_bytes`, shared with nobody and gone at the end.
    ///
    /// # Errors
    /// No such region can be made.
    pub fn private(region_bytes: u64) -> Result<RegionSubject> {
        let cache = Cache::builder(None).size(region_bytes).mode(Mode::Evict).create()?;
        RegionSubject::over(cache)
    }

    /// The replay of a region that exists.
    ///
    /// # Errors
    /// The cache failed.
    pub fn over(cache: Cache) -> Result<RegionSubject> {
        let evicted_before = cache.stats()?.evictions;
        Ok(RegionSubject { cache, found: Vec::new(), value: Vec::new(), evicted_before })
    }

    /// The cache under test.
    pub fn cache(&self) -> &Cache {
        &self.cache
    }
}

/// FNV-1a over the length and the key: any function does that tells values apart.
fn stamp(key: &[u8], value_bytes: usize) -> [u8; 8] {
    let length = (value_bytes as u64).to_le_bytes();
    let hash = length
        .iter()
        .chain(key)
        .fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    hash.to_le_bytes()
}

impl Subject for RegionSubject {
    fn request(&mut self, key: &[u8], value_bytes: usize) -> Result<Answer> {
        let map = self.cache.map()?;
        if map.get(key, &mut self.found)?.is_some() {
            let stored = stamp(key, self.found.len());
            if !self.found.starts_with(&stored[..self.found.len().min(8)]) {
                return Err(Failure::Measurement(format!(
                    "the cache answered {:?} with {} bytes that were not stored under it; please report it with the trace",
                    String::from_utf8_lossy(key),
                    self.found.len(),
                )));
            }
            return Ok(Answer::Hit);
        }
        if self.value.len() < value_bytes {
            self.value.resize(value_bytes, b'.');
        }
        let beginning = value_bytes.min(8);
        self.value[..beginning].copy_from_slice(&stamp(key, value_bytes)[..beginning]);
        match map.set(key, &self.value[..value_bytes], &WriteOptions::default()) {
            Ok(_) => Ok(Answer::Stored),
            Err(Error::ValueTooLarge { .. }) => Ok(Answer::Refused),
            Err(error) => Err(error.into()),
        }
    }

    fn census(&mut self) -> Result<Census> {
        let stats = self.cache.stats()?;
        Ok(Census { live: stats.items, evicted: stats.evictions - self.evicted_before })
    }
}
