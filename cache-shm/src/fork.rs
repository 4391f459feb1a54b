//! This process, and how a forked child learns that it is another one.
//!
//! Owns: one page marked `MADV_WIPEONFORK`. The kernel hands a forked child a page of
//! zeros in its place, whichever call forked it and whether or not fork handlers ran:
//!
//! ```text
//! epoch          which process of this line of forks we are; 0 = not known yet
//! process lock   serialises attaching, binding and closing in this process
//! instant lock   held while a liveness lock's descriptor is open; fork waits for it
//! ```
//!
//! The two locks lie in the page because a thread of the parent may hold them at the
//! fork: in the child they are free again, with everything they protect made anew.
//!
//! Must never: be held around user code, or while waiting for another process.

use std::cell::Cell;
use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cache_core::{Error, Result};
use rustix::mm::{Advice, MapFlags, ProtFlags};
use rustix::thread::futex;

use crate::attach::Registry;
use crate::handover;
use crate::sys::failed;

#[repr(C)]
struct Page {
    epoch: AtomicU64,
    process_lock: Lock,
    instant_lock: Lock,
}

const PAGE_BYTES: usize = 4096;
/// Longest wait for another thread of this process that attaches or closes.
const PROCESS_LOCK_WAIT: Duration = Duration::from_secs(30);
/// Longest time that `fork` waits for an attach in another thread to pass its instant.
const INSTANT_LOCK_WAIT: Duration = Duration::from_secs(1);

/// Stands in until the first use of the library in this program. Never written to.
static NEVER_USED: Page =
    Page { epoch: AtomicU64::new(0), process_lock: Lock(AtomicU32::new(0)), instant_lock: Lock(AtomicU32::new(0)) };
static PAGE: AtomicPtr<Page> = AtomicPtr::new((&raw const NEVER_USED).cast_mut());
/// The last epoch of this line of forks; an ordinary variable that a child inherits, so
/// that its own epoch is one that no ancestor's handle carries.
static LAST_EPOCH: AtomicU64 = AtomicU64::new(0);
/// What the process lock protects. A child starts with a new one.
static PROCESS: AtomicPtr<Process> = AtomicPtr::new(ptr::null_mut());
/// The epoch for which a fork handler already reset the engine's thread seats.
static SEATS_RESET_EPOCH: AtomicU64 = AtomicU64::new(0);

/// Which process of this line of forks the caller is in; 0 in one that has not yet
/// called [`enter`]. One load of a line that nobody writes.
#[inline]
pub(crate) fn epoch() -> u64 {
    page().epoch.load(Ordering::Relaxed)
}

#[inline]
fn page() -> &'static Page {
    // Acquire: pairs with the AcqRel of the exchange in `mapped_page`.
    // SAFETY: S4. Points to `NEVER_USED` or to a mapped page; neither is ever freed, and all
    // zeros (what a fork leaves) is a valid `Page`.
    unsafe { &*PAGE.load(Ordering::Acquire) }
}

/// The wiped page, mapped on the first call.
fn mapped_page() -> Result<&'static Page> {
    let current = PAGE.load(Ordering::Acquire);
    if !ptr::eq(current, &raw const NEVER_USED) {
        return Ok(page());
    }
    let fail = |operation, errno| failed(operation, errno, Path::new("memory"));
    // SAFETY: S5. A new private mapping at an address of the kernel's choice.
    let fresh = unsafe {
        rustix::mm::mmap_anonymous(ptr::null_mut(), PAGE_BYTES, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE)
    }
    .map_err(|errno| fail("mmap", errno))?;
    // SAFETY: S5. The page was mapped above and belongs to us.
    let advised = unsafe { rustix::mm::madvise(fresh, PAGE_BYTES, Advice::LinuxWipeOnFork) };
    let discard = || {
        // SAFETY: S5. Mapped above; no reference to it was made.
        let _ = unsafe { rustix::mm::munmap(fresh, PAGE_BYTES) };
    };
    if let Err(errno) = advised {
        discard();
        return Err(fail("madvise(MADV_WIPEONFORK)", errno));
    }
    // AcqRel: publishes the page (it is all zeros) and, on failure, sees the other one.
    if PAGE.compare_exchange(current, fresh.cast(), Ordering::AcqRel, Ordering::Acquire).is_err() {
        discard();
        return Ok(page());
    }
    // SAFETY: S5. The handlers are functions of this library, which is never unloaded
    // while its handlers are registered (the C library removes them with it), and they
    // touch atomics only.
    let registered =
        unsafe { libc::pthread_atfork(Some(before_fork), Some(after_fork_in_parent), Some(after_fork_in_child)) };
    if registered != 0 {
        // Without handlers a fork in the instants of an attach may keep our liveness
        // lock alive in the child: late recovery, nothing worse. The page still works.
        debug_assert!(false, "pthread_atfork: {registered}");
    }
    Ok(page())
}

