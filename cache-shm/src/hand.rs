//! The hand of a clock that tests move: eight bytes of memory that processes share.
//!
//! Owns: the file `.clock` in a directory of regions. Every process that opens a region
//! there goes by it, whatever started the process, so that no two of them disagree about
//! what has expired: the moments that the region holds are on this clock's scale.
//!
//! ```text
//! 0    8        16
//! +----+--------+
//! | magic | now |   milliseconds, as the clock of `cache_core::Host` counts them
//! +----+--------+
//! ```

use std::sync::atomic::{AtomicU64, Ordering};

use cache_core::{Error, Result};
use rustix::fd::AsFd;
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use crate::directory::{Directory, Sharing};
use crate::file::RegionFile;
use crate::mapping::Mapping;
use crate::sys::{failed, random};

/// No region's name begins with a dot.
const FILE: &str = ".clock";
const MAGIC: [u8; 8] = *b"cshmclk1";
const NOW_OFFSET: u64 = 8;
const BYTES: u64 = 16;

/// See the module.
#[derive(Debug)]
pub(crate) struct Hand {
    mapping: Mapping,
    writable: bool,
}

impl Hand {
    /// That of `directory`, which is put there and set to `now_ms` if there is none.
    ///
    /// # Errors
    /// As for [`Hand::of`].
    pub(crate) fn make(directory: &Directory, sharing: Sharing, now_ms: u64) -> Result<Hand> {
        if let Some(hand) = Hand::of(directory, sharing, true)? {
            return Ok(hand);
        }
        let unfinished = format!("{FILE}-{:032x}", u128::from_ne_bytes(random()?));
        let fail = |operation| move |errno| failed(operation, errno, &directory.path().join(FILE));
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC;
        let fd =
            rustix::fs::openat(directory.fd(), &unfinished, flags, Mode::RUSR | Mode::WUSR).map_err(fail("open"))?;
        // Visible under its name when it is whole, and never in the place of another.
        let made = write_whole(&fd, now_ms).map_err(fail("write")).and_then(|()| {
            match rustix::fs::linkat(directory.fd(), &unfinished, directory.fd(), FILE, AtFlags::empty()) {
                Ok(()) | Err(Errno::EXIST) => Ok(()),
                Err(errno) => Err(fail("link")(errno)),
            }
        });
        let _ = rustix::fs::unlinkat(directory.fd(), &unfinished, AtFlags::empty());
        made?;
        Hand::of(directory, sharing, true)?.ok_or_else(|| Error::Missing { path: directory.path().join(FILE) })
    }

    /// That of `directory`, if it has one.
    ///
    /// # Errors
    /// `NotRegion` for a file that is something else; `Symlink`, `ForeignOwner`,
    /// `Permission`, `Io`.
    pub(crate) fn of(directory: &Directory, sharing: Sharing, writable: bool) -> Result<Option<Hand>> {
        let Some(file) = RegionFile::open(directory, FILE, sharing, writable)? else { return Ok(None) };
        let path = file.shown();
        file.with_fd(|fd| {
            let mut bytes = [0; BYTES as usize];
            let count = rustix::io::pread(fd, &mut bytes, 0).map_err(|errno| failed("read", errno, &path))?;
            if count < bytes.len() || !bytes.starts_with(&MAGIC) {
                return Err(Error::NotRegion { path: path.clone(), reason: "nor the clock of a directory" });
            }
            Ok(Some(Hand { mapping: Mapping::new(fd, BYTES, writable, &path)?, writable }))
        })
        .unwrap_or(Ok(None))
    }

    #[inline]
    pub(crate) fn now_ms(&self) -> u64 {
        // Relaxed: a time publishes nothing.
        self.word().load(Ordering::Relaxed)
    }

    /// Moves it on, if it came from [`Hand::make`].
    pub(crate) fn advance(&self, by_ms: u64) {
        if !self.writable {
            return;
        }
        // Relaxed, both: as in `now_ms`. At the end of time it stays there.
        let _ =
            self.word().fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now_ms| Some(now_ms.saturating_add(by_ms)));
    }

    #[inline]
    fn word(&self) -> &AtomicU64 {
        // SAFETY: R1, R3. Inside the mapping, which this value owns, and aligned; only
        // atomics touch these bytes, and only where it is writable do they change them.
        unsafe { &*self.mapping.start().add(NOW_OFFSET as usize).cast::<AtomicU64>() }
    }
}

fn write_whole(fd: impl AsFd, now_ms: u64) -> rustix::io::Result<()> {
    let mut bytes = [0; BYTES as usize];
    bytes[..MAGIC.len()].copy_from_slice(&MAGIC);
    bytes[NOW_OFFSET as usize..].copy_from_slice(&now_ms.to_ne_bytes());
    match rustix::io::pwrite(fd, &bytes, 0) {
        Ok(count) if count == bytes.len() => Ok(()),
        Ok(_) => Err(Errno::NOSPC),
        Err(errno) => Err(errno),
    }
}
