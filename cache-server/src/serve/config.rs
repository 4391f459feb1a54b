//! The server's options: from flags, the environment, or the sections of the file.
//!
//! Owns: the table of options and what each allows. A mistake names the flag, the variable or
//! the file and the line, the option, and what is allowed; and the server does not start.
//!
//! ```text
//! --clients-max 100                     a flag
//! CACHE_SHM_SERVE_CLIENTS_MAX=100       the environment
//! [serve.NAME] clients_max = 100        the file, for the server of one region
//! [serve] clients_max = 100             the file, for all
//! ```

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use cache_shm::{
    Effective, Error, MODE_WANTED, SERVER_VARIABLE_PREFIX, TIME_WANTED, parse_mode, parse_size, parse_time,
};

use crate::failure::Result;

/// More threads than processors only wait for each other.
const THREADS_MAX: usize = 64;
/// Databases that a client can select.
const DATABASES_MAX: usize = 64;
/// The largest request: places in it are 32 bits.
const REQUEST_BYTES_MAX: u64 = 1 << 31;

/// How log records are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// A line of text.
    Text,
    /// A line of JSON.
    Json,
}

/// What the server does. Sizes are in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where Redis clients of this host connect; `None` is beside the region's file.
    pub socket: Option<Option<PathBuf>>,
    /// Permissions of the sockets' files.
    pub socket_mode: u32,
    /// Where Redis clients of the network connect.
    pub bind: Vec<SocketAddr>,
    /// Where memcached clients of this host connect.
    pub memcached_socket: Option<PathBuf>,
    /// Where memcached clients of the network connect.
    pub memcached_bind: Vec<SocketAddr>,
    /// The file of the password of the user `default`.
    pub password_file: Option<PathBuf>,
    /// The file of the password of the user `reader`.
    pub reader_password_file: Option<PathBuf>,
    /// Whether a network address needs a password.
    pub auth: bool,
    /// The namespace that database 0 is.
    pub namespace: Option<String>,
    /// Databases that clients can select.
    pub databases: usize,
    /// Worker threads.
    pub threads: usize,
    /// Clients at once.
    pub clients_max: usize,
    /// The largest request.
    pub request_bytes: u64,
    /// Replies that one client may leave unread.
    pub output_bytes: u64,
    /// Requests and replies of all clients that are under way.
    pub buffers_bytes: u64,
    /// How long a client may be silent; zero is for ever.
    pub idle_timeout: Duration,
    /// How long a client may stop in the middle of a request or a reply.
    pub stall_timeout: Duration,
    /// Where the page, the metrics and the look-up are for this host.
    pub http_socket: Option<PathBuf>,
    /// Where they are in the network.
    pub http_bind: Vec<SocketAddr>,
    /// The file of the token that their network addresses ask for.
    pub http_token_file: Option<PathBuf>,
    /// The names, beside those of loopback, by which they may be asked for.
    pub http_hosts: Vec<String>,
    /// Whether the page may delete keys.
    pub http_writes: bool,
    /// Pause between two looks for background work; zero is never.
    pub maintain_interval: Duration,
    /// The file of the snapshots.
    pub snapshot_file: Option<PathBuf>,
    /// Time from one snapshot to the next; zero is none.
    pub snapshot_interval: Duration,
    /// Whether the server ends with one.
    pub snapshot_at_end: bool,
    /// Whether a region that is new begins with what the file holds.
    pub restore: bool,
    /// How log records are written.
    pub log_format: LogFormat,
    /// Which log records are written.
    pub log_level: String,
    /// Key, text and origin of what was given.
    found: Vec<(&'static str, String, String)>,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            socket: None,
            socket_mode: 0o600,
            bind: Vec::new(),
            memcached_socket: None,
            memcached_bind: Vec::new(),
            password_file: None,
            reader_password_file: None,
            auth: true,
            namespace: None,
            databases: 16,
            threads: 1,
            clients_max: 10_000,
            request_bytes: 1 << 30,
            output_bytes: 256 << 20,
            buffers_bytes: 1 << 30,
            idle_timeout: Duration::ZERO,
            stall_timeout: Duration::from_secs(60),
            http_socket: None,
            http_bind: Vec::new(),
            http_token_file: None,
            http_hosts: Vec::new(),
            http_writes: false,
            maintain_interval: Duration::from_millis(100),
            snapshot_file: None,
            snapshot_interval: Duration::ZERO,
            snapshot_at_end: false,
            restore: false,
            log_format: LogFormat::Text,
            log_level: "info".to_owned(),
            found: Vec::new(),
        }
    }
}

