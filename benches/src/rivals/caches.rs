//! Bounded caches of one process: moka and quick_cache, limited by the bytes of keys and
//! values. Both hand out clones of values, so values are counted references, as both
//! manuals say.

use std::sync::Arc;

use super::Room;
use crate::subjects::{Session, Subject};

type Key = Box<[u8]>;
type Value = Arc<[u8]>;

fn copy(value: &Value, out: &mut [u8]) -> usize {
    out[..value.len()].copy_from_slice(value);
    value.len()
}

/// moka's synchronous cache.
#[cfg(feature = "moka")]
pub struct Moka(moka::sync::Cache<Key, Value>);

#[cfg(feature = "moka")]
impl Moka {
    /// A cache with that much room.
    pub fn new(room: Room) -> Moka {
        let builder = moka::sync::Cache::builder()
            .max_capacity(room.bytes)
            .weigher(|key: &Key, value: &Value| (key.len() + value.len()) as u32);
        let builder = match room.ttl {
            Some(ttl) => builder.time_to_live(ttl),
            None => builder,
        };
        Moka(builder.build())
    }
}

#[cfg(feature = "moka")]
impl Subject for Moka {
    type Session<'a> = &'a Moka;

    fn session(&self) -> &Moka {
        self
    }
}

#[cfg(feature = "moka")]
impl Session for &Moka {
    #[inline]
    fn get(&mut self, key: &[u8], out: &mut [u8]) -> Option<usize> {
        self.0.get(key).map(|value| copy(&value, out))
    }

    #[inline]
    fn set(&mut self, key: &[u8], value: &[u8]) {
        self.0.insert(key.into(), value.into());
    }
}

/// Weighs keys and values in bytes.
#[cfg(feature = "quick_cache")]
#[derive(Clone)]
struct Bytes;

#[cfg(feature = "quick_cache")]
impl quick_cache::Weighter<Key, Value> for Bytes {
    fn weight(&self, key: &Key, value: &Value) -> u64 {
        (key.len() + value.len()) as u64
    }
}

/// quick_cache's synchronous cache.
#[cfg(feature = "quick_cache")]
pub struct QuickCache(quick_cache::sync::Cache<Key, Value, Bytes>);

#[cfg(feature = "quick_cache")]
impl QuickCache {
    /// A cache with that much room.
    pub fn new(room: Room) -> QuickCache {
        QuickCache(quick_cache::sync::Cache::with_weighter(room.items as usize, room.bytes, Bytes))
    }
}

#[cfg(feature = "quick_cache")]
impl Subject for QuickCache {
    type Session<'a> = &'a QuickCache;

    fn session(&self) -> &QuickCache {
        self
    }
}

#[cfg(feature = "quick_cache")]
impl Session for &QuickCache {
    #[inline]
    fn get(&mut self, key: &[u8], out: &mut [u8]) -> Option<usize> {
        self.0.get(key).map(|value| copy(&value, out))
    }

    #[inline]
    fn set(&mut self, key: &[u8], value: &[u8]) {
        self.0.insert(key.into(), value.into());
    }
}
