//! The bell that ends the pauses of threads which mostly sleep.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Rung once, when the server ends.
#[derive(Debug, Default)]
pub struct Bell {
    is_rung: Mutex<bool>,
    rung: Condvar,
}

impl Bell {
    /// Wakes everybody who waits, now and later.
    pub fn ring(&self) {
        *self.is_rung.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.rung.notify_all();
    }

    /// Sleeps for `time`; true, at once, if the bell was rung.
    pub fn wait(&self, time: Duration) -> bool {
        let is_rung = self.is_rung.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.rung.wait_timeout_while(is_rung, time, |is_rung| !*is_rung);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn a_bell_ends_the_pauses_of_all_and_stays_rung() {
        let bell = Bell::default();
        assert!(!bell.wait(Duration::ZERO));
        let began = Instant::now();
        std::thread::scope(|scope| {
            let sleepers: Vec<_> = (0..2).map(|_| scope.spawn(|| bell.wait(Duration::from_secs(60)))).collect();
            bell.ring();
            assert!(sleepers.into_iter().all(|sleeper| sleeper.join().unwrap()));
        });
        assert!(bell.wait(Duration::from_secs(60)) && began.elapsed() < Duration::from_secs(30));
    }
}
