//! `pycache`: the shared-memory cache for Python.
//!
//! A thin rim: Python objects become bytes, the cache's operations are called, bytes
//! become Python objects. Nothing here decides what is stored, kept or found.

mod errors;
mod key;
mod value;

use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// Kind and bytes of `value`, as `docs/value-encoding.md` describes them. For tests and tools.
#[pyfunction]
#[pyo3(signature = (value, bytes_max=u64::MAX))]
fn encode<'py>(value: &Bound<'py, PyAny>, bytes_max: u64) -> PyResult<(u8, Bound<'py, PyBytes>)> {
    let (kind, payload) = value::encode(value, value::Serializer::Safe, bytes_max)?;
    Ok((kind, PyBytes::new(value.py(), payload.bytes())))
}

/// The object that `data` of `kind` stand for. For tests and tools.
#[pyfunction]
fn decode<'py>(py: Python<'py>, kind: u8, data: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    value::decode(py, kind, data, value::Serializer::Safe)
}

/// Native code of the package `pycache`; import that instead.
#[pymodule]
mod _pycache {
    use pyo3::prelude::*;

    #[pymodule_export]
    use super::{decode, encode};

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        crate::errors::register(module)
    }
}
