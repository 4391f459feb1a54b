//! What must hold of a region whose owner died at some instruction.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use cache_shm::Mode;

use crate::image::{Dir, contents};
use crate::scenario::{Prepared, Scenario};
use crate::trace;

/// Longest time that recovery and all checks of one image may take.
const CHECK_MAX: Duration = Duration::from_secs(5);
/// A check that takes this long has hung, and ends the run.
const HANG: Duration = Duration::from_secs(60);

type Contents = BTreeMap<Vec<u8>, Vec<u8>>;

/// The contents before the operation and after it.
pub struct Expected {
    before: Contents,
    after: Contents,
    mode: Mode,
}

impl Expected {
    /// What the operation does when nobody kills it.
    pub fn of(dir: &Dir, scenario: &Scenario, prepared: &Prepared) -> Result<Expected, String> {
        let read = |image: &[u8]| {
            dir.put("read", image);
            contents(&dir.open("read")?)
        };
        let before = read(&prepared.image)?;
        let after = read(&trace::undisturbed(dir, scenario, prepared)?)?;
        Ok(Expected { before, after, mode: scenario.mode })
    }

    /// Attaches to a region of these bytes, as another process would after the death of its
    /// owner, and checks what is promised. Returns how long that took.
    pub fn check(&self, dir: &Dir, image: &[u8]) -> Result<Duration, String> {
        let watch = Watch::start();
        let started = Instant::now();
        dir.put("image", image);
        let cache = dir.open("image")?;
        let error = |error: cache_shm::Error| error.to_string();
        let report = cache.validate().map_err(error)?;
        if !report.is_clean() {
            return Err(format!("before any write: {:?}", report.problems));
        }
        // Every key is as it was, or as the operation leaves it.
        let now = contents(&cache)?;
        for key in self.before.keys().chain(self.after.keys()).chain(now.keys()) {
            let (was, becomes, is) = (self.before.get(key), self.after.get(key), now.get(key));
            if is != was && is != becomes {
                let length = |value: Option<&Vec<u8>>| value.map(Vec::len);
                return Err(format!(
                    "{} has {:?} bytes, neither the {:?} before nor the {:?} after",
                    String::from_utf8_lossy(key),
                    length(is),
                    length(was),
                    length(becomes)
                ));
            }
        }
        // Every key can be written, the operation's among them, whatever lock was held.
        let mut missing = 0;
        for key in self.before.keys().chain(self.after.keys()) {
            let value = [key.as_slice(), b" written after the death"].concat();
            cache.set(key, &value).map_err(|error| format!("set of {}: {error}", String::from_utf8_lossy(key)))?;
            if cache.get(key).map_err(error)?.as_ref() != Some(&value) {
                return Err(format!("{} is not what was just set", String::from_utf8_lossy(key)));
            }
        }
        for key in self.before.keys().chain(self.after.keys()) {
            missing += u64::from(!cache.contains(key).map_err(error)?);
        }
        if missing > 0 && self.mode == Mode::NoEvict {
            return Err(format!("{missing} keys are missing in a region that drops nothing"));
        }
        let report = cache.validate().map_err(error)?;
        if !report.is_clean() {
            return Err(format!("after writing: {:?}", report.problems));
        }
        let took = started.elapsed();
        drop(watch);
        if took > CHECK_MAX { Err(format!("it took {took:?}")) } else { Ok(took) }
    }
}

/// Ends the process if it is not dropped in time.
struct Watch(Option<std::sync::mpsc::Sender<()>>, Option<std::thread::JoinHandle<()>>);

impl Watch {
    fn start() -> Watch {
        let (sender, receiver) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            if receiver.recv_timeout(HANG) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                println!("a check hangs");
                std::process::abort();
            }
        });
        Watch(Some(sender), Some(thread))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        drop(self.0.take());
        if let Some(thread) = self.1.take() {
            let _ = thread.join();
        }
    }
}
