//! The words of `cache-shm serve`.

use clap::Args;

/// Serve a region to Redis and memcached clients
#[derive(Debug, Args)]
#[command(after_help = "\
The region is created if it is not there. Clients connect to a socket beside its file
(NAME.sock) unless told otherwise. Every option can also stand in the configuration file, in the
section [serve.NAME] or [serve], or in a variable such as CACHE_SHM_SERVE_CLIENTS_MAX.
SIGTERM and SIGINT end the server after what is under way; a second one, a second or more later,
ends it at once, without a last snapshot. SIGHUP reads the passwords anew.

Examples:
  cache-shm serve sessions
  cache-shm serve sessions --size 1GiB --bind 127.0.0.1:6379 --password-file /run/secrets/cache
  cache-shm serve sessions --http-socket /run/sessions.http
  cache-shm serve sessions --snapshot-file /var/lib/sessions --snapshot-interval 5m --restore
  cache-shm serve sessions --check")]
pub struct Serve {
    /// Name of the region
    pub name: String,
    /// Size of a new region
    #[arg(long, value_name = "SIZE")]
    pub size: Option<String>,
    /// Only say which options hold, and whether the server would start with them
    #[arg(long)]
    pub check: bool,
    /// Socket for Redis clients of this host, or none [default: beside the region's file]
    #[arg(long, value_name = "PATH")]
    pub socket: Option<String>,
    /// Permissions of the socket, octal [default: 600]
    #[arg(long, value_name = "MODE")]
    pub socket_mode: Option<String>,
    /// Addresses and ports for Redis clients, with commas between
    #[arg(long, value_name = "ADDRESSES")]
    pub bind: Option<String>,
    /// Socket for memcached clients of this host, or none [default: none]
    #[arg(long, value_name = "PATH")]
    pub memcached_socket: Option<String>,
    /// Addresses and ports for memcached clients, with commas between
    #[arg(long, value_name = "ADDRESSES")]
    pub memcached_bind: Option<String>,
    /// File with the password of the user `default`
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<String>,
    /// File with the password of the user `reader`, who changes nothing
    #[arg(long, value_name = "FILE")]
    pub reader_password_file: Option<String>,
    /// Let everybody who reaches an address use the cache
    #[arg(long)]
    pub no_auth: bool,
    /// Namespace that database 0 is [default: the one without a name]
    #[arg(long, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// Databases that clients can select, 1 to 64 [default: 16]
    #[arg(long, value_name = "N")]
    pub databases: Option<String>,
    /// Threads that serve clients, 1 to 64 [default: 1]
    #[arg(long, value_name = "N")]
    pub threads: Option<String>,
    /// Clients at once [default: 10000, or what the descriptors allow]
    #[arg(long, value_name = "N")]
    pub clients_max: Option<String>,
    /// Largest request [default: 1GiB]
    #[arg(long, value_name = "SIZE")]
    pub request_bytes: Option<String>,
    /// Replies that one client may leave unread [default: 256MiB]
    #[arg(long, value_name = "SIZE")]
    pub output_bytes: Option<String>,
    /// Requests and replies under way of all clients [default: 1GiB]
    #[arg(long, value_name = "SIZE")]
    pub buffers_bytes: Option<String>,
    /// Close clients that are silent so long, or none [default: none]
    #[arg(long, value_name = "TIME")]
    pub idle_timeout: Option<String>,
    /// Close clients that stop in the middle so long [default: 60s]
    #[arg(long, value_name = "TIME")]
    pub stall_timeout: Option<String>,
    /// Socket for the page, the metrics and the look-up [default: none]
    #[arg(long, value_name = "PATH")]
    pub http_socket: Option<String>,
    /// Addresses and ports for them, with commas between; they need a token
    #[arg(long, value_name = "ADDRESSES")]
    pub http_bind: Option<String>,
    /// File with the token that browsers and scrapers say at --http-bind
    #[arg(long, value_name = "FILE")]
    pub http_token_file: Option<String>,
    /// Names by which they may be asked for, beside those of loopback
    #[arg(long, value_name = "NAMES")]
    pub http_hosts: Option<String>,
    /// Let the page delete keys
    #[arg(long)]
    pub http_writes: bool,
    /// Pause between two looks for background work, or none [default: 100ms]
    #[arg(long, value_name = "TIME")]
    pub maintain_interval: Option<String>,
    /// File of the snapshots
    #[arg(long, value_name = "FILE")]
    pub snapshot_file: Option<String>,
    /// Time from one snapshot to the next, or none [default: none]
    #[arg(long, value_name = "TIME")]
    pub snapshot_interval: Option<String>,
    /// End with a snapshot
    #[arg(long)]
    pub snapshot_at_end: bool,
    /// Begin with what the region lacks of the file of the snapshots
    #[arg(long)]
    pub restore: bool,
    /// Log as text or json [default: text]
    #[arg(long, value_name = "FORMAT")]
    pub log_format: Option<String>,
    /// What to log: off, error, warn, info, debug or trace [default: info]
    #[arg(long, value_name = "LEVEL")]
    pub log_level: Option<String>,
}

impl Serve {
    /// The options that were given, by their names in the file.
    pub fn given(&self) -> Vec<(&'static str, String)> {
        let no_auth = self.no_auth.then(|| "false".to_owned());
        let is_on = |given: bool| given.then(|| "true".to_owned());
        let options = [
            ("socket", &self.socket),
            ("socket_mode", &self.socket_mode),
            ("bind", &self.bind),
            ("memcached_socket", &self.memcached_socket),
            ("memcached_bind", &self.memcached_bind),
            ("password_file", &self.password_file),
            ("reader_password_file", &self.reader_password_file),
            ("auth", &no_auth),
            ("namespace", &self.namespace),
            ("databases", &self.databases),
            ("threads", &self.threads),
            ("clients_max", &self.clients_max),
            ("request_bytes", &self.request_bytes),
            ("output_bytes", &self.output_bytes),
            ("buffers_bytes", &self.buffers_bytes),
            ("idle_timeout", &self.idle_timeout),
            ("stall_timeout", &self.stall_timeout),
            ("http_socket", &self.http_socket),
            ("http_bind", &self.http_bind),
            ("http_token_file", &self.http_token_file),
            ("http_hosts", &self.http_hosts),
            ("http_writes", &is_on(self.http_writes)),
            ("maintain_interval", &self.maintain_interval),
            ("snapshot_file", &self.snapshot_file),
            ("snapshot_interval", &self.snapshot_interval),
            ("snapshot_at_end", &is_on(self.snapshot_at_end)),
            ("restore", &is_on(self.restore)),
            ("log_format", &self.log_format),
            ("log_level", &self.log_level),
        ];
        options.into_iter().filter_map(|(key, text)| Some((key, text.clone()?))).collect()
    }
}
