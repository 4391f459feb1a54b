//! How tasks wait for locks: the classes `Bell` and `Wait`, for `pycache.leases`.

use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;

use pyo3::prelude::*;

use crate::cache::Cache;
use crate::leases::Lease;

/// What a loop watches while its tasks wait for locks.
#[pyclass(frozen, module = "pycache")]
pub(crate) struct Bell(Arc<cache_shm::Bell>);

/// A wait, until it is dropped.
#[pyclass(frozen, module = "pycache")]
pub(crate) struct Wait {
    _wait: Arc<cache_shm::Wait>,
}

#[pymethods]
impl Bell {
    /// A new one; None where the kernel cannot wait so.
    #[staticmethod]
    fn make(py: Python<'_>) -> PyResult<Option<Bell>> {
        Ok(cache_shm::Bell::new().map_err(Cache::raise(py))?.map(Bell))
    }

    fn fileno(&self) -> i32 {
        self.0.as_fd().as_raw_fd()
    }

    /// Numbers of the waits that are over since the last call.
    fn rung(&self) -> Vec<u64> {
        self.0.rung()
    }

    /// Rings with `number` when `lease` can perhaps be taken.
    fn wait(&self, py: Python<'_>, lease: &Lease, number: u64) -> PyResult<Wait> {
        let handle = &lease.cache.get().handle;
        let wait = handle
            .scope()
            .and_then(|at| lease.name(&at))
            .and_then(|name| handle.wait_for_lock(name, lease.count, &self.0, number));
        Ok(Wait { _wait: wait.map_err(Cache::raise(py))? })
    }
}
