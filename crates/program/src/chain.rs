//! The rules of one chain: which fork is active when, and how many blobs a block may carry.
//!
//! Rules of Paris to Osaka, with blob-parameter-only forks (EIP-7892). The statement binds the
//! config's [digest](ChainConfig::digest), so a proof says under which rules it holds.

use crate::Error;
use alloc::vec::Vec;
use alloy_eips::{
    eip4844::DATA_GAS_PER_BLOB,
    eip7594::MAX_BLOBS_PER_TX_FUSAKA,
    eip7840::{BLOB_BASE_COST, BlobParams},
};
use alloy_evm::eth::spec::EthExecutorSpec;
use alloy_hardforks::{
    EthereumHardfork, EthereumHardforks, ForkCondition, holesky, hoodi, mainnet, sepolia,
};
use alloy_primitives::{Address, B256, address, keccak256};

/// Maximum of blobs per block that a config may allow: their gas fits 32 bits, the most that a parent's header may
/// have.
const MAX_BLOBS: u64 = u32::MAX as u64 / DATA_GAS_PER_BLOB;

/// The blob limits from a timestamp on (EIP-7840, EIP-7892).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "std", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "std", serde(deny_unknown_fields))]
pub struct BlobFork {
    /// Timestamp, in seconds, of the first block under these limits.
    pub time: u64,
    /// Blobs per block at which the blob fee stays as it is.
    pub target: u64,
    /// Maximum number of blobs per block.
    pub max: u64,
    /// `baseFeeUpdateFraction`: how slowly the blob fee moves.
    pub update_fraction: u64,
}

/// The rules of one chain.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "std", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "std", serde(deny_unknown_fields))]
pub struct ChainConfig {
    /// EIP-155 chain id.
    pub chain_id: u64,
    /// Number of the first proof-of-stake block. Blocks before it are refused.
    pub paris_block: u64,
    /// Timestamp of Shanghai, if scheduled.
    pub shanghai_time: Option<u64>,
    /// Timestamp of Cancun, if scheduled.
    pub cancun_time: Option<u64>,
    /// Timestamp of Prague, if scheduled.
    pub prague_time: Option<u64>,
    /// Timestamp of Osaka, if scheduled.
    pub osaka_time: Option<u64>,
    /// Blob limits, ordered by time. The first entry starts no later than Cancun.
    pub blob_schedule: Vec<BlobFork>,
    /// The contract whose logs are deposit requests (EIP-6110).
    pub deposit_contract: Address,
    /// Whether the chain has a bridge to L1. If so, its withdrawals (EIP-4895) are the bridge's deposits, and a
    /// statement binds them.
    #[cfg_attr(feature = "std", serde(default))]
    pub bridge: bool,
}

/// The limits of Cancun, Prague and mainnet's BPO forks, each from the given timestamp on.
fn blob_schedule(cancun: u64, prague: u64, bpo1: u64, bpo2: u64) -> Vec<BlobFork> {
    let entry = |time, params: BlobParams| BlobFork {
        time,
        target: params.target_blob_count,
        max: params.max_blob_count,
        update_fraction: u64::try_from(params.update_fraction)
            .expect("the constants of the EIPs fit 64 bits"),
    };
    alloc::vec![
        entry(cancun, BlobParams::cancun()),
        entry(prague, BlobParams::prague()),
        entry(bpo1, BlobParams::bpo1()),
        entry(bpo2, BlobParams::bpo2()),
    ]
}

impl ChainConfig {
    /// Ethereum mainnet.
    pub fn mainnet() -> Self {
        use mainnet::*;
        Self {
            chain_id: 1,
            paris_block: MAINNET_PARIS_BLOCK,
            shanghai_time: Some(MAINNET_SHANGHAI_TIMESTAMP),
            cancun_time: Some(MAINNET_CANCUN_TIMESTAMP),
            prague_time: Some(MAINNET_PRAGUE_TIMESTAMP),
            osaka_time: Some(MAINNET_OSAKA_TIMESTAMP),
            blob_schedule: blob_schedule(
                MAINNET_CANCUN_TIMESTAMP,
                MAINNET_PRAGUE_TIMESTAMP,
                MAINNET_BPO1_TIMESTAMP,
                MAINNET_BPO2_TIMESTAMP,
            ),
            deposit_contract: address!("00000000219ab540356cbb839cbe05303d7705fa"),
            bridge: false,
        }
    }

