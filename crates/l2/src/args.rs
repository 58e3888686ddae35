//! Every flag of `l2-prover`. A setting of a long-running process also has an environment variable; a flag wins
//! over it, and it wins over the file `.env` (see [`crate::dotenv`]).

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use alloy_primitives::{Address, B256};
use clap::builder::BoolishValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};
use url::Url;

use crate::chain::ChainArg;
use crate::parse;

/// Proves the blocks of an Ethereum L2 with a zkVM.
#[derive(Debug, Parser)]
#[command(name = "l2-prover", version, propagate_version = true, max_term_width = 100)]
pub struct Cli {
    /// What every command understands.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What every command understands.
#[derive(Debug, Args)]
pub struct Global {
    /// Print JSON instead of text: one document, or one line for each event
    #[arg(long, global = true)]
    pub json: bool,
    /// What to log to stderr, e.g. `info` or `server=debug,warn`
    #[arg(long, global = true, env = "L2_PROVER_LOG", value_name = "FILTER")]
    pub log: Option<String>,
    /// How to log: `text` or `json` [default: text, with --json json]
    #[arg(
        long,
        global = true,
        env = "L2_PROVER_LOG_FORMAT",
        value_enum,
        hide_possible_values = true,
        value_name = "FORMAT"
    )]
    pub log_format: Option<LogFormat>,
}

impl Global {
    /// How to log.
    pub fn log_format(&self) -> LogFormat {
        self.log_format.unwrap_or(if self.json { LogFormat::Json } else { LogFormat::Text })
    }
}

/// How logs are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// A line for each event
    Text,
    /// A line of JSON for each event
    Json,
}

/// The commands, in the order of the help.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run everything in one process: dev node, traffic, Prover Server and Prover Clients
    Dev(Dev),
    /// Run a dev node: a small EVM chain in memory with JSON-RPC
    Node(Node),
    /// Run a Prover Server: turns the blocks of a node into jobs and verifies the proofs
    Server(Box<Server>),
    /// Run a Prover Client: takes jobs from a Prover Server and proves them
    Client(Client),
    /// Say how things stand on a running Prover Server
    Status(Operated),
    /// Watch a running Prover Server: blocks, jobs, clients and what happened last
    Top(Top),
    /// Look at the jobs of a running Prover Server, and decide about them
    #[command(subcommand)]
    Jobs(Jobs),
    /// Look at the clients of a running Prover Server, and decide about them
    #[command(subcommand)]
    Clients(Clients),
    /// Take the accepted proofs of a running Prover Server, or verify them all
    #[command(subcommand)]
    Proofs(Proofs),
    /// Take what went wrong with a job to another machine, and try it again there
    #[command(subcommand)]
    Failures(Failures),
    /// Remove artifacts that a running Prover Server needs no more
    Gc(Gc),
    /// Copy the jobs and artifacts of a Prover Server, running or not, into a new folder
    Backup(Backup),
    /// Say who may do what with a Prover Server
    #[command(subcommand)]
    Tokens(Tokens),
    /// Look at the settings of a Prover Server before it runs
    #[command(subcommand)]
    Config(Config),
    /// Check the database and the artifacts of a Prover Server; changes nothing
    Fsck(Fsck),
    /// Prove blocks from a file or a node, without a server
    Prove(Prove),
    /// Run the program on blocks without proving, and say what it costs
    Execute(Execute),
    /// Verify a proof and print its statement
    Verify(Verify),
    /// Make the program's input from a block file or a node
    Witness(Witness),
    /// Say what inputs or block files hold, and what they take up
    Inspect(Inspect),
    /// Run Ethereum's official tests (execution-spec-tests) through witness and program
    Conformance(Conformance),
    /// Measure
    #[command(subcommand)]
    Bench(Bench),
    /// Prove one job for the Prover Client that started this process
    #[command(hide = true)]
    ProverProcess,
}

