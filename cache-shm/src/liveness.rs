//! Who is alive: kernel locks on the bytes of participant slots.
//!
//! Owns: the open-file-description lock behind a participant, and the question about
//! another's. The lock is taken through a description of its own, of which one page is
//! mapped with `MADV_DONTFORK`; then the descriptor is closed:
//!
//! ```text
//! private description --lock--> byte of slot i        lives as long as
//!        ^                                            this address space:
//!        +---- mapped page (not inherited by fork)    kill, exit and exec end it
//! ```
//!
//! So it survives every `close` and SIGSTOP, no forked child can keep it alive, and
//! process ids play no part: it holds between containers.
//!
//! Must never: ask through a description that holds such a lock (the kernel would call
//! the byte free), or answer "dead" in doubt.

use std::path::Path;

use cache_core::Result;
use rustix::fd::{AsRawFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;

use crate::file::RegionFile;
use crate::fork;
use crate::mapping::Mapping;
use crate::sys::failed;

/// The byte that the maker of a region holds while it is not yet published.
pub(crate) const MAKER_BYTE: u64 = 0;

/// A liveness lock that this process holds until the value is dropped or the process
/// ends in any way.
#[derive(Debug)]
pub(crate) struct LifeLock {
    /// Keeps the private description open. Unmapped on drop, which ends the lock.
    page: Mapping,
}

impl LifeLock {
    /// Locks the first byte of `bytes` that nobody holds; says which in their order.
    ///
    /// # Errors
    /// `Gone` when the file cannot be opened again, `Io` when the system refuses.
    pub(crate) fn acquire_first(
        file: &RegionFile,
        bytes: impl Iterator<Item = u64>,
    ) -> Result<Option<(usize, LifeLock)>> {
        // A child forked while the description has a descriptor would inherit it, and
        // keep us "alive" for ever.
        let _no_fork = fork::keep_forks_out()?;
        let Some((at, fd)) = LifeLock::lock_first(file, bytes)? else { return Ok(None) };
        Ok(Some((at, LifeLock::from_locked(fd, &file.shown())?)))
    }

    /// The first half of [`LifeLock::acquire_first`]: a private description that holds
    /// the lock. The caller keeps forks out, or means the child to inherit it.
    ///
    /// # Errors
    /// As above.
    pub(crate) fn lock_first(file: &RegionFile, bytes: impl Iterator<Item = u64>) -> Result<Option<(usize, OwnedFd)>> {
        let fd = file.reopen()?;
        for (at, byte) in bytes.enumerate() {
            match fcntl(&fd, libc::F_OFD_SETLK, &mut request(libc::F_WRLCK, byte, 1)) {
                Ok(()) => return Ok(Some((at, fd))),
                Err(Errno::AGAIN | Errno::ACCESS) => {}
                Err(errno) => return Err(failed("fcntl(F_OFD_SETLK)", errno, &file.shown())),
            }
        }
        Ok(None)
    }

    /// The second half: ties the lock to this address space and closes the descriptor.
    ///
    /// # Errors
    /// `Io` when the page cannot be mapped; the lock is gone then.
    pub(crate) fn from_locked(fd: OwnedFd, path: &Path) -> Result<LifeLock> {
        let page = Mapping::not_inherited(&fd, rustix::param::page_size() as u64, path)?;
        Ok(LifeLock { page })
    }

    /// True in the process that took it; false in a child that was cloned without handlers
    /// and has a copy of the value, but not of the lock.
    pub(crate) fn is_ours(&self) -> bool {
        self.page.is_ours()
    }
}

/// Holds `byte` through `fd` itself, until its description is closed. Only for makers,
/// whose description is never mapped or asked through.
pub(crate) fn hold(fd: BorrowedFd<'_>, byte: u64) -> std::result::Result<bool, Errno> {
    match fcntl(fd, libc::F_OFD_SETLK, &mut request(libc::F_WRLCK, byte, 1)) {
        Ok(()) => Ok(true),
        Err(Errno::AGAIN | Errno::ACCESS) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// True if nobody holds a lock in `byte..byte + count`; `None` if that cannot be asked.
/// `fd` holds no lock itself.
pub(crate) fn is_free(fd: BorrowedFd<'_>, byte: u64, count: u64) -> Option<bool> {
    let mut question = request(libc::F_WRLCK, byte, count);
    fcntl(fd, libc::F_OFD_GETLK, &mut question).ok()?;
    Some(question.l_type == libc::F_UNLCK as libc::c_short)
}

fn request(kind: libc::c_int, byte: u64, count: u64) -> libc::flock {
    // SAFETY: S5. A plain C structure; all zeros is a valid value, and the process id must
    // be zero for locks of this kind.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = kind as libc::c_short;
    lock.l_whence = libc::SEEK_SET as libc::c_short;
    lock.l_start = byte as libc::off_t;
    lock.l_len = count as libc::off_t;
    lock
}

fn fcntl(fd: impl rustix::fd::AsFd, command: libc::c_int, lock: &mut libc::flock) -> std::result::Result<(), Errno> {
    loop {
        // SAFETY: S5. An open descriptor, and a structure that outlives the call.
        let result = unsafe { libc::fcntl(fd.as_fd().as_raw_fd(), command, std::ptr::from_mut(lock)) };
        match (result, std::io::Error::last_os_error().raw_os_error()) {
            (-1, Some(libc::EINTR)) => {}
            (-1, errno) => return Err(Errno::from_raw_os_error(errno.unwrap_or(libc::EIO))),
            _ => return Ok(()),
        }
    }
}