    /// The Sepolia test network.
    pub fn sepolia() -> Self {
        use sepolia::*;
        Self {
            chain_id: 11_155_111,
            paris_block: SEPOLIA_PARIS_BLOCK,
            shanghai_time: Some(SEPOLIA_SHANGHAI_TIMESTAMP),
            cancun_time: Some(SEPOLIA_CANCUN_TIMESTAMP),
            prague_time: Some(SEPOLIA_PRAGUE_TIMESTAMP),
            osaka_time: Some(SEPOLIA_OSAKA_TIMESTAMP),
            blob_schedule: blob_schedule(
                SEPOLIA_CANCUN_TIMESTAMP,
                SEPOLIA_PRAGUE_TIMESTAMP,
                SEPOLIA_BPO1_TIMESTAMP,
                SEPOLIA_BPO2_TIMESTAMP,
            ),
            deposit_contract: address!("7f02c3e3c98b133055b8b348b2ac625669ed295d"),
            bridge: false,
        }
    }

    /// The Holesky test network.
    pub fn holesky() -> Self {
        use holesky::*;
        Self {
            chain_id: 17_000,
            paris_block: 0,
            shanghai_time: Some(HOLESKY_SHANGHAI_TIMESTAMP),
            cancun_time: Some(HOLESKY_CANCUN_TIMESTAMP),
            prague_time: Some(HOLESKY_PRAGUE_TIMESTAMP),
            osaka_time: Some(HOLESKY_OSAKA_TIMESTAMP),
            blob_schedule: blob_schedule(
                HOLESKY_CANCUN_TIMESTAMP,
                HOLESKY_PRAGUE_TIMESTAMP,
                HOLESKY_BPO1_TIMESTAMP,
                HOLESKY_BPO2_TIMESTAMP,
            ),
            deposit_contract: address!("4242424242424242424242424242424242424242"),
            bridge: false,
        }
    }

    /// The Hoodi test network.
    pub fn hoodi() -> Self {
        use hoodi::*;
        Self {
            chain_id: 560_048,
            paris_block: 0,
            shanghai_time: Some(0),
            cancun_time: Some(0),
            prague_time: Some(HOODI_PRAGUE_TIMESTAMP),
            osaka_time: Some(HOODI_OSAKA_TIMESTAMP),
            blob_schedule: blob_schedule(
                0,
                HOODI_PRAGUE_TIMESTAMP,
                HOODI_BPO1_TIMESTAMP,
                HOODI_BPO2_TIMESTAMP,
            ),
            deposit_contract: address!("00000000219ab540356cbb839cbe05303d7705fa"),
            bridge: false,
        }
    }

    /// The embedded dev chain: chain id 1337, Osaka from the start, Prague's blob limits.
    pub fn dev() -> Self {
        Self {
            chain_id: 1337,
            paris_block: 0,
            shanghai_time: Some(0),
            cancun_time: Some(0),
            prague_time: Some(0),
            osaka_time: Some(0),
            blob_schedule: alloc::vec![BlobFork {
                time: 0,
                target: 6,
                max: 9,
                update_fraction: 5_007_716,
            }],
            deposit_contract: address!("00000000219ab540356cbb839cbe05303d7705fa"),
            bridge: false,
        }
    }

    /// The preset with this chain id, if there is one.
    pub fn preset(chain_id: u64) -> Option<Self> {
        [Self::mainnet(), Self::sepolia(), Self::holesky(), Self::hoodi(), Self::dev()]
            .into_iter()
            .find(|config| config.chain_id == chain_id)
    }