/// Which prover runs the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ProverArg {
    /// The program runs natively; proves nothing
    Exec,
    /// The zkVM of RISC Zero
    Risc0,
}

/// What kind of proof is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum KindArg {
    /// One proof for each segment: fastest to make, largest
    Composite,
    /// One proof of constant size
    Succinct,
}

/// Settings of the dev node.
#[derive(Debug, Args)]
#[command(next_help_heading = "Dev node")]
pub struct NodeArgs {
    /// Address the dev node's JSON-RPC listens on
    #[arg(long, env = "DEV_NODE_LISTEN_IP", default_value = "127.0.0.1", value_name = "IP")]
    pub node_ip: IpAddr,
    /// Port the dev node's JSON-RPC listens on; 0 picks one
    #[arg(long, env = "DEV_NODE_LISTEN_PORT", default_value_t = 8545, value_name = "PORT")]
    pub node_port: u16,
    /// Time between blocks; 0s makes a block for every transaction you send, and no traffic [default: 2s, with real
    /// proofs in `dev` 12s]
    #[arg(long, value_parser = parse::duration, value_name = "TIME")]
    pub block_time: Option<Duration>,
    /// Make no transactions: blocks hold only what you send, and there are none without
    #[arg(long)]
    pub no_traffic: bool,
    /// Transactions made for each block [default: 3, with real proofs in `dev` 1]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..), value_name = "N", conflicts_with = "no_traffic")]
    pub traffic_per_block: Option<u16>,
    /// Kinds of transactions to make, separated by commas: transfer, fresh, deploy, token, storage, precompile,
    /// delegate [default: all, with real proofs in `dev` transfer]
    #[arg(long, value_delimiter = ',', value_name = "KINDS", conflicts_with = "no_traffic")]
    pub traffic: Option<Vec<devnode::Kind>>,
    /// Genesis of the dev chain, in geth's format [default: prefunded accounts, all forks active]
    #[arg(long, value_name = "FILE")]
    pub genesis: Option<PathBuf>,
}

/// Which executable proves.
#[derive(Clone, Debug, Default, Args)]
pub struct ExecutableArgs {
    /// The zkVM's executable, of the same version [default: l2-prover-risc0 beside this command]
    #[arg(long, env = "PROVER_CLIENT_EXECUTABLE", value_name = "FILE")]
    pub prover_executable: Option<PathBuf>,
}

/// How RISC Zero proves.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "RISC Zero")]
pub struct ZkvmArgs {
    /// Size of a segment as a power of two of cycles: 18 needs about 2.5 GB of memory, 20 about 9 GB
    #[arg(
        long,
        env = "PROVER_CLIENT_SEGMENT_PO2",
        default_value_t = 18,
        value_parser = clap::value_parser!(u32).range(15..=22),
        value_name = "PO2"
    )]
    pub segment_po2: u32,
    /// Mock the proofs: the guest runs, nothing is proven
    #[arg(long, env = "RISC0_DEV_MODE", value_parser = BoolishValueParser::new())]
    pub dev_mode: bool,
    /// The executable
    #[command(flatten)]
    pub executable: ExecutableArgs,
}

/// `l2-prover dev`
#[derive(Debug, Args)]
pub struct Dev {
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
    /// Port of the Prover Server; 0 picks one
    #[arg(long, default_value_t = 0, value_name = "PORT")]
    pub server_port: u16,
    /// Where jobs and proofs are kept [default: a temporary folder]
    #[arg(long, value_name = "FOLDER")]
    pub data_dir: Option<PathBuf>,
    /// The zkVM
    #[command(flatten)]
    pub zkvm: ZkvmArgs,
    /// The dev node
    #[command(flatten)]
    pub node: NodeArgs,
}

