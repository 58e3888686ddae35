//! Executes one block on the state: transactions and system calls in revm, on our tries.

use crate::{
    ChainConfig, Error, Receipt, Transaction,
    bound::Bound,
    consensus::{self, DecodedBlock, ResultFields, Violation},
    evm::BlockEvm,
    overlay::{Changes, Overlay},
    phase::Phase,
    senders::Senders,
    state::{State, StateSource},
};
use alloc::{
    string::{String, ToString},
    vec::Vec,
};
use alloy_consensus::{Header, Transaction as _};
use alloy_eips::{
    eip2935::HISTORY_STORAGE_ADDRESS,
    eip4788::{BEACON_ROOTS_ADDRESS, SYSTEM_ADDRESS},
    eip4895::Withdrawal,
    eip6110::DEPOSIT_REQUEST_TYPE,
    eip7002::{WITHDRAWAL_REQUEST_PREDEPLOY_ADDRESS, WITHDRAWAL_REQUEST_TYPE},
    eip7251::{CONSOLIDATION_REQUEST_PREDEPLOY_ADDRESS, CONSOLIDATION_REQUEST_TYPE},
    eip7685::Requests,
};
use alloy_evm::{Evm as _, EvmEnv, FromRecoveredTx as _};
use alloy_hardforks::EthereumHardforks;
use alloy_primitives::{Address, B256, Bytes, U256, b256};
use revm::{
    Database as _,
    context::{Cfg as _, TxEnv},
    context_interface::result::{EVMError, ExecutionResult},
};

/// The first topic of a deposit: Keccak-256 of `DepositEvent(bytes,bytes,bytes,bytes,bytes)` (EIP-6110).
const DEPOSIT_EVENT: B256 =
    b256!("649bbc62d0e31342afea4e5cd82d4049e7e1ee912fc0889aa790803be39038c5");

/// The result of executing a block, apart from the state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Executed {
    /// One receipt per transaction.
    pub receipts: Vec<Receipt>,
    /// EIP-7685 requests; `None` before Prague.
    pub requests: Option<Requests>,
    /// The header fields that follow from the execution.
    pub fields: ResultFields,
}

/// The environment in which the transactions of the block with this header run.
pub fn evm_env(config: &ChainConfig, header: &Header) -> EvmEnv {
    let blob_params = config.blob_params(header.timestamp);
    EvmEnv::for_eth_block(header, config, config.chain_id, blob_params)
}

/// Executes a block on `state`, which holds its pre-state, and leaves its post-state there. Checks the result against
/// the header, including the state root.
///
/// # Errors
/// [`Error::Block`] if the block is invalid; a `Missing…` error or [`Error::Trie`] if the witness lacks something that
/// the block touches. The state is of no further use after an error.
pub fn execute<'a, S: StateSource<'a>>(
    config: &ChainConfig,
    decoded: &DecodedBlock,
    state: &mut State<'a, S>,
) -> Result<Executed, Error> {
    execute_sent(config, decoded, Senders::Unknown, state)
}

/// [`execute`], if something is known or claimed about the block's senders.
pub(crate) fn execute_sent<'a, S: StateSource<'a>>(
    config: &ChainConfig,
    decoded: &DecodedBlock,
    senders: Senders<'_>,
    state: &mut State<'a, S>,
) -> Result<Executed, Error> {
    let header = decoded.header.inner();
    let block = &decoded.body;
    let withdrawals = block.withdrawals.as_ref().map(|list| list.as_slice());
    let mut executor = Executor::new(config, header, withdrawals, state);
    let outcome = (|| {
        executor.begin()?;
        for (index, transaction) in block.transactions.iter().enumerate() {
            let sender = Phase::Senders.run(|| senders.of(index, transaction))?;
            executor.transact(index, transaction, sender)?;
        }
        executor.end()
    })();
    let (result, changes, state) = executor.into_parts();
    // SOUNDNESS: whatever the executor made of it, a read that the witness could not answer
    // ends the proof.
    if let Some(failure) = state.take_failure() {
        return Err(failure);
    }
    let requests = outcome.map_err(|refusal| refusal.in_block(header.number))?;
    let fields = Phase::Receipts.run(|| {
        ResultFields::new(result.gas_used, &result.receipts, requests.as_ref(), state.hashes())
    });
    let invalid = |violation: Violation| violation.in_block(header.number);
    consensus::check_result(header, &fields).map_err(invalid)?;
    let state_root = Phase::PostState.run(|| {
        state.apply(changes)?;
        state.root()
    })?;
    // SOUNDNESS: the header commits to the state after the block.
    consensus::equal_roots("stateRoot", header.state_root, state_root).map_err(invalid)?;
    state.remember_block(header.number, decoded.header.hash());
    Ok(Executed { receipts: result.receipts, requests, fields })
}

