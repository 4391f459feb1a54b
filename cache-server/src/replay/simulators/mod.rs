//! Reference policies on object numbers: what a plain cache of the same capacity gets.
//!
//! Owns: LRU, textbook S3-FIFO, and S3-FIFO on a log of segments. They hold no values
//! and share no code with the engine, so that a policy gone wrong in either shows as a
//! difference. They serve the comparison of `replay` and the table of hit ratios.
//!
//! S3-FIFO: J. Yang et al., "FIFO queues are all you need for cache eviction", SOSP
//! 2023. *Threshold 1*: one use while in the small queue is enough to enter main.

use std::collections::VecDeque;

/// A cache that is asked for one object after the other and stores what it missed.
pub trait Simulator {
    /// Asks for `object`; true is a hit.
    fn request(&mut self, object: u32) -> bool;
}

/// Hits of `simulator` over a stream.
pub fn hits(simulator: &mut dyn Simulator, stream: &[u32]) -> u64 {
    stream.iter().map(|&object| u64::from(simulator.request(object))).sum()
}

fn slot<T: Clone + Default>(table: &mut Vec<T>, object: u32) -> &mut T {
    let index = object as usize;
    if index >= table.len() {
        table.resize(index + 1, T::default());
    }
    &mut table[index]
}

/// Least recently used, by a queue of stamped objects of which only the newest counts.
#[derive(Debug)]
pub struct Lru {
    capacity: usize,
    live: usize,
    clock: u64,
    /// Stamp of each object's last use; 0 = not cached.
    stamps: Vec<u64>,
    queue: VecDeque<(u32, u64)>,
}

impl Lru {
    /// An empty cache for `capacity` objects.
    pub fn new(capacity: u64) -> Lru {
        Lru { capacity: capacity as usize, live: 0, clock: 0, stamps: Vec::new(), queue: VecDeque::new() }
    }
}

