//! Writes of one key.

use std::ffi::c_void;

use shm::{Cas, Result};

use crate::arguments::{
    Bytes, CSHM_KIND_ARROW_BATCH, CSHM_KIND_JSON, CSHM_KIND_MSGPACK, WriteOptions, array, bytes_at, handle, key_at,
    tell, value_at,
};
use crate::errors::{CSHM_NOT_FOUND, CSHM_NOT_STORED, CSHM_OK, boundary, found, invalid};
use crate::handle::Cache;

/// Options with the tags that they name, as long as a call lasts.
pub(crate) struct Manner<'a> {
    options: shm::WriteOptions<'a>,
    tags: Vec<&'a [u8]>,
}

impl<'a> Manner<'a> {
    /// # Safety
    /// C1, during `'a`, for the options and what they point to.
    pub(crate) unsafe fn new(cache: &Cache, options: *const WriteOptions) -> Result<Manner<'a>> {
        // SAFETY: C1.
        let given = unsafe { WriteOptions::read(options)? };
        let kind = match given.kind {
            0..=CSHM_KIND_ARROW_BATCH | CSHM_KIND_JSON | CSHM_KIND_MSGPACK => given.kind as u8,
            _ => return Err(invalid("kind is none of the CSHM_KIND_ constants")),
        };
        // SAFETY: C1.
        let tags = unsafe { array::<Bytes>(given.tags, given.tag_count, "tags is NULL, or longer than any memory")? };
        let tags = tags.iter().map(|tag| {
            // SAFETY: C1.
            unsafe { bytes_at(tag.data, tag.bytes, "a tag is NULL, or longer than any memory") }
        });
        let tags = tags.collect::<Result<_>>()?;
        let ttl_ms = if given.ttl_ms == 0 { cache.default_ttl_ms() } else { given.ttl_ms };
        let expires_at_ms = cache.expiry(ttl_ms)?;
        let client_flags = given.client_flags;
        Ok(Manner { options: shm::WriteOptions { kind, client_flags, expires_at_ms, ..cache.shm.options() }, tags })
    }

    pub(crate) fn options(&self) -> shm::WriteOptions<'_> {
        shm::WriteOptions { tags: &self.tags, ..self.options }
    }
}

/// Stores a value, to expire after `ttl_ms` milliseconds or never (CSHM_NEVER), whatever the
/// handle's default is. With a `ttl_ms` of 0 it has expired already: the key is removed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_set(
    cache: *const Cache,
    key: *const c_void,
    key_bytes: usize,
    value: *const c_void,
    value_bytes: usize,
    ttl_ms: u64,
) -> i32 {
    boundary(|| {
        // SAFETY: C1, C2.
        let (cache, key, value) = unsafe { (handle(cache)?, key_at(key, key_bytes)?, value_at(value, value_bytes)?) };
        let options = shm::WriteOptions { expires_at_ms: cache.expiry(ttl_ms)?, ..cache.shm.options() };
        cache.shm.set_with(key, value, &options)?;
        Ok(CSHM_OK)
    })
}

/// The arguments of a write with options, and what stores.
///
/// # Safety
/// C1, C2.
#[expect(clippy::too_many_arguments, reason = "they are those of the functions below")]
unsafe fn store(
    cache: *const Cache,
    key: *const c_void,
    key_bytes: usize,
    value: *const c_void,
    value_bytes: usize,
    options: *const WriteOptions,
    version: *mut u64,
    how: impl FnOnce(&shm::Cache, &[u8], &[u8], &shm::WriteOptions<'_>) -> Result<(i32, u64)>,
) -> i32 {
    boundary(|| {
        // SAFETY: C1, C2.
        let (cache, key, value) = unsafe { (handle(cache)?, key_at(key, key_bytes)?, value_at(value, value_bytes)?) };
        // SAFETY: C1.
        let manner = unsafe { Manner::new(cache, options)? };
        let (result, stored) = how(&cache.shm, key, value, &manner.options())?;
        // SAFETY: C1.
        unsafe { tell(version, stored) };
        Ok(result)
    })
}

/// Stores a value as `options` say, which may be NULL for the defaults. `version`, which
/// may be NULL, gets the version that the value has.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_set_with(
    cache: *const Cache,
    key: *const c_void,
    key_bytes: usize,
    value: *const c_void,
    value_bytes: usize,
    options: *const WriteOptions,
    version: *mut u64,
) -> i32 {
    let set = |cache: &shm::Cache, key: &[u8], value: &[u8], options: &shm::WriteOptions<'_>| {
        Ok((CSHM_OK, cache.set_with(key, value, options)?))
    };
    // SAFETY: C1, C2.
    unsafe { store(cache, key, key_bytes, value, value_bytes, options, version, set) }
}

/// Stores a value if the key is not there, else CSHM_NOT_STORED; as cshm_set_with. Of any
/// number of callers at once, one stores.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_add(
    cache: *const Cache,
    key: *const c_void,
    key_bytes: usize,
    value: *const c_void,
    value_bytes: usize,
    options: *const WriteOptions,
    version: *mut u64,
) -> i32 {
    let add = |cache: &shm::Cache, key: &[u8], value: &[u8], options: &shm::WriteOptions<'_>| {
        Ok(cache.add(key, value, options)?.map_or((CSHM_NOT_STORED, 0), |version| (CSHM_OK, version)))
    };
    // SAFETY: C1, C2.
    unsafe { store(cache, key, key_bytes, value, value_bytes, options, version, add) }
}

