//! Opening regions: constructor arguments, which region a handle is on, what the user is
//! told about the outcome, and what a pickled handle needs to open the same region again.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use cache_shm::{Error, Mismatch, Mode, Opened, Settings};
use pyo3::PyTypeInfo;
use pyo3::exceptions::{PyTypeError, PyUserWarning};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedStr;
use pyo3::types::{PyBytes, PyDict, PyString};

use crate::arguments::{self, Given, Ttl};
use crate::local::Local;
use crate::value::coder::{Coder, Wanted};
use crate::{errors, kept, logs};

/// Most objects that a handle keeps.
const LOCAL_COUNT_MAX: u64 = 1 << 30;

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

/// From so many bytes on values are compressed, if they are.
const COMPRESS_MIN: i64 = 1024;

/// The constructor's arguments after checking, with what is configured where nothing was given.
pub(crate) struct Options {
    pub name: Option<String>,
    pub size: Option<u64>,
    pub ttl: Ttl,
    pub timeout: Duration,
    pub evict: Option<bool>,
    pub ephemeral: Option<bool>,
    pub read_only: bool,
    pub on_mismatch: Option<Mismatch>,
    pub mode: Option<u32>,
    pub group: Option<u32>,
    pub dir: Option<PathBuf>,
    pub prealloc: Option<bool>,
    /// The namespace's name; empty for the default one.
    pub namespace: String,
    pub coder: Coder,
}

/// The table of objects that a handle keeps, if it has one.
pub(crate) fn local(
    py: Python<'_>,
    count_max: Option<&Bound<'_, PyAny>>,
    share_mutable: bool,
) -> PyResult<Option<Box<Local>>> {
    let count_max = count_max.map_or(Ok(0), |count| arguments::count("local", count, 0..=LOCAL_COUNT_MAX))?;
    match count_max {
        0 if share_mutable => Err(invalid(py, "share_mutable is for local=, which keeps objects")),
        0 => Ok(None),
        _ => Ok(Some(Box::new(Local::new(count_max as usize, share_mutable)))),
    }
}

/// Says once what looks like an option in the environment and is none.
fn tell_unknown_variables(py: Python<'_>) -> PyResult<()> {
    static LOOKED: AtomicBool = AtomicBool::new(false);
    // Relaxed: only who comes first matters.
    if LOOKED.swap(true, Ordering::Relaxed) {
        return Ok(());
    }
    let unknown = cache_shm::unknown_variables();
    if unknown.is_empty() {
        return Ok(());
    }
    let known: Vec<String> = cache_shm::variables().collect();
    let text = "no option of the cache, and without effect: %s in the environment; there are %s";
    let logger = kept::load(py, "logging")?.call_method1("getLogger", ("pycache",))?;
    logger.call_method1("warning", (text, unknown.join(", "), known.join(", ")))?;
    Ok(())
}

/// Permission bits.
pub(crate) fn mode(object: &Bound<'_, PyAny>) -> PyResult<u32> {
    arguments::count("mode", object, 0..=0o777).map(|mode| mode as u32)
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

/// What is configured for the region `name`. Read while attached: other Python threads may
/// change the environment.
pub(crate) fn configured(py: Python<'_>, name: Option<&str>) -> PyResult<Settings> {
    Settings::read(name).map_err(|error| errors::exception(py, &error))
}

/// The name of a namespace: text that is not empty, or None for the default one.
pub(crate) fn namespace(object: Option<&Bound<'_, PyAny>>) -> PyResult<String> {
    let Some(object) = object else { return Ok(String::new()) };
    let Ok(name) = object.cast::<PyString>() else {
        let class = object.get_type();
        return Err(PyTypeError::new_err(format!("the name of a namespace is a str; not {}", class.name()?)));
    };
    let name = name.to_cow()?.into_owned();
    if name.is_empty() {
        let error = Error::LabelLength { bytes: 0, bytes_max: cache_shm::NAMESPACE_NAME_BYTES as u64 };
        return Err(errors::exception(object.py(), &error));
    }
    Ok(name)
}

/// The time to live of sets that name none.
pub(crate) fn default_ttl(given: &Given<'_>, configured: &Settings) -> PyResult<Ttl> {
    match given {
        Given::Unset => Ok(configured.ttl.flatten().map_or(Ttl::Never, Ttl::For)),
        Given::Value(object) => lasting_ttl(object),
    }
}

/// A time to live that has not passed already.
pub(crate) fn lasting_ttl(object: &Bound<'_, PyAny>) -> PyResult<Ttl> {
    match Ttl::of(object)? {
        Ttl::Past => {
            let reason = "the default ttl of a cache is more than zero seconds, or None for ever";
            Err(errors::exception(object.py(), &Error::InvalidArgument { reason }))
        }
        ttl => Ok(ttl),
    }
}

/// The deadline of writes.
pub(crate) fn timeout(given: &Given<'_>, configured: &Settings) -> PyResult<Duration> {
    match given {
        Given::Unset => Ok(configured.timeout.unwrap_or(Duration::from_nanos(cache_core::TIMEOUT_NS_DEFAULT))),
        Given::Value(object) => arguments::timeout(object),
    }
}

/// "warn" or "error".
pub(crate) fn on_mismatch(py: Python<'_>, text: Option<&str>) -> PyResult<Option<Mismatch>> {
    match text {
        None => Ok(None),
        Some("warn") => Ok(Some(Mismatch::Warn)),
        Some("error") => Ok(Some(Mismatch::Error)),
        Some(_) => Err(invalid(py, "on_mismatch is \"warn\" or \"error\"")),
    }
}

/// What was given, None being a choice too, else the configured word.
fn given_or<'py>(py: Python<'py>, given: Given<'py>, word: Option<&'static str>) -> Option<Bound<'py, PyAny>> {
    match given {
        Given::Value(object) => (!object.is_none()).then_some(object),
        Given::Unset => word.filter(|word| *word != "none").map(|word| PyString::new(py, word).into_any()),
    }
}

