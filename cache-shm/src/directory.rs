//! The directory that holds regions.
//!
//! Owns: making the per-user directory, the checks that nobody else can put files into
//! it, which file systems can hold a region, and the lock that orders publishing and
//! removing names. All later steps go through the open directory, not through its path.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cache_core::{Error, Result};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Access, AtFlags, FileType, FlockOperation, Mode, OFlags, RawMode, Stat};
use rustix::io::Errno;

use crate::file::RegionFile;
use crate::name::Location;
use crate::sys::failed;

/// Who may use a region besides its owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sharing {
    /// Permission bits of the file.
    pub(crate) file_mode: u32,
    /// The group that shares it.
    pub(crate) group: Option<u32>,
}

/// A device and an inode: which file it is, whatever it is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    pub(crate) fn of(stat: &Stat) -> FileId {
        FileId { device: stat.st_dev, inode: stat.st_ino }
    }
}

/// With this bit only a file's owner can remove it from a directory.
const STICKY: RawMode = 0o1000;
/// Longest wait for the directory's lock. It is held for some microseconds; who waits
/// longer goes on without it, because it only closes a race that costs a reattach.
const LOCK_WAIT: Duration = Duration::from_secs(1);

/// An open directory that was checked.
#[derive(Debug)]
pub(crate) struct Directory {
    fd: OwnedFd,
    /// Without symbolic links, so that it means the same file later.
    path: PathBuf,
}

impl Directory {
    /// Opens the directory of `location`; makes it if `make` and it is not there.
    ///
    /// # Errors
    /// `Missing`, `Permission`, `Symlink`, `UnsupportedFilesystem`, `Io`.
    pub(crate) fn open(location: &Location, sharing: Sharing, make: bool) -> Result<Directory> {
        let path = &location.directory;
        if make {
            match rustix::fs::mkdir(path, Mode::RWXU) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(failed("mkdir", errno, path)),
            }
        }
        // Anybody may put a link at the predictable name under /dev/shm; a directory
        // that the user named may well be reached through one.
        let follow = if location.own_directory { OFlags::NOFOLLOW } else { OFlags::empty() };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | follow;
        let fd = rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| match errno {
            Errno::NOENT => Error::Missing { path: location.path() },
            Errno::LOOP => Error::Symlink { path: path.clone() },
            // With O_DIRECTORY the kernel calls a link "not a directory".
            Errno::NOTDIR if is_link(path) => Error::Symlink { path: path.clone() },
            Errno::NOTDIR => Error::Permission { path: path.clone(), reason: "it is not a directory" },
            errno => failed("open", errno, path),
        })?;
        let stat = rustix::fs::fstat(&fd).map_err(|errno| failed("fstat", errno, path))?;
        check_directory(&stat, location.own_directory, sharing)
            .map_err(|reason| Error::Permission { path: path.clone(), reason })?;
        let statfs = rustix::fs::fstatfs(&fd).map_err(|errno| failed("fstatfs", errno, path))?;
        if let Some(reason) = refused_filesystem(statfs.f_type as u64) {
            return Err(Error::UnsupportedFilesystem { path: path.clone(), reason });
        }
        let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.clone());
        Ok(Directory { fd, path })
    }

    /// As [`Directory::open`]; `None` if it is not there and could be made.
    ///
    /// # Errors
    /// As for [`Directory::open`].
    pub(crate) fn find(location: &Location, sharing: Sharing) -> Result<Option<Directory>> {
        let path = &location.directory;
        match Directory::open(location, sharing, false) {
            Err(Error::Missing { .. }) if !location.make_directory => Err(failed("open", Errno::NOENT, path)),
            Err(Error::Missing { .. }) => match rustix::fs::stat(path.parent().unwrap_or(path)) {
                Ok(_) => Ok(None),
                Err(errno) => Err(failed("mkdir", errno, path)),
            },
            found => found.map(Some),
        }
    }

    /// Opens a directory that was checked before, by its own path.
    pub(crate) fn reopen(path: &Path) -> Result<Directory> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let fd = rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| failed("open", errno, path))?;
        Ok(Directory { fd, path: path.to_owned() })
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Checks that this user may take a name away from `file`.
    ///
    /// # Errors
    /// `Permission`.
    pub(crate) fn check_removable(&self, file: &RegionFile) -> Result<()> {
        let refuse = || Error::Permission { path: self.path.clone(), reason: "this user may not remove files from it" };
        let access = Access::WRITE_OK | Access::EXEC_OK;
        rustix::fs::accessat(&self.fd, ".", access, AtFlags::EACCESS).map_err(|_| refuse())?;
        let directory = rustix::fs::fstat(&self.fd).map_err(|_| refuse())?;
        let me = rustix::process::geteuid().as_raw();
        let sticky = directory.st_mode as RawMode & STICKY != 0;
        let owns = |uid: u32| uid == me || me == 0;
        let owns_file = || file.with_fd(|fd| rustix::fs::fstat(fd).is_ok_and(|stat| owns(stat.st_uid))) == Some(true);
        if sticky && !owns(directory.st_uid) && !owns_file() { Err(refuse()) } else { Ok(()) }
    }

    /// The file that `name` stands for now.
    pub(crate) fn file_id(&self, name: &str) -> Result<Option<FileId>> {
        match rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(FileId::of(&stat))),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(failed("stat", errno, &self.path.join(name))),
        }
    }

    /// Orders this process's change of names with those of others. Not needed for
    /// publishing, which never replaces; it keeps two removals from racing.
    pub(crate) fn lock(&self) -> NamesLock<'_> {
        let deadline = Instant::now() + LOCK_WAIT;
        loop {
            match rustix::fs::flock(&self.fd, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return NamesLock { directory: self, held: true },
                Err(Errno::WOULDBLOCK | Errno::INTR) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err(_) => return NamesLock { directory: self, held: false },
            }
        }
    }
}

