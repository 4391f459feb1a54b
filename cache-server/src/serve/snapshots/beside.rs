//! The files beside that of the snapshots: the mark, and snapshots that are kept.
//!
//! Owns: their names and their bytes. What has the snapshots' own name stays there, whatever becomes
//! of these. Each is made under a name that is always the same one, so that what a kill leaves there
//! goes with the next, and then gets its own in one step.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::process::geteuid;

use crate::failure::{Failure, Result};
use crate::snapshot::{self, directory_of, hidden};

/// Names for snapshots that are kept for one reason. Where all are taken the oldest goes.
const KEPT_MAX: u32 = 5;

/// A region that has all that is in the snapshot of this id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// The region.
    pub region_id: [u8; 16],
    /// The snapshot's id.
    pub id: u64,
}

/// Under which name a snapshot is kept.
#[derive(Debug, PartialEq, Eq)]
pub struct Kept {
    /// That name.
    pub name: PathBuf,
    /// An older one had it.
    pub replaced: bool,
}

/// Looks whether the mark of the snapshots `file`, and what they are made under, can be written.
///
/// # Errors
/// A directory has one of the names; or somebody else's file, where others may put files.
pub fn check(file: &Path) -> Result<()> {
    let directory = directory_of(file);
    let read = |path: &Path, error: &io::Error| Failure::file("read", path, error);
    let others_may_write = directory.metadata().map_err(|error| read(directory, &error))?.mode() & 0o022 != 0;
    for what in ["new", "region", "region.new", "kept"] {
        let path = hidden(file, what);
        let found = match path.symlink_metadata() {
            Ok(found) => found,
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(read(&path, &error)),
        };
        let refused = |why: &str| Err(Failure::file("replace", &path, &io::Error::other(why)));
        if found.is_dir() {
            return refused("it is a directory, where snapshots need a file");
        }
        if others_may_write && found.uid() != geteuid().as_raw() {
            return refused("it is another user's, in a directory that others may write");
        }
    }
    Ok(())
}

/// The region that has all that is in `file`; `None` if that is not known.
pub fn marked(file: &Path) -> Option<Mark> {
    let id = snapshot::header(file).ok()?.id;
    let text = std::fs::read_to_string(hidden(file, "region")).ok()?;
    text.lines().find_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let region_id = u128::from_str_radix(words.next()?, 16).ok()?.to_be_bytes();
        words.any(|word| u64::from_str_radix(word, 16) == Ok(id)).then_some(Mark { region_id, id })
    })
}

/// Notes what is known of the snapshots that have the name `file`, or are about to get it.
///
/// # Errors
/// The system refuses; then the mark is as it was.
pub fn mark(file: &Path, marks: &[Mark]) -> Result<()> {
    let (new, path) = (hidden(file, "region.new"), hidden(file, "region"));
    let line = |mark: &Mark| format!("{:032x} {:016x}\n", u128::from_be_bytes(mark.region_id), mark.id);
    let text: String = marks.iter().map(line).collect();
    let written = create(&new).and_then(|mut created| created.write_all(text.as_bytes()));
    written.and_then(|()| std::fs::rename(&new, &path)).map_err(|error| Failure::file("write", &path, &error))
}

/// Gives what has the name `file` another one as well: `file.what`, `file.what.2` and so on, or that of the
/// oldest. One that has such a name already keeps it.
///
/// # Errors
/// The system refuses; then nothing has changed.
pub fn keep(file: &Path, what: &str) -> Result<Kept> {
    let first = file.with_added_extension(what);
    let failed = |error: &io::Error| Failure::file("keep the snapshot as", &first, error);
    let last = file.symlink_metadata().map_err(|error| failed(&error))?;
    let others = (2..=KEPT_MAX).map(|number| first.with_added_extension(number.to_string()));
    let (mut free, mut taken) = (None, Vec::new());
    for name in std::iter::once(first.clone()).chain(others) {
        match name.symlink_metadata() {
            Ok(found) if is_same(&found, &last) => return Ok(Kept { name, replaced: false }),
            Ok(found) if found.is_dir() => {}
            Ok(found) => taken.push(((found.mtime(), found.mtime_nsec()), name)),
            Err(_) => free = free.or(Some(name)),
        }
    }
    let replaced = free.is_none();
    let oldest = || taken.into_iter().min().map(|(_, name)| name);
    let Some(name) = free.or_else(oldest) else { return Err(failed(&ErrorKind::IsADirectory.into())) };
    let new = hidden(file, "kept");
    let _ = std::fs::remove_file(&new);
    // Not every file system has links.
    let linked = std::fs::hard_link(file, &new).or_else(|_| copy(file, &new));
    linked.and_then(|()| std::fs::rename(&new, &name)).map_err(|error| failed(&error))?;
    Ok(Kept { name, replaced })
}

