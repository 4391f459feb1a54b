//! Methods of `Cache` that walk over keys with a common beginning.

use pyo3::prelude::*;

use crate::cache::Cache;
use crate::iterate::{CacheIterator, What};
use crate::key::Prefix;

#[pymethods]
impl Cache {
    /// An iterator over the keys that begin with `prefix`, a str or bytes; all keys without one.
    ///
    /// It walks over the whole cache and changes nothing. Keys that stay are met once, keys that
    /// come or go meanwhile perhaps. Which keys are met is decided by their bytes: a prefix of
    /// "1" meets the int 17 too; tuples are met only without a prefix.
    ///
    /// >>> cache.update({"user:1": "Ada", "user:2": "Grace", "page:1": "home"})
    /// >>> sorted(cache.scan("user:"))
    /// ['user:1', 'user:2']
    #[pyo3(signature = (prefix=None))]
    fn scan(this: Py<Self>, prefix: Option<Prefix>) -> CacheIterator {
        CacheIterator::new(this, What::Keys, prefix)
    }

    /// Removes the keys that begin with `prefix`, a str or bytes that is not empty; how many
    /// there were. It walks over the whole cache and is a sequence of removals: keys that are
    /// stored meanwhile may stay.
    ///
    /// >>> cache.update({"user:1": "Ada", "user:2": "Grace", "page:1": "home"})
    /// >>> cache.delete_prefix("user:"), list(cache)
    /// (2, ['page:1'])
    fn delete_prefix(this: &Bound<'_, Self>, prefix: Prefix) -> PyResult<usize> {
        let (py, cache) = (this.py(), this.get());
        let keys = CacheIterator::new(this.clone().unbind(), What::Keys, Some(prefix));
        let mut count = 0;
        while let Some((key, _)) = keys.next_key(py)? {
            count += usize::from(cache.write(py, 0, |at, timeout_ns| at.map.delete(at.key(&key), timeout_ns))?);
        }
        Ok(count)
    }
}
