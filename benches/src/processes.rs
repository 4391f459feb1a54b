//! Worker processes: this program again, told what to do line by line.
//!
//! Owns: the orders and their answers. Every worker opens the regions by name, as any
//! process of a user would, and works for as long as it is told.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use cache_shm::{Buffer, Cache, Error};

use crate::paced::Paced;
use crate::subjects::{Region, key};

/// First word of an order to work at a fixed rate.
const PACED: &str = "paced";

/// Argument under which the program is a worker.
pub const WORKER: &str = "worker-process";

/// What a worker is to do for a while.
#[derive(Debug, Clone, Copy)]
pub struct Order {
    /// Which of its regions.
    pub region: usize,
    /// Keys are drawn evenly from `first_key..first_key + keys`.
    pub first_key: u64,
    /// See `first_key`.
    pub keys: u64,
    /// Bytes of each value.
    pub value_bytes: usize,
    /// How many of a hundred operations read.
    pub read_percent: u8,
    /// Whether a read that finds nothing is a mistake of the benchmark.
    pub must_hit: bool,
    /// How long.
    pub slice: Duration,
    /// Seed of its random stream.
    pub seed: u64,
}

impl Order {
    /// A slice of reads of values of the read workloads, all of which are there.
    pub fn reads(region: usize, keys: u64, slice: Duration, seed: u64) -> Order {
        let value_bytes = crate::subjects::VALUE_BYTES;
        Order { region, first_key: 0, keys, value_bytes, read_percent: 100, must_hit: true, slice, seed }
    }

    fn to_line(self) -> String {
        let Order { region, first_key, keys, value_bytes, read_percent, must_hit, slice, seed } = self;
        let must_hit = u8::from(must_hit);
        format!("{region} {first_key} {keys} {value_bytes} {read_percent} {must_hit} {} {seed}", slice.as_millis())
    }

    fn from_line(line: &str) -> Order {
        let numbers: Vec<u64> = line.split(' ').map(|word| word.parse().expect("an order is numbers")).collect();
        let [region, first_key, keys, value_bytes, read_percent, must_hit, milliseconds, seed] = numbers[..] else {
            panic!("an order is eight numbers: {line}")
        };
        Order {
            region: region as usize,
            first_key,
            keys,
            value_bytes: value_bytes as usize,
            read_percent: read_percent as u8,
            must_hit: must_hit != 0,
            slice: Duration::from_millis(milliseconds),
            seed,
        }
    }

    /// Carries the order out.
    pub fn carry_out(&self, cache: &Cache) -> Work {
        // Looking at the clock costs as much as a read, so it is done once for several operations;
        // not for many, because sets of many processes can wait for each other.
        let pace = (16_384 / self.value_bytes.max(256)).max(1) as u64;
        let value = vec![0x5a; self.value_bytes];
        let mut out = vec![0; self.value_bytes];
        let mut random = fastrand::Rng::with_seed(self.seed);
        let (started, mut count, mut missed, mut refused) = (Instant::now(), 0u64, 0u64, 0u64);
        loop {
            for _ in 0..pace {
                let key = key(self.first_key + random.u64(..self.keys));
                if self.read_percent == 100 || random.u8(..100) < self.read_percent {
                    let map = cache.map().expect("the region of a benchmark is open");
                    let found = map.get(&key, &mut Buffer(&mut out)).expect("keys and buffer of a benchmark fit");
                    assert!(found.is_some() || !self.must_hit, "a benchmark of hits must not miss");
                    missed += u64::from(found.is_none());
                    std::hint::black_box(&out);
                } else {
                    match cache.set(&key, &value) {
                        Ok(_) => {}
                        Err(Error::Full { .. }) => refused += 1,
                        Err(error) => panic!("a set failed otherwise than by a full region: {error}"),
                    }
                }
            }
            count += pace;
            let time = started.elapsed();
            if time >= self.slice {
                return Work { operations: count, missed, refused, time };
            }
        }
    }
}

/// What carrying out an order came to.
#[derive(Debug, Clone, Copy)]
pub struct Work {
    /// Operations done, misses and refused ones included.
    pub operations: u64,
    /// Reads that found nothing.
    pub missed: u64,
    /// Sets that were refused because the region was full.
    pub refused: u64,
    /// How long they took, by the wall clock.
    pub time: Duration,
}

impl Work {
    /// Operations a second.
    pub fn each_second(&self) -> f64 {
        self.operations as f64 / self.time.as_secs_f64()
    }
}

/// A worker process, as seen by the one that gives orders.
pub struct Worker {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Worker {
    /// Starts a worker on these regions.
    pub fn start(regions: &[&Region]) -> Worker {
        let program = std::env::current_exe().expect("the system knows this program's path");
        let mut child = Command::new(program)
            .arg(WORKER)
            .args(regions.iter().map(|region| &region.name))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program can be started again");
        let (orders, answers) = (child.stdin.take(), child.stdout.take());
        let piped = "both ends were asked for above";
        Worker { child, orders: orders.expect(piped), answers: BufReader::new(answers.expect(piped)) }
    }

    /// Lets it begin.
    pub fn begin(&mut self, order: Order) {
        writeln!(self.orders, "{}", order.to_line()).expect("the worker lives");
    }

    /// Waits for its answer.
    pub fn finish(&mut self) -> Work {
        let answer = self.answer();
        let [operations, missed, refused] = [0, 1, 2].map(|word| answer[word] as u64);
        Work { operations, missed, refused, time: Duration::from_secs_f64(answer[3]) }
    }

    /// Lets it begin to work at a fixed rate.
    pub fn begin_paced(&mut self, order: Paced) {
        writeln!(self.orders, "{PACED} {}", order.to_line()).expect("the worker lives");
    }

    /// Waits for its answer: the reported percentiles and the maximum, in nanoseconds.
    pub fn finish_paced(&mut self) -> Vec<f64> {
        self.answer()
    }

    fn answer(&mut self) -> Vec<f64> {
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("the worker lives");
        line.split_whitespace().map(|word| word.parse().expect("a worker answers with numbers")).collect()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a worker does: for each line an order, and its answer.
pub fn serve(names: &[String]) {
    let regions: Vec<Cache> = names
        .iter()
        .map(|name| Cache::builder(Some(name)).open().unwrap_or_else(|error| panic!("no region {name}: {error}")))
        .collect();
    for line in std::io::stdin().lines() {
        let line = line.expect("orders are text");
        match line.strip_prefix(PACED) {
            Some(rest) => {
                let latencies = Paced::from_line(rest.trim_start()).carry_out(&regions[0]);
                println!("{}", latencies.reported().map(|nanoseconds| nanoseconds.to_string()).join(" "));
            }
            None => {
                let order = Order::from_line(&line);
                let work = order.carry_out(&regions[order.region]);
                println!("{} {} {} {}", work.operations, work.missed, work.refused, work.time.as_secs_f64());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_arrives_as_it_was_given() {
        let order = Order { read_percent: 95, first_key: 7, ..Order::reads(2, 10, Duration::from_millis(20), 3) };
        assert_eq!(format!("{:?}", Order::from_line(&order.to_line())), format!("{order:?}"));
    }
}
