//! The operations that are swept, and the regions that they are done in.

use std::path::Path;
use std::time::Duration;

use cache_core::layout::{lane, stripe};
use cache_core::lock::Owner;
use cache_shm::{Cache, Mode, Stats, View, WriteOptions};

use crate::fill::{
    fill_alike, fill_around_large, fill_expired, fill_full, fill_full_expired, fill_full_some_expired,
    fill_full_viewed, fill_most, fill_some, fill_thinly, fill_thinly_viewed, fill_with_runs, key, put, set, value,
};
use crate::image::{Dir, TIMEOUT_STEPPED, attach};

#[path = "../common/place.rs"]
mod place;
use place::stripe_of;

/// Steps after which a scenario that did not come about is given up.
const STEPS_MAX: u64 = 100_000;

/// What is stepped. The number counts how often it was done.
#[derive(Clone, Copy)]
pub enum Operation {
    /// Something done through an attached handle.
    Attached(fn(&Cache, u64)),
    /// Something done by a process that has a view.
    Viewing(fn(&Cache) -> View, fn(&Cache, View, u64)),
    /// Something done by a forked child with the view that it inherited.
    Inheriting(fn(&Cache) -> View, fn(&Cache, View, u64)),
    /// All of attaching, a look, and detaching.
    AttachDetach,
}

/// What a process has when the operation begins.
#[derive(Default)]
pub struct Ready {
    cache: Option<Cache>,
    view: Option<View>,
}

/// One operation in one kind of region.
pub struct Scenario {
    pub name: &'static str,
    pub mode: Mode,
    /// What is in the region beforehand.
    fill: fn(&Cache),
    /// Words of the region that are changed afterwards, as a death would have left them.
    damage: fn(&Cache) -> Vec<(u64, u32)>,
    pub operation: Operation,
    /// Whether the operation did what the scenario is named for.
    effect: fn(&Effect) -> bool,
}

/// What an operation did to a region.
pub struct Effect {
    pub before: Stats,
    pub after: Stats,
    /// Whether a stripe has a directory of its own, before and after.
    pub deep: (bool, bool),
}

/// A region just before the operation.
pub struct Prepared {
    pub image: Vec<u8>,
    /// How often the operation was done before.
    pub number: u64,
}

fn view_large(cache: &Cache) -> View {
    cache.view(b"large").expect("an open region").expect("a large value")
}

fn view_small(cache: &Cache) -> View {
    cache.view(b"viewed").expect("an open region").expect("a small value")
}

/// A view of what is condemned because of it.
fn view_condemned(cache: &Cache) -> View {
    let view = view_large(cache);
    condemn(cache);
    view
}

/// Deletes the large value and reclaims its space, unless somebody has a view of it.
fn condemn(cache: &Cache) {
    assert!(cache.delete(b"large").expect("a writable region"));
    cache.maintain(1 << 20).expect("a writable region");
}

/// Overwrites the large value, and ends the view of the old one.
fn set_viewed(cache: &Cache, view: View, _: u64) {
    put(cache, b"large", &value(3, 5_000));
    assert_eq!(*view, *value(5, 20_000));
}

/// A fork whose child does nothing.
fn fork_and_wait() {
    // SAFETY: the child leaves at once; the parent waits for it.
    unsafe {
        let child = libc::fork();
        if child == 0 {
            libc::_exit(0);
        }
        assert_eq!(libc::waitpid(child, &mut 0, 0), child);
    }
}

fn put_tagged(cache: &Cache, number: u64) {
    let options = WriteOptions { tags: &[b"tag", b"other"], ..cache.options() };
    cache.set_with(&key(number), &value(number, 100), &options).expect("room");
}

/// Some values with a tag beside others without.
fn fill_tagged(cache: &Cache) {
    fill_some(cache);
    (0..20).for_each(|number| put_tagged(cache, number));
}

fn nothing(_: &Cache) -> Vec<(u64, u32)> {
    Vec::new()
}

/// A participant that is gone: a slot that nobody has.
fn dead() -> u32 {
    Owner::new(9, 5).word()
}

fn lock_words(cache: &Cache, word: u32) -> Vec<(u64, u32)> {
    let geometry = cache.geometry().expect("an open region");
    let stripes = (0..geometry.stripe_count).map(|index| geometry.stripe_offset(index) + stripe::LOCK);
    let lanes = (0..lane::COUNT).map(|index| geometry.lane_offset(index) + lane::LOCK);
    stripes.chain(lanes).map(|offset| (offset, word)).collect()
}

