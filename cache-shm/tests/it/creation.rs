//! Creation: exactly one region, complete when it is seen, whoever races or dies.

use std::os::unix::fs::FileExt;
use std::time::Duration;

use cache_shm::{Builder, Cache, Error, Mismatch, Mode, REGION_BYTES_MIN};

use crate::support::{Dir, Peer, edit_header, listen, say};

/// Role: waits for the start, opens or creates, and says who made the region.
pub fn race(region: &Builder) {
    say("ready");
    while listen() == "go" {
        let cache = region.clone().size(2 << 20).open_or_create().unwrap();
        cache.incr(b"openers", 1, Some(0)).unwrap();
        say(if cache.opened().created { "created" } else { "attached" });
    }
}

#[test]
fn many_racing_processes_make_exactly_one_region() {
    const PEERS: usize = 8;
    const ROUNDS: usize = 20;
    let dir = Dir::new();
    let mut peers: Vec<Peer> = (0..PEERS).map(|_| Peer::start("create", &dir, "race")).collect();
    for peer in &mut peers {
        assert_eq!(peer.hear(), "ready");
    }
    for round in 0..ROUNDS {
        peers.iter_mut().for_each(|peer| peer.tell("go"));
        let made = peers.iter_mut().filter_map(|peer| (peer.hear() == "created").then_some(())).count();
        assert_eq!(made, 1, "round {round}");
        let cache = dir.region("race").open().unwrap();
        assert_eq!(cache.incr(b"openers", 0, None).unwrap(), Some(PEERS as i64), "round {round}: all in one region");
        cache.destroy().unwrap();
        assert_eq!(dir.names(), Vec::<String>::new(), "round {round}: nothing is left over");
    }
    peers.into_iter().for_each(Peer::finish);
}

#[test]
fn create_makes_open_attaches_and_each_refuses_the_others_case() {
    let dir = Dir::new();
    let path = dir.file("a");
    assert_eq!(dir.region("a").open().unwrap_err(), Error::Missing { path: path.clone() });
    let made = dir.region("a").size(3_000_000).mode(Mode::NoEvict).create().unwrap();
    assert!(made.opened().created);
    assert_eq!(made.geometry().unwrap().region_bytes, 3_002_368, "whole pages");
    assert_eq!(dir.region("a").create().unwrap_err(), Error::Exists { path: path.clone() });
    made.set(b"k", b"v").unwrap();
    let opened = dir.region("a").open().unwrap();
    assert!(!opened.opened().created);
    assert_eq!(opened.get(b"k").unwrap().as_deref(), Some(&b"v"[..]));
    assert_eq!((opened.name(), opened.path()), (Some("a"), Some(path)));
}

#[test]
fn another_size_attaches_with_a_note_or_is_an_error() {
    let dir = Dir::new();
    let _made = dir.region("a").size(2 << 20).create().unwrap();
    let same = dir.region("a").size((2 << 20) - 5).open_or_create().unwrap();
    assert_eq!(same.opened().size_mismatch, None, "rounded to the same pages");
    let other = dir.region("a").size(4 << 20).open_or_create().unwrap();
    assert_eq!(other.opened().size_mismatch, Some((4 << 20, 2 << 20)));
    let strict = dir.region("a").size(4 << 20).on_mismatch(Mismatch::Error).open_or_create();
    assert_eq!(strict.unwrap_err(), Error::SizeMismatch { bytes: 4 << 20, bytes_existing: 2 << 20 });
}

#[test]
fn without_a_size_a_new_region_gets_a_reasonable_one_and_says_so() {
    let dir = Dir::new();
    let cache = dir.region("a").open_or_create().unwrap();
    let bytes = cache.geometry().unwrap().region_bytes;
    assert_eq!(cache.opened().default_size, Some(bytes));
    assert!((REGION_BYTES_MIN..=256 << 20).contains(&bytes), "{bytes}");
    assert_eq!(dir.region("a").open_or_create().unwrap().opened().default_size, None);
}

