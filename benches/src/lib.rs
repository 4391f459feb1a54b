//! Benchmarks of the cache against its rivals and against its own promises.
//!
//! Every ratio is measured side by side in one run: the subjects take turns, slice by
//! slice, and what is reported is the median of the ratios of neighbouring slices with
//! its spread. Absolute times of two runs, or of two machines, are never compared.
//!
//! Reading order: [`measure`] (turns, ratios, rows), [`latency`] (percentiles),
//! [`subjects`] (who is measured), [`rivals`] (against whom), [`workload`] (with what),
//! [`processes`] and [`paced`] (workers), then one module of [`rows`] for each promise;
//! [`counted`] is what instructions are counted of, [`load`] what servers are loaded with. The Python rows are in
//! `benches/python`, and `benches/bench.py` runs all of them.

pub mod counted;
pub mod latency;
pub mod load;
pub mod measure;
pub mod paced;
pub mod processes;
pub mod rivals;
pub mod rows;
pub mod subjects;
pub mod workload;

/// The Rust example of the README, compiled and run as a doctest.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;
