//! The flags of meta commands: what is asked for, and how it is answered.
//!
//! Owns: the words behind the key of a meta command. A flag that this server cannot keep is
//! refused as one that memcached does not know: `h` and `l` (the region does not note when a
//! key was read).

use std::borrow::Cow;

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::general_purpose::{GeneralPurpose, PAD};

use super::parse::{self, KEY_BYTES_MAX};
use super::reply::{BAD_FORMAT, Refusal, number};
use crate::serve::resp::parse::Args;

/// Keys that are no text. The bits behind a key may be any, as in memcached.
const BASE64: GeneralPurpose = GeneralPurpose::new(&STANDARD, PAD.with_decode_allow_trailing_bits(true));
/// Words of a line.
const WORDS_MAX: usize = 19;
/// Bytes of an opaque word, its `O` counted.
const OPAQUE_BYTES_MAX: usize = 32;

/// A number in a flag is none.
const BAD_TOKEN: Refusal = Refusal::fixed("CLIENT_ERROR bad token in command line format");
/// A flag that is none.
const INVALID: Refusal = Refusal::fixed("CLIENT_ERROR invalid flag");
const DUPLICATE: Refusal = Refusal::fixed("CLIENT_ERROR duplicate flag");
/// More words than are taken.
pub const TOO_MANY: Refusal = Refusal::fixed("CLIENT_ERROR options flags are too long");
/// The key is no base64.
pub const BAD_KEY: Refusal = Refusal::fixed("CLIENT_ERROR error decoding key");
/// An opaque word that is too long.
pub const LONG_OPAQUE: Refusal = Refusal::fixed("CLIENT_ERROR opaque token too long");
const BAD_MODE: Refusal = Refusal::fixed("CLIENT_ERROR incorrect length for M token");
const BAD_INITIAL: Refusal = Refusal::fixed("CLIENT_ERROR invalid numeric initial value");
const BAD_DELTA: Refusal = Refusal::fixed("CLIENT_ERROR invalid numeric delta value");

/// What the flags of a command ask for.
#[derive(Debug)]
pub struct Flags<'a> {
    /// The key itself.
    pub key: Cow<'a, [u8]>,
    /// `v`: the value is to be shown.
    pub value: bool,
    /// `q`: what goes without saying is not said.
    pub quiet: bool,
    /// `u`: it does not count as a use.
    pub no_touch: bool,
    /// `I`: what is there becomes stale.
    pub invalidate: bool,
    /// `C`: the version that must be there.
    pub cas: Option<u64>,
    /// `T`: when it expires.
    pub ttl: Option<i64>,
    /// `N`: what is missing is made.
    pub vivifies: bool,
    /// `N` or `T`, whichever is later: when that expires.
    pub new_ttl: i64,
    /// `R`: it is made anew when it expires sooner than this.
    pub recache: Option<i64>,
    /// `F`: the client's flags.
    pub client_flags: u32,
    /// `M`: the way it is done.
    pub mode: Option<u8>,
    /// `J`: the number that is made.
    pub initial: u64,
    /// `D`: the number that is added.
    pub delta: u64,
    words: Args<'a>,
    first: usize,
    is_base64: bool,
}

impl<'a> Flags<'a> {
    /// Reads the words of a command whose flags begin with word `first`.
    pub fn read(words: Args<'a>, first: usize) -> Result<Flags<'a>, Refusal> {
        if words.get(1).len() > KEY_BYTES_MAX {
            return Err(BAD_FORMAT);
        }
        if words.count() > WORDS_MAX {
            return Err(TOO_MANY);
        }
        let mut flags = Flags {
            key: Cow::Borrowed(words.get(1)),
            value: false,
            quiet: false,
            no_touch: false,
            invalidate: false,
            cas: None,
            ttl: None,
            vivifies: false,
            new_ttl: 0,
            recache: None,
            client_flags: 0,
            mode: None,
            initial: 0,
            delta: 1,
            words,
            first,
            is_base64: false,
        };
        let mut seen = 0u128;
        for word in words.from(first) {
            let Some((&letter, token)) = word.split_first() else { continue };
            let bit = 1u128.checked_shl(letter.into()).ok_or(DUPLICATE)?;
            if seen & bit != 0 {
                return Err(DUPLICATE);
            }
            seen |= bit;
            flags.take(letter, token)?;
        }
        Ok(flags)
    }

    fn take(&mut self, letter: u8, token: &[u8]) -> Result<(), Refusal> {
        let seconds = || parse::seconds(token).ok_or(BAD_TOKEN);
        match letter {
            b'b' => {
                self.key = BASE64.decode(&self.key).ok().filter(|key| !key.is_empty()).ok_or(BAD_KEY)?.into();
                self.is_base64 = true;
            }
            b'N' => (self.vivifies, self.new_ttl) = (true, seconds()?),
            b'T' => {
                self.new_ttl = seconds()?;
                self.ttl = Some(self.new_ttl);
            }
            b'R' => self.recache = Some(seconds()?),
            b'C' => self.cas = Some(parse::unsigned(token).ok_or(BAD_TOKEN)?),
            b'F' => self.client_flags = parse::flags(token).ok_or(BAD_FORMAT)?,
            b'J' => self.initial = parse::unsigned(token).ok_or(BAD_INITIAL)?,
            b'D' => self.delta = parse::unsigned(token).ok_or(BAD_DELTA)?,
            b'M' => match token {
                [mode] => self.mode = Some(*mode),
                _ => return Err(BAD_MODE),
            },
            b'O' if token.len() >= OPAQUE_BYTES_MAX => return Err(LONG_OPAQUE),
            b'v' => self.value = true,
            b'q' => self.quiet = true,
            b'u' => self.no_touch = true,
            b'I' => self.invalidate = true,
            // Answered, or, for `P` and `L`, for proxies.
            b'O' | b'P' | b'L' | b'k' | b's' | b't' | b'c' | b'f' => {}
            _ => return Err(INVALID),
        }
        Ok(())
    }

    /// Writes the key as the client says it.
    pub fn tell_key(&self, out: &mut Vec<u8>) {
        if self.is_base64 {
            out.extend_from_slice(BASE64.encode(&self.key).as_bytes());
        } else {
            out.extend_from_slice(&self.key);
        }
    }

    /// Writes what the flags ask to be told, in their order, each behind a blank; `number_of` has
    /// the numbers, which is all but the key and the opaque word: versions, and -1.
    pub fn tell(&self, out: &mut Vec<u8>, number_of: impl Fn(u8) -> Option<i128>) {
        for word in self.words.from(self.first) {
            match word.first() {
                Some(b'O') => {
                    out.push(b' ');
                    out.extend_from_slice(word);
                }
                Some(b'k') => {
                    out.extend_from_slice(b" k");
                    self.tell_key(out);
                    if self.is_base64 {
                        out.extend_from_slice(b" b");
                    }
                }
                Some(&letter) => {
                    if let Some(told) = number_of(letter) {
                        out.extend_from_slice(&[b' ', letter]);
                        number(out, told);
                    }
                }
                None => {}
            }
        }
    }
}
