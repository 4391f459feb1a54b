//! The words of a region, past the library.

use std::path::Path;

use cache_core::{Geometry, Region};

/// A region's file, mapped by the test itself.
pub struct Raw {
    base: *mut u8,
    bytes: usize,
    pub geometry: Geometry,
}

impl Raw {
    pub fn open(path: &Path) -> Raw {
        let file = std::fs::File::options().read(true).write(true).open(path).expect("the region's file");
        let bytes = file.metadata().expect("its size").len() as usize;
        let protection = rustix::mm::ProtFlags::READ | rustix::mm::ProtFlags::WRITE;
        let shared = rustix::mm::MapFlags::SHARED;
        // SAFETY: a new mapping.
        let base = unsafe { rustix::mm::mmap(std::ptr::null_mut(), bytes, protection, shared, &file, 0) };
        let base = base.expect("a mapping of the region").cast::<u8>();
        // SAFETY: mapped above, and nobody writes to the header of a region that is published.
        let page = unsafe { std::slice::from_raw_parts(base, 4096) };
        let (geometry, _) = cache_core::header::parse(page).expect("a region");
        Raw { base, bytes, geometry }
    }

    /// The region; tests drop it before this value.
    pub fn region(&self) -> Region {
        // SAFETY: mapped as long as `self`.
        unsafe { Region::from_raw(self.base, self.bytes as u64) }
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // SAFETY: mapped in `open`; no word is borrowed any more.
        let _ = unsafe { rustix::mm::munmap(self.base.cast(), self.bytes) };
    }
}
