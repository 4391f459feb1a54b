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
    let delta = Number::parse(call.args.get(2)).ok_or(NOT_FLOAT)?;
    let at = call.writing_scope()?;
    let options = call.options();
    let (mut sum, mut refusal) = (String::new(), None);
    at.map.update(at.key(call.args.get(1)), options.timeout_ns, &mut |there, new| {
        let mut digits = itoa::Buffer::new();
        let old = match there {
            None => Some(Number::Decimal(0)),
            Some((meta, stored)) => Number::parse(values::shown(meta, stored, &mut digits)),
        };
        refusal = match old.map(|old| old.plus(delta)) {
            None => Some(NOT_FLOAT),
            Some(None) => Some(Refusal::fixed("ERR increment would produce NaN or Infinity")),
            Some(Some(number)) => {
                sum = number.to_string();
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

/// Digits behind the point, as many as Redis writes.
const DECIMALS: i64 = 17;
/// One, as a count of the smallest decimals.
const ONE: i128 = 10i128.pow(DECIMALS as u32);

/// A number as clients write it.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Number {
    /// A count of the smallest decimals: sums of such are as on paper.
    Decimal(i128),
    /// What is too large for that.
    Float(f64),
}

impl Number {
    /// The number that a text is; infinity is one, NaN is none.
    fn parse(text: &[u8]) -> Option<Number> {
        let text = std::str::from_utf8(text).ok()?;
        let float: f64 = text.parse().ok()?;
        if float.is_nan() {
            return None;
        }
        Some(decimal(text).map_or(Number::Float(float), Number::Decimal))
    }

    /// The sum, if it is finite.
    fn plus(self, other: Number) -> Option<Number> {
        if let (Number::Decimal(one), Number::Decimal(other)) = (self, other)
            && let Some(sum) = one.checked_add(other)
        {
            return Some(Number::Decimal(sum));
        }
        let sum = self.float() + other.float();
        sum.is_finite().then_some(Number::Float(sum))
    }

    fn float(self) -> f64 {
        match self {
            Number::Decimal(count) => count as f64 / ONE as f64,
            Number::Float(float) => float,
        }
    }
}

impl std::fmt::Display for Number {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let count = match *self {
            Number::Decimal(count) => count,
            Number::Float(float) => return write!(f, "{float}"),
        };
        let (sign, size, one) = (if count < 0 { "-" } else { "" }, count.unsigned_abs(), ONE.unsigned_abs());
        write!(f, "{sign}{}", size / one)?;
        match size % one {
            0 => Ok(()),
            part => write!(f, ".{}", format!("{part:0width$}", width = DECIMALS as usize).trim_end_matches('0')),
        }
    }
}

/// The count of smallest decimals that a text with the grammar of a float is, rounded; none if
/// it is too large.
fn decimal(text: &str) -> Option<i128> {
    let (digits, exponent) = match text.find(['e', 'E']) {
        Some(at) => (&text[..at], text[at + 1..].parse::<i64>().ok()?),
        None => (text, 0),
    };
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    let is_negative = whole.starts_with('-');
    let digits = || whole.bytes().chain(part.bytes()).filter(u8::is_ascii_digit);
    let all = digits().count();
    if all == 0 {
        return None;
    }
    // So many of the digits stand before the last of the decimals that count.
    let kept = exponent.checked_add(DECIMALS + all as i64 - part.len() as i64)?;
    let mut count: i128 = 0;
    for digit in digits().take(kept.max(0) as usize) {
        count = count.checked_mul(10)?.checked_add((digit - b'0').into())?;
    }
    if kept >= 0 && digits().nth(kept as usize).is_some_and(|digit| digit >= b'5') {
        count = count.checked_add(1)?;
    }
    for _ in 0..(kept - all as i64).max(0) {
        if count == 0 {
            break;
        }
        count = count.checked_mul(10)?;
    }
    Some(if is_negative { -count } else { count })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(one: &str, other: &str) -> Option<String> {
        let [one, other] = [one, other].map(|text| Number::parse(text.as_bytes()).unwrap());
        one.plus(other).map(|sum| sum.to_string())
    }

    #[test]
    fn sums_are_those_of_decimals() {
        for (one, other, wanted) in [
            ("0.1", "0.2", "0.3"),
            ("9007199254740993", "1", "9007199254740994"),
            ("10.50", "0.1", "10.6"),
            ("5.0e3", "2.0e2", "5200"),
            ("-0.5", "0.5", "0"),
            ("-1", "0.25", "-0.75"),
            ("+.5", "5.", "5.5"),
            ("0.00000000000000001", "0", "0.00000000000000001"),
            ("0.000000000000000004", "0", "0"),
            ("0.000000000000000005", "0", "0.00000000000000001"),
            ("1e-400", "1", "1"),
            ("0e999999999999", "1", "1"),
            ("1e30", "1", "1000000000000000000000000000000"),
        ] {
            assert_eq!(sum(one, other).as_deref(), Some(wanted), "{one} + {other}");
        }
        let tenth = Number::parse(b"0.1").unwrap();
        let ten = (0..10).fold(Number::Decimal(0), |sum, _| sum.plus(tenth).unwrap());
        assert_eq!(ten.to_string(), "1");
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for text in ["", " 1", "1 ", "x", "nan", "1e", "0x10", "--1", "."] {
            assert_eq!(Number::parse(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(sum("inf", "1"), None);
        assert_eq!(sum("1e308", "1e308"), None);
        assert_eq!(sum("infinity", "-infinity"), None);
    }
}