/// `l2-prover node`
#[derive(Debug, Args)]
pub struct Node {
    /// Print the genesis of the chain, in geth's format, and stop
    #[arg(long)]
    pub print_genesis: bool,
    /// File in which the blocks are kept, so that the chain goes on where it was [default: it begins anew]
    #[arg(long, value_name = "FILE")]
    pub blocks: Option<PathBuf>,
    /// The dev node
    #[command(flatten)]
    pub node: NodeArgs,
}

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

/// What is shown to a server, and by what it is known. A token is not a flag: others can read a command line.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Access")]
pub struct AccessArgs {
    /// File with the token to show the server; without it, the variable L2_PROVER_TOKEN counts
    #[arg(long, env = "L2_PROVER_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Authorities of the server's certificate, in PEM [default: the system's]
    #[arg(long, env = "L2_PROVER_CA_FILE", value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// Certificate to show the server, and its key: both in one file, in PEM
    #[arg(long, env = "L2_PROVER_CERTIFICATE", value_name = "FILE")]
    pub certificate: Option<PathBuf>,
}

impl AccessArgs {
    /// As the client crate takes it.
    pub fn access(&self) -> client::Access {
        let token = std::env::var("L2_PROVER_TOKEN").ok().filter(|token| !token.is_empty());
        client::Access {
            token: token.map(|token| client::Secret::new(&token)),
            token_file: self.token_file.clone(),
            ca_file: self.ca_file.clone(),
            certificate: self.certificate.clone(),
        }
    }
}

/// `l2-prover server`
#[derive(Debug, Args)]
pub struct Server {
    /// Settings in TOML; flags and environment win over it. `l2-prover config check` shows what counts
    #[arg(long, env = "PROVER_SERVER_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Address Prover Clients connect to
    #[arg(long, env = "PROVER_SERVER_LISTEN_IP", default_value = "127.0.0.1", value_name = "IP")]
    pub listen_ip: IpAddr,
    /// Port Prover Clients connect to; 0 picks one
    #[arg(long, env = "PROVER_SERVER_LISTEN_PORT", default_value_t = 3900, value_name = "PORT")]
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
    /// Who may claim the rewards of the proofs: each statement names it [default: nobody]
    #[arg(long, env = "PROVER_SERVER_BENEFICIARY", value_name = "ADDRESS")]
    pub beneficiary: Option<Address>,
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
    /// The dev node, if it runs in this process
    #[command(flatten)]
    pub node: NodeArgs,
}

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

/// The server that an operator talks to.
#[derive(Debug, Args)]
pub struct Operated {
    /// The Prover Server; of several on one database, any
    #[arg(long, default_value = "http://127.0.0.1:3900", value_name = "URL")]
    pub server: String,
    /// The server's door
    #[command(flatten)]
    pub access: AccessArgs,
}

/// `l2-prover top`
#[derive(Debug, Args)]
pub struct Top {
    /// The server
    #[command(flatten)]
    pub operated: Operated,
    /// Print how things stand once, as `status` does; also with --json, or if there is no terminal
    #[arg(long)]
    pub once: bool,
    /// How often to look
    #[arg(long, default_value = "1s", value_parser = parse::duration_above_zero, value_name = "TIME")]
    pub every: Duration,
}

/// Where a job is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum StateArg {
    /// Waits for a client
    Ready,
    /// A client proves it
    Leased,
    /// Its proof is being verified
    Verifying,
    /// Done
    Proved,
    /// Failed too often, quarantined or cancelled
    Dead,
}

/// `l2-prover jobs`
#[derive(Debug, Subcommand)]
pub enum Jobs {
    /// List the newest jobs, at most 1,000
    List {
        /// Only jobs in this state
        #[arg(long, value_enum)]
        state: Option<StateArg>,
        /// The server
        #[command(flatten)]
        operated: Operated,
    },
    /// Show a job
    Show(OneJob),
    /// Give a job up: its client is told to stop. A proof that comes all the same is used
    Cancel(OneJob),
    /// Give a dead job another chance, with fresh budgets
    Requeue(OneJob),
    /// Serve a job before others, or after them
    Prioritise {
        /// The job
        #[command(flatten)]
        job: OneJob,
        /// From -100 to 100; each step makes the job ten minutes older or younger than it is
        #[arg(allow_negative_numbers = true, value_parser = clap::value_parser!(i32).range(-100..=100))]
        priority: i32,
    },
}

