//! `l2-prover server`: a Prover Server, with a node somewhere or the dev node in this process.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use alloy_primitives::{Address, B256};
use anyhow::{Context as _, bail, ensure};
use clap::builder::BoolishValueParser;
use clap::{Args, ValueEnum};
use serde::Serialize;
use tokio_util::sync::CancellationToken;
use url::Url;
use witness::KnownKeys;

use crate::args::{
    AggregateArgs, ExecutableArgs, Global, KindArg, NodeAccess, NodeArgs, ProverArg, SettleArgs,
    SplitArgs, USUAL_PORT, ZkvmArgs,
};
use crate::chain::ChainArg;
use crate::commands::node::{self, Defaults};
use crate::output::Output;
use crate::parse;
use crate::provers::{self, Workplace};
use crate::settings::{self, Origin, Overrides, Settings};
use crate::signals::unless_interrupted;

/// Who needs a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AuthArg {
    /// Nobody; the server listens only where no other machine can reach it
    Open,
    /// Everybody
    Required,
}

impl From<AuthArg> for server::config::Auth {
    fn from(arg: AuthArg) -> Self {
        match arg {
            AuthArg::Open => Self::Open,
            AuthArg::Required => Self::Required,
        }
    }
}

/// `l2-prover server`
#[derive(Debug, Args)]
pub(crate) struct Server {
    /// Settings in TOML; flags and environment win over it. `l2-prover config check` shows what counts
    #[arg(long, env = "PROVER_SERVER_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Address Prover Clients connect to
    #[arg(long, env = "PROVER_SERVER_LISTEN_IP", default_value = "127.0.0.1", value_name = "IP")]
    pub listen_ip: IpAddr,
    /// Port Prover Clients connect to; 0 picks one
    #[arg(long, env = "PROVER_SERVER_LISTEN_PORT", default_value_t = USUAL_PORT, value_name = "PORT")]
    pub listen_port: u16,
    /// Who needs a token (see `l2-prover tokens`)
    #[arg(long, env = "PROVER_SERVER_AUTH", value_enum, default_value_t = AuthArg::Open)]
    pub auth: AuthArg,
    /// The server's certificate, in PEM: it then speaks https
    #[arg(long, env = "PROVER_SERVER_TLS_CERT", value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,
    /// The certificate's key, in PEM
    #[arg(long, env = "PROVER_SERVER_TLS_KEY", value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
    /// Authorities of client certificates, in PEM: nobody else can connect
    #[arg(long, env = "PROVER_SERVER_TLS_CLIENT_CA", value_name = "FILE")]
    pub tls_client_ca: Option<PathBuf>,
    /// JSON-RPC of the L2 node whose blocks are proven; several, of which the first that works is used: separated by commas,
    /// or the flag repeated
    #[arg(
        long,
        env = "PROVER_SERVER_RPC_URL",
        hide_env_values = true,
        value_delimiter = ',',
        value_name = "URL",
        required_unless_present_any = ["dev_node", "config"]
    )]
    pub rpc_url: Vec<String>,
    /// WebSocket of a node that tells of new blocks (newHeads) [default: the nodes are asked twice a second]
    #[arg(
        long,
        env = "PROVER_SERVER_WS_URL",
        hide_env_values = true,
        value_name = "URL",
        conflicts_with = "dev_node"
    )]
    pub ws_url: Option<String>,
    /// How old a block must be to be proven: latest, safe, finalized, or a number of blocks behind the latest
    #[arg(
        long,
        env = "PROVER_SERVER_FOLLOW",
        default_value = "latest",
        value_parser = parse::depth,
        value_name = "DEPTH"
    )]
    pub follow: witness::Depth,
    /// How the nodes are asked
    #[command(flatten)]
    pub access: NodeAccess,
    /// Run a dev node in this process and prove its blocks
    #[arg(long, conflicts_with = "rpc_url")]
    pub dev_node: bool,
    /// The node's chain: mainnet, holesky, hoodi, sepolia, dev, anvil, a genesis file, or `node` for what the node says
    /// (eth_config)
    #[arg(long, env = "PROVER_SERVER_CHAIN", default_value = "dev", value_name = "CHAIN")]
    pub chain: ChainArg,
    /// First block to prove
    #[arg(
        long,
        env = "PROVER_SERVER_FIRST_BLOCK",
        default_value_t = 1,
        value_parser = clap::value_parser!(u64).range(1..),
        value_name = "NUMBER"
    )]
    pub first_block: u64,
    /// Where jobs and proofs are kept [default: .l2-prover/server; with --dev-node a temporary folder]
    #[arg(long, env = "PROVER_SERVER_DATA_DIR", value_name = "FOLDER")]
    pub data_dir: Option<PathBuf>,
    /// PostgreSQL database for the jobs, `postgres://USER@HOST/DATABASE`; servers that share it act as one and must share
    /// the folder too [default: SQLite in the folder]
    #[arg(
        long,
        env = "PROVER_SERVER_DATABASE",
        hide_env_values = true,
        value_name = "URL",
        conflicts_with = "dev_node"
    )]
    pub database: Option<String>,
    /// S3-compatible store for the artifacts, `s3://BUCKET/PREFIX`; keys and endpoint are read from AWS_ACCESS_KEY_ID,
    /// AWS_SECRET_ACCESS_KEY, AWS_REGION and AWS_ENDPOINT [default: in --data-dir]
    #[arg(long, env = "PROVER_SERVER_ARTIFACTS", value_name = "URL")]
    pub artifacts: Option<Url>,
    /// Which proofs are asked for
    #[arg(long, env = "PROVER_SERVER_PROVER", value_enum, default_value_t = ProverArg::Risc0)]
    pub prover: ProverArg,
    /// Kind of proof
    #[arg(long, env = "PROVER_SERVER_PROOF_KIND", value_enum, default_value_t = KindArg::Composite)]
    pub kind: KindArg,
    /// Proofs in parts
    #[command(flatten)]
    pub split: SplitArgs,
    /// Folded proofs
    #[command(flatten)]
    pub aggregate: AggregateArgs,
    /// The executable that divides runs into parts, as clients do
    #[command(flatten)]
    pub executable: ExecutableArgs,
    /// Who may claim the rewards of the proofs: each statement names it [default: nobody]
    #[arg(long, env = "PROVER_SERVER_BENEFICIARY", value_name = "ADDRESS")]
    pub beneficiary: Option<Address>,
    /// On a chain with a bridge, the link of the chain of deposits before the first block [default: the first of all, if
    /// that is block 1]
    #[arg(long, env = "PROVER_SERVER_DEPOSITS_START", value_name = "HASH")]
    pub deposits_start: Option<B256>,
    /// Blocks in one proof
    #[arg(
        long,
        env = "PROVER_SERVER_BATCH_BLOCKS",
        default_value_t = 1,
        value_parser = clap::value_parser!(u64).range(1..=1024),
        value_name = "N"
    )]
    pub batch_blocks: u64,
    /// Most cycles that a proof of several blocks is expected to take: such a batch is made shorter
    #[arg(
        long,
        env = "PROVER_SERVER_MAX_BATCH_CYCLES",
        default_value_t = 4_000_000_000,
        value_parser = clap::value_parser!(u64).range(1..),
        value_name = "CYCLES"
    )]
    pub max_batch_cycles: u64,
    /// Most gas of a batch of several blocks: it is made shorter [default: no limit]
    #[arg(
        long,
        env = "PROVER_SERVER_MAX_BATCH_GAS",
        value_parser = clap::value_parser!(u64).range(1..),
        value_name = "GAS"
    )]
    pub max_batch_gas: Option<u64>,
    /// Largest input of a batch of several blocks: it is made shorter [default: no limit]
    #[arg(
        long,
        env = "PROVER_SERVER_MAX_BATCH_BYTES",
        value_parser = clap::value_parser!(u64).range(1..),
        value_name = "BYTES"
    )]
    pub max_batch_bytes: Option<u64>,
    /// How long a batch waits to be full [default: until it is]
    #[arg(
        long,
        env = "PROVER_SERVER_MAX_BATCH_AGE",
        value_parser = parse::duration_above_zero,
        value_name = "TIME"
    )]
    pub max_batch_age: Option<Duration>,
    /// Longest reorg, in blocks, after which the server goes on by itself
    #[arg(long, env = "PROVER_SERVER_MAX_REORG_BLOCKS", default_value_t = 128, value_name = "N")]
    pub max_reorg_blocks: u64,
    /// How long a silent client keeps its job
    #[arg(
        long,
        env = "PROVER_SERVER_LEASE",
        default_value = "60s",
        value_parser = parse::duration_above_zero,
        value_name = "TIME"
    )]
    pub lease: Duration,
    /// DANGER: accept proofs of the exec prover, which prove nothing
    #[arg(long, env = "PROVER_SERVER_DANGER_ACCEPT_EXEC", value_parser = BoolishValueParser::new())]
    pub danger_accept_exec: bool,
    /// DANGER: accept receipts of RISC Zero's dev mode, which prove nothing
    #[arg(long, env = "PROVER_SERVER_DANGER_ACCEPT_DEV_MODE", value_parser = BoolishValueParser::new())]
    pub danger_accept_dev_mode: bool,
    /// DANGER: let everybody in on an address that other machines may reach
    #[arg(
        long,
        env = "PROVER_SERVER_DANGER_LISTEN_WITHOUT_AUTH",
        value_parser = BoolishValueParser::new()
    )]
    pub danger_listen_without_auth: bool,
    /// Settling on L1
    #[command(flatten)]
    pub settle: SettleArgs,
    /// The dev node, if it runs in this process
    #[command(flatten)]
    pub node: NodeArgs,
}

