//! Items: header, optional words, key, value; written once, then only replaced.
//!
//! ```text
//! 0                 4       6      7      8         16
//! +-----------------+-------+------+------+---------+----------------+-----+---------+
//! | value length 32 | key 16| kind | flags| version | optional words | key | value   |
//! +-----------------+-------+------+------+---------+----------------+-----+---------+
//! optional words, in this order, each there if its flag is set:
//!   EXPIRES    8 bytes   moment of expiry, milliseconds on the region's clock
//!   NAMESPACE  8 bytes   the mark of the namespace
//!   CLIENT     8 bytes   32 bits that belong to the client, and 32 of the servers
//! ALIGNED: the item starts at a multiple of 64 and so does its value.
//! TAGS: what the header calls the value is longer, and ends with the item: the value, zeros
//! to a multiple of 8, n marks, and a word with n and the bytes of the value itself.
//! Bits 5 and 6 of the flags: the form of the key, see `key_form`.
//! ```
//!
//! Owns: the arithmetic of one item. Must never trust what it reads: every length is
//! checked before it is used, and every byte is validated by the caller afterwards.

use crate::layout::{COPY_BYTES_MAX, LINE_BYTES};
use crate::types::{Key, Meta, NEVER, Namespace, WriteOptions, kind};

/// Bytes of the fixed part of the header.
pub(crate) const HEAD_BYTES: u64 = 16;
/// The item carries an expiry word.
pub(crate) const EXPIRES: u8 = 1;
/// The item is of another namespace than the default, and carries its mark.
pub(crate) const NAMESPACE: u8 = 2;
/// The item carries client flags.
pub(crate) const CLIENT: u8 = 4;
/// The item carries the marks of its tags.
pub(crate) const TAGS: u8 = 8;
/// Item and value start at multiples of 64.
pub(crate) const ALIGNED: u8 = 16;
const FORM_SHIFT: u32 = 5;
pub(crate) const FORM_MASK: u8 = 3 << FORM_SHIFT;
/// The flag that no writer of this version sets, and no reader believes.
const FLAG_UNKNOWN: u8 = 1 << 7;
/// Bytes that the optional words and all padding take at most.
const EXTRA_BYTES_MAX: u64 = HEAD_BYTES + 24 + LINE_BYTES + 16;

/// Bytes that an item with so many tags takes at most beside its key and its value.
pub(crate) fn extra_bytes(tag_count: usize) -> u64 {
    EXTRA_BYTES_MAX + if tag_count > 0 { 8 * (tag_count as u64 + 1) } else { 0 }
}

/// Bytes of the slot that names an item in the index.
const SLOT_BYTES: u64 = 8;

impl Meta {
    /// Bytes that the value takes in a region under `key`: the item, and its slot in the index.
    /// Marks of tags are not counted.
    pub fn item_bytes(&self, key: Key<'_>) -> u64 {
        let (expires_at_ms, client_flags) = (self.expires_at_ms, self.client_flags);
        let options = WriteOptions { expires_at_ms, client_flags, ..WriteOptions::default() };
        let shape = Head::for_value(key, self.value_bytes, &options, 0).shape();
        shape.map_or(0, |shape| shape.bytes) + SLOT_BYTES
    }
}

/// The first word of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    pub value_bytes: u32,
    pub key_bytes: u16,
    pub kind: u8,
    pub flags: u8,
}

/// Where the parts of an item are, from its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    pub expires_at: Option<u64>,
    pub namespace_at: Option<u64>,
    pub client_at: Option<u64>,
    pub key_at: u64,
    pub value_at: u64,
    /// Bytes of the whole item, a multiple of 8.
    pub bytes: u64,
}

impl Head {
    /// The header of a value to be written.
    pub fn for_value(key: Key<'_>, value_bytes: usize, options: &WriteOptions, tag_count: usize) -> Head {
        let large = value_bytes > COPY_BYTES_MAX;
        let flag = |is_set: bool, flag: u8| if is_set { flag } else { 0 };
        // A large item always has an expiry word, so that `touch` can change it in place.
        let flags = flag(options.expires_at_ms != NEVER || large, EXPIRES)
            | flag(key.namespace != Namespace::DEFAULT, NAMESPACE)
            | flag(options.client_flags | options.server_flags != 0, CLIENT)
            | flag(tag_count > 0, TAGS)
            | flag(large, ALIGNED)
            | (options.key_form << FORM_SHIFT) & FORM_MASK;
        let head =
            Head { value_bytes: value_bytes as u32, key_bytes: key.bytes.len() as u16, kind: options.kind, flags };
        if tag_count > 0 { head.with_tags(tag_count) } else { head }
    }

