//! What workers leave behind when they are killed: memory of the parent that all share.
//!
//! Owns: one record for each key that has one writer, kept by that writer:
//!
//! ```text
//! sequence even  the key has the state `old` (in an evicting region: or was evicted)
//! sequence odd   an operation is under way that turns `old` into `new`
//! ```
//!
//! Every word is an atomic integer, so a death at any instant leaves it readable.

use std::ptr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};

use rustix::mm::{MapFlags, ProtFlags};

/// Most workers at a time.
pub const WORKERS_MAX: usize = 16;
/// Keys of one writer, in each region that has such keys.
pub const OWNED: usize = 48;
/// Regions that have such keys: the first ones.
pub const OWNED_REGIONS: usize = 2;

/// What a key holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Absent,
    Blob { serial: u64, appends: u64 },
    Integer(i64),
}

const BLOB: u64 = 1 << 62;
const INTEGER: u64 = 2 << 62;

impl State {
    fn to_word(self) -> u64 {
        match self {
            State::Absent => 0,
            State::Blob { serial, appends } => BLOB | serial << 8 | appends,
            State::Integer(number) => INTEGER | number as u64 & (BLOB - 1),
        }
    }

    fn from_word(word: u64) -> State {
        match word & (BLOB | INTEGER) {
            0 => State::Absent,
            BLOB => State::Blob { serial: (word & (BLOB - 1)) >> 8, appends: word & 0xff },
            _ => State::Integer((word & (BLOB - 1)) as i64),
        }
    }
}

/// The record of one key.
#[repr(C)]
pub struct Record {
    sequence: AtomicU64,
    old: AtomicU64,
    new: AtomicU64,
}

impl Record {
    /// The state when nothing is under way, with the sequence that proves it.
    pub fn settled(&self) -> Option<(u64, State)> {
        let sequence = self.sequence.load(SeqCst);
        let state = State::from_word(self.old.load(SeqCst));
        (sequence.is_multiple_of(2) && self.sequence.load(SeqCst) == sequence).then_some((sequence, state))
    }

    /// True if nothing began since `settled` gave `sequence`.
    pub fn is_still(&self, sequence: u64) -> bool {
        self.sequence.load(SeqCst) == sequence
    }

    /// The states that the key may have: one, or two if its writer died in between.
    pub fn possible(&self) -> [State; 2] {
        let old = State::from_word(self.old.load(SeqCst));
        let under_way = !self.sequence.load(SeqCst).is_multiple_of(2);
        [old, if under_way { State::from_word(self.new.load(SeqCst)) } else { old }]
    }

    /// Its writer begins what makes `new` of the state.
    pub fn begin(&self, new: State) {
        self.new.store(new.to_word(), SeqCst);
        self.sequence.fetch_add(1, SeqCst);
    }

    /// What was begun has ended, and the key has this state.
    pub fn end(&self, state: State) {
        self.old.store(state.to_word(), SeqCst);
        self.sequence.fetch_add(1, SeqCst);
    }

    /// The writer, or the successor of one that died, saw that the key has this state.
    pub fn settle(&self, state: State) {
        let sequence = self.sequence.load(SeqCst);
        if sequence.is_multiple_of(2) {
            // Odd meanwhile, so that no reader takes the old state for the present one.
            self.begin(state);
        }
        self.end(state);
    }
}

/// What a worker counts; counts go on in its successors.
#[repr(C)]
pub struct Counts {
    pub operations: AtomicU64,
    /// Values compared byte by byte.
    pub checked: AtomicU64,
    pub busy: AtomicU64,
    pub full: AtomicU64,
    /// Keys that a no-evict region should have had.
    pub losses: AtomicU64,
    /// Any other value than one that the key could have.
    pub wrong: AtomicU64,
}

/// What the workers of one slot share with their successors and the parent.
#[repr(C)]
pub struct Slot {
    pub counts: Counts,
    pub serial: AtomicU64,
    /// Not zero: take the lock of this stripe, plus one, and wait for death.
    pub hold_wish: AtomicU64,
    /// The wish was granted (1) or not (2).
    pub hold_answer: AtomicU64,
    pub records: [[Record; OWNED]; OWNED_REGIONS],
}

/// The memory.
#[repr(C)]
pub struct Ledger {
    /// Not zero: workers check everything once more and end.
    pub stop: AtomicU32,
    /// When the probe's last write was done, in nanoseconds of the monotonic clock.
    pub probed_ns: AtomicU64,
    pub slots: [Slot; WORKERS_MAX],
}

impl Ledger {
    /// A new one, shared with all children forked from now on and kept for good.
    pub fn new() -> &'static Ledger {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice, never unmapped. Zeros
        // are a valid `Ledger`, which consists of atomic integers only.
        unsafe {
            let memory = rustix::mm::mmap_anonymous(ptr::null_mut(), size_of::<Ledger>(), protection, MapFlags::SHARED);
            &*memory.expect("memory for the ledger").cast::<Ledger>()
        }
    }

    pub fn sum(&self, count: impl Fn(&Counts) -> &AtomicU64) -> u64 {
        self.slots.iter().map(|slot| count(&slot.counts).load(SeqCst)).sum()
    }
}
