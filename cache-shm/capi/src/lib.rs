//! The C interface: `cshm_` functions over [`shm::Cache`].
//!
//! Owns: the boundary. Every function checks its pointers, stops panics, and turns an
//! error into its number of the table in `cache_core::error`; the message is kept for
//! the thread. The conventions that C programmers read stand at the top of the header
//! (`cbindgen.toml`).
//!
//! Must never: let a panic cross, keep a pointer it was given, or give out memory that
//! must be freed.

use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use shm::error::TABLE;
use shm::{Buffer, Error, Mode, Result, WriteOptions};

/// Success.
pub const CSHM_OK: i32 = 0;
/// The key is not there. Not an error.
pub const CSHM_NOT_FOUND: i32 = 1;
/// A key has no bytes.
pub const CSHM_KEY_EMPTY: i32 = 2;
/// A key is longer than 65,535 bytes.
pub const CSHM_KEY_TOO_LONG: i32 = 3;
/// A value is larger than a quarter of the region.
pub const CSHM_VALUE_TOO_LARGE: i32 = 4;
/// The stored value is not an integer.
pub const CSHM_NOT_INTEGER: i32 = 5;
/// The result does not fit 64 bits; nothing changed.
pub const CSHM_OVERFLOW: i32 = 6;
/// Another process held what was needed until the deadline.
pub const CSHM_BUSY: i32 = 7;
/// A no-evict region has no room.
pub const CSHM_FULL: i32 = 8;
/// The file system has no space left (in Docker, /dev/shm is 64 MiB by default).
pub const CSHM_NO_SPACE: i32 = 9;
/// A write on a read-only attachment.
pub const CSHM_READ_ONLY: i32 = 10;
/// The handle was closed.
pub const CSHM_CLOSED: i32 = 11;
/// The region was destroyed or replaced; the next call uses the new one.
pub const CSHM_GONE: i32 = 12;
/// The file is not a region.
pub const CSHM_NOT_REGION: i32 = 13;
/// The region has another format version.
pub const CSHM_FORMAT_VERSION: i32 = 14;
/// The region's fixed bytes contradict each other.
pub const CSHM_CORRUPT: i32 = 15;
/// The file is shorter than its header says.
pub const CSHM_TRUNCATED: i32 = 16;
/// The region was made before this boot and is opened read-only.
pub const CSHM_EARLIER_BOOT: i32 = 17;
/// The region belongs to another user.
pub const CSHM_FOREIGN_OWNER: i32 = 18;
/// The file or its directory may be changed by others, or may not be opened.
pub const CSHM_PERMISSION: i32 = 19;
/// A symbolic link stands where the region should be.
pub const CSHM_SYMLINK: i32 = 20;
/// The name cannot be a region's.
pub const CSHM_INVALID_NAME: i32 = 21;
/// The size is below 1 MiB or above 4 TiB.
pub const CSHM_INVALID_SIZE: i32 = 22;
/// The region exists with another size.
pub const CSHM_SIZE_MISMATCH: i32 = 23;
/// The region exists.
pub const CSHM_EXISTS: i32 = 24;
/// There is no such region.
pub const CSHM_MISSING: i32 = 25;
/// Every participant slot is taken by a living process.
pub const CSHM_PARTICIPANTS_FULL: i32 = 26;
/// Every pin of this process is in use.
pub const CSHM_PINS_FULL: i32 = 27;
/// The file system cannot hold a region.
pub const CSHM_UNSUPPORTED_FILESYSTEM: i32 = 28;
/// The operating system refused a call.
pub const CSHM_IO: i32 = 29;
/// The buffer is too small for the value.
pub const CSHM_BUFFER_TOO_SMALL: i32 = 30;
/// An argument makes no sense, or is NULL.
pub const CSHM_INVALID_ARGUMENT: i32 = 31;
/// Another process is still making the region.
pub const CSHM_HALF_MADE: i32 = 32;
/// A defect of the library; please report it.
pub const CSHM_INTERNAL: i32 = 33;
/// The value's type cannot be stored.
pub const CSHM_UNSUPPORTED_TYPE: i32 = 34;
/// The value is nested too deep.
pub const CSHM_NESTED_TOO_DEEP: i32 = 35;
/// The stored bytes do not decode.
pub const CSHM_BAD_ENCODING: i32 = 36;
/// The stored value needs another serializer.
pub const CSHM_WRONG_SERIALIZER: i32 = 37;
/// The value cannot be appended to.
pub const CSHM_NOT_APPENDABLE: i32 = 38;
/// Every lease row for this name is in use.
pub const CSHM_LEASES_FULL: i32 = 39;
/// A lease is given back by who does not hold it.
pub const CSHM_NOT_HOLDER: i32 = 40;
/// The stored value is not signed as it should be.
pub const CSHM_BAD_SIGNATURE: i32 = 41;
/// An option in the environment or in a configuration file makes no sense.
pub const CSHM_INVALID_CONFIG: i32 = 42;
/// The name of a namespace has 1 to 64 bytes, that of a tag 1 to 255.
pub const CSHM_LABEL_LENGTH: i32 = 43;
/// The region has no room for another namespace.
pub const CSHM_NAMESPACES_FULL: i32 = 44;
/// A value has at most 64 tags.
pub const CSHM_TOO_MANY_TAGS: i32 = 45;

