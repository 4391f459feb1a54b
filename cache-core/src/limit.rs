//! Semaphores and rate limits, on rows of the lease table.
//!
//! Owns: permits, each of which is a lease of its own, and the arithmetic of rates.
//!
//! A rate is kept by the generic cell rate algorithm (ITU-T Recommendation I.371, annex A,
//! "virtual scheduling"): one number says when the next unit would arrive if all arrived
//! evenly. A unit that comes earlier than that by more than the burst allows is refused.
//!
//! ```text
//! interval = per / limit       burst = limit x interval
//! arrival = max(arrival, now) + cost x interval        allowed if arrival - now <= burst
//! ```

use crate::error::{Error, Result};
use crate::host::Host;
use crate::lease::{LIMIT, Name, Terms};
use crate::map::Map;
use crate::sync::Ordering;

/// Most permits of a semaphore: each is a row.
pub const PERMIT_COUNT_MAX: u32 = 1024;
const NS_PER_MS: u64 = 1_000_000;

/// A rate: `count` units in each `per_ns` nanoseconds, and as many at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// Units; at least 1.
    pub count: u64,
    /// Nanoseconds; at least as many as there are units.
    pub per_ns: u64,
}

/// What became of a hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hit {
    /// It was counted; if not, nothing changed.
    pub is_allowed: bool,
    /// Units that would be allowed now.
    pub remaining: u64,
    /// Nanoseconds until a hit of this cost is allowed, if nobody else comes; 0 if it was.
    pub retry_after_ns: u64,
    /// The hits before it were counted by another limit.
    pub is_other: bool,
}

impl Limit {
    /// True if it allows at least one unit, and at most one a nanosecond.
    pub fn is_possible(self) -> bool {
        self.count > 0 && self.per_ns >= self.count
    }

    /// The new arrival time, if the hit is allowed, and what to say.
    fn judge(self, arrival_ns: u64, now_ns: u64, cost: u64) -> (Option<u64>, Hit) {
        let interval_ns = self.per_ns / self.count;
        let burst_ns = interval_ns * self.count;
        // Never more than the burst ahead, whatever another limit or a damaged word says.
        let arrival_ns = arrival_ns.clamp(now_ns, now_ns.saturating_add(burst_ns));
        let next_ns = arrival_ns.saturating_add(interval_ns.saturating_mul(cost));
        let late_ns = (next_ns - now_ns).saturating_sub(burst_ns);
        let is_allowed = late_ns == 0;
        let ahead_ns = if is_allowed { next_ns } else { arrival_ns } - now_ns;
        let remaining = burst_ns.saturating_sub(ahead_ns) / interval_ns;
        (is_allowed.then_some(next_ns), Hit { is_allowed, remaining, retry_after_ns: late_ns, is_other: false })
    }

    /// By which callers see that they name the same limit; not 0.
    fn digest(self) -> u32 {
        let mixed = self.count.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ self.per_ns.wrapping_mul(0xc2b2_ae3d_27d4_eb4f);
        (mixed >> 32) as u32 | 1
    }
}

