//! The region's clock: milliseconds of the host's CLOCK_BOOTTIME.
//!
//! Owns: reading it for 6 ns. The coarse monotonic clock is one memory load away; the
//! time the host slept (BOOTTIME minus MONOTONIC) is added from a copy that slow paths
//! refresh. In a time namespace the kernel shifts both clocks; the shift is read once
//! and taken out, so that containers agree about expiry.
//!
//! The coarse clock is behind the true one by at most one tick (1 to 10 ms): nothing
//! expires early, and at most one tick late.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use cache_core::Result;
use rustix::time::{ClockId, clock_gettime};

use crate::directory::{Directory, Sharing};
use crate::hand::Hand;
use crate::name::Location;

/// The clock of a handle: the system's, or one that a test moves by hand. Without one a
/// handle goes by the clock of its region's directory, where that has one (see
/// [`Clock::in_directory`]), else by the system's.
#[derive(Debug, Clone, Default)]
pub struct Clock(Source);

#[derive(Debug, Clone, Default)]
enum Source {
    #[default]
    System,
    Manual(Arc<AtomicU64>),
    Shared(Arc<Hand>),
}

impl Clock {
    /// The system's clock.
    pub fn system() -> Clock {
        Clock(Source::System)
    }

    /// A clock that stands at `now_ms` until [`Clock::advance`] moves it; its clones
    /// show the same time. For tests of expiry: the first handle of a process on a
    /// region decides which clock all its handles on that region use.
    pub fn manual(now_ms: u64) -> Clock {
        Clock(Source::Manual(Arc::new(AtomicU64::new(now_ms))))
    }

    /// The clock of all regions in the directory `dir`, for tests of several processes. It
    /// stands at the system's time of its making until [`Clock::advance`] moves it, for
    /// whoever opens a region there afterwards, in any process and without being told. What
    /// is attached already keeps its clock; so make it in an empty directory.
    ///
    /// # Errors
    /// `Missing` if there is no such directory; `NotRegion` if something else has the name
    /// of the clock's file; as for regions `Symlink`, `ForeignOwner`, `Permission`, `Io`.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use cache_shm::{Cache, Clock};
    /// # let dir = std::path::PathBuf::from(format!("/dev/shm/cshm-doc-{}", std::process::id()));
    /// # std::fs::create_dir(&dir).unwrap();
    /// let clock = Clock::in_directory(&dir)?;
    /// let cache = Cache::builder(Some("movable")).dir(&dir).size(1 << 20).create()?;
    /// cache.set_for(b"a", b"1", Duration::from_secs(60))?;
    /// clock.advance(Duration::from_secs(60));
    /// assert_eq!(cache.get(b"a")?, None);
    /// # std::fs::remove_dir_all(&dir).unwrap();
    /// # Ok::<(), cache_shm::Error>(())
    /// ```
    pub fn in_directory(dir: impl AsRef<Path>) -> Result<Clock> {
        let location = Location::directory(dir.as_ref())?;
        let sharing = Sharing { file_mode: 0o600, group: None };
        let directory = Directory::open(&location, sharing, false)?;
        let now_ms = Running::new(&Clock::system()).now_ms();
        Ok(Clock(Source::Shared(Arc::new(Hand::make(&directory, sharing, now_ms)?))))
    }

    /// The clock by which values in `directory` expire.
    pub(crate) fn of_directory(directory: &Directory, sharing: Sharing) -> Result<Clock> {
        let hand = Hand::of(directory, sharing, false)?;
        Ok(Clock(hand.map_or(Source::System, |hand| Source::Shared(Arc::new(hand)))))
    }

    /// Moves a clock on that a test made. The system's clock is not affected.
    pub fn advance(&self, by: Duration) {
        let by_ms = u64::try_from(by.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
        match &self.0 {
            Source::System => {}
            Source::Manual(now_ms) => {
                // Relaxed: a time publishes nothing.
                now_ms.fetch_add(by_ms, Ordering::Relaxed);
            }
            Source::Shared(hand) => hand.advance(by_ms),
        }
    }

    /// What it shows, in milliseconds since the host was started.
    pub fn now_ms(&self) -> u64 {
        Running::new(self).now_ms()
    }
}

/// A clock at work behind an attachment.
#[derive(Debug)]
pub(crate) struct Running {
    source: Source,
    /// What is added to CLOCK_MONOTONIC_COARSE, in nanoseconds.
    offset_ns: AtomicI64,
    /// What the kernel adds to CLOCK_BOOTTIME in this time namespace.
    namespace_ns: i64,
}

impl Running {
    pub(crate) fn new(clock: &Clock) -> Running {
        let running = Running {
            source: clock.0.clone(),
            offset_ns: AtomicI64::new(0),
            namespace_ns: namespace_offset_ns().unwrap_or(0),
        };
        running.refresh();
        running
    }

