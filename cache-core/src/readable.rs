//! What this process knows to have memory behind it: a hole in the file of a full tmpfs has
//! none, and touching it kills.
//!
//! Owns: the private marks and bounds by which reads are spared the question, and the question.

use crate::host::Host;
use crate::layout::Geometry;
use crate::map::Map;
use crate::sync::{Ordering, ProcessBool, ProcessU64};

/// What is known: a mark for each chunk of the region, none for the chunks before the first
/// segment, and two bounds that spare most reads the look at a mark. Items fill a region from
/// its start, blocks of the index from its end.
pub(crate) struct Readable {
    marks: Box<[ProcessBool]>,
    shift: u32,
    /// The first chunk of the first segment.
    first: u64,
    /// So many bytes from the first segment on are readable, and as many more as a chunk has.
    items_known: ProcessU64,
    /// From this offset to the end of the segments every chunk is readable.
    blocks_from: ProcessU64,
}

impl Readable {
    pub fn new(geometry: &Geometry) -> Readable {
        let shift = geometry.chunk_bytes().ilog2();
        Readable {
            marks: (0..geometry.segments_end() >> shift).map(|_| ProcessBool::new(false)).collect(),
            shift,
            first: geometry.segments_offset >> shift,
            items_known: ProcessU64::new(0),
            blocks_from: ProcessU64::new(geometry.segments_end()),
        }
    }

    #[inline(always)]
    fn has(&self, chunk: u64) -> bool {
        // Relaxed, all loads of marks and bounds unless said otherwise: they say something
        // about the kernel's state, not about memory, and what they say stays true.
        self.marks.get(chunk as usize).is_some_and(|mark| mark.load(Ordering::Relaxed))
    }

    /// The chunk that begins at `offset` has just been given memory: nobody needs to be asked.
    pub fn note_backed(&self, offset: u64) {
        self.note(offset >> self.shift);
    }

    fn note(&self, chunk: u64) {
        // SeqCst, all: of two threads that note neighbours at once, the later one sees the
        // other's mark, and moves the bound over both.
        self.marks[chunk as usize].store(true, Ordering::SeqCst);
        let has = |chunk: u64| self.marks.get(chunk as usize).is_some_and(|mark| mark.load(Ordering::SeqCst));
        let mut count = self.items_known.load(Ordering::SeqCst) >> self.shift;
        while has(self.first + count) {
            count += 1;
        }
        self.items_known.fetch_max(count.saturating_sub(1) << self.shift, Ordering::SeqCst);
        let mut from = self.blocks_from.load(Ordering::SeqCst) >> self.shift;
        while from > 0 && has(from - 1) {
            from -= 1;
        }
        self.blocks_from.fetch_min(from << self.shift, Ordering::SeqCst);
    }
}

impl<H: Host> Map<H> {
    /// True if `bytes` bytes at `offset` are inside the segments and can be touched
    /// without a fault that kills. A hole in the file of a full tmpfs cannot.
    #[inline(always)]
    pub(crate) fn is_readable(&self, offset: u64, bytes: u64) -> bool {
        let last = offset.wrapping_add(bytes.wrapping_sub(1));
        let (first_chunk, last_chunk) = (offset >> self.readable.shift, last >> self.readable.shift);
        let is_known = self.readable.has(first_chunk) && (last_chunk == first_chunk || self.readable.has(last_chunk));
        // What lies between two known chunks that do not touch is asked for.
        (is_known && last_chunk.wrapping_sub(first_chunk) <= 1) || self.make_all_readable(offset, bytes)
    }

    /// True if `offset` is in a segment, and known to be readable with what follows for a
    /// chunk's length; false also where only the marks say so. Asks nobody.
    #[inline(always)]
    pub(crate) fn is_among_items(&self, offset: u64) -> bool {
        offset.wrapping_sub(self.geometry.segments_offset) < self.readable.items_known.load(Ordering::Relaxed)
    }

    /// True if a block at `offset` is known to be readable; false also where only the marks
    /// say so. Asks nobody.
    #[inline(always)]
    pub(crate) fn is_among_blocks(&self, offset: u64) -> bool {
        offset >= self.readable.blocks_from.load(Ordering::Relaxed) && offset <= self.last_block
    }

