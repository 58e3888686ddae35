//! The EVM of every block: revm with Ethereum's rules, where revm's own differ from them.
//!
//! * System calls have 30,000,000 gas, as EIP-4788, EIP-2935, EIP-7002 and EIP-7251 say.
//! * A contract cannot be created where there is storage (EIP-7610). The state marks such accounts with a code hash of
//!   zero ([`STORAGE_WITHOUT_CODE`]), which revm takes for code; `EXTCODEHASH` sees through the mark.

use alloy_evm::{Database, Evm, EvmEnv, eth::EthEvmContext, precompiles::PrecompilesMap};
use alloy_primitives::{Address, B256, Bytes, KECCAK256_EMPTY, TxKind};
use revm::{
    Context, ExecuteEvm, MainBuilder, MainContext,
    bytecode::opcode::EXTCODEHASH,
    context::{BlockEnv, CfgEnv, ContextSetters, Evm as RevmEvm, TxEnv},
    context_interface::result::{EVMError, HaltReason, ResultAndState},
    handler::{EthFrame, Handler, MainnetHandler, instructions::EthInstructions},
    interpreter::{
        Host, Instruction, InstructionContext, InstructionExecResult,
        instructions::host::extcodehash,
        interpreter::EthInterpreter,
        interpreter_types::{InterpreterTypes, StackTr},
    },
    precompile::{PrecompileSpecId, Precompiles},
    primitives::hardfork::SpecId,
};

/// The code hash under which [`crate::state::State`] shows an account that has storage, but neither code nor a nonce.
pub(crate) const STORAGE_WITHOUT_CODE: B256 = B256::ZERO;

/// Gas of a system call.
const SYSTEM_CALL_GAS: u64 = 30_000_000;

/// What watches the EVM: nothing, or natively what counts for [`crate::counts`].
#[cfg(not(feature = "std"))]
type Tap = revm::inspector::NoOpInspector;
#[cfg(feature = "std")]
type Tap = crate::counts::Tap;

/// revm's EVM with Ethereum's rules.
pub struct BlockEvm<DB: Database>(
    RevmEvm<
        EthEvmContext<DB>,
        Tap,
        EthInstructions<EthInterpreter, EthEvmContext<DB>>,
        PrecompilesMap,
        EthFrame,
    >,
);

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
        evm.instruction.instruction_table_mut()[usize::from(EXTCODEHASH)] =
            Instruction::new(code_hash);
        Self(evm)
    }
}

/// `EXTCODEHASH`, which answers for a marked account what its code hash is: that of no code.
fn code_hash<IT: InterpreterTypes, H: Host + ?Sized>(
    context: InstructionContext<'_, H, IT>,
) -> InstructionExecResult {
    let InstructionContext { interpreter, host } = context;
    let address = interpreter.stack.top().map(|top| Address::from_word(B256::from(*top)));
    extcodehash(InstructionContext { interpreter: &mut *interpreter, host: &mut *host })?;
    if let (Some(address), Some(top)) = (address, interpreter.stack.top())
        && top.is_zero()
        // It was loaded just now, so this is free of charge.
        && !host.load_account_info_skip_cold_load(address, false, false)?.is_empty()
    {
        *top = KECCAK256_EMPTY.into();
    }
    Ok(())
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
        &self.0.ctx.block
    }

    fn cfg_env(&self) -> &CfgEnv {
        &self.0.ctx.cfg
    }

    fn chain_id(&self) -> u64 {
        self.0.ctx.cfg.chain_id
    }

    fn transact_raw(&mut self, tx: TxEnv) -> Result<ResultAndState, Self::Error> {
        #[cfg(feature = "std")]
        if crate::counts::counting() {
            return revm::InspectEvm::inspect_tx(&mut self.0, tx);
        }
        self.0.transact(tx)
    }

    fn transact_system_call(
        &mut self,
        caller: Address,
        contract: Address,
        data: Bytes,
    ) -> Result<ResultAndState, Self::Error> {
        self.0.ctx.set_tx(TxEnv {
            caller,
            data,
            kind: TxKind::Call(contract),
            gas_limit: SYSTEM_CALL_GAS,
            ..Default::default()
        });
        let mut handler = MainnetHandler::<_, Self::Error, _>::default();
        let result = handler.run_system_call(&mut self.0)?;
        Ok(ResultAndState::new(result, self.0.finalize()))
    }

    fn finish(self) -> (DB, EvmEnv) {
        let Context { block: block_env, cfg: cfg_env, journaled_state, .. } = self.0.ctx;
        (journaled_state.database, EvmEnv { block_env, cfg_env })
    }

    fn set_inspector_enabled(&mut self, _: bool) {}

    fn components(&self) -> (&DB, &Tap, &PrecompilesMap) {
        (&self.0.ctx.journaled_state.database, &self.0.inspector, &self.0.precompiles)
    }

    fn components_mut(&mut self) -> (&mut DB, &mut Tap, &mut PrecompilesMap) {
        (&mut self.0.ctx.journaled_state.database, &mut self.0.inspector, &mut self.0.precompiles)
    }
}
