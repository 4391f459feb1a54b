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
    assert_eq!(numbers, (0..shm::error::TABLE.len() as i32 + 2).collect::<Vec<_>>());
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

#[test]
fn a_c_program_uses_the_cache_linked_statically_and_shared() {
    let libraries = libraries();
    assert_eq!(libraries.len(), 2, "{libraries:?}");
    let dir = PathBuf::from(format!("/dev/shm/cshm-capi-{}", std::process::id()));
    std::fs::create_dir(&dir).unwrap();
    for library in &libraries {
        let program = dir.join("program");
        run(Command::new("cc")
            .args(["-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-g", "-o"])
            .arg(&program)
            .arg(here().join("tests/c/program.c"))
            .arg("-I")
            .arg(header_path().parent().unwrap())
            .arg(library)
            .args(["-lpthread", "-ldl", "-lm"]));
        run(Command::new(&program)
            .env("LD_LIBRARY_PATH", library.parent().unwrap())
            .env("CACHE_SHM_DIR", &dir)
            .arg(&dir));
    }
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn the_header_is_valid_in_cpp_and_defines_no_name_without_the_prefix() {
    let source = format!("#include \"{}\"\nint main() {{ return CSHM_OK; }}\n", header_path().display());
    let file = std::env::temp_dir().join(format!("cshm-header-{}.cc", std::process::id()));
    std::fs::write(&file, source).unwrap();
    run(Command::new("c++").args(["-std=c++17", "-Wall", "-Wextra", "-Werror", "-fsyntax-only"]).arg(&file));
    std::fs::remove_file(&file).unwrap();
}
