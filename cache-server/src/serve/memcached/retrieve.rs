//! Commands that read: get and its kin, and the meta commands mg and me.

use cache_shm::{Change, Error, Key, Meta, Scope, WriteOptions, kind};

use super::expiry::{left_seconds, moment};
use super::flags::{BAD_KEY, Flags};
use super::reply::{BAD_EXPIRY, BAD_FORMAT, Refusal, number};
use super::{Call, Done, READ_ONLY, key, parse};
use crate::serve::connection::PAUSE_BYTES;
use crate::serve::resp::values::{Tail, shown};

/// A bit of an item's server flags: what is there is stale, and may be used until there is new.
pub const STALE: u32 = 1;
/// Another bit: a client was told to make it anew.
pub const WON: u32 = 2;
/// How often a client that was overtaken looks again.
const RACES_MAX: u32 = 1000;
/// Keys of one line that are answered before other clients have their turn.
const KEYS_PER_TURN: usize = 1000;

/// `get key [key ...]`
pub fn get(call: &mut Call<'_>) -> Done {
    get_all(call, false, None)
}

/// `gets key [key ...]`
pub fn gets(call: &mut Call<'_>) -> Done {
    get_all(call, true, None)
}

/// `gat exptime key [key ...]`
pub fn gat(call: &mut Call<'_>) -> Done {
    let seconds = parse::seconds(call.args.get(1)).ok_or(BAD_EXPIRY)?;
    get_all(call, false, Some(seconds))
}

/// `gats exptime key [key ...]`
pub fn gats(call: &mut Call<'_>) -> Done {
    let seconds = parse::seconds(call.args.get(1)).ok_or(BAD_EXPIRY)?;
    get_all(call, true, Some(seconds))
}

fn get_all(call: &mut Call<'_>, shows_version: bool, exptime: Option<i64>) -> Done {
    let first = if exptime.is_some() { 2 } else { 1 };
    if *call.next == 0 {
        // Nothing is answered where one of the keys is none.
        call.args.from(first).try_for_each(|word| key(word).map(|_| ()))?;
    }
    let start = first.max(*call.next);
    let at = call.state.cache.scope()?;
    for index in start..call.args.count() {
        if index - start == KEYS_PER_TURN || (index > start && call.out.len() >= PAUSE_BYTES) {
            *call.next = index;
            return Ok(());
        }
        let key = at.key(call.args.get(index));
        match exptime {
            None => drop(get_one(call, &at, key, shows_version)?),
            Some(seconds) => {
                let expires_at_ms = moment(call, seconds, at.map.now_ms());
                touched(call, &at, key, expires_at_ms, |call| get_one(call, &at, key, shows_version))?;
            }
        }
    }
    *call.next = 0;
    call.out.extend_from_slice(b"END\r\n");
    Ok(())
}

fn get_one(call: &mut Call<'_>, at: &Scope<'_>, key: Key<'_>, shows_version: bool) -> Result<Option<Meta>, Refusal> {
    let mut tail = Tail::new(call.out, |out, meta, length| {
        out.extend_from_slice(b"VALUE ");
        out.extend_from_slice(key.bytes);
        out.push(b' ');
        number(out, meta.client_flags);
        out.push(b' ');
        number(out, length);
        if shows_version {
            out.push(b' ');
            number(out, meta.version);
        }
        out.extend_from_slice(b"\r\n");
    });
    let found = at.map.get(key, &mut tail)?;
    match &found {
        Some(meta) => tail.finish(meta),
        None => tail.abandon(),
    }
    Ok(found)
}

