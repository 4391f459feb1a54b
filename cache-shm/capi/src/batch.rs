//! Many keys at once.

use std::ffi::c_void;
use std::ops::Range;

use shm::Result;

use crate::arguments::{
    Bytes, Item, MetaInfo, MetaPlace, WriteOptions, array, handle, key_at, lend, object, place, take, tell, value_at,
};
use crate::errors::{CSHM_NOT_FOUND, CSHM_OK, boundary, found, invalid, remember};
use crate::handle::Cache;
use crate::write::Manner;

/// What cshm_get_many found.
pub struct Values {
    /// Of each key that was asked for: where its value is in `bytes`.
    entries: Vec<Option<(Range<usize>, MetaInfo)>>,
    bytes: Vec<u8>,
}

/// Runs a batch that tells by its argument what became of each item, and returns its number and
/// how many items were changed. If it fails as a whole, so did every item.
///
/// # Safety
/// C1: `results` and `total` may be NULL; else there is room for `count` numbers, and for one.
unsafe fn told_each(
    count: usize,
    results: *mut i32,
    total: *mut usize,
    batch: impl FnOnce(&dyn Fn(usize, i32)) -> Result<(i32, usize)>,
) -> i32 {
    let tell_of = |index: usize, number: i32| {
        if !results.is_null() {
            // SAFETY: not NULL; C1: there are `count`.
            unsafe { results.add(index).write(number) };
        }
    };
    let mut changed = None;
    let number = boundary(|| {
        let (number, how_many) = batch(&tell_of)?;
        changed = Some(how_many);
        Ok(number)
    });
    // More results than memory has places for are a mistake, and there is no room for them.
    if changed.is_none() && count <= isize::MAX as usize / size_of::<Item>() {
        (0..count).for_each(|index| tell_of(index, number));
    }
    // SAFETY: C1.
    unsafe { tell(total, changed.unwrap_or(0)) };
    number
}

/// The keys of a batch.
///
/// # Safety
/// C1, during `'a`, for each.
unsafe fn keys_at<'a>(keys: *const Bytes, count: usize) -> Result<Vec<&'a [u8]>> {
    // SAFETY: C1.
    let keys = unsafe { array(keys, count, "keys is NULL, or longer than any memory")? };
    // SAFETY: C1.
    keys.iter().map(|key| unsafe { key_at(key.data, key.bytes) }).collect()
}

/// Looks `count` keys up, faster than one by one, and stores what is there in `*out`, to be
/// read with cshm_values_get and given up with cshm_values_free. Each key is read by
/// itself: what others write meanwhile may be seen for some and not for others. A key that
/// cannot be one (empty, or too long) fails the call. On failure `*out` is NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_get_many(
    cache: *const Cache,
    keys: *const Bytes,
    count: usize,
    out: *mut *mut Values,
) -> i32 {
    let make = || {
        // SAFETY: C1, C2.
        let (cache, keys) = unsafe { (handle(cache)?, keys_at(keys, count)?) };
        let mut values = Values { entries: vec![None; count], bytes: Vec::new() };
        let mut failed = None;
        cache.shm.get_many(&keys, &mut |index, meta, value| {
            let start = values.bytes.len();
            values.bytes.extend_from_slice(value);
            match MetaInfo::new(meta, &cache.shm) {
                Ok(info) => values.entries[index] = Some((start..values.bytes.len(), info)),
                Err(error) => failed = Some(error),
            }
        })?;
        if let Some(error) = failed {
            return Err(error);
        }
        Ok(values)
    };
    // SAFETY: C1.
    unsafe { lend(out, make) }
}

