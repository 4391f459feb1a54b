//! From a snapshot to a region.

use std::collections::HashMap;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use cache_shm::{Cache, Error, NEVER, WriteOptions};

use super::format::{Header, Record};
use super::reading::{Chunks, check, open, records};
use super::{Problem, Progress, Watch};
use crate::clock::unix_ms;
use crate::failure::{Failure, Result};

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
    /// The snapshot's id.
    pub id: u64,
    /// When it was made, in milliseconds since 1970.
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
    /// Not stored: this region has no room for their namespace.
    pub without_namespace: u64,
    /// Damaged places.
    pub damaged: u64,
    /// What is damaged there, of the first hundred.
    pub problems: Vec<Problem>,
}

impl Restored {
    /// The snapshot was made later than now: one of the clocks is wrong, and with it what has expired.
    pub fn is_from_future(&self) -> bool {
        self.created_unix_ms > unix_ms()
    }
}

/// Stores the values of the snapshot `path` in the region of `cache`, a handle in the default
/// namespace, each by an operation of its own:
/// others may work meanwhile. The whole file is checked first, if it is one that can be read
/// twice.
///
/// # Errors
/// Of the file: unreadable, no snapshot, damaged, cut off; then nothing was stored. Of the region:
/// `Full` and `NoSpace`, `Busy`, `ReadOnly`, `Gone`. `Cancelled` if `watch` said so. If some was stored by then it is
/// [`Failure::Stopped`], which says how much.
pub fn restore(cache: &Cache, path: &Path, options: &Options, watch: &mut Watch<'_>) -> Result<Restored> {
    if !options.skip_damaged && path.is_file() {
        check(path, watch)?;
    }
    restore_from(cache, &mut open(path)?, path, options, watch)
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
    watch: &mut Watch<'_>,
) -> Result<Restored> {
    let mut chunks = Chunks::new(stream, path, options.skip_damaged)?;
    let Header { id, created_unix_ms, .. } = chunks.header;
    let mut restored = Restored { id, created_unix_ms, ..Restored::default() };
    match restore_chunks(cache, &mut chunks, options, &mut restored, watch) {
        Ok(()) => {
            restored.damaged = chunks.problem_count;
            restored.problems = chunks.problems;
            Ok(restored)
        }
        Err(failure) if restored.stored > 0 => {
            Err(Failure::Stopped { cause: Box::new(failure), stored: restored.stored, items: chunks.header.items })
        }
        Err(failure) => Err(failure),
    }
}

fn restore_chunks(
    cache: &Cache,
    chunks: &mut Chunks<'_>,
    options: &Options,
    restored: &mut Restored,
    watch: &mut Watch<'_>,
) -> Result<()> {
    let created_unix_ms = chunks.header.created_unix_ms;
    let mut spaces = Spaces { cache, made: HashMap::new() };
    let (mut payload, mut items) = (Vec::new(), 0);
    while chunks.next(&mut payload)?.is_some() {
        for record in records(&payload) {
            items += 1;
            *match store(&mut spaces, &record, created_unix_ms, options)? {
                Outcome::Stored => &mut restored.stored,
                Outcome::Kept => &mut restored.kept,
                Outcome::Expired => &mut restored.expired,
                Outcome::Tagged => &mut restored.tagged,
                Outcome::TooLarge => &mut restored.too_large,
                Outcome::WithoutNamespace => &mut restored.without_namespace,
            } += 1;
        }
        let progress = Progress { items, items_expected: chunks.header.items.max(items), bytes: chunks.offset };
        if watch(progress).is_break() {
            return Err(Failure::Cancelled);
        }
    }
    Ok(())
}

/// The namespaces that values were stored in; `None` is one that the region has no room for.
struct Spaces<'a> {
    cache: &'a Cache,
    made: HashMap<Vec<u8>, Option<Cache>>,
}

impl Spaces<'_> {
    /// The handle of a namespace, which is made if it is not there.
    fn of(&mut self, name: &[u8]) -> Result<Option<&Cache>> {
        if name.is_empty() {
            return Ok(Some(self.cache));
        }
        if !self.made.contains_key(name) {
            let made = match self.cache.namespace(name) {
                Ok(made) => Some(made),
                Err(Error::NamespacesFull { .. }) => None,
                Err(error) => return Err(error.into()),
            };
            self.made.insert(name.to_vec(), made);
        }
        Ok(self.made[name].as_ref())
    }
}

enum Outcome {
    Stored,
    Kept,
    Expired,
    Tagged,
    TooLarge,
    WithoutNamespace,
}

/// Stores a record, if it is one to be stored; else not even its namespace is made.
fn store(spaces: &mut Spaces<'_>, record: &Record<'_>, created_unix_ms: u64, options: &Options) -> Result<Outcome> {
    if record.tag_count > 0 && !options.with_tagged {
        return Ok(Outcome::Tagged);
    }
    let expires_at_ms = match record.expires_unix_ms {
        None => NEVER,
        // Where the clock stands before that of the snapshot, nothing lives longer than it had left then.
        Some(expires) => match expires.checked_sub(unix_ms().max(created_unix_ms)) {
            None | Some(0) => return Ok(Outcome::Expired),
            Some(left_ms) => spaces.cache.expiry(Duration::from_millis(left_ms))?,
        },
    };
    if record.value.len() as u64 > spaces.cache.geometry()?.item_bytes_max() {
        return Ok(Outcome::TooLarge);
    }
    let Some(cache) = spaces.of(record.namespace)? else { return Ok(Outcome::WithoutNamespace) };
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
