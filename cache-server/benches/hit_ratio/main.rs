//! The hit ratios of ten real request streams through a real region, beside what plain
//! caches of the same capacity get, two real ones among them, and the bound of any.
//!
//! ```text
//! CACHE_SHM_TRACES=DIRECTORY cargo bench -p cache-server --features rivals --bench hit_ratio [-- --full] [--json] [NAME...]
//! ```
//!
//! The directory holds `NAME.txt.zst` (or `.txt`, `.txt.gz`). Without `--full`, the
//! seventeen [`limits`] and their mean; with it, also every stream at 1, 5, 10 and 20 % of
//! its keys, and one by bytes ([`points`]), which takes all [`policies`]. The run fails if a
//! row of the limits is too low, or if anything beats the bound. With `--json`, a line of
//! JSON for each row; `make hit-ratio` writes the page of them.

mod limits;
mod points;
mod policies;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use cache_server::failure::{Failure, Result};
use cache_server::replay::Stream;

/// What was asked for.
struct Options {
    directory: PathBuf,
    /// Streams to measure; all, if empty.
    wanted: Vec<String>,
    json: bool,
    full: bool,
}

impl Options {
    /// The file of a trace that is wanted; says so where it is absent.
    fn file_of(&self, trace: &str) -> Option<PathBuf> {
        if !self.wanted.is_empty() && !self.wanted.iter().any(|name| name == trace) {
            return None;
        }
        let named = |end| self.directory.join(format!("{trace}.{end}"));
        let found = ["txt.zst", "txt.gz", "txt"].map(named).into_iter().find(|path| path.exists());
        if found.is_none() {
            println!("SKIP: hit ratio of {trace}: no such trace in {}", self.directory.display());
        }
        found
    }
}

/// The whole of a trace, with values of one size that the calibration chooses.
fn stream_of(path: &Path) -> Stream {
    Stream {
        path: path.to_owned(),
        value_bytes: None,
        value_bytes_default: 0,
        requests_max: u64::MAX,
        stores_max: u64::MAX,
        remember: true,
    }
}

fn measure(options: &Options) -> Result<bool> {
    let limits = limits::run(options)?;
    let points = if options.full { points::run(options, limits.known)? } else { 0 };
    if limits.shown + points == 0 {
        return Err(Failure::usage(format!("no trace of the table is in {}", options.directory.display())));
    }
    Ok(limits.hold)
}

fn main() -> ExitCode {
    // `cargo bench` adds --bench to the arguments.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let Some(directory) = std::env::var_os("CACHE_SHM_TRACES").map(PathBuf::from) else {
        println!("SKIP: hit ratio of real request streams: CACHE_SHM_TRACES does not name their directory");
        return ExitCode::SUCCESS;
    };
    let (json, full) = (has("--json"), has("--full"));
    let wanted = arguments.into_iter().filter(|argument| !argument.starts_with('-')).collect();
    match measure(&Options { directory, wanted, json, full }) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            println!("a row is lower beside textbook S3-FIFO than it may be");
            ExitCode::FAILURE
        }
        Err(failure) => {
            eprintln!("hit_ratio: {failure}");
            ExitCode::FAILURE
        }
    }
}
