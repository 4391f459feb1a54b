//! Commands on strings: GET, SET and theirs.

use cache_shm::{Change, Error, Meta, NEVER, WriteOptions, kind};

use super::expiry::{self, Expiry, Unit};
use super::reply::{RESTLESS, Refusal, SYNTAX, TOO_LARGE};
use super::{Call, Done, together, values};

/// `GET key`
pub fn get(call: &mut Call<'_>) -> Done {
    values::write(&call.state.database, call.args.get(1), !call.state.no_touch, &mut call.reply)?;
    Ok(())
}

/// `MGET key [key ...]`
pub fn mget(call: &mut Call<'_>) -> Done {
    let start = call.reply.out().len();
    call.reply.array(call.args.count() - 1);
    together(call, |call| {
        for key in call.args.from(1) {
            values::write(&call.state.database, key, !call.state.no_touch, &mut call.reply)?;
            call.check_reply(start)?;
        }
        Ok(())
    })
}

/// What is asked of a `SET`.
#[derive(Default)]
struct Wish {
    /// The unit, and where its number is.
    expiry: Option<(Unit, usize)>,
    keeps_ttl: bool,
    /// Only if the key is not there (false), or is (true).
    if_there: Option<bool>,
    returns_old: bool,
}

impl Wish {
    /// Reads the words from `index` on.
    fn read(call: &Call<'_>, mut index: usize) -> Result<Wish, Refusal> {
        let mut wish = Wish::default();
        while index < call.args.count() {
            match Expiry::unit(call, index)? {
                Some(unit) if wish.expiry.is_none() && !wish.keeps_ttl => {
                    index += 1;
                    wish.expiry = Some((unit, index));
                }
                Some(_) => return Err(SYNTAX),
                None if call.is_word(index, "KEEPTTL") && wish.expiry.is_none() => wish.keeps_ttl = true,
                None if call.is_word(index, "NX") && wish.if_there != Some(true) => wish.if_there = Some(false),
                None if call.is_word(index, "XX") && wish.if_there != Some(false) => wish.if_there = Some(true),
                None if call.is_word(index, "GET") => wish.returns_old = true,
                None => return Err(SYNTAX),
            }
            index += 1;
        }
        Ok(wish)
    }
}

/// `SET key value [NX | XX] [GET] [EX s | PX ms | EXAT s | PXAT ms | KEEPTTL]`
pub fn set(call: &mut Call<'_>) -> Done {
    let (key, value) = (call.args.get(1), call.args.get(2));
    let at = call.writing_scope()?;
    if call.args.count() == 3 {
        at.map.set(at.key(key), value, &call.options())?;
        call.reply.ok();
        return Ok(());
    }
    let wish = Wish::read(call, 3)?;
    let mut options = call.options();
    if let Some((unit, index)) = wish.expiry {
        options.expires_at_ms = unit(call.integer(index)?).moment(call)?;
    }
    if !wish.keeps_ttl && !wish.returns_old {
        let is_stored = match wish.if_there {
            None => at.map.set(at.key(key), value, &options).map(|_| true)?,
            Some(false) => at.map.add(at.key(key), value, &options)?.is_some(),
            Some(true) => at.map.replace(at.key(key), value, &options)?.is_some(),
        };
        if is_stored {
            call.reply.ok()
        } else {
            call.reply.null()
        }
        return Ok(());
    }
    let (mut old, mut is_stored) = (None, false);
    at.map.update(at.key(key), options.timeout_ns, &mut |there, new| {
        old = there.filter(|_| wish.returns_old).map(shown);
        is_stored = wish.if_there.is_none_or(|wanted| wanted == there.is_some());
        if !is_stored {
            return Ok(Change::Leave);
        }
        new.extend_from_slice(value);
        let kept = there.filter(|_| wish.keeps_ttl).map(|(meta, _)| meta.expires_at_ms);
        Ok(Change::Put(WriteOptions { expires_at_ms: kept.unwrap_or(options.expires_at_ms), ..options }))
    })?;
    match (wish.returns_old, old) {
        (true, Some(old)) => call.reply.bulk(&old),
        (false, _) if is_stored => call.reply.ok(),
        _ => call.reply.null(),
    }
    Ok(())
}

