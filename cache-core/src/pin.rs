//! Read pins: how a process keeps a segment's bytes from being reused.
//!
//! Owns: the process-private counts behind the pin cells of a participant, one cell for
//! each distinct pinned segment, and what is known to have memory behind it.

use parking_lot::Mutex;

use crate::error::{Error, Result};
use crate::host::Host;
use crate::layout::{Geometry, participant as at};
use crate::map::Map;
use crate::sync::{AtomicU64, Ordering, ProcessBool, ProcessU64};

/// Which segments this process pins, and how often.
pub(crate) struct ReadPins(Mutex<Cells>);

struct Cells {
    /// Segment and number of pins of each cell.
    counts: [(u32, u32); at::READ_PIN_COUNT as usize],
    /// No pin is given any more.
    are_revoked: bool,
}

impl ReadPins {
    pub fn new() -> ReadPins {
        ReadPins(Mutex::new(Cells { counts: [(0, 0); at::READ_PIN_COUNT as usize], are_revoked: false }))
    }
}

/// One pin on one segment; undone on drop.
pub(crate) struct SegmentPin<'m, H: Host> {
    map: &'m Map<H>,
    segment: u32,
}

impl<H: Host> Map<H> {
    /// Announces that this process reads from `segment`. The caller puts a SeqCst fence
    /// after it and then makes sure that the item is still linked.
    ///
    /// # Errors
    /// `PinsFull`; `ReadOnly` on an attachment without a slot.
    pub(crate) fn pin_segment(&self, segment: u32) -> Result<SegmentPin<'_, H>> {
        let owner = self.owner.ok_or(Error::ReadOnly)?;
        let mut cells = self.read_pins.0.lock();
        if cells.are_revoked {
            return Err(Error::PinsFull { count: 0 });
        }
        let cells = &mut cells.counts;
        let cell = match cells.iter().position(|(pinned, count)| *count > 0 && *pinned == segment) {
            Some(cell) => cell,
            None => {
                let free = cells.iter().position(|(_, count)| *count == 0);
                let cell = free.ok_or(Error::PinsFull { count: at::READ_PIN_COUNT })?;
                // Release: every store to a pin cell; pairs with the Acquire in `pinned_by`.
                self.read_pin_cell(owner.index(), cell).store(u64::from(segment) + 1, Ordering::Release);
                cell
            }
        };
        cells[cell] = (segment, cells[cell].1 + 1);
        Ok(SegmentPin { map: self, segment })
    }

    fn read_pin_cell(&self, slot: u32, cell: usize) -> &AtomicU64 {
        self.region.word(self.geometry.participant_offset(slot) + at::READ_PINS + 8 * cell as u64)
    }

    /// Ends the giving of pins if none is held: from now on views are private copies. False
    /// if one is held. For a host that wants to give the memory of a lost region back.
    pub fn revoke_pins(&self) -> bool {
        let mut cells = self.read_pins.0.lock();
        cells.are_revoked |= cells.counts.iter().all(|(_, count)| *count == 0);
        cells.are_revoked
    }

    /// Takes back one pin on `segment`.
    pub(crate) fn unpin_segment(&self, segment: u32) {
        let Some(owner) = self.owner else { return };
        let cells = &mut self.read_pins.0.lock().counts;
        if let Some(cell) = cells.iter().position(|(pinned, count)| *count > 0 && *pinned == segment) {
            cells[cell].1 -= 1;
            if cells[cell].1 == 0 {
                // Release: our reads of the bytes come before; pairs with `pinned_by`.
                self.read_pin_cell(owner.index(), cell).store(0, Ordering::Release);
            }
        }
    }
}

impl<H: Host> SegmentPin<'_, H> {
    /// Keeps the pin beyond this value; `unpin_segment` ends it.
    pub fn keep(self) -> u32 {
        let segment = self.segment;
        std::mem::forget(self);
        segment
    }
}

impl<H: Host> Drop for SegmentPin<'_, H> {
    fn drop(&mut self) {
        self.map.unpin_segment(self.segment);
    }
}

/// What this process knows to have memory behind it: a mark for each chunk of the region,
/// none for the chunks before the first segment, and two bounds that spare most reads the
/// look at a mark. Items fill a region from its start, blocks of the index from its end.
pub(crate) struct Readable {
    marks: Box<[ProcessBool]>,
    shift: u32,
    chunk_bytes: u64,
    /// An offset below this is in a readable chunk, and so is what follows for a chunk's length.
    items_below: ProcessU64,
    /// From here to the end of the segments every chunk is readable.
    blocks_from: ProcessU64,
}

impl Readable {
    pub fn new(geometry: &Geometry) -> Readable {
        let chunk_bytes = geometry.chunk_bytes();
        let shift = chunk_bytes.ilog2();
        Readable {
            marks: (0..geometry.segments_end() >> shift).map(|_| ProcessBool::new(false)).collect(),
            shift,
            chunk_bytes,
            items_below: ProcessU64::new(geometry.segments_offset - chunk_bytes),
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
        // SeqCst, here and in `moved_bound`: of two threads that note neighbours at once, one
        // sees the other's mark or bound, and moves the bound over both.
        self.marks[chunk as usize].store(true, Ordering::SeqCst);
        let has = |chunk: u64| self.marks.get(chunk as usize).is_some_and(|mark| mark.load(Ordering::SeqCst));
        let mut below = (self.items_below.load(Ordering::SeqCst) >> self.shift) + 1;
        while has(below) {
            below += 1;
        }
        self.items_below.fetch_max((below << self.shift) - self.chunk_bytes, Ordering::SeqCst);
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

    /// True if `offset` and what follows for a chunk's length is known to be readable; false
    /// also where only the marks say so. Asks nobody.
    #[inline(always)]
    pub(crate) fn is_among_items(&self, offset: u64) -> bool {
        offset < self.readable.items_below.load(Ordering::Relaxed)
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
