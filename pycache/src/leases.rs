//! Locks, semaphores and rate limits: the classes `Lock`, `Semaphore` and `RateLimit`.
//!
//! Owns: what a Python object knows of the lease that it holds. Who holds what is decided
//! by the engine. What is asynchronous is written in Python, in `pycache.leases`, whose
//! classes derive from these.

use std::ffi::CString;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use cache_shm::{Error, Kind, Limit, Map, NEVER, Name, Os, Scope, Terms, thread_number};
use pyo3::PyTypeInfo;
use pyo3::exceptions::{PyUserWarning, PyValueError};
use pyo3::prelude::*;

use crate::arguments::{self, Ttl};
use crate::cache::Cache;
use crate::kept::Kept;
use crate::key::{Key, Scratch};
use crate::wait::SLICE;
use crate::{errors, logs};

/// First pause between two tries among greenlets; the longest is a slice.
const PAUSE_FIRST: Duration = Duration::from_millis(1);

/// How often a release is tried that meets somebody stopped in the middle of a look, which takes
/// 50 ms each time.
const RELEASE_TRIES: u32 = 20;

/// What a lease object holds now.
#[derive(Clone, Copy)]
struct Holding {
    permit: u32,
    holder: u64,
    token: u64,
    depth: u32,
}

/// A lock or a semaphore of the host. Internal base of `Lock` and `Semaphore`.
#[pyclass(frozen, subclass, weakref, module = "pycache", name = "Lease")]
pub(crate) struct Lease {
    pub cache: Py<Cache>,
    kind: Kind,
    /// What it was named by; what that is in a region, `name` says.
    key: Box<[u8]>,
    /// Permits of a semaphore; 0 = a lock.
    pub count: u32,
    ttl_ms: u64,
    reentrant: bool,
    holdings: Mutex<Vec<Holding>>,
    /// It was told that others name another number of permits.
    is_told: AtomicBool,
}

/// Warns, once for an object, that others name other numbers. `depth`: 1 where the caller is called
/// by the user, 2 where Python code stands between.
#[cold]
fn warn_of_others(py: Python<'_>, is_told: &AtomicBool, depth: i32, text: String) -> PyResult<()> {
    // Relaxed: only who comes first matters.
    if is_told.swap(true, Ordering::Relaxed) {
        return Ok(());
    }
    let text = CString::new(text).unwrap_or_default();
    PyErr::warn(py, &PyUserWarning::type_object(py), &text, depth)
}

fn ttl_ms(py: Python<'_>, ttl: Ttl) -> PyResult<u64> {
    match ttl {
        Ttl::For(ttl) => Ok(u64::try_from(ttl.as_millis()).unwrap_or(NEVER)),
        Ttl::Never | Ttl::Unset => Ok(NEVER),
        Ttl::Past => {
            let reason = "the ttl of a lock is more than zero seconds, or None for as long as its holder lives";
            Err(errors::exception(py, &Error::InvalidArgument { reason }))
        }
    }
}

/// How long to wait, as `threading.Lock.acquire` is told; None is for ever.
fn patience(blocking: bool, timeout: &Bound<'_, PyAny>) -> PyResult<Option<Duration>> {
    match (blocking, arguments::seconds("timeout", timeout)?) {
        (false, -1.0) => Ok(Some(Duration::ZERO)),
        (false, _) => Err(PyValueError::new_err("can't specify a timeout for a non-blocking call")),
        (true, -1.0) => Ok(None),
        (true, seconds) if seconds >= 0.0 => Ok(Duration::try_from_secs_f64(seconds).ok()),
        _ => Err(arguments::refused("timeout", "zero or more seconds, or -1 to wait for ever", timeout)),
    }
}

impl Lease {
    /// Its name in the region that the handle is bound to now: each region has names of its own.
    pub fn name(&self, at: &Scope<'_>) -> cache_shm::Result<Name> {
        at.map.lease_name(self.kind, at.key(&self.key))
    }

    /// The engine, and the name there.
    fn place(&self, py: Python<'_>) -> PyResult<(&Map<Os>, Name)> {
        let at = self.cache.get().handle.scope().map_err(Cache::raise(py))?;
        Ok((at.map, self.name(&at).map_err(Cache::raise(py))?))
    }

