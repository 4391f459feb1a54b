//! Making a region: complete under a name nobody looks for, then visible at once.
//!
//! Owns: the order of creation and the sweep of what dead makers left.
//!
//! ```text
//! .cshm-<random>   new file, maker's byte locked        a sweep sees that we live
//!                  size, memory for the fixed parts     a full file system ends it here
//!                  mode, group, header, magic
//!                  our own participant slot             an ephemeral region is never empty
//! link(name)       fails if the name is taken           never replaces anything
//! unlink(.cshm-)
//! ```
//!
//! Must never: write to a file that another process may have open.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cache_core::header::{self, Identity};
use cache_core::layout::header::DESTROYED;
use cache_core::{Error, Geometry, Mode, REGION_BYTES_MAX, REGION_BYTES_MIN, Result};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, FallocateFlags, Mode as FileMode, OFlags, SealFlags};
use rustix::io::Errno;

use crate::attach::{Attachment, Manner, Target};
use crate::directory::{Directory, FileId, Sharing, check_file};
use crate::file::{Content, RegionFile};
use crate::fork::Process;
use crate::liveness::{self, MAKER_BYTE};
use crate::mapping::Mapping;
use crate::name::TEMPORARY_PREFIX;
use crate::os::has_no_participants;
use crate::sys::{boot_id, failed, failed_for_space, free_bytes, random};

/// The size of a region whose maker named none, if the file system has twice as much.
pub(crate) const DEFAULT_BYTES: u64 = 256 << 20;
/// Memory is asked for in steps of this size, so that signals get a turn.
const STEP_BYTES: u64 = 1 << 20;
/// A temporary file without a living maker is swept when it is this old; its maker
/// locks it some microseconds after it made it.
const SWEEP_AGE: Duration = Duration::from_secs(1);

/// What the region will be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Recipe {
    /// Bytes; `None` = as many as is reasonable on this file system.
    pub(crate) bytes: Option<u64>,
    pub(crate) mode: Mode,
    pub(crate) prealloc: bool,
    pub(crate) ephemeral: bool,
    pub(crate) sharing: Sharing,
}

/// A region that was made, and attached before anybody could see it.
pub(crate) struct Made {
    pub(crate) attachment: Arc<Attachment>,
    /// The size that was chosen because none was named.
    pub(crate) default_bytes: Option<u64>,
}

/// Makes the region `name`; `None` if the name is taken. If `instead_of` names a file,
/// that file gives up the name first.
///
/// # Errors
/// `InvalidSize`, `NoSpace`, `Permission`, `Io`.
pub(crate) fn make(
    process: &mut Process,
    directory: &Directory,
    name: &str,
    recipe: &Recipe,
    manner: Manner<'_>,
    instead_of: Option<FileId>,
) -> Result<Option<Made>> {
    sweep(directory, recipe.sharing);
    let bytes = match recipe.bytes {
        Some(bytes) => whole_pages(bytes)?,
        None => default_bytes(directory.fd(), directory.path())?,
    };
    let (temporary, maker) = temporary_file(directory)?;
    let path = directory.path().join(&temporary);
    let made = (|| {
        fill(&maker, bytes, recipe, &path)?;
        let shown = directory.path().join(name);
        // Another description than the maker's: the maker's lock ends when its own is
        // closed, and a mapping would keep it.
        let access = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let fd = rustix::fs::openat(directory.fd(), &*temporary, access, FileMode::empty())
            .map_err(|errno| failed("open", errno, &path))?;
        let target = write(RegionFile::from_fd(fd, Some(path.clone()))?, bytes, recipe)?;
        let attachment = Attachment::of(process, target, manner)?.ok_or(Error::Gone { path: shown.clone() })?;
        let names = directory.lock();
        if let Some(old) = instead_of
            && !names.remove(name, old)?
        {
            return Ok(None);
        }
        match rustix::fs::linkat(directory.fd(), &*temporary, directory.fd(), name, AtFlags::empty()) {
            Ok(()) => {}
            Err(Errno::EXIST) => return Ok(None),
            Err(errno) => return Err(failed("link", errno, &shown)),
        }
        drop(names);
        attachment.os().file.published(shown);
        Ok(Some(attachment))
    })();
    // On failure this drops the file's last name; it was never a region to anybody else.
    let _ = rustix::fs::unlinkat(directory.fd(), &*temporary, AtFlags::empty());
    drop(maker);
    let default_bytes = recipe.bytes.is_none().then_some(bytes);
    Ok(made?.map(|attachment| Made { attachment, default_bytes }))
}

