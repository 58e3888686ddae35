//! A dev node, blocks on it, and the two ways to their witnesses; and a gate before it that lets less through.
#![allow(dead_code, reason = "each test file uses a part")]

pub(crate) mod fewest;
pub(crate) mod gate;

use alloy_consensus::{SignableTransaction, TxEip1559};
use alloy_eips::Encodable2718;
use alloy_genesis::{Genesis, GenesisAccount};
use alloy_primitives::{Address, B256, Bytes};
use alloy_signer::SignerSync;
use devnode::{Config, DevNode, Mining, Running, TrafficConfig, Transaction, accounts, genesis};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use witness::{Limits, Node, NodeOptions, WitnessSource};

pub(crate) fn contract(
    code: &[u8],
    storage: impl IntoIterator<Item = (B256, B256)>,
) -> GenesisAccount {
    let storage: BTreeMap<B256, B256> = storage.into_iter().collect();
    GenesisAccount::default()
        .with_nonce(Some(1))
        .with_code(Some(Bytes::copy_from_slice(code)))
        .with_storage(Some(storage))
}

pub(crate) async fn start(
    alloc: Vec<(Address, GenesisAccount)>,
    traffic: Option<TrafficConfig>,
) -> Running {
    let mut genesis = genesis::dev();
    genesis.alloc.extend(alloc);
    begin(genesis, traffic).await
}

/// Starts a node that makes a block of each transaction.
pub(crate) async fn begin(genesis: Genesis, traffic: Option<TrafficConfig>) -> Running {
    let listen = ([127, 0, 0, 1], 0).into();
    let mining = Mining::OnDemand;
    DevNode::start(Config { listen, genesis, mining, traffic, blocks: None }).await.unwrap()
}

/// Calls `to` in a block of its own.
pub(crate) async fn call(node: &Running, nonce: u64, to: Address, input: Vec<u8>) {
    let transaction = TxEip1559 {
        chain_id: 1337,
        nonce,
        gas_limit: 16_000_000,
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

pub(crate) async fn node(running: &Running, witness: WitnessSource, limits: Limits) -> Node {
    let options = NodeOptions { record: None, witness, limits };
    Node::connect_with(&running.url(), running.chain_config().clone(), options).await.unwrap()
}

/// Checks that both ways give the same input for `first..=last`.
pub(crate) async fn same(running: &Running, first: u64, last: u64) {
    let limits = Limits::default();
    let told = node(running, WitnessSource::ExecutionWitness, limits).await;
    let proven = node(running, WitnessSource::Proofs, limits).await;
    let told = told.prepare(first, last).await.unwrap();
    let proven = proven.prepare(first, last).await.unwrap();
    assert!(told == proven, "blocks {first} to {last}");
}
