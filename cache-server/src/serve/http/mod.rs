//! HTTP on the server's loop: the page, its data, the metrics, the state of health.
//!
//! Owns: a connection's session, and the table of what can be asked for. GET and HEAD, and POST
//! where something may be changed; nothing else. Everything is small and answered at once.
//!
//! ```text
//! GET /                page of three files, without anything from elsewhere
//! GET /metrics         numbers for Prometheus
//! GET /healthz         200 or 503; the one answer that needs no token, whatever the server is called
//! GET /api/state       what the page shows
//! GET /api/key         one key
//! POST /api/delete     the end of one key, where `http_writes` allows it
//! ```
//!
//! Reading order: [`request`] takes requests apart, `access` lets them in, [`reply`] writes
//! answers; `metrics`, `lookup` and `page` are what there is to see.

mod access;
mod lookup;
mod metrics;
pub mod reply;
pub mod request;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use cache_shm::{Error, Key, Namespace};
use serde_json::json;

use super::Shared;
use super::clients::Client;
use super::config::Config;
use super::connection::{Step, Turn};
use super::log;
use super::watch::Watch;
use crate::clock::unix_ms;
use crate::failure::Result;
use access::{Access, Entry};
use reply::{Answer, Status};
use request::{Method, Parsed, Request, field, parse};

/// The path that needs no token and no name.
const HEALTH: &str = "/healthz";
/// What a client waits for that asked whether to send the body.
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

const HTML: &str = include_str!("page/index.html");
const CSS: &str = include_str!("page/page.css");
const JS: &str = include_str!("page/page.js");

/// What the sessions share.
#[derive(Debug)]
pub struct Http {
    /// Who may come in.
    access: Access,
    /// Whether keys may be deleted.
    writes: bool,
    /// When the server began, in milliseconds since 1970.
    began_unix_ms: u64,
    /// What the page shows.
    pub watch: Watch,
}

impl Http {
    /// As `config` says; `None` if nobody is served.
    ///
    /// # Errors
    /// The token's file is missing, empty, or somebody else's.
    pub fn new(config: &Config) -> Result<Option<Http>> {
        if config.http_socket.is_none() && config.http_bind.is_empty() {
            return Ok(None);
        }
        let (access, writes) = (Access::new(config)?, config.http_writes);
        Ok(Some(Http { access, writes, began_unix_ms: unix_ms(), watch: Watch::default() }))
    }

    /// Reads the token anew.
    ///
    /// # Errors
    /// As [`Http::new`]; the old one stays.
    pub fn reload(&self) -> Result<()> {
        self.access.reload()
    }
}

/// One connection.
pub struct Session {
    client: Arc<Client>,
    /// No request was answered yet.
    is_new: bool,
    /// The client asked whether to send the body of its request, and was told so.
    is_told_to_go_on: bool,
}

impl Session {
    /// The session of a client that has just come.
    pub fn new(client: Arc<Client>) -> Session {
        Session { client, is_new: true, is_told_to_go_on: false }
    }

    /// No request was answered yet.
    pub fn is_new(&self) -> bool {
        self.is_new
    }

    /// Answers the request at the start of `input`.
    pub fn step(&mut self, input: &[u8], output: &mut Vec<u8>, turn: &Turn<'_>) -> Step {
        match parse(input) {
            Ok(Parsed::Partial { needed, is_expecting }) => {
                if is_expecting && !std::mem::replace(&mut self.is_told_to_go_on, true) {
                    output.extend_from_slice(CONTINUE);
                }
                Step::More(needed)
            }
            Ok(Parsed::Whole(request, bytes)) => {
                turn.counters.http_requests.add(1);
                (self.is_new, self.is_told_to_go_on) = (false, false);
                let (answer, is_let_in) = self.answer(&request, turn);
                // A stranger has one answer: who could go on would keep a place for nothing.
                let is_kept = request.is_kept && is_let_in;
                answer.write(output, request.method == Method::Head, is_kept);
                if is_kept { Step::Done(bytes) } else { Step::Close }
            }
            Err(refused) => {
                turn.counters.protocol_errors.add(1);
                Answer::from(refused).write(output, input.starts_with(b"HEAD "), false);
                Step::Close
            }
        }
    }

    /// The answer, and whether who asked is no stranger.
    fn answer(&self, request: &Request<'_>, turn: &Turn<'_>) -> (Answer, bool) {
        let is_guarded = self.client.port.is_none();
        let Some(http) = &turn.shared.http else {
            return (Answer::text(Status::NotFound, "nothing is served here"), is_guarded);
        };
        // Probes ask by whatever name, and say no token; they are told no more than whether all is well.
        if request.path == HEALTH {
            return (self.show(request, false, turn, http), is_guarded);
        }
        if !http.access.is_host_allowed(request, self.client.port) {
            let words = "this server is not asked for by that name; http_hosts has those that are answered";
            return (Answer::text(Status::Forbidden, words), is_guarded);
        }
        let is_read = matches!(request.method, Method::Get | Method::Head);
        match self.client.port.map_or(Entry::Allowed(false), |port| http.access.enter(request, port)) {
            Entry::Allowed(is_token_said) => (self.show(request, is_token_said, turn, http), true),
            Entry::Welcome(cookie) if is_read => {
                let there = Answer::text(Status::SeeOther, "go on without the token");
                // The path is one that we know: nothing of the request goes into a header.
                let path = ROUTES.iter().map(|route| route.path).find(|path| *path == request.path);
                (there.with("Location", path.unwrap_or("/")).with("Set-Cookie", &cookie), true)
            }
            _ => (self.refuse(turn), false),
        }
    }

