//! Values larger than a segment: their windows, their parts, their readers: `run`.

use cache_core::layout::COPY_BYTES_MAX;
use cache_core::model::{Linked, Process, World};
use cache_core::sync::{Ordering, fence};
use loom::thread;
use loom_tests::{Case, check, model, twin};

use crate::reading::{KEY, OTHER, value};

pub const CASES: &[Case] = &[
    model("run", 2, || obtain_two(|process| process.obtain_run(LENGTH))),
    twin("run: claimed by stores", 2, || obtain_two(claim_by_stores)),
    model("run.parts", 2, || make_beside_a_clean_up(|maker| maker.set(KEY, &large(1)))),
    twin("run.parts: named before the head", 2, || make_beside_a_clean_up(name_parts_first)),
    twin("run.parts: without a length for a moment", 2, || make_beside_a_clean_up(lose_length)),
    model("run.made_again", 2, || make_again_beside(|cleaner| _ = cleaner.release_stray_parts())),
    twin("run.made_again: the head is judged alone", 2, || {
        make_again_beside(|cleaner| release_strays(cleaner, |_, _| 0))
    }),
    twin("run.made_again: the part's sequence is compared", 2, || {
        make_again_beside(|cleaner| release_strays(cleaner, |process, [part, _]| sequence(process, part)));
    }),
    model("run.made_again_by_hand", 2, || {
        make_again_beside(|cleaner| release_strays(cleaner, |process, [_, head]| sequence(process, head)));
    }),
    model("run.dead", 2, || release_twice(|process| _ = process.release_the_dead())),
    twin("run.dead: released by who does not own it", 2, || release_twice(release_unowned)),
    model("run.read", 2, || read_beside_a_release(|process, at| process.reclaim(at.segment, false))),
    model("run.by_hand", 2, || read_beside_a_release(|process, at| release(process, at, true))),
    twin("run: the parts are freed before the sequence moves", 2, || {
        read_beside_a_release(|process, at| release(process, at, false));
    }),
];

/// The slot of the one that died.
const DEAD: u32 = 5;
/// Segments of each run here.
const LENGTH: u32 = 2;
const VALUE_BYTES: usize = 456;

// State words, as the table in `segment` says.
const CLAIMED: u64 = 1;
const RECLAIMING: u64 = 4;
const RUN_PART: u64 = 8;
const IS_RUN: u64 = 1 << 17;

fn owned(process: &Process, usage: u64) -> u64 {
    usage | u64::from(process.owner().word()) << 32
}

fn part_of(head: u32) -> u64 {
    RUN_PART | u64::from(head) << 32
}

/// A value whose item reaches into a second segment.
fn large(number: u8) -> Vec<u8> {
    vec![number; VALUE_BYTES]
}

fn two() -> (World, Process, Process) {
    let world = World::for_runs(2);
    let (first, second) = (world.attach(0), world.attach(1));
    (world, first, second)
}

fn sound(process: &Process) {
    let problems = process.problems();
    check(problems.is_empty(), || problems.join("; "));
}

fn is_part(process: &Process, segment: u32, head: u32) -> bool {
    let state = process.state(segment).load(Ordering::Acquire);
    state & 0xff == RUN_PART && (state >> 32) as u32 == head
}

/// Two processes want a window at once.
fn obtain_two(obtain: fn(&Process) -> u32) {
    let (_world, first, second) = two();
    let other = thread::spawn(move || (obtain(&second), second));
    let head = obtain(&first);
    let (other_head, second) = other.join().expect("its end");
    check(head.abs_diff(other_head) >= LENGTH, || format!("the runs at {head} and {other_head} overlap"));
    for (process, head) in [(&first, head), (&second, other_head)] {
        let state = process.state(head).load(Ordering::Acquire);
        check(state == owned(process, CLAIMED) | IS_RUN, || format!("the head at {head} is {state:x}"));
        check(is_part(process, head + 1, head), || format!("the run at {head} has no second part"));
    }
}

/// Claims the first free window by a look and stores.
fn claim_by_stores(process: &Process) -> u32 {
    let count = process.map().geometry().segment_count;
    let head = (0..count - 1).find(|head| process.is_free(*head) && process.is_free(*head + 1)).expect("a window");
    process.state(head).store(owned(process, CLAIMED) | IS_RUN, Ordering::Release);
    process.state(head + 1).store(part_of(head), Ordering::Release);
    head
}

/// A run is made while another process frees parts that belong to no run.
fn make_beside_a_clean_up(make: fn(&Process)) {
    let (_world, maker, cleaner) = two();
    let cleaning = thread::spawn(move || cleaner.release_stray_parts());
    make(&maker);
    cleaning.join().expect("its end");
    let count = maker.map().geometry().segment_count;
    let heads: Vec<u32> =
        (0..count).filter(|index| maker.state(*index).load(Ordering::Acquire) & IS_RUN != 0).collect();
    check(heads.len() == 1, || format!("the runs are {heads:?}"));
    check(heads.iter().all(|head| is_part(&maker, head + 1, *head)), || "a part of the run was freed".into());
}

/// As `Map::claim_window`, in another order.
fn name_parts_first(process: &Process) {
    process.state(0).store(owned(process, CLAIMED), Ordering::Release);
    process.state(1).store(part_of(0), Ordering::Release);
    process.progress(0).store(u64::from(LENGTH) << 32, Ordering::Relaxed);
    process.state(0).store(owned(process, CLAIMED) | IS_RUN, Ordering::Release);
}