/// What becomes of values beyond the safe types.
pub(crate) fn coder<'py>(
    py: Python<'py>,
    configured: &Settings,
    serializer: Given<'py>,
    compress: Given<'py>,
    compress_min: Option<&Bound<'py, PyAny>>,
    secret: Given<'py>,
    secret_file: Option<PathBuf>,
) -> PyResult<Coder> {
    let (secret, secret_file) = match (secret, secret_file) {
        (Given::Value(_), Some(_)) => return Err(invalid(py, "secret and secret_file are two ways to say one thing")),
        (Given::Value(secret), None) => ((!secret.is_none()).then_some(secret), None),
        (Given::Unset, file) => (None, file.or_else(|| configured.secret_file.clone())),
    };
    let held = match &secret_file {
        Some(file) => {
            let bytes = cache_shm::read_secret(file).map_err(|error| errors::exception(py, &error))?;
            Some(PyBytes::new(py, &bytes).into_any())
        }
        None => None,
    };
    let compress = given_or(py, compress, configured.compress);
    let compress = compress.as_ref().map(|text| text.extract::<PyBackedStr>()).transpose()?;
    let bytes = |object| arguments::count("compress_min", object, 0..=i64::MAX as u64).map(|bytes| bytes as i64);
    let min = compress_min
        .map(bytes)
        .transpose()?
        .or(configured.compress_min.map(|bytes| i64::try_from(bytes).unwrap_or(i64::MAX)));
    Coder::new(
        py,
        &Wanted {
            serializer: given_or(py, serializer, configured.serializer).as_ref(),
            compress: compress.as_deref(),
            compress_min: min.unwrap_or(COMPRESS_MIN),
            secret: secret.as_ref().or(held.as_ref()),
            secret_file: secret_file.as_deref(),
        },
    )
}

/// True if the handle shall not write. A private region has no other maker than its user.
pub(crate) fn read_only(given: Option<bool>, configured: &Settings, private: bool) -> bool {
    given.or(configured.read_only.filter(|_| !private)).unwrap_or(false)
}

fn invalid(py: Python<'_>, reason: &'static str) -> PyErr {
    errors::exception(py, &Error::InvalidArgument { reason })
}

impl Options {
    /// Creates or attaches the region; other Python threads run meanwhile.
    pub fn open(&self, py: Python<'_>) -> PyResult<cache_shm::Cache> {
        // What is configured is in these options already.
        let mut builder = cache_shm::Cache::builder(self.name.as_deref())
            .settings(Settings::default())
            .read_only(self.read_only)
            .timeout(self.timeout);
        if let Some(evict) = self.evict {
            builder = builder.mode(if evict { Mode::Evict } else { Mode::NoEvict });
        }
        if let Some(ephemeral) = self.ephemeral {
            builder = builder.ephemeral(ephemeral);
        }
        if let Some(prealloc) = self.prealloc {
            builder = builder.prealloc(prealloc);
        }
        if let Some(on_mismatch) = self.on_mismatch {
            builder = builder.on_mismatch(on_mismatch);
        }
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
        logs::deliver(py, &cache);
        tell_unknown_variables(py)?;
        self.tell(py, cache.opened())?;
        self.enter(py, cache)
    }

    /// A handle in the namespace that is said.
    fn enter(&self, py: Python<'_>, cache: cache_shm::Cache) -> PyResult<cache_shm::Cache> {
        if self.namespace.is_empty() {
            return Ok(cache);
        }
        py.detach(|| cache.namespace(self.namespace.as_bytes())).map_err(|error| errors::exception(py, &error))
    }

    /// The same for another namespace of the same region, and a handle on that.
    pub fn within(
        &self,
        py: Python<'_>,
        handle: &cache_shm::Cache,
        namespace: String,
        ttl: Ttl,
    ) -> PyResult<(Options, cache_shm::Cache)> {
        let coder = self.coder.within(py, &namespace)?;
        let (name, dir) = (self.name.clone(), self.dir.clone());
        let options = Options { name, dir, ttl, namespace, coder, ..*self };
        let handle = options.enter(py, handle.clone())?;
        Ok((options, handle))
    }

    /// Warns of what the caller did not ask for.
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
        let on_mismatch = self.on_mismatch.map(|found| if found == Mismatch::Error { "error" } else { "warn" });
        keywords.set_item("on_mismatch", on_mismatch)?;
        keywords.set_item("mode", self.mode)?;
        keywords.set_item("group", self.group)?;
        keywords.set_item("dir", dir)?;
        keywords.set_item("prealloc", self.prealloc)?;
        keywords.set_item("namespace", self.namespace_name())?;
        self.coder.reopen(&keywords)?;
        Ok(keywords)
    }

    /// The namespace as users see it.
    pub fn namespace_name(&self) -> Option<&str> {
        (!self.namespace.is_empty()).then_some(&self.namespace)
    }

    /// The default ttl as users see it.
    pub fn ttl_seconds(&self) -> Option<f64> {
        match self.ttl {
            Ttl::For(ttl) => Some(ttl.as_secs_f64()),
            _ => None,
        }
    }
}
