//! Concurrent maps: DashMap with its default shards, papaya through reused guards, scc.

use rapidhash::fast::RandomState;

use crate::subjects::{Session, Subject};

fn copy(value: &[u8], out: &mut [u8]) -> usize {
    out[..value.len()].copy_from_slice(value);
    value.len()
}

/// DashMap.
#[cfg(feature = "dashmap")]
#[derive(Default)]
pub struct DashMap(dashmap::DashMap<Box<[u8]>, Box<[u8]>, RandomState>);

#[cfg(feature = "dashmap")]
impl Subject for DashMap {
    type Session<'a> = &'a DashMap;

    fn session(&self) -> &DashMap {
        self
    }
}

#[cfg(feature = "dashmap")]
impl Session for &DashMap {
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
pub struct Papaya(papaya::HashMap<Box<[u8]>, Box<[u8]>, RandomState>);

/// A pin on a papaya map, used for some operations and then taken anew: its manual wants
/// guards to be reused, but garbage can only be collected between them.
#[cfg(feature = "papaya")]
pub struct PapayaSession<'a> {
    map: &'a Papaya,
    pin: papaya::HashMapRef<'a, Box<[u8]>, Box<[u8]>, RandomState, papaya::LocalGuard<'a>>,
    operations_left: u32,
}

#[cfg(feature = "papaya")]
const OPERATIONS_OF_A_PIN: u32 = 256;

#[cfg(feature = "papaya")]
impl PapayaSession<'_> {
    #[inline]
    fn count(&mut self) {
        self.operations_left -= 1;
        if self.operations_left == 0 {
            *self = self.map.session();
        }
    }
}

#[cfg(feature = "papaya")]
impl Subject for Papaya {
    type Session<'a> = PapayaSession<'a>;

    fn session(&self) -> PapayaSession<'_> {
        PapayaSession { map: self, pin: self.0.pin(), operations_left: OPERATIONS_OF_A_PIN }
    }
}

#[cfg(feature = "papaya")]
impl Session for PapayaSession<'_> {
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
