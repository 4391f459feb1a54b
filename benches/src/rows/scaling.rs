//! Two readers against one: processes and threads, spread keys and one hot key.
//!
//! A machine whose second core is busy, or whose cores share what they need, cannot show
//! a factor of two to anybody. So two readers of two private regions run in the same
//! turns: what they reach is what the machine gives, and 0.97 of it is enough.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use cache_shm::Cache;

use super::Plan;
use crate::measure::{Relation, Row, quantile};
use crate::subjects::{Region, Shared, Subject, VALUE_BYTES, fill, key};

const KEYS: u64 = 100_000;
const FACTOR: f64 = 1.85;
const OF_PRIVATE: f64 = 0.97;

/// Argument under which the program is a reader process.
pub const WORKER: &str = "reader-process";

/// The rows of this module.
pub fn rows(plan: Plan) -> Vec<Row> {
    let keys = plan.sized(KEYS, KEYS / 100);
    let shared = Region::for_keys("shared", keys);
    let private = [Region::for_keys("private-0", keys), Region::for_keys("private-1", keys)];
    for region in [&shared, &private[0], &private[1]] {
        fill(&Shared(region.cache.clone()), keys, plan.seed);
    }
    let mut processes = [0, 1].map(|_| Reader::start(&[&shared, &private[0], &private[1]]));
    let mut rows = Vec::new();
    for (workload, span) in [("random keys", keys), ("one hot key", 1)] {
        let measured = turns(plan, |readers, private| {
            for (index, reader) in processes[..readers].iter_mut().enumerate() {
                reader.begin(if private { 1 + index } else { 0 }, span, slice(plan), plan.seed + index as u64);
            }
            processes[..readers].iter_mut().map(Reader::finish).sum()
        });
        rows.push(measured.row(&format!("2 processes reading, {workload} / 1")));
        let measured = turns(plan, |readers, private_regions| {
            std::thread::scope(|scope| {
                let threads: Vec<_> = (0..readers)
                    .map(|index| {
                        let cache = &if private_regions { &private[index] } else { &shared }.cache;
                        scope.spawn(move || reads_each_second(cache, span, slice(plan), plan.seed + index as u64))
                    })
                    .collect();
                threads.into_iter().map(|thread| thread.join().expect("a reader that panicked has said why")).sum()
            })
        });
        rows.push(measured.row(&format!("2 threads reading, {workload} / 1")));
    }
    rows
}

fn slice(plan: Plan) -> Duration {
    Duration::from_millis(plan.sized(150, 5))
}

/// Reads for `slice` and says how many a second there were.
fn reads_each_second(cache: &Cache, keys: u64, slice: Duration, seed: u64) -> f64 {
    let subject = Shared(cache.clone());
    let mut random = fastrand::Rng::with_seed(seed);
    let mut out = [0; VALUE_BYTES];
    let (started, mut count) = (Instant::now(), 0u64);
    loop {
        for _ in 0..1000 {
            assert!(subject.get(&key(random.u64(..keys)), &mut out), "a benchmark of hits must not miss");
            std::hint::black_box(&out);
        }
        count += 1000;
        let time = started.elapsed();
        if time >= slice {
            return count as f64 / time.as_secs_f64();
        }
    }
}

/// Throughputs of each turn.
#[derive(Default)]
struct Measured {
    one: Vec<f64>,
    two: Vec<f64>,
    two_private: Vec<f64>,
}

/// Takes turns of one reader, two readers and two readers of private regions.
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
    fn row(&self, name: &str) -> Row {
        let ratios = |base: &[f64]| -> Vec<f64> { self.two.iter().zip(base).map(|(two, base)| two / base).collect() };
        let of_private = quantile(&ratios(&self.two_private), 0.5);
        let detail = format!(
            "{:.1} and {:.1} million/s; {of_private:.3} of two private regions (>= {OF_PRIVATE} is enough)",
            quantile(&self.one, 0.5) / 1e6,
            quantile(&self.two, 0.5) / 1e6,
        );
        let mut row = Row::of_ratios(name, &ratios(&self.one), Relation::AtLeast, FACTOR, detail);
        row.excused = of_private >= OF_PRIVATE;
        row
    }
}

/// A process that reads when told to.
struct Reader {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Reader {
    fn start(regions: &[&Region]) -> Reader {
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
        Reader { child, orders: orders.expect(piped), answers: BufReader::new(answers.expect(piped)) }
    }

    fn begin(&mut self, region: usize, keys: u64, slice: Duration, seed: u64) {
        writeln!(self.orders, "{region} {keys} {} {seed}", slice.as_millis()).expect("the reader process lives");
    }

    fn finish(&mut self) -> f64 {
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("the reader process lives");
        line.trim().parse().expect("the reader process answers with a number")
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a reader process does: for each line `REGION KEYS MILLISECONDS SEED`, one slice of reads.
pub fn serve(names: &[String]) {
    let regions: Vec<Cache> = names
        .iter()
        .map(|name| Cache::builder(Some(name)).open().unwrap_or_else(|error| panic!("no region {name}: {error}")))
        .collect();
    for line in std::io::stdin().lines() {
        let line = line.expect("orders are text");
        let numbers: Vec<u64> = line.split(' ').map(|word| word.parse().expect("an order is four numbers")).collect();
        let [region, keys, milliseconds, seed] = numbers[..] else { panic!("an order is four numbers: {line}") };
        println!("{}", reads_each_second(&regions[region as usize], keys, Duration::from_millis(milliseconds), seed));
    }
}
