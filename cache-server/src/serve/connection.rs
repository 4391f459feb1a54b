//! One connection: what has come and was not understood yet, what is to go and was not taken.
//!
//! Owns: the two buffers, and how much of either there may be. A connection that is idle has
//! none: a request is read into the worker's buffer and taken apart there, and a reply
//! is written from the worker's; only what is left over moves into the connection.
//!
//! Must never: hold more than the limits, or go on with a client's requests while it does not
//! take the replies.

use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::event::Source;
use mio::net::{TcpStream, UnixStream};
use mio::{Interest, Registry, Token};
use rustix::io::Errno;
use rustix::net::Shutdown;

use super::Shared;
use super::clients::Client;
use super::counters::Counters;
use super::gate::Alone;
use super::{http, memcached, resp};

/// Replies that wait for the client before its next request is looked at.
pub const PAUSE_BYTES: usize = 1 << 20;
/// Reads of one turn, so that a client that sends without an end leaves the others theirs.
const READS_PER_TURN: usize = 16;
/// Replies of one connection up to this are sent with those of the others at the end of the turn: a
/// program with many connections is woken once for all of them, as by Redis.
const TOGETHER_BYTES: usize = 16 << 10;
/// How long the commands of one turn wait for locks of the region together, and how long each
/// may in any case: longer than a writer that runs ever holds one.
const LOCK_WAIT: Duration = Duration::from_millis(50);
const LOCK_WAIT_MIN: Duration = Duration::from_micros(200);
/// How long a client of HTTP has for its first request, and for a whole one, however it goes on; and
/// any client to say who it is where a password is asked for. Who does neither takes others' places.
const INTRODUCTION: Duration = Duration::from_secs(10);
/// How long a client has to take the last reply.
const LINGER: Duration = Duration::from_secs(1);
/// Bytes that are read at once of a request that is longer, and the fewest.
const READ_BYTES: usize = 64 << 10;
const READ_BYTES_MIN: usize = 16 << 10;
/// A worker's buffer with more room than this is given back when it is empty.
const KEPT_BYTES: usize = 256 << 10;

/// A stream socket of either family.
#[derive(Debug)]
pub enum Stream {
    /// In the file system.
    Unix(UnixStream),
    /// In the network.
    Tcp(TcpStream),
}

impl Stream {
    fn descriptor(&self) -> BorrowedFd<'_> {
        match self {
            Stream::Unix(stream) => stream.as_fd(),
            Stream::Tcp(stream) => stream.as_fd(),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Unix(stream) => stream.write(bytes),
            Stream::Tcp(stream) => stream.write(bytes),
        }
    }

    /// The stream as something to wait for.
    pub fn source(&mut self) -> &mut dyn Source {
        match self {
            Stream::Unix(stream) => stream,
            Stream::Tcp(stream) => stream,
        }
    }
}

/// What a protocol made of the bytes it was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// So many bytes are done with: a request that was answered, or what is thrown away.
    Done(usize),
    /// There is none yet, and cannot be before there are so many bytes.
    More(usize),
    /// The answer has taken its part of the turn; it goes on in the next.
    Later,
    /// What was written is the last that the client gets.
    Close,
}

/// What a connection speaks.
pub enum Protocol {
    /// Redis's.
    Resp(Box<resp::Session>),
    /// memcached's.
    Memcached(Box<memcached::Session>),
    /// HTTP's.
    Http(http::Session),
}

/// Why a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The client, or an answer, closed it.
    Closed,
    /// Nothing went on for too long.
    Idle,
    /// A request was begun or an answer not taken, and nothing went on for too long.
    Stalled,
    /// It asked for more than it read, or sent a larger request than is allowed.
    Overflow,
    /// It said in time neither who it is nor what it wants.
    Late,
    /// `CLIENT KILL`.
    Killed,
}

/// A worker's buffers, which its connections share.
pub struct Buffers {
    /// What was just read.
    pub input: Box<[u8]>,
    /// What is about to be written.
    pub output: Vec<u8>,
}

impl Buffers {
    /// Forgets what was left, and gives back what is too much to keep.
    pub fn clear(&mut self) {
        self.output.clear();
        self.output.shrink_to(KEPT_BYTES);
    }
}

