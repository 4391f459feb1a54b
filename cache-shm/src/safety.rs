//! The rules that the `// SAFETY:` comments of this crate cite, beside R1 to R7 of
//! [`cache_core::safety`]. Documentation only.
//!
//! - **S1, kept mapped.** A region's mapping is owned by the `Os` inside the `Map` over
//!   it: the map, and with it every region value, goes first. What was mapped before a
//!   fork stays mapped in the child for good. (This is how R1 holds.)
//! - **S2, own epoch.** Whatever releases something (unmap, detach, drop a reference)
//!   first compares the epoch in which it was made with the process's own. Nothing of
//!   another process in the line of forks is released.
//! - **S3, bound.** What a handle was once bound to keeps one strong reference until the
//!   handle is dropped. A `Head` that is not `CLOSED_HEAD` is the first field of such an
//!   attachment, and pointers to it are made from the whole attachment.
//! - **S4, one holder.** Process-wide state is reached through the guard of its lock
//!   only; the lock words lie in the page that a fork wipes, so that none is ever
//!   inherited as held.
//! - **S5, plain call.** A system call on a descriptor that is open, or on an address
//!   range that is ours and to which no reference exists, with arguments that outlive it.
//! - **S6, once.** A value in `ManuallyDrop` is taken or dropped in one place, which runs
//!   once.
