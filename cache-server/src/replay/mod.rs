//! Replay of a request stream through a real region, and what it shows.
//!
//! Every request is a get; a miss stores the key. Owns: the loop, its clock, the count
//! of live objects, and the report. [`trace`] reads streams, [`region`] is the region
//! under test, [`calibrate`] finds the region that holds a wanted number of objects,
//! [`belady`], [`pfoo`] and [`simulators`] say what is possible and what a plain cache gets.
//!
//! Must never: count a hit whose value is not the one that was stored.

pub mod belady;
pub mod calibrate;
pub mod pfoo;
pub mod region;
pub mod simulators;
pub mod trace;

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::failure::{Failure, Result};
use trace::Trace;

/// Requests that are parsed before the clock starts on them.
const BATCH_COUNT: usize = 4096;

/// What a stream is replayed through.
pub trait Subject {
    /// Asks for `key` and stores a value of `value_bytes` if it is not there.
    ///
    /// # Errors
    /// The cache failed, or handed out a wrong value.
    fn request(&mut self, key: &[u8], value_bytes: usize) -> Result<Answer>;

    /// Live objects now, and objects dropped so far to make room.
    ///
    /// # Errors
    /// The cache failed.
    fn census(&mut self) -> Result<Census>;
}

/// What one request met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The value was there.
    Hit,
    /// It was not, and is now.
    Stored,
    /// It was not, and the value is too large to be stored.
    Refused,
}

/// A count of the objects in a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Census {
    /// Objects that a get would find.
    pub live: u64,
    /// Objects dropped for room since the start.
    pub evicted: u64,
}

/// Which requests are replayed, and with which values.
#[derive(Debug, Clone)]
pub struct Stream {
    /// The trace's file, or `-`.
    pub path: PathBuf,
    /// Bytes of every value, whatever the trace says; `None` = as the trace says.
    pub value_bytes: Option<u32>,
    /// Bytes of a value where neither says.
    pub value_bytes_default: u32,
    /// Stop after so many requests.
    pub requests_max: u64,
    /// Stop after so many stored values.
    pub stores_max: u64,
    /// Keep the stream's order (4 bytes a request), for Belady's bound.
    pub remember: bool,
}

/// What a replay measured.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// Requests.
    pub requests: u64,
    /// Requests that found their value.
    pub hits: u64,
    /// Requests whose value was too large to be stored.
    pub refused: u64,
    /// Bytes of all requested values.
    pub request_bytes: u64,
    /// Bytes of the values that were found.
    pub hit_bytes: u64,
    /// Time inside the cache; reading and counting excluded.
    pub busy: Duration,
    /// Mean number of live objects since the first one was dropped (of all samples, if
    /// none was).
    pub live_mean: f64,
    /// Largest number of live objects: the largest count, and every store since it.
    pub live_max: u64,
    /// Objects dropped for room.
    pub evicted: u64,
    /// Size of all values, if they are equal.
    pub equal_bytes: Option<u32>,
    /// Object numbers in order of request, if remembered.
    pub order: Vec<u32>,
    /// Different keys, if the order was remembered.
    pub distinct: u64,
}

impl Outcome {
    /// Hits in percent of requests.
    pub fn hit_percent(&self) -> f64 {
        percent(self.hits, self.requests)
    }

    /// Bytes of hits in percent of bytes requested.
    pub fn byte_hit_percent(&self) -> f64 {
        percent(self.hit_bytes, self.request_bytes)
    }

    /// Requests a second of time inside the cache.
    pub fn requests_per_second(&self) -> f64 {
        self.requests as f64 / self.busy.as_secs_f64().max(1e-9)
    }
}

/// `part` in percent of `whole`; 0 of nothing is 0.
pub fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { 100.0 * part as f64 / whole as f64 }
}

/// How far a replay got, for whoever shows it.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// Bytes of the file, where it has a length, and bytes read.
    pub file: (Option<u64>, u64),
    /// Requests so far.
    pub requests: u64,
    /// Hits so far.
    pub hits: u64,
}

/// Parsed requests: keys back to back, so that the timed loop allocates nothing.
#[derive(Default)]
struct Batch {
    keys: Vec<u8>,
    requests: Vec<(usize, u32)>,
}

impl Batch {
    fn fill(&mut self, trace: &mut Trace, stream: &Stream, requests_left: u64) -> Result<()> {
        self.keys.clear();
        self.requests.clear();
        let count = requests_left.min(BATCH_COUNT as u64);
        while (self.requests.len() as u64) < count {
            let Some(request) = trace.next_request()? else { break };
            let bytes = stream.value_bytes.or(request.value_bytes).unwrap_or(stream.value_bytes_default);
            self.keys.extend_from_slice(request.key);
            self.requests.push((self.keys.len(), bytes));
        }
        Ok(())
    }