    /// What is asked for, of who may see it.
    fn show(&self, request: &Request<'_>, is_token_said: bool, turn: &Turn<'_>, http: &Http) -> Answer {
        let Some(route) = ROUTES.iter().find(|route| route.path == request.path) else {
            return Answer::text(Status::NotFound, "there is no such page");
        };
        let is_read = matches!(request.method, Method::Get | Method::Head);
        if route.is_change && request.method != Method::Post || !route.is_change && !is_read {
            let allowed = if route.is_change { "POST" } else { "GET, HEAD" };
            return Answer::text(Status::MethodNotAllowed, &format!("only {allowed}")).with("Allow", allowed);
        }
        if route.is_change {
            if !http.writes {
                return Answer::text(Status::Forbidden, "nothing can be changed here unless http_writes is true");
            }
            if !is_token_said && !http.access.is_ours(request) {
                let words = "a change is asked for from the page, or with X-CSRF-Token: server.csrf of /api/state";
                return Answer::text(Status::Forbidden, words);
            }
        }
        (route.run)(request, turn.shared, http)
    }

    fn refuse(&self, turn: &Turn<'_>) -> Answer {
        turn.counters.denied.add(1);
        log::no_token(&self.client, turn.now);
        let words = "say the token: Authorization: Bearer TOKEN, or once /?token=TOKEN in a browser";
        Answer::text(Status::Unauthorized, words).with("WWW-Authenticate", "Bearer")
    }
}

/// Something that can be asked for.
struct Route {
    path: &'static str,
    is_change: bool,
    run: fn(&Request<'_>, &Shared, &Http) -> Answer,
}

const fn seen(path: &'static str, run: fn(&Request<'_>, &Shared, &Http) -> Answer) -> Route {
    Route { path, is_change: false, run }
}

const ROUTES: [Route; 8] = [
    seen("/", |_, _, _| Answer::new("text/html; charset=utf-8", HTML)),
    seen("/page.css", |_, _, _| Answer::new("text/css; charset=utf-8", CSS)),
    seen("/page.js", |_, _, _| Answer::new("text/javascript; charset=utf-8", JS)),
    seen("/metrics", |_, shared, http| Answer::new(metrics::KIND, metrics::page(shared, http.began_unix_ms))),
    seen(HEALTH, |_, shared, _| match health(shared) {
        Ok(()) => Answer::text(Status::Ok, "ok"),
        Err(reason) => Answer::text(Status::Unavailable, reason),
    }),
    seen("/api/state", state),
    seen("/api/key", |request, shared, _| lookup::show(&shared.cache, request.query)),
    Route {
        path: "/api/delete",
        is_change: true,
        run: |request, shared, _| lookup::delete(&shared.cache, request.body),
    },
];

fn state(request: &Request<'_>, shared: &Shared, http: &Http) -> Answer {
    let since_ms = match field(request.query.as_bytes(), "since") {
        Ok(Some(text)) => std::str::from_utf8(&text).ok().and_then(|text| text.parse().ok()),
        Ok(None) => Some(0),
        Err(refused) => return refused.into(),
    };
    let Some(since_ms) = since_ms else {
        return Answer::text(Status::BadRequest, "since is a moment in milliseconds since 1970");
    };
    let more = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "uptime_seconds": shared.started.elapsed().as_secs(),
        "writes": http.writes,
        "csrf": http.writes.then(|| http.access.csrf()),
        "snapshots": shared.snapshots.as_ref().map(|snapshots| {
            let told = snapshots.told();
            json!({"written": told.written, "failed": told.failed, "unix_ms": told.unix_ms, "items": told.items})
        }),
    });
    Answer::json(http.watch.json(&shared.cache, since_ms, &more))
}

/// Whether the server serves and its region is whole and can be attached to for writing; if not, why, in words
/// that tell strangers nothing of this host.
fn health(shared: &Shared) -> std::result::Result<(), &'static str> {
    // Relaxed: whoever looks a moment later sees it.
    if shared.is_stopping.load(Ordering::Relaxed) {
        return Err("the server ends");
    }
    let look = || {
        // Attaches anew, takes part as a writer, and reads: without leaving anything.
        let map = shared.cache.writer()?;
        map.maintain(0)?;
        map.carry(Key::new(Namespace::DEFAULT, b"healthz"), &mut Vec::new()).map(drop)
    };
    let outcome = match look() {
        // Told once after the region was made anew.
        Err(Error::Gone { .. }) => look(),
        other => other,
    };
    outcome.map_err(|error| {
        log::unhealthy(&error, Instant::now());
        "the region cannot be used; the log says why"
    })
}
