//! The segment table: what each segment is used for, and by whom.
//!
//! ```text
//! state word:  63                32 31      18  17    16     15..8   7..0
//!              +-------------------+----------+-----+------+-------+-------+
//!              | owner or run head | (0)      | run | main | lane  | state |
//!              +-------------------+----------+-----+------+-------+-------+
//!
//! state       meaning                                    next (always by CAS on this word)
//! Free        nobody's                                   Claimed(me)
//! Claimed     being prepared by its owner                Open(lane), Index, Sealed|run, Free
//! Open        a lane appends to it                       Sealed (under the lane's lock)
//! Sealed      full; items are read                       Reclaiming(me)
//! Reclaiming  its owner walks it                         Draining, Sealed, Condemned, Free
//! Draining    half walked, nobody's                      Reclaiming(me)
//! Condemned   unlinked, somebody still reads             Reclaiming(me)
//! Index       index blocks, for ever                     -
//! RunPart     a later segment of the run of its head     Free
//! ```
//!
//! A dead owner's Claimed becomes Free, its Reclaiming becomes Sealed and is walked anew.
//! `sequence += 1` always comes before Free.
//!
//! Owns: the rows, the search for a free segment. Must never be believed for counts:
//! live bytes and due times are hints, recounted when the segment is walked.

use crate::error::{Error, Result};
use crate::host::Host;
use crate::layout::{Geometry, Mode, control, segment as at};
use crate::lock::Owner;
use crate::map::Map;
use crate::region::Region;
use crate::slot::Queue;
use crate::sync::{AtomicU64, Ordering};

/// What a segment is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Use {
    Free = 0,
    Claimed = 1,
    Open = 2,
    Sealed = 3,
    Reclaiming = 4,
    Draining = 5,
    Condemned = 6,
    Index = 7,
    RunPart = 8,
    /// No writer stores such a word.
    Damaged = 255,
}

/// A state word, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct State {
    pub usage: Use,
    pub lane: u8,
    pub queue: Queue,
    pub is_run: bool,
    /// Owner word, or the index of a run's head.
    pub who: u32,
}

impl State {
    pub const FREE: State = State { usage: Use::Free, lane: 0, queue: Queue::Small, is_run: false, who: 0 };

    pub fn from_word(word: u64) -> State {
        let usage = match word as u8 {
            0 => Use::Free,
            1 => Use::Claimed,
            2 => Use::Open,
            3 => Use::Sealed,
            4 => Use::Reclaiming,
            5 => Use::Draining,
            6 => Use::Condemned,
            7 => Use::Index,
            8 => Use::RunPart,
            _ => Use::Damaged,
        };
        State {
            usage,
            lane: (word >> 8) as u8,
            queue: if word & (1 << 16) != 0 { Queue::Main } else { Queue::Small },
            is_run: word & (1 << 17) != 0,
            who: (word >> 32) as u32,
        }
    }

    pub fn to_word(self) -> u64 {
        self.usage as u64
            | u64::from(self.lane) << 8
            | u64::from(self.queue == Queue::Main) << 16
            | u64::from(self.is_run) << 17
            | u64::from(self.who) << 32
    }

    /// True if writers make `word`, of which this is the meaning.
    pub fn is_made(self, word: u64) -> bool {
        let kept = match self.usage {
            Use::Free | Use::Index => State { usage: self.usage, ..State::FREE },
            Use::RunPart => State { usage: self.usage, who: self.who, ..State::FREE },
            Use::Open => State { is_run: false, who: 0, ..self },
            Use::Claimed | Use::Reclaiming => State { lane: 0, ..self },
            Use::Sealed | Use::Draining | Use::Condemned => State { lane: 0, who: 0, ..self },
            Use::Damaged => return false,
        };
        kept.to_word() == word
    }

    /// The same segment, used otherwise and owned by nobody.
    pub fn to(self, usage: Use) -> State {
        State { usage, who: 0, ..self }
    }

    pub fn owned(self, usage: Use, owner: Owner) -> State {
        State { usage, who: owner.word(), ..self }
    }

    /// The participant that owns the segment for the moment, if one does.
    pub fn owner(self) -> Option<Owner> {
        matches!(self.usage, Use::Claimed | Use::Reclaiming).then(|| Owner::from_word(self.who)).flatten()
    }
}

const TICKET_BITS: u32 = 52;
const TICKET_MASK: u64 = (1 << TICKET_BITS) - 1;
const BACKED_UNITS: u64 = 4096 - 1;

/// A row of the table.
#[derive(Clone, Copy)]
pub(crate) struct Row<'a>(&'a [AtomicU64; 8]);

