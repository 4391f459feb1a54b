//! Read pins: how a process keeps a segment's bytes from being reused.
//!
//! Owns: the process-private counts behind the pin cells of a participant, one cell for
//! each distinct pinned segment.

use parking_lot::Mutex;

use crate::error::{Error, Result};
use crate::host::Host;
use crate::layout::participant as at;
use crate::map::Map;
use crate::sync::{AtomicU64, Ordering};

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