/// A connection.
pub struct Connection {
    stream: Stream,
    protocol: Protocol,
    /// The entry in the list of clients.
    pub client: Arc<Client>,
    /// What came and is no whole request yet.
    input: Vec<u8>,
    /// Bytes that the request in `input` has at least.
    needed: usize,
    /// What is to go, and how much of it went.
    output: Vec<u8>,
    sent: usize,
    /// There may be more to read.
    is_readable: bool,
    /// The client sends nothing more than what there is to read.
    is_ended: bool,
    /// All that it sent was read.
    is_over: bool,
    /// The socket's writability is waited for.
    is_waiting: bool,
    /// An answer goes on in the next turn.
    is_unfinished: bool,
    /// The last answer is written: close when it is sent.
    is_closing: bool,
    /// Since when the client's end is waited for.
    lingering: Option<Instant>,
    /// When something last came or went.
    active: Instant,
    /// When the request in `input` began; of one that has sent nothing, when it came.
    begun: Instant,
}

/// Whether a connection has to be looked at again before anything happens to its socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// It was left in the middle.
    Soon,
    /// It waits for the client.
    Later,
    /// All is done but to [flush](Connection::flush) the replies, with those of the others.
    Unsent,
}

impl Connection {
    /// A connection that has just been accepted.
    pub fn new(stream: Stream, protocol: Protocol, client: Arc<Client>, now: Instant) -> Connection {
        Connection {
            stream,
            protocol,
            client,
            input: Vec::new(),
            needed: 1,
            output: Vec::new(),
            sent: 0,
            is_readable: false,
            is_ended: false,
            is_over: false,
            is_waiting: false,
            is_unfinished: false,
            is_closing: false,
            lingering: None,
            active: now,
            begun: now,
        }
    }

