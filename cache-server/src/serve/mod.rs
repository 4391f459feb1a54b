//! `cache-shm serve`: the region for programs that speak another protocol.
//!
//! Owns: the server's life. It attaches to the region as any program does: what its clients
//! see is what Python, Rust and C programs see, and when it dies nobody else notices.
//!
//! Reading order: [`config`] has the options, `listener` the sockets, `worker` the loop,
//! [`connection`] one client's bytes, [`resp`] and [`memcached`] what they mean. Beside the loop
//! `maintenance` and [`snapshots`] work for the region.
//!
//! ```text
//! listener -> worker -> connection -> resp, memcached -> cache_shm::Cache
//! ```

#[cfg(test)]
mod anything;
mod bell;
pub mod clients;
pub mod config;
pub mod connection;
pub mod counters;
mod databases;
pub mod gate;
pub mod http;
mod listener;
pub mod log;
pub mod loopback;
mod maintenance;
pub mod memcached;
pub mod resp;
pub mod snapshots;
pub mod users;
mod watch;
mod worker;

use std::fs::File;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

use cache_shm::Cache;
use mio::Waker;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sd_notify::NotifyState;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::failure::{Failure, Result};
use bell::Bell;
use clients::Clients;
use config::{Config, Limits};
use counters::Counters;
use databases::Databases;
use gate::Gate;
use http::Http;
use listener::{Listener, Speaks};
use resp::Distance;
use snapshots::Snapshots;
use users::Users;
use worker::{Post, Worker};

/// From then on after the first signal a second one counts: who ends a program may send two at once.
const SECOND_SIGNAL_AFTER: Duration = Duration::from_secs(1);

/// What the threads of a server share.
pub struct Shared {
    /// The region.
    pub cache: Cache,
    /// Its namespaces as databases.
    pub databases: Databases,
    /// What clients may take.
    pub limits: Limits,
    /// Who is connected.
    pub clients: Clients,
    /// What each worker counts.
    pub counters: Vec<Counters>,
    /// How many workers there are.
    pub workers: usize,
    /// Where they go through.
    pub gate: Gate,
    /// The region's clock and the time of day.
    pub distance: Distance,
    /// When the server began.
    pub started: Instant,
    /// A number that no other run has.
    pub run_id: String,
    /// What was done for the region in the background.
    pub maintenance: maintenance::Done,
    /// The page and the metrics, if they are served.
    pub http: Option<Http>,
    /// Its snapshots, if there are any.
    pub snapshots: Option<Snapshots>,
    /// Bytes that are kept for requests and replies under way.
    buffered: AtomicUsize,
    /// It ends.
    pub is_stopping: AtomicBool,
    /// Rung when it ends.
    pub bell: Bell,
    users: RwLock<Arc<Users>>,
    wakers: OnceLock<Vec<Arc<Waker>>>,
}

impl Shared {
    fn new(cache: Cache, config: &Config, users: Users) -> Result<Shared> {
        let first = match &config.namespace {
            Some(name) => cache.namespace(name.as_bytes())?,
            None => cache.clone(),
        };
        let workers = config.threads;
        Ok(Shared {
            databases: Databases::new(first, config.databases),
            limits: config.limits(cache.geometry()?.item_bytes_max(), raise_descriptors()),
            clients: Clients::default(),
            counters: (0..workers).map(|_| Counters::default()).collect(),
            workers,
            gate: Gate::default(),
            distance: Distance::default(),
            started: Instant::now(),
            run_id: format!("{:032x}{:08x}", fastrand::u128(..), fastrand::u32(..)),
            maintenance: maintenance::Done::default(),
            http: Http::new(config)?,
            snapshots: Snapshots::new(config)?,
            buffered: AtomicUsize::new(0),
            is_stopping: AtomicBool::new(false),
            bell: Bell::default(),
            users: RwLock::new(Arc::new(users)),
            wakers: OnceLock::new(),
            cache,
        })
    }

