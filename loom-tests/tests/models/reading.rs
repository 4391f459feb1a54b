//! Reading beside overwriting and reuse: `publish`, `beside_a_writer`, `reuse`.
//!
//! One key has three values: the first at place A, the second elsewhere, the third at
//! place A again, in its next life. So its slot word comes back, which is what the order
//! of a read must withstand.

use std::sync::Arc;

use cache_core::layout;
use cache_core::model::{Linked, Process, World};
use cache_core::sync::{AtomicU64, Ordering, fence};
use loom::thread;
use loom_tests::{Case, check, model, twin};

pub const CASES: &[Case] = &[
    model("publish", 2, || overwrite_and_reuse(|reader, _| Some(reader.get(KEY)))),
    model("publish.general", 2, || overwrite_and_reuse(|reader, _| Some(reader.lookup(KEY)))),
    model("publish.writer_first", 1, || reuse_and_overtake(|reader, _| Some(reader.get(KEY)))),
    model("publish.writer_first_general", 1, || reuse_and_overtake(|reader, _| Some(reader.lookup(KEY)))),
    model("publish.by_hand", 2, || overwrite_and_reuse(|reader, at| read(reader, at, Order::SlotThenCounter))),
    twin("publish: the counter, then the slot", 2, || {
        overwrite_and_reuse(|reader, at| read(reader, at, Order::CounterThenSlot));
    }),
    twin("publish: no second look", 2, || overwrite_and_reuse(|reader, at| read(reader, at, Order::Never))),
    model("publish.writer_by_hand", 2, || write_by_hand(true)),
    twin("publish: the slot, then the counter is raised", 2, || write_by_hand(false)),
    model("beside_a_writer", 2, || overwrite_beside(|reader, _| Some(reader.lookup(KEY)))),
    model("beside_a_writer.by_hand", 2, || overwrite_beside(|reader, at| read_beside(reader, at, true))),
    twin("beside_a_writer: no second look before the bytes", 2, || {
        overwrite_beside(|reader, at| read_beside(reader, at, false));
    }),
    model("reuse", 1, || reuse(|writer, _, _| writer.set(OTHER, &value(9)))),
    model("reuse.by_hand", 2, || reuse(|writer, segment, at| reuse_by_hand(writer, segment, at, true))),
    twin("reuse: no fence before the first byte", 2, || {
        reuse(|writer, segment, at| reuse_by_hand(writer, segment, at, false));
    }),
];

pub const KEY: &[u8] = b"k";
pub const OTHER: &[u8] = b"o";
/// Bytes of key and value: two words.
const BODY_BYTES: usize = 16;
/// Where they begin in an item.
const BODY_AT: u64 = 16;

/// A value that shows when it is torn.
pub fn value(number: u8) -> Vec<u8> {
    vec![number; BODY_BYTES - 1]
}

/// The number of a value; `None` if it is torn or nobody's.
fn number_of(value: &[u8]) -> Option<u8> {
    let first = *value.first()?;
    (value.len() == BODY_BYTES - 1 && value.iter().all(|byte| *byte == first)).then_some(first)
}

/// What a read said: nothing if it gave up, else the value if there was one.
type Said = Option<Option<Vec<u8>>>;
type Read = fn(&Process, Linked) -> Said;

/// A region in which `KEY` has value 1 in a sealed segment, and two processes.
fn world() -> (World, Process, Process, Linked) {
    let world = World::new(2);
    let (writer, reader) = (world.attach(0), world.attach(1));
    writer.set(KEY, &value(1));
    writer.seal();
    let at = reader.find(KEY).expect("it was set");
    (world, writer, reader, at)
}

/// Value 1 at A, 2 at B, 3 at A again. Who was told of a value never reads an older one.
fn overwrite_and_reuse(read: Read) {
    let (_world, writer, reader, at) = world();
    let told = Arc::new(AtomicU64::new(1));
    let tells = told.clone();
    let writing = thread::spawn(move || {
        write_both(&writer, at, &tells);
        writer
    });
    let least = told.load(Ordering::Acquire);
    judge(read(&reader, at), least as u8);
    end(&writing.join().expect("its end"), &reader, at);
}

/// The same, with an execution that begins with the writer instead of the reader.
fn reuse_and_overtake(read: Read) {
    let (_world, writer, reader, at) = world();
    let told = Arc::new(AtomicU64::new(1));
    let tells = told.clone();
    let reading = thread::spawn(move || {
        let least = told.load(Ordering::Acquire);
        judge(read(&reader, at), least as u8);
        reader
    });
    write_both(&writer, at, &tells);
    end(&writer, &reading.join().expect("its end"), at);
}

fn write_both(writer: &Process, at: Linked, tells: &AtomicU64) {
    writer.set(KEY, &value(2));
    tells.store(2, Ordering::Release);
    check(writer.reclaim(at.segment, false), || "a dead segment was not freed".into());
    writer.seal();
    writer.set(KEY, &value(3));
}

fn end(writer: &Process, reader: &Process, at: Linked) {
    let place = writer.find(KEY).map(|now| now.offset);
    check(place == Some(at.offset), || format!("the place is not reused: {place:?}, not {}", at.offset));
    judge(Some(reader.get(KEY)), 3);
}

fn judge(said: Said, least: u8) {
    let Some(said) = said else { return };
    let number = said.as_deref().and_then(number_of);
    check(number.is_some_and(|number| (least..=3).contains(&number)), || {
        format!("{said:?} was read when the value was at least {least}")
    });
}

