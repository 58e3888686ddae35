//! `l2-prover fsck`: whether a server's database and artifacts are as it leaves them.

use std::fmt;

use anyhow::{Context as _, bail};
use clap::Args;
use serde::Serialize;
use server::fsck::Report;

use crate::args::Kept;
use crate::output::Output;

/// `l2-prover fsck`
#[derive(Debug, Args)]
pub(crate) struct Fsck {
    #[command(flatten)]
    pub kept: Kept,
}

/// Runs the command. Findings are reported, and then are a failure.
pub(crate) async fn run(args: Fsck, output: &Output) -> anyhow::Result<()> {
    let config = args.kept.config()?;
    let report = server::fsck::run(&config).await;
    let report =
        report.with_context(|| format!("failed to check {}", config.data_dir.display()))?;
    let findings = report.findings.len();
    output.report(&Checked { event: "checked", report })?;
    if findings > 0 {
        bail!("{findings} findings; do nothing else before they are understood");
    }
    Ok(())
}

#[derive(Serialize)]
struct Checked {
    event: &'static str,
    #[serde(flatten)]
    report: Report,
}

impl fmt::Display for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { batches, jobs, artifacts, findings } = &self.report;
        for finding in findings {
            writeln!(f, "{}: {}\n  {}", finding.subject, finding.problem, finding.advice)?;
        }
        let well = if findings.is_empty() { "all is well" } else { "NOT all is well" };
        write!(f, "{batches} batches, {jobs} jobs, {artifacts} artifacts checked: {well}")
    }
}
