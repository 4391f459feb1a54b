//! `bench`: what operations cost on this machine, now.
//!
//! Owns: the rows, how they are timed, and what is said of it. A private region, which no other
//! process can reach and which is gone at the end.

use std::hint::black_box;
use std::ops::ControlFlow;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use cache_shm::{Cache, Mode};
use serde_json::json;

use super::bar::Bar;
use crate::cli::Bench;
use crate::failure::{Failure, Result};
use crate::observe::Latency;
use crate::output::{Output, grouped, sized};

/// Operations between two looks at the clock.
const RUN: u32 = 256;
/// Operations that are timed one by one after each run.
const TIMED: u32 = 16;
/// Times that a thread keeps.
const TIMES_MAX: usize = 1 << 20;
/// Keys of a batch.
const BATCH: usize = 32;
/// Share of the region that the values of a row take, but for the row of a full one.
const FILLED_PERCENT: u64 = 50;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    Get,
    Contains,
    GetMany,
    Set,
    SetFull,
    Incr,
}

impl Operation {
    fn name(self) -> &'static str {
        match self {
            Operation::Get => "get",
            Operation::Contains => "contains",
            Operation::GetMany => "get_many",
            Operation::Set => "set",
            Operation::SetFull => "set, evicting",
            Operation::Incr => "incr",
        }
    }
}

/// What one row of the table measures.
#[derive(Debug, Clone, Copy)]
struct Plan {
    operation: Operation,
    value_bytes: usize,
    threads: usize,
}

fn plans(threads_max: usize) -> Vec<Plan> {
    use Operation::{Contains, Get, GetMany, Incr, Set, SetFull};
    let alone = [
        (Get, 100),
        (Get, 1024),
        (Get, 64 * 1024),
        (Contains, 100),
        (GetMany, 100),
        (Set, 100),
        (Set, 1024),
        (Set, 64 * 1024),
        (SetFull, 100),
        (Incr, 8),
    ];
    let mut plans: Vec<Plan> = alone.map(|(operation, value_bytes)| Plan { operation, value_bytes, threads: 1 }).into();
    // Doubled up to the most, which may be no power of two.
    let counts = std::iter::successors(Some(2), |count| Some(count * 2)).take_while(|count| *count < threads_max);
    for threads in counts.chain((threads_max > 1).then_some(threads_max)) {
        plans.extend([Get, Set].map(|operation| Plan { operation, value_bytes: 100, threads }));
    }
    plans
}

struct Row {
    plan: Plan,
    keys: u64,
    /// Of a thread, for one key.
    ns: f64,
    per_second: f64,
    latency: Option<Latency>,
}

