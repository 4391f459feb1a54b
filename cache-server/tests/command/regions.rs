//! Regions and the values in them: what each subcommand answers and refuses.

use std::io::Read;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::process::Stdio;

use serde_json::json;

use super::place::Place;

#[test]
fn a_value_set_by_one_process_is_printed_by_another() {
    let place = Place::with_region();
    assert_eq!(place.run(&["set", "r", "user:7", "Ada"]).done().text(), "");
    let run = place.run(&["get", "r", "user:7"]).done();
    assert_eq!(run.text(), "Ada", "no newline is added to what goes into a pipe");
}

#[test]
fn exit_codes_tell_found_from_not_found_from_error() {
    let place = Place::with_region();
    let run = place.run(&["get", "r", "nothing"]);
    assert_eq!((run.code, run.text(), run.err.as_str()), (1, "", ""));
    assert_eq!(place.run(&["delete", "r", "nothing"]).code, 1);
    assert_eq!(place.run(&["keys", "r"]).code, 1);
    place.run(&["set", "r", "k", "v"]).done();
    assert_eq!(place.run(&["get", "r", "k"]).code, 0);
    assert_eq!(place.run(&["delete", "r", "k", "nothing"]).code, 1);
    assert_eq!(place.run(&["get", "r", "k"]).code, 1, "the keys that were there are deleted");
    assert_eq!(place.run(&["get", "missing", "k"]).code, 2);
    assert_eq!(place.run(&["get", "r"]).code, 2);
    assert_eq!(place.run(&["no-such-command"]).code, 2);
    assert_eq!(place.run(&["--help"]).done().code, 0);
    assert!(place.run(&["--version"]).done().text().starts_with("cache-shm "));
}

#[test]
fn every_subcommand_explains_itself_with_an_example() {
    let place = Place::new();
    for command in [
        "create",
        "get",
        "set",
        "delete",
        "keys",
        "verify",
        "repair",
        "replay",
        "destroy",
        "dump",
        "restore",
        "clear",
        "evict-tag",
    ] {
        let help = place.run(&[command, "--help"]).done();
        assert!(help.text().contains(&format!("cache-shm {command} ")), "{}", help.text());
    }
    for command in ["list", "info", "stats"] {
        place.run(&[command, "--help"]).done();
    }
}

#[test]
fn json_answers_have_the_documented_shape() {
    let place = Place::new();
    let created = place.run(&["create", "r", "--size", "2MiB", "--json"]).done().json();
    assert_eq!(created["bytes"], 2 << 20);
    assert_eq!((&created["name"], &created["created"]), (&json!("r"), &json!(true)));
    assert!(created["path"].as_str().unwrap().starts_with(place.path().to_str().unwrap()));

    let stored = place.run(&["set", "r", "k", "v", "--ttl", "1h", "--json"]).done().json();
    assert_eq!((&stored["stored"], &stored["key"]), (&json!(true), &json!("k")));
    let got = place.run(&["--json", "get", "r", "k"]).done().json();
    let ttl_ms = got["ttl_ms"].as_u64().unwrap();
    assert!((3_500_000..=3_600_100).contains(&ttl_ms), "{got}");
    let expected = json!({
        "found": true, "key": "k", "kind": "str", "bytes": 1, "value": "v",
        "version": stored["version"], "ttl_ms": ttl_ms,
    });
    assert_eq!(got, expected);
    let missing = place.run(&["get", "r", "other", "--json"]);
    assert_eq!((missing.code, missing.json()), (1, json!({"found": false, "key": "other"})));

    let keys = place.run(&["keys", "r", "--json"]).done().json();
    assert_eq!((&keys["key"], &keys["kind"], &keys["bytes"]), (&json!("k"), &json!("str"), &json!(1)));
    assert_eq!(place.run(&["keys", "r", "--count", "--json"]).done().json(), json!({"count": 1}));

    let list = place.run(&["list", "--json"]).done().json();
    assert_eq!(
        (list.as_array().unwrap().len(), &list[0]["name"], &list[0]["bytes"]),
        (1, &json!("r"), &json!(2 << 20))
    );
    let info = place.run(&["info", "r", "--json"]).done().json();
    assert_eq!((&info["bytes"], &info["when_full"], &info["mode"]), (&json!(2 << 20), &json!("evict"), &json!("600")));
    assert!(info["segments"].as_u64().unwrap() >= 128);
    let stats = place.run(&["stats", "r", "--json"]).done().json();
    assert_eq!((&stats["items"], &stats["sets"]), (&json!(1), &json!(1)), "{stats}");

    let deleted = place.run(&["delete", "r", "k", "other", "--json"]);
    assert_eq!((deleted.code, deleted.json()), (1, json!({"deleted": 1, "missing": 1})));
    assert_eq!(place.run(&["destroy", "r", "--json"]).done().json(), json!({"name": "r", "destroyed": true}));
}

