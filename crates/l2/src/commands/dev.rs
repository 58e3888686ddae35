//! `l2-prover dev`: dev node, traffic, Prover Server and Prover Clients in one process, over HTTP as if they were apart.

use std::fmt;
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use alloy_primitives::B256;
use anyhow::{Context as _, bail, ensure};
use clap::Args;
use protocol::{ProofKind, Status};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::args::{
    AggregateArgs, EngineArgs, Global, KindArg, NodeArgs, ProverArg, SplitArgs, USUAL_PORT,
    USUAL_SERVER, ZkvmArgs,
};
use crate::commands::node::{self, Defaults};
use crate::commands::server::Data;
use crate::machine::{self, Device};
use crate::output::Output;
use crate::provers::{self, Workplace};
use crate::view::View;

/// `l2-prover dev`
#[derive(Debug, Args)]
pub(crate) struct Dev {
    /// Which prover the clients use [default: risc0 if its executable is found, else exec]
    #[arg(long, value_enum)]
    pub prover: Option<ProverArg>,
    /// Number of Prover Clients
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64), value_name = "N")]
    pub clients: u32,
    /// Stop after this many proven blocks
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..), value_name = "N")]
    pub blocks: Option<u64>,
    /// Blocks in one proof
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1024), value_name = "N")]
    pub batch_blocks: u64,
    /// Kind of proof
    #[arg(long, value_enum, default_value_t = KindArg::Composite)]
    pub kind: KindArg,
    /// Proofs in parts
    #[command(flatten)]
    pub split: SplitArgs,
    /// Folded proofs
    #[command(flatten)]
    pub aggregate: AggregateArgs,
    /// Port of the Prover Server and its dashboard; 0 picks one [default: 3900, or one that is free if another program
    /// listens there]
    #[arg(long, value_name = "PORT")]
    pub server_port: Option<u16>,
    /// Where jobs and proofs are kept [default: a temporary folder]
    #[arg(long, value_name = "FOLDER")]
    pub data_dir: Option<PathBuf>,
    /// The zkVM
    #[command(flatten)]
    pub zkvm: ZkvmArgs,
    /// The engine
    #[command(flatten)]
    pub engine: EngineArgs,
    /// The dev node
    #[command(flatten)]
    pub node: NodeArgs,
}

/// How often the server is looked at.
const TICK: Duration = Duration::from_millis(200);

/// How often clients report progress: people watch.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// The dev chain's first provable block.
const FIRST_BLOCK: u64 = 1;

