//! Evicting a tag, and clearing a namespace, against set and get: `evict`.

use std::sync::Arc;

use cache_core::model::{Process, World};
use cache_core::sync::{AtomicU64, Ordering};
use cache_core::{Cas, Key, Namespace, WriteOptions};
use loom::thread;
use loom_tests::{Case, check, model, twin};

use crate::reading::{KEY, value};

const TAG: &[u8] = b"t";
const TIMEOUT_NS: u64 = 1_000_000_000;

pub const CASES: &[Case] = &[
    model("evict", 2, || evict_beside_a_read(Ends::Tag)),
    model("evict.namespace", 2, || evict_beside_a_read(Ends::Namespace)),
    model("evict.add", 2, || evict_beside_an_add(Ends::Tag)),
    model("evict.add_namespace", 2, || evict_beside_an_add(Ends::Namespace)),
    model("evict.cas", 2, || evict_beside_a_cas(Ends::Tag)),
    model("evict.cas_namespace", 2, || evict_beside_a_cas(Ends::Namespace)),
    model("evict.by_hand", 3, || cas_by_hand(true)),
    twin("evict: judged before the generation is read for the mark", 3, || cas_by_hand(false)),
];

/// What makes the key disappear.
#[derive(Clone, Copy, PartialEq)]
enum Ends {
    Tag,
    Namespace,
}

/// A region whose key has a tag or a namespace, the two processes that use it, and the key.
fn begin(ends: Ends) -> (World, [Process; 2], Key<'static>) {
    let world = World::new(2);
    let processes = [world.attach(0), world.attach(1)];
    let namespace = match ends {
        Ends::Tag => Namespace::DEFAULT,
        Ends::Namespace => processes[0].map().namespace(b"n").expect("a free row"),
    };
    (world, processes, Key::new(namespace, KEY))
}

fn options(ends: Ends) -> WriteOptions<'static> {
    let tags: &[&[u8]] = if ends == Ends::Tag { &[TAG] } else { &[] };
    WriteOptions { tags, timeout_ns: TIMEOUT_NS, ..WriteOptions::default() }
}

fn end(process: &Process, ends: Ends, key: Key<'_>) {
    match ends {
        Ends::Tag => process.map().evict_tag(key.namespace, TAG),
        Ends::Namespace => process.map().clear_of(key.namespace),
    }
    .expect("a writable region");
}

fn read(process: &Process, key: Key<'_>) -> Option<Vec<u8>> {
    let mut found = Vec::new();
    process.map().get(key, &mut found).expect("a read that ends").map(|_| found)
}

/// Whoever was told of an eviction finds nothing that was there before it.
fn evict_beside_a_read(ends: Ends) {
    let (_world, [evictor, reader], key) = begin(ends);
    evictor.map().set(key, &value(1), &options(ends)).expect("room");
    let told = Arc::new(AtomicU64::new(0));
    let tells = told.clone();
    let evicting = thread::spawn(move || {
        end(&evictor, ends, key);
        tells.store(1, Ordering::Release);
    });
    let is_told = told.load(Ordering::Acquire) == 1;
    let said = read(&reader, key);
    check(said.is_none() || (!is_told && said == Some(value(1))), || format!("{said:?} was read after the eviction"));
    evicting.join().expect("its end");
    check(read(&reader, key).is_none(), || "what was evicted is back".into());
}

/// An `add` beside an eviction that finds the old value gone has stored one that stays.
fn evict_beside_an_add(ends: Ends) {
    let (_world, [evictor, writer], key) = begin(ends);
    evictor.map().set(key, &value(1), &options(ends)).expect("room");
    let told = Arc::new(AtomicU64::new(0));
    let tells = told.clone();
    let evicting = thread::spawn(move || {
        end(&evictor, ends, key);
        tells.store(1, Ordering::Release);
        evictor
    });
    let is_told = told.load(Ordering::Acquire) == 1;
    let added = writer.map().add(key, &value(2), &options(ends)).expect("room and time").is_some();
    let evictor = evicting.join().expect("its end");
    check(added || !is_told, || "a value was found after its eviction".into());
    for process in [&evictor, &writer] {
        let said = read(process, key);
        check(said == added.then(|| value(2)), || format!("{said:?} is there, and added is {added}"));
    }
    let problems = evictor.problems();
    check(problems.is_empty(), || problems.join("; "));
}

/// What a compare-and-swap makes of a value that was still alive goes with it.
fn evict_beside_a_cas(ends: Ends) {
    let (_world, [evictor, writer], key) = begin(ends);
    let version = evictor.map().set(key, &value(1), &options(ends)).expect("room");
    let evicting = thread::spawn(move || {
        end(&evictor, ends, key);
        evictor
    });
    let done = writer.map().cas(key, version, &value(2), &options(ends)).expect("room and time");
    check(matches!(done, Cas::Stored(_) | Cas::Missing), || format!("{done:?}"));
    let evictor = evicting.join().expect("its end");
    for process in [&evictor, &writer] {
        let said = read(process, key);
        check(said.is_none(), || format!("{said:?} outlived the eviction, and the swap said {done:?}"));
    }
    let problems = evictor.problems();
    check(problems.is_empty(), || problems.join("; "));
}

/// What a compare-and-swap does under the lock, by hand: mark, judge, publish.
fn cas_by_hand(marks_first: bool) {
    let generation = Arc::new(AtomicU64::new(1));
    let mut item = 1;
    let word = generation.clone();
    let evicting = thread::spawn(move || {
        word.fetch_add(1, Ordering::AcqRel);
    });
    let mark = generation.load(Ordering::Acquire);
    let is_alive = item == generation.load(Ordering::Acquire);
    if is_alive {
        item = if marks_first { mark } else { generation.load(Ordering::Acquire) };
    }
    evicting.join().expect("its end");
    check(item != generation.load(Ordering::Acquire), || "what was made of an evicted value outlived it".into());
}
