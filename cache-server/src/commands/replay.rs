//! `replay`: the bar while it runs, and the report.

use cache_shm::parse_size;
use serde_json::{Map, Value, json};

use super::bar::Bar;
use crate::cli::Replay;
use crate::failure::{Failure, Result};
use crate::output::{Output, grouped, sized};
use crate::replay::region::RegionSubject;
use crate::replay::{Outcome, Progress, Stream, bound, calibrate, percent, run, simulators};

/// Bytes of a value where neither the trace nor the user says.
const VALUE_BYTES_DEFAULT: u32 = 480;

pub(super) fn replay(arguments: &Replay, output: &mut Output) -> Result<bool> {
    let value_bytes = arguments.value_size.as_deref().map(value_size).transpose()?;
    let stream = Stream {
        path: arguments.trace.clone(),
        value_bytes,
        value_bytes_default: VALUE_BYTES_DEFAULT,
        requests_max: arguments.requests.unwrap_or(u64::MAX),
        stores_max: u64::MAX,
        remember: !arguments.no_bound,
    };
    let bar = Bar::new(arguments.no_progress);
    let (region_bytes, outcome) = match arguments.objects {
        Some(objects) => {
            let found = calibrate::replay(&stream, objects, value_bytes, &mut |pass, p| show(&bar, Some(pass), p))?;
            (found.region_bytes, found.outcome)
        }
        None => {
            let region_bytes = parse_size(&arguments.region_size)?;
            let mut subject = RegionSubject::private(region_bytes)?;
            (region_bytes, run(&stream, &mut subject, &mut |p| show(&bar, None, p))?)
        }
    };
    drop(bar);
    let report = Report::new(region_bytes, outcome, arguments.compare)?;
    if output.is_json() {
        output.json(&report.json())?
    } else {
        output.pairs(&report.pairs())?
    }
    Ok(true)
}

fn value_size(text: &str) -> Result<u32> {
    let bytes = parse_size(text).ok().and_then(|bytes| u32::try_from(bytes).ok());
    bytes.ok_or_else(|| Failure::usage(format!("{text:?} is not a value size in bytes, 0 to {}", u32::MAX)))
}

fn show(bar: &Bar, pass: Option<u32>, progress: Progress) {
    let (length, position) = progress.file;
    bar.show(position, length, || {
        let pass = pass.map(|pass| format!("pass {pass}: ")).unwrap_or_default();
        let hit_percent = percent(progress.hits, progress.requests);
        format!("{pass}{} requests, {hit_percent:.2} % hits", grouped(progress.requests))
    });
}

struct Report {
    region_bytes: u64,
    outcome: Outcome,
    bound: Option<u64>,
    /// Hits of LRU and of textbook S3-FIFO with the mean number of objects.
    simulated: Option<(u64, u64)>,
}

impl Report {
    fn new(region_bytes: u64, outcome: Outcome, compare: bool) -> Result<Report> {
        let bound = bound(&outcome)?;
        let simulated = (compare && bound.is_some()).then(|| {
            let objects = (outcome.live_mean.round() as u64).max(1);
            let lru = simulators::hits(&mut simulators::Lru::new(objects), &outcome.order);
            (lru, simulators::hits(&mut simulators::S3Fifo::new(objects, 1), &outcome.order))
        });
        Ok(Report { region_bytes, outcome, bound, simulated })
    }

    fn json(&self) -> Value {
        let outcome = &self.outcome;
        let in_percent = |hits: u64| percent(hits, outcome.requests);
        let mut object = Map::new();
        let fields = json!({
            "requests": outcome.requests,
            "hits": outcome.hits,
            "hit_percent": outcome.hit_percent(),
            "byte_hit_percent": outcome.byte_hit_percent(),
            "requests_per_second": outcome.requests_per_second(),
            "region_bytes": self.region_bytes,
            "value_bytes": outcome.equal_bytes,
            "live_objects_mean": outcome.live_mean,
            "live_objects_max": outcome.live_max,
            "evicted": outcome.evicted,
            "refused": outcome.refused,
            "bound_percent": self.bound.map(in_percent),
            "lru_percent": self.simulated.map(|(lru, _)| in_percent(lru)),
            "s3fifo_percent": self.simulated.map(|(_, s3fifo)| in_percent(s3fifo)),
        });
        if let Value::Object(fields) = fields {
            object.extend(fields);
        }
        object.into()
    }

    fn pairs(&self) -> Vec<(&'static str, String)> {
        let outcome = &self.outcome;
        let in_percent = |hits: u64| format!("{:.2} %", percent(hits, outcome.requests));
        let mut pairs = vec![
            ("hit ratio", in_percent(outcome.hits)),
            ("requests", grouped(outcome.requests)),
            ("requests/s", grouped(outcome.requests_per_second() as u64)),
            ("live objects, mean", grouped(outcome.live_mean.round() as u64)),
            ("live objects, largest", grouped(outcome.live_max)),
            ("region", sized(self.region_bytes)),
        ];
        match outcome.equal_bytes {
            Some(bytes) => pairs.push(("value", sized(bytes.into()))),
            None => pairs.push(("byte hit ratio", format!("{:.2} %", outcome.byte_hit_percent()))),
        }
        if outcome.refused > 0 {
            pairs.push(("too large to store", grouped(outcome.refused)));
        }
        if let Some((lru, s3fifo)) = self.simulated {
            pairs.push(("LRU, simulated", in_percent(lru)));
            pairs.push(("S3-FIFO, simulated", in_percent(s3fifo)));
        }
        match self.bound {
            Some(bound) => pairs.push(("Belady's bound", in_percent(bound))),
            None if !outcome.order.is_empty() => {
                pairs.push(("Belady's bound", "says nothing about values of different sizes".to_owned()));
            }
            None => {}
        }
        pairs
    }
}
