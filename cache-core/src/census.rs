//! The census: a look at the whole segment table, and which segment is reclaimed next.
//!
//! Owns: the counts by queue and use, when live data is dropped at all, and the order in
//! which segments become victims. It reads hints and changes nothing but hints.

use crate::host::Host;
use crate::layout::control;
use crate::map::Map;
use crate::reclaim::Walk;
use crate::segment::{State, Use};
use crate::slot::Queue;
use crate::sync::Ordering;

/// While live bytes (index and condemned bytes counted) stay below this share of the
/// segments, reclaim drops nothing that lives: it compacts.
const LIVE_PERCENT_KEPT: u64 = 85;
/// Oldest count of live bytes that a half-walked victim is judged by, in nanoseconds.
const CENSUS_NS_MAX: u64 = 10_000_000;

/// Class of the victims that hold nothing alive: first, because they need no room.
const ALL_DEAD: u64 = 0;
/// Class of the victims that somebody has begun to walk.
const HALF_WALKED: u64 = 1;
/// Class of the value that came last: only where there is nothing else.
const NEWEST: u64 = 6;

/// What the hints of a segment are held against, to say that all in it is dead.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    pub now_ms: u64,
    /// Segments older than this ticket were there at the last clear.
    pub cleared_ticket: u64,
}

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
    /// Ticket of the segment or run that came to the small queue last.
    newest_small: u64,
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

/// Sealed segments of one queue, less than half full, in which little is dead: they were sealed
/// early. A compaction gains the rest of one if another takes what lives in it.
#[derive(Default)]
struct Sparse {
    count: u64,
    /// Live bytes and index of the one with the least that lives.
    least: Option<(u64, u32)>,
}

