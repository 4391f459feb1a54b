//! Slots whose participants died: `newcomer`, `retire`; and pins at a fork: `handover`.

use std::sync::Arc;

use cache_core::layout::{control, participant as slot, stripe};
use cache_core::model::{Linked, Process, World};
use cache_core::sync::{AtomicU32, Ordering, fence, yield_now};
use cache_core::{Host, Owner, lock, participant};
use loom::cell::UnsafeCell;
use loom::thread;
use loom_tests::{Case, check, model, twin};

use crate::reading::{KEY, OTHER, value};

pub const CASES: &[Case] = &[
    model("newcomer", 2, || come_beside_a_waiter(attach_and_lock, acquire_impatiently)),
    twin("newcomer: the generation is read before the word", 2, || {
        come_beside_a_waiter(attach_and_lock, acquire_by_old_generation);
    }),
    twin("newcomer: locks before its generation is published", 2, || {
        come_beside_a_waiter(lock_and_attach, acquire_impatiently);
    }),
    model("newcomer.segments", 2, || come_beside_a_release(|other| _ = other.release_the_dead())),
    twin("newcomer.segments: the generation is read before the word", 2, || {
        come_beside_a_release(release_by_old_generation);
    }),
    model("retire", 2, || pin_beside_a_retirement(true, reclaim)),
    model("retire.beside_a_reader", 2, || pin_beside_a_retirement(false, reclaim)),
    twin("retire: without the slot's lock", 2, || pin_beside_a_retirement(true, retire_unlocked)),
    twin("retire: pins are not looked for again", 2, || pin_beside_a_retirement(false, retire_and_free)),
    model("handover", 2, || hand_over(participant::copy_read_pins)),
    model("handover.by_hand", 2, || hand_over(|region, geometry, from, to| copy(region, geometry, [from, to], true))),
    twin("handover: counted before the copies", 2, || {
        hand_over(|region, geometry, from, to| copy(region, geometry, [from, to], false));
    }),
    twin("handover: not counted", 2, || {
        hand_over(|region, geometry, from, to| copy_cells(region, geometry, [from, to]));
    }),
];

const WAIT_NS: u64 = u64::MAX;
/// The slot of the one that died.
const DEAD: u32 = 1;

fn sound(process: &Process) {
    let problems = process.problems();
    check(problems.is_empty(), || problems.join("; "));
}

// --- newcomer -------------------------------------------------------------------------------

fn stripe_lock(process: &Process) -> &AtomicU32 {
    process.region().word32(process.map().geometry().stripe_offset(0) + stripe::LOCK)
}

fn acquire(process: &Process) {
    lock::acquire(stripe_lock(process), process.owner(), process.map().host(), WAIT_NS).expect("time");
}

/// Asks for the owner's life whenever it finds the lock held.
fn acquire_impatiently(process: &Process) {
    let (word, host) = (stripe_lock(process), process.map().host());
    while !lock::try_acquire(word, process.owner()) {
        let current = word.load(Ordering::Relaxed);
        if current != 0 && lock::take_over(word, current, process.owner(), host) {
            return;
        }
        yield_now();
    }
}

/// Takes over what another generation of the slot holds than the one that it saw first.
fn acquire_by_old_generation(process: &Process) {
    let word = stripe_lock(process);
    while !lock::try_acquire(word, process.owner()) {
        let generation = participant::generation(process.region(), process.map().geometry(), DEAD);
        let current = word.load(Ordering::Acquire);
        let is_other = Owner::from_word(current).is_some_and(|owner| !owner.is_generation(generation));
        let me = process.owner().word();
        if is_other && word.compare_exchange(current, me, Ordering::Acquire, Ordering::Relaxed).is_ok() {
            return;
        }
        yield_now();
    }
}

fn attach_and_lock(world: &World) -> Process {
    let newcomer = world.attach_anew(DEAD).expect("a free slot");
    acquire(&newcomer);
    newcomer
}

fn lock_and_attach(world: &World) -> Process {
    let word = world.region().word32(world.attach_read_only().geometry().stripe_offset(0) + stripe::LOCK);
    let dead = word.load(Ordering::Acquire);
    let newcomer = Owner::new(DEAD, 2);
    // If the waiter was faster there is nothing to show.
    if Owner::from_word(dead) == Some(Owner::new(DEAD, 1))
        && word.compare_exchange(dead, newcomer.word(), Ordering::Acquire, Ordering::Relaxed).is_ok()
    {
        return world.attach_anew(DEAD).expect("a free slot");
    }
    attach_and_lock(world)
}