/// Makes a region without a name, for this process and the children it forks.
///
/// # Errors
/// As for [`make`].
pub(crate) fn make_private(process: &mut Process, recipe: &Recipe, manner: Manner<'_>) -> Result<Made> {
    let path = Path::new("(private region)");
    let bytes = whole_pages(recipe.bytes.unwrap_or(DEFAULT_BYTES))?;
    let flags = rustix::fs::MemfdFlags::CLOEXEC | rustix::fs::MemfdFlags::ALLOW_SEALING;
    let fd = rustix::fs::memfd_create("cache-shm", flags).map_err(|errno| failed("memfd_create", errno, path))?;
    fill(&fd, bytes, recipe, path)?;
    // Nobody can cut it off under the map. A kernel that refuses leaves things as they
    // are for every other region.
    let _ = rustix::fs::fcntl_add_seals(&fd, SealFlags::SHRINK);
    let target = write(RegionFile::from_fd(fd, None)?, bytes, recipe)?;
    let attachment = Attachment::of(process, target, manner)?.ok_or(Error::Gone { path: path.to_owned() })?;
    Ok(Made { attachment, default_bytes: recipe.bytes.is_none().then_some(bytes) })
}

/// The size a region gets when nobody names one.
fn default_bytes(fd: BorrowedFd<'_>, path: &Path) -> Result<u64> {
    let Some(free) = free_bytes(fd) else { return Ok(DEFAULT_BYTES) };
    let bytes = DEFAULT_BYTES.min(free / 2) & !4095;
    if bytes < REGION_BYTES_MIN {
        return Err(Error::NoSpace { bytes: 2 * REGION_BYTES_MIN, free_bytes: free, path: path.to_owned() });
    }
    Ok(bytes)
}

/// The size as a whole number of pages: what the file will have.
pub(crate) fn whole_pages(bytes: u64) -> Result<u64> {
    let refuse = || Error::InvalidSize { given: bytes.to_string(), bytes_min: REGION_BYTES_MIN };
    let rounded = bytes.checked_next_multiple_of(4096).ok_or_else(refuse)?;
    if bytes < REGION_BYTES_MIN || rounded > REGION_BYTES_MAX { Err(refuse()) } else { Ok(rounded) }
}

fn temporary_file(directory: &Directory) -> Result<(String, OwnedFd)> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    loop {
        let random = u128::from_le_bytes(random::<16>()?);
        let name = format!("{TEMPORARY_PREFIX}{random:032x}");
        let path = directory.path().join(&name);
        match rustix::fs::openat(directory.fd(), &*name, flags, FileMode::RUSR | FileMode::WUSR) {
            Ok(fd) => {
                liveness::hold(fd.as_fd(), MAKER_BYTE).map_err(|errno| failed("fcntl(F_OFD_SETLK)", errno, &path))?;
                return Ok((name, fd));
            }
            // 128 random bits that are taken: somebody else's file. Others will do.
            Err(Errno::EXIST) => {}
            Err(errno @ (Errno::NOSPC | Errno::DQUOT)) => {
                return Err(failed_for_space("open", errno, REGION_BYTES_MIN, directory.fd(), directory.path()));
            }
            Err(errno) => return Err(failed("open", errno, &path)),
        }
    }
}

/// Gives the new file its size, memory for the fixed parts, group and mode.
fn fill(fd: &OwnedFd, bytes: u64, recipe: &Recipe, path: &Path) -> Result<()> {
    if let Some(free) = free_bytes(fd).filter(|free| *free < bytes) {
        return Err(Error::NoSpace { bytes, free_bytes: free, path: path.parent().unwrap_or(path).to_owned() });
    }
    let geometry = Geometry::for_size(bytes, recipe.mode, 0)?;
    rustix::fs::ftruncate(fd, bytes).map_err(|errno| failed_for_space("ftruncate", errno, bytes, fd, path))?;
    let end = if recipe.prealloc { bytes } else { header::fixed_bytes(&geometry) };
    let mut offset = 0;
    let mut can_fallocate = true;
    while offset < end {
        let step = STEP_BYTES.min(end - offset);
        let given = if can_fallocate {
            rustix::fs::fallocate(fd, FallocateFlags::empty(), offset, step)
        } else {
            write_zeros(fd, offset, step)
        };
        match given {
            Ok(()) => offset += step,
            Err(Errno::INTR) => {}
            Err(Errno::OPNOTSUPP | Errno::NOSYS) if can_fallocate => can_fallocate = false,
            Err(errno) => return Err(failed_for_space("fallocate", errno, end, fd, path)),
        }
    }
    if let Some(group) = recipe.sharing.group {
        let group = rustix::fs::Gid::from_raw(group);
        rustix::fs::fchown(fd, None, Some(group)).map_err(|errno| failed("fchown", errno, path))?;
    }
    let mode = FileMode::from_raw_mode(recipe.sharing.file_mode);
    rustix::fs::fchmod(fd, mode).map_err(|errno| failed("fchmod", errno, path))
}

