//! The bytes of other objects: anything that lends a C-contiguous buffer, and NumPy arrays.
//!
//! A plain buffer is stored as bytes, an array as the bytes of a `.npy` file, which keep
//! its dtype and shape. NumPy itself is never imported to store: an object can only be an
//! array where somebody else has imported it. What Python does as well is in
//! `pycache._arrays`.

use std::ffi::c_int;
use std::mem::MaybeUninit;

use cache_core::{Error, kind};
use pyo3::exceptions::PyBufferError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyByteArray, PyBytes, PyMemoryView, PyType};
use pyo3::{ffi, intern};

use super::{Payload, Serializer};
use crate::errors;
use crate::kept::Kept;

const CONTIGUOUS_WANTED: &str =
    "a buffer is stored if it is C-contiguous; store a copy that is (bytes(...), numpy.ascontiguousarray(...))";
const ARRAY_WANTED: &str = "NumPy arrays are stored if their items are plain numbers, flags, texts or moments, \
     or structures of these; not objects and not types of other packages";

/// A buffer of another object, held until it is dropped.
pub(crate) struct Lent<'py> {
    py: Python<'py>,
    buffer: ffi::Py_buffer,
}

impl<'py> Lent<'py> {
    /// Takes the bytes of `object`, `PyBUF_SIMPLE` and whatever `flags` add.
    pub fn of(object: &Bound<'py, PyAny>, flags: c_int) -> PyResult<Lent<'py>> {
        let mut buffer = MaybeUninit::<ffi::Py_buffer>::zeroed();
        // SAFETY: Y1, Y2. The buffer is filled in, or an error is set.
        unsafe {
            if ffi::PyObject_GetBuffer(object.as_ptr(), buffer.as_mut_ptr(), ffi::PyBUF_SIMPLE | flags) != 0 {
                return Err(PyErr::fetch(object.py()));
            }
            // It was asked for without shape and strides, so none of its pointers leads into
            // itself, and it may be moved.
            Ok(Lent { py: object.py(), buffer: buffer.assume_init() })
        }
    }

    /// The bytes, to be read once, at once and while attached: what lends them may let
    /// others write to them. Then the copy is a mixture, and nothing else comes of it.
    pub fn bytes(&self) -> &[u8] {
        if self.buffer.len <= 0 {
            return &[];
        }
        // SAFETY: Y6: so many bytes are at this address until `drop`.
        unsafe { std::slice::from_raw_parts(self.buffer.buf.cast(), self.buffer.len as usize) }
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        let _attached = self.py;
        // SAFETY: Y1: `py` says that this thread is attached. Filled in by `of`, released once.
        unsafe { ffi::PyBuffer_Release(&mut self.buffer) };
    }
}

/// The classes of NumPy that tell what is an array, if somebody has imported it.
struct Numpy {
    array: Py<PyType>,
    scalar: Py<PyType>,
}

impl Numpy {
    fn imported(py: Python<'_>) -> Option<&Numpy> {
        static NUMPY: PyOnceLock<Numpy> = PyOnceLock::new();
        if let Some(numpy) = NUMPY.get(py) {
            return Some(numpy);
        }
        let modules = py.import(intern!(py, "sys")).ok()?.getattr(intern!(py, "modules")).ok()?;
        let module = modules.get_item(intern!(py, "numpy")).ok()?;
        // Another thread may be in the middle of importing it: then nobody has an array yet.
        let class = |name| module.getattr(name).ok()?.cast_into::<PyType>().ok().map(Bound::unbind);
        let numpy = Numpy { array: class("ndarray")?, scalar: class("generic")? };
        let _ = NUMPY.set(py, numpy);
        NUMPY.get(py)
    }
}

/// Kind and bytes of an object that lends a buffer; `None` if it is more than its bytes.
pub(crate) fn encode<'a, 'py>(
    object: &'a Bound<'py, PyAny>,
    serializer: Serializer,
    bytes_max: u64,
) -> PyResult<Option<(u8, Payload<'a, 'py>)>> {
    let py = object.py();
    if object.is_instance_of::<PyBytes>() || object.is_instance_of::<PyByteArray>() {
        return Ok(None);
    }
    if let Some(numpy) = Numpy::imported(py) {
        if object.get_type().is(numpy.array.bind(py)) {
            return array(object, bytes_max).map(Some);
        }
        if object.is_instance(numpy.array.bind(py))? || object.is_instance(numpy.scalar.bind(py))? {
            return Ok(None);
        }
    }
    // A pickle keeps the type of what it can hold; these two it cannot.
    if serializer == Serializer::Pickle && !object.is_instance_of::<PyMemoryView>() && !is_mmap(object) {
        return Ok(None);
    }
    Ok(Some((kind::BYTES, Payload::Lent(contiguous(object)?))))
}

fn is_mmap(object: &Bound<'_, PyAny>) -> bool {
    object.get_type().module().is_ok_and(|module| module == "mmap")
}

fn contiguous<'py>(object: &Bound<'py, PyAny>) -> PyResult<Lent<'py>> {
    Lent::of(object, 0).map_err(|error| {
        if error.is_instance_of::<PyBufferError>(object.py()) {
            errors::unsupported(object, CONTIGUOUS_WANTED)
        } else {
            error
        }
    })
}

/// A function of `pycache._arrays`.
fn arrays<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    static ARRAYS: Kept<Py<PyModule>> = Kept::new();
    ARRAYS.import(py, "pycache._arrays")?.getattr(name)
}

fn array<'a, 'py>(object: &Bound<'py, PyAny>, bytes_max: u64) -> PyResult<(u8, Payload<'a, 'py>)> {
    let py = object.py();
    let (dtype, shape) = (object.getattr(intern!(py, "dtype"))?, object.getattr(intern!(py, "shape"))?);
    let head = arrays(py, "head")?.call1((dtype, shape))?;
    let Ok(head) = head.cast::<PyBytes>() else {
        return Err(errors::unsupported(object, ARRAY_WANTED));
    };
    if !object.getattr(intern!(py, "flags"))?.getattr(intern!(py, "c_contiguous"))?.is_truthy()? {
        return Err(errors::unsupported(object, CONTIGUOUS_WANTED));
    }
    let items = contiguous(object)?;
    let (head, items) = (head.as_bytes(), items.bytes());
    let bytes = head.len() as u64 + items.len() as u64;
    if bytes > bytes_max {
        return Err(errors::exception(py, &Error::ValueTooLarge { bytes, bytes_max }));
    }
    Ok((kind::ARRAY, Payload::Owned([head, items].concat())))
}

/// The array whose head and items `buffer` lends: no copy.
pub(crate) fn over<'py>(buffer: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = buffer.py();
    let array = arrays(py, "over")?.call1((buffer,))?;
    if array.is_none() {
        let reason = "not an array in NumPy's file format";
        return Err(errors::exception(py, &Error::BadEncoding { kind: kind::ARRAY, offset: 0, reason }));
    }
    Ok(array)
}

/// An array of its own, of stored bytes.
pub(crate) fn decode<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    over(PyByteArray::new(py, bytes).as_any())
}
