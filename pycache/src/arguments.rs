//! Arguments: times to live, deadlines, sizes, groups and pairs, in the forms that Python
//! users write them.

use std::convert::Infallible;
use std::ops::RangeInclusive;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cache_shm::{Error, kind};
use pyo3::exceptions::{PyOverflowError, PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDateTime, PyDelta, PyDeltaAccess, PyDict, PyFloat, PyInt, PyString};

use crate::{errors, kept, key, value};

/// An argument as it was given, or `None`.
pub(crate) type Argument<'a, 'py> = Option<Borrowed<'a, 'py, PyAny>>;

/// An optional argument for which None is a value like any other.
pub(crate) enum Given<'py> {
    /// The caller said nothing.
    Unset,
    /// The caller said this.
    Value(Bound<'py, PyAny>),
}

impl<'a, 'py> FromPyObject<'a, 'py> for Given<'py> {
    type Error = Infallible;

    #[inline]
    fn extract(object: Borrowed<'a, 'py, PyAny>) -> Result<Self, Infallible> {
        Ok(Given::Value(object.to_owned()))
    }
}

/// A time to live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ttl {
    /// The cache's default.
    Unset,
    /// For ever.
    Never,
    /// Zero or less: expired already.
    Past,
    /// So long, rounded up to a millisecond.
    For(Duration),
}

/// Names of tags: objects that lend their bytes.
#[derive(Default)]
pub(crate) struct Tags<'py>(Vec<Bound<'py, PyAny>>);

impl<'py> Tags<'py> {
    pub const NONE: Tags<'py> = Tags(Vec::new());

    /// None is no tag, a str or bytes is one, of anything else each item.
    pub fn of(object: &Bound<'py, PyAny>) -> PyResult<Tags<'py>> {
        if object.is_none() {
            return Ok(Tags::NONE);
        }
        let names = if text_or_bytes(object).is_ok() {
            vec![object.clone()]
        } else {
            object.try_iter()?.collect::<PyResult<Vec<_>>>()?
        };
        names.iter().try_for_each(|name| text_or_bytes(name).map(drop))?;
        Ok(Tags(names))
    }

    #[inline]
    pub fn names(&self) -> PyResult<Vec<&[u8]>> {
        self.0.iter().map(|name| Ok(text_or_bytes(name)?.1)).collect()
    }
}

impl<'a, 'py> FromPyObject<'a, 'py> for Tags<'py> {
    type Error = PyErr;

    fn extract(object: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        Tags::of(&object)
    }
}

/// How long a value is kept, and by which tags it may go before.
pub(crate) struct Keep<'py> {
    pub ttl: Ttl,
    pub tags: Tags<'py>,
}

/// The keywords of a write that have been given.
pub(crate) fn keep<'py>(
    py: Python<'py>,
    ttl: &Given<'py>,
    tags: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyDict>> {
    let keep = PyDict::new(py);
    if let Given::Value(ttl) = ttl {
        Ttl::of(ttl)?;
        keep.set_item("ttl", ttl)?;
    }
    if let Some(tags) = tags {
        // An iterator gives its items once, and a value may be stored more than once.
        keep.set_item("tags", Tags::of(tags)?.0)?;
    }
    Ok(keep)
}

impl From<Ttl> for Keep<'_> {
    fn from(ttl: Ttl) -> Self {
        Keep { ttl, tags: Tags::NONE }
    }
}

const DAY_SECONDS: i128 = 86_400;
const TIME_WANTED: &str = "a number of seconds (int or float) or a timedelta";
const TIME_OR_NONE_WANTED: &str = "a number of seconds (int or float), a timedelta, or None for ever";
/// Longer than this is for ever: half of what fits 64 bits of milliseconds.
const TTL_SECONDS_MAX: i128 = (u64::MAX / 2000) as i128;

impl Ttl {
    fn from_micros(micros: i128) -> Ttl {
        if micros <= 0 {
            return Ttl::Past;
        }
        let millis = (micros + 999) / 1000;
        if millis / 1000 > TTL_SECONDS_MAX { Ttl::Never } else { Ttl::For(Duration::from_millis(millis as u64)) }
    }

    /// What `object` says.
    #[inline]
    pub fn of(object: &Bound<'_, PyAny>) -> PyResult<Ttl> {
        Ttl::named("ttl", object)
    }

