//! Pins against reclaim: `late_publish`, `pin`, `touch`, and the owners of victims: `reclaim`.

use cache_core::layout::participant;
use cache_core::model::{Linked, Process, World};
use cache_core::sync::{Ordering, fence};
use loom::thread;
use loom_tests::{Case, check, model, twin};

use crate::reading::{KEY, OTHER, value};

pub const CASES: &[Case] = &[
    model("late_publish", 2, || publish_late(|writer| writer.set(KEY, &value(1)), reclaim)),
    twin("late_publish: no pin", 2, || {
        publish_late(|writer| writer.set_with(KEY, &value(1), |pin| pin.store(0, Ordering::Release)), reclaim);
    }),
    twin("late_publish: pinned after the reservation", 2, || publish_late(pin_late, reclaim)),
    twin("late_publish: looked for pins before the seal", 2, || {
        publish_late(|writer| writer.set(KEY, &value(1)), look_and_reclaim);
    }),
    model("pin", 2, || read_pinned(view, false)),
    model("pin.compacted", 2, || read_pinned(view, true)),
    model("pin.large", 2, || read_large(false)),
    model("pin.by_hand", 2, || read_pinned(|reader, at| view_by_hand(reader, at, true), false)),
    twin("pin: no fence", 2, || read_pinned(|reader, at| view_by_hand(reader, at, false), false)),
    model("touch", 2, || touch(touch_engine, reclaim)),
    model("touch.compacted", 2, || touch(touch_engine, |process, segment| process.reclaim(segment, true))),
    twin("touch: no pin", 2, || touch(touch_unpinned, reclaim)),
    twin("touch: looked for pins before the claim", 2, || touch(touch_engine, look_and_reclaim)),
    model("reclaim", 2, || reclaim_twice(|process, segment| process.reclaim(segment, false))),
    twin("reclaim: claimed by a store", 2, || reclaim_twice(reclaim_by_store)),
];

fn reclaim(process: &Process, segment: u32) -> bool {
    process.reclaim(segment, false)
}

/// Looks for pins before it claims; the rest is the engine's.
fn look_and_reclaim(process: &Process, segment: u32) -> bool {
    let is_pinned = process.is_write_pinned(segment);
    process.seal();
    !is_pinned && process.reclaim_unasked(segment)
}

fn sound(process: &Process) {
    let problems = process.problems();
    check(problems.is_empty(), || problems.join("; "));
}

/// The segment that the next item goes to, and a world in which one lane has it open.
fn open_world(processes: u32) -> (World, Vec<Process>, u32) {
    let world = World::new(processes);
    let all: Vec<Process> = (0..processes).map(|index| world.attach(index)).collect();
    all[0].set(OTHER, &value(5));
    let segment = all[0].find(OTHER).expect("it was set").segment;
    (world, all, segment)
}

/// A writer reserves, and is late to link; meanwhile its segment is sealed, reclaimed and
/// written anew.
fn publish_late(write: fn(&Process), reclaim: fn(&Process, u32) -> bool) {
    let (_world, mut all, segment) = open_world(2);
    let (reclaimer, writer) = (all.pop().expect("two"), all.pop().expect("two"));
    let reclaiming = thread::spawn(move || {
        reclaimer.seal();
        if reclaim(&reclaimer, segment) {
            reclaimer.set(OTHER, &value(6));
        }
        reclaimer
    });
    write(&writer);
    let reclaimer = reclaiming.join().expect("its end");
    sound(&reclaimer);
    let said = reclaimer.get(KEY);
    check(said.as_ref().is_none_or(|said| *said == value(1)), || format!("{said:?} was read"));
}

/// The pin is stored after the offset was advanced and the lane given back.
fn pin_late(writer: &Process) {
    writer.set_with(KEY, &value(1), |pin| {
        let segment = pin.swap(0, Ordering::Release);
        fence(Ordering::SeqCst);
        pin.store(segment, Ordering::Release);
    });
}

/// A view of the key's value: how its two words looked at two moments. `None` if nothing
/// was pinned.
type View = fn(&Process, Linked) -> Option<[[u64; 2]; 2]>;

fn words(process: &Process, offset: u64) -> [u64; 2] {
    [0, 8].map(|at| process.region().word(offset + at).load(Ordering::Relaxed))
}

fn view(reader: &Process, _at: Linked) -> Option<[[u64; 2]; 2]> {
    let value = reader.map().pin(KEY).expect("a read that ends")?;
    let seen = value.is_pinned().then(|| {
        // The value begins a byte after the key; a model's address is the offset.
        let offset = value.as_ptr() as u64 - KEY.len() as u64;
        [words(reader, offset), words(reader, offset)]
    });
    // SAFETY: R6. It came from `pin` of this map, and its bytes were read above.
    unsafe { reader.map().unpin(value) };
    seen
}

fn view_by_hand(reader: &Process, at: Linked, fences: bool) -> Option<[[u64; 2]; 2]> {
    let index = u64::from(reader.owner().index());
    let slot = reader.map().geometry().participants_offset + index * participant::BYTES;
    let cell = reader.region().word(slot + participant::READ_PINS);
    cell.store(u64::from(at.segment) + 1, Ordering::Release);
    if fences {
        fence(Ordering::SeqCst);
    }
    let is_there = reader.region().word(at.slot).load(Ordering::Acquire) == at.word;
    let seen = is_there.then(|| [words(reader, at.offset + 16), words(reader, at.offset + 16)]);
    cell.store(0, Ordering::Release);
    seen
}

