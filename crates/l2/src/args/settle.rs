//! Flags about settling on L1.

use std::ops::{RangeFrom, RangeInclusive};
use std::path::PathBuf;
use std::time::Duration;

use alloy_primitives::Address;
use anyhow::{Context as _, bail};
use clap::{Args, Command, FromArgMatches as _, ValueEnum};
use protocol::ProofKind;
use serde::{Deserialize, Serialize};
use server::InvalidConfig;
use server::artifacts::Artifacts;
use server::store::JobStore;
use settlement::{Caps, Config, GWEI, Rpc, Rules, Sender, Wallet};
use url::Url;

use crate::parse;
use crate::settings::{address, one_or_several};

/// What a transaction may offer for each gas, in gwei.
const FEES: RangeInclusive<u64> = 1..=1_000_000;

/// How much gas it may use.
const GAS: RangeFrom<u64> = 21_000..;

/// Which proofs are settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SettledKind {
    /// What contracts verify
    Groth16,
    /// Mocked proofs, of exec or dev mode, of batches, for a contract that accepts what proves nothing
    Composite,
    /// The same
    Succinct,
    /// The same, folded
    Aggregate,
}

impl From<SettledKind> for ProofKind {
    fn from(kind: SettledKind) -> Self {
        match kind {
            SettledKind::Groth16 => Self::Groth16,
            SettledKind::Composite => Self::Composite,
            SettledKind::Succinct => Self::Succinct,
            SettledKind::Aggregate => Self::Aggregate,
        }
    }
}

/// Where batches are settled, by whom and for how much: flags, and keys of the server's settings file. A key is not a flag: others can
/// read a command line.
#[derive(Clone, Debug, Args, Serialize, Deserialize)]
#[command(next_help_heading = "Settlement")]
#[serde(deny_unknown_fields, default)]
pub(crate) struct SettleArgs {
    /// The contract on L1 in which proven batches are settled
    #[arg(long, env = "L2_PROVER_SETTLE_ROLLUP", value_name = "ADDRESS")]
    pub settle_rollup: Option<Address>,
    /// JSON-RPC of L1; several, between which it changes if one fails or leads nowhere: separated by commas, or the flag repeated
    #[arg(
        long,
        env = "L2_PROVER_L1_RPC_URL",
        hide_env_values = true,
        value_delimiter = ',',
        value_name = "URL"
    )]
    #[serde(deserialize_with = "one_or_several")]
    pub l1_rpc_url: Vec<String>,
    /// L1's chain id [default: what the first that answers says]
    #[arg(long, env = "L2_PROVER_L1_CHAIN_ID", value_name = "ID")]
    pub l1_chain_id: Option<u64>,
    /// How often L1 is asked
    #[arg(
        long,
        env = "L2_PROVER_L1_POLL",
        default_value = "6s",
        value_parser = parse::duration_above_zero,
        value_name = "TIME"
    )]
    #[serde(with = "humantime_serde")]
    pub l1_poll: Duration,
    /// The wallet's key, encrypted: a keystore as geth and cast write it
    #[arg(long, env = "L2_PROVER_SETTLE_KEYSTORE", value_name = "FILE")]
    pub settle_keystore: Option<PathBuf>,
    /// The file with the keystore's password
    #[arg(long, env = "L2_PROVER_SETTLE_PASSWORD_FILE", value_name = "FILE")]
    pub settle_password_file: Option<PathBuf>,
    /// A remote signer that has the key: web3signer, or what else answers eth_signTransaction
    #[arg(long, env = "L2_PROVER_SETTLE_SIGNER_URL", hide_env_values = true, value_name = "URL")]
    #[serde(deserialize_with = "address")]
    pub settle_signer_url: Option<String>,
    /// The address of the key there
    #[arg(long, env = "L2_PROVER_SETTLE_SIGNER_ADDRESS", value_name = "ADDRESS")]
    pub settle_signer_address: Option<Address>,
    /// Which proofs are settled
    #[arg(
        long,
        env = "L2_PROVER_SETTLE_PROOF_KIND",
        value_enum,
        default_value_t = SettledKind::Groth16
    )]
    pub settle_proof_kind: SettledKind,
    /// Most gwei that a transaction offers for each gas
    #[arg(
        long,
        env = "L2_PROVER_SETTLE_MAX_FEE_GWEI",
        default_value_t = 100,
        value_parser = clap::value_parser!(u64).range(FEES),
        value_name = "GWEI"
    )]
    pub settle_max_fee_gwei: u64,
    /// Most of them for the block's builder
    #[arg(
        long,
        env = "L2_PROVER_SETTLE_MAX_PRIORITY_FEE_GWEI",
        default_value_t = 5,
        value_parser = clap::value_parser!(u64).range(FEES),
        value_name = "GWEI"
    )]
    pub settle_max_priority_fee_gwei: u64,
    /// Most gas of a transaction
    #[arg(
        long,
        env = "L2_PROVER_SETTLE_MAX_GAS",
        default_value_t = 2_000_000,
        value_parser = clap::value_parser!(u64).range(GAS),
        value_name = "GAS"
    )]
    pub settle_max_gas: u64,
    /// A transaction that waits for so long is replaced by one that offers an eighth more
    #[arg(
        long,
        env = "L2_PROVER_SETTLE_BUMP_AFTER",
        default_value = "60s",
        value_parser = parse::duration_above_zero,
        value_name = "TIME"
    )]
    #[serde(with = "humantime_serde")]
    pub settle_bump_after: Duration,
    /// And so often it is sent again
    #[arg(
        long,
        env = "L2_PROVER_SETTLE_RESEND_AFTER",
        default_value = "12s",
        value_parser = parse::duration_above_zero,
        value_name = "TIME"
    )]
    #[serde(with = "humantime_serde")]
    pub settle_resend_after: Duration,
    /// So long after its last word another process on the same jobs takes this one's place
    #[arg(
        long,
        env = "L2_PROVER_SETTLE_LEASE",
        default_value = "60s",
        value_parser = parse::duration_above_zero,
        value_name = "TIME"
    )]
    #[serde(with = "humantime_serde")]
    pub settle_lease: Duration,
}

