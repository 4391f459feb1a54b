//! Locks and semaphores of processes that are killed, stopped, forked, or done.

use std::time::{Duration, Instant};

use cache_shm::{Builder, Cache, Error};
use rustix::process::Signal;

use crate::support::{DEADLINE, Dir, Peer, fork, join, listen, say};

/// Longest time from the death of a holder to its successor.
const TAKE_OVER_MAX: Duration = Duration::from_millis(50);
const NOW: Duration = Duration::ZERO;

fn region(dir: &Dir) -> Cache {
    dir.region("a").size(2 << 20).create().unwrap()
}

fn is_free(cache: &Cache, name: &[u8]) -> bool {
    cache.lock(name, None, NOW).unwrap().is_some()
}

/// Role: takes a lock and a permit, and holds them until told.
pub fn hold(region: Builder) {
    let cache = region.open().unwrap();
    let guard = cache.lock(b"lock", None, NOW).unwrap().unwrap();
    let permit = cache.permit(b"gate", 2, None, NOW).unwrap().unwrap();
    say(&guard.token().to_string());
    listen();
    drop((guard, permit));
    say("released");
    listen();
}

/// Role: waits for the lock, says how long it took since it was told, and gives it back.
pub fn wait(region: Builder) {
    let cache = region.open().unwrap();
    say("waiting");
    let guard = cache.lock(b"lock", None, DEADLINE).unwrap().unwrap();
    say(&guard.token().to_string());
    listen();
}

/// Role: adds to a counter by reading and writing, under the lock.
pub fn count(region: Builder) {
    let cache = region.open().unwrap();
    for _ in 0..1_000 {
        let guard = cache.lock(b"count", None, DEADLINE).unwrap().unwrap();
        let value = cache.get(b"count").unwrap().unwrap();
        let next = u64::from_le_bytes(value.try_into().unwrap()) + 1;
        cache.set(b"count", &next.to_le_bytes()).unwrap();
        guard.release().unwrap();
    }
}

#[test]
fn processes_exclude_each_other() {
    let dir = Dir::new();
    let cache = region(&dir);
    cache.set(b"count", &0u64.to_le_bytes()).unwrap();
    let peers: Vec<Peer> = (0..3).map(|_| Peer::start("lease_count", &dir, "a")).collect();
    peers.into_iter().for_each(Peer::finish);
    assert_eq!(cache.get(b"count").unwrap().unwrap(), 3_000u64.to_le_bytes());
    assert!(cache.validate().unwrap().is_clean());
}

#[test]
fn who_waits_for_a_killed_holder_gets_its_lock_at_once() {
    let dir = Dir::new();
    let cache = region(&dir);
    for _ in 0..5 {
        let mut holder = Peer::start("lease_hold", &dir, "a");
        let token: u64 = holder.hear().parse().unwrap();
        assert!(!is_free(&cache, b"lock"));
        let mut waiter = Peer::start("lease_wait", &dir, "a");
        assert_eq!(waiter.hear(), "waiting");
        // In its sleep, as far as can be told from outside: it is late in no case.
        std::thread::sleep(Duration::from_millis(20));
        holder.kill();
        let died = Instant::now();
        let next: u64 = waiter.hear().parse().unwrap();
        let took = died.elapsed();
        assert!(took < TAKE_OVER_MAX, "{took:?}");
        assert!(next > token);
        // The waiter is killed too; nobody waits now, and one try is enough.
        waiter.kill();
        assert!(is_free(&cache, b"lock"));
        let permits = [(); 2].map(|()| cache.permit(b"gate", 2, None, NOW).unwrap());
        assert!(permits.iter().all(Option::is_some), "the permit of the dead is free");
    }
}

#[test]
fn a_stopped_holder_keeps_its_lock_until_its_ttl() {
    let dir = Dir::new();
    let cache = region(&dir);
    let mut holder = Peer::start("lease_hold", &dir, "a");
    holder.hear();
    holder.signal(Signal::STOP);
    assert!(cache.lock(b"lock", None, Duration::from_millis(100)).unwrap().is_none());
    holder.signal(Signal::CONT);
    holder.tell("release");
    assert_eq!(holder.hear(), "released");
    assert!(is_free(&cache, b"lock"));
    holder.finish();
    let guard = cache.lock(b"short", Some(Duration::from_millis(30)), NOW).unwrap().unwrap();
    let next = cache.lock(b"short", None, DEADLINE).unwrap().unwrap();
    assert!(next.token() > guard.token());
    assert!(matches!(guard.extend(None), Err(Error::NotHolder { .. })));
    assert!(matches!(guard.release(), Err(Error::NotHolder { .. })));
    assert!(!is_free(&cache, b"short"), "it is the next one's");
    next.release().unwrap();
}

#[test]
fn a_forked_child_neither_has_nor_releases_its_parents_lock() {
    let dir = Dir::new();
    let cache = region(&dir);
    let guard = cache.lock(b"lock", None, NOW).unwrap().unwrap();
    let child = fork(|| {
        assert!(!is_free(&cache, b"lock"));
        assert!(matches!(guard.extend(None), Err(Error::NotHolder { .. })));
        // SAFETY: the child's own copy; it leaves without dropping the other.
        let inherited = unsafe { std::ptr::read(&raw const guard) };
        assert!(matches!(inherited.release(), Err(Error::NotHolder { .. })));
        assert!(!is_free(&cache, b"lock"));
        std::mem::forget(cache.lock(b"of the child", None, NOW).unwrap().unwrap());
    });
    join(child);
    assert!(!is_free(&cache, b"lock"));
    assert!(is_free(&cache, b"of the child"), "the child is dead");
    guard.release().unwrap();
    assert!(is_free(&cache, b"lock"));
}

#[test]
fn a_handle_that_is_dropped_and_a_region_that_is_destroyed_end_locks() {
    let dir = Dir::new();
    let cache = region(&dir);
    let mut holder = Peer::start("lease_hold", &dir, "a");
    let first: u64 = holder.hear().parse().unwrap();
    cache.destroy().unwrap();
    let again = dir.region("a").size(2 << 20).create().unwrap();
    let guard = again.lock(b"lock", None, NOW).unwrap().unwrap();
    // Tokens grow with the wall clock's seconds, as far as regions were not remade in one second.
    assert!(guard.token() >> 20 >= first >> 20);
    holder.tell("release");
    assert_eq!(holder.hear(), "released");
    assert!(!is_free(&again, b"lock"));
    holder.finish();
}

#[test]
fn a_read_only_handle_takes_no_lock() {
    let dir = Dir::new();
    let cache = region(&dir);
    let reader = dir.region("a").read_only(true).open().unwrap();
    assert!(matches!(reader.lock(b"lock", None, NOW), Err(Error::ReadOnly)));
    assert!(matches!(reader.hit(b"limit", b"", 1, Duration::from_secs(1), 1), Err(Error::ReadOnly)));
    drop(cache);
}

#[test]
fn a_rate_is_one_for_all_handles_and_each_key_has_its_own() {
    let dir = Dir::new();
    let cache = region(&dir);
    let other = dir.region("a").open().unwrap();
    let day = Duration::from_secs(86_400);
    let hit = |cache: &Cache, key: &[u8]| cache.hit(b"limit", key, 2, day, 1).unwrap();
    assert!(hit(&cache, b"x").is_allowed && hit(&other, b"x").is_allowed);
    assert!(!hit(&cache, b"x").is_allowed && hit(&cache, b"y").is_allowed);
}
