//! The bytes of a region: where every word lives.
//!
//! Owns: the constants of the format, the [`Geometry`] of one region, and the
//! arithmetic between offsets, segments and locations. Every offset is built by
//! addition from the one before it; the golden test at the end pins them.
//!
//! Must never: read the region. A geometry is a private copy, checked once.
//!
//! ```text
//! 0        4096
//! +--------+---------+-------+--------------+---------+------------+------+--------+--------+----------+
//! | header | control | lanes | participants | stripes | namespaces | tags | leases | sample | segment  |
//! | 4 KiB  | 1 KiB   | 1 KiB | P x 1408 B   | T x 384 | N x 256    | 8 B  | 64 B   | 8 B    | table 64 |
//! +--------+---------+-------+--------------+---------+------------+------+--------+--------+----------+
//! | segments: S x 4 KiB .. 1 MiB, from a multiple of a segment or of 64 KiB to the end         |
//! +--------------------------------------------------------------------------------------------+
//! ```
//!

use crate::error::{Error, Result};

pub mod control;
pub mod header;
pub mod lease;
pub mod sample;

/// First word of a region that is ready, written last. Bytes "CSHMEM" and 0x1a, 0x0a.
pub const MAGIC: u64 = u64::from_le_bytes(*b"CSHMEM\x1a\x0a");
/// Version of the format in this file.
pub const FORMAT_VERSION: u32 = 1;
/// The key hash: rapidhash version 3, 64 bits, seeded per region.
pub const HASH_RAPIDHASH_V3: u64 = 1;

/// Smallest region in bytes (1 MiB).
pub const REGION_BYTES_MIN: u64 = 1 << 20;
/// Largest region in bytes (4 TiB): what 40 bits of 8-byte units address, halved.
pub const REGION_BYTES_MAX: u64 = 1 << 42;
/// Longest key in bytes.
pub const KEY_BYTES_MAX: usize = u16::MAX as usize;
/// Values from this size on are read under a pin, and start at a 64-byte boundary.
///
/// A model's segments are small, and so are its large values.
pub const COPY_BYTES_MAX: usize = if cfg!(loom) { 24 } else { 16 * 1024 };

/// log2 of the bytes of the smallest segment: a page. A model's is smaller.
pub const SEGMENT_SHIFT_MIN: u32 = if cfg!(loom) { 8 } else { 12 };
/// Memory is asked of the system in steps of at most this many bytes.
pub const CHUNK_BYTES_MAX: u64 = 64 * 1024;

/// Bytes of the header page.
pub const HEADER_BYTES: u64 = 4096;
/// Bytes of a cache line, the unit in which words are kept apart.
pub const LINE_BYTES: u64 = 64;

/// Lanes: open segments that writers append to.
pub mod lane {
    /// Lock word (32 bits).
    pub const LOCK: u64 = 0;
    /// Index of the open segment, plus 1; 0 = none.
    pub const SEGMENT: u64 = 8;
    /// Bytes of a lane's row.
    pub const BYTES: u64 = super::LINE_BYTES;
    /// Lanes of each queue.
    pub const PER_QUEUE: u32 = 8;
    /// Lanes of both queues: small first, then main.
    pub const COUNT: u32 = 2 * PER_QUEUE;
}

