//! `l2-prover man`: one man page for each command, made of the same text as `--help`.

use std::fmt;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, CommandFactory as _};
use serde::Serialize;

use crate::cli::Cli;
use crate::output::Output;

/// `l2-prover man`
#[derive(Debug, Args)]
pub(crate) struct Man {
    /// Where the pages are written: `l2-prover.1`, `l2-prover-server.1` and so on
    #[arg(long, value_name = "FOLDER")]
    pub out: PathBuf,
}

/// Runs the command.
pub(crate) fn run(args: &Man, output: &Output) -> anyhow::Result<()> {
    let folder = args.out.display();
    std::fs::create_dir_all(&args.out).with_context(|| format!("failed to make {folder}"))?;
    let mut command = Cli::command();
    command.build();
    let pages =
        write(&command, &args.out).with_context(|| format!("failed to write to {folder}"))?;
    output.report(&Written { pages, folder: args.out.clone() })
}

/// Writes the page of `command` and those of the commands in it; returns how many. What `--help` hides has no page.
fn write(command: &clap::Command, folder: &std::path::Path) -> std::io::Result<usize> {
    let mut pages = 1;
    for inner in command.get_subcommands() {
        // `help` has a page's worth of every other command in it.
        if !inner.is_hide_set() && inner.get_name() != "help" {
            pages += write(inner, folder)?;
        }
    }
    clap_mangen::Man::new(command.clone()).generate_to(folder)?;
    Ok(pages)
}

#[derive(Serialize)]
struct Written {
    pages: usize,
    folder: PathBuf,
}

impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pages, folder } = self;
        write!(f, "{pages} pages in {}", folder.display())
    }
}
