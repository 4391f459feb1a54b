//! The models of the engine's protocols, and their weakened twins.

#[cfg(loom)]
mod appending;
#[cfg(loom)]
mod clearing;
#[cfg(loom)]
mod evicting;
#[cfg(loom)]
mod growing;
#[cfg(loom)]
mod leases;
#[cfg(loom)]
mod leaving;
#[cfg(loom)]
mod lock;
#[cfg(loom)]
mod pinning;
#[cfg(loom)]
mod reading;
#[cfg(loom)]
mod runs;
#[cfg(loom)]
mod witnessing;

#[cfg(loom)]
fn main() -> std::process::ExitCode {
    let cases = [
        lock::CASES,
        reading::CASES,
        appending::CASES,
        pinning::CASES,
        leaving::CASES,
        leases::CASES,
        runs::CASES,
        growing::CASES,
        clearing::CASES,
        evicting::CASES,
        witnessing::CASES,
    ]
    .concat();
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    loom_tests::run(&cases, &wanted)
}

#[cfg(not(loom))]
fn main() {
    println!("built without --cfg loom: no models");
}
