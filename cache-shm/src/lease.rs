//! Locks, semaphores and rate limits for programs in Rust.
//!
//! Owns: the numbers that tell the threads of this process apart, and the guards. The rows
//! and who holds them are the engine's (`cache_core::Map::acquire_lease`).

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cache_core::{Error, Hit, Kind, Limit, NEVER, Name, Result, Terms};

use crate::cache::Cache;

/// A number that no other thread of this process has, nor had. Even: tasks have odd ones.
pub fn thread_number() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    thread_local! {
        // Relaxed: only a number that nobody else gets.
        static NUMBER: u64 = LAST.fetch_add(2, Ordering::Relaxed) + 2;
    }
    // A thread in its last moments has no number of its own any more.
    NUMBER.try_with(|number| *number).unwrap_or(0)
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn ttl_ms(ttl: Option<Duration>) -> u64 {
    // A part of a millisecond counts as a whole one: nothing ends early.
    ttl.map_or(NEVER, |ttl| u64::try_from(ttl.as_nanos().div_ceil(1_000_000)).unwrap_or(NEVER))
}

/// A lock or permit that this thread holds, see [`Cache::lock`]. Given back on drop. In a
/// forked child it is the parent's, and dropping it there gives nothing back.
#[derive(Debug)]
pub struct Guard {
    cache: Cache,
    name: Name,
    permit: u32,
    holder: u64,
    token: u64,
    is_held: bool,
}

impl Guard {
    /// The fencing token: greater than that of any earlier holder of any name. Whatever the
    /// lock guards can refuse a smaller one than it has seen.
    pub fn token(&self) -> u64 {
        self.token
    }

    /// Lets it end in `ttl` from now, or with this process only (`None`).
    ///
    /// # Errors
    /// `NotHolder` if its ttl has passed.
    pub fn extend(&self, ttl: Option<Duration>) -> Result<()> {
        let name = self.name.permit(self.permit);
        self.cache.writer()?.extend_lease(name, self.holder, self.token, ttl_ms(ttl))
    }

    /// Gives it back.
    ///
    /// # Errors
    /// `NotHolder` if its ttl has passed: others may have had it meanwhile.
    pub fn release(mut self) -> Result<()> {
        self.is_held = false;
        self.give_back()
    }

    fn give_back(&self) -> Result<()> {
        let map = self.cache.map()?;
        map.release_permit(self.name, self.permit, self.holder, self.token)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if self.is_held {
            // It was late, or is the parent's: then there is nothing to give back.
            let _ = self.give_back();
        }
    }
}

impl Cache {
    fn terms(ttl: Option<Duration>, timeout: Duration) -> Terms {
        Terms { holder: thread_number(), ttl_ms: ttl_ms(ttl), reentrant: false, timeout_ns: nanoseconds(timeout) }
    }

    /// Takes the lock `name` of this region, which one thread of all processes holds at a
    /// time; `None` if others held it for all of `timeout`. It ends with the guard, with
    /// this process however that dies, and after `ttl` if there is one. Neither eviction nor
    /// [`Cache::clear`] touches it.
    ///
    /// # Errors
    /// `LeasesFull`; `Busy` if another process is stopped in the middle of taking it.
    ///
    /// ```
    /// use std::time::Duration;
    /// let cache = cache_shm::Cache::builder(None).size(1 << 20).create()?;
    /// let guard = cache.lock(b"report", None, Duration::ZERO)?.expect("it is free");
    /// assert!(cache.lock(b"report", None, Duration::ZERO)?.is_none());
    /// guard.release()?;
    /// # Ok::<(), cache_shm::Error>(())
    /// ```
    pub fn lock(&self, name: &[u8], ttl: Option<Duration>, timeout: Duration) -> Result<Option<Guard>> {
        let at = self.writing_scope()?;
        let (map, name) = (at.map, at.map.lease_name(Kind::Lock, at.key(name))?);
        let terms = Cache::terms(ttl, timeout);
        let taken = map.acquire_lease(name, &terms)?;
        Ok(taken.map(|token| Guard {
            cache: self.clone(),
            name,
            permit: 0,
            holder: terms.holder,
            token,
            is_held: true,
        }))
    }

    /// Takes one of the `count` permits of the semaphore `name`; otherwise as [`Cache::lock`].
    ///
    /// ```
    /// use std::time::Duration;
    /// let cache = cache_shm::Cache::builder(None).size(1 << 20).create()?;
    /// let take = || cache.permit(b"downloads", 2, Some(Duration::from_secs(60)), Duration::ZERO);
    /// let (first, second) = (take()?, take()?);
    /// assert!(first.is_some() && second.is_some() && take()?.is_none());
    /// drop(first);
    /// assert!(take()?.is_some());
    /// # Ok::<(), cache_shm::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Cache::lock`]; `InvalidArgument` unless `count` is 1 to 1,024.
    pub fn permit(&self, name: &[u8], count: u32, ttl: Option<Duration>, timeout: Duration) -> Result<Option<Guard>> {
        let at = self.writing_scope()?;
        let (map, name) = (at.map, at.map.lease_name(Kind::Semaphore, at.key(name))?);
        let terms = Cache::terms(ttl, timeout);
        let taken = map.acquire_permit(name, count, &terms)?;
        Ok(taken.map(|(permit, token)| Guard {
            cache: self.clone(),
            name,
            permit,
            holder: terms.holder,
            token,
            is_held: true,
        }))
    }

    /// Counts `cost` units of what `name` limits to `count` units in each `per`, for `key`
    /// alone if that is not empty. Never waits; what is refused is not counted.
    ///
    /// ```
    /// use std::time::Duration;
    /// let cache = cache_shm::Cache::builder(None).size(1 << 20).create()?;
    /// let login = || cache.hit(b"login", b"ada", 2, Duration::from_secs(3600), 1);
    /// assert!(login()?.is_allowed && login()?.is_allowed);
    /// let refused = login()?;
    /// assert!(!refused.is_allowed && refused.remaining == 0 && refused.retry_after_ns > 0);
    /// # Ok::<(), cache_shm::Error>(())
    /// ```
    ///
    /// # Errors
    /// `InvalidArgument` for a limit of nothing, or a cost above it; `LeasesFull`, `Busy`.
    pub fn hit(&self, name: &[u8], key: &[u8], count: u64, per: Duration, cost: u64) -> Result<Hit> {
        let at = self.writing_scope()?;
        let (map, name) = (at.map, at.map.lease_name(Kind::Limit, at.key(name))?);
        let name = map.lease_name_within(name, key)?;
        let per_ns = u64::try_from(per.as_nanos())
            .map_err(|_| Error::InvalidArgument { reason: "a rate is of less than 500 years" })?;
        map.hit(name, Limit { count, per_ns }, cost)
    }
}
