//! The method of `Cache` that begins a value in the making; `pycache._views` does the rest.

use cache_shm::Error;
use pyo3::prelude::*;

use crate::arguments::{self, Given, keep};
use crate::cache::Cache;
use crate::errors;
use crate::kept::load;
use crate::key::{Key, Scratch};

#[pymethods]
impl Cache {
    /// A buffer of `nbytes` zeros to be filled and stored under `key`, as bytes, in one step.
    ///
    /// Used in a ``with`` statement, which gives the writable memoryview: it is stored at the end
    /// of the block, or dropped if the block raises. Otherwise fill ``buffer`` and call
    /// ``commit()`` or ``discard()``. The buffer is private memory of this process, not a place in
    /// the region, so that nothing is held up or lost however long it takes, and is copied once.
    ///
    /// Raises:
    ///     ValueTooLarge: A value of that size does not fit the region.
    ///
    /// >>> with cache.reserve("greeting", 5, ttl=60) as buffer:
    /// ...     buffer[:] = b"hello"
    /// >>> cache["greeting"]
    /// b'hello'
    #[pyo3(signature = (key, nbytes, ttl=Given::Unset, *, tags=None))]
    fn reserve<'py>(
        this: &Bound<'py, Self>,
        key: &Bound<'py, PyAny>,
        nbytes: &Bound<'py, PyAny>,
        ttl: Given<'py>,
        tags: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (py, cache) = (this.py(), this.get());
        // What can be told to fail is refused before it is filled.
        let mut scratch = Scratch::new();
        Key::of(key, &mut scratch)?;
        cache.handle().writer().map_err(Self::raise(py))?;
        if cache.options.read_only {
            return Err(errors::exception(py, &Error::ReadOnly));
        }
        let (bytes, bytes_max) = (arguments::count("nbytes", nbytes, 0..=u64::MAX)?, cache.value_bytes_max);
        if bytes > bytes_max {
            return Err(errors::exception(py, &Error::ValueTooLarge { bytes, bytes_max }));
        }
        load(py, "pycache._views")?.getattr("Reservation")?.call1((this, key, bytes, keep(py, &ttl, tags.as_ref())?))
    }
}