    /// True if the marks say that the chunk of `offset` is readable. Asks nobody.
    #[cold]
    #[inline(never)]
    pub(crate) fn is_marked(&self, offset: u64) -> bool {
        self.readable.has(offset >> self.readable.shift)
    }

    /// True if everything from `offset`, which is known to be readable, to `last` is.
    /// False also where that spans more than two chunks.
    #[cold]
    pub(crate) fn is_known_to(&self, offset: u64, last: u64) -> bool {
        let [first, last] = [offset, last].map(|at| at >> self.readable.shift);
        last == first || (last == first + 1 && self.readable.has(last))
    }

    #[cold]
    #[inline(never)]
    fn make_all_readable(&self, offset: u64, bytes: u64) -> bool {
        let Some(end) = offset.checked_add(bytes.max(1)).filter(|end| *end <= self.geometry.segments_end()) else {
            return false;
        };
        if offset < self.geometry.segments_offset {
            return false;
        }
        // All before it, too.
        if self.is_among_items(end - 1) {
            return true;
        }
        let shift = self.readable.shift;
        let chunks = offset >> shift..=(end - 1) >> shift;
        let next = chunks.end() + 1;
        let is_readable = chunks.into_iter().all(|chunk| self.readable.has(chunk) || self.make_readable(chunk));
        // With its neighbour, so that the common way needs to ask only once.
        if is_readable && next << shift < self.geometry.segments_end() && !self.readable.has(next) {
            self.make_readable(next);
        }
        is_readable
    }

    fn make_readable(&self, chunk: u64) -> bool {
        let start = chunk << self.readable.shift;
        let end = start + self.geometry.chunk_bytes();
        let segment = ((start - self.geometry.segments_offset) >> self.geometry.segment_shift) as u32;
        // The table says whether somebody gave it memory, the kernel whether that is true.
        if self.geometry.segment_offset(segment) + self.row(segment).backed_bytes(&self.geometry) < end
            || !self.host.populate_read(start, end - start)
        {
            return false;
        }
        self.readable.note(chunk);
        true
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::layout::Mode;
    use crate::testing::{Memory, TestHost};

    #[test]
    fn nothing_is_taken_for_readable_that_is_not_marked() {
        let host = TestHost::default();
        let mut state = 7u64;
        let mut below = |limit: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % limit
        };
        for bytes in [1 << 20, (1 << 20) + 4096, 3 << 20, (16 << 20) + (1 << 17)] {
            let geometry = Geometry::for_size(bytes, Mode::Evict, 1).unwrap();
            let memory = Memory::new(bytes);
            for _ in 0..10 {
                let map = Map::new(memory.region(), geometry.clone(), None, &host);
                let shift = geometry.chunk_bytes().ilog2();
                let (first, end) = (geometry.segments_offset >> shift, geometry.segments_end() >> shift);
                let mut marked = HashSet::new();
                for _ in 0..=below(end - first) {
                    // Anywhere, or so that one of the bounds moves.
                    let chunk = match below(3) {
                        0 => first + below(end - first),
                        1 => (first..end).find(|chunk| !marked.contains(chunk)).unwrap_or(first),
                        _ => (first..end).rfind(|chunk| !marked.contains(chunk)).unwrap_or(first),
                    };
                    marked.insert(chunk);
                    map.readable.note(chunk);
                    for _ in 0..8 {
                        let offset = below(geometry.segments_end() / 8 + 100) * 8;
                        let chunk = offset >> shift;
                        if map.is_among_items(offset) {
                            assert!(marked.contains(&chunk) && marked.contains(&(chunk + 1)), "{offset}");
                        }
                        if map.is_among_blocks(offset) {
                            let last = (offset + geometry.block_bytes() - 1) >> shift;
                            assert!(marked.contains(&chunk) && marked.contains(&last), "{offset}");
                        }
                        let (start, bytes) =
                            (geometry.segments_offset + below((end - first) << shift), 1 + below(1 << 20));
                        let last = start + bytes - 1;
                        let is_marked = last < geometry.segments_end()
                            && (start >> shift..=last >> shift).all(|chunk| marked.contains(&chunk));
                        assert_eq!(map.is_readable(start, bytes), is_marked, "{bytes} bytes at {start}");
                    }
                }
                (first..end).for_each(|chunk| map.readable.note(chunk));
                assert!(map.is_among_items(geometry.segments_offset) && map.is_among_blocks(map.last_block));
            }
        }
    }
}
