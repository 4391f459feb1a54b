//! Commands that store: set and its kin, and the meta command ms.

use cache_shm::{Cas, Change, Error, NEVER, WriteOptions, kind};

use super::expiry::moment;
use super::flags::Flags;
use super::reply::{BAD_DATA, BAD_FORMAT, Refusal, TOO_LARGE, line};
use super::retrieve::{STALE, WON};
use super::{Call, Done, key, parse};
use crate::serve::resp::values::shown;

/// How a value is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// In any case, or if the version that is there is the one named.
    Set,
    /// If nothing is there.
    Add,
    /// If something is there.
    Replace,
    /// Behind what is there.
    Append,
    /// Before what is there.
    Prepend,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// As this version.
    Stored(u64),
    NotStored,
    Exists,
    NotFound,
}

/// What is to be stored.
struct Wish<'a> {
    mode: Mode,
    key: &'a [u8],
    value: &'a [u8],
    client_flags: u32,
    expires_at_ms: u64,
    /// The version that has to be there.
    cas: Option<u64>,
    /// An older version than the one that is there is stored as a stale value.
    may_be_stale: bool,
    /// If it finds no room, what is there goes: it is out of date.
    forgets: bool,
}

/// `set | add | replace | append | prepend key flags exptime bytes [noreply]`, and
/// `cas key flags exptime bytes version [noreply]`
pub fn store(call: &mut Call<'_>, mode: Mode) -> Done {
    let key = key(call.args.get(1))?;
    let is_cas = call.args.get(0) == b"cas";
    let forgets = mode == Mode::Set && !is_cas;
    let value = data(call, key, forgets)?;
    let (Some(client_flags), Some(seconds)) = (parse::flags(call.args.get(2)), parse::seconds(call.args.get(3))) else {
        return Err(BAD_FORMAT);
    };
    let cas = if is_cas { Some(parse::unsigned(call.args.get(5)).ok_or(BAD_FORMAT)?) } else { None };
    let expires_at_ms = match seconds {
        0 => NEVER,
        seconds => moment(call, seconds, call.scope()?.map.now_ms()),
    };
    let wish = Wish { mode, key, value, client_flags, expires_at_ms, cas, may_be_stale: false, forgets };
    let text = match wish.grant(call)? {
        Outcome::Stored(..) => "STORED",
        Outcome::NotStored => "NOT_STORED",
        Outcome::Exists => "EXISTS",
        Outcome::NotFound => "NOT_FOUND",
    };
    line(call.out, text);
    Ok(())
}

/// `ms key bytes [flag ...]`
pub fn ms(call: &mut Call<'_>) -> Done {
    let flags = Flags::read(call.args, 3)?;
    let mode = match flags.mode {
        None | Some(b'S') => Mode::Set,
        Some(b'E') => Mode::Add,
        Some(b'A') => Mode::Append,
        Some(b'P') => Mode::Prepend,
        Some(b'R') => Mode::Replace,
        Some(_) => return Err(Refusal::fixed("CLIENT_ERROR invalid mode for ms M token")),
    };
    let value = data(call, &flags.key, true)?;
    let now_ms = call.scope()?.map.now_ms();
    let wish = Wish {
        mode,
        key: &flags.key,
        value,
        client_flags: flags.client_flags,
        expires_at_ms: flags.ttl.map_or(NEVER, |seconds| moment(call, seconds, now_ms)),
        cas: flags.cas,
        may_be_stale: flags.invalidate,
        forgets: true,
    };
    let (code, version) = match wish.grant(call)? {
        Outcome::Stored(_) if flags.quiet => return Ok(()),
        Outcome::Stored(version) => ("HD", version),
        Outcome::NotStored => ("NS", 0),
        Outcome::Exists => ("EX", 0),
        Outcome::NotFound => ("NF", 0),
    };
    call.out.extend_from_slice(code.as_bytes());
    flags.tell(call.out, |letter| (letter == b'c').then(|| version.into()));
    call.out.extend_from_slice(b"\r\n");
    Ok(())
}

/// The data of a request. What is too large is not stored, and what it was to replace is not
/// kept either if the request `forgets`.
fn data<'a>(call: &Call<'a>, key: &[u8], forgets: bool) -> Result<&'a [u8], Refusal> {
    use super::Block;
    match call.block {
        Block::Whole(data) => Ok(data),
        Block::Bad => Err(BAD_DATA),
        Block::None => Err(BAD_FORMAT),
        Block::Large(_) => {
            if forgets {
                forget(call, key)?;
            }
            Err(TOO_LARGE)
        }
    }
}

fn forget(call: &Call<'_>, key: &[u8]) -> Done {
    let at = call.state.cache.writing_scope()?;
    at.map.delete(at.key(key), call.options().timeout_ns)?;
    Ok(())
}