/// A participant slot: one per attached process.
pub mod participant {
    use super::LINE_BYTES;
    /// Generation of the slot; its low bits are in lock words.
    pub const GENERATION: u64 = 0;
    /// Process id (for people).
    pub const PID: u64 = GENERATION + 8;
    /// Start time of the process in clock ticks since boot (for people).
    pub const START_TIME: u64 = PID + 8;
    /// Milliseconds on the region's clock at attach (for people).
    pub const ATTACHED_MS: u64 = START_TIME + 8;
    /// 1 while somebody may own something by this slot, 0 when it is clean.
    pub const OCCUPIED: u64 = ATTACHED_MS + 8;
    /// Read pins: segment index + 1.
    pub const READ_PINS: u64 = LINE_BYTES;
    /// Read pin cells of a participant. A model's are few, because each that is looked at
    /// while it changes doubles what there is to explore.
    pub const READ_PIN_COUNT: u32 = if cfg!(loom) { 2 } else { 32 };
    /// Write pins of reservations that were handed to users.
    pub const RESERVATION_PINS: u64 = READ_PINS + 8 * READ_PIN_COUNT as u64;
    /// Reservation pin cells of a participant.
    pub const RESERVATION_PIN_COUNT: u32 = if cfg!(loom) { 6 } else { 8 };
    /// Workers: one per thread in flight.
    pub const WORKERS: u64 = RESERVATION_PINS + 8 * RESERVATION_PIN_COUNT as u64;
    /// Workers of a participant.
    pub const WORKER_COUNT: u32 = 8;
    /// Worker: write pin of the item being published, segment index + 1.
    pub const WORKER_PUBLISH_PIN: u64 = 0;
    /// Worker: write pin of a relocation's destination.
    pub const WORKER_RELOCATE_PIN: u64 = 8;
    /// Worker: counters, see [`crate::stats::Counter`].
    pub const WORKER_COUNTERS: u64 = 16;
    /// Counters of a worker.
    pub const COUNTER_COUNT: u32 = 14;
    /// Bytes of a worker.
    pub const WORKER_BYTES: u64 = WORKER_COUNTERS + 8 * COUNTER_COUNT as u64;
    /// Bytes of a participant slot.
    pub const BYTES: u64 = WORKERS + WORKER_BYTES * WORKER_COUNT as u64;
}

/// A stripe: one lock, one index.
pub mod stripe {
    use super::LINE_BYTES;
    /// Lock word (32 bits), a futex.
    pub const LOCK: u64 = 0;
    /// Last version given to an item of this stripe.
    pub const VERSION: u64 = LOCK + 8;
    /// Items in the index that are newer than `UNCOUNTED` (hint).
    pub const ITEMS: u64 = VERSION + 8;
    /// Times a damaged stripe was reset.
    pub const RESETS: u64 = ITEMS + 8;
    /// Items up to this version went off the count at once, with a clear (hint).
    pub const UNCOUNTED: u64 = RESETS + 8;
    /// Directory: depth, generation, location. Read-mostly from here on.
    pub const ROOT: u64 = LINE_BYTES;
    /// Region generation this stripe has caught up with.
    pub const SEEN_REGION: u64 = ROOT + 8;
    /// Items of an older version died with the clear of the region.
    pub const CLEARED_REGION: u64 = SEEN_REGION + 8;
    /// Region + default generation this stripe has caught up with.
    pub const SEEN_DEFAULT: u64 = CLEARED_REGION + 8;
    /// Items of the default namespace of an older version died with its clear.
    pub const CLEARED_DEFAULT: u64 = SEEN_DEFAULT + 8;
    /// The first directory stands in the stripe itself.
    pub const DIRECTORY: u64 = 2 * LINE_BYTES;
    /// Depth of that first directory.
    pub const DIRECTORY_DEPTH: u32 = 5;
    /// Bytes of a stripe.
    pub const BYTES: u64 = DIRECTORY + (8 << DIRECTORY_DEPTH);
}

/// A row of the segment table.
pub mod segment {
    /// State, queue, lane and owner.
    pub const STATE: u64 = 0;
    /// Incarnations: +1 before the segment becomes free.
    pub const SEQUENCE: u64 = STATE + 8;
    /// Bytes appended so far, from the segment's start.
    pub const WRITTEN: u64 = SEQUENCE + 8;
    /// Reclaim: bytes walked so far, or segments of a run.
    pub const PROGRESS: u64 = WRITTEN + 8;
    /// Bytes of items that are in the index (hint).
    pub const LIVE: u64 = PROGRESS + 8;
    /// No item has to be looked at for expiry before this time (hint).
    pub const SWEEP_DUE_MS: u64 = LIVE + 8;
    /// Latest expiry of an item, `u64::MAX` if one never expires (hint that only errs late).
    pub const LATEST_EXPIRY_MS: u64 = SWEEP_DUE_MS + 8;
    /// Order of opening in the low 52 bits; above, how much of the segment has
    /// memory of its own, in 1/4096 of a segment.
    pub const TICKET: u64 = LATEST_EXPIRY_MS + 8;
    /// Bytes of a row.
    pub const BYTES: u64 = 64;
}

