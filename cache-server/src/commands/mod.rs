//! What each subcommand does.
//!
//! Every function answers whether it found what it was asked for, which is the exit
//! code. Commands that only look attach read-only: they take no participant slot, leave
//! no trace in the region, and do not count as uses of the keys they look at.

mod advise;
mod ask;
mod bar;
mod bench;
mod clear;
mod config;
mod keys;
mod processes;
mod repair;
mod replay;
mod serve;
mod shell;
mod snapshots;
mod top;
mod values;

use std::path::Path;
use std::time::Duration;

use cache_shm::{Cache, Mismatch, Mode, NamespaceInfo};
use serde_json::{Map, Value, json};

use crate::cli::{Cli, Command, Create, Stats, Within};
use crate::failure::{Failure, Result};
use crate::output::{Output, grouped, remark, sized};

/// Runs the subcommand; true if it found what it was asked for.
pub fn run(cli: &Cli, output: &mut Output) -> Result<bool> {
    let place = Place { dir: cli.dir.as_deref() };
    match &cli.command {
        Command::Create(arguments) => create(place, arguments, output),
        Command::List(_) => list(place, output),
        Command::Info(region) => info(place, &region.name, output),
        Command::Get(arguments) => values::get(place, arguments, output),
        Command::Set(arguments) => values::set(place, arguments, output),
        Command::Delete(arguments) => values::delete(place, arguments, output),
        Command::Keys(arguments) => keys::keys(place, arguments, output),
        Command::Stats(arguments) => stats(place, arguments, output),
        Command::Verify(arguments) => repair::verify(place, arguments, output),
        Command::Repair(arguments) => repair::repair(place, arguments, output),
        Command::Serve(arguments) => serve::serve(place, arguments, output),
        Command::Replay(arguments) => replay::replay(arguments, output),
        Command::Advise(region) => advise::advise(place, region, output),
        Command::Config(arguments) => config::config(place, arguments, output),
        Command::Top(arguments) => top::top(place, arguments, output),
        Command::Processes(arguments) => processes::processes(place, arguments, output),
        Command::Bench(arguments) => bench::bench(arguments, output),
        Command::Completions(arguments) => shell::completions(arguments, output),
        Command::Man(arguments) => shell::man(arguments, output),
        Command::Dump(arguments) => snapshots::dump(place, arguments, output),
        Command::Restore(arguments) => snapshots::restore(place, arguments, output),
        Command::Clear(arguments) => clear::clear(place, arguments, output),
        Command::EvictTag(arguments) => clear::evict_tag(place, arguments, output),
        Command::Destroy(arguments) => clear::destroy(place, arguments, output),
    }
}

/// Where the regions are.
#[derive(Clone, Copy)]
struct Place<'a> {
    dir: Option<&'a Path>,
}

impl Place<'_> {
    fn builder(self, name: &str) -> cache_shm::Builder {
        let builder = Cache::builder(Some(name));
        match self.dir {
            Some(dir) => builder.dir(dir),
            None => builder,
        }
    }

    /// Attaches to a region to look at it.
    fn look(self, name: &str) -> Result<Cache> {
        Ok(self.builder(name).read_only(true).on_mismatch(Mismatch::Warn).open()?)
    }

    /// Attaches to a region to change it.
    fn change(self, name: &str, timeout: Option<Duration>) -> Result<Cache> {
        let builder = self.builder(name).on_mismatch(Mismatch::Warn);
        Ok(match timeout {
            Some(timeout) => builder.timeout(timeout),
            None => builder,
        }
        .open()?)
    }
}

impl Within {
    /// The handle of the namespace that is meant.
    fn of(&self, cache: Cache) -> Result<Cache> {
        match &self.namespace {
            Some(name) => Ok(cache.namespace(name.as_bytes())?),
            None => Ok(cache),
        }
    }

    /// As [`Within::of`], if the namespace was made before: a misspelt name makes none.
    fn known(&self, cache: Cache) -> Result<Option<Cache>> {
        let is_known = match &self.namespace {
            Some(name) => cache.namespaces()?.iter().any(|info| info.name == name.as_bytes()),
            None => true,
        };
        if !is_known {
            no_namespace(self.namespace.as_deref().unwrap_or_default());
        }
        is_known.then(|| self.of(cache)).transpose()
    }
}

/// Says why nothing was found.
fn no_namespace(name: &str) {
    remark(&format!("the region has no namespace {name:?}"));
}

/// Refuses a region that exists and is not what was asked for; its size was looked at before.
fn check_asked(arguments: &Create, cache: &Cache) -> Result<()> {
    let refuse = |has: &str, asked: &str| {
        let name = &arguments.name;
        let advice = format!("leave {asked} out, or destroy the region first");
        Err(Failure::usage(format!("the region {name} exists and {has}, but {asked} was given; {advice}")))
    };
    if arguments.no_evict && cache.geometry()?.mode == Mode::Evict {
        return refuse("evicts", "--no-evict");
    }
    match (arguments.mode, listed(cache)?) {
        (Some(asked), Some(listed)) if asked != listed.mode => {
            refuse(&format!("has mode {:03o}", listed.mode), &format!("--mode {asked:03o}"))
        }
        _ => Ok(()),
    }
}

