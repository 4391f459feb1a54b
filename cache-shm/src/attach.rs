//! An attachment: this process's one connection to one region.
//!
//! Owns: the map with its host, the liveness lock of the participant slot, and the
//! registry that keeps it to one per region, process and direction. Attach takes the
//! slot in the order that crash safety needs (`docs/design.md`, participants); the last
//! user detaches.
//!
//! Must never: release what another process of the line of forks took. Every value
//! carries the epoch of its maker, and in any other process it is left as it is.

use std::collections::HashMap;
use std::mem::ManuallyDrop;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use cache_core::header::{self, Identity};
use cache_core::{Error, Geometry, Host, Map, Result, participant};
use rustix::fd::BorrowedFd;

use crate::clock::{Clock, Running};
use crate::directory::{Directory, FileId};
use crate::file::RegionFile;
use crate::fork::{self, Process};
use crate::liveness::LifeLock;
use crate::mapping::Mapping;
use crate::news;
use crate::os::Os;
use crate::sys;

/// `Head::valid` of an attachment whose region is gone.
pub(crate) const GONE: u64 = u64::MAX;
/// `Head::valid` of a read-only attachment: every call takes the slower path, which
/// looks whether the region is still there, because such a process never writes.
pub(crate) const LOOK_FIRST: u64 = u64::MAX - 1;
/// `Head::valid` of no attachment: the handle was closed.
pub(crate) const CLOSED: u64 = u64::MAX - 2;

/// What the fast path of a handle reads: the epoch in which the attachment may be used
/// without a second thought.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) valid: AtomicU64,
}

/// See the module.
#[repr(C)]
pub(crate) struct Attachment {
    /// First, because handles point at it.
    pub(crate) head: Head,
    /// The process that attached.
    pub(crate) epoch: u64,
    map: ManuallyDrop<Map<Os>>,
    life: Option<LifeLock>,
}

/// The attachments of a process, by file and by whether they may only read.
#[derive(Default)]
pub(crate) struct Registry(HashMap<(FileId, bool), Weak<Attachment>>);

impl Registry {
    /// The process's attachment to this file, if it has one that works.
    fn find(&mut self, id: FileId, read_only: bool) -> Option<Arc<Attachment>> {
        let found = self.0.get(&(id, read_only))?.upgrade()?;
        (!found.is_gone()).then_some(found)
    }

    fn insert(&mut self, attachment: &Arc<Attachment>) {
        self.0.retain(|_, entry| entry.strong_count() > 0);
        let os = attachment.map.host();
        self.0.insert((os.file.id(), os.index.is_none()), Arc::downgrade(attachment));
    }
}

/// A region's file with its checked numbers, ready to attach.
pub(crate) struct Target {
    pub(crate) file: RegionFile,
    pub(crate) geometry: Geometry,
    pub(crate) identity: Identity,
    /// The memory, if this process has it mapped already (its maker, or a forked child).
    pub(crate) mapping: Option<Arc<Mapping>>,
}

/// How to attach.
#[derive(Clone, Copy)]
pub(crate) struct Manner<'a> {
    pub(crate) read_only: bool,
    pub(crate) clock: &'a Clock,
}

impl Attachment {
    /// This process's attachment to `target`; `None` if the region was destroyed while
    /// we came.
    ///
    /// # Errors
    /// `ParticipantsFull`, `Gone`, `Io`.
    pub(crate) fn of(process: &mut Process, target: Target, manner: Manner<'_>) -> Result<Option<Arc<Attachment>>> {
        if let Some(found) = process.registry.find(target.file.id(), manner.read_only) {
            return Ok(Some(found));
        }
        let attachment = Arc::new(Attachment::new(process.epoch, target, manner)?);
        if header::is_destroyed(&attachment.map.host().region()) {
            return Ok(None);
        }
        process.registry.insert(&attachment);
        Ok(Some(attachment))
    }