/// An index block inside an index segment.
pub mod block {
    use super::LINE_BYTES;
    /// Child blocks' location for hash bit 0; 0 = not split.
    pub const CHILD0: u64 = 0;
    /// Child blocks' location for hash bit 1.
    pub const CHILD1: u64 = CHILD0 + 8;
    /// Buckets start here.
    pub const BUCKETS: u64 = LINE_BYTES;
    /// Bytes of a bucket: a change counter and seven slots.
    pub const BUCKET_BYTES: u64 = LINE_BYTES;
    /// Slots of a bucket.
    pub const SLOT_COUNT: u64 = 7;
    /// Top bit of a bucket's counter: the bucket moved to the block's children.
    pub const MOVED: u64 = 1 << 63;
    /// No writer counts so far: one bump a nanosecond takes 146 years.
    pub const COUNT_END: u64 = 1 << 62;
}

/// A row of the namespace table.
pub mod namespace {
    use super::LINE_BYTES;
    /// Generation: `clear` adds 1.
    pub const GENERATION: u64 = 0;
    /// Bytes of the name; 0 = the row is free.
    pub const NAME_BYTES: u64 = GENERATION + 8;
    /// The name.
    pub const NAME: u64 = LINE_BYTES;
    /// Counters, see [`crate::NamespaceInfo`].
    pub const COUNTERS: u64 = 2 * LINE_BYTES;
    /// Counters of a row.
    pub const COUNTER_COUNT: u64 = 6;
    /// What they were when they were last reset.
    pub const COUNTERS_BASE: u64 = COUNTERS + LINE_BYTES;
    /// Bytes of a row.
    pub const BYTES: u64 = 4 * LINE_BYTES;
}

/// Longest name of a namespace.
pub const NAMESPACE_NAME_BYTES: usize = LINE_BYTES as usize;
/// Longest tag.
pub const TAG_BYTES_MAX: usize = 255;
/// Most tags of one value.
pub const TAG_COUNT_MAX: usize = 64;

/// Deepest directory: the tag has no more hash bits to split by than it can spare.
pub const DEPTH_MAX: u32 = 16;

/// What a full region does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Drop what is least worth keeping (S3-FIFO).
    #[default]
    Evict,
    /// Drop nothing; a full region is an error.
    NoEvict,
}

/// The fixed numbers of one region: a private copy of its header, checked once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Geometry {
    /// Bytes of the region.
    pub region_bytes: u64,
    /// log2 of the bytes of a segment.
    pub segment_shift: u32,
    /// Number of segments.
    pub segment_count: u32,
    /// Number of stripes.
    pub stripe_count: u32,
    /// Number of participant slots.
    pub participant_count: u32,
    /// log2 of the buckets of an index block.
    pub bucket_shift: u32,
    /// Rows of the namespace table, the default namespace's included.
    pub namespace_count: u32,
    /// Generation words of tags.
    pub tag_count: u32,
    /// Lease rows.
    pub lease_count: u32,
    /// What a full region does.
    pub mode: Mode,
    /// Seed of the key hash.
    pub seed: u64,
    /// Offset of the control area.
    pub control_offset: u64,
    /// Offset of the lanes.
    pub lanes_offset: u64,
    /// Offset of the participant slots.
    pub participants_offset: u64,
    /// Offset of the stripes.
    pub stripes_offset: u64,
    /// Offset of the namespace rows.
    pub namespaces_offset: u64,
    /// Offset of the tag words.
    pub tags_offset: u64,
    /// Offset of the lease rows.
    pub leases_offset: u64,
    /// Offset of the sample of requests.
    pub sample_offset: u64,
    /// Records of the sample, a power of two; 0 = none.
    pub sample_count: u64,
    /// Offset of the segment table.
    pub table_offset: u64,
    /// Offset of the first segment, a multiple of the bytes of a chunk.
    pub segments_offset: u64,
}

