//! How an item's bytes are put into space that nobody can see yet.
//!
//! Owns: the copy into the region, and the request for a line that is about to change.

use crate::region::Region;
use crate::sync::AtomicU64;

/// Writes `parts` back to back into `words`, from the first byte of the first word.
/// Bytes after the last part up to the word's end become zero.
#[inline(always)]
pub(crate) fn copy_in(words: &[AtomicU64], parts: &[&[u8]]) {
    #[cfg(all(target_arch = "x86_64", not(loom), not(miri)))]
    copy_in_at_once(words, parts);
    #[cfg(not(all(target_arch = "x86_64", not(loom), not(miri))))]
    crate::region::copy_in_by_words(words, parts);
}

#[cfg(all(target_arch = "x86_64", not(loom), not(miri)))]
#[inline(always)]
fn copy_in_at_once(words: &[AtomicU64], parts: &[&[u8]]) {
    let bytes: usize = parts.iter().map(|part| part.len()).sum();
    assert!(words.len() * 8 >= bytes);
    if !bytes.is_multiple_of(8) {
        // Relaxed: nobody can see the item yet; the CAS of its slot publishes it.
        words[bytes / 8].store(0, crate::sync::Ordering::Relaxed);
    }
    let mut to = words.as_ptr().cast::<u8>().cast_mut();
    for part in parts {
        // SAFETY: R3. The words have room for all parts, by the check above, and may be changed
        // through a shared reference, being atomics. A late reader of the space may race with
        // the stores, which are the processor's own, not the language's, and throws away what
        // it read.
        unsafe {
            crate::region::racy::copy(part.as_ptr(), to, part.len());
            to = to.add(part.len());
        }
    }
}

/// Asks the processor to fetch the line at `offset`, which is inside the region, for a change:
/// where another processor has it, one message brings it instead of two.
#[inline(always)]
pub(crate) fn prefetch_to_change(region: &Region, offset: u64) {
    #[cfg(all(target_arch = "x86_64", not(loom), not(miri)))]
    // SAFETY: a prefetch never faults. Processors of this family that do not know it take it for
    // no operation.
    unsafe {
        std::arch::asm!("prefetchw [{}]", in(reg) region.address(offset, 8),
            options(readonly, nostack, preserves_flags));
    }
    #[cfg(not(all(target_arch = "x86_64", not(loom), not(miri))))]
    region.prefetch(offset);
}
