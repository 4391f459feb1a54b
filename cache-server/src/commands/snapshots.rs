//! `dump` and `restore`.

use std::io::Write;
use std::ops::ControlFlow;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use cache_shm::{Cache, Mismatch};
use serde_json::json;

use super::bar::Bar;
use super::{Place, ask, moment, unmake};
use crate::cli::{Dump, Restore};
use crate::failure::{Failure, Result};
use crate::output::{Output, complain_raw, grouped, sized};
use crate::snapshot::{self, Options, Progress, Summary, Watch};

fn is_stream(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// True of `-` and of names such as `/dev/stdout`, which nothing but the snapshot may be written to.
fn is_standard_output(path: &Path) -> bool {
    let is_it = |output: rustix::fs::Stat| {
        path.metadata().is_ok_and(|found| (found.dev(), found.ino()) == (output.st_dev, output.st_ino))
    };
    is_stream(path) || rustix::fs::fstat(std::io::stdout()).is_ok_and(is_it)
}

fn show(bar: &Bar, progress: Progress) -> ControlFlow<()> {
    bar.show(progress.items, Some(progress.items_expected), || {
        format!("{} items, {}", grouped(progress.items), sized(progress.bytes))
    });
    ControlFlow::Continue(())
}

pub(super) fn dump(place: Place, arguments: &Dump, output: &mut Output) -> Result<bool> {
    let cache = place.look(&arguments.name)?;
    let bar = Bar::new(arguments.no_progress);
    let mut progress = |progress| show(&bar, progress);
    let summary = if is_standard_output(&arguments.file) {
        if output.is_terminal() {
            return Err(Failure::usage("a snapshot is not for terminals; send it to a file or a pipe"));
        }
        return dump_stream(&cache, &mut progress).map(|_| true);
    } else {
        snapshot::write(&cache, &arguments.file, &mut progress)?
    };
    drop(bar);
    let Summary { items, value_bytes, tagged, bytes, .. } = summary;
    if output.is_json() {
        output.json(&json!({
            "file": arguments.file.display().to_string(),
            "items": items,
            "value_bytes": value_bytes,
            "tagged": tagged,
            "bytes": bytes,
        }))?;
    } else {
        let path = arguments.file.display();
        let tags = match tagged {
            0 => String::new(),
            _ => format!("; {} with tags, which a restore leaves out", grouped(tagged)),
        };
        output.line(&format!("{path}: {} values, {}{tags}", grouped(items), sized(bytes)))?;
    }
    Ok(true)
}

fn dump_stream(cache: &Cache, progress: &mut Watch<'_>) -> Result<Summary> {
    let mut stream = std::io::BufWriter::with_capacity(1 << 20, std::io::stdout().lock());
    let summary = snapshot::write_to(cache, &mut stream, progress)?;
    stream.flush().map_err(|error| Failure::file("write the snapshot to", "standard output".as_ref(), &error))?;
    Ok(summary)
}

pub(super) fn restore(place: Place, arguments: &Restore, output: &mut Output) -> Result<bool> {
    let cache = target(place, arguments)?;
    let options = Options {
        replace: arguments.replace,
        with_tagged: arguments.with_tagged,
        skip_damaged: arguments.skip_damaged,
    };
    let bar = Bar::new(arguments.no_progress);
    let mut progress = |progress| show(&bar, progress);
    let done = if is_stream(&arguments.file) {
        let name = Path::new("standard input");
        snapshot::restore_from(&cache, &mut std::io::stdin().lock(), name, &options, &mut progress)
    } else {
        snapshot::restore(&cache, &arguments.file, &options, &mut progress)
    };
    drop(bar);
    let restored = done.inspect_err(|failure| {
        // A region of which nothing came.
        if !matches!(failure, Failure::Stopped { .. }) {
            unmake(&cache);
        }
    })?;
    if restored.is_from_future() {
        let (file, made) = (arguments.file.display(), moment(restored.created_unix_ms));
        complain_raw(&format!("cache-shm: {file} was made at {made} UTC, which is yet to come: a clock is wrong\n"));
    }
    for problem in &restored.problems {
        complain_raw(&format!("cache-shm: {} {problem}\n", arguments.file.display()));
    }
    let more = restored.damaged - restored.problems.len() as u64;
    if more > 0 {
        complain_raw(&format!("cache-shm: {} has {more} more damaged places\n", arguments.file.display()));
    }
    let is_whole = restored.damaged == 0;
    if output.is_json() {
        output.json(&json!({
            "created_unix_ms": restored.created_unix_ms,
            "stored": restored.stored,
            "kept": restored.kept,
            "expired": restored.expired,
            "tagged": restored.tagged,
            "too_large": restored.too_large,
            "without_namespace": restored.without_namespace,
            "damaged_places": restored.damaged,
            "damaged": restored.problems.iter().map(ToString::to_string).collect::<Vec<_>>(),
        }))?;
        return Ok(is_whole);
    }
    let mut pairs = vec![("made (UTC)", moment(restored.created_unix_ms)), ("values stored", grouped(restored.stored))];
    let left_out = [
        ("were there already", restored.kept),
        ("expired since", restored.expired),
        ("had tags", restored.tagged),
        ("too large", restored.too_large),
        ("without room for their namespace", restored.without_namespace),
        ("damaged places", restored.damaged),
    ];
    pairs.extend(left_out.into_iter().filter(|(_, count)| *count > 0).map(|(what, count)| (what, grouped(count))));
    output.pairs(&pairs)?;
    Ok(is_whole)
}

/// The region that is restored to, made if that was asked for and it is not there.
fn target(place: Place, arguments: &Restore) -> Result<Cache> {
    let name = &arguments.name;
    let is_missing = || matches!(place.look(name), Err(Failure::Cache(cache_shm::Error::Missing { .. })));
    if arguments.create && is_missing() {
        let bytes = match &arguments.size {
            Some(size) => cache_shm::parse_size(size)?,
            // What is read here would be missing afterwards.
            None if is_stream(&arguments.file) || arguments.file.metadata().is_ok_and(|found| !found.is_file()) => {
                return Err(Failure::usage("--create needs --size, unless the snapshot is in a file"));
            }
            None => snapshot::header(&arguments.file)?.region_bytes,
        };
        return Ok(place.builder(name).size(bytes).on_mismatch(Mismatch::Warn).open_or_create()?);
    }
    let loss = if arguments.replace {
        "keys that they use get the values of the snapshot"
    } else {
        "keys that they miss get the values of the snapshot, and others may be evicted for them"
    };
    ask::may(place, name, arguments.yes, loss)?;
    place.change(name, arguments.timeout)
}
