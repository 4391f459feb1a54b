//! Counters: kept per worker, summed on demand.
//!
//! Owns: the list of counters and [`Stats`]. Nothing is ever decided by a counter.

use crate::layout::participant::COUNTER_COUNT;

macro_rules! counters {
    ($($variant:ident $field:ident $doc:literal;)*) => {
        /// What a worker counts.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Counter { $(#[doc = $doc] $variant,)* }

        pub(crate) const NAMES: &[&str] = &[$(stringify!($field)),*];

        /// The counters and sizes of a region at one moment. Each is exact when nobody is at work,
        /// but that of items and their bytes what expired, or died with a clear, a namespace or a
        /// tag, may be counted until it is met. Together they are not one instant.
        #[derive(Debug, Clone, Default, PartialEq, Eq)]
        pub struct Stats {
            $(#[doc = $doc] pub $field: u64,)*
            /// Items in the index (a hint, see `Map::len` for an exact count).
            pub items: u64,
            /// Bytes of items in the index, headers and keys included (hint).
            pub live_bytes: u64,
            /// Bytes in segments that are dead and not yet reclaimed (hint).
            pub dead_bytes: u64,
            /// Bytes of free segments.
            pub free_bytes: u64,
            /// Bytes of index segments.
            pub index_bytes: u64,
            /// Bytes of segments of the small queue.
            pub small_bytes: u64,
            /// Bytes of segments of the main queue.
            pub main_bytes: u64,
            /// Bytes that wait for a pin to go.
            pub condemned_bytes: u64,
            /// Bytes of the region.
            pub region_bytes: u64,
            /// Bytes of the fixed parts before the first segment.
            pub fixed_bytes: u64,
            /// Bytes of a segment.
            pub segment_bytes: u64,
            /// Number of segments.
            pub segments: u64,
            /// Number of stripes.
            pub stripes: u64,
            /// Participants attached.
            pub participants: u64,
            /// Participant slots.
            pub participants_max: u64,
            /// Pins held.
            pub pins: u64,
            /// Milliseconds that the segment from which an item was last evicted had been in its
            /// queue: about how long a value that nobody reads stays.
            pub evicted_age_ms: u64,
        }

        impl Stats {
            pub(crate) fn add_counters(&mut self, counters: &[u64; COUNTER_COUNT as usize]) {
                $(self.$field = self.$field.wrapping_add(counters[Counter::$variant as usize]);)*
            }

            /// Every field with its name, in a fixed order.
            pub fn fields(&self) -> Vec<(&'static str, u64)> {
                let mut fields = vec![$((stringify!($field), self.$field)),*];
                fields.extend([
                    ("items", self.items),
                    ("live_bytes", self.live_bytes),
                    ("dead_bytes", self.dead_bytes),
                    ("free_bytes", self.free_bytes),
                    ("index_bytes", self.index_bytes),
                    ("small_bytes", self.small_bytes),
                    ("main_bytes", self.main_bytes),
                    ("condemned_bytes", self.condemned_bytes),
                    ("region_bytes", self.region_bytes),
                    ("fixed_bytes", self.fixed_bytes),
                    ("segment_bytes", self.segment_bytes),
                    ("segments", self.segments),
                    ("stripes", self.stripes),
                    ("participants", self.participants),
                    ("participants_max", self.participants_max),
                    ("pins", self.pins),
                    ("evicted_age_ms", self.evicted_age_ms),
                ]);
                fields
            }
        }
    };
}

counters! {
    Hits hits "Reads that found their key.";
    Misses misses "Reads that did not.";
    Sets sets "Values stored, by whatever operation.";
    Deletes deletes "Keys removed on request.";
    Evictions evictions "Unexpired items dropped to make room.";
    Expirations expirations "Items dropped because they had expired or were cleared.";
    GhostHits ghost_hits "Values stored in the main queue because their key was dropped recently.";
    SetBytes set_bytes "Bytes of items stored, headers and keys included.";
    RelocatedBytes relocated_bytes "Bytes of items copied on by reclaim.";
    Busy busy "Attempts that found a lock held until their time was up; Python tries once before it waits.";
    Full full "Calls that found no room.";
    TakeOvers take_overs "Locks taken over from the dead.";
    Splits splits "Index blocks split.";
    Retries retries "Reads that were overtaken by a writer and began again.";
}

const _: () = assert!(NAMES.len() == COUNTER_COUNT as usize);
