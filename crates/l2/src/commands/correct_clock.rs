//! `l2-prover correct-clock`: after a server ran with a clock in the future.

use std::fmt;

use anyhow::Context as _;
use clap::Args;
use serde::Serialize;
use server::correct_clock::Corrected;

use crate::args::ServerData;
use crate::output::Output;

/// `l2-prover correct-clock`
#[derive(Debug, Args)]
pub(crate) struct CorrectClock {
    /// The server, which must not run
    #[command(flatten)]
    pub data: ServerData,
}

/// Runs the command.
pub(crate) async fn run(args: CorrectClock, output: &Output) -> anyhow::Result<()> {
    let corrected = server::correct_clock::correct(&args.data.config()?).await;
    output.report(&Report(corrected.context("the times cannot be corrected")?))
}

#[derive(Serialize)]
#[serde(transparent)]
struct Report(Corrected);

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Corrected { times: 0, .. } => f.write_str("no time lies in the future"),
            Corrected { ahead_seconds, times } => {
                write!(f, "{times} times set back; the latest was {ahead_seconds} s in the future")
            }
        }
    }
}
