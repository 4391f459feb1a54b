//! Commands on keys, whatever they hold.

use cache_shm::{Cache, Cas, Cursor, WriteOptions, kind};

use super::reply::{NO_KEY, Refusal, SYNTAX};
use super::{Call, Done, glob, parse, together, values};

/// Keys of one `SCAN` that asks for no number.
const SCAN_COUNT: i64 = 10;
/// Keys of one `SCAN`, whatever it asks for.
const SCAN_COUNT_MAX: i64 = 100_000;
/// Keys of a `SCAN` are not looked for further when they are so many bytes.
const SCAN_BYTES: usize = 1 << 20;
/// Pieces of the region, of 64 buckets each, that one `SCAN` looks at, and one more for so many
/// keys that it asks for: a database may have few keys beside many of others.
const SCAN_PIECES: usize = 100;
const SCAN_PIECE_KEYS: usize = 16;
/// Places that `RANDOMKEY` looks at before it looks at all.
const RANDOM_PLACES: u32 = 64;

/// `DEL key [key ...]`, `UNLINK key [key ...]`
pub fn del(call: &mut Call<'_>) -> Done {
    let timeout_ns = call.options().timeout_ns;
    let at = call.state.database.clone();
    let at = at.writing_scope()?;
    count(call, |key| Ok(at.map.delete(at.key(key), timeout_ns)?))
}

/// `TOUCH key [key ...]`
pub fn touch(call: &mut Call<'_>) -> Done {
    let at = call.state.database.clone();
    let at = at.scope()?;
    count(call, |key| Ok(at.map.mark_used(at.key(key))?))
}

/// `EXISTS key [key ...]`
pub fn exists(call: &mut Call<'_>) -> Done {
    let at = call.state.database.clone();
    let at = at.scope()?;
    count(call, |key| Ok(at.map.contains(at.key(key))?))
}

/// Answers of how many keys something is true.
fn count(call: &mut Call<'_>, mut is_true: impl FnMut(&[u8]) -> Result<bool, Refusal>) -> Done {
    let count = together(call, |call| {
        call.args.from(1).try_fold(0, |count, key| Ok::<i64, Refusal>(count + i64::from(is_true(key)?)))
    })?;
    call.reply.integer(count);
    Ok(())
}

/// `TYPE key`
pub fn kind_of(call: &mut Call<'_>) -> Done {
    let is_there = call.state.database.contains(call.args.get(1))?;
    call.reply.simple(if is_there { "string" } else { "none" });
    Ok(())
}

/// `RENAME key newkey`
pub fn rename(call: &mut Call<'_>) -> Done {
    move_key(call, true)?.then_some(()).ok_or(NO_KEY)?;
    call.reply.ok();
    Ok(())
}

/// `RENAMENX key newkey`
pub fn renamenx(call: &mut Call<'_>) -> Done {
    let is_moved = move_key(call, false)?;
    call.reply.integer(is_moved.into());
    Ok(())
}

/// Stores the value under the new name, then removes the old: a death between leaves both.
fn move_key(call: &Call<'_>, replaces: bool) -> Result<bool, Refusal> {
    let (from, to) = (call.args.get(1), call.args.get(2));
    let database = &call.state.database;
    call.turn.alone(|| {
        // The version that was stored under the new name.
        let mut made = None;
        for _ in 0..MOVES_MAX {
            let mut stored = Vec::new();
            let Some(meta) = database.get_into(from, &mut stored)? else {
                return if made.is_some() { Ok(true) } else { Err(NO_KEY) };
            };
            if from == to {
                return Ok(replaces);
            }
            let options = copied(&meta, call.options());
            made = match made {
                None if replaces => Some(database.set_with(to, &stored, &options)?),
                None => match database.add(to, &stored, &options)? {
                    None => return Ok(false),
                    made => made,
                },
                Some(version) => match database.cas(to, version, &stored, &options)? {
                    Cas::Stored(version) => Some(version),
                    // Somebody took the new name over: what was moved was there before.
                    _ => return Ok(true),
                },
            };
            let at = database.writing_scope()?;
            if at.map.delete_version(at.key(from), &meta, options.timeout_ns)? {
                return Ok(true);
            }
            // Somebody who is attached to the region changed it meanwhile: the change moves too.
        }
        // Whoever goes on changing it writes to a key that was moved.
        Ok(true)
    })
}