/// The value that cshm_get_many found for the key at `index`, counted from 0: CSHM_OK, or
/// CSHM_NOT_FOUND. `*value` is valid until cshm_values_free; `value_bytes` and `meta` may
/// be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_values_get(
    values: *const Values,
    index: usize,
    value: *mut *const c_void,
    value_bytes: *mut usize,
    meta: *mut MetaInfo,
) -> i32 {
    boundary(|| {
        let value = place(value, "value is NULL")?;
        // SAFETY: not NULL; C1.
        unsafe { value.write(std::ptr::null()) };
        // SAFETY: C1, C2.
        let (values, meta) = unsafe { (object(values, "values is NULL")?, MetaPlace::new(meta)?) };
        let entry = values.entries.get(index).ok_or(invalid("there were not so many keys"))?;
        let Some((range, info)) = entry else { return Ok(CSHM_NOT_FOUND) };
        meta.fill(*info);
        let bytes = &values.bytes[range.clone()];
        // SAFETY: C1.
        unsafe {
            value.write(bytes.as_ptr().cast());
            tell(value_bytes, bytes.len());
        }
        Ok(CSHM_OK)
    })
}

/// Gives up what cshm_get_many found. NULL is allowed and does nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_values_free(values: *mut Values) {
    boundary(|| {
        // SAFETY: C2, given up.
        drop(unsafe { take(values) });
        Ok(CSHM_OK)
    });
}

/// Stores `count` values, each an operation of its own, as `options` say (NULL: the
/// defaults).
///
/// `results`, which may be NULL, has room for `count` numbers and gets one for each item;
/// `stored`, which may be NULL, how many were stored. Returns CSHM_OK if all were, else
/// the number of the last that was not; the others are stored all the same. If the call fails
/// as a whole (the region is gone, an argument makes no sense), each result is its number
/// and `*stored` is 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_set_many(
    cache: *const Cache,
    items: *const Item,
    count: usize,
    options: *const WriteOptions,
    results: *mut i32,
    stored: *mut usize,
) -> i32 {
    let store = |write: &dyn Fn(usize, i32)| {
        // SAFETY: C1, C2.
        let cache = unsafe { handle(cache)? };
        // SAFETY: C1.
        let (items, manner) =
            unsafe { (array(items, count, "items is NULL, or longer than any memory")?, Manner::new(cache, options)?) };
        let checked = items.iter().map(|item| {
            // SAFETY: C1.
            let (key, value) =
                unsafe { (key_at(item.key.data, item.key.bytes)?, value_at(item.value.data, item.value.bytes)?) };
            Ok((key, value, manner.options()))
        });
        let checked = checked.collect::<Result<Vec<_>>>()?;
        (0..count).for_each(|index| write(index, CSHM_OK));
        let mut last = CSHM_OK;
        let how_many = cache.shm.set_many(&checked, &mut |index, error| {
            last = remember(&error);
            write(index, last);
        })?;
        Ok((last, how_many))
    };
    // SAFETY: C1.
    unsafe { told_each(count, results, stored, store) }
}

/// Removes `count` keys, each an operation of its own.
///
/// `results`, which may be NULL, has room for `count` numbers and gets one for each key:
/// CSHM_OK, CSHM_NOT_FOUND or an error. `deleted`, which may be NULL, gets how many were
/// there. Returns CSHM_OK, or the number of the last that failed. If the call fails as a whole,
/// each result is its number and `*deleted` is 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_delete_many(
    cache: *const Cache,
    keys: *const Bytes,
    count: usize,
    results: *mut i32,
    deleted: *mut usize,
) -> i32 {
    let delete = |write: &dyn Fn(usize, i32)| {
        // SAFETY: C1, C2.
        let (cache, keys) = unsafe { (handle(cache)?, keys_at(keys, count)?) };
        let (mut last, mut how_many) = (CSHM_OK, 0);
        for (index, key) in keys.into_iter().enumerate() {
            let number = match cache.shm.delete(key) {
                Ok(was_there) => found(was_there),
                Err(error) => {
                    last = remember(&error);
                    last
                }
            };
            how_many += usize::from(number == CSHM_OK);
            write(index, number);
        }
        Ok((last, how_many))
    };
    // SAFETY: C1.
    unsafe { told_each(count, results, deleted, delete) }
}