/// A job.
#[derive(Debug, Args)]
pub struct OneJob {
    /// The job's id
    pub job: protocol::JobId,
    /// The server
    #[command(flatten)]
    pub operated: Operated,
}

/// `l2-prover clients`
#[derive(Debug, Subcommand)]
pub enum Clients {
    /// List the clients that were heard latest
    List(Operated),
    /// Let a client finish what it has, and give it no other job
    Drain(SomeClients),
    /// Give a client no more jobs, not even the one it has
    Quarantine(OneClient),
    /// Trust a client again. One that was drained has to be started anew
    Release(SomeClients),
}

/// A client.
#[derive(Debug, Args)]
pub struct OneClient {
    /// The client's id
    pub client: protocol::ClientId,
    /// The server
    #[command(flatten)]
    pub operated: Operated,
}

/// One client, or all.
#[derive(Debug, Args)]
pub struct SomeClients {
    /// The client's id
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    pub client: Option<protocol::ClientId>,
    /// All of this server, until it starts again: it grants no more leases
    #[arg(long)]
    pub all: bool,
    /// The server
    #[command(flatten)]
    pub operated: Operated,
}

/// `l2-prover proofs`
#[derive(Debug, Subcommand)]
pub enum Proofs {
    /// Write the accepted proofs into a folder, one file for each
    Export {
        /// Which
        #[command(flatten)]
        which: ProofBlocks,
        /// The folder
        #[arg(long, default_value = "proofs", value_name = "FOLDER")]
        out: PathBuf,
    },
    /// Verify the accepted proofs here, against the program pinned in this version, and that each continues the one before
    Verify {
        /// Which
        #[command(flatten)]
        which: ProofBlocks,
        /// Accept exec "proofs", which prove NOTHING
        #[arg(long)]
        danger_accept_exec: bool,
        /// Accept proofs of a zkVM's dev mode, which prove NOTHING
        #[arg(long)]
        danger_accept_dev_mode: bool,
    },
}

/// Proofs of a server.
#[derive(Debug, Args)]
pub struct ProofBlocks {
    /// Only proofs of these blocks: `A` or `A..B`, both included
    #[arg(long, value_parser = parse::block_range, value_name = "A..B")]
    pub block: Option<parse::BlockRange>,
    /// The server
    #[command(flatten)]
    pub operated: Operated,
}

/// `l2-prover failures`
#[derive(Debug, Subcommand)]
pub enum Failures {
    /// List the jobs with which something went wrong, of the newest 1,000
    List(Operated),
    /// Write a job's input, history and rejected proofs into a folder
    Export {
        /// Which
        #[command(flatten)]
        job: OneJob,
        /// The folder
        #[arg(long, default_value = "failure", value_name = "FOLDER")]
        out: PathBuf,
    },
    /// Run the program on a folder of `export` and verify its proofs
    Replay(Replay),
}

/// `l2-prover failures replay`
#[derive(Debug, Args)]
pub struct Replay {
    /// The folder
    pub folder: PathBuf,
    /// Where the program runs
    #[arg(long, value_enum, default_value_t = ProverArg::Exec)]
    pub prover: ProverArg,
    /// The zkVM
    #[command(flatten)]
    pub zkvm: ZkvmArgs,
}

