//! Whether something is done to a region that others use.

use std::io::{BufRead, IsTerminal};

use super::Place;
use crate::failure::{Failure, Result};
use crate::output::complain_raw;

/// Lets a command go on that takes something from others: if nobody else is attached, if `yes` was
/// given, or if a person at the terminal says so. `loss` tells what they lose.
///
/// # Errors
/// Nobody said yes; and what attaching read-only says.
pub(super) fn may(place: Place, name: &str, yes: bool, loss: &str) -> Result<()> {
    if yes {
        return Ok(());
    }
    // Asked read-only: a refusal leaves no trace.
    let others = place.look(name)?.others()?;
    if others.is_empty() {
        return Ok(());
    }
    let pids: Vec<String> = others.iter().map(u32::to_string).collect();
    let attached = format!(
        "{} other {} attached (process {})",
        others.len(),
        if others.len() == 1 { "participant is" } else { "participants are" },
        pids.join(", ")
    );
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return Err(Failure::usage(format!("{attached}; stop them, or give --yes: {loss}")));
    }
    complain_raw(&format!("{name}: {attached}: {loss}.\nGo on? [y/N] "));
    let mut answer = String::new();
    // What cannot be read is no yes.
    let _ = std::io::stdin().lock().read_line(&mut answer);
    if matches!(answer.trim(), "y" | "Y" | "yes") {
        return Ok(());
    }
    Err(Failure::usage("nothing was done"))
}
