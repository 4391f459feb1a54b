//! What C passes: pointers, checked, and structs that later versions make longer.
//!
//! Owns: the structs of the interface.

use std::ffi::{CStr, c_char, c_void};
use std::mem::offset_of;
use std::ptr::NonNull;

use shm::{Error, Host, Meta, NEVER, Result};

use crate::errors::{CSHM_OK, boundary, invalid};
use crate::handle::Cache;

/// The time to live of what never expires.
pub const CSHM_NEVER: u64 = u64::MAX;

/// Plain bytes.
pub const CSHM_KIND_BYTES: u32 = 0;
/// A signed 64-bit integer, 8 bytes, little-endian.
pub const CSHM_KIND_INT: u32 = 1;
/// UTF-8 text, without a zero at its end.
pub const CSHM_KIND_STR: u32 = 2;
/// An IEEE 754 double, 8 bytes, little-endian.
pub const CSHM_KIND_FLOAT: u32 = 3;
/// Nothing (Python's None); no bytes.
pub const CSHM_KIND_NONE: u32 = 4;
/// False; no bytes.
pub const CSHM_KIND_FALSE: u32 = 5;
/// True; no bytes.
pub const CSHM_KIND_TRUE: u32 = 6;
/// One item of CBOR: lists, dicts, dates and whatever else Python stores by itself.
pub const CSHM_KIND_TAGGED: u32 = 7;
/// Mutable bytes (Python's bytearray).
pub const CSHM_KIND_BYTEARRAY: u32 = 8;
/// An array of numbers: a .npy file.
pub const CSHM_KIND_ARRAY: u32 = 9;
/// A table: a stream of Arrow's IPC format.
pub const CSHM_KIND_ARROW: u32 = 10;
/// A record batch: such a stream of one batch.
pub const CSHM_KIND_ARROW_BATCH: u32 = 11;
/// JSON, UTF-8.
pub const CSHM_KIND_JSON: u32 = 17;
/// One object of MessagePack.
pub const CSHM_KIND_MSGPACK: u32 = 18;

/// Bytes of the caller's, such as a key or a tag.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Bytes {
    /// Where they are; may be NULL if there are none.
    pub data: *const c_void,
    /// How many.
    pub bytes: usize,
}

/// A key and its value, for cshm_set_many.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Item {
    /// The key.
    pub key: Bytes,
    /// The value.
    pub value: Bytes,
}

/// How to open a region. Set struct_bytes to sizeof(cshm_open_options) and the rest to zero,
/// which leaves everything to the environment and the configuration file.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct OpenOptions {
    /// sizeof(cshm_open_options).
    pub struct_bytes: usize,
    /// As for cshm_open.
    pub size_bytes: u64,
    /// CSHM_OPEN_ constants, added.
    pub flags: u32,
    /// Permission bits of a new region: 0600, 0640 or 0660.
    pub mode: u32,
    /// Longest wait of a write for other processes, and of opening for one that is just making
    /// the region; in milliseconds.
    pub timeout_ms: u64,
    /// As for cshm_set_default_ttl.
    pub default_ttl_ms: u64,
    /// The directory for a name without a slash, made if it is not there; NULL: configured.
    pub directory: *const c_char,
    /// The group that shares the region, by name or number; NULL: configured.
    pub group: *const c_char,
}

/// How to store a value. Set struct_bytes to sizeof(cshm_write_options) and the rest to
/// zero, which are the defaults, before setting what is wanted.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct WriteOptions {
    /// sizeof(cshm_write_options).
    pub struct_bytes: usize,
    /// Milliseconds until it expires; CSHM_NEVER; or 0: the handle's default, which is for ever
    /// unless there is one. (An argument `ttl_ms` of 0, as of cshm_set, is over already.)
    pub ttl_ms: u64,
    /// What the bytes mean: a CSHM_KIND_ constant; 0 is plain bytes.
    pub kind: u32,
    /// 32 bits that belong to you (memcached's flags).
    pub client_flags: u32,
    /// Tags, each 1 to 255 bytes, by which cshm_evict_tag finds the value.
    pub tags: *const Bytes,
    /// How many, 64 at most.
    pub tag_count: usize,
}

