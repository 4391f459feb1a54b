//! What a logger hears, and that it hears it where nothing is locked.

use std::path::Path;
use std::sync::{Mutex, Once, PoisonError};
use std::time::{Duration, Instant};

use cache_core::Owner;
use cache_shm::{Cache, Clock, LOG_TARGET};
use log::{Level, LevelFilter, Log, Metadata, Record};

use crate::support::{DEADLINE, Dir, Peer, Raw, edit_header};

/// Keys that lie in every stripe of a small region.
const KEYS: u32 = 400;

struct Listener {
    heard: Mutex<Vec<(Level, String)>>,
    /// Caches that are written to by the logger itself, at a record of their region.
    written: Mutex<Vec<Cache>>,
}

static LISTENER: Listener = Listener { heard: Mutex::new(Vec::new()), written: Mutex::new(Vec::new()) };

impl Log for Listener {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == LOG_TARGET
    }

    fn log(&self, record: &Record<'_>) {
        let text = record.args().to_string();
        let caches = self.written.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let is_of = |cache: &&Cache| cache.path().is_some_and(|path| text.contains(&*path.to_string_lossy()));
        if let Some(cache) = caches.iter().find(is_of) {
            write_everywhere(cache);
        }
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).push((record.level(), text));
    }

    fn flush(&self) {}
}

fn listen() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        log::set_logger(&LISTENER).unwrap();
        log::set_max_level(LevelFilter::Info);
    });
}

/// What was heard of the region `path` so far.
fn heard(path: &Path) -> Vec<(Level, String)> {
    let path = path.display().to_string();
    let heard = LISTENER.heard.lock().unwrap_or_else(PoisonError::into_inner);
    heard.iter().filter(|(_, text)| text.contains(&path)).cloned().collect()
}

fn write_everywhere(cache: &Cache) {
    (0..KEYS).for_each(|number| assert!(cache.set(&number.to_le_bytes(), b"value").is_ok()));
}

/// Kills a process that holds every stripe's lock; its number.
fn kill_a_holder(dir: &Dir) -> i32 {
    let mut peer = Peer::start("hold", dir, "a");
    assert_eq!(peer.hear(), "held");
    let pid = peer.pid();
    peer.kill();
    pid
}

#[test]
fn a_take_over_is_told_once_where_a_logger_may_use_the_very_cache() {
    listen();
    let dir = Dir::new();
    let cache = dir.region("a").size(2 << 20).timeout(Duration::from_secs(10)).create().unwrap();
    LISTENER.written.lock().unwrap().push(cache.clone());
    let first = kill_a_holder(&dir);
    let started = Instant::now();
    write_everywhere(&cache);
    let told = heard(&dir.file("a"));
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0].0, Level::Warn);
    assert!(told[0].1.contains(&format!("process {first} ended")), "{told:?}");

    // Others within the same second are counted, and told in one record.
    let (second, third) = (kill_a_holder(&dir), {
        write_everywhere(&cache);
        kill_a_holder(&dir)
    });
    write_everywhere(&cache);
    if started.elapsed() < Duration::from_millis(900) {
        assert_eq!(heard(&dir.file("a")).len(), 1);
    }
    while heard(&dir.file("a")).len() < 2 {
        assert!(started.elapsed() < DEADLINE, "nothing is told any more");
        cache.set(b"k", b"v").unwrap();
    }
    let told = heard(&dir.file("a"));
    assert!(told[1].1.contains(&third.to_string()) || told[1].1.contains(&second.to_string()), "{told:?}");
    LISTENER.written.lock().unwrap().retain(|other| other.path() != cache.path());
}

#[test]
fn a_region_that_is_lost_is_told_once_and_how_it_was_lost() {
    listen();
    let dir = Dir::new();
    let clock = Clock::manual(1_000_000);
    let region = |name: &str| dir.region(name).size(1 << 20).clock(clock.clone()).create().unwrap();
    let (destroyed, removed) = (region("destroyed"), region("removed"));
    Cache::destroy_name("destroyed", Some(dir.path())).unwrap();
    std::fs::remove_file(dir.file("removed")).unwrap();
    clock.advance(Duration::from_secs(1));
    for cache in [&destroyed, &removed] {
        cache.set(b"k", b"v").unwrap_err();
        cache.set(b"k", b"v").unwrap();
    }
    let told = heard(&dir.file("destroyed"));
    assert!(matches!(&told[..], [(Level::Info, text)] if text.ends_with("was destroyed")), "{told:?}");
    let told = heard(&dir.file("removed"));
    assert!(matches!(&told[..], [(Level::Warn, text)] if text.contains("from outside")), "{told:?}");
}

#[test]
fn a_region_that_got_a_default_size_says_so() {
    listen();
    let dir = Dir::new();
    let cache = dir.region("unsized").open_or_create().unwrap();
    drop(dir.region("unsized").open_or_create().unwrap());
    let told = heard(&dir.file("unsized"));
    let size = cache.geometry().unwrap().region_bytes.to_string();
    assert!(matches!(&told[..], [(Level::Info, text)] if text.contains(&size)), "{told:?}");
}

#[test]
fn a_repair_that_found_something_is_told() {
    listen();
    let dir = Dir::new();
    let cache = dir.region("a").size(2 << 20).create().unwrap();
    // In the name of a slot that nobody ever had.
    Raw::open(&dir.file("a")).take_every_stripe(Owner::new(5, 77));
    let repairs =
        || heard(&dir.file("a")).into_iter().filter(|(_, text)| text.contains("a repair of")).collect::<Vec<_>>();
    assert!(!cache.repair().unwrap().found_nothing());
    assert!(matches!(&repairs()[..], [(Level::Warn, _)]), "{:?}", heard(&dir.file("a")));
    assert!(cache.repair().unwrap().found_nothing());
    assert_eq!(repairs().len(), 1);
}

#[test]
fn a_region_that_was_made_anew_after_a_boot_is_told_once() {
    listen();
    let dir = Dir::new();
    drop(dir.region("a").size(1 << 20).create().unwrap());
    edit_header(&dir.file("a"), |page| page[cache_core::layout::header::BOOT_ID as usize] ^= 1);
    let _first = dir.region("a").open_or_create().unwrap();
    let _second = dir.region("a").open_or_create().unwrap();
    let told = heard(&dir.file("a"));
    assert!(matches!(&told[..], [(Level::Warn, text)] if text.contains("before this boot")), "{told:?}");
}
