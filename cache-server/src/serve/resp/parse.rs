//! Requests of the Redis protocol, taken apart as they arrive.
//!
//! Owns: the grammar of a request, which is the same in RESP2 and RESP3, and the state of
//! one that has not arrived whole. Nothing is copied: a request is a list of places in the
//! bytes that were received; only a line that a person typed has bytes of its own.
//!
//! Must never: look at the bytes of a string, begin again with what was understood, keep room for
//! what was only announced, or accept more than the limits.
//!
//! ```text
//! *2\r\n $3\r\n GET\r\n $6\r\n user:7\r\n        an array of strings
//! GET "user:7"\r\n                              a line, for people
//! ```
//!
//! The grammar and the texts of its errors are those of Redis 7 (RESP specification).

/// A line that announces a number, or one for people, is not longer.
const LINE_BYTES_MAX: usize = 64 << 10;
/// Arguments of one request.
const ARGUMENTS_MAX: u64 = 1 << 20;
/// Places of arguments for which room stays between requests.
const SPANS_KEPT: usize = 64;
/// What a client may send before it has said its password.
const STRANGER: Limits = Limits { arguments_max: 10, bulk_bytes_max: 16 << 10, is_stranger: true };

/// What a request may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    arguments_max: u64,
    bulk_bytes_max: u64,
    is_stranger: bool,
}

impl Limits {
    /// Those of a client that may use the cache, with strings of at most `bulk_bytes_max` bytes.
    pub fn new(bulk_bytes_max: u64) -> Limits {
        Limits { arguments_max: ARGUMENTS_MAX, bulk_bytes_max, is_stranger: false }
    }

    /// Those of a client that has yet to say its password.
    pub fn of_stranger() -> Limits {
        STRANGER
    }
}

/// Where an argument is.
type Span = (u32, u32);

/// The arguments of a request, the command's name first.
#[derive(Debug, Clone, Copy)]
pub struct Args<'a> {
    bytes: &'a [u8],
    spans: &'a [Span],
}

impl<'a> Args<'a> {
    /// Arguments that lie in `bytes`, each from a place to another.
    pub fn new(bytes: &'a [u8], spans: &'a [(u32, u32)]) -> Args<'a> {
        Args { bytes, spans }
    }

    /// How many there are, the name counted.
    pub fn count(&self) -> usize {
        self.spans.len()
    }

    /// The argument `index`; empty if there is none.
    pub fn get(&self, index: usize) -> &'a [u8] {
        let Some(&(from, to)) = self.spans.get(index) else { return &[] };
        self.bytes.get(from as usize..to as usize).unwrap_or_default()
    }

    /// The arguments from `index` on.
    pub fn from(&self, index: usize) -> impl ExactSizeIterator<Item = &'a [u8]> + Clone + use<'a> {
        let all = *self;
        (index.min(self.count())..self.count()).map(move |index| all.get(index))
    }
}

/// What came of the bytes so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parsed {
    /// A request, in so many bytes.
    Whole(usize),
    /// So many bytes that ask for nothing.
    Nothing(usize),
    /// It goes on; it cannot end before there are so many bytes.
    Partial(usize),
}

/// A request that is no request: its error, after which nothing can be understood any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Malformed(pub String);

fn malformed<T>(text: impl Into<String>) -> Result<T, Malformed> {
    Err(Malformed(text.into()))
}

/// A request on its way.
#[derive(Debug, Default)]
pub struct Request {
    spans: Vec<Span>,
    /// Bytes of a line for people, without its quotes.
    line: Vec<u8>,
    is_line: bool,
    /// Bytes that were understood.
    at: usize,
    /// Arguments that were announced and have not come.
    missing: u64,
    /// Bytes of the string that is coming.
    bulk: Option<usize>,
}

