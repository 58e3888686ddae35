//! The first block: from a geth-style genesis file, or the dev chain's own.

use crate::accounts;
use alloy_consensus::{EMPTY_ROOT_HASH, Header};
use alloy_eips::{eip2935, eip4788, eip7002, eip7251, eip7685::EMPTY_REQUESTS_HASH};
use alloy_genesis::{ChainConfig, Genesis, GenesisAccount};
use alloy_primitives::{Address, B256, Bytes, U256, address, bytes};
use program::consensus::{MAX_GAS_LIMIT, MIN_GAS_LIMIT};
use serde_json::Value;
use std::{
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

/// Chain id of the dev chain.
pub const DEV_CHAIN_ID: u64 = 1337;
/// Gas limit of the dev chain's blocks.
pub const DEV_GAS_LIMIT: u64 = 30_000_000;
/// Base fee of the dev chain's first block, in wei per gas.
pub const DEV_BASE_FEE: u128 = 1_000_000_000;
/// Timestamp of the dev chain's genesis: 2023-11-14 22:13:20 UTC.
pub const DEV_TIMESTAMP: u64 = 1_700_000_000;

/// The deterministic deployment proxy that Foundry, Hardhat and Safe expect on every chain.
const DEPLOYER: Address = address!("4e59b44847b379578588920cA78FbF26c0B4956C");
static DEPLOYER_CODE: Bytes = bytes!(
    "7fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffe03601600081602082378035828234f58015156039578182fd5b8082525050506014600cf3"
);

/// Why a genesis cannot start a chain.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GenesisError {
    /// The file could not be read.
    #[error("failed to read the genesis file {}", path.display())]
    Unreadable {
        /// The path of the file.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// The file is not a genesis file.
    #[error("genesis file {} is not a geth-style genesis", path.display())]
    Malformed {
        /// The path of the file.
        path: PathBuf,
        /// What is wrong, and where.
        source: serde_json::Error,
    },
    /// The genesis asks for rules that the program does not prove.
    #[error("genesis asks for rules that cannot be proven: {0}")]
    Unprovable(String),
    /// Its config has keys or forks that the program does not have.
    #[error("genesis cannot be used: {0}")]
    Rules(Box<witness::RulesError>),
    /// A contract that the fork's rules call in each block is missing.
    #[error("genesis lacks the system contract {0} ({1}): add it to `alloc` as other networks do")]
    NoSystemContract(Address, &'static str),
    /// No block of the genesis's gas limit can be proven.
    #[error(
        "genesis has the gasLimit {limit}: the program takes blocks of {MIN_GAS_LIMIT} to {MAX_GAS_LIMIT} gas"
    )]
    GasLimit {
        /// The limit, in gas.
        limit: u64,
    },
    /// The program would refuse the block after the genesis, for something that it takes from there.
    #[error("the program would refuse the first block after this genesis")]
    Refused(#[source] Box<program::Error>),
    /// The genesis is not block 0.
    #[error("genesis has number {0}: only chains which start at block 0 can be started")]
    NotZero(u64),
}

/// Reads a geth-style genesis file. Storage keys and values may be shorter than 32 bytes, as geth allows.
///
/// # Errors
/// [`GenesisError::Unreadable`] or [`GenesisError::Malformed`].
pub fn read(path: &Path) -> Result<Genesis, GenesisError> {
    let text = std::fs::read(path)
        .map_err(|source| GenesisError::Unreadable { path: path.into(), source })?;
    let malformed = |source| GenesisError::Malformed { path: path.into(), source };
    // Only if need be, because it forgets in which line something is.
    serde_json::from_slice(&text).or_else(|error| {
        let mut file: Value = serde_json::from_slice(&text).map_err(malformed)?;
        match fill_words(&mut file) {
            true => serde_json::from_value(file).map_err(malformed),
            false => Err(malformed(error)),
        }
    })
}

/// Fills storage keys and values up to 32 bytes. Returns whether there was anything to fill.
fn fill_words(file: &mut Value) -> bool {
    let full = |word: &str| {
        let digits = word.strip_prefix("0x").unwrap_or(word);
        let fits = digits.len() <= 64 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        if fits { format!("0x{digits:0>64}") } else { word.to_owned() }
    };
    let mut changed = false;
    let accounts = file["alloc"].as_object_mut().into_iter().flat_map(|alloc| alloc.values_mut());
    for account in accounts {
        let Some(storage) = account.get_mut("storage").and_then(Value::as_object_mut) else {
            continue;
        };
        *storage = std::mem::take(storage)
            .into_iter()
            .map(|(key, value)| {
                let value = value.as_str().map(|value| full(value).into()).unwrap_or(value);
                (full(&key), value)
            })
            .collect();
        changed = true;
    }
    changed
}

/// The rules of a genesis file, at this hour: see [`witness::genesis_rules`].
///
/// # Errors
/// [`GenesisError::Rules`].
pub fn rules(genesis: &Genesis) -> Result<program::ChainConfig, GenesisError> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
    let rules = witness::genesis_rules(&genesis.config, now);
    let (config, planned) = rules.map_err(|error| GenesisError::Rules(error.into()))?;
    for fork in planned {
        tracing::info!(%fork, "the chain has a fork that the program does not have");
    }
    Ok(config)
}

