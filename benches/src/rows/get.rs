//! Reads of one thread: the cache against every rival of this process, and batches
//! against single reads.

use cache_shm::Cache;

use super::Plan;
use crate::measure::{Relation, Row, quantile, take_turns};
use crate::rivals::{Entry, RAPIDHASH, REHASHED, RIVALS, Room};
use crate::subjects::{BATCH, Region, Shared, fill, read, read_batches};

/// Keys at which the rivals are met: in cache, in memory, and beyond the reach of the TLB.
const KEYS: [u64; 3] = [10_000, 1_000_000, 5_000_000];

/// The rows of this module.
pub fn rows(plan: Plan) -> Vec<Row> {
    let mut rows = Vec::new();
    for keys in KEYS.map(|keys| plan.sized(keys, keys / 100)) {
        let region = Region::for_keys("get", keys);
        let shared = Shared(region.cache.clone());
        fill(&shared, keys, plan.seed);
        for (index, rival) in RIVALS.iter().chain(REHASHED).enumerate() {
            rows.extend(against(plan, rival, &shared, keys, index == 0));
        }
        if keys == plan.sized(1_000_000, 10_000) {
            rows.push(batch(plan, &region.cache, keys));
        }
        rows.push(preallocated(plan, &shared, keys));
    }
    rows
}

/// What the cache's time may at most be, in times of a rival's, whichever hash that has.
fn target(rival: &str) -> (Relation, f64) {
    match rival.trim_end_matches(RAPIDHASH) {
        "DashMap" => (Relation::AtMost, 0.9),
        "papaya" => (Relation::AtMost, 1.0),
        "LMDB" => (Relation::AtMost, 1.0 / 8.0),
        _ => (Relation::Shown, 0.0),
    }
}

/// The ratio, and the times behind it; the cache's own where `with_own`.
fn against(plan: Plan, rival: &Entry, shared: &Shared, keys: u64, with_own: bool) -> Vec<Row> {
    let name = rival.name;
    let rival = (rival.make)(Room::for_keys(keys));
    rival.fill(keys, plan.seed);
    let operations = plan.sized(if keys <= 10_000 { 500_000 } else { 200_000 }, 1_000);
    let turns = take_turns(
        plan.sized(25, 2),
        operations,
        |turn| read(shared, keys, operations, plan.seed ^ turn),
        |turn| rival.read(keys, operations, plan.seed ^ turn),
    );
    let (relation, target) = target(name);
    let title = format!("Rust get 100 B, {keys} keys / {name}");
    let mut rows = vec![
        Row::of_ratios(&title, &turns.ratios(), relation, target, turns.medians("cache", name)).label("keys", keys),
    ];
    let mut time = |subject: &str, times: &[f64]| {
        let title = format!("Rust get 100 B, {keys} keys: {subject}");
        rows.push(Row::shown(&title, times, "ns").label("keys", keys).label("subject", subject));
    };
    if with_own {
        time("cache", &turns.first_ns);
    }
    time(name, &turns.second_ns);
    rows
}

/// What a region that was preallocated gains over one that grew.
fn preallocated(plan: Plan, grown: &Shared, keys: u64) -> Row {
    let region = Region::preallocated_for_keys("get-prealloc", keys);
    let shared = Shared(region.cache.clone());
    fill(&shared, keys, plan.seed);
    let operations = plan.sized(200_000, 1_000);
    let turns = take_turns(
        plan.sized(25, 2),
        operations,
        |turn| read(&shared, keys, operations, plan.seed ^ turn),
        |turn| read(grown, keys, operations, plan.seed ^ turn),
    );
    let title = format!("Rust get 100 B, {keys} keys, preallocated region / grown region");
    Row::of_ratios(&title, &turns.ratios(), Relation::Shown, 0.0, turns.medians("preallocated", "grown"))
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
    let detail = format!("{}, {:.1} million/s", turns.medians("batch", "single"), 1e3 / quantile(&turns.first_ns, 0.5));
    let title = format!("Rust get in batches of {BATCH}, {keys} keys / single get");
    Row::of_ratios(&title, &turns.ratios(), Relation::AtMost, 0.5, detail)
}
