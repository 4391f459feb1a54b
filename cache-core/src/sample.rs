//! The sample: what was asked for lately, of one key in many.
//!
//! Owns: a ring of records in the fixed part of the region, and what is read from it. Keys are
//! chosen by bits of their hash (C. Waldspurger et al., "Efficient MRC construction with SHARDS",
//! FAST '15), so that of a chosen key every request is recorded, and a cache of the chosen keys
//! alone behaves as the whole one does at the scale of the sample (the same, "Cache modeling and
//! optimization using miniature simulations", ATC '17).
//!
//! ```text
//! 63             33 32      17 16   11 10     3 2    0
//! +----------------+----------+-------+--------+------+
//! | top of the hash| seconds  | ttl   | size   | what |
//! +----------------+----------+-------+--------+------+
//! ```
//!
//! How many keys are chosen follows from how many items the region holds, so that the ring has some
//! records for each chosen one: whoever writes the first record of a part of the ring looks. When
//! fewer are to be chosen, the records of the others are passed by from then on; when more are, what
//! was recorded before is.
//!
//! This is the one place where a read writes a line that others write, too: for one key in
//! 128 or more. What a thread of this process has recorded as found just
//! now is not recorded again, so that the most wanted key does not make a queue of its readers.
//!
//! Nothing here is ever believed but by [`Map::sample`], which gives numbers to people: all words
//! are Relaxed, a death leaves a record that is missing or old, and any bytes are an answer.

use crate::hash::Hash;
use crate::host::Host;
use crate::layout::{Geometry, LINE_BYTES, sample as at};
use crate::map::Map;
use crate::participant::sum_counter;
use crate::stats::Counter;
use crate::sync::{AtomicU64, Ordering, ProcessU64};
use crate::types::{Key, Meta, NEVER};

/// The part of a hash that a record keeps.
const NAME_SHIFT: u32 = 33;
const SECONDS_SHIFT: u32 = 17;
const SECONDS_MASK: u64 = 0xffff;
const TTL_SHIFT: u32 = 11;
const TTL_MASK: u64 = 63;
const SIZE_SHIFT: u32 = 3;
const SIZE_MASK: u64 = 255;
const WHAT_MASK: u64 = 7;
const HIT: u64 = 1;
const MISS: u64 = 2;
const SET: u64 = 3;
const DELETE: u64 = 4;
/// Shortest time to live that is told from shorter ones: 2^8 milliseconds.
const TTL_LEAST_SHIFT: u32 = 8;
/// Keys of which a process knows that it has recorded them as found just now.
const RECENT_COUNT: usize = 64;
/// One that was recorded within the last 1/256 of the ring is recent.
const RECENT_PART: u64 = 256;
/// Bytes of an item beside its key and its value.
const ITEM_BYTES: u64 = 24;

/// What this process knows of the sample.
pub(crate) struct Chosen {
    /// Chosen are keys whose hash has none of these bits. Follows the region's word with the
    /// records that this process writes.
    mask: ProcessU64,
    /// What was recorded as found not long ago: top of the hash, low bits of the place.
    recent: [ProcessU64; RECENT_COUNT],
}

impl Chosen {
    pub fn new(geometry: &Geometry) -> Chosen {
        // Without a sample one hash is chosen, which is then not recorded.
        let mask = if geometry.sample_count == 0 { u64::MAX } else { mask_of(*at::SHIFTS.start()) };
        Chosen { mask: ProcessU64::new(mask), recent: std::array::from_fn(|_| ProcessU64::new(0)) }
    }
}

fn mask_of(shift: u32) -> u64 {
    ((1 << shift) - 1) << at::LOWEST_BIT
}

/// What happened to a key of the sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// A read found it.
    Hit,
    /// A read did not.
    Miss,
    /// It was stored.
    Set,
    /// It was deleted.
    Delete,
}

