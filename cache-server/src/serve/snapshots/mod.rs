//! Snapshots of the region: from time to time, at the end, and back at the start.
//!
//! Owns: the one thread that writes them, so that there are never two at once, and what is told of
//! them. A snapshot that fails leaves the last one as it is; see [`crate::snapshot`].
//!
//! Beside the file `NAME` a mark, `.NAME.region`, says which region has all that is in it: the
//! one that it was made of, or was restored to. It names the file by its id, so one that somebody put
//! in its place is told apart. So nothing is restored twice, a restore that was ended is
//! taken up by the next start, and nothing that is in no region any more is replaced:
//!
//! ```text
//! the mark names       restore             snapshot
//! the region           not: it has all     replaces the file
//! another region       yes                 keeps the file as NAME.before first
//! nothing              if the region is    keeps the file as NAME.before first
//!                      newer than the file
//! ```
//!
//! Where a restore was tried and not all of it is in the region, the file is kept as `NAME.unrestored` instead.
//!
//! `beside` has the files: the mark, and what is kept.

mod beside;
#[cfg(test)]
mod tests;

use std::io::{self, ErrorKind};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use cache_shm::Cache;

use super::bell::Bell;
use super::config::Config;
use crate::clock::unix_ms;
use crate::failure::{Failure, Result};
use crate::snapshot::{self, Options, Problem, Restored, Summary, Unpublished, Watch};
use beside::{Kept, Mark};

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
    /// A restore was tried, and the region lacks something of the file.
    is_unrestored: AtomicBool,
    is_given_up: AtomicBool,
    told: Mutex<Told>,
}

impl Snapshots {
    /// As `config` says; `None` if it names no file.
    ///
    /// # Errors
    /// No snapshot can be written there, or something stands where its mark belongs.
    pub fn new(config: &Config) -> Result<Option<Snapshots>> {
        let Some(file) = config.snapshot_file.clone() else { return Ok(None) };
        snapshot::check_place(&file)?;
        beside::check(&file)?;
        let (interval, at_end) = (config.snapshot_interval, config.snapshot_at_end);
        let (is_unrestored, is_given_up) = (AtomicBool::new(false), AtomicBool::new(false));
        Ok(Some(Snapshots { file, interval, at_end, is_unrestored, is_given_up, told: Mutex::default() }))
    }

