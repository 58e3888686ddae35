//! `l2-prover deploy`: the contracts on L1 in which an L2 settles.

use std::fmt;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use alloy_genesis::Genesis;
use alloy_primitives::{Address, B256, U256};
use anyhow::{Context as _, bail, ensure};
use clap::Args;
use comfy_table::{Table, presets};
use devnode::Chain;
use serde::Serialize;
use settlement::contract::{Head, Roles};
use settlement::deploy::{
    DEV_MODE_SELECTOR, DEVELOPMENT, DeployError, Deployed, Deployment, Proofs, outbox_code,
};
use settlement::{GWEI, Limits};
use tempfile::NamedTempFile;
use tokio_util::sync::CancellationToken;

use crate::args::{WalletArgs, rpc};
use crate::commands::claim::Sending;
use crate::output::{Output, thousands};
use crate::parse;
use crate::signals::unless_interrupted;

/// `l2-prover deploy`
#[derive(Debug, Args)]
pub(crate) struct Deploy {
    /// Genesis of the L2, in geth's format, with `"bridge": true` in its config and the Outbox in its alloc
    #[arg(long, value_name = "FILE")]
    pub genesis: PathBuf,
    /// JSON-RPC of an L2 node: its block 0 must be that of the genesis [default: only the file counts]
    #[arg(long, env = "PROVER_SERVER_RPC_URL", hide_env_values = true, value_name = "URL")]
    pub rpc_url: Option<String>,
    /// JSON-RPC of L1
    #[arg(long, env = "L2_PROVER_L1_RPC_URL", hide_env_values = true, value_name = "URL")]
    pub l1_rpc_url: String,
    /// L1's chain id
    #[arg(long, env = "L2_PROVER_L1_CHAIN_ID", value_name = "ID")]
    pub l1_chain_id: u64,
    /// Proofs of RISC Zero count: its verifier router on L1, or one of its verifiers
    #[arg(long, value_name = "ADDRESS")]
    pub risc0_verifier: Option<Address>,
    /// DANGER: that verifier is RISC Zero's mock verifier, and receipts of dev mode count; on development chains only
    #[arg(long, requires = "risc0_verifier")]
    pub danger_dev_mode: bool,
    /// DANGER: runs of the exec prover count, which prove nothing; on development chains only
    #[arg(long)]
    pub danger_exec: bool,
    /// So many proofs of different systems for each batch
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub threshold: u8,
    /// Who may settle at any time [default: the wallet that deploys]
    #[arg(long, value_name = "ADDRESS")]
    pub sequencer: Option<Address>,
    /// Who proposes other policies, and renews the guardian's freeze [default: the wallet that deploys, on development chains only]
    #[arg(long, value_name = "ADDRESS")]
    pub governance: Option<Address>,
    /// Who may freeze settlements and claims for 14 days, once [default: as above]
    #[arg(long, value_name = "ADDRESS")]
    pub guardian: Option<Address>,
    /// Who may set things right during a freeze [default: as above]
    #[arg(long, value_name = "ADDRESS")]
    pub council: Option<Address>,
    /// From a proposal of another policy to its application: 168h more than --finality at least
    #[arg(long, default_value = "336h", value_parser = parse::duration_above_zero, value_name = "TIME")]
    pub delay: Duration,
    /// From a settlement to claims against it: so long somebody can notice a false one
    #[arg(long, default_value = "24h", value_parser = parse::duration, value_name = "TIME")]
    pub finality: Duration,
    /// How old a deposit may become before a batch must consume it
    #[arg(long, default_value = "24h", value_parser = parse::duration_above_zero, value_name = "TIME")]
    pub window: Duration,
    /// After so long without a settlement, anybody may settle
    #[arg(long, default_value = "168h", value_parser = parse::duration_above_zero, value_name = "TIME")]
    pub fallback_after: Duration,
    /// DANGER: the genesis may give away ether, which nobody deposited on L1: whoever has it can withdraw what others deposit
    #[arg(long)]
    pub danger_unbacked_genesis: bool,
    /// Where the addresses are written, as JSON
    #[arg(long, default_value = "deployment.json", value_name = "FILE")]
    pub out: PathBuf,
    /// Only check, and say what would be deployed
    #[arg(long)]
    pub dry_run: bool,
    /// Who pays
    #[command(flatten)]
    pub wallet: WalletArgs,
    /// Most gas of a transaction
    #[arg(long, default_value_t = 12_000_000, value_parser = clap::value_parser!(u64).range(5_500_000..=16_777_216), value_name = "GAS")]
    pub max_gas: u64,
    /// Most gwei that is paid for each gas
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=1_000_000), value_name = "GWEI")]
    pub max_fee_gwei: u64,
}

