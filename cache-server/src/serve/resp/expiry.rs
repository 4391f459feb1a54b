//! When keys expire.
//!
//! A region's clock counts from the boot of the host; what clients name is the time of day.
//! The distance of the two is kept as it was measured first, until the day's clock is set: so
//! a moment that was stored comes back as the same number.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use cache_shm::{Meta, NEVER};

use super::reply::{Refusal, SYNTAX};
use super::{Call, Done};

/// By how much two measurements of the distance differ at most if nobody set a clock.
const DISTANCE_WOBBLE_MS: i64 = 50;

/// The distance of the region's clock from the time of day.
#[derive(Debug, Default)]
pub struct Distance(AtomicI64);

impl Distance {
    /// Milliseconds to add to a moment of the region's clock, which is `now_ms` now.
    pub fn of(&self, now_ms: u64) -> i64 {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64);
        let measured = unix - now_ms as i64;
        // Relaxed, both: a number that stands for itself.
        let known = self.0.load(Ordering::Relaxed);
        if measured.abs_diff(known) <= DISTANCE_WOBBLE_MS as u64 {
            return known;
        }
        self.0.store(measured, Ordering::Relaxed);
        measured
    }
}

/// A moment as commands name it.
#[derive(Debug, Clone, Copy)]
pub enum Expiry {
    /// So many from now.
    Seconds(i64),
    /// So many from now.
    Milliseconds(i64),
    /// After 1970.
    UnixSeconds(i64),
    /// After 1970.
    UnixMilliseconds(i64),
}

/// What a number is of.
pub type Unit = fn(i64) -> Expiry;

impl Expiry {
    /// The moment that the word at `index` and the number behind it name, if it is such a word.
    pub fn named(call: &Call<'_>, index: usize) -> Result<Option<Expiry>, Refusal> {
        let words: [(&str, Unit); 4] = [
            ("EX", Expiry::Seconds),
            ("PX", Expiry::Milliseconds),
            ("EXAT", Expiry::UnixSeconds),
            ("PXAT", Expiry::UnixMilliseconds),
        ];
        let Some((_, make)) = words.into_iter().find(|(word, _)| call.is_word(index, word)) else { return Ok(None) };
        if index + 1 >= call.args.count() {
            return Err(SYNTAX);
        }
        Ok(Some(make(call.integer(index + 1)?)))
    }

    /// The moment on the region's clock, for commands that allow only what is after zero.
    pub fn moment(self, call: &Call<'_>) -> Result<u64, Refusal> {
        let (Expiry::Seconds(number)
        | Expiry::Milliseconds(number)
        | Expiry::UnixSeconds(number)
        | Expiry::UnixMilliseconds(number)) = self;
        if number <= 0 {
            return Err(invalid(call));
        }
        self.any_moment(call)
    }

    /// The moment on the region's clock; what is past is the clock's beginning.
    fn any_moment(self, call: &Call<'_>) -> Result<u64, Refusal> {
        let now_ms = call.scope()?.map.now_ms() as i64;
        let thousand = |seconds: i64| seconds.checked_mul(1000).ok_or_else(|| invalid(call));
        let from_now = |ms: i64| ms.checked_add(now_ms).ok_or_else(|| invalid(call));
        let unix = |ms: i64| ms.checked_sub(call.shared().distance.of(now_ms as u64)).ok_or_else(|| invalid(call));
        let moment = match self {
            Expiry::Seconds(number) => from_now(thousand(number)?)?,
            Expiry::Milliseconds(number) => from_now(number)?,
            Expiry::UnixSeconds(number) => unix(thousand(number)?)?,
            Expiry::UnixMilliseconds(number) => unix(number)?,
        };
        Ok(moment.max(0) as u64)
    }
}

fn invalid(call: &Call<'_>) -> Refusal {
    let command = String::from_utf8_lossy(call.args.get(0)).to_ascii_lowercase();
    Refusal::new(format_args!("ERR invalid expire time in '{command}' command"))
}

/// `EXPIRE key seconds [NX | XX | GT | LT]`
pub fn expire(call: &mut Call<'_>) -> Done {
    set(call, Expiry::Seconds)
}

/// `PEXPIRE key milliseconds [NX | XX | GT | LT]`
pub fn pexpire(call: &mut Call<'_>) -> Done {
    set(call, Expiry::Milliseconds)
}

/// `EXPIREAT key unix-seconds [NX | XX | GT | LT]`
pub fn expireat(call: &mut Call<'_>) -> Done {
    set(call, Expiry::UnixSeconds)
}

