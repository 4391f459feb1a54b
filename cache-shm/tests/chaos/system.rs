//! Directories, children, pipes and raw words: what the test asks of the system.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use cache_core::layout::stripe;
use cache_core::{Geometry, Region};
use rapidhash::v3::{RapidSecrets, rapidhash_v3_seeded};
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus};

/// A directory under /dev/shm that is removed with its files.
pub struct Dir(PathBuf);

impl Dir {
    pub fn new() -> Dir {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = PathBuf::from(format!("/dev/shm/cshm-chaos-{}-{number}", std::process::id()));
        std::fs::create_dir(&path).expect("a directory under /dev/shm");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).expect("its mode");
        Dir(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.0).expect("the directory");
        let mut names: Vec<String> =
            entries.flatten().map(|entry| entry.file_name().to_string_lossy().into()).collect();
        names.sort();
        names
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Nanoseconds on a clock that all processes share.
pub fn now_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// A forked child that has not been waited for. Dropping it kills it.
pub struct Child(Option<Pid>);

impl Child {
    /// Runs `body` in a child, which ends with code 0, or 101 if it panics.
    pub fn fork(body: impl FnOnce()) -> Child {
        // SAFETY: this program has one thread, so the child may do what its parent may.
        let pid = unsafe { libc::fork() };
        assert!(pid >= 0, "fork: {}", std::io::Error::last_os_error());
        if pid == 0 {
            // SAFETY: a plain system call; a child does not outlive the test.
            unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
            let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
            // SAFETY: leaves without running what the parent registered for its exit.
            unsafe { libc::_exit(if done.is_ok() { 0 } else { 101 }) };
        }
        Child(Pid::from_raw(pid))
    }

    pub fn signal(&self, signal: Signal) {
        let pid = self.0.expect("a child that was not waited for");
        rustix::process::kill_process(pid, signal).expect("a signal to our own child");
    }

    /// SIGKILL; returns when it is gone. Says what else had ended it before.
    pub fn kill(mut self) -> Result<(), String> {
        self.signal(Signal::KILL);
        match self.wait(WaitOptions::empty()) {
            Some(status) if status.terminating_signal() == Some(Signal::KILL.as_raw()) => Ok(()),
            status => Err(format!("a child that was to be killed had ended by itself: {status:?}")),
        }
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<WaitStatus> {
        self.wait(WaitOptions::NOHANG)
    }

    /// Waits until it ends.
    pub fn join(mut self) -> Option<WaitStatus> {
        self.wait(WaitOptions::empty())
    }

    fn wait(&mut self, options: WaitOptions) -> Option<WaitStatus> {
        let (_, status) = rustix::process::waitpid(self.0, options).expect("our own child")?;
        self.0 = None;
        Some(status)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if let Some(pid) = self.0 {
            let _ = rustix::process::kill_process(pid, Signal::KILL);
            let _ = self.wait(WaitOptions::empty());
        }
    }
}

/// The words of a region, mapped past the library.
pub struct Raw {
    base: *mut u8,
    bytes: usize,
    pub geometry: Geometry,
}

impl Raw {
    pub fn open(path: &Path) -> Raw {
        let file = std::fs::File::options().read(true).write(true).open(path).expect("the region's file");
        let bytes = file.metadata().expect("its size").len() as usize;
        let protection = rustix::mm::ProtFlags::READ | rustix::mm::ProtFlags::WRITE;
        let shared = rustix::mm::MapFlags::SHARED;
        // SAFETY: a new mapping.
        let base = unsafe { rustix::mm::mmap(std::ptr::null_mut(), bytes, protection, shared, &file, 0) };
        let base = base.expect("a mapping of the region").cast::<u8>();
        // SAFETY: mapped above, and nobody writes to the header of a region that is published.
        let page = unsafe { std::slice::from_raw_parts(base, 4096) };
        let (geometry, _) = cache_core::header::parse(page).expect("a region");
        Raw { base, bytes, geometry }
    }

    fn region(&self) -> Region {
        // SAFETY: the words that are borrowed from it below live as long as `self`.
        unsafe { Region::from_raw(self.base, self.bytes as u64) }
    }

    /// Calls `with` on the lock word of a stripe.
    pub fn with_lock<T>(&self, stripe: u32, with: impl FnOnce(&AtomicU32) -> T) -> T {
        with(self.region().word32(self.geometry.stripe_offset(stripe) + stripe::LOCK))
    }

    /// Calls `with` on the words.
    pub fn with_region<T>(&self, with: impl FnOnce(&Region) -> T) -> T {
        with(&self.region())
    }

    /// The stripe of a key, as the format says.
    pub fn stripe_of(&self, key: &[u8]) -> u32 {
        let hash = rapidhash_v3_seeded(key, &RapidSecrets::seed(self.geometry.seed));
        (hash >> 54) as u32 & (self.geometry.stripe_count - 1)
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // SAFETY: mapped in `open`; no word is borrowed any more.
        let _ = unsafe { rustix::mm::munmap(self.base.cast(), self.bytes) };
    }
}
