//! Take-overs where who is alive is hard to tell, or who takes over dies too.

use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use cache_core::layout::{participant as slot, stripe};
use cache_core::{Owner, lock};
use cache_shm::{Builder, Cache, Destination, Error, Meta, Result, WriteOptions};
use rapidhash::v3::{RapidSecrets, rapidhash_v3_seeded};
use rustix::process::Signal;

use crate::support::{DEADLINE, Dir, Peer, Raw, fork, is_root, join, listen, say, skip};

/// Bits of a lock word beside its owner.
const WAITERS: u32 = 1 << 31;
const RECOVERING: u32 = 1 << 30;
/// Keys that lie in every stripe of a small region.
const KEYS: u32 = 400;

fn key(number: u32) -> [u8; 4] {
    number.to_le_bytes()
}

fn region(dir: &Dir) -> Cache {
    let cache = dir.region("a").size(2 << 20).create().unwrap();
    for number in 0..KEYS {
        cache.set(&key(number), b"before").unwrap();
    }
    cache
}

fn owner(cache: &Cache) -> Owner {
    cache.map().unwrap().owner().unwrap()
}

fn write(cache: &Cache, number: u32, timeout: Duration) -> Result<u64> {
    let options = WriteOptions { timeout_ns: timeout.as_nanos() as u64, ..cache.options() };
    cache.set_with(&key(number), b"after", &options)
}

fn write_everywhere(cache: &Cache, timeout: Duration) -> Result<()> {
    (0..KEYS).try_for_each(|number| write(cache, number, timeout).map(drop))
}

fn stripe_of(raw: &Raw, key: &[u8]) -> u32 {
    let hash = rapidhash_v3_seeded(key, &RapidSecrets::seed(raw.geometry.seed));
    (hash >> 54) as u32 & (raw.geometry.stripe_count - 1)
}

fn lock_offset(raw: &Raw, index: u32) -> u64 {
    raw.geometry.stripe_offset(index) + stripe::LOCK
}

fn release_every_stripe(raw: &Raw, host: &impl cache_shm::Host) {
    (0..raw.geometry.stripe_count).for_each(|index| lock::release(raw.region().word32(lock_offset(raw, index)), host));
}

/// Waits until somebody sleeps for the lock of a stripe.
fn wait_for_a_waiter(raw: &Raw, stripe: u32) {
    let started = Instant::now();
    // Acquire: nothing depends on it; the wait is for the bit alone.
    while raw.region().word32(lock_offset(raw, stripe)).load(Ordering::Acquire) & WAITERS == 0 {
        assert!(started.elapsed() < DEADLINE, "nobody waits");
        std::thread::yield_now();
    }
}

/// Role: takes every stripe's lock and gives them back when told.
pub fn hold_and_release(region: Builder, path: &Path) {
    let cache = region.open().unwrap();
    let raw = Raw::open(path);
    raw.take_every_stripe(owner(&cache));
    say("held");
    listen();
    release_every_stripe(&raw, cache.map().unwrap().host());
    say("released");
    listen();
}

/// Role: writes and waits as long as it takes.
pub fn wait(region: Builder) {
    let cache = region.open().unwrap();
    say("waiting");
    let written = write(&cache, 7, 2 * DEADLINE);
    say(if written.is_ok() { "written" } else { "refused" });
    listen();
}

#[test]
fn a_waiter_that_is_killed_leaves_the_lock_to_its_holder_and_to_who_comes_next() {
    let dir = Dir::new();
    let cache = region(&dir);
    let raw = Raw::open(&dir.file("a"));
    let mut holder = Peer::start("hold_and_release", &dir, "a");
    assert_eq!(holder.hear(), "held");
    let mut waiters: Vec<Peer> = (0..3).map(|_| Peer::start("wait", &dir, "a")).collect();
    waiters.iter_mut().for_each(|waiter| assert_eq!(waiter.hear(), "waiting"));
    wait_for_a_waiter(&raw, stripe_of(&raw, &key(7)));
    waiters.pop().unwrap().kill();
    waiters.pop().unwrap().kill();
    let busy = write(&cache, 7, Duration::from_millis(20)).unwrap_err();
    assert!(matches!(busy, Error::Busy { .. }), "the holder lives: {busy:?}");
    holder.tell("release");
    assert_eq!(holder.hear(), "released");
    let mut waiter = waiters.pop().unwrap();
    assert_eq!(waiter.hear(), "written", "the waiter that is left gets its turn");
    write_everywhere(&cache, Duration::from_secs(1)).unwrap();
    let taken = cache.stats().unwrap().take_overs;
    assert_eq!(taken, 0, "nobody died with a lock");
    waiter.finish();
    holder.finish();
}

