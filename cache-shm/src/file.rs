//! A region's file: opening it safely, reading its header, and keeping a descriptor
//! that is proved before each use.
//!
//! Owns: the one long-lived descriptor of an attachment. Programs close descriptors
//! that are not theirs (`closefrom` before an exec, daemon start-up code), and the
//! number is then given to another file: so every use asks `fstat` first.
//!
//! Must never: hold a liveness lock through that descriptor (see `liveness`).

use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use cache_core::header::{self, HeaderError, Identity};
use cache_core::layout::HEADER_BYTES;
use cache_core::{Error, FORMAT_VERSION, Geometry, Result};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use crate::directory::{Directory, FileId, Sharing, check_file};
use crate::sys::{boot_id, failed};

/// The file of a region.
#[derive(Debug)]
pub(crate) struct RegionFile {
    fd: ManuallyDrop<OwnedFd>,
    id: FileId,
    /// Absolute; `None` for a private region, which has no name.
    path: Option<PathBuf>,
    /// The path under which a region that was being made became visible.
    published: OnceLock<PathBuf>,
    writable: bool,
}

/// What stands in a region's file at the moment it is opened.
#[derive(Debug)]
pub(crate) enum Content {
    /// A region that can be attached.
    Ready(Geometry, Identity),
    /// A region of an earlier boot: its clock is gone, and perhaps its pages.
    EarlierBoot(Geometry, Identity),
    /// Not published: its maker is at work, or died.
    Half,
    /// Destroyed, and about to lose its name.
    Destroyed,
}

const OPEN: OFlags = OFlags::CLOEXEC.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::NOCTTY);