fn power_of_two(value: u64, least: u64, most: u64) -> u32 {
    let value = value.clamp(least, most);
    (1u64 << value.ilog2()) as u32
}

impl Geometry {
    /// The geometry that a new region of `region_bytes` gets.
    ///
    /// # Errors
    /// `InvalidSize` outside [`REGION_BYTES_MIN`] to [`REGION_BYTES_MAX`].
    pub fn for_size(region_bytes: u64, mode: Mode, seed: u64) -> Result<Geometry> {
        if !(REGION_BYTES_MIN..=REGION_BYTES_MAX).contains(&region_bytes) {
            return Err(Error::InvalidSize { given: region_bytes.to_string(), bytes_min: REGION_BYTES_MIN });
        }
        let segment_shift = (region_bytes / 256).clamp(4096, 1 << 20).ilog2();
        let bucket_shift = if segment_shift <= 13 { 4 } else { 6 };
        // Every stripe has a block of its own, so that many stripes spread few keys over much
        // memory. One for each MiB: where items have some hundred bytes, the directories of all
        // of them fit the stripes.
        Geometry::build(
            region_bytes,
            segment_shift,
            power_of_two(region_bytes >> 20, 16, 1024),
            power_of_two(region_bytes >> 17, 16, 512),
            bucket_shift,
            (
                power_of_two(region_bytes >> 16, 16, 256),
                power_of_two(region_bytes >> 13, 256, 65_536),
                power_of_two(region_bytes / lease::REGION_BYTES_EACH, lease::COUNT_MIN, lease::COUNT_MAX),
            ),
            mode,
            seed,
        )
    }

    /// A geometry from its free numbers; everything else follows by addition.
    ///
    /// # Errors
    /// `Corrupt` when the numbers are out of range or do not fit the region.
    #[expect(clippy::too_many_arguments, reason = "the header's numbers, once")]
    pub fn build(
        region_bytes: u64,
        segment_shift: u32,
        stripe_count: u32,
        participant_count: u32,
        bucket_shift: u32,
        (namespace_count, tag_count, lease_count): (u32, u32, u32),
        mode: Mode,
        seed: u64,
    ) -> Result<Geometry> {
        let fits = region_bytes <= REGION_BYTES_MAX
            && (SEGMENT_SHIFT_MIN..=20).contains(&segment_shift)
            && stripe_count.is_power_of_two()
            && stripe_count <= 1024
            && (1..=4095).contains(&participant_count)
            && (1..=6).contains(&bucket_shift)
            && (1..1 << 16).contains(&namespace_count)
            && (1..=1 << 19).contains(&tag_count)
            && lease_count <= 1 << 20;
        if !fits {
            return Err(Error::Corrupt { reason: "a number of the geometry is out of range" });
        }
        let control_offset = HEADER_BYTES;
        let lanes_offset = control_offset + control::BYTES;
        let participants_offset = lanes_offset + lane::BYTES * u64::from(lane::COUNT);
        let stripes_offset = participants_offset + participant::BYTES * u64::from(participant_count);
        let namespaces_offset = stripes_offset + stripe::BYTES * u64::from(stripe_count);
        let tags_offset = namespaces_offset + namespace::BYTES * u64::from(namespace_count);
        let leases_offset = tags_offset + 8 * u64::from(tag_count);
        let sample_offset = (leases_offset + lease::BYTES * u64::from(lease_count)).next_multiple_of(LINE_BYTES);
        let sample_count = sample::count(region_bytes);
        let sample_bytes = if sample_count == 0 { 0 } else { sample::RECORDS + 8 * sample_count };
        let table_offset = sample_offset + sample_bytes;
        // The table needs a row for each segment, the segments what is left.
        let chunk_bytes = CHUNK_BYTES_MAX.min(1 << segment_shift);
        let mut segment_count = region_bytes.saturating_sub(table_offset) / ((1 << segment_shift) + segment::BYTES);
        let mut segments_offset;
        loop {
            segments_offset = (table_offset + segment::BYTES * segment_count).next_multiple_of(chunk_bytes);
            if segments_offset + (segment_count << segment_shift) <= region_bytes || segment_count == 0 {
                break;
            }
            segment_count -= 1;
        }
        if segment_count < 4 || segment_count > u64::from(u32::MAX / 2) {
            return Err(Error::Corrupt { reason: "the region is too small for its geometry" });
        }
        let geometry = Geometry {
            region_bytes,
            segment_shift,
            segment_count: segment_count as u32,
            stripe_count,
            participant_count,
            bucket_shift,
            namespace_count,
            tag_count,
            lease_count,
            mode,
            seed,
            control_offset,
            lanes_offset,
            participants_offset,
            stripes_offset,
            namespaces_offset,
            tags_offset,
            leases_offset,
            sample_offset,
            sample_count,
            table_offset,
            segments_offset,
        };
        if geometry.blocks_per_segment() == 0 {
            return Err(Error::Corrupt { reason: "an index block does not fit a segment" });
        }
        Ok(geometry)
    }

