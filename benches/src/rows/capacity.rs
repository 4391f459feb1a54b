//! How many items a region of 256 MiB holds.

use cache_shm::Mode;

use super::Plan;
use crate::measure::{Relation, Row};
use crate::subjects::{Region, key};

const ITEMS: f64 = 1_000_000.0;

/// The rows of this module.
pub fn rows(plan: Plan) -> Vec<Row> {
    let bytes = plan.sized(256 << 20, 8 << 20);
    let region = Region::create("capacity", bytes, Mode::Evict);
    let map = region.cache.map().expect("the region was just made");
    let mut held = Vec::new();
    // Twice what fits, so that the region has long been full; then a few more looks at it.
    let count = bytes / 100;
    for index in 0..count {
        region.cache.set(&key(index), &[index as u8; 200]).expect("an evicting region has room");
        if index >= count / 2 && index % (count / 20) == 0 {
            held.push(map.len() as f64);
        }
    }
    let target = ITEMS * bytes as f64 / (256 << 20) as f64;
    let detail = format!("{:.1} B beside the 216 of key and value", bytes as f64 / median(&held) - 216.0);
    let name = format!("live items of 16 + 200 B in {} MiB", bytes >> 20);
    vec![Row::of_ratios(&name, &held, Relation::AtLeast, target, detail)]
}

fn median(samples: &[f64]) -> f64 {
    crate::measure::quantile(samples, 0.5)
}
