//! A file mapped into this process.
//!
//! Owns: the address range, until the last user of it is gone.

use std::path::Path;
use std::ptr;

use cache_core::{Region, Result};
use rustix::fd::AsFd;
use rustix::mm::{Advice, MapFlags, ProtFlags};

use crate::fork;
use crate::sys::failed;

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
        // SAFETY: S5. A new mapping at an address of the kernel's choice.
        let base = unsafe { rustix::mm::mmap(ptr::null_mut(), bytes, protection, MapFlags::SHARED, fd, 0) }
            .map_err(|errno| failed("mmap", errno, path))?;
        Ok(Mapping { base: base.cast(), bytes, epoch: fork::epoch() })
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

    /// The mapped memory as the engine sees it.
    ///
    /// # Safety
    /// The mapping outlives every clone of the region.
    pub(crate) unsafe fn region(&self) -> Region {
        // SAFETY: R1. Mapped, page-aligned, and alive by the caller's duty; read-only
        // mappings are only given to read-only maps.
        unsafe { Region::from_raw(self.base, self.bytes as u64) }
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

impl Drop for Mapping {
    fn drop(&mut self) {
        if self.is_ours() {
            // SAFETY: S2, S1. Mapped by this process in `new`, and the last user is gone.
            let unmapped = unsafe { rustix::mm::munmap(self.base.cast(), self.bytes) };
            debug_assert!(unmapped.is_ok(), "{unmapped:?}");
        }
    }
}
