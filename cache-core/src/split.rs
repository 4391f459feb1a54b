//! Growth of the index: first blocks, splits, larger directories.
//!
//! Owns: what happens to blocks and directories under a stripe's lock. Called by writers
//! that found no room; memory is got beforehand, without the lock.
//!
//! A half-done split is a legal state (P4 in `docs/design.md`): the parent names its
//! children, each bucket is served by the parent until its moved bit is set and by the
//! children afterwards, and whoever holds the lock next goes on where it stopped.

use crate::blocks::Blocks;
use crate::deadline::Deadline;
use crate::error::{Error, Result};
use crate::hash::{Hash, prefix, split_bit};
use crate::host::Host;
use crate::layout::{block, stripe};
use crate::lock::Owner;
use crate::map::Map;
use crate::participant::Worker;
use crate::slot::{Link, Slot, moved};
use crate::stats::Counter;
use crate::sync::Ordering;

/// Index memory in hand for a stripe that must grow. What is not used is given back.
pub(crate) struct Growth<'m, H: Host> {
    map: &'m Map<H>,
    blocks: Blocks,
    directory: Option<(u64, u32)>,
    /// The index may not grow: what is dead makes room, or what may be dropped.
    pub is_refused: bool,
}

/// What a stripe needs before it can grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Needs {
    blocks: usize,
    /// Depth of a larger directory, if it takes one.
    directory: Option<u32>,
}

/// What a step of growth did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Grown {
    /// The stripe is as it should be; look again.
    Done,
    /// More memory is needed first.
    Needs(Needs),
    /// The directory cannot get deeper.
    Refused,
}

impl<'m, H: Host> Growth<'m, H> {
    pub fn new(map: &'m Map<H>) -> Self {
        Growth { map, blocks: Vec::new(), directory: None, is_refused: false }
    }

    /// Gets what is needed, without a lock.
    ///
    /// # Errors
    /// `Full`, `NoSpace`, `Busy`.
    pub fn prepare(
        &mut self,
        worker: &Worker<'_>,
        stripe: u32,
        needs: Needs,
        owner: Owner,
        deadline: &Deadline,
    ) -> Result<()> {
        let missing = needs.blocks.saturating_sub(self.blocks.len());
        self.blocks.extend(self.map.own_blocks(worker, stripe, missing, owner, deadline)?);
        if let Some(depth) = needs.directory
            && self.directory.is_none_or(|(_, have)| have != depth)
        {
            self.give_directory_back();
            self.directory = Some((self.map.own_directory(worker, stripe, depth, owner, deadline)?, depth));
        }
        Ok(())
    }

    fn give_directory_back(&mut self) {
        if let Some((offset, depth)) = self.directory.take() {
            self.map.disown_directory(offset, depth);
        }
    }
}

impl<H: Host> Drop for Growth<'_, H> {
    fn drop(&mut self) {
        self.map.disown_blocks(&self.blocks);
        self.give_directory_back();
    }
}

impl<H: Host> Map<H> {
    /// Makes room in the pair of buckets of `hash`: a first block, the rest of a half-done
    /// split, or a split. The caller holds the stripe's lock.
    ///
    /// # Errors
    /// `Corrupt` when the index contradicts itself.
    pub(crate) fn grow(
        &self,
        worker: &Worker<'_>,
        hash: Hash,
        growth: &mut Growth<'_, H>,
        owner: Owner,
    ) -> Result<Grown> {
        let stripe_index = hash.stripe(self.geometry.stripe_count);
        let Some(path) = self.path(hash) else {
            return self.grow_first(stripe_index, growth);
        };
        let parent = path.entry.offset();
        let depth = path.entry.depth();
        // Acquire: pairs with the Release below.
        if self.region.word(parent + block::CHILD0).load(Ordering::Acquire) != 0 {
            return self.finish_split(stripe_index, hash, parent, depth, growth, owner);
        }
        if depth >= self.geometry.depth_max() {
            return Ok(Grown::Refused);
        }
        let (root, _) = self.directory(stripe_index).ok_or(DAMAGED)?;
        let larger = (Self::directory_depth(root) == depth).then_some(depth + 1);
        if growth.blocks.len() < 2 || (larger.is_some() && growth.directory.map(|(_, depth)| depth) != larger) {
            return Ok(Grown::Needs(Needs { blocks: 2, directory: larger }));
        }
        for (which, child) in [block::CHILD1, block::CHILD0].into_iter().zip(growth.blocks.drain(..2)) {
            // Release: the children are empty before anybody is led to them; CHILD0 last,
            // because it says that the split has begun.
            self.region.word(parent + which).store(child, Ordering::Release);
        }
        worker.count(Counter::Splits, 1);
        self.finish_split(stripe_index, hash, parent, depth, growth, owner)
    }

