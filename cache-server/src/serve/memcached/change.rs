//! Commands that remove, or change when a key expires: delete, md, touch, flush_all.

use cache_shm::{Change, WriteOptions};

use super::expiry::moment;
use super::flags::{Flags, LONG_OPAQUE, TOO_MANY};
use super::reply::{BAD_EXPIRY, Refusal, line};
use super::retrieve::STALE;
use super::{Call, Done, key, parse};

/// `delete key [0] [noreply]`
pub fn delete(call: &mut Call<'_>) -> Done {
    let is_right = match call.args.count() {
        2 => true,
        3 => matches!(call.args.get(2), b"0" | b"noreply"),
        _ => call.args.get(2) == b"0" && call.args.get(3) == b"noreply",
    };
    if !is_right {
        return Err(Refusal::fixed("CLIENT_ERROR bad command line format.  Usage: delete <key> [noreply]"));
    }
    let key = key(call.args.get(1))?;
    let at = call.state.cache.writing_scope()?;
    let is_deleted = at.map.delete(at.key(key), call.options().timeout_ns)?;
    line(call.out, if is_deleted { "DELETED" } else { "NOT_FOUND" });
    Ok(())
}

/// The flags of md and ma, which do not say what is wrong with one.
pub fn flags<'a>(call: &Call<'a>) -> Result<Flags<'a>, Refusal> {
    key(call.args.get(1))?;
    Flags::read(call.args, 2).map_err(|refusal| {
        if [TOO_MANY, LONG_OPAQUE].contains(&refusal) {
            refusal
        } else {
            Refusal::fixed("CLIENT_ERROR invalid or duplicate flag")
        }
    })
}

/// `md key [flag ...]`
pub fn md(call: &mut Call<'_>) -> Done {
    let flags = flags(call)?;
    let at = call.state.cache.writing_scope()?;
    let options = call.options();
    let expires_at_ms = flags.ttl.map(|seconds| moment(call, seconds, at.map.now_ms()));
    let mut code = "NF";
    at.map.update(at.key(&flags.key), options.timeout_ns, &mut |there, value| {
        let Some((meta, old)) = there else {
            code = "NF";
            return Ok(Change::Leave);
        };
        if flags.cas.is_some_and(|version| version != meta.version) {
            code = "EX";
            return Ok(Change::Leave);
        }
        code = "HD";
        if !flags.invalidate {
            return Ok(Change::Remove);
        }
        value.extend_from_slice(old);
        let options = options.keeping(meta);
        let expires_at_ms = expires_at_ms.unwrap_or(options.expires_at_ms);
        // Nobody was told yet to make it anew.
        Ok(Change::Alter(WriteOptions { server_flags: STALE, expires_at_ms, ..options }))
    })?;
    if flags.quiet && code == "HD" {
        return Ok(());
    }
    call.out.extend_from_slice(code.as_bytes());
    flags.tell(call.out, |_| None);
    call.out.extend_from_slice(b"\r\n");
    Ok(())
}

/// `touch key exptime [noreply]`
pub fn touch(call: &mut Call<'_>) -> Done {
    let key = key(call.args.get(1))?;
    let seconds = parse::seconds(call.args.get(2)).ok_or(BAD_EXPIRY)?;
    let at = call.state.cache.writing_scope()?;
    let expires_at_ms = moment(call, seconds, at.map.now_ms());
    let is_touched = at.map.touch(at.key(key), expires_at_ms, call.options().timeout_ns)?;
    line(call.out, if is_touched { "TOUCHED" } else { "NOT_FOUND" });
    Ok(())
}

/// `flush_all [0] [noreply]`
pub fn flush_all(call: &mut Call<'_>) -> Done {
    let is_now = match call.args.get(1) {
        b"" | b"noreply" => true,
        word => parse::seconds(word).is_some_and(|seconds| seconds <= 0),
    };
    if !is_now {
        // A region is cleared at once or not at all.
        return Err(BAD_EXPIRY);
    }
    call.state.cache.clear()?;
    line(call.out, "OK");
    Ok(())
}
