//! The bytes of a snapshot: header, chunks, records.
//!
//! ```text
//! file    header, data chunks, one end chunk
//! header  magic 8 | version 4 | 0 4 | id 8 | created, ms since 1970 8 | region bytes 8 | items 8 |
//!         live bytes 8 | region format 4 | crc 4
//! chunk   id 8 | sequence 8 | payload bytes 8 | records 4 | kind 4 | crc of payload 4 | crc of this head 4 | payload
//! record  value bytes 4 | key bytes 2 | namespace bytes 1 | kind 1 | key form 1 | uses 1 | tags 1 | 0 1 |
//!         client flags 4 | server flags 4 | expires, ms since 1970 8 | namespace | key | value
//! end     the payload of the last chunk: items 8 | value bytes 8
//! ```
//!
//! All numbers are little-endian, every checksum is CRC-32. The id is random and stands in each
//! chunk, so that the next chunk after a damaged one can be found, and nothing that was stored
//! as a value before looks like one.
//!
//! Owns: the conversion in both directions. Must never trust what it reads.

use cache_shm::{KEY_BYTES_MAX, Meta, NAMESPACE_NAME_BYTES, kind};

use super::Problem;

/// First bytes of a snapshot.
pub(super) const MAGIC: &[u8; 8] = b"CSHMDUMP";
/// Version of the format.
pub(super) const VERSION: u32 = 1;
pub(super) const HEADER_BYTES: usize = 64;
pub(super) const HEAD_BYTES: usize = 40;
const RECORD_BYTES: usize = 28;
/// Of the longest record that the format has.
pub(super) const RECORD_BYTES_MAX: u64 = (RECORD_BYTES + NAMESPACE_NAME_BYTES + KEY_BYTES_MAX) as u64 + u32::MAX as u64;
/// A chunk is closed when it has so many bytes; one record more may make it longer.
pub(super) const CHUNK_BYTES: usize = 256 * 1024;
/// Expiry of a value that never expires.
const NEVER_UNIX_MS: u64 = u64::MAX;
const MAIN: u8 = 1 << 7;

/// What the first bytes of a snapshot say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Random: no other has it.
    pub id: u64,
    /// When it was begun, in milliseconds since 1970.
    pub created_unix_ms: u64,
    /// Bytes of the region that it was made of.
    pub region_bytes: u64,
    /// Items that the region had about then.
    pub items: u64,
    /// Bytes of those items.
    pub live_bytes: u64,
    /// Format version of the region.
    pub region_format: u32,
}

/// What a chunk holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    Records = 1,
    End = 2,
}

/// The head of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub sequence: u64,
    pub payload_bytes: u64,
    pub records: u32,
    pub content: Content,
    pub payload_crc: u32,
}

/// One value as it stands in a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Record<'a> {
    pub namespace: &'a [u8],
    pub key: &'a [u8],
    pub value: &'a [u8],
    pub kind: u8,
    pub key_form: u8,
    pub client_flags: u32,
    pub server_flags: u32,
    pub tag_count: u8,
    pub uses: u8,
    pub is_main: bool,
    /// `None`: never.
    pub expires_unix_ms: Option<u64>,
}

/// Reads numbers off the front of bytes whose length was checked before.
struct Numbers<'a>(&'a [u8]);

impl Numbers<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (number, rest) = self.0.split_first_chunk::<N>().expect("as many bytes as the format has");
        self.0 = rest;
        *number
    }
    fn u8(&mut self) -> u8 {
        self.take::<1>()[0]
    }
    fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.take())
    }
    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }
    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take())
    }
}

impl Header {
    pub(super) fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let mut bytes = Vec::with_capacity(HEADER_BYTES);
        bytes.extend(MAGIC);
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend([0; 4]);
        for number in [self.id, self.created_unix_ms, self.region_bytes, self.items, self.live_bytes] {
            bytes.extend(number.to_le_bytes());
        }
        bytes.extend(self.region_format.to_le_bytes());
        bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
        bytes.try_into().expect("as many bytes as the format has")
    }

    pub(super) fn from_bytes(bytes: &[u8; HEADER_BYTES]) -> Result<Header, Problem> {
        let mut numbers = Numbers(bytes);
        if &numbers.take::<8>() != MAGIC {
            return Err(Problem::NotSnapshot);
        }
        // Looked at before the checksum: another version may have it elsewhere.
        let version = numbers.u32();
        if version != VERSION {
            return Err(Problem::Version { found: version });
        }
        numbers.u32();
        let [id, created_unix_ms, region_bytes, items, live_bytes] = std::array::from_fn(|_| numbers.u64());
        let region_format = numbers.u32();
        if numbers.u32() != crc32fast::hash(&bytes[..HEADER_BYTES - 4]) {
            return Err(Problem::Damaged { offset: 0, what: "the header's checksum is not that of its bytes" });
        }
        Ok(Header { id, created_unix_ms, region_bytes, items, live_bytes, region_format })
    }
}

