//! Commands on the connection itself: who one is, what one speaks, who else is there.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::reply::{Refusal, SYNTAX};
use super::server::REDIS_VERSION;
use super::{Call, Done, Replies, parse, table};
use crate::serve::clients::Client;
use crate::serve::log;

const WRONG_PASSWORD: Refusal = Refusal::fixed("WRONGPASS invalid username-password pair or user is disabled.");

/// `PING [message]`
pub fn ping(call: &mut Call<'_>) -> Done {
    match call.args.count() {
        1 => call.reply.simple("PONG"),
        2 => call.reply.bulk(call.args.get(1)),
        _ => return Err(super::wrong_arity("ping")),
    }
    Ok(())
}

/// `ECHO message`
pub fn echo(call: &mut Call<'_>) -> Done {
    call.reply.bulk(call.args.get(1));
    Ok(())
}

/// `AUTH [username] password`
pub fn auth(call: &mut Call<'_>) -> Done {
    let (name, password) = match call.args.count() {
        2 => (&b"default"[..], call.args.get(1)),
        3 => (call.args.get(1), call.args.get(2)),
        _ => return Err(SYNTAX),
    };
    if call.args.count() == 2 && !call.shared().users().is_closed() {
        return Err(Refusal::fixed(
            "ERR AUTH <password> called without any password configured for the default user. \
             Are you sure your configuration is correct?",
        ));
    }
    log_in(call, name, password)?;
    call.reply.ok();
    Ok(())
}

fn log_in(call: &mut Call<'_>, name: &[u8], password: &[u8]) -> Done {
    let Some(user) = call.shared().users().check(name, password) else {
        call.turn.counters.denied.add(1);
        log::wrong_password(&call.state.client, call.turn.now);
        return Err(WRONG_PASSWORD);
    };
    call.state.user = Some(user);
    call.state.client.rename(|names| names.user = user.name().to_owned());
    Ok(())
}

/// `HELLO [protover [AUTH username password] [SETNAME clientname]]`
pub fn hello(call: &mut Call<'_>) -> Done {
    let mut is_resp3 = call.state.is_resp3;
    if call.args.count() > 1 {
        is_resp3 = match parse::number(call.args.get(1)) {
            Some(2) => false,
            Some(3) => true,
            Some(_) => return Err(Refusal::fixed("NOPROTO unsupported protocol version")),
            None => return Err(Refusal::fixed("ERR Protocol version is not an integer or out of range")),
        };
    }
    let mut index = 2;
    let mut name = None;
    let mut login = None;
    while index < call.args.count() {
        if call.is_word(index, "AUTH") && index + 2 < call.args.count() {
            login = Some((call.args.get(index + 1), call.args.get(index + 2)));
            index += 3;
        } else if call.is_word(index, "SETNAME") && index + 1 < call.args.count() {
            name = Some(checked_name(call.args.get(index + 1), "Client names")?);
            index += 2;
        } else {
            let word = String::from_utf8_lossy(call.args.get(index));
            return Err(Refusal::new(format_args!("ERR Syntax error in HELLO option '{word}'")));
        }
    }
    if let Some((user, password)) = login {
        log_in(call, user, password)?;
    }
    if call.state.user.is_none() {
        return Err(Refusal::fixed(
            "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH \
             <user> <pass> option can be used to authenticate the client and select the RESP protocol version at \
             the same time",
        ));
    }
    if let Some(name) = name {
        call.state.client.rename(|names| names.name = name);
    }
    call.state.is_resp3 = is_resp3;
    call.reply.switch(is_resp3);
    let id = call.state.client.id;
    let reply = &mut call.reply;
    reply.map(7);
    reply.bulk(b"server");
    reply.bulk(b"cache-shm");
    reply.bulk(b"version");
    // Clients choose by it what they send; ours is in `INFO`.
    reply.bulk(REDIS_VERSION.as_bytes());
    reply.bulk(b"proto");
    reply.integer(if is_resp3 { 3 } else { 2 });
    reply.bulk(b"id");
    reply.integer(id as i64);
    reply.bulk(b"mode");
    reply.bulk(b"standalone");
    reply.bulk(b"role");
    reply.bulk(b"master");
    reply.bulk(b"modules");
    reply.array(0);
    Ok(())
}

/// `SELECT index`
pub fn select(call: &mut Call<'_>) -> Done {
    let number = call.integer(1)?;
    call.state.database = call.shared().databases.get(number)?;
    // Relaxed: for people.
    call.state.client.database.store(number as u32, Ordering::Relaxed);
    call.reply.ok();
    Ok(())
}