impl<H: Host> Map<H> {
    /// Counts `cost` units of the rate `limit` under `name`, if it allows them now. A cost of
    /// 0 only asks.
    ///
    /// Time is that of the region's clock, in milliseconds: exact over any longer time, and
    /// off by a tick of the clock within it.
    ///
    /// # Errors
    /// `InvalidArgument` for a limit that is none, or a cost that it never allows; `ReadOnly`,
    /// `LeasesFull`; `Busy` if others are stopped in the middle of a hit.
    pub fn hit(&self, name: Name, limit: Limit, cost: u64) -> Result<Hit> {
        let me = self.owner.ok_or(Error::ReadOnly)?;
        if !limit.is_possible() {
            return Err(Error::InvalidArgument {
                reason: "a rate limit allows at least one, and at most one a nanosecond",
            });
        }
        if cost > limit.count {
            return Err(Error::InvalidArgument { reason: "the cost is greater than the limit, which never allows it" });
        }
        let now_ns = self.host.now_ms().saturating_mul(NS_PER_MS);
        let said = self.on_lease(name, me, true, |row| {
            // Relaxed, all: R5, the row is locked, whose release publishes them.
            let is_limit = row.owner.load(Ordering::Relaxed) == LIMIT;
            let arrival_ns = if is_limit { row.holder.load(Ordering::Relaxed) } else { 0 };
            let (next_ns, mut hit) = limit.judge(arrival_ns, now_ns, cost);
            // What nobody remembers any more was counted by nobody.
            hit.is_other = arrival_ns > now_ns && ![0, limit.digest()].contains(&row.agreed.load(Ordering::Relaxed));
            if let Some(next_ns) = next_ns.filter(|_| cost > 0) {
                // Until then the row means something, and no other name gets it. First, and the
                // owner last: a death in between forgets or keeps this hit, and no other.
                row.until_ms.store(next_ns.div_ceil(NS_PER_MS), Ordering::Relaxed);
                row.holder.store(next_ns, Ordering::Relaxed);
                row.agreed.store(limit.digest(), Ordering::Relaxed);
                row.owner.store(LIMIT, Ordering::Relaxed);
            }
            hit
        })?;
        said.ok_or(Error::Internal)
    }

    /// Takes one of the `count` permits of the semaphore `name`, as [`Map::acquire_lease`]
    /// takes a lease. Returns its number and its token.
    ///
    /// Callers that name different counts share the permits that both have;
    /// [`Map::other_permit_count`] tells of it.
    ///
    /// # Errors
    /// As [`Map::acquire_lease`]; `InvalidArgument` unless `count` is 1 to 1,024.
    pub fn acquire_permit(&self, name: Name, count: u32, terms: &Terms) -> Result<Option<(u32, u64)>> {
        let names = permits(name, count)?;
        self.acquire_any(&names, &Terms { reentrant: false, ..*terms })
    }

    /// Gives permit `index` back.
    ///
    /// # Errors
    /// As [`Map::release_lease`].
    pub fn release_permit(&self, name: Name, index: u32, holder: u64, token: u64) -> Result<()> {
        let released = self.release_lease(name.permit(index), holder, token);
        // Who waits for any permit waits at the first. If its row was another's meanwhile, the
        // sleeper looks again by itself.
        if index != 0
            && released.is_ok()
            && let Some(me) = self.owner
            && let Some(Some(bell)) = self.on_lease(name, me, false, |row| row.ring().then_some(row.bell))?
        {
            self.host.futex_wake(bell, 1);
        }
        released
    }

    /// How many permits the semaphore has in the eyes of a holder who does not say `count`; `None`
    /// if all agree who hold one of the first `count` permits, or the next.
    ///
    /// # Errors
    /// `InvalidArgument`, as above.
    pub fn other_permit_count(&self, name: Name, count: u32) -> Result<Option<u32>> {
        permits(name, count)?;
        let said = (0..=count).filter_map(|index| self.lease(name.permit(index))).map(|lease| lease.permit_count);
        Ok(said.into_iter().find(|said| *said != count))
    }

    /// How many of the `count` permits are free now.
    ///
    /// # Errors
    /// `InvalidArgument`, as above.
    pub fn free_permits(&self, name: Name, count: u32) -> Result<u32> {
        Ok(permits(name, count)?.iter().filter(|name| self.lease(**name).is_none()).count() as u32)
    }
}

fn permits(name: Name, count: u32) -> Result<Vec<Name>> {
    if !(1..=PERMIT_COUNT_MAX).contains(&count) {
        return Err(Error::InvalidArgument { reason: "a semaphore has 1 to 1,024 permits" });
    }
    Ok((0..count).map(|index| name.permit(index)).collect())
}