    fn holdings(&self) -> MutexGuard<'_, Vec<Holding>> {
        self.holdings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What this thread holds by this object, the last first; or what the running task does.
    fn held(&self, py: Python<'_>) -> PyResult<Holding> {
        let of = |holder| self.holdings().iter().rfind(|held| held.holder == holder).copied();
        if let Some(held) = of(thread_number()) {
            return Ok(held);
        }
        let task: Option<u64> = leases(py, "_task")?.call0()?.extract()?;
        let reason = "this thread or task did not acquire it by this object, or gave it back already";
        task.and_then(of).ok_or_else(|| errors::exception(py, &Error::NotHolder { reason }))
    }

    /// Warns if somebody holds a permit who names another number of them.
    fn compare(&self, py: Python<'_>) -> PyResult<()> {
        // Relaxed: as where it is set.
        if self.count == 0 || self.is_told.load(Ordering::Relaxed) {
            return Ok(());
        }
        let (map, name) = self.place(py)?;
        let Some(other) = map.other_permit_count(name, self.count).map_err(Cache::raise(py))? else { return Ok(()) };
        let (count, name) = (self.count, String::from_utf8_lossy(&self.key));
        let text = format!(
            "the semaphore {name:?} has {other} permits for who holds one now, and {count} here; each caller goes by \
             its own number, so let all name the same"
        );
        warn_of_others(py, &self.is_told, 1, text)
    }

    /// One call of the engine: permit and token, if it is ours now.
    fn take(&self, holder: u64, timeout_ns: u64) -> cache_shm::Result<Option<(u32, u64)>> {
        let at = self.cache.get().handle.writing_scope()?;
        let (map, name) = (at.map, self.name(&at)?);
        let terms = Terms { holder, ttl_ms: self.ttl_ms, reentrant: self.reentrant, timeout_ns };
        let taken = if self.count == 0 {
            map.acquire_lease(name, &terms).map(|token| token.map(|token| (0, token)))
        } else {
            map.acquire_permit(name, self.count, &terms)
        };
        match taken {
            // Somebody is in the middle of changing the row, and may be stopped there.
            Err(Error::Busy { .. }) => Ok(None),
            taken => taken,
        }
    }

    /// Notes what was taken. Only while attached to the interpreter, so that a fork from Python
    /// does not find the list locked.
    fn note(&self, _py: Python<'_>, holder: u64, taken: Option<(u32, u64)>) -> bool {
        let Some((permit, token)) = taken else { return false };
        let mut holdings = self.holdings();
        match holdings.iter_mut().find(|held| held.token == token) {
            Some(held) => held.depth += 1,
            None => {
                // What this holder had by this object and lost to a ttl is not given back any more.
                if self.count == 0 {
                    holdings.retain(|held| held.holder != holder);
                }
                holdings.push(Holding { permit, holder, token, depth: 1 });
            }
        }
        true
    }

    /// One try.
    fn take_now(&self, py: Python<'_>, holder: u64) -> PyResult<bool> {
        let taken = self.take(holder, 0).map_err(Cache::raise(py))?;
        if taken.is_none() {
            self.compare(py)?;
        }
        Ok(self.note(py, holder, taken))
    }

    fn wait(&self, py: Python<'_>, holder: u64, patience: Option<Duration>) -> PyResult<bool> {
        if self.take_now(py, holder)? {
            return Ok(true);
        }
        if patience.is_some_and(|patience| patience.is_zero()) {
            return Ok(false);
        }
        let start = Instant::now();
        // Who sleeps here would stop the other greenlets of this thread, the holder perhaps.
        let greenlets = leases(py, "_greenlet_sleep")?.call0()?;
        let mut pause = PAUSE_FIRST;
        loop {
            let left = patience.map_or(SLICE, |patience| patience.saturating_sub(start.elapsed()));
            if left.is_zero() {
                return Ok(false);
            }
            let taken = if greenlets.is_none() {
                let slice_ns = left.min(SLICE).as_nanos() as u64;
                py.detach(|| self.take(holder, slice_ns))
            } else {
                greenlets.call1((pause.min(left).as_secs_f64(),))?;
                pause = SLICE.min(2 * pause);
                self.take(holder, 0)
            };
            if self.note(py, holder, taken.map_err(Cache::raise(py))?) {
                return Ok(true);
            }
            py.check_signals()?;
        }
    }

