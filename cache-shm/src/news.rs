//! What people should hear of, for whoever listens to the `log` crate.
//!
//! Owns: which events are told, in which words, and how often. What is noticed in the
//! middle of an operation is only counted there; it is told at the beginning of the next
//! write, or by [`crate::Cache::tell`], where nothing is locked: a logger may wait, fail,
//! or use a cache itself.
//!
//! | level | event |
//! |---|---|
//! | warn | a process ended in the middle of something, and what it held was taken over |
//! | warn | a region's file was removed or replaced from outside |
//! | warn | a region of an earlier boot was made anew |
//! | warn | a repair found something |
//! | info | a region was destroyed by somebody |
//! | info | a region was made with a default size, or without the huge pages that were asked for |

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use cache_core::Repaired;
use cache_core::lock::Owner;

use crate::clock;
use crate::open::Opened;

/// The target of every record.
pub const LOG_TARGET: &str = "cache_shm";
/// Deaths are told at most this often for each region; what came between is counted.
const INTERVAL_NS: u64 = 1_000_000_000;

/// Places in which an attachment remembers who ended.
const PLACE_COUNT: usize = 32;

/// True while something waits to be told.
static UNTOLD: AtomicBool = AtomicBool::new(false);

/// True if something was noticed in this process that no write has told yet: a hint for
/// bindings, which then call [`crate::Cache::tell`].
#[inline]
pub fn untold() -> bool {
    // Relaxed, here and below: counters and hints; nothing is published by them.
    UNTOLD.load(Ordering::Relaxed)
}

/// What an attachment has noticed and not told.
#[derive(Debug, Default)]
pub(crate) struct News {
    /// Participants that ended in the middle of something.
    ended: AtomicU32,
    /// Process id of the last of them; 0 if its slot is another's by now.
    pid: AtomicU32,
    /// Their words, each where its slot has a place: one may be met in many places, and others in
    /// between. Two slots that share a place may be counted twice.
    words: [AtomicU32; PLACE_COUNT],
    told_ns: AtomicU64,
}

impl News {
    /// `owner` was found dead; true if that is to be told at once.
    #[cold]
    pub(crate) fn ended(&self, owner: Owner, pid: u32) -> bool {
        let place = &self.words[owner.index() as usize % PLACE_COUNT];
        if place.swap(owner.word(), Ordering::Relaxed) == owner.word() {
            return false;
        }
        self.pid.store(pid, Ordering::Relaxed);
        self.ended.fetch_add(1, Ordering::Relaxed);
        let now = self.is_due();
        if now {
            UNTOLD.store(true, Ordering::Relaxed);
        }
        now
    }

    fn is_due(&self) -> bool {
        let told_ns = self.told_ns.load(Ordering::Relaxed);
        told_ns == 0 || clock::monotonic_ns().saturating_sub(told_ns) >= INTERVAL_NS
    }

    /// Tells what was noticed in the region `path`, unless something was told just now.
    /// Nothing is locked.
    pub(crate) fn tell(&self, path: &Path) {
        UNTOLD.store(false, Ordering::Relaxed);
        if self.ended.load(Ordering::Relaxed) == 0 || !self.is_due() {
            return;
        }
        let ended = self.ended.swap(0, Ordering::Relaxed);
        self.told_ns.store(clock::monotonic_ns(), Ordering::Relaxed);
        let pid = self.pid.load(Ordering::Relaxed);
        let who = match (ended, pid) {
            (1, 0) => "a process".to_owned(),
            (1, pid) => format!("process {pid}"),
            (ended, 0) => format!("{ended} processes"),
            (ended, pid) => format!("{ended} processes ({pid} the last)"),
        };
        log::warn!(target: LOG_TARGET, "{who} ended in the middle of using {}; what was held is taken over", path.display());
    }
}

/// How a handle came to its region.
pub(crate) fn opened(opened: &Opened, path: &Path) {
    let path = path.display();
    if opened.remade_after_boot {
        log::warn!(target: LOG_TARGET, "{path} was made before this boot; it was made anew and is empty");
    }
    if let Some(size) = opened.default_size {
        log::info!(target: LOG_TARGET, "{path} was created without a size; it has {size} bytes");
    }
    if opened.without_huge_pages {
        log::info!(target: LOG_TARGET, "{path} has its memory, but not in huge pages: the kernel has none to give");
    }
}

/// The region is not what others find under its name.
pub(crate) fn gone(destroyed: bool, path: &Path) {
    let path = path.display();
    if destroyed {
        log::info!(target: LOG_TARGET, "{path} was destroyed");
    } else {
        log::warn!(target: LOG_TARGET, "{path} was removed or replaced from outside, not destroyed; who had it open was left with a region of his own");
    }
}

/// What a repair has done.
pub(crate) fn repaired(repaired: &Repaired, path: &Path) {
    if !repaired.found_nothing() {
        log::warn!(
            target: LOG_TARGET,
            "a repair of {} found {} slots, {} segments, {} locks and {} blocks that were wrong, and emptied {} stripes; {} problems are left",
            path.display(),
            repaired.slots,
            repaired.segments,
            repaired.locks,
            repaired.blocks,
            repaired.stripes_reset.len(),
            repaired.left.problem_count
        );
    }
}