    /// Has the worker told of what happens on the socket.
    pub fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        // Of reading only: the kernel says "writable" after everything that the client takes.
        registry.register(self.stream.source(), token, Interest::READABLE)
    }

    /// Has the worker told no longer.
    pub fn deregister(&mut self, registry: &Registry) {
        // A socket that is closed is not watched anyway.
        let _ = registry.deregister(self.stream.source());
    }

    /// Bytes that are kept for it: of requests and replies, and what its protocol remembers.
    pub fn buffered(&self) -> usize {
        let remembered = match &self.protocol {
            Protocol::Resp(session) => session.held_bytes(),
            Protocol::Memcached(session) => session.held_bytes(),
            Protocol::Http(_) => 0,
        };
        self.input.capacity() + self.output.capacity() + remembered
    }

    /// The client has yet to say its password.
    pub fn is_stranger(&self) -> bool {
        match &self.protocol {
            Protocol::Resp(session) => session.is_stranger(),
            Protocol::Memcached(session) => session.is_stranger(),
            // Each request says who asks.
            Protocol::Http(_) => false,
        }
    }

    /// Nothing of a request or an answer is under way.
    pub fn is_quiet(&self) -> bool {
        self.input.is_empty() && self.output.is_empty()
    }

    /// Why it has to end at `now`, if it does.
    pub fn overdue(&self, shared: &Shared, now: Instant) -> Option<End> {
        if self.client.is_killed() {
            return Some(End::Killed);
        }
        if self.lingering.is_some_and(|since| now.saturating_duration_since(since) > LINGER) {
            return Some(End::Closed);
        }
        if self.introduces_itself() && now.saturating_duration_since(self.begun) > INTRODUCTION {
            return Some(End::Late);
        }
        let since = now.saturating_duration_since(self.active);
        match self.is_quiet() {
            true if !shared.limits.idle.is_zero() && since > shared.limits.idle => Some(End::Idle),
            false if since > shared.limits.stall => Some(End::Stalled),
            _ => None,
        }
    }

    /// It has yet to say who it is, or, where each says it with its request, what it wants.
    fn introduces_itself(&self) -> bool {
        match &self.protocol {
            Protocol::Http(session) => self.output.is_empty() && (session.is_new() || !self.input.is_empty()),
            _ => self.is_stranger(),
        }
    }

    /// The socket may be read, or written; the client sends nothing more behind what is there.
    pub fn ready(&mut self, is_readable: bool, is_ended: bool) {
        self.is_readable |= is_readable;
        self.is_ended |= is_ended;
    }

    /// Does what can be done now.
    ///
    /// # Errors
    /// Why the connection ends.
    pub fn work(&mut self, turn: &Turn<'_>, buffers: &mut Buffers) -> Result<Again, End> {
        if self.client.is_killed() {
            return Err(End::Killed);
        }
        for _ in 0..READS_PER_TURN {
            if !self.output.is_empty() {
                self.flush(turn)?;
            }
            // A client that sends everything before it takes anything must come to an end of
            // sending: it is read from, but not answered, while it is behind with its replies.
            let is_behind = !self.output.is_empty();
            let rests = |is_over: bool| if is_behind || !is_over { Ok(Again::Later) } else { Err(End::Closed) };
            if self.is_closing {
                return if is_behind { Ok(Again::Later) } else { self.linger(turn, buffers) };
            }
            if !is_behind && self.input.len() >= self.needed {
                let input = std::mem::take(&mut self.input);
                let taken = self.serve_all(&input, &mut buffers.output, turn);
                self.input = input;
                self.input.drain(..taken);
                if taken > 0 {
                    self.begin(turn);
                }
                if self.input.is_empty() {
                    self.input = Vec::new();
                }
                self.send(&mut buffers.output, turn)?;
            } else if self.is_over {
                return rests(true);
            } else if !self.is_readable || (is_behind && self.input.len() >= turn.shared.limits.request_bytes) {
                return rests(false);
            } else if is_behind || !self.input.is_empty() {
                self.extend(turn)?;
            } else {
                let count = self.receive(&mut buffers.input, turn)?;
                let taken = self.serve_all(&buffers.input[..count], &mut buffers.output, turn);
                self.input.extend_from_slice(&buffers.input[taken..count]);
                self.begin(turn);
                let is_all = !self.is_readable && !self.is_closing && !self.is_unfinished;
                if is_all && (1..=TOGETHER_BYTES).contains(&buffers.output.len()) {
                    self.output.append(&mut buffers.output);
                    return Ok(Again::Unsent);
                }
                self.send(&mut buffers.output, turn)?;
            }
            if std::mem::take(&mut self.is_unfinished) {
                // It is we who take our time.
                self.active = turn.now;
                break;
            }
        }
        Ok(Again::Soon)
    }

    /// What is in `input` is the beginning of another request.
    fn begin(&mut self, turn: &Turn<'_>) {
        // A stranger's time is that of all that it says.
        if matches!(&self.protocol, Protocol::Http(session) if !session.is_new()) {
            self.begun = turn.now;
        }
    }

    /// Waits for the client's end after the last reply. A socket that is closed with bytes in it that
    /// nobody has read takes what was sent with it: the client would not learn what was wrong.
    fn linger(&mut self, turn: &Turn<'_>, buffers: &mut Buffers) -> Result<Again, End> {
        if self.lingering.is_none() {
            (self.lingering, self.input) = (Some(turn.now), Vec::new());
            rustix::net::shutdown(self.stream.descriptor(), Shutdown::Write).map_err(|_| End::Closed)?;
        }
        for _ in 0..READS_PER_TURN {
            if self.is_over {
                return Err(End::Closed);
            }
            if !self.is_readable {
                return Ok(Again::Later);
            }
            self.receive(&mut buffers.input, turn)?;
        }
        Ok(Again::Soon)
    }

    /// Answers the requests in `input`; returns how much of it they were.
    fn serve_all(&mut self, input: &[u8], output: &mut Vec<u8>, turn: &Turn<'_>) -> usize {
        let mut taken = 0;
        let (began, commands_before) = (Instant::now(), turn.counters.commands.get());
        self.needed = 1;
        while taken < input.len() && output.len() < PAUSE_BYTES {
            let step = match &mut self.protocol {
                Protocol::Resp(session) => session.step(&input[taken..], output, turn),
                Protocol::Memcached(session) => session.step(&input[taken..], output, turn),
                Protocol::Http(session) => session.step(&input[taken..], output, turn),
            };
            match step {
                Step::Done(bytes) => taken += bytes,
                Step::More(needed) => {
                    self.needed = needed;
                    break;
                }
                Step::Later => {
                    self.is_unfinished = true;
                    break;
                }
                Step::Close => {
                    self.is_closing = true;
                    taken = input.len();
                    break;
                }
            }
        }
        // Those that were counted, so that both numbers are one: a look at the page is no command of
        // a cache, nor is a piece of what is thrown away.
        turn.counters.durations.add(began.elapsed(), turn.counters.commands.get() - commands_before);
        taken
    }

    /// Reads into the worker's buffer.
    fn receive(&mut self, room: &mut [u8], turn: &Turn<'_>) -> Result<usize, End> {
        let count = rustix::io::read(self.stream.descriptor(), &mut *room);
        self.came(count, room.len(), turn)
    }

    /// Reads behind what is there of a request.
    fn extend(&mut self, turn: &Turn<'_>) -> Result<(), End> {
        let have = self.input.len();
        if self.needed > turn.shared.limits.request_bytes {
            return Err(End::Overflow);
        }
        // As much as is known to come, but never more ahead than has come already.
        let room = self.needed.saturating_sub(have).clamp(READ_BYTES_MIN, have.max(READ_BYTES));
        if self.input.capacity() - have < READ_BYTES_MIN {
            self.input.reserve_exact(room);
        }
        let room = self.input.capacity() - have;
        let count = rustix::io::read(self.stream.descriptor(), rustix::buffer::spare_capacity(&mut self.input));
        self.came(count, room, turn).map(|_| ())
    }

    /// Notes what a read into `room` bytes brought.
    fn came(&mut self, count: rustix::io::Result<usize>, room: usize, turn: &Turn<'_>) -> Result<usize, End> {
        match count {
            Ok(0) => {
                (self.is_over, self.is_readable) = (true, false);
                Ok(0)
            }
            Ok(count) => {
                // A short read of a stream means that it is empty, and the next that comes is told.
                // But its end may have been told together with what was read.
                self.is_readable = count == room || self.is_ended;
                self.active = turn.now;
                self.client.note(turn.now);
                turn.counters.input_bytes.add(count as u64);
                Ok(count)
            }
            Err(Errno::AGAIN) => {
                self.is_readable = false;
                Ok(0)
            }
            Err(Errno::INTR) => Ok(0),
            Err(_) => Err(End::Closed),
        }
    }

    /// Writes the worker's buffer, and keeps what the client does not take.
    fn send(&mut self, output: &mut Vec<u8>, turn: &Turn<'_>) -> Result<(), End> {
        if output.is_empty() {
            return Ok(());
        }
        // Nothing waits before it: replies are only made where everything before them went.
        let sent = self.write(output, 0, turn)?;
        let rest = &output[sent..];
        let is_over = rest.len() > turn.shared.limits.output_bytes;
        if !is_over {
            self.output.extend_from_slice(rest);
        }
        output.clear();
        if is_over { Err(End::Overflow) } else { self.wait(turn) }
    }

    /// Writes what was kept.
    ///
    /// # Errors
    /// Why the connection ends.
    pub fn flush(&mut self, turn: &Turn<'_>) -> Result<(), End> {
        let output = std::mem::take(&mut self.output);
        let sent = self.write(&output, self.sent, turn);
        self.output = output;
        self.sent += sent?;
        if self.sent == self.output.len() {
            (self.output, self.sent) = (Vec::new(), 0);
        }
        self.wait(turn)
    }

    fn write(&mut self, output: &[u8], from: usize, turn: &Turn<'_>) -> Result<usize, End> {
        let mut sent = from;
        while sent < output.len() {
            match self.stream.write(&output[sent..]) {
                Ok(0) => return Err(End::Closed),
                Ok(count) => sent += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Err(End::Closed),
            }
        }
        if sent > from {
            self.active = turn.now;
            turn.counters.output_bytes.add((sent - from) as u64);
        }
        Ok(sent - from)
    }

    /// Waits for the client to take more exactly while there is more.
    fn wait(&mut self, turn: &Turn<'_>) -> Result<(), End> {
        let wants = !self.output.is_empty();
        if wants == self.is_waiting {
            return Ok(());
        }
        let interest = if wants { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE };
        turn.registry.reregister(self.stream.source(), turn.token, interest).map_err(|_| End::Closed)?;
        self.is_waiting = wants;
        Ok(())
    }
}

/// What a connection's work needs of its worker.
pub struct Turn<'a> {
    /// The server.
    pub shared: &'a Shared,
    /// The worker's counters.
    pub counters: &'a Counters,
    /// Where sockets are waited for, and the name of this one there.
    pub registry: &'a Registry,
    /// See `registry`.
    pub token: Token,
    /// When this turn began.
    pub now: Instant,
    /// The way to keep other workers out for a while.
    pub entered: &'a dyn Alone,
}

impl Turn<'_> {
    /// How long the next command may wait for a lock of the region, in nanoseconds. All that
    /// a worker does in one turn shares the wait: a program that was stopped while it writes holds up
    /// those who want the same lock, not every client.
    pub fn lock_wait_ns(&self) -> u64 {
        let left = LOCK_WAIT.saturating_sub(self.now.elapsed());
        left.max(LOCK_WAIT_MIN).as_nanos() as u64
    }

    /// Does `work` while no other worker is at work.
    pub fn alone<R>(&self, work: impl FnOnce() -> R) -> R {
        let (mut work, mut done) = (Some(work), None);
        self.entered.do_alone(&mut || done = work.take().map(|work| work()));
        done.expect("the gate does the work before it returns")
    }
}
