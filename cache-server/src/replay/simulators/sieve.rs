//! SIEVE: one queue, one bit, and a hand that does not move what it spares.
//!
//! Y. Zhang et al., "SIEVE is simpler than LRU: an efficient turn-key eviction algorithm
//! for web caches", NSDI 2024, algorithm 1.

use super::links::{Links, Queue};
use super::{Simulator, slot};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum State {
    #[default]
    Out,
    Cached,
    /// Asked for since the hand last passed it.
    Visited,
}

/// SIEVE, as in its paper.
#[derive(Debug)]
pub struct Sieve {
    capacity: u64,
    states: Vec<State>,
    links: Links,
    queue: Queue,
    /// Where the next search for a victim begins; the oldest object, if nowhere.
    hand: Option<u32>,
}

impl Sieve {
    /// An empty cache of that capacity.
    pub fn new(capacity: u64) -> Sieve {
        Sieve { capacity, states: Vec::new(), links: Links::default(), queue: Queue::default(), hand: None }
    }

    fn evict(&mut self) {
        let mut at = self.hand.or(self.queue.oldest());
        while let Some(object) = at {
            let newer = self.links.newer(object);
            let state = &mut self.states[object as usize];
            if *state == State::Visited {
                *state = State::Cached;
                at = newer.or(self.queue.oldest());
                continue;
            }
            *state = State::Out;
            self.hand = newer;
            self.queue.remove(&mut self.links, object);
            return;
        }
    }
}

impl Simulator for Sieve {
    fn request(&mut self, object: u32, weight: u64) -> bool {
        let state = slot(&mut self.states, object);
        if *state != State::Out {
            *state = State::Visited;
            return true;
        }
        if weight > self.capacity {
            return false;
        }
        while self.queue.weight + weight > self.capacity {
            self.evict();
        }
        self.states[object as usize] = State::Cached;
        self.queue.push(&mut self.links, object, weight);
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Requests by letter, and whether each hits: `h` or `m`.
    fn answers(cache: &mut Sieve, requests: &str) -> String {
        requests.bytes().map(|letter| if cache.request(u32::from(letter), 1) { 'h' } else { 'm' }).collect()
    }

    fn queue(cache: &Sieve) -> String {
        cache.queue.objects(&cache.links).into_iter().map(|object| object as u8 as char).collect()
    }

    #[test]
    fn the_hand_goes_from_old_to_new_and_spares_what_was_visited() {
        let mut cache = Sieve::new(3);
        assert_eq!(answers(&mut cache, "ABCA"), "mmmh");
        // The hand spares A, drops B and stays at C; what it spared does not move.
        assert_eq!(answers(&mut cache, "D"), "m");
        assert_eq!((queue(&cache).as_str(), cache.hand), ("DCA", Some(u32::from(b'C'))));
        // C is next, though A is older and its bit is cleared.
        assert_eq!(answers(&mut cache, "ED"), "mh");
        assert_eq!((queue(&cache).as_str(), cache.hand), ("EDA", Some(u32::from(b'D'))));
        // D is spared, E dropped: it was the newest, so the hand begins at the oldest again.
        assert_eq!(answers(&mut cache, "F"), "m");
        assert_eq!((queue(&cache).as_str(), cache.hand), ("FDA", None));
        assert_eq!(answers(&mut cache, "G"), "m");
        assert_eq!((queue(&cache).as_str(), cache.hand), ("GFD", Some(u32::from(b'D'))));
        assert_eq!(answers(&mut cache, "DFAGFD"), "hhmmhm");
    }

    #[test]
    fn when_all_were_visited_the_hand_goes_round_once() {
        let mut cache = Sieve::new(3);
        assert_eq!(answers(&mut cache, "ABCABCD"), "mmmhhhm");
        assert_eq!(queue(&cache), "DCB");
        assert_eq!(answers(&mut cache, "A"), "m");
        assert_eq!(queue(&cache), "ADC");
    }

    #[test]
    fn by_weight_it_drops_until_the_object_fits_and_never_stores_one_that_cannot() {
        let mut cache = Sieve::new(10);
        for (object, weight, hit) in [(1, 4, false), (2, 3, false), (3, 3, false), (2, 3, true), (4, 6, false)] {
            assert_eq!(cache.request(object, weight), hit, "{object}");
        }
        // 1 and 3 made room for 4; 2 was spared between them.
        assert_eq!((cache.queue.objects(&cache.links), cache.queue.weight), (vec![4, 2], 9));
        assert!(!cache.request(5, 11));
        assert!(!cache.request(5, 11));
        assert_eq!(cache.queue.weight, 9);
    }
}
