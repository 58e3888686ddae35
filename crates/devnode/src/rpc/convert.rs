//! Converts the chain's types to those of JSON-RPC.

use crate::{Chain, Mined, Transaction};
use alloy_consensus::{
    Receipt, ReceiptEnvelope, ReceiptWithBloom, Transaction as _, TxReceipt, Typed2718,
    transaction::{Recovered, TransactionInfo},
};
use alloy_primitives::{Address, Sealed, U256};
use alloy_rpc_types_eth::{
    Block, BlockTransactions, Header, Log, Transaction as RpcTransaction, TransactionReceipt,
};
use std::collections::BTreeMap;

type FullTransaction = RpcTransaction<Transaction>;

pub(super) fn block(mined: &Mined, full: bool) -> Block<FullTransaction> {
    let transactions = if full {
        let count = mined.block.body.transactions.len();
        BlockTransactions::Full((0..count).map(|index| transaction(mined, index)).collect())
    } else {
        BlockTransactions::Hashes(
            mined.block.body.transactions.iter().map(|t| *t.tx_hash()).collect(),
        )
    };
    let size = U256::from(alloy_rlp::Encodable::length(&mined.block));
    let header = Sealed::new_unchecked(mined.block.header.clone(), mined.hash);
    Block::new(Header::from_consensus(header, Some(U256::ZERO), Some(size)), transactions)
        .with_withdrawals(mined.block.body.withdrawals.clone())
}

/// A block that has not been made yet has no hash; clients expect null there, and for the nonce.
pub(super) fn pending_block(preview: &Mined, full: bool) -> serde_json::Value {
    let mut value = serde_json::to_value(block(preview, full)).expect("a block is JSON");
    value["hash"] = serde_json::Value::Null;
    value["nonce"] = serde_json::Value::Null;
    value
}

pub(super) fn transaction(mined: &Mined, index: usize) -> FullTransaction {
    let header = &mined.block.header;
    let info = TransactionInfo {
        hash: None,
        index: Some(index as u64),
        block_hash: Some(mined.hash),
        block_number: Some(header.number),
        base_fee: header.base_fee_per_gas,
        block_timestamp: Some(header.timestamp),
    };
    let inner = mined.block.body.transactions[index].clone();
    FullTransaction::from_transaction(Recovered::new_unchecked(inner, mined.senders[index]), info)
}

pub(super) fn pending(pooled: &Recovered<Transaction>) -> FullTransaction {
    FullTransaction::from_transaction(pooled.clone(), TransactionInfo::default())
}

/// The logs of each transaction.
pub(super) fn logs(mined: &Mined) -> Vec<Vec<Log>> {
    let header = &mined.block.header;
    let mut log_index = 0;
    let each = mined.receipts.iter().zip(&mined.block.body.transactions).enumerate();
    each.map(|(index, (receipt, transaction))| {
        let convert = |log: &alloy_primitives::Log| {
            log_index += 1;
            Log {
                inner: log.clone(),
                block_hash: Some(mined.hash),
                block_number: Some(header.number),
                block_timestamp: Some(header.timestamp),
                transaction_hash: Some(*transaction.tx_hash()),
                transaction_index: Some(index as u64),
                log_index: Some(log_index - 1),
                removed: false,
            }
        };
        receipt.logs().iter().map(convert).collect()
    })
    .collect()
}

pub(super) fn receipts(mined: &Mined, chain: &Chain) -> Vec<TransactionReceipt> {
    let header = &mined.block.header;
    let mut before = 0;
    let each = mined.receipts.iter().zip(logs(mined)).enumerate();
    each.map(|(index, (receipt, logs))| {
        let transaction = &mined.block.body.transactions[index];
        let from = mined.senders[index];
        let cumulative_gas_used = receipt.cumulative_gas_used();
        let gas_used = cumulative_gas_used - before;
        before = cumulative_gas_used;
        let inner = ReceiptWithBloom {
            logs_bloom: receipt.bloom(),
            receipt: Receipt { status: receipt.status_or_post_state(), cumulative_gas_used, logs },
        };
        let inner = match transaction.ty() {
            1 => ReceiptEnvelope::Eip2930(inner),
            2 => ReceiptEnvelope::Eip1559(inner),
            3 => ReceiptEnvelope::Eip4844(inner),
            4 => ReceiptEnvelope::Eip7702(inner),
            _ => ReceiptEnvelope::Legacy(inner),
        };
        let blob_gas_used = transaction.blob_gas_used();
        TransactionReceipt {
            inner,
            transaction_hash: *transaction.tx_hash(),
            transaction_index: Some(index as u64),
            block_hash: Some(mined.hash),
            block_number: Some(header.number),
            gas_used,
            effective_gas_price: transaction.effective_gas_price(header.base_fee_per_gas),
            blob_gas_used,
            blob_gas_price: blob_gas_used.map(|_| chain.blob_fee(header)),
            from,
            to: transaction.to(),
            contract_address: transaction.is_create().then(|| from.create(transaction.nonce())),
        }
    })
    .collect()
}

/// Part of the pool, by sender and nonce.
#[derive(Default)]
pub(super) struct Content(BTreeMap<Address, BTreeMap<u64, FullTransaction>>);

impl Content {
    pub(super) fn count(&self) -> usize {
        self.0.values().map(BTreeMap::len).sum()
    }

    /// Geth's shape: nonces are decimal strings.
    pub(super) fn content(self) -> serde_json::Value {
        serde_json::to_value(self.0).expect("transactions are JSON")
    }
}

/// What can be mined now, and what waits for an earlier nonce.
pub(super) fn pool(chain: &Chain) -> (Content, Content) {
    let (mut ready, mut gapped) = (Content::default(), Content::default());
    for waiting in chain.pool().iter() {
        let (sender, nonce) = (waiting.signer(), waiting.nonce());
        let part = if nonce < chain.next_nonce(&sender) { &mut ready } else { &mut gapped };
        part.0.entry(sender).or_default().insert(nonce, pending(waiting));
    }
    (ready, gapped)
}
