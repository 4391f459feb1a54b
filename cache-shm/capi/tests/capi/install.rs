//! What `make install` installs, and what a program needs of it.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::support::{
    Link, Program, can_compile, header, here, install, install_with_umask, pkg_config, prefix, run, said, tree,
};

fn files(root: &Path) -> Vec<String> {
    let output = run(Command::new("find").arg(root).args(["-not", "-type", "d", "-printf", "%P\n"]));
    let mut files: Vec<_> = said(&output).lines().map(str::to_owned).collect();
    files.sort();
    files
}

#[test]
fn an_installation_is_whole_and_its_removal_leaves_nothing() {
    if !can_compile("an_installation_is_whole_and_its_removal_leaves_nothing") {
        return;
    }
    let version = env!("CARGO_PKG_VERSION");
    let stage = Path::new(env!("CARGO_TARGET_TMPDIR")).join("staged");
    let _ = std::fs::remove_dir_all(&stage);
    let (staged, usr) = (stage.to_str().unwrap(), Path::new("/usr"));
    install(usr, staged, &[]);
    let library = format!("usr/lib/libcache_shm.so.{version}");
    let mut wanted = [
        "usr/bin/cache-shm",
        "usr/include/cache_shm.h",
        "usr/lib/libcache_shm.a",
        "usr/lib/libcache_shm.so",
        "usr/lib/libcache_shm.so.0",
        &library,
        "usr/lib/pkgconfig/cache_shm.pc",
    ];
    wanted.sort_unstable();
    assert_eq!(files(&stage), wanted);
    let link = |name: &str| std::fs::read_link(stage.join("usr/lib").join(name)).unwrap();
    assert_eq!(link("libcache_shm.so"), Path::new("libcache_shm.so.0"));
    assert_eq!(link("libcache_shm.so.0"), Path::new(&format!("libcache_shm.so.{version}")));
    // What it remembers is where it will be, not where it was put together.
    let description = std::fs::read_to_string(stage.join("usr/lib/pkgconfig/cache_shm.pc")).unwrap();
    assert!(description.starts_with("prefix=/usr\n") && !description.contains(staged), "{description}");
    let committed = std::fs::read(here().join("../include/cache_shm.h")).unwrap();
    assert_eq!(std::fs::read(stage.join("usr/include/cache_shm.h")).unwrap(), committed);
    let asked = run(Command::new(stage.join("usr/bin/cache-shm")).arg("--version"));
    assert!(said(&asked).contains(version), "{}", said(&asked));
    install(usr, staged, &["--uninstall"]);
    assert_eq!(files(&stage), [""; 0]);
    std::fs::remove_dir_all(&stage).unwrap();
}

#[test]
fn an_installation_refuses_what_it_does_not_know_and_takes_any_name() {
    if !can_compile("an_installation_refuses_what_it_does_not_know_and_takes_any_name") {
        return;
    }
    let stage = Path::new(env!("CARGO_TARGET_TMPDIR")).join("odd");
    let _ = std::fs::remove_dir_all(&stage);
    let refused = |arguments: &[&str], prefix: &str| {
        let mut command = Command::new(tree().join(".ci/install"));
        let output = command.args(arguments).env("PREFIX", prefix).env("DESTDIR", &stage).env_remove("LIBDIR").output();
        let output = output.unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?} {prefix}: {}", said(&output));
        assert!(!stage.exists());
    };
    refused(&["--unistall"], "/usr");
    refused(&["--uninstall", "now"], "/usr");
    refused(&[], "usr");
    // Whoever installs may have a umask that lets nobody else read.
    install_with_umask(Path::new("/a&b|c"), stage.to_str().unwrap(), "077");
    let place = stage.join("a&b|c");
    let mode = |name: &str| std::fs::metadata(place.join(name)).unwrap().permissions().mode() & 0o777;
    for directory in ["", "bin", "include", "lib", "lib/pkgconfig"] {
        assert_eq!(mode(directory), 0o755, "{directory}");
    }
    for file in ["include/cache_shm.h", "lib/libcache_shm.a", "lib/pkgconfig/cache_shm.pc"] {
        assert_eq!(mode(file), 0o644, "{file}");
    }
    let description = std::fs::read_to_string(place.join("lib/pkgconfig/cache_shm.pc")).unwrap();
    assert!(description.starts_with("prefix=/a&b|c\n"), "{description}");
    std::fs::remove_dir_all(&stage).unwrap();
}

#[test]
fn pkg_config_says_where_things_are() {
    if !can_compile("pkg_config_says_where_things_are") {
        return;
    }
    let prefix = prefix();
    let place = prefix.to_str().unwrap();
    assert_eq!(pkg_config(prefix, &["--cflags"]), [format!("-I{place}/include")]);
    assert_eq!(pkg_config(prefix, &["--libs"]), [format!("-L{place}/lib"), "-lcache_shm".to_owned()]);
    assert_eq!(pkg_config(prefix, &["--modversion"]), [env!("CARGO_PKG_VERSION")]);
}

/// The names that a program or library asks the loader for, and its own.
fn dynamic(file: &Path, tag: &str) -> Vec<String> {
    let output = run(Command::new("objdump").arg("-p").arg(file));
    let lines = said(&output);
    lines.lines().filter_map(|line| Some(line.trim().strip_prefix(tag)?.trim().to_owned())).collect()
}

#[test]
fn a_program_asks_for_the_version_of_the_interface_that_the_header_names() {
    if !can_compile("a_program_asks_for_the_version_of_the_interface_that_the_header_names") {
        return;
    }
    let header = header();
    let version = header.lines().find_map(|line| line.strip_prefix("#define CSHM_ABI_VERSION ")).unwrap();
    let soname = format!("libcache_shm.so.{version}");
    assert_eq!(dynamic(&prefix().join("lib/libcache_shm.so"), "SONAME"), [soname.as_str()]);
    let shared = Program::build("examples/c/view.c", Link::Shared, &[]);
    assert!(dynamic(&shared.file(), "NEEDED").contains(&soname));
    let alone = Program::build("examples/c/view.c", Link::Static, &[]);
    assert!(!dynamic(&alone.file(), "NEEDED").contains(&soname));
}

#[test]
fn the_shared_library_exports_the_functions_of_the_header_and_nothing_else() {
    if !can_compile("the_shared_library_exports_the_functions_of_the_header_and_nothing_else") {
        return;
    }
    let output = run(Command::new("nm").args(["-D", "--defined-only"]).arg(prefix().join("lib/libcache_shm.so")));
    let text = said(&output);
    let mut exported: Vec<_> = text.lines().filter_map(|line| line.rsplit(' ').next()).collect();
    exported.sort_unstable();
    let header = header();
    let words = header.split(|letter: char| !letter.is_alphanumeric() && letter != '_' && letter != '(');
    let mut declared: Vec<_> = words.filter_map(|word| Some(word.split_once('(')?.0)).collect();
    declared.retain(|word| word.starts_with("cshm_"));
    declared.sort_unstable();
    assert_eq!(exported, declared);
}

#[test]
fn make_knows_both_targets() {
    let makefile = std::fs::read_to_string(tree().join("Makefile")).unwrap();
    for target in ["\ninstall:", "\nuninstall:"] {
        assert!(makefile.contains(target), "{target}");
    }
    let dry = run(Command::new("make").args(["-n", "install", "PREFIX=/somewhere"]).current_dir(tree()));
    assert!(said(&dry).contains("/somewhere") && said(&dry).contains(".ci/install"), "{}", said(&dry));
}