    /// What became of them so far.
    pub fn told(&self) -> Told {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn tell(&self, change: impl FnOnce(&mut Told)) {
        change(&mut self.told.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// True if the file holds what the region lacks; why not is told.
    pub fn is_wanted(&self, cache: &Cache) -> Result<bool> {
        let file = self.file.display();
        let region = cache.map()?.host().identity();
        if !self.exists() {
            tracing::info!(%file, "there is no snapshot yet");
            return Ok(false);
        }
        match beside::marked(&self.file) {
            Some(mark) if mark.region_id == region.region_id => {
                tracing::info!(%file, "the snapshot is not restored: the region has all that is in it");
                Ok(false)
            }
            Some(_) => Ok(true),
            None => {
                // One that cannot be read is told by the restore.
                let region_is_older =
                    snapshot::header(&self.file).is_ok_and(|header| header.created_unix_ms >= region.created_unix_ms);
                if region_is_older {
                    tracing::warn!(
                        %file,
                        "the snapshot is not restored: the region was there before it, and may have dropped what is in \
                         it; `cache-shm restore` stores what is missing"
                    );
                }
                Ok(!region_is_older)
            }
        }
    }

    /// Stores what the region lacks. Breaks if `watch` did; the next start goes on then. A file that cannot
    /// be used is told, and the region stays as it is: a cache that begins empty is better than none. A
    /// damaged one is put aside, so that the next snapshot does not replace what can still be
    /// saved of it.
    pub fn restore(&self, cache: &Cache, watch: &mut Watch<'_>) -> ControlFlow<()> {
        let file = self.file.display();
        tracing::info!(%file, "restoring the snapshot");
        let began = Instant::now();
        let region_id = || cache.map().map(|map| map.host().identity().region_id).ok();
        let before = region_id();
        // Also what others evicted meanwhile: it may have been of the snapshot.
        let evictions = || cache.stats().map_or(0, |stats| stats.evictions);
        let evictions_before = evictions();
        // Until all of it is stored.
        self.is_unrestored.store(true, Ordering::Relaxed);
        match snapshot::restore(cache, &self.file, &Options::default(), watch) {
            Ok(restored) => {
                let Restored { stored, expired, tagged, too_large, without_namespace, .. } = restored;
                self.tell(|told| told.restored = stored);
                if restored.is_from_future() {
                    let created_unix_ms = restored.created_unix_ms;
                    tracing::warn!(%file, created_unix_ms, "the snapshot was made later than now: a clock is wrong");
                }
                let ms = began.elapsed().as_millis() as u64;
                tracing::info!(%file, values = stored, expired, tagged, ms, "restored the snapshot");
                let evicted = evictions().abs_diff(evictions_before);
                if before.is_none_or(|before| region_id() != Some(before)) {
                    tracing::warn!(%file, "the region was replaced while the snapshot was restored");
                } else if too_large + without_namespace + evicted > 0 {
                    tracing::warn!(
                        %file, too_large, without_namespace, evicted, "the region has no room for some of the values"
                    );
                } else if let Some(region_id) = before {
                    self.is_unrestored.store(false, Ordering::Relaxed);
                    if let Err(error) = beside::mark(&self.file, &[Mark { region_id, id: restored.id }]) {
                        tracing::warn!(%file, %error, "the next start will restore the snapshot again");
                    }
                }
            }
            Err(error) => {
                let cause = match &error {
                    Failure::Stopped { cause, stored, .. } => {
                        self.tell(|told| told.restored = *stored);
                        cause
                    }
                    cause => cause,
                };
                match cause {
                    Failure::Cancelled => {
                        tracing::info!(%file, "ended before the snapshot was restored; the next start goes on");
                        return ControlFlow::Break(());
                    }
                    Failure::Snapshot { problem, .. } if !matches!(problem, Problem::Version { .. }) => {
                        tracing::error!(%file, %error, "the snapshot was not restored");
                        // What is told is enough: a snapshot looks again.
                        if self.keep("damaged", "it is damaged").is_ok() {
                            let _ = std::fs::remove_file(&self.file);
                        }
                    }
                    _ => tracing::error!(%file, %error, "the snapshot was not restored"),
                }
            }
        }
        ControlFlow::Continue(())
    }

    /// Writes one in every interval until the server ends.
    pub fn run(&self, cache: &Cache, bell: &Bell) {
        while !self.interval.is_zero() && !bell.wait(self.interval) {
            // One that is under way at the end would only delay it.
            let mut watch =
                |_| if bell.wait(Duration::ZERO) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
            // What failed is told; the next one may not.
            let _ = self.write(cache, &mut watch);
        }
    }

    /// Writes the last one, if the server ends with one. Nobody changes anything by now.
    ///
    /// # Errors
    /// It could not be written, or was given up.
    pub fn finish(&self, cache: &Cache, watch: &mut Watch<'_>) -> Result<()> {
        // Relaxed, here and below: a late look only ends it later.
        let is_given_up = || self.is_given_up.load(Ordering::Relaxed);
        if !self.at_end {
            return Ok(());
        }
        let written = if is_given_up() {
            Err(Failure::Cancelled)
        } else {
            self.write(cache, &mut |progress| if is_given_up() { ControlFlow::Break(()) } else { watch(progress) })
        };
        written.map_err(|failure| match failure {
            Failure::Cancelled => {
                let error = io::Error::other("a second signal ended the server before");
                Failure::file("write the last snapshot", &self.file, &error)
            }
            other => other,
        })
    }

    /// Ends the last one before its end: the one before it stays.
    pub fn give_up(&self) {
        self.is_given_up.store(true, Ordering::Relaxed);
    }

    fn write(&self, cache: &Cache, watch: &mut Watch<'_>) -> Result<()> {
        let file = self.file.display();
        // A region that was made anew is noticed by who writes; the second look is at the new one.
        let _ = cache.writer();
        let began = Instant::now();
        match self.replace(cache, watch) {
            Ok(Summary { items, bytes, .. }) => {
                let duration = began.elapsed();
                self.tell(|told| {
                    told.written += 1;
                    (told.unix_ms, told.duration, told.bytes, told.items) = (unix_ms(), duration, bytes, items);
                });
                tracing::info!(%file, values = items, bytes, ms = duration.as_millis() as u64, "wrote a snapshot");
                Ok(())
            }
            Err(Failure::Cancelled) => {
                tracing::info!(%file, "ended a snapshot before its end");
                Err(Failure::Cancelled)
            }
            Err(error) => {
                self.tell(|told| told.failed += 1);
                tracing::error!(%file, %error, "no snapshot was written");
                Err(error)
            }
        }
    }

    /// Puts a new snapshot in the place of the last one, which is kept if its region is not this one.
    fn replace(&self, cache: &Cache, watch: &mut Watch<'_>) -> Result<Summary> {
        let new = Unpublished::write(cache, &self.file, watch)?;
        let Summary { id, region_id, .. } = new.summary();
        let last = beside::marked(&self.file);
        let mark = Mark { region_id, id };
        // First, and of both: whichever has the name after a death is known.
        beside::mark(&self.file, &last.into_iter().chain([mark]).collect::<Vec<_>>())?;
        if last.is_none_or(|last| last.region_id != region_id) && self.exists() {
            if self.is_unrestored.load(Ordering::Relaxed) {
                self.keep("unrestored", "not all of it was restored")?;
            } else {
                self.keep("before", "it is not known to be of this region")?;
            }
        }
        let summary = new.publish()?;
        self.is_unrestored.store(false, Ordering::Relaxed);
        Ok(summary)
    }

    fn exists(&self) -> bool {
        // What cannot be looked at is there.
        !matches!(std::fs::symlink_metadata(&self.file), Err(error) if error.kind() == ErrorKind::NotFound)
    }

    /// Gives the last snapshot another name as well, `NAME.what` or one like it.
    fn keep(&self, what: &str, why: &str) -> Result<()> {
        let file = self.file.display();
        match beside::keep(&self.file, what) {
            Ok(Kept { name, replaced }) => {
                let kept = name.display();
                tracing::warn!(%file, %kept, replaced, "kept the last snapshot under another name: {why}");
                Ok(())
            }
            Err(error) => {
                tracing::warn!(%file, %error, "cannot keep the last snapshot under another name: {why}");
                Err(error)
            }
        }
    }
}
