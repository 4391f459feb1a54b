//! A writer that is stopped, not dead, at each instruction of a set: nobody may take what it
//! holds, and nobody but the writers of its stripe may wait for it.

use cache_shm::{Cache, Error, Mode};

use crate::Swept;
use crate::image::{Dir, REGION_BYTES};
use crate::scenario::{Scenario, key, value};
use crate::trace::{self, Stop, Tracee};

/// Bytes that are written past the stopped writer, in regions.
const TIMES: u64 = 10;
const VALUE_BYTES: usize = 200;
/// Places to stop at without `--all`.
const STOPS_PART: usize = 5;

/// Writes ten times the region's size. Returns how many sets the stopped writer held up.
fn write_past(cache: &Cache) -> Result<(u64, u64), String> {
    let (mut stored, mut busy) = (0, 0);
    for number in 0..TIMES * REGION_BYTES / VALUE_BYTES as u64 {
        match cache.set(&key(number % 20_000), &value(number, VALUE_BYTES)) {
            Ok(_) => stored += 1,
            Err(Error::Busy { .. }) => busy += 1,
            Err(error) => return Err(format!("set: {error}")),
        }
    }
    Ok((stored, busy))
}

fn stop_after(dir: &Dir, scenario: &Scenario, prepared: &crate::scenario::Prepared, steps: u64) -> Result<(), String> {
    let tracee = Tracee::of(dir, scenario, prepared)?;
    tracee.step_many(steps)?;
    let error = |error: Error| error.to_string();
    let open = Cache::builder(Some("live")).dir(dir.path()).timeout(std::time::Duration::ZERO);
    let cache = open.open().map_err(error)?;
    let (stored, busy) = write_past(&cache)?;
    // One stripe of sixteen can be held.
    if busy * 8 > stored {
        return Err(format!("{busy} sets were held up, {stored} were not"));
    }
    for number in 0..1_000 {
        if let Some(found) = cache.get(&key(number)).map_err(error)?
            && found.len() != VALUE_BYTES
        {
            return Err(format!("key {number} has {} bytes", found.len()));
        }
    }
    match tracee.go_on()? {
        Stop::Marked => {}
        stop => return Err(format!("the writer went on and {stop:?}")),
    }
    let (_, busy) = write_past(&cache)?;
    if busy > 0 {
        return Err(format!("{busy} sets are held up by a writer that is done"));
    }
    let report = cache.validate().map_err(error)?;
    if report.is_clean() { Ok(()) } else { Err(format!("{:?}", report.problems)) }
}

pub fn sweep(all: bool) -> Result<Swept, String> {
    let dir = Dir::new();
    let mut swept = Swept::default();
    for name in ["set_evicting", "set_full_overwrite"] {
        let scenario = Scenario::named(name);
        assert_eq!(scenario.mode, Mode::Evict);
        let prepared = scenario.prepare(&dir)?;
        let points = trace::change_points(&dir, &scenario, &prepared)?;
        swept.instructions += points.instructions;
        swept.images += points.at.len();
        let stride = if all { 1 } else { points.at.len().div_ceil(STOPS_PART) };
        for steps in points.at.iter().step_by(stride) {
            stop_after(&dir, &scenario, &prepared, *steps)
                .map_err(|problem| format!("{name} stopped after {steps} instructions: {problem}"))?;
            swept.checked += 1;
        }
    }
    Ok(swept)
}
