//! A branch that collapses onto a branch, so deep in its trie that nobody finds a key under that by trial, is prepared
//! from proofs by each of the ways that are left; and where none is, the node that is missing is named.

mod support;

use alloy_genesis::{Genesis, GenesisAccount};
use alloy_primitives::{Address, B256, U256, address, hex, keccak256};
use devnode::{Running, genesis};
use std::time::Duration;
use support::{begin, call, contract, gate::Gate, same, start};
use witness::{Depth, Error, KnownKeys, Limits, Node, NodeOptions, Nodes, WitnessSource};

/// Stores its input's second word in the slot that the first word names.
const STORE: Address = address!("0000000000000000000000000000000000000501");
/// Sends what it has to whoever began the transaction, and ends.
const END: &[u8] = &hex!("32ff");
/// What no hosted node offers, and few others.
const DEBUG: &[&str] = &["debug_"];
const PROOFS: NodeOptions = NodeOptions {
    record: None,
    witness: WitnessSource::Proofs,
    limits: Limits {
        concurrency: 8,
        per_second: None,
        batch: 64,
        answer: 256 << 20,
        retry: Duration::from_secs(4),
    },
};

/// Three slots whose hashes share nine nibbles. The last two share the tenth as well. It takes a hundred million hashes
/// to find such slots, and 2^40 to find another one that shares ten.
const DEEP: [u64; 3] = [34_048_827, 16_529_404, 116_555_989];

fn word(number: u64) -> B256 {
    B256::from(U256::from(number))
}

/// What [`STORE`] is called with to store `value` in `slot`.
fn stores(slot: u64, value: u64) -> Vec<u8> {
    [word(slot).0, word(value).0].concat()
}

fn store(slots: &[u64]) -> (Address, GenesisAccount) {
    let storage = slots.iter().map(|slot| (word(*slot), word(7)));
    (STORE, contract(&hex!("602035600035550000"), storage))
}

/// A chain that has the deep slots in its genesis, and deletes the first in block 1.
async fn deep_in_genesis() -> Running {
    let running = start(vec![store(&DEEP)], None).await;
    call(&running, 0, STORE, stores(DEEP[0], 0)).await;
    running
}

async fn connect(url: &str, running: &Running) -> Node {
    Node::connect_with(url, running.chain_config().clone(), PROOFS).await.unwrap()
}

/// The input of a block as the node's own witness makes it.
async fn told(running: &Running, block: u64) -> witness::Prepared {
    let options = NodeOptions { witness: WitnessSource::ExecutionWitness, ..PROOFS };
    let config = running.chain_config().clone();
    let node = Node::connect_with(&running.url(), config, options).await.unwrap();
    node.prepare(block, block).await.unwrap()
}

#[test]
fn the_deep_slots_are_deep() {
    let [removed, one, other] = DEEP.map(|slot| hex::encode(keccak256(word(slot))));
    assert_eq!(removed[..9], one[..9]);
    assert_eq!(one[..10], other[..10]);
    assert_ne!(removed[..10], one[..10]);
}

#[tokio::test]
async fn a_deep_branch_is_built_of_the_leaves_that_a_node_lists() {
    same(&deep_in_genesis().await, 1, 1).await;
}

#[tokio::test]
async fn a_deep_branch_is_found_by_the_keys_of_the_genesis_file() {
    let running = deep_in_genesis().await;
    let gate = Gate::before(running.url(), DEBUG, Duration::ZERO).await;
    let mut genesis = genesis::dev();
    genesis.alloc.extend([store(&DEEP)]);
    let node = connect(gate.url(), &running).await;
    let node = node.with_known_keys(KnownKeys::of_genesis(&genesis));
    assert!(node.prepare(1, 1).await.unwrap() == told(&running, 1).await);
}

#[tokio::test]
async fn a_deep_branch_is_found_by_the_block_that_wrote_under_it() {
    let running = start(vec![store(&[])], None).await;
    let [removed, one, other] = DEEP;
    // Other slots before, between and after, so that there is something to look through.
    let mut nonce = 0;
    let mut block = async |slot, value| {
        call(&running, nonce, STORE, stores(slot, value)).await;
        nonce += 1;
    };
    for slot in 1..20 {
        block(slot, 1).await;
    }
    block(one, 5).await;
    block(other, 6).await;
    for slot in 1..30 {
        block(slot, 2).await;
    }
    block(removed, 7).await;
    block(removed, 0).await;
    let head = running.chain().head().number;
    let gate = Gate::before(running.url(), DEBUG, Duration::ZERO).await;
    let node = connect(gate.url(), &running).await;
    assert!(node.prepare(head, head).await.unwrap() == told(&running, head).await);
    let proofs = gate.calls("eth_getProof");
    assert!(proofs < 60, "{proofs} proofs");
}

#[tokio::test]
async fn what_no_way_shows_is_named_and_another_node_helps() {
    let running = deep_in_genesis().await;
    let gate = Gate::before(running.url(), DEBUG, Duration::ZERO).await;
    let error = connect(gate.url(), &running).await.prepare(1, 1).await.unwrap_err();
    let text = error.to_string();
    let Error::UnknownNode { block: 1, missing, more: 0, .. } = error else { panic!("{text}") };
    let hash = hex::encode(keccak256(word(DEEP[1])));
    assert_eq!((missing.owner, missing.path.as_str()), (Some(STORE), &hash[..10]));
    for words in ["debug_executionWitness", "--rpc-url", &format!("{STORE}"), &missing.path] {
        assert!(text.contains(words), "{text} lacks {words}");
    }
    // The node does have it.
    let urls = [gate.url().to_owned(), running.url()];
    let config = running.chain_config().clone();
    let nodes = Nodes::connect(&urls, config, PROOFS, Depth::Latest).await.unwrap();
    let prepared = nodes.prepare(1, 1, Address::ZERO).await.unwrap();
    assert!(prepared == told(&running, 1).await);
}

