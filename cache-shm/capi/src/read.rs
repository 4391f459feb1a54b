//! Reads that copy: into the caller's buffer, or into memory that the caller frees.

use std::ffi::c_void;
use std::mem::MaybeUninit;

use shm::{Destination, Error, Meta, Result};

use crate::arguments::{CSHM_NEVER, MetaInfo, MetaPlace, handle, key_at, place, tell};
use crate::errors::{CSHM_NOT_FOUND, CSHM_OK, boundary, found, invalid};
use crate::handle::Cache;

/// The caller's buffer, which need not be initialized.
struct Room<'a>(&'a mut [MaybeUninit<u8>]);

/// A key, and the buffer for its value, which lies elsewhere.
///
/// # Safety
/// C1, during `'a`; but they may overlap, which is refused.
unsafe fn key_and_room<'a>(
    key: *const c_void,
    key_bytes: usize,
    buffer: *mut c_void,
    buffer_bytes: usize,
) -> Result<(&'a [u8], Room<'a>)> {
    let (key_start, room_start) = (key.addr(), buffer.addr());
    // Looked at before there are slices, which must not overlap. The order of the two does not matter.
    if key_start < room_start.saturating_add(buffer_bytes) && room_start < key_start.saturating_add(key_bytes) {
        return Err(invalid("the buffer overlaps the key"));
    }
    // SAFETY: C1, and they lie apart.
    unsafe { Ok((key_at(key, key_bytes)?, Room::new(buffer, buffer_bytes)?)) }
}

impl Room<'_> {
    /// # Safety
    /// C1, during `'a`.
    unsafe fn new<'a>(buffer: *mut c_void, bytes: usize) -> Result<Room<'a>> {
        if buffer.is_null() && bytes != 0 || bytes > isize::MAX as usize {
            return Err(invalid("the buffer is NULL, or longer than any memory"));
        }
        if bytes == 0 {
            return Ok(Room(&mut []));
        }
        // SAFETY: not NULL; C1.
        Ok(Room(unsafe { std::slice::from_raw_parts_mut(buffer.cast(), bytes) }))
    }
}

impl Destination for Room<'_> {
    fn buffer(&mut self, meta: &Meta) -> Result<&mut [MaybeUninit<u8>]> {
        let bytes_given = self.0.len() as u64;
        let too_small = Error::BufferTooSmall { bytes: meta.value_bytes as u64, bytes_given };
        self.0.get_mut(..meta.value_bytes).ok_or(too_small)
    }
}

/// Memory from `malloc`, freed on drop unless it was given away.
struct Allocated<'a> {
    cache: &'a shm::Cache,
    data: *mut c_void,
    bytes: usize,
}

impl Allocated<'_> {
    /// Frees what there is and gets `bytes` instead, of which there is at least one.
    fn renew(&mut self, bytes: usize) -> Result<()> {
        // SAFETY: from `malloc`, or NULL; nothing refers to it.
        unsafe { libc::free(self.data) };
        self.bytes = 0;
        // SAFETY: a plain call.
        self.data = unsafe { libc::malloc(bytes) };
        if self.data.is_null() {
            let path = self.cache.path().unwrap_or_default();
            return Err(Error::Io { operation: "malloc", errno: libc::ENOMEM, path });
        }
        self.bytes = bytes;
        Ok(())
    }

    fn give(mut self) -> *mut c_void {
        std::mem::replace(&mut self.data, std::ptr::null_mut())
    }
}

impl Destination for Allocated<'_> {
    fn buffer(&mut self, meta: &Meta) -> Result<&mut [MaybeUninit<u8>]> {
        // Never NULL, even for an empty value.
        let bytes = meta.value_bytes.max(1);
        if self.bytes < bytes {
            self.renew(bytes)?;
        }
        // SAFETY: so many bytes of our own, which need not be initialized.
        Ok(unsafe { std::slice::from_raw_parts_mut(self.data.cast(), meta.value_bytes) })
    }
}

impl Drop for Allocated<'_> {
    fn drop(&mut self) {
        // SAFETY: from `malloc`, or NULL.
        unsafe { libc::free(self.data) };
    }
}

/// Copies the value of a key into `buffer` and its length into `*value_bytes`.
///
/// CSHM_NOT_FOUND if the key is not there. CSHM_BUFFER_TOO_SMALL if the value is longer
/// than `buffer_bytes`: `*value_bytes` then says how long it is, and the buffer's content
/// is undefined. `buffer` may be NULL if `buffer_bytes` is 0, which asks for the length.
/// `value_bytes` may be NULL if nobody wants to know.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_get(
    cache: *const Cache,
    key: *const c_void,
    key_bytes: usize,
    buffer: *mut c_void,
    buffer_bytes: usize,
    value_bytes: *mut usize,
) -> i32 {
    boundary(|| {
        // SAFETY: C1, C2.
        let (cache, (key, mut room)) = unsafe { (handle(cache)?, key_and_room(key, key_bytes, buffer, buffer_bytes)?) };
        let (bytes, outcome) = match cache.shm.get_into(key, &mut room) {
            Ok(Some(meta)) => (meta.value_bytes, Ok(CSHM_OK)),
            Ok(None) => (0, Ok(CSHM_NOT_FOUND)),
            Err(Error::BufferTooSmall { bytes, bytes_given }) => {
                (bytes as usize, Err(Error::BufferTooSmall { bytes, bytes_given }))
            }
            Err(error) => return Err(error),
        };
        // SAFETY: C1.
        unsafe { tell(value_bytes, bytes) };
        outcome
    })
}