/// Reads with `read`, which says what it found, and gives that another expiry: one step, for which
/// it looks again where another client came between. The expiry is given before, so that the
/// version that is read is the one that is left; what is to go at once is read before it goes.
fn touched(
    call: &mut Call<'_>,
    at: &Scope<'_>,
    key: Key<'_>,
    expires_at_ms: u64,
    mut read: impl FnMut(&mut Call<'_>) -> Result<Option<Meta>, Refusal>,
) -> Done {
    let (start, timeout_ns) = (call.out.len(), call.options().timeout_ns);
    let writer = call.state.cache.writing_scope()?;
    let is_past = expires_at_ms <= at.map.now_ms();
    for _ in 0..RACES_MAX {
        if !is_past {
            writer.map.touch(key, expires_at_ms, timeout_ns)?;
        }
        let is_done = match read(call)? {
            None => true,
            Some(found) if is_past => writer.map.delete_version(key, &found, timeout_ns)?,
            Some(found) => found.expires_at_ms == expires_at_ms,
        };
        if is_done {
            return Ok(());
        }
        call.out.truncate(start);
    }
    Err(Error::Busy { waited_ms: 0 }.into())
}

/// `mg key [flag ...]`
pub fn mg(call: &mut Call<'_>) -> Done {
    let flags = Flags::read(call.args, 2)?;
    let at = call.state.cache.scope()?;
    if (flags.ttl.is_some() || flags.vivifies) && !call.may_write() {
        return Err(READ_ONLY);
    }
    let key = at.key(&flags.key);
    match flags.ttl {
        None => meta_get(call, &at, key, &flags, None).map(drop),
        Some(seconds) => {
            let expires_at_ms = moment(call, seconds, at.map.now_ms());
            touched(call, &at, key, expires_at_ms, |call| meta_get(call, &at, key, &flags, Some(expires_at_ms)))
        }
    }
}

/// Answers, and says what was there, as it is now; where it is changed it expires at `expires_at_ms` if that
/// is to come.
fn meta_get(
    call: &mut Call<'_>,
    at: &Scope<'_>,
    key: Key<'_>,
    flags: &Flags<'_>,
    expires_at_ms: Option<u64>,
) -> Result<Option<Meta>, Refusal> {
    let start = call.out.len();
    let now_ms = at.map.now_ms();
    let recache_at_ms = flags.recache.filter(|seconds| *seconds != 0).map(|seconds| moment(call, seconds, now_ms));
    for _ in 0..RACES_MAX {
        let Some(meta) = look(call, at, key, flags, now_ms)? else {
            if !flags.vivifies {
                miss(call, flags);
                return Ok(None);
            }
            if vivify(call, at, flags, moment(call, flags.new_ttl, now_ms))? { return Ok(None) } else { continue }
        };
        let is_due = meta.server_flags & STALE != 0
            || recache_at_ms.is_some_and(|at_ms| meta.expires_at_ms < at_ms && meta.expires_at_ms != cache_shm::NEVER);
        if meta.server_flags & WON != 0 || !is_due || !call.may_write() {
            return Ok(Some(meta));
        }
        call.out.truncate(start);
        let expires_at_ms = expires_at_ms.filter(|at_ms| *at_ms > now_ms).unwrap_or(meta.expires_at_ms);
        if let Some((meta, value)) = win(call, key, &meta, expires_at_ms)? {
            let mut digits = itoa::Buffer::new();
            let value = shown(&meta, &value, &mut digits);
            won(call.out, flags, &Item::from(&meta), flags.value.then_some(value), value.len(), now_ms);
            return Ok(Some(meta));
        }
    }
    Err(Error::Busy { waited_ms: 0 }.into())
}

/// Reads a key and writes what is asked of it. It counts as a read in any case but that of a look
/// without a trace.
fn look(
    call: &mut Call<'_>,
    at: &Scope<'_>,
    key: Key<'_>,
    flags: &Flags<'_>,
    now_ms: u64,
) -> Result<Option<Meta>, Refusal> {
    if flags.value {
        let mut tail = Tail::new(call.out, |out, meta, length| head(out, flags, meta, Some(length), length, now_ms));
        let found = if flags.no_touch { at.map.peek(key, &mut tail)? } else { at.map.get(key, &mut tail)? };
        match &found {
            Some(meta) => tail.finish(meta),
            None => tail.abandon(),
        }
        return Ok(found);
    }
    let (meta, bytes) = if flags.no_touch {
        let Some(meta) = at.map.meta(key)? else { return Ok(None) };
        let bytes = shown_bytes(at, key, &meta)?;
        (meta, bytes)
    } else {
        let Some(view) = at.map.view(key)? else { return Ok(None) };
        let meta = *view.meta();
        (meta, shown(&meta, &view, &mut itoa::Buffer::new()).len())
    };
    head(call.out, flags, &meta, None, bytes, now_ms);
    Ok(Some(meta))
}

/// What is told of an item.
#[derive(Clone, Copy)]
struct Item {
    version: u64,
    expires_at_ms: u64,
    client_flags: u32,
    is_stale: bool,
}

impl From<&Meta> for Item {
    fn from(meta: &Meta) -> Item {
        Item {
            version: meta.version,
            expires_at_ms: meta.expires_at_ms,
            client_flags: meta.client_flags,
            is_stale: meta.server_flags & STALE != 0,
        }
    }
}

/// Writes the line of an item, with the length of the value if that follows.
fn head(out: &mut Vec<u8>, flags: &Flags<'_>, meta: &Meta, follows: Option<usize>, length: usize, now_ms: u64) {
    told(out, flags, &meta.into(), follows, length, now_ms);
    if meta.server_flags & WON != 0 {
        out.extend_from_slice(b" Z");
    }
    if meta.server_flags & STALE != 0 {
        out.extend_from_slice(b" X");
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes the line and the value of an item that this client is to make anew.
fn won(out: &mut Vec<u8>, flags: &Flags<'_>, item: &Item, value: Option<&[u8]>, length: usize, now_ms: u64) {
    told(out, flags, item, value.map(<[u8]>::len), length, now_ms);
    if item.is_stale {
        out.extend_from_slice(b" X");
    }
    out.extend_from_slice(b" W\r\n");
    if let Some(value) = value {
        out.extend_from_slice(value);
        out.extend_from_slice(b"\r\n");
    }
}

fn told(out: &mut Vec<u8>, flags: &Flags<'_>, item: &Item, follows: Option<usize>, length: usize, now_ms: u64) {
    match follows {
        Some(bytes) => {
            out.extend_from_slice(b"VA ");
            number(out, bytes);
        }
        None => out.extend_from_slice(b"HD"),
    }
    flags.tell(out, |letter| match letter {
        b's' => Some(length as i128),
        b't' => Some(left_seconds(item.expires_at_ms, now_ms).into()),
        b'c' => Some(item.version.into()),
        b'f' => Some(item.client_flags.into()),
        _ => None,
    });
}

fn miss(call: &mut Call<'_>, flags: &Flags<'_>) {
    if !flags.quiet {
        call.out.extend_from_slice(b"EN");
        flags.tell(call.out, |_| None);
        call.out.extend_from_slice(b"\r\n");
    }
}

/// The bytes of a value as clients see it.
fn shown_bytes(at: &Scope<'_>, key: Key<'_>, meta: &Meta) -> Result<usize, Refusal> {
    if meta.kind != kind::INT {
        return Ok(meta.value_bytes);
    }
    let mut stored = Vec::new();
    at.map.peek(key, &mut stored)?;
    Ok(shown(meta, &stored, &mut itoa::Buffer::new()).len())
}

/// Makes an empty item in the place of a missing one, for this client to fill; false if
/// another came first.
fn vivify(call: &mut Call<'_>, at: &Scope<'_>, flags: &Flags<'_>, expires_at_ms: u64) -> Result<bool, Refusal> {
    let options = WriteOptions { expires_at_ms, server_flags: WON, ..call.options() };
    let writer = call.state.cache.writing_scope()?;
    let now_ms = at.map.now_ms();
    let version = if expires_at_ms <= now_ms { Some(0) } else { writer.map.add(at.key(&flags.key), b"", &options)? };
    let Some(version) = version else { return Ok(false) };
    let item = Item { version, expires_at_ms, client_flags: 0, is_stale: false };
    won(call.out, flags, &item, flags.value.then_some(b""), 0, now_ms);
    Ok(true)
}

/// Notes that this client makes an item anew, if it is still the same; what is there then.
fn win(call: &Call<'_>, key: Key<'_>, seen: &Meta, expires_at_ms: u64) -> Result<Option<(Meta, Vec<u8>)>, Refusal> {
    let options = call.options();
    let writer = call.state.cache.writing_scope()?;
    let server_flags = seen.server_flags | WON;
    let mut kept = Vec::new();
    let version = writer.map.update(key, options.timeout_ns, &mut |there, value| {
        let Some((meta, old)) = there.filter(|(meta, _)| *meta == seen) else { return Ok(Change::Leave) };
        value.extend_from_slice(old);
        kept = old.to_vec();
        Ok(Change::Alter(WriteOptions { server_flags, expires_at_ms, ..options.keeping(meta) }))
    })?;
    let mut now = *seen;
    (now.version, now.server_flags, now.expires_at_ms) = (version, server_flags, expires_at_ms);
    Ok((version != 0).then_some((now, kept)))
}

/// `me key [b]`
pub fn me(call: &mut Call<'_>) -> Done {
    if call.args.count() < 2 {
        return Err(BAD_FORMAT);
    }
    let is_base64 = call.args.get(2) == b"b";
    let read = Flags::read(call.args, if is_base64 { 2 } else { call.args.count() });
    let flags = read.map_err(|refusal| if refusal == BAD_KEY { BAD_FORMAT } else { refusal })?;
    let at = call.state.cache.scope()?;
    let key = at.key(&flags.key);
    let Some(meta) = at.map.meta(key)? else {
        call.out.extend_from_slice(b"EN\r\n");
        return Ok(());
    };
    let size = shown_bytes(&at, key, &meta)?;
    let out = &mut *call.out;
    out.extend_from_slice(b"ME ");
    flags.tell_key(out);
    out.extend_from_slice(b" exp=");
    number(out, left_seconds(meta.expires_at_ms, at.map.now_ms()));
    out.extend_from_slice(b" cas=");
    number(out, meta.version);
    out.extend_from_slice(b" size=");
    number(out, flags.key.len() + size);
    out.extend_from_slice(b"\r\n");
    Ok(())
}
