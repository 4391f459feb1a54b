//! A change that is made of what is there: read, decide, replace if it is still there.
//!
//! Owns: the loop for callers whose decision is no operation of its own in `ops`. What they
//! decide by is one completed version with its expiry, and what they store replaces that or
//! nothing.

use crate::error::{Error, Result};
use crate::host::Host;
use crate::map::Map;
use crate::mark::TagMarks;
use crate::ops::{Old, RACES_MAX};
use crate::types::{Key, Meta, WriteOptions};

/// What becomes of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change<'a> {
    /// It stays as it is.
    Leave,
    /// It goes.
    Remove,
    /// It gets another value, with these options and their tags.
    Put(WriteOptions<'a>),
    /// It gets another value with these options, and keeps the tags that it has.
    Alter(WriteOptions<'a>),
}

/// Says what becomes of what is there, and writes the new value into the empty buffer.
pub type Decide<'a, 'o> = dyn FnMut(Option<(&Meta, &[u8])>, &mut Vec<u8>) -> Result<Change<'o>> + 'a;

impl<H: Host> Map<H> {
    /// Replaces the value of `key` by one that is made of it: one step.
    ///
    /// `decide` gets what is there and an empty buffer for the new value, and says what to do.
    /// It runs outside of all locks, and again whenever another writer came first. Counts
    /// neither as a use of the key nor as a hit or a miss. Returns the version that was
    /// stored, 0 if there is none now that was not there before.
    ///
    /// # Errors
    /// As [`Map::set`], and what `decide` returns; nothing changed.
    pub fn update<'k, 'o>(&self, key: impl Into<Key<'k>>, timeout_ns: u64, decide: &mut Decide<'_, 'o>) -> Result<u64> {
        let key = key.into();
        self.owner().ok_or(Error::ReadOnly)?;
        let (mut old, mut value) = (Old::default(), Vec::new());
        for _ in 0..RACES_MAX {
            let there = self.read_old(key, &mut old)?;
            value.clear();
            let change = decide(there.as_ref().map(|meta| (meta, &old.value[..])), &mut value)?;
            let timed = |options: WriteOptions<'o>| WriteOptions { timeout_ns, ..options };
            let done = match (change, there) {
                (Change::Leave, _) | (Change::Remove, None) => Some(0),
                (Change::Remove, Some(meta)) => self.delete_version(key, &meta, timeout_ns)?.then_some(0),
                (Change::Put(options) | Change::Alter(options), None) => {
                    let options = timed(options);
                    if self.is_past(&options) { Some(0) } else { self.add(key, &value, &options)? }
                }
                (Change::Put(options) | Change::Alter(options), Some(meta)) if self.is_past(&options) => {
                    self.delete_version(key, &meta, timeout_ns)?.then_some(0)
                }
                (Change::Put(options), Some(_)) => {
                    self.replace_old(key, &old, &[&value], &timed(options), TagMarks::Now(options.tags))?
                }
                (Change::Alter(options), Some(_)) => self.supersede(key, &old, &[&value], &timed(options))?,
            };
            if let Some(version) = done {
                return Ok(version);
            }
        }
        Err(Error::Busy { waited_ms: 0 })
    }
}
