//! What only a native run does, so that no input takes more memory on the machine that judges it than a guest has.

use alloy_evm::{Database, eth::EthEvmContext};
use alloy_primitives::Address;
use revm::{
    bytecode::opcode::{JUMP, JUMPI, LOG0, LOG1, LOG2, LOG3, LOG4},
    interpreter::{
        Instruction, InstructionContext, InstructionExecResult, InstructionResult,
        InstructionTable,
        instructions::{
            control::{jump, jumpi},
            host::log,
        },
        interpreter::EthInterpreter,
    },
};

type Context<'c, DB> = InstructionContext<'c, EthEvmContext<DB>, EthInterpreter>;
type Table<DB> = InstructionTable<EthInterpreter, EthEvmContext<DB>>;

/// Checks the heap at each jump (as in a loop) and each log (which outlives its frame), or only between frames.
pub(super) fn watch_heap<DB: Database>(table: &mut Table<DB>, everywhere: bool) {
    macro_rules! watch {
        ($($opcode:ident: $instruction:expr),*) => {
            $(table[usize::from($opcode)] = match everywhere {
                true => Instruction::new(|context: Context<'_, DB>| {
                    fits()?;
                    $instruction(context)
                }),
                false => Instruction::new($instruction),
            };)*
        };
    }
    watch!(
        JUMP: jump, JUMPI: jumpi,
        LOG0: log::<0, _>, LOG1: log::<1, _>, LOG2: log::<2, _>, LOG3: log::<3, _>, LOG4: log::<4, _>
    );
}

/// Counts at least what a guest's curve arithmetic allocates: the native libraries allocate nothing, or not here.
pub(super) fn count_curves(precompile: Address, len: usize) {
    // A pairing prepares its points as long lists; a sum of products has buckets.
    let (pair, bytes) = match precompile.into_array() {
        [zeros @ .., 0x08] if zeros == [0; 19] => (192, 48 << 10),
        [zeros @ .., 0x0a] if zeros == [0; 19] => (96, 96 << 10),
        [zeros @ .., 0x0c] if zeros == [0; 19] => (160, 8 << 10),
        [zeros @ .., 0x0e] if zeros == [0; 19] => (288, 8 << 10),
        [zeros @ .., 0x0f] if zeros == [0; 19] => (384, 96 << 10),
        _ => return,
    };
    crate::heap::count(len.div_ceil(pair) * bytes);
}

fn fits() -> InstructionExecResult {
    crate::heap::check().map_err(|_| InstructionResult::MemoryLimitOOG)
}