/// What is known of a value beside its bytes. Set struct_bytes to sizeof(cshm_meta) before
/// the call.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct MetaInfo {
    /// sizeof(cshm_meta).
    pub struct_bytes: usize,
    /// Bytes of the value.
    pub value_bytes: u64,
    /// Changes with every change of the key; the token of cshm_cas.
    pub version: u64,
    /// Milliseconds that are left, at least 1; CSHM_NEVER if it does not expire.
    pub ttl_ms: u64,
    /// What the bytes mean: a CSHM_KIND_ constant, or a number that is none of them.
    pub kind: u32,
    /// 32 bits that belong to whoever stored it.
    pub client_flags: u32,
}

/// Bytes of each struct as it was first published; later versions are longer.
const OPEN_OPTIONS_BYTES_FIRST: usize = 56;
const WRITE_OPTIONS_BYTES_FIRST: usize = 40;
const META_BYTES_FIRST: usize = 40;
/// No version of a struct will be longer: what is, was not set.
const STRUCT_BYTES_MAX: usize = 4096;

const _: () = assert!(size_of::<OpenOptions>() == OPEN_OPTIONS_BYTES_FIRST);
const _: () = assert!(size_of::<WriteOptions>() == WRITE_OPTIONS_BYTES_FIRST);
const _: () = assert!(size_of::<MetaInfo>() == META_BYTES_FIRST);
const _: () = assert!(offset_of!(OpenOptions, struct_bytes) == 0 && offset_of!(WriteOptions, struct_bytes) == 0);
const _: () = assert!(offset_of!(MetaInfo, struct_bytes) == 0);

fn check_struct_bytes(bytes: usize, bytes_first: usize) -> Result<()> {
    if (bytes_first..=STRUCT_BYTES_MAX).contains(&bytes) {
        return Ok(());
    }
    Err(invalid("struct_bytes is not the size of the struct; set it to sizeof"))
}

/// The struct at `given`, of this version, an older or a newer one; NULL is the default.
///
/// # Safety
/// C1: as many bytes as its first word says. `T` begins with that word, and any bytes are a `T`.
unsafe fn read_struct<T: Copy>(given: *const T, default: T, bytes_first: usize) -> Result<T> {
    if given.is_null() {
        return Ok(default);
    }
    // SAFETY: C1.
    let bytes_given = unsafe { given.cast::<usize>().read() };
    check_struct_bytes(bytes_given, bytes_first)?;
    let known = bytes_given.min(size_of::<T>());
    // SAFETY: C1, for as many bytes as were given.
    let bytes = unsafe { std::slice::from_raw_parts(given.cast::<u8>(), bytes_given) };
    if bytes[known..].iter().any(|byte| *byte != 0) {
        return Err(invalid("the struct has a field that this version of the library does not know"));
    }
    let mut read = default;
    // SAFETY: C1, and any bytes are a `T`.
    unsafe { std::ptr::copy_nonoverlapping(given.cast::<u8>(), (&raw mut read).cast(), known) };
    Ok(read)
}

impl OpenOptions {
    pub(crate) const DEFAULT: OpenOptions = OpenOptions {
        struct_bytes: size_of::<OpenOptions>(),
        size_bytes: 0,
        flags: 0,
        mode: 0,
        timeout_ms: 0,
        default_ttl_ms: 0,
        directory: std::ptr::null(),
        group: std::ptr::null(),
    };

    /// # Safety
    /// C1: as many bytes as its first word says.
    pub(crate) unsafe fn read(options: *const OpenOptions) -> Result<OpenOptions> {
        // SAFETY: C1; numbers and pointers that are checked when they are used.
        unsafe { read_struct(options, OpenOptions::DEFAULT, OPEN_OPTIONS_BYTES_FIRST) }
    }
}

