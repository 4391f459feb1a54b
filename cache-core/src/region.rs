//! The region: borrowed shared memory, seen as 64-bit words.
//!
//! Owns: the base pointer and the only pointer arithmetic of the crate. Every access
//! is checked against the length that was known at attach, whatever the bytes of the
//! region say; a failed check is a defect of the caller and panics.
//!
//! All words are atomics, because other processes change them at any time. Copies of
//! item bytes are relaxed word by word: they may race with a writer that reuses the
//! space, and are thrown away when the validation after them fails (`docs/design.md`).

use std::mem::MaybeUninit;

use crate::sync::{AtomicU32, AtomicU64, Ordering};

#[cfg(target_endian = "big")]
compile_error!("the region format is little-endian and its words are used in place");

/// Shared memory that outlives every use of this value.
#[cfg(not(loom))]
#[derive(Clone)]
pub struct Region {
    base: *mut u8,
    bytes: u64,
}

#[cfg(not(loom))]
// SAFETY: R1. The memory is shared between processes by design; every access goes
// through atomics, so sharing it between threads adds nothing.
unsafe impl Send for Region {}
#[cfg(not(loom))]
// SAFETY: R1, as above.
unsafe impl Sync for Region {}

#[cfg(not(loom))]
impl Region {
    /// A region over `bytes` bytes at `base`.
    ///
    /// # Safety
    /// - `base` is aligned to 64 bytes and the memory is mapped, readable, and stays
    ///   so until the last clone of this value is gone (R1).
    /// - It is writable, unless every `Map` over it is read-only.
    /// - No Rust reference to it exists that is not to an atomic.
    pub unsafe fn from_raw(base: *mut u8, bytes: u64) -> Region {
        Region { base, bytes }
    }

    #[inline(always)]
    fn at<T>(&self, offset: u64, bytes: u64) -> *const T {
        if offset.checked_add(bytes).is_none_or(|end| end > self.bytes)
            || !offset.is_multiple_of(align_of::<T>() as u64)
        {
            out_of_region(offset, bytes, self.bytes);
        }
        // SAFETY: R1. Inside the mapping by the check above.
        unsafe { self.base.add(offset as usize).cast() }
    }

    /// The offset of one of its words.
    #[inline(always)]
    pub fn offset_of(&self, word: &AtomicU64) -> u64 {
        (std::ptr::from_ref(word).addr() - self.base.addr()) as u64
    }

    /// The word at `offset`, a multiple of 8.
    #[inline(always)]
    pub fn word(&self, offset: u64) -> &AtomicU64 {
        // SAFETY: R1 (mapped, checked by `at`, aligned); any bits are a valid u64.
        unsafe { &*self.at::<AtomicU64>(offset, 8) }
    }

    /// The 32-bit word at `offset`, a multiple of 4. Only lock words are 32 bits wide.
    #[inline(always)]
    pub fn word32(&self, offset: u64) -> &AtomicU32 {
        // SAFETY: R1, as for `word`.
        unsafe { &*self.at::<AtomicU32>(offset, 4) }
    }

    /// `N` words from `offset` on.
    #[inline(always)]
    pub fn words<const N: usize>(&self, offset: u64) -> &[AtomicU64; N] {
        // SAFETY: R1, as for `word`; an array has the alignment of its elements.
        unsafe { &*self.at::<[AtomicU64; N]>(offset, 8 * N as u64) }
    }

    /// `count` words from `offset` on.
    #[inline(always)]
    pub fn slice(&self, offset: u64, count: usize) -> &[AtomicU64] {
        let first = self.at::<AtomicU64>(offset, 8 * count as u64);
        // SAFETY: R1, as for `words`; the whole range was checked.
        unsafe { std::slice::from_raw_parts(first, count) }
    }

