//! The command `cache-shm`, as a library so that the Python wheel runs the same code.
//!
//! Reading order: `cli` has the words, `commands` does what they say, [`output`] and
//! [`failure`] are the two ways to answer, [`replay`] measures hit ratios, [`advise`] foretells
//! them, [`observe`] is what can be seen of a region, [`snapshot`] writes what a region holds to a file and reads it back, and
//! [`serve`] is the server.

pub mod advise;
mod cli;
mod clock;
mod commands;
pub mod failure;
pub mod observe;
pub mod output;
pub mod replay;
pub mod serve;
pub mod snapshot;

use std::ffi::OsString;

use clap::Parser;
use clap::error::ErrorKind;

use failure::Failure;
use output::Output;

/// Runs the command with these arguments, the program's name first, on the process's
/// standard streams.
///
/// Returns the exit code: 0 found or done, 1 not found, 2 error. Never exits the
/// process and never panics because a reader closed the output.
pub fn run(args: impl IntoIterator<Item = OsString>) -> u8 {
    let args: Vec<OsString> = args.into_iter().collect();
    let json = args.iter().any(|arg| arg == "--json");
    let done = match cli::Cli::try_parse_from(&args) {
        Ok(cli) => {
            let mut output = Output::stdout(cli.json);
            commands::run(&cli, &mut output).and_then(|found| output.flush().map(|()| u8::from(!found)))
        }
        Err(error) => match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
                let mut output = Output::stdout(false);
                output.bytes(error.render().to_string().as_bytes()).and_then(|()| output.flush()).map(|()| 0)
            }
            // The usage that clap prints is the answer; it goes to standard error as it is.
            _ if !json => {
                output::complain_raw(&error.render().to_string());
                Ok(2)
            }
            _ => Err(Failure::usage(error.render().to_string().trim().to_owned())),
        },
    };
    done.unwrap_or_else(|failure| {
        output::complain(&failure, json);
        failure.exit_code()
    })
}
