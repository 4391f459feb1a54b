//! Iteration: keys, values or items, a few buckets at a time.
//!
//! Between two steps other processes may change anything: what is removed is skipped,
//! what is added may or may not be seen, and no step raises because of it.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use cache_shm::Cursor;
use pyo3::prelude::*;

use crate::cache::Cache;
use crate::key::Prefix;
use crate::{errors, key};

/// What each step hands out.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    Keys,
    Values,
    Items,
}

struct Progress {
    /// Where to go on; `None` when the whole index has been walked.
    cursor: Option<Cursor>,
    /// Keys found and not yet handed out, with their forms.
    found: VecDeque<(Vec<u8>, u8)>,
}

/// Iterator over a cache.
#[pyclass(frozen, module = "pycache")]
pub(crate) struct CacheIterator {
    cache: Py<Cache>,
    what: What,
    /// Keys that do not begin with this are passed over.
    prefix: Prefix,
    progress: Mutex<Progress>,
}

impl CacheIterator {
    pub fn new(cache: Py<Cache>, what: What, prefix: Option<Prefix>) -> CacheIterator {
        let progress = Progress { cursor: Some(Cursor::START), found: VecDeque::new() };
        CacheIterator { cache, what, prefix: prefix.unwrap_or_default(), progress: Mutex::new(progress) }
    }

    /// Bytes and form of the next key that the walk meets. Runs no Python code while the lock
    /// is held.
    pub fn next_key(&self, py: Python<'_>) -> PyResult<Option<(Vec<u8>, u8)>> {
        self.step().map_err(|error| errors::exception(py, &error))
    }

    fn step(&self) -> cache_shm::Result<Option<(Vec<u8>, u8)>> {
        let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        let Progress { cursor, found } = &mut *progress;
        loop {
            if let Some(next) = found.pop_front() {
                return Ok(Some(next));
            }
            let Some(at) = *cursor else { return Ok(None) };
            *cursor = self.cache.get().handle().scan(at, &mut |key: &[u8], meta: &cache_shm::Meta| {
                if key.starts_with(&self.prefix.0) {
                    found.push_back((key.to_vec(), meta.key_form));
                }
            })?;
        }
    }
}

#[pymethods]
impl CacheIterator {
    fn __iter__(this: PyRef<'_, Self>) -> PyRef<'_, Self> {
        this
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let cache = self.cache.get();
        while let Some((bytes, form)) = self.next_key(py)? {
            if self.what == What::Keys {
                return key::object(py, &bytes, form).map(Some);
            }
            let Some(value) = cache.look(py, &bytes)? else { continue };
            if self.what == What::Values {
                return Ok(Some(value));
            }
            let key = key::object(py, &bytes, form)?;
            return Ok(Some((key, value).into_pyobject(py)?.into_any()));
        }
        Ok(None)
    }
}
