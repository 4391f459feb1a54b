//! The table of commands.
//!
//! Owns: the name, arity, keys and rights of every command, and who carries it out. `COMMAND`,
//! the documentation and the tests read it.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::parse::Args;
use super::reply::Refusal;
use super::{
    Call, Done, connection, expiry, keys, numbers, server, strings, transaction, unknown_subcommand, wrong_arity,
};

/// Changes what is stored: not for readers.
pub const WRITE: u8 = 1;
/// Allowed before a password was said.
pub const NO_AUTH: u8 = 2;
/// Carried out at once even within a transaction.
pub const NOT_QUEUED: u8 = 4;

/// Has subcommands.
const WORDS: u8 = 8;

/// A command.
pub struct Command {
    /// Its name, in capitals.
    pub name: &'static str,
    /// How many words it has, the name counted; negative for at least so many.
    pub arity: i8,
    /// What it may do and when.
    pub flags: u8,
    /// Which words are keys: the first, the last (from the end if negative), and the step.
    pub keys: (i8, i8, i8),
    /// The family it belongs to, as in Redis's documentation.
    pub group: &'static str,
    /// What it does.
    pub summary: &'static str,
    /// Carries it out.
    pub run: fn(&mut Call<'_>) -> Done,
}

/// A word that a command has in the second place.
struct Subcommand {
    parent: &'static str,
    name: &'static str,
    /// As of a command; both names are counted.
    arity: i8,
    /// What comes behind, for people.
    words: &'static str,
    run: fn(&mut Call<'_>) -> Done,
}

impl Command {
    /// Its place in the table.
    pub fn number(&self) -> usize {
        (std::ptr::from_ref(self).addr() - COMMANDS.as_ptr().addr()) / size_of::<Command>()
    }
}

/// The longest name.
const NAME_BYTES_MAX: usize = 16;
type Name = [u8; NAME_BYTES_MAX];

/// The command of this name, in any case.
pub fn find(name: &[u8]) -> Option<&'static Command> {
    static PLACES: LazyLock<HashMap<Name, &'static Command, rapidhash::fast::RandomState>> = LazyLock::new(|| {
        COMMANDS.iter().filter_map(|command| Some((key(command.name.as_bytes())?, command))).collect()
    });
    PLACES.get(&key(name)?).copied()
}

fn key(name: &[u8]) -> Option<Name> {
    // The rest is filled with zeros.
    if name.contains(&0) {
        return None;
    }
    let mut key = [0; NAME_BYTES_MAX];
    let room = key.get_mut(..name.len())?;
    room.copy_from_slice(name);
    room.make_ascii_uppercase();
    Some(key)
}

/// True if a command of this arity may have so many words.
pub fn fits(arity: i8, count: usize) -> bool {
    let wanted = arity.unsigned_abs() as usize;
    count == wanted || arity < 0 && count > wanted
}

/// Refuses a command, or a subcommand, that nobody knows or that has too few or too many words.
pub fn check(command: &Command, args: Args<'_>) -> Done {
    if !fits(command.arity, args.count()) {
        return Err(wrong_arity(&command.name.to_ascii_lowercase()));
    }
    if command.flags & WORDS != 0 && args.count() > 1 {
        subcommand(args)?;
    }
    Ok(())
}

