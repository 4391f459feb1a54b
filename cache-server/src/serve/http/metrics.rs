//! `/metrics`: the numbers in the text format 0.0.4 of Prometheus.
//!
//! Owns: the names. Those of the region are the names of `pycache.prometheus`, so that it does not
//! matter who is asked; those that begin with `cache_shm_server_` are this server's. No key is
//! ever part of a name or a label.

use std::fmt::Write;
use std::sync::atomic::Ordering;

use cache_shm::{FORMAT_VERSION, NamespaceInfo, Stats};
use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

use crate::output::printable;
use crate::serve::Shared;
use crate::serve::counters::{DURATION_CLASSES, Sums};

/// The kind of content.
pub const KIND: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Field of the statistics, name, text.
type Row = (&'static str, &'static str, &'static str);

const COUNTERS: [Row; 13] = [
    ("hits", "hits", "Reads that found their key."),
    ("misses", "misses", "Reads that did not find their key."),
    ("sets", "sets", "Values stored, by whatever operation."),
    ("deletes", "deletes", "Keys removed on request."),
    ("evictions", "evictions", "Unexpired items dropped to make room."),
    ("expirations", "expirations", "Items dropped because they had expired or were cleared."),
    ("ghost_hits", "ghost_hits", "Values stored in the main queue because their key was dropped recently."),
    ("set_bytes", "stored_bytes", "Bytes of items stored, headers and keys included."),
    ("relocated_bytes", "relocated_bytes", "Bytes of items copied on by reclaim."),
    ("busy", "busy", "Attempts that found a lock held until their time was up."),
    ("full", "full", "Calls that found no room."),
    ("take_overs", "take_overs", "Locks taken over from dead processes."),
    ("retries", "read_retries", "Reads that were overtaken by a writer and began again."),
];

const GAUGES: [Row; 11] = [
    ("items", "items", "Items in the index."),
    ("live_bytes", "live_bytes", "Bytes of items in the index, headers and keys included."),
    ("dead_bytes", "dead_bytes", "Bytes that are dead and not yet reclaimed."),
    ("free_bytes", "free_bytes", "Bytes of free segments."),
    ("index_bytes", "index_bytes", "Bytes of the index."),
    ("condemned_bytes", "condemned_bytes", "Bytes that wait for a pin to go."),
    ("region_bytes", "region_bytes", "Bytes of the region."),
    ("participants", "participants", "Processes attached for writing."),
    ("participants_max", "participants_max", "Processes that can be attached for writing at once."),
    ("pins", "pins", "Pins held by views and reads."),
    ("evicted_age_ms", "evicted_age_seconds", "About how long a value that nobody reads stays, at the last eviction."),
];

/// The smallest and the largest bucket of durations, as powers of two of nanoseconds: 256 ns to 17 s.
const BUCKETS: std::ops::RangeInclusive<usize> = 8..=DURATION_CLASSES - 1;

/// The text, as far as it is written.
#[derive(Default)]
struct Page(String);

impl Page {
    /// Begins a metric.
    fn begin(&mut self, name: &str, kind: &str, text: &str) {
        // A string takes everything, here and below.
        let _ = write!(self.0, "# HELP {name} {text}\n# TYPE {name} {kind}\n");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        self.0.push_str(name);
        for (index, (label, text)) in labels.iter().enumerate() {
            let _ = write!(self.0, "{}{label}=\"{}\"", if index == 0 { '{' } else { ',' }, escaped(text));
        }
        let end = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.0, "{end} {value}");
    }

    fn one(&mut self, name: &str, kind: &str, text: &str, labels: &[(&str, &str)], value: f64) {
        self.begin(name, kind, text);
        self.sample(name, labels, value);
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// Everything that is counted, now, by a server that began then.
pub fn page(shared: &Shared, began_unix_ms: u64) -> String {
    let mut page = Page::default();
    region(&mut page, shared);
    server(&mut page, shared);
    process(&mut page, began_unix_ms);
    let version = env!("CARGO_PKG_VERSION");
    let labels = [("version", version), ("format", &FORMAT_VERSION.to_string())];
    page.one("cache_shm_build_info", "gauge", "1, with the version of the server and the format.", &labels, 1.0);
    page.0
}

fn region(page: &mut Page, shared: &Shared) {
    let name = shared.cache.name().unwrap_or("private");
    let looked = shared.cache.stats().and_then(|stats| Ok((stats, shared.cache.namespaces()?)));
    let up = f64::from(u8::from(looked.is_ok()));
    page.one("cache_shm_up", "gauge", "1 if the region can be read.", &[("region", name)], up);
    let Ok((stats, spaces)) = looked else { return };
    of_region(page, name, &stats);
    of_namespaces(page, name, &spaces);
}

fn of_region(page: &mut Page, region: &str, stats: &Stats) {
    let fields = stats.fields();
    let value = |wanted: &str| {
        let value = fields.iter().find(|(field, _)| *field == wanted).map_or(0, |(_, value)| *value) as f64;
        if wanted.ends_with("_ms") { value / 1000.0 } else { value }
    };
    for (field, name, text) in COUNTERS {
        page.one(&format!("cache_shm_{name}_total"), "counter", text, &[("region", region)], value(field));
    }
    for (field, name, text) in GAUGES {
        page.one(&format!("cache_shm_{name}"), "gauge", text, &[("region", region)], value(field));
    }
}

fn of_namespaces(page: &mut Page, region: &str, spaces: &[NamespaceInfo]) {
    // The default one is not one that was made: what is not of the others is its.
    let Some((default, made)) = spaces.split_first() else { return };
    if made.is_empty() {
        return;
    }
    for (index, (field, _)) in default.counts().iter().enumerate() {
        let Some((_, name, text)) = COUNTERS.iter().find(|(counter, ..)| counter == field) else { continue };
        let name = format!("cache_shm_namespace_{name}_total");
        page.begin(&name, "counter", text);
        for space in made {
            // Two names that are no text stay two.
            let namespace = printable(&space.name);
            page.sample(&name, &[("region", region), ("namespace", &namespace)], space.counts()[index].1 as f64);
        }
    }
}

fn server(page: &mut Page, shared: &Shared) {
    let sums = Sums::of(&shared.counters);
    let counters = [
        ("commands", "Commands carried out or refused.", sums.commands),
        ("command_errors", "Commands refused.", sums.errors),
        ("http_requests", "Requests for the page, the metrics or a key.", sums.http_requests),
        ("connections", "Connections accepted.", sums.connections),
        ("connections_refused", "Connections refused because there were too many.", sums.refused),
        ("input_bytes", "Bytes received.", sums.input_bytes),
        ("output_bytes", "Bytes sent.", sums.output_bytes),
        ("protocol_errors", "Connections closed because they could not be understood.", sums.protocol_errors),
        ("logins_denied", "Attempts to log in that failed.", sums.denied),
    ];
    for (name, text, value) in counters {
        page.one(&format!("cache_shm_server_{name}_total"), "counter", text, &[], value as f64);
    }
    let name = "cache_shm_server_connections_closed_total";
    page.begin(name, "counter", "Connections closed by the server, by the reason.");
    let reasons = [
        ("idle", sums.idle),
        ("late", sums.late),
        ("stalled", sums.stalled),
        ("overflowed", sums.overflowed),
        ("killed", sums.killed),
    ];
    for (reason, value) in reasons {
        page.sample(name, &[("reason", reason)], value as f64);
    }
    let clients = shared.clients.count() as f64;
    page.one("cache_shm_server_clients", "gauge", "Connections that are open.", &[], clients);
    durations(page, &sums);
    // Relaxed, all: statistics.
    let done = &shared.maintenance;
    let background = [
        ("reclaim_shares", "Shares of reclaim or sweeps that were done in advance.", &done.shares),
        ("backed_bytes", "Bytes that were given memory in advance.", &done.backed_bytes),
        ("retired_participants", "Slots freed of processes that died.", &done.retired),
    ];
    for (name, text, value) in background {
        let value = value.load(Ordering::Relaxed) as f64;
        page.one(&format!("cache_shm_server_{name}_total"), "counter", text, &[], value);
    }
    let Some(told) = shared.snapshots.as_ref().map(|snapshots| snapshots.told()) else { return };
    let name = |name: &str| format!("cache_shm_server_snapshot{name}");
    page.one(&name("s_total"), "counter", "Snapshots written.", &[], told.written as f64);
    page.one(&name("_failures_total"), "counter", "Snapshots that failed.", &[], told.failed as f64);
    // Before the first one there is no time of it.
    if told.unix_ms > 0 {
        let text = "When the last snapshot was complete, since 1970.";
        page.one(&name("_timestamp_seconds"), "gauge", text, &[], told.unix_ms as f64 / 1000.0);
    }
    let gauges = [
        ("_duration_seconds", "How long the last snapshot took.", told.duration.as_secs_f64()),
        ("_bytes", "Bytes of the last snapshot.", told.bytes as f64),
        ("_items", "Values in the last snapshot.", told.items as f64),
        ("_restored_items", "Values restored when the server started.", told.restored as f64),
    ];
    for (suffix, text, value) in gauges {
        page.one(&name(suffix), "gauge", text, &[], value);
    }
}

fn durations(page: &mut Page, sums: &Sums) {
    let name = "cache_shm_server_command_duration_seconds";
    page.begin(name, "histogram", "How long commands took in the server, each as the mean of those read at once.");
    let (bucket, mut below) = (format!("{name}_bucket"), 0);
    for (class, count) in sums.durations.iter().enumerate() {
        below += count;
        // The last class has no upper end.
        if BUCKETS.contains(&class) && class < DURATION_CLASSES - 1 {
            let end = (1u64 << (class + 1)) as f64 / 1e9;
            page.sample(&bucket, &[("le", &end.to_string())], below as f64);
        }
    }
    page.sample(&bucket, &[("le", "+Inf")], below as f64);
    page.sample(&format!("{name}_sum"), &[], sums.duration_ns as f64 / 1e9);
    page.sample(&format!("{name}_count"), &[], below as f64);
}

fn process(page: &mut Page, began_unix_ms: u64) {
    let text = "When the server began, since 1970.";
    page.one("process_start_time_seconds", "gauge", text, &[], began_unix_ms as f64 / 1000.0);
    let cpu = clock_gettime(ClockId::ProcessCPUTime);
    let seconds = cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9;
    page.one("process_cpu_seconds_total", "counter", "Processor time of the server.", &[], seconds);
    if let Some((virtual_pages, resident_pages)) = memory_pages() {
        let page_bytes = rustix::param::page_size() as f64;
        let text = "Memory that the server has mapped and touched, its part of the region included.";
        page.one("process_resident_memory_bytes", "gauge", text, &[], resident_pages * page_bytes);
        let text = "Memory that the server has mapped.";
        page.one("process_virtual_memory_bytes", "gauge", text, &[], virtual_pages * page_bytes);
    }
    if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
        // One of them reads the list.
        let open = open.count().saturating_sub(1) as f64;
        page.one("process_open_fds", "gauge", "Descriptors that are open.", &[], open);
    }
    if let Some(most) = getrlimit(Resource::Nofile).current {
        page.one("process_max_fds", "gauge", "Descriptors that may be open.", &[], most as f64);
    }
}

fn memory_pages() -> Option<(f64, f64)> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    let mut numbers = text.split(' ').map(|number| number.parse::<f64>().ok());
    Some((numbers.next()??, numbers.next()??))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_cannot_break_out_of_their_quotes() {
        let mut page = Page::default();
        page.sample("name", &[("region", "a\"b\\c\nd"), ("x", "y")], 1.5);
        assert_eq!(page.0, "name{region=\"a\\\"b\\\\c\\nd\",x=\"y\"} 1.5\n");
    }

    #[test]
    fn namespaces_whose_names_are_no_text_stay_two() {
        let space = |name: &[u8]| NamespaceInfo { name: name.to_vec(), ..NamespaceInfo::default() };
        let spaces = [space(b""), space(b"\xff\xfe"), space(b"\xff\xfd"), space(b"\\xff\n")];
        let mut page = Page::default();
        of_namespaces(&mut page, "r", &spaces);
        for shown in [r"\\xff\\xfe", r"\\xff\\xfd", r"\\\\xff\\x0a"] {
            let line = format!("cache_shm_namespace_hits_total{{region=\"r\",namespace=\"{shown}\"}} 0");
            assert_eq!(page.0.lines().filter(|found| **found == line).count(), 1, "{line} in {}", page.0);
        }
    }

    #[test]
    fn every_row_is_of_a_number_that_there_is() {
        let fields: Vec<&str> = Stats::default().fields().into_iter().map(|(name, _)| name).collect();
        for (field, ..) in COUNTERS.iter().chain(&GAUGES) {
            assert!(fields.contains(field), "{field}");
        }
        for (field, _) in NamespaceInfo::default().counts() {
            assert!(COUNTERS.iter().any(|(counter, ..)| *counter == field), "{field}");
        }
    }

    #[test]
    fn buckets_add_up_and_end_with_all() {
        let mut durations = vec![0; DURATION_CLASSES];
        (durations[0], durations[10], durations[DURATION_CLASSES - 1]) = (5, 7, 1);
        let sums = Sums { durations, duration_ns: 2_500_000_000, ..Sums::default() };
        let mut page = Page::default();
        super::durations(&mut page, &sums);
        let value = |line: &str| page.0.lines().find_map(|found| found.strip_prefix(line)).map(str::to_owned).unwrap();
        let bucket = |le: &str| value(&format!("cache_shm_server_command_duration_seconds_bucket{{le=\"{le}\"}} "));
        assert_eq!(
            (bucket("0.000000512"), bucket("0.000002048"), bucket("+Inf")),
            ("5".into(), "12".into(), "13".into())
        );
        assert_eq!(value("cache_shm_server_command_duration_seconds_sum "), "2.5");
    }
}
