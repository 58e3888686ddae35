//! `l2-prover migrate`: a server's database gets the schema of this version.

use std::fmt;

use anyhow::Context as _;
use clap::Args;
use serde::Serialize;
use server::database::SchemaReport;

use crate::args::ServerData;
use crate::output::Output;

/// `l2-prover migrate`
#[derive(Debug, Args)]
pub(crate) struct Migrate {
    /// Only say what would be done
    #[arg(long)]
    pub dry_run: bool,
    /// The server
    #[command(flatten)]
    pub data: ServerData,
}

/// Runs the command.
pub(crate) async fn run(args: Migrate, output: &Output) -> anyhow::Result<()> {
    let config = args.data.config()?;
    let report = match args.dry_run {
        true => server::migrate::plan(&config).await,
        false => server::migrate::run(&config).await,
    };
    let report = report.context("the database cannot be migrated")?;
    output.report(&Migrated { dry_run: args.dry_run, report })
}

#[derive(Serialize)]
struct Migrated {
    dry_run: bool,
    #[serde(flatten)]
    report: SchemaReport,
}

impl fmt::Display for Migrated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SchemaReport { database, found, needed, pending } = &self.report;
        if found > needed {
            return write!(
                f,
                "{database} has schema {found}, of a later version than this one ({needed})"
            );
        }
        if pending.is_empty() {
            return write!(f, "{database} has schema {needed} already");
        }
        for migration in pending {
            writeln!(f, "migration {migration}")?;
        }
        match self.dry_run {
            true => write!(
                f,
                "{database} has schema {found}, and would get {needed}; servers of the version before could run on"
            ),
            false => write!(f, "{database} had schema {found}, and has {needed} now"),
        }
    }
}
