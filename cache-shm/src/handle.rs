//! A handle's binding to an attachment, across forks, destruction and closing.
//!
//! Owns: which attachment a [`crate::Cache`] uses now, and those it used before, which
//! stay until the handle is dropped because somebody may still be in a call on them.
//!
//! ```text
//! bound --> Head of an attachment: valid == epoch   use it            (one compare)
//!                                  another epoch    forked            attach anew
//!                                  GONE             destroyed         attach anew
//!                                  LOOK_FIRST       read-only         look, then use it
//! bound --> CLOSED_HEAD                             closed            Closed
//! ```

use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

use cache_core::{Error, Map, Result};

use crate::attach::{Attachment, CLOSED, Head, LOOK_FIRST, release};
use crate::fork;
use crate::namespace::Named;
use crate::open::{Before, How, Opened, Plan};
use crate::os::Os;

static CLOSED_HEAD: Head = Head { valid: AtomicU64::new(CLOSED) };

/// See the module.
pub(crate) struct Handle {
    /// Points to `CLOSED_HEAD`, or to the first field of an attachment of which this
    /// handle holds one strong reference.
    bound: AtomicPtr<Head>,
    /// Attachments that were bound before, each with its strong reference.
    retired: AtomicPtr<Retired>,
    pub(crate) plan: Plan,
    pub(crate) opened: Opened,
    pub(crate) namespace: Named,
}

struct Retired {
    attachment: *const Attachment,
    next: *mut Retired,
}

impl Handle {
    pub(crate) fn new(plan: Plan) -> Result<Handle> {
        let mut process = fork::enter()?;
        let (attachment, opened) = plan.attach(&mut process, None)?;
        let bound = AtomicPtr::new(Arc::into_raw(attachment).cast_mut().cast());
        Ok(Handle { bound, retired: AtomicPtr::new(ptr::null_mut()), plan, opened, namespace: Named::default() })
    }

    /// Another handle on the same region, in the namespace `name`. Closing one leaves the other.
    ///
    /// # Errors
    /// As [`Handle::map`].
    pub(crate) fn sibling(&self, name: &[u8]) -> Result<Handle> {
        // Attaches anew first if that is due.
        self.map()?;
        let bound = AtomicPtr::new(Arc::into_raw(self.share(self.attachment()?)).cast_mut().cast());
        let (plan, opened) = (self.plan.clone(), self.opened.clone());
        Ok(Handle { bound, retired: AtomicPtr::new(ptr::null_mut()), plan, opened, namespace: Named::new(name) })
    }

    /// The bound attachment, whatever its state.
    ///
    /// # Errors
    /// `Closed`.
    pub(crate) fn attachment(&self) -> Result<&Attachment> {
        // Acquire: pairs with the Release of the exchange in `rebind`, which published
        // the attachment.
        let head = self.bound.load(Ordering::Acquire).cast_const();
        if ptr::eq(head, &raw const CLOSED_HEAD) {
            return Err(Error::Closed);
        }
        // SAFETY: S3. Every other head is the first field of an attachment (`repr(C)`), the
        // pointer was made from the whole of it, and what was once bound stays alive
        // until the handle is dropped.
        Ok(unsafe { &*head.cast::<Attachment>() })
    }

    /// A strong reference to an attachment that this handle keeps.
    pub(crate) fn share(&self, attachment: &Attachment) -> Arc<Attachment> {
        let attachment: *const Attachment = attachment;
        // SAFETY: S3. Made by `Arc::into_raw`, and the handle holds a reference of its own.
        unsafe {
            Arc::increment_strong_count(attachment);
            Arc::from_raw(attachment)
        }
    }

    #[inline]
    pub(crate) fn map(&self) -> Result<&Map<Os>> {
        let head = self.bound.load(Ordering::Acquire);
        // Relaxed: whoever marks it changes nothing that we rely on; see `mark_gone`.
        // SAFETY: S3. A static, or the first field of an attachment; see `attachment`.
        if unsafe { &*head }.valid.load(Ordering::Relaxed) == fork::epoch() {
            // SAFETY: S3. No epoch is `CLOSED`, so this is the head of an attachment.
            return Ok(unsafe { &*head.cast_const().cast::<Attachment>() }.map());
        }
        self.map_slow()
    }