#[test]
fn json_errors_carry_the_word_and_number_of_the_table() {
    let place = Place::new();
    let run = place.run(&["get", "nowhere", "k", "--json"]);
    let message = run.failed("missing");
    assert!(message.contains("create it"), "{message}");
    assert_eq!(run.error().1, 25);
    let message = place.run(&["get", "--json"]).failed("invalid_argument");
    assert!(message.contains("NAME"), "{message}");
    // The same as text.
    let run = place.run(&["get", "nowhere", "k"]);
    assert!(run.err.starts_with("cache-shm: there is no region "), "{run:?}");
}

#[test]
fn a_name_with_a_slash_dot_or_a_control_character_is_refused() {
    let place = Place::new();
    for name in ["", ".", "..", "../up", "a/../b", "a/", ".hidden", "new\nline", "bell\u{7}", "r.v2"] {
        for arguments in
            [vec!["create", name, "--json"], vec!["get", name, "k", "--json"], vec!["destroy", name, "--json"]]
        {
            let message = place.run(&arguments).failed("invalid_name");
            assert!(message.contains("cannot name a region"), "{message}");
        }
    }
}

#[test]
fn a_size_that_is_none_or_too_small_is_refused() {
    let place = Place::new();
    for size in ["1", "1MB", "1048575", "-5", "lots", "", "12 parsecs", "9999999TiB"] {
        let message = place.run(&["create", "r", &format!("--size={size}"), "--json"]).failed("invalid_size");
        assert!(message.contains("1048576"), "{message}");
    }
    assert!(place.run(&["list", "--json"]).done().json().as_array().unwrap().is_empty());
}

#[test]
fn creating_a_region_that_exists_is_an_error_unless_that_is_ok() {
    let place = Place::with_region();
    place.run(&["set", "r", "k", "v"]).done();
    place.run(&["create", "r", "--size", "1MiB", "--json"]).failed("exists");
    let kept = place.run(&["create", "r", "--size", "1MiB", "--exist-ok", "--json"]).done().json();
    assert_eq!(kept["created"], false);
    let message = place.run(&["create", "r", "--size", "2MiB", "--exist-ok", "--json"]).failed("size_mismatch");
    assert!(message.contains("1048576") && message.contains("2097152"), "{message}");
    for (asked, found) in [("--no-evict", "evicts"), ("--mode=640", "mode 600")] {
        let message = place.run(&["create", "r", "--exist-ok", asked, "--json"]).failed("invalid_argument");
        assert!(message.contains(asked.split('=').next().unwrap()) && message.contains(found), "{message}");
    }
    place.run(&["create", "kept", "--size", "1MiB", "--no-evict", "--mode", "660"]).done();
    place.run(&["create", "kept", "--size", "1MiB", "--no-evict", "--mode", "660", "--exist-ok"]).done();
    assert_eq!(place.run(&["get", "r", "k"]).done().text(), "v");
}