    fn give_back(&self, py: Python<'_>, held: Holding) -> PyResult<()> {
        let (map, name) = self.place(py)?;
        let release = || map.release_permit(name, held.permit, held.holder, held.token);
        let mut outcome = release();
        for _ in 0..RELEASE_TRIES {
            // Somebody is stopped in the middle of looking at it: it is ours until they go on.
            if !matches!(outcome, Err(Error::Busy { .. })) {
                break;
            }
            outcome = py.detach(release);
        }
        if matches!(outcome, Err(Error::Busy { .. })) {
            return outcome.map_err(Cache::raise(py));
        }
        let mut holdings = self.holdings();
        if let Some(at) = holdings.iter().position(|other| other.token == held.token) {
            holdings[at].depth -= 1;
            if holdings[at].depth == 0 {
                holdings.remove(at);
            }
        }
        drop(holdings);
        outcome.map_err(Cache::raise(py))
    }
}

#[pymethods]
impl Lease {
    #[new]
    #[pyo3(signature = (cache, name, count, ttl, reentrant, flight=false))]
    fn new(
        cache: &Bound<'_, Cache>,
        name: &Bound<'_, PyAny>,
        count: u32,
        ttl: Ttl,
        reentrant: bool,
        flight: bool,
    ) -> PyResult<Lease> {
        let py = cache.py();
        let mut scratch = Scratch::new();
        let bytes = Key::of(name, &mut scratch)?.bytes;
        let kind = match count {
            0 if flight => Kind::Flight,
            0 => Kind::Lock,
            _ => Kind::Semaphore,
        };
        let (ttl_ms, cache) = (ttl_ms(py, ttl)?, cache.clone().unbind());
        let (holdings, is_told) = (Mutex::default(), AtomicBool::new(false));
        let lease = Lease { cache, kind, key: bytes.into(), count, ttl_ms, reentrant, holdings, is_told };
        lease.place(py)?;
        lease.compare(py)?;
        Ok(lease)
    }

    /// Takes it; True if it is held now. Waits for `timeout` seconds, or for ever (-1).
    #[pyo3(signature = (blocking=true, timeout=None))]
    fn acquire(&self, py: Python<'_>, blocking: bool, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<bool> {
        let patience = match timeout {
            Some(timeout) => patience(blocking, timeout)?,
            None => (!blocking).then_some(Duration::ZERO),
        };
        let outcome = self.wait(py, thread_number(), patience);
        logs::deliver(py, &self.cache.get().handle);
        outcome
    }

    /// Gives it back. Raises NotHolder if this thread or task does not hold it, or its ttl has
    /// passed.
    fn release(&self, py: Python<'_>) -> PyResult<()> {
        self.give_back(py, self.held(py)?)
    }

    /// As `release`; what this thread or task does not hold, but another of this process got by
    /// this object, is given back as well.
    fn _release_any(&self, py: Python<'_>) -> PyResult<()> {
        let held = self.held(py).or_else(|error| self.holdings().last().copied().ok_or(error))?;
        self.give_back(py, held)
    }

    /// Lets it end in `ttl` seconds from now, or only with this process (None).
    fn extend(&self, py: Python<'_>, ttl: Ttl) -> PyResult<()> {
        let ttl_ms = ttl_ms(py, ttl)?;
        let held = self.held(py)?;
        let (map, name) = self.place(py)?;
        map.extend_lease(name.permit(held.permit), held.holder, held.token, ttl_ms).map_err(Cache::raise(py))
    }

    /// One try for a task, whose number `holder` is.
    fn _try(&self, py: Python<'_>, holder: u64) -> PyResult<bool> {
        let outcome = self.take_now(py, holder);
        logs::deliver(py, &self.cache.get().handle);
        outcome
    }

    /// The token of whoever holds the lock now; None if nobody does.
    fn _current(&self, py: Python<'_>) -> PyResult<Option<u64>> {
        let (map, name) = self.place(py)?;
        Ok(map.lease(name).map(|lease| lease.token))
    }

