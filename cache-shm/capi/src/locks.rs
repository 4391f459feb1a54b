//! Locks, semaphores and rates by name, for all processes that use a region.

use std::ffi::c_void;
use std::time::Duration;

use shm::Result;

use crate::arguments::{CSHM_NEVER, bytes_at, handle, lend_found, object, take, tell};
use crate::errors::{CSHM_NOT_GRANTED, CSHM_OK, boundary, invalid};
use crate::handle::Cache;

/// A lock or permit that is held.
pub struct Guard(shm::Guard);

fn ttl(ttl_ms: u64) -> Result<Option<Duration>> {
    match ttl_ms {
        0 => Err(invalid("ttl_ms is 0, so it would end at once; CSHM_NEVER is for as long as the process lives")),
        CSHM_NEVER => Ok(None),
        _ => Ok(Some(Duration::from_millis(ttl_ms))),
    }
}

/// # Safety
/// C1, during `'a`.
unsafe fn name_at<'a>(name: *const c_void, name_bytes: usize) -> Result<&'a [u8]> {
    // SAFETY: C1.
    unsafe { bytes_at(name, name_bytes, "the name is NULL, or longer than any memory") }
}

/// Takes the lock `name`, of 1 to 65,535 bytes, which one thread of all processes holds at a
/// time; it has nothing to do with a key of that name.
///
/// Waits for up to `timeout_ms` milliseconds (0: one try), and is CSHM_NOT_GRANTED if others
/// held it all the time. `*out` stands for it, and is given back with cshm_unlock, by any
/// thread of this process. It ends after `ttl_ms` milliseconds too, unless that is CSHM_NEVER,
/// and with this process however that dies. Not recursive: a thread that holds it waits
/// for itself. In a forked child it is the parent's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_lock(
    cache: *const Cache,
    name: *const c_void,
    name_bytes: usize,
    ttl_ms: u64,
    timeout_ms: u64,
    out: *mut *mut Guard,
) -> i32 {
    let make = || {
        // SAFETY: C1, C2.
        let (cache, name) = unsafe { (handle(cache)?, name_at(name, name_bytes)?) };
        let guard = cache.shm.lock(name, ttl(ttl_ms)?, Duration::from_millis(timeout_ms))?;
        Ok(guard.map(Guard))
    };
    // SAFETY: C1.
    unsafe { lend_found(out, CSHM_NOT_GRANTED, make) }
}

/// Takes one of the `count` permits, 1 to 1,024, of the semaphore `name`; otherwise as
/// cshm_lock.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_permit(
    cache: *const Cache,
    name: *const c_void,
    name_bytes: usize,
    count: u32,
    ttl_ms: u64,
    timeout_ms: u64,
    out: *mut *mut Guard,
) -> i32 {
    let make = || {
        // SAFETY: C1, C2.
        let (cache, name) = unsafe { (handle(cache)?, name_at(name, name_bytes)?) };
        let guard = cache.shm.permit(name, count, ttl(ttl_ms)?, Duration::from_millis(timeout_ms))?;
        Ok(guard.map(Guard))
    };
    // SAFETY: C1.
    unsafe { lend_found(out, CSHM_NOT_GRANTED, make) }
}

/// Gives a lock or permit back, and the guard up whatever is returned. CSHM_NOT_HOLDER if
/// its time to live has passed: others may have had it meanwhile. NULL is allowed and does
/// nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_unlock(guard: *mut Guard) -> i32 {
    boundary(|| {
        // SAFETY: C2, given up.
        if let Some(guard) = unsafe { take(guard) } {
            guard.0.release()?;
        }
        Ok(CSHM_OK)
    })
}

/// Lets a lock or permit end `ttl_ms` milliseconds from now, or with this process only
/// (CSHM_NEVER). CSHM_NOT_HOLDER if its time to live has passed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_guard_extend(guard: *const Guard, ttl_ms: u64) -> i32 {
    boundary(|| {
        // SAFETY: C2.
        unsafe { object(guard, "the guard is NULL")? }.0.extend(ttl(ttl_ms)?)?;
        Ok(CSHM_OK)
    })
}

/// The fencing token of a lock or permit, greater than that of any earlier holder: whatever
/// it guards can refuse a smaller one than it has seen. 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_guard_token(guard: *const Guard) -> u64 {
    // SAFETY: C2.
    unsafe { guard.as_ref() }.map_or(0, |guard| guard.0.token())
}

/// Counts `cost` units of what `name` limits to `count` units in each `per_ms`
/// milliseconds, for `key` alone if it has bytes. CSHM_OK if that is allowed, else
/// CSHM_NOT_GRANTED, and nothing was counted. Never waits.
///
/// `remaining`, which may be NULL, gets how many units would be allowed now;
/// `retry_after_ms`, which may be NULL, in how many milliseconds this cost is allowed if
/// nobody else comes, 0 if it was.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_hit(
    cache: *const Cache,
    name: *const c_void,
    name_bytes: usize,
    key: *const c_void,
    key_bytes: usize,
    count: u64,
    per_ms: u64,
    cost: u64,
    remaining: *mut u64,
    retry_after_ms: *mut u64,
) -> i32 {
    boundary(|| {
        // SAFETY: C1, C2.
        let (cache, name, key) = unsafe {
            let key = bytes_at(key, key_bytes, "the key is NULL, or longer than any memory")?;
            (handle(cache)?, name_at(name, name_bytes)?, key)
        };
        let hit = cache.shm.hit(name, key, count, Duration::from_millis(per_ms), cost)?;
        // SAFETY: C1.
        unsafe {
            tell(remaining, hit.remaining);
            tell(retry_after_ms, hit.retry_after_ns.div_ceil(1_000_000));
        }
        Ok(if hit.is_allowed { CSHM_OK } else { CSHM_NOT_GRANTED })
    })
}
