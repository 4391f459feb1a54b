//! What another size of a region would do, from the sample of requests that the region keeps.
//!
//! Owns: the replay of a sample through small caches of the policy at several sizes, and the
//! error of what comes out. The requests of one key in many behave, in a cache as many times
//! smaller, as all requests do in the whole one (C. Waldspurger et al., "Cache modeling and
//! optimization using miniature simulations", ATC '17). Only differences to the simulated cache of
//! the size that there is are believed: they are added to the hit ratio that was measured, and
//! misses are counted against the reads of all keys, so that it does not matter whether the most
//! wanted keys happen to be in the sample ("SHARDS-adj", FAST '15).
//!
//! Must never: believe the sample. Any numbers give an answer or a refusal.

use std::collections::HashMap;

use cache_shm::{Reads, Request, Sample, Stats, What};

use crate::replay::simulators::S3Fifo;

/// Sizes that are tried, as parts of the size that there is.
pub const FACTORS: [f64; 6] = [0.25, 0.5, 1.0, 2.0, 4.0, 8.0];
/// Which of them is the size that there is.
const NOW: usize = 2;
/// Fewer counted requests than this say nothing.
pub const REQUESTS_MIN: usize = 1000;
/// By fewer keys than this nothing can be said of all the others.
pub const KEYS_MIN: usize = 100;
/// Ways to halve the sample; each is by another bit of the hash.
const HALVINGS: u32 = 8;
const HALVING_BIT: u32 = 20;
/// A simulated cache is full from this part of its capacity on.
const FULL: f64 = 0.9;
/// A region that evicts has no more free than this part of it, and no more dead.
const FREE_MAX: f64 = 0.05;
const DEAD_MAX: f64 = 1.0 / 3.0;
/// Of the bytes of segments that hold no index, the part that is live where a region evicts.
const LIVE: f64 = 0.97;
/// Bytes of the index for each item of a region that is full.
const INDEX_ITEM_BYTES: f64 = 21.0;

/// What a size would do.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// The size, as a part of the size that there is.
    pub factor: f64,
    /// Hits in percent of reads.
    pub hit_percent: f64,
    /// Points of hit ratio more than now.
    pub gain_points: f64,
    /// Standard error of the gain, in points: of the choice of keys alone.
    pub error_points: f64,
    /// The gain less and plus its error, as far as hit ratios go.
    pub range_points: [f64; 2],
    /// The gain is at least this: the sample is too short to fill a cache of that size.
    pub at_least: bool,
}

/// A curve, and what it is drawn from.
#[derive(Debug, Clone, PartialEq)]
pub struct Advice {
    /// Reads of all keys that were counted.
    pub gets: u64,
    /// Hits in percent of these.
    pub hit_percent: f64,
    /// Requests of the sample that were counted, and keys that they were for.
    pub requests: usize,
    /// Different keys among them.
    pub keys: usize,
    /// For each of [`FACTORS`].
    pub points: [Point; FACTORS.len()],
}

/// Why there is no curve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooFew {
    /// Requests that could be counted.
    pub requests: usize,
    /// Different keys among them.
    pub keys: usize,
}

/// What a region holds when it is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Bytes of items, their headers and keys included.
    pub item_bytes: u64,
    /// It is full, and drops items to make room.
    pub is_full: bool,
}

impl Room {
    /// That of the region with these numbers. Where it evicts, that is what it holds; else as many items
    /// of the mean size as its segments have room for, with their index.
    pub fn of(stats: &Stats) -> Room {
        let all = stats.segments as f64 * stats.segment_bytes as f64;
        let is_full = stats.evictions > 0
            && stats.free_bytes as f64 <= FREE_MAX * all
            && stats.dead_bytes as f64 <= DEAD_MAX * all;
        if is_full {
            return Room { item_bytes: stats.live_bytes, is_full };
        }
        let mean = if stats.items > 0 { stats.live_bytes as f64 / stats.items as f64 } else { f64::INFINITY };
        let share = if mean.is_finite() { mean / (mean + INDEX_ITEM_BYTES) } else { 1.0 };
        Room { item_bytes: ((LIVE * share * all) as u64).max(stats.live_bytes), is_full }
    }
}

