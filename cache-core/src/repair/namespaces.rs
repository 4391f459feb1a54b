//! The namespace table and the words of the tags: what cannot be there, and what becomes of it.
//!
//! A number is given to a name for ever, because the marks of items name it. So a row is never
//! taken out: one whose name is lost gets another, under which its keys are found again.

use std::collections::HashSet;

use crate::deadline::Deadline;
use crate::fill;
use crate::host::Host;
use crate::layout::{NAMESPACE_NAME_BYTES, block, namespace as at};
use crate::lock::{self, Held, Owner};
use crate::map::Map;
use crate::sync::Ordering;
use crate::validate::Report;

/// What marks can name of a generation.
const GENERATION_MASK: u64 = (1 << 44) - 1;

impl<H: Host> Map<H> {
    /// Names that are none, that are there twice, or stand behind a free row; and generations
    /// that no number of clears and evictions reaches.
    pub(crate) fn validate_namespaces(&self, report: &mut Report) {
        for (number, what) in self.namespace_problems() {
            report.problem(|| format!("namespace row {number}: {what}"));
        }
        for number in self.endless_generations() {
            report.problem(|| format!("generation word {number}: no clear and no eviction counted so far"));
        }
    }

    fn namespace_problems(&self) -> Vec<(u32, &'static str)> {
        let mut problems = Vec::new();
        let mut names = HashSet::new();
        // Backwards, since a row is there to be taken as long as none behind it is.
        let mut is_one_behind = false;
        for number in (0..self.geometry.namespace_count).rev() {
            // Acquire: as in `namespace_name`.
            let bytes = self.namespace_word(number, at::NAME_BYTES).load(Ordering::Acquire);
            match (number, self.namespace_name(number)) {
                (0, _) if bytes != 0 => problems.push((0, "the default namespace has a name")),
                (0, _) => {}
                (_, Some(name)) => {
                    is_one_behind = true;
                    if !names.insert(name) {
                        problems.push((number, "its name is there twice"));
                    }
                }
                (_, None) if bytes != 0 => problems.push((number, "its name has a length that no name has")),
                (_, None) if is_one_behind => problems.push((number, "it has no name, and rows behind it have")),
                (_, None) => {}
            }
        }
        problems
    }

    fn endless_generations(&self) -> Vec<u32> {
        let is_endless = |number: &u32| {
            // Relaxed: only looked at.
            self.generation_word(*number).is_some_and(|word| word.load(Ordering::Relaxed) >= block::COUNT_END)
        };
        (0..self.geometry.namespace_count + self.geometry.tag_count).filter(is_endless).collect()
    }

    /// Ends what [`Map::validate_namespaces`] complains about. Returns how many rows and words.
    pub(super) fn mend_namespaces(&self, me: Owner, timeout_ns: u64) -> u64 {
        let mut mended = 0;
        for number in self.endless_generations() {
            if let Some(word) = self.generation_word(number) {
                // AcqRel: as in `evict_tag`. What marks say of it stays.
                word.fetch_and(GENERATION_MASK, Ordering::AcqRel);
                mended += 1;
            }
        }
        if self.namespace_problems().is_empty() {
            return mended;
        }
        let lock = self.namespaces_lock();
        if lock::acquire_until(lock, me, &self.host, &Deadline::new(timeout_ns)).is_err() {
            return mended;
        }
        let _held = Held::new(lock, &self.host);
        for (number, _) in self.namespace_problems() {
            let length = match number {
                0 => 0,
                _ => self.rename_namespace(number),
            };
            // Release: as in `namespace`.
            self.namespace_word(number, at::NAME_BYTES).store(length, Ordering::Release);
            mended += 1;
        }
        mended
    }

    /// Gives a row a name that no other has; its length. The lock of the table is held.
    fn rename_namespace(&self, number: u32) -> u64 {
        let is_taken = |name: &str| {
            (1..self.geometry.namespace_count)
                .any(|other| self.namespace_name(other).is_some_and(|found| found == name.as_bytes()))
        };
        let mut names = (0..=u64::from(self.geometry.namespace_count)).map(|round| format!("lost-{number}-{round}"));
        // There are more of them than rows.
        let name = names.find(|name| !is_taken(name)).unwrap_or_default();
        let offset = self.geometry.namespaces_offset + at::BYTES * u64::from(number) + at::NAME;
        fill::copy_in(self.region.slice(offset, NAMESPACE_NAME_BYTES / 8), &[name.as_bytes()]);
        name.len() as u64
    }
}
