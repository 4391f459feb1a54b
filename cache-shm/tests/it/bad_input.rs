//! What stands in the way gets a named error that says what to do, and nothing stored is
//! harmed.

use std::os::unix::fs::FileExt;
use std::path::Path;

use cache_core::layout::header;
use cache_shm::{Cache, Error, REGION_BYTES_MIN};

use crate::support::{Dir, edit_header, is_root, set_mode, skip};

fn open(dir: &Dir, name: &str) -> Error {
    dir.region(name).size(1 << 20).open_or_create().unwrap_err()
}

#[test]
fn a_symbolic_link_is_refused_even_if_it_leads_to_a_region() {
    let dir = Dir::new();
    drop(dir.region("real").size(1 << 20).create().unwrap());
    std::os::unix::fs::symlink("real", dir.file("link")).unwrap();
    std::os::unix::fs::symlink("nothing", dir.file("broken")).unwrap();
    assert_eq!(open(&dir, "link"), Error::Symlink { path: dir.file("link") });
    assert_eq!(open(&dir, "broken"), Error::Symlink { path: dir.file("broken") });
    let destroyed = Cache::destroy_name("link", Some(dir.path()));
    assert_eq!(destroyed.unwrap_err(), Error::Symlink { path: dir.file("link") });
    assert!(dir.region("real").open().is_ok());
}

#[test]
fn a_directory_in_which_others_can_swap_the_region_is_refused() {
    let dir = Dir::new();
    std::fs::create_dir(dir.file("open")).unwrap();
    set_mode(&dir.file("open"), 0o777);
    let location = dir.file("open").join("a");
    let refused = Cache::builder(location.to_str()).size(1 << 20).open_or_create().unwrap_err();
    assert!(matches!(&refused, Error::Permission { path, .. } if *path == dir.file("open")), "{refused}");
    set_mode(&dir.file("open"), 0o1777);
    assert!(Cache::builder(location.to_str()).size(1 << 20).open_or_create().is_ok(), "sticky, as /dev/shm itself");
}

