//! The binary `cache-shm`: [`cache_server::run`] on the process's arguments.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(cache_server::run(std::env::args_os()))
}
