//! `advise`: the curve as a table or as JSON.

use serde_json::{Value, json};

use super::Place;
use crate::advise::{Advice, Point, REQUESTS_MIN, advise as curve};
use crate::cli::Region;
use crate::failure::Result;
use crate::output::{Output, grouped};

pub(super) fn advise(place: Place, arguments: &Region, output: &mut Output) -> Result<bool> {
    let cache = place.look(&arguments.name)?;
    let stats = cache.stats()?;
    let Some(sample) = cache.map()?.sample() else {
        let reason = "a region of less than 8 MiB keeps no sample of its requests";
        return refuse(output, reason, 0);
    };
    match curve(&sample, stats.live_bytes, stats.evictions > 0) {
        Ok(advice) if output.is_json() => output.json(&as_json(&advice, sample.one_in, stats.region_bytes))?,
        Ok(advice) => print(&advice, sample.one_in, stats.region_bytes, output)?,
        Err(too_few) => {
            let reason = "too few requests are recorded; let the region be used for longer";
            return refuse(output, reason, too_few.requests);
        }
    }
    Ok(true)
}

/// No curve: that is an answer, and not an error.
fn refuse(output: &mut Output, reason: &str, requests: usize) -> Result<bool> {
    if output.is_json() {
        output.json(&json!({"reason": reason, "requests": requests, "requests_min": REQUESTS_MIN, "points": []}))?;
    } else {
        output.line(&format!(
            "{reason} ({} of {} that are needed)",
            grouped(requests as u64),
            grouped(REQUESTS_MIN as u64)
        ))?;
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
    output.line("  memory                    hits  change")?;
    for point in &advice.points {
        let mebibytes = bytes_of(point, region_bytes) as f64 / f64::from(1 << 20);
        let change = match point.factor {
            1.0 => "as it is".to_owned(),
            _ => {
                let least = if point.at_least { ", at least" } else { "" };
                format!("{:+.1} points, ± {:.1}{least}", point.gain_points, point.error_points)
            }
        };
        output
            .line(&format!("  {:>4} x {mebibytes:>11.1} MiB  {:>6.1} %  {change}", point.factor, point.hit_percent))?;
    }
    Ok(())
}
