//! The one place that names atomics, so that the models can swap them for loom's.
//!
//! Gated on `cfg(loom)` alone. A test reads the sources to keep the rest out.

#[cfg(not(loom))]
pub use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

#[cfg(loom)]
pub use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

/// A hint to the processor in a spin loop; a scheduling point in a model.
#[inline]
pub fn spin_loop() {
    #[cfg(not(loom))]
    std::hint::spin_loop();
    #[cfg(loom)]
    loom::thread::yield_now();
}

/// Lets other threads run; a scheduling point in a model.
pub fn yield_now() {
    #[cfg(not(loom))]
    std::thread::yield_now();
    #[cfg(loom)]
    loom::thread::yield_now();
}

/// An atomic of this process alone, which no model swaps.
pub(crate) type ProcessU32 = std::sync::atomic::AtomicU32;
/// The same, wider.
pub(crate) type ProcessU64 = std::sync::atomic::AtomicU64;
/// The same, a flag.
pub(crate) type ProcessBool = std::sync::atomic::AtomicBool;