/// Exit code 1 came without a word, and a script's log had nothing to tell why it ended.
#[test]
fn what_is_not_there_is_named() {
    let place = Place::with_region();
    place.run(&["set", "r", "k", "v"]).done();
    for (arguments, named) in [
        (vec!["man", "nope"], "cache-shm-nope"),
        (vec!["clear", "r", "--namespace", "zz"], "\"zz\""),
        (vec!["evict-tag", "r", "t", "--namespace", "zz"], "\"zz\""),
        (vec!["stats", "r", "--namespace", "nn"], "\"nn\""),
        (vec!["delete", "r", "k", "nope"], "1 of 2 keys not there: nope"),
    ] {
        let run = place.run(&arguments);
        assert!(run.code == 1 && run.out.is_empty(), "{run:?}");
        assert!(run.err.contains(named) && run.err.lines().count() == 1, "{run:?}");
    }
    let message = place.run(&["get", "r", "k", "--namespace", "", "--json"]).failed("label_length");
    assert!(!message.contains("shorten"), "{message}");
}

#[test]
fn a_missing_region_is_named_in_every_command() {
    let place = Place::new();
    for arguments in [
        vec!["info", "gone"],
        vec!["get", "gone", "k"],
        vec!["set", "gone", "k", "v"],
        vec!["delete", "gone", "k"],
        vec!["keys", "gone"],
        vec!["stats", "gone"],
        vec!["destroy", "gone"],
    ] {
        let arguments: Vec<&str> = arguments.into_iter().chain(["--json"]).collect();
        let message = place.run(&arguments).failed("missing");
        assert!(message.contains("gone"), "{message}");
    }
    place.run(&["destroy", "gone", "--missing-ok"]).done();
}

#[test]
fn keys_that_are_empty_or_too_long_are_refused_and_the_longest_works() {
    let place = Place::with_region();
    place.run(&["set", "r", "", "v", "--json"]).failed("key_empty");
    place.run(&["get", "r", "", "--json"]).failed("key_empty");
    let long = "k".repeat(65_536);
    let message = place.run(&["set", "r", &long, "v", "--json"]).failed("key_too_long");
    assert!(message.contains("65536") && message.contains("65535"), "{message}");
    place.run(&["set", "r", &long[1..], "v"]).done();
    assert_eq!(place.run(&["get", "r", &long[1..]]).done().text(), "v");
}

#[test]
fn a_value_over_the_limit_is_refused_with_both_numbers_and_harms_nothing() {
    let place = Place::with_region();
    place.run(&["set", "r", "k", "kept"]).done();
    let message = place.run_with(&["set", "r", "k", "--json"], &vec![1; 1 << 20]).failed("value_too_large");
    let numbers: Vec<usize> = message.split([' ', ',', ';']).filter_map(|word| word.parse().ok()).collect();
    let [given, most] = numbers[..] else { panic!("both numbers: {message}") };
    assert_eq!(given, 1 << 20);
    assert_eq!(place.run(&["get", "r", "k"]).done().text(), "kept");
    place.run_with(&["set", "r", "k", "--json"], &vec![1; most + 1]).failed("value_too_large");
    let large = vec![7u8; most];
    place.run_with(&["set", "r", "k"], &large).done();
    assert!(place.run(&["get", "r", "k"]).done().out == large, "the largest value that is allowed is stored");
}

#[test]
fn values_come_from_arguments_files_and_standard_input_byte_for_byte() {
    let place = Place::with_region();
    let bytes: Vec<u8> = (0..=255).cycle().take(10_000).collect();
    let file = place.file("value.bin", &bytes);
    place.run(&["set", "r", "file", "--file", file.to_str().unwrap()]).done();
    place.run_with(&["set", "r", "stdin"], &bytes).done();
    place.run_with(&["set", "r", "dash", "--file", "-"], &bytes).done();
    let target = place.path().join("out.bin");
    for key in ["file", "stdin", "dash"] {
        assert!(place.run(&["get", "r", key]).done().out == bytes);
        place.run(&["get", "r", key, "--output", target.to_str().unwrap()]).done();
        assert!(std::fs::read(&target).unwrap() == bytes);
        std::fs::remove_file(&target).unwrap();
    }
    assert_eq!(place.run(&["get", "r", "nothing", "--output", target.to_str().unwrap()]).code, 1);
    assert!(!target.exists(), "a key that is not there touches no file");
    place.run(&["set", "r", "empty", ""]).done();
    assert_eq!(place.run(&["get", "r", "empty"]).done().text(), "");
    place.run(&["set", "r", "dashes", "--", "--value"]).done();
    assert_eq!(place.run(&["get", "r", "dashes"]).done().text(), "--value");
    let message = place.run(&["set", "r", "k", "--file", "/no/such/file", "--json"]).failed("io");
    assert!(message.contains("/no/such/file"), "{message}");
}

