//! The rivals that live in this process: maps, caches and LMDB, each behind its feature.
//!
//! Owns: how each rival is set up, which is as its own documentation recommends, and the
//! face that lets rows treat all of them alike. Hash maps have the hash of their manuals'
//! examples, which is the default; [`REHASHED`] are maps with the hash of the cache, whose
//! rows show what is left when neither side pays more for hashing.

use std::time::Duration;

use crate::subjects::{Subject, fill, insert, read};
use crate::workload::{self, Outcome, Stream};

#[cfg(any(feature = "moka", feature = "quick_cache"))]
mod caches;
#[cfg(feature = "heed")]
mod lmdb;
#[cfg(any(feature = "dashmap", feature = "papaya", feature = "scc"))]
mod maps;

/// What a rival is made for.
#[derive(Debug, Clone, Copy)]
pub struct Room {
    /// About how many items it is to hold.
    pub items: u64,
    /// Most bytes of keys and values, for those that have a limit.
    pub bytes: u64,
    /// Each item's time to live, for those that know one.
    pub ttl: Option<Duration>,
}

impl Room {
    /// Room to spare for `keys` values of the read workloads.
    pub fn for_keys(keys: u64) -> Room {
        Room { items: keys * 2, bytes: keys * 500, ttl: None }
    }
}

/// A subject with its loops: one dynamic call for each slice, none for each operation.
pub trait Rival {
    /// As [`crate::subjects::fill`].
    fn fill(&self, keys: u64, seed: u64);
    /// As [`crate::subjects::insert`].
    fn insert(&self, first: u64, count: u64) -> Duration;
    /// As [`crate::subjects::read`].
    fn read(&self, keys: u64, operations: u64, seed: u64) -> Duration;
    /// As [`crate::workload::run`].
    fn run(&self, stream: &Stream) -> Outcome;
}

impl<S: Subject> Rival for S {
    fn fill(&self, keys: u64, seed: u64) {
        fill(self, keys, seed);
    }

    fn insert(&self, first: u64, count: u64) -> Duration {
        insert(self, first, count)
    }

    fn read(&self, keys: u64, operations: u64, seed: u64) -> Duration {
        read(self, keys, operations, seed)
    }

    fn run(&self, stream: &Stream) -> Outcome {
        workload::run(self, stream)
    }
}

/// What a rival can do besides get and set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Holds whatever it is given, for as long as the process lives.
    Map,
    /// Holds what its limit allows.
    Cache,
    /// As a cache, and items can expire.
    ExpiringCache,
    /// Holds whatever it is given, in a file that other processes can read.
    Database,
}

impl Kind {
    /// Whether it drops what does not fit.
    pub fn is_bounded(self) -> bool {
        matches!(self, Kind::Cache | Kind::ExpiringCache)
    }
}

/// How a rival is called, what it is, and how it is made.
pub struct Entry {
    /// Its name in the tables.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// Makes one.
    pub make: fn(Room) -> Box<dyn Rival>,
}

/// The rivals that this program was built with.
pub const RIVALS: &[Entry] = &[
    #[cfg(feature = "dashmap")]
    Entry { name: "DashMap", kind: Kind::Map, make: |_| Box::new(<maps::DashMap>::default()) },
    #[cfg(feature = "papaya")]
    Entry { name: "papaya", kind: Kind::Map, make: |_| Box::new(<maps::Papaya>::default()) },
    #[cfg(feature = "scc")]
    Entry { name: "scc", kind: Kind::Map, make: |_| Box::new(maps::Scc::default()) },
    #[cfg(feature = "moka")]
    Entry { name: "moka", kind: Kind::ExpiringCache, make: |room| Box::new(caches::Moka::new(room)) },
    #[cfg(feature = "quick_cache")]
    Entry { name: "quick_cache", kind: Kind::Cache, make: |room| Box::new(caches::QuickCache::new(room)) },
    #[cfg(feature = "heed")]
    Entry { name: "LMDB", kind: Kind::Database, make: |room| Box::new(lmdb::Lmdb::new(room)) },
];

/// How the names of [`REHASHED`] end.
pub const RAPIDHASH: &str = " with rapidhash";

/// Maps with the hash that the cache uses.
pub const REHASHED: &[Entry] = &[
    #[cfg(feature = "dashmap")]
    Entry {
        name: "DashMap with rapidhash",
        kind: Kind::Map,
        make: |_| Box::new(maps::DashMap::<rapidhash::fast::RandomState>::default()),
    },
    #[cfg(feature = "papaya")]
    Entry {
        name: "papaya with rapidhash",
        kind: Kind::Map,
        make: |_| Box::new(maps::Papaya::<rapidhash::fast::RandomState>::default()),
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::{Keys, Sizes, Workload};

    #[test]
    fn every_rival_finds_what_it_was_given() {
        for rival in RIVALS.iter().chain(REHASHED) {
            let subject = (rival.make)(Room::for_keys(1000));
            subject.fill(1000, 1);
            // It panics on a miss.
            subject.read(1000, 1000, 2);
        }
    }

    #[test]
    fn every_rival_runs_a_mixed_workload() {
        let workload = Workload { keys: Keys::Zipf, sizes: Sizes::Fixed(100), read_percent: 50 };
        let stream = workload.stream(1000, 4000, 3);
        for rival in RIVALS {
            let outcome = (rival.make)(Room::for_keys(1000)).run(&stream);
            assert_eq!(outcome.gets + outcome.sets - outcome.misses, 4000, "{}", rival.name);
        }
    }
}
