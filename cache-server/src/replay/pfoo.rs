//! A bound on hits where objects differ in size.
//!
//! To hit at a request, a cache must have held the object since the request before: so
//! many bytes for so long. All hits together cannot take more than the capacity for the
//! whole stream, so no cache has more hits than the cheapest of these intervals that fit
//! (PFOO-U in D. Berger, N. Beckmann, M. Harchol-Balter, "Practical bounds on optimal caching
//! with variable object sizes", POMACS 2018). With equal sizes [`super::belady`] is closer.

/// Most hits of any cache with room for `capacity` bytes over a stream of object numbers
/// and their bytes. An object whose size changes counts as its smallest.
pub fn hits(stream: &[u32], bytes: &[u32], capacity: u64) -> u64 {
    let objects = stream.iter().max().map_or(0, |largest| *largest as usize + 1);
    let mut smallest = vec![u32::MAX; objects];
    for (&object, &bytes) in stream.iter().zip(bytes) {
        smallest[object as usize] = smallest[object as usize].min(bytes);
    }
    let mut seen_at = vec![None; objects];
    let mut costs = Vec::new();
    for (position, &object) in stream.iter().enumerate() {
        let weight = u64::from(smallest[object as usize]);
        if let Some(before) = seen_at[object as usize].replace(position)
            && weight <= capacity
        {
            costs.push((position - before) as u64 * weight);
        }
    }
    costs.sort_unstable();
    let mut left = u128::from(capacity) * stream.len() as u128;
    let fits = |cost: &&u64| match left.checked_sub(u128::from(**cost)) {
        Some(rest) => {
            left = rest;
            true
        }
        None => false,
    };
    costs.iter().take_while(fits).count() as u64
}

#[cfg(test)]
mod tests {
    use super::super::{belady, simulators};
    use super::*;

    /// The most hits by trying every set of objects that may be held after each request.
    fn brute_force(stream: &[u32], bytes: &[u32], capacity: u64) -> u64 {
        let weight = |set: u32| (0..32).filter(|bit| set >> bit & 1 == 1).map(|bit| u64::from(bytes[bit])).sum::<u64>();
        let objects = bytes.len();
        // Most hits so far, for each set that is held now.
        let mut best = vec![None; 1 << objects];
        best[0] = Some(0u64);
        for &object in stream {
            let mut next = vec![None; 1 << objects];
            for (set, hits) in best.iter().enumerate() {
                let Some(hits) = hits else { continue };
                let set = set as u32;
                let hits = hits + u64::from(set >> object & 1);
                // Anything that was there, or was just asked for, may be kept.
                for kept in (0..1u32 << objects).filter(|kept| kept & !(set | 1 << object) == 0) {
                    if weight(kept) <= capacity {
                        let known: &mut Option<u64> = &mut next[kept as usize];
                        *known = Some(known.map_or(hits, |known| known.max(hits)));
                    }
                }
            }
            best = next;
        }
        best.into_iter().flatten().max().unwrap_or(0)
    }

    #[test]
    fn no_choice_of_what_to_keep_beats_the_bound() {
        let mut state = 0x9e37_79b9_7f4a_7c15u64;
        let mut random = move |below: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % below
        };
        let mut close = 0;
        for _ in 0..200 {
            let bytes: Vec<u32> = (0..5).map(|_| 1 + random(9) as u32).collect();
            let stream: Vec<u32> = (0..random(16)).map(|_| random(5) as u32).collect();
            let sizes: Vec<u32> = stream.iter().map(|object| bytes[*object as usize]).collect();
            let capacity = random(25);
            let (best, bound) = (brute_force(&stream, &bytes, capacity), hits(&stream, &sizes, capacity));
            assert!(best <= bound, "{stream:?} of {bytes:?} in {capacity}: {best} > {bound}");
            close += u32::from(best + 1 >= bound);
        }
        assert!(close > 100, "{close}: a bound that is far off says nothing");
    }

    #[test]
    fn of_equal_objects_it_is_no_closer_than_the_optimum() {
        let stream: Vec<u32> = (0..500).map(|n: u32| n.wrapping_mul(2_654_435_761) >> 20 & 31).collect();
        let sizes = vec![10; stream.len()];
        for objects in [0, 1, 7, 20, 40] {
            let bound = hits(&stream, &sizes, 10 * objects);
            assert!(bound >= belady::hits(&stream, objects), "{objects}");
            assert!(bound >= simulators::hits_of_bytes(&mut simulators::Lru::new(10 * objects), &stream, &sizes).0);
        }
        assert_eq!(hits(&stream, &sizes, 10 * 32), 500 - 32);
    }
}
