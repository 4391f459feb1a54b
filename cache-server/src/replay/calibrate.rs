//! The region that holds a wanted number of equal objects.
//!
//! A region is bounded in bytes, and published hit ratios are given for a number of
//! objects. How many objects a region holds depends on its index, on the space that is
//! kept free for reclaim and on how items fit their segments, so it is measured: the
//! stream itself is replayed, and the region's size corrected, until the mean number of
//! live objects is the wanted one.

use super::region::RegionSubject;
use super::{Outcome, Progress, Stream, run};
use crate::failure::{Failure, Result};

/// Fewest objects that can be aimed at: one of them fills five segments.
pub const OBJECTS_MIN: u64 = 50;
/// Smallest region.
const REGION_BYTES_MIN: u64 = cache_shm::REGION_BYTES_MIN;
/// Bytes of a value where nobody says; large enough that the index is a small part.
const VALUE_BYTES: u64 = 480;
/// Bytes of an item beside its value, rounded up: header, key, its share of the index.
const ITEM_OVERHEAD_BYTES: u64 = 48;
/// Bytes of a segment of the smallest region, and how many of them hold items.
const SEGMENT_BYTES: u64 = 4096;
const SEGMENTS_MIN: u64 = 240;
/// Good enough: the mean is this close to the wanted number (0.1 %).
const CLOSE: f64 = 0.001;
/// Most passes that only measure the mean.
const PASSES_MAX: u32 = 10;
/// Most passes over the whole stream, whose mean may differ from that of its first part.
const WHOLE_PASSES_MAX: u32 = 4;
/// A pass that only measures the mean ends when the region was filled so often.
const FILLS: u64 = 8;

/// What was found, and the replay with it.
#[derive(Debug)]
pub struct Calibrated {
    /// Size of the region.
    pub region_bytes: u64,
    /// Size of every value.
    pub value_bytes: u32,
    /// The whole replay in that region.
    pub outcome: Outcome,
}

/// The value size that goes with `objects` where the user did not choose one: in the
/// smallest region, one of which a whole number fills a segment, or a whole number of
/// segments where there are more of these than objects.
fn value_bytes_for(objects: u64) -> u64 {
    let in_a_segment = (objects / SEGMENTS_MIN).max(1);
    let segments = SEGMENTS_MIN.div_ceil(objects.max(1));
    VALUE_BYTES.max((SEGMENT_BYTES * segments / in_a_segment).saturating_sub(ITEM_OVERHEAD_BYTES))
}

/// A size to begin with: the items, and an eighth for what is kept free.
fn first_guess(objects: u64, value_bytes: u64) -> u64 {
    objects * (value_bytes + ITEM_OVERHEAD_BYTES) * 9 / 8
}

/// Replays `stream` in a private region that holds `objects` objects in the mean.
///
/// # Errors
/// The number is too small, or does not go with the value size; the trace cannot be
/// read again; the cache failed.
pub fn replay(
    stream: &Stream,
    objects: u64,
    value_bytes: Option<u32>,
    shown: &mut dyn FnMut(u32, Progress),
) -> Result<Calibrated> {
    if objects < OBJECTS_MIN {
        return Err(Failure::usage(format!(
            "--objects {objects} is too few: the smallest region has a few segments for each object only from {OBJECTS_MIN} objects on"
        )));
    }
    if stream.path.as_os_str() == "-" {
        return Err(Failure::usage("--objects reads the trace several times; give a file instead of -"));
    }
    let value_bytes = value_bytes.unwrap_or(value_bytes_for(objects) as u32);
    let remember = stream.remember;
    let mut stream = Stream { value_bytes: Some(value_bytes), remember: false, ..stream.clone() };
    let region_bytes = first_guess(objects, value_bytes.into());
    if region_bytes < REGION_BYTES_MIN {
        return Err(Failure::usage(format!(
            "{objects} objects of {value_bytes} bytes do not fill the smallest region ({REGION_BYTES_MIN} bytes); give a --value-size of {} or more, or leave it out",
            value_bytes_for(objects)
        )));
    }
    let whole = stream.clone();
    stream.stores_max = whole.stores_max.min(objects * FILLS);
    let mut pass = 0;
    let mut search = Search::new(region_bytes, objects);
    while pass < PASSES_MAX {
        pass += 1;
        let outcome = run(&stream, &mut RegionSubject::private(search.region_bytes)?, &mut |p| shown(pass, p))?;
        if !search.correct(&outcome) {
            break;
        }
    }
    stream = Stream { remember, ..whole };
    search = Search::new(search.best.1, objects);
    let mut best: Option<(u64, Outcome)> = None;
    for _ in 0..WHOLE_PASSES_MAX {
        pass += 1;
        let region_bytes = search.region_bytes;
        let outcome = run(&stream, &mut RegionSubject::private(region_bytes)?, &mut |p| shown(pass, p))?;
        let again = search.correct(&outcome);
        if search.best.1 == region_bytes {
            best = Some((region_bytes, outcome));
        }
        if !again {
            break;
        }
    }
    let (region_bytes, outcome) = best.ok_or(Failure::usage("no pass was made"))?;
    Ok(Calibrated { region_bytes, value_bytes, outcome })
}

