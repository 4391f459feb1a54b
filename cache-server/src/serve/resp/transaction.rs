//! MULTI, EXEC, DISCARD, WATCH and UNWATCH.
//!
//! No other client of this server sees or changes anything while the commands of an EXEC run
//! (see `gate`). Programs that are attached to the region see and change each key as any
//! other: for them an EXEC is its commands one after the other, and a server that dies in
//! the middle leaves those that were done. A watched key is compared by its version, which
//! changes with every change of the key, whoever makes it.

use cache_shm::Cache;

use super::reply::{Refusal, Reply};
use super::table;
use super::{Call, Done, State};

/// Bytes of the queued commands of one client.
const QUEUE_BYTES_MAX: usize = 64 << 20;

/// What a client has queued and watches.
#[derive(Default)]
pub struct Transaction {
    is_open: bool,
    /// A command was refused when it should have been queued.
    is_spoilt: bool,
    queue: Vec<Vec<Vec<u8>>>,
    queue_bytes: usize,
    watched: Vec<Watched>,
    watched_bytes: usize,
}

struct Watched {
    database: Cache,
    key: Vec<u8>,
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
        self.is_spoilt |= self.is_open;
    }

    /// Puts a command behind the others.
    pub fn queue(&mut self, args: super::Args<'_>) {
        let words: Vec<Vec<u8>> = args.from(0).map(<[u8]>::to_vec).collect();
        self.queue_bytes += words.iter().map(|word| word.len() + size_of::<Vec<u8>>()).sum::<usize>();
        if self.queue_bytes > QUEUE_BYTES_MAX {
            self.is_spoilt = true;
            self.queue.clear();
        } else {
            self.queue.push(words);
        }
    }

    /// Bytes that are kept.
    pub fn held_bytes(&self) -> usize {
        self.queue_bytes + self.watched_bytes
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
        let version = version(&database, key)?;
        let transaction = &mut call.state.transaction;
        transaction.watched.push(Watched { database, key: key.to_vec(), version });
        transaction.watched_bytes += size_of::<Watched>() + key.len();
    }
    call.reply.ok();
    Ok(())
}

/// `UNWATCH`
pub fn unwatch(call: &mut Call<'_>) -> Done {
    let transaction = &mut call.state.transaction;
    (transaction.watched, transaction.watched_bytes) = (Vec::new(), 0);
    call.reply.ok();
    Ok(())
}

/// `EXEC`
pub fn exec(call: &mut Call<'_>) -> Done {
    if !call.state.transaction.is_open {
        return Err(Refusal::fixed("ERR EXEC without MULTI"));
    }
    let transaction = std::mem::take(&mut call.state.transaction);
    if transaction.is_spoilt {
        let text = if transaction.queue_bytes > QUEUE_BYTES_MAX {
            "EXECABORT Transaction discarded because of too many bytes queued."
        } else {
            "EXECABORT Transaction discarded because of previous errors."
        };
        return Err(Refusal::fixed(text));
    }
    let turn = call.turn;
    turn.alone(|| run(call.state, &mut call.reply, turn, &transaction))
}

fn run(state: &mut State, reply: &mut Reply<'_>, turn: &super::Turn<'_>, transaction: &Transaction) -> Done {
    for watched in &transaction.watched {
        if version(&watched.database, &watched.key)? != watched.version {
            reply.null_array();
            return Ok(());
        }
    }
    reply.array(transaction.queue.len());
    for words in &transaction.queue {
        let mut bytes = Vec::with_capacity(words.iter().map(Vec::len).sum());
        let mut spans = Vec::with_capacity(words.len());
        for word in words {
            let from = bytes.len() as u32;
            bytes.extend_from_slice(word);
            spans.push((from, bytes.len() as u32));
        }
        let args = super::Args::new(&bytes, &spans);
        let Some(command) = table::find(args.get(0)) else { continue };
        state.run(command, args, reply.out(), turn);
    }
    Ok(())
}