/// What a maker leaves that wrote its region in place and died before the last step.
fn half_made(dir: &Dir, name: &str) {
    drop(dir.region(name).size(1 << 20).create().unwrap());
    let file = std::fs::File::options().write(true).open(dir.file(name)).unwrap();
    file.write_all_at(&[0; 8], 0).unwrap();
}

#[test]
fn an_opener_takes_over_a_half_made_region_whose_maker_is_dead() {
    let dir = Dir::new();
    half_made(&dir, "a");
    let cache = dir.region("a").size(2 << 20).open_or_create().unwrap();
    assert!(cache.opened().created);
    assert_eq!(cache.geometry().unwrap().region_bytes, 2 << 20);
    cache.set(b"k", b"v").unwrap();

    let hole = std::fs::File::create(dir.file("hole")).unwrap();
    hole.set_len(1 << 20).unwrap();
    crate::support::set_mode(&dir.file("hole"), 0o600);
    assert!(dir.region("hole").size(1 << 20).open_or_create().unwrap().opened().created, "a file that is all hole");
}

#[test]
fn an_opener_waits_for_a_living_maker_and_not_longer_than_its_deadline() {
    let dir = Dir::new();
    half_made(&dir, "a");
    let maker = std::fs::File::options().write(true).open(dir.file("a")).unwrap();
    lock_byte(&maker, 0);
    let opened = dir.region("a").timeout(Duration::from_millis(20)).open_or_create();
    assert_eq!(opened.unwrap_err(), Error::HalfMade { path: dir.file("a") });
    let read_only = dir.region("a").read_only(true).timeout(Duration::ZERO).open();
    assert_eq!(read_only.unwrap_err(), Error::HalfMade { path: dir.file("a") });
    drop(maker);
    assert!(dir.region("a").size(1 << 20).open_or_create().unwrap().opened().created);
}

/// Locks a byte of the file as a maker or participant does.
fn lock_byte(file: &std::fs::File, byte: i64) {
    use std::os::fd::AsRawFd;
    // SAFETY: a plain structure.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    (lock.l_type, lock.l_start, lock.l_len) = (libc::F_WRLCK as _, byte, 1);
    // SAFETY: an open file and a structure that outlives the call.
    assert_eq!(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw mut lock) }, 0);
}

#[test]
fn temporary_files_of_dead_makers_are_swept_and_those_of_living_ones_stay() {
    let dir = Dir::new();
    let (dead, alive) = (dir.file(".cshm-dead"), dir.file(".cshm-alive"));
    let long_ago = std::time::SystemTime::now() - Duration::from_secs(60);
    let files = [&dead, &alive].map(|path| {
        let file = std::fs::File::create(path).unwrap();
        crate::support::set_mode(path, 0o600);
        file.set_modified(long_ago).unwrap();
        file
    });
    lock_byte(&files[1], 0);
    // The sweep goes by the change time, which nobody can set: it takes another second.
    let started = std::time::Instant::now();
    let mut round = 0;
    while dead.exists() {
        assert!(started.elapsed() < crate::support::DEADLINE, "never swept");
        round += 1;
        drop(dir.region(&format!("r{round}")).size(1 << 20).create().unwrap());
        Cache::destroy_name(&format!("r{round}"), Some(dir.path())).unwrap();
    }
    assert_eq!(dir.names(), [".cshm-alive"]);
}

#[test]
fn a_region_of_an_earlier_boot_is_made_anew_once_with_its_size_and_says_so() {
    let dir = Dir::new();
    drop(dir.region("a").size(3 << 20).mode(Mode::NoEvict).create().unwrap());
    let age = |page: &mut [u8]| page[cache_core::layout::header::BOOT_ID as usize] ^= 1;
    edit_header(&dir.file("a"), age);
    let refused = dir.region("a").read_only(true).open();
    assert_eq!(refused.unwrap_err(), Error::EarlierBoot { path: dir.file("a") });
    assert_eq!(cache_shm::regions(Some(dir.path())).unwrap()[0].state, cache_shm::State::EarlierBoot);

    let cache = dir.region("a").open().unwrap();
    assert!(cache.opened().remade_after_boot);
    assert_eq!((cache.geometry().unwrap().region_bytes, cache.geometry().unwrap().mode), (3 << 20, Mode::NoEvict));
    cache.set(b"k", b"v").unwrap();
    let second = dir.region("a").open().unwrap();
    assert!(!second.opened().remade_after_boot);
    assert_eq!(second.get(b"k").unwrap().as_deref(), Some(&b"v"[..]));
}

