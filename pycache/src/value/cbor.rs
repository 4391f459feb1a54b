//! Heads of CBOR items (RFC 8949, section 3): a major type and an argument.
//!
//! Owns: the bytes of a head, the tags in use, and the bounds-checked reader. Knows
//! nothing of Python. `docs/value-encoding.md` is the specification.

/// Unsigned integer; the argument is the value.
pub(crate) const UNSIGNED: u8 = 0;
/// Negative integer; the value is -1 minus the argument.
pub(crate) const NEGATIVE: u8 = 1;
/// Byte string of so many bytes.
pub(crate) const BYTES: u8 = 2;
/// UTF-8 text of so many bytes.
pub(crate) const TEXT: u8 = 3;
/// Array of so many items.
pub(crate) const ARRAY: u8 = 4;
/// Map of so many pairs.
pub(crate) const MAP: u8 = 5;
/// Tag on the item that follows.
pub(crate) const TAG: u8 = 6;

/// First bytes of simple values and floating-point numbers: major type 7.
pub(crate) const FALSE: u8 = 0xf4;
pub(crate) const TRUE: u8 = 0xf5;
pub(crate) const NONE: u8 = 0xf6;
pub(crate) const HALF: u8 = 0xf9;
pub(crate) const SINGLE: u8 = 0xfa;
pub(crate) const DOUBLE: u8 = 0xfb;

/// Tags that the standard's registry defines.
pub(crate) const TAG_BIG_POSITIVE: u64 = 2;
pub(crate) const TAG_BIG_NEGATIVE: u64 = 3;
pub(crate) const TAG_UUID: u64 = 37;
pub(crate) const TAG_SET: u64 = 258;

/// Tags of this project, for what the registry cannot say exactly.
pub(crate) const TAG_TUPLE: u64 = 51_712;
pub(crate) const TAG_FROZENSET: u64 = 51_713;
pub(crate) const TAG_BYTEARRAY: u64 = 51_714;
pub(crate) const TAG_SURROGATES: u64 = 51_715;
pub(crate) const TAG_DECIMAL: u64 = 51_716;
pub(crate) const TAG_DATETIME: u64 = 51_717;
pub(crate) const TAG_DATE: u64 = 51_718;
pub(crate) const TAG_TIME: u64 = 51_719;
pub(crate) const TAG_TIMEDELTA: u64 = 51_720;

/// Appends the shortest head of `major` with `argument`.
#[inline]
pub(crate) fn put_head(out: &mut Vec<u8>, major: u8, argument: u64) {
    let major = major << 5;
    match argument {
        0..=23 => out.push(major | argument as u8),
        24..=0xff => out.extend_from_slice(&[major | 24, argument as u8]),
        0x100..=0xffff => {
            out.push(major | 25);
            out.extend_from_slice(&(argument as u16).to_be_bytes());
        }
        0x1_0000..=0xffff_ffff => {
            out.push(major | 26);
            out.extend_from_slice(&(argument as u32).to_be_bytes());
        }
        _ => {
            out.push(major | 27);
            out.extend_from_slice(&argument.to_be_bytes());
        }
    }
}

/// Why bytes are not what the encoding allows.
pub(crate) type Reason = &'static str;

/// Reads heads and strings from bytes that may be anything.
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    /// Bytes read so far.
    pub at: usize,
}

/// One head.
#[derive(Clone, Copy)]
pub(crate) struct Head {
    pub major: u8,
    pub argument: u64,
    /// The head's first byte, which alone tells simple values apart.
    pub first: u8,
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { bytes, at: 0 }
    }

    pub fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// The next `count` bytes.
    #[inline]
    pub fn take(&mut self, count: u64) -> Result<&'a [u8], Reason> {
        let rest = &self.bytes[self.at..];
        if count > rest.len() as u64 {
            return Err("it ends too early");
        }
        self.at += count as usize;
        Ok(&rest[..count as usize])
    }

    fn number(&mut self, bytes: u64) -> Result<u64, Reason> {
        Ok(self.take(bytes)?.iter().fold(0, |number, &byte| number << 8 | u64::from(byte)))
    }

    /// The next head, in any of its widths.
    #[inline]
    pub fn head(&mut self) -> Result<Head, Reason> {
        let first = self.take(1)?[0];
        let argument = match first & 0x1f {
            short @ 0..=23 => u64::from(short),
            24 => self.number(1)?,
            25 => self.number(2)?,
            26 => self.number(4)?,
            27 => self.number(8)?,
            28..=30 => return Err("a reserved head"),
            _ => return Err("an indefinite length, which this encoding does not use"),
        };
        Ok(Head { major: first >> 5, argument, first })
    }

    /// A head that must be of `major`; its argument.
    pub fn expect(&mut self, major: u8, reason: Reason) -> Result<u64, Reason> {
        let head = self.head()?;
        if head.major == major { Ok(head.argument) } else { Err(reason) }
    }

    /// An integer that fits 64 bits with its sign.
    pub fn integer(&mut self, reason: Reason) -> Result<i64, Reason> {
        let head = self.head()?;
        let magnitude = i64::try_from(head.argument).map_err(|_| reason)?;
        match head.major {
            UNSIGNED => Ok(magnitude),
            NEGATIVE => Ok(-1 - magnitude),
            _ => Err(reason),
        }
    }

    /// The first byte of the next head, without reading it.
    pub fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }
}

/// The number that the bits of an IEEE 754 half stand for.
pub(crate) fn half(bits: u16) -> f64 {
    let sign = if bits & 0x8000 == 0 { 1.0 } else { -1.0 };
    let exponent = i32::from(bits >> 10 & 0x1f);
    let fraction = f64::from(bits & 0x3ff);
    sign * match exponent {
        0 => fraction * 2f64.powi(-24),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (1024.0 + fraction) * 2f64.powi(exponent - 25),
    }
}
