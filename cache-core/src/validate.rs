//! The check of the whole structure, changing nothing.
//!
//! Owns: [`Report`]. Property tests, crash tests and the `verify` command call it. While
//! others write, what it counts is a moving picture; each contradiction is looked at
//! twice before it is reported.

use std::collections::HashSet;

use crate::hash::{Hash, TAG_BITS, prefix};
use crate::host::Host;
use crate::layout::{DEPTH_MAX, block, lane};
use crate::map::Map;
use crate::segment::{State, Use};
use crate::slot::{Bucket, Link, Slot, moved};
use crate::sync::Ordering;
use crate::types::Namespace;

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

    pub(crate) fn problem(&mut self, text: impl FnOnce() -> String) {
        self.problem_count += 1;
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(text());
        }
    }
}

impl<H: Host> Map<H> {
    /// Checks every stripe, block, slot and segment against each other, and the table of namespaces.
    pub fn validate(&self) -> Report {
        let mut report = self.validate_space();
        self.validate_namespaces(&mut report);
        report
    }

    /// As [`Map::validate`], without the table of namespaces, of which a model has no words.
    pub(crate) fn validate_space(&self) -> Report {
        let mut report = Report { index_blocks: self.count_blocks(), ..Report::default() };
        for index in 0..self.geometry.stripe_count {
            self.validate_stripe(index, &mut report);
        }
        self.validate_segments(&mut report);
        self.validate_leases(&mut report);
        report
    }

    fn validate_stripe(&self, stripe_index: u32, report: &mut Report) {
        let Some((root, entries)) = self.directory(stripe_index) else {
            return report.problem(|| format!("stripe {stripe_index}: its root names no directory"));
        };
        self.validate_versions(stripe_index, report);
        let depth = Self::directory_depth(root);
        let mut tag = 0;
        let mut seen = HashSet::new();
        while tag >> TAG_BITS == 0 {
            // Acquire: as every reader.
            let entry = Link(self.region.word(entries + 8 * prefix(tag, depth)).load(Ordering::Acquire));
            if entry.0 == 0 {
                if tag != 0 {
                    report.problem(|| format!("stripe {stripe_index}: entry {} is empty", prefix(tag, depth)));
                } else if root.0 != 0 {
                    report.problem(|| format!("stripe {stripe_index}: its directory is empty"));
                }
                return;
            }
            if entry.depth() > depth || !self.is_block(entry.offset()) {
                return report
                    .problem(|| format!("stripe {stripe_index}: entry {} names no block", prefix(tag, depth)));
            }
            let (mut at, mut block_depth) = (entry.offset(), entry.depth());
            if !tag.is_multiple_of(1 << (TAG_BITS - block_depth)) {
                // A split that is done but for some of its entries: this one is behind.
                let child = self.child(at, block_depth, tag).filter(|_| block_depth < depth);
                let Some(child) = child else {
                    return report.problem(|| {
                        format!("stripe {stripe_index}: entry {} names another prefix's block", prefix(tag, depth))
                    });
                };
                (at, block_depth) = (child, block_depth + 1);
            }
            if !self.is_block_of(at, stripe_index) {
                report.problem(|| format!("stripe {stripe_index}: the block at {at} is not its own"));
            }
            let is_behind = at != entry.offset();
            if seen.insert(at) {
                report.blocks += 1;
                let mut keys = HashSet::new();
                for number in 0..self.geometry.bucket_count() {
                    self.validate_bucket(stripe_index, (at, block_depth), tag, number, &mut keys, report);
                }
                self.validate_children(stripe_index, at, &mut seen, report);
            } else if !is_behind {
                report.problem(|| format!("stripe {stripe_index}: the block at {at} is there twice"));
            }
            let each = 1u64 << (depth - block_depth.min(depth));
            let first = prefix(tag, depth);
            for number in first..(first / each + 1) * each {
                // Acquire: as every reader.
                let other = Link(self.region.word(entries + 8 * number).load(Ordering::Acquire));
                let is_same = (other.offset(), other.depth()) == (at, block_depth);
                let is_behind = other.depth() + 1 == block_depth
                    && self.is_block(other.offset())
                    && self.child(other.offset(), other.depth(), tag) == Some(at);
                // A death while the first block was being named leaves entries without a name.
                let is_unnamed = other.0 == 0 && block_depth == 0;
                if !is_same && !is_behind && !is_unnamed {
                    report.problem(|| format!("stripe {stripe_index}: entry {number} leads away from its prefix"));
                    break;
                }
            }
            let width = TAG_BITS - block_depth;
            tag = ((tag >> width) + 1) << width;
        }
    }

    /// Versions only grow, and what a clear ended had been given before.
    fn validate_versions(&self, stripe_index: u32, report: &mut Report) {
        let stripe = self.stripe(stripe_index);
        for cleared in [stripe.cleared_region(), stripe.cleared_default()] {
            // Acquire, then Relaxed: a clear notes a version that was given before.
            let cleared = cleared.load(Ordering::Acquire);
            let version = stripe.version().load(Ordering::Relaxed);
            if cleared > version {
                report.problem(|| {
                    format!("stripe {stripe_index}: version {cleared} was cleared, and {version} is its last")
                });
            }
        }
    }

    /// The children of a block whose split has begun are in no other place.
    fn validate_children(&self, stripe: u32, at: u64, seen: &mut HashSet<u64>, report: &mut Report) {
        let has_moved = (0..self.geometry.bucket_count())
            // Acquire: as every reader.
            .any(|number| moved(self.bucket(at, number).counter().load(Ordering::Acquire)));
        for which in [block::CHILD0, block::CHILD1].into_iter().filter(|_| has_moved) {
            // Acquire: the child as its maker left it.
            let child = self.region.word(at + which).load(Ordering::Acquire);
            if self.is_block(child) && !seen.insert(child) {
                report.problem(|| format!("stripe {stripe}: the child at {child} is there twice"));
            }
        }
    }

