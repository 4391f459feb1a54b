//! The share of the small queue, which follows what is asked for.
//!
//! Owns: the border between the queues. A key that is wanted again just after small
//! dropped it would have been kept by a slightly larger small queue; one that main just
//! dropped, by a slightly larger main queue. Each moves the border its way, so it comes to
//! rest where a byte more is worth as much to either queue. Keys that were dropped longer
//! ago say nothing about a small move of the border and do not count.
//!
//! The idea of two ghosts that pull is that of ARC (Megiddo, Modha: ARC, a self-tuning,
//! low overhead replacement cache, FAST 2003); what pulls here is the slope at the border
//! and not the whole of the ghosts. Only misses are looked at: reads pay nothing.

use crate::ghost::Ghost;
use crate::host::Host;
use crate::layout::control;
use crate::map::Map;
use crate::slot::Queue;
use crate::sync::Ordering;

/// A share of everything.
const WHOLE: u64 = 1 << 32;
/// The share of the small queue in a new region, and the ends of its range, in percent.
const PERCENT: u64 = 10;
const PERCENT_MIN: u64 = 1;
const PERCENT_MAX: u64 = 90;

/// By how many halves of its size a ghost of this age moves the border, for the ages that
/// count: windows of about a twentieth of what eight buckets hold. Larger steps follow a
/// change sooner and lose more where two phases take turns; these were best over the
/// seventeen rows of the benchmark `hit_ratio`, and over the forty at 1 to 20 % of the keys.
const HALVES_SMALL: [u64; 2] = [5, 1];
const HALVES_MAIN: [u64; 2] = [4, 4];
/// What one key can move, as a part of everything.
const STEP_PARTS_MIN: u64 = 1024;

impl<H: Host> Map<H> {
    /// True if `small` is more than the small queue's share of `both`.
    pub(crate) fn is_small_over(&self, small: u64, both: u64) -> bool {
        u128::from(small) * u128::from(WHOLE) > u128::from(both) * u128::from(self.small_share())
    }

    /// The share of the small queue, in parts of [`WHOLE`].
    fn small_share(&self) -> u64 {
        // Relaxed, here and below: a hint; a lost race loses a step.
        match self.control_word(control::SMALL_SHARE).load(Ordering::Relaxed) {
            0 => WHOLE * PERCENT / 100,
            share => share.clamp(WHOLE * PERCENT_MIN / 100, WHOLE * PERCENT_MAX / 100),
        }
    }

    /// Learns from a key that was dropped and is stored again, in an item of `bytes` bytes.
    pub(crate) fn move_border(&self, ghost: Ghost, bytes: u64) {
        let halves = match ghost.queue {
            Queue::Small => &HALVES_SMALL,
            Queue::Main => &HALVES_MAIN,
        };
        let Some(halves) = halves.get(ghost.age) else { return };
        let all = self.geometry.data_bytes();
        let step = u128::from(WHOLE) * u128::from(bytes.min(all) * halves / 2) / u128::from(all);
        let step = (step as u64).min(WHOLE / STEP_PARTS_MIN);
        let share = self.small_share();
        let moved = match ghost.queue {
            Queue::Small => share + step,
            Queue::Main => share.saturating_sub(step).max(1),
        };
        self.control_word(control::SMALL_SHARE).store(moved, Ordering::Relaxed);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::layout::Mode;
    use crate::testing::{Bench, TestHost};

    fn ghost(queue: Queue, age: usize) -> Ghost {
        Ghost { queue, age }
    }

    #[test]
    fn a_young_ghost_moves_the_border_to_its_queue_and_an_old_one_does_not() {
        let bench = Bench::new(4 << 20, Mode::Evict);
        let host = TestHost::default();
        let map = bench.attach(&host, 0);
        let shares = [(Queue::Small, 0), (Queue::Small, 1), (Queue::Small, 2), (Queue::Main, 2), (Queue::Main, 1)].map(
            |(queue, age)| {
                map.move_border(ghost(queue, age), 200);
                map.small_share()
            },
        );
        assert!(WHOLE * PERCENT / 100 < shares[0] && shares[0] < shares[1], "{shares:?}");
        assert_eq!([shares[1]; 2], [shares[2], shares[3]], "too old to say anything");
        assert!(shares[4] < shares[3]);
    }

    #[test]
    fn the_border_stays_in_its_range_whatever_pulls_or_is_stored() {
        let bench = Bench::new(4 << 20, Mode::Evict);
        let host = TestHost::default();
        let map = bench.attach(&host, 0);
        for (queue, percent) in [(Queue::Small, PERCENT_MAX), (Queue::Main, PERCENT_MIN)] {
            for bytes in [0, 1, u64::MAX].into_iter().cycle().take(20_000) {
                map.move_border(ghost(queue, 0), bytes);
            }
            assert_eq!(map.small_share(), WHOLE * percent / 100);
        }
        for stored in [1, u64::MAX] {
            map.control_word(control::SMALL_SHARE).store(stored, Ordering::Relaxed);
            map.move_border(ghost(Queue::Small, 0), 100);
            assert!((WHOLE / 100..=WHOLE * 9 / 10).contains(&map.small_share()));
        }
    }
}