impl Head {
    /// The head of this payload.
    pub fn of(sequence: u64, content: Content, records: u32, payload: &[u8]) -> Head {
        let payload_crc = crc32fast::hash(payload);
        Head { sequence, payload_bytes: payload.len() as u64, records, content, payload_crc }
    }

    pub fn to_bytes(self, id: u64) -> [u8; HEAD_BYTES] {
        let mut bytes = Vec::with_capacity(HEAD_BYTES);
        for number in [id, self.sequence, self.payload_bytes] {
            bytes.extend(number.to_le_bytes());
        }
        for number in [self.records, self.content as u32, self.payload_crc] {
            bytes.extend(number.to_le_bytes());
        }
        bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
        bytes.try_into().expect("as many bytes as the format has")
    }

    /// `None` if these bytes are not the head of a chunk of the snapshot `id`.
    pub fn from_bytes(bytes: &[u8; HEAD_BYTES], id: u64) -> Option<Head> {
        let mut numbers = Numbers(bytes);
        if numbers.u64() != id {
            return None;
        }
        let (sequence, payload_bytes, records) = (numbers.u64(), numbers.u64(), numbers.u32());
        let content = match numbers.u32() {
            1 => Content::Records,
            2 => Content::End,
            _ => return None,
        };
        let payload_crc = numbers.u32();
        let is_true = numbers.u32() == crc32fast::hash(&bytes[..HEAD_BYTES - 4]);
        is_true.then_some(Head { sequence, payload_bytes, records, content, payload_crc })
    }
}

/// The payload of an end chunk: items, and bytes of their values.
pub(super) fn end_payload(items: u64, value_bytes: u64) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&items.to_le_bytes());
    bytes[8..].copy_from_slice(&value_bytes.to_le_bytes());
    bytes
}

/// Items and bytes of their values, from the payload of an end chunk.
pub(super) fn end_totals(payload: &[u8]) -> Option<(u64, u64)> {
    if payload.len() != 16 {
        return None;
    }
    let mut numbers = Numbers(payload);
    Some((numbers.u64(), numbers.u64()))
}

impl<'a> Record<'a> {
    /// Appends the record to a payload.
    pub fn append_to(&self, payload: &mut Vec<u8>) {
        payload.extend((self.value.len() as u32).to_le_bytes());
        payload.extend((self.key.len() as u16).to_le_bytes());
        let policy = self.uses | if self.is_main { MAIN } else { 0 };
        payload.extend([self.namespace.len() as u8, self.kind, self.key_form, policy, self.tag_count, 0]);
        payload.extend(self.client_flags.to_le_bytes());
        payload.extend(self.server_flags.to_le_bytes());
        payload.extend(self.expires_unix_ms.unwrap_or(NEVER_UNIX_MS).to_le_bytes());
        payload.extend(self.namespace);
        payload.extend(self.key);
        payload.extend(self.value);
    }

