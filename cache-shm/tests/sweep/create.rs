//! A maker that is killed: whatever it left, the next one makes or opens a sound region.

use std::path::Path;
use std::time::{Duration, Instant};

use cache_shm::{Cache, Mode};

use crate::Swept;
use crate::image::{Dir, REGION_BYTES, TIMEOUT, TIMEOUT_STEPPED};
use crate::trace::{self, Stop, Tracee};

/// What the traced process is told to do instead of a scenario.
pub const MAKER: &str = "@create";
/// Longest time for another process to have a region of the name.
const OPEN_MAX: Duration = Duration::from_secs(5);
/// Kills without and with `--all`.
const KILLS: (usize, usize) = (8, 100);

fn builder(dir: &Path, name: &str) -> cache_shm::Builder {
    Cache::builder(Some(name)).dir(dir).size(REGION_BYTES).mode(Mode::NoEvict).timeout(TIMEOUT_STEPPED)
}

/// As the traced process: makes a region between two marks.
pub fn serve(dir: &Path, name: &str) {
    trace::stop();
    let cache = builder(dir, name).create();
    trace::stop();
    drop(cache.expect("a new region"));
}

fn maker(dir: &Dir) -> Result<Tracee, String> {
    for name in dir.names() {
        std::fs::remove_file(dir.path().join(name)).map_err(|error| error.to_string())?;
    }
    Tracee::start(&[trace::TRACEE, MAKER, "0", dir.path().to_str().expect("a path of ours"), "made"])
}

/// The instructions before and after each system call, and how many there are in all.
fn system_calls(dir: &Dir) -> Result<(Vec<u64>, u64), String> {
    let tracee = maker(dir)?;
    let mut points = Vec::new();
    for step in 1.. {
        let is_call = tracee.is_at_system_call()?;
        match tracee.step()? {
            Stop::Stepped if is_call => points.extend([step - 1, step]),
            Stop::Stepped => {}
            Stop::Marked => return Ok((points, step)),
            Stop::Ended => return Err("the maker ended".into()),
        }
    }
    unreachable!("a number without end")
}

/// What dead makers left is swept by a maker that comes when it has a certain age.
fn is_swept(dir: &Dir) -> Result<(), String> {
    let started = Instant::now();
    loop {
        drop(builder(dir.path(), "other").create().map_err(|error| error.to_string())?);
        let names = dir.names();
        if names == ["made", "other"] {
            return Ok(());
        }
        if started.elapsed() > OPEN_MAX {
            return Err(format!("left behind: {names:?}"));
        }
        std::fs::remove_file(dir.path().join("other")).map_err(|error| error.to_string())?;
        std::thread::yield_now();
    }
}

fn kill_after(dir: &Dir, steps: u64) -> Result<Duration, String> {
    let tracee = maker(dir)?;
    tracee.step_many(steps)?;
    tracee.kill();
    let started = Instant::now();
    let error = |error: cache_shm::Error| error.to_string();
    let cache = builder(dir.path(), "made").timeout(TIMEOUT).open_or_create().map_err(error)?;
    cache.set(b"key", b"value").map_err(error)?;
    if cache.get(b"key").map_err(error)?.as_deref() != Some(b"value") {
        return Err("the region does not keep what is set".into());
    }
    let report = cache.validate().map_err(error)?;
    if !report.is_clean() {
        return Err(format!("{:?}", report.problems));
    }
    let took = started.elapsed();
    if took > OPEN_MAX { Err(format!("it took {took:?}")) } else { Ok(took) }
}

pub fn sweep(all: bool) -> Result<Swept, String> {
    let dir = Dir::new();
    let (mut points, instructions) = system_calls(&dir)?;
    if points.is_empty() {
        points = (0..instructions).step_by(1 + instructions as usize / KILLS.1).collect();
    }
    let mut swept = Swept { instructions, images: points.len(), ..Swept::default() };
    let kills = if all { KILLS.1 } else { KILLS.0 }.min(points.len());
    for number in 0..kills {
        let steps = points[number * points.len() / kills];
        let took = kill_after(&dir, steps)
            .and_then(|took| is_swept(&dir).map(|()| took))
            .map_err(|problem| format!("killed after {steps} instructions: {problem}"))?;
        swept.kills += 1;
        swept.checked += 1;
        swept.slowest_ms = swept.slowest_ms.max(took.as_millis());
    }
    Ok(swept)
}