/// Attach only: CSHM_MISSING if there is no region.
pub const CSHM_OPEN_EXISTING: u32 = 1;
/// Make only: CSHM_EXISTS if there is one.
pub const CSHM_OPEN_NEW: u32 = 2;
/// Map read-only: the kernel refuses every write, and nothing shows the attachment.
pub const CSHM_OPEN_READ_ONLY: u32 = 4;
/// A new region refuses writes when it is full, instead of evicting.
pub const CSHM_OPEN_NO_EVICT: u32 = 8;
/// A new region goes with its last process.
pub const CSHM_OPEN_EPHEMERAL: u32 = 16;
/// A new region gets all its memory at once.
pub const CSHM_OPEN_PREALLOC: u32 = 32;

/// The time to live of what never expires.
pub const CSHM_NEVER: u64 = u64::MAX;

const FLAGS: u32 = CSHM_OPEN_EXISTING
    | CSHM_OPEN_NEW
    | CSHM_OPEN_READ_ONLY
    | CSHM_OPEN_NO_EVICT
    | CSHM_OPEN_EPHEMERAL
    | CSHM_OPEN_PREALLOC;

/// A handle on a region.
pub struct Cache(shm::Cache);

thread_local! {
    static LAST_ERROR: RefCell<CString> = RefCell::default();
}

const fn invalid(reason: &'static str) -> Error {
    Error::InvalidArgument { reason }
}

/// Runs `body`, stops its panic, keeps its error's message for the thread.
fn boundary(body: impl FnOnce() -> Result<i32>) -> i32 {
    let error = match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(number)) => return number,
        Ok(Err(error)) => error,
        Err(_) => Error::Internal,
    };
    let number = error.rendering().number;
    // A thread in its last moments has no place for the message, and a message with a
    // zero byte (from a file name) cannot be a C string: the number stands alone then.
    let _ = catch_unwind(|| {
        let message = CString::new(error.to_string()).unwrap_or_default();
        let _ = LAST_ERROR.try_with(|last| *last.borrow_mut() = message);
    });
    number
}

/// The bytes at `bytes`; NULL is nothing if the count is 0.
///
/// # Safety
/// `bytes` is NULL or points to `count` readable bytes that nobody writes during `'a`.
unsafe fn slice<'a>(bytes: *const c_void, count: usize, reason: &'static str) -> Result<&'a [u8]> {
    if count == 0 {
        return Ok(&[]);
    }
    if bytes.is_null() || count > isize::MAX as usize {
        return Err(invalid(reason));
    }
    // SAFETY: not NULL; the caller's duty for the rest.
    Ok(unsafe { std::slice::from_raw_parts(bytes.cast(), count) })
}

