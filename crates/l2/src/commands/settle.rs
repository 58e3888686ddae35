//! `l2-prover settle`: proven batches of a server, running or not, are settled in a contract on L1.

use std::fmt;

use alloy_primitives::Address;
use anyhow::{Context as _, bail, ensure};
use clap::Args;
use comfy_table::{Table, presets};
use protocol::BlockRange;
use serde::Serialize;
use server::store::JobStore;
use settlement::{GWEI, Trial};
use tokio_util::sync::CancellationToken;

use crate::args::{Kept, SettleArgs};
use crate::output::{Output, thousands};
use crate::settings::{self, Overrides};
use crate::signals::unless_interrupted;

/// `l2-prover settle`
#[derive(Debug, Args)]
pub(crate) struct Settle {
    /// Only say what would be settled next, and whether L1 would take it
    #[arg(long)]
    pub dry_run: bool,
    /// Only forget that this server settled in the contract of --settle-rollup: status and alarms are of it no more
    #[arg(long, conflicts_with = "dry_run")]
    pub forget: bool,
    /// Where to, by whom and for how much
    #[command(flatten)]
    pub settle: SettleArgs,
    /// The server
    #[command(flatten)]
    pub kept: Kept,
}

/// Runs the command.
pub(crate) async fn run(
    args: Settle,
    overrides: &Overrides,
    output: &Output,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let config = args.kept.config()?;
    let settle = settings::settle(&args.settle, overrides, args.kept.data.config.as_deref())?;
    if !args.forget {
        settle.check()?;
        ensure!(settle.settle_rollup.is_some(), "--settle-rollup and --l1-rpc-url are needed");
    }
    let opened = server::beside::open(&config).await;
    let (store, artifacts) = opened.context("the server's jobs cannot be used")?;
    if args.forget {
        let forgotten = forget(&store, settle.settle_rollup).await;
        store.close().await;
        return output.report(&forgotten?);
    }
    let sender = settle.sender(store.clone(), artifacts).await?;
    let mut sender = sender.expect("a contract is named");
    if args.dry_run {
        let trial = unless_interrupted(&shutdown, async { Ok(sender.trial().await?) }).await;
        store.close().await;
        let trial = trial.context("failed to try it")?;
        let refusal = trial.as_ref().and_then(Trial::refusal);
        output.report(&Tried::new(trial))?;
        return refusal.map_or(Ok(()), |why| bail!("it would not be settled now: {why}"));
    }
    output.report(&Started { event: "settling", rollup: settle.settle_rollup })?;
    sender.run(shutdown).await;
    store.close().await;
    Ok(())
}

/// Forgets that anybody settled in a contract, on whichever chain.
async fn forget(store: &JobStore, rollup: Option<Address>) -> anyhow::Result<Forgotten> {
    let rollup = rollup.context("--settle-rollup is needed: the contract to forget")?;
    let now = store.now().await?;
    let mut contracts = 0;
    for (found, _) in store.settled_on().await? {
        if found.address != rollup {
            continue;
        }
        ensure!(
            store.forget_settling(&found, now).await?,
            "a process settles in {rollup} on chain {} now: stop it, and wait as long as its --settle-lease",
            found.chain_id
        );
        contracts += 1;
    }
    ensure!(contracts > 0, "this server never settled in {rollup}");
    Ok(Forgotten { event: "forgotten", rollup })
}

#[derive(Serialize)]
struct Forgotten {
    event: &'static str,
    rollup: Address,
}

impl fmt::Display for Forgotten {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the contract {} counts no more; its transactions stay on record", self.rollup)
    }
}

#[derive(Serialize)]
struct Started {
    event: &'static str,
    rollup: Option<Address>,
}

impl fmt::Display for Started {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "settling in the contract {}", self.rollup.unwrap_or_default())
    }
}

/// What would be settled next.
#[derive(Serialize)]
struct Tried {
    #[serde(skip_serializing_if = "Option::is_none")]
    batch: Option<Batch>,
}

#[derive(Serialize)]
struct Batch {
    chain_id: u64,
    rollup: Address,
    wallet: Address,
    balance_gwei: String,
    settled: u64,
    blocks: BlockRange,
    fields: Vec<Compared>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gas: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reverts: Option<String>,
    max_fee: u64,
    priority_fee: u64,
    /// Whether that is as much as is allowed.
    affordable: bool,
}

#[derive(Serialize)]
struct Compared {
    field: &'static str,
    ours: String,
    l1: String,
    fits: bool,
}

impl Tried {
    fn new(trial: Option<Trial>) -> Self {
        let batch = trial.map(|trial| {
            let (gas, reverts) = match trial.gas {
                Ok(gas) => (Some(gas), None),
                Err(says) => (None, Some(says)),
            };
            let (fees, affordable) = match trial.fees {
                Ok(fees) => (fees, true),
                Err(needed) => (needed, false),
            };
            let fields = trial.fields.into_iter().map(|field| Compared {
                field: field.name,
                ours: field.ours,
                l1: field.l1,
                fits: field.fits,
            });
            Batch {
                chain_id: trial.rollup.chain_id,
                rollup: trial.rollup.address,
                wallet: trial.wallet,
                balance_gwei: (trial.balance / alloy_primitives::U256::from(GWEI)).to_string(),
                settled: trial.head,
                blocks: trial.blocks,
                fields: fields.collect(),
                gas,
                reverts,
                max_fee: fees.max,
                priority_fee: fees.priority,
                affordable,
            }
        });
        Self { batch }
    }
}

impl fmt::Display for Tried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(batch) = &self.batch else {
            return f.write_str("nothing to settle: the block after the contract's head is not proven, or not as --settle-proof-kind says");
        };
        let Batch { rollup, chain_id, wallet, balance_gwei, settled, blocks, .. } = batch;
        writeln!(f, "contract {rollup} on chain {chain_id}, settled up to block {settled}")?;
        writeln!(f, "wallet {wallet} with {balance_gwei} gwei")?;
        writeln!(f, "blocks {blocks}:")?;
        let mut table = Table::new();
        table.load_preset(presets::NOTHING).set_header(["field", "batch", "L1", "verdict"]);
        for Compared { field, ours, l1, fits } in &batch.fields {
            let verdict = if *fits { "fits" } else { "REFUSED" };
            table.add_row([*field, ours, l1, verdict]);
        }
        writeln!(f, "{table}")?;
        match (&batch.gas, &batch.reverts) {
            (Some(gas), _) => writeln!(f, "the call takes {} gas", thousands(*gas))?,
            (None, reverts) => {
                writeln!(f, "the call REVERTS: {}", reverts.as_deref().unwrap_or("?"))?
            }
        }
        let per_gas = format!(
            "{} wei for each gas, {} of them for the builder",
            thousands(batch.max_fee),
            thousands(batch.priority_fee)
        );
        match batch.affordable {
            true => write!(f, "it would offer {per_gas}"),
            false => write!(f, "it takes {per_gas}: MORE THAN IS ALLOWED, it would wait"),
        }
    }
}
