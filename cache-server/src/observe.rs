//! What can be seen of a region at one moment, and between two.
//!
//! Owns: the [`Picture`], the [`Rates`] between two of them, and the [`Probe`] that times reads.
//! `top`, `processes` and whoever shows a region to people draw from these. Read-only; from a
//! read-only handle it leaves no trace in the region.

use std::time::Instant;

use cache_shm::{Cache, Counter, Cursor, Key, Namespace, NamespaceInfo, ParticipantInfo, SegmentUse, Stats};
use serde_json::{Map, Value, json};

use crate::clock::unix_ms;
use crate::failure::Result;
use crate::output::insert_bytes;
use crate::replay::percent;

/// Most cells of a heat map; a region has as many segments up to a size of 1 GiB.
pub const CELLS_MAX: u32 = 1024;
/// Keys that are timed at once.
const PROBE_KEYS: usize = 256;
/// Calls of the scan that look for them.
const PROBE_SCANS_MAX: u32 = 16;

/// Some neighbouring segments, in most regions one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    /// Number of the first segment.
    pub first: u32,
    /// How many segments.
    pub count: u32,
    /// What most of them are used for.
    pub usage: SegmentUse,
    /// Most of those that hold items are of the main queue.
    pub is_main: bool,
    /// Bytes that live in them.
    pub live_bytes: u64,
    /// Bytes of the segments.
    pub bytes: u64,
    /// Milliseconds since the oldest of them was opened or last kept, if one holds items.
    pub age_ms: Option<u64>,
}

impl Cell {
    /// Neighbours as one, for who has less room.
    pub fn merged(cells: &[Cell]) -> Option<Cell> {
        let mut merged = Cell { count: 0, live_bytes: 0, bytes: 0, age_ms: None, ..cells.first()?.clone() };
        let (mut uses, mut main, mut items) = ([0; USES.len()], 0, 0);
        for cell in cells {
            merged.count += cell.count;
            merged.live_bytes += cell.live_bytes;
            merged.bytes += cell.bytes;
            merged.age_ms = merged.age_ms.max(cell.age_ms);
            uses[USES.iter().position(|usage| *usage == cell.usage).unwrap_or(0)] += cell.count;
            items += if cell.age_ms.is_some() { cell.count } else { 0 };
            main += if cell.is_main { cell.count } else { 0 };
        }
        merged.usage = (0..USES.len()).max_by_key(|index| uses[*index]).map_or(merged.usage, |most| USES[most]);
        merged.is_main = main * 2 > items;
        Some(merged)
    }

    /// The part that lives, 0 to 1.
    pub fn live_share(&self) -> f64 {
        self.live_bytes as f64 / self.bytes.max(1) as f64
    }
}

/// A region at one moment: each number was true at some instant of the look.
#[derive(Debug, Clone)]
pub struct Picture {
    /// When it was taken, for rates.
    pub taken: Instant,
    /// The same in milliseconds since 1970.
    pub unix_ms: u64,
    /// The region's name; none if it is private.
    pub name: Option<String>,
    /// Tells the region from another one of that name.
    pub region: u64,
    /// Counters and sizes.
    pub stats: Stats,
    /// The default namespace and the others, with their counters.
    pub namespaces: Vec<NamespaceInfo>,
    /// Who is attached for writing, or died and was not yet cleaned up after.
    pub participants: Vec<ParticipantInfo>,
    /// The segments, [`CELLS_MAX`] cells at most.
    pub cells: Vec<Cell>,
}

impl Picture {
    /// Looks at the region of a handle. Costs a walk over its tables.
    ///
    /// # Errors
    /// As for [`Cache::map`].
    pub fn take(cache: &Cache) -> Result<Picture> {
        let picture = Picture::without_cells(cache)?;
        Ok(Picture { cells: cells(cache)?, ..picture })
    }

    /// The same without the segments, of which a large region has many.
    ///
    /// # Errors
    /// As for [`Cache::map`].
    pub fn without_cells(cache: &Cache) -> Result<Picture> {
        let map = cache.map()?;
        let geometry = map.geometry();
        Ok(Picture {
            taken: Instant::now(),
            unix_ms: unix_ms(),
            name: cache.name().map(str::to_owned),
            region: geometry.seed,
            stats: map.stats(),
            namespaces: map.namespaces(),
            participants: map.participants(),
            cells: Vec::new(),
        })
    }