pub(super) fn bench(arguments: &Bench, output: &mut Output) -> Result<bool> {
    let region_bytes = cache_shm::parse_size(&arguments.region_size)?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads_max = arguments.threads.map_or(cores, |threads| threads.get().into());
    let plans = plans(threads_max);
    let each = arguments.seconds.div_f64(plans.len() as f64);
    let clock_ns = clock_ns();
    let bar = Bar::new(arguments.no_progress);
    let mut rows = Vec::new();
    for (done, plan) in plans.iter().enumerate() {
        bar.show(done as u64, Some(plans.len() as u64), || plan.operation.name().to_owned());
        rows.push(measure(*plan, region_bytes, arguments.keys, each)?);
    }
    drop(bar);
    if output.is_json() {
        let rows: Vec<_> = rows
            .iter()
            .map(|row| {
                json!({
                    "operation": row.plan.operation.name(),
                    "value_bytes": row.plan.value_bytes,
                    "threads": row.plan.threads,
                    "keys": row.keys,
                    "ns": row.ns,
                    "per_second": row.per_second,
                    "latency": row.latency.as_ref().map(Latency::json),
                })
            })
            .collect();
        output.json(&json!({
            "region_bytes": region_bytes,
            "cores": cores,
            "clock_ns": clock_ns,
            "optimized": !cfg!(debug_assertions),
            "rows": rows,
        }))?;
        return Ok(true);
    }
    output.line(&format!("a private region of {}, {cores} cores", sized(region_bytes)))?;
    if cfg!(debug_assertions) {
        output.line("this build is not optimised: the numbers say nothing")?;
    }
    output.line("operation      value bytes  threads       keys         ns    p50 ns    p99 ns    a second")?;
    for row in &rows {
        let percentile =
            |of: fn(&Latency) -> u64| row.latency.as_ref().map_or("-".to_owned(), |latency| grouped(of(latency)));
        output.line(&format!(
            "{:13}  {:>11}  {:>7}  {:>9}  {:>9.1}  {:>8}  {:>8}  {:>10}",
            row.plan.operation.name(),
            grouped(row.plan.value_bytes as u64),
            row.plan.threads,
            grouped(row.keys),
            row.ns,
            percentile(|latency| latency.p50_ns),
            percentile(|latency| latency.p99_ns),
            grouped(row.per_second as u64),
        ))?;
    }
    output.line(&format!(
        "ns: mean of runs of {RUN} operations on random keys, get_many for each of {BATCH} keys. p50 and p99: single \
         operations (a batch: whole), with the {clock_ns:.0} ns that asking the clock takes."
    ))?;
    output.line("From Rust, in one process: Python adds the cost of a call, other processes that of their caches.")?;
    Ok(true)
}

/// What two questions to the clock take, in the mean.
fn clock_ns() -> f64 {
    let begun = Instant::now();
    for _ in 0..10_000 {
        black_box(Instant::now());
    }
    begun.elapsed().as_nanos() as f64 / 10_000.0
}

fn measure(plan: Plan, region_bytes: u64, keys_wanted: u64, time: Duration) -> Result<Row> {
    let cache = Cache::builder(None).size(region_bytes).mode(Mode::Evict).create()?;
    let item_bytes = plan.value_bytes as u64 + 64;
    let fitting = (region_bytes * FILLED_PERCENT / 100 / item_bytes).max(1);
    // Twice what has room, so that every set evicts.
    let is_full = plan.operation == Operation::SetFull;
    let count = if is_full { 2 * region_bytes / item_bytes } else { keys_wanted.clamp(1, fitting) };
    let keys: Vec<[u8; 16]> = (0..count).map(key).collect();
    let value = vec![b'v'; plan.value_bytes];
    for key in &keys {
        match plan.operation {
            Operation::Incr => drop(cache.incr(key, 1, Some(0))?),
            _ => drop(cache.set(key, &value)?),
        }
    }
    let barrier = Barrier::new(plan.threads);
    let (cache, keys, value, barrier) = (&cache, &keys[..], &value[..], &barrier);
    let run = |seed: u64| {
        move || -> Result<Run> {
            // Met also by who cannot go on, so that nobody waits for ever.
            let mut worker = Worker::new(plan.operation, cache, keys, value, seed);
            let warmed = worker.work(RUN);
            barrier.wait();
            warmed?;
            worker.run(time)
        }
    };
    let runs: Vec<Run> = std::thread::scope(|scope| {
        let workers: Vec<_> = (1..=plan.threads as u64).map(|seed| scope.spawn(run(seed))).collect();
        let joined = workers.into_iter().map(|worker| worker.join());
        joined
            .map(|done| done.unwrap_or_else(|_| Err(Failure::Measurement("a thread of the benchmark panicked".into()))))
            .collect::<Result<_>>()
    })?;
    let per_second: f64 = runs.iter().map(|run| run.operations as f64 / run.busy.as_secs_f64()).sum();
    let mut times: Vec<u64> = runs.into_iter().flat_map(|run| run.times_ns).collect();
    Ok(Row {
        plan,
        keys: count,
        ns: plan.threads as f64 * 1e9 / per_second,
        per_second,
        latency: Latency::of(&mut times),
    })
}