impl WriteOptions {
    const DEFAULT: WriteOptions = WriteOptions {
        struct_bytes: size_of::<WriteOptions>(),
        ttl_ms: 0,
        kind: 0,
        client_flags: 0,
        tags: std::ptr::null(),
        tag_count: 0,
    };

    /// # Safety
    /// C1: as many bytes as its first word says.
    pub(crate) unsafe fn read(options: *const WriteOptions) -> Result<WriteOptions> {
        // SAFETY: C1; numbers and a pointer that is checked when it is used.
        unsafe { read_struct(options, WriteOptions::DEFAULT, WRITE_OPTIONS_BYTES_FIRST) }
    }
}

/// Where to describe a value, checked before anything is done; or nowhere.
pub(crate) struct MetaPlace(Option<(NonNull<MetaInfo>, usize)>);

impl MetaPlace {
    /// # Safety
    /// C1: as many bytes as its first word says, until it is used.
    pub(crate) unsafe fn new(meta: *mut MetaInfo) -> Result<MetaPlace> {
        let Some(place) = NonNull::new(meta) else { return Ok(MetaPlace(None)) };
        // SAFETY: C1.
        let given = unsafe { (&raw const (*meta).struct_bytes).read() };
        check_struct_bytes(given, META_BYTES_FIRST)?;
        Ok(MetaPlace(Some((place, given))))
    }

    /// As [`MetaPlace::new`] for one that must be there.
    ///
    /// # Safety
    /// As for [`MetaPlace::new`].
    pub(crate) unsafe fn required(meta: *mut MetaInfo) -> Result<MetaPlace> {
        if meta.is_null() {
            return Err(invalid("meta is NULL"));
        }
        // SAFETY: the caller's duty.
        unsafe { MetaPlace::new(meta) }
    }

    pub(crate) fn fill(&self, mut info: MetaInfo) {
        let Some((place, given)) = self.0 else { return };
        info.struct_bytes = given;
        let known = given.min(size_of::<MetaInfo>());
        let place = place.as_ptr().cast::<u8>();
        // SAFETY: C1, by the duty of `new`. What a later version added is zero.
        unsafe {
            std::ptr::copy_nonoverlapping((&raw const info).cast::<u8>(), place, known);
            std::ptr::write_bytes(place.add(known), 0, given - known);
        }
    }
}

impl MetaInfo {
    pub(crate) fn new(meta: &Meta, cache: &shm::Cache) -> Result<MetaInfo> {
        // What could be read is there yet, so that 0 (which means the default to a write) is no answer.
        let left_ms = |expires_at_ms: u64| Ok(expires_at_ms.saturating_sub(cache.map()?.host().now_ms()).max(1));
        Ok(MetaInfo {
            struct_bytes: size_of::<MetaInfo>(),
            value_bytes: meta.value_bytes as u64,
            version: meta.version,
            ttl_ms: if meta.expires_at_ms == NEVER { CSHM_NEVER } else { left_ms(meta.expires_at_ms)? },
            kind: meta.kind.into(),
            client_flags: meta.client_flags,
        })
    }
}

/// The elements at `items`; NULL is nothing if the count is 0.
///
/// # Safety
/// C1, during `'a`.
pub(crate) unsafe fn array<'a, T>(items: *const T, count: usize, reason: &'static str) -> Result<&'a [T]> {
    if count == 0 {
        return Ok(&[]);
    }
    if items.is_null() || count > isize::MAX as usize / size_of::<T>() {
        return Err(invalid(reason));
    }
    // SAFETY: not NULL, not too long; C1.
    Ok(unsafe { std::slice::from_raw_parts(items, count) })
}

/// The bytes at `bytes`; NULL is nothing if the count is 0.
///
/// # Safety
/// C1, during `'a`.
pub(crate) unsafe fn bytes_at<'a>(bytes: *const c_void, count: usize, reason: &'static str) -> Result<&'a [u8]> {
    // SAFETY: the caller's duty.
    unsafe { array(bytes.cast(), count, reason) }
}

