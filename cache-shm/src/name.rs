//! Region names and the files they stand for.
//!
//! Owns: which names are allowed, the per-user directory, and the file of a name in this
//! format version. Touches no file but that of options.
//!
//! ```text
//! "sessions"             <directory>/sessions       (format version 1)
//!                        <directory>/sessions.v2    (format version 2, and so on)
//! "/mnt/tmpfs/sessions"  that file
//! "./sessions"           in the current directory, made absolute at once
//! ```

use std::path::{Path, PathBuf};

use cache_core::{Error, FORMAT_VERSION, Result};

use crate::config::Settings;

/// Longest file name of a region; leaves room for the suffix of a version.
const NAME_BYTES_MAX: usize = 200;
/// What the names of unfinished regions begin with. Region names never do.
pub(crate) const TEMPORARY_PREFIX: &str = ".cshm-";

/// A region's name, resolved: the directory that holds it and the file in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Location {
    /// The directory, absolute.
    pub(crate) directory: PathBuf,
    /// True for the per-user directory, for which no symbolic link may stand.
    pub(crate) own_directory: bool,
    /// True if the directory is made when it is not there: it was not named by a path.
    pub(crate) make_directory: bool,
    /// The file's name in the directory.
    pub(crate) file: String,
}

impl Location {
    /// Where the region `name` lives: in `dir`, else in the per-user directory. Neither
    /// matters if `name` is a path.
    pub(crate) fn resolve(name: &str, dir: Option<&Path>) -> Result<Location> {
        check(name)?;
        let (directory, own_directory, make_directory, base) = match name.rsplit_once('/') {
            Some((parent, base)) => {
                let parent = if parent.is_empty() { "/" } else { parent };
                (PathBuf::from(parent), false, false, base)
            }
            None => {
                let (directory, own) = directory(dir);
                (directory, own, true, name)
            }
        };
        let directory = absolute(&directory, name)?;
        Ok(Location { directory, own_directory, make_directory, file: file_name(base, FORMAT_VERSION) })
    }

    /// A directory as such.
    pub(crate) fn directory(directory: &Path) -> Result<Location> {
        let directory = absolute(directory, &directory.to_string_lossy())?;
        Ok(Location { directory, own_directory: false, make_directory: false, file: String::new() })
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.directory.join(&self.file)
    }
}

fn absolute(directory: &Path, name: &str) -> Result<PathBuf> {
    let reason = "its directory cannot be made absolute";
    std::path::absolute(directory).map_err(|_| Error::InvalidName { name: name.to_owned(), reason })
}

/// The directory for names without a slash, and whether it is the per-user one.
pub(crate) fn directory(dir: Option<&Path>) -> (PathBuf, bool) {
    if let Some(dir) = dir {
        return (dir.to_owned(), false);
    }
    (PathBuf::from(format!("/dev/shm/cache-shm-{}", rustix::process::geteuid().as_raw())), true)
}

/// Where regions live unless an argument says otherwise: in the directory that is
/// configured (`CACHE_SHM_DIR`, see [`crate::Settings`]), else `/dev/shm/cache-shm-<uid>`.
///
/// # Errors
/// As [`crate::Settings::read`].
pub fn default_dir() -> Result<PathBuf> {
    Ok(directory(Settings::read(None)?.dir.as_deref()).0)
}

/// The file of the region `name` in format `version`.
fn file_name(name: &str, version: u32) -> String {
    if version == 1 { name.to_owned() } else { format!("{name}.v{version}") }
}

/// The name of the region that lives in `file`.
pub(crate) fn region_name(file: &str) -> &str {
    match file.rsplit_once(".v") {
        Some((name, version)) if is_version(version) => name,
        _ => file,
    }
}

fn is_version(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

fn check(name: &str) -> Result<()> {
    let refuse = |reason| Err(Error::InvalidName { name: name.to_owned(), reason });
    if name.is_empty() {
        return refuse("it is empty; give one or more characters");
    }
    if name.chars().any(char::is_control) {
        return refuse("it has a control character");
    }
    let mut components = name.split('/').enumerate().peekable();
    while let Some((at, component)) = components.next() {
        let last = components.peek().is_none();
        if component == ".." || (component == "." && (at > 0 || last)) {
            return refuse("it has a \".\" or \"..\" component; give a plain name or a direct path");
        }
        if last && component.is_empty() {
            return refuse("it ends with a slash; name a file in that directory");
        }
        if last && component.starts_with('.') {
            return refuse("it begins with a dot; such names are kept for unfinished regions");
        }
        if last && component.len() > NAME_BYTES_MAX {
            return refuse("it is longer than 200 bytes");
        }
        if last && region_name(component) != component {
            return refuse("it ends with \".v\" and a number, which stands for a format version");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_without_a_slash_live_in_the_directory() {
        let location = Location::resolve("a b-ü.c", Some(Path::new("/x/y"))).unwrap();
        assert_eq!(location.path(), Path::new("/x/y/a b-ü.c"));
        assert!(!location.own_directory);
    }

    #[test]
    fn paths_name_their_own_directory() {
        assert_eq!(Location::resolve("/x/y/z", None).unwrap().path(), Path::new("/x/y/z"));
        assert_eq!(Location::resolve("/z", None).unwrap().path(), Path::new("/z"));
        let here = std::env::current_dir().unwrap();
        assert_eq!(Location::resolve("./z", None).unwrap().path(), here.join("z"));
        assert_eq!(Location::resolve("y/z", None).unwrap().path(), here.join("y/z"));
        assert_eq!(Location::resolve("/home/u/.cache/z", None).unwrap().path(), Path::new("/home/u/.cache/z"));
    }

    #[test]
    fn names_that_could_mean_another_file_are_refused() {
        let long = "x".repeat(201);
        for name in [
            "",
            ".",
            "..",
            "/",
            "a/",
            "../a",
            "a/../b",
            "/a/./b",
            "a/.",
            "a/..",
            ".hidden",
            "/x/.hidden",
            "a\0b",
            "a\nb",
            "a\u{7f}",
            "a\u{85}",
            "a.v2",
            "/x/a.v10",
            &long,
        ] {
            assert!(
                matches!(Location::resolve(name, None), Err(Error::InvalidName { name: given, .. }) if given == name),
                "{name:?}"
            );
        }
        for name in ["a.vx", "a.v", ".x/a", "v2", "a.v2.b"] {
            assert!(Location::resolve(name, None).is_ok(), "{name:?}");
        }
    }

    #[test]
    fn every_format_version_has_a_file_of_its_own() {
        assert_eq!(file_name("a", 1), "a");
        assert_eq!(file_name("a", 2), "a.v2");
        assert_eq!((region_name("a"), region_name("a.v2"), region_name("a.vx")), ("a", "a", "a.vx"));
    }
}