/// One record of the sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// 31 bits of the key's hash.
    pub name: u32,
    /// What happened.
    pub what: What,
    /// Bytes of the item to within a sixteenth; 0 where they are not known.
    pub bytes: u64,
    /// Milliseconds that a stored value lives, to within a fifth; `None` for ever.
    pub ttl_ms: Option<u64>,
    /// When, in seconds, which begin anew after 65,535; not known of what was found.
    pub seconds: Option<u16>,
}

/// How much was read until a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reads {
    /// Reads of any key.
    pub gets: u64,
    /// Those that did not find theirs.
    pub misses: u64,
}

/// The requests of the chosen keys, the oldest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// Of so many keys one is chosen.
    pub one_in: u64,
    /// What is recorded.
    pub requests: Vec<Request>,
    /// What all participants had read before the request of that number, some of these.
    pub marks: Vec<(usize, Reads)>,
    /// The same until now.
    pub now: Reads,
}

fn size_class(bytes: u64) -> u64 {
    let bytes = bytes.clamp(8, u64::from(u32::MAX));
    let octave = u64::from(bytes.ilog2());
    octave << 3 | (bytes >> (octave - 3)) & 7
}

fn size_of(class: u64) -> u64 {
    let (octave, eighth) = (class >> 3, class & 7);
    if octave < 3 { 0 } else { ((2 * (8 + eighth) + 1) << octave) >> 4 }
}

fn ttl_class(ttl_ms: u64) -> u64 {
    let ttl_ms = ttl_ms.max(1 << TTL_LEAST_SHIFT);
    let octave = ttl_ms.ilog2();
    let half = (ttl_ms >> (octave - 1)) & 1;
    (1 + u64::from(2 * (octave - TTL_LEAST_SHIFT)) + half).min(TTL_MASK)
}

fn ttl_of(class: u64) -> Option<u64> {
    let steps = class.checked_sub(1)?;
    let octave = u64::from(TTL_LEAST_SHIFT) + steps / 2;
    Some((5 + 2 * (steps & 1)) << (octave - 2))
}

impl Request {
    fn from_word(word: u64) -> Option<Request> {
        let what = match word & WHAT_MASK {
            HIT => What::Hit,
            MISS => What::Miss,
            SET => What::Set,
            DELETE => What::Delete,
            _ => return None,
        };
        Some(Request {
            name: (word >> NAME_SHIFT) as u32,
            what,
            bytes: if matches!(what, What::Hit | What::Set) { size_of(word >> SIZE_SHIFT & SIZE_MASK) } else { 0 },
            ttl_ms: ttl_of(word >> TTL_SHIFT & TTL_MASK).filter(|_| what == What::Set),
            seconds: (what != What::Hit).then_some((word >> SECONDS_SHIFT & SECONDS_MASK) as u16),
        })
    }
}

impl<H: Host> Map<H> {
    fn sample_word(&self, offset: u64) -> &AtomicU64 {
        self.region.word(self.geometry.sample_offset + offset)
    }

    /// True if the key with this hash is one of the chosen.
    #[inline(always)]
    pub(crate) fn is_sampled(&self, hash: Hash) -> bool {
        // Relaxed: a statistic.
        hash.0 & self.chosen.mask.load(Ordering::Relaxed) == 0
    }

    /// Notes a read of a chosen key.
    pub(crate) fn record_read(&self, hash: Hash, key: Key<'_>, found: Option<&Meta>) {
        let Some(meta) = found else { return self.record(hash, MISS, 0, 0) };
        let bytes = ITEM_BYTES + key.bytes.len() as u64 + meta.value_bytes as u64;
        // Relaxed, all: statistics, see the front page.
        let recent = &self.chosen.recent[(hash.0 >> 54) as usize % RECENT_COUNT];
        let (entry, low) = (recent.load(Ordering::Relaxed), (1 << NAME_SHIFT) - 1);
        let next = self.sample_word(at::NEXT).load(Ordering::Relaxed);
        let since = next.wrapping_sub(entry) & low;
        if entry >> NAME_SHIFT == hash.0 >> NAME_SHIFT && since < self.geometry.sample_count / RECENT_PART {
            return;
        }
        recent.store(hash.0 & !low | next & low, Ordering::Relaxed);
        self.record(hash, HIT, size_class(bytes) << SIZE_SHIFT, 0);
    }

