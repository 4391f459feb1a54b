//! When keys expire, as memcached's clients say it.

use cache_shm::NEVER;

use super::Call;

/// A number of seconds up to this is counted from now, a larger one from 1970.
const FROM_NOW_SECONDS_MAX: i64 = 60 * 60 * 24 * 30;

/// A moment on the region's clock that has always passed.
pub const PAST: u64 = 0;

/// The moment on the region's clock that a client's number is: 0 is never, and what is below
/// has passed.
pub fn moment(call: &Call<'_>, seconds: i64, now_ms: u64) -> u64 {
    match seconds {
        0 => NEVER,
        1..=FROM_NOW_SECONDS_MAX => now_ms + seconds as u64 * 1000,
        ..0 => PAST,
        _ => (seconds * 1000 - call.turn.shared.distance.of(now_ms)).max(PAST as i64) as u64,
    }
}

/// The whole seconds that are left, as clients are told: -1 for ever.
pub fn left_seconds(expires_at_ms: u64, now_ms: u64) -> i64 {
    match expires_at_ms {
        NEVER => -1,
        moment => moment.saturating_sub(now_ms).div_ceil(1000) as i64,
    }
}
