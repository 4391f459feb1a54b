//! An installation to compile against, and programs that were compiled against it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// Longest run of one program, in seconds: one that hangs is killed, and fails.
const SECONDS_MAX: &str = "300";

pub const WARNINGS: [&str; 5] = ["-Wall", "-Wextra", "-Wpedantic", "-Werror", "-g"];
pub const SANITIZERS: [&str; 3] =
    ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"];

/// The package's directory.
pub fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub fn tree() -> PathBuf {
    here().join("../..").canonicalize().unwrap()
}

/// The declarations, without comments.
pub fn header() -> String {
    let text = std::fs::read_to_string(here().join("../include/cache_shm.h")).unwrap();
    let without = text.split("/*").map(|piece| piece.split_once("*/").map_or(piece, |(_, code)| code));
    without.collect()
}

pub fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}\n{}", output.status, said(&output));
    output
}

/// What a program printed, on either stream.
pub fn said(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned()).concat()
}

/// Whether `program` can be run; if not, a skip is said, which is a failure where all is
/// required.
pub fn is_there(program: &str, test: &str) -> bool {
    let is_there = Command::new(program).arg("--version").output().is_ok();
    if !is_there {
        skip(test, program);
    }
    is_there
}

/// As [`is_there`] for all that compiling against an installation needs.
pub fn can_compile(test: &str) -> bool {
    ["cc", "c++", "make", "pkg-config", "objdump"].iter().all(|program| is_there(program, test))
}

/// As [`can_compile`], with the sanitizers' libraries.
pub fn can_sanitize(test: &str) -> bool {
    let source = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("empty-{test}.c"));
    std::fs::write(&source, "int main(void) { return 0; }\n").unwrap();
    let compile = |compiler: &str| {
        let mut command = Command::new(compiler);
        command.args(SANITIZERS).arg(&source).arg("-o").arg(source.with_extension("out")).output()
    };
    let can = can_compile(test) && compile("cc").is_ok_and(|output| output.status.success());
    if !can {
        skip(test, "libasan and libubsan");
    }
    can
}

fn skip(test: &str, what: &str) {
    use std::io::Write;
    // Not through `eprintln`, which the test harness would keep to itself.
    std::io::stderr().write_all(format!("SKIP: {test}: no {what}\n").as_bytes()).unwrap();
    assert!(std::env::var_os("REQUIRE_ALL").is_none_or(|all| all != "1"), "{what} is missing");
}

/// `.ci/install` with what this build makes.
pub fn install(prefix: &Path, destdir: &str, arguments: &[&str]) {
    install_by(Command::new(tree().join(".ci/install")).args(arguments), prefix, destdir);
}

/// As [`install`], by somebody with this umask.
pub fn install_with_umask(prefix: &Path, destdir: &str, umask: &str) {
    let script = format!("umask {umask} && exec \"$0\"");
    install_by(Command::new("sh").args(["-c", &script]).arg(tree().join(".ci/install")), prefix, destdir);
}

fn install_by(command: &mut Command, prefix: &Path, destdir: &str) {
    run(command
        .env("PROFILE", "dev")
        .env("CARGO_TARGET_DIR", target())
        .env("PREFIX", prefix)
        .env("DESTDIR", destdir)
        .env_remove("LIBDIR"));
}

/// Where cargo builds: this test's scratch directory is in it.
fn target() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap()
}

/// The installation of this run, made once.
pub fn prefix() -> &'static Path {
    static PREFIX: OnceLock<PathBuf> = OnceLock::new();
    PREFIX.get_or_init(|| {
        let prefix = Path::new(env!("CARGO_TARGET_TMPDIR")).join("installed");
        let _ = std::fs::remove_dir_all(&prefix);
        install(&prefix, "", &[]);
        prefix
    })
}

/// What pkg-config says of the installation at `prefix`, word by word.
pub fn pkg_config(prefix: &Path, arguments: &[&str]) -> Vec<String> {
    let output = run(Command::new("pkg-config")
        .args(arguments)
        .arg("cache_shm")
        .env("PKG_CONFIG_PATH", prefix.join("lib/pkgconfig")));
    String::from_utf8(output.stdout).unwrap().split_whitespace().map(str::to_owned).collect()
}

/// Which of the two libraries a program is linked with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    Shared,
    Static,
}

/// A program in a directory of its own in memory, where its regions are too.
pub struct Program(PathBuf);

impl Program {
    /// Compiles `source`, a path from the tree's root, as C11 or C++17 by its name.
    pub fn build(source: &str, link: Link, flags: &[&str]) -> Program {
        static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let dir = PathBuf::from(format!("/dev/shm/cshm-capi-{}-{number}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        std::fs::set_permissions(&dir, private).unwrap();
        let program = Program(dir);
        let (compiler, language) =
            if source.ends_with(".c") { ("cc", &["-std=c11"][..]) } else { ("c++", &["-std=c++17", "-pthread"][..]) };
        let libraries = match link {
            Link::Shared => pkg_config(prefix(), &["--libs"]),
            // The word for the linker that it is to take the archive, around what pkg-config says.
            Link::Static => [vec!["-Wl,-Bstatic".to_owned()], pkg_config(prefix(), &["--libs"])]
                .into_iter()
                .chain([vec!["-Wl,-Bdynamic".to_owned()], pkg_config(prefix(), &["--static", "--libs-only-l"])])
                .flatten()
                .collect(),
        };
        run(Command::new(compiler)
            .args(language)
            .args(WARNINGS)
            .args(flags)
            .arg(tree().join(source))
            .args(pkg_config(prefix(), &["--cflags"]))
            .args(libraries)
            .args(["-lpthread", "-o"])
            .arg(program.0.join("program")));
        program
    }

    /// The file that is run.
    pub fn file(&self) -> PathBuf {
        self.0.join("program")
    }

    /// A command that runs it, by way of `runner` if that has words.
    pub fn command(&self, runner: &[&str], arguments: &[&str]) -> Command {
        let mut command = Command::new("timeout");
        command
            .args(["--kill-after=5", SECONDS_MAX])
            .args(runner)
            .arg(self.file())
            .args(arguments)
            .env("LD_LIBRARY_PATH", prefix().join("lib"))
            .env("CACHE_SHM_DIR", &self.0)
            // Long enough for a busy machine, where threads run one at a time under valgrind.
            .env("CACHE_SHM_TIMEOUT", "60")
            .env_remove("CACHE_SHM_CONFIG");
        command
    }

    pub fn run(&self, runner: &[&str], arguments: &[&str]) -> String {
        said(&run(&mut self.command(runner, arguments)))
    }

    /// The directory of its regions.
    pub fn directory(&self) -> &OsStr {
        self.0.as_os_str()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
