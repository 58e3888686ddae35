//! contracts/src/Statement.sol, run in the EVM: a contract reads statements and chains deposits as the program does.

use alloy_eips::eip4895::Withdrawal;
use alloy_genesis::GenesisAccount;
use alloy_primitives::{Address, B256, Bytes, address, keccak256};
use alloy_rpc_types_eth::TransactionRequest;
use alloy_sol_types::{SolCall, SolValue, sol};
use devnode::{CallError, Chain, genesis};
use program::{
    Statement,
    statement::{self, DepositsChain},
};
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

sol! {
    struct Deposit {
        uint64 index;
        uint64 validatorIndex;
        address account;
        uint64 amountGwei;
    }

    function decode(bytes calldata publicValues) external pure returns (bytes32[14] memory words);
    function deposits(bytes32 start, Deposit[] memory consumed) external pure returns (bytes32 link, bytes32 both);
    function golden() external pure returns (bytes32[14] memory words, bytes32 statementDigest);
    function goldenDeposits()
        external
        pure
        returns (bytes32 start, Deposit[] memory consumed, bytes32 none, bytes32 link, bytes32 both);
    function holds() external pure returns (bool);
}

const CONTRACT: Address = address!("00000000000000000000000000000000000000c0");

/// What `make contracts-write` writes.
#[derive(Deserialize)]
struct Artifact {
    source_keccak256: BTreeMap<PathBuf, B256>,
    #[serde(rename = "deployedBytecode")]
    code: Bytes,
}

fn contracts() -> PathBuf {
    let folder = std::env::var_os("CARGO_MANIFEST_DIR").unwrap();
    Path::new(&folder).join("../../contracts")
}