impl<'a> Row<'a> {
    pub fn new(region: &'a Region, geometry: &Geometry, index: u32) -> Row<'a> {
        Row(region.words(geometry.row_offset(index)))
    }

    fn at(self, offset: u64) -> &'a AtomicU64 {
        &self.0[offset as usize / 8]
    }

    pub fn state_word(self) -> u64 {
        // Acquire: pairs with the AcqRel of `change`; who sees a state sees what came before it.
        self.at(at::STATE).load(Ordering::Acquire)
    }

    pub fn state(self) -> State {
        State::from_word(self.state_word())
    }

    /// Changes the state; false if it is not `from` any more.
    pub fn change(self, from: u64, to: State) -> bool {
        // CAS ok = AcqRel: hands the segment on with everything done to it.
        // CAS err = Relaxed: nothing was taken. [loom: reclaim]
        self.at(at::STATE).compare_exchange(from, to.to_word(), Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    pub fn sequence(self) -> &'a AtomicU64 {
        self.at(at::SEQUENCE)
    }
    pub fn written(self) -> &'a AtomicU64 {
        self.at(at::WRITTEN)
    }
    pub fn progress(self) -> &'a AtomicU64 {
        self.at(at::PROGRESS)
    }
    /// Segments of a run; only for heads. Not checked.
    pub fn run_length(self) -> u64 {
        // Relaxed: checked by the caller, ordered by its load of the state.
        (self.progress().load(Ordering::Relaxed) >> 32).max(1)
    }
    pub fn live(self) -> &'a AtomicU64 {
        self.at(at::LIVE)
    }
    pub fn sweep_due_ms(self) -> &'a AtomicU64 {
        self.at(at::SWEEP_DUE_MS)
    }
    pub fn latest_expiry_ms(self) -> &'a AtomicU64 {
        self.at(at::LATEST_EXPIRY_MS)
    }

    /// Live bytes as the hint says, between 0 and what was written.
    pub fn live_bytes(self, written: u64) -> u64 {
        // Relaxed: a hint. It may have gone below zero for a moment.
        let live = self.live().load(Ordering::Relaxed);
        if (live as i64) < 0 { 0 } else { live.min(written) }
    }

    pub fn add_live(self, bytes: u64) {
        // Relaxed: a hint.
        self.live().fetch_add(bytes, Ordering::Relaxed);
    }

    pub fn sub_live(self, bytes: u64) {
        // Relaxed: a hint.
        self.live().fetch_sub(bytes, Ordering::Relaxed);
    }

    pub fn ticket(self) -> u64 {
        // Relaxed: an order of preference.
        self.at(at::TICKET).load(Ordering::Relaxed) & TICKET_MASK
    }

    pub fn set_ticket(self, ticket: u64) {
        // Relaxed: an order of preference. In one step, because the backed part beside it is
        // raised by others.
        let set = |was: u64| Some(was & !TICKET_MASK | ticket & TICKET_MASK);
        let _ = self.at(at::TICKET).fetch_update(Ordering::Relaxed, Ordering::Relaxed, set);
    }

    /// Bytes from the segment's start that have memory of their own.
    pub fn backed_bytes(self, geometry: &Geometry) -> u64 {
        // Acquire: pairs with the Release in `set_backed_bytes`.
        let units = self.at(at::TICKET).load(Ordering::Acquire) >> TICKET_BITS;
        if units == BACKED_UNITS { geometry.segment_bytes() } else { (units << geometry.segment_shift) >> 12 }
    }

    /// True if the first `bytes` bytes, of the segment at most, have memory.
    pub fn has_memory(self, geometry: &Geometry, bytes: u64) -> bool {
        self.backed_bytes(geometry) >= bytes.min(geometry.segment_bytes())
    }

    pub fn set_backed_bytes(self, geometry: &Geometry, bytes: u64) {
        let units = ((bytes << 12) >> geometry.segment_shift).min(BACKED_UNITS);
        // Release: the memory is there before anybody relies on it. Only ever raised: two
        // writers may extend one segment at once, and the slower must not take it back.
        let raise = |was: u64| Some(was & TICKET_MASK | (was >> TICKET_BITS).max(units) << TICKET_BITS);
        let _ = self.at(at::TICKET).fetch_update(Ordering::Release, Ordering::Relaxed, raise);
    }

    /// Notes that an item with this expiry goes into the segment.
    pub fn note_expiry(self, expires_at_ms: u64) {
        // Relaxed: hints; both only move towards "look earlier" and "keep longer".
        if self.latest_expiry_ms().load(Ordering::Relaxed) < expires_at_ms {
            self.latest_expiry_ms().fetch_max(expires_at_ms, Ordering::Relaxed);
        }
        if expires_at_ms < self.sweep_due_ms().load(Ordering::Relaxed) {
            self.sweep_due_ms().fetch_min(expires_at_ms, Ordering::Relaxed);
        }
    }

    /// Makes the row that of an empty segment, but for its progress, which says how long a run
    /// is: its parts would be strays without it. Only its owner calls this. [loom: run]
    pub fn reset(self, ticket: u64) {
        // Relaxed: the state change that follows publishes them.
        self.written().store(0, Ordering::Relaxed);
        self.live().store(0, Ordering::Relaxed);
        self.sweep_due_ms().store(u64::MAX, Ordering::Relaxed);
        self.latest_expiry_ms().store(0, Ordering::Relaxed);
        self.set_ticket(ticket);
    }
}

