//! Who died is replaced at once, and who lives is never robbed.

use std::path::Path;
use std::time::{Duration, Instant};

use cache_core::{Owner, participant};
use cache_shm::{Builder, Cache, Error};
use rustix::process::Signal;

use crate::support::{Dir, Peer, Raw, fork, join, listen, say};

/// Role: attaches, detaches when told.
pub fn attach(region: &Builder) {
    let cache = region.clone().open().unwrap();
    say("attached");
    if listen() == "detach" {
        drop(cache);
        say("detached");
        listen();
    }
}

fn own(cache: &Cache) -> Owner {
    cache.map().unwrap().owner().unwrap()
}

/// Role: takes every stripe's lock, as if in the middle of a write, and waits.
pub fn hold(region: Builder, path: &Path) {
    let cache = region.open().unwrap();
    Raw::open(path).take_every_stripe(own(&cache));
    say("held");
    listen();
    std::mem::forget(cache);
}

/// Role: as `hold`, with a forked child that only sleeps and inherited everything.
pub fn hold_with_child(region: Builder, path: &Path) {
    let cache = region.open().unwrap();
    Raw::open(path).take_every_stripe(own(&cache));
    let child = fork(|| {
        loop {
            // SAFETY: sleeps until a signal ends the process.
            unsafe { libc::pause() };
        }
    });
    say(&child.to_string());
    listen();
    std::mem::forget(cache);
}

/// Role: holds a view and waits.
pub fn view(region: Builder) {
    let cache = region.open().unwrap();
    let _view = cache.view(b"viewed").unwrap().unwrap();
    say("pinned");
    listen();
}

/// Role: forks children one after the other that attach, write and end in many ways.
pub fn cycles(region: Builder) {
    for round in 0..1000u32 {
        let region = region.clone();
        join(fork(move || {
            let cache = region.open().unwrap();
            cache.set(&round.to_le_bytes(), b"seen").unwrap();
            match round % 3 {
                0 => drop(cache),
                1 => std::mem::forget(cache),
                // SAFETY: ends the process in the middle of things.
                _ => unsafe { libc::_exit(0) },
            }
        }));
    }
    say("done");
    listen();
}

fn region(dir: &Dir) -> Cache {
    let cache = dir.region("a").size(2 << 20).create().unwrap();
    for number in 0..100u32 {
        cache.set(&number.to_le_bytes(), b"before").unwrap();
    }
    cache
}

fn write_everywhere(cache: &Cache, timeout: Duration) -> Result<(), Error> {
    let options = cache_shm::WriteOptions { timeout_ns: timeout.as_nanos() as u64, ..cache.options() };
    (0..100u32).try_for_each(|number| cache.set_with(&number.to_le_bytes(), b"after", &options).map(|_| ()))
}

#[test]
fn the_locks_of_a_killed_process_are_taken_over_by_the_next_writer() {
    let dir = Dir::new();
    let cache = region(&dir);
    let mut holder = Peer::start("hold", &dir, "a");
    assert_eq!(holder.hear(), "held");
    holder.kill();
    let started = Instant::now();
    write_everywhere(&cache, Duration::from_secs(1)).unwrap();
    assert!(started.elapsed() < Duration::from_secs(10));
    assert!(cache.validate().unwrap().is_clean());
}

#[test]
fn a_stopped_process_is_never_robbed_and_reads_go_on() {
    let dir = Dir::new();
    let cache = region(&dir);
    let mut holder = Peer::start("hold", &dir, "a");
    assert_eq!(holder.hear(), "held");
    holder.signal(Signal::STOP);
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(1) {
        let error = write_everywhere(&cache, Duration::from_millis(100)).unwrap_err();
        assert!(matches!(error, Error::Busy { waited_ms } if waited_ms >= 100), "{error:?}");
        assert_eq!(cache.get(&7u32.to_le_bytes()).unwrap().as_deref(), Some(&b"before"[..]));
    }
    let error = write_everywhere(&cache, Duration::ZERO).unwrap_err();
    assert!(matches!(error, Error::Busy { .. }), "{error:?}");
    holder.signal(Signal::CONT);
    holder.kill();
    write_everywhere(&cache, Duration::from_secs(1)).unwrap();
}

#[test]
fn a_sleeping_child_does_not_make_its_dead_parent_look_alive() {
    let dir = Dir::new();
    let cache = region(&dir);
    let mut holder = Peer::start("hold_with_child", &dir, "a");
    let child = rustix::process::Pid::from_raw(holder.hear().parse().unwrap()).unwrap();
    let busy = write_everywhere(&cache, Duration::from_millis(50)).unwrap_err();
    assert!(matches!(busy, Error::Busy { .. }), "the parent lives: {busy:?}");
    holder.kill();
    let written = write_everywhere(&cache, Duration::from_secs(1));
    assert!(rustix::process::test_kill_process(child).is_ok(), "the child is still there");
    rustix::process::kill_process(child, Signal::KILL).unwrap();
    written.unwrap();
}

