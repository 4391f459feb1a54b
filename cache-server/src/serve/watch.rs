//! What the page shows: the region now, and the last ten minutes of it.
//!
//! Owns: one look each second, in a thread of its own, and what is kept of the looks: the last
//! one as it is, and of each earlier one a row of numbers. The look is made with a handle that
//! only reads, so that it does not count as use. The segments, of which a large region has many,
//! are looked at by who asks.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use cache_shm::Cache;
use serde_json::{Value, json};

use super::Shared;
use super::counters::Sums;
use crate::observe::{Latency, Picture, Probe, Rates, cells};

/// Time between two looks.
const EVERY: Duration = Duration::from_secs(1);
/// Rows that are kept: ten minutes of them.
pub const ROWS_MAX: usize = 600;

/// What a row has, in this order. Rates are those of a second.
pub const COLUMNS: [&str; 17] = [
    "unix_ms",
    "gets",
    "hit_percent",
    "sets",
    "deletes",
    "evictions",
    "expirations",
    "read_p50_ns",
    "read_p99_ns",
    "commands",
    "command_p50_ns",
    "command_p99_ns",
    "clients",
    "participants",
    "items",
    "live_bytes",
    "free_bytes",
];

/// A row: of what is not known there is nothing.
type Row = [Option<f64>; COLUMNS.len()];

/// The last look.
struct Look {
    picture: Picture,
    rates: Option<Rates>,
    latency: Option<Latency>,
    server: Value,
    /// As JSON, made by who asks first; while nobody looks, nobody walks over the segments.
    text: OnceLock<String>,
}

impl Look {
    fn text(&self, cache: &Cache) -> &str {
        self.text.get_or_init(|| {
            // Of a region that cannot be looked at now there are none.
            let cells = cells(cache).unwrap_or_default();
            let picture = Picture { cells, ..self.picture.clone() };
            let mut picture = picture.json(self.rates.as_ref(), self.latency.as_ref());
            picture["server"] = self.server.clone();
            picture.to_string()
        })
    }
}

/// What is kept.
#[derive(Default)]
pub struct Watch {
    last: Mutex<Option<Arc<Look>>>,
    rows: Mutex<VecDeque<Row>>,
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").finish_non_exhaustive()
    }
}

impl Watch {
    /// Looks until the server ends.
    pub fn run(&self, shared: &Shared) {
        let mut eye = Eye::default();
        loop {
            match eye.look(shared) {
                Ok((look, row)) => {
                    *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(look));
                    let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
                    rows.push_back(row);
                    while rows.len() > ROWS_MAX {
                        rows.pop_front();
                    }
                }
                Err(error) => tracing::debug!(%error, "the region cannot be looked at for now"),
            }
            if shared.bell.wait(EVERY) {
                return;
            }
        }
    }

    /// The last look, and the rows after `since_ms`, as JSON, with what else the page wants to know.
    pub fn json(&self, cache: &Cache, since_ms: u64, more: &Value) -> String {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let rows: Vec<Row> = {
            let rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
            rows.iter().filter(|row| row[0].is_some_and(|unix_ms| unix_ms > since_ms as f64)).copied().collect()
        };
        let picture = last.as_ref().map_or("null", |look| look.text(cache));
        let (columns, rows) = (json!(COLUMNS), json!(rows));
        format!(r#"{{"picture":{picture},"columns":{columns},"rows":{rows},"server":{more}}}"#)
    }
}

/// Who looks, and what was seen before.
#[derive(Default)]
struct Eye {
    /// A handle of this region that only reads.
    reader: Option<(u64, Cache)>,
    probe: Probe,
    before: Option<(Picture, Sums)>,
}

impl Eye {
    /// The reader of the region `region`; it is opened anew when the region is another one.
    fn reader(&mut self, cache: &Cache, region: u64) -> crate::failure::Result<Option<&Cache>> {
        if self.reader.as_ref().is_none_or(|(of, _)| *of != region) {
            let Some(path) = cache.path() else { return Ok(None) };
            let mut builder = Cache::builder(cache.name()).read_only(true);
            if let Some(directory) = path.parent() {
                builder = builder.dir(directory);
            }
            self.reader = Some((region, builder.open()?));
        }
        Ok(self.reader.as_ref().map(|(_, reader)| reader))
    }

