//! The engine against a `HashMap` with deadlines: any sequence of operations gives the
//! same answers, and leaves a region that `validate` finds clean.

use std::collections::HashMap;

use proptest::prelude::*;

use crate::testing::{Bench, TestHost};
use crate::{Buffer, Cas, Cursor, Error, Map, Meta, Mode, NEVER, WriteOptions, kind};

#[derive(Debug, Clone)]
enum Op {
    Set { key: u8, length: u16, ttl: Option<u16> },
    Add { key: u8, length: u16 },
    Replace { key: u8, length: u16 },
    Delete(u8),
    Take(u8),
    Get(u8),
    CasRight { key: u8, length: u16 },
    CasWrong(u8),
    Incr { key: u8, delta: i64, initial: Option<i64> },
    Append { key: u8, length: u8 },
    Touch { key: u8, ttl: Option<u16> },
    Clear,
    Tick(u16),
    Scan,
}

fn op() -> impl Strategy<Value = Op> {
    let key = 0..24u8;
    let length = prop_oneof![4 => 0..300u16, 1 => 0..9000u16, 1 => 16_300..24_000u16];
    let ttl = proptest::option::of(1..2000u16);
    prop_oneof![
        8 => (key.clone(), length.clone(), ttl.clone()).prop_map(|(key, length, ttl)| Op::Set { key, length, ttl }),
        2 => (key.clone(), length.clone()).prop_map(|(key, length)| Op::Add { key, length }),
        2 => (key.clone(), length.clone()).prop_map(|(key, length)| Op::Replace { key, length }),
        2 => key.clone().prop_map(Op::Delete),
        1 => key.clone().prop_map(Op::Take),
        6 => key.clone().prop_map(Op::Get),
        2 => (key.clone(), length).prop_map(|(key, length)| Op::CasRight { key, length }),
        1 => key.clone().prop_map(Op::CasWrong),
        3 => (key.clone(), any::<i64>(), proptest::option::of(-5..5i64))
            .prop_map(|(key, delta, initial)| Op::Incr { key, delta, initial }),
        2 => (key.clone(), 0..100u8).prop_map(|(key, length)| Op::Append { key, length }),
        2 => (key, ttl).prop_map(|(key, ttl)| Op::Touch { key, ttl }),
        1 => Just(Op::Clear),
        3 => (0..1500u16).prop_map(Op::Tick),
        1 => Just(Op::Scan),
    ]
}

#[derive(Debug, Clone)]
struct Entry {
    value: Vec<u8>,
    kind: u8,
    expires_at_ms: u64,
}

struct Model {
    now_ms: u64,
    entries: HashMap<Vec<u8>, Entry>,
}

impl Model {
    fn get(&self, key: &[u8]) -> Option<&Entry> {
        self.entries.get(key).filter(|entry| entry.expires_at_ms > self.now_ms)
    }
    fn put(&mut self, key: &[u8], value: Vec<u8>, kind: u8, expires_at_ms: u64) {
        self.entries.insert(key.to_vec(), Entry { value, kind, expires_at_ms });
    }
}

fn bytes(seed: u64, length: usize) -> Vec<u8> {
    (0..length).map(|at| (seed.wrapping_mul(31).wrapping_add(at as u64) >> 1) as u8).collect()
}

fn read(map: &Map<&TestHost>, key: &[u8]) -> Option<(Vec<u8>, Meta)> {
    let mut value = Vec::new();
    map.get(key, &mut value).unwrap().map(|meta| (value, meta))
}

