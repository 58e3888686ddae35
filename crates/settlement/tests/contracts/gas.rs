//! What transactions take, compared with contracts/gas.json: `make contracts` measures the same, and more, with forge.

use crate::{L1, PROGRAM};
use alloy_eips::eip4895::Withdrawal;
use alloy_primitives::{Address, B256, TxKind, U256, address, keccak256};
use alloy_sol_types::{SolCall as _, sol};
use program::{
    Statement,
    statement::{self, DepositsChain},
};
use settlement::{check, contract::Head};

sol! {
    function deposit(address to) external payable returns (uint64 index);
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
    let mut before = B256::ZERO;
    for (what, deposits) in [("settle_deposits", 3), ("settle", 0), ("settle", 0)] {
        let after = chain.link();
        let number = head.number + 1;
        let batch = Statement {
            version: statement::VERSION,
            chain_config_digest: B256::repeat_byte(2),
            parent_hash: head.hash,
            last_hash: keccak256(number.to_be_bytes()),
            first_number: number,
            last_number: number,
            pre_state_root: head.stateRoot,
            post_state_root: keccak256(number.to_le_bytes()),
            deposits_digest: keccak256([before.0, after.0].concat()),
            deposits_count: deposits,
            messages_root: B256::ZERO,
            last_timestamp: 1_700_000_000,
            data_commitment: B256::ZERO,
            beneficiary: Address::ZERO,
        };
        let values = batch.abi_encode();
        let call = check::call(values.clone(), after, vec![(0, check::mock(PROGRAM, &values))]);
        check_gas(what, l1.send(rollup, call, U256::ZERO), 100_000);
        (head.hash, head.stateRoot, head.number) = (batch.last_hash, batch.post_state_root, number);
        before = after;
    }
}
