//! Least recently used.

use std::collections::VecDeque;

use super::{Simulator, slot};

#[derive(Debug, Clone, Copy, Default)]
struct Entry {
    /// When it was last used; 0 = not cached.
    stamp: u64,
    weight: u64,
}

/// Least recently used, by a queue of stamped objects of which only the newest counts.
#[derive(Debug)]
pub struct Lru {
    capacity: u64,
    pub(super) live: u64,
    clock: u64,
    entries: Vec<Entry>,
    queue: VecDeque<(u32, u64)>,
}

impl Lru {
    /// An empty cache of that capacity.
    pub fn new(capacity: u64) -> Lru {
        Lru { capacity, live: 0, clock: 0, entries: Vec::new(), queue: VecDeque::new() }
    }
}

impl Simulator for Lru {
    fn request(&mut self, object: u32, weight: u64) -> bool {
        self.clock += 1;
        let clock = self.clock;
        let entry = slot(&mut self.entries, object);
        let hit = entry.stamp != 0;
        if !hit && weight > self.capacity {
            return false;
        }
        entry.stamp = clock;
        self.queue.push_back((object, clock));
        if !hit {
            entry.weight = weight;
            self.live += weight;
        }
        while self.live > self.capacity {
            let Some((oldest, stamp)) = self.queue.pop_front() else { break };
            let entry = &mut self.entries[oldest as usize];
            if entry.stamp == stamp {
                entry.stamp = 0;
                self.live -= entry.weight;
            }
        }
        hit
    }
}
