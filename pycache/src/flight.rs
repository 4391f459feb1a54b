//! Methods of `Cache` that make what is missing, once for all who miss it; `pycache._flight`
//! and `pycache._memoize` do what comes after the first look.

use pyo3::PyTypeInfo;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::arguments::{Given, Ttl};
use crate::cache::Cache;
use crate::kept::{self, Kept};
use crate::key::{Key, Scratch};

/// What `pycache._flight` has under that name.
fn flight<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    static FLIGHT: Kept<Py<PyModule>> = Kept::new();
    FLIGHT.import(py, "pycache._flight")?.getattr(name)
}

/// The keywords of a write: none, or the ttl.
fn keep<'py>(py: Python<'py>, ttl: Given<'py>) -> PyResult<Bound<'py, PyDict>> {
    let keep = PyDict::new(py);
    if let Given::Value(ttl) = ttl {
        Ttl::of(&ttl)?;
        keep.set_item("ttl", ttl)?;
    }
    Ok(keep)
}

#[pymethods]
impl Cache {
    /// The value under `key`; if there is none, what `default` returns, which is stored. A
    /// `default` that is no function is stored and returned as by `setdefault`.
    ///
    /// Of all threads and processes of the host that miss the key at the same time, one calls
    /// the function; the others sleep until it is done and get its value. If it raises, that
    /// caller gets the exception and the next one calls; if its process dies, the next one takes
    /// over within milliseconds. Whoever would wait for its own thread (a recursion, another
    /// greenlet), or has waited for `wait` seconds, calls the function itself.
    ///
    /// A cache that fails does not fail the caller: the function is called, its value returned,
    /// the error counted in `failures` and the first of its kind logged ("pycache").
    ///
    /// Args:
    ///     on_error: "raise" raises such errors instead.
    ///     wait: Longest wait for another caller, in seconds: 20, below the 30 after which
    ///         servers and proxies give up on a request.
    ///
    /// >>> cache.get_or_set("a", lambda: 6 * 7, ttl=60)
    /// 42
    /// >>> cache.get_or_set("a", 0)
    /// 42
    #[pyo3(signature = (key, default, ttl=Given::Unset, *, on_error="call", wait=20.0))]
    fn get_or_set<'py>(
        this: &Bound<'py, Self>,
        key: &Bound<'py, PyAny>,
        default: &Bound<'py, PyAny>,
        ttl: Given<'py>,
        on_error: &str,
        wait: f64,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (py, cache) = (this.py(), this.get());
        let mut scratch = Scratch::new();
        let bytes = Key::of(key, &mut scratch)?.bytes;
        let given = match &ttl {
            Given::Unset => Ttl::Unset,
            Given::Value(ttl) => Ttl::of(ttl)?,
        };
        let failed = match cache.lookup(py, bytes) {
            Ok(Some(value)) => return Ok(value),
            Ok(None) => None,
            // Whatever keeps the value from being read; the function may do without.
            Err(error) if default.is_callable() && error.is_instance(py, PyException::type_object(py).as_any()) => {
                Some(error.into_value(py))
            }
            Err(error) => return Err(error),
        };
        if !default.is_callable() {
            return Ok(cache.get_or_add(key, default, given)?.unwrap_or_else(|| default.clone()));
        }
        flight(py, "get_or_set")?.call1((this, key, default, keep(py, ttl)?, on_error, wait, failed))
    }

    /// As `get_or_set` for the running task: `default` may be a coroutine function, and other
    /// tasks run while this one waits. Tasks of a loop that miss the same key wait for one of them.
    ///
    /// >>> import asyncio
    /// >>> async def compute():
    /// ...     return 6 * 7
    /// >>> asyncio.run(cache.aget_or_set("a", compute, ttl=60))
    /// 42
    #[pyo3(signature = (key, default, ttl=Given::Unset, *, on_error="call", wait=20.0))]
    fn aget_or_set<'py>(
        this: &Bound<'py, Self>,
        key: &Bound<'py, PyAny>,
        default: &Bound<'py, PyAny>,
        ttl: Given<'py>,
        on_error: &str,
        wait: f64,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = this.py();
        Key::of(key, &mut Scratch::new())?;
        flight(py, "aget_or_set")?.call1((this, key, default, keep(py, ttl)?, on_error, wait))
    }

    /// How many failures of the cache `get_or_set` and `memoize` passed by in this process, as
    /// a Counter by the `code` of the error.
    #[getter]
    fn failures<'py>(this: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        flight(this.py(), "failures")?.call1((this,))
    }

    /// The lock of that name, as `lock` gives it, for ``async with`` and ``await aacquire()``.
    ///
    /// >>> import asyncio
    /// >>> async def work():
    /// ...     async with cache.alock("report") as lock:
    /// ...         return lock.owned()
    /// >>> asyncio.run(work())
    /// True
    #[pyo3(signature = (name, ttl=None, reentrant=false))]
    fn alock<'py>(
        this: &Bound<'py, Self>,
        name: &Bound<'py, PyAny>,
        ttl: Option<Bound<'py, PyAny>>,
        reentrant: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        this.call_method1("lock", (name, ttl, reentrant))
    }

    /// Decorates a function, or a coroutine function: its values are kept for `ttl` seconds, for
    /// all processes of the host, and made once as by `get_or_set`.
    ///
    /// The key is the function's module and name with its arguments, however they are passed and
    /// with defaults filled in: numbers, text, bytes, None, dates, UUIDs, enum members, classes,
    /// containers of these, and objects with a ``__cache_key__()`` method that gives one. With
    /// other arguments the function is called, and the failure counted and logged. So a method
    /// needs ``ignore=("self",)``, ``key=`` or a ``__cache_key__`` of its class; no object is
    /// kept alive. The decorated function has ``cache_info()``, ``cache_clear()``,
    /// ``cache_key(...)``, ``bypass(...)``, ``refresh(...)`` and ``__wrapped__``; of a method they
    /// are used by way of its class, with ``self``.
    ///
    /// Args:
    ///     ttl: As for `set`.
    ///     key: A function of the same arguments that gives what tells calls apart.
    ///     prefix: Begins the keys instead of module and name; a lambda needs one.
    ///     typed: Keeps 1, 1.0 and True apart.
    ///     ignore: Names of parameters that are not in the key.
    ///     version: Is part of the key: another one begins anew.
    ///     on_error, wait: As for `get_or_set`.
    ///
    /// >>> @cache.memoize(ttl=60, prefix="square")
    /// ... def square(number):
    /// ...     return number * number
    /// >>> square(7), square(number=7), square.cache_info()
    /// (49, 49, CacheInfo(hits=1, misses=1))
    #[pyo3(signature = (ttl=Given::Unset, **options))]
    fn memoize<'py>(
        this: &Bound<'py, Self>,
        ttl: Given<'py>,
        options: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = this.py();
        let function = match &ttl {
            Given::Value(function) if function.is_callable() => Some(function.clone()),
            _ => None,
        };
        let keep = keep(py, if function.is_some() { Given::Unset } else { ttl })?;
        let decorator = kept::load(py, "pycache._memoize")?.getattr("Memoize")?;
        let decorator = decorator.call(PyTuple::new(py, [this.as_any(), keep.as_any()])?, options)?;
        function.map_or(Ok(decorator.clone()), |function| decorator.call1((function,)))
    }
}