    /// The passwords.
    pub fn users(&self) -> Arc<Users> {
        self.users.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Wakes a worker.
    pub fn wake(&self, worker: usize) {
        if let Some(waker) = self.wakers.get().and_then(|wakers| wakers.get(worker)) {
            // A worker that cannot be woken looks by itself soon.
            let _ = waker.wake();
        }
    }

    /// Notes that what is kept for a connection was `before` bytes and is `after`; returns what
    /// is kept for all.
    fn note_buffered(&self, before: usize, after: usize) -> usize {
        if before == after {
            return self.buffered.load(Ordering::Relaxed);
        }
        // Relaxed, both: a sum that stands for itself. It wraps on the way, never in the end.
        let more = after.wrapping_sub(before);
        self.buffered.fetch_add(more, Ordering::Relaxed).wrapping_add(more)
    }

    fn stop(&self) {
        // Relaxed: the wakers order it.
        self.is_stopping.store(true, Ordering::Relaxed);
        (0..self.workers).for_each(|worker| self.wake(worker));
        self.bell.ring();
    }

    /// Waits for no client and no snapshot any more.
    fn stop_at_once(&self) {
        if let Some(snapshots) = &self.snapshots {
            snapshots.give_up();
        }
        self.clients.all().iter().for_each(|client| client.kill());
        self.stop();
    }
}

/// Looks whether the files that `config` names can be used, before anything is made; `region` is
/// the file of the region that would be served.
///
/// # Errors
/// A secret that cannot be read, or a place where nothing can be.
pub fn check(region: Option<&Path>, config: &Config) -> Result<()> {
    listener::sockets(region, config)?;
    Users::read(config.password_file.as_deref(), config.reader_password_file.as_deref())?;
    Http::new(config)?;
    Snapshots::new(config)?;
    Ok(())
}

/// Serves `cache` until a signal ends it; a second one, a second or more later, ends it at once. `started` is called when clients
/// are served, with what is listened on.
///
/// # Errors
/// An address cannot be listened on, a password cannot be read, or the system refuses threads. The last snapshot
/// could not be written, or was given up.
pub fn serve(cache: Cache, config: &Config, started: &mut dyn FnMut(&[String]) -> Result<()>) -> Result<()> {
    let system = |error: std::io::Error| Failure::file("set up", "the server's threads".as_ref(), &error);
    // Before anything that takes long: a signal that nobody waits for ends the process, or is lost.
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP]).map_err(system)?;
    let _lone = warn_at_start(&cache);
    let users = Users::read(config.password_file.as_deref(), config.reader_password_file.as_deref())?;
    let mut listeners = listen(&cache, config)?;
    let shared = Shared::new(cache, config, users)?;
    if let Some(snapshots) = &shared.snapshots
        && config.restore
        && snapshots.is_wanted(&shared.cache)?
    {
        // That all places can be had is known; nobody is to wait there until there are answers.
        drop(listeners);
        if restore(&shared, snapshots, config, &mut signals).is_break() {
            return Ok(());
        }
        listeners = listen(&shared.cache, config)?;
    }
    let places: Vec<String> = listeners.iter().map(|listener| listener.local().to_owned()).collect();
    let (threads, posts): (Vec<Worker>, Vec<Post>) =
        (0..config.threads).map(Worker::new).collect::<std::io::Result<Vec<_>>>().map_err(system)?.into_iter().unzip();
    let _ = shared.wakers.set(posts.iter().map(Post::waker).collect());
    for place in &places {
        tracing::info!(address = place, "listening");
    }
    let handle = signals.handle();
    std::thread::scope(|scope| {
        let mut listeners = Some(listeners);
        let shared = &shared;
        let _deaf = AtEnd(|| handle.close());
        let running: Vec<_> = threads
            .into_iter()
            .map(|worker| {
                let (listeners, posts) = (listeners.take().unwrap_or_default(), &posts);
                scope.spawn(move || {
                    // One that cannot go on ends all, by a panic too.
                    let _end = AtEnd(|| shared.stop());
                    worker.run(shared, listeners, posts)
                })
            })
            .collect();
        scope.spawn(move || {
            let mut ending: Option<Instant> = None;
            for signal in signals.forever() {
                match signal {
                    SIGHUP => reload(shared, config),
                    _ => match ending {
                        None => {
                            tracing::info!(signal, "ending");
                            tell_manager(NotifyState::Stopping);
                            ending = Some(Instant::now());
                            shared.stop();
                        }
                        Some(began) if began.elapsed() < SECOND_SIGNAL_AFTER => {
                            tracing::info!(signal, "ending already; a second signal counts a second later");
                        }
                        Some(_) => {
                            tracing::warn!(signal, "ending at once");
                            shared.stop_at_once();
                        }
                    },
                }
            }
        });
        scope.spawn(|| maintenance::run(shared, config.maintain_interval));
        if let Some(http) = &shared.http {
            scope.spawn(|| http.watch.run(shared));
        }
        let writing = shared.snapshots.as_ref().map(|snapshots| {
            let thread = scope.spawn(|| snapshots.run(&shared.cache, &shared.bell));
            (snapshots, thread)
        });
        let mut outcome = started(&places);
        let is_served = outcome.is_ok();
        if is_served {
            tell_manager(NotifyState::Ready);
        } else {
            shared.stop();
        }
        for worker in running {
            match worker.join() {
                Ok(done) => outcome = outcome.and(done.map_err(system)),
                Err(_) => outcome = outcome.and(Err(Failure::Cache(cache_shm::Error::Internal))),
            }
        }
        if let Some((snapshots, thread)) = writing {
            // One that is being written ends first.
            let _ = thread.join();
            if is_served {
                let mut patience = Patience::default();
                let finished = snapshots.finish(&shared.cache, &mut |_| {
                    patience.ask();
                    ControlFlow::Continue(())
                });
                outcome = outcome.and(finished);
            }
        }
        tracing::info!("ended");
        outcome
    })
}

