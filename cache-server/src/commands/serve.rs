//! `cache-shm serve`: the options, and what is said when clients can connect.

use serde_json::{Map, json};

use super::Place;
use crate::cli::Serve;
use crate::failure::Result;
use crate::output::Output;
use crate::serve::config::Config;

pub(super) fn serve(place: Place, arguments: &Serve, output: &mut Output) -> Result<bool> {
    let config = Config::read(&arguments.given())?;
    crate::serve::check(&config)?;
    if arguments.check {
        return check(&config, output);
    }
    let mut builder = place.builder(&arguments.name);
    if let Some(size) = &arguments.size {
        builder = builder.size(cache_shm::parse_size(size)?);
    }
    let cache = builder.open_or_create()?;
    crate::serve::serve(cache, &config, &mut |places| {
        if output.is_json() {
            output.json(&json!({"listening": places, "process_id": std::process::id()}))?;
        } else {
            output.line(&format!("{} is served at {}", arguments.name, places.join(", ")))?;
        }
        output.flush()
    })?;
    Ok(true)
}

/// Says which options hold.
fn check(config: &Config, output: &mut Output) -> Result<bool> {
    let rows = config.effective();
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