#[test]
fn closing_every_descriptor_of_the_file_does_not_make_a_process_look_dead() {
    let dir = Dir::new();
    let cache = region(&dir);
    let mut holder = Peer::start("hold", &dir, "a");
    assert_eq!(holder.hear(), "held");
    // In the holder itself this is what `closefrom` does; here: others open and close.
    for _ in 0..10 {
        drop(std::fs::File::options().read(true).write(true).open(dir.file("a")).unwrap());
    }
    let busy = write_everywhere(&cache, Duration::from_millis(50)).unwrap_err();
    assert!(matches!(busy, Error::Busy { .. }), "{busy:?}");
    holder.kill();
    write_everywhere(&cache, Duration::from_secs(1)).unwrap();
}

#[test]
fn a_process_that_lost_its_descriptors_works_on_and_stays_alive() {
    let dir = Dir::new();
    drop(region(&dir));
    let path = dir.file("a");
    let builder = dir.region("a");
    join(fork(move || {
        let cache = builder.open().unwrap();
        let owner = own(&cache);
        // SAFETY: a careless program; this child uses none of them any more.
        unsafe { libc::close_range(3, u32::MAX, 0) };
        // The numbers are taken by other files at once.
        let others: Vec<_> = (0..20).map(|_| std::fs::File::open("/dev/null").unwrap()).collect();
        for number in 0..3000u32 {
            cache.set(&number.to_le_bytes(), &[7; 1000]).unwrap();
        }
        let raw = Raw::open(&path);
        raw.take_every_stripe(owner);
        let other = fork(|| {
            let busy = write_everywhere(&cache, Duration::from_millis(50)).unwrap_err();
            assert!(matches!(busy, Error::Busy { .. }), "{busy:?}");
        });
        join(other);
        drop(others);
    }));
    let cache = dir.region("a").open().unwrap();
    write_everywhere(&cache, Duration::from_secs(1)).unwrap();
    assert!(cache.validate().unwrap().is_clean());
}

#[test]
fn a_thousand_processes_that_come_and_go_leave_no_slot_occupied() {
    let dir = Dir::new();
    let cache = region(&dir);
    let mut peer = Peer::start("cycles", &dir, "a");
    assert_eq!(peer.hear(), "done");
    peer.finish();
    assert_eq!(cache.len().unwrap(), 1000);
    let own = own(&cache).index();
    let raw = Raw::open(&dir.file("a"));
    let used = (0..raw.geometry.participant_count)
        .filter(|index| participant::generation(&raw.region(), &raw.geometry, *index) != 0)
        .count();
    assert_eq!(used, 2, "all of them took the one slot that was free");
    // The last one may have died in it: the next to come cleans up.
    let mut next = Peer::start("attach", &dir, "a");
    assert_eq!(next.hear(), "attached");
    next.tell("detach");
    assert_eq!(next.hear(), "detached");
    let occupied: Vec<u32> = (0..raw.geometry.participant_count)
        .filter(|index| participant::occupied(&raw.region(), &raw.geometry, *index))
        .collect();
    assert_eq!(occupied, [own]);
    next.finish();
}

#[test]
fn every_slot_taken_is_a_named_error_and_ends_with_the_first_to_leave() {
    let dir = Dir::new();
    let cache = dir.region("a").size(1 << 20).create().unwrap();
    let count = cache.geometry().unwrap().participant_count;
    let mut peers: Vec<Peer> = (1..count).map(|_| Peer::start("attach", &dir, "a")).collect();
    peers.iter_mut().for_each(|peer| assert_eq!(peer.hear(), "attached"));
    let builder = dir.region("a");
    let expected = Error::ParticipantsFull { count };
    let (again, full) = (builder.clone(), expected.clone());
    join(fork(move || assert_eq!(again.open().unwrap_err(), full)));
    join(fork(move || assert!(builder.clone().read_only(true).open().is_ok(), "readers take no slot")));
    peers.pop().unwrap().kill();
    let builder = dir.region("a");
    join(fork(move || assert!(builder.open().is_ok())));
    peers.into_iter().for_each(Peer::finish);
}

#[test]
fn the_pins_of_a_killed_process_go_with_its_slot() {
    let dir = Dir::new();
    let cache = dir.region("a").size(2 << 20).create().unwrap();
    cache.set(b"viewed", &[1; 8000]).unwrap();
    let mut viewer = Peer::start("view", &dir, "a");
    assert_eq!(viewer.hear(), "pinned");
    for number in 0..2000u32 {
        cache.set(&number.to_le_bytes(), &[2; 4000]).unwrap();
    }
    assert_eq!(cache.stats().unwrap().pins, 1, "the viewer lives");
    viewer.kill();
    let mut next = Peer::start("attach", &dir, "a");
    assert_eq!(next.hear(), "attached");
    let stats = cache.stats().unwrap();
    assert_eq!((stats.pins, stats.participants), (0, 2), "who takes the slot cleans it first");
    next.finish();
    assert!(cache.validate().unwrap().is_clean());
}