    /// Bytes of a segment.
    #[inline]
    pub fn segment_bytes(&self) -> u64 {
        1 << self.segment_shift
    }

    /// Bytes of a chunk: memory is asked of the system, and known to be there, by chunks.
    /// Segments are whole chunks, and so is what comes before them.
    #[inline]
    pub fn chunk_bytes(&self) -> u64 {
        CHUNK_BYTES_MAX.min(self.segment_bytes())
    }

    /// Bytes of all segments.
    pub fn data_bytes(&self) -> u64 {
        u64::from(self.segment_count) << self.segment_shift
    }

    /// Offset of segment `index`'s first byte.
    #[inline]
    pub fn segment_offset(&self, index: u32) -> u64 {
        self.segments_offset + (u64::from(index) << self.segment_shift)
    }

    /// The segment that holds the byte at `offset`, if any does.
    #[inline]
    pub fn segment_of(&self, offset: u64) -> Option<u32> {
        let index = offset.checked_sub(self.segments_offset)? >> self.segment_shift;
        (index < u64::from(self.segment_count)).then_some(index as u32)
    }

    /// Offset of the byte after the last segment.
    #[inline]
    pub fn segments_end(&self) -> u64 {
        self.segments_offset + self.data_bytes()
    }

    /// Offset of row `index` of the segment table.
    #[inline]
    pub fn row_offset(&self, index: u32) -> u64 {
        self.table_offset + segment::BYTES * u64::from(index)
    }

    /// Offset of stripe `index`.
    #[inline]
    pub fn stripe_offset(&self, index: u32) -> u64 {
        self.stripes_offset + stripe::BYTES * u64::from(index)
    }

    /// Offset of participant slot `index`.
    #[inline]
    pub fn participant_offset(&self, index: u32) -> u64 {
        self.participants_offset + participant::BYTES * u64::from(index)
    }

    /// Offset of lease row `index`.
    #[inline]
    pub fn lease_offset(&self, index: u32) -> u64 {
        self.leases_offset + lease::BYTES * u64::from(index)
    }

    /// Offset of lane `index`.
    #[inline]
    pub fn lane_offset(&self, index: u32) -> u64 {
        self.lanes_offset + lane::BYTES * u64::from(index)
    }

    /// Buckets of an index block.
    #[inline]
    pub fn bucket_count(&self) -> u64 {
        1 << self.bucket_shift
    }

    /// Bytes of an index block: its line, its buckets, a ghost word per bucket.
    #[inline]
    pub fn block_bytes(&self) -> u64 {
        (block::BUCKETS + self.bucket_count() * (block::BUCKET_BYTES + 8)).next_multiple_of(LINE_BYTES)
    }

