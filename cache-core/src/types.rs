//! The words callers and the map exchange: what is known of a value, how to write
//! one, and where to copy one.
//!
//! Owns: [`Key`], [`Meta`], [`WriteOptions`], [`Destination`] and the registry of value kinds.

use std::mem::MaybeUninit;

use crate::error::{Error, Result};

/// An expiry that never comes.
pub const NEVER: u64 = u64::MAX;

/// What the bytes of a value mean. Numbers never change meaning; the engine itself
/// knows the first three, the others are registered here for all languages.
pub mod kind {
    /// Plain bytes.
    pub const BYTES: u8 = 0;
    /// A signed 64-bit integer, 8 bytes little-endian.
    pub const INT: u8 = 1;
    /// UTF-8 text.
    pub const STR: u8 = 2;
    /// IEEE 754 double, 8 bytes little-endian.
    pub const FLOAT: u8 = 3;
    /// Nothing; no bytes.
    pub const NONE: u8 = 4;
    /// False; no bytes.
    pub const FALSE: u8 = 5;
    /// True; no bytes.
    pub const TRUE: u8 = 6;
    /// The compact tagged encoding of containers, big integers, dates, decimals.
    pub const TAGGED: u8 = 7;
    /// Mutable bytes (Python's bytearray).
    pub const BYTEARRAY: u8 = 8;
    /// An array of numbers: the bytes of a `.npy` file.
    pub const ARRAY: u8 = 9;
    /// A table: a stream of Arrow's IPC format.
    pub const ARROW: u8 = 10;
    /// A record batch: such a stream of one batch.
    pub const ARROW_BATCH: u8 = 11;
    /// A Python pickle, read only by those who ask for it.
    pub const PICKLE: u8 = 16;
    /// JSON, UTF-8.
    pub const JSON: u8 = 17;
    /// One object of MessagePack.
    pub const MSGPACK: u8 = 18;
    /// What a serializer of the user's made, behind its name.
    pub const NAMED: u8 = 19;
    /// A Python pickle with the buffers that it hands out beside it.
    pub const PICKLE_BUFFERS: u8 = 20;
    /// A compressed value of another kind.
    pub const COMPRESSED: u8 = 24;
    /// A signed value of another kind.
    pub const SIGNED: u8 = 25;
    /// Not a value: bytes that a lane skipped. Never in the index.
    pub const FILLER: u8 = 255;
}

/// What a key was before it became bytes. The bytes alone decide which key it is; the
/// form only tells bindings what to hand back when they list keys.
pub mod key_form {
    /// Text, or bytes from a language that makes no difference.
    pub const TEXT: u8 = 0;
    /// Bytes.
    pub const BYTES: u8 = 1;
    /// An integer, stored as its decimal text.
    pub const INT: u8 = 2;
    /// Several keys in one, see `docs/value-encoding.md`.
    pub const TUPLE: u8 = 3;
}

/// The number of a namespace: a row of the region's table, see [`crate::Map::namespace`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Namespace(pub(crate) u16);

impl Namespace {
    /// Where keys are that name no namespace.
    pub const DEFAULT: Namespace = Namespace(0);

    /// A namespace that no region has: nothing is found in it, and nothing can be stored.
    pub const NOWHERE: Namespace = Namespace(u16::MAX);

    /// The namespace of that number, which is one only if the region gave it to a name.
    #[inline]
    pub fn from_number(number: u16) -> Namespace {
        Namespace(number)
    }

    /// The number of its row.
    #[inline]
    pub fn number(self) -> u16 {
        self.0
    }
}

/// What a value is stored under: bytes, and the namespace that they are a key of.
///
/// Bytes alone are a key of the default namespace, so `map.get(b"key", ...)` works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key<'a> {
    /// The namespace; the same bytes in another are another key.
    pub namespace: Namespace,
    /// 1 to [`crate::KEY_BYTES_MAX`] bytes.
    pub bytes: &'a [u8],
}

