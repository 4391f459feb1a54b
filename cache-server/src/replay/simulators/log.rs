//! S3-FIFO on a log of segments: what the engine's way to write costs in hits.

use std::collections::VecDeque;

use super::s3fifo::{Entry, Ghosts, Place, USES_MAX};
use super::{Simulator, slot};

/// S3-FIFO (threshold 1) on a log: space is made a whole segment at a time, and what is
/// kept of a victim is copied to the open segment of main.
#[derive(Debug)]
pub struct SegmentLog {
    capacity: usize,
    segment_objects: usize,
    small_max: usize,
    pub(super) live: usize,
    entries: Vec<Entry>,
    /// Segments of small and of main, oldest first; the last one is open.
    queues: [VecDeque<Vec<u32>>; 2],
    ghosts: Ghosts,
}

pub(super) const SMALL: usize = 0;
pub(super) const MAIN: usize = 1;

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
            ghosts: Ghosts::new(capacity as u64),
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

    pub(super) fn objects(&self, queue: usize) -> usize {
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
                    self.ghosts.remember(&mut self.entries, object, 1);
                }
                continue;
            }
            entry.uses = if queue == SMALL { 0 } else { entry.uses - 1 };
            self.append(MAIN, object);
        }
    }
}

impl Simulator for SegmentLog {
    /// # Panics
    /// If an object does not weigh 1: this log counts objects.
    fn request(&mut self, object: u32, weight: u64) -> bool {
        assert_eq!(weight, 1, "a segment is a number of objects");
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
