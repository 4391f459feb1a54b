//! Appending to a lane against walks, seals and deaths: `append`.

use cache_core::layout::{lane, participant};
use cache_core::lock;
use cache_core::model::{Process, World};
use cache_core::sync::{Ordering, fence};
use loom::thread;
use loom_tests::{Case, check, model, twin};

use crate::reading::{KEY, OTHER, value};

pub const CASES: &[Case] = &[
    model("append", 3, || walk_beside(|writer, _| writer.set(KEY, &value(1)))),
    model("append.filled", 3, || walk_beside(|writer, _| writer.set(KEY, &ALIGNED))),
    model("append.by_hand", 3, || walk_beside(|writer, at| append(writer, at, Step::ALL))),
    twin("append: the offset, then the header", 3, || {
        walk_beside(|writer, at| append(writer, at, &[Step::Offset, Step::Header]));
    }),
    twin("append: the offset publishes nothing", 3, || {
        walk_beside(|writer, at| append(writer, at, &[Step::Header, Step::OffsetRelaxed]));
    }),
    model("append.dies", 2, || go_on_after_a_death(&[Step::Header])),
    twin("append.dies: the offset, then the header", 2, || go_on_after_a_death(&[Step::Offset])),
    model("append.compacted", 2, || compact_beside(|process, _| process.seal())),
    twin("append.compacted: sealed without the lane's lock", 2, || compact_beside(seal_unlocked)),
];

/// Larger than `COPY_BYTES_MAX`: begins at a line, behind a filler.
const ALIGNED: [u8; 32] = [3; 32];
/// Bytes of an item of `KEY` or `OTHER` with a small value.
const ITEM_BYTES: u64 = 32;

/// The open segment with the item of `OTHER`, and where the next one goes.
#[derive(Clone, Copy)]
struct Place {
    segment: u32,
    other: u64,
    next: u64,
}

fn world(processes: u32) -> (World, Vec<Process>, Place) {
    let world = World::new(processes);
    let all: Vec<Process> = (0..processes).map(|index| world.attach(index)).collect();
    all[0].set(OTHER, &value(5));
    let other = all[0].find(OTHER).expect("it was set");
    (world, all, Place { segment: other.segment, other: other.offset, next: other.offset + ITEM_BYTES })
}

/// One of the stores of an append.
#[derive(Clone, Copy)]
enum Step {
    Header,
    Offset,
    OffsetRelaxed,
}

impl Step {
    const ALL: &[Step] = &[Step::Header, Step::Offset];

    fn take(self, writer: &Process, at: Place) {
        let written = writer.written(at.segment);
        let end = written.load(Ordering::Relaxed) + ITEM_BYTES;
        match self {
            Step::Header => {
                let header = writer.region().word(at.other).load(Ordering::Relaxed);
                writer.region().word(at.next).store(header, Ordering::Relaxed);
            }
            Step::Offset => written.store(end, Ordering::Release),
            Step::OffsetRelaxed => written.store(end, Ordering::Relaxed),
        }
    }
}

/// `Map::append_locked` by hand.
fn append(writer: &Process, at: Place, steps: &[Step]) {
    let geometry = writer.map().geometry();
    let lane = writer.region().word32(geometry.lane_offset(0) + lane::LOCK);
    let pin = geometry.participant_offset(writer.owner().index()) + participant::WORKERS;
    lock::acquire(lane, writer.owner(), writer.map().host(), u64::MAX).expect("time");
    writer.region().word(pin).store(u64::from(at.segment) + 1, Ordering::Release);
    fence(Ordering::Release);
    steps.iter().for_each(|step| step.take(writer, at));
    lock::release(lane, writer.map().host());
}

/// A walk meets item after item up to the write offset that it saw.
fn check_walk(process: &Process, at: Place) {
    let (met, end) = process.walk(at.segment);
    let mut next = at.other;
    for (offset, _, bytes) in &met {
        check(*offset == next, || format!("an item at {offset}, and none at {next}"));
        next += bytes;
    }
    check(next == end, || format!("{met:?} lead to {next}, and {end} was written"));
}

/// A segment is walked while another process appends to it.
fn walk_beside(write: fn(&Process, Place)) {
    let (_world, mut all, at) = world(2);
    let (walker, writer) = (all.pop().expect("two"), all.pop().expect("two"));
    let walking = thread::spawn(move || {
        check_walk(&walker, at);
        walker
    });
    write(&writer, at);
    check_walk(&walking.join().expect("its end"), at);
}

/// The holder of a lane dies in the middle of an append; the next one goes on at the offset
/// it left.
fn go_on_after_a_death(steps: &'static [Step]) {
    let (world, mut all, at) = world(3);
    let (dying, writer, walker) = (all.pop().expect("three"), all.pop().expect("three"), all.pop().expect("three"));
    let lane = at_lane(&writer);
    let dies = thread::spawn(move || {
        lock::acquire(dying.region().word32(lane), dying.owner(), dying.map().host(), u64::MAX).expect("time");
        steps.iter().for_each(|step| step.take(&dying, at));
        world.host().kill(dying.owner().index());
    });
    let lock = writer.region().word32(lane);
    // As a writer that finds every lane held: it takes over the first.
    lock::acquire(lock, writer.owner(), writer.map().host(), u64::MAX).expect("time");
    lock::release(lock, writer.map().host());
    writer.set(KEY, &value(1));
    dies.join().expect("its end");
    check_walk(&walker, at);
    let said = walker.get(KEY);
    check(said == Some(value(1)), || format!("{said:?} was read"));
}

fn at_lane(process: &Process) -> u64 {
    process.map().geometry().lane_offset(0) + lane::LOCK
}

/// A segment is sealed and compacted while another process appends to it: everything that
/// was set is still there, and what is reused was nobody's.
fn compact_beside(seal: fn(&Process, Place)) {
    let (_world, mut all, at) = world(2);
    let (reclaimer, writer) = (all.pop().expect("two"), all.pop().expect("two"));
    let reclaiming = thread::spawn(move || {
        seal(&reclaimer, at);
        if reclaimer.reclaim(at.segment, true) {
            reclaimer.set(OTHER, &value(6));
        }
        reclaimer
    });
    writer.set(KEY, &value(1));
    let reclaimer = reclaiming.join().expect("its end");
    let problems = reclaimer.problems();
    check(problems.is_empty(), || problems.join("; "));
    let said = reclaimer.get(KEY);
    check(said == Some(value(1)), || format!("{said:?} was read"));
    let said = reclaimer.get(OTHER);
    check(said == Some(value(5)) || said == Some(value(6)), || format!("{said:?} was read"));
}

/// `Map::seal_locked` by a process that does not hold the lane.
fn seal_unlocked(process: &Process, at: Place) {
    let state = process.state(at.segment);
    let from = state.load(Ordering::Acquire);
    let sealed = from & !0xff | 3;
    check(state.compare_exchange(from, sealed, Ordering::AcqRel, Ordering::Relaxed).is_ok(), || "not open".into());
}