#[tokio::test]
async fn a_witness_that_lacks_a_deep_branch_is_completed() {
    let running = deep_in_genesis().await;
    let gate = Gate::before(running.url(), DEBUG, Duration::ZERO).await;
    let error = connect(gate.url(), &running).await.prepare(1, 1).await.unwrap_err();
    let Error::UnknownNode { missing, .. } = error else { panic!("{error}") };
    let any = NodeOptions { witness: WitnessSource::Any, ..PROOFS };
    let connect = async |gate: &Gate| {
        let config = running.chain_config().clone();
        Node::connect_with(gate.url(), config, any.clone()).await.unwrap()
    };
    let told = told(&running, 1).await;

    // Only the witness is there, and proofs: the node that is missing is named, or found by a key.
    let ranges = &["debug_storageRangeAt", "debug_accountRange"];
    let gate = Gate::without(running.url(), ranges, missing.hash).await;
    let node = connect(&gate).await;
    let error = node.prepare(1, 1).await.unwrap_err();
    assert!(error.lacks_trie_node(), "{error}");
    let mut genesis = genesis::dev();
    genesis.alloc.extend([store(&DEEP)]);
    let node = node.with_known_keys(KnownKeys::of_genesis(&genesis));
    let before = gate.calls("eth_getProof");
    assert!(node.prepare(1, 1).await.unwrap() == told);
    // The deleted key's after the block, and the one that shows it.
    assert_eq!(gate.calls("eth_getProof") - before, 2);

    // The leaves under it are listed.
    let gate = Gate::without(running.url(), &[], missing.hash).await;
    assert!(connect(&gate).await.prepare(1, 1).await.unwrap() == told);
}

/// A chain whose rules are those of Shanghai, where a contract that ends is deleted.
fn shanghai() -> Genesis {
    let mut genesis = genesis::dev();
    genesis.config.cancun_time = None;
    genesis.config.prague_time = None;
    genesis.config.osaka_time = None;
    genesis
}

/// Three addresses whose hashes share `depth` nibbles. The last two share one more.
fn deep_addresses(depth: usize) -> [Address; 3] {
    let mut seen = std::collections::HashMap::<String, Vec<(String, Address)>>::new();
    for number in 1u64.. {
        let address = Address::from_word(word(number << 20));
        let hash = hex::encode(keccak256(address));
        let alike = seen.entry(hash[..depth].to_owned()).or_default();
        alike.push((hash, address));
        alike.sort();
        for trio in alike.windows(3) {
            let at = |index: usize| trio[index].0.as_bytes()[depth];
            if at(0) != at(1) && at(1) == at(2) {
                return [trio[0].1, trio[1].1, trio[2].1];
            }
        }
    }
    unreachable!("numbers do not end before")
}

#[tokio::test]
async fn a_deleted_account_s_siblings_are_found_too() {
    // One that is found by trial, and one that is not.
    for (depth, refused) in [(3, DEBUG), (6, &[][..])] {
        let [removed, one, other] = deep_addresses(depth);
        let mut genesis = shanghai();
        let ends = contract(END, []);
        let rich = || GenesisAccount { balance: U256::from(1), ..Default::default() };
        genesis.alloc.extend([(removed, ends), (one, rich()), (other, rich())]);
        let running = begin(genesis, None).await;
        call(&running, 0, removed, vec![]).await;
        let after = running.chain().account(running.chain().block(1).unwrap(), &removed).unwrap();
        assert_eq!(after.nonce, 0, "it was deleted");
        let gate = Gate::before(running.url(), refused, Duration::ZERO).await;
        let node = connect(gate.url(), &running).await;
        assert!(node.prepare(1, 1).await.unwrap() == told(&running, 1).await, "depth {depth}");
        assert_eq!(gate.calls("debug_accountRange"), usize::from(refused.is_empty()));
    }
}

#[tokio::test]
async fn many_branches_that_collapse_in_one_block_are_prepared() {
    // Thirty trios at the depths that real tries have.
    let mut seen = std::collections::HashMap::<String, Vec<u64>>::new();
    let mut slots = Vec::new();
    for number in 1u64.. {
        let hash = hex::encode(keccak256(word(number)));
        let alike = seen.entry(hash[..3].to_owned()).or_default();
        alike.push(number);
        if alike.len() == 3 {
            slots.extend(alike.iter().copied());
        }
        if slots.len() == 90 {
            break;
        }
    }
    // PUSH0, SSTORE of each third of its storage's slots: the code itself names them.
    let mut code = Vec::new();
    for slot in slots.iter().step_by(3) {
        code.extend([0x5f, 0x63]);
        code.extend(u32::try_from(*slot).unwrap().to_be_bytes());
        code.push(0x55);
    }
    let storage = slots.iter().map(|slot| (word(*slot), word(7)));
    let running = start(vec![(STORE, contract(&code, storage))], None).await;
    call(&running, 0, STORE, vec![]).await;
    same(&running, 1, 1).await;
    let gate = Gate::before(running.url(), DEBUG, Duration::ZERO).await;
    let node = connect(gate.url(), &running).await;
    assert!(node.prepare(1, 1).await.unwrap() == told(&running, 1).await);
}