    /// Notes a read, if it is of a chosen key.
    #[inline]
    pub(crate) fn note_read(&self, hash: Hash, key: Key<'_>, found: Option<&Meta>) {
        if self.is_sampled(hash) {
            self.record_read(hash, key, found);
        }
    }

    /// Notes that a key was stored with an item of `bytes` that lives until `expires_at_ms`.
    #[inline]
    pub(crate) fn note_set(&self, hash: Hash, bytes: u64, expires_at_ms: u64) {
        if self.is_sampled(hash) {
            let ttl = match expires_at_ms {
                NEVER => 0,
                expires_at_ms => ttl_class(expires_at_ms.saturating_sub(self.host.now_ms())),
            };
            self.record(hash, SET, size_class(bytes) << SIZE_SHIFT, ttl << TTL_SHIFT);
        }
    }

    /// Notes that a key was deleted.
    #[inline]
    pub(crate) fn note_delete(&self, hash: Hash) {
        if self.is_sampled(hash) {
            self.record(hash, DELETE, 0, 0);
        }
    }

    #[cold]
    fn record(&self, hash: Hash, what: u64, size: u64, ttl: u64) {
        let count = self.geometry.sample_count;
        if count == 0 || self.owner.is_none() {
            return;
        }
        // What is found costs no look at the clock: what came before and comes behind says when.
        let seconds = if what == HIT { 0 } else { ((self.host.now_ms() / 1000) & SECONDS_MASK) << SECONDS_SHIFT };
        let name = hash.0 >> NAME_SHIFT << NAME_SHIFT;
        // Relaxed, all: statistics, see the front page.
        let mask = mask_of(self.sample_shift());
        self.chosen.mask.store(mask, Ordering::Relaxed);
        if hash.0 & mask != 0 {
            return;
        }
        let place = self.sample_word(at::NEXT).fetch_add(1, Ordering::Relaxed);
        self.sample_word(at::RECORDS + 8 * (place % count))
            .store(name | seconds | ttl | size | what, Ordering::Relaxed);
        let part = count / at::MARK_COUNT;
        if place.is_multiple_of(part) {
            let reads = self.reads();
            let mark = at::MARKS + 16 * (place % count / part);
            self.sample_word(mark).store(reads.gets, Ordering::Relaxed);
            self.sample_word(mark + 8).store(reads.misses, Ordering::Relaxed);
            self.choose_anew(place);
        }
    }

    /// log2 of the keys of which one is chosen.
    fn sample_shift(&self) -> u32 {
        // Relaxed: see the front page.
        let shift = self.sample_word(at::SHIFT).load(Ordering::Relaxed);
        (shift.min(64) as u32).clamp(*at::SHIFTS.start(), *at::SHIFTS.end())
    }

    /// Lets fewer keys be chosen if the region holds more items, and more only if it holds far fewer.
    fn choose_anew(&self, place: u64) {
        let (now, wanted) = (self.sample_shift(), at::shift(self.geometry.sample_count, self.items_hint()));
        // Relaxed, both: see the front page.
        if wanted + 1 < now {
            self.sample_word(at::FROM).store(place, Ordering::Relaxed);
        }
        if wanted > now || wanted + 1 < now {
            self.sample_word(at::SHIFT).store(wanted.into(), Ordering::Relaxed);
        }
    }

    fn reads(&self) -> Reads {
        let [hits, misses] =
            [Counter::Hits, Counter::Misses].map(|counter| sum_counter(&self.region, &self.geometry, counter as u64));
        Reads { gets: hits.wrapping_add(misses), misses }
    }