fn run(mode: Mode, ops: Vec<Op>) -> std::result::Result<(), TestCaseError> {
    let host = TestHost::default();
    let bench = Bench::new(2 << 20, mode);
    let map = bench.attach(&host, 0);
    let mut model = Model { now_ms: 0, entries: HashMap::new() };
    for (step, op) in ops.into_iter().enumerate() {
        let key_of = |key: u8| format!("key-{key}-{}", "x".repeat(key as usize % 11)).into_bytes();
        let expiry = |model: &Model, ttl: Option<u16>| ttl.map_or(NEVER, |ttl| model.now_ms + u64::from(ttl));
        let plain = WriteOptions::default();
        match op {
            Op::Set { key, length, ttl } => {
                let (key, value) = (key_of(key), bytes(step as u64, length.into()));
                let expires_at_ms = expiry(&model, ttl);
                map.set(&key, &value, &WriteOptions { expires_at_ms, ..plain }).unwrap();
                model.put(&key, value, kind::BYTES, expires_at_ms);
            }
            Op::Add { key, length } => {
                let (key, value) = (key_of(key), bytes(step as u64, length.into()));
                let added = map.add(&key, &value, &plain).unwrap().is_some();
                prop_assert_eq!(added, model.get(&key).is_none());
                if added {
                    model.put(&key, value, kind::BYTES, NEVER);
                }
            }
            Op::Replace { key, length } => {
                let (key, value) = (key_of(key), bytes(step as u64, length.into()));
                let replaced = map.replace(&key, &value, &plain).unwrap().is_some();
                prop_assert_eq!(replaced, model.get(&key).is_some());
                if replaced {
                    model.put(&key, value, kind::BYTES, NEVER);
                }
            }
            Op::Delete(key) => {
                let key = key_of(key);
                prop_assert_eq!(map.delete(&key, 0).unwrap(), model.get(&key).is_some());
                model.entries.remove(&key);
            }
            Op::Take(key) => {
                let key = key_of(key);
                let mut value = Vec::new();
                let taken = map.take(&key, 0, &mut value).unwrap().map(|_| value);
                prop_assert_eq!(taken, model.get(&key).map(|entry| entry.value.clone()));
                model.entries.remove(&key);
            }
            Op::Get(key) => {
                let key = key_of(key);
                let got = read(&map, &key).map(|(value, meta)| (value, meta.kind, meta.expires_at_ms));
                let expected = model.get(&key).map(|entry| (entry.value.clone(), entry.kind, entry.expires_at_ms));
                prop_assert_eq!(got, expected.clone());
                prop_assert_eq!(map.contains(&key).unwrap(), expected.is_some());
                let view = map.view(&key).unwrap().map(|view| view.to_vec());
                prop_assert_eq!(view, expected.map(|(value, ..)| value));
            }
            Op::CasRight { key, length } => {
                let (key, value) = (key_of(key), bytes(step as u64, length.into()));
                match map.meta(&key).unwrap() {
                    None => prop_assert_eq!(map.cas(&key, 1, &value, &plain).unwrap(), Cas::Missing),
                    Some(meta) => {
                        prop_assert!(matches!(map.cas(&key, meta.version, &value, &plain).unwrap(), Cas::Stored(_)));
                        model.put(&key, value, kind::BYTES, NEVER);
                    }
                }
            }
            Op::CasWrong(key) => {
                let key = key_of(key);
                let version = map.meta(&key).unwrap().map_or(7, |meta| meta.version);
                let outcome = map.cas(&key, version + 1, b"wrong", &plain).unwrap();
                prop_assert_eq!(outcome, if model.get(&key).is_some() { Cas::Changed(version) } else { Cas::Missing });
            }
            Op::Incr { key, delta, initial } => {
                let key = key_of(key);
                let got = map.incr(&key, delta, initial, &plain);
                let expected = match model.get(&key) {
                    None => match initial {
                        None => Ok(None),
                        Some(initial) => initial.checked_add(delta).map(Some).ok_or(Error::Overflow),
                    },
                    Some(entry) if entry.kind == kind::INT => {
                        let old = i64::from_le_bytes(entry.value.clone().try_into().unwrap());
                        old.checked_add(delta).map(Some).ok_or(Error::Overflow)
                    }
                    Some(entry) => match std::str::from_utf8(&entry.value).map(str::parse::<i64>) {
                        Ok(Ok(old)) if old.to_string().as_bytes() == entry.value => {
                            old.checked_add(delta).map(Some).ok_or(Error::Overflow)
                        }
                        _ => Err(Error::NotInteger),
                    },
                };
                prop_assert_eq!(&got, &expected);
                if let Ok(Some(sum)) = expected {
                    let expires_at_ms = model.get(&key).map_or(NEVER, |entry| entry.expires_at_ms);
                    match model.get(&key).map(|entry| entry.kind) {
                        None | Some(kind::INT) => {
                            model.put(&key, sum.to_le_bytes().to_vec(), kind::INT, expires_at_ms);
                        }
                        Some(kind) => model.put(&key, sum.to_string().into_bytes(), kind, expires_at_ms),
                    }
                }
            }
            Op::Append { key, length } => {
                let (key, tail) = (key_of(key), bytes(step as u64, length.into()));
                let initial = (step % 2 == 0).then_some(&b"first"[..]);
                let got = map.append(&key, &tail, initial, &plain);
                let there = model.get(&key).cloned();
                let first =
                    initial.map(|initial| Entry { value: initial.to_vec(), kind: plain.kind, expires_at_ms: NEVER });
                let expected = there.or(first).map(|mut entry| {
                    if entry.kind == kind::INT {
                        let number = i64::from_le_bytes(entry.value.try_into().unwrap());
                        (entry.value, entry.kind) = (number.to_string().into_bytes(), kind::STR);
                    }
                    let fits = match entry.kind {
                        kind::BYTES | kind::BYTEARRAY => true,
                        kind::STR => std::str::from_utf8(&tail).is_ok(),
                        _ => false,
                    };
                    entry.value.extend_from_slice(&tail);
                    if fits { Ok(entry) } else { Err(Error::NotAppendable) }
                });
                let expected = expected.transpose();
                let length = expected.as_ref().map(|entry| entry.as_ref().map(|entry| entry.value.len()));
                prop_assert_eq!(got, length.map_err(Clone::clone));
                if let Ok(Some(entry)) = expected {
                    model.entries.insert(key, entry);
                }
            }
            Op::Touch { key, ttl } => {
                let key = key_of(key);
                let expires_at_ms = expiry(&model, ttl);
                let touched = map.touch(&key, expires_at_ms, 0).unwrap();
                prop_assert_eq!(touched, model.get(&key).is_some());
                if touched {
                    model.entries.get_mut(&key).unwrap().expires_at_ms = expires_at_ms;
                }
            }
            Op::Clear => {
                map.clear().unwrap();
                model.entries.clear();
            }
            Op::Tick(ms) => {
                model.now_ms += u64::from(ms);
                host.now_ms.store(model.now_ms, std::sync::atomic::Ordering::Relaxed);
            }
            Op::Scan => {
                let mut seen = Vec::new();
                let mut cursor = Cursor::START;
                while let Some(next) = map.scan(cursor, &mut |key, _| seen.push(key.to_vec())).unwrap() {
                    cursor = next;
                }
                seen.sort();
                let mut expected: Vec<_> =
                    model.entries.keys().filter(|key| model.get(key).is_some()).cloned().collect();
                expected.sort();
                prop_assert_eq!(seen, expected);
            }
        }
    }
    let report = map.validate();
    prop_assert!(report.is_clean(), "{:?}", report.problems);
    let alive = model.entries.keys().filter(|key| model.get(key).is_some()).count();
    prop_assert_eq!(map.len(), alive as u64);
    prop_assert_eq!(report.items, alive as u64);
    for (key, entry) in &model.entries {
        let mut buffer = vec![0; entry.value.len()];
        let got = map.get(key, &mut Buffer(&mut buffer)).unwrap();
        prop_assert_eq!(got.is_some(), entry.expires_at_ms > model.now_ms);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn an_evicting_region_answers_like_a_map_with_deadlines(ops in proptest::collection::vec(op(), 1..400)) {
        run(Mode::Evict, ops)?;
    }

    #[test]
    fn a_no_evict_region_answers_like_a_map_with_deadlines(ops in proptest::collection::vec(op(), 1..400)) {
        run(Mode::NoEvict, ops)?;
    }
}