fn is_deep(cache: &Cache) -> bool {
    let geometry = cache.geometry().expect("an open region");
    let bytes = std::fs::read(cache.path().expect("a named region")).expect("the region's file");
    (0..geometry.stripe_count).any(|index| {
        let at = (geometry.stripe_offset(index) + stripe::ROOT) as usize;
        bytes[at..at + 8] != [0; 8]
    })
}

/// Keys of stripe 0 alone, so that its directory must grow.
fn set_in_one_stripe(cache: &Cache, number: u64) {
    let geometry = cache.geometry().expect("an open region");
    let of_stripe = |key: &Vec<u8>| stripe_of(geometry, key) == 0;
    let mut found = (number * 64..).map(|candidate| format!("one {candidate}").into_bytes()).filter(of_stripe);
    let key = found.next().expect("a key of every stripe");
    cache.set(&key, b"-").expect("room");
}

macro_rules! scenario {
    ($name:literal, $mode:ident, $fill:expr, $operation:expr) => {
        scenario!($name, $mode, $fill, $operation, |_| true)
    };
    ($name:literal, $mode:ident, $fill:expr, $operation:expr, $effect:expr) => {
        Scenario {
            name: $name,
            mode: Mode::$mode,
            fill: $fill,
            damage: nothing,
            operation: Operation::Attached($operation),
            effect: $effect,
        }
    };
}

/// A set that must take over its locks, which `damage` gives to others.
fn taking_over(name: &'static str, damage: fn(&Cache) -> Vec<(u64, u32)>) -> Scenario {
    Scenario {
        name,
        mode: Mode::NoEvict,
        fill: fill_some,
        damage,
        operation: Operation::Attached(|cache, _| put(cache, &key(7), &value(1, 100))),
        effect: |effect| effect.after.take_overs > effect.before.take_overs,
    }
}

/// An operation of a process that has a view, or inherited one.
fn viewing(
    name: &'static str,
    mode: Mode,
    fill: fn(&Cache),
    operation: Operation,
    effect: fn(&Effect) -> bool,
) -> Scenario {
    Scenario { name, mode, fill, damage: nothing, operation, effect }
}

fn is_evicting(effect: &Effect) -> bool {
    effect.after.evictions > effect.before.evictions
}

fn is_expiring(effect: &Effect) -> bool {
    effect.after.expirations > effect.before.expirations
}

fn is_condemning(effect: &Effect) -> bool {
    effect.after.condemned_bytes > effect.before.condemned_bytes
}

