//! What the server tells while it runs: records on standard error.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing_appender::non_blocking::WorkerGuard;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};

use super::clients::Client;
use super::config::{Config, LogFormat};

/// Between two records of a kind that anybody can cause.
const SELDOM: Duration = Duration::from_secs(1);

/// Has records written while the result is kept. Those of the region's own code are among them.
///
/// A thread of its own writes them: who reads standard error slowly, or not at all, loses
/// records and holds up no client.
pub fn begin(config: &Config) -> WorkerGuard {
    let levels: Targets = config.log_level.parse().unwrap_or_default();
    let (writer, kept) = tracing_appender::non_blocking(std::io::stderr());
    let layer = fmt::layer().with_writer(writer).with_ansi(false).with_target(false);
    let layer = match config.log_format {
        LogFormat::Text => layer.boxed(),
        LogFormat::Json => layer.json().boxed(),
    };
    // Somebody may have set a collector before: then it stays.
    let _ = tracing_subscriber::registry().with(layer.with_filter(levels)).try_init();
    kept
}

/// Records of a kind that anybody can cause as often as they like: at most one a second is
/// written, which says how many it stands for. Those behind the last one are in no record; the
/// counters have them all.
#[derive(Debug, Default)]
pub struct Seldom(Mutex<Held>);

#[derive(Debug, Default)]
struct Held {
    /// When one was written.
    written: Option<Instant>,
    /// How many came since.
    count: u64,
}

impl Seldom {
    /// A kind of which none came yet.
    pub(crate) const fn new() -> Seldom {
        Seldom(Mutex::new(Held { written: None, count: 0 }))
    }

    /// One more came. If it is time for a record, the number that it stands for, this one counted.
    pub fn count(&self, now: Instant) -> Option<u64> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.count += 1;
        if held.written.is_some_and(|written| now.saturating_duration_since(written) < SELDOM) {
            return None;
        }
        held.written = Some(now);
        Some(std::mem::take(&mut held.count))
    }
}

/// A client said a wrong password.
pub fn wrong_password(client: &Client, now: Instant) {
    static KIND: Seldom = Seldom::new();
    if let Some(count) = KIND.count(now) {
        tracing::warn!(client = client.id, address = client.address, count, "a wrong password");
    }
}

/// A client of another protocol sent a request of HTTP.
pub fn http_request(client: &Client, now: Instant) {
    static KIND: Seldom = Seldom::new();
    if let Some(count) = KIND.count(now) {
        tracing::warn!(client = client.id, address = client.address, count, "an HTTP request; closed");
    }
}

/// A client of the page's address said no token, or a wrong one.
pub fn no_token(client: &Client, now: Instant) {
    static KIND: Seldom = Seldom::new();
    if let Some(count) = KIND.count(now) {
        tracing::info!(client = client.id, address = client.address, count, "a request without the token");
    }
}

/// Somebody asked whether all is well, and it is not.
pub fn unhealthy(error: &cache_shm::Error, now: Instant) {
    static KIND: Seldom = Seldom::new();
    if let Some(count) = KIND.count(now) {
        tracing::warn!(%error, count, "the region cannot be used");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_record_a_second_says_how_many_it_stands_for() {
        let (kind, start) = (Seldom::new(), Instant::now());
        let at = |ms| kind.count(start + Duration::from_millis(ms));
        assert_eq!([at(0), at(0), at(500), at(999)], [Some(1), None, None, None]);
        assert_eq!([at(1000), at(1999), at(60_000)], [Some(4), None, Some(2)]);
    }
}
