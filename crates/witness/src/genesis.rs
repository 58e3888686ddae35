//! A chain's rules from its genesis file.
//!
//! * A key that changes rules which the program has is refused by its name; so is one that nobody knows, since nobody
//!   knows what it changes. A key whose value is `false` or `null` changes nothing.
//! * A fork that the program does not have is no reason to refuse the blocks before it.
//! * Blobs may be off: see [`NO_BLOBS`].

use alloy_eips::eip7840::BlobParams;
use alloy_genesis::ChainConfig as GenesisConfig;
use program::{BlobFork, ChainConfig};
use std::fmt;

/// The blob limits that stand for none at all, with any update fraction: target 0 and one blob at most.
///
/// The program has no limit of 0 blobs. Under these limits it computes what a chain without blobs computes, as long as
/// no block has a blob; and no block that has one is prepared for it.
pub(crate) const NO_BLOBS: (u64, u64) = (0, 1);
/// An update fraction for chains without blobs that have none.
const ANY_FRACTION: u64 = 5_007_716;

/// Keys of a genesis file's config that change no rule of the program, beside those that are read.
const HARMLESS: [&str; 19] = [
    "ChainName",
    "blobSchedule",
    "bridge",
    "chainName",
    "comment",
    "daoForkSupport",
    "depositContractAddress",
    "description",
    "discovery",
    "eip150Hash",
    "ethash",
    "mergeForkBlock",
    "name",
    "preMergeForkBlock",
    "proofOfStake",
    "terminalBlockHash",
    "terminalBlockHashActivationEpoch",
    "terminalTotalDifficulty",
    "terminalTotalDifficultyPassed",
];

/// A fork that the program does not have. The blocks before it can be proven, also after it began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// The key of the genesis file.
    pub key: String,
    /// When it begins, in seconds since 1970.
    pub time: u64,
}

impl fmt::Display for Planned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: blocks that have its form or its rules are refused", self.key, self.time)
    }
}

/// Why a genesis file's rules cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RulesError {
    /// The key changes the rules, or nobody knows whether it does.
    #[error(
        "the key {0} of its config is not known to leave Ethereum's rules as they are: if it changes no rule, remove it"
    )]
    OtherRules(String),
    /// The chain begins with this fork, and the program does not have it.
    #[error(
        "its chain begins with the fork of the key {0}, and the program does not have its rules"
    )]
    Fork(String),
    /// The rules contradict themselves, or the program cannot have them.
    #[error(transparent)]
    Program(#[from] program::Error),
}

/// The rules of the chain with this config, and the forks that the program does not have. `now` is in seconds
/// since 1970.
///
/// # Errors
/// [`RulesError`].
pub fn genesis_rules(
    genesis: &GenesisConfig,
    now: u64,
) -> Result<(ChainConfig, Vec<Planned>), RulesError> {
    let mut config = genesis.clone();
    let mut planned = Vec::new();
    let mut known = |key: &str, time: Option<u64>| match time {
        Some(0) => Err(RulesError::Fork(key.to_owned())),
        time => {
            planned.extend(time.map(|time| Planned { key: key.to_owned(), time }));
            Ok(())
        }
    };
    known("amsterdamTime", config.amsterdam_time.take())?;
    known("bogotaTime", config.bogota_time.take())?;
    for (key, name, time) in [
        ("bpo3Time", "bpo3", &mut config.bpo3_time),
        ("bpo4Time", "bpo4", &mut config.bpo4_time),
        ("bpo5Time", "bpo5", &mut config.bpo5_time),
    ] {
        // Without its limits, the blocks before it can be proven.
        if time.is_some() && !config.blob_schedule.contains_key(name) {
            known(key, time.take())?;
        }
    }
    for (key, is_there) in
        [("clique", config.clique.is_some()), ("parlia", config.parlia.is_some())]
    {
        if is_there {
            return Err(RulesError::OtherRules(key.to_owned()));
        }
    }
    for (key, value) in genesis.extra_fields.iter() {
        if value.is_null() || value.as_bool() == Some(false) || HARMLESS.contains(&key.as_str()) {
            continue;
        }
        match value.as_u64().filter(|time| key.ends_with("Time") && *time > now) {
            Some(time) => known(key, Some(time))?,
            None => return Err(RulesError::OtherRules(key.clone())),
        }
    }
    for params in config.blob_schedule.values_mut() {
        if params.max_blob_count == 0 {
            let fraction = match params.update_fraction {
                0 => ANY_FRACTION.into(),
                fraction => fraction,
            };
            let (target_blob_count, max_blob_count) = NO_BLOBS;
            *params = BlobParams {
                target_blob_count,
                max_blob_count,
                update_fraction: fraction,
                ..*params
            };
        }
    }
    Ok((ChainConfig::try_from(&config)?, planned))
}

