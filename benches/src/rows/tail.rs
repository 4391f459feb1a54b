//! The slowest sets: while an index grows from nothing to a million items, and while the
//! full region evicts for each set.
//!
//! The first touch of a page is the kernel's work, and costs more than a set. So the same
//! is measured in a region whose pages this process has touched, and in a fresh one.

use std::ffi::c_void;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::Instant;

use cache_shm::{Cache, Mode};
use rustix::mm::{Advice, madvise};

use super::Plan;
use crate::latency::{Latencies, PERCENTS};
use crate::measure::{Relation, Row};
use crate::subjects::{Region, VALUE_BYTES, key};

const ITEMS: u64 = 1_000_000;
const P999_MAX_US: f64 = 5.0;
const P9999_MAX_US: f64 = 100.0;

/// The rows of this module.
pub fn rows(plan: Plan) -> Vec<Row> {
    let items = plan.sized(ITEMS, ITEMS / 100);
    let mut rows = Vec::new();
    for touched in [true, false] {
        let region = Region::create("tail", (items * 160).max(4 << 20), Mode::Evict);
        let kind = if touched { "touched" } else { "fresh" };
        if touched {
            touch(&region.cache);
        }
        let (sets, machine) = timed_sets(&region.cache, 3 * items, &[7; VALUE_BYTES]);
        let detail = format!("set {}; computing alone {}", sets.summary(), machine.summary());
        for (percent, target) in [(99.9, P999_MAX_US), (99.99, P9999_MAX_US)] {
            let name = format!("set 100 B to {items} keys and on, {kind} region: p{percent}");
            let measured = sets.percentile(percent) as f64 / 1e3;
            let relation = if touched { Relation::AtMost } else { Relation::Shown };
            let mut row = Row::of_count(&name, measured, relation, target, "us");
            row.detail = detail.clone();
            rows.push(row);
        }
        for (subject, latencies) in [("set", &sets), ("computing alone", &machine)] {
            rows.extend(percentile_rows(&format!("{subject}, {kind} region"), latencies));
        }
    }
    rows
}

/// Each percentile and the maximum as rows without a target, for tables and plots.
pub fn percentile_rows(series: &str, latencies: &Latencies) -> Vec<Row> {
    let row = |name: String, nanoseconds: u64, percent: f64| {
        Row::of_count(&format!("{series}: {name}"), nanoseconds as f64 / 1e3, Relation::Shown, 0.0, "us")
            .label("series", series)
            .label("percent", percent)
    };
    let percentiles =
        PERCENTS.iter().map(|percent| row(format!("p{percent}"), latencies.percentile(*percent), *percent));
    percentiles.chain([row("max".to_owned(), latencies.max(), 100.0)]).collect()
}

/// Times `count` sets of keys of their own, and beside them, in turns of a hundredth, as
/// many pieces of computing of about a set's length: what the machine alone would cost.
pub fn timed_sets(cache: &Cache, count: u64, value: &[u8]) -> (Latencies, Latencies) {
    let (mut sets, mut machine) = (Latencies::default(), Latencies::default());
    let turn = count / 100;
    for first in (0..count).step_by(turn as usize) {
        for index in first..first + turn {
            let started = Instant::now();
            cache.set(&key(index), value).expect("the region has room");
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
    (sets, machine)
}

/// Gives every page of this process's mapping of the region memory, without changing a byte.
fn touch(cache: &Cache) {
    let path = cache.path().expect("regions of benchmarks have names");
    let inode = fs::metadata(path).expect("the region has its file").ino().to_string();
    let maps = fs::read_to_string("/proc/self/maps").expect("the kernel lists this process's mappings");
    let mut touched = 0;
    // Addresses, permissions, offset, device, inode; the name is the one the file had when it was mapped.
    for line in maps.lines().filter(|line| line.split_whitespace().nth(4) == Some(&inode)) {
        let (start, rest) = line.split_once('-').expect("a mapping begins with its addresses");
        let (end, _) = rest.split_once(' ').expect("a mapping begins with its addresses");
        let address = |text| usize::from_str_radix(text, 16).expect("addresses are hexadecimal");
        let (start, bytes) = (address(start), address(end) - address(start));
        // SAFETY: the range is one mapping of this process, which stays while `cache` is
        // open; populating it gives pages memory and changes no byte of them.
        let done = unsafe { madvise(start as *mut c_void, bytes, Advice::LinuxPopulateWrite) };
        if done.is_ok() {
            touched += bytes as u64;
        }
    }
    let geometry = cache.geometry().expect("the region is open");
    assert!(touched >= geometry.region_bytes, "the kernel gave memory to {touched} bytes only");
}