/// For file systems that cannot reserve: the file is new, zeros change nothing.
fn write_zeros(fd: &OwnedFd, offset: u64, bytes: u64) -> std::result::Result<(), Errno> {
    static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];
    let mut done = 0;
    while done < bytes {
        let part = &ZEROS[..ZEROS.len().min((bytes - done) as usize)];
        done += rustix::io::pwrite(fd, part, offset + done)? as u64;
    }
    Ok(())
}

/// Maps the new file and writes the header, the magic last.
fn write(file: RegionFile, bytes: u64, recipe: &Recipe) -> Result<Target> {
    let geometry = Geometry::for_size(bytes, recipe.mode, u64::from_le_bytes(random::<8>()?))?;
    let identity = Identity {
        region_id: random::<16>()?,
        boot_id: boot_id(),
        created_unix_ms: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64),
        creator_pid: std::process::id(),
        ephemeral: recipe.ephemeral,
        file_mode: recipe.sharing.file_mode,
    };
    let path = file.shown();
    let map = |fd: BorrowedFd<'_>| Mapping::new(fd, bytes, true, &path);
    let mapping = Arc::new(file.with_fd(map).ok_or_else(|| Error::Gone { path: path.clone() })??);
    // SAFETY: R1. `mapping` lives to the end of this function, the region does not.
    let region = unsafe { mapping.region() };
    header::write(&region, &geometry, &identity);
    header::publish(&region);
    Ok(Target { file, geometry, identity, mapping: Some(mapping) })
}

/// Marks the region destroyed for all who are attached, then takes its name away.
///
/// # Errors
/// `Permission` (nothing was marked then), `Io`.
pub(crate) fn destroy(directory: &Directory, name: &str, file: &RegionFile) -> Result<()> {
    directory.check_removable(file)?;
    mark_destroyed(file);
    directory.lock().remove(name, file.id())?;
    Ok(())
}

/// Through the file, not through a map: a file shorter than its header must not be
/// touched in memory.
fn mark_destroyed(file: &RegionFile) {
    file.with_fd(|fd| {
        let long_enough = rustix::fs::fstat(fd).is_ok_and(|stat| stat.st_size as u64 >= DESTROYED + 8);
        if long_enough {
            // Who is not told here notices within a second that the name is gone.
            let _ = rustix::io::pwrite(fd, &1u64.to_le_bytes(), DESTROYED);
        }
    });
}

/// Removes temporary files whose makers died, and ephemeral regions whose last
/// participant was killed. Best effort: what cannot be looked at stays.
fn sweep(directory: &Directory, sharing: Sharing) {
    let Ok(entries) = rustix::fs::Dir::read_from(directory.fd()) else { return };
    for entry in entries.flatten() {
        let Ok(name) = entry.file_name().to_str() else { continue };
        if name.starts_with(TEMPORARY_PREFIX) {
            sweep_temporary(directory, name, sharing);
        } else if let Ok(Some(file)) = RegionFile::open(directory, name, sharing, true) {
            let _ = remove_left_over(directory, name, &file);
        }
    }
}

fn sweep_temporary(directory: &Directory, name: &str, sharing: Sharing) {
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let Ok(fd) = rustix::fs::openat(directory.fd(), name, flags, FileMode::empty()) else { return };
    let Ok(stat) = rustix::fs::fstat(&fd) else { return };
    // Its mode and group may not have been set yet: the owner decides.
    if check_file(&stat, Sharing { group: None, ..sharing }, directory.path()).is_err() {
        return;
    }
    let made = UNIX_EPOCH + Duration::new(stat.st_ctime.max(0) as u64, stat.st_ctime_nsec as u32);
    let is_old = SystemTime::now().duration_since(made).is_ok_and(|age| age >= SWEEP_AGE);
    if is_old && liveness::is_free(fd.as_fd(), MAKER_BYTE, 1) == Some(true) {
        let _ = directory.lock().remove(name, FileId::of(&stat));
    }
}

/// Removes an ephemeral region that everybody left: it should have gone with the last of
/// them, who was killed. False if it is none.
///
/// # Errors
/// `Permission`, `Io`.
pub(crate) fn remove_left_over(directory: &Directory, name: &str, file: &RegionFile) -> Result<bool> {
    let is_left_over = || match file.content() {
        Ok(Content::Ready(geometry, identity)) => identity.ephemeral && has_no_participants(file, &geometry),
        _ => false,
    };
    if !is_left_over() {
        return Ok(false);
    }
    // Asked again under the lock: who attaches to an ephemeral region holds it.
    let names = directory.lock();
    if is_left_over() {
        mark_destroyed(file);
        names.remove(name, file.id())?;
    }
    Ok(true)
}