    /// `N` words from `offset` on, without the check of `words`.
    ///
    /// # Safety
    /// `offset` is a multiple of 8 and the words are inside the region.
    #[inline(always)]
    pub(crate) unsafe fn words_unchecked<const N: usize>(&self, offset: u64) -> &[AtomicU64; N] {
        debug_assert!(offset.is_multiple_of(8) && offset + 8 * N as u64 <= self.bytes);
        // SAFETY: R1, R2; in bounds by the caller.
        unsafe { &*self.base.add(offset as usize).cast() }
    }

    /// True if the bytes from `offset` on are `key`, which is not empty.
    ///
    /// # Safety
    /// `offset` is a multiple of 8, and the words that the key reaches into are inside the region.
    #[inline(always)]
    pub(crate) unsafe fn equals_unchecked(&self, offset: u64, key: &[u8]) -> bool {
        debug_assert!(offset.is_multiple_of(8) && !key.is_empty());
        debug_assert!(offset + (key.len() as u64).next_multiple_of(8) <= self.bytes);
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        // SAFETY: R3. In bounds by the caller; the racing loads are the processor's own.
        return unsafe { racy::equal(self.base.add(offset as usize), key) };
        #[cfg(not(all(target_arch = "x86_64", not(miri))))]
        equals(self.slice(offset, key.len().div_ceil(8)), key)
    }

    /// Copies `bytes` bytes from `offset` to `out`, as [`copy_out`] does.
    ///
    /// # Safety
    /// The words that they are in are inside the region; `out` is writable for as many.
    #[inline(always)]
    pub(crate) unsafe fn copy_out_unchecked(&self, offset: u64, out: *mut u8, bytes: usize) {
        debug_assert!(offset + bytes as u64 <= self.bytes);
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        // SAFETY: R3. Both are readable and writable by the caller; the racing loads are the
        // processor's own, not the language's.
        unsafe {
            racy::copy(self.base.add(offset as usize), out, bytes);
        }
        #[cfg(not(all(target_arch = "x86_64", not(miri))))]
        // SAFETY: the caller gives the room.
        unsafe {
            let (first, skip) = (offset & !7, (offset & 7) as usize);
            let words = self.slice(first, (skip + bytes).div_ceil(8));
            copy_out_by_words(words, skip, std::slice::from_raw_parts_mut(out.cast(), bytes));
        }
    }

    /// The address of `offset`, for a pinned value that is lent out.
    pub fn address(&self, offset: u64, bytes: u64) -> *const u8 {
        self.at::<u8>(offset, bytes)
    }

    /// Asks the processor to fetch the line at `offset`.
    #[inline(always)]
    pub fn prefetch(&self, offset: u64) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a prefetch never faults, wherever it points.
        unsafe {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            _mm_prefetch::<_MM_HINT_T0>(self.base.wrapping_add(offset as usize).cast());
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = offset;
    }
}

/// In a model the region is made of the model's atomics, where the model needs them.
#[cfg(loom)]
#[derive(Clone)]
pub struct Region {
    areas: std::sync::Arc<Vec<(u64, Vec<AtomicU64>)>>,
    locks: std::sync::Arc<Vec<(u64, AtomicU32)>>,
}

#[cfg(loom)]
impl Region {
    /// A zeroed region with words in `areas` (ascending) and 32-bit words at `locks`.
    pub fn for_model(areas: &[std::ops::Range<u64>], locks: &[u64]) -> Region {
        let words = |area: &std::ops::Range<u64>| area.clone().step_by(8).map(|_| AtomicU64::new(0)).collect();
        let areas = areas.iter().map(|area| (area.start, words(area))).collect();
        let locks = locks.iter().map(|offset| (*offset, AtomicU32::new(0))).collect();
        Region { areas: std::sync::Arc::new(areas), locks: std::sync::Arc::new(locks) }
    }

    /// The word at `offset`, a multiple of 8.
    pub fn word(&self, offset: u64) -> &AtomicU64 {
        &self.slice(offset, 1)[0]
    }

