//! `get`, `set` and `delete`.

use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use cache_shm::{Meta, NEVER, Settings, WriteOptions, kind};
use serde_json::{Map, Value, json};

use super::{Place, key_bytes, ttl_ms};
use crate::cli::{Delete, Get, Kind, Set, Ttl};
use crate::failure::{Failure, Result};
use crate::output::{Output, insert_bytes, insert_value, kind_word, printable, remark, value_bytes};

/// Adds what is known of a value to a JSON object.
pub(super) fn insert_meta(object: &mut Map<String, Value>, meta: &Meta, now_ms: u64) {
    object.insert("kind".to_owned(), kind_word(meta.kind).into());
    object.insert("bytes".to_owned(), meta.value_bytes.into());
    object.insert("version".to_owned(), meta.version.into());
    object.insert("ttl_ms".to_owned(), ttl_ms(meta.expires_at_ms, now_ms).into());
}

pub(super) fn get(place: Place, arguments: &Get, output: &mut Output) -> Result<bool> {
    let cache = arguments.within.of(place.look(&arguments.name)?)?;
    let key = key_bytes(&arguments.key, arguments.hex)?;
    let map = cache.map()?;
    let mut stored = Vec::new();
    let found = cache.get_into(&key, &mut stored)?;
    let mut object = Map::new();
    object.insert("found".to_owned(), found.is_some().into());
    insert_bytes(&mut object, "key", &key);
    if let Some(meta) = &found {
        insert_meta(&mut object, meta, map.now_ms());
        match &arguments.output {
            Some(path) => std::fs::write(path, value_bytes(meta.kind, &stored))
                .map_err(|error| Failure::file("write the value to", path, &error))?,
            None if output.is_json() => insert_value(&mut object, meta.kind, &stored),
            None => {
                output.bytes(&value_bytes(meta.kind, &stored))?;
                if output.is_terminal() {
                    output.bytes(b"\n")?;
                }
            }
        }
    }
    if output.is_json() {
        output.json(&object.into())?;
    }
    Ok(found.is_some())
}

pub(super) fn set(place: Place, arguments: &Set, output: &mut Output) -> Result<bool> {
    let key = key_bytes(&arguments.key, arguments.hex)?;
    let (given, from_argument) = match (&arguments.value, &arguments.file) {
        (Some(value), _) => (value.as_bytes().to_vec(), true),
        (None, Some(path)) => (read_file(path)?, false),
        (None, None) => (read_file(Path::new("-"))?, false),
    };
    let (kind, value) = encode(given, arguments.kind, from_argument)?;
    let cache = arguments.within.of(place.change(&arguments.name, arguments.timeout)?)?;
    let ttl = match arguments.ttl {
        Some(Ttl(ttl)) => ttl,
        None => Settings::read(Some(&arguments.name))?.ttl.flatten(),
    };
    let expires_at_ms = ttl.map_or(Ok(NEVER), |ttl| cache.expiry(ttl))?;
    let options = WriteOptions { kind, expires_at_ms, ..cache.options() };
    let version = match (arguments.add, arguments.replace) {
        (true, _) => cache.add(&key, &value, &options)?,
        (_, true) => cache.replace(&key, &value, &options)?,
        _ => Some(cache.set_with(&key, &value, &options)?),
    };
    if output.is_json() {
        let mut object = Map::new();
        object.insert("stored".to_owned(), version.is_some().into());
        insert_bytes(&mut object, "key", &key);
        if let Some(version) = version {
            object.insert("version".to_owned(), version.into());
        }
        output.json(&object.into())?;
    }
    Ok(version.is_some())
}

pub(super) fn delete(place: Place, arguments: &Delete, output: &mut Output) -> Result<bool> {
    let keys: Vec<Vec<u8>> = arguments.keys.iter().map(|key| key_bytes(key, arguments.hex)).collect::<Result<_>>()?;
    let mut missing: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
    if let Some(cache) = arguments.within.known(place.change(&arguments.name, arguments.timeout)?)? {
        missing.clear();
        for key in &keys {
            if !cache.delete(key)? {
                missing.push(key);
            }
        }
        if let Some(first) = missing.first() {
            let (count, all) = (missing.len(), keys.len());
            remark(&format!(
                "{count} of {all} keys not there: {}{}",
                printable(first),
                if count > 1 { " ..." } else { "" }
            ));
        }
    }
    if output.is_json() {
        output.json(&json!({"deleted": keys.len() - missing.len(), "missing": missing.len()}))?;
    }
    Ok(missing.is_empty())
}

fn read_file(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = if path.as_os_str() == "-" {
        std::io::stdin().read_to_end(&mut bytes).map(|_| ())
    } else {
        std::fs::read(path).map(|read| bytes = read)
    };
    read.map_err(|error| Failure::file("read the value from", path, &error))?;
    Ok(bytes)
}

/// The kind and the stored bytes of a value that was given as text.
fn encode(given: Vec<u8>, wanted: Option<Kind>, from_argument: bool) -> Result<(u8, Vec<u8>)> {
    let is_text = std::str::from_utf8(&given).is_ok();
    let wanted = match wanted {
        Some(wanted) => wanted,
        None if from_argument && is_text => Kind::Str,
        None => Kind::Bytes,
    };
    let refused = |what: &str| {
        let shown: String = String::from_utf8_lossy(&given).chars().take(60).collect();
        Failure::usage(format!("the value {shown:?} is not {what}"))
    };
    let text = std::str::from_utf8(&given).ok().map(str::trim);
    Ok(match wanted {
        Kind::Bytes => (kind::BYTES, given),
        Kind::Str if is_text => (kind::STR, given),
        Kind::Str => return Err(refused("UTF-8 text; store it with --kind bytes")),
        Kind::Int => {
            let number: i64 =
                text.and_then(|text| text.parse().ok()).ok_or_else(|| refused("a signed 64-bit integer"))?;
            (kind::INT, number.to_le_bytes().to_vec())
        }
        Kind::Float => {
            let number: f64 = text.and_then(|text| text.parse().ok()).ok_or_else(|| refused("a number"))?;
            (kind::FLOAT, number.to_le_bytes().to_vec())
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_argument_is_text_and_a_file_is_bytes_unless_told_otherwise() {
        let encode = |given: &[u8], wanted, argument| encode(given.to_vec(), wanted, argument);
        assert_eq!(encode(b"Ada", None, true).unwrap(), (kind::STR, b"Ada".to_vec()));
        assert_eq!(encode(b"Ada", None, false).unwrap(), (kind::BYTES, b"Ada".to_vec()));
        assert_eq!(encode(b"\xff", None, true).unwrap(), (kind::BYTES, b"\xff".to_vec()));
        assert_eq!(encode(b"-7\n", Some(Kind::Int), false).unwrap(), (kind::INT, (-7i64).to_le_bytes().to_vec()));
        assert_eq!(encode(b"1.5", Some(Kind::Float), true).unwrap(), (kind::FLOAT, 1.5f64.to_le_bytes().to_vec()));
        for (given, wanted) in
            [(&b"\xff"[..], Kind::Str), (b"seven", Kind::Int), (b"9223372036854775808", Kind::Int), (b"x", Kind::Float)]
        {
            assert!(encode(given, Some(wanted), true).is_err());
        }
    }
}
