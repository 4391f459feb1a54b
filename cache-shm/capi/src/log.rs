//! What the library notices, for a function of the caller's.

use std::ffi::{CString, c_char, c_void};
use std::sync::OnceLock;

use log::{LevelFilter, Log, Metadata, Record};
use shm::LOG_TARGET;

use crate::errors::{CSHM_OK, boundary, invalid};

/// Something failed.
pub const CSHM_LOG_ERROR: i32 = 1;
/// Something that a person should know: a process ended in the middle of something, a
/// region was removed from outside.
pub const CSHM_LOG_WARN: i32 = 2;
/// Something that explains: a region was destroyed, or made with a default size.
pub const CSHM_LOG_INFO: i32 = 3;

const _: () = assert!(log::Level::Error as i32 == CSHM_LOG_ERROR && log::Level::Info as i32 == CSHM_LOG_INFO);

/// What cshm_set_log wants; `cbindgen.toml` declares it to C.
pub type LogFunction = Option<unsafe extern "C" fn(context: *mut c_void, level: i32, message: *const c_char)>;

struct Logger {
    function: unsafe extern "C" fn(*mut c_void, i32, *const c_char),
    context: *mut c_void,
}

static LOGGER: OnceLock<Logger> = OnceLock::new();

// SAFETY: C3. The function may be called by any thread, with its context.
unsafe impl Send for Logger {}
// SAFETY: C3. As above.
unsafe impl Sync for Logger {}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == LOG_TARGET
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        // A name with a zero byte cannot be a region's, so there is none.
        let Ok(message) = CString::new(record.args().to_string()) else { return };
        // SAFETY: C3, and the message is a C string that lives through the call.
        unsafe { (self.function)(self.context, record.level() as i32, message.as_ptr()) };
    }

    fn flush(&self) {}
}

/// Lets `function` hear, until the process ends, what the library notices beside the results
/// of calls: that another process died in the middle of something, that a region was
/// destroyed or removed. It is called with `context`, which may be NULL, a CSHM_LOG_ level
/// and a message, by whichever thread is in a call that noticed it, perhaps several at once.
/// Once in a process: the second time it is CSHM_INVALID_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_set_log(function: LogFunction, context: *mut c_void) -> i32 {
    boundary(|| {
        let function = function.ok_or(invalid("the function is NULL"))?;
        let given = LOGGER.set(Logger { function, context });
        given.map_err(|_| invalid("a function was given already; it stays for the life of the process"))?;
        // Refused only to the second, and there is none.
        let _ = LOGGER.get().map(|logger| log::set_logger(logger));
        log::set_max_level(LevelFilter::Info);
        Ok(CSHM_OK)
    })
}
