//! One thread of a process that sleeps for all who wait for locks and must not sleep themselves:
//! the tasks of event loops.
//!
//! Owns: that thread, which lives from the first wait to a moment after the last. It sleeps on
//! the bells of all names that are waited for, in one system call (`futex_waitv`), and looks
//! after whatever rings; and every [`TICK`] after all, because death and deadlines ring
//! nobody. When a name is free it tells one who waits for it, by a descriptor that an event
//! loop watches.
//!
//! ```text
//!  task --Cache::wait_for_lock--> incoming --> group of the name --free--> Bell::rung + eventfd --> loop
//! ```
//!
//! Must never: take a lock of the region for anybody (who is told tries it), call back into a
//! language's runtime, or be known to a forked child, which begins with none.

use std::collections::VecDeque;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use cache_core::{Error, Name, Result};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::thread::futex;
use rustix::time::{ClockId, Timespec, clock_gettime};

use crate::cache::Cache;
use crate::fork;
use crate::sys::failed;

/// Longest time between two looks at a name.
const TICK: Duration = Duration::from_millis(20);
/// How long the thread stays when nobody waits.
const IDLE: Duration = Duration::from_millis(100);
/// Words that the kernel lets one thread sleep on, our own among them.
const WORDS_MAX: usize = 128;
const STACK_BYTES: usize = 128 * 1024;

/// What an event loop watches.
#[derive(Debug)]
pub struct Bell {
    descriptor: OwnedFd,
    rung: Mutex<Vec<u64>>,
}