/// `QUIT`
pub fn quit(call: &mut Call<'_>) -> Done {
    call.state.is_closing = true;
    call.reply.ok();
    Ok(())
}

/// `RESET`
pub fn reset(call: &mut Call<'_>) -> Done {
    let (users, database) = (call.shared().users(), call.shared().databases.first());
    let state = &mut call.state;
    state.transaction.end();
    state.database = database;
    state.user = users.unnamed();
    state.is_resp3 = false;
    state.replies = Replies::All;
    state.no_touch = false;
    state.client.database.store(0, Ordering::Relaxed);
    let user = state.user.map_or("", |user| user.name()).to_owned();
    state.client.rename(|names| (names.name, names.user) = (String::new(), user));
    call.reply.switch(false);
    call.reply.simple("RESET");
    Ok(())
}

/// `ACL WHOAMI`
pub fn whoami(call: &mut Call<'_>) -> Done {
    let name = call.state.user.map_or("", |user| user.name());
    call.reply.bulk(name.as_bytes());
    Ok(())
}

/// Bytes of what a client calls itself.
const NAME_BYTES_MAX: usize = 1024;

/// A name that can stand in a list of words.
fn checked_name(name: &[u8], what: &str) -> Result<String, Refusal> {
    if name.len() > NAME_BYTES_MAX {
        return Err(Refusal::new(format_args!("ERR {what} cannot be longer than {NAME_BYTES_MAX} bytes.")));
    }
    if name.iter().any(|byte| !(b'!'..=b'~').contains(byte)) {
        return Err(Refusal::new(format_args!("ERR {what} cannot contain spaces, newlines or special characters.")));
    }
    Ok(String::from_utf8_lossy(name).into_owned())
}

/// `CLIENT ID`
pub fn id(call: &mut Call<'_>) -> Done {
    call.reply.integer(call.state.client.id as i64);
    Ok(())
}

/// `CLIENT GETNAME`
pub fn getname(call: &mut Call<'_>) -> Done {
    match call.state.client.names().name {
        name if name.is_empty() => call.reply.null(),
        name => call.reply.bulk(name.as_bytes()),
    }
    Ok(())
}

/// `CLIENT SETNAME name`
pub fn setname(call: &mut Call<'_>) -> Done {
    let name = checked_name(call.args.get(2), "Client names")?;
    call.state.client.rename(|names| names.name = name);
    call.reply.ok();
    Ok(())
}

/// `CLIENT SETINFO lib-name | lib-ver text`
pub fn setinfo(call: &mut Call<'_>) -> Done {
    let text = checked_name(call.args.get(3), &String::from_utf8_lossy(call.args.get(2)))?;
    match call.args.get(2).to_ascii_lowercase().as_slice() {
        b"lib-name" => call.state.client.rename(|names| names.library = text),
        b"lib-ver" => call.state.client.rename(|names| names.version = text),
        other => {
            let other = String::from_utf8_lossy(other);
            return Err(Refusal::new(format_args!("ERR Unrecognized option '{other}'")));
        }
    }
    call.reply.ok();
    Ok(())
}

/// `CLIENT INFO`
pub fn info(call: &mut Call<'_>) -> Done {
    let line = described(&call.state.client, call.turn.now);
    call.reply.text(&(line + "\n"));
    Ok(())
}

/// `CLIENT GETREDIR`
pub fn getredir(call: &mut Call<'_>) -> Done {
    // There is no tracking of keys whose messages could go to another client.
    call.reply.integer(-1);
    Ok(())
}

/// `CLIENT NO-TOUCH on | off`
pub fn no_touch(call: &mut Call<'_>) -> Done {
    call.state.no_touch = on_off(call, 2)?;
    call.reply.ok();
    Ok(())
}

fn on_off(call: &Call<'_>, index: usize) -> Result<bool, Refusal> {
    match (call.is_word(index, "ON"), call.is_word(index, "OFF")) {
        (true, _) => Ok(true),
        (_, true) => Ok(false),
        _ => Err(SYNTAX),
    }
}

/// `CLIENT REPLY on | off | skip`
pub fn reply(call: &mut Call<'_>) -> Done {
    call.state.replies = if call.is_word(2, "ON") {
        call.reply.ok();
        Replies::All
    } else if call.is_word(2, "OFF") {
        Replies::None
    } else if call.is_word(2, "SKIP") {
        // After OFF there is nothing to skip.
        if call.state.replies == Replies::None { Replies::None } else { Replies::SkipNext }
    } else {
        return Err(SYNTAX);
    };
    Ok(())
}