    fn new(epoch: u64, target: Target, manner: Manner<'_>) -> Result<Attachment> {
        let Target { file, geometry, identity, mapping } = target;
        let mapping = match mapping {
            Some(mapping) => mapping,
            None => {
                let path = file.shown();
                let map = |fd: BorrowedFd<'_>| Mapping::new(fd, geometry.region_bytes, !manner.read_only, &path);
                Arc::new(file.with_fd(map).ok_or_else(|| Error::Gone { path: path.clone() })??)
            }
        };
        let clock = Running::new(manner.clock);
        if manner.read_only {
            let os = Os::new(mapping, file, geometry.clone(), identity, None, clock);
            let map = ManuallyDrop::new(Map::new(os.region(), geometry, None, os));
            return Ok(Attachment { head: Head { valid: AtomicU64::new(LOOK_FIRST) }, epoch, map, life: None });
        }
        // The byte's lock first: only its holder writes the slot.
        let bytes = (0..geometry.participant_count).map(|index| geometry.participant_offset(index));
        let (index, life) = LifeLock::acquire_first(&file, bytes)?
            .ok_or(Error::ParticipantsFull { count: geometry.participant_count })?;
        let index = index as u32;
        let os = Os::new(mapping, file, geometry.clone(), identity, Some(index), clock);
        let region = os.region();
        let was_occupied = participant::occupied(&region, &geometry, index);
        let pid = std::process::id();
        let owner = participant::begin(&region, &geometry, index, pid, sys::start_time(), os.now_ms());
        let map = Map::new(region, geometry, Some(owner), os);
        if was_occupied {
            // Whoever had the slot died in it: what still names it is freed or taken
            // over before our first operation.
            map.clean_slot(index, Some(owner));
        }
        let head = Head { valid: AtomicU64::new(epoch) };
        Ok(Attachment { head, epoch, map: ManuallyDrop::new(map), life: Some(life) })
    }

    #[inline]
    pub(crate) fn map(&self) -> &Map<Os> {
        &self.map
    }

    pub(crate) fn os(&self) -> &Os {
        self.map.host()
    }

    /// True if this process made it (and not the one it was forked from).
    pub(crate) fn is_ours(&self) -> bool {
        self.epoch == fork::epoch()
    }

    /// Nobody is to begin anything on it any more.
    pub(crate) fn mark_gone(&self) {
        // Relaxed: a handle that reads the old value does one more operation on a
        // region that is gone, as if it had come earlier.
        if self.head.valid.swap(GONE, Ordering::Relaxed) != GONE {
            let os = self.map.host();
            news::gone(header::is_destroyed(&os.region()), &os.file.shown());
        }
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.head.valid.load(Ordering::Relaxed) == GONE
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        if !self.is_ours() {
            // Inherited: the slot, the lock and the pins are the parent's. The memory
            // stays mapped; views from before the fork may point into it.
            return;
        }
        let os = self.map.host();
        if let Some(index) = os.index {
            self.map.settle_namespaces();
            self.map.clean_slot(index, None);
            participant::end(&os.region(), &os.geometry, index);
        }
        drop(self.life.take());
        if os.index.is_some() && os.identity().ephemeral && !header::is_destroyed(&os.region()) {
            remove_if_last(os);
        }
        // SAFETY: S6, S2. This is its one drop; nothing can use it any more.
        unsafe { ManuallyDrop::drop(&mut self.map) };
    }
}

/// References that a forked child inherited and may not drop: kept where a leak checker
/// finds them.
static INHERITED: AtomicPtr<Kept> = AtomicPtr::new(ptr::null_mut());

struct Kept {
    /// Never read: it stands for the reference.
    _attachment: *const Attachment,
    _next: *mut Kept,
}

/// Gives up a reference: drops it, unless it is another process's.
///
/// # Safety
/// `attachment` was made by `Arc::into_raw`, and its reference is given up here.
pub(crate) unsafe fn release(attachment: *const Attachment) {
    // SAFETY: S3. Alive by the reference that is being given up.
    if unsafe { &*attachment }.is_ours() {
        // SAFETY: S2, S3. The caller's duty.
        drop(unsafe { Arc::from_raw(attachment) });
        return;
    }
    let mut next = INHERITED.load(Ordering::Relaxed);
    loop {
        let node = Box::into_raw(Box::new(Kept { _attachment: attachment, _next: next }));
        // CAS both Relaxed: nobody reads the list.
        match INHERITED.compare_exchange(next, node, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => return,
            Err(current) => {
                // SAFETY: S3. Made above and not published.
                drop(unsafe { Box::from_raw(node) });
                next = current;
            }
        }
    }
}

/// An ephemeral region goes with its last participant. What cannot be done (the
/// directory is gone, or closed to us by now) is left to the next who opens the name.
fn remove_if_last(os: &Os) {
    let Some(path) = os.file.path() else { return };
    let (Some(parent), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else { return };
    let Ok(directory) = Directory::reopen(parent) else { return };
    // Attaching to an ephemeral region takes this lock too, so nobody comes meanwhile.
    let names = directory.lock();
    if os.has_no_participants() {
        header::mark_destroyed(&os.region());
        // A name that stands for another file by now is not ours to remove.
        let _ = names.remove(name, os.file.id());
    }
}
