//! `verify` and `repair` on real regions that were damaged behind the cache's back.

use std::os::unix::fs::FileExt;

use cache_shm::Cache;

use super::place::Place;

fn open(place: &Place) -> Cache {
    Cache::builder(Some("r")).dir(place.path()).open().unwrap()
}

/// A region `r` with keys, and the offset of its first stripe that has a block.
fn filled(place: &Place, count: u64) -> u64 {
    let cache = open(place);
    for number in 0..count {
        cache.set(format!("key {number}").as_bytes(), &number.to_le_bytes()).unwrap();
    }
    cache.geometry().unwrap().stripes_offset
}

fn damage(place: &Place, offset: u64, word: u64) {
    let file = std::fs::OpenOptions::new().write(true).open(place.path().join("r")).unwrap();
    file.write_all_at(&word.to_le_bytes(), offset).unwrap();
}

#[test]
fn a_sound_region_is_clean_and_a_repair_finds_nothing() {
    let place = Place::with_region();
    filled(&place, 500);
    let run = place.run(&["verify", "r", "--json"]).done().json();
    assert_eq!((&run["clean"], &run["items"]), (&true.into(), &500.into()), "{run}");
    assert!(place.run(&["verify", "r"]).done().text().contains("contradictions  0"));
    assert!(place.run(&["repair", "r"]).done().text().starts_with("nothing to heal"));
    assert_eq!(place.run(&["verify", "r", "--json"]).done().json()["items"], 500);
}

#[test]
fn a_check_leaves_no_trace() {
    let place = Place::with_region();
    let stripes = filled(&place, 500);
    damage(&place, stripes + 128 + 8 * 3, 0x55);
    let before = std::fs::read(place.path().join("r")).unwrap();
    assert_eq!(place.run(&["verify", "r"]).code, 1);
    assert!(std::fs::read(place.path().join("r")).unwrap() == before);
}

#[test]
fn a_damaged_stripe_is_found_and_emptied_and_the_others_keep_their_keys() {
    let place = Place::with_region();
    let stripes = filled(&place, 500);
    damage(&place, stripes + 128 + 8 * 3, 0x55);
    let found = place.run(&["verify", "r", "--json"]);
    assert_eq!((found.code, found.json()["clean"].as_bool()), (1, Some(false)), "{found:?}");
    let found = place.run(&["verify", "r"]);
    assert!(found.code == 1 && found.text().contains("stripe 0: entry 3"), "{found:?}");

    let run = place.run(&["repair", "r", "--json"]);
    assert_eq!(run.code, 0, "{run:?}");
    assert_eq!(run.err, "cache-shm: r: stripe 0 could not be healed and was emptied\n");
    let healed = run.json();
    assert_eq!(healed["stripes_reset"], serde_json::json!([0]), "{healed}");
    let items = place.run(&["verify", "r", "--json"]).done().json()["items"].as_u64().unwrap();
    assert!((400..500).contains(&items), "{items} of 500 keys are left of 15 of 16 stripes");

    let cache = open(&place);
    for number in 0..500u64 {
        let key = format!("key {number}");
        if let Some(value) = cache.get(key.as_bytes()).unwrap() {
            assert_eq!(value, number.to_le_bytes());
        }
        cache.set(key.as_bytes(), b"again").unwrap();
        assert_eq!(cache.get(key.as_bytes()).unwrap().unwrap(), b"again");
    }
}

#[test]
fn a_repair_beside_other_processes_is_refused_without_yes() {
    let place = Place::with_region();
    filled(&place, 100);
    let cache = open(&place);
    let message = place.run(&["repair", "r", "--json"]).failed("invalid_argument");
    assert!(message.contains(&std::process::id().to_string()) && message.contains("--yes"), "{message}");
    place.run(&["repair", "r", "--yes"]).done();
    assert_eq!(cache.len().unwrap(), 100);
    drop(cache);
    place.run(&["repair", "r"]).done();
}

#[test]
fn a_region_that_is_not_there_is_an_error() {
    let place = Place::new();
    place.run(&["verify", "r", "--json"]).failed("missing");
    place.run(&["repair", "r", "--json"]).failed("missing");
}