    /// Where the region's bytes are: they add up to its size, but for what lies behind the last
    /// whole segment.
    pub fn memory(&self) -> [(&'static str, u64); 6] {
        let stats = &self.stats;
        [
            ("main", stats.main_bytes),
            ("small", stats.small_bytes),
            ("index", stats.index_bytes),
            ("condemned", stats.condemned_bytes),
            ("fixed", stats.fixed_bytes),
            ("free", stats.free_bytes),
        ]
    }

    /// Share of reads that found their key since the counters began, in percent.
    pub fn hit_percent(&self) -> f64 {
        percent(self.stats.hits, self.stats.hits + self.stats.misses)
    }

    /// Everything as JSON, with what else is known.
    pub fn json(&self, rates: Option<&Rates>, latency: Option<&Latency>) -> Value {
        let stats: Map<String, Value> =
            self.stats.fields().into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
        json!({
            "name": self.name,
            "unix_ms": self.unix_ms,
            "hit_percent": self.hit_percent(),
            "stats": stats,
            "memory": Map::from_iter(self.memory().map(|(name, bytes)| (name.to_owned(), bytes.into()))),
            "rates": rates.map(Rates::json),
            "latency": latency.map(Latency::json),
            "namespaces": self.namespaces.iter().map(namespace_json).collect::<Vec<_>>(),
            "participants": self.participants.iter().map(participant_json).collect::<Vec<_>>(),
            "segments": self.cells.iter().map(cell_json).collect::<Vec<_>>(),
        })
    }
}

fn namespace_json(info: &NamespaceInfo) -> Value {
    let mut object = Map::new();
    insert_bytes(&mut object, "name", &info.name);
    object.extend(info.counts().map(|(name, count)| (name.to_owned(), count.into())));
    object.into()
}

fn cell_json(cell: &Cell) -> Value {
    json!({
        "first": cell.first,
        "count": cell.count,
        "use": cell.usage.word(),
        "queue": cell.age_ms.map(|_| if cell.is_main { "main" } else { "small" }),
        "live_share": cell.live_share(),
        "age_ms": cell.age_ms,
    })
}

/// A participant as JSON.
pub fn participant_json(info: &ParticipantInfo) -> Value {
    json!({
        "slot": info.slot,
        "pid": info.pid,
        "alive": info.is_alive,
        "self": info.is_self,
        "attached_ms": info.attached_ms,
        "read_pins": info.read_pins,
        "write_pins": info.write_pins,
        "stripes_locked": info.stripes,
        "lanes_locked": info.lanes,
        "segments_held": info.segments,
        "leases": info.leases.iter().map(|lease| json!({
            "name_hash": format!("{:016x}", lease.name_hash),
            "until_ms": (lease.until_ms != cache_shm::NEVER).then_some(lease.until_ms),
        })).collect::<Vec<_>>(),
        "counters": Map::from_iter(info.counters().map(|(name, count)| (name.to_owned(), count.into()))),
    })
}

/// The segments of a region, [`CELLS_MAX`] cells at most.
///
/// # Errors
/// As for [`Cache::map`].
pub fn cells(cache: &Cache) -> Result<Vec<Cell>> {
    let map = cache.map()?;
    let geometry = map.geometry();
    let mut heat = Heat::new(geometry.segment_count, geometry.segment_bytes());
    map.segments(&mut |info| heat.add(&info));
    Ok(heat.finish())
}

/// Adds neighbouring segments up.
struct Heat {
    segment_bytes: u64,
    per_cell: u32,
    cells: Vec<Cell>,
    /// How many segments of the last cell have each use, and how many are of the main queue.
    uses: [u32; 10],
    main: u32,
    items: u32,
}

const USES: [SegmentUse; 10] = [
    SegmentUse::Free,
    SegmentUse::Claimed,
    SegmentUse::Open,
    SegmentUse::Sealed,
    SegmentUse::Reclaiming,
    SegmentUse::Draining,
    SegmentUse::Condemned,
    SegmentUse::Index,
    SegmentUse::RunPart,
    SegmentUse::Damaged,
];

impl Heat {
    fn new(segment_count: u32, segment_bytes: u64) -> Heat {
        let per_cell = segment_count.div_ceil(CELLS_MAX).max(1);
        Heat { segment_bytes, per_cell, cells: Vec::new(), uses: [0; 10], main: 0, items: 0 }
    }

