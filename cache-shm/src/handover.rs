//! Views that live through a fork: their pins, handed to the child.
//!
//! Owns: the list of attachments that have views, and in a forked child the participant
//! slots that hold the pins of the views it inherited. Such a slot holds nothing else;
//! the child's own work goes through another one.
//!
//! ```text
//! parent, before   for each attachment with views: lock a free slot through a
//!                  description left open, begin it, copy the pins, count the hand-over
//! child, after     map one page of that description, close it: the slot is the child's
//! parent, after    close it: a description is shared, so the lock is now the child's
//! ```
//!
//! Everything here happens under the instant lock of `fork`, which the hooks hold too: no
//! view comes or goes while a fork copies them. If every slot is taken there is nothing
//! to hand over to, and the child's views are only as good as its parent's.

use std::cell::UnsafeCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use cache_core::{Host, Key, Owner, PinnedValue, Result, participant};
use rustix::fd::OwnedFd;

use crate::attach::{Attachment, release};
use crate::fork::{self, ForksKeptOut};
use crate::liveness::LifeLock;
use crate::sys;

/// An attachment with views.
struct Viewed {
    attachment: Arc<Attachment>,
    /// Pinned views of it in this process. In a child also those that only threads of
    /// the parent could have ended: then the slot stays until the child ends.
    count: usize,
    /// In a child: the slot that holds the inherited pins.
    inherited: Option<(u32, LifeLock)>,
    /// During a fork: the slot for the child, and the description that holds its lock.
    offered: Option<(u32, OwnedFd)>,
}

struct List(UnsafeCell<Vec<Viewed>>);

// SAFETY: S4. Reached through `list` only, that is, by the holder of the instant lock.
unsafe impl Sync for List {}

static LIST: List = List(UnsafeCell::new(Vec::new()));

#[expect(clippy::mut_from_ref, reason = "the guard stands for the lock over the list")]
fn list(_forks_kept_out: &ForksKeptOut) -> &mut Vec<Viewed> {
    // SAFETY: S4. The caller holds the instant lock, of which there is one per process, and
    // no function here calls another that asks for the list while it uses it.
    unsafe { &mut *LIST.0.get() }
}

/// Pins the value of `key` for a view, so that a fork at any time hands it over.
///
/// # Errors
/// As for `Map::pin`, and `Busy` when another thread is in the middle of a fork.
pub(crate) fn pin(attachment: &Arc<Attachment>, key: Key<'_>) -> Result<Option<PinnedValue>> {
    let guard = fork::keep_forks_out()?;
    let pinned = attachment.map().pin(key)?;
    if pinned.as_ref().is_some_and(PinnedValue::is_pinned) {
        let list = list(&guard);
        match list.iter_mut().find(|viewed| Arc::ptr_eq(&viewed.attachment, attachment)) {
            Some(viewed) => viewed.count += 1,
            None => list.push(Viewed { attachment: Arc::clone(attachment), count: 1, inherited: None, offered: None }),
        }
    }
    Ok(pinned)
}

/// Ends what [`pin`] began; in a forked child, the child's share of it.
pub(crate) fn unpin(attachment: &Arc<Attachment>, pinned: PinnedValue) {
    if !pinned.is_pinned() {
        return;
    }
    // Not taken only if a fork hangs: the pin then stays, which costs space and no more.
    let Ok(guard) = fork::keep_forks_out() else { return };
    if attachment.is_ours() {
        // SAFETY: R6. The caller made it with `pin` on this attachment and lends its bytes
        // to nobody any more.
        unsafe { attachment.map().unpin(pinned) };
    }
    let list = list(&guard);
    let Some(at) = list.iter().position(|viewed| Arc::ptr_eq(&viewed.attachment, attachment)) else { return };
    list[at].count -= 1;
    if list[at].count > 0 {
        return;
    }
    let Viewed { attachment, inherited, .. } = list.swap_remove(at);
    // After a raw clone it is the parent's, as if there were nothing to hand over to.
    if let Some((index, life)) = inherited.filter(|(_, life)| life.is_ours()) {
        // The slot is ours (we hold its lock) though the attachment is the parent's.
        attachment.map().clean_slot(index, None);
        let os = attachment.os();
        participant::end(&os.region(), &os.geometry, index);
        drop(life);
    }
    // Before the attachment: its last reference may detach, which takes longer.
    drop(guard);
    // SAFETY: S3. The list's own reference.
    unsafe { release(Arc::into_raw(attachment)) };
}

/// Before a fork: a slot for the child with a copy of each pin.
pub(crate) fn offer(guard: &ForksKeptOut) {
    for viewed in list(guard) {
        let Viewed { attachment, inherited, offered, .. } = viewed;
        let own = inherited.as_ref().map(|(index, _)| *index).or(attachment.os().index);
        let made = catch_unwind(AssertUnwindSafe(|| own.and_then(|own| claim(attachment, own))));
        *offered = made.ok().flatten();
    }
}

fn claim(attachment: &Attachment, from: u32) -> Option<(u32, OwnedFd)> {
    let os = attachment.os();
    let (region, geometry) = (os.region(), &os.geometry);
    let bytes = (0..geometry.participant_count).map(|index| geometry.participant_offset(index));
    let (index, fd) = LifeLock::lock_first(&os.file, bytes).ok()??;
    let index = index as u32;
    let was_occupied = participant::occupied(&region, geometry, index);
    let pid = std::process::id();
    let owner: Owner = participant::begin(&region, geometry, index, pid, sys::start_time(), os.now_ms());
    if was_occupied {
        attachment.map().clean_slot(index, Some(owner));
    }
    participant::copy_read_pins(&region, geometry, from, index);
    Some((index, fd))
}

/// After a fork, in the parent: the offered slots are the child's.
pub(crate) fn give(guard: &ForksKeptOut) {
    list(guard).iter_mut().for_each(|viewed| viewed.offered = None);
}

/// After a fork, in the child: takes the offered slots. What the parent had inherited
/// itself stays the parent's.
pub(crate) fn take(guard: &ForksKeptOut) {
    for viewed in list(guard) {
        let path = viewed.attachment.os().file.shown();
        let offered = viewed.offered.take();
        // A page that cannot be mapped means no lock: the slot is then as good as dead.
        viewed.inherited = offered.and_then(|(index, fd)| Some((index, LifeLock::from_locked(fd, &path).ok()?)));
    }
}

/// True if there is anything to hand over.
pub(crate) fn is_needed(guard: &ForksKeptOut) -> bool {
    !list(guard).is_empty()
}
