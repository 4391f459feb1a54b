//! `get`, `set` and `get_or_set` without a general parser of arguments.
//!
//! The calls that users make most are entered straight from the interpreter's
//! vector call. Everything behind them is shared with the other methods; only reading the
//! arguments differs. A panic ends here as `InternalError`.

use std::ffi::CStr;
use std::panic::{AssertUnwindSafe, catch_unwind};

use cache_shm::Error;
use pyo3::PyTypeInfo;
use pyo3::exceptions::PyTypeError;
use pyo3::ffi::{self, PyMethodDef, PyMethodDefPointer};
use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple};

use crate::arguments::{Argument, Keep, Tags, Ttl};
use crate::cache::Cache;
use crate::errors;
use crate::flight::{self, Said};
use crate::key::{Key, Scratch};

struct Method(PyMethodDef);

// SAFETY: a constant: names, documentation and a function.
unsafe impl Sync for Method {}

const FLAGS: i32 = ffi::METH_FASTCALL | ffi::METH_KEYWORDS;

static GET: Method = Method(PyMethodDef {
    ml_name: c"get".as_ptr(),
    ml_meth: PyMethodDefPointer { PyCFunctionFastWithKeywords: get },
    ml_flags: FLAGS,
    ml_doc: GET_TEXT.as_ptr(),
});

static SET: Method = Method(PyMethodDef {
    ml_name: c"set".as_ptr(),
    ml_meth: PyMethodDefPointer { PyCFunctionFastWithKeywords: set },
    ml_flags: FLAGS,
    ml_doc: SET_TEXT.as_ptr(),
});

static GET_OR_SET: Method = Method(PyMethodDef {
    ml_name: c"get_or_set".as_ptr(),
    ml_meth: PyMethodDefPointer { PyCFunctionFastWithKeywords: get_or_set },
    ml_flags: FLAGS,
    ml_doc: GET_OR_SET_TEXT.as_ptr(),
});

const GET_TEXT: &CStr = c"get($self, key, default=None)
--

The value under `key`, or `default` when there is none.

Never waits for another process. The object is a fresh one each time.

