//! Methods of `Cache` that make what is missing, once for all who miss it; `pycache._flight`
//! and `pycache._memoize` do what comes after the first look.

use std::time::Duration;

use cache_shm::{Cas, Error, Refresh, WriteOptions};
use pyo3::PyTypeInfo;
use pyo3::exceptions::{PyException, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::arguments::{self, Argument, Given, Keep, Tags, Ttl, keep};
use crate::cache::Cache;
use crate::errors;
use crate::kept::{self, Kept};
use crate::key::{Key, Scratch};
use cache_core::TIMEOUT_NS_DEFAULT;

/// Longest wait for another caller where nobody says one, in seconds.
const WAIT_SECONDS: f64 = 20.0;

/// What `pycache._flight` has under that name.
fn flight<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    static FLIGHT: Kept<Py<PyModule>> = Kept::new();
    FLIGHT.import(py, "pycache._flight")?.getattr(name)
}

/// Whether `memoize` was written without parentheses above `object`, a function or what
/// stands for one in a class.
fn is_function(object: &Bound<'_, PyAny>) -> PyResult<bool> {
    // Classmethods and properties are not callable themselves, but descriptors.
    Ok(object.is_callable() || object.hasattr(pyo3::intern!(object.py(), "__get__"))?)
}

/// A number of seconds, more than zero.
fn seconds(name: &str, object: &Bound<'_, PyAny>) -> PyResult<Duration> {
    match Ttl::named(name, object)? {
        Ttl::For(duration) => Ok(duration),
        _ => Err(arguments::refused(name, "more than zero seconds, and has an end", object)),
    }
}

/// How early values are made anew; `None` if they are not.
fn refresh(stale_ttl: Option<&Bound<'_, PyAny>>, early: Option<f64>) -> PyResult<Option<Refresh>> {
    if stale_ttl.is_none() && early.is_none() {
        return Ok(None);
    }
    let beta = early.unwrap_or(0.0);
    if early.is_some() && !(beta > 0.0 && beta.is_finite()) {
        return Err(PyValueError::new_err(format!("early is a number greater than zero, not {beta}")));
    }
    let stale = stale_ttl.map(|stale| seconds("stale_ttl", stale)).transpose()?.unwrap_or_default();
    Ok(Some(Refresh { stale, beta }))
}

/// An error for a coroutine that was made where a function is wanted.
fn refuse_coroutine(default: &Bound<'_, PyAny>) -> PyResult<()> {
    if default.hasattr(pyo3::intern!(default.py(), "__await__"))? {
        return Err(PyTypeError::new_err(
            "a coroutine is no value: pass the coroutine function itself, without calling it, to aget_or_set",
        ));
    }
    Ok(())
}

/// An error if somebody `wishes` what only a function can do, and `default` is none.
#[inline]
fn for_functions(default: &Bound<'_, PyAny>, wishes: bool) -> PyResult<()> {
    if wishes && !default.is_callable() {
        return Err(PyTypeError::new_err("stale_ttl, early, negative_ttl and negative need a function, not a value"));
    }
    Ok(())
}

/// What the Python side needs to know of one call, or of one decorated function.
struct Wishes<'a, 'py> {
    ttl: Given<'py>,
    tags: Option<Bound<'py, PyAny>>,
    refresh: Option<Refresh>,
    negative_ttl: Option<&'a Bound<'py, PyAny>>,
    negative: Option<&'a Bound<'py, PyAny>>,
    on_error: &'a str,
    wait: Option<&'a Bound<'py, PyAny>>,
}

