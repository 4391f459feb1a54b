//! ARC: two lists of what was used once and more than once, and ghosts of both.
//!
//! N. Megiddo, D. Modha, "ARC: a self-tuning, low overhead replacement cache", FAST 2003,
//! figure 4. Names are those of the figure.

use super::links::{Links, Queue};
use super::{Simulator, slot};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Place {
    #[default]
    Out,
    T1,
    T2,
    B1,
    B2,
}

/// ARC, as in its paper.
#[derive(Debug)]
pub struct Arc {
    capacity: u64,
    /// Target for the weight of `t1`.
    p: f64,
    places: Vec<Place>,
    links: Links,
    /// Cached: used once; used more than once.
    t1: Queue,
    t2: Queue,
    /// Dropped from `t1`; dropped from `t2`.
    b1: Queue,
    b2: Queue,
}

impl Arc {
    /// An empty cache of that capacity.
    pub fn new(capacity: u64) -> Arc {
        Arc {
            capacity,
            p: 0.0,
            places: Vec::new(),
            links: Links::default(),
            t1: Queue::default(),
            t2: Queue::default(),
            b1: Queue::default(),
            b2: Queue::default(),
        }
    }

    fn is_full_for(&self, weight: u64) -> bool {
        self.live() + weight > self.capacity
    }

    /// Weight of what is cached.
    pub(super) fn live(&self) -> u64 {
        self.t1.weight + self.t2.weight
    }

    /// Weight of the ghosts.
    fn ghosts(&self) -> u64 {
        self.b1.weight + self.b2.weight
    }

    /// REPLACE of the figure: the oldest of `t1` or `t2` becomes a ghost.
    fn replace(&mut self, from_b2: bool) {
        let t1 = self.t1.weight as f64;
        let of_t1 = t1 > self.p || (from_b2 && t1 == self.p);
        let (from, to, ghost) = if (of_t1 || self.t2.is_empty()) && !self.t1.is_empty() {
            (&mut self.t1, &mut self.b1, Place::B1)
        } else {
            (&mut self.t2, &mut self.b2, Place::B2)
        };
        let Some(object) = from.oldest() else { return };
        let weight = from.remove(&mut self.links, object);
        to.push(&mut self.links, object, weight);
        self.places[object as usize] = ghost;
    }

    /// Forgets the oldest ghost of `b1` or `b2`, or drops the oldest of `t1` without one.
    fn forget(&mut self, place: Place) {
        let queue = match place {
            Place::B1 => &mut self.b1,
            Place::B2 => &mut self.b2,
            _ => &mut self.t1,
        };
        let Some(object) = queue.oldest() else { return };
        queue.remove(&mut self.links, object);
        self.places[object as usize] = Place::Out;
    }

    /// Cases II and III: a ghost is asked for again, and says which list was too short.
    fn revive(&mut self, object: u32, from_b2: bool) {
        let (b1, b2) = (self.b1.weight as f64, self.b2.weight as f64);
        let weight = self.links.weight(object);
        self.p = if from_b2 {
            (self.p - weight as f64 * (b1 / b2).max(1.0)).max(0.0)
        } else {
            (self.p + weight as f64 * (b2 / b1).max(1.0)).min(self.capacity as f64)
        };
        let ghosts = if from_b2 { &mut self.b2 } else { &mut self.b1 };
        ghosts.remove(&mut self.links, object);
        while self.is_full_for(weight) {
            self.replace(from_b2);
        }
        self.t2.push(&mut self.links, object, weight);
        self.places[object as usize] = Place::T2;
    }

    /// Case IV: an object of which nothing is known.
    fn admit(&mut self, object: u32, weight: u64) {
        while self.t1.weight + self.b1.weight + weight > self.capacity && !self.b1.is_empty() {
            self.forget(Place::B1);
        }
        // The first list alone fills the cache: what it drops leaves no ghost.
        while self.t1.weight + weight > self.capacity {
            self.forget(Place::T1);
        }
        while self.live() + self.ghosts() + weight > 2 * self.capacity && !self.b2.is_empty() {
            self.forget(Place::B2);
        }
        while self.is_full_for(weight) {
            self.replace(false);
        }
        self.t1.push(&mut self.links, object, weight);
        self.places[object as usize] = Place::T1;
    }
}

