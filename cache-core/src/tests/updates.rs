//! What the engine promises of values that are made of what was there.

use crate::testing::{Bench, TestHost};
use crate::{Change, Error, Key, Map, Meta, Mode, NEVER, Namespace, Result, WriteOptions, kind};

const WAIT_NS: u64 = 1_000_000_000;

fn get(map: &Map<&TestHost>, key: &[u8]) -> Option<Vec<u8>> {
    let mut value = Vec::new();
    map.get(key, &mut value).unwrap().map(|_| value)
}

/// Puts an `x` behind what is there.
fn grow<'o>(there: Option<(&Meta, &[u8])>, value: &mut Vec<u8>) -> Result<Change<'o>> {
    value.extend_from_slice(there.map_or(b"", |(_, bytes)| bytes));
    value.push(b'x');
    Ok(Change::Alter(WriteOptions::default()))
}

#[test]
fn a_value_is_made_of_what_is_there_and_replaces_just_that() {
    let host = TestHost::default();
    let bench = Bench::new(4 << 20, Mode::Evict);
    let map = bench.attach(&host, 0);
    let first = map.update(b"k", WAIT_NS, &mut grow).unwrap();
    let second = map.update(b"k", WAIT_NS, &mut grow).unwrap();
    assert!(first != 0 && second != 0 && first != second);
    assert_eq!(get(&map, b"k").as_deref(), Some(&b"xx"[..]));
    assert_eq!(map.update(b"k", WAIT_NS, &mut |_, _| Ok(Change::Leave)).unwrap(), 0);
    assert_eq!(map.meta(b"k").unwrap().unwrap().version, second);
    assert_eq!(map.update(b"k", WAIT_NS, &mut |_, _| Ok(Change::Remove)).unwrap(), 0);
    assert_eq!(map.update(b"k", WAIT_NS, &mut |_, _| Ok(Change::Remove)).unwrap(), 0);
    assert_eq!(get(&map, b"k"), None);
}

#[test]
fn a_refusal_changes_nothing() {
    let host = TestHost::default();
    let bench = Bench::new(4 << 20, Mode::Evict);
    let map = bench.attach(&host, 0);
    map.set(b"k", b"there", &WriteOptions::default()).unwrap();
    let refused = map.update(b"k", WAIT_NS, &mut |_, value| {
        value.extend_from_slice(b"half made");
        Err(Error::NotInteger)
    });
    assert_eq!(refused, Err(Error::NotInteger));
    assert_eq!(get(&map, b"k").as_deref(), Some(&b"there"[..]));
}

#[test]
fn an_altered_value_keeps_its_tags_and_a_new_one_has_those_it_is_given() {
    let host = TestHost::default();
    let bench = Bench::new(4 << 20, Mode::Evict);
    let map = bench.attach(&host, 0);
    let tagged = WriteOptions { tags: &[b"a"], ..WriteOptions::default() };
    for key in [b"kept", b"lost"] {
        map.set(key, b"1", &tagged).unwrap();
    }
    map.update(b"kept", WAIT_NS, &mut grow).unwrap();
    map.update(b"lost", WAIT_NS, &mut |_, value| {
        value.push(b'2');
        Ok(Change::Put(WriteOptions { kind: kind::STR, ..WriteOptions::default() }))
    })
    .unwrap();
    map.evict_tag(Namespace::DEFAULT, b"a").unwrap();
    assert_eq!(get(&map, b"kept"), None);
    assert_eq!(get(&map, b"lost").as_deref(), Some(&b"2"[..]));
    assert_eq!(map.meta(b"lost").unwrap().unwrap().kind, kind::STR);
}

#[test]
fn a_writer_that_comes_between_is_never_overwritten() {
    let host = TestHost::default();
    let bench = Bench::new(4 << 20, Mode::Evict);
    let map = bench.attach(&host, 0);
    let mut intruded = false;
    map.update(b"k", WAIT_NS, &mut |there, value| {
        if !std::mem::replace(&mut intruded, true) {
            map.set(Key::from(b"k"), b"other", &WriteOptions::default()).unwrap();
        }
        grow(there, value)
    })
    .unwrap();
    assert_eq!(get(&map, b"k").as_deref(), Some(&b"otherx"[..]));
}