impl<'py> Wishes<'_, 'py> {
    /// They as a `pycache._flight.Plan`.
    fn plan(self, cache: &Bound<'py, Cache>) -> PyResult<Bound<'py, PyAny>> {
        let py = cache.py();
        let given = match &self.ttl {
            Given::Unset => Ttl::Unset,
            Given::Value(ttl) => Ttl::of(ttl)?,
        };
        let keep = keep(py, &self.ttl, self.tags.as_ref())?;
        let Some(Refresh { stale, beta }) = self.refresh else {
            return self.call(py, &keep, None);
        };
        match if given == Ttl::Unset { cache.get().options.ttl } else { given } {
            Ttl::For(ttl) => keep.set_item("ttl", ttl.saturating_add(stale))?,
            Ttl::Past => keep.set_item("ttl", 0)?,
            Ttl::Never | Ttl::Unset => {
                let reason = "stale_ttl and early need a ttl: what is kept for ever is never made anew";
                return Err(errors::exception(py, &Error::InvalidArgument { reason }));
            }
        }
        self.call(py, &keep, Some((stale.as_secs_f64(), beta)))
    }

    fn call(
        &self,
        py: Python<'py>,
        keep: &Bound<'py, PyDict>,
        early: Option<(f64, f64)>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let negative_ttl = self.negative_ttl.map(|ttl| seconds("negative_ttl", ttl)).transpose()?;
        let wait = self.wait.map_or(Ok(WAIT_SECONDS), |wait| arguments::wait("wait", wait))?;
        flight(py, "Plan")?.call1((keep, early, negative_ttl, self.negative, self.on_error, wait))
    }
}

/// The arguments of `get_or_set` that may be missing, as they were given.
pub(crate) struct Said<'a, 'py> {
    pub ttl: Argument<'a, 'py>,
    pub tags: Argument<'a, 'py>,
    pub stale_ttl: Argument<'a, 'py>,
    pub early: Argument<'a, 'py>,
    pub negative_ttl: Argument<'a, 'py>,
    pub negative: Argument<'a, 'py>,
    pub on_error: Argument<'a, 'py>,
    pub wait: Argument<'a, 'py>,
}

/// `Cache.get_or_set`, whose docstring is with its entry in [`crate::fastcall`].
#[inline]
pub(crate) fn get_or_set<'py>(
    this: &Bound<'py, Cache>,
    key: &Bound<'py, PyAny>,
    default: &Bound<'py, PyAny>,
    said: &Said<'_, 'py>,
) -> PyResult<Bound<'py, PyAny>> {
    let cache = this.get();
    let mut scratch = Scratch::new();
    let bytes = Key::of(key, &mut scratch)?.bytes;
    let given = said.ttl.map_or(Ok(Ttl::Unset), |ttl| Ttl::of(&ttl))?;
    let refresh = match (said.stale_ttl, said.early) {
        (None, None) => None,
        (stale_ttl, early) => {
            let early = early.map(|early| early.extract()).transpose()?;
            refresh(stale_ttl.as_deref(), early)?
        }
    };
    for_functions(default, refresh.is_some() || said.negative_ttl.is_some() || said.negative.is_some())?;
    let found = match &refresh {
        None => cache.lookup(this.py(), bytes).map(|found| found.map(|value| (value, None))),
        Some(refresh) => cache.lookup_due(this.py(), bytes, refresh),
    };
    match found {
        Ok(Some((value, None))) => Ok(value),
        found => made(this, key, default, given, refresh, said, found),
    }
}

/// A value, and its version if it is due.
type Found<'py> = PyResult<Option<(Bound<'py, PyAny>, Option<u64>)>>;

/// What `get_or_set` does unless it finds a value that serves.
#[cold]
fn made<'py>(
    this: &Bound<'py, Cache>,
    key: &Bound<'py, PyAny>,
    default: &Bound<'py, PyAny>,
    given: Ttl,
    refresh: Option<Refresh>,
    said: &Said<'_, 'py>,
    found: Found<'py>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = this.py();
    let (failed, old) = match found {
        Ok(old) => (None, old),
        // Whatever keeps the value from being read; the function may do without.
        Err(error) if default.is_callable() && error.is_instance(py, PyException::type_object(py).as_any()) => {
            (Some(error.into_value(py)), None)
        }
        Err(error) => return Err(error),
    };
    if !default.is_callable() {
        refuse_coroutine(default)?;
        let tags = said.tags.map_or(Ok(Tags::NONE), |tags| Tags::of(&tags))?;
        let keep = Keep { ttl: given, tags };
        return Ok(this.get().get_or_add(key, default, &keep)?.unwrap_or_else(|| default.clone()));
    }
    let wishes = Wishes {
        ttl: said.ttl.map_or(Given::Unset, |ttl| Given::Value(ttl.to_owned())),
        tags: said.tags.map(|tags| tags.to_owned()),
        refresh,
        negative_ttl: said.negative_ttl.as_deref(),
        negative: said.negative.as_deref(),
        on_error: said.on_error.as_ref().map_or(Ok("call"), |on_error| on_error.extract())?,
        wait: said.wait.as_deref(),
    };
    flight(py, "get_or_set")?.call1((this, key, default, wishes.plan(this)?, failed, old))
}