/// Where a deposit's fields lie in the data of its log.
const DEPOSIT_FIELDS: [core::ops::Range<usize>; 5] =
    [192..240, 288..320, 352..360, 416..512, 544..552];

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

/// Why a block cannot be executed to its end.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The block is invalid, or outside the program's domain.
    Violation(Violation),
    /// The executor failed for a reason that does not lie in the block; this is its message.
    Failed(String),
}

impl From<Violation> for Refusal {
    fn from(violation: Violation) -> Self {
        Self::Violation(violation)
    }
}

impl From<crate::state::ReadError> for Refusal {
    fn from(error: crate::state::ReadError) -> Self {
        Self::Failed(error.to_string())
    }
}

impl Refusal {
    /// The error for the block with this number.
    pub(crate) fn in_block(self, number: u64) -> Error {
        match self {
            Self::Violation(violation) => violation.in_block(number),
            Self::Failed(reason) => Error::Execution { number, reason },
        }
    }
}

/// What an [`Executor`] has gathered.
#[derive(Debug, Default)]
pub(crate) struct Executing {
    /// One receipt per transaction.
    pub(crate) receipts: Vec<Receipt>,
    /// Gas used by the transactions so far.
    pub(crate) gas_used: u64,
    /// Blob gas used by the transactions so far.
    pub(crate) blob_gas_used: u64,
}

/// Executes one block, step by step: [`Self::begin`], [`Self::transact`] for each transaction, [`Self::end`].
///
/// The steps and their order are those of `apply_body` in the executable specification.
pub(crate) struct Executor<'s, 'a, S: StateSource<'a>> {
    config: &'s ChainConfig,
    evm: BlockEvm<Overlay<'s, 'a, S>>,
    withdrawals: Option<&'s [Withdrawal]>,
    parent_hash: B256,
    parent_beacon_block_root: Option<B256>,
    timestamp: u64,
    gas_limit: u64,
    result: Executing,
}

