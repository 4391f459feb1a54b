//! `processes`: who is attached, and what they hold.

use cache_shm::{Counter, ParticipantInfo};
use serde_json::Value;

use super::Place;
use crate::cli::Processes;
use crate::failure::Result;
use crate::observe::participant_json;
use crate::output::{Output, grouped, printable};

pub(super) fn processes(place: Place, arguments: &Processes, output: &mut Output) -> Result<bool> {
    let cache = place.look(&arguments.name)?;
    let infos = cache.map()?.participants();
    if output.is_json() {
        let rows: Vec<Value> = infos
            .iter()
            .map(|info| {
                let mut row = participant_json(info);
                row["command"] = command(info).into();
                row
            })
            .collect();
        output.json(&rows.into())?;
        return Ok(!infos.is_empty());
    }
    if !infos.is_empty() {
        output.line("slot      pid  attached          reads         sets  pins  locks  leases  state  command")?;
    }
    for info in &infos {
        let reads = info.count(Counter::Hits).wrapping_add(info.count(Counter::Misses));
        output.line(&format!(
            "{:>4}  {:>7}  {:>8}  {:>13}  {:>11}  {:>4}  {:>5}  {:>6}  {:5}  {}",
            info.slot,
            info.pid,
            span(info.attached_ms),
            grouped(reads),
            grouped(info.count(Counter::Sets)),
            u64::from(info.read_pins) + u64::from(info.write_pins),
            u64::from(info.stripes) + u64::from(info.lanes) + u64::from(info.segments),
            info.leases.len(),
            if info.is_alive { "alive" } else { "dead" },
            command(info).unwrap_or_default(),
        ))?;
    }
    Ok(!infos.is_empty())
}

/// The command of a living process, if it is one of this pid namespace and the id was not reused.
pub(crate) fn command(info: &ParticipantInfo) -> Option<String> {
    if !info.is_alive {
        return None;
    }
    let read = |file: &str| std::fs::read(format!("/proc/{}/{file}", info.pid)).ok();
    let stat = String::from_utf8_lossy(&read("stat")?).into_owned();
    // The name in brackets may hold spaces; the start time is the 20th field after it.
    let start_time: u64 = stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()?;
    if start_time != info.start_time {
        return None;
    }
    let line = read("cmdline").filter(|line| !line.is_empty()).or_else(|| read("comm"))?;
    let words: Vec<String> =
        line.split(|byte| *byte == 0).filter(|word| !word.is_empty()).take(8).map(printable).collect();
    Some(words.join(" ").trim_end().chars().take(100).collect())
}

/// A time as people say it: `12s`, `34m`, `5h`, `6d`.
pub(crate) fn span(ms: u64) -> String {
    match ms / 1000 {
        seconds @ 0..120 => format!("{seconds}s"),
        seconds @ 120..7_200 => format!("{}m", seconds / 60),
        seconds @ 7_200..172_800 => format!("{}h", seconds / 3_600),
        seconds => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_as_people_say_them() {
        let spans = [0, 119_999, 120_000, 7_200_000, 172_800_000].map(span);
        assert_eq!(spans, ["0s", "119s", "2m", "2h", "2d"]);
    }

    #[test]
    fn the_command_of_this_process_is_found_and_not_that_of_a_reused_id() {
        let cache = cache_shm::Cache::builder(None).size(1 << 20).create().unwrap();
        let mut info = cache.map().unwrap().participants().remove(0);
        assert!(command(&info).unwrap().contains("cache_server"), "{:?}", command(&info));
        info.start_time += 1;
        assert_eq!(command(&info), None);
    }
}
