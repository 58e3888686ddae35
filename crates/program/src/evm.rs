//! The EVM of every block: revm, with Ethereum's rules wherever revm differs from them.
//!
//! * System calls have 30,000,000 gas, as EIP-4788, EIP-2935, EIP-7002 and EIP-7251 say, and start with nothing warm.
//! * A contract cannot be created where there is storage (EIP-7610). The [overlay](crate::overlay) marks such accounts
//!   with a code hash of zero, which revm takes for code; `EXTCODEHASH` ignores the mark.
//! * A call without value does not touch the account that it calls.
//! * An authorization of the null address deletes all that an account without nonce and balance has (EIP-7702 and
//!   EIP-161, as in the executable specification).
//! * Fees are computed as products of 256 bits.
//! * What goes beyond the program's domain ends the block with a [`Bound`].

mod instructions;
#[cfg(feature = "std")]
mod native;

use crate::{
    bound::{self, Bound},
    interpreter::{self, Around, Lasting},
    overlay::STORAGE_WITHOUT_CODE,
};
use alloc::{boxed::Box, string::ToString as _};
use alloy_evm::{Database, Evm, EvmEnv, eth::EthEvmContext, precompiles::PrecompilesMap};
use alloy_primitives::{Address, Bytes, KECCAK256_EMPTY, TxKind, U256, map::AddressSet};
use core::{cell::Cell, marker::PhantomData};
use instructions::{code_hash, self_destruct, sload_after_destruction, sstore_after_destruction};
use revm::{
    Context, ExecuteEvm, MainBuilder, MainContext,
    bytecode::{
        Bytecode,
        opcode::{EXTCODEHASH, SELFDESTRUCT, SLOAD, SSTORE},
    },
    context::{
        Block, BlockEnv, Cfg, CfgEnv, ContextSetters, ContextTr, Evm as RevmEvm, JournalTr,
        Transaction, TransactionType, TxEnv, journaled_state::account::JournaledAccountTr,
        transaction::AuthorizationTr,
    },
    context_interface::result::{EVMError, HaltReason, InvalidTransaction, ResultAndState},
    handler::{
        EthFrame, EvmTr, FrameResult, Handler, ItemOrResult, instructions::EthInstructions,
        pre_execution::validate_account_nonce_and_code_with_components,
    },
    interpreter::{
        CallValue, FrameInput, Gas, GasTracker, InitialAndFloorGas, Instruction, InstructionResult,
        instructions::host::{sload, sstore},
        interpreter::EthInterpreter,
        interpreter_action::FrameInit,
        interpreter_types::MemoryTr,
    },
    precompile::{PrecompileSpecId, Precompiles},
    primitives::hardfork::SpecId,
    state::{Account, AccountStatus},
};

/// The precompile of modular exponentiation (EIP-198).
const MODEXP: Address = revm::precompile::u64_to_address(5);
/// Gas of a system call.
const SYSTEM_CALL_GAS: u64 = 30_000_000;

/// The inspector: none, or natively the one that counts for [`crate::counts`].
#[cfg(not(feature = "std"))]
type Tap = revm::inspector::NoOpInspector;
#[cfg(feature = "std")]
type Tap = crate::counts::Tap;

type Inner<DB> = RevmEvm<
    EthEvmContext<DB>,
    Tap,
    EthInstructions<EthInterpreter, EthEvmContext<DB>>,
    PrecompilesMap,
    EthFrame,
>;

/// revm's EVM with Ethereum's rules.
#[expect(missing_debug_implementations, reason = "revm's parts have none")]
pub struct BlockEvm<DB: Database> {
    evm: Inner<DB>,
    bound: Option<Bound>,
    pub(crate) lasting: Lasting,
}

impl<DB: Database> BlockEvm<DB> {
    /// The EVM of one block over its pre-state.
    pub fn new(db: DB, env: EvmEnv) -> Self {
        let precompiles = Precompiles::new(PrecompileSpecId::from_spec_id(env.cfg_env.spec));
        let mut evm = Context::mainnet()
            .with_block(env.block_env)
            .with_cfg(env.cfg_env)
            .with_db(db)
            .build_mainnet_with_inspector(Tap::default())
            .with_precompiles(PrecompilesMap::from_static(precompiles));
        let table = evm.instruction.instruction_table_mut();
        table[usize::from(EXTCODEHASH)] = Instruction::new(code_hash);
        table[usize::from(SELFDESTRUCT)] = Instruction::new(self_destruct);
        Self { evm, bound: None, lasting: Lasting::default() }
    }