/// As the flags have it, without the environment.
impl Default for SettleArgs {
    fn default() -> Self {
        let flags = Self::augment_args(Command::new("settle").no_binary_name(true));
        let flags = flags.mut_args(|arg| arg.env(None::<&str>));
        Self::from_arg_matches(&flags.get_matches_from(None::<&str>)).expect("no flag is needed")
    }
}

impl SettleArgs {
    /// Checks what the types cannot.
    ///
    /// # Errors
    /// [`InvalidConfig`] names the first setting that cannot work.
    pub(crate) fn check(&self) -> Result<(), InvalidConfig> {
        let problem = |key, problem: &str| Err(InvalidConfig { key, problem: problem.to_owned() });
        let rollup = self.settle_rollup.is_some();
        let (files, password) =
            (self.settle_keystore.is_some(), self.settle_password_file.is_some());
        let (remote, address) =
            (self.settle_signer_url.is_some(), self.settle_signer_address.is_some());
        // An RPC alone is no mistake: other commands have the same variable.
        for (key, missing, needed_by) in [
            ("l1_rpc_url", rollup && self.l1_rpc_url.is_empty(), "settle_rollup"),
            ("settle_password_file", files && !password, "settle_keystore"),
            ("settle_keystore", password && !files, "settle_password_file"),
            ("settle_signer_address", remote && !address, "settle_signer_url"),
            ("settle_signer_url", address && !remote, "settle_signer_address"),
            ("settle_rollup", files && !rollup, "settle_keystore"),
            ("settle_rollup", remote && !rollup, "settle_signer_url"),
        ] {
            if missing {
                return problem(key, &format!("is missing: {needed_by} needs it"));
            }
        }
        if self.settle_rollup.is_some_and(|rollup| rollup.is_zero()) {
            return problem("settle_rollup", "is the zero address, where no contract is");
        }
        if self.l1_chain_id == Some(0) {
            return problem("l1_chain_id", "is zero, which is no chain's id");
        }
        let lists = [("l1_rpc_url", &self.l1_rpc_url[..])];
        let signer = self.settle_signer_url.as_slice();
        for (key, urls) in lists.into_iter().chain([("settle_signer_url", signer)]) {
            if let Some(error) = urls.iter().find_map(|url| rpc(url, key).err()) {
                return problem(key, &format!("cannot be used: {}", error.root_cause()));
            }
        }
        if files && remote {
            return problem(
                "settle_signer_url",
                "is set, and settle_keystore is too: one of them signs",
            );
        }
        if rollup && !files && !remote {
            return problem(
                "settle_keystore",
                "is missing: a wallet is needed, either settle_keystore with settle_password_file, or settle_signer_url with settle_signer_address",
            );
        }
        for (key, fee) in [
            ("settle_max_fee_gwei", self.settle_max_fee_gwei),
            ("settle_max_priority_fee_gwei", self.settle_max_priority_fee_gwei),
        ] {
            if !FEES.contains(&fee) {
                return problem(key, &format!("must be in {FEES:?}"));
            }
        }
        if self.settle_max_priority_fee_gwei > self.settle_max_fee_gwei {
            return problem(
                "settle_max_priority_fee_gwei",
                "is more than settle_max_fee_gwei, of which it is a part",
            );
        }
        if !GAS.contains(&self.settle_max_gas) {
            return problem("settle_max_gas", &format!("must be in {GAS:?}"));
        }
        for (key, time) in [
            ("l1_poll", self.l1_poll),
            ("settle_bump_after", self.settle_bump_after),
            ("settle_resend_after", self.settle_resend_after),
            ("settle_lease", self.settle_lease),
        ] {
            if time.is_zero() {
                return problem(key, "must not be zero");
            }
        }
        for (key, file) in [
            ("settle_keystore", &self.settle_keystore),
            ("settle_password_file", &self.settle_password_file),
        ] {
            if let Some(file) = file
                && let Err(error) = std::fs::File::open(file)
            {
                return problem(
                    key,
                    &format!("is {}, which cannot be read: {error}", file.display()),
                );
            }
        }
        Ok(())
    }

