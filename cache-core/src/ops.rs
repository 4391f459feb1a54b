//! The writing operations: each is one decision on the path of `write`.
//!
//! Owns: set, add, replace, compare-and-swap, get-or-add, delete, take, counters, append,
//! touch, clear, and their batches. Every one takes effect at one instant, under the lock
//! of its key's stripe; a batch is a sequence of operations, not one.

use crate::deadline::Deadline;
use crate::error::{Error, Result};
use crate::host::Host;
use crate::index::{Found, Manner};
use crate::layout::{COPY_BYTES_MAX, control};
use crate::map::Map;
use crate::mark::{Mark, TagMarks};
use crate::stats::Counter;
use crate::sync::Ordering;
use crate::types::{Cas, Destination, Key, Meta, NEVER, Namespace, TIMEOUT_NS_DEFAULT, WriteOptions, kind};
use crate::write::Decision;

/// Operations of a batch whose index lines are fetched at once.
const BATCH: usize = 16;
/// A change that is prepared outside the lock is tried this often before it is Busy.
pub(crate) const RACES_MAX: u32 = 10_000;

impl<H: Host> Map<H> {
    /// Stores `value` under `key`, whatever is there. Returns the new version.
    ///
    /// An expiry that is not in the future removes the key instead, and returns 0.
    ///
    /// # Errors
    /// `KeyEmpty`, `KeyTooLong`, `ValueTooLarge`, `ReadOnly`; `Busy` when the key's stripe
    /// stayed locked until `options.timeout_ns`; `Full` (no-evict) or `NoSpace`. What was
    /// stored before is unharmed by all of them.
    pub fn set<'k>(&self, key: impl Into<Key<'k>>, value: &[u8], options: &WriteOptions) -> Result<u64> {
        let key = key.into();
        if self.is_past(options) {
            self.check_item(key, value.len(), options)?;
            self.delete(key, options.timeout_ns)?;
            return Ok(0);
        }
        Ok(self.put(key, &[value], options, TagMarks::Now(options.tags), |_| Decision::Put(()))?.version)
    }

    pub(crate) fn is_past(&self, options: &WriteOptions) -> bool {
        options.expires_at_ms != NEVER && options.expires_at_ms <= self.now_ms()
    }

    /// Stores `value` if `key` is not there. Returns the new version, `None` if it was.
    ///
    /// # Errors
    /// As [`Map::set`].
    pub fn add<'k>(&self, key: impl Into<Key<'k>>, value: &[u8], options: &WriteOptions) -> Result<Option<u64>> {
        let key = key.into();
        // A look first spares the copy when the key is there.
        if self.contains(key)? || self.is_past(options) {
            self.check_item(key, value.len(), options)?;
            return Ok(None);
        }
        let done = self.put(key, &[value], options, TagMarks::Now(options.tags), |there| {
            if there.is_some() { Decision::Leave(()) } else { Decision::Put(()) }
        })?;
        Ok((done.version != 0).then_some(done.version))
    }

    /// Stores `value` if `key` is there. Returns the new version, `None` if it was not.
    ///
    /// # Errors
    /// As [`Map::set`].
    pub fn replace<'k>(&self, key: impl Into<Key<'k>>, value: &[u8], options: &WriteOptions) -> Result<Option<u64>> {
        let key = key.into();
        self.check_item(key, value.len(), options)?;
        if !self.contains(key)? {
            return Ok(None);
        }
        if self.is_past(options) {
            return Ok(self.delete(key, options.timeout_ns)?.then_some(0));
        }
        let done = self.put(key, &[value], options, TagMarks::Now(options.tags), |there| {
            if there.is_some() { Decision::Put(()) } else { Decision::Leave(()) }
        })?;
        Ok((done.version != 0).then_some(done.version))
    }

    /// Stores `value` if `key` still has `version`, as a read reported it.
    ///
    /// # Errors
    /// As [`Map::set`].
    pub fn cas<'k>(&self, key: impl Into<Key<'k>>, version: u64, value: &[u8], options: &WriteOptions) -> Result<Cas> {
        let key = key.into();
        self.check_item(key, value.len(), options)?;
        let judge = |there: Option<&Found<'_>>| match there {
            None => Some(Cas::Missing),
            Some(found) if found.meta.version != version => Some(Cas::Changed(found.meta.version)),
            Some(_) => None,
        };
        if self.is_past(options) {
            let hash = self.hash_key(key)?;
            let said = self.settle(hash, key, options.timeout_ns, |there| match judge(there) {
                Some(said) => Decision::Leave(said),
                None => Decision::Remove(Cas::Stored(0)),
            })?;
            if matches!(said, Cas::Stored(_)) {
                self.note_delete(hash);
            }
            return Ok(said);
        }
        let done = self.put(key, &[value], options, TagMarks::Now(options.tags), |there| match judge(there) {
            Some(said) => Decision::Leave(said),
            None => Decision::Put(Cas::Stored(0)),
        })?;
        Ok(if done.version != 0 { Cas::Stored(done.version) } else { done.said })
    }

    /// Reads `key` into `destination`, or stores `value` if it is not there: one step.
    /// Returns what was there, `None` if `value` was stored.
    ///
    /// # Errors
    /// As [`Map::set`], and what `destination` returns.
    pub fn get_or_add<'k, D: Destination + ?Sized>(
        &self,
        key: impl Into<Key<'k>>,
        value: &[u8],
        options: &WriteOptions,
        destination: &mut D,
    ) -> Result<Option<Meta>> {
        let key = key.into();
        for _ in 0..RACES_MAX {
            if let Some(meta) = self.get(key, destination)? {
                return Ok(Some(meta));
            }
            if self.is_past(options) || self.add(key, value, options)?.is_some() {
                return Ok(None);
            }
        }
        Err(Error::Busy { waited_ms: 0 })
    }

    /// Removes `key`. True if it was there.
    ///
    /// # Errors
    /// `KeyEmpty`, `KeyTooLong`, `ReadOnly`, `Busy`.
    pub fn delete<'k>(&self, key: impl Into<Key<'k>>, timeout_ns: u64) -> Result<bool> {
        self.delete_if(key.into(), timeout_ns, |_| true)
    }

    /// Removes `key` if it still has the version and the expiry of `there`, as a read reported
    /// them. True if it did.
    ///
    /// A large value keeps its version when it is touched, so the expiry counts, too.
    ///
    /// # Errors
    /// As [`Map::delete`].
    pub fn delete_version<'k>(&self, key: impl Into<Key<'k>>, there: &Meta, timeout_ns: u64) -> Result<bool> {
        let seen = (there.version, there.expires_at_ms);
        self.delete_if(key.into(), timeout_ns, |meta| (meta.version, meta.expires_at_ms) == seen)
    }

    fn delete_if(&self, key: Key<'_>, timeout_ns: u64, is_meant: impl Fn(&Meta) -> bool) -> Result<bool> {
        let hash = self.hash_key(key)?;
        let removed = self.settle(hash, key, timeout_ns, |there| match there {
            Some(found) if is_meant(&found.meta) => Decision::Remove(true),
            _ => Decision::Leave(false),
        })?;
        self.count_in(key.namespace, Counter::Deletes, u64::from(removed));
        if removed {
            self.note_delete(hash);
        }
        Ok(removed)
    }

    /// Removes `key` and copies the value that it had: one step.
    ///
    /// # Errors
    /// As [`Map::delete`], and what `destination` returns (the key stays then).
    pub fn take<'k, D: Destination + ?Sized>(
        &self,
        key: impl Into<Key<'k>>,
        timeout_ns: u64,
        destination: &mut D,
    ) -> Result<Option<Meta>> {
        let key = key.into();
        self.owner.ok_or(Error::ReadOnly)?;
        for _ in 0..RACES_MAX {
            let Some(meta) = self.get(key, destination)? else { return Ok(None) };
            if self.delete_version(key, &meta, timeout_ns)? {
                return Ok(Some(meta));
            }
        }
        Err(Error::Busy { waited_ms: 0 })
    }

    /// Removes some key of a namespace, and copies it and its value: one step. `None` if there
    /// is none.
    ///
    /// # Errors
    /// As [`Map::take`].
    pub fn take_any<D: Destination + ?Sized>(
        &self,
        namespace: Namespace,
        timeout_ns: u64,
        key: &mut Vec<u8>,
        destination: &mut D,
    ) -> Result<Option<Meta>> {
        let mut cursor = crate::scan::Cursor::START;
        loop {
            let mut keys = Vec::new();
            let next = self.scan(cursor, &mut |key, meta| {
                if meta.namespace == namespace {
                    keys.push(key.to_vec());
                }
            })?;
            for candidate in keys {
                if let Some(meta) = self.take(Key::new(namespace, &candidate), timeout_ns, destination)? {
                    *key = candidate;
                    return Ok(Some(meta));
                }
            }
            match next {
                Some(next) => cursor = next,
                None => return Ok(None),
            }
        }
    }

    /// Adds `delta` to the integer under `key` and returns the sum. A missing key starts
    /// at `initial`, or gives `None`. The expiry of an existing key stays; a new one gets
    /// that of `options`.
    ///
    /// Works on integers and on canonical decimal text, which stays text.
    ///
    /// # Errors
    /// As [`Map::set`]; `NotInteger`, `Overflow` with nothing changed.
    pub fn incr<'k>(
        &self,
        key: impl Into<Key<'k>>,
        delta: i64,
        initial: Option<i64>,
        options: &WriteOptions,
    ) -> Result<Option<i64>> {
        let key = key.into();
        self.owner.ok_or(Error::ReadOnly)?;
        let mut old = Old::default();
        for _ in 0..RACES_MAX {
            let Some(meta) = self.read_old(key, &mut old)? else {
                let Some(initial) = initial else { return Ok(None) };
                let sum = initial.checked_add(delta).ok_or(Error::Overflow)?;
                if self.is_past(options) {
                    return Ok(Some(sum));
                }
                let options = WriteOptions { kind: kind::INT, ..*options };
                if self.add(key, &sum.to_le_bytes(), &options)?.is_some() {
                    return Ok(Some(sum));
                }
                continue;
            };
            let sum = integer(&meta, &old.value)?.checked_add(delta).ok_or(Error::Overflow)?;
            let (number, text) = (sum.to_le_bytes(), sum.to_string());
            let value = if meta.kind == kind::INT { &number[..] } else { text.as_bytes() };
            if self.supersede(key, &old, &[value], &options.keeping(&meta))?.is_some() {
                return Ok(Some(sum));
            }
        }
        Err(Error::Busy { waited_ms: 0 })
    }

    /// Appends `tail` to the value under `key`; its kind, flags and expiry stay, but that
    /// an integer becomes its decimal text first. A missing key starts as `initial` with the
    /// kind and expiry of `options`, or gives `None`. Returns the new length.
    ///
    /// # Errors
    /// As [`Map::set`]; `NotAppendable` with nothing changed.
    pub fn append<'k>(
        &self,
        key: impl Into<Key<'k>>,
        tail: &[u8],
        initial: Option<&[u8]>,
        options: &WriteOptions,
    ) -> Result<Option<usize>> {
        let key = key.into();
        self.owner.ok_or(Error::ReadOnly)?;
        let mut old = Old::default();
        for _ in 0..RACES_MAX {
            let Some(meta) = self.read_old(key, &mut old)? else {
                let Some(initial) = initial else { return Ok(None) };
                let value = [initial, tail].concat();
                let options = WriteOptions { kind: kind_appended(options.kind, tail)?, ..*options };
                self.check_item(key, value.len(), &options)?;
                if self.is_past(&options) || self.add(key, &value, &options)?.is_some() {
                    return Ok(Some(value.len()));
                }
                continue;
            };
            let mut options = options.keeping(&meta);
            options.kind = kind_appended(meta.kind, tail)?;
            if meta.kind == kind::INT {
                old.value = integer(&meta, &old.value)?.to_string().into_bytes();
            }
            if self.supersede(key, &old, &[&old.value, tail], &options)?.is_some() {
                return Ok(Some(old.value.len() + tail.len()));
            }
        }
        Err(Error::Busy { waited_ms: 0 })
    }

    /// Gives `key` another expiry. True if it was there; an expiry that is not in the
    /// future removes it.
    ///
    /// # Errors
    /// As [`Map::set`].
    pub fn touch<'k>(&self, key: impl Into<Key<'k>>, expires_at_ms: u64, timeout_ns: u64) -> Result<bool> {
        let key = key.into();
        self.owner.ok_or(Error::ReadOnly)?;
        for _ in 0..RACES_MAX {
            let Some(there) = self.meta(key)? else { return Ok(false) };
            if self.touch_version(key, &there, expires_at_ms, timeout_ns)? {
                return Ok(true);
            }
        }
        Err(Error::Busy { waited_ms: 0 })
    }

    /// Gives `key` another expiry if it still has the version and the expiry of `there`, as a
    /// read reported them. True if it did; as [`Map::touch`] otherwise.
    ///
    /// A large value keeps its version when it is touched, so the expiry counts, too: of two
    /// callers that saw the same one succeeds.
    ///
    /// # Errors
    /// As [`Map::set`].
    pub fn touch_version<'k>(
        &self,
        key: impl Into<Key<'k>>,
        there: &Meta,
        expires_at_ms: u64,
        timeout_ns: u64,
    ) -> Result<bool> {
        let key = key.into();
        self.owner.ok_or(Error::ReadOnly)?;
        let hash = self.hash_key(key)?;
        if expires_at_ms != NEVER && expires_at_ms <= self.now_ms() {
            return self.delete_version(key, there, timeout_ns);
        }
        if there.value_bytes > COPY_BYTES_MAX {
            if self.touch_in_place(hash, key, there, expires_at_ms, timeout_ns)? {
                return Ok(true);
            }
            // Another one is not copied in vain.
            if self.meta(key)?.as_ref() != Some(there) {
                return Ok(false);
            }
        }
        let mut old = Old::default();
        if self.read_old(key, &mut old)?.as_ref() != Some(there) {
            return Ok(false);
        }
        let options = WriteOptions { expires_at_ms, timeout_ns, ..WriteOptions::default().keeping(there) };
        Ok(self.supersede(key, &old, &[&old.value], &options)?.is_some())
    }

    /// Reads what another version is to be made of. Does not count as a use, a hit or a miss.
    pub(crate) fn read_old(&self, key: Key<'_>, old: &mut Old) -> Result<Option<Meta>> {
        let hash = self.hash_key(key)?;
        let found = self.lookup(hash, key, Manner::Look, |candidate| {
            candidate.copy_value(old.value.buffer(&candidate.meta)?);
            candidate.copy_tags(&mut old.tags);
            Ok(())
        })?;
        Ok(found.map(|(found, ())| {
            (old.version, old.expires_at_ms) = (found.meta.version, found.meta.expires_at_ms);
            found.meta
        }))
    }

    /// Stores `parts` if `old` is still there; the new version if it was. The tags stay, and what is
    /// evicted by one of them meanwhile stays evicted.
    pub(crate) fn supersede(
        &self,
        key: Key<'_>,
        old: &Old,
        parts: &[&[u8]],
        options: &WriteOptions,
    ) -> Result<Option<u64>> {
        self.replace_old(key, old, parts, options, TagMarks::Kept(&old.tags))
    }

    /// As [`Map::supersede`], with these tags.
    pub(crate) fn replace_old(
        &self,
        key: Key<'_>,
        old: &Old,
        parts: &[&[u8]],
        options: &WriteOptions,
        tags: TagMarks<'_>,
    ) -> Result<Option<u64>> {
        let done = self.put(key, parts, options, tags, |there| match there {
            // A large value that was touched has its version still.
            Some(found) if (found.meta.version, found.meta.expires_at_ms) == (old.version, old.expires_at_ms) => {
                Decision::Put(())
            }
            _ => Decision::Leave(()),
        })?;
        Ok((done.version != 0).then_some(done.version))
    }

    /// Makes every key of every namespace disappear, at one instant. Their space comes back
    /// with the reclaim of later writes.
    ///
    /// # Errors
    /// `ReadOnly`.
    pub fn clear(&self) -> Result<()> {
        self.owner.ok_or(Error::ReadOnly)?;
        self.begin_generation(control::REGION_GENERATION);
        Ok(())
    }

    /// Makes every key of one namespace disappear, at one instant; as [`Map::clear`].
    ///
    /// # Errors
    /// `ReadOnly`.
    pub fn clear_of(&self, namespace: Namespace) -> Result<()> {
        self.owner.ok_or(Error::ReadOnly)?;
        self.check_namespace(namespace)?;
        if namespace != Namespace::DEFAULT {
            let word = self.generation_word(namespace.number().into()).ok_or(Error::Internal)?;
            // AcqRel: the one instant of the clear. Reads compare it after they loaded the slot.
            word.fetch_add(1, Ordering::AcqRel);
            self.note_ended_marks();
        } else if self.has_namespaces() {
            // AcqRel: as above.
            self.control_word(control::DEFAULT_GENERATION).fetch_add(1, Ordering::AcqRel);
            self.note_ended_marks();
        } else {
            self.begin_generation(control::DEFAULT_GENERATION);
        }
        Ok(())
    }

    /// Begins a generation of all items that there are.
    fn begin_generation(&self, word: u64) {
        let ticket = self.next_ticket();
        // AcqRel: the one instant of the clear. Reads compare it after they loaded the slot.
        self.control_word(word).fetch_add(1, Ordering::AcqRel);
        // Relaxed: a hint for reclaim; after the instant, or a death in between would
        // make live segments look dead.
        self.control_word(control::CLEARED_TICKET).fetch_max(ticket, Ordering::Relaxed);
    }

    /// Stores many values, each as by [`Map::set`]. `on_error` gets the position of each
    /// that failed. Returns how many were stored.
    pub fn set_many<'k, K: Copy + Into<Key<'k>>>(
        &self,
        items: &[(K, &[u8], WriteOptions)],
        on_error: &mut dyn FnMut(usize, Error),
    ) -> usize {
        let mut stored = 0;
        for (chunk_at, chunk) in items.chunks(BATCH).enumerate() {
            for (key, ..) in chunk {
                self.prefetch_buckets(self.hasher.key((*key).into()));
            }
            for (at, (key, value, options)) in chunk.iter().enumerate() {
                match self.set(*key, value, options) {
                    Ok(_) => stored += 1,
                    Err(error) => on_error(chunk_at * BATCH + at, error),
                }
            }
        }
        stored
    }

    /// Removes many keys, each as by [`Map::delete`]. Returns how many were there.
    ///
    /// # Errors
    /// As [`Map::delete`], at the first key that fails; earlier ones are removed.
    pub fn delete_many<'k, K: Copy + Into<Key<'k>>>(&self, keys: &[K], timeout_ns: u64) -> Result<usize> {
        let mut removed = 0;
        for chunk in keys.chunks(BATCH) {
            for key in chunk {
                self.prefetch_buckets(self.hasher.key((*key).into()));
            }
            for key in chunk {
                removed += usize::from(self.delete(*key, timeout_ns)?);
            }
        }
        Ok(removed)
    }

    /// Background work: keeps segments free ahead of need and sweeps what expired, about
    /// `budget_bytes` bytes of it. Returns the free bytes there are now (a hint).
    ///
    /// # Errors
    /// `ReadOnly`, `Busy`.
    pub fn maintain(&self, budget_bytes: u64) -> Result<u64> {
        let (worker, _) = self.enter(&Deadline::new(TIMEOUT_NS_DEFAULT))?;
        self.work_ahead(&worker, budget_bytes);
        // Relaxed: a hint.
        Ok(self.free_segments_hint() * self.geometry.segment_bytes())
    }
}

