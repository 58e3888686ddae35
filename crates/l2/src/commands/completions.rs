//! `l2-prover completions`: what a shell needs to complete our commands and flags.

use anyhow::Context as _;
use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use crate::cli::Cli;
use crate::output::Output;

/// `l2-prover completions`
#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// The shell
    #[arg(value_enum, value_name = "SHELL")]
    pub shell: Shell,
}

/// Runs the command. Its output is a script for the shell, with `--json` too.
pub(crate) fn run(args: &Completions, output: &Output) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "l2-prover", &mut script);
    if args.shell == Shell::Bash {
        // clap_complete 4.6 writes the hyphen of our name in two ways, so that bash finds the commands and not their flags.
        let text = String::from_utf8(script).context("the completions are no UTF-8")?;
        script = text.replace("l2__prover__subcmd__", "l2__subcmd__prover__subcmd__").into_bytes();
    }
    output.raw(&script)
}