impl<'s, 'a, S: StateSource<'a>> Executor<'s, 'a, S> {
    /// An executor of the block with this header, whose pre-state is `state`.
    pub(crate) fn new(
        config: &'s ChainConfig,
        header: &Header,
        withdrawals: Option<&'s [Withdrawal]>,
        state: &'s mut State<'a, S>,
    ) -> Self {
        let delegations = config.is_prague_active_at_timestamp(header.timestamp);
        let lasting = core::mem::take(&mut state.lasting);
        let mut evm = BlockEvm::new(Overlay::new(state, delegations), evm_env(config, header));
        evm.lasting = lasting;
        Self {
            config,
            evm,
            withdrawals,
            parent_hash: header.parent_hash,
            parent_beacon_block_root: header.parent_beacon_block_root,
            timestamp: header.timestamp,
            gas_limit: header.gas_limit,
            result: Executing::default(),
        }
    }

    /// What was gathered so far.
    #[cfg(feature = "std")]
    pub(crate) fn result(&self) -> &Executing {
        &self.result
    }

    /// What was gathered, what the block changed, and the state below.
    pub(crate) fn into_parts(mut self) -> (Executing, Changes, &'s mut State<'a, S>) {
        let lasting = core::mem::take(&mut self.evm.lasting);
        let (changes, state) = self.evm.into_db().into_changes();
        state.lasting = lasting;
        (self.result, changes, state)
    }

    /// System calls before the transactions (EIP-4788, EIP-2935).
    pub(crate) fn begin(&mut self) -> Result<(), Refusal> {
        if let Some(excess) = self.evm.block().blob_excess_gas_and_price
            && excess.blob_gasprice == u128::MAX
        {
            // SOUNDNESS: a fee that does not fit was cut.
            return Err(Violation::from(Bound::BlobFee { excess: excess.excess_blob_gas }).into());
        }
        // EIP-4788 and EIP-2935 leave it open what these contracts are, and whether the calls succeed.
        if let Some(root) = self.parent_beacon_block_root
            && self.config.is_cancun_active_at_timestamp(self.timestamp)
        {
            self.system_call(BEACON_ROOTS_ADDRESS, root.0.into())?;
        }
        if self.config.is_prague_active_at_timestamp(self.timestamp) {
            self.system_call(HISTORY_STORAGE_ADDRESS, self.parent_hash.0.into())?;
        }
        Ok(())
    }

    /// Executes the next transaction. If it is refused, the block stays as it was before.
    pub(crate) fn transact(
        &mut self,
        index: usize,
        transaction: &Transaction,
        sender: Address,
    ) -> Result<(), Refusal> {
        let limit = transaction.gas_limit();
        let available = self.gas_limit.saturating_sub(self.result.gas_used);
        // A transaction above EIP-7825's cap is invalid for exceeding the cap.
        if limit.min(self.evm.cfg_env().tx_gas_limit_cap()) > available {
            return Err(Violation::GasAllowance { index, limit, available }.into());
        }
        let executed = self.evm.transact_raw(TxEnv::from_recovered_tx(transaction, sender));
        self.check_bound()?;
        let executed = executed.map_err(|error| match error {
            EVMError::Transaction(reason) => Violation::Transaction { index, reason }.into(),
            error => Refusal::Failed(error.to_string()),
        })?;
        self.evm.db_mut().commit_transaction(executed.state)?;
        let result = &mut self.result;
        result.gas_used += executed.result.gas().tx_gas_used();
        result.blob_gas_used += transaction.blob_gas_used().unwrap_or_default();
        result.receipts.push(Receipt {
            tx_type: transaction.tx_type(),
            success: executed.result.is_success(),
            cumulative_gas_used: result.gas_used,
            logs: executed.result.into_logs(),
        });
        Ok(())
    }

    /// Withdrawals, then the block's requests (EIP-4895, EIP-7685); those are `None` before Prague.
    pub(crate) fn end(&mut self) -> Result<Option<Requests>, Refusal> {
        const GWEI: u64 = 1_000_000_000;
        // ORDER: before the requests, whose contracts see the balances.
        for withdrawal in self.withdrawals.unwrap_or_default() {
            let amount = U256::from(withdrawal.amount) * U256::from(GWEI);
            self.evm.db_mut().credit(withdrawal.address, amount)?;
        }
        if !self.config.is_prague_active_at_timestamp(self.timestamp) {
            return Ok(None);
        }
        let mut requests = Requests::default();
        let mut push = |kind, data: Vec<u8>| {
            if !data.is_empty() {
                requests.push_request_with_type(kind, data);
            }
        };
        push(DEPOSIT_REQUEST_TYPE, self.deposits()?);
        for (kind, contract) in [
            (WITHDRAWAL_REQUEST_TYPE, WITHDRAWAL_REQUEST_PREDEPLOY_ADDRESS),
            (CONSOLIDATION_REQUEST_TYPE, CONSOLIDATION_REQUEST_PREDEPLOY_ADDRESS),
        ] {
            push(kind, self.collect_requests(contract)?);
        }
        Ok(Some(requests))
    }

    /// The deposits in the logs of the block (EIP-6110).
    fn deposits(&self) -> Result<Vec<u8>, Violation> {
        let mut deposits = Vec::new();
        for log in self.result.receipts.iter().flat_map(|receipt| &receipt.logs) {
            if log.address != self.config.deposit_contract
                || log.topics().first() != Some(&DEPOSIT_EVENT)
            {
                continue;
            }
            let data = &log.data.data;
            // SOUNDNESS: a log of the deposit contract is a deposit in the one layout of EIP-6110, or the block is
            // invalid.
            if !is_deposit(data) {
                let reason = "a log does not have the layout of a deposit";
                return Err(Violation::Deposit(reason.to_string()));
            }
            for field in DEPOSIT_FIELDS {
                deposits.extend_from_slice(&data[field]);
            }
        }
        Ok(deposits)
    }

    /// What a contract of EIP-7002 or EIP-7251 gives at the end of the block.
    fn collect_requests(&mut self, contract: Address) -> Result<Vec<u8>, Refusal> {
        let invalid = |reason| Refusal::from(Violation::SystemCall(reason));
        // SOUNDNESS: EIP-7002 and EIP-7251, a block without these contracts is invalid. Storage is no code.
        let account = self.evm.db_mut().basic(contract)?;
        if account.is_none_or(|account| account.is_empty_code_hash() || account.code_hash.is_zero())
        {
            return Err(invalid(alloc::format!("{contract} has no code")));
        }
        match self.system_call(contract, Bytes::new())? {
            ExecutionResult::Success { output, .. } => Ok(output.into_data().to_vec()),
            // SOUNDNESS: nor is a block valid in which one of them fails.
            ExecutionResult::Revert { .. } => Err(invalid(alloc::format!("{contract} reverted"))),
            ExecutionResult::Halt { reason, .. } => {
                Err(invalid(alloc::format!("{contract} halted: {reason:?}")))
            }
        }
    }

    fn system_call(&mut self, contract: Address, data: Bytes) -> Result<ExecutionResult, Refusal> {
        let called = self.evm.transact_system_call(SYSTEM_ADDRESS, contract, data);
        self.check_bound()?;
        let called = called.map_err(|error| Refusal::Failed(error.to_string()))?;
        self.evm.db_mut().commit_system_call(called.state)?;
        Ok(called.result)
    }

    /// SOUNDNESS: what went beyond the program's domain has no result.
    fn check_bound(&mut self) -> Result<(), Violation> {
        self.evm.take_bound().map_or(Ok(()), |bound| Err(bound.into()))
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