/// What a client sees of a value.
fn shown((meta, stored): (&Meta, &[u8])) -> Vec<u8> {
    values::shown(meta, stored, &mut itoa::Buffer::new()).to_vec()
}

/// `SETNX key value`
pub fn setnx(call: &mut Call<'_>) -> Done {
    let at = call.writing_scope()?;
    let stored = at.map.add(at.key(call.args.get(1)), call.args.get(2), &call.options())?.is_some();
    call.reply.integer(stored.into());
    Ok(())
}

/// `SETEX key seconds value`
pub fn setex(call: &mut Call<'_>) -> Done {
    set_for(call, Expiry::Seconds)
}

/// `PSETEX key milliseconds value`
pub fn psetex(call: &mut Call<'_>) -> Done {
    set_for(call, Expiry::Milliseconds)
}

fn set_for(call: &mut Call<'_>, unit: Unit) -> Done {
    let expires_at_ms = unit(call.integer(2)?).moment(call)?;
    let at = call.writing_scope()?;
    let options = WriteOptions { expires_at_ms, ..call.options() };
    at.map.set(at.key(call.args.get(1)), call.args.get(3), &options)?;
    call.reply.ok();
    Ok(())
}

/// `GETSET key value`
pub fn getset(call: &mut Call<'_>) -> Done {
    let at = call.writing_scope()?;
    let options = call.options();
    let mut old = None;
    at.map.update(at.key(call.args.get(1)), options.timeout_ns, &mut |there, new| {
        old = there.map(shown);
        new.extend_from_slice(call.args.get(2));
        Ok(Change::Put(options))
    })?;
    match old {
        Some(old) => call.reply.bulk(&old),
        None => call.reply.null(),
    }
    Ok(())
}

/// `GETDEL key`
pub fn getdel(call: &mut Call<'_>) -> Done {
    let at = call.writing_scope()?;
    let mut stored = Vec::new();
    match at.map.take(at.key(call.args.get(1)), call.options().timeout_ns, &mut stored)? {
        Some(meta) => call.reply.bulk(&shown((&meta, &stored))),
        None => call.reply.null(),
    }
    Ok(())
}

/// `GETEX key [EX s | PX ms | EXAT s | PXAT ms | PERSIST]`
pub fn getex(call: &mut Call<'_>) -> Done {
    let unit = match call.args.count() {
        2 => return get(call),
        3 if call.is_word(2, "PERSIST") => None,
        4 => Some(Expiry::unit(call, 2)?.ok_or(SYNTAX)?),
        _ => return Err(SYNTAX),
    };
    if !call.state.database.contains(call.args.get(1))? {
        call.reply.null();
        return Ok(());
    }
    let expires_at_ms = match unit {
        None => NEVER,
        Some(unit) => unit(call.integer(3)?).moment(call)?,
    };
    let at = call.writing_scope()?;
    let key = at.key(call.args.get(1));
    for _ in 0..expiry::TOUCHES_MAX {
        let mut stored = Vec::new();
        let Some(meta) = at.map.get(key, &mut stored)? else {
            call.reply.null();
            return Ok(());
        };
        // What is answered is what gets the expiry.
        if meta.expires_at_ms == expires_at_ms
            || at.map.touch_version(key, &meta, expires_at_ms, call.options().timeout_ns)?
        {
            call.reply.bulk(&shown((&meta, &stored)));
            return Ok(());
        }
    }
    Err(RESTLESS)
}

/// `MSET key value [key value ...]`
pub fn mset(call: &mut Call<'_>) -> Done {
    if call.args.count().is_multiple_of(2) {
        return Err(super::wrong_arity("mset"));
    }
    let at = call.writing_scope()?;
    let options = call.options();
    call.turn.alone(|| {
        (1..call.args.count()).step_by(2).try_for_each(|index| {
            at.map.set(at.key(call.args.get(index)), call.args.get(index + 1), &options).map(|_| ())
        })
    })?;
    call.reply.ok();
    Ok(())
}

