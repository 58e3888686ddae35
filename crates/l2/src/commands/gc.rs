//! `l2-prover gc` and `l2-prover backup`: what a server keeps, and what it must not lose.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use protocol::{CollectGarbage, Garbage, paths};
use reqwest::Method;
use serde::Serialize;

use crate::args::{Kept, Operated};
use crate::commands::operate::{answer, request};
use crate::output::{Output, thousands};
use crate::parse;

/// `l2-prover gc`
#[derive(Debug, Args)]
pub(crate) struct Gc {
    /// Only what was stored longer ago than this: inputs of proved blocks and rejected proofs are needed to look into failures
    #[arg(long, value_parser = parse::duration, default_value = "168h", value_name = "TIME")]
    pub older_than: Duration,
    /// Only say what would be removed
    #[arg(long)]
    pub dry_run: bool,
    /// The server
    #[command(flatten)]
    pub operated: Operated,
}

/// `l2-prover backup`
#[derive(Debug, Args)]
pub(crate) struct Backup {
    /// A folder that is new or empty
    #[arg(long, value_name = "FOLDER")]
    pub out: PathBuf,
    /// The server
    #[command(flatten)]
    pub kept: Kept,
}

/// Runs `l2-prover gc`.
pub(crate) async fn gc(args: Gc, output: &Output) -> anyhow::Result<()> {
    let older_than_ms = u64::try_from(args.older_than.as_millis()).unwrap_or(u64::MAX);
    let asked = CollectGarbage { older_than_ms, dry_run: args.dry_run };
    let request = request(&args.operated, Method::POST, paths::GARBAGE)?;
    // A store of millions takes its time.
    let request = request.timeout(Duration::from_secs(3600)).json(&asked);
    let garbage = answer(request).await?.json().await;
    output.report(&Collected(
        garbage.context("the Prover Server answered something else than was asked")?,
    ))
}

/// Runs `l2-prover backup`.
pub(crate) async fn backup(args: Backup, output: &Output) -> anyhow::Result<()> {
    let config = args.kept.config()?;
    let backup = server::backup::backup(&config, &args.out).await;
    let backup = backup.context("no backup was made")?;
    output.report(&Copied(backup))
}

#[derive(Serialize)]
#[serde(transparent)]
struct Collected(Garbage);

impl fmt::Display for Collected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Garbage { dry_run, removed, bytes, kept } = self.0;
        let done = if dry_run { "would be removed" } else { "removed" };
        write!(f, "{removed} artifacts of {} bytes {done}, {kept} kept", thousands(bytes))
    }
}

#[derive(Serialize)]
#[serde(transparent)]
struct Copied(server::backup::Backup);

impl fmt::Display for Copied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let server::backup::Backup { folder, jobs, artifacts, bytes } = &self.0;
        let folder = folder.display();
        writeln!(f, "{artifacts} artifacts of {} bytes copied to {folder}", thousands(*bytes))?;
        if *jobs {
            write!(
                f,
                "the jobs are there too: `l2-prover server --data-dir {folder}` goes on from here"
            )
        } else {
            write!(
                f,
                "the jobs are in PostgreSQL: save them with pg_dump, begun BEFORE this command"
            )
        }
    }
}
