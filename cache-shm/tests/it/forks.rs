//! Handles work in forked children, and children release nothing of their parent's.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cache_core::layout::participant;
use cache_core::stats::Counter;
use cache_shm::{Builder, Cache, Error};

use crate::support::{Dir, Peer, Raw, clone, fork, join, listen, say};

/// Role: forks while other threads are inside operations.
pub fn threads_and_forks(region: Builder) {
    let cache = region.size(4 << 20).open_or_create().unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for thread in 0..3u32 {
            let (cache, stop) = (&cache, &stop);
            scope.spawn(move || {
                let mut round = 0u32;
                while !stop.load(Ordering::Relaxed) {
                    let key = [thread, round % 500].map(u32::to_le_bytes).concat();
                    cache.set(&key, &[thread as u8; 300]).unwrap();
                    assert_eq!(cache.get(&key).unwrap().as_deref(), Some(&[thread as u8; 300][..]));
                    let view = cache.view(&key).unwrap();
                    drop(view);
                    round = round.wrapping_add(1);
                }
            });
        }
        for round in 0..100u32 {
            join(fork(|| {
                let key = [99, round].map(u32::to_le_bytes).concat();
                cache.set(&key, b"child").unwrap();
                assert_eq!(cache.get(&key).unwrap().as_deref(), Some(&b"child"[..]));
                // Threads of the child share the handle, too.
                std::thread::scope(|scope| {
                    for thread in 0..2u32 {
                        let cache = &cache;
                        scope.spawn(move || cache.incr(b"children", 1 + i64::from(thread), Some(0)).unwrap());
                    }
                });
            }));
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(cache.incr(b"children", 0, None).unwrap(), Some(300));
    assert!(cache.validate().unwrap().is_clean());
    say("done");
    listen();
}

/// Role: a parent that holds locks and a view while its child comes and goes.
pub fn forked_handle(region: Builder) {
    let cache = region.open().unwrap();
    let raw = Raw::open(&cache.path().unwrap());
    cache.set(b"viewed", &vec![5; 100_000]).unwrap();
    let view = cache.view(b"viewed").unwrap();
    let owner = cache.map().unwrap().owner().unwrap();
    raw.take_every_stripe(owner);
    // The parent keeps its own; the child drops what it inherited.
    let (mut cache, mut view) = (Some(cache), Some(view));
    join(fork(|| {
        let (cache, view) = (cache.take().unwrap(), view.take().unwrap().unwrap());
        let child = cache.map().unwrap().owner().unwrap();
        assert_ne!(child, owner, "the child is a participant of its own");
        let held = |cache: &Cache| {
            let stats = cache.stats().unwrap();
            (stats.participants, stats.pins)
        };
        assert_eq!(held(&cache), (4, 2), "the test, the parent, the child, and what holds the child's view");
        assert_eq!(cache.get(b"k").unwrap().as_deref(), Some(&b"v"[..]));
        assert_eq!(view.len(), 100_000);
        drop(view);
        assert_eq!(held(&cache), (3, 1), "the parent's pin is not the child's to end");
        // Drops the handle: detaches the child, and nothing else.
        drop(cache);
    }));
    say("child ended");
    listen();
}

/// Role: a parent that drops its view while its child and grandchild keep theirs.
pub fn viewing_children(region: Builder) {
    let cache = region.open().unwrap();
    let view = cache.view(b"viewed").unwrap().unwrap();
    let (wait, wake) = rustix::pipe::pipe().unwrap();
    let check_after_wake = |view: &cache_shm::View| {
        assert_eq!(rustix::io::read(&wait, &mut [0u8; 1]), Ok(1));
        assert!(**view == [5; 100_000], "the view changed under its reader");
    };
    let mut view = Some(view);
    let child = fork(|| {
        let view = view.take().unwrap();
        let mut inherited = Some(view);
        let grandchild = fork(|| {
            let view = inherited.take().unwrap();
            check_after_wake(&view);
            drop(view);
        });
        check_after_wake(inherited.as_ref().unwrap());
        drop(inherited);
        join(grandchild);
    });
    drop(view);
    cache.delete(b"viewed").unwrap();
    for number in 0..5000u32 {
        cache.set(&number.to_le_bytes(), &[6; 4000]).unwrap();
    }
    rustix::io::write(&wake, b"ab").unwrap();
    join(child);
    assert_eq!(cache.stats().unwrap().pins, 0);
    say("done");
    listen();
}

/// Role: a forked child whose own child, cloned without handlers, drops its view.
pub fn cloned_view(region: Builder) {
    let cache = region.open().unwrap();
    let mut view = cache.view(b"viewed").unwrap();
    join(fork(|| {
        let pins = || cache.stats().unwrap().pins;
        assert_eq!(pins(), 2, "one of the parent, one that the child inherited");
        join(clone(|| drop(view.take())));
        assert_eq!(pins(), 2, "the child's pin is not its own child's to end");
        drop(view.take());
        assert_eq!(pins(), 1);
    }));
    say("done");
    listen();
}

/// Role: among threads with seats, a clone without handlers, in which a new thread is the
/// first to use the handle.
pub fn cloned_among_threads(region: Builder) {
    let cache = region.open().unwrap();
    let raw = Raw::open(&cache.path().unwrap());
    let workers_of = |owner: cache_core::lock::Owner| {
        let workers = raw.geometry.participant_offset(owner.index()) + participant::WORKERS;
        let sets = participant::WORKER_COUNTERS + 8 * Counter::Sets as u64;
        let counts = (0..u64::from(participant::WORKER_COUNT)).map(|worker| {
            raw.region().word(workers + participant::WORKER_BYTES * worker + sets).load(Ordering::Relaxed)
        });
        counts.filter(|count| *count != 0).collect::<Vec<_>>()
    };
    cache.set(b"k", b"cloning").unwrap();
    let (seated, cloned) = (Barrier::new(4), Barrier::new(4));
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                cache.set(b"k", b"other").unwrap();
                seated.wait();
                cloned.wait();
            });
        }
        seated.wait();
        join(clone(|| {
            let (first, last) = (Barrier::new(2), Barrier::new(2));
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    cache.set(b"k", b"new").unwrap();
                    first.wait();
                    last.wait();
                });
                first.wait();
                cache.set(b"k", b"cloned").unwrap();
                last.wait();
            });
            let owner = cache.map().unwrap().owner().unwrap();
            assert_eq!(workers_of(owner), [1, 1], "two threads, each with a seat of its own");
        }));
        cloned.wait();
    });
    say("done");
    listen();
}

