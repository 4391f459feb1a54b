//! What a handle does with values beyond the built-in encodings: its serializer, and
//! whether values are compressed or signed.
//!
//! Owns: the choice, and the way to `pycache._codecs`, which does the work. The default
//! costs a read one look at a flag.

use std::path::Path;

use cache_core::{Error, kind};
use pyo3::exceptions::{PyException, PyMemoryError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString};

use super::{Payload, Serializer, decode_plain};
use crate::errors;
use crate::kept::Kept;

/// See the module.
pub(crate) struct Coder {
    pub serializer: Serializer,
    /// Values are compressed, signed or both.
    pub seals: bool,
    /// Values are compressed, so that more may fit.
    pub compresses: bool,
    /// Only values that carry a good signature are read.
    pub signs: bool,
    /// An instance of `pycache._codecs.Codec`, and its kind and name.
    codec: Option<(Py<PyAny>, u8, String)>,
    /// The constructor's arguments that say all this.
    given: Option<Py<PyDict>>,
}

/// What the constructor was told.
pub(crate) struct Wanted<'a, 'py> {
    pub serializer: Option<&'a Bound<'py, PyAny>>,
    pub compress: Option<&'a str>,
    pub compress_min: i64,
    pub secret: Option<&'a Bound<'py, PyAny>>,
    /// Where the secret was read, if it was.
    pub secret_file: Option<&'a Path>,
}

impl Coder {
    /// The safe types as they are.
    pub const SAFE: Coder =
        Coder { serializer: Serializer::Safe, seals: false, compresses: false, signs: false, codec: None, given: None };

    pub fn new(py: Python<'_>, wanted: &Wanted<'_, '_>) -> PyResult<Coder> {
        let Wanted { serializer, compress, compress_min, secret, secret_file } = wanted;
        if serializer.is_none() && compress.is_none() && secret.is_none() {
            return Ok(Coder::SAFE);
        }
        let given = PyDict::new(py);
        given.set_item("serializer", serializer)?;
        given.set_item("compress", compress)?;
        given.set_item("compress_min", compress_min)?;
        // Whoever unpickles a handle reads the file itself.
        match secret_file {
            Some(file) => given.set_item("secret_file", file.as_os_str())?,
            None => given.set_item("secret", secret)?,
        }
        let pickles = match serializer {
            Some(serializer) => serializer.cast::<PyString>().is_ok_and(|name| name == "pickle"),
            None => false,
        };
        let seals = compress.is_some() || secret.is_some();
        let mut coder = Coder {
            serializer: match (serializer, pickles) {
                (None, _) => Serializer::Safe,
                (Some(_), true) => Serializer::Pickle,
                (Some(_), false) => Serializer::Other,
            },
            seals,
            compresses: compress.is_some(),
            signs: secret.is_some(),
            codec: None,
            given: None,
        };
        if seals || coder.serializer == Serializer::Other {
            let named = if pickles { &None } else { serializer };
            let codec = codecs(py)?.getattr("Codec")?.call1((named, compress, compress_min, secret));
            let codec = codec.map_err(|error| invalid(py, error))?;
            let (number, name) = (codec.getattr("kind")?.extract()?, codec.getattr("name")?.extract()?);
            coder.codec = Some((codec.unbind(), number, name));
        }
        coder.given = Some(given.unbind());
        Ok(coder)
    }

    /// The same for the values of another namespace.
    pub fn within(&self, py: Python<'_>, namespace: &str) -> PyResult<Coder> {
        let within = |(codec, number, name): &(Py<PyAny>, u8, String)| {
            let codec = codec.bind(py).call_method1(intern!(py, "within"), (namespace,))?;
            Ok::<_, PyErr>((codec.unbind(), *number, name.clone()))
        };
        let codec = self.codec.as_ref().map(within).transpose()?;
        let given = self.given.as_ref().map(|given| given.clone_ref(py));
        Ok(Coder { codec, given, ..*self })
    }

    /// Adds the arguments that make another handle do the same.
    pub fn reopen(&self, keywords: &Bound<'_, PyDict>) -> PyResult<()> {
        match &self.given {
            Some(given) => keywords.update(given.bind(keywords.py()).as_mapping()),
            // Said, so that nothing else is taken from the other process's configuration.
            None => {
                ["serializer", "compress", "secret"].iter().try_for_each(|name| keywords.set_item(name, None::<u8>))
            }
        }
    }

    /// True if pickles are read.
    pub fn pickles(&self) -> bool {
        self.serializer == Serializer::Pickle
    }

