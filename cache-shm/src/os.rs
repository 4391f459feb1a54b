//! The operating system behind a map: the engine's [`Host`], made of system calls.
//!
//! Owns: one attachment's clock, mapping and file. Everything here is off the fast
//! paths but [`Host::now_ms`].

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use cache_core::header::Identity;
use cache_core::layout::participant as slot;
use cache_core::lock::Owner;
use cache_core::{Error, Geometry, Host, Region, Result, header, participant};
use rustix::fd::BorrowedFd;
use rustix::fs::FallocateFlags;
use rustix::io::Errno;
use rustix::mm::Advice;
use rustix::thread::futex;

use crate::clock::{self, Running};
use crate::file::RegionFile;
use crate::liveness::{self, LifeLock};
use crate::mapping::Mapping;
use crate::news::News;
use crate::sys::{failed, failed_for_space};

/// How often a process looks whether its region is still the one of that name, and how
/// long the host has slept.
const TICK_MS: u64 = 1000;
/// Interrupted system calls are repeated this often before they count as failed.
const INTERRUPTS_MAX: u32 = 1000;

/// The host of an attachment's [`cache_core::Map`].
#[derive(Debug)]
pub struct Os {
    pub(crate) mapping: Arc<Mapping>,
    pub(crate) file: RegionFile,
    pub(crate) geometry: Geometry,
    identity: Identity,
    /// Our own participant slot; `None` when attached read-only.
    pub(crate) index: Option<u32>,
    clock: Running,
    next_tick_ms: AtomicU64,
    /// A second has passed since the file's name was last looked at.
    look_due: AtomicBool,
    news: News,
}

impl Os {
    pub(crate) fn new(
        mapping: Arc<Mapping>,
        file: RegionFile,
        geometry: Geometry,
        identity: Identity,
        index: Option<u32>,
        clock: Running,
    ) -> Os {
        let next_tick_ms = AtomicU64::new(clock.now_ms().saturating_add(TICK_MS));
        Os {
            mapping,
            file,
            geometry,
            identity,
            index,
            clock,
            next_tick_ms,
            look_due: AtomicBool::new(false),
            news: News::default(),
        }
    }

    /// Which region this is: another one may come to have its name.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    pub(crate) fn region(&self) -> Region {
        // SAFETY: S1. The mapping belongs to this value; the map that gets the region owns
        // this value too, so the region is gone first.
        unsafe { self.mapping.region() }
    }

    fn byte(&self, index: u32) -> u64 {
        self.geometry.participant_offset(index)
    }

    #[cold]
    fn tick(&self, now_ms: u64) {
        // Relaxed, all: several threads may tick at once, which only costs them time.
        self.next_tick_ms.store(now_ms.saturating_add(TICK_MS), Ordering::Relaxed);
        self.clock.refresh();
        self.look_due.store(true, Ordering::Relaxed);
    }

    /// True if the region was destroyed, or lost its name (looked at once a second).
    #[inline]
    pub(crate) fn is_gone(&self) -> bool {
        // Relaxed: a flag for "once a second"; nothing is published by it.
        header::is_destroyed(&self.region()) || {
            // For its tick: not every operation needs to know the time.
            self.now_ms();
            self.look_due.load(Ordering::Relaxed) && self.look()
        }
    }

    #[cold]
    fn look(&self) -> bool {
        self.look_due.store(false, Ordering::Relaxed);
        self.tell();
        self.file.was_replaced()
    }

    /// Tells what was noticed. The caller holds no lock.
    pub(crate) fn tell(&self) {
        self.news.tell(&self.file.shown());
    }

    /// Notes that `owner` ended in the middle of something; the next write tells it.
    #[cold]
    fn notice(&self, owner: Owner) {
        let (region, index) = (self.region(), owner.index());
        let is_still_its_slot = index < self.geometry.participant_count
            && owner.is_generation(participant::generation(&region, &self.geometry, index));
        let pid = if is_still_its_slot { participant::pid(&region, &self.geometry, index) } else { 0 };
        if self.news.ended(owner, pid) {
            self.look_due.store(true, Ordering::Relaxed);
        }
    }

    /// True if nobody holds a slot of the region, nor makes it.
    pub(crate) fn has_no_participants(&self) -> bool {
        has_no_participants(&self.file, &self.geometry)
    }

    /// Process ids in the slots whose liveness locks others hold.
    pub(crate) fn living(&self) -> Vec<u32> {
        let is_held = |index: &u32| {
            Some(*index) != self.index
                && self.file.with_fd(|fd| liveness::is_free(fd, self.byte(*index), 1)).flatten() == Some(false)
        };
        let pid = |index| participant::pid(&self.region(), &self.geometry, index);
        (0..self.geometry.participant_count).filter(is_held).map(pid).collect()
    }

    /// Errors of `back` with what tells a full file system from a truncated file.
    fn no_memory(&self, bytes: u64) -> Error {
        let path = self.file.shown();
        let stat = self.file.with_fd(|fd| rustix::fs::fstat(fd).ok()).flatten();
        match stat {
            Some(stat) if (stat.st_size as u64) < self.geometry.region_bytes => {
                Error::Truncated { path, bytes: stat.st_size as u64, bytes_expected: self.geometry.region_bytes }
            }
            _ => self
                .file
                .with_fd(|fd| failed_for_space("fallocate", Errno::NOSPC, bytes, fd, &path))
                .unwrap_or(Error::NoSpace { bytes, free_bytes: 0, path }),
        }
    }

    fn populate(&self, offset: u64, bytes: u64, advice: Advice) -> std::result::Result<(), Errno> {
        let (address, length) = self.mapping.pages(offset, bytes).ok_or(Errno::FAULT)?;
        for _ in 0..INTERRUPTS_MAX {
            // SAFETY: S5. A range of our own mapping; both advices only map its pages, as
            // touching them would, and report what would have been a SIGBUS.
            match unsafe { rustix::mm::madvise(address.cast(), length, advice) } {
                Err(Errno::INTR | Errno::AGAIN) => {}
                other => return other,
            }
        }
        Err(Errno::INTR)
    }
}

