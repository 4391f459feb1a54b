//! Index memory: blocks and directories, carved out of index segments.
//!
//! ```text
//! index segment: | state word per block | block | block | ...
//! block state:   63        32 31         8 7       0
//!                +-----------+------------+---------+
//!                | owner     | stripe     | state   |
//!                +-----------+------------+---------+
//! Raw -> OwnedRaw -> Owned -> InUse -> Owned -> Free -> Owned ...     (blocks)
//! Raw -> OwnedDirectory -> Directory -> OldDirectory      (directories, for ever)
//! ```
//!
//! Owns: the state words, and the rule for a dead owner's blocks: they are in use if the
//! stripe leads to them, else free. Index memory never becomes item space again: readers
//! with an old directory read it as what it was.

use std::ops::Range;

use crate::deadline::Deadline;
use crate::error::Result;
use crate::host::Host;
use crate::layout::{block, control};
use crate::lock::Owner;
use crate::map::Map;
use crate::participant::Worker;
use crate::segment::{Purpose, State, Use};
use crate::slot::Link;
use crate::sync::{AtomicU64, Ordering};

pub(crate) const RAW: u64 = 1;
pub(crate) const FREE: u64 = 2;
pub(crate) const OWNED: u64 = 3;
pub(crate) const IN_USE: u64 = 4;
pub(crate) const OWNED_DIRECTORY: u64 = 5;
pub(crate) const DIRECTORY: u64 = 6;
pub(crate) const OLD_DIRECTORY: u64 = 7;
pub(crate) const OWNED_RAW: u64 = 8;

pub(crate) fn word(state: u64, stripe: u32, owner: u32) -> u64 {
    state | u64::from(stripe) << 8 | u64::from(owner) << 32
}

/// Block offsets in hand: owned by this process, in nobody's sight.
pub(crate) type Blocks = Vec<u64>;

/// Index memory that has just become ours.
struct Owned {
    offset: u64,
    /// It never was index memory before: all of it is zero.
    is_fresh: bool,
}

/// True if a block in state `from` may become `mine`.
fn is_usable(from: u64, mine: u64) -> bool {
    // A directory never stands where buckets were: a late reader's use count could land in it.
    from == word(RAW, 0, 0) || (from == word(FREE, 0, 0) && mine & 0xff != OWNED_DIRECTORY)
}

impl<H: Host> Map<H> {
    pub(crate) fn block_word(&self, segment: u32, number: u64) -> &AtomicU64 {
        self.region.word(self.geometry.segment_offset(segment) + 8 * number)
    }

    /// The state word of the block at `offset`, if a block stands there.
    pub(crate) fn state_of_block(&self, offset: u64) -> Option<&AtomicU64> {
        let segment = self.geometry.segment_of(offset)?;
        let inside = offset - self.geometry.segment_offset(segment);
        let inside = inside.checked_sub(self.geometry.first_block())?;
        let number = inside / self.geometry.block_bytes();
        (self.row(segment).state().usage == Use::Index
            && number < self.geometry.blocks_per_segment()
            && inside.is_multiple_of(self.geometry.block_bytes()))
        .then(|| self.block_word(segment, number))
    }

    pub(crate) fn block_offset(&self, segment: u32, number: u64) -> u64 {
        self.geometry.segment_offset(segment) + self.geometry.first_block() + number * self.geometry.block_bytes()
    }

    /// Owns `count` blocks for `stripe`, with empty slots and counters that went on.
    /// Called without any lock, because it may reclaim.
    ///
    /// # Errors
    /// `Full` when the index may not grow further, `NoSpace`, `Busy`.
    pub(crate) fn own_blocks(
        &self,
        worker: &Worker<'_>,
        stripe: u32,
        count: usize,
        owner: Owner,
        deadline: &Deadline,
    ) -> Result<Blocks> {
        let mut blocks = Vec::with_capacity(count);
        while blocks.len() < count {
            match self.own_run_of_blocks(worker, OWNED, stripe, 1, owner, deadline) {
                Ok(Owned { offset, is_fresh }) => {
                    if !is_fresh {
                        self.clear_block(offset);
                    }
                    blocks.push(offset);
                }
                Err(error) => {
                    self.disown_blocks(&blocks);
                    return Err(error);
                }
            }
        }
        Ok(blocks)
    }