/// The row that the first two words name.
fn subcommand(args: Args<'_>) -> Result<&'static Subcommand, Refusal> {
    let is_meant = |row: &&Subcommand| {
        args.get(0).eq_ignore_ascii_case(row.parent.as_bytes()) && args.get(1).eq_ignore_ascii_case(row.name.as_bytes())
    };
    let row = SUBCOMMANDS.iter().find(is_meant).ok_or_else(|| unknown_subcommand(args))?;
    if fits(row.arity, args.count()) {
        return Ok(row);
    }
    Err(wrong_arity(&format!("{}|{}", row.parent, row.name).to_ascii_lowercase()))
}

/// Carries the subcommand out that the second word names.
pub fn run_subcommand(call: &mut Call<'_>) -> Done {
    (subcommand(call.args)?.run)(call)
}

/// `... HELP`
fn help(call: &mut Call<'_>) -> Done {
    let parent = subcommand(call.args)?.parent;
    let rows: Vec<&Subcommand> = SUBCOMMANDS.iter().filter(|row| row.parent == parent).collect();
    call.reply.array(rows.len() + 1);
    call.reply.simple(&format!("{parent} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"));
    rows.iter().for_each(|row| call.reply.simple(format!("{} {}", row.name, row.words).trim_end()));
    Ok(())
}

const NONE: (i8, i8, i8) = (0, 0, 0);
const ONE: (i8, i8, i8) = (1, 1, 1);
const ALL: (i8, i8, i8) = (1, -1, 1);

macro_rules! commands {
    ($($name:literal $arity:literal $flags:expr, $keys:expr, $group:literal $run:path, $summary:literal;)*) => {
        /// Every command, by name.
        pub static COMMANDS: &[Command] = &[$(Command {
            name: $name, arity: $arity, flags: $flags, keys: $keys, group: $group, summary: $summary, run: $run,
        }),*];
    };
}

commands! {
    "ACL" -2 WORDS, NONE, "connection" run_subcommand, "Tells which user the connection is.";
    "APPEND" 3 WRITE, ONE, "string" strings::append, "Appends to the value of a key, or makes it.";
    "AUTH" -2 NO_AUTH, NONE, "connection" connection::auth, "Logs in.";
    "CLIENT" -2 WORDS, NONE, "connection" run_subcommand, "Names, lists and ends connections.";
    "COMMAND" -1 WORDS, NONE, "server" server::command, "Describes the commands.";
    "CONFIG" -2 WORDS, NONE, "server" run_subcommand, "Tells parameters, resets statistics.";
    "COPY" -3 WRITE, (1, 2, 1), "generic" keys::copy, "Copies the value of a key to another key.";
    "DBSIZE" 1 0, NONE, "server" keys::dbsize, "Counts the keys of the database, by a walk over all.";
    "DECR" 2 WRITE, ONE, "string" numbers::decr, "Takes one from an integer.";
    "DECRBY" 3 WRITE, ONE, "string" numbers::decrby, "Takes a number from an integer.";
    "DEL" -2 WRITE, ALL, "generic" keys::del, "Removes keys.";
    "DISCARD" 1 NOT_QUEUED, NONE, "transactions" transaction::discard, "Forgets a transaction.";
    "ECHO" 2 0, NONE, "connection" connection::echo, "Answers what it was given.";
    "EXEC" 1 NOT_QUEUED, NONE, "transactions" transaction::exec, "Carries a transaction out.";
    "EXISTS" -2 0, ALL, "generic" keys::exists, "Counts which of the keys are there.";
    "EXPIRE" -3 WRITE, ONE, "generic" expiry::expire, "Lets a key expire after seconds.";
    "EXPIREAT" -3 WRITE, ONE, "generic" expiry::expireat, "Lets a key expire at a moment in seconds.";
    "EXPIRETIME" 2 0, ONE, "generic" expiry::expiretime, "Tells the moment a key expires at, in seconds.";
    "FLUSHALL" -1 WRITE, NONE, "server" keys::flushall, "Removes all keys of all databases at once.";
    "FLUSHDB" -1 WRITE, NONE, "server" keys::flushdb, "Removes all keys of the database at once.";
    "GET" 2 0, ONE, "string" strings::get, "Returns the value of a key.";
    "GETDEL" 2 WRITE, ONE, "string" strings::getdel, "Returns the value of a key and removes it.";
    "GETEX" -2 WRITE, ONE, "string" strings::getex, "Returns the value of a key and changes when it expires.";
    "GETRANGE" 4 0, ONE, "string" strings::getrange, "Returns a part of the value of a key.";
    "GETSET" 3 WRITE, ONE, "string" strings::getset, "Stores a value and returns the one before.";
    "HELLO" -1 NO_AUTH, NONE, "connection" connection::hello, "Chooses the protocol's version, and logs in.";
    "INCR" 2 WRITE, ONE, "string" numbers::incr, "Adds one to an integer.";
    "INCRBY" 3 WRITE, ONE, "string" numbers::incrby, "Adds a number to an integer.";
    "INCRBYFLOAT" 3 WRITE, ONE, "string" numbers::incrbyfloat, "Adds a number to a number.";
    "INFO" -1 0, NONE, "server" server::info, "Tells what the server is and counts.";
    "KEYS" 2 0, NONE, "generic" keys::keys, "Lists the keys that match a pattern.";
    "MEMORY" -2 WORDS, NONE, "server" run_subcommand, "Tells the bytes that a key takes.";
    "MGET" -2 0, ALL, "string" strings::mget, "Returns the values of keys.";
    "MSET" -3 WRITE, (1, -1, 2), "string" strings::mset, "Stores values.";
    "MSETNX" -3 WRITE, (1, -1, 2), "string" strings::msetnx, "Stores values if none of the keys is there.";
    "MULTI" 1 NOT_QUEUED, NONE, "transactions" transaction::multi, "Begins a transaction.";
    "OBJECT" -2 WORDS, (2, 2, 1), "generic" run_subcommand, "Tells how a value is stored.";
    "PERSIST" 2 WRITE, ONE, "generic" expiry::persist, "Lets a key stay for ever.";
    "PEXPIRE" -3 WRITE, ONE, "generic" expiry::pexpire, "Lets a key expire after milliseconds.";
    "PEXPIREAT" -3 WRITE, ONE, "generic" expiry::pexpireat, "Lets a key expire at a moment in milliseconds.";
    "PEXPIRETIME" 2 0, ONE, "generic" expiry::pexpiretime, "Tells the moment a key expires at, in milliseconds.";
    "PING" -1 0, NONE, "connection" connection::ping, "Answers.";
    "PSETEX" 4 WRITE, ONE, "string" strings::psetex, "Stores a value for milliseconds.";
    "PTTL" 2 0, ONE, "generic" expiry::pttl, "Tells the milliseconds a key has left.";
    "QUIT" -1 NO_AUTH | NOT_QUEUED, NONE, "connection" connection::quit, "Closes the connection.";
    "RANDOMKEY" 1 0, NONE, "generic" keys::randomkey, "Returns some key.";
    "RENAME" 3 WRITE, (1, 2, 1), "generic" keys::rename, "Gives a key another name.";
    "RENAMENX" 3 WRITE, (1, 2, 1), "generic" keys::renamenx, "Gives a key another name that is not taken.";
    "RESET" 1 NO_AUTH | NOT_QUEUED, NONE, "connection" connection::reset, "Makes the connection as new.";
    "SCAN" -2 0, NONE, "generic" keys::scan, "Lists the keys, some at each call.";
    "SELECT" 2 0, NONE, "connection" connection::select, "Selects a database.";
    "SET" -3 WRITE, ONE, "string" strings::set, "Stores a value.";
    "SETEX" 4 WRITE, ONE, "string" strings::setex, "Stores a value for seconds.";
    "SETNX" 3 WRITE, ONE, "string" strings::setnx, "Stores a value if the key is not there.";
    "SETRANGE" 4 WRITE, ONE, "string" strings::setrange, "Overwrites a part of the value of a key.";
    "STRLEN" 2 0, ONE, "string" strings::strlen, "Tells the length of the value of a key.";
    "SUBSTR" 4 0, ONE, "string" strings::getrange, "Returns a part of the value of a key.";
    "TIME" 1 0, NONE, "server" server::time, "Tells the time of day.";
    "TOUCH" -2 0, ALL, "generic" keys::touch, "Counts a use of each of the keys that are there.";
    "TTL" 2 0, ONE, "generic" expiry::ttl, "Tells the seconds a key has left.";
    "TYPE" 2 0, ONE, "generic" keys::kind_of, "Tells the type of the value of a key: string.";
    "UNLINK" -2 WRITE, ALL, "generic" keys::del, "Removes keys.";
    "UNWATCH" 1 0, NONE, "transactions" transaction::unwatch, "Watches no key any more.";
    "WATCH" -2 NOT_QUEUED, ALL, "transactions" transaction::watch, "Lets EXEC do nothing if a key is changed before it.";
}

macro_rules! subcommands {
    ($($parent:literal $name:literal $arity:literal $words:literal $run:path;)*) => {
        static SUBCOMMANDS: &[Subcommand] = &[$(Subcommand {
            parent: $parent, name: $name, arity: $arity, words: $words, run: $run,
        }),*];
    };
}

subcommands! {
    "ACL" "HELP" 2 "" help;
    "ACL" "WHOAMI" 2 "" connection::whoami;
    "CLIENT" "GETNAME" 2 "" connection::getname;
    "CLIENT" "GETREDIR" 2 "" connection::getredir;
    "CLIENT" "HELP" 2 "" help;
    "CLIENT" "ID" 2 "" connection::id;
    "CLIENT" "INFO" 2 "" connection::info;
    "CLIENT" "KILL" -3 "<address> | (ID <id> | ADDR | LADDR <address> | USER <name> | SKIPME yes | no) ..." connection::kill;
    "CLIENT" "LIST" -2 "[TYPE normal | ID <id> [<id> ...]]" connection::list;
    "CLIENT" "NO-TOUCH" 3 "(on | off)" connection::no_touch;
    "CLIENT" "REPLY" 3 "(on | off | skip)" connection::reply;
    "CLIENT" "SETINFO" 4 "(lib-name | lib-ver) <text>" connection::setinfo;
    "CLIENT" "SETNAME" 3 "<name>" connection::setname;
    "COMMAND" "COUNT" 2 "" server::count;
    "COMMAND" "DOCS" -2 "[<name> ...]" server::docs;
    "COMMAND" "GETKEYS" -4 "<command> <argument> [<argument> ...]" server::getkeys;
    "COMMAND" "HELP" 2 "" help;
    "COMMAND" "INFO" -2 "[<name> ...]" server::rows;
    "COMMAND" "LIST" 2 "" server::list;
    "CONFIG" "GET" -3 "<pattern> [<pattern> ...]" server::config_get;
    "CONFIG" "HELP" 2 "" help;
    "CONFIG" "RESETSTAT" 2 "" server::config_resetstat;
    "CONFIG" "SET" -4 "<parameter> <value>: always an error" server::config_set;
    "MEMORY" "HELP" 2 "" help;
    "MEMORY" "USAGE" -3 "<key> [SAMPLES <count>]" keys::memory_usage;
    "OBJECT" "ENCODING" 3 "<key>" keys::encoding;
    "OBJECT" "FREQ" 3 "<key>: always an error" keys::untracked;
    "OBJECT" "HELP" 2 "" help;
    "OBJECT" "IDLETIME" 3 "<key>: always an error" keys::untracked;
    "OBJECT" "REFCOUNT" 3 "<key>" keys::refcount;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_found_by_its_name_in_any_case() {
        assert!(COMMANDS.is_sorted_by(|a, b| a.name < b.name));
        for (number, command) in COMMANDS.iter().enumerate() {
            assert_eq!(command.number(), number);
            for name in [command.name.to_owned(), command.name.to_ascii_lowercase()] {
                assert_eq!(find(name.as_bytes()).map(|found| found.name), Some(command.name));
            }
            assert!(command.arity != 0 && !command.summary.is_empty(), "{}", command.name);
            // A command with keys has room for them.
            assert!(command.arity < 0 || command.arity > command.keys.0, "{}", command.name);
        }
        assert!(find(b"").is_none() && find(b"LPUSH").is_none() && find(&[b'A'; 40]).is_none());
        assert!(find(b"GET\0").is_none());
        assert!(SUBCOMMANDS.is_sorted_by(|a, b| (a.parent, a.name) < (b.parent, b.name)));
        assert!(
            SUBCOMMANDS.iter().all(|row| find(row.parent.as_bytes()).is_some_and(|command| command.flags & WORDS != 0)
                && !fits(row.arity, 1))
        );
    }
}
