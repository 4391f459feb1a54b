//! A file mapped into this process.
//!
//! Owns: the address range, until the last user of it is gone.

use std::path::Path;
use std::ptr;

use cache_core::{Region, Result};
use rustix::fd::{AsFd, BorrowedFd};
use rustix::mm::{Advice, MapFlags, ProtFlags};

use crate::fork;
use crate::sys::failed;

/// What one entry of the second lowest level of a page table maps, on x86-64 and on aarch64
/// with pages of 4 KiB.
const HUGE_PAGE_BYTES: usize = 2 << 20;

/// A shared mapping of the first bytes of a file.
#[derive(Debug)]
pub(crate) struct Mapping {
    base: *mut u8,
    bytes: usize,
    /// The process that made it: a forked child inherits the memory but not the right
    /// to unmap it, because views made before the fork may still point into it.
    epoch: u64,
}

// SAFETY: R3. An address range; what lies in it is only reached through `Region`'s atomics.
unsafe impl Send for Mapping {}
// SAFETY: R3. As above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps `bytes` bytes of `fd`.
    ///
    /// # Errors
    /// `Io` when the system has no room for it.
    pub(crate) fn new(fd: impl AsFd, bytes: u64, writable: bool, path: &Path) -> Result<Mapping> {
        let protection = if writable { ProtFlags::READ | ProtFlags::WRITE } else { ProtFlags::READ };
        let bytes = usize::try_from(bytes).map_err(|_| cache_core::Error::InvalidArgument {
            reason: "the region does not fit this machine's addresses",
        })?;
        let base = map_aligned(fd.as_fd(), bytes, protection).map_err(|errno| failed("mmap", errno, path))?;
        Ok(Mapping { base, bytes, epoch: fork::epoch() })
    }

    /// As [`Mapping::new`], read-only and not inherited by forked children.
    pub(crate) fn not_inherited(fd: impl AsFd, bytes: u64, path: &Path) -> Result<Mapping> {
        let mapping = Mapping::new(fd, bytes, false, path)?;
        // SAFETY: S5. Our own mapping, of which nobody has a reference.
        unsafe { rustix::mm::madvise(mapping.base.cast(), mapping.bytes, Advice::LinuxDontFork) }
            .map_err(|errno| failed("madvise(MADV_DONTFORK)", errno, path))?;
        Ok(mapping)
    }

    /// True in the process that mapped it.
    pub(crate) fn is_ours(&self) -> bool {
        self.epoch == fork::epoch()
    }

    /// Its first byte.
    #[inline]
    pub(crate) fn start(&self) -> *mut u8 {
        self.base
    }

    /// The mapped memory as the engine sees it.
    ///
    /// # Safety
    /// The mapping outlives every clone of the region.
    pub(crate) unsafe fn region(&self) -> Region {
        // SAFETY: R1. Mapped, page-aligned, and alive by the caller's duty; read-only
        // mappings are only given to read-only maps.
        unsafe { Region::from_raw(self.base, self.bytes as u64) }
    }

    /// Asks the kernel to hold the mapped memory, which it holds already, in huge pages: reads
    /// all over a large region spend much of their time on finding pages. Other processes
    /// that map the file get them too, at their next look. Where the kernel has none to give
    /// (before Linux 6.1, or without free ones) everything stays as it is, and this is false.
    pub(crate) fn use_huge_pages(&self) -> bool {
        let first = self.base.align_offset(HUGE_PAGE_BYTES);
        // Page by page, because a refusal ends the call, and a signal can come between.
        for at in (first..self.bytes.saturating_sub(HUGE_PAGE_BYTES - 1)).step_by(HUGE_PAGE_BYTES) {
            // SAFETY: S5. Inside our own mapping; the kernel moves the bytes, and whoever
            // reads or writes them meanwhile waits for it in a page fault.
            let refused = unsafe { libc::madvise(self.base.add(at).cast(), HUGE_PAGE_BYTES, libc::MADV_COLLAPSE) } != 0;
            let errno = std::io::Error::last_os_error().raw_os_error();
            // Busy pages are left; the rest of the errors will not be another for the next.
            if refused && !matches!(errno, Some(libc::EAGAIN | libc::EBUSY | libc::EINTR)) {
                return false;
            }
        }
        true
    }

    /// The page-aligned part of the mapping that holds `offset..offset + bytes`; `None`
    /// if that is not inside it.
    pub(crate) fn pages(&self, offset: u64, bytes: u64) -> Option<(*mut u8, usize)> {
        let end = usize::try_from(offset.checked_add(bytes)?).ok()?;
        if end > self.bytes || bytes == 0 {
            return None;
        }
        let start = offset as usize & !(rustix::param::page_size() - 1);
        // SAFETY: R1. Inside the mapping by the check above.
        Some((unsafe { self.base.add(start) }, end - start))
    }
}

/// Maps the file where its huge pages, if it has any, are huge pages of the address space
/// too: the kernel sees to that only for files that it makes with huge pages.
fn map_aligned(fd: BorrowedFd<'_>, bytes: usize, protection: ProtFlags) -> rustix::io::Result<*mut u8> {
    // SAFETY: S5, all. Addresses of the kernel's choice; the file takes the place of a part
    // of what was just reserved, which nobody else knows, and the rest is given back.
    unsafe {
        if bytes < HUGE_PAGE_BYTES {
            return Ok(rustix::mm::mmap(ptr::null_mut(), bytes, protection, MapFlags::SHARED, fd, 0)?.cast());
        }
        let page_bytes = rustix::param::page_size();
        let taken = bytes.next_multiple_of(page_bytes);
        let reserved = taken + HUGE_PAGE_BYTES;
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        let start = rustix::mm::mmap_anonymous(ptr::null_mut(), reserved, ProtFlags::empty(), flags)?.cast::<u8>();
        let before = start.align_offset(HUGE_PAGE_BYTES);
        let base = start.add(before);
        let mapped = rustix::mm::mmap(base.cast(), bytes, protection, MapFlags::SHARED | MapFlags::FIXED, fd, 0);
        if let Err(errno) = mapped {
            let _ = rustix::mm::munmap(start.cast(), reserved);
            return Err(errno);
        }
        // They hold nothing, and a refusal leaves only addresses behind.
        for (rest, count) in [(start, before), (base.add(taken), HUGE_PAGE_BYTES - before)] {
            if count > 0 {
                let _ = rustix::mm::munmap(rest.cast(), count);
            }
        }
        Ok(base)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if self.is_ours() {
            // SAFETY: S2, S1. Mapped by this process in `new`, and the last user is gone.
            let unmapped = unsafe { rustix::mm::munmap(self.base.cast(), self.bytes) };
            debug_assert!(unmapped.is_ok(), "{unmapped:?}");
        }
    }
}