/// A view is read while its segment is reclaimed and, if it became free, written anew.
fn read_pinned(view: View, compacts: bool) {
    let (_world, mut all, segment) = open_world(2);
    let (reclaimer, reader) = (all.pop().expect("two"), all.pop().expect("two"));
    reader.map().delete(OTHER, u64::MAX).expect("time");
    reader.set(KEY, &value(1));
    reader.seal();
    let at = reader.find(KEY).expect("it was set");
    let before = words(&reader, at.offset + 16);
    let reclaiming = thread::spawn(move || {
        if reclaimer.reclaim(segment, compacts) {
            // Over all of the old item.
            reclaimer.set(OTHER, &value(7));
            reclaimer.set(OTHER, &value(8));
        }
        reclaimer
    });
    if let Some(seen) = view(&reader, at) {
        check(seen == [before; 2], || format!("a pinned value changed from {before:x?} to {seen:x?}"));
    }
    sound(&reclaiming.join().expect("its end"));
}

/// Larger than `COPY_BYTES_MAX`.
pub fn large(number: u8) -> Vec<u8> {
    vec![number; 32]
}

/// A value that is pinned while it is copied.
fn read_large(compacts: bool) {
    let world = World::new(2);
    let (reclaimer, reader) = (world.attach(0), world.attach(1));
    reader.set(KEY, &large(1));
    reader.seal();
    let segment = reader.find(KEY).expect("it was set").segment;
    let reclaiming = thread::spawn(move || {
        if reclaimer.reclaim(segment, compacts) {
            reclaimer.set(OTHER, &large(2));
        }
        reclaimer
    });
    let said = reader.get(KEY);
    check(said.as_ref().is_none_or(|said| *said == large(1)), || format!("{said:?} was read"));
    sound(&reclaiming.join().expect("its end"));
}

pub const EXPIRES_AT_MS: u64 = 0x7777;

pub fn touch_engine(process: &Process, _at: Linked) {
    process.map().touch(KEY, EXPIRES_AT_MS, u64::MAX).expect("time");
}

/// Finds the item in a sealed segment and stores its expiry, protected by nothing.
fn touch_unpinned(process: &Process, at: Linked) {
    let is_there = process.region().word(at.slot).load(Ordering::Acquire) == at.word;
    if is_there && process.is_sealed(at.segment) {
        process.region().word(at.offset + 16).store(EXPIRES_AT_MS, Ordering::Release);
    }
}

/// An expiry is stored where the item lies while its segment is reclaimed and written anew.
fn touch(touch: fn(&Process, Linked), reclaim: fn(&Process, u32) -> bool) {
    let world = World::new(2);
    let (reclaimer, toucher) = (world.attach(0), world.attach(1));
    toucher.set(KEY, &large(1));
    toucher.seal();
    let at = toucher.find(KEY).expect("it was set");
    let reclaiming = thread::spawn(move || {
        if reclaim(&reclaimer, at.segment) {
            reclaimer.set(OTHER, &large(2));
        }
        reclaimer
    });
    touch(&toucher, at);
    let reclaimer = reclaiming.join().expect("its end");
    sound(&reclaimer);
    let other = reclaimer.map().meta(OTHER).expect("a read that ends");
    check(other.is_none_or(|other| other.expires_at_ms == u64::MAX), || format!("the other item is {other:?}"));
    let said = reclaimer.get(KEY);
    check(said.as_ref().is_none_or(|said| *said == large(1)), || format!("{said:?} was read"));
}

/// Two reclaimers want one victim; whoever frees it writes.
fn reclaim_twice(reclaim: fn(&Process, u32) -> bool) {
    let (_world, mut all, segment) = open_world(2);
    let (first, second) = (all.pop().expect("two"), all.pop().expect("two"));
    first.seal();
    let before = first.sequence(segment).load(Ordering::Relaxed);
    let other = thread::spawn(move || {
        let freed = reclaim(&second, segment);
        if freed {
            second.set(KEY, &value(2));
        }
        freed
    });
    let freed = reclaim(&first, segment);
    if freed {
        first.set(KEY, &value(1));
    }
    let freed = u64::from(freed) + u64::from(other.join().expect("its end"));
    let sequence = first.sequence(segment).load(Ordering::Relaxed) - before;
    check(freed <= 1 && sequence == freed, || format!("freed {freed} times, the sequence moved by {sequence}"));
    check(freed == 0 || first.get(KEY).is_some(), || "what was written is gone".into());
    sound(&first);
}

fn reclaim_by_store(process: &Process, segment: u32) -> bool {
    if !process.is_sealed(segment) {
        return false;
    }
    let state = process.state(segment);
    // As `Row::change`, but by stores.
    state.store(4 | u64::from(process.owner().word()) << 32, Ordering::Release);
    process.sequence(segment).fetch_add(1, Ordering::AcqRel);
    state.store(0, Ordering::Release);
    true
}