/// `l2-prover gc`
#[derive(Debug, Args)]
pub struct Gc {
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
pub struct Backup {
    /// A folder that is new or empty
    #[arg(long, value_name = "FOLDER")]
    pub out: PathBuf,
    /// The server
    #[command(flatten)]
    pub kept: Kept,
}

/// `l2-prover fsck`
#[derive(Debug, Args)]
pub struct Fsck {
    #[command(flatten)]
    pub kept: Kept,
}

/// Where a server keeps what it must not lose.
#[derive(Debug, Args)]
pub struct Kept {
    /// Its jobs
    #[command(flatten)]
    pub data: ServerData,
    /// The server's S3-compatible store of artifacts
    #[arg(long, env = "PROVER_SERVER_ARTIFACTS", value_name = "URL")]
    pub artifacts: Option<Url>,
}

impl Kept {
    /// The settings of that server, as far as they say where things are.
    pub fn config(&self) -> server::Config {
        server::Config {
            data_dir: self.data.data_dir.clone(),
            database: self.data.database.clone().map(server::DatabaseUrl::new),
            artifacts: self.artifacts.clone(),
            ..server::Config::default()
        }
    }
}

/// Where a server keeps its jobs and tokens.
#[derive(Debug, Args)]
pub struct ServerData {
    /// The server's folder
    #[arg(
        long,
        env = "PROVER_SERVER_DATA_DIR",
        default_value = ".l2-prover/server",
        value_name = "FOLDER"
    )]
    pub data_dir: PathBuf,
    /// The server's PostgreSQL database
    #[arg(long, env = "PROVER_SERVER_DATABASE", hide_env_values = true, value_name = "URL")]
    pub database: Option<String>,
}

/// What a token's owner may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RoleArg {
    /// Take jobs and hand proofs in
    Client,
    /// Hand batches in
    Producer,
    /// Fetch proofs
    Consumer,
    /// Decide about jobs and clients
    Operator,
    /// Look
    Viewer,
}

impl From<RoleArg> for server::tokens::Role {
    fn from(arg: RoleArg) -> Self {
        match arg {
            RoleArg::Client => Self::Client,
            RoleArg::Producer => Self::Producer,
            RoleArg::Consumer => Self::Consumer,
            RoleArg::Operator => Self::Operator,
            RoleArg::Viewer => Self::Viewer,
        }
    }
}

/// `l2-prover tokens`
#[derive(Debug, Subcommand)]
pub enum Tokens {
    /// Make a token and show it, once
    Create {
        /// What people call its owner
        #[arg(long, value_name = "NAME")]
        name: String,
        /// What its owner may do
        #[arg(long, value_enum)]
        role: RoleArg,
        /// The only client that its owner may speak for; its id is in the client's folder, in `client-id`
        #[arg(long, value_name = "ID")]
        client: Option<protocol::ClientId>,
        /// A client certificate, in PEM, that the owner shows instead of a secret
        #[arg(long, value_name = "FILE")]
        certificate: Option<PathBuf>,
        /// How long it is good: for example 90d or 12h, or never
        #[arg(long, default_value = "365d", value_parser = parse::lifetime, value_name = "TIME")]
        expires: parse::Lifetime,
        /// The server
        #[command(flatten)]
        data: ServerData,
    },
    /// List all tokens, those that have ended included
    List {
        /// The server
        #[command(flatten)]
        data: ServerData,
    },
    /// Make a new secret for a token's owner; the old one ends after a while
    Rotate {
        /// The token's id
        token: server::tokens::TokenId,
        /// The new certificate of an owner that shows one
        #[arg(long, value_name = "FILE")]
        certificate: Option<PathBuf>,
        /// How long the new one is good: for example 90d or 12h, or never
        #[arg(long, default_value = "365d", value_parser = parse::lifetime, value_name = "TIME")]
        expires: parse::Lifetime,
        /// How long the old one is still good
        #[arg(long, default_value = "1h", value_parser = parse::duration, value_name = "TIME")]
        grace: Duration,
        /// The server
        #[command(flatten)]
        data: ServerData,
    },
    /// End a token now
    Revoke {
        /// The token's id
        token: server::tokens::TokenId,
        /// The server
        #[command(flatten)]
        data: ServerData,
    },
}

