//! Leases, semaphores and rate limits.

use std::sync::atomic::{AtomicU32, Ordering as CountOrdering};

use crate::lease::{Kind, Name, Terms};
use crate::limit::{Hit, Limit};
use crate::sync::Ordering;
use crate::testing::{Bench, TestHost};
use crate::types::NEVER;
use crate::{Error, Host, Map, Mode};

const TRY: Terms = Terms { holder: 1, ttl_ms: NEVER, reentrant: false, timeout_ns: 0 };
const SECOND_NS: u64 = 1_000_000_000;

fn bench() -> Bench {
    Bench::new(1 << 20, Mode::Evict)
}

fn lock_name<H: Host>(map: &Map<H>, name: &str) -> Name {
    map.lease_name(Kind::Lock, name.as_bytes()).unwrap()
}

/// What the tests of damage do with a lease, whatever it says.
pub(super) fn use_a_lease(map: &Map<&TestHost>, key: &[u8], random: u64) {
    let name = map.lease_name(Kind::Lock, key).unwrap();
    let terms = Terms { holder: random % 3, ttl_ms: random % 50, reentrant: random & 64 != 0, timeout_ns: 1_000_000 };
    let Ok(Some(token)) = map.acquire_lease(name, &terms) else { return };
    drop(map.extend_lease(name, terms.holder, token, 5));
    map.lease(name);
    if random & 128 != 0 {
        drop(map.release_lease(name, terms.holder, token));
    }
}

pub(super) fn use_a_semaphore(map: &Map<&TestHost>, key: &[u8], random: u64) {
    let name = map.lease_name(Kind::Semaphore, key).unwrap();
    if let Ok(Some((index, token))) = map.acquire_permit(name, 1 + random as u32 % 5, &TRY) {
        drop(map.release_permit(name, index, TRY.holder, token));
    }
}

pub(super) fn use_a_limit(map: &Map<&TestHost>, key: &[u8], random: u64) {
    let name = map.lease_name(Kind::Limit, key).unwrap();
    if let Ok(hit) = map.hit(name, Limit { count: 10, per_ns: SECOND_NS }, random % 11) {
        assert!(hit.remaining <= 10 && hit.retry_after_ns <= SECOND_NS, "{hit:?}");
    }
}

#[test]
fn a_lease_has_one_holder_and_each_token_is_greater() {
    let (host, bench) = (TestHost::default(), bench());
    let maps = [bench.attach(&host, 0), bench.attach(&host, 1)];
    let name = lock_name(&maps[0], "a");
    let mut last = 0;
    for round in 0..10 {
        let (map, other) = (&maps[round % 2], &maps[(round + 1) % 2]);
        let token = map.acquire_lease(name, &TRY).unwrap().unwrap();
        assert!(token > last);
        last = token;
        assert_eq!(other.acquire_lease(name, &TRY).unwrap(), None);
        let of_another_thread = Terms { holder: 2, ..TRY };
        assert_eq!(map.acquire_lease(name, &of_another_thread).unwrap(), None);
        assert_eq!(map.acquire_lease(name, &TRY).unwrap(), None, "not reentrant");
        let seen = map.lease(name).unwrap();
        assert_eq!((seen.token, seen.holder, seen.until_ms), (token, Some(1), NEVER));
        assert_eq!(other.lease(name).unwrap().holder, None);
        for (wrong, holder, token) in [(other, 1, token), (map, 2, token), (map, 1, token - 1)] {
            assert!(matches!(wrong.release_lease(name, holder, token), Err(Error::NotHolder { .. })));
            assert!(matches!(wrong.extend_lease(name, holder, token, 5), Err(Error::NotHolder { .. })));
        }
        map.release_lease(name, 1, token).unwrap();
        assert!(matches!(map.release_lease(name, 1, token), Err(Error::NotHolder { .. })));
        assert_eq!(other.lease(name), None);
    }
    assert!(maps[0].validate().is_clean());
}

