//! Every block that the chain makes can be proven from its own execution witness, and from nothing
//! less.

use alloy_consensus::{EMPTY_ROOT_HASH, Transaction as _};
use alloy_primitives::{Address, B256, Bytes, U256, b256, keccak256};
use alloy_trie::{Nibbles, proof::verify_proof};
use devnode::{Chain, Kind, Traffic, TrafficConfig, accounts, genesis};
use program::Input;
use std::{collections::HashSet, ops::RangeInclusive};

/// A dev chain with `blocks` blocks of `per_block` transactions.
fn chain(kinds: &[Kind], blocks: u64, per_block: usize, seed: u64) -> Chain {
    let mut chain = Chain::new(&genesis::dev()).unwrap();
    let config = TrafficConfig { seed, per_block, kinds: kinds.to_vec(), stop_after: None };
    let mut traffic = Traffic::new(config);
    for _ in 0..blocks {
        traffic.fill(&mut chain).unwrap();
        let timestamp = chain.head().timestamp + 2;
        chain.mine(timestamp).unwrap();
        assert!(chain.pool().is_empty(), "a transaction did not fit or was invalid");
    }
    chain
}

fn run(chain: &Chain, blocks: RangeInclusive<u64>) -> Result<program::Statement, program::Error> {
    let (input, pre_state_root) = chain.input(blocks).unwrap();
    program::run(&input.encode(pre_state_root).unwrap())
}

/// Proves every block of the chain natively, one by one.
fn replay(chain: &Chain) {
    for number in 1..=chain.head().number {
        let statement =
            run(chain, number..=number).unwrap_or_else(|error| panic!("block {number}: {error}"));
        let (mined, parent) = (chain.block(number).unwrap(), chain.block(number - 1).unwrap());
        assert_eq!(statement.last_hash, mined.hash);
        assert_eq!(statement.parent_hash, parent.hash);
        assert_eq!((statement.first_number, statement.last_number), (number, number));
        assert_eq!(statement.pre_state_root, parent.block.header.state_root);
        assert_eq!(statement.post_state_root, mined.block.header.state_root);
        assert_eq!(statement.chain_config_digest, chain.config().digest());
    }
}

#[test]
fn blocks_of_every_kind_are_provable() {
    replay(&chain(&Kind::ALL, 40, 8, 1));
}

#[test]
fn growing_and_collapsing_storage_is_provable() {
    let chain = chain(&[Kind::Storage], 60, 3, 2);
    let store = accounts::addresses()[5].create(1);
    let roots: HashSet<B256> = (0..=chain.head().number)
        .map(|number| chain.account(chain.block(number).unwrap(), &store).unwrap().storage_root)
        .collect();
    assert!(roots.len() > 30, "the storage hardly changes");
    replay(&chain);
}

#[test]
fn empty_blocks_are_provable() {
    replay(&chain(&[], 5, 0, 3));
}

#[test]
fn a_batch_is_provable_from_the_union_of_its_witnesses() {
    let chain = chain(&Kind::ALL, 12, 6, 4);
    let statement = run(&chain, 6..=12).unwrap();
    assert_eq!((statement.first_number, statement.last_number), (6, 12));
    assert_eq!(statement.last_hash, chain.block(12).unwrap().hash);
}

#[test]
fn a_witness_without_any_one_of_its_items_is_refused() {
    let chain = chain(&Kind::ALL, 8, 5, 5);
    for number in [1, 7, 8] {
        let (whole, pre_state_root) = chain.input(number..=number).unwrap();
        let lists: [fn(&mut Input) -> &mut Vec<Bytes>; 3] =
            [|input| &mut input.nodes, |input| &mut input.codes, |input| &mut input.headers];
        for (what, list) in ["node", "code", "header"].into_iter().zip(lists) {
            for index in 0..list(&mut whole.clone()).len() {
                let mut input = whole.clone();
                list(&mut input).remove(index);
                let outcome = program::run(&input.encode(pre_state_root).unwrap());
                assert!(outcome.is_err(), "block {number}, {what} {index}");
            }
        }
    }
}

#[test]
fn blockhash_makes_the_witness_reach_back() {
    let chain = chain(&[Kind::Storage], 30, 4, 6);
    let longest =
        (1..=30).map(|number| chain.execution_witness(number).unwrap().headers.len()).max();
    assert!(longest.unwrap() > 5, "no block asked for an old hash");
}

