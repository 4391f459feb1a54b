//! `keys`.

use std::os::unix::ffi::OsStrExt;

use cache_shm::Cursor;
use serde_json::{Map, Value, json};

use super::Place;
use super::values::insert_meta;
use crate::cli::Keys;
use crate::failure::Result;
use crate::output::{Output, insert_bytes, printable};

pub(super) fn keys(place: Place, arguments: &Keys, output: &mut Output) -> Result<bool> {
    let cache = arguments.within.of(place.look(&arguments.name)?)?;
    let map = cache.map()?;
    let prefix = arguments.prefix.as_deref().map(OsStrExt::as_bytes).unwrap_or_default();
    let limit = arguments.limit.unwrap_or(u64::MAX);
    let mut count = 0u64;
    let mut cursor = Some(Cursor::START);
    let mut lines: Vec<(Vec<u8>, cache_shm::Meta)> = Vec::new();
    while let Some(from) = cursor.take()
        && count < limit
    {
        cursor = cache.scan(from, &mut |key, meta| {
            if key.starts_with(prefix) {
                lines.push((key.to_vec(), *meta));
            }
        })?;
        for (key, meta) in lines.drain(..).take((limit - count).min(usize::MAX as u64) as usize) {
            count += 1;
            if arguments.count {
            } else if arguments.null {
                output.bytes(&key)?;
                output.bytes(b"\0")?;
            } else if output.is_json() {
                let mut object: Map<String, Value> = Map::new();
                insert_bytes(&mut object, "key", &key);
                insert_meta(&mut object, &meta, map.now_ms());
                output.json(&object.into())?;
            } else {
                output.line(&printable(&key))?;
            }
        }
    }
    if arguments.count {
        if output.is_json() {
            output.json(&json!({"count": count}))?;
        } else {
            output.line(&count.to_string())?;
        }
    }
    Ok(count > 0)
}
