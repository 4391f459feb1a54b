//! The class `Clock` of `pycache.testing`.

use std::path::PathBuf;

use cache_shm::Error;
use pyo3::prelude::*;

use crate::arguments::Ttl;
use crate::errors;

/// The clock of all regions in a directory, moved by hand instead of waited for.
///
/// It stands still until `advance` moves it. Whoever opens a region in the directory goes by it,
/// in this process and in any other, however that was started; what is open already keeps the
/// clock that it had. A directory that has one is made so by the first ``Clock(directory)``.
/// Times to live, the ends of locks and the pace of rate limits follow it; how long a call
/// waits (``timeout=``) and the moments of ``expire_at`` do not.
///
/// Args:
///     directory: An existing directory, best an empty one.
///
/// Raises:
///     RegionMissing: There is no such directory.
///     NotRegion: Its file ``.clock`` is something else.
///
/// >>> clock = Clock(directory)
/// >>> cache = Cache("docs-clock", size="2MB", dir=directory)
/// >>> cache.set("a", 1, ttl=60)
/// >>> clock.advance(59)
/// >>> cache.get("a")
/// 1
/// >>> clock.advance(1)
/// >>> cache.get("a") is None
/// True
#[pyclass(frozen, module = "pycache.testing")]
pub(crate) struct Clock(cache_shm::Clock);

#[pymethods]
impl Clock {
    #[new]
    fn new(py: Python<'_>, directory: PathBuf) -> PyResult<Clock> {
        cache_shm::Clock::in_directory(directory).map(Clock).map_err(|error| errors::exception(py, &error))
    }

    /// Moves the clock on, for everybody at once and never back.
    ///
    /// Args:
    ///     seconds: More than zero, as a number or timedelta; rounded up to a millisecond.
    #[pyo3(signature = (seconds, /))]
    fn advance(&self, py: Python<'_>, seconds: Ttl) -> PyResult<()> {
        let Ttl::For(by) = seconds else {
            let reason = "a clock is moved on by more than zero seconds, and not for ever";
            return Err(errors::exception(py, &Error::InvalidArgument { reason }));
        };
        self.0.advance(by);
        Ok(())
    }

    /// What it shows, in seconds since the host was started.
    #[getter]
    fn now(&self) -> f64 {
        self.0.now_ms() as f64 / 1000.0
    }

    fn __repr__(&self) -> String {
        format!("<pycache.testing.Clock at {} s>", self.now())
    }
}
