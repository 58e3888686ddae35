//! `l2-prover client`: a Prover Client.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::B256;
use anyhow::Context as _;
use clap::{Args, Subcommand};
use client::resubmit::{Counts, Resubmitted, resubmit};
use client::{Hardware, Prover as _, ProverProcess, Running};
use protocol::{ArtifactRef, JobId, Verdict};
use serde::Serialize;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::args::{AccessArgs, EngineArgs, Global, ProverArg, USUAL_SERVER, ZkvmArgs};
use crate::machine::{Card, Device};
use crate::output::Output;
use crate::provers::{self, Workplace};
use crate::{machine, metrics, parse};

/// `l2-prover client`
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Client {
    /// What to do instead of proving.
    #[command(subcommand)]
    pub deed: Option<ClientDeed>,
    /// The Prover Server; several, to work for them in turn: separated by commas, or the flag repeated
    #[arg(
        long,
        env = "PROVER_CLIENT_PROVER_SERVER_ENDPOINT",
        default_value = USUAL_SERVER,
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
    /// Provers that work at the same time, each on a job of its own and in a process of its own [default: one
    /// for each GPU if the prover uses GPUs, else 1]
    #[arg(
        long,
        env = "PROVER_CLIENT_PROVERS",
        value_parser = clap::value_parser!(u32).range(1..=i64::from(MOST_PROVERS)),
        value_name = "N"
    )]
    pub provers: Option<u32>,
    /// What operators call this client, at most 64 characters [default: the machine's name]
    #[arg(long, env = "PROVER_CLIENT_NAME", value_parser = name, value_name = "NAME")]
    pub name: Option<String>,
    /// Ask for no work while the disk of the folder has less free space than this
    #[arg(
        long,
        env = "PROVER_CLIENT_MIN_FREE_BYTES",
        default_value_t = 256 << 20,
        value_name = "BYTES"
    )]
    pub min_free_bytes: u64,
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
    /// The engine
    #[command(flatten)]
    pub engine: EngineArgs,
}

/// What is done in a client's folder while no client works there.
#[derive(Debug, Subcommand)]
pub(crate) enum ClientDeed {
    /// Submit the proofs that were rejected again: after a server was rebuilt, or a verdict was revoked
    Resubmit(Resubmit),
}

/// `l2-prover client resubmit`
#[derive(Debug, Args)]
pub(crate) struct Resubmit {
    /// The Prover Server; several: separated by commas, or the flag repeated
    #[arg(
        long,
        env = "PROVER_CLIENT_PROVER_SERVER_ENDPOINT",
        default_value = USUAL_SERVER,
        value_delimiter = ',',
        value_name = "URL"
    )]
    pub server: Vec<String>,
    /// The client's folder; no client may be running in it
    #[arg(
        long,
        env = "PROVER_CLIENT_DATA_DIR",
        default_value = ".l2-prover/client",
        value_name = "FOLDER"
    )]
    pub data_dir: PathBuf,
    /// The server's door
    #[command(flatten)]
    pub access: AccessArgs,
}

/// The most provers under one name.
const MOST_PROVERS: u32 = 64;

/// Folder of the sessions on engines, below the client's.
const ENGINE_SESSIONS: &str = "engine-sessions";

fn name(text: &str) -> Result<String, String> {
    match client::config::is_name(text) {
        true => Ok(text.to_owned()),
        false => Err("write 1 to 64 characters, none of them a control character".into()),
    }
}

/// Runs the command.
pub(crate) async fn run(
    args: Client,
    global: &Global,
    output: &Output,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    if let Some(ClientDeed::Resubmit(args)) = args.deed {
        return crate::signals::unless_interrupted(&shutdown, submit_again(args, output)).await;
    }
    let arg = args.prover.unwrap_or_else(|| ProverArg::best(&args.zkvm.executable, &args.engine));
    let cards = machine::cards_beside(&args.engine).await;
    let provers = start_provers(&args, arg, &cards, global)?;
    let first = provers.first().context("there is no prover")?;
    provers::warn_if_mocked(first, output);
    let started = Started {
        event: "started",
        server: args.server.join(", "),
        prover: first.system(),
        program_id: first.program_id(),
        danger: first.danger().map(str::to_owned),
        provers: provers.len(),
        metrics: None,
    };
    let listener = match args.metrics_addr {
        None => None,
        Some(addr) => Some(TcpListener::bind(addr).await.with_context(|| {
            format!("failed to listen on {addr} for metrics (see --metrics-addr)")
        })?),
    };
    let metrics = listener.as_ref().map(TcpListener::local_addr).transpose();
    let metrics = metrics.context("failed to listen for metrics")?;
    output.report(&Started { metrics, ..started })?;
    let config = client::Config {
        servers: args.server.clone(),
        access: args.access.access(),
        data_dir: args.data_dir,
        name: args.name,
        min_free_bytes: args.min_free_bytes,
        ..Default::default()
    };
    let provers = provers.into_iter().map(|prover| Arc::new(prover) as _).collect();
    let running = client::Client::start_all(config, provers).await.with_context(|| {
        format!("failed to start a Prover Client of {}", args.server.join(", "))
    })?;
    let watching = || running.iter().map(Running::watch);
    let serving = listener
        .zip(running.first())
        .map(|(listener, first)| metrics::serve(listener, first.metrics(), watching().collect()));
    let ends = watching().map(|mut watching| {
        Box::pin(async move {
            let ends = watching.wait_for(|status| status.fatal.is_some()).await;
            ends.ok().and_then(|status| status.fatal.clone())
        })
    });
    let fatal = tokio::select! {
        () = shutdown.cancelled() => None,
        (fatal, ..) = futures::future::select_all(ends) => fatal,
    };
    output.note(&format!("finishing for at most {:?}; ctrl-c again to stop at once", args.grace));
    futures::future::join_all(running.into_iter().map(|it| it.drain(args.grace))).await;
    if let Some(serving) = serving {
        serving.abort();
    }
    match fatal {
        None => Ok(()),
        Some(fatal) => Err(anyhow::Error::msg(fatal)),
    }
}

