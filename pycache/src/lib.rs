//! `pycache`: the shared-memory cache for Python.
//!
//! A thin rim: Python objects become bytes, the cache's operations are called, bytes
//! become Python objects. Nothing here decides what is stored, kept or found.
//!
//! Reading order: `key` and `value` say what objects are as bytes, `wait` how a
//! write waits, `operations`, `cache`, `namespaces`, `lifetimes`, `versioned`, `walks`, `pinned`,
//! `reserve`, `leases`, `waiter`, `flight`, `memo` and `fastcall` what users call, `open` and
//! `arguments` what they may say, `iterate` and `errors` what they get back; `logs` is what
//! `logging` hears; `kept` is for what is made once, `clock`
//! for tests. The rules that unsafe code cites are in
//! `safety`.

mod arguments;
mod cache;
mod clock;
mod errors;
mod fastcall;
mod flight;
mod iterate;
mod kept;
mod key;
mod leases;
mod lifetimes;
mod local;
mod logs;
mod memo;
mod namespaces;
mod open;
mod operations;
mod pinned;
mod reserve;
mod safety;
mod value;
mod versioned;
mod wait;
mod waiter;
mod walks;

use std::path::PathBuf;

use pyo3::exceptions::PyImportError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

/// Kind and bytes of `value`, as `docs/value-encoding.md` describes them. For tests and tools.
#[pyfunction]
#[pyo3(signature = (value, bytes_max=u64::MAX))]
fn encode<'py>(value: &Bound<'py, PyAny>, bytes_max: u64) -> PyResult<(u8, Bound<'py, PyBytes>)> {
    let (kind, payload) = value::encode(value, &value::coder::Coder::SAFE, bytes_max)?;
    Ok((kind, PyBytes::new(value.py(), payload.bytes())))
}

/// The object that `data` of `kind` stand for. For tests and tools.
#[pyfunction]
fn decode<'py>(py: Python<'py>, kind: u8, data: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    value::decode(py, b"", kind, data, &value::coder::Coder::SAFE)
}

/// A number that no other thread of this process has, whatever runs on it in turns.
#[pyfunction]
fn thread_number() -> u64 {
    cache_shm::thread_number()
}

/// Destroys the region of that name, whatever state it is in, without opening it.
#[pyfunction]
#[pyo3(signature = (name, dir=None))]
fn destroy(py: Python<'_>, name: &str, dir: Option<PathBuf>) -> PyResult<()> {
    let mut builder = cache_shm::Cache::builder(Some(name)).settings(open::configured(py, Some(name))?);
    if let Some(dir) = dir {
        builder = builder.dir(dir);
    }
    py.detach(|| builder.destroy()).map_err(|error| errors::exception(py, &error))
}

/// What is known of each region in `dir`, as dicts.
#[pyfunction]
#[pyo3(signature = (dir=None))]
fn regions(py: Python<'_>, dir: Option<PathBuf>) -> PyResult<Vec<Bound<'_, PyDict>>> {
    // While attached, for the environment is Python's.
    let dir = dir.map_or_else(cache_shm::default_dir, Ok).map_err(|error| errors::exception(py, &error))?;
    let found = py.detach(|| cache_shm::regions(Some(&dir))).map_err(|error| errors::exception(py, &error))?;
    found
        .into_iter()
        .map(|region| {
            let fields = PyDict::new(py);
            fields.set_item("name", region.name)?;
            fields.set_item("path", region.path.display().to_string())?;
            fields.set_item("size", region.bytes)?;
            fields.set_item("used", region.bytes_used)?;
            fields.set_item("created", region.created_unix_ms as f64 / 1000.0)?;
            fields.set_item("uid", region.uid)?;
            fields.set_item("mode", region.mode)?;
            fields.set_item("format_version", region.format_version)?;
            fields.set_item("state", region.state.word())?;
            Ok(fields)
        })
        .collect()
}

/// An error anywhere but in the main interpreter: classes and exceptions are kept in statics.
fn refuse_subinterpreters() -> PyResult<()> {
    // SAFETY: Y1: the interpreter is importing this module. Both only return an address.
    let (current, main) = unsafe { (ffi::PyInterpreterState_Get(), ffi::PyInterpreterState_Main()) };
    if std::ptr::eq(current, main) {
        return Ok(());
    }
    Err(PyImportError::new_err(
        "pycache works in the main interpreter only, not in subinterpreters; use processes, which share its regions",
    ))
}

/// Native code of the package `pycache`; import that instead.
// With the GIL, also on free-threaded builds: the buffers of others are read in the belief
// that no other Python code runs meanwhile.
#[pymodule(gil_used = true)]
fn _pycache(module: &Bound<'_, PyModule>) -> PyResult<()> {
    // Before any class is made.
    refuse_subinterpreters()?;
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_class::<cache::Cache>()?;
    module.add_class::<clock::Clock>()?;
    module.add_class::<leases::Lease>()?;
    module.add_class::<leases::Rate>()?;
    module.add_class::<memo::Probe>()?;
    module.add_class::<waiter::Bell>()?;
    // Made now, not at their first use, in the middle of which another thread might fork.
    module.py().get_type::<iterate::CacheIterator>();
    module.py().get_type::<pinned::Pinned>();
    module.py().get_type::<waiter::Wait>();
    for function in [
        wrap_pyfunction!(decode, module)?,
        wrap_pyfunction!(destroy, module)?,
        wrap_pyfunction!(encode, module)?,
        wrap_pyfunction!(errors::error_counts, module)?,
        wrap_pyfunction!(regions, module)?,
        wrap_pyfunction!(thread_number, module)?,
    ] {
        module.add_function(function)?;
    }
    logs::register();
    fastcall::register(module.py())?;
    errors::register(module)
}
