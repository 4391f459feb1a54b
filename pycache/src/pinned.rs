//! Values that are lent where they lie in the region: `view` and its kin, and the object
//! behind them.

use std::ffi::c_int;

use cache_shm::{Error, View, kind};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyMemoryView;

use crate::cache::Cache;
use crate::errors;
use crate::key::{Key, Scratch};
use crate::value;

/// One pinned value, or the private copy that stands in for it. The pin ends with this
/// object. Whoever uses its bytes holds a reference to it (that is how a buffer is lent),
/// so the interpreter does the counting, and nothing here is counted or freed by hand.
#[pyclass(frozen, module = "pycache")]
pub(crate) struct Pinned(View);

#[pymethods]
impl Pinned {
    /// Lends the bytes, for reading only.
    ///
    /// # Safety
    /// - The interpreter calls it with a `Py_buffer` to fill in.
    unsafe fn __getbuffer__(this: &Bound<'_, Self>, buffer: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let bytes: &[u8] = &this.get().0;
        let start = bytes.as_ptr().cast_mut().cast();
        // SAFETY: Y1; Y6: the bytes stay where they are and as they are as long as this
        // object lives, of which the buffer takes a reference. They are lent read-only.
        unsafe {
            if ffi::PyBuffer_FillInfo(buffer, this.as_ptr(), start, bytes.len() as ffi::Py_ssize_t, 1, flags) == 0 {
                return Ok(());
            }
            // What a failed request has to leave behind.
            (*buffer).obj = std::ptr::null_mut();
        }
        Err(PyErr::fetch(this.py()))
    }

    fn __len__(&self) -> usize {
        self.0.len()
    }
}

impl Cache {
    /// The value under `key`, pinned where it lies.
    pub fn pin(&self, key: &Bound<'_, PyAny>) -> PyResult<Option<View>> {
        self.unsealed(key.py())?;
        let mut scratch = Scratch::new();
        let bytes = Key::of(key, &mut scratch)?.bytes;
        self.handle().view(bytes).map_err(Self::raise(key.py()))
    }

    /// The error for a value that is there and of the wrong kind.
    #[cold]
    pub fn not_lent(py: Python<'_>, kind: u8, wanted: &'static str) -> PyErr {
        let given = format!("a stored value of type {}", value::type_name(kind));
        errors::exception(py, &Error::UnsupportedType { given, wanted })
    }
}

