//! The progress bar of commands that take long.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressStyle};

/// A bar on standard error; nothing unless that is a terminal.
pub(super) struct Bar(ProgressBar);

impl Bar {
    pub fn new(hidden: bool) -> Bar {
        if hidden || !std::io::stderr().is_terminal() {
            return Bar(ProgressBar::hidden());
        }
        let bar = ProgressBar::new(0);
        let style = ProgressStyle::with_template("{bar:30} {percent:>3} %  {elapsed_precise}  {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Bar(bar)
    }

    /// Shows how much is done, of `length` if that is known.
    pub fn show(&self, position: u64, length: Option<u64>, message: impl FnOnce() -> String) {
        if self.0.is_hidden() {
            return;
        }
        match length {
            Some(length) => self.0.set_length(length),
            None => self.0.unset_length(),
        }
        self.0.set_position(position);
        self.0.set_message(message());
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
