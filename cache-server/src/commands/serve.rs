//! `cache-shm serve`: the options, and what is said when clients can connect.

use cache_shm::{Effective, Settings};
use serde_json::{Map, json};

use super::{Place, unmake};
use crate::cli::Serve;
use crate::failure::Result;
use crate::output::{Output, remark};
use crate::serve::config::{Config, unknown_variables};

pub(super) fn serve(place: Place, arguments: &Serve, output: &mut Output) -> Result<bool> {
    let config = Config::read(&arguments.name, &arguments.given())?;
    let mut builder = place.builder(&arguments.name);
    if let Some(size) = &arguments.size {
        builder = builder.size(cache_shm::parse_size(size)?);
    }
    let path = builder.clone().check()?;
    crate::serve::check(path.as_deref(), &config)?;
    if arguments.check {
        return check(place, arguments, &config, output);
    }
    // From here on: how the region was opened is told too.
    let _log = crate::serve::log::begin(&config);
    let cache = builder.open_or_create()?;
    let mut is_served = false;
    let done = crate::serve::serve(cache.clone(), &config, &mut |places| {
        if output.is_json() {
            output.json(&json!({"listening": places, "process_id": std::process::id()}))?;
        } else {
            output.line(&format!("{} is served at {}", arguments.name, places.join(", ")))?;
        }
        output.flush()?;
        is_served = true;
        Ok(())
    });
    if done.is_err() && !is_served {
        unmake(&cache);
    }
    done.map(|()| true)
}

/// Says which options hold.
fn check(place: Place, arguments: &Serve, config: &Config, output: &mut Output) -> Result<bool> {
    for name in unknown_variables() {
        remark(&format!("{name} is set, and is no option"));
    }
    let mut rows = Settings::read(Some(&arguments.name))?.effective();
    rows.retain(|row| ["dir", "size"].contains(&row.key));
    let dir = place.dir.map(|dir| ("dir", dir.display().to_string()));
    for (key, value) in dir.into_iter().chain(arguments.size.clone().map(|size| ("size", size))) {
        let given = Effective { key, value, origin: format!("flag --{key}") };
        rows.iter_mut().filter(|row| row.key == key).for_each(|row| *row = given.clone());
    }
    rows.extend(config.effective());
    if output.is_json() {
        let options: Map<String, serde_json::Value> = rows
            .into_iter()
            .map(|row| (row.key.to_owned(), json!({"value": row.value, "origin": row.origin})))
            .collect();
        output.json(&json!({"options": options}))?;
        return Ok(true);
    }
    let values: Vec<(&str, String)> =
        rows.iter().map(|row| (row.key, format!("{}  ({})", row.value, row.origin))).collect();
    output.pairs(&values)?;
    Ok(true)
}