    /// The bound that an execution exceeded, if it did: then its result means nothing.
    pub(crate) fn take_bound(&mut self) -> Option<Bound> {
        self.bound.take()
    }

    fn run(
        &mut self,
        system_call: bool,
        run: impl FnOnce(&mut Rules<DB>, &mut Inner<DB>) -> TransactionResult<DB>,
    ) -> Result<ResultAndState, EVMError<DB::Error>> {
        let gas = self.evm.ctx.tx.gas_limit;
        let ordinary = gas <= bound::ORDINARY_GAS;
        // SOUNDNESS: memory never grows beyond what 32 bits can count.
        self.evm.ctx.cfg.memory_limit = bound::MAX_MEMORY;
        let mut rules = Rules {
            bound: Cell::new(None),
            extraordinary_gas: (!ordinary).then_some(gas),
            system_call,
            destroyed: Cell::new(false),
            lasting: core::mem::take(&mut self.lasting),
            database: PhantomData,
        };
        #[cfg(feature = "std")]
        native::watch_heap(self.evm.instruction.instruction_table_mut(), !ordinary);
        let result = run(&mut rules, &mut self.evm);
        self.lasting = rules.lasting;
        if rules.destroyed.get() {
            let table = self.evm.instruction.instruction_table_mut();
            table[usize::from(SLOAD)] = Instruction::new(sload);
            table[usize::from(SSTORE)] = Instruction::new(sstore);
        }
        self.bound = self.bound.or(rules.bound.get());
        Ok(ResultAndState::new(result?, self.evm.finalize()))
    }
}

type TransactionResult<DB> = Result<
    revm::context_interface::result::ExecutionResult,
    EVMError<<DB as revm::Database>::Error>,
>;

/// Whether an authorization destroyed the account. The journal has no other status for this.
pub(crate) fn is_destroyed_by_authorization(account: &Account, existed: bool) -> bool {
    existed && account.is_loaded_as_not_existing()
}

/// How transactions and system calls run.
struct Rules<DB> {
    /// The bound that the execution exceeded.
    bound: Cell<Option<Bound>>,
    /// The transaction's gas limit, if it is above [`bound::ORDINARY_GAS`].
    extraordinary_gas: Option<u64>,
    system_call: bool,
    /// Whether an authorization has destroyed an account.
    destroyed: Cell<bool>,
    lasting: Lasting,
    database: PhantomData<DB>,
}

impl<DB: Database> Rules<DB> {
    /// Ends the execution if a frame's result cannot be determined. `below` is the memory of the frames below it.
    fn check(&self, result: &FrameResult, below: usize) -> Result<(), EVMError<DB::Error>> {
        let gas_limit = result.gas().limit();
        match (result.instruction_result(), self.extraordinary_gas) {
            // SOUNDNESS: balances never wrap.
            (InstructionResult::OverflowPayment, _) => Err(self.exceed(Bound::Ether)),
            // SOUNDNESS: no frame goes on, and none is said to be out of gas, because memory is scarce here.
            (end, Some(gas)) if bound::may_exceed_memory(end, gas_limit, below) => {
                Err(self.exceed(Bound::Memory { gas }))
            }
            _ => Ok(()),
        }
    }

    /// Prepares a frame before it starts. Touching as in EIP-161 is not what the executable specification does, where
    /// a call without value modifies nothing.
    fn prepare(
        &self,
        evm: &mut Inner<DB>,
        mut init: FrameInit,
    ) -> Result<FrameInit, EVMError<DB::Error>> {
        #[cfg(feature = "std")]
        crate::heap::check().map_err(|bound| self.exceed(bound))?;
        if self.extraordinary_gas.is_some() {
            // SOUNDNESS: as above.
            let below = init.memory.local_memory_offset();
            init.memory.set_memory_limit(bound::extraordinary_memory(below));
        }
        if let FrameInput::Call(call) = &mut init.frame_input {
            #[cfg(feature = "std")]
            native::count_curves(call.bytecode_address, call.input.len());
            // An account whose code runs is not empty: touching it makes a difference to `SELFDESTRUCT` only.
            if let CallValue::Transfer(value) = call.value
                && value.is_zero()
                && call.known_bytecode.1.is_empty()
            {
                call.value = CallValue::Apparent(value);
            }
            // SOUNDNESS: lengths are declared by the caller, and saturate at a machine's word.
            if let Some(gas) = self.extraordinary_gas
                && call.bytecode_address == MODEXP
                && longest_operand(&call.input.bytes(&evm.ctx))
                    > U256::from(bound::MAX_EXTRAORDINARY_FRAME)
            {
                return Err(self.exceed(Bound::Memory { gas }));
            }
        }
        Ok(init)
    }