/// Every scenario of one operation.
pub fn all() -> Vec<Scenario> {
    vec![
        scenario!("set_new", NoEvict, fill_some, |cache, _| put(cache, b"fresh", &value(1, 100))),
        scenario!("set_first", NoEvict, |_| (), |cache, _| put(cache, b"fresh", &value(1, 100))),
        scenario!("set_overwrite", NoEvict, fill_some, |cache, _| put(cache, &key(7), &value(1, 300))),
        scenario!("set_run", NoEvict, fill_some, |cache, _| put(cache, b"run", &value(3, 9_000))),
        scenario!("set_run_overwrite", NoEvict, fill_some, |cache, _| put(cache, b"large", &value(3, 9_000))),
        scenario!("set_evicting", Evict, fill_full, |cache, number| set(cache, 10_000 + number, 200), |effect| effect
            .after
            .evictions
            > effect.before.evictions),
        scenario!("set_full_overwrite", Evict, fill_full, |cache, _| set(cache, 4_900, 200)),
        scenario!(
            "set_relocating",
            NoEvict,
            fill_most,
            |cache, number| set(cache, number * 7_919 % 2_800, 200),
            |effect| effect.after.relocated_bytes > effect.before.relocated_bytes
        ),
        scenario!("set_splitting", NoEvict, fill_some, |cache, number| set(cache, 1_000 + number, 8), |effect| effect
            .after
            .splits
            > effect.before.splits),
        scenario!("set_doubling", NoEvict, |_| (), set_in_one_stripe, |effect| effect.deep == (false, true)),
        scenario!("add", NoEvict, fill_some, |cache, _| {
            assert!(cache.add(b"fresh", &value(1, 100), &cache.options()).unwrap().is_some());
        }),
        scenario!("replace", NoEvict, fill_some, |cache, _| {
            assert!(cache.replace(&key(7), &value(1, 100), &cache.options()).unwrap().is_some());
        }),
        scenario!("delete", NoEvict, fill_some, |cache, _| assert!(cache.delete(&key(7)).unwrap())),
        scenario!("take", NoEvict, fill_some, |cache, _| {
            assert!(cache.take(&key(7), &mut Vec::new()).unwrap().is_some());
        }),
        scenario!("cas", NoEvict, fill_some, |cache, _| {
            let version = cache.meta(&key(7)).unwrap().unwrap().version;
            let done = cache.cas(&key(7), version, &value(9, 50), &cache.options()).unwrap();
            assert!(matches!(done, cache_shm::Cas::Stored(_)));
        }),
        scenario!("incr", NoEvict, fill_some, |cache, _| assert_eq!(
            cache.incr(b"integer", 1, None).unwrap(),
            Some(42)
        )),
        scenario!("incr_new", NoEvict, fill_some, |cache, _| assert_eq!(
            cache.incr(b"fresh", 1, Some(0)).unwrap(),
            Some(1)
        )),
        scenario!("append", NoEvict, fill_some, |cache, _| assert!(cache.append(&key(7), b"tail").unwrap().is_some())),
        scenario!("touch", NoEvict, fill_some, |cache, _| {
            assert!(cache.touch(&key(7), Some(Duration::from_secs(1000))).unwrap());
        }),
        scenario!("touch_in_place", NoEvict, fill_some, |cache, _| {
            assert!(cache.touch(b"large", Some(Duration::from_secs(1000))).unwrap());
        }),
        scenario!("clear", NoEvict, fill_some, |cache, _| cache.clear().unwrap()),
        scenario!("namespace", NoEvict, fill_some, |cache, number| drop(
            cache.namespace(&number.to_le_bytes()).unwrap()
        )),
        scenario!("set_named", NoEvict, fill_some, |cache, _| put(
            &cache.namespace(b"name").unwrap(),
            &key(7),
            &value(1, 100)
        )),
        scenario!("set_tagged", NoEvict, fill_tagged, |cache, _| put_tagged(cache, 7)),
        scenario!("evict_tag", NoEvict, fill_tagged, |cache, _| cache.evict_tag(b"tag").unwrap()),
        scenario!(
            "set_after_clear",
            NoEvict,
            |cache| {
                fill_some(cache);
                cache.clear().expect("a writable region");
            },
            |cache, _| put(cache, &key(7), &value(1, 100))
        ),
        scenario!("get", NoEvict, fill_some, |cache, _| assert!(cache.get(&key(7)).unwrap().is_some())),
        scenario!("pin_and_unpin", NoEvict, fill_some, |cache, _| drop(cache.view(b"large").unwrap().unwrap())),
        scenario!(
            "maintain",
            NoEvict,
            fill_thinly,
            |cache, _| assert!(cache.maintain(1 << 20).is_ok()),
            |effect| effect.after.relocated_bytes > effect.before.relocated_bytes
        ),
        scenario!("set_expired", NoEvict, fill_some, |cache, _| {
            let past = WriteOptions { expires_at_ms: 0, ..cache.options() };
            assert_eq!(cache.set_with(&key(7), &value(1, 100), &past), Ok(0));
        }),
        scenario!("set_many", NoEvict, fill_some, |cache, _| {
            let keys: Vec<_> = (140..160).map(key).collect();
            let items: Vec<_> = keys.iter().map(|key| (key.as_slice(), key.as_slice(), cache.options())).collect();
            assert_eq!(cache.set_many(&items, &mut |_, error| panic!("{error}")), Ok(20));
        }),
        scenario!("get_or_add", NoEvict, fill_some, |cache, _| {
            let mut there = Vec::new();
            assert_eq!(cache.get_or_add(b"fresh", &value(1, 100), &cache.options(), &mut there), Ok(None));
            assert!(cache.get_or_add(b"fresh", b"", &cache.options(), &mut there).unwrap().is_some());
        }),
        scenario!("get_many", NoEvict, fill_some, |cache, _| {
            let keys: Vec<_> = (140..160).map(key).collect();
            let keys: Vec<_> = keys.iter().map(Vec::as_slice).collect();
            assert_eq!(cache.get_many(&keys, &mut |_, _, _| ()), Ok(10));
        }),
        scenario!("delete_many", NoEvict, fill_some, |cache, _| {
            let keys: Vec<_> = (140..160).map(key).collect();
            let keys: Vec<_> = keys.iter().map(Vec::as_slice).collect();
            assert_eq!(cache.delete_many(&keys), Ok(10));
        }),
        scenario!("take_any", NoEvict, fill_some, |cache, _| {
            assert!(cache.take_any(&mut Vec::new(), &mut Vec::new()).unwrap().is_some());
        }),
        scenario!("cas_expired", NoEvict, fill_some, |cache, _| {
            let version = cache.meta(&key(7)).unwrap().unwrap().version;
            let past = WriteOptions { expires_at_ms: 0, ..cache.options() };
            assert_eq!(cache.cas(&key(7), version, &value(9, 50), &past), Ok(cache_shm::Cas::Stored(0)));
        }),
        scenario!("append_to_integer", NoEvict, fill_some, |cache, _| {
            assert_eq!(cache.append(b"integer", b"tail"), Ok(Some(6)));
        }),
        scenario!(
            "touch_never",
            NoEvict,
            |cache| {
                fill_some(cache);
                cache.set_for(&key(7), &value(1, 100), Duration::from_secs(1000)).expect("room");
            },
            |cache, _| assert!(cache.touch(&key(7), None).unwrap())
        ),
        scenario!("touch_expired", NoEvict, fill_some, |cache, _| {
            assert!(cache.touch(&key(7), Some(Duration::ZERO)).unwrap());
        }),
        // Expired items, where they lie, under writers, and in a region without room.
        scenario!("sweep", NoEvict, fill_expired, |cache, _| assert!(cache.maintain(1 << 20).is_ok()), is_expiring),
        scenario!(
            "sweep_in_shares",
            NoEvict,
            fill_expired,
            |cache, _| (0..2).for_each(|_| assert!(cache.maintain(64).is_ok())),
            is_expiring
        ),
        scenario!("set_over_expired", NoEvict, fill_expired, |cache, _| set(cache, 1, 300), is_expiring),
        scenario!(
            "set_reclaiming_expired",
            NoEvict,
            fill_full_expired,
            |cache, number| set(cache, 10_000 + number, 200),
            |effect| is_expiring(effect) && effect.after.expirations > effect.before.expirations + 1
        ),
        scenario!(
            "set_sweeping",
            Evict,
            fill_full_some_expired,
            |cache, number| set(cache, 10_000 + number, 600),
            |effect| is_expiring(effect) && effect.after.evictions == effect.before.evictions
        ),
        // A window for a run, where all is free, and where nothing is.
        scenario!("set_run_where_free", Evict, fill_alike, |cache, _| put(cache, b"run", &value(3, 5_000))),
        scenario!(
            "set_run_compacting",
            NoEvict,
            fill_thinly,
            |cache, _| put(cache, b"run", &value(3, 9_000)),
            |effect| effect.after.relocated_bytes > effect.before.relocated_bytes
        ),
        scenario!("set_run_evicting", Evict, fill_full, |cache, _| put(cache, b"run", &value(3, 9_000)), is_evicting),
        scenario!(
            "set_run_over_runs",
            Evict,
            fill_with_runs,
            |cache, number| set(cache, 10_000 + number, 9_000),
            is_evicting
        ),
        // Views: what they pin is set, deleted, evicted, moved, and given back at last.
        viewing("set_viewed", Mode::NoEvict, fill_some, Operation::Viewing(view_large, set_viewed), |_| true),
        viewing(
            "delete_viewed",
            Mode::NoEvict,
            fill_around_large,
            Operation::Viewing(view_large, |cache, view, _| {
                condemn(cache);
                assert_eq!(*view, *value(5, 20_000));
            }),
            is_condemning,
        ),
        viewing(
            "evict_viewed",
            Mode::Evict,
            fill_full_viewed,
            Operation::Viewing(view_small, |cache, _, number| set(cache, 10_000 + number, 200)),
            is_condemning,
        ),
        viewing(
            "relocate_viewed",
            Mode::NoEvict,
            fill_thinly_viewed,
            Operation::Viewing(view_small, |cache, _, number| {
                set(cache, 10_000 + number, 600);
                cache.maintain(1 << 20).expect("a writable region");
            }),
            is_condemning,
        ),
        viewing(
            "unpin_condemned",
            Mode::NoEvict,
            fill_around_large,
            Operation::Viewing(view_condemned, |cache, view, _| {
                drop(view);
                cache.maintain(1 << 20).expect("a writable region");
            }),
            |effect| effect.before.condemned_bytes > 0 && effect.after.condemned_bytes == 0,
        ),
        viewing(
            "fork_viewing",
            Mode::NoEvict,
            fill_some,
            Operation::Viewing(view_large, |_, _, _| fork_and_wait()),
            |_| true,
        ),
        viewing("set_in_forked_child", Mode::NoEvict, fill_some, Operation::Inheriting(view_large, set_viewed), |_| {
            true
        }),
        taking_over("take_over", |cache| lock_words(cache, dead())),
        // The bit of a taker that died before it cleared it.
        taking_over("take_over_of_a_recoverer", |cache| lock_words(cache, dead() | 1 << 30)),
        Scenario {
            name: "attach_and_detach",
            mode: Mode::NoEvict,
            fill: fill_some,
            damage: nothing,
            operation: Operation::AttachDetach,
            effect: |_| true,
        },
    ]
}