impl Sparse {
    fn meet(&mut self, live: u64, index: u32) {
        self.count += 1;
        if self.least.is_none_or(|(least, _)| live < least) {
            self.least = Some((live, index));
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
        let moment = self.moment();
        let segment_bytes = self.geometry.segment_bytes();
        let mut census = Census::default();
        let is_due = self.take_ended_marks();
        for index in 0..self.geometry.segment_count {
            let row = self.row(index);
            if is_due {
                // Relaxed: a hint.
                row.sweep_due_ms().fetch_min(moment.now_ms, Ordering::Relaxed);
            }
            let state = row.state();
            let length = if state.is_run { row.run_length().min(u64::from(self.geometry.segment_count)) } else { 1 };
            // Relaxed: hints.
            let written = row.written().load(Ordering::Relaxed).min(length * segment_bytes);
            match state.usage {
                Use::Free => census.free += 1,
                // Nobody gets at it before a repair.
                Use::Damaged => census.live_bytes += segment_bytes,
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
                    if state.usage == Use::Reclaiming {
                        census.in_progress += 1;
                        census.promised_bytes += self.promised_bytes(index, state, moment);
                    }
                    let dead = self.is_all_dead(index, moment);
                    let live = if dead { 0 } else { row.live_bytes(written) };
                    let taken = if state.is_run && live > 0 { length * segment_bytes } else { live };
                    census.live_bytes += taken;
                    census.dead_bytes += (length * segment_bytes).saturating_sub(taken);
                    if state.usage != Use::Open && !state.is_run && live > 0 {
                        census.tail_bytes += segment_bytes - written;
                    }
                    match state.queue {
                        Queue::Small => {
                            census.small += length;
                            census.newest_small = census.newest_small.max(row.ticket());
                        }
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
        self.choose(&mut census, skip, evicting, moment);
        if census.choice.is_none() && !self.is_no_evict() {
            // Nothing is worth compacting: what is dead is spread too thin to be of use.
            self.choose(&mut census, skip, true, moment);
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
    fn choose(&self, census: &mut Census, skip: &[u32], evicting: bool, moment: Moment) {
        let small_first = self.is_small_over(census.small, census.small + census.main);
        // What is all dead, by the hints; the walk looks at each item.
        let emptying = if evicting { Walk::Evict } else { Walk::Compact };
        let mut sparse = [Sparse::default(), Sparse::default()];
        for index in 0..self.geometry.segment_count {
            let row = self.row(index);
            let state = row.state();
            if skip.contains(&index) {
                continue;
            }
            match state.usage {
                Use::Draining if self.is_all_dead(index, moment) => {
                    census.offer(ALL_DEAD, row.ticket(), index, emptying);
                }
                Use::Draining => {
                    let walk = self.walk_on(self.stored_walk(row.progress()), || evicting);
                    census.offer(HALF_WALKED, row.ticket(), index, walk);
                }
                Use::Sealed => {
                    // Relaxed: hints.
                    let written = row.written().load(Ordering::Relaxed);
                    let live = row.live_bytes(written);
                    if self.is_all_dead(index, moment) {
                        census.offer(ALL_DEAD, row.ticket(), index, emptying);
                    } else if !evicting {
                        // Compaction gains what is dead; it must be worth the walk.
                        if !state.is_run && written - live > self.geometry.segment_bytes() / 64 {
                            census.offer(2, live, index, Walk::Compact);
                        } else if !state.is_run && live < self.geometry.segment_bytes() / 2 {
                            sparse[state.queue as usize].meet(live, index);
                        }
                    } else if !state.is_run && live < written / 2 {
                        census.offer(2, live, index, self.walk_on(Walk::Compact, || evicting));
                    } else if row.sweep_due_ms().load(Ordering::Relaxed) <= moment.now_ms {
                        census.offer(3, row.ticket(), index, Walk::Sweep);
                    } else {
                        let preferred = (state.queue == Queue::Small) == small_first;
                        let class = match state.queue {
                            // What was stored last stays until something else is. Small items have
                            // that from the open segment that they are in.
                            Queue::Small if state.is_run && row.ticket() == census.newest_small => NEWEST,
                            _ if preferred => 4,
                            _ => 5,
                        };
                        census.offer(class, row.ticket(), index, Walk::Evict);
                    }
                }
                _ => {}
            }
        }
        for (queue, sparse) in [Queue::Small, Queue::Main].into_iter().zip(sparse) {
            if let Some((live, index)) = sparse.least
                && (sparse.count > 1 || live <= self.relocation_room(queue))
            {
                census.offer(2, live, index, Walk::Compact);
            }
        }
    }

    /// Now, and the last clear.
    pub(crate) fn moment(&self) -> Moment {
        Moment { now_ms: self.host.now_ms(), cleared_ticket: self.cleared_ticket() }
    }

    /// Segments with older tickets were there at the last clear.
    #[inline(always)]
    pub(crate) fn cleared_ticket(&self) -> u64 {
        // Relaxed: a hint.
        self.control_word(control::CLEARED_TICKET).load(Ordering::Relaxed)
    }

    /// True if every item of the segment expired, was cleared or replaced, by the hints. They
    /// err for a moment where an item is appended beside a clear.
    pub(crate) fn is_all_dead(&self, index: u32, moment: Moment) -> bool {
        self.row(index).live_bytes(u64::MAX) == 0 || self.is_bygone(index, moment)
    }

    /// True if every item of the segment expired or was cleared, by the hints.
    pub(crate) fn is_bygone(&self, index: u32, moment: Moment) -> bool {
        let row = self.row(index);
        // Relaxed: hints. The walk looks at each item anyway.
        row.latest_expiry_ms().load(Ordering::Relaxed) <= moment.now_ms || row.ticket() < moment.cleared_ticket
    }

    /// Bytes that the owner of the segment, which is in `state`, may still copy on.
    pub(crate) fn promised_bytes(&self, index: u32, state: State, moment: Moment) -> u64 {
        if state.usage != Use::Reclaiming || state.is_run {
            // Runs stay where they are.
            return 0;
        }
        let row = self.row(index);
        // Bounded: the word is not trusted, and is added up.
        let live = row.live_bytes(self.geometry.segment_bytes());
        // A sweep leaves what lives, and nobody copies what is dead.
        let copies = live > 0 && self.stored_walk(row.progress()) != Walk::Sweep && !self.is_bygone(index, moment);
        if copies { live } else { 0 }
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
