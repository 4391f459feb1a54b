//! Leases: names of which one holder has each, for as long as it lives.
//!
//! Owns: the rows of the lease table, who holds each, and how a dead or late holder is
//! replaced. Neither eviction nor `clear` touches them. What a row means beyond that
//! (permits, rates) is in `limit`.
//!
//! A row changes only under its own lock, which is held for a few stores, so every death
//! leaves a row that is one or the other: the owner word is stored last when a lease is
//! given, and first when it ends.
//!
//! ```text
//! owner word              meaning                              next
//! 0                       free                                 1 + owner
//! depth + owner           held, until the deadline             deeper (same holder), 0
//! depth + dead owner      its holder is gone                   0, then 1 + owner
//! depth + owner, late     its deadline has passed              0, then 1 + owner
//! 1 + no owner            a rate limit, until it is idle       (stays)
//! ```
//!
//! A row without a holder is free for another name: it remembers nothing that matters,
//! because tokens come from one counter of the whole region. A name has at most one row:
//! who looks for a place for it holds the place lock of the row that its hash names.

use crate::deadline::Deadline;
use crate::error::{Error, Result};
use crate::host::Host;
use crate::layout::{KEY_BYTES_MAX, control, lease as at};
use crate::lock::{self, Held, Owner};
use crate::map::Map;
use crate::stats::Counter;
use crate::sync::{AtomicU32, AtomicU64, Ordering, fence};
use crate::types::{Key, NEVER};

/// Rows in which a name can be, from the one that its hash names.
const PROBE_MAX: u32 = if cfg!(loom) { 2 } else { 64 };
/// Longest sleep between two questions about the holder's life, in nanoseconds.
const SLEEP_NS_MAX: u64 = 5_000_000;
/// Longest wait for those who are changing the same row, in nanoseconds. A model has no time.
pub(crate) const STEP_NS_MAX: u64 = if cfg!(loom) { u64::MAX } else { 50_000_000 };
/// Names that may take the row away before a step is Busy.
const RACES_MAX: u32 = 10_000;
/// The bell's lowest bit: somebody sleeps. The others count how often it rang.
const WAITED_FOR: u32 = 1;
const DEPTH_ONE: u64 = 1 << 32;
/// Why a lease is not held.
const LATE: Error = Error::NotHolder { reason: "its ttl has passed" };
const ANOTHERS: Error =
    Error::NotHolder { reason: "its ttl has passed, or it was given back already, and others may have it" };
const OTHER_PROCESS: Error =
    Error::NotHolder { reason: "another process acquired it; a forked child holds nothing of its parent's" };
const OTHER_THREAD: Error = Error::NotHolder { reason: "another thread or task of this process acquired it" };
/// Owner word of a rate limit.
pub(crate) const LIMIT: u64 = DEPTH_ONE;

/// What a name is the name of: each has names of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Held by one.
    Lock = 1,
    /// Held by several.
    Semaphore = 2,
    /// A rate.
    Limit = 3,
    /// Held by whoever makes the value of a key.
    Flight = 4,
}

/// A name in the lease table: 128 bits of seeded hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Name {
    pub(crate) low: u64,
    pub(crate) high: u64,
}

impl Name {
    /// The name of permit `index` of this semaphore; a lock's own name is its first.
    pub fn permit(self, index: u32) -> Name {
        // 0 marks a row without a name.
        Name { low: self.low.wrapping_add(u64::from(index)).max(1), high: self.high }
    }
}

/// How a lease is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// Which thread or task of this process asks; a number that only it has.
    pub holder: u64,
    /// Milliseconds until the lease ends by itself; [`NEVER`]: with its holder only.
    pub ttl_ms: u64,
    /// Who holds it already gets it once more.
    pub reentrant: bool,
    /// Longest wait; 0 = one try.
    pub timeout_ns: u64,
}

/// A lease that somebody holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// Its fencing token.
    pub token: u64,
    /// The holder's number, if it is of this process.
    pub holder: Option<u64>,
    /// When it ends by itself, on the region's clock; [`NEVER`] if it does not.
    pub until_ms: u64,
    /// Of a permit: how many its holder said that the semaphore has; of a lock 1.
    pub permit_count: u32,
}