#[test]
fn kinds_are_what_the_user_says_or_text_for_arguments_and_bytes_for_files() {
    let place = Place::with_region();
    let kind = |key: &str| {
        let got = place.run(&["get", "r", key, "--json"]).done().json();
        (got["kind"].as_str().unwrap().to_owned(), got["value"].clone())
    };
    place.run(&["set", "r", "text", "12"]).done();
    place.run_with(&["set", "r", "bytes"], b"12").done();
    place.run(&["set", "r", "int", "-12", "--kind", "int"]).done();
    place.run(&["set", "r", "float", "1.5", "--kind", "float"]).done();
    assert_eq!(kind("text"), ("str".to_owned(), json!("12")));
    assert_eq!(kind("bytes"), ("bytes".to_owned(), json!("12")));
    assert_eq!(kind("int"), ("int".to_owned(), json!(-12)));
    assert_eq!(kind("float"), ("float".to_owned(), json!(1.5)));
    assert_eq!(place.run(&["get", "r", "int"]).done().text(), "-12");
    place.run(&["set", "r", "int", "twelve", "--kind", "int", "--json"]).failed("invalid_argument");
    place.run_with(&["set", "r", "raw"], b"\xff\x00").done();
    assert_eq!(place.run(&["get", "r", "raw", "--json"]).done().json()["value_base64"], "/wA=");
}

#[test]
fn a_key_in_hexadecimal_reaches_bytes_that_no_shell_can_type() {
    let place = Place::with_region();
    place.run(&["set", "r", "00ff0a", "v", "--hex"]).done();
    assert_eq!(place.run(&["get", "r", "00ff0a", "--hex"]).done().text(), "v");
    assert_eq!(place.run(&["keys", "r"]).done().text(), "\\x00\\xff\\x0a\n");
    assert_eq!(place.run(&["keys", "r", "--null"]).done().out, b"\x00\xff\x0a\x00");
    assert_eq!(place.run(&["keys", "r", "--json"]).done().json()["key_base64"], "AP8K");
    place.run(&["get", "r", "0g", "--hex", "--json"]).failed("invalid_argument");
    place.run(&["delete", "r", "00FF0A", "--hex"]).done();
}

#[test]
fn a_key_is_gone_when_its_time_is_over_and_a_ttl_is_more_than_zero() {
    let place = Place::with_region();
    place.run(&["set", "r", "k", "v", "--ttl", "50ms"]).done();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while place.run(&["get", "r", "k"]).code == 0 {
        assert!(std::time::Instant::now() < deadline, "the key outlived its 50 ms by far");
    }
    for ttl in ["0", "0ms", "soon", "-1", "nan"] {
        let message = place.run(&["set", "r", "k", "v", &format!("--ttl={ttl}"), "--json"]).failed("invalid_argument");
        assert!(!ttl.starts_with('0') || message.contains("more than zero"), "{message}");
    }
}

#[test]
fn add_and_replace_store_only_where_they_may() {
    let place = Place::with_region();
    assert_eq!(place.run(&["set", "r", "k", "1", "--replace"]).code, 1);
    assert_eq!(place.run(&["set", "r", "k", "2", "--add"]).code, 0);
    assert_eq!(place.run(&["set", "r", "k", "3", "--add"]).code, 1);
    assert_eq!(place.run(&["get", "r", "k"]).done().text(), "2");
    assert_eq!(place.run(&["set", "r", "k", "4", "--replace"]).code, 0);
    assert_eq!(place.run(&["get", "r", "k"]).done().text(), "4");
    place.run(&["set", "r", "k", "5", "--add", "--replace", "--json"]).failed("invalid_argument");
}