#[test]
fn an_expiry_that_has_come_removes_the_value() {
    let host = TestHost::default();
    let bench = Bench::new(4 << 20, Mode::Evict);
    let map = bench.attach(&host, 0);
    map.set(b"k", b"1", &WriteOptions::default()).unwrap();
    let past = WriteOptions { expires_at_ms: map.now_ms(), ..WriteOptions::default() };
    assert_eq!(map.update(b"k", WAIT_NS, &mut |_, _| Ok(Change::Alter(past))).unwrap(), 0);
    assert_eq!(get(&map, b"k"), None);
}

#[test]
fn the_flags_of_clients_and_of_servers_are_kept_apart_and_together() {
    let host = TestHost::default();
    let bench = Bench::new(4 << 20, Mode::Evict);
    let map = bench.attach(&host, 0);
    for (client_flags, server_flags) in [(0, 0), (u32::MAX, 0), (0, u32::MAX), (1, 2)] {
        let options = WriteOptions { client_flags, server_flags, ..WriteOptions::default() };
        map.set(b"k", b"1", &options).unwrap();
        let flags = || {
            let mut value = Vec::new();
            let meta = map.get(b"k", &mut value).unwrap().unwrap();
            (meta.client_flags, meta.server_flags)
        };
        assert_eq!(flags(), (client_flags, server_flags));
        map.append(b"k", b"2", None, &WriteOptions::default()).unwrap();
        map.touch(b"k", crate::NEVER - 1, WAIT_NS).unwrap();
        assert_eq!(flags(), (client_flags, server_flags), "of a value that was only changed");
        map.set(b"k", b"1", &WriteOptions::default()).unwrap();
        assert_eq!(flags(), (0, 0), "of a new value");
    }
}

/// Moments of expiry in the order of the clock.
const SOON_MS: u64 = 10_000;
const LATER_MS: u64 = 20_000;

#[test]
fn an_expiry_is_changed_only_of_what_was_seen() {
    let host = TestHost::default();
    let bench = Bench::new(4 << 20, Mode::Evict);
    let map = bench.attach(&host, 0);
    // The second is so large that its expiry is changed where it lies.
    for value in [&b"small"[..], &[7; 40_000]] {
        let key = Key::from(b"k");
        map.set(key, value, &WriteOptions::default()).unwrap();
        let seen = map.meta(key).unwrap().unwrap();
        assert!(map.touch_version(key, &seen, SOON_MS, WAIT_NS).unwrap());
        // Who saw it before comes too late, whatever it wants.
        assert!(!map.touch_version(key, &seen, LATER_MS, WAIT_NS).unwrap());
        assert!(!map.touch_version(key, &seen, map.now_ms(), WAIT_NS).unwrap());
        let seen = map.meta(key).unwrap().unwrap();
        assert_eq!(seen.expires_at_ms, SOON_MS);
        assert_eq!(get(&map, b"k").as_deref(), Some(value));
        map.set(key, b"other", &WriteOptions::default()).unwrap();
        assert!(!map.touch_version(key, &seen, LATER_MS, WAIT_NS).unwrap());
        let seen = map.meta(key).unwrap().unwrap();
        assert_eq!(seen.expires_at_ms, NEVER);
        assert!(map.touch_version(key, &seen, map.now_ms(), WAIT_NS).unwrap());
        assert!(!map.touch_version(key, &seen, LATER_MS, WAIT_NS).unwrap());
        assert_eq!(get(&map, b"k"), None);
    }
}

#[test]
fn a_change_does_not_undo_a_touch_that_came_between() {
    let host = TestHost::default();
    let bench = Bench::new(4 << 20, Mode::Evict);
    let map = bench.attach(&host, 0);
    let changes: [fn(WriteOptions<'static>) -> Change<'static>; 3] =
        [
            Change::Alter,
            Change::Put,
            |options| {
                if options.expires_at_ms == NEVER { Change::Remove } else { Change::Leave }
            },
        ];
    for change in changes {
        // So large that a touch leaves its version.
        map.set(b"k", &[7; 40_000], &WriteOptions::default()).unwrap();
        let mut has_touched = false;
        map.update(b"k", WAIT_NS, &mut |there, value| {
            let expires_at_ms = there.expect("it is touched, and not removed").0.expires_at_ms;
            if !std::mem::replace(&mut has_touched, true) {
                assert!(map.touch(b"k", SOON_MS, WAIT_NS).unwrap());
            }
            value.push(b'x');
            Ok(change(WriteOptions { expires_at_ms, ..WriteOptions::default() }))
        })
        .unwrap();
        assert_eq!(map.meta(b"k").unwrap().unwrap().expires_at_ms, SOON_MS);
    }
}
