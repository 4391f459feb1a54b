//! Redis's protocol over a region: any Redis client can use the cache.
//!
//! Owns: a client's session, and the way of a request: taken apart, looked up, allowed, and
//! carried out or queued. Databases are namespaces: 0 is the default one, which Python's
//! `Cache` uses unless told otherwise, N is `dbN`.
//!
//! Reading order: [`parse`] takes requests apart, [`reply`] writes answers, `table` lists the
//! commands, then a module for each family.

mod connection;
mod expiry;
mod glob;
mod keys;
mod numbers;
pub mod parse;
pub mod reply;
mod server;
mod strings;
mod table;
mod transaction;
pub mod values;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use cache_shm::{Cache, Scope, WriteOptions};

use super::Shared;
use super::clients::Client;
use super::connection::{Step, Turn};
use super::log;
use super::users::User;
use parse::{Args, Limits, Parsed, Request};
use reply::{Refusal, Reply};
use table::{Command, NO_AUTH, NOT_QUEUED, WRITE};
use transaction::Transaction;

pub use expiry::Distance;
pub use table::COMMANDS;

/// What a command's function returns: its reply is written, or this one is.
pub type Done = Result<(), Refusal>;

/// A client's connection as the protocol sees it.
pub struct Session {
    request: Request,
    state: State,
}

/// What commands of a client change for those that follow.
pub struct State {
    /// The entry in the list of clients.
    pub client: Arc<Client>,
    /// The database that is selected.
    pub database: Cache,
    /// Who the client is; nobody before it has said its password.
    pub user: Option<User>,
    is_resp3: bool,
    transaction: Transaction,
    replies: Replies,
    /// Reads do not count as uses.
    no_touch: bool,
    is_closing: bool,
}

/// Which replies a client wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Replies {
    All,
    None,
    /// Not that of the command that asked for it, nor the next one's.
    SkipNext,
    Skip,
}

/// A command that is being carried out.
pub struct Call<'a> {
    /// The server and the worker.
    pub turn: &'a Turn<'a>,
    /// The client's state.
    pub state: &'a mut State,
    /// The request.
    pub args: Args<'a>,
    /// Where the answer goes.
    pub reply: Reply<'a>,
}

impl Call<'_> {
    /// The server.
    pub fn shared(&self) -> &Shared {
        self.turn.shared
    }

    /// The selected database, to read from.
    pub fn scope(&self) -> Result<Scope<'_>, Refusal> {
        Ok(self.state.database.scope()?)
    }

    /// The selected database, to write to.
    pub fn writing_scope(&self) -> Result<Scope<'_>, Refusal> {
        Ok(self.state.database.writing_scope()?)
    }

    /// How values of this protocol are stored: as bytes.
    pub fn options<'o>(&self) -> WriteOptions<'o> {
        WriteOptions { timeout_ns: self.turn.lock_wait_ns(), ..self.state.database.options() }
    }

    /// The word at `index` is this one, in any case.
    pub fn is_word(&self, index: usize, word: &str) -> bool {
        index < self.args.count() && self.args.get(index).eq_ignore_ascii_case(word.as_bytes())
    }

    /// Refuses a reader what is about other clients or the whole server.
    pub fn check_admin(&self, name: &str) -> Done {
        if self.state.user == Some(User::Reader) { Err(no_permission(name)) } else { Ok(()) }
    }

    /// The integer at `index`.
    pub fn integer(&self, index: usize) -> Result<i64, Refusal> {
        parse::number(self.args.get(index)).ok_or(reply::NOT_INTEGER)
    }
}

/// Looks at several keys in one step for all clients; alone only if there are other workers.
fn together<'a, R>(call: &mut Call<'a>, work: impl FnOnce(&mut Call<'a>) -> R) -> R {
    let turn = call.turn;
    if turn.shared.workers > 1 && call.args.count() > 2 { turn.alone(|| work(call)) } else { work(call) }
}

impl Session {
    /// The session of a client that has just come.
    pub fn new(shared: &Shared, client: Arc<Client>) -> Session {
        let user = shared.users().unnamed();
        if let Some(user) = user {
            client.rename(|names| names.user = user.name().to_owned());
        }
        let state = State {
            client,
            database: shared.databases.first(),
            user,
            is_resp3: false,
            transaction: Transaction::default(),
            replies: Replies::All,
            no_touch: false,
            is_closing: false,
        };
        Session { request: Request::default(), state }
    }

    /// The client has yet to say its password.
    pub fn is_stranger(&self) -> bool {
        self.state.user.is_none()
    }

    /// Bytes that are kept for requests that are not answered yet.
    pub fn held_bytes(&self) -> usize {
        self.request.held_bytes() + self.state.transaction.held_bytes()
    }

    /// Answers the request at the start of `input`.
    pub fn step(&mut self, input: &[u8], output: &mut Vec<u8>, turn: &Turn<'_>) -> Step {
        let limits = match self.state.user {
            Some(_) => Limits::new(turn.shared.limits.bulk_bytes),
            None => Limits::of_stranger(),
        };
        match self.request.parse(input, &limits) {
            Ok(Parsed::Partial(needed)) => Step::More(needed),
            Ok(Parsed::Nothing(bytes)) => Step::Done(bytes),
            Ok(Parsed::Whole(bytes)) => {
                let is_open = self.state.answer(self.request.args(input), output, turn);
                self.request.shrink();
                if is_open { Step::Done(bytes) } else { Step::Close }
            }
            Err(malformed) => {
                turn.counters.protocol_errors.add(1);
                let refusal = Refusal::new(format_args!("ERR Protocol error: {}", malformed.0));
                Reply::new(output, self.state.is_resp3).error(&refusal);
                Step::Close
            }
        }
    }
}

