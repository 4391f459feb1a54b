//! The short way to a value of a decorated function: from the arguments of a usual call to the
//! bytes of its key, without Python code.
//!
//! Must never: make another key than `pycache._memoize` makes of the same call. Arguments that
//! are not usual are left to it.

use std::sync::atomic::{AtomicU64, Ordering};

use cache_shm::Refresh;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyInt, PyString, PyTuple};

use crate::cache::Cache;
use crate::value;

/// Longest key that is made here.
const KEY_BYTES_MAX: usize = 512;

/// One parameter of a function.
#[derive(FromPyObject)]
struct Parameter {
    /// Its name, if it can be given by that.
    #[pyo3(item(0))]
    name: Option<Py<PyString>>,
    /// What comes before its value in a key.
    #[pyo3(item(1))]
    label: String,
    #[pyo3(item(2))]
    is_ignored: bool,
    /// What stands for its default in a key, if it has one.
    #[pyo3(item(3))]
    default: Option<String>,
}

/// Finds values of one decorated function.
#[pyclass(frozen, module = "pycache")]
pub(crate) struct Probe {
    cache: Py<Cache>,
    begin: Vec<u8>,
    parameters: Vec<Parameter>,
    /// Of these so many, the first, are given by position.
    positional: usize,
    /// Most bytes of arguments that are in a key as they are.
    text_bytes_max: usize,
    refresh: Option<Refresh>,
    /// Returned for a call that is not usual, or that finds what needs more than to be returned.
    unusual: Py<PyAny>,
    /// Returned for a call that has no value.
    absent: Py<PyAny>,
    hits: AtomicU64,
}

/// A key in the making.
struct Text {
    bytes: [u8; KEY_BYTES_MAX],
    count: usize,
}

impl Text {
    #[inline]
    fn put(&mut self, bytes: &[u8]) -> Option<()> {
        let end = self.count.checked_add(bytes.len())?;
        self.bytes.get_mut(self.count..end)?.copy_from_slice(bytes);
        self.count = end;
        Some(())
    }

    /// What `repr` gives of text or bytes that it neither escapes nor puts in other quotes.
    #[inline]
    fn put_quoted(&mut self, before: &[u8], bytes: &[u8]) -> Option<()> {
        let is_plain = bytes.iter().all(|byte| matches!(byte, b' '..=b'~') && *byte != b'\'' && *byte != b'\\');
        if !is_plain {
            return None;
        }
        self.put(before)?;
        self.put(bytes)?;
        self.put(b"'")
    }

    /// What `pycache._memoize` writes for `object`; `None` if that is not done here.
    #[inline]
    fn put_object(&mut self, object: &Bound<'_, PyAny>) -> Option<()> {
        if let Ok(text) = object.cast_exact::<PyString>() {
            return self.put_quoted(b"'", value::ascii(text)?);
        }
        if object.is_exact_instance_of::<PyInt>() {
            let number = value::small_int(object).ok()??;
            return self.put(itoa::Buffer::new().format(number).as_bytes());
        }
        if let Ok(bytes) = object.cast_exact::<PyBytes>() {
            return self.put_quoted(b"b'", bytes.as_bytes());
        }
        if object.is_none() { self.put(b"None") } else { None }
    }
}

impl Probe {
    #[inline]
    fn key(&self, arguments: &Bound<'_, PyTuple>, keywords: &Bound<'_, PyDict>) -> Option<Text> {
        let given = arguments.len();
        if given > self.positional {
            return None;
        }
        let mut text = Text { bytes: [0; KEY_BYTES_MAX], count: 0 };
        text.put(&self.begin)?;
        let start = text.count;
        // Keywords that no parameter has taken.
        let mut left = keywords.len();
        for (at, parameter) in self.parameters.iter().enumerate() {
            let mut object = if at < given { arguments.get_item(at).ok() } else { None };
            if object.is_none()
                && left > 0
                && let Some(name) = &parameter.name
            {
                object = keywords.get_item(name).ok()?;
                left -= usize::from(object.is_some());
            }
            if parameter.is_ignored {
                if object.is_none() && parameter.default.is_none() {
                    return None;
                }
                continue;
            }
            if text.count > start {
                text.put(b",")?;
            }
            text.put(parameter.label.as_bytes())?;
            match object {
                Some(object) => text.put_object(&object)?,
                None => text.put(parameter.default.as_deref()?.as_bytes())?,
            }
        }
        if left > 0 || text.count - start > self.text_bytes_max {
            return None;
        }
        text.put(b")")?;
        Some(text)
    }
}

#[pymethods]
impl Probe {
    #[new]
    #[expect(clippy::too_many_arguments, reason = "all that one decorated function is")]
    fn new(
        cache: Py<Cache>,
        begin: &str,
        parameters: Vec<Parameter>,
        positional: usize,
        text_bytes_max: usize,
        early: Option<(f64, f64)>,
        unusual: Py<PyAny>,
        absent: Py<PyAny>,
    ) -> Probe {
        let refresh = early.map(|(stale, beta)| Refresh {
            stale: std::time::Duration::try_from_secs_f64(stale).unwrap_or_default(),
            beta,
        });
        let (begin, hits) = (begin.as_bytes().to_vec(), AtomicU64::new(0));
        Probe { cache, begin, parameters, positional, text_bytes_max, refresh, unusual, absent, hits }
    }

    /// The value of the call with these arguments, `absent`, or `unusual`: then the caller looks itself.
    #[pyo3(signature = (arguments, keywords, /))]
    fn find<'py>(&self, arguments: &Bound<'py, PyTuple>, keywords: &Bound<'py, PyDict>) -> PyResult<Bound<'py, PyAny>> {
        let py = arguments.py();
        let unusual = || Ok(self.unusual.bind(py).clone());
        let Some(text) = self.key(arguments, keywords) else { return unusual() };
        let (cache, key) = (self.cache.get(), &text.bytes[..text.count]);
        let found = match &self.refresh {
            None => cache.lookup(py, key),
            Some(refresh) => match cache.lookup_due(py, key, refresh) {
                Ok(Some((_, Some(_)))) => return unusual(),
                found => found.map(|found| found.map(|(value, _)| value)),
            },
        };
        match found {
            Ok(Some(value)) => {
                // Relaxed: a statistic.
                self.hits.fetch_add(1, Ordering::Relaxed);
                Ok(value)
            }
            Ok(None) => Ok(self.absent.bind(py).clone()),
            // Whoever looks again meets it again, and says what becomes of it.
            Err(error) if error.is_instance_of::<PyException>(py) => unusual(),
            // An interrupt comes once.
            Err(error) => Err(error),
        }
    }

    /// Calls that found a value here since the last time, and begins anew with zero if `resets`.
    fn hits(&self, resets: bool) -> u64 {
        if resets { self.hits.swap(0, Ordering::Relaxed) } else { self.hits.load(Ordering::Relaxed) }
    }
}
