//! Every stream at 1, 5, 10 and 20 % of its keys, through all policies; one of them also
//! by bytes, with the sizes that it says.
//!
//! By objects, all values of a point have one size, and the region is sized so that it
//! holds C live objects in the mean. By bytes, C is that part of the bytes of all objects,
//! and the region's file has C bytes: its headers, index and free space count against it,
//! while the others count the bytes of values only. A second region holds C bytes of live
//! items in the mean.

use std::collections::HashSet;
use std::path::Path;

use cache_server::failure::{Failure, Result};
use cache_server::replay::region::RegionSubject;
use cache_server::replay::trace::Trace;
use cache_server::replay::{Answer, Census, Outcome, Stream, Subject, percent, pfoo, run as replay, simulators};
use cache_shm::Error;
use serde_json::{Map, Value, json};

use super::limits::{Known, Measured};
use super::policies::{Capacity, POLICIES};
use super::{Options, stream_of};

const TRACES: [&str; 10] = [
    "OLTP",
    "P3",
    "w106",
    "scarab-recs",
    "orm-busy",
    "web12",
    "corda-vault",
    "lirs-multi3",
    "adaptsize",
    "mooncake-conversation",
];
/// The stream whose requests say sizes.
const SIZED: &str = "adaptsize";
const PERCENTS: [u64; 4] = [1, 5, 10, 20];
/// How close to C the mean of live bytes has to be, and how often its region is sized anew.
const CLOSE: f64 = 0.005;
const PASSES_MAX: u32 = 8;

const REGION: &str = "region";
const REGION_OF_VALUES: &str = "region, live bytes";
const BOUND: &str = "bound";

/// One capacity of one stream, and what each policy got: hits, and bytes of hits, in percent.
struct Point {
    trace: &'static str,
    weighed: &'static str,
    percent: u64,
    capacity: u64,
    requests: u64,
    /// Sets that found no room in the region of C bytes.
    full: u64,
    found: Vec<(&'static str, f64, Option<f64>)>,
}

impl Point {
    fn of(&self, policy: &str) -> f64 {
        self.found.iter().find(|(name, ..)| *name == policy).map_or(f64::NAN, |(_, hits, _)| *hits)
    }

    fn show(&self, json: bool) {
        if json {
            let hits: Map<String, Value> =
                self.found.iter().map(|(name, hits, _)| ((*name).to_owned(), json!(hits))).collect();
            let bytes: Map<String, Value> =
                self.found.iter().filter_map(|(name, _, bytes)| Some(((*name).to_owned(), json!((*bytes)?)))).collect();
            println!(
                "{}",
                json!({
                    "kind": "point", "trace": self.trace, "weighed": self.weighed, "percent": self.percent,
                    "capacity": self.capacity, "requests": self.requests, "full": self.full, "hit_percent": hits, "byte_hit_percent": bytes,
                })
            );
            return;
        }
        print!("{:<22} {:>3} % {:>9} {}", self.trace, self.percent, self.capacity, self.weighed);
        for (name, hits, bytes) in &self.found {
            print!("  {name} {hits:.2}");
            if let Some(bytes) = bytes {
                print!(" ({bytes:.2})");
            }
        }
        println!("{}", if self.full > 0 { format!("  {} SETS FOUND NO ROOM", self.full) } else { String::new() });
    }
}

/// Measures and shows every point that is wanted; says how many.
pub fn run(options: &Options, known: Known) -> Result<usize> {
    if cfg!(not(feature = "rivals")) {
        println!("SKIP: moka and quick_cache: built without --features rivals");
    }
    let mut above = Vec::new();
    let mut shown = 0;
    for trace in TRACES {
        let Some(path) = options.file_of(trace) else { continue };
        let requests = Requests::read(&path)?;
        for percent in PERCENTS {
            let point = by_objects(trace, &path, &requests, percent, &known)?;
            point.show(options.json);
            above.push(point.of(REGION) - point.of("S3-FIFO"));
            shown += 1;
        }
        if trace == SIZED {
            for percent in PERCENTS {
                by_bytes(trace, &path, &requests, percent)?.show(options.json);
                shown += 1;
            }
        }
    }
    if !above.is_empty() {
        show_mean(&above, options.json);
    }
    Ok(shown)
}

fn show_mean(above: &[f64], json: bool) {
    let mean = above.iter().sum::<f64>() / above.len() as f64;
    let worst = above.iter().copied().fold(f64::INFINITY, f64::min);
    if json {
        let all =
            json!({ "kind": "points-mean", "points": above.len(), "above_s3fifo": mean, "worst_above_s3fifo": worst });
        println!("{all}");
    } else {
        println!("mean of {} points above S3-FIFO, by objects: {mean:+.3}; worst {worst:+.2}", above.len());
    }
}

/// A stream in memory.
struct Requests {
    objects: Vec<u32>,
    bytes: Vec<u32>,
    distinct: u64,
    /// Bytes of all objects, each as it was first asked for.
    distinct_bytes: u64,
}

impl Requests {
    fn read(path: &Path) -> Result<Requests> {
        let mut requests = Requests { objects: Vec::new(), bytes: Vec::new(), distinct: 0, distinct_bytes: 0 };
        let mut seen = HashSet::new();
        let mut trace = Trace::open(path)?;
        while let Some(request) = trace.next_request()? {
            let object = std::str::from_utf8(request.key).ok().and_then(|key| key.parse().ok());
            let object: u32 =
                object.ok_or_else(|| Failure::usage(format!("a key of {} is no number", path.display())))?;
            let bytes = request.value_bytes.unwrap_or(1);
            requests.objects.push(object);
            requests.bytes.push(bytes);
            if seen.insert(object) {
                requests.distinct += 1;
                requests.distinct_bytes += u64::from(bytes);
            }
        }
        Ok(requests)
    }