impl Simulator for Lru {
    fn request(&mut self, object: u32) -> bool {
        self.clock += 1;
        let clock = self.clock;
        let stamp = slot(&mut self.stamps, object);
        let hit = *stamp != 0;
        *stamp = clock;
        self.queue.push_back((object, clock));
        if !hit {
            self.live += 1;
        }
        while self.live > self.capacity {
            let Some((oldest, stamp)) = self.queue.pop_front() else { break };
            if self.stamps[oldest as usize] == stamp {
                self.stamps[oldest as usize] = 0;
                self.live -= 1;
            }
        }
        hit
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Place {
    #[default]
    Out,
    Small,
    Main,
}

#[derive(Debug, Clone, Copy, Default)]
struct Entry {
    place: Place,
    uses: u8,
    /// Small dropped the object not long ago.
    ghost: bool,
}

const USES_MAX: u8 = 3;

/// Ghosts: the last `capacity` objects that small dropped. One that is asked for again
/// stays remembered until its turn to be forgotten.
#[derive(Debug)]
struct Ghosts {
    capacity: usize,
    queue: VecDeque<u32>,
}

impl Ghosts {
    fn new(capacity: usize) -> Ghosts {
        Ghosts { capacity, queue: VecDeque::new() }
    }

    fn remember(&mut self, entries: &mut [Entry], object: u32) {
        entries[object as usize].ghost = true;
        self.queue.push_back(object);
        if self.queue.len() > self.capacity
            && let Some(oldest) = self.queue.pop_front()
        {
            entries[oldest as usize].ghost = false;
        }
    }
}

/// Textbook S3-FIFO: small takes a tenth of the objects, main the rest, and as many
/// ghosts are kept as the cache has objects.
#[derive(Debug)]
pub struct S3Fifo {
    capacity: usize,
    small_max: usize,
    threshold: u8,
    entries: Vec<Entry>,
    small: VecDeque<u32>,
    main: VecDeque<u32>,
    ghosts: Ghosts,
}

impl S3Fifo {
    /// An empty cache for `capacity` objects that moves an object from small to main
    /// when it was used `threshold` times.
    pub fn new(capacity: u64, threshold: u8) -> S3Fifo {
        let capacity = capacity as usize;
        let small_max = (capacity / 10).max(1);
        S3Fifo {
            capacity,
            small_max,
            threshold,
            entries: Vec::new(),
            small: VecDeque::new(),
            main: VecDeque::new(),
            ghosts: Ghosts::new(capacity),
        }
    }

    fn evict(&mut self) {
        if self.small.len() > self.small_max || self.main.is_empty() {
            self.evict_small();
        } else {
            self.evict_main();
        }
    }

    fn evict_small(&mut self) {
        let Some(object) = self.small.pop_front() else { return };
        let entry = &mut self.entries[object as usize];
        if entry.uses >= self.threshold {
            entry.uses = 0;
            entry.place = Place::Main;
            self.main.push_back(object);
        } else {
            entry.place = Place::Out;
            self.ghosts.remember(&mut self.entries, object);
        }
    }

    fn evict_main(&mut self) {
        while let Some(object) = self.main.pop_front() {
            let entry = &mut self.entries[object as usize];
            if entry.uses == 0 {
                entry.place = Place::Out;
                return;
            }
            entry.uses -= 1;
            self.main.push_back(object);
        }
    }
}

impl Simulator for S3Fifo {
    fn request(&mut self, object: u32) -> bool {
        let entry = slot(&mut self.entries, object);
        if entry.place != Place::Out {
            entry.uses = (entry.uses + 1).min(USES_MAX);
            return true;
        }
        let to_main = entry.ghost;
        while self.small.len() + self.main.len() >= self.capacity.max(1) {
            self.evict();
        }
        let entry = &mut self.entries[object as usize];
        entry.uses = 0;
        entry.place = if to_main { Place::Main } else { Place::Small };
        if to_main {
            self.main.push_back(object)
        } else {
            self.small.push_back(object)
        }
        false
    }
}

/// S3-FIFO (threshold 1) on a log: space is made a whole segment at a time, and what is
/// kept of a victim is copied to the open segment of main.
#[derive(Debug)]
pub struct SegmentLog {
    capacity: usize,
    segment_objects: usize,
    small_max: usize,
    live: usize,
    entries: Vec<Entry>,
    /// Segments of small and of main, oldest first; the last one is open.
    queues: [VecDeque<Vec<u32>>; 2],
    ghosts: Ghosts,
}

const SMALL: usize = 0;
const MAIN: usize = 1;

impl SegmentLog {
    /// An empty log for `capacity` objects in `segments` segments.
    pub fn new(capacity: u64, segments: u64) -> SegmentLog {
        let capacity = capacity as usize;
        let segment_objects = capacity.div_ceil(segments.max(1) as usize).max(1);
        SegmentLog {
            capacity,
            segment_objects,
            small_max: (capacity / 10).max(1),
            live: 0,
            entries: Vec::new(),
            queues: [VecDeque::new(), VecDeque::new()],
            ghosts: Ghosts::new(capacity),
        }
    }

    fn append(&mut self, queue: usize, object: u32) {
        self.entries[object as usize].place = if queue == SMALL { Place::Small } else { Place::Main };
        self.live += 1;
        match self.queues[queue].back_mut() {
            Some(open) if open.len() < self.segment_objects => open.push(object),
            _ => {
                let mut open = Vec::with_capacity(self.segment_objects);
                open.push(object);
                self.queues[queue].push_back(open);
            }
        }
    }

    fn objects(&self, queue: usize) -> usize {
        self.queues[queue].iter().map(Vec::len).sum()
    }

    fn reclaim(&mut self) {
        let small = self.objects(SMALL) >= self.small_max || self.queues[MAIN].is_empty();
        let queue = if small { SMALL } else { MAIN };
        let Some(victim) = self.queues[queue].pop_front() else { return };
        self.live -= victim.len();
        for object in victim {
            let entry = &mut self.entries[object as usize];
            if entry.uses == 0 {
                entry.place = Place::Out;
                if queue == SMALL {
                    self.ghosts.remember(&mut self.entries, object);
                }
                continue;
            }
            entry.uses = if queue == SMALL { 0 } else { entry.uses - 1 };
            self.append(MAIN, object);
        }
    }
}

impl Simulator for SegmentLog {
    fn request(&mut self, object: u32) -> bool {
        let entry = slot(&mut self.entries, object);
        if entry.place != Place::Out {
            entry.uses = (entry.uses + 1).min(USES_MAX);
            return true;
        }
        let to_main = entry.ghost;
        while self.live >= self.capacity.max(1) {
            self.reclaim();
        }
        self.entries[object as usize].uses = 0;
        self.append(if to_main { MAIN } else { SMALL }, object);
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replay::belady;

    fn stream(length: usize, objects: u64) -> Vec<u32> {
        let mut state = 0x2545_f491_4f6c_dd1du64;
        (0..length)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                // The smaller of two draws: some objects are asked for more than others.
                (state % objects).min((state >> 32) % objects) as u32
            })
            .collect()
    }

    #[test]
    fn lru_is_what_moving_to_the_front_of_a_list_gives() {
        let stream = stream(5_000, 100);
        let mut list: Vec<u32> = Vec::new();
        let mut expected = 0;
        for &object in &stream {
            if let Some(at) = list.iter().position(|&other| other == object) {
                list.remove(at);
                expected += 1;
            }
            list.insert(0, object);
            list.truncate(20);
        }
        assert_eq!(hits(&mut Lru::new(20), &stream), expected);
    }

    #[test]
    fn no_policy_holds_more_than_its_capacity_or_beats_the_bound() {
        let stream = stream(20_000, 400);
        for capacity in [1, 2, 9, 40, 200, 399] {
            let bound = belady::hits(&stream, capacity);
            let mut textbook = S3Fifo::new(capacity, 1);
            assert!(hits(&mut textbook, &stream) <= bound);
            assert!(textbook.small.len() + textbook.main.len() <= capacity as usize);
            let mut log = SegmentLog::new(capacity, 8);
            assert!(hits(&mut log, &stream) <= bound);
            assert!(log.live <= capacity as usize);
            assert_eq!(log.live, log.objects(SMALL) + log.objects(MAIN));
            assert!(hits(&mut Lru::new(capacity), &stream) <= bound);
        }
    }

    #[test]
    fn a_log_of_one_object_a_segment_is_textbook_s3_fifo_but_for_ghost_order() {
        let stream = stream(50_000, 3_000);
        let textbook = hits(&mut S3Fifo::new(300, 1), &stream) as f64;
        let log = hits(&mut SegmentLog::new(300, 300), &stream) as f64;
        assert!((textbook - log).abs() / stream.len() as f64 <= 0.003, "{textbook} {log}");
    }

    #[test]
    fn an_object_used_in_small_survives_a_scan_and_an_unused_one_does_not() {
        let mut cache = S3Fifo::new(10, 1);
        assert!(!cache.request(0));
        assert!(cache.request(0));
        assert!(!cache.request(1));
        for object in 100..130 {
            assert!(!cache.request(object));
        }
        assert!(cache.request(0));
        assert!(!cache.request(1));
    }
}
