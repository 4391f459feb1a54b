//! A worker: one thread that serves many connections by turns.
//!
//! Owns: the event loop, the connections of this thread and the buffers that they share. No
//! command waits for anything but a lock of the region, which has a deadline; so a thread
//! for each connection would gain nothing.
//!
//! ```text
//! listeners -> worker 0 accepts -> inbox of a worker -> its connections
//! ```

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token, Waker};
use slab::Slab;

use super::Shared;
use super::connection::{Again, Buffers, Connection, End, Protocol, Stream, Turn};
use super::listener::{Listener, Origin, Speaks};
use super::{http, memcached, resp};

/// Bytes of a read.
const INPUT_BYTES: usize = 64 << 10;
/// What a stranger may keep when there is no room.
const STRANGER_BYTES: usize = 1 << 10;
/// How often connections are looked at of which nothing is heard.
const SWEEP: Duration = Duration::from_millis(500);
/// How long the small replies of a turn wait for each other at most.
const TOGETHER: Duration = Duration::from_millis(1);
/// How long clients may take the rest of their replies when the server ends.
const GRACE: Duration = Duration::from_secs(5);

const WAKER: Token = Token(usize::MAX);
/// Tokens from here on are listeners.
const LISTENERS: usize = usize::MAX / 2;

/// A connection that was accepted for a worker.
pub struct Arrival {
    stream: Stream,
    origin: Origin,
}

/// How others reach a worker.
pub struct Post {
    inbox: Sender<Arrival>,
    waker: Arc<Waker>,
}

impl Post {
    /// Hands a connection over.
    fn send(&self, arrival: Arrival) {
        // A worker that has ended needs no connections.
        if self.inbox.send(arrival).is_ok() {
            let _ = self.waker.wake();
        }
    }

    /// Wakes the worker, to look at what it is told elsewhere.
    pub fn waker(&self) -> Arc<Waker> {
        self.waker.clone()
    }
}

/// A worker that has yet to run.
pub struct Worker {
    number: usize,
    poll: Poll,
    inbox: Receiver<Arrival>,
}

