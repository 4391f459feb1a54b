//! Sizes as people write them.

use cache_core::{Error, REGION_BYTES_MIN, Result};

/// The unit after the number, in lower case, and its bytes. As in `dd` and `truncate`:
/// `K` and `KiB` are 1024, `KB` is 1000.
const UNITS: &[(&str, u64)] = &[
    ("", 1),
    ("b", 1),
    ("k", 1 << 10),
    ("kib", 1 << 10),
    ("kb", 1_000),
    ("m", 1 << 20),
    ("mib", 1 << 20),
    ("mb", 1_000_000),
    ("g", 1 << 30),
    ("gib", 1 << 30),
    ("gb", 1_000_000_000),
    ("t", 1 << 40),
    ("tib", 1 << 40),
    ("tb", 1_000_000_000_000),
];

/// Bytes of a size such as `"256MB"`, `"1.5 GiB"`, `"64m"` or `"1_048_576"`.
///
/// `KB MB GB TB` are powers of 1000; `K M G T` and `KiB MiB GiB TiB` powers of 1024.
/// Case does not matter. Whether a region can have that size is checked at creation.
///
/// # Errors
/// `InvalidSize` when the text is not a size.
///
/// ```
/// assert_eq!(cache_shm::parse_size("256MB")?, 256_000_000);
/// assert_eq!(cache_shm::parse_size("1.5 GiB")?, 1_610_612_736);
/// assert!(cache_shm::parse_size("-1").is_err());
/// # Ok::<(), cache_shm::Error>(())
/// ```
pub fn parse_size(text: &str) -> Result<u64> {
    parse(text).ok_or_else(|| Error::InvalidSize { given: text.to_owned(), bytes_min: REGION_BYTES_MIN })
}

fn parse(text: &str) -> Option<u64> {
    let text = text.trim();
    let split = text.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == '_')).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let unit = unit.trim_start().to_ascii_lowercase();
    let unit_bytes = UNITS.iter().find(|(name, _)| *name == unit)?.1;
    if !number.starts_with(|c: char| c.is_ascii_digit()) || number.ends_with(['.', '_']) {
        return None;
    }
    let number = number.replace('_', "");
    let (whole, fraction) = number.split_once('.').unwrap_or((&number, ""));
    let mut bytes = u128::from(whole.parse::<u64>().ok()?) * u128::from(unit_bytes);
    if !fraction.is_empty() {
        let digits: u128 = fraction.get(..fraction.len().min(18))?.parse().ok()?;
        bytes += digits * u128::from(unit_bytes) / 10u128.pow(fraction.len().min(18) as u32);
    }
    u64::try_from(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in [
            ("0", 0),
            ("1048576", 1 << 20),
            ("1_048_576", 1 << 20),
            (" 64 MiB ", 64 << 20),
            ("64m", 64 << 20),
            ("64MB", 64_000_000),
            ("1.5g", 3 << 29),
            ("0.5KiB", 512),
            ("2TB", 2_000_000_000_000),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_size_is_refused_with_its_text() {
        for text in [
            "",
            "MB",
            "-1",
            "+1",
            "1.",
            ".5",
            "1..5",
            "1.2.3",
            "1 2",
            "12XB",
            "1e9",
            "0x10",
            "nan",
            "18446744073709551616",
            "99999999TB",
            "١",
        ] {
            assert_eq!(
                parse_size(text),
                Err(Error::InvalidSize { given: text.to_owned(), bytes_min: REGION_BYTES_MIN }),
                "{text:?}"
            );
        }
    }
}
