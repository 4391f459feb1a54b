//! The class `Cache`.
//!
//! Owns: one handle on a region, and what the constructor was told. Each method turns
//! its arguments into bytes, calls the operation of the same name, and turns the outcome
//! into objects; what several of them share is in [`crate::operations`]. The file is long
//! because a Python class is one block of methods, and their docstrings are the manual.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::path::PathBuf;

use cache_shm::Error;
use pyo3::exceptions::{PyKeyError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple, PyType};
use pyo3::{PyTraverseError, PyVisit};

use crate::arguments::{self, Given, Keep, Tags, Ttl};
use crate::errors;
use crate::iterate::{CacheIterator, What};
use crate::kept::{Kept, load};
use crate::key::{self, Key, Scratch};
use crate::local::Local;
use crate::open::{self, Identity, Options};

/// A cache in shared memory, the same one in every process that opens its name.
///
/// It is a mutable mapping with times to live, atomic operations and a fixed size: when
/// it is full, what is least worth keeping makes room. Any process may stop or die at any
/// moment without harm to the others.
///
/// Args:
///     name: The region's name: letters, digits and ``._-``. None makes a private region
///         that only children forked from this process share.
///     size: Bytes of the region as int or text ("64MB", "1GiB"), used when it is created.
///         Without it an existing region is attached, or one with 256 MiB (or half of the
///         free memory, whichever is less) is created.
///     ttl: Time to live of values that name none: seconds or timedelta; None for ever (the default).
///     timeout: Longest wait of a write for other writers, in seconds (1.0).
///     evict: False makes a full region raise RegionFull instead of dropping old values (True).
///     ephemeral: The region goes with the last process that has it open.
///     read_only: Attach only, and let the kernel refuse writes.
///     on_mismatch: "warn" (the default) or "error" when the region exists with another size.
///     mode: Permission bits of the region's file (0o600).
///     group: Group of the region's file, as id or name, to share with ``mode=0o660``.
///     dir: Directory of the region's file (one of this user's own under /dev/shm).
///     prealloc: Claim all memory at creation, in huge pages where the kernel has them: slower
///         to create, faster to read all over.
///     serializer: For what has no kind of its own: "pickle" (which trusts every writer), "json",
///         "msgpack", "msgspec", or an object with ``dumps``, ``loads`` and ``name``.
///     compress: "zstd", "lz4" or "zlib", for values from ``compress_min`` bytes (1024) on.
///     secret: A key of at least 16 bytes: every value is signed (HMAC-SHA256) together with its
///         key, and a value that is not is BadSignature. Pickled handles carry it.
///     secret_file: A file that holds the secret instead; pickled handles carry its name only.
///     namespace: The handle is in this namespace, as `namespace` gives it.
///     local: Objects that this handle keeps and gives again, at most, as long as the region still
///         has the values that they were made of. Of types that cannot change.
///     share_mutable: Keeps objects of all types: nobody may change what `get` returns.
///
/// What is not given comes from the environment (``CACHE_SHM_SIZE`` for ``size``, and so on), else
/// from a file, else it is the default: docs/guide/configuration.md. A mistake there is InvalidConfig.
///
/// >>> cache = Cache("docs-class", size="2MB", ttl=60, dir=directory)
/// >>> cache["user:7"] = {"name": "Ada", "visits": 1}
/// >>> cache["user:7"]
/// {'name': 'Ada', 'visits': 1}
/// >>> cache.get("user:8") is None
/// True
/// >>> cache.destroy()
#[pyclass(frozen, subclass, weakref, mapping, module = "pycache")]
pub(crate) struct Cache {
    pub handle: cache_shm::Cache,
    pub options: Options,
    /// Most bytes that a value can have in this region.
    pub value_bytes_max: u64,
    /// What `==` and `hash` go by: the region's file, or a number for a private one.
    pub identity: Identity,
    /// Objects that are given again, if the constructor asked for that.
    pub local: Option<Box<Local>>,
}

