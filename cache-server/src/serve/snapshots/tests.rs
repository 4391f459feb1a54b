//! What a start, a snapshot and an end do with the files.

use std::path::Path;

use cache_shm::Mode;

use super::*;
use crate::snapshot::{Progress, unwatched};

fn region() -> Cache {
    Cache::builder(None).size(2 << 20).create().unwrap()
}

fn snapshots(file: &Path) -> Snapshots {
    let mut config = Config::default();
    (config.snapshot_file, config.snapshot_at_end) = (Some(file.to_owned()), true);
    Snapshots::new(&config).unwrap().unwrap()
}

/// What a start does.
fn start(snapshots: &Snapshots, cache: &Cache) {
    if snapshots.is_wanted(cache).unwrap() {
        assert!(snapshots.restore(cache, &mut unwatched).is_continue());
    }
}

fn finish(snapshots: &Snapshots, cache: &Cache) {
    snapshots.finish(cache, &mut unwatched).unwrap();
}

fn fill(cache: &Cache, keys: u64) {
    for key in 0..keys {
        cache.set(&key.to_le_bytes(), &[1; 1000]).unwrap();
    }
}

fn len_of(file: &Path) -> u64 {
    let cache = Cache::builder(None).size(16 << 20).create().unwrap();
    snapshot::restore(&cache, file, &Options::default(), &mut unwatched).unwrap().stored
}

#[test]
fn what_was_there_at_the_end_is_there_at_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let snapshots = snapshots(&directory.path().join("file"));
    let (before, after) = (region(), region());
    start(&snapshots, &after);
    assert_eq!(snapshots.told(), Told::default(), "there was none");
    before.set(b"key", b"value").unwrap();
    finish(&snapshots, &before);
    start(&snapshots, &after);
    assert_eq!(after.get(b"key").unwrap().as_deref(), Some(&b"value"[..]));
    let told = snapshots.told();
    assert_eq!((told.written, told.failed, told.items, told.restored), (1, 0, 1, 1));
    assert!(told.unix_ms > 0 && told.bytes > 0);
}

#[test]
fn a_restore_that_was_ended_is_taken_up_by_the_next_start_and_one_that_was_not_is_not_repeated() {
    // Who found its own region there took it for one that has all; the next snapshot replaced the file.
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    let before = Cache::builder(None).size(16 << 20).create().unwrap();
    fill(&before, 3000);
    finish(&snapshots(&file), &before);
    let after = Cache::builder(None).size(16 << 20).create().unwrap();
    let mut ends = |progress: Progress| match progress.items {
        0 => ControlFlow::Continue(()),
        _ => ControlFlow::Break(()),
    };
    let first = snapshots(&file);
    assert!(first.is_wanted(&after).unwrap());
    assert!(first.restore(&after, &mut ends).is_break());
    assert!((1..3000).contains(&after.len().unwrap()));
    assert_eq!(first.told().restored, after.len().unwrap());
    start(&snapshots(&file), &after);
    assert_eq!(after.len().unwrap(), 3000);
    after.delete(&7u64.to_le_bytes()).unwrap();
    start(&snapshots(&file), &after);
    assert_eq!(after.len().unwrap(), 2999, "what was deleted since stays so");
}

#[test]
fn a_snapshot_of_another_region_is_kept_before_it_is_replaced() {
    // A region that was destroyed under its server cost the last snapshot too.
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    let snapshots = snapshots(&file);
    let (first, second) = (region(), region());
    first.set(b"key", b"value").unwrap();
    finish(&snapshots, &first);
    finish(&snapshots, &second);
    finish(&snapshots, &second);
    assert_eq!((len_of(&file), len_of(&file.with_added_extension("before"))), (0, 1));
    finish(&snapshots, &first);
    assert_eq!(len_of(&file), 1);
    assert_eq!(len_of(&file.with_added_extension("before")), 1, "the older one stays");
    assert_eq!(len_of(&file.with_added_extension("before.2")), 0);
}

#[test]
fn a_snapshot_that_nothing_is_known_of_is_restored_to_a_region_that_is_newer() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    let older = region();
    older.set(b"key", b"value").unwrap();
    snapshot::write(&older, &file, &mut unwatched).unwrap();
    while unix_ms() <= snapshot::header(&file).unwrap().created_unix_ms {
        std::hint::spin_loop();
    }
    let newer = region();
    assert!(snapshots(&file).is_wanted(&newer).unwrap());
    older.delete(b"key").unwrap();
    assert!(!snapshots(&file).is_wanted(&older).unwrap(), "it was dropped, not lost");
    finish(&snapshots(&file), &older);
    assert_eq!(len_of(&file.with_added_extension("before")), 1);
}

#[test]
fn a_snapshot_that_was_put_in_place_by_hand_is_not_taken_for_the_last_one() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    let (first, second) = (region(), region());
    first.set(b"key", b"value").unwrap();
    finish(&snapshots(&file), &first);
    finish(&snapshots(&file), &second);
    let before = file.with_added_extension("before");
    std::fs::rename(&before, &file).unwrap();
    finish(&snapshots(&file), &second);
    assert_eq!((len_of(&file), len_of(&before)), (0, 1), "the one that was put there is kept");
    std::fs::rename(&before, &file).unwrap();
    let third = region();
    start(&snapshots(&file), &third);
    assert_eq!(third.len().unwrap(), 1);
}