    /// What `object` says, which is the argument `name`.
    pub fn named(name: &str, object: &Bound<'_, PyAny>) -> PyResult<Ttl> {
        if object.is_none() {
            return Ok(Ttl::Never);
        }
        if object.is_instance_of::<PyBool>() {
            return Err(unfit(name, TIME_OR_NONE_WANTED, object));
        }
        if object.is_instance_of::<PyInt>() {
            let micros = object.extract::<i64>().map(|seconds| i128::from(seconds) * 1_000_000);
            // More seconds than fit 64 bits, in either direction.
            return Ok(Ttl::from_micros(
                micros.or_else(|_| object.lt(0).map(|past| if past { -1 } else { i128::MAX / 2 }))?,
            ));
        }
        if let Ok(float) = object.cast::<PyFloat>() {
            let seconds = float.value();
            if seconds.is_nan() {
                return Err(errors::invalid(object.py(), &format!("{name} is not a number (nan)")));
            }
            let micros = (seconds * 1e6).ceil().clamp(-1.0, 1e30) as i128;
            return Ok(Ttl::from_micros(micros));
        }
        if let Ok(delta) = object.cast::<PyDelta>() {
            let seconds = i128::from(delta.get_days()) * DAY_SECONDS + i128::from(delta.get_seconds());
            return Ok(Ttl::from_micros(seconds * 1_000_000 + i128::from(delta.get_microseconds())));
        }
        Err(unfit(name, TIME_OR_NONE_WANTED, object))
    }
}

/// The error for an argument of a type that it cannot have.
#[cold]
fn unfit(name: &str, wanted: &str, object: &Bound<'_, PyAny>) -> PyErr {
    match object.get_type().name() {
        Ok(class) => PyTypeError::new_err(format!("{name} is {wanted}; not {class}")),
        Err(error) => error,
    }
}

/// The error for an argument of the right type that is not allowed.
#[cold]
pub(crate) fn refused(name: &str, wanted: &str, object: &Bound<'_, PyAny>) -> PyErr {
    // An integer may have more digits than are ever written.
    let given = object.repr().map_or_else(|_| "what was given".to_owned(), |text| text.to_string());
    errors::invalid(object.py(), &format!("{name} is {wanted}, not {given}"))
}

/// A whole number in `range`.
pub(crate) fn count(name: &str, object: &Bound<'_, PyAny>, range: RangeInclusive<u64>) -> PyResult<u64> {
    let found = if object.is_instance_of::<PyBool>() { None } else { Some(object.extract::<u64>()) };
    match found {
        Some(Ok(count)) if range.contains(&count) => Ok(count),
        Some(Err(error)) if !error.is_instance_of::<PyOverflowError>(object.py()) => Err(unfit(name, "an int", object)),
        None => Err(unfit(name, "an int", object)),
        Some(_) => {
            let wanted = match range.into_inner() {
                (from, u64::MAX) => format!("{from} or more"),
                (from, to) => format!("{from} to {to}"),
            };
            Err(refused(name, &wanted, object))
        }
    }
}

/// A number of seconds, or a timedelta, as seconds: any but nan.
pub(crate) fn seconds(name: &str, object: &Bound<'_, PyAny>) -> PyResult<f64> {
    let seconds = if let Ok(delta) = object.cast::<PyDelta>() {
        f64::from(delta.get_days()) * DAY_SECONDS as f64
            + f64::from(delta.get_seconds())
            + f64::from(delta.get_microseconds()) / 1e6
    } else if !object.is_instance_of::<PyBool>()
        && (object.is_instance_of::<PyInt>() || object.is_instance_of::<PyFloat>())
    {
        // An int that no float holds is far beyond all that is waited for.
        object
            .extract::<f64>()
            .or_else(|_| object.gt(0).map(|more| if more { f64::INFINITY } else { -f64::INFINITY }))?
    } else {
        return Err(unfit(name, TIME_WANTED, object));
    };
    if seconds.is_nan() { Err(refused(name, TIME_WANTED, object)) } else { Ok(seconds) }
}

/// A longest wait in seconds, zero or more.
pub(crate) fn wait(name: &str, object: &Bound<'_, PyAny>) -> PyResult<f64> {
    match seconds(name, object)? {
        seconds if seconds >= 0.0 => Ok(seconds),
        _ => Err(refused(name, "zero or more seconds, as a number or a timedelta", object)),
    }
}

impl<'a, 'py> FromPyObject<'a, 'py> for Ttl {
    type Error = PyErr;

    fn extract(object: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        Ttl::of(&object)
    }
}

/// The longest deadline: a day.
const TIMEOUT_SECONDS_MAX: f64 = 86_400.0;

/// The deadline of writes: zero (try once) to a day.
pub(crate) fn timeout(object: &Bound<'_, PyAny>) -> PyResult<Duration> {
    match seconds("timeout", object)? {
        seconds if (0.0..=TIMEOUT_SECONDS_MAX).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err(refused("timeout", "a number of seconds from 0 (try once) to 86400 (a day)", object)),
    }
}

