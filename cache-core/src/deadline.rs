//! How long one operation may wait, whatever it waits for.
//!
//! Owns: the one clock of an operation. It starts with the first wait, so that an operation
//! that waits for nobody never asks for the time.

use std::cell::Cell;

use crate::error::Error;
use crate::host::Host;

/// The deadline of one operation.
pub(crate) struct Deadline {
    timeout_ns: u64,
    /// When the first wait began; 0 = there was none.
    started_ns: Cell<u64>,
}

impl Deadline {
    /// `timeout_ns` nanoseconds after the first wait begins; 0 = one try.
    pub fn new(timeout_ns: u64) -> Deadline {
        Deadline { timeout_ns, started_ns: Cell::new(0) }
    }

    /// True if the operation does not wait at all.
    pub fn is_one_try(&self) -> bool {
        self.timeout_ns == 0
    }

    /// Nanoseconds since the first wait began, which is now if there was none.
    pub fn waited_ns<H: Host>(&self, host: &H) -> u64 {
        let now_ns = host.monotonic_ns().max(1);
        if self.started_ns.get() == 0 {
            self.started_ns.set(now_ns);
        }
        now_ns.saturating_sub(self.started_ns.get())
    }

    /// Nanoseconds that are left.
    pub fn left_ns<H: Host>(&self, host: &H) -> u64 {
        self.timeout_ns.saturating_sub(self.waited_ns(host))
    }

    /// The error once nothing is left.
    pub fn busy<H: Host>(&self, host: &H) -> Error {
        Error::Busy { waited_ms: self.waited_ns(host) / 1_000_000 }
    }
}