/// As cshm_get, and describes the value in `*meta`, of which `version` is the token for
/// cshm_cas. Neither is told if the buffer is too small or the key is not there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_gets(
    cache: *const Cache,
    key: *const c_void,
    key_bytes: usize,
    buffer: *mut c_void,
    buffer_bytes: usize,
    meta: *mut MetaInfo,
) -> i32 {
    boundary(|| {
        // SAFETY: C1, C2.
        let (cache, (key, mut room)) = unsafe { (handle(cache)?, key_and_room(key, key_bytes, buffer, buffer_bytes)?) };
        // SAFETY: C1.
        let place = unsafe { MetaPlace::required(meta)? };
        let Some(meta) = cache.shm.get_into(key, &mut room)? else { return Ok(CSHM_NOT_FOUND) };
        place.fill(MetaInfo::new(&meta, &cache.shm)?);
        Ok(CSHM_OK)
    })
}

/// Copies the value of a key into new memory, of which the caller is the owner: give it up
/// with cshm_free. `*value` is NULL unless CSHM_OK is returned, and then never, even for a
/// value of 0 bytes. `meta`, which may be NULL, gets the description of the value.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_get_alloc(
    cache: *const Cache,
    key: *const c_void,
    key_bytes: usize,
    value: *mut *mut c_void,
    value_bytes: *mut usize,
    meta: *mut MetaInfo,
) -> i32 {
    boundary(|| {
        let value = place(value, "value is NULL")?;
        // SAFETY: not NULL; C1.
        unsafe { value.write(std::ptr::null_mut()) };
        let length = place(value_bytes, "value_bytes is NULL")?;
        // SAFETY: C1, C2.
        let (cache, key, place) = unsafe { (handle(cache)?, key_at(key, key_bytes)?, MetaPlace::new(meta)?) };
        let mut allocated = Allocated { cache: &cache.shm, data: std::ptr::null_mut(), bytes: 0 };
        let meta = cache.shm.get_into(key, &mut allocated)?;
        // SAFETY: not NULL; C1.
        unsafe { length.write(meta.map_or(0, |meta| meta.value_bytes)) };
        let Some(meta) = meta else { return Ok(CSHM_NOT_FOUND) };
        if allocated.data.is_null() {
            allocated.renew(1)?;
        }
        place.fill(MetaInfo::new(&meta, &cache.shm)?);
        // SAFETY: not NULL; C1.
        unsafe { value.write(allocated.give()) };
        Ok(CSHM_OK)
    })
}

/// Frees what cshm_get_alloc gave. NULL is allowed and does nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_free(value: *mut c_void) {
    // SAFETY: C2: from `malloc`, given up.
    unsafe { libc::free(value) };
}

/// Describes the value of a key without reading it, and without counting as a use of it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_get_meta(
    cache: *const Cache,
    key: *const c_void,
    key_bytes: usize,
    meta: *mut MetaInfo,
) -> i32 {
    boundary(|| {
        // SAFETY: C1, C2.
        let (cache, key, place) = unsafe { (handle(cache)?, key_at(key, key_bytes)?, MetaPlace::required(meta)?) };
        let Some(meta) = cache.shm.meta(key)? else { return Ok(CSHM_NOT_FOUND) };
        place.fill(MetaInfo::new(&meta, &cache.shm)?);
        Ok(CSHM_OK)
    })
}

/// CSHM_OK if the key is there, else CSHM_NOT_FOUND. Does not count as a use of it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_contains(cache: *const Cache, key: *const c_void, key_bytes: usize) -> i32 {
    boundary(|| {
        // SAFETY: C1, C2.
        let (cache, key) = unsafe { (handle(cache)?, key_at(key, key_bytes)?) };
        Ok(found(cache.shm.contains(key)?))
    })
}

/// Stores in `*ttl_ms` how many milliseconds a key has left, at least 1; CSHM_NEVER if it
/// does not expire.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_ttl(cache: *const Cache, key: *const c_void, key_bytes: usize, ttl_ms: *mut u64) -> i32 {
    boundary(|| {
        let ttl_ms = place(ttl_ms, "ttl_ms is NULL")?;
        // SAFETY: C1, C2.
        let (cache, key) = unsafe { (handle(cache)?, key_at(key, key_bytes)?) };
        let Some(left) = cache.shm.ttl(key)? else { return Ok(CSHM_NOT_FOUND) };
        // SAFETY: not NULL; C1.
        unsafe { ttl_ms.write(u64::try_from(left.as_millis()).unwrap_or(CSHM_NEVER).max(1)) };
        Ok(CSHM_OK)
    })
}
