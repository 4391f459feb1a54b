//! `processes`: who is shown, and with what.

use cache_shm::Cache;

use super::place::Place;

#[test]
fn who_is_attached_is_listed_with_what_it_holds() {
    let place = Place::with_region();
    assert_eq!(place.run(&["processes", "r"]).code, 1, "nobody is attached");
    let cache = Cache::builder(Some("r")).dir(place.path()).open().unwrap();
    cache.set(b"large", &vec![1; 30_000]).unwrap();
    let view = cache.view(b"large").unwrap().unwrap();
    let rows = place.run(&["processes", "r", "--json"]).done().json();
    assert_eq!(rows.as_array().unwrap().len(), 1, "who only looks is not one of them");
    let row = &rows[0];
    assert_eq!((&row["pid"], &row["alive"]), (&std::process::id().into(), &true.into()));
    assert_eq!((&row["read_pins"], &row["counters"]["sets"]), (&1.into(), &1.into()));
    assert!(row["command"].as_str().unwrap().contains("command"), "{row}");
    drop(view);
    let run = place.run(&["processes", "r"]).done();
    assert!(run.text().contains(&format!("{} ", std::process::id())) && run.text().contains("alive"), "{run:?}");
    place.run(&["processes", "gone", "--json"]).failed("missing");
}
