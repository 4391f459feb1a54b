//! Whole workloads, served as a cache serves them, beside the caches of one process.
//!
//! Caches have room for half of what a scan-polluted stream and the size mixes want, and
//! for all that the others want. Maps hold everything, so they are met by the others only.

use std::time::Duration;

use cache_shm::{Cache, Mode};

use super::Plan;
use crate::measure::{Relation, Row, quantile, take_turns};
use crate::rivals::{Entry, Kind, RIVALS, Room};
use crate::subjects::{Region, Session, Shared, Subject};
use crate::workload::{Keys, Outcome, Sizes, Stream, Workload, run};

const KEYS: u64 = 100_000;
const TTL: Duration = Duration::from_millis(50);

/// Where every key fits, and where half of the bytes do.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fit {
    All,
    Half,
}

/// The rows of this module.
pub fn rows(plan: Plan) -> Vec<Row> {
    let hundred = Sizes::Fixed(100);
    let workloads = [
        ("uniform, 100:0", Keys::Uniform, hundred, 100, Fit::All),
        ("uniform, 95:5", Keys::Uniform, hundred, 95, Fit::All),
        ("uniform, 50:50", Keys::Uniform, hundred, 50, Fit::All),
        ("Zipf 0.99, 100:0", Keys::Zipf, hundred, 100, Fit::All),
        ("Zipf 0.99, 95:5", Keys::Zipf, hundred, 95, Fit::All),
        ("Zipf 0.99, 50:50", Keys::Zipf, hundred, 50, Fit::All),
        ("hot key, 95:5", Keys::Hot, hundred, 95, Fit::All),
        ("scan-polluted, 95:5", Keys::ScanPolluted, hundred, 95, Fit::Half),
        ("graph sizes, 95:5", Keys::Zipf, Sizes::Graph, 95, Fit::Half),
        ("look-aside sizes, 95:5", Keys::Zipf, Sizes::LookAside, 95, Fit::Half),
        ("content sizes, 95:5", Keys::Zipf, Sizes::Content, 95, Fit::Half),
    ];
    let keys = plan.sized(KEYS, 2_000);
    let mut rows = Vec::new();
    for (name, popularity, sizes, read_percent, fit) in workloads {
        let workload = Workload { keys: popularity, sizes, read_percent };
        let slice = plan.sized(100_000, 1_000) as usize;
        let stream = workload.stream(keys as u32, slice * plan.sized(22, 3) as usize, plan.seed);
        let wanted = stream.footprint_bytes();
        let bytes = if fit == Fit::Half { wanted / 2 } else { wanted * 2 };
        let region = Region::create("workload", bytes.max(plan.sized(1 << 20, 16 << 20)), Mode::Evict);
        let pieces = stream.pieces(slice);
        for rival in RIVALS {
            if fit == Fit::All && rival.kind != Kind::Database || rival.kind.is_bounded() {
                rows.push(beside(name, &Shared(region.cache.clone()), rival, &pieces, bytes, None));
            }
        }
    }
    rows.extend(expiring(plan));
    rows
}

/// Items that live for a moment, read and written in equal shares.
fn expiring(plan: Plan) -> Vec<Row> {
    let workload = Workload { keys: Keys::Zipf, sizes: Sizes::Fixed(100), read_percent: 50 };
    let slice = plan.sized(100_000, 1_000) as usize;
    let stream = workload.stream(plan.sized(KEYS, 2_000) as u32, slice * plan.sized(22, 3) as usize, plan.seed);
    let bytes = stream.footprint_bytes() * 2;
    let region = Region::create("expiring", bytes.max(4 << 20), Mode::Evict);
    let pieces = stream.pieces(slice);
    let rivals = RIVALS.iter().filter(|rival| rival.kind == Kind::ExpiringCache);
    rivals
        .map(|rival| beside("TTL churn, 50:50", &Expiring(region.cache.clone()), rival, &pieces, bytes, Some(TTL)))
        .collect()
}

fn beside<S: Subject>(
    name: &str,
    subject: &S,
    rival: &Entry,
    pieces: &[Stream],
    bytes: u64,
    ttl: Option<Duration>,
) -> Row {
    let other = (rival.make)(Room { items: bytes / 116, bytes, ttl });
    for piece in pieces {
        let filling = piece.as_sets();
        run(subject, &filling);
        other.run(&filling);
    }
    let (mut own, mut others) = (Outcome::default(), Outcome::default());
    // The turn that is not counted runs the first piece.
    let piece = |turn: u64| &pieces[(turn.wrapping_add(1)) as usize % pieces.len()];
    let turns = take_turns(
        pieces.len() as u64 - 1,
        pieces[0].len() as u64,
        |turn| add(&mut own, run(subject, piece(turn))),
        |turn| add(&mut others, other.run(piece(turn))),
    );
    let mut detail = turns.medians("cache", rival.name);
    if own.misses + others.misses > 0 {
        let hits = |outcome: Outcome| 100.0 * (1.0 - outcome.misses as f64 / outcome.gets as f64);
        detail += &format!("; hits {:.1} % and {:.1} %", hits(own), hits(others));
    }
    Row::of_ratios(&format!("{name} / {}", rival.name), &turns.ratios(), Relation::Shown, 0.0, detail)
        .label("workload", name)
        .label("subject", rival.name)
        .label("cache_ns", quantile(&turns.first_ns, 0.5))
        .label("rival_ns", quantile(&turns.second_ns, 0.5))
}

fn add(sum: &mut Outcome, slice: Outcome) -> Duration {
    sum.gets += slice.gets;
    sum.misses += slice.misses;
    sum.sets += slice.sets;
    slice.time
}

/// The cache, with a time to live for every item.
struct Expiring(Cache);

impl Subject for Expiring {
    type Session<'a> = &'a Expiring;

    fn session(&self) -> &Expiring {
        self
    }
}

impl Session for &Expiring {
    fn get(&mut self, key: &[u8], out: &mut [u8]) -> Option<usize> {
        let map = self.0.map().expect("the region of a benchmark is open");
        let found = map.get(key, &mut cache_shm::Buffer(out)).expect("keys and buffer of a benchmark fit");
        found.map(|meta| meta.value_bytes)
    }

    fn set(&mut self, key: &[u8], value: &[u8]) {
        self.0.set_for(key, value, TTL).expect("the region of a benchmark has room");
    }
}
