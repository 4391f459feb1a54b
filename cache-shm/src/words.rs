//! Times, permissions and groups as people write them.

use std::time::Duration;

/// What the texts of times look like, for messages.
pub const TIME_WANTED: &str = "seconds (30, 1.5), or a number with one of ms, s, m, h, d";
/// What the texts of permissions look like, for messages.
pub const MODE_WANTED: &str = "octal digits, 0 to 777; for example 660";

/// `1.5`, `500ms`, `30s`, `15m`, `12h`, `7d`; `None` for anything else.
///
/// ```
/// use std::time::Duration;
/// assert_eq!(cache_shm::parse_time("1.5"), Some(Duration::from_millis(1500)));
/// assert_eq!(cache_shm::parse_time("30m"), Some(Duration::from_secs(1800)));
/// assert_eq!(cache_shm::parse_time("soon"), None);
/// ```
pub fn parse_time(text: &str) -> Option<Duration> {
    let unit_at = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let scale = match unit {
        "" | "s" => 1.0,
        "ms" => 0.001,
        "m" => 60.0,
        "h" => 3_600.0,
        "d" => 86_400.0,
        _ => return None,
    };
    let number: f64 = number.trim_end().parse().ok()?;
    Duration::try_from_secs_f64(number * scale).ok()
}

/// The bits of permissions such as `660` or `0o600`; `None` for anything else.
pub fn parse_mode(text: &str) -> Option<u32> {
    let digits = text.strip_prefix("0o").unwrap_or(text);
    u32::from_str_radix(digits, 8).ok().filter(|mode| *mode <= 0o777 && !digits.starts_with('+'))
}

/// The number of a group given by number, or by its name in `/etc/group`; `None` if there
/// is no such name.
pub fn parse_group(text: &str) -> Option<u32> {
    if let Ok(number) = text.parse() {
        return Some(number);
    }
    let table = std::fs::read_to_string("/etc/group").unwrap_or_default();
    let row = table.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|row| row.first() == Some(&text));
    row.and_then(|row| row.get(2)?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_with_and_without_a_unit() {
        for (text, ms) in
            [("30", 30_000), ("1.5", 1_500), ("500ms", 500), ("2m", 120_000), ("12h", 43_200_000), ("0", 0)]
        {
            assert_eq!(parse_time(text), Some(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "s", "-1", "nan", "inf", "5 weeks", "5y", "1e400"] {
            assert_eq!(parse_time(text), None, "{text}");
        }
    }

    #[test]
    fn permissions_are_octal() {
        assert_eq!(parse_mode("660"), Some(0o660));
        assert_eq!(parse_mode("0o600"), Some(0o600));
        for text in ["888", "7777", "rw", "", "+600"] {
            assert_eq!(parse_mode(text), None, "{text}");
        }
    }

    #[test]
    fn a_group_is_a_number_or_a_name_of_the_system() {
        assert_eq!(parse_group("4711"), Some(4711));
        assert_eq!(parse_group("root"), Some(0));
        assert_eq!(parse_group("no such group"), None);
    }
}
