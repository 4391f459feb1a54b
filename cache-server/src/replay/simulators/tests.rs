//! What holds for several of the policies.

use super::log::{MAIN, SMALL};
use super::*;
use crate::replay::belady;

fn stream(length: usize, objects: u64) -> Vec<u32> {
    let mut state = 0x2545_f491_4f6c_dd1du64;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            // The smaller of two draws: some objects are asked for more than others.
            (state % objects).min((state >> 32) % objects) as u32
        })
        .collect()
}

#[test]
fn lru_is_what_moving_to_the_front_of_a_list_gives() {
    let stream = stream(5_000, 100);
    let mut list: Vec<u32> = Vec::new();
    let mut expected = 0;
    for &object in &stream {
        if let Some(at) = list.iter().position(|&other| other == object) {
            list.remove(at);
            expected += 1;
        }
        list.insert(0, object);
        list.truncate(20);
    }
    assert_eq!(hits(&mut Lru::new(20), &stream), expected);
}

#[test]
fn no_policy_holds_more_than_its_capacity_or_beats_the_bound() {
    let stream = stream(20_000, 400);
    for capacity in [1, 2, 9, 40, 200, 399] {
        let bound = belady::hits(&stream, capacity);
        let mut textbook = S3Fifo::new(capacity, 1);
        assert!(hits(&mut textbook, &stream) <= bound);
        assert!(textbook.small_weight + textbook.main_weight <= capacity);
        let mut log = SegmentLog::new(capacity, 8);
        assert!(hits(&mut log, &stream) <= bound);
        assert!(log.live <= capacity as usize);
        assert_eq!(log.live, log.objects(SMALL) + log.objects(MAIN));
        for simulator in [&mut Lru::new(capacity) as &mut dyn Simulator, &mut Sieve::new(capacity)] {
            assert!(hits(simulator, &stream) <= bound);
        }
        let mut arc = Arc::new(capacity);
        assert!(hits(&mut arc, &stream) <= bound);
        assert!(arc.live() <= capacity);
    }
}

#[test]
fn by_bytes_no_policy_holds_more_than_its_capacity_and_a_weight_of_one_changes_nothing() {
    let stream = stream(20_000, 400);
    let bytes: Vec<u32> = stream.iter().map(|object| object % 90 + 1).collect();
    let ones = vec![1; stream.len()];
    // At 60, some objects never fit.
    for capacity in [60, 400, 4_000] {
        let mut lru = Lru::new(capacity);
        let mut textbook = S3Fifo::new(capacity, 1);
        let mut arc = Arc::new(capacity);
        let asked: [&mut dyn Simulator; 3] = [&mut lru, &mut textbook, &mut arc];
        for simulator in asked {
            let (hits, hit_bytes) = hits_of_bytes(simulator, &stream, &bytes);
            assert!(hits > 0 && hit_bytes >= hits);
        }
        assert!(lru.live <= capacity);
        assert!(textbook.small_weight + textbook.main_weight <= capacity);
        assert!(arc.live() <= capacity);
        let counted = hits(&mut Arc::new(capacity), &stream);
        assert_eq!(hits_of_bytes(&mut Arc::new(capacity), &stream, &ones), (counted, counted));
    }
}

#[test]
fn lru_and_s3_fifo_never_store_what_is_heavier_than_the_cache() {
    let simulators: [&mut dyn Simulator; 2] = [&mut Lru::new(10), &mut S3Fifo::new(10, 1)];
    for simulator in simulators {
        for (object, weight, hit) in [(1, 10, false), (2, 11, false), (2, 11, false), (1, 10, true)] {
            assert_eq!(simulator.request(object, weight), hit, "{object}");
        }
    }
}

#[test]
fn a_log_of_one_object_a_segment_is_textbook_s3_fifo_but_for_ghost_order() {
    let stream = stream(50_000, 3_000);
    let textbook = hits(&mut S3Fifo::new(300, 1), &stream) as f64;
    let log = hits(&mut SegmentLog::new(300, 300), &stream) as f64;
    assert!((textbook - log).abs() / stream.len() as f64 <= 0.003, "{textbook} {log}");
}

#[test]
fn an_object_used_in_small_survives_a_scan_and_an_unused_one_does_not() {
    let mut cache = S3Fifo::new(10, 1);
    assert!(!cache.request(0, 1));
    assert!(cache.request(0, 1));
    assert!(!cache.request(1, 1));
    for object in 100..130 {
        assert!(!cache.request(object, 1));
    }
    assert!(cache.request(0, 1));
    assert!(!cache.request(1, 1));
}
