//! What a run does, all of it from one seed: the options, who dies when, and the random
//! streams of the workers. The system's scheduler decides the rest.

use std::time::Duration;

use fastrand::Rng;

use crate::ledger::WORKERS_MAX;
use crate::measure::CYCLES_MIN;

/// How the program is used.
pub const USAGE: &str = "\
usage: chaos [--seconds N] [--kills N] [--workers N] [--seed N] [--cycles N] [--samples N]
  --seconds  how long to kill (30)
  --kills    end as soon as so many were killed
  --workers  processes at a time (4)
  --seed     replays the plan of another run
  --cycles   processes that attach and are killed, one after the other (1000, and no fewer than 840)
  --samples  take-overs measured for a small and for a large process (20)";

/// The options of a run.
#[derive(Debug, Clone)]
pub struct Plan {
    pub seconds: u64,
    pub kills: u64,
    pub workers: usize,
    pub seed: u64,
    pub cycles: u64,
    pub samples: usize,
}

/// What the arguments ask for.
pub enum Wanted {
    Run(Plan),
    /// A test runner that looks for other tests, or only asks for names.
    Nothing,
    List,
    Usage,
}

/// One act of the parent, and how long it waits before.
pub struct Act {
    pub after: Duration,
    pub victim: usize,
    pub deed: Deed,
}

/// What is done to the victim.
#[derive(Debug, Clone, Copy)]
pub enum Deed {
    /// SIGKILL, wherever it is.
    Kill,
    /// SIGSTOP for this long.
    Stop(Duration),
    /// SIGKILL while it holds a stripe's lock.
    KillHolder,
}

impl Plan {
    pub fn from_arguments(arguments: impl Iterator<Item = String>) -> Wanted {
        let mut plan = Plan { seconds: 30, kills: u64::MAX, workers: 4, seed: 0, cycles: 1000, samples: 20 };
        plan.seed = Rng::new().u64(1..1 << 32);
        let mut arguments = arguments.peekable();
        while let Some(argument) = arguments.next() {
            let mut number = || arguments.next().and_then(|text| text.parse::<u64>().ok());
            let is_known = match &*argument {
                "--seconds" => number().map(|number| plan.seconds = number),
                "--kills" => number().map(|number| plan.kills = number),
                "--workers" => number().map(|number| plan.workers = (number as usize).clamp(2, WORKERS_MAX)),
                "--seed" => number().map(|number| plan.seed = number),
                "--cycles" => number().map(|number| plan.cycles = number.max(CYCLES_MIN)),
                "--samples" => number().map(|number| plan.samples = (number as usize).max(1)),
                "--list" => return Wanted::List,
                "--ignored" => return Wanted::Nothing,
                // What `cargo test` hands to every test program.
                "--show-output" | "--nocapture" | "--no-capture" | "--quiet" | "-q" | "--include-ignored"
                | "--exact" => Some(()),
                threads if threads.starts_with("--test-threads") => {
                    if threads == "--test-threads" {
                        number().map(drop)
                    } else {
                        Some(())
                    }
                }
                option if option.starts_with('-') => None,
                filter if "chaos".contains(filter) => Some(()),
                _ => return Wanted::Nothing,
            };
            if is_known.is_none() {
                return Wanted::Usage;
            }
        }
        Wanted::Run(plan)
    }

    fn random(&self, what: [u64; 4]) -> Rng {
        let mix = |seed: u64, word: u64| (seed ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29);
        Rng::with_seed(what.into_iter().fold(self.seed, mix))
    }

    /// The stream of a worker in one of its lives.
    pub fn worker_random(&self, round: u32, slot: usize, life: u64) -> Rng {
        self.random([1, u64::from(round), slot as u64, life])
    }

    /// The stream from which the acts of a round come.
    pub fn round_random(&self, round: u32) -> Rng {
        self.random([2, u64::from(round), 0, 0])
    }

    /// The next act.
    pub fn act(&self, random: &mut Rng) -> Act {
        // Mostly soon, so that successors die in what they do first, too.
        let after = Duration::from_micros(match random.u32(..10) {
            0..4 => random.u64(..3_000),
            4..9 => random.u64(3_000..30_000),
            _ => random.u64(30_000..150_000),
        });
        let deed = match random.u32(..100) {
            0..80 => Deed::Kill,
            80..90 => Deed::Stop(Duration::from_millis(random.u64(1..80))),
            _ => Deed::KillHolder,
        };
        Act { after, victim: random.usize(..self.workers), deed }
    }

    /// Bytes of a round's regions: no-evict, evicting, cleared.
    pub fn region_bytes(&self, random: &mut Rng) -> [u64; 3] {
        let mut choose = |mib: [u64; 3]| mib[random.usize(..3)] << 20;
        [choose([8, 12, 16]), choose([5, 6, 10]), choose([1, 2, 4])]
    }
}
