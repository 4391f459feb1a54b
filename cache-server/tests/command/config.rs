//! Options from the environment and from a file, as the command shows and uses them.

use std::process::Command;

use serde_json::Value;

use super::place::{Place, finished};

const FILE: &str = "\
[default]
size = \"1MiB\"
ttl = 3600

[region.team]
size = \"2MiB\"
evict = false
";

fn with_file(place: &Place, arguments: &[&str]) -> Command {
    let mut command = place.command(arguments);
    command.env("CACHE_SHM_CONFIG", place.file("options.toml", FILE.as_bytes()));
    command
}

#[test]
fn every_option_is_shown_with_its_value_and_who_said_so() {
    let place = Place::new();
    let shown = |command: &mut Command| finished(command.output().unwrap()).done().json();
    let of_team = shown(with_file(&place, &["config", "team", "--json"]).env("CACHE_SHM_SIZE", "3MiB"));
    let options = &of_team["options"];
    assert_eq!(options["size"]["value"], "3MiB");
    assert_eq!(options["size"]["origin"], "environment CACHE_SHM_SIZE");
    assert_eq!(options["evict"]["value"], "false");
    assert!(options["evict"]["origin"].as_str().unwrap().ends_with("options.toml:7 [region.team]"));
    assert!(options["ttl"]["origin"].as_str().unwrap().ends_with("options.toml:3 [default]"));
    assert_eq!(options["timeout"]["origin"], "default");
    assert!(of_team["file"].as_str().unwrap().ends_with("options.toml"));
    let of_another =
        shown(with_file(&place, &["config", "another", "--json", "--dir", "/x"]).env("CACHE_SHM_SISE", "1"));
    assert_eq!(of_another["options"]["size"]["value"], "1MiB");
    assert_eq!(of_another["options"]["dir"]["origin"], "argument --dir");
    assert!(of_another["unknown_variables"].as_array().unwrap().contains(&Value::from("CACHE_SHM_SISE")));
    let text = finished(with_file(&place, &["config"]).output().unwrap());
    assert!(text.code == 0 && text.text().contains("timeout"), "{text:?}");
}

#[test]
fn an_argument_stands_before_the_environment_and_that_before_the_file() {
    let place = Place::new();
    let bytes = |command: &mut Command| finished(command.output().unwrap()).done().json()["bytes"].clone();
    assert_eq!(bytes(&mut with_file(&place, &["create", "a", "--json"])), 1 << 20);
    assert_eq!(bytes(&mut with_file(&place, &["create", "team", "--json"])), 2 << 20);
    assert_eq!(bytes(with_file(&place, &["create", "b", "--json"]).env("CACHE_SHM_SIZE", "3MiB")), 3 << 20);
    let mut command = with_file(&place, &["create", "c", "--size", "4MiB", "--json"]);
    assert_eq!(bytes(command.env("CACHE_SHM_SIZE", "3MiB")), 4 << 20);
    assert_eq!(place.run(&["info", "team", "--json"]).done().json()["when_full"], "no-evict");
    let ttl = |arguments: &[&str]| {
        finished(with_file(&place, arguments).output().unwrap()).done();
        place.run(&["get", "a", "k", "--json"]).done().json()["ttl_ms"].clone()
    };
    assert!(ttl(&["set", "a", "k", "v"]).as_u64().unwrap() > 3_500_000);
    assert!(ttl(&["set", "a", "k", "v", "--ttl", "60"]).as_u64().unwrap() <= 60_000);
    assert!(ttl(&["set", "a", "k", "v", "--ttl", "none"]).is_null());
}

#[test]
fn a_mistake_is_named_with_file_line_option_and_what_is_allowed() {
    let place = Place::new();
    let file = place.file("wrong.toml", b"[default]\nsize = \"lots\"\n");
    let run = finished(
        place.command(&["list", "--json"]).env_remove("CACHE_SHM_DIR").env("CACHE_SHM_CONFIG", &file).output().unwrap(),
    );
    let message = run.failed("invalid_config");
    assert!(message.contains("wrong.toml:2: size = \"lots\"") && message.contains("64MiB"), "{message}");
    let run = finished(place.command(&["create", "r", "--json"]).env("CACHE_SHM_EVICT", "maybe").output().unwrap());
    let message = run.failed("invalid_config");
    assert!(message.contains("CACHE_SHM_EVICT") && message.contains("true or false"), "{message}");
}
