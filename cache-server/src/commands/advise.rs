//! `advise`: the curve as a table or as JSON.

use cache_shm::Mode;
use serde_json::{Value, json};

use super::Place;
use crate::advise::{Advice, KEYS_MIN, Point, REQUESTS_MIN, Room, TooFew, advise as curve};
use crate::cli::Region;
use crate::failure::Result;
use crate::output::{Output, grouped};

pub(super) fn advise(place: Place, arguments: &Region, output: &mut Output) -> Result<bool> {
    let cache = place.look(&arguments.name)?;
    let stats = cache.stats()?;
    if cache.geometry()?.mode == Mode::NoEvict {
        let reason = "a no-evict region drops nothing: its size decides what can be stored, and not what is found";
        return refuse(output, reason, None);
    }
    let Some(sample) = cache.map()?.sample() else {
        let reason = "a region of less than 8 MiB keeps no sample of its requests";
        return refuse(output, reason, None);
    };
    match curve(&sample, Room::of(&stats)) {
        Ok(advice) if output.is_json() => output.json(&as_json(&advice, sample.one_in, stats.region_bytes))?,
        Ok(advice) => print(&advice, sample.one_in, stats.region_bytes, output)?,
        Err(too_few) => {
            let reason = if too_few.requests < REQUESTS_MIN {
                "too few requests are recorded; let the region be used for longer"
            } else {
                "the requests that are recorded are for too few keys to tell how many more would help"
            };
            return refuse(output, reason, Some(too_few));
        }
    }
    Ok(true)
}

/// No curve: that is an answer, and not an error. `few` if more would help.
fn refuse(output: &mut Output, reason: &str, few: Option<TooFew>) -> Result<bool> {
    let TooFew { requests, keys } = few.unwrap_or(TooFew { requests: 0, keys: 0 });
    if output.is_json() {
        output.json(&json!({
            "reason": reason,
            "requests": requests,
            "requests_min": REQUESTS_MIN,
            "keys": keys,
            "keys_min": KEYS_MIN,
            "points": [],
        }))?;
    } else if few.is_some() {
        let counts = [requests, REQUESTS_MIN, keys, KEYS_MIN].map(|count| grouped(count as u64));
        let [requests, requests_min, keys, keys_min] = counts;
        output.line(&format!("{reason} ({requests} requests of {requests_min}, {keys} keys of {keys_min})"))?;
    } else {
        output.line(reason)?;
    }
    Ok(false)
}

fn bytes_of(point: &Point, region_bytes: u64) -> u64 {
    (point.factor * region_bytes as f64) as u64
}

fn as_json(advice: &Advice, one_in: u64, region_bytes: u64) -> Value {
    let point = |point: &Point| {
        json!({
            "factor": point.factor,
            "bytes": bytes_of(point, region_bytes),
            "hit_percent": point.hit_percent,
            "gain_points": point.gain_points,
            "error_points": point.error_points,
            "range_points": point.range_points,
            "at_least": point.at_least,
        })
    };
    let points: Vec<Value> = advice.points.iter().map(point).collect();
    json!({
        "one_in": one_in,
        "gets": advice.gets,
        "requests": advice.requests,
        "keys": advice.keys,
        "hit_percent": advice.hit_percent,
        "points": points,
    })
}

fn print(advice: &Advice, one_in: u64, region_bytes: u64, output: &mut Output) -> Result<()> {
    output.line(&format!(
        "{:.1} % of the last {} reads were hits. By {} requests for {} keys, one in {one_in}:",
        advice.hit_percent,
        grouped(advice.gets),
        grouped(advice.requests as u64),
        grouped(advice.keys as u64),
    ))?;
    output.line("")?;
    output.line("  memory                    hits  change, and its range by the error of sampling")?;
    for point in &advice.points {
        let mebibytes = bytes_of(point, region_bytes) as f64 / f64::from(1 << 20);
        let change = match point.factor {
            1.0 => "as it is".to_owned(),
            _ => {
                let least = if point.at_least { ", at least" } else { "" };
                let [low, high] = point.range_points;
                format!("{:+.1} points, {low:+.1} to {high:+.1}{least}", point.gain_points)
            }
        };
        output
            .line(&format!("  {:>4} x {mebibytes:>11.1} MiB  {:>6.1} %  {change}", point.factor, point.hit_percent))?;
    }
    Ok(())
}
