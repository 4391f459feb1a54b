//! The command's words: subcommands, arguments, and the help that goes with them.
//!
//! Those that look at a whole region or change it at once are in `operating`.

mod operating;
mod serving;

use std::ffi::OsString;
use std::num::NonZeroU8;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};

pub use operating::*;
pub use serving::Serve;

/// Look into, fill and measure shared-memory cache regions.
#[derive(Debug, Parser)]
#[command(
    name = "cache-shm",
    bin_name = "cache-shm",
    version,
    propagate_version = true,
    disable_help_subcommand = true,
    after_help = "\
Exit codes: 0 found or done, 1 not found, 2 error.
Options that are not given come from CACHE_SHM_ variables, else from a file: see
`cache-shm config`.

Examples:
  cache-shm create sessions --size 256MB
  cache-shm set sessions user:7 'Ada' --ttl 30m
  cache-shm get sessions user:7
  cache-shm list"
)]
pub struct Cli {
    /// Directory of the regions [default: as configured, else one of your own under /dev/shm]
    #[arg(long, global = true, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Print JSON instead of text
    #[arg(long, global = true)]
    pub json: bool,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create a region
    Create(Create),
    /// List the regions of the directory
    List(List),
    /// Print what a region is: its file, size and shape
    Info(Region),
    /// Print a value
    Get(Get),
    /// Store a value
    Set(Set),
    /// Delete keys
    Delete(Delete),
    /// List keys
    Keys(Keys),
    /// Print a region's counters
    Stats(Stats),
    /// Watch a region: rates, memory, segments, namespaces, processes
    Top(Top),
    /// List who is attached to a region and what they hold
    Processes(Processes),
    /// Check a region for contradictions, changing nothing
    Verify(Verify),
    /// Heal a region: remove what contradicts itself, keep the rest
    Repair(Repair),
    /// Serve a region to Redis and memcached clients
    Serve(Box<Serve>),
    /// Replay a stream of requests through a region and print the hit ratio
    Replay(Replay),
    /// Measure what operations cost on this machine
    Bench(Bench),
    /// Tell what more or less memory would do for the hit ratio of a region
    #[command(after_help = "\
The region records the requests of one key in 128 or more. They are replayed through small
simulated caches: what comes out is an estimate for requests like the recorded ones; its
standard error is of the choice of keys only. Regions of less than 8 MiB record nothing, and
the size of a no-evict region decides nothing about hits.
Exit code 1: too little is recorded to tell.

Examples:
  cache-shm advise sessions
  cache-shm advise sessions --json")]
    Advise(Region),
    /// Print which options hold for a region, and who said so
    Config(Config),
    /// Write what a region holds to a file
    Dump(Dump),
    /// Store what a file of `dump` holds
    Restore(Restore),
    /// Remove all keys at once
    Clear(Clear),
    /// Remove the values that have a tag
    EvictTag(EvictTag),
    /// Destroy a region and everything in it
    Destroy(Destroy),
    /// Print what completes the command's words in a shell
    Completions(Completions),
    /// Print the manual's pages
    Man(Man),
}

/// Create a region
#[derive(Debug, Args)]
#[command(after_help = "\
Without --size the region gets 256 MiB or half of what the file system has free,
whichever is less. An existing region is an error unless --exist-ok is given.

Examples:
  cache-shm create sessions --size 256MB
  cache-shm create team --size 1GiB --mode 660 --group www-data --dir /dev/shm/team
  cache-shm create queue --size 64MiB --no-evict")]
pub struct Create {
    /// Name of the region
    pub name: String,
    /// Size: bytes, or with a unit (64MiB, 256MB, 1GiB); at least 1MiB
    #[arg(long, value_name = "SIZE")]
    pub size: Option<String>,
    /// Never drop anything to make room: a full region is an error
    #[arg(long)]
    pub no_evict: bool,
    /// Permissions of the file, octal [default: as configured, else 600, with a group 660]
    #[arg(long, value_name = "MODE", value_parser = octal)]
    pub mode: Option<u32>,
    /// Group that owns the file: a name or a number
    #[arg(long, value_name = "GROUP", value_parser = group)]
    pub group: Option<u32>,
    /// Take all memory now instead of as it is needed, in huge pages where the kernel has them
    #[arg(long)]
    pub prealloc: bool,
    /// Succeed if the region exists
    #[arg(long)]
    pub exist_ok: bool,
}

/// List the regions of the directory
#[derive(Debug, Args)]
pub struct List {}

/// A region and nothing else.
#[derive(Debug, Args)]
pub struct Region {
    /// Name of the region
    pub name: String,
}

/// Which keys are meant
#[derive(Debug, Args)]
pub struct Within {
    /// Namespace of the keys, instead of the one without a name
    #[arg(long, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
}

/// Print a region's counters
#[derive(Debug, Args)]
#[command(after_help = "\
With --namespace the counters of that namespace; without it those of the whole region, and of
each namespace with --json.

