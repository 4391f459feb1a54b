//! Requests of memcached's protocol, taken apart as they arrive.
//!
//! Owns: the grammar of a request, which is a line of words and for some commands a block of
//! data behind it, and the state of one that has not arrived whole. Nothing is copied: words
//! and data are places in the bytes that were received.
//!
//! Must never: look at a byte twice however slowly a request comes, keep room for what was
//! only announced, or accept more than the limits.
//!
//! ```text
//! get user:7 user:8\r\n                          a line
//! set user:7 0 60 5\r\nhello\r\n                 a line and a block of 5 bytes
//! ms user:7 5 T60 F1\r\nhello\r\n                the same as a meta command
//! ```
//!
//! The grammar is that of memcached 1.6 (`doc/protocol.txt` of its sources).

use crate::serve::resp::parse::Args;

/// Bytes of a key.
pub const KEY_BYTES_MAX: usize = 250;
/// A line that has no end yet and may be longer than this only if it asks for keys.
pub const LINE_BYTES_MAX: usize = 2048;
/// A line that asks for keys.
pub const KEYS_BYTES_MAX: usize = 4 << 20;
/// The longest block that can be announced.
const BLOCK_BYTES_MAX: i64 = i32::MAX as i64 - 2;

/// How large a request may be.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// A block of data.
    pub block_bytes: u64,
    /// A line that asks for keys.
    pub keys_bytes: usize,
}

/// What came of the bytes so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parsed {
    /// A request, in so many bytes.
    Whole(usize),
    /// It goes on; it cannot end before there are so many bytes.
    Partial(usize),
}

/// A line that does not end: nothing behind it can be understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Endless;

/// The data behind a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Block<'a> {
    /// The line announces none.
    None,
    /// All of it.
    Whole(&'a [u8]),
    /// It does not end where it was said to.
    Bad,
    /// It is larger than is allowed. So many bytes of it follow the request, and are to be
    /// thrown away.
    Large(u64),
}

/// What is known of a block before it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Awaited {
    Nothing,
    /// So many bytes, and the end of a line.
    Bytes(usize),
    TooMuch(u64),
}

/// A request on its way.
#[derive(Debug, Default)]
pub struct Request {
    /// Where the words of the line are.
    words: Vec<(u32, u32)>,
    /// Where the word began that goes on.
    word: Option<u32>,
    /// Bytes of the line that were looked at; all of it when its end was found.
    seen: usize,
    /// Known when the end of the line was found.
    awaited: Option<Awaited>,
}

impl Request {
    /// Goes on with the request that begins at the start of `input`, which holds what was
    /// there the last time and what came since.
    ///
    /// # Errors
    /// A line without an end: memcached closes the connection.
    pub fn parse(&mut self, input: &[u8], limits: &Limits) -> Result<Parsed, Endless> {
        let awaited = match self.awaited {
            Some(awaited) => awaited,
            None => {
                if self.seen == 0 {
                    self.words.clear();
                }
                if !self.parse_line(input) {
                    if self.seen > LINE_BYTES_MAX && !(self.asks(input) && self.seen <= limits.keys_bytes) {
                        self.words = Vec::new();
                        return Err(Endless);
                    }
                    return Ok(Parsed::Partial(input.len() + 1));
                }
                let awaited = match announced(Args::new(input, &self.words)) {
                    None => Awaited::Nothing,
                    Some(bytes) if bytes > limits.block_bytes => Awaited::TooMuch(bytes),
                    Some(bytes) => Awaited::Bytes(bytes as usize),
                };
                self.awaited = Some(awaited);
                awaited
            }
        };
        let end = match awaited {
            Awaited::Nothing | Awaited::TooMuch(_) => self.seen,
            Awaited::Bytes(bytes) => self.seen + bytes + 2,
        };
        Ok(if input.len() < end { Parsed::Partial(end) } else { Parsed::Whole(end) })
    }

    /// The words of the request that was last found whole in `input`.
    pub fn args<'a>(&'a self, input: &'a [u8]) -> Args<'a> {
        Args::new(input, &self.words)
    }

