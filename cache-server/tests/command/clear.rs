//! `clear`, `evict-tag` and `destroy`, alone and beside others.

use std::os::unix::fs::FileExt;

use cache_shm::{Cache, WriteOptions};

use super::place::Place;

fn open(place: &Place) -> Cache {
    Cache::builder(Some("r")).dir(place.path()).open().unwrap()
}

#[test]
fn a_clear_removes_what_it_names_and_nothing_else() {
    let place = Place::with_region();
    let cache = open(&place);
    let users = cache.namespace(b"users").unwrap();
    let fill = || {
        cache.set(b"k", b"v").unwrap();
        users.set(b"k", b"v").unwrap();
    };
    let left = || (cache.contains(b"k").unwrap(), users.contains(b"k").unwrap());
    fill();
    place.run(&["clear", "r", "--namespace", "users", "--yes"]).done();
    assert_eq!(left(), (true, false));
    fill();
    let run = place.run(&["clear", "r", "--yes", "--json"]).done().json();
    assert_eq!((run["cleared"].as_str(), left()), (Some(""), (false, true)));
    fill();
    place.run(&["clear", "r", "--all", "--yes"]).done();
    assert_eq!(left(), (false, false));
    assert_eq!(place.run(&["clear", "r", "--namespace", "usres", "--yes"]).code, 1);
    assert_eq!(place.run(&["evict-tag", "r", "t", "--namespace", "usres"]).code, 1);
    assert_eq!(place.run(&["delete", "r", "k", "--namespace", "usres"]).code, 1);
    assert_eq!(cache.namespaces().unwrap().len(), 2, "a misspelt name makes no namespace");
    place.run(&["clear", "r", "--all", "--namespace", "users", "--json"]).failed("invalid_argument");
}

#[test]
fn a_tag_takes_its_values_along() {
    let place = Place::new();
    // So large that no two of a handful of tags share a word.
    place.run(&["create", "r", "--size", "512MiB"]).done();
    let cache = open(&place);
    for name in [b"one", b"two"] {
        let options = WriteOptions { tags: &[name], ..cache.options() };
        cache.set_with(name, b"v", &options).unwrap();
    }
    place.run(&["evict-tag", "r", "one"]).done();
    assert_eq!((cache.contains(b"one").unwrap(), cache.contains(b"two").unwrap()), (false, true));
    place.run(&["evict-tag", "r", "", "--json"]).failed("label_length");
}

/// Changes a bit of the header of the region `r`: bytes 8 to 184 have their checksum behind them.
fn edit_header(place: &Place, at: usize, is_believed: bool) {
    let file = std::fs::File::options().read(true).write(true).open(place.path().join("r")).unwrap();
    let mut header = [0; 192];
    file.read_exact_at(&mut header, 0).unwrap();
    header[at] ^= 1;
    if is_believed {
        let checksum = rapidhash::v3::rapidhash_v3(&header[8..184]);
        header[184..].copy_from_slice(&checksum.to_le_bytes());
    }
    file.write_all_at(&header, 0).unwrap();
}

/// Of the boot in which a region was made, see docs/region-format.md.
const BOOT_ID_OFFSET: usize = 136;

#[test]
fn nobody_is_asked_for_those_who_were_attached_before_the_host_started_anew() {
    let place = Place::with_region();
    place.run(&["set", "r", "k", "v"]).done();
    let dump = place.path().join("r.dump");
    let dump = dump.to_str().unwrap();
    place.run(&["dump", "r", dump]).done();
    for command in [vec!["restore", "r", dump], vec!["clear", "r"], vec!["repair", "r"], vec!["destroy", "r"]] {
        edit_header(&place, BOOT_ID_OFFSET, true);
        place.run(&["info", "r", "--json"]).failed("earlier_boot");
        assert_eq!(place.run(&command).code, 0, "{command:?}");
    }
    place.run(&["info", "r", "--json"]).failed("missing");
}

#[test]
fn a_region_is_not_destroyed_unseen_without_yes() {
    let place = Place::with_region();
    let attached = open(&place);
    edit_header(&place, BOOT_ID_OFFSET, false);
    let message = place.run(&["destroy", "r", "--json"]).failed("invalid_argument");
    assert!(message.contains("cannot be seen") && message.contains("--yes"), "{message}");
    assert!(place.path().join("r").exists());
    place.run(&["destroy", "r", "--yes"]).done();
    assert!(!place.path().join("r").exists());
    drop(attached);
}

#[test]
fn what_takes_something_from_others_is_refused_without_yes() {
    let place = Place::with_region();
    let cache = open(&place);
    cache.set(b"k", b"v").unwrap();
    for command in [vec!["clear", "r"], vec!["clear", "r", "--all"], vec!["destroy", "r"], vec!["repair", "r"]] {
        let message = place.run(&[command, vec!["--json"]].concat()).failed("invalid_argument");
        assert!(message.contains(&std::process::id().to_string()) && message.contains("--yes"), "{message}");
    }
    assert!(cache.contains(b"k").unwrap());
    drop(cache);
    place.run(&["clear", "r"]).done();
    let cache = open(&place);
    place.run(&["destroy", "r", "--yes"]).done();
    assert!(cache.set(b"k", b"v").is_err());
}