/// Takes a region away again that was made for something that came to nothing.
fn unmake(cache: &Cache) {
    let is_ours = cache.opened().created && !cache.opened().remade_after_boot;
    if is_ours && cache.others().is_ok_and(|others| others.is_empty()) {
        // The failure is what is told; an empty region that stays harms nobody.
        let _ = cache.destroy();
    }
}

fn create(place: Place, arguments: &Create, output: &mut Output) -> Result<bool> {
    let mut builder = place.builder(&arguments.name).on_mismatch(Mismatch::Error);
    if arguments.no_evict {
        builder = builder.mode(Mode::NoEvict);
    }
    if arguments.prealloc {
        builder = builder.prealloc(true);
    }
    if let Some(mode) = arguments.mode {
        builder = builder.file_mode(mode);
    }
    if let Some(size) = &arguments.size {
        builder = builder.size(cache_shm::parse_size(size)?);
    }
    if let Some(group) = arguments.group {
        builder = builder.group(group);
    }
    let cache = if arguments.exist_ok { builder.open_or_create()? } else { builder.create()? };
    let bytes = cache.geometry()?.region_bytes;
    let created = cache.opened().created;
    if !created {
        check_asked(arguments, &cache)?;
    }
    let path = shown_path(&cache);
    if output.is_json() {
        output.json(&json!({"name": arguments.name, "path": path, "bytes": bytes, "created": created}))?;
    } else {
        let verb = if created { "created" } else { "exists:" };
        output.line(&format!("{verb} {path}, {}", sized(bytes)))?;
    }
    Ok(true)
}

fn list(place: Place, output: &mut Output) -> Result<bool> {
    let regions = cache_shm::regions(place.dir)?;
    if output.is_json() {
        let rows: Vec<Value> = regions
            .iter()
            .map(|region| {
                json!({
                    "name": region.name,
                    "path": region.path.display().to_string(),
                    "bytes": region.bytes,
                    "bytes_used": region.bytes_used,
                    "created_unix_ms": region.created_unix_ms,
                    "uid": region.uid,
                    "mode": format!("{:03o}", region.mode),
                    "format_version": region.format_version,
                    "state": region.state.word(),
                })
            })
            .collect();
        output.json(&rows.into())?;
        return Ok(true);
    }
    let width = regions.iter().map(|region| region.name.len()).max().unwrap_or(0).max(4);
    if !regions.is_empty() {
        output.line(&format!(
            "{:width$}  {:>15}  {:>15}  mode  {:19}  state",
            "name", "bytes", "in use", "created (UTC)"
        ))?;
    }
    for region in &regions {
        output.line(&format!(
            "{:width$}  {:>15}  {:>15}  {:03o}   {:19}  {}",
            region.name,
            grouped(region.bytes),
            grouped(region.bytes_used),
            region.mode,
            moment(region.created_unix_ms),
            region.state.word()
        ))?;
    }
    Ok(true)
}

fn info(place: Place, name: &str, output: &mut Output) -> Result<bool> {
    let cache = place.look(name)?;
    let geometry = cache.geometry()?;
    let listed = listed(&cache)?;
    let created = listed.as_ref().map_or(0, |listed| listed.created_unix_ms);
    let used = listed.as_ref().map_or(0, |listed| listed.bytes_used);
    let path = shown_path(&cache);
    let file_mode = listed.as_ref().map_or(0, |listed| listed.mode);
    let when_full = match geometry.mode {
        Mode::Evict => "evict",
        Mode::NoEvict => "no-evict",
    };
    if output.is_json() {
        output.json(&json!({
            "name": name,
            "path": path,
            "bytes": geometry.region_bytes,
            "bytes_used": used,
            "mode": format!("{file_mode:03o}"),
            "when_full": when_full,
            "created_unix_ms": created,
            "format_version": cache_shm::FORMAT_VERSION,
            "segments": geometry.segment_count,
            "segment_bytes": geometry.segment_bytes(),
            "stripes": geometry.stripe_count,
            "participants_max": geometry.participant_count,
            "item_bytes_max": geometry.item_bytes_max(),
        }))?;
    } else {
        output.pairs(&[
            ("name", name.to_owned()),
            ("path", path),
            ("size", sized(geometry.region_bytes)),
            ("in use", sized(used)),
            ("when full", when_full.to_owned()),
            ("created (UTC)", moment(created)),
            ("format version", cache_shm::FORMAT_VERSION.to_string()),
            ("segments", format!("{} of {}", grouped(geometry.segment_count.into()), sized(geometry.segment_bytes()))),
            ("stripes", grouped(geometry.stripe_count.into())),
            ("processes at most", grouped(geometry.participant_count.into())),
            ("largest item", sized(geometry.item_bytes_max())),
        ])?;
    }
    Ok(true)
}