/// Runs the command.
pub(crate) async fn run(
    args: Server,
    overrides: &Overrides,
    global: &Global,
    output: &Output,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let settings = Settings::new(&args, overrides)?;
    if let Some(why) = settings::never_settled(&settings) {
        output.warn(&why);
    }
    let Settings { mut config, node: settings, settle, origins } = settings;
    settle.check()?;
    if config.danger_accept_exec {
        output.warn("this server accepts exec proofs, which prove NOTHING.");
    }
    if config.danger_accept_dev_mode {
        output.warn("this server accepts dev-mode proofs, which prove NOTHING.");
    }
    let mocked = config.danger_accept_exec || config.danger_accept_dev_mode;
    let (dev_node, data) = if args.dev_node {
        let defaults = if mocked { Defaults::MOCKED } else { Defaults::PROVEN };
        let asked = origins.get("data_dir") != Some(&Origin::Default);
        let data = Data::for_a_new_chain(asked.then_some(config.data_dir))?;
        (Some(node::start(&args.node, None, &defaults).await?), data)
    } else {
        (None, Data::Kept(config.data_dir))
    };
    config.data_dir = data.path().to_owned();
    let options = settings.access().options()?;
    let (urls, chain, keys) = match &dev_node {
        Some(node) => (vec![node.url()], node.chain_config().clone(), KnownKeys::default()),
        None => {
            ensure!(
                !settings.rpc_url.is_empty(),
                "--rpc-url or --dev-node is needed, or rpc_url in the file"
            );
            let named: ChainArg =
                settings.chain.parse().expect("every text is a chain's name or file");
            let told = named.config_at(&settings.rpc_url, &options);
            let chain = unless_interrupted(&shutdown, told).await;
            let chain = chain.context("failed to learn the chain (see --chain)")?;
            (settings.rpc_url.clone(), chain, named.known_keys()?)
        }
    };
    settings::check_bridge(&config, &chain)?;
    let (chain_id, chain_config_digest) = (chain.chain_id, chain.digest());
    let connect = async {
        let connected = witness::Nodes::try_connect(&urls, chain, options, settings.follow).await;
        connected.context("failed to use the node (see --rpc-url, --chain)")
    };
    let (mut source, failed) = unless_interrupted(&shutdown, connect).await?;
    if failed.len() == urls.len() {
        tracing::warn!(
            code = "no_node",
            "no node works now: the server goes on with the jobs that it has, and takes new blocks in as soon as a node works"
        );
    }
    source.know(keys);
    // The dev node tells of its blocks at the same address.
    let told = dev_node.as_ref().map(|node| node.url().replacen("http", "ws", 1));
    if let Some(url) = told.or(settings.ws_url) {
        source.listen(&url).context("failed to listen for new blocks (see --ws-url)")?;
    }
    let started = Started {
        event: "started",
        server: String::new(),
        node: source.to_string(),
        chain_id,
        chain_config_digest,
        data_dir: data.path().to_owned(),
        database: config.database.as_ref().map(ToString::to_string),
        artifacts: config.artifacts.as_ref().map(ToString::to_string),
        prover: config.system,
        kind: config.kind,
        program_id: config.wanted_program_id(),
        makes: config.folding().iter().map(Makes::of).collect(),
    };
    let planner = match config.split {
        true => Some(planner(args.executable, config.system, data.path(), global)?),
        false => None,
    };
    let start = async {
        let started = server::Server::start_with(config, Some(source), planner).await;
        started.context("failed to start the Prover Server")
    };
    let running = unless_interrupted(&shutdown, Box::pin(start)).await?;
    output.report(&Started { server: running.url(), ..started })?;
    // Settling ends before the store that it writes to, and by itself only if it crashes.
    let settling = CancellationToken::new();
    let (store, artifacts) = running.beside();
    let sender = match settle.sender(store, artifacts).await {
        Ok(sender) => sender,
        Err(error) => {
            running.stop().await;
            return Err(error);
        }
    };
    let stops = settling.clone();
    let mut settles = tokio::spawn(async move {
        match sender {
            Some(sender) => sender.run(stops).await,
            None => stops.cancelled().await,
        }
    });
    let crashed = tokio::select! {
        () = shutdown.cancelled() => None,
        part = running.crashed() => Some(part),
        _ended = &mut settles => Some("settling"),
    };
    settling.cancel();
    if crashed != Some("settling") {
        settles.await.context("failed to stop settling")?;
    }
    running.stop().await;
    if let Some(node) = dev_node {
        node.stop().await;
    }
    if let Some(part) = crashed {
        bail!(
            "the part {part} of the Prover Server crashed; nothing accepted is lost: start it again, and report this, with the log"
        );
    }
    Ok(())
}