/// Role: a private region, shared with children of children.
pub fn private() {
    let cache = Cache::builder(None).size(1 << 20).open_or_create().unwrap();
    assert!(cache.opened().created && cache.path().is_none() && cache.name().is_none());
    cache.set(b"k", b"parent").unwrap();
    join(fork(|| {
        assert_eq!(cache.get(b"k").unwrap().as_deref(), Some(&b"parent"[..]));
        cache.set(b"k", b"child").unwrap();
        join(fork(|| {
            assert_eq!(cache.get(b"k").unwrap().as_deref(), Some(&b"child"[..]));
            cache.set(b"k", b"grandchild").unwrap();
        }));
    }));
    assert_eq!(cache.get(b"k").unwrap().as_deref(), Some(&b"grandchild"[..]));
    let other = Cache::builder(None).size(1 << 20).create().unwrap();
    assert_eq!(other.get(b"k").unwrap(), None, "each private region is one of its own");
    cache.destroy().unwrap();
    assert!(matches!(cache.set(b"k", b"v").unwrap_err(), Error::Gone { .. }));
    assert!(matches!(cache.set(b"k", b"v").unwrap_err(), Error::Gone { .. }), "there is nothing to attach to");
    say("done");
    listen();
}

#[test]
fn a_fork_while_other_threads_are_inside_operations_is_safe() {
    let dir = Dir::new();
    let mut peer = Peer::start("threads_and_forks", &dir, "a");
    assert_eq!(peer.hear(), "done");
    peer.finish();
}

