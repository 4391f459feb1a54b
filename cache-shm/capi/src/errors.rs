//! Numbers of results, their words, and the boundary that no panic crosses.
//!
//! Owns: the constants of the table in `cache_core::error`, and each thread's last message.

use std::cell::RefCell;
use std::ffi::{CString, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;

use shm::error::TABLE;
use shm::{Error, Result};

/// Success.
pub const CSHM_OK: i32 = 0;
/// The key, or whatever was asked for, is not there. Not an error.
pub const CSHM_NOT_FOUND: i32 = 1;
/// Nothing was stored: the key is there (add), or has another version (cas). Not an error.
pub const CSHM_NOT_STORED: i32 = -1;
/// Others hold the lock or all permits, or the rate is used up. Not an error.
pub const CSHM_NOT_GRANTED: i32 = -2;
/// A key has no bytes.
pub const CSHM_KEY_EMPTY: i32 = 2;
/// A key is longer than 65,535 bytes.
pub const CSHM_KEY_TOO_LONG: i32 = 3;
/// A value, with its key and its description, is larger than a quarter of the region.
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

thread_local! {
    static LAST_ERROR: RefCell<CString> = RefCell::default();
}

pub(crate) const fn invalid(reason: &'static str) -> Error {
    Error::InvalidArgument { reason }
}

/// Runs `body`, stops its panic, keeps its error's message for the thread.
pub(crate) fn boundary(body: impl FnOnce() -> Result<i32>) -> i32 {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(number)) => number,
        Ok(Err(error)) => remember(&error),
        Err(_) => remember(&Error::Internal),
    }
}

/// Keeps an error's message for the thread; returns its number.
pub(crate) fn remember(error: &Error) -> i32 {
    // A thread in its last moments has no place for the message, and a message with a
    // zero byte (from a file name) cannot be a C string: the number stands alone then.
    let _ = catch_unwind(|| {
        let message = CString::new(error.to_string()).unwrap_or_default();
        let _ = LAST_ERROR.try_with(|last| *last.borrow_mut() = message);
    });
    error.rendering().number
}

/// The number that says whether something was there.
pub(crate) fn found(is_there: bool) -> i32 {
    if is_there { CSHM_OK } else { CSHM_NOT_FOUND }
}

/// A short word for a number that a function returned, such as "no_space"; never NULL,
/// "unknown" for a number of a later version. Lives for ever.
#[unsafe(no_mangle)]
pub extern "C" fn cshm_error_text(number: i32) -> *const c_char {
    match number {
        CSHM_OK => c"ok".as_ptr(),
        CSHM_NOT_FOUND => c"not_found".as_ptr(),
        CSHM_NOT_STORED => c"not_stored".as_ptr(),
        CSHM_NOT_GRANTED => c"not_granted".as_ptr(),
        _ => {
            let at = TABLE.iter().position(|row| row.number == number);
            at.and_then(|at| words().get(at)).map_or(c"unknown".as_ptr(), |word| word.as_ptr())
        }
    }
}

/// The table's words as C strings.
fn words() -> &'static [CString] {
    static WORDS: OnceLock<Vec<CString>> = OnceLock::new();
    WORDS.get_or_init(|| TABLE.iter().map(|row| CString::new(row.word).unwrap_or_default()).collect())
}

/// The message of this thread's last failed call: what went wrong, with numbers, and what
/// to do. Never NULL, empty before the first failure, valid until this thread's next
/// failed call.
#[unsafe(no_mangle)]
pub extern "C" fn cshm_last_error() -> *const c_char {
    LAST_ERROR.try_with(|last| last.borrow().as_ptr()).unwrap_or(c"".as_ptr())
}