/// A row of the table.
#[derive(Clone, Copy)]
pub(crate) struct Row<'a> {
    pub lock: &'a AtomicU32,
    place: &'a AtomicU32,
    pub bell: &'a AtomicU32,
    pub low: &'a AtomicU64,
    pub high: &'a AtomicU64,
    pub owner: &'a AtomicU64,
    /// Of a rate limit: the theoretical arrival time.
    pub holder: &'a AtomicU64,
    token: &'a AtomicU64,
    pub until_ms: &'a AtomicU64,
    /// Permits of the semaphore as its holder said, or the digest of a rate.
    pub agreed: &'a AtomicU32,
}

impl<'a> Row<'a> {
    pub fn low(&self) -> &'a AtomicU64 {
        self.low
    }

    pub fn is_named(&self, name: Name) -> bool {
        // Relaxed: the row's lock orders it, or it is looked at again under that lock.
        self.low.load(Ordering::Relaxed) == name.low && self.high.load(Ordering::Relaxed) == name.high
    }

    /// Gives the row, which nobody holds, to another name.
    pub fn rename(&self, name: Name) {
        // Relaxed, all: R5, the row is locked, whose release publishes them. In this order: a
        // death between two leaves a row that nobody holds, under no name or a half one.
        self.low.store(0, Ordering::Relaxed);
        for word in [self.owner, self.until_ms, self.holder, self.token] {
            word.store(0, Ordering::Relaxed);
        }
        self.agreed.store(0, Ordering::Relaxed);
        self.high.store(name.high, Ordering::Relaxed);
        self.low.store(name.low, Ordering::Relaxed);
    }

    /// An error unless this very lease is held, late or not. The row is locked.
    fn check_holder(&self, me: Owner, holder: u64, token: u64) -> Result<()> {
        // Relaxed, all: R5, the row is locked.
        let owner = self.owner.load(Ordering::Relaxed) as u32;
        if owner == 0 || self.token.load(Ordering::Relaxed) != token {
            return Err(ANOTHERS);
        }
        if owner != me.word() {
            return Err(OTHER_PROCESS);
        }
        if self.holder.load(Ordering::Relaxed) == holder { Ok(()) } else { Err(OTHER_THREAD) }
    }

    fn is_late(&self, now_ms: u64) -> bool {
        // Relaxed: R5, the row is locked; or a hint.
        self.until_ms.load(Ordering::Relaxed) <= now_ms
    }

    /// What a sleeper waits to see changed. The row is locked, so it is not rung before.
    fn await_bell(&self) -> u32 {
        // Relaxed, both: R5, the row is locked; only the kernel looks at it beside us.
        let bell = self.bell.load(Ordering::Relaxed) | WAITED_FOR;
        self.bell.store(bell, Ordering::Relaxed);
        bell
    }

    /// Rings if somebody sleeps; true if one is to be woken. The row is locked.
    pub fn ring(&self) -> bool {
        // Relaxed, both: R5, as above; what was released is published by the row's lock.
        let bell = self.bell.load(Ordering::Relaxed);
        if bell & WAITED_FOR != 0 {
            self.bell.store((bell & !WAITED_FOR).wrapping_add(2), Ordering::Relaxed);
        }
        bell & WAITED_FOR != 0
    }
}

/// What one look at a lease gave.
pub(crate) enum Tried<'a> {
    /// It is ours, with this token.
    Taken(u64),
    /// Somebody has it, and perhaps lives.
    Held { owner: Owner, until_ms: u64, bell: &'a AtomicU32, rings: u32 },
}