    /// True if nobody could take it now.
    fn locked(&self, py: Python<'_>) -> PyResult<bool> {
        let (map, name) = self.place(py)?;
        Ok(if self.count == 0 {
            map.lease(name).is_some()
        } else {
            map.free_permits(name, self.count).map_err(Cache::raise(py))? == 0
        })
    }

    /// True if this thread or the running task holds it by this object.
    fn owned(&self, py: Python<'_>) -> PyResult<bool> {
        let (map, name) = self.place(py)?;
        Ok(self.held(py).is_ok_and(|held| {
            let lease = map.lease(name.permit(held.permit));
            lease.is_some_and(|lease| (lease.holder, lease.token) == (Some(held.holder), held.token))
        }))
    }

    /// The fencing token of what was taken last and not given back; None if nothing is held.
    /// Every later holder has a greater one: what the lock guards can refuse a smaller one.
    #[getter]
    fn token(&self) -> Option<u64> {
        self.holdings().last().map(|held| held.token)
    }

    fn __enter__(this: PyRef<'_, Self>) -> PyResult<PyRef<'_, Self>> {
        this.wait(this.py(), thread_number(), None)?;
        Ok(this)
    }

    #[pyo3(signature = (*exception))]
    fn __exit__(&self, py: Python<'_>, exception: &Bound<'_, pyo3::types::PyTuple>) -> PyResult<()> {
        let outcome = self.release(py);
        // What the block raised says more than that the lock was lost meanwhile.
        let is_raising = exception.iter().next().is_some_and(|class| !class.is_none());
        if is_raising { Ok(()) } else { outcome }
    }
}

/// A rate limit of the host. Internal base of `RateLimit`.
#[pyclass(frozen, subclass, weakref, module = "pycache", name = "Rate")]
pub(crate) struct Rate {
    cache: Py<Cache>,
    key: Box<[u8]>,
    limit: Limit,
    /// It was told that others name another limit.
    is_told: AtomicBool,
}

#[pymethods]
impl Rate {
    #[new]
    fn new(
        cache: &Bound<'_, Cache>,
        name: &Bound<'_, PyAny>,
        limit: &Bound<'_, PyAny>,
        per: &Bound<'_, PyAny>,
    ) -> PyResult<Rate> {
        let py = cache.py();
        let mut scratch = Scratch::new();
        let bytes = Key::of(name, &mut scratch)?.bytes;
        let at = cache.get().handle.scope().map_err(Cache::raise(py))?;
        at.map.lease_name(Kind::Limit, at.key(bytes)).map_err(Cache::raise(py))?;
        let count = arguments::count("limit", limit, 1..=u64::MAX)?;
        let Ttl::For(per) = Ttl::named("per", per)? else {
            return Err(arguments::refused("per", "more than zero seconds, and has an end", per));
        };
        let limit = Limit { count, per_ns: u64::try_from(per.as_nanos()).unwrap_or(u64::MAX) };
        if !limit.is_possible() {
            let reason = "a rate limit allows at least one, and at most one a nanosecond";
            return Err(errors::exception(py, &Error::InvalidArgument { reason }));
        }
        Ok(Rate { cache: cache.clone().unbind(), key: bytes.into(), limit, is_told: AtomicBool::new(false) })
    }

    fn _hit(&self, key: &Bound<'_, PyAny>, cost: &Bound<'_, PyAny>) -> PyResult<(bool, u64, f64)> {
        let py = key.py();
        let cost = arguments::count("cost", cost, 0..=u64::MAX)?;
        let at = self.cache.get().handle.writing_scope().map_err(Cache::raise(py))?;
        let map = at.map;
        let own = map.lease_name(Kind::Limit, at.key(&self.key)).map_err(Cache::raise(py))?;
        let mut scratch = Scratch::new();
        let name = if key.is_truthy()? {
            map.lease_name_within(own, Key::of(key, &mut scratch)?.bytes).map_err(Cache::raise(py))?
        } else {
            own
        };
        let hit = map.hit(name, self.limit, cost).map_err(Cache::raise(py))?;
        if hit.is_other {
            let (name, Limit { count, per_ns }) = (String::from_utf8_lossy(&self.key), self.limit);
            let text = format!(
                "the rate limit {name:?} is {count} in {} s here, and another for who was counted before; each caller \
                 goes by its own numbers, so let all name the same",
                per_ns as f64 / 1e9
            );
            warn_of_others(py, &self.is_told, 2, text)?;
        }
        Ok((hit.is_allowed, hit.remaining, hit.retry_after_ns as f64 / 1e9))
    }
}

/// What `pycache.leases` has under that name.
fn leases<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    static LEASES: Kept<Py<PyModule>> = Kept::new();
    LEASES.import(py, "pycache.leases")?.getattr(name)
}