    /// What is recorded of the chosen keys; `None` in a region that is too small to keep a sample.
    pub fn sample(&self) -> Option<Sample> {
        let count = self.geometry.sample_count;
        let part = count.checked_div(at::MARK_COUNT).filter(|part| *part > 0)?;
        // Relaxed, all: see the front page.
        let next = self.sample_word(at::NEXT).load(Ordering::Relaxed);
        let from = self.sample_word(at::FROM).load(Ordering::Relaxed);
        let shift = self.sample_shift();
        // The part that is being overwritten is left out.
        let first = next.saturating_sub(count - part).max(from.min(next));
        let first = first.checked_next_multiple_of(part).map_or(next, |first| first.min(next));
        let (mut requests, mut marks) = (Vec::with_capacity((next - first) as usize), Vec::new());
        for place in first..next {
            let place = place % count;
            if place.is_multiple_of(part) {
                let mark = at::MARKS + 16 * (place / part);
                let [gets, misses] = [mark, mark + 8].map(|offset| self.sample_word(offset).load(Ordering::Relaxed));
                marks.push((requests.len(), Reads { gets, misses }));
            }
            let word = self.sample_word(at::RECORDS + 8 * place).load(Ordering::Relaxed);
            requests.extend(Request::from_word(word).filter(|_| word & mask_of(shift) == 0));
        }
        Some(Sample { one_in: 1 << shift, requests, marks, now: self.reads() })
    }
}

