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
use crate::stats::Counter;
use crate::sync::Ordering;
use crate::types::{Cas, Destination, Meta, NEVER, TIMEOUT_NS_DEFAULT, WriteOptions, kind};
use crate::write::Decision;

/// Operations of a batch whose index lines are fetched at once.
const BATCH: usize = 16;
/// A change that is prepared outside the lock is tried this often before it is Busy.
const RACES_MAX: u32 = 10_000;

impl<H: Host> Map<H> {
    /// Stores `value` under `key`, whatever is there. Returns the new version.
    ///
    /// An expiry that is not in the future removes the key instead, and returns 0.
    ///
    /// # Errors
    /// `KeyEmpty`, `KeyTooLong`, `ValueTooLarge`, `ReadOnly`; `Busy` when the key's stripe
    /// stayed locked until `options.timeout_ns`; `Full` (no-evict) or `NoSpace`. What was
    /// stored before is unharmed by all of them.
    pub fn set(&self, key: &[u8], value: &[u8], options: &WriteOptions) -> Result<u64> {
        if self.is_past(options) {
            self.check_item(key, value.len(), options)?;
            self.delete(key, options.timeout_ns)?;
            return Ok(0);
        }
        Ok(self.put(key, &[value], options, |_| Decision::Put(()))?.version)
    }

    fn is_past(&self, options: &WriteOptions) -> bool {
        options.expires_at_ms != NEVER && options.expires_at_ms <= self.now_ms()
    }

    /// Stores `value` if `key` is not there. Returns the new version, `None` if it was.
    ///
    /// # Errors
    /// As [`Map::set`].
    pub fn add(&self, key: &[u8], value: &[u8], options: &WriteOptions) -> Result<Option<u64>> {
        // A look first spares the copy when the key is there.
        if self.contains(key)? || self.is_past(options) {
            self.check_item(key, value.len(), options)?;
            return Ok(None);
        }
        let done =
            self.put(
                key,
                &[value],
                options,
                |there| {
                    if there.is_some() { Decision::Leave(()) } else { Decision::Put(()) }
                },
            )?;
        Ok((done.version != 0).then_some(done.version))
    }

    /// Stores `value` if `key` is there. Returns the new version, `None` if it was not.
    ///
    /// # Errors
    /// As [`Map::set`].
    pub fn replace(&self, key: &[u8], value: &[u8], options: &WriteOptions) -> Result<Option<u64>> {
        self.check_item(key, value.len(), options)?;
        if !self.contains(key)? {
            return Ok(None);
        }
        if self.is_past(options) {
            return Ok(self.delete(key, options.timeout_ns)?.then_some(0));
        }
        let done =
            self.put(
                key,
                &[value],
                options,
                |there| {
                    if there.is_some() { Decision::Put(()) } else { Decision::Leave(()) }
                },
            )?;
        Ok((done.version != 0).then_some(done.version))
    }

