//! One key for people: what it holds, and its end if that is allowed.
//!
//! Owns: how a key is named in a request, and what is shown of it. A look leaves no trace: it
//! is neither a hit nor a use, and makes no namespace.

use std::mem::MaybeUninit;

use cache_shm::{Cache, Destination, Error, Key, Meta, NEVER, Namespace, kind};
use serde_json::{Map, Value, json};

use super::reply::{Answer, Status};
use super::request::{Refused, field};
use crate::output::{insert_bytes, insert_value, kind_word, value_bytes};

/// A value with more bytes is described and not shown.
const SHOWN_BYTES_MAX: usize = 1 << 20;
/// So much of it is shown in hexadecimal.
const HEX_BYTES_MAX: usize = 4 << 10;

/// Which key is meant.
struct Wanted {
    namespace: Vec<u8>,
    key: Vec<u8>,
}

impl Wanted {
    /// `namespace`, none being the one without a name, and `key` or `key_hex`.
    fn read(form: &[u8]) -> Result<Wanted, Refused> {
        let namespace = field(form, "namespace")?.unwrap_or_default();
        let key = match (field(form, "key")?, field(form, "key_hex")?) {
            (Some(key), None) => key,
            (None, Some(digits)) => {
                unhex(&digits).ok_or((Status::BadRequest, "key_hex is two digits for each byte"))?
            }
            _ => return Err((Status::BadRequest, "give the key as key=TEXT or as key_hex=DIGITS")),
        };
        Ok(Wanted { namespace, key })
    }

    /// Its namespace, if there is one of that name.
    fn namespace(&self, cache: &Cache) -> cache_shm::Result<Option<Namespace>> {
        match self.namespace.as_slice() {
            b"" => Ok(Some(Namespace::DEFAULT)),
            name => cache.map()?.find_namespace(name),
        }
    }

    fn object(&self) -> Map<String, Value> {
        let mut object = Map::new();
        insert_bytes(&mut object, "namespace", &self.namespace);
        insert_bytes(&mut object, "key", &self.key);
        object
    }
}

fn unhex(digits: &[u8]) -> Option<Vec<u8>> {
    let digit = |digit: u8| char::from(digit).to_digit(16);
    let bytes = digits.chunks(2).map(|pair| match pair {
        [high, low] => Some((digit(*high)? * 16 + digit(*low)?) as u8),
        _ => None,
    });
    bytes.collect()
}

/// `/api/key`: what a key holds.
pub fn show(cache: &Cache, query: &str) -> Answer {
    answer(Wanted::read(query.as_bytes()).map(|wanted| look(cache, &wanted)))
}

/// `/api/delete`: removes a key.
pub fn delete(cache: &Cache, form: &[u8]) -> Answer {
    answer(Wanted::read(form).map(|wanted| remove(cache, &wanted)))
}

fn answer(outcome: Result<cache_shm::Result<Map<String, Value>>, Refused>) -> Answer {
    match outcome {
        Ok(Ok(object)) => Answer::json(Value::from(object).to_string()),
        // What the key is, or what the region is.
        Ok(Err(error @ (Error::KeyEmpty | Error::KeyTooLong { .. } | Error::LabelLength { .. }))) => {
            Answer::text(Status::BadRequest, &error.to_string())
        }
        Ok(Err(error)) => Answer::text(Status::Unavailable, &error.to_string()),
        Err(refused) => refused.into(),
    }
}

/// Takes a value unless it is too large to be shown.
#[derive(Default)]
struct Preview {
    value: Vec<u8>,
    large: Option<Meta>,
}

impl Destination for Preview {
    fn buffer(&mut self, meta: &Meta) -> Result<&mut [MaybeUninit<u8>], Error> {
        if meta.value_bytes > SHOWN_BYTES_MAX {
            self.large = Some(*meta);
            let (bytes, bytes_given) = (meta.value_bytes as u64, SHOWN_BYTES_MAX as u64);
            return Err(Error::BufferTooSmall { bytes, bytes_given });
        }
        self.value.buffer(meta)
    }
}