    /// The header whose value ends with the marks of so many tags.
    #[cold]
    fn with_tags(self, tag_count: usize) -> Head {
        // A header that is no item is refused later, as it stands.
        let value_bytes = self.shape().map_or(0, |shape| shape.bytes - shape.value_at + 8 * (tag_count as u64 + 1));
        Head { value_bytes: value_bytes as u32, ..self }
    }

    /// What the key was, see [`crate::key_form`].
    #[inline(always)]
    pub fn key_form(self) -> u8 {
        (self.flags & FORM_MASK) >> FORM_SHIFT
    }

    /// A header for `bytes` bytes (a multiple of 8, not 0) that are not an item.
    pub fn filler(bytes: u64) -> Head {
        Head { value_bytes: (bytes - 8) as u32, key_bytes: 0, kind: kind::FILLER, flags: 0 }
    }

    #[inline(always)]
    pub fn to_word(self) -> u64 {
        u64::from(self.value_bytes)
            | u64::from(self.key_bytes) << 32
            | u64::from(self.kind) << 48
            | u64::from(self.flags) << 56
    }

    #[inline(always)]
    pub fn from_word(word: u64) -> Head {
        Head {
            value_bytes: word as u32,
            key_bytes: (word >> 32) as u16,
            kind: (word >> 48) as u8,
            flags: (word >> 56) as u8,
        }
    }

    /// Where its parts are; `None` if no writer makes such a header.
    #[inline(always)]
    pub fn shape(self) -> Option<Shape> {
        if self.flags & FLAG_UNKNOWN != 0 || self.key_bytes == 0 || self.kind == kind::FILLER {
            return None;
        }
        let mut at = HEAD_BYTES;
        let mut take = |flag: u8, bytes: u64| {
            (self.flags & flag != 0).then(|| {
                at += bytes;
                at - bytes
            })
        };
        let expires_at = take(EXPIRES, 8);
        let namespace_at = take(NAMESPACE, 8);
        let client_at = take(CLIENT, 8);
        let key_at = at;
        let mut value_at = key_at + u64::from(self.key_bytes);
        if self.flags & ALIGNED != 0 {
            value_at = value_at.next_multiple_of(LINE_BYTES);
        }
        let bytes = (value_at + u64::from(self.value_bytes)).next_multiple_of(8);
        Some(Shape { expires_at, namespace_at, client_at, key_at, value_at, bytes })
    }

    /// Bytes to the next item of a segment, at least 8; 0 for a header that no writer makes.
    pub fn step(self) -> u64 {
        if self.kind == kind::FILLER {
            return (8 + u64::from(self.value_bytes)).next_multiple_of(8);
        }
        self.shape().map_or(0, |shape| shape.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::TAG_COUNT_MAX;

    #[test]
    fn a_header_survives_its_word_and_its_parts_do_not_overlap() {
        for value_bytes in [0usize, 1, 100, COPY_BYTES_MAX, COPY_BYTES_MAX + 1] {
            for bits in 0..16 {
                let [expires, client, named, tagged] = [1, 2, 4, 8].map(|bit| bits & bit != 0);
                let options = WriteOptions {
                    kind: kind::STR,
                    key_form: 3,
                    expires_at_ms: if expires { 1 } else { NEVER },
                    client_flags: client.into(),
                    ..WriteOptions::default()
                };
                let tag_count = if tagged { TAG_COUNT_MAX } else { 0 };
                let head = Head::for_value(Key::new(Namespace(named.into()), b"key"), value_bytes, &options, tag_count);
                assert_eq!(head.key_form(), 3);
                assert_eq!(Head::from_word(head.to_word()), head);
                let shape = head.shape().unwrap();
                let words = [shape.expires_at, shape.namespace_at, shape.client_at].iter().flatten().count() as u64;
                assert_eq!(shape.key_at, HEAD_BYTES + 8 * words);
                assert!(shape.value_at >= shape.key_at + 3);
                let tag_bytes = if tagged { 8 * (tag_count as u64 + 1) } else { 0 };
                let bytes_min = shape.value_at + value_bytes as u64 + tag_bytes;
                assert!((bytes_min..bytes_min + 8).contains(&shape.bytes) && shape.bytes.is_multiple_of(8));
                assert!(shape.bytes <= 3 + value_bytes as u64 + extra_bytes(tag_count));
                assert_eq!(head.step(), shape.bytes);
            }
        }
        assert_eq!(Head::filler(8).step(), 8);
        assert_eq!(Head::filler(56).step(), 56);
        assert_eq!(Head::from_word(0).shape(), None);
        assert_eq!(Head::from_word(u64::from(FLAG_UNKNOWN) << 56 | 3 << 32).shape(), None);
    }
}
