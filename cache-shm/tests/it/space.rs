//! A full file system is an error or an earlier eviction, never a signal.

use std::path::Path;

use cache_shm::{Builder, Cache, Error, Mode};

use crate::support::{Dir, Peer, is_root, listen, say, skip};

/// A tmpfs of a few MiB.
struct Small(Dir);

impl Small {
    fn mount(test: &str, bytes: u64) -> Option<Small> {
        if !is_root() {
            skip(test, "only root can mount a small tmpfs");
            return None;
        }
        let dir = Dir::new();
        let options = std::ffi::CString::new(format!("size={bytes},mode=700")).unwrap();
        let flags = rustix::mount::MountFlags::NOSUID;
        if let Err(errno) = rustix::mount::mount("tmpfs", dir.path(), "tmpfs", flags, Some(&*options)) {
            skip(test, &format!("mount of a tmpfs: {errno}"));
            return None;
        }
        Some(Small(dir))
    }

    /// Takes all the space that is left.
    fn fill(&self) {
        let mut file = std::fs::File::create(self.0.file("filler")).unwrap();
        while std::io::Write::write(&mut file, &[1; 4096]).is_ok() {}
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(self.0.path(), rustix::mount::UnmountFlags::DETACH);
    }
}

/// Enough to fill the region once, and the file system long before.
const SETS: u32 = 3000;

fn value(number: u32) -> Vec<u8> {
    number.to_le_bytes().repeat(500)
}

/// Role: writes until the file system is full and on; says how it went.
pub fn fill(region: Builder) {
    let cache = region.open().unwrap();
    let (mut stored, mut refused) = (0, 0);
    for number in 0..SETS {
        match cache.set(&number.to_le_bytes(), &value(number)) {
            Ok(_) => stored += 1,
            Err(Error::NoSpace { bytes, path, .. }) => {
                assert!(bytes > 0 && path == cache.path().unwrap());
                refused += 1;
            }
            Err(error) => panic!("{error}"),
        }
        // What is there is right.
        for back in 0..3u32 {
            let key = number.saturating_sub(back);
            if let Some(found) = cache.get(&key.to_le_bytes()).unwrap() {
                assert_eq!(found, value(key));
            }
        }
    }
    say(&format!("{stored} {refused}"));
    listen();
}

fn fill_up(test: &str, mode: Mode) -> Option<(u32, u32, Small)> {
    let small = Small::mount(test, 8 << 20)?;
    let cache = small.0.region("a").size(6 << 20).mode(mode).create().unwrap();
    cache.set(b"first", b"value").unwrap();
    small.fill();
    let mut peer = Peer::start("fill", &small.0, "a");
    let answer = peer.hear();
    peer.finish();
    let (stored, refused) = answer.split_once(' ').unwrap();
    std::fs::remove_file(small.0.file("filler")).unwrap();
    cache.set(b"last", b"value").unwrap();
    assert!(cache.validate().unwrap().is_clean());
    Some((stored.parse().unwrap(), refused.parse().unwrap(), small))
}

#[test]
fn a_full_tmpfs_evicts_earlier_and_never_kills() {
    let Some((stored, _, _small)) = fill_up("a_full_tmpfs_evicts_earlier_and_never_kills", Mode::Evict) else { return };
    assert!(stored > 0, "some were stored in the space that the region had");
}

#[test]
fn a_full_tmpfs_is_an_error_where_nothing_may_be_evicted() {
    let test = "a_full_tmpfs_is_an_error_where_nothing_may_be_evicted";
    let Some((_, refused, _small)) = fill_up(test, Mode::NoEvict) else { return };
    assert!(refused > 0, "full is an error");
}

#[test]
fn a_region_larger_than_the_file_system_is_refused_and_docker_is_named() {
    let test = "a_region_larger_than_the_file_system_is_refused_and_docker_is_named";
    let Some(small) = Small::mount(test, 4 << 20) else { return };
    let error = small.0.region("a").size(64 << 20).create().unwrap_err();
    let Error::NoSpace { bytes, free_bytes, path } = &error else { panic!("{error:?}") };
    assert!(*bytes == 64 << 20 && *free_bytes <= 4 << 20 && path == small.0.path());
    assert!(error.to_string().contains("--shm-size"), "{error}");
    assert_eq!(small.0.names(), Vec::<String>::new(), "nothing is left over");

    let default = small.0.region("a").open_or_create().unwrap();
    assert!(default.opened().default_size.unwrap() <= 2 << 20, "half of what is free");
    drop(default);
    Cache::destroy_name("a", Some(small.0.path())).unwrap();
    small.fill();
    for refused in [small.0.region("a").open_or_create(), small.0.region("a").size(1 << 20).create()] {
        assert!(matches!(refused.unwrap_err(), Error::NoSpace { .. }));
    }
    assert_eq!(small.0.names(), ["filler"]);
}

#[test]
fn prealloc_takes_all_the_memory_at_once() {
    let dir = Dir::new();
    let used = |path: &Path| rustix::fs::stat(path).unwrap().st_blocks as u64 * 512;
    let _lazy = dir.region("lazy").size(8 << 20).create().unwrap();
    let _eager = dir.region("eager").size(8 << 20).prealloc(true).create().unwrap();
    assert!(used(&dir.file("lazy")) < 2 << 20, "{}", used(&dir.file("lazy")));
    assert_eq!(used(&dir.file("eager")), 8 << 20);
}

/// Bytes of this process's mapping of `file` that one entry of a page table maps by 2 MiB.
fn huge_bytes(file: &Path) -> u64 {
    let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    // By its number: it is mapped under the name that it had while it was made.
    let inode = rustix::fs::stat(file).unwrap().st_ino.to_string();
    let mut lines = maps.lines().skip_while(|line| line.split_whitespace().nth(4) != Some(&inode));
    let kib = lines.find_map(|line| line.strip_prefix("ShmemPmdMapped:")).expect("the file is mapped");
    kib.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() << 10
}

#[test]
fn prealloc_holds_a_region_in_huge_pages_where_the_kernel_has_them() {
    const BYTES: u64 = 32 << 20;
    let dir = Dir::new();
    let [plain, huge] = [("plain", false), ("huge", true)].map(|(name, prealloc)| {
        let cache = dir.region(name).size(BYTES).prealloc(prealloc).create().unwrap();
        cache.set(b"key", b"value").unwrap();
        let bytes = huge_bytes(&dir.file(name));
        assert_eq!(cache.get(b"key").unwrap().as_deref(), Some(&b"value"[..]));
        assert!(cache.validate().unwrap().is_clean());
        bytes
    });
    if huge == 0 {
        // Nothing that could be installed would help.
        eprintln!("SKIP: huge pages: this kernel gives none to shared memory");
        return;
    }
    // The ends of the region fill no huge page, and the kernel may be short of some.
    assert!(plain == 0 && (BYTES / 2..=BYTES).contains(&huge), "{plain}, {huge}");
}