fn look(cache: &Cache, wanted: &Wanted) -> cache_shm::Result<Map<String, Value>> {
    let mut object = wanted.object();
    let map = cache.map()?;
    let mut preview = Preview::default();
    let found = match wanted.namespace(cache)? {
        Some(namespace) => map.carry(Key::new(namespace, &wanted.key), &mut preview),
        None => Ok(None),
    };
    let (meta, known) = match (found, preview.large) {
        (Err(Error::BufferTooSmall { .. }), Some(meta)) => (Some(meta), None),
        (found, _) => {
            let found = found?;
            (found.as_ref().map(|carried| carried.meta), found)
        }
    };
    object.insert("found".to_owned(), meta.is_some().into());
    let Some(meta) = meta else { return Ok(object) };
    let ttl_ms = (meta.expires_at_ms != NEVER).then(|| meta.expires_at_ms.saturating_sub(map.now_ms()));
    object.extend([
        ("kind".to_owned(), kind_word(meta.kind).into()),
        ("bytes".to_owned(), meta.value_bytes.into()),
        ("version".to_owned(), meta.version.into()),
        ("ttl_ms".to_owned(), ttl_ms.into()),
        ("client_flags".to_owned(), meta.client_flags.into()),
    ]);
    if let Some(carried) = known {
        object.extend([
            ("uses".to_owned(), carried.uses.into()),
            ("queue".to_owned(), if carried.is_main { "main" } else { "small" }.into()),
            ("tags".to_owned(), carried.tag_count.into()),
        ]);
        insert_value(&mut object, meta.kind, &preview.value);
        if let Some(text) = text_of(meta.kind, &preview.value) {
            object.insert("value_text".to_owned(), text.into());
        }
        let shown = &preview.value[..preview.value.len().min(HEX_BYTES_MAX)];
        object.insert("hex".to_owned(), shown.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into());
    }
    Ok(object)
}

/// A value that JSON has as something else than text, as Python writes it: a browser's numbers are exact to 53 bits
/// only, and it does not tell 1.0 from 1.
fn text_of(number: u8, stored: &[u8]) -> Option<String> {
    match (number, <[u8; 8]>::try_from(stored)) {
        (kind::FLOAT, Ok(bytes)) => Some(format!("{:?}", f64::from_le_bytes(bytes))),
        (kind::INT | kind::NONE | kind::FALSE | kind::TRUE, _) => String::from_utf8(value_bytes(number, stored)).ok(),
        _ => None,
    }
}

fn remove(cache: &Cache, wanted: &Wanted) -> cache_shm::Result<Map<String, Value>> {
    let mut object = wanted.object();
    let deleted = match wanted.namespace(cache)? {
        Some(namespace) => {
            let timeout_ns = cache.options().timeout_ns;
            cache.writer()?.delete(Key::new(namespace, &wanted.key), timeout_ns)?
        }
        None => false,
    };
    object.insert("deleted".to_owned(), json!(deleted));
    Ok(object)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn region() -> Cache {
        Cache::builder(None).size(8 << 20).create().unwrap()
    }

    fn looked(cache: &Cache, query: &str) -> Map<String, Value> {
        look(cache, &Wanted::read(query.as_bytes()).unwrap()).unwrap()
    }

    #[test]
    fn a_look_tells_what_is_there_and_leaves_no_trace() {
        let cache = region();
        cache.namespace(b"users").unwrap().set_for(b"a b", b"va\xff", Duration::from_secs(60)).unwrap();
        let before = cache.stats().unwrap();
        let found = looked(&cache, "namespace=users&key=a+b");
        assert_eq!((&found["found"], &found["bytes"], &found["hex"]), (&json!(true), &json!(3), &json!("7661ff")));
        assert_eq!((&found["value_base64"], &found["queue"]), (&json!("dmH/"), &json!("small")));
        assert!(found["ttl_ms"].as_u64().unwrap() <= 60_000);
        assert_eq!(looked(&cache, "key_hex=612062&namespace=users")["found"], true);
        assert_eq!(looked(&cache, "key=a+b")["found"], false);
        assert_eq!(looked(&cache, "key=a&namespace=none")["found"], false);
        let after = cache.stats().unwrap();
        assert_eq!((after.hits, after.misses), (before.hits, before.misses));
        assert_eq!(cache.namespaces().unwrap().len(), 2);
    }

    #[test]
    fn a_large_value_is_described_and_not_copied() {
        let cache = region();
        cache.set(b"large", &vec![1; SHOWN_BYTES_MAX + 1]).unwrap();
        let found = looked(&cache, "key=large");
        assert_eq!((&found["bytes"], found.get("hex")), (&json!(SHOWN_BYTES_MAX + 1), None));
    }

    #[test]
    fn a_key_is_removed_where_it_was_looked_for() {
        let cache = region();
        let users = cache.namespace(b"users").unwrap();
        cache.set(b"a", b"1").unwrap();
        users.set(b"a", b"2").unwrap();
        let wanted = Wanted::read(b"key=a&namespace=users").unwrap();
        assert_eq!(remove(&cache, &wanted).unwrap()["deleted"], true);
        assert_eq!(remove(&cache, &wanted).unwrap()["deleted"], false);
        assert!(cache.contains(b"a").unwrap() && !users.contains(b"a").unwrap());
    }

    #[test]
    fn what_names_no_key_is_refused() {
        for query in ["", "key=a&key_hex=61", "key_hex=6", "key_hex=xy", "key=%"] {
            assert_eq!(show(&region(), query).status, Status::BadRequest, "{query}");
        }
        assert_eq!(show(&region(), "key=").status, Status::BadRequest);
        let long = format!("key=a&namespace={}", "n".repeat(65));
        assert_eq!(show(&region(), &long).status, Status::BadRequest);
        assert_eq!(show(&region(), "key=a").status, Status::Ok);
    }
}
