//! Witnesses made from `eth_getProof` are those that `debug_executionWitness` gives: the inputs are equal byte
//! for byte.

mod support;

use alloy_primitives::{Address, B256, U256, address, hex, keccak256};
use devnode::{Kind, TrafficConfig};
use support::{call, contract, node, same, start};
use witness::{Limits, WitnessSource};

/// Stores its input's second word in the slot that the first word names.
const STORE: Address = address!("0000000000000000000000000000000000000501");
/// Stores the hash of the block five blocks back.
const BLOCK_HASH: Address = address!("0000000000000000000000000000000000000502");
/// Follows its storage: slot 0 names a slot, which names a slot, and so on, sixteen times.
const CHAIN: Address = address!("0000000000000000000000000000000000000503");

/// The first number from `from` on whose hash as a slot begins with these nibbles.
fn slot(from: u64, nibbles: &str) -> B256 {
    let mut slots = (from..).map(|number| B256::from(U256::from(number)));
    slots.find(|slot| hex::encode(keccak256(slot)).starts_with(nibbles)).unwrap()
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
        Limits { batch: 1, concurrency: 1, ..Limits::default() },
        Limits { batch: 3, concurrency: 2, per_second: Some(200), ..Limits::default() },
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
