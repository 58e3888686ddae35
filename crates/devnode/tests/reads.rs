//! How a witness from proofs is asked for: whatever the reads depend on, in calls and in time.

mod support;

use alloy_primitives::{Address, B256, U256, address, hex, keccak256};
use devnode::{Kind, Running, TrafficConfig};
use std::time::{Duration, Instant};
use support::{call, contract, fewest::fewest, gate::Gate, node, start};
use witness::{Limits, Node, NodeOptions, WitnessSource};

/// Follows its storage: slot 0 names a slot, which names a slot, and so on, until one is empty.
const LIST: Address = address!("000000000000000000000000000000000000c101");
const FOLLOW: &[u8] = &hex!("5f5b548060015700");

/// A list of `length` slots, each of which names the next. Nobody can tell the next without reading.
fn list(length: u64) -> Vec<(B256, B256)> {
    let slot = |number: u64| match number {
        0 => B256::ZERO,
        number => keccak256(U256::from(number).to_be_bytes::<32>()),
    };
    (0..length).map(|number| (slot(number), slot(number + 1))).collect()
}

async fn walk(length: u64) -> Running {
    let running = start(vec![(LIST, contract(FOLLOW, list(length)))], None).await;
    call(&running, 0, LIST, vec![]).await;
    let mined = running.chain().block(1).unwrap().clone();
    assert!(alloy_consensus::TxReceipt::status(&mined.receipts[0]), "it went all the way");
    running
}

#[tokio::test]
async fn a_walk_over_1500_slots_is_prepared() {
    support::same(&walk(1500).await, 1, 1).await;
}

#[tokio::test]
async fn a_walk_over_5000_slots_takes_no_more_than_a_call_for_each() {
    let running = walk(5000).await;
    let gate = Gate::before(running.url(), &["debug_"], Duration::from_millis(1)).await;
    let options =
        NodeOptions { record: None, witness: WitnessSource::Proofs, limits: Limits::default() };
    let config = running.chain_config().clone();
    let node = Node::connect_with(gate.url(), config, options).await.unwrap();
    let begun = Instant::now();
    node.prepare(1, 1).await.unwrap();
    let (took, calls) = (begun.elapsed(), node.calls());
    // 5,001 slots, the accounts around them and their codes.
    assert!(calls < 5100, "{calls} calls");
    // It takes 15 s on two busy cores. Executions that grow with the reads would take minutes.
    assert!(took < Duration::from_secs(60), "{took:?}");
}

#[tokio::test]
async fn few_calls_are_in_vain() {
    let traffic =
        TrafficConfig { per_block: 40, kinds: Kind::ALL.to_vec(), ..TrafficConfig::default() };
    let running = start(vec![], Some(traffic)).await;
    running.mine(8).await.unwrap();
    let node = node(&running, WitnessSource::Proofs, Limits::default()).await;
    for block in 1..=8 {
        let before = node.calls();
        node.prepare(block, block).await.unwrap();
        let calls = node.calls() - before;
        let fewest = fewest(&running.chain(), block) as u64;
        assert!(10 * calls <= 13 * fewest, "block {block}: {calls} calls for {fewest}");
    }
}