/// One option: its name, what it allows, its default for people, and how its text is taken.
struct Known {
    key: &'static str,
    allowed: &'static str,
    default: &'static str,
    take: fn(&mut Config, &str) -> Option<()>,
}

fn path(text: &str) -> Option<PathBuf> {
    text.starts_with('/').then(|| PathBuf::from(text))
}

fn addresses(text: &str) -> Option<Vec<SocketAddr>> {
    if text == "none" {
        return Some(Vec::new());
    }
    text.split(',').map(|address| address.trim().parse().ok()).collect()
}

fn within(text: &str, most: usize) -> Option<usize> {
    text.parse().ok().filter(|number| (1..=most).contains(number))
}

fn bytes(text: &str, most: u64) -> Option<u64> {
    parse_size(text).ok().filter(|bytes| (1..=most).contains(bytes))
}

/// `NAME` or `NAME:PORT`, in small letters.
fn hosts(text: &str) -> Option<Vec<String>> {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
    let host = |host: &str| {
        let host = host.trim().to_ascii_lowercase();
        (!host.is_empty() && host.bytes().all(is_allowed)).then_some(host)
    };
    if text == "none" { Some(Vec::new()) } else { text.split(',').map(host).collect() }
}

fn interval(text: &str) -> Option<Duration> {
    if text == "none" { Some(Duration::ZERO) } else { parse_time(text).filter(|time| !time.is_zero()) }
}

/// Levels of records, and of those of a part of the program.
fn levels(text: &str) -> Option<String> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let is_known = |part: &str| {
        let (target, level) = part.split_once('=').unwrap_or(("all", part));
        !target.is_empty() && LEVELS.contains(&level)
    };
    // What is no level would be taken for a target, and would silence all the others.
    let is_taken = text.split(',').all(is_known) && text.parse::<tracing_subscriber::filter::Targets>().is_ok();
    is_taken.then(|| text.to_owned())
}

const PATH: &str = "a path that begins with /";
const ADDRESSES: &str = "addresses with ports, such as 127.0.0.1:6379 or [::1]:6379, with commas between";
const BOOL: &str = "true or false";
const INTERVAL: &str = "a time, or none for never";
const BYTES: &str = "bytes, or with a unit (64MiB, 1GiB)";

