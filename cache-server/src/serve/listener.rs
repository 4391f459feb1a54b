//! Where connections come from: sockets in the file system and in the network.
//!
//! Owns: making them so that nobody else gets in, and accepting. A socket file has its
//! permissions before it has its name, and a lock beside it says that its server lives; one
//! that a dead server left is replaced.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mio::net::{TcpListener, UnixListener};
use mio::{Interest, Registry, Token};
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::Shared;
use super::config::Config;
use super::connection::Stream;
use super::counters::Counters;
use crate::failure::{Failure, Result};

/// Connections that the kernel keeps for us; it takes fewer where it has fewer.
const BACKLOG: i32 = 4096;
/// Connections accepted in one turn.
const ACCEPTS_PER_TURN: usize = 256;
/// How often a lack of descriptors is told.
const TOLD_EVERY: Duration = Duration::from_secs(10);

/// What is spoken on a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaks {
    /// Redis's protocol.
    Resp,
    /// memcached's protocol.
    Memcached,
    /// HTTP: the page and the metrics.
    Http,
}

impl Speaks {
    /// The option that names its socket.
    fn option(self) -> &'static str {
        match self {
            Speaks::Resp => "socket",
            Speaks::Memcached => "memcached_socket",
            Speaks::Http => "http_socket",
        }
    }
}

/// Where a connection comes from and where it came to.
#[derive(Debug)]
pub struct Origin {
    /// What is spoken there.
    pub speaks: Speaks,
    /// Where it comes from, for people.
    pub address: String,
    /// Where it came to, for people.
    pub local: String,
    /// The port of that, in the network.
    pub port: Option<u16>,
}

#[derive(Debug)]
enum Socket {
    Unix { listener: UnixListener, path: PathBuf, lock_path: PathBuf, _lock: File },
    Tcp(TcpListener),
}

/// A socket that is listened on.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    speaks: Speaks,
    local: String,
    /// Its port, in the network.
    port: Option<u16>,
    /// Somebody may be waiting.
    pub is_ready: bool,
    told: Option<Instant>,
}

impl Listener {
    /// Listens at `path`, whose file gets `mode`.
    ///
    /// # Errors
    /// Another server is there, or the directory does not let us.
    pub fn unix(speaks: Speaks, path: &Path, mode: u32) -> Result<Listener> {
        let refused = |error: io::Error| Failure::file("listen at", path, &error);
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let lock_path = path.with_file_name(format!(".{name}.lock"));
        let lock = lock(&lock_path, path)?;
        match std::fs::symlink_metadata(path) {
            Ok(there) if !std::os::unix::fs::FileTypeExt::is_socket(&there.file_type()) => {
                let shown = path.display();
                return Err(Failure::usage(format!("there is a file at {shown} that is no socket; move it away")));
            }
            // The lock is ours, so its server is dead.
            Ok(_) => std::fs::remove_file(path).map_err(refused)?,
            Err(_) => {}
        }
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None);
        let socket = socket.map_err(|error| refused(error.into()))?;
        // The file is made with the permissions of the socket, less those that the process gives
        // to no file; it gets all of them before anybody can connect.
        let mode = Mode::from_bits_truncate(mode);
        let made = rustix::fs::fchmod(&socket, mode)
            .and_then(|()| SocketAddrUnix::new(path))
            .and_then(|address| rustix::net::bind(&socket, &address))
            .and_then(|()| rustix::fs::chmod(path, mode))
            .and_then(|()| rustix::net::listen(&socket, BACKLOG));
        made.map_err(|error| refused(error.into()))?;
        let listener = UnixListener::from_std(socket.into());
        let local = format!("{}:0", path.display());
        let socket = Socket::Unix { listener, path: path.to_owned(), lock_path, _lock: lock };
        Ok(Listener { socket, speaks, local, port: None, is_ready: true, told: None })
    }

    /// Listens at an address of the network.
    ///
    /// # Errors
    /// The address is in use, or not ours.
    pub fn tcp(speaks: Speaks, address: SocketAddr) -> Result<Listener> {
        let listener = TcpListener::bind(address).map_err(|error| Failure::File {
            doing: "listen at",
            path: address.to_string(),
            reason: error.to_string(),
        })?;
        // Port 0 is one that the system chooses.
        let address = listener.local_addr().unwrap_or(address);
        let (local, port) = (address.to_string(), Some(address.port()));
        Ok(Listener { socket: Socket::Tcp(listener), speaks, local, port, is_ready: true, told: None })
    }

    /// Where it listens.
    pub fn local(&self) -> &str {
        self.local.strip_suffix(":0").unwrap_or(&self.local)
    }

    /// Has the worker told of connections.
    pub fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        match &mut self.socket {
            Socket::Unix { listener, .. } => registry.register(listener, token, Interest::READABLE),
            Socket::Tcp(listener) => registry.register(listener, token, Interest::READABLE),
        }
    }

    /// Accepts who waits, and refuses who is too many.
    pub fn accept(&mut self, shared: &Shared, counters: &Counters, mut arrive: impl FnMut(Stream, Origin)) {
        for _ in 0..ACCEPTS_PER_TURN {
            let accepted = match &self.socket {
                Socket::Unix { listener, .. } => {
                    listener.accept().map(|(stream, _)| (Stream::Unix(stream), self.local.clone()))
                }
                Socket::Tcp(listener) => listener.accept().map(|(stream, address)| {
                    // Answers are whole when they are written.
                    let _ = stream.set_nodelay(true);
                    let _ = rustix::net::sockopt::set_socket_keepalive(&stream, true);
                    (Stream::Tcp(stream), address.to_string())
                }),
            };
            match accepted {
                Ok((stream, address)) => {
                    counters.connections.add(1);
                    if shared.clients.admit(self.speaks, &shared.limits) {
                        let (speaks, local, port) = (self.speaks, self.local.clone(), self.port);
                        arrive(stream, Origin { speaks, address, local, port });
                    } else {
                        counters.refused.add(1);
                        refuse(self.speaks, stream);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.is_ready = false;
                    return;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    // Out of descriptors, or a connection that is gone already. The next look is
                    // that of the sweep.
                    self.is_ready = false;
                    if self.told.is_none_or(|told| told.elapsed() > TOLD_EVERY) {
                        self.told = Some(Instant::now());
                        tracing::warn!(listener = self.local(), %error, "cannot accept connections");
                    }
                    return;
                }
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Socket::Unix { path, lock_path, .. } = &self.socket {
            // Ours while we hold the lock. Who waits for its file looks whether it still has its name.
            let _ = std::fs::remove_file(path);
            let _ = std::fs::remove_file(lock_path);
        }
    }
}

/// The lock that says that the server of the socket `path` lives.
///
/// # Errors
/// Another server has it, something else is in its place, or the directory does not let us.
fn lock(lock_path: &Path, path: &Path) -> Result<File> {
    // Nothing is followed, and nothing waited for, that somebody laid there.
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32;
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).write(true).mode(0o600).custom_flags(flags);
    loop {
        let lock = options.open(lock_path).map_err(|error| Failure::file("make", lock_path, &error))?;
        let ours = lock.metadata().map_err(|error| Failure::file("make", lock_path, &error))?;
        if !ours.is_file() {
            return Err(Failure::usage(format!("there is something else at {}; move it away", lock_path.display())));
        }
        if rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            let shown = path.display();
            return Err(Failure::usage(format!("another server listens at {shown}; end it or give another path")));
        }
        // A server that ended in between took the file away, and the next one makes another.
        let named = std::fs::symlink_metadata(lock_path);
        if named.is_ok_and(|named| (named.dev(), named.ino()) == (ours.dev(), ours.ino())) {
            return Ok(lock);
        }
    }
}

