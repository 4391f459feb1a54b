//! What memcached's protocol answers: numbers, and refusals in memcached's words.

use std::borrow::Cow;
use std::fmt::Display;

use cache_shm::Error;

/// Why a command is not carried out: the line that says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal(Cow<'static, str>);

impl Refusal {
    /// A refusal whose text is fixed.
    pub const fn fixed(text: &'static str) -> Refusal {
        Refusal(Cow::Borrowed(text))
    }

    /// The client is told of what the server met.
    fn of_server(error: impl Display) -> Refusal {
        // One line, whatever a path brings into it.
        Refusal(format!("SERVER_ERROR {error}").replace(['\r', '\n'], " ").into())
    }

    /// Writes the line.
    pub fn write(&self, out: &mut Vec<u8>) {
        line(out, &self.0);
    }
}

/// No such command, or not so many words.
pub const UNKNOWN: Refusal = Refusal::fixed("ERROR");
/// The words are not what they should be.
pub const BAD_FORMAT: Refusal = Refusal::fixed("CLIENT_ERROR bad command line format");
/// The data does not end where it was said to.
pub const BAD_DATA: Refusal = Refusal::fixed("CLIENT_ERROR bad data chunk");
/// No expiry.
pub const BAD_EXPIRY: Refusal = Refusal::fixed("CLIENT_ERROR invalid exptime argument");
/// The value is no number.
pub const NOT_NUMERIC: Refusal = Refusal::fixed("CLIENT_ERROR cannot increment or decrement non-numeric value");
/// The value is larger than the region takes.
pub const TOO_LARGE: Refusal = Refusal::fixed("SERVER_ERROR object too large for cache");
/// The region is full and drops nothing.
const OUT_OF_MEMORY: Refusal = Refusal::fixed("SERVER_ERROR out of memory storing object");

impl From<Error> for Refusal {
    fn from(error: Error) -> Refusal {
        match error {
            Error::ValueTooLarge { .. } => TOO_LARGE,
            Error::Full { .. } | Error::NoSpace { .. } => OUT_OF_MEMORY,
            Error::KeyEmpty | Error::KeyTooLong { .. } => BAD_FORMAT,
            error => Refusal::of_server(error),
        }
    }
}

/// Writes a line.
pub fn line(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Writes a number.
pub fn number(out: &mut Vec<u8>, number: impl itoa::Integer) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}