#[rustfmt::skip]
const OPTIONS: &[Known] = &[
    Known { key: "socket", allowed: "a path that begins with /, or none", default: "beside the region's file, NAME.sock",
        take: |to, text| { to.socket = Some(if text == "none" { None } else { Some(path(text)?) }); Some(()) } },
    Known { key: "socket_mode", allowed: MODE_WANTED, default: "600",
        take: |to, text| { to.socket_mode = parse_mode(text)?; Some(()) } },
    Known { key: "bind", allowed: ADDRESSES, default: "none",
        take: |to, text| { to.bind = addresses(text)?; Some(()) } },
    Known { key: "memcached_socket", allowed: "a path that begins with /, or none", default: "none",
        take: |to, text| { to.memcached_socket = if text == "none" { None } else { Some(path(text)?) }; Some(()) } },
    Known { key: "memcached_bind", allowed: ADDRESSES, default: "none",
        take: |to, text| { to.memcached_bind = addresses(text)?; Some(()) } },
    Known { key: "password_file", allowed: PATH, default: "none",
        take: |to, text| { to.password_file = Some(path(text)?); Some(()) } },
    Known { key: "reader_password_file", allowed: PATH, default: "none",
        take: |to, text| { to.reader_password_file = Some(path(text)?); Some(()) } },
    Known { key: "auth", allowed: BOOL, default: "true",
        take: |to, text| { to.auth = text.parse().ok()?; Some(()) } },
    Known { key: "namespace", allowed: "1 to 64 bytes", default: "the one without a name",
        take: |to, text| { to.namespace = Some((1..=64).contains(&text.len()).then(|| text.to_owned())?); Some(()) } },
    Known { key: "databases", allowed: "1 to 64", default: "16",
        take: |to, text| { to.databases = within(text, DATABASES_MAX)?; Some(()) } },
    Known { key: "threads", allowed: "1 to 64", default: "1",
        take: |to, text| { to.threads = within(text, THREADS_MAX)?; Some(()) } },
    Known { key: "clients_max", allowed: "a number from 1 on", default: "10000",
        take: |to, text| { to.clients_max = within(text, usize::MAX)?; Some(()) } },
    Known { key: "request_bytes", allowed: "bytes, or with a unit; at most 2GiB", default: "1GiB",
        take: |to, text| { to.request_bytes = bytes(text, REQUEST_BYTES_MAX)?; Some(()) } },
    Known { key: "output_bytes", allowed: BYTES, default: "256MiB",
        take: |to, text| { to.output_bytes = bytes(text, u64::MAX)?; Some(()) } },
    Known { key: "buffers_bytes", allowed: BYTES, default: "1GiB",
        take: |to, text| { to.buffers_bytes = bytes(text, u64::MAX)?; Some(()) } },
    Known { key: "idle_timeout", allowed: "a time, or none for ever", default: "none",
        take: |to, text| { to.idle_timeout = if text == "none" { Duration::ZERO } else { parse_time(text)? }; Some(()) } },
    Known { key: "stall_timeout", allowed: TIME_WANTED, default: "60s",
        take: |to, text| { to.stall_timeout = parse_time(text).filter(|time| !time.is_zero())?; Some(()) } },
    Known { key: "http_socket", allowed: "a path that begins with /, or none", default: "none",
        take: |to, text| { to.http_socket = if text == "none" { None } else { Some(path(text)?) }; Some(()) } },
    Known { key: "http_bind", allowed: ADDRESSES, default: "none",
        take: |to, text| { to.http_bind = addresses(text)?; Some(()) } },
    Known { key: "http_token_file", allowed: PATH, default: "none",
        take: |to, text| { to.http_token_file = Some(path(text)?); Some(()) } },
    Known { key: "http_hosts", allowed: "names, such as cache.internal or cache.internal:9090, with commas between", default: "none",
        take: |to, text| { to.http_hosts = hosts(text)?; Some(()) } },
    Known { key: "http_writes", allowed: BOOL, default: "false",
        take: |to, text| { to.http_writes = text.parse().ok()?; Some(()) } },
    Known { key: "maintain_interval", allowed: INTERVAL, default: "100ms",
        take: |to, text| { to.maintain_interval = interval(text)?; Some(()) } },
    Known { key: "snapshot_file", allowed: PATH, default: "none",
        take: |to, text| { to.snapshot_file = Some(path(text)?); Some(()) } },
    Known { key: "snapshot_interval", allowed: INTERVAL, default: "none",
        take: |to, text| { to.snapshot_interval = interval(text)?; Some(()) } },
    Known { key: "snapshot_at_end", allowed: BOOL, default: "false",
        take: |to, text| { to.snapshot_at_end = text.parse().ok()?; Some(()) } },
    Known { key: "restore", allowed: BOOL, default: "false",
        take: |to, text| { to.restore = text.parse().ok()?; Some(()) } },
    Known { key: "log_format", allowed: "text or json", default: "text",
        take: |to, text| {
            to.log_format = match text { "text" => LogFormat::Text, "json" => LogFormat::Json, _ => return None };
            Some(())
        } },
    Known { key: "log_level", allowed: "off, error, warn, info, debug or trace, with those of targets behind it (info,cache_shm=debug)", default: "info",
        take: |to, text| { to.log_level = levels(text)?; Some(()) } },
];

