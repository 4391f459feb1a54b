//! Chaos: processes that use shared regions in every way and are killed all the time.
//!
//! Several workers run a random mix of all operations on three small regions. The parent
//! kills one after the other with SIGKILL, wherever it is, stops some for a while, and
//! starts successors. Every value that is read is checked, and for keys with one writer
//! the last acknowledged value is known: after a death it is the old or the new one, and
//! in the no-evict region nothing may be missing.
//!
//! | module | owns |
//! |---|---|
//! | `plan` | the options, and everything that follows from the seed |
//! | `value` | keys and values that check themselves |
//! | `ledger` | what is known of each key with one writer, in memory that survives deaths |
//! | `worker` | the operations and what they promise |
//! | `round` | kills, successors, the time of take-overs, the check at the end |
//! | `measure` | take-overs from small and large processes; thousands of deaths in a row |
//! | `system` | children, directories, raw words |

mod ledger;
mod measure;
mod plan;
mod round;
mod system;
mod value;
mod worker;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::plan::{Plan, Wanted};
use crate::round::{Sabotage, Totals};

/// Fresh regions are as often as this, because an index grows only once.
const ROUND: Duration = Duration::from_secs(5);
/// Memory of a large process.
const LARGE_BYTES: usize = 100_000_000;

fn main() -> ExitCode {
    let plan = match Plan::from_arguments(std::env::args().skip(1)) {
        Wanted::Run(plan) => plan,
        Wanted::List => {
            println!("chaos: test");
            return ExitCode::SUCCESS;
        }
        Wanted::Nothing => {
            println!("test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 1 filtered out");
            return ExitCode::SUCCESS;
        }
        Wanted::Usage => {
            eprintln!("{}", plan::USAGE);
            return ExitCode::from(2);
        }
    };
    println!("chaos: seed {}, {} workers, {} s", plan.seed, plan.workers, plan.seconds);
    let failures = run(&plan);
    for failure in &failures {
        println!("chaos: FAILED: {failure}");
    }
    if failures.is_empty() {
        println!("test result: ok. 1 passed; 0 failed; 0 ignored");
        return ExitCode::SUCCESS;
    }
    println!("chaos: the same plan again: --seed {} --workers {} --seconds {}", plan.seed, plan.workers, plan.seconds);
    println!("test result: FAILED. 0 passed; 1 failed; 0 ignored");
    ExitCode::FAILURE
}

fn run(plan: &Plan) -> Vec<String> {
    let mut totals = Totals::default();
    let end = Instant::now() + Duration::from_secs(plan.seconds);
    let mut number = 0;
    while Instant::now() < end && totals.kills < plan.kills && totals.failures.is_empty() {
        round::run(plan, number, end.min(Instant::now() + ROUND), Sabotage::None, &mut totals);
        number += 1;
    }
    let stats = &totals.stats;
    println!(
        "chaos: kills {} ({} while holding a lock), stops {}, operations {}, values checked {}, busy {}, full {}",
        totals.kills, totals.holders_killed, totals.stops, totals.operations, totals.checked, totals.busy, totals.full
    );
    println!(
        "chaos: rounds {number}, take-overs {}, evictions {}, splits {}, relocated {} MiB, expirations {}",
        stats.take_overs,
        stats.evictions,
        stats.splits,
        stats.relocated_bytes >> 20,
        stats.expirations
    );
    print_times("kill to the next write in the stripe, among busy workers", &mut totals.take_over_ms);
    println!(
        "chaos: losses {}, wrong values {}, regions clean {} of {}",
        totals.losses,
        totals.wrong,
        totals.regions_clean,
        3 * number
    );
    let mut failures = totals.failures;
    if totals.kills == 0 {
        failures.push("nobody was killed".into());
    }
    if !failures.is_empty() {
        return failures;
    }
    failures.extend([Sabotage::Remove, Sabotage::Replace].into_iter().filter_map(|sabotage| unnoticed(plan, sabotage)));
    print_times("the same, small process, idle machine", &mut measure::take_over_ms(0, plan.samples));
    print_times("the same, 100 MB resident", &mut measure::take_over_ms(LARGE_BYTES, plan.samples));
    match measure::cycles(plan.cycles) {
        Ok(left) => println!("chaos: {} processes attached and were killed: {left}", plan.cycles),
        Err(left) => failures.push(format!("{} processes attached and were killed: {left}", plan.cycles)),
    }
    failures
}

/// The checks are checked: what a saboteur does must be noticed, and be called what it is.
fn unnoticed(plan: &Plan, sabotage: Sabotage) -> Option<String> {
    let mut totals = Totals::default();
    // The complaints of the workers are what is wanted, and would look like failures.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    round::run(plan, 0, Instant::now() + Duration::from_secs(10), sabotage, &mut totals);
    std::panic::set_hook(hook);
    let noticed = match sabotage {
        Sabotage::Remove => totals.losses,
        Sabotage::Replace | Sabotage::None => totals.wrong,
    };
    println!("chaos: {sabotage:?} by a saboteur: {}", if noticed > 0 { "noticed" } else { "NOT NOTICED" });
    (noticed == 0 || totals.failures.is_empty()).then(|| format!("nobody noticed the saboteur: {sabotage:?}"))
}

/// Prints percentiles by the nearest-rank method.
fn print_times(what: &str, times_ms: &mut [f64]) {
    times_ms.sort_by(f64::total_cmp);
    let rank = |part: f64| times_ms[((times_ms.len() as f64 * part).ceil() as usize).clamp(1, times_ms.len()) - 1];
    if times_ms.is_empty() {
        return println!("chaos: {what}: none");
    }
    println!(
        "chaos: {what}: n {}, p50 {:.2} ms, p99 {:.2} ms, max {:.2} ms",
        times_ms.len(),
        rank(0.5),
        rank(0.99),
        rank(1.0)
    );
}
