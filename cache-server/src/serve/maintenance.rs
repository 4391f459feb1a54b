//! The thread that does in advance what writes would otherwise do themselves.
//!
//! Owns: when it works. It keeps segments free and backed by memory ahead of need, sweeps what
//! has expired, and frees the slots of processes that died. It also is who notices that
//! the region was destroyed or made anew, and attaches to the new one: reads alone do not. What it
//! notices holds for all handles of the process. A region without the work is as sound:
//! each write does its part.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cache_shm::{Cache, Error, Result};

use super::Shared;

/// Bytes that are walked, or given memory, at once.
const SHARE_BYTES: u64 = 256 << 10;
/// Shares of one turn, so that a turn ends.
const SHARES_PER_TURN: u32 = 16;
/// How much shorter the pause is while there is work.
const HASTE: u32 = 16;
/// How often the dead are looked for, and errors are told.
const LOOK: Duration = Duration::from_secs(1);
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// What the thread has done so far.
#[derive(Debug, Default)]
pub struct Done {
    /// Shares of reclaim or of a sweep.
    pub shares: AtomicU64,
    /// Bytes that were given memory.
    pub backed_bytes: AtomicU64,
    /// Participants that had died.
    pub retired: AtomicU64,
}

/// What came of a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// There was nothing to do.
    Idle,
    /// All that there was is done.
    Done,
    /// There is more.
    More,
}

/// Works every `interval` until the server ends, less often while there is nothing to do; where it is
/// zero it never does. It looks at the region each second in any case.
pub fn run(shared: &Shared, interval: Duration) {
    let maintains = !interval.is_zero();
    let mut looked: Option<Instant> = None;
    let mut told: Option<Instant> = None;
    let (mut pause, mut worked) = (interval, Instant::now());
    loop {
        let wait = if maintains { pause.saturating_sub(worked.elapsed()) } else { LOOK };
        if shared.bell.wait(wait.min(LOOK)) {
            return;
        }
        let looks = looked.is_none_or(|looked| looked.elapsed() >= LOOK);
        if looks {
            looked = Some(Instant::now());
        }
        let works = maintains && worked.elapsed() >= pause;
        if works {
            worked = Instant::now();
        }
        match turn(&shared.cache, &shared.maintenance, looks && maintains, works) {
            Ok(Turn::More) => pause = interval / HASTE,
            Ok(Turn::Done) => pause = interval,
            // What is to be done is found by a look at every segment.
            Ok(Turn::Idle) if works => pause = (pause * 2).clamp(interval, interval.max(LOOK)),
            Ok(Turn::Idle) => {}
            Err(Error::Gone { path }) => {
                tracing::warn!(path = %path.display(), "the region was destroyed or replaced; attaching anew");
            }
            Err(error) => {
                if told.is_none_or(|told| told.elapsed() > TOLD_EVERY) {
                    told = Some(Instant::now());
                    tracing::warn!(%error, "no background work for now");
                }
                pause = interval.max(LOOK);
            }
        }
    }
}

/// Looks at the region, at who died if it `looks`, and does what there is to do if it `works`.
fn turn(cache: &Cache, done: &Done, looks: bool, works: bool) -> Result<Turn> {
    let map = cache.writer()?;
    if looks {
        let retired = map.retire_the_dead()?;
        if retired > 0 {
            // Relaxed, here and below: statistics.
            done.retired.fetch_add(retired.into(), Ordering::Relaxed);
            tracing::info!(participants = retired, "freed the slots of processes that died");
        }
    }
    if !works {
        return Ok(Turn::Idle);
    }
    let mut shares = 0;
    while shares < SHARES_PER_TURN && map.work(SHARE_BYTES)? {
        shares += 1;
    }
    done.shares.fetch_add(shares.into(), Ordering::Relaxed);
    let backed_bytes = match map.back_ahead(SHARE_BYTES) {
        // Writers then use what has memory, and say so themselves where that is too little.
        Err(Error::NoSpace { .. }) => 0,
        backed => backed?,
    };
    done.backed_bytes.fetch_add(backed_bytes, Ordering::Relaxed);
    Ok(match shares {
        SHARES_PER_TURN => Turn::More,
        _ if backed_bytes > 0 => Turn::More,
        0 => Turn::Idle,
        _ => Turn::Done,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_leaves_free_segments_behind_and_says_when_all_is_done() {
        let cache = Cache::builder(None).size(8 << 20).create().unwrap();
        for number in 0..100_000u64 {
            cache.set(&number.to_le_bytes(), &[1; 100]).unwrap();
        }
        let done = Done::default();
        let turns = (0..10_000).take_while(|_| turn(&cache, &done, true, true).unwrap() != Turn::Idle).count();
        assert!(turns < 10_000, "it never ends");
        let stats = cache.stats().unwrap();
        let target = (stats.segments / 64).clamp(4, 64);
        assert!(stats.free_bytes >= target * stats.segment_bytes, "{stats:?}");
        assert!(done.shares.load(Ordering::Relaxed) > 0);
    }
}
