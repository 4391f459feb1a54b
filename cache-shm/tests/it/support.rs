//! Directories, peers (other processes) and forked children for the tests.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use cache_core::layout::{header, stripe};
use cache_core::lock::Owner;
use cache_shm::{Builder, Cache};

/// Longer than anything here takes; a test that hangs fails.
pub const DEADLINE: Duration = Duration::from_secs(60);

#[path = "../common/dir.rs"]
mod dir;
#[path = "../common/raw.rs"]
mod raw;
pub use dir::Dir;
pub use raw::Raw;

impl Dir {
    pub fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// Options for the region `name` in this directory.
    pub fn region(&self, name: &str) -> Builder {
        Cache::builder(Some(name)).dir(self.path())
    }
}

pub fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// Says that a test cannot show its promise here. Under `REQUIRE_ALL=1` that is a failure.
pub fn skip(test: &str, why: &str) {
    // Not through `eprintln`, which the test harness would keep to itself.
    std::io::stderr().write_all(format!("SKIP: {test}: {why}\n").as_bytes()).unwrap();
    assert!(std::env::var_os("REQUIRE_ALL").is_none_or(|all| all != "1"), "{test} was skipped: {why}");
}

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Another process: this binary in a role.
pub struct Peer {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Peer {
    pub fn start(role: &str, dir: &Dir, argument: &str) -> Peer {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "support::peer", "--ignored", "--nocapture", "--test-threads=1"])
            .env("CSHM_TEST_ROLE", role)
            .env("CSHM_TEST_DIR", dir.path())
            .env("CSHM_TEST_ARGUMENT", argument)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Peer { child, stdin, stdout }
    }

    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// The next word that the peer says with [`say`].
    pub fn hear(&mut self) -> String {
        let mut line = String::new();
        loop {
            line.clear();
            assert_ne!(self.stdout.read_line(&mut line).unwrap(), 0, "the peer ended without a word");
            if let Some((_, word)) = line.split_once('@') {
                return word.trim_end().to_owned();
            }
        }
    }

    pub fn tell(&mut self, word: &str) {
        writeln!(self.stdin, "{word}").unwrap();
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(self.pid()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// SIGKILL; returns when the process is gone from the table.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Lets the peer end, and makes sure that it ended well.
    pub fn finish(mut self) {
        // A closed pipe is the last word to a peer that listens.
        let rest = std::thread::spawn(move || {
            let mut lines = String::new();
            std::io::Read::read_to_string(&mut self.stdout, &mut lines).unwrap();
            lines
        });
        drop(self.stdin);
        let status = self.child.wait().unwrap();
        assert!(status.success(), "peer: {status}\n{}", rest.join().unwrap());
    }
}

/// In a role: a word to the test.
pub fn say(word: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "@{word}").unwrap();
    out.flush().unwrap();
}

/// In a role: the next word of the test; empty when there will be none.
pub fn listen() -> String {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    line.trim_end().to_owned()
}

/// Runs `body` in a forked child and returns its process id. The child ends with code 0,
/// or 101 if `body` panics; a child that hangs is killed by its alarm.
pub fn fork(body: impl FnOnce()) -> i32 {
    // SAFETY: the child runs `body` and leaves; the C library makes its allocator usable
    // in the child of a threaded process.
    let pid = unsafe { libc::fork() };
    run_in_child(pid, body)
}

/// As [`fork`], but past the C library and its handlers. No other thread allocates now.
pub fn clone(body: impl FnOnce()) -> i32 {
    // SAFETY: as above.
    let pid = unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) } as i32;
    run_in_child(pid, body)
}

fn run_in_child(pid: i32, body: impl FnOnce()) -> i32 {
    assert!(pid >= 0);
    if pid == 0 {
        // SAFETY: plain system calls.
        unsafe { libc::alarm(DEADLINE.as_secs() as u32) };
        let code = if std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)).is_ok() { 0 } else { 101 };
        // SAFETY: leaves without running what the parent registered for its exit.
        unsafe { libc::_exit(code) };
    }
    pid
}

/// Waits for a child of [`fork`] and makes sure that it ended well.
pub fn join(pid: i32) {
    let mut status = 0;
    // SAFETY: waits for our own child.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    assert_eq!(status, 0, "the forked child failed");
}