/// `MSETNX key value [key value ...]`
pub fn msetnx(call: &mut Call<'_>) -> Done {
    if call.args.count().is_multiple_of(2) {
        return Err(super::wrong_arity("msetnx"));
    }
    let at = call.writing_scope()?;
    let options = call.options();
    let stored = call.turn.alone(|| {
        for index in (1..call.args.count()).step_by(2) {
            if at.map.contains(at.key(call.args.get(index)))? {
                return Ok::<bool, Refusal>(false);
            }
        }
        for index in (1..call.args.count()).step_by(2) {
            at.map.set(at.key(call.args.get(index)), call.args.get(index + 1), &options)?;
        }
        Ok(true)
    })?;
    call.reply.integer(stored.into());
    Ok(())
}

/// `APPEND key value`
pub fn append(call: &mut Call<'_>) -> Done {
    let at = call.writing_scope()?;
    let length = at.map.append(at.key(call.args.get(1)), call.args.get(2), Some(b""), &call.options())?;
    call.reply.integer(length.unwrap_or(0) as i64);
    Ok(())
}

/// `STRLEN key`
pub fn strlen(call: &mut Call<'_>) -> Done {
    let key = call.args.get(1);
    let length = match call.state.database.meta(key)? {
        None => 0,
        Some(meta) if meta.kind == kind::INT => {
            values::read(&call.state.database, key)?.map_or(0, |(_, value)| value.len())
        }
        Some(meta) => meta.value_bytes,
    };
    call.reply.integer(length as i64);
    Ok(())
}

/// `GETRANGE key start end`
pub fn getrange(call: &mut Call<'_>) -> Done {
    let (start, end) = (call.integer(2)?, call.integer(3)?);
    let (database, key) = (&call.state.database, call.args.get(1));
    // Lent, not copied: the range may be a small part of it.
    let lent = if call.state.no_touch { None } else { database.view(key)? };
    let (read, mut digits) =
        (if call.state.no_touch { values::read(database, key)? } else { None }, itoa::Buffer::new());
    let value = match (&lent, &read) {
        (Some(view), _) => values::shown(&view.meta(), view, &mut digits),
        (None, Some((_, value))) => value,
        (None, None) => b"",
    };
    let length = value.len() as i64;
    let from_end = |index: i64| if index < 0 { index.saturating_add(length).max(0) } else { index };
    let is_empty = start < 0 && end < 0 && start > end;
    let (start, end) = (from_end(start), from_end(end).min(length - 1));
    call.reply.bulk(if is_empty || start > end { b"" } else { &value[start as usize..=end as usize] });
    Ok(())
}

/// `SETRANGE key offset value`
pub fn setrange(call: &mut Call<'_>) -> Done {
    let offset = call.integer(2)?;
    let patch = call.args.get(3);
    if offset < 0 {
        return Err(Refusal::fixed("ERR offset is out of range"));
    }
    if patch.is_empty() {
        return strlen(call);
    }
    let (offset, end) = (offset as u64, (offset as u64).saturating_add(patch.len() as u64));
    if end > call.shared().limits.bulk_bytes {
        return Err(Refusal::fixed("ERR string exceeds maximum allowed size (proto-max-bulk-len)"));
    }
    let at = call.writing_scope()?;
    let options = call.options();
    let mut length = 0;
    at.map.update(at.key(call.args.get(1)), options.timeout_ns, &mut |there, new| {
        if let Some(there) = there {
            // As in `APPEND`: what other bytes mean is not known here.
            if !matches!(there.0.kind, kind::INT | kind::STR | kind::BYTES | kind::BYTEARRAY) {
                return Err(Error::NotAppendable);
            }
            new.extend_from_slice(&shown(there));
        }
        let end = end as usize;
        if new.len() < end {
            new.resize(end, 0);
        }
        new[offset as usize..end].copy_from_slice(patch);
        length = new.len();
        let (expires_at_ms, client_flags) =
            there.map_or((NEVER, 0), |(meta, _)| (meta.expires_at_ms, meta.client_flags));
        Ok(Change::Alter(WriteOptions { expires_at_ms, client_flags, ..options }))
    })?;
    call.reply.integer(length as i64);
    Ok(())
}

impl Call<'_> {
    /// Refuses a reply, begun at `start`, that is larger than a client may leave unread.
    pub fn check_reply(&mut self, start: usize) -> Done {
        if self.reply.out().len() - start > self.turn.shared.limits.output_bytes {
            tracing::info!(client = self.state.client.id, "a reply beyond output_bytes was refused");
            return Err(TOO_LARGE);
        }
        Ok(())
    }
}
