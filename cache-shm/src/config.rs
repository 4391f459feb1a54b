//! Options that nobody gave as an argument: from the environment, else from a file.
//!
//! Owns: the table of options, which values each allows, and the order in which they are
//! looked for. `docs/guide/configuration.md` is the same for users.
//!
//! ```text
//! argument of the call
//! CACHE_SHM_SIZE, and so on        empty counts as not set
//! [region.NAME] of the file        the file: CACHE_SHM_CONFIG, else the user's, else the system's
//! [default] of the file
//! the default of this library
//! ```
//!
//! Must never: guess. Whatever is not understood is an error that names the variable, or
//! the file and the line. A file that somebody else may write to is not read.

mod server;

use std::borrow::Cow;
use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use cache_core::{Error, Result};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::open::Mismatch;
use crate::size::parse_size;
use crate::words::{MODE_WANTED, TIME_WANTED, parse_group, parse_mode, parse_time};

use server::SERVER_SECTION;
pub use server::{SERVER_VARIABLE_PREFIX, ServerOption, server_options};

/// What the variables of options begin with.
pub const VARIABLE_PREFIX: &str = "CACHE_SHM_";
/// The variable that names the file; empty for no file.
pub const VARIABLE_FILE: &str = "CACHE_SHM_CONFIG";
/// The file of the whole system.
const SYSTEM_FILE: &str = "/etc/cache-shm.toml";
/// The user's file, in `$XDG_CONFIG_HOME` or `~/.config`.
const USER_FILE: &str = "cache-shm.toml";
/// More than a file of options or of a secret ever has.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// The longest deadline: a day.
const TIMEOUT_MAX: Duration = Duration::from_secs(86_400);

/// What is configured for a region; `None` where nothing is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Settings {
    /// Directory of names without a slash.
    pub dir: Option<PathBuf>,
    /// Bytes of a new region.
    pub size: Option<u64>,
    /// Time to live of values that name none; `Some(None)` is for ever.
    pub ttl: Option<Option<Duration>>,
    /// Longest wait of a write.
    pub timeout: Option<Duration>,
    /// Whether a full region drops values (or refuses).
    pub evict: Option<bool>,
    /// Whether a new region goes with its last participant.
    pub ephemeral: Option<bool>,
    /// Whether regions are attached read-only. Not looked at for a private region.
    pub read_only: Option<bool>,
    /// What is done about a region of another size.
    pub on_mismatch: Option<Mismatch>,
    /// Permission bits of a new region's file.
    pub mode: Option<u32>,
    /// Group that shares the region.
    pub group: Option<u32>,
    /// Whether a new region gets its memory at once.
    pub prealloc: Option<bool>,
    /// Serializer of language bindings; never "pickle". "none" is the safe types.
    pub serializer: Option<&'static str>,
    /// Compressor of language bindings; "none" is no compression.
    pub compress: Option<&'static str>,
    /// Bytes from which on values are compressed.
    pub compress_min: Option<u64>,
    /// The file that holds the secret by which language bindings sign values.
    pub secret_file: Option<PathBuf>,
    /// The file that was read.
    pub file: Option<PathBuf>,
    /// Key, text and place of each option that was found.
    found: Vec<(&'static str, String, String)>,
}

/// One option: its name, what it allows, and what holds if nobody says anything.
struct Known {
    key: &'static str,
    allowed: &'static str,
    default: &'static str,
    /// Reads a text into the field; `None` if it is not allowed.
    take: fn(&mut Settings, &str) -> Option<()>,
}

fn absolute(text: &str) -> Option<PathBuf> {
    text.starts_with('/').then(|| PathBuf::from(text))
}

fn flag(text: &str) -> Option<bool> {
    match text {
        "true" | "1" => Some(true),
        "false" | "0" => Some(false),
        _ => None,
    }
}

fn word(text: &str, words: &'static [&'static str]) -> Option<&'static str> {
    words.iter().find(|word| **word == text).copied()
}

const FLAG: &str = "true or false";

