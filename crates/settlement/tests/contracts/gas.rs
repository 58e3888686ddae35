//! What transactions take, compared with contracts/gas.json: `make contracts` measures the same, and more, with forge.

use crate::{
    L1, OUTBOX, PROGRAM,
    tries::{id, slot, word},
};
use alloy_eips::eip4895::Withdrawal;
use alloy_primitives::{Address, B256, Bytes, TxKind, U256, address, keccak256};
use alloy_rlp::Encodable as _;
use alloy_sol_types::{SolCall as _, sol};
use alloy_trie::{
    Nibbles, TrieAccount, TrieMask,
    nodes::{BranchNode, LeafNode, RlpNode},
};
use program::{
    Statement,
    statement::{self, DepositsChain},
};
use settlement::{
    check,
    contract::{self, Head, IBridge},
    deploy::outbox_code,
};

sol! {
    function deposit(address to) external payable returns (uint64 index);
    function open(uint64 number, bytes[] calldata accountProof) external;
}

const TO: Address = address!("6fC21092DA55B392b045eD78F4732bff3C580e2c");

/// Fails above the bar, and if it differs from what is written down by more than a hundredth.
fn check_gas(what: &str, used: u64, bar: u64) {
    let text = include_str!("../../../../contracts/gas.json");
    let known: serde_json::Value = serde_json::from_str(text).unwrap();
    let known = known[what].as_u64().unwrap();
    assert!(used <= bar, "{what} takes {used} gas, more than {bar}");
    let close = used * 100 <= known * 101 && used * 100 >= known * 99;
    assert!(
        close,
        "{what} takes {used} gas, and contracts/gas.json has {known}: `make contracts` says more"
    );
}

/// The next batch, of one block, and the call that settles it. `from` is the link of the chain of deposits before it.
fn settle(head: &mut Head, state: B256, from: B256, deposits: u64, link: B256) -> Vec<u8> {
    let number = head.number + 1;
    let batch = Statement {
        version: statement::VERSION,
        chain_config_digest: B256::repeat_byte(2),
        parent_hash: head.hash,
        last_hash: keccak256(number.to_be_bytes()),
        first_number: number,
        last_number: number,
        pre_state_root: head.stateRoot,
        post_state_root: state,
        deposits_digest: keccak256([from.0, link.0].concat()),
        deposits_count: deposits,
        messages_root: B256::ZERO,
        last_timestamp: 1_700_000_000,
        data_commitment: B256::ZERO,
        beneficiary: Address::ZERO,
    };
    (head.hash, head.stateRoot, head.number) = (batch.last_hash, batch.post_state_root, number);
    let values = batch.abi_encode();
    let proof = check::mock(PROGRAM, &values);
    check::call(values, link, vec![(0, proof)])
}

#[test]
fn transactions_take_what_is_written_down() {
    let mut l1 = L1::new();
    let (bridge, rollup) = (TxKind::Call(l1.bridge), TxKind::Call(l1.rollup));
    let ether = U256::from(10_u64.pow(18));
    let mut head =
        Head { hash: B256::repeat_byte(3), stateRoot: B256::repeat_byte(4), ..Head::default() };
    let mut chain = DepositsChain::new(B256::ZERO);
    for index in 0..3 {
        let what = if index == 0 { "deposit_first" } else { "deposit" };
        let used = l1.send(bridge, depositCall { to: TO }.abi_encode(), ether);
        check_gas(what, used, 75_000);
        chain.push(&Withdrawal { index, validator_index: 0, address: TO, amount: 1_000_000_000 });
    }
    let link = chain.link();
    let mut from = B256::ZERO;
    for (what, deposits) in [("settle_deposits", 3), ("settle", 0), ("settle", 0)] {
        let state = keccak256(head.number.to_le_bytes());
        let call = settle(&mut head, state, from, deposits, link);
        check_gas(what, l1.send(rollup, call, U256::ZERO), 100_000);
        from = link;
    }
    for (levels, below, names) in [
        (9, 6, ["claim", "open", "claim_opened"]),
        (2, 1, ["claim_small", "open_small", "claim_opened_small"]),
    ] {
        for opens in [false, true] {
            let withdrawal = contract::Withdrawal {
                nonce: head.number,
                from: TO,
                // Whom nobody has paid before: 25,000 gas more.
                to: Address::with_last_byte(200 + u8::try_from(head.number).unwrap()),
                amount: ether / U256::from(10),
            };
            let id = id(&withdrawal);
            let (root, storage_proof) = prove(keccak256(slot(id)), &word(id), below);
            let account = TrieAccount {
                nonce: 1,
                balance: ether,
                storage_root: root,
                code_hash: keccak256(outbox_code()),
            };
            let (root, account_proof) = prove(keccak256(OUTBOX), &account, levels);
            let call = settle(&mut head, root, link, 0, link);
            l1.send(rollup, call, U256::ZERO);
            let mut claim = IBridge::claimCall {
                withdrawal,
                number: head.number,
                accountProof: account_proof,
                storageProof: storage_proof,
            };
            if opens {
                let account_proof = std::mem::take(&mut claim.accountProof);
                let open = openCall { number: head.number, accountProof: account_proof };
                check_gas(names[1], l1.send(bridge, open.abi_encode(), U256::ZERO), 400_000);
                check_gas(names[2], l1.send(bridge, claim.abi_encode(), U256::ZERO), 200_000);
            } else {
                check_gas(names[0], l1.send(bridge, claim.abi_encode(), U256::ZERO), 400_000);
            }
        }
    }
}

/// The proof of a leaf at `key`, of so many nodes, and its root. What stands beside its path is made up.
fn prove(key: B256, value: &impl alloy_rlp::Encodable, levels: usize) -> (B256, Vec<Bytes>) {
    let path = Nibbles::unpack(key);
    let mut node = Vec::new();
    LeafNode::new(path.slice(levels - 1..), alloy_rlp::encode(value)).encode(&mut node);
    let mut proof = vec![Bytes::from(node)];
    for depth in (0..levels - 1).rev() {
        let below = keccak256(&proof[proof.len() - 1]);
        let child = |n: u8| match path.get(depth) {
            Some(nibble) if nibble == n => below,
            _ => keccak256([key.as_slice(), &[n]].concat()),
        };
        let children = (0..16).map(|n| RlpNode::word_rlp(&child(n))).collect();
        let mut node = Vec::new();
        BranchNode::new(children, TrieMask::new(u16::MAX)).encode(&mut node);
        proof.push(node.into());
    }
    proof.reverse();
    (keccak256(&proof[0]), proof)
}
