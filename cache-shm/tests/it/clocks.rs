//! The clock of a directory: whoever opens a region there goes by it.

use std::time::Duration;

use cache_shm::{Builder, Clock, Error, regions};

use crate::support::{Dir, Peer, fork, join, listen, say, set_mode};

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn every_handle_in_a_directory_goes_by_its_clock() {
    let dir = Dir::new();
    let clock = Clock::in_directory(dir.path()).unwrap();
    let cache = dir.region("a").size(1 << 20).create().unwrap();
    let reader = dir.region("a").read_only(true).open().unwrap();
    cache.set_for(b"k", b"v", MINUTE).unwrap();
    clock.advance(MINUTE - Duration::from_millis(1));
    assert_eq!(reader.ttl(b"k").unwrap(), Some(Duration::from_millis(1)));
    assert_eq!(cache.get(b"k").unwrap().as_deref(), Some(&b"v"[..]));
    // A part of a millisecond counts as a whole one.
    clock.advance(Duration::from_nanos(1));
    assert_eq!((cache.get(b"k").unwrap(), reader.get(b"k").unwrap()), (None, None));
}

/// Role: says whether it finds the key, each time it is asked.
pub fn look(region: Builder) {
    let cache = region.open().unwrap();
    let said = |there: bool| if there { "there" } else { "gone" };
    say(said(cache.contains(b"k").unwrap()));
    while !listen().is_empty() {
        let child = fork(|| say(said(cache.contains(b"k").unwrap())));
        join(child);
        say(said(cache.contains(b"k").unwrap()));
    }
}

#[test]
fn the_clock_of_a_directory_is_one_for_all_processes() {
    let dir = Dir::new();
    let clock = Clock::in_directory(dir.path()).unwrap();
    let cache = dir.region("a").size(1 << 20).create().unwrap();
    cache.set_for(b"k", b"v", MINUTE).unwrap();
    let mut peer = Peer::start("look", &dir, "a");
    assert_eq!(peer.hear(), "there");
    Clock::in_directory(dir.path()).unwrap().advance(MINUTE);
    peer.tell("look");
    assert_eq!((peer.hear(), peer.hear()), ("gone".to_owned(), "gone".to_owned()), "its child, and itself");
    assert!(!cache.contains(b"k").unwrap());
    assert_eq!(clock.now_ms(), Clock::in_directory(dir.path()).unwrap().now_ms());
    peer.finish();
}

#[test]
fn a_clock_is_no_region_and_stays_when_regions_are_swept() {
    let dir = Dir::new();
    let _clock = Clock::in_directory(dir.path()).unwrap();
    dir.region("a").size(1 << 20).create().unwrap().destroy().unwrap();
    drop(dir.region("b").size(1 << 20).create().unwrap());
    assert_eq!(dir.names(), [".clock", "b"]);
    assert_eq!(regions(Some(dir.path())).unwrap().len(), 1);
}

#[test]
fn a_handle_that_was_given_a_clock_keeps_it() {
    let dir = Dir::new();
    let own = Clock::manual(1_000_000);
    let of_directory = Clock::in_directory(dir.path()).unwrap();
    let cache = dir.region("a").size(1 << 20).clock(own.clone()).create().unwrap();
    cache.set_for(b"k", b"v", MINUTE).unwrap();
    of_directory.advance(2 * MINUTE);
    assert!(cache.contains(b"k").unwrap());
    own.advance(MINUTE);
    assert!(!cache.contains(b"k").unwrap());
}

#[test]
fn what_is_no_clock_is_refused_and_left_alone() {
    for bytes in [&b""[..], b"cshmclk1", b"0123456789abcdef0123456789"] {
        let dir = Dir::new();
        std::fs::write(dir.file(".clock"), bytes).unwrap();
        set_mode(&dir.file(".clock"), 0o600);
        let refused = |error| matches!(error, Error::NotRegion { path, .. } if path == dir.file(".clock"));
        assert!(refused(Clock::in_directory(dir.path()).unwrap_err()));
        assert!(refused(dir.region("a").size(1 << 20).create().unwrap_err()));
        assert_eq!(std::fs::read(dir.file(".clock")).unwrap(), bytes);
    }
    let dir = Dir::new();
    std::os::unix::fs::symlink("/dev/zero", dir.file(".clock")).unwrap();
    assert!(matches!(Clock::in_directory(dir.path()).unwrap_err(), Error::Symlink { .. }));
    assert!(matches!(Clock::in_directory(dir.file("nothing")).unwrap_err(), Error::Missing { .. }));
}

#[test]
fn without_a_clock_in_its_directory_a_handle_goes_by_the_systems() {
    let dir = Dir::new();
    let cache = dir.region("a").size(1 << 20).create().unwrap();
    cache.set_for(b"k", b"v", MINUTE).unwrap();
    Clock::system().advance(2 * MINUTE);
    assert!(cache.contains(b"k").unwrap());
    assert_eq!(dir.names(), ["a"]);
}
