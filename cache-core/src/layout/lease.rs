//! A lease row: a name that one thread holds, or the state of a rate limit.
//!
//! ```text
//! 0      4       8         16         24              32               40      48       56     60
//! +------+-------+---------+----------+---------------+----------------+-------+--------+------+--------+
//! | lock | place | name    | name     | owner 32,     | holder, or     | token | until, | bell | agreed |
//! | 32   | 32    | low     | high     | depth 32      | arrival time   |       | ms     | 32   | 32     |
//! +------+-------+---------+----------+---------------+----------------+-------+--------+------+--------+
//! ```

use super::LINE_BYTES;

/// Lock word (32 bits) of the row.
pub const LOCK: u64 = 0;
/// Lock word (32 bits) of those who look for a row for a name that begins its search here.
pub const PLACE: u64 = LOCK + 4;
/// The name's hash of 128 bits, low word first, which is 0 in a row without a name. Then
/// owner and depth, holder or arrival time, token, deadline.
pub const NAME: u64 = PLACE + 4;
/// Words from there on.
pub const WORD_COUNT: usize = 6;
/// Futex (32 bits) of those who wait.
pub const BELL: u64 = NAME + 8 * WORD_COUNT as u64;
/// What its holder said (32 bits): of a semaphore how many permits it has, of a rate limit a
/// digest of its numbers.
pub const AGREED: u64 = BELL + 4;
/// Bytes of a row.
pub const BYTES: u64 = LINE_BYTES;

/// A region has a row for so many of its bytes,
pub const REGION_BYTES_EACH: u64 = 32 * 1024;
/// but at least so many rows,
pub const COUNT_MIN: u64 = 64;
/// and at most so many.
pub const COUNT_MAX: u64 = 16_384;

const _: () = assert!(AGREED + 4 <= BYTES);