impl Wish<'_> {
    fn grant(&self, call: &Call<'_>) -> Result<Outcome, Refusal> {
        match self.try_grant(call) {
            Err(Error::ValueTooLarge { .. }) if matches!(self.mode, Mode::Append | Mode::Prepend) => {
                Ok(Outcome::NotStored)
            }
            Err(error @ (Error::ValueTooLarge { .. } | Error::Full { .. } | Error::NoSpace { .. })) if self.forgets => {
                forget(call, self.key)?;
                Err(error.into())
            }
            Err(Error::NotAppendable) => Ok(Outcome::NotStored),
            done => Ok(done?),
        }
    }

    fn try_grant(&self, call: &Call<'_>) -> Result<Outcome, Error> {
        let at = call.state.cache.writing_scope()?;
        let key = at.key(self.key);
        let options =
            WriteOptions { client_flags: self.client_flags, expires_at_ms: self.expires_at_ms, ..call.options() };
        let stored = |version: Option<u64>| match version {
            Some(version) => Outcome::Stored(version),
            None => Outcome::NotStored,
        };
        match (self.mode, self.cas) {
            (Mode::Append | Mode::Prepend, _) => self.extend(call),
            (Mode::Set, None) => Ok(stored(Some(at.map.set(key, self.value, &options)?))),
            (Mode::Replace, None) => Ok(stored(at.map.replace(key, self.value, &options)?)),
            (Mode::Add, _) if self.expires_at_ms <= at.map.now_ms() => {
                // It is stored, and gone.
                Ok(stored((!at.map.contains(key)?).then_some(0)))
            }
            (Mode::Add, _) => Ok(stored(at.map.add(key, self.value, &options)?)),
            (_, Some(_)) if self.may_be_stale => self.set_stale(call, &options),
            (_, Some(version)) => Ok(match at.map.cas(key, version, self.value, &options)? {
                Cas::Stored(version) => stored(Some(version)),
                Cas::Changed(_) => Outcome::Exists,
                Cas::Missing => Outcome::NotFound,
            }),
        }
    }

    /// Replaces the version that is named. A newer one gets this value too, but is stale
    /// afterwards and expires when it did.
    fn set_stale(&self, call: &Call<'_>, options: &WriteOptions<'_>) -> Result<Outcome, Error> {
        let at = call.state.cache.writing_scope()?;
        let mut outcome = Outcome::NotFound;
        let version = at.map.update(at.key(self.key), options.timeout_ns, &mut |there, value| {
            let Some((meta, _)) = there else {
                outcome = Outcome::NotFound;
                return Ok(Change::Leave);
            };
            let named = self.cas.unwrap_or(0);
            if named > meta.version {
                outcome = Outcome::Exists;
                return Ok(Change::Leave);
            }
            outcome = Outcome::Stored(0);
            value.extend_from_slice(self.value);
            Ok(Change::Put(if named == meta.version {
                WriteOptions { tags: &[], ..*options }
            } else {
                let server_flags = STALE | meta.server_flags & WON;
                WriteOptions { server_flags, expires_at_ms: meta.expires_at_ms, tags: &[], ..*options }
            }))
        })?;
        Ok(match outcome {
            Outcome::Stored(_) => Outcome::Stored(version),
            other => other,
        })
    }

    /// Puts the value behind or before what is there.
    fn extend(&self, call: &Call<'_>) -> Result<Outcome, Error> {
        let at = call.state.cache.writing_scope()?;
        let options = call.options();
        let mut outcome = Outcome::NotStored;
        let version = at.map.update(at.key(self.key), options.timeout_ns, &mut |there, value| {
            outcome = Outcome::NotStored;
            let Some((meta, old)) = there else { return Ok(Change::Leave) };
            if self.cas.is_some_and(|version| version != meta.version) {
                outcome = Outcome::Exists;
                return Ok(Change::Leave);
            }
            let mut digits = itoa::Buffer::new();
            let old = shown(meta, old, &mut digits);
            let is_text = matches!(meta.kind, kind::STR | kind::INT) && std::str::from_utf8(self.value).is_ok();
            let kind = match meta.kind {
                kind::BYTES | kind::BYTEARRAY => meta.kind,
                kind::STR | kind::INT => {
                    if is_text {
                        kind::STR
                    } else {
                        kind::BYTES
                    }
                }
                _ => return Err(Error::NotAppendable),
            };
            let parts = if self.mode == Mode::Append { [old, self.value] } else { [self.value, old] };
            parts.into_iter().for_each(|part| value.extend_from_slice(part));
            outcome = Outcome::Stored(0);
            Ok(Change::Alter(WriteOptions { kind, server_flags: 0, ..options.keeping(meta) }))
        })?;
        Ok(match outcome {
            Outcome::Stored(_) => Outcome::Stored(version),
            other => other,
        })
    }
}