#[test]
fn keys_are_listed_by_prefix_and_up_to_a_limit() {
    let place = Place::with_region();
    for number in 0..20 {
        place.run(&["set", "r", &format!("user:{number}"), "v"]).done();
    }
    place.run(&["set", "r", "other", "v"]).done();
    let run = place.run(&["keys", "r", "--prefix", "user:"]).done();
    let mut lines: Vec<&str> = run.text().lines().collect();
    lines.sort_unstable();
    let mut expected: Vec<String> = (0..20).map(|number| format!("user:{number}")).collect();
    expected.sort_unstable();
    assert_eq!(lines, expected);
    assert_eq!(place.run(&["keys", "r", "--limit", "5"]).done().text().lines().count(), 5);
    assert_eq!(place.run(&["keys", "r", "--count"]).done().text(), "21\n");
    assert_eq!(place.run(&["keys", "r", "--count", "--prefix", "x"]).code, 1);
}

#[test]
fn looking_leaves_no_trace_in_the_region() {
    let place = Place::with_region();
    place.run(&["set", "r", "k", "v"]).done();
    let path = place.run(&["info", "r", "--json"]).done().json()["path"].as_str().unwrap().to_owned();
    let before = std::fs::read(&path).unwrap();
    for arguments in [vec!["get", "r", "k"], vec!["keys", "r"], vec!["stats", "r"], vec!["info", "r"], vec!["list"]] {
        place.run(&arguments).done();
    }
    assert!(std::fs::read(&path).unwrap() == before);
}

