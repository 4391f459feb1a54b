//! Namespaces: keys that are told apart, counted and cleared by themselves.
//!
//! Owns: the rows of the namespace table: a name, a generation, and counters. A row is given to a name once and for ever, so that its number can stand in the
//! marks of items. Row 0 is the default namespace's, which has no name and no marks.
//!
//! Rows are filled in order under one lock of the table; the length of the name, which says
//! that a row is taken, is stored last. A death before that leaves a free row.
//!
//! Reads and writes are counted in this process and added to the row some at a time: a row
//! shared by all processes would be the most contended line of the region. A process that is
//! killed takes its last few with it; nothing is ever decided by a counter.

use crate::deadline::Deadline;
use crate::error::{Error, Result};
use crate::fill;
use crate::host::Host;
use crate::layout::{Geometry, NAMESPACE_NAME_BYTES, control, namespace as at};
use crate::lock::{self, Held};
use crate::map::Map;
use crate::region;
use crate::stats::Counter;
use crate::sync::{AtomicU32, AtomicU64, Ordering, ProcessU64};
use crate::types::{Namespace, TIMEOUT_NS_DEFAULT};
use std::mem::MaybeUninit;

/// What is counted of each namespace, in the order of its row.
const COUNTED: [Counter; at::COUNTER_COUNT as usize] =
    [Counter::Hits, Counter::Misses, Counter::Sets, Counter::Deletes, Counter::Evictions, Counter::Expirations];
/// A process adds to a row when it has so many of something.
const SHARE: u64 = 64;

/// What this process counted of each namespace and has not yet added to its row.
pub(crate) struct Tallies(Box<[[ProcessU64; COUNTED.len()]]>);

impl Tallies {
    pub fn new(geometry: &Geometry) -> Tallies {
        Tallies((0..geometry.namespace_count).map(|_| Default::default()).collect())
    }
}

/// What is known of a namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NamespaceInfo {
    /// Its number.
    pub namespace: Namespace,
    /// Its name; empty for the default namespace.
    pub name: Vec<u8>,
    /// Reads that found their key.
    pub hits: u64,
    /// Reads that did not.
    pub misses: u64,
    /// Values stored.
    pub sets: u64,
    /// Keys removed on request.
    pub deletes: u64,
    /// Unexpired items dropped to make room.
    pub evictions: u64,
    /// Items dropped because they had expired, were cleared or evicted by a tag.
    pub expirations: u64,
}

impl NamespaceInfo {
    fn new(number: u32, name: Vec<u8>, counts: [u64; COUNTED.len()]) -> NamespaceInfo {
        let namespace = Namespace(number as u16);
        let [hits, misses, sets, deletes, evictions, expirations] = counts;
        NamespaceInfo { namespace, name, hits, misses, sets, deletes, evictions, expirations }
    }

    /// The counters by their names.
    pub fn counts(&self) -> [(&'static str, u64); COUNTED.len()] {
        [
            ("hits", self.hits),
            ("misses", self.misses),
            ("sets", self.sets),
            ("deletes", self.deletes),
            ("evictions", self.evictions),
            ("expirations", self.expirations),
        ]
    }
}

impl<H: Host> Map<H> {
    pub(crate) fn namespace_word(&self, number: u32, offset: u64) -> &AtomicU64 {
        debug_assert!(number < self.geometry.namespace_count);
        self.region.word(self.geometry.namespaces_offset + at::BYTES * u64::from(number) + offset)
    }

    pub(crate) fn namespaces_lock(&self) -> &AtomicU32 {
        self.region.word32(self.geometry.control_offset + control::NAMESPACES_LOCK)
    }

    /// Refuses a number that this region gave to no name.
    #[inline]
    pub(crate) fn check_namespace(&self, namespace: Namespace) -> Result<()> {
        if u32::from(namespace.number()) < self.geometry.namespace_count {
            return Ok(());
        }
        Err(Error::InvalidArgument { reason: "the namespace is not one of this region" })
    }

