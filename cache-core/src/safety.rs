//! The rules that the `// SAFETY:` comments of the project cite. Documentation only.
//!
//! - **R1, mapped.** The region's memory is mapped at one address, aligned to a page,
//!   from before the first [`Region`](crate::Region) over it exists until after the last
//!   is gone. `Region` checks every offset against the mapped length and the alignment.
//! - **R2, any bits.** Every type read from the region is a 64- or 32-bit atomic
//!   integer; any bit pattern is a value of it.
//! - **R3, shared as atomics.** No Rust reference to region memory exists but to atomics,
//!   and to the bytes of pinned values (R6). What other processes do to the memory is a
//!   race between atomics.
//! - **R4, checked before use.** Lengths and locations read from the region are checked
//!   against the private geometry before they are used, and what was read by them is
//!   validated before it is believed.
//! - **R5, held.** A word that only the holder of a lock or of a participant's liveness
//!   lock writes is written by nobody else; the holder is named in the lock word by the
//!   one CAS that takes it.
//! - **R6, pinned.** While a participant's pin cell names a segment, and an item in it was
//!   found linked after the pin was visible, the item's bytes are neither changed nor
//!   reused. (`touch` changes the expiry word of the header, never key or value.)
//! - **R7, initialized.** Bytes handed out as initialized were written by a copy of the
//!   whole length just before.
