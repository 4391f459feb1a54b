//! What the algorithm asks of the operating system.
//!
//! Owns: the trait. `cache-shm` implements it with real system calls; tests and
//! models implement it with a movable clock and processes that die on demand.

use crate::error::Result;
use crate::lock::Owner;
use crate::sync::AtomicU32;

/// The system calls behind a map: clock, sleep, liveness, memory.
pub trait Host: Send + Sync {
    /// Milliseconds on the region's clock (CLOCK_BOOTTIME of the host), at most
    /// one coarse tick old. Never goes back by more than that tick.
    fn now_ms(&self) -> u64;

    /// Nanoseconds on a clock that only measures waits.
    fn monotonic_ns(&self) -> u64;

    /// Sleeps while `*word == expected`, at most `timeout_ns`. May wake early.
    /// The word is shared between processes.
    fn futex_wait(&self, word: &AtomicU32, expected: u32, timeout_ns: u64);

    /// Wakes at most `count` sleepers of `word`.
    fn futex_wake(&self, word: &AtomicU32, count: u32);

    /// True only if the kernel says that the process behind this participant
    /// slot is gone, or if the slot has another generation by now. In doubt: false.
    fn is_dead(&self, owner: Owner) -> bool;

    /// If the participant in slot `index` is dead: take its liveness lock, call
    /// `clean` while it is held, give the lock back, and return true.
    fn retire(&self, index: u32, clean: &mut dyn FnMut()) -> bool;

    /// Gives the bytes `offset..offset + bytes` of the region memory of their
    /// own, so that touching them cannot fail. Contents are kept. Idempotent.
    ///
    /// # Errors
    /// `NoSpace` when the file system is full.
    fn back(&self, offset: u64, bytes: u64) -> Result<()>;

    /// Maps `offset..offset + bytes` for reading; false where nothing is behind it.
    fn populate_read(&self, offset: u64, bytes: u64) -> bool;
}
