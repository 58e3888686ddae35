//! Builds blocks with the executor that checks them, as a node of the chain does.

pub use crate::evm::BlockEvm;
use crate::{
    Block, ChainConfig, Error, Receipt, Transaction,
    consensus::{NextFees, ResultFields, Violation},
    execute::{Executor, Refusal},
    state::{State, StateSource},
};
use alloy_consensus::{
    BlockBody, EMPTY_OMMER_ROOT_HASH, Header, Transaction as _,
    proofs::{calculate_transaction_root, calculate_withdrawals_root},
    transaction::Recovered,
};
use alloy_eips::{eip4895::Withdrawals, eip7685::Requests};
use alloy_hardforks::EthereumHardforks;
use alloy_primitives::{Address, B256, Bytes, Sealed};

/// What the proposer of a block decides.
#[derive(Clone, Debug, Default)]
pub struct Attributes {
    /// In seconds, later than the parent's.
    pub timestamp: u64,
    /// Who earns the fees.
    pub beneficiary: Address,
    /// EIP-4399 randomness.
    pub prev_randao: B256,
    /// Gas limit; within 1/1024 of the parent's.
    pub gas_limit: u64,
    /// At most 32 bytes.
    pub extra_data: Bytes,
    /// EIP-4895 withdrawals; ignored before Shanghai.
    pub withdrawals: Withdrawals,
    /// EIP-4788; ignored before Cancun.
    pub parent_beacon_block_root: B256,
}

/// Why a transaction was not included.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PushError {
    /// It does not fit into this block, but may fit into another.
    #[error("the block has no room for the transaction")]
    BlockFull,
    /// It is invalid on the current state.
    #[error("{0}")]
    Invalid(String),
    /// The executor failed; the builder is of no further use.
    #[error("executing the transaction failed: {0}")]
    Fatal(String),
}

/// A finished block.
#[derive(Clone, Debug)]
pub struct Built {
    /// The block, its header complete.
    pub block: Block,
    /// Its hash.
    pub hash: B256,
    /// One receipt per transaction.
    pub receipts: Vec<Receipt>,
    /// EIP-7685 requests; `None` before Prague.
    pub requests: Option<Requests>,
}

/// A block under construction.
#[expect(missing_debug_implementations, reason = "it holds an EVM")]
pub struct BlockBuilder<'s, 'a, S: StateSource<'a>> {
    header: Header,
    withdrawals: Option<&'s Withdrawals>,
    executor: Executor<'s, 'a, S>,
    transactions: Vec<Transaction>,
    blob_gas_limit: u64,
}

impl<'s, 'a, S: StateSource<'a>> BlockBuilder<'s, 'a, S> {
    /// Starts a block on top of `parent`, whose post-state is `state`.
    ///
    /// # Errors
    /// [`Error::Block`] if no valid block can follow the parent, or a system call fails.
    pub fn new(
        config: &'s ChainConfig,
        parent: &Sealed<Header>,
        attributes: &'s Attributes,
        state: &'s mut State<'a, S>,
    ) -> Result<Self, Error> {
        let number = parent.number + 1;
        let time = attributes.timestamp;
        let fees =
            NextFees::of(config, parent, time).map_err(|violation| violation.in_block(number))?;
        let shanghai = config.is_shanghai_active_at_timestamp(time);
        let cancun = config.is_cancun_active_at_timestamp(time);
        let withdrawals = shanghai.then_some(&attributes.withdrawals);
        let header = Header {
            parent_hash: parent.hash(),
            ommers_hash: EMPTY_OMMER_ROOT_HASH,
            beneficiary: attributes.beneficiary,
            number,
            gas_limit: attributes.gas_limit,
            timestamp: time,
            extra_data: attributes.extra_data.clone(),
            mix_hash: attributes.prev_randao,
            base_fee_per_gas: Some(fees.base_fee),
            withdrawals_root: withdrawals.map(|list| calculate_withdrawals_root(list)),
            excess_blob_gas: fees.excess_blob_gas,
            parent_beacon_block_root: cancun.then_some(attributes.parent_beacon_block_root),
            ..Default::default()
        };
        state.remember_block(parent.number, parent.hash());
        let list = withdrawals.map(|list| list.as_slice());
        let mut executor = Executor::new(config, &header, list, state);
        executor.begin().map_err(|refusal| refusal.in_block(number))?;
        let blob_gas_limit =
            config.blob_params(time).map_or(0, |params| params.max_blob_gas_per_block());
        Ok(Self { header, withdrawals, executor, transactions: Vec::new(), blob_gas_limit })
    }

    /// The header so far: everything that does not follow from the transactions.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Executes a transaction and includes it if it is valid.
    ///
    /// # Errors
    /// [`PushError`]; the block is unchanged, unless the error is fatal.
    pub fn push(&mut self, transaction: Recovered<&Transaction>) -> Result<(), PushError> {
        let blob_gas = transaction.blob_gas_used().unwrap_or_default();
        if self.executor.result().blob_gas_used + blob_gas > self.blob_gas_limit {
            return Err(PushError::BlockFull);
        }
        let index = self.transactions.len();
        match self.executor.transact(index, transaction.inner(), transaction.signer()) {
            Ok(()) => {
                self.transactions.push((*transaction.inner()).clone());
                Ok(())
            }
            Err(Refusal::Violation(Violation::GasAllowance { .. })) => Err(PushError::BlockFull),
            Err(Refusal::Violation(Violation::Transaction { reason, .. })) => {
                Err(PushError::Invalid(reason.to_string()))
            }
            Err(Refusal::Violation(violation)) => Err(PushError::Fatal(violation.to_string())),
            Err(Refusal::Failed(reason)) => Err(PushError::Fatal(reason)),
        }
    }

    /// Ends the block: system calls, withdrawals, roots. Afterwards `state` holds the block's
    /// post-state.
    ///
    /// # Errors
    /// As [`crate::execute::execute`].
    pub fn finish(self) -> Result<Built, Error> {
        let Self { mut header, withdrawals, mut executor, transactions, .. } = self;
        let number = header.number;
        let outcome = executor.end();
        let (result, changes, state) = executor.into_parts();
        if let Some(failure) = state.take_failure() {
            return Err(failure);
        }
        let requests = outcome.map_err(|refusal| refusal.in_block(number))?;
        let fields =
            ResultFields::new(result.gas_used, &result.receipts, requests.as_ref(), state.hashes());
        state.apply(changes)?;
        header.state_root = state.root()?;
        header.transactions_root = calculate_transaction_root(&transactions);
        header.receipts_root = fields.receipts_root;
        header.logs_bloom = fields.logs_bloom;
        header.gas_used = fields.gas_used;
        header.requests_hash = fields.requests_hash;
        header.blob_gas_used = header.excess_blob_gas.map(|_| result.blob_gas_used);
        let hash = header.hash_slow();
        state.remember_block(number, hash);
        let body =
            BlockBody { transactions, ommers: Vec::new(), withdrawals: withdrawals.cloned() };
        Ok(Built { block: Block { header, body }, hash, receipts: result.receipts, requests })
    }
}
