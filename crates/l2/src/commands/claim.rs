//! `l2-prover claim`: withdrawals of the L2 are paid on L1.

use std::fmt;

use alloy_primitives::{Address, B256};
use anyhow::Context as _;
use clap::Args;
use serde::Serialize;
use settlement::{GWEI, Limits, claim};
use tokio_util::sync::CancellationToken;

use crate::args::{WalletArgs, rpc};
use crate::output::{Output, thousands};
use crate::signals::unless_interrupted;

/// `l2-prover claim`
#[derive(Debug, Args)]
pub(crate) struct Claim {
    /// The transaction on the L2 that withdrew
    #[arg(long, value_name = "HASH")]
    pub tx: B256,
    /// JSON-RPC of an L2 node that has the state of the settled block (eth_getProof)
    #[arg(long, env = "PROVER_SERVER_RPC_URL", hide_env_values = true, value_name = "URL")]
    pub rpc_url: String,
    /// JSON-RPC of L1. It is believed what the contracts are and have; what it can cost is limited by the two limits below
    #[arg(long, env = "L2_PROVER_L1_RPC_URL", hide_env_values = true, value_name = "URL")]
    pub l1_rpc_url: String,
    /// L1's chain id [default: what it says]
    #[arg(long, env = "L2_PROVER_L1_CHAIN_ID", value_name = "ID")]
    pub l1_chain_id: Option<u64>,
    /// The contract on L1 in which batches are settled
    #[arg(long, env = "L2_PROVER_SETTLE_ROLLUP", value_name = "ADDRESS")]
    pub rollup: Address,
    /// Only say what could be claimed
    #[arg(long)]
    pub dry_run: bool,
    /// Who pays for the claim
    #[command(flatten)]
    pub wallet: WalletArgs,
    /// Most gas of a claim
    #[arg(long, default_value_t = 600_000, value_parser = clap::value_parser!(u64).range(21_000..=30_000_000), value_name = "GAS")]
    pub max_gas: u64,
    /// Most gwei that is paid for each gas
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=1_000_000), value_name = "GWEI")]
    pub max_fee_gwei: u64,
}

/// Runs the command.
pub(crate) async fn run(
    args: Claim,
    output: &Output,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let mut l1 = rpc(&args.l1_rpc_url, "--l1-rpc-url")?;
    let l2 = rpc(&args.rpc_url, "--rpc-url")?;
    let work = async {
        l1.chain(args.l1_chain_id).await?;
        let claims = claim::find(&l1, &l2, args.rollup, args.tx).await?;
        if claims.is_empty() {
            return output.report(&Nothing { event: "claimed_before", tx: args.tx });
        }
        let wallet = match args.dry_run {
            true => None,
            false => Some(args.wallet.open().await?),
        };
        let limits = Limits {
            chain_id: args.l1_chain_id,
            max_gas: args.max_gas,
            max_fee: args.max_fee_gwei * GWEI,
        };
        for found in claims {
            let (event, transaction, gas) = match &wallet {
                Some(wallet) => {
                    let mut signed = |tx| drop(output.report(&Sending::new(tx)));
                    let paid = found.send(&mut l1, wallet, limits, &mut signed).await?;
                    ("claimed", Some(paid.tx), paid.gas)
                }
                None => ("claimable", None, found.price(&l1, limits).await?),
            };
            output.report(&Told {
                event,
                id: found.id,
                to: found.withdrawal.to,
                wei: found.withdrawal.amount.to_string(),
                block: found.block,
                transaction,
                gas,
            })?;
        }
        Ok(())
    };
    unless_interrupted(&shutdown, work).await.context("not claimed, or not known to be")
}

/// A transaction that is about to be sent: whatever happens then, it may be in a block some day.
#[derive(Serialize)]
pub(crate) struct Sending {
    event: &'static str,
    transaction: B256,
}

impl Sending {
    pub(crate) fn new(transaction: B256) -> Self {
        Self { event: "sending", transaction }
    }
}

impl fmt::Display for Sending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sending transaction {} to L1", self.transaction)
    }
}

#[derive(Serialize)]
struct Nothing {
    event: &'static str,
    tx: B256,
}

impl fmt::Display for Nothing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "everything that transaction {} withdrew was paid before", self.tx)
    }
}

#[derive(Serialize)]
struct Told {
    event: &'static str,
    id: B256,
    to: Address,
    wei: String,
    /// The last block of the settled batch.
    block: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    transaction: Option<B256>,
    gas: u64,
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { wei, to, block, .. } = self;
        let gas = thousands(self.gas);
        match self.transaction {
            Some(tx) => write!(f, "paid {wei} wei to {to}: transaction {tx} on L1, {gas} gas"),
            None => write!(
                f,
                "{wei} wei for {to} can be claimed, against block {block} of the L2, for {gas} gas"
            ),
        }
    }
}