impl Scenario {
    pub fn named(name: &str) -> Scenario {
        all().into_iter().find(|scenario| scenario.name == name).expect("a scenario of this name")
    }

    /// What comes before the operation, in the process that does it or is forked to do it.
    pub fn ready(&self, dir: &Path, name: &str) -> Result<Ready, String> {
        let cache = match self.operation {
            Operation::AttachDetach => None,
            _ => Some(attach(dir, name, TIMEOUT_STEPPED)?),
        };
        let view = match (self.operation, &cache) {
            (Operation::Viewing(hold, _) | Operation::Inheriting(hold, _), Some(cache)) => Some(hold(cache)),
            _ => None,
        };
        if let Some(cache) = &cache {
            // What the preparation does before the operation as well.
            cache.stats().map_err(|error| error.to_string())?;
        }
        Ok(Ready { cache, view })
    }

    /// Does the operation once; as the traced process does it.
    pub fn perform(&self, dir: &Path, name: &str, ready: &mut Ready, number: u64) {
        match (self.operation, &ready.cache, ready.view.take()) {
            (Operation::AttachDetach, ..) => drop(attach(dir, name, TIMEOUT_STEPPED).expect("a sound region")),
            (Operation::Attached(operation), Some(cache), None) => operation(cache, number),
            (Operation::Viewing(_, operation) | Operation::Inheriting(_, operation), Some(cache), Some(view)) => {
                operation(cache, view, number);
            }
            _ => unreachable!("an operation on what it is not ready for"),
        }
    }

