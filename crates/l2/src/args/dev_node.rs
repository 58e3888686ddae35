//! Flags of the dev node, for the commands that run one.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::parse;

/// Settings of the dev node.
#[derive(Debug, Args)]
#[command(next_help_heading = "Dev node")]
pub(crate) struct NodeArgs {
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
