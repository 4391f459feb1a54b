//! What the server tells while it runs: records on standard error.

use tracing_appender::non_blocking::WorkerGuard;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};

use super::config::{Config, LogFormat};

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
