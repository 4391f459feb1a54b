//! From a snapshot to a region.

use std::collections::HashMap;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use cache_shm::{Cache, Error, NEVER, WriteOptions};

use super::format::Record;
use super::reading::{Chunks, check, open, records};
use super::writing::unix_ms;
use super::{Header, Problem, Progress};
use crate::failure::Result;

/// How a snapshot is restored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    /// Also keys that are there: they get the snapshot's values. Else they stay as they are.
    pub replace: bool,
    /// Values that had tags too, without them: no eviction by a tag finds them any more.
    pub with_tagged: bool,
    /// What is not damaged, from a snapshot that is.
    pub skip_damaged: bool,
}

/// What became of a snapshot's values.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Restored {
    /// When the snapshot was made, in milliseconds since 1970.
    pub created_unix_ms: u64,
    /// Stored.
    pub stored: u64,
    /// Not stored: the key was there.
    pub kept: u64,
    /// Not stored: expired since.
    pub expired: u64,
    /// Not stored: they had tags.
    pub tagged: u64,
    /// Not stored: larger than this region takes.
    pub too_large: u64,
    /// What is damaged.
    pub problems: Vec<Problem>,
}

/// Stores the values of the snapshot `path` in the region of `cache`, a handle in the default
/// namespace, each by an operation of its own:
/// others may work meanwhile. The whole file is checked first, if it is one that can be read
/// twice.
///
/// # Errors
/// Of the file: unreadable, no snapshot, damaged, cut off; then nothing was stored. Of the region:
/// `Full` and `NoSpace`, `NamespacesFull`, `Busy`, `ReadOnly`, `Gone`; then some was.
pub fn restore(cache: &Cache, path: &Path, options: &Options, progress: &mut dyn FnMut(Progress)) -> Result<Restored> {
    if !options.skip_damaged && path.is_file() {
        check(path)?;
    }
    restore_from(cache, &mut open(path)?, path, options, progress)
}

/// As [`restore`], from a stream, which errors call `path`. Damage is found where it comes: what
/// was before it is stored by then.
///
/// # Errors
/// As [`restore`].
pub fn restore_from(
    cache: &Cache,
    stream: &mut dyn Read,
    path: &Path,
    options: &Options,
    progress: &mut dyn FnMut(Progress),
) -> Result<Restored> {
    let mut chunks = Chunks::new(stream, path, options.skip_damaged)?;
    let header: Header = chunks.header;
    let mut restored = Restored { created_unix_ms: header.created_unix_ms, ..Restored::default() };
    let mut spaces: HashMap<Vec<u8>, Cache> = HashMap::new();
    let (mut payload, mut items) = (Vec::new(), 0);
    while chunks.next(&mut payload)?.is_some() {
        for record in records(&payload) {
            items += 1;
            if !record.namespace.is_empty() && !spaces.contains_key(record.namespace) {
                spaces.insert(record.namespace.to_vec(), cache.namespace(record.namespace)?);
            }
            *match store(spaces.get(record.namespace).unwrap_or(cache), &record, options)? {
                Outcome::Stored => &mut restored.stored,
                Outcome::Kept => &mut restored.kept,
                Outcome::Expired => &mut restored.expired,
                Outcome::Tagged => &mut restored.tagged,
                Outcome::TooLarge => &mut restored.too_large,
            } += 1;
        }
        progress(Progress { items, items_expected: header.items.max(items), bytes: chunks.offset });
    }
    restored.problems = chunks.problems;
    Ok(restored)
}

enum Outcome {
    Stored,
    Kept,
    Expired,
    Tagged,
    TooLarge,
}

fn store(cache: &Cache, record: &Record<'_>, options: &Options) -> Result<Outcome> {
    if record.tag_count > 0 && !options.with_tagged {
        return Ok(Outcome::Tagged);
    }
    let expires_at_ms = match record.expires_unix_ms {
        None => NEVER,
        Some(expires) => match expires.checked_sub(unix_ms()) {
            None | Some(0) => return Ok(Outcome::Expired),
            Some(left_ms) => cache.expiry(Duration::from_millis(left_ms))?,
        },
    };
    let write = WriteOptions {
        kind: record.kind,
        key_form: record.key_form,
        client_flags: record.client_flags,
        server_flags: record.server_flags,
        expires_at_ms,
        ..cache.options()
    };
    let done = if options.replace {
        cache.set_with(record.key, record.value, &write).map(Some)
    } else {
        cache.add(record.key, record.value, &write)
    };
    match done {
        Ok(Some(_)) => {
            let at = cache.scope()?;
            // What was in the main queue was worth keeping, whether or not it was used since.
            at.map.warm(at.key(record.key), record.uses.max(u8::from(record.is_main)))?;
            Ok(Outcome::Stored)
        }
        Ok(None) => Ok(Outcome::Kept),
        Err(Error::ValueTooLarge { .. }) => Ok(Outcome::TooLarge),
        Err(error) => Err(error.into()),
    }
}
