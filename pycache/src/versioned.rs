//! Methods of `Cache` that read a value with its version, and replace only that version.

use cache_shm::Cas;
use pyo3::prelude::*;

use crate::arguments::{self, Keep, Tags, Ttl};
use crate::cache::Cache;
use crate::key::{Key, Scratch};

#[pymethods]
impl Cache {
    /// The value under `key` and a token for `cas`; `default` and None if there is none.
    ///
    /// >>> cache["a"] = 1
    /// >>> value, token = cache.gets("a")
    /// >>> cache.cas("a", value + 1, token), cache.cas("a", value + 1, token)
    /// (True, False)
    /// >>> cache.gets("b")
    /// (None, None)
    #[pyo3(signature = (key, default=None))]
    fn gets<'py>(
        &self,
        key: &Bound<'py, PyAny>,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<(Option<Bound<'py, PyAny>>, Option<u64>)> {
        let mut scratch = Scratch::new();
        let found = self.lookup_versioned(key.py(), Key::of(key, &mut scratch)?.bytes)?;
        Ok(found.map_or((default, None), |(value, version)| (Some(value), Some(version))))
    }

    /// Stores `value` only if `key` has not changed since `gets` gave `token`; True if it was
    /// stored.
    ///
    /// A token of None stands for a key that was not there: then `value` is stored only if it
    /// still is not. A False means that another caller was faster, or that the key went away:
    /// begin again with `gets`.
    ///
    /// >>> cache.cas("a", 1, None), cache.cas("a", 2, None)
    /// (True, False)
    #[pyo3(signature = (key, value, token, ttl=Ttl::Unset, *, tags=Tags::NONE))]
    fn cas(
        &self,
        key: &Bound<'_, PyAny>,
        value: &Bound<'_, PyAny>,
        #[pyo3(from_py_with = arguments::token)] token: Option<u64>,
        ttl: Ttl,
        tags: Tags<'_>,
    ) -> PyResult<bool> {
        self.store(key, value, &Keep { ttl, tags }, |map, key, value, options| match token {
            Some(version) => Ok(matches!(map.cas(key, version, value, options)?, Cas::Stored(_))),
            None => Ok(map.add(key, value, options)?.is_some()),
        })
    }
}
