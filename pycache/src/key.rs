//! Keys: str, bytes, int and tuples of these as bytes, and back as they were stored.
//!
//! | object | bytes of the key | form |
//! |---|---|---|
//! | str | its UTF-8 | text |
//! | bytes | themselves | bytes |
//! | int | its decimal text | int |
//! | tuple | 0xff, then a CBOR array of text, byte strings, integers and arrays | tuple |
//!
//! The bytes alone decide which key it is: `"7"`, `b"7"` and `7` are the same key. The
//! form is stored beside the value and only decides what iteration hands back. 0xff never
//! occurs in UTF-8, so no str is the same key as a tuple.

use cache_core::key_form as form;
use cache_core::{Error, KEY_BYTES_MAX};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyInt, PyString, PyTuple};

use crate::errors;
use crate::value::{self, DEPTH_MAX, Encoder, Reader};

/// First byte of a tuple's key.
const TUPLE_MARK: u8 = 0xff;
const WANTED: &str = "a key is a str, bytes, int (not bool) or a tuple of these, exactly and not a subclass (a named tuple is one by tuple(key))";

/// What follows a key where the exception of its function is remembered: `pycache._flight`
/// says the same.
const RAISED: &[u8; 7] = b"\0raised";
/// Head of a CBOR array of two.
const PAIR: u8 = 0x82;
/// Head of a CBOR text of as many bytes as `RAISED` has.
const RAISED_HEAD: u8 = 0x60 + RAISED.len() as u8;

/// Bytes of a key, and its form.
#[derive(Clone, Copy)]
pub(crate) struct Key<'a> {
    pub bytes: &'a [u8],
    pub form: u8,
}

/// The beginning of keys, as bytes; empty: of all keys.
#[derive(Default)]
pub(crate) struct Prefix(pub Vec<u8>);

impl<'a, 'py> FromPyObject<'a, 'py> for Prefix {
    type Error = PyErr;

    fn extract(object: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        let bytes = if let Ok(text) = object.cast_exact::<PyString>() {
            text_bytes(&text)?.to_vec()
        } else if let Ok(bytes) = object.cast_exact::<PyBytes>() {
            bytes.as_bytes().to_vec()
        } else {
            return Err(errors::unsupported(&object, "a prefix is a str or bytes"));
        };
        if bytes.is_empty() || bytes.len() > KEY_BYTES_MAX {
            return Err(wrong_length(object.py(), bytes.len()));
        }
        Ok(Prefix(bytes))
    }
}

/// Where keys that are not already bytes are put together.
pub(crate) struct Scratch {
    digits: itoa::Buffer,
    heap: Vec<u8>,
}

impl Scratch {
    #[inline]
    pub fn new() -> Scratch {
        Scratch { digits: itoa::Buffer::new(), heap: Vec::new() }
    }
}