    /// Its data.
    pub fn block<'a>(&self, input: &'a [u8]) -> Block<'a> {
        match self.awaited {
            Some(Awaited::Bytes(bytes)) => match input.get(self.seen..).and_then(|rest| rest.split_at_checked(bytes)) {
                Some((data, [b'\r', b'\n', ..])) => Block::Whole(data),
                _ => Block::Bad,
            },
            Some(Awaited::TooMuch(bytes)) => Block::Large(bytes + 2),
            _ => Block::None,
        }
    }

    /// Bytes that it takes.
    pub fn held_bytes(&self) -> usize {
        self.words.capacity() * size_of::<(u32, u32)>()
    }

    /// Ends with the request, to begin with another.
    pub fn end(&mut self) {
        const KEPT: usize = 64;
        if self.words.capacity() > KEPT {
            self.words = Vec::new();
        }
        (self.word, self.seen, self.awaited) = (None, 0, None);
    }

    /// Takes words until the end of the line; false if it did not come.
    fn parse_line(&mut self, input: &[u8]) -> bool {
        let rest = input.get(self.seen..).unwrap_or_default();
        for (at, &byte) in (self.seen as u32..).zip(rest) {
            match (byte, self.word) {
                (b'\n', _) => {
                    self.seen = at as usize + 1;
                    if let Some(from) = self.word.take() {
                        // The end of a line is one byte or two.
                        let to = if input[at as usize - 1] == b'\r' { at - 1 } else { at };
                        if to > from {
                            self.words.push((from, to));
                        }
                    }
                    return true;
                }
                (b' ', Some(from)) => {
                    self.words.push((from, at));
                    self.word = None;
                }
                (b' ', None) | (_, Some(_)) => {}
                (_, None) => self.word = Some(at),
            }
        }
        self.seen = input.len();
        false
    }

    /// The line so far asks for keys.
    fn asks(&self, input: &[u8]) -> bool {
        matches!(Args::new(input, &self.words).get(0), b"get" | b"gets" | b"gat" | b"gats")
    }
}

/// The bytes of data that a line announces; `None` if it is no request that has data.
fn announced(args: Args<'_>) -> Option<u64> {
    let count = args.count();
    let (is_meta, place) = match args.get(0) {
        b"set" | b"add" | b"replace" | b"append" | b"prepend" if matches!(count, 5 | 6) => (false, 4),
        b"cas" if matches!(count, 6 | 7) && unsigned(args.get(5)).is_some() => (false, 4),
        b"ms" if count > 2 => (true, 2),
        _ => return None,
    };
    let is_right = args.get(1).len() <= KEY_BYTES_MAX
        && (is_meta || (flags(args.get(2)).is_some() && seconds(args.get(3)).is_some()));
    let bytes = seconds(args.get(place)).filter(|bytes| is_right && (0..=BLOCK_BYTES_MAX).contains(bytes))?;
    Some(bytes as u64)
}

/// A decimal number, and whether a minus stands before it, as C reads one: behind blanks, and
/// up to a blank or a zero byte.
fn decimal(word: &[u8]) -> Option<(bool, u64)> {
    let is_blank = |byte: &u8| matches!(byte, b'\t'..=b'\r' | b' ');
    let word = &word[word.iter().take_while(|byte| is_blank(byte)).count()..];
    let is_negative = word.first() == Some(&b'-');
    let digits = word.strip_prefix(b"+").or(word.strip_prefix(b"-")).unwrap_or(word);
    let end = digits.iter().position(|byte| is_blank(byte) || *byte == 0).unwrap_or(digits.len());
    if end == 0 {
        return None;
    }
    let number = digits[..end].iter().try_fold(0u64, |sum, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        sum.checked_mul(10)?.checked_add(digit)
    })?;
    Some((is_negative, number))
}

/// A decimal number of 64 bits. One with a minus is counted down from 2^64, and refused where that
/// has its first bit.
pub fn unsigned(word: &[u8]) -> Option<u64> {
    match decimal(word)? {
        (true, number) => Some(number.wrapping_neg()).filter(|number| i64::try_from(*number).is_ok()),
        (false, number) => Some(number),
    }
}

