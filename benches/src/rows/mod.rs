//! The rows of the table, one module for each promise.
//!
//! Owns: workloads, sizes, repetitions and targets.

use crate::measure::Row;

pub mod capacity;
pub mod fixed_rate;
pub mod get;
pub mod growth;
pub mod lock;
pub mod matrix;
pub mod overwrite;
pub mod scaling;
pub mod set;
pub mod tail;
pub mod workloads;

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Seed of every random stream of the run.
    pub seed: u64,
    /// Small sizes and few repetitions: shows that a benchmark runs, not what it reaches.
    pub smoke: bool,
}

impl Plan {
    /// The full number, or the small one in a smoke run.
    pub fn sized(&self, full: u64, smoke: u64) -> u64 {
        if self.smoke { smoke } else { full }
    }
}

/// A named group of rows.
pub type Group = (&'static str, fn(Plan) -> Vec<Row>);

/// All groups in the order in which they run.
pub const GROUPS: &[Group] = &[
    ("get", get::rows),
    ("lock", lock::rows),
    ("set", set::rows),
    ("tail", tail::rows),
    ("fixed-rate", fixed_rate::rows),
    ("workloads", workloads::rows),
    ("scaling", scaling::rows),
    ("matrix", matrix::rows),
    ("overwrite", overwrite::rows),
    ("capacity", capacity::rows),
    ("growth", growth::rows),
];