/// A key that is changed before it was moved is moved again at most so often.
const MOVES_MAX: u32 = 100;

fn put(database: &Cache, key: &[u8], value: &[u8], options: &WriteOptions, replaces: bool) -> Result<bool, Refusal> {
    if replaces {
        database.set_with(key, value, options)?;
        return Ok(true);
    }
    Ok(database.add(key, value, options)?.is_some())
}

/// The options of another key for the same value.
fn copied<'o>(meta: &cache_shm::Meta, options: WriteOptions<'o>) -> WriteOptions<'o> {
    WriteOptions { key_form: options.key_form, ..options.keeping(meta) }
}

/// `COPY source destination [DB destination-db] [REPLACE]`
pub fn copy(call: &mut Call<'_>) -> Done {
    let (mut replaces, mut database, mut index) = (false, call.state.database.clone(), 3);
    while index < call.args.count() {
        if call.is_word(index, "REPLACE") {
            replaces = true;
        } else if call.is_word(index, "DB") && index + 1 < call.args.count() {
            index += 1;
            let number = call.integer(index)?;
            database = call.shared().databases.get(number)?;
        } else {
            return Err(SYNTAX);
        }
        index += 1;
    }
    let (from, to) = (call.args.get(1), call.args.get(2));
    if from == to && database.namespace_name() == call.state.database.namespace_name() {
        return Err(Refusal::fixed("ERR source and destination objects are the same"));
    }
    let is_copied = call.turn.alone(|| {
        let mut stored = Vec::new();
        let Some(meta) = call.state.database.get_into(from, &mut stored)? else { return Ok(false) };
        put(&database, to, &stored, &copied(&meta, call.options()), replaces)
    })?;
    call.reply.integer(is_copied.into());
    Ok(())
}

/// `RANDOMKEY`
pub fn randomkey(call: &mut Call<'_>) -> Done {
    let database = &call.state.database;
    let mut keys: Vec<Vec<u8>> = Vec::new();
    for _ in 0..RANDOM_PLACES {
        if !keys.is_empty() {
            break;
        }
        let place = database.map()?.place(fastrand::u64(..));
        database.scan(place, &mut |key, _| keys.push(key.to_vec()))?;
    }
    let mut next = Some(Cursor::START);
    while let (Some(cursor), true) = (next, keys.is_empty()) {
        next = database.scan(cursor, &mut |key, _| keys.push(key.to_vec()))?;
    }
    match keys.get(fastrand::usize(..keys.len().max(1))) {
        Some(key) => call.reply.bulk(key),
        None => call.reply.null(),
    }
    Ok(())
}

/// `KEYS pattern`
pub fn keys(call: &mut Call<'_>) -> Done {
    let pattern = call.args.get(1);
    let mut found = Vec::new();
    let mut next = Some(Cursor::START);
    while let Some(cursor) = next {
        next = call.state.database.scan(cursor, &mut |key, _| {
            if glob::matches(pattern, key) {
                found.push(key.to_vec());
            }
        })?;
    }
    let start = call.reply.out().len();
    call.reply.array(found.len());
    for key in found {
        call.reply.bulk(&key);
        call.check_reply(start)?;
    }
    Ok(())
}