/// These limits, or what stands for them if they allow no blob.
pub(crate) fn limits(time: u64, target: u64, max: u64, update_fraction: u64) -> BlobFork {
    match max {
        0 => {
            let (target, max) = NO_BLOBS;
            let update_fraction = if update_fraction == 0 { ANY_FRACTION } else { update_fraction };
            BlobFork { time, target, max, update_fraction }
        }
        _ => BlobFork { time, target, max, update_fraction },
    }
}

/// Whether blobs are off in a block with this timestamp.
pub(crate) fn blobs_are_off(config: &ChainConfig, timestamp: u64) -> bool {
    let params = config.blob_params(timestamp);
    params.is_some_and(|params| (params.target_blob_count, params.max_blob_count) == NO_BLOBS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// 2026.
    const NOW: u64 = 1_780_000_000;

    fn read(more: &Value) -> Result<(ChainConfig, Vec<Planned>), RulesError> {
        let mut config = json!({
            "chainId": 1337, "mergeNetsplitBlock": 0, "shanghaiTime": 0, "cancunTime": 0,
            "pragueTime": 0, "osakaTime": 0, "terminalTotalDifficulty": 0,
            "terminalTotalDifficultyPassed": true, "ethash": {},
        });
        for (key, value) in more.as_object().unwrap() {
            config[key] = value.clone();
        }
        genesis_rules(&serde_json::from_value(config).unwrap(), NOW)
    }

    #[test]
    fn a_fork_that_is_planned_for_later_refuses_no_block_of_today() {
        let later = NOW + 1;
        for key in ["amsterdamTime", "bogotaTime", "bpo3Time", "someForkTime"] {
            let (config, planned) = read(&json!({ key: later })).unwrap();
            assert_eq!(config, ChainConfig::dev(), "{key}");
            assert_eq!(planned, [Planned { key: key.into(), time: later }]);
        }
        // Once it has begun, the blocks before it are as good as they were.
        for key in ["amsterdamTime", "bogotaTime", "bpo3Time"] {
            let (config, planned) = read(&json!({ key: NOW - 1 })).unwrap();
            assert_eq!((config, planned.len()), (ChainConfig::dev(), 1), "{key}");
        }
        for key in ["amsterdamTime", "bogotaTime"] {
            let error = read(&json!({ key: 0 })).unwrap_err();
            assert_eq!(error, RulesError::Fork(key.into()));
            assert!(error.to_string().contains(key));
        }
        // What nobody knows may have changed the rules since.
        assert!(matches!(read(&json!({ "someForkTime": NOW })), Err(RulesError::OtherRules(_))));
    }

    #[test]
    fn a_key_that_changes_rules_is_refused_by_its_name() {
        for (key, value) in [
            ("optimism", json!({ "eip1559Elasticity": 6 })),
            ("zeroBaseFee", json!(true)),
            ("contractSizeLimit", json!(100_000)),
            ("clique", json!({ "period": 5, "epoch": 30_000 })),
            ("qbft", json!({ "blockperiodseconds": 2 })),
            ("ibft2", json!({})),
            ("isthmusTime", json!(0)),
            ("whatever", json!("1")),
        ] {
            let error = read(&json!({ key: value })).unwrap_err();
            assert!(error.to_string().contains(&format!("key {key} ")), "{error}");
        }
        // What is off changes nothing.
        for key in ["zeroBaseFee", "optimism", "enableVerkleAtGenesis"] {
            for off in [json!(false), json!(null)] {
                assert_eq!(read(&json!({ key: off })).unwrap().0, ChainConfig::dev());
            }
        }
    }

    #[test]
    fn blobs_may_be_off() {
        let off = json!({ "target": 0, "max": 0, "baseFeeUpdateFraction": 5_007_716 });
        for entry in [off, json!({ "target": 0, "max": 0, "baseFeeUpdateFraction": 0 })] {
            let schedule = json!({ "blobSchedule": { "cancun": entry, "prague": entry } });
            let (config, _) = read(&schedule).unwrap();
            assert!(blobs_are_off(&config, NOW));
            assert!(!blobs_are_off(&ChainConfig::dev(), NOW));
        }
    }
}
