//! From Python objects to CBOR bytes.
//!
//! Exact types only: an object whose type is not on the list is refused, never stored
//! as what it resembles. Nesting and size are bounded, so that an object that contains
//! itself ends in an error, whichever bound it meets first.

use cache_core::Error;
use pyo3::exceptions::{PyRuntimeError, PyUnicodeEncodeError};
use pyo3::prelude::*;
use pyo3::types::{
    PyByteArray, PyBytes, PyDate, PyDateTime, PyDelta, PyDict, PyFloat, PyFrozenSet, PyInt, PyList, PySet, PyString,
    PyTime, PyTuple,
};
use pyo3::{ffi, intern};

use super::cbor::{self, put_head};
use super::{DEPTH_MAX, Types, moments};
use crate::errors;

/// What the refusal of a type says.
pub(crate) const WANTED: &str = "store bytes, bytearray, str, int, float, bool, None, list, tuple, dict, set, frozenset, \
     datetime, date, time, timedelta, Decimal or UUID (exactly these, not subclasses), and not inside of others NumPy arrays, \
     Arrow tables and record batches, and other buffers; or open the cache with serializer=\"pickle\"";

/// Appends objects to a growing buffer.
pub(crate) struct Encoder {
    pub out: Vec<u8>,
    bytes_max: u64,
}

impl Encoder {
    /// An encoder that gives up when the value has more than `bytes_max` bytes.
    pub fn new(bytes_max: u64) -> Encoder {
        Encoder { out: Vec::with_capacity(128), bytes_max }
    }

    /// Refuses what would not fit before it is copied.
    fn reserve(&self, py: Python<'_>, more: usize) -> PyResult<()> {
        let bytes = self.out.len() as u64 + more as u64;
        if bytes > self.bytes_max {
            return Err(errors::exception(py, &Error::ValueTooLarge { bytes, bytes_max: self.bytes_max }));
        }
        Ok(())
    }

    fn string(&mut self, py: Python<'_>, major: u8, bytes: &[u8]) -> PyResult<()> {
        self.reserve(py, bytes.len())?;
        put_head(&mut self.out, major, bytes.len() as u64);
        self.out.extend_from_slice(bytes);
        Ok(())
    }

    /// Appends `object`, which is inside `depth` containers.
    pub fn put(&mut self, object: &Bound<'_, PyAny>, depth: u32) -> PyResult<()> {
        let py = object.py();
        if object.is_none() {
            self.out.push(cbor::NONE);
        } else if let Ok(text) = object.cast_exact::<PyString>() {
            self.text(text)?;
        } else if object.is_exact_instance_of::<PyInt>() {
            self.int(object)?;
        } else if let Ok(float) = object.cast_exact::<PyFloat>() {
            self.out.push(cbor::DOUBLE);
            self.out.extend_from_slice(&float.value().to_bits().to_be_bytes());
        } else if object.is(&*pyo3::types::PyBool::new(py, true)) {
            self.out.push(cbor::TRUE);
        } else if object.is(&*pyo3::types::PyBool::new(py, false)) {
            self.out.push(cbor::FALSE);
        } else if let Ok(bytes) = object.cast_exact::<PyBytes>() {
            self.string(py, cbor::BYTES, bytes.as_bytes())?;
        } else if let Ok(dict) = object.cast_exact::<PyDict>() {
            self.dict(dict, depth)?;
        } else if let Ok(list) = object.cast_exact::<PyList>() {
            let depth = self.open(py, cbor::ARRAY, list.len(), depth)?;
            for at in 0..list.len() {
                self.put(&list.get_item(at)?, depth)?;
            }
            // A head that announces another number of items than follow would not decode.
            self.unchanged(true)?;
        } else if let Ok(tuple) = object.cast_exact::<PyTuple>() {
            put_head(&mut self.out, cbor::TAG, cbor::TAG_TUPLE);
            let depth = self.open(py, cbor::ARRAY, tuple.len(), depth)?;
            for item in tuple.iter_borrowed() {
                self.put(&item, depth)?;
            }
        } else if object.is_exact_instance_of::<PySet>() {
            self.set(object, cbor::TAG_SET, depth)?;
        } else if object.is_exact_instance_of::<PyFrozenSet>() {
            self.set(object, cbor::TAG_FROZENSET, depth)?;
        } else {
            self.rare(object)?;
        }
        self.reserve(py, 0)
    }