/// `SCAN cursor [MATCH pattern] [COUNT count] [TYPE type]`
pub fn scan(call: &mut Call<'_>) -> Done {
    let invalid = Refusal::fixed("ERR invalid cursor");
    let text = std::str::from_utf8(call.args.get(1)).map_err(|_| invalid.clone())?;
    let cursor: u64 = text.parse().map_err(|_| invalid)?;
    let (mut pattern, mut count, mut is_string, mut index) = (&b"*"[..], SCAN_COUNT, true, 2);
    while index < call.args.count() {
        if index + 1 >= call.args.count() {
            return Err(SYNTAX);
        }
        if call.is_word(index, "MATCH") {
            pattern = call.args.get(index + 1);
        } else if call.is_word(index, "COUNT") {
            count = call.integer(index + 1)?;
            if count < 1 {
                return Err(SYNTAX);
            }
        } else if call.is_word(index, "TYPE") {
            is_string = call.args.get(index + 1).eq_ignore_ascii_case(b"string");
        } else {
            return Err(SYNTAX);
        }
        index += 2;
    }
    let wanted = count.min(SCAN_COUNT_MAX) as usize;
    let at = call.scope()?;
    let (mut found, mut found_bytes, mut seen) = (Vec::new(), 0, 0);
    let mut next = Some(Cursor::from_u64(cursor));
    for _ in 0..SCAN_PIECES + wanted / SCAN_PIECE_KEYS {
        let Some(piece) = next.filter(|_| seen < wanted && found_bytes < SCAN_BYTES) else { break };
        // Keys of other databases count: they are looked at.
        next = at.map.scan(piece, &mut |key, meta| {
            seen += 1;
            if meta.namespace == at.namespace && is_string && glob::matches(pattern, key) {
                found_bytes += key.len();
                found.push(key.to_vec());
            }
        })?;
    }
    call.reply.array(2);
    let cursor = next.map_or(0, Cursor::to_u64);
    call.reply.bulk(itoa::Buffer::new().format(cursor).as_bytes());
    call.reply.array(found.len());
    found.iter().for_each(|key| call.reply.bulk(key));
    Ok(())
}

/// `DBSIZE`
pub fn dbsize(call: &mut Call<'_>) -> Done {
    let count = call.state.database.len()?;
    call.reply.integer(count as i64);
    Ok(())
}

/// `FLUSHDB [ASYNC | SYNC]`
pub fn flushdb(call: &mut Call<'_>) -> Done {
    check_flush(call)?;
    call.state.database.clear()?;
    call.reply.ok();
    Ok(())
}

/// `FLUSHALL [ASYNC | SYNC]`
pub fn flushall(call: &mut Call<'_>) -> Done {
    check_flush(call)?;
    call.state.database.clear_all()?;
    call.reply.ok();
    Ok(())
}

fn check_flush(call: &Call<'_>) -> Done {
    match call.args.count() {
        1 => Ok(()),
        2 if call.is_word(1, "ASYNC") || call.is_word(1, "SYNC") => Ok(()),
        _ => Err(SYNTAX),
    }
}

/// `OBJECT ENCODING key`
pub fn encoding(call: &mut Call<'_>) -> Done {
    /// The longest string that Redis keeps beside its head.
    const EMBEDDED_BYTES: usize = 44;
    let (database, key) = (&call.state.database, call.args.get(2));
    let word = match database.meta(key)? {
        None => None,
        Some(meta) if meta.kind == kind::INT => Some("int"),
        // Too long for a number: its bytes need not be read.
        Some(meta) if meta.value_bytes > EMBEDDED_BYTES => Some("raw"),
        Some(_) => values::read(database, key)?
            .map(|(_, value)| if parse::number(&value).is_some() { "int" } else { "embstr" }),
    };
    match word {
        Some(word) => call.reply.bulk(word.as_bytes()),
        None => call.reply.null(),
    }
    Ok(())
}

/// `OBJECT REFCOUNT key`
pub fn refcount(call: &mut Call<'_>) -> Done {
    if call.state.database.contains(call.args.get(2))? {
        // The index names an item once.
        call.reply.integer(1);
    } else {
        call.reply.null();
    }
    Ok(())
}

/// `OBJECT IDLETIME key`, `OBJECT FREQ key`
pub fn untracked(call: &mut Call<'_>) -> Done {
    if call.state.database.contains(call.args.get(2))? {
        return Err(Refusal::fixed("ERR idle time and access frequency are not tracked by this cache"));
    }
    call.reply.null();
    Ok(())
}

/// `MEMORY USAGE key [SAMPLES count]`
pub fn memory_usage(call: &mut Call<'_>) -> Done {
    match call.args.count() {
        3 => {}
        5 if call.is_word(3, "SAMPLES") && call.integer(4)? >= 0 => {}
        _ => return Err(SYNTAX),
    }
    let key = call.args.get(2);
    match call.state.database.meta(key)? {
        Some(meta) => {
            let bytes = meta.item_bytes(call.scope()?.key(key));
            call.reply.integer(bytes as i64);
        }
        None => call.reply.null(),
    }
    Ok(())
}
