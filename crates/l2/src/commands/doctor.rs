//! `l2-prover doctor`: what a node can do for a prover, and what to change; or what this machine can prove, and what it lacks.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use alloy_primitives::B256;
use anyhow::{Context as _, ensure};
use clap::Args;
use protocol::{ProofKind, ProofSystem};
use serde::Serialize;
use witness::doctor::{Checkup, Examination};

use crate::args::{Global, NodeAccess, ProverArg, ZkvmArgs};
use crate::chain::ChainArg;
use crate::output::{Output, thousands};
use crate::provers::Workplace;

/// `l2-prover doctor`
#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// JSON-RPC of the node, or of several, separated by commas
    #[arg(
        long,
        env = "PROVER_SERVER_RPC_URL",
        hide_env_values = true,
        value_delimiter = ',',
        required_unless_present = "prover",
        value_name = "URL"
    )]
    pub rpc_url: Vec<String>,
    /// Look at this machine instead: what its prover can prove, and what it lacks
    #[arg(
        long,
        value_enum,
        num_args = 0..=1,
        default_missing_value = "risc0",
        conflicts_with_all = ["ws_url", "block"],
        value_name = "PROVER"
    )]
    pub prover: Option<ProverArg>,
    /// The chain: mainnet, sepolia, holesky, hoodi, dev, anvil, a genesis file, or `node` for what the node says (eth_config)
    #[arg(long, env = "PROVER_SERVER_CHAIN", value_name = "CHAIN", default_value = "dev")]
    pub chain: ChainArg,
    /// WebSocket of the node, if a server should listen there
    #[arg(long, env = "PROVER_SERVER_WS_URL", hide_env_values = true, value_name = "URL")]
    pub ws_url: Option<String>,
    /// The block to prepare [default: the newest one with transactions]
    #[arg(long, value_name = "NUMBER")]
    pub block: Option<u64>,
    /// The zkVM
    #[command(flatten)]
    pub zkvm: ZkvmArgs,
    /// How the node is asked
    #[command(flatten)]
    pub access: NodeAccess,
}

/// Runs the command. What was found is reported, and then is a failure if blocks of one of the nodes cannot be prepared.
pub(crate) async fn run(args: Doctor, global: &Global, output: &Output) -> anyhow::Result<()> {
    if let Some(prover) = args.prover {
        return machine(prover, &args.zkvm, global, output);
    }
    let options = args.access.options()?;
    let config = args.chain.config_at(&args.rpc_url, &options).await;
    let config = config.context("failed to learn the chain (see --chain)")?;
    let keys = args.chain.known_keys()?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?;
    let mut unusable = 0;
    for url in &args.rpc_url {
        let examination = Examination {
            url,
            ws_url: args.ws_url.as_deref(),
            config: &config,
            keys: &keys,
            options: options.clone(),
            block: args.block,
            now: now.as_secs(),
        };
        let checkup = examination.run().await.context("failed to use the node (see --rpc-url)")?;
        unusable += usize::from(!checkup.usable);
        output.report(&Examined { event: "examined", checkup })?;
    }
    ensure!(
        unusable == 0,
        "blocks of {unusable} of {} nodes cannot be prepared",
        args.rpc_url.len()
    );
    Ok(())
}

/// Reports what the prover of this machine can do. It is a failure if it cannot run the program.
fn machine(
    arg: ProverArg,
    zkvm: &ZkvmArgs,
    global: &Global,
    output: &Output,
) -> anyhow::Result<()> {
    let folder = tempfile::tempdir().context("failed to make a temporary folder")?;
    let prover = arg.build(zkvm, Workplace::attended(folder.path()), global)?;
    let hardware = prover.hardware();
    let works = prover.self_test();
    output.report(&Machine {
        event: "machine",
        system: prover.system(),
        program_id: prover.program_id(),
        aggregate_id: prover.aggregate_id(),
        engine: prover.engine(),
        proves_nothing: prover.danger().map(str::to_owned),
        kinds: prover.kinds(),
        segment_po2: prover.segment_po2(),
        memory_bytes: hardware.memory_bytes,
        gpus: hardware.gpus.iter().map(|gpu| gpu.name.clone()).collect(),
        lacks: prover.lacks(),
        self_test: match &works {
            Ok(()) => "passed".to_owned(),
            Err(error) => format!("failed: {error}"),
        },
    })?;
    works.context("the prover cannot run the program on this machine")
}

#[derive(Serialize)]
struct Machine {
    event: &'static str,
    system: ProofSystem,
    program_id: B256,
    aggregate_id: Option<B256>,
    engine: Option<String>,
    proves_nothing: Option<String>,
    kinds: Vec<ProofKind>,
    segment_po2: Option<u32>,
    memory_bytes: Option<u64>,
    gpus: Vec<String>,
    /// Kinds of proofs, and what is missing for them.
    lacks: Vec<(ProofKind, String)>,
    /// `passed`, or why it failed.
    self_test: String,
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds: Vec<_> = self.kinds.iter().map(ToString::to_string).collect();
        writeln!(f, "prover      {}", self.engine.as_deref().unwrap_or("without a name"))?;
        writeln!(f, "program     {} {}", self.system, self.program_id)?;
        if let Some(id) = self.aggregate_id {
            writeln!(f, "folds with  {id}")?;
        }
        writeln!(f, "proofs      {}", kinds.join(", "))?;
        if let Some(danger) = &self.proves_nothing {
            writeln!(f, "            they prove NOTHING: {danger}")?;
        }
        if let Some(po2) = self.segment_po2 {
            writeln!(f, "segments    of at most 2^{po2} cycles")?;
        }
        if let Some(bytes) = self.memory_bytes {
            writeln!(f, "memory      {} MB", thousands(bytes / 1_000_000))?;
        }
        let gpus = if self.gpus.is_empty() { "none".to_owned() } else { self.gpus.join(", ") };
        writeln!(f, "GPUs        {gpus}")?;
        for (kind, missing) in &self.lacks {
            writeln!(f, "{:<12}{missing}", format!("no {kind}"))?;
        }
        write!(f, "self-test   {}", self.self_test)
    }
}

#[derive(Serialize)]
struct Examined {
    event: &'static str,
    #[serde(flatten)]
    checkup: Checkup,
}

impl fmt::Display for Examined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.checkup.fmt(f)
    }
}
