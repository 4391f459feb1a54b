//! The traced process, and how it is stepped.

use std::ffi::c_int;
use std::os::fd::AsRawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::Command;

use crate::create;
use crate::image::Dir;
use crate::scenario::{Prepared, Ready, Scenario};

/// First argument of the traced process.
pub const TRACEE: &str = "--tracee";
/// What the traced process is told to do when only tracing itself is tried.
const PROBE: &str = "@probe";
/// Instructions after which a scenario is given up as endless.
const STEPS_MAX: u64 = 20_000_000;

/// The instruction `syscall`, as a little-endian number.
#[cfg(target_arch = "x86_64")]
const SYSCALL: u16 = 0x050f;

/// The traced process: attaches, stops, performs the operation, stops.
pub fn serve(arguments: &[String]) {
    let [scenario, number, dir, name] = arguments else { panic!("{TRACEE} SCENARIO NUMBER DIRECTORY NAME") };
    if scenario == PROBE {
        return stop();
    }
    if scenario == create::MAKER {
        return create::serve(Path::new(dir), name);
    }
    let scenario = Scenario::named(scenario);
    let number = number.parse().expect("a number");
    let dir = Path::new(dir);
    let mut ready = scenario.ready(dir, name).expect("a sound region");
    between_marks(&scenario, dir, name, &mut ready, number);
}

fn between_marks(scenario: &Scenario, dir: &Path, name: &str, ready: &mut Ready, number: u64) {
    stop();
    scenario.perform(dir, name, ready, number);
    stop();
}

/// Asks to be traced and stops until the tracer goes on.
pub fn stop() {
    // SAFETY: plain system calls; the first fails harmlessly from the second call on.
    unsafe {
        libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0);
        libc::raise(libc::SIGSTOP);
    }
}

/// A process that is stepped; killed when it goes out of scope.
pub struct Tracee {
    pid: c_int,
    /// What this process holds as its parent.
    _ready: Ready,
}

/// How a step ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Stop {
    /// After one instruction.
    Stepped,
    /// At a mark of the traced process.
    Marked,
    /// It ended.
    Ended,
}

impl Tracee {
    /// Starts the traced process with these arguments and lets it come to its first mark.
    pub fn start(arguments: &[&str]) -> Result<Tracee, String> {
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        // A trace of a panic would be millions of steps.
        command.args(arguments).env("RUST_BACKTRACE", "0");
        let child = command.spawn().map_err(|error| error.to_string())?;
        Tracee { pid: child.id() as c_int, _ready: Ready::default() }.at_mark()
    }

    /// A child that is forked from this process, which attached to the region `live` before.
    fn forked(dir: &Dir, scenario: &Scenario, number: u64) -> Result<Tracee, String> {
        let mut ready = scenario.ready(dir.path(), "live")?;
        // SAFETY: no other thread is at work here; the child does the operation and leaves.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            let perform = || between_marks(scenario, dir.path(), "live", &mut ready, number);
            let code = i32::from(catch_unwind(AssertUnwindSafe(perform)).is_err());
            // SAFETY: leaves without running what the parent registered for its exit.
            unsafe { libc::_exit(code) };
        }
        if pid < 0 {
            return Err(format!("fork: {}", std::io::Error::last_os_error()));
        }
        Tracee { pid, _ready: ready }.at_mark()
    }

    fn at_mark(self) -> Result<Tracee, String> {
        match self.wait()? {
            Some(Stop::Marked) => Ok(self),
            stop => Err(format!("the traced process: {stop:?} before its mark")),
        }
    }

    /// The process of a scenario, attached to the region `live`.
    pub fn of(dir: &Dir, scenario: &Scenario, prepared: &Prepared) -> Result<Tracee, String> {
        dir.put("live", &prepared.image);
        if scenario.is_inheriting() {
            return Tracee::forked(dir, scenario, prepared.number);
        }
        let path = dir.path().to_str().expect("a path of ours");
        Tracee::start(&[TRACEE, scenario.name, &prepared.number.to_string(), path, "live"])
    }

    /// How it stopped; `None` when a child of its own ended, before the next instruction.
    fn wait(&self) -> Result<Option<Stop>, String> {
        let mut status: c_int = 0;
        // SAFETY: our own child; `status` is a valid place.
        if unsafe { libc::waitpid(self.pid, &mut status, libc::__WALL | libc::WUNTRACED) } != self.pid {
            return Err(format!("waitpid: {}", std::io::Error::last_os_error()));
        }
        if libc::WIFSTOPPED(status) {
            match libc::WSTOPSIG(status) {
                libc::SIGTRAP => Ok(Some(Stop::Stepped)),
                libc::SIGSTOP => Ok(Some(Stop::Marked)),
                libc::SIGCHLD => Ok(None),
                signal => Err(format!("the traced process got signal {signal}")),
            }
        } else {
            Ok(Some(Stop::Ended))
        }
    }

    fn request(&self, request: libc::c_uint) -> Result<Stop, String> {
        loop {
            // SAFETY: our own stopped child.
            if unsafe { libc::ptrace(request, self.pid, 0, 0) } != 0 {
                return Err(format!("ptrace: {}", std::io::Error::last_os_error()));
            }
            if let Some(stop) = self.wait()? {
                return Ok(stop);
            }
        }
    }

    /// One instruction.
    pub fn step(&self) -> Result<Stop, String> {
        self.request(libc::PTRACE_SINGLESTEP)
    }

    /// True if the next instruction is a system call. Elsewhere than on x86-64 nobody knows.
    #[cfg(not(target_arch = "x86_64"))]
    pub fn is_at_system_call(&self) -> Result<bool, String> {
        Ok(false)
    }

    /// True if the next instruction is a system call.
    #[cfg(target_arch = "x86_64")]
    pub fn is_at_system_call(&self) -> Result<bool, String> {
        // SAFETY: plain words; the kernel fills them in.
        let mut registers: libc::user_regs_struct = unsafe { std::mem::zeroed() };
        // SAFETY: our own stopped child, and a place for its registers.
        if unsafe { libc::ptrace(libc::PTRACE_GETREGS, self.pid, 0, &raw mut registers) } != 0 {
            return Err(format!("ptrace: {}", std::io::Error::last_os_error()));
        }
        // SAFETY: as above; reads a word of the child, or fails with -1.
        let word = unsafe { libc::ptrace(libc::PTRACE_PEEKTEXT, self.pid, registers.rip, 0) };
        Ok(word as u16 == SYSCALL)
    }

    /// To the next mark or the end.
    pub fn go_on(&self) -> Result<Stop, String> {
        self.request(libc::PTRACE_CONT)
    }

    /// `count` instructions; false if the mark came first.
    pub fn step_many(&self, count: u64) -> Result<bool, String> {
        for _ in 0..count {
            match self.step()? {
                Stop::Stepped => {}
                Stop::Marked => return Ok(false),
                Stop::Ended => return Err("the traced process ended".into()),
            }
        }
        Ok(true)
    }

    /// `kill -9`, and its end awaited.
    pub fn kill(self) {
        drop(self);
    }
}

