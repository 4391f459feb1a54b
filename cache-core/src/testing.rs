//! What the tests of this crate stand on: memory, a clock that is moved by hand, and
//! participants that die on demand.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64 as Clock, Ordering as ClockOrdering};

use crate::error::{Error, Result};
use crate::header;
use crate::host::Host;
use crate::layout::{Geometry, Mode};
use crate::lock::Owner;
use crate::map::Map;
use crate::participant;
use crate::region::Region;
use crate::sync::AtomicU32;

/// Zeroed memory that is freed when the test ends.
pub struct Memory {
    base: *mut u8,
    layout: Layout,
}

impl Memory {
    /// `bytes` bytes.
    pub fn new(bytes: u64) -> Memory {
        let layout = Layout::from_size_align(bytes as usize, 4096).unwrap();
        // SAFETY: the layout is not empty.
        Memory { base: unsafe { alloc_zeroed(layout) }, layout }
    }

    /// The memory as a region.
    pub fn region(&self) -> Region {
        // SAFETY: R1. Aligned and allocated; tests keep the memory as long as the region.
        unsafe { Region::from_raw(self.base, self.layout.size() as u64) }
    }

    /// The memory as bytes, while nobody writes.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the tests call this between operations, on one thread.
        unsafe { std::slice::from_raw_parts(self.base, self.layout.size()) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout.
        unsafe { dealloc(self.base, self.layout) };
    }
}

/// A host without an operating system.
#[derive(Default)]
pub struct TestHost {
    /// The region's clock.
    pub now_ms: Clock,
    /// Slots whose participant is gone.
    pub dead: Mutex<Vec<u32>>,
    /// Bytes that may still be backed; `u64::MAX` for no limit.
    pub space: Option<Clock>,
}

impl Host for &TestHost {
    fn now_ms(&self) -> u64 {
        self.now_ms.load(ClockOrdering::Relaxed)
    }
    fn monotonic_ns(&self) -> u64 {
        static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
        START.get_or_init(std::time::Instant::now).elapsed().as_nanos() as u64
    }
    fn futex_wait(&self, _word: &AtomicU32, _expected: u32, _timeout_ns: u64) {
        std::thread::yield_now();
    }
    fn futex_wake(&self, _word: &AtomicU32, _count: u32) {}
    fn is_dead(&self, owner: Owner) -> bool {
        self.dead.lock().unwrap().contains(&owner.index())
    }
    fn retire(&self, index: u32, clean: &mut dyn FnMut()) -> bool {
        let dead = self.dead.lock().unwrap().contains(&index);
        if dead {
            clean();
        }
        dead
    }
    fn back(&self, _offset: u64, bytes: u64) -> Result<()> {
        let Some(space) = &self.space else { return Ok(()) };
        let taken = space.fetch_update(ClockOrdering::Relaxed, ClockOrdering::Relaxed, |left| left.checked_sub(bytes));
        taken.map(drop).map_err(|free_bytes| Error::NoSpace { bytes, free_bytes, path: "memory".into() })
    }
    fn populate_read(&self, _offset: u64, _bytes: u64) -> bool {
        true
    }
}

/// A region in memory with its map, attached as participant 0.
pub struct Bench {
    /// The region's memory.
    pub memory: Memory,
    /// Its geometry.
    pub geometry: Geometry,
}

impl Bench {
    /// A fresh region of the standard geometry for its size.
    pub fn new(bytes: u64, mode: Mode) -> Bench {
        Bench::with(Geometry::for_size(bytes, mode, 42).unwrap())
    }

    /// A fresh region of this geometry.
    pub fn with(geometry: Geometry) -> Bench {
        let memory = Memory::new(geometry.region_bytes.next_multiple_of(4096));
        let identity = header::Identity {
            region_id: [1; 16],
            boot_id: [2; 16],
            created_unix_ms: 0,
            creator_pid: 0,
            ephemeral: false,
            file_mode: 0o600,
        };
        header::write(&memory.region(), &geometry, &identity);
        header::publish(&memory.region());
        Bench { memory, geometry }
    }

    /// Another participant of the region.
    pub fn attach<'h>(&self, host: &'h TestHost, index: u32) -> Map<&'h TestHost> {
        let owner = participant::begin(&self.memory.region(), &self.geometry, index, 1000 + index, 0, 0);
        Map::new(self.memory.region(), self.geometry.clone(), Some(owner), host)
    }
}
