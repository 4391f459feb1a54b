//! How the cost of an operation grows: with processes and their mix of reads and writes,
//! with keys, with the size of values, and with how full the region is.
//!
//! Cells of a table take turns, round by round. More processes than cores share the cores,
//! so their sum cannot grow any more; what can be seen is whether it falls.

use std::time::{Duration, Instant};

use cache_shm::Mode;

use super::Plan;
use crate::measure::{Row, quantile};
use crate::processes::{Order, Work, Worker};
use crate::subjects::{Region, VALUE_BYTES, key};

const PROCESSES: [usize; 5] = [1, 2, 4, 8, 16];
const READ_PERCENTS: [u8; 3] = [100, 95, 50];
const KEYS: [u64; 5] = [1_000, 10_000, 100_000, 1_000_000, 10_000_000];
const SIZES: [usize; 8] = [8, 100, 1 << 10, 8 << 10, 64 << 10, 256 << 10, 1 << 20, 16 << 20];

/// The rows of this module.
pub fn rows(plan: Plan) -> Vec<Row> {
    let mut rows = by_processes(plan);
    rows.extend(KEYS.iter().flat_map(|keys| by_keys(plan, plan.sized(*keys, keys / 100 + 1))));
    rows.extend(SIZES.iter().flat_map(|size| by_size(plan, *size)));
    rows.extend(by_fill(plan));
    rows
}

