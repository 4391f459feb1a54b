//! From CBOR bytes to Python objects.
//!
//! Total: any bytes give an object or an error that names the byte. Nesting is bounded;
//! so is memory, because no length is believed before that many bytes are there. Nothing
//! is executed: the only constructors called are those of the types on the list.

use std::convert::Infallible;

use pyo3::prelude::*;
use pyo3::types::{
    PyBool, PyByteArray, PyBytes, PyDict, PyFloat, PyFrozenSet, PyInt, PyList, PySet, PyString, PyTuple,
};
use pyo3::{ffi, intern};

use super::cbor::{self, Head, Reader, Reason};
use super::{DEPTH_MAX, Types, moments};

/// Why decoding stopped.
pub(crate) enum Failure {
    /// The bytes are at fault.
    Bytes(Reason),
    /// Python is: no memory, or an interrupt.
    Python(PyErr),
}

impl From<Reason> for Failure {
    fn from(reason: Reason) -> Failure {
        Failure::Bytes(reason)
    }
}

impl From<PyErr> for Failure {
    fn from(error: PyErr) -> Failure {
        Failure::Python(error)
    }
}

impl From<Infallible> for Failure {
    fn from(never: Infallible) -> Failure {
        match never {}
    }
}

type Decoded<'py> = Result<Bound<'py, PyAny>, Failure>;

/// The next item, which must be an integer of any size.
pub(crate) fn integer<'py>(py: Python<'py>, reader: &mut Reader<'_>) -> Decoded<'py> {
    let head = reader.head()?;
    match head.major {
        cbor::UNSIGNED => Ok(head.argument.into_pyobject(py)?.into_any()),
        cbor::NEGATIVE => Ok((-1 - i128::from(head.argument)).into_pyobject(py)?.into_any()),
        cbor::TAG if head.argument == cbor::TAG_BIG_POSITIVE || head.argument == cbor::TAG_BIG_NEGATIVE => {
            let count = reader.expect(cbor::BYTES, "a tag on something else than bytes")?;
            let magnitude = int_from_bytes(py, reader.take(count)?)?;
            if head.argument == cbor::TAG_BIG_POSITIVE {
                return Ok(magnitude);
            }
            Ok(magnitude.call_method0(intern!(py, "__invert__"))?)
        }
        _ => Err("not an integer".into()),
    }
}

/// Decodes exactly one item that fills all of `bytes`; on failure says at which byte.
pub(crate) fn item<'py>(py: Python<'py>, bytes: &[u8]) -> Result<Bound<'py, PyAny>, (Failure, usize)> {
    let mut decoder = Decoder { py, reader: Reader::new(bytes) };
    let object = decoder.item(0).map_err(|failure| (failure, decoder.reader.at))?;
    if decoder.reader.left() != 0 {
        return Err((Failure::Bytes("bytes after its end"), decoder.reader.at));
    }
    Ok(object)
}

struct Decoder<'a, 'py> {
    py: Python<'py>,
    reader: Reader<'a>,
}