#[test]
fn what_could_not_be_restored_is_kept_under_a_name_that_is_free() {
    // A region that was full in the middle of the restore was the whole of the next snapshot.
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    let before = Cache::builder(None).size(8 << 20).create().unwrap();
    fill(&before, 5000);
    finish(&snapshots(&file), &before);
    let whole = len_of(&file);
    for name in ["file.unrestored", "file.unrestored.2"] {
        let small = Cache::builder(None).size(1 << 20).mode(Mode::NoEvict).create().unwrap();
        let snapshots = snapshots(&file);
        start(&snapshots, &small);
        assert!(snapshots.told().restored > 0);
        let kept = len_of(&file);
        finish(&snapshots, &small);
        assert_eq!(len_of(&directory.path().join(name)), kept);
        assert_eq!(len_of(&file), small.len().unwrap());
        std::fs::copy(directory.path().join("file.unrestored"), &file).unwrap();
    }
    assert_eq!(len_of(&directory.path().join("file.unrestored")), whole);
}

#[test]
fn a_restore_that_evicts_is_not_complete() {
    // It was marked as such, and the next snapshot replaced the only file that had all.
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    let before = Cache::builder(None).size(8 << 20).create().unwrap();
    fill(&before, 5000);
    finish(&snapshots(&file), &before);
    let whole = len_of(&file);
    let small = Cache::builder(None).size(1 << 20).create().unwrap();
    start(&snapshots(&file), &small);
    assert!(small.stats().unwrap().evictions > 0);
    let snapshots = snapshots(&file);
    assert!(snapshots.is_wanted(&small).unwrap(), "it is not marked");
    start(&snapshots, &small);
    finish(&snapshots, &small);
    assert_eq!(len_of(&file.with_added_extension("unrestored")), whole);
    assert!(len_of(&file) < whole);
}

#[test]
fn a_mark_that_cannot_be_written_leaves_the_snapshot_in_its_place() {
    // It was renamed first; then nothing had its name any more.
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    let (snapshots, first, second) = (snapshots(&file), region(), region());
    finish(&snapshots, &first);
    let written = std::fs::read(&file).unwrap();
    let mark = snapshot::hidden(&file, "region");
    std::fs::remove_file(&mark).unwrap();
    std::fs::create_dir(&mark).unwrap();
    snapshots.finish(&second, &mut unwatched).unwrap_err();
    assert_eq!(std::fs::read(&file).unwrap(), written);
    assert!(!file.with_added_extension("before").exists());
}

#[test]
fn a_snapshot_of_a_later_release_is_not_taken_for_damaged() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    finish(&snapshots(&file), &region());
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[8] = 9;
    std::fs::write(&file, &bytes).unwrap();
    let (snapshots, cache) = (snapshots(&file), region());
    start(&snapshots, &cache);
    assert_eq!(std::fs::read(&file).unwrap(), bytes, "it stays for that release");
    finish(&snapshots, &cache);
    assert_eq!(std::fs::read(file.with_added_extension("unrestored")).unwrap(), bytes);
}

#[test]
fn a_damaged_snapshot_is_kept_aside_and_a_failure_leaves_the_last_one() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    let snapshots = snapshots(&file);
    let cache = region();
    for (content, name) in [("no snapshot", "file.damaged"), ("another", "file.damaged.2")] {
        std::fs::write(&file, content).unwrap();
        start(&snapshots, &cache);
        assert_eq!(std::fs::read_to_string(directory.path().join(name)).unwrap(), content);
    }
    finish(&snapshots, &cache);
    let written = std::fs::read(&file).unwrap();
    let closed = region();
    closed.clone().close();
    snapshots.finish(&closed, &mut unwatched).unwrap_err();
    assert_eq!((snapshots.told().written, snapshots.told().failed), (1, 1));
    assert_eq!(std::fs::read(&file).unwrap(), written);
}

#[test]
fn a_snapshot_that_is_ended_or_given_up_leaves_the_last_one() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    let (snapshots, first, second) = (snapshots(&file), region(), region());
    finish(&snapshots, &first);
    let (written, told) = (std::fs::read(&file).unwrap(), snapshots.told());
    for cache in [&first, &second] {
        let ended = snapshots.write(cache, &mut |_| ControlFlow::Break(())).unwrap_err();
        assert!(matches!(ended, Failure::Cancelled));
    }
    snapshots.give_up();
    // Whoever wanted it is told.
    assert!(snapshots.finish(&second, &mut unwatched).unwrap_err().to_string().contains("a second signal"));
    assert_eq!((std::fs::read(&file).unwrap(), snapshots.told()), (written, told));
    assert!(!file.with_added_extension("before").exists());
}

#[test]
fn a_place_where_no_snapshot_can_be_written_is_told_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let (fifo, plain) = (directory.path().join("fifo"), directory.path().join("plain"));
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    std::fs::write(&plain, b"").unwrap();
    let refused = |file: &Path| {
        let mut config = Config::default();
        config.snapshot_file = Some(file.to_owned());
        Snapshots::new(&config).unwrap_err().to_string()
    };
    let below = plain.join("file");
    for file in [&fifo, directory.path(), &below, "/proc/self/file".as_ref(), "/nowhere/at/all".as_ref()] {
        let shown = refused(file);
        let directory = file.parent().unwrap().to_str().unwrap();
        assert!(shown.contains(directory), "{shown}");
    }
    assert!(Snapshots::new(&Config::default()).unwrap().is_none());
}