/// A destination that says so when it is asked for the buffer, and goes no further.
struct Half(Vec<MaybeUninit<u8>>);

impl Destination for Half {
    fn buffer(&mut self, meta: &Meta) -> Result<&mut [MaybeUninit<u8>]> {
        self.0.resize(meta.value_bytes, MaybeUninit::uninit());
        say("reading");
        listen();
        Ok(&mut self.0)
    }
}

/// Role: stops in the middle of reading the value of the key that is named.
pub fn read_half(region: Builder, name: &str) {
    let cache = region.open().unwrap();
    cache.get_into(name.as_bytes(), &mut Half(Vec::new())).unwrap();
}

#[test]
fn a_reader_that_is_killed_in_the_middle_of_a_value_leaves_nothing_behind() {
    let dir = Dir::new();
    let cache = dir.region("a").size(2 << 20).create().unwrap();
    // One that is copied as it is, one that is pinned meanwhile, one of several segments.
    for (name, bytes) in [("small", 1000), ("pinned", 20_000), ("run", 100_000)] {
        cache.set(name.as_bytes(), &vec![3; bytes]).unwrap();
        let mut reader = Peer::start("read_half", &dir, name);
        assert_eq!(reader.hear(), "reading");
        let pins = cache.stats().unwrap().pins;
        assert_eq!(pins, u64::from(bytes >= cache_shm::COPY_BYTES_MAX), "{name}");
        for number in 0..KEYS {
            cache.set(&key(number), &[4; 8000]).unwrap();
        }
        assert_eq!(cache.stats().unwrap().pins, pins, "{name}: the reader lives");
        reader.kill();
        // Whoever needs what the dead one pinned, or takes its slot, ends the pin.
        let mut next = Peer::start("attach", &dir, "a");
        assert_eq!(next.hear(), "attached");
        assert_eq!(cache.stats().unwrap().pins, 0, "{name}");
        next.finish();
        for number in 0..KEYS {
            cache.set(&key(number), &[4; 8000]).unwrap();
        }
        let stats = cache.stats().unwrap();
        assert_eq!(stats.condemned_bytes, 0, "{name}: all of the space is in use again");
        assert!(cache.validate().unwrap().is_clean());
    }
}

/// Role: says which word names it in locks.
pub fn name_owner(region: Builder) {
    let cache = region.open().unwrap();
    say(&owner(&cache).word().to_string());
    listen();
}

#[test]
fn a_process_that_is_killed_while_it_takes_over_is_taken_over_alike() {
    let dir = Dir::new();
    let cache = region(&dir);
    let raw = Raw::open(&dir.file("a"));
    for waiters in [0, WAITERS] {
        let mut recoverer = Peer::start("name_owner", &dir, "a");
        let word = recoverer.hear().parse::<u32>().unwrap() | RECOVERING | waiters;
        for index in 0..raw.geometry.stripe_count {
            let before = raw.region().word32(lock_offset(&raw, index)).swap(word, Ordering::AcqRel);
            assert_eq!(before, 0);
        }
        let busy = write_everywhere(&cache, Duration::from_millis(50)).unwrap_err();
        assert!(matches!(busy, Error::Busy { .. }), "it lives, and takes over itself: {busy:?}");
        let before = cache.stats().unwrap().take_overs;
        recoverer.kill();
        write_everywhere(&cache, Duration::from_secs(1)).unwrap();
        let taken = cache.stats().unwrap().take_overs - before;
        assert_eq!(taken, u64::from(raw.geometry.stripe_count), "each lock, once");
        for index in 0..raw.geometry.stripe_count {
            assert_eq!(raw.region().word32(lock_offset(&raw, index)).load(Ordering::Acquire), 0, "given back");
        }
    }
    assert!(cache.validate().unwrap().is_clean());
}

