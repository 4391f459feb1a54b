//! The replay loop on simulated caches, whose every answer is known.

use std::collections::HashMap;
use std::io::Write;

use super::simulators::{Lru, S3Fifo, Simulator};
use super::*;

/// A simulator in the place of the region.
struct Simulated<S> {
    simulator: S,
    capacity: u64,
    numbers: HashMap<Vec<u8>, u32>,
    stored: u64,
}

impl<S: Simulator> Simulated<S> {
    fn new(simulator: S, capacity: u64) -> Self {
        Simulated { simulator, capacity, numbers: HashMap::new(), stored: 0 }
    }
}

impl<S: Simulator> Subject for Simulated<S> {
    fn request(&mut self, key: &[u8], _: usize) -> Result<Answer> {
        let next = self.numbers.len() as u32;
        let number = *self.numbers.entry(key.to_vec()).or_insert(next);
        if self.simulator.request(number, 1) {
            return Ok(Answer::Hit);
        }
        self.stored += 1;
        Ok(Answer::Stored)
    }

    fn census(&mut self) -> Result<Census> {
        let live = self.stored.min(self.capacity);
        Ok(Census { live, evicted: self.stored - live })
    }
}

fn stream_of(text: &str) -> (tempfile::NamedTempFile, Stream) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    let stream = Stream {
        path: file.path().to_owned(),
        value_bytes: None,
        value_bytes_default: 10,
        requests_max: u64::MAX,
        stores_max: u64::MAX,
        remember: true,
    };
    (file, stream)
}

fn replay(text: &str, capacity: u64) -> Outcome {
    let (_file, stream) = stream_of(text);
    run(&stream, &mut Simulated::new(Lru::new(capacity), capacity), &mut |_| ()).unwrap()
}

#[test]
fn a_tiny_stream_is_counted_to_the_last_request() {
    let outcome = replay("a\nb\na\nc\nb\na\n", 2);
    assert_eq!((outcome.requests, outcome.hits, outcome.evicted), (6, 1, 3));
    assert_eq!(outcome.live_max, 2);
    assert_eq!(outcome.distinct, 3);
    assert_eq!(outcome.order, [0, 1, 0, 2, 1, 0]);
    assert_eq!(outcome.equal_bytes, Some(10));
    assert_eq!((outcome.request_bytes, outcome.hit_bytes), (60, 10));
    // The optimum keeps a when c comes: a, then either b or a again.
    assert_eq!(bound(&outcome).unwrap(), Some(2));
}

#[test]
fn sizes_of_the_trace_are_used_and_make_the_bound_say_nothing() {
    let outcome = replay("a 5\nb 6\na 5\n", 2);
    assert_eq!(outcome.equal_bytes, None);
    assert_eq!((outcome.request_bytes, outcome.hit_bytes), (16, 5));
    assert_eq!(bound(&outcome).unwrap(), None);
    assert_eq!(replay("a 5\nb 5\na 5\n", 2).equal_bytes, Some(5));
}

#[test]
fn an_empty_trace_has_no_requests_and_no_hits() {
    let outcome = replay("\n\n", 2);
    assert_eq!((outcome.requests, outcome.hits, outcome.live_max), (0, 0, 0));
    assert_eq!(outcome.hit_percent(), 0.0);
    assert_eq!(bound(&outcome).unwrap(), None);
}

#[test]
fn a_result_that_beats_the_bound_is_a_failure() {
    let mut outcome = replay("a\nb\na\nc\nb\na\n", 2);
    outcome.hits = 4;
    let failure = bound(&outcome).unwrap_err();
    assert!(failure.to_string().contains("beat Belady's bound of 33.33 % for 2 objects"), "{failure}");
    assert_eq!(failure.exit_code(), 2);
}

#[test]
fn a_limit_on_requests_or_stores_ends_the_replay() {
    let text: String = (0..20_000).map(|n| format!("{n}\n")).collect();
    let (_file, mut stream) = stream_of(&text);
    stream.requests_max = 5_000;
    let mut cache = Simulated::new(S3Fifo::new(100, 1), 100);
    assert_eq!(run(&stream, &mut cache, &mut |_| ()).unwrap().requests, 5_000);
    stream.requests_max = u64::MAX;
    stream.stores_max = 6_000;
    let mut cache = Simulated::new(S3Fifo::new(100, 1), 100);
    let requests = run(&stream, &mut cache, &mut |_| ()).unwrap().requests;
    assert!((6_000..6_000 + BATCH_COUNT as u64).contains(&requests), "{requests}");
}

#[test]
fn the_mean_of_live_objects_leaves_the_filling_out() {
    let text: String = (0..50_000).map(|n| format!("{n}\n")).collect();
    let outcome = replay(&text, 20_000);
    assert_eq!(outcome.live_mean, 20_000.0);
    assert!((20_000..=20_160).contains(&outcome.live_max), "{}", outcome.live_max);
    // Nothing was dropped: the mean is that of the filling.
    let outcome = replay(&text, 60_000);
    assert_eq!(outcome.live_max, 50_000);
    assert!(outcome.live_mean < 40_000.0, "{}", outcome.live_mean);
}

#[test]
fn progress_reaches_the_end_of_the_file() {
    let text: String = (0..10_000).map(|n| format!("{n}\n")).collect();
    let (_file, stream) = stream_of(&text);
    let mut last = None;
    run(&stream, &mut Simulated::new(Lru::new(10), 10), &mut |progress| last = Some(progress)).unwrap();
    let last = last.unwrap();
    assert_eq!(last.file, (Some(text.len() as u64), text.len() as u64));
    assert_eq!(last.requests, 10_000);
}
