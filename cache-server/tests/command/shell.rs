//! `completions`, `man` and `bench`.

use std::process::Command;

use super::place::Place;

/// The subcommands as the help lists them.
fn subcommands(place: &Place) -> Vec<String> {
    let help = place.run(&["--help"]).done();
    let listed = help.text().split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let words = listed.lines().filter_map(|line| line.split_whitespace().next());
    words.map(str::to_owned).collect()
}

#[test]
fn each_subcommand_has_a_page_and_is_completed_in_each_shell() {
    let place = Place::new();
    let subcommands = subcommands(&place);
    assert!(subcommands.len() > 20 && subcommands.contains(&"evict-tag".to_owned()), "{subcommands:?}");
    let directory = place.path().to_str().unwrap();
    place.run(&["man", "--output", directory]).done();
    let main = std::fs::read_to_string(place.path().join("cache-shm.1")).unwrap();
    for subcommand in &subcommands {
        let page = std::fs::read_to_string(place.path().join(format!("cache-shm-{subcommand}.1"))).unwrap();
        assert!(page.contains(".SH SYNOPSIS") && page.contains(".SH DESCRIPTION"), "{page}");
        assert_eq!(place.run(&["man", subcommand]).done().text(), page);
        assert!(main.contains(&subcommand.replace('-', "\\-")), "{subcommand}");
    }
    assert_eq!(place.run(&["man"]).done().text(), main);
    assert_eq!(place.run(&["man", "nothing"]).code, 1);
    let directory = place.path().join("share/man1");
    place.run(&["man", "--output", directory.to_str().unwrap()]).done();
    assert!(directory.join("cache-shm.1").exists(), "it is made");
    for shell in ["bash", "zsh", "fish"] {
        let script = place.run(&["completions", shell]).done();
        for subcommand in &subcommands {
            assert!(script.text().contains(subcommand.as_str()), "{shell} does not know {subcommand}");
        }
    }
    assert_eq!(place.run(&["completions", "cmd"]).code, 2);
}

#[test]
fn bash_completes_the_names_of_commands() {
    let place = Place::new();
    let script = place.file("completions", &place.run(&["completions", "bash"]).done().out);
    let program = format!(
        "source {}; COMP_WORDS=(cache-shm evi); COMP_CWORD=1; _cache__shm cache-shm evi cache-shm; echo ${{COMPREPLY[@]}}",
        script.display()
    );
    let Ok(output) = Command::new("bash").args(["--norc", "-c", &program]).output() else {
        println!("SKIP: no bash");
        return;
    };
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "evict-tag", "{output:?}");
}

#[test]
fn a_benchmark_measures_every_row_and_leaves_no_region() {
    let place = Place::new();
    let arguments = ["bench", "--seconds", "100ms", "--region-size", "4MiB", "--threads", "2", "--json"];
    let answer = place.run(&arguments).done().json();
    let rows = answer["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 12, "{answer}");
    for row in rows {
        assert!(row["ns"].as_f64().unwrap() > 0.0 && row["latency"]["p99_ns"].as_u64().unwrap() > 0, "{row}");
    }
    assert!(place.run(&["list", "--json"]).done().json().as_array().unwrap().is_empty());
    let text = place.run(&["bench", "--seconds", "50ms", "--region-size", "2MiB", "--threads", "1"]).done();
    assert!(text.text().contains("set, evicting") && text.text().contains("asking the clock"), "{}", text.text());
    assert_eq!(place.run(&["bench", "--threads", "0"]).code, 2);
}