impl<'a> Key<'a> {
    /// The key that `object` is; its bytes live in the object or in `scratch`.
    #[inline(always)]
    pub fn of(object: &'a Bound<'_, PyAny>, scratch: &'a mut Scratch) -> PyResult<Key<'a>> {
        // The common case without a call: ASCII text of a fitting length.
        if let Ok(text) = object.cast_exact::<PyString>()
            && let Some(bytes) = value::ascii(text)
            && (1..=KEY_BYTES_MAX).contains(&bytes.len())
        {
            return Ok(Key { bytes, form: form::TEXT });
        }
        Key::any(object, scratch)
    }

    #[inline(never)]
    fn any(object: &'a Bound<'_, PyAny>, scratch: &'a mut Scratch) -> PyResult<Key<'a>> {
        let key = if let Ok(text) = object.cast_exact::<PyString>() {
            Key { bytes: text_bytes(text)?, form: form::TEXT }
        } else if let Ok(bytes) = object.cast_exact::<PyBytes>() {
            Key { bytes: bytes.as_bytes(), form: form::BYTES }
        } else {
            Key::other(object, scratch)?
        };
        if key.bytes.is_empty() || key.bytes.len() > KEY_BYTES_MAX {
            return Err(wrong_length(object.py(), key.bytes.len()));
        }
        Ok(key)
    }

    /// The key under which the exception of its function is remembered, if there can be one: of a
    /// tuple the pair of it and a text, of others their bytes and a text.
    pub fn raised(self) -> Option<Vec<u8>> {
        let bytes = match self.form {
            form::TUPLE => [&[TUPLE_MARK, PAIR], &self.bytes[1..], &[RAISED_HEAD], RAISED].concat(),
            _ => [self.bytes, RAISED].concat(),
        };
        (bytes.len() <= KEY_BYTES_MAX).then_some(bytes)
    }

    fn other(object: &'a Bound<'_, PyAny>, scratch: &'a mut Scratch) -> PyResult<Key<'a>> {
        if object.is_exact_instance_of::<PyInt>() {
            if let Some(number) = value::small_int(object)? {
                return Ok(Key { bytes: scratch.digits.format(number).as_bytes(), form: form::INT });
            }
            scratch.heap.extend_from_slice(object.str()?.to_cow()?.as_bytes());
            return Ok(Key { bytes: &scratch.heap, form: form::INT });
        }
        let Ok(tuple) = object.cast_exact::<PyTuple>() else {
            return Err(errors::unsupported(object, WANTED));
        };
        let mut encoder = Encoder::new(KEY_BYTES_MAX as u64);
        encoder.out.push(TUPLE_MARK);
        put_tuple(&mut encoder, tuple, 0)?;
        scratch.heap = encoder.out;
        Ok(Key { bytes: &scratch.heap, form: form::TUPLE })
    }
}

#[cold]
fn wrong_length(py: Python<'_>, bytes: usize) -> PyErr {
    let error = match bytes {
        0 => Error::KeyEmpty,
        _ => Error::KeyTooLong { bytes: bytes as u64, bytes_max: KEY_BYTES_MAX as u64 },
    };
    errors::exception(py, &error)
}

/// The UTF-8 bytes of a str; a str that is not ASCII keeps them, so that it is encoded once.
pub(crate) fn text_bytes<'a>(text: &'a Bound<'_, PyString>) -> PyResult<&'a [u8]> {
    let mut count: ffi::Py_ssize_t = 0;
    // SAFETY: Y1, Y3: a str. Y2: the bytes belong to it and never change.
    unsafe {
        let data = ffi::PyUnicode_AsUTF8AndSize(text.as_ptr(), &mut count);
        if data.is_null() {
            return Err(PyErr::fetch(text.py()));
        }
        Ok(std::slice::from_raw_parts(data.cast(), count as usize))
    }
}

fn put_tuple(encoder: &mut Encoder, tuple: &Bound<'_, PyTuple>, depth: u32) -> PyResult<()> {
    let py = tuple.py();
    if depth == DEPTH_MAX {
        return Err(errors::exception(py, &Error::NestedTooDeep { depth_max: DEPTH_MAX }));
    }
    value::put_head(&mut encoder.out, value::ARRAY, tuple.len() as u64);
    for item in tuple.iter_borrowed() {
        if let Ok(tuple) = item.cast_exact::<PyTuple>() {
            put_tuple(encoder, &tuple, depth + 1)?;
        } else if let Ok(text) = item.cast_exact::<PyString>() {
            let bytes = text_bytes(&text)?;
            value::put_head(&mut encoder.out, value::TEXT, bytes.len() as u64);
            encoder.out.extend_from_slice(bytes);
        } else if let Ok(bytes) = item.cast_exact::<PyBytes>() {
            value::put_head(&mut encoder.out, value::BYTES, bytes.as_bytes().len() as u64);
            encoder.out.extend_from_slice(bytes.as_bytes());
        } else if item.is_exact_instance_of::<PyInt>() {
            encoder.int(&item)?;
        } else {
            return Err(errors::unsupported(&item, WANTED));
        }
        if encoder.out.len() > KEY_BYTES_MAX {
            return Err(wrong_length(py, encoder.out.len()));
        }
    }
    Ok(())
}

/// The object that was stored as the key `bytes`. Bytes that do not fit their form are
/// handed back as what they can be; nothing here fails because of what a region holds.
pub(crate) fn object<'py>(py: Python<'py>, bytes: &[u8], form: u8) -> PyResult<Bound<'py, PyAny>> {
    let found = match form {
        form::TEXT => PyString::from_bytes(py, bytes).ok().map(Bound::into_any),
        form::INT => value::int_from_text(py, bytes)?,
        form::TUPLE => tuple(py, bytes),
        _ => None,
    };
    Ok(found.unwrap_or_else(|| PyBytes::new(py, bytes).into_any()))
}

fn tuple<'py>(py: Python<'py>, bytes: &[u8]) -> Option<Bound<'py, PyAny>> {
    let mut reader = Reader::new(bytes.strip_prefix(&[TUPLE_MARK])?);
    let found = tuple_item(py, &mut reader, 0).ok()?;
    (reader.left() == 0 && found.is_instance_of::<PyTuple>()).then_some(found)
}

fn tuple_item<'py>(py: Python<'py>, reader: &mut Reader<'_>, depth: u32) -> Result<Bound<'py, PyAny>, ()> {
    let start = reader.at;
    let head = reader.head().map_err(drop)?;
    match head.major {
        value::TEXT => {
            let bytes = reader.take(head.argument).map_err(drop)?;
            PyString::from_bytes(py, bytes).map(Bound::into_any).map_err(drop)
        }
        value::BYTES => reader.take(head.argument).map(|bytes| PyBytes::new(py, bytes).into_any()).map_err(drop),
        value::ARRAY => {
            if depth == DEPTH_MAX || head.argument > reader.left() as u64 {
                return Err(());
            }
            let mut items = Vec::new();
            for _ in 0..head.argument {
                items.push(tuple_item(py, reader, depth + 1)?);
            }
            PyTuple::new(py, items).map(Bound::into_any).map_err(drop)
        }
        _ => {
            reader.at = start;
            value::integer(py, reader).map_err(drop)
        }
    }
}

/// `KeyError(key)`, as a mapping raises it.
#[cold]
pub(crate) fn missing(key: &Bound<'_, PyAny>) -> PyErr {
    pyo3::exceptions::PyKeyError::new_err((key.clone().unbind(),))
}
