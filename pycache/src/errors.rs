//! Exceptions: one class for each name in the table of errors.
//!
//! Owns: the classes, made from [`cache_core::error::TABLE`] when the module is
//! imported, and the only way from an [`Error`] to a raised exception. Each class
//! derives from `CacheError` and from the built-in exception of its row, so that
//! both `except CacheError` and `except TimeoutError` work.

use std::sync::atomic::{AtomicU64, Ordering};

use cache_core::Error;
use cache_core::error::TABLE;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple, PyType};

use crate::kept::Kept;

struct Classes {
    base: Py<PyType>,
    /// In the order of the table; rows that share a name share a class.
    by_row: Vec<Py<PyType>>,
}

static CLASSES: Kept<Classes> = Kept::new();
/// How often each row of the table was raised in this process.
static RAISED: [AtomicU64; TABLE.len()] = [const { AtomicU64::new(0) }; TABLE.len()];

fn classes(py: Python<'_>) -> PyResult<&Classes> {
    CLASSES.get(py, || {
        let builtins = py.import("builtins")?;
        let make = builtins.getattr("type")?;
        let attributes = PyDict::new(py);
        attributes.set_item("__module__", "pycache")?;
        attributes
            .set_item("__doc__", "Base of every error of the cache; `code` is its word in the table of errors.")?;
        attributes.set_item("code", py.None())?;
        let parents = PyTuple::new(py, [builtins.getattr("Exception")?])?;
        let base = make.call1(("CacheError", parents, attributes))?;

        let mut by_row: Vec<Py<PyType>> = Vec::with_capacity(TABLE.len());
        for (at, row) in TABLE.iter().enumerate() {
            let earlier = TABLE[..at].iter().position(|other| other.python_class == row.python_class);
            if let Some(earlier) = earlier {
                by_row.push(by_row[earlier].clone_ref(py));
                continue;
            }
            let words: Vec<_> = TABLE
                .iter()
                .filter(|other| other.python_class == row.python_class)
                .map(|other| format!("`{}`", other.word))
                .collect();
            let attributes = PyDict::new(py);
            attributes.set_item("__module__", "pycache")?;
            attributes.set_item("__doc__", format!("Raised for {}.", words.join(" and ")))?;
            let parents = PyTuple::new(py, [base.clone(), builtins.getattr(row.python_base)?])?;
            by_row.push(make.call1((row.python_class, parents, attributes))?.cast_into::<PyType>()?.unbind());
        }
        Ok(Classes { base: base.cast_into::<PyType>()?.unbind(), by_row })
    })
}

/// Adds every exception class to `module`.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    let classes = classes(py)?;
    module.add("CacheError", &classes.base)?;
    for (row, class) in TABLE.iter().zip(&classes.by_row) {
        module.add(row.python_class, class)?;
    }
    Ok(())
}

/// How often each error was raised in this process, by its word; those that were.
#[pyfunction]
pub(crate) fn error_counts(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let found = PyDict::new(py);
    for (row, raised) in TABLE.iter().zip(&RAISED) {
        // Relaxed: as where it is counted.
        match raised.load(Ordering::Relaxed) {
            0 => {}
            count => found.set_item(row.word, count)?,
        }
    }
    Ok(found)
}

/// The exception for `error`, ready to be raised.
#[cold]
pub(crate) fn exception(py: Python<'_>, error: &Error) -> PyErr {
    build(py, error, error.to_string()).unwrap_or_else(|failure| failure)
}

/// `InvalidArgument`, with what was given and what is allowed.
#[cold]
pub(crate) fn invalid(py: Python<'_>, reason: &str) -> PyErr {
    let error = Error::InvalidArgument { reason: "" };
    build(py, &error, format!("{error}{reason}")).unwrap_or_else(|failure| failure)
}

fn build(py: Python<'_>, error: &Error, text: String) -> PyResult<PyErr> {
    let rendering = error.rendering();
    let row = TABLE.iter().position(|row| row.number == rendering.number).unwrap_or(0);
    // Relaxed: a statistic; nothing is inferred from it.
    RAISED[row].fetch_add(1, Ordering::Relaxed);
    let class = classes(py)?.by_row[row].bind(py);
    let value = class.call1((text,))?;
    value.setattr("code", rendering.word)?;
    if let Some(errno) = errno(error) {
        value.setattr("errno", errno)?;
    }
    Ok(PyErr::from_value(value))
}

/// The system's number for errors that derive from `OSError`, where it has one.
fn errno(error: &Error) -> Option<i32> {
    const ENOENT: i32 = 2;
    const EEXIST: i32 = 17;
    const ENOSPC: i32 = 28;
    match error {
        Error::Io { errno, .. } => Some(*errno),
        Error::Missing { .. } => Some(ENOENT),
        Error::Exists { .. } => Some(EEXIST),
        Error::NoSpace { .. } => Some(ENOSPC),
        _ => None,
    }
}

/// The exception for an object whose type does not fit; `wanted` says what does.
#[cold]
pub(crate) fn unsupported(object: &Bound<'_, PyAny>, wanted: &'static str) -> PyErr {
    let class = object.get_type();
    let module = class.module().map(|name| name.to_string()).unwrap_or_default();
    let name = class.qualname().map(|name| name.to_string()).unwrap_or_default();
    let given = match module.as_str() {
        "" | "builtins" => format!("type {name}"),
        _ => format!("type {module}.{name}"),
    };
    exception(object.py(), &Error::UnsupportedType { given, wanted })
}