/// The dev chain's genesis: every fork up to Osaka from the first block on, the system contracts,
/// the deterministic deployment proxy, and [`accounts`] with 10,000 ETH each.
pub fn dev() -> Genesis {
    let contracts = system_contracts()
        .map(|(address, code, _)| (address, code))
        .into_iter()
        .chain([(DEPLOYER, DEPLOYER_CODE.clone())])
        .map(|(address, code)| {
            let account = GenesisAccount { nonce: Some(1), code: Some(code), ..Default::default() };
            (address, account)
        });
    let people = accounts::addresses().map(|address| {
        (address, GenesisAccount { balance: accounts::BALANCE, ..Default::default() })
    });
    Genesis {
        config: dev_config(),
        timestamp: DEV_TIMESTAMP,
        gas_limit: DEV_GAS_LIMIT,
        base_fee_per_gas: Some(DEV_BASE_FEE),
        alloc: contracts.chain(people).collect(),
        ..Default::default()
    }
}

fn dev_config() -> ChainConfig {
    let zero = Some(0);
    ChainConfig {
        chain_id: DEV_CHAIN_ID,
        homestead_block: zero,
        eip150_block: zero,
        eip155_block: zero,
        eip158_block: zero,
        byzantium_block: zero,
        constantinople_block: zero,
        petersburg_block: zero,
        istanbul_block: zero,
        muir_glacier_block: zero,
        berlin_block: zero,
        london_block: zero,
        arrow_glacier_block: zero,
        gray_glacier_block: zero,
        merge_netsplit_block: zero,
        shanghai_time: zero,
        cancun_time: zero,
        prague_time: zero,
        osaka_time: zero,
        terminal_total_difficulty: Some(U256::ZERO),
        terminal_total_difficulty_passed: true,
        ..Default::default()
    }
}

