//! Leases: one holder of a name, one row for it, and the replacement of dead holders.

use std::sync::Arc;

use cache_core::model::{Process, World};
use cache_core::sync::{Ordering, yield_now};
use cache_core::{Host, Kind, Name, Owner};
use loom::cell::UnsafeCell;
use loom::thread;
use loom_tests::{Case, check, model, twin};

pub const CASES: &[Case] = &[
    model("lease", 3, || exclude(true, 1, release)),
    twin("lease: a release that publishes nothing", 2, || exclude(true, 1, release_relaxed)),
    model("lease.placed", 3, || exclude(false, 2, release)),
    twin("lease.placed: without the place lock", 2, || place_at_once(Process::place_lease_alone)),
    model("lease.dead_holder", 3, || replace_the_dead(acquire_from_the_dead)),
    twin("lease.dead_holder: whoever holds it now is taken for the dead", 2, || replace_the_dead(rob)),
    model("lease.cleaned_up", 2, || clean_up_and_acquire(|process| process.map().clean_slot(DEAD, None))),
    twin("lease.cleaned_up: freed by a store that publishes nothing", 2, || clean_up_and_acquire(free_relaxed)),
];

const DEAD: u32 = 2;

/// A name, and what its lease protects.
struct Guarded {
    name: Name,
    inside: UnsafeCell<u32>,
    /// The greatest token so far; threads enter one at a time.
    token: UnsafeCell<u64>,
}

fn guarded(process: &Process) -> Arc<Guarded> {
    let name = process.map().lease_name(Kind::Lock, b"name").expect("a name");
    Arc::new(Guarded { name, inside: UnsafeCell::new(0), token: UnsafeCell::new(0) })
}

impl Guarded {
    /// The critical section: loom fails the model if two threads are in it at once.
    fn enter(&self, token: u64) {
        // SAFETY: R5. Loom checks what this claims: one thread at a time.
        let last = self.token.with_mut(|last| unsafe { std::mem::replace(&mut *last, token) });
        check(last < token, || format!("token {token} was given after {last}"));
        // SAFETY: R5, as above.
        self.inside.with_mut(|inside| unsafe { *inside += 1 });
    }

    fn entered(&self) -> u32 {
        // SAFETY: R5. Every other thread was joined.
        self.inside.with(|inside| unsafe { *inside })
    }
}

fn release(process: &Process, guarded: &Guarded, token: u64) {
    process.map().release_lease(guarded.name, 1, token).expect("it is held");
}

/// Frees the row past its lock.
fn release_relaxed(process: &Process, _guarded: &Guarded, _token: u64) {
    free_relaxed(process);
}

/// Two processes want the same lease, whose name has a row already or not.
fn exclude(is_placed: bool, rows: u32, release: fn(&Process, &Guarded, u64)) {
    let world = World::for_leases(2, rows);
    let (one, other) = (world.attach(0), world.attach(1));
    let guarded = guarded(&one);
    if is_placed {
        let token = one.lease(guarded.name);
        one.map().release_lease(guarded.name, 1, token).expect("it is held");
    }
    let theirs = guarded.clone();
    let other = thread::spawn(move || {
        let token = other.lease(theirs.name);
        theirs.enter(token);
        release(&other, &theirs, token);
    });
    let token = one.lease(guarded.name);
    guarded.enter(token);
    release(&one, &guarded, token);
    other.join().expect("its end");
    check(guarded.entered() == 2, || "a holder was lost".into());
    check(one.problems().is_empty(), || one.problems().join("; "));
}

/// Two processes look for a row for the same name.
fn place_at_once(place: fn(&Process, Name)) {
    let world = World::for_leases(2, 2);
    let (one, other) = (world.attach(0), world.attach(1));
    let name = guarded(&one).name;
    let placing = thread::spawn(move || place(&other, name));
    place(&one, name);
    placing.join().expect("its end");
    check(one.problems().is_empty(), || one.problems().join("; "));
}

/// The holder died; two others want the lease, each of which asks for the life of whom it
/// finds there.
fn replace_the_dead(acquire: fn(&Process, Name) -> u64) {
    let world = World::for_leases(3, 1);
    let (one, other, dead) = (world.attach(0), world.attach(1), world.attach(DEAD));
    let guarded = guarded(&one);
    guarded.enter(dead.lease(guarded.name));
    world.host().kill(DEAD);
    let theirs = guarded.clone();
    let other = thread::spawn(move || {
        let token = acquire(&other, theirs.name);
        theirs.enter(token);
        // Who is robbed cannot give back what it has.
        let _ = other.map().release_lease(theirs.name, 1, token);
    });
    let token = acquire(&one, guarded.name);
    guarded.enter(token);
    let _ = one.map().release_lease(guarded.name, 1, token);
    other.join().expect("its end");
    check(guarded.entered() == 3, || "a holder was lost".into());
}

fn acquire_from_the_dead(process: &Process, name: Name) -> u64 {
    acquire_from(process, name, |found| vec![found])
}

/// Takes it from whoever is there, once somebody was found dead.
fn rob(process: &Process, name: Name) -> u64 {
    acquire_from(process, name, |_| (0..3).map(|index| Owner::new(index, 1)).collect())
}

fn acquire_from(process: &Process, name: Name, robbed: fn(Owner) -> Vec<Owner>) -> u64 {
    let mut dead = Vec::new();
    loop {
        match process.try_lease(name, &dead) {
            Ok(token) => return token,
            Err(owner) if process.map().host().is_dead(owner) => dead = robbed(owner),
            Err(_) => yield_now(),
        }
    }
}

/// A holder dies; one cleans up after it while another wants the lease and asks nobody.
fn clean_up_and_acquire(clean: fn(&Process)) {
    let world = World::for_leases(3, 1);
    let (one, other, dead) = (world.attach(0), world.attach(1), world.attach(DEAD));
    let guarded = guarded(&one);
    let (theirs, system) = (guarded.clone(), world.host().clone());
    let dying = thread::spawn(move || {
        theirs.enter(dead.lease(theirs.name));
        system.kill(DEAD);
    });
    let cleaner = thread::spawn(move || {
        while !other.map().host().retire(DEAD, &mut || clean(&other)) {
            yield_now();
        }
    });
    let token = loop {
        match one.try_lease(guarded.name, &[]) {
            Ok(token) => break token,
            Err(_) => yield_now(),
        }
    };
    guarded.enter(token);
    release(&one, &guarded, token);
    dying.join().expect("its end");
    cleaner.join().expect("its end");
    check(guarded.entered() == 2, || "a holder was lost".into());
}

fn free_relaxed(process: &Process) {
    for owner in process.lease_owners() {
        owner.store(0, Ordering::Relaxed);
    }
}
