//! The lock word: who holds a stripe or a lane, and how a dead holder is replaced.
//!
//! Owns: the 32-bit word and its transitions. It never repairs anything: what a
//! dead holder left behind is legal (see `docs/design.md`), so a take-over is one CAS.
//!
//! ```text
//!  31        30           29..18              17..0
//! +---------+------------+-------------------+------------------------------+
//! | waiters | recovering | slot index + 1    | generation, low 18 bits      |
//! +---------+------------+-------------------+------------------------------+
//!
//! word                 meaning                     next
//! 0                    free                        owner (try_acquire), owner|W (after a wait)
//! owner                held                        0 (release), owner|W (a waiter)
//! owner|W              held, somebody sleeps       0 and one wake (release)
//! dead owner [|W]      holder is gone              me|R[|W] (take-over), then me[|W]
//! owner|R[|W]          being taken over            me[|W]; a dead taker is taken over alike
//! ```

use crate::deadline::Deadline;
use crate::error::Result;
use crate::host::Host;
use crate::sync::{AtomicU32, Ordering, fence, spin_loop};

const WAITERS: u32 = 1 << 31;
const RECOVERING: u32 = 1 << 30;
const INDEX_SHIFT: u32 = 18;
const INDEX_MASK: u32 = 0xfff << INDEX_SHIFT;
const GENERATION_MASK: u32 = (1 << INDEX_SHIFT) - 1;
/// Looks at a held lock before the first sleep.
const SPIN_COUNT: u32 = if cfg!(loom) { 1 } else { 100 };
/// Longest sleep between two questions about the owner's life, in nanoseconds.
/// Short, so that a lost wake-up costs no more than this.
const SLEEP_NS_MAX: u64 = 5_000_000;

/// A participant slot in one of its incarnations: the identity in lock words and
/// segment states. Fits 30 bits and is never zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner(u32);

impl Owner {
    /// The owner that is slot `index` in its incarnation `generation`.
    pub fn new(index: u32, generation: u64) -> Owner {
        debug_assert!(index < 0xfff);
        Owner(((index + 1) << INDEX_SHIFT) & INDEX_MASK | (generation as u32 & GENERATION_MASK))
    }

    /// The owner named by a word of the region, if it names one.
    pub fn from_word(word: u32) -> Option<Owner> {
        (word & INDEX_MASK != 0).then_some(Owner(word & (INDEX_MASK | GENERATION_MASK)))
    }

    /// Its slot. May be out of range when the word was damaged.
    pub fn index(self) -> u32 {
        ((self.0 & INDEX_MASK) >> INDEX_SHIFT) - 1
    }

    /// True if the slot's generation word still means this incarnation.
    pub fn is_generation(self, generation: u64) -> bool {
        self.0 & GENERATION_MASK == generation as u32 & GENERATION_MASK
    }

    /// The low bits of its slot's generation.
    pub(crate) fn generation(self) -> u64 {
        u64::from(self.0 & GENERATION_MASK)
    }

    /// The word that names it.
    pub fn word(self) -> u32 {
        self.0
    }
}

/// Takes a free lock; false if it is held. The uncontended path.
#[inline]
pub fn try_acquire(word: &AtomicU32, me: Owner) -> bool {
    // CAS ok = Acquire: we enter the critical section; pairs with the Release in
    // `release`. CAS err = Relaxed: we only give up. [loom: lock]
    word.compare_exchange(0, me.word(), Ordering::Acquire, Ordering::Relaxed).is_ok()
}

/// Takes the lock, waiting at most `timeout_ns`. Returns true if it was taken over from a
/// dead owner.
///
/// # Errors
/// `Busy` at the deadline, while the owner lives.
pub fn acquire<H: Host>(word: &AtomicU32, me: Owner, host: &H, timeout_ns: u64) -> Result<bool> {
    acquire_until(word, me, host, &Deadline::new(timeout_ns))
}

/// As [`acquire`], with the deadline of a whole operation. Returns true if it was taken over
/// from a dead owner.
///
/// # Errors
/// `Busy` at the deadline, while the owner lives.
#[inline]
pub(crate) fn acquire_until<H: Host>(word: &AtomicU32, me: Owner, host: &H, deadline: &Deadline) -> Result<bool> {
    if try_acquire(word, me) {
        return Ok(false);
    }
    acquire_slow(word, me, host, deadline)
}