    fn count(&self) -> u64 {
        self.objects.len() as u64
    }
}

fn by_objects(trace: &'static str, path: &Path, requests: &Requests, part: u64, known: &Known) -> Result<Point> {
    let capacity = requests.distinct * part / 100;
    let region = match known.get(&(trace, capacity)) {
        Some(measured) => measured.clone(),
        None => Measured::of(path, capacity)?.0,
    };
    let mut found = vec![(REGION, region.region_percent, None)];
    for (name, make) in POLICIES {
        let mut cache = make(Capacity { weight: capacity, objects: capacity });
        let hits = simulators::hits(&mut *cache, &requests.objects);
        found.push((name, percent(hits, requests.count()), None));
    }
    found.push((BOUND, region.bound_percent, None));
    if let Some((name, hits, _)) = found.iter().find(|(_, hits, _)| *hits > region.bound_percent) {
        return Err(Failure::Measurement(format!(
            "{name} has {hits:.2} % hits on {trace} at {capacity} objects, more than Belady's bound of {:.2} %",
            region.bound_percent
        )));
    }
    Ok(Point { trace, weighed: "objects", percent: part, capacity, requests: requests.count(), full: 0, found })
}

fn by_bytes(trace: &'static str, path: &Path, requests: &Requests, part: u64) -> Result<Point> {
    let capacity = requests.distinct_bytes * part / 100;
    let all_bytes = requests.bytes.iter().map(|bytes| u64::from(*bytes)).sum();
    let stream = Stream { remember: false, ..stream_of(path) };
    let regions = [(REGION, sized(&stream, capacity)?), (REGION_OF_VALUES, of_live_bytes(&stream, capacity)?)];
    let full = regions[0].1.full;
    let mut found: Vec<_> = regions
        .iter()
        .map(|(name, tried)| (*name, tried.outcome.hit_percent(), Some(tried.outcome.byte_hit_percent())))
        .collect();
    for (name, make) in POLICIES {
        let mut cache = make(Capacity { weight: capacity, objects: requests.distinct * part / 100 });
        let (hits, bytes) = simulators::hits_of_bytes(&mut *cache, &requests.objects, &requests.bytes);
        found.push((name, percent(hits, requests.count()), Some(percent(bytes, all_bytes))));
    }
    let bound = pfoo::hits(&requests.objects, &requests.bytes, capacity);
    found.push((BOUND, percent(bound, requests.count()), None));
    Ok(Point { trace, weighed: "bytes", percent: part, capacity, requests: requests.count(), full, found })
}

/// A region that is replayed, and the mean of its live bytes once it was full.
struct Weighed {
    region: RegionSubject,
    sum: u128,
    samples: u64,
    full: u64,
}

impl Subject for Weighed {
    fn request(&mut self, key: &[u8], value_bytes: usize) -> Result<Answer> {
        match self.region.request(key, value_bytes) {
            // A set that found no room, though the region evicts: it is shown, not hidden.
            Err(Failure::Cache(Error::Full { .. })) => {
                self.full += 1;
                Ok(Answer::Refused)
            }
            answer => answer,
        }
    }

    fn census(&mut self) -> Result<Census> {
        let census = self.region.census()?;
        if census.evicted > 0 {
            self.sum += u128::from(self.region.cache().stats()?.live_bytes);
            self.samples += 1;
        }
        Ok(census)
    }
}

/// A replay by bytes, its mean of live bytes, and how many sets found no room.
struct Sized {
    outcome: Outcome,
    live_bytes: f64,
    full: u64,
}

fn sized(stream: &Stream, region_bytes: u64) -> Result<Sized> {
    let mut subject = Weighed { region: RegionSubject::private(region_bytes)?, sum: 0, samples: 0, full: 0 };
    let outcome = replay(stream, &mut subject, &mut |_| ())?;
    let live_bytes = subject.sum as f64 / subject.samples as f64;
    Ok(Sized { outcome, live_bytes, full: subject.full })
}

/// The replay in the region whose live items have `live_bytes` bytes in the mean.
fn of_live_bytes(stream: &Stream, live_bytes: u64) -> Result<Sized> {
    let mut region_bytes = live_bytes;
    let mut best: Option<(f64, Sized)> = None;
    for _ in 0..PASSES_MAX {
        let tried = sized(stream, region_bytes)?;
        let off = tried.live_bytes / live_bytes as f64 - 1.0;
        if best.as_ref().is_none_or(|(least, _)| off.abs() < *least) {
            best = Some((off.abs(), tried));
        }
        if off.abs() <= CLOSE {
            break;
        }
        region_bytes = (region_bytes as f64 / (1.0 + off)) as u64 / 4096 * 4096;
    }
    best.map(|(_, tried)| tried).ok_or(Failure::usage("no pass was made"))
}