impl Raw {
    /// Takes every stripe's lock in the name of `owner`, as if it were in the middle of
    /// a write to each.
    pub fn take_every_stripe(&self, owner: Owner) {
        for index in 0..self.geometry.stripe_count {
            let word = self.geometry.stripe_offset(index) + stripe::LOCK;
            assert!(cache_core::lock::try_acquire(self.region().word32(word), owner));
        }
    }
}

/// Changes bytes of a region's file, and makes its checksum right again.
pub fn edit_header(path: &Path, edit: impl FnOnce(&mut [u8])) {
    use std::os::unix::fs::FileExt;
    let file = std::fs::File::options().read(true).write(true).open(path).unwrap();
    let mut page = [0u8; 4096];
    file.read_exact_at(&mut page, 0).unwrap();
    edit(&mut page);
    let checksum = rapidhash::v3::rapidhash_v3(&page[header::VERSION as usize..header::CHECKSUM as usize]);
    page[header::CHECKSUM as usize..][..8].copy_from_slice(&checksum.to_le_bytes());
    file.write_all_at(&page, 0).unwrap();
}

#[test]
#[ignore = "the entry of peers, started by the tests"]
fn peer() {
    let Ok(role) = std::env::var("CSHM_TEST_ROLE") else { return };
    let dir = PathBuf::from(std::env::var_os("CSHM_TEST_DIR").unwrap());
    let argument = std::env::var("CSHM_TEST_ARGUMENT").unwrap();
    let region = |name: &str| Cache::builder(Some(name)).dir(&dir);
    // SAFETY: a plain system call; a peer that hangs is killed.
    unsafe { libc::alarm(2 * DEADLINE.as_secs() as u32) };
    match &*role {
        "create" => crate::creation::race(&region(&argument)),
        "attach" => crate::death::attach(&region(&argument)),
        "hold" => crate::death::hold(region(&argument), &dir.join(&argument)),
        "hold_with_child" => crate::death::hold_with_child(region(&argument), &dir.join(&argument)),
        "view" => crate::death::view(region(&argument)),
        "cycles" => crate::death::cycles(region(&argument)),
        "write_values" => crate::consistency::write_values(region("torn"), &argument),
        "read_values" => crate::consistency::read_values(region("torn")),
        "look" => crate::clocks::look(region(&argument)),
        "increment" => crate::consistency::increment(region("sum")),
        "exchange" => crate::consistency::exchange(region("sum")),
        "threads_and_forks" => crate::forks::threads_and_forks(region(&argument)),
        "cloned_view" => crate::forks::cloned_view(region(&argument)),
        "cloned_among_threads" => crate::forks::cloned_among_threads(region(&argument)),
        "forked_handle" => crate::forks::forked_handle(region(&argument)),
        "viewing_children" => crate::forks::viewing_children(region(&argument)),
        "private" => crate::forks::private(),
        "other_user" => crate::sharing::other_user(region(&argument)),
        "lease_hold" => crate::leases::hold(region(&argument)),
        "lease_wait" => crate::leases::wait(region(&argument)),
        "lease_count" => crate::leases::count(region("a")),
        "fill" => crate::space::fill(region(&argument)),
        "hold_and_release" => crate::takeover::hold_and_release(region(&argument), &dir.join(&argument)),
        "wait" => crate::takeover::wait(region(&argument)),
        "read_half" => crate::takeover::read_half(region("a"), &argument),
        "name_owner" => crate::takeover::name_owner(region(&argument)),
        "hold_one" => crate::takeover::hold_one(region(&argument), &dir.join(&argument)),
        "hold_as_first" => crate::takeover::hold_as_first(region(&argument), &dir.join(&argument)),
        "write_as_first" => crate::takeover::write_as_first(region(&argument)),
        "reuse_pid" => crate::takeover::reuse_pid(region(&argument), &dir.join(&argument)),
        "exec" => crate::takeover::exec(region(&argument), &dir.join(&argument)),
        "hold_and_close" => crate::takeover::hold_and_close(region(&argument), &dir.join(&argument)),
        role => panic!("no such role: {role}"),
    }
}