/// A version of a value that another is made of.
#[derive(Default)]
pub(crate) struct Old {
    version: u64,
    expires_at_ms: u64,
    pub value: Vec<u8>,
    tags: Vec<Mark>,
}

/// What a value of this kind is when `tail` was appended to it: text stays text.
fn kind_appended(kind: u8, tail: &[u8]) -> Result<u8> {
    match kind {
        kind::BYTES | kind::BYTEARRAY => Ok(kind),
        kind::STR | kind::INT if std::str::from_utf8(tail).is_ok() => Ok(kind::STR),
        _ => Err(Error::NotAppendable),
    }
}

/// The integer that a value is, if it is one.
fn integer(meta: &Meta, value: &[u8]) -> Result<i64> {
    match meta.kind {
        kind::INT => value.try_into().map(i64::from_le_bytes).map_err(|_| Error::NotInteger),
        kind::STR | kind::BYTES => {
            let text = std::str::from_utf8(value).map_err(|_| Error::NotInteger)?;
            let number: i64 = text.parse().map_err(|_| Error::NotInteger)?;
            // Canonical only: no sign, space or zero that would be lost.
            if number.to_string() == text { Ok(number) } else { Err(Error::NotInteger) }
        }
        _ => Err(Error::NotInteger),
    }
}
