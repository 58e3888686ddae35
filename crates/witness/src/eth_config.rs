//! A chain's rules as its node reports them: `eth_config` (EIP-7910).
//!
//! * The node reports the active fork, the next one and the last one it knows, but no earlier ones. So the config is valid
//!   from the active fork on, and refuses older blocks.
//! * What the program does not know of the active fork (a precompile, a system contract, a system contract at another
//!   address) is refused, not left out. A fork to come that it does not know is: its blocks cannot be proven, those before
//!   it can.
//! * What lies before the active fork is of no interest; some nodes report it as the last one.

use crate::{
    Error, NodeOptions,
    genesis::limits,
    rpc::{Failure, Rpc},
};
use alloy_primitives::{Address, U64, address};
use program::ChainConfig;
use serde::Deserialize;
use serde_json::json;
use std::collections::BTreeMap;

#[derive(Debug, Deserialize)]
struct Config {
    current: Fork,
    next: Option<Fork>,
    last: Option<Fork>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Fork {
    activation_time: u64,
    blob_schedule: Option<Blobs>,
    chain_id: U64,
    #[serde(default)]
    precompiles: BTreeMap<String, Address>,
    #[serde(default)]
    system_contracts: BTreeMap<String, Address>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Blobs {
    base_fee_update_fraction: u64,
    max: u64,
    target: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Shanghai,
    Cancun,
    Prague,
    Osaka,
}

/// What the program knows, and since when.
const KNOWN: [(&str, Address, Level); 23] = [
    ("ECREC", address!("0000000000000000000000000000000000000001"), Level::Shanghai),
    ("SHA256", address!("0000000000000000000000000000000000000002"), Level::Shanghai),
    ("RIPEMD160", address!("0000000000000000000000000000000000000003"), Level::Shanghai),
    ("ID", address!("0000000000000000000000000000000000000004"), Level::Shanghai),
    ("MODEXP", address!("0000000000000000000000000000000000000005"), Level::Shanghai),
    ("BN254_ADD", address!("0000000000000000000000000000000000000006"), Level::Shanghai),
    ("BN254_MUL", address!("0000000000000000000000000000000000000007"), Level::Shanghai),
    ("BN254_PAIRING", address!("0000000000000000000000000000000000000008"), Level::Shanghai),
    ("BLAKE2F", address!("0000000000000000000000000000000000000009"), Level::Shanghai),
    ("KZG_POINT_EVALUATION", address!("000000000000000000000000000000000000000a"), Level::Cancun),
    ("BLS12_G1ADD", address!("000000000000000000000000000000000000000b"), Level::Prague),
    ("BLS12_G1MSM", address!("000000000000000000000000000000000000000c"), Level::Prague),
    ("BLS12_G2ADD", address!("000000000000000000000000000000000000000d"), Level::Prague),
    ("BLS12_G2MSM", address!("000000000000000000000000000000000000000e"), Level::Prague),
    ("BLS12_PAIRING_CHECK", address!("000000000000000000000000000000000000000f"), Level::Prague),
    ("BLS12_MAP_FP_TO_G1", address!("0000000000000000000000000000000000000010"), Level::Prague),
    ("BLS12_MAP_FP2_TO_G2", address!("0000000000000000000000000000000000000011"), Level::Prague),
    ("P256VERIFY", address!("0000000000000000000000000000000000000100"), Level::Osaka),
    ("BEACON_ROOTS_ADDRESS", address!("000F3df6D732807Ef1319fB7B8bB8522d0Beac02"), Level::Cancun),
    (
        "HISTORY_STORAGE_ADDRESS",
        address!("0000F90827F1C53a10cb7A02335B175320002935"),
        Level::Prague,
    ),
    (
        "WITHDRAWAL_REQUEST_PREDEPLOY_ADDRESS",
        address!("00000961Ef480Eb55e80D19ad83579A64c007002"),
        Level::Prague,
    ),
    (
        "CONSOLIDATION_REQUEST_PREDEPLOY_ADDRESS",
        address!("0000BBdDc7CE488642fb579F8B00f3a590007251"),
        Level::Prague,
    ),
    // Any address: the address is part of a chain's rules.
    ("DEPOSIT_CONTRACT_ADDRESS", Address::ZERO, Level::Prague),
];

/// The rules of the chain that the node at `url` follows, as the node reports them.
///
/// # Errors
/// [`Error::Url`], [`Error::Unreachable`], [`Error::Record`]; [`Error::NoConfig`] if the node does not report its rules, or reports rules
/// that the program does not have.
pub async fn chain_config(url: &str, options: &NodeOptions) -> Result<ChainConfig, Error> {
    let rpc = Rpc::new(url, options)?;
    let refused = |reason: String| Error::NoConfig { node: rpc.name(), reason };
    let config: Config = match rpc.request("eth_config", json!([])).await {
        Ok(config) => config,
        Err(Failure::NoSuchMethod) => return Err(refused("it has no eth_config".into())),
        Err(Failure::Other(error)) => return Err(error),
    };
    rules(&config).map_err(refused)
}

fn rules(told: &Config) -> Result<ChainConfig, String> {
    let first = told.current.activation_time;
    let mut config = ChainConfig {
        chain_id: told.current.chain_id.to(),
        paris_block: 0,
        shanghai_time: Some(first),
        cancun_time: None,
        prague_time: None,
        osaka_time: None,
        blob_schedule: Vec::new(),
        deposit_contract: Address::ZERO,
        bridge: false,
    };
    let mut newest = None;
    for fork in [Some(&told.current), told.next.as_ref(), told.last.as_ref()].into_iter().flatten()
    {
        let time = fork.activation_time;
        // The next fork is also the last one, or the last one is over.
        if newest.is_some_and(|newest| time <= newest) {
            continue;
        }
        let level = match (level(fork), newest) {
            (Ok(level), _) => level,
            (Err(reason), None) => return Err(reason),
            (Err(reason), Some(_)) => {
                tracing::info!(
                    time,
                    reason,
                    "a fork is planned that the program does not know: no block from then on can be proven"
                );
                break;
            }
        };
        newest = Some(time);
        for (at, slot) in [
            (Level::Cancun, &mut config.cancun_time),
            (Level::Prague, &mut config.prague_time),
            (Level::Osaka, &mut config.osaka_time),
        ] {
            if level >= at {
                slot.get_or_insert(time);
            }
        }
        if let Some(contract) = fork.system_contracts.get("DEPOSIT_CONTRACT_ADDRESS") {
            config.deposit_contract = *contract;
        }
        if let Some(blobs) = &fork.blob_schedule {
            let Blobs { target, max, base_fee_update_fraction } = *blobs;
            config.blob_schedule.push(limits(time, target, max, base_fee_update_fraction));
        }
    }
    config.validate().map_err(|error| error.to_string())?;
    Ok(config)
}

/// Which fork has these precompiles and system contracts, exactly.
fn level(fork: &Fork) -> Result<Level, String> {
    let mut found = Level::Shanghai;
    for (name, address) in fork.precompiles.iter().chain(&fork.system_contracts) {
        let known = KNOWN.iter().find(|(known, ..)| known == name);
        let Some((_, expected, since)) = known else {
            return Err(format!("it has {name}, which the program does not know"));
        };
        if *expected != *address && *name != "DEPOSIT_CONTRACT_ADDRESS" {
            return Err(format!("it has {name} at {address}, and the program at {expected}"));
        }
        found = found.max(*since);
    }
    let missing = KNOWN.iter().find(|(name, _, since)| {
        // Not every chain takes deposits.
        *since <= found
            && *name != "DEPOSIT_CONTRACT_ADDRESS"
            && !fork.precompiles.contains_key(*name)
            && !fork.system_contracts.contains_key(*name)
    });
    match missing {
        Some((name, ..)) => Err(format!("it lacks {name}, which the program has")),
        None => Ok(found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn fork(time: u64, level: Level, max: u64) -> Value {
        let named = |system: bool| -> BTreeMap<&str, Address> {
            KNOWN
                .into_iter()
                .filter(|(name, _, since)| *since <= level && name.ends_with("ADDRESS") == system)
                .map(|(name, address, _)| (name, address))
                .collect()
        };
        json!({
            "activationTime": time,
            "blobSchedule": { "baseFeeUpdateFraction": 5_007_716, "max": max, "target": 6 },
            "chainId": "0x539",
            "forkId": "0x00000000",
            "precompiles": named(false),
            "systemContracts": named(true),
        })
    }

    fn told(config: Value) -> Result<ChainConfig, String> {
        rules(&serde_json::from_value(config).unwrap())
    }

    #[test]
    fn the_dev_chain_is_recognised() {
        let mut osaka = fork(0, Level::Osaka, 9);
        let deposit = ChainConfig::dev().deposit_contract;
        osaka["systemContracts"]["DEPOSIT_CONTRACT_ADDRESS"] = json!(deposit);
        let config = told(json!({ "current": osaka, "next": null, "last": null }));
        assert_eq!(config, Ok(ChainConfig::dev()));
    }

    #[test]
    fn forks_to_come_are_scheduled() {
        let (now, next, last) =
            (fork(5, Level::Prague, 9), fork(7, Level::Osaka, 9), fork(9, Level::Osaka, 15));
        let config = told(json!({ "current": now, "next": next, "last": last })).unwrap();
        let times = (config.shanghai_time, config.cancun_time, config.prague_time);
        assert_eq!(times, (Some(5), Some(5), Some(5)));
        assert_eq!(config.osaka_time, Some(7));
        let blobs: Vec<_> = config.blob_schedule.iter().map(|b| (b.time, b.max)).collect();
        assert_eq!(blobs, [(5, 9), (7, 9), (9, 15)]);
    }

    #[test]
    fn what_is_over_and_what_is_not_known_yet_refuse_nothing() {
        let (now, before) = (fork(540, Level::Osaka, 21), fork(510, Level::Osaka, 15));
        let alone = told(json!({ "current": now, "next": null, "last": null })).unwrap();
        assert_eq!(told(json!({ "current": now, "next": null, "last": before })).unwrap(), alone);
        assert_eq!(told(json!({ "current": now, "next": null, "last": now })).unwrap(), alone);
        let mut strange = fork(900, Level::Osaka, 21);
        strange["precompiles"]["FALCON"] = json!(Address::with_last_byte(0x20));
        let planned = json!({ "current": now, "next": strange, "last": strange });
        assert_eq!(told(planned).unwrap(), alone);
    }

    #[test]
    fn blobs_may_be_off() {
        let mut off = fork(0, Level::Osaka, 0);
        off["blobSchedule"]["target"] = json!(0);
        let config = told(json!({ "current": off, "next": null, "last": null })).unwrap();
        assert!(crate::genesis::blobs_are_off(&config, 1));
    }

    #[test]
    fn rules_that_the_program_does_not_have_are_refused_by_name() {
        let mut more = fork(0, Level::Osaka, 9);
        more["precompiles"]["FALCON"] = json!(Address::with_last_byte(0x20));
        let mut less = fork(0, Level::Prague, 9);
        less["precompiles"].as_object_mut().unwrap().remove("BLS12_G1MSM");
        let mut moved = fork(0, Level::Cancun, 9);
        moved["systemContracts"]["BEACON_ROOTS_ADDRESS"] = json!(Address::with_last_byte(0x20));
        for (fork, name) in
            [(more, "FALCON"), (less, "BLS12_G1MSM"), (moved, "BEACON_ROOTS_ADDRESS")]
        {
            let error = told(json!({ "current": fork })).unwrap_err();
            assert!(error.contains(name), "{error}");
        }
    }
}
