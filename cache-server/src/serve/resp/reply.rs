//! Replies of the Redis protocol.
//!
//! Owns: how each type is written in RESP2 and in RESP3, and what a refusal looks like.

use std::borrow::Cow;
use std::fmt::Display;

use cache_shm::Error;

/// Writes replies behind what is already there.
#[derive(Debug)]
pub struct Reply<'a> {
    out: &'a mut Vec<u8>,
    is_resp3: bool,
}

impl<'a> Reply<'a> {
    /// A writer in the client's version of the protocol.
    pub fn new(out: &'a mut Vec<u8>, is_resp3: bool) -> Reply<'a> {
        Reply { out, is_resp3 }
    }

    /// The bytes of the replies, for writers of their own.
    pub fn out(&mut self) -> &mut Vec<u8> {
        self.out
    }

    /// The same output in another version.
    pub fn switch(&mut self, is_resp3: bool) {
        self.is_resp3 = is_resp3;
    }

    /// The client speaks RESP3.
    pub fn is_resp3(&self) -> bool {
        self.is_resp3
    }

    fn line(&mut self, first: u8, text: &[u8]) {
        self.out.push(first);
        self.out.extend_from_slice(text);
        self.out.extend_from_slice(b"\r\n");
    }

    /// A number after its mark; what is counted and what is answered.
    fn marked(&mut self, first: u8, number: i64) {
        let mut digits = itoa::Buffer::new();
        self.line(first, digits.format(number).as_bytes());
    }

    /// `+OK`
    pub fn ok(&mut self) {
        self.out.extend_from_slice(b"+OK\r\n");
    }

    /// A word without line ends.
    pub fn simple(&mut self, word: &str) {
        self.line(b'+', word.as_bytes());
    }

    /// A refusal.
    pub fn error(&mut self, refusal: &Refusal) {
        // An error is one line, whatever a key or a path brings into it.
        let text = refusal.0.replace(['\r', '\n'], " ");
        self.line(b'-', text.as_bytes());
    }

    /// An integer.
    pub fn integer(&mut self, number: i64) {
        self.marked(b':', number);
    }

    /// A string of bytes.
    pub fn bulk(&mut self, bytes: &[u8]) {
        self.marked(b'$', bytes.len() as i64);
        self.out.extend_from_slice(bytes);
        self.out.extend_from_slice(b"\r\n");
    }

    /// Text that people read.
    pub fn text(&mut self, text: &str) {
        if self.is_resp3 {
            self.marked(b'=', text.len() as i64 + 4);
            self.out.extend_from_slice(b"txt:");
            self.out.extend_from_slice(text.as_bytes());
            self.out.extend_from_slice(b"\r\n");
        } else {
            self.bulk(text.as_bytes());
        }
    }

    /// What is not there.
    pub fn null(&mut self) {
        self.out.extend_from_slice(if self.is_resp3 { b"_\r\n" } else { b"$-1\r\n" });
    }

    /// An array that is not there: a transaction that was not run.
    pub fn null_array(&mut self) {
        self.out.extend_from_slice(if self.is_resp3 { b"_\r\n" } else { b"*-1\r\n" });
    }

    /// So many replies follow.
    pub fn array(&mut self, count: usize) {
        self.marked(b'*', count as i64);
    }

    /// So many pairs follow.
    pub fn map(&mut self, count: usize) {
        if self.is_resp3 { self.marked(b'%', count as i64) } else { self.array(2 * count) }
    }

    /// So many different replies follow.
    pub fn set(&mut self, count: usize) {
        self.marked(if self.is_resp3 { b'~' } else { b'*' }, count as i64);
    }
}

/// Why a command is not carried out: the line after the mark of an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal(pub Cow<'static, str>);

impl Refusal {
    /// A refusal with a text of its own.
    pub fn new(text: impl Display) -> Refusal {
        Refusal(text.to_string().into())
    }

    /// A refusal whose text is fixed.
    pub const fn fixed(text: &'static str) -> Refusal {
        Refusal(Cow::Borrowed(text))
    }
}

/// The arguments make no sense together.
pub const SYNTAX: Refusal = Refusal::fixed("ERR syntax error");
/// An argument or a value should be an integer.
pub const NOT_INTEGER: Refusal = Refusal::fixed("ERR value is not an integer or out of range");
/// An argument or a value should be a number.
pub const NOT_FLOAT: Refusal = Refusal::fixed("ERR value is not a valid float");
/// The value has no bytes that the command could work on.
pub const WRONG_TYPE: Refusal = Refusal::fixed("WRONGTYPE Operation against a key holding the wrong kind of value");
/// Others change the key again and again, so that no change of this command fits.
pub const RESTLESS: Refusal = Refusal::fixed("TRYAGAIN the key is changed all the time");
/// The reply is larger than what a client may leave unread.
pub const TOO_LARGE: Refusal = Refusal::fixed("ERR the reply is larger than output_bytes allows; ask for less at once");
/// The key has to be there.
pub const NO_KEY: Refusal = Refusal::fixed("ERR no such key");

impl From<Error> for Refusal {
    fn from(error: Error) -> Refusal {
        match error {
            Error::NotInteger => NOT_INTEGER,
            Error::Overflow => Refusal::fixed("ERR increment or decrement would overflow"),
            Error::NotAppendable => WRONG_TYPE,
            Error::Full { .. } | Error::NoSpace { .. } => {
                Refusal::new(format_args!("OOM command not allowed when used memory > 'maxmemory': {error}"))
            }
            Error::ReadOnly => Refusal::fixed("READONLY You can't write against a read only region."),
            Error::ValueTooLarge { .. } => {
                Refusal::new(format_args!("ERR string exceeds maximum allowed size (proto-max-bulk-len): {error}"))
            }
            Error::Busy { .. } => Refusal::new(format_args!("TRYAGAIN {error}")),
            error => Refusal::new(format_args!("ERR {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(is_resp3: bool, write: impl FnOnce(&mut Reply)) -> String {
        let mut out = Vec::new();
        write(&mut Reply::new(&mut out, is_resp3));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn each_type_is_written_as_the_version_has_it() {
        type Write = fn(&mut Reply);
        let cases: [(Write, &str, &str); 9] = [
            (|reply| reply.integer(-7), ":-7\r\n", ":-7\r\n"),
            (|reply| reply.bulk(b"a\r\nb"), "$4\r\na\r\nb\r\n", "$4\r\na\r\nb\r\n"),
            (|reply| reply.null(), "$-1\r\n", "_\r\n"),
            (|reply| reply.null_array(), "*-1\r\n", "_\r\n"),
            (|reply| reply.map(2), "*4\r\n", "%2\r\n"),
            (|reply| reply.set(2), "*2\r\n", "~2\r\n"),
            (|reply| reply.text("a\n"), "$2\r\na\n\r\n", "=6\r\ntxt:a\n\r\n"),
            (|reply| reply.ok(), "+OK\r\n", "+OK\r\n"),
            (|reply| reply.error(&Refusal::new("ERR a\r\nb")), "-ERR a  b\r\n", "-ERR a  b\r\n"),
        ];
        for (write, two, three) in cases {
            assert_eq!(written(false, write), two);
            assert_eq!(written(true, write), three);
        }
    }
}
