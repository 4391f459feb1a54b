//! The check of the whole structure, changing nothing.
//!
//! Owns: [`Report`]. Property tests, crash tests and the `verify` command call it. While
//! others write, what it counts is a moving picture; each contradiction is looked at
//! twice before it is reported.

use std::collections::HashSet;

use crate::hash::{Hash, TAG_BITS, prefix};
use crate::host::Host;
use crate::layout::{DEPTH_MAX, block};
use crate::map::Map;
use crate::segment::Use;
use crate::slot::{Bucket, Link, Slot, moved};
use crate::sync::Ordering;

/// Contradictions that are spelled out; the others are only counted.
const PROBLEMS_MAX: usize = 100;

/// What a check of a region found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Contradictions, in words; at most 100 of them.
    pub problems: Vec<String>,
    /// All contradictions.
    pub problem_count: u64,
    /// Slots that name an item that lives.
    pub items: u64,
    /// Slots that name an item that expired or was cleared.
    pub dead_items: u64,
    /// Bytes of the items that live.
    pub live_bytes: u64,
    /// Index blocks that stripes lead to.
    pub blocks: u64,
    /// Index blocks by state: in use, free, parts of directories.
    pub index_blocks: [u64; 3],
    /// Segments by use: free, claimed, open, sealed, reclaiming, draining, condemned,
    /// index, parts of runs, damaged.
    pub segments: [u64; 10],
}

impl Report {
    /// True if nothing contradicts anything.
    pub fn is_clean(&self) -> bool {
        self.problem_count == 0
    }

    fn problem(&mut self, text: impl FnOnce() -> String) {
        self.problem_count += 1;
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(text());
        }
    }
}

impl<H: Host> Map<H> {
    /// Checks every stripe, block, slot and segment against each other.
    pub fn validate(&self) -> Report {
        let mut report = Report { index_blocks: self.count_blocks(), ..Report::default() };
        for index in 0..self.geometry.stripe_count {
            self.validate_stripe(index, &mut report);
        }
        self.validate_segments(&mut report);
        report
    }

    fn validate_stripe(&self, stripe_index: u32, report: &mut Report) {
        let Some((root, entries)) = self.directory(stripe_index) else {
            return report.problem(|| format!("stripe {stripe_index}: its root names no directory"));
        };
        let depth = Self::directory_depth(root);
        let mut tag = 0;
        while tag >> TAG_BITS == 0 {
            // Acquire: as every reader.
            let entry = Link(self.region.word(entries + 8 * prefix(tag, depth)).load(Ordering::Acquire));
            if entry.0 == 0 {
                if tag != 0 {
                    report.problem(|| format!("stripe {stripe_index}: entry {} is empty", prefix(tag, depth)));
                }
                return;
            }
            if entry.depth() > depth || !self.is_block(entry.offset()) {
                return report
                    .problem(|| format!("stripe {stripe_index}: entry {} names no block", prefix(tag, depth)));
            }
            if !self.is_block_of(entry.offset(), stripe_index) {
                report.problem(|| format!("stripe {stripe_index}: the block at {} is not its own", entry.offset()));
            }
            report.blocks += 1;
            // Within a split that is being finished, the first entries name a child already: of
            // the parent in the next entry only the rest is left.
            let mut keys = HashSet::new();
            for number in 0..self.geometry.bucket_count() {
                self.validate_bucket(stripe_index, (entry.offset(), entry.depth()), tag, number, &mut keys, report);
            }
            let width = 1 << (TAG_BITS - entry.depth());
            tag = (tag & !(width - 1)) + width;
        }
    }