>>> cache.set(\"a\", [1, 2])
>>> cache.get(\"a\")
[1, 2]
>>> cache.get(\"b\", \"nothing\")
'nothing'";

const SET_TEXT: &CStr = c"set($self, key, value, ttl=..., *, tags=...)
--

Stores `value` under `key` for `ttl` seconds (unset: the cache's default; None: for ever).

A ttl of zero or less means that the value is expired already: the key is removed. With
`tags`, a str, bytes or an iterable of these, the value goes when `evict_tag` names one of them.

Raises:
    UnsupportedType: The key or the value is of a type that is not stored.
    ValueTooLarge: The value has more bytes than a quarter of the region.
    Busy: Another process held the key's stripe for longer than the timeout.
    RegionFull: There is no room, and the region does not evict.
    InvalidLabel, TooManyTags: A tag has 1 to 255 bytes, a value 64 of them at most.

>>> cache.set(\"a\", \"text\", ttl=30)
>>> cache[\"a\"]
'text'";

const GET_OR_SET_TEXT: &CStr =
    c"get_or_set($self, key, default, ttl=..., *, tags=None, stale_ttl=None, early=None, negative_ttl=None, \
negative=None, on_error='call', wait=None)
--

The value under `key`; if there is none, what `default` returns, which is stored. A
`default` that is no function is stored and returned as by `setdefault`.

Of all threads and processes of the host that miss the key at the same time, one calls
the function; the others sleep until it is done and get its value. If it raises, that
caller gets the exception and the next one calls; if its process dies, the next one takes
over within milliseconds. Whoever would wait for its own thread (a recursion, another
greenlet), or has waited for `wait` seconds, calls the function itself.

A cache that fails does not fail the caller: the function is called, its value returned,
the error counted in `failures` and the first of its kind logged (\"pycache\").

Args:
    ttl, tags: As for `set`.
    stale_ttl: Seconds that the value is kept beyond `ttl`. In them one caller at a time
        makes it anew while all others get the old one at once. If the function raises,
        its caller gets the old value as well, the exception is counted in `failures` as
        \"renewal_failed\" and the first logged; the next caller tries again.
    early: Beta of XFetch: shortly before its end, the likelier the longer it took to make, the
        value is made anew by one caller, as above; 1 is usual, 2 is earlier.
    negative_ttl: Seconds for which exceptions of `negative` are remembered: whoever misses
        the key gets one of the same class and arguments, and no function is called.
    negative: Classes of exceptions, one or a tuple. Remembered are those that their class
        makes again from their ``args``, and whose ``args`` can be stored.
    on_error: \"raise\" raises such errors instead, and those of a function that makes a
        value anew.
    wait: Longest wait for another caller, in seconds: 20, below the 30 after which
        servers and proxies give up on a request.

>>> cache.get_or_set(\"a\", lambda: 6 * 7, ttl=60)
42
>>> cache.get_or_set(\"a\", 0)
42";

/// Gives the class these methods.
pub(crate) fn register(py: Python<'_>) -> PyResult<()> {
    let class = Cache::type_object(py);
    for (name, method) in [("get", &GET), ("set", &SET), ("get_or_set", &GET_OR_SET)] {
        // SAFETY: Y1; the definition is a constant that CPython only reads. Y5: a new
        // reference or an error.
        let descriptor = unsafe {
            let method = std::ptr::from_ref(&method.0).cast_mut();
            Bound::from_owned_ptr_or_err(py, ffi::PyDescr_NewMethod(class.as_type_ptr(), method))?
        };
        class.setattr(name, descriptor)?;
    }
    Ok(())
}

/// The arguments of one vector call.
struct Call<'a, 'py> {
    py: Python<'py>,
    function: &'static str,
    arguments: &'a [*mut ffi::PyObject],
    /// Values of the keywords, and a tuple of their names, or null.
    values: *const *mut ffi::PyObject,
    keywords: *mut ffi::PyObject,
}

impl<'a, 'py> Call<'a, 'py> {
    /// The arguments by the names of the parameters, of which the first `positional` may go without.
    #[inline(always)]
    fn parse<const COUNT: usize>(
        &self,
        names: [&'static str; COUNT],
        positional: usize,
    ) -> PyResult<[Argument<'a, 'py>; COUNT]> {
        let mut found: [Argument<'a, 'py>; COUNT] = [None; COUNT];
        if self.arguments.len() > positional {
            let given = self.arguments.len();
            return Err(self.wrong(&format!("takes at most {positional} positional arguments ({given} given)")));
        }
        for (place, argument) in found.iter_mut().zip(self.arguments) {
            // SAFETY: Y2: the interpreter holds the arguments during the call.
            *place = Some(unsafe { Borrowed::from_ptr(self.py, *argument) });
        }
        if !self.keywords.is_null() {
            self.parse_keywords(&names, &mut found)?;
        }
        Ok(found)
    }

    #[cold]
    fn parse_keywords(&self, names: &[&'static str], found: &mut [Argument<'a, 'py>]) -> PyResult<()> {
        // SAFETY: Y2, Y3: a vector call names its keywords in a tuple of str.
        let keywords = unsafe { Borrowed::from_ptr(self.py, self.keywords).cast_unchecked::<PyTuple>() };
        for (at, name) in keywords.iter_borrowed().enumerate() {
            let name = name.cast::<PyString>()?;
            let name = name.to_cow()?;
            let Some(place) = names.iter().position(|known| *known == name) else {
                return Err(self.wrong(&format!("has no argument named {name:?}")));
            };
            if found[place].is_some() {
                return Err(self.wrong(&format!("got {name:?} twice")));
            }
            // SAFETY: Y2: there are as many values as names.
            found[place] = Some(unsafe { Borrowed::from_ptr(self.py, *self.values.add(at)) });
        }
        Ok(())
    }

    #[cold]
    fn missing(&self, name: &str) -> PyErr {
        self.wrong(&format!("is missing its argument {name:?}"))
    }

    #[cold]
    fn wrong(&self, what: &str) -> PyErr {
        PyTypeError::new_err(format!("{}() {what}", self.function))
    }
}

/// Runs `body` on the cache that is `this`, and gives its outcome to the interpreter.
///
/// # Safety
/// - The interpreter calls it as a vector call of a method of `Cache`: attached, `this`
///   of that type, `count` arguments, then the values of the keywords.
#[inline(always)]
unsafe fn enter<F>(
    function: &'static str,
    this: *mut ffi::PyObject,
    arguments: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    keywords: *mut ffi::PyObject,
    body: F,
) -> *mut ffi::PyObject
where
    F: for<'a, 'py> FnOnce(Borrowed<'a, 'py, Cache>, Call<'a, 'py>) -> PyResult<Bound<'py, PyAny>>,
{
    // SAFETY: Y1: the caller's duty.
    let py = unsafe { Python::assume_attached() };
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        // SAFETY: Y2: the interpreter holds `this` and the arguments during the call. Y3:
        // the descriptor checked the type.
        let (this, call) = unsafe {
            let this = Borrowed::from_ptr(py, this).cast_unchecked::<Cache>();
            let values = arguments.add(count as usize);
            // No arguments may come as a null pointer.
            let arguments = if count == 0 { &[] } else { std::slice::from_raw_parts(arguments, count as usize) };
            (this, Call { py, function, arguments, values, keywords })
        };
        body(this, call)
    }));
    match outcome {
        Ok(Ok(object)) => object.into_ptr(),
        Ok(Err(error)) => {
            error.restore(py);
            std::ptr::null_mut()
        }
        Err(_) => {
            errors::exception(py, &Error::Internal).restore(py);
            std::ptr::null_mut()
        }
    }
}

unsafe extern "C" fn get(
    this: *mut ffi::PyObject,
    arguments: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    keywords: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: the interpreter calls it as a vector call of a method of `Cache`.
    unsafe {
        enter("get", this, arguments, count, keywords, |cache, call| {
            let [key, default] = call.parse(["key", "default"], 2)?;
            let key = key.ok_or_else(|| call.missing("key"))?;
            let mut scratch = Scratch::new();
            match cache.get().lookup(call.py, Key::of(&key, &mut scratch)?.bytes)? {
                Some(value) => Ok(value),
                None => Ok(default.map_or_else(|| call.py.None().into_bound(call.py), |default| default.to_owned())),
            }
        })
    }
}

unsafe extern "C" fn set(
    this: *mut ffi::PyObject,
    arguments: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    keywords: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: as for `get`.
    unsafe {
        enter("set", this, arguments, count, keywords, |cache, call| {
            let [key, value, ttl, tags] = call.parse(["key", "value", "ttl", "tags"], 3)?;
            let key = key.ok_or_else(|| call.missing("key"))?;
            let value = value.ok_or_else(|| call.missing("value"))?;
            let ttl = ttl.map_or(Ok(Ttl::Unset), |ttl| Ttl::of(&ttl))?;
            let tags = tags.map_or(Ok(Tags::NONE), |tags| Tags::of(&tags))?;
            cache.get().set(&key, &value, &Keep { ttl, tags })?;
            Ok(call.py.None().into_bound(call.py))
        })
    }
}

unsafe extern "C" fn get_or_set(
    this: *mut ffi::PyObject,
    arguments: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    keywords: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: as for `get`.
    unsafe {
        enter("get_or_set", this, arguments, count, keywords, |cache, call| {
            let names =
                ["key", "default", "ttl", "tags", "stale_ttl", "early", "negative_ttl", "negative", "on_error", "wait"];
            let [key, default, ttl, options @ ..] = call.parse(names, 3)?;
            let key = key.ok_or_else(|| call.missing("key"))?;
            let default = default.ok_or_else(|| call.missing("default"))?;
            let [tags, stale_ttl, early, negative_ttl, negative, on_error, wait] =
                options.map(|option| option.filter(|option| !option.is_none()));
            let said = Said { ttl, tags, stale_ttl, early, negative_ttl, negative, on_error, wait };
            flight::get_or_set(&cache, &key, &default, &said)
        })
    }
}