#[test]
fn files_that_are_not_regions_are_refused_and_left_alone() {
    let dir = Dir::new();
    let text = "not a region\n".repeat(1000);
    std::fs::write(dir.file("text"), &text).unwrap();
    std::fs::write(dir.file("short"), "x").unwrap();
    std::fs::write(dir.file("empty"), "").unwrap();
    std::fs::write(dir.file("zeros"), [0u8; 1 << 16]).unwrap();
    std::fs::create_dir(dir.file("directory")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        dir.file("pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        0,
    )
    .unwrap();
    for name in ["text", "short", "empty", "zeros"] {
        set_mode(&dir.file(name), 0o600);
    }
    for name in ["text", "short", "empty", "zeros", "directory", "pipe"] {
        let error = open(&dir, name);
        assert!(matches!(&error, Error::NotRegion { path, .. } if *path == dir.file(name)), "{name}: {error:?}");
        let error = Cache::destroy_name(name, Some(dir.path())).unwrap_err();
        assert!(matches!(&error, Error::NotRegion { .. }), "{name}: {error:?}");
    }
    assert_eq!(std::fs::read_to_string(dir.file("text")).unwrap(), text);
    assert_eq!(std::fs::read(dir.file("zeros")).unwrap(), [0u8; 1 << 16]);
}

#[test]
fn a_truncated_region_is_named_with_both_sizes() {
    let dir = Dir::new();
    for (name, bytes) in [("half", 1 << 19), ("page", 4096), ("less", 100)] {
        drop(dir.region(name).size(1 << 20).create().unwrap());
        std::fs::File::options().write(true).open(dir.file(name)).unwrap().set_len(bytes).unwrap();
        let expected = Error::Truncated { path: dir.file(name), bytes, bytes_expected: 1 << 20 };
        assert_eq!(open(&dir, name), expected);
        assert_eq!(dir.region(name).read_only(true).open().unwrap_err(), expected);
        Cache::destroy_name(name, Some(dir.path())).unwrap();
        assert!(dir.region(name).size(1 << 20).open_or_create().unwrap().opened().created);
    }
}

#[test]
fn another_format_version_is_named_and_can_be_destroyed() {
    let dir = Dir::new();
    drop(dir.region("a").size(1 << 20).create().unwrap());
    edit_header(&dir.file("a"), |page| page[header::VERSION as usize] = 9);
    let expected = Error::FormatVersion { path: dir.file("a"), found: 9, supported: cache_shm::FORMAT_VERSION };
    assert_eq!(open(&dir, "a"), expected);
    let listed = &cache_shm::regions(Some(dir.path())).unwrap()[0];
    assert_eq!((listed.format_version, listed.state), (9, cache_shm::State::OtherVersion));
    Cache::destroy_name("a", Some(dir.path())).unwrap();
    assert!(dir.region("a").size(1 << 20).open_or_create().is_ok());
}

#[test]
fn a_damaged_header_is_an_error_whichever_bit_flips() {
    let dir = Dir::new();
    drop(dir.region("a").size(1 << 20).create().unwrap());
    let file = std::fs::File::options().read(true).write(true).open(dir.file("a")).unwrap();
    let mut page = [0u8; 4096];
    file.read_exact_at(&mut page, 0).unwrap();
    for bit in 0..(header::CHECKSUM + 8) * 8 {
        let mut damaged = page;
        damaged[bit as usize / 8] ^= 1 << (bit % 8);
        file.write_all_at(&damaged, 0).unwrap();
        let error = dir.region("a").open().unwrap_err();
        assert!(
            matches!(error, Error::NotRegion { .. } | Error::Corrupt { .. } | Error::FormatVersion { .. }),
            "bit {bit}: {error:?}"
        );
    }
    file.write_all_at(&page, 0).unwrap();
    assert!(dir.region("a").open().is_ok());
}

#[test]
fn a_region_of_another_owner_or_mode_is_refused() {
    let dir = Dir::new();
    drop(dir.region("a").size(1 << 20).create().unwrap());
    for mode in [0o666, 0o604, 0o700, 0o4600] {
        set_mode(&dir.file("a"), mode);
        let error = open(&dir, "a");
        assert!(matches!(&error, Error::Permission { path, .. } if *path == dir.file("a")), "{mode:o}: {error:?}");
    }
    set_mode(&dir.file("a"), 0o600);
    assert!(dir.region("a").open().is_ok());
    if !is_root() {
        return skip("a_region_of_another_owner_or_mode_is_refused", "only root can give a file away");
    }
    std::os::unix::fs::chown(dir.file("a"), Some(12345), None).unwrap();
    let expected = Error::ForeignOwner { path: dir.file("a"), uid: 12345, uid_expected: 0 };
    assert_eq!(open(&dir, "a"), expected);
    assert_eq!(Cache::destroy_name("a", Some(dir.path())).unwrap_err(), expected);
    assert!(expected.to_string().contains("12345"));
}

#[test]
fn a_directory_of_another_user_is_refused() {
    if !is_root() {
        return skip("a_directory_of_another_user_is_refused", "only root can give a directory away");
    }
    let dir = Dir::new();
    std::os::unix::fs::chown(dir.path(), Some(12345), None).unwrap();
    let error = open(&dir, "a");
    assert!(matches!(&error, Error::Permission { path, .. } if path == dir.path()), "{error:?}");
}

#[test]
fn sizes_and_arguments_out_of_range_are_refused_before_anything_is_made() {
    let dir = Dir::new();
    for bytes in [0, 1, REGION_BYTES_MIN - 1, u64::MAX, (1 << 42) + 1] {
        let error = dir.region("a").size(bytes).open_or_create().unwrap_err();
        assert_eq!(error, Error::InvalidSize { given: bytes.to_string(), bytes_min: REGION_BYTES_MIN });
    }
    for mode in [0o000, 0o400, 0o644, 0o777, 0o2660] {
        let error = dir.region("a").size(1 << 20).file_mode(mode).open_or_create().unwrap_err();
        assert!(matches!(error, Error::InvalidArgument { .. }), "{mode:o}: {error:?}");
    }
    for refused in [
        dir.region("a").read_only(true).create(),
        Cache::builder(None).open(),
        Cache::builder(None).read_only(true).open_or_create(),
        dir.region("a").group(0).file_mode(0o600).open_or_create(),
    ] {
        assert!(matches!(refused.unwrap_err(), Error::InvalidArgument { .. }));
    }
    assert_eq!(dir.names(), Vec::<String>::new());
}

#[test]
fn a_directory_that_does_not_exist_is_named() {
    let dir = Dir::new();
    let error = Cache::builder(Some("a")).dir(dir.file("none")).open().unwrap_err();
    assert_eq!(error, Error::Missing { path: dir.file("none").join("a") });
    let path = dir.file("none").join("a");
    let error = Cache::builder(path.to_str()).size(1 << 20).open_or_create().unwrap_err();
    assert_eq!(error, Error::Missing { path: path.clone() }, "a path is taken as it is");
    let made = Cache::builder(Some("a")).dir(dir.file("none")).size(1 << 20).open_or_create();
    assert!(made.is_ok() && path.exists(), "a directory for names is made");
}

#[test]
fn a_file_system_that_cannot_share_memory_is_refused() {
    const TEST: &str = "a_file_system_that_cannot_share_memory_is_refused";
    if !is_root() {
        return skip(TEST, "only root can mount an overlay");
    }
    let dir = Dir::new();
    for name in ["lower", "upper", "work", "merged"] {
        std::fs::create_dir(dir.file(name)).unwrap();
    }
    let options = format!(
        "lowerdir={},upperdir={},workdir={}",
        dir.file("lower").display(),
        dir.file("upper").display(),
        dir.file("work").display()
    );
    let options = std::ffi::CString::new(options).unwrap();
    let flags = rustix::mount::MountFlags::empty();
    if let Err(errno) = rustix::mount::mount("overlay", dir.file("merged"), "overlay", flags, Some(&*options)) {
        return skip(TEST, &format!("mount of an overlay: {errno}"));
    }
    let opened = Cache::builder(dir.file("merged").join("a").to_str()).size(1 << 20).open_or_create();
    rustix::mount::unmount(dir.file("merged"), rustix::mount::UnmountFlags::DETACH).unwrap();
    let error = opened.unwrap_err();
    assert!(matches!(&error, Error::UnsupportedFilesystem { path, .. } if *path == dir.file("merged")), "{error:?}");
}

#[test]
fn keys_and_values_over_the_limit_name_both_numbers() {
    let dir = Dir::new();
    let cache = dir.region("a").size(1 << 20).create().unwrap();
    cache.set(b"k", b"v").unwrap();
    assert_eq!(cache.set(b"", b"v").unwrap_err(), Error::KeyEmpty);
    let long = vec![b'k'; 65_536];
    assert_eq!(cache.get(&long).unwrap_err(), Error::KeyTooLong { bytes: 65_536, bytes_max: 65_535 });
    let large = vec![0u8; 1 << 20];
    let error = cache.set(b"k", &large).unwrap_err();
    assert!(
        matches!(error, Error::ValueTooLarge { bytes, bytes_max } if bytes == 1 << 20 && bytes_max < bytes),
        "{error:?}"
    );
    assert_eq!(cache.get(b"k").unwrap().as_deref(), Some(&b"v"[..]));
}

#[test]
fn a_closed_handle_says_so_and_its_clones_too() {
    let dir = Dir::new();
    let cache = dir.region("a").size(1 << 20).create().unwrap();
    cache.set(b"k", b"value").unwrap();
    let (clone, other) = (cache.clone(), dir.region("a").open().unwrap());
    let view = cache.view(b"k").unwrap().unwrap();
    cache.close();
    assert!(clone.is_closed());
    assert_eq!(clone.get(b"k").unwrap_err(), Error::Closed);
    assert_eq!(clone.set(b"k", b"v").unwrap_err(), Error::Closed);
    assert_eq!(&*view, b"value", "a view outlives its handle");
    assert!(other.get(b"k").unwrap().is_some(), "another handle is another handle");
    drop((clone, other));
    let raw = crate::support::Raw::open(&dir.file("a"));
    assert!(cache_core::participant::occupied(&raw.region(), &raw.geometry, 0), "the view keeps its process attached");
    drop(view);
    assert!(!cache_core::participant::occupied(&raw.region(), &raw.geometry, 0), "the last of them detached");
}

#[test]
fn the_error_says_what_to_do() {
    for (error, advice) in [
        (Error::Missing { path: Path::new("/x").into() }, "create it"),
        (Error::NoSpace { bytes: 2, free_bytes: 1, path: Path::new("/x").into() }, "Docker"),
        (Error::Gone { path: Path::new("/x").into() }, "the next call uses"),
    ] {
        assert!(error.to_string().contains(advice), "{error}");
    }
}
