//! Handles: opening, closing, destroying.

use std::ffi::{CStr, CString, OsStr, c_char};
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use shm::{Mode, Result, Settings};

use crate::arguments::{CSHM_NEVER, OpenOptions, handle, lend, take, text_at};
use crate::errors::{CSHM_OK, boundary, invalid};

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

const FLAGS: u32 = CSHM_OPEN_EXISTING
    | CSHM_OPEN_NEW
    | CSHM_OPEN_READ_ONLY
    | CSHM_OPEN_NO_EVICT
    | CSHM_OPEN_EPHEMERAL
    | CSHM_OPEN_PREALLOC;

/// The version of the binary interface, the number in the library's SONAME: what was
/// compiled for it runs with every library of the same number that is not older.
pub const CSHM_ABI_VERSION: u32 = 0;

/// A handle on a region, and in it on one namespace.
pub struct Cache {
    pub(crate) shm: shm::Cache,
    /// [`CSHM_NEVER`] if values do not expire by themselves.
    default_ttl_ms: AtomicU64,
    name: Option<CString>,
    path: Option<CString>,
}

impl Cache {
    fn new(shm: shm::Cache, default_ttl_ms: u64) -> Cache {
        let name = shm.name().and_then(|name| CString::new(name).ok());
        let path = shm.path().and_then(|path| CString::new(path.as_os_str().as_bytes()).ok());
        Cache { shm, default_ttl_ms: AtomicU64::new(default_ttl_ms), name, path }
    }

    /// A handle of the same options in the namespace `name`.
    pub(crate) fn sibling(&self, name: &[u8]) -> Result<Cache> {
        Ok(Cache::new(self.shm.namespace(name)?, self.default_ttl_ms()))
    }

    pub(crate) fn default_ttl_ms(&self) -> u64 {
        // Relaxed: a number by itself.
        self.default_ttl_ms.load(Ordering::Relaxed)
    }

    /// The moment `ttl_ms` from now, as the engine wants it.
    pub(crate) fn expiry(&self, ttl_ms: u64) -> Result<u64> {
        if ttl_ms == CSHM_NEVER { Ok(shm::NEVER) } else { self.shm.expiry(Duration::from_millis(ttl_ms)) }
    }
}

/// The version of the library, such as "0.1.0". Lives for ever.
#[unsafe(no_mangle)]
pub extern "C" fn cshm_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

/// CSHM_ABI_VERSION of the library that the program runs with.
#[unsafe(no_mangle)]
pub extern "C" fn cshm_abi_version() -> u32 {
    CSHM_ABI_VERSION
}

/// Opens the region `name`, or makes it, and stores a handle in `*out`, to be given up with
/// cshm_close.
///
/// `name` is UTF-8: a plain name in the per-user directory (CACHE_SHM_DIR to change), or a
/// path if it has a slash. NULL is a private region that only this process and the
/// children it forks can reach. `size_bytes` is at least 1 MiB; 0 attaches to whatever
/// size there is (as another size does, with a warning to cshm_set_log), or makes 256 MiB or half of what the file system has free. `flags` are
/// CSHM_OPEN_ constants, added. What neither they nor `size_bytes` say comes from the
/// environment (CACHE_SHM_) or the configuration file. On failure `*out` is NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_open(name: *const c_char, size_bytes: u64, flags: u32, out: *mut *mut Cache) -> i32 {
    let options = OpenOptions { size_bytes, flags, ..OpenOptions::DEFAULT };
    // SAFETY: C1.
    unsafe { cshm_open_with(name, &raw const options, out) }
}

/// As cshm_open with more options, which may be NULL for none: where the region is, who
/// shares it, how long writes wait, and how long values live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_open_with(name: *const c_char, options: *const OpenOptions, out: *mut *mut Cache) -> i32 {
    let make = || {
        // SAFETY: C1.
        let (name, options) = unsafe { (text_at(name)?, OpenOptions::read(options)?) };
        // SAFETY: C1.
        unsafe { open(name, &options) }
    };
    // SAFETY: C1.
    unsafe { lend(out, make) }
}

