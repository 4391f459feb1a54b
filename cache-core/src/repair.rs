//! Repair: what contradicts itself becomes legal again, and as little as possible is lost.
//!
//! Owns: the order of the steps and [`Repaired`]. `evidence` reads what stripes name,
//! `segments` mends rows, lanes and walks, `stripes` mends or resets one stripe at a time.
//!
//! Every step is one that a writer, a reclaimer or a newcomer takes as well: locks are
//! taken as by everybody, slots change by bump and CAS, segments by CAS on their state.
//! So readers and writers stay at work, and a death in the middle leaves what a repair
//! can begin again with.
//!
//! Must never: take anything from a living owner, or wait without a deadline. What a
//! living owner holds is reported and left alone.

mod blocks;
mod evidence;
mod leases;
mod namespaces;
mod segments;
mod stripes;

use crate::deadline::Deadline;
use crate::error::Result;
use crate::host::Host;
use crate::layout::{control, participant as slot_at};
use crate::lock::Owner;
use crate::map::Map;
use crate::segment::Use;
use crate::sync::{Ordering, fence};
use crate::validate::Report;

/// Passes over the region: what one mends can show the next what else is wrong.
const PASSES_MAX: u32 = 4;

/// What a repair did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Repaired {
    /// Locks taken over from the dead.
    pub locks: u64,
    /// Segments whose state, length or items contradicted something, or whose owner was dead.
    pub segments: u64,
    /// Index blocks that dead owners, or nobody, held.
    pub blocks: u64,
    /// Lanes that named no segment of theirs.
    pub lanes: u64,
    /// Splits that were half done.
    pub splits: u64,
    /// Slots that named no item of their place.
    pub slots: u64,
    /// Lease rows that no holder or name explained.
    pub leases: u64,
    /// Rows of the namespace table whose name, and generation words whose count, no writer makes.
    pub namespaces: u64,
    /// Version words that were behind the items of their stripe.
    pub versions: u64,
    /// Hints that were recounted: live bytes, items, free segments.
    pub hints: u64,
    /// Stripes that were emptied, because nothing less would do.
    pub stripes_reset: Vec<u32>,
    /// Stripes that a living process kept locked; they were left alone.
    pub stripes_busy: Vec<u32>,
    /// Lanes that a living process kept locked.
    pub lanes_busy: u64,
    /// What is still wrong.
    pub left: Report,
}

impl Repaired {
    /// True if nothing contradicted anything and nothing was held by the dead. Hints may
    /// have been recounted: they are never exact.
    pub fn found_nothing(&self) -> bool {
        self.changes() == 0 && self.left.is_clean()
    }

    /// How much was changed so far, but for hints.
    fn changes(&self) -> u64 {
        let resets = self.stripes_reset.len() as u64;
        let counts = [self.locks, self.segments, self.blocks, self.lanes, self.splits, self.slots, self.leases];
        counts.iter().sum::<u64>() + self.namespaces + self.versions + resets
    }
}

impl<H: Host> Map<H> {
    /// Heals what contradicts itself: gives back what the dead held, finishes half-done
    /// splits, removes slots that name nothing, empties stripes that cannot be healed, and
    /// recounts the hints. Sound stripes keep their keys. Others may read and write
    /// meanwhile; each lock is waited for up to `timeout_ns`.
    ///
    /// # Errors
    /// `ReadOnly`; `Busy` when the threads that share the last worker do not get done.
    pub fn repair(&self, timeout_ns: u64) -> Result<Repaired> {
        let (worker, owner) = self.enter(&Deadline::new(timeout_ns))?;
        let mut repaired = Repaired::default();
        for _ in 0..PASSES_MAX {
            let changes_before = repaired.changes();
            repaired.stripes_busy.clear();
            repaired.lanes_busy = 0;
            self.mend_participants(owner);
            self.mend_backing();
            self.mend_lanes(owner, timeout_ns, &mut repaired);
            let named = self.gather();
            for index in 0..self.geometry.segment_count {
                self.mend_row(index, &named, owner, &mut repaired);
            }
            repaired.segments += u64::from(self.release_stray_parts());
            let blocks = self.blocks_by_stripe();
            for stripe in 0..self.geometry.stripe_count {
                self.mend_stripe(&worker, owner, stripe, &blocks[stripe as usize], timeout_ns, &mut repaired);
            }
            // Only once every stripe has taken what it leads to.
            if repaired.stripes_busy.is_empty() {
                self.mend_stray_blocks(&mut repaired);
            }
            repaired.leases += self.mend_leases(owner);
            repaired.namespaces += self.mend_namespaces(owner, timeout_ns);
            let named = self.gather();
            for index in 0..self.geometry.segment_count {
                self.mend_items(index, &named, owner, &mut repaired);
            }
            self.mend_hints(&mut repaired);
            repaired.left = self.validate();
            if repaired.left.is_clean() && repaired.changes() == changes_before {
                break;
            }
        }
        repaired.stripes_reset.sort_unstable();
        repaired.stripes_reset.dedup();
        Ok(repaired)
    }

    /// True if nobody acts in the name of `who` any more.
    fn is_gone(&self, who: Owner) -> bool {
        match self.owner {
            Some(me) if me == who => false,
            // We hold the liveness lock of our slot: its other incarnations are over.
            Some(me) if me.index() == who.index() => true,
            _ => who.index() >= self.geometry.participant_count || self.host.is_dead(who),
        }
    }

    /// Our own slot says who we are, scans reach every slot in use, the dead let go.
    fn mend_participants(&self, owner: Owner) {
        let slot = self.geometry.participant_offset(owner.index());
        let generation = self.region.word(slot + slot_at::GENERATION);
        // Relaxed: R5, only the holder of the slot's liveness lock changes it, and that is us.
        if !owner.is_generation(generation.load(Ordering::Relaxed)) {
            // Release: as in `participant::begin`. Owners name the low bits only.
            generation.store(owner.generation(), Ordering::Release);
        }
        // Release: as in `participant::begin`, the slot before the high-water mark.
        self.region.word(slot + slot_at::OCCUPIED).store(1, Ordering::Release);
        let occupied = |index: &u32| crate::participant::occupied(&self.region, &self.geometry, *index);
        let high = (0..self.geometry.participant_count).rev().find(occupied).map_or(0, |index| index + 1);
        // AcqRel, then SeqCst: only ever raised, as in `participant::begin`.
        self.control_word(control::PARTICIPANT_HIGH).fetch_max(u64::from(high), Ordering::AcqRel);
        fence(Ordering::SeqCst);
        for index in (0..high).filter(occupied) {
            self.retire_if_dead(index);
        }
    }

    /// The free hint counts, and no clear happened after the last ticket.
    fn mend_hints(&self, repaired: &mut Repaired) {
        let states = || (0..self.geometry.segment_count).map(|index| (self.row(index), self.row(index).state()));
        let free = states().filter(|(_, state)| state.usage == Use::Free).count() as u64;
        let moment = self.moment();
        let promised = |(index, (_, state))| self.promised_bytes(index, state, moment);
        let free = self.unpromised(free, (0..).zip(states()).map(promised).sum());
        // Relaxed, all: hints.
        if self.free_hint().load(Ordering::Relaxed) != free {
            self.free_hint().store(free, Ordering::Relaxed);
            repaired.hints += 1;
        }
        let cleared = self.control_word(control::CLEARED_TICKET);
        if cleared.load(Ordering::Relaxed) > self.control_word(control::TICKET).load(Ordering::Relaxed) {
            cleared.store(0, Ordering::Relaxed);
            repaired.hints += 1;
        }
    }
}
