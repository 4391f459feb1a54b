//! Counters: incr, decr, and the meta command ma. They are unsigned and of 64 bits: counting
//! up begins anew after the largest, counting down ends at 0.

use cache_shm::{Change, WriteOptions, kind};

use super::expiry::{left_seconds, moment};
use super::reply::{NOT_NUMERIC, Refusal, number};
use super::{Call, Done, key, parse};
use crate::serve::resp::values::shown;

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// There is this number now, which expires then.
    Done(u64, u64),
    /// As `Done`, where nothing was.
    Made(u64, u64),
    NotNumeric,
    NotFound,
    Exists,
}

/// How a number is changed.
struct Step {
    is_up: bool,
    delta: u64,
    /// The version that has to be there.
    cas: Option<u64>,
    /// When it expires from now on, if that changes.
    expires_at_ms: Option<u64>,
    /// The number and the expiry of one that is missing.
    vivify: Option<(u64, u64)>,
}

/// `incr | decr key delta [noreply]`
pub fn count(call: &mut Call<'_>, is_up: bool) -> Done {
    let key = key(call.args.get(1))?;
    let delta =
        parse::unsigned(call.args.get(2)).ok_or(Refusal::fixed("CLIENT_ERROR invalid numeric delta argument"))?;
    let step = Step { is_up, delta, cas: None, expires_at_ms: None, vivify: None };
    match step.take(call, key)?.0 {
        Outcome::Done(sum, _) | Outcome::Made(sum, _) => number(call.out, sum),
        Outcome::NotNumeric => return Err(NOT_NUMERIC),
        Outcome::NotFound | Outcome::Exists => call.out.extend_from_slice(b"NOT_FOUND"),
    }
    call.out.extend_from_slice(b"\r\n");
    Ok(())
}

/// `ma key [flag ...]`
pub fn ma(call: &mut Call<'_>) -> Done {
    let flags = super::change::flags(call)?;
    let is_up = match flags.mode {
        None | Some(b'I' | b'+') => true,
        Some(b'D' | b'-') => false,
        Some(_) => return Err(Refusal::fixed("CLIENT_ERROR invalid mode for ma M token")),
    };
    let now_ms = call.scope()?.map.now_ms();
    let step = Step {
        is_up,
        delta: flags.delta,
        cas: flags.cas,
        expires_at_ms: flags.ttl.map(|seconds| moment(call, seconds, now_ms)),
        vivify: flags.vivifies.then(|| (flags.initial, moment(call, flags.new_ttl, now_ms))),
    };
    let (outcome, version) = step.take(call, &flags.key)?;
    let out = &mut *call.out;
    let (sum, expires_at_ms) = match outcome {
        Outcome::NotNumeric => return Err(NOT_NUMERIC),
        Outcome::Done(..) if flags.quiet => return Ok(()),
        Outcome::Done(sum, expires_at_ms) | Outcome::Made(sum, expires_at_ms) => (sum, expires_at_ms),
        Outcome::NotFound | Outcome::Exists => {
            out.extend_from_slice(if outcome == Outcome::NotFound { b"NF" } else { b"EX" });
            flags.tell(out, |_| None);
            out.extend_from_slice(b"\r\n");
            return Ok(());
        }
    };
    let mut digits = itoa::Buffer::new();
    let digits = digits.format(sum).as_bytes();
    if flags.value {
        out.extend_from_slice(b"VA ");
        number(out, digits.len());
    } else {
        out.extend_from_slice(b"HD");
    }
    flags.tell(out, |letter| match letter {
        b'c' => Some(version.into()),
        b't' => Some(left_seconds(expires_at_ms, now_ms).into()),
        _ => None,
    });
    out.extend_from_slice(b"\r\n");
    if flags.value {
        out.extend_from_slice(digits);
        out.extend_from_slice(b"\r\n");
    }
    Ok(())
}

impl Step {
    /// Changes the number, and says as which version.
    fn take(&self, call: &Call<'_>, key: &[u8]) -> Result<(Outcome, u64), Refusal> {
        let at = call.state.cache.writing_scope()?;
        let options = call.options();
        let mut outcome = Outcome::NotFound;
        let version = at.map.update(at.key(key), options.timeout_ns, &mut |there, value| {
            let Some((meta, old)) = there else {
                outcome = Outcome::NotFound;
                let Some((initial, expires_at_ms)) = self.vivify else { return Ok(Change::Leave) };
                outcome = Outcome::Made(initial, expires_at_ms);
                number(value, initial);
                return Ok(Change::Put(WriteOptions { expires_at_ms, ..options }));
            };
            if !old.is_empty() && self.cas.is_some_and(|version| version != meta.version) {
                outcome = Outcome::Exists;
                return Ok(Change::Leave);
            }
            let mut digits = itoa::Buffer::new();
            let there = parse::unsigned(shown(meta, old, &mut digits));
            let Some(old) = there.filter(|_| matches!(meta.kind, kind::INT | kind::STR | kind::BYTES)) else {
                outcome = Outcome::NotNumeric;
                return Ok(Change::Leave);
            };
            let sum = if self.is_up { old.wrapping_add(self.delta) } else { old.saturating_sub(self.delta) };
            let expires_at_ms = self.expires_at_ms.unwrap_or(meta.expires_at_ms);
            outcome = Outcome::Done(sum, expires_at_ms);
            // What Python stored as an int stays one while it is one of 64 bits with a sign.
            let kind = match (meta.kind, i64::try_from(sum)) {
                (kind::INT, Ok(sum)) => {
                    value.extend_from_slice(&sum.to_le_bytes());
                    kind::INT
                }
                (kind, _) => {
                    number(value, sum);
                    if kind == kind::INT { kind::STR } else { kind }
                }
            };
            Ok(Change::Alter(WriteOptions { kind, expires_at_ms, ..options.keeping(meta) }))
        })?;
        Ok((outcome, version))
    }
}
