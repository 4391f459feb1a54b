//! What the command says when it does not do what it was asked.
//!
//! Owns: the failure type of the command and its two forms, text and JSON. The
//! cache's own errors keep their text, word and number; what only the command can
//! meet (its arguments, its files) borrows the row of the same table that fits.

use std::fmt;
use std::io;
use std::path::Path;

use cache_shm::{Error, error};
use serde_json::{Value, json};

use crate::snapshot::Problem;

/// What the command's functions return.
pub type Result<T> = std::result::Result<T, Failure>;

/// Why the command ends with exit code 2.
#[derive(Debug)]
pub enum Failure {
    /// The cache refused.
    Cache(Error),
    /// The command's arguments or input make no sense.
    Usage(String),
    /// A file of the user's cannot be read or written.
    File {
        /// What was tried, for example "read the trace".
        doing: &'static str,
        /// The file.
        path: String,
        /// What the system said.
        reason: String,
    },
    /// A snapshot cannot be used as it is.
    Snapshot {
        /// The file.
        path: String,
        /// What is wrong with it.
        problem: Problem,
    },
    /// A restore ended before its end.
    Stopped {
        /// Why.
        cause: Box<Failure>,
        /// Values that were stored by then.
        stored: u64,
        /// About how many there are.
        items: u64,
    },
    /// Whoever watched it ended it.
    Cancelled,
    /// A result contradicts itself: the measurement, or the cache, is wrong.
    Measurement(String),
    /// Whoever reads the output is gone; nothing is left to say.
    OutputClosed,
}

impl Failure {
    /// A mistake in the arguments or the input.
    pub fn usage(message: impl Into<String>) -> Failure {
        Failure::Usage(message.into())
    }

    /// A file that could not be used.
    pub fn file(doing: &'static str, path: &Path, error: &io::Error) -> Failure {
        Failure::File { doing, path: path.display().to_string(), reason: error.to_string() }
    }

    /// The same failure, of this file if it is one of a stream that has no name.
    pub(crate) fn at(self, file: &Path) -> Failure {
        match self {
            Failure::File { doing, reason, .. } => Failure::File { doing, path: file.display().to_string(), reason },
            other => other,
        }
    }

    /// The row of the table of errors under which this failure is reported.
    fn row(&self) -> error::Rendering {
        let like = match self {
            Failure::Cache(error) => return error.rendering(),
            Failure::Usage(_) => Error::InvalidArgument { reason: "" },
            Failure::File { .. } => Error::Io { operation: "", errno: 0, path: Default::default() },
            Failure::Snapshot { problem, .. } => match *problem {
                Problem::NotSnapshot => Error::InvalidArgument { reason: "" },
                Problem::Version { found } => Error::FormatVersion { path: Default::default(), found, supported: 0 },
                Problem::Damaged { .. } => Error::Corrupt { reason: "" },
                Problem::Truncated { bytes } => Error::Truncated { path: Default::default(), bytes, bytes_expected: 0 },
            },
            Failure::Stopped { cause, .. } => return cause.row(),
            Failure::Cancelled => Error::Closed,
            Failure::Measurement(_) | Failure::OutputClosed => Error::Internal,
        };
        like.rendering()
    }

    /// The exit code: always that of an error, but for a reader who had enough.
    pub fn exit_code(&self) -> u8 {
        match self {
            Failure::OutputClosed => 0,
            _ => self.row().exit_code,
        }
    }

    /// `{"error": {"word": ..., "number": ..., "message": ...}}`
    pub fn json(&self) -> Value {
        let row = self.row();
        json!({"error": {"word": row.word, "number": row.number, "message": self.to_string()}})
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Cache(error) => error.fmt(f),
            Failure::Usage(message) | Failure::Measurement(message) => f.write_str(message),
            Failure::File { doing, path, reason } => write!(f, "cannot {doing} {path}: {reason}"),
            Failure::Snapshot { path, problem } => write!(f, "{path} {problem}"),
            Failure::Stopped { cause, stored, items } => {
                write!(f, "{cause}; {stored} of about {items} values were stored before, and stay")
            }
            Failure::Cancelled => f.write_str("it was ended before its end"),
            Failure::OutputClosed => f.write_str("the output was closed"),
        }
    }
}

impl std::error::Error for Failure {}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Cache(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_failure_has_a_word_and_a_number_of_the_table() {
        let failures = [
            (Failure::Cache(Error::KeyEmpty), "key_empty"),
            (Failure::usage("no"), "invalid_argument"),
            (Failure::file("read", Path::new("x"), &io::ErrorKind::NotFound.into()), "io"),
            (Failure::Measurement("beaten".into()), "internal"),
        ];
        for (failure, word) in failures {
            let json = failure.json();
            assert_eq!(json["error"]["word"], word);
            assert!(json["error"]["number"].as_i64().unwrap() >= 2);
            assert_eq!(failure.exit_code(), 2);
        }
    }
}
