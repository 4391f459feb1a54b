//! Shared-memory regions of the cache, and the [`Cache`] handle on them.
//!
//! `cache-core` is the algorithm over borrowed memory. This crate is everything that
//! touches the operating system: where a region lives, how it is made without races, who
//! is attached, how the kernel tells that a process is dead, and what happens at `fork`.
//!
//! ```
//! use std::time::Duration;
//! use cache_shm::Cache;
//!
//! // A named region would be Cache::builder(Some("sessions")).open_or_create().
//! let cache = Cache::builder(None).size(4 << 20).create()?;
//! cache.set_for(b"user:1", b"Ada", Duration::from_secs(60))?;
//! assert_eq!(cache.get(b"user:1")?.as_deref(), Some(&b"Ada"[..]));
//! # Ok::<(), cache_shm::Error>(())
//! ```
//!
//! # Reading order
//!
//! | module | holds |
//! |---|---|
//! | `cache`, `builder` | what programs call |
//! | `handle` | one handle's way through forks, destruction and closing |
//! | `open` | from a name to an attachment, whatever stands there |
//! | `config` | options from the environment or a file |
//! | `create` | making a region: complete first, visible afterwards, never replacing |
//! | `attach` | this process's one attachment to a region: slot, map, detach |
//! | `liveness` | kernel locks that say who is alive |
//! | `fork` | the wiped page by which a child learns that it is one |
//! | `news` | what is told to the `log` crate, and where |
//! | `handover` | views that live through a fork |
//! | `os` | the engine's host: clock, futex, memory, liveness |
//! | `lease`, `waiter`, `refresh` | locks, who waits for them without sleeping, and when a value is made anew |
//! | [`safety`] | the rules behind every `unsafe` |
//! | `file`, `directory`, `mapping`, `name`, `clock`, `hand`, `size`, `words`, `list`, `sys` | the pieces |
//!
//! # What a region's file promises
//!
//! - It appears under its name complete, by `link`, which never replaces a file.
//! - It is opened without following symbolic links, and used only if it is a regular file
//!   of this user (or of the group that was named) that nobody else can reach, in a
//!   directory where nobody else can swap it.
//! - Its memory comes from `fallocate` before anything is written to it: a full file
//!   system is an error or an earlier eviction, never a signal.
//!
//! # Processes
//!
//! One mapping and one participant slot per region and process, however many handles. A
//! process that ends in any way gives up its slot at once, because the kernel drops the
//! lock that stood for it (see `liveness`). A forked child is another participant: its
//! first call attaches anew, and it never releases anything of its parent's. Views from
//! before the fork stay valid in both. Children made by a raw `clone`, which runs no fork
//! handlers, work too, but must not read views from before it; and one that is made in
//! the instant of an attach may inherit the descriptor of a liveness lock, and delay the
//! recovery of its dead parent until it execs or ends.
//!
//! # The C interface
//!
//! It is a package of its own, `cache-shm/capi`, that builds `libcache_shm.so` and
//! `libcache_shm.a` from this crate. So the Python module and the command link no C
//! symbols and no second copy of the library, and whole-program optimisation, which
//! cargo cannot do for a crate that is a shared library as well, stays on for them.

#[cfg(not(target_os = "linux"))]
compile_error!("liveness and fork detection are built on Linux's open-file-description locks and wiped pages");

mod attach;
mod builder;
mod cache;
mod clock;
mod config;
mod create;
mod directory;
mod file;
mod fork;
mod hand;
mod handle;
mod handover;
mod lease;
mod list;
mod liveness;
mod mapping;
mod name;
mod namespace;
mod news;
mod open;
mod os;
mod refresh;
pub mod safety;
mod size;
mod sys;
mod waiter;
mod words;

pub use builder::Builder;
pub use cache::{Cache, View};
pub use cache_core::{
    Buffer, COPY_BYTES_MAX, Cas, Cursor, Destination, Error, FORMAT_VERSION, Geometry, Hit, Host, KEY_BYTES_MAX, Key,
    Kind, Lease, Limit, Map, Meta, Mode, NAMESPACE_NAME_BYTES, NEVER, Name, Namespace, NamespaceInfo, PinnedValue,
    REGION_BYTES_MAX, REGION_BYTES_MIN, Repaired, Report, Result, Stats, TAG_BYTES_MAX, TAG_COUNT_MAX, Terms, Witness,
    WriteOptions, error, kind,
};
pub use clock::Clock;
pub use config::{Effective, Settings, read_secret, unknown_variables};
pub use lease::{Guard, thread_number};
pub use list::{RegionInfo, State, regions};
pub use name::default_dir;
pub use namespace::Scope;
pub use news::{LOG_TARGET, untold};
pub use open::{Mismatch, Opened};
pub use os::Os;
pub use refresh::{Refresh, cost};
pub use size::parse_size;
pub use waiter::{Bell, Wait};
pub use words::{MODE_WANTED, TIME_WANTED, parse_group, parse_mode, parse_time};