impl Bell {
    /// A new one; `None` where the kernel cannot wait on several words (before Linux 5.16).
    ///
    /// # Errors
    /// `Io` if there is no descriptor left.
    pub fn new() -> Result<Option<Arc<Bell>>> {
        if !kernel_waits() {
            return Ok(None);
        }
        let descriptor = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|errno| failed("eventfd", errno, std::path::Path::new("memory")))?;
        Ok(Some(Arc::new(Bell { descriptor, rung: Mutex::default() })))
    }

    /// The numbers of the waits that are over since the last call. Clears what makes the
    /// descriptor readable.
    pub fn rung(&self) -> Vec<u64> {
        // Before the list: what comes later makes it readable again.
        let _ = rustix::io::read(&self.descriptor, &mut [0; 8]);
        std::mem::take(&mut lock(&self.rung))
    }

    fn ring(&self, number: u64) {
        lock(&self.rung).push(number);
        // Full means that it is readable anyway.
        let _ = rustix::io::write(&self.descriptor, &1u64.to_ne_bytes());
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// Somebody waits, until this is dropped.
#[derive(Debug)]
pub struct Wait {
    bell: Arc<Bell>,
    number: u64,
}

impl Cache {
    /// Lets `bell` ring, with `number`, when the lock `name` can perhaps be taken; or one of the
    /// `count` permits of that semaphore, if `count` is not 0. Once: who tries in vain asks
    /// again. Of those who wait in this process for one name, one is told at a time, in their
    /// order. It does not matter how the holder ended: a dead one is noticed within 20 ms.
    ///
    /// # Errors
    /// `ReadOnly`, `Closed`, `Gone`; `Io` if no thread can be started.
    pub fn wait_for_lock(&self, name: Name, count: u32, bell: &Arc<Bell>, number: u64) -> Result<Arc<Wait>> {
        // Also tells a forked child that it is one.
        self.writer()?;
        let shared = shared();
        let wait = Arc::new(Wait { bell: Arc::clone(bell), number });
        let request = Request { cache: self.clone(), name, count, wait: Arc::downgrade(&wait) };
        let mut state = lock(&shared.state);
        if !state.is_running {
            start(shared)?;
            state.is_running = true;
        }
        state.incoming.push(request);
        drop(state);
        // Release: pairs with the Acquire in `run`, which then finds the request.
        shared.word.fetch_add(1, Ordering::Release);
        let _ = futex::wake(&shared.word, futex::Flags::PRIVATE, 1);
        Ok(wait)
    }
}

/// The state of one process. A forked child makes its own: the thread is not there, and may have
/// held the lock.
struct Shared {
    epoch: u64,
    /// Changes with each request.
    word: AtomicU32,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    incoming: Vec<Request>,
    is_running: bool,
}

struct Request {
    cache: Cache,
    name: Name,
    count: u32,
    wait: Weak<Wait>,
}

fn shared() -> &'static Shared {
    static SHARED: AtomicPtr<Shared> = AtomicPtr::new(ptr::null_mut());
    // Acquire: pairs with the AcqRel below.
    let current = SHARED.load(Ordering::Acquire);
    // SAFETY: S4. Null, or made below and never freed.
    match unsafe { current.as_ref() } {
        Some(shared) if shared.epoch == fork::epoch() => return shared,
        // A parent's is left as it is.
        _ => {}
    }
    let fresh = Shared { epoch: fork::epoch(), word: AtomicU32::new(0), state: Mutex::default() };
    let fresh = Box::into_raw(Box::new(fresh));
    // AcqRel: publishes it; on failure, sees that of another thread.
    let published = match SHARED.compare_exchange(current, fresh, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => fresh,
        Err(other) => {
            // SAFETY: S4. Made above, and nobody has seen it.
            drop(unsafe { Box::from_raw(fresh) });
            other
        }
    };
    // SAFETY: S4. Never freed once it is published.
    unsafe { &*published }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether there is `futex_waitv`, and nothing forbids it.
fn kernel_waits() -> bool {
    /// 0 = not asked yet, 1 = no, 2 = yes. Not a lock, which a fork might leave held.
    static ANSWER: AtomicU32 = AtomicU32::new(0);
    // Relaxed: whoever asks gets the same answer.
    if ANSWER.load(Ordering::Relaxed) == 0 {
        // No words to wait for: that is refused where the call is known.
        let asked = futex::waitv(&[], futex::WaitvFlags::empty(), None, ClockId::Monotonic);
        ANSWER.store(if asked == Err(Errno::INVAL) { 2 } else { 1 }, Ordering::Relaxed);
    }
    ANSWER.load(Ordering::Relaxed) == 2
}

/// Starts the thread, with all signals blocked: they are for the threads of the program.
fn start(shared: &'static Shared) -> Result<()> {
    // SAFETY: S5. Both sets are ours; the mask of this thread is put back below.
    let before = unsafe {
        let (mut all, mut before) = (std::mem::zeroed(), std::mem::zeroed());
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
        before
    };
    let name = String::from("cache-shm-wait");
    let started = std::thread::Builder::new().name(name).stack_size(STACK_BYTES).spawn(|| run(shared));
    // SAFETY: S5. As above.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, ptr::null_mut()) };
    started.map(drop).map_err(|error| {
        let errno = Errno::from_io_error(&error).unwrap_or(Errno::AGAIN);
        failed("clone", errno, std::path::Path::new("memory"))
    })
}

/// All who wait for one name.
struct Group {
    cache: Cache,
    name: Name,
    count: u32,
    waits: VecDeque<Weak<Wait>>,
    /// Where to sleep for it, and the value there; `None`: only the next tick looks.
    sleeps: Option<(*const AtomicU32, u32)>,
    is_new: bool,
}

impl Group {
    /// Tells the first, or all, that are still there.
    fn tell(&mut self, all: bool) {
        while let Some(wait) = self.waits.pop_front() {
            if let Some(wait) = wait.upgrade() {
                wait.bell.ring(wait.number);
                if !all {
                    return;
                }
            }
        }
    }

    /// Whether somebody could take it; notes where to sleep if not. Neither attaches anew nor
    /// takes note of a region that is gone: both are for those who use the handle.
    fn is_free(&mut self) -> Result<bool> {
        let attachment = self.cache.0.attachment()?;
        if attachment.is_gone() || attachment.os().is_gone() {
            return Ok(true);
        }
        let map = attachment.map();
        let Some((word, value)) = map.await_lease(self.name)? else { return Ok(true) };
        self.sleeps = Some((ptr::from_ref(word), value));
        if self.count == 0 {
            return Ok(map.lease(self.name).is_none());
        }
        Ok(map.free_permits(self.name, self.count)? > 0)
    }

    /// Tells whoever should try. Announces a sleeper before it looks, so that what is given
    /// back after the look rings.
    fn look(&mut self) {
        self.is_new = false;
        self.sleeps = None;
        self.waits.retain(|wait| wait.strong_count() > 0);
        if self.waits.is_empty() {
            return;
        }
        match self.is_free() {
            Ok(true) => self.tell(false),
            // Somebody is stopped in the middle of changing it: whoever tried would wait for that.
            Ok(false) | Err(Error::Busy { .. }) => {}
            // Whoever tries gets the error.
            Err(_) => self.tell(true),
        }
    }
}

fn run(shared: &Shared) {
    let mut groups: Vec<Group> = Vec::new();
    let mut next_tick = Instant::now() + TICK;
    let mut idle_since = None;
    loop {
        // Acquire: pairs with the Release in `wait_for_lock`.
        let word = shared.word.load(Ordering::Acquire);
        let mut state = lock(&shared.state);
        let incoming = std::mem::take(&mut state.incoming);
        if incoming.is_empty() && groups.is_empty() {
            if idle_since.get_or_insert_with(Instant::now).elapsed() >= IDLE {
                state.is_running = false;
                return;
            }
        } else {
            idle_since = None;
        }
        drop(state);
        for request in incoming {
            add(&mut groups, request);
        }
        let now = Instant::now();
        let is_tick = now >= next_tick;
        if is_tick {
            next_tick = now + TICK;
        }
        groups.retain_mut(|group| {
            if is_tick || group.is_new {
                group.look();
            }
            !group.waits.is_empty()
        });
        let longest = if groups.is_empty() { IDLE } else { next_tick.saturating_duration_since(now) };
        match sleep(&shared.word, word, &groups, longest) {
            Rang::Group(index) => groups[index].is_new = true,
            Rang::Some => groups.iter_mut().for_each(|group| group.is_new = true),
            Rang::Nothing => {}
        }
    }
}

fn add(groups: &mut Vec<Group>, Request { cache, name, count, wait }: Request) {
    // Names are 128 bits of a hash that every region seeds anew: equal ones are of one region.
    if let Some(group) = groups.iter_mut().find(|group| (group.name, group.count) == (name, count)) {
        group.waits.push_back(wait);
        group.is_new = true;
        return;
    }
    groups.push(Group { cache, name, count, waits: VecDeque::from([wait]), sleeps: None, is_new: true });
}

/// What ended a sleep.
enum Rang {
    Group(usize),
    /// One or several of them, before the sleep began.
    Some,
    Nothing,
}

/// Sleeps until our own word or the bell of a group changes, or for `longest`.
fn sleep(own: &AtomicU32, value: u32, groups: &[Group], longest: Duration) -> Rang {
    let slot = |address: *const AtomicU32, value: u32, flags| {
        let mut slot = futex::Wait::new();
        slot.val = u64::from(value);
        slot.uaddr = futex::WaitPtr::new(address.cast_mut().cast());
        slot.flags = flags;
        slot
    };
    let mut slots = vec![slot(own, value, futex::WaitFlags::SIZE_U32 | futex::WaitFlags::PRIVATE)];
    let mut sleepers = vec![0];
    for (index, group) in groups.iter().enumerate() {
        if let Some((address, value)) = group.sleeps
            && slots.len() < WORDS_MAX
        {
            slots.push(slot(address, value, futex::WaitFlags::SIZE_U32));
            sleepers.push(index);
        }
    }
    let now = clock_gettime(ClockId::Monotonic);
    let nanoseconds = now.tv_nsec as u64 + u64::from(longest.subsec_nanos());
    let until = Timespec {
        tv_sec: now.tv_sec + longest.as_secs() as i64 + (nanoseconds / 1_000_000_000) as i64,
        tv_nsec: (nanoseconds % 1_000_000_000) as _,
    };
    // The words stay mapped: each group has a handle, which keeps what it was bound to. (And the
    // kernel refuses what is not mapped.)
    match futex::waitv(&slots, futex::WaitvFlags::empty(), Some(&until), ClockId::Monotonic) {
        Ok(0) | Err(Errno::TIMEDOUT | Errno::INTR) => Rang::Nothing,
        Ok(at) => sleepers.get(at).map_or(Rang::Some, |index| Rang::Group(*index)),
        // One has changed before the sleep. Relaxed: if it is our own, the loop loads it again.
        Err(Errno::AGAIN) if own.load(Ordering::Relaxed) != value => Rang::Nothing,
        Err(Errno::AGAIN) => Rang::Some,
        // The kernel will not have it: then ticks look.
        Err(_) => {
            std::thread::sleep(longest.min(TICK));
            Rang::Nothing
        }
    }
}

#[cfg(test)]
mod tests {
    use cache_core::{Kind, NEVER, Terms};
    use rustix::event::{PollFd, PollFlags, poll};

    use super::*;

    fn cache() -> Cache {
        Cache::builder(None).size(1 << 20).create().unwrap()
    }

    fn terms(holder: u64, ttl_ms: u64) -> Terms {
        Terms { holder, ttl_ms, reentrant: false, timeout_ns: 0 }
    }

    fn bell() -> Option<Arc<Bell>> {
        let bell = Bell::new().unwrap();
        if bell.is_none() {
            println!("SKIP: waiter: this kernel has no futex_waitv");
        }
        bell
    }

    /// What rings within ten seconds.
    fn next(bell: &Bell) -> Vec<u64> {
        let ten_seconds = Timespec { tv_sec: 10, tv_nsec: 0 };
        poll(&mut [PollFd::new(bell, PollFlags::IN)], Some(&ten_seconds)).unwrap();
        bell.rung()
    }

    #[test]
    fn who_waits_is_told_one_after_the_other() {
        let (cache, Some(bell)) = (cache(), bell()) else { return };
        let map = cache.writer().unwrap();
        let name = map.lease_name(Kind::Lock, b"lock").unwrap();
        let mut token = map.acquire_lease(name, &terms(1, NEVER)).unwrap().unwrap();
        let gone = cache.wait_for_lock(name, 0, &bell, 7).unwrap();
        let waits: Vec<_> = (0..3).map(|number| cache.wait_for_lock(name, 0, &bell, number).unwrap()).collect();
        drop(gone);
        for number in 0..waits.len() as u64 {
            assert_eq!(bell.rung(), []);
            map.release_lease(name, 1, token).unwrap();
            let first = next(&bell);
            token = map.acquire_lease(name, &terms(1, NEVER)).unwrap().unwrap();
            // A tick between the two may have told another.
            assert_eq!(first[0], number);
            if first.len() > 1 {
                return;
            }
        }
    }

    #[test]
    fn who_waits_is_told_of_deadlines_of_free_names_and_of_closed_handles() {
        let (cache, Some(bell)) = (cache(), bell()) else { return };
        let map = cache.writer().unwrap();
        let name = |text: &[u8]| map.lease_name(Kind::Lock, text).unwrap();
        let _free = cache.wait_for_lock(name(b"free"), 0, &bell, 1).unwrap();
        assert_eq!(next(&bell), [1]);
        map.acquire_lease(name(b"late"), &terms(1, 30)).unwrap();
        let _late = cache.wait_for_lock(name(b"late"), 0, &bell, 2).unwrap();
        assert_eq!(next(&bell), [2]);
        map.acquire_permit(name(b"gate"), 2, &terms(1, NEVER)).unwrap();
        let (permit, token) = map.acquire_permit(name(b"gate"), 2, &terms(1, NEVER)).unwrap().unwrap();
        let _gate = cache.wait_for_lock(name(b"gate"), 2, &bell, 3).unwrap();
        map.release_permit(name(b"gate"), permit, 1, token).unwrap();
        assert_eq!(next(&bell), [3]);
        map.acquire_lease(name(b"held"), &terms(1, NEVER)).unwrap();
        let other = cache.clone();
        let _held = other.wait_for_lock(name(b"held"), 0, &bell, 4).unwrap();
        other.close();
        assert_eq!(next(&bell), [4]);
    }

    #[test]
    fn more_names_than_the_kernel_takes_are_waited_for() {
        let (cache, Some(bell)) = (Cache::builder(None).size(64 << 20).create().unwrap(), bell()) else { return };
        let map = cache.writer().unwrap();
        let names: Vec<_> =
            (0..200).map(|number| map.lease_name(Kind::Lock, format!("lock {number}").as_bytes()).unwrap()).collect();
        let tokens: Vec<_> =
            names.iter().map(|name| map.acquire_lease(*name, &terms(1, NEVER)).unwrap().unwrap()).collect();
        let _waits: Vec<_> =
            names.iter().zip(0..).map(|(name, number)| cache.wait_for_lock(*name, 0, &bell, number).unwrap()).collect();
        for (name, token) in names.iter().zip(tokens) {
            map.release_lease(*name, 1, token).unwrap();
        }
        let mut told = Vec::new();
        while told.len() < names.len() {
            let more = next(&bell);
            assert!(!more.is_empty(), "only {} were told", told.len());
            told.extend(more);
        }
        told.sort_unstable();
        assert_eq!(told, (0..200).collect::<Vec<u64>>());
    }
}