#[rustfmt::skip]
const OPTIONS: &[Known] = &[
    Known { key: "dir", allowed: "a path that begins with /", default: "/dev/shm/cache-shm-<uid>",
        take: |to, text| { to.dir = Some(absolute(text)?); Some(()) } },
    Known { key: "size", allowed: "bytes, or with a unit (64MiB, 256MB, 1GiB)", default: "256MiB or half of what is free",
        take: |to, text| { to.size = Some(parse_size(text).ok()?); Some(()) } },
    Known { key: "ttl", allowed: "more than zero seconds (30, 1.5), a number with one of ms, s, m, h, d, or none for ever", default: "none",
        take: |to, text| {
            to.ttl = Some(if text == "none" { None } else { Some(parse_time(text).filter(|ttl| !ttl.is_zero())?) });
            Some(())
        } },
    Known { key: "timeout", allowed: TIME_WANTED, default: "1s",
        take: |to, text| { to.timeout = Some(parse_time(text).filter(|time| *time <= TIMEOUT_MAX)?); Some(()) } },
    Known { key: "evict", allowed: FLAG, default: "true",
        take: |to, text| { to.evict = Some(flag(text)?); Some(()) } },
    Known { key: "ephemeral", allowed: FLAG, default: "false",
        take: |to, text| { to.ephemeral = Some(flag(text)?); Some(()) } },
    Known { key: "read_only", allowed: FLAG, default: "false",
        take: |to, text| { to.read_only = Some(flag(text)?); Some(()) } },
    Known { key: "on_mismatch", allowed: "warn or error", default: "warn",
        take: |to, text| {
            to.on_mismatch = Some(match text { "warn" => Mismatch::Warn, "error" => Mismatch::Error, _ => return None });
            Some(())
        } },
    Known { key: "mode", allowed: MODE_WANTED, default: "600, with a group 660",
        take: |to, text| { to.mode = Some(parse_mode(text)?); Some(()) } },
    Known { key: "group", allowed: "a number, or the name of a group in /etc/group", default: "none",
        take: |to, text| { to.group = Some(parse_group(text)?); Some(()) } },
    Known { key: "prealloc", allowed: FLAG, default: "false",
        take: |to, text| { to.prealloc = Some(flag(text)?); Some(()) } },
    Known { key: "serializer", allowed: "none, json, msgpack or msgspec (pickle runs code of whoever can write the region, so only a program's own argument may ask for it)", default: "none",
        take: |to, text| { to.serializer = Some(word(text, &["none", "json", "msgpack", "msgspec"])?); Some(()) } },
    Known { key: "compress", allowed: "none, zstd, lz4 or zlib", default: "none",
        take: |to, text| { to.compress = Some(word(text, &["none", "zstd", "lz4", "zlib"])?); Some(()) } },
    Known { key: "compress_min", allowed: "bytes, or with a unit (4KiB)", default: "1024",
        take: |to, text| { to.compress_min = Some(parse_size(text).ok()?); Some(()) } },
    Known { key: "secret_file", allowed: "the path, beginning with /, of a file that holds the secret", default: "none",
        take: |to, text| { to.secret_file = Some(absolute(text)?); Some(()) } },
];

/// Where the value of an option comes from, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effective {
    /// The option.
    pub key: &'static str,
    /// Its value, as it was written.
    pub value: String,
    /// `environment CACHE_SHM_SIZE`, `/etc/cache-shm.toml:3 [default]`, or `default`.
    pub origin: String,
}

impl Settings {
    /// What is configured for the region `name`, or for a private one.
    ///
    /// Reads the environment and the file each time. A program that changes its
    /// environment while other threads run calls this where it does not.
    ///
    /// # Errors
    /// `InvalidConfig` for a variable or a file with a mistake: the whole file is checked,
    /// whichever region is asked for. `ForeignOwner` and `Permission` for a file that is
    /// not this user's or the system's alone; `Io`.
    pub fn read(name: Option<&str>) -> Result<Settings> {
        Settings::read_from(name, &|variable| std::env::var_os(variable))
    }