#[test]
fn names_of_another_kind_or_key_are_other_names() {
    let (host, bench) = (TestHost::default(), bench());
    let map = bench.attach(&host, 0);
    let name = |kind| map.lease_name(kind, b"a").unwrap();
    let within = |key: &[u8]| map.lease_name_within(name(Kind::Limit), key).unwrap();
    let names = [name(Kind::Lock), name(Kind::Semaphore), within(b""), within(b"x"), within(b"y")];
    for name in names {
        assert!(map.acquire_lease(name, &TRY).unwrap().is_some());
    }
    assert!(matches!(map.lease_name(Kind::Lock, b""), Err(Error::KeyEmpty)));
    assert!(matches!(map.lease_name(Kind::Lock, &[0; 65_536]), Err(Error::KeyTooLong { .. })));
    assert!(map.lease_name(Kind::Lock, &[0; 65_535]).is_ok());
}

#[test]
fn a_reentrant_lease_is_given_back_as_often_as_it_was_taken() {
    let (host, bench) = (TestHost::default(), bench());
    let (map, other) = (bench.attach(&host, 0), bench.attach(&host, 1));
    let (name, terms) = (lock_name(&map, "a"), Terms { reentrant: true, ..TRY });
    let token = map.acquire_lease(name, &terms).unwrap().unwrap();
    assert_eq!(map.acquire_lease(name, &terms).unwrap(), Some(token));
    assert_eq!(map.acquire_lease(name, &Terms { holder: 2, ..terms }).unwrap(), None);
    map.release_lease(name, 1, token).unwrap();
    assert_eq!(other.acquire_lease(name, &terms).unwrap(), None);
    map.release_lease(name, 1, token).unwrap();
    assert!(other.acquire_lease(name, &terms).unwrap().is_some());
}

#[test]
fn a_ttl_ends_a_lease_while_its_holder_lives_and_extend_moves_the_end() {
    let (host, bench) = (TestHost::default(), bench());
    let (map, other) = (bench.attach(&host, 0), bench.attach(&host, 1));
    let (name, terms) = (lock_name(&map, "a"), Terms { ttl_ms: 100, ..TRY });
    let token = map.acquire_lease(name, &terms).unwrap().unwrap();
    host.now_ms.store(99, CountOrdering::Relaxed);
    assert_eq!(other.acquire_lease(name, &terms).unwrap(), None);
    map.extend_lease(name, 1, token, 100).unwrap();
    host.now_ms.store(198, CountOrdering::Relaxed);
    assert_eq!(other.acquire_lease(name, &terms).unwrap(), None);
    host.now_ms.store(199, CountOrdering::Relaxed);
    assert_eq!(map.lease(name), None);
    assert!(matches!(map.extend_lease(name, 1, token, 100), Err(Error::NotHolder { .. })), "too late");
    let next = other.acquire_lease(name, &terms).unwrap().unwrap();
    assert!(next > token);
    assert!(matches!(map.release_lease(name, 1, token), Err(Error::NotHolder { .. })), "it is another's");
    other.release_lease(name, 1, next).unwrap();
}

#[test]
fn a_lease_of_the_dead_is_taken_and_one_of_the_living_is_not() {
    let (host, bench) = (TestHost::default(), bench());
    let (map, dead, living) = (bench.attach(&host, 0), bench.attach(&host, 1), bench.attach(&host, 2));
    let (theirs, held) = (lock_name(&map, "dead"), lock_name(&map, "living"));
    let token = dead.acquire_lease(theirs, &TRY).unwrap().unwrap();
    living.acquire_lease(held, &TRY).unwrap().unwrap();
    host.dead.lock().unwrap().push(1);
    assert_eq!(map.lease(theirs), None);
    assert!(map.acquire_lease(theirs, &TRY).unwrap().unwrap() > token);
    assert_eq!(map.acquire_lease(held, &TRY).unwrap(), None);
    let waits = Terms { timeout_ns: 20_000_000, ..TRY };
    assert_eq!(map.acquire_lease(held, &waits).unwrap(), None);
}

#[test]
fn a_clean_up_frees_what_the_dead_held() {
    let (host, bench) = (TestHost::default(), bench());
    let (map, dead) = (bench.attach(&host, 0), bench.attach(&host, 1));
    let (theirs, ours) = (lock_name(&map, "theirs"), lock_name(&map, "ours"));
    dead.acquire_lease(theirs, &TRY).unwrap().unwrap();
    map.acquire_lease(ours, &TRY).unwrap().unwrap();
    map.clean_slot(1, None);
    // Nobody is asked: nobody is known to be dead.
    assert!(map.acquire_lease(theirs, &TRY).unwrap().is_some());
    assert_eq!(map.lease(ours).unwrap().holder, Some(1));
}

