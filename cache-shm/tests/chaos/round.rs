//! One round: fresh regions, workers that are killed and started again, and at the end
//! a check of everything.
//!
//! Owns: the children of a round and the time that take-overs take. What is measured is
//! the time from the kill of a process that holds a stripe's lock to the end of the next
//! write in that stripe, by a process that was waiting for it.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use cache_core::{Host, participant};
use cache_shm::{Cache, Mode, Stats, WriteOptions};
use fastrand::Rng;
use rustix::process::Signal;

use crate::ledger::{Ledger, OWNED, OWNED_REGIONS, State};
use crate::plan::{Deed, Plan};
use crate::system::{Child, Dir, Raw, now_ns};
use crate::value::{Key, blob};
use crate::worker::{self, DROP, KEEP, REGIONS};

/// Longest time that anything may take that is not given another one.
const PATIENCE: Duration = Duration::from_secs(20);
/// Longest wait of a probe for a stripe.
const PROBE_TIMEOUT_NS: u64 = 10_000_000_000;
/// The lock word's bit that says that somebody waits.
const WAITERS: u32 = 1 << 31;

/// What a run has counted so far.
#[derive(Default)]
pub struct Totals {
    pub kills: u64,
    pub holders_killed: u64,
    pub stops: u64,
    pub take_over_ms: Vec<f64>,
    pub stats: Stats,
    pub operations: u64,
    pub checked: u64,
    pub busy: u64,
    pub full: u64,
    pub losses: u64,
    pub wrong: u64,
    pub regions_clean: u64,
    pub failures: Vec<String>,
}

struct Working {
    child: Child,
    life: u64,
    wakes_at: Option<Instant>,
    operations: u64,
    moved_at: Instant,
}

struct Round<'a> {
    plan: &'a Plan,
    number: u32,
    dir: Dir,
    ledger: &'static Ledger,
    workers: Vec<Working>,
    probe: Probe,
    /// Killed when the round is dropped.
    saboteur: Option<Child>,
    raw: Raw,
}

/// What is done behind the backs of the workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sabotage {
    /// Nothing.
    None,
    /// A key that has one writer is removed by another.
    Remove,
    /// It gets a value that its writer did not write.
    Replace,
}

/// Runs round `number` until `end` or until enough were killed.
pub fn run(plan: &Plan, number: u32, end: Instant, sabotage: Sabotage, totals: &mut Totals) {
    let mut random = plan.round_random(number);
    let dir = Dir::new();
    let bytes = plan.region_bytes(&mut random);
    for ((name, bytes), mode) in REGIONS.iter().zip(bytes).zip([Mode::NoEvict, Mode::Evict, Mode::Evict]) {
        drop(Cache::builder(Some(name)).dir(dir.path()).size(bytes).mode(mode).create().expect("a region"));
    }
    let raw = Raw::open(&dir.path().join(REGIONS[DROP]));
    let probe = Probe::start(&raw);
    let mut round = Round { plan, number, raw, probe, saboteur: None, ledger: Ledger::new(), workers: Vec::new(), dir };
    round.probe.child = Some(round.start_probe());
    for slot in 0..plan.workers {
        let worker = round.start(slot, 0);
        round.workers.push(worker);
    }
    if sabotage != Sabotage::None {
        round.sabotage(sabotage);
    }
    let done = round.kill_until(end, &mut random, totals).and_then(|()| round.finish(totals));
    totals.operations += round.ledger.sum(|counts| &counts.operations);
    totals.checked += round.ledger.sum(|counts| &counts.checked);
    totals.busy += round.ledger.sum(|counts| &counts.busy);
    totals.full += round.ledger.sum(|counts| &counts.full);
    totals.losses += round.ledger.sum(|counts| &counts.losses);
    totals.wrong += round.ledger.sum(|counts| &counts.wrong);
    if let Err(failure) = done {
        totals.failures.push(format!("round {number}: {failure}"));
    }
}