impl<H: Host> Map<H> {
    /// The name that a key is for `kind`: another in each namespace.
    ///
    /// # Errors
    /// `KeyEmpty`, `KeyTooLong`: as for keys.
    pub fn lease_name<'k>(&self, kind: Kind, key: impl Into<Key<'k>>) -> Result<Name> {
        let key = key.into();
        self.check_key(key)?;
        Ok(self.name_of(kind as u64, key))
    }

    /// The name of `key` among all that `name` limits: as many as there are keys.
    ///
    /// # Errors
    /// `KeyTooLong`; an empty key is the name itself.
    pub fn lease_name_within(&self, name: Name, key: &[u8]) -> Result<Name> {
        match key.len() {
            0 => Ok(name),
            1..=KEY_BYTES_MAX => {
                let inner = self.name_of(0, key.into());
                let mix = |outer: u64, inner: u64| outer.rotate_left(32).wrapping_mul(u64::MAX - 58) ^ inner;
                Ok(Name { low: mix(name.low, inner.low).max(1), high: mix(name.high, inner.high) })
            }
            bytes => Err(Error::KeyTooLong { bytes: bytes as u64, bytes_max: KEY_BYTES_MAX as u64 }),
        }
    }

    fn name_of(&self, kind: u64, key: Key<'_>) -> Name {
        let high = self.second_hasher.key(key).0;
        Name { low: self.hasher.key(key).0.max(1), high: high.wrapping_add(kind) }
    }

    pub(crate) fn lease_row(&self, index: u32) -> Row<'_> {
        let offset = self.geometry.leases_offset + at::BYTES * u64::from(index);
        let [low, high, owner, holder, token, until_ms] = self.region.words::<{ at::WORD_COUNT }>(offset + at::NAME);
        let word32 = |word: u64| self.region.word32(offset + word);
        let (lock, place, bell, agreed) = (word32(at::LOCK), word32(at::PLACE), word32(at::BELL), word32(at::AGREED));
        Row { lock, place, bell, low, high, owner, holder, token, until_ms, agreed }
    }

    /// The rows in which `name` can be.
    pub(crate) fn lease_window(&self, name: Name) -> impl Iterator<Item = Row<'_>> {
        let count = self.geometry.lease_count;
        let home = name.low.checked_rem(u64::from(count)).unwrap_or(0) as u32;
        (0..PROBE_MAX.min(count)).map(move |step| self.lease_row((home + step) % count))
    }

    /// The row of `name`. Without its lock it may belong to another by now.
    pub(crate) fn find_lease(&self, name: Name) -> Option<Row<'_>> {
        self.lease_window(name).find(|row| row.is_named(name))
    }

    /// Runs `step` on the row of `name`, locked. `None` if it has none and `makes` is not
    /// said.
    ///
    /// # Errors
    /// `LeasesFull`; `Busy` if others are stopped in the middle of a step.
    pub(crate) fn on_lease<'a, T>(
        &'a self,
        name: Name,
        me: Owner,
        makes: bool,
        mut step: impl FnMut(Row<'a>) -> T,
    ) -> Result<Option<T>> {
        let deadline = Deadline::new(STEP_NS_MAX);
        for _ in 0..RACES_MAX {
            let Some(row) = self.find_lease(name) else {
                if !makes {
                    return Ok(None);
                }
                if let Some((row, _held)) = self.place_lease(name, me, &deadline)? {
                    return Ok(Some(step(row)));
                }
                continue;
            };
            let _held = self.lock_lease(row.lock, me, &deadline)?;
            if row.is_named(name) {
                return Ok(Some(step(row)));
            }
        }
        Err(deadline.busy(&self.host))
    }

    pub(crate) fn lock_lease<'a>(&'a self, word: &'a AtomicU32, me: Owner, deadline: &Deadline) -> Result<Held<'a, H>> {
        if lock::acquire_until(word, me, &self.host, deadline)? {
            self.count(Counter::TakeOvers, 1);
        }
        Ok(Held::new(word, &self.host))
    }

    /// Finds a row for `name`, which had none, and locks it. `None` if somebody was faster.
    fn place_lease<'a>(&'a self, name: Name, me: Owner, deadline: &Deadline) -> Result<Option<(Row<'a>, Held<'a, H>)>> {
        let Some(home) = self.lease_window(name).next() else {
            return Err(Error::LeasesFull { count: 0 });
        };
        // Everybody who looks for a place for this name begins here: it gets one row, not two.
        // Nobody who holds a row waits for this lock, and who holds this one waits for no row.
        let _held = self.lock_lease(home.place, me, deadline)?;
        self.place_lease_alone(name, me)
    }

    /// As above. The caller holds the place lock of the name's home.
    pub(crate) fn place_lease_alone<'a>(&'a self, name: Name, me: Owner) -> Result<Option<(Row<'a>, Held<'a, H>)>> {
        if self.find_lease(name).is_some() {
            return Ok(None);
        }
        // Relaxed: a hint that spares the clean-up of the dead a walk over an empty table.
        self.control_word(control::LEASES_USED).store(1, Ordering::Relaxed);
        for asks in [false, true] {
            for row in self.lease_window(name) {
                let Some(word) = self.idle_lease(&row, me, asks) else { continue };
                // Relaxed: the take-over compares it.
                let locked = row.lock.load(Ordering::Relaxed);
                let is_locked = lock::try_acquire(row.lock, me)
                    || (asks && locked != 0 && lock::take_over(row.lock, locked, me, &self.host));
                if !is_locked {
                    continue;
                }
                let held = Held::new(row.lock, &self.host);
                // Once more, now that it stays so. The dead do not come back: who was found dead
                // is not asked for under the lock.
                // Relaxed: R5, the row is locked.
                let is_as_before = asks && row.owner.load(Ordering::Relaxed) == word;
                if is_as_before || self.idle_lease(&row, me, false).is_some() {
                    row.rename(name);
                    return Ok(Some((row, held)));
                }
            }
        }
        Err(Error::LeasesFull { count: self.geometry.lease_count })
    }

    /// The owner word of a row that nobody holds, as far as can be told without asking
    /// the kernel, unless `asks`.
    fn idle_lease(&self, row: &Row<'_>, me: Owner, asks: bool) -> Option<u64> {
        // Relaxed: R5 where the row is locked, else looked at again under its lock.
        let word = row.owner.load(Ordering::Relaxed);
        if word == 0 || row.low.load(Ordering::Relaxed) == 0 || row.is_late(self.host.now_ms()) {
            // Only a lock decides by time.
            return (!asks).then_some(word);
        }
        let owner = Owner::from_word(word as u32)?;
        (asks && self.is_over(owner, me)).then_some(word)
    }

    /// True if the kernel says that `owner`, whom a row named, is gone.
    pub(crate) fn is_over(&self, owner: Owner, me: Owner) -> bool {
        // Acquire: the row's word was loaded before the generation that it is compared with,
        // as in `lock::take_over`. [loom: newcomer]
        fence(Ordering::Acquire);
        // Our own slot is ours alone: its other incarnations are over.
        owner != me && (owner.index() == me.index() || self.host.is_dead(owner))
    }

    /// One look at the lease `name`: takes it if it is free, late, or held by one of `dead`.
    /// Announces a sleeper if it is held and `waits`. It is one of `permit_count`.
    pub(crate) fn try_lease(
        &self,
        name: Name,
        permit_count: u32,
        me: Owner,
        terms: &Terms,
        dead: &[Owner],
        waits: bool,
    ) -> Result<Tried<'_>> {
        let now_ms = self.host.now_ms();
        let until_ms = now_ms.saturating_add(terms.ttl_ms);
        let tried = self.on_lease(name, me, true, |row| {
            // Acquire: who cleaned up after a dead holder freed the row without its lock; we see
            // what that holder did. Pairs with the CAS in `release_leases_of`. [loom: lease]
            let word = row.owner.load(Ordering::Acquire);
            // Relaxed, here and below: R5, the row is locked.
            if let Some(owner) = Owner::from_word(word as u32)
                && !row.is_late(now_ms)
                && !dead.contains(&owner)
            {
                let is_mine = owner == me && row.holder.load(Ordering::Relaxed) == terms.holder;
                if is_mine && terms.reentrant {
                    row.until_ms.store(until_ms, Ordering::Relaxed);
                    row.owner.store(word.saturating_add(DEPTH_ONE), Ordering::Relaxed);
                    return Tried::Taken(row.token.load(Ordering::Relaxed));
                }
                let rings = if waits { row.await_bell() } else { 0 };
                let until_ms = row.until_ms.load(Ordering::Relaxed);
                return Tried::Held { owner, until_ms, bell: row.bell, rings };
            }
            // Relaxed: R5, and its release publishes what we store. Free first: a death in
            // between must not give an earlier holder our deadline or token.
            row.owner.store(0, Ordering::Relaxed);
            // Relaxed: each token is given once, and later ones are greater; the row's lock
            // orders those of one name.
            let token = self.control_word(control::LEASE_TOKEN).fetch_add(1, Ordering::Relaxed).wrapping_add(1);
            row.holder.store(terms.holder, Ordering::Relaxed);
            row.until_ms.store(until_ms, Ordering::Relaxed);
            row.token.store(token, Ordering::Relaxed);
            row.agreed.store(permit_count, Ordering::Relaxed);
            row.owner.store(DEPTH_ONE | u64::from(me.word()), Ordering::Relaxed);
            Tried::Taken(token)
        })?;
        tried.ok_or(Error::Internal)
    }

    /// Takes the lease `name`, waiting at most `terms.timeout_ns`. Returns its fencing token,
    /// greater than any before; `None` if others held it all the time.
    ///
    /// Whose process died is replaced: in one try if `timeout_ns` is 0, else after a sleep of
    /// at most 5 ms.
    ///
    /// # Errors
    /// `ReadOnly`, `LeasesFull`; `Busy` if others are stopped in the middle of a step.
    pub fn acquire_lease(&self, name: Name, terms: &Terms) -> Result<Option<u64>> {
        Ok(self.acquire_any(std::slice::from_ref(&name), terms)?.map(|(_, token)| token))
    }

    /// Takes the first of `names` that is free: its position, and its token. Sleepers wait at
    /// the bell of the first.
    pub(crate) fn acquire_any(&self, names: &[Name], terms: &Terms) -> Result<Option<(u32, u64)>> {
        let me = self.owner.ok_or(Error::ReadOnly)?;
        let deadline = Deadline::new(terms.timeout_ns);
        let (mut dead, mut slept) = (Vec::new(), false);
        loop {
            let (mut owners, mut first, mut ends_ms) = (Vec::new(), None, NEVER);
            for (index, name) in names.iter().enumerate() {
                let waits = !deadline.is_one_try() && index == 0;
                match self.try_lease(*name, names.len() as u32, me, terms, &dead, waits)? {
                    Tried::Taken(token) => {
                        if slept {
                            // Others may sleep as well: the next release wakes one of them.
                            self.on_lease(names[0], me, false, |row| row.await_bell())?;
                        }
                        return Ok(Some((index as u32, token)));
                    }
                    Tried::Held { owner, until_ms, bell, rings } => {
                        first.get_or_insert((bell, rings));
                        ends_ms = ends_ms.min(until_ms);
                        if !owners.contains(&owner) {
                            owners.push(owner);
                        }
                    }
                }
            }
            // The first question is asked after one sleep; who may not sleep asks at once.
            if slept || deadline.is_one_try() {
                owners.retain(|owner| !dead.contains(owner) && self.is_over(*owner, me));
                if !owners.is_empty() {
                    dead.append(&mut owners);
                    continue;
                }
            }
            let left_ns = deadline.left_ns(&self.host);
            let Some((bell, rings)) = first.filter(|_| left_ns > 0) else { return Ok(None) };
            let ends_ns = ends_ms.saturating_sub(self.host.now_ms()).saturating_mul(1_000_000).max(1);
            self.host.futex_wait(bell, rings, left_ns.min(SLEEP_NS_MAX).min(ends_ns));
            slept = true;
        }
    }

    /// Gives the lease back that `holder` got with `token`; one that was taken several times
    /// is given back as often.
    ///
    /// # Errors
    /// `NotHolder` if it is not held so, or its ttl has passed; `ReadOnly`, `Busy`.
    pub fn release_lease(&self, name: Name, holder: u64, token: u64) -> Result<()> {
        let me = self.owner.ok_or(Error::ReadOnly)?;
        let now_ms = self.host.now_ms();
        let released = self.on_lease(name, me, false, |row| {
            row.check_holder(me, holder, token)?;
            // Relaxed, here and below: R5, the row is locked; the release of that lock
            // publishes to the next holder what was done under the lease. [loom: lease]
            let word = row.owner.load(Ordering::Relaxed);
            let is_late = row.is_late(now_ms);
            if !is_late && word >> 32 > 1 {
                row.owner.store(word - DEPTH_ONE, Ordering::Relaxed);
                return Ok((false, None));
            }
            row.owner.store(0, Ordering::Relaxed);
            Ok((is_late, row.ring().then_some(row.bell)))
        })?;
        let (is_late, bell) = released.unwrap_or(Err(ANOTHERS))?;
        if let Some(bell) = bell {
            self.host.futex_wake(bell, 1);
        }
        if is_late { Err(LATE) } else { Ok(()) }
    }

    /// Lets the lease that `holder` got with `token` end in `ttl_ms` milliseconds from now,
    /// or with its holder only ([`NEVER`]).
    ///
    /// # Errors
    /// As [`Map::release_lease`].
    pub fn extend_lease(&self, name: Name, holder: u64, token: u64, ttl_ms: u64) -> Result<()> {
        let me = self.owner.ok_or(Error::ReadOnly)?;
        let now_ms = self.host.now_ms();
        let extended = self.on_lease(name, me, false, |row| {
            row.check_holder(me, holder, token)?;
            if row.is_late(now_ms) {
                return Err(LATE);
            }
            // Relaxed: R5, the row is locked.
            row.until_ms.store(now_ms.saturating_add(ttl_ms), Ordering::Relaxed);
            Ok(())
        })?;
        extended.unwrap_or(Err(ANOTHERS))
    }

    /// Announces somebody who sleeps until `name` is given back: the word that changes then, on
    /// which it rings one sleeper, and the value that the word has now. `None` if nobody held it
    /// lately. Look at it after this and before the sleep; deaths and deadlines ring nobody.
    ///
    /// # Errors
    /// `ReadOnly`; `Busy` if others are stopped in the middle of a step.
    pub fn await_lease(&self, name: Name) -> Result<Option<(&AtomicU32, u32)>> {
        let me = self.owner.ok_or(Error::ReadOnly)?;
        self.on_lease(name, me, false, |row| (row.bell, row.await_bell()))
    }

    /// Who holds `name` now; `None` if nobody does, or its holder is dead or late. Takes no
    /// lock: by the time it answers, others may have changed it.
    pub fn lease(&self, name: Name) -> Option<Lease> {
        let row = self.find_lease(name)?;
        // Relaxed: an answer about the past; nothing is inferred from it. A token is given
        // once, so words between two equal ones that are still named so are of one lease,
        // but for a renewal.
        let mut found = None;
        for _ in 0..RACES_MAX {
            let token = row.token.load(Ordering::Relaxed);
            let word = row.owner.load(Ordering::Relaxed);
            let (holder, until_ms) = (row.holder.load(Ordering::Relaxed), row.until_ms.load(Ordering::Relaxed));
            let permit_count = row.agreed.load(Ordering::Relaxed);
            fence(Ordering::Acquire);
            if row.owner.load(Ordering::Relaxed) == word && row.token.load(Ordering::Relaxed) == token {
                found = Some((word, holder, until_ms, token, permit_count));
                break;
            }
        }
        let (word, holder, until_ms, token, permit_count) = found?;
        let owner = Owner::from_word(word as u32)?;
        if !row.is_named(name) || until_ms <= self.host.now_ms() {
            return None;
        }
        let is_mine = self.owner == Some(owner);
        let is_dead = match self.owner {
            Some(me) => self.is_over(owner, me),
            None => self.host.is_dead(owner),
        };
        (!is_dead).then_some(Lease { token, holder: is_mine.then_some(holder), until_ms, permit_count })
    }

    /// Frees what `is_dead` names. The caller holds that slot's liveness lock, so nobody
    /// comes back.
    pub(crate) fn release_leases_of(&self, is_dead: impl Fn(Owner) -> bool + Copy) {
        // Relaxed: a hint. Where it was damaged, whoever wants a lease asks for its owner.
        if self.geometry.lease_count == 0 || self.control_word(control::LEASES_USED).load(Ordering::Relaxed) == 0 {
            return;
        }
        for index in 0..self.geometry.lease_count {
            let row = self.lease_row(index);
            lock::release_for_the_dead(row.lock, is_dead, &self.host);
            lock::release_for_the_dead(row.place, is_dead, &self.host);
            // Acquire and Release: the next holder goes on where the dead one was, and must see,
            // through us, what it wrote. Without the row's lock: whoever has that one does not
            // rely on a dead owner staying there.
            let word = row.owner.load(Ordering::Acquire);
            if Owner::from_word(word as u32).is_some_and(is_dead)
                && row.owner.compare_exchange(word, 0, Ordering::AcqRel, Ordering::Relaxed).is_ok()
            {
                self.host.futex_wake(row.bell, 1);
            }
        }
    }
}
