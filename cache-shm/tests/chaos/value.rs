//! Keys, and values that say by themselves whether they are whole and whose they are.
//!
//! Owns: the bytes of keys and values. A value follows from its key, a serial number and
//! the number of pieces appended to it, down to its length:
//!
//! ```text
//! +-----+--------+-------------------------+------------------------+---------+---------+
//! | key | serial | mix of both, as a check | bytes that follow from | piece 0 | piece 1 | ...
//! | 8 B | 8 B    | 8 B                     | the mix                |         |         |
//! +-----+--------+-------------------------+------------------------+---------+---------+
//! ```
//!
//! A value of less than 24 bytes has no room for this: it is the beginning of bytes that
//! follow from its key alone.

use fastrand::Rng;

/// Bytes before the ones that follow from the mix.
const HEAD_BYTES: usize = 24;
/// Most pieces appended to one value.
pub const APPENDS_MAX: u64 = 6;

/// A key of one of the regions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key(pub u64);

/// What sort of values a key has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// 0 to 63 bytes.
    Tiny,
    /// 0 bytes to 64 KiB.
    Mixed,
    /// 16 KiB to 1 MiB.
    Large,
    /// An integer.
    Integer,
}

const OWNED: u64 = 1 << 55;
const PROBE: u64 = 1 << 54;

impl Key {
    /// Key `number` of region `region` that only the workers of `slot` write.
    pub fn owned(region: usize, slot: usize, number: usize) -> Key {
        Key((region as u64) << 56 | OWNED | (slot as u64) << 32 | number as u64)
    }

    /// Key `number` of region `region` that everybody writes.
    pub fn shared(region: usize, number: usize) -> Key {
        Key((region as u64) << 56 | number as u64)
    }

    /// Key `number` of region `region` of the process that measures take-overs.
    pub fn probe(region: usize, number: u64) -> Key {
        Key((region as u64) << 56 | PROBE | number)
    }

    pub fn class(self) -> Class {
        let number = self.0 & 0xffff_ffff;
        match number % 16 {
            15 => Class::Integer,
            1 if self.0 & OWNED != 0 => Class::Large,
            0 | 4 | 8 | 12 if self.0 & OWNED != 0 || number % 64 == 0 => Class::Mixed,
            _ => Class::Tiny,
        }
    }

    /// 8 to 47 bytes.
    pub fn bytes(self) -> Vec<u8> {
        let mut bytes = self.0.to_le_bytes().to_vec();
        bytes.resize(8 + (mix(self.0, 0) % 40) as usize, b'k');
        bytes
    }

    /// The key of these bytes.
    pub fn from_bytes(bytes: &[u8]) -> Option<Key> {
        let key = Key(u64::from_le_bytes(bytes.get(..8)?.try_into().ok()?));
        (key.bytes() == bytes).then_some(key)
    }
}

fn mix(key: u64, serial: u64) -> u64 {
    let word = (key ^ serial.rotate_left(32)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (word ^ word >> 29).wrapping_mul(0xBF58_476D_1CE4_E5B9) ^ word >> 32
}

/// Bytes of the value that `key` has with `serial`, before anything is appended.
pub fn base_bytes(key: Key, serial: u64) -> usize {
    let mut random = Rng::with_seed(mix(key.0, serial));
    match (key.class(), random.u32(..100)) {
        (Class::Integer, _) => 8,
        (Class::Tiny, _) => random.usize(..64),
        (Class::Large, 0..20) => 1 << 20,
        (Class::Large, _) => random.usize(16 << 10..256 << 10),
        (Class::Mixed, 0..10) => 0,
        (Class::Mixed, 10..25) => random.usize(..24),
        (Class::Mixed, 25..65) => random.usize(24..512),
        (Class::Mixed, 65..90) => random.usize(512..8 << 10),
        (Class::Mixed, _) => random.usize(8 << 10..=64 << 10),
    }
}

/// The value of `key` with `serial`, after `appends` pieces were appended.
pub fn blob(key: Key, serial: u64, appends: u64) -> Vec<u8> {
    let bytes = base_bytes(key, serial);
    let mixed = mix(key.0, serial);
    let mut value = if bytes < HEAD_BYTES {
        let mut head = [0; HEAD_BYTES];
        Rng::with_seed(mix(key.0, 1)).fill(&mut head);
        head[..bytes].to_vec()
    } else {
        let mut value = [key.0, serial, mixed].map(u64::to_le_bytes).concat();
        value.resize(bytes, 0);
        Rng::with_seed(mixed).fill(&mut value[HEAD_BYTES..]);
        value
    };
    (0..appends).for_each(|number| value.extend_from_slice(&piece(key, serial, number)));
    value
}

/// The bytes that are appended when `number` pieces are there.
pub fn piece(key: Key, serial: u64, number: u64) -> Vec<u8> {
    let mut random = Rng::with_seed(mix(mix(key.0, serial), number + 1));
    let mut piece = vec![0; random.usize(8..=64)];
    random.fill(&mut piece);
    piece
}

/// True if a value of `bytes` bytes says by its first ones which it is.
pub fn has_head(bytes: usize) -> bool {
    bytes >= HEAD_BYTES
}

/// What is wrong with the bytes found under `key`, if anything is.
pub fn fault(key: Key, found: &[u8]) -> Option<String> {
    if key.class() == Class::Integer {
        return (found.len() != 8).then(|| format!("an integer of {} bytes", found.len()));
    }
    if !has_head(found.len()) {
        let mut head = [0; HEAD_BYTES];
        Rng::with_seed(mix(key.0, 1)).fill(&mut head);
        return (found != &head[..found.len()]).then(|| format!("{} bytes that are not its own", found.len()));
    }
    let word = |at: usize| u64::from_le_bytes(found[at..at + 8].try_into().unwrap_or_default());
    let (named, serial) = (word(0), word(8));
    if named != key.0 {
        return Some(format!("a value of key {named:#x}"));
    }
    if word(16) != mix(named, serial) {
        return Some(format!("a torn head, serial {serial}"));
    }
    let base = base_bytes(key, serial);
    if base > found.len() {
        return Some(format!("serial {serial}: {} bytes of {base}", found.len()));
    }
    let mut expected = blob(key, serial, 0);
    for number in 0..APPENDS_MAX {
        if expected.len() >= found.len() {
            break;
        }
        expected.extend_from_slice(&piece(key, serial, number));
    }
    let differs = expected.iter().zip(found).position(|(a, b)| a != b);
    match differs {
        Some(at) => Some(format!("serial {serial}: torn at byte {at} of {}", found.len())),
        None => (expected.len() != found.len()).then(|| format!("serial {serial}: {} bytes", found.len())),
    }
}
