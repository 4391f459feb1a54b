//! A working set of 80 % of the region, overwritten at random for ten times its size.
//!
//! Nothing of it expires and all of it fits, so nothing may be missing, nothing may be
//! refused, and the copying that compaction costs has a bound.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use cache_shm::{Cache, Error, Mode};

use super::Plan;
use crate::measure::{Relation, Row};
use crate::subjects::{KEY_BYTES, Region, key};

/// Share of the region that is live, overhead counted.
const LIVE_SHARE: f64 = 0.80;
/// Item header, and what the index needs for an item at its usual load.
const OVERHEAD_BYTES: u64 = 24 + 13;
const COPIED_MAX: f64 = 3.0;

/// The rows of this module.
pub fn rows(plan: Plan) -> Vec<Row> {
    let mut rows = Vec::new();
    for (sizes, shape) in [(200..=200, "200 B"), (64..=65_536, "64 B to 64 KiB")] {
        for (mode, word) in [(Mode::Evict, "evict"), (Mode::NoEvict, "no-evict")] {
            let bytes = plan.sized(64 << 20, 4 << 20);
            let region = Region::create("overwrite", bytes, mode);
            let outcome = overwrite(&region.cache, bytes, sizes.clone(), plan.seed);
            let name = |what: &str| format!("overwrite at 80 %, {shape}, {word}: {what}");
            let mut row = Row::of_count(&name("keys missing"), outcome.missing as f64, Relation::AtMost, 0.0, "");
            row.detail = format!("{} keys, {} sets, {} bytes set", outcome.keys, outcome.sets, outcome.set_bytes);
            rows.push(row);
            rows.push(Row::of_count(&name("refused as full"), outcome.full as f64, Relation::AtMost, 0.0, ""));
            let copied = outcome.relocated_bytes as f64 / outcome.set_bytes as f64;
            rows.push(Row::of_count(&name("bytes copied per byte set"), copied, Relation::AtMost, COPIED_MAX, ""));
        }
    }
    rows
}

struct Outcome {
    keys: u64,
    sets: u64,
    missing: u64,
    full: u64,
    set_bytes: u64,
    relocated_bytes: u64,
}

fn held_bytes(value_bytes: u64) -> u64 {
    (KEY_BYTES as u64 + value_bytes).next_multiple_of(8) + OVERHEAD_BYTES
}

/// A value that says whose it is: its key's number and its length, repeated.
fn value(index: u64, value_bytes: u64) -> Vec<u8> {
    let word = (index << 20 | value_bytes).to_le_bytes();
    word.iter().copied().cycle().take(value_bytes as usize).collect()
}

/// Fills the region to the live share, overwrites it, and counts what is not as it was stored.
fn overwrite(cache: &Cache, region_bytes: u64, sizes: RangeInclusive<u64>, seed: u64) -> Outcome {
    let map = cache.map().expect("the region was just made");
    let mut random = fastrand::Rng::with_seed(seed);
    // Sizes spread evenly over their magnitudes, as those of cached objects do.
    let (low, high) = ((*sizes.start() as f64).ln(), (*sizes.end() as f64).ln());
    let mut draw = move || (low + (high - low) * random.f64()).exp().round() as u64;
    let mut random = fastrand::Rng::with_seed(!seed);
    let live_max = (region_bytes as f64 * LIVE_SHARE) as u64;
    let (mut lengths, mut live) = (HashMap::new(), 0);
    let mut outcome = Outcome { keys: 0, sets: 0, missing: 0, full: 0, set_bytes: 0, relocated_bytes: 0 };
    let set = |outcome: &mut Outcome, index: u64, length: u64| -> bool {
        outcome.sets += 1;
        match cache.set(&key(index), &value(index, length)) {
            Ok(_) => true,
            Err(Error::Full { .. }) => {
                outcome.full += 1;
                false
            }
            Err(error) => panic!("a set failed otherwise than by a full region: {error}"),
        }
    };
    loop {
        let (index, length) = (outcome.keys, draw());
        if live + held_bytes(length) > live_max {
            break;
        }
        if set(&mut outcome, index, length) {
            lengths.insert(index, length);
        }
        live += held_bytes(length);
        outcome.keys += 1;
    }
    let before = map.stats();
    let mut overwritten = 0;
    while overwritten < 10 * region_bytes {
        let index = random.u64(..outcome.keys);
        let old = lengths.get(&index).copied().unwrap_or(0);
        let mut length = draw();
        if live - held_bytes(old) + held_bytes(length) > live_max {
            length = old;
        }
        if set(&mut outcome, index, length) {
            live = live - held_bytes(old) + held_bytes(length);
            lengths.insert(index, length);
        }
        overwritten += held_bytes(length);
    }
    let after = map.stats();
    outcome.set_bytes = after.set_bytes - before.set_bytes;
    outcome.relocated_bytes = after.relocated_bytes - before.relocated_bytes;
    let mut found = Vec::new();
    for index in 0..outcome.keys {
        let here = map.get(&key(index), &mut found).expect("keys of a benchmark fit").is_some();
        outcome.missing += u64::from(!here || Some(&(found.len() as u64)) != lengths.get(&index));
        assert!(!here || found == value(index, found.len() as u64), "key {index} holds another key's bytes");
    }
    outcome
}