/// The same, with a neighbour in the bucket that is written as well.
fn overwrite_beside(read: Read) {
    let (_world, writer, reader, at) = world();
    let writing = thread::spawn(move || {
        writer.region().word(at.counter).fetch_add(1, Ordering::Release);
        writer.set(KEY, &value(2));
        check(writer.reclaim(at.segment, false), || "a dead segment was not freed".into());
        writer.seal();
        writer.set(KEY, &value(3));
    });
    judge(read(&reader, at), 1);
    writing.join().expect("its end");
}

/// The order of the second look.
#[derive(Clone, Copy, PartialEq)]
enum Order {
    SlotThenCounter,
    CounterThenSlot,
    Never,
}

fn offset_of(slot: u64) -> u64 {
    (slot & ((1 << 40) - 1)) * 8
}

fn without_uses(slot: u64) -> u64 {
    slot & !(3 << 40)
}

/// The value at a place, as a reader copies it.
fn body(process: &Process, offset: u64) -> Vec<u8> {
    let word = |at: u64| process.region().word(offset + BODY_AT + at).load(Ordering::Relaxed).to_le_bytes();
    [word(0), word(8)].concat()[1..].to_vec()
}

/// Form one, by hand.
fn read(process: &Process, at: Linked, order: Order) -> Said {
    let (counter, slot) = (process.region().word(at.counter), process.region().word(at.slot));
    let before = counter.load(Ordering::Acquire);
    let word = slot.load(Ordering::Acquire);
    let value = body(process, offset_of(word));
    fence(Ordering::Acquire);
    let same_slot = || without_uses(slot.load(Ordering::Acquire)) == without_uses(word);
    let same_counter = || counter.load(Ordering::Acquire) == before;
    let is_same = match order {
        Order::SlotThenCounter => same_slot() && same_counter(),
        Order::CounterThenSlot => same_counter() && same_slot(),
        Order::Never => true,
    };
    is_same.then_some(Some(value))
}

/// Form two, by hand.
fn read_beside(process: &Process, at: Linked, looks_twice: bool) -> Said {
    let slot = process.region().word(at.slot);
    let sequence = process.sequence(at.segment);
    let word = slot.load(Ordering::Acquire);
    if offset_of(word) != at.offset {
        return None;
    }
    let same_slot = || without_uses(slot.load(Ordering::Acquire)) == without_uses(word);
    let before = sequence.load(Ordering::Acquire);
    if looks_twice && !same_slot() {
        return None;
    }
    let value = body(process, at.offset);
    fence(Ordering::Acquire);
    let is_same = (looks_twice || same_slot()) && sequence.load(Ordering::Acquire) == before;
    is_same.then_some(Some(value))
}

/// A writer by hand between two places, against the engine's reader.
fn write_by_hand(bumps_first: bool) {
    let world = World::new(2);
    let (writer, reader) = (world.attach(0), world.attach(1));
    writer.set(KEY, &value(2));
    let second = writer.find(KEY).expect("it was set");
    writer.set(KEY, &value(1));
    let first = reader.find(KEY).expect("it was set");
    let writing = thread::spawn(move || {
        let region = writer.region();
        let (counter, slot) = (region.word(first.counter), region.word(first.slot));
        let publish = |word: u64| {
            if bumps_first {
                counter.fetch_add(1, Ordering::Release);
            }
            slot.store(word, Ordering::Release);
        };
        publish(second.word);
        writer.sequence(first.segment).fetch_add(1, Ordering::AcqRel);
        fence(Ordering::Release);
        write_body(&writer, first.offset, 3);
        publish(first.word);
        if !bumps_first {
            // Both were stopped after their stores, and wake now.
            counter.fetch_add(2, Ordering::Release);
        }
    });
    judge(Some(reader.get(KEY)), 1);
    writing.join().expect("its end");
}

fn write_body(process: &Process, offset: u64, number: u8) {
    let body = [KEY, &value(number)].concat();
    for (at, word) in body.chunks_exact(8).enumerate() {
        let word = u64::from_le_bytes(word.try_into().expect("eight bytes"));
        process.region().word(offset + BODY_AT + 8 * at as u64).store(word, Ordering::Relaxed);
    }
}

/// One process deletes the key and frees its segment, another writes into what is free.
fn reuse(write: fn(&Process, u32, u64)) {
    let world = World::new(3);
    let (deleter, reader, writer) = (world.attach(0), world.attach(1), world.attach(2));
    deleter.set(KEY, &value(1));
    deleter.seal();
    let at = reader.find(KEY).expect("it was set");
    let deleting = thread::spawn(move || {
        check(deleter.map().delete(KEY, u64::MAX).expect("time"), || "it was not there".into());
        check(deleter.reclaim(at.segment, false), || "a dead segment was not freed".into());
    });
    let writing = thread::spawn(move || write(&writer, at.segment, at.offset));
    let said = reader.get(KEY);
    check(said.as_ref().is_none_or(|value| number_of(value) == Some(1)), || format!("{said:?} was read"));
    deleting.join().expect("its end");
    writing.join().expect("its end");
}

/// Claims the segment if it is free, and writes into the old item's place.
fn reuse_by_hand(writer: &Process, segment: u32, offset: u64, fences: bool) {
    let claimed = 1 | u64::from(writer.owner().word()) << 32;
    let state = writer.state(segment);
    if state.compare_exchange(0, claimed, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
        if fences {
            fence(Ordering::Release);
        }
        write_body(writer, offset, 9);
    }
}

const _: () = assert!(layout::segment::STATE == 0);