fn is_same(one: &Metadata, other: &Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let mut copied = create(to)?;
    let done = io::copy(&mut File::open(from)?, &mut copied).and_then(|_| copied.sync_all());
    done.inspect_err(|_| drop(std::fs::remove_file(to)))
}

/// A new file in place of what has its name. Nothing is followed that somebody laid there.
fn create(path: &Path) -> io::Result<File> {
    let _ = std::fs::remove_file(path);
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_kept_and_the_same_one_is_kept_once() {
        // The one name was overwritten without a word.
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        let names = || std::fs::read_dir(directory.path()).unwrap().count();
        let at = |seconds: u64| std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
        for number in 1..=u64::from(KEPT_MAX) + 2 {
            let _ = std::fs::remove_file(&file);
            std::fs::write(&file, number.to_string()).unwrap();
            File::options().write(true).open(&file).unwrap().set_modified(at(number)).unwrap();
            let kept = keep(&file, "before").unwrap();
            assert_eq!(kept.replaced, number > u64::from(KEPT_MAX));
            assert_eq!(std::fs::read_to_string(&kept.name).unwrap(), number.to_string());
            assert_eq!(keep(&file, "before").unwrap(), Kept { name: kept.name, replaced: false });
            assert_eq!(std::fs::read_to_string(&file).unwrap(), number.to_string(), "it has its own name still");
        }
        assert_eq!(names(), 1 + KEPT_MAX as usize);
        let first = std::fs::read_to_string(file.with_added_extension("before")).unwrap();
        assert_eq!(first, (KEPT_MAX + 1).to_string(), "the oldest went");
    }

    #[test]
    fn a_copy_is_whole_and_private() {
        let directory = tempfile::tempdir().unwrap();
        let (file, copied) = (directory.path().join("file"), directory.path().join("copied"));
        std::fs::write(&file, b"all of it").unwrap();
        copy(&file, &copied).unwrap();
        assert_eq!(std::fs::read(&copied).unwrap(), b"all of it");
        assert_eq!(copied.metadata().unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn each_of_two_snapshots_has_its_region_whichever_gets_the_name() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        let cache = cache_shm::Cache::builder(None).size(2 << 20).create().unwrap();
        let ids = [(); 2].map(|()| snapshot::write(&cache, &file, &mut snapshot::unwatched).unwrap().id);
        let (known, other) = (Mark { region_id: [7; 16], id: ids[1] }, Mark { region_id: [9; 16], id: ids[0] });
        for marks in [[known, other], [other, known]] {
            mark(&file, &marks).unwrap();
            assert_eq!(marked(&file), Some(known));
        }
        mark(&file, &[other]).unwrap();
        assert_eq!(marked(&file), None);
    }

    #[test]
    fn what_stands_in_the_way_is_told_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        for what in ["new", "region", "region.new", "kept"] {
            let path = hidden(&file, what);
            std::fs::create_dir(&path).unwrap();
            let shown = check(&file).unwrap_err().to_string();
            assert!(shown.contains(path.to_str().unwrap()), "{shown}");
            std::fs::remove_dir(&path).unwrap();
            std::fs::write(&path, b"ours").unwrap();
            check(&file).unwrap();
        }
    }

    #[test]
    fn what_others_laid_in_a_directory_of_all_is_not_used() {
        use std::fs::Permissions;
        use std::os::unix::fs::{PermissionsExt, chown};
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        let path = hidden(&file, "region");
        std::fs::write(&path, b"").unwrap();
        if chown(&path, Some(65534), None).is_err() {
            println!("left out: only root can give a file to another user");
            return;
        }
        check(&file).unwrap();
        std::fs::set_permissions(directory.path(), Permissions::from_mode(0o1777)).unwrap();
        assert!(check(&file).unwrap_err().to_string().contains("another user's"));
    }
}