/// A view of `pinned` as Python has them.
pub(crate) fn lend(py: Python<'_>, pinned: View) -> PyResult<Bound<'_, PyMemoryView>> {
    PyMemoryView::from(Bound::new(py, Pinned(pinned))?.as_any())
}

#[pymethods]
impl Cache {
    /// The bytes under `key` where they lie, as a read-only memoryview; `default` when there
    /// are none. Nothing is copied, whatever the size.
    ///
    /// Works for bytes, bytearray and str (its UTF-8). The view stays as it is when the key is
    /// overwritten, deleted or evicted and when the cache is closed or destroyed, in this
    /// process and in children that it forks. Its memory is not used again before the last
    /// reference to it (slices and arrays over it included) is gone or the process has ended,
    /// so hold views briefly: ``with cache.view(key) as view`` or ``view.release()``. Where
    /// too much is lent already, and on read-only handles, the view is of a private copy.
    ///
    /// Raises:
    ///     UnsupportedType: The value is of another type.
    ///
    /// >>> cache["page"] = "<html>"
    /// >>> with cache.view("page") as view:
    /// ...     len(view), bytes(view[1:5])
    /// (6, b'html')
    /// >>> cache.view("nothing") is None
    /// True
    #[pyo3(signature = (key, default=None))]
    fn view<'py>(
        &self,
        key: &Bound<'py, PyAny>,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        const WANTED: &str = "a view shows bytes, bytearray or str; read other values with get";
        let py = key.py();
        let Some(pinned) = self.pin(key)? else { return Ok(default) };
        match pinned.meta().kind {
            kind::BYTES | kind::STR | kind::BYTEARRAY => Ok(Some(lend(py, pinned)?.into_any())),
            other => Err(Cache::not_lent(py, other, WANTED)),
        }
    }

    /// The NumPy array under `key` where it lies, read-only, with its dtype and shape; `default`
    /// when there is none. Nothing is copied, whatever the size.
    ///
    /// The array stays as it is for as long as it is used, under the terms of ``view``. `get`
    /// gives a copy that may be changed. For other bytes: ``numpy.frombuffer(cache.view(key))``.
    ///
    /// Raises:
    ///     UnsupportedType: The value is no array.
    ///
    /// >>> cache.array("nothing", default="no array")
    /// 'no array'
    #[pyo3(signature = (key, default=None))]
    fn array<'py>(
        &self,
        key: &Bound<'py, PyAny>,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        const WANTED: &str = "array shows what was stored as a NumPy array; use view for other bytes";
        let py = key.py();
        let Some(pinned) = self.pin(key)? else { return Ok(default) };
        match pinned.meta().kind {
            kind::ARRAY => value::buffers::over(lend(py, pinned)?.as_any()).map(Some),
            other => Err(Cache::not_lent(py, other, WANTED)),
        }
    }
    /// The Arrow table or record batch under `key` where it lies; `default` when there is none.
    /// Its columns are not copied, whatever the size; their offsets and indices are checked first.
    ///
    /// It stays as it is for as long as it, or anything made of its columns, is used, under the
    /// terms of ``view``. `get` gives the same over a copy. From a region that somebody writes whom
    /// you do not trust take a copy: the check is of what the bytes are at that moment.
    ///
    /// Raises:
    ///     UnsupportedType: The value is neither.
    ///
    /// >>> cache.arrow("nothing", default="no table")
    /// 'no table'
    #[pyo3(signature = (key, default=None))]
    fn arrow<'py>(
        &self,
        key: &Bound<'py, PyAny>,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        const WANTED: &str = "arrow shows what was stored as a table or record batch; read other values with get";
        let py = key.py();
        let Some(pinned) = self.pin(key)? else { return Ok(default) };
        match pinned.meta().kind {
            number @ (kind::ARROW | kind::ARROW_BATCH) => {
                value::tables::over(lend(py, pinned)?.as_any(), number).map(Some)
            }
            other => Err(Cache::not_lent(py, other, WANTED)),
        }
    }

    /// As ``get``, but what can be lent is not copied: NumPy arrays, Arrow tables, and the large
    /// buffers of pickled objects (the arrays inside of them, ``pickle.PickleBuffer``) lie in the
    /// region, read-only, for as long as they are used, under the terms of ``view``.
    ///
    /// Buffers of pickles are lent from 1 KiB on; what is smaller, and everything else, is copied
    /// as by ``get``. An object keeps its whole value in the region, however little of it is used.
    ///
    /// >>> cache["a"] = [1, 2]
    /// >>> cache.borrow("a")
    /// [1, 2]
    #[pyo3(signature = (key, default=None))]
    fn borrow<'py>(
        &self,
        key: &Bound<'py, PyAny>,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = key.py();
        let coder = &self.options.coder;
        let Some(pinned) = self.pin(key)? else { return Ok(default) };
        match pinned.meta().kind {
            kind::ARRAY => value::buffers::over(lend(py, pinned)?.as_any()),
            number @ (kind::ARROW | kind::ARROW_BATCH) => value::tables::over(lend(py, pinned)?.as_any(), number),
            kind::PICKLE_BUFFERS if coder.pickles() => value::pickles::over(lend(py, pinned)?.as_any()),
            other => {
                let copy = pinned.to_vec();
                // Without a secret nothing is signed, and so the key does not matter.
                value::decode(py, b"", other, &copy, coder)
            }
        }
        .map(Some)
    }
}