    fn add(&mut self, info: &cache_shm::SegmentInfo) {
        if info.index.is_multiple_of(self.per_cell) {
            self.close();
            let first = info.index;
            let usage = info.usage;
            let empty = Cell { first, count: 0, usage, is_main: false, live_bytes: 0, bytes: 0, age_ms: None };
            self.cells.push(empty);
        }
        let Some(cell) = self.cells.last_mut() else { return };
        cell.count += 1;
        cell.bytes += self.segment_bytes;
        cell.live_bytes += info.live_bytes;
        cell.age_ms = cell.age_ms.max(info.age_ms);
        self.uses[USES.iter().position(|usage| *usage == info.usage).unwrap_or(0)] += 1;
        self.items += u32::from(info.age_ms.is_some());
        self.main += u32::from(info.is_main);
    }

    fn close(&mut self) {
        if let Some(cell) = self.cells.last_mut()
            && let Some(most) = (0..USES.len()).max_by_key(|index| self.uses[*index])
        {
            cell.usage = USES[most];
            cell.is_main = self.main * 2 > self.items;
        }
        (self.uses, self.main, self.items) = ([0; 10], 0, 0);
    }

    fn finish(mut self) -> Vec<Cell> {
        self.close();
        self.cells
    }
}

/// What happened between two pictures of a region, in a second.
#[derive(Debug, Clone, PartialEq)]
pub struct Rates {
    /// Seconds between them.
    pub seconds: f64,
    /// Reads.
    pub gets: f64,
    /// Share of them that found their key, in percent; none if there were none.
    pub hit_percent: Option<f64>,
    /// Values stored.
    pub sets: f64,
    /// Keys removed on request.
    pub deletes: f64,
    /// Unexpired items dropped to make room.
    pub evictions: f64,
    /// Items dropped because they had expired or were cleared.
    pub expirations: f64,
    /// The same for each namespace, in the order of the later picture.
    pub namespaces: Vec<NamespaceRates>,
}

/// What happened in a namespace, in a second.
#[derive(Debug, Clone, PartialEq)]
pub struct NamespaceRates {
    /// Its name; empty for the default one.
    pub name: Vec<u8>,
    /// Reads.
    pub gets: f64,
    /// Share of them that found their key, in percent; none if there were none.
    pub hit_percent: Option<f64>,
    /// Values stored.
    pub sets: f64,
    /// Unexpired items dropped to make room.
    pub evictions: f64,
}

/// Hits in percent of reads; none of none. The quotient is exactly 1 where all are hits, and what is a hundred
/// times them is not exactly a hundred.
fn hit_percent(hits: f64, misses: f64) -> Option<f64> {
    (hits + misses > 0.0).then(|| 100.0 * (hits / (hits + misses)))
}

impl Rates {
    /// `None` if the pictures are of two regions, or of the same moment. Where counters were reset
    /// in between, the rate is 0.
    pub fn between(before: &Picture, after: &Picture) -> Option<Rates> {
        let seconds = after.taken.checked_duration_since(before.taken)?.as_secs_f64();
        if before.region != after.region || seconds <= 0.0 {
            return None;
        }
        let rate = |before: u64, after: u64| after.saturating_sub(before) as f64 / seconds;
        let (old, new) = (&before.stats, &after.stats);
        let (hits, misses) = (rate(old.hits, new.hits), rate(old.misses, new.misses));
        let none = NamespaceInfo::default();
        let namespaces = after.namespaces.iter().map(|new| {
            let old = before.namespaces.iter().find(|old| old.namespace == new.namespace).unwrap_or(&none);
            let (hits, misses) = (rate(old.hits, new.hits), rate(old.misses, new.misses));
            NamespaceRates {
                name: new.name.clone(),
                gets: hits + misses,
                hit_percent: hit_percent(hits, misses),
                sets: rate(old.sets, new.sets),
                evictions: rate(old.evictions, new.evictions),
            }
        });
        Some(Rates {
            seconds,
            gets: hits + misses,
            hit_percent: hit_percent(hits, misses),
            sets: rate(old.sets, new.sets),
            deletes: rate(old.deletes, new.deletes),
            evictions: rate(old.evictions, new.evictions),
            expirations: rate(old.expirations, new.expirations),
            namespaces: namespaces.collect(),
        })
    }

