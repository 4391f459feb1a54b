//! Regions destroyed, unlinked or replaced while attached.

use std::time::Duration;

use cache_shm::{Cache, Clock, Error, Mode};

use crate::support::Dir;

fn gone(dir: &Dir, name: &str) -> Error {
    Error::Gone { path: dir.file(name) }
}

#[test]
fn a_destroyed_region_is_gone_on_the_next_write_and_the_handle_attaches_anew() {
    let dir = Dir::new();
    let cache = dir.region("a").size(1 << 20).open_or_create().unwrap();
    cache.set(b"k", b"old").unwrap();
    Cache::destroy_name("a", Some(dir.path())).unwrap();
    assert_eq!(dir.names(), Vec::<String>::new());
    assert_eq!(cache.set(b"k", b"new").unwrap_err(), gone(&dir, "a"));
    cache.set(b"k", b"new").unwrap();
    assert_eq!(dir.names(), ["a"], "made anew by the handle that may");
    assert_eq!(cache.get(b"k").unwrap().as_deref(), Some(&b"new"[..]));
    let other = dir.region("a").open().unwrap();
    assert_eq!(other.get(b"k").unwrap().as_deref(), Some(&b"new"[..]));
}

/// A handle that had found a region of 2 MiB that refuses made one of 256 MiB that evicts, shared
/// with nobody, when that was destroyed: it knew what it had been asked for and no more.
#[test]
fn a_region_that_takes_the_place_of_another_has_its_properties() {
    let dir = Dir::new();
    drop(dir.region("a").size(2 << 20).mode(Mode::NoEvict).file_mode(0o660).create().unwrap());
    let (plain, larger) = (dir.region("a").open_or_create().unwrap(), dir.region("a").size(3 << 20));
    let made_by = |cache: &Cache| {
        assert!(matches!(cache.set(b"k", b"v"), Err(Error::Gone { .. })));
        cache.set(b"k", b"v").unwrap();
        let geometry = cache.geometry().unwrap();
        let mode = rustix::fs::stat(dir.file("a")).unwrap().st_mode & 0o777;
        (geometry.region_bytes, geometry.mode, mode)
    };
    plain.destroy().unwrap();
    assert_eq!(made_by(&plain), (2 << 20, Mode::NoEvict, 0o660));
    let larger = larger.open_or_create().unwrap();
    larger.destroy().unwrap();
    assert_eq!(made_by(&larger), (3 << 20, Mode::NoEvict, 0o660), "it has the size that was asked for");
}

#[test]
fn destroying_through_a_handle_leaves_views_valid() {
    let dir = Dir::new();
    let cache = dir.region("a").size(1 << 20).create().unwrap();
    let value = vec![9; 100_000];
    cache.set(b"k", &value).unwrap();
    let view = cache.view(b"k").unwrap().unwrap();
    cache.destroy().unwrap();
    assert_eq!(cache.set(b"k", b"new").unwrap_err(), gone(&dir, "a"));
    cache.set(b"k", b"new").unwrap();
    assert_eq!(*view, *value);
    drop(cache);
    assert_eq!(*view, *value);
}

#[test]
fn a_handle_that_may_not_attach_anew_stays_with_the_old_region() {
    let dir = Dir::new();
    let cache = dir.region("a").size(1 << 20).reattach(false).create().unwrap();
    cache.set(b"k", b"old").unwrap();
    Cache::destroy_name("a", Some(dir.path())).unwrap();
    let _new = dir.region("a").size(1 << 20).create().unwrap();
    for _ in 0..3 {
        assert_eq!(cache.set(b"k", b"new").unwrap_err(), gone(&dir, "a"));
        assert_eq!(cache.get(b"k").unwrap().as_deref(), Some(&b"old"[..]));
    }
}

#[test]
fn a_handle_that_only_opens_waits_for_somebody_to_make_the_region() {
    let dir = Dir::new();
    let _maker = dir.region("a").size(1 << 20).create().unwrap();
    let cache = dir.region("a").open().unwrap();
    Cache::destroy_name("a", Some(dir.path())).unwrap();
    for _ in 0..3 {
        assert_eq!(cache.set(b"k", b"v").unwrap_err(), gone(&dir, "a"));
    }
    let _new = dir.region("a").size(1 << 20).create().unwrap();
    cache.set(b"k", b"v").unwrap();
}

#[test]
fn a_file_that_was_unlinked_or_replaced_by_others_is_noticed_within_a_second() {
    let dir = Dir::new();
    for replace in [false, true] {
        let name = if replace { "replaced" } else { "unlinked" };
        let clock = Clock::manual(1_000_000);
        let cache = dir.region(name).size(1 << 20).clock(clock.clone()).open_or_create().unwrap();
        cache.set(b"k", b"old").unwrap();
        if replace {
            drop(dir.region("other").size(1 << 20).create().unwrap());
            std::fs::rename(dir.file("other"), dir.file(name)).unwrap();
        } else {
            std::fs::remove_file(dir.file(name)).unwrap();
        }
        clock.advance(Duration::from_millis(1000));
        assert_eq!(cache.set(b"k", b"new").unwrap_err(), gone(&dir, name));
        cache.set(b"k", b"new").unwrap();
        assert_eq!(dir.region(name).open().unwrap().get(b"k").unwrap().as_deref(), Some(&b"new"[..]));
    }
}

#[test]
fn a_reader_notices_too() {
    let dir = Dir::new();
    let clock = Clock::manual(1_000_000);
    let maker = dir.region("a").size(1 << 20).create().unwrap();
    maker.set(b"k", b"old").unwrap();
    let reader = dir.region("a").read_only(true).clock(clock.clone()).open().unwrap();
    assert_eq!(reader.get(b"k").unwrap().as_deref(), Some(&b"old"[..]));
    maker.destroy().unwrap();
    assert_eq!(reader.get(b"k").unwrap_err(), gone(&dir, "a"), "at once if it was destroyed");
    let maker = dir.region("a").size(1 << 20).create().unwrap();
    maker.set(b"k", b"new").unwrap();
    assert_eq!(reader.get(b"k").unwrap().as_deref(), Some(&b"new"[..]));
    std::fs::remove_file(dir.file("a")).unwrap();
    clock.advance(Duration::from_millis(1000));
    assert_eq!(reader.get(b"k").unwrap_err(), gone(&dir, "a"), "within a second if it lost its name");
}

#[test]
fn a_slower_destroyer_never_takes_a_new_regions_name() {
    let dir = Dir::new();
    let old = dir.region("a").size(1 << 20).reattach(false).create().unwrap();
    Cache::destroy_name("a", Some(dir.path())).unwrap();
    let new = dir.region("a").size(1 << 20).create().unwrap();
    old.destroy().unwrap();
    assert_eq!(dir.names(), ["a"]);
    new.set(b"k", b"v").unwrap();
}

#[test]
fn missing_regions_cannot_be_destroyed() {
    let dir = Dir::new();
    let error = Cache::destroy_name("a", Some(dir.path())).unwrap_err();
    assert_eq!(error, Error::Missing { path: dir.file("a") });
}