    /// The 32-bit word at `offset`.
    pub fn word32(&self, offset: u64) -> &AtomicU32 {
        let found = self.locks.iter().find(|(at, _)| *at == offset);
        &found.expect("a lock word named to for_model").1
    }

    /// The offset of one of its words.
    pub fn offset_of(&self, word: &AtomicU64) -> u64 {
        let inside = |words: &[AtomicU64]| words.iter().position(|other| std::ptr::eq(other, word));
        let found = self.areas.iter().find_map(|(start, words)| Some(start + 8 * inside(words)? as u64));
        found.expect("a word of this region")
    }

    /// `N` words from `offset` on.
    pub fn words<const N: usize>(&self, offset: u64) -> &[AtomicU64; N] {
        self.slice(offset, N).try_into().expect("N words")
    }

    /// `count` words from `offset` on.
    pub fn slice(&self, offset: u64, count: usize) -> &[AtomicU64] {
        let after = self.areas.partition_point(|(start, _)| *start <= offset);
        let (start, words) = &self.areas[after.checked_sub(1).expect("an area of for_model")];
        &words[(offset - start) as usize / 8..][..count]
    }

    /// As `words`: a model checks always.
    pub(crate) unsafe fn words_unchecked<const N: usize>(&self, offset: u64) -> &[AtomicU64; N] {
        self.words(offset)
    }

    /// As `equals`.
    pub(crate) unsafe fn equals_unchecked(&self, offset: u64, key: &[u8]) -> bool {
        equals(self.slice(offset, key.len().div_ceil(8)), key)
    }

    /// As `copy_out`; `out` is writable for `bytes` bytes.
    pub(crate) unsafe fn copy_out_unchecked(&self, offset: u64, out: *mut u8, bytes: usize) {
        let (first, skip) = (offset & !7, (offset & 7) as usize);
        let words = self.slice(first, (skip + bytes).div_ceil(8));
        // SAFETY: writable by the caller.
        copy_out(words, skip, unsafe { std::slice::from_raw_parts_mut(out.cast(), bytes) });
    }

    /// No address, only the offset: a model reads pinned bytes as words.
    pub fn address(&self, offset: u64, _bytes: u64) -> *const u8 {
        std::ptr::without_provenance(offset as usize)
    }

    /// Nothing to fetch.
    pub fn prefetch(&self, _offset: u64) {}
}

#[cold]
#[inline(never)]
#[cfg(not(loom))]
fn out_of_region(offset: u64, bytes: u64, region_bytes: u64) -> ! {
    panic!("offset {offset} + {bytes} is outside the region of {region_bytes} bytes or not aligned");
}

/// Copies `out.len()` bytes that start `skip` bytes into `words`.
///
/// The bytes may be torn if a writer reuses the space: the caller validates.
#[inline(always)]
pub(crate) fn copy_out(words: &[AtomicU64], skip: usize, out: &mut [MaybeUninit<u8>]) {
    assert!(skip < 8 && words.len() * 8 >= skip + out.len());
    #[cfg(all(target_arch = "x86_64", not(loom), not(miri)))]
    // SAFETY: R3. Source and destination are as long as `out`, by the check above; the
    // racing loads are the processor's own, not the language's.
    unsafe {
        racy::copy(words.as_ptr().cast::<u8>().add(skip), out.as_mut_ptr().cast(), out.len());
    }
    #[cfg(not(all(target_arch = "x86_64", not(loom), not(miri))))]
    copy_out_by_words(words, skip, out);
}

#[cfg(any(test, not(all(target_arch = "x86_64", not(loom), not(miri)))))]
fn copy_out_by_words(words: &[AtomicU64], skip: usize, out: &mut [MaybeUninit<u8>]) {
    let (mut at, mut done) = (0, 0);
    if skip != 0 {
        // Relaxed, here and below: the fence of the validation orders these loads.
        let bytes = words[0].load(Ordering::Relaxed).to_le_bytes();
        done = (8 - skip).min(out.len());
        out[..done].write_copy_of_slice(&bytes[skip..skip + done]);
        at = 1;
    }
    let mut chunks = out[done..].chunks_exact_mut(8);
    for (chunk, word) in chunks.by_ref().zip(&words[at..]) {
        chunk.write_copy_of_slice(&word.load(Ordering::Relaxed).to_le_bytes());
        at += 1;
    }
    let rest = chunks.into_remainder();
    if !rest.is_empty() {
        let bytes = words[at].load(Ordering::Relaxed).to_le_bytes();
        rest.write_copy_of_slice(&bytes[..rest.len()]);
    }
}

