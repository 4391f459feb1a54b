//! Words of the header, as offsets from the region's start.

/// [`super::MAGIC`], written last.
pub const MAGIC: u64 = 0;
/// Format version.
pub const VERSION: u64 = MAGIC + 8;
/// Features that a reader must know to open the region (none yet).
pub const FEATURES: u64 = VERSION + 8;
/// Bytes of the whole region.
pub const REGION_BYTES: u64 = FEATURES + 8;
/// log2 of the bytes of a segment.
pub const SEGMENT_SHIFT: u64 = REGION_BYTES + 8;
/// Number of segments.
pub const SEGMENT_COUNT: u64 = SEGMENT_SHIFT + 8;
/// Number of stripes, a power of two.
pub const STRIPE_COUNT: u64 = SEGMENT_COUNT + 8;
/// Number of participant slots.
pub const PARTICIPANT_COUNT: u64 = STRIPE_COUNT + 8;
/// log2 of the buckets of an index block.
pub const BUCKET_SHIFT: u64 = PARTICIPANT_COUNT + 8;
/// Number of namespace rows.
pub const NAMESPACE_COUNT: u64 = BUCKET_SHIFT + 8;
/// Number of tag words.
pub const TAG_COUNT: u64 = NAMESPACE_COUNT + 8;
/// Number of lease rows.
pub const LEASE_COUNT: u64 = TAG_COUNT + 8;
/// 0 = evict when full, 1 = no-evict.
pub const MODE: u64 = LEASE_COUNT + 8;
/// Which hash the keys use.
pub const HASH: u64 = MODE + 8;
/// Seed of the hash.
pub const SEED: u64 = HASH + 8;
/// Random identity of this region, 16 bytes.
pub const REGION_ID: u64 = SEED + 8;
/// Identity of the boot in which it was made, 16 bytes.
pub const BOOT_ID: u64 = REGION_ID + 16;
/// Creation time, milliseconds since 1970 (for people).
pub const CREATED_UNIX_MS: u64 = BOOT_ID + 16;
/// Process id of the maker (for people).
pub const CREATOR_PID: u64 = CREATED_UNIX_MS + 8;
/// 1 = the region goes with its last participant.
pub const EPHEMERAL: u64 = CREATOR_PID + 8;
/// Permission bits that the maker chose.
pub const FILE_MODE: u64 = EPHEMERAL + 8;
/// rapidhash of the words from VERSION to FILE_MODE.
pub const CHECKSUM: u64 = FILE_MODE + 8;
/// Not zero: the region was destroyed. The one header word that changes.
pub const DESTROYED: u64 = 2048;
