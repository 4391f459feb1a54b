//! Runs the Rust rows and writes them as JSON: `cache-benches [--smoke] [--seed N] [GROUP...]`;
//! `cache-benches --list` names the groups.
//!
//! Results go to the standard output, one JSON object a line; progress to the standard error.

use std::process::ExitCode;

use cache_benches::rows::{GROUPS, Plan};
use cache_benches::{counted, load, processes};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|argument| argument == processes::WORKER) {
        processes::serve(&arguments[1..]);
        return ExitCode::SUCCESS;
    }
    if let [word, kind, operations] = &arguments[..]
        && word == counted::COUNTED
    {
        counted::run(kind, operations.parse().expect("operations are a number"));
        return ExitCode::SUCCESS;
    }
    if let [word, path, kind, depth, count] = &arguments[..]
        && word == load::LOAD
    {
        load::run(path, kind, depth.parse().expect("a depth is a number"), count.parse().expect("a count is a number"));
        return ExitCode::SUCCESS;
    }
    let mut plan = Plan { seed: 20_261_122, smoke: false };
    let mut wanted = Vec::new();
    let mut rest = arguments.into_iter();
    while let Some(argument) = rest.next() {
        match argument.as_str() {
            "--list" => {
                GROUPS.iter().for_each(|(name, _)| println!("{name}"));
                return ExitCode::SUCCESS;
            }
            "--smoke" => plan.smoke = true,
            "--seed" => match rest.next().and_then(|seed| seed.parse().ok()) {
                Some(seed) => plan.seed = seed,
                None => return usage(),
            },
            group if GROUPS.iter().any(|(name, _)| *name == group) => wanted.push(argument),
            _ => return usage(),
        }
    }
    eprintln!("seed {}", plan.seed);
    for (name, rows) in GROUPS {
        if wanted.is_empty() || wanted.iter().any(|word| word == name) {
            eprintln!("measuring {name}");
            for row in rows(plan) {
                let mut line = row.to_json();
                line["group"] = (*name).into();
                println!("{line}");
            }
        }
    }
    ExitCode::SUCCESS
}

fn usage() -> ExitCode {
    let groups: Vec<&str> = GROUPS.iter().map(|(name, _)| *name).collect();
    eprintln!("usage: cache-benches [--list] [--smoke] [--seed N] [{}]...", groups.join(" | "));
    ExitCode::from(2)
}