/// Loads that may race with a writer, as the processor does them. The language has no
/// such loads wider than a word: these are written in assembly, which the compiler takes
/// for what it is. What they return is believed only after validation.
#[cfg(all(target_arch = "x86_64", not(loom), not(miri)))]
pub(crate) mod racy {
    use std::arch::asm;
    use std::arch::x86_64::__m128i;

    /// From this length on the processor's own string copy is faster than a loop.
    const STRING_BYTES_MIN: usize = 512;

    /// Copies `bytes` bytes.
    ///
    /// # Safety
    /// - `from` is readable and `to` is writable for `bytes` bytes; they do not overlap.
    /// - What is copied is validated before it is used.
    #[inline(always)]
    pub unsafe fn copy(from: *const u8, to: *mut u8, bytes: usize) {
        // SAFETY: every access below is inside the `bytes` bytes of both, by the bounds of
        // its branch. The assembly reads and writes memory only through these pointers.
        unsafe {
            // The lengths that values mostly have are asked for first.
            match bytes {
                65..=128 => {
                    copy_64(from, to);
                    copy_64(from.add(bytes - 64), to.add(bytes - 64));
                }
                33..=64 => {
                    copy_32(from, to);
                    copy_32(from.add(bytes - 32), to.add(bytes - 32));
                }
                16..=32 => {
                    copy_16(from, to);
                    copy_16(from.add(bytes - 16), to.add(bytes - 16));
                }
                8..16 => {
                    copy_8(from, to);
                    copy_8(from.add(bytes - 8), to.add(bytes - 8));
                }
                4..8 => {
                    copy_4(from, to);
                    copy_4(from.add(bytes - 4), to.add(bytes - 4));
                }
                1..4 => {
                    copy_byte(from, to);
                    copy_byte(from.add(bytes / 2), to.add(bytes / 2));
                    copy_byte(from.add(bytes - 1), to.add(bytes - 1));
                }
                0 => {}
                129..STRING_BYTES_MIN => {
                    let last = bytes - 64;
                    let mut at = 0;
                    while at < last {
                        copy_64(from.add(at), to.add(at));
                        at += 64;
                    }
                    copy_64(from.add(last), to.add(last));
                }
                _ => asm!(
                    "rep movsb",
                    inout("rcx") bytes => _, inout("rsi") from => _, inout("rdi") to => _,
                    options(nostack, preserves_flags)
                ),
            }
        }
    }

    /// True if the bytes at `stored` are `key`, which is not empty.
    ///
    /// # Safety
    /// - `stored` is a multiple of 8, and the words that `key.len()` bytes from it on reach
    ///   into are readable.
    /// - The answer is validated before it is believed.
    #[inline(always)]
    pub unsafe fn equal(stored: *const u8, key: &[u8]) -> bool {
        let bytes = key.len();
        let wanted = key.as_ptr();
        // SAFETY: every load below is inside the `bytes` bytes of both, by the bounds of its
        // branch, but for the word of a short key, which is whole in the region by the caller.
        unsafe {
            let differ = |at: usize| word(stored.add(at)) ^ wanted.add(at).cast::<u64>().read_unaligned();
            match bytes {
                8..=16 => differ(0) | differ(bytes - 8) == 0,
                17..=32 => differ(0) | differ(8) | differ(bytes - 16) | differ(bytes - 8) == 0,
                ..8 => (word(stored) ^ super::last_bytes(key, bytes)) << (64 - 8 * bytes) == 0,
                _ => {
                    let last = bytes - 16;
                    let mut at = 0;
                    while at < last {
                        if differ(at) | differ(at + 8) != 0 {
                            return false;
                        }
                        at += 16;
                    }
                    differ(last) | differ(last + 8) == 0
                }
            }
        }
    }