fn artifact(path: &Path) -> Artifact {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// A chain that has the contract.
struct L1(Chain);

impl L1 {
    fn new() -> Self {
        let mut genesis = genesis::dev();
        let code = artifact(&contracts().join("artifacts/StatementVectors.json")).code;
        let account = GenesisAccount { code: Some(code), ..GenesisAccount::default() };
        genesis.alloc.insert(CONTRACT, account);
        Self(Chain::new(&genesis).unwrap())
    }

    fn ask<C: SolCall>(&self, call: &C) -> Result<C::Return, CallError> {
        let request = TransactionRequest::default().to(CONTRACT).input(call.abi_encode().into());
        let output = self.0.call(self.0.block(0).unwrap(), request, None)?;
        Ok(C::abi_decode_returns_validate(&output).unwrap())
    }

    /// The statement as the contract reads it and writes it back.
    fn decode(&self, public_values: &[u8]) -> Option<Vec<u8>> {
        match self.ask(&decodeCall { publicValues: public_values.to_vec().into() }) {
            Ok(words) => Some(words.concat()),
            Err(CallError::Reverted(_)) => None,
            Err(error) => panic!("{error}"),
        }
    }

    /// The link and the digest.
    fn deposits(&self, start: B256, consumed: &[Withdrawal]) -> (B256, B256) {
        let consumed = consumed.iter().map(|deposit| Deposit {
            index: deposit.index,
            validatorIndex: deposit.validator_index,
            account: deposit.address,
            amountGwei: deposit.amount,
        });
        let found = self.ask(&depositsCall { start, consumed: consumed.collect() }).unwrap();
        (found.link, found.both)
    }
}

fn sample() -> Statement {
    Statement {
        version: statement::VERSION,
        chain_config_digest: B256::repeat_byte(0x11),
        parent_hash: B256::repeat_byte(0x22),
        last_hash: B256::repeat_byte(0x33),
        first_number: 7,
        last_number: 9,
        pre_state_root: B256::repeat_byte(0x44),
        post_state_root: B256::repeat_byte(0x55),
        deposits_digest: B256::repeat_byte(0x66),
        deposits_count: 3,
        messages_root: B256::ZERO,
        last_timestamp: 1_700_000_000,
        data_commitment: B256::ZERO,
        beneficiary: Address::repeat_byte(0x77),
    }
}

#[test]
fn the_artifacts_are_of_the_sources() {
    let paths: Vec<_> = fs::read_dir(contracts().join("artifacts"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert!(paths.len() >= 7);
    for path in paths {
        for (source, hash) in artifact(&path).source_keccak256 {
            assert_eq!(
                hash,
                keccak256(fs::read(contracts().join(&source)).unwrap()),
                "contracts/{} has changed: run `make contracts-write`",
                source.display()
            );
        }
    }
}

#[test]
fn the_golden_vectors_are_those_of_the_program() {
    let l1 = L1::new();
    assert!(l1.ask(&holdsCall {}).unwrap());
    let golden = l1.ask(&goldenCall {}).unwrap();
    assert_eq!(golden.words.concat(), sample().abi_encode());
    assert_eq!(golden.statementDigest, sample().digest());
    let golden = l1.ask(&goldenDepositsCall {}).unwrap();
    let mut chain = DepositsChain::new(golden.start);
    assert_eq!(chain.digest(), golden.none);
    for deposit in golden.consumed {
        chain.push(&Withdrawal {
            index: deposit.index,
            validator_index: deposit.validatorIndex,
            address: deposit.account,
            amount: deposit.amountGwei,
        });
    }
    assert_eq!((chain.count(), chain.link(), chain.digest()), (3, golden.link, golden.both));
}

#[test]
fn contract_and_program_read_the_same_statements_and_refuse_the_same_bytes() {
    let l1 = L1::new();
    let good = sample().abi_encode();
    let mut cases = vec![good.clone()];
    for word in 0..14 {
        // The first and last byte of a word, and those around the edges of its types.
        for byte in [0, 11, 12, 23, 24, 27, 28, 31] {
            for bit in [0x01, 0x80] {
                let mut bytes = good.clone();
                bytes[word * 32 + byte] ^= bit;
                cases.push(bytes);
            }
        }
    }
    cases.extend([Vec::new(), good[..447].to_vec(), [good.as_slice(), &[0]].concat()]);
    cases.push([good.as_slice(), &[0; 32]].concat());
    let changes: [fn(&mut Statement); 8] = [
        |s| s.last_number = 7,
        |s| (s.first_number, s.last_number) = (0, u64::MAX),
        |s| (s.first_number, s.last_number) = (9, 7),
        |s| (s.deposits_digest, s.deposits_count) = (B256::ZERO, 0),
        |s| (s.deposits_digest, s.deposits_count) = (B256::ZERO, 1),
        |s| (s.deposits_count, s.last_timestamp) = (0, u64::MAX),
        |s| s.beneficiary = Address::ZERO,
        |s| s.version = 1,
    ];
    for change in changes {
        let mut statement = sample();
        change(&mut statement);
        cases.push(statement.abi_encode());
    }
    let mut accepted = 0;
    for bytes in &cases {
        let ours = Statement::abi_decode(bytes).ok().map(|statement| statement.abi_encode());
        assert_eq!(l1.decode(bytes), ours, "{}", Bytes::copy_from_slice(bytes));
        accepted += usize::from(ours.is_some());
    }
    assert!(accepted > 50 && accepted < cases.len() - 50, "{accepted} of {}", cases.len());
}

#[test]
fn a_word_above_its_type_is_refused_by_both() {
    let l1 = L1::new();
    for (word, bytes) in [(0, 4), (4, 8), (5, 8), (9, 8), (11, 8), (13, 20)] {
        let mut wide = sample().abi_encode();
        wide[word * 32 + 31 - bytes] = 1;
        assert!(Statement::abi_decode(&wide).is_err(), "word {word}");
        assert_eq!(l1.decode(&wide), None, "word {word}");
    }
}

#[test]
fn contract_and_program_chain_deposits_alike() {
    let l1 = L1::new();
    let deposits: Vec<Withdrawal> = (0..40_u64)
        .map(|n| {
            let random = keccak256(n.abi_encode());
            let word = |at: usize| u64::from_be_bytes(random[at..at + 8].try_into().unwrap());
            Withdrawal {
                index: if n % 7 == 0 { u64::MAX } else { word(0) },
                validator_index: if n % 5 == 0 { 0 } else { word(8) },
                address: Address::from_slice(&random[12..]),
                amount: if n % 3 == 0 { u64::MAX } else { word(4) },
            }
        })
        .collect();
    for (start, deposits) in [
        (B256::ZERO, &deposits[..0]),
        (B256::repeat_byte(0xff), &deposits[..1]),
        (keccak256("start"), &deposits[1..9]),
        (B256::ZERO, &deposits[..]),
    ] {
        let mut chain = DepositsChain::new(start);
        deposits.iter().for_each(|deposit| chain.push(deposit));
        assert_eq!(l1.deposits(start, deposits), (chain.link(), chain.digest()));
    }
}
