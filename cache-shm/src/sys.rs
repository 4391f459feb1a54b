//! Small shared pieces around system calls: error mapping, random bytes, the boot's
//! name, this process's start time.
//!
//! Must never: hide an error number. What the table of errors has no row for becomes
//! `Io` with the call, the number and the file.

use std::path::Path;

use cache_core::{Error, Result};
use rustix::fd::AsFd;
use rustix::io::Errno;

/// The error of a call that failed on `path`.
pub(crate) fn failed(operation: &'static str, errno: Errno, path: &Path) -> Error {
    match errno {
        Errno::ACCESS | Errno::PERM => {
            Error::Permission { path: path.to_owned(), reason: "the system denies this user access to it" }
        }
        Errno::ROFS => Error::Permission { path: path.to_owned(), reason: "its file system is mounted read-only" },
        errno => Error::Io { operation, errno: errno.raw_os_error(), path: path.to_owned() },
    }
}

/// As [`failed`], for calls that ask the file system for `bytes` bytes of space.
pub(crate) fn failed_for_space(operation: &'static str, errno: Errno, bytes: u64, fd: impl AsFd, path: &Path) -> Error {
    match errno {
        Errno::NOSPC | Errno::DQUOT | Errno::NOMEM | Errno::FBIG => {
            Error::NoSpace { bytes, free_bytes: free_bytes(fd).unwrap_or(0), path: path.to_owned() }
        }
        errno => failed(operation, errno, path),
    }
}

/// Bytes that the file system of `fd` can still give; `None` where it has no limit.
pub(crate) fn free_bytes(fd: impl AsFd) -> Option<u64> {
    let statfs = rustix::fs::fstatfs(fd).ok()?;
    // A tmpfs without a size says that it has no blocks at all.
    (statfs.f_blocks != 0).then(|| (statfs.f_bavail as u64).saturating_mul(statfs.f_bsize as u64))
}

/// Bytes that the system's random generator gives.
pub(crate) fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0u8; N];
    let mut filled = 0;
    while filled < N {
        match rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty()) {
            Ok(count) => filled += count,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(failed("getrandom", errno, Path::new("/dev/urandom"))),
        }
    }
    Ok(bytes)
}

/// The name of this boot; zeros where the system does not tell.
pub(crate) fn boot_id() -> [u8; 16] {
    let mut id = [0; 16];
    let Ok(text) = std::fs::read_to_string("/proc/sys/kernel/random/boot_id") else { return id };
    let digits: Vec<u32> = text.chars().filter_map(|c| c.to_digit(16)).collect();
    for (byte, pair) in id.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = (pair[0] << 4 | pair[1]) as u8;
    }
    id
}

/// When this process started, in clock ticks since boot; 0 where `/proc` is missing.
/// A hint for people, as is the process id.
pub(crate) fn start_time() -> u64 {
    let Ok(stat) = std::fs::read_to_string("/proc/self/stat") else { return 0 };
    // The second field is the command in parentheses and may hold anything; the start
    // time is the 20th field after it.
    let after_command = stat.rsplit(')').next().unwrap_or("");
    after_command.split_whitespace().nth(19).and_then(|field| field.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_boot_has_a_name_and_this_process_a_start_time() {
        assert_ne!(boot_id(), [0; 16]);
        assert_eq!(boot_id(), boot_id());
        assert_ne!(start_time(), 0);
    }

    #[test]
    fn random_bytes_differ_from_call_to_call() {
        assert_ne!(random::<16>().unwrap(), random::<16>().unwrap());
    }
}