    /// Owns room for a directory of `2^depth` entries.
    ///
    /// # Errors
    /// As `own_blocks`.
    pub(crate) fn own_directory(
        &self,
        worker: &Worker<'_>,
        stripe: u32,
        depth: u32,
        owner: Owner,
        deadline: &Deadline,
    ) -> Result<u64> {
        let count = (8u64 << depth).div_ceil(self.geometry.block_bytes());
        Ok(self.own_run_of_blocks(worker, OWNED_DIRECTORY, stripe, count, owner, deadline)?.offset)
    }

    fn own_run_of_blocks(
        &self,
        worker: &Worker<'_>,
        state: u64,
        stripe: u32,
        count: u64,
        owner: Owner,
        deadline: &Deadline,
    ) -> Result<Owned> {
        // Relaxed: a hint.
        let hint = self.control_word(control::INDEX_HINT);
        let mine = word(state, stripe, owner.word());
        loop {
            let hinted = (hint.load(Ordering::Relaxed) as u32).checked_sub(1);
            let hinted = hinted.filter(|segment| *segment < self.geometry.segment_count);
            for segment in hinted.into_iter().chain((0..self.geometry.segment_count).rev()) {
                if self.row(segment).state().usage == Use::Index
                    && let Some(owned) = self.own_in_segment(segment, mine, count)?
                {
                    hint.store(u64::from(segment) + 1, Ordering::Relaxed);
                    return Ok(owned);
                }
            }
            self.add_index_segment(worker, owner, deadline)?;
        }
    }

    /// Owns `count` blocks side by side in `segment`, with memory behind them.
    fn own_in_segment(&self, segment: u32, mine: u64, count: u64) -> Result<Option<Owned>> {
        let blocks = self.geometry.blocks_per_segment();
        let words = self.region.slice(self.geometry.segment_offset(segment), blocks as usize);
        let mut first = 0;
        while first + count <= blocks {
            // Most blocks of a segment are in use. Relaxed: `own_window` looks again.
            if !is_usable(words[first as usize].load(Ordering::Relaxed), mine) {
                first += 1;
                continue;
            }
            let was = match self.own_window(segment, first..first + count, mine) {
                Ok(was) => was,
                Err(taken) => {
                    first = taken + 1;
                    continue;
                }
            };
            let offset = self.block_offset(segment, first);
            let end = offset + count * self.geometry.block_bytes() - self.geometry.segment_offset(segment);
            if let Err(error) = self.back_segment(segment, end) {
                self.disown_window(segment, first, &was);
                return Err(error);
            }
            for (number, from) in (first..).zip(&was) {
                if *from == word(RAW, 0, 0) {
                    self.zero_block(self.block_offset(segment, number));
                    // Release: zeroed, then owned.
                    self.block_word(segment, number).store(mine, Ordering::Release);
                }
            }
            return Ok(Some(Owned { offset, is_fresh: was.iter().all(|from| *from == word(RAW, 0, 0)) }));
        }
        Ok(None)
    }

    /// Owns every block of a window, or none: then the error is the one that is taken.
    /// Returns what the state words were.
    fn own_window(&self, segment: u32, window: Range<u64>, mine: u64) -> std::result::Result<Vec<u64>, u64> {
        let is_directory = mine & 0xff == OWNED_DIRECTORY;
        let mut was = Vec::with_capacity((window.end - window.start) as usize);
        for number in window.clone() {
            let state = self.block_word(segment, number);
            // Acquire: pairs with the Release that freed it.
            let from = state.load(Ordering::Acquire);
            let is_raw = from == word(RAW, 0, 0);
            // Until it is zeroed, old item bytes are not taken for counters.
            let first_state = if is_raw && !is_directory { mine & !0xff | OWNED_RAW } else { mine };
            // CAS ok = AcqRel: the block is ours; err = Relaxed: somebody else's.
            if !is_usable(from, mine)
                || state.compare_exchange(from, first_state, Ordering::AcqRel, Ordering::Relaxed).is_err()
            {
                self.disown_window(segment, window.start, &was);
                return Err(number);
            }
            was.push(from);
        }
        Ok(was)
    }