/// `l2-prover config`
#[derive(Debug, Subcommand)]
pub enum Config {
    /// Check the settings of `l2-prover server`, and show those that count and where they come from
    Check(Box<Server>),
}

/// Blocks to work on: a file, or a range of a node.
#[derive(Debug, Args)]
pub struct Source {
    /// JSON-RPC of a node
    #[arg(long, value_name = "URL", requires = "block")]
    pub rpc_url: Option<String>,
    /// Blocks to take from the node: `A` or `A..B`, both included
    #[arg(long, value_name = "A..B", value_parser = parse::block_range, requires = "rpc_url")]
    pub block: Option<parse::BlockRange>,
    /// The chain: mainnet, holesky, hoodi, sepolia, dev, anvil, a genesis file, or `node` for what the node says (eth_config)
    /// [default: by the chain id]
    #[arg(long, value_name = "CHAIN")]
    pub chain: Option<ChainArg>,
    /// What the statement says besides
    #[command(flatten)]
    pub terms: TermsArgs,
    /// How the node is asked
    #[command(flatten)]
    pub access: NodeAccess,
}

/// What a statement says because its prover wants it to.
#[derive(Clone, Copy, Debug, Default, Args)]
pub struct TermsArgs {
    /// Who may claim the reward of the proof: the statement names it [default: nobody]
    #[arg(long, value_name = "ADDRESS")]
    pub beneficiary: Option<Address>,
    /// Link of the chain of deposits before the first block; chains with a bridge need it, and no others
    #[arg(long, value_name = "HASH")]
    pub deposits_start: Option<B256>,
}

/// How an L2 node is asked.
#[derive(Clone, Copy, Debug, Args)]
pub struct NodeAccess {
    /// Where witnesses come from
    #[arg(
        long,
        env = "PROVER_SERVER_WITNESS_FROM",
        value_enum,
        default_value_t = WitnessFrom::Any
    )]
    pub witness_from: WitnessFrom,
    /// Requests to a node at the same time; a batch of calls is one
    #[arg(
        long,
        env = "PROVER_SERVER_RPC_CONCURRENCY",
        default_value_t = 8,
        value_parser = clap::value_parser!(u16).range(1..),
        value_name = "N"
    )]
    pub rpc_concurrency: u16,
    /// Most calls to a node in a second; those of a batch count singly [default: no limit]
    #[arg(
        long,
        env = "PROVER_SERVER_RPC_PER_SECOND",
        value_parser = clap::value_parser!(u32).range(1..),
        value_name = "N"
    )]
    pub rpc_per_second: Option<u32>,
    /// Most calls in a batch; 1 for nodes that take no batches
    #[arg(
        long,
        env = "PROVER_SERVER_RPC_BATCH",
        default_value_t = 64,
        value_parser = clap::value_parser!(u16).range(1..=1000),
        value_name = "N"
    )]
    pub rpc_batch: u16,
}

impl NodeAccess {
    /// As the node's client has it.
    pub fn options(&self) -> witness::NodeOptions {
        witness::NodeOptions {
            witness: match self.witness_from {
                WitnessFrom::Any => witness::WitnessSource::Any,
                WitnessFrom::ExecutionWitness => witness::WitnessSource::ExecutionWitness,
                WitnessFrom::Proofs => witness::WitnessSource::Proofs,
            },
            limits: witness::Limits {
                concurrency: self.rpc_concurrency.into(),
                per_second: self.rpc_per_second,
                batch: self.rpc_batch.into(),
            },
        }
    }
}

/// Where witnesses come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum WitnessFrom {
    /// debug_executionWitness, and eth_getProof where the node does not have that
    Any,
    /// debug_executionWitness alone
    ExecutionWitness,
    /// eth_getProof and eth_getCode alone
    Proofs,
}