#[test]
fn rows_are_used_again_and_a_full_table_is_an_error_by_name() {
    let (host, bench) = (TestHost::default(), bench());
    let (map, dead) = (bench.attach(&host, 0), bench.attach(&host, 1));
    let mut last = 0;
    for number in 0..1_000 {
        let name = lock_name(&map, &format!("passing {number}"));
        let token = map.acquire_lease(name, &TRY).unwrap().unwrap();
        assert!(token > last, "of any name");
        last = token;
        map.release_lease(name, 1, token).unwrap();
    }
    let count = bench.geometry.lease_count;
    assert_eq!(count, 64);
    for number in 0..count {
        let holder = if number < 3 { &dead } else { &map };
        holder.acquire_lease(lock_name(&map, &format!("held {number}")), &TRY).unwrap().unwrap();
    }
    let more = |number| map.acquire_lease(lock_name(&map, &format!("more {number}")), &TRY);
    let full = more(0).unwrap_err();
    assert!(matches!(full, Error::LeasesFull { count: 64 }), "{full}");
    host.dead.lock().unwrap().push(1);
    for number in 0..3 {
        assert!(more(number).unwrap().is_some(), "a row of the dead");
    }
    assert!(more(3).is_err());
    assert!(map.validate().is_clean());
}

#[test]
fn clear_and_eviction_leave_leases_alone() {
    let (host, bench) = (TestHost::default(), bench());
    let map = bench.attach(&host, 0);
    let name = lock_name(&map, "a");
    let token = map.acquire_lease(name, &TRY).unwrap().unwrap();
    for number in 0..5_000u32 {
        map.set(&number.to_le_bytes(), &[1; 500], &crate::WriteOptions::default()).unwrap();
    }
    map.clear().unwrap();
    assert_eq!(map.lease(name).unwrap().token, token);
}

#[test]
fn threads_that_wait_get_their_turns_one_at_a_time() {
    let (host, bench) = (TestHost::default(), bench());
    let maps = [bench.attach(&host, 0), bench.attach(&host, 1)];
    let name = lock_name(&maps[0], "a");
    let inside = AtomicU32::new(0);
    let done = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for number in 0..4u64 {
            let (map, inside, done) = (&maps[number as usize % 2], &inside, &done);
            scope.spawn(move || {
                let terms = Terms { holder: number, timeout_ns: 60 * SECOND_NS, ..TRY };
                for _ in 0..500 {
                    let token = map.acquire_lease(name, &terms).unwrap().unwrap();
                    assert_eq!(inside.fetch_add(1, CountOrdering::SeqCst), 0);
                    inside.fetch_sub(1, CountOrdering::SeqCst);
                    map.release_lease(name, number, token).unwrap();
                    done.fetch_add(1, CountOrdering::SeqCst);
                }
            });
        }
    });
    assert_eq!(done.into_inner(), 2_000);
}

