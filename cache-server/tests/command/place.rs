//! Runs the built command in a directory of its own.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// A directory for regions, gone at the end of the test.
pub struct Place {
    directory: tempfile::TempDir,
}

/// What a run of the command left: exit code, standard output, standard error.
#[derive(Debug)]
pub struct Run {
    pub code: i32,
    pub out: Vec<u8>,
    pub err: String,
}

impl Run {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.out).unwrap()
    }

    /// Standard output as one JSON value.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The error on standard error as JSON: word, number and message.
    pub fn error(&self) -> (String, i64, String) {
        let value: Value = serde_json::from_str(&self.err).unwrap_or_else(|error| panic!("{error}: {self:?}"));
        let error = &value["error"];
        let text = |name: &str| error[name].as_str().unwrap_or_else(|| panic!("no {name}: {self:?}")).to_owned();
        (text("word"), error["number"].as_i64().unwrap(), text("message"))
    }

    #[track_caller]
    pub fn done(self) -> Run {
        assert_eq!((self.code, self.err.as_str()), (0, ""), "{self:?}");
        self
    }

    /// The command failed with exit code 2, said why in the error table's word, and
    /// printed nothing.
    #[track_caller]
    pub fn failed(&self, word: &str) -> String {
        let (found, number, message) = self.error();
        assert_eq!((self.code, found.as_str()), (2, word), "{self:?}");
        assert!(number >= 2 && self.out.is_empty(), "{self:?}");
        message
    }
}

impl Place {
    pub fn new() -> Place {
        Place { directory: tempfile::tempdir().unwrap() }
    }

    /// A place with a region `r` of 1 MiB.
    pub fn with_region() -> Place {
        let place = Place::new();
        place.run(&["create", "r", "--size", "1MiB"]).done();
        place
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Writes a file that is no region, beside the regions.
    pub fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cache-shm"));
        // Not what this user has configured.
        command.env("CACHE_SHM_CONFIG", "").env("CACHE_SHM_DIR", self.path()).args(arguments).stdin(Stdio::null());
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Run {
        finished(self.command(arguments).output().unwrap())
    }

    /// Runs the command with `input` on standard input.
    pub fn run_with(&self, arguments: &[&str], input: &[u8]) -> Run {
        let mut command = self.command(arguments);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let writer = std::thread::spawn({
            let input = input.to_vec();
            move || {
                // A command that fails early does not read its input.
                let _ = stdin.write_all(&input);
            }
        });
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        finished(output)
    }
}

pub fn finished(output: Output) -> Run {
    Run {
        code: output.status.code().expect("the command was not killed"),
        out: output.stdout,
        err: String::from_utf8(output.stderr).unwrap(),
    }
}