/// One place of a table: what it is called there, and what its workers do.
struct Cell {
    labels: Vec<(&'static str, String)>,
    processes: usize,
    order: Order,
}

/// What the operations of a cell came to, beside their time.
#[derive(Clone, Default)]
struct Counts {
    operations: u64,
    missed: u64,
    refused: u64,
}

fn filled(label: &str, bytes: u64, keys: u64, value_bytes: usize) -> Region {
    let region = Region::create(label, bytes, Mode::Evict);
    let value = vec![0x5a; value_bytes];
    for index in 0..keys {
        region.cache.set(&key(index), &value).expect("an evicting region has room");
    }
    region
}

/// Lets the cells of a table take turns, and makes a row of each.
fn measure(plan: Plan, table: &str, region: &Region, cells: &[Cell]) -> Vec<Row> {
    let most = cells.iter().map(|cell| cell.processes).max().unwrap_or(0);
    let mut workers: Vec<Worker> = (0..most).map(|_| Worker::start(&[region])).collect();
    let mut samples = vec![Vec::new(); cells.len()];
    let mut counts = vec![Counts::default(); cells.len()];
    for round in 0..=plan.sized(7, 1) {
        for ((cell, samples), counts) in cells.iter().zip(&mut samples).zip(&mut counts) {
            let started = Instant::now();
            let seed = |index: usize| plan.seed ^ round << 16 ^ index as u64;
            for (index, worker) in workers[..cell.processes].iter_mut().enumerate() {
                worker.begin(Order { seed: seed(index), ..cell.order });
            }
            // By one clock: processes that share a core do not work all the time of their slice.
            let work: Vec<Work> = workers[..cell.processes].iter_mut().map(Worker::finish).collect();
            let operations: u64 = work.iter().map(|work| work.operations).sum();
            // The first round is for page tables and caches.
            if round > 0 {
                counts.operations += operations;
                counts.missed += work.iter().map(|work| work.missed).sum::<u64>();
                counts.refused += work.iter().map(|work| work.refused).sum::<u64>();
                samples.push(operations as f64 / started.elapsed().as_secs_f64() / 1e6);
            }
        }
    }
    let rows = cells.iter().zip(&samples).zip(counts).map(|((cell, samples), counts)| {
        let words: Vec<&str> = cell.labels.iter().map(|(_, value)| value.as_str()).collect();
        let mut row = Row::shown(&format!("{table}: {}", words.join(", ")), samples, "million/s").label("table", table);
        let nanoseconds = 1e3 * cell.processes.min(cores()) as f64 / quantile(samples, 0.5);
        row.detail = format!("{nanoseconds:.0} ns of a core an operation");
        if counts.missed > 0 {
            let percent = 100.0 * counts.missed as f64 / counts.operations as f64;
            row.detail += &format!("; {percent:.1} % of the operations are misses");
            row = row.label("missed_percent", percent);
        }
        if counts.refused > 0 {
            row.detail += &format!("; {} sets refused as full", counts.refused);
            row = row.label("refused", counts.refused);
        }
        cell.labels.iter().fold(row.label("core_ns", nanoseconds), |row, (name, value)| row.label(name, value.as_str()))
    });
    rows.collect()
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn order(plan: Plan, keys: u64, value_bytes: usize, read_percent: u8, must_hit: bool) -> Order {
    let slice = Duration::from_millis(plan.sized(200, 5));
    Order { value_bytes, read_percent, must_hit, ..Order::reads(0, keys, slice, 0) }
}

fn mix(read_percent: u8) -> String {
    format!("{read_percent}:{}", 100 - read_percent)
}

fn by_processes(plan: Plan) -> Vec<Row> {
    let keys = plan.sized(100_000, 1_000);
    let region = filled("processes", (keys * 230).max(8 << 20), keys, VALUE_BYTES);
    let mut cells = Vec::new();
    for (popularity, span) in [("uniform", keys), ("one hot key", 1)] {
        for read_percent in READ_PERCENTS {
            for processes in PROCESSES {
                let labels = vec![
                    ("processes", processes.to_string()),
                    ("mix", mix(read_percent)),
                    ("popularity", popularity.to_owned()),
                ];
                cells.push(Cell { labels, processes, order: order(plan, span, VALUE_BYTES, read_percent, true) });
            }
        }
    }
    measure(plan, "processes", &region, &cells)
}

fn by_keys(plan: Plan, keys: u64) -> Vec<Row> {
    let region = filled("keys", (keys * 230).max(8 << 20), keys, VALUE_BYTES);
    let cells = [100, 50].map(|read_percent| Cell {
        labels: vec![("keys", keys.to_string()), ("mix", mix(read_percent))],
        processes: 2,
        order: order(plan, keys, VALUE_BYTES, read_percent, true),
    });
    measure(plan, "keys", &region, &cells)
}

fn by_size(plan: Plan, value_bytes: usize) -> Vec<Row> {
    // The largest value takes a sixteenth of the region.
    let region_bytes = 256 << 20;
    let keys = (region_bytes / 4 / value_bytes as u64).clamp(4, plan.sized(100_000, 1_000));
    let region = filled("sizes", region_bytes, keys, value_bytes);
    let cells = [100, 50, 0].map(|read_percent| Cell {
        labels: vec![("value_bytes", value_bytes.to_string()), ("mix", mix(read_percent))],
        processes: 1,
        order: order(plan, keys, value_bytes, read_percent, false),
    });
    measure(plan, "value sizes", &region, &cells)
}

/// Empty: every read misses. Full: everything wanted is there. Evicting: half of it fits.
fn by_fill(plan: Plan) -> Vec<Row> {
    let keys = plan.sized(200_000, 20_000);
    let bytes = keys * 160;
    let mut rows = Vec::new();
    for (fill, region_bytes, filled_keys, read_percents) in [
        ("empty", 2 * bytes, 0, &[100][..]),
        ("full", 2 * bytes, keys, &READ_PERCENTS[..]),
        ("evicting", bytes / 2, keys, &READ_PERCENTS[..]),
    ] {
        let region = filled("fill", region_bytes.max(1 << 20), filled_keys, VALUE_BYTES);
        let cells: Vec<Cell> = read_percents
            .iter()
            .map(|read_percent| Cell {
                labels: vec![("fill", fill.to_owned()), ("mix", mix(*read_percent))],
                processes: 2,
                order: order(plan, keys, VALUE_BYTES, *read_percent, fill == "full"),
            })
            .collect();
        rows.extend(measure(plan, "fill", &region, &cells));
    }
    rows
}
