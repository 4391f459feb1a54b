//! Index blocks: whose they are, by their state words and by what leads to them.
//!
//! Owns: the state words of blocks that nobody has in hand. A block that a stripe leads to
//! and that is nobody else's becomes the stripe's; one that no stripe leads to is free.

use std::collections::HashSet;

use super::Repaired;
use crate::blocks::{DIRECTORY, FREE, IN_USE, OLD_DIRECTORY, OWNED, OWNED_DIRECTORY, OWNED_RAW, RAW, word};
use crate::host::Host;
use crate::lock::Owner;
use crate::map::Map;
use crate::segment::Use;
use crate::sync::Ordering;

/// A block's state word, taken apart.
#[derive(Clone, Copy)]
struct BlockState {
    state: u64,
    stripe: u32,
    owner: Option<Owner>,
}

impl BlockState {
    /// True if writers make `from`, of which this is the meaning, in a region of so many stripes.
    fn is_made(self, from: u64, stripe_count: u32) -> bool {
        let BlockState { state, stripe, owner } = self;
        let is_stripe = stripe < stripe_count;
        match state {
            RAW | FREE => from == word(state, 0, 0),
            IN_USE | DIRECTORY | OLD_DIRECTORY => is_stripe && from == word(state, stripe, 0),
            OWNED | OWNED_DIRECTORY | OWNED_RAW => {
                is_stripe && owner.is_some_and(|who| from == word(state, stripe, who.word()))
            }
            _ => false,
        }
    }
}

fn taken_apart(from: u64) -> BlockState {
    BlockState {
        state: from & 0xff,
        stripe: (from >> 8) as u32 & 0xff_ffff,
        owner: Owner::from_word((from >> 32) as u32),
    }
}

impl<H: Host> Map<H> {
    /// True if blocks of segment `segment` could stand at `offset`.
    pub(super) fn is_block_place(&self, segment: u32, offset: u64) -> bool {
        let inside = (offset - self.geometry.segment_offset(segment)).checked_sub(self.geometry.first_block());
        inside.is_some_and(|inside| inside.is_multiple_of(self.geometry.block_bytes()))
    }

    /// Bytes of an index segment to the end of its last block that was ever taken.
    pub(super) fn index_extent(&self, segment: u32) -> u64 {
        let blocks = self.geometry.blocks_per_segment();
        // Acquire: as everywhere.
        let is_raw = |number: &u64| self.block_word(segment, *number).load(Ordering::Acquire) == word(RAW, 0, 0);
        let taken = (0..blocks).rev().find(|number| !is_raw(number)).map_or(0, |number| number + 1);
        self.geometry.first_block() + taken * self.geometry.block_bytes()
    }

    /// The blocks and parts of directories whose state words name each stripe.
    pub(super) fn blocks_by_stripe(&self) -> Vec<Vec<u64>> {
        let mut blocks = vec![Vec::new(); self.geometry.stripe_count as usize];
        self.each_block(&mut |segment, number, from| {
            let BlockState { state, stripe, .. } = taken_apart(from);
            if matches!(state, IN_USE | OWNED | DIRECTORY | OWNED_DIRECTORY)
                && let Some(blocks) = blocks.get_mut(stripe as usize)
            {
                blocks.push(self.block_offset(segment, number));
            }
        });
        blocks
    }

    fn each_block(&self, visit: &mut dyn FnMut(u32, u64, u64)) {
        for segment in (0..self.geometry.segment_count).filter(|index| self.row(*index).state().usage == Use::Index) {
            for number in 0..self.geometry.blocks_per_segment() {
                // Acquire: as everywhere.
                visit(segment, number, self.block_word(segment, number).load(Ordering::Acquire));
            }
        }
    }

    /// State words that no writer makes, or that name no stripe, or a dead owner that was
    /// preparing raw memory, become free. Every stripe has adopted what it leads to before:
    /// what is free, anybody takes and empties.
    pub(super) fn mend_stray_blocks(&self, repaired: &mut Repaired) {
        self.each_block(&mut |segment, number, from| {
            let was = taken_apart(from);
            let is_made = was.is_made(from, self.geometry.stripe_count);
            let is_gone = was.state == OWNED_RAW && was.owner.is_some_and(|who| self.is_gone(who));
            if is_made && !is_gone {
                return;
            }
            let to = if is_made { word(RAW, 0, 0) } else { word(FREE, 0, 0) };
            // CAS ok = AcqRel: as in `own_window`; err = Relaxed: somebody was faster.
            let word_of_block = self.block_word(segment, number);
            if word_of_block.compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                repaired.blocks += 1;
            }
        });
    }

    /// Makes the state word at `offset` say that stripe `stripe`, whose lock is held, has a
    /// block in use or a part of its directory there. False if it is somebody else's.
    pub(super) fn adopt(&self, offset: u64, state: u64, stripe: u32, repaired: &mut Repaired) -> bool {
        let Some(word_of_block) = self.state_of_block(offset) else { return false };
        // Acquire: as everywhere.
        let from = word_of_block.load(Ordering::Acquire);
        let to = word(state, stripe, 0);
        if from == to {
            return true;
        }
        let was = taken_apart(from);
        // A word that no writer makes says nothing.
        let is_taken = was.is_made(from, self.geometry.stripe_count)
            && match was.state {
                IN_USE | DIRECTORY | OLD_DIRECTORY => was.stripe != stripe,
                // In somebody's hand: no stripe leads to such a block while its owner lives.
                OWNED | OWNED_DIRECTORY | OWNED_RAW => was.owner.is_some_and(|who| !self.is_gone(who)),
                _ => false,
            };
        // CAS ok = AcqRel: ours, with what was done to it; err = Relaxed: somebody was faster.
        let is_ours =
            !is_taken && word_of_block.compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        repaired.blocks += u64::from(is_ours);
        is_ours
    }

    /// Gives back what state words say is the stripe's, and its directory does not lead to.
    /// The stripe's lock is held, and `kept` is all that it leads to.
    pub(super) fn give_back(&self, stripe: u32, blocks: &[u64], kept: &HashSet<u64>, repaired: &mut Repaired) {
        for offset in blocks.iter().filter(|offset| !kept.contains(offset)) {
            let Some(word_of_block) = self.state_of_block(*offset) else { continue };
            // Acquire: as everywhere.
            let from = word_of_block.load(Ordering::Acquire);
            let was = taken_apart(from);
            let is_dead = was.owner.is_none_or(|who| self.is_gone(who));
            let to = match was.state {
                IN_USE | OWNED if is_dead => word(FREE, 0, 0),
                // Late readers may still read it as what it was.
                DIRECTORY => word(OLD_DIRECTORY, stripe, 0),
                OWNED_DIRECTORY if is_dead => word(RAW, 0, 0),
                _ => continue,
            };
            // CAS ok = AcqRel: after the stores that lead past it; err = Relaxed: somebody
            // was faster.
            if was.stripe == stripe
                && word_of_block.compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed).is_ok()
            {
                repaired.blocks += 1;
            }
        }
    }
}
