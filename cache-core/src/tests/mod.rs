//! Tests of the engine, named for the promises that they keep.

mod model;
mod promises;