/// Restores a snapshot; breaks if a signal ends the server.
fn restore(shared: &Shared, snapshots: &Snapshots, config: &Config, signals: &mut Signals) -> ControlFlow<()> {
    let (mut patience, mut reloads) = (Patience::default(), false);
    let done = snapshots.restore(&shared.cache, &mut |_| {
        patience.ask();
        for signal in signals.pending() {
            match signal {
                SIGHUP => reloads = true,
                _ => {
                    tracing::info!(signal, "ending");
                    tell_manager(NotifyState::Stopping);
                    return ControlFlow::Break(());
                }
            }
        }
        ControlFlow::Continue(())
    });
    if reloads && done.is_continue() {
        reload(shared, config);
    }
    done
}

/// Tells the service manager, if there is one.
fn tell_manager(state: NotifyState<'_>) {
    // Where it does not look there is nothing to tell.
    let _ = sd_notify::notify(&[state]);
}

/// Asks the service manager for more time, each time it has waited for a while.
#[derive(Default)]
struct Patience(Option<Instant>);

impl Patience {
    /// How much is asked for, and how often: the last step, which writes all to the disk, asks no more.
    const MORE: Duration = Duration::from_secs(120);
    const PAUSE: Duration = Duration::from_secs(2);

    fn ask(&mut self) {
        if self.0.is_none_or(|asked| asked.elapsed() >= Patience::PAUSE) {
            self.0 = Some(Instant::now());
            tell_manager(NotifyState::ExtendTimeoutUsec(Patience::MORE.as_micros() as u32));
        }
    }
}

/// Does something when it goes.
struct AtEnd<F: Fn()>(F);

impl<F: Fn()> Drop for AtEnd<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// Reads the passwords anew; connections that are logged in stay so.
fn reload(shared: &Shared, config: &Config) {
    match Users::read(config.password_file.as_deref(), config.reader_password_file.as_deref()) {
        Ok(users) => {
            *shared.users.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(users);
            tracing::info!("passwords read anew");
        }
        Err(error) => tracing::error!(%error, "the passwords stay as they were"),
    }
    match shared.http.as_ref().map(Http::reload) {
        None => {}
        Some(Ok(())) => tracing::info!("token of the page read anew"),
        Some(Err(error)) => tracing::error!(%error, "the token of the page stays as it was"),
    }
}

/// Tells what is not as it was asked for, or as it should be. The result is kept while the
/// server lives: it is by a lock on the region's file that others see it.
fn warn_at_start(cache: &Cache) -> Option<File> {
    if let Some((bytes_asked, bytes)) = cache.opened().size_mismatch {
        tracing::warn!(bytes_asked, bytes, "the region exists with another size, and is served as it is");
    }
    for variable in config::unknown_variables() {
        tracing::warn!(variable, "is set, and is no option");
    }
    // Nobody else locks the whole file: who lives is told by locks of another kind.
    let file = File::open(cache.path()?).ok()?;
    if matches!(flock(&file, FlockOperation::NonBlockingLockExclusive), Err(Errno::WOULDBLOCK)) {
        tracing::warn!("another server serves this region: what is one step for its clients is none for those here");
    }
    Some(file)
}

fn listen(cache: &Cache, config: &Config) -> Result<Vec<Listener>> {
    let mut listeners = Vec::new();
    for (speaks, path) in listener::sockets(cache.path().as_deref(), config)? {
        listeners.push(Listener::unix(speaks, &path, config.socket_mode)?);
    }
    for address in &config.bind {
        listeners.push(Listener::tcp(Speaks::Resp, *address)?);
    }
    for address in &config.memcached_bind {
        listeners.push(Listener::tcp(Speaks::Memcached, *address)?);
    }
    for address in &config.http_bind {
        listeners.push(Listener::tcp(Speaks::Http, *address)?);
    }
    if listeners.is_empty() {
        // A private region has no file beside which a socket could be.
        return Err(Failure::usage("there is nothing to listen on; give --socket"));
    }
    Ok(listeners)
}

/// Lets this process have as many descriptors as it may, and says how many.
fn raise_descriptors() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let wanted = Rlimit { current: limit.maximum, maximum: limit.maximum };
    // What is refused leaves the limit as it is.
    let _ = setrlimit(Resource::Nofile, wanted);
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}
