//! The lease table: rows that no holder and no name explains.

use crate::deadline::Deadline;
use crate::host::Host;
use crate::lease::{LIMIT, Name, STEP_NS_MAX};
use crate::lock::Owner;
use crate::map::Map;
use crate::sync::Ordering;
use crate::validate::Report;

impl<H: Host> Map<H> {
    /// Owners that cannot be, and names that are there twice.
    pub(crate) fn validate_leases(&self, report: &mut Report) {
        for index in 0..self.geometry.lease_count {
            if let Some(what) = self.lease_problem(index) {
                report.problem(|| format!("lease row {index}: {what}"));
            }
        }
    }

    fn lease_problem(&self, index: u32) -> Option<&'static str> {
        let row = self.lease_row(index);
        // Relaxed: a look; a repair looks again under the row's lock.
        let (low, high) = (row.low.load(Ordering::Relaxed), row.high.load(Ordering::Relaxed));
        let word = row.owner.load(Ordering::Relaxed);
        if low == 0 {
            return None;
        }
        match Owner::from_word(word as u32) {
            Some(owner) if owner.index() >= self.geometry.participant_count => Some("its holder is no participant"),
            None if word != 0 && word != LIMIT => Some("its owner word means nothing"),
            _ => {
                let name = Name { low, high };
                let is_second = self.lease_window(name).find(|other| other.is_named(name));
                is_second.filter(|first| !std::ptr::eq(first.low, row.low)).map(|_| "its name is there twice")
            }
        }
    }

    /// Empties the rows that [`Map::validate_leases`] complains about. Returns how many.
    pub(crate) fn mend_leases(&self, me: Owner) -> u64 {
        let mut mended = 0;
        for index in 0..self.geometry.lease_count {
            if self.lease_problem(index).is_none() {
                continue;
            }
            let row = self.lease_row(index);
            let Ok(_held) = self.lock_lease(row.lock, me, &Deadline::new(STEP_NS_MAX)) else { continue };
            if self.lease_problem(index).is_some() {
                row.rename(Name { low: 0, high: 0 });
                mended += 1;
            }
        }
        mended
    }
}