    #[cold]
    fn map_slow(&self) -> Result<&Map<Os>> {
        let attachment = self.attachment()?;
        if attachment.is_ours() {
            if attachment.head.valid.load(Ordering::Relaxed) == LOOK_FIRST {
                let os = attachment.os();
                if !os.is_gone() {
                    return Ok(attachment.map());
                }
                attachment.mark_gone();
            }
            if !self.plan.reattach {
                // Reads go on in the old region; `writer` refuses.
                return Ok(attachment.map());
            }
        }
        self.rebind()
    }

    /// The map for a writing operation.
    ///
    /// # Errors
    /// `Gone` once when the region was destroyed or replaced; the next call attaches
    /// anew.
    #[inline]
    pub(crate) fn writer(&self) -> Result<&Map<Os>> {
        let map = self.map()?;
        let is_gone = map.host().is_gone();
        if is_gone || !self.plan.reattach { self.writer_slow(map, is_gone) } else { Ok(map) }
    }

    #[cold]
    fn writer_slow<'a>(&'a self, map: &'a Map<Os>, is_gone: bool) -> Result<&'a Map<Os>> {
        let attachment = self.attachment()?;
        if !ptr::eq(attachment.map(), map) {
            // Another thread attached anew; what was seen is the old one's.
            return self.map();
        }
        if is_gone {
            attachment.mark_gone();
        }
        if attachment.is_gone() {
            return Err(Error::Gone { path: map.host().file.shown() });
        }
        Ok(map)
    }

    /// Attaches anew: we are a forked child, or the region is gone.
    fn rebind(&self) -> Result<&Map<Os>> {
        let mut process = fork::enter()?;
        let old = self.attachment()?;
        let valid = old.head.valid.load(Ordering::Relaxed);
        if old.is_ours() && !old.is_gone() && (valid == process.epoch || valid == LOOK_FIRST) {
            // Another thread did it meanwhile.
            return Ok(old.map());
        }
        let gone = || Error::Gone { path: old.os().file.shown() };
        if old.is_gone() && self.plan.location.is_none() {
            return Err(gone());
        }
        let how = if self.plan.how == How::Create { How::OpenOrCreate } else { self.plan.how };
        let before = old.is_gone().then(|| Before::of(old));
        let plan = Plan { how, before, ..self.plan.clone() };
        let inherited = (!old.is_ours()).then_some(old);
        let (attachment, _) = plan.attach(&mut process, inherited).map_err(|error| match error {
            Error::Missing { .. } => gone(),
            error => error,
        })?;
        drop(process);
        let fresh: *mut Head = Arc::into_raw(attachment).cast_mut().cast();
        let stale = ptr::from_ref(old).cast_mut().cast();
        // Release: publishes the attachment, pairs with `attachment`. On failure the handle
        // was closed (nobody else binds: the process lock).
        if self.bound.compare_exchange(stale, fresh, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            // SAFETY: S3. Made by `Arc::into_raw` above and given to nobody.
            drop(unsafe { Arc::from_raw(fresh.cast_const().cast::<Attachment>()) });
            return Err(Error::Closed);
        }
        self.retire(old);
        // SAFETY: S3. Bound above; stays alive until the handle is dropped.
        Ok(unsafe { &*fresh.cast_const().cast::<Attachment>() }.map())
    }

    /// Keeps an attachment that is no longer bound until the handle is dropped.
    fn retire(&self, attachment: *const Attachment) {
        let node = Box::into_raw(Box::new(Retired { attachment, next: self.retired.load(Ordering::Relaxed) }));
        loop {
            // SAFETY: S3. Ours until the exchange publishes it.
            let next = unsafe { (*node).next };
            // Release: publishes the node to the drop of the handle. Relaxed: try again.
            match self.retired.compare_exchange(next, node, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return,
                // SAFETY: S3. As above.
                Err(current) => unsafe { (*node).next = current },
            }
        }
    }

    /// From now on every call is `Closed`; calls under way end as usual.
    pub(crate) fn close(&self) {
        // AcqRel: we take over the reference that was bound.
        let head = self.bound.swap((&raw const CLOSED_HEAD).cast_mut(), Ordering::AcqRel);
        if !ptr::eq(head, &raw const CLOSED_HEAD) {
            self.retire(head.cast_const().cast());
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.close();
        let mut node = *self.retired.get_mut();
        while !node.is_null() {
            // SAFETY: S3. Nodes come from `Box::into_raw` in `retire`, and we have the list
            // for ourselves.
            let retired = unsafe { Box::from_raw(node) };
            // SAFETY: S3. Each node holds one reference.
            unsafe { release(retired.attachment) };
            node = retired.next;
        }
    }
}
