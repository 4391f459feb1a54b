//! `advise`: what it says, and when it says nothing.

use cache_shm::Cache;

use super::place::Place;

#[test]
fn a_region_that_was_used_has_a_curve_and_one_that_was_not_says_why_it_has_none() {
    let place = Place::new();
    for (name, bytes, reason) in [("small", 4 << 20, "keeps no sample"), ("r", 16 << 20, "too few requests")] {
        drop(Cache::builder(Some(name)).dir(place.path()).size(bytes).create().unwrap());
        let run = place.run(&["advise", name]);
        assert!(run.code == 1 && run.text().contains(reason) && run.err.is_empty(), "{run:?}");
        let answer = place.run(&["advise", name, "--json"]).json();
        assert_eq!((&answer["requests_min"], &answer["keys_min"]), (&1000.into(), &100.into()));
        assert_eq!(answer["points"], serde_json::json!([]));
    }
    drop(Cache::builder(Some("n")).dir(place.path()).size(16 << 20).mode(cache_shm::Mode::NoEvict).create().unwrap());
    let run = place.run(&["advise", "n"]);
    assert!(run.code == 1 && run.text().contains("no-evict") && !run.text().contains("needed"), "{run:?}");
    assert!(place.run(&["advise", "nothing", "--json"]).failed("missing").contains("nothing"));

    let cache = Cache::builder(Some("r")).dir(place.path()).open().unwrap();
    let mut state = 1u64;
    for _ in 0..600_000 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        // Two out of three keys fit.
        let key = ((state >> 33) % 30_000).to_le_bytes();
        if cache.get(&key).unwrap().is_none() {
            cache.set(&key, &[7; 700]).unwrap();
        }
    }
    let answer = place.run(&["advise", "r", "--json"]).done().json();
    let points = answer["points"].as_array().unwrap();
    assert_eq!(
        points.iter().map(|point| point["factor"].as_f64().unwrap()).collect::<Vec<_>>(),
        [0.25, 0.5, 1.0, 2.0, 4.0, 8.0]
    );
    assert_eq!((&points[2]["gain_points"], &points[3]["bytes"]), (&0.0.into(), &(32 << 20).into()));
    let [half, now, twice] = [1, 2, 3].map(|at| points[at]["hit_percent"].as_f64().unwrap());
    assert!(half < now - 5.0 && now < 90.0 && twice > now + 5.0, "{answer}");
    let text = place.run(&["advise", "r"]).done();
    assert!(text.text().contains("   2 x        32.0 MiB") && text.text().contains("as it is"), "{text:?}");
}