impl Round<'_> {
    fn start(&self, slot: usize, life: u64) -> Working {
        let (plan, ledger, dir, number) = (self.plan, self.ledger, self.dir.path(), self.number);
        let child = Child::fork(|| worker::run(ledger, plan, dir, number, slot, life));
        let operations = ledger.slots[slot].counts.operations.load(SeqCst);
        Working { child, life, wakes_at: None, operations, moved_at: Instant::now() }
    }

    fn start_probe(&self) -> Child {
        Child::fork(|| self.probe.run(self.dir.path(), self.ledger))
    }

    /// Does again and again what the workers must notice.
    fn sabotage(&mut self, sabotage: Sabotage) {
        let dir = self.dir.path().to_owned();
        self.saboteur = Some(Child::fork(|| {
            let cache = Cache::builder(Some(REGIONS[KEEP])).dir(&dir).open().expect("the region");
            for number in (0..OWNED).cycle() {
                let key = Key::owned(KEEP, 0, number);
                let _ = match sabotage {
                    Sabotage::Replace => {
                        cache.replace(&key.bytes(), &blob(key, 1 << 41, 0), &cache.options()).map(drop)
                    }
                    Sabotage::Remove | Sabotage::None => cache.delete(&key.bytes()).map(drop),
                };
            }
        }));
    }

    fn kill_until(&mut self, end: Instant, random: &mut Rng, totals: &mut Totals) -> Result<(), String> {
        while Instant::now() < end && totals.kills < self.plan.kills {
            let act = self.plan.act(random);
            std::thread::sleep(act.after);
            self.look_after()?;
            let is_stopped = self.workers[act.victim].wakes_at.is_some();
            match act.deed {
                Deed::Stop(time) if !is_stopped => {
                    let worker = &mut self.workers[act.victim];
                    worker.child.signal(Signal::STOP);
                    worker.wakes_at = Some(Instant::now() + time);
                    totals.stops += 1;
                }
                Deed::KillHolder if !is_stopped => {
                    let stripe = random.u32(..self.raw.geometry.stripe_count);
                    self.kill_holder(act.victim, stripe, totals)?;
                }
                _ => {
                    self.replace(act.victim)?;
                    totals.kills += 1;
                }
            }
        }
        Ok(())
    }

    /// Kills a worker and starts its successor.
    fn replace(&mut self, slot: usize) -> Result<(), String> {
        let worker = self.workers.remove(slot);
        let life = worker.life + 1;
        worker.child.kill()?;
        let worker = self.start(slot, life);
        self.workers.insert(slot, worker);
        Ok(())
    }

    /// Wakes who was stopped long enough; notices who ended or hangs.
    fn look_after(&mut self) -> Result<(), String> {
        let now = Instant::now();
        for (slot, worker) in self.workers.iter_mut().enumerate() {
            if worker.wakes_at.is_some_and(|at| at <= now) {
                worker.child.signal(Signal::CONT);
                worker.wakes_at = None;
            }
            if let Some(status) = worker.child.ended() {
                return Err(format!("worker {slot} ended by itself: {status:?}"));
            }
            let operations = self.ledger.slots[slot].counts.operations.load(SeqCst);
            if operations != worker.operations || worker.wakes_at.is_some() {
                (worker.operations, worker.moved_at) = (operations, now);
            } else if now - worker.moved_at > PATIENCE {
                return Err(format!("worker {slot} has done nothing for {PATIENCE:?}"));
            }
        }
        Ok(())
    }

    /// Waits until `is_so`; looks after the workers meanwhile.
    fn wait_for(&mut self, what: &str, mut is_so: impl FnMut(&Self) -> bool) -> Result<(), String> {
        let started = Instant::now();
        while !is_so(self) {
            if started.elapsed() > PATIENCE {
                return Err(format!("waited {PATIENCE:?} for {what}"));
            }
            self.look_after()?;
            std::thread::sleep(Duration::from_micros(100));
        }
        Ok(())
    }

    /// Kills a worker that holds the lock of `stripe` while the probe waits for it.
    fn kill_holder(&mut self, slot: usize, stripe: u32, totals: &mut Totals) -> Result<(), String> {
        let wishes = &self.ledger.slots[slot];
        wishes.hold_answer.store(0, SeqCst);
        wishes.hold_wish.store(u64::from(stripe) + 1, SeqCst);
        self.wait_for("a worker to take a lock", |_| wishes.hold_answer.load(SeqCst) != 0)?;
        if wishes.hold_answer.load(SeqCst) != 1 {
            return Ok(());
        }
        self.ledger.probed_ns.store(0, SeqCst);
        self.probe.order(stripe);
        self.wait_for("somebody to wait for the lock", |round| {
            round.raw.with_lock(stripe, |word| word.load(SeqCst) & WAITERS != 0)
        })?;
        let worker = self.workers.remove(slot);
        let life = worker.life + 1;
        let killed_ns = now_ns();
        worker.child.signal(Signal::KILL);
        let ledger = self.ledger;
        let probed =
            self.wait_for("a write in a stripe whose holder was killed", |_| ledger.probed_ns.load(SeqCst) != 0);
        let gone = worker.child.kill();
        let worker = self.start(slot, life);
        self.workers.insert(slot, worker);
        probed.and(gone)?;
        totals.kills += 1;
        totals.holders_killed += 1;
        totals.take_over_ms.push((ledger.probed_ns.load(SeqCst).saturating_sub(killed_ns)) as f64 / 1e6);
        Ok(())
    }

    /// Lets the workers check their keys and end, then checks the regions.
    fn finish(&mut self, totals: &mut Totals) -> Result<(), String> {
        self.ledger.stop.store(1, SeqCst);
        self.probe.end()?;
        let started = Instant::now();
        for (slot, mut worker) in self.workers.drain(..).enumerate() {
            if worker.wakes_at.is_some() {
                worker.child.signal(Signal::CONT);
            }
            let status = loop {
                match worker.child.ended() {
                    Some(status) => break status,
                    None if started.elapsed() > PATIENCE => return Err(format!("worker {slot} does not end")),
                    None => std::thread::sleep(Duration::from_millis(1)),
                }
            };
            if status.exit_status() != Some(0) {
                return Err(format!("worker {slot} ended with {status:?}"));
            }
        }
        for (region, name) in REGIONS.iter().enumerate() {
            let cache = Cache::builder(Some(name)).dir(self.dir.path()).open().map_err(|error| error.to_string())?;
            self.check_region(region, &cache, totals)?;
        }
        let names = self.dir.names();
        let mut expected = REGIONS.map(String::from);
        expected.sort();
        if names != expected {
            return Err(format!("files were left over: {names:?}"));
        }
        Ok(())
    }

    fn check_region(&self, region: usize, cache: &Cache, totals: &mut Totals) -> Result<(), String> {
        let name = REGIONS[region];
        let map = cache.map().map_err(|error| error.to_string())?;
        let report = map.validate();
        if !report.is_clean() {
            return Err(format!("{name}: validate: {} problems: {:?}", report.problem_count, report.problems));
        }
        totals.regions_clean += 1;
        if region < OWNED_REGIONS {
            self.check_owned(region, cache, totals)?;
        }
        // The last deaths may not have been noticed: nobody needed what they held.
        let raw = Raw::open(&self.dir.path().join(name));
        for index in 0..raw.geometry.participant_count {
            if participant::occupied(&raw.region(), &raw.geometry, index) {
                map.host().retire(index, &mut || map.clean_slot(index, None));
            }
        }
        let stats = map.stats();
        if (stats.pins, stats.participants) != (0, 1) {
            return Err(format!("{name}: {} pins and {} participants are left", stats.pins, stats.participants));
        }
        totals.stats.take_overs += stats.take_overs;
        totals.stats.evictions += stats.evictions;
        totals.stats.relocated_bytes += stats.relocated_bytes;
        totals.stats.splits += stats.splits;
        totals.stats.expirations += stats.expirations;
        Ok(())
    }

    /// Looks once more, from outside, at what the workers said that their keys hold.
    fn check_owned(&self, region: usize, cache: &Cache, totals: &mut Totals) -> Result<(), String> {
        for slot in 0..self.plan.workers {
            for number in 0..OWNED {
                let key = Key::owned(region, slot, number);
                let state = self.ledger.slots[slot].records[region][number].possible()[0];
                let expected = match state {
                    State::Absent => None,
                    State::Blob { serial, appends } => Some(blob(key, serial, appends)),
                    State::Integer(number) => Some(number.to_le_bytes().to_vec()),
                };
                let found = cache.get(&key.bytes()).map_err(|error| error.to_string())?;
                match (found, expected) {
                    (None, Some(_)) if region == KEEP => {
                        totals.losses += 1;
                        return Err(format!("key {:#x} is lost: {state:?}", key.0));
                    }
                    (None, _) => {}
                    (found, expected) if found == expected => totals.checked += 1,
                    _ => {
                        totals.wrong += 1;
                        return Err(format!("key {:#x} has another value than {state:?}", key.0));
                    }
                }
            }
        }
        Ok(())
    }
}

