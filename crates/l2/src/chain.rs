//! Which chain's rules apply.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use alloy_genesis::Genesis;
use alloy_primitives::Address;
use anyhow::{Context as _, bail};
use program::{BlobFork, ChainConfig};
use witness::{KnownKeys, NodeOptions};

/// A chain by name, or a geth-style genesis file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ChainArg {
    /// Ethereum.
    Mainnet,
    /// The retired testnet 17000.
    Holesky,
    /// The testnet 560048.
    Hoodi,
    /// The testnet 11155111.
    Sepolia,
    /// The dev node's default chain.
    Dev,
    /// `anvil --hardfork cancun`: see [`anvil`].
    Anvil,
    /// What the node tells (`eth_config`).
    Node,
    /// A genesis file, or a bare chain config.
    File(PathBuf),
}

impl FromStr for ChainArg {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "mainnet" => Self::Mainnet,
            "holesky" => Self::Holesky,
            "hoodi" => Self::Hoodi,
            "sepolia" => Self::Sepolia,
            "dev" => Self::Dev,
            "anvil" => Self::Anvil,
            "node" => Self::Node,
            path => Self::File(path.into()),
        })
    }
}

impl fmt::Display for ChainArg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mainnet => f.write_str("mainnet"),
            Self::Holesky => f.write_str("holesky"),
            Self::Hoodi => f.write_str("hoodi"),
            Self::Sepolia => f.write_str("sepolia"),
            Self::Dev => f.write_str("dev"),
            Self::Anvil => f.write_str("anvil"),
            Self::Node => f.write_str("node"),
            Self::File(path) => write!(f, "{}", path.display()),
        }
    }
}

impl ChainArg {
    /// The chain's rules, which may be what one of `urls` tells.
    pub(crate) async fn config_at(
        &self,
        urls: &[String],
        options: &NodeOptions,
    ) -> anyhow::Result<ChainConfig> {
        if *self != Self::Node {
            return self.config();
        }
        let mut errors = Vec::new();
        for url in urls {
            match witness::chain_config(url, options).await {
                Ok(config) => return Ok(config),
                Err(error) => errors.push(error.to_string()),
            }
        }
        bail!("{}", errors.join("; "))
    }

    /// Accounts and slots of the chain that are known beforehand: those of its genesis file.
    ///
    /// # Errors
    /// As [`Self::config`].
    pub(crate) fn known_keys(&self) -> anyhow::Result<KnownKeys> {
        match self {
            Self::File(path) => Ok(KnownKeys::of_genesis(&genesis_of(path)?)),
            _ => Ok(KnownKeys::default()),
        }
    }

    /// The chain's rules.
    pub(crate) fn config(&self) -> anyhow::Result<ChainConfig> {
        Ok(match self {
            Self::Mainnet => ChainConfig::mainnet(),
            Self::Holesky => ChainConfig::holesky(),
            Self::Hoodi => ChainConfig::hoodi(),
            Self::Sepolia => ChainConfig::sepolia(),
            Self::Dev => ChainConfig::dev(),
            Self::Anvil => anvil(),
            Self::Node => bail!("no node is named that could tell its chain"),
            Self::File(path) => config_of(path)?,
        })
    }
}

/// The rules of `anvil --hardfork cancun`.
///
/// Cancun is the latest fork whose rules anvil keeps: from Prague on a block is invalid without the contracts of EIP-7002 and
/// EIP-7251, which anvil's genesis does not have. Four more rules it breaks (anvil 1.7.1), and no config can mend them:
/// * its genesis header does not commit to its genesis accounts, so that block 1 cannot be proven;
/// * blocks made within one second have the same timestamp, unless it is told to move time on
///   (`anvil_setBlockTimestampInterval`);
/// * after `anvil_reorg` the base fee is not the one that follows from the parent, unless it is so low that it does not move;
/// * a slot that is set to zero stays in the storage trie, so that the state root of such a block is not Ethereum's.
pub(crate) fn anvil() -> ChainConfig {
    ChainConfig {
        chain_id: 31_337,
        paris_block: 0,
        shanghai_time: Some(0),
        cancun_time: Some(0),
        prague_time: None,
        osaka_time: None,
        blob_schedule: vec![BlobFork { time: 0, target: 3, max: 6, update_fraction: 3_338_477 }],
        deposit_contract: Address::ZERO,
        bridge: false,
    }
}

/// The rules of the chain with this id, if it is one we know.
pub(crate) fn by_id(chain_id: u64) -> anyhow::Result<ChainConfig> {
    ChainConfig::preset(chain_id).with_context(|| {
        format!("chain {chain_id} is not known here: give its genesis file with --chain")
    })
}

fn config_of(path: &Path) -> anyhow::Result<ChainConfig> {
    let genesis = genesis_of(path)?;
    devnode::genesis::rules(&genesis)
        .with_context(|| format!("the chain of {} can't be proven", path.display()))
}

fn genesis_of(path: &Path) -> anyhow::Result<Genesis> {
    devnode::genesis::read(path).with_context(|| {
        format!(
            "{} is no genesis file, and none of the known chains (mainnet, holesky, hoodi, sepolia, dev, anvil)",
            path.display()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_name_is_a_file() {
        assert_eq!("hoodi".parse(), Ok(ChainArg::Hoodi));
        assert_eq!("./dev".parse(), Ok(ChainArg::File("./dev".into())));
    }

    #[test]
    fn an_unknown_chain_says_what_to_do() {
        let error = by_id(424_242).expect_err("unknown").to_string();
        assert!(error.contains("424242") && error.contains("--chain"), "{error}");
    }
}