    /// Bucket `number` of `block`, or where it moved, for tags from `from` on.
    fn validate_bucket(
        &self,
        stripe: u32,
        (at, depth): (u64, u32),
        from: u64,
        number: u64,
        keys: &mut HashSet<(Namespace, Vec<u8>)>,
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
        keys: &mut HashSet<(Namespace, Vec<u8>)>,
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
        let hash: Hash = self.hasher.key(candidate.key(&mut key));
        if hash.stripe(self.geometry.stripe_count) != stripe_index
            || hash.tag() != word.tag()
            || !hash.buckets(self.geometry.bucket_shift).contains(&number)
        {
            return Some(format!("the item at {} belongs to another key's place", word.offset()));
        }
        // Acquire: a version is noted before it is given to an item.
        let last = self.stripe(stripe_index).version().load(Ordering::Acquire);
        if candidate.meta.version > last {
            return Some(format!(
                "the item at {} has version {}, and {last} is the last of its stripe",
                word.offset(),
                candidate.meta.version
            ));
        }
        if self.is_dead(&candidate.meta, self.stripe(stripe_index)) {
            report.dead_items += 1;
        } else {
            report.items += 1;
            report.live_bytes += candidate.shape.bytes;
        }
        (!keys.insert((candidate.meta.namespace, key)))
            .then(|| format!("the key of the item at {} is there twice", word.offset()))
    }

    fn validate_segments(&self, report: &mut Report) {
        for index in 0..self.geometry.segment_count {
            let row = self.row(index);
            let state = row.state();
            let number = if state.usage == Use::Damaged { 9 } else { state.usage as usize };
            report.segments[number] += 1;
            // Acquire: as every walker.
            let written = row.written().load(Ordering::Acquire);
            let is_still = || row.state() == state;
            if state.usage != Use::Damaged && !state.is_made(row.state_word()) && is_still() {
                report.problem(|| format!("segment {index}: its state word has bits that no writer sets"));
            }
            match state.usage {
                Use::Damaged => report.problem(|| format!("segment {index}: its state word means nothing")),
                Use::Sealed | Use::Draining if !state.is_run => {
                    let mut walked = 0;
                    self.walk_items(index, 0, &mut |_, _, step| {
                        walked += step;
                        true
                    });
                    if walked != written && is_still() && row.written().load(Ordering::Acquire) == written {
                        report.problem(|| {
                            format!("segment {index}: {written} bytes were written, {walked} can be walked")
                        });
                    }
                }
                // A death may have cut its freeing in two, which begins when nothing names it any more.
                Use::Sealed | Use::Condemned
                    if state.is_run
                        && self.is_linked_run(index)
                        && !self.is_whole_run(index, written)
                        && is_still() =>
                {
                    report.problem(|| format!("segment {index}: its run is not as long as its item"));
                }
                Use::Open => {
                    let is_lane = u32::from(state.lane) < lane::COUNT;
                    // Relaxed: looked at again below.
                    let named = |lane: u8| self.lane_segment(lane.into()).load(Ordering::Relaxed);
                    if (!is_lane || named(state.lane) != u64::from(index) + 1) && is_still() {
                        report.problem(|| format!("segment {index}: it is open, and its lane does not name it"));
                    }
                }
                Use::RunPart => {
                    let is_part = self.is_part(index, state.who);
                    if !is_part && is_still() {
                        report.problem(|| format!("segment {index}: it is a part of no run"));
                    }
                }
                Use::Claimed | Use::Reclaiming if crate::lock::Owner::from_word(state.who).is_none() => {
                    report.problem(|| format!("segment {index}: nobody has it in hand"));
                }
                _ => {}
            }
        }
        for number in 0..lane::COUNT {
            // Relaxed: a word that no other can explain.
            if self.lane_segment(number).load(Ordering::Relaxed) > u64::from(self.geometry.segment_count) {
                report.problem(|| format!("lane {number}: it names a segment that does not exist"));
            }
        }
    }

    /// True if segment `index` lies in the run whose head is `head`.
    pub(crate) fn is_part(&self, index: u32, head: u32) -> bool {
        head < index && {
            let row = self.row(head);
            let state = row.state();
            state.is_run && state.usage != Use::Free && u64::from(index - head) < row.run_length()
        }
    }

    /// True if a slot names the item of the run of `index`.
    fn is_linked_run(&self, index: u32) -> bool {
        let offset = self.geometry.segment_offset(index);
        let identity = self.read_identity(offset, &mut Vec::new());
        identity.is_some_and(|(hash, _)| self.find_place(hash, offset).is_some())
    }

    /// True if the run of `index` has as many parts as its item of `written` bytes needs.
    fn is_whole_run(&self, index: u32, written: u64) -> bool {
        let length = self.row(index).run_length();
        let item = self.candidate(Slot::new(0, crate::slot::Queue::Small, 0, self.geometry.segment_offset(index)));
        let part = State { usage: Use::RunPart, who: index, ..State::FREE };
        length == written.div_ceil(self.geometry.segment_bytes())
            && length >= 2
            && u64::from(index) + length <= u64::from(self.geometry.segment_count)
            && item.is_some_and(|item| item.shape.bytes == written)
            && (1..length).all(|at| self.row(index + at as u32).state_word() == part.to_word())
    }
}
