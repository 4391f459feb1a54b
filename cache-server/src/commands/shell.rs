//! `completions` and `man`: what shells and the manual know of the command.

use std::path::Path;

use clap::{Command, CommandFactory};

use crate::cli::{Cli, Completions, Man};
use crate::failure::{Failure, Result};
use crate::output::{Output, remark};

pub(super) fn completions(arguments: &Completions, output: &mut Output) -> Result<bool> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Cli::command(), "cache-shm", &mut script);
    output.bytes(&script)?;
    Ok(true)
}

pub(super) fn man(arguments: &Man, output: &mut Output) -> Result<bool> {
    let pages = pages();
    if let Some(directory) = &arguments.output {
        std::fs::create_dir_all(directory).map_err(|error| Failure::file("make", directory, &error))?;
        for page in &pages {
            let path = directory.join(format!("{}.1", name(page)));
            std::fs::write(&path, rendered(page, &path)?)
                .map_err(|error| Failure::file("write the page", &path, &error))?;
        }
        return Ok(true);
    }
    let wanted = match &arguments.subcommand {
        Some(subcommand) => format!("cache-shm-{subcommand}"),
        None => "cache-shm".to_owned(),
    };
    let Some(page) = pages.iter().find(|page| name(page) == wanted) else {
        remark(&format!("there is no page {wanted}; `cache-shm --help` lists the commands"));
        return Ok(false);
    };
    output.bytes(&rendered(page, Path::new("standard output"))?)?;
    Ok(true)
}

/// The command and each of its subcommands.
fn pages() -> Vec<Command> {
    let mut command = Cli::command();
    command.build();
    let subcommands: Vec<Command> = command.get_subcommands().cloned().collect();
    std::iter::once(command).chain(subcommands).collect()
}

/// `cache-shm-restore`
fn name(page: &Command) -> &str {
    page.get_display_name().unwrap_or_else(|| page.get_name())
}

fn rendered(page: &Command, path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let man = clap_mangen::Man::new(page.clone());
    man.render(&mut bytes).map_err(|error| Failure::file("write the page", path, &error))?;
    Ok(bytes)
}
