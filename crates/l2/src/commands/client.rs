//! `l2-prover client`: a Prover Client.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::B256;
use anyhow::Context as _;
use clap::Args;
use client::Prover as _;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::args::{AccessArgs, Global, ProverArg, ZkvmArgs};
use crate::output::Output;
use crate::provers::{self, Workplace};
use crate::{metrics, parse};

/// `l2-prover client`
#[derive(Debug, Args)]
pub struct Client {
    /// The Prover Server; several, to work for them in turn: separated by commas, or the flag repeated
    #[arg(
        long,
        env = "PROVER_CLIENT_PROVER_SERVER_ENDPOINT",
        default_value = "http://127.0.0.1:3900",
        value_delimiter = ',',
        value_name = "URL"
    )]
    pub server: Vec<String>,
    /// Which prover to use [default: risc0 if its executable is found, else exec]
    #[arg(long, env = "PROVER_CLIENT_PROVER", value_enum)]
    pub prover: Option<ProverArg>,
    /// Where proofs are kept until the server has acknowledged them, and the zkVM's temporary files, some GB; one folder
    /// for each client
    #[arg(
        long,
        env = "PROVER_CLIENT_DATA_DIR",
        default_value = ".l2-prover/client",
        value_name = "FOLDER"
    )]
    pub data_dir: PathBuf,
    /// After ctrl-c or SIGTERM: time to finish the proof at hand; then its job is given back
    #[arg(
        long,
        env = "PROVER_CLIENT_GRACE",
        default_value = "20s",
        value_parser = parse::duration,
        value_name = "TIME"
    )]
    pub grace: Duration,
    /// A proof that takes longer than this is given up
    #[arg(
        long,
        env = "PROVER_CLIENT_PROVE_LIMIT",
        default_value = "24h",
        value_parser = parse::duration_above_zero,
        value_name = "TIME"
    )]
    pub prove_limit: Duration,
    /// A prover that makes no progress for so long is given up
    #[arg(
        long,
        env = "PROVER_CLIENT_STALL_LIMIT",
        default_value = "1h",
        value_parser = parse::duration_above_zero,
        value_name = "TIME"
    )]
    pub stall_limit: Duration,
    /// Serve metrics for Prometheus on this address, at /metrics; they hold no secrets
    #[arg(long, env = "PROVER_CLIENT_METRICS_ADDR", value_name = "IP:PORT")]
    pub metrics_addr: Option<SocketAddr>,
    /// The server's door
    #[command(flatten)]
    pub access: AccessArgs,
    /// The zkVM
    #[command(flatten)]
    pub zkvm: ZkvmArgs,
}

/// Runs the command.
pub async fn run(
    args: Client,
    global: &Global,
    output: &Output,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let arg = args.prover.unwrap_or_else(|| ProverArg::best(&args.zkvm.executable));
    let workplace = Workplace {
        folder: args.data_dir.join(client::journal::SCRATCH),
        stall: args.stall_limit,
        limit: args.prove_limit,
        log: "info",
    };
    let prover = arg.start(&args.zkvm, workplace, global)?;
    provers::warn_if_mocked(&prover, output);
    let listener = match args.metrics_addr {
        None => None,
        Some(addr) => Some(TcpListener::bind(addr).await.with_context(|| {
            format!("failed to listen on {addr} for metrics (see --metrics-addr)")
        })?),
    };
    let metrics = listener.as_ref().map(TcpListener::local_addr).transpose();
    output.report(&Started {
        event: "started",
        server: args.server.join(", "),
        prover: prover.system(),
        program_id: prover.program_id(),
        danger: prover.danger().map(str::to_owned),
        metrics: metrics.context("failed to listen for metrics")?,
    })?;
    let config = client::Config {
        servers: args.server.clone(),
        access: args.access.access(),
        data_dir: args.data_dir,
        ..Default::default()
    };
    let running = client::Client::start(config, Arc::new(prover)).await.with_context(|| {
        format!("failed to start a Prover Client of {}", args.server.join(", "))
    })?;
    let serving =
        listener.map(|listener| metrics::serve(listener, running.metrics(), running.watch()));
    shutdown.cancelled().await;
    output.note(&format!("finishing for at most {:?}; ctrl-c again to stop at once", args.grace));
    running.drain(args.grace).await;
    if let Some(serving) = serving {
        serving.abort();
    }
    Ok(())
}

#[derive(Serialize)]
struct Started {
    event: &'static str,
    server: String,
    prover: protocol::ProofSystem,
    program_id: B256,
    danger: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metrics: Option<SocketAddr>,
}

impl fmt::Display for Started {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Prover Client of {}: {}, program {}", self.server, self.prover, self.program_id)
    }
}