/// The right to remove names, ended by the kernel if its holder dies.
pub(crate) struct NamesLock<'a> {
    directory: &'a Directory,
    held: bool,
}

impl NamesLock<'_> {
    /// Removes `name` if it still stands for `id`; true if it did.
    pub(crate) fn remove(&self, name: &str, id: FileId) -> Result<bool> {
        if self.directory.file_id(name)? != Some(id) {
            return Ok(false);
        }
        match rustix::fs::unlinkat(self.directory.fd(), name, AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(failed("unlink", errno, &self.directory.path.join(name))),
        }
    }
}

impl Drop for NamesLock<'_> {
    fn drop(&mut self) {
        if self.held {
            // By name, not by closing: a child forked meanwhile shares the description.
            let _ = rustix::fs::flock(&self.directory.fd, FlockOperation::Unlock);
        }
    }
}

fn is_link(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_symlink())
}

/// Why files in such a directory cannot be trusted, if they cannot.
fn check_directory(stat: &Stat, own: bool, sharing: Sharing) -> std::result::Result<(), &'static str> {
    let me = rustix::process::geteuid().as_raw();
    let mode = stat.st_mode as RawMode;
    if own {
        if stat.st_uid != me {
            return Err("this per-user directory belongs to another user; set CACHE_SHM_DIR to a directory of yours");
        }
        if mode & 0o022 != 0 {
            return Err("others may write to this per-user directory; chmod it to 700");
        }
        return Ok(());
    }
    let shared_with_group = sharing.group.is_some_and(|group| stat.st_gid == group);
    if stat.st_uid != me && stat.st_uid != 0 && !shared_with_group {
        return Err("the directory belongs to another user, who may replace the region");
    }
    // With the sticky bit only its owner can remove a file; foreign files are caught
    // when they are opened.
    let sticky = mode & STICKY != 0;
    if mode & 0o002 != 0 && !sticky {
        return Err("everybody may write to the directory; take a directory of your own");
    }
    // Many systems give each user a group of their own and leave it the write bit.
    let own_group = stat.st_gid == 0 || (stat.st_uid == me && stat.st_gid == rustix::process::getegid().as_raw());
    if mode & 0o020 != 0 && !sticky && !shared_with_group && !own_group {
        return Err("a group may write to the directory; share the region with that group, or chmod the directory");
    }
    Ok(())
}

/// Why a region on a file system of this kind would not be one memory for all.
fn refused_filesystem(kind: u64) -> Option<&'static str> {
    const NETWORK: &str = "it is on a network file system, where processes do not share memory";
    const FUSE: &str = "it is on a FUSE file system, which may be remote and may not share memory";
    const OVERLAY: &str = "it is on an overlay file system (a container's root), where one name can be two files";
    Some(match kind & 0xffff_ffff {
        0x6969 | 0x517b | 0xff53_4d42 | 0xfe53_4d42 | 0x0102_1997 | 0x00c3_6400 | 0x5346_414f | 0x7375_7245
        | 0x0bd0_0bd0 | 0x0116_1970 | 0x7461_636f | 0x6b41_4653 | 0x4750_4653 | 0x1980_0202 => NETWORK,
        0x6573_5546 => FUSE,
        0x794c_7630 => OVERLAY,
        _ => return None,
    })
}

/// Checks that a region's file belongs to whom it should.
///
/// # Errors
/// `NotRegion` for anything but a regular file, `ForeignOwner`, `Permission`.
pub(crate) fn check_file(stat: &Stat, sharing: Sharing, path: &Path) -> Result<()> {
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Error::NotRegion { path: path.to_owned(), reason: "it is not a regular file" });
    }
    let me = rustix::process::geteuid().as_raw();
    let mode = stat.st_mode as RawMode & 0o7777;
    match sharing.group {
        Some(group) if stat.st_gid != group => {
            return Err(Error::Permission {
                path: path.to_owned(),
                reason: "it does not belong to the group that was named",
            });
        }
        Some(_) => {}
        None if stat.st_uid != me => {
            return Err(Error::ForeignOwner { path: path.to_owned(), uid: stat.st_uid, uid_expected: me });
        }
        None => {}
    }
    if mode & 0o007 != 0 {
        return Err(Error::Permission { path: path.to_owned(), reason: "its mode lets everybody in; chmod it to 600" });
    }
    if mode & 0o7110 != 0 {
        return Err(Error::Permission {
            path: path.to_owned(),
            reason: "its mode has bits that a region never has; chmod it to 600",
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_and_overlay_file_systems_are_refused_and_local_ones_are_not() {
        for kind in [0x6969, 0xff53_4d42, 0x794c_7630, 0x6573_5546, 0x0102_1997] {
            assert!(refused_filesystem(kind).is_some(), "{kind:x}");
        }
        for kind in [0x0102_1994, 0xef53, 0x5846_5342, 0x9123_683e, 0x8584_58f6, 0x2fc1_2fc1] {
            assert!(refused_filesystem(kind).is_none(), "{kind:x}");
        }
    }
}
