//! Directories, children, pipes and raw words: what the test asks of the system.

use std::sync::atomic::AtomicU32;

use cache_core::layout::stripe;
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus};

#[path = "../common/dir.rs"]
mod dir;
#[path = "../common/place.rs"]
mod place;
#[path = "../common/raw.rs"]
mod raw;
pub use dir::Dir;
pub use raw::Raw;

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

impl Raw {
    /// Calls `with` on the lock word of a stripe.
    pub fn with_lock<T>(&self, stripe: u32, with: impl FnOnce(&AtomicU32) -> T) -> T {
        with(self.region().word32(self.geometry.stripe_offset(stripe) + stripe::LOCK))
    }

    /// The stripe of a key.
    pub fn stripe_of(&self, key: &[u8]) -> u32 {
        place::stripe_of(&self.geometry, key)
    }
}