/// `l2-prover prove`
#[derive(Debug, Args)]
pub struct Prove {
    /// Block file (.json or .json.zst), or input made by `l2-prover witness`
    #[arg(required_unless_present = "rpc_url", conflicts_with = "rpc_url", value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Where the blocks come from
    #[command(flatten)]
    pub source: Source,
    /// Where the proof is written
    #[arg(long, default_value = "proof.bin", value_name = "FILE")]
    pub out: PathBuf,
    /// Which prover to use
    #[arg(long, value_enum, default_value_t = ProverArg::Risc0)]
    pub prover: ProverArg,
    /// Kind of proof
    #[arg(long, value_enum, default_value_t = KindArg::Succinct)]
    pub kind: KindArg,
    /// The zkVM
    #[command(flatten)]
    pub zkvm: ZkvmArgs,
}

/// `l2-prover execute`
#[derive(Debug, Args)]
pub struct Execute {
    /// Block files (.json or .json.zst), or inputs made by `l2-prover witness`
    #[arg(required_unless_present = "rpc_url", conflicts_with = "rpc_url", value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Where the blocks come from
    #[command(flatten)]
    pub source: Source,
    /// What runs the program: exec natively, risc0 in the zkVM's executor
    #[arg(long, value_enum, default_value_t = ProverArg::Exec)]
    pub prover: ProverArg,
    /// Take block files without a parent header: skips exactly the rules of the header against its parent
    #[arg(long, conflicts_with = "rpc_url")]
    pub assume_parent: bool,
    /// The zkVM
    #[command(flatten)]
    pub zkvm: ZkvmArgs,
}

/// `l2-prover verify`
#[derive(Debug, Args)]
pub struct Verify {
    /// The proof
    #[arg(value_name = "PROOF")]
    pub proof: PathBuf,
    /// Proof system of the proof
    #[arg(long, value_enum, default_value_t = ProverArg::Risc0)]
    pub prover: ProverArg,
    /// Id of the program it must be a proof of, 32 bytes in hex [default: the pinned one]
    #[arg(long, value_name = "ID")]
    pub program_id: Option<B256>,
    /// DANGER: accept a proof of the exec prover, which proves nothing
    #[arg(long)]
    pub danger_accept_exec: bool,
    /// DANGER: accept a receipt of RISC Zero's dev mode, which proves nothing
    #[arg(long)]
    pub danger_accept_dev_mode: bool,
}

/// `l2-prover witness`
#[derive(Debug, Args)]
pub struct Witness {
    /// Block file (.json or .json.zst)
    #[arg(required_unless_present = "rpc_url", conflicts_with = "rpc_url", value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Where the blocks come from
    #[command(flatten)]
    pub source: Source,
    /// Where the program's input is written
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
}

/// `l2-prover inspect`
#[derive(Debug, Args)]
pub struct Inspect {
    /// An input made by `l2-prover witness`, or block files (.json or .json.zst) of consecutive blocks, which are taken as one
    /// batch
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// The chain of block files [default: by the chain id]
    #[arg(long, value_name = "CHAIN")]
    pub chain: Option<ChainArg>,
    /// How many accounts to list, of those whose storage takes up most
    #[arg(long, default_value_t = 10, value_name = "N")]
    pub top: usize,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_flags_do_not_contradict_each_other() {
        Cli::command().debug_assert();
    }
}

/// `l2-prover bench`
#[derive(Debug, Subcommand)]
pub enum Bench {
    /// Count the cycles that blocks cost in RISC Zero, by phase of the program
    Cycles(BenchCycles),
    /// Make a block of each opcode and each precompile, and count what its gas costs in RISC Zero
    Worst(BenchWorst),
    /// Fetch blocks of a node one after the other, and say what their witnesses cost in calls, time and bytes
    Node(BenchNode),
    /// Measure the Prover Server's job engine: leases per second, memory, start, how fast a dead client's job goes on
    Server(BenchServer),
}