    /// Bucket `number` of `block`, or where it moved, for tags from `from` on.
    fn validate_bucket(
        &self,
        stripe: u32,
        (at, depth): (u64, u32),
        from: u64,
        number: u64,
        keys: &mut HashSet<Vec<u8>>,
        report: &mut Report,
    ) {
        let width = 1u64 << (TAG_BITS - depth);
        let tag = from & !(width - 1);
        let bucket = Bucket(self.region.words(at + block::BUCKETS + block::BUCKET_BYTES * number));
        // Acquire: as every reader.
        if moved(bucket.counter().load(Ordering::Acquire)) {
            for (half, which) in [block::CHILD0, block::CHILD1].into_iter().enumerate() {
                let child_tag = tag + half as u64 * (width / 2);
                // Acquire: the child as its maker left it.
                let child = self.region.word(at + which).load(Ordering::Acquire);
                if depth >= DEPTH_MAX || !self.is_block(child) {
                    report.problem(|| format!("stripe {stripe}: block {at} moved, and its children are no blocks"));
                } else if child_tag + width / 2 > from {
                    self.validate_bucket(stripe, (child, depth + 1), from.max(child_tag), number, keys, report);
                }
            }
            return;
        }
        for slot in bucket.slots() {
            let word = Slot(slot.load(Ordering::Acquire));
            if word.0 != 0 {
                let problem = self.validate_slot(stripe, word, depth, tag, number, keys, report);
                if let Some(problem) = problem
                    && slot.load(Ordering::Acquire) == word.0
                {
                    report.problem(|| format!("stripe {stripe}, block {at}, bucket {number}: {problem}"));
                }
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "one slot and where it stands")]
    fn validate_slot(
        &self,
        stripe_index: u32,
        word: Slot,
        depth: u32,
        tag: u64,
        number: u64,
        keys: &mut HashSet<Vec<u8>>,
        report: &mut Report,
    ) -> Option<String> {
        if prefix(word.tag(), depth) != prefix(tag, depth) {
            return Some(format!(
                "a slot with tag {:x} is in the block of prefix {:x}",
                word.tag(),
                prefix(tag, depth)
            ));
        }
        let Some(candidate) = self.candidate(word) else {
            return Some(format!("a slot names {}, where no item is", word.offset()));
        };
        let state = self.row(candidate.segment).state();
        if !matches!(state.usage, Use::Open | Use::Sealed | Use::Reclaiming | Use::Draining) {
            return Some(format!("a slot names an item in segment {}, which is {:?}", candidate.segment, state.usage));
        }
        // Acquire: pairs with the Release of the append.
        let written = self.row(candidate.segment).written().load(Ordering::Acquire);
        let start = self.geometry.segment_offset(candidate.segment);
        if candidate.offset - start + candidate.shape.bytes > written {
            return Some(format!("a slot names an item at {} beyond what was written", word.offset()));
        }
        let mut key = Vec::new();
        candidate.copy_key(&mut key);
        let hash: Hash = self.hasher.hash(&key);
        if hash.stripe(self.geometry.stripe_count) != stripe_index
            || hash.tag() != word.tag()
            || !hash.buckets(self.geometry.bucket_shift).contains(&number)
        {
            return Some(format!("the item at {} belongs to another key's place", word.offset()));
        }
        if self.is_dead(&candidate.meta, self.stripe(stripe_index)) {
            report.dead_items += 1;
        } else {
            report.items += 1;
            report.live_bytes += candidate.shape.bytes;
        }
        (!keys.insert(key)).then(|| format!("the key of the item at {} is there twice", word.offset()))
    }

    fn validate_segments(&self, report: &mut Report) {
        for index in 0..self.geometry.segment_count {
            let row = self.row(index);
            let state = row.state();
            let number = if state.usage == Use::Damaged { 9 } else { state.usage as usize };
            report.segments[number] += 1;
            // Acquire: as every walker.
            let written = row.written().load(Ordering::Acquire);
            match state.usage {
                Use::Damaged => report.problem(|| format!("segment {index}: its state word means nothing")),
                Use::Sealed | Use::Draining if !state.is_run => {
                    let mut walked = 0;
                    self.walk_items(index, 0, &mut |_, _, step| {
                        walked += step;
                        true
                    });
                    if walked != written && row.state() == state && row.written().load(Ordering::Acquire) == written {
                        report.problem(|| {
                            format!("segment {index}: {written} bytes were written, {walked} can be walked")
                        });
                    }
                }
                Use::Sealed if row.run_length() + u64::from(index) > u64::from(self.geometry.segment_count) => {
                    report.problem(|| format!("segment {index}: its run ends outside the region"));
                }
                _ => {}
            }
        }
    }
}
