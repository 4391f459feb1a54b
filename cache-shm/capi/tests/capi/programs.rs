//! Programs in C and C++: those of `tests/c`, which hold the interface to its word, and the
//! examples.

use crate::support::{Link, Program, SANITIZERS, can_compile, can_sanitize, is_there, prefix, said};

/// Programs with the words that they are given and the end of what they print.
const PROGRAMS: [(&str, &str); 4] = [
    ("cache-shm/capi/tests/c/program.c", "ok\n"),
    ("cache-shm/capi/tests/c/operations.c", "ok\n"),
    ("cache-shm/capi/tests/c/threads.c", "ok\n"),
    ("cache-shm/capi/tests/c/matrix.c", " rows\n"),
];

const EXAMPLES: [(&str, &str); 4] = [
    (
        "examples/c/sessions.c",
        "phone is ada\nlaptop is nobody\nbob is still bob\na third login is let in\na fourth login is refused\n",
    ),
    ("examples/c/load.c", "2500 lines, 2499 there\n"),
    ("examples/c/view.c", "3 of 3 processes found the sum\nthe old table has 0.5, the new sum is 524288\n"),
    ("examples/cpp/reports.cc", "made 1 time, read 8 times\n"),
];

const FLAGS: [&str; 1] = ["-D_GNU_SOURCE"];
const NONE: [&str; 0] = [];

fn try_program((source, end): (&str, &str), link: Link, flags: &[&str], runner: &[&str]) {
    let program = Program::build(source, link, &[&FLAGS, flags].concat());
    let arguments = if source.ends_with("program.c") { vec![program.directory().to_str().unwrap()] } else { vec![] };
    let printed = program.run(runner, &arguments);
    assert!(printed.ends_with(end), "{source}: {printed}");
}

fn try_example((source, wanted): (&str, &str), link: Link, flags: &[&str]) {
    let program = Program::build(source, link, flags);
    let mut command = program.command(&[], if source.ends_with("load.c") { &["example"] } else { &[] });
    let output = if source.ends_with("load.c") {
        // One of the lines has no key.
        let lines: String =
            (1..=2500).map(|n| if n == 700 { "=none\n".to_owned() } else { format!("key{n}=v{n}\n") }).collect();
        let input = program.file().with_extension("txt");
        std::fs::write(&input, lines).unwrap();
        command.stdin(std::fs::File::open(input).unwrap()).output().unwrap()
    } else {
        command.output().unwrap()
    };
    assert!(output.status.success(), "{source}: {}", said(&output));
    assert_eq!(String::from_utf8_lossy(&output.stdout), wanted, "{source}");
}

#[test]
fn c_programs_run_linked_with_the_shared_and_with_the_static_library() {
    if !can_compile("c_programs_run_linked_with_the_shared_and_with_the_static_library") {
        return;
    }
    for link in [Link::Shared, Link::Static] {
        PROGRAMS.iter().for_each(|program| try_program(*program, link, &NONE, &[]));
    }
}

#[test]
fn the_examples_compile_without_a_warning_and_print_what_they_should() {
    if !can_compile("the_examples_compile_without_a_warning_and_print_what_they_should") {
        return;
    }
    for link in [Link::Shared, Link::Static] {
        EXAMPLES.iter().for_each(|example| try_example(*example, link, &NONE));
    }
}

#[test]
fn programs_and_examples_are_clean_under_the_address_and_undefined_behaviour_sanitizers() {
    if !can_sanitize("programs_and_examples_are_clean_under_the_address_and_undefined_behaviour_sanitizers") {
        return;
    }
    // Statically linked, so that the library's own calls of malloc and memcpy are watched too.
    PROGRAMS.iter().for_each(|program| try_program(*program, Link::Static, &SANITIZERS, &[]));
    EXAMPLES.iter().for_each(|example| try_example(*example, Link::Static, &SANITIZERS));
}

#[test]
fn the_sanitizers_are_linked_and_see_what_the_library_gave_out() {
    if !can_sanitize("the_sanitizers_are_linked_and_see_what_the_library_gave_out") {
        return;
    }
    let program = Program::build("cache-shm/capi/tests/c/faulty.c", Link::Shared, &SANITIZERS);
    for (fault, word) in [
        ("use-after-free", "AddressSanitizer: heap-use-after-free"),
        ("leak", "LeakSanitizer: detected memory leaks"),
        ("overflow", "runtime error: signed integer overflow"),
    ] {
        let output = program.command(&[], &[fault]).output().unwrap();
        assert!(!output.status.success() && said(&output).contains(word), "{fault}: {}", said(&output));
    }
}

#[test]
fn a_host_of_plugins_loads_and_unloads_the_library_while_a_thread_that_used_it_lives() {
    if !can_compile("a_host_of_plugins_loads_and_unloads_the_library_while_a_thread_that_used_it_lives") {
        return;
    }
    let library = prefix().join("lib/libcache_shm.so");
    let flags = [&FLAGS[..], &["-ldl"]].concat();
    // The archive, of which nothing is taken: the program itself is linked with none.
    let program = Program::build("cache-shm/capi/tests/c/plugin.c", Link::Static, &flags);
    assert_eq!(program.run(&[], &[library.to_str().unwrap()]), "ok\n");
}

#[test]
fn c_programs_are_clean_under_valgrind() {
    if !can_compile("c_programs_are_clean_under_valgrind") {
        return;
    }
    if !is_there("valgrind", "c_programs_are_clean_under_valgrind") {
        return;
    }
    let leaks = ["--leak-check=full", "--show-leak-kinds=definite", "--errors-for-leak-kinds=definite"];
    let runner = ["valgrind", "-q", "--error-exitcode=9"];
    for program in PROGRAMS {
        // What the other threads of its parent had, a forked child can neither use nor free.
        let forks_among_threads = program.0.ends_with("threads.c");
        let runner = [&runner[..], if forks_among_threads { &[] } else { &leaks }].concat();
        try_program(program, Link::Static, &NONE, &runner);
    }
}
