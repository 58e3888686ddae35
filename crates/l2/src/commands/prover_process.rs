//! `l2-prover prover-process`: what a Prover Client with the exec prover starts for each job. A zkVM has an executable of its own.

use std::sync::Arc;

use anyhow::Context as _;
use client::ExecProver;

/// Runs the command. Blocks.
pub(crate) fn run() -> anyhow::Result<()> {
    client::process::serve("l2-prover", || Ok(Arc::new(ExecProver)))
        .context("failed to serve a Prover Client; this command is for it alone")
}
