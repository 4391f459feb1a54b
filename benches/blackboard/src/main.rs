//! iceoryx2's blackboard beside the cache: `cache-bench-blackboard [--smoke] [--seed N]`.
//!
//! A blackboard has its keys and the types of its values from its creation on, one writer,
//! and no eviction, so it is no cache. What can be compared is the read of a value of 100
//! bytes: found by its key each time, and through a handle that was found before.

use std::hint::black_box;
use std::time::Duration;

use cache_benches::measure::{Relation, Row, Stopwatch, take_turns};
use cache_benches::subjects::{Region, Shared, VALUE_BYTES, fill, read};
use iceoryx2::prelude::*;

type Value = [u8; VALUE_BYTES];

/// More take the blackboard minutes to create.
const KEYS: u64 = 1_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (mut smoke, mut seed) = (false, 20_261_122);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--smoke" => smoke = true,
            "--seed" => seed = arguments.next().ok_or("--seed wants a number")?.parse()?,
            _ => return Err("usage: cache-bench-blackboard [--smoke] [--seed N]".into()),
        }
    }
    let (keys, operations, turns) = if smoke { (100, 1_000, 2) } else { (KEYS, 400_000, 25) };

    set_log_level(LogLevel::Error);
    let node = NodeBuilder::new().create::<ipc::Service>()?;
    let name = format!("cache-bench-{}", std::process::id());
    let creator = node.service_builder(&name.as_str().try_into()?).blackboard_creator::<u64>();
    let service =
        (0..keys).fold(creator, |creator, key| creator.add::<Value>(key, [key as u8; VALUE_BYTES])).create()?;
    let reader = service.reader_builder().create()?;
    let handles = (0..keys).map(|key| reader.entry::<Value>(&key)).collect::<Result<Vec<_>, _>>()?;

    let region = Region::for_keys("blackboard", keys);
    let shared = Shared(region.cache.clone());
    fill(&shared, keys, seed);
    let timed = |turn: u64, each: &dyn Fn(u64)| -> Duration {
        let mut random = fastrand::Rng::with_seed(seed ^ turn);
        let started = Stopwatch::start();
        for _ in 0..operations {
            each(random.u64(..keys));
        }
        started.elapsed()
    };
    let by_key = |key: u64| {
        let handle = reader.entry::<Value>(&key).expect("the key is there from the creation on");
        black_box(*handle.get());
    };
    let by_handle = |key: u64| {
        black_box(*handles[key as usize].get());
    };
    let ways: [(&str, &dyn Fn(u64)); 2] = [("found by its key", &by_key), ("through a handle", &by_handle)];
    for (way, each) in ways {
        let turns = take_turns(
            turns,
            operations,
            |turn| read(&shared, keys, operations, seed ^ turn),
            |turn| timed(turn, each),
        );
        let title = format!("Rust get 100 B, {keys} keys / iceoryx2 blackboard {way}");
        let detail = turns.medians("cache", "blackboard");
        let mut line = Row::of_ratios(&title, &turns.ratios(), Relation::Shown, 0.0, detail).to_json();
        line["group"] = "blackboard".into();
        println!("{line}");
    }
    Ok(())
}
