//! Snapshots of the region: from time to time, at the end, and back at the start.
//!
//! Owns: the one thread that writes them, so that there are never two at once, and what is told of
//! them. A snapshot that fails leaves the last one as it is; see [`crate::snapshot`].

use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use cache_shm::Cache;

use super::bell::Bell;
use super::config::Config;
use crate::clock::unix_ms;
use crate::failure::{Failure, Result};
use crate::snapshot::{self, Options, Restored, Summary};

/// What became of the snapshots so far.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Told {
    /// Snapshots that were written.
    pub written: u64,
    /// Attempts that failed.
    pub failed: u64,
    /// When the last one was complete, in milliseconds since 1970; 0 is never.
    pub unix_ms: u64,
    /// How long it took.
    pub duration: Duration,
    /// Its bytes.
    pub bytes: u64,
    /// Its values.
    pub items: u64,
    /// Values that were restored at the start.
    pub restored: u64,
}

/// The file of the snapshots.
#[derive(Debug)]
pub struct Snapshots {
    file: PathBuf,
    interval: Duration,
    at_end: bool,
    told: Mutex<Told>,
}

impl Snapshots {
    /// As `config` says; `None` if it names no file.
    ///
    /// # Errors
    /// There is no directory for the file.
    pub fn new(config: &Config) -> Result<Option<Snapshots>> {
        let Some(file) = config.snapshot_file.clone() else { return Ok(None) };
        let directory = file.parent().unwrap_or("/".as_ref());
        let is_directory = std::fs::metadata(directory).map(|found| found.is_dir());
        match is_directory {
            Ok(true) => {}
            Ok(false) => return Err(Failure::file("write snapshots in", directory, &ErrorKind::NotADirectory.into())),
            Err(error) => return Err(Failure::file("write snapshots in", directory, &error)),
        }
        let (interval, at_end) = (config.snapshot_interval, config.snapshot_at_end);
        Ok(Some(Snapshots { file, interval, at_end, told: Mutex::default() }))
    }

    /// What became of them so far.
    pub fn told(&self) -> Told {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn tell(&self, change: impl FnOnce(&mut Told)) {
        change(&mut self.told.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Fills a region that is new. A file that cannot be used is told, and the region stays as it is:
    /// a cache that begins empty is better than none. A damaged one is put aside, so that the
    /// next snapshot does not replace what can still be saved of it.
    pub fn restore(&self, cache: &Cache) {
        let file = self.file.display();
        if matches!(std::fs::symlink_metadata(&self.file), Err(error) if error.kind() == ErrorKind::NotFound) {
            tracing::info!(%file, "there is no snapshot yet");
            return;
        }
        let began = Instant::now();
        match snapshot::restore(cache, &self.file, &Options::default(), &mut |_| ()) {
            Ok(Restored { stored, expired, tagged, .. }) => {
                self.tell(|told| told.restored = stored);
                let ms = began.elapsed().as_millis() as u64;
                tracing::info!(%file, values = stored, expired, tagged, ms, "restored the snapshot");
            }
            Err(error) => {
                tracing::error!(%file, %error, "the snapshot was not restored");
                if matches!(error, Failure::Snapshot { .. }) {
                    let aside = self.file.with_added_extension("damaged");
                    match std::fs::rename(&self.file, &aside) {
                        Ok(()) => tracing::warn!(file = %aside.display(), "put the damaged snapshot aside"),
                        Err(error) => tracing::warn!(%file, %error, "cannot put the damaged snapshot aside"),
                    }
                }
            }
        }
    }

    /// Writes one in every interval until the server ends.
    pub fn run(&self, cache: &Cache, bell: &Bell) {
        while !self.interval.is_zero() && !bell.wait(self.interval) {
            self.write(cache);
        }
    }

    /// Writes the last one, if the server ends with one. Nobody changes anything by now.
    pub fn finish(&self, cache: &Cache) {
        if self.at_end {
            self.write(cache);
        }
    }

    fn write(&self, cache: &Cache) {
        let file = self.file.display();
        // A region that was made anew is noticed by who writes; the second look is at the new one.
        let _ = cache.writer();
        let began = Instant::now();
        match snapshot::write(cache, &self.file, &mut |_| ()) {
            Ok(Summary { items, bytes, .. }) => {
                let duration = began.elapsed();
                self.tell(|told| {
                    told.written += 1;
                    (told.unix_ms, told.duration, told.bytes, told.items) = (unix_ms(), duration, bytes, items);
                });
                tracing::info!(%file, values = items, bytes, ms = duration.as_millis() as u64, "wrote a snapshot");
            }
            Err(error) => {
                self.tell(|told| told.failed += 1);
                tracing::error!(%file, %error, "no snapshot was written; the last one stays");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region() -> Cache {
        Cache::builder(None).size(2 << 20).create().unwrap()
    }

    fn snapshots(file: PathBuf) -> Snapshots {
        let mut config = Config::default();
        (config.snapshot_file, config.snapshot_at_end) = (Some(file), true);
        Snapshots::new(&config).unwrap().unwrap()
    }

    #[test]
    fn what_was_there_at_the_end_is_there_at_the_start() {
        let directory = tempfile::tempdir().unwrap();
        let snapshots = snapshots(directory.path().join("file"));
        let (before, after) = (region(), region());
        snapshots.restore(&after);
        assert_eq!(snapshots.told(), Told::default(), "there was none");
        before.set(b"key", b"value").unwrap();
        snapshots.finish(&before);
        snapshots.restore(&after);
        assert_eq!(after.get(b"key").unwrap().as_deref(), Some(&b"value"[..]));
        let told = snapshots.told();
        assert_eq!((told.written, told.failed, told.items, told.restored), (1, 0, 1, 1));
        assert!(told.unix_ms > 0 && told.bytes > 0);
    }

    #[test]
    fn a_damaged_snapshot_is_kept_aside_and_a_failure_leaves_the_last_one() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        std::fs::write(&file, b"no snapshot at all").unwrap();
        let snapshots = snapshots(file.clone());
        let cache = region();
        snapshots.restore(&cache);
        assert_eq!(std::fs::read(file.with_added_extension("damaged")).unwrap(), b"no snapshot at all");
        snapshots.finish(&cache);
        let written = std::fs::read(&file).unwrap();
        let closed = region();
        closed.clone().close();
        snapshots.finish(&closed);
        assert_eq!((snapshots.told().written, snapshots.told().failed), (1, 1));
        assert_eq!(std::fs::read(&file).unwrap(), written);
    }

    #[test]
    fn a_directory_that_is_not_there_is_told_at_once() {
        let mut config = Config::default();
        config.snapshot_file = Some("/nowhere/at/all".into());
        assert!(Snapshots::new(&config).unwrap_err().to_string().contains("/nowhere/at"));
        assert!(Snapshots::new(&Config::default()).unwrap().is_none());
    }
}