    /// The stripe's first block serves every entry of its first directory.
    fn grow_first(&self, stripe_index: u32, growth: &mut Growth<'_, H>) -> Result<Grown> {
        let (root, entries) = self.directory(stripe_index).ok_or(DAMAGED)?;
        if root.0 != 0 {
            return Err(DAMAGED);
        }
        let entry = |number: u64| self.region.word(entries + 8 * number);
        let count = 1 << stripe::DIRECTORY_DEPTH;
        // A maker that died may have named the block in some entries.
        // Relaxed: entries change only under the lock that we hold.
        let begun = (0..count).map(|number| Link(entry(number).load(Ordering::Relaxed))).find(|link| link.0 != 0);
        let link = match begun {
            Some(link) if link.depth() == 0 && self.is_block(link.offset()) => link,
            Some(_) => return Err(DAMAGED),
            None => match growth.blocks.pop() {
                // Another generation after each reset, so that no link recurs.
                // Relaxed: counted only under the lock that we hold.
                Some(block) => {
                    Link::new(self.stripe(stripe_index).resets().load(Ordering::Relaxed).wrapping_add(1), 0, block)
                }
                None => return Ok(Grown::Needs(Needs { blocks: 1, directory: None })),
            },
        };
        for number in 0..count {
            // Release: publishes the empty block. Relaxed load: under the lock.
            match entry(number).load(Ordering::Relaxed) {
                0 => entry(number).store(link.0, Ordering::Release),
                named if named == link.0 => {}
                _ => return Err(DAMAGED),
            }
        }
        self.block_is_in_use(link.offset(), stripe_index);
        Ok(Grown::Done)
    }

    /// Goes on with a split that was begun, by this writer or one that died.
    fn finish_split(
        &self,
        stripe_index: u32,
        hash: Hash,
        parent: u64,
        depth: u32,
        growth: &mut Growth<'_, H>,
        owner: Owner,
    ) -> Result<Grown> {
        // Acquire: the children as their maker left them.
        let child = |which: u64| self.region.word(parent + which).load(Ordering::Acquire);
        let children = [child(block::CHILD0), child(block::CHILD1)];
        // Nobody begins a split for which there is no larger directory: looking for one would
        // cost an evicting region what it holds.
        let may_split = depth < self.geometry.depth_max();
        if children.iter().any(|child| !self.is_block(*child)) || children[0] == children[1] || !may_split {
            return Err(DAMAGED);
        }
        // Entries change only after the last bucket has moved; then a child may have been split
        // and freed in its turn, and is no longer this stripe's to mark.
        let is_moving = (0..self.geometry.bucket_count()).any(|number| {
            // Acquire: as every reader.
            !moved(self.bucket(parent, number).counter().load(Ordering::Acquire))
        });
        if is_moving {
            for child in children {
                self.block_is_in_use(child, stripe_index);
            }
        }
        for number in 0..self.geometry.bucket_count() {
            self.move_bucket(parent, children, depth, number);
        }
        let (root, mut entries) = self.directory(stripe_index).ok_or(DAMAGED)?;
        let mut directory_depth = Self::directory_depth(root);
        if depth > directory_depth {
            return Err(DAMAGED);
        }
        if directory_depth == depth {
            let Some((offset, larger)) = growth.directory.take_if(|(_, larger)| *larger == depth + 1) else {
                return Ok(Grown::Needs(Needs { blocks: 0, directory: Some(depth + 1) }));
            };
            self.double_directory(stripe_index, root, entries, offset, larger);
            (entries, directory_depth) = (offset, larger);
        }
        let each = 1u64 << (directory_depth - depth);
        let first = prefix(hash.tag(), depth) * each;
        let entry_of = |number: u64| self.region.word(entries + 8 * (first + number));
        // Relaxed, all loads: entries change only under the lock that we hold.
        let link_of = |number: u64| Link(entry_of(number).load(Ordering::Relaxed));
        // The maker of a first block may have died before it had named it in every entry: it is,
        // before the first entry names a child, so that no half of it is ever without a name.
        if let Some(named) = (0..each).map(link_of).find(|link| link.0 != 0 && link.offset() == parent) {
            for number in (0..each).filter(|number| link_of(*number).0 == 0) {
                // Release: publishes the block to the readers of this entry.
                entry_of(number).store(named.0, Ordering::Release);
            }
        }
        // From here until the last entry is changed, the parent is ours to lose.
        self.block_is_leaving(parent, stripe_index, owner);
        for number in 0..each {
            let entry = entry_of(number);
            let old = link_of(number);
            if old.0 == 0 || old.offset() == parent {
                let child = children[usize::from(number >= each / 2)];
                // Release: the child's buckets were filled before.
                entry.store(old.next(depth + 1, child).0, Ordering::Release);
            }
        }
        self.disown_blocks(&[parent]);
        Ok(Grown::Done)
    }

