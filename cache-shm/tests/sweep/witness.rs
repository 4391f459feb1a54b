//! A writer that is stopped after each instruction of a change, while another process asks
//! whether what it has read still holds: once anybody can read the new state, it does not.

use cache_shm::{Cache, Error};

use crate::Swept;
use crate::image::{Dir, attach};
use crate::scenario::Scenario;
use crate::trace::{Stop, Tracee};
use std::time::Duration;

/// Changes, and the key that each of them changes; `clear` changes them all.
const CHANGES: [(&str, fn() -> Vec<u8>); 9] = [
    ("set_overwrite", seventh),
    ("set_run_overwrite", large),
    ("cas", seventh),
    ("append", seventh),
    ("delete", seventh),
    ("take", seventh),
    ("touch", seventh),
    ("clear", large),
    ("incr", || b"integer".to_vec()),
];

fn seventh() -> Vec<u8> {
    crate::fill::key(7)
}

fn large() -> Vec<u8> {
    b"large".to_vec()
}

/// What can be read of a key: its value, expiry and version.
type State = Option<(Vec<u8>, u64, u64)>;

fn state(cache: &Cache, key: &[u8]) -> Result<State, Error> {
    let mut value = Vec::new();
    let meta = cache.map()?.peek(key, &mut value)?;
    Ok(meta.map(|meta| (value, meta.expires_at_ms, meta.version)))
}

fn stop_at_each(dir: &Dir, name: &str, key: &[u8], swept: &mut Swept) -> Result<(), String> {
    let scenario = Scenario::named(name);
    let prepared = scenario.prepare(dir)?;
    let tracee = Tracee::of(dir, &scenario, &prepared)?;
    let error = |error: Error| error.to_string();
    let cache = attach(dir.path(), "live", Duration::ZERO)?;
    let map = cache.map().map_err(error)?;
    let (_, witness) = map.get_witnessed(key, &mut Vec::new()).map_err(error)?.ok_or("the key is not there")?;
    let before = state(&cache, key).map_err(error)?;
    if !map.still_holds(&witness) {
        return Err("what was just read does not hold".into());
    }
    let (mut held, mut is_changed) = (0u64, false);
    loop {
        let stop = tracee.step()?;
        swept.instructions += 1;
        // In this order: what was seen to have changed may not be vouched for afterwards.
        is_changed |= state(&cache, key).map_err(error)? != before;
        let holds = map.still_holds(&witness);
        if is_changed && holds {
            return Err(format!(
                "after {} instructions the old value is vouched for beside the new",
                swept.instructions
            ));
        }
        held += u64::from(holds);
        match stop {
            Stop::Stepped => {}
            Stop::Marked => break,
            Stop::Ended => return Err("the traced process ended".into()),
        }
    }
    if !is_changed || held == 0 {
        return Err(format!("nothing was seen to change: {is_changed}, {held} instructions in which it held"));
    }
    swept.checked += 1;
    Ok(())
}

pub fn sweep(_all: bool) -> Result<Swept, String> {
    let dir = Dir::new();
    let mut swept = Swept::default();
    for (name, key) in CHANGES {
        stop_at_each(&dir, name, &key(), &mut swept).map_err(|problem| format!("{name}: {problem}"))?;
    }
    Ok(swept)
}
