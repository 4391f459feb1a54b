//! Two against one: processes and threads that read, spread keys and one hot key; processes
//! that write.
//!
//! A machine whose second core is busy, or whose cores share what they need, cannot show
//! a factor of two to anybody. So two that work in two private regions run in the same
//! turns: what they reach is what the machine gives, and for readers 0.97 of it is enough.

use std::time::Duration;

use super::Plan;
use crate::measure::{Relation, Row, quantile};
use crate::processes::{Order, Worker};
use crate::subjects::{Region, Shared, fill};

const KEYS: u64 = 100_000;
const OF_PRIVATE: f64 = 0.97;

/// The rows of this module.
pub fn rows(plan: Plan) -> Vec<Row> {
    let keys = plan.sized(KEYS, KEYS / 100);
    let shared = Region::for_keys("shared", keys);
    let private = [Region::for_keys("private-0", keys), Region::for_keys("private-1", keys)];
    for region in [&shared, &private[0], &private[1]] {
        fill(&Shared(region.cache.clone()), keys, plan.seed);
    }
    let slice = Duration::from_millis(plan.sized(150, 5));
    let mut workers = [0, 1].map(|_| Worker::start(&[&shared, &private[0], &private[1]]));
    let order = |index: usize, private: bool, span| {
        Order::reads(if private { 1 + index } else { 0 }, span, slice, plan.seed + index as u64)
    };
    let mut rows = Vec::new();
    for (workload, span, factor) in [("random keys", keys, 1.85), ("one hot key", 1, 1.9)] {
        let measured =
            turns(plan, |count, private| in_processes(&mut workers, count, |index| order(index, private, span)));
        rows.push(measured.row(&format!("2 processes reading, {workload} / 1"), factor).excused_by(&measured));
        let measured = turns(plan, |count, private_regions| {
            std::thread::scope(|scope| {
                let threads: Vec<_> = (0..count)
                    .map(|index| {
                        let cache = &if private_regions { &private[index] } else { &shared }.cache;
                        scope.spawn(move || order(index, private_regions, span).carry_out(cache).each_second())
                    })
                    .collect();
                threads.into_iter().map(|thread| thread.join().expect("a reader that panicked has said why")).sum()
            })
        });
        rows.push(measured.row(&format!("2 threads reading, {workload} / 1"), factor).excused_by(&measured));
    }
    let measured = turns(plan, |count, private| {
        in_processes(&mut workers, count, |index| Order { read_percent: 0, ..order(index, private, keys) })
    });
    rows.push(measured.row("2 processes writing, random keys / 1", 1.7));
    rows
}

fn in_processes(workers: &mut [Worker], count: usize, order: impl Fn(usize) -> Order) -> f64 {
    for (index, worker) in workers[..count].iter_mut().enumerate() {
        worker.begin(order(index));
    }
    workers[..count].iter_mut().map(|worker| worker.finish().each_second()).sum()
}

/// Throughputs of each turn.
#[derive(Default)]
struct Measured {
    one: Vec<f64>,
    two: Vec<f64>,
    two_private: Vec<f64>,
}

/// Takes turns of one, of two, and of two with private regions.
fn turns(plan: Plan, mut run: impl FnMut(usize, bool) -> f64) -> Measured {
    run(2, true);
    run(2, false);
    let mut measured = Measured::default();
    for turn in 0..plan.sized(21, 2) {
        measured.one.push(run(1, false));
        if turn % 2 == 0 {
            measured.two.push(run(2, false));
            measured.two_private.push(run(2, true));
        } else {
            measured.two_private.push(run(2, true));
            measured.two.push(run(2, false));
        }
    }
    measured
}

impl Measured {
    fn of_private(&self) -> f64 {
        let ratios: Vec<f64> = self.two.iter().zip(&self.two_private).map(|(two, private)| two / private).collect();
        quantile(&ratios, 0.5)
    }

    fn row(&self, name: &str, factor: f64) -> Row {
        let ratios: Vec<f64> = self.two.iter().zip(&self.one).map(|(two, one)| two / one).collect();
        let detail = format!(
            "{:.1} and {:.1} million/s; {:.3} of two private regions",
            quantile(&self.one, 0.5) / 1e6,
            quantile(&self.two, 0.5) / 1e6,
            self.of_private(),
        );
        Row::of_ratios(name, &ratios, Relation::AtLeast, factor, detail)
    }
}

impl Row {
    /// The same row, which also holds where two private regions are hardly faster.
    fn excused_by(mut self, measured: &Measured) -> Row {
        self.excused = measured.of_private() >= OF_PRIVATE;
        self.detail += &format!(" (>= {OF_PRIVATE} is enough)");
        self
    }
}
