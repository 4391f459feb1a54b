//! What the fuzz targets of a server's protocols have in common: the server, and what must hold
//! whatever a client sends.

use std::sync::LazyLock;

use cache_server::serve::loopback::Loopback;
use cache_shm::Cache;

static SERVER: LazyLock<(Cache, Loopback)> = LazyLock::new(|| {
    let cache = Cache::builder(None).size(4 << 20).create().expect("a private region");
    let server = Loopback::new(cache.clone()).expect("a server");
    (cache, server)
});

/// Has a client send `data` in pieces, whose size the first byte says: no panic, no unbounded
/// reply, and the region stays sound.
pub fn throw(data: &[u8], ask: impl Fn(&Loopback, &[u8], usize) -> Vec<u8>) {
    let Some((piece, input)) = data.split_first() else { return };
    let (cache, server) = &*SERVER;
    let replies = ask(server, input, 1 + usize::from(*piece));
    // A byte asks for a reply of a value at most, and the largest value is a quarter of the region.
    assert!(replies.len() <= 4096 + input.len().saturating_mul(1 << 20));
    if *piece == 0 {
        let report = cache.validate().expect("the region is there");
        assert!(report.is_clean(), "{:?}", report.problems);
    }
}
