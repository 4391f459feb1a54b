//! What the server counts: one set for each worker, summed on demand.
//!
//! Only the worker writes its counters, so an addition is a load and a store, and no line
//! goes back and forth between processors.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Powers of two of nanoseconds that durations are counted by: up to about 17 seconds.
pub const DURATION_CLASSES: usize = 35;

macro_rules! counters {
    ($($field:ident $doc:literal;)*) => {
        /// The counters of one worker.
        #[derive(Debug, Default)]
        #[repr(align(128))]
        pub struct Counters { $(#[doc = $doc] pub $field: Count,)* /// How long commands took, by powers of two of nanoseconds.
            pub durations: Durations }

        /// Their sums at one moment.
        #[derive(Debug, Default, Clone)]
        pub struct Sums { $(#[doc = $doc] pub $field: u64,)* /// How long commands took, by powers of two of nanoseconds.
            pub durations: Vec<u64>, /// The nanoseconds of all commands together.
            pub duration_ns: u64 }

        impl Sums {
            /// The sums over all workers.
            pub fn of(workers: &[Counters]) -> Sums {
                let mut sums = Sums { durations: vec![0; DURATION_CLASSES], ..Sums::default() };
                for worker in workers {
                    $(sums.$field += worker.$field.get();)*
                    sums.duration_ns += worker.durations.total_ns.get();
                    for (sum, class) in sums.durations.iter_mut().zip(&worker.durations.classes) {
                        *sum += class.get();
                    }
                }
                sums
            }
        }
    };
}

counters! {
    connections "Connections accepted.";
    refused "Connections refused because there were too many.";
    commands "Commands carried out or refused.";
    errors "Commands refused.";
    http_requests "Requests for the page, the metrics or a key.";
    input_bytes "Bytes received.";
    output_bytes "Bytes sent.";
    protocol_errors "Connections closed because what they sent could not be understood.";
    idle "Connections closed because nothing went on for too long.";
    late "Connections closed because they said in time neither who they are nor what they want.";
    stalled "Connections closed because they went on with nothing in time.";
    overflowed "Connections closed because they asked for more than they read.";
    killed "Connections closed by `CLIENT KILL`.";
    denied "Attempts to log in that failed.";
}

/// A number that one thread adds to and any may read.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Adds to it; for the one thread that owns it.
    #[inline]
    pub fn add(&self, more: u64) {
        // Relaxed: a statistic with one writer.
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
    }

    /// The number.
    pub fn get(&self) -> u64 {
        // Relaxed: as above.
        self.0.load(Ordering::Relaxed)
    }
}

/// Durations by powers of two.
#[derive(Debug)]
pub struct Durations {
    classes: [Count; DURATION_CLASSES],
    total_ns: Count,
}

impl Default for Durations {
    fn default() -> Durations {
        Durations { classes: std::array::from_fn(|_| Count::default()), total_ns: Count::default() }
    }
}

impl Durations {
    /// Counts `commands` commands that together took `duration`.
    pub fn add(&self, duration: Duration, commands: u64) {
        let Some(each_ns) = (duration.as_nanos() as u64).checked_div(commands) else { return };
        let class = each_ns.max(1).ilog2() as usize;
        self.classes[class.min(DURATION_CLASSES - 1)].add(commands);
        self.total_ns.add(duration.as_nanos() as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sums_are_those_of_all_workers() {
        let workers = [Counters::default(), Counters::default()];
        workers[0].commands.add(2);
        workers[1].commands.add(3);
        workers[0].durations.add(Duration::from_nanos(4096), 4);
        workers[1].durations.add(Duration::from_secs(100), 1);
        workers[1].durations.add(Duration::from_secs(100), 0);
        let sums = Sums::of(&workers);
        assert_eq!(sums.commands, 5);
        assert_eq!((sums.durations[10], sums.durations[DURATION_CLASSES - 1]), (4, 1));
        assert_eq!(sums.duration_ns, 100_000_004_096);
    }
}