#[test]
fn the_same_seed_gives_the_same_chain() {
    let hashes = |seed| -> Vec<B256> {
        let chain = chain(&Kind::ALL, 6, 5, seed);
        (0..=6).map(|number| chain.block(number).unwrap().hash).collect()
    };
    assert_eq!(hashes(7), hashes(7));
    assert_ne!(hashes(7), hashes(8));
}

#[test]
fn only_transactions_that_are_meant_to_fail_do() {
    let chain = chain(&Kind::ALL, 40, 10, 9);
    let fail = &keccak256("fail()")[..4];
    let mut failed = 0;
    for number in 1..=chain.head().number {
        let mined = chain.block(number).unwrap();
        for (transaction, receipt) in mined.block.body.transactions.iter().zip(&mined.receipts) {
            let meant = transaction.input().starts_with(fail);
            assert_eq!(receipt.success, !meant, "block {number}, {}", transaction.tx_hash());
            failed += usize::from(meant);
        }
    }
    assert!(failed > 0, "the seed makes no failing transaction");
}

#[test]
fn traffic_stops_when_asked() {
    let mut chain = Chain::new(&genesis::dev()).unwrap();
    let config = TrafficConfig { per_block: 4, stop_after: Some(10), ..Default::default() };
    let mut traffic = Traffic::new(config);
    let made: Vec<usize> = (0..4).map(|_| traffic.fill(&mut chain).unwrap()).collect();
    assert_eq!(made, [4, 4, 2, 0]);
    assert!(traffic.is_done());
}

#[test]
fn merkle_proofs_hold_for_what_is_there_and_what_is_not() {
    let chain = chain(&[Kind::Storage], 10, 4, 10);
    let head = chain.block(10).unwrap();
    let store = accounts::addresses()[5].create(1);
    let mapping = |key: u64| {
        U256::from_be_bytes(keccak256([B256::from(U256::from(key)), B256::ZERO].concat()).0)
    };
    let slots: Vec<U256> = (0..200).map(mapping).collect();
    let proof = chain.proof(head, &store, &slots).unwrap();
    let root = head.block.header.state_root;
    let leaf = alloy_rlp::encode(chain.account(head, &store).unwrap());
    verify_proof(root, Nibbles::unpack(keccak256(store)), Some(leaf), &proof.account_proof)
        .unwrap();
    let mut found = 0;
    for (slot, part) in slots.iter().zip(&proof.storage_proof) {
        assert_eq!(part.value, chain.storage(head, &store, *slot).unwrap());
        found += usize::from(!part.value.is_zero());
        let leaf = (!part.value.is_zero()).then(|| alloy_rlp::encode(part.value));
        let key = Nibbles::unpack(keccak256(B256::from(*slot)));
        verify_proof(proof.storage_hash, key, leaf, &part.proof).unwrap();
    }
    assert!(found > 0 && found < slots.len(), "{found} of {}", slots.len());

    let nobody = Address::repeat_byte(0x77);
    let proof = chain.proof(head, &nobody, &[U256::ZERO]).unwrap();
    verify_proof(root, Nibbles::unpack(keccak256(nobody)), None, &proof.account_proof).unwrap();
    assert_eq!(proof.storage_proof[0].value, U256::ZERO);
}

#[test]
fn old_states_stay_readable() {
    let chain = chain(&[Kind::Transfer], 5, 3, 11);
    let sender = accounts::addresses()[5];
    let nonces: Vec<u64> = (0..=5)
        .map(|number| chain.account(chain.block(number).unwrap(), &sender).unwrap().nonce)
        .collect();
    assert_eq!(nonces[0], 0);
    assert!(
        nonces.windows(2).all(|pair| pair[0] <= pair[1]) && nonces[5] > nonces[0],
        "{nonces:?}"
    );
    let genesis = chain.block(0).unwrap();
    assert_eq!(chain.account(genesis, &sender).unwrap().storage_root, EMPTY_ROOT_HASH);
    assert_eq!(chain.account(genesis, &sender).unwrap().balance, accounts::BALANCE);
}

#[test]
fn the_dev_genesis_never_changes_unnoticed() {
    let chain = Chain::new(&genesis::dev()).unwrap();
    assert_eq!(
        chain.block(0).unwrap().hash,
        b256!("e3b284d0f268c331dddcecc30cb672797d5280b6a39ba27d7f8ab7473668250a")
    );
}
