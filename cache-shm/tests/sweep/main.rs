//! The crash sweep: one operation in another process, stepped instruction by instruction,
//! and everything that a death there leaves behind recovered and checked.
//!
//! After every instruction that changed the region its bytes are kept. Such an image is what
//! a `kill -9` at that instruction leaves: nobody holds the image's liveness locks, so its
//! owner is dead to whoever attaches. Instructions between two images leave the same bytes as
//! the first. A sample of the points is confirmed with real kills.
//!
//! `cargo test --release -p cache-shm --test sweep -- [--all] [NAME...]`: without `--all` a
//! part of the images in each scenario. Fails if a scenario has no kill point, or does not do
//! what it is named for.

mod check;
mod create;
mod fill;
mod freeze;
mod image;
mod scenario;
mod trace;
mod witness;

use std::process::ExitCode;
use std::time::Instant;

use image::Dir;
use scenario::Scenario;

/// Images that are checked of one scenario without `--all`, before every second is left out,
/// and so on.
const IMAGES_PART: usize = 16;
/// Real kills of one scenario, without and with `--all`.
const KILLS: (usize, usize) = (2, 12);
/// Instructions that the real kills of one scenario may step through together.
const KILL_STEPS_MAX: u64 = 400_000;

/// What the sweep of one scenario did.
#[derive(Default)]
struct Swept {
    instructions: u64,
    images: usize,
    checked: usize,
    kills: usize,
    slowest_ms: u128,
}

fn sweep(scenario: &Scenario, all: bool) -> Result<Swept, String> {
    let dir = Dir::new();
    let prepared = scenario.prepare(&dir)?;
    let expected = check::Expected::of(&dir, scenario, &prepared)?;
    let mut swept = Swept::default();
    let mut at = Vec::new();
    let mut stride = 1;
    swept.instructions = trace::images(&dir, scenario, &prepared, |step, number, image| {
        at.push(step);
        // In a part, ever fewer: how many images there are is known at the end.
        if !all && number == stride * IMAGES_PART {
            stride *= 2;
        }
        if number % stride != 0 {
            return Ok(());
        }
        swept.checked += 1;
        let took = expected.check(&dir, image).map_err(|problem| format!("after {step} instructions: {problem}"))?;
        swept.slowest_ms = swept.slowest_ms.max(took.as_millis());
        Ok(())
    })?;
    swept.images = at.len();
    if at.is_empty() {
        return Err("no instruction changed the region".into());
    }
    // Each real kill steps to its instruction again: fewer of them where that is far.
    let affordable = (KILL_STEPS_MAX / swept.instructions).max(2) as usize;
    let kills = if all { KILLS.1 } else { KILLS.0 }.min(affordable).min(at.len());
    for number in 0..kills {
        let step = at[number * at.len() / kills];
        let Some(image) = trace::killed_after(&dir, scenario, &prepared, step)? else { continue };
        expected.check(&dir, &image).map_err(|problem| format!("killed after {step} instructions: {problem}"))?;
        swept.kills += 1;
    }
    Ok(swept)
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == trace::TRACEE) {
        trace::serve(&arguments[1..]);
        return ExitCode::SUCCESS;
    }
    if !trace::is_allowed() {
        println!("SKIP: the crash sweep: this system does not let a process trace its child (ptrace)");
        println!("test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out");
        return if std::env::var_os("REQUIRE_ALL").is_some_and(|all| all == "1") {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        };
    }
    let all = arguments.iter().any(|argument| argument == "--all");
    let names: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    let is_wanted = |name: &str| names.is_empty() || names.iter().any(|wanted| name.contains(wanted.as_str()));
    let (mut passed, mut failed) = (0, Vec::new());
    let (mut instructions, mut checked, mut kills) = (0, 0, 0);
    let started = Instant::now();
    let mut report = |name: &str, outcome: Result<Swept, String>, took: f64| match outcome {
        Ok(swept) => {
            passed += 1;
            instructions += swept.instructions;
            checked += swept.checked;
            kills += swept.kills;
            println!(
                "test {name} ... ok ({} instructions, {} images, {} checked, {} kills, slowest check {} ms, {took:.1} s)",
                swept.instructions, swept.images, swept.checked, swept.kills, swept.slowest_ms
            );
        }
        Err(problem) => {
            println!("test {name} ... FAILED: {problem}");
            failed.push(name.to_owned());
        }
    };
    for scenario in scenario::all().iter().filter(|scenario| is_wanted(scenario.name)) {
        let began = Instant::now();
        let outcome = sweep(scenario, all);
        report(scenario.name, outcome, began.elapsed().as_secs_f64());
    }
    let others: [(&str, fn(bool) -> Result<Swept, String>); 3] =
        [("create", create::sweep), ("freeze", freeze::sweep), ("witness", witness::sweep)];
    for (name, run) in others {
        if is_wanted(name) {
            let began = Instant::now();
            let outcome = run(all);
            report(name, outcome, began.elapsed().as_secs_f64());
        }
    }
    println!(
        "\n{checked} images checked of {instructions} instructions stepped, {kills} real kills, in {:.0} s",
        started.elapsed().as_secs_f64()
    );
    let verdict = if failed.is_empty() && checked > 0 { "ok" } else { "FAILED" };
    println!("test result: {verdict}. {passed} passed; {} failed; 0 ignored; 0 measured; 0 filtered out", failed.len());
    if verdict == "ok" { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
