//! What the methods of `Cache` have in common: keys and values to bytes, one call of the
//! engine, bytes to a value.
//!
//! Must never: decide anything. Whoever waits, waits in [`crate::wait`].

use std::mem::MaybeUninit;

use cache_shm::{Error, Map, Meta, NEVER, Os, Scope, WriteOptions, kind};
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes};
use pyo3::{PyTypeCheck, ffi, intern};

use crate::arguments::{self, Keep, Ttl};
use crate::cache::Cache;
use crate::key::{self, Key, Scratch};
use crate::local::Local;
use crate::pinned;
use crate::value::{self, Payload, Receiver};
use crate::wait::{self, DETACH_BYTES};
use crate::{errors, logs};

/// Bytes that a value may have before it is compressed.
const RAW_BYTES_MAX: u64 = 1 << 30;

/// Bytes objects that are made first and filled afterwards.
trait Space: Sized {
    /// A new one of `count` bytes that are not yet written, and where they are; null on failure.
    ///
    /// # Safety
    /// - The caller is attached.
    unsafe fn make(count: ffi::Py_ssize_t) -> (*mut ffi::PyObject, *mut u8);
}

impl Space for PyBytes {
    unsafe fn make(count: ffi::Py_ssize_t) -> (*mut ffi::PyObject, *mut u8) {
        // SAFETY: Y1, Y4: of its own type.
        unsafe {
            let object = ffi::PyBytes_FromStringAndSize(std::ptr::null(), count);
            (
                object,
                if object.is_null() { std::ptr::null_mut() } else { ffi::PyBytes_AS_STRING(object).cast_mut().cast() },
            )
        }
    }
}

impl Space for PyByteArray {
    unsafe fn make(count: ffi::Py_ssize_t) -> (*mut ffi::PyObject, *mut u8) {
        // SAFETY: Y1, Y4: of its own type.
        unsafe {
            let object = ffi::PyByteArray_FromStringAndSize(std::ptr::null(), count);
            (object, if object.is_null() { std::ptr::null_mut() } else { ffi::PyByteArray_AsString(object).cast() })
        }
    }
}

/// A copy of what `view` shows; other threads run meanwhile.
fn copy<'py, T: Space + PyTypeCheck>(py: Python<'py>, view: cache_shm::View) -> PyResult<Bound<'py, T>> {
    let bytes: &[u8] = &view;
    // SAFETY: Y1, Y5: a new reference or an error.
    let (object, data) = unsafe {
        let (object, data) = T::make(bytes.len() as ffi::Py_ssize_t);
        (Bound::from_owned_ptr_or_err(py, object)?, data)
    };
    // SAFETY: Y4: just made of that length, and nobody else has it.
    let space: &mut [MaybeUninit<u8>] = unsafe { std::slice::from_raw_parts_mut(data.cast(), bytes.len()) };
    py.detach(|| {
        space.write_copy_of_slice(bytes);
    });
    Ok(object.cast_into::<T>()?)
}

impl Cache {
    pub fn handle(&self) -> &cache_shm::Cache {
        &self.handle
    }

    pub fn raise(py: Python<'_>) -> impl FnOnce(Error) -> PyErr {
        move |error| errors::exception(py, &error)
    }

