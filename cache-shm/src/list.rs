//! The regions of a directory, as a person would list them.
//!
//! Must never: change, attach or lock anything.

use std::path::{Path, PathBuf};

use cache_core::header::{self, HeaderError};
use cache_core::layout::HEADER_BYTES;
use cache_core::{FORMAT_VERSION, Result};
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::name::{TEMPORARY_PREFIX, default_dir, region_name};
use crate::sys::{boot_id, failed};

/// What a listed region can be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// It can be attached.
    Ready,
    /// It was made before this boot; opening it for writing makes it anew.
    EarlierBoot,
    /// Its maker is at work, or died.
    Half,
    /// It was destroyed and is about to lose its name.
    Destroyed,
    /// It is shorter than its header says.
    Truncated,
    /// It has another format version.
    OtherVersion,
    /// Its header is damaged.
    Corrupt,
    /// This user may not read it.
    Denied,
}

impl State {
    /// The state as a word.
    pub fn word(self) -> &'static str {
        match self {
            State::Ready => "ready",
            State::EarlierBoot => "earlier_boot",
            State::Half => "half_made",
            State::Destroyed => "destroyed",
            State::Truncated => "truncated",
            State::OtherVersion => "other_version",
            State::Corrupt => "corrupt",
            State::Denied => "denied",
        }
    }
}

/// A region in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegionInfo {
    /// Its name; with the directory this opens it.
    pub name: String,
    /// Its file.
    pub path: PathBuf,
    /// Bytes of the region (of the file, where the header does not tell).
    pub bytes: u64,
    /// Bytes of memory or disk that it occupies now.
    pub bytes_used: u64,
    /// When it was made, in milliseconds since 1970; 0 if unknown.
    pub created_unix_ms: u64,
    /// User id of its owner.
    pub uid: u32,
    /// Permission bits.
    pub mode: u32,
    /// Format version; 0 if unknown.
    pub format_version: u32,
    /// What it can be used for.
    pub state: State,
}

/// The regions in `dir`, or in [`crate::default_dir`], by name. Files that are not
/// regions are left out; a directory that does not exist has none.
///
/// # Errors
/// `Permission` or `Io` when the directory cannot be read; and as [`crate::default_dir`].
pub fn regions(dir: Option<&Path>) -> Result<Vec<RegionInfo>> {
    let path = dir.map_or_else(default_dir, |dir| Ok(dir.to_owned()))?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = match rustix::fs::open(&path, flags, Mode::empty()) {
        Ok(fd) => fd,
        Err(Errno::NOENT) => return Ok(Vec::new()),
        Err(errno) => return Err(failed("open", errno, &path)),
    };
    let path = std::fs::canonicalize(&path).unwrap_or(path);
    let entries = rustix::fs::Dir::read_from(&fd).map_err(|errno| failed("getdents", errno, &path))?;
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|errno| failed("getdents", errno, &path))?;
        // Names of regions are text.
        let Ok(file) = entry.file_name().to_str() else { continue };
        if file.starts_with(TEMPORARY_PREFIX) || file.starts_with('.') {
            continue;
        }
        found.extend(look(&fd, &path, file));
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

fn look(directory: &rustix::fd::OwnedFd, path: &Path, file: &str) -> Option<RegionInfo> {
    let stat = rustix::fs::statat(directory, file, AtFlags::SYMLINK_NOFOLLOW).ok()?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return None;
    }
    let mut info = RegionInfo {
        name: region_name(file).to_owned(),
        path: path.join(file),
        bytes: stat.st_size as u64,
        bytes_used: stat.st_blocks as u64 * 512,
        created_unix_ms: 0,
        uid: stat.st_uid,
        mode: stat.st_mode & 0o7777,
        format_version: 0,
        state: State::Denied,
    };
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let fd = match rustix::fs::openat(directory, file, flags, Mode::empty()) {
        Ok(fd) => fd,
        Err(Errno::ACCESS | Errno::PERM) => return Some(info),
        Err(_) => return None,
    };
    let mut page = [0u8; HEADER_BYTES as usize];
    let read = rustix::io::pread(&fd, &mut page[..], 0).ok()?;
    let destroyed = cache_core::layout::header::DESTROYED as usize;
    info.state = match header::parse(&page[..read]) {
        Ok((geometry, identity)) => {
            info.bytes = geometry.region_bytes;
            info.created_unix_ms = identity.created_unix_ms;
            info.format_version = FORMAT_VERSION;
            if info.bytes > stat.st_size as u64 {
                State::Truncated
            } else if page[destroyed..destroyed + 8] != [0; 8] {
                State::Destroyed
            } else if identity.boot_id != boot_id() {
                State::EarlierBoot
            } else {
                State::Ready
            }
        }
        Err(HeaderError::Version(version)) => {
            info.format_version = version;
            State::OtherVersion
        }
        Err(HeaderError::Corrupt(_)) => State::Corrupt,
        Err(HeaderError::Half) => State::Half,
        Err(HeaderError::NotRegion(_)) => return None,
    };
    Some(info)
}
