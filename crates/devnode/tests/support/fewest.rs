//! What a block reads, counted while it is executed on a chain that has everything.

use alloy_consensus::{TxType, transaction::Recovered};
use alloy_evm::{
    Evm,
    block::BlockExecutor,
    eth::{
        EthBlockExecutionCtx, EthBlockExecutor,
        receipt_builder::{ReceiptBuilder, ReceiptBuilderCtx},
    },
};
use alloy_primitives::{Address, B256, Bytes, KECCAK256_EMPTY, U256};
use devnode::{Chain, Mined, Transaction};
use program::{Receipt, build::BlockEvm, execute};
use revm::{
    Database, bytecode::Bytecode, context_interface::DBErrorMarker, database::State,
    state::AccountInfo,
};
use std::{borrow::Cow, collections::BTreeSet};

/// The accounts, slots and codes that block `number` reads: the fewest that have to be asked for, without the siblings
/// of what it deletes.
pub(crate) fn fewest(chain: &Chain, number: u64) -> usize {
    let (before, mined) = (chain.block(number - 1).unwrap(), chain.block(number).unwrap());
    let header = &mined.block.header;
    let mut reads =
        Reads { chain, before, accounts: [].into(), slots: [].into(), codes: [].into() };
    let db = State::builder().with_database(&mut reads).with_bundle_update().build();
    let evm = BlockEvm::new(db, execute::evm_env(chain.config(), header));
    let withdrawals = mined.block.body.withdrawals.as_ref().map(|list| list.as_slice());
    let context = EthBlockExecutionCtx {
        parent_hash: header.parent_hash,
        parent_beacon_block_root: header.parent_beacon_block_root,
        ommers: &[],
        withdrawals: withdrawals.map(Cow::Borrowed),
        extra_data: header.extra_data.clone(),
        tx_count_hint: None,
        slot_number: None,
    };
    let mut executor = EthBlockExecutor::new(evm, context, chain.config(), Receipts);
    executor.apply_pre_execution_changes().unwrap();
    for (transaction, sender) in mined.block.body.transactions.iter().zip(&mined.senders) {
        executor.execute_transaction(Recovered::new_unchecked(transaction, *sender)).unwrap();
    }
    executor.finish().unwrap();
    reads.accounts.len() + reads.slots.len() + reads.codes.len()
}

#[derive(Debug)]
struct Reads<'c> {
    chain: &'c Chain,
    before: &'c Mined,
    accounts: BTreeSet<Address>,
    slots: BTreeSet<(Address, U256)>,
    codes: BTreeSet<B256>,
}

#[derive(Debug, thiserror::Error)]
#[error("the chain has everything")]
struct Never;

impl DBErrorMarker for Never {}

impl Database for &mut Reads<'_> {
    type Error = Never;

    fn basic(&mut self, address: Address) -> Result<Option<AccountInfo>, Never> {
        self.accounts.insert(address);
        let account = self.chain.account(self.before, &address).unwrap();
        if account == Default::default() {
            return Ok(None);
        }
        let code: Bytes = self.chain.code(self.before, &address).unwrap();
        Ok(Some(AccountInfo {
            nonce: account.nonce,
            balance: account.balance,
            code_hash: account.code_hash,
            code: Some(Bytecode::new_raw(code)),
            ..Default::default()
        }))
        .inspect(|_| {
            // Nearly every code that is there is run.
            if account.code_hash != KECCAK256_EMPTY {
                self.codes.insert(account.code_hash);
            }
        })
    }

    fn code_by_hash(&mut self, _: B256) -> Result<Bytecode, Never> {
        Err(Never)
    }

    fn storage(&mut self, address: Address, slot: U256) -> Result<U256, Never> {
        self.slots.insert((address, slot));
        Ok(self.chain.storage(self.before, &address, slot).unwrap())
    }

    fn block_hash(&mut self, number: u64) -> Result<B256, Never> {
        Ok(self.chain.block(number).unwrap().hash)
    }
}

#[derive(Clone, Copy, Debug)]
struct Receipts;

impl ReceiptBuilder for Receipts {
    type Transaction = Transaction;
    type Receipt = Receipt;

    fn build_receipt<E: Evm>(&self, context: ReceiptBuilderCtx<'_, TxType, E>) -> Receipt {
        Receipt {
            tx_type: context.tx_type,
            success: context.result.is_success(),
            cumulative_gas_used: context.cumulative_gas_used,
            logs: context.result.into_logs(),
        }
    }
}
