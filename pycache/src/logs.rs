//! From the records of the Rust side to Python's `logging`, logger `pycache.region`.
//!
//! A record is made where the interpreter may not be attached, and where another thread may
//! hold what a handler of `logging` wants. So it is only put aside here, and handed on at
//! the end of a call by the thread that is attached then, with nothing locked.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use log::{Level, LevelFilter, Log, Metadata, Record};
use pyo3::exceptions::PyKeyboardInterrupt;
use pyo3::ffi;
use pyo3::prelude::*;

use crate::kept::load;

const LOGGER: &str = "pycache.region";
/// More than this are not kept: the oldest go.
const RECORDS_MAX: usize = 64;

struct Aside {
    /// The process that made the record: a forked child does not repeat its parent's.
    pid: u32,
    level: Level,
    text: String,
}

struct Queue {
    records: Mutex<VecDeque<Aside>>,
    waiting: AtomicBool,
}

static QUEUE: Queue = Queue { records: Mutex::new(VecDeque::new()), waiting: AtomicBool::new(false) };

impl Log for Queue {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == cache_shm::LOG_TARGET
    }

    fn log(&self, record: &Record<'_>) {
        // Never waited for: in a child that was forked while another thread had it, nobody
        // gives it back. Then records are lost, and nothing else.
        let Ok(mut records) = self.records.try_lock() else { return };
        if records.len() == RECORDS_MAX {
            records.pop_front();
        }
        records.push_back(Aside { pid: std::process::id(), level: record.level(), text: record.args().to_string() });
        // Relaxed: a hint; the lock publishes the record.
        self.waiting.store(true, Ordering::Relaxed);
    }

    fn flush(&self) {}
}

/// Lets records come here.
pub(crate) fn register() {
    // Fails if it was done before: then that still holds.
    if log::set_logger(&QUEUE).is_ok() {
        log::set_max_level(LevelFilter::Info);
    }
}

/// Hands on what waits. For the end of a call, where nothing is held.
#[inline(always)]
pub(crate) fn deliver(py: Python<'_>, cache: &cache_shm::Cache) {
    if cache_shm::untold() || QUEUE.waiting.load(Ordering::Relaxed) {
        deliver_all(py, cache);
    }
}

#[cold]
fn deliver_all(py: Python<'_>, cache: &cache_shm::Cache) {
    cache.tell();
    QUEUE.waiting.store(false, Ordering::Relaxed);
    let Ok(records) = QUEUE.records.try_lock().map(|mut records| std::mem::take(&mut *records)) else { return };
    for record in records.into_iter().filter(|record| record.pid == std::process::id()) {
        match hand_on(py, &record) {
            Ok(()) => {}
            Err(error) if error.is_instance_of::<PyKeyboardInterrupt>(py) => {
                // SAFETY: Y1. The interrupt comes once more, to the caller's own code.
                unsafe { ffi::PyErr_SetInterrupt() };
            }
            // A handler that fails must not fail the call that it is told at.
            Err(error) => error.write_unraisable(py, None),
        }
    }
}

fn hand_on(py: Python<'_>, record: &Aside) -> PyResult<()> {
    let logger = load(py, "logging")?.call_method1("getLogger", (LOGGER,))?;
    let level = match record.level {
        Level::Error => "error",
        Level::Warn => "warning",
        Level::Info => "info",
        Level::Debug | Level::Trace => "debug",
    };
    logger.call_method1(level, ("%s", &record.text))?;
    Ok(())
}
