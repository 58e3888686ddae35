//! `l2-prover node`: the dev node alone.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use alloy_primitives::Address;
use anyhow::{Context as _, bail};
use clap::Args;
use devnode::{DevNode, Mining, Running, TrafficConfig};
use serde::Serialize;
use settlement::Deposits;
use tokio_util::sync::CancellationToken;

use crate::args::{NodeArgs, rpc};
use crate::output::Output;

/// `l2-prover node`
#[derive(Debug, Args)]
pub(crate) struct Node {
    /// Print the genesis of the chain, in geth's format, and stop
    #[arg(long)]
    pub print_genesis: bool,
    /// File in which the blocks are kept, so that the chain goes on where it was [default: it begins anew]
    #[arg(long, alias = "blocks", value_name = "FILE")]
    pub blocks_file: Option<PathBuf>,
    /// JSON-RPC of L1, whose bridge's deposits the blocks consume once L1 has finalized them; several, none of which may
    /// contradict another: separated by commas, or the flag repeated
    #[arg(long, value_delimiter = ',', requires = "bridge", value_name = "URL")]
    pub l1_rpc_url: Vec<String>,
    /// The bridge on L1
    #[arg(long, requires = "l1_rpc_url", value_name = "ADDRESS")]
    pub bridge: Option<Address>,
    /// The dev node
    #[command(flatten)]
    pub node: NodeArgs,
}

/// How often L1 is asked for deposits.
const DEPOSITS_POLL: Duration = Duration::from_secs(2);

/// Runs the command.
pub(crate) async fn run(
    args: Node,
    output: &Output,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    if args.print_genesis {
        return output.report(&Genesis(genesis(&args.node)?));
    }
    let deposits = match args.bridge {
        None => None,
        Some(bridge) => {
            let rpcs = args.l1_rpc_url.iter().map(|url| rpc(url, "--l1-rpc-url"));
            Some(Deposits::new(rpcs.collect::<Result<_, _>>()?, bridge))
        }
    };
    let node = start(&args.node, args.blocks_file, &Defaults::MOCKED).await?;
    if deposits.is_some() && !node.chain_config().bridge {
        node.stop().await;
        bail!("{}, or no --bridge", devnode::DepositError::NoBridge);
    }
    output.report(&Started::of(&node))?;
    match deposits {
        Some(deposits) => {
            shutdown.run_until_cancelled(consume(&node, deposits)).await;
        }
        None => shutdown.cancelled().await,
    }
    node.stop().await;
    Ok(())
}

/// Has the node's blocks consume the bridge's deposits. Never ends.
async fn consume(node: &Running, mut deposits: Deposits) {
    let mut told = None;
    loop {
        match deposits.more().await {
            Ok(found) => {
                told = None;
                // Those before are in blocks of the file.
                let next = node.chain().next_deposit();
                for deposit in found.into_iter().filter(|deposit| deposit.index >= next) {
                    let (index, to, gwei) = (deposit.index, deposit.address, deposit.amount);
                    match node.deposit(deposit) {
                        Ok(()) => tracing::info!(index, %to, gwei, "deposit on L1"),
                        Err(error) => {
                            tracing::error!(code = "deposit_refused", index, %error, "the node refuses a deposit")
                        }
                    }
                }
            }
            Err(error) => {
                let error = error.to_string();
                if told.as_ref() != Some(&error) {
                    tracing::warn!(code = "deposits_failed", %error, "it is not known which deposits come next; trying again");
                    told = Some(error);
                }
            }
        }
        tokio::time::sleep(DEPOSITS_POLL).await;
    }
}

/// What the node does unless flags say otherwise.
#[derive(Debug)]
pub(crate) struct Defaults {
    block_time: Duration,
    traffic_per_block: usize,
    kinds: &'static [devnode::Kind],
}

impl Defaults {
    /// For provers that take no time.
    pub(crate) const MOCKED: Self = Self {
        block_time: Duration::from_secs(2),
        traffic_per_block: 3,
        kinds: &devnode::Kind::ALL,
    };
    /// For provers that take minutes for the smallest block.
    pub(crate) const PROVEN: Self = Self {
        block_time: Duration::from_secs(12),
        traffic_per_block: 1,
        kinds: &[devnode::Kind::Transfer],
    };
}

fn genesis(args: &NodeArgs) -> Result<alloy_genesis::Genesis, devnode::GenesisError> {
    match &args.genesis {
        Some(path) => devnode::genesis::read(path),
        None => Ok(devnode::genesis::dev()),
    }
}

/// Starts the dev node as the flags say.
pub(crate) async fn start(
    args: &NodeArgs,
    blocks: Option<PathBuf>,
    defaults: &Defaults,
) -> anyhow::Result<Running> {
    let mining = match args.block_time.unwrap_or(defaults.block_time) {
        Duration::ZERO => Mining::OnDemand,
        period => Mining::Interval { period, empty_blocks: false },
    };
    let traffic = TrafficConfig {
        per_block: args.traffic_per_block.map_or(defaults.traffic_per_block, usize::from),
        kinds: args.traffic.clone().unwrap_or_else(|| defaults.kinds.to_vec()),
        ..TrafficConfig::default()
    };
    let config = devnode::Config {
        listen: SocketAddr::new(args.node_ip, args.node_port),
        genesis: genesis(args)?,
        mining,
        traffic: (!args.no_traffic).then_some(traffic),
        blocks,
    };
    let started = DevNode::start(config).await;
    let hint = match &started {
        Err(devnode::Error::AddressInUse(_)) => "--node-port 0 picks a free one",
        _ => "see --node-ip, --node-port, --genesis, --blocks-file",
    };
    started.with_context(|| format!("failed to start the dev node ({hint})"))
}

/// Says when the node makes blocks, and of what, as the flags say.
pub(crate) fn blocks(args: &NodeArgs, defaults: &Defaults) -> String {
    let period = args.block_time.unwrap_or(defaults.block_time);
    let made = args.traffic_per_block.map_or(defaults.traffic_per_block, usize::from);
    let every = humantime::format_duration(period);
    match (period.is_zero(), args.no_traffic) {
        (true, _) => "a block of each transaction you send".to_owned(),
        (false, true) => format!("a block of what you send, every {every}"),
        (false, false) => {
            format!("a block every {every}, of {made} transactions and what you send")
        }
    }
}

/// JSON either way: the format is geth's.
#[derive(Serialize)]
#[serde(transparent)]
struct Genesis(alloy_genesis::Genesis);

impl fmt::Display for Genesis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = serde_json::to_string_pretty(&self.0).map_err(|_| fmt::Error)?;
        f.write_str(&text)
    }
}

#[derive(Serialize)]
struct Started {
    event: &'static str,
    node: String,
    chain_id: u64,
}

impl Started {
    fn of(node: &Running) -> Self {
        Self { event: "started", node: node.url(), chain_id: node.chain_config().chain_id }
    }
}

impl fmt::Display for Started {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "dev node of chain {} at {}", self.chain_id, self.node)?;
        write!(f, "its accounts are those of the mnemonic \"{}\"", devnode::accounts::MNEMONIC)
    }
}
