//! The C interface: its header is the one that is committed, C and C++ programs that use it
//! compile and run, under sanitizers too, and what `make install` installs is what they need.

mod header;
mod install;
mod programs;
mod support;
