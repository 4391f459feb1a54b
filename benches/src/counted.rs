//! Work of a fixed amount, for counting instructions: the same operations on the same keys.
//!
//! Whoever counts runs it twice, with different numbers of operations, and divides the
//! difference by the difference: what start and end cost is in neither.

use cache_shm::Mode;

use crate::subjects::{Region, Session, Shared, Subject, VALUE_BYTES, fill, key};

/// Argument under which the program does this.
pub const COUNTED: &str = "counted";

const KEYS: u64 = 10_000;

/// Does `operations` of a kind: `get`, `get-miss`, `set` (overwriting) or `set-evicting`.
///
/// # Panics
/// When there is no such kind.
pub fn run(kind: &str, operations: u64) {
    let bytes = if kind == "set-evicting" { 1 << 20 } else { 8 << 20 };
    let region = Region::create("counted", bytes, Mode::Evict);
    let shared = Shared(region.cache.clone());
    fill(&shared, KEYS, 1);
    let mut session = shared.session();
    let mut random = fastrand::Rng::with_seed(2);
    let mut out = [0; VALUE_BYTES];
    for index in 0..operations {
        let wanted = random.u64(..KEYS);
        match kind {
            "get" => assert!(session.get(&key(wanted), &mut out).is_some(), "a benchmark of hits must not miss"),
            "get-miss" => assert!(session.get(&key(KEYS + wanted), &mut out).is_none(), "nobody stored this key"),
            "set" => session.set(&key(wanted), &[index as u8; VALUE_BYTES]),
            "set-evicting" => session.set(&key(KEYS + index), &[index as u8; VALUE_BYTES]),
            _ => panic!("no kind {kind}"),
        }
    }
}
