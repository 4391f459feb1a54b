//! Witnesses beside writers: `witness`.

use std::sync::Arc;

use cache_core::model::{Linked, Process, World};
use cache_core::sync::{AtomicU64, Ordering};
use cache_core::{Witness, WriteOptions};
use loom::thread;
use loom_tests::{Case, check, model, twin};

use crate::pinning::{EXPIRES_AT_MS, large, touch_engine};
use crate::reading::{KEY, value};

const TAG: &[u8] = b"t";

pub const CASES: &[Case] = &[
    model("witness", 2, || overwrite_and_reuse(|reader, _, witness| reader.map().still_holds(witness))),
    model("witness.renewed", 2, || overwrite_and_reuse(renew)),
    model("witness.by_hand", 2, || overwrite_and_reuse(|reader, at, _| holds(reader, at, true))),
    twin("witness: the counter is not looked at", 2, || {
        overwrite_and_reuse(|reader, at, _| holds(reader, at, false));
    }),
    model("witness.clear", 2, || end_beside(|process| process.map().clear().expect("a writable region"))),
    model("witness.evict", 2, || {
        end_beside(|process| process.map().evict_tag(Default::default(), TAG).expect("a writable region"));
    }),
    model("witness.delete", 2, || {
        end_beside(|process| check(process.map().delete(KEY, u64::MAX).expect("time"), || "it was not there".into()));
    }),
    model("witness.touch", 2, || touch_beside_split(touch_engine)),
    twin("witness: a touch tells the bucket where the item was", 2, || touch_beside_split(touch_where_it_was)),
];

/// A region in which `KEY` has value 1, with a tag, in a sealed segment; two processes, and what
/// the second has read.
fn begin() -> (World, Process, Process, Linked, Witness) {
    let world = World::new(2);
    let (writer, reader) = (world.attach(0), world.attach(1));
    let options = WriteOptions { tags: &[TAG], ..WriteOptions::default() };
    writer.map().set(KEY, &value(1), &options).expect("room");
    writer.seal();
    let witness = reader.map().get_witnessed(KEY, &mut Vec::new()).expect("a read that ends").expect("it was set").1;
    let at = reader.find(KEY).expect("it was set");
    (world, writer, reader, at, witness)
}

/// Value 1 at A, 2 at B, 3 at A again: a slot that holds what it held. Who was told of a value is
/// never told that an older one still holds.
fn overwrite_and_reuse(asks: fn(&Process, Linked, &Witness) -> bool) {
    let (_world, writer, reader, at, witness) = begin();
    let told = Arc::new(AtomicU64::new(1));
    let tells = told.clone();
    let writing = thread::spawn(move || {
        writer.set(KEY, &value(2));
        tells.store(2, Ordering::Release);
        check(writer.reclaim(at.segment, false), || "a dead segment was not freed".into());
        writer.seal();
        let options = WriteOptions { tags: &[TAG], ..WriteOptions::default() };
        writer.map().set(KEY, &value(3), &options).expect("room");
    });
    let is_told = told.load(Ordering::Acquire) > 1;
    let holds = asks(&reader, at, &witness);
    check(!(is_told && holds), || "value 1 still holds although value 2 was told of".into());
    writing.join().expect("its end");
    let place = reader.find(KEY).map(|now| now.offset);
    check(place == Some(at.offset), || format!("the place is not reused: {place:?}, not {}", at.offset));
    check(!asks(&reader, at, &witness), || "value 1 still holds although value 3 is there".into());
}

fn renew(reader: &Process, _at: Linked, witness: &Witness) -> bool {
    reader.map().renew(KEY, &mut witness.clone()).expect("a read that ends")
}

/// What `still_holds` asks of slot and counter, by hand.
fn holds(reader: &Process, at: Linked, looks_at_counter: bool) -> bool {
    let without_uses = |slot: u64| slot & !(3 << 40);
    let slot = reader.region().word(at.slot).load(Ordering::Acquire);
    without_uses(slot) == without_uses(at.word)
        // The first value to be set in its bucket.
        && (!looks_at_counter || reader.region().word(at.counter).load(Ordering::Acquire) == 1)
}

/// Whoever was told of the end of a value is not told that it still holds.
fn end_beside(ends: fn(&Process)) {
    let (_world, writer, reader, _, witness) = begin();
    let told = Arc::new(AtomicU64::new(0));
    let tells = told.clone();
    let ending = thread::spawn(move || {
        ends(&writer);
        tells.store(1, Ordering::Release);
    });
    let is_told = told.load(Ordering::Acquire) == 1;
    let holds = reader.map().still_holds(&witness);
    check(!(is_told && holds), || "a value still holds after its end".into());
    ending.join().expect("its end");
    check(!reader.map().still_holds(&witness), || "a value still holds after its end".into());
}

/// Stores the expiry of an item that stays where it is, between two bumps of the bucket that it
/// was in before the split.
fn touch_where_it_was(process: &Process, at: Linked) {
    let counter = process.region().word(at.counter);
    counter.fetch_add(1, Ordering::Release);
    process.region().word(at.offset + 16).store(EXPIRES_AT_MS, Ordering::Release);
    counter.fetch_add(1, Ordering::Release);
}

/// A large value gets another expiry where it lies, while a split moves its slot to another bucket,
/// from which it is read. Who knows the expiry of before is not told that it holds.
fn touch_beside_split(touch: fn(&Process, Linked)) {
    let world = World::new(2);
    let (toucher, reader) = (world.attach(0), world.attach(1));
    toucher.set(KEY, &large(1));
    toucher.seal();
    let at = toucher.find(KEY).expect("it was set");
    let touching = thread::spawn(move || touch(&toucher, at));
    reader.split(KEY);
    let (meta, witness) =
        reader.map().get_witnessed(KEY, &mut Vec::new()).expect("a read that ends").expect("it was set");
    touching.join().expect("its end");
    let knows = meta.expires_at_ms == EXPIRES_AT_MS;
    check(knows || !reader.map().still_holds(&witness), || "the expiry of before still holds".into());
}