#[test]
fn a_semaphore_has_as_many_holders_as_permits() {
    let (host, bench) = (TestHost::default(), bench());
    let (map, other) = (bench.attach(&host, 0), bench.attach(&host, 1));
    let name = map.lease_name(Kind::Semaphore, b"a").unwrap();
    let taken: Vec<_> = (0..3).map(|_| map.acquire_permit(name, 3, &TRY).unwrap().unwrap()).collect();
    assert_eq!(taken.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(other.acquire_permit(name, 3, &TRY).unwrap(), None);
    assert_eq!(other.free_permits(name, 3).unwrap(), 0);
    map.release_permit(name, 1, 1, taken[1].1).unwrap();
    assert!(matches!(map.release_permit(name, 1, 1, taken[1].1), Err(Error::NotHolder { .. })));
    assert_eq!(other.free_permits(name, 3).unwrap(), 1);
    assert_eq!(other.acquire_permit(name, 3, &TRY).unwrap().unwrap().0, 1);
    // Two permits of the dead, at once.
    host.dead.lock().unwrap().push(0);
    assert_eq!(other.free_permits(name, 3).unwrap(), 2);
    assert!(other.acquire_permit(name, 3, &TRY).unwrap().is_some());
    assert!(other.acquire_permit(name, 3, &TRY).unwrap().is_some());
    assert_eq!(other.acquire_permit(name, 3, &TRY).unwrap(), None);
    for count in [0, 1025] {
        assert!(matches!(map.acquire_permit(name, count, &TRY), Err(Error::InvalidArgument { .. })));
    }
}

#[test]
fn callers_who_name_other_numbers_are_told_apart() {
    let (host, bench) = (TestHost::default(), bench());
    let (map, other) = (bench.attach(&host, 0), bench.attach(&host, 1));
    let gate = map.lease_name(Kind::Semaphore, b"a").unwrap();
    assert_eq!(map.other_permit_count(gate, 2), Ok(None), "nobody holds one");
    let (index, token) = other.acquire_permit(gate, 3, &TRY).unwrap().unwrap();
    assert_eq!((map.other_permit_count(gate, 2), map.other_permit_count(gate, 3)), (Ok(Some(3)), Ok(None)));
    other.release_permit(gate, index, 1, token).unwrap();
    assert_eq!(map.other_permit_count(gate, 2), Ok(None), "who is gone says nothing");

    let rate = map.lease_name(Kind::Limit, b"a").unwrap();
    let (wide, narrow) = (Limit { count: 5, per_ns: SECOND_NS }, Limit { count: 2, per_ns: SECOND_NS });
    host.now_ms.store(1_000_000, CountOrdering::Relaxed);
    assert!(!map.hit(rate, wide, 2).unwrap().is_other && !other.hit(rate, wide, 1).unwrap().is_other);
    assert!(other.hit(rate, narrow, 0).unwrap().is_other, "asking tells as well");
    assert!(!map.hit(rate, wide, 0).unwrap().is_other, "and changes nothing");
    host.now_ms.store(1_001_000, CountOrdering::Relaxed);
    assert!(!other.hit(rate, narrow, 1).unwrap().is_other, "nothing is left of the others");
}

#[test]
fn a_lease_that_is_not_held_says_why() {
    let (host, bench) = (TestHost::default(), bench());
    let (map, other) = (bench.attach(&host, 0), bench.attach(&host, 1));
    let name = map.lease_name(Kind::Lock, b"a").unwrap();
    let said = |outcome: Result<(), Error>| outcome.unwrap_err().to_string();
    host.now_ms.store(1_000, CountOrdering::Relaxed);
    let token = map.acquire_lease(name, &Terms { ttl_ms: 100, ..TRY }).unwrap().unwrap();
    assert!(said(other.release_lease(name, 1, token)).contains("another process"));
    assert!(said(map.release_lease(name, 2, token)).contains("another thread"));
    host.now_ms.store(1_100, CountOrdering::Relaxed);
    assert_eq!(said(map.extend_lease(name, 1, token, 5)), "not held by this caller: its ttl has passed");
    assert!(other.acquire_lease(name, &TRY).unwrap().is_some());
    assert!(said(map.release_lease(name, 1, token)).contains("others may have it"));
}

#[test]
fn a_limit_allows_its_burst_and_then_its_rate() {
    let (host, bench) = (TestHost::default(), bench());
    let maps = [bench.attach(&host, 0), bench.attach(&host, 1)];
    let name = maps[0].lease_name(Kind::Limit, b"a").unwrap();
    let limit = Limit { count: 5, per_ns: SECOND_NS };
    let hit = |map: usize, cost| maps[map].hit(name, limit, cost).unwrap();
    host.now_ms.store(1_000_000, CountOrdering::Relaxed);
    for remaining in (0..5).rev() {
        assert_eq!(
            hit(remaining % 2, 1),
            Hit { is_allowed: true, remaining: remaining as u64, retry_after_ns: 0, is_other: false }
        );
    }
    let refused = Hit { is_allowed: false, remaining: 0, retry_after_ns: 200_000_000, is_other: false };
    assert_eq!((hit(0, 1), hit(1, 1)), (refused, refused), "a refusal changes nothing");
    assert_eq!(hit(0, 5).retry_after_ns, SECOND_NS);
    host.now_ms.store(1_000_199, CountOrdering::Relaxed);
    assert_eq!(hit(0, 1).retry_after_ns, 1_000_000);
    host.now_ms.store(1_000_200, CountOrdering::Relaxed);
    assert!(hit(1, 1).is_allowed && !hit(0, 1).is_allowed);
    host.now_ms.store(1_001_200, CountOrdering::Relaxed);
    assert_eq!(hit(0, 0).remaining, 5, "asking costs nothing");
    assert!(hit(0, 5).is_allowed && !hit(0, 1).is_allowed);
    for (limit, cost) in [(Limit { count: 0, ..limit }, 1), (limit, 6), (Limit { count: 2, per_ns: 1 }, 1)] {
        assert!(matches!(maps[0].hit(name, limit, cost), Err(Error::InvalidArgument { .. })));
    }
    let row = maps[0].find_lease(name).unwrap();
    row.holder.store(u64::MAX, Ordering::Relaxed);
    assert_eq!(hit(0, 1).retry_after_ns, 200_000_000, "a damaged word stops nobody for ever");
}

#[test]
fn a_limit_never_allows_more_than_the_algorithm_says() {
    let (host, bench) = (TestHost::default(), bench());
    let map = bench.attach(&host, 0);
    for (count, per_ns) in [(1u64, SECOND_NS), (3, SECOND_NS), (7, 60 * SECOND_NS), (100_000, SECOND_NS)] {
        let name = map.lease_name_within(map.lease_name(Kind::Limit, b"a").unwrap(), &count.to_le_bytes()).unwrap();
        let limit = Limit { count, per_ns };
        let (mut allowed, mut now_ms) = (0, 5_000_000u64);
        let mut random = super::Random(count);
        for _ in 0..2_000 {
            host.now_ms.store(now_ms, CountOrdering::Relaxed);
            let cost = 1 + random.below(count.min(20));
            let hit = map.hit(name, limit, cost).unwrap();
            allowed += if hit.is_allowed { cost } else { 0 };
            let most = count + (now_ms - 5_000_000) * 1_000_000 / (per_ns / count);
            assert!(allowed <= most, "{allowed} of {most} allowed at {now_ms}");
            now_ms += random.below(20);
        }
        assert!(allowed >= count.min(1_000), "{allowed} allowed");
    }
}

#[test]
fn a_limit_that_is_idle_gives_its_row_to_another_name() {
    let (host, bench) = (TestHost::default(), bench());
    let map = bench.attach(&host, 0);
    let name = map.lease_name(Kind::Limit, b"a").unwrap();
    let hit = |number: u32| {
        let name = map.lease_name_within(name, &number.to_le_bytes()).unwrap();
        map.hit(name, Limit { count: 1, per_ns: SECOND_NS }, 1)
    };
    (0..64).for_each(|number| assert!(hit(number).unwrap().is_allowed));
    assert!(matches!(hit(64), Err(Error::LeasesFull { .. })));
    host.now_ms.store(1_000, CountOrdering::Relaxed);
    (64..128).for_each(|number| assert!(hit(number).unwrap().is_allowed));
}

#[test]
fn rows_that_contradict_themselves_are_reported_and_repaired() {
    let (host, bench) = (TestHost::default(), bench());
    let map = bench.attach(&host, 0);
    let names = ["a", "b"].map(|name| lock_name(&map, name));
    let tokens = names.map(|name| map.acquire_lease(name, &TRY).unwrap().unwrap());
    map.find_lease(names[0]).unwrap().owner.store(0xffe << 18 | 1 << 32, Ordering::Relaxed);
    map.release_lease(names[1], 1, tokens[1]).unwrap();
    map.place_lease_twice(names[1]);
    let report = map.validate();
    assert_eq!(report.problem_count, 2, "{report:?}");
    let repaired = map.repair(SECOND_NS).unwrap();
    assert_eq!((repaired.leases, repaired.left.is_clean()), (2, true), "{repaired:?}");
    assert!(map.acquire_lease(names[0], &TRY).unwrap().is_some());
}

impl Map<&TestHost> {
    /// Gives a second row to `name`.
    fn place_lease_twice(&self, name: Name) {
        let me = self.owner().unwrap();
        let first = self.find_lease(name).unwrap();
        let low = first.low.swap(0, Ordering::Relaxed);
        // Taken meanwhile, so that another is found.
        first.owner.store(u64::from(me.word()) | 1 << 32, Ordering::Relaxed);
        first.until_ms.store(NEVER, Ordering::Relaxed);
        first.low.store(1, Ordering::Relaxed);
        drop(self.place_lease_alone(name, me).unwrap().unwrap());
        first.owner.store(0, Ordering::Relaxed);
        first.low.store(low, Ordering::Relaxed);
    }
}
