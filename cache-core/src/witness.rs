//! Witnesses: whether a value that was read before is still there, without reading it again.
//!
//! For who keeps something that was made of a value, such as a decoded object, and may use it
//! only as long as the region still holds that very version. A witness is what a read saw on
//! its way: the slot without its use count, the change counter of its bucket from before the
//! slot was looked at, and the generations of clears, tags and repairs from before that. If
//! all of them are what they were, and the value has not expired, then nothing has happened to
//! the key since: a counter only grows, and grows before a slot changes; so the value that
//! was read is the one that is there. The slot is looked at before the counter, because a
//! place may be used again: then the counter is another. [loom: witness]
//!
//! Coherence of the slot's word is what makes it safe for all processes together: whoever has
//! read a newer value has seen the slot change, and whoever hears of that sees it too. A
//! writer that is stopped before that change has stored nothing yet.
//!
//! If the counter alone moved, a neighbour in the bucket was written, or the item was copied
//! on by reclaim: `renew` looks the key up and compares versions.

use crate::candidate::Candidate;
use crate::error::Result;
use crate::hash::Hash;
use crate::host::Host;
use crate::index::{Found, Manner};
use crate::layout::{LINE_BYTES, control};
use crate::map::Map;
use crate::mark::Mark;
use crate::slot::Slot;
use crate::stats::Counter;
use crate::sync::Ordering;
use crate::types::{Destination, Key, Meta, NEVER, Namespace};

/// What a read saw; see the module. Belongs to the [`Map`] that made it.
#[derive(Debug, Clone)]
pub struct Witness {
    /// Offset of the slot, and what it and its bucket's counter held.
    slot: u64,
    item: u64,
    counter: u64,
    epoch: u64,
    namespace: Namespace,
    /// Of the namespace, if it is not the default one, and of the tags.
    marks: Box<[Mark]>,
    expires_at_ms: u64,
    version: u64,
}

impl Witness {
    /// The version of the value that was read.
    pub fn version(&self) -> u64 {
        self.version
    }
}

impl<H: Host> Map<H> {
    /// How often everything was cleared, plus how often repair emptied a stripe. Both only grow, so
    /// the sum is the same if neither did.
    #[inline]
    fn epoch(&self, namespace: Namespace) -> u64 {
        // Acquire: before the slot is looked at.
        let resets = self.control_word(control::RESETS).load(Ordering::Acquire);
        self.generation(namespace).wrapping_add(resets)
    }

    /// Sends for what [`Map::still_holds`] looks at, by the key's [`Map::hash`]. Only a hint.
    #[inline]
    pub fn prefetch(&self, hash: u64) {
        self.prefetch_buckets(Hash(hash));
    }

    /// As [`Map::get`], with a witness of what was read.
    ///
    /// # Errors
    /// As [`Map::get`].
    pub fn get_witnessed<'k, D: Destination + ?Sized>(
        &self,
        key: impl Into<Key<'k>>,
        destination: &mut D,
    ) -> Result<Option<(Meta, Witness)>> {
        let key = key.into();
        let hash = self.hash_key(key)?;
        let epoch = self.epoch(key.namespace);
        let mut marks = Vec::new();
        let read = |candidate: &Candidate<'_>| {
            candidate.copy_value(destination.buffer(&candidate.meta)?);
            candidate.copy_marks(&mut marks);
            Ok(())
        };
        let found = self.lookup(hash, key, Manner::Use, read)?;
        self.count_in(key.namespace, if found.is_some() { Counter::Hits } else { Counter::Misses }, 1);
        self.note_read(hash, key, found.as_ref().map(|(found, ())| &found.meta));
        Ok(found.map(|(found, ())| (found.meta, self.witness(&found, epoch, marks.into()))))
    }

    fn witness(&self, found: &Found<'_>, epoch: u64, marks: Box<[Mark]>) -> Witness {
        Witness {
            slot: self.region.offset_of(found.slot),
            item: found.word.item(),
            counter: found.counter,
            epoch,
            namespace: found.meta.namespace,
            marks,
            expires_at_ms: found.meta.expires_at_ms,
            version: found.meta.version,
        }
    }

    /// True if the key still has the very value that the witness was made with. That counts as
    /// a hit and as a use; a false says nothing, see [`Map::renew`].
    ///
    /// Reads the clock if the value expires, and two or three lines of the region.
    #[inline]
    pub fn still_holds(&self, witness: &Witness) -> bool {
        if witness.expires_at_ms != NEVER && self.host.now_ms() >= witness.expires_at_ms
            || self.epoch(witness.namespace) != witness.epoch
            || witness.marks.iter().any(|mark| self.is_outdated(*mark))
        {
            return false;
        }
        let slot = self.region.word(witness.slot);
        // Acquire, both: slot before counter, which begins the line of its bucket. [loom: witness]
        let word = Slot(slot.load(Ordering::Acquire));
        if word.item() != witness.item
            || self.region.word(witness.slot & !(LINE_BYTES - 1)).load(Ordering::Acquire) != witness.counter
        {
            return false;
        }
        self.raise_use(slot, word, Manner::Use);
        self.count_in(witness.namespace, Counter::Hits, 1);
        true
    }

    /// Looks `key` up: true if it still has the witness's version, which holds again then. That
    /// counts as a hit and as a use; a false counts as nothing.
    ///
    /// # Errors
    /// As [`Map::get`].
    pub fn renew<'k>(&self, key: impl Into<Key<'k>>, witness: &mut Witness) -> Result<bool> {
        let key = key.into();
        let hash = self.hash_key(key)?;
        let epoch = self.epoch(key.namespace);
        let same = |meta: &Meta| meta.version == witness.version && meta.namespace == witness.namespace;
        let Some(found) = self.find(hash, key, Manner::Use)?.filter(|found| same(&found.meta)) else {
            return Ok(false);
        };
        *witness = self.witness(&found, epoch, std::mem::take(&mut witness.marks));
        self.count_in(key.namespace, Counter::Hits, 1);
        self.note_read(hash, key, Some(&found.meta));
        Ok(true)
    }
}