/// The file of a region that has a name.
fn shown_path(cache: &Cache) -> String {
    cache.path().map(|path| path.display().to_string()).unwrap_or_default()
}

/// What a list of its directory says about a region.
fn listed(cache: &Cache) -> Result<Option<cache_shm::RegionInfo>> {
    let Some(path) = cache.path() else { return Ok(None) };
    let same_file = |region: &cache_shm::RegionInfo| region.path.file_name() == path.file_name();
    Ok(cache_shm::regions(path.parent())?.into_iter().find(same_file))
}

fn stats(place: Place, arguments: &Stats, output: &mut Output) -> Result<bool> {
    let cache = place.look(&arguments.name)?;
    let spaces = cache.namespaces()?;
    let named = |info: &NamespaceInfo| (String::from_utf8_lossy(&info.name).into_owned(), info.counts().to_vec());
    let fields = match &arguments.namespace {
        None => cache.stats()?.fields(),
        Some(name) => match spaces[1..].iter().find(|info| info.name == name.as_bytes()) {
            Some(info) => info.counts().to_vec(),
            None => {
                no_namespace(name);
                return Ok(false);
            }
        },
    };
    let count = |wanted: &str| fields.iter().find(|(name, _)| *name == wanted).map_or(0, |(_, count)| *count);
    let hit_percent = crate::replay::percent(count("hits"), count("hits") + count("misses"));
    if output.is_json() {
        let object = |fields: Vec<(&str, u64)>| -> Map<String, Value> {
            fields.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect()
        };
        let mut answer = object(fields);
        answer.insert("hit_percent".to_owned(), hit_percent.into());
        if arguments.namespace.is_none() {
            let spaces: Map<String, Value> =
                spaces[1..].iter().map(named).map(|(name, counts)| (name, object(counts).into())).collect();
            answer.insert("namespaces".to_owned(), spaces.into());
        }
        output.json(&answer.into())?;
    } else {
        let mut pairs: Vec<(&str, String)> = fields.iter().map(|(name, value)| (*name, grouped(*value))).collect();
        pairs.push(("hit_percent", format!("{hit_percent:.2}")));
        let width = pairs.iter().map(|(_, value)| value.len()).max().unwrap_or(0);
        pairs.iter_mut().for_each(|(_, value)| *value = format!("{value:>width$}"));
        output.pairs(&pairs)?;
    }
    Ok(true)
}

/// `2026-11-22 21:08:40` of milliseconds since 1970, in UTC.
fn moment(unix_ms: u64) -> String {
    let seconds = unix_ms / 1000;
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Days to a date by the 400-year cycle of the Gregorian calendar, years from March.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}", second / 3_600, second / 60 % 60, second % 60)
}

/// Milliseconds that a key has left, from its moment of expiry on the region's clock.
fn ttl_ms(expires_at_ms: u64, now_ms: u64) -> Option<u64> {
    (expires_at_ms != cache_shm::NEVER).then(|| expires_at_ms.saturating_sub(now_ms))
}

/// The bytes of a key argument: as given, or decoded from hexadecimal.
fn key_bytes(argument: &std::ffi::OsStr, hex: bool) -> Result<Vec<u8>> {
    use std::os::unix::ffi::OsStrExt;
    let given = argument.as_bytes();
    if !hex {
        return Ok(given.to_vec());
    }
    let digit = |byte: &u8| char::from(*byte).to_digit(16).map(|digit| digit as u8);
    let digits: Option<Vec<u8>> = given.iter().map(digit).collect();
    match digits {
        Some(digits) if digits.len().is_multiple_of(2) => {
            Ok(digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect())
        }
        _ => Err(Failure::usage(format!(
            "{:?} is not hexadecimal: two digits for each byte, 0 to 9 and a to f",
            argument.to_string_lossy()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_dates_in_utc() {
        assert_eq!(moment(0), "1970-01-01 00:00:00");
        assert_eq!(moment(951_782_399_999), "2000-02-28 23:59:59");
        assert_eq!(moment(951_782_400_000), "2000-02-29 00:00:00");
        assert_eq!(moment(1_798_761_599_000), "2026-12-31 23:59:59");
        assert_eq!(moment(4_107_542_400_000), "2100-03-01 00:00:00");
    }

    #[test]
    fn keys_can_be_given_in_hexadecimal() {
        assert_eq!(key_bytes("00fF17".as_ref(), true).unwrap(), [0, 255, 23]);
        assert_eq!(key_bytes("00ff17".as_ref(), false).unwrap(), b"00ff17");
        for bad in ["0", "xy", "0g"] {
            assert!(key_bytes(bad.as_ref(), true).is_err(), "{bad}");
        }
    }
}