/// The search for the size of a region, from the means of those that were tried.
#[derive(Debug)]
struct Search {
    objects: u64,
    /// The size to try now.
    region_bytes: u64,
    /// How far off the best one was, as a share, and its size.
    best: (f64, u64),
    /// The largest size that was too small, and the smallest that was too large.
    below: Option<u64>,
    above: Option<u64>,
}

impl Search {
    fn new(region_bytes: u64, objects: u64) -> Search {
        let region_bytes = region_bytes.next_multiple_of(SEGMENT_BYTES).max(REGION_BYTES_MIN);
        Search { objects, region_bytes, best: (f64::INFINITY, region_bytes), below: None, above: None }
    }

    /// Learns what the size gave; false if there is no better one to try.
    fn correct(&mut self, outcome: &Outcome) -> bool {
        // Nothing was dropped: the stream has not enough keys to fill the region.
        let off = if outcome.evicted == 0 { 0.0 } else { outcome.live_mean / self.objects as f64 - 1.0 };
        if off.abs() < self.best.0 {
            self.best = (off.abs(), self.region_bytes);
        }
        if off.abs() <= CLOSE {
            return false;
        }
        let side = if off < 0.0 { &mut self.below } else { &mut self.above };
        *side = Some(self.region_bytes);
        let proportional = (self.region_bytes as f64 / (1.0 + off)) as u64;
        let next = match (self.below, self.above) {
            (Some(below), Some(above)) if proportional <= below || proportional >= above => below.midpoint(above),
            _ => proportional,
        };
        self.region_bytes = next.next_multiple_of(SEGMENT_BYTES).max(REGION_BYTES_MIN);
        Some(self.region_bytes) != self.below && Some(self.region_bytes) != self.above
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_search_closes_in_on_the_wanted_size() {
        // A region whose objects are a step function of its bytes, with fixed costs.
        let objects = |bytes: u64| ((bytes - 150_000) / 4096 * 5) as f64;
        let mut search = Search::new(2 << 20, 1_868);
        let mut tried = 1;
        while search.correct(&Outcome { live_mean: objects(search.region_bytes), evicted: 1, ..Outcome::default() }) {
            tried += 1;
        }
        let (off, bytes) = search.best;
        assert!(off <= 0.002 && tried <= PASSES_MAX, "{search:?} after {tried}");
        assert!((objects(bytes) - 1_868.0).abs() <= 5.0);
    }

    #[test]
    fn few_objects_get_values_that_fill_the_segments_of_the_smallest_region() {
        for objects in [OBJECTS_MIN, 74, 137, 239, 240, 372, 500, 745, 763, 904, 1_375, 1_490, 1_868, 18_688, 152_508] {
            let value_bytes = value_bytes_for(objects);
            assert!(first_guess(objects, value_bytes) >= REGION_BYTES_MIN, "{objects}: {value_bytes}");
        }
        assert_eq!(value_bytes_for(74), 4 * 4096 - ITEM_OVERHEAD_BYTES);
        assert_eq!(value_bytes_for(372), 4096 - ITEM_OVERHEAD_BYTES);
        assert_eq!(value_bytes_for(763), 4096 / 3 - ITEM_OVERHEAD_BYTES);
        assert_eq!(value_bytes_for(152_508), VALUE_BYTES);
    }
}