/// Role: takes the lock of the stripe of key 7 and gives it back when told.
pub fn hold_one(region: Builder, path: &Path) {
    let cache = region.open().unwrap();
    let raw = Raw::open(path);
    let host = cache.map().unwrap().host();
    let region = raw.region();
    let word = region.word32(lock_offset(&raw, stripe_of(&raw, &key(7))));
    lock::acquire(word, owner(&cache), host, 0).unwrap();
    say("held");
    listen();
    // It must still be ours: the release of a lock that was stolen would free another's.
    assert_eq!(word.load(Ordering::Acquire) & !WAITERS, owner(&cache).word());
    lock::release(word, host);
    say("released");
    listen();
}

#[test]
fn a_holder_stopped_for_five_seconds_delays_the_writers_of_one_stripe_and_nobody_else() {
    const TIMEOUT: Duration = Duration::from_millis(200);
    let dir = Dir::new();
    let cache = region(&dir);
    let raw = Raw::open(&dir.file("a"));
    let held = stripe_of(&raw, &key(7));
    let mut holder = Peer::start("hold_one", &dir, "a");
    assert_eq!(holder.hear(), "held");
    holder.signal(Signal::STOP);
    let started = Instant::now();
    let mut refused = 0;
    while started.elapsed() < Duration::from_secs(5) {
        let asked = Instant::now();
        let busy = write(&cache, 7, TIMEOUT).unwrap_err();
        let waited = asked.elapsed();
        assert!(matches!(busy, Error::Busy { waited_ms } if waited_ms >= 200), "{busy:?}");
        // Late only by what a busy machine makes of it, and never near a take-over's patience.
        assert!(waited >= TIMEOUT && waited < TIMEOUT + Duration::from_secs(2), "{waited:?}");
        refused += 1;
        for number in 0..KEYS {
            let found = cache.get(&key(number)).unwrap().unwrap();
            if stripe_of(&raw, &key(number)) == held {
                assert_eq!(found, b"before");
            } else {
                // Another stripe's lock is free: no wait is needed.
                write(&cache, number, Duration::ZERO).unwrap();
            }
        }
    }
    assert!(refused >= 2);
    assert_eq!(cache.stats().unwrap().take_overs, 0, "nobody was robbed");
    holder.signal(Signal::CONT);
    holder.tell("release");
    assert_eq!(holder.hear(), "released");
    write_everywhere(&cache, Duration::from_secs(1)).unwrap();
    holder.finish();
}

/// Runs `body` in a child that is process 1 of a pid namespace of its own, says the child's
/// process id outside, and waits for its end, however it ends. Says "refused" if it may not.
fn in_own_namespace(body: impl FnOnce()) {
    // SAFETY: a plain system call; it concerns the children of this process only.
    if unsafe { libc::unshare(libc::CLONE_NEWPID) } != 0 {
        say("refused");
        return;
    }
    let child = fork(|| {
        assert_eq!(std::process::id(), 1);
        // SAFETY: a plain system call: the child ends with its parent.
        unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
        // The parent speaks first.
        assert_eq!(listen(), "go");
        body();
    });
    say(&child.to_string());
    let mut status = 0;
    // SAFETY: waits for our own child.
    unsafe { libc::waitpid(child, &raw mut status, 0) };
}

/// Role: takes every lock as process 1.
pub fn hold_as_first(region: Builder, path: &Path) {
    in_own_namespace(|| hold(&region, path));
}

fn hold(region: &Builder, path: &Path) {
    let cache = region.clone().open().unwrap();
    Raw::open(path).take_every_stripe(owner(&cache));
    say("held");
    listen();
    std::mem::forget(cache);
}

/// Role: writes as process 1, each time it is told.
pub fn write_as_first(region: Builder) {
    in_own_namespace(|| {
        let cache = region.open().unwrap();
        say("attached");
        while listen() == "write" {
            let written = write_everywhere(&cache, Duration::from_millis(200));
            say(match written {
                Ok(()) => "written",
                Err(Error::Busy { .. }) => "busy",
                Err(_) => "failed",
            });
        }
    });
}