impl Worker {
    /// A worker and the way to reach it.
    ///
    /// # Errors
    /// The system gives no more descriptors.
    pub fn new(number: usize) -> io::Result<(Worker, Post)> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        let (sender, inbox) = channel();
        Ok((Worker { number, poll, inbox }, Post { inbox: sender, waker }))
    }

    /// Serves until the server ends. One worker has the listeners, and hands what it accepts
    /// to all `posts` in turn.
    ///
    /// # Errors
    /// The system refuses to wait for events.
    pub fn run(self, shared: &Shared, mut listeners: Vec<Listener>, posts: &[Post]) -> io::Result<()> {
        let Worker { number, mut poll, inbox } = self;
        let counters = &shared.counters[number];
        for (index, listener) in listeners.iter_mut().enumerate() {
            listener.register(poll.registry(), Token(LISTENERS + index))?;
        }
        let mut events = Events::with_capacity(1024);
        let mut connections: Slab<Connection> = Slab::new();
        let mut buffers = Buffers { input: vec![0; INPUT_BYTES].into(), output: Vec::with_capacity(INPUT_BYTES) };
        let (mut soon, mut turns, mut unsent): (Vec<usize>, Vec<usize>, Vec<usize>) =
            (Vec::new(), Vec::new(), Vec::new());
        let mut swept = Instant::now();
        let mut ends_at: Option<Instant> = None;
        let mut next_post = 0;
        loop {
            let is_behind = !soon.is_empty() || listeners.iter().any(|listener| listener.is_ready);
            let wait = if is_behind { Duration::ZERO } else { SWEEP };
            match poll.poll(&mut events, Some(wait)) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            let now = Instant::now();
            turns.clear();
            turns.append(&mut soon);
            for event in &events {
                match event.token() {
                    // Somebody came, or was asked to go.
                    WAKER => turns.extend(
                        connections
                            .iter()
                            .filter(|(_, connection)| connection.client.is_killed())
                            .map(|(index, _)| index),
                    ),
                    Token(index) if index >= LISTENERS => {
                        // None are left while the server ends.
                        if let Some(listener) = listeners.get_mut(index - LISTENERS) {
                            listener.is_ready = true;
                        }
                    }
                    Token(index) => {
                        if let Some(connection) = connections.get_mut(index) {
                            // What is neither is an error or an end, which a read tells.
                            connection.ready(!event.is_writable() || event.is_readable(), event.is_read_closed());
                            turns.push(index);
                        }
                    }
                }
            }
            // Relaxed, here and below: whoever sets it wakes us afterwards.
            let is_stopping = shared.is_stopping.load(Ordering::Relaxed);
            if is_stopping {
                // Nobody else gets in, and the sockets' files go.
                listeners.clear();
            } else {
                for listener in listeners.iter_mut().filter(|listener| listener.is_ready) {
                    listener.accept(shared, counters, |stream, origin| {
                        posts[next_post % posts.len()].send(Arrival { stream, origin });
                        next_post += 1;
                    });
                }
            }
            while let Ok(arrival) = inbox.try_recv() {
                let Arrival { stream, origin } = arrival;
                let client = shared.clients.enter(origin, number, now);
                let protocol = match client.speaks {
                    Speaks::Resp => Protocol::Resp(Box::new(resp::Session::new(shared, client.clone()))),
                    Speaks::Memcached => Protocol::Memcached(Box::new(memcached::Session::new(shared, client.clone()))),
                    Speaks::Http => Protocol::Http(http::Session::new(client.clone())),
                };
                let index = connections.insert(Connection::new(stream, protocol, client, now));
                let connection = &mut connections[index];
                if connection.register(poll.registry(), Token(index)).is_err() {
                    shared.clients.leave(connections.remove(index).client.id);
                }
            }
            let entered = shared.gate.enter();
            let turn_of = |index| Turn {
                shared,
                counters,
                registry: poll.registry(),
                token: Token(index),
                now,
                entered: &entered,
            };
            let send = |connections: &mut Slab<Connection>, unsent: &mut Vec<usize>| {
                for index in unsent.drain(..) {
                    // It may have been closed as the one with most.
                    let Some(connection) = connections.get_mut(index) else { continue };
                    let before = connection.buffered();
                    let done = connection.flush(&turn_of(index));
                    shared.note_buffered(before, connection.buffered());
                    if let Err(end) = done {
                        close(shared, number, connections, index, end, &poll);
                    }
                }
            };
            for &index in &turns {
                let Some(connection) = connections.get_mut(index) else { continue };
                let before = connection.buffered();
                let turn = turn_of(index);
                let done = connection.work(&turn, &mut buffers);
                buffers.clear();
                let all = shared.note_buffered(before, connection.buffered());
                match done {
                    Ok(Again::Later) => {}
                    Ok(Again::Soon) => soon.push(index),
                    Ok(Again::Unsent) => unsent.push(index),
                    Err(end) => close(shared, number, &mut connections, index, end, &poll),
                }
                if all > shared.limits.buffers_bytes
                    && let Some(index) = heaviest(&connections)
                {
                    close(shared, number, &mut connections, index, End::Overflow, &poll);
                }
                if !unsent.is_empty() && now.elapsed() >= TOGETHER {
                    send(&mut connections, &mut unsent);
                }
            }
            send(&mut connections, &mut unsent);
            drop(entered);
            if now.duration_since(swept) >= SWEEP || is_stopping {
                swept = now;
                listeners.iter_mut().for_each(|listener| listener.is_ready = true);
                let overdue: Vec<(usize, End)> = connections
                    .iter()
                    .filter_map(|(index, connection)| {
                        let end = connection.overdue(shared, now);
                        end.or((is_stopping && connection.is_quiet()).then_some(End::Closed)).map(|end| (index, end))
                    })
                    .collect();
                for (index, end) in overdue {
                    close(shared, number, &mut connections, index, end, &poll);
                }
            }
            if is_stopping {
                let deadline = *ends_at.get_or_insert(now + GRACE);
                if connections.is_empty() || now >= deadline {
                    return Ok(());
                }
            }
        }
    }
}

/// Whose end makes room: not who came last, but who has most; and nobody who said a password
/// while a stranger keeps anything worth it.
fn heaviest(connections: &Slab<Connection>) -> Option<usize> {
    let weighed = connections.iter().filter_map(|(index, connection)| {
        let (is_stranger, bytes) = (connection.is_stranger(), connection.buffered());
        let least = if is_stranger { STRANGER_BYTES } else { INPUT_BYTES };
        (bytes > least).then_some((is_stranger, bytes, index))
    });
    weighed.max().map(|(_, _, index)| index)
}

fn close(shared: &Shared, number: usize, connections: &mut Slab<Connection>, index: usize, end: End, poll: &Poll) {
    let mut connection = connections.remove(index);
    connection.deregister(poll.registry());
    shared.note_buffered(connection.buffered(), 0);
    let counters = &shared.counters[number];
    match end {
        End::Closed => {}
        End::Idle => counters.idle.add(1),
        End::Late => counters.late.add(1),
        End::Stalled => counters.stalled.add(1),
        End::Overflow => counters.overflowed.add(1),
        End::Killed => counters.killed.add(1),
    }
    let client = &connection.client;
    shared.clients.leave(client.id);
    match end {
        // Anybody can come and say nothing.
        End::Closed | End::Late => tracing::debug!(client = client.id, reason = ?end, "closed"),
        end => tracing::info!(client = client.id, address = client.address, reason = ?end, "closed"),
    }
}