/// True if nobody holds a slot of the region, nor makes it. In doubt: false.
pub(crate) fn has_no_participants(file: &RegionFile, geometry: &Geometry) -> bool {
    let bytes = slot::BYTES * u64::from(geometry.participant_count);
    let free = |fd: BorrowedFd<'_>| {
        liveness::is_free(fd, liveness::MAKER_BYTE, 1) == Some(true)
            && liveness::is_free(fd, geometry.participants_offset, bytes) == Some(true)
    };
    file.with_fd(free).unwrap_or(false)
}

impl Host for Os {
    #[inline]
    fn now_ms(&self) -> u64 {
        let now_ms = self.clock.now_ms();
        // Relaxed: any recent value will do.
        if now_ms >= self.next_tick_ms.load(Ordering::Relaxed) {
            self.tick(now_ms);
        }
        now_ms
    }

    fn monotonic_ns(&self) -> u64 {
        clock::monotonic_ns()
    }

    fn futex_wait(&self, word: &AtomicU32, expected: u32, timeout_ns: u64) {
        let timeout =
            futex::Timespec { tv_sec: (timeout_ns / 1_000_000_000) as i64, tv_nsec: (timeout_ns % 1_000_000_000) as _ };
        // Woken, timed out, interrupted, changed before we slept: the caller looks again.
        let _ = futex::wait(word, futex::Flags::empty(), expected, Some(&timeout));
    }

    fn futex_wake(&self, word: &AtomicU32, count: u32) {
        // Fails only for an address that is not mapped.
        let _ = futex::wake(word, futex::Flags::empty(), count.min(i32::MAX as u32));
    }

    fn is_dead(&self, owner: Owner) -> bool {
        let index = owner.index();
        let is_gone = participant::is_gone(&self.region(), &self.geometry, owner, || {
            self.index != Some(index)
                && self.file.with_fd(|fd| liveness::is_free(fd, self.byte(index), 1)).flatten().unwrap_or(false)
        });
        if is_gone {
            self.notice(owner);
        }
        is_gone
    }

    fn retire(&self, index: u32, clean: &mut dyn FnMut()) -> bool {
        if index >= self.geometry.participant_count || self.index.is_none_or(|own| own == index) {
            return false;
        }
        let held = LifeLock::acquire_first(&self.file, std::iter::once(self.byte(index)));
        let Ok(Some((_, life))) = held else { return false };
        participant::retire(&self.region(), &self.geometry, index, clean);
        drop(life);
        true
    }

    fn back(&self, offset: u64, bytes: u64) -> Result<()> {
        if self.mapping.pages(offset, bytes).is_none() {
            return Err(Error::Corrupt { reason: "a segment lies outside the region" });
        }
        for _ in 0..INTERRUPTS_MAX {
            let Some(fd) = self.file.proved() else { break };
            // Not KEEP_SIZE: in a file that was truncated under us this restores the part
            // we are about to touch.
            match rustix::fs::fallocate(fd, FallocateFlags::empty(), offset, bytes) {
                Ok(()) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(Errno::NOSPC | Errno::DQUOT | Errno::NOMEM | Errno::FBIG) => return Err(self.no_memory(bytes)),
                // Not every file system can; a descriptor can be closed under us.
                Err(_) => break,
            }
        }
        match self.populate(offset, bytes, Advice::LinuxPopulateWrite) {
            Ok(()) => Ok(()),
            Err(Errno::FAULT | Errno::NOMEM) => Err(self.no_memory(bytes)),
            Err(errno) => Err(failed("madvise(MADV_POPULATE_WRITE)", errno, &self.file.shown())),
        }
    }

    fn populate_read(&self, offset: u64, bytes: u64) -> bool {
        match self.populate(offset, bytes, Advice::LinuxPopulateRead) {
            Ok(()) => true,
            // Linux before 5.14 cannot be asked: have the bytes backed instead, and where
            // that is not ours to do, believe the segment table.
            Err(Errno::INVAL) => self.index.is_none() || self.back(offset, bytes).is_ok(),
            Err(_) => false,
        }
    }
}