/// One request, as the simulations want it.
struct Step {
    key: u32,
    name: u32,
    what: What,
    bytes: u64,
    /// It is the first of its key.
    is_first: bool,
    /// By what is recorded, its value was over or deleted.
    is_over: bool,
}

/// What one simulation counted.
#[derive(Clone, Copy, Default)]
struct Counted {
    misses: f64,
    /// The cache was full when counting began.
    was_full: bool,
}

/// The curve of a region with that room.
///
/// # Errors
/// Too few requests are recorded, or requests for too few keys.
pub fn advise(sample: &Sample, room: Room) -> Result<Advice, TooFew> {
    // The first half fills the caches.
    let half = sample.requests.len() / 2;
    let mark = sample
        .marks
        .iter()
        .min_by_key(|(at, _)| at.abs_diff(half))
        .filter(|(at, _)| (half / 2..=sample.requests.len()).contains(at));
    let (from, before) = mark.copied().unwrap_or((sample.requests.len(), sample.now));
    let is_sound = |now: Reads, was: Reads| {
        now.gets > was.gets && now.misses >= was.misses && now.misses - was.misses <= now.gets - was.gets
    };
    let requests = sample.requests.len() - from;
    let mut names: Vec<u32> = sample.requests[from..].iter().map(|request| request.name).collect();
    names.sort_unstable();
    names.dedup();
    let keys = names.len();
    if requests < REQUESTS_MIN || keys < KEYS_MIN || !is_sound(sample.now, before) {
        return Err(TooFew { requests, keys });
    }
    let steps = steps(&sample.requests);
    let gets = sample.now.gets - before.gets;
    let measured = 1.0 - (sample.now.misses - before.misses) as f64 / gets as f64;
    let capacity = room.item_bytes as f64 / sample.one_in.max(1) as f64;
    // Points of hit ratio of one miss of the sample.
    let worth = sample.one_in as f64 / gets as f64;
    let possible = |gain: f64| gain.clamp(-measured, 1.0 - measured);
    let all = FACTORS.map(|factor| simulate(&steps, from, factor * capacity, factor >= 1.0, |_| true));
    let mut squares = [0.0; FACTORS.len()];
    for bit in HALVING_BIT..HALVING_BIT + HALVINGS {
        let halves = [0, 1].map(|side| {
            let is_mine = |name: u32| name >> bit & 1 == side;
            FACTORS.map(|factor| simulate(&steps, from, factor * capacity / 2.0, factor >= 1.0, is_mine))
        });
        for (index, sum) in squares.iter_mut().enumerate() {
            let [one, other] = [0, 1].map(|side| possible(gain(&halves[side], index) * 2.0 * worth));
            *sum += ((one - other) / 2.0).powi(2);
        }
    }
    let points = std::array::from_fn(|index| {
        let gain = possible(gain(&all, index) * worth);
        let error = (squares[index] / f64::from(HALVINGS)).sqrt();
        Point {
            factor: FACTORS[index],
            // The sum of a part and the rest of it need not be one.
            hit_percent: 100.0 * (measured + gain).clamp(0.0, 1.0),
            gain_points: 100.0 * gain,
            error_points: 100.0 * error,
            range_points: [gain - error, gain + error].map(|gain| 100.0 * possible(gain)),
            at_least: index > NOW && room.is_full && !all[index].was_full && measured + gain < 1.0,
        }
    });
    Ok(Advice { gets, hit_percent: 100.0 * measured, requests, keys, points })
}

/// Misses fewer than now.
fn gain(counted: &[Counted; FACTORS.len()], index: usize) -> f64 {
    counted[NOW].misses - counted[index].misses
}