#[test]
fn a_child_attaches_anew_and_leaves_its_parents_locks_and_pins_alone() {
    let dir = Dir::new();
    let cache = dir.region("a").size(1 << 20).create().unwrap();
    cache.set(b"k", b"v").unwrap();
    let mut parent = Peer::start("forked_handle", &dir, "a");
    assert_eq!(parent.hear(), "child ended");
    let options = cache_shm::WriteOptions { timeout_ns: 50_000_000, ..cache.options() };
    let busy = cache.set_with(b"k", b"w", &options).unwrap_err();
    assert!(matches!(busy, Error::Busy { .. }), "the parent lives and holds its locks: {busy:?}");
    assert_eq!(cache.stats().unwrap().pins, 1, "the parent's view is pinned");
    parent.kill();
    cache.set(b"k", b"w").unwrap();
}

#[test]
fn views_from_before_a_fork_stay_valid_in_children_when_the_parent_drops_them() {
    let dir = Dir::new();
    let cache = dir.region("a").size(4 << 20).create().unwrap();
    cache.set(b"viewed", &[5; 100_000]).unwrap();
    let mut peer = Peer::start("viewing_children", &dir, "a");
    assert_eq!(peer.hear(), "done");
    peer.finish();
    assert_eq!(cache.stats().unwrap().participants, 1);
    assert!(cache.validate().unwrap().is_clean());
}

#[test]
fn a_private_region_is_shared_with_forked_children_only() {
    let dir = Dir::new();
    let mut peer = Peer::start("private", &dir, "");
    assert_eq!(peer.hear(), "done");
    peer.finish();
    assert_eq!(dir.names(), Vec::<String>::new());
}

#[test]
fn a_child_forked_without_handlers_attaches_anew() {
    let dir = Dir::new();
    let cache = dir.region("a").size(1 << 20).create().unwrap();
    let parent = cache.map().unwrap().owner().unwrap();
    cache.set(b"k", b"v").unwrap();
    join(clone(|| {
        assert_ne!(cache.map().unwrap().owner(), Some(parent));
        assert_eq!(cache.get(b"k").unwrap().as_deref(), Some(&b"v"[..]));
        cache.set(b"k", b"w").unwrap();
    }));
    assert_eq!(cache.get(b"k").unwrap().as_deref(), Some(&b"w"[..]));
}

/// A thread of the cloned child that came before the cloned one took that one's seat: two
/// threads then wrote one pin.
#[test]
fn a_child_cloned_among_threads_gives_no_seat_twice() {
    let dir = Dir::new();
    let _cache = dir.region("a").size(1 << 20).create().unwrap();
    let mut peer = Peer::start("cloned_among_threads", &dir, "a");
    assert_eq!(peer.hear(), "done");
    peer.finish();
}

/// The child's child took the slot that holds the child's inherited pins for its own, and
/// cleared it.
#[test]
fn a_child_cloned_without_handlers_ends_no_pin_of_its_parent() {
    let dir = Dir::new();
    let cache = dir.region("a").size(4 << 20).create().unwrap();
    cache.set(b"viewed", &[5; 100_000]).unwrap();
    let mut peer = Peer::start("cloned_view", &dir, "a");
    assert_eq!(peer.hear(), "done");
    peer.finish();
    assert!(cache.validate().unwrap().is_clean());
}

#[test]
fn a_handle_used_by_many_children_at_once_serves_them_all() {
    const CHILDREN: usize = 8;
    let dir = Dir::new();
    let cache = dir.region("a").size(2 << 20).create().unwrap();
    let children: Vec<i32> = (0..CHILDREN)
        .map(|_| {
            fork(|| {
                for _ in 0..1000 {
                    cache.incr(b"sum", 1, Some(0)).unwrap();
                }
            })
        })
        .collect();
    children.into_iter().for_each(join);
    assert_eq!(cache.incr(b"sum", 0, None).unwrap(), Some(1000 * CHILDREN as i64));
    let options = cache_shm::WriteOptions { timeout_ns: Duration::from_secs(1).as_nanos() as u64, ..cache.options() };
    cache.set_with(b"k", b"v", &options).unwrap();
}
