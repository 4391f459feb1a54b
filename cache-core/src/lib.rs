//! The algorithm of the shared-memory cache, over borrowed memory.
//!
//! No system calls, no clock, no mapping: those are behind [`Host`]. What the words of a
//! region mean is in `docs/region-format.md`, why the protocols are right in
//! `docs/design.md`.
//!
//! Reading order: [`layout`] (the bytes), `slot` and `item` (the words), `index`, `candidate` and
//! `common` (how a key is found), `write`, `locate` and `fill` (how a value is published), `ops` and
//! `update` (what is decided on that way), `lane` and `segment` (where it lies), `mark` and `namespace`
//! (how many die at once), `census`, `reclaim`, `victim`, `ghost` and `share` (how space comes back),
//! `ahead` (before it is needed), `split` and `blocks` (how the index grows), [`lock`], `participant`,
//! `pin` and `readable` (who holds what, and what has memory), `lease` and `limit` (what users hold
//! by name), `carry` (what a copy of it all reads), `observe` (what people are shown), `sample` (what
//! was asked for lately), `validate` (the check of it all), `repair` (the cure).
//!
//! Data flows one way: map -> stripe -> block -> bucket -> slot -> item.

pub mod error;
pub mod header;
pub mod host;
pub mod layout;
pub mod lock;
#[cfg(loom)]
pub mod model;
pub mod participant;
pub mod safety;
pub mod stats;
pub mod sync;
#[cfg(all(test, not(loom)))]
pub mod testing;
mod types;
mod update;

mod ahead;
mod blocks;
mod candidate;
mod carry;
mod census;
mod common;
mod deadline;
mod fill;
mod ghost;
mod hash;
mod index;
mod item;
mod lane;
mod lease;
mod limit;
mod locate;
mod map;
mod mark;
mod namespace;
mod observe;
mod ops;
mod pin;
mod readable;
mod reclaim;
mod region;
mod repair;
mod run;
mod sample;
mod scan;
mod segment;
mod share;
mod slot;
mod split;
mod validate;
mod victim;
mod walk;
mod witness;
mod write;

#[cfg(all(test, not(loom)))]
mod tests;

pub use carry::Carried;
pub use error::{Error, Result};
pub use host::Host;
pub use layout::{
    COPY_BYTES_MAX, FORMAT_VERSION, Geometry, KEY_BYTES_MAX, Mode, NAMESPACE_NAME_BYTES, REGION_BYTES_MAX,
    REGION_BYTES_MIN, TAG_BYTES_MAX, TAG_COUNT_MAX,
};
pub use lease::{Kind, Lease, Name, Terms};
pub use limit::{Hit, Limit, PERMIT_COUNT_MAX};
pub use lock::Owner;
pub use map::{Map, PinnedValue, View};
pub use namespace::NamespaceInfo;
pub use observe::{HeldLease, ParticipantInfo, SegmentInfo, SegmentUse};
pub use region::Region;
pub use repair::Repaired;
pub use sample::{Reads, Request, Sample, What};
pub use scan::Cursor;
pub use stats::{Counter, Stats};
pub use types::{
    Buffer, Cas, Destination, Key, Meta, NEVER, Namespace, TIMEOUT_NS_DEFAULT, WriteOptions, key_form, kind,
};
pub use update::{Change, Decide};
pub use validate::Report;
pub use witness::Witness;
