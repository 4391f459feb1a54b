//! Objects that a handle keeps beside the region, to give the very object again.
//!
//! Owns: the table of a handle made with `local=`. An entry is what a read has made of a key's
//! value, with the witness of that read; it is given out only as long as the engine says that
//! the witness still holds, so what the table says is never older than the region. Entries
//! are few at most, and the clock algorithm (Corbató 1968) chooses which one goes.
//!
//! Must never: run code of objects (finalizers, or the collector of garbage) while the table is
//! borrowed. So nothing is allocated by the interpreter meanwhile, and what leaves the table is
//! dropped afterwards.

use std::cell::RefCell;
use std::collections::HashMap;
use std::collections::hash_map::Entry as Place;
use std::hash::{BuildHasherDefault, Hasher};

use cache_shm::{Scope, Witness};
use pyo3::prelude::*;
use pyo3::types::{
    PyBool, PyBytes, PyComplex, PyDate, PyDateTime, PyDelta, PyFloat, PyFrozenSet, PyInt, PyNone, PyString, PyTime,
    PyTuple,
};
use pyo3::{PyTraverseError, PyVisit};

use crate::cache::Cache;
use crate::kept::{Kept, load};

/// Containers in containers of a value that is known not to change, at most.
const DEPTH_MAX: u32 = 8;

/// A hash is one already.
#[derive(Default)]
struct Same(u64);

impl Hasher for Same {
    fn write(&mut self, _bytes: &[u8]) {}

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Bytes of a key that stand in its slot.
const SHORT_BYTES: usize = 30;

/// A key, where its slot is if it is short: one line of memory less to wait for.
enum Name {
    Short(u8, [u8; SHORT_BYTES]),
    Long(Box<[u8]>),
}

impl Name {
    fn new(key: &[u8]) -> Name {
        let mut bytes = [0; SHORT_BYTES];
        match bytes.get_mut(..key.len()) {
            Some(place) => {
                place.copy_from_slice(key);
                Name::Short(key.len() as u8, bytes)
            }
            None => Name::Long(key.into()),
        }
    }

    #[inline(always)]
    fn is(&self, key: &[u8]) -> bool {
        match self {
            Name::Short(count, bytes) => bytes[..usize::from(*count)] == *key,
            Name::Long(bytes) => **bytes == *key,
        }
    }
}

/// Two lines of memory.
#[repr(align(64))]
struct Slot {
    hash: u64,
    /// None once the value was seen to be another.
    object: Option<Py<PyAny>>,
    witness: Witness,
    key: Name,
    /// Given out since the clock's hand was here.
    is_used: bool,
}

const _: () = assert!(size_of::<Slot>() == 128);

#[derive(Default)]
struct Table {
    /// Address of the engine that the witnesses are of. A handle keeps those that it had.
    engine: usize,
    /// Where a key's slot is, by its hash. Of two keys with one hash the later has it.
    places: HashMap<u64, u32, BuildHasherDefault<Same>>,
    slots: Vec<Slot>,
    /// The clock's hand.
    hand: usize,
    hits: u64,
    misses: u64,
}

impl Table {
    #[inline(always)]
    fn find(&mut self, hash: u64, key: &[u8]) -> Option<&mut Slot> {
        let slot = &mut self.slots[*self.places.get(&hash)? as usize];
        slot.key.is(key).then_some(slot)
    }

    /// Where the next entry goes, whose `hash` leads to it from now on.
    fn place(&mut self, hash: u64, count_max: usize) -> usize {
        if self.slots.len() < count_max {
            return self.slots.len();
        }
        // Ends after one turn at the latest: it clears what it passes.
        loop {
            let at = self.hand;
            self.hand = (self.hand + 1) % self.slots.len();
            let slot = &mut self.slots[at];
            if slot.object.is_some() && std::mem::take(&mut slot.is_used) {
                continue;
            }
            let old = slot.hash;
            if old != hash
                && let Place::Occupied(place) = self.places.entry(old)
                && *place.get() as usize == at
            {
                place.remove();
            }
            return at;
        }
    }
}

/// See the module.
pub(crate) struct Local {
    count_max: usize,
    share_mutable: bool,
    table: RefCell<Table>,
}

// SAFETY: Y1. The table is only borrowed by methods that are given a `Python` token, and the
// module declares that it needs the interpreter's lock: one thread at a time has a token.
// The objects and keys in it belong to no thread.
unsafe impl Sync for Local {}
// SAFETY: Y1, as above.
unsafe impl Send for Local {}

/// What a table did, and how full it is.
pub(crate) struct LocalCounts {
    pub hits: u64,
    pub misses: u64,
    pub count: usize,
    pub count_max: usize,
}

impl Local {
    pub fn new(count_max: usize, share_mutable: bool) -> Local {
        Local { count_max, share_mutable, table: RefCell::default() }
    }

    pub fn count_max(&self) -> usize {
        self.count_max
    }

    pub fn share_mutable(&self) -> bool {
        self.share_mutable
    }

    /// The object of `key`, if the region still has the value that it was made of.
    #[inline(always)]
    pub fn get<'py>(&self, py: Python<'py>, at: Scope<'_>, key: &[u8]) -> Option<Bound<'py, PyAny>> {
        let hash = at.map.hash(at.key(key));
        // The region's lines are on their way while the table is searched.
        at.map.prefetch(hash);
        let mut table = self.table.borrow_mut();
        if table.engine == std::ptr::from_ref(at.map).addr()
            && let Some(slot) = table.find(hash, key)
            && let Some(object) = &slot.object
            && at.map.still_holds(&slot.witness)
        {
            let object = object.bind(py).clone();
            slot.is_used = true;
            table.hits += 1;
            return Some(object);
        }
        drop(table);
        self.get_again(py, at, key, hash)
    }