/// # Safety
/// C1, for what the options point to.
unsafe fn open(name: Option<&str>, options: &OpenOptions) -> Result<Cache> {
    let flags = options.flags;
    if flags & !FLAGS != 0 {
        return Err(invalid("flags has bits that mean nothing; see CSHM_OPEN_"));
    }
    let has = |flag: u32| flags & flag != 0;
    if has(CSHM_OPEN_EXISTING) && has(CSHM_OPEN_NEW) {
        return Err(invalid("flags asks for an existing and for a new region"));
    }
    let settings = Settings::read(name)?;
    let configured_ttl_ms = settings.ttl.flatten().map_or(CSHM_NEVER, milliseconds);
    let mut builder = shm::Cache::builder(name).settings(settings);
    // What is not there is left to the configuration.
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
    if options.size_bytes != 0 {
        builder = builder.size(options.size_bytes);
    }
    if options.mode != 0 {
        builder = builder.file_mode(options.mode);
    }
    if options.timeout_ms != 0 {
        builder = builder.timeout(Duration::from_millis(options.timeout_ms));
    }
    if !options.directory.is_null() {
        // SAFETY: not NULL; C1.
        let directory = unsafe { CStr::from_ptr(options.directory) };
        builder = builder.dir(OsStr::from_bytes(directory.to_bytes()));
    }
    // SAFETY: C1.
    if let Some(group) = unsafe { text_at(options.group)? } {
        builder = builder.group(shm::parse_group(group).ok_or(invalid("there is no group of that name"))?);
    }
    let cache = if has(CSHM_OPEN_EXISTING) {
        builder.open()?
    } else if has(CSHM_OPEN_NEW) {
        builder.create()?
    } else {
        builder.open_or_create()?
    };
    if let Some((asked, existing)) = cache.opened().size_mismatch {
        let path = cache.path().unwrap_or_default();
        let path = path.display();
        log::warn!(target: shm::LOG_TARGET, "{path} exists with {existing} bytes and {asked} were asked for; it is used as it is");
    }
    let default_ttl_ms = if options.default_ttl_ms == 0 { configured_ttl_ms } else { options.default_ttl_ms };
    Ok(Cache::new(cache, default_ttl_ms))
}

/// As a whole number of milliseconds, never less: nothing expires early.
fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(CSHM_NEVER)
}

/// Gives a handle up. Views, scans and locks that it gave stay valid. NULL is allowed and
/// does nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_close(cache: *mut Cache) {
    boundary(|| {
        // SAFETY: C2, given up.
        drop(unsafe { take(cache) });
        Ok(CSHM_OK)
    });
}

/// The name of the handle's region, without its directory; NULL if it is private. Valid
/// until cshm_close.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_name(cache: *const Cache) -> *const c_char {
    // SAFETY: C2.
    unsafe { cache.as_ref() }.and_then(|cache| cache.name.as_ref()).map_or(std::ptr::null(), |name| name.as_ptr())
}

/// The file of the handle's region; NULL if it is private. Valid until cshm_close.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_path(cache: *const Cache) -> *const c_char {
    // SAFETY: C2.
    unsafe { cache.as_ref() }.and_then(|cache| cache.path.as_ref()).map_or(std::ptr::null(), |path| path.as_ptr())
}

/// Lets values that are stored through this handle without a time to live of their own
/// expire after `ttl_ms` milliseconds, or never (CSHM_NEVER, which it is at first unless
/// the configuration says otherwise). Values that are there keep theirs.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_set_default_ttl(cache: *const Cache, ttl_ms: u64) -> i32 {
    boundary(|| {
        // SAFETY: C2.
        let cache = unsafe { handle(cache)? };
        if ttl_ms == 0 {
            return Err(invalid("a default ttl of 0 would store nothing; CSHM_NEVER is for none"));
        }
        // Relaxed: a number by itself.
        cache.default_ttl_ms.store(ttl_ms, Ordering::Relaxed);
        Ok(CSHM_OK)
    })
}

/// Destroys the region: its name is free at once, and everybody who is attached gets
/// CSHM_GONE on the next write. The handle stays valid, and must still be closed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_destroy(cache: *const Cache) -> i32 {
    boundary(|| {
        // SAFETY: C2.
        unsafe { handle(cache)? }.shm.destroy()?;
        Ok(CSHM_OK)
    })
}

/// Destroys the region of that name without attaching to it, whatever state it is in.
/// CSHM_MISSING if there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_destroy_name(name: *const c_char) -> i32 {
    boundary(|| {
        // SAFETY: C1.
        let name = unsafe { text_at(name)? }.ok_or(invalid("the name is NULL"))?;
        shm::Cache::destroy_name(name, None)?;
        Ok(CSHM_OK)
    })
}