    /// The name in a row, if it has one.
    pub(crate) fn namespace_name(&self, number: u32) -> Option<Vec<u8>> {
        // Acquire: pairs with the Release that gave the row to its name.
        let bytes = self.namespace_word(number, at::NAME_BYTES).load(Ordering::Acquire) as usize;
        if !(1..=NAMESPACE_NAME_BYTES).contains(&bytes) {
            return None;
        }
        let words = self.region.slice(
            self.geometry.namespaces_offset + at::BYTES * u64::from(number) + at::NAME,
            NAMESPACE_NAME_BYTES / 8,
        );
        let mut name = vec![MaybeUninit::uninit(); bytes];
        region::copy_out(words, 0, &mut name);
        // SAFETY: R7. `copy_out` initialized all of `name`.
        Some(name.into_iter().map(|byte| unsafe { byte.assume_init() }).collect())
    }

    /// True if a namespace was ever made in this region.
    pub(crate) fn has_namespaces(&self) -> bool {
        self.geometry.namespace_count > 1 && self.namespace_name(1).is_some()
    }

    /// The namespace `name`, 1 to 64 bytes; it is made if it is not there yet, and stays for
    /// the life of the region.
    ///
    /// # Errors
    /// `LabelLength`; `NamespacesFull`; `Busy` while somebody else makes one; `ReadOnly` if it
    /// would have to be made.
    pub fn namespace(&self, name: &[u8]) -> Result<Namespace> {
        if let Some(namespace) = self.find_namespace(name)? {
            return Ok(namespace);
        }
        let Some(owner) = self.owner else { return Err(Error::ReadOnly) };
        let lock = self.namespaces_lock();
        lock::acquire_until(lock, owner, &self.host, &Deadline::new(TIMEOUT_NS_DEFAULT))?;
        let _held = Held::new(lock, &self.host);
        if let Some(namespace) = self.find_namespace(name)? {
            return Ok(namespace);
        }
        let Some(number) = (1..self.geometry.namespace_count).find(|number| self.namespace_name(*number).is_none())
        else {
            return Err(Error::NamespacesFull { count: self.geometry.namespace_count - 1 });
        };
        let words = self.region.slice(
            self.geometry.namespaces_offset + at::BYTES * u64::from(number) + at::NAME,
            NAMESPACE_NAME_BYTES / 8,
        );
        fill::copy_in(words, &[name]);
        // Release: the name before the length that says that it is there.
        self.namespace_word(number, at::NAME_BYTES).store(name.len() as u64, Ordering::Release);
        Ok(Namespace(number as u16))
    }

    /// The namespace `name` if it was ever made.
    ///
    /// # Errors
    /// `LabelLength`.
    pub fn find_namespace(&self, name: &[u8]) -> Result<Option<Namespace>> {
        if !(1..=NAMESPACE_NAME_BYTES).contains(&name.len()) {
            return Err(Error::LabelLength { bytes: name.len() as u64, bytes_max: NAMESPACE_NAME_BYTES as u64 });
        }
        for number in 1..self.geometry.namespace_count {
            match self.namespace_name(number) {
                Some(found) if found == name => return Ok(Some(Namespace(number as u16))),
                Some(_) => {}
                None => break,
            }
        }
        Ok(None)
    }

    /// The default namespace, and all that were ever made.
    pub fn namespaces(&self) -> Vec<NamespaceInfo> {
        let named = (1..self.geometry.namespace_count).map_while(|number| Some((number, self.namespace_name(number)?)));
        // What belongs to no other is the default namespace's.
        let totals = self.counters();
        let mut of_default = COUNTED.map(|counter| totals[counter as usize]);
        let mut infos = vec![];
        for (number, name) in named {
            let counts = self.counts(number);
            for (of_default, count) in of_default.iter_mut().zip(counts) {
                *of_default = of_default.saturating_sub(count);
            }
            let since_reset = std::array::from_fn(|index| {
                // Relaxed: statistics.
                let base = self.namespace_word(number, at::COUNTERS_BASE + 8 * index as u64).load(Ordering::Relaxed);
                counts[index].saturating_sub(base)
            });
            infos.push(NamespaceInfo::new(number, name, since_reset));
        }
        infos.insert(0, NamespaceInfo::new(0, Vec::new(), of_default));
        infos
    }

    /// The counters of a row, with what this process has not added yet.
    fn counts(&self, number: u32) -> [u64; COUNTED.len()] {
        self.settle_tallies(number);
        // Relaxed: statistics.
        std::array::from_fn(|index| {
            self.namespace_word(number, at::COUNTERS + 8 * index as u64).load(Ordering::Relaxed)
        })
    }