impl Request {
    /// Goes on with the request that begins at the start of `input`, which holds what was
    /// there the last time and what came since.
    ///
    /// # Errors
    /// The text that Redis answers before it closes the connection.
    pub fn parse(&mut self, input: &[u8], limits: &Limits) -> Result<Parsed, Malformed> {
        if self.at == 0 {
            match input.first() {
                None => return Ok(Parsed::Partial(1)),
                Some(b'*') => {
                    let Some((line, next)) = line(input, 0, "too big mbulk count string")? else {
                        return Ok(Parsed::Partial(input.len() + 1));
                    };
                    self.begin();
                    match number(&line[1..]) {
                        Some(count) if count <= 0 => return Ok(Parsed::Nothing(next)),
                        Some(count) if count as u64 <= limits.arguments_max => self.missing = count as u64,
                        Some(_) if limits.is_stranger => return malformed("unauthenticated multibulk length"),
                        _ => return malformed("invalid multibulk length"),
                    }
                    self.at = next;
                }
                Some(_) => return self.parse_line(input),
            }
        }
        while self.missing > 0 {
            let bytes = match self.bulk {
                Some(bytes) => bytes,
                None => {
                    let Some((line, next)) = line(input, self.at, "too big bulk count string")? else {
                        return Ok(Parsed::Partial(input.len() + 1));
                    };
                    let first = line.first().copied().unwrap_or(b'\r');
                    if first != b'$' {
                        return malformed(format!("expected '$', got '{}'", first.escape_ascii()));
                    }
                    let bytes = match number(&line[1..]) {
                        Some(bytes) if bytes >= 0 && bytes as u64 <= limits.bulk_bytes_max => bytes as usize,
                        Some(bytes) if bytes >= 0 && limits.is_stranger => {
                            return malformed("unauthenticated bulk length");
                        }
                        _ => return malformed("invalid bulk length"),
                    };
                    self.at = next;
                    self.bulk = Some(bytes);
                    bytes
                }
            };
            let (end, next) = (self.at + bytes, self.at + bytes + 2);
            if input.len() < next {
                return Ok(Parsed::Partial(next));
            }
            let (Ok(from), Ok(to)) = (u32::try_from(self.at), u32::try_from(end)) else {
                return malformed("too big request");
            };
            self.spans.push((from, to));
            (self.at, self.bulk) = (next, None);
            self.missing -= 1;
        }
        Ok(Parsed::Whole(std::mem::take(&mut self.at)))
    }

    /// The arguments of the request that was last found whole in `input`.
    pub fn args<'a>(&'a self, input: &'a [u8]) -> Args<'a> {
        Args { bytes: if self.is_line { &self.line } else { input }, spans: &self.spans }
    }

    /// Bytes that are kept.
    pub fn held_bytes(&self) -> usize {
        self.spans.capacity() * size_of::<Span>() + self.line.capacity()
    }

    /// Gives back what a large request needed.
    pub fn shrink(&mut self) {
        if self.spans.capacity() > SPANS_KEPT {
            self.spans = Vec::new();
        }
        if self.line.capacity() > 0 {
            self.line = Vec::new();
        }
    }

    fn begin(&mut self) {
        self.spans.clear();
        self.is_line = false;
        self.bulk = None;
    }

    fn parse_line(&mut self, input: &[u8]) -> Result<Parsed, Malformed> {
        let Some(end) = input.iter().position(|&byte| byte == b'\n') else {
            if input.len() > LINE_BYTES_MAX {
                return malformed("too big inline request");
            }
            return Ok(Parsed::Partial(input.len() + 1));
        };
        self.begin();
        let line = input[..end].strip_suffix(b"\r").unwrap_or(&input[..end]);
        self.line.clear();
        self.is_line = true;
        if !split(line, &mut self.line, &mut self.spans) {
            return malformed("unbalanced quotes in request");
        }
        Ok(if self.spans.is_empty() { Parsed::Nothing(end + 1) } else { Parsed::Whole(end + 1) })
    }
}

/// The line that begins at `from`, without its end, and where the next begins.
fn line<'a>(input: &'a [u8], from: usize, too_long: &str) -> Result<Option<(&'a [u8], usize)>, Malformed> {
    let rest = &input[from..];
    match rest.iter().take(LINE_BYTES_MAX).position(|&byte| byte == b'\r') {
        Some(end) if from + end + 2 <= input.len() => Ok(Some((&rest[..end], from + end + 2))),
        None if rest.len() > LINE_BYTES_MAX => malformed(too_long),
        _ => Ok(None),
    }
}

