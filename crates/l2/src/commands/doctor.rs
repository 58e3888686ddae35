//! `l2-prover doctor`: what a node can do for a prover, and what to change.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, ensure};
use clap::Args;
use serde::Serialize;
use witness::doctor::{Checkup, Examination};

use crate::args::NodeAccess;
use crate::chain::ChainArg;
use crate::output::Output;

/// `l2-prover doctor`
#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// JSON-RPC of the node, or of several, separated by commas
    #[arg(
        long,
        env = "PROVER_SERVER_RPC_URL",
        hide_env_values = true,
        value_delimiter = ',',
        required = true,
        value_name = "URL"
    )]
    pub rpc_url: Vec<String>,
    /// The chain: mainnet, sepolia, holesky, hoodi, dev, anvil, a genesis file, or `node` for what the node says (eth_config)
    #[arg(long, env = "PROVER_SERVER_CHAIN", value_name = "CHAIN", default_value = "dev")]
    pub chain: ChainArg,
    /// WebSocket of the node, if a server should listen there
    #[arg(long, env = "PROVER_SERVER_WS_URL", hide_env_values = true, value_name = "URL")]
    pub ws_url: Option<String>,
    /// The block to prepare [default: the newest one with transactions]
    #[arg(long, value_name = "NUMBER")]
    pub block: Option<u64>,
    /// How the node is asked
    #[command(flatten)]
    pub access: NodeAccess,
}

/// Runs the command. What was found is reported, and then is a failure if blocks of one of the nodes cannot be prepared.
pub(crate) async fn run(args: Doctor, output: &Output) -> anyhow::Result<()> {
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