    /// Moves one bucket to the children, unless that was done.
    pub(crate) fn move_bucket(&self, parent: u64, children: [u64; 2], depth: u32, number: u64) {
        let ghosts = |block: u64| {
            self.region.word(block + block::BUCKETS + self.geometry.bucket_count() * block::BUCKET_BYTES + 8 * number)
        };
        let [from, low, high] = [parent, children[0], children[1]].map(|block| self.bucket(block, number));
        loop {
            // Acquire: before the slots, as every reader does.
            let counter = from.counter().load(Ordering::Acquire);
            if moved(counter) {
                return;
            }
            for (at, slot) in from.slots().iter().enumerate() {
                // Acquire: the item behind it is finished for whoever finds it in the child.
                let word = slot.load(Ordering::Acquire);
                let is_high = split_bit(Slot(word).tag(), depth) != 0;
                // Every slot of both, whatever an earlier try has left in them.
                // Release: a late reader of the block's old life that meets this word also
                // sees that the counter went on with the new one.
                low.slots()[at].store(if is_high { 0 } else { word }, Ordering::Release);
                high.slots()[at].store(if is_high { word } else { 0 }, Ordering::Release);
            }
            for child in children {
                // Relaxed: hints.
                ghosts(child).store(ghosts(parent).load(Ordering::Relaxed), Ordering::Relaxed);
            }
            // CAS ok = AcqRel: from now on the children serve this bucket. It fails if a
            // reclaimer changed a slot, or is about to: then the copy is made again.
            // err = Relaxed: we begin again. [loom: split]
            let to = counter.wrapping_add(1) | block::MOVED;
            if from.counter().compare_exchange(counter, to, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                return;
            }
        }
    }

    fn double_directory(&self, stripe_index: u32, root: Link, entries: u64, offset: u64, depth: u32) {
        for number in 0..1u64 << (depth - 1) {
            // Relaxed: entries change only under the lock; the root publishes the copy.
            let link = self.region.word(entries + 8 * number).load(Ordering::Relaxed);
            for half in 0..2 {
                self.region.word(offset + 8 * (2 * number + half)).store(link, Ordering::Relaxed);
            }
        }
        // Release: publishes the entries.
        self.stripe(stripe_index).root().store(root.next(depth, offset).0, Ordering::Release);
        self.directory_is_in_use(offset, depth, stripe_index);
        if root.0 != 0 {
            self.directory_is_old(root.offset(), root.depth(), stripe_index);
        }
    }
}

const DAMAGED: Error = Error::Corrupt { reason: "the index of a stripe contradicts itself" };