/// Starts a role that runs in a pid namespace of its own, as process 1; its process id outside.
fn start_as_first(test: &str, role: &str, dir: &Dir) -> Option<(Peer, rustix::process::Pid)> {
    if !is_root() {
        skip(test, "only root can make pid namespaces");
        return None;
    }
    let mut peer = Peer::start(role, dir, "a");
    let answer = peer.hear();
    let Ok(pid) = answer.parse() else {
        skip(test, "a pid namespace was refused");
        return None;
    };
    peer.tell("go");
    Some((peer, rustix::process::Pid::from_raw(pid).unwrap()))
}

#[test]
fn a_holder_and_a_waiter_that_are_both_process_1_are_told_apart() {
    let test = "a_holder_and_a_waiter_that_are_both_process_1_are_told_apart";
    let dir = Dir::new();
    let cache = region(&dir);
    let Some((mut writer, _)) = start_as_first(test, "write_as_first", &dir) else { return };
    assert_eq!(writer.hear(), "attached");
    let Some((mut holder, holder_pid)) = start_as_first(test, "hold_as_first", &dir) else { return };
    assert_eq!(holder.hear(), "held");
    writer.tell("write");
    assert_eq!(writer.hear(), "busy", "the holder lives, though its number is the writer's own");
    rustix::process::kill_process(holder_pid, Signal::KILL).unwrap();
    holder.finish();
    // Its process is gone from the table, and process 1 lives on: it is the writer.
    writer.tell("write");
    assert_eq!(writer.hear(), "written", "the holder is dead, though its number lives");
    writer.tell("end");
    writer.finish();
    assert!(cache.validate().unwrap().is_clean());
}

#[test]
fn a_process_id_that_lives_again_does_not_make_a_dead_holder_look_alive() {
    let dir = Dir::new();
    let cache = region(&dir);
    let raw = Raw::open(&dir.file("a"));
    let mut holder = Peer::start("hold", &dir, "a");
    assert_eq!(holder.hear(), "held");
    let held = raw.region().word32(lock_offset(&raw, 0)).load(Ordering::Acquire);
    let index = Owner::from_word(held).unwrap().index();
    holder.kill();
    // What the slot says for people is made to name a process that lives: this one.
    let (dead, own) = (raw.geometry.participant_offset(index), raw.geometry.participant_offset(owner(&cache).index()));
    for word in [slot::PID, slot::START_TIME] {
        let alive = raw.region().word(own + word).load(Ordering::Acquire);
        raw.region().word(dead + word).store(alive, Ordering::Release);
    }
    write_everywhere(&cache, Duration::from_secs(1)).unwrap();
}

/// Role: in a pid namespace of its own, a process takes every lock and is killed, and
/// another one gets its number.
pub fn reuse_pid(region: Builder, path: &Path) {
    let forever = || loop {
        // SAFETY: sleeps until a signal ends the process.
        unsafe { libc::pause() };
    };
    in_own_namespace(|| {
        let (ready, tell) = rustix::pipe::pipe().unwrap();
        let holder = fork(|| {
            let cache = region.open().unwrap();
            Raw::open(path).take_every_stripe(owner(&cache));
            rustix::io::write(&tell, b"!").unwrap();
            forever();
        });
        assert_eq!(rustix::io::read(&ready, &mut [0; 1]), Ok(1));
        // SAFETY: kills and waits for our own child.
        unsafe {
            libc::kill(holder, libc::SIGKILL);
            libc::waitpid(holder, std::ptr::null_mut(), 0);
        }
        if std::fs::write("/proc/sys/kernel/ns_last_pid", (holder - 1).to_string()).is_err() {
            say("refused");
            return;
        }
        let other = fork(forever);
        say(if other == holder { "reused" } else { "another" });
        listen();
    });
}