/// `l2-prover bench node`
#[derive(Debug, Args)]
pub struct BenchNode {
    /// Where the blocks come from
    #[command(flatten)]
    pub source: Source,
}

/// `l2-prover bench server`
#[derive(Debug, Args)]
pub struct BenchServer {
    /// Numbers of clients that ask for work as fast as they can
    #[arg(long, value_delimiter = ',', default_value = "1,100,1000", value_name = "N,...")]
    pub clients: Vec<u64>,
    /// How long each number of clients works
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=600), value_name = "SECONDS")]
    pub seconds: u64,
    /// Open jobs with which a server starts
    #[arg(long, default_value_t = 100_000, value_name = "N")]
    pub jobs: u64,
    /// An empty PostgreSQL database, `postgres://USER@HOST/DATABASE`, for the clients' jobs instead of SQLite; nothing but
    /// the load is measured then
    #[arg(long, value_name = "URL")]
    pub database: Option<String>,
}

/// `l2-prover bench worst`
#[derive(Debug, Args)]
pub struct BenchWorst {
    /// Only cases whose names hold all these words, for instance `modexp even`
    #[arg(value_name = "WORD")]
    pub only: Vec<String>,
    /// Gas of each block's transaction; more, if what it does once takes more
    #[arg(long, default_value_t = 300_000, value_parser = clap::value_parser!(u64).range(100_000..=16_777_216), value_name = "GAS")]
    pub gas: u64,
    /// Another program binary than the pinned one
    #[arg(long, value_name = "FILE")]
    pub program: Option<PathBuf>,
    /// The executable
    #[command(flatten)]
    pub executable: ExecutableArgs,
}

/// `l2-prover bench cycles`
#[derive(Debug, Args)]
pub struct BenchCycles {
    /// Block files (.json or .json.zst), or inputs made by `l2-prover witness`
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Also measure all files as one batch: they must be block files of consecutive blocks
    #[arg(long)]
    pub batch: bool,
    /// Also tell how often each opcode and each precompile was used, and for how much gas; with --json it is always there
    #[arg(long)]
    pub counts: bool,
    /// Print a Markdown table
    #[arg(long, conflicts_with = "json")]
    pub markdown: bool,
    /// The chain: mainnet, holesky, hoodi, sepolia, dev or a genesis file [default: by the chain id]
    #[arg(long, value_name = "CHAIN")]
    pub chain: Option<ChainArg>,
    /// Size of a segment as a power of two of cycles
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(15..=22), value_name = "PO2")]
    pub segment_po2: u32,
    /// Another program binary than the pinned one, for instance of `cargo xtask guests --symbols`
    #[arg(long, value_name = "FILE")]
    pub program: Option<PathBuf>,
    /// Write a profile in pprof's format; the program binary must have symbols
    #[arg(long, value_name = "FILE", requires = "program")]
    pub profile: Option<PathBuf>,
    /// The executable
    #[command(flatten)]
    pub executable: ExecutableArgs,
}

/// `l2-prover conformance`
#[derive(Debug, Args)]
pub struct Conformance {
    /// Folders, JSON files or archives (.tar, .tar.zst) of `blockchain_tests`
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// Only tests of this network, e.g. `Prague` or `PragueToOsakaAtTime15k`
    #[arg(long, value_name = "NETWORK")]
    pub fork: Option<String>,
    /// Only tests whose name contains this
    #[arg(long, value_name = "TEXT")]
    pub filter: Option<String>,
    /// Only about one test in N, the same ones every time
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..), value_name = "N")]
    pub sample: u64,
    /// Tests run at the same time [default: one for each core]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..), value_name = "N")]
    pub jobs: Option<u16>,
    /// Run each input in this prover's executor too: it must say the same, or refuse for the same reason
    #[arg(long, value_enum, default_value_t = ProverArg::Exec)]
    pub prover: ProverArg,
    /// The zkVM
    #[command(flatten)]
    pub zkvm: ZkvmArgs,
}