    /// The rates as JSON.
    pub fn json(&self) -> Value {
        let namespaces: Vec<Value> = self
            .namespaces
            .iter()
            .map(|rates| {
                let mut object = Map::new();
                insert_bytes(&mut object, "name", &rates.name);
                object.insert("gets".to_owned(), rates.gets.into());
                object.insert("hit_percent".to_owned(), rates.hit_percent.into());
                object.insert("sets".to_owned(), rates.sets.into());
                object.insert("evictions".to_owned(), rates.evictions.into());
                object.into()
            })
            .collect();
        json!({
            "seconds": self.seconds,
            "gets": self.gets,
            "hit_percent": self.hit_percent,
            "sets": self.sets,
            "deletes": self.deletes,
            "evictions": self.evictions,
            "expirations": self.expirations,
            "namespaces": namespaces,
        })
    }
}

/// How often a participant reads and stores, in a second.
pub fn operations(before: &ParticipantInfo, after: &ParticipantInfo, seconds: f64) -> f64 {
    let sum = |info: &ParticipantInfo| {
        [Counter::Hits, Counter::Misses, Counter::Sets, Counter::Deletes]
            .map(|counter| info.count(counter))
            .into_iter()
            .fold(0, u64::wrapping_add)
    };
    sum(after).saturating_sub(sum(before)) as f64 / seconds.max(f64::MIN_POSITIVE)
}

/// How long reads took that this process made itself, in nanoseconds.
///
/// Each is one read of a key that was there, value copied, of keys that nobody chose for being in
/// use: so it shows the misses of this process's caches, and contains the 20 to 50 ns of asking a
/// clock. It is no measurement of the reads of others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Latency {
    /// Reads that were timed.
    pub reads: usize,
    /// Half of them took at most so long.
    pub p50_ns: u64,
    /// 99 of 100 took at most so long.
    pub p99_ns: u64,
}

impl Latency {
    /// Percentiles of times, `None` of none.
    pub fn of(times_ns: &mut [u64]) -> Option<Latency> {
        times_ns.sort_unstable();
        let at = |percent: usize| times_ns[(times_ns.len() * percent).div_ceil(100).max(1) - 1];
        (!times_ns.is_empty()).then(|| Latency { reads: times_ns.len(), p50_ns: at(50), p99_ns: at(99) })
    }

    /// The latency as JSON.
    pub fn json(&self) -> Value {
        json!({"reads": self.reads, "p50_ns": self.p50_ns, "p99_ns": self.p99_ns})
    }
}

/// Times reads of existing keys, other ones each time.
#[derive(Debug)]
pub struct Probe {
    cursor: Cursor,
}

impl Default for Probe {
    fn default() -> Probe {
        Probe { cursor: Cursor::START }
    }
}

