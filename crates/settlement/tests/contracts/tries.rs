//! The bridge's verifier of tries against alloy's: claims with proofs of random tries of the dev node, and with proofs that somebody has
//! tampered with, are paid exactly if the reference takes the proofs.
//!
//! `TRIES=2000` tries more of them, `SEED=7` others.

use crate::{L1, L2_CHAIN, OUTBOX};
use alloy_genesis::GenesisAccount;
use alloy_primitives::{Address, B256, Bytes, TxKind, U256, keccak256};
use alloy_rlp::{Decodable as _, Header};
use alloy_rpc_types_eth::{
    TransactionRequest,
    state::{AccountOverride, StateOverride},
};
use alloy_sol_types::{SolCall as _, SolValue as _};
use alloy_trie::{Nibbles, TrieAccount, nodes::TrieNode, proof::verify_proof};
use devnode::{Chain, genesis};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};
use settlement::{
    contract::{IBridge, Withdrawal},
    deploy::outbox_code,
};

/// An L1 on which every state is settled.
struct Trusting {
    l1: L1,
    overrides: StateOverride,
}

impl Trusting {
    fn new() -> Self {
        let l1 = L1::new();
        // It stops, and so agrees.
        let agrees = AccountOverride { code: Some(Bytes::from_static(&[0])), ..Default::default() };
        let rich = AccountOverride { balance: Some(U256::MAX >> 1), ..Default::default() };
        let overrides = [(l1.rollup, agrees), (l1.bridge, rich)].into_iter().collect();
        Self { l1, overrides }
    }

    fn pays(&self, claim: &Claim) -> Result<Bytes, String> {
        let call = IBridge::claimCall {
            withdrawal: claim.withdrawal.clone(),
            number: 1,
            accountProof: claim.account_proof.clone(),
            storageProof: claim.storage_proof.clone(),
        };
        let request = TransactionRequest {
            to: Some(TxKind::Call(self.l1.bridge)),
            input: Bytes::from(call.abi_encode()).into(),
            gas: Some(10_000_000),
            ..TransactionRequest::default()
        };
        let chain = &self.l1.chain;
        let at = chain.block(chain.head().number).unwrap();
        let called = chain.call(at, request, Some(self.overrides.clone()));
        called.map_err(|error| error.to_string())
    }
}

#[derive(Clone, Debug)]
struct Claim {
    withdrawal: Withdrawal,
    account_proof: Vec<Bytes>,
    storage_proof: Vec<Bytes>,
}

pub(crate) fn id(it: &Withdrawal) -> B256 {
    let values = (U256::from(L2_CHAIN), OUTBOX, it.nonce, it.from, it.to, it.amount);
    keccak256(values.abi_encode())
}

pub(crate) fn slot(id: B256) -> B256 {
    keccak256((id, U256::ZERO).abi_encode())
}

pub(crate) fn word(id: B256) -> U256 {
    U256::from_be_bytes(id.0) | (U256::from(1) << 255)
}

/// A claim with the proofs of a random L2, where most often the withdrawal was made.
fn claim(rng: &mut StdRng) -> Claim {
    let withdrawal = Withdrawal {
        nonce: rng.random(),
        from: Address::random_with(rng),
        to: Address::random_with(rng),
        amount: U256::from(rng.random::<u64>()),
    };
    let id = id(&withdrawal);
    let mut genesis = genesis::dev();
    for _ in 0..rng.random_range(0..150) {
        let balance = U256::from(rng.random_range(1..1_000_000_u64));
        let account = GenesisAccount { balance, ..GenesisAccount::default() };
        genesis.alloc.insert(Address::random_with(rng), account);
    }
    let mut storage = std::collections::BTreeMap::new();
    for _ in 0..rng.random_range(0..60) {
        // Small ones stand in their parents.
        let value = match rng.random_bool(0.5) {
            true => B256::with_last_byte(rng.random_range(1..=255)),
            false => B256::random_with(rng),
        };
        storage.insert(B256::random_with(rng), value);
    }
    match rng.random_range(0..8) {
        0 => {}
        1 => drop(storage.insert(slot(id), id | B256::with_last_byte(1))),
        2 => drop(storage.insert(slot(id), B256::with_last_byte(1))),
        _ => drop(storage.insert(slot(id), B256::from(word(id)))),
    }
    let mut code = outbox_code();
    if rng.random_ratio(1, 12) {
        code.push(0);
    }
    if !rng.random_ratio(1, 12) {
        let outbox = GenesisAccount {
            code: Some(code.into()),
            storage: Some(storage),
            balance: U256::from(rng.random::<u64>()),
            ..GenesisAccount::default()
        };
        genesis.alloc.insert(OUTBOX, outbox);
    }
    let chain = Chain::new(&genesis).unwrap();
    let slot = U256::from_be_bytes(slot(id).0);
    let mut proof = chain.proof(chain.block(0).unwrap(), &OUTBOX, &[slot]).unwrap();
    Claim {
        withdrawal,
        account_proof: proof.account_proof,
        storage_proof: proof.storage_proof.remove(0).proof,
    }
}

