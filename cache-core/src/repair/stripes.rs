//! Stripes: mended slot by slot, or emptied.
//!
//! Owns: what happens to a stripe under its lock. Directory and blocks must agree with the
//! state words of the blocks and with each other; slots must name items of their place.
//! Single slots are removed as by everybody; a stripe whose directory or child links lead
//! astray is emptied, because a key that is served by two blocks could come back old.

use std::collections::{HashMap, HashSet};

use super::Repaired;
use super::evidence::VERSION_END;
use crate::blocks::{DIRECTORY, IN_USE};
use crate::deadline::Deadline;
use crate::hash::{Hash, TAG_BITS, prefix};
use crate::host::Host;
use crate::layout::{block, control, stripe as at};
use crate::lock::{self, Held, Owner};
use crate::map::Map;
use crate::participant::Worker;
use crate::segment::Use;
use crate::slot::{Bucket, Link, Slot, moved};
use crate::split::{Grown, Growth};
use crate::sync::{AtomicU64, Ordering};
use crate::types::Namespace;

/// How far a version word that was behind its items is set before them: whatever was given
/// and is gone since was given within so many.
const VERSION_JUMP: u64 = 1 << 40;
/// Turns that one stripe takes at most: each finishes a split.
const TURNS_MAX: u32 = 1 << 17;

/// A block that a stripe leads to.
#[derive(Clone, Copy)]
struct Led {
    block: u64,
    depth: u32,
    tag: u64,
}

/// What a look at a stripe under its lock came to.
enum Seen {
    Sound,
    /// A split of the block that serves this tag waits to be finished.
    Split(u64),
    Broken,
}

/// What was met in a stripe so far.
#[derive(Default)]
struct Met<'m> {
    /// Blocks and directory parts that it leads to.
    kept: HashSet<u64>,
    /// Where each key is, with its version.
    keys: HashMap<(Namespace, Vec<u8>), (u64, Place<'m>)>,
    version_max: u64,
    /// Items that are counted.
    items: u64,
}

#[derive(Clone, Copy)]
struct Place<'m> {
    bucket: Bucket<'m>,
    slot: &'m AtomicU64,
    word: Slot,
    is_counted: bool,
}

impl<H: Host> Map<H> {
    /// Mends stripe `index`, or empties it. `blocks` are those whose state words name it.
    pub(super) fn mend_stripe(
        &self,
        worker: &Worker<'_>,
        owner: Owner,
        index: u32,
        blocks: &[u64],
        timeout_ns: u64,
        repaired: &mut Repaired,
    ) {
        let word = self.region.word32(self.geometry.stripe_offset(index) + at::LOCK);
        let mut growth = Growth::new(self);
        let mut may_split = true;
        for _ in 0..TURNS_MAX {
            let deadline = Deadline::new(timeout_ns);
            let Ok(taken_over) = lock::acquire_until(word, owner, &self.host, &deadline) else {
                repaired.stripes_busy.push(index);
                return;
            };
            let held = Held::new(word, &self.host);
            repaired.locks += u64::from(taken_over);
            match self.mend_locked(index, blocks, may_split, repaired) {
                Seen::Sound => return,
                Seen::Broken => return self.reset_stripe(index, blocks, repaired),
                Seen::Split(tag) => match self.grow(worker, Hash::of_place(index, tag), &mut growth, owner) {
                    Ok(Grown::Done) => repaired.splits += 1,
                    Ok(Grown::Needs(needs)) => {
                        drop(held);
                        // Without memory it stays half done, which is legal.
                        may_split = growth.prepare(worker, index, needs, owner, &deadline).is_ok();
                    }
                    Ok(Grown::Refused) | Err(_) => may_split = false,
                },
            }
        }
    }

