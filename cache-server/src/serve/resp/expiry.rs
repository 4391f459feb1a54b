//! When keys expire.
//!
//! A region's clock counts from the boot of the host; what clients name is the time of day.
//! The distance of the two is kept as it was measured first, until the day's clock is set: so
//! a moment that was stored comes back as the same number.

use std::sync::atomic::{AtomicI64, Ordering};

use cache_shm::{Meta, NEVER};

use crate::clock::unix_ms;

use super::reply::{RESTLESS, Refusal, SYNTAX};
use super::{Call, Done};

/// By how much two measurements of the distance differ at most if nobody set a clock.
const DISTANCE_WOBBLE_MS: i64 = 50;

/// The distance of the region's clock from the time of day.
#[derive(Debug, Default)]
pub struct Distance(AtomicI64);

impl Distance {
    /// Milliseconds to add to a moment of the region's clock, which is `now_ms` now.
    pub fn of(&self, now_ms: u64) -> i64 {
        let measured = unix_ms() as i64 - now_ms as i64;
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
    /// The unit that the word at `index` names, if it is such a word with another behind it.
    pub fn unit(call: &Call<'_>, index: usize) -> Result<Option<Unit>, Refusal> {
        let words: [(&str, Unit); 4] = [
            ("EX", Expiry::Seconds),
            ("PX", Expiry::Milliseconds),
            ("EXAT", Expiry::UnixSeconds),
            ("PXAT", Expiry::UnixMilliseconds),
        ];
        let found = words.into_iter().find(|(word, _)| call.is_word(index, word));
        if found.is_some() && index + 1 >= call.args.count() {
            return Err(SYNTAX);
        }
        Ok(found.map(|(_, unit)| unit))
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
        // What no clock shows is as far away as one can.
        let unix = |ms: i64| ms.saturating_sub(call.shared().distance.of(now_ms as u64));
        let moment = match self {
            Expiry::Seconds(number) => from_now(thousand(number)?)?,
            Expiry::Milliseconds(number) => from_now(number)?,
            Expiry::UnixSeconds(number) => unix(thousand(number)?),
            Expiry::UnixMilliseconds(number) => unix(number),
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

/// A key that others change before it got its expiry is looked at again at most so often.
pub const TOUCHES_MAX: u32 = 10_000;

/// Gives a key the moment that `decide` says, if it says one, of just what it was shown.
pub fn touch(call: &Call<'_>, mut decide: impl FnMut(&Meta) -> Option<u64>) -> Result<bool, Refusal> {
    let at = call.writing_scope()?;
    let key = at.key(call.args.get(1));
    for _ in 0..TOUCHES_MAX {
        let Some(meta) = at.map.meta(key)? else { return Ok(false) };
        let Some(expires_at_ms) = decide(&meta) else { return Ok(false) };
        if at.map.touch_version(key, &meta, expires_at_ms, call.options().timeout_ns)? {
            return Ok(true);
        }
    }
    Err(RESTLESS)
}

fn set(call: &mut Call<'_>, unit: Unit) -> Done {
    let condition = Condition::read(call)?;
    let expires_at_ms = unit(call.integer(2)?).any_moment(call)?;
    let is_set = touch(call, |meta| condition.allows(meta, expires_at_ms).then_some(expires_at_ms))?;
    call.reply.integer(is_set.into());
    Ok(())
}

/// `PERSIST key`
pub fn persist(call: &mut Call<'_>) -> Done {
    let is_set = touch(call, |meta| (meta.expires_at_ms != NEVER).then_some(NEVER))?;
    call.reply.integer(is_set.into());
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