/// Something that changes a claim, most often for the worse.
fn tamper(rng: &mut StdRng, claim: &mut Claim, other: &Claim) {
    let (storage, others) = match rng.random_bool(0.5) {
        true => (true, &other.storage_proof),
        false => (false, &other.account_proof),
    };
    let what = rng.random_range(0..10);
    if what == 9 {
        claim.withdrawal.amount += U256::from(1);
        return;
    }
    let proof = if storage { &mut claim.storage_proof } else { &mut claim.account_proof };
    if proof.is_empty() {
        return;
    }
    let at = rng.random_range(0..proof.len());
    let mut node = proof[at].to_vec();
    match what {
        0 | 1 => {
            let byte = rng.random_range(0..node.len());
            node[byte] ^= 1 << rng.random_range(0..8);
        }
        2 => node.push(rng.random()),
        3 => drop(node.pop()),
        4 => return drop(proof.remove(at)),
        5 => return proof.insert(at, proof[at].clone()),
        6 => {
            let with = rng.random_range(0..proof.len());
            return proof.swap(at, with);
        }
        7 => {
            let Some(other) = others.choose(rng) else { return };
            return proof.push(other.clone());
        }
        _ => {
            *proof = others.clone();
            return;
        }
    }
    proof[at] = node.into();
}

/// Whether a trie can have such a node: alloy reads some others too. It has 2 or 17 items, and what stands in it as a node is short.
fn is_node(mut node: &[u8]) -> Option<bool> {
    let header = Header::decode(&mut node).ok()?;
    let (mut items, mut fits) = (0, header.list && header.payload_length == node.len());
    while !node.is_empty() {
        let before = node.len();
        let item = Header::decode(&mut node).ok()?;
        node = node.get(item.payload_length..)?;
        fits &= !item.list || before - node.len() < 32;
        items += 1;
    }
    Some(fits && (items == 2 || items == 17))
}

/// The value of the leaf at the end of a proof, if it is one of this key under this root.
fn leaf(root: B256, key: B256, proof: &[Bytes]) -> Option<Vec<u8>> {
    if !proof.iter().all(|node| is_node(node).unwrap_or_default()) {
        return None;
    }
    let last = TrieNode::decode(&mut &proof.last()?[..]).ok();
    let TrieNode::Leaf(leaf) = last? else { return None };
    verify_proof(root, Nibbles::unpack(key), Some(leaf.value.clone()), proof).ok()?;
    Some(leaf.value)
}

/// Whether the claim is to be paid.
fn is_proven(claim: &Claim) -> bool {
    let reference = || {
        let root = keccak256(claim.account_proof.first()?);
        let account = leaf(root, keccak256(OUTBOX), &claim.account_proof)?;
        let account: TrieAccount = alloy_rlp::decode_exact(account).ok()?;
        let id = id(&claim.withdrawal);
        let found = leaf(account.storage_root, keccak256(slot(id)), &claim.storage_proof)?;
        let found: U256 = alloy_rlp::decode_exact(found).ok()?;
        Some(account.code_hash == keccak256(outbox_code()) && found == word(id))
    };
    reference().unwrap_or_default()
}

#[test]
fn the_bridge_takes_the_proofs_that_the_reference_takes_and_no_others() {
    let number = |name: &str, default| std::env::var(name).map_or(default, |n| n.parse().unwrap());
    let mut rng = StdRng::seed_from_u64(number("SEED", 1));
    let l1 = Trusting::new();
    let (mut paid, mut refused) = (0, 0);
    let mut before = claim(&mut rng);
    for n in 0..number("TRIES", 100) {
        let honest = claim(&mut rng);
        for tampered in 0..20 {
            let mut claim = honest.clone();
            for _ in 0..tampered.min(2) {
                tamper(&mut rng, &mut claim, &before);
            }
            let answer = l1.pays(&claim);
            assert_eq!(answer.is_ok(), is_proven(&claim), "trie {n}: {answer:?} {claim:?}");
            *if answer.is_ok() { &mut paid } else { &mut refused } += 1;
        }
        before = honest;
    }
    assert!(paid > 50 && refused > 500, "{paid} paid, {refused} refused");
}
