//! The sample of requests: a ring of records, and what had been read at some of its places.
//!
//! ```text
//! 0      8       16     24     64            320
//! +------+-------+------+------+-------------+------------+
//! | next | shift | from | 0    | 16 x (gets, | records, 8 |
//! |      |       |      |      | misses)     | bytes each |
//! +------+-------+------+------+-------------+------------+
//! ```

use super::LINE_BYTES;
use std::ops::RangeInclusive;

/// Number of the next record; it is at this modulo their count.
pub const NEXT: u64 = 0;
/// log2 of the keys of which one is chosen, now.
pub const SHIFT: u64 = NEXT + 8;
/// Number of the first record since more keys were chosen than before.
pub const FROM: u64 = SHIFT + 8;
/// What had been read when the first record of each part of the ring was written.
pub const MARKS: u64 = LINE_BYTES;
/// Parts of the ring.
pub const MARK_COUNT: u64 = 16;
/// The records.
pub const RECORDS: u64 = MARKS + 16 * MARK_COUNT;

/// A region has a record for so many of its bytes,
const REGION_BYTES_EACH: u64 = 1664;
/// and at most so many; a smaller one than this keeps no sample.
const COUNT_MAX: u64 = 1 << 17;
const REGION_BYTES_MIN: u64 = 8 << 20;
/// Records for each chosen key that the region holds.
pub const RECORDS_EACH: u64 = 32;
/// One key in 128 is chosen at most, and one in 2^18 at least.
pub const SHIFTS: RangeInclusive<u32> = 7..=18;
/// Lowest of the bits of a hash by which keys are chosen.
pub const LOWEST_BIT: u32 = 33;

/// Records of a region of that size, so many in each part of the ring; 0 = it keeps no sample.
pub fn count(region_bytes: u64) -> u64 {
    if cfg!(loom) || region_bytes < REGION_BYTES_MIN {
        return 0;
    }
    (region_bytes / REGION_BYTES_EACH).min(COUNT_MAX) / MARK_COUNT * MARK_COUNT
}

/// log2 of the keys of which one is to be chosen where a region with so many records holds so many
/// items.
pub fn shift(count: u64, items: u64) -> u32 {
    let chosen = (count / RECORDS_EACH).max(1);
    items.div_ceil(chosen).max(1).ilog2().clamp(*SHIFTS.start(), *SHIFTS.end())
}
