//! Where keys go, as the format says.

use cache_core::Geometry;
use rapidhash::v3::{RapidSecrets, rapidhash_v3_seeded};

/// The stripe of a key.
pub fn stripe_of(geometry: &Geometry, key: &[u8]) -> u32 {
    let hash = rapidhash_v3_seeded(key, &RapidSecrets::seed(geometry.seed));
    (hash >> 54) as u32 & (geometry.stripe_count - 1)
}
