//! Latency of single sets while the index grows from nothing to ten million items.
//!
//! A machine that stops a program for a millisecond shows up here whoever is measured.
//! So a loop that only computes, of about a set's length, is timed beside it: its
//! percentile is what the machine alone would have cost.

use cache_shm::Mode;

use super::Plan;
use super::tail::timed_sets;
use crate::measure::{Relation, Row};
use crate::subjects::Region;

const MICROSECONDS_MAX: f64 = 1000.0;

/// The rows of this module.
pub fn rows(plan: Plan) -> Vec<Row> {
    let items = plan.sized(10_000_000, 100_000);
    let region = Region::create("growth", items * 100, Mode::NoEvict);
    let (sets, machine) = timed_sets(&region.cache, items, &[7; 8]);
    let held = region.cache.map().expect("the region is open").len();
    assert_eq!(held, items, "nothing may be dropped while the index grows");
    let p9999 = sets.percentile(99.99) as f64 / 1e3;
    let name = format!("growth from 0 to {items} items: p99.99 of set");
    let mut row = Row::of_count(&name, p9999, Relation::AtMost, MICROSECONDS_MAX, "us");
    row.detail = format!("set {}; computing alone {}", sets.summary(), machine.summary());
    vec![row]
}
