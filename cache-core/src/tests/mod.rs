//! Tests of the engine, named for the promises that they keep.

mod ahead;
mod damage;
mod leases;
mod model;
mod namespaces;
mod no_evict;
mod observe;
mod others;
mod promises;
mod reads;
mod repair;
mod updates;
mod witnesses;

/// A small generator: tests print nothing random that a seed does not replay.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}