/// `PEXPIREAT key unix-milliseconds [NX | XX | GT | LT]`
pub fn pexpireat(call: &mut Call<'_>) -> Done {
    set(call, Expiry::UnixMilliseconds)
}

/// What an expiry must be to be changed.
#[derive(Default)]
struct Condition {
    only_new: bool,
    only_changed: bool,
    only_later: bool,
    only_sooner: bool,
}

impl Condition {
    fn read(call: &Call<'_>) -> Result<Condition, Refusal> {
        let mut condition = Condition::default();
        for index in 3..call.args.count() {
            let words: [(&str, &mut bool); 4] = [
                ("NX", &mut condition.only_new),
                ("XX", &mut condition.only_changed),
                ("GT", &mut condition.only_later),
                ("LT", &mut condition.only_sooner),
            ];
            match words.into_iter().find(|(word, _)| call.is_word(index, word)) {
                Some((_, is_set)) => *is_set = true,
                None => {
                    let word = String::from_utf8_lossy(call.args.get(index));
                    return Err(Refusal::new(format_args!("ERR Unsupported option {word}")));
                }
            }
        }
        let others = condition.only_changed || condition.only_later || condition.only_sooner;
        if condition.only_new && others {
            return Err(Refusal::fixed("ERR NX and XX, GT or LT options at the same time are not compatible"));
        }
        if condition.only_later && condition.only_sooner {
            return Err(Refusal::fixed("ERR GT and LT options at the same time are not compatible"));
        }
        Ok(condition)
    }

    fn allows(&self, meta: &Meta, expires_at_ms: u64) -> bool {
        let has = meta.expires_at_ms != NEVER;
        !(self.only_new && has
            || self.only_changed && !has
            || self.only_later && (!has || expires_at_ms <= meta.expires_at_ms)
            || self.only_sooner && has && expires_at_ms >= meta.expires_at_ms)
    }
}

fn set(call: &mut Call<'_>, unit: Unit) -> Done {
    let expires_at_ms = unit(call.integer(2)?).any_moment(call)?;
    let condition = Condition::read(call)?;
    let key = call.args.get(1);
    let at = call.writing_scope()?;
    let is_set = match at.map.meta(at.key(key))? {
        Some(meta) if condition.allows(&meta, expires_at_ms) => {
            at.map.touch(at.key(key), expires_at_ms, call.options().timeout_ns)?
        }
        _ => false,
    };
    call.reply.integer(is_set.into());
    Ok(())
}

/// `PERSIST key`
pub fn persist(call: &mut Call<'_>) -> Done {
    let key = call.args.get(1);
    let at = call.writing_scope()?;
    let has = at.map.meta(at.key(key))?.is_some_and(|meta| meta.expires_at_ms != NEVER);
    let done = has && at.map.touch(at.key(key), NEVER, call.options().timeout_ns)?;
    call.reply.integer(done.into());
    Ok(())
}

/// `TTL key`
pub fn ttl(call: &mut Call<'_>) -> Done {
    left(call, |left_ms| (left_ms + 500) / 1000)
}

/// `PTTL key`
pub fn pttl(call: &mut Call<'_>) -> Done {
    left(call, |left_ms| left_ms)
}

fn left(call: &mut Call<'_>, shown: fn(i64) -> i64) -> Done {
    answer(call, |_, expires_at_ms, now_ms| shown(expires_at_ms.saturating_sub(now_ms) as i64))
}

/// `EXPIRETIME key`
pub fn expiretime(call: &mut Call<'_>) -> Done {
    answer(call, |distance, expires_at_ms, now_ms| (expires_at_ms as i64 + distance.of(now_ms) + 500) / 1000)
}

/// `PEXPIRETIME key`
pub fn pexpiretime(call: &mut Call<'_>) -> Done {
    answer(call, |distance, expires_at_ms, now_ms| expires_at_ms as i64 + distance.of(now_ms))
}

/// Answers -2 for a key that is not there and -1 for one that never expires.
fn answer(call: &mut Call<'_>, shown: impl Fn(&Distance, u64, u64) -> i64) -> Done {
    let at = call.scope()?;
    let number = match at.map.meta(at.key(call.args.get(1)))? {
        None => -2,
        Some(meta) if meta.expires_at_ms == NEVER => -1,
        Some(meta) => shown(&call.shared().distance, meta.expires_at_ms, at.map.now_ms()),
    };
    call.reply.integer(number);
    Ok(())
}
