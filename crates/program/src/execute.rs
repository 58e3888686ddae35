//! Executes one block on the state: alloy-evm's block executor over revm, on our tries.

use crate::{
    ChainConfig, Error, Receipt, Transaction,
    consensus::{self, DecodedBlock, ResultFields, Violation},
    evm::BlockEvm,
    phase::Phase,
    state::{State, StateSource},
};
use alloc::{borrow::Cow, string::ToString, vec::Vec};
use alloy_consensus::{
    Header, TxType,
    transaction::{Recovered, SignerRecoverable},
};
use alloy_eips::{
    eip4895::Withdrawal, eip7002::WITHDRAWAL_REQUEST_PREDEPLOY_ADDRESS,
    eip7251::CONSOLIDATION_REQUEST_PREDEPLOY_ADDRESS, eip7685::Requests,
};
use alloy_evm::{
    Evm, EvmEnv,
    block::{BlockExecutionError, BlockExecutor, BlockValidationError},
    eth::{
        EthBlockExecutionCtx, EthBlockExecutor,
        eip6110::DepositEvent,
        receipt_builder::{ReceiptBuilder, ReceiptBuilderCtx},
    },
};
use alloy_hardforks::EthereumHardforks;
use alloy_primitives::{KECCAK256_EMPTY, U256};
use alloy_sol_types::SolEvent;
use revm::Database as _;
use revm::database::{State as Overlay, states::bundle_state::BundleRetention};

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
    let block = &decoded.body;
    let withdrawals = block.withdrawals.as_ref().map(|list| list.as_slice());
    let mut executor = executor(config, header, withdrawals, state);
    let outcome = (|| {
        executor.apply_pre_execution_changes().map_err(|error| (None, error))?;
        let mut senders = Vec::with_capacity(block.transactions.len());
        for (index, transaction) in block.transactions.iter().enumerate() {
            // SOUNDNESS: the sender is who signed; a high `s` is refused (EIP-2).
            let Ok(sender) = Phase::Senders.run(|| transaction.recover_signer()) else {
                return Ok(Err(Violation::Signature { index }));
            };
            senders.push(sender);
            executor
                .execute_transaction(Recovered::new_unchecked(transaction, sender))
                .map_err(|error| (Some(index), error))?;
        }
        check_after_transactions(config, header, &mut executor).map_err(|error| (None, error))?;
        Ok(Ok(()))
    })();
    let result = match outcome {
        Ok(Ok(())) => executor
            .finish()
            .map(|(evm, result)| (into_bundle(evm.into_db()).0, result))
            .map_err(|error| (None, error)),
        Ok(Err(violation)) => {
            return Err(Error::Block { number: header.number, violation });
        }
        Err(error) => {
            drop(executor);
            Err(error)
        }
    };
    // SOUNDNESS: whatever the executor made of it, a read that the witness could not answer
    // ends the proof.
    if let Some(failure) = state.take_failure() {
        return Err(failure);
    }
    let (bundle, result) = result.map_err(|(index, error)| refusal(header.number, index, error))?;
    let requests =
        config.is_prague_active_at_timestamp(header.timestamp).then_some(result.requests);
    let fields = Phase::Receipts.run(|| {
        ResultFields::new(result.gas_used, &result.receipts, requests.as_ref(), state.hashes())
    });
    let invalid = |violation| Error::Block { number: header.number, violation };
    consensus::check_result(header, &fields).map_err(invalid)?;
    let state_root = Phase::PostState.run(|| {
        state.apply(bundle)?;
        state.root()
    })?;
    // SOUNDNESS: the header commits to the state after the block.
    consensus::equal_roots("stateRoot", header.state_root, state_root).map_err(invalid)?;
    state.remember_block(header.number, decoded.header.hash());
    Ok(Executed { receipts: result.receipts, requests, fields })
}

