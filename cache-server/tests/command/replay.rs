//! `replay` through a real region: what it counts, refuses, and promises.

use std::fmt::Write;

use super::place::Place;

/// Numbers from a seed, the same in each run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// A stream with popular keys, a middle field and scans.
fn mixed_stream(requests: u64) -> String {
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let mut text = String::new();
    let mut scanned = 0;
    for _ in 0..requests {
        let key = match dice.below(10) {
            0..=4 => dice.below(40).min(dice.below(600)),
            5..=8 => 1_000 + dice.below(3_000).min(dice.below(3_000)),
            _ => {
                scanned += 1;
                10_000 + scanned
            }
        };
        writeln!(text, "{key}").unwrap();
    }
    text
}

#[test]
fn a_tiny_stream_is_counted_to_the_last_request() {
    let place = Place::new();
    let trace = place.file("tiny.txt", b"a\nb\na\na\nc\nb\n");
    let found = place.run(&["replay", trace.to_str().unwrap(), "--region-size", "1MiB", "--json"]).done().json();
    for (name, expected) in [("requests", 6), ("hits", 3), ("live_objects_max", 3), ("evicted", 0), ("refused", 0)] {
        assert_eq!(found[name], expected, "{name}: {found}");
    }
    assert_eq!((&found["hit_percent"], &found["bound_percent"]), (&50.0.into(), &50.0.into()));
    assert_eq!(found["value_bytes"], 480);
    let text = place.run(&["replay", trace.to_str().unwrap(), "--region-size", "1MiB"]).done();
    for line in ["hit ratio              50.00 %", "requests               6", "Belady's bound         50.00 %"] {
        assert!(text.text().contains(line), "{}", text.text());
    }
}

#[test]
fn a_stream_from_standard_input_is_the_same_as_from_a_file() {
    let place = Place::new();
    let stream = mixed_stream(20_000);
    let trace = place.file("stream.txt", stream.as_bytes());
    let arguments = |trace| ["replay", trace, "--region-size", "1MiB", "--value-size", "900", "--json"];
    let from_file = place.run(&arguments(trace.to_str().unwrap())).done().json();
    let from_pipe = place.run_with(&arguments("-"), stream.as_bytes()).done().json();
    assert_eq!(from_file["requests"], 20_000);
    assert_eq!(from_pipe["requests"], 20_000);
    assert!(from_file["evicted"].as_u64().unwrap() > 0, "{from_file}");
}

#[test]
fn sizes_of_the_trace_are_stored_and_too_large_ones_are_counted() {
    let place = Place::new();
    let trace = place.file("sized.txt", b"a 100\nb 200000\na 100\nb 200000\nc 900000\nc 900000\n");
    let found = place.run(&["replay", trace.to_str().unwrap(), "--region-size", "1MiB", "--json"]).done().json();
    assert_eq!((&found["hits"], &found["refused"]), (&2.into(), &2.into()), "{found}");
    assert!(found["bound_percent"].is_null() && found["value_bytes"].is_null());
    let equal = place.run(&["replay", trace.to_str().unwrap(), "--value-size", "1KiB", "--json"]).done().json();
    assert_eq!((&equal["hits"], &equal["value_bytes"]), (&3.into(), &1024.into()));
}

#[test]
fn a_wanted_number_of_objects_is_reached_and_s3_fifo_s_hit_ratio_with_it() {
    let place = Place::new();
    let trace = place.file("mixed.txt", mixed_stream(200_000).as_bytes());
    let arguments = ["replay", trace.to_str().unwrap(), "--objects", "1000", "--compare", "--json"];
    let found = place.run(&arguments).done().json();
    let number = |name: &str| found[name].as_f64().unwrap();
    assert!((number("live_objects_mean") / 1000.0 - 1.0).abs() < 0.01, "{found}");
    // The share of the small queue follows the stream: it may be better.
    assert!(number("hit_percent") > number("s3fifo_percent") - 0.6, "{found}");
    assert!(number("hit_percent") <= number("bound_percent"), "{found}");
    assert!(number("lru_percent") <= number("bound_percent"), "{found}");
}

/// In a recorded stream the object "27" had 3,583 bytes when it was stored and 3,603 when
/// it was asked for again; the replay took the hit for a wrong value.
#[test]
fn an_object_whose_size_changes_in_the_trace_is_still_a_hit() {
    let place = Place::new();
    let trace = place.file("changing.txt", b"27 3583\n27 3603\n27 5\n27 0\n28 3\n28 9\n");
    let found = place.run(&["replay", trace.to_str().unwrap(), "--region-size", "1MiB", "--json"]).done().json();
    assert_eq!((&found["requests"], &found["hits"]), (&6.into(), &4.into()), "{found}");
}

/// Items of 1.5 KB fill three quarters of a segment of 4 KiB. The region was never full
/// enough to evict by what lives in it, compaction gained nothing, and a set failed.
#[test]
fn values_that_fill_their_segments_badly_are_evicted_and_never_refused() {
    let place = Place::new();
    let trace = place.file("mixed.txt", mixed_stream(20_000).as_bytes());
    for value_size in ["1500", "2100", "3000", "4000", "5000"] {
        let arguments =
            ["replay", trace.to_str().unwrap(), "--region-size", "1MiB", "--value-size", value_size, "--json"];
        let found = place.run(&arguments).done().json();
        assert_eq!((&found["requests"], &found["refused"]), (&20_000.into(), &0.into()), "{found}");
        assert!(found["evicted"].as_u64().unwrap() > 0, "{found}");
    }
}

#[test]
fn objects_that_cannot_be_aimed_at_are_refused() {
    let place = Place::new();
    let trace = place.file("tiny.txt", b"a\n");
    let trace = trace.to_str().unwrap();
    for (arguments, expected) in [
        (vec!["replay", trace, "--objects", "10"], "too few"),
        (vec!["replay", "-", "--objects", "1000"], "several times"),
        (vec!["replay", trace, "--objects", "1000", "--value-size", "10"], "do not fill"),
        (vec!["replay", trace, "--objects", "1000", "--region-size", "1MiB"], "cannot be used with"),
        (vec!["replay", trace, "--value-size", "8GiB"], "not a value size"),
    ] {
        let arguments: Vec<&str> = arguments.into_iter().chain(["--json"]).collect();
        let message = place.run(&arguments).failed("invalid_argument");
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn a_bad_trace_is_an_error_that_names_the_line() {
    let place = Place::new();
    let trace = place.file("bad.txt", b"a\nb 1 2\n");
    let message = place.run(&["replay", trace.to_str().unwrap(), "--json"]).failed("invalid_argument");
    assert!(message.contains("line 2 of ") && message.contains("bad.txt"), "{message}");
    let message = place.run(&["replay", "/no/such/trace", "--json"]).failed("io");
    assert!(message.contains("/no/such/trace"), "{message}");
    place.run(&["replay", place.path().to_str().unwrap(), "--json"]).failed("io");
    place.run(&["replay", trace.to_str().unwrap(), "--region-size", "10", "--json"]).failed("invalid_size");
}

#[test]
fn a_replay_leaves_no_region_behind() {
    let place = Place::new();
    let trace = place.file("tiny.txt", b"a\nb\na\n");
    place.run(&["replay", trace.to_str().unwrap()]).done();
    assert!(place.run(&["list", "--json"]).done().json().as_array().unwrap().is_empty());
    assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 1);
}
