//! The header is generated from the sources, and says what they say.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

use crate::support::{WARNINGS, header, here, run};

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

/// The constants of the header that are numbers, in their order.
fn constants() -> Vec<(String, i64)> {
    let header = header();
    let definitions = header.lines().filter_map(|line| line.strip_prefix("#define CSHM_")?.split_once(' '));
    definitions.filter_map(|(name, number)| Some((name.to_owned(), number.trim().parse().ok()?))).collect()
}

#[test]
fn every_row_of_the_error_table_has_its_constant_with_its_number() {
    let constants = constants();
    let rows = shm::error::TABLE.iter().map(|row| (row.word.to_uppercase(), i64::from(row.number)));
    let outcomes = [("OK", 0), ("NOT_FOUND", 1), ("NOT_STORED", -1), ("NOT_GRANTED", -2)];
    let wanted: Vec<_> = outcomes.map(|(name, number)| (name.to_owned(), number)).into_iter().chain(rows).collect();
    assert_eq!(constants[..wanted.len()], wanted);
}

#[test]
fn every_kind_of_value_has_its_constant_but_those_that_only_python_may_read() {
    let sources = std::fs::read_to_string(here().join("../../cache-core/src/types.rs")).unwrap();
    let registry = sources.split("pub mod kind {").nth(1).unwrap().split("\n}").next().unwrap();
    let registered = registry.lines().filter_map(|line| {
        let (name, number) = line.trim().strip_prefix("pub const ")?.split_once(": u8 = ")?;
        Some((name.to_owned(), number.trim_end_matches(';').parse::<i64>().unwrap()))
    });
    let of_python = ["PICKLE", "NAMED", "PICKLE_BUFFERS", "COMPRESSED", "SIGNED", "FILLER"];
    let wanted: Vec<_> = registered.filter(|(name, _)| !of_python.contains(&name.as_str())).collect();
    let kinds =
        constants().into_iter().filter_map(|(name, number)| Some((name.strip_prefix("KIND_")?.to_owned(), number)));
    assert_eq!(kinds.collect::<Vec<_>>(), wanted);
}

#[test]
fn the_header_is_valid_alone_in_c_and_cpp() {
    for (compiler, standard, language) in [("cc", "-std=c11", "-xc"), ("c++", "-std=c++17", "-xc++")] {
        run(Command::new(compiler).args([standard, language, "-fsyntax-only"]).args(WARNINGS).arg(header_path()));
    }
}

/// The functions of the header with the names of their pointer parameters.
fn declared() -> Vec<(String, Vec<String>)> {
    let header = header();
    let code = header.rsplit("extern \"C\" {").next().unwrap().split("#ifdef").next().unwrap().replace('\n', " ");
    let statements = code.split(';').filter(|statement| statement.contains('('));
    let functions = statements.map(|statement| {
        let (front, parameters) = statement.rsplit_once(')').unwrap().0.split_once('(').unwrap();
        let name = front.rsplit(|letter: char| !letter.is_alphanumeric() && letter != '_').next().unwrap();
        let is_pointer = |parameter: &&str| parameter.contains('*') || parameter.contains("_function ");
        let pointers = parameters.split(',').filter(is_pointer);
        let names = pointers.map(|parameter| parameter.rsplit(['*', ' ']).next().unwrap().to_owned());
        (name.to_owned(), names.collect())
    });
    functions.collect()
}

/// The rows `NULLED(function, parameter, result, call)` of a program whose call has a NULL.
fn nulled(program: &str) -> BTreeSet<(String, String)> {
    let rows = program.lines().filter_map(|line| {
        let mut parts = line.trim().strip_prefix("NULLED(")?.splitn(4, ", ");
        let (function, parameter, _, call) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let nulls = call.contains("NULL") && call.contains(&format!("{function}("));
        nulls.then(|| (function.to_owned(), parameter.to_owned()))
    });
    rows.collect()
}

#[test]
fn every_pointer_of_every_function_has_its_row_in_the_matrix() {
    let declared = declared();
    assert!(declared.len() > 50, "{declared:?}");
    assert!(declared.iter().all(|(name, _)| name.starts_with("cshm_")), "{declared:?}");
    let pointers =
        declared.iter().flat_map(|(name, pointers)| pointers.iter().map(|pointer| (name.clone(), pointer.clone())));
    let rows = nulled(&std::fs::read_to_string(here().join("tests/c/matrix.c")).unwrap());
    assert_eq!(rows, pointers.collect());
}

#[test]
fn a_row_of_the_matrix_without_a_null_is_none() {
    let rows = nulled("NULLED(cshm_a, b, WRONG, cshm_a(NULL, 1));\n  NULLED(cshm_c, d, WRONG, cshm_c(x));\n");
    assert_eq!(rows, BTreeSet::from([("cshm_a".to_owned(), "b".to_owned())]));
}