#[test]
fn a_region_for_a_group_has_the_permissions_that_were_asked_for() {
    let place = Place::new();
    place.run(&["create", "own", "--size", "1MiB"]).done();
    let info = place.run(&["info", "own", "--json"]).done().json();
    let mode = std::fs::metadata(info["path"].as_str().unwrap()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    for mode in ["888", "rw", "1777"] {
        place.run(&["create", "bad", "--mode", mode, "--json"]).failed("invalid_argument");
    }
    place.run(&["create", "bad", "--group", "no such group", "--json"]).failed("invalid_argument");
}

#[test]
fn a_full_no_evict_region_is_an_error_and_drops_nothing() {
    let place = Place::new();
    place.run(&["create", "r", "--size", "1MiB", "--no-evict"]).done();
    assert_eq!(place.run(&["info", "r", "--json"]).done().json()["when_full"], "no-evict");
    let value = vec![1u8; 100_000];
    let mut stored = 0;
    let full = loop {
        let run = place.run_with(&["set", "r", &format!("k{stored}"), "--json"], &value);
        if run.code != 0 {
            break run;
        }
        stored += 1;
        assert!(stored < 20, "a region of 1 MiB took 2 MB");
    };
    full.failed("full");
    assert!(stored >= 5, "{stored}");
    for key in 0..stored {
        assert!(place.run(&["get", "r", &format!("k{key}")]).done().out == value);
    }
}

#[test]
fn a_file_that_is_no_region_is_refused_and_left_alone() {
    let place = Place::with_region();
    let path = place.run(&["info", "r", "--json"]).done().json()["path"].as_str().unwrap().to_owned();
    let other = path.replacen("/r", "/other", 1);
    assert_ne!(path, other);
    for bytes in [b"just some text".to_vec(), vec![0x5a; 2 << 20]] {
        std::fs::write(&other, &bytes).unwrap();
        std::fs::set_permissions(&other, std::fs::Permissions::from_mode(0o600)).unwrap();
        let run = place.run(&["get", "other", "k", "--json"]);
        assert_eq!(run.code, 2, "{run:?}");
        assert!(["not_region", "truncated"].contains(&run.error().0.as_str()), "{run:?}");
        assert!(std::fs::read(&other).unwrap() == bytes);
    }
    std::fs::remove_file(&other).unwrap();
    symlink(&path, &other).unwrap();
    place.run(&["get", "other", "k", "--json"]).failed("symlink");
}

#[test]
fn a_truncated_region_is_named_with_both_sizes() {
    let place = Place::with_region();
    let path = place.run(&["info", "r", "--json"]).done().json()["path"].as_str().unwrap().to_owned();
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(500_000).unwrap();
    let message = place.run(&["get", "r", "k", "--json"]).failed("truncated");
    assert!(message.contains("500000") && message.contains("1048576"), "{message}");
}

#[test]
fn a_region_of_another_format_version_is_named() {
    let place = Place::with_region();
    let path = place.run(&["info", "r", "--json"]).done().json()["path"].as_str().unwrap().to_owned();
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(&99u64.to_le_bytes(), 8).unwrap();
    let message = place.run(&["get", "r", "k", "--json"]).failed("format_version");
    assert!(message.contains("99"), "{message}");
}

#[test]
fn a_reader_that_had_enough_ends_the_command_quietly() {
    let place = Place::with_region();
    place.run_with(&["set", "r", "large"], &vec![b'x'; 200_000]).done();
    let mut child =
        place.command(&["get", "r", "large"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // The pipe holds less than the value, so that closing it meets a writer.
    let mut few = [0; 10];
    child.stdout.take().unwrap().read_exact(&mut few).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
}

#[test]
fn the_directory_is_an_option_or_the_environment() {
    let place = Place::with_region();
    let elsewhere = Place::new();
    elsewhere.run(&["get", "r", "k", "--json"]).failed("missing");
    let here = place.path().to_str().unwrap();
    assert_eq!(elsewhere.run(&["--dir", here, "get", "r", "k"]).code, 1);
    assert_eq!(elsewhere.run(&["list", "--dir", here, "--json"]).done().json().as_array().unwrap().len(), 1);
}

#[test]
fn the_list_is_empty_without_regions_and_names_each_one() {
    let place = Place::new();
    assert_eq!(place.run(&["list"]).done().text(), "");
    for name in ["a", "b-2", "c_3"] {
        place.run(&["create", name, "--size", "1MiB"]).done();
    }
    let run = place.run(&["list"]).done();
    for name in ["a", "b-2", "c_3"] {
        assert!(run.text().lines().any(|line| line.starts_with(name) && line.contains("1,048,576")), "{}", run.text());
    }
}

#[test]
fn a_namespace_has_keys_and_counters_of_its_own() {
    let place = Place::new();
    place.run(&["create", "r", "--size", "2MiB"]).done();
    place.run(&["set", "r", "key", "plain"]).done();
    place.run(&["set", "r", "key", "Ada", "--namespace", "users"]).done();
    assert_eq!(place.run(&["get", "r", "key"]).done().text(), "plain");
    assert_eq!(place.run(&["get", "r", "key", "--namespace", "users"]).done().text(), "Ada");
    assert_eq!(place.run(&["keys", "r", "--count"]).done().text(), "1\n");
    assert_eq!(place.run(&["keys", "r", "--namespace", "users"]).done().text(), "key\n");
    let stats = place.run(&["stats", "r", "--json"]).done().json();
    assert_eq!((stats["sets"].as_u64(), stats["namespaces"]["users"]["sets"].as_u64()), (Some(2), Some(1)));
    let users = place.run(&["stats", "r", "--namespace", "users", "--json"]).done().json();
    assert_eq!((users["sets"].as_u64(), users["items"].as_u64()), (Some(1), None));
    assert_eq!(place.run(&["stats", "r", "--namespace", "nobody"]).code, 1);
    // To look leaves no trace: nobody's name is taken.
    assert_eq!(place.run(&["get", "r", "key", "--namespace", "nobody"]).code, 1);
    assert_eq!(place.run(&["keys", "r", "--namespace", "nobody"]).code, 1);
    place.run(&["delete", "r", "key", "--namespace", "users"]).done();
    assert_eq!(place.run(&["get", "r", "key"]).done().text(), "plain");
    let stats = place.run(&["stats", "r", "--json"]).done().json();
    assert_eq!(stats["namespaces"].as_object().map(|names| names.len()), Some(1));
    place.run(&["--json", "get", "r", "key", "--namespace", ""]).failed("label_length");
}
