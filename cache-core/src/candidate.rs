//! What a slot names, before anybody believes it.
//!
//! Owns: the copies of key and value out of bytes that may change meanwhile. Whether they did,
//! the caller finds out afterwards.

use std::mem::MaybeUninit;

use crate::item::{Head, Shape};
use crate::region;
use crate::sync::AtomicU64;
use crate::types::{Key, Meta};

/// Bytes that a slot names and that look like an item. Nothing in it is believed
/// before it is validated.
pub(crate) struct Candidate<'a> {
    pub words: &'a [AtomicU64],
    pub offset: u64,
    pub segment: u32,
    pub head: Head,
    pub shape: Shape,
    pub meta: Meta,
}

impl Candidate<'_> {
    /// Copies the value.
    #[inline(always)]
    pub fn copy_value(&self, out: &mut [MaybeUninit<u8>]) {
        let at = self.shape.value_at as usize;
        region::copy_out(&self.words[at / 8..], at % 8, &mut out[..self.meta.value_bytes]);
    }

    pub fn copy_key(&self, out: &mut Vec<u8>) {
        let (bytes, at) = (usize::from(self.head.key_bytes), self.shape.key_at as usize);
        out.clear();
        out.reserve(bytes);
        region::copy_out(&self.words[at / 8..], at % 8, &mut out.spare_capacity_mut()[..bytes]);
        // SAFETY: R7. `copy_out` initialized the first `bytes` bytes just reserved.
        unsafe { out.set_len(bytes) };
    }

    /// Its key, copied into `bytes`.
    pub fn key<'k>(&self, bytes: &'k mut Vec<u8>) -> Key<'k> {
        self.copy_key(bytes);
        Key::new(self.meta.namespace, bytes)
    }

    #[inline(always)]
    pub fn has_key(&self, key: Key<'_>) -> bool {
        usize::from(self.head.key_bytes) == key.bytes.len()
            && self.meta.namespace == key.namespace
            && region::equals(&self.words[self.shape.key_at as usize / 8..], key.bytes)
    }
}