#[cold]
fn acquire_slow<H: Host>(word: &AtomicU32, me: Owner, host: &H, deadline: &Deadline) -> Result<bool> {
    let mut spins = 0;
    // Once we slept, others may sleep too: take the lock with the waiters bit, so
    // that our release wakes the next one.
    let mut mine = me.word();
    loop {
        // Relaxed: the CAS below decides.
        let current = word.load(Ordering::Relaxed);
        if current & !WAITERS == 0 {
            // CAS ok = Acquire, as in `try_acquire`; err = Relaxed: look again.
            if word.compare_exchange(current, mine | (current & WAITERS), Ordering::Acquire, Ordering::Relaxed).is_ok()
            {
                return Ok(false);
            }
            continue;
        }
        if spins < SPIN_COUNT {
            spins += 1;
            spin_loop();
            continue;
        }
        let waited_ns = deadline.waited_ns(host);
        // The first question is asked after one sleep; a caller that may not sleep
        // asks at once, because its answer decides between a take-over and Busy.
        if (waited_ns > 0 || deadline.is_one_try()) && take_over(word, current, me, host) {
            return Ok(true);
        }
        let left_ns = deadline.left_ns(host);
        if left_ns == 0 {
            return Err(deadline.busy(host));
        }
        // CAS both Relaxed: announcing a sleeper publishes nothing.
        if current & WAITERS != 0
            || word.compare_exchange(current, current | WAITERS, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        {
            host.futex_wait(word, current | WAITERS, left_ns.min(SLEEP_NS_MAX));
            mine = me.word() | WAITERS;
        }
    }
}

/// Replaces a dead owner named by `current` by `me`. False if it lives, or if
/// somebody was faster.
pub fn take_over<H: Host>(word: &AtomicU32, current: u32, me: Owner, host: &H) -> bool {
    // Acquire: `current` was loaded before the generation that it is compared with, or a
    // newcomer's word meets its predecessor's generation. Pairs with the fence in
    // `participant::begin`, between the generation and the newcomer's first lock. [loom: newcomer]
    fence(Ordering::Acquire);
    let dead = match Owner::from_word(current) {
        // Held by this very process: a thread of ours, alive by definition.
        Some(owner) if owner == me => return false,
        // We hold the liveness lock of our slot: its other incarnations are over.
        Some(owner) if owner.index() == me.index() => true,
        Some(owner) => host.is_dead(owner),
        // No participant ever writes such a word: damage, and nobody to wait for.
        None => true,
    };
    if !dead {
        return false;
    }
    let taken = me.word() | RECOVERING | (current & WAITERS);
    // CAS ok = Acquire: we go on in the dead owner's critical section and must see
    // what it wrote. err = Relaxed: somebody else took it. [loom: lock]
    if word.compare_exchange(current, taken, Ordering::Acquire, Ordering::Relaxed).is_err() {
        return false;
    }
    // Nothing needs repair. Relaxed: the word still names us, nothing is published.
    word.fetch_and(!RECOVERING, Ordering::Relaxed);
    true
}

/// A lock that was taken; given back on drop, on unwind as well. Nothing needs repair then:
/// what it protects is decided and published by single stores.
pub(crate) struct Held<'a, H: Host> {
    word: &'a AtomicU32,
    host: &'a H,
}

impl<'a, H: Host> Held<'a, H> {
    /// The caller has just taken the lock `word`.
    pub fn new(word: &'a AtomicU32, host: &'a H) -> Held<'a, H> {
        Held { word, host }
    }
}

impl<H: Host> Drop for Held<'_, H> {
    fn drop(&mut self) {
        release(self.word, self.host);
    }
}

/// Gives the lock back and wakes one sleeper if there is one.
#[inline]
pub fn release<H: Host>(word: &AtomicU32, host: &H) {
    // Release: publishes the critical section; pairs with the Acquire of the next
    // owner in `try_acquire` and `acquire_slow`. [loom: lock]
    let before = word.swap(0, Ordering::Release);
    if before & WAITERS != 0 {
        host.futex_wake(word, 1);
    }
}

/// Frees a lock whose holder `is_dead` names. The caller holds that slot's liveness
/// lock, so the holder cannot come back.
pub(crate) fn release_for_the_dead<H: Host>(word: &AtomicU32, is_dead: impl Fn(Owner) -> bool, host: &H) {
    // Acquire and AcqRel: the next owner goes on in the dead one's critical section and
    // must see, through us, what it wrote.
    let current = word.load(Ordering::Acquire);
    if Owner::from_word(current).is_some_and(is_dead)
        && word.compare_exchange(current, 0, Ordering::AcqRel, Ordering::Relaxed).is_ok()
        && current & WAITERS != 0
    {
        host.futex_wake(word, 1);
    }
}