    /// Runs the topmost frame until it ends or calls.
    fn frame_run(
        &mut self,
        evm: &mut Inner<DB>,
    ) -> Result<ItemOrResult<FrameInit, FrameResult>, EVMError<DB::Error>> {
        let frame = evm.frame_stack.get();
        let around = Around {
            lasting: &mut self.lasting,
            #[cfg(feature = "std")]
            watch_heap: self.extraordinary_gas.is_some(),
        };
        let action = interpreter::run(
            &mut frame.interpreter,
            evm.instruction.instruction_table(),
            evm.instruction.gas_table(),
            &mut evm.ctx,
            around,
        );
        let next = frame.process_next_action::<_, EVMError<DB::Error>>(&mut evm.ctx, action)?;
        if next.is_result() {
            frame.set_finished(true);
        }
        Ok(next)
    }

    fn exceed(&self, bound: Bound) -> EVMError<DB::Error> {
        self.bound.set(Some(bound));
        EVMError::Custom(bound.to_string())
    }

    fn pay(
        &self,
        evm: &mut Inner<DB>,
        to: Address,
        amount: U256,
    ) -> Result<(), EVMError<DB::Error>> {
        match evm.ctx.journal_mut().load_account_mut(to)?.data.incr_balance(amount) {
            true => Ok(()),
            false => Err(self.exceed(Bound::Ether)),
        }
    }
}

/// The longest of the lengths that a call of MODEXP declares (EIP-198).
fn longest_operand(input: &[u8]) -> U256 {
    let mut lengths = [0; 96];
    let given = input.len().min(lengths.len());
    lengths[..given].copy_from_slice(&input[..given]);
    let (lengths, _) = lengths.as_chunks::<32>();
    lengths.iter().map(|length| U256::from_be_bytes(*length)).max().unwrap_or_default()
}

impl<DB: Database> Handler for Rules<DB> {
    type Evm = Inner<DB>;
    type Error = EVMError<DB::Error>;
    type HaltReason = HaltReason;

    fn first_frame_input(
        &mut self,
        evm: &mut Self::Evm,
        gas: &mut GasTracker,
    ) -> Result<Option<FrameInit>, Self::Error> {
        let mut default =
            revm::handler::MainnetHandler::<Self::Evm, Self::Error, EthFrame>::default();
        let init = default.first_frame_input(evm, gas)?;
        if self.system_call
            && let TxKind::Call(contract) = evm.ctx.tx.kind
        {
            // In a system call only what it has used is warm, and it has not used the contract itself.
            evm.ctx.journal_mut().load_account_mut(contract)?.data.unsafe_mark_cold();
        }
        Ok(init)
    }

    fn run_exec_loop(
        &mut self,
        evm: &mut Self::Evm,
        first: FrameInit,
    ) -> Result<FrameResult, Self::Error> {
        let ready = self.prepare(evm, first)?;
        if let ItemOrResult::Result(result) = evm.frame_init(ready)? {
            self.check(&result, 0)?;
            return Ok(result);
        }
        loop {
            let result = match self.frame_run(evm)? {
                ItemOrResult::Item(init) => {
                    let ready = self.prepare(evm, init)?;
                    let ItemOrResult::Result(result) = evm.frame_init(ready)? else { continue };
                    self.check(&result, 0)?;
                    result
                }
                ItemOrResult::Result(result) => {
                    let below = evm.frame_stack.get().interpreter.memory.local_memory_offset();
                    self.check(&result, below)?;
                    result
                }
            };
            if let Some(last) = evm.frame_return_result(result)? {
                return Ok(last);
            }
        }
    }

