//! The C interface: its header is the one that is committed, and C programs that use it
//! compile and run.

use std::path::{Path, PathBuf};
use std::process::Command;

fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn header_path() -> PathBuf {
    here().join("../include/cache_shm.h")
}

#[test]
fn the_committed_header_is_the_generated_one() {
    let config = cbindgen::Config::from_file(here().join("cbindgen.toml")).unwrap();
    let bindings = cbindgen::Builder::new().with_crate(here()).with_config(config).generate().unwrap();
    let mut generated = Vec::new();
    bindings.write(&mut generated);
    let generated = String::from_utf8(generated).unwrap();
    if std::env::var_os("UPDATE_HEADER").is_some() {
        std::fs::write(header_path(), &generated).unwrap();
    }
    let committed = std::fs::read_to_string(header_path()).unwrap_or_default();
    assert!(
        committed == generated,
        "cache-shm/include/cache_shm.h is out of date; run UPDATE_HEADER=1 cargo test -p cache-shm-capi"
    );
}

#[test]
fn every_row_of_the_error_table_has_its_constant_with_its_number() {
    let header = std::fs::read_to_string(header_path()).unwrap();
    let numbers: Vec<i32> = header
        .lines()
        .filter_map(|line| line.strip_prefix("#define CSHM_")?.split_once(' '))
        .filter(|(name, _)| !name.starts_with("OPEN_") && *name != "NEVER")
        .map(|(_, number)| number.trim().parse().unwrap())
        .collect();
    let rows = shm::error::TABLE.iter().map(|row| row.number);
    assert_eq!(numbers, [0, 1].into_iter().chain(rows).collect::<Vec<_>>());
    for row in shm::error::TABLE {
        let definition = format!("#define CSHM_{} {}", row.word.to_uppercase(), row.number);
        assert!(header.lines().any(|line| line == definition), "{definition}");
    }
}

/// Builds the libraries as a user would, and says where they are.
fn libraries() -> Vec<PathBuf> {
    let output = Command::new(env!("CARGO"))
        .args(["build", "--package", "cache-shm-capi", "--message-format=json", "--quiet"])
        .current_dir(here())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let messages = String::from_utf8(output.stdout).unwrap();
    let message = messages.lines().find(|line| line.contains("libcache_shm.so")).expect("cargo names the libraries");
    message
        .split('"')
        .filter(|text| text.ends_with("/libcache_shm.so") || text.ends_with("/libcache_shm.a"))
        .map(PathBuf::from)
        .collect()
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}; a C compiler is needed"));
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// A directory with the program of `tests/c`, linked with `library`.
struct Program(PathBuf);

impl Program {
    fn build(name: &str, library: &Path) -> Program {
        let dir = PathBuf::from(format!("/dev/shm/cshm-capi-{name}-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        let program = Program(dir);
        run(Command::new("cc")
            .args(["-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-g", "-o"])
            .arg(program.0.join("program"))
            .arg(here().join("tests/c/program.c"))
            .arg("-I")
            .arg(header_path().parent().unwrap())
            .arg(library)
            .args(["-lpthread", "-ldl", "-lm"]));
        program
    }

    /// Runs it, by itself or by what `runner` says.
    fn run(&self, library: &Path, runner: &[&str]) {
        let program = self.0.join("program");
        let mut words = runner.iter().map(std::ffi::OsStr::new).chain([program.as_os_str()]);
        run(Command::new(words.next().unwrap())
            .args(words)
            .arg(&self.0)
            .env("LD_LIBRARY_PATH", library.parent().unwrap())
            .env("CACHE_SHM_DIR", &self.0));
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_c_program_uses_the_cache_linked_statically_and_shared() {
    let libraries = libraries();
    assert_eq!(libraries.len(), 2, "{libraries:?}");
    for (name, library) in ["one", "two"].into_iter().zip(&libraries) {
        Program::build(name, library).run(library, &[]);
    }
}

#[test]
fn the_c_program_is_clean_under_valgrind() {
    if Command::new("valgrind").arg("--version").output().is_err() {
        use std::io::Write;
        // Not through `eprintln`, which the test harness would keep to itself.
        std::io::stderr().write_all(b"SKIP: the_c_program_is_clean_under_valgrind: no valgrind\n").unwrap();
        return assert!(std::env::var_os("REQUIRE_ALL").is_none_or(|all| all != "1"), "valgrind is missing");
    }
    let libraries = libraries();
    let library = libraries.iter().find(|library| library.ends_with("libcache_shm.a")).unwrap();
    let leaks = ["--leak-check=full", "--show-leak-kinds=definite", "--errors-for-leak-kinds=definite"];
    let runner: Vec<&str> = ["valgrind", "-q", "--error-exitcode=9"].into_iter().chain(leaks).collect();
    Program::build("valgrind", library).run(library, &runner);
}

#[test]
fn the_header_is_valid_in_cpp_and_defines_no_name_without_the_prefix() {
    let source = format!("#include \"{}\"\nint main() {{ return CSHM_OK; }}\n", header_path().display());
    let file = std::env::temp_dir().join(format!("cshm-header-{}.cc", std::process::id()));
    std::fs::write(&file, source).unwrap();
    run(Command::new("c++").args(["-std=c++17", "-Wall", "-Wextra", "-Werror", "-fsyntax-only"]).arg(&file));
    std::fs::remove_file(&file).unwrap();
}
