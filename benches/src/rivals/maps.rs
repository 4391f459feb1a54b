//! Concurrent maps: DashMap with its default shards, papaya through reused guards, scc;
//! each with the standard library's hash, as in their manuals, or with another.

use std::hash::{BuildHasher, RandomState};

use crate::subjects::{Session, Subject};

fn copy(value: &[u8], out: &mut [u8]) -> usize {
    out[..value.len()].copy_from_slice(value);
    value.len()
}

/// DashMap.
#[cfg(feature = "dashmap")]
#[derive(Default)]
pub struct DashMap<S: BuildHasher + Clone = RandomState>(dashmap::DashMap<Box<[u8]>, Box<[u8]>, S>);

#[cfg(feature = "dashmap")]
impl<S: BuildHasher + Clone + Sync> Subject for DashMap<S> {
    type Session<'a>
        = &'a DashMap<S>
    where
        S: 'a;

    fn session(&self) -> &DashMap<S> {
        self
    }
}

#[cfg(feature = "dashmap")]
impl<S: BuildHasher + Clone + Sync> Session for &DashMap<S> {
    #[inline]
    fn get(&mut self, key: &[u8], out: &mut [u8]) -> Option<usize> {
        self.0.get(key).map(|value| copy(&value, out))
    }

    #[inline]
    fn set(&mut self, key: &[u8], value: &[u8]) {
        self.0.insert(key.into(), value.into());
    }
}

/// papaya.
#[cfg(feature = "papaya")]
#[derive(Default)]
pub struct Papaya<S = RandomState>(papaya::HashMap<Box<[u8]>, Box<[u8]>, S>);

/// A pin on a papaya map, used for some operations and then taken anew: its manual wants
/// guards to be reused, but garbage can only be collected between them.
#[cfg(feature = "papaya")]
pub struct PapayaSession<'a, S> {
    map: &'a Papaya<S>,
    pin: papaya::HashMapRef<'a, Box<[u8]>, Box<[u8]>, S, papaya::LocalGuard<'a>>,
    operations_left: u32,
}

#[cfg(feature = "papaya")]
const OPERATIONS_OF_A_PIN: u32 = 256;

#[cfg(feature = "papaya")]
impl<S: BuildHasher + Sync> PapayaSession<'_, S> {
    #[inline]
    fn count(&mut self) {
        self.operations_left -= 1;
        if self.operations_left == 0 {
            *self = self.map.session();
        }
    }
}

#[cfg(feature = "papaya")]
impl<S: BuildHasher + Sync> Subject for Papaya<S> {
    type Session<'a>
        = PapayaSession<'a, S>
    where
        S: 'a;

    fn session(&self) -> PapayaSession<'_, S> {
        PapayaSession { map: self, pin: self.0.pin(), operations_left: OPERATIONS_OF_A_PIN }
    }
}

#[cfg(feature = "papaya")]
impl<S: BuildHasher + Sync> Session for PapayaSession<'_, S> {
    #[inline]
    fn get(&mut self, key: &[u8], out: &mut [u8]) -> Option<usize> {
        self.count();
        self.pin.get(key).map(|value| copy(value, out))
    }

    #[inline]
    fn set(&mut self, key: &[u8], value: &[u8]) {
        self.count();
        self.pin.insert(key.into(), value.into());
    }
}

/// scc's hash map.
#[cfg(feature = "scc")]
#[derive(Default)]
pub struct Scc(scc::HashMap<Box<[u8]>, Box<[u8]>, RandomState>);

#[cfg(feature = "scc")]
impl Subject for Scc {
    type Session<'a> = &'a Scc;

    fn session(&self) -> &Scc {
        self
    }
}

#[cfg(feature = "scc")]
impl Session for &Scc {
    #[inline]
    fn get(&mut self, key: &[u8], out: &mut [u8]) -> Option<usize> {
        self.0.read_sync(key, |_, value| copy(value, out))
    }

    #[inline]
    fn set(&mut self, key: &[u8], value: &[u8]) {
        self.0.upsert_sync(key.into(), value.into());
    }
}