/// The bytes of a key.
///
/// # Safety
/// C1, during `'a`.
pub(crate) unsafe fn key_at<'a>(key: *const c_void, key_bytes: usize) -> Result<&'a [u8]> {
    // SAFETY: the caller's duty.
    unsafe { bytes_at(key, key_bytes, "the key is NULL, or longer than any memory") }
}

/// The bytes of a value.
///
/// # Safety
/// C1, during `'a`.
pub(crate) unsafe fn value_at<'a>(value: *const c_void, value_bytes: usize) -> Result<&'a [u8]> {
    // SAFETY: the caller's duty.
    unsafe { bytes_at(value, value_bytes, "the value is NULL, or longer than any memory") }
}

/// The zero-terminated text at `text`, if it is not NULL.
///
/// # Safety
/// C1, during `'a`.
pub(crate) unsafe fn text_at<'a>(text: *const c_char) -> Result<Option<&'a str>> {
    if text.is_null() {
        return Ok(None);
    }
    // SAFETY: not NULL; C1.
    let text = unsafe { CStr::from_ptr(text) };
    let refuse = |_| Error::InvalidName { name: text.to_string_lossy().into_owned(), reason: "it is not UTF-8" };
    text.to_str().map(Some).map_err(refuse)
}

/// The object behind a pointer.
///
/// # Safety
/// C2, during `'a`.
pub(crate) unsafe fn object<'a, T>(object: *const T, reason: &'static str) -> Result<&'a T> {
    // SAFETY: C2.
    unsafe { object.as_ref() }.ok_or(invalid(reason))
}

/// The cache behind a handle.
///
/// # Safety
/// C2, during `'a`.
pub(crate) unsafe fn handle<'a>(cache: *const Cache) -> Result<&'a Cache> {
    // SAFETY: C2.
    unsafe { object(cache, "the cache is NULL") }
}

/// A place for a result, which must be there.
pub(crate) fn place<T>(out: *mut T, reason: &'static str) -> Result<NonNull<T>> {
    NonNull::new(out).ok_or(invalid(reason))
}

/// Stores a result, if anybody wants it.
///
/// # Safety
/// C1.
pub(crate) unsafe fn tell<T>(out: *mut T, value: T) {
    if !out.is_null() {
        // SAFETY: not NULL; C1.
        unsafe { out.write(value) };
    }
}

/// A function that gives an object to its caller, who gives it up with the function for such:
/// `*out` is the object, or NULL if there is none or the call failed.
///
/// # Safety
/// C1.
pub(crate) unsafe fn lend<T>(out: *mut *mut T, make: impl FnOnce() -> Result<T>) -> i32 {
    // SAFETY: C1.
    unsafe { lend_found(out, CSHM_OK, || make().map(Some)) }
}

/// As [`lend`], where there may be none, which is the outcome `none`.
///
/// # Safety
/// C1.
pub(crate) unsafe fn lend_found<T>(out: *mut *mut T, none: i32, make: impl FnOnce() -> Result<Option<T>>) -> i32 {
    boundary(|| {
        let out = place(out, "out is NULL")?;
        // SAFETY: not NULL; C1.
        unsafe { out.write(std::ptr::null_mut()) };
        let Some(object) = make()? else { return Ok(none) };
        // SAFETY: not NULL; C1.
        unsafe { out.write(Box::into_raw(Box::new(object))) };
        Ok(CSHM_OK)
    })
}

/// Takes back what [`lend`] gave; NULL is nothing.
///
/// # Safety
/// C2: it is given up here.
pub(crate) unsafe fn take<T>(object: *mut T) -> Option<Box<T>> {
    // SAFETY: not NULL; C2: made by `Box::into_raw`, and the caller gives it up.
    (!object.is_null()).then(|| unsafe { Box::from_raw(object) })
}
