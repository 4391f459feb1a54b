//! `config`: which options hold, and who said so.

use cache_shm::{Effective, Settings};
use serde_json::{Map, Value, json};

use super::Place;
use crate::cli::Config;
use crate::failure::Result;
use crate::output::{Output, remark};
use crate::serve::config::unknown_variables;

pub fn config(place: Place, arguments: &Config, output: &mut Output) -> Result<bool> {
    let settings = Settings::read(arguments.name.as_deref())?;
    let mut rows = settings.effective();
    if let Some(dir) = place.dir {
        let row = rows.iter_mut().find(|row| row.key == "dir");
        row.into_iter().for_each(|row| {
            *row = Effective { key: "dir", value: dir.display().to_string(), origin: "argument --dir".to_owned() };
        });
    }
    let unknown = unknown_variables();
    let file = settings.file.as_ref().map(|file| file.display().to_string());
    if output.is_json() {
        let options: Map<String, Value> = rows
            .into_iter()
            .map(|row| (row.key.to_owned(), json!({"value": row.value, "origin": row.origin})))
            .collect();
        output.json(&json!({"file": file, "options": options, "unknown_variables": unknown}))?;
        return Ok(true);
    }
    let width = rows.iter().map(|row| row.value.len()).max().unwrap_or(0);
    let mut pairs = vec![("file", file.unwrap_or_else(|| "none".to_owned()))];
    pairs.extend(rows.iter().map(|row| (row.key, format!("{:width$}  {}", row.value, row.origin))));
    output.pairs(&pairs)?;
    for name in unknown {
        remark(&format!("{name} is set, and is no option"));
    }
    Ok(true)
}
