//! Witnesses made from `eth_getProof` are those that `debug_executionWitness` gives: the inputs are equal byte
//! for byte.

use alloy_consensus::{SignableTransaction, TxEip1559};
use alloy_eips::Encodable2718;
use alloy_genesis::GenesisAccount;
use alloy_primitives::{Address, B256, Bytes, U256, address, hex, keccak256};
use alloy_signer::SignerSync;
use devnode::{
    Config, DevNode, Kind, Mining, Running, TrafficConfig, Transaction, accounts, genesis,
};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use witness::{Limits, Node, NodeOptions, WitnessSource};

/// Stores its input's second word in the slot that the first word names.
const STORE: Address = address!("0000000000000000000000000000000000000501");
/// Stores the hash of the block five blocks back.
const BLOCK_HASH: Address = address!("0000000000000000000000000000000000000502");
/// Follows its storage: slot 0 names a slot, which names a slot, and so on, sixteen times.
const CHAIN: Address = address!("0000000000000000000000000000000000000503");

fn contract(code: &[u8], storage: impl IntoIterator<Item = (B256, B256)>) -> GenesisAccount {
    let storage: BTreeMap<B256, B256> = storage.into_iter().collect();
    GenesisAccount::default()
        .with_nonce(Some(1))
        .with_code(Some(Bytes::copy_from_slice(code)))
        .with_storage(Some(storage))
}

/// The first number from `from` on whose hash as a slot begins with these nibbles.
fn slot(from: u64, nibbles: &str) -> B256 {
    let mut slots = (from..).map(|number| B256::from(U256::from(number)));
    slots.find(|slot| hex::encode(keccak256(slot)).starts_with(nibbles)).unwrap()
}

async fn start(alloc: Vec<(Address, GenesisAccount)>, traffic: Option<TrafficConfig>) -> Running {
    let mut genesis = genesis::dev();
    genesis.alloc.extend(alloc);
    let listen = ([127, 0, 0, 1], 0).into();
    let mining = Mining::OnDemand;
    DevNode::start(Config { listen, genesis, mining, traffic, blocks: None }).await.unwrap()
}

/// Calls `to` in a block of its own.
async fn call(node: &Running, nonce: u64, to: Address, input: Vec<u8>) {
    let transaction = TxEip1559 {
        chain_id: 1337,
        nonce,
        gas_limit: 1_000_000,
        max_fee_per_gas: 10_000_000_000,
        to: to.into(),
        input: input.into(),
        ..Default::default()
    };
    let hash = transaction.signature_hash();
    let signature = accounts::signer(0).sign_hash_sync(&hash).unwrap();
    let raw = Bytes::from(Transaction::Eip1559(transaction.into_signed(signature)).encoded_2718());
    let request =
        json!({ "jsonrpc": "2.0", "id": 1, "method": "eth_sendRawTransaction", "params": [raw] });
    let _ = rustls::crypto::ring::default_provider().install_default();
    let answer = reqwest::Client::new().post(node.url()).json(&request).send().await.unwrap();
    let answer: Value = answer.json().await.unwrap();
    assert!(answer.get("error").is_none(), "{answer}");
}

async fn node(running: &Running, witness: WitnessSource, limits: Limits) -> Node {
    let options = NodeOptions { witness, limits };
    Node::connect_with(&running.url(), running.chain_config().clone(), options).await.unwrap()
}

/// Checks that both ways give the same input for `first..=last`.
async fn same(running: &Running, first: u64, last: u64) {
    let limits = Limits::default();
    let told = node(running, WitnessSource::ExecutionWitness, limits).await;
    let proven = node(running, WitnessSource::Proofs, limits).await;
    let told = told.prepare(first, last).await.unwrap();
    let proven = proven.prepare(first, last).await.unwrap();
    assert!(told == proven, "blocks {first} to {last}");
}

#[tokio::test]
async fn proofs_give_the_input_that_the_witness_gives() {
    let traffic =
        TrafficConfig { per_block: 12, kinds: Kind::ALL.to_vec(), ..TrafficConfig::default() };
    let running = start(vec![], Some(traffic)).await;
    running.mine(9).await.unwrap();
    for block in 1..=6 {
        same(&running, block, block).await;
    }
    same(&running, 7, 9).await;
}

#[tokio::test]
async fn what_a_collapsing_branch_needs_is_rebuilt_or_found() {
    let (leaf, extension, branch) = (["3a1"].as_slice(), ["3a1", "3a2"].as_slice(), ["3a", "3b"]);
    for (index, rest) in [leaf, extension, branch.as_slice()].into_iter().enumerate() {
        let removed = slot(1, "7");
        let kept = rest.iter().map(|nibbles| (slot(1, nibbles), B256::repeat_byte(5)));
        let storage = kept.chain([(removed, B256::repeat_byte(6))]);
        let store = contract(&hex!("602035600035550000"), storage);
        let running = start(vec![(STORE, store)], None).await;
        call(&running, 0, STORE, [removed.0, [0; 32]].concat()).await;
        same(&running, 1, 1).await;
        let account =
            running.chain().proof(running.chain().block(1).unwrap(), &STORE, &[removed.into()]);
        assert!(account.unwrap().storage_proof[0].value.is_zero(), "case {index}: it was removed");
    }
}

#[tokio::test]
async fn old_block_hashes_and_reads_that_depend_on_reads_are_followed() {
    let next = (0..16u64).map(|slot| (U256::from(slot).into(), U256::from(slot + 1).into()));
    let follow = [hex!("6000").as_slice(), &[0x54; 16], &hex!("600052")].concat();
    let running = start(
        vec![
            (BLOCK_HASH, contract(&hex!("6005430340600055"), [])),
            (CHAIN, contract(&follow, next)),
        ],
        None,
    )
    .await;
    for nonce in 0..7 {
        call(&running, nonce, BLOCK_HASH, vec![]).await;
    }
    call(&running, 7, CHAIN, vec![]).await;
    same(&running, 7, 7).await;
    same(&running, 8, 8).await;
    same(&running, 6, 8).await;
}

#[tokio::test]
async fn a_node_is_asked_no_faster_than_its_limits_allow() {
    let traffic = TrafficConfig { per_block: 3, ..TrafficConfig::default() };
    let running = start(vec![], Some(traffic)).await;
    running.mine(1).await.unwrap();
    let expected = node(&running, WitnessSource::Proofs, Limits::default()).await;
    let expected = expected.prepare(1, 1).await.unwrap();
    for limits in [
        Limits { batch: 1, concurrency: 1, per_second: None },
        Limits { batch: 3, concurrency: 2, per_second: Some(200) },
    ] {
        let slow = node(&running, WitnessSource::Proofs, limits).await;
        let begun = std::time::Instant::now();
        assert!(slow.prepare(1, 1).await.unwrap() == expected);
        if let Some(per_second) = limits.per_second {
            // The first call is free, and the last one's own delay is not waited for.
            let calls = slow.calls().saturating_sub(1 + limits.batch as u64);
            let least =
                std::time::Duration::from_secs(1) * u32::try_from(calls).unwrap() / per_second;
            assert!(begun.elapsed() >= least, "{calls} calls in {:?}", begun.elapsed());
        }
    }
}
