//! Take-over times of small and large processes, and what thousands of deaths leave behind.

use std::time::{Duration, Instant};

use cache_core::{lock, participant};
use cache_shm::{Cache, WriteOptions};

use crate::system::{Child, Dir, Raw, now_ns};

const PATIENCE: Duration = Duration::from_secs(20);
/// A key whose stripe's lock is held.
const KEY: &[u8] = b"held";
/// The lock word's bit that says that somebody waits.
const WAITERS: u32 = 1 << 31;

/// Milliseconds from the kill of a process with `resident_bytes` of memory of its own, which
/// held a stripe's lock, to the end of the write that waited for it; `samples` times.
pub fn take_over_ms(resident_bytes: usize, samples: usize) -> Vec<f64> {
    let dir = Dir::new();
    let builder = Cache::builder(Some("a")).dir(dir.path());
    drop(builder.clone().size(4 << 20).create().expect("a region"));
    let raw = Raw::open(&dir.path().join("a"));
    let stripe = raw.stripe_of(KEY);
    let lock_word = || raw.with_lock(stripe, |word| word.load(std::sync::atomic::Ordering::SeqCst));
    let wait_for = |is_so: &dyn Fn() -> bool| {
        let started = Instant::now();
        while !is_so() {
            assert!(started.elapsed() < PATIENCE, "a child does not come to its work");
            std::thread::sleep(Duration::from_micros(100));
        }
    };
    let once = || {
        let holder = Child::fork(|| {
            // Not zeros, which the kernel might share.
            let memory = vec![1u8; resident_bytes];
            let cache = builder.clone().open().expect("the region");
            let map = cache.map().expect("attached");
            let owner = map.owner().expect("a participant");
            raw.with_lock(stripe, |word| lock::acquire(word, owner, map.host(), u64::MAX)).expect("the lock");
            loop {
                std::hint::black_box(&memory);
                // SAFETY: a plain system call, that sleeps until a signal ends the process.
                unsafe { libc::pause() };
            }
        });
        wait_for(&|| lock_word() != 0);
        let (done, done_in_child) = rustix::pipe::pipe().expect("a pipe");
        let waiter = Child::fork(|| {
            let cache = builder.clone().open().expect("the region");
            let options = WriteOptions { timeout_ns: 10_000_000_000, ..cache.options() };
            cache.set_with(KEY, b"value", &options).expect("a write");
            rustix::io::write(&done_in_child, &now_ns().to_le_bytes()).expect("a pipe with a reader");
        });
        drop(done_in_child);
        wait_for(&|| lock_word() & WAITERS != 0);
        let killed_ns = now_ns();
        holder.kill().expect("a holder that waits for death");
        let mut written = [0; 8];
        assert_eq!(rustix::io::read(&done, &mut written), Ok(8), "the waiter did not write");
        assert_eq!(waiter.join().and_then(|status| status.exit_status()), Some(0));
        u64::from_le_bytes(written).saturating_sub(killed_ns) as f64 / 1e6
    };
    (0..samples).map(|_| once()).collect()
}

/// The keys that the processes of [`cycles`] write in turn, the bytes that each writes, and
/// the region that they write to.
const CYCLE_KEYS: u64 = 100;
const CYCLE_VALUE: [u8; 5000] = [1; 5000];
const CYCLE_REGION_BYTES: u64 = 2 << 20;

/// The fewest processes for which [`cycles`] can tell a leak from a region that fills: half of
/// them fill it.
pub const CYCLES_MIN: u64 = 2 * CYCLE_REGION_BYTES.div_ceil(CYCLE_VALUE.len() as u64);

/// `count` processes attach, write, and are killed, one after the other. Says what they left.
///
/// # Errors
/// What they left behind and should not have.
pub fn cycles(count: u64) -> Result<String, String> {
    assert!(count >= CYCLES_MIN, "half of the processes fill the region");
    let dir = Dir::new();
    let builder = Cache::builder(Some("a")).dir(dir.path());
    let path = dir.path().join("a");
    drop(builder.clone().size(CYCLE_REGION_BYTES).create().expect("a region"));
    let started = Instant::now();
    let mut blocks = 0;
    for number in 0..count {
        let (ready, ready_in_child) = rustix::pipe::pipe().expect("a pipe");
        let child = Child::fork(|| {
            let cache = builder.clone().open().expect("the region");
            cache.set(&(number % CYCLE_KEYS).to_le_bytes(), &CYCLE_VALUE).expect("a write");
            // A pin, which its death must take along.
            let view = cache.view(&(number % CYCLE_KEYS).to_le_bytes()).expect("a view");
            rustix::io::write(&ready_in_child, b"!").expect("a pipe with a reader");
            loop {
                std::hint::black_box(&view);
                // SAFETY: a plain system call, that sleeps until a signal ends the process.
                unsafe { libc::pause() };
            }
        });
        drop(ready_in_child);
        if rustix::io::read(&ready, &mut [0; 1]) != Ok(1) {
            return Err(format!("process {number} ended before it was ready"));
        }
        child.kill()?;
        if number == count / 2 {
            blocks = allocated_bytes(&path);
        }
    }
    let took = started.elapsed();
    let cache = builder.open().map_err(|error| error.to_string())?;
    let stats = cache.stats().map_err(|error| error.to_string())?;
    let raw = Raw::open(&path);
    let used = (0..raw.geometry.participant_count)
        .filter(|index| participant::generation(&raw.region(), &raw.geometry, *index) != 0)
        .count();
    let grown = allocated_bytes(&path).saturating_sub(blocks);
    let report = cache.validate().map_err(|error| error.to_string())?;
    let left = format!(
        "{used} slots ever used, {} pins, {} participant, {grown} bytes more since half of them, files {:?}, {} keys",
        stats.pins,
        stats.participants,
        dir.names(),
        stats.items,
    );
    let is_clean = (used, stats.pins, stats.participants, grown) == (1, 0, 1, 0)
        && dir.names() == ["a"]
        && stats.items == CYCLE_KEYS
        && report.is_clean();
    if is_clean { Ok(format!("{left}; {:.1} s", took.as_secs_f64())) } else { Err(format!("{left}; {report:?}")) }
}

fn allocated_bytes(path: &std::path::Path) -> u64 {
    rustix::fs::stat(path).map_or(0, |stat| stat.st_blocks as u64 * 512)
}
