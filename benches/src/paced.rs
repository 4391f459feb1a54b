//! Operations at a fixed rate, timed from the moment at which each was due.
//!
//! A loop that starts the next operation when the last has ended asks a stalled subject
//! nothing while it stalls (*coordinated omission*). Here every operation has its moment
//! in a timetable, and one that begins late because another was slow counts as slow too.

use std::hint;
use std::time::{Duration, Instant};

use cache_shm::{Buffer, Cache};

use crate::latency::Latencies;
use crate::subjects::key;

/// What is done when an operation is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// A get of a key that is there.
    Read,
    /// A set of a key that is there.
    Write,
    /// Nothing: what the machine and the clock alone cost.
    Nothing,
}

/// Operations at a fixed rate on a region.
#[derive(Debug, Clone, Copy)]
pub struct Paced {
    /// What is done.
    pub task: Task,
    /// Keys are drawn evenly from `0..keys`.
    pub keys: u64,
    /// Bytes of each value.
    pub value_bytes: usize,
    /// Operations a second.
    pub rate: u64,
    /// How many operations.
    pub operations: u64,
    /// Seed of the random stream.
    pub seed: u64,
}

impl Paced {
    /// The order as text for a worker.
    pub fn to_line(self) -> String {
        let Paced { task, keys, value_bytes, rate, operations, seed } = self;
        format!("{} {keys} {value_bytes} {rate} {operations} {seed}", task as u8)
    }

    /// The order that [`Paced::to_line`] wrote.
    pub fn from_line(line: &str) -> Paced {
        let numbers: Vec<u64> = line.split(' ').map(|word| word.parse().expect("an order is numbers")).collect();
        let [task, keys, value_bytes, rate, operations, seed] = numbers[..] else {
            panic!("an order is six numbers: {line}")
        };
        let task = [Task::Read, Task::Write, Task::Nothing][task as usize];
        Paced { task, keys, value_bytes: value_bytes as usize, rate, operations, seed }
    }

    /// Carries it out.
    pub fn carry_out(&self, cache: &Cache) -> Latencies {
        let mut random = fastrand::Rng::with_seed(self.seed);
        let value = vec![0x5a; self.value_bytes];
        let mut out = vec![0; self.value_bytes];
        at_a_rate(self.rate, self.operations, || {
            let key = key(random.u64(..self.keys));
            match self.task {
                Task::Read => {
                    let map = cache.map().expect("the region of a benchmark is open");
                    let found = map.get(&key, &mut Buffer(&mut out)).expect("keys and buffer of a benchmark fit");
                    assert!(found.is_some(), "a benchmark of hits must not miss");
                    hint::black_box(&out);
                }
                Task::Write => {
                    cache.set(&key, &value).expect("the region has room");
                }
                Task::Nothing => {
                    hint::black_box(key);
                }
            }
        })
    }
}

/// Calls `operation` at a fixed rate and times each from the moment at which it was due.
pub fn at_a_rate(rate: u64, operations: u64, mut operation: impl FnMut()) -> Latencies {
    let mut latencies = Latencies::default();
    let interval = Duration::from_nanos(1_000_000_000 / rate);
    let started = Instant::now();
    let mut due = Duration::ZERO;
    for _ in 0..operations {
        while started.elapsed() < due {
            hint::spin_loop();
        }
        operation();
        latencies.record(started.elapsed() - due);
        due += interval;
    }
    latencies
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_that_wait_for_a_slow_one_count_as_slow() {
        let stall = Duration::from_millis(50);
        let mut first = true;
        // A thousand operations a millisecond apart, the first of which takes fifty.
        let latencies = at_a_rate(1000, 1000, || {
            while std::mem::take(&mut first) {
                let started = Instant::now();
                while started.elapsed() < stall {}
            }
        });
        assert_eq!(latencies.count(), 1000);
        assert!(latencies.max() >= 50_000_000);
        // The one after it was due after one and began after fifty, and so on: a
        // hundredth of all waited 39 ms or longer. Without omission that is seen.
        assert!(latencies.percentile(99.0) >= 38_000_000);
    }

    #[test]
    fn an_order_arrives_as_it_was_given() {
        let order = Paced { task: Task::Nothing, keys: 1, value_bytes: 2, rate: 3, operations: 4, seed: 5 };
        assert_eq!(format!("{:?}", Paced::from_line(&order.to_line())), format!("{order:?}"));
    }
}
