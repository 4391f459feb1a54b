//! `dump` and `restore` between regions, files and pipes.

use std::io::Read;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::time::{Duration, Instant};

use cache_shm::Cache;

use super::place::Place;

fn open(place: &Place, name: &str) -> Cache {
    Cache::builder(Some(name)).dir(place.path()).open().unwrap()
}

/// A region `r` with keys in two namespaces.
fn filled(place: &Place) {
    let cache = open(place, "r");
    for number in 0..500u64 {
        cache.set(format!("key {number}").as_bytes(), &number.to_le_bytes()).unwrap();
    }
    cache.namespace(b"users").unwrap().set_for(b"7", b"Ada", Duration::from_secs(600)).unwrap();
}

#[test]
fn a_region_comes_back_from_its_file_in_another_size() {
    let place = Place::with_region();
    filled(&place);
    let file = place.path().join("r.dump");
    let file = file.to_str().unwrap();
    let before = std::fs::read(place.path().join("r")).unwrap();
    let dumped = place.run(&["dump", "r", file, "--json"]).done().json();
    assert_eq!((&dumped["items"], &dumped["tagged"]), (&501.into(), &0.into()));
    assert_eq!(dumped["bytes"], std::fs::metadata(file).unwrap().len());
    assert_eq!(std::fs::metadata(file).unwrap().permissions().mode() & 0o7777, 0o600);
    assert!(std::fs::read(place.path().join("r")).unwrap() == before, "a dump leaves no trace");

    place.run(&["restore", "new", file, "--json"]).failed("missing");
    let restored = place.run(&["restore", "new", file, "--create", "--size", "4MiB", "--json"]).done().json();
    assert_eq!((&restored["stored"], &restored["kept"]), (&501.into(), &0.into()), "{restored}");
    let new = open(&place, "new");
    assert_eq!(new.geometry().unwrap().region_bytes, 4 << 20);
    assert_eq!(new.get(b"key 77").unwrap().unwrap(), 77u64.to_le_bytes());
    drop(new);
    let got = place.run(&["get", "new", "7", "--namespace", "users", "--json"]).done().json();
    assert_eq!(got["value_base64"].as_str().or(got["value"].as_str()), Some("Ada"));
    assert!((500_000..=600_000).contains(&got["ttl_ms"].as_u64().unwrap()), "{got}");
    place.run(&["restore", "same", file, "--create"]).done();
    assert_eq!(place.run(&["info", "same", "--json"]).done().json()["bytes"], 1 << 20);
}

#[test]
fn a_snapshot_goes_through_pipes() {
    let place = Place::with_region();
    filled(&place);
    let dumped = place.run(&["dump", "r", "-"]).done().out;
    place.run(&["create", "s", "--size", "2MiB"]).done();
    let run = place.run_with(&["restore", "s", "-", "--json"], &dumped).done().json();
    assert_eq!(run["stored"], 501);
    place.run(&["create", "u", "--size", "2MiB"]).done();
    let run = place.run_with(&["restore", "u", "/dev/stdin", "--json"], &dumped).done().json();
    assert_eq!(run["stored"], 501, "a pipe with a name is read once");
    let message = place.run_with(&["restore", "t", "-", "--create", "--json"], &dumped).failed("invalid_argument");
    assert!(message.contains("--size"), "{message}");
    let longer = [&dumped[..], b"x"].concat();
    let message = place.run_with(&["restore", "s", "-", "--replace", "--json"], &longer).failed("corrupt");
    assert!(message.contains("follows the end; 501 of about 501 values were stored"), "{message}");
}