/// A size in bytes, as an int or as text such as "256MB".
pub(crate) fn size(object: &Bound<'_, PyAny>) -> PyResult<u64> {
    let py = object.py();
    let text = if object.is_exact_instance_of::<PyInt>() {
        object.str()?
    } else if let Ok(text) = object.cast::<PyString>() {
        text.clone()
    } else {
        let class = object.get_type();
        return Err(PyTypeError::new_err(format!(
            "size is a number of bytes (int) or text such as \"256MB\"; not {}",
            class.name()?
        )));
    };
    cache_shm::parse_size(&text.to_cow()?).map_err(|error| errors::exception(py, &error))
}

/// A group id, as an int or as a group's name.
pub(crate) fn group(object: &Bound<'_, PyAny>) -> PyResult<u32> {
    let py = object.py();
    if object.is_exact_instance_of::<PyInt>() {
        return count("group", object, 0..=u32::MAX.into()).map(|id| id as u32);
    }
    let Ok(name) = object.cast::<PyString>() else {
        let class = object.get_type();
        return Err(PyTypeError::new_err(format!(
            "group is a group id (int) or a group's name; not {}",
            class.name()?
        )));
    };
    match kept::load(py, "grp")?.call_method1("getgrnam", (name,)) {
        Ok(found) => found.getattr("gr_gid")?.extract(),
        Err(error) if error.is_instance_of::<pyo3::exceptions::PyKeyError>(py) => {
            Err(PyValueError::new_err(format!("there is no group named {:?}", name.to_cow()?)))
        }
        Err(error) => Err(error),
    }
}

/// A signed 64-bit integer that is not a bool.
pub(crate) fn integer(object: &Bound<'_, PyAny>) -> PyResult<i64> {
    if !object.is_exact_instance_of::<PyInt>() {
        let class = object.get_type();
        return Err(PyTypeError::new_err(format!("an int is needed; not {}", class.name()?)));
    }
    value::small_int(object)?.ok_or_else(|| errors::exception(object.py(), &Error::Overflow))
}

/// The same, or None.
pub(crate) fn optional_integer(object: &Bound<'_, PyAny>) -> PyResult<Option<i64>> {
    if object.is_none() { Ok(None) } else { integer(object).map(Some) }
}

/// Kind and bytes of a str or bytes.
pub(crate) fn text_or_bytes<'a>(object: &'a Bound<'_, PyAny>) -> PyResult<(u8, &'a [u8])> {
    if let Ok(text) = object.cast_exact::<PyString>() {
        return Ok((kind::STR, key::text_bytes(text)?));
    }
    if let Ok(bytes) = object.cast_exact::<PyBytes>() {
        return Ok((kind::BYTES, bytes.as_bytes()));
    }
    Err(errors::unsupported(object, "a str or bytes is needed"))
}

/// A token that `gets` gave: a version, or None for a key that was not there.
pub(crate) fn token(object: &Bound<'_, PyAny>) -> PyResult<Option<u64>> {
    if object.is_none() {
        return Ok(None);
    }
    if object.is_exact_instance_of::<PyInt>() {
        let wanted = "what gets returned beside the value";
        return object.extract::<u64>().map(Some).map_err(|_| refused("a token", wanted, object));
    }
    Err(unfit("a token", "what gets returned beside the value", object))
}

/// How long it is until `moment`: a datetime, or seconds since 1970.
pub(crate) fn until(moment: &Bound<'_, PyAny>) -> PyResult<Ttl> {
    let py = moment.py();
    let is_number =
        (moment.is_instance_of::<PyFloat>() || moment.is_instance_of::<PyInt>()) && !moment.is_instance_of::<PyBool>();
    let seconds = if is_number {
        moment.clone()
    } else if moment.is_instance_of::<PyDateTime>() {
        moment.call_method0(intern!(py, "timestamp"))?
    } else {
        let class = moment.get_type();
        return Err(PyTypeError::new_err(format!(
            "a moment is a datetime or a number of seconds since 1970; not {}",
            class.name()?
        )));
    };
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Ttl::of(&seconds.sub(since_1970.as_secs_f64())?)
}

/// Pairs of a mapping or of an iterable of pairs.
pub(crate) fn pairs<'py>(source: &Bound<'py, PyAny>) -> PyResult<Vec<(Bound<'py, PyAny>, Bound<'py, PyAny>)>> {
    let py = source.py();
    if let Ok(dict) = source.cast::<PyDict>() {
        return Ok(dict.iter().collect());
    }
    if source.hasattr(intern!(py, "keys"))? {
        let mut found = Vec::new();
        for key in source.call_method0(intern!(py, "keys"))?.try_iter()? {
            let key = key?;
            let value = source.get_item(&key)?;
            found.push((key, value));
        }
        return Ok(found);
    }
    source.try_iter()?.map(|pair| pair?.extract()).collect()
}