    /// True if a child is forked for the operation.
    pub fn is_inheriting(&self) -> bool {
        matches!(self.operation, Operation::Inheriting(..))
    }

    /// The region just before the operation has its effect.
    pub fn prepare(&self, dir: &Dir) -> Result<Prepared, String> {
        let empty = dir.empty(self.mode);
        dir.put("prepare", &empty);
        let cache = dir.open("prepare")?;
        (self.fill)(&cache);
        let damage = (self.damage)(&cache);
        drop(cache);
        let mut image = dir.take("prepare");
        for (offset, word) in damage {
            image[offset as usize..offset as usize + 4].copy_from_slice(&word.to_le_bytes());
        }
        for number in 0..STEPS_MAX {
            if self.effect_of(dir, &image, number)? {
                return Ok(Prepared { image, number });
            }
            image = dir.take("prepare");
        }
        Err("the operation never did what the scenario is named for".into())
    }

    /// Does the operation on a copy of `image`, in the file `prepare`.
    fn effect_of(&self, dir: &Dir, image: &[u8], number: u64) -> Result<bool, String> {
        dir.put("prepare", image);
        if matches!(self.operation, Operation::AttachDetach | Operation::Inheriting(..)) {
            return Ok(true);
        }
        let mut ready = self.ready(dir.path(), "prepare")?;
        let cache = dir.open("prepare")?;
        let deep = is_deep(&cache);
        let before = cache.stats().map_err(|error| error.to_string())?;
        self.perform(dir.path(), "prepare", &mut ready, number);
        let after = cache.stats().map_err(|error| error.to_string())?;
        Ok((self.effect)(&Effect { before, after, deep: (deep, is_deep(&cache)) }))
    }
}