/// The holder of a lock died. A newcomer in its slot and a waiter both want the lock.
fn come_beside_a_waiter(come: fn(&World) -> Process, wait: fn(&Process)) {
    let world = World::for_newcomers(2);
    let (waiter, dead) = (world.attach(0), world.attach(DEAD));
    acquire(&dead);
    world.host().kill(DEAD);
    let inside = Arc::new(UnsafeCell::new(0));
    let enter = |inside: &UnsafeCell<u32>| {
        // SAFETY: R5. Loom checks what this claims: one process at a time.
        inside.with_mut(|inside| unsafe { *inside += 1 });
    };
    let theirs = inside.clone();
    let waiting = thread::spawn(move || {
        wait(&waiter);
        enter(&theirs);
        lock::release(stripe_lock(&waiter), waiter.map().host());
    });
    let newcomer = come(&world);
    enter(&inside);
    lock::release(stripe_lock(&newcomer), newcomer.map().host());
    waiting.join().expect("its end");
    // SAFETY: R5. Every other thread was joined.
    let entered = inside.with(|inside| unsafe { *inside });
    check(entered == 2, || "a holder was lost".into());
}

/// A segment that the newcomer has no use for.
const THEIRS: u32 = 3;

/// A segment in the hands of the dead is given back, while a newcomer in its slot has
/// segments in hand itself.
fn come_beside_a_release(release: fn(&Process)) {
    let world = World::for_newcomers(2);
    let (other, dead) = (world.attach(0), world.attach(DEAD));
    let claimed = 1 | u64::from(dead.owner().word()) << 32;
    dead.state(THEIRS).store(claimed, Ordering::Release);
    world.host().kill(DEAD);
    let releasing = thread::spawn(move || {
        release(&other);
        other
    });
    let newcomer = world.attach_anew(DEAD).expect("a free slot");
    newcomer.set(KEY, &value(1));
    let other = releasing.join().expect("its end");
    sound(&other);
    let said = newcomer.get(KEY);
    check(said == Some(value(1)), || format!("{said:?} was read"));
    check(other.is_free(THEIRS), || "the dead still have their segment".into());
    for segment in (0..other.map().geometry().segment_count).filter(|segment| *segment != THEIRS) {
        let freed = other.sequence(segment).load(Ordering::Acquire);
        check(freed == 0, || format!("segment {segment} of the newcomer was freed {freed} times"));
    }
}

/// Frees what another generation of the slot has in hand than the one that it saw first.
fn release_by_old_generation(process: &Process) {
    let generation = participant::generation(process.region(), process.map().geometry(), DEAD);
    for segment in 0..process.map().geometry().segment_count {
        let state = process.state(segment);
        let from = state.load(Ordering::Acquire);
        let is_other = Owner::from_word((from >> 32) as u32).is_some_and(|owner| !owner.is_generation(generation));
        if from & 0xff == 1 && is_other {
            process.sequence(segment).fetch_add(1, Ordering::AcqRel);
            let _ = state.compare_exchange(from, 0, Ordering::AcqRel, Ordering::Relaxed);
        }
    }
}

// --- pins -----------------------------------------------------------------------------------

fn words(process: &Process, offset: u64) -> [u64; 2] {
    [0, 8].map(|at| process.region().word(offset + at).load(Ordering::Relaxed))
}

fn read_pin(process: &Process, index: u32) -> u64 {
    process.map().geometry().participant_offset(index) + slot::READ_PINS
}

/// Sets `KEY` in a sealed segment that holds nothing else.
fn seal_alone(process: &Process) -> Linked {
    process.set(OTHER, &value(5));
    process.map().delete(OTHER, u64::MAX).expect("time");
    process.set(KEY, &value(1));
    process.seal();
    process.find(KEY).expect("it was set")
}

/// The next writer's first bytes, over those of the item whose segment became free.
fn write_over(process: &Process, at: Linked) {
    fence(Ordering::Release);
    for word in process.region().slice(at.offset + 16, 2) {
        word.store(u64::from_le_bytes(*b"kreused!"), Ordering::Relaxed);
    }
}