impl State {
    /// Carries a request out and writes its reply; false if it is the last.
    fn answer(&mut self, args: Args<'_>, output: &mut Vec<u8>, turn: &Turn<'_>) -> bool {
        let start = output.len();
        turn.counters.commands.add(1);
        let command = match table::find(args.get(0)) {
            Some(command) => command,
            // A page in a browser that sends forms here must get nothing done.
            None if args.get(0).eq_ignore_ascii_case(b"post") || args.get(0).eq_ignore_ascii_case(b"host:") => {
                log::http_request(&self.client, turn.now);
                return false;
            }
            None => {
                self.transaction.spoil();
                self.refuse(&unknown(args), output, turn);
                return self.mute(start, output);
            }
        };
        // Relaxed: for people.
        self.client.command.store(command.number() as u32 + 1, Ordering::Relaxed);
        match self.judge(command, args) {
            Ok(true) => {
                self.transaction.queue(args);
                Reply::new(output, self.is_resp3).simple("QUEUED");
            }
            Ok(false) => self.run(command, args, output, turn),
            Err(refusal) => {
                self.transaction.spoil();
                self.refuse(&refusal, output, turn);
            }
        }
        self.mute(start, output) && !self.is_closing
    }

    /// True if the command is queued, false if it is carried out.
    fn judge(&self, command: &Command, args: Args<'_>) -> Result<bool, Refusal> {
        table::check(command, args)?;
        self.check_user(command)?;
        Ok(self.transaction.is_open() && command.flags & NOT_QUEUED == 0)
    }

    /// Refuses what the client may not do, or not before it has said its password.
    fn check_user(&self, command: &Command) -> Done {
        match self.user {
            _ if command.flags & NO_AUTH != 0 => Ok(()),
            None => Err(Refusal::fixed("NOAUTH Authentication required.")),
            Some(User::Reader) if command.flags & WRITE != 0 => Err(no_permission(&command.name.to_ascii_lowercase())),
            Some(_) => Ok(()),
        }
    }

    /// Carries a command out.
    fn run(&mut self, command: &Command, args: Args<'_>, output: &mut Vec<u8>, turn: &Turn<'_>) {
        let start = output.len();
        let is_resp3 = self.is_resp3;
        let mut call = Call { turn, state: self, args, reply: Reply::new(output, is_resp3) };
        if let Err(refusal) = (command.run)(&mut call) {
            output.truncate(start);
            self.refuse(&refusal, output, turn);
        }
    }

    fn refuse(&self, refusal: &Refusal, output: &mut Vec<u8>, turn: &Turn<'_>) {
        turn.counters.errors.add(1);
        Reply::new(output, self.is_resp3).error(refusal);
    }

    /// Takes back what the client does not want to hear. Always true.
    fn mute(&mut self, start: usize, output: &mut Vec<u8>) -> bool {
        self.replies = match self.replies {
            Replies::All => return true,
            Replies::None => Replies::None,
            Replies::SkipNext => Replies::Skip,
            Replies::Skip => {
                output.truncate(start);
                Replies::All
            }
        };
        if self.replies != Replies::All {
            output.truncate(start);
        }
        true
    }
}

/// The refusal of a command that nobody knows, with the beginnings of what was sent.
fn unknown(args: Args<'_>) -> Refusal {
    const NAME_BYTES: usize = 128;
    let cut = |bytes: &[u8], most: usize| String::from_utf8_lossy(&bytes[..bytes.len().min(most)]).into_owned();
    let mut shown = String::new();
    for argument in args.from(1) {
        if shown.len() >= NAME_BYTES {
            break;
        }
        shown.push_str(&format!("'{}' ", cut(argument, NAME_BYTES - shown.len())));
    }
    let name = cut(args.get(0), NAME_BYTES);
    Refusal::new(format_args!("ERR unknown command '{name}', with args beginning with: {shown}"))
}

/// The refusal of a command with too few or too many arguments.
fn wrong_arity(name: &str) -> Refusal {
    Refusal::new(format_args!("ERR wrong number of arguments for '{name}' command"))
}

/// The refusal of what a reader may not do.
fn no_permission(name: &str) -> Refusal {
    Refusal::new(format_args!("NOPERM User reader has no permissions to run the '{name}' command"))
}

/// The refusal of a subcommand that nobody knows.
fn unknown_subcommand(args: Args<'_>) -> Refusal {
    const NAME_BYTES: usize = 128;
    let word = |index| String::from_utf8_lossy(&args.get(index)[..args.get(index).len().min(NAME_BYTES)]).into_owned();
    let (command, subcommand) = (word(0).to_ascii_uppercase(), word(1));
    Refusal::new(format_args!("ERR unknown subcommand '{subcommand}'. Try {command} HELP."))
}
