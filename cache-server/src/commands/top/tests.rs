//! What the view draws, and what keys do to it.

use std::time::Duration;

use cache_shm::Cache;

use super::view::{Pane, Sort};
use super::*;

fn region() -> Cache {
    Cache::builder(None).size(8 << 20).create().unwrap()
}

/// A view after two pictures a second apart, between which keys were stored and read.
fn used(cache: &Cache) -> View {
    let mut view = View::new("sessions", false);
    let users = cache.namespace(b"users").unwrap();
    users.set(b"k", b"v").unwrap();
    let before = Picture::take(cache).unwrap();
    for number in 0..3000u64 {
        cache.set(&number.to_le_bytes(), &[1; 200]).unwrap();
        users.get(b"k").unwrap();
    }
    let mut after = Picture::take(cache).unwrap();
    after.taken = before.taken + Duration::from_secs(1);
    view.update(before, None);
    view.update(after, Some(Latency { reads: 100, p50_ns: 1234, p99_ns: 5678 }));
    view
}

fn drawn(view: &View, size: (u16, u16)) -> String {
    text(view, size).unwrap().join("\n")
}

fn press(view: &mut View, code: KeyCode) -> bool {
    on_event(view, &Event::Key(code.into()))
}

#[test]
fn a_small_screen_leaves_no_segment_out() {
    let cache = region();
    let mut view = used(&cache);
    let mut picture = Picture::take(&cache).unwrap();
    let whole = picture.cells.iter().find(|cell| cell.age_ms.is_some()).unwrap().clone();
    // One in three is free: where neighbours share a place, most of them are not.
    let free =
        crate::observe::Cell { usage: cache_shm::SegmentUse::Free, live_bytes: 0, age_ms: None, ..whole.clone() };
    let mut free_places = |is_free: fn(u32) -> bool| {
        picture.cells = (0..9000).map(|index| if is_free(index) { free.clone() } else { whole.clone() }).collect();
        view.update(picture.clone(), None);
        drawn(&view, (80, 40)).matches('·').count()
    };
    assert_eq!(free_places(|index| index % 3 == 0), free_places(|_| false));
    assert!(free_places(|_| true) > free_places(|_| false));
}

#[test]
fn a_tall_screen_shows_everything() {
    let cache = region();
    let screen = drawn(&used(&cache), TEXT_SIZE);
    for part in [
        "sessions",
        "8.0M",
        "1 attached",
        "reads/s",
        "3,000",
        "100.00 %",
        "1,234 ns",
        "5,678 ns",
        "memory:",
        "main 0B",
        "[segments]",
        "namespaces",
        "users",
        "(no namespace)",
        "processes",
        "operations/s",
    ] {
        assert!(screen.contains(part), "{part}:\n{screen}");
    }
    assert!(screen.contains(&format!("{:>7}", std::process::id())), "{screen}");
    assert!(screen.contains("iii") && screen.contains('·') && screen.contains('#'), "{screen}");
}

#[test]
fn a_low_screen_shows_the_pane_that_was_chosen() {
    let cache = region();
    let mut view = used(&cache);
    let size = (80, 24);
    assert!(drawn(&view, size).contains("[segments]") && !drawn(&view, size).contains("users"));
    assert!(press(&mut view, KeyCode::Right));
    assert!(drawn(&view, size).contains("[namespaces]") && drawn(&view, size).contains("users"));
    assert!(press(&mut view, KeyCode::Right));
    assert!(drawn(&view, size).contains("[processes]"));
    assert!(press(&mut view, KeyCode::Left) && press(&mut view, KeyCode::Left));
    assert_eq!(view.pane, Pane::Segments);
}

#[test]
fn namespaces_are_sorted_by_what_was_chosen() {
    let cache = region();
    let mut view = used(&cache);
    view.pane = Pane::Namespaces;
    let order = |view: &View| {
        let screen = drawn(view, (80, 24));
        screen.find("users").unwrap() < screen.find("(no namespace)").unwrap()
    };
    assert!(order(&view), "by reads");
    press(&mut view, KeyCode::Down);
    press(&mut view, KeyCode::Down);
    assert_eq!(view.sort, Sort::Sets);
    assert!(!order(&view), "by sets");
    press(&mut view, KeyCode::Up);
    assert_eq!(view.sort, Sort::Hits);
}

#[test]
fn keys_pause_and_quit() {
    let cache = region();
    let mut view = used(&cache);
    assert!(press(&mut view, KeyCode::Char('p')) && view.is_paused);
    assert!(drawn(&view, (80, 24)).contains("PAUSED"));
    assert!(press(&mut view, KeyCode::Char('p')) && !view.is_paused);
    assert!(press(&mut view, KeyCode::Char('x')));
    assert!(!press(&mut view, KeyCode::Char('q')) && !press(&mut view, KeyCode::Esc));
    let control_c = event::KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    assert!(!on_event(&mut view, &Event::Key(control_c)));
}

#[test]
fn every_size_of_the_screen_is_drawn() {
    let cache = region();
    let mut view = used(&cache);
    for pane in 0..3 {
        view.pane = view.pane.step(pane);
        for width in [1, 2, 7, 40, 300] {
            for height in [1, 2, 3, 9, 12, 35, 36, 100] {
                drawn(&view, (width, height));
            }
        }
    }
}

#[test]
fn another_region_under_the_name_begins_anew_and_trouble_is_shown_beside_the_last_picture() {
    let cache = region();
    let mut view = used(&cache);
    assert!(view.rates.is_some());
    view.trouble = Some("there is no region sessions".to_owned());
    let screen = drawn(&view, (80, 24));
    assert!(screen.contains("there is no region") && screen.contains("reads/s"), "{screen}");
    view.update(Picture::take(&region()).unwrap(), None);
    assert!(view.rates.is_none() && view.trouble.is_none());
    assert!(drawn(&view, (80, 24)).contains("0 items"));
}
