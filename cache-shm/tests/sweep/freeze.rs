//! A writer that is stopped, not dead, at each instruction of a set: nobody may take what it
//! holds, and nobody but the writers of its stripe may wait for it.

use std::time::Duration;

use cache_shm::{Cache, Error, Mode};

use crate::Swept;
use crate::fill::{key, value};
use crate::image::{Dir, REGION_BYTES};
use crate::scenario::{Prepared, Scenario};
use crate::trace::{self, Stop, Tracee};

/// Bytes that are written past the stopped writer, in regions.
const TIMES: u64 = 10;
const VALUE_BYTES: usize = 200;
/// Words of one value after each of which the writer is stopped.
const WORDS_MAX: usize = 64;
/// Places to stop at without `--all`.
const STOPS_PART: usize = 5;

/// Writes ten times the region's size; where nothing may be dropped, clears and writes half of it.
/// Returns how many sets were done, and how many the stopped writer held up.
fn write_past(cache: &Cache, mode: Mode) -> Result<(u64, u64), String> {
    let (mut stored, mut busy) = (0, 0);
    let mut bytes = TIMES * REGION_BYTES;
    if mode == Mode::NoEvict {
        cache.clear().map_err(|error| error.to_string())?;
        bytes = REGION_BYTES / 2;
    }
    for number in 0..bytes / VALUE_BYTES as u64 {
        match cache.set(&key(number % 20_000), &value(number, VALUE_BYTES)) {
            Ok(_) => stored += 1,
            Err(Error::Busy { .. }) => busy += 1,
            Err(error) => return Err(format!("set: {error}")),
        }
    }
    Ok((stored, busy))
}

/// Stops a writer after `steps` instructions; false if it was done by then.
fn stop_after(dir: &Dir, scenario: &Scenario, prepared: &Prepared, steps: u64) -> Result<bool, String> {
    let tracee = Tracee::of(dir, scenario, prepared)?;
    if !tracee.step_many(steps)? {
        return Ok(false);
    }
    let error = |error: Error| error.to_string();
    let open = || Cache::builder(Some("live")).dir(dir.path()).timeout(Duration::ZERO).open().map_err(error);
    // Another comes and goes before: what it leaves behind is cleaned up, and no more.
    drop(open()?);
    let cache = open()?;
    let (stored, busy) = write_past(&cache, scenario.mode)?;
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
    drop(cache);
    match tracee.go_on()? {
        Stop::Marked => {}
        stop => return Err(format!("the writer went on and {stop:?}")),
    }
    let cache = open()?;
    let (_, busy) = write_past(&cache, scenario.mode)?;
    if busy > 0 {
        return Err(format!("{busy} sets are held up by a writer that is done"));
    }
    let report = cache.validate().map_err(error)?;
    if report.is_clean() { Ok(true) } else { Err(format!("{:?}", report.problems)) }
}

/// The instructions after which the region was another; but for the words of a long value,
/// which are one like the other.
fn points(dir: &Dir, scenario: &Scenario, prepared: &Prepared, swept: &mut Swept) -> Result<Vec<u64>, String> {
    let (geometry, _) = cache_core::header::parse(&prepared.image[..4096]).expect("a region");
    let fixed = geometry.segments_offset as usize;
    let mut last = prepared.image[..fixed].to_vec();
    let (mut points, mut words) = (Vec::new(), 0);
    swept.instructions += trace::images(dir, scenario, prepared, |step, _, image| {
        words = if last == image[..fixed] { words + 1 } else { 0 };
        last.copy_from_slice(&image[..fixed]);
        if words < WORDS_MAX {
            points.push(step);
        }
        Ok(())
    })?;
    swept.images += points.len();
    Ok(points)
}

pub fn sweep(all: bool) -> Result<Swept, String> {
    let dir = Dir::new();
    let mut swept = Swept::default();
    for name in ["set_evicting", "set_full_overwrite", "set_run_where_free", "set_run_compacting"] {
        let scenario = Scenario::named(name);
        let prepared = scenario.prepare(&dir)?;
        let points = points(&dir, &scenario, &prepared, &mut swept)?;
        let mut missed = 0;
        let stride = if all { 1 } else { points.len().div_ceil(STOPS_PART) };
        for steps in points.iter().step_by(stride) {
            let stopped = stop_after(&dir, &scenario, &prepared, *steps)
                .map_err(|problem| format!("{name} stopped after {steps} instructions: {problem}"))?;
            swept.checked += usize::from(stopped);
            missed += usize::from(!stopped);
        }
        // The clock decides over some steps: the last points may lie behind the end of another run.
        if missed * 20 > swept.checked {
            return Err(format!("{name} was done before {missed} of the points"));
        }
    }
    Ok(swept)
}
