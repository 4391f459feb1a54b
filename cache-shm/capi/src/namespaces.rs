//! Namespaces and tags: keys that are told apart, and values that go together.

use std::ffi::c_void;

use shm::NAMESPACE_NAME_BYTES;

use crate::arguments::{bytes_at, handle, lend, place};
use crate::errors::{CSHM_OK, boundary, invalid};
use crate::handle::Cache;

/// The name of a namespace.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Label {
    /// How many bytes of `text` it has; 0 for the default namespace.
    pub bytes: usize,
    /// Its bytes, which no zero ends.
    pub text: [u8; 64],
}

const _: () = assert!(size_of::<[u8; 64]>() == NAMESPACE_NAME_BYTES);

/// Opens another handle on the same region, in the namespace `name` of 1 to 64 bytes, which
/// is made if it is not there yet; `*out` is given up with cshm_close, and may outlive
/// `cache`. The same bytes are another key in each namespace, and the same name another
/// lock. Namespaces stay for the life of the region, which has room for 15 (1 MiB) to 255
/// (16 MiB and more): else CSHM_NAMESPACES_FULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_namespace(
    cache: *const Cache,
    name: *const c_void,
    name_bytes: usize,
    out: *mut *mut Cache,
) -> i32 {
    let make = || {
        // SAFETY: C1, C2.
        let (cache, name) =
            unsafe { (handle(cache)?, bytes_at(name, name_bytes, "the name is NULL, or longer than any memory")?) };
        cache.sibling(name)
    };
    // SAFETY: C1.
    unsafe { lend(out, make) }
}

/// Lists the namespaces of the region, the default one first: fills up to `capacity` of
/// `names`, and stores in `*count` how many there are. `names` may be NULL if `capacity`
/// is 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_namespaces(
    cache: *const Cache,
    names: *mut Label,
    capacity: usize,
    count: *mut usize,
) -> i32 {
    boundary(|| {
        let count = place(count, "count is NULL")?;
        if names.is_null() && capacity != 0 {
            return Err(invalid("names is NULL"));
        }
        // SAFETY: C2.
        let infos = unsafe { handle(cache)? }.shm.namespaces()?;
        for (index, info) in infos.iter().take(capacity).enumerate() {
            let mut label = Label { bytes: info.name.len(), text: [0; 64] };
            label.text[..info.name.len()].copy_from_slice(&info.name);
            // SAFETY: not NULL, as the capacity is not 0; C1.
            unsafe { names.add(index).write(label) };
        }
        // SAFETY: not NULL; C1.
        unsafe { count.write(infos.len()) };
        Ok(CSHM_OK)
    })
}

/// Removes every value of the handle's namespace that was stored with the tag `name`, of 1
/// to 255 bytes, in one step. Tags share words: a value of another tag may go as well,
/// seldom.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_evict_tag(cache: *const Cache, name: *const c_void, name_bytes: usize) -> i32 {
    boundary(|| {
        // SAFETY: C1, C2.
        let (cache, name) =
            unsafe { (handle(cache)?, bytes_at(name, name_bytes, "the name is NULL, or longer than any memory")?) };
        cache.shm.evict_tag(name)?;
        Ok(CSHM_OK)
    })
}

/// Removes all keys of the handle's namespace in one step. Locks and rates stay.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_clear(cache: *const Cache) -> i32 {
    boundary(|| {
        // SAFETY: C2.
        unsafe { handle(cache)? }.shm.clear()?;
        Ok(CSHM_OK)
    })
}

/// Removes the keys of all namespaces in one step. Locks and rates stay.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_clear_all(cache: *const Cache) -> i32 {
    boundary(|| {
        // SAFETY: C2.
        unsafe { handle(cache)? }.shm.clear_all()?;
        Ok(CSHM_OK)
    })
}