fn key(number: u64) -> [u8; 16] {
    let text = format!("bench:{number:010}");
    text.as_bytes().try_into().expect("ten digits hold every number of keys that has room")
}

/// What a thread did.
struct Run {
    operations: u64,
    /// The time that those took which were not timed one by one.
    busy: Duration,
    times_ns: Vec<u64>,
}

struct Worker<'a> {
    operation: Operation,
    cache: &'a Cache,
    keys: &'a [[u8; 16]],
    value: &'a [u8],
    random: u64,
    buffer: Vec<u8>,
}

impl<'a> Worker<'a> {
    fn new(operation: Operation, cache: &'a Cache, keys: &'a [[u8; 16]], value: &'a [u8], seed: u64) -> Worker<'a> {
        let random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        Worker { operation, cache, keys, value, random, buffer: Vec::new() }
    }

    fn key(&mut self) -> &'a [u8] {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        &self.keys[(self.random % self.keys.len() as u64) as usize]
    }

    fn once(&mut self) -> Result<()> {
        match self.operation {
            Operation::Get => {
                let key = self.key();
                black_box(self.cache.get_into(key, &mut self.buffer)?);
            }
            Operation::Contains => {
                let key = self.key();
                black_box(self.cache.contains(key)?);
            }
            Operation::GetMany => {
                let keys: [&[u8]; BATCH] = std::array::from_fn(|_| self.key());
                black_box(self.cache.get_many(&keys, &mut |_, _, value| {
                    black_box(value);
                })?);
            }
            Operation::Set | Operation::SetFull => {
                let key = self.key();
                black_box(self.cache.set(key, self.value)?);
            }
            Operation::Incr => {
                let key = self.key();
                black_box(self.cache.incr(key, 1, Some(0))?);
            }
        }
        Ok(())
    }

    fn work(&mut self, operations: u32) -> Result<()> {
        (0..operations).try_for_each(|_| self.once())
    }

    fn run(&mut self, time: Duration) -> Result<Run> {
        let each = if self.operation == Operation::GetMany { BATCH as u64 } else { 1 };
        let mut run = Run { operations: 0, busy: Duration::ZERO, times_ns: Vec::new() };
        let begun = Instant::now();
        let mut step = || -> Result<ControlFlow<()>> {
            let run_begun = Instant::now();
            self.work(RUN)?;
            run.busy += run_begun.elapsed();
            run.operations += u64::from(RUN) * each;
            for _ in 0..TIMED {
                let begun = Instant::now();
                self.once()?;
                let took = begun.elapsed();
                if run.times_ns.len() < TIMES_MAX {
                    run.times_ns.push(took.as_nanos() as u64);
                }
            }
            Ok(if begun.elapsed() < time { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
        };
        while step()?.is_continue() {}
        Ok(run)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_double_up_to_the_most() {
        let counts = |most| {
            let mut counts: Vec<usize> = plans(most).iter().map(|plan| plan.threads).collect();
            counts.dedup();
            counts
        };
        assert_eq!(counts(1), [1]);
        assert_eq!(counts(2), [1, 2]);
        assert_eq!(counts(6), [1, 2, 4, 6]);
        assert_eq!(counts(8), [1, 2, 4, 8]);
    }

    #[test]
    fn every_operation_is_measured() {
        for plan in plans(2) {
            let row = measure(plan, 4 << 20, 1000, Duration::from_millis(2)).unwrap();
            let latency = row.latency.unwrap();
            assert!(row.ns > 0.0 && row.per_second > 0.0 && latency.p99_ns >= latency.p50_ns, "{plan:?}");
            let fits = plan.operation == Operation::SetFull || row.keys * plan.value_bytes as u64 <= 2 << 20;
            assert!(fits, "{plan:?}: {} keys", row.keys);
        }
    }
}
