//! What the region stands beside: simulated policies and real caches, each asked for one
//! object after the other.

use cache_server::replay::simulators::{Arc, Lru, S3Fifo, Sieve, Simulator};

/// How many of the objects, or bytes, a cache holds.
#[derive(Debug, Clone, Copy)]
pub struct Capacity {
    pub weight: u64,
    /// About how many objects that is.
    #[cfg_attr(not(feature = "rivals"), expect(dead_code, reason = "only real caches want to know"))]
    pub objects: u64,
}

/// Names of the policies and how to make an empty cache of each.
pub type Policy = (&'static str, fn(Capacity) -> Box<dyn Simulator>);

/// All policies of this build, in the order of the table.
pub const POLICIES: &[Policy] = &[
    ("LRU", |capacity| Box::new(Lru::new(capacity.weight))),
    ("S3-FIFO", |capacity| Box::new(S3Fifo::new(capacity.weight, 1))),
    ("SIEVE", |capacity| Box::new(Sieve::new(capacity.weight))),
    ("ARC", |capacity| Box::new(Arc::new(capacity.weight))),
    #[cfg(feature = "rivals")]
    ("moka", |capacity| Box::new(rivals::Moka::new(capacity))),
    #[cfg(feature = "rivals")]
    ("quick_cache", |capacity| Box::new(rivals::QuickCache::new(capacity))),
];

#[cfg(feature = "rivals")]
mod rivals {
    //! Real caches. Their values are the weights of the objects.

    use super::{Capacity, Simulator};

    /// moka does what is pending after so many reads or writes, or 0.3 s. Here it is the number
    /// alone that says when, so that the speed of the machine does not. After each request would
    /// be worse for it (orm-busy at 763 objects: 52 % instead of 64 %): what waits in between is
    /// in the cache beyond its capacity.
    const PENDING_MAX: u32 = 64;

    /// moka (W-TinyLFU), and its requests since it last did what was pending.
    pub struct Moka {
        cache: moka::sync::Cache<u32, u32>,
        pending: u32,
    }

    impl Moka {
        pub fn new(capacity: Capacity) -> Moka {
            let builder = moka::sync::Cache::builder().max_capacity(capacity.weight);
            // Without a weigher, it counts objects.
            let by_objects = capacity.weight == capacity.objects;
            let cache = if by_objects { builder.build() } else { builder.weigher(|_, weight| *weight).build() };
            Moka { cache, pending: 0 }
        }
    }

    impl Simulator for Moka {
        fn request(&mut self, object: u32, weight: u64) -> bool {
            let hit = self.cache.get(&object).is_some();
            if !hit {
                self.cache.insert(object, weight as u32);
            }
            self.pending += 1;
            if self.pending == PENDING_MAX {
                self.cache.run_pending_tasks();
                self.pending = 0;
            }
            hit
        }
    }

    #[derive(Clone)]
    struct Weight;

    impl quick_cache::Weighter<u32, u32> for Weight {
        fn weight(&self, _: &u32, weight: &u32) -> u64 {
            u64::from(*weight)
        }
    }

    /// quick_cache (a variant of CLOCK-Pro).
    pub struct QuickCache(quick_cache::sync::Cache<u32, u32, Weight>);

    impl QuickCache {
        pub fn new(capacity: Capacity) -> QuickCache {
            QuickCache(quick_cache::sync::Cache::with_weighter(capacity.objects as usize, capacity.weight, Weight))
        }
    }

    impl Simulator for QuickCache {
        fn request(&mut self, object: u32, weight: u64) -> bool {
            let hit = self.0.get(&object).is_some();
            if !hit {
                self.0.insert(object, weight as u32);
            }
            hit
        }
    }
}