/// Runs the command.
pub(crate) async fn run(
    args: Dev,
    global: &Global,
    output: &Output,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let started = Instant::now();
    let arg = args.prover.unwrap_or_else(|| ProverArg::best(&args.zkvm.executable, &args.engine));
    let data = Data::for_a_new_chain(args.data_dir)?;
    let folder = |client: u32| data.path().join(format!("client-{client}"));
    let cards = machine::cards_beside(&args.engine).await;
    let workplace = |client| Workplace {
        engine: args.engine.clone(),
        device: Device::of(&cards, client, args.clients),
        sessions: Some(folder(client).join("engine-sessions")),
        provers: args.clients,
        ..Workplace::attended(folder(client).join(client::journal::SCRATCH))
    };
    let prover = arg.build(&args.zkvm, workplace(1), global)?;
    let kind =
        match args.split.split || args.aggregate.aggregate.is_some() || args.aggregate.groth16 {
            true => ProofKind::Succinct,
            false => args.kind.into(),
        };
    provers::check_kind(&*prover, kind)?;
    let mocked = provers::warn_if_mocked(&*prover, output);
    let program_id = B256::new(arg.pinned_program_id());
    ensure!(
        prover.program_id() == program_id,
        "the prover has program {} but {program_id} is pinned: run `cargo xtask guests`",
        prover.program_id()
    );

    let defaults = if mocked { &Defaults::MOCKED } else { &Defaults::PROVEN };
    let node = node::start(&args.node, None, defaults).await?;
    let (urls, chain) = ([node.url()], node.chain_config().clone());
    let source = witness::Nodes::connect(&urls, chain, Default::default(), Default::default())
        .await
        .context("failed to use the dev node")?;
    let config = server::Config {
        listen_port: args.server_port.unwrap_or_else(usual_port_if_free),
        data_dir: data.path().join("server"),
        system: arg.system(),
        kind,
        split: args.split.split,
        split_segment_po2: args.split.split_segment_po2,
        split_least_segments: args.split.split_least_segments,
        aggregate: args.aggregate.aggregate,
        aggregate_after: args.aggregate.aggregate_after,
        groth16: args.aggregate.groth16,
        first_block: FIRST_BLOCK,
        batch_blocks: args.batch_blocks,
        heartbeat: HEARTBEAT,
        // Nothing but this process is told to believe them.
        danger_accept_exec: mocked && arg == ProverArg::Exec,
        danger_accept_dev_mode: mocked && arg != ProverArg::Exec,
        ..server::Config::default()
    };
    let planner = config.split.then(|| provers::planner(prover.clone(), data.path().join("plans")));
    let server = server::Server::start_with(config, Some(source), planner)
        .await
        .context("failed to start the Prover Server (--server-port 0 picks a free port)")?;
    let endpoint = format!("http://{}", server.addr());
    output.report(&Started {
        event: "started",
        node: node.url(),
        server: endpoint.clone(),
        dashboard: format!("{endpoint}/"),
        chain_id: node.chain_config().chain_id,
        clients: args.clients,
        prover: arg.system(),
        program_id,
        proves_nothing: mocked,
        blocks: node::blocks(&args.node, defaults),
        command: std::env::args().next().unwrap_or_else(|| "l2-prover".to_owned()),
    })?;
    let mut clients = Vec::new();
    for index in 1..=args.clients {
        let prover = match index {
            1 => prover.clone(),
            // Each has a folder of its own for its proofs.
            _ => arg.build(&args.zkvm, workplace(index), global)?,
        };
        let servers = vec![endpoint.clone()];
        let config = client::Config { servers, data_dir: folder(index), ..Default::default() };
        let running = client::Client::start(config, prover).await;
        clients.push(running.with_context(|| format!("failed to start Prover Client {index}"))?);
    }

    let folds = args.aggregate.aggregate.is_some();
    let mut view = View::new(output, args.blocks, mocked);
    let mut ticks = tokio::time::interval(TICK);
    let outcome = loop {
        let stop = tokio::select! {
            _ = ticks.tick() => false,
            () = shutdown.cancelled() => true,
        };
        let status = server.status().await.context("failed to read the server's status")?;
        let blocks = match folds {
            true => folded(&status),
            false => proven(&status),
        };
        view.update(&status, blocks)?;
        if stop || args.blocks.is_some_and(|goal| blocks >= goal) {
            break Ok(blocks);
        }
        if let Some(dead) = dead(&status) {
            break Err(dead);
        }
    };
    view.finish();

    let seconds = started.elapsed().as_secs_f64();
    // ORDER: clients hand in what they have while the server lives, the server asks the node while that lives.
    for client in clients {
        client.stop().await;
    }
    server.stop().await;
    node.stop().await;
    match outcome {
        Ok(blocks) => {
            output.report(&Finished { event: "finished", blocks, seconds, proves_nothing: mocked })
        }
        Err(dead) => bail!("{dead}"),
    }
}

/// Blocks proven from the first one on, without a gap.
fn proven(status: &Status) -> u64 {
    status.proved_through.map_or(0, |last| last + 1 - FIRST_BLOCK)
}

/// Blocks from the first one on whose proofs are folded.
fn folded(status: &Status) -> u64 {
    let folded = status
        .jobs
        .iter()
        .filter(|job| job.kind == ProofKind::Aggregate && job.state == protocol::JobState::Proved);
    folded.map(|job| job.block_numbers.last() + 1 - FIRST_BLOCK).max().unwrap_or_default()
}

/// A run ends when a job has failed so often, although a server would go on trying with one client.
const MAX_FAILURES: u32 = 3;

/// Says of a job that was given up, or failed too often: the run can't go on without it.
fn dead(status: &Status) -> Option<String> {
    // Parts that are not needed are given up, and what no client can do in parts is done as a whole.
    let over = |job: &&protocol::JobSummary| {
        job.part.is_none()
            && (job.state == protocol::JobState::Dead || job.failures >= MAX_FAILURES)
    };
    let job = status.jobs.iter().find(over)?;
    let error = job.last_error.as_deref().unwrap_or("no reason is known");
    Some(format!("block {} was given up: {error}", job.block_numbers))
}