/// The sockets that `config` asks for, of a region whose file is `region`.
///
/// # Errors
/// Two of them are one, or one cannot be where it should: what is known before anything is made.
pub fn sockets(region: Option<&Path>, config: &Config) -> Result<Vec<(Speaks, PathBuf)>> {
    let redis = match &config.socket {
        Some(given) => given.clone(),
        None => region.map(|path| path.with_added_extension("sock")),
    };
    let others = [(Speaks::Memcached, &config.memcached_socket), (Speaks::Http, &config.http_socket)];
    let mut sockets: Vec<(Speaks, PathBuf)> = redis.map(|path| (Speaks::Resp, path)).into_iter().collect();
    for (speaks, path) in others {
        sockets.extend(path.iter().map(|path| (speaks, path.clone())));
    }
    for (at, (speaks, path)) in sockets.iter().enumerate() {
        let shown = path.display();
        if let Some((other, _)) = sockets[..at].iter().find(|(_, other)| other == path) {
            let (first, second) = (other.option(), speaks.option());
            return Err(Failure::usage(format!("{first} and {second} are both {shown}; give each a path of its own")));
        }
        let directory = path.parent().unwrap_or(path);
        // That of the region is made with it.
        if Some(directory) != region.and_then(Path::parent) && !directory.is_dir() {
            let directory = directory.display();
            return Err(Failure::usage(format!("cannot listen at {shown}: there is no directory {directory}")));
        }
        SocketAddrUnix::new(path).map_err(|error| Failure::file("listen at", path, &error.into()))?;
    }
    Ok(sockets)
}

fn refuse(speaks: Speaks, stream: Stream) {
    let text: &[u8] = match speaks {
        Speaks::Resp => b"-ERR max number of clients reached\r\n",
        Speaks::Memcached => b"ERROR Too many open connections\r\n",
        Speaks::Http => b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    };
    // The socket's buffer is empty and takes this much; if not, the close says it.
    let _ = match stream {
        Stream::Unix(mut stream) => stream.write(text),
        Stream::Tcp(mut stream) => stream.write(text),
    };
}
