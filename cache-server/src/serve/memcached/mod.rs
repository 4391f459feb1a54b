//! memcached's protocol over a region: any memcached client can use the cache.
//!
//! Owns: a client's session, and the way of a request: taken apart, looked up, allowed and
//! carried out. Clients meet the namespace that is database 0 of the Redis protocol.
//!
//! Reading order: [`parse`] takes requests apart, `flags` those of meta commands, `reply` has
//! the refusals, the table below lists the commands, then a module for each family.

mod change;
mod expiry;
mod flags;
mod numbers;
pub mod parse;
mod reply;
mod retrieve;
mod server;
mod store;

use std::sync::Arc;

use cache_shm::{Cache, Scope, WriteOptions};

use super::Shared;
use super::clients::Client;
use super::connection::{Step, Turn};
use super::log;
use super::resp::parse::Args;
use super::users::User;
use parse::{Block, KEY_BYTES_MAX, Parsed, Request};
use reply::{BAD_FORMAT, Refusal, UNKNOWN};

/// What a command's function returns: its reply is written, or this one is.
type Done = Result<(), Refusal>;

/// What a client may send before it has said its password.
const STRANGER: parse::Limits = parse::Limits { block_bytes: 1024, keys_bytes: parse::LINE_BYTES_MAX };
/// A change is refused to who may only read.
const READ_ONLY: Refusal = Refusal::fixed("CLIENT_ERROR user reader may change nothing");

/// A client's connection as the protocol sees it.
pub struct Session {
    request: Request,
    state: State,
    /// The word that the answer goes on with; 0 if none is under way.
    next: usize,
    /// Bytes of a block that was too large, and are thrown away.
    unwanted: u64,
}

/// What is known of a client.
struct State {
    client: Arc<Client>,
    cache: Cache,
    /// Who the client is; nobody before it has said its password.
    user: Option<User>,
}

/// A command that is being carried out.
struct Call<'a> {
    /// The server and the worker.
    turn: &'a Turn<'a>,
    /// The client.
    state: &'a State,
    /// The words of the request.
    args: Args<'a>,
    /// Its data.
    block: Block<'a>,
    /// The word that an answer goes on with in the next turn, if this one was not enough for all;
    /// 0 at its beginning and at its end.
    next: &'a mut usize,
    /// Where the answer goes, behind those of earlier requests.
    out: &'a mut Vec<u8>,
}

impl Call<'_> {
    /// The cache, to read from.
    fn scope(&self) -> Result<Scope<'_>, Refusal> {
        Ok(self.state.cache.scope()?)
    }

    /// The client may change something.
    fn may_write(&self) -> bool {
        self.state.user == Some(User::Default)
    }

    /// How values of this protocol are stored: as bytes.
    fn options<'o>(&self) -> WriteOptions<'o> {
        WriteOptions { timeout_ns: self.turn.lock_wait_ns(), ..self.state.cache.options() }
    }
}

/// The key that a word is.
fn key(word: &[u8]) -> Result<&[u8], Refusal> {
    if word.len() > KEY_BYTES_MAX { Err(BAD_FORMAT) } else { Ok(word) }
}

/// A command.
struct Command {
    name: &'static [u8],
    /// How many words it has, the name counted.
    words: (usize, usize),
    /// It changes what is stored: not for readers.
    is_write: bool,
    /// Its last word may be `noreply`.
    can_be_silent: bool,
    run: fn(&mut Call<'_>) -> Done,
}

const ANY: usize = usize::MAX;

const fn reads(name: &'static str, words: (usize, usize), run: fn(&mut Call<'_>) -> Done) -> Command {
    Command { name: name.as_bytes(), words, is_write: false, can_be_silent: false, run }
}

const fn writes(name: &'static str, words: (usize, usize), run: fn(&mut Call<'_>) -> Done) -> Command {
    Command { name: name.as_bytes(), words, is_write: true, can_be_silent: true, run }
}

const fn meta(name: &'static str, is_write: bool, run: fn(&mut Call<'_>) -> Done) -> Command {
    Command { name: name.as_bytes(), words: (2, ANY), is_write, can_be_silent: false, run }
}

/// All commands, the most frequent first.
#[rustfmt::skip]
const COMMANDS: &[Command] = &[
    reads("get", (2, ANY), retrieve::get),
    meta("mg", false, retrieve::mg),
    writes("set", (5, 6), |call| store::store(call, store::Mode::Set)),
    meta("ms", true, store::ms),
    reads("gets", (2, ANY), retrieve::gets),
    writes("add", (5, 6), |call| store::store(call, store::Mode::Add)),
    writes("replace", (5, 6), |call| store::store(call, store::Mode::Replace)),
    writes("cas", (6, 7), |call| store::store(call, store::Mode::Set)),
    writes("append", (5, 6), |call| store::store(call, store::Mode::Append)),
    writes("prepend", (5, 6), |call| store::store(call, store::Mode::Prepend)),
    writes("incr", (3, 4), |call| numbers::count(call, true)),
    writes("decr", (3, 4), |call| numbers::count(call, false)),
    meta("ma", true, numbers::ma),
    writes("delete", (2, 4), change::delete),
    meta("md", true, change::md),
    writes("touch", (3, 4), change::touch),
    Command { can_be_silent: false, ..writes("gat", (2, ANY), retrieve::gat) },
    Command { can_be_silent: false, ..writes("gats", (2, ANY), retrieve::gats) },
    reads("mn", (1, ANY), server::mn),
    reads("me", (1, ANY), retrieve::me),
    writes("flush_all", (1, 3), change::flush_all),
    reads("version", (1, ANY), server::version),
    Command { can_be_silent: true, ..reads("verbosity", (2, 3), server::verbosity) },
    reads("stats", (1, ANY), server::stats),
    reads("shutdown", (1, ANY), server::shutdown),
];