impl Probe {
    /// Times some hundred reads; `None` if the region is empty. They count neither as uses nor, from a
    /// read-only handle, as hits.
    ///
    /// # Errors
    /// As for [`Cache::map`].
    pub fn take(&mut self, cache: &Cache) -> Result<Option<Latency>> {
        let map = cache.map()?;
        let mut keys: Vec<(Namespace, Vec<u8>)> = Vec::new();
        for _ in 0..PROBE_SCANS_MAX {
            let next = map.scan(self.cursor, &mut |key, meta| keys.push((meta.namespace, key.to_vec())))?;
            self.cursor = next.unwrap_or(Cursor::START);
            if keys.len() >= PROBE_KEYS {
                break;
            }
        }
        keys.truncate(PROBE_KEYS);
        let mut value = Vec::new();
        let mut times = Vec::with_capacity(keys.len());
        for (namespace, key) in &keys {
            let key = Key::new(*namespace, key);
            let begun = Instant::now();
            let found = map.peek(key, &mut value)?;
            let took = begun.elapsed();
            if found.is_some() {
                times.push(took.as_nanos() as u64);
            }
        }
        Ok(Latency::of(&mut times))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region() -> Cache {
        Cache::builder(None).size(4 << 20).create().unwrap()
    }

    #[test]
    fn a_picture_adds_up_and_its_rates_are_what_happened_in_between() {
        let cache = region();
        let users = cache.namespace(b"users").unwrap();
        let before = Picture::take(&cache).unwrap();
        for number in 0..1000u64 {
            cache.set(&number.to_le_bytes(), &[1; 100]).unwrap();
            users.set(&number.to_le_bytes(), &[1; 100]).unwrap();
        }
        for number in 0..2000u64 {
            users.get(&number.to_le_bytes()).unwrap();
        }
        let mut after = Picture::take(&cache).unwrap();
        after.taken = before.taken + std::time::Duration::from_secs(2);
        let memory: u64 = after.memory().iter().map(|(_, bytes)| bytes).sum();
        let spare = after.stats.region_bytes - memory;
        assert!(spare < after.stats.segment_bytes, "{spare} bytes are nowhere");
        assert_eq!(after.cells.iter().map(|cell| u64::from(cell.count)).sum::<u64>(), after.stats.segments);

        let rates = Rates::between(&before, &after).unwrap();
        assert_eq!((rates.gets, rates.sets, rates.hit_percent), (1000.0, 1000.0, Some(50.0)));
        let of_users = rates.namespaces.iter().find(|rates| rates.name == b"users").unwrap();
        assert_eq!((of_users.gets, of_users.sets), (1000.0, 500.0));
        assert_eq!(Rates::between(&before, &Picture::take(&region()).unwrap()), None, "of another region");
        let json = after.json(Some(&rates), None);
        assert_eq!((&json["rates"]["gets"], &json["memory"]["free"]), (&1000.0.into(), &after.stats.free_bytes.into()));
        assert_eq!(json["participants"][0]["self"], true);
        assert_eq!(operations(&before.participants[0], &after.participants[0], 2.0), 2000.0);
    }

    #[test]
    fn neighbouring_segments_share_a_cell_where_there_are_many() {
        let mut heat = Heat::new(5000, 10);
        let usage = |index: u32| if index < 4998 { SegmentUse::Sealed } else { SegmentUse::Index };
        for index in 0..5000 {
            heat.add(&cache_shm::SegmentInfo {
                index,
                usage: usage(index),
                is_main: index >= 2500,
                written_bytes: 10,
                live_bytes: 5,
                age_ms: Some(index.into()),
            });
        }
        let cells = heat.finish();
        assert_eq!((cells.len(), cells[0].count, cells[999].first), (1000, 5, 4995));
        assert_eq!((cells[0].usage, cells[0].is_main, cells[999].is_main), (SegmentUse::Sealed, false, true));
        assert!((cells[7].live_share() - 0.5).abs() < 1e-9);
        assert_eq!(cells[999].age_ms, Some(4999));
        // The same once more: none of them is left out.
        let merged: Vec<Cell> = cells.chunks(300).filter_map(Cell::merged).collect();
        let counts: Vec<(u32, u32, u64)> =
            merged.iter().map(|cell| (cell.first, cell.count, cell.live_bytes)).collect();
        assert_eq!(counts, [(0, 1500, 7500), (1500, 1500, 7500), (3000, 1500, 7500), (4500, 500, 2500)]);
        assert_eq!((merged[1].is_main, merged[2].is_main, merged[3].age_ms), (false, true, Some(4999)));
        assert_eq!((merged[3].usage, Cell::merged(&[])), (SegmentUse::Sealed, None));
    }

    #[test]
    fn all_hits_are_a_hundred_percent_and_never_more() {
        for hits in 1..2000 {
            for seconds in [1.0003, 0.99987, 1.00012345] {
                assert_eq!(hit_percent(f64::from(hits) / seconds, 0.0), Some(100.0));
            }
        }
        assert_eq!((hit_percent(0.0, 0.0), hit_percent(1.0, 3.0)), (None, Some(25.0)));
    }

    #[test]
    fn a_probe_times_keys_that_are_there() {
        let cache = region();
        let mut probe = Probe::default();
        assert_eq!(probe.take(&cache).unwrap(), None);
        for number in 0..2000u64 {
            cache.set(&number.to_le_bytes(), &[1; 100]).unwrap();
        }
        let latency = probe.take(&cache).unwrap().unwrap();
        assert!(latency.reads >= 200 && latency.p50_ns > 0 && latency.p99_ns >= latency.p50_ns, "{latency:?}");
        assert_eq!(Latency::of(&mut [5]), Some(Latency { reads: 1, p50_ns: 5, p99_ns: 5 }));
        let mut times: Vec<u64> = (1..=200).rev().collect();
        assert_eq!(Latency::of(&mut times), Some(Latency { reads: 200, p50_ns: 100, p99_ns: 198 }));
    }
}