    fn codec<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        match &self.codec {
            Some((codec, ..)) => Ok(codec.bind(py).clone()),
            None => codecs(py)?.getattr("READER"),
        }
    }

    /// Kind and bytes of an object that has no kind of its own.
    pub fn dumps<'a, 'py>(&self, object: &Bound<'py, PyAny>) -> PyResult<(u8, Payload<'a, 'py>)> {
        let made = self.codec(object.py())?.call_method1(intern!(object.py(), "dumps"), (object,))?;
        let (number, bytes) = made.extract::<(u8, Bound<'py, PyBytes>)>()?;
        Ok((number, Payload::Object(bytes)))
    }

    /// What is stored in place of `bytes` of `number`.
    #[cold]
    pub fn seal<'a, 'py>(
        &self,
        py: Python<'py>,
        key: &[u8],
        number: u8,
        bytes: &[u8],
    ) -> PyResult<(u8, Payload<'a, 'py>)> {
        let parts = (number, PyBytes::new(py, key), PyBytes::new(py, bytes));
        let sealed = self.codec(py)?.call_method1(intern!(py, "seal"), parts)?;
        let (number, bytes) = sealed.extract::<(u8, Bound<'py, PyBytes>)>()?;
        Ok((number, Payload::Object(bytes)))
    }

    /// The object of a value that is signed or compressed, or should be signed.
    #[cold]
    pub fn open<'py>(&self, py: Python<'py>, key: &[u8], number: u8, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
        let parts = (number, PyBytes::new(py, key), PyBytes::new(py, bytes));
        let opened = self.codec(py)?.call_method1(intern!(py, "open"), parts)?;
        if let Ok(word) = opened.cast::<PyString>() {
            let reason = match &*word.to_cow()? {
                "compressed" => {
                    let reason = "not a compressed value";
                    return Err(errors::exception(py, &Error::BadEncoding { kind: number, offset: 0, reason }));
                }
                "no secret" => "it is signed, and this handle has no secret to check that",
                "unsigned" => "it is not signed, and this handle reads only what was written with its secret",
                _ => "it was changed, is another key's, or was written with another secret",
            };
            return Err(errors::exception(py, &Error::BadSignature { reason }));
        }
        let (number, bytes) = opened.extract::<(u8, Bound<'py, PyBytes>)>()?;
        if number == kind::BYTES {
            return Ok(bytes.into_any());
        }
        decode_plain(py, number, bytes.as_bytes(), self)
    }

    /// The object that a serializer made bytes of, if it is the one of this handle.
    #[cold]
    pub fn loads<'py>(&self, py: Python<'py>, number: u8, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
        let (found, bytes) = match number {
            kind::JSON => ("json".into(), bytes),
            kind::MSGPACK => ("msgpack".into(), bytes),
            _ => match bytes.split_first().and_then(|(count, rest)| rest.split_at_checked(usize::from(*count))) {
                Some((name, rest)) => (String::from_utf8_lossy(name), rest),
                None => {
                    let reason = "no name of a serializer";
                    return Err(errors::exception(py, &Error::BadEncoding { kind: number, offset: 0, reason }));
                }
            },
        };
        let Some((codec, _, _)) = self.codec.as_ref().filter(|(_, own, name)| *own == number && *name == found) else {
            return Err(errors::exception(py, &Error::WrongSerializer { found: found.into_owned() }));
        };
        let outcome = codec.bind(py).getattr(intern!(py, "loads"))?.call1((PyBytes::new(py, bytes),));
        outcome.map_err(|error| {
            let is_data = error.is_instance_of::<PyException>(py) && !error.is_instance_of::<PyMemoryError>(py);
            if number == kind::NAMED || !is_data {
                return error;
            }
            let reason = if number == kind::JSON { "not JSON" } else { "not MessagePack" };
            let bad = errors::exception(py, &Error::BadEncoding { kind: number, offset: 0, reason });
            bad.set_cause(py, Some(error));
            bad
        })
    }
}

fn codecs(py: Python<'_>) -> PyResult<Bound<'_, PyModule>> {
    static CODECS: Kept<Py<PyModule>> = Kept::new();
    CODECS.import(py, "pycache._codecs").cloned()
}

/// A ValueError of the constructor as the error of a wrong argument.
fn invalid(py: Python<'_>, error: PyErr) -> PyErr {
    const REASONS: [&str; 5] = [
        "serializer is \"pickle\", \"json\", \"msgpack\", \"msgspec\" or an object with dumps and loads",
        "the name of a serializer has 1 to 255 bytes",
        "compress is \"zstd\", \"lz4\" or \"zlib\"",
        "compress_min is a number of bytes",
        "secret is str or bytes of at least 16 bytes, such as secrets.token_bytes(32)",
    ];
    if !error.is_instance_of::<PyValueError>(py) {
        return error;
    }
    let text = error.value(py).str().map(|text| text.to_string()).unwrap_or_default();
    match REASONS.iter().find(|reason| **reason == text) {
        Some(reason) => errors::exception(py, &Error::InvalidArgument { reason }),
        None => error,
    }
}
