//! The C interface: `cshm_` functions over [`shm::Cache`].
//!
//! Owns: the boundary. Every function checks its pointers, stops panics, and turns an
//! error into its number of the table in `cache_core::error`; the message is kept for
//! the thread. The conventions that C programmers read stand at the top of the header
//! (`cbindgen.toml`).
//!
//! Must never: let a panic cross, or keep a pointer to memory of the caller's.
//!
//! # The caller's duties
//!
//! The header's conventions, by which every function here is `unsafe` and which the
//! `// SAFETY:` comments cite:
//!
//! - **C1, memory.** A pointer that is not NULL leads to as many bytes or elements as the
//!   count beside it says (to one, without a count), aligned as its type, which nobody
//!   else writes during the call, nor reads if the function writes them.
//! - **C2, objects.** A `cshm_` object came from the function that makes such, and was not
//!   given up. One that is given up is used by no other thread any more. A `cshm_scan` is
//!   used by one thread at a time.
//! - **C3, functions.** A function of the caller's may be called by any thread, several at
//!   once, with the context that it was given, until the process ends; and it returns.
//!
//! # Reading order
//!
//! | module | holds |
//! |---|---|
//! | `errors` | numbers, messages, the boundary |
//! | `arguments` | pointers that are checked, structs that grow |
//! | `handle` | open, close, destroy |
//! | `read`, `view` | get in its four ways: into a buffer, allocated, described, lent |
//! | `write` | set, add, replace, cas, delete, incr, append, touch |
//! | `batch` | many keys at once |
//! | `scan` | all keys, piece by piece |
//! | `namespaces` | namespaces and tags |
//! | `locks` | locks, permits, rates |
//! | `stats`, `log` | counters by name, and what the library notices |
#![expect(clippy::missing_safety_doc, reason = "the duties are the same for every function, and stand above")]

// In the order of the header; the blank lines keep it.
pub mod errors;

pub mod arguments;

pub mod handle;

pub mod read;
pub mod view;
pub mod write;

pub mod batch;
pub mod scan;

pub mod namespaces;

pub mod locks;
pub mod log;
pub mod stats;

/// What C may use from several threads at once; and a scan, from one after the other.
const _: () = {
    const fn shared<T: Send + Sync>() {}
    const fn passed_on<T: Send>() {}
    shared::<handle::Cache>();
    shared::<view::View>();
    shared::<batch::Values>();
    shared::<locks::Guard>();
    passed_on::<scan::Scan>();
};