    /// Checks that the config can be executed: forks and blob limits in order, no zero divisor.
    ///
    /// # Errors
    /// [`Error::ChainConfig`] naming the rule that is broken.
    pub fn validate(&self) -> Result<(), Error> {
        let forks = [self.shanghai_time, self.cancun_time, self.prague_time, self.osaka_time];
        for pair in forks.windows(2) {
            match (pair[0], pair[1]) {
                (Some(earlier), Some(later)) if earlier <= later => {}
                (_, None) => {}
                _ => return Err(Error::ChainConfig("a fork is scheduled before its predecessor")),
            }
        }
        if self.blob_schedule.windows(2).any(|pair| pair[0].time >= pair[1].time) {
            return Err(Error::ChainConfig("the blob schedule is not in the order of time"));
        }
        if self.blob_schedule.iter().any(|b| {
            !(1..=MAX_BLOBS).contains(&b.max) || b.update_fraction == 0 || b.target > b.max
        }) {
            return Err(Error::ChainConfig("a blob limit is zero, too large, or below its target"));
        }
        match (self.cancun_time, self.blob_schedule.first()) {
            (None, _) => Ok(()),
            (Some(cancun), Some(first)) if first.time <= cancun => Ok(()),
            _ => Err(Error::ChainConfig("no blob limits are given for Cancun")),
        }
    }

    /// The blob limits of a block with this timestamp; `None` before Cancun.
    pub fn blob_params(&self, timestamp: u64) -> Option<BlobParams> {
        if !self.is_cancun_active_at_timestamp(timestamp) {
            return None;
        }
        let osaka = self.is_osaka_active_at_timestamp(timestamp);
        let entry = self.blob_schedule.iter().rev().find(|entry| entry.time <= timestamp)?;
        Some(BlobParams {
            target_blob_count: entry.target,
            max_blob_count: entry.max,
            update_fraction: entry.update_fraction.into(),
            min_blob_fee: 1,
            // EIP-7594 and EIP-7918, both part of Osaka.
            max_blobs_per_tx: if osaka { MAX_BLOBS_PER_TX_FUSAKA } else { entry.max },
            blob_base_cost: if osaka { BLOB_BASE_COST } else { 0 },
        })
    }

    /// The canonical encoding: fixed-width little-endian fields in the order of declaration,
    /// absent forks as `u64::MAX`.
    pub fn encode(&self) -> Vec<u8> {
        let time = |fork: Option<u64>| fork.unwrap_or(u64::MAX);
        let mut out = Vec::with_capacity(6 * 8 + 21 + self.blob_schedule.len() * 32);
        for word in [
            self.chain_id,
            self.paris_block,
            time(self.shanghai_time),
            time(self.cancun_time),
            time(self.prague_time),
            time(self.osaka_time),
        ] {
            out.extend_from_slice(&word.to_le_bytes());
        }
        out.extend_from_slice(self.deposit_contract.as_slice());
        out.push(u8::from(self.bridge));
        for entry in &self.blob_schedule {
            for word in [entry.time, entry.target, entry.max, entry.update_fraction] {
                out.extend_from_slice(&word.to_le_bytes());
            }
        }
        out
    }

    /// Reads [`Self::encode`]'s bytes. Every byte string is the encoding of at most one config.
    ///
    /// # Errors
    /// [`Error::ChainConfig`] if the length is wrong or [`Self::validate`] refuses the config.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        const FIXED: usize = 6 * 8 + 21;
        let (Some(fixed), Some(schedule)) = (bytes.get(..FIXED), bytes.get(FIXED..)) else {
            return Err(Error::ChainConfig("truncated"));
        };
        let word = |bytes: &[u8], index: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[index * 8..index * 8 + 8]);
            u64::from_le_bytes(word)
        };
        let time = |index| Some(word(fixed, index)).filter(|time| *time != u64::MAX);
        let entries = schedule.chunks_exact(32);
        if !entries.remainder().is_empty() {
            return Err(Error::ChainConfig("trailing bytes"));
        }
        let config = Self {
            chain_id: word(fixed, 0),
            paris_block: word(fixed, 1),
            shanghai_time: time(2),
            cancun_time: time(3),
            prague_time: time(4),
            osaka_time: time(5),
            deposit_contract: Address::from_slice(&fixed[48..68]),
            bridge: match fixed[68] {
                0 => false,
                1 => true,
                _ => return Err(Error::ChainConfig("expected 0 or 1 for the bridge")),
            },
            blob_schedule: entries
                .map(|entry| BlobFork {
                    time: word(entry, 0),
                    target: word(entry, 1),
                    max: word(entry, 2),
                    update_fraction: word(entry, 3),
                })
                .collect(),
        };
        config.validate()?;
        Ok(config)
    }

    /// Keccak-256 of [`Self::encode`]: what the statement binds.
    pub fn digest(&self) -> B256 {
        keccak256(self.encode())
    }
}