#[test]
fn a_process_id_that_the_kernel_gives_out_again_does_not_make_a_dead_holder_look_alive() {
    let test = "a_process_id_that_the_kernel_gives_out_again_does_not_make_a_dead_holder_look_alive";
    let dir = Dir::new();
    let cache = region(&dir);
    let Some((mut peer, _)) = start_as_first(test, "reuse_pid", &dir) else { return };
    match &*peer.hear() {
        "reused" => {}
        "refused" => return skip(test, "the next process id cannot be chosen here"),
        answer => panic!("{answer}: nobody else forks in that namespace"),
    }
    write_everywhere(&cache, Duration::from_secs(1)).unwrap();
    peer.tell("end");
    peer.finish();
}

/// Role: takes every stripe's lock and becomes another program, which says so and waits.
pub fn exec(region: Builder, path: &Path) {
    let cache = region.open().unwrap();
    cache.set(b"viewed", &[5; 20_000]).unwrap();
    let _view = cache.view(b"viewed").unwrap().unwrap();
    Raw::open(path).take_every_stripe(owner(&cache));
    say("held");
    listen();
    panic!("{}", std::process::Command::new("sh").args(["-c", "echo @another program; exec cat"]).exec());
}

#[test]
fn exec_while_attached_frees_the_slot_and_what_it_held() {
    let dir = Dir::new();
    let cache = region(&dir);
    let mut peer = Peer::start("exec", &dir, "a");
    assert_eq!(peer.hear(), "held");
    let busy = write_everywhere(&cache, Duration::from_millis(50)).unwrap_err();
    assert!(matches!(busy, Error::Busy { .. }), "{busy:?}");
    peer.tell("exec");
    assert_eq!(peer.hear(), "another program", "the process lives, and is another program");
    write_everywhere(&cache, Duration::from_secs(1)).unwrap();
    let mut next = Peer::start("attach", &dir, "a");
    assert_eq!(next.hear(), "attached");
    let stats = cache.stats().unwrap();
    assert_eq!((stats.participants, stats.pins), (2, 0), "the slot and its pin were free to take");
    next.finish();
    peer.finish();
}

/// Role: takes every stripe's lock, then opens, locks and closes the region's file in every
/// way that gives up the locks of a process that are not bound to a description.
pub fn hold_and_close(region: Builder, path: &Path) {
    let cache = region.open().unwrap();
    Raw::open(path).take_every_stripe(owner(&cache));
    for _ in 0..10 {
        let file = std::fs::File::options().read(true).write(true).open(path).unwrap();
        // SAFETY: a plain C structure; zeros mean the whole file.
        let mut whole: libc::flock = unsafe { std::mem::zeroed() };
        whole.l_type = libc::F_UNLCK as libc::c_short;
        for command in [libc::F_SETLK, libc::F_OFD_SETLK] {
            // SAFETY: an open descriptor and a structure that outlives the call.
            assert_eq!(unsafe { libc::fcntl(file.as_raw_fd(), command, &raw mut whole) }, 0);
        }
        rustix::fs::flock(&file, rustix::fs::FlockOperation::LockShared).unwrap();
        rustix::fs::flock(&file, rustix::fs::FlockOperation::Unlock).unwrap();
        drop(file.try_clone().unwrap());
    }
    say("closed");
    listen();
    std::mem::forget(cache);
}

#[test]
fn a_process_that_opens_and_closes_the_file_of_its_region_stays_alive() {
    let dir = Dir::new();
    let cache = region(&dir);
    let mut holder = Peer::start("hold_and_close", &dir, "a");
    assert_eq!(holder.hear(), "closed");
    let busy = write_everywhere(&cache, Duration::from_millis(50)).unwrap_err();
    assert!(matches!(busy, Error::Busy { .. }), "{busy:?}");
    // A forked child that closes what it inherited changes nothing either.
    join(fork(|| {
        // SAFETY: this child uses no descriptor any more.
        unsafe { libc::close_range(3, u32::MAX, 0) };
    }));
    let busy = write_everywhere(&cache, Duration::from_millis(50)).unwrap_err();
    assert!(matches!(busy, Error::Busy { .. }), "{busy:?}");
    holder.kill();
    write_everywhere(&cache, Duration::from_secs(1)).unwrap();
}