/// Runs the command.
pub(crate) async fn run(
    args: Deploy,
    output: &Output,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let l2 = Genesis0::read(&args)?;
    let wallet = args.wallet.open().await?;
    let plan = plan(&args, &l2, wallet.address())?;
    ensure!(
        !args.out.exists(),
        "{} exists: move it away, or name another file with --out",
        args.out.display()
    );
    let file = place(&args.out)?;
    let mut l1 = rpc(&args.l1_rpc_url, "--l1-rpc-url")?;
    let made = async {
        if let Some(url) = &args.rpc_url {
            let mut node = rpc(url, "--rpc-url")?;
            node.chain(Some(plan.l2_chain_id)).await?;
            let (found, hash) = (node.genesis_hash().await?, plan.genesis.hash);
            ensure!(
                found == hash,
                "block 0 of the L2's node is {found}, and that of the genesis is {hash}"
            );
        }
        plan.check(&mut l1, wallet.address()).await?;
        output.report(&Planned::new(&plan, l2.unbacked, wallet.address()))?;
        if args.dry_run {
            return Ok(None);
        }
        let limits =
            Limits { chain_id: None, max_gas: args.max_gas, max_fee: args.max_fee_gwei * GWEI };
        let mut signed = |tx| drop(output.report(&Sending::new(tx)));
        Ok(Some(plan.make(&mut l1, &wallet, limits, &mut signed).await?))
    };
    let made = unless_interrupted(&shutdown, made).await.context("not deployed")?;
    let Some(made) = made else { return Ok(()) };
    let made = Made::new(&plan, made);
    let saved = save(file, &args.out, &made);
    // It is there, whatever becomes of the file.
    output.report(&Told { made, file: &args.out })?;
    saved.context(
        "everything is deployed, as said above; but the file of its addresses was not written",
    )
}

/// A file that will have the place of `path`, which can be written therefore.
fn place(path: &Path) -> anyhow::Result<NamedTempFile> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    NamedTempFile::new_in(folder.unwrap_or(Path::new(".")))
        .with_context(|| format!("{} cannot be written: see --out", path.display()))
}

/// The L2's block 0, and what stands in it.
struct Genesis0 {
    head: Head,
    chain_id: u64,
    chain_config_digest: B256,
    outbox: Address,
    /// Ether that nobody deposited, in wei.
    unbacked: U256,
}

impl Genesis0 {
    fn read(args: &Deploy) -> anyhow::Result<Self> {
        let genesis: Genesis = devnode::genesis::read(&args.genesis)?;
        let chain = Chain::new(&genesis)?;
        let config = chain.config();
        ensure!(
            config.bridge,
            "the genesis has no bridge: set \"bridge\": true in its config, or no batch settles"
        );
        let block = chain.block(0).context("a chain has a block 0")?;
        // The first block's rules are the genesis's, unless a fork comes in between: then nothing can be deposited before.
        ensure!(
            block.block.header.withdrawals_root.is_some(),
            "the genesis is before Shanghai: its blocks have no withdrawals, by which deposits come. Set \"shanghaiTime\": 0 in its config"
        );
        let code = outbox_code();
        let mut outboxes = genesis
            .alloc
            .iter()
            .filter(|(_, account)| account.code.as_deref().is_some_and(|found| *found == *code));
        let outbox = match (outboxes.next(), outboxes.next()) {
            (Some((address, account)), None) => {
                let empty = account.storage.as_ref().is_none_or(|storage| storage.is_empty());
                ensure!(
                    empty,
                    "the Outbox at {address} has storage in the genesis: nothing was withdrawn before block 1"
                );
                *address
            }
            (None, _) => bail!(
                "no account of the genesis has the Outbox's code: put `deployedBytecode` of contracts/artifacts/Outbox.json at an address"
            ),
            (Some(_), Some(_)) => {
                bail!("two accounts of the genesis have the Outbox's code: the bridge pays for one")
            }
        };
        let unbacked = genesis
            .alloc
            .values()
            .fold(U256::ZERO, |sum, account| sum.saturating_add(account.balance));
        ensure!(
            unbacked.is_zero() || args.danger_unbacked_genesis,
            "the genesis gives away {unbacked} wei, which nobody deposited on L1: whoever has it could withdraw what others deposit. Take it out, or accept that with --danger-unbacked-genesis"
        );
        let head =
            Head { hash: block.hash, stateRoot: block.block.header.state_root, ..Head::default() };
        Ok(Self {
            head,
            chain_id: config.chain_id,
            chain_config_digest: config.digest(),
            outbox,
            unbacked,
        })
    }
}

