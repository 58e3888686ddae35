//! Executes one block on the state: alloy-evm's block executor over revm, on our tries.

use crate::{
    ChainConfig, Error, Receipt, Transaction,
    consensus::{self, DecodedBlock, ResultFields, Violation},
    state::{State, StateSource},
};
use alloc::{borrow::Cow, string::ToString, vec::Vec};
use alloy_consensus::{
    Header, TxType,
    transaction::{Recovered, SignerRecoverable},
};
use alloy_eips::{eip4895::Withdrawal, eip7685::Requests};
use alloy_evm::{
    EthEvm, EthEvmFactory, Evm, EvmEnv, EvmFactory,
    block::{BlockExecutionError, BlockExecutor, BlockValidationError},
    eth::{
        EthBlockExecutionCtx, EthBlockExecutor,
        receipt_builder::{ReceiptBuilder, ReceiptBuilderCtx},
    },
    precompiles::PrecompilesMap,
};
use alloy_hardforks::EthereumHardforks;
use revm::{
    database::{State as Overlay, states::bundle_state::BundleRetention},
    inspector::NoOpInspector,
};

/// What executing a block gave, apart from the state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Executed {
    /// One receipt per transaction.
    pub receipts: Vec<Receipt>,
    /// EIP-7685 requests; `None` before Prague.
    pub requests: Option<Requests>,
    /// The header fields that follow.
    pub fields: ResultFields,
}

/// The environment in which the transactions of the block with this header run.
pub fn evm_env(config: &ChainConfig, header: &Header) -> EvmEnv {
    let blob_params = config.blob_params(header.timestamp);
    EvmEnv::for_eth_block(header, config, config.chain_id, blob_params)
}

/// Executes a block on `state`, which holds its pre-state, and leaves its post-state there.
/// Checks what the execution shows against the header, the state root included.
///
/// # Errors
/// [`Error::Block`] if the block is invalid; a `Missing…` error or [`Error::Trie`] if the witness
/// does not hold what the block touches. The state is of no further use after an error.
pub fn execute<'a, S: StateSource<'a>>(
    config: &ChainConfig,
    decoded: &DecodedBlock,
    state: &mut State<'a, S>,
) -> Result<Executed, Error> {
    let header = decoded.header.inner();
    let block = &decoded.block.body;
    let withdrawals = block.withdrawals.as_ref().map(|list| list.as_slice());
    let mut executor = executor(config, header, withdrawals, state);
    let outcome = (|| {
        executor.apply_pre_execution_changes().map_err(|error| (None, error))?;
        let mut senders = Vec::with_capacity(block.transactions.len());
        for (index, transaction) in block.transactions.iter().enumerate() {
            // SOUNDNESS: the sender is who signed; a high `s` is refused (EIP-2).
            let Ok(sender) = transaction.recover_signer() else {
                return Ok(Err(Violation::Signature { index }));
            };
            senders.push(sender);
            executor
                .execute_transaction(Recovered::new_unchecked(transaction, sender))
                .map_err(|error| (Some(index), error))?;
        }
        Ok(Ok(()))
    })();
    let result = match outcome {
        Ok(Ok(())) => executor.finish().map_err(|error| (None, error)),
        Ok(Err(violation)) => {
            return Err(Error::Block { number: header.number, violation });
        }
        Err(error) => {
            drop(executor);
            Err(error)
        }
    };
    let result = match result {
        Ok((evm, result)) => Ok((into_bundle(evm.into_db()).0, result)),
        Err(error) => Err(error),
    };
    // SOUNDNESS: whatever the executor made of it, a read that the witness could not answer
    // ends the proof.
    if let Some(failure) = state.take_failure() {
        return Err(failure);
    }
    let (bundle, result) = result.map_err(|(index, error)| refusal(header.number, index, error))?;
    let requests =
        config.is_prague_active_at_timestamp(header.timestamp).then_some(result.requests);
    let fields = ResultFields::new(result.gas_used, &result.receipts, requests.as_ref());
    let invalid = |violation| Error::Block { number: header.number, violation };
    consensus::check_result(header, &fields).map_err(invalid)?;
    state.apply(bundle)?;
    // SOUNDNESS: the header commits to the state after the block.
    consensus::equal_roots("stateRoot", header.state_root, state.root()?).map_err(invalid)?;
    state.remember_block(header.number, decoded.header.hash());
    Ok(Executed { receipts: result.receipts, requests, fields })
}

/// The changes that one block made.
pub(crate) type Bundle = revm::database::BundleState;
/// What one block has changed so far, over the state.
pub(crate) type Db<'s, 'a, S> = Overlay<&'s mut State<'a, S>>;
pub(crate) type Executor<'s, 'a, S> = EthBlockExecutor<
    's,
    EthEvm<Db<'s, 'a, S>, NoOpInspector, PrecompilesMap>,
    &'s ChainConfig,
    Receipts,
>;

pub(crate) fn executor<'s, 'a, S: StateSource<'a>>(
    config: &'s ChainConfig,
    header: &Header,
    withdrawals: Option<&'s [Withdrawal]>,
    state: &'s mut State<'a, S>,
) -> Executor<'s, 'a, S> {
    let db = Overlay::builder().with_database(state).with_bundle_update().build();
    let evm = EthEvmFactory::default().create_evm(db, evm_env(config, header));
    let ctx = EthBlockExecutionCtx {
        parent_hash: header.parent_hash,
        parent_beacon_block_root: header.parent_beacon_block_root,
        ommers: &[],
        withdrawals: withdrawals.map(Cow::Borrowed),
        extra_data: header.extra_data.clone(),
        tx_count_hint: None,
        slot_number: None,
    };
    EthBlockExecutor::new(evm, ctx, config, Receipts)
}

/// Ends a block's changes and gives them, and the state below, back.
pub(crate) fn into_bundle<DB: revm::Database>(mut db: Overlay<DB>) -> (Bundle, DB) {
    db.merge_transitions(BundleRetention::PlainState);
    (db.take_bundle(), db.database)
}

/// Whose fault an executor's error is.
pub(crate) fn refusal(number: u64, index: Option<usize>, error: BlockExecutionError) -> Error {
    let violation = match (index, error) {
        (_, BlockExecutionError::Internal(error)) => {
            return Error::Execution { number, reason: error.to_string() };
        }
        (
            Some(index),
            BlockExecutionError::Validation(BlockValidationError::InvalidTx { error, .. }),
        ) => Violation::Transaction { index, reason: error.to_string() },
        (Some(index), BlockExecutionError::Validation(error)) => {
            Violation::Transaction { index, reason: error.to_string() }
        }
        (None, BlockExecutionError::Validation(error)) => Violation::System(error.to_string()),
    };
    Error::Block { number, violation }
}

/// Makes receipts; their blooms come later.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Receipts;

impl ReceiptBuilder for Receipts {
    type Transaction = Transaction;
    type Receipt = Receipt;

    fn build_receipt<E: Evm>(&self, ctx: ReceiptBuilderCtx<'_, TxType, E>) -> Receipt {
        Receipt {
            tx_type: ctx.tx_type,
            success: ctx.result.is_success(),
            cumulative_gas_used: ctx.cumulative_gas_used,
            logs: ctx.result.into_logs(),
        }
    }
}
