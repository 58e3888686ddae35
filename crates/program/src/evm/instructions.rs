//! Instructions that differ from revm's.

use crate::overlay::STORAGE_WITHOUT_CODE;
use alloy_evm::{Database, eth::EthEvmContext};
use alloy_primitives::{Address, B256, KECCAK256_EMPTY, U256};
use revm::{
    bytecode::Bytecode,
    context::{ContextTr as _, JournalTr as _},
    interpreter::{
        Host, InstructionContext, InstructionExecResult, InstructionResult, Interpreter,
        instructions::host::{extcodehash, selfdestruct, sload, sstore},
        interpreter::EthInterpreter,
        interpreter_types::{InputsTr as _, InterpreterTypes, StackTr as _},
    },
    state::EvmStorageSlot,
};

/// `EXTCODEHASH`, which returns the true code hash of a marked account: that of empty code.
pub(super) fn code_hash<IT: InterpreterTypes, H: Host + ?Sized>(
    context: InstructionContext<'_, H, IT>,
) -> InstructionExecResult {
    let InstructionContext { interpreter, host } = context;
    let address = interpreter.stack.top().map(|top| Address::from_word(B256::from(*top)));
    extcodehash(InstructionContext { interpreter: &mut *interpreter, host: &mut *host })?;
    if let (Some(address), Some(top)) = (address, interpreter.stack.top())
        && top.is_zero()
        // The account was loaded just now, so this costs no gas.
        && !host.load_account_info_skip_cold_load(address, false, false)?.is_empty()
    {
        *top = KECCAK256_EMPTY.into();
    }
    Ok(())
}

/// `SELFDESTRUCT`, which does not let the beneficiary's balance wrap, and which removes a beneficiary that is empty
/// afterwards, with its storage.
pub(super) fn self_destruct<DB: Database>(
    context: InstructionContext<'_, EthEvmContext<DB>, EthInterpreter>,
) -> InstructionExecResult {
    let InstructionContext { interpreter, host } = context;
    let target = interpreter.stack.top().map(|top| Address::from_word(B256::from(*top)));
    let own = interpreter.input.target_address();
    let given = host.balance(own).unwrap_or_default().data;
    // It always returns an error, which ends the frame: `SelfDestruct` if all went well.
    let ended =
        selfdestruct(InstructionContext { interpreter: &mut *interpreter, host: &mut *host });
    if let (Err(InstructionResult::SelfDestruct), Some(target)) = (&ended, target)
        && target != own
    {
        if host.balance(target).unwrap_or_default().data < given {
            return Err(InstructionResult::OverflowPayment);
        }
        // The account was loaded just now. Only the mark shows that it has storage.
        let account = host.load_account_info_skip_cold_load(target, false, false)?;
        if account.is_empty() && account.account.code_hash == STORAGE_WITHOUT_CODE {
            host.journal_mut().set_code_with_hash(target, Bytecode::default(), KECCAK256_EMPTY);
        }
    }
    ended
}

/// `SLOAD` in a transaction whose authorizations have destroyed an account.
pub(super) fn sload_after_destruction<DB: Database>(
    context: InstructionContext<'_, EthEvmContext<DB>, EthInterpreter>,
) -> InstructionExecResult {
    forget_slot(&*context.interpreter, &mut *context.host);
    sload(context)
}

/// `SSTORE` in a transaction whose authorizations have destroyed an account.
pub(super) fn sstore_after_destruction<DB: Database>(
    context: InstructionContext<'_, EthEvmContext<DB>, EthInterpreter>,
) -> InstructionExecResult {
    forget_slot(&*context.interpreter, &mut *context.host);
    sstore(context)
}

/// Call this before a slot is loaded: the slot is zero if its account was destroyed or never existed.
fn forget_slot<DB: Database>(
    interpreter: &Interpreter<EthInterpreter>,
    host: &mut EthEvmContext<DB>,
) {
    let journal = &mut host.journaled_state.inner;
    let own = interpreter.input.target_address();
    if let (Some(key), Some(account)) =
        (interpreter.stack.data().last(), journal.state.get_mut(&own))
        && account.is_loaded_as_not_existing()
    {
        // SOUNDNESS: the storage from before the destruction is gone.
        account.storage.entry(*key).or_insert_with(|| {
            let mut slot = EvmStorageSlot::new(U256::ZERO, journal.transaction_id);
            slot.mark_cold();
            slot
        });
    }
}