#[pymethods]
impl Cache {
    /// The lock of that name: of all threads and tasks of all processes that use this region,
    /// one holds it at a time.
    ///
    /// It ends with `release`, with the process of its holder however that dies, and `ttl`
    /// seconds after it was taken, if there is a ttl. Use it by ``with`` or ``async with``, or
    /// as ``threading.Lock``. What it guards can refuse who comes too late by `token`, which
    /// grows from holder to holder. `clear` and eviction leave it alone.
    ///
    /// Args:
    ///     name: As a key, but locks have names of their own.
    ///     ttl: Seconds until it is free again though its holder lives; None: no end.
    ///     reentrant: The thread or task that holds it may take it again, and gives it back
    ///         as often.
    ///
    /// >>> with cache.lock("report") as lock:
    /// ...     lock.locked(), lock.owned(), cache.lock("report").acquire(blocking=False)
    /// (True, True, False)
    /// >>> lock.locked()
    /// False
    #[pyo3(signature = (name, ttl=None, reentrant=false))]
    fn lock<'py>(
        this: &Bound<'py, Self>,
        name: &Bound<'py, PyAny>,
        ttl: Option<Ttl>,
        reentrant: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        leases(this.py(), "Lock")?.call1((this, name, 0, seconds(ttl), reentrant))
    }

    /// The semaphore of that name: `value` threads or tasks of all processes hold it at a time.
    /// Otherwise as `lock`. Each caller goes by its own `value`: UserWarning where one meets a
    /// holder who named another.
    ///
    /// >>> gate = cache.semaphore("gpu", 2)
    /// >>> gate.acquire(), gate.acquire(), gate.acquire(blocking=False)
    /// (True, True, False)
    /// >>> gate.release(); gate.locked()
    /// False
    #[pyo3(signature = (name, value, ttl=None))]
    fn semaphore<'py>(
        this: &Bound<'py, Self>,
        name: &Bound<'py, PyAny>,
        value: &Bound<'py, PyAny>,
        ttl: Option<Ttl>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let value = arguments::count("value", value, 1..=cache_core::PERMIT_COUNT_MAX.into())?;
        leases(this.py(), "Semaphore")?.call1((this, name, value, seconds(ttl), false))
    }

    /// The rate limit of that name: `limit` hits in each `per` seconds, by all processes
    /// together. As many are allowed at once, and then one after the other as time passes.
    ///
    /// As a decorator it lets calls wait until they are allowed, and so does ``acquire``; with
    /// ``key=`` each key by itself. Each caller goes by its own numbers: UserWarning where hits
    /// were counted by others.
    ///
    /// >>> api = cache.rate_limit("api", 2, per=60)
    /// >>> api.hit("ann"), api.hit("ann").allowed, api.hit("ann").allowed
    /// (Hit(allowed=True, remaining=1, retry_after=0.0), True, False)
    /// >>> api.hit("bob").allowed
    /// True
    fn rate_limit<'py>(
        this: &Bound<'py, Self>,
        name: &Bound<'py, PyAny>,
        limit: &Bound<'py, PyAny>,
        per: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        leases(this.py(), "RateLimit")?.call1((this, name, limit, per))
    }
}

fn seconds(ttl: Option<Ttl>) -> Option<f64> {
    match ttl? {
        Ttl::For(ttl) => Some(ttl.as_secs_f64()),
        Ttl::Past => Some(0.0),
        Ttl::Never | Ttl::Unset => None,
    }
}
