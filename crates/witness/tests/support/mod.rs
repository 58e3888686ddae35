//! A two-block chain made on the spot, and what a node says about it.
#![allow(dead_code, reason = "each test file uses a part")]

use alloy_consensus::{
    EMPTY_ROOT_HASH, Header, Sealed, SignableTransaction, TxEip1559, transaction::Recovered,
};
use alloy_eips::{
    eip4895::Withdrawal, eip7002::WITHDRAWAL_REQUEST_PREDEPLOY_ADDRESS,
    eip7251::CONSOLIDATION_REQUEST_PREDEPLOY_ADDRESS, eip7685::EMPTY_REQUESTS_HASH,
};
use alloy_genesis::GenesisAccount;
use alloy_primitives::{Address, B256, Bytes, U256};
use alloy_signer::SignerSync;
use alloy_signer_local::PrivateKeySigner;
use program::{
    ChainConfig, Transaction,
    build::{Attributes, BlockBuilder},
    state::State,
    statement::DepositsChain,
};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use witness::record::{Recorded, Recorder, Store};

/// One block as a node knows it.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub header: Sealed<Header>,
    pub rlp: Bytes,
    pub parent: Sealed<Header>,
    /// The nodes that the block needs.
    pub state: Vec<Bytes>,
    /// The codes that it needs.
    pub codes: Vec<Bytes>,
    pub transactions: Vec<Value>,
    pub withdrawals: Value,
}

/// Digest and number of the deposits that `blocks` consume, after the link `start`.
pub(crate) fn deposits(start: B256, blocks: &[Known]) -> (B256, u64) {
    let mut chain = DepositsChain::new(start);
    for block in blocks {
        let withdrawals: Vec<Withdrawal> =
            serde_json::from_value(block.withdrawals.clone()).unwrap();
        withdrawals.iter().for_each(|withdrawal| chain.push(withdrawal));
    }
    (chain.digest(), chain.count())
}

/// Blocks 1 and 2 of the dev chain, with a transfer and a withdrawal each.
pub(crate) fn chain() -> Vec<Known> {
    let config = ChainConfig::dev();
    let signer = PrivateKeySigner::from_bytes(&B256::repeat_byte(7)).unwrap();
    let rich = || GenesisAccount {
        balance: U256::from(10).pow(U256::from(18)),
        ..GenesisAccount::default()
    };
    // These two must have code, whatever it does (EIP-7002, EIP-7251).
    let contracts = [WITHDRAWAL_REQUEST_PREDEPLOY_ADDRESS, CONSOLIDATION_REQUEST_PREDEPLOY_ADDRESS]
        .map(|address| (address, rich().with_code(Some(Bytes::from_static(&[0])))));
    let accounts: BTreeMap<Address, GenesisAccount> = (0..40u8)
        .map(Address::repeat_byte)
        .chain([signer.address()])
        .map(|address| (address, rich()))
        .chain(contracts)
        .collect();
    let (mut store, state_root) = Store::with_accounts(&accounts);
    let mut parent = Sealed::new(Header {
        state_root,
        timestamp: 1_700_000_000,
        gas_limit: 30_000_000,
        base_fee_per_gas: Some(1_000_000_000),
        withdrawals_root: Some(EMPTY_ROOT_HASH),
        blob_gas_used: Some(0),
        excess_blob_gas: Some(0),
        parent_beacon_block_root: Some(B256::ZERO),
        requests_hash: Some(EMPTY_REQUESTS_HASH),
        ..Default::default()
    });
    let mut blocks = Vec::new();
    for nonce in 0..2 {
        let attributes = Attributes {
            timestamp: parent.timestamp + 2,
            gas_limit: 30_000_000,
            beneficiary: Address::repeat_byte(0xbe),
            withdrawals: vec![Withdrawal {
                amount: 5,
                address: Address::repeat_byte(9),
                ..Default::default()
            }]
            .into(),
            ..Default::default()
        };
        let transaction = TxEip1559 {
            chain_id: config.chain_id,
            nonce,
            gas_limit: 21_000,
            max_fee_per_gas: 20_000_000_000,
            max_priority_fee_per_gas: 1,
            to: Address::repeat_byte(3).into(),
            value: U256::from(5),
            ..Default::default()
        };
        let signature = signer.sign_hash_sync(&transaction.signature_hash()).unwrap();
        let transaction = Transaction::Eip1559(transaction.into_signed(signature));
        let mut state = State::from_source(parent.state_root, Recorder::new(&store));
        let mut builder = BlockBuilder::new(&config, &parent, &attributes, &mut state).unwrap();
        builder.push(Recovered::new_unchecked(&transaction, signer.address())).unwrap();
        let built = builder.finish().unwrap();
        let mut new = Vec::new();
        state.new_nodes(|hash, node| new.push((hash, node.to_vec())));
        let recorded = Recorded::new(state, built.block.header.number);
        for (hash, node) in new {
            store.put_node(hash, &node);
        }
        let mut said = serde_json::to_value(&transaction).unwrap();
        said["from"] = json!(signer.address());
        said["blockHash"] = json!(built.hash);
        let header = Sealed::new(built.block.header.clone());
        blocks.push(Known {
            header: header.clone(),
            rlp: alloy_rlp::encode(&built.block).into(),
            parent: core::mem::replace(&mut parent, header),
            state: recorded.nodes,
            codes: recorded.codes,
            transactions: vec![said],
            withdrawals: json!(attributes.withdrawals),
        });
    }
    blocks
}

impl Known {
    /// The execution witness, with the parent's header as RLP.
    pub(crate) fn witness(&self) -> Value {
        let parent = Bytes::from(alloy_rlp::encode(self.parent.inner()));
        json!({ "state": self.state, "codes": self.codes, "keys": [], "headers": [parent] })
    }

    /// The block as `eth_getBlockByNumber` gives it.
    pub(crate) fn object(&self) -> Value {
        let mut block = header_object(&self.header);
        block["transactions"] = json!(self.transactions);
        block["withdrawals"] = self.withdrawals.clone();
        block
    }

    /// The block as a block file.
    pub(crate) fn file(&self) -> Value {
        json!({
            "chain_id": 1337,
            "number": self.header.number,
            "block_hash": self.header.hash(),
            "block_rlp": self.rlp,
            "prev_state_root": self.parent.state_root,
            "witness": self.witness(),
            "source": "made for a test",
        })
    }
}

pub(crate) fn header_object(header: &Sealed<Header>) -> Value {
    let mut object = serde_json::to_value(header.inner()).unwrap();
    object["hash"] = json!(header.hash());
    object["transactions"] = json!([]);
    object["uncles"] = json!([]);
    object
}

/// An error with its causes, as the command prints it.
pub(crate) fn text(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}
