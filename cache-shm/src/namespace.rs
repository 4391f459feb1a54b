//! The namespace that a handle is in.
//!
//! Owns: its name, and the number that the region looked at last has for it. Another region
//! under the same name, made after the first was destroyed, may have another number.

use std::sync::atomic::{AtomicU64, Ordering};

use cache_core::{Key, Map, Namespace, Result};

use crate::os::Os;

/// Bits of a number beside an address, which leaves those of user space.
const NUMBER_BITS: u32 = 16;

/// A namespace by its name; empty is the default one.
#[derive(Debug, Default)]
pub(crate) struct Named {
    name: Box<[u8]>,
    /// Address of a map, and the number of the namespace there. The maps that a handle was
    /// ever bound to stay where they are until it is dropped, so an address names one.
    known: AtomicU64,
}

impl Named {
    pub fn new(name: &[u8]) -> Named {
        Named { name: name.into(), known: AtomicU64::new(0) }
    }

    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// Its number in `map`, to which the handle is or was bound; `writes` makes it there.
    ///
    /// # Errors
    /// `NamespacesFull`, `Busy`, `ReadOnly` if it would have to be made.
    #[inline]
    pub fn in_map(&self, map: &Map<Os>, writes: bool) -> Result<Namespace> {
        if self.name.is_empty() {
            return Ok(Namespace::DEFAULT);
        }
        // Relaxed: address and number in one word, and nothing is read by way of it.
        let known = self.known.load(Ordering::Relaxed);
        if known >> NUMBER_BITS == address(map) {
            return Ok(Namespace::from_number(known as u16));
        }
        self.look_up(map, writes)
    }

    #[cold]
    fn look_up(&self, map: &Map<Os>, writes: bool) -> Result<Namespace> {
        let namespace = match map.find_namespace(&self.name)? {
            Some(namespace) => namespace,
            None if writes => map.namespace(&self.name)?,
            // Nobody has stored anything in it.
            None => return Ok(Namespace::NOWHERE),
        };
        let address = address(map);
        if address >> (u64::BITS - NUMBER_BITS) == 0 {
            self.known.store(address << NUMBER_BITS | u64::from(namespace.number()), Ordering::Relaxed);
        }
        Ok(namespace)
    }
}

fn address(map: &Map<Os>) -> u64 {
    std::ptr::from_ref(map).addr() as u64
}

/// Where the keys of a handle are: the engine behind it, and the namespace there. For one
/// operation; see [`crate::Cache::scope`].
#[derive(Clone, Copy)]
pub struct Scope<'a> {
    /// The engine.
    pub map: &'a Map<Os>,
    /// The handle's namespace, as this engine numbers it.
    pub namespace: Namespace,
}

impl Scope<'_> {
    /// The key that `bytes` are there.
    #[inline(always)]
    pub fn key<'k>(&self, bytes: &'k [u8]) -> Key<'k> {
        Key::new(self.namespace, bytes)
    }
}
