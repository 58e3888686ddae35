//! The format of execution-spec-tests' `blockchain_tests`, and the rules that each network stands for.

use crate::source::{File, SourceError};
use alloy_eips::eip7840::BlobParams;
use alloy_genesis::{ChainConfig as GenesisConfig, GenesisAccount};
use alloy_primitives::{Address, B256, Bytes, U64, U256};
use program::ChainConfig;
use serde::Deserialize;
use std::collections::BTreeMap;

/// One test: a genesis and blocks, some of which must be refused.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Fixture {
    /// Name of a fork, or of a transition between two.
    pub network: String,
    /// Chain id and blob limits.
    #[serde(default)]
    pub config: Config,
    /// The genesis block.
    #[serde(rename = "genesisRLP")]
    pub genesis_rlp: Bytes,
    /// The state of the genesis block.
    pub pre: BTreeMap<Address, GenesisAccount>,
    /// The blocks, in the order in which a node sees them.
    pub blocks: Vec<Block>,
    /// Hash of the last valid block.
    #[serde(rename = "lastblockhash")]
    pub last_block_hash: B256,
}

/// A block of a test.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Block {
    /// The block.
    pub rlp: Bytes,
    /// If the block must be refused, the names of the accepted exceptions, separated by `|`.
    pub expect_exception: Option<String>,
    /// The header of a valid block.
    pub block_header: Option<Header>,
}

/// What identifies a header that the fixture spells out.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Header {
    /// The block's hash.
    pub hash: B256,
}

/// What a fixture says about its chain.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Config {
    /// Chain id; 1 if it is absent.
    #[serde(default)]
    chainid: Option<U64>,
    /// Blob limits by fork.
    #[serde(default)]
    blob_schedule: BTreeMap<String, BlobLimits>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct BlobLimits {
    target: U64,
    max: U64,
    base_fee_update_fraction: U256,
}

/// Reads the tests of one file, in the order of their names.
///
/// # Errors
/// [`SourceError::Malformed`].
pub fn parse(file: &File) -> Result<BTreeMap<String, Fixture>, SourceError> {
    serde_json::from_slice(&file.json)
        .map_err(|source| SourceError::Malformed { path: file.name.clone(), source })
}

/// The forks from the merge on, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names are Ethereum's own")]
pub enum Fork {
    Paris,
    Shanghai,
    Cancun,
    Prague,
    Osaka,
    Bpo1,
    Bpo2,
    Bpo3,
    Bpo4,
    Bpo5,
}

impl Fork {
    fn parse(name: &str) -> Result<Self, NotRun> {
        Ok(match name {
            "Frontier" | "Homestead" | "EIP150" | "TangerineWhistle" | "EIP158"
            | "SpuriousDragon" | "Byzantium" | "Constantinople" | "ConstantinopleFix"
            | "Petersburg" | "Istanbul" | "MuirGlacier" | "Berlin" | "London" | "ArrowGlacier"
            | "GrayGlacier" => return Err(NotRun::BeforeTheMerge),
            "Merge" | "Paris" => Self::Paris,
            "Shanghai" => Self::Shanghai,
            "Cancun" => Self::Cancun,
            "Prague" => Self::Prague,
            "Osaka" => Self::Osaka,
            "BPO1" => Self::Bpo1,
            "BPO2" => Self::Bpo2,
            "BPO3" => Self::Bpo3,
            "BPO4" => Self::Bpo4,
            "BPO5" => Self::Bpo5,
            "Amsterdam" => return Err(NotRun::NotSupported),
            _ => return Err(NotRun::Unknown),
        })
    }
}

/// Why the tests of a network are not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum NotRun {
    /// The program proves proof-of-stake blocks only.
    #[error("before the merge")]
    BeforeTheMerge,
    /// The program does not have the fork's rules.
    #[error("rules that the program does not have yet")]
    NotSupported,
    /// We do not know this network, which is our fault and not the test's.
    #[error("unknown network")]
    Unknown,
}

