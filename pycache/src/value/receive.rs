//! The place a read copies a value to, shaped so that most values are copied once.
//!
//! Bytes and ASCII text are copied straight into the object that the caller gets;
//! everything else into a small buffer on the stack, or a heap buffer when it is larger.
//! A read that starts again asks for a new place, and the object of the attempt before
//! is dropped unseen.

use std::mem::MaybeUninit;

use cache_core::{Destination, Error, Meta, Result, kind};
use pyo3::ffi;
use pyo3::prelude::*;

use super::coder::Coder;
use super::decode;

/// Values up to this size need no heap buffer.
const INLINE_BYTES: usize = 256;

/// Receives one value while the interpreter is attached.
pub(crate) struct Receiver<'py> {
    py: Python<'py>,
    /// An owned reference to the bytes or str being filled, or null.
    object: *mut ffi::PyObject,
    kind: u8,
    value_bytes: usize,
    /// Values over this size are refused with [`Receiver::too_large`] set.
    bytes_max: usize,
    too_large: bool,
    heap: Vec<u8>,
    inline: [MaybeUninit<u8>; INLINE_BYTES],
}

impl<'py> Receiver<'py> {
    /// A place for a value of at most `bytes_max` bytes.
    #[inline]
    pub fn new(py: Python<'py>, bytes_max: usize) -> Receiver<'py> {
        Receiver {
            py,
            object: std::ptr::null_mut(),
            kind: kind::NONE,
            value_bytes: 0,
            bytes_max,
            too_large: false,
            heap: Vec::new(),
            inline: [MaybeUninit::uninit(); INLINE_BYTES],
        }
    }

    /// True if the read failed because the value is larger than this place allows.
    pub fn too_large(&self) -> bool {
        self.too_large
    }

    /// The bytes that the region wrote, when they are not in an object.
    fn bytes(&self) -> &[u8] {
        if self.value_bytes > INLINE_BYTES {
            return &self.heap;
        }
        // SAFETY: R7: `buffer` lent exactly these bytes of `inline` to the read, and a read
        // that succeeded has written all of them.
        unsafe { std::slice::from_raw_parts(self.inline.as_ptr().cast(), self.value_bytes) }
    }

    /// The object of the value that a successful read has put here.
    #[inline(always)]
    pub fn finish(mut self, key: &[u8], coder: &Coder) -> PyResult<Bound<'py, PyAny>> {
        if self.kind == kind::BYTES && !self.object.is_null() && !coder.signs {
            let object = std::mem::replace(&mut self.object, std::ptr::null_mut());
            // SAFETY: Y1, Y5: the reference made by `buffer`. R7: its bytes are written.
            return Ok(unsafe { Bound::from_owned_ptr(self.py, object) });
        }
        self.finish_any(key, coder)
    }

    #[inline(never)]
    fn finish_any(mut self, key: &[u8], coder: &Coder) -> PyResult<Bound<'py, PyAny>> {
        let py = self.py;
        if self.object.is_null() {
            return decode(py, key, self.kind, self.bytes(), coder);
        }
        if coder.signs {
            // Bytes and text of their own kinds are not signed.
            return coder.open(py, key, self.kind, b"");
        }
        let object = std::mem::replace(&mut self.object, std::ptr::null_mut());
        // SAFETY: Y1, Y5: the reference made by `buffer`. R7: its bytes are written.
        let object = unsafe { Bound::from_owned_ptr(py, object) };
        // SAFETY: Y2, Y4: a compact ASCII str of `value_bytes` characters, made by `buffer`;
        // they lie behind its header as bytes.
        let bytes = unsafe {
            std::slice::from_raw_parts(ffi::PyUnicode_1BYTE_DATA(object.as_ptr()).cast_const(), self.value_bytes)
        };
        if bytes.is_ascii() {
            return Ok(object);
        }
        // The str holds what it must not and is dropped; its bytes are decoded as UTF-8.
        decode(py, key, self.kind, bytes, coder)
    }
}

impl Destination for Receiver<'_> {
    #[inline(always)]
    fn buffer(&mut self, meta: &Meta) -> Result<&mut [MaybeUninit<u8>]> {
        let count = meta.value_bytes;
        self.kind = meta.kind;
        self.value_bytes = count;
        // The common case without a call: bytes, at the first attempt.
        if meta.kind == kind::BYTES && (1..=self.bytes_max).contains(&count) && self.object.is_null() {
            // SAFETY: Y1, Y4, Y5: a new bytes object of `count` bytes that are not yet
            // written; it lives as long as `self.object`.
            unsafe {
                self.object = ffi::PyBytes_FromStringAndSize(std::ptr::null(), count as ffi::Py_ssize_t);
                if !self.object.is_null() {
                    let data = ffi::PyBytes_AS_STRING(self.object).cast_mut();
                    return Ok(std::slice::from_raw_parts_mut(data.cast(), count));
                }
                ffi::PyErr_Clear();
            }
        }
        self.any_buffer(meta)
    }
}

impl Receiver<'_> {
    /// A buffer for a value of any kind, at any attempt.
    #[inline(never)]
    fn any_buffer(&mut self, meta: &Meta) -> Result<&mut [MaybeUninit<u8>]> {
        let count = meta.value_bytes;
        if !self.object.is_null() {
            // SAFETY: Y1, Y4, Y5: given back once, and nobody else has it.
            unsafe { ffi::Py_DECREF(std::mem::replace(&mut self.object, std::ptr::null_mut())) };
        }
        if count > self.bytes_max {
            self.too_large = true;
            return Err(Error::BufferTooSmall { bytes: count as u64, bytes_given: self.bytes_max as u64 });
        }
        // Python keeps one empty and, for text, one object per single character: those
        // are left to the decoder, as no bytes may be written into them.
        let data = match self.kind {
            // SAFETY: Y1, Y4, Y5: a new bytes object of `count` bytes that are not yet written.
            kind::BYTES if count > 0 => unsafe {
                self.object = ffi::PyBytes_FromStringAndSize(std::ptr::null(), count as ffi::Py_ssize_t);
                if self.object.is_null() {
                    std::ptr::null_mut()
                } else {
                    ffi::PyBytes_AS_STRING(self.object).cast::<u8>().cast_mut()
                }
            },
            // SAFETY: Y1, Y4, Y5: a new compact ASCII str of `count` characters, not yet written.
            kind::STR if count > 1 => unsafe {
                self.object = ffi::PyUnicode_New(count as ffi::Py_ssize_t, 127);
                if self.object.is_null() { std::ptr::null_mut() } else { ffi::PyUnicode_1BYTE_DATA(self.object) }
            },
            _ if count <= INLINE_BYTES => return Ok(&mut self.inline[..count]),
            _ => return self.heap.buffer(meta),
        };
        if data.is_null() {
            // SAFETY: Y1; the failed allocation left MemoryError set.
            unsafe { ffi::PyErr_Clear() };
            return Err(Error::InvalidArgument { reason: "Python has no memory for the value" });
        }
        // SAFETY: Y4: `data` points at `count` bytes of an object that lives as long as
        // `self.object`.
        Ok(unsafe { std::slice::from_raw_parts_mut(data.cast(), count) })
    }
}

impl Drop for Receiver<'_> {
    #[inline]
    fn drop(&mut self) {
        if !self.object.is_null() {
            // SAFETY: Y1, Y4, Y5: given back once, and nobody else has it.
            unsafe { ffi::Py_DECREF(self.object) };
        }
    }
}
