//! The load on a server that speaks memcached's protocol: so many connections, so many requests
//! on each before the first reply is awaited.
//!
//! Rounds: every connection sends its requests, then every connection takes its replies. The
//! replies have one length, because keys are all there and have one length.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use crate::subjects::VALUE_BYTES;

/// Argument under which the program does this.
pub const LOAD: &str = "memcached-load";

const CONNECTIONS: usize = 50;
const KEYS: u64 = 100_000;
/// A server that takes longer for a round does not answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// Sends `count` requests of a kind, `get`, `set` or `fill` (each key once), to the socket at
/// `path`, `depth` at a time, and prints how many a second were answered.
///
/// # Panics
/// When the server is not there, or answers something else than a hit.
pub fn run(path: &str, kind: &str, depth: usize, count: u64) {
    let mut links: Vec<UnixStream> = (0..CONNECTIONS).map(|_| connect(path)).collect();
    let value = "x".repeat(VALUE_BYTES);
    let reply = match kind {
        "get" => format!("VALUE {} 0 {VALUE_BYTES}\r\n{value}\r\nEND\r\n", key(0)),
        "set" | "fill" => "STORED\r\n".to_owned(),
        _ => panic!("no kind {kind}"),
    };
    let count = if kind == "fill" { KEYS } else { count };
    let (mut requests, mut replies) = (String::new(), vec![0; reply.len() * depth]);
    let mut random = fastrand::Rng::with_seed(1);
    let mut next = 0..KEYS;
    let (started, mut done) = (Instant::now(), 0);
    while done < count {
        for link in &mut links {
            requests.clear();
            for _ in 0..depth {
                let number = if kind == "fill" { next.next().unwrap_or(0) } else { random.u64(..KEYS) };
                let key = key(number);
                match kind {
                    "get" => requests.extend(["get ", &key, "\r\n"]),
                    _ => requests.extend(["set ", &key, &format!(" 0 0 {VALUE_BYTES}\r\n"), &value, "\r\n"]),
                }
            }
            link.write_all(requests.as_bytes()).expect("the server takes requests");
        }
        for link in &mut links {
            link.read_exact(&mut replies).expect("the server answers every request");
            assert!(
                replies.ends_with(&reply.as_bytes()[reply.len() - 5..]),
                "another answer: {}",
                replies.escape_ascii()
            );
        }
        done += (CONNECTIONS * depth) as u64;
    }
    println!("{}", done as f64 / started.elapsed().as_secs_f64());
}

fn connect(path: &str) -> UnixStream {
    let link = UnixStream::connect(path).expect("the server listens");
    link.set_read_timeout(Some(PATIENCE)).and_then(|()| link.set_write_timeout(Some(PATIENCE))).expect("sockets wait");
    link
}

fn key(number: u64) -> String {
    format!("key:{number:012}")
}