/// Tickets that can be drawn in a millisecond without running ahead of the clock, as a power
/// of two.
const TICKET_MS_SHIFT: u32 = 10;

/// When a ticket was drawn, on the region's clock; later if more were drawn than there is time.
pub(crate) fn ticket_ms(ticket: u64) -> u64 {
    ticket >> TICKET_MS_SHIFT
}

/// Segments that only relocation may take, so that reclaim always has where to copy.
pub(crate) const RESERVE_COUNT: u32 = 2;
/// Most of the region that the index may take, in percent. Items of a few bytes need
/// nearly as much index as data.
const INDEX_PERCENT_MAX: u32 = 50;

/// What a segment is wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// New items: leaves the reserve alone.
    Data,
    /// Items copied on by reclaim: may take the reserve.
    Relocation,
    /// Index blocks: from the top end, so that runs find room below.
    Index,
}

impl<H: Host> Map<H> {
    #[inline]
    pub(crate) fn row(&self, index: u32) -> Row<'_> {
        Row::new(&self.region, &self.geometry, index)
    }

    /// A ticket greater than all before, from which [`ticket_ms`] tells when it was drawn.
    pub(crate) fn next_ticket(&self) -> u64 {
        let word = self.region.word(self.geometry.control_offset + control::TICKET);
        // Relaxed, both: an order of preference; uniqueness is all that is asked.
        word.fetch_max(self.host.now_ms().min(TICKET_MASK >> TICKET_MS_SHIFT) << TICKET_MS_SHIFT, Ordering::Relaxed);
        word.fetch_add(1, Ordering::Relaxed).wrapping_add(1)
    }

    /// Notes that an unexpired item of this segment is dropped to make room.
    pub(crate) fn note_evicted_age(&self, row: Row<'_>) {
        let age_ms = self.host.now_ms().saturating_sub(ticket_ms(row.ticket()));
        let word = self.control_word(control::EVICTED_AGE_MS);
        // Relaxed, both: a statistic. The items of a segment go within a few milliseconds.
        if word.load(Ordering::Relaxed) != age_ms {
            word.store(age_ms, Ordering::Relaxed);
        }
    }

    pub(crate) fn free_hint(&self) -> &AtomicU64 {
        self.region.word(self.geometry.control_offset + control::FREE_HINT)
    }

    /// Free segments that are not promised to reclaimers, as far as is known.
    pub(crate) fn free_segments_hint(&self) -> u64 {
        // Relaxed: a hint. It may have gone below zero for a moment.
        (self.free_hint().load(Ordering::Relaxed) as i64).clamp(0, self.geometry.segment_count.into()) as u64
    }

    /// Claims a free segment, with memory for its first `bytes` bytes. `None` if none is free
    /// for this purpose.
    ///
    /// # Errors
    /// `NoSpace` when segments are free but the file system has no memory for any.
    pub(crate) fn take_free(&self, purpose: Purpose, bytes: u64, owner: Owner) -> Result<Option<u32>> {
        let (mut free, mut promised_bytes) = (0, 0);
        let moment = self.moment();
        let mut index_count = 0;
        // Two choices: segments that have memory already, and those that do not.
        let (mut backed, mut bare) = (None, None);
        for index in 0..self.geometry.segment_count {
            let row = self.row(index);
            let state = row.state();
            match state.usage {
                Use::Free => {
                    free += 1u64;
                    let choice = if row.has_memory(&self.geometry, bytes) { &mut backed } else { &mut bare };
                    if choice.is_none() || purpose == Purpose::Index {
                        *choice = Some(index);
                    }
                }
                Use::Index => index_count += 1,
                Use::Reclaiming => promised_bytes += self.promised_bytes(index, state, moment),
                _ => {}
            }
        }
        // Relaxed: a hint.
        let unpromised = self.unpromised(free, promised_bytes);
        self.free_hint().store(unpromised, Ordering::Relaxed);
        let is_short = match purpose {
            Purpose::Relocation => free == 0,
            Purpose::Data | Purpose::Index => unpromised <= u64::from(RESERVE_COUNT),
        };
        if is_short {
            return Ok(None);
        }
        if purpose == Purpose::Index && index_count * 100 >= self.geometry.segment_count * INDEX_PERCENT_MAX {
            return Ok(None);
        }
        // The index looks for height first, data for memory that is there already.
        let choices = if purpose == Purpose::Index { [bare.max(backed), backed] } else { [backed, bare] };
        let mut refused = None;
        for index in choices.into_iter().flatten() {
            match self.claim_free(index, bytes, owner) {
                Ok(true) => return Ok(Some(index)),
                Ok(false) => {}
                Err(error) => refused = Some(error),
            }
        }
        // Somebody was faster, or there is no memory: look at every free segment once.
        for index in 0..self.geometry.segment_count {
            if self.row(index).state().usage == Use::Free
                && (refused.is_none() || self.row(index).has_memory(&self.geometry, bytes))
            {
                match self.claim_free(index, bytes, owner) {
                    Ok(true) => return Ok(Some(index)),
                    Ok(false) => {}
                    Err(error) => refused = Some(error),
                }
            }
        }
        refused.map_or(Ok(None), Err)
    }

    fn claim_free(&self, index: u32, bytes: u64, owner: Owner) -> Result<bool> {
        let row = self.row(index);
        let from = row.state_word();
        if State::from_word(from).usage != Use::Free || !row.change(from, State::FREE.owned(Use::Claimed, owner)) {
            return Ok(false);
        }
        // Relaxed: a hint.
        self.free_hint().fetch_sub(1, Ordering::Relaxed);
        if let Err(error) = self.back_segment(index, bytes) {
            self.release_claimed(index);
            return Err(error);
        }
        Ok(true)
    }

    /// Makes sure that the first `bytes` bytes of the segment have memory.
    pub(crate) fn back_segment(&self, index: u32, bytes: u64) -> Result<()> {
        let row = self.row(index);
        let chunk_bytes = self.geometry.chunk_bytes();
        let bytes = bytes.min(self.geometry.segment_bytes()).next_multiple_of(chunk_bytes);
        let mut done = row.backed_bytes(&self.geometry);
        while done < bytes {
            let next = (done / chunk_bytes + 1) * chunk_bytes;
            let offset = self.geometry.segment_offset(index) + done;
            self.host.back(offset, next - done)?;
            // Whole chunks only: what came before this one is what the row says.
            if done.is_multiple_of(chunk_bytes) {
                self.readable.note_backed(offset);
            }
            row.set_backed_bytes(&self.geometry, next);
            done = next;
        }
        Ok(())
    }

    /// Gives a claimed segment, whose items nobody can reach, back as free.
    pub(crate) fn release_claimed(&self, index: u32) {
        let row = self.row(index);
        let from = row.state_word();
        self.free_segment(index, from);
    }

    /// Ends the incarnation of a segment that nobody can reach. False if the state is
    /// not `from` any more.
    pub(crate) fn free_segment(&self, index: u32, from: u64) -> bool {
        let row = self.row(index);
        // Release: readers that still copy from here compare the sequence; the bump comes
        // before anything the next owner writes. AcqRel of the state change keeps it there.
        row.sequence().fetch_add(1, Ordering::AcqRel);
        let freed = row.change(from, State::FREE);
        if freed {
            // Relaxed: a hint.
            self.free_hint().fetch_add(1, Ordering::Relaxed);
        }
        freed
    }

    /// Segments that should be free ahead of need.
    pub(crate) fn free_target(&self) -> u64 {
        u64::from((self.geometry.segment_count / 64).clamp(RESERVE_COUNT + 2, 64))
    }

    /// The error for a region without room.
    pub(crate) fn full(&self, bytes: u64) -> Error {
        Error::Full { bytes, region_bytes: self.geometry.region_bytes }
    }

    pub(crate) fn is_no_evict(&self) -> bool {
        self.geometry.mode == Mode::NoEvict
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_survives_its_word() {
        for usage in [Use::Free, Use::Claimed, Use::Open, Use::Sealed, Use::Reclaiming, Use::RunPart] {
            let state = State { usage, lane: 15, queue: Queue::Main, is_run: true, who: 0x3fff_ffff };
            assert_eq!(State::from_word(state.to_word()), state);
        }
        assert_eq!(State::from_word(0), State::FREE);
    }
}
