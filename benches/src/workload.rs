//! Workloads: which keys are wanted how often, how long values are, how many reads there are.
//!
//! Owns: request streams, drawn before the clock starts, and the loop that serves them as
//! a cache is used: a get that misses is followed by a set. Must never: know who is
//! measured.

use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand_distr::{Distribution, LogNormal, Zipf};

use crate::measure::Stopwatch;
use crate::subjects::{Session, Subject, key};

/// Longest value of any workload.
pub const VALUE_BYTES_MAX: usize = 64 << 10;

/// Which keys are wanted.
#[derive(Debug, Clone, Copy)]
pub enum Keys {
    /// All equally often.
    Uniform,
    /// The n-th most wanted in proportion to n to the power of -0.99, as in YCSB.
    Zipf,
    /// One key nine times out of ten, the others equally often.
    Hot,
    /// Zipf, but every fifth thousand of requests walks over keys that are wanted only once.
    ScanPolluted,
}

/// How long values are. The mixes have the shape of CacheLib's published ones (Berg et al.:
/// The CacheLib caching engine, OSDI 2020): log-normal with long tails, cut at 64 KiB.
#[derive(Debug, Clone, Copy)]
pub enum Sizes {
    /// All alike.
    Fixed(usize),
    /// Nodes and edges of a graph: half below 64 B.
    Graph,
    /// Answers of a look-aside cache: half below 300 B, one in a hundred above 10 KiB.
    LookAside,
    /// Pieces of pages: half below 4 KiB.
    Content,
}

/// A way to use a cache.
#[derive(Debug, Clone, Copy)]
pub struct Workload {
    /// Which keys are wanted.
    pub keys: Keys,
    /// How long values are. A key's value keeps its length.
    pub sizes: Sizes,
    /// How many of a hundred requests read.
    pub read_percent: u8,
}

/// One request.
#[derive(Debug, Clone, Copy)]
pub struct Request {
    key_index: u32,
    value_bytes: u32,
    is_read: bool,
}

/// Requests in the order in which they are made.
pub struct Stream(Vec<Request>);

/// What serving a stream came to.
#[derive(Debug, Default, Clone, Copy)]
pub struct Outcome {
    /// Processor time of the thread.
    pub time: Duration,
    /// Gets made.
    pub gets: u64,
    /// Gets that found nothing.
    pub misses: u64,
    /// Sets made, those after a miss included.
    pub sets: u64,
}

impl Sizes {
    fn of_key(self, key_index: u32, seed: u64) -> u32 {
        let (median, sigma) = match self {
            Sizes::Fixed(bytes) => return bytes as u32,
            Sizes::Graph => (64.0, 1.0),
            Sizes::LookAside => (300.0, 1.5),
            Sizes::Content => (4096.0, 1.2),
        };
        let lengths = LogNormal::new(f64::ln(median), sigma).expect("the spread of a mix is positive");
        let length: f64 = lengths.sample(&mut StdRng::seed_from_u64(seed ^ u64::from(key_index)));
        length.clamp(1.0, VALUE_BYTES_MAX as f64) as u32
    }
}

impl Workload {
    /// `requests` requests for `keys` keys. The same seed makes the same stream.
    pub fn stream(&self, keys: u32, requests: usize, seed: u64) -> Stream {
        const WALK: usize = 1000;
        let mut random = StdRng::seed_from_u64(seed);
        let mut choice = fastrand::Rng::with_seed(seed);
        let zipf = Zipf::new(f64::from(keys), 0.99).expect("there are keys and the exponent is positive");
        let by_rank = |random: &mut StdRng| zipf.sample(random) as u32 - 1;
        // Each length is drawn once: a key's value does not change its length.
        let lengths: Vec<u32> = (0..keys).map(|index| self.sizes.of_key(index, seed)).collect();
        let mut fresh = keys;
        let mut request = |number: usize| {
            let key_index = match self.keys {
                Keys::Uniform => choice.u32(..keys),
                Keys::Hot if choice.u8(..10) > 0 => 0,
                Keys::Hot => choice.u32(..keys),
                Keys::ScanPolluted if number / WALK % 5 == 4 => {
                    fresh += 1;
                    fresh
                }
                Keys::Zipf | Keys::ScanPolluted => by_rank(&mut random),
            };
            let value_bytes = lengths[(key_index % keys) as usize];
            Request { key_index, value_bytes, is_read: choice.u8(..100) < self.read_percent }
        };
        Stream((0..requests).map(&mut request).collect())
    }
}