    fn validate_against_state_and_deduct_caller(
        &self,
        evm: &mut Self::Evm,
        _: &mut InitialAndFloorGas,
    ) -> Result<(), Self::Error> {
        let (block, tx, cfg, journal, _, _) = evm.ctx().all_mut();
        let mut caller = journal.load_account_with_code_mut(tx.caller())?.data;
        validate_account_nonce_and_code_with_components(&caller.account().info, tx, cfg)?;
        if !cfg.is_fee_charge_disabled() {
            let balance = *caller.balance();
            let blob_gas = u128::from(tx.total_blob_gas());
            let blobs = |price: u128| U256::from(blob_gas) * U256::from(price);
            // Neither product reaches 2^192.
            let most = fee(tx.gas_limit(), tx.max_fee_per_gas()) + blobs(tx.max_fee_per_blob_gas());
            // SOUNDNESS: who sends a transaction can pay for all of it.
            let affordable = most.checked_add(tx.value()).is_some_and(|most| most <= balance);
            if !affordable && !cfg.is_balance_check_disabled() {
                let fee = Box::new(most.saturating_add(tx.value()));
                let balance = Box::new(balance);
                return Err(InvalidTransaction::LackOfFundForMaxFee { fee, balance }.into());
            }
            let price = tx.effective_gas_price(u128::from(block.basefee()));
            let blob_price = block.blob_gasprice().unwrap_or_default();
            let blob_price = if blob_gas == 0 { 0 } else { blob_price };
            let charged = fee(tx.gas_limit(), price) + blobs(blob_price);
            let mut left = balance.saturating_sub(charged);
            if cfg.is_balance_check_disabled() {
                left = left.max(tx.value());
            }
            caller.set_balance(left);
        }
        if tx.kind().is_call() {
            caller.bump_nonce();
        }
        Ok(())
    }

    fn apply_eip7702_auth_list(
        &self,
        evm: &mut Self::Evm,
        _: &mut GasTracker,
    ) -> Result<Option<u64>, Self::Error> {
        if evm.ctx.tx.tx_type() != TransactionType::Eip7702 {
            return Ok(Some(0));
        }
        let chain_id = U256::from(evm.ctx.cfg.chain_id);
        let refund = evm.ctx.cfg.gas_params().tx_eip7702_auth_refund_regular();
        let (tx, journal) = evm.ctx.tx_journal_mut();
        let mut existing = 0;
        for authorization in tx.authorization_list() {
            let chain = authorization.chain_id();
            if !(chain.is_zero() || chain == chain_id) || authorization.nonce() == u64::MAX {
                continue;
            }
            let Some(authority) = authorization.authority() else { continue };
            let mut account = journal.load_account_with_code_mut(authority)?.data;
            let info = &account.account().info;
            let takes = |code: &Bytecode| code.is_empty() || code.is_eip7702();
            if !info.code.as_ref().is_none_or(takes) || info.nonce != authorization.nonce() {
                continue;
            }
            // Apart from its code.
            let empty = info.nonce == 0 && info.balance.is_zero();
            if !(info.is_empty() && account.account().is_loaded_as_not_existing_not_touched()) {
                existing += 1;
            }
            if !authorization.address().is_zero() {
                account.delegate(authorization.address());
                continue;
            }
            // An account that still exists after losing its code keeps its storage. The mark records that.
            let code_hash = if empty { KECCAK256_EMPTY } else { STORAGE_WITHOUT_CODE };
            account.set_code(code_hash, Bytecode::default());
            account.bump_nonce();
            if empty && let Some(account) = journal.inner.state.get_mut(&authority) {
                account.status.insert(AccountStatus::LoadedAsNotExisting);
                self.destroyed.set(true);
            }
        }
        if self.destroyed.get() {
            let table = evm.instruction.instruction_table_mut();
            table[usize::from(SLOAD)] = Instruction::new(sload_after_destruction);
            table[usize::from(SSTORE)] = Instruction::new(sstore_after_destruction);
        }
        Ok(Some(refund.saturating_mul(existing)))
    }

    fn reimburse_caller(
        &self,
        evm: &mut Self::Evm,
        result: &mut FrameResult,
    ) -> Result<(), Self::Error> {
        if evm.ctx.cfg.is_fee_charge_disabled() {
            return Ok(());
        }
        let price = evm.ctx.tx.effective_gas_price(u128::from(evm.ctx.block.basefee()));
        let caller = evm.ctx.tx.caller();
        let amount = fee(unused(result.gas()), price);
        self.pay(evm, caller, amount)
    }

