//! Clearing against set and get: `clear`.

use std::sync::Arc;

use cache_core::layout::{control, stripe};
use cache_core::model::{Process, World};
use cache_core::sync::{AtomicU64, Ordering};
use loom::thread;
use loom_tests::{Case, check, model, twin};

use crate::reading::{KEY, OTHER, value};

pub const CASES: &[Case] = &[
    model("clear", 2, || clear_beside(|writer| writer.set(OTHER, &value(2)), |reader| reader.get(KEY))),
    model("clear.general", 2, || clear_beside(|writer| writer.set(OTHER, &value(2)), |reader| reader.lookup(KEY))),
    model("clear.by_hand", 2, || clear_beside(|writer| catch_up(writer, true), |reader| judge(reader, true))),
    twin("clear: the generation is seen before the version is noted", 2, || {
        clear_beside(|writer| catch_up(writer, false), |reader| reader.get(KEY));
    }),
    twin("clear: the version is read before the generation", 2, || {
        clear_beside(|writer| writer.set(OTHER, &value(2)), |reader| judge(reader, false));
    }),
    model("clear.set", 2, set_beside_a_clear),
];

/// A key from before a clear is gone for everybody who was told of the clear, whoever
/// catches up with it meanwhile.
fn clear_beside(catches_up: fn(&Process), read: fn(&Process) -> Option<Vec<u8>>) {
    let world = World::new(2);
    let (writer, reader) = (world.attach(0), world.attach(1));
    writer.set(KEY, &value(1));
    let told = Arc::new(AtomicU64::new(0));
    let tells = told.clone();
    let writing = thread::spawn(move || {
        writer.map().clear().expect("a writable region");
        tells.store(1, Ordering::Release);
        catches_up(&writer);
    });
    let is_told = told.load(Ordering::Acquire) == 1;
    let said = read(&reader);
    check(said.is_none() || (!is_told && said == Some(value(1))), || format!("{said:?} was read after the clear"));
    writing.join().expect("its end");
    check(reader.get(KEY).is_none(), || "the key is back".into());
}

struct Words<'p> {
    generation: &'p AtomicU64,
    version: &'p AtomicU64,
    seen: &'p AtomicU64,
    cleared: &'p AtomicU64,
}

fn words(process: &Process) -> Words<'_> {
    let geometry = process.map().geometry();
    let of_stripe = |offset: u64| process.region().word(geometry.stripe_offset(0) + offset);
    Words {
        generation: process.region().word(geometry.control_offset + control::REGION_GENERATION),
        version: of_stripe(stripe::VERSION),
        seen: of_stripe(stripe::SEEN_DEFAULT),
        cleared: of_stripe(stripe::CLEARED_DEFAULT),
    }
}

/// What a writer does under the lock, by hand.
fn catch_up(writer: &Process, notes_first: bool) {
    let words = words(writer);
    let generation = words.generation.load(Ordering::Acquire);
    let version = words.version.load(Ordering::Relaxed);
    if notes_first {
        words.cleared.store(version, Ordering::Release);
        words.seen.store(generation, Ordering::Release);
    } else {
        words.seen.store(generation, Ordering::Release);
        words.cleared.store(version, Ordering::Release);
    }
}

/// What a reader asks of the first item of a region, by hand: alive?
fn judge(reader: &Process, sees_first: bool) -> Option<Vec<u8>> {
    let words = words(reader);
    let (seen, cleared);
    if sees_first {
        seen = words.seen.load(Ordering::Acquire);
        cleared = words.cleared.load(Ordering::Acquire);
    } else {
        cleared = words.cleared.load(Ordering::Acquire);
        seen = words.seen.load(Ordering::Acquire);
    }
    let is_dead = seen != words.generation.load(Ordering::Acquire) || 1 <= cleared;
    (!is_dead).then(|| value(1))
}

/// What is set by somebody who was told of a clear survives it; what was there before it
/// does not.
fn set_beside_a_clear() {
    let world = World::new(2);
    let (clearer, writer) = (world.attach(0), world.attach(1));
    writer.set(OTHER, &value(1));
    let told = Arc::new(AtomicU64::new(0));
    let tells = told.clone();
    let clearing = thread::spawn(move || {
        clearer.map().clear().expect("a writable region");
        tells.store(1, Ordering::Release);
        clearer
    });
    let is_told = told.load(Ordering::Acquire) == 1;
    writer.set(KEY, &value(2));
    let clearer = clearing.join().expect("its end");
    for process in [&writer, &clearer] {
        let said = process.get(KEY);
        check(said == Some(value(2)) || (said.is_none() && !is_told), || format!("{said:?} was read"));
        check(process.get(OTHER).is_none(), || "what was cleared is back".into());
    }
    let problems = clearer.problems();
    check(problems.is_empty(), || problems.join("; "));
}