impl Session {
    /// The session of a client that has just come.
    pub fn new(shared: &Shared, client: Arc<Client>) -> Session {
        let user = shared.users().unnamed();
        let state = State { client, cache: shared.databases.first(), user };
        state.tell_user();
        Session { request: Request::default(), state, next: 0, unwanted: 0 }
    }

    /// The client has yet to say its password.
    pub fn is_stranger(&self) -> bool {
        self.state.user.is_none()
    }

    /// Bytes that are kept for a request that is not answered yet.
    pub fn held_bytes(&self) -> usize {
        self.request.held_bytes()
    }

    /// Answers the request at the start of `input`.
    pub fn step(&mut self, input: &[u8], output: &mut Vec<u8>, turn: &Turn<'_>) -> Step {
        if self.unwanted > 0 {
            let bytes = input.len().min(usize::try_from(self.unwanted).unwrap_or(usize::MAX));
            self.unwanted -= bytes as u64;
            return Step::Done(bytes);
        }
        let limits = &turn.shared.limits;
        let limits = match self.state.user {
            Some(_) => parse::Limits {
                // A line and its block are a request.
                block_bytes: limits.bulk_bytes.min(limits.request_bytes.saturating_sub(KEY_BYTES_MAX * 2) as u64),
                keys_bytes: parse::KEYS_BYTES_MAX,
            },
            None => STRANGER,
        };
        let bytes = match self.request.parse(input, &limits) {
            Ok(Parsed::Partial(needed)) => return Step::More(needed),
            Ok(Parsed::Whole(bytes)) => bytes,
            Err(parse::Endless) => {
                turn.counters.protocol_errors.add(1);
                return Step::Close;
            }
        };
        let (args, block) = (self.request.args(input), self.request.block(input));
        if let Block::Large(bytes) = block {
            self.unwanted = bytes;
        }
        let is_open = self.state.answer(args, block, &mut self.next, output, turn);
        if self.next > 0 {
            return Step::Later;
        }
        turn.counters.commands.add(1);
        self.request.end();
        if is_open { Step::Done(bytes) } else { Step::Close }
    }
}

impl State {
    /// Carries a request out, from word `next` on if it was begun before, and writes its reply;
    /// false if there is none any more.
    fn answer(
        &mut self,
        args: Args<'_>,
        block: Block<'_>,
        next: &mut usize,
        output: &mut Vec<u8>,
        turn: &Turn<'_>,
    ) -> bool {
        let start = output.len();
        let command = COMMANDS.iter().find(|command| command.name == args.get(0));
        let done = match command {
            _ if self.user.is_none() => self.authenticate(args, block, output, turn),
            Some(command) if args.count() < command.words.0 || args.count() > command.words.1 => Err(UNKNOWN),
            Some(command) => {
                let mut call = Call { turn, state: self, args, block, next, out: output };
                let done =
                    if command.is_write && !call.may_write() { Err(READ_ONLY) } else { (command.run)(&mut call) };
                if command.can_be_silent && args.get(args.count() - 1) == b"noreply" {
                    turn.counters.errors.add(done.is_err().into());
                    output.truncate(start);
                    return true;
                }
                done
            }
            None if args.get(0) == b"quit" => return false,
            None if is_http(args) => {
                // A page in a browser that sends forms here must get nothing done.
                log::http_request(&self.client, turn.now);
                return false;
            }
            None => Err(UNKNOWN),
        };
        let Err(refusal) = done else { return true };
        turn.counters.errors.add(1);
        output.truncate(start);
        refusal.write(output);
        // Where a part of the answer went in an earlier turn, nobody would know where this one ends.
        std::mem::take(next) == 0
    }

    /// Takes the user and the password that the data of a `set` of any key are.
    fn authenticate(&mut self, args: Args<'_>, block: Block<'_>, output: &mut Vec<u8>, turn: &Turn<'_>) -> Done {
        let data = match block {
            Block::Whole(data) if args.get(0) == b"set" => data,
            Block::Large(_) => return Err(Refusal::fixed("CLIENT_ERROR auth token too long")),
            Block::Bad => return Err(Refusal::fixed("CLIENT_ERROR bad command line termination")),
            _ => return Err(Refusal::fixed("CLIENT_ERROR unauthenticated")),
        };
        // A password may have blanks in it.
        let Some(blank) = data.iter().position(|byte| *byte == b' ') else {
            return Err(Refusal::fixed("CLIENT_ERROR bad authentication token format"));
        };
        self.user = turn.shared.users().check(&data[..blank], &data[blank + 1..]);
        if self.user.is_none() {
            turn.counters.denied.add(1);
            log::wrong_password(&self.client, turn.now);
            return Err(Refusal::fixed("CLIENT_ERROR authentication failure"));
        }
        self.tell_user();
        reply::line(output, "STORED");
        Ok(())
    }

    /// Has the list of clients show who this one is.
    fn tell_user(&self) {
        if let Some(user) = self.user {
            self.client.rename(|names| names.user = user.name().to_owned());
        }
    }
}

/// The request is one of HTTP.
fn is_http(args: Args<'_>) -> bool {
    args.from(1).last().is_some_and(|word| word.starts_with(b"HTTP/")) || args.get(0).eq_ignore_ascii_case(b"host:")
}
