//! Opening regions: constructor arguments, which region a handle is on, what the user is
//! told about the outcome, and what a pickled handle needs to open the same region again.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cache_shm::{Error, Mismatch, Mode, Opened};
use pyo3::PyTypeInfo;
use pyo3::exceptions::{PyTypeError, PyUserWarning};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use crate::arguments::{self, Given, Ttl};
use crate::errors;
use crate::kept::load;
use crate::value::coder::Coder;

/// Which region a handle is on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Identity {
    File(PathBuf),
    /// Process that made it, and the how manieth of that process. Forked children keep it.
    Private(u32, u64),
}

impl Identity {
    pub fn private() -> Identity {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        // Relaxed: only a number that nobody else gets.
        Identity::Private(std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
    }
}

/// The constructor's arguments after checking.
pub(crate) struct Options {
    pub name: Option<String>,
    pub size: Option<u64>,
    pub ttl: Ttl,
    pub timeout: Duration,
    pub evict: bool,
    pub ephemeral: bool,
    pub read_only: bool,
    pub error_on_mismatch: bool,
    pub mode: Option<u32>,
    pub group: Option<u32>,
    pub dir: Option<PathBuf>,
    pub prealloc: bool,
    pub coder: Coder,
}

/// The name of a region: text, or None for a private one.
pub(crate) fn name(object: &Bound<'_, PyAny>) -> PyResult<Option<String>> {
    if object.is_none() {
        return Ok(None);
    }
    match object.cast::<PyString>() {
        Ok(name) => Ok(Some(name.to_cow()?.into_owned())),
        Err(_) => {
            let class = object.get_type();
            Err(PyTypeError::new_err(format!(
                "name is a str, or None for a region shared with forked children only; not {}",
                class.name()?
            )))
        }
    }
}

/// The time to live of sets that name none.
pub(crate) fn default_ttl(object: Option<&Bound<'_, PyAny>>) -> PyResult<Ttl> {
    let Some(object) = object else { return Ok(Ttl::Never) };
    match Ttl::of(object)? {
        Ttl::Past => {
            let reason = "the default ttl of a cache is more than zero seconds, or None for ever";
            Err(errors::exception(object.py(), &Error::InvalidArgument { reason }))
        }
        ttl => Ok(ttl),
    }
}

/// The deadline of writes.
pub(crate) fn timeout(given: &Given<'_>) -> PyResult<Duration> {
    match given {
        Given::Unset => Ok(Duration::from_nanos(cache_core::TIMEOUT_NS_DEFAULT)),
        Given::Value(object) => arguments::timeout(object),
    }
}

/// "warn" or "error".
pub(crate) fn on_mismatch(py: Python<'_>, text: &str) -> PyResult<bool> {
    match text {
        "warn" => Ok(false),
        "error" => Ok(true),
        _ => Err(invalid(py, "on_mismatch is \"warn\" or \"error\"")),
    }
}

fn invalid(py: Python<'_>, reason: &'static str) -> PyErr {
    errors::exception(py, &Error::InvalidArgument { reason })
}

impl Options {
    /// Creates or attaches the region; other Python threads run meanwhile.
    pub fn open(&self, py: Python<'_>) -> PyResult<cache_shm::Cache> {
        let mut builder = cache_shm::Cache::builder(self.name.as_deref())
            .mode(if self.evict { Mode::Evict } else { Mode::NoEvict })
            .ephemeral(self.ephemeral)
            .read_only(self.read_only)
            .prealloc(self.prealloc)
            .on_mismatch(if self.error_on_mismatch { Mismatch::Error } else { Mismatch::Warn })
            .timeout(self.timeout);
        if let Some(size) = self.size {
            builder = builder.size(size);
        }
        if let Some(mode) = self.mode {
            builder = builder.file_mode(mode);
        }
        if let Some(group) = self.group {
            builder = builder.group(group);
        }
        if let Some(dir) = &self.dir {
            builder = builder.dir(dir);
        }
        let cache = py.detach(|| if self.read_only { builder.open() } else { builder.open_or_create() });
        let cache = cache.map_err(|error| errors::exception(py, &error))?;
        self.tell(py, cache.opened())?;
        Ok(cache)
    }

    /// Warns and logs about what the caller did not ask for.
    fn tell(&self, py: Python<'_>, opened: &Opened) -> PyResult<()> {
        let name = self.name.as_deref().unwrap_or("(private)");
        if let Some((asked, existing)) = opened.size_mismatch {
            let text = format!(
                "cache {name:?} exists with {existing} bytes and {asked} were asked for; using it as it is \
                 (on_mismatch=\"error\" refuses, destroy() lets it be created anew)"
            );
            let text = std::ffi::CString::new(text).unwrap_or_default();
            PyErr::warn(py, &PyUserWarning::type_object(py), &text, 1)?;
        }
        if opened.remade_after_boot {
            log(py, "warning", format!("cache {name:?} was made before this boot; it was made anew and is empty"))?;
        }
        if let Some(size) = opened.default_size {
            log(py, "info", format!("cache {name:?} was created without a size; it has {size} bytes"))?;
        }
        Ok(())
    }

    /// Arguments and keywords that open the same region in another process.
    ///
    /// The region is named by its whole path, since the other process may have another
    /// working directory and environment.
    pub fn reopen<'py>(&self, py: Python<'py>, size: u64, path: Option<PathBuf>) -> PyResult<Bound<'py, PyDict>> {
        let keywords = PyDict::new(py);
        let is_path = self.name.as_ref().is_some_and(|name| name.contains('/'));
        let (dir, file) = match (&path, is_path) {
            (Some(path), true) => (None, path.to_str().map(str::to_owned)),
            (Some(path), false) => (path.parent(), self.name.clone()),
            (None, _) => (None, self.name.clone()),
        };
        keywords.set_item("name", file)?;
        keywords.set_item("size", size)?;
        keywords.set_item("ttl", self.ttl_seconds())?;
        keywords.set_item("timeout", self.timeout.as_secs_f64())?;
        keywords.set_item("evict", self.evict)?;
        keywords.set_item("ephemeral", self.ephemeral)?;
        keywords.set_item("read_only", self.read_only)?;
        keywords.set_item("on_mismatch", if self.error_on_mismatch { "error" } else { "warn" })?;
        keywords.set_item("mode", self.mode)?;
        keywords.set_item("group", self.group)?;
        keywords.set_item("dir", dir)?;
        keywords.set_item("prealloc", self.prealloc)?;
        self.coder.reopen(&keywords)?;
        Ok(keywords)
    }

    /// The default ttl as users see it.
    pub fn ttl_seconds(&self) -> Option<f64> {
        match self.ttl {
            Ttl::For(ttl) => Some(ttl.as_secs_f64()),
            _ => None,
        }
    }
}

fn log(py: Python<'_>, level: &str, text: String) -> PyResult<()> {
    let logger = load(py, "logging")?.call_method1("getLogger", ("pycache",))?;
    logger.call_method1(level, ("%s", text))?;
    Ok(())
}
