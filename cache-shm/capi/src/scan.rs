//! Scans: the keys of a namespace one after the other.
//!
//! A scan takes keys out of the engine some at a time and hands them out one by one, so the
//! caller's code never runs while anything is held.

use std::collections::VecDeque;
use std::ffi::c_void;
use std::ptr::NonNull;

use shm::{Cursor, Result};

use crate::arguments::{MetaInfo, MetaPlace, bytes_at, handle, lend, place, take};
use crate::errors::{CSHM_NOT_FOUND, CSHM_OK, boundary, invalid};
use crate::handle::Cache;

/// A walk over keys.
pub struct Scan {
    cache: shm::Cache,
    prefix: Vec<u8>,
    /// Where to go on; `None` at the end.
    cursor: Option<Cursor>,
    ahead: VecDeque<(Vec<u8>, MetaInfo)>,
    /// The key that was handed out last.
    current: Vec<u8>,
}

impl Scan {
    fn next(&mut self) -> Result<Option<MetaInfo>> {
        while self.ahead.is_empty()
            && let Some(cursor) = self.cursor
        {
            let mut found = Vec::new();
            let next = self.cache.scan(cursor, &mut |key, meta| {
                if key.starts_with(&self.prefix) {
                    found.push((key.to_vec(), *meta));
                }
            })?;
            for (key, meta) in found {
                self.ahead.push_back((key, MetaInfo::new(&meta, &self.cache)?));
            }
            self.cursor = next;
        }
        let Some((key, info)) = self.ahead.pop_front() else { return Ok(None) };
        self.current = key;
        Ok(Some(info))
    }
}

/// Begins a walk over the keys of the handle's namespace that begin with `prefix`, or over
/// all if `prefix_bytes` is 0; `*out` is the scan, to be given up with cshm_scan_close. It
/// holds nothing in the region, however long it stays open, and outlives the handle. One
/// thread at a time may use it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_scan_open(
    cache: *const Cache,
    prefix: *const c_void,
    prefix_bytes: usize,
    out: *mut *mut Scan,
) -> i32 {
    let make = || {
        // SAFETY: C1, C2.
        let (cache, prefix) = unsafe {
            (handle(cache)?, bytes_at(prefix, prefix_bytes, "the prefix is NULL, or longer than any memory")?)
        };
        let cursor = Some(Cursor::START);
        let prefix = prefix.to_vec();
        Ok(Scan { cache: cache.shm.clone(), prefix, cursor, ahead: VecDeque::new(), current: vec![] })
    };
    // SAFETY: C1.
    unsafe { lend(out, make) }
}

/// The next key of a scan: CSHM_OK, or CSHM_NOT_FOUND at the end. `*key` is valid until the
/// next call on this scan. `meta`, which may be NULL, describes its value. A key that is
/// there all the time is met once; one that comes or goes meanwhile, perhaps; in no order.
/// After an error (CSHM_BUSY) the next call goes on.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_scan_next(
    scan: *mut Scan,
    key: *mut *const c_void,
    key_bytes: *mut usize,
    meta: *mut MetaInfo,
) -> i32 {
    boundary(|| {
        let (key, key_bytes) = (place(key, "key is NULL")?, place(key_bytes, "key_bytes is NULL")?);
        // SAFETY: C1.
        let meta = unsafe { MetaPlace::new(meta)? };
        let mut scan = NonNull::new(scan).ok_or(invalid("the scan is NULL"))?;
        // SAFETY: not NULL; C2: nobody else uses it.
        let scan = unsafe { scan.as_mut() };
        // SAFETY: not NULL; C1.
        unsafe {
            key.write(std::ptr::null());
            key_bytes.write(0);
        }
        let Some(info) = scan.next()? else { return Ok(CSHM_NOT_FOUND) };
        meta.fill(info);
        // SAFETY: not NULL; C1.
        unsafe {
            key.write(scan.current.as_ptr().cast());
            key_bytes.write(scan.current.len());
        }
        Ok(CSHM_OK)
    })
}

/// Gives a scan up, at its end or before. NULL is allowed and does nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_scan_close(scan: *mut Scan) {
    boundary(|| {
        // SAFETY: C2, given up.
        drop(unsafe { take(scan) });
        Ok(CSHM_OK)
    });
}

/// Counts the keys of the handle's namespace that have not expired, by a walk over all of
/// them: exact when nobody writes. The statistic "items" is the cheap estimate.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_len(cache: *const Cache, count: *mut u64) -> i32 {
    boundary(|| {
        let count = place(count, "count is NULL")?;
        // SAFETY: C2.
        let keys = unsafe { handle(cache)? }.shm.len()?;
        // SAFETY: not NULL; C1.
        unsafe { count.write(keys) };
        Ok(CSHM_OK)
    })
}