    fn read_from(name: Option<&str>, variable: &dyn Fn(&str) -> Option<OsString>) -> Result<Settings> {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let mut settings = Settings::default();
        if let Some(path) = choose_file(variable)? {
            let entries = entries(&path, &read_file(&path)?)?;
            for wanted in [None, name] {
                for entry in entries.iter().filter(|entry| entry.region.as_deref() == wanted) {
                    settings.put(entry.key, &entry.text, entry.place.clone());
                }
                if name.is_none() {
                    break;
                }
            }
            settings.file = Some(path);
        }
        for known in OPTIONS {
            let variable = variable_of(known.key);
            let Some(given) = set(&variable) else { continue };
            let place = format!("the environment variable {variable}");
            let text = given.to_str().ok_or_else(|| wrong(&place, "it is not UTF-8"))?;
            if (known.take)(&mut settings, text).is_none() {
                return Err(refused(&place, known, text));
            }
            settings.put(known.key, text, format!("environment {variable}"));
        }
        if set("CACHE_SHM_SECRET").is_some() {
            let reason = "a secret does not belong in the environment, which other programs inherit and show; \
                          store it in a file and name that with CACHE_SHM_SECRET_FILE";
            return Err(wrong("the environment variable CACHE_SHM_SECRET", reason));
        }
        Ok(settings)
    }

    /// Takes a text that is known to be allowed.
    fn put(&mut self, key: &'static str, text: &str, place: String) {
        let known = OPTIONS.iter().find(|known| known.key == key);
        let _ = known.and_then(|known| (known.take)(self, text));
        self.found.retain(|(found, ..)| *found != key);
        self.found.push((key, text.to_owned(), place));
    }

    /// Every option, its value and where that comes from.
    pub fn effective(&self) -> Vec<Effective> {
        let row = |known: &Known| match self.found.iter().find(|(key, ..)| *key == known.key) {
            Some((key, value, origin)) => Effective { key, value: value.clone(), origin: origin.clone() },
            None => Effective { key: known.key, value: known.default.to_owned(), origin: "default".to_owned() },
        };
        OPTIONS.iter().map(row).collect()
    }
}

/// The variables that are options, and the one that names the file.
pub fn variables() -> impl Iterator<Item = String> {
    OPTIONS.iter().map(|known| variable_of(known.key)).chain([VARIABLE_FILE.to_owned()])
}

/// Names of set variables that begin like those of options and are none: mistyped, perhaps.
pub fn unknown_variables() -> Vec<String> {
    let mut names: Vec<String> = std::env::vars_os()
        .filter_map(|(name, _)| name.into_string().ok())
        .filter(|name| {
            let is_option = name.starts_with(VARIABLE_PREFIX) && !name.starts_with(SERVER_VARIABLE_PREFIX);
            is_option && !variables().any(|known| known == *name)
        })
        .collect();
    names.sort();
    names
}

/// The file and the line of a byte in it.
fn place_in(path: &Path, bytes: &[u8], offset: usize) -> String {
    let line = 1 + bytes[..offset.min(bytes.len())].iter().filter(|byte| **byte == b'\n').count();
    format!("{}:{line}", path.display())
}

/// The bytes of the secret in `path`, without the line ends behind it.
///
/// # Errors
/// `Missing`; `ForeignOwner` and `Permission` for a file that others may change; `Io`;
/// `InvalidConfig` for one that is empty or too large.
pub fn read_secret(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = read_file(path)?;
    while bytes.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
        bytes.pop();
    }
    if bytes.is_empty() {
        return Err(wrong(&path.display().to_string(), "there is no secret in this file"));
    }
    Ok(bytes)
}

fn variable_of(key: &str) -> String {
    format!("{VARIABLE_PREFIX}{}", key.to_ascii_uppercase())
}

fn wrong(place: &str, reason: impl Into<String>) -> Error {
    Error::InvalidConfig { place: place.to_owned(), reason: reason.into() }
}

fn refused(place: &str, known: &Known, given: &str) -> Error {
    wrong(place, format!("{} = {given:?} is not allowed; it is {}", known.key, known.allowed))
}

/// The file to read, if there is one.
fn choose_file(variable: &dyn Fn(&str) -> Option<OsString>) -> Result<Option<PathBuf>> {
    if let Some(named) = variable(VARIABLE_FILE) {
        if named.is_empty() {
            return Ok(None);
        }
        let path = PathBuf::from(named);
        return if path.exists() {
            Ok(Some(path))
        } else {
            Err(wrong(
                &format!("the environment variable {VARIABLE_FILE}"),
                format!("there is no file {}", path.display()),
            ))
        };
    }
    let absolute = |name: &str| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let user = absolute("XDG_CONFIG_HOME").or_else(|| absolute("HOME").map(|home| home.join(".config")));
    let places = user.map(|directory| directory.join(USER_FILE)).into_iter().chain([PathBuf::from(SYSTEM_FILE)]);
    Ok(places.into_iter().find(|path| path.exists()))
}

