//! Whether something is done to a region that others use.

use std::io::{BufRead, IsTerminal};

use cache_shm::Error;

use super::Place;
use crate::failure::{Failure, Result};
use crate::output::complain_raw;

/// Who else is attached. Asked read-only: a refusal leaves no trace.
///
/// # Errors
/// What attaching read-only says.
fn others(place: Place, name: &str) -> Result<Vec<u32>> {
    match place.look(name) {
        Ok(cache) => Ok(cache.others()?),
        // Nobody outlived the boot.
        Err(Failure::Cache(Error::EarlierBoot { .. })) => Ok(Vec::new()),
        Err(failure) => Err(failure),
    }
}

/// Lets a command go on that takes something from others: if nobody else is attached, if `yes` was
/// given, or if a person at the terminal says so. `loss` tells what they lose.
///
/// # Errors
/// Nobody said yes; and what attaching read-only says.
pub(super) fn may(place: Place, name: &str, yes: bool, loss: &str) -> Result<()> {
    if yes {
        return Ok(());
    }
    let others = others(place, name)?;
    if others.is_empty() { Ok(()) } else { confirm(name, &attached(&others), loss) }
}

/// As [`may`], for what is done also to a region that cannot be attached, and to one that is not there.
///
/// # Errors
/// Nobody said yes.
pub(super) fn may_unseen(place: Place, name: &str, yes: bool, loss: &str) -> Result<()> {
    if yes {
        return Ok(());
    }
    match others(place, name) {
        Ok(others) if others.is_empty() => Ok(()),
        Ok(others) => confirm(name, &attached(&others), loss),
        Err(Failure::Cache(Error::Missing { .. } | Error::InvalidName { .. })) => Ok(()),
        Err(failure) => confirm(name, &format!("who is attached cannot be seen ({failure})"), loss),
    }
}

fn attached(others: &[u32]) -> String {
    let pids: Vec<String> = others.iter().map(u32::to_string).collect();
    format!(
        "{} other {} attached (process {})",
        others.len(),
        if others.len() == 1 { "participant is" } else { "participants are" },
        pids.join(", ")
    )
}

/// Asks a person, if there is one.
fn confirm(name: &str, why: &str, loss: &str) -> Result<()> {
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return Err(Failure::usage(format!("{why}; stop them, or give --yes: {loss}")));
    }
    complain_raw(&format!("{name}: {why}: {loss}.\nGo on? [y/N] "));
    let mut answer = String::new();
    // What cannot be read is no yes.
    let _ = std::io::stdin().lock().read_line(&mut answer);
    if matches!(answer.trim(), "y" | "Y" | "yes") {
        return Ok(());
    }
    Err(Failure::usage("nothing was done"))
}