Examples:
  cache-shm stats sessions
  cache-shm stats sessions --namespace users --json")]
pub struct Stats {
    /// Name of the region
    pub name: String,
    /// Only the counters of this namespace
    #[arg(long, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
}

/// Print a value
#[derive(Debug, Args)]
#[command(after_help = "\
The bytes of the value are printed as they are; a newline follows only on a terminal.
Integers print their digits. With --json the answer also says kind, version and ttl.

Examples:
  cache-shm get sessions user:7
  cache-shm get sessions report.pdf --output report.pdf
  cache-shm get sessions user:7 --json
  cache-shm get sessions 00ff17 --hex || echo 'not there'")]
pub struct Get {
    /// Name of the region
    pub name: String,
    /// The key
    pub key: OsString,
    /// The key is given in hexadecimal
    #[arg(long)]
    pub hex: bool,
    /// Write the value to a file; it is not touched if the key is not there
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    #[command(flatten)]
    pub within: Within,
}

/// Store a value
#[derive(Debug, Args)]
#[command(
    group = ArgGroup::new("source").args(["value", "file"]),
    group = ArgGroup::new("condition").args(["add", "replace"]),
    after_help = "\
The value comes from the argument, from --file, or from standard input. It is stored
as text if it came as an argument, else as bytes; --kind says otherwise.
Exit code 1: --add found the key there, or --replace did not.

Examples:
  cache-shm set sessions user:7 'Ada' --ttl 30m
  cache-shm set sessions hits 0 --kind int
  cache-shm set sessions report.pdf --file report.pdf
  curl -s https://example.com | cache-shm set sessions page --ttl 60"
)]
pub struct Set {
    /// Name of the region
    pub name: String,
    /// The key
    pub key: OsString,
    /// The value; without it and without --file, standard input
    #[arg(allow_hyphen_values = true)]
    pub value: Option<OsString>,
    /// The key is given in hexadecimal
    #[arg(long)]
    pub hex: bool,
    /// Read the value from a file (- is standard input)
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Time to live: seconds, or with a unit (500ms, 30s, 15m, 12h, 7d), or none for ever
    /// [default: as configured, else none]
    #[arg(long, value_name = "TIME", value_parser = ttl)]
    pub ttl: Option<Ttl>,
    /// What the bytes are, for readers in other languages
    #[arg(long, value_enum)]
    pub kind: Option<Kind>,
    /// Only if the key is not there
    #[arg(long)]
    pub add: bool,
    /// Only if the key is there
    #[arg(long)]
    pub replace: bool,
    /// Longest wait for another writer [default: as configured, else 1s]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub timeout: Option<Duration>,
    #[command(flatten)]
    pub within: Within,
}

/// Kinds of value that can be given as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// UTF-8 text
    Str,
    /// Bytes
    Bytes,
    /// A signed 64-bit integer
    Int,
    /// A double
    Float,
}

/// Delete keys
#[derive(Debug, Args)]
#[command(after_help = "\
Exit code 1: at least one of the keys was not there. The others are deleted.

Examples:
  cache-shm delete sessions user:7 user:8")]
pub struct Delete {
    /// Name of the region
    pub name: String,
    /// The keys
    #[arg(required = true)]
    pub keys: Vec<OsString>,
    /// The keys are given in hexadecimal
    #[arg(long)]
    pub hex: bool,
    /// Longest wait for another writer, for each key [default: as configured, else 1s]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub timeout: Option<Duration>,
    #[command(flatten)]
    pub within: Within,
}

/// List keys
#[derive(Debug, Args)]
#[command(after_help = "\
Keys come in no particular order. One that changes while the list is made may be
listed or not; one that is there all the time is listed. Bytes that are not printable
text are shown as \\xNN; --null prints the keys' bytes as they are.
With --json each line is an object that also says kind, bytes, version and ttl.
Exit code 1: no key was listed.

Examples:
  cache-shm keys sessions --prefix user: --limit 20
  cache-shm keys sessions --count
  cache-shm keys sessions --null | xargs -0 -n 100 cache-shm delete sessions")]
pub struct Keys {
    /// Name of the region
    pub name: String,
    /// Only keys that begin with this
    #[arg(long, value_name = "TEXT")]
    pub prefix: Option<OsString>,
    /// At most so many
    #[arg(long, value_name = "N")]
    pub limit: Option<u64>,
    /// Print only how many there are
    #[arg(long)]
    pub count: bool,
    /// Print each key's bytes, followed by a NUL, instead of lines
    #[arg(short = '0', long, conflicts_with_all = ["count", "json"])]
    pub null: bool,
    #[command(flatten)]
    pub within: Within,
}

/// Replay a stream of requests through a region and print the hit ratio
#[derive(Debug, Args)]
#[command(after_help = "\
TRACE has one request a line, `KEY` or `KEY SIZE`, plain or compressed with gzip or zstd.
Every request is a get; a miss stores the key. The region is private and gone at the end.
With equal sizes the result is held against Belady's bound: the hits of a cache that
knows the future and has room for the largest number of live objects that was measured.
A result that beats it is an error.