/// The bytes of a file that only this user or the system can have written.
fn read_file(path: &Path) -> Result<Vec<u8>> {
    let io = |operation: &'static str| {
        let path = path.to_owned();
        move |error: std::io::Error| match error.kind() {
            std::io::ErrorKind::NotFound => Error::Missing { path },
            _ => Error::Io { operation, errno: error.raw_os_error().unwrap_or(0), path },
        }
    };
    let refuse = |reason| Err(Error::Permission { path: path.to_owned(), reason });
    // A pipe without a writer must not be waited for.
    let mut options = File::options();
    let file = options.read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(io("open"))?;
    let metadata = file.metadata().map_err(io("fstat"))?;
    if !metadata.is_file() {
        return refuse("it is not a regular file");
    }
    let me = rustix::process::geteuid().as_raw();
    if metadata.uid() != me && metadata.uid() != 0 {
        return Err(Error::ForeignOwner { path: path.to_owned(), uid: metadata.uid(), uid_expected: me });
    }
    // Many systems give each user a group of their own and leave it the write bit.
    let own_group = metadata.gid() == 0 || metadata.gid() == rustix::process::getegid().as_raw();
    if metadata.mode() & 0o002 != 0 || (metadata.mode() & 0o020 != 0 && !own_group) {
        return refuse("others may write to it; chmod it to 600 or 644");
    }
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(io("read"))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(wrong(&path.display().to_string(), format!("it has more than {FILE_BYTES_MAX} bytes")));
    }
    Ok(bytes)
}

/// One option of a file.
struct Entry {
    /// `None` under `[default]`.
    region: Option<String>,
    key: &'static str,
    text: String,
    place: String,
}

/// Every option of the file, checked.
fn entries(path: &Path, bytes: &[u8]) -> Result<Vec<Entry>> {
    let place = |offset: usize| place_in(path, bytes, offset);
    let text = std::str::from_utf8(bytes).map_err(|error| wrong(&place(error.valid_up_to()), "it is not UTF-8"))?;
    let table = DeTable::parse(text)
        .map_err(|error| wrong(&place(error.span().map_or(0, |span| span.start)), error.message()))?;
    let mut found = Vec::new();
    for (section, content) in table.get_ref() {
        let at = place(section.span().start);
        match (section.get_ref().as_ref(), content.get_ref()) {
            ("default", DeValue::Table(options)) => take_section(options, None, &place, &mut found)?,
            // The server's own options, which it checks itself: other programs do not know them.
            (SERVER_SECTION, DeValue::Table(_)) => {}
            ("region", DeValue::Table(regions)) => {
                for (name, options) in regions {
                    let DeValue::Table(options) = options.get_ref() else {
                        let reason = "the options of a region stand in a section of its own: [region.NAME]";
                        return Err(wrong(&place(name.span().start), reason));
                    };
                    take_section(options, Some(name.get_ref()), &place, &mut found)?;
                }
            }
            (name, _) => {
                return Err(wrong(
                    &at,
                    format!(
                        "{name:?} is no section; options stand in [default], [region.NAME], [serve] and [serve.NAME]"
                    ),
                ));
            }
        }
    }
    Ok(found)
}

fn take_section(
    options: &DeTable<'_>,
    region: Option<&str>,
    place: &dyn Fn(usize) -> String,
    found: &mut Vec<Entry>,
) -> Result<()> {
    let section = region.map_or_else(|| "[default]".to_owned(), |name| format!("[region.{name}]"));
    for (key, value) in options {
        let at = place(key.span().start);
        let key = key.get_ref().as_ref();
        let Some(known) = OPTIONS.iter().find(|known| known.key == key) else {
            if key == "secret" {
                let reason =
                    "a secret does not belong in this file; store it in one of its own and name that with secret_file";
                return Err(wrong(&at, reason));
            }
            let keys: Vec<_> = OPTIONS.iter().map(|known| known.key).collect();
            return Err(wrong(&at, format!("there is no option {key:?}; there are {}", keys.join(", "))));
        };
        let list = if matches!(value.get_ref(), DeValue::Array(_)) { "one value and no list: " } else { "" };
        let text = scalar(value).ok_or_else(|| wrong(&at, format!("{key} is {list}{}", known.allowed)))?;
        if (known.take)(&mut Settings::default(), &text).is_none() {
            return Err(refused(&at, known, &text));
        }
        found.push(Entry {
            region: region.map(str::to_owned),
            key: known.key,
            text: text.into_owned(),
            place: format!("{at} {section}"),
        });
    }
    Ok(())
}

