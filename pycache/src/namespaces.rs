//! Methods of `Cache` about namespaces and tags: what is told apart, counted and removed by
//! itself.

use cache_shm::{Namespace, NamespaceInfo};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use crate::arguments::{Given, text_or_bytes};
use crate::cache::Cache;
use crate::local::Local;
use crate::open::{self, Identity};

impl Cache {
    /// Which region, and which namespace of it.
    pub fn place(&self) -> (&Identity, &str) {
        (&self.identity, &self.options.namespace)
    }
}

fn counts<'py>(py: Python<'py>, info: &NamespaceInfo) -> PyResult<Bound<'py, PyDict>> {
    let counts = PyDict::new(py);
    for (name, count) in info.counts() {
        counts.set_item(name, count)?;
    }
    Ok(counts)
}

#[pymethods]
impl Cache {
    /// A handle on the namespace `name` of this region, a str of 1 to 64 bytes in UTF-8; it is
    /// made if it is not there yet, and stays as long as the region.
    ///
    /// The same key is another one in each namespace, and so are names of locks, semaphores,
    /// limits and tags. `clear`, `len`, iteration and `stats` of the handle are about its
    /// namespace alone; iteration and `len` walk over the keys of all. What is stored with it
    /// lives `ttl` seconds (unset: this handle's default) and goes through the same serializer. It
    /// is closed by itself. A region has room for 15 to 255 names, by its size; for what comes
    /// and goes use tags.
    ///
    /// Raises:
    ///     InvalidLabel: The name is too long, or empty.
    ///     NamespacesFull: The region has no room for another name.
    ///
    /// >>> users = cache.namespace("users", ttl=60)
    /// >>> users["7"] = "Ada"
    /// >>> cache["7"] = "lucky"
    /// >>> users.clear()
    /// >>> users.get("7"), cache["7"]
    /// (None, 'lucky')
    #[pyo3(signature = (name, ttl=Given::Unset))]
    fn namespace(&self, name: &Bound<'_, PyAny>, ttl: Given<'_>) -> PyResult<Cache> {
        let py = name.py();
        let ttl = match &ttl {
            Given::Unset => self.options.ttl,
            Given::Value(ttl) => open::lasting_ttl(ttl)?,
        };
        let name = open::namespace(Some(name))?;
        let (options, handle) = self.options.within(py, &self.handle, name, ttl)?;
        let (value_bytes_max, identity) = (self.value_bytes_max, self.identity.clone());
        let local = self.local.as_ref().map(|local| Box::new(Local::new(local.count_max(), local.share_mutable())));
        Ok(Cache { handle, options, value_bytes_max, identity, local })
    }

    /// Name of this handle's namespace; None for the default one.
    #[getter]
    fn namespace_name(&self) -> Option<&str> {
        self.options.namespace_name()
    }

    /// The namespaces that were made in this region, in the order of their making: a dict of
    /// their names and what `stats` says of each. Bytes of a name that are no UTF-8 are in it as `os.fsdecode`
    /// has those of a file.
    ///
    /// >>> cache.namespace("users")["7"] = "Ada"
    /// >>> list(cache.namespaces()), cache.namespaces()["users"]["sets"]
    /// (['users'], 1)
    fn namespaces<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let infos = self.handle.namespaces().map_err(Self::raise(py))?;
        let found = PyDict::new(py);
        for info in &infos[1..] {
            let name = PyBytes::new(py, &info.name).call_method1("decode", ("utf-8", "surrogateescape"))?;
            found.set_item(name, counts(py, info)?)?;
        }
        Ok(found)
    }

    /// Removes every value of this namespace that was stored with `tag`, a str or bytes, in one
    /// step and whatever their number.
    ///
    /// What is stored with the tag afterwards stays. Tags share 256 to 65,536 words, by the
    /// region's size: seldom, values of another tag go as well, and are computed anew.
    ///
    /// >>> cache.set("page:1", "Hello, Ada", tags=["user:7", "home"])
    /// >>> cache.evict_tag("user:7")
    /// >>> cache.get("page:1") is None
    /// True
    fn evict_tag(&self, tag: &Bound<'_, PyAny>) -> PyResult<()> {
        let (_, name) = text_or_bytes(tag)?;
        self.handle.evict_tag(name).map_err(Self::raise(tag.py()))
    }

    /// Removes every key of this namespace, in one step and whatever their number; with
    /// `all_namespaces` those of the whole region. Locks, semaphores and limits stay.
    ///
    /// >>> cache["a"] = 1
    /// >>> cache.clear()
    /// >>> len(cache)
    /// 0
    #[pyo3(signature = (*, all_namespaces=false))]
    fn clear(&self, py: Python<'_>, all_namespaces: bool) -> PyResult<()> {
        if all_namespaces { self.handle.clear_all() } else { self.handle.clear() }.map_err(Self::raise(py))
    }

    /// Counters, summed over all processes since they were last reset.
    ///
    /// In the default namespace they are those of the whole region, with its sizes. In another
    /// they are hits, misses, sets, deletes, evictions and expirations there; a process that was
    /// killed took up to 64 of each with it. Expirations are items whose space came back because
    /// they were over: by their ttl, by a `clear` or by an eviction by a tag.
    ///
    /// Args:
    ///     reset: Begin to count anew, for everybody, after these were read. What others count at
    ///         the same moment may be missing from both.
    ///
    /// >>> cache["a"] = 1
    /// >>> cache.stats()["sets"] >= 1
    /// True
    /// >>> users = cache.namespace("users")
    /// >>> users.get("7"), users.stats()["misses"]
    /// (None, 1)
    #[pyo3(signature = (*, reset=false))]
    fn stats<'py>(&self, py: Python<'py>, reset: bool) -> PyResult<Bound<'py, PyDict>> {
        let at = self.handle.scope().map_err(Self::raise(py))?;
        let found = if at.namespace == Namespace::DEFAULT {
            let found = PyDict::new(py);
            for (name, value) in at.map.stats().fields() {
                found.set_item(name, value)?;
            }
            found
        } else {
            let info = at.map.namespaces().into_iter().find(|info| info.namespace == at.namespace);
            // Without one nobody has made it yet.
            counts(py, &info.unwrap_or_default())?
        };
        if reset {
            self.handle.reset_stats().map_err(Self::raise(py))?;
        }
        Ok(found)
    }
}