/// What divides runs into parts: the prover that clients use.
fn planner(
    executable: ExecutableArgs,
    system: protocol::ProofSystem,
    folder: &Path,
    global: &Global,
) -> anyhow::Result<server::Planner> {
    let zkvm = ZkvmArgs { segment_po2: None, dev_mode: false, executable };
    let folder = folder.join("plans");
    let workplace = Workplace { provers: 0, ..Workplace::attended(&folder) };
    let prover = ProverArg::of(system).build(&zkvm, workplace, global);
    let prover = prover.context("--split needs the prover's executable on the server, too")?;
    Ok(provers::planner(prover, folder))
}

/// Four heartbeats fit into a lease, so that a lost one or two cost nothing.
pub(crate) fn heartbeat_for(lease: Duration) -> Duration {
    (lease / 4).clamp(Duration::from_millis(1), Duration::from_secs(15))
}

/// The folder of jobs and artifacts.
#[derive(Debug)]
pub(crate) enum Data {
    /// Stays when the process ends.
    Kept(PathBuf),
    /// Removed when this value is dropped.
    Temporary(tempfile::TempDir),
}

impl Data {
    /// A folder for a chain that begins now: temporary, or the empty folder asked for.
    ///
    /// # Errors
    /// If the folder holds something: jobs of an earlier dev chain can't be continued.
    pub(crate) fn for_a_new_chain(asked: Option<PathBuf>) -> anyhow::Result<Self> {
        let Some(path) = asked else {
            let folder = tempfile::Builder::new().prefix("l2-prover-").tempdir();
            return Ok(Self::Temporary(
                folder.context("failed to create a temporary folder; name one with --data-dir")?,
            ));
        };
        let text = path.display();
        std::fs::create_dir_all(&path).with_context(|| format!("failed to create {text}"))?;
        let mut entries =
            std::fs::read_dir(&path).with_context(|| format!("failed to list {text}"))?;
        ensure!(
            entries.next().is_none(),
            "{text} holds the jobs of an earlier chain, and a dev chain begins anew with each start: name an empty folder"
        );
        Ok(Self::Kept(path))
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Kept(path) => path,
            Self::Temporary(folder) => folder.path(),
        }
    }
}

