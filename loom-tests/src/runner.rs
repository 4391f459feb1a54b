//! Runs the cases, counts their executions, and fails if any does not end as it must.
//!
//! A broken promise is noted by [`check`] and raised by [`settle`] at the end of the
//! execution: a panic in the middle would unwind other threads out of the engine's
//! guards, which is a model of nothing.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Accesses of one execution; the engine's operations take hundreds.
const BRANCHES_MAX: usize = 200_000;

/// Something that is explored.
#[derive(Clone)]
pub struct Case {
    name: &'static str,
    must_fail: bool,
    preemptions: usize,
    body: fn(),
}

/// A case in which no promise may break. `[loom: name]` in the engine's comments is its
/// name, or the part of it before the first `.`.
pub const fn model(name: &'static str, preemptions: usize, body: fn()) -> Case {
    Case { name, must_fail: false, preemptions, body }
}

/// A case in which a promise must break.
pub const fn twin(name: &'static str, preemptions: usize, body: fn()) -> Case {
    Case { name, must_fail: true, preemptions, body }
}

thread_local! {
    static BROKEN: RefCell<Option<String>> = const { RefCell::new(None) };
    static IS_QUIET: RefCell<bool> = const { RefCell::new(false) };
}

/// Notes a broken promise.
pub fn check(holds: bool, promise: impl FnOnce() -> String) {
    if !holds {
        BROKEN.with_borrow_mut(|broken| {
            broken.get_or_insert_with(promise);
        });
    }
}

/// Ends an execution: panics if a promise was broken in it.
pub fn settle() {
    if let Some(promise) = BROKEN.take() {
        std::panic::panic_any(Promise(promise));
    }
}

/// What an execution ends with that broke a promise; any other panic is a mistake of the case.
struct Promise(String);

/// How a case ended.
struct Outcome {
    executions: u64,
    /// The promise that broke, if one did; or with what else it ended.
    broken: Option<Result<String, String>>,
    took: Duration,
}

fn explore(case: &Case) -> Outcome {
    let started = Instant::now();
    let executions = Arc::new(AtomicU64::new(0));
    let mut builder = loom::model::Builder::new();
    builder.max_branches = BRANCHES_MAX;
    builder.preemption_bound = Some(case.preemptions);
    let (count, body) = (executions.clone(), case.body);
    IS_QUIET.set(case.must_fail);
    let explored = catch_unwind(AssertUnwindSafe(|| {
        builder.check(move || {
            count.fetch_add(1, Ordering::Relaxed);
            BROKEN.take();
            body();
            settle();
        });
    }));
    let broken = explored.err().map(|panic| match panic.downcast::<Promise>() {
        Ok(promise) => Ok(promise.0),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default();
            // What loom itself says of memory that two use at once.
            if text.starts_with("Causality violation") { Ok(text) } else { Err(text) }
        }
    });
    Outcome { executions: executions.load(Ordering::Relaxed), broken, took: started.elapsed() }
}

/// Runs the cases that `wanted` names (all if it is empty), on every processor.
pub fn run(cases: &[Case], wanted: &[String]) -> ExitCode {
    let wanted: Vec<&String> = wanted.iter().filter(|name| !name.starts_with('-')).collect();
    let chosen: Vec<&Case> =
        cases.iter().filter(|case| wanted.is_empty() || wanted.iter().any(|name| case.name.contains(*name))).collect();
    let started = Instant::now();
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        // What a twin breaks is what it is for.
        if !IS_QUIET.with_borrow(|is_quiet| *is_quiet) {
            hook(info);
        }
    }));
    let (models, twins, failed) = (AtomicUsize::new(0), AtomicUsize::new(0), Mutex::new(Vec::new()));
    let (executions, next) = (AtomicU64::new(0), AtomicUsize::new(0));
    let work = || {
        while let Some(case) = chosen.get(next.fetch_add(1, Ordering::Relaxed)) {
            let outcome = explore(case);
            executions.fetch_add(outcome.executions, Ordering::Relaxed);
            let is_right = outcome.executions > 0
                && match outcome.broken {
                    Some(Ok(_)) => case.must_fail,
                    Some(Err(_)) => false,
                    None => !case.must_fail,
                };
            let said = match (&outcome.broken, case.must_fail) {
                (Some(Ok(broken)), true) => format!("fails as it must: {broken}"),
                (None, true) => "does not fail, but must".into(),
                (Some(Ok(broken)), false) => format!("broken: {broken}"),
                (Some(Err(panic)), _) => format!("panicked: {panic}"),
                (None, false) => "holds".into(),
            };
            let verdict = if is_right { "ok" } else { "FAILED" };
            println!(
                "test {} ... {verdict} ({} executions, {:.1} s: {said})",
                case.name,
                outcome.executions,
                outcome.took.as_secs_f64()
            );
            match (is_right, case.must_fail) {
                (true, false) => drop(models.fetch_add(1, Ordering::Relaxed)),
                (true, true) => drop(twins.fetch_add(1, Ordering::Relaxed)),
                (false, _) => failed.lock().expect("no panic while it is held").push(case.name),
            }
        }
    };
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        // A seat for each thread: the engine's last worker is shared by threads, not by models.
        for _ in 0..processors.min(4) {
            scope.spawn(work);
        }
    });
    let failed = failed.into_inner().expect("no panic while it was held");
    let (models, twins, executions) = (models.into_inner(), twins.into_inner(), executions.into_inner());
    println!(
        "\n{models} models hold, {twins} twins fail as they must, {executions} executions in {:.0} s",
        started.elapsed().as_secs_f64()
    );
    let is_whole = !wanted.is_empty() || (models > 0 && twins > 0);
    let is_ok = failed.is_empty() && is_whole && executions > 0;
    println!(
        "test result: {}. {} passed; {} failed; 0 ignored; 0 measured; {} filtered out; finished in {:.2}s",
        if is_ok { "ok" } else { "FAILED" },
        models + twins,
        failed.len(),
        cases.len() - chosen.len(),
        started.elapsed().as_secs_f64()
    );
    if is_ok {
        ExitCode::SUCCESS
    } else {
        println!("failed: {failed:?}");
        ExitCode::FAILURE
    }
}
