//! Statistics, by name: a counter more is no change of the interface.

use std::ffi::{CStr, CString, c_char};
use std::sync::OnceLock;

use shm::{NamespaceInfo, Result};

use crate::arguments::{handle, place};
use crate::errors::{CSHM_NOT_FOUND, CSHM_OK, boundary, invalid};
use crate::handle::Cache;

/// A counter or size, with its name.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Stat {
    /// Such as "hits". Lives for ever.
    pub name: *const c_char,
    /// What it is now.
    pub value: u64,
}

/// The names of all statistics, of a region and of a namespace, as C strings.
fn c_name(name: &str) -> *const c_char {
    static NAMES: OnceLock<Vec<CString>> = OnceLock::new();
    let names = NAMES.get_or_init(|| {
        let of_region = shm::Stats::default().fields();
        let of_namespace = NamespaceInfo::default().counts();
        let names = of_region.iter().chain(&of_namespace).map(|(name, _)| *name);
        names.filter_map(|name| CString::new(name).ok()).collect()
    });
    let found = names.iter().find(|known| known.as_bytes() == name.as_bytes());
    found.map_or(c"".as_ptr(), |name| name.as_ptr())
}

/// Fills up to `capacity` of `stats`.
///
/// # Safety
/// C1.
unsafe fn fill(fields: &[(&str, u64)], stats: *mut Stat, capacity: usize, count: *mut usize) -> Result<i32> {
    let count = place(count, "count is NULL")?;
    if stats.is_null() && capacity != 0 {
        return Err(invalid("stats is NULL"));
    }
    for (index, (name, value)) in fields.iter().take(capacity).enumerate() {
        // SAFETY: not NULL, as the capacity is not 0; C1.
        unsafe { stats.add(index).write(Stat { name: c_name(name), value: *value }) };
    }
    // SAFETY: not NULL; C1.
    unsafe { count.write(fields.len()) };
    Ok(CSHM_OK)
}

/// Tells the counters and sizes of the region: fills up to `capacity` of `stats`, and stores
/// in `*count` how many there are, of which later versions have more. `stats` may be NULL if
/// `capacity` is 0. Each is exact when nobody is at work, but that of items and their bytes
/// what expired, or died with a clear, a namespace or a tag, may be counted until it is met.
/// Together they are not one instant.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_stats(cache: *const Cache, stats: *mut Stat, capacity: usize, count: *mut usize) -> i32 {
    boundary(|| {
        // SAFETY: C2.
        let fields = unsafe { handle(cache)? }.shm.stats()?.fields();
        // SAFETY: C1.
        unsafe { fill(&fields, stats, capacity, count) }
    })
}

/// As cshm_stats for the counters of the handle's namespace. CSHM_NOT_FOUND if it is not
/// there, which only a read-only handle can see.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_namespace_stats(
    cache: *const Cache,
    stats: *mut Stat,
    capacity: usize,
    count: *mut usize,
) -> i32 {
    boundary(|| {
        // SAFETY: C2.
        let cache = unsafe { handle(cache)? };
        let infos = cache.shm.namespaces()?;
        let own = infos.iter().find(|info| info.name == cache.shm.namespace_name());
        let fields = own.map(NamespaceInfo::counts);
        // SAFETY: C1.
        let result = unsafe { fill(fields.as_ref().map_or(&[], |fields| &fields[..]), stats, capacity, count)? };
        Ok(if fields.is_some() { result } else { CSHM_NOT_FOUND })
    })
}

/// Stores one statistic of the region in `*value`, by its name, such as "hits".
/// CSHM_NOT_FOUND if this version has none of that name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_stat_value(cache: *const Cache, name: *const c_char, value: *mut u64) -> i32 {
    boundary(|| {
        let value = place(value, "value is NULL")?;
        if name.is_null() {
            return Err(invalid("the name is NULL"));
        }
        // SAFETY: not NULL; C1.
        let name = unsafe { CStr::from_ptr(name) }.to_bytes();
        // SAFETY: C2.
        let fields = unsafe { handle(cache)? }.shm.stats()?.fields();
        let Some((_, found)) = fields.iter().find(|(known, _)| known.as_bytes() == name) else {
            return Ok(CSHM_NOT_FOUND);
        };
        // SAFETY: not NULL; C1.
        unsafe { value.write(*found) };
        Ok(CSHM_OK)
    })
}

/// Begins to count anew, for everybody: the counters of the handle's namespace, or from a
/// handle in the default one those of the whole region.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_reset_stats(cache: *const Cache) -> i32 {
    boundary(|| {
        // SAFETY: C2.
        unsafe { handle(cache)? }.shm.reset_stats()?;
        Ok(CSHM_OK)
    })
}