impl RegionFile {
    /// Opens and checks the file `name`; `None` if there is none.
    ///
    /// # Errors
    /// `Symlink`, `NotRegion` (not a regular file), `ForeignOwner`, `Permission`, `Io`.
    pub(crate) fn open(
        directory: &Directory,
        name: &str,
        sharing: Sharing,
        writable: bool,
    ) -> Result<Option<RegionFile>> {
        let path = directory.path().join(name);
        // Before opening: opening a device or a pipe can have effects of its own.
        match rustix::fs::statat(directory.fd(), name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if rustix::fs::FileType::from_raw_mode(stat.st_mode).is_symlink() => {
                return Err(Error::Symlink { path });
            }
            Ok(stat) => check_file(&stat, sharing, &path)?,
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(failed("stat", errno, &path)),
        }
        let access = if writable { OFlags::RDWR } else { OFlags::RDONLY };
        let fd = match rustix::fs::openat(directory.fd(), name, access | OPEN, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP) => return Err(Error::Symlink { path }),
            Err(errno) => return Err(failed("open", errno, &path)),
        };
        let stat = rustix::fs::fstat(&fd).map_err(|errno| failed("fstat", errno, &path))?;
        check_file(&stat, sharing, &path)?;
        Ok(Some(RegionFile {
            fd: ManuallyDrop::new(fd),
            id: FileId::of(&stat),
            path: Some(path),
            published: OnceLock::new(),
            writable,
        }))
    }

    /// A file that this process made and checked itself.
    pub(crate) fn from_fd(fd: OwnedFd, path: Option<PathBuf>) -> Result<RegionFile> {
        let shown = path.clone().unwrap_or_default();
        let stat = rustix::fs::fstat(&fd).map_err(|errno| failed("fstat", errno, &shown))?;
        Ok(RegionFile {
            fd: ManuallyDrop::new(fd),
            id: FileId::of(&stat),
            path,
            published: OnceLock::new(),
            writable: true,
        })
    }

    pub(crate) fn id(&self) -> FileId {
        self.id
    }

    pub(crate) fn path(&self) -> Option<&Path> {
        self.published.get().or(self.path.as_ref()).map(PathBuf::as_path)
    }

    /// The path for messages.
    pub(crate) fn shown(&self) -> PathBuf {
        self.path().map_or_else(|| PathBuf::from("(private region)"), Path::to_owned)
    }

    /// The file, made under another name, is visible under this one.
    pub(crate) fn published(&self, path: PathBuf) {
        // A file is published once.
        let _ = self.published.set(path);
    }

    /// The descriptor, if its number still means this file.
    pub(crate) fn proved(&self) -> Option<BorrowedFd<'_>> {
        match rustix::fs::fstat(&*self.fd) {
            Ok(stat) if FileId::of(&stat) == self.id => Some(self.fd.as_fd()),
            _ => None,
        }
    }

    /// Runs `with` on a descriptor of the file: the kept one, or one opened for this
    /// call. `None` if the file cannot be reached any more.
    pub(crate) fn with_fd<R>(&self, with: impl FnOnce(BorrowedFd<'_>) -> R) -> Option<R> {
        match self.proved() {
            Some(fd) => Some(with(fd)),
            None => self.reopen().ok().map(|fd| with(fd.as_fd())),
        }
    }

    /// A description of the file that nobody else has.
    ///
    /// # Errors
    /// `Gone` when neither the kept descriptor nor the path leads to the file.
    pub(crate) fn reopen(&self) -> Result<OwnedFd> {
        let access = if self.writable { OFlags::RDWR } else { OFlags::RDONLY };
        let by_number = self.proved().and_then(|fd| {
            use rustix::fd::AsRawFd;
            let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
            // The link of /proc leads to the very file, even one without a name.
            rustix::fs::open(path, access | OFlags::CLOEXEC, Mode::empty()).ok()
        });
        let by_path = || rustix::fs::open(self.path()?, access | OPEN, Mode::empty()).ok();
        let fd = by_number.or_else(by_path).ok_or_else(|| Error::Gone { path: self.shown() })?;
        match rustix::fs::fstat(&fd) {
            Ok(stat) if FileId::of(&stat) == self.id => Ok(fd),
            _ => Err(Error::Gone { path: self.shown() }),
        }
    }

    /// True if the file lost its name, or if its path stands for another file. What
    /// cannot be asked counts as unchanged.
    pub(crate) fn was_replaced(&self) -> bool {
        let Some(path) = self.path() else { return false };
        if self.proved().is_some_and(|fd| rustix::fs::fstat(fd).is_ok_and(|stat| stat.st_nlink == 0)) {
            return true;
        }
        match rustix::fs::lstat(path) {
            Ok(stat) => FileId::of(&stat) != self.id,
            // Renamed by hand, or hidden by a chroot: the file itself is still there.
            Err(_) => false,
        }
    }

    /// Reads and checks the header.
    ///
    /// # Errors
    /// `NotRegion`, `FormatVersion`, `Corrupt`, `Truncated`, `Io`.
    pub(crate) fn content(&self) -> Result<Content> {
        let path = self.shown();
        let stat = rustix::fs::fstat(&*self.fd).map_err(|errno| failed("fstat", errno, &path))?;
        let file_bytes = stat.st_size as u64;
        let mut page = [0u8; HEADER_BYTES as usize];
        let read = read_page(self.fd.as_fd(), &mut page).map_err(|errno| failed("read", errno, &path))?;
        if read < page.len() {
            // A region cut off inside its first page still begins like one.
            let begins_like_one = page[..8] == cache_core::layout::MAGIC.to_le_bytes() && read >= 32;
            let bytes_expected = u64::from_le_bytes(page[24..32].try_into().expect("eight bytes"));
            return Err(if begins_like_one {
                Error::Truncated { path, bytes: file_bytes, bytes_expected }
            } else {
                Error::NotRegion { path, reason: "it is shorter than a header" }
            });
        }
        let destroyed = cache_core::layout::header::DESTROYED as usize;
        let (geometry, identity) = match header::parse(&page) {
            Ok(parsed) => parsed,
            Err(HeaderError::NotRegion(reason)) => return Err(Error::NotRegion { path, reason }),
            Err(HeaderError::Half) if is_half_made(&page, stat.st_blocks as u64) => return Ok(Content::Half),
            Err(HeaderError::Half) => {
                return Err(Error::NotRegion { path, reason: "its first bytes are not those of a region" });
            }
            Err(HeaderError::Version(found)) => {
                return Err(Error::FormatVersion { path, found, supported: FORMAT_VERSION });
            }
            Err(HeaderError::Corrupt(reason)) => return Err(Error::Corrupt { reason }),
        };
        if file_bytes < geometry.region_bytes {
            return Err(Error::Truncated { path, bytes: file_bytes, bytes_expected: geometry.region_bytes });
        }
        if page[destroyed..destroyed + 8] != [0; 8] {
            return Ok(Content::Destroyed);
        }
        let (theirs, ours) = (identity.boot_id, boot_id());
        if theirs != ours && theirs != [0; 16] && ours != [0; 16] {
            return Ok(Content::EarlierBoot(geometry, identity));
        }
        Ok(Content::Ready(geometry, identity))
    }
}

/// A file without the magic is ours to replace only if nothing else can be in it: it
/// carries our version word, or it is all hole.
fn is_half_made(page: &[u8], blocks: u64) -> bool {
    let version_at = cache_core::layout::header::VERSION as usize;
    let version = u64::from_le_bytes(page[version_at..version_at + 8].try_into().expect("eight bytes"));
    version == u64::from(FORMAT_VERSION) || (blocks == 0 && page.iter().all(|byte| *byte == 0))
}

fn read_page(fd: BorrowedFd<'_>, page: &mut [u8]) -> std::result::Result<usize, Errno> {
    let mut filled = 0;
    while filled < page.len() {
        match rustix::io::pread(fd, &mut page[filled..], filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(filled)
}

impl Drop for RegionFile {
    fn drop(&mut self) {
        // A number that means another file by now is not ours to close.
        if self.proved().is_some() {
            // SAFETY: S6. This is its one drop.
            unsafe { ManuallyDrop::drop(&mut self.fd) };
        }
    }
}
