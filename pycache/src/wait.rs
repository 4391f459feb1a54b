//! Waiting for other writers without holding up Python.
//!
//! A write is first tried attached to the interpreter and without sleeping, because
//! detaching costs more than a small write. Only a write that finds its stripe busy, or
//! that copies much, detaches; it then sleeps in slices, between which signals are
//! handled, until the deadline.

use std::time::{Duration, Instant};

use cache_shm::{Error, Result, Scope};
use pyo3::prelude::*;

use crate::{errors, logs};

/// Values from this size on are copied while other Python threads run.
pub(crate) const DETACH_BYTES: usize = 256 * 1024;
/// Longest sleep between two looks at pending signals.
pub(crate) const SLICE: Duration = Duration::from_millis(50);

/// Runs `operation` until it is no longer busy or `timeout` has passed. `copied_bytes`
/// says how much it copies.
#[inline]
pub(crate) fn write<T, F>(
    py: Python<'_>,
    cache: &cache_shm::Cache,
    timeout: Duration,
    copied_bytes: usize,
    operation: F,
) -> PyResult<T>
where
    T: Send,
    F: Fn(Scope<'_>, u64) -> Result<T> + Sync,
{
    let outcome = 'outcome: {
        if copied_bytes < DETACH_BYTES {
            match cache.writing_scope().and_then(|at| operation(at, 0)) {
                Ok(done) => break 'outcome Ok(done),
                Err(Error::Busy { .. }) => {}
                Err(error) => break 'outcome Err(errors::exception(py, &error)),
            }
        }
        wait(py, cache, timeout, &operation)
    };
    logs::deliver(py, cache);
    outcome
}

#[cold]
fn wait<T, F>(py: Python<'_>, cache: &cache_shm::Cache, timeout: Duration, operation: &F) -> PyResult<T>
where
    T: Send,
    F: Fn(Scope<'_>, u64) -> Result<T> + Sync,
{
    let start = Instant::now();
    loop {
        let slice = timeout.saturating_sub(start.elapsed()).min(SLICE);
        let slice_ns = slice.as_nanos() as u64;
        match py.detach(|| cache.writing_scope().and_then(|at| operation(at, slice_ns))) {
            Ok(done) => return Ok(done),
            Err(Error::Busy { .. }) => py.check_signals()?,
            Err(error) => return Err(errors::exception(py, &error)),
        }
        let waited = start.elapsed();
        if waited >= timeout {
            return Err(errors::exception(py, &Error::Busy { waited_ms: waited.as_millis() as u64 }));
        }
    }
}