/// The cache behind a handle.
///
/// # Safety
/// `cache` is NULL or came from [`cshm_open`] and was not closed.
unsafe fn handle<'a>(cache: *const Cache) -> Result<&'a shm::Cache> {
    // SAFETY: the caller's duty.
    Ok(&unsafe { cache.as_ref() }.ok_or(invalid("the cache is NULL"))?.0)
}

/// Opens the region `name`, or makes it, and stores a handle in `*out`.
///
/// `name` is UTF-8: a plain name in the per-user directory (CACHE_SHM_DIR to change), or a
/// path if it has a slash. NULL is a private region that only this process and the
/// children it forks can reach. `size_bytes` is at least 1 MiB; 0 attaches to whatever
/// size there is, or makes 256 MiB or half of what the file system has free. `flags` are
/// CSHM_OPEN_ constants, added. What neither they nor `size_bytes` say comes from the
/// environment (CACHE_SHM_) or the configuration file. On failure `*out` is NULL.
///
/// # Safety
/// - `name` is NULL or a zero-terminated string.
/// - `out` is NULL or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_open(name: *const c_char, size_bytes: u64, flags: u32, out: *mut *mut Cache) -> i32 {
    boundary(|| {
        // SAFETY: the caller's duty.
        let out = unsafe { out.as_mut() }.ok_or(invalid("out is NULL"))?;
        *out = std::ptr::null_mut();
        if flags & !FLAGS != 0 {
            return Err(invalid("flags has bits that mean nothing; see CSHM_OPEN_"));
        }
        let has = |flag: u32| flags & flag != 0;
        if has(CSHM_OPEN_EXISTING) && has(CSHM_OPEN_NEW) {
            return Err(invalid("flags asks for an existing and for a new region"));
        }
        let name = if name.is_null() {
            None
        } else {
            // SAFETY: not NULL; the caller's duty for the rest.
            let text = unsafe { CStr::from_ptr(name) }.to_str();
            Some(text.map_err(|_| Error::InvalidName {
                // SAFETY: as above.
                name: unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned(),
                reason: "it is not UTF-8",
            })?)
        };
        let mut builder = shm::Cache::builder(name);
        // A flag that is not there leaves its option to the configuration.
        if has(CSHM_OPEN_READ_ONLY) {
            builder = builder.read_only(true);
        }
        if has(CSHM_OPEN_EPHEMERAL) {
            builder = builder.ephemeral(true);
        }
        if has(CSHM_OPEN_PREALLOC) {
            builder = builder.prealloc(true);
        }
        if has(CSHM_OPEN_NO_EVICT) {
            builder = builder.mode(Mode::NoEvict);
        }
        if size_bytes != 0 {
            builder = builder.size(size_bytes);
        }
        let cache = if has(CSHM_OPEN_EXISTING) {
            builder.open()?
        } else if has(CSHM_OPEN_NEW) {
            builder.create()?
        } else {
            builder.open_or_create()?
        };
        *out = Box::into_raw(Box::new(Cache(cache)));
        Ok(CSHM_OK)
    })
}

/// Gives a handle up. NULL is allowed and does nothing.
///
/// # Safety
/// `cache` is NULL, or came from cshm_open and is used by nobody any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_close(cache: *mut Cache) {
    boundary(|| {
        if !cache.is_null() {
            // SAFETY: made by `Box::into_raw` in `cshm_open`; the caller gives it up.
            drop(unsafe { Box::from_raw(cache) });
        }
        Ok(CSHM_OK)
    });
}

