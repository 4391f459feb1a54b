//! `verify` and `repair`.

use cache_shm::{Repaired, Report};
use serde_json::{Value, json};

use super::{Place, ask};
use crate::cli::{Repair, Verify};
use crate::failure::Result;
use crate::output::{Output, complain_raw, grouped, sized};

/// The uses of segments, in the order of [`Report::segments`].
const SEGMENT_USES: [&str; 10] =
    ["free", "claimed", "open", "sealed", "reclaiming", "draining", "condemned", "index", "run_parts", "damaged"];

pub(super) fn verify(place: Place, arguments: &Verify, output: &mut Output) -> Result<bool> {
    let report = place.look(&arguments.name)?.validate()?;
    if output.is_json() {
        output.json(&report_json(&report))?;
    } else {
        print_problems(&report, output)?;
        print_counts(&report, output)?;
    }
    Ok(report.is_clean())
}

pub(super) fn repair(place: Place, arguments: &Repair, output: &mut Output) -> Result<bool> {
    let loss = "the keys of stripes that cannot be healed go; sound stripes keep their keys";
    ask::may(place, &arguments.name, arguments.yes, loss)?;
    let repaired = place.change(&arguments.name, arguments.timeout)?.repair()?;
    for stripe in &repaired.stripes_reset {
        complain_raw(&format!("cache-shm: {}: stripe {stripe} could not be healed and was emptied\n", arguments.name));
    }
    for stripe in &repaired.stripes_busy {
        complain_raw(&format!("cache-shm: {}: stripe {stripe} is locked by a living process\n", arguments.name));
    }
    let is_done = repaired.left.is_clean() && repaired.stripes_busy.is_empty() && repaired.lanes_busy == 0;
    if output.is_json() {
        output.json(&repaired_json(&repaired))?;
        return Ok(is_done);
    }
    if repaired.found_nothing() {
        output.line("nothing to heal")?;
    } else {
        let pairs: Vec<(&str, String)> = counts(&repaired)
            .into_iter()
            .filter(|(.., count)| *count > 0)
            .map(|(_, text, n)| (text, grouped(n)))
            .collect();
        output.pairs(&pairs)?;
    }
    print_problems(&repaired.left, output)?;
    print_counts(&repaired.left, output)?;
    Ok(is_done)
}

/// What was healed: the name in JSON, the name for people, how many.
fn counts(repaired: &Repaired) -> [(&'static str, &'static str, u64); 11] {
    [
        ("stripes_reset", "stripes emptied", repaired.stripes_reset.len() as u64),
        ("slots", "slots and links removed", repaired.slots),
        ("segments", "segments mended or given back", repaired.segments),
        ("blocks", "index blocks mended or given back", repaired.blocks),
        ("splits", "splits finished", repaired.splits),
        ("locks", "locks of the dead released", repaired.locks),
        ("lanes", "lanes mended", repaired.lanes),
        ("leases", "lease rows emptied", repaired.leases),
        ("namespaces", "namespace rows and generations mended", repaired.namespaces),
        ("versions", "version words set forward", repaired.versions),
        ("hints", "hints recounted", repaired.hints),
    ]
}

fn repaired_json(repaired: &Repaired) -> Value {
    let healed: serde_json::Map<String, Value> = counts(repaired)
        .into_iter()
        .filter(|(name, ..)| *name != "stripes_reset")
        .map(|(name, _, count)| (name.to_owned(), count.into()))
        .collect();
    json!({
        "healed": healed,
        "stripes_reset": repaired.stripes_reset,
        "stripes_busy": repaired.stripes_busy,
        "lanes_busy": repaired.lanes_busy,
        "left": report_json(&repaired.left),
    })
}

fn report_json(report: &Report) -> Value {
    let segments: serde_json::Map<String, Value> =
        SEGMENT_USES.iter().zip(report.segments).map(|(name, count)| ((*name).to_owned(), count.into())).collect();
    let [in_use, free, directories] = report.index_blocks;
    json!({
        "clean": report.is_clean(),
        "problem_count": report.problem_count,
        "problems": report.problems,
        "items": report.items,
        "dead_items": report.dead_items,
        "live_bytes": report.live_bytes,
        "blocks": report.blocks,
        "index_blocks": {"in_use": in_use, "free": free, "directories": directories},
        "segments": segments,
    })
}

fn print_problems(report: &Report, output: &mut Output) -> Result<()> {
    for problem in &report.problems {
        output.line(problem)?;
    }
    let more = report.problem_count - report.problems.len() as u64;
    if more > 0 {
        output.line(&format!("and {} more", grouped(more)))?;
    }
    Ok(())
}

fn print_counts(report: &Report, output: &mut Output) -> Result<()> {
    let [in_use, free, directories] = report.index_blocks.map(grouped);
    let segments: Vec<String> = SEGMENT_USES
        .iter()
        .zip(report.segments)
        .filter(|(_, count)| *count > 0)
        .map(|(name, count)| format!("{} {}", grouped(count), name.replace('_', " ")))
        .collect();
    output.pairs(&[
        ("contradictions", grouped(report.problem_count)),
        ("items", grouped(report.items)),
        ("dead items", grouped(report.dead_items)),
        ("live", sized(report.live_bytes)),
        ("index blocks", format!("{in_use} in use, {free} free, {directories} of directories")),
        ("segments", segments.join(", ")),
    ])
}
