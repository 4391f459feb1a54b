//! Commands on the server: what it is, and what it counts.

use std::sync::atomic::Ordering;

use super::reply::{BAD_FORMAT, Refusal, UNKNOWN, line};
use super::{Call, Done, READ_ONLY, parse};
use crate::clock;
use crate::serve::clients::Client;
use crate::serve::counters::Sums;

/// The memcached whose commands these are. Clients ask for it to know what they may send.
pub const MEMCACHED_VERSION: &str = "1.6.18";

/// `mn`
pub fn mn(call: &mut Call<'_>) -> Done {
    line(call.out, "MN");
    Ok(())
}

/// `version`
pub fn version(call: &mut Call<'_>) -> Done {
    line(call.out, &format!("VERSION {MEMCACHED_VERSION}"));
    Ok(())
}

/// `verbosity level [noreply]`: what is logged is said by the server's options.
pub fn verbosity(call: &mut Call<'_>) -> Done {
    parse::flags(call.args.get(1)).ok_or(BAD_FORMAT)?;
    line(call.out, "OK");
    Ok(())
}

/// `shutdown`
pub fn shutdown(_: &mut Call<'_>) -> Done {
    Err(Refusal::fixed("ERROR: shutdown not enabled"))
}

/// `stats [settings | items | slabs | sizes | conns | reset]`
pub fn stats(call: &mut Call<'_>) -> Done {
    let rows = match call.args.get(1) {
        b"" => general(call)?,
        b"settings" => settings(call)?,
        // There are no slabs, so none has items.
        b"items" => Vec::new(),
        b"slabs" => vec![
            ("active_slabs", "0".to_owned()),
            ("total_malloced", call.state.cache.stats()?.region_bytes.to_string()),
        ],
        b"sizes" => vec![("sizes_status", "disabled".to_owned())],
        b"reset" if !call.may_write() => return Err(READ_ONLY),
        b"reset" => {
            call.state.cache.reset_stats()?;
            line(call.out, "RESET");
            return Ok(());
        }
        b"conns" if !call.may_write() => return Err(READ_ONLY),
        b"conns" => {
            for client in call.turn.shared.clients.all() {
                let silent = call.turn.now.saturating_duration_since(client.since).as_secs();
                // Relaxed: for people.
                let silent = silent.saturating_sub(client.active.load(Ordering::Relaxed).into());
                let Client { id, address, local, .. } = &*client;
                line(call.out, &format!("STAT {id}:addr {address}"));
                line(call.out, &format!("STAT {id}:listen_addr {local}"));
                line(call.out, &format!("STAT {id}:secs_since_last_cmd {silent}"));
            }
            Vec::new()
        }
        b"cachedump" => return Err(Refusal::fixed("CLIENT_ERROR stats cachedump not allowed")),
        b"detail" => return Err(Refusal::fixed("CLIENT_ERROR usage: stats detail on|off|dump")),
        _ => return Err(UNKNOWN),
    };
    for (name, value) in rows {
        line(call.out, &format!("STAT {name} {value}"));
    }
    line(call.out, "END");
    Ok(())
}

fn general(call: &Call<'_>) -> Result<Vec<(&'static str, String)>, Refusal> {
    let shared = call.turn.shared;
    let (sums, stats) = (Sums::of(&shared.counters), call.state.cache.stats()?);
    Ok(vec![
        ("pid", std::process::id().to_string()),
        ("uptime", shared.started.elapsed().as_secs().to_string()),
        ("time", clock::unix().as_secs().to_string()),
        ("version", MEMCACHED_VERSION.to_owned()),
        ("cache_shm_version", env!("CARGO_PKG_VERSION").to_owned()),
        ("pointer_size", usize::BITS.to_string()),
        ("max_connections", shared.limits.clients.to_string()),
        ("curr_connections", shared.clients.count().to_string()),
        ("total_connections", sums.connections.to_string()),
        ("rejected_connections", sums.refused.to_string()),
        ("cmd_get", (stats.hits + stats.misses).to_string()),
        ("cmd_set", stats.sets.to_string()),
        ("get_hits", stats.hits.to_string()),
        ("get_misses", stats.misses.to_string()),
        ("auth_errors", sums.denied.to_string()),
        ("bytes_read", sums.input_bytes.to_string()),
        ("bytes_written", sums.output_bytes.to_string()),
        ("limit_maxbytes", stats.region_bytes.to_string()),
        ("accepting_conns", u8::from(shared.clients.count() < shared.limits.clients).to_string()),
        ("threads", shared.workers.to_string()),
        ("bytes", stats.live_bytes.to_string()),
        ("curr_items", stats.items.to_string()),
        ("total_items", stats.sets.to_string()),
        ("evictions", stats.evictions.to_string()),
        ("expired_keys", stats.expirations.to_string()),
    ])
}

fn settings(call: &Call<'_>) -> Result<Vec<(&'static str, String)>, Refusal> {
    let shared = call.turn.shared;
    let geometry = call.state.cache.geometry()?;
    let is_evicting = geometry.mode == cache_shm::Mode::Evict;
    let of = |holds: bool| if holds { "yes" } else { "no" }.to_owned();
    Ok(vec![
        ("maxbytes", geometry.region_bytes.to_string()),
        ("maxconns", shared.limits.clients.to_string()),
        ("evictions", if is_evicting { "on" } else { "off" }.to_owned()),
        ("num_threads", shared.workers.to_string()),
        ("item_size_max", shared.limits.bulk_bytes.to_string()),
        ("idle_timeout", shared.limits.idle.as_secs().to_string()),
        ("auth_enabled_ascii", of(shared.users().is_closed())),
        ("cas_enabled", of(true)),
        ("flush_enabled", of(true)),
        ("dump_enabled", of(false)),
        ("shutdown_command", of(false)),
    ])
}