impl EthereumHardforks for ChainConfig {
    fn ethereum_fork_activation(&self, fork: EthereumHardfork) -> ForkCondition {
        let time = |time: Option<u64>| time.map_or(ForkCondition::Never, ForkCondition::Timestamp);
        match fork {
            EthereumHardfork::Shanghai => time(self.shanghai_time),
            EthereumHardfork::Cancun => time(self.cancun_time),
            EthereumHardfork::Prague => time(self.prague_time),
            EthereumHardfork::Osaka => time(self.osaka_time),
            // An irregular state change, not a rule: it happened before any block we accept.
            EthereumHardfork::Dao => ForkCondition::Never,
            EthereumHardfork::Paris => ForkCondition::Block(self.paris_block),
            fork if fork < EthereumHardfork::Paris => ForkCondition::Block(0),
            // Blob-parameter-only forks are in the blob schedule; later forks are not supported.
            _ => ForkCondition::Never,
        }
    }
}

impl EthExecutorSpec for ChainConfig {
    fn deposit_contract_address(&self) -> Option<Address> {
        Some(self.deposit_contract)
    }
}

/// Chain configs from geth-style genesis files.
#[cfg(feature = "genesis")]
mod genesis {
    use super::{BlobFork, ChainConfig};
    use crate::Error;
    use alloc::vec::Vec;
    use alloy_primitives::address;

    impl TryFrom<&alloy_genesis::ChainConfig> for ChainConfig {
        type Error = Error;

