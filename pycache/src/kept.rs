//! Objects that are made at their first use and kept, in a process that may fork meanwhile.
//!
//! Making one runs Python code, which lets other threads run, and one of those may fork. What
//! is being made is therefore in no cell yet: a child that inherited a cell in the middle
//! of its making would wait for a thread that it does not have.

use cache_shm::Error;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use crate::errors;

/// The module of that name, loaded with forks kept out: a child that is forked while another
/// thread loads a module can never load it.
pub(crate) fn load<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyModule>> {
    Ok(py.import(intern!(py, "pycache"))?.call_method1(intern!(py, "_load"), (name,))?.cast_into()?)
}

/// A place for one object.
pub(crate) struct Kept<T>(PyOnceLock<T>);

impl<T> Kept<T> {
    pub const fn new() -> Kept<T> {
        Kept(PyOnceLock::new())
    }

    /// The object; `make` makes it at first. Of two threads that do so at once, both get
    /// what the first has made.
    #[inline]
    pub fn get(&self, py: Python<'_>, make: impl FnOnce() -> PyResult<T>) -> PyResult<&T> {
        match self.0.get(py) {
            Some(kept) => Ok(kept),
            None => self.make(py, make),
        }
    }

    #[cold]
    fn make(&self, py: Python<'_>, make: impl FnOnce() -> PyResult<T>) -> PyResult<&T> {
        let made = make()?;
        // Not `get_or_init`, which lets other threads run while the cell is being filled.
        let _ = self.0.set(py, made);
        self.0.get(py).ok_or_else(|| errors::exception(py, &Error::Internal))
    }
}

impl Kept<Py<PyModule>> {
    /// The module of that name.
    pub fn import<'py>(&self, py: Python<'py>, name: &str) -> PyResult<&Bound<'py, PyModule>> {
        Ok(self.get(py, || load(py, name).map(Bound::unbind))?.bind(py))
    }
}

impl Kept<Py<PyAny>> {
    /// What the module has under that name.
    pub fn import_from<'py>(&self, py: Python<'py>, module: &str, name: &str) -> PyResult<&Bound<'py, PyAny>> {
        Ok(self.get(py, || Ok(load(py, module)?.getattr(name)?.unbind()))?.bind(py))
    }
}
