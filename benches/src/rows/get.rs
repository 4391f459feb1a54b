//! Reads of one thread: the cache against DashMap, and batches against single reads.

use cache_shm::Cache;

use super::Plan;
use crate::measure::{Relation, Row, take_turns};
use crate::subjects::{BATCH, Local, Region, Shared, fill, read, read_batches};

/// Keys at which the rival is met: in cache, in memory, and beyond the reach of the TLB.
const KEYS: [u64; 3] = [10_000, 1_000_000, 5_000_000];

/// The rows of this module.
pub fn rows(plan: Plan) -> Vec<Row> {
    let mut rows = Vec::new();
    for keys in KEYS.map(|keys| plan.sized(keys, keys / 100)) {
        let region = Region::for_keys("get", keys);
        let shared = Shared(region.cache.clone());
        let local = Local::new();
        fill(&shared, keys, plan.seed);
        fill(&local, keys, plan.seed);
        let operations = plan.sized(if keys <= 10_000 { 1_000_000 } else { 400_000 }, 1_000);
        let turns = take_turns(
            plan.sized(25, 2),
            operations,
            |turn| read(&shared, keys, operations, plan.seed ^ turn),
            |turn| read(&local, keys, operations, plan.seed ^ turn),
        );
        rows.push(Row::of_ratios(
            &format!("Rust get 100 B, {keys} keys / DashMap"),
            &turns.ratios(),
            Relation::AtMost,
            1.0,
            turns.medians("cache", "DashMap"),
        ));
        drop(local);
        if keys == plan.sized(1_000_000, 10_000) {
            rows.push(batch(plan, &region.cache, keys));
        }
    }
    rows
}

fn batch(plan: Plan, cache: &Cache, keys: u64) -> Row {
    let operations = plan.sized(400_000, 1_000) / BATCH as u64 * BATCH as u64;
    let shared = Shared(cache.clone());
    let turns = take_turns(
        plan.sized(25, 2),
        operations,
        |turn| read_batches(cache, keys, operations, plan.seed ^ turn),
        |turn| read(&shared, keys, operations, plan.seed ^ turn),
    );
    Row::of_ratios(
        &format!("Rust get in batches of {BATCH}, {keys} keys / single get"),
        &turns.ratios(),
        Relation::AtMost,
        0.6,
        turns.medians("batch", "single"),
    )
}
