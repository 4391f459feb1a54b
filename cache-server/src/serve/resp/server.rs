//! Commands on the server: what it is, what it can, what it counts.

use std::collections::HashMap;
use std::fmt::Write;

use cache_shm::{Cursor, NEVER, Namespace};

use super::reply::Refusal;
use super::table::{COMMANDS, Command, NO_AUTH, WRITE};
use super::{Call, Done, glob, table};
use crate::clock;
use crate::serve::Shared;
use crate::serve::counters::Sums;

/// The Redis whose commands these are. Clients ask for it to know what they may send.
pub const REDIS_VERSION: &str = "7.0.0";

/// `TIME`
pub fn time(call: &mut Call<'_>) -> Done {
    let now = clock::unix();
    call.reply.array(2);
    call.reply.bulk(now.as_secs().to_string().as_bytes());
    call.reply.bulk(now.subsec_micros().to_string().as_bytes());
    Ok(())
}

/// `COMMAND`
pub fn command(call: &mut Call<'_>) -> Done {
    if call.args.count() == 1 { rows(call) } else { table::run_subcommand(call) }
}

/// The commands that are named from the third word on, all if none is.
fn named(call: &Call<'_>) -> Vec<Option<&'static Command>> {
    if call.args.count() < 3 {
        COMMANDS.iter().map(Some).collect()
    } else {
        call.args.from(2).map(table::find).collect()
    }
}

/// `COMMAND INFO [name ...]`
pub fn rows(call: &mut Call<'_>) -> Done {
    let (start, commands) = (call.reply.out().len(), named(call));
    call.reply.array(commands.len());
    for command in commands {
        match command {
            Some(command) => describe(call, command),
            None => call.reply.null(),
        }
        call.check_reply(start)?;
    }
    Ok(())
}

/// `COMMAND COUNT`
pub fn count(call: &mut Call<'_>) -> Done {
    call.reply.integer(COMMANDS.len() as i64);
    Ok(())
}

/// `COMMAND LIST`
pub fn list(call: &mut Call<'_>) -> Done {
    call.reply.array(COMMANDS.len());
    COMMANDS.iter().for_each(|command| call.reply.bulk(command.name.to_ascii_lowercase().as_bytes()));
    Ok(())
}

/// `COMMAND DOCS [name ...]`
pub fn docs(call: &mut Call<'_>) -> Done {
    let start = call.reply.out().len();
    let commands: Vec<&Command> = named(call).into_iter().flatten().collect();
    call.reply.map(commands.len());
    for command in commands {
        call.reply.bulk(command.name.to_ascii_lowercase().as_bytes());
        call.reply.map(2);
        call.reply.bulk(b"summary");
        call.reply.bulk(command.summary.as_bytes());
        call.reply.bulk(b"group");
        call.reply.bulk(command.group.as_bytes());
        call.check_reply(start)?;
    }
    Ok(())
}

/// `COMMAND GETKEYS command argument [argument ...]`
pub fn getkeys(call: &mut Call<'_>) -> Done {
    let command = table::find(call.args.get(2)).ok_or(Refusal::fixed("ERR Invalid command specified"))?;
    let (first, last, step) = command.keys;
    if first == 0 {
        return Err(Refusal::fixed("ERR The command has no key arguments"));
    }
    let count = call.args.count() - 2;
    if !table::fits(command.arity, count) {
        return Err(Refusal::fixed("ERR Invalid number of arguments specified for command"));
    }
    let last = if last < 0 { count as i64 + i64::from(last) } else { i64::from(last) };
    let keys: Vec<usize> = (i64::from(first)..=last).step_by(step as usize).map(|index| index as usize + 2).collect();
    call.reply.array(keys.len());
    keys.into_iter().for_each(|index| call.reply.bulk(call.args.get(index)));
    Ok(())
}

/// One row of `COMMAND`.
fn describe(call: &mut Call<'_>, command: &Command) {
    let reply = &mut call.reply;
    reply.array(10);
    reply.bulk(command.name.to_ascii_lowercase().as_bytes());
    reply.integer(command.arity.into());
    let flags: Vec<&str> = [
        (command.flags & WRITE != 0, "write"),
        (command.flags & WRITE == 0 && command.keys.0 != 0, "readonly"),
        (command.flags & NO_AUTH != 0, "no_auth"),
        (true, "fast"),
    ]
    .into_iter()
    .filter_map(|(holds, word)| holds.then_some(word))
    .collect();
    reply.set(flags.len());
    flags.iter().for_each(|word| reply.simple(word));
    let (first, last, step) = command.keys;
    for number in [first, last, step] {
        reply.integer(number.into());
    }
    reply.set(1);
    reply.simple(&format!("@{}", command.group));
    for _ in 0..3 {
        reply.array(0);
    }
}

/// `CONFIG GET pattern [pattern ...]`
pub fn config_get(call: &mut Call<'_>) -> Done {
    let patterns: Vec<Vec<u8>> = call.args.from(2).map(<[u8]>::to_ascii_lowercase).collect();
    let parameters: Vec<(&str, String)> = parameters(call)?
        .into_iter()
        .filter(|(name, _)| patterns.iter().any(|pattern| glob::matches(pattern, name.as_bytes())))
        .collect();
    call.reply.map(parameters.len());
    for (name, value) in parameters {
        call.reply.bulk(name.as_bytes());
        call.reply.bulk(value.as_bytes());
    }
    Ok(())
}

/// `CONFIG RESETSTAT`
pub fn config_resetstat(call: &mut Call<'_>) -> Done {
    call.check_admin("config|resetstat")?;
    call.shared().cache.reset_stats()?;
    call.reply.ok();
    Ok(())
}

/// `CONFIG SET parameter value`
pub fn config_set(call: &mut Call<'_>) -> Done {
    let name = String::from_utf8_lossy(call.args.get(2)).into_owned();
    Err(Refusal::new(format_args!(
        "ERR CONFIG SET failed (possibly related to argument '{name}') - can't set immutable config"
    )))
}

/// What clients ask of the configuration, in Redis's words.
fn parameters(call: &Call<'_>) -> Result<Vec<(&'static str, String)>, Refusal> {
    let shared = call.shared();
    let limits = &shared.limits;
    let geometry = shared.cache.geometry()?;
    let is_evicting = geometry.mode == cache_shm::Mode::Evict;
    Ok(vec![
        ("appendonly", "no".to_owned()),
        ("client-output-buffer-limit", format!("normal {} 0 0", limits.output_bytes)),
        ("client-query-buffer-limit", limits.request_bytes.to_string()),
        ("databases", shared.databases.count().to_string()),
        ("io-threads", shared.workers.to_string()),
        ("maxclients", limits.clients.to_string()),
        ("maxmemory", geometry.region_bytes.to_string()),
        ("maxmemory-policy", if is_evicting { "allkeys-s3fifo" } else { "noeviction" }.to_owned()),
        ("proto-max-bulk-len", limits.bulk_bytes.to_string()),
        ("save", String::new()),
        ("timeout", limits.idle.as_secs().to_string()),
    ])
}

/// The section whose numbers cost a walk.
const KEYSPACE: &str = "Keyspace";
/// The sections of `INFO`.
type Section = fn(&Shared, &mut String) -> Done;
const SECTIONS: [(&str, Section); 6] = [
    ("Server", about_server),
    ("Clients", about_clients),
    ("Memory", about_memory),
    ("Stats", about_stats),
    ("Replication", about_replication),
    (KEYSPACE, about_keyspace),
];

/// `INFO [section [section ...]]`
pub fn info(call: &mut Call<'_>) -> Done {
    let mut text = String::new();
    for (name, write) in SECTIONS {
        // The keys are counted by a walk over all, which nobody should get who did not ask for it.
        let is_default = name != KEYSPACE;
        let is_wanted = if call.args.count() == 1 {
            is_default
        } else {
            call.args.from(1).any(|word| match word.to_ascii_lowercase().as_slice() {
                b"all" | b"everything" => true,
                b"default" => is_default,
                word => word.eq_ignore_ascii_case(name.as_bytes()),
            })
        };
        if is_wanted {
            if !text.is_empty() {
                text.push_str("\r\n");
            }
            let _ = write!(text, "# {name}\r\n");
            write(call.shared(), &mut text)?;
        }
    }
    call.reply.text(&text);
    Ok(())
}

fn line(text: &mut String, name: &str, value: impl std::fmt::Display) {
    // Writing to a string cannot fail.
    let _ = write!(text, "{name}:{value}\r\n");
}

fn about_server(shared: &Shared, text: &mut String) -> Done {
    line(text, "redis_version", REDIS_VERSION);
    line(text, "redis_mode", "standalone");
    line(text, "server_name", "cache-shm");
    line(text, "cache_shm_version", env!("CARGO_PKG_VERSION"));
    line(text, "arch_bits", usize::BITS);
    line(text, "process_id", std::process::id());
    line(text, "run_id", &shared.run_id);
    let uptime = shared.started.elapsed().as_secs();
    line(text, "uptime_in_seconds", uptime);
    line(text, "uptime_in_days", uptime / 86_400);
    line(text, "io_threads_active", u8::from(shared.workers > 1));
    line(text, "region", shared.cache.path().map_or_else(|| "private".into(), |path| path.display().to_string()));
    Ok(())
}

fn about_clients(shared: &Shared, text: &mut String) -> Done {
    line(text, "connected_clients", shared.clients.count());
    line(text, "maxclients", shared.limits.clients);
    line(text, "blocked_clients", 0);
    Ok(())
}

fn about_memory(shared: &Shared, text: &mut String) -> Done {
    let stats = shared.cache.stats()?;
    line(text, "used_memory", stats.region_bytes - stats.free_bytes);
    line(text, "used_memory_dataset", stats.live_bytes);
    line(text, "used_memory_overhead", stats.index_bytes + stats.fixed_bytes);
    line(text, "maxmemory", stats.region_bytes);
    let is_evicting = shared.cache.geometry()?.mode == cache_shm::Mode::Evict;
    line(text, "maxmemory_policy", if is_evicting { "allkeys-s3fifo" } else { "noeviction" });
    Ok(())
}

fn about_stats(shared: &Shared, text: &mut String) -> Done {
    let (sums, stats) = (Sums::of(&shared.counters), shared.cache.stats()?);
    line(text, "total_connections_received", sums.connections);
    line(text, "total_commands_processed", sums.commands);
    line(text, "total_error_replies", sums.errors);
    line(text, "total_net_input_bytes", sums.input_bytes);
    line(text, "total_net_output_bytes", sums.output_bytes);
    line(text, "rejected_connections", sums.refused);
    line(text, "client_output_buffer_limit_disconnections", sums.overflowed);
    line(text, "acl_access_denied_auth", sums.denied);
    line(text, "keyspace_hits", stats.hits);
    line(text, "keyspace_misses", stats.misses);
    line(text, "evicted_keys", stats.evictions);
    line(text, "expired_keys", stats.expirations);
    Ok(())
}

fn about_replication(_: &Shared, text: &mut String) -> Done {
    line(text, "role", "master");
    line(text, "connected_slaves", 0);
    Ok(())
}

fn about_keyspace(shared: &Shared, text: &mut String) -> Done {
    /// A database, how many keys it has, and how many of them expire.
    struct Count {
        number: usize,
        keys: u64,
        expires: u64,
    }
    let mut counts: HashMap<Namespace, Count> = HashMap::new();
    for (number, database) in shared.databases.open() {
        counts.insert(database.scope()?.namespace, Count { number, keys: 0, expires: 0 });
    }
    let map = shared.cache.map()?;
    let mut next = Some(Cursor::START);
    while let Some(cursor) = next {
        next = map.scan(cursor, &mut |_, meta| {
            if let Some(count) = counts.get_mut(&meta.namespace) {
                count.keys += 1;
                count.expires += u64::from(meta.expires_at_ms != NEVER);
            }
        })?;
    }
    let mut counts: Vec<Count> = counts.into_values().filter(|count| count.keys > 0).collect();
    counts.sort_by_key(|count| count.number);
    for Count { number, keys, expires } in counts {
        line(text, &format!("db{number}"), format_args!("keys={keys},expires={expires},avg_ttl=0"));
    }
    Ok(())
}
