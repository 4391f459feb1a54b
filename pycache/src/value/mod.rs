//! Values: Python objects as a kind and bytes, and back.
//!
//! Small and frequent types have a kind of their own and no framing: bytes are stored as
//! they are, text as UTF-8, so that programs in other languages read and write them
//! without knowing Python. Everything else is one CBOR item. `docs/value-encoding.md` is
//! the specification.
//!
//! Reading order: [`cbor`], [`encode`], [`decode`], [`moments`], [`buffers`], [`tables`], [`pickles`], [`coder`],
//! [`receive`].

pub(crate) mod buffers;
mod cbor;
pub(crate) mod coder;
mod decode;
mod encode;
mod moments;
pub(crate) mod pickles;
mod receive;
pub(crate) mod tables;

use cache_core::{Error, kind};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyByteArray, PyBytes, PyFloat, PyInt, PyString, PyType};
use pyo3::{ffi, intern};

pub(crate) use cbor::{ARRAY, BYTES, Reader, TEXT, put_head};
pub(crate) use decode::{int_from_text, integer};
pub(crate) use encode::{Encoder, ascii, small_int};
pub(crate) use receive::Receiver;

use crate::errors;
use crate::kept::{Kept, load};
use buffers::Lent;
use coder::Coder;
use decode::{Failure, text};
use encode::{Utf8, utf8};

/// Containers inside containers that a value may have.
pub(crate) const DEPTH_MAX: u32 = 64;

/// What a handle does with objects beyond the safe types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Serializer {
    /// Refuses them, and never reads a pickle.
    Safe,
    /// Pickles them, and trusts every writer of the region.
    Pickle,
    /// Gives what has no kind of its own to another serializer.
    Other,
}

/// The Python type of values of `kind`, for messages.
pub(crate) fn type_name(kind: u8) -> &'static str {
    match kind {
        kind::BYTES => "bytes",
        kind::INT => "int",
        kind::STR => "str",
        kind::FLOAT => "float",
        kind::NONE => "None",
        kind::FALSE | kind::TRUE => "bool",
        kind::BYTEARRAY => "bytearray",
        kind::TAGGED => "list, dict or other structure",
        kind::ARRAY => "numpy.ndarray",
        kind::ARROW => "pyarrow.Table",
        kind::ARROW_BATCH => "pyarrow.RecordBatch",
        kind::PICKLE | kind::PICKLE_BUFFERS => "pickled object",
        kind::JSON | kind::MSGPACK | kind::NAMED => "serialized object",
        kind::COMPRESSED => "any, compressed",
        kind::SIGNED => "any, signed",
        _ => "an unknown kind",
    }
}

/// Types of the standard library, imported when first met.
pub(crate) struct Types {
    pub decimal: Py<PyType>,
    pub uuid: Py<PyType>,
    pub timezone: Py<PyType>,
    pub zone_info: Py<PyType>,
}

impl Types {
    pub fn get(py: Python<'_>) -> PyResult<&Types> {
        static TYPES: Kept<Types> = Kept::new();
        TYPES.get(py, || {
            let class = |module: &str, name: &str| -> PyResult<Py<PyType>> {
                Ok(load(py, module)?.getattr(name)?.cast_into::<PyType>()?.unbind())
            };
            Ok(Types {
                decimal: class("decimal", "Decimal")?,
                uuid: class("uuid", "UUID")?,
                timezone: class("datetime", "timezone")?,
                zone_info: class("zoneinfo", "ZoneInfo")?,
            })
        })
    }
}

