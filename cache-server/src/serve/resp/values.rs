//! Stored values as Redis sees them: strings of bytes.
//!
//! Owns: which bytes a value is to a Redis client. An integer is its digits; text, bytes and
//! everything else are what is stored.
//!
//! # Safety
//! - V1: a read that returned a value has written every byte of the last buffer that it was given
//!   ([`Destination`]), which is as long as the value, and nothing was put behind it since.

use std::mem::MaybeUninit;

use cache_shm::{Cache, Destination, Error, Key, Meta, kind};

use super::reply::{Refusal, Reply};

/// The bytes that a client sees of a stored value.
pub fn shown<'a>(meta: &Meta, stored: &'a [u8], digits: &'a mut itoa::Buffer) -> &'a [u8] {
    match (meta.kind, <[u8; 8]>::try_from(stored)) {
        (kind::INT, Ok(bytes)) => digits.format(i64::from_le_bytes(bytes)).as_bytes(),
        _ => stored,
    }
}

/// What a key holds, for a client; a look that is no use of the key.
pub fn read(database: &Cache, key: &[u8]) -> Result<Option<(Meta, Vec<u8>)>, Refusal> {
    let at = database.scope()?;
    let mut stored = Vec::new();
    let Some(meta) = at.map.peek(at.key(key), &mut stored)? else { return Ok(None) };
    let mut digits = itoa::Buffer::new();
    if meta.kind == kind::INT {
        stored = shown(&meta, &stored, &mut digits).to_vec();
    }
    Ok(Some((meta, stored)))
}

/// Writes the value of a key, or that it is not there. Its bytes go from the region into the
/// reply at once.
pub fn write(database: &Cache, key: &[u8], touches: bool, reply: &mut Reply<'_>) -> Result<Option<Meta>, Refusal> {
    let at = database.scope()?;
    let mut tail = Tail::new(reply.out(), |out, _, length| {
        let mut digits = itoa::Buffer::new();
        out.push(b'$');
        out.extend_from_slice(digits.format(length).as_bytes());
        out.extend_from_slice(b"\r\n");
    });
    let key: Key<'_> = at.key(key);
    let found = if touches { at.map.get(key, &mut tail)? } else { at.map.peek(key, &mut tail)? };
    match &found {
        Some(meta) => tail.finish(meta),
        None => {
            tail.abandon();
            reply.null();
        }
    }
    Ok(found)
}

/// The end of a reply as the place where a read puts a value, behind a head that `head` writes
/// and before the end of a line.
pub struct Tail<'a, F> {
    out: &'a mut Vec<u8>,
    start: usize,
    head: F,
}

impl<'a, F: FnMut(&mut Vec<u8>, &Meta, usize)> Tail<'a, F> {
    /// Behind what is there. `head` gets what is known of the value and how many bytes it is to
    /// a client.
    pub fn new(out: &'a mut Vec<u8>, head: F) -> Tail<'a, F> {
        Tail { start: out.len(), out, head }
    }

    /// The bytes have come.
    pub fn finish(mut self, meta: &Meta) {
        // SAFETY: V1: the bytes behind the end are the value's, and there is room for them.
        unsafe { self.out.set_len(self.out.len() + meta.value_bytes) };
        if meta.kind == kind::INT {
            let mut digits = itoa::Buffer::new();
            let stored = self.out[self.start..].to_vec();
            self.out.truncate(self.start);
            let value = shown(meta, &stored, &mut digits);
            (self.head)(self.out, meta, value.len());
            self.out.extend_from_slice(value);
        }
        self.out.extend_from_slice(b"\r\n");
    }

    /// Nothing has come, or nothing that counts.
    pub fn abandon(self) {
        self.out.truncate(self.start);
    }
}

impl<F: FnMut(&mut Vec<u8>, &Meta, usize)> Destination for Tail<'_, F> {
    fn buffer(&mut self, meta: &Meta) -> Result<&mut [MaybeUninit<u8>], Error> {
        self.out.truncate(self.start);
        if meta.kind != kind::INT {
            (self.head)(self.out, meta, meta.value_bytes);
        }
        self.out.reserve(meta.value_bytes + 2);
        Ok(&mut self.out.spare_capacity_mut()[..meta.value_bytes])
    }
}
