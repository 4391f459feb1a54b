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
    let advice = advise(&sample, Room::of(&stats)).unwrap();
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

    fn assert_is_close(&self, name: &str) {
        for (point, measured) in self.advice.points.iter().zip(self.measured) {
            let off = point.hit_percent - measured.unwrap_or(point.hit_percent);
            assert!(off.abs() <= POINTS_MAX + 2.0 * point.error_points, "{name}: {off:+.2} points, {point:?}");
        }
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
    let ranks = (0..requests).map(|_| {
        let at = random() * sum;
        sums.partition_point(|below| *below < at) as u32
    });
    ranks.collect()
}

#[test]
fn half_and_twice_the_memory_do_what_was_foretold() {
    for (name, keys, skew, value_bytes) in [("Zipf 0.7", 800_000, 0.7, 1000), ("Zipf 0.9", 1_500_000, 0.9, 400)] {
        let row = compare(&zipf(keys, skew, 4_000_000), value_bytes, 128 << 20, &[1, 3]);
        row.show(name);
        row.assert_is_close(name);
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
        row.assert_is_close(name);
    }
}

#[test]
fn a_region_that_is_not_full_is_told_what_its_size_holds() {
    // 4 of 64 MiB are used: a quarter of it holds everything as well. The size now is not what
    // the region happens to hold.
    let row = compare(&zipf(100_000, 0.3, 2_000_000), 20, 64 << 20, &[0]);
    let [quarter, now] = [0, NOW].map(|index| row.advice.points[index]);
    assert!((quarter.hit_percent - row.measured[0].unwrap()).abs() < 0.1, "{:?}", row.advice);
    assert!(quarter.hit_percent > 99.0 && now.hit_percent > 99.0, "{:?}", row.advice);
    // Half of it is used: a quarter of it evicts.
    let row = compare(&zipf(60_000, 0.7, 3_000_000), 500, 64 << 20, &[0, 1, 3]);
    row.show("half full");
    row.assert_is_close("half full");
    assert!(row.measured[0].unwrap() < 95.0 && row.advice.points[3].hit_percent > 99.0, "{:?}", row.advice);
}

fn sample(requests: Vec<Request>, gets: u64, misses: u64) -> Sample {
    let half = requests.len() / 2;
    Sample { one_in: 128, requests, marks: vec![(half, Reads { gets: 0, misses: 0 })], now: Reads { gets, misses } }
}

/// Room for so many bytes, and not for more.
fn full(item_bytes: u64) -> Room {
    Room { item_bytes, is_full: true }
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
    let advice = advise(&sample(requests, 1 << 20, 1 << 19), full(1_000_000)).unwrap();
    assert!(advice.points.iter().all(|point| point.gain_points.abs() < 0.01), "{advice:?}");
}

#[test]
fn too_little_or_nonsense_is_refused_and_never_a_panic() {
    let few: Vec<Request> = (0..1000).map(|name| request(name, What::Hit, 0)).collect();
    assert_eq!(advise(&sample(few, 1000, 10), full(1000)), Err(TooFew { requests: 500, keys: 500 }));
    let of_keys =
        |keys| (0..9000u32).map(|name| request(name % keys, What::Miss, name as u16)).collect::<Vec<Request>>();
    // Whether those few keys were lucky says nothing of the others.
    let narrow = advise(&sample(of_keys(99), u64::MAX, 1), full(1000));
    assert_eq!(narrow, Err(TooFew { requests: 4500, keys: 99 }));
    let many = of_keys(101);
    for (gets, misses) in [(0, 0), (5, 9)] {
        assert!(advise(&sample(many.clone(), gets, misses), full(1000)).is_err());
    }
    for item_bytes in [0, 1, u64::MAX] {
        let room = Room { item_bytes, is_full: false };
        let advice = advise(&sample(many.clone(), u64::MAX, 1), room).unwrap();
        for Point { hit_percent, gain_points, range_points: [low, high], .. } in advice.points {
            assert!((0.0..=100.0).contains(&hit_percent) && low <= gain_points && gain_points <= high, "{advice:?}");
            let [least, most] = [low, high].map(|gain| advice.hit_percent + gain);
            assert!(least > -1e-9 && most < 100.0 + 1e-9, "{advice:?}");
        }
    }
    let unmarked = Sample { marks: vec![(usize::MAX, Reads::default())], ..sample(many, 10, 1) };
    drop(advise(&unmarked, full(1000)));
}