    fn reward_beneficiary(
        &self,
        evm: &mut Self::Evm,
        result: &mut FrameResult,
    ) -> Result<(), Self::Error> {
        if evm.ctx.cfg.is_fee_charge_disabled() {
            return Ok(());
        }
        let base_fee = u128::from(evm.ctx.block.basefee());
        let tip = evm.ctx.tx.effective_gas_price(base_fee).saturating_sub(base_fee);
        let beneficiary = evm.ctx.block.beneficiary();
        let gas = result.gas();
        let amount = fee(gas.limit() - unused(gas), tip);
        self.pay(evm, beneficiary, amount)
    }
}

/// Gas that is paid back to its buyer.
fn unused(gas: &Gas) -> u64 {
    let refunded = u64::try_from(gas.refunded()).unwrap_or_default();
    gas.remaining() + gas.reservoir() + refunded
}

/// The cost of this much gas, in wei; less than 2^192.
fn fee(gas: u64, price: u128) -> U256 {
    U256::from(gas) * U256::from(price)
}

#[cfg(feature = "std")]
impl<DB: Database> revm::inspector::InspectorHandler for Rules<DB> {
    type IT = EthInterpreter;

    fn inspect_run_exec_loop(
        &mut self,
        evm: &mut Self::Evm,
        first: FrameInit,
    ) -> Result<FrameResult, Self::Error> {
        use revm::inspector::InspectorEvmTr as _;
        let ready = self.prepare(evm, first)?;
        if let ItemOrResult::Result(result) = evm.inspect_frame_init(ready)? {
            self.check(&result, 0)?;
            return Ok(result);
        }
        loop {
            let result = match evm.inspect_frame_run()? {
                ItemOrResult::Item(init) => {
                    let ready = self.prepare(evm, init)?;
                    let ItemOrResult::Result(result) = evm.inspect_frame_init(ready)? else {
                        continue;
                    };
                    self.check(&result, 0)?;
                    result
                }
                ItemOrResult::Result(result) => {
                    let below = evm.frame_stack.get().interpreter.memory.local_memory_offset();
                    self.check(&result, below)?;
                    result
                }
            };
            if let Some(last) = evm.frame_return_result(result)? {
                return Ok(last);
            }
        }
    }
}

impl<DB: Database> Evm for BlockEvm<DB> {
    type DB = DB;
    type Tx = TxEnv;
    type Error = EVMError<DB::Error>;
    type HaltReason = HaltReason;
    type Spec = SpecId;
    type BlockEnv = BlockEnv;
    type Precompiles = PrecompilesMap;
    type Inspector = Tap;

    fn block(&self) -> &BlockEnv {
        &self.evm.ctx.block
    }

    fn cfg_env(&self) -> &CfgEnv {
        &self.evm.ctx.cfg
    }

    fn chain_id(&self) -> u64 {
        self.evm.ctx.cfg.chain_id
    }

    fn transact_raw(&mut self, tx: TxEnv) -> Result<ResultAndState, Self::Error> {
        self.evm.ctx.set_tx(tx);
        #[cfg(feature = "std")]
        if crate::counts::counting() {
            use revm::inspector::InspectorHandler as _;
            return self.run(false, |rules, evm| rules.inspect_run(evm));
        }
        self.run(false, Handler::run)
    }

    fn transact_system_call(
        &mut self,
        caller: Address,
        contract: Address,
        data: Bytes,
    ) -> Result<ResultAndState, Self::Error> {
        let gas_price = u128::from(self.evm.ctx.block.basefee());
        self.evm.ctx.set_tx(TxEnv {
            caller,
            data,
            gas_price,
            kind: TxKind::Call(contract),
            gas_limit: SYSTEM_CALL_GAS,
            ..Default::default()
        });
        // The next transaction warms the precompiles again.
        self.evm.ctx.journal_mut().warm_precompiles(&AddressSet::default());
        self.run(true, Handler::run_system_call)
    }

    fn finish(self) -> (DB, EvmEnv) {
        let Context { block: block_env, cfg: cfg_env, journaled_state, .. } = self.evm.ctx;
        (journaled_state.database, EvmEnv { block_env, cfg_env })
    }

    fn set_inspector_enabled(&mut self, _: bool) {}

    fn components(&self) -> (&DB, &Tap, &PrecompilesMap) {
        (&self.evm.ctx.journaled_state.database, &self.evm.inspector, &self.evm.precompiles)
    }

    fn components_mut(&mut self) -> (&mut DB, &mut Tap, &mut PrecompilesMap) {
        (
            &mut self.evm.ctx.journaled_state.database,
            &mut self.evm.inspector,
            &mut self.evm.precompiles,
        )
    }
}
