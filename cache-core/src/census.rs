//! The census: a look at the whole segment table, and which segment is reclaimed next.
//!
//! Owns: the counts by queue and use, when live data is dropped at all, and the order in
//! which segments become victims. It reads hints and changes nothing but hints.

use crate::host::Host;
use crate::layout::control;
use crate::map::Map;
use crate::reclaim::Walk;
use crate::segment::Use;
use crate::slot::Queue;
use crate::sync::Ordering;

/// While live bytes (index and condemned bytes counted) stay below this share of the
/// segments, reclaim drops nothing that lives: it compacts.
const LIVE_PERCENT_KEPT: u64 = 85;
/// Oldest count of live bytes that a half-walked victim is judged by, in nanoseconds.
const CENSUS_NS_MAX: u64 = 10_000_000;

/// Class of the victims that hold nothing alive.
const ALL_DEAD: u64 = 1;

/// What a look at the whole table found.
#[derive(Default)]
pub(crate) struct Census {
    pub free: u64,
    pub small: u64,
    pub main: u64,
    pub index: u64,
    pub condemned: u64,
    /// Bytes that would be lost by an eviction: live items, index, condemned.
    pub live_bytes: u64,
    pub dead_bytes: u64,
    /// Bytes at the end of sealed segments that no item fitted into.
    pub tail_bytes: u64,
    /// Victims in the hands of others.
    pub in_progress: u64,
    /// Bytes in them that may still be copied on.
    pub promised_bytes: u64,
    pub choice: Option<(u64, u64, u32, Walk)>,
}

impl Census {
    /// True if the choice needs room that is promised to others.
    pub fn is_short(&self, segment_bytes: u64) -> bool {
        let needs_room = matches!(self.choice, Some((class, .., Walk::Compact)) if class != ALL_DEAD);
        needs_room && self.in_progress > 0 && self.free <= self.promised_bytes.div_ceil(segment_bytes)
    }

    fn offer(&mut self, class: u64, score: u64, index: u32, walk: Walk) {
        if self.choice.is_none_or(|(c, s, ..)| (class, score) < (c, s)) {
            self.choice = Some((class, score, index, walk));
        }
    }
}

impl<H: Host> Map<H> {
    /// What is left of `free` segments once those who walk victims have copied `bytes` bytes.
    pub(crate) fn unpromised(&self, free: u64, bytes: u64) -> u64 {
        free.saturating_sub(bytes.div_ceil(self.geometry.segment_bytes()))
    }

    /// Counts the table and chooses the best victim outside `skip`: first the counts,
    /// because they decide how to choose.
    pub(crate) fn census(&self, skip: &[u32]) -> Census {
        let now_ms = self.host.now_ms();
        let segment_bytes = self.geometry.segment_bytes();
        // Relaxed: a hint.
        let cleared = self.control_word(control::CLEARED_TICKET).load(Ordering::Relaxed);
        let mut census = Census::default();
        for index in 0..self.geometry.segment_count {
            let row = self.row(index);
            let state = row.state();
            let length = if state.is_run { row.run_length().min(u64::from(self.geometry.segment_count)) } else { 1 };
            // Relaxed: hints.
            let written = row.written().load(Ordering::Relaxed).min(length * segment_bytes);
            match state.usage {
                Use::Free | Use::Damaged => census.free += 1,
                Use::Index => {
                    census.index += 1;
                    census.live_bytes += segment_bytes;
                }
                Use::Condemned => {
                    census.condemned += length;
                    census.live_bytes += length * segment_bytes;
                }
                Use::Claimed => census.live_bytes += if state.is_run { length * segment_bytes } else { 0 },
                Use::RunPart => {}
                Use::Open | Use::Sealed | Use::Draining | Use::Reclaiming => {
                    census.in_progress += u64::from(state.usage == Use::Reclaiming);
                    census.promised_bytes += row.promised_bytes(state, &self.geometry);
                    let dead = self.is_all_dead(index, now_ms, cleared);
                    let live = if dead { 0 } else { row.live_bytes(written) };
                    let taken = if state.is_run && live > 0 { length * segment_bytes } else { live };
                    census.live_bytes += taken;
                    census.dead_bytes += (length * segment_bytes).saturating_sub(taken);
                    if state.usage != Use::Open && !state.is_run && live > 0 {
                        census.tail_bytes += segment_bytes - written;
                    }
                    match state.queue {
                        Queue::Small => census.small += length,
                        Queue::Main => census.main += length,
                    }
                }
            }
        }
        // The end of a segment into which the next item did not fit holds nothing. A file
        // system without space is a smaller region: it evicts early.
        let taken_bytes = census.live_bytes + census.tail_bytes;
        let is_tight = taken_bytes * 100 > self.geometry.data_bytes() * LIVE_PERCENT_KEPT || self.is_compaction_vain();
        // Relaxed: hints of this process.
        self.was_tight.store(u64::from(is_tight), Ordering::Relaxed);
        self.census_ns.store(self.host.monotonic_ns(), Ordering::Relaxed);
        let evicting = !self.is_no_evict() && is_tight;
        self.choose(&mut census, skip, evicting, now_ms, cleared);
        if census.choice.is_none() && !self.is_no_evict() {
            // Nothing is worth compacting: what is dead is spread too thin to be of use.
            self.choose(&mut census, skip, true, now_ms, cleared);
        }
        // A read-only attachment counts as well, but has nowhere to write it down.
        if self.owner.is_some() {
            // Relaxed: a hint.
            self.free_hint().store(self.unpromised(census.free, census.promised_bytes), Ordering::Relaxed);
        }
        // Relaxed: a hint.
        self.condemned_hint.store(census.condemned, Ordering::Relaxed);
        census
    }