/// A process that writes into a stripe when told, and says when it is done.
struct Probe {
    child: Option<Child>,
    /// A key for each stripe.
    keys: Vec<Key>,
    orders: (OwnedFd, OwnedFd),
}

impl Probe {
    fn start(raw: &Raw) -> Probe {
        let mut keys = vec![None; raw.geometry.stripe_count as usize];
        let mut number = 0;
        while keys.contains(&None) {
            let key = Key::probe(DROP, number);
            keys[raw.stripe_of(&key.bytes()) as usize].get_or_insert(key);
            number += 1;
        }
        let keys = keys.into_iter().flatten().collect();
        Probe { child: None, keys, orders: rustix::pipe::pipe().expect("a pipe") }
    }

    fn order(&self, stripe: u32) {
        rustix::io::write(&self.orders.1, &stripe.to_le_bytes()).expect("a pipe with a reader");
    }

    /// In the child.
    fn run(&self, dir: &Path, ledger: &Ledger) {
        let cache = Cache::builder(Some(REGIONS[DROP])).dir(dir).open().expect("the region");
        let options = WriteOptions { timeout_ns: PROBE_TIMEOUT_NS, ..cache.options() };
        let mut order = [0; 4];
        while rustix::io::read(&self.orders.0, &mut order).expect("the pipe") == 4 {
            let stripe = u32::from_le_bytes(order);
            if stripe == u32::MAX {
                return;
            }
            let key = self.keys[stripe as usize];
            cache.set_with(&key.bytes(), &blob(key, 1, 0), &options).expect("a write of the probe");
            ledger.probed_ns.store(now_ns(), SeqCst);
        }
    }

    fn end(&mut self) -> Result<(), String> {
        self.order(u32::MAX);
        match self.child.take().and_then(Child::join) {
            Some(status) if status.exit_status() == Some(0) => Ok(()),
            status => Err(format!("the probe ended with {status:?}")),
        }
    }
}
