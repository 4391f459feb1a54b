//! How an item's bytes are put into space that nobody can see yet.
//!
//! Owns: the copy into the region, and the request for a line that is about to change.

use crate::region::{self, Region};
use crate::sync::{AtomicU64, Ordering};

/// Writes `parts` back to back into `words`, from the first byte of the first word.
/// Bytes after the last part up to the word's end become zero.
#[inline(always)]
pub(crate) fn copy_in(words: &[AtomicU64], parts: &[&[u8]]) {
    #[cfg(all(target_arch = "x86_64", not(loom), not(miri)))]
    copy_in_at_once(words, parts);
    #[cfg(not(all(target_arch = "x86_64", not(loom), not(miri))))]
    copy_in_by_words(words, parts);
}

#[cfg(all(target_arch = "x86_64", not(loom), not(miri)))]
#[inline(always)]
fn copy_in_at_once(words: &[AtomicU64], parts: &[&[u8]]) {
    let bytes: usize = parts.iter().map(|part| part.len()).sum();
    assert!(words.len() * 8 >= bytes);
    if !bytes.is_multiple_of(8) {
        // Relaxed: nobody can see the item yet; the CAS of its slot publishes it.
        words[bytes / 8].store(0, Ordering::Relaxed);
    }
    let mut to = words.as_ptr().cast::<u8>().cast_mut();
    for part in parts {
        // SAFETY: R3. The words have room for all parts, by the check above, and may be changed
        // through a shared reference, being atomics. A late reader of the space may race with
        // the stores, which are the processor's own, not the language's, and throws away what
        // it read.
        unsafe {
            region::racy::copy(part.as_ptr(), to, part.len());
            to = to.add(part.len());
        }
    }
}

#[cfg(any(test, not(all(target_arch = "x86_64", not(loom), not(miri)))))]
#[inline]
fn copy_in_by_words(words: &[AtomicU64], parts: &[&[u8]]) {
    let mut at = 0;
    let (mut carry, mut held) = (0u64, 0usize);
    for part in parts {
        let mut part = *part;
        if held != 0 {
            let take = part.len().min(8 - held);
            carry |= first_bytes(part, take) << (8 * held);
            held += take;
            part = &part[take..];
            if held < 8 {
                continue;
            }
            // Relaxed: nobody can see the item yet; the CAS of its slot publishes it.
            words[at].store(carry, Ordering::Relaxed);
            at += 1;
        }
        let mut chunks = part.chunks_exact(8);
        for (chunk, word) in chunks.by_ref().zip(&words[at..]) {
            word.store(
                u64::from_le_bytes([chunk[0], chunk[1], chunk[2], chunk[3], chunk[4], chunk[5], chunk[6], chunk[7]]),
                Ordering::Relaxed,
            );
            at += 1;
        }
        held = chunks.remainder().len();
        carry = region::last_bytes(part, held);
    }
    if held != 0 {
        words[at].store(carry, Ordering::Relaxed);
    }
}

/// The first `count` bytes of `part`, at most eight, as a little-endian number.
#[cfg(any(test, not(all(target_arch = "x86_64", not(loom), not(miri)))))]
#[inline(always)]
fn first_bytes(part: &[u8], count: usize) -> u64 {
    match part.first_chunk::<8>() {
        // One load and a mask instead of a copy of unknown length.
        Some(first) if count < 8 => u64::from_le_bytes(*first) & ((1 << (8 * count)) - 1),
        _ => region::little(&part[..count]),
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

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::region::equals;
    use crate::testing::Memory;

    #[test]
    fn parts_of_any_length_are_written_back_to_back() {
        let memory = Memory::new(4096);
        let region = memory.region();
        let source: Vec<u8> = (1..=90).collect();
        for first in 0..20 {
            for second in 0..20 {
                let parts = [&source[..first], &source[first..first + second], &source[first + second..]];
                for way in [copy_in, copy_in_by_words] {
                    region.slice(0, 12).iter().for_each(|word| word.store(u64::MAX, Ordering::Relaxed));
                    way(region.slice(0, 12), &parts);
                    assert_eq!((&memory.bytes()[..90], &memory.bytes()[90..96]), (&source[..], &[0; 6][..]));
                    assert!(equals(region.slice(0, 12), &source) && !equals(region.slice(0, 12), &source[1..]));
                }
            }
        }
    }
}
