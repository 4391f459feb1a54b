//! Latency of single sets while the index grows from nothing to ten million items.
//!
//! A machine that stops a program for a millisecond shows up here whoever is measured.
//! So a loop that only computes, of about a set's length, is timed beside it: its
//! percentile is what the machine alone would have cost.

use std::time::Instant;

use cache_shm::Mode;

use super::Plan;
use crate::latency::Latencies;
use crate::measure::{Relation, Row};
use crate::subjects::{Region, key};

const MICROSECONDS_MAX: f64 = 1000.0;

/// The rows of this module.
pub fn rows(plan: Plan) -> Vec<Row> {
    let items = plan.sized(10_000_000, 100_000);
    let region = Region::create("growth", items * 100, Mode::NoEvict);
    let cache = &region.cache;
    let (mut sets, mut machine) = (Latencies::default(), Latencies::default());
    // Turns of a hundredth each, so that both meet the same disturbances.
    let turn = items / 100;
    for first in (0..items).step_by(turn as usize) {
        for index in first..first + turn {
            let started = Instant::now();
            cache.set(&key(index), &index.to_le_bytes()).expect("the region has room for all");
            sets.record(started.elapsed());
        }
        for index in first..first + turn {
            let started = Instant::now();
            let mut word = index;
            for _ in 0..200 {
                word = std::hint::black_box(word.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            }
            machine.record(started.elapsed());
        }
    }
    let held = cache.map().expect("the region is open").len();
    assert_eq!(held, items, "nothing may be dropped while the index grows");
    let p9999 = sets.percentile(99.99) as f64 / 1e3;
    let name = format!("growth from 0 to {items} items: p99.99 of set");
    let mut row = Row::of_count(&name, p9999, Relation::AtMost, MICROSECONDS_MAX, "us");
    row.detail = format!("set {}; computing alone {}", sets.summary(), machine.summary());
    vec![row]
}