    /// The head of a container of `count` items, and the depth inside of it.
    fn open(&mut self, py: Python<'_>, major: u8, count: usize, depth: u32) -> PyResult<u32> {
        if depth == DEPTH_MAX {
            return Err(errors::exception(py, &Error::NestedTooDeep { depth_max: DEPTH_MAX }));
        }
        put_head(&mut self.out, major, count as u64);
        Ok(depth + 1)
    }

    fn unchanged(&self, same: bool) -> PyResult<()> {
        if same { Ok(()) } else { Err(PyRuntimeError::new_err("the container was changed while it was stored")) }
    }

    fn text(&mut self, text: &Bound<'_, PyString>) -> PyResult<()> {
        let py = text.py();
        match utf8(text) {
            Ok(Utf8::Borrowed(bytes)) => self.string(py, cbor::TEXT, bytes),
            Ok(Utf8::Owned(bytes)) => self.string(py, cbor::TEXT, bytes.as_bytes()),
            Err(error) if error.is_instance_of::<PyUnicodeEncodeError>(py) => {
                let bytes = text.call_method1(intern!(py, "encode"), ("utf-8", "surrogatepass"))?;
                put_head(&mut self.out, cbor::TAG, cbor::TAG_SURROGATES);
                self.string(py, cbor::BYTES, bytes.cast::<PyBytes>()?.as_bytes())
            }
            Err(error) => Err(error),
        }
    }

    /// Appends an exact int of any size.
    pub fn int(&mut self, int: &Bound<'_, PyAny>) -> PyResult<()> {
        if let Some(number) = small_int(int)? {
            match u64::try_from(number) {
                Ok(number) => put_head(&mut self.out, cbor::UNSIGNED, number),
                Err(_) => put_head(&mut self.out, cbor::NEGATIVE, !number as u64),
            }
            return Ok(());
        }
        let py = int.py();
        let negative = int.lt(0)?;
        let magnitude = if negative { int.call_method0(intern!(py, "__invert__"))? } else { int.clone() };
        let bits: usize = magnitude.call_method0(intern!(py, "bit_length"))?.extract()?;
        let count = bits.div_ceil(8);
        self.reserve(py, count)?;
        let bytes = magnitude.call_method1(intern!(py, "to_bytes"), (count, intern!(py, "big")))?;
        let bytes = bytes.cast::<PyBytes>()?.as_bytes();
        if bytes.len() <= 8 {
            let number = bytes.iter().fold(0, |number, &byte| number << 8 | u64::from(byte));
            put_head(&mut self.out, if negative { cbor::NEGATIVE } else { cbor::UNSIGNED }, number);
            return Ok(());
        }
        let tag = if negative { cbor::TAG_BIG_NEGATIVE } else { cbor::TAG_BIG_POSITIVE };
        put_head(&mut self.out, cbor::TAG, tag);
        self.string(py, cbor::BYTES, bytes)
    }

    fn dict(&mut self, dict: &Bound<'_, PyDict>, depth: u32) -> PyResult<()> {
        let py = dict.py();
        let count = dict.len();
        let depth = self.open(py, cbor::MAP, count, depth)?;
        let mut position: ffi::Py_ssize_t = 0;
        let mut seen = 0;
        loop {
            let (mut key, mut value) = (std::ptr::null_mut(), std::ptr::null_mut());
            // SAFETY: Y1, Y2, Y3: a dict; PyDict_Next checks its position against the dict
            // at every step.
            let more = unsafe { ffi::PyDict_Next(dict.as_ptr(), &mut position, &mut key, &mut value) };
            if more == 0 {
                break;
            }
            // SAFETY: Y1: PyDict_Next lent two objects that are alive now; references of our
            // own (Y2) are taken before anything else runs.
            let (key, value) = unsafe { (Bound::from_borrowed_ptr(py, key), Bound::from_borrowed_ptr(py, value)) };
            self.put(&key, depth)?;
            self.put(&value, depth)?;
            seen += 1;
            self.unchanged(seen <= count && dict.len() == count)?;
        }
        self.unchanged(seen == count)
    }