/// A view of `KEY` is what it was.
fn view(reader: &Process, at: Linked, before: [u64; 2]) {
    let Some(value) = reader.map().pin(KEY).expect("a read that ends") else { return };
    if value.is_pinned() {
        let seen = words(reader, at.offset + 16);
        check(seen == before, || format!("a pinned value changed from {before:x?} to {seen:x?}"));
    }
    // SAFETY: R6. It came from `pin` of this map, and its bytes were read above.
    unsafe { reader.map().unpin(value) };
}

/// A pin of the dead stands in the way of a reclaimer, which retires it while another reader
/// pins: a newcomer in the same slot, or one in another slot.
fn pin_beside_a_retirement(comes_anew: bool, reclaim: fn(&Process, Linked) -> bool) {
    let world = World::for_newcomers(3);
    let (reclaimer, dead, living) = (world.attach(0), world.attach(DEAD), world.attach(2));
    let at = seal_alone(&reclaimer);
    let before = words(&reclaimer, at.offset + 16);
    dead.region().word(read_pin(&dead, DEAD)).store(u64::from(at.segment) + 1, Ordering::Release);
    world.host().kill(DEAD);
    let reclaiming = thread::spawn(move || {
        if reclaim(&reclaimer, at) {
            write_over(&reclaimer, at);
        }
        reclaimer
    });
    // Who finds the slot held, attaches elsewhere.
    let reader = if comes_anew { world.attach_anew(DEAD).unwrap_or(living) } else { living };
    view(&reader, at, before);
    sound(&reclaiming.join().expect("its end"));
}

/// Without the look for write pins, of which there are none.
fn reclaim(process: &Process, at: Linked) -> bool {
    process.reclaim_unasked(at.segment)
}

/// Retires a slot that was found dead, by whoever it is by now.
fn retire_unlocked(process: &Process, at: Linked) -> bool {
    if process.map().host().is_dead(Owner::new(DEAD, 1)) {
        process.map().clean_slot(DEAD, None);
    }
    reclaim(process, at)
}

/// `Victim::finish` by hand, which takes the pin of the dead for the only one.
fn retire_and_free(process: &Process, at: Linked) -> bool {
    check(process.change_place(KEY, at.offset, None), || "no slot named the place".into());
    fence(Ordering::SeqCst);
    if process.is_read_pinned(at.segment) {
        process.map().host().retire(DEAD, &mut || process.map().clean_slot(DEAD, None));
    }
    process.free(at.segment)
}

type Copy = fn(&cache_core::Region, &cache_core::Geometry, u32, u32);

/// A view is handed over to a child and let go by the parent, while its segment is reclaimed.
/// The child's slot is one that a scan looks at before the parent's.
fn hand_over(copy: Copy) {
    const CHILD: u32 = 0;
    const PARENT: u32 = 2;
    let world = World::new(3);
    let (reclaimer, parent) = (world.attach(1), world.attach(PARENT));
    let at = seal_alone(&parent);
    let before = words(&parent, at.offset + 16);
    let value = parent.map().pin(KEY).expect("a read that ends").expect("it was set");
    check(value.is_pinned(), || "a view is a copy".into());
    let forking = thread::spawn(move || {
        let child = world.attach(CHILD);
        copy(parent.region(), parent.map().geometry(), PARENT, CHILD);
        // SAFETY: R6. It came from `pin` of this map; the child's pin is another.
        unsafe { parent.map().unpin(value) };
        let seen = words(&child, at.offset + 16);
        check(seen == before, || format!("an inherited view changed from {before:x?} to {seen:x?}"));
        child.region().word(read_pin(&child, CHILD)).store(0, Ordering::Release);
    });
    if reclaimer.reclaim(at.segment, false) {
        write_over(&reclaimer, at);
    }
    forking.join().expect("its end");
    sound(&reclaimer);
}

fn copy_cells(region: &cache_core::Region, geometry: &cache_core::Geometry, [from, to]: [u32; 2]) {
    let cell = |index: u32| region.word(geometry.participant_offset(index) + slot::READ_PINS);
    cell(to).store(cell(from).load(Ordering::Acquire), Ordering::Release);
}

/// `copy_read_pins` by hand, of the first cell.
fn copy(region: &cache_core::Region, geometry: &cache_core::Geometry, slots: [u32; 2], copies_first: bool) {
    let count = || region.word(geometry.control_offset + control::HANDOVER_COUNT).fetch_add(1, Ordering::AcqRel);
    if copies_first {
        copy_cells(region, geometry, slots);
        fence(Ordering::SeqCst);
        count();
    } else {
        count();
        copy_cells(region, geometry, slots);
    }
}