/// A string, number or truth value as the text that a variable would have.
fn scalar<'a>(value: &'a Spanned<DeValue<'_>>) -> Option<Cow<'a, str>> {
    Some(match value.get_ref() {
        DeValue::String(text) => Cow::Borrowed(text.as_ref()),
        DeValue::Integer(number) => Cow::Owned(number.to_string()),
        DeValue::Float(number) => Cow::Owned(number.to_string()),
        DeValue::Boolean(truth) => Cow::Borrowed(if *truth { "true" } else { "false" }),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Vec<(Option<String>, &'static str, String)>> {
        let found = entries(Path::new("c.toml"), text.as_bytes())?;
        Ok(found.into_iter().map(|entry| (entry.region, entry.key, entry.text)).collect())
    }

    #[test]
    fn every_option_takes_its_own_default_or_says_it_in_words() {
        // Words that describe a default are no value; all others are.
        for known in OPTIONS {
            let described = ["dir", "size", "mode", "group", "secret_file"].contains(&known.key);
            assert_eq!(
                (known.take)(&mut Settings::default(), known.default).is_some(),
                !described || known.key == "dir",
                "{}",
                known.key
            );
        }
    }

    #[test]
    fn values_of_a_file_are_read_as_the_texts_of_variables() {
        let text = "[default]\nsize = 1_048_576\ntimeout = 0.5\nevict = false\n[region.a]\nmode = 0o660\nttl = '30m'\n[region.\"/x/y\"]\nprealloc = true\n";
        let found = parse(text).unwrap();
        let has = |region: Option<&str>, key: &str, text: &str| {
            found.iter().any(|(r, k, t)| (r.as_deref(), *k, t.as_str()) == (region, key, text))
        };
        assert!(has(None, "size", "1048576") && has(None, "timeout", "0.5") && has(None, "evict", "false"));
        assert!(
            has(Some("a"), "mode", "0o660") && has(Some("a"), "ttl", "30m") && has(Some("/x/y"), "prealloc", "true")
        );
        assert_eq!(found.len(), 6);
    }

    #[test]
    fn a_mistake_in_a_file_names_the_line_the_option_and_what_is_allowed() {
        for (text, place, words) in [
            ("[default]\n\nsize = 'huge'\n", "c.toml:3", &["size = \"huge\"", "64MiB"][..]),
            ("[default]\nevict = 'maybe'\n", "c.toml:2", &["evict", "true or false"]),
            ("[default]\nsiez = 1\n", "c.toml:2", &["no option \"siez\"", "size, ttl"]),
            ("[region.a]\nserializer = 'pickle'\n", "c.toml:2", &["pickle", "json"]),
            ("[default]\nsecret = 'abcdefghijklmnop'\n", "c.toml:2", &["secret_file"]),
            ("[default]\nttl = [1]\n", "c.toml:2", &["ttl is one value and no list: more than zero"]),
            ("[default]\nttl = 0\n", "c.toml:2", &["more than zero"]),
            ("[default]\ntimeout = '2d'\n", "c.toml:2", &["timeout"]),
            ("[default]\ndir = 'here'\n", "c.toml:2", &["begins with /"]),
            ("[regions]\n", "c.toml:1", &["\"regions\" is no section", "[region.NAME]"]),
            ("[region]\nsize = 1\n", "c.toml:2", &["[region.NAME]"]),
            ("size = 1\n", "c.toml:1", &["no section"]),
            ("[default]\nsize = \n", "c.toml:2", &[]),
            ("[default]\nsize = 1\nsize = 2\n", "c.toml:3", &[]),
        ] {
            let error = parse(text).expect_err(text);
            let Error::InvalidConfig { place: found, reason } = &error else { panic!("{text}: {error}") };
            assert_eq!(found, place, "{text}: {reason}");
            assert!(words.iter().all(|word| reason.contains(word)), "{text}: {reason}");
            assert!(!reason.contains("abcdefghijklmnop"), "a secret is shown: {reason}");
        }
        assert!(
            matches!(entries(Path::new("c"), b"[default]\n\xff"), Err(Error::InvalidConfig { place, .. }) if place == "c:2")
        );
    }

    #[test]
    fn variables_stand_before_the_region_and_that_before_the_default() {
        let directory = std::env::temp_dir().join(format!("cache-shm-config-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let path = directory.join("c.toml");
        let text =
            "[default]\nsize = '1MiB'\nttl = 1\ntimeout = 1\n[region.a]\nttl = 2\ntimeout = 2\n[region.b]\nttl = 9\n";
        std::fs::write(&path, text).unwrap();
        let variable = |name: &str| match name {
            VARIABLE_FILE => Some(path.clone().into_os_string()),
            "CACHE_SHM_TIMEOUT" => Some("3".into()),
            "CACHE_SHM_EVICT" => Some("".into()),
            _ => None,
        };
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        let a = Settings::read_from(Some("a"), &variable).unwrap();
        assert_eq!((a.size, a.ttl, a.timeout, a.evict), (Some(1 << 20), Some(seconds(2)), seconds(3), None));
        let other = Settings::read_from(Some("other"), &variable).unwrap();
        assert_eq!((other.ttl, other.timeout), (Some(seconds(1)), seconds(3)));
        let private = Settings::read_from(None, &variable).unwrap();
        assert_eq!((private.ttl, private.file.as_deref()), (Some(seconds(1)), Some(&*path)));
        let shown = a.effective();
        let origin = |key: &str| shown.iter().find(|row| row.key == key).map(|row| row.origin.clone()).unwrap();
        assert_eq!(origin("timeout"), "environment CACHE_SHM_TIMEOUT");
        assert_eq!(origin("ttl"), format!("{}:6 [region.a]", path.display()));
        assert_eq!(origin("size"), format!("{}:2 [default]", path.display()));
        assert_eq!(origin("evict"), "default");
        std::fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn a_mistake_in_a_variable_names_it_and_a_secret_is_refused_there() {
        let with = |name: &'static str, value: &'static str| {
            move |asked: &str| {
                if asked == name { Some(value.into()) } else { (asked == VARIABLE_FILE).then(OsString::new) }
            }
        };
        for (name, value, word) in [
            ("CACHE_SHM_SIZE", "lots", "64MiB"),
            ("CACHE_SHM_MODE", "rw", "octal"),
            ("CACHE_SHM_GROUP", "no such group", "/etc/group"),
            ("CACHE_SHM_SECRET", "abcdefghijklmnop", "CACHE_SHM_SECRET_FILE"),
            (VARIABLE_FILE, "/no/such/file", "no file"),
        ] {
            let error = Settings::read_from(None, &with(name, value)).expect_err(name);
            let Error::InvalidConfig { place, reason } = &error else { panic!("{name}: {error}") };
            assert!(place.ends_with(name) && reason.contains(word), "{error}");
            assert!(!reason.contains("abcdefghijklmnop"));
        }
    }

    #[test]
    fn a_file_that_others_may_write_to_is_not_read() {
        use std::os::unix::fs::PermissionsExt;
        let path = std::env::temp_dir().join(format!("cache-shm-secret-{}", std::process::id()));
        std::fs::write(&path, "0123456789abcdef\r\n").unwrap();
        assert_eq!(read_secret(&path).unwrap(), b"0123456789abcdef");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o602)).unwrap();
        assert!(matches!(read_secret(&path), Err(Error::Permission { .. })));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::write(&path, "\n").unwrap();
        assert!(matches!(read_secret(&path), Err(Error::InvalidConfig { .. })));
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(read_secret(&path), Err(Error::Missing { .. })));
        assert!(matches!(read_secret(Path::new("/")), Err(Error::Permission { .. })));
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0).unwrap();
        assert!(matches!(read_secret(&path), Err(Error::Permission { .. })), "and does not wait for a writer");
        std::fs::remove_file(&path).unwrap();
    }
}