#[test]
fn a_dump_flows_into_what_is_a_pipe_and_replaces_no_region() {
    let place = Place::with_region();
    filled(&place);
    let fifo = place.path().join("fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    // Opened both ways, so that nobody waits for the other side; the snapshot fits into the pipe.
    let at_once = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let mut reader = std::fs::File::options().read(true).write(true).custom_flags(at_once).open(&fifo).unwrap();
    assert_eq!(place.run(&["dump", "r", fifo.to_str().unwrap()]).code, 0);
    let mut first = [0; 8];
    reader.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"CSHMDUMP");
    assert!(std::fs::symlink_metadata(&fifo).unwrap().file_type().is_fifo(), "the pipe is still one");

    let dumped = place.run(&["dump", "r", "/dev/stdout"]).done().out;
    place.run_with(&["restore", "s", "-", "--create", "--size", "2MiB"], &dumped).done();
    let region = place.path().join("r");
    let message = place.run(&["dump", "r", region.to_str().unwrap(), "--json"]).failed("io");
    assert!(message.contains("a region"), "{message}");
    let socket = place.path().join("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    place.run(&["dump", "r", socket.to_str().unwrap(), "--json"]).failed("io");
    assert_eq!(place.run(&["get", "r", "7", "--namespace", "users"]).done().text(), "Ada", "nothing was replaced");
}

#[test]
fn a_damaged_file_restores_nothing_unless_the_rest_is_asked_for() {
    let place = Place::with_region();
    filled(&place);
    let mut bytes = place.run(&["dump", "r", "-"]).done().out;
    place.run(&["create", "s", "--size", "2MiB"]).done();
    let cut = place.file("cut", &bytes[..bytes.len() - 5]);
    let message = place.run(&["restore", "s", cut.to_str().unwrap(), "--json"]).failed("truncated");
    assert!(message.contains("cut off"), "{message}");
    bytes[200] ^= 1;
    let damaged = place.file("damaged", &bytes);
    let damaged = damaged.to_str().unwrap();
    let message = place.run(&["restore", "s", damaged, "--json"]).failed("corrupt");
    assert!(message.contains("damaged at byte 64"), "{message}");
    assert_eq!(place.run(&["keys", "s"]).code, 1);
    let run = place.run(&["restore", "s", damaged, "--skip-damaged"]);
    assert!(run.code == 1 && run.err.contains("damaged at byte 64"), "{run:?}");
    let other = place.file("other", b"no snapshot");
    place.run(&["restore", "s", other.to_str().unwrap(), "--json"]).failed("invalid_argument");
    for refused in [cut, other] {
        let file = refused.to_str().unwrap();
        assert_eq!(place.run(&["restore", "new", file, "--create", "--size", "2MiB", "--json"]).code, 2);
        place.run(&["info", "new", "--json"]).failed("missing");
    }
}

#[test]
fn a_snapshot_that_is_yet_to_be_made_is_told() {
    let place = Place::with_region();
    filled(&place);
    let mut bytes = place.run(&["dump", "r", "-"]).done().out;
    // An hour, in a clock that was an hour ahead.
    let made = u64::from_le_bytes(bytes[24..32].try_into().unwrap());
    bytes[24..32].copy_from_slice(&(made + 3_600_000).to_le_bytes());
    let crc = crc32fast::hash(&bytes[..60]);
    bytes[60..64].copy_from_slice(&crc.to_le_bytes());
    let run = place.run_with(&["restore", "s", "-", "--create", "--size", "2MiB", "--json"], &bytes);
    assert!(run.code == 0 && run.err.contains("yet to come"), "{run:?}");
    let restored = run.json();
    assert_eq!((&restored["stored"], &restored["expired"]), (&500.into(), &1.into()), "ten minutes were over by then");
}

#[test]
fn a_restore_beside_others_asks_and_keeps_what_is_newer() {
    let place = Place::with_region();
    filled(&place);
    let file = place.path().join("r.dump");
    let file = file.to_str().unwrap();
    place.run(&["dump", "r", file]).done();
    let cache = open(&place, "r");
    cache.set(b"key 1", b"newer").unwrap();
    let message = place.run(&["restore", "r", file, "--json"]).failed("invalid_argument");
    assert!(message.contains(&std::process::id().to_string()) && message.contains("--yes"), "{message}");
    let run = place.run(&["restore", "r", file, "--yes", "--json"]).done().json();
    assert_eq!((&run["stored"], &run["kept"]), (&0.into(), &501.into()));
    assert_eq!(cache.get(b"key 1").unwrap().unwrap(), b"newer");
    place.run(&["restore", "r", file, "--yes", "--replace"]).done();
    assert_eq!(cache.get(b"key 1").unwrap().unwrap(), 1u64.to_le_bytes());
}

#[test]
fn a_dump_that_is_killed_leaves_the_old_file_and_the_next_one_takes_away_what_else_it_left() {
    let place = Place::new();
    place.run(&["create", "r", "--size", "32MiB"]).done();
    let cache = open(&place, "r");
    for number in 0..20_000u64 {
        cache.set(&number.to_le_bytes(), &[1; 1000]).unwrap();
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("r.dump");
    let file = path.to_str().unwrap();
    place.run(&["dump", "r", file]).done();
    let begun = Instant::now();
    place.run(&["dump", "r", file]).done();
    let whole = begun.elapsed();
    let names =
        || -> Vec<_> { std::fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect() };
    for step in 0..20u32 {
        let mut dump = place.command(&["dump", "r", file]).spawn().unwrap();
        // Killed somewhere in it, each time later.
        let begun = Instant::now();
        while begun.elapsed() < whole * step / 20 {
            std::thread::yield_now();
        }
        dump.kill().unwrap();
        dump.wait().unwrap();
        let left = names();
        let known = |name: &std::ffi::OsString| name == "r.dump" || name == ".r.dump.new";
        assert!(left.iter().all(known), "after a kill at {step} of 20: {left:?}");
        cache_server::snapshot::check(&path, &mut cache_server::snapshot::unwatched).unwrap();
    }
    // As a kill between its last two steps leaves it.
    std::fs::copy(&path, path.with_file_name(".r.dump.new")).unwrap();
    place.run(&["dump", "r", file]).done();
    assert_eq!(names(), ["r.dump"]);
}