#[test]
fn an_ephemeral_region_goes_with_its_last_participant() {
    let dir = Dir::new();
    let first = dir.region("a").size(1 << 20).ephemeral(true).create().unwrap();
    first.set(b"k", b"v").unwrap();
    let mut peer = Peer::start("attach", &dir, "a");
    assert_eq!(peer.hear(), "attached");
    drop(first);
    assert_eq!(dir.names(), ["a"], "the peer still uses it");
    peer.tell("detach");
    assert_eq!(peer.hear(), "detached");
    assert_eq!(dir.names(), Vec::<String>::new());
    peer.finish();
}

#[test]
fn an_ephemeral_region_whose_last_participant_was_killed_is_made_anew() {
    let dir = Dir::new();
    let first = dir.region("a").size(1 << 20).ephemeral(true).create().unwrap();
    first.set(b"k", b"old").unwrap();
    let mut peer = Peer::start("attach", &dir, "a");
    assert_eq!(peer.hear(), "attached");
    drop(first);
    peer.kill();
    assert_eq!(dir.region("a").open().unwrap_err(), Error::Missing { path: dir.file("a") });
    let second = dir.region("a").size(1 << 20).ephemeral(true).open_or_create().unwrap();
    assert!(second.opened().created);
    assert_eq!(second.get(b"k").unwrap(), None);
}

#[test]
fn an_ephemeral_region_that_everybody_left_by_dying_is_swept_by_the_next_maker() {
    let dir = Dir::new();
    let first = dir.region("a").size(1 << 20).ephemeral(true).create().unwrap();
    let mut peer = Peer::start("attach", &dir, "a");
    assert_eq!(peer.hear(), "attached");
    drop(first);
    let alive = dir.region("alive").size(1 << 20).ephemeral(true).create().unwrap();
    assert_eq!(dir.names(), ["a", "alive"]);
    peer.kill();
    let _other = dir.region("b").size(1 << 20).create().unwrap();
    assert_eq!(dir.names(), ["alive", "b"]);
    alive.set(b"k", b"v").unwrap();
}

#[test]
fn one_process_has_one_participant_per_region_however_many_handles() {
    let dir = Dir::new();
    let first = dir.region("a").size(1 << 20).create().unwrap();
    let second = dir.region("a").open().unwrap();
    assert!(std::ptr::eq(first.map().unwrap(), second.map().unwrap()));
    assert_eq!(first.stats().unwrap().participants, 1);
    drop(first);
    second.set(b"k", b"v").unwrap();
    assert_eq!(second.stats().unwrap().participants, 1);
}

#[test]
fn regions_are_listed_with_their_state() {
    let dir = Dir::new();
    let _a = dir.region("a").size(1 << 20).create().unwrap();
    let _b = dir.region("b").size(2 << 20).create().unwrap();
    std::fs::write(dir.file("notes.txt"), "not a region").unwrap();
    half_made(&dir, "c");
    let listed: Vec<_> = cache_shm::regions(Some(dir.path()))
        .unwrap()
        .into_iter()
        .map(|region| (region.name, region.bytes, region.mode, region.state.word()))
        .collect();
    assert_eq!(
        listed,
        [
            ("a".to_owned(), 1 << 20, 0o600, "ready"),
            ("b".to_owned(), 2 << 20, 0o600, "ready"),
            ("c".to_owned(), 1 << 20, 0o600, "half_made"),
        ]
    );
    assert_eq!(cache_shm::regions(Some(&dir.file("none"))).unwrap(), []);
}
