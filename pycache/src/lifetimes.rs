//! Methods of `Cache` about how long a key lives.

use std::time::Duration;

use pyo3::prelude::*;

use crate::arguments::{self, Ttl};
use crate::cache::Cache;
use crate::key::{self, Key, Scratch};

impl Cache {
    fn live_for(&self, key: &Bound<'_, PyAny>, ttl: Ttl) -> PyResult<bool> {
        let mut scratch = Scratch::new();
        let bytes = Key::of(key, &mut scratch)?.bytes;
        let expires_at_ms = self.expires_at(key.py(), ttl)?;
        self.write(key.py(), 0, |at, timeout_ns| at.map.touch(at.key(bytes), expires_at_ms, timeout_ns))
    }
}

#[pymethods]
impl Cache {
    /// Gives `key` a new time to live (unset: the cache's default); False if it is not there.
    ///
    /// >>> cache["a"] = 1
    /// >>> cache.touch("a", ttl=60), cache.touch("b", ttl=60)
    /// (True, False)
    #[pyo3(signature = (key, ttl=Ttl::Unset))]
    fn touch(&self, key: &Bound<'_, PyAny>, ttl: Ttl) -> PyResult<bool> {
        self.live_for(key, ttl)
    }

    /// Seconds that `key` still has, None if it never expires; KeyError if it is not there.
    ///
    /// >>> cache.set("a", 1, ttl=60)
    /// >>> 59 < cache.ttl("a") <= 60.1
    /// True
    fn ttl(&self, key: &Bound<'_, PyAny>) -> PyResult<Option<f64>> {
        let mut scratch = Scratch::new();
        let bytes = Key::of(key, &mut scratch)?.bytes;
        let left = self.handle.ttl(bytes).map_err(Self::raise(key.py()))?.ok_or_else(|| key::missing(key))?;
        Ok((left != Duration::MAX).then_some(left.as_secs_f64()))
    }

    /// Makes `key` live until `moment`; False if it is not there. A moment that has passed
    /// removes it.
    ///
    /// Args:
    ///     moment: A datetime (without a zone: local time) or seconds since 1970, as
    ///         ``time.time()`` counts them. A clock that is set later does not move the expiry.
    ///
    /// >>> import time
    /// >>> cache["a"] = 1
    /// >>> cache.expire_at("a", time.time() + 60)
    /// True
    fn expire_at(&self, key: &Bound<'_, PyAny>, moment: &Bound<'_, PyAny>) -> PyResult<bool> {
        self.live_for(key, arguments::until(moment)?)
    }

    /// Lets `key` live for ever; False if it is not there.
    ///
    /// >>> cache.set("a", 1, ttl=60)
    /// >>> cache.persist("a"), cache.ttl("a")
    /// (True, None)
    fn persist(&self, key: &Bound<'_, PyAny>) -> PyResult<bool> {
        self.live_for(key, Ttl::Never)
    }
}
