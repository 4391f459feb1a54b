//! A Redis client that sends anything.
#![no_main]

use cache_server::serve::loopback::Loopback;

libfuzzer_sys::fuzz_target!(|data: &[u8]| cache_fuzz::throw(data, Loopback::resp));