    fn look(&mut self, shared: &Shared) -> crate::failure::Result<(Look, Row)> {
        // Only who writes notices that the region is another one by now.
        let _ = shared.cache.writer();
        let picture = Picture::without_cells(&shared.cache)?;
        let mut probe = std::mem::take(&mut self.probe);
        let latency = match self.reader(&shared.cache, picture.region)? {
            Some(reader) => probe.take(reader)?,
            None => None,
        };
        self.probe = probe;
        let sums = Sums::of(&shared.counters);
        let before = self.before.replace((picture.clone(), sums.clone()));
        let rates = before.as_ref().and_then(|(before, _)| Rates::between(before, &picture));
        let seconds = rates.as_ref().map(|rates| rates.seconds);
        let since = |now: u64, before: u64| seconds.map(|seconds| now.saturating_sub(before) as f64 / seconds);
        let old = before.map(|(_, sums)| sums).unwrap_or_default();
        let classes: Vec<u64> = sums
            .durations
            .iter()
            .enumerate()
            .map(|(class, count)| count - old.durations.get(class).copied().unwrap_or(0).min(*count))
            .collect();
        let (commands, clients) = (since(sums.commands, old.commands), shared.clients.count());
        let (p50, p99) = (percentile(&classes, 50), percentile(&classes, 99));
        let server = json!({
            "commands": commands,
            "errors": since(sums.errors, old.errors),
            "input_bytes": since(sums.input_bytes, old.input_bytes),
            "output_bytes": since(sums.output_bytes, old.output_bytes),
            "clients": clients,
            "p50_ns": p50,
            "p99_ns": p99,
        });
        let rate = |of: fn(&Rates) -> f64| rates.as_ref().map(of);
        let number = |number: u64| Some(number as f64);
        let row = [
            number(picture.unix_ms),
            rate(|rates| rates.gets),
            rates.as_ref().and_then(|rates| rates.hit_percent),
            rate(|rates| rates.sets),
            rate(|rates| rates.deletes),
            rate(|rates| rates.evictions),
            rate(|rates| rates.expirations),
            latency.and_then(|latency| number(latency.p50_ns)),
            latency.and_then(|latency| number(latency.p99_ns)),
            commands,
            p50.and_then(number),
            p99.and_then(number),
            number(clients as u64),
            number(picture.stats.participants),
            number(picture.stats.items),
            number(picture.stats.live_bytes),
            number(picture.stats.free_bytes),
        ];
        Ok((Look { picture, rates, latency, server, text: OnceLock::new() }, row))
    }
}

/// The end of the class in which so many percent of the durations are reached, in nanoseconds.
fn percentile(classes: &[u64], percent: u64) -> Option<u64> {
    let total: u64 = classes.iter().sum();
    let wanted = (total * percent).div_ceil(100);
    let mut below = 0;
    let class = classes.iter().position(|count| {
        below += count;
        below >= wanted
    });
    class.filter(|_| total > 0).map(|class| 2u64 << class)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_the_end_of_its_class() {
        let mut classes = [0; 35];
        assert_eq!(percentile(&classes, 50), None);
        (classes[9], classes[12]) = (98, 2);
        assert_eq!((percentile(&classes, 50), percentile(&classes, 99)), (Some(1024), Some(8192)));
        assert_eq!(percentile(&[3], 1), Some(2));
    }

    #[test]
    fn rows_after_a_moment_are_given_and_none_before() {
        let watch = Watch::default();
        for unix_ms in [1000.0, 2000.0] {
            let mut row: Row = [None; COLUMNS.len()];
            row[0] = Some(unix_ms);
            watch.rows.lock().unwrap().push_back(row);
        }
        let cache = Cache::builder(None).size(1 << 20).create().unwrap();
        let read = |since_ms| -> Value {
            serde_json::from_str(&watch.json(&cache, since_ms, &json!({"writes": false}))).unwrap()
        };
        let (all, later) = (read(0), read(1000));
        assert_eq!((all["rows"].as_array().unwrap().len(), &all["picture"]), (2, &Value::Null));
        assert_eq!((&later["rows"][0][0], later["rows"].as_array().unwrap().len()), (&json!(2000.0), 1));
        assert_eq!((&all["columns"][0], &all["server"]["writes"]), (&json!("unix_ms"), &json!(false)));
    }
}