    /// Offers every segment outside `skip` that could be a victim.
    fn choose(&self, census: &mut Census, skip: &[u32], evicting: bool, now_ms: u64, cleared: u64) {
        let small_first = self.is_small_over(census.small, census.small + census.main);
        for index in 0..self.geometry.segment_count {
            let row = self.row(index);
            let state = row.state();
            if skip.contains(&index) {
                continue;
            }
            match state.usage {
                Use::Draining => {
                    let walk = self.walk_on(self.stored_walk(row.progress()), || evicting);
                    census.offer(0, row.ticket(), index, walk);
                }
                Use::Sealed => {
                    // Relaxed: hints.
                    let written = row.written().load(Ordering::Relaxed);
                    let live = row.live_bytes(written);
                    if self.is_all_dead(index, now_ms, cleared) {
                        // By the hints; the walk looks at each item.
                        let walk = if evicting { Walk::Evict } else { Walk::Compact };
                        census.offer(ALL_DEAD, row.ticket(), index, walk);
                    } else if !evicting {
                        // Compaction gains what is dead; it must be worth the walk.
                        if !state.is_run && written - live > self.geometry.segment_bytes() / 64 {
                            census.offer(2, live, index, Walk::Compact);
                        }
                    } else if !state.is_run && live < written / 2 {
                        census.offer(2, live, index, self.walk_on(Walk::Compact, || evicting));
                    } else if row.sweep_due_ms().load(Ordering::Relaxed) <= now_ms {
                        census.offer(3, row.ticket(), index, Walk::Sweep);
                    } else {
                        let preferred = (state.queue == Queue::Small) == small_first;
                        census.offer(if preferred { 4 } else { 5 }, row.ticket(), index, Walk::Evict);
                    }
                }
                _ => {}
            }
        }
    }

    /// True if every item of the segment expired, was cleared or replaced, by the hints.
    fn is_all_dead(&self, index: u32, now_ms: u64, cleared_ticket: u64) -> bool {
        let row = self.row(index);
        // Relaxed: hints. The walk looks at each item anyway.
        let latest = row.latest_expiry_ms().load(Ordering::Relaxed);
        row.live_bytes(u64::MAX) == 0 || latest <= now_ms || row.ticket() < cleared_ticket
    }

    /// True if live bytes leave no room for compaction, by a count of not long ago.
    pub(crate) fn is_tight(&self) -> bool {
        // Relaxed, all: hints of this process.
        let age_ns = self.host.monotonic_ns().saturating_sub(self.census_ns.load(Ordering::Relaxed));
        if age_ns > CENSUS_NS_MAX {
            self.census(&[]);
        }
        self.was_tight.load(Ordering::Relaxed) != 0
    }
}
