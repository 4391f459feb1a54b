//! The time of day.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long ago 1970 began; nothing where the clock stands before it.
pub fn unix() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// The same in milliseconds.
pub fn unix_ms() -> u64 {
    unix().as_millis() as u64
}