    fn disown_window(&self, segment: u32, first: u64, was: &[u64]) {
        for (number, from) in (first..).zip(was) {
            // Release: as it was, for the next owner.
            self.block_word(segment, number).store(*from, Ordering::Release);
        }
    }

    fn add_index_segment(&self, worker: &Worker<'_>, owner: Owner, deadline: &Deadline) -> Result<()> {
        let bytes = self.geometry.block_bytes();
        let Some(segment) = self.obtain_segment(worker, Purpose::Index, bytes, owner, deadline, &|| true)? else {
            return Ok(());
        };
        if let Err(error) = self.back_segment(segment, self.geometry.first_block()) {
            self.release_claimed(segment);
            return Err(error);
        }
        for number in 0..self.geometry.blocks_per_segment() {
            // Relaxed: published by the state change.
            self.block_word(segment, number).store(word(RAW, 0, 0), Ordering::Relaxed);
        }
        let row = self.row(segment);
        let from = State::FREE.owned(Use::Claimed, owner).to_word();
        row.change(from, State { usage: Use::Index, ..State::FREE });
        Ok(())
    }

    /// Old item bytes become a block: counters start at 0, nobody ever read it as one.
    fn zero_block(&self, offset: u64) {
        for word in self.region.slice(offset, self.geometry.block_bytes() as usize / 8) {
            // Relaxed: the block is ours alone.
            word.store(0, Ordering::Relaxed);
        }
    }

    /// Empties a block that may have served before. Its counters go on, not back.
    fn clear_block(&self, offset: u64) {
        for at in [block::CHILD0, block::CHILD1] {
            // Relaxed: the block is ours; the link that leads to it publishes it.
            self.region.word(offset + at).store(0, Ordering::Relaxed);
        }
        let buckets = offset + block::BUCKETS;
        for number in 0..self.geometry.bucket_count() {
            let words = self.region.words::<8>(buckets + block::BUCKET_BYTES * number);
            // Release, counter first: a late reader of the old life sees it change no later
            // than the slots. In one step: a late writer of the old life may bump it as well.
            // Masked last: no count, not even a damaged one, carries into the moved bit.
            let next = |counter: u64| Some((counter & !block::MOVED).wrapping_add(1) & (block::COUNT_END - 1));
            let _ = words[0].fetch_update(Ordering::Release, Ordering::Relaxed, next);
            for slot in &words[1..] {
                slot.store(0, Ordering::Release);
            }
        }
        let ghosts = buckets + self.geometry.bucket_count() * block::BUCKET_BYTES;
        for ghost in self.region.slice(ghosts, self.geometry.bucket_count() as usize) {
            // Relaxed: hints.
            ghost.store(0, Ordering::Relaxed);
        }
    }

    /// Gives blocks back that nobody can reach.
    pub(crate) fn disown_blocks(&self, blocks: &[u64]) {
        for offset in blocks {
            self.set_block_state(*offset, FREE, 0);
        }
    }

    /// Gives directory room back that was never published.
    pub(crate) fn disown_directory(&self, offset: u64, depth: u32) {
        self.set_directory_state(offset, depth, RAW, 0);
    }

    fn set_block_state(&self, offset: u64, state: u64, stripe: u32) {
        if let Some(word_of_block) = self.state_of_block(offset) {
            // Release: what was done to the block comes before its new state.
            word_of_block.store(word(state, stripe, 0), Ordering::Release);
        }
    }

    fn set_directory_state(&self, offset: u64, depth: u32, state: u64, stripe: u32) {
        let count = (8u64 << depth).div_ceil(self.geometry.block_bytes());
        for number in 0..count {
            self.set_block_state(offset + number * self.geometry.block_bytes(), state, stripe);
        }
    }

    /// The stripe leads to the block now.
    pub(crate) fn block_is_in_use(&self, offset: u64, stripe: u32) {
        self.set_block_state(offset, IN_USE, stripe);
    }

    /// The stripe is about to lead past the block: if we die now, whoever cleans up
    /// after us looks whether it still leads here.
    pub(crate) fn block_is_leaving(&self, offset: u64, stripe: u32, owner: Owner) {
        if let Some(word_of_block) = self.state_of_block(offset) {
            // Release: as in `set_block_state`.
            word_of_block.store(word(OWNED, stripe, owner.word()), Ordering::Release);
        }
    }