#[derive(Serialize)]
struct Started {
    event: &'static str,
    server: String,
    node: String,
    chain_id: u64,
    chain_config_digest: B256,
    data_dir: PathBuf,
    #[serde(skip_serializing_if = "Option::is_none")]
    database: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    artifacts: Option<String>,
    prover: protocol::ProofSystem,
    kind: protocol::ProofKind,
    program_id: B256,
    /// What is made of accepted proofs, step by step.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    makes: Vec<Makes>,
}

#[derive(Serialize)]
struct Makes {
    kind: protocol::ProofKind,
    of: protocol::ProofKind,
    most: usize,
    program_id: B256,
}

impl Makes {
    fn of(step: &server::jobs::fold::Folding) -> Self {
        let (of, into) = (step.of.kind, step.into);
        Self { kind: into.kind, of, most: step.most, program_id: into.program_id }
    }
}

impl fmt::Display for Makes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, of, most, program_id } = self;
        match most {
            1 => write!(f, "{kind} proofs of {of} ones"),
            _ => {
                write!(f, "{kind} proofs, each of up to {most} {of} ones, by program {program_id}")
            }
        }
    }
}

impl fmt::Display for Started {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Prover Server at {}", self.server)?;
        // Where it listens on all addresses, none of them is known that a browser reaches.
        let page = ["0.0.0.0", "[::]"].iter().fold(self.server.clone(), |page, all| {
            page.replace(&format!("//{all}:"), "//THIS-HOST:")
        });
        writeln!(f, "  dashboard  {page}/ in your browser")?;
        writeln!(f, "  node       {} (chain {})", self.node, self.chain_id)?;
        writeln!(f, "  config     {}", self.chain_config_digest)?;
        writeln!(f, "  data       {}", self.data_dir.display())?;
        if let Some(database) = &self.database {
            writeln!(f, "  database   {database}")?;
        }
        if let Some(artifacts) = &self.artifacts {
            writeln!(f, "  artifacts  {artifacts}")?;
        }
        write!(
            f,
            "  asks for   {} {} proofs of program {}",
            self.kind, self.prover, self.program_id
        )?;
        for made in &self.makes {
            write!(f, "\n  makes      {made}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_of_an_earlier_dev_chain_are_not_continued() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("new");
        assert_eq!(Data::for_a_new_chain(Some(path.clone())).expect("empty").path(), path);
        std::fs::write(path.join("jobs.sqlite"), "").expect("written");
        let error = Data::for_a_new_chain(Some(path)).expect_err("not empty").to_string();
        assert!(error.contains("name an empty folder"), "{error}");
    }

    #[test]
    fn a_heartbeat_or_two_may_be_lost() {
        for lease in [Duration::from_millis(4), Duration::from_secs(1), Duration::from_secs(60)] {
            assert!(heartbeat_for(lease) * 4 <= lease, "{lease:?}");
        }
    }
}