impl Cache {
    /// The value under `key`, and its version if it is due.
    pub fn lookup_due<'py>(
        &self,
        py: Python<'py>,
        key: &[u8],
        refresh: &Refresh,
    ) -> PyResult<Option<(Bound<'py, PyAny>, Option<u64>)>> {
        let Some((value, meta)) = self.lookup_described(py, key)? else { return Ok(None) };
        let is_due = self.handle.is_due(&meta, refresh).map_err(Self::raise(py))?;
        Ok(Some((value, is_due.then_some(meta.version))))
    }
}

#[pymethods]
impl Cache {
    /// As `get_or_set` for the running task: `default` may be a coroutine function, and other
    /// tasks run while this one waits. Tasks of a loop that miss the same key wait for one of them.
    ///
    /// >>> import asyncio
    /// >>> async def compute():
    /// ...     return 6 * 7
    /// >>> asyncio.run(cache.aget_or_set("a", compute, ttl=60))
    /// 42
    #[expect(clippy::too_many_arguments, reason = "keywords, as Python has them")]
    #[pyo3(signature = (key, default, ttl=Given::Unset, *, tags=None, stale_ttl=None, early=None, negative_ttl=None,
        negative=None, on_error="call", wait=None))]
    fn aget_or_set<'py>(
        this: &Bound<'py, Self>,
        key: &Bound<'py, PyAny>,
        default: &Bound<'py, PyAny>,
        ttl: Given<'py>,
        tags: Option<Bound<'py, PyAny>>,
        stale_ttl: Option<&Bound<'py, PyAny>>,
        early: Option<f64>,
        negative_ttl: Option<&Bound<'py, PyAny>>,
        negative: Option<&Bound<'py, PyAny>>,
        on_error: &str,
        wait: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = this.py();
        Key::of(key, &mut Scratch::new())?;
        refuse_coroutine(default)?;
        let refresh = refresh(stale_ttl, early)?;
        for_functions(default, refresh.is_some() || negative_ttl.is_some() || negative.is_some())?;
        let plan = Wishes { ttl, tags, refresh, negative_ttl, negative, on_error, wait }.plan(this)?;
        flight(py, "aget_or_set")?.call1((this, key, default, plan))
    }

    /// The value under `key`, with its version if it is due; None if there is none.
    fn _look<'py>(
        &self,
        key: &Bound<'py, PyAny>,
        stale: f64,
        beta: f64,
    ) -> PyResult<Option<(Bound<'py, PyAny>, Option<u64>)>> {
        let mut scratch = Scratch::new();
        let stale = Duration::try_from_secs_f64(stale).unwrap_or_default();
        self.lookup_due(key.py(), Key::of(key, &mut scratch)?.bytes, &Refresh { stale, beta })
    }

    /// What `Map::generations` says of values of this namespace with these tags.
    fn _generations(&self, py: Python<'_>, tags: Tags<'_>) -> PyResult<Vec<u64>> {
        let tags = tags.names()?;
        let at = self.handle.scope().map_err(Self::raise(py))?;
        Ok(at.map.generations(at.namespace, &tags))
    }

    /// Stores a value that took `cost` seconds to make: in any case, in place of the version
    /// `token`, or if nothing is there; but not if it would have been cleared or evicted had it
    /// been there when `_generations` gave `since`. What the caller gets.
    #[expect(clippy::too_many_arguments, reason = "what a write is told, and what it did")]
    #[pyo3(signature = (key, value, cost, replaces, token, since=None, ttl=Ttl::Unset, tags=Tags::NONE))]
    fn _made<'py>(
        &self,
        key: &Bound<'py, PyAny>,
        value: &Bound<'py, PyAny>,
        cost: f64,
        replaces: bool,
        token: Option<u64>,
        since: Option<Vec<u64>>,
        ttl: Ttl,
        tags: Tags<'py>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let client_flags = cache_shm::cost(Duration::try_from_secs_f64(cost).unwrap_or_default());
        let there = self.store(key, value, &Keep { ttl, tags }, |map, key, value, options| {
            let options = &WriteOptions { client_flags, ..*options };
            let is_outdated =
                || since.as_ref().is_some_and(|since| *since != map.generations(key.namespace, options.tags));
            if is_outdated() {
                return Ok(None);
            }
            let mut copy = Vec::new();
            let there = match token {
                Some(version) => {
                    let _: Cas = map.cas(key, version, value, options)?;
                    None
                }
                None if replaces => {
                    map.set(key, value, options)?;
                    None
                }
                None => map.get_or_add(key, value, options, &mut copy)?.map(|meta| (meta, copy)),
            };
            // In the instant between the look and the store: what was stored goes, or what another
            // has stored since, which is made again.
            if is_outdated()
                && let Some(meta) = map.meta(key)?
            {
                map.delete_version(key, &meta, TIMEOUT_NS_DEFAULT)?;
            }
            Ok(there)
        })?;
        let Some((meta, copy)) = there else { return Ok(value.clone()) };
        let mut scratch = Scratch::new();
        self.taken(key.py(), Key::of(key, &mut scratch)?.bytes, &meta, &copy)
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
    ///     tags: As for `set`, or a function of the same arguments that gives them.
    ///     key: A function of the same arguments that gives what tells calls apart.
    ///     prefix: Begins the keys instead of module and name; a lambda needs one.
    ///     typed: Keeps 1, 1.0 and True apart.
    ///     ignore: Names of parameters that are not in the key.
    ///     version: Is part of the key: another one begins anew.
    ///     stale_ttl, early, negative_ttl, negative, on_error, wait: As for `get_or_set`.
    ///
    /// >>> @cache.memoize(ttl=60, prefix="square")
    /// ... def square(number):
    /// ...     return number * number
    /// >>> square(7), square(number=7), square.cache_info()
    /// (49, 49, CacheInfo(hits=1, misses=1))
    #[expect(clippy::too_many_arguments, reason = "keywords, as Python has them")]
    #[pyo3(signature = (ttl=Given::Unset, *, tags=None, stale_ttl=None, early=None, negative_ttl=None, negative=None,
        on_error="call", wait=None, **options))]
    fn memoize<'py>(
        this: &Bound<'py, Self>,
        ttl: Given<'py>,
        tags: Option<Bound<'py, PyAny>>,
        stale_ttl: Option<&Bound<'py, PyAny>>,
        early: Option<f64>,
        negative_ttl: Option<&Bound<'py, PyAny>>,
        negative: Option<&Bound<'py, PyAny>>,
        on_error: &str,
        wait: Option<&Bound<'py, PyAny>>,
        options: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = this.py();
        let (function, ttl) = match ttl {
            Given::Value(function) if is_function(&function)? => (Some(function), Given::Unset),
            ttl => (None, ttl),
        };
        let refresh = refresh(stale_ttl, early)?;
        let (tags, tags_of) = match tags {
            Some(tags) if tags.is_callable() => (None, Some(tags)),
            tags => (tags, None),
        };
        let plan = Wishes { ttl, tags, refresh, negative_ttl, negative, on_error, wait }.plan(this)?;
        let decorator = kept::load(py, "pycache._memoize")?.getattr("Memoize")?;
        let decorator = decorator.call((this, plan, tags_of), options)?;
        function.map_or(Ok(decorator.clone()), |function| decorator.call1((function,)))
    }
}
