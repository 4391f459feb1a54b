//! The split of a block against the reclaimer's step and readers: `split`.

use std::sync::Arc;

use cache_core::layout::{block, stripe};
use cache_core::model::{Linked, Process, World};
use cache_core::sync::{AtomicU64, Ordering};
use loom::thread;
use loom_tests::{Case, check, model, twin};

use crate::reading::{KEY, OTHER, value};

pub const CASES: &[Case] = &[
    model("split", 2, || split_beside(|process, at| process.change_place(KEY, at.offset, None), false)),
    model("split.relocated", 2, || {
        split_beside(|process, at| process.change_place(KEY, at.offset, Some(at.offset + APART)), true);
    }),
    model("split.by_hand", 2, || split_beside(|process, at| drop_by_hand(process, at, Second::Bump), false)),
    twin("split: no second look at the counter", 2, || {
        split_beside(|process, at| drop_by_hand(process, at, Second::Nothing), false);
    }),
    twin("split: the second look is a load", 2, || {
        split_beside(|process, at| drop_by_hand(process, at, Second::Load), false);
    }),
    model("split.read", 1, || read_beside_a_split(false)),
    model("split.read_relocated", 1, || read_beside_a_split(true)),
    model("split.written", 2, write_beside_a_split),
];

/// From an item to the copy of it that stands after it.
const APART: u64 = 32;

/// Two processes, and the key's value twice, side by side; the first is the linked one.
fn world(processes: u32) -> (Vec<Process>, Linked) {
    let world = World::new(processes);
    let all: Vec<Process> = (0..processes).map(|index| world.attach(index)).collect();
    all[0].set(KEY, &value(1));
    let at = all[0].find(KEY).expect("it was set");
    all[0].set(KEY, &value(1));
    let copy = all[0].find(KEY).expect("it was set");
    assert_eq!(copy.offset, at.offset + APART, "the copy stands after it");
    all[0].region().word(at.slot).store(at.word, Ordering::Relaxed);
    (all, at)
}

/// After a reclaimer's step no slot names the place any more, whatever the split copied.
fn split_beside(step: fn(&Process, Linked) -> bool, stays: bool) {
    let (mut all, at) = world(2);
    let (reclaimer, writer) = (all.pop().expect("two"), all.pop().expect("two"));
    let splitting = thread::spawn(move || {
        writer.split(KEY);
        writer
    });
    let stepped = step(&reclaimer, at);
    let writer = splitting.join().expect("its end");
    check(stepped, || "no slot named the place".into());
    let now = writer.find(KEY).map(|now| now.offset);
    let expected = stays.then_some(at.offset + APART);
    check(now == expected, || format!("the slot names {now:?}, not {expected:?}"));
}

/// What follows the CAS of the reclaimer's step.
#[derive(Clone, Copy, PartialEq)]
enum Second {
    Bump,
    Load,
    Nothing,
}

/// `Map::change_place` by hand.
fn drop_by_hand(process: &Process, at: Linked, second: Second) -> bool {
    let moved = |counter: u64| counter & block::MOVED != 0;
    let mut done = false;
    'again: loop {
        for counter in process.buckets(KEY) {
            let bucket = process.region().words::<8>(counter);
            let before = bucket[0].load(Ordering::Acquire);
            for slot in &bucket[1..] {
                let word = slot.load(Ordering::Acquire);
                if word & ((1 << 40) - 1) != at.offset / 8 {
                    continue;
                }
                if moved(bucket[0].fetch_add(1, Ordering::AcqRel)) {
                    continue 'again;
                }
                if slot.compare_exchange(word, 0, Ordering::AcqRel, Ordering::Relaxed).is_err() {
                    continue 'again;
                }
                done = true;
                let again = match second {
                    Second::Bump => moved(bucket[0].fetch_add(1, Ordering::AcqRel)),
                    Second::Load => moved(bucket[0].load(Ordering::Acquire)),
                    Second::Nothing => false,
                };
                if again {
                    continue 'again;
                }
                return done;
            }
            if bucket[0].load(Ordering::Acquire) != before {
                continue 'again;
            }
        }
        return done;
    }
}

/// A reader beside a split and a reclaimer's step, after which the old place is reused.
fn read_beside_a_split(relocates: bool) {
    let (mut all, at) = world(3);
    let (reader, reclaimer, writer) = (all.pop().expect("three"), all.pop().expect("three"), all.pop().expect("three"));
    let splitting = thread::spawn(move || writer.split(KEY));
    let reclaiming = thread::spawn(move || {
        reclaimer.change_place(KEY, at.offset, relocates.then_some(at.offset + APART));
        // The incarnation of the segment ends before its space is used again.
        reclaimer.sequence(at.segment).fetch_add(1, Ordering::AcqRel);
        cache_core::sync::fence(Ordering::Release);
        for word in reclaimer.region().slice(at.offset + 16, 2) {
            word.store(u64::from_le_bytes(*b"kreused!"), Ordering::Relaxed);
        }
    });
    let said = reader.get(KEY);
    let is_right = match &said {
        Some(said) => *said == value(1),
        None => !relocates,
    };
    check(is_right, || format!("{said:?} was read"));
    splitting.join().expect("its end");
    reclaiming.join().expect("its end");
}

/// A key that is overwritten under the lock beside a split of its block.
fn write_beside_a_split() {
    let world = World::new(2);
    let (splitter, writer) = (world.attach(0), world.attach(1));
    splitter.set(KEY, &value(1));
    splitter.set(OTHER, &value(5));
    let told = Arc::new(AtomicU64::new(0));
    let splitting = thread::spawn(move || splitter.split(KEY));
    writer.set(KEY, &value(2));
    told.store(1, Ordering::Release);
    for (key, number) in [(KEY, 2), (OTHER, 5)] {
        let said = writer.get(key);
        check(said == Some(value(number)), || format!("{said:?} was read, not {number}"));
    }
    splitting.join().expect("its end");
    let problems = writer.problems();
    check(problems.is_empty(), || problems.join("; "));
}

const _: () = assert!(stripe::DIRECTORY_DEPTH > 0);