/// A client's flags.
pub fn flags(word: &[u8]) -> Option<u32> {
    unsigned(word).and_then(|number| u32::try_from(number).ok())
}

/// A number with a sign, of 32 bits: a time, or a size.
pub fn seconds(word: &[u8]) -> Option<i64> {
    let (is_negative, number) = decimal(word)?;
    let number = i64::try_from(number).ok()?;
    i32::try_from(if is_negative { -number } else { number }).ok().map(i64::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::anything::parse_anything;
    use crate::serve::connection::Step;

    const LIMITS: Limits = Limits { block_bytes: 1000, keys_bytes: KEYS_BYTES_MAX };

    fn words(request: &Request, input: &[u8]) -> Vec<Vec<u8>> {
        request.args(input).from(0).map(<[u8]>::to_vec).collect()
    }

    fn whole(input: &[u8]) -> (Vec<Vec<u8>>, Block<'_>) {
        let mut request = Request::default();
        assert_eq!(request.parse(input, &LIMITS), Ok(Parsed::Whole(input.len())), "{}", input.escape_ascii());
        (words(&request, input), request.block(input))
    }

    #[test]
    fn a_request_is_a_line_of_words_and_for_some_a_block() {
        type Case<'a> = (&'a [u8], &'a [&'a [u8]], Block<'a>);
        let cases: [Case<'_>; 9] = [
            (b"get a b\r\n", &[b"get", b"a", b"b"], Block::None),
            (b"  get   a \n", &[b"get", b"a"], Block::None),
            (b"\r\n", &[], Block::None),
            (b"\n", &[], Block::None),
            (b"get a\tb\r\n", &[b"get", b"a\tb"], Block::None),
            (b"set k 1 0 5\r\na\r\nbc\r\n", &[b"set", b"k", b"1", b"0", b"5"], Block::Whole(b"a\r\nbc")),
            (b"cas k 1 -1 0 7 noreply\n\r\n", &[b"cas", b"k", b"1", b"-1", b"0", b"7", b"noreply"], Block::Whole(b"")),
            (b"ms k 2 T0 c\r\nhi\r\n", &[b"ms", b"k", b"2", b"T0", b"c"], Block::Whole(b"hi")),
            (b"set k 1 0 2\r\nhiho", &[b"set", b"k", b"1", b"0", b"2"], Block::Bad),
        ];
        for (input, wanted, block) in cases {
            let wanted: Vec<Vec<u8>> = wanted.iter().map(|word| word.to_vec()).collect();
            assert_eq!(whole(input), (wanted, block), "{}", input.escape_ascii());
        }
    }

    #[test]
    fn a_line_that_is_wrong_announces_nothing() {
        let long = [b'k'; KEY_BYTES_MAX + 1];
        for line in [
            &b"set k 0 0 -1\r\n"[..],
            b"set k 0 0 x\r\n",
            b"set k 0 0\r\n",
            b"set k 0 0 1 noreply more\r\n",
            b"set k x 0 1\r\n",
            b"set k 0 x 1\r\n",
            b"set k 0 0 2147483646\r\n",
            b"cas k 0 0 1\r\n",
            b"cas k 0 0 1 x\r\n",
            b"ms k\r\n",
            b"get 0 0 0 5\r\n",
            &[b"set ", &long[..], b" 0 0 1\r\n"].concat(),
        ] {
            assert_eq!(whole(line).1, Block::None, "{}", line.escape_ascii());
        }
    }

    #[test]
    fn a_request_that_comes_in_any_pieces_is_the_same_request() {
        let input = b"set some:key 12 -1 11 noreply\r\nhello world\r\n";
        for first in 0..input.len() {
            for second in first..input.len() {
                let mut request = Request::default();
                for part in [first, second] {
                    let Ok(Parsed::Partial(needed)) = request.parse(&input[..part], &LIMITS) else {
                        panic!("{part} bytes are no request")
                    };
                    assert!(needed > part && needed <= input.len());
                }
                assert_eq!(request.parse(input, &LIMITS), Ok(Parsed::Whole(input.len())));
                let wanted = [&b"set"[..], b"some:key", b"12", b"-1", b"11", b"noreply"].map(<[u8]>::to_vec);
                assert_eq!(words(&request, input), wanted);
                assert_eq!(request.block(input), Block::Whole(b"hello world"));
            }
        }
    }

    #[test]
    fn what_is_too_long_is_not_kept() {
        let mut request = Request::default();
        assert_eq!(request.parse(b"set k 0 0 1001\r\nxx", &LIMITS), Ok(Parsed::Whole(16)));
        assert_eq!(request.block(b"set k 0 0 1001\r\nxx"), Block::Large(1003));
        assert_eq!(Request::default().parse(&[b'x'; LINE_BYTES_MAX + 1], &LIMITS), Err(Endless));
        let many = b"k ".repeat(LINE_BYTES_MAX);
        let mut request = Request::default();
        let input = [b"get ", &many[..]].concat();
        assert_eq!(request.parse(&input, &LIMITS), Ok(Parsed::Partial(input.len() + 1)));
        let input = [&input[..], b"\r\n"].concat();
        assert_eq!(request.parse(&input, &LIMITS), Ok(Parsed::Whole(input.len())));
        assert_eq!(request.args(&input).count(), LINE_BYTES_MAX + 1);
        let input = [b"get ", &b"k ".repeat(KEYS_BYTES_MAX / 2)[..]].concat();
        assert_eq!(Request::default().parse(&input, &LIMITS), Err(Endless));
    }

    #[test]
    fn who_may_ask_for_few_keys_leaves_no_line_behind() {
        let limits = Limits { keys_bytes: LINE_BYTES_MAX, ..LIMITS };
        let input = [b"get ", &b"k ".repeat(LINE_BYTES_MAX)[..]].concat();
        let mut request = Request::default();
        assert_eq!(request.parse(&input, &limits), Err(Endless));
        assert_eq!(request.held_bytes(), 0);
    }

    #[test]
    fn numbers_are_what_memcached_takes_for_numbers() {
        for (text, wanted) in [
            (&b"0"[..], Some(0)),
            (b"007", Some(7)),
            (b"+7", Some(7)),
            (b"18446744073709551615", Some(u64::MAX)),
            (b"18446744073709551616", None),
            (b"-1", None),
            (b"", None),
            (b"+", None),
            (b"1.0", None),
            (b"0x1", None),
            (b"\x0b 7\x0c", Some(7)),
            (b"7\0x", Some(7)),
            (b"7 x", Some(7)),
            (b"\x007", None),
            (b"-0", Some(0)),
            (b"-18446744073709551615", Some(1)),
            (b"-18446744073709551616", None),
        ] {
            assert_eq!(unsigned(text), wanted, "{}", text.escape_ascii());
        }
        assert_eq!([flags(b"4294967295"), flags(b"4294967296")], [Some(u32::MAX), None]);
        let limits = [&b"-2147483648"[..], b"2147483647", b"2147483648", b"-2147483649", b"--1", b"-+1", b"-", b"-0"];
        assert_eq!(
            limits.map(seconds),
            [Some(i64::from(i32::MIN)), Some(i64::from(i32::MAX)), None, None, None, None, None, Some(0)]
        );
    }

    #[test]
    fn no_bytes_make_the_parser_panic_and_none_are_invented() {
        let pieces: &[&[u8]] = &[
            b"set ", b"get ", b"ms ", b"cas ", b" ", b"\r\n", b"\n", b"\r", b"k ", b"0 ", b"-1 ", b"3", b"9999 ", b"\0",
        ];
        parse_anything(pieces, |request: &mut Request, known| match request.parse(known, &LIMITS) {
            Ok(Parsed::Partial(needed)) => Step::More(needed),
            Ok(Parsed::Whole(bytes)) => {
                let data = match request.block(known) {
                    Block::Whole(data) => data.len(),
                    _ => 0,
                };
                assert!(request.args(known).from(0).map(<[u8]>::len).sum::<usize>() + data <= bytes);
                Step::Done(bytes)
            }
            Err(Endless) => Step::Close,
        });
    }
}