    fn iter(&self) -> impl Iterator<Item = (&[u8], u32)> {
        let starts = std::iter::once(0).chain(self.requests.iter().map(|(end, _)| *end));
        starts.zip(&self.requests).map(|(start, (end, bytes))| (&self.keys[start..*end], *bytes))
    }
}

/// Numbers keys in the order of their first appearance.
#[derive(Default)]
struct Numbering {
    numbers: HashMap<Box<[u8]>, u32>,
}

impl Numbering {
    fn number(&mut self, key: &[u8]) -> Result<u32> {
        if let Some(&number) = self.numbers.get(key) {
            return Ok(number);
        }
        let number = u32::try_from(self.numbers.len())
            .map_err(|_| Failure::usage("the trace has more than 2^32 keys; replay it with --no-bound"))?;
        self.numbers.insert(key.into(), number);
        Ok(number)
    }
}

/// Counts live objects often enough to know their largest number to within 1 %.
#[derive(Default)]
struct Counter {
    sum: u128,
    samples: u64,
    last: Census,
    live_max: u64,
    stores_since: u64,
}

impl Counter {
    /// A count is due: so many stores may have added 1 % to the last one.
    fn due(&self) -> bool {
        self.stores_since > self.last.live / 128
    }

    fn sample(&mut self, census: Census) {
        if census.evicted > 0 && self.last.evicted == 0 {
            self.sum = 0;
            self.samples = 0;
        }
        // Nobody looked since the last count: all stores but the last may have come before
        // the first drop.
        let dropped = census.evicted - self.last.evicted;
        let unseen = self.last.live + self.stores_since.saturating_sub(1);
        let reached = unseen.min(census.live + dropped).max(census.live);
        self.live_max = self.live_max.max(reached);
        self.sum += u128::from(census.live);
        self.samples += 1;
        self.last = census;
        self.stores_since = 0;
    }
}

/// Replays `stream` through `subject`. `shown` is told now and then how far it got.
///
/// # Errors
/// The trace cannot be read, or the cache failed.
pub fn run(stream: &Stream, subject: &mut dyn Subject, shown: &mut dyn FnMut(Progress)) -> Result<Outcome> {
    let mut trace = Trace::open(&stream.path)?;
    let mut outcome = Outcome::default();
    let mut counter = Counter::default();
    let mut numbering = Numbering::default();
    let mut batch = Batch::default();
    let mut stores = 0;
    while stores < stream.stores_max {
        batch.fill(&mut trace, stream, stream.requests_max - outcome.requests)?;
        let Some(&(_, first_bytes)) = batch.requests.first() else { break };
        if stream.remember {
            for (key, _) in batch.iter() {
                outcome.order.push(numbering.number(key)?);
            }
        }
        if outcome.requests == 0 {
            outcome.equal_bytes = Some(first_bytes);
        }
        if batch.requests.iter().any(|(_, bytes)| Some(*bytes) != outcome.equal_bytes) {
            outcome.equal_bytes = None;
        }
        let mut clock = Instant::now();
        for (key, value_bytes) in batch.iter() {
            match subject.request(key, value_bytes as usize)? {
                Answer::Hit => {
                    outcome.hits += 1;
                    outcome.hit_bytes += u64::from(value_bytes);
                }
                Answer::Stored => {
                    stores += 1;
                    counter.stores_since += 1;
                    if counter.due() {
                        outcome.busy += clock.elapsed();
                        counter.sample(subject.census()?);
                        clock = Instant::now();
                    }
                }
                Answer::Refused => outcome.refused += 1,
            }
            outcome.requests += 1;
            outcome.request_bytes += u64::from(value_bytes);
        }
        outcome.busy += clock.elapsed();
        shown(Progress { file: trace.progress(), requests: outcome.requests, hits: outcome.hits });
    }
    counter.sample(subject.census()?);
    outcome.live_mean = counter.sum as f64 / counter.samples as f64;
    outcome.live_max = counter.live_max;
    outcome.evicted = counter.last.evicted;
    outcome.distinct = numbering.numbers.len() as u64;
    Ok(outcome)
}

/// Belady's bound for an outcome, in hits; `None` where it says nothing: values of
/// different sizes, or an order that was not remembered.
///
/// # Errors
/// The outcome beats the bound: the measurement or the cache is wrong.
pub fn bound(outcome: &Outcome) -> Result<Option<u64>> {
    if outcome.equal_bytes.is_none() || outcome.order.is_empty() {
        return Ok(None);
    }
    let bound = belady::hits(&outcome.order, outcome.live_max);
    if outcome.hits > bound {
        return Err(Failure::Measurement(format!(
            "the measured {:.2} % hits beat Belady's bound of {:.2} % for {} objects, which no cache can: the measurement is wrong; please report it with the trace",
            outcome.hit_percent(),
            percent(bound, outcome.requests),
            outcome.live_max
        )));
    }
    Ok(Some(bound))
}

#[cfg(test)]
mod tests;
