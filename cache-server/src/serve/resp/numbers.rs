//! Counters.

use cache_shm::{Change, NEVER, WriteOptions};

use super::reply::{NOT_FLOAT, Refusal};
use super::{Call, Done, values};

/// `INCR key`
pub fn incr(call: &mut Call<'_>) -> Done {
    add(call, 1)
}

/// `DECR key`
pub fn decr(call: &mut Call<'_>) -> Done {
    add(call, -1)
}

/// `INCRBY key increment`
pub fn incrby(call: &mut Call<'_>) -> Done {
    let delta = call.integer(2)?;
    add(call, delta)
}

/// `DECRBY key decrement`
pub fn decrby(call: &mut Call<'_>) -> Done {
    let delta = call.integer(2)?.checked_neg().ok_or(Refusal::fixed("ERR decrement would overflow"))?;
    add(call, delta)
}

fn add(call: &mut Call<'_>, delta: i64) -> Done {
    let at = call.writing_scope()?;
    let sum = at.map.incr(at.key(call.args.get(1)), delta, Some(0), &call.options())?;
    call.reply.integer(sum.unwrap_or(0));
    Ok(())
}

/// `INCRBYFLOAT key increment`
pub fn incrbyfloat(call: &mut Call<'_>) -> Done {
    let delta = float(call.args.get(2)).ok_or(NOT_FLOAT)?;
    let at = call.writing_scope()?;
    let options = call.options();
    let (mut sum, mut refusal) = (String::new(), None);
    at.map.update(at.key(call.args.get(1)), options.timeout_ns, &mut |there, new| {
        let mut digits = itoa::Buffer::new();
        let old = there.map_or(Some(0.0), |(meta, stored)| float(values::shown(meta, stored, &mut digits)));
        refusal = match old {
            None => Some(NOT_FLOAT),
            Some(old) if !(old + delta).is_finite() => {
                Some(Refusal::fixed("ERR increment would produce NaN or Infinity"))
            }
            Some(old) => {
                sum = (old + delta).to_string();
                None
            }
        };
        if refusal.is_some() {
            return Ok(Change::Leave);
        }
        new.extend_from_slice(sum.as_bytes());
        let expires_at_ms = there.map_or(NEVER, |(meta, _)| meta.expires_at_ms);
        Ok(Change::Alter(WriteOptions { expires_at_ms, ..options }))
    })?;
    if let Some(refusal) = refusal {
        return Err(refusal);
    }
    call.reply.bulk(sum.as_bytes());
    Ok(())
}

/// A number as text has it; infinity is one, NaN is none.
fn float(text: &[u8]) -> Option<f64> {
    let number: f64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    (!number.is_nan()).then_some(number)
}
