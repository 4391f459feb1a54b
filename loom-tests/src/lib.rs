//! The runner of the models.
//!
//! A *model* runs the engine's own functions on loom's atomics, in every order of its
//! two or three threads that its bound on preemptions allows, and with every stale value
//! that the memory model lets a load return. A *twin* is the same with one step left out
//! or in the wrong order, and must fail: it shows that its model would notice.
//!
//! Who writes comes first: an execution begins with the thread that spawns the others, and
//! of each word loom remembers the last access alone. A thread that loads a word before it
//! stores into it would hide its race with an earlier load of another. So what mostly reads is
//! spawned, unless its model is shown by twins to notice.
//!
//! Run with `RUSTFLAGS="--cfg loom" cargo test --release -p loom-tests`; names after
//! `--` choose cases. Without `--cfg loom` there is nothing here.

#![cfg_attr(not(loom), allow(missing_docs))]

#[cfg(loom)]
mod runner;

#[cfg(loom)]
pub use runner::{Case, check, model, run, settle, twin};
