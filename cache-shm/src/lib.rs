//! A key-value cache in shared memory: one bounded copy of the cached data on a host, used at
//! once by every process that opens it, without a server.
//!
//! ```
//! use std::time::Duration;
//! use cache_shm::Cache;
//!
//! // A named region, which others find, would be Cache::builder(Some("sessions")).open_or_create().
//! let cache = Cache::builder(None).size(4 << 20).create()?;
//! cache.set_for(b"user:1", b"Ada", Duration::from_secs(60))?;
//! assert_eq!(cache.get(b"user:1")?.as_deref(), Some(&b"Ada"[..]));
//! assert_eq!(cache.incr(b"visits", 1, Some(0))?, Some(1));
//! # Ok::<(), cache_shm::Error>(())
//! ```
//!
//! # What there is
//!
//! | to | there is |
//! |---|---|
//! | make a region, or attach to one | [`Cache::builder`], [`Builder`], [`Settings`] for the environment and files |
//! | read | [`Cache::get`], [`get_into`](Cache::get_into), [`view`](Cache::view) without a copy, [`meta`](Cache::meta), [`ttl`](Cache::ttl) |
//! | write | [`Cache::set`], [`set_for`](Cache::set_for) with a time to live, [`set_with`](Cache::set_with), [`touch`](Cache::touch), [`delete`](Cache::delete), [`take`](Cache::take) |
//! | write if | [`Cache::add`], [`replace`](Cache::replace), [`cas`](Cache::cas), [`get_or_add`](Cache::get_or_add) |
//! | count, append | [`Cache::incr`], [`append`](Cache::append) |
//! | work on many | [`Cache::get_many`], [`set_many`](Cache::set_many), [`delete_many`](Cache::delete_many), [`scan`](Cache::scan), [`clear`](Cache::clear) |
//! | keep things apart, or together | [`Cache::namespace`], [`WriteOptions::tags`] and [`evict_tag`](Cache::evict_tag) |
//! | coordinate processes | [`Cache::lock`], [`permit`](Cache::permit), [`hit`](Cache::hit) for rates, [`is_due`](Cache::is_due) for renewal |
//! | see what goes on | [`Cache::stats`], [`namespaces`](Cache::namespaces), [`validate`](Cache::validate), [`regions`] |
//!
//! One region for two processes, as two handles stand for here, with all of it:
//!
//! ```
//! use std::time::Duration;
//! use cache_shm::{Cache, Cas, Cursor, WriteOptions};
//!
//! # let directory = format!("/dev/shm/cache-shm-front-page-{}", std::process::id());
//! # std::fs::create_dir(&directory).unwrap();
//! # std::fs::set_permissions(&directory, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
//! let open = || Cache::builder(Some("front-page")).dir(&directory).size(8 << 20).open_or_create();
//! let (one, other) = (open()?, open()?);
//!
//! // What one stores the other reads at once.
//! let version = one.set(b"rate", b"1.17")?;
//! assert_eq!(other.get(b"rate")?.as_deref(), Some(&b"1.17"[..]));
//! assert!(matches!(other.cas(b"rate", version, b"1.18", &other.options())?, Cas::Stored(_)));
//! assert!(matches!(one.cas(b"rate", version, b"1.16", &one.options())?, Cas::Changed(_)));
//!
//! // Values of one user, in a namespace, that go together.
//! let pages = one.namespace(b"pages")?;
//! let of_ada = WriteOptions { tags: &[b"ada"], ..pages.options() };
//! let items: Vec<_> = [&b"home"[..], b"inbox"].into_iter().map(|key| (key, &b"<html>"[..], of_ada)).collect();
//! assert_eq!(pages.set_many(&items, &mut |_, _| {})?, 2);
//! other.namespace(b"pages")?.evict_tag(b"ada")?;
//! assert_eq!(pages.get_many(&[b"home", b"inbox"], &mut |_, _, _| {})?, 0);
//!
//! // A large value is read where it lies, and stays as it is as long as it is held.
//! one.set(b"table", &vec![1; 1 << 20])?;
//! let table = other.view(b"table")?.expect("it was just stored");
//! one.set(b"table", &[2])?;
//! assert!(table.iter().all(|byte| *byte == 1));
//!
//! // One of all threads and processes does the work; if it dies the next one may.
//! let guard = one.lock(b"nightly", None, Duration::ZERO)?.expect("nobody has it");
//! # let (one, other) = (one, other);
//! assert!(std::thread::scope(|s| s.spawn(|| other.lock(b"nightly", None, Duration::ZERO)).join()).unwrap()?.is_none());
//! guard.release()?;
//!
//! let (mut cursor, mut keys) = (Some(Cursor::START), Vec::new());
//! while let Some(from) = cursor {
//!     cursor = one.scan(from, &mut |key, _| keys.push(key.to_vec()))?;
//! }
//! keys.sort();
//! assert_eq!(keys, [b"rate".to_vec(), b"table".to_vec()]);
//! assert!(one.stats()?.hits >= 2);
//! one.destroy()?;
//! # std::fs::remove_dir_all(&directory).unwrap();
//! # Ok::<(), cache_shm::Error>(())
//! ```
//!
//! # Guarantees
//!
//! **Consistency.** Every operation on a key takes effect at one instant between its call and its
//! return, for all processes: who reads after a write has returned sees it, or a later one. A read
//! gives the bytes of one completed write, at any size. [`incr`](Cache::incr), [`add`](Cache::add),
//! [`cas`](Cache::cas), [`take`](Cache::take), [`append`](Cache::append) lose no update.
//! [`clear`](Cache::clear) and [`evict_tag`](Cache::evict_tag) are one instant for all keys. A batch is
//! many operations, and a scan is no snapshot: it meets each key that is there all the time once.
//! Between keys there is no transaction; where two must change together, put them in one value.
//!
//! **Waiting.** A read takes no lock and waits for nobody, whoever is stopped or dead. A write waits
//! for writers of keys in the same of 16 to 1,024 stripes, at most for [`Builder::timeout`], and then
//! ends in [`Error::Busy`]. Nothing waits without a deadline.
//!
//! **Crash safety.** A process may be killed at any instruction of any operation: that operation
//! happened wholly or not at all, every other key is intact, and what the dead process held (locks,
//! memory, pins, leases) is taken over by the next one that needs it. Only the kernel's word that a
//! process is gone counts, so one that is stopped or slow is never robbed. The region itself ends
//! with the host: it is memory, and a cache.
//!
//! **Memory.** A region never grows beyond the size that it was made with, and takes memory as it
//! fills. Full, it evicts what is least worth keeping ([`Mode::Evict`]) or refuses
//! ([`Mode::NoEvict`]). As long as what lives needs less than 85 % of it, overhead counted, nothing
//! that has not expired is evicted: dead space is compacted first. An item takes 16 bytes beside its
//! key and value, 8 more with an expiry, and about 12 in the index. Memory comes from `fallocate`
//! before it is written: a full file system is [`Error::NoSpace`] or an earlier eviction, never a signal.
//!
//! **Time.** What has a time to live is never gone early, and is noticed to be gone at most one tick
//! of the kernel's clock (1 to 10 ms) late. Changes of the wall clock do not matter.
//!
//! **Untrusted bytes.** Whatever bytes a region holds, operations end in an answer, an error or a miss:
//! no panic, no hang, no access outside of it. Who may write to a region is believed as to its values.
//!
//! **Errors.** [`Error`] is one table for all languages; its texts say what to do. After an error
//! nothing that is stored has changed.
//!
//! # Limits
//!
//! | | |
//! |---|---|
//! | system | Linux, 64-bit |
//! | region | 1 MiB to 4 TiB, size fixed when it is made |
//! | key | 1 to 65,535 bytes |
//! | value | up to a quarter of the region, and below 4 GiB |
//! | processes attached for writing | 16 (1 MiB) to 512 (64 MiB and more); any number read-only |
//! | views | segments that one process pins at once: 32; beyond that views are copies |
//! | namespaces, tags of a value | 15 to 255, 64 |
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
//!
//! # Reading order of the sources
//!
//! `cache-core` is the algorithm over borrowed memory. This crate is everything that touches the
//! operating system: where a region lives, how it is made without races, who is attached, how the
//! kernel tells that a process is dead, and what happens at `fork`.
//!
//! | module | holds |
//! |---|---|
//! | `cache`, `builder` | what programs call |
//! | `keys`, `many` | its operations, on one key and on many |
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

#![warn(clippy::missing_errors_doc)]

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
mod keys;
mod lease;
mod list;
mod liveness;
mod many;
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
pub use cache_core::header::Identity;
pub use cache_core::layout::MAGIC;
pub use cache_core::{
    Buffer, COPY_BYTES_MAX, Carried, Cas, Change, Counter, Cursor, Destination, Error, FORMAT_VERSION, Geometry,
    HeldLease, Hit, Host, KEY_BYTES_MAX, Key, Kind, Lease, Limit, Map, Meta, Mode, NAMESPACE_NAME_BYTES, NEVER, Name,
    Namespace, NamespaceInfo, ParticipantInfo, PinnedValue, REGION_BYTES_MAX, REGION_BYTES_MIN, Reads, Repaired,
    Report, Request, Result, Sample, SegmentInfo, SegmentUse, Stats, TAG_BYTES_MAX, TAG_COUNT_MAX, Terms, What,
    Witness, WriteOptions, error, key_form, kind,
};
pub use clock::Clock;
pub use config::{
    Effective, SERVER_VARIABLE_PREFIX, ServerOption, Settings, read_secret, server_options, unknown_variables,
    variables,
};
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
