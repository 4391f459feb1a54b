//! Stored values as Redis sees them: strings of bytes.
//!
//! Owns: which bytes a value is to a Redis client. An integer is its digits; text, bytes and
//! everything else are what is stored.

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

/// What a key holds, for a client.
pub fn read(database: &Cache, key: &[u8]) -> Result<Option<(Meta, Vec<u8>)>, Refusal> {
    let mut stored = Vec::new();
    let Some(meta) = database.get_into(key, &mut stored)? else { return Ok(None) };
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
    let mut tail = Tail::new(reply.out());
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

/// The end of a reply as the place where a read puts a value.
struct Tail<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
}

impl Tail<'_> {
    fn new(out: &mut Vec<u8>) -> Tail<'_> {
        Tail { start: out.len(), out }
    }

    /// The bytes have come.
    fn finish(self, meta: &Meta) {
        // SAFETY: a read that returned a value has written every byte of the last buffer it was
        // given (`Destination`), which are these bytes behind the end; nothing came after them.
        unsafe { self.out.set_len(self.out.len() + meta.value_bytes) };
        if meta.kind == kind::INT {
            let mut digits = itoa::Buffer::new();
            let stored = self.out[self.start..].to_vec();
            self.out.truncate(self.start);
            Reply::new(self.out, false).bulk(shown(meta, &stored, &mut digits));
        } else {
            self.out.extend_from_slice(b"\r\n");
        }
    }

    /// Nothing has come, or nothing that counts.
    fn abandon(self) {
        self.out.truncate(self.start);
    }
}

impl Destination for Tail<'_> {
    fn buffer(&mut self, meta: &Meta) -> Result<&mut [MaybeUninit<u8>], Error> {
        self.out.truncate(self.start);
        if meta.kind != kind::INT {
            self.out.push(b'$');
            let mut digits = itoa::Buffer::new();
            self.out.extend_from_slice(digits.format(meta.value_bytes).as_bytes());
            self.out.extend_from_slice(b"\r\n");
        }
        self.out.reserve(meta.value_bytes + 2);
        Ok(&mut self.out.spare_capacity_mut()[..meta.value_bytes])
    }
}