/// Where other commands look for a server. Whoever runs a second chain, or a server, keeps it.
fn usual_port_if_free() -> u16 {
    match TcpListener::bind((Ipv4Addr::LOCALHOST, USUAL_PORT)) {
        Ok(_) => USUAL_PORT,
        Err(_) => 0,
    }
}

#[derive(Serialize)]
struct Started {
    event: &'static str,
    node: String,
    server: String,
    dashboard: String,
    chain_id: u64,
    clients: u32,
    prover: protocol::ProofSystem,
    program_id: B256,
    proves_nothing: bool,
    /// When the node makes blocks, and of what.
    #[serde(skip)]
    blocks: String,
    /// This command, as it was called.
    #[serde(skip)]
    command: String,
}

impl fmt::Display for Started {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { node, server, prover, command, .. } = self;
        writeln!(f, "dashboard       {} in your browser", self.dashboard)?;
        writeln!(f, "dev node        {node} (chain {}): {}", self.chain_id, self.blocks)?;
        writeln!(f, "Prover Server   {server}: makes a job of each block, checks each proof")?;
        write!(f, "Prover Clients  {} with {prover}", self.clients)?;
        // exec runs whatever program this executable was built with.
        match self.program_id.is_zero() {
            true => writeln!(f)?,
            false => writeln!(f, ", program {}", self.program_id)?,
        }
        if self.proves_nothing {
            let why = match prover {
                protocol::ProofSystem::Exec => {
                    "exec runs the program without a zkVM, in milliseconds instead of minutes; `make dev` proves"
                }
                _ => {
                    "the zkVM runs the program, and the proof is mocked; `make dev` without RISC0_DEV_MODE proves"
                }
            };
            writeln!(f, "nothing proven  {why}")?;
        }
        let named = match server == USUAL_SERVER {
            true => String::new(),
            false => format!(" --server {server}"),
        };
        writeln!(f, "\nNext, in another terminal:")?;
        writeln!(f, "  {command} top{named}")?;
        writeln!(
            f,
            "  cast send --rpc-url {node} --private-key {} --value 1ether {}",
            devnode::accounts::KEYS[0],
            devnode::accounts::addresses()[1]
        )?;
        writeln!(f, "docs/dev-chain.md says more. ctrl-c stops everything.")
    }
}

#[derive(Serialize)]
struct Finished {
    event: &'static str,
    blocks: u64,
    seconds: f64,
    proves_nothing: bool,
}

impl fmt::Display for Finished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.proves_nothing { "executed, but NOT proven (mocked)" } else { "proven" };
        let blocks = if self.blocks == 1 { "block" } else { "blocks" };
        write!(f, "{} {blocks} {what} in {:.1} s", self.blocks, self.seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn the_first_lines_say_what_runs_where_and_what_is_next() {
        let started = Started {
            event: "started",
            node: "http://127.0.0.1:8545".to_owned(),
            server: USUAL_SERVER.to_owned(),
            dashboard: format!("{USUAL_SERVER}/"),
            chain_id: 1337,
            clients: 1,
            prover: protocol::ProofSystem::Exec,
            program_id: B256::ZERO,
            proves_nothing: true,
            blocks: "a block every 2s, of 3 transactions and what you send".to_owned(),
            command: "target/quick/l2-prover".to_owned(),
        };
        expect![[r#"
            dashboard       http://127.0.0.1:3900/ in your browser
            dev node        http://127.0.0.1:8545 (chain 1337): a block every 2s, of 3 transactions and what you send
            Prover Server   http://127.0.0.1:3900: makes a job of each block, checks each proof
            Prover Clients  1 with exec
            nothing proven  exec runs the program without a zkVM, in milliseconds instead of minutes; `make dev` proves

            Next, in another terminal:
              target/quick/l2-prover top
              cast send --rpc-url http://127.0.0.1:8545 --private-key 0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80 --value 1ether 0x70997970C51812dc3A010C7d01b50e0d17dc79C8
            docs/dev-chain.md says more. ctrl-c stops everything.
        "#]]
        .assert_eq(&started.to_string());
        let elsewhere = Started { server: "http://127.0.0.1:4000".to_owned(), ..started };
        let text = elsewhere.to_string();
        assert!(text.contains("l2-prover top --server http://127.0.0.1:4000\n"), "{text}");
    }
}
