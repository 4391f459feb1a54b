//! Snapshots: the contents of a region in a file, and back.
//!
//! [`write()`] walks over the index while others work. Each value is one completed set that was
//! there at some moment of the walk, and a key that is there all the time is in the file; the
//! file as a whole is not one instant. [`restore`] stores the values in any region, of whatever
//! size: versions are new, what expired meanwhile is left out, and what was in use counts as
//! used, so that it stays where not all of it has room.
//!
//! The file appears under its name complete, or not at all: it is written with mode 0600
//! and without a name, synced, and then put in the place of the old one, which follows no
//! symbolic link. It is versioned and every
//! part of it has a checksum; its end says how much there was, so a file that was cut off
//! is known as such. Nothing of a damaged file is stored unless the undamaged rest is asked for.
//!
//! **Tags** have no names in a region, only numbers that mean nothing in another. A value with tags
//! is therefore left out by a restore, because no eviction by its tag would find it any more;
//! `with_tagged` stores it without them.
//!
//! Reading order: `format` (the bytes), `writing`, `reading` (chunks, and the way past damage),
//! `restoring`.

mod format;
mod reading;
mod restoring;
#[cfg(test)]
mod tests;
mod writing;

use std::fmt;
use std::ops::ControlFlow;

pub use format::Header;
pub use reading::{check, header};
pub use restoring::{Options, Restored, restore, restore_from};
pub use writing::{Summary, Unpublished, check_place, write, write_to};
pub(crate) use writing::{directory_of, hidden};

/// How far a snapshot or a restore got.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Items so far.
    pub items: u64,
    /// About how many there are.
    pub items_expected: u64,
    /// Bytes of the snapshot so far.
    pub bytes: u64,
}

/// Who is told how far it got, and may end it.
pub type Watch<'a> = dyn FnMut(Progress) -> ControlFlow<()> + 'a;

/// Watches nothing and ends nothing.
pub fn unwatched(_: Progress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// What is wrong with a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Problem {
    /// It is no snapshot.
    NotSnapshot,
    /// It is one of another format.
    Version {
        /// The format's version.
        found: u32,
    },
    /// Bytes of it changed.
    Damaged {
        /// Where the damaged part begins, from the start of the file.
        offset: u64,
        /// What gave it away.
        what: &'static str,
    },
    /// It ends too early.
    Truncated {
        /// Its length.
        bytes: u64,
    },
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::NotSnapshot => {
                f.write_str("is no snapshot: its first bytes are others; `cache-shm dump` writes one")
            }
            Problem::Version { found } => write!(
                f,
                "is a snapshot of format version {found}, and this release reads version {}; restore it with the release that wrote it",
                format::VERSION
            ),
            Problem::Damaged { offset, what } => write!(f, "is damaged at byte {offset}: {what}"),
            Problem::Truncated { bytes } => write!(f, "is cut off: it ends after {bytes} bytes, before its end record"),
        }
    }
}