/// A class of `pycache._views`, for what Python code does as well.
fn view<'py>(cache: &Bound<'py, Cache>, class: &str) -> PyResult<Bound<'py, PyAny>> {
    static VIEWS: Kept<Py<PyModule>> = Kept::new();
    VIEWS.import(cache.py(), "pycache._views")?.getattr(class)?.call1((cache,))
}

#[pymethods]
impl Cache {
    #[new]
    #[expect(clippy::too_many_arguments, reason = "a constructor with keywords, as Python has them")]
    #[pyo3(signature = (name, size=None, ttl=Given::Unset, *, timeout=Given::Unset, evict=None, ephemeral=None,
        read_only=None, on_mismatch=None, mode=None, group=None, dir=None, prealloc=None, serializer=Given::Unset,
        compress=Given::Unset, compress_min=None, secret=Given::Unset, secret_file=None, namespace=None, local=None,
        share_mutable=false))]
    fn new(
        name: &Bound<'_, PyAny>,
        size: Option<&Bound<'_, PyAny>>,
        ttl: Given<'_>,
        timeout: Given<'_>,
        evict: Option<bool>,
        ephemeral: Option<bool>,
        read_only: Option<bool>,
        on_mismatch: Option<&str>,
        mode: Option<&Bound<'_, PyAny>>,
        group: Option<&Bound<'_, PyAny>>,
        dir: Option<PathBuf>,
        prealloc: Option<bool>,
        serializer: Given<'_>,
        compress: Given<'_>,
        compress_min: Option<&Bound<'_, PyAny>>,
        secret: Given<'_>,
        secret_file: Option<PathBuf>,
        namespace: Option<&Bound<'_, PyAny>>,
        local: Option<&Bound<'_, PyAny>>,
        share_mutable: bool,
    ) -> PyResult<Cache> {
        let py = name.py();
        let name = open::name(name)?;
        let namespace = open::namespace(namespace)?;
        let configured = open::configured(py, name.as_deref())?;
        let private = name.is_none();
        let options = Options {
            name,
            size: size.map(arguments::size).transpose()?.or(configured.size),
            ttl: open::default_ttl(&ttl, &configured)?,
            timeout: open::timeout(&timeout, &configured)?,
            evict: evict.or(configured.evict),
            ephemeral: ephemeral.or(configured.ephemeral),
            read_only: open::read_only(read_only, &configured, private),
            on_mismatch: open::on_mismatch(py, on_mismatch)?.or(configured.on_mismatch),
            mode: mode.map(open::mode).transpose()?.or(configured.mode),
            group: group.map(arguments::group).transpose()?.or(configured.group),
            dir: dir.or_else(|| configured.dir.clone()),
            prealloc: prealloc.or(configured.prealloc),
            coder: open::coder(py, &configured, serializer, compress, compress_min, secret, secret_file)?
                .within(py, &namespace)?,
            namespace,
        };
        let local = open::local(py, local, share_mutable)?;
        let handle = options.open(py)?;
        let value_bytes_max = handle.map().map_err(Self::raise(py))?.geometry().item_bytes_max();
        let identity = handle.path().map_or_else(Identity::private, Identity::File);
        Ok(Cache { handle, options, value_bytes_max, identity, local })
    }

    /// The value under `key`, or `default`, without counting as a use of the key: for tools that
    /// look at a cache and must not change what it keeps.
    ///
    /// >>> cache["a"] = 1
    /// >>> cache.peek("a"), cache.peek("b", 2)
    /// (1, 2)
    #[pyo3(signature = (key, default=None))]
    fn peek<'py>(
        &self,
        key: &Bound<'py, PyAny>,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let mut scratch = Scratch::new();
        Ok(self.look(key.py(), Key::of(key, &mut scratch)?.bytes)?.or(default))
    }

    /// Stores `value` only if `key` is not there; True if it was stored.
    ///
    /// >>> cache.add("a", 1), cache.add("a", 2), cache["a"]
    /// (True, False, 1)
    #[pyo3(signature = (key, value, ttl=Ttl::Unset, *, tags=Tags::NONE))]
    fn add(&self, key: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>, ttl: Ttl, tags: Tags<'_>) -> PyResult<bool> {
        self.store(key, value, &Keep { ttl, tags }, |map, key, value, options| {
            Ok(map.add(key, value, options)?.is_some())
        })
    }

    /// Stores `value` only if `key` is there; True if it was stored.
    ///
    /// >>> cache.replace("a", 1)
    /// False
    #[pyo3(signature = (key, value, ttl=Ttl::Unset, *, tags=Tags::NONE))]
    fn replace(&self, key: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>, ttl: Ttl, tags: Tags<'_>) -> PyResult<bool> {
        self.store(key, value, &Keep { ttl, tags }, |map, key, value, options| {
            Ok(map.replace(key, value, options)?.is_some())
        })
    }

    /// Removes `key`; True if it was there. An exception that `get_or_set` remembers of it
    /// (``negative=``) is forgotten.
    ///
    /// >>> cache["a"] = 1
    /// >>> cache.delete("a"), cache.delete("a")
    /// (True, False)
    fn delete(&self, key: &Bound<'_, PyAny>) -> PyResult<bool> {
        self.remove(key)
    }

    /// Removes `key` and returns its value, in one step: no two callers get the same value.
    ///
    /// Raises KeyError if the key is not there and no default is given.
    ///
    /// >>> cache["a"] = 1
    /// >>> cache.pop("a"), cache.pop("a", None)
    /// (1, None)
    #[pyo3(signature = (key, default=Given::Unset))]
    fn pop<'py>(&self, key: &Bound<'py, PyAny>, default: Given<'py>) -> PyResult<Bound<'py, PyAny>> {
        let mut scratch = Scratch::new();
        let found = Key::of(key, &mut scratch)?;
        match (self.pop_bytes(key.py(), found)?, default) {
            (Some((meta, copy)), _) => self.taken(key.py(), found.bytes, &meta, &copy),
            (None, Given::Value(default)) => Ok(default),
            (None, Given::Unset) => Err(key::missing(key)),
        }
    }

    /// Removes any key and returns it with its value, in one step; KeyError if there is none.
    ///
    /// >>> cache["a"] = 1
    /// >>> cache.popitem()
    /// ('a', 1)
    fn popitem<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
        let taken = self.write(py, 0, |at, timeout_ns| {
            let (mut key, mut copy) = (Vec::new(), Vec::new());
            Ok(at.map.take_any(at.namespace, timeout_ns, &mut key, &mut copy)?.map(|meta| (meta, key, copy)))
        })?;
        let Some((meta, key, copy)) = taken else {
            return Err(PyKeyError::new_err("popitem(): the cache is empty"));
        };
        Ok((key::object(py, &key, meta.key_form)?, self.taken(py, &key, &meta, &copy)?))
    }

    /// Adds `delta` to the integer under `key` and returns the sum, in one step.
    ///
    /// A missing key is a KeyError, unless `default` is given: then the sum is default + delta,
    /// kept for `ttl`. The time to live of an existing key stays. Works on ints and on decimal text; an
    /// OverflowError, past 64 bits with sign, changes nothing.
    ///
    /// >>> cache.incr("hits", default=0), cache.incr("hits", 10)
    /// (1, 11)
    #[pyo3(signature = (key, delta=1, default=None, ttl=Ttl::Unset))]
    fn incr(
        &self,
        key: &Bound<'_, PyAny>,
        #[pyo3(from_py_with = arguments::integer)] delta: i64,
        #[pyo3(from_py_with = arguments::optional_integer)] default: Option<i64>,
        ttl: Ttl,
    ) -> PyResult<i64> {
        self.add_number(key, delta, default, ttl)
    }

    /// Subtracts `delta` from the integer under `key`; otherwise as `incr`.
    ///
    /// >>> cache.decr("left", default=10)
    /// 9
    #[pyo3(signature = (key, delta=1, default=None, ttl=Ttl::Unset))]
    fn decr(
        &self,
        key: &Bound<'_, PyAny>,
        #[pyo3(from_py_with = arguments::integer)] delta: i64,
        #[pyo3(from_py_with = arguments::optional_integer)] default: Option<i64>,
        ttl: Ttl,
    ) -> PyResult<i64> {
        let delta = delta.checked_neg().ok_or_else(|| errors::exception(key.py(), &Error::Overflow))?;
        self.add_number(key, delta, default, ttl)
    }

    /// Appends `tail`, a str or bytes, to the text or bytes under `key`, in one step; the length in
    /// bytes of what is there then.
    ///
    /// A missing key is a KeyError, unless `default` is given: then default + tail is stored, and
    /// kept for `ttl`. The time to live of an existing key stays, and so does its type: only
    /// UTF-8 is appended to a str, and an int becomes its decimal text first. Anything else
    /// raises NotAppendable and is left as it is.
    ///
    /// >>> cache.append("log", "one,", default="")
    /// 4
    /// >>> cache.append("log", "two,"), cache["log"]
    /// (8, 'one,two,')
    #[pyo3(signature = (key, tail, default=None, ttl=Ttl::Unset))]
    fn append(
        &self,
        key: &Bound<'_, PyAny>,
        tail: &Bound<'_, PyAny>,
        default: Option<&Bound<'_, PyAny>>,
        ttl: Ttl,
    ) -> PyResult<usize> {
        self.append_bytes(key, tail, default, ttl)?.ok_or_else(|| key::missing(key))
    }

    /// The values of those of `keys` that are there, as a dict.
    ///
    /// >>> cache.set_many({"a": 1, "b": 2})
    /// []
    /// >>> cache.get_many(["a", "b", "c"])
    /// {'a': 1, 'b': 2}
    fn get_many<'py>(&self, py: Python<'py>, keys: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyDict>> {
        let objects: Vec<Bound<'py, PyAny>> = keys.try_iter()?.collect::<PyResult<_>>()?;
        let mut scratches: Vec<Scratch> = objects.iter().map(|_| Scratch::new()).collect();
        let at = self.handle.scope().map_err(Self::raise(py))?;
        let mut keys = Vec::with_capacity(objects.len());
        for (object, scratch) in objects.iter().zip(&mut scratches) {
            keys.push(at.key(Key::of(object, scratch)?.bytes));
        }
        let found = PyDict::new(py);
        let mut failure = None;
        at.map
            .get_many(&keys, &mut |index, meta, copy| {
                if failure.is_none() {
                    let outcome = self
                        .taken(py, keys[index].bytes, meta, copy)
                        .and_then(|value| found.set_item(&objects[index], value));
                    failure = outcome.err();
                }
            })
            .map_err(Self::raise(py))?;
        failure.map_or(Ok(found), Err)
    }

    /// Stores every pair of a mapping (or iterable of pairs); a list of the keys that failed.
    ///
    /// A key fails when its value is too large for the region, when there is no room for it, or
    /// when its stripe stays busy; the others are stored. A key that is none, and a key or value
    /// of a type that is not stored, raises before anything is stored.
    ///
    /// >>> cache.set_many({"a": 1, "b": 2}, ttl=60)
    /// []
    #[pyo3(signature = (items, ttl=Ttl::Unset, *, tags=Tags::NONE))]
    fn set_many<'py>(&self, items: &Bound<'py, PyAny>, ttl: Ttl, tags: Tags<'_>) -> PyResult<Bound<'py, PyList>> {
        let py = items.py();
        let items = arguments::pairs(items)?;
        let failed = PyList::empty(py);
        for (index, error) in self.store_many(py, &items, &Keep { ttl, tags })? {
            match error {
                Error::Busy { .. } | Error::Full { .. } | Error::NoSpace { .. } | Error::ValueTooLarge { .. } => {
                    failed.append(&items[index].0)?;
                }
                error => return Err(errors::exception(py, &error)),
            }
        }
        Ok(failed)
    }

    /// Removes every key of `keys`; how many were there.
    ///
    /// >>> cache["a"] = 1
    /// >>> cache.delete_many(["a", "b"])
    /// 1
    fn delete_many(&self, keys: &Bound<'_, PyAny>) -> PyResult<usize> {
        let mut count = 0;
        for key in keys.try_iter()? {
            count += usize::from(self.delete(&key?)?);
        }
        Ok(count)
    }

    /// The value under `key`; if there is none, stores `default` and returns it, in one step.
    ///
    /// >>> cache.setdefault("a", []), cache.setdefault("a", [1])
    /// ([], [])
    #[pyo3(signature = (key, default=None, ttl=Ttl::Unset, *, tags=Tags::NONE))]
    fn setdefault<'py>(
        &self,
        key: &Bound<'py, PyAny>,
        default: Option<Bound<'py, PyAny>>,
        ttl: Ttl,
        tags: Tags<'_>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let value = default.unwrap_or_else(|| key.py().None().into_bound(key.py()));
        Ok(self.get_or_add(key, &value, &Keep { ttl, tags })?.unwrap_or(value))
    }

    /// Stores every pair of a mapping (or iterable of pairs) and every keyword, as dict.update.
    ///
    /// >>> cache.update({"a": 1}, b=2)
    /// >>> sorted(cache)
    /// ['a', 'b']
    #[pyo3(signature = (other=Given::Unset, /, **entries))]
    fn update(&self, py: Python<'_>, other: Given<'_>, entries: Option<&Bound<'_, PyDict>>) -> PyResult<()> {
        let mut items = match &other {
            Given::Unset => Vec::new(),
            Given::Value(other) => arguments::pairs(other)?,
        };
        items.extend(entries.iter().flat_map(|entries| entries.iter()));
        match self.store_many(py, &items, &Ttl::Unset.into())?.into_iter().next() {
            None => Ok(()),
            Some((_, error)) => Err(errors::exception(py, &error)),
        }
    }

    /// A view of the keys. Iteration never raises because of concurrent change.
    ///
    /// >>> cache["a"] = 1
    /// >>> list(cache.keys())
    /// ['a']
    fn keys<'py>(this: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        view(this, "CacheKeys")
    }

    /// A view of the values.
    ///
    /// >>> cache["a"] = 1
    /// >>> list(cache.values())
    /// [1]
    fn values<'py>(this: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        view(this, "CacheValues")
    }

    /// A view of the pairs of key and value.
    ///
    /// >>> cache["a"] = 1
    /// >>> list(cache.items())
    /// [('a', 1)]
    fn items<'py>(this: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        view(this, "CacheItems")
    }

    fn _iter_values(this: Py<Self>) -> CacheIterator {
        CacheIterator::new(this, What::Values, None)
    }

    fn _iter_items(this: Py<Self>) -> CacheIterator {
        CacheIterator::new(this, What::Items, None)
    }

    fn __getitem__<'py>(&self, key: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let mut scratch = Scratch::new();
        self.lookup(key.py(), Key::of(key, &mut scratch)?.bytes)?.ok_or_else(|| key::missing(key))
    }

    fn __setitem__(&self, key: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        self.set(key, value, &Ttl::Unset.into())
    }

    fn __delitem__(&self, key: &Bound<'_, PyAny>) -> PyResult<()> {
        if self.delete(key)? { Ok(()) } else { Err(key::missing(key)) }
    }

    fn __contains__(&self, key: &Bound<'_, PyAny>) -> PyResult<bool> {
        let mut scratch = Scratch::new();
        let bytes = Key::of(key, &mut scratch)?.bytes;
        self.handle.scope().and_then(|at| at.map.contains(at.key(bytes))).map_err(Self::raise(key.py()))
    }

    fn __len__(&self, py: Python<'_>) -> PyResult<usize> {
        Ok(py.detach(|| self.handle.len()).map_err(Self::raise(py))? as usize)
    }

    /// True unless the cache is empty; does not count.
    fn __bool__(&self, py: Python<'_>) -> PyResult<bool> {
        Ok(!self.handle.is_empty().map_err(Self::raise(py))?)
    }

    fn __iter__(this: Py<Self>) -> CacheIterator {
        CacheIterator::new(this, What::Keys, None)
    }

    fn __eq__(&self, other: &Bound<'_, PyAny>) -> bool {
        other.cast::<Cache>().is_ok_and(|other| other.get().place() == self.place())
    }

    fn __hash__(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.place().hash(&mut hasher);
        hasher.finish()
    }

    fn __repr__(this: &Bound<'_, Self>) -> PyResult<String> {
        let cache = this.get();
        let class = this.get_type();
        let state = match cache.handle.map() {
            Ok(map) => format!("{} bytes", map.geometry().region_bytes),
            Err(error) => error.rendering().word.to_string(),
        };
        let name = cache.options.name.as_deref().into_pyobject(this.py())?.repr()?;
        let place = cache.handle.path().map_or(String::new(), |path| format!(", {}", path.display()));
        let namespace = cache.options.namespace_name().map_or(String::new(), |name| format!(", namespace {name:?}"));
        Ok(format!("<{} {name}{namespace}, {state}{place}>", class.fully_qualified_name()?))
    }

    fn __enter__(this: Py<Self>) -> Py<Self> {
        this
    }

    #[pyo3(signature = (*error))]
    fn __exit__(&self, error: &Bound<'_, PyTuple>) {
        self.close(error.py());
    }

    /// Closes this handle; the region stays. Closing twice is fine, use afterwards is an error.
    ///
    /// >>> cache.close()
    /// >>> cache.closed
    /// True
    fn close(&self, py: Python<'_>) {
        self.handle.clone().close();
        if let Some(local) = &self.local {
            local.clear(py);
        }
    }

    /// Removes the region for everyone, with all its namespaces. Handles that have it open get RegionGone once, on their
    /// next write, and start with a new one after that.
    ///
    /// >>> cache.destroy()
    fn destroy(&self, py: Python<'_>) -> PyResult<()> {
        py.detach(|| self.handle.destroy()).map_err(Self::raise(py))
    }

    /// The region's name, None for a private one.
    #[getter]
    fn name(&self) -> Option<&str> {
        self.options.name.as_deref()
    }

    /// The region's file, None for a private region.
    #[getter]
    fn path(&self) -> Option<String> {
        self.handle.path().map(|path| path.display().to_string())
    }

    /// Bytes of the region.
    #[getter]
    fn size(&self, py: Python<'_>) -> PyResult<u64> {
        Ok(self.handle.map().map_err(Self::raise(py))?.geometry().region_bytes)
    }

    /// Seconds that values live when `set` names no ttl; None for ever.
    #[getter]
    fn default_ttl(&self) -> Option<f64> {
        self.options.ttl_seconds()
    }

    /// Longest wait of a write, in seconds.
    #[getter]
    fn timeout(&self) -> f64 {
        self.options.timeout.as_secs_f64()
    }

    /// True if this handle cannot write.
    #[getter]
    fn read_only(&self) -> bool {
        self.options.read_only
    }

    /// True after `close`.
    #[getter]
    fn closed(&self) -> bool {
        self.handle.is_closed()
    }

    #[classmethod]
    fn __class_getitem__<'py>(class: &Bound<'py, PyType>, item: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        class.py().import("types")?.getattr("GenericAlias")?.call1((class, item))
    }

    #[expect(clippy::type_complexity, reason = "a function and its arguments, as pickle wants them")]
    fn __reduce__<'py>(
        this: &Bound<'py, Self>,
    ) -> PyResult<(Bound<'py, PyAny>, (Bound<'py, PyType>, Bound<'py, PyDict>))> {
        let cache = this.get();
        let py = this.py();
        if cache.options.name.is_none() {
            return Err(PyTypeError::new_err(
                "a private cache (name None) cannot be pickled; only forked children share it, or give it a name",
            ));
        }
        let size = cache.handle.map().map_err(Self::raise(py))?.geometry().region_bytes;
        let reopen = load(py, "pycache._views")?.getattr("reopen")?;
        let keywords = cache.options.reopen(py, size, cache.handle.path())?;
        if let Some(local) = &cache.local {
            keywords.set_item("local", local.count_max())?;
            keywords.set_item("share_mutable", local.share_mutable())?;
        }
        Ok((reopen, (this.get_type(), keywords)))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.local.as_ref().map_or(Ok(()), |local| local.traverse(&visit))
    }

    fn __clear__(&self) {
        // The collector calls it attached, and holds what it clears.
        if let Some(local) = &self.local {
            Python::attach(|py| local.clear(py));
        }
    }
}
