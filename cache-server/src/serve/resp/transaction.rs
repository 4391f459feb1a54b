//! MULTI, EXEC, DISCARD, WATCH and UNWATCH.
//!
//! No other client of this server sees or changes anything while the commands of an EXEC run
//! (see `gate`). Programs that are attached to the region see and change each key as any
//! other: for them an EXEC is its commands one after the other, and a server that dies in
//! the middle leaves those that were done. A watched key is compared by its version, which
//! changes with every change of the key, whoever makes it.

use std::collections::HashMap;

use cache_shm::{Cache, Namespace};

use super::reply::{Refusal, Reply, TOO_LARGE};
use super::table;
use super::{Args, Call, Done, State};

/// Bytes of the queued commands of one client.
const QUEUE_BYTES_MAX: usize = 64 << 20;
/// Keys that one client watches.
const WATCHED_MAX: usize = 10_000;

/// What a client has queued and watches.
#[derive(Default)]
pub struct Transaction {
    is_open: bool,
    /// Why a command was refused when it should have been queued.
    spoilt: Option<&'static str>,
    queue: Queue,
    watched: HashMap<(Namespace, Box<[u8]>), Watched>,
    watched_bytes: usize,
}

/// Commands, one behind the other.
#[derive(Default)]
struct Queue {
    /// Their words.
    bytes: Vec<u8>,
    /// Where each word is.
    spans: Vec<(u32, u32)>,
    /// Where the words of each command end among the places.
    ends: Vec<usize>,
}

impl Queue {
    fn held_bytes(&self) -> usize {
        self.bytes.capacity()
            + self.spans.capacity() * size_of::<(u32, u32)>()
            + self.ends.capacity() * size_of::<usize>()
    }

    fn push(&mut self, args: Args<'_>) {
        for word in args.from(0) {
            let from = self.bytes.len();
            self.bytes.extend_from_slice(word);
            // All together they are less than 4 GiB: see `Transaction::queue`.
            self.spans.push((from as u32, self.bytes.len() as u32));
        }
        self.ends.push(self.spans.len());
    }

    fn commands(&self) -> impl ExactSizeIterator<Item = Args<'_>> {
        self.ends.iter().enumerate().map(|(number, end)| {
            let start = if number == 0 { 0 } else { self.ends[number - 1] };
            Args::new(&self.bytes, &self.spans[start..*end])
        })
    }
}

struct Watched {
    database: Cache,
    /// 0 if it was not there.
    version: u64,
}

impl Transaction {
    /// Commands are queued.
    pub fn is_open(&self) -> bool {
        self.is_open
    }

    /// A command was refused: nothing will be carried out.
    pub fn spoil(&mut self) {
        self.spoil_for("EXECABORT Transaction discarded because of previous errors.");
    }

    fn spoil_for(&mut self, text: &'static str) {
        if self.is_open {
            self.spoilt.get_or_insert(text);
            self.queue = Queue::default();
        }
    }

    /// Puts a command behind the others, if they will be carried out at all.
    pub fn queue(&mut self, args: Args<'_>) {
        if self.spoilt.is_some() {
            return;
        }
        let more: usize = args.from(0).map(|word| word.len() + size_of::<(u32, u32)>()).sum();
        if self.queue.held_bytes().saturating_add(more) > QUEUE_BYTES_MAX {
            self.spoil_for("EXECABORT Transaction discarded because of too many bytes queued.");
        } else {
            self.queue.push(args);
        }
    }

    /// Bytes that are kept.
    pub fn held_bytes(&self) -> usize {
        self.queue.held_bytes() + self.watched_bytes
    }

    /// Forgets everything.
    pub fn end(&mut self) {
        *self = Transaction::default();
    }
}

/// The version of a key, 0 if it is not there.
fn version(database: &Cache, key: &[u8]) -> Result<u64, Refusal> {
    Ok(database.meta(key)?.map_or(0, |meta| meta.version))
}

/// `MULTI`
pub fn multi(call: &mut Call<'_>) -> Done {
    if call.state.transaction.is_open {
        return Err(Refusal::fixed("ERR MULTI calls can not be nested"));
    }
    call.state.transaction.is_open = true;
    call.reply.ok();
    Ok(())
}

/// `DISCARD`
pub fn discard(call: &mut Call<'_>) -> Done {
    if !call.state.transaction.is_open {
        return Err(Refusal::fixed("ERR DISCARD without MULTI"));
    }
    call.state.transaction.end();
    call.reply.ok();
    Ok(())
}

/// `WATCH key [key ...]`
pub fn watch(call: &mut Call<'_>) -> Done {
    if call.state.transaction.is_open {
        return Err(Refusal::fixed("ERR WATCH inside MULTI is not allowed"));
    }
    for key in call.args.from(1) {
        let database = call.state.database.clone();
        let name = (database.scope()?.namespace, Box::from(key));
        let transaction = &mut call.state.transaction;
        // The first look counts, however often a key is watched.
        if transaction.watched.contains_key(&name) {
            continue;
        }
        if transaction.watched.len() >= WATCHED_MAX {
            return Err(Refusal::new(format_args!("ERR too many watched keys; {WATCHED_MAX} are the most")));
        }
        let version = version(&database, key)?;
        transaction.watched.insert(name, Watched { database, version });
        transaction.watched_bytes += size_of::<Watched>() + size_of::<(Namespace, Box<[u8]>)>() + key.len();
    }
    call.reply.ok();
    Ok(())
}

/// `UNWATCH`
pub fn unwatch(call: &mut Call<'_>) -> Done {
    let transaction = &mut call.state.transaction;
    (transaction.watched, transaction.watched_bytes) = (HashMap::new(), 0);
    call.reply.ok();
    Ok(())
}

/// `EXEC`
pub fn exec(call: &mut Call<'_>) -> Done {
    if !call.state.transaction.is_open {
        return Err(Refusal::fixed("ERR EXEC without MULTI"));
    }
    let transaction = std::mem::take(&mut call.state.transaction);
    if let Some(text) = transaction.spoilt {
        return Err(Refusal::fixed(text));
    }
    let turn = call.turn;
    turn.alone(|| run(call.state, &mut call.reply, turn, &transaction))
}

fn run(state: &mut State, reply: &mut Reply<'_>, turn: &super::Turn<'_>, transaction: &Transaction) -> Done {
    for ((_, key), watched) in &transaction.watched {
        if version(&watched.database, key)? != watched.version {
            reply.null_array();
            return Ok(());
        }
    }
    let commands = transaction.queue.commands();
    let begin = reply.out().len();
    reply.array(commands.len());
    for args in commands {
        let Some(command) = table::find(args.get(0)) else { continue };
        let start = reply.out().len();
        // A command before it may have changed who the client is.
        match state.check_user(command) {
            Ok(()) => state.run(command, args, reply.out(), turn),
            Err(refusal) => state.refuse(&refusal, reply.out(), turn),
        }
        // All are carried out; what is too much is only not told.
        if reply.out().len() - begin > turn.shared.limits.output_bytes {
            reply.out().truncate(start);
            state.refuse(&TOO_LARGE, reply.out(), turn);
        }
    }
    Ok(())
}
