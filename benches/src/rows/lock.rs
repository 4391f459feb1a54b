//! The uncontended lock of a stripe, with its owner in the word and its care for the dead.

use cache_core::lock;
use cache_core::sync::AtomicU32;
use cache_shm::Mode;

use super::Plan;
use crate::measure::{Relation, Row, Stopwatch, quantile};
use crate::subjects::Region;

/// Most nanoseconds for taking and giving back.
const TARGET_NS: f64 = 25.0;

/// The rows of this module.
pub fn rows(plan: Plan) -> Vec<Row> {
    let region = Region::create("lock", 8 << 20, Mode::Evict);
    let map = region.cache.map().expect("the region of a benchmark is open");
    let owner = map.owner().expect("the benchmark may write");
    let word = AtomicU32::new(0);
    let operations = plan.sized(2_000_000, 1_000);
    let times: Vec<f64> = (0..plan.sized(25, 2))
        .map(|_| {
            let started = Stopwatch::start();
            for _ in 0..operations {
                let taken = lock::try_acquire(std::hint::black_box(&word), owner);
                assert!(taken, "nobody else has the lock");
                lock::release(&word, map.host());
            }
            started.elapsed().as_nanos() as f64 / operations as f64
        })
        .collect();
    let mut row = Row::of_count(
        "stripe lock, uncontended: take and give back",
        quantile(&times, 0.5),
        Relation::AtMost,
        TARGET_NS,
        "ns",
    );
    row.spread = (quantile(&times, 0.1), quantile(&times, 0.9));
    vec![row]
}