const _: () = assert!(at::RECORDS.is_multiple_of(LINE_BYTES));

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::layout::Mode;
    use crate::testing::{Bench, TestHost};
    use crate::types::WriteOptions;

    #[test]
    fn sizes_and_times_are_kept_to_within_what_is_said() {
        let mut value = 8u64;
        while value < 1 << 31 {
            let size = size_of(size_class(value));
            assert!(size.abs_diff(value) * 16 <= value + 8, "{value}: {size}");
            if value >= 1 << TTL_LEAST_SHIFT {
                let ttl = ttl_of(ttl_class(value)).unwrap();
                assert!(ttl.abs_diff(value) * 4 <= value, "{value}: {ttl}");
            }
            value += value / 7 + 1;
        }
        assert_eq!((size_of(0), ttl_of(0), ttl_class(0)), (0, None, 1));
        assert!(size_class(u64::MAX) <= SIZE_MASK && ttl_class(u64::MAX) <= TTL_MASK);
    }

    /// Keys whose hash is of the sample.
    fn chosen(map: &Map<&TestHost>, count: usize) -> Vec<[u8; 8]> {
        (0u64..).map(u64::to_le_bytes).filter(|key| map.is_sampled(map.hasher.hash(key))).take(count).collect()
    }

    #[test]
    fn of_the_chosen_keys_every_request_is_recorded_and_of_others_none() {
        let host = TestHost::default();
        let bench = Bench::new(16 << 20, Mode::Evict);
        let (map, reader) =
            (bench.attach(&host, 0), Map::new(bench.memory.region(), bench.geometry.clone(), None, &host));
        let keys = chosen(&map, 3);
        let mut other = 0u64;
        while map.is_sampled(map.hasher.hash(&other.to_le_bytes())) {
            other += 1;
        }
        let options = WriteOptions { expires_at_ms: map.now_ms() + 60_000, ..WriteOptions::default() };
        let mut value = Vec::new();
        map.get(&keys[0], &mut value).unwrap();
        map.set(&keys[0], &[1; 1000], &options).unwrap();
        map.get(&keys[0], &mut value).unwrap();
        map.set(&keys[1], &[1; 20_000], &WriteOptions::default()).unwrap();
        drop(map.view(&keys[1]).unwrap());
        map.delete(&keys[1], 0).unwrap();
        map.get(&other.to_le_bytes(), &mut value).unwrap();
        for _ in 0..10 {
            map.get(&keys[0], &mut value).unwrap();
            reader.get(&keys[2], &mut value).unwrap();
        }
        let sample = map.sample().unwrap();
        let said: Vec<_> = sample.requests.iter().map(|request| (request.name, request.what)).collect();
        let name = |key: &[u8]| (map.hasher.hash(key).0 >> NAME_SHIFT) as u32;
        let [a, b] = [name(&keys[0]), name(&keys[1])];
        let expected =
            [(a, What::Miss), (a, What::Set), (a, What::Hit), (b, What::Set), (b, What::Hit), (b, What::Delete)];
        assert_eq!(said, expected, "what was found just now is not told again");
        assert!(sample.requests[1].bytes.abs_diff(1032) < 65 && sample.requests[1].ttl_ms.is_some());
        assert_eq!(sample.requests[3].ttl_ms, None);
        assert_eq!((sample.marks[0].0, sample.now.gets, sample.now.misses), (0, 14, 2));
        assert_eq!(sample, reader.sample().unwrap());
    }

    #[test]
    fn a_region_that_holds_more_items_chooses_fewer_keys_and_keeps_their_records() {
        let host = TestHost::default();
        let bench = Bench::new(32 << 20, Mode::Evict);
        let (map, other) = (bench.attach(&host, 0), bench.attach(&host, 1));
        let get = |map: &Map<&TestHost>, key: u64| map.get(&key.to_le_bytes(), &mut Vec::new()).unwrap();
        let set = |key: u64| map.set(&key.to_le_bytes(), &[1; 8], &WriteOptions::default()).unwrap();
        for key in 0..400_000 {
            set(key);
        }
        (0..100_000).for_each(|key| assert!(get(&other, key).is_some()));
        let sample = map.sample().unwrap();
        assert_eq!(map.sample_shift(), at::shift(map.geometry().sample_count, 400_000));
        assert!(sample.one_in >= 512 && sample.requests.len() > 500, "{sample:?}");
        assert!(sample.requests.iter().all(|request| u64::from(request.name) % sample.one_in == 0));
        // Far fewer items: more keys, of which nothing was recorded before.
        map.clear().unwrap();
        for key in 0..2_000 {
            set(key);
        }
        for key in 1 << 32..(1 << 32) + 2_000_000u64 {
            get(&map, key);
        }
        let sample = map.sample().unwrap();
        assert_eq!((sample.one_in, map.len()), (128, 2_000));
        assert!(sample.requests.len() > 500 && sample.requests.iter().all(|request| request.what == What::Miss));
    }

    #[test]
    fn the_ring_keeps_what_came_last_and_any_words_are_an_answer() {
        let host = TestHost::default();
        let bench = Bench::new(8 << 20, Mode::Evict);
        let map = bench.attach(&host, 0);
        let count = map.geometry().sample_count;
        let keys = chosen(&map, 100);
        for round in 0..3 * count {
            map.get(&keys[round as usize % keys.len()], &mut Vec::new()).unwrap();
        }
        let sample = map.sample().unwrap();
        assert_eq!(sample.requests.len() as u64, count - count / at::MARK_COUNT);
        assert_eq!(sample.now, Reads { gets: 3 * count, misses: 3 * count });
        for (place, reads) in &sample.marks {
            let left = (sample.requests.len() - place) as u64;
            assert_eq!(reads.gets.abs_diff(3 * count - left), 1, "counted with the request itself");
        }
        let mut random = 1u64;
        for offset in (0..at::RECORDS + 8 * count).step_by(8) {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            map.sample_word(offset).store(random, Ordering::Relaxed);
        }
        for next in [0, 1, u64::MAX, u64::MAX - 5, 1 << 63, random] {
            map.sample_word(at::NEXT).store(next, Ordering::Relaxed);
            assert!(map.sample().unwrap().requests.len() as u64 <= count);
            map.get(&keys[0], &mut Vec::new()).unwrap();
        }
        let bench = Bench::new(1 << 20, Mode::Evict);
        assert_eq!(bench.attach(&host, 0).sample(), None, "a small region has none");
    }
}