    #[inline]
    pub(crate) fn now_ms(&self) -> u64 {
        match &self.source {
            Source::System => {
                // Relaxed: any recent offset will do.
                let now = read_ns(ClockId::MonotonicCoarse) + self.offset_ns.load(Ordering::Relaxed);
                now.max(0) as u64 / 1_000_000
            }
            // Relaxed: a time publishes nothing.
            Source::Manual(now_ms) => now_ms.load(Ordering::Relaxed),
            Source::Shared(hand) => hand.now_ms(),
        }
    }

    /// Learns how long the host has slept. Two vDSO calls, no system call.
    pub(crate) fn refresh(&self) {
        let offset_ns = read_ns(ClockId::Boottime) - read_ns(ClockId::Monotonic) - self.namespace_ns;
        let before = self.offset_ns.load(Ordering::Relaxed);
        // The two readings are some nanoseconds apart: without a suspend the offset
        // only jitters, and a clock that goes back would be worse than one that is late.
        if offset_ns > before || before - offset_ns > 1_000_000 {
            // Relaxed: as in `now_ms`.
            self.offset_ns.store(offset_ns, Ordering::Relaxed);
        }
    }
}

/// Nanoseconds on a clock for measuring waits.
pub(crate) fn monotonic_ns() -> u64 {
    read_ns(ClockId::Monotonic) as u64
}

fn read_ns(clock: ClockId) -> i64 {
    let time = clock_gettime(clock);
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

/// The shift of BOOTTIME against MONOTONIC in this process's time namespace, relative
/// to the host's: the kernel adds an offset to each of the two.
fn namespace_offset_ns() -> Option<i64> {
    let own = std::fs::read_link("/proc/self/ns/time").ok()?;
    // The file tells the offsets of the namespace that children get; after an unshare
    // that is not the one we live in.
    if std::fs::read_link("/proc/self/ns/time_for_children").ok()? != own {
        return None;
    }
    parse_offsets(&std::fs::read_to_string("/proc/self/timens_offsets").ok()?)
}

/// The offset of BOOTTIME in the text of `timens_offsets`.
fn parse_offsets(text: &str) -> Option<i64> {
    let line = text.lines().find(|line| line.starts_with("boottime"))?;
    let mut fields = line.split_whitespace().skip(1).map(str::parse::<i64>);
    let (seconds, nanoseconds) = (fields.next()?.ok()?, fields.next()?.ok()?);
    seconds.checked_mul(1_000_000_000)?.checked_add(nanoseconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_follows_boottime_and_is_late_by_a_tick_at_most() {
        let running = Running::new(&Clock::system());
        for _ in 0..1000 {
            let before = read_ns(ClockId::Boottime) / 1_000_000;
            let now = running.now_ms() as i64;
            let after = read_ns(ClockId::Boottime) / 1_000_000;
            assert!(now <= after, "early: {now} > {after}");
            assert!(now + 11 >= before, "late by more than a tick: {now} < {before}");
        }
    }

    #[test]
    fn a_manual_clock_stands_still_until_it_is_moved() {
        let clock = Clock::manual(1000);
        let running = Running::new(&clock);
        assert_eq!((running.now_ms(), running.now_ms()), (1000, 1000));
        clock.advance(Duration::from_millis(234));
        assert_eq!(running.now_ms(), 1234);
    }

    #[test]
    fn offsets_of_a_time_namespace_are_read() {
        let text = "monotonic           0         0\nboottime       172800         5\n";
        assert_eq!(parse_offsets(text), Some(172_800_000_000_005));
        assert_eq!(parse_offsets("monotonic  -1 500\nboottime  -1  500000000\n"), Some(-500_000_000));
        assert_eq!(parse_offsets("nothing"), None);
    }
}
