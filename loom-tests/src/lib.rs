//! The runner of the models.
//!
//! A *model* runs the engine's own functions on loom's atomics, in every order of its
//! two or three threads that its bound on preemptions allows, and with every stale value
//! that the memory model lets a load return. A *twin* is the same with one step left out
//! or in the wrong order, and must fail: it shows that its model would notice.
//!
//! Run with `RUSTFLAGS="--cfg loom" cargo test --release -p loom-tests`; names after
//! `--` choose cases. Without `--cfg loom` there is nothing here.

#![cfg_attr(not(loom), allow(missing_docs))]

#[cfg(loom)]
mod runner;

#[cfg(loom)]
pub use runner::{Case, check, model, run, settle, twin};
