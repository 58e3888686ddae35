//! `eth_call` and `eth_estimateGas`: the block executor's EVM, without the checks that only a signed
//! transaction can pass.

use crate::{Chain, Mined};
use alloy_eips::eip7825::MAX_TX_GAS_LIMIT_OSAKA;
use alloy_evm::{
    Evm,
    overrides::{StateOverrideError, apply_state_overrides},
    rpc::TryIntoTxEnv,
};
use alloy_primitives::Bytes;
use alloy_rpc_types_eth::{TransactionRequest, state::StateOverride};
use program::{build::BlockEvm, state::State};
use revm::{
    context::{
        TxEnv,
        result::{EVMError, ExecutionResult, HaltReason},
    },
    database::State as Overlay,
    primitives::{TxKind, hardfork::SpecId},
};
use witness::record::Store;

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The contract reverted; this is its output.
    #[error("execution reverted{}", reason(.0))]
    Reverted(Bytes),
    /// The EVM stopped: out of gas, an invalid opcode and so on.
    #[error("execution halted: {0:?}")]
    Halted(HaltReason),
    /// Even the most gas that is allowed is not enough.
    #[error("gas required exceeds allowance ({0})")]
    OutOfGas(u64),
    /// The request cannot be executed: its fields contradict each other or the state.
    #[error("{0}")]
    Request(String),
    /// The state could not be read.
    #[error("failed to read the state: {0}")]
    State(String),
}

fn reason(output: &Bytes) -> String {
    alloy_sol_types::decode_revert_reason(output)
        .map(|reason| format!(": {}", reason.strip_prefix("revert: ").unwrap_or(&reason)))
        .unwrap_or_default()
}

type CallEvm<'a> = BlockEvm<Overlay<State<'a, &'a Store>>>;

impl Chain {
    /// What `request` would return on the state after the block `at`.
    ///
    /// # Errors
    /// [`CallError`].
    pub fn call(
        &self,
        at: &Mined,
        request: TransactionRequest,
        overrides: Option<StateOverride>,
    ) -> Result<Bytes, CallError> {
        let (mut evm, transaction) = self.prepare(at, request, overrides)?;
        output(transact(&mut evm, transaction)?)
    }

    /// The minimum gas limit with which `request` succeeds on the state after the block `at`.
    ///
    /// # Errors
    /// [`CallError`].
    pub fn estimate(
        &self,
        at: &Mined,
        request: TransactionRequest,
        overrides: Option<StateOverride>,
    ) -> Result<u64, CallError> {
        let asked = request.gas;
        let (mut evm, transaction) = self.prepare(at, request, overrides)?;
        let mut cap = asked.unwrap_or(u64::MAX).min(at.block.header.gas_limit);
        if evm.cfg_env().spec.is_enabled_in(SpecId::OSAKA) {
            cap = cap.min(MAX_TX_GAS_LIMIT_OSAKA);
        }
        let mut with = |gas_limit| transact(&mut evm, TxEnv { gas_limit, ..transaction.clone() });
        let first = with(cap)?;
        if matches!(first, ExecutionResult::Halt { reason: HaltReason::OutOfGas(_), .. }) {
            return Err(CallError::OutOfGas(cap));
        }
        let gas = *first.gas();
        output(first)?;
        // Some calls need more than they use: refunds come last, and every call holds back a 64th of
        // the gas.
        let (mut fails, mut works) = (gas.tx_gas_used().saturating_sub(1).min(cap - 1), cap);
        let mut probe = (gas.total_gas_spent() + 2_300).saturating_mul(64) / 63;
        while fails + 1 < works {
            let gas_limit = probe.clamp(fails + 1, works - 1);
            match with(gas_limit) {
                Ok(result) if result.is_success() => works = gas_limit,
                // Below the intrinsic gas the request is not even executed.
                Ok(_) | Err(CallError::Request(_)) => fails = gas_limit,
                Err(error) => return Err(error),
            }
            probe = fails + (works - fails) / 2;
        }
        Ok(works)
    }

    fn prepare(
        &self,
        at: &Mined,
        mut request: TransactionRequest,
        overrides: Option<StateOverride>,
    ) -> Result<(CallEvm<'_>, TxEnv), CallError> {
        let mut env = self.env(at);
        env.cfg_env.disable_base_fee = true;
        env.cfg_env.disable_eip3607 = true;
        env.cfg_env.disable_nonce_check = true;
        env.cfg_env.tx_gas_limit_cap = Some(u64::MAX);
        let from = request.from.unwrap_or_default();
        if request.nonce.is_none() {
            let account =
                self.account(at, &from).map_err(|error| CallError::State(error.to_string()))?;
            request.nonce = Some(account.nonce);
        }
        let to = request.to.unwrap_or(TxKind::Create);
        request.to = Some(to);
        let transaction =
            request.try_into_tx_env(&env).map_err(|error| CallError::Request(error.to_string()))?;
        let state = self.state(at, self.store());
        let mut db = Overlay::builder().with_database(state).build();
        if let Some(overrides) = overrides {
            apply_state_overrides(overrides, &mut db).map_err(|error| match error {
                StateOverrideError::Database(error) => CallError::State(error.to_string()),
                error => CallError::Request(error.to_string()),
            })?;
        }
        Ok((BlockEvm::new(db, env), transaction))
    }
}

fn transact(evm: &mut CallEvm<'_>, transaction: TxEnv) -> Result<ExecutionResult, CallError> {
    match evm.transact_raw(transaction) {
        Ok(result) => Ok(result.result),
        Err(EVMError::Database(error)) => Err(CallError::State(error.to_string())),
        Err(error) => Err(CallError::Request(error.to_string())),
    }
}

fn output(result: ExecutionResult) -> Result<Bytes, CallError> {
    match result {
        ExecutionResult::Success { output, .. } => Ok(output.into_data()),
        ExecutionResult::Revert { output, .. } => Err(CallError::Reverted(output)),
        ExecutionResult::Halt { reason, .. } => Err(CallError::Halted(reason)),
    }
}