    /// Eight bytes at any address.
    ///
    /// # Safety
    /// They are readable, and what is read is validated before it is believed.
    #[inline(always)]
    unsafe fn word(from: *const u8) -> u64 {
        let word;
        // SAFETY: readable by the caller; the assembly reads nothing else.
        unsafe { asm!("mov {}, [{}]", out(reg) word, in(reg) from, options(readonly, nostack, preserves_flags)) };
        word
    }

    macro_rules! copy {
        ($name:ident, $class:ident, $modifier:literal, $instruction:literal) => {
            #[inline(always)]
            unsafe fn $name(from: *const u8, to: *mut u8) {
                // SAFETY: as many bytes as the name says are there, by the caller.
                unsafe {
                    asm!(
                        concat!($instruction, " {x", $modifier, "}, [{from}]"),
                        concat!($instruction, " [{to}], {x", $modifier, "}"),
                        from = in(reg) from, to = in(reg) to, x = out($class) _,
                        options(nostack, preserves_flags)
                    );
                }
            }
        };
    }
    copy!(copy_byte, reg_byte, "", "mov");
    copy!(copy_4, reg, ":e", "mov");
    copy!(copy_8, reg, ":r", "mov");

    /// Sixteen bytes at several offsets, in one piece of assembly.
    macro_rules! copy_blocks {
        ($name:ident, $($offset:literal $register:ident),*) => {
            #[inline(always)]
            unsafe fn $name(from: *const u8, to: *mut u8) {
                // SAFETY: as many bytes as the name says are there, by the caller.
                unsafe {
                    asm!(
                        $(concat!("movups {", stringify!($register), "}, [{from} + ", $offset, "]"),)*
                        $(concat!("movups [{to} + ", $offset, "], {", stringify!($register), "}"),)*
                        from = in(reg) from, to = in(reg) to,
                        $($register = out(xmm_reg) _,)*
                        options(nostack, preserves_flags)
                    );
                }
            }
        };
    }
    copy_blocks!(copy_16, 0 a);
    copy_blocks!(copy_32, 0 a, 16 b);
    copy_blocks!(copy_64, 0 a, 16 b, 32 c, 48 d);

    /// The eight words of a line, two by two.
    ///
    /// # Safety
    /// `line` is aligned to 64 bytes and readable.
    #[inline(always)]
    pub unsafe fn line(line: *const u8) -> [__m128i; 4] {
        let (a, b, c, d);
        // SAFETY: the whole line is readable. Every processor of this family loads each
        // aligned half of 16 aligned bytes in one piece.
        unsafe {
            asm!(
                "movaps {a}, [{line}]",
                "movaps {b}, [{line} + 16]",
                "movaps {c}, [{line} + 32]",
                "movaps {d}, [{line} + 48]",
                line = in(reg) line,
                a = out(xmm_reg) a, b = out(xmm_reg) b, c = out(xmm_reg) c, d = out(xmm_reg) d,
                options(readonly, nostack, preserves_flags)
            );
        }
        [a, b, c, d]
    }
}

/// True if the bytes that start at `words` (aligned) are `key`.
#[inline(always)]
pub(crate) fn equals(words: &[AtomicU64], key: &[u8]) -> bool {
    let (whole, rest) = key.as_chunks::<8>();
    for (part, word) in whole.iter().zip(words) {
        // Relaxed, both: validated by the caller like every copy.
        if word.load(Ordering::Relaxed) != u64::from_le_bytes(*part) {
            return false;
        }
    }
    rest.is_empty() || {
        let differs = words[whole.len()].load(Ordering::Relaxed) ^ last_bytes(key, rest.len());
        differs & ((1 << (8 * rest.len())) - 1) == 0
    }
}