thread_local! {
    /// True while this thread forks and holds the instant lock. Without a destructor:
    /// a thread may fork in its last moments.
    static FORKING: Cell<bool> = const { Cell::new(false) };
}

extern "C" fn before_fork() {
    // If an attach in another thread hangs, the fork goes on without: its child may then
    // inherit the descriptor of a liveness lock, as after a raw clone.
    if let Ok(guard) = keep_forks_out() {
        handover::offer(&guard);
        FORKING.set(true);
        // The hook below, in this thread, unlocks.
        std::mem::forget(guard);
    }
}

extern "C" fn after_fork_in_parent() {
    if FORKING.replace(false) {
        handover::give(&ForksKeptOut(()));
    }
}

extern "C" fn after_fork_in_child() {
    cache_core::participant::after_fork_in_child();
    // Relaxed: a forked child has one thread.
    SEATS_RESET_EPOCH.store(LAST_EPOCH.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    if FORKING.replace(false) {
        // The page was wiped with its locks, but there is nobody else yet.
        let guard = std::mem::ManuallyDrop::new(ForksKeptOut(()));
        if handover::is_needed(&guard) {
            // The child's own epoch first: what it takes over is its own.
            drop(enter());
            handover::take(&guard);
        }
    }
}

/// Process-local state behind the process lock.
pub(crate) struct Process {
    /// This process's epoch, never 0.
    pub(crate) epoch: u64,
    /// The attachments of this process.
    pub(crate) registry: Registry,
    /// What stood here when we were forked. Never read.
    _parent: *mut Process,
}

/// The process lock, held.
pub(crate) struct Entered {
    process: *mut Process,
}

/// Takes the process lock; in a new process (the first use, or a forked child) makes
/// its state first.
///
/// # Errors
/// `Busy` when another thread holds the lock for half a minute; `Io` where the kernel
/// cannot wipe a page on fork.
pub(crate) fn enter() -> Result<Entered> {
    let page = mapped_page()?;
    page.process_lock.lock(PROCESS_LOCK_WAIT)?;
    // Relaxed, here and below: ordered by the process lock.
    if page.epoch.load(Ordering::Relaxed) == 0 {
        let epoch = LAST_EPOCH.load(Ordering::Relaxed) + 1;
        let was_reset = SEATS_RESET_EPOCH.load(Ordering::Relaxed) == epoch;
        // A raw clone ran no handlers. Only the thread that was cloned knows which seat is
        // taken. If another is here first, those of the parent's threads stay taken: better
        // a seat that nobody has than one that two threads have.
        if epoch > 1 && !was_reset && rustix::thread::gettid() == rustix::process::getpid() {
            cache_core::participant::after_fork_in_child();
        }
        // The parent's state, if there is one, is kept as it is: its threads may have
        // been in the middle of changing it.
        let _parent = PROCESS.load(Ordering::Relaxed);
        let process = Box::new(Process { epoch, registry: Registry::default(), _parent });
        PROCESS.store(Box::into_raw(process), Ordering::Relaxed);
        LAST_EPOCH.store(epoch, Ordering::Relaxed);
        page.epoch.store(epoch, Ordering::Relaxed);
    }
    Ok(Entered { process: PROCESS.load(Ordering::Relaxed) })
}

impl Deref for Entered {
    type Target = Process;
    fn deref(&self) -> &Process {
        // SAFETY: S4. Made by this process in `enter`, never freed, and we hold its lock.
        unsafe { &*self.process }
    }
}

impl DerefMut for Entered {
    fn deref_mut(&mut self) -> &mut Process {
        // SAFETY: S4. As above; the lock makes us the only one.
        unsafe { &mut *self.process }
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        page().process_lock.unlock();
    }
}

/// The instant lock, held: no fork of this process (but a raw clone) happens now.
pub(crate) struct ForksKeptOut(());

/// Keeps forks out while a descriptor that carries a liveness lock is open.
///
/// # Errors
/// `Busy` when another thread keeps the lock for a second.
pub(crate) fn keep_forks_out() -> Result<ForksKeptOut> {
    mapped_page()?.instant_lock.lock(INSTANT_LOCK_WAIT)?;
    Ok(ForksKeptOut(()))
}

impl Drop for ForksKeptOut {
    fn drop(&mut self) {
        page().instant_lock.unlock();
    }
}

/// A lock of which zero means free, whatever happened before the page was wiped.
///
/// ```text
/// 0 free  ->  1 held  ->  2 held, somebody may sleep
/// ```
struct Lock(AtomicU32);

impl Lock {
    fn lock(&self, wait: Duration) -> Result<()> {
        // CAS ok = Acquire: we enter; pairs with the Release in `unlock`. err = Relaxed.
        if self.0.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).is_ok() {
            return Ok(());
        }
        let started = Instant::now();
        // Acquire: as above. 2, because others may sleep as well.
        while self.0.swap(2, Ordering::Acquire) != 0 {
            let waited = started.elapsed();
            let Some(left) = wait.checked_sub(waited) else {
                return Err(Error::Busy { waited_ms: waited.as_millis() as u64 });
            };
            let nap = left.min(Duration::from_millis(50));
            let timeout = futex::Timespec { tv_sec: 0, tv_nsec: nap.as_nanos() as _ };
            // Any outcome (woken, timed out, changed before we slept) means: look again.
            let _ = futex::wait(&self.0, futex::Flags::PRIVATE, 2, Some(&timeout));
        }
        Ok(())
    }

    fn unlock(&self) {
        // Release: pairs with the Acquire in `lock`.
        if self.0.swap(0, Ordering::Release) == 2 {
            let _ = futex::wake(&self.0, futex::Flags::PRIVATE, 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_lock_lets_one_thread_in_at_a_time() {
        let mut inside = 0u64;
        let inside_address = &raw mut inside as usize;
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(move || {
                    for _ in 0..1000 {
                        let _entered = enter().unwrap();
                        // SAFETY: S4. The lock under test makes this the only access.
                        unsafe { *(inside_address as *mut u64) += 1 };
                    }
                });
            }
        });
        assert_eq!(inside, 4000);
    }

    #[test]
    fn a_forked_child_has_another_epoch_and_free_locks() {
        let ours = enter().unwrap().epoch;
        let held = enter().unwrap();
        // SAFETY: S5. The child only touches atomics and leaves by `_exit`.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let fresh = epoch() == 0;
            let code = match enter() {
                Ok(entered) if fresh && entered.epoch == ours + 1 && epoch() == ours + 1 => 0,
                _ => 1,
            };
            // SAFETY: S5. Leaves at once, without running the parent's exit handlers.
            unsafe { libc::_exit(code) };
        }
        drop(held);
        let mut status = 0;
        // SAFETY: S5. Waits for the child made above.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        assert_eq!(status, 0);
        assert_eq!(epoch(), ours);
    }
}