    /// Takes the next record off a payload; `None` if there is none that a writer makes.
    pub fn take_from(payload: &mut &'a [u8]) -> Option<Record<'a>> {
        let (fixed, mut rest) = payload.split_at_checked(RECORD_BYTES)?;
        let mut numbers = Numbers(fixed);
        let (value_bytes, key_bytes, namespace_bytes) = (numbers.u32(), numbers.u16(), numbers.u8());
        let (kind, key_form, policy, tag_count) = (numbers.u8(), numbers.u8(), numbers.u8(), numbers.u8());
        numbers.u8();
        let (client_flags, server_flags, expires_unix_ms) = (numbers.u32(), numbers.u32(), numbers.u64());
        let mut take = |bytes: usize| {
            let (taken, left) = rest.split_at_checked(bytes)?;
            rest = left;
            Some(taken)
        };
        let namespace = take(namespace_bytes.into())?;
        let key = take(key_bytes.into())?;
        let value = take(usize::try_from(value_bytes).ok()?)?;
        let uses = policy & !MAIN;
        let is_made = namespace.len() <= NAMESPACE_NAME_BYTES
            && (1..=KEY_BYTES_MAX).contains(&key.len())
            && kind != kind::FILLER
            && key_form <= cache_shm::key_form::TUPLE
            && uses <= 3;
        *payload = rest;
        is_made.then_some(Record {
            namespace,
            key,
            value,
            kind,
            key_form,
            client_flags,
            server_flags,
            tag_count,
            uses,
            is_main: policy & MAIN != 0,
            expires_unix_ms: (expires_unix_ms != NEVER_UNIX_MS).then_some(expires_unix_ms),
        })
    }
}

/// A moment of the region's clock on the wall's, if it ever comes.
pub(super) fn to_unix_ms(meta: &Meta, now_ms: u64, now_unix_ms: u64) -> Option<u64> {
    let expires = meta.expires_at_ms;
    (expires != cache_shm::NEVER)
        .then(|| now_unix_ms.saturating_add(expires.saturating_sub(now_ms)).min(NEVER_UNIX_MS - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_and_heads_survive_their_bytes_and_no_changed_bit_is_believed() {
        let header = Header {
            id: 77,
            created_unix_ms: 1_700_000_000_000,
            region_bytes: 1 << 20,
            items: 5,
            live_bytes: 500,
            region_format: 1,
        };
        let bytes = header.to_bytes();
        assert_eq!(Header::from_bytes(&bytes), Ok(header));
        let head = Head::of(3, Content::Records, 9, b"payload");
        let head_bytes = head.to_bytes(77);
        assert_eq!(Head::from_bytes(&head_bytes, 77), Some(head));
        assert_eq!(Head::from_bytes(&head_bytes, 78), None);
        for bit in 0..8 * HEADER_BYTES {
            let mut changed = bytes;
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(Header::from_bytes(&changed).is_err(), "bit {bit}");
        }
        for bit in 0..8 * HEAD_BYTES {
            let mut changed = head_bytes;
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Head::from_bytes(&changed, 77), None, "bit {bit}");
        }
    }

    #[test]
    fn the_first_bytes_of_a_snapshot_never_change() {
        let header = Header { id: 1, created_unix_ms: 2, region_bytes: 3, items: 4, live_bytes: 5, region_format: 6 };
        let expected: Vec<u8> = [b"CSHMDUMP".as_slice(), &[1, 0, 0, 0, 0, 0, 0, 0]]
            .concat()
            .into_iter()
            .chain([1u64, 2, 3, 4, 5].into_iter().flat_map(u64::to_le_bytes))
            .chain([6, 0, 0, 0])
            .collect();
        assert_eq!(header.to_bytes()[..60], expected);
        let record = Record {
            namespace: b"n",
            key: b"key",
            value: b"value",
            kind: 2,
            key_form: 1,
            client_flags: 0x0403_0201,
            server_flags: 0x0807_0605,
            tag_count: 3,
            uses: 2,
            is_main: true,
            expires_unix_ms: Some(9),
        };
        let mut payload = Vec::new();
        record.append_to(&mut payload);
        let expected = [5, 0, 0, 0, 3, 0, 1, 2, 1, 0x82, 3, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!((&payload[..28], &payload[28..]), (&expected[..], &b"nkeyvalue"[..]));
        let mut rest = &payload[..];
        assert_eq!(Record::take_from(&mut rest), Some(record));
        assert!(rest.is_empty());
    }

    #[test]
    fn records_that_no_writer_makes_are_refused() {
        let record = Record {
            namespace: b"",
            key: b"k",
            value: b"",
            kind: 0,
            key_form: 0,
            client_flags: 0,
            server_flags: 0,
            tag_count: 0,
            uses: 0,
            is_main: false,
            expires_unix_ms: None,
        };
        let made = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut payload = Vec::new();
            record.append_to(&mut payload);
            change(&mut payload);
            Record::take_from(&mut &payload[..]).is_some()
        };
        assert!(made(&|_| {}));
        assert!(!made(&|payload| payload[7] = kind::FILLER));
        assert!(!made(&|payload| payload[8] = 4));
        assert!(!made(&|payload| payload[9] = 4));
        assert!(!made(&|payload| payload[4] = 0));
        assert!(!made(&|payload| payload[6] = 65));
        for bytes in 0..RECORD_BYTES + 1 {
            assert!(!made(&|payload| payload.truncate(bytes)), "{bytes}");
        }
    }
}
