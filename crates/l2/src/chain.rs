//! Which chain's rules apply.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::Context as _;
use program::ChainConfig;

/// A chain by name, or a geth-style genesis file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChainArg {
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
            Self::File(path) => write!(f, "{}", path.display()),
        }
    }
}

impl ChainArg {
    /// The chain's rules.
    pub fn config(&self) -> anyhow::Result<ChainConfig> {
        Ok(match self {
            Self::Mainnet => ChainConfig::mainnet(),
            Self::Holesky => ChainConfig::holesky(),
            Self::Hoodi => ChainConfig::hoodi(),
            Self::Sepolia => ChainConfig::sepolia(),
            Self::Dev => ChainConfig::dev(),
            Self::File(path) => config_of(path)?,
        })
    }
}

/// The rules of the chain with this id, if it is one we know.
pub fn by_id(chain_id: u64) -> anyhow::Result<ChainConfig> {
    ChainConfig::preset(chain_id).with_context(|| {
        format!("chain {chain_id} is not known here: give its genesis file with --chain")
    })
}

fn config_of(path: &Path) -> anyhow::Result<ChainConfig> {
    let genesis = devnode::genesis::read(path)
        .context("known chains: mainnet, holesky, hoodi, sepolia, dev")?;
    ChainConfig::try_from(&genesis.config)
        .with_context(|| format!("the chain of {} can't be proven", path.display()))
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