    /// The value under `key`.
    #[inline(always)]
    pub fn lookup<'py>(&self, py: Python<'py>, key: &[u8]) -> PyResult<Option<Bound<'py, PyAny>>> {
        match &self.local {
            None => self.read(py, key),
            Some(local) => self.lookup_local(py, local, key),
        }
    }

    /// The value under `key`: the object that was made of it before, if that is kept.
    fn lookup_local<'py>(&self, py: Python<'py>, local: &Local, key: &[u8]) -> PyResult<Option<Bound<'py, PyAny>>> {
        let at = self.handle.scope().map_err(Self::raise(py))?;
        if let Some(object) = local.get(py, at, key) {
            return Ok(Some(object));
        }
        let mut receiver = Receiver::new(py, DETACH_BYTES);
        match at.map.get_witnessed(at.key(key), &mut receiver) {
            Ok(Some((_, witness))) => {
                let object = receiver.finish(key, &self.options.coder)?;
                local.keep(at, key, &object, witness)?;
                Ok(Some(object))
            }
            Ok(None) => Ok(None),
            Err(error) => self.lookup_failed(py, key, receiver.too_large(), &error),
        }
    }

    /// The value under `key`, copied out and decoded.
    #[inline(always)]
    fn read<'py>(&self, py: Python<'py>, key: &[u8]) -> PyResult<Option<Bound<'py, PyAny>>> {
        let mut receiver = Receiver::new(py, DETACH_BYTES);
        match self.handle.scope().and_then(|at| at.map.get(at.key(key), &mut receiver)) {
            Ok(Some(_)) => receiver.finish(key, &self.options.coder).map(Some),
            Ok(None) => Ok(None),
            Err(error) => self.lookup_failed(py, key, receiver.too_large(), &error),
        }
    }

    #[cold]
    fn lookup_failed<'py>(
        &self,
        py: Python<'py>,
        key: &[u8],
        too_large: bool,
        error: &Error,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        if too_large {
            return Ok(self.lookup_large(py, key)?.map(|(value, _)| value));
        }
        logs::deliver(py, &self.handle);
        Err(errors::exception(py, error))
    }

    /// The value under `key`, with its version.
    pub fn lookup_versioned<'py>(&self, py: Python<'py>, key: &[u8]) -> PyResult<Option<(Bound<'py, PyAny>, u64)>> {
        Ok(self.lookup_described(py, key)?.map(|(value, meta)| (value, meta.version)))
    }

    /// The value under `key`, with what is known of it.
    pub fn lookup_described<'py>(&self, py: Python<'py>, key: &[u8]) -> PyResult<Option<(Bound<'py, PyAny>, Meta)>> {
        let mut receiver = Receiver::new(py, DETACH_BYTES);
        match self.handle.scope().and_then(|at| at.map.get(at.key(key), &mut receiver)) {
            Ok(Some(meta)) => Ok(Some((receiver.finish(key, &self.options.coder)?, meta))),
            Ok(None) => Ok(None),
            Err(_) if receiver.too_large() => self.lookup_large(py, key),
            Err(error) => Err(errors::exception(py, &error)),
        }
    }

    /// The value under `key`, without counting as a use of it: for walks over the whole cache.
    pub fn look<'py>(&self, py: Python<'py>, key: &[u8]) -> PyResult<Option<Bound<'py, PyAny>>> {
        let mut receiver = Receiver::new(py, usize::MAX);
        let found =
            self.handle.scope().and_then(|at| at.map.peek(at.key(key), &mut receiver)).map_err(Self::raise(py))?;
        found.map(|_| receiver.finish(key, &self.options.coder)).transpose()
    }

    /// As `lookup` for a value that is long to copy: other threads run meanwhile.
    #[inline(never)]
    fn lookup_large<'py>(&self, py: Python<'py>, key: &[u8]) -> PyResult<Option<(Bound<'py, PyAny>, Meta)>> {
        let view = match self.handle.view(key) {
            Ok(Some(view)) => view,
            Ok(None) => return Ok(None),
            // Without a pin the copy cannot be left alone with the value.
            Err(Error::PinsFull { .. } | Error::ReadOnly) => {
                let mut receiver = Receiver::new(py, usize::MAX);
                let found = self.handle.get_into(key, &mut receiver).map_err(Self::raise(py))?;
                let Some(meta) = found else { return Ok(None) };
                return Ok(Some((receiver.finish(key, &self.options.coder)?, meta)));
            }
            Err(error) => return Err(errors::exception(py, &error)),
        };
        let meta = view.meta();
        Ok(Some((self.copied(py, key, view)?, meta)))
    }

    /// The object of a value that is lent, made of a copy.
    fn copied<'py>(&self, py: Python<'py>, key: &[u8], view: cache_shm::View) -> PyResult<Bound<'py, PyAny>> {
        let kind = view.meta().kind;
        if kind == cache_shm::kind::ARRAY && !self.options.coder.signs {
            // NumPy copies the items, and lets other threads run meanwhile.
            let array = value::buffers::over(pinned::lend(py, view)?.as_any())?;
            return array.call_method0(intern!(py, "copy"));
        }
        let coder = &self.options.coder;
        if kind == cache_shm::kind::PICKLE_BUFFERS && coder.pickles() && !coder.signs {
            // The buffers of the object are parts of this one copy, and may be written to.
            return value::pickles::over(copy::<PyByteArray>(py, view)?.as_any());
        }
        let object = copy::<PyBytes>(py, view)?;
        match kind {
            _ if coder.signs => value::decode(py, key, kind, object.as_bytes(), coder),
            cache_shm::kind::BYTES => Ok(object.into_any()),
            cache_shm::kind::ARROW | cache_shm::kind::ARROW_BATCH => value::tables::over(object.as_any(), kind),
            _ => value::decode(py, key, kind, object.as_bytes(), coder),
        }
    }

    /// Kind and bytes of a value, checked against what fits the region.
    #[inline]
    pub fn encode<'a, 'py>(&self, key: &[u8], object: &'a Bound<'py, PyAny>) -> PyResult<(u8, Payload<'a, 'py>)> {
        self.encode_within(key, object, self.value_bytes_max)
    }

    /// As `encode`, for values of at most `bytes_max` bytes.
    #[inline]
    fn encode_within<'a, 'py>(
        &self,
        key: &[u8],
        object: &'a Bound<'py, PyAny>,
        bytes_max: u64,
    ) -> PyResult<(u8, Payload<'a, 'py>)> {
        let coder = &self.options.coder;
        if !coder.seals {
            return value::encode(object, coder, bytes_max);
        }
        // What does not fit as it is may fit when it is compressed.
        let bytes_max = if coder.compresses { RAW_BYTES_MAX } else { bytes_max };
        let (kind, payload) = value::encode(object, coder, bytes_max)?;
        coder.seal(object.py(), key, kind, payload.bytes())
    }

    /// Refuses what changes a value in place, and what lends one, where only what is signed is
    /// to be trusted.
    pub fn unsealed(&self, py: Python<'_>) -> PyResult<()> {
        let reason = "a cache with secret= has no incr, decr, append, view, array, arrow and borrow: what they touch is not signed";
        if self.options.coder.signs {
            return Err(errors::exception(py, &Error::InvalidArgument { reason }));
        }
        Ok(())
    }

    /// The moment of expiry that `ttl` means now.
    #[inline]
    pub fn expires_at(&self, py: Python<'_>, ttl: Ttl) -> PyResult<u64> {
        match if ttl == Ttl::Unset { self.options.ttl } else { ttl } {
            Ttl::For(ttl) => self.handle.expiry(ttl).map_err(Self::raise(py)),
            Ttl::Past => Ok(0),
            Ttl::Never | Ttl::Unset => Ok(NEVER),
        }
    }

    #[inline]
    pub fn write<T, F>(&self, py: Python<'_>, copied_bytes: usize, operation: F) -> PyResult<T>
    where
        T: Send,
        F: Fn(Scope<'_>, u64) -> cache_shm::Result<T> + Sync,
    {
        wait::write(py, &self.handle, self.options.timeout, copied_bytes, operation)
    }

    #[inline]
    pub fn store<T, F>(
        &self,
        key: &Bound<'_, PyAny>,
        value: &Bound<'_, PyAny>,
        keep: &Keep<'_>,
        operation: F,
    ) -> PyResult<T>
    where
        T: Send,
        F: Fn(&Map<Os>, cache_shm::Key<'_>, &[u8], &WriteOptions) -> cache_shm::Result<T> + Sync,
    {
        let mut scratch = Scratch::new();
        let key = Key::of(key, &mut scratch)?;
        let (kind, mut payload) = self.encode(key.bytes, value)?;
        let tags = keep.tags.names()?;
        let options = WriteOptions {
            kind,
            key_form: key.form,
            expires_at_ms: self.expires_at(value.py(), keep.ttl)?,
            tags: &tags,
            ..WriteOptions::default()
        };
        if let Payload::Lent(lent) = &payload {
            // Its owner may change it as soon as others run: one attempt while nobody does,
            // and then with a copy, however large.
            let options = WriteOptions { timeout_ns: 0, ..options };
            let once = |at: Scope<'_>| operation(at.map, at.key(key.bytes), lent.bytes(), &options);
            match self.handle.writing_scope().and_then(once) {
                Err(Error::Busy { .. }) => payload = payload.own(),
                outcome => return outcome.map_err(Self::raise(value.py())),
            }
        }
        let bytes = payload.bytes();
        self.write(value.py(), bytes.len(), |at, timeout_ns| {
            operation(at.map, at.key(key.bytes), bytes, &WriteOptions { timeout_ns, ..options })
        })
    }

    /// Stores `value` under `key`.
    #[inline]
    pub fn set(&self, key: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>, keep: &Keep<'_>) -> PyResult<()> {
        self.store(key, value, keep, |map, key, value, options| map.set(key, value, options).map(drop))
    }

    /// Decodes a value that a write operation copied out.
    pub fn taken<'py>(&self, py: Python<'py>, key: &[u8], meta: &Meta, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
        value::decode(py, key, meta.kind, bytes, &self.options.coder)
    }

    /// Stores `value` unless the key is there; what is there otherwise.
    pub fn get_or_add<'py>(
        &self,
        key: &Bound<'py, PyAny>,
        value: &Bound<'py, PyAny>,
        keep: &Keep<'_>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let there = self.store(key, value, keep, |map, key, value, options| {
            let mut copy = Vec::new();
            Ok(map.get_or_add(key, value, options, &mut copy)?.map(|meta| (meta, copy)))
        })?;
        let Some((meta, copy)) = there else { return Ok(None) };
        let mut scratch = Scratch::new();
        self.taken(value.py(), Key::of(key, &mut scratch)?.bytes, &meta, &copy).map(Some)
    }

    pub fn pop_bytes(&self, py: Python<'_>, key: Key<'_>) -> PyResult<Option<(Meta, Vec<u8>)>> {
        let taken = self.write(py, 0, |at, timeout_ns| {
            let mut copy = Vec::new();
            Ok(at.map.take(at.key(key.bytes), timeout_ns, &mut copy)?.map(|meta| (meta, copy)))
        })?;
        self.forget_raised(py, key)?;
        Ok(taken)
    }

    /// Removes the key, and what is remembered of its function; true if there was a value.
    pub fn remove(&self, key: &Bound<'_, PyAny>) -> PyResult<bool> {
        let (py, mut scratch) = (key.py(), Scratch::new());
        let key = Key::of(key, &mut scratch)?;
        let was_there = self.write(py, 0, |at, timeout_ns| at.map.delete(at.key(key.bytes), timeout_ns))?;
        self.forget_raised(py, key)?;
        Ok(was_there)
    }

    /// The next miss of `key` calls its function.
    fn forget_raised(&self, py: Python<'_>, key: Key<'_>) -> PyResult<()> {
        let Some(aside) = key.raised() else { return Ok(()) };
        if self.handle.scope().and_then(|at| at.map.contains(at.key(&aside))).map_err(Self::raise(py))? {
            self.write(py, 0, |at, timeout_ns| at.map.delete(at.key(&aside), timeout_ns))?;
        }
        Ok(())
    }

    /// Adds `delta`; `default` stands for the value of a missing key, which gets `ttl`.
    pub fn add_number(&self, key: &Bound<'_, PyAny>, delta: i64, default: Option<i64>, ttl: Ttl) -> PyResult<i64> {
        self.unsealed(key.py())?;
        let mut scratch = Scratch::new();
        let bytes = Key::of(key, &mut scratch)?;
        let options = WriteOptions {
            key_form: bytes.form,
            expires_at_ms: self.expires_at(key.py(), ttl)?,
            ..WriteOptions::default()
        };
        let sum = self.write(key.py(), 0, |at, timeout_ns| {
            at.map.incr(at.key(bytes.bytes), delta, default, &WriteOptions { timeout_ns, ..options })
        })?;
        sum.ok_or_else(|| key::missing(key))
    }

    /// Appends `tail`; `default` stands for the value of a missing key, which gets `ttl`.
    pub fn append_bytes(
        &self,
        key: &Bound<'_, PyAny>,
        tail: &Bound<'_, PyAny>,
        default: Option<&Bound<'_, PyAny>>,
        ttl: Ttl,
    ) -> PyResult<Option<usize>> {
        let mut scratch = Scratch::new();
        let key = Key::of(key, &mut scratch)?;
        let py = tail.py();
        self.unsealed(py)?;
        let (_, tail) = arguments::text_or_bytes(tail)?;
        let default = default.map(arguments::text_or_bytes).transpose()?;
        let options = WriteOptions {
            kind: default.map_or(kind::BYTES, |(kind, _)| kind),
            key_form: key.form,
            expires_at_ms: self.expires_at(py, ttl)?,
            ..WriteOptions::default()
        };
        let default = default.map(|(_, bytes)| bytes);
        self.write(py, tail.len(), |at, timeout_ns| {
            at.map.append(at.key(key.bytes), tail, default, &WriteOptions { timeout_ns, ..options })
        })
    }

    /// Stores many; the index of each that failed, with its error.
    pub fn store_many(
        &self,
        py: Python<'_>,
        items: &[(Bound<'_, PyAny>, Bound<'_, PyAny>)],
        keep: &Keep<'_>,
    ) -> PyResult<Vec<(usize, Error)>> {
        let (expires_at_ms, tags) = (self.expires_at(py, keep.ttl)?, keep.tags.names()?);
        let mut scratches: Vec<Scratch> = items.iter().map(|_| Scratch::new()).collect();
        let mut encoded = Vec::with_capacity(items.len());
        let mut total = 0;
        for ((key, value), scratch) in items.iter().zip(&mut scratches) {
            let key = Key::of(key, scratch)?;
            // What is too large is refused one by one, by the engine.
            let (kind, payload) = self.encode_within(key.bytes, value, u64::MAX)?;
            let payload = payload.own();
            total += payload.bytes().len();
            encoded.push((key, kind, payload));
        }
        let at = self.handle.writing_scope().map_err(Self::raise(py))?;
        let writes: Vec<_> = encoded
            .iter()
            .map(|(key, kind, payload)| {
                let (kind, key_form, tags) = (*kind, key.form, &tags[..]);
                let options =
                    WriteOptions { kind, key_form, expires_at_ms, tags, timeout_ns: 0, ..WriteOptions::default() };
                (at.key(key.bytes), payload.bytes(), options)
            })
            .collect();
        let mut failed = Vec::new();
        let mut run = || at.map.set_many(&writes, &mut |index, error| failed.push((index, error)));
        if total < DETACH_BYTES {
            run()
        } else {
            py.detach(run)
        };
        // Those that met a busy stripe are written one by one, each with its own deadline.
        let mut remaining = Vec::new();
        for (index, error) in failed {
            if !matches!(error, Error::Busy { .. }) {
                remaining.push((index, error));
                continue;
            }
            let (_, value, options) = &writes[index];
            let key = encoded[index].0.bytes;
            let retried = self.write(py, value.len(), |at, timeout_ns| {
                match at.map.set(at.key(key), value, &WriteOptions { timeout_ns, ..*options }) {
                    Err(Error::Busy { waited_ms }) => Err(Error::Busy { waited_ms }),
                    outcome => Ok(outcome.err()),
                }
            });
            match retried {
                Ok(None) => {}
                Ok(Some(error)) => remaining.push((index, error)),
                Err(error) if error.is_instance_of::<pyo3::exceptions::PyTimeoutError>(py) => {
                    remaining.push((index, Error::Busy { waited_ms: self.options.timeout.as_millis() as u64 }));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(remaining)
    }
}
