//! Commands on keys, whatever they hold.

use cache_shm::{Cache, Cas, Cursor, WriteOptions, kind};

use super::reply::{NO_KEY, Refusal, SYNTAX};
use super::{Call, Done, glob, parse, values};

/// Keys of one `SCAN` that asks for no number.
const SCAN_COUNT: i64 = 10;
/// Keys of one `SCAN`, whatever it asks for.
const SCAN_COUNT_MAX: i64 = 100_000;
/// Bytes of an item beside its key and value, and of its slot in the index.
const ITEM_OVERHEAD_BYTES: u64 = 24 + 8;

/// `DEL key [key ...]`, `UNLINK key [key ...]`
pub fn del(call: &mut Call<'_>) -> Done {
    let at = call.writing_scope()?;
    let timeout_ns = call.options().timeout_ns;
    let mut count = 0;
    for key in call.args.from(1) {
        count += i64::from(at.map.delete(at.key(key), timeout_ns)?);
    }
    call.reply.integer(count);
    Ok(())
}

/// `TOUCH key [key ...]`
pub fn touch(call: &mut Call<'_>) -> Done {
    let at = call.scope()?;
    let mut count = 0;
    for key in call.args.from(1) {
        count += i64::from(at.map.get(at.key(key), &mut Vec::new())?.is_some());
    }
    call.reply.integer(count);
    Ok(())
}

/// `EXISTS key [key ...]`
pub fn exists(call: &mut Call<'_>) -> Done {
    let at = call.scope()?;
    let mut count = 0;
    for key in call.args.from(1) {
        count += i64::from(at.map.contains(at.key(key))?);
    }
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
            if at.map.delete_version(at.key(from), meta.version, options.timeout_ns)? {
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

fn copied<'o>(meta: &cache_shm::Meta, options: WriteOptions<'o>) -> WriteOptions<'o> {
    WriteOptions { kind: meta.kind, expires_at_ms: meta.expires_at_ms, client_flags: meta.client_flags, ..options }
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
    let mut cursor = Cursor::from_u64(fastrand::u64(..));
    let mut keys: Vec<Vec<u8>> = Vec::new();
    // From some place to the end, and if nothing is there, once more from the start.
    for _ in 0..2 {
        let mut next = Some(cursor);
        while let (Some(at), true) = (next, keys.is_empty()) {
            next = call.state.database.scan(at, &mut |key, _| keys.push(key.to_vec()))?;
        }
        cursor = Cursor::START;
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
    let (mut found, mut seen) = (Vec::new(), 0);
    let mut next = Some(Cursor::from_u64(cursor));
    while let (Some(at), true) = (next, seen < wanted) {
        next = call.state.database.scan(at, &mut |key, _| {
            seen += 1;
            if is_string && glob::matches(pattern, key) {
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

/// `OBJECT ENCODING | REFCOUNT | IDLETIME | FREQ key`
pub fn object(call: &mut Call<'_>) -> Done {
    if call.is_word(1, "HELP") {
        return super::server::help(call, &["ENCODING <key>", "REFCOUNT <key>"]);
    }
    if call.args.count() != 3 {
        return Err(super::unknown_subcommand(call));
    }
    let Some((meta, value)) = values::read(&call.state.database, call.args.get(2))? else {
        call.reply.null();
        return Ok(());
    };
    /// The longest string that Redis keeps beside its head.
    const EMBEDDED_BYTES: usize = 44;
    if call.is_word(1, "ENCODING") {
        let is_integer = meta.kind == kind::INT || parse::number(&value).is_some();
        let word = if is_integer {
            "int"
        } else if value.len() <= EMBEDDED_BYTES {
            "embstr"
        } else {
            "raw"
        };
        call.reply.bulk(word.as_bytes());
    } else if call.is_word(1, "REFCOUNT") {
        // The index names an item once.
        call.reply.integer(1);
    } else if call.is_word(1, "IDLETIME") || call.is_word(1, "FREQ") {
        return Err(Refusal::fixed("ERR idle time and access frequency are not tracked by this cache"));
    } else {
        return Err(super::unknown_subcommand(call));
    }
    Ok(())
}

/// `MEMORY USAGE key [SAMPLES count]`
pub fn memory(call: &mut Call<'_>) -> Done {
    if call.is_word(1, "HELP") {
        return super::server::help(call, &["USAGE <key> [SAMPLES <count>]"]);
    }
    if !call.is_word(1, "USAGE") {
        return Err(super::unknown_subcommand(call));
    }
    match call.args.count() {
        2 => return Err(super::wrong_arity("memory|usage")),
        3 => {}
        5 if call.is_word(3, "SAMPLES") => drop(call.integer(4)?),
        _ => return Err(SYNTAX),
    }
    let key = call.args.get(2);
    match call.state.database.meta(key)? {
        Some(meta) => {
            let bytes = (meta.value_bytes + key.len()) as u64;
            call.reply.integer((ITEM_OVERHEAD_BYTES + bytes.next_multiple_of(8)) as i64);
        }
        None => call.reply.null(),
    }
    Ok(())
}