    /// Stores `value` if `key` still has `version`, as a read reported it.
    ///
    /// # Errors
    /// As [`Map::set`].
    pub fn cas(&self, key: &[u8], version: u64, value: &[u8], options: &WriteOptions) -> Result<Cas> {
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
            return Ok(said);
        }
        let done = self.put(key, &[value], options, |there| match judge(there) {
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
    pub fn get_or_add<D: Destination + ?Sized>(
        &self,
        key: &[u8],
        value: &[u8],
        options: &WriteOptions,
        destination: &mut D,
    ) -> Result<Option<Meta>> {
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
    pub fn delete(&self, key: &[u8], timeout_ns: u64) -> Result<bool> {
        let hash = self.hash_key(key)?;
        let removed = self.settle(hash, key, timeout_ns, |there| match there {
            Some(_) => Decision::Remove(true),
            None => Decision::Leave(false),
        })?;
        self.count(Counter::Deletes, u64::from(removed));
        Ok(removed)
    }

    /// Removes `key` if it still has `version`. True if it did.
    ///
    /// # Errors
    /// As [`Map::delete`].
    pub fn delete_version(&self, key: &[u8], version: u64, timeout_ns: u64) -> Result<bool> {
        let hash = self.hash_key(key)?;
        let removed = self.settle(hash, key, timeout_ns, |there| match there {
            Some(found) if found.meta.version == version => Decision::Remove(true),
            _ => Decision::Leave(false),
        })?;
        self.count(Counter::Deletes, u64::from(removed));
        Ok(removed)
    }

    /// Removes `key` and copies the value that it had: one step.
    ///
    /// # Errors
    /// As [`Map::delete`], and what `destination` returns (the key stays then).
    pub fn take<D: Destination + ?Sized>(
        &self,
        key: &[u8],
        timeout_ns: u64,
        destination: &mut D,
    ) -> Result<Option<Meta>> {
        self.owner.ok_or(Error::ReadOnly)?;
        for _ in 0..RACES_MAX {
            let Some(meta) = self.get(key, destination)? else { return Ok(None) };
            if self.delete_version(key, meta.version, timeout_ns)? {
                return Ok(Some(meta));
            }
        }
        Err(Error::Busy { waited_ms: 0 })
    }

    /// Removes some key, and copies it and its value: one step. `None` if there is none.
    ///
    /// # Errors
    /// As [`Map::take`].
    pub fn take_any<D: Destination + ?Sized>(
        &self,
        timeout_ns: u64,
        key: &mut Vec<u8>,
        destination: &mut D,
    ) -> Result<Option<Meta>> {
        let mut cursor = crate::scan::Cursor::START;
        loop {
            let mut keys = Vec::new();
            let next = self.scan(cursor, &mut |key, _| keys.push(key.to_vec()))?;
            for candidate in keys {
                if let Some(meta) = self.take(&candidate, timeout_ns, destination)? {
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
    pub fn incr(&self, key: &[u8], delta: i64, initial: Option<i64>, options: &WriteOptions) -> Result<Option<i64>> {
        self.owner.ok_or(Error::ReadOnly)?;
        let mut old = Vec::new();
        for _ in 0..RACES_MAX {
            let Some(meta) = self.peek_quietly(key, &mut old)? else {
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
            let sum = integer(&meta, &old)?.checked_add(delta).ok_or(Error::Overflow)?;
            let options = keeping(&meta, options);
            let stored = if meta.kind == kind::INT {
                self.cas(key, meta.version, &sum.to_le_bytes(), &options)?
            } else {
                self.cas(key, meta.version, sum.to_string().as_bytes(), &options)?
            };
            if let Cas::Stored(_) = stored {
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
    pub fn append(
        &self,
        key: &[u8],
        tail: &[u8],
        initial: Option<&[u8]>,
        options: &WriteOptions,
    ) -> Result<Option<usize>> {
        self.owner.ok_or(Error::ReadOnly)?;
        let mut old = Vec::new();
        for _ in 0..RACES_MAX {
            let Some(meta) = self.peek_quietly(key, &mut old)? else {
                let Some(initial) = initial else { return Ok(None) };
                let value = [initial, tail].concat();
                let options = WriteOptions { kind: kind_appended(options.kind, tail)?, ..*options };
                self.check_item(key, value.len(), &options)?;
                if self.is_past(&options) || self.add(key, &value, &options)?.is_some() {
                    return Ok(Some(value.len()));
                }
                continue;
            };
            let mut options = keeping(&meta, options);
            options.kind = kind_appended(meta.kind, tail)?;
            if meta.kind == kind::INT {
                old = integer(&meta, &old)?.to_string().into_bytes();
            }
            let done = self.put(key, &[&old, tail], &options, |there| match there {
                Some(found) if found.meta.version == meta.version => Decision::Put(()),
                _ => Decision::Leave(()),
            })?;
            if done.version != 0 {
                return Ok(Some(old.len() + tail.len()));
            }
        }
        Err(Error::Busy { waited_ms: 0 })
    }

    /// Gives `key` another expiry. True if it was there; an expiry that is not in the
    /// future removes it.
    ///
    /// # Errors
    /// As [`Map::set`].
    pub fn touch(&self, key: &[u8], expires_at_ms: u64, timeout_ns: u64) -> Result<bool> {
        self.owner.ok_or(Error::ReadOnly)?;
        let hash = self.hash_key(key)?;
        if expires_at_ms != NEVER && expires_at_ms <= self.now_ms() {
            return self.delete(key, timeout_ns);
        }
        let mut value = Vec::new();
        for _ in 0..RACES_MAX {
            let Some(meta) = self.meta(key)? else { return Ok(false) };
            if meta.value_bytes > COPY_BYTES_MAX && self.touch_in_place(hash, key, &meta, expires_at_ms, timeout_ns)? {
                return Ok(true);
            }
            let Some(meta) = self.peek_quietly(key, &mut value)? else { return Ok(false) };
            let options = WriteOptions { expires_at_ms, timeout_ns, ..keeping(&meta, &WriteOptions::default()) };
            let done = self.put(key, &[&value], &options, |there| match there {
                Some(found) if found.meta.version == meta.version => Decision::Put(()),
                _ => Decision::Leave(()),
            })?;
            if done.version != 0 {
                return Ok(true);
            }
        }
        Err(Error::Busy { waited_ms: 0 })
    }

    /// Reads without counting a use, a hit or a miss.
    fn peek_quietly(&self, key: &[u8], value: &mut Vec<u8>) -> Result<Option<Meta>> {
        let hash = self.hash_key(key)?;
        let found = self.lookup(hash, key, Manner::Look, |candidate| {
            candidate.copy_value(value.buffer(&candidate.meta)?);
            Ok(())
        })?;
        Ok(found.map(|(found, ())| found.meta))
    }

    /// Makes every key of the region disappear, at one instant. Their space comes back
    /// with the reclaim of later writes.
    ///
    /// # Errors
    /// `ReadOnly`.
    pub fn clear(&self) -> Result<()> {
        self.owner.ok_or(Error::ReadOnly)?;
        let ticket = self.next_ticket();
        // AcqRel: the one instant of the clear. Reads compare it after they loaded the slot.
        self.control_word(control::REGION_GENERATION).fetch_add(1, Ordering::AcqRel);
        // Relaxed: a hint for reclaim; after the instant, or a death in between would
        // make live segments look dead.
        self.control_word(control::CLEARED_TICKET).fetch_max(ticket, Ordering::Relaxed);
        Ok(())
    }

    /// Stores many values, each as by [`Map::set`]. `on_error` gets the position of each
    /// that failed. Returns how many were stored.
    pub fn set_many(&self, items: &[(&[u8], &[u8], WriteOptions)], on_error: &mut dyn FnMut(usize, Error)) -> usize {
        let mut stored = 0;
        for (chunk_at, chunk) in items.chunks(BATCH).enumerate() {
            for (key, ..) in chunk {
                self.prefetch_buckets(self.hasher.hash(key));
            }
            for (at, (key, value, options)) in chunk.iter().enumerate() {
                match self.set(key, value, options) {
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
    pub fn delete_many(&self, keys: &[&[u8]], timeout_ns: u64) -> Result<usize> {
        let mut removed = 0;
        for chunk in keys.chunks(BATCH) {
            for key in chunk {
                self.prefetch_buckets(self.hasher.hash(key));
            }
            for key in chunk {
                removed += usize::from(self.delete(key, timeout_ns)?);
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

/// The options of a change that keeps what a value is and when it expires.
fn keeping(meta: &Meta, options: &WriteOptions) -> WriteOptions {
    WriteOptions {
        kind: meta.kind,
        key_form: meta.key_form,
        expires_at_ms: meta.expires_at_ms,
        client_flags: meta.client_flags,
        ..*options
    }
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
