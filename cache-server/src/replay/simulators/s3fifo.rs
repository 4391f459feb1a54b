//! S3-FIFO, as in its paper.
//!
//! J. Yang et al., "FIFO queues are all you need for cache eviction", SOSP 2023.
//! *Threshold 1*: one use while in the small queue is enough to enter main.

use std::collections::VecDeque;

use super::{Simulator, slot};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Place {
    #[default]
    Out,
    Small,
    Main,
}

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Entry {
    pub(super) place: Place,
    pub(super) uses: u8,
    /// Small dropped the object not long ago.
    pub(super) ghost: bool,
    weight: u64,
}

pub(super) const USES_MAX: u8 = 3;

/// Ghosts: the objects that small dropped last, of together as much weight as the cache
/// holds. One that is asked for again stays remembered until its turn to be forgotten.
#[derive(Debug)]
pub(super) struct Ghosts {
    capacity: u64,
    weight: u64,
    queue: VecDeque<(u32, u64)>,
}

impl Ghosts {
    pub(super) fn new(capacity: u64) -> Ghosts {
        Ghosts { capacity, weight: 0, queue: VecDeque::new() }
    }

    pub(super) fn remember(&mut self, entries: &mut [Entry], object: u32, weight: u64) {
        entries[object as usize].ghost = true;
        self.queue.push_back((object, weight));
        self.weight += weight;
        while self.weight > self.capacity
            && let Some((oldest, weight)) = self.queue.pop_front()
        {
            entries[oldest as usize].ghost = false;
            self.weight -= weight;
        }
    }
}

/// Textbook S3-FIFO: small takes a tenth of the cache, main the rest, and ghosts of as much
/// weight are kept as the cache holds.
#[derive(Debug)]
pub struct S3Fifo {
    capacity: u64,
    small_max: u64,
    threshold: u8,
    entries: Vec<Entry>,
    small: VecDeque<u32>,
    main: VecDeque<u32>,
    /// Weight of what is in small and in main.
    pub(super) small_weight: u64,
    pub(super) main_weight: u64,
    ghosts: Ghosts,
}

impl S3Fifo {
    /// An empty cache of that capacity that moves an object from small to main when it was
    /// used `threshold` times.
    pub fn new(capacity: u64, threshold: u8) -> S3Fifo {
        S3Fifo {
            capacity: capacity.max(1),
            small_max: (capacity / 10).max(1),
            threshold,
            entries: Vec::new(),
            small: VecDeque::new(),
            main: VecDeque::new(),
            small_weight: 0,
            main_weight: 0,
            ghosts: Ghosts::new(capacity),
        }
    }

    fn evict(&mut self) {
        if self.small_weight > self.small_max || self.main.is_empty() {
            self.evict_small();
        } else {
            self.evict_main();
        }
    }

    fn evict_small(&mut self) {
        let Some(object) = self.small.pop_front() else { return };
        let entry = &mut self.entries[object as usize];
        let weight = entry.weight;
        self.small_weight -= weight;
        if entry.uses >= self.threshold {
            entry.uses = 0;
            entry.place = Place::Main;
            self.main.push_back(object);
            self.main_weight += weight;
        } else {
            entry.place = Place::Out;
            self.ghosts.remember(&mut self.entries, object, weight);
        }
    }

    fn evict_main(&mut self) {
        while let Some(object) = self.main.pop_front() {
            let entry = &mut self.entries[object as usize];
            if entry.uses == 0 {
                entry.place = Place::Out;
                self.main_weight -= entry.weight;
                return;
            }
            entry.uses -= 1;
            self.main.push_back(object);
        }
    }
}

impl S3Fifo {
    /// True if `object` is there, which counts as a use.
    pub fn find(&mut self, object: u32) -> bool {
        let entry = slot(&mut self.entries, object);
        if entry.place != Place::Out {
            entry.uses = (entry.uses + 1).min(USES_MAX);
        }
        entry.place != Place::Out
    }

    /// Stores `object` with this weight, unless it is heavier than the whole cache; one that is
    /// there stays where it is.
    pub fn store(&mut self, object: u32, weight: u64) {
        let entry = slot(&mut self.entries, object);
        match entry.place {
            Place::Out => {}
            Place::Small => self.small_weight = self.small_weight - entry.weight + weight,
            Place::Main => self.main_weight = self.main_weight - entry.weight + weight,
        }
        if entry.place != Place::Out {
            entry.weight = weight;
            return;
        }
        if weight > self.capacity {
            return;
        }
        let to_main = entry.ghost;
        while self.small_weight + self.main_weight + weight > self.capacity {
            self.evict();
        }
        let entry = &mut self.entries[object as usize];
        entry.uses = 0;
        entry.weight = weight;
        entry.place = if to_main { Place::Main } else { Place::Small };
        if to_main {
            self.main.push_back(object);
            self.main_weight += weight;
        } else {
            self.small.push_back(object);
            self.small_weight += weight;
        }
    }

    /// Weight of all that is there.
    pub fn weight(&self) -> u64 {
        self.small_weight + self.main_weight
    }
}

impl Simulator for S3Fifo {
    fn request(&mut self, object: u32, weight: u64) -> bool {
        let is_there = self.find(object);
        if !is_there {
            self.store(object, weight);
        }
        is_there
    }
}