impl Drop for Tracee {
    fn drop(&mut self) {
        let mut status = 0;
        // SAFETY: our own child, which nobody has waited for unless it had ended.
        unsafe {
            libc::kill(self.pid, libc::SIGKILL);
            libc::waitpid(self.pid, &mut status, libc::__WALL);
        }
    }
}

/// Whether this system lets a process trace its child.
pub fn is_allowed() -> bool {
    Tracee::start(&[TRACEE, PROBE, "0", "-", "-"]).is_ok_and(|tracee| tracee.step() == Ok(Stop::Stepped))
}

/// The region after the operation, undisturbed.
pub fn undisturbed(dir: &Dir, scenario: &Scenario, prepared: &Prepared) -> Result<Vec<u8>, String> {
    let tracee = Tracee::of(dir, scenario, prepared)?;
    match tracee.go_on()? {
        Stop::Marked => Ok(dir.take("live")),
        stop => Err(format!("the operation: {stop:?}")),
    }
}

/// Steps through the operation; `visit` gets the number of the instruction, that of the
/// image, and the bytes. Returns the number of instructions.
pub fn images(
    dir: &Dir,
    scenario: &Scenario,
    prepared: &Prepared,
    mut visit: impl FnMut(u64, usize, &[u8]) -> Result<(), String>,
) -> Result<u64, String> {
    let tracee = Tracee::of(dir, scenario, prepared)?;
    let live = Live::map(dir)?;
    let mut last = live.bytes().to_vec();
    let mut number = 0;
    for step in 1..STEPS_MAX {
        let stop = tracee.step()?;
        if live.bytes() != last {
            last.copy_from_slice(live.bytes());
            visit(step, number, &last)?;
            number += 1;
        }
        match stop {
            Stop::Stepped => {}
            Stop::Marked => return Ok(step),
            Stop::Ended => return Err("the traced process ended".into()),
        }
    }
    Err("the operation does not end".into())
}

/// The region after a real kill at this instruction; `None` if the operation was over.
pub fn killed_after(
    dir: &Dir,
    scenario: &Scenario,
    prepared: &Prepared,
    steps: u64,
) -> Result<Option<Vec<u8>>, String> {
    let tracee = Tracee::of(dir, scenario, prepared)?;
    let is_inside = tracee.step_many(steps)?;
    tracee.kill();
    Ok(is_inside.then(|| dir.take("live")))
}

/// The region of the traced process, seen from outside.
struct Live {
    base: *const u8,
    bytes: usize,
}

impl Live {
    fn map(dir: &Dir) -> Result<Live, String> {
        let file = std::fs::File::open(dir.path().join("live")).map_err(|error| error.to_string())?;
        let bytes = file.metadata().map_err(|error| error.to_string())?.len() as usize;
        // SAFETY: a new read-only mapping of a file that nobody shortens.
        let base =
            unsafe { libc::mmap(std::ptr::null_mut(), bytes, libc::PROT_READ, libc::MAP_SHARED, file.as_raw_fd(), 0) };
        if base == libc::MAP_FAILED { Err("mmap".into()) } else { Ok(Live { base: base.cast(), bytes }) }
    }

    /// The bytes, while the traced process stands still.
    fn bytes(&self) -> &[u8] {
        // SAFETY: mapped, and nobody writes between two steps.
        unsafe { std::slice::from_raw_parts(self.base, self.bytes) }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        // SAFETY: mapped in `map`.
        unsafe { libc::munmap(self.base.cast_mut().cast(), self.bytes) };
    }
}
