//! When a value is made anew although it still serves.
//!
//! Owns: the rule by which of many readers one, now and then, finds a value due. Who then
//! makes it, and what the others get, is for the caller to say.

use std::time::Duration;

use cache_core::{Meta, NEVER, Result};
use rustix::time::ClockId;

use crate::cache::Cache;
use crate::lease::thread_number;

/// How early a value is made anew.
///
/// A value is due in the last [`stale`](Refresh::stale) of its life. Before that it is due by chance,
/// the likelier the nearer that moment is and the longer the value took to make: the rule
/// XFetch of Vattani, Chierichetti and Lowenstein (Optimal Probabilistic Cache Stampede
/// Prevention, VLDB 2015). How long it took is in the item's client flags, see [`cost`].
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Refresh {
    /// The part of a value's life in which it only stands in for the next one.
    pub stale: Duration,
    /// XFetch's beta: 1 is the optimum of the paper, more is earlier, 0 never by chance.
    pub beta: f64,
}

/// The client flags of a value that took so long to make: microseconds, at most 71 minutes.
pub fn cost(duration: Duration) -> u32 {
    u32::try_from(duration.as_micros()).unwrap_or(u32::MAX)
}

impl Refresh {
    /// Whether a value that expires then and took so long to make is due at `now_ms`, by
    /// `chance`, an even number from 0 to 1.
    fn is_due(&self, (expires_at_ms, cost_us): (u64, u32), now_ms: u64, chance: impl FnOnce() -> f64) -> bool {
        if expires_at_ms == NEVER {
            return false;
        }
        let stale_ms = u64::try_from(self.stale.as_millis()).unwrap_or(u64::MAX);
        let left_ms = expires_at_ms.saturating_sub(now_ms).saturating_sub(stale_ms);
        if left_ms == 0 || self.beta == 0.0 || cost_us == 0 {
            return left_ms == 0;
        }
        let cost_ms = f64::from(cost_us) / 1000.0;
        -chance().ln() * self.beta * cost_ms >= left_ms as f64
    }
}

/// A number from 0 to 1 that other threads and processes do not draw as well.
fn chance() -> f64 {
    let now = rustix::time::clock_gettime(ClockId::Monotonic);
    let seed = (now.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(now.tv_nsec as u64);
    // The mixer of splitmix64.
    let mut bits = seed.wrapping_add(thread_number().wrapping_mul(0x9e37_79b9_7f4a_7c15));
    bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((bits ^ bits >> 31) >> 11) as f64 / (1u64 << 53) as f64
}

impl Cache {
    /// True if the caller should make the value anew that a read has just described by `meta`.
    /// Takes no lock and remembers nothing: of those who are told so, [`Cache::lock`] picks one.
    ///
    /// ```
    /// use std::time::Duration;
    /// use cache_shm::Refresh;
    /// let cache = cache_shm::Cache::builder(None).size(1 << 20).create()?;
    /// cache.set_for(b"page", b"text", Duration::from_secs(60))?;
    /// let meta = cache.meta(b"page")?.expect("it was just stored");
    /// let soon = Refresh { stale: Duration::from_secs(5), ..Refresh::default() };
    /// assert!(!cache.is_due(&meta, &soon)?);
    /// let always = Refresh { stale: Duration::from_secs(60), ..Refresh::default() };
    /// assert!(cache.is_due(&meta, &always)?);
    /// # Ok::<(), cache_shm::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of a read.
    pub fn is_due(&self, meta: &Meta, refresh: &Refresh) -> Result<bool> {
        Ok(refresh.is_due((meta.expires_at_ms, meta.client_flags), self.map()?.now_ms(), chance))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_due_in_the_stale_part_of_its_life() {
        let refresh = Refresh { stale: Duration::from_millis(10), beta: 0.0 };
        let is_due = |now_ms| refresh.is_due((1000, 5), now_ms, || 0.0);
        assert_eq!([989, 990, 999, 2000].map(is_due), [false, true, true, true]);
        assert!(!refresh.is_due((NEVER, 5), u64::MAX, || 0.0));
        assert!(Refresh { stale: Duration::MAX, beta: 0.0 }.is_due((u64::MAX - 1, 5), 0, || 0.0));
    }

    #[test]
    fn a_value_is_due_early_as_often_as_the_rule_says() {
        // With `left` to go, beta 1 and a cost of `cost`, the chance is exp(-left / cost).
        let refresh = Refresh { stale: Duration::ZERO, beta: 1.0 };
        let value = (1100, 100_000);
        let count = (0..10_000).filter(|draw| refresh.is_due(value, 1000, || f64::from(*draw) / 1e4)).count();
        assert!((3675..=3685).contains(&count), "{count}");
        assert!(!refresh.is_due((1100, 0), 1000, || 0.0), "what has no cost is not due by chance");
    }

    #[test]
    fn chances_are_even() {
        let mut counts = [0; 4];
        for _ in 0..40_000 {
            counts[(chance() * 4.0) as usize] += 1;
        }
        assert!(counts.iter().all(|count| (8_000..12_000).contains(count)), "{counts:?}");
    }
}