    /// The stripe has this directory now.
    pub(crate) fn directory_is_in_use(&self, offset: u64, depth: u32, stripe: u32) {
        self.set_directory_state(offset, depth, DIRECTORY, stripe);
    }

    /// The stripe has another directory now; this one is kept for late readers.
    pub(crate) fn directory_is_old(&self, offset: u64, depth: u32, stripe: u32) {
        self.set_directory_state(offset, depth, OLD_DIRECTORY, stripe);
    }

    /// Every block that a dead incarnation of slot `index` owned becomes what the stripe
    /// says it is. `keep` is the slot's living incarnation.
    pub(crate) fn release_blocks_of(&self, index: u32, keep: Option<Owner>) {
        for segment in 0..self.geometry.segment_count {
            if self.row(segment).state().usage != Use::Index {
                continue;
            }
            for number in 0..self.geometry.blocks_per_segment() {
                let state = self.block_word(segment, number);
                // Acquire: as in `own_in_segment`.
                let from = state.load(Ordering::Acquire);
                let Some(owner) = Owner::from_word((from >> 32) as u32) else { continue };
                if owner.index() != index || Some(owner) == keep {
                    continue;
                }
                let stripe = (from >> 8) as u32 & 0xff_ffff;
                let offset = self.block_offset(segment, number);
                let to = match from & 0xff {
                    OWNED if self.leads_to_block(stripe, offset) => word(IN_USE, stripe, 0),
                    OWNED => word(FREE, 0, 0),
                    OWNED_DIRECTORY if self.leads_to_directory(stripe, offset) => word(DIRECTORY, stripe, 0),
                    OWNED_DIRECTORY | OWNED_RAW => word(RAW, 0, 0),
                    _ => continue,
                };
                // CAS: a living finisher of the same split may be faster, and is right.
                let _ = state.compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed);
            }
        }
    }

    fn leads_to_directory(&self, stripe: u32, block: u64) -> bool {
        stripe < self.geometry.stripe_count
            && self
                .directory(stripe)
                .is_some_and(|(root, entries)| root.0 != 0 && (entries..entries + (8 << root.depth())).contains(&block))
    }

    /// True if an entry of the stripe's directory, or a block that one names, names `block`.
    pub(crate) fn leads_to_block(&self, stripe: u32, block: u64) -> bool {
        if stripe >= self.geometry.stripe_count {
            return false;
        }
        let Some((root, entries)) = self.directory(stripe) else { return false };
        (0..1u64 << Self::directory_depth(root)).any(|number| {
            // Acquire: as in `path`.
            let link = Link(self.region.word(entries + 8 * number).load(Ordering::Acquire));
            if link.0 == 0 || !self.is_block(link.offset()) {
                return false;
            }
            // A split has begun only once the first child is named.
            let child = |which: u64| self.region.word(link.offset() + which).load(Ordering::Acquire);
            let first = child(block::CHILD0);
            link.offset() == block || (first != 0 && (first == block || child(block::CHILD1) == block))
        })
    }

    /// What the index segments hold: blocks in use, free, and directories.
    pub(crate) fn count_blocks(&self) -> [u64; 3] {
        let mut counts = [0; 3];
        for segment in (0..self.geometry.segment_count).filter(|index| self.row(*index).state().usage == Use::Index) {
            for number in 0..self.geometry.blocks_per_segment() {
                // Acquire: as everywhere.
                match self.block_word(segment, number).load(Ordering::Acquire) & 0xff {
                    IN_USE | OWNED => counts[0] += 1,
                    DIRECTORY | OWNED_DIRECTORY | OLD_DIRECTORY => counts[2] += 1,
                    _ => counts[1] += 1,
                }
            }
        }
        counts
    }

    /// True if the block at `offset` is one that stripe `stripe` may lead to.
    pub(crate) fn is_block_of(&self, offset: u64, stripe: u32) -> bool {
        self.state_of_block(offset).is_some_and(|state| {
            // Acquire: as everywhere.
            let state = state.load(Ordering::Acquire);
            matches!(state & 0xff, IN_USE | OWNED) && (state >> 8) as u32 & 0xff_ffff == stripe
        })
    }
}