impl<'a> Key<'a> {
    /// The key `bytes` of `namespace`.
    #[inline(always)]
    pub fn new(namespace: Namespace, bytes: &'a [u8]) -> Key<'a> {
        Key { namespace, bytes }
    }
}

impl<'a, B: AsRef<[u8]> + ?Sized> From<&'a B> for Key<'a> {
    #[inline(always)]
    fn from(bytes: &'a B) -> Key<'a> {
        Key { namespace: Namespace::DEFAULT, bytes: bytes.as_ref() }
    }
}

/// What is known of a value without its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meta {
    /// Bytes of the value.
    pub value_bytes: usize,
    /// What the bytes mean, see [`kind`].
    pub kind: u8,
    /// What the key was when the value was stored, see [`key_form`].
    pub key_form: u8,
    /// Changes with every change of this key; the token of compare-and-swap.
    pub version: u64,
    /// Moment of expiry in milliseconds on the region's clock, or [`NEVER`].
    pub expires_at_ms: u64,
    /// 32 bits that belong to the client (memcached's flags); 0 if never set.
    pub client_flags: u32,
    /// 32 bits that belong to the servers of other protocols; 0 if never set.
    pub server_flags: u32,
    /// The namespace of its key.
    pub namespace: Namespace,
    /// Its namespace was cleared or one of its tags evicted, as its marks say.
    pub(crate) is_outdated: bool,
}

/// How a write goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WriteOptions<'a> {
    /// What the bytes mean, see [`kind`].
    pub kind: u8,
    /// What the key was, see [`key_form`].
    pub key_form: u8,
    /// Moment of expiry in milliseconds on the region's clock, or [`NEVER`].
    pub expires_at_ms: u64,
    /// 32 bits that belong to the client; 0 costs no space.
    pub client_flags: u32,
    /// 32 bits that belong to the servers of other protocols; 0 costs no space.
    pub server_flags: u32,
    /// Names of tags, each 1 to 255 bytes and 64 at most: the value goes when one of them is
    /// evicted, see [`crate::Map::evict_tag`].
    pub tags: &'a [&'a [u8]],
    /// Longest wait for another writer in nanoseconds; 0 = try once.
    pub timeout_ns: u64,
}

/// One second: the wait of a writer that was not told otherwise.
pub const TIMEOUT_NS_DEFAULT: u64 = 1_000_000_000;

impl WriteOptions<'_> {
    /// These options with what is known of a value instead: what it is, what its key was, when it
    /// expires and its flags. The tags and the wait stay these.
    pub fn keeping(self, meta: &Meta) -> Self {
        WriteOptions {
            kind: meta.kind,
            key_form: meta.key_form,
            expires_at_ms: meta.expires_at_ms,
            client_flags: meta.client_flags,
            server_flags: meta.server_flags,
            ..self
        }
    }
}

impl Default for WriteOptions<'_> {
    fn default() -> Self {
        WriteOptions {
            kind: kind::BYTES,
            key_form: key_form::TEXT,
            expires_at_ms: NEVER,
            client_flags: 0,
            server_flags: 0,
            tags: &[],
            timeout_ns: TIMEOUT_NS_DEFAULT,
        }
    }
}

/// Outcome of a compare-and-swap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cas {
    /// The version matched; the new value has this one.
    Stored(u64),
    /// The key holds another version.
    Changed(u64),
    /// The key is not there.
    Missing,
}

/// Where a read copies a value.
///
/// A read that was overtaken by a writer starts again, so `buffer` may be called
/// several times for one read; only the bytes of the last call count. A read that returns a
/// value has written every byte of the buffer of the last call.
pub trait Destination {
    /// A buffer of exactly `meta.value_bytes` bytes.
    ///
    /// # Errors
    /// Whatever it returns ends the read with that error.
    fn buffer(&mut self, meta: &Meta) -> Result<&mut [MaybeUninit<u8>]>;
}

impl Destination for Vec<u8> {
    fn buffer(&mut self, meta: &Meta) -> Result<&mut [MaybeUninit<u8>]> {
        self.clear();
        self.resize(meta.value_bytes, 0);
        let bytes: &mut [u8] = self;
        // SAFETY: MaybeUninit<u8> has the layout of u8, and the map only ever
        // writes initialized bytes into the slice.
        Ok(unsafe { &mut *(std::ptr::from_mut(bytes) as *mut [MaybeUninit<u8>]) })
    }
}

/// A caller's buffer of fixed size; a longer value is `BufferTooSmall`.
pub struct Buffer<'a>(pub &'a mut [u8]);

impl Destination for Buffer<'_> {
    fn buffer(&mut self, meta: &Meta) -> Result<&mut [MaybeUninit<u8>]> {
        let bytes_given = self.0.len() as u64;
        let Some(bytes) = self.0.get_mut(..meta.value_bytes) else {
            return Err(Error::BufferTooSmall { bytes: meta.value_bytes as u64, bytes_given });
        };
        // SAFETY: as for Vec above.
        Ok(unsafe { &mut *(std::ptr::from_mut(bytes) as *mut [MaybeUninit<u8>]) })
    }
}