/// The forks that a test's chain passes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// The fork of the genesis block.
    first: Fork,
    /// The fork that comes later, and when, in seconds.
    next: Option<(Fork, u64)>,
}

impl Network {
    /// Reads a name such as `Prague` or `PragueToOsakaAtTime15k`.
    ///
    /// # Errors
    /// [`NotRun`] if the program cannot run its tests.
    pub fn parse(name: &str) -> Result<Self, NotRun> {
        let Some((first, rest)) = name.split_once("To") else {
            return Ok(Self { first: Fork::parse(name)?, next: None });
        };
        let first = Fork::parse(first)?;
        let (next, time) = rest.split_once("AtTime").ok_or(NotRun::Unknown)?;
        let time = match time.strip_suffix('k') {
            Some(thousands) => thousands.parse::<u64>().map(|time| time * 1000),
            None => time.parse(),
        };
        Ok(Self { first, next: Some((Fork::parse(next)?, time.map_err(|_| NotRun::Unknown)?)) })
    }

    /// When the fork starts, in seconds, if it does.
    fn time(&self, fork: Fork) -> Option<u64> {
        match self.next {
            _ if fork <= self.first => Some(0),
            Some((next, time)) if fork <= next => Some(time),
            _ => None,
        }
    }

    /// The chain config of a test on this network.
    ///
    /// # Errors
    /// [`program::Error::ChainConfig`].
    pub fn config(&self, config: &Config) -> Result<ChainConfig, program::Error> {
        let limits = |limits: &BlobLimits| BlobParams {
            target_blob_count: limits.target.to(),
            max_blob_count: limits.max.to(),
            update_fraction: limits.base_fee_update_fraction.saturating_to(),
            ..BlobParams::osaka()
        };
        let schedule = config.blob_schedule.iter();
        ChainConfig::try_from(&GenesisConfig {
            chain_id: config.chainid.map_or(1, |id| id.to()),
            merge_netsplit_block: Some(0),
            shanghai_time: self.time(Fork::Shanghai),
            cancun_time: self.time(Fork::Cancun),
            prague_time: self.time(Fork::Prague),
            osaka_time: self.time(Fork::Osaka),
            bpo1_time: self.time(Fork::Bpo1),
            bpo2_time: self.time(Fork::Bpo2),
            bpo3_time: self.time(Fork::Bpo3),
            bpo4_time: self.time(Fork::Bpo4),
            bpo5_time: self.time(Fork::Bpo5),
            blob_schedule: schedule
                .map(|(fork, entry)| (fork.to_lowercase(), limits(entry)))
                .collect(),
            ..Default::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_read_by_name() {
        let network = |name| Network::parse(name);
        assert_eq!(network("Paris"), Ok(Network { first: Fork::Paris, next: None }));
        let osaka = Network { first: Fork::Prague, next: Some((Fork::Osaka, 15_000)) };
        assert_eq!(network("PragueToOsakaAtTime15k"), Ok(osaka));
        assert_eq!(network("ArrowGlacierToParisAtDiffC0000"), Err(NotRun::BeforeTheMerge));
        assert_eq!(network("Frontier"), Err(NotRun::BeforeTheMerge));
        assert_eq!(network("Amsterdam"), Err(NotRun::NotSupported));
        for unknown in ["", "Atlantis", "PragueToOsaka", "PragueToOsakaAtTimeSoon"] {
            assert_eq!(network(unknown), Err(NotRun::Unknown), "{unknown}");
        }
    }

    #[test]
    fn a_transition_has_the_limits_of_both_forks() {
        let network = Network::parse("CancunToPragueAtTime15k").unwrap();
        let config = network.config(&Config::default()).unwrap();
        let most = |time| config.blob_params(time).unwrap().max_blob_count;
        assert_eq!((most(14_999), most(15_000)), (6, 9));
        assert_eq!(config.osaka_time, None);
    }
}
