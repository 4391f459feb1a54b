//! Pickles, with the buffers that they hand out beside them.
//!
//! Must never: read a pickle that the handle did not ask for; the callers see to that.
//! What Python does as well is in `pycache._pickles`.

use cache_core::{Error, kind};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList};

use super::Payload;
use crate::errors;
use crate::kept::Kept;

fn pickles<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    static PICKLES: Kept<Py<PyModule>> = Kept::new();
    PICKLES.import(py, "pycache._pickles")?.getattr(name)
}

fn loads(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    static LOADS: Kept<Py<PyAny>> = Kept::new();
    LOADS.import_from(py, "pickle", "loads")
}

/// Kind and bytes of `object` as a pickle.
pub(crate) fn encode<'a, 'py>(object: &Bound<'py, PyAny>, bytes_max: u64) -> PyResult<(u8, Payload<'a, 'py>)> {
    let py = object.py();
    let made = pickles(py, "dumps")?.call1((object, bytes_max))?;
    if let Ok((kind, bytes)) = made.extract::<(u8, Bound<'py, PyBytes>)>() {
        return Ok((kind, Payload::Object(bytes)));
    }
    Err(errors::exception(py, &Error::ValueTooLarge { bytes: made.extract()?, bytes_max }))
}

/// The object of a pickle without buffers.
pub(crate) fn decode<'py>(bytes: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    loads(bytes.py())?.call1((bytes,))
}

/// The object of the pickle in `buffer`, whose own buffers stay where they lie in it: to be
/// written to if that may be.
pub(crate) fn over<'py>(buffer: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = buffer.py();
    let parts = pickles(py, "split")?.call1((buffer,))?;
    if parts.is_none() {
        let reason = "not a pickle with the buffers that it names";
        return Err(errors::exception(py, &Error::BadEncoding { kind: kind::PICKLE_BUFFERS, offset: 0, reason }));
    }
    let (data, buffers) = parts.extract::<(Bound<'py, PyBytes>, Bound<'py, PyList>)>()?;
    let keywords = PyDict::new(py);
    keywords.set_item(intern!(py, "buffers"), buffers)?;
    loads(py)?.call((data,), Some(&keywords))
}
