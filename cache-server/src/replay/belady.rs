//! Belady's bound: the most hits that any cache of a given number of objects gets.
//!
//! The optimum drops the object whose next use is farthest away (L. Belady, "A study
//! of replacement algorithms for a virtual-storage computer", 1966). It needs the
//! future, so it is a bound and not a policy. It counts a cache that, as the replay
//! does, stores every object it missed.

use std::collections::BinaryHeap;

/// The object is not asked for again.
const NEVER: u32 = u32::MAX;

/// Hits of the optimum with room for `capacity` equal objects over a stream of object
/// numbers. Takes O(n log n) time and about 12 bytes a request.
///
/// # Panics
/// If the stream has 2^32 - 1 requests or more.
pub fn hits(stream: &[u32], capacity: u64) -> u64 {
    assert!((stream.len() as u64) < u64::from(NEVER), "positions are 32 bits wide");
    if capacity == 0 {
        return 0;
    }
    let next_use = next_uses(stream);
    let objects = stream.iter().max().map_or(0, |largest| *largest as usize + 1);
    let mut cached = vec![false; objects];
    let mut live = 0u64;
    let mut hits = 0;
    // Positions of the next use of cached objects. A position is the next use of one
    // object only, so positions stand for objects. A position that has passed is stale:
    // it stays in the heap, below all that lie ahead, and is never taken while one of
    // those is left.
    let mut ahead = BinaryHeap::new();
    // Cached objects that nobody asks for again: the first to go.
    let mut dead = Vec::new();
    for (position, (&object, &next)) in stream.iter().zip(&next_use).enumerate() {
        if cached[object as usize] {
            hits += 1;
        } else {
            if live == capacity {
                let victim = dead.pop().or_else(|| ahead.pop().map(|at: u32| stream[at as usize]));
                let victim = victim.expect("a full cache has an object to drop");
                debug_assert!(cached[victim as usize], "a stale position was taken at {position}");
                cached[victim as usize] = false;
                live -= 1;
            }
            cached[object as usize] = true;
            live += 1;
        }
        match next {
            NEVER => dead.push(object),
            next => ahead.push(next),
        }
    }
    hits
}

fn next_uses(stream: &[u32]) -> Vec<u32> {
    let objects = stream.iter().max().map_or(0, |largest| *largest as usize + 1);
    let mut seen_at = vec![NEVER; objects];
    let mut next = vec![NEVER; stream.len()];
    for (position, &object) in stream.iter().enumerate().rev() {
        next[position] = seen_at[object as usize];
        seen_at[object as usize] = position as u32;
    }
    next
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    /// The most hits by trying every choice of victim.
    fn brute_force(stream: &[u32], capacity: usize) -> u64 {
        fn best(
            stream: &[u32],
            at: usize,
            cached: u32,
            capacity: usize,
            known: &mut HashMap<(usize, u32), u64>,
        ) -> u64 {
            if at == stream.len() {
                return 0;
            }
            if let Some(&hits) = known.get(&(at, cached)) {
                return hits;
            }
            let object = 1u32 << stream[at];
            let hits = if cached & object != 0 {
                1 + best(stream, at + 1, cached, capacity, known)
            } else if (cached.count_ones() as usize) < capacity {
                best(stream, at + 1, cached | object, capacity, known)
            } else {
                let victims = (0..32).map(|bit| 1u32 << bit).filter(|bit| cached & bit != 0);
                let choices: Vec<u32> = victims.collect();
                choices
                    .into_iter()
                    .map(|victim| best(stream, at + 1, cached & !victim | object, capacity, known))
                    .max()
                    .unwrap_or(0)
            };
            known.insert((at, cached), hits);
            hits
        }
        if capacity == 0 { 0 } else { best(stream, 0, 0, capacity, &mut HashMap::new()) }
    }

    #[test]
    fn the_bound_is_what_trying_every_choice_finds() {
        let mut state = 0x9e37_79b9_7f4a_7c15u64;
        let mut random = move |below: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % below
        };
        for _ in 0..400 {
            let length = random(24) as usize;
            let objects = 1 + random(8);
            let stream: Vec<u32> = (0..length).map(|_| random(objects) as u32).collect();
            let capacity = random(6);
            assert_eq!(hits(&stream, capacity), brute_force(&stream, capacity as usize), "{stream:?} in {capacity}");
        }
    }

    #[test]
    fn a_loop_larger_than_the_cache_hits_all_but_what_must_be_dropped() {
        // 10 rounds over 5 objects with room for 4: the first round misses, and from then on
        // the optimum misses every fourth request.
        let stream: Vec<u32> = (0..50).map(|n| n % 5).collect();
        assert_eq!(hits(&stream, 4), 50 - 5 - 11);
        assert_eq!(hits(&stream, 5), 45);
        assert_eq!(hits(&stream, 1), 0);
    }

    #[test]
    fn a_stream_without_repetition_has_no_hits() {
        let stream: Vec<u32> = (0..1000).collect();
        assert_eq!(hits(&stream, 10), 0);
        assert_eq!(hits(&[], 10), 0);
        assert_eq!(hits(&[1, 1, 1], 0), 0);
    }
}