    /// Index blocks of an index segment; before them stands a state word for each.
    #[inline]
    pub fn blocks_per_segment(&self) -> u64 {
        let count = self.segment_bytes() / (self.block_bytes() + 8);
        let words = (8 * count).next_multiple_of(LINE_BYTES);
        if words + count * self.block_bytes() <= self.segment_bytes() { count } else { count.saturating_sub(1) }
    }

    /// Offset of the first block inside an index segment.
    #[inline]
    pub fn first_block(&self) -> u64 {
        (8 * self.blocks_per_segment()).next_multiple_of(LINE_BYTES)
    }

    /// Deepest directory that fits an index segment.
    pub fn depth_max(&self) -> u32 {
        let entries = self.blocks_per_segment() * self.block_bytes() / 8;
        entries.ilog2().min(DEPTH_MAX)
    }

    /// Largest item in bytes, header and key included: a quarter of the region,
    /// or what a 32-bit length can say.
    pub fn item_bytes_max(&self) -> u64 {
        let quarter = u64::from((self.segment_count / 4).max(1)) << self.segment_shift;
        quarter.min(u64::from(u32::MAX))
    }
}

const _: () = {
    assert!(header::CHECKSUM + 8 <= header::DESTROYED);
    assert!(control::EVICTED_AGE_MS + 8 <= control::STATS_BASE);
    assert!(control::STATS_BASE + 8 * participant::COUNTER_COUNT as u64 <= control::BYTES);
    assert!(namespace::COUNTERS + 8 * namespace::COUNTER_COUNT <= namespace::BYTES);
    assert!(participant::BYTES == if cfg!(loom) { 1152 } else { 1408 });
    assert!(participant::WORKERS.is_multiple_of(LINE_BYTES));
    assert!(participant::WORKER_BYTES.is_multiple_of(LINE_BYTES));
    assert!(stripe::CLEARED_DEFAULT + 8 <= stripe::DIRECTORY && stripe::BYTES == 384);
    assert!(segment::TICKET + 8 == segment::BYTES);
    assert!(8 * block::SLOT_COUNT + 8 == block::BUCKET_BYTES);
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_of_a_64_mib_region_never_changes() {
        let g = Geometry::for_size(64 << 20, Mode::Evict, 7).unwrap();
        let offsets = [
            g.control_offset,
            g.lanes_offset,
            g.participants_offset,
            g.stripes_offset,
            g.namespaces_offset,
            g.tags_offset,
            g.leases_offset,
            g.sample_offset,
            g.table_offset,
            g.segments_offset,
        ];
        assert_eq!(offsets, [4096, 5120, 6144, 727_040, 751_616, 817_152, 882_688, 1_013_760, 1_336_640, 1_376_256]);
        assert_eq!((g.segment_shift, g.segment_count, g.stripe_count, g.participant_count), (18, 250, 64, 512));
        assert_eq!((g.lease_count, g.sample_count), (2048, 40_320));
        assert_eq!((g.block_bytes(), g.blocks_per_segment(), g.first_block()), (4672, 56, 448));
        assert_eq!(header::CHECKSUM, 184);
    }

    #[test]
    fn every_size_has_a_geometry_that_fits() {
        let mut bytes = REGION_BYTES_MIN;
        while bytes <= REGION_BYTES_MAX {
            for bytes in [bytes, bytes + 4096, bytes + bytes / 3] {
                let Ok(g) = Geometry::for_size(bytes, Mode::Evict, 0) else { continue };
                assert!(g.segments_end() <= bytes && g.segments_offset.is_multiple_of(g.chunk_bytes()), "{g:?}");
                assert!(g.segment_count >= 128, "{g:?}");
                assert!(g.blocks_per_segment() >= 1 && g.depth_max() >= 4, "{g:?}");
                assert!(g.first_block() + g.blocks_per_segment() * g.block_bytes() <= g.segment_bytes());
                assert!((g.table_offset - g.sample_offset) * 200 <= bytes && g.sample_count.is_multiple_of(16));
                assert!(g.segments_offset * 100 <= bytes * 8, "{bytes}: fixed parts take {}", g.segments_offset);
            }
            bytes *= 2;
        }
    }
}