/// A decimal number as Redis takes one: no blanks, no plus, no needless zeros.
pub fn number(text: &[u8]) -> Option<i64> {
    let (is_negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    match digits {
        [b'0'] if !is_negative => return Some(0),
        [b'1'..=b'9', ..] if digits.len() <= 19 => {}
        _ => return None,
    }
    let mut sum: i64 = 0;
    for &digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        let digit = i64::from(digit - b'0');
        // Counted downwards: the smallest number has no positive twin.
        sum = sum.checked_mul(10)?.checked_sub(digit)?;
    }
    if is_negative { Some(sum) } else { sum.checked_neg() }
}

/// Splits a line into words: blanks between them, quotes around them, escapes within
/// double quotes. False if a quote is not closed, or is not followed by a blank.
fn split(line: &[u8], bytes: &mut Vec<u8>, spans: &mut Vec<Span>) -> bool {
    let is_blank = |byte: u8| byte.is_ascii_whitespace() || byte == 0x0b || byte == 0;
    let mut rest = line;
    loop {
        let Some(first) = rest.iter().position(|&byte| !is_blank(byte)) else { return true };
        rest = &rest[first..];
        let from = bytes.len() as u32;
        let mut quote = None;
        loop {
            match (quote, rest) {
                (None, []) => break,
                (None, [byte, ..]) if is_blank(*byte) => break,
                (None, [mark @ (b'"' | b'\''), tail @ ..]) => {
                    quote = Some(*mark);
                    rest = tail;
                }
                (Some(_), []) => return false,
                (Some(mark), [byte, tail @ ..]) if *byte == mark => {
                    if tail.first().is_some_and(|&byte| !is_blank(byte)) {
                        return false;
                    }
                    rest = tail;
                    break;
                }
                (Some(b'"'), [b'\\', b'x', high, low, tail @ ..])
                    if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
                {
                    let digit = |byte: u8| (byte as char).to_digit(16).unwrap_or(0) as u8;
                    bytes.push(digit(*high) << 4 | digit(*low));
                    rest = tail;
                }
                (Some(b'"'), [b'\\', byte, tail @ ..]) => {
                    bytes.push(match byte {
                        b'n' => b'\n',
                        b'r' => b'\r',
                        b't' => b'\t',
                        b'b' => 8,
                        b'a' => 7,
                        other => *other,
                    });
                    rest = tail;
                }
                (Some(b'\''), [b'\\', b'\'', tail @ ..]) => {
                    bytes.push(b'\'');
                    rest = tail;
                }
                (_, [byte, tail @ ..]) => {
                    bytes.push(*byte);
                    rest = tail;
                }
            }
        }
        spans.push((from, bytes.len() as u32));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::anything::parse_anything;
    use crate::serve::connection::Step;

    const LIMITS: Limits = Limits { arguments_max: 100, bulk_bytes_max: 1000, is_stranger: false };

    fn words(request: &Request, input: &[u8]) -> Vec<Vec<u8>> {
        request.args(input).from(0).map(<[u8]>::to_vec).collect()
    }

    fn whole(input: &[u8]) -> Vec<Vec<u8>> {
        let mut request = Request::default();
        assert_eq!(request.parse(input, &LIMITS), Ok(Parsed::Whole(input.len())), "{}", input.escape_ascii());
        words(&request, input)
    }

    fn refused(input: &[u8]) -> String {
        Request::default().parse(input, &LIMITS).unwrap_err().0
    }

    #[test]
    fn a_request_is_an_array_of_strings_or_a_line() {
        assert_eq!(whole(b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n"), [b"GET".to_vec(), b"k".to_vec()]);
        assert_eq!(whole(b"*2\r\n$3\r\nGET\r\n$0\r\n\r\n"), [b"GET".to_vec(), vec![]]);
        assert_eq!(whole(b"*1\r\n$4\r\n\r\n\r\n\r\n"), [b"\r\n\r\n".to_vec()]);
        assert_eq!(whole(b"GET k\r\n"), [b"GET".to_vec(), b"k".to_vec()]);
        assert_eq!(whole(b"  GET\t k \n"), [b"GET".to_vec(), b"k".to_vec()]);
        let quoted = br#"SET "a \x41\n\"b\"" 'it\'s' "" x"y""#;
        assert_eq!(
            whole(&[quoted, &b"\n"[..]].concat()),
            [&b"SET"[..], b"a A\n\"b\"", b"it's", b"", b"xy"].map(<[u8]>::to_vec)
        );
        for nothing in [&b"*0\r\n"[..], b"*-1\r\n", b"\r\n", b"   \n"] {
            assert_eq!(Request::default().parse(nothing, &LIMITS), Ok(Parsed::Nothing(nothing.len())));
        }
    }

    #[test]
    fn a_request_that_comes_in_any_pieces_is_the_same_request() {
        let input = b"*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$11\r\nhello world\r\n";
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
                assert_eq!(words(&request, input), [&b"SET"[..], b"key", b"hello world"].map(<[u8]>::to_vec));
            }
        }
    }

    #[test]
    fn what_is_no_request_is_refused_in_the_words_of_redis() {
        assert_eq!(refused(b"*x\r\n"), "invalid multibulk length");
        assert_eq!(refused(b"*101\r\n"), "invalid multibulk length");
        assert_eq!(refused(b"*99999999999999999999\r\n"), "invalid multibulk length");
        assert_eq!(refused(b"*1\r\n:1\r\n"), "expected '$', got ':'");
        assert_eq!(refused(b"*1\r\n\r\n"), "expected '$', got '\\r'");
        assert_eq!(refused(b"*1\r\n$-1\r\n"), "invalid bulk length");
        assert_eq!(refused(b"*1\r\n$1001\r\n"), "invalid bulk length");
        assert_eq!(refused(b"*1\r\n$x\r\n"), "invalid bulk length");
        assert_eq!(refused(b"GET \"k\n"), "unbalanced quotes in request");
        assert_eq!(refused(b"GET \"k\"x\n"), "unbalanced quotes in request");
        assert_eq!(refused(&[b'x'; LINE_BYTES_MAX + 1]), "too big inline request");
        let digits = |first: &[u8]| [first, &[b'1'; LINE_BYTES_MAX + 1]].concat();
        assert_eq!(refused(&digits(b"*")), "too big mbulk count string");
        assert_eq!(refused(&digits(b"*1\r\n$")), "too big bulk count string");
        let stranger = |input: &[u8]| Request::default().parse(input, &Limits::of_stranger()).unwrap_err().0;
        assert_eq!(stranger(b"*11\r\n"), "unauthenticated multibulk length");
        assert_eq!(stranger(b"*1\r\n$16385\r\n"), "unauthenticated bulk length");
    }

    #[test]
    fn numbers_are_what_redis_takes_for_numbers() {
        for (text, wanted) in [
            (&b"0"[..], Some(0)),
            (b"-1", Some(-1)),
            (b"9223372036854775807", Some(i64::MAX)),
            (b"-9223372036854775808", Some(i64::MIN)),
            (b"9223372036854775808", None),
            (b"-9223372036854775809", None),
            (b"", None),
            (b"-", None),
            (b"-0", None),
            (b"01", None),
            (b"+1", None),
            (b" 1", None),
            (b"1.0", None),
        ] {
            assert_eq!(number(text), wanted, "{}", text.escape_ascii());
        }
    }

    #[test]
    fn no_bytes_make_the_parser_panic_and_none_are_invented() {
        let pieces: &[&[u8]] =
            &[b"*", b"$", b"\r\n", b"1", b"3", b"-", b"GET", b"\"", b"'", b"\\x4", b" ", b"\n", b"\0"];
        parse_anything(pieces, |request: &mut Request, known| match request.parse(known, &LIMITS) {
            Ok(Parsed::Partial(needed)) => Step::More(needed),
            Ok(Parsed::Whole(bytes) | Parsed::Nothing(bytes)) => {
                assert!(request.args(known).from(0).map(<[u8]>::len).sum::<usize>() <= bytes);
                Step::Done(bytes)
            }
            Err(_) => Step::Close,
        });
    }
}
