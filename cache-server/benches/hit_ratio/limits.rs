//! The seventeen rows that have a limit, and their mean.
//!
//! All values of a row have one size, and the region is sized so that it holds C live
//! objects in the mean. A row may be a little below textbook S3-FIFO (threshold 1), the
//! mean has to be above it.

use std::collections::HashMap;

use cache_server::failure::Result;
use cache_server::replay::{Outcome, bound, calibrate, percent, simulators};
use serde_json::json;

use super::{Options, stream_of};

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

/// How far above S3-FIFO the mean of all rows has to be, and how far below any row may be
/// when it is. In points.
const MEAN_ABOVE: f64 = 0.4;
const WORST_BELOW: f64 = 0.3;

/// What a region of a wanted number of equal objects did with a stream, and its bound.
#[derive(Debug, Clone)]
pub struct Measured {
    pub region_percent: f64,
    pub bound_percent: f64,
    pub live_mean: f64,
    pub live_max: u64,
    pub requests_per_second: f64,
}

impl Measured {
    /// Replays the file through regions until one holds `objects`; gives the order too.
    pub fn of(path: &std::path::Path, objects: u64) -> Result<(Measured, Outcome)> {
        let outcome = calibrate::replay(&stream_of(path), objects, None, &mut |_, _| ())?.outcome;
        let measured = Measured {
            region_percent: outcome.hit_percent(),
            bound_percent: bound(&outcome)?.map_or(f64::NAN, |hits| percent(hits, outcome.requests)),
            live_mean: outcome.live_mean,
            live_max: outcome.live_max,
            requests_per_second: outcome.requests_per_second(),
        };
        Ok((measured, outcome))
    }
}

/// What was measured, by stream and objects.
pub type Known = HashMap<(&'static str, u64), Measured>;

/// The verdict.
pub struct Limits {
    pub hold: bool,
    pub shown: usize,
    pub known: Known,
}

/// Measures and shows every row that is wanted, and their mean where none is missing.
pub fn run(options: &Options) -> Result<Limits> {
    let mut limits = Limits { hold: true, shown: 0, known: Known::new() };
    let mut above = Vec::new();
    if !options.json {
        println!(
            "{:<22} {:>8} {:>9} {:>9} {:>7} {:>8} {:>7} {:>7} {:>7} {:>7} {:>10}",
            "trace", "C", "mean", "largest", "region", "S3-FIFO", "off", "may be", "LRU", "Belady", "requests/s"
        );
    }
    for row in ROWS {
        let Some(path) = options.file_of(row.trace) else { continue };
        let (found, outcome) = Measured::of(&path, row.objects)?;
        let simulate = |simulator: &mut dyn simulators::Simulator| {
            percent(simulators::hits(simulator, &outcome.order), outcome.requests)
        };
        let lru = simulate(&mut simulators::Lru::new(row.objects));
        let off = found.region_percent - row.s3fifo_percent;
        let holds = off >= -row.tolerance;
        limits.hold &= holds;
        limits.shown += 1;
        above.push(off);
        if options.json {
            println!(
                "{}",
                json!({
                    "kind": "limit", "trace": row.trace, "objects": row.objects,
                    "region_percent": found.region_percent, "s3fifo_percent": row.s3fifo_percent,
                    "s3fifo_simulated_percent": simulate(&mut simulators::S3Fifo::new(row.objects, 1)),
                    "tolerance": row.tolerance, "holds": holds, "lru_percent": lru,
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
                row.s3fifo_percent,
                off,
                -row.tolerance,
                lru,
                found.bound_percent,
                found.requests_per_second,
                if holds { "" } else { "  TOO LOW" }
            );
        }
        limits.known.insert((row.trace, row.objects), found);
    }
    if limits.shown == ROWS.len() {
        limits.hold &= show_mean(&above, options.json);
    } else {
        println!("SKIP: mean of the {} rows: {} of them were measured", ROWS.len(), limits.shown);
    }
    Ok(limits)
}

/// The last row: the mean of all others, in points above S3-FIFO.
fn show_mean(above: &[f64], json: bool) -> bool {
    let mean = above.iter().sum::<f64>() / above.len() as f64;
    let worst = above.iter().copied().fold(f64::INFINITY, f64::min);
    let holds = mean >= MEAN_ABOVE && worst >= -WORST_BELOW;
    if json {
        println!(
            "{}",
            json!({
                "kind": "mean", "rows": above.len(), "above_s3fifo": mean, "target": MEAN_ABOVE,
                "worst_above_s3fifo": worst, "worst_target": -WORST_BELOW, "holds": holds,
            })
        );
    } else {
        println!(
            "mean of the {} rows above S3-FIFO: {mean:+.3}, has to be {MEAN_ABOVE:+.1}; worst {worst:+.2}, may be {:+.1}{}",
            above.len(),
            -WORST_BELOW,
            if holds { "" } else { "  TOO LOW" }
        );
    }
    holds
}