    /// Counts something that happened in a namespace other than the default.
    #[inline]
    pub(crate) fn tally(&self, namespace: Namespace, counter: Counter, count: u64) {
        if namespace != Namespace::DEFAULT && self.owner.is_some() {
            self.tally_named(namespace, counter, count);
        }
    }

    fn tally_named(&self, namespace: Namespace, counter: Counter, count: u64) {
        let Some(index) = COUNTED.iter().position(|counted| *counted == counter) else { return };
        let Some(tally) = self.tallies.0.get(usize::from(namespace.number())).map(|row| &row[index]) else { return };
        // Relaxed, all: statistics.
        if tally.fetch_add(count, Ordering::Relaxed) + count >= SHARE {
            let word = self.namespace_word(namespace.number().into(), at::COUNTERS + 8 * index as u64);
            word.fetch_add(tally.swap(0, Ordering::Relaxed), Ordering::Relaxed);
        }
    }

    fn settle_tallies(&self, number: u32) {
        if self.owner.is_none() {
            return;
        }
        for (index, tally) in self.tallies.0[number as usize].iter().enumerate() {
            // Relaxed, all: statistics.
            match tally.swap(0, Ordering::Relaxed) {
                0 => {}
                count => {
                    let word = self.namespace_word(number, at::COUNTERS + 8 * index as u64);
                    word.fetch_add(count, Ordering::Relaxed);
                }
            }
        }
    }

    /// Adds to the rows what this process has counted: before it detaches.
    pub fn settle_namespaces(&self) {
        for number in 1..self.geometry.namespace_count {
            self.settle_tallies(number);
        }
    }

    /// Begins to count anew, for everybody: the counters of the region and of its namespaces.
    /// What others count at the same moment may be on either side.
    ///
    /// # Errors
    /// `ReadOnly`.
    pub fn reset_stats(&self) -> Result<()> {
        self.owner.ok_or(Error::ReadOnly)?;
        let base = |index: usize| self.control_word(control::STATS_BASE + 8 * index as u64);
        for (index, sum) in crate::participant::sum_counters(&self.region, &self.geometry).into_iter().enumerate() {
            // Relaxed: statistics.
            base(index).store(sum, Ordering::Relaxed);
        }
        for number in 1..self.geometry.namespace_count {
            self.settle_tallies(number);
            for index in 0..at::COUNTER_COUNT {
                let [word, base] =
                    [at::COUNTERS, at::COUNTERS_BASE].map(|offset| self.namespace_word(number, offset + 8 * index));
                // Relaxed, all: statistics; what others add meanwhile stays.
                base.store(0, Ordering::Relaxed);
                word.fetch_sub(word.load(Ordering::Relaxed), Ordering::Relaxed);
            }
        }
        Ok(())
    }

    /// As [`Map::reset_stats`] for one namespace other than the default, which has no counters
    /// of its own.
    ///
    /// # Errors
    /// `ReadOnly`; `InvalidArgument` for the default namespace.
    pub fn reset_stats_of(&self, namespace: Namespace) -> Result<()> {
        self.owner.ok_or(Error::ReadOnly)?;
        self.check_namespace(namespace)?;
        if namespace == Namespace::DEFAULT {
            return Err(Error::InvalidArgument { reason: "the default namespace has no counters of its own" });
        }
        let number = namespace.number().into();
        for (index, count) in self.counts(number).into_iter().enumerate() {
            // Relaxed: statistics.
            self.namespace_word(number, at::COUNTERS_BASE + 8 * index as u64).store(count, Ordering::Relaxed);
        }
        Ok(())
    }

    /// The counters of the region since they were last reset.
    pub(crate) fn counters(&self) -> [u64; crate::layout::participant::COUNTER_COUNT as usize] {
        let sums = crate::participant::sum_counters(&self.region, &self.geometry);
        std::array::from_fn(|index| {
            // Relaxed: statistics.
            let base = self.control_word(control::STATS_BASE + 8 * index as u64).load(Ordering::Relaxed);
            // Counters that repair recounted may be below the base.
            sums[index].checked_sub(base).unwrap_or(sums[index])
        })
    }
}
