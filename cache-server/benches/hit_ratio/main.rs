//! The hit ratios of ten real request streams through a real region, beside what plain
//! caches of the same number of objects get, and Belady's bound.
//!
//! ```text
//! CACHE_SHM_TRACES=DIRECTORY cargo bench -p cache-server --bench hit_ratio [-- NAME...]
//! ```
//!
//! The directory holds `NAME.txt.zst` (or `.txt`, `.txt.gz`). All values of a row have
//! one size, and the region is sized so that it holds C live objects in the mean. The run
//! fails if a row is farther below textbook S3-FIFO (threshold 1) than it may be, or
//! beats the bound. With `--json`, a line of JSON for each row.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use cache_server::failure::{Failure, Result};
use cache_server::replay::{Stream, bound, calibrate, percent, simulators};
use serde_json::json;

/// A stream, a capacity, and the hit ratio of textbook S3-FIFO (threshold 1) there.
struct Row {
    trace: &'static str,
    objects: u64,
    s3fifo_percent: f64,
    /// How far below it the region may be: its segments are 1/256 of its objects.
    tolerance: f64,
}

const fn row(trace: &'static str, objects: u64, s3fifo_percent: f64) -> Row {
    Row { trace, objects, s3fifo_percent, tolerance: 0.3 }
}

const ROWS: &[Row] = &[
    row("OLTP", 1_868, 46.25),
    row("OLTP", 18_688, 67.84),
    row("P3", 76_254, 34.67),
    row("P3", 152_508, 54.04),
    row("w106", 2_751, 80.68),
    row("w106", 27_517, 92.23),
    row("scarab-recs", 2_583, 42.13),
    row("scarab-recs", 25_836, 62.79),
    row("orm-busy", 763, 76.48),
    row("orm-busy", 7_634, 88.82),
    row("web12", 1_375, 71.92),
    row("corda-vault", 904, 33.33),
    row("corda-vault", 9_046, 33.33),
    row("lirs-multi3", 745, 45.55),
    // A segment is five objects here, in a loop that is a little longer than the cache.
    Row { trace: "lirs-multi3", objects: 1_490, s3fifo_percent: 51.45, tolerance: 2.3 },
    row("mooncake-conversation", 1_827, 7.71),
    row("mooncake-conversation", 18_279, 24.37),
];

struct Measured {
    region_percent: f64,
    live_mean: f64,
    live_max: u64,
    lru_percent: f64,
    s3fifo_percent: f64,
    bound_percent: f64,
    requests_per_second: f64,
}

fn measure(path: &Path, row: &Row) -> Result<Measured> {
    let stream = Stream {
        path: path.to_owned(),
        value_bytes: None,
        value_bytes_default: 0,
        requests_max: u64::MAX,
        stores_max: u64::MAX,
        remember: true,
    };
    let outcome = calibrate::replay(&stream, row.objects, None, &mut |_, _| ())?.outcome;
    let simulate = |simulator: &mut dyn simulators::Simulator| {
        percent(simulators::hits(simulator, &outcome.order), outcome.requests)
    };
    Ok(Measured {
        region_percent: outcome.hit_percent(),
        live_mean: outcome.live_mean,
        live_max: outcome.live_max,
        lru_percent: simulate(&mut simulators::Lru::new(row.objects)),
        s3fifo_percent: simulate(&mut simulators::S3Fifo::new(row.objects, 1)),
        bound_percent: bound(&outcome)?.map_or(f64::NAN, |hits| percent(hits, outcome.requests)),
        requests_per_second: outcome.requests_per_second(),
    })
}

fn file_of(directory: &Path, trace: &str) -> Option<PathBuf> {
    ["txt.zst", "txt.gz", "txt"].iter().map(|end| directory.join(format!("{trace}.{end}"))).find(|path| path.exists())
}

fn table(directory: &Path, wanted: &[String], json: bool) -> Result<bool> {
    let mut all_hold = true;
    let mut shown = 0;
    if !json {
        println!(
            "{:<22} {:>8} {:>9} {:>9} {:>7} {:>8} {:>7} {:>7} {:>7} {:>7} {:>10}",
            "trace", "C", "mean", "largest", "region", "S3-FIFO", "off", "may be", "LRU", "Belady", "requests/s"
        );
    }
    for row in ROWS.iter().filter(|row| wanted.is_empty() || wanted.iter().any(|name| name == row.trace)) {
        let Some(path) = file_of(directory, row.trace) else {
            println!("SKIP: hit ratio of {} at {}: no such trace in {}", row.trace, row.objects, directory.display());
            continue;
        };
        let found = measure(&path, row)?;
        let off = found.region_percent - row.s3fifo_percent;
        let holds = off >= -row.tolerance;
        all_hold &= holds;
        shown += 1;
        if json {
            println!(
                "{}",
                json!({
                    "trace": row.trace, "objects": row.objects, "region_percent": found.region_percent,
                    "s3fifo_percent": row.s3fifo_percent, "s3fifo_simulated_percent": found.s3fifo_percent,
                    "tolerance": row.tolerance, "holds": holds, "lru_percent": found.lru_percent,
                    "bound_percent": found.bound_percent, "live_objects_mean": found.live_mean,
                    "live_objects_max": found.live_max, "requests_per_second": found.requests_per_second,
                })
            );
        } else {
            println!(
                "{:<22} {:>8} {:>9.0} {:>9} {:>7.2} {:>8.2} {:>+7.2} {:>+7.1} {:>7.2} {:>7.2} {:>10.0}{}",
                row.trace,
                row.objects,
                found.live_mean,
                found.live_max,
                found.region_percent,
                found.s3fifo_percent,
                off,
                -row.tolerance,
                found.lru_percent,
                found.bound_percent,
                found.requests_per_second,
                if holds { "" } else { "  TOO LOW" }
            );
        }
    }
    if shown == 0 {
        return Err(Failure::usage(format!("no trace of the table is in {}", directory.display())));
    }
    Ok(all_hold)
}

fn main() -> ExitCode {
    // `cargo bench` adds --bench to the arguments.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let json = arguments.iter().any(|argument| argument == "--json");
    let wanted: Vec<String> = arguments.into_iter().filter(|argument| !argument.starts_with('-')).collect();
    let Some(directory) = std::env::var_os("CACHE_SHM_TRACES").map(PathBuf::from) else {
        println!("SKIP: hit ratio of real request streams: CACHE_SHM_TRACES does not name their directory");
        return ExitCode::SUCCESS;
    };
    match table(&directory, &wanted, json) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            println!("a row is below what textbook S3-FIFO gets by more than it may be");
            ExitCode::FAILURE
        }
        Err(failure) => {
            eprintln!("hit_ratio: {failure}");
            ExitCode::FAILURE
        }
    }
}