    fn mend_locked(&self, index: u32, blocks: &[u64], may_split: bool, repaired: &mut Repaired) -> Seen {
        let stripe = self.stripe(index);
        // Relaxed: these words change only under the lock that we hold.
        let cleared = [stripe.cleared_region(), stripe.cleared_default()].map(|word| word.load(Ordering::Relaxed));
        let cleared = cleared[0].max(cleared[1]);
        // Relaxed, both: a hint.
        stripe.uncounted().fetch_min(cleared, Ordering::Relaxed);
        let mut met = Met::default();
        let Some(led) = self.mend_directory(index, &mut met, repaired).filter(|_| cleared < VERSION_END) else {
            return Seen::Broken;
        };
        let mut split = None;
        for led in led {
            match self.mend_block(index, led, &mut met, repaired) {
                None => return Seen::Broken,
                Some(true) => split = split.or(Some(led.tag)),
                Some(false) => {}
            }
        }
        self.give_back(index, blocks, &met.kept, repaired);
        // Relaxed: under the lock.
        let version = stripe.version().load(Ordering::Relaxed);
        let least = met.version_max.max(cleared);
        if version >= VERSION_END || version < least {
            // Relaxed, as in `stamp`: published by the slots of the items that carry it.
            stripe.version().store(least + VERSION_JUMP, Ordering::Relaxed);
            repaired.versions += 1;
        }
        // Relaxed: a hint.
        if stripe.items().load(Ordering::Relaxed) != met.items {
            stripe.items().store(met.items, Ordering::Relaxed);
            repaired.hints += 1;
        }
        match split {
            Some(tag) if may_split => Seen::Split(tag),
            _ => Seen::Sound,
        }
    }

    /// The blocks that the directory leads to; `None` if it leads astray.
    fn mend_directory(&self, index: u32, met: &mut Met<'_>, repaired: &mut Repaired) -> Option<Vec<Led>> {
        let (root, entries) = self.directory(index)?;
        let depth = Self::directory_depth(root);
        if root.0 != 0 {
            if depth > self.geometry.depth_max() {
                return None;
            }
            for part in 0..(8u64 << depth).div_ceil(self.geometry.block_bytes()) {
                let offset = entries + part * self.geometry.block_bytes();
                if !self.adopt(offset, DIRECTORY, index, repaired) {
                    return None;
                }
                met.kept.insert(offset);
            }
        }
        let count = 1u64 << depth;
        let entry = |number: u64| self.region.word(entries + 8 * number);
        // Relaxed, here and below: entries change only under the lock that we hold.
        let link = |number: u64| Link(entry(number).load(Ordering::Relaxed));
        let first = (0..count).map(link).find(|link| link.0 != 0);
        let Some(first) = first else { return (root.0 == 0).then(Vec::new) };
        if root.0 == 0 && first.depth() == 0 && self.is_block(first.offset()) {
            // The maker of the first block died before it had named it everywhere.
            for number in (0..count).filter(|number| link(*number).0 == 0) {
                // Release: as in `grow_first`.
                entry(number).store(first.0, Ordering::Release);
                repaired.slots += 1;
            }
        }
        for number in 0..count {
            let named = link(number);
            if named.0 == 0 || named.depth() > depth || !self.is_block(named.offset()) {
                return None;
            }
            let each = 1u64 << (depth - named.depth());
            let start = number & !(each - 1);
            let same = |other: u64| (link(other).offset(), link(other).depth()) == (named.offset(), named.depth());
            // Entries are changed one by one at the end of a split: the others are behind.
            // One look at each group is enough, at its first entry that is not behind.
            let is_first = number == start || !same(number - 1);
            if !is_first || (start..start + each).all(same) {
                continue;
            }
            let half = u64::from(number - start >= each / 2);
            let which = if half == 0 { block::CHILD0 } else { block::CHILD1 };
            // Acquire: as every reader.
            let child = self.region.word(named.offset() + which).load(Ordering::Acquire);
            let has_moved = (0..self.geometry.bucket_count())
                .all(|number| moved(self.bucket(named.offset(), number).counter().load(Ordering::Acquire)));
            if each < 2 || !has_moved || !self.is_block(child) {
                // It is not this one that is behind.
                continue;
            }
            let end = start + (half + 1) * (each / 2);
            for other in (number..end).filter(|other| same(*other)) {
                let next = link(other).next(named.depth() + 1, child);
                if other != number {
                    // Release: the child's buckets were filled before.
                    entry(other).store(next.0, Ordering::Release);
                }
            }
            entry(number).store(named.next(named.depth() + 1, child).0, Ordering::Release);
            repaired.splits += 1;
        }
        let mut led = Vec::new();
        let mut number = 0;
        while number < count {
            let named = link(number);
            let each = 1u64 << depth.checked_sub(named.depth())?;
            let same = |other: u64| (link(other).offset(), link(other).depth()) == (named.offset(), named.depth());
            if !number.is_multiple_of(each)
                || !(number..number + each).all(same)
                || !self.adopt(named.offset(), IN_USE, index, repaired)
                || !met.kept.insert(named.offset())
            {
                return None;
            }
            led.push(Led { block: named.offset(), depth: named.depth(), tag: number << (TAG_BITS - depth) });
            number += each;
        }
        Some(led)
    }