/// Resets all of the head's row, as that of a segment.
fn lose_length(process: &Process) {
    let head = process.obtain_run(LENGTH);
    let length = process.progress(head).swap(0, Ordering::Relaxed);
    process.progress(head).store(length, Ordering::Relaxed);
}

/// A run is freed and another one made in its place, while another process frees parts that
/// belong to no run.
fn make_again_beside(clean_up: fn(&Process)) {
    let (_world, maker, cleaner) = two();
    // So that the windows are the same both times.
    maker.set(OTHER, &value(5));
    maker.set(KEY, &large(1));
    let head = maker.find(KEY).expect("it was set").segment;
    let cleaning = thread::spawn(move || clean_up(&cleaner));
    check(maker.reclaim(head, false), || "the run was not freed".into());
    let again = maker.obtain_run(LENGTH);
    cleaning.join().expect("its end");
    check(again == head, || format!("the run at {head} was made again at {again}"));
    check(is_part(&maker, again + 1, again), || "a part of the new run was freed".into());
}

/// `Map::release_stray_parts` by hand. What `asks` says of a part and its head is the same
/// before and after the head is judged.
fn release_strays(process: &Process, asks: fn(&Process, [u32; 2]) -> u64) {
    let state = |segment: u32| process.state(segment).load(Ordering::Acquire);
    for index in 0..process.map().geometry().segment_count {
        let from = state(index);
        if from & 0xff != RUN_PART {
            continue;
        }
        let head = (from >> 32) as u32;
        let before = asks(process, [index, head]);
        if state(index) == from && state(head) & IS_RUN == 0 && asks(process, [index, head]) == before {
            free(process, index, from);
        }
    }
}

fn sequence(process: &Process, segment: u32) -> u64 {
    process.sequence(segment).load(Ordering::Acquire)
}

fn free(process: &Process, segment: u32, from: u64) {
    process.sequence(segment).fetch_add(1, Ordering::AcqRel);
    let _ = process.state(segment).compare_exchange(from, 0, Ordering::AcqRel, Ordering::Relaxed);
}

/// The maker of a run died; two others give it back, one of which makes a run in its place.
fn release_twice(release: fn(&Process)) {
    // High slots choose the last of equal windows, so that the run can be made in the same place.
    let world = World::for_runs(DEAD + 1);
    let (first, second, dead) = (world.attach(DEAD - 1), world.attach(0), world.attach(DEAD));
    dead.obtain_run(LENGTH);
    world.host().kill(DEAD);
    let other = thread::spawn(move || release(&second));
    first.release_the_dead();
    let head = first.obtain_run(LENGTH);
    other.join().expect("its end");
    let state = first.state(head).load(Ordering::Acquire);
    check(state == owned(&first, CLAIMED) | IS_RUN, || format!("the head at {head} is {state:x}"));
    check(is_part(&first, head + 1, head), || "a part of the new run was freed".into());
}

/// `Map::release_run` of a dead owner's run by hand.
fn release_unowned(process: &Process) {
    for head in 0..process.map().geometry().segment_count - 1 {
        let from = process.state(head).load(Ordering::Acquire);
        let owner = cache_core::Owner::from_word((from >> 32) as u32);
        if from & 0xff == CLAIMED && from & IS_RUN != 0 && owner.is_some_and(|owner| owner.index() == DEAD) {
            free(process, head + 1, part_of(head));
            free(process, head, from);
        }
    }
}

/// A run is read without a pin while it is freed and its second part written anew.
fn read_beside_a_release(release: fn(&Process, Linked) -> bool) {
    const { assert!(VALUE_BYTES > COPY_BYTES_MAX) };
    let (world, writer, _) = two();
    writer.set(KEY, &large(1));
    writer.seal();
    let at = writer.find(KEY).expect("it was set");
    let reader = world.attach_read_only();
    let reading = thread::spawn(move || {
        let mut said = Vec::new();
        let found = reader.get(KEY, &mut said).expect("a read that ends").is_some();
        check(!found || said == large(1), || "a value was read that nobody set".into());
    });
    if release(&writer, at) {
        write_over(&writer, at);
    }
    reading.join().expect("its end");
    sound(&writer);
}

/// The first bytes of whoever has the second part next.
fn write_over(writer: &Process, at: Linked) {
    fence(Ordering::Release);
    let part = at.offset + writer.map().geometry().segment_bytes();
    writer.region().word(part).store(u64::MAX, Ordering::Relaxed);
}

/// `Victim::finish` of a run by hand.
fn release(process: &Process, at: Linked, sequence_first: bool) -> bool {
    let head = at.segment;
    let sealed = process.state(head).load(Ordering::Acquire);
    let ours = owned(process, RECLAIMING) | IS_RUN;
    process.state(head).store(ours, Ordering::Release);
    check(process.change_place(KEY, at.offset, None), || "no slot named the run".into());
    fence(Ordering::SeqCst);
    check(sealed & IS_RUN != 0, || "no run".into());
    if sequence_first {
        process.sequence(head).fetch_add(1, Ordering::AcqRel);
    }
    let part = process.state(head + 1).load(Ordering::Acquire);
    free(process, head + 1, part);
    if !sequence_first {
        write_over(process, at);
    }
    free(process, head, ours);
    sequence_first
}