    fn set(&mut self, set: &Bound<'_, PyAny>, tag: u64, depth: u32) -> PyResult<()> {
        let count = set.len()?;
        put_head(&mut self.out, cbor::TAG, tag);
        let depth = self.open(set.py(), cbor::ARRAY, count, depth)?;
        let mut seen = 0;
        for item in set.try_iter()? {
            self.put(&item?, depth)?;
            seen += 1;
        }
        self.unchanged(seen == count)
    }

    /// Types that are not containers and not the most frequent ones.
    fn rare(&mut self, object: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = object.py();
        if let Ok(bytes) = object.cast_exact::<PyByteArray>() {
            put_head(&mut self.out, cbor::TAG, cbor::TAG_BYTEARRAY);
            return self.string(py, cbor::BYTES, &bytes.to_vec());
        }
        if let Ok(moment) = object.cast_exact::<PyDateTime>() {
            return moments::put_datetime(&mut self.out, moment);
        }
        if let Ok(date) = object.cast_exact::<PyDate>() {
            moments::put_date(&mut self.out, date);
            return Ok(());
        }
        if let Ok(time) = object.cast_exact::<PyTime>() {
            return moments::put_time(&mut self.out, time);
        }
        if let Ok(delta) = object.cast_exact::<PyDelta>() {
            moments::put_delta(&mut self.out, delta);
            return Ok(());
        }
        let types = Types::get(py)?;
        let class = object.get_type();
        if class.is(types.decimal.bind(py)) {
            put_head(&mut self.out, cbor::TAG, cbor::TAG_DECIMAL);
            let text = object.str()?;
            return self.string(py, cbor::TEXT, text.to_cow()?.as_bytes());
        }
        if class.is(types.uuid.bind(py)) {
            let number: u128 = object.getattr(intern!(py, "int"))?.extract()?;
            put_head(&mut self.out, cbor::TAG, cbor::TAG_UUID);
            return self.string(py, cbor::BYTES, &number.to_be_bytes());
        }
        Err(errors::unsupported(object, WANTED))
    }
}

/// An exact int's value, or `None` when it does not fit 64 bits.
#[inline]
pub(crate) fn small_int(int: &Bound<'_, PyAny>) -> PyResult<Option<i64>> {
    let mut overflow = 0;
    // SAFETY: Y1, Y2, Y3: the callers checked that it is an int.
    let number = unsafe { ffi::PyLong_AsLongLongAndOverflow(int.as_ptr(), &mut overflow) };
    if overflow != 0 {
        return Ok(None);
    }
    if number == -1
        && let Some(error) = PyErr::take(int.py())
    {
        return Err(error);
    }
    Ok(Some(number))
}

/// The UTF-8 bytes of a str: its own if it is ASCII, else a temporary copy.
pub(crate) enum Utf8<'a, 'py> {
    Borrowed(&'a [u8]),
    Owned(Bound<'py, PyBytes>),
}

/// The UTF-8 bytes of `text`, without leaving a copy inside the object.
#[inline]
pub(crate) fn utf8<'a, 'py>(text: &'a Bound<'py, PyString>) -> PyResult<Utf8<'a, 'py>> {
    if let Some(bytes) = ascii(text) {
        return Ok(Utf8::Borrowed(bytes));
    }
    // SAFETY: Y1, Y2, Y3: a str; Y5: the result is a new bytes object or an error.
    unsafe {
        let bytes = Bound::from_owned_ptr_or_err(text.py(), ffi::PyUnicode_AsUTF8String(text.as_ptr()))?;
        Ok(Utf8::Owned(bytes.cast_into_unchecked::<PyBytes>()))
    }
}

/// The characters of `text`, if they are ASCII and lie in the object itself.
#[inline]
pub(crate) fn ascii<'a>(text: &'a Bound<'_, PyString>) -> Option<&'a [u8]> {
    let object = text.as_ptr();
    // SAFETY: Y1, Y3: a str (ready, as every str is from 3.12 on and every str that left C
    // code is before). Y2: a compact ASCII str holds its characters as bytes behind its
    // header for as long as it lives.
    unsafe {
        if ffi::PyUnicode_IS_COMPACT_ASCII(object) == 0 {
            return None;
        }
        let count = ffi::PyUnicode_GET_LENGTH(object);
        Some(std::slice::from_raw_parts(ffi::PyUnicode_1BYTE_DATA(object), count as usize))
    }
}