impl Stream {
    /// The same requests, as sets only: what fills a subject before it is measured.
    pub fn as_sets(&self) -> Stream {
        Stream(self.0.iter().map(|request| Request { is_read: false, ..*request }).collect())
    }

    /// The stream in pieces of `requests`.
    pub fn pieces(self, requests: usize) -> Vec<Stream> {
        self.0.chunks(requests).map(|chunk| Stream(chunk.to_vec())).collect()
    }

    /// Requests.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Bytes of keys and values if every key of the stream is held once.
    pub fn footprint_bytes(&self) -> u64 {
        let seen: std::collections::HashMap<u32, u32> =
            self.0.iter().map(|request| (request.key_index, request.value_bytes)).collect();
        seen.values().map(|bytes| u64::from(*bytes) + crate::subjects::KEY_BYTES as u64).sum()
    }
}

/// Serves a stream.
pub fn run<S: Subject>(subject: &S, stream: &Stream) -> Outcome {
    let payload = vec![0x5a; VALUE_BYTES_MAX];
    let mut out = vec![0; VALUE_BYTES_MAX];
    let mut outcome = Outcome::default();
    let mut session = subject.session();
    let started = Stopwatch::start();
    for request in &stream.0 {
        let key = key(u64::from(request.key_index));
        if request.is_read {
            outcome.gets += 1;
            let found = session.get(&key, &mut out);
            std::hint::black_box(&out);
            if found.is_some() {
                continue;
            }
            outcome.misses += 1;
        }
        outcome.sets += 1;
        session.set(&key, &payload[..request.value_bytes as usize]);
    }
    outcome.time = started.elapsed();
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(keys: Keys, sizes: Sizes) -> Vec<Request> {
        Workload { keys, sizes, read_percent: 95 }.stream(1000, 50_000, 7).0
    }

    fn share(requests: &[Request], wanted: impl Fn(&Request) -> bool) -> f64 {
        requests.iter().filter(|request| wanted(request)).count() as f64 / requests.len() as f64
    }

    #[test]
    fn the_same_seed_makes_the_same_stream() {
        let keys = |seed| {
            let stream = Workload { keys: Keys::Zipf, sizes: Sizes::Graph, read_percent: 50 }.stream(100, 100, seed);
            stream.0.iter().map(|request| (request.key_index, request.value_bytes, request.is_read)).collect::<Vec<_>>()
        };
        assert_eq!(keys(1), keys(1));
        assert_ne!(keys(1), keys(2));
    }

    #[test]
    fn popularities_are_as_named() {
        let first = |keys| share(&stream(keys, Sizes::Fixed(1)), |request| request.key_index == 0);
        assert!((first(Keys::Uniform) - 0.001).abs() < 0.001);
        assert!((first(Keys::Hot) - 0.9).abs() < 0.01);
        // One over the sum of n to the power of -0.99 for n to 1000.
        assert!((first(Keys::Zipf) - 0.130).abs() < 0.01);
        let beyond = share(&stream(Keys::ScanPolluted, Sizes::Fixed(1)), |request| request.key_index >= 1000);
        assert!((beyond - 0.2).abs() < 0.001);
    }

    #[test]
    fn reads_and_lengths_are_as_named() {
        let requests = stream(Keys::Uniform, Sizes::LookAside);
        assert!((share(&requests, |request| request.is_read) - 0.95).abs() < 0.01);
        assert!((share(&requests, |request| request.value_bytes <= 300) - 0.5).abs() < 0.05);
        assert!((share(&requests, |request| request.value_bytes > 10_240) - 0.01).abs() < 0.01);
    }
}
