//! Views: values lent where they lie.

use std::ffi::c_void;

use crate::arguments::{MetaInfo, MetaPlace, handle, key_at, lend_found, object, take};
use crate::errors::{CSHM_NOT_FOUND, CSHM_OK, boundary};
use crate::handle::Cache;

/// A value where it lies in shared memory, without a copy.
pub struct View {
    view: shm::View,
    info: MetaInfo,
}

/// Lends the value of a key where it lies: `*out` is a view, to be given up with
/// cshm_view_release; NULL unless CSHM_OK is returned.
///
/// Its bytes stay as they are when the key is overwritten, deleted or evicted, when the
/// handle is closed and when the region is destroyed; in a forked child too. While it is
/// held its memory is not used again: hold views for as long as they are read, not for
/// ever. Where nothing can be pinned (a read-only handle, too many views at once) it is a
/// private copy. Any thread may read and release it. CSHM_BUSY if another thread is in the
/// middle of a fork() for too long.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_get_view(
    cache: *const Cache,
    key: *const c_void,
    key_bytes: usize,
    out: *mut *mut View,
) -> i32 {
    let make = || {
        // SAFETY: C1, C2.
        let (cache, key) = unsafe { (handle(cache)?, key_at(key, key_bytes)?) };
        let Some(view) = cache.shm.view(key)? else { return Ok(None) };
        let info = MetaInfo::new(&view.meta(), &cache.shm)?;
        Ok(Some(View { view, info }))
    };
    // SAFETY: C1.
    unsafe { lend_found(out, CSHM_NOT_FOUND, make) }
}

/// The bytes of a view, to be read and never written; valid until cshm_view_release. They
/// begin at a multiple of 64 if there are more than 16 KiB. NULL for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_view_data(view: *const View) -> *const c_void {
    // SAFETY: C2.
    unsafe { view.as_ref() }.map_or(std::ptr::null(), |view| view.view.as_ptr().cast())
}

/// How many bytes a view has; 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_view_bytes(view: *const View) -> usize {
    // SAFETY: C2.
    unsafe { view.as_ref() }.map_or(0, |view| view.view.len())
}

/// Describes the value of a view, as it was when it was lent.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_view_meta(view: *const View, meta: *mut MetaInfo) -> i32 {
    boundary(|| {
        // SAFETY: C1, C2.
        let (view, place) = unsafe { (object(view, "the view is NULL")?, MetaPlace::required(meta)?) };
        place.fill(view.info);
        Ok(CSHM_OK)
    })
}

/// Gives a view up: its bytes must not be read any more. NULL is allowed and does nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_view_release(view: *mut View) {
    boundary(|| {
        // SAFETY: C2, given up.
        drop(unsafe { take(view) });
        Ok(CSHM_OK)
    });
}
