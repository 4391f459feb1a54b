//! The header page: what a region is, written once and checked at every attach.
//!
//! Owns: writing, publishing and parsing it. Only `cache-shm` calls this, at creation
//! and attach; afterwards the numbers live in a private [`Geometry`].

use crate::layout::{FORMAT_VERSION, Geometry, HASH_RAPIDHASH_V3, HEADER_BYTES, MAGIC, Mode, control, header};
use crate::region::Region;
use crate::sync::Ordering;

/// Tokens of leases that a second has room for: 2^20, and 2^53 last until the year 2242.
const TOKENS_PER_SECOND_SHIFT: u32 = 20;

/// Who made a region, when, and for whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Random bytes that name this region.
    pub region_id: [u8; 16],
    /// The boot in which it was made.
    pub boot_id: [u8; 16],
    /// Creation time in milliseconds since 1970.
    pub created_unix_ms: u64,
    /// Process id of the maker.
    pub creator_pid: u32,
    /// The region goes with its last participant.
    pub ephemeral: bool,
    /// Permission bits the maker chose.
    pub file_mode: u32,
}

/// Why a first page is not the header of a region that can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeaderError {
    /// Not a region of any version.
    NotRegion(&'static str),
    /// The magic is not there yet: its maker is at work, or died.
    Half,
    /// Another format version.
    Version(u32),
    /// The numbers contradict each other.
    Corrupt(&'static str),
}

/// Bytes from the start of the region that must have memory before anybody attaches.
pub fn fixed_bytes(geometry: &Geometry) -> u64 {
    geometry.segments_offset
}

fn half(bytes: &[u8; 16], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

fn words(geometry: &Geometry, identity: &Identity) -> [(u64, u64); 22] {
    [
        (header::VERSION, u64::from(FORMAT_VERSION)),
        (header::FEATURES, 0),
        (header::REGION_BYTES, geometry.region_bytes),
        (header::SEGMENT_SHIFT, u64::from(geometry.segment_shift)),
        (header::SEGMENT_COUNT, u64::from(geometry.segment_count)),
        (header::STRIPE_COUNT, u64::from(geometry.stripe_count)),
        (header::PARTICIPANT_COUNT, u64::from(geometry.participant_count)),
        (header::BUCKET_SHIFT, u64::from(geometry.bucket_shift)),
        (header::NAMESPACE_COUNT, u64::from(geometry.namespace_count)),
        (header::TAG_COUNT, u64::from(geometry.tag_count)),
        (header::LEASE_COUNT, u64::from(geometry.lease_count)),
        (header::MODE, u64::from(geometry.mode == Mode::NoEvict)),
        (header::HASH, HASH_RAPIDHASH_V3),
        (header::SEED, geometry.seed),
        (header::REGION_ID, half(&identity.region_id, 0)),
        (header::REGION_ID + 8, half(&identity.region_id, 8)),
        (header::BOOT_ID, half(&identity.boot_id, 0)),
        (header::BOOT_ID + 8, half(&identity.boot_id, 8)),
        (header::CREATED_UNIX_MS, identity.created_unix_ms),
        (header::CREATOR_PID, u64::from(identity.creator_pid)),
        (header::EPHEMERAL, u64::from(identity.ephemeral)),
        (header::FILE_MODE, u64::from(identity.file_mode)),
    ]
}

fn checksum(bytes: &[u8]) -> u64 {
    rapidhash::v3::rapidhash_v3(bytes)
}

/// Writes everything but the magic into zeroed memory.
pub fn write(region: &Region, geometry: &Geometry, identity: &Identity) {
    let mut page = [0u8; header::CHECKSUM as usize];
    for (offset, value) in words(geometry, identity) {
        // Relaxed: nobody reads the region before the magic is published.
        region.word(offset).store(value, Ordering::Relaxed);
        page[offset as usize..offset as usize + 8].copy_from_slice(&value.to_le_bytes());
    }
    // Tokens of leases grow on when a region is made anew, as long as the wall clock does: who
    // guards something that outlives the region compares them with those of the one before.
    let tokens_from = (identity.created_unix_ms / 1000) << TOKENS_PER_SECOND_SHIFT;
    // Relaxed, here and below: as above.
    region.word(geometry.control_offset + control::LEASE_TOKEN).store(tokens_from, Ordering::Relaxed);
    region.word(header::CHECKSUM).store(checksum(&page[header::VERSION as usize..]), Ordering::Relaxed);
}

/// Makes the region openable. The last step of a creation.
pub fn publish(region: &Region) {
    // Release: publishes the header and the zeroed tables; an opener reads the page
    // through a system call after the file was linked.
    region.word(header::MAGIC).store(MAGIC, Ordering::Release);
}

/// Reads the first page of a file. Total: any bytes give a geometry or an error.
///
/// # Errors
/// See [`HeaderError`].
pub fn parse(page: &[u8]) -> Result<(Geometry, Identity), HeaderError> {
    let word = |offset: u64| -> Option<u64> {
        let at = offset as usize;
        Some(u64::from_le_bytes(page.get(at..at + 8)?.try_into().ok()?))
    };
    let get = |offset| word(offset).ok_or(HeaderError::NotRegion("it is shorter than a header"));
    let small = |offset| -> Result<u32, HeaderError> {
        u32::try_from(get(offset)?).map_err(|_| HeaderError::Corrupt("a number of the header is out of range"))
    };
    if page.len() < HEADER_BYTES as usize {
        return Err(HeaderError::NotRegion("it is shorter than a header"));
    }
    match get(header::MAGIC)? {
        MAGIC => {}
        0 => return Err(HeaderError::Half),
        _ => return Err(HeaderError::NotRegion("its first bytes are not those of a region")),
    }
    let version = small(header::VERSION)?;
    if version != FORMAT_VERSION {
        return Err(HeaderError::Version(version));
    }
    if checksum(&page[header::VERSION as usize..header::CHECKSUM as usize]) != get(header::CHECKSUM)? {
        return Err(HeaderError::Corrupt("the header's checksum does not match"));
    }
    if get(header::FEATURES)? != 0 {
        return Err(HeaderError::Corrupt("it uses features that this version does not know"));
    }
    if get(header::HASH)? != HASH_RAPIDHASH_V3 {
        return Err(HeaderError::Corrupt("it names an unknown key hash"));
    }
    let mode = match get(header::MODE)? {
        0 => Mode::Evict,
        1 => Mode::NoEvict,
        _ => return Err(HeaderError::Corrupt("its mode is unknown")),
    };
    let geometry = Geometry::build(
        get(header::REGION_BYTES)?,
        small(header::SEGMENT_SHIFT)?,
        small(header::STRIPE_COUNT)?,
        small(header::PARTICIPANT_COUNT)?,
        small(header::BUCKET_SHIFT)?,
        (small(header::NAMESPACE_COUNT)?, small(header::TAG_COUNT)?, small(header::LEASE_COUNT)?),
        mode,
        get(header::SEED)?,
    )
    .map_err(|_| HeaderError::Corrupt("the numbers of its geometry do not fit together"))?;
    if geometry.segment_count != small(header::SEGMENT_COUNT)? {
        return Err(HeaderError::Corrupt("its number of segments does not follow from its size"));
    }
    let bytes16 = |offset: u64| -> [u8; 16] {
        page[offset as usize..offset as usize + 16].try_into().expect("sixteen bytes of a whole page")
    };
    let identity = Identity {
        region_id: bytes16(header::REGION_ID),
        boot_id: bytes16(header::BOOT_ID),
        created_unix_ms: get(header::CREATED_UNIX_MS)?,
        creator_pid: small(header::CREATOR_PID)?,
        ephemeral: get(header::EPHEMERAL)? != 0,
        file_mode: small(header::FILE_MODE)?,
    };
    Ok((geometry, identity))
}

/// True once somebody destroyed the region.
pub fn is_destroyed(region: &Region) -> bool {
    // Relaxed: the flag carries no other data.
    region.word(header::DESTROYED).load(Ordering::Relaxed) != 0
}

/// Tells everybody who is attached that the region is gone.
pub fn mark_destroyed(region: &Region) {
    // Relaxed, as above.
    region.word(header::DESTROYED).store(1, Ordering::Relaxed);
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::testing::Memory;

    #[test]
    fn a_header_reads_back_as_it_was_written_and_every_flipped_bit_is_noticed() {
        let geometry = Geometry::for_size(1 << 20, Mode::NoEvict, 99).unwrap();
        let identity = Identity {
            region_id: [3; 16],
            boot_id: [4; 16],
            created_unix_ms: 5,
            creator_pid: 6,
            ephemeral: true,
            file_mode: 0o600,
        };
        let memory = Memory::new(1 << 20);
        let region = memory.region();
        write(&region, &geometry, &identity);
        assert_eq!(parse(memory.bytes()), Err(HeaderError::Half));
        publish(&region);
        assert_eq!(parse(memory.bytes()), Ok((geometry, identity)));
        for bit in 0..(header::CHECKSUM + 8) * 8 {
            let mut page = memory.bytes()[..4096].to_vec();
            page[bit as usize / 8] ^= 1 << (bit % 8);
            assert!(parse(&page).is_err(), "bit {bit} flipped unnoticed");
        }
    }
}