/// Checks what the executor takes for granted before it collects the block's requests.
pub(crate) fn check_after_transactions<'a, S: StateSource<'a>>(
    config: &ChainConfig,
    header: &Header,
    executor: &mut Executor<'_, 'a, S>,
) -> Result<(), BlockExecutionError> {
    if !config.is_prague_active_at_timestamp(header.timestamp) {
        return Ok(());
    }
    // SOUNDNESS: a log of the deposit contract is a deposit in the one layout of EIP-6110, or the block is invalid.
    let logs = executor.receipts.iter().flat_map(|receipt| &receipt.logs);
    for log in logs.filter(|log| log.address == config.deposit_contract) {
        if log.topics().first() == Some(&DepositEvent::SIGNATURE_HASH)
            && !is_deposit(&log.data.data)
        {
            let reason = "a log does not have the layout of a deposit".to_string();
            return Err(BlockValidationError::DepositRequestDecode(reason).into());
        }
    }
    // SOUNDNESS: EIP-7002 and EIP-7251, a block without these contracts is invalid.
    for contract in [WITHDRAWAL_REQUEST_PREDEPLOY_ADDRESS, CONSOLIDATION_REQUEST_PREDEPLOY_ADDRESS]
    {
        let account = executor.evm_mut().db_mut().basic(contract);
        let account = account.map_err(BlockExecutionError::other)?;
        if account.is_none_or(|account| account.code_hash == KECCAK256_EMPTY) {
            let reason = alloc::format!("{contract} has no code");
            return Err(BlockValidationError::msg(reason).into());
        }
    }
    Ok(())
}

/// Whether the data of a `DepositEvent` is laid out as EIP-6110 demands: five byte strings of fixed lengths, one after
/// the other.
fn is_deposit(data: &[u8]) -> bool {
    const LENGTHS: [usize; 5] = [48, 32, 8, 96, 8];
    let word = |at: usize| data.get(at..at + 32).map(U256::from_be_slice);
    let mut offset = 32 * LENGTHS.len();
    for (index, length) in LENGTHS.into_iter().enumerate() {
        if word(32 * index) != Some(U256::from(offset)) || word(offset) != Some(U256::from(length))
        {
            return false;
        }
        offset += 32 + length.next_multiple_of(32);
    }
    data.len() == offset
}

/// The changes that one block made.
pub(crate) type Bundle = revm::database::BundleState;
/// What one block has changed so far, over the state.
pub(crate) type Db<'s, 'a, S> = Overlay<&'s mut State<'a, S>>;
pub(crate) type Executor<'s, 'a, S> =
    EthBlockExecutor<'s, BlockEvm<Db<'s, 'a, S>>, &'s ChainConfig, Receipts>;

pub(crate) fn executor<'s, 'a, S: StateSource<'a>>(
    config: &'s ChainConfig,
    header: &Header,
    withdrawals: Option<&'s [Withdrawal]>,
    state: &'s mut State<'a, S>,
) -> Executor<'s, 'a, S> {
    let db = Overlay::builder().with_database(state).with_bundle_update().build();
    let evm = BlockEvm::new(db, evm_env(config, header));
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
    use BlockValidationError::{
        DepositRequestDecode, InvalidTx, TransactionGasLimitMoreThanAvailableBlockGas,
    };
    let internal = |reason| Error::Execution { number, reason };
    let error = match error {
        BlockExecutionError::Validation(error) => error,
        BlockExecutionError::Internal(error) => return internal(error.to_string()),
    };
    let violation = match (index, error) {
        (Some(index), InvalidTx { error, .. }) => match error.as_invalid_tx_err() {
            Some(reason) => Violation::Transaction { index, reason: reason.clone() },
            None => return internal(error.to_string()),
        },
        (
            Some(index),
            TransactionGasLimitMoreThanAvailableBlockGas {
                transaction_gas_limit: limit,
                block_available_gas: available,
            },
        ) => Violation::GasAllowance { index, limit, available },
        (Some(_), error) => return internal(error.to_string()),
        (None, DepositRequestDecode(reason)) => Violation::Deposit(reason),
        (None, error) => Violation::SystemCall(error.to_string()),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_one_layout_is_a_deposit() {
        let mut data = Vec::new();
        for offset in [160u64, 256, 320, 384, 512] {
            data.extend(U256::from(offset).to_be_bytes::<32>());
        }
        for length in [48usize, 32, 8, 96, 8] {
            data.extend(U256::from(length).to_be_bytes::<32>());
            data.extend(core::iter::repeat_n(7, length.next_multiple_of(32)));
        }
        assert_eq!(data.len(), 576);
        assert!(is_deposit(&data));
        for word in [0, 1, 4, 5, 8, 10, 12, 16] {
            for byte in [0, 31] {
                let mut changed = data.clone();
                changed[32 * word + byte] ^= 1;
                assert!(!is_deposit(&changed), "word {word}");
            }
        }
        assert!(!is_deposit(&data[..575]) && !is_deposit(&[data.as_slice(), &[0]].concat()));
        assert!(!is_deposit(&[]));
    }
}