    /// What settles, if a contract is named.
    ///
    /// # Errors
    /// If they do not fit together, or the wallet or the RPCs cannot be used.
    pub(crate) async fn sender(
        &self,
        store: JobStore,
        artifacts: Artifacts,
    ) -> anyhow::Result<Option<Sender>> {
        self.check()?;
        let Some(rollup) = self.settle_rollup else { return Ok(None) };
        let rpcs = self.l1_rpc_url.iter().map(|url| rpc(url, "--l1-rpc-url"));
        let rpcs = rpcs.collect::<Result<Vec<_>, _>>()?;
        let config = Config {
            rollup,
            chain_id: self.l1_chain_id,
            kind: self.settle_proof_kind.into(),
            rules: Rules {
                bump_after: self.settle_bump_after,
                resend_after: self.settle_resend_after,
                caps: Caps {
                    max: self.settle_max_fee_gwei * GWEI,
                    priority: self.settle_max_priority_fee_gwei * GWEI,
                },
            },
            max_gas: self.settle_max_gas,
            poll: self.l1_poll,
            lease: self.settle_lease,
        };
        let files = self.settle_keystore.clone().zip(self.settle_password_file.clone());
        let remote = self.settle_signer_url.as_deref().zip(self.settle_signer_address);
        let flags = "--settle-keystore with --settle-password-file, or --settle-signer-url with --settle-signer-address";
        let wallet = wallet(files, remote, flags).await?;
        let name = rand::random();
        Ok(Some(Sender::new(config, store, artifacts, wallet, rpcs, name)))
    }
}

/// Who signs what is sent once. A key is not a flag: others can read a command line.
#[derive(Clone, Debug, Args)]
pub(crate) struct WalletArgs {
    /// The key that pays, encrypted: a keystore as geth and cast write it
    #[arg(long, requires = "password_file", conflicts_with = "signer_url", value_name = "FILE")]
    pub keystore: Option<PathBuf>,
    /// The file with the keystore's password
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
    /// A remote signer that has the key: web3signer, or what else answers eth_signTransaction
    #[arg(long, requires = "signer_address", value_name = "URL")]
    pub signer_url: Option<String>,
    /// The address of the key there
    #[arg(long, value_name = "ADDRESS")]
    pub signer_address: Option<Address>,
}

impl WalletArgs {
    /// The wallet.
    ///
    /// # Errors
    /// If there is none, or it cannot be used.
    pub(crate) async fn open(&self) -> anyhow::Result<Wallet> {
        let files = self.keystore.clone().zip(self.password_file.clone());
        let remote = self.signer_url.as_deref().zip(self.signer_address);
        let flags = "--keystore with --password-file, or --signer-url with --signer-address";
        wallet(files, remote, flags).await
    }
}

/// The RPC at the URL that a flag has. No error repeats the URL, which may hold a key.
///
/// # Errors
/// If it is no URL of an RPC.
pub(crate) fn rpc(url: &str, flag: &str) -> anyhow::Result<Rpc> {
    let url = Url::parse(url).with_context(|| format!("{flag} is no URL"))?;
    Rpc::http(&url).with_context(|| format!("{flag} cannot be used"))
}

/// The wallet of a keystore and the file of its password, or of a remote signer and the address of its key: of what `flags` name.
///
/// # Errors
/// If there is none, or it cannot be used.
async fn wallet(
    files: Option<(PathBuf, PathBuf)>,
    remote: Option<(&str, Address)>,
    flags: &str,
) -> anyhow::Result<Wallet> {
    match (files, remote) {
        (Some((keystore, password)), None) => {
            // Making the key of a password takes a while.
            let open = move || Wallet::keystore(&keystore, &password);
            let wallet = tokio::task::spawn_blocking(open).await?;
            wallet.context("the keystore cannot be used")
        }
        (None, Some((url, address))) => {
            let url = Url::parse(url).context("the remote signer's URL is none")?;
            Wallet::remote(&url, address).context("the remote signer cannot be used")
        }
        _ => bail!("a wallet is needed: {flags}"),
    }
}
