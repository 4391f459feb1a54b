//! What a copy of a region's contents reads from one map and gives to another.
//!
//! Owns: a read of one item with what the policy knows of it, which leaves no trace, and
//! the way to hand that knowledge on. Called by snapshots; nothing is decided by it.

use crate::error::Result;
use crate::host::Host;
use crate::index::Manner;
use crate::map::Map;
use crate::slot::{Queue, USE_MAX};
use crate::types::{Destination, Key, Meta};

/// A value as it lies in the region, without its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Carried {
    /// What is known of the value.
    pub meta: Meta,
    /// How often it was asked for since eviction last looked, 0 to 3.
    pub uses: u8,
    /// It is in the main queue: it was asked for while it was in the small one.
    pub is_main: bool,
    /// Number of its tags. Their names are not in the region.
    pub tag_count: u32,
}

impl<H: Host> Map<H> {
    /// Copies the value of `key` into `destination`, as [`Map::get`] does, with what eviction
    /// knows of it. Counts neither as a hit or miss nor as a use. `None` if the key is not there.
    ///
    /// # Errors
    /// `KeyEmpty`, `KeyTooLong`, `Busy`, or what `destination` returns.
    pub fn carry<'k, D: Destination + ?Sized>(
        &self,
        key: impl Into<Key<'k>>,
        destination: &mut D,
    ) -> Result<Option<Carried>> {
        let key = key.into();
        let hash = self.hash_key(key)?;
        let mut tags = Vec::new();
        let found = self.lookup(hash, key, Manner::Look, |candidate| {
            candidate.copy_value(destination.buffer(&candidate.meta)?);
            candidate.copy_tags(&mut tags);
            Ok(tags.len() as u32)
        })?;
        Ok(found.map(|(found, tag_count)| Carried {
            meta: found.meta,
            uses: found.word.uses() as u8,
            is_main: found.word.queue() == Queue::Main,
            tag_count,
        }))
    }

    /// Lets `key` count as asked for `uses` times more, 3 at most, without a hit or a miss. Nothing
    /// happens on a read-only attachment, or if the key is not there.
    ///
    /// # Errors
    /// `KeyEmpty`, `KeyTooLong`, `Busy`.
    pub fn warm<'k>(&self, key: impl Into<Key<'k>>, uses: u8) -> Result<()> {
        let key = key.into();
        for _ in 0..u64::from(uses).min(USE_MAX) {
            if !self.mark_used(key)? {
                break;
            }
        }
        Ok(())
    }
}