fn plan(args: &Deploy, l2: &Genesis0, wallet: Address) -> anyhow::Result<Deployment> {
    let development = DEVELOPMENT.contains(&args.l1_chain_id);
    // Before it is asked for roles.
    if !development && (args.danger_exec || args.danger_dev_mode) {
        return Err(DeployError::Mocked(args.l1_chain_id).into());
    }
    let role = |given: Option<Address>, flag: &str| {
        let own = development.then_some(wallet);
        given
            .or(own)
            .with_context(|| format!("{flag} is needed: this chain is no development chain"))
    };
    let mut proofs = Vec::new();
    if let Some(verifier) = args.risc0_verifier {
        let programs =
            [verifier::RISC0_PROGRAM_ID, verifier::RISC0_AGGREGATE_ID].map(B256::from).to_vec();
        let selector =
            if args.danger_dev_mode { DEV_MODE_SELECTOR } else { verifier::risc0_selector() };
        proofs.push(Proofs::RiscZero { verifier, selector, programs });
    }
    if args.danger_exec {
        proofs.push(Proofs::Exec);
    }
    ensure!(
        !proofs.is_empty(),
        "no proofs would count: --risc0-verifier names RISC Zero's router on L1 (or --danger-exec, on development chains)"
    );
    Ok(Deployment {
        chain_id: args.l1_chain_id,
        l2_chain_id: l2.chain_id,
        chain_config_digest: l2.chain_config_digest,
        genesis: l2.head.clone(),
        outbox: l2.outbox,
        proofs,
        threshold: args.threshold,
        sequencer: args.sequencer.unwrap_or(wallet),
        delay: args.delay,
        finality: args.finality,
        window: args.window,
        fallback_after: args.fallback_after,
        roles: Roles {
            governance: role(args.governance, "--governance")?,
            guardian: role(args.guardian, "--guardian")?,
            council: role(args.council, "--council")?,
        },
    })
}

/// Writes the addresses to a file that was not there.
fn save(mut file: NamedTempFile, path: &Path, made: &Made) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(made)? + "\n";
    file.write_all(text.as_bytes())?;
    file.as_file().sync_all()?;
    file.persist_noclobber(path)?;
    Ok(())
}

/// What will be deployed.
#[derive(Serialize)]
struct Planned {
    event: &'static str,
    #[serde(flatten)]
    what: What,
    wallet: Address,
    /// In wei.
    unbacked: String,
    mocked: bool,
}

/// What the contracts are made with.
#[derive(Serialize)]
struct What {
    l1_chain_id: u64,
    l2_chain_id: u64,
    genesis_hash: B256,
    genesis_state_root: B256,
    chain_config_digest: B256,
    outbox: Address,
    threshold: u8,
    sequencer: Address,
    governance: Address,
    guardian: Address,
    council: Address,
    delay_seconds: u64,
    finality_seconds: u64,
    window_seconds: u64,
    fallback_after_seconds: u64,
    data: &'static str,
}

impl What {
    fn new(plan: &Deployment) -> Self {
        let Roles { governance, guardian, council } = plan.roles;
        Self {
            l1_chain_id: plan.chain_id,
            l2_chain_id: plan.l2_chain_id,
            genesis_hash: plan.genesis.hash,
            genesis_state_root: plan.genesis.stateRoot,
            chain_config_digest: plan.chain_config_digest,
            outbox: plan.outbox,
            threshold: plan.threshold,
            sequencer: plan.sequencer,
            governance,
            guardian,
            council,
            delay_seconds: plan.delay.as_secs(),
            finality_seconds: plan.finality.as_secs(),
            window_seconds: plan.window.as_secs(),
            fallback_after_seconds: plan.fallback_after.as_secs(),
            data: "validium",
        }
    }
}