/// The contracts that the rules of Cancun and Prague call in each block: address, code, name.
fn system_contracts() -> [(Address, Bytes, &'static str); 4] {
    [
        (
            eip4788::BEACON_ROOTS_ADDRESS,
            eip4788::BEACON_ROOTS_CODE.clone(),
            "EIP-4788 beacon roots",
        ),
        (
            eip2935::HISTORY_STORAGE_ADDRESS,
            eip2935::HISTORY_STORAGE_CODE.clone(),
            "EIP-2935 block hashes",
        ),
        (
            eip7002::WITHDRAWAL_REQUEST_PREDEPLOY_ADDRESS,
            eip7002::WITHDRAWAL_REQUEST_PREDEPLOY_CODE.clone(),
            "EIP-7002 withdrawal requests",
        ),
        (
            eip7251::CONSOLIDATION_REQUEST_PREDEPLOY_ADDRESS,
            eip7251::CONSOLIDATION_REQUEST_PREDEPLOY_CODE.clone(),
            "EIP-7251 consolidation requests",
        ),
    ]
}

/// Refuses a genesis whose second block could not be made.
pub(crate) fn check(genesis: &Genesis) -> Result<(), GenesisError> {
    if let Some(number) = genesis.number.filter(|number| *number != 0) {
        return Err(GenesisError::NotZero(number));
    }
    if !(MIN_GAS_LIMIT..=MAX_GAS_LIMIT).contains(&genesis.gas_limit) {
        return Err(GenesisError::GasLimit { limit: genesis.gas_limit });
    }
    if genesis.config.prague_time.is_some() {
        for (address, _, name) in system_contracts() {
            if genesis.alloc.get(&address).and_then(GenesisAccount::non_empty_code).is_none() {
                return Err(GenesisError::NoSystemContract(address, name));
            }
        }
    }
    Ok(())
}

/// The header of block 0 over the state `state_root`.
pub(crate) fn header(genesis: &Genesis, state_root: B256) -> Header {
    let at = |time: Option<u64>| time.is_some_and(|time| time <= genesis.timestamp);
    let (shanghai, cancun) = (at(genesis.config.shanghai_time), at(genesis.config.cancun_time));
    Header {
        parent_hash: genesis.parent_hash.unwrap_or_default(),
        beneficiary: genesis.coinbase,
        state_root,
        difficulty: genesis.difficulty,
        gas_limit: genesis.gas_limit,
        timestamp: genesis.timestamp,
        extra_data: genesis.extra_data.clone(),
        mix_hash: genesis.mix_hash,
        nonce: genesis.nonce.into(),
        base_fee_per_gas: Some(
            genesis.base_fee_per_gas.unwrap_or(DEV_BASE_FEE).try_into().unwrap_or(u64::MAX),
        ),
        withdrawals_root: shanghai.then_some(EMPTY_ROOT_HASH),
        blob_gas_used: cancun.then(|| genesis.blob_gas_used.unwrap_or_default()),
        excess_blob_gas: cancun.then(|| genesis.excess_blob_gas.unwrap_or_default()),
        parent_beacon_block_root: cancun.then_some(B256::ZERO),
        requests_hash: at(genesis.config.prague_time).then_some(EMPTY_REQUESTS_HASH),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dev_genesis_survives_its_own_file_format() {
        let text = serde_json::to_string(&dev()).unwrap();
        let back: Genesis = serde_json::from_str(&text).unwrap();
        assert_eq!(header(&back, B256::ZERO), header(&dev(), B256::ZERO));
        assert_eq!(back.alloc, dev().alloc);
        assert_eq!(back.config.osaka_time, Some(0));
    }

    #[test]
    fn a_genesis_without_a_system_contract_is_refused_by_name() {
        let mut genesis = dev();
        genesis.alloc.remove(&eip7002::WITHDRAWAL_REQUEST_PREDEPLOY_ADDRESS);
        let error = check(&genesis).unwrap_err().to_string();
        assert!(error.contains("EIP-7002") && error.contains("alloc"), "{error}");
    }

    #[test]
    fn a_gas_limit_that_no_block_may_have_is_refused_by_name() {
        for limit in [0, MIN_GAS_LIMIT - 1, MAX_GAS_LIMIT + 1, u64::MAX] {
            let error = check(&Genesis { gas_limit: limit, ..dev() }).unwrap_err().to_string();
            assert!(error.contains(&format!("gasLimit {limit}")), "{error}");
        }
        for limit in [MIN_GAS_LIMIT, MAX_GAS_LIMIT] {
            check(&Genesis { gas_limit: limit, ..dev() }).unwrap();
        }
    }

    #[test]
    fn short_storage_keys_and_values_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("genesis.json");
        let mut file = serde_json::to_value(dev()).unwrap();
        let address = Address::with_last_byte(0xfd);
        let mut with = |storage: Value| {
            file["alloc"][address.to_string()] =
                serde_json::json!({ "balance": "0x1", "storage": storage });
            std::fs::write(&path, file.to_string()).unwrap();
            read(&path)
        };
        let storage =
            serde_json::json!({ "0x0": "0x70997970c51812dc3a010c7d01b50e0d17dc79c8", "1a": "0x5" });
        let genesis = with(storage).unwrap();
        let storage = genesis.alloc[&address].storage.clone().unwrap();
        let word = |number: u64| B256::from(U256::from(number));
        assert_eq!(storage[&word(0x1a)], word(5));
        assert!(storage[&word(0)].ends_with(&[0x79, 0xc8]));
        for broken in ["0xnothing", &format!("0x{}", "1".repeat(65))] {
            let error = with(serde_json::json!({ broken: "0x5" })).unwrap_err();
            assert!(matches!(error, GenesisError::Malformed { .. }), "{broken}");
        }
    }

    #[test]
    fn a_missing_or_broken_file_is_named() {
        let error = read(Path::new("/nonexistent/genesis.json")).unwrap_err().to_string();
        assert!(error.contains("/nonexistent/genesis.json"), "{error}");
        let path = std::env::temp_dir().join(format!("genesis-{}.json", std::process::id()));
        std::fs::write(&path, "{\"gasLimit\": \"many\"}").unwrap();
        let error = read(&path).unwrap_err();
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(error, GenesisError::Malformed { .. }), "{error}");
    }
}
