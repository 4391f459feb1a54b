//! Sets of one thread: in a full region that evicts for each, and beside caches of one process.

use cache_shm::Mode;

use super::Plan;
use crate::measure::{Relation, Row, Turns, take_turns};
use crate::rivals::{Kind, RIVALS, Room};
use crate::subjects::{KEY_BYTES, Region, Shared, VALUE_BYTES, fill, insert, read};
use crate::workload::{Keys, Sizes, Workload, run};

const KEYS: u64 = 1_000_000;

/// The rows of this module.
pub fn rows(plan: Plan) -> Vec<Row> {
    let keys = plan.sized(KEYS, KEYS / 100);
    let operations = plan.sized(400_000, 1_000);
    let turns = plan.sized(25, 2);
    let read_region = Region::for_keys("set-read", keys);
    let reader = Shared(read_region.cache.clone());
    fill(&reader, keys, plan.seed);

    // Every key is new: each set inserts, and what was there longest has to go.
    let bytes = (keys * 150).max(4 << 20);
    let evicting_region = Region::create("set-evict", bytes, Mode::Evict);
    let evicting = Shared(evicting_region.cache.clone());
    let mut next = 0;
    let mut evict = |count: u64| {
        next += count;
        insert(&evicting, next - count, count)
    };
    evict(3 * keys);
    let beside_get =
        take_turns(turns, operations, |_| evict(operations), |turn| read(&reader, keys, operations, plan.seed ^ turn));
    let overwrites = |turn: u64| {
        let workload = Workload { keys: Keys::Uniform, sizes: Sizes::Fixed(VALUE_BYTES), read_percent: 0 };
        workload.stream(keys as u32, operations as usize, plan.seed ^ turn)
    };
    let in_place = take_turns(
        turns,
        operations,
        |turn| run(&reader, &overwrites(turn)).time,
        |turn| read(&reader, keys, operations, plan.seed ^ turn),
    );
    let row = |name: &str, turns: &Turns, target| {
        let title = format!("Rust set 100 B, {keys} keys, {name} / get");
        Row::of_ratios(&title, &turns.ratios(), Relation::AtMost, target, turns.medians("set", "get"))
    };
    let mut rows = vec![row("steady eviction", &beside_get, 3.0)];
    let mut overwriting = row("overwriting", &in_place, 3.0);
    overwriting.relation = Relation::Shown;
    rows.push(overwriting);
    for rival in RIVALS {
        let held = Room { items: keys, bytes: keys * (KEY_BYTES + VALUE_BYTES) as u64, ttl: None };
        let subject = (rival.make)(if rival.kind.is_bounded() { held } else { Room::for_keys(keys) });
        subject.fill(keys, plan.seed);
        let what = if rival.kind.is_bounded() { "steady eviction" } else { "overwriting" };
        let mut last = keys;
        // Databases that commit each set take fewer turns than would steady their median.
        let turns = if rival.kind == Kind::Database { plan.sized(5, 2) } else { turns };
        let measured = if rival.kind.is_bounded() {
            take_turns(
                turns,
                operations,
                |_| evict(operations),
                |_| {
                    last += operations;
                    subject.insert(last - operations, operations)
                },
            )
        } else {
            take_turns(
                turns,
                operations,
                |turn| run(&reader, &overwrites(turn)).time,
                |turn| subject.run(&overwrites(turn)).time,
            )
        };
        let title = format!("Rust set 100 B, {keys} keys, {what} / {}", rival.name);
        let detail = measured.medians("cache", rival.name);
        rows.push(Row::of_ratios(&title, &measured.ratios(), Relation::Shown, 0.0, detail));
    }
    rows
}
