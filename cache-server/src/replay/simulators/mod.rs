//! Reference policies on object numbers: what a plain cache of the same capacity gets.
//!
//! Owns: [`Lru`], textbook [`S3Fifo`], S3-FIFO on a log of segments ([`SegmentLog`]),
//! [`Sieve`] and [`Arc`]. They hold no values and share no code with the engine, so that a
//! policy gone wrong in either shows as a difference. They serve the comparison of `replay`
//! and the tables of hit ratios.
//!
//! Capacity and weight are in one unit of the caller's choice: objects, of which each
//! weighs 1, or bytes. The papers count objects; by bytes, each policy drops until what is
//! to be stored fits, and what moves a border moves it by the weight of the object.

mod arc;
mod links;
mod log;
mod lru;
mod s3fifo;
mod sieve;

pub use arc::Arc;
pub use log::SegmentLog;
pub use lru::Lru;
pub use s3fifo::S3Fifo;
pub use sieve::Sieve;

/// A cache that is asked for one object after the other and stores what it missed.
pub trait Simulator {
    /// Asks for `object`; true is a hit. One that was missed is stored with this weight,
    /// unless it is heavier than the whole cache. One that is there keeps the weight that it
    /// was stored with.
    fn request(&mut self, object: u32, weight: u64) -> bool;
}

/// Hits of `simulator` over a stream of objects that weigh 1.
pub fn hits(simulator: &mut dyn Simulator, stream: &[u32]) -> u64 {
    stream.iter().map(|&object| u64::from(simulator.request(object, 1))).sum()
}

/// Hits of `simulator` over a stream of objects with their bytes, and the bytes of those hits.
pub fn hits_of_bytes(simulator: &mut dyn Simulator, stream: &[u32], bytes: &[u32]) -> (u64, u64) {
    let requests = stream.iter().zip(bytes.iter().map(|bytes| u64::from(*bytes)));
    requests
        .filter(|&(&object, bytes)| simulator.request(object, bytes))
        .fold((0, 0), |(hits, sum), (_, bytes)| (hits + 1, sum + bytes))
}

fn slot<T: Clone + Default>(table: &mut Vec<T>, object: u32) -> &mut T {
    let index = object as usize;
    if index >= table.len() {
        table.resize(index + 1, T::default());
    }
    &mut table[index]
}

#[cfg(test)]
mod tests;