impl Simulator for Arc {
    fn request(&mut self, object: u32, weight: u64) -> bool {
        let place = *slot(&mut self.places, object);
        match place {
            Place::T1 | Place::T2 => {
                let queue = if place == Place::T1 { &mut self.t1 } else { &mut self.t2 };
                let weight = queue.remove(&mut self.links, object);
                self.t2.push(&mut self.links, object, weight);
                self.places[object as usize] = Place::T2;
            }
            Place::B1 | Place::B2 => self.revive(object, place == Place::B2),
            Place::Out if weight <= self.capacity => self.admit(object, weight),
            Place::Out => {}
        }
        matches!(place, Place::T1 | Place::T2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lists, each newest first, and the target.
    fn lists(cache: &Arc) -> ([String; 4], f64) {
        let text = |queue: &Queue| queue.objects(&cache.links).into_iter().map(|object| object as u8 as char).collect();
        ([text(&cache.t1), text(&cache.t2), text(&cache.b1), text(&cache.b2)], cache.p)
    }

    fn ask(cache: &mut Arc, letter: char) -> bool {
        cache.request(letter as u32, 1)
    }

    #[test]
    fn a_sequence_through_every_case_goes_as_the_figure_says() {
        let mut cache = Arc::new(3);
        for (letter, hit, [t1, t2, b1, b2], p) in [
            ('A', false, ["A", "", "", ""], 0.0),
            ('B', false, ["BA", "", "", ""], 0.0),
            ('C', false, ["CBA", "", "", ""], 0.0),
            ('A', true, ["CB", "A", "", ""], 0.0),
            // Case IV B: full, and t1 is longer than its target.
            ('D', false, ["DC", "A", "B", ""], 0.0),
            // Case II: b1 wants a longer t1.
            ('B', false, ["D", "BA", "C", ""], 1.0),
            ('C', false, ["D", "CB", "", "A"], 2.0),
            // Case III: t1 has just its target, and loses one because b2 was asked for.
            ('A', false, ["", "ACB", "D", ""], 1.0),
            // t1 is empty: t2 makes room.
            ('E', false, ["E", "AC", "D", "B"], 1.0),
            ('C', true, ["E", "CA", "D", "B"], 1.0),
            ('B', false, ["", "BCA", "ED", ""], 0.0),
            ('E', false, ["", "EBC", "D", "A"], 1.0),
        ] {
            assert_eq!(ask(&mut cache, letter), hit, "{letter}");
            assert_eq!(lists(&cache), ([t1, t2, b1, b2].map(str::to_owned), p), "after {letter}");
        }
    }

    #[test]
    fn a_scan_leaves_no_ghosts_and_one_beside_used_objects_leaves_as_many_as_fit() {
        let mut cache = Arc::new(2);
        for letter in "ABCDE".chars() {
            assert!(!ask(&mut cache, letter));
        }
        assert_eq!(lists(&cache), (["ED", "", "", ""].map(str::to_owned), 0.0));
        assert!(ask(&mut cache, 'E'));
        // Case IV A: t1 and b1 are together as long as the cache; the oldest ghost goes.
        for letter in "FGH".chars() {
            assert!(!ask(&mut cache, letter));
        }
        assert_eq!(lists(&cache), (["H", "E", "G", ""].map(str::to_owned), 0.0));
    }

    #[test]
    fn the_target_moves_by_the_ratio_of_the_ghosts_and_all_lists_hold_twice_the_capacity() {
        let mut cache = Arc::new(4);
        // Four objects used twice; a fifth makes a ghost of the oldest, a sixth one of the fifth.
        for letter in "ABCDABCD".chars() {
            ask(&mut cache, letter);
        }
        ask(&mut cache, 'E');
        assert_eq!(lists(&cache), (["E", "DCB", "", "A"].map(str::to_owned), 0.0));
        ask(&mut cache, 'F');
        assert_eq!(lists(&cache), (["F", "DCB", "E", "A"].map(str::to_owned), 0.0));
        ask(&mut cache, 'E');
        assert_eq!(lists(&cache), (["F", "EDC", "", "BA"].map(str::to_owned), 1.0));
        // t1 is not longer than its target: t2 makes room.
        ask(&mut cache, 'G');
        assert_eq!(lists(&cache), (["GF", "ED", "", "CBA"].map(str::to_owned), 1.0));
        ask(&mut cache, 'H');
        assert_eq!(lists(&cache), (["HG", "ED", "F", "CBA"].map(str::to_owned), 1.0));
        // b2 is three times as long as b1: a step of three.
        ask(&mut cache, 'F');
        assert_eq!(lists(&cache), (["HG", "FE", "", "DCBA"].map(str::to_owned), 4.0));
        // The lists hold twice the capacity: the oldest ghost of t2 goes.
        ask(&mut cache, 'I');
        assert_eq!(lists(&cache), (["IHG", "F", "", "EDCB"].map(str::to_owned), 4.0));
    }

    #[test]
    fn by_weight_the_target_moves_by_what_the_object_weighs() {
        let mut cache = Arc::new(10);
        for (object, weight, hit) in [(1, 4, false), (2, 4, false), (1, 4, true), (3, 6, false), (2, 4, false)] {
            assert_eq!(cache.request(object, weight), hit, "{object}");
        }
        assert_eq!((cache.p, cache.live()), (4.0, 8));
        assert!(!cache.request(4, 11));
        assert!(!cache.request(4, 11));
        assert!(cache.live() + cache.ghosts() <= 20);
    }
}
