//! The contracts on L1, as they are compiled, in the EVM of the dev node.

mod gas;
mod tries;

use alloy_consensus::{SignableTransaction as _, TxEip1559, TxEnvelope};
use alloy_eips::eip2718::Encodable2718 as _;
use alloy_network::TxSignerSync as _;
use alloy_primitives::{Address, B256, TxKind, U256};
use alloy_sol_types::SolValue as _;
use devnode::{Chain, accounts, genesis};
use settlement::{
    contract::{Head, L2, Policy, Roles, System},
    deploy::Contract,
};

const OUTBOX: Address = Address::repeat_byte(0x0b);
const L2_CHAIN: u64 = 1_337;
const PROGRAM: B256 = B256::repeat_byte(1);

/// A chain with the contracts, whose first account deployed them and settles.
struct L1 {
    chain: Chain,
    rollup: Address,
    bridge: Address,
    nonce: u64,
}

impl L1 {
    fn new() -> Self {
        let chain = Chain::new(&genesis::dev()).unwrap();
        let mut this = Self { chain, rollup: Address::ZERO, bridge: Address::ZERO, nonce: 0 };
        let sender = accounts::signer(0).address();
        this.send(TxKind::Create, Contract::DangerMock.code(), U256::ZERO);
        let adapter = sender.create(0);
        let policy = Policy {
            systems: vec![System { adapter, programId: PROGRAM, family: PROGRAM }],
            threshold: 1,
            chainConfigDigest: B256::repeat_byte(2),
            sequencer: sender,
            delay: 8 * 86_400,
            window: 86_400,
            ..Policy::default()
        };
        let place = L2 { chainId: U256::from(L2_CHAIN), outbox: OUTBOX };
        let genesis =
            Head { hash: B256::repeat_byte(3), stateRoot: B256::repeat_byte(4), ..Head::default() };
        let arguments = (genesis, policy, Roles::default(), place).abi_encode_params();
        this.send(TxKind::Create, [Contract::Rollup.code(), arguments].concat(), U256::ZERO);
        this.rollup = sender.create(1);
        // The first contract that it makes.
        this.bridge = this.rollup.create(1);
        this
    }

    /// Sends from the first account, in a block of its own: the gas that it takes.
    fn send(&mut self, to: TxKind, data: Vec<u8>, value: U256) -> u64 {
        let mut tx = TxEip1559 {
            chain_id: genesis::DEV_CHAIN_ID,
            nonce: self.nonce,
            gas_limit: 12_000_000,
            max_fee_per_gas: 10_000_000_000,
            to,
            value,
            input: data.into(),
            ..TxEip1559::default()
        };
        let signature = accounts::signer(0).sign_transaction_sync(&mut tx).unwrap();
        let raw = TxEnvelope::from(tx.into_signed(signature)).encoded_2718();
        self.chain.submit_raw(&raw).unwrap();
        self.nonce += 1;
        let time = self.chain.head().timestamp + 12;
        let mined = self.chain.mine(time).unwrap();
        assert!(mined.receipts[0].success, "it reverts");
        mined.block.header.gas_used
    }
}