/// The requests, with the sizes that their keys have before or after, and what their values'
/// times to live have come to.
fn steps(requests: &[Request]) -> Vec<Step> {
    let mut numbers: HashMap<u32, u32> = HashMap::new();
    let mut sizes: Vec<u64> = Vec::new();
    let keys: Vec<(u32, bool)> = requests
        .iter()
        .map(|request| {
            let next = numbers.len() as u32;
            let key = *numbers.entry(request.name).or_insert(next);
            let is_first = key == next;
            if is_first {
                sizes.push(0);
            }
            let size = &mut sizes[key as usize];
            *size = if *size == 0 { request.bytes } else { *size };
            (key, is_first)
        })
        .collect();
    let known: Vec<u64> = sizes.iter().copied().filter(|size| *size > 0).collect();
    let mean = known.iter().sum::<u64>() / (known.len() as u64).max(1);
    sizes.iter_mut().for_each(|size| *size = if *size == 0 { mean.max(1) } else { *size });
    // When the value of each key is over, in milliseconds.
    let mut ends: Vec<Option<u64>> = vec![None; sizes.len()];
    let (mut now_s, mut before) = (0u64, requests.iter().find_map(|request| request.seconds).unwrap_or(0));
    let step = |(request, (key, is_first)): (&Request, (u32, bool))| {
        let seconds = request.seconds.unwrap_or(before);
        let passed = seconds.wrapping_sub(before);
        // Two processes may write in the other order.
        if passed < u16::MAX / 2 {
            (now_s, before) = (now_s + u64::from(passed), seconds);
        }
        let (size, end) = (&mut sizes[key as usize], &mut ends[key as usize]);
        if request.bytes > 0 {
            *size = request.bytes;
        }
        let is_over = request.what == What::Miss && end.is_some_and(|end| now_s * 1000 >= end);
        match request.what {
            What::Set => *end = request.ttl_ms.map(|ttl_ms| now_s * 1000 + ttl_ms),
            What::Delete => *end = Some(0),
            // It lives, whatever was thought.
            What::Hit => *end = end.filter(|end| now_s * 1000 < *end),
            What::Miss => {}
        }
        Step { key, name: request.name, what: request.what, bytes: *size, is_first, is_over }
    };
    requests.iter().zip(keys).map(step).collect()
}

/// Runs the steps of the keys that are `mine` through a cache of that capacity and counts the
/// misses `from` a step on. `is_warm`: what the region found at the beginning, this cache had too; else
/// it had as much of that as it has of what the region found again.
fn simulate(steps: &[Step], from: usize, capacity: f64, is_warm: bool, is_mine: impl Fn(u32) -> bool) -> Counted {
    let capacity = capacity.max(1.0) as u64;
    let mut cache = S3Fifo::new(capacity, 1);
    let mut was_full = false;
    // Misses of what the region missed, what it found first and again, and how much of the latter is
    // missed here.
    let (mut misses, mut firsts, mut again, mut lost) = (0u64, 0u64, 0u64, 0u64);
    for (at, step) in steps.iter().enumerate() {
        if at == from {
            was_full = cache.weight() as f64 >= FULL * capacity as f64;
        }
        if !is_mine(step.name) {
            continue;
        }
        let counts = u64::from(at >= from);
        match step.what {
            What::Set => cache.store(step.key, step.bytes),
            What::Delete => {}
            // Nobody could have it, whatever its size.
            What::Miss if step.is_over => misses += counts,
            // Whoever missed it stores it, and that is recorded as well.
            What::Miss => misses += counts * u64::from(!cache.find(step.key)),
            // Here, where it was missed, it is stored at once.
            What::Hit => {
                let is_there = cache.find(step.key);
                if !is_there {
                    cache.store(step.key, step.bytes);
                }
                if step.is_first {
                    firsts += counts;
                } else {
                    again += counts;
                    lost += counts * u64::from(!is_there);
                }
            }
        }
    }
    let unknown = if is_warm { 0.0 } else { firsts as f64 * lost as f64 / again.max(1) as f64 };
    Counted { misses: (misses + lost) as f64 + unknown, was_full }
}

#[cfg(test)]
mod tests;