    /// Mends a block that an entry names, and its children. True if a split of it waits to be
    /// finished, `None` if its children cannot be believed.
    fn mend_block<'m>(&'m self, index: u32, led: Led, met: &mut Met<'m>, repaired: &mut Repaired) -> Option<bool> {
        let child_word = |which: u64| self.region.word(led.block + which);
        // Acquire: as every reader.
        let children = [block::CHILD0, block::CHILD1].map(|which| child_word(which).load(Ordering::Acquire));
        let has_moved = (0..self.geometry.bucket_count())
            .any(|number| moved(self.bucket(led.block, number).counter().load(Ordering::Acquire)));
        if children[0] == 0 {
            self.mend_leaf(index, led, None, met, repaired);
            return Some(false);
        }
        let is_split = led.depth < self.geometry.depth_max().min(TAG_BITS - 2)
            && children[0] != children[1]
            && children.iter().all(|child| {
                self.is_block(*child) && !met.kept.contains(child) && self.adopt(*child, IN_USE, index, repaired)
            });
        if !is_split {
            if has_moved {
                return None;
            }
            // No bucket moved: the split has not begun. Release: as in `grow`, CHILD0 says so.
            child_word(block::CHILD0).store(0, Ordering::Release);
            child_word(block::CHILD1).store(0, Ordering::Release);
            repaired.slots += 1;
            self.mend_leaf(index, led, None, met, repaired);
            return Some(false);
        }
        met.kept.extend(children);
        for number in 0..self.geometry.bucket_count() {
            let bucket = self.bucket(led.block, number);
            if !moved(bucket.counter().load(Ordering::Acquire)) {
                self.mend_bucket(index, led, number, met, repaired);
            }
        }
        for (child, half) in children.into_iter().zip(0u64..) {
            let tag = led.tag | half << (TAG_BITS - 1 - led.depth);
            self.mend_leaf(index, Led { block: child, depth: led.depth + 1, tag }, Some(led.block), met, repaired);
        }
        Some(true)
    }

    /// Mends a block without children. Of the child of `parent` only what moved there.
    fn mend_leaf<'m>(&'m self, index: u32, led: Led, parent: Option<u64>, met: &mut Met<'m>, repaired: &mut Repaired) {
        if parent.is_some() {
            for which in [block::CHILD0, block::CHILD1] {
                let word = self.region.word(led.block + which);
                // Relaxed: a child is split only once entries name it, under the lock that we hold.
                if word.load(Ordering::Relaxed) != 0 {
                    word.store(0, Ordering::Release);
                    repaired.slots += 1;
                }
            }
        }
        for number in 0..self.geometry.bucket_count() {
            let bucket = self.bucket(led.block, number);
            // Acquire: as every reader.
            let is_served =
                parent.is_none_or(|parent| moved(self.bucket(parent, number).counter().load(Ordering::Acquire)));
            if is_served && moved(bucket.counter().load(Ordering::Acquire)) {
                // What it held moved nowhere, or is an old copy: it is emptied, then it serves.
                for slot in bucket.slots() {
                    // Release: before the counter, for whoever finds the bucket serving.
                    slot.store(0, Ordering::Release);
                }
                let next = |counter: u64| Some((counter & !block::MOVED).wrapping_add(1) & (block::COUNT_END - 1));
                // AcqRel: in one step, because reclaimers bump it as well.
                let _ = bucket.counter().fetch_update(Ordering::AcqRel, Ordering::Relaxed, next);
                repaired.slots += 1;
            } else if is_served {
                self.mend_bucket(index, led, number, met, repaired);
            }
        }
    }

    fn mend_bucket<'m>(&'m self, index: u32, led: Led, number: u64, met: &mut Met<'m>, repaired: &mut Repaired) {
        let bucket = self.bucket(led.block, number);
        let below =
            |counter: u64| (counter >= block::COUNT_END && !moved(counter)).then_some(counter % block::COUNT_END);
        // AcqRel: in one step, because reclaimers bump it as well. A count that is about to
        // carry into the moved bit was never reached by counting.
        if bucket.counter().fetch_update(Ordering::AcqRel, Ordering::Relaxed, below).is_ok() {
            repaired.slots += 1;
        }
        for slot in bucket.slots() {
            // Acquire: pairs with the CAS that published the item.
            let word = Slot(slot.load(Ordering::Acquire));
            if word.0 == 0 {
                continue;
            }
            let item = self.item_of_place(index, number, word).filter(|(candidate, ..)| {
                let usage = self.row(candidate.segment).state().usage;
                prefix(word.tag(), led.depth) == prefix(led.tag, led.depth)
                    && matches!(usage, Use::Open | Use::Sealed | Use::Reclaiming | Use::Draining)
            });
            let Some((candidate, _, key)) = item else {
                // By bump and CAS, as everybody: what a reclaimer changed meanwhile stays.
                repaired.slots += u64::from(bucket.replace(slot, word, |_| Slot(0)));
                continue;
            };
            let key = (candidate.meta.namespace, key);
            let version = candidate.meta.version;
            let is_counted = self.stripe(index).counts(version);
            met.version_max = met.version_max.max(version);
            met.items += u64::from(is_counted);
            let place = Place { bucket, slot, word, is_counted };
            // The same key twice: the newer one stays.
            let older = match met.keys.get(&key) {
                Some((other, _)) if *other > version => Some(place),
                _ => met.keys.insert(key, (version, place)).map(|(_, place)| place),
            };
            if let Some(older) = older {
                met.items -= u64::from(older.is_counted);
                repaired.slots += u64::from(older.bucket.replace(older.slot, older.word, |_| Slot(0)));
            }
        }
    }

    /// Empties a stripe whose lock is held. Its items become dead space.
    fn reset_stripe(&self, index: u32, blocks: &[u64], repaired: &mut Repaired) {
        let stripe = self.stripe(index);
        // Relaxed: counted under the lock. Counted first: the next first link has another
        // generation than any link that a reader may still hold.
        stripe.resets().fetch_add(1, Ordering::Relaxed);
        for entry in stripe.directory() {
            // Release: a reader that finds an entry gone begins again, and misses.
            entry.store(0, Ordering::Release);
        }
        // Release: after the entries, or readers would be led to blocks of long ago.
        stripe.root().store(0, Ordering::Release);
        // AcqRel: before anything is stored in the stripe again. The counters of its blocks tell
        // nobody that they lead nowhere; see `witness`.
        self.control_word(control::RESETS).fetch_add(1, Ordering::AcqRel);
        let carried = self.version_carried(index, blocks);
        // Relaxed, all: these words change only under the lock that we hold.
        let version = stripe.version().load(Ordering::Relaxed);
        let cleared = [stripe.cleared_region(), stripe.cleared_default()];
        let cleared_max = cleared.iter().map(|word| word.load(Ordering::Relaxed)).filter(|it| *it < VERSION_END).max();
        let least = carried.max(cleared_max.unwrap_or(0));
        if version >= VERSION_END || version < least {
            stripe.version().store(least + VERSION_JUMP, Ordering::Relaxed);
        }
        for word in cleared {
            if word.load(Ordering::Relaxed) >= VERSION_END {
                // Release: as in `catch_up`. No item is left that it could concern.
                word.store(least, Ordering::Release);
            }
        }
        stripe.count_none();
        // After the root: nobody is led to them any more.
        self.give_back(index, blocks, &HashSet::new(), repaired);
        repaired.stripes_reset.push(index);
    }

    /// The highest version that an item of the stripe carries, as far as its blocks tell.
    fn version_carried(&self, index: u32, blocks: &[u64]) -> u64 {
        let mut version = 0;
        for offset in blocks.iter().filter(|offset| self.is_block(**offset)) {
            for number in 0..self.geometry.bucket_count() {
                for slot in self.bucket(*offset, number).slots() {
                    // Acquire: as every reader.
                    let word = Slot(slot.load(Ordering::Acquire));
                    if let Some((candidate, ..)) = self.item_of_place(index, number, word) {
                        version = version.max(candidate.meta.version);
                    }
                }
            }
        }
        version
    }
}
