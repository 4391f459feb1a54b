//! Arguments of the commands that look at a whole region, or change it at once.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::{Within, duration};

/// Watch a region: rates, memory, segments, namespaces, processes
#[derive(Debug, Args)]
#[command(after_help = "\
Rates are what happened in the last interval; hits, all is since the counters began. The latency
is that of some hundred reads that top makes itself, of keys that are there: with the misses of
its own caches, and the 20 to 50 ns that asking a clock takes. They count as no use.
Counters of namespaces reach the region 64 at a time.
Keys: q quits, p pauses, left and right change the pane, up and down what namespaces are sorted
by. Colours are left out where NO_COLOR is set.

Examples:
  cache-shm top sessions
  cache-shm top sessions --interval 5s
  cache-shm top sessions --once --json")]
pub struct Top {
    /// Name of the region
    pub name: String,
    /// Print one picture and end
    #[arg(long)]
    pub once: bool,
    /// Time between two pictures, at least 100ms
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "1s")]
    pub interval: Duration,
}

/// List who is attached to a region and what they hold
#[derive(Debug, Args)]
#[command(after_help = "\
Those who are attached for writing: who only reads takes no slot and is not seen. Process ids
are as each process sees itself, so those of containers are of their own numbering. Pins are
views and large reads, and writes under way; locks are held for microseconds. The dead are
shown until the next one that meets them cleans up.
Exit code 1: nobody is attached.

Examples:
  cache-shm processes sessions
  cache-shm processes sessions --json")]
pub struct Processes {
    /// Name of the region
    pub name: String,
}

/// Check a region for contradictions, changing nothing
#[derive(Debug, Args)]
#[command(after_help = "\
Every stripe, index block, slot and segment is held against the others. While other
processes write, the counts are a moving picture.
Exit code 1: contradictions were found.

Examples:
  cache-shm verify sessions
  cache-shm verify sessions --json || cache-shm repair sessions")]
pub struct Verify {
    /// Name of the region
    pub name: String,
}

/// Heal a region: remove what contradicts itself, keep the rest
#[derive(Debug, Args)]
#[command(after_help = "\
Gives back what dead processes held, finishes what they began, removes slots that name
no item, and empties stripes (a part of the keys each) that cannot be healed. Sound
stripes keep their keys. Other processes may stay attached, but what their keys were in
an emptied stripe is gone: with others attached it takes --yes.
Exit code 1: something is left, because a living process held it.

Examples:
  cache-shm repair sessions
  cache-shm repair sessions --yes --json")]
pub struct Repair {
    /// Name of the region
    pub name: String,
    /// Repair also while other processes are attached, without asking
    #[arg(long)]
    pub yes: bool,
    /// Longest wait for each lock that a living process holds [default: as configured, else 1s]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub timeout: Option<Duration>,
}

/// Write what a region holds to a file
#[derive(Debug, Args)]
#[command(after_help = "\
The file appears under its name when it is complete, with mode 0600. Others may use the
region meanwhile: each value is one that was there at some moment, the whole is not one
instant. A key that is there all the time is in the file.

Examples:
  cache-shm dump sessions sessions.dump
  cache-shm dump sessions - | zstd > sessions.dump.zst")]
pub struct Dump {
    /// Name of the region
    pub name: String,
    /// The file, which is replaced, or a pipe; - is standard output
    pub file: PathBuf,
    /// Draw no progress bar (it is only drawn on a terminal anyway)
    #[arg(long)]
    pub no_progress: bool,
}

/// Store what a file of `dump` holds
#[derive(Debug, Args)]
#[command(after_help = "\
Keys that are there keep their values unless --replace is given, because those are newer.
Values keep their kind, flags, namespace and moment of expiry; those that expired since are
left out. The region may have another size: what was in use stays longest. A damaged file
is refused as a whole; one from standard input is checked as it comes.
Exit code 1: --skip-damaged left out what was damaged.
The names of tags are not in a region. A value with tags is left out, because no eviction
by its tag would find it: --with-tagged stores it without them.

Examples:
  cache-shm restore sessions sessions.dump --create
  zstd -dc sessions.dump.zst | cache-shm restore sessions - --yes --json")]
pub struct Restore {
    /// Name of the region
    pub name: String,
    /// The file; - is standard input
    pub file: PathBuf,
    /// Overwrite keys that are there
    #[arg(long)]
    pub replace: bool,
    /// Also values that had tags, without their tags
    #[arg(long)]
    pub with_tagged: bool,
    /// Restore what is not damaged of a file that is
    #[arg(long)]
    pub skip_damaged: bool,
    /// Create the region if it is not there
    #[arg(long)]
    pub create: bool,
    /// Size of a region that is created [default: that of the region that was dumped]
    #[arg(long, value_name = "SIZE", requires = "create")]
    pub size: Option<String>,
    /// Restore also while other processes are attached, without asking
    #[arg(long)]
    pub yes: bool,
    /// Draw no progress bar (it is only drawn on a terminal anyway)
    #[arg(long)]
    pub no_progress: bool,
    /// Longest wait for another writer, for each key [default: as configured, else 1s]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub timeout: Option<Duration>,
}

/// Remove all keys at once
#[derive(Debug, Args)]
#[command(after_help = "\
One step, whatever the number of keys. Locks and rate limits stay.
Exit code 1: there is no such namespace.

Examples:
  cache-shm clear sessions --namespace users
  cache-shm clear sessions --all --yes")]
pub struct Clear {
    /// Name of the region
    pub name: String,
    #[command(flatten)]
    pub within: Within,
    /// The keys of all namespaces
    #[arg(long, conflicts_with = "namespace")]
    pub all: bool,
    /// Clear also while other processes are attached, without asking
    #[arg(long)]
    pub yes: bool,
}

/// Remove the values that have a tag
#[derive(Debug, Args)]
#[command(after_help = "\
One step, whatever the number of values. It is done whether or not any value had the tag.
Tags share words, so that a value of another tag may go as well, seldom.
Exit code 1: there is no such namespace.

Examples:
  cache-shm evict-tag sessions user:7
  cache-shm evict-tag sessions user:7 --namespace pages")]
pub struct EvictTag {
    /// Name of the region
    pub name: String,
    /// The tag
    pub tag: OsString,
    #[command(flatten)]
    pub within: Within,
}

/// Destroy a region and everything in it
#[derive(Debug, Args)]
#[command(after_help = "\
Processes that are attached get an error on their next write, and attach anew to
whatever region then has the name.

Examples:
  cache-shm destroy sessions
  cache-shm destroy sessions --missing-ok")]
pub struct Destroy {
    /// Name of the region
    pub name: String,
    /// Succeed if there is no such region
    #[arg(long)]
    pub missing_ok: bool,
    /// Destroy also while other processes are attached, without asking
    #[arg(long)]
    pub yes: bool,
}