    /// The same after a look at the region: another key in its bucket was written, say.
    #[cold]
    fn get_again<'py>(&self, py: Python<'py>, at: Scope<'_>, key: &[u8], hash: u64) -> Option<Bound<'py, PyAny>> {
        let mut table = self.table.borrow_mut();
        let engine = std::ptr::from_ref(at.map).addr();
        let mut gone = Vec::new();
        if table.engine != engine {
            gone = std::mem::take(&mut table.slots);
            table.places.clear();
            (table.engine, table.hand) = (engine, 0);
        }
        let mut found = None;
        let mut ended = None;
        if let Some(slot) = table.find(hash, key)
            && let Some(object) = &slot.object
        {
            if at.map.renew(at.key(key), &mut slot.witness) == Ok(true) {
                found = Some(object.bind(py).clone());
                slot.is_used = true;
            } else {
                ended = slot.object.take();
            }
        }
        if found.is_some() {
            table.hits += 1;
        } else {
            table.misses += 1;
        }
        drop(table);
        drop((gone, ended));
        found
    }

    /// Keeps `object`, which was made of the value that `witness` saw, if it may be shared.
    pub fn keep(&self, at: Scope<'_>, key: &[u8], object: &Bound<'_, PyAny>, witness: Witness) -> PyResult<()> {
        let py = object.py();
        if !self.share_mutable && !is_immutable(object, 0)? {
            return Ok(());
        }
        let hash = at.map.hash(at.key(key));
        let slot = Slot { hash, key: Name::new(key), object: Some(object.clone().unbind()), witness, is_used: false };
        let mut table = self.table.borrow_mut();
        // Another engine meanwhile: its handle will look again.
        let gone = if table.engine == std::ptr::from_ref(at.map).addr() {
            let place = match table.find(hash, key) {
                Some(_) => table.places[&hash] as usize,
                None => table.place(hash, self.count_max),
            };
            table.places.insert(hash, place as u32);
            if place == table.slots.len() {
                table.slots.push(slot);
                None
            } else {
                Some(std::mem::replace(&mut table.slots[place], slot))
            }
        } else {
            Some(slot)
        };
        drop(table);
        drop(gone);
        let _attached = py;
        Ok(())
    }

    pub fn counts(&self, _py: Python<'_>) -> LocalCounts {
        let table = self.table.borrow();
        let count = table.slots.iter().filter(|slot| slot.object.is_some()).count();
        LocalCounts { hits: table.hits, misses: table.misses, count, count_max: self.count_max }
    }

    /// Lets all objects go.
    pub fn clear(&self, _py: Python<'_>) {
        let gone = std::mem::take(&mut *self.table.borrow_mut());
        let (hits, misses) = (gone.hits, gone.misses);
        {
            let mut table = self.table.borrow_mut();
            (table.hits, table.misses) = (hits, misses);
        }
        drop(gone);
    }

    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        // Borrowed by nobody: the collector runs where something is allocated.
        let Ok(table) = self.table.try_borrow() else { return Ok(()) };
        table.slots.iter().try_for_each(|slot| visit.call(&slot.object))
    }
}

/// Whether an object can never change: of the exact types of which that is known.
fn is_immutable(object: &Bound<'_, PyAny>, depth: u32) -> PyResult<bool> {
    static OTHERS: Kept<Vec<Py<PyAny>>> = Kept::new();
    if object.is_exact_instance_of::<PyString>()
        || object.is_exact_instance_of::<PyBytes>()
        || object.is_exact_instance_of::<PyInt>()
        || object.is_exact_instance_of::<PyFloat>()
        || object.is_exact_instance_of::<PyBool>()
        || object.is_exact_instance_of::<PyNone>()
        || object.is_exact_instance_of::<PyComplex>()
        || object.is_exact_instance_of::<PyDateTime>()
        || object.is_exact_instance_of::<PyDate>()
        || object.is_exact_instance_of::<PyTime>()
        || object.is_exact_instance_of::<PyDelta>()
    {
        return Ok(true);
    }
    if depth < DEPTH_MAX {
        if let Ok(tuple) = object.cast_exact::<PyTuple>() {
            return tuple.iter().try_fold(true, |all, item| Ok(all && is_immutable(&item, depth + 1)?));
        }
        if let Ok(set) = object.cast_exact::<PyFrozenSet>() {
            return set.iter().try_fold(true, |all, item| Ok(all && is_immutable(&item, depth + 1)?));
        }
    }
    let py = object.py();
    let others = OTHERS.get(py, || {
        [("decimal", "Decimal"), ("uuid", "UUID"), ("datetime", "timezone")]
            .into_iter()
            .map(|(module, name)| Ok(py.import(module)?.getattr(name)?.unbind()))
            .collect()
    })?;
    let class = object.get_type();
    Ok(others.iter().any(|other| class.is(other)))
}

#[pymethods]
impl Cache {
    /// What the objects did that this handle keeps, as ``LocalInfo(hits, misses, currsize,
    /// maxsize)``; None without ``local=``. A hit gave an object again; with a miss a value was
    /// read, or there was none.
    ///
    /// >>> with Cache(None, size="2MB", local=1000) as local:
    /// ...     local["a"] = "text"
    /// ...     local["a"] is local["a"], local.local_info()
    /// (True, LocalInfo(hits=1, misses=1, currsize=1, maxsize=1000))
    fn local_info<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let Some(local) = &self.local else { return Ok(None) };
        let LocalCounts { hits, misses, count, count_max } = local.counts(py);
        load(py, "pycache._views")?.getattr("LocalInfo")?.call1((hits, misses, count, count_max)).map(Some)
    }
}
