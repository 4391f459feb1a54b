//! Work that is done before somebody needs it, by whoever has the time: a server, a thread.
//!
//! Owns: shares of reclaim and sweeps of which the caller learns whether there is more, memory
//! for the segments that are used next, and the look for participants that have died. Nothing
//! depends on it: without it each write does its part.

use crate::deadline::Deadline;
use crate::error::{Error, Result};
use crate::host::Host;
use crate::map::Map;
use crate::participant;
use crate::reclaim::Progress;
use crate::segment::Use;
use crate::types::TIMEOUT_NS_DEFAULT;

impl<H: Host> Map<H> {
    /// One share of what [`Map::maintain`] does: about `budget_bytes` bytes of reclaim ahead of
    /// need, else of the sweep of what expired. True if something was done, so that there may be
    /// more.
    ///
    /// # Errors
    /// `ReadOnly`, `Busy`.
    pub fn work(&self, budget_bytes: u64) -> Result<bool> {
        let (worker, _) = self.enter(&Deadline::new(TIMEOUT_NS_DEFAULT))?;
        Ok(!matches!(self.work_ahead(&worker, budget_bytes), Progress::Nothing(_)))
    }

    /// Gives memory to the free segments that writers take next, so that none of them waits for the
    /// kernel to find and clear it: about `budget_bytes` bytes of it at this call, and as many
    /// segments as are kept free ahead of need. Returns the bytes, 0 when all of them have memory.
    ///
    /// # Errors
    /// `ReadOnly`; `NoSpace` when the file system is full: writers then use what has memory.
    pub fn back_ahead(&self, budget_bytes: u64) -> Result<u64> {
        self.owner.ok_or(Error::ReadOnly)?;
        let segment_bytes = self.geometry.segment_bytes();
        // Writers take the lowest first. A segment that somebody takes meanwhile needs the memory
        // all the same: it is given without changing what is there.
        let free = (0..self.geometry.segment_count).filter(|index| self.row(*index).state().usage == Use::Free);
        let (mut ready, mut done) = (0, 0);
        for index in free {
            if ready >= self.free_target() || done >= budget_bytes {
                break;
            }
            let had = self.row(index).backed_bytes(&self.geometry);
            let wanted = segment_bytes.min(had.saturating_add(budget_bytes - done));
            self.back_segment(index, wanted)?;
            let has = self.row(index).backed_bytes(&self.geometry);
            done += has.saturating_sub(had);
            ready += u64::from(has >= segment_bytes);
        }
        Ok(done)
    }

    /// Frees the slots of participants that have died, and what they held of segments. Returns how many
    /// there were. Asks the kernel about each that is attached.
    ///
    /// # Errors
    /// `ReadOnly`.
    pub fn retire_the_dead(&self) -> Result<u32> {
        self.owner.ok_or(Error::ReadOnly)?;
        let (region, geometry) = (&self.region, &self.geometry);
        let occupied = (0..participant::high(region, geometry))
            .filter(|slot| participant::occupied(region, geometry, *slot))
            .filter(|slot| self.retire_if_dead(*slot));
        let retired = occupied.count() as u32;
        if retired > 0 {
            self.release_the_dead();
        }
        Ok(retired)
    }
}
