//! Commands that remove, or change when a key expires: delete, md, touch, flush_all.

use cache_shm::{Change, WriteOptions};

use super::expiry::moment;
use super::flags::{Flags, LONG_OPAQUE, TOO_MANY};
use super::reply::{BAD_EXPIRY, BAD_FORMAT, Refusal, line};
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

/// A refusal of flags as the commands md and ma have it.
pub fn hidden(refusal: Refusal) -> Refusal {
    if [BAD_FORMAT, TOO_MANY, LONG_OPAQUE].contains(&refusal) {
        refusal
    } else {
        Refusal::fixed("CLIENT_ERROR invalid or duplicate flag")
    }
}

/// `md key [flag ...]`
pub fn md(call: &mut Call<'_>) -> Done {
    let flags = Flags::read(call.args, 2).map_err(hidden)?;
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
        if !flags.invalidate && !flags.removes_value {
            return Ok(Change::Remove);
        }
        let mut options = options.keeping(meta);
        if flags.removes_value {
            options = WriteOptions { kind: cache_shm::kind::BYTES, client_flags: 0, server_flags: 0, ..options };
        } else {
            value.extend_from_slice(old);
        }
        if flags.invalidate {
            // Nobody was told yet to make it anew.
            options.server_flags = STALE;
            options.expires_at_ms = expires_at_ms.unwrap_or(options.expires_at_ms);
        }
        Ok(Change::Alter(options))
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
