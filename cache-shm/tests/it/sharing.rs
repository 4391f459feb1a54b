//! Regions shared by a group, and closed to everybody else.

use cache_shm::{Builder, Error};

use crate::support::{Dir, Peer, fork, is_root, join, listen, say, set_mode, skip};

const GROUP: u32 = 23_456;
const MEMBER: u32 = 23_457;
const STRANGER: u32 = 23_458;

/// Becomes another user for good, with the default directory of that user.
fn become_user(uid: u32, gid: u32) {
    // SAFETY: called in forked children, which have one thread. Not through `std`, whose
    // lock another thread may have held at the fork.
    assert_eq!(unsafe { libc::unsetenv(c"CACHE_SHM_DIR".as_ptr()) }, 0);
    // SAFETY: plain system calls of a process with one thread.
    unsafe {
        assert_eq!(libc::setgroups(0, std::ptr::null()), 0);
        assert_eq!(libc::setgid(gid), 0);
        assert_eq!(libc::setuid(uid), 0);
    }
}

/// Role: attaches as a member of the group and as a stranger.
pub fn other_user(region: Builder) {
    let shared = region.clone().group(GROUP);
    join(fork(|| {
        become_user(MEMBER, GROUP);
        let cache = shared.clone().open().unwrap();
        assert_eq!(cache.get(b"k").unwrap().as_deref(), Some(&b"owner"[..]));
        cache.set(b"k", b"member").unwrap();
        let refused = region.clone().open().unwrap_err();
        assert!(matches!(refused, Error::Permission { .. }), "members may swap files here: {refused:?}");
    }));
    join(fork(|| {
        become_user(STRANGER, STRANGER);
        for refused in [shared.clone().open(), region.clone().open()] {
            let error = refused.unwrap_err();
            assert!(matches!(error, Error::Permission { .. }), "{error:?}");
        }
    }));
    say("done");
    listen();
}

/// A directory of the group's own.
fn group_dir() -> Dir {
    let dir = Dir::new();
    std::os::unix::fs::chown(dir.path(), None, Some(GROUP)).unwrap();
    set_mode(dir.path(), 0o2770);
    dir
}

#[test]
fn a_group_shares_a_region_and_nobody_else_gets_in() {
    if !is_root() {
        return skip("a_group_shares_a_region_and_nobody_else_gets_in", "only root can become other users");
    }
    let dir = group_dir();
    let cache = dir.region("a").size(1 << 20).group(GROUP).create().unwrap();
    cache.set(b"k", b"owner").unwrap();
    let stat = rustix::fs::stat(dir.file("a")).unwrap();
    assert_eq!((stat.st_mode & 0o7777, stat.st_gid), (0o660, GROUP));
    let mut peer = Peer::start("other_user", &dir, "a");
    assert_eq!(peer.hear(), "done");
    peer.finish();
    assert_eq!(cache.get(b"k").unwrap().as_deref(), Some(&b"member"[..]));
}

#[test]
fn with_a_group_only_files_of_that_group_are_accepted() {
    if !is_root() {
        return skip("with_a_group_only_files_of_that_group_are_accepted", "only root can change groups");
    }
    let (dir, private) = (group_dir(), Dir::new());
    drop(private.region("a").size(1 << 20).create().unwrap());
    std::fs::rename(private.file("a"), dir.file("a")).unwrap();
    let error = dir.region("a").group(GROUP).open().unwrap_err();
    assert!(matches!(&error, Error::Permission { path, .. } if *path == dir.file("a")), "{error:?}");
}

#[test]
fn a_member_can_make_the_region_too() {
    if !is_root() {
        return skip("a_member_can_make_the_region_too", "only root can become other users");
    }
    let dir = group_dir();
    let member = dir.region("a").size(1 << 20).group(GROUP);
    join(fork(|| {
        become_user(MEMBER, GROUP);
        let cache = member.create().unwrap();
        cache.set(b"k", b"member").unwrap();
    }));
    let cache = dir.region("a").group(GROUP).open().unwrap();
    assert_eq!(cache.get(b"k").unwrap().as_deref(), Some(&b"member"[..]));
    let error = dir.region("a").open().unwrap_err();
    assert!(matches!(error, Error::Permission { .. }), "{error:?}");
    drop(cache);
    dir.region("a").group(GROUP).destroy().unwrap();
    assert_eq!(dir.names(), Vec::<String>::new());
}

#[test]
fn a_region_whose_name_cannot_be_taken_away_is_not_destroyed() {
    const TEST: &str = "a_region_whose_name_cannot_be_taken_away_is_not_destroyed";
    if !is_root() {
        return skip(TEST, "only root can become other users");
    }
    let dir = group_dir();
    set_mode(dir.path(), 0o3770);
    let cache = dir.region("a").size(1 << 20).group(GROUP).create().unwrap();
    let shared = dir.region("a").group(GROUP);
    join(fork(|| {
        become_user(MEMBER, GROUP);
        let cache = shared.clone().open().unwrap();
        for refused in [cache.destroy(), shared.clone().destroy()] {
            assert!(matches!(refused.unwrap_err(), Error::Permission { .. }));
        }
        cache.set(b"k", b"still there").unwrap();
    }));
    assert_eq!(cache.get(b"k").unwrap().as_deref(), Some(&b"still there"[..]));
    cache.set(b"k", b"v").unwrap();
}

#[test]
fn another_users_directory_under_the_per_user_name_is_refused() {
    const TEST: &str = "another_users_directory_under_the_per_user_name_is_refused";
    if !is_root() {
        return skip(TEST, "only root can become other users");
    }
    let dir = Dir::new();
    set_mode(dir.path(), 0o755);
    let path = format!("/dev/shm/cache-shm-{STRANGER}");
    let region = || cache_shm::Cache::builder(Some("a")).size(1 << 20).open_or_create();
    let in_user = |expect: &dyn Fn(Error)| {
        join(fork(|| {
            become_user(STRANGER, STRANGER);
            expect(region().unwrap_err());
        }));
    };
    std::os::unix::fs::symlink(dir.path(), &path).unwrap();
    in_user(&|error| assert_eq!(error, Error::Symlink { path: path.clone().into() }));
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    in_user(&|error| assert!(matches!(error, Error::Permission { .. }), "{error:?}"));
    std::fs::remove_dir(&path).unwrap();
    join(fork(|| {
        become_user(STRANGER, STRANGER);
        let cache = region().unwrap();
        assert_eq!(cache_shm::default_dir().unwrap(), std::path::Path::new(&path));
        assert_eq!(rustix::fs::stat(&path).unwrap().st_mode & 0o7777, 0o700);
        cache.destroy().unwrap();
    }));
    std::fs::remove_dir(&path).unwrap();
}