/// Stores a value if the key is there, else CSHM_NOT_FOUND; as cshm_set_with.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_replace(
    cache: *const Cache,
    key: *const c_void,
    key_bytes: usize,
    value: *const c_void,
    value_bytes: usize,
    options: *const WriteOptions,
    version: *mut u64,
) -> i32 {
    let replace = |cache: &shm::Cache, key: &[u8], value: &[u8], options: &shm::WriteOptions<'_>| {
        Ok(cache.replace(key, value, options)?.map_or((CSHM_NOT_FOUND, 0), |version| (CSHM_OK, version)))
    };
    // SAFETY: C1, C2.
    unsafe { store(cache, key, key_bytes, value, value_bytes, options, version, replace) }
}

/// Stores a value if the key still has the version `expected`, which cshm_gets told:
/// compare and swap. CSHM_NOT_STORED if it has another, which `*version` then names;
/// CSHM_NOT_FOUND if it is not there. Otherwise as cshm_set_with.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_cas(
    cache: *const Cache,
    key: *const c_void,
    key_bytes: usize,
    expected: u64,
    value: *const c_void,
    value_bytes: usize,
    options: *const WriteOptions,
    version: *mut u64,
) -> i32 {
    let cas = |cache: &shm::Cache, key: &[u8], value: &[u8], options: &shm::WriteOptions<'_>| {
        Ok(match cache.cas(key, expected, value, options)? {
            Cas::Stored(version) => (CSHM_OK, version),
            Cas::Changed(version) => (CSHM_NOT_STORED, version),
            Cas::Missing => (CSHM_NOT_FOUND, 0),
        })
    };
    // SAFETY: C1, C2.
    unsafe { store(cache, key, key_bytes, value, value_bytes, options, version, cas) }
}

/// Removes a key. CSHM_NOT_FOUND if it was not there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_delete(cache: *const Cache, key: *const c_void, key_bytes: usize) -> i32 {
    boundary(|| {
        // SAFETY: C1, C2.
        let (cache, key) = unsafe { (handle(cache)?, key_at(key, key_bytes)?) };
        Ok(found(cache.shm.delete(key)?))
    })
}

/// Adds `delta` to the integer of a key and stores the sum in `*sum`, which may be NULL.
///
/// A key that is not there counts as `*initial` and is stored as `options` say (NULL: the
/// defaults; `kind` is always CSHM_KIND_INT); without `initial` (NULL) it is
/// CSHM_NOT_FOUND. A key that is there keeps its time to live, flags and tags. Works on
/// CSHM_KIND_INT, and on canonical decimal text, which stays text. CSHM_NOT_INTEGER and
/// CSHM_OVERFLOW leave the value as it was.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_incr(
    cache: *const Cache,
    key: *const c_void,
    key_bytes: usize,
    delta: i64,
    initial: *const i64,
    options: *const WriteOptions,
    sum: *mut i64,
) -> i32 {
    boundary(|| {
        // SAFETY: C1, C2.
        let (cache, key) = unsafe { (handle(cache)?, key_at(key, key_bytes)?) };
        // SAFETY: C1.
        let (manner, initial) = unsafe { (Manner::new(cache, options)?, initial.as_ref().copied()) };
        let Some(result) = cache.shm.incr_with(key, delta, initial, &manner.options())? else {
            return Ok(CSHM_NOT_FOUND);
        };
        // SAFETY: C1.
        unsafe { tell(sum, result) };
        Ok(CSHM_OK)
    })
}

/// Appends to the value of a key, which keeps its kind and time to live, and stores its new
/// length in `*value_bytes`, which may be NULL. CSHM_NOT_FOUND if the key is not there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_append(
    cache: *const Cache,
    key: *const c_void,
    key_bytes: usize,
    tail: *const c_void,
    tail_bytes: usize,
    value_bytes: *mut usize,
) -> i32 {
    boundary(|| {
        // SAFETY: C1, C2.
        let (cache, key, tail) = unsafe { (handle(cache)?, key_at(key, key_bytes)?, value_at(tail, tail_bytes)?) };
        let Some(bytes) = cache.shm.append(key, tail)? else { return Ok(CSHM_NOT_FOUND) };
        // SAFETY: C1.
        unsafe { tell(value_bytes, bytes) };
        Ok(CSHM_OK)
    })
}

/// Lets a key expire `ttl_ms` milliseconds from now, or never (CSHM_NEVER). With a
/// `ttl_ms` of 0 it is removed. CSHM_NOT_FOUND if it is not there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_touch(cache: *const Cache, key: *const c_void, key_bytes: usize, ttl_ms: u64) -> i32 {
    boundary(|| {
        // SAFETY: C1, C2.
        let (cache, key) = unsafe { (handle(cache)?, key_at(key, key_bytes)?) };
        let ttl = (ttl_ms != crate::arguments::CSHM_NEVER).then(|| std::time::Duration::from_millis(ttl_ms));
        Ok(found(cache.shm.touch(key, ttl)?))
    })
}
