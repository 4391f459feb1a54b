//! Promises of regions and participants, shown with real processes.
//!
//! Other processes are this test binary again, in a role (`support::Peer`), or children
//! that a role forks. They are steered through pipes, never by waiting some time.

mod bad_input;
mod clocks;
mod consistency;
mod creation;
mod death;
mod forks;
mod leases;
mod loss;
mod news;
mod read_only;
mod sharing;
mod space;
mod support;
mod takeover;