/// The bytes of a value on their way to the region.
pub(crate) enum Payload<'a, 'py> {
    /// The object's own bytes; it is immutable and outlives the call.
    Borrowed(&'a [u8]),
    /// Eight bytes of a number.
    Number([u8; 8]),
    /// Bytes made for this call.
    Owned(Vec<u8>),
    /// A bytes object made for this call.
    Object(Bound<'py, PyBytes>),
    /// Bytes that another object lends: they are read while attached, and not for long.
    Lent(Lent<'py>),
}

impl Payload<'_, '_> {
    /// A copy of bytes that are lent; everything else as it is.
    pub fn own(self) -> Self {
        match self {
            Payload::Lent(lent) => Payload::Owned(lent.bytes().to_vec()),
            own => own,
        }
    }

    #[inline]
    pub fn bytes(&self) -> &[u8] {
        match self {
            Payload::Borrowed(bytes) => bytes,
            Payload::Number(bytes) => bytes,
            Payload::Owned(bytes) => bytes,
            Payload::Object(object) => object.as_bytes(),
            Payload::Lent(lent) => lent.bytes(),
        }
    }
}

/// Kind and bytes of `object`; the value may have at most `bytes_max` bytes.
#[inline]
pub(crate) fn encode<'a, 'py>(
    object: &'a Bound<'py, PyAny>,
    coder: &Coder,
    bytes_max: u64,
) -> PyResult<(u8, Payload<'a, 'py>)> {
    if let Ok(bytes) = object.cast_exact::<PyBytes>() {
        return Ok((kind::BYTES, Payload::Borrowed(bytes.as_bytes())));
    }
    if let Ok(text) = object.cast_exact::<PyString>()
        && let Ok(utf8) = utf8(text)
    {
        return Ok((
            kind::STR,
            match utf8 {
                Utf8::Borrowed(bytes) => Payload::Borrowed(bytes),
                Utf8::Owned(bytes) => Payload::Object(bytes),
            },
        ));
    }
    if object.is_exact_instance_of::<PyInt>()
        && let Some(number) = small_int(object)?
    {
        return Ok((kind::INT, Payload::Number(number.to_le_bytes())));
    }
    encode_other(object, coder, bytes_max)
}

fn encode_other<'a, 'py>(
    object: &'a Bound<'py, PyAny>,
    coder: &Coder,
    bytes_max: u64,
) -> PyResult<(u8, Payload<'a, 'py>)> {
    if let Ok(float) = object.cast_exact::<PyFloat>() {
        return Ok((kind::FLOAT, Payload::Number(float.value().to_bits().to_le_bytes())));
    }
    if object.is_none() {
        return Ok((kind::NONE, Payload::Borrowed(b"")));
    }
    if let Ok(truth) = object.cast_exact::<PyBool>() {
        return Ok((if truth.is_true() { kind::TRUE } else { kind::FALSE }, Payload::Borrowed(b"")));
    }
    if let Ok(bytes) = object.cast_exact::<PyByteArray>() {
        // A copy: another thread may resize a bytearray while this one waits.
        return Ok((kind::BYTEARRAY, Payload::Owned(bytes.to_vec())));
    }
    let serializer = coder.serializer;
    // SAFETY: Y1, Y2: only looks at the type.
    if unsafe { ffi::PyObject_CheckBuffer(object.as_ptr()) } != 0 {
        match buffers::encode(object, serializer, bytes_max) {
            Ok(None) => {}
            Ok(Some(encoded)) => return Ok(encoded),
            Err(error) if serializer == Serializer::Pickle && pickle_may_help(object.py(), &error) => {}
            Err(error) => return Err(error),
        }
    }
    if serializer == Serializer::Other {
        return match tables::encode(object, bytes_max)? {
            Some(encoded) => Ok(encoded),
            None => coder.dumps(object),
        };
    }
    let mut encoder = Encoder::new(bytes_max);
    match encoder.put(object, 0) {
        Ok(()) => Ok((kind::TAGGED, Payload::Owned(encoder.out))),
        Err(error) if pickle_may_help(object.py(), &error) => match tables::encode(object, bytes_max)? {
            Some(encoded) => Ok(encoded),
            None if serializer == Serializer::Pickle => pickles::encode(object, bytes_max),
            None => Err(error),
        },
        Err(error) => Err(error),
    }
}

/// True for the refusals that a pickle does not share.
fn pickle_may_help(py: Python<'_>, error: &PyErr) -> bool {
    let code = error.value(py).getattr(intern!(py, "code"));
    code.is_ok_and(|code| code.eq("unsupported_type").unwrap_or(false) || code.eq("nested_too_deep").unwrap_or(false))
}

/// The object that `bytes` of `kind` under `key` stand for. The bytes must be a private copy.
pub(crate) fn decode<'py>(
    py: Python<'py>,
    key: &[u8],
    kind: u8,
    bytes: &[u8],
    coder: &Coder,
) -> PyResult<Bound<'py, PyAny>> {
    if coder.signs || kind == kind::SIGNED || kind == kind::COMPRESSED {
        return coder.open(py, key, kind, bytes);
    }
    decode_plain(py, kind, bytes, coder)
}

/// As [`decode`], for values that are neither signed nor compressed.
fn decode_plain<'py>(py: Python<'py>, kind: u8, bytes: &[u8], coder: &Coder) -> PyResult<Bound<'py, PyAny>> {
    let bad =
        |offset: usize, reason| errors::exception(py, &Error::BadEncoding { kind, offset: offset as u64, reason });
    let empty = |object: Bound<'py, PyAny>| {
        if bytes.is_empty() { Ok(object) } else { Err(bad(0, "bytes where none belong")) }
    };
    let number = || <[u8; 8]>::try_from(bytes).map_err(|_| bad(0, "not the 8 bytes of a number"));
    match kind {
        kind::BYTES => Ok(PyBytes::new(py, bytes).into_any()),
        kind::STR => match text(py, bytes) {
            Ok(text) => Ok(text),
            Err(Failure::Bytes(reason)) => Err(bad(0, reason)),
            Err(Failure::Python(error)) => Err(error),
        },
        kind::INT => {
            let number = i64::from_le_bytes(number()?);
            // SAFETY: Y1; Y5: the result is a new reference or an error.
            unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyLong_FromLongLong(number)) }
        }
        kind::FLOAT => Ok(PyFloat::new(py, f64::from_le_bytes(number()?)).into_any()),
        kind::NONE => empty(py.None().into_bound(py)),
        kind::FALSE => empty(PyBool::new(py, false).to_owned().into_any()),
        kind::TRUE => empty(PyBool::new(py, true).to_owned().into_any()),
        kind::BYTEARRAY => Ok(PyByteArray::new(py, bytes).into_any()),
        kind::TAGGED => match decode::item(py, bytes) {
            Ok(object) => Ok(object),
            Err((Failure::Bytes(reason), offset)) => Err(bad(offset, reason)),
            Err((Failure::Python(error), _)) => Err(error),
        },
        kind::ARRAY => buffers::decode(py, bytes),
        kind::ARROW | kind::ARROW_BATCH => tables::over(PyBytes::new(py, bytes).as_any(), kind),
        kind::PICKLE if coder.pickles() => pickles::decode(PyBytes::new(py, bytes).as_any()),
        kind::PICKLE_BUFFERS if coder.pickles() => pickles::over(PyByteArray::new(py, bytes).as_any()),
        kind::PICKLE | kind::PICKLE_BUFFERS => {
            Err(errors::exception(py, &Error::WrongSerializer { found: "pickle".to_owned() }))
        }
        kind::JSON | kind::MSGPACK | kind::NAMED => coder.loads(py, kind, bytes),
        _ => Err(bad(0, "an unknown kind")),
    }
}
