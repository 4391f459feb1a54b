//! Who is connected.
//!
//! Owns: the list of clients that `CLIENT LIST` shows, their numbers, and how one asks for
//! the end of another. What a client sends and gets is its connection's and nobody else's.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::config::Limits;
use super::listener::{Origin, Speaks};

/// Of all clients one in so many may be of HTTP, whose strangers say that they are only with their
/// request: they leave the places of the others alone.
const HTTP_SHARE: usize = 4;

/// What is known of one client. All of it is for people: nothing is decided by it but the end.
#[derive(Debug)]
pub struct Client {
    /// Never the same twice in the life of a server.
    pub id: u64,
    /// Where it comes from: `ADDRESS:PORT`, or the socket's path and `:0`.
    pub address: String,
    /// Where it came to.
    pub local: String,
    /// The port of that, in the network; a socket in the file system has none, and its permissions guard it.
    pub port: Option<u16>,
    /// What is spoken there.
    pub speaks: Speaks,
    /// The worker that serves it.
    pub worker: usize,
    /// When it came.
    pub since: Instant,
    /// Seconds after `since` when it last sent something.
    pub active: AtomicU32,
    /// The database that it has selected.
    pub database: AtomicU32,
    /// The command that it sent last, as a place in the table of commands; 0 is none.
    pub command: AtomicU32,
    /// What it calls itself, and its library with its version.
    pub names: Mutex<Names>,
    is_killed: AtomicBool,
}

/// What a client says of itself.
#[derive(Debug, Default, Clone)]
pub struct Names {
    /// `CLIENT SETNAME`
    pub name: String,
    /// `CLIENT SETINFO lib-name`
    pub library: String,
    /// `CLIENT SETINFO lib-ver`
    pub version: String,
    /// The user that it logged in as.
    pub user: String,
}

impl Client {
    /// What it says of itself.
    pub fn names(&self) -> Names {
        self.names.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes what it says of itself.
    pub fn rename(&self, change: impl FnOnce(&mut Names)) {
        change(&mut self.names.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Asks for its end; its worker has to be woken.
    pub fn kill(&self) {
        // Relaxed, here and below: the waker orders it, and a late look only ends it later.
        self.is_killed.store(true, Ordering::Relaxed);
    }

    /// Somebody asked for its end.
    pub fn is_killed(&self) -> bool {
        self.is_killed.load(Ordering::Relaxed)
    }

    /// Notes that it sent something.
    pub fn note(&self, now: Instant) {
        // Relaxed: for people.
        self.active.store(now.duration_since(self.since).as_secs() as u32, Ordering::Relaxed);
    }
}

/// All clients.
#[derive(Debug, Default)]
pub struct Clients {
    list: Mutex<BTreeMap<u64, Arc<Client>>>,
    last: AtomicU64,
    /// Those on the list, and those on their way to it.
    admitted: AtomicUsize,
    /// Those of them that speak HTTP.
    admitted_http: AtomicUsize,
}

impl Clients {
    /// Counts a client that has come, if there are not too many, nor too many of its kind.
    pub fn admit(&self, speaks: Speaks, limits: &Limits) -> bool {
        // Relaxed, here and below: numbers that stand for themselves.
        let count = |counted: &AtomicUsize, most: usize| {
            let more = |count| (count < most).then_some(count + 1);
            counted.try_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
        };
        let is_http = speaks == Speaks::Http;
        if is_http && !count(&self.admitted_http, (limits.clients / HTTP_SHARE).max(1)) {
            return false;
        }
        let is_admitted = count(&self.admitted, limits.clients);
        if is_http && !is_admitted {
            self.admitted_http.fetch_sub(1, Ordering::Relaxed);
        }
        is_admitted
    }

    /// Enters a client that was admitted.
    pub fn enter(&self, origin: Origin, worker: usize, now: Instant) -> Arc<Client> {
        let Origin { speaks, address, local, port } = origin;
        // Relaxed: only that no number is given twice.
        let id = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let client = Arc::new(Client {
            id,
            address,
            local,
            port,
            speaks,
            worker,
            since: now,
            active: AtomicU32::new(0),
            database: AtomicU32::new(0),
            command: AtomicU32::new(0),
            names: Mutex::default(),
            is_killed: AtomicBool::new(false),
        });
        self.lock().insert(id, client.clone());
        client
    }

    /// Takes a client off the list.
    pub fn leave(&self, id: u64) {
        if let Some(client) = self.lock().remove(&id) {
            self.admitted.fetch_sub(1, Ordering::Relaxed);
            if client.speaks == Speaks::Http {
                self.admitted_http.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }

    /// All of them, the oldest first.
    pub fn all(&self) -> Vec<Arc<Client>> {
        self.lock().values().cloned().collect()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, Arc<Client>>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