/// The last `count` bytes of `part`, fewer than eight, as a little-endian number.
#[inline(always)]
pub(crate) fn last_bytes(part: &[u8], count: usize) -> u64 {
    match part.last_chunk::<8>() {
        Some(last) if count > 0 => u64::from_le_bytes(*last) >> (8 * (8 - count)),
        _ => little(&part[part.len() - count..]),
    }
}

/// Up to eight bytes as a little-endian number, without a copy of unknown length: the first
/// and the last of them may overlap, where they say the same.
#[inline(always)]
pub(crate) fn little(bytes: &[u8]) -> u64 {
    let last = 8 * (bytes.len() as u32).saturating_sub(4);
    match (bytes.first_chunk::<4>(), bytes.last_chunk::<4>(), bytes) {
        (Some(first), Some(end), _) => {
            u64::from(u32::from_le_bytes(*first)) | u64::from(u32::from_le_bytes(*end)) << last
        }
        (.., []) => 0,
        (.., [first, .., end]) => {
            let middle = u64::from(bytes[bytes.len() / 2]) << (8 * (bytes.len() / 2));
            u64::from(*first) | middle | u64::from(*end) << (8 * (bytes.len() - 1))
        }
        (.., [only]) => u64::from(*only),
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::fill::copy_in;
    use crate::testing::Memory;

    #[test]
    fn every_length_and_offset_is_copied_whole_by_both_ways() {
        let memory = Memory::new(1 << 16);
        let region = memory.region();
        let words = region.slice(0, 2048);
        let source: Vec<u8> = (0..2048 * 8).map(|at: u32| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        for first in 0..20 {
            for second in 0..40 {
                let (key, value) = source[..first + second].split_at(first);
                crate::fill::copy_in(words, &[key, value]);
                let mut out = vec![MaybeUninit::new(0); first + second];
                copy_out_by_words(words, 0, &mut out);
                // SAFETY: R7. Every byte was initialized by `vec!`.
                let out: Vec<u8> = out.iter().map(|byte| unsafe { byte.assume_init() }).collect();
                assert_eq!(out, source[..first + second], "{first} and {second} bytes");
            }
        }
        crate::fill::copy_in(words, &[&source]);
        for bytes in (0..600).chain([1000, 4096, 16_000]) {
            for skip in 0..8 {
                for way in [copy_out, copy_out_by_words] {
                    let mut out = vec![MaybeUninit::new(0xa5); bytes + 2];
                    way(words, skip, &mut out[1..=bytes]);
                    // SAFETY: R7. Every byte was initialized by `vec!`.
                    let out: Vec<u8> = out.iter().map(|byte| unsafe { byte.assume_init() }).collect();
                    assert_eq!(out[1..=bytes], source[skip..skip + bytes]);
                    assert_eq!((out[0], out[bytes + 1]), (0xa5, 0xa5), "{bytes} bytes at {skip}");
                }
            }
        }
    }

    #[test]
    fn keys_are_equal_only_if_every_byte_is() {
        let memory = Memory::new(4096);
        let region = memory.region();
        let source: Vec<u8> = (1..=1100).map(|at| at as u8).collect();
        copy_in(region.slice(0, 138), &[&source]);
        for bytes in (1..=80).chain([255, 256, 257, 1023, 1024, 1100]) {
            let mut key = source[..bytes].to_vec();
            // SAFETY: the words of the key are inside the region.
            let ways = |key: &[u8]| [equals(region.slice(0, 138), key), unsafe { region.equals_unchecked(0, key) }];
            assert_eq!(ways(&key), [true; 2], "{bytes} bytes");
            for at in 0..bytes {
                key[at] ^= 0x80;
                assert_eq!(ways(&key), [false; 2], "byte {at} of {bytes}");
                key[at] ^= 0x80;
            }
        }
    }
}
