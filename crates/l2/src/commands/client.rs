//! `l2-prover client`: a Prover Client.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use alloy_primitives::B256;
use anyhow::Context as _;
use client::Prover as _;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::args::{Client, Global, ProverArg};
use crate::metrics;
use crate::output::Output;
use crate::provers::{self, Workplace};

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