impl<'py> Decoder<'_, 'py> {
    fn item(&mut self, depth: u32) -> Decoded<'py> {
        let start = self.reader.at;
        let head = self.reader.head()?;
        match head.major {
            cbor::UNSIGNED | cbor::NEGATIVE => {
                self.reader.at = start;
                integer(self.py, &mut self.reader)
            }
            cbor::BYTES => Ok(PyBytes::new(self.py, self.reader.take(head.argument)?).into_any()),
            cbor::TEXT => self.text(head.argument),
            cbor::ARRAY => self.list(head.argument, depth),
            cbor::MAP => self.dict(head.argument, depth),
            cbor::TAG => self.tagged(head.argument, start, depth),
            _ => self.simple(head),
        }
    }

    fn text(&mut self, count: u64) -> Decoded<'py> {
        text(self.py, self.reader.take(count)?)
    }

    fn simple(&mut self, head: Head) -> Decoded<'py> {
        let py = self.py;
        let number = match head.first {
            cbor::NONE => return Ok(py.None().into_bound(py)),
            cbor::FALSE => return Ok(PyBool::new(py, false).to_owned().into_any()),
            cbor::TRUE => return Ok(PyBool::new(py, true).to_owned().into_any()),
            cbor::HALF => cbor::half(head.argument as u16),
            cbor::SINGLE => f64::from(f32::from_bits(head.argument as u32)),
            cbor::DOUBLE => f64::from_bits(head.argument),
            _ => return Err("a simple value that this encoding does not use".into()),
        };
        Ok(PyFloat::new(py, number).into_any())
    }

    /// One level deeper, if `count` items can be there at all: each has at least a byte.
    fn open(&self, count: u64, depth: u32) -> Result<u32, Reason> {
        if depth == DEPTH_MAX {
            return Err("nested too deep");
        }
        if count > self.reader.left() as u64 {
            return Err("a length beyond its end");
        }
        Ok(depth + 1)
    }

    fn list(&mut self, count: u64, depth: u32) -> Decoded<'py> {
        let depth = self.open(count, depth)?;
        let list = PyList::empty(self.py);
        for _ in 0..count {
            list.append(self.item(depth)?)?;
        }
        Ok(list.into_any())
    }

    fn items(&mut self, depth: u32) -> Result<Vec<Bound<'py, PyAny>>, Failure> {
        let count = self.reader.expect(cbor::ARRAY, "a tag on something else than an array")?;
        let depth = self.open(count, depth)?;
        let mut items = Vec::with_capacity((count as usize).min(1024));
        for _ in 0..count {
            items.push(self.item(depth)?);
        }
        Ok(items)
    }

    fn dict(&mut self, count: u64, depth: u32) -> Decoded<'py> {
        let depth = self.open(count.saturating_mul(2), depth)?;
        let dict = PyDict::new(self.py);
        for _ in 0..count {
            let key = self.item(depth)?;
            let value = self.item(depth)?;
            dict.set_item(key, value).map_err(|error| self.unhashable(error, "a key that cannot be one"))?;
        }
        Ok(dict.into_any())
    }

    /// A TypeError here means that the bytes put a mutable object where a hashable one belongs.
    fn unhashable(&self, error: PyErr, reason: Reason) -> Failure {
        if error.is_instance_of::<pyo3::exceptions::PyTypeError>(self.py) {
            Failure::Bytes(reason)
        } else {
            Failure::Python(error)
        }
    }

    fn tagged_bytes(&mut self) -> Result<&[u8], Reason> {
        let count = self.reader.expect(cbor::BYTES, "a tag on something else than bytes")?;
        self.reader.take(count)
    }

    fn tagged(&mut self, tag: u64, start: usize, depth: u32) -> Decoded<'py> {
        let py = self.py;
        match tag {
            cbor::TAG_TUPLE => Ok(PyTuple::new(py, self.items(depth)?)?.into_any()),
            cbor::TAG_SET | cbor::TAG_FROZENSET => {
                let items = self.items(depth)?;
                let set = if tag == cbor::TAG_SET {
                    PySet::new(py, items).map(Bound::into_any)
                } else {
                    PyFrozenSet::new(py, items).map(Bound::into_any)
                };
                set.map_err(|error| self.unhashable(error, "an item that no set can hold"))
            }
            cbor::TAG_BIG_POSITIVE | cbor::TAG_BIG_NEGATIVE => {
                self.reader.at = start;
                integer(py, &mut self.reader)
            }
            cbor::TAG_BYTEARRAY => Ok(PyByteArray::new(py, self.tagged_bytes()?).into_any()),
            cbor::TAG_SURROGATES => {
                let bytes = PyBytes::new(py, self.tagged_bytes()?);
                let text = bytes.call_method1(intern!(py, "decode"), ("utf-8", "surrogatepass"));
                text.map_err(|error| not_text(py, error))
            }
            cbor::TAG_UUID => {
                let bytes: [u8; 16] = self.tagged_bytes()?.try_into().map_err(|_| "not the 16 bytes of a UUID")?;
                let keywords = PyDict::new(py);
                keywords.set_item(intern!(py, "int"), u128::from_be_bytes(bytes))?;
                Ok(Types::get(py)?.uuid.bind(py).call((), Some(&keywords))?)
            }
            cbor::TAG_DECIMAL => self.decimal(),
            cbor::TAG_DATETIME => moments::datetime(py, &mut self.reader),
            cbor::TAG_DATE => moments::date(py, &mut self.reader),
            cbor::TAG_TIME => moments::time(py, &mut self.reader),
            cbor::TAG_TIMEDELTA => Ok(moments::delta(py, &mut self.reader)?.into_any()),
            _ => Err("a tag that this encoding does not use".into()),
        }
    }

    fn decimal(&mut self) -> Decoded<'py> {
        const WRONG: Reason = "not a decimal number";
        let py = self.py;
        let count = self.reader.expect(cbor::TEXT, WRONG)?;
        let bytes = self.reader.take(count)?;
        // What str() of a Decimal consists of; Python itself would also read "1_0" and other digits.
        let allowed = |byte: &u8| byte.is_ascii_digit() || b"+-.EINafinstyN".contains(byte);
        if !bytes.iter().all(allowed) {
            return Err(WRONG.into());
        }
        let text = text(py, bytes)?;
        Types::get(py)?.decimal.bind(py).call1((text,)).map_err(|_| WRONG.into())
    }
}

fn not_text(py: Python<'_>, error: PyErr) -> Failure {
    if error.is_instance_of::<pyo3::exceptions::PyUnicodeDecodeError>(py) {
        Failure::Bytes("text that is not UTF-8")
    } else {
        Failure::Python(error)
    }
}

/// A str of UTF-8 bytes that may be anything.
pub(crate) fn text<'py>(py: Python<'py>, bytes: &[u8]) -> Decoded<'py> {
    // PyString::from_bytes is CPython's own decoder, which validates.
    match PyString::from_bytes(py, bytes) {
        Ok(text) => Ok(text.into_any()),
        Err(error) => Err(not_text(py, error)),
    }
}

fn int_from_bytes<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    let class = py.get_type::<PyInt>();
    class.call_method1(intern!(py, "from_bytes"), (PyBytes::new(py, bytes), intern!(py, "big")))
}

/// An int of decimal text, if the text is the one that `str` gives for it.
pub(crate) fn int_from_text<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Option<Bound<'py, PyAny>>> {
    let digits = bytes.strip_prefix(b"-").unwrap_or(bytes);
    let canonical = match digits {
        [b'0'] => bytes.len() == 1,
        [b'1'..=b'9', rest @ ..] => rest.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    if !canonical {
        return Ok(None);
    }
    // Eighteen digits always fit 64 bits.
    if bytes.len() <= 18 {
        let magnitude = digits.iter().fold(0i64, |number, &digit| number * 10 + i64::from(digit - b'0'));
        let number = if digits.len() < bytes.len() { -magnitude } else { magnitude };
        // SAFETY: Y1; Y5: the result is a new reference or an error.
        return unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyLong_FromLongLong(number)) }.map(Some);
    }
    let class = py.get_type::<PyInt>();
    // Python refuses texts of thousands of digits; such a key stays text.
    Ok(class.call1((PyString::from_bytes(py, bytes)?,)).ok())
}