/// Options that may have several values, in the file as a list too.
const LISTS: [&str; 4] = ["bind", "memcached_bind", "http_bind", "http_hosts"];

fn variable_of(key: &str) -> String {
    format!("{SERVER_VARIABLE_PREFIX}{}", key.to_ascii_uppercase())
}

/// The flag that gives an option.
fn flag_of(key: &str) -> String {
    if key == "auth" { "--no-auth".to_owned() } else { format!("--{}", key.replace('_', "-")) }
}

/// Names of set variables that begin like those of options, of a region or of the server, and are
/// none: mistyped, perhaps.
pub fn unknown_variables() -> Vec<String> {
    let is_unknown = |name: &String| {
        name.starts_with(SERVER_VARIABLE_PREFIX) && !OPTIONS.iter().any(|known| variable_of(known.key) == *name)
    };
    let of_servers = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()).filter(is_unknown);
    let mut names = cache_shm::unknown_variables();
    names.extend(of_servers);
    names.sort();
    names
}

fn wrong(place: &str, reason: String) -> Error {
    Error::InvalidConfig { place: place.to_owned(), reason }
}

impl Config {
    /// What `flags`, the environment and the file say for the server of the region `name`.
    ///
    /// # Errors
    /// The first mistake: which flag, variable or line, and what is allowed. All sections of
    /// the file are checked, whichever region is served.
    pub fn read(name: &str, flags: &[(&'static str, String)]) -> Result<Config> {
        let mut config = Config::default();
        let mut options = cache_shm::server_options()?;
        // Those of one server stand before those of all.
        options.sort_by_key(|option| option.region.is_some());
        for option in options {
            let Some(known) = OPTIONS.iter().find(|known| known.key == option.key) else {
                let keys: Vec<_> = OPTIONS.iter().map(|known| known.key).collect();
                let reason = format!("the server has no option {:?}; there are {}", option.key, keys.join(", "));
                return Err(wrong(&option.place, reason).into());
            };
            let is_list = LISTS.contains(&known.key);
            let Some(texts) = option.texts.filter(|_| is_list || !option.is_list) else {
                let one = if is_list || !option.is_list { "" } else { "one value and no list: " };
                return Err(wrong(&option.place, format!("{} is {one}{}", known.key, known.allowed)).into());
            };
            let text = if texts.is_empty() { "none".to_owned() } else { texts.join(", ") };
            let is_meant = option.region.as_deref().is_none_or(|region| region == name);
            let mut others = Config::default();
            let to = if is_meant { &mut config } else { &mut others };
            to.put(known, &text, &option.place, option.place.clone())?;
        }
        for known in OPTIONS {
            let variable = variable_of(known.key);
            let Some(given) = std::env::var_os(&variable).filter(|value| !value.is_empty()) else { continue };
            let place = format!("the environment variable {variable}");
            let text = given.to_str().ok_or_else(|| wrong(&place, "it is not UTF-8".to_owned()))?;
            config.put(known, text, &place, format!("environment {variable}"))?;
        }
        for (key, text) in flags {
            let Some(known) = OPTIONS.iter().find(|known| known.key == *key) else { continue };
            let flag = flag_of(key);
            config.put(known, text, &format!("the flag {flag}"), format!("flag {flag}"))?;
        }
        config.check()?;
        Ok(config)
    }

    fn put(&mut self, known: &Known, text: &str, place: &str, origin: String) -> Result<()> {
        if (known.take)(self, text).is_none() {
            let reason = format!("{} = {text:?} is not allowed; it is {}", known.key, known.allowed);
            return Err(wrong(place, reason).into());
        }
        self.found.retain(|(key, ..)| *key != known.key);
        self.found.push((known.key, text.to_owned(), origin));
        Ok(())
    }

    /// What no option says by itself.
    fn check(&self) -> Result<()> {
        let place = |key: &str| {
            self.found
                .iter()
                .find(|(found, ..)| *found == key)
                .map_or_else(|| key.to_owned(), |(.., origin)| origin.clone())
        };
        let bound = [("bind", &self.bind), ("memcached_bind", &self.memcached_bind)];
        let bound = bound.into_iter().find(|(_, addresses)| !addresses.is_empty());
        if let Some((key, _)) = bound.filter(|_| self.password_file.is_none() && self.auth) {
            let reason = "every user of this host reaches an address of the network, so it needs a password: give \
                          password_file, or auth = false (--no-auth) if everybody may use the cache";
            return Err(wrong(&place(key), reason.to_owned()).into());
        }
        let has_socket = !matches!(self.socket, Some(None)) || self.memcached_socket.is_some();
        let is_open = self.socket_mode & 0o007 != 0 && self.auth;
        if is_open && has_socket && self.password_file.is_none() {
            let reason = "with these permissions every user of this host reaches the sockets, so they need a password: \
                          give password_file, or auth = false (--no-auth) if everybody may use the cache";
            return Err(wrong(&place("socket_mode"), reason.to_owned()).into());
        }
        if is_open && self.http_socket.is_some() {
            let reason = "with these permissions every user of this host reaches the page at http_socket, which asks \
                          for nothing: take http_bind with a token, or auth = false (--no-auth)";
            return Err(wrong(&place("socket_mode"), reason.to_owned()).into());
        }
        if self.password_file.is_some() && !self.auth {
            let reason = "with a password_file clients have to say the password: take one of the two away";
            return Err(wrong(&place("auth"), reason.to_owned()).into());
        }
        let numbered = self.namespace.as_deref().and_then(|name| name.strip_prefix("db")?.parse::<usize>().ok());
        if numbered.is_some_and(|number| number < self.databases) {
            let reason = "that namespace is a database of its own, so database 0 cannot be it too";
            return Err(wrong(&place("namespace"), reason.to_owned()).into());
        }
        let has_socket = has_socket || self.http_socket.is_some();
        let has_address = [&self.bind, &self.memcached_bind, &self.http_bind].iter().any(|bind| !bind.is_empty());
        if !has_socket && !has_address {
            let reason =
                "there is nothing to listen on: give a socket, or an address in bind, memcached_bind or http_bind";
            return Err(wrong(&place("socket"), reason.to_owned()).into());
        }
        if self.reader_password_file.is_some() && self.password_file.is_none() {
            let reason = "a reader makes sense only where the default user has a password: give password_file too";
            return Err(wrong(&place("reader_password_file"), reason.to_owned()).into());
        }
        if !self.http_bind.is_empty() && self.http_token_file.is_none() {
            let reason = "every user of this host reaches an address of the network, so the page and the metrics need \
                          a token there: give http_token_file, or use http_socket";
            return Err(wrong(&place("http_bind"), reason.to_owned()).into());
        }
        if self.http_hosts.is_empty() && self.http_bind.iter().any(|address| !address.ip().is_loopback()) {
            let reason = "on an address other than loopback the page answers only to the names in http_hosts: give \
                          those by which it is asked for";
            return Err(wrong(&place("http_bind"), reason.to_owned()).into());
        }
        let of_snapshots = [
            ("snapshot_interval", !self.snapshot_interval.is_zero()),
            ("snapshot_at_end", self.snapshot_at_end),
            ("restore", self.restore),
        ];
        if let Some((key, _)) = of_snapshots.iter().find(|(_, is_on)| *is_on && self.snapshot_file.is_none()) {
            return Err(wrong(&place(key), format!("{key} needs a file: give snapshot_file")).into());
        }
        Ok(())
    }

    /// Every option, its value and where that comes from.
    pub fn effective(&self) -> Vec<Effective> {
        let row = |known: &Known| match self.found.iter().find(|(key, ..)| *key == known.key) {
            Some((key, value, origin)) => Effective { key, value: value.clone(), origin: origin.clone() },
            None => Effective { key: known.key, value: known.default.to_owned(), origin: "default".to_owned() },
        };
        OPTIONS.iter().map(row).collect()
    }

    /// The limits of clients of a region whose largest value has `item_bytes` bytes.
    pub fn limits(&self, item_bytes: u64, descriptors: u64) -> Limits {
        Limits {
            // Descriptors that are not connections.
            clients: self.clients_max.min(descriptors.saturating_sub(64).max(1) as usize),
            bulk_bytes: item_bytes,
            request_bytes: self.request_bytes as usize,
            output_bytes: usize::try_from(self.output_bytes).unwrap_or(usize::MAX),
            buffers_bytes: usize::try_from(self.buffers_bytes).unwrap_or(usize::MAX),
            idle: self.idle_timeout,
            stall: self.stall_timeout,
        }
    }
}

/// What a client may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Clients at once.
    pub clients: usize,
    /// Bytes of a string.
    pub bulk_bytes: u64,
    /// Bytes of a request.
    pub request_bytes: usize,
    /// Bytes of replies that a client leaves unread.
    pub output_bytes: usize,
    /// Bytes of all requests and replies under way.
    pub buffers_bytes: usize,
    /// How long a client may be silent; zero is for ever.
    pub idle: Duration,
    /// How long it may stop in the middle.
    pub stall: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(flags: &[(&'static str, &str)]) -> std::result::Result<Config, String> {
        let flags: Vec<_> = flags.iter().map(|(key, text)| (*key, (*text).to_owned())).collect();
        Config::read("r", &flags).map_err(|failure| failure.to_string())
    }

    #[test]
    fn every_option_takes_what_it_says_and_names_what_it_allows() {
        let cases = [
            ("socket", "/run/cache.sock", "cache.sock"),
            ("socket_mode", "660", "rw-rw----"),
            ("bind", "127.0.0.1:6379, [::1]:6379", "localhost"),
            ("memcached_socket", "/run/memcached.sock", "memcached.sock"),
            ("memcached_bind", "127.0.0.1:11211", "localhost"),
            ("password_file", "/run/secrets/cache", "secret"),
            ("reader_password_file", "/run/secrets/reader", "secret"),
            ("auth", "false", "maybe"),
            ("namespace", "users", ""),
            ("databases", "64", "65"),
            ("threads", "2", "0"),
            ("clients_max", "1", "many"),
            ("request_bytes", "2GiB", "3GiB"),
            ("output_bytes", "1MiB", "-1"),
            ("buffers_bytes", "1MiB", "1 million"),
            ("idle_timeout", "5m", "soon"),
            ("stall_timeout", "500ms", "0"),
            ("http_socket", "/run/http.sock", "http.sock"),
            ("http_bind", "127.0.0.1:9090", "9090"),
            ("http_token_file", "/run/secrets/token", "token"),
            ("http_hosts", "cache.internal:9090, cache", "a/b"),
            ("http_writes", "true", "yes"),
            ("maintain_interval", "none", "0"),
            ("snapshot_file", "/var/lib/cache.snapshot", "cache.snapshot"),
            ("snapshot_interval", "5m", "often"),
            ("snapshot_at_end", "true", "1"),
            ("restore", "true", "always"),
            ("log_format", "json", "xml"),
            ("log_level", "info,cache_shm=debug", "warning"),
        ];
        assert_eq!(cases.map(|(key, ..)| key).to_vec(), OPTIONS.iter().map(|known| known.key).collect::<Vec<_>>());
        for (key, good, bad) in cases {
            // What others ask for beside themselves.
            let password = if key == "auth" { ("threads", "1") } else { ("password_file", "/p") };
            let needs = [password, ("http_token_file", "/t"), ("snapshot_file", "/s"), (key, good)];
            let config = read(&needs).unwrap();
            let row = config.effective().into_iter().find(|row| row.key == key).unwrap();
            assert_eq!((row.value.as_str(), row.origin), (good, format!("flag {}", flag_of(key))));
            let refused = read(&[(key, bad)]).unwrap_err();
            let known = OPTIONS.iter().find(|known| known.key == key).unwrap();
            assert!(refused.contains(&flag_of(key)) && refused.contains(known.allowed), "{refused}");
        }
    }

    #[test]
    fn an_address_of_the_network_needs_a_password_or_the_word_of_its_owner() {
        let refused = read(&[("bind", "127.0.0.1:6379")]).unwrap_err();
        assert!(refused.contains("--bind") && refused.contains("password_file"), "{refused}");
        assert!(read(&[("bind", "127.0.0.1:6379"), ("auth", "false")]).is_ok());
        assert!(read(&[("memcached_bind", "127.0.0.1:11211")]).unwrap_err().contains("--memcached-bind"));
        assert!(read(&[("bind", "127.0.0.1:6379"), ("password_file", "/p")]).is_ok());
        assert!(read(&[("reader_password_file", "/p")]).unwrap_err().contains("password_file"));
        let refused = read(&[("auth", "false"), ("password_file", "/p")]).unwrap_err();
        assert!(refused.contains("--no-auth"), "{refused}");
    }

    #[test]
    fn a_socket_that_everybody_reaches_needs_what_an_address_needs() {
        let refused = read(&[("socket_mode", "666")]).unwrap_err();
        assert!(refused.contains("--socket-mode") && refused.contains("--no-auth"), "{refused}");
        assert!(read(&[("socket_mode", "660")]).is_ok());
        assert!(read(&[("socket_mode", "666"), ("auth", "false"), ("http_socket", "/h")]).is_ok());
        assert!(read(&[("socket_mode", "666"), ("password_file", "/p")]).is_ok());
        let page = [("socket_mode", "666"), ("password_file", "/p"), ("http_socket", "/h")];
        assert!(read(&page).unwrap_err().contains("http_socket"));
    }

    /// `--log-level warning` was taken for a target of that name, and nothing at all was logged.
    #[test]
    fn a_word_that_is_no_level_is_refused() {
        for good in ["off", "warn", "cache_shm=trace", "error,cache_shm=debug"] {
            assert_eq!(levels(good).as_deref(), Some(good));
        }
        for bad in ["warning", "loud", "", "info,", "info,loud", "cache_shm=loud", "=info", "INFO", "3"] {
            assert_eq!(levels(bad), None, "{bad}");
        }
    }

    #[test]
    fn every_flag_that_is_named_exists() {
        let command = <crate::cli::Cli as clap::CommandFactory>::command();
        let serve = command.find_subcommand("serve").unwrap();
        for known in OPTIONS {
            let flag = flag_of(known.key);
            assert!(serve.get_arguments().any(|each| each.get_long() == flag.strip_prefix("--")), "{flag}");
        }
    }

    #[test]
    fn a_server_that_nobody_could_use_or_that_mixes_databases_is_refused() {
        assert!(read(&[("socket", "none")]).unwrap_err().contains("--socket"));
        assert!(read(&[("socket", "none"), ("memcached_socket", "/m")]).is_ok());
        assert!(read(&[("namespace", "db15")]).unwrap_err().contains("--namespace"));
        assert!(read(&[("namespace", "db15"), ("databases", "15")]).is_ok());
    }

    #[test]
    fn what_shows_the_region_in_the_network_needs_a_token_and_its_names() {
        let refused = read(&[("http_bind", "127.0.0.1:9090")]).unwrap_err();
        assert!(refused.contains("--http-bind") && refused.contains("http_token_file"), "{refused}");
        let refused = read(&[("http_bind", "192.0.2.1:9090"), ("http_token_file", "/t")]).unwrap_err();
        assert!(refused.contains("http_hosts"), "{refused}");
        let named = [("http_bind", "192.0.2.1:9090"), ("http_token_file", "/t"), ("http_hosts", "Cache.internal")];
        assert_eq!(read(&named).unwrap().http_hosts, ["cache.internal"]);
    }

    #[test]
    fn snapshots_need_a_file() {
        for (key, text) in [("snapshot_interval", "5m"), ("snapshot_at_end", "true"), ("restore", "true")] {
            let refused = read(&[(key, text)]).unwrap_err();
            assert!(refused.contains("snapshot_file"), "{refused}");
            assert!(read(&[(key, text), ("snapshot_file", "/s")]).is_ok());
        }
    }
}
