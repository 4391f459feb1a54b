//! Arrow tables and record batches, as the bytes of an IPC stream.
//!
//! pyarrow is never imported to store: an object can only be a table where somebody else
//! has imported it. What Python does as well is in `pycache._arrow`.

use cache_core::Error;
use pyo3::intern;
use pyo3::prelude::*;

use super::Payload;
use super::buffers::Lent;
use crate::errors;
use crate::kept::Kept;

fn arrow<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    static ARROW: Kept<Py<PyModule>> = Kept::new();
    ARROW.import(py, "pycache._arrow")?.getattr(name)
}

/// Kind and bytes of a table or record batch; `None` for anything else.
pub(crate) fn encode<'a, 'py>(object: &Bound<'py, PyAny>, bytes_max: u64) -> PyResult<Option<(u8, Payload<'a, 'py>)>> {
    let py = object.py();
    let modules = py.import(intern!(py, "sys"))?.getattr(intern!(py, "modules"))?;
    let of_pyarrow = || object.get_type().module().is_ok_and(|module| module == "pyarrow.lib");
    if !modules.contains(intern!(py, "pyarrow"))? || !of_pyarrow() {
        return Ok(None);
    }
    let made = arrow(py, "dump")?.call1((object,))?;
    if made.is_none() {
        return Ok(None);
    }
    let (kind, buffer) = made.extract::<(u8, Bound<'py, PyAny>)>()?;
    let lent = Lent::of(&buffer, 0)?;
    let bytes = lent.bytes().len() as u64;
    if bytes > bytes_max {
        return Err(errors::exception(py, &Error::ValueTooLarge { bytes, bytes_max }));
    }
    Ok(Some((kind, Payload::Lent(lent))))
}

/// The table or batch whose stream `buffer` lends: no copy.
pub(crate) fn over<'py>(buffer: &Bound<'py, PyAny>, kind: u8) -> PyResult<Bound<'py, PyAny>> {
    let py = buffer.py();
    let table = arrow(py, "over")?.call1((buffer, kind))?;
    if table.is_none() {
        let reason = "not a stream of Arrow's IPC format";
        return Err(errors::exception(py, &Error::BadEncoding { kind, offset: 0, reason }));
    }
    Ok(table)
}