impl Planned {
    fn new(plan: &Deployment, unbacked: U256, wallet: Address) -> Self {
        Self {
            event: "planned",
            what: What::new(plan),
            wallet,
            unbacked: unbacked.to_string(),
            mocked: plan.proofs.iter().any(Proofs::are_mocked),
        }
    }
}

impl fmt::Display for Planned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = &self.what;
        let hours = |seconds: u64| match seconds % 3_600 {
            0 => format!("{} h", thousands(seconds / 3_600)),
            _ => format!("{} s", thousands(seconds)),
        };
        let mut table = Table::new();
        table.load_preset(presets::NOTHING);
        for (name, value) in [
            ("L1", format!("chain {}", what.l1_chain_id)),
            ("L2", format!("chain {}, block 0 {}", what.l2_chain_id, what.genesis_hash)),
            ("rules", what.chain_config_digest.to_string()),
            ("Outbox", what.outbox.to_string()),
            ("proofs", format!("{} for each batch", what.threshold)),
            ("sequencer", what.sequencer.to_string()),
            ("governance", what.governance.to_string()),
            ("guardian", what.guardian.to_string()),
            ("council", what.council.to_string()),
            ("policies change", format!("{} after a proposal", hours(what.delay_seconds))),
            ("claims", format!("{} after a settlement", hours(what.finality_seconds))),
            ("deposits", format!("consumed within {}", hours(what.window_seconds))),
            (
                "anybody settles",
                format!("{} after the last settlement", hours(what.fallback_after_seconds)),
            ),
            ("wallet", self.wallet.to_string()),
        ] {
            table.add_row([name, &value]);
        }
        writeln!(f, "{table}")?;
        write!(
            f,
            "VALIDIUM: the data of the blocks is not published on L1. Whoever keeps it back can keep everybody from withdrawing."
        )?;
        if self.mocked {
            write!(f, "\nDANGER: proofs count that prove NOTHING.")?;
        }
        if self.unbacked != "0" {
            write!(f, "\nDANGER: {} wei of the genesis have no backing on L1.", self.unbacked)?;
        }
        Ok(())
    }
}

/// What was deployed, as the file has it.
#[derive(Serialize)]
struct Made {
    rollup: Address,
    bridge: Address,
    /// L1's block with the rollup: nothing of it is in blocks before.
    block: u64,
    #[serde(flatten)]
    what: What,
    systems: Vec<Counting>,
    transactions: Vec<Transaction>,
}

#[derive(Serialize)]
struct Counting {
    adapter: Address,
    program_id: B256,
    family: B256,
}

#[derive(Serialize)]
struct Transaction {
    contract: &'static str,
    address: Address,
    transaction: B256,
    gas: u64,
}

impl Made {
    fn new(plan: &Deployment, made: Deployed) -> Self {
        let Deployed { rollup, bridge, policy, transactions } = made;
        let systems = policy.systems.into_iter().map(|system| Counting {
            adapter: system.adapter,
            program_id: system.programId,
            family: system.family,
        });
        Self {
            rollup,
            bridge,
            block: transactions.last().map_or(0, |(_, done)| done.block),
            what: What::new(plan),
            systems: systems.collect(),
            transactions: transactions
                .into_iter()
                .map(|(contract, done)| Transaction {
                    contract,
                    address: done.contract,
                    transaction: done.tx,
                    gas: done.gas,
                })
                .collect(),
        }
    }
}

#[derive(Serialize)]
#[serde(transparent)]
struct Told<'a> {
    made: Made,
    #[serde(skip)]
    file: &'a Path,
}

impl fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Made { rollup, bridge, transactions, .. } = &self.made;
        for Transaction { contract, address, gas, .. } in transactions {
            writeln!(f, "{contract} is at {address} ({} gas)", thousands(*gas))?;
        }
        writeln!(f, "Bridge is at {bridge}")?;
        writeln!(f, "all addresses are in {}", self.file.display())?;
        write!(f, "settle with: l2-prover settle --settle-rollup {rollup} …")
    }
}