/// Copies the value of a key into `buffer` and its length into `*value_bytes`.
///
/// CSHM_NOT_FOUND if the key is not there. CSHM_BUFFER_TOO_SMALL if the value is longer
/// than `buffer_bytes`: `*value_bytes` then says how long it is, and the buffer's content
/// is undefined. `buffer` may be NULL if `buffer_bytes` is 0, which asks for the length.
/// `value_bytes` may be NULL if nobody wants to know.
///
/// # Safety
/// - `cache` came from cshm_open and was not closed.
/// - `key` points to `key_bytes` bytes.
/// - `buffer` points to `buffer_bytes` bytes that may be written.
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
        // SAFETY: the caller's duty.
        let cache = unsafe { handle(cache)? };
        // SAFETY: the caller's duty.
        let key = unsafe { slice(key, key_bytes, "the key is NULL")? };
        if buffer.is_null() && buffer_bytes != 0 || buffer_bytes > isize::MAX as usize {
            return Err(invalid("the buffer is NULL"));
        }
        let room: &mut [u8] = if buffer_bytes == 0 {
            &mut []
        } else {
            // SAFETY: not NULL; the caller's duty for the rest. What the caller left in
            // it is never read.
            unsafe { std::slice::from_raw_parts_mut(buffer.cast(), buffer_bytes) }
        };
        let tell = |bytes: usize| {
            // SAFETY: NULL, or may be written by the caller's duty.
            if let Some(value_bytes) = unsafe { value_bytes.as_mut() } {
                *value_bytes = bytes;
            }
        };
        match cache.get_into(key, &mut Buffer(room)) {
            Ok(Some(meta)) => {
                tell(meta.value_bytes);
                Ok(CSHM_OK)
            }
            Ok(None) => {
                tell(0);
                Ok(CSHM_NOT_FOUND)
            }
            Err(error) => {
                if let Error::BufferTooSmall { bytes, .. } = error {
                    tell(bytes as usize);
                }
                Err(error)
            }
        }
    })
}

/// Stores a value, to expire after `ttl_ms` milliseconds or never (CSHM_NEVER). With a
/// `ttl_ms` of 0 it has expired already: the key is removed.
///
/// # Safety
/// - `cache` came from cshm_open and was not closed.
/// - `key` points to `key_bytes` bytes, `value` to `value_bytes`.
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
        // SAFETY: the caller's duty.
        let cache = unsafe { handle(cache)? };
        // SAFETY: the caller's duty.
        let key = unsafe { slice(key, key_bytes, "the key is NULL")? };
        // SAFETY: the caller's duty.
        let value = unsafe { slice(value, value_bytes, "the value is NULL")? };
        let mut options: WriteOptions = cache.options();
        if ttl_ms != CSHM_NEVER {
            options.expires_at_ms = cache.expiry(Duration::from_millis(ttl_ms))?;
        }
        cache.set_with(key, value, &options)?;
        Ok(CSHM_OK)
    })
}

/// Removes a key. CSHM_NOT_FOUND if it was not there.
///
/// # Safety
/// - `cache` came from cshm_open and was not closed.
/// - `key` points to `key_bytes` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_delete(cache: *const Cache, key: *const c_void, key_bytes: usize) -> i32 {
    boundary(|| {
        // SAFETY: the caller's duty.
        let cache = unsafe { handle(cache)? };
        // SAFETY: the caller's duty.
        let key = unsafe { slice(key, key_bytes, "the key is NULL")? };
        Ok(if cache.delete(key)? { CSHM_OK } else { CSHM_NOT_FOUND })
    })
}

/// A short word for a number that a function returned, such as "no_space"; never NULL,
/// "unknown" for a number of a later version. Lives for ever.
#[unsafe(no_mangle)]
pub extern "C" fn cshm_error_text(number: i32) -> *const c_char {
    match number {
        CSHM_OK => c"ok".as_ptr(),
        CSHM_NOT_FOUND => c"not_found".as_ptr(),
        _ => {
            let at = TABLE.iter().position(|row| row.number == number);
            at.and_then(|at| words().get(at)).map_or(c"unknown".as_ptr(), |word| word.as_ptr())
        }
    }
}

/// The table's words as C strings.
fn words() -> &'static [CString] {
    static WORDS: std::sync::OnceLock<Vec<CString>> = std::sync::OnceLock::new();
    WORDS.get_or_init(|| TABLE.iter().map(|row| CString::new(row.word).unwrap_or_default()).collect())
}

/// The message of this thread's last failed call: what went wrong, with numbers, and what
/// to do. Never NULL, empty before the first failure, valid until this thread's next
/// failed call.
#[unsafe(no_mangle)]
pub extern "C" fn cshm_last_error() -> *const c_char {
    LAST_ERROR.try_with(|last| last.borrow().as_ptr()).unwrap_or(c"".as_ptr())
}