--objects N gives all values one size and corrects the region's size until it holds N
live objects in the mean; it reads the trace several times.

Examples:
  cache-shm replay requests.txt.zst --region-size 64MiB
  cache-shm replay requests.txt --objects 10000 --compare
  zcat access.gz | awk '{print $7}' | cache-shm replay - --value-size 2000 --json")]
pub struct Replay {
    /// The trace's file; - is standard input
    pub trace: PathBuf,
    /// Size of the region
    #[arg(long, value_name = "SIZE", default_value = "64MiB", conflicts_with = "objects")]
    pub region_size: String,
    /// Hold so many equal objects in the mean
    #[arg(long, value_name = "N")]
    pub objects: Option<u64>,
    /// Bytes of every value, whatever the trace says [default: the trace's, else 480]
    #[arg(long, value_name = "SIZE")]
    pub value_size: Option<String>,
    /// Stop after so many requests
    #[arg(long, value_name = "N")]
    pub requests: Option<u64>,
    /// Also simulate LRU and textbook S3-FIFO with the same number of objects
    #[arg(long, conflicts_with = "no_bound")]
    pub compare: bool,
    /// Do not compute Belady's bound, which keeps the stream's order in memory
    #[arg(long)]
    pub no_bound: bool,
    /// Draw no progress bar (it is only drawn on a terminal anyway)
    #[arg(long)]
    pub no_progress: bool,
}

/// Print which options hold for a region, and who said so
#[derive(Debug, Args)]
#[command(after_help = "\
Options come from the arguments of a call, else from CACHE_SHM_ variables, else from
[region.NAME] and then [default] of a file, else from the library. The file is the one
that CACHE_SHM_CONFIG names, else cache-shm.toml in $XDG_CONFIG_HOME (~/.config), else
/etc/cache-shm.toml. The whole file is checked.

Examples:
  cache-shm config
  cache-shm config sessions --json")]
pub struct Config {
    /// Name of the region
    pub name: Option<String>,
}

/// Measure what operations cost on this machine
#[derive(Debug, Args)]
#[command(after_help = "\
A private region, which no other process can reach and which is gone at the end; regions that
exist are not touched. Every row has a region of its own and keys in random order. Busy machines
give other numbers than idle ones: run it twice.

Examples:
  cache-shm bench
  cache-shm bench --seconds 60s --region-size 1GiB --keys 1000000 --json")]
pub struct Bench {
    /// Time for all rows together, their preparation not counted
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "10s")]
    pub seconds: Duration,
    /// Size of the region
    #[arg(long, value_name = "SIZE", default_value = "128MiB")]
    pub region_size: String,
    /// Keys, or as many as fill half of the region if those are fewer
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    pub keys: u64,
    /// Most threads at once [default: one for each core]
    #[arg(long, value_name = "N")]
    pub threads: Option<NonZeroU8>,
    /// Draw no progress bar (it is only drawn on a terminal anyway)
    #[arg(long)]
    pub no_progress: bool,
}

/// Print what completes the command's words in a shell
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cache-shm completions bash > ~/.local/share/bash-completion/completions/cache-shm
  cache-shm completions zsh > ~/.zfunc/_cache-shm
  cache-shm completions fish > ~/.config/fish/completions/cache-shm.fish")]
pub struct Completions {
    /// The shell
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

/// Print the manual's pages
#[derive(Debug, Args)]
#[command(after_help = "\
Exit code 1: there is no such command.

Examples:
  cache-shm man | man -l -
  cache-shm man restore | man -l -
  cache-shm man --output ~/.local/share/man/man1")]
pub struct Man {
    /// The command whose page is wanted
    pub subcommand: Option<String>,
    /// Write all pages to this directory
    #[arg(short, long, value_name = "DIR", conflicts_with = "subcommand")]
    pub output: Option<PathBuf>,
}

/// A time to live that was given; none is for ever.
#[derive(Debug, Clone, Copy)]
pub struct Ttl(pub Option<Duration>);

fn octal(text: &str) -> Result<u32, String> {
    cache_shm::parse_mode(text).ok_or_else(|| format!("permissions are {}", cache_shm::MODE_WANTED))
}

fn duration(text: &str) -> Result<Duration, String> {
    cache_shm::parse_time(text).ok_or_else(|| format!("a time is {}", cache_shm::TIME_WANTED))
}

fn ttl(text: &str) -> Result<Ttl, String> {
    match text {
        "none" => Ok(Ttl(None)),
        _ => match duration(text)? {
            Duration::ZERO => Err("a time to live is more than zero, or none for ever".to_owned()),
            ttl => Ok(Ttl(Some(ttl))),
        },
    }
}

fn group(text: &str) -> Result<u32, String> {
    cache_shm::parse_group(text).ok_or_else(|| "there is no such group in /etc/group; give its number".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_of_the_command_is_sound() {
        Cli::command().debug_assert();
    }
}