/// `CLIENT LIST [TYPE type | ID id [id ...]]`
pub fn list(call: &mut Call<'_>) -> Done {
    call.check_admin("client|list")?;
    let mut clients = call.shared().clients.all();
    if call.args.count() > 2 {
        if call.is_word(2, "TYPE") && call.args.count() == 4 {
            match call.args.get(3).to_ascii_lowercase().as_slice() {
                b"normal" => {}
                b"master" | b"replica" | b"slave" | b"pubsub" => clients.clear(),
                other => {
                    let other = String::from_utf8_lossy(other);
                    return Err(Refusal::new(format_args!("ERR Unknown client type '{other}'")));
                }
            }
        } else if call.is_word(2, "ID") && call.args.count() > 3 {
            let mut ids = Vec::new();
            for index in 3..call.args.count() {
                let id = parse::number(call.args.get(index)).filter(|id| *id > 0);
                ids.push(id.ok_or(Refusal::fixed("ERR Invalid client ID"))? as u64);
            }
            clients.retain(|client| ids.contains(&client.id));
        } else {
            return Err(SYNTAX);
        }
    }
    let lines: String = clients.iter().map(|client| described(client, call.turn.now) + "\n").collect();
    call.reply.text(&lines);
    Ok(())
}

fn described(client: &Client, now: Instant) -> String {
    let names = client.names();
    let age = now.saturating_duration_since(client.since).as_secs();
    // Relaxed, all: for people.
    let active = u64::from(client.active.load(Ordering::Relaxed));
    let command = match client.command.load(Ordering::Relaxed) {
        0 => "NULL".to_owned(),
        number => table::COMMANDS[number as usize - 1].name.to_ascii_lowercase(),
    };
    format!(
        "id={} addr={} laddr={} name={} age={age} idle={} flags=N db={} cmd={command} user={} lib-name={} lib-ver={}",
        client.id,
        client.address,
        client.local,
        names.name,
        age.saturating_sub(active),
        client.database.load(Ordering::Relaxed),
        names.user,
        names.library,
        names.version,
    )
}

/// Who is to be killed.
#[derive(Default)]
struct Filter {
    id: Option<u64>,
    address: Option<String>,
    local: Option<String>,
    user: Option<String>,
    spares_me: bool,
}

impl Filter {
    fn matches(&self, client: &Client, me: &Client) -> bool {
        self.id.is_none_or(|id| id == client.id)
            && self.address.as_ref().is_none_or(|address| *address == client.address)
            && self.local.as_ref().is_none_or(|local| *local == client.local)
            && self.user.as_ref().is_none_or(|user| *user == client.names().user)
            && !(self.spares_me && client.id == me.id)
    }
}

/// `CLIENT KILL address`, `CLIENT KILL filter value [filter value ...]`
pub fn kill(call: &mut Call<'_>) -> Done {
    call.check_admin("client|kill")?;
    let word = |index: usize| String::from_utf8_lossy(call.args.get(index)).into_owned();
    let is_old = call.args.count() == 3;
    let mut filter = Filter { spares_me: !is_old, ..Filter::default() };
    if is_old {
        filter.address = Some(word(2));
    } else if !call.args.count().is_multiple_of(2) {
        return Err(SYNTAX);
    }
    for index in (2..call.args.count()).step_by(2).take_while(|_| !is_old) {
        match call.args.get(index).to_ascii_uppercase().as_slice() {
            b"ID" => {
                let id = parse::number(call.args.get(index + 1)).filter(|id| *id > 0);
                filter.id = Some(id.ok_or(Refusal::fixed("ERR client-id should be greater than 0"))? as u64);
            }
            b"ADDR" => filter.address = Some(word(index + 1)),
            b"LADDR" => filter.local = Some(word(index + 1)),
            b"USER" => filter.user = Some(word(index + 1)),
            b"SKIPME" => {
                filter.spares_me = match word(index + 1).to_ascii_lowercase().as_str() {
                    "yes" => true,
                    "no" => false,
                    _ => return Err(SYNTAX),
                }
            }
            _ => return Err(SYNTAX),
        }
    }
    let me = call.state.client.clone();
    let victims: Vec<Arc<Client>> =
        call.shared().clients.all().into_iter().filter(|client| filter.matches(client, &me)).collect();
    for victim in &victims {
        if victim.id == me.id {
            // It still gets the answer.
            call.state.is_closing = true;
        } else {
            victim.kill();
            call.shared().wake(victim.worker);
        }
    }
    match (is_old, victims.len()) {
        (true, 0) => return Err(Refusal::fixed("ERR No such client")),
        (true, _) => call.reply.ok(),
        (false, count) => call.reply.integer(count as i64),
    }
    Ok(())
}
