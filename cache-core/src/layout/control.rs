//! Words of the control area, as offsets from its start.

use super::LINE_BYTES;

/// Generation of the region: `clear` adds 1. Read by every get.
pub const REGION_GENERATION: u64 = 0;
/// Generation of the default namespace: its `clear` adds 1.
pub const DEFAULT_GENERATION: u64 = REGION_GENERATION + 8;
/// Hand-overs of pins at fork.
pub const HANDOVER_COUNT: u64 = DEFAULT_GENERATION + 8;
/// One more than the highest participant slot ever used.
pub const PARTICIPANT_HIGH: u64 = HANDOVER_COUNT + 8;
/// Stripes that repair emptied.
pub const RESETS: u64 = PARTICIPANT_HIGH + 8;
/// Next ticket: the order in which segments were opened.
pub const TICKET: u64 = LINE_BYTES;
/// Tickets below this were opened before the last clear (hint).
pub const CLEARED_TICKET: u64 = TICKET + 8;
/// Free segments (hint).
pub const FREE_HINT: u64 = 2 * LINE_BYTES;
/// Index of a half-reclaimed segment, plus 1 (hint).
pub const VICTIM_HINT: u64 = FREE_HINT + 8;
/// Index segment that last had a free block, plus 1 (hint).
pub const INDEX_HINT: u64 = VICTIM_HINT + 8;
/// Share of the small queue, in parts of 2^32; 0 = as in a new region (hint).
pub const SMALL_SHARE: u64 = INDEX_HINT + 8;
/// Not 0: items died by their marks since the segments were last said to be due for a sweep
/// (hint).
pub const MARKS_ENDED: u64 = SMALL_SHARE + 8;
/// Counters of participants that are gone.
pub const FOLDED: u64 = 4 * LINE_BYTES;
/// Counters of whole-region events that no participant owns.
pub const EVENTS: u64 = FOLDED + 2 * LINE_BYTES;
/// Last token given to the holder of a lease.
pub const LEASE_TOKEN: u64 = EVENTS + 2 * LINE_BYTES;
/// 1 once a lease row had a name (hint).
pub const LEASES_USED: u64 = LEASE_TOKEN + 8;
/// Lock word (32 bits) of those who make namespaces.
pub const NAMESPACES_LOCK: u64 = LEASES_USED + 8;
/// How long the segment that an item was last evicted from had been in its queue, in
/// milliseconds (hint).
pub const EVICTED_AGE_MS: u64 = NAMESPACES_LOCK + 8;
/// Counters when they were last reset.
pub const STATS_BASE: u64 = LEASE_TOKEN + LINE_BYTES;
/// Bytes of the control area.
pub const BYTES: u64 = 1024;
