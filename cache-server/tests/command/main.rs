//! The command as its users meet it: the built binary, real regions, exit codes.

mod advise;
mod clear;
mod config;
mod place;
mod processes;
mod regions;
mod repair;
mod replay;
mod shell;
mod snapshots;