/// The provers of this machine, each in its own folder and, if there are GPUs, each on one of them.
fn start_provers(
    args: &Client,
    arg: ProverArg,
    cards: &[Card],
    global: &Global,
) -> anyhow::Result<Vec<ProverProcess>> {
    let prover = |number: u32, provers: u32| -> anyhow::Result<ProverProcess> {
        let folder = client::journal::folder(&args.data_dir, number);
        let device = Device::of(cards, number, provers);
        let workplace = Workplace {
            folder: folder.join(client::journal::SCRATCH),
            stall: args.stall_limit,
            limit: args.prove_limit,
            log: "info",
            provers,
            device: device.clone(),
            engine: args.engine.clone(),
            sessions: Some(folder.join(ENGINE_SESSIONS)),
        };
        // Elsewhere is the hardware of an engine.
        let hardware = match args.engine.engine {
            Some(_) => Hardware::default(),
            None => Hardware {
                memory_bytes: machine::usable_memory(),
                gpus: device.into_iter().map(|device| device.card.gpu).collect(),
            },
        };
        Ok(arg.start(&args.zkvm, workplace, global)?.on(hardware))
    };
    let mut all = vec![prover(1, args.provers.unwrap_or(1))?];
    let each = u32::try_from(cards.len()).unwrap_or(u32::MAX).clamp(1, MOST_PROVERS);
    let count = args.provers.unwrap_or(if provers::uses_gpus(&all[0]) { each } else { 1 });
    for number in 2..=count {
        all.push(prover(number, count)?);
    }
    Ok(all)
}

async fn submit_again(args: Resubmit, output: &Output) -> anyhow::Result<()> {
    let config = client::Config {
        servers: args.server,
        access: args.access.access(),
        data_dir: args.data_dir,
        ..Default::default()
    };
    let mut told = Ok(());
    let mut report = |proof| {
        if told.is_ok() {
            told = output.report(&Again::of(proof));
        }
    };
    let mut all = resubmit(&config, &mut report).await.context(AGAIN)?;
    for number in client::journal::others(&config.data_dir).context(AGAIN)? {
        let data_dir = client::journal::folder(&config.data_dir, number);
        let config = client::Config { data_dir, ..config.clone() };
        let Counts { gone, kept } = resubmit(&config, &mut report).await.context(AGAIN)?;
        (all.gone, all.kept) = (all.gone + gone, all.kept + kept);
    }
    let Counts { gone, kept } = all;
    told?;
    output.report(&Done { event: "done", gone, kept })?;
    let folder = &config.data_dir;
    anyhow::ensure!(
        kept == 0,
        "{kept} of {} rejected proofs are still below {}",
        gone + kept,
        folder.display()
    );
    Ok(())
}

/// What is said if rejected proofs cannot be submitted again.
const AGAIN: &str = "failed to submit rejected proofs again";

/// One proof that was submitted again.
#[derive(Serialize)]
struct Again {
    event: &'static str,
    job: JobId,
    proof: ArtifactRef,
    /// Why it had been put aside.
    reason: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    verdict: Option<Verdict>,
    /// Why there is no verdict.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl Again {
    fn of(proof: Resubmitted) -> Self {
        let Resubmitted { job, proof, reason, verdict } = proof;
        let (verdict, error) = match verdict {
            Ok(verdict) => (Some(verdict), None),
            Err(error) => (None, Some(error)),
        };
        Self { event: "resubmitted", job, proof, reason, verdict, error }
    }
}

impl fmt::Display for Again {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = |text: &str| text.replace(char::is_control, " ");
        write!(f, "job {}: ", self.job)?;
        match (&self.verdict, &self.error) {
            (Some(Verdict::Accepted), _) => f.write_str("accepted"),
            (Some(Verdict::Duplicate), _) => f.write_str("already proved by another proof"),
            (Some(Verdict::Superseded), _) => f.write_str("valid, but of an abandoned branch"),
            (Some(Verdict::Pending { .. }), _) => f.write_str("still being verified; kept"),
            (Some(Verdict::Rejected { reason }), _) => write!(f, "rejected: {}", line(reason)),
            (None, Some(error)) => write!(f, "no verdict; kept: {}", line(error)),
            (None, None) => f.write_str("no verdict; kept"),
        }
    }
}

/// The end.
#[derive(Serialize)]
struct Done {
    event: &'static str,
    gone: usize,
    kept: usize,
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} proofs acknowledged, {} kept", self.gone, self.kept)
    }
}

#[derive(Serialize)]
struct Started {
    event: &'static str,
    server: String,
    prover: protocol::ProofSystem,
    program_id: B256,
    danger: Option<String>,
    /// How many work at the same time.
    provers: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    metrics: Option<SocketAddr>,
}

impl fmt::Display for Started {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Prover Client of {}: {}, program {}",
            self.server, self.prover, self.program_id
        )?;
        if self.provers > 1 {
            write!(f, ", {} provers", self.provers)?;
        }
        Ok(())
    }
}