        /// Reads fork times and the blob schedule. Proof of stake starts at
        /// `mergeNetsplitBlock`, or at block 0 where that is absent.
        fn try_from(genesis: &alloy_genesis::ChainConfig) -> Result<Self, Error> {
            if genesis.amsterdam_time.is_some() || genesis.bogota_time.is_some() {
                return Err(Error::ChainConfig("forks after Osaka are not supported"));
            }
            let defaults = super::blob_schedule(0, 0, 0, 0);
            let entry = |name: &str, time: Option<u64>, default: Option<BlobFork>| {
                let time = time?;
                let given = genesis.blob_schedule.get(name).map(|params| BlobFork {
                    time,
                    target: params.target_blob_count,
                    max: params.max_blob_count,
                    update_fraction: u64::try_from(params.update_fraction).unwrap_or(u64::MAX),
                });
                Some(given.or(default.map(|entry| BlobFork { time, ..entry })).ok_or(
                    Error::ChainConfig("a blob fork is scheduled without its blobSchedule entry"),
                ))
            };
            let mut schedule: Vec<BlobFork> = Vec::new();
            for fork in [
                entry("cancun", genesis.cancun_time, Some(defaults[0])),
                entry("prague", genesis.prague_time, Some(defaults[1])),
                genesis
                    .blob_schedule
                    .contains_key("osaka")
                    .then(|| entry("osaka", genesis.osaka_time, None))
                    .flatten(),
                entry("bpo1", genesis.bpo1_time, Some(defaults[2])),
                entry("bpo2", genesis.bpo2_time, Some(defaults[3])),
                entry("bpo3", genesis.bpo3_time, None),
                entry("bpo4", genesis.bpo4_time, None),
                entry("bpo5", genesis.bpo5_time, None),
            ]
            .into_iter()
            .flatten()
            {
                let fork = fork?;
                // If forks start together, only the last one's limits ever apply.
                while schedule.last().is_some_and(|last| last.time >= fork.time) {
                    schedule.pop();
                }
                schedule.push(fork);
            }
            let config = Self {
                chain_id: genesis.chain_id,
                paris_block: genesis.merge_netsplit_block.unwrap_or(0),
                shanghai_time: genesis.shanghai_time,
                cancun_time: genesis.cancun_time,
                prague_time: genesis.prague_time,
                osaka_time: genesis.osaka_time,
                blob_schedule: schedule,
                deposit_contract: genesis
                    .deposit_contract_address
                    .unwrap_or(address!("00000000219ab540356cbb839cbe05303d7705fa")),
                bridge: genesis
                    .extra_fields
                    .get_deserialized::<bool>("bridge")
                    .transpose()
                    .map_err(|_| Error::ChainConfig("expected true or false for the key bridge"))?
                    .unwrap_or(false),
            };
            config.validate()?;
            Ok(config)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_are_valid_and_survive_their_encoding() {
        for id in [1, 11_155_111, 17_000, 560_048, 1337] {
            let config = ChainConfig::preset(id).unwrap();
            config.validate().unwrap();
            assert_eq!(ChainConfig::decode(&config.encode()).unwrap(), config);
        }
        assert!(ChainConfig::preset(2).is_none());
    }

    #[test]
    fn every_field_moves_the_digest() {
        let base = ChainConfig::mainnet();
        let digest = base.digest();
        let changes: [fn(&mut ChainConfig); 10] = [
            |c| c.chain_id += 1,
            |c| c.paris_block += 1,
            |c| c.shanghai_time = Some(1),
            |c| c.cancun_time = None,
            |c| c.prague_time = None,
            |c| c.osaka_time = None,
            |c| c.blob_schedule[0].max += 1,
            |c| c.blob_schedule.truncate(1),
            |c| c.deposit_contract = Address::ZERO,
            |c| c.bridge = true,
        ];
        for (index, change) in changes.iter().enumerate() {
            let mut config = base.clone();
            change(&mut config);
            assert_ne!(config.digest(), digest, "change {index}");
        }
    }

    #[test]
    fn configs_that_contradict_themselves_are_refused() {
        let changes: [fn(&mut ChainConfig); 7] = [
            |c| c.shanghai_time = None,
            |c| c.prague_time = Some(1),
            |c| c.blob_schedule.clear(),
            |c| c.blob_schedule[1].time = 0,
            |c| c.blob_schedule[0].update_fraction = 0,
            |c| c.blob_schedule[0].target = 100,
            |c| c.blob_schedule[0].max = MAX_BLOBS + 1,
        ];
        for (index, change) in changes.iter().enumerate() {
            let mut config = ChainConfig::mainnet();
            change(&mut config);
            assert!(ChainConfig::decode(&config.encode()).is_err(), "change {index}");
        }
        let encoded = ChainConfig::mainnet().encode();
        assert!(ChainConfig::decode(&encoded[..encoded.len() - 1]).is_err());
        assert!(ChainConfig::decode(&encoded[..10]).is_err());
        let mut bridge = encoded.clone();
        bridge[68] = 2;
        assert!(ChainConfig::decode(&bridge).is_err());
    }

    #[test]
    fn blob_limits_follow_the_schedule() {
        let config = ChainConfig::mainnet();
        let at = |time| config.blob_params(time).map(|p| (p.max_blob_count, p.max_blobs_per_tx));
        assert_eq!(at(mainnet::MAINNET_CANCUN_TIMESTAMP - 1), None);
        assert_eq!(at(mainnet::MAINNET_CANCUN_TIMESTAMP), Some((6, 6)));
        assert_eq!(at(mainnet::MAINNET_PRAGUE_TIMESTAMP), Some((9, 9)));
        assert_eq!(at(mainnet::MAINNET_OSAKA_TIMESTAMP), Some((9, 6)));
        assert_eq!(at(mainnet::MAINNET_BPO1_TIMESTAMP), Some((15, 6)));
        assert_eq!(at(mainnet::MAINNET_BPO2_TIMESTAMP), Some((21, 6)));
    }
}
