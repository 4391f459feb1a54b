//! What was foretold against what a region of that size did.

use std::path::Path;

use super::*;
use crate::replay::region::RegionSubject;
use crate::replay::trace::Trace;
use crate::replay::{Answer, Subject};

/// Farther than this from what happened is wrong, in points, beside twice the error that it names:
/// each region has a seed of its own, and chooses other keys by it.
const POINTS_MAX: f64 = 2.0;

/// Which of the requests a region of that size answers, and the region.
fn replay(keys: &[u32], value_bytes: usize, region_bytes: u64) -> (Vec<bool>, RegionSubject) {
    let mut region = RegionSubject::private(region_bytes).unwrap();
    let answers =
        keys.iter().map(|key| region.request(&key.to_le_bytes(), value_bytes).unwrap() == Answer::Hit).collect();
    (answers, region)
}

struct Row {
    advice: Advice,
    /// Hits in percent of the same reads at each factor; none where it was not tried.
    measured: [Option<f64>; FACTORS.len()],
}

/// Foretells from a region, and does it at the other sizes.
fn compare(keys: &[u32], value_bytes: usize, region_bytes: u64, factors: &[usize]) -> Row {
    let (_, region) = replay(keys, value_bytes, region_bytes);
    let stats = region.cache().stats().unwrap();
    let sample = region.cache().map().unwrap().sample().unwrap();
    let advice = advise(&sample, stats.live_bytes, stats.evictions > 0).unwrap();
    drop(region);
    let mut measured = [None; FACTORS.len()];
    for index in factors {
        let (answers, _) = replay(keys, value_bytes, (FACTORS[*index] * region_bytes as f64) as u64);
        let last = &answers[answers.len() - advice.gets as usize..];
        measured[*index] = Some(100.0 * last.iter().filter(|hit| **hit).count() as f64 / last.len() as f64);
    }
    Row { advice, measured }
}

impl Row {
    fn show(&self, name: &str) {
        let Advice { requests, keys, hit_percent, .. } = &self.advice;
        print!("| {name} | {requests} | {keys} | {hit_percent:.1}");
        for (point, measured) in self.advice.points.iter().zip(self.measured) {
            if let Some(measured) = measured {
                print!(" | {:.1} ± {:.1} | {measured:.1}", point.hit_percent, point.error_points);
            }
        }
        println!(" |");
    }

    fn assert_twice_is_close(&self, name: &str) {
        let (point, measured) = (self.advice.points[NOW + 1], self.measured[NOW + 1].unwrap());
        let off = point.hit_percent - measured;
        assert!(off.abs() <= POINTS_MAX + 2.0 * point.error_points, "{name}: {off:+.2} points, {point:?}");
    }
}

/// A stream by Zipf's law: the key of rank r is asked for in proportion to r^-skew.
fn zipf(keys: usize, skew: f64, requests: usize) -> Vec<u32> {
    let mut sums = Vec::with_capacity(keys);
    let mut sum = 0.0;
    for rank in 1..=keys {
        sum += (rank as f64).powf(-skew);
        sums.push(sum);
    }
    let mut state = 7u64;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1u64 << 53) as f64
    };
    (0..requests).map(|_| sums.partition_point(|below| *below < random() * sum) as u32).collect()
}

#[test]
fn twice_the_memory_does_what_was_foretold() {
    for (name, keys, skew, value_bytes) in [("Zipf 0.7", 800_000, 0.7, 1000), ("Zipf 0.9", 1_500_000, 0.9, 400)] {
        let row = compare(&zipf(keys, skew, 4_000_000), value_bytes, 128 << 20, &[1, 3]);
        row.show(name);
        row.assert_twice_is_close(name);
        assert!(row.advice.points.windows(2).all(|pair| pair[0].gain_points <= pair[1].gain_points + 0.5), "{name}");
    }
    if let Some(directory) = std::env::var_os("CACHE_SHM_TRACES") {
        compare_real_streams(Path::new(&directory));
    }
}

/// The same of the streams in `CACHE_SHM_TRACES`, where it names a directory, at a size that holds
/// about a tenth of their keys.
fn compare_real_streams(directory: &Path) {
    for (name, value_bytes, region_bytes) in [
        ("OLTP", 2000, 48u64 << 20),
        ("P3", 1500, 128 << 20),
        ("w106", 2000, 64 << 20),
        ("scarab-recs", 2000, 64 << 20),
    ] {
        let path = directory.join(format!("{name}.txt.zst"));
        let mut trace = Trace::open(&path).unwrap();
        let mut keys = Vec::new();
        while let Some(request) = trace.next_request().unwrap() {
            keys.push(std::str::from_utf8(request.key).unwrap().parse().unwrap());
        }
        let row = compare(&keys, value_bytes, region_bytes, &[1, 3]);
        row.show(name);
        row.assert_twice_is_close(name);
    }
}

fn sample(requests: Vec<Request>, gets: u64, misses: u64) -> Sample {
    let half = requests.len() / 2;
    Sample { one_in: 128, requests, marks: vec![(half, Reads { gets: 0, misses: 0 })], now: Reads { gets, misses } }
}

fn request(name: u32, what: What, seconds: u16) -> Request {
    Request { name, what, bytes: 100, ttl_ms: (what == What::Set).then_some(10_000), seconds: Some(seconds) }
}

#[test]
fn what_ends_by_its_time_is_not_helped_by_memory() {
    let mut requests = Vec::new();
    for round in 0..40u16 {
        for key in 0..100 {
            // Missed, stored, and over before it is asked for again.
            requests.push(request(key, What::Miss, 20 * round));
            requests.push(request(key, What::Set, 20 * round));
        }
    }
    let advice = advise(&sample(requests, 1 << 20, 1 << 19), 1_000_000, true).unwrap();
    assert!(advice.points.iter().all(|point| point.gain_points.abs() < 0.01), "{advice:?}");
}

#[test]
fn too_little_or_nonsense_is_refused_and_never_a_panic() {
    let few: Vec<Request> = (0..1000).map(|name| request(name, What::Hit, 0)).collect();
    assert_eq!(advise(&sample(few, 1000, 10), 1000, true), Err(TooFew { requests: 500 }));
    let many: Vec<Request> = (0..9000).map(|name| request(name % 7, What::Miss, name as u16)).collect();
    for (gets, misses) in [(0, 0), (5, 9)] {
        assert!(advise(&sample(many.clone(), gets, misses), 1000, true).is_err());
    }
    for live_bytes in [0, 1, u64::MAX] {
        let advice = advise(&sample(many.clone(), u64::MAX, 1), live_bytes, false).unwrap();
        assert!(advice.points.iter().all(|point| (0.0..=100.0).contains(&point.hit_percent)), "{advice:?}");
    }
    let unmarked = Sample { marks: vec![(usize::MAX, Reads::default())], ..sample(many, 10, 1) };
    drop(advise(&unmarked, 1000, true));
}
