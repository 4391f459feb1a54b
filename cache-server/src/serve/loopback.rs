//! A server without sockets: requests go in as bytes, and replies come out.
//!
//! For tests and fuzzing: everything that a client's bytes can reach, but for the reading and
//! writing itself.

use std::sync::Arc;
use std::time::Instant;

use cache_shm::Cache;
use mio::{Poll, Token};

use super::Shared;
use super::clients::Client;
use super::config::Config;
use super::connection::{Step, Turn};
use super::listener::{Origin, Speaks};
use super::users::Users;
use super::{memcached, resp};
use crate::failure::{Failure, Result};

/// A server with one client at a time.
pub struct Loopback {
    shared: Shared,
    poll: Poll,
}

impl Loopback {
    /// A server of `cache` with its options as they are without any.
    ///
    /// # Errors
    /// The region is gone, or the system gives no descriptors.
    pub fn new(cache: Cache) -> Result<Loopback> {
        let poll = Poll::new().map_err(|error| Failure::file("set up", "the server's loop".as_ref(), &error))?;
        Ok(Loopback { shared: Shared::new(cache, &Config::default(), Users::default())?, poll })
    }

    /// What a new Redis client gets that sends `input` in pieces of at most `piece_bytes`.
    pub fn resp(&self, input: &[u8], piece_bytes: usize) -> Vec<u8> {
        self.talk(input, piece_bytes, |client| {
            let mut session = resp::Session::new(&self.shared, client);
            move |input, output, turn| session.step(input, output, turn)
        })
    }

    /// What a new memcached client gets that sends `input` in pieces of at most `piece_bytes`.
    pub fn memcached(&self, input: &[u8], piece_bytes: usize) -> Vec<u8> {
        self.talk(input, piece_bytes, |client| {
            let mut session = memcached::Session::new(&self.shared, client);
            move |input, output, turn| session.step(input, output, turn)
        })
    }

    fn talk<S>(&self, input: &[u8], piece_bytes: usize, session: impl FnOnce(Arc<Client>) -> S) -> Vec<u8>
    where
        S: FnMut(&[u8], &mut Vec<u8>, &Turn<'_>) -> Step,
    {
        let now = Instant::now();
        assert!(self.shared.clients.admit(Speaks::Resp, &self.shared.limits), "there is always room");
        let local = "loopback:0".to_owned();
        let origin = Origin { speaks: Speaks::Resp, address: local.clone(), local, port: None };
        let client = self.shared.clients.enter(origin, 0, now);
        let mut step = session(client.clone());
        let (mut output, mut taken, mut known) = (Vec::new(), 0, 0);
        let entered = self.shared.gate.enter();
        let turn = Turn {
            shared: &self.shared,
            counters: &self.shared.counters[0],
            registry: self.poll.registry(),
            token: Token(0),
            now,
            entered: &entered,
        };
        'pieces: while known < input.len() {
            known = (known + piece_bytes.max(1)).min(input.len());
            while taken < known {
                match step(&input[taken..known], &mut output, &turn) {
                    Step::Done(bytes) => taken += bytes,
                    Step::More(needed) => {
                        assert!(taken + needed > known, "what is there is enough");
                        break;
                    }
                    Step::Later => {}
                    Step::Close => break 'pieces,
                }
            }
        }
        self.shared.clients.leave(client.id);
        output
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pieces_in_which_requests_come_change_no_reply() {
        let input = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$5\r\nhello\r\nGET k\r\n*2\r\n$4\r\nINCR\r\n$1\r\nn\r\nNOPE a\r\nDEL k n\r\n";
        let wanted =
            b"+OK\r\n$5\r\nhello\r\n:1\r\n-ERR unknown command 'NOPE', with args beginning with: 'a' \r\n:2\r\n";
        let server = Loopback::new(Cache::builder(None).size(1 << 20).create().unwrap()).unwrap();
        for piece_bytes in 1..=input.len() {
            assert_eq!(server.resp(input, piece_bytes), wanted, "{piece_bytes}");
        }
        let input = b"set k 7 0 5\r\nhello\r\nget k l\r\nms n 1\r\n1\r\nincr n 1\r\nset k 0 0 9999999 noreply\r\n";
        let input = [&input[..], &[b'x'; 10_000_001], b"nope\r\nmd k q\r\nmn\r\n"].concat();
        let wanted = b"STORED\r\nVALUE k 7 5\r\nhello\r\nEND\r\nHD\r\n2\r\nERROR\r\nNF\r\nMN\r\n";
        for piece_bytes in (1..100).chain([input.len()]) {
            assert_eq!(server.memcached(&input, piece_bytes), wanted, "{piece_bytes}");
        }
    }
}
