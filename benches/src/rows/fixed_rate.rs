//! One process reads and one writes, each at a fixed rate: latencies from the moment at
//! which each operation was due, in the shape of Chronicle Map's published test.

use super::Plan;
use crate::latency::PERCENTS;
use crate::measure::{Relation, Row, quantile};
use crate::paced::{Paced, Task};
use crate::processes::Worker;
use crate::subjects::{Region, key};

const KEYS: u64 = 1_000_000;
const VALUE_BYTES: usize = 500;
/// Operations a second of each process.
const RATE: u64 = 250_000;
/// Targets in nanoseconds: the percentile, of reads, of writes.
const TARGETS: [(f64, Option<f64>, Option<f64>); 3] =
    [(50.0, Some(250.0), Some(800.0)), (99.0, Some(600.0), Some(2300.0)), (99.9, Some(1000.0), None)];

/// The rows of this module.
pub fn rows(plan: Plan) -> Vec<Row> {
    let keys = plan.sized(KEYS, KEYS / 100);
    let region = Region::preallocated("fixed-rate", (keys * 760).max(8 << 20));
    for index in 0..keys {
        region.cache.set(&key(index), &[index as u8; VALUE_BYTES]).expect("the region has room for all");
    }
    let mut workers = [0, 1].map(|_| Worker::start(&[&region]));
    let mut round = |tasks: [Task; 2], seed: u64| {
        for (worker, task) in workers.iter_mut().zip(tasks) {
            let operations = plan.sized(RATE, RATE / 100);
            let seed = plan.seed ^ seed << 8 ^ task as u64;
            worker.begin_paced(Paced { task, keys, value_bytes: VALUE_BYTES, rate: RATE, operations, seed });
        }
        workers.each_mut().map(Worker::finish_paced)
    };
    // The first touches of a mapping are the kernel's work.
    round([Task::Write, Task::Read], u64::MAX);
    round([Task::Read, Task::Write], u64::MAX);
    let (mut reads, mut writes, mut nothing) = (Vec::new(), Vec::new(), Vec::new());
    for number in 0..plan.sized(21, 2) {
        let [read, write] = round([Task::Read, Task::Write], number);
        let [idle, _] = round([Task::Nothing, Task::Nothing], number);
        reads.push(read);
        writes.push(write);
        nothing.push(idle);
    }
    let mut rows = Vec::new();
    for (series, rounds) in [("reads", &reads), ("writes", &writes), ("doing nothing", &nothing)] {
        for index in 0..=PERCENTS.len() {
            let percent = PERCENTS.get(index).copied().unwrap_or(100.0);
            let named = if index == PERCENTS.len() { "max".to_owned() } else { format!("p{percent}") };
            let samples: Vec<f64> = rounds.iter().map(|round| round[index] / 1e3).collect();
            let target = TARGETS.iter().find(|(wanted, _, _)| *wanted == percent);
            let target = target.and_then(|(_, read, write)| match series {
                "reads" => *read,
                "writes" => *write,
                _ => None,
            });
            let (relation, most) = target.map_or((Relation::Shown, 0.0), |target| (Relation::AtMost, target / 1e3));
            let title = format!("{VALUE_BYTES} B, {keys} keys, {}k/s each way, {series}: {named}", RATE / 1000);
            let detail = format!("worst of {} rounds {:.1} us", samples.len(), quantile(&samples, 1.0));
            let mut row = Row::of_ratios(&title, &samples, relation, most, detail);
            row.unit = "us";
            rows.push(row.label("series", series).label("percent", percent));
        }
    }
    rows
}
