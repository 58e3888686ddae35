//! Our interpreter beside revm's: every opcode at every boundary, and whole programs.

#![expect(clippy::cast_possible_truncation, reason = "bytes that only have to differ")]

use super::*;
use crate::code::{PADDING, PaddedCode};
use alloc::{vec, vec::Vec};
use alloy_primitives::{Address, Bytes, U256, keccak256};
use proptest::prelude::*;
use revm::{
    bytecode::Bytecode,
    context_interface::host::DummyHost,
    interpreter::{
        CallInput, Gas, InputsImpl, Instruction, instruction_table, instructions::gas_table_spec,
    },
    primitives::hardfork::SpecId,
};

/// The forks of [`crate::ChainConfig`].
const FORKS: [SpecId; 5] =
    [SpecId::MERGE, SpecId::SHANGHAI, SpecId::CANCUN, SpecId::PRAGUE, SpecId::OSAKA];

/// revm's functions. The host that stands in for a chain has no randomness to give.
fn instructions() -> InstructionTable<EthInterpreter, DummyHost> {
    let mut table = instruction_table();
    table[usize::from(DIFFICULTY)] = Instruction::unknown();
    table
}

/// As a code of an input is, whose destinations are left to a search.
fn of_input(code: &[u8]) -> Bytecode {
    let padded = [code, &[0; PADDING]].concat();
    PaddedCode { padded: &padded, len: code.len() }.bytecode(None)
}

fn ended(action: InterpreterAction) -> InstructionResult {
    match action {
        InterpreterAction::Return(result) => result.result,
        InterpreterAction::NewFrame(_) => unreachable!("nothing is called"),
    }
}

/// A frame to run.
#[derive(Clone, Debug)]
struct Start {
    fork: SpecId,
    code: Vec<u8>,
    stack: Vec<U256>,
    /// Words of memory that are paid for, with bytes that count up.
    words: usize,
    input: CallInput,
    returned: Vec<u8>,
    gas: u64,
    /// Bytes that all frames may have, with the 96 of the one below.
    limit: u64,
    is_static: bool,
}

impl Start {
    fn new(code: impl Into<Vec<u8>>) -> Self {
        Self {
            fork: SpecId::OSAKA,
            code: code.into(),
            stack: Vec::new(),
            words: 0,
            input: CallInput::Bytes((1..=70).collect()),
            returned: vec![9; 40],
            gas: 1_000_000,
            limit: 1 << 20,
            is_static: false,
        }
    }

    fn interpreter(&self, code: ExtBytecode) -> Interpreter {
        let inputs = InputsImpl {
            target_address: Address::repeat_byte(0x11),
            bytecode_address: Some(Address::repeat_byte(0x22)),
            caller_address: Address::repeat_byte(0x33),
            input: self.input.clone(),
            call_value: U256::from(0x4444_5555_6666_u64) << 100,
            depth: 0,
        };
        let mut memory = SharedMemory::new();
        // The frame below has memory too.
        memory.resize(96);
        memory.set(0, &core::array::from_fn::<u8, 96, _>(|at| 0x70 + at as u8));
        let mut memory = memory.new_child_context();
        memory.set_memory_limit(self.limit);
        let mut made = Interpreter::new(memory, code, inputs, self.is_static, self.fork, self.gas);
        made.stack.data_mut().extend(&self.stack);
        if self.words > 0 {
            let cost = DummyHost::new(self.fork);
            let cost = cost.gas_params().memory_cost(self.words);
            made.gas.memory_mut().set_words_num(self.words, cost).unwrap();
            made.memory.resize(self.words * 32);
            for at in 0..self.words * 32 {
                made.memory.set(at, &[at as u8]);
            }
        }
        made.return_data.0 = Bytes::from(self.returned.clone());
        made
    }

    fn theirs(&self) -> End {
        let code = ExtBytecode::new(Bytecode::new_legacy(self.code.clone().into()));
        let mut interpreter = self.interpreter(code);
        let table = instructions();
        let mut host = DummyHost::new(self.fork);
        let action = interpreter.run_plain(&table, &gas_table_spec(self.fork), &mut host);
        End::new(interpreter, action)
    }

    /// As a code of an input, or as one that revm has analysed.
    fn ours(&self, is_of_input: bool) -> End {
        let code = match is_of_input && !self.code.is_empty() {
            true => of_input(&self.code),
            false => Bytecode::new_legacy(self.code.clone().into()),
        };
        let code = ExtBytecode::new_with_hash(code, keccak256(&self.code));
        // As a guest has it, and as all others have it.
        let product: Option<Product> = is_of_input.then_some(|a, b, modulus| {
            assert!(!modulus.is_zero());
            a.mul_mod(*b, *modulus)
        });
        let mut lasting = Lasting { product, ..Lasting::default() };
        let (interpreter, action) = self.run(code, &mut lasting);
        End::new(interpreter, action)
    }

    fn run(&self, code: ExtBytecode, lasting: &mut Lasting) -> (Interpreter, InterpreterAction) {
        let mut interpreter = self.interpreter(code);
        let mut host = DummyHost::new(self.fork);
        let around = Around { lasting, watch_heap: false };
        let gas_table = gas_table_spec(self.fork);
        let action = run(&mut interpreter, &instructions(), &gas_table, &mut host, around);
        (interpreter, action)
    }

    #[track_caller]
    fn compare(&self) -> End {
        let theirs = self.theirs();
        for of_input in [true, false] {
            let ours = self.ours(of_input);
            assert_eq!(ours, theirs, "{self:?}, of an input: {of_input}");
        }
        theirs
    }
}

/// What a frame leaves that anybody may look at afterwards.
#[derive(Debug, PartialEq)]
struct End {
    action: InterpreterAction,
    /// Of a frame that goes on after a call, or has ended well.
    left: Option<(Gas, Vec<U256>, Vec<u8>, usize)>,
}

impl End {
    fn new(interpreter: Interpreter, mut action: InterpreterAction) -> Self {
        let goes_on = match &mut action {
            InterpreterAction::NewFrame(_) => true,
            InterpreterAction::Return(result) => {
                let well = result.result.is_ok_or_revert();
                if !well {
                    // Nobody gets back what a frame had that failed.
                    result.gas.set_remaining(0);
                }
                well
            }
        };
        let left = goes_on.then(|| {
            let memory = interpreter.memory.context_memory().to_vec();
            // Where a frame stands that has ended is of no account.
            let at = match action {
                InterpreterAction::NewFrame(_) => interpreter.bytecode.pc(),
                InterpreterAction::Return(_) => 0,
            };
            let stack = match action {
                InterpreterAction::NewFrame(_) => interpreter.stack.data().clone(),
                InterpreterAction::Return(_) => Vec::new(),
            };
            (interpreter.gas, stack, memory, at)
        });
        Self { action, left }
    }

    fn gas_left(&self) -> Option<u64> {
        match &self.action {
            InterpreterAction::Return(result) if result.result.is_ok() => {
                Some(result.gas.remaining())
            }
            _ => None,
        }
    }
}

/// After the instruction: the topmost word is returned, with whatever memory there is.
const SHOW: [u8; 10] = [PUSH2, 0x02, 0x00, MSTORE, PUSH2, 0x02, 0x20, PUSH0, RETURN, STOP];

/// Words at which something changes.
fn words() -> Vec<U256> {
    let one = U256::from(1);
    let mut words = vec![U256::ZERO, one, U256::MAX, one << 255, (one << 255) - one];
    for bits in [5, 8, 31, 32, 33, 63, 64, 65, 96, 127, 128, 160, 192, 224, 254] {
        words.extend([(one << bits) - one, one << bits]);
    }
    words.extend([2, 3, 30, 31, 33, 95, 96, 97, 223, 225, 255, 257, 0x7ead_beef].map(U256::from));
    words.push(U256::from_be_bytes(core::array::from_fn::<u8, 32, _>(|at| 0x81 + 3 * at as u8)));
    words
}

/// The gas at which `start` just succeeds, if it does with a million.
fn enough(start: &Start) -> Option<u64> {
    let all = Start { gas: 1_000_000, ..start.clone() };
    Some(1_000_000 - all.theirs().gas_left()?)
}

#[test]
fn every_opcode_on_every_height_of_the_stack() {
    let values = words();
    for fork in FORKS {
        for opcode in 0..=255 {
            for height in (0..=18).chain([1022, 1023, 1024]) {
                let stack = (0..height).map(|at| values[(7 * at + 1) % values.len()]).collect();
                let code = [&[opcode][..], &[0x5b; 33], &[STOP]].concat();
                let start = Start { fork, stack, words: 2, ..Start::new(code) };
                start.compare();
                Start { is_static: true, ..start }.compare();
            }
        }
    }
}

#[test]
fn every_opcode_with_just_enough_gas() {
    for fork in [SpecId::MERGE, SpecId::OSAKA] {
        for opcode in 0..=255 {
            let stack = vec![U256::from(5); 20];
            for code in [
                [&[opcode][..], &[0; 33]].concat(),
                [&[JUMPDEST; 5][..], &[opcode, JUMPDEST]].concat(),
            ] {
                let start = Start { fork, stack: stack.clone(), ..Start::new(code) };
                let needed = enough(&start).unwrap_or(100);
                for gas in needed.saturating_sub(2)..needed + 3 {
                    Start { gas, ..start.clone() }.compare();
                }
                // Beyond 31 bits, and where these and 32 end.
                for beyond in [1_u64 << 31, 1 << 32, 1 << 33, 1 << 40, u64::MAX - 1_000_000] {
                    for gas in beyond - 3..beyond + 4 {
                        Start { gas, ..start.clone() }.compare();
                    }
                }
            }
        }
    }
}

#[test]
fn what_a_static_call_may_not_do_costs_its_gas_first() {
    for opcode in [SSTORE, TSTORE, LOG0, LOG2, CREATE, CREATE2, CALL, SELFDESTRUCT] {
        for gas in [0, 1, 99, 100, 101, 374, 375, 376, 4999, 5000, 5001, 31_999, 32_000, 32_001] {
            for height in [0, 1, 7] {
                let stack = vec![U256::ONE; height];
                Start { is_static: true, stack, gas, ..Start::new([opcode]) }.compare();
            }
        }
    }
}

#[test]
fn gas_that_runs_over_31_bits_is_counted_on() {
    // Three gas for each push, one for the destination, eight for the jump.
    let code = [JUMPDEST, GAS, POP, PUSH0, JUMP];
    for gas in [0, 1, 14, 15, 16, 1_000] {
        let mut fuel = Fuel::of((1 << 31) + gas);
        for _ in 0..1 << 15 {
            assert!(fuel.pay(u16::MAX));
        }
        assert_eq!(fuel.total(), (1 << 15) + gas);
    }
    for gas in [0, 1, 2, 15, 16, 17, 1_000, 12_345] {
        Start { gas, ..Start::new(code) }.compare();
    }
    for (left, rest) in [(0_i32, 0_u64), (1, 0), (0, 1), (2, 3), (i32::MAX, 7), (3, u64::MAX - 3)] {
        for cost in [0, 1, 2, 5, 6, u16::MAX] {
            let mut fuel = Fuel { left, rest };
            let after = fuel.total().checked_sub(u64::from(cost));
            assert_eq!(fuel.pay(cost), after.is_some());
            assert_eq!(fuel.total(), after.unwrap_or_default());
        }
    }
}

#[test]
fn two_words_through_every_opcode() {
    let values = words();
    for opcode in (0x01..=0x20).chain([MLOAD, MSTORE, MSTORE8, CALLDATALOAD, JUMP, JUMPI, POP]) {
        for a in &values {
            for b in &values {
                let stack = vec![U256::from(77), U256::from(7), *b, *a];
                let code = [&[opcode][..], &SHOW].concat();
                Start { stack, words: 3, ..Start::new(code) }.compare();
            }
        }
    }
}

#[test]
fn every_shift() {
    let value = *words().last().unwrap();
    for shift in 0..300 {
        for opcode in [SHL, SHR, SAR, BYTE, SIGNEXTEND] {
            let stack = vec![value, U256::from(shift)];
            Start { stack, ..Start::new([&[opcode][..], &SHOW].concat()) }.compare();
        }
    }
}

#[test]
fn memory_at_the_edges_of_words_and_pages() {
    for words in [0, 1, 2, 31, 32, 33, 127, 128, 129] {
        let end = words as u64 * 32;
        let near = (0..4).chain(end.saturating_sub(40)..end + 40);
        for offset in near.chain([
            1000,
            4064,
            4065,
            1 << 20,
            (1 << 20) - 96,
            (1 << 20) - 128,
            (1 << 32) - 1,
            1 << 32,
        ]) {
            for opcode in [MLOAD, MSTORE, MSTORE8, CALLDATALOAD, KECCAK256] {
                let stack = vec![U256::from(40), U256::from(0x1234), U256::from(offset)];
                for gas in [2, 3, 6, 9, 100, 400, 1_000_000, 100_000_000] {
                    let code = [&[opcode][..], &[MSIZE], &SHOW].concat();
                    Start { words, gas, stack: stack.clone(), ..Start::new(code) }.compare();
                }
            }
        }
    }
}

#[test]
fn memory_grows_for_exactly_what_it_costs() {
    for words in [0, 1, 2, 33] {
        let end = words as u64 * 32;
        let edges = [end, 1 << 12, 1 << 19, 1 << 32, u64::MAX - 34];
        for offset in edges.iter().flat_map(|edge| edge.saturating_sub(34)..edge + 34) {
            for opcode in [MLOAD, MSTORE] {
                let stack = vec![U256::from(0x1234), U256::from(offset)];
                let start = Start { words, stack, ..Start::new([opcode]) };
                start.compare();
                for gas in enough(&start).map_or(0..0, |needed| needed - 2..needed + 2) {
                    Start { gas, ..start.clone() }.compare();
                }
                // Where memory is scarce, and gas is not.
                let gas = (1 << 31) + 5_000;
                let below =
                    if offset < 1 << 20 { 96 + (offset + 32).div_ceil(32) * 32 } else { 96 };
                for limit in below - 33..below + 2 {
                    Start { gas, limit, ..start.clone() }.compare();
                }
            }
        }
    }
    // Twice by a word, as most memory grows.
    for gas in 0..40 {
        let code = [PUSH0, PUSH0, MSTORE, PUSH1, 1, PUSH1, 33, MSTORE, PUSH1, 64, MLOAD];
        Start { gas, ..Start::new(code) }.compare();
    }
}

#[test]
fn pushes_at_the_end_of_a_code() {
    for opcode in PUSH0..=PUSH32 {
        let len = usize::from(opcode - PUSH0);
        let operand: Vec<u8> = (1..=len as u8).map(|byte| byte.wrapping_mul(0x97)).collect();
        for given in 0..=len {
            Start::new([&[opcode][..], &operand[..given]].concat()).compare();
        }
        Start::new([&[opcode][..], &operand, &SHOW].concat()).compare();
    }
}

#[test]
fn input_at_every_offset() {
    let bytes = [0, 1, 31, 32, 33, 64, 70].map(|len| CallInput::Bytes((1..=len).collect()));
    // In the memory of the frame below. An empty one lies nowhere.
    let shared = [usize::MAX..usize::MAX, 0..0, 0..1, 0..96, 5..37, 5..36, 5..38, 64..96, 95..96]
        .map(CallInput::SharedBuffer);
    for input in bytes.into_iter().chain(shared) {
        for offset in (0..100).chain([u64::MAX, 1 << 32, (1 << 32) - 1]) {
            for opcode in [CALLDATALOAD, CALLDATASIZE] {
                let stack = vec![U256::from(offset)];
                let code = [&[opcode][..], &SHOW].concat();
                Start { stack, input: input.clone(), ..Start::new(code) }.compare();
            }
        }
    }
}

#[test]
fn jumps_to_every_place() {
    // Pushes in operands of pushes, and a destination in one.
    let code = [
        PUSH1, JUMPDEST, PUSH2, PUSH1, JUMPDEST, JUMPDEST, PUSH4, 0, PUSH2, 0, JUMPDEST, JUMPDEST,
        STOP,
    ];
    for jump in [vec![JUMP], vec![JUMPI]] {
        for target in (0..40).chain([1 << 32, (1 << 32) + 12, u64::MAX]) {
            for condition in [U256::ZERO, U256::from(1), U256::from(1) << 255] {
                let first = [&[DUP1][..], &jump, &[JUMPDEST]].concat();
                let code = [first, code.to_vec()].concat();
                let stack = vec![condition, U256::from(target), U256::from(target)];
                Start { stack, ..Start::new(code) }.compare();
            }
        }
        for high in [64, 96, 128, 200, 255] {
            let stack = vec![U256::from(1), (U256::from(1) << high) + U256::from(1)];
            Start { stack, ..Start::new([&jump[..], &[JUMPDEST]].concat()) }.compare();
        }
    }
}

/// A program that mostly does something.
/// Comparisons, pushes and jumps that follow each other are one step here.
#[test]
fn instructions_in_one_step() {
    let comparisons = [LT, GT, SLT, SGT, EQ, ISZERO].map(Some);
    for (first, jump) in
        comparisons.into_iter().chain([None]).flat_map(|first| [(first, JUMP), (first, JUMPI)])
    {
        // Good, in an operand, no destination, beyond the end.
        for target in [10, 7, 9, 300] {
            let [high, low] = u16::to_be_bytes(target);
            let code = [
                first.unwrap_or(JUMPDEST),
                PUSH2,
                high,
                low,
                jump,
                PUSH2,
                STOP,
                JUMPDEST,
                STOP,
                PUSH0,
                JUMPDEST,
                PC,
            ];
            for len in 1..=code.len() {
                for height in [0, 1, 2, 3, 1022, 1023, 1024] {
                    for top in [U256::ZERO, U256::ONE, U256::MAX, U256::ONE << 200] {
                        let mut stack = vec![U256::ONE; height];
                        if let Some(last) = stack.last_mut() {
                            *last = top;
                        }
                        Start { stack, ..Start::new(&code[..len]) }.compare();
                    }
                }
            }
            for gas in 0..30 {
                for top in [U256::ZERO, U256::ONE] {
                    Start { gas, stack: vec![top; 3], ..Start::new(code) }.compare();
                }
            }
        }
    }
}

#[test]
fn small_numbers_are_added_with_all_carries() {
    let code = |small| [PUSH1, small, ADD, PUSH1, 1, ADD, STOP];
    let near =
        [0, 64, 128, 192, 255, 256].map(|bits| U256::ONE.checked_shl(bits).unwrap_or_default());
    for near in near {
        for less in 0..=260_u64 {
            for small in [0, 1, 2, 0x7f, 0xfe, 0xff] {
                let top = near.wrapping_sub(U256::from(less));
                Start { stack: vec![top], ..Start::new(code(small)) }.compare();
            }
        }
    }
    for height in [0, 1, 1023, 1024] {
        for len in 1..=7 {
            for gas in 0..14 {
                Start { gas, stack: vec![U256::MAX; height], ..Start::new(&code(1)[..len]) }
                    .compare();
            }
        }
    }
}

fn program() -> impl Strategy<Value = Vec<u8>> {
    let instruction = prop_oneof![
        6 => (0u8..=90, any::<u8>()).prop_map(|(value, _)| vec![PUSH1, value]),
        2 => any::<u16>().prop_map(|value| vec![PUSH2, (value >> 8) as u8 & 1, value as u8]),
        2 => (PUSH0..=PUSH32, any::<[u8; 32]>())
            .prop_map(|(push, bytes)| [&[push][..], &bytes[..usize::from(push - PUSH0)]].concat()),
        6 => (0x01u8..=0x20).prop_map(|op| vec![op]),
        4 => (DUP1..=SWAP16).prop_map(|op| vec![op]),
        3 => Just(vec![JUMPDEST]),
        2 => (0u8..=120).prop_map(|to| vec![PUSH1, to, JUMP]),
        2 => (0u8..=120).prop_map(|to| vec![PUSH1, to, JUMPI]),
        3 => (0x30u8..=0x5f).prop_map(|op| vec![op]),
        2 => prop_oneof![Just(MLOAD), Just(MSTORE), Just(CALLDATALOAD), Just(GAS), Just(PC)]
            .prop_map(|op| vec![op]),
        1 => any::<u8>().prop_map(|op| vec![op]),
    ];
    prop::collection::vec(instruction, 1..80).prop_map(|instructions| instructions.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn programs_end_alike(
        code in program(),
        stack in prop::collection::vec(prop::sample::select(words()), 0..25),
        fork in prop::sample::select(FORKS.to_vec()),
        gas in prop_oneof![0u64..2_000, Just(50_000), (1u64 << 32)..(1 << 32) + 60],
        words in 0usize..5,
        is_static in any::<bool>(),
    ) {
        // A loop of cheap instructions ends when its gas does: not with 2^32 of it.
        let gas = if code.iter().any(|op| [JUMP, JUMPI].contains(op)) { gas.min(50_000) } else { gas };
        Start { fork, stack, gas, words, is_static, ..Start::new(code) }.compare();
    }
}

/// A search is kept for a code, and not for another one.
#[test]
fn codes_that_run_one_after_the_other_keep_their_own_destinations() {
    let mut destinations = Lasting::default();
    let mut run_code = |code: &[u8]| {
        let bytecode = ExtBytecode::new_with_hash(of_input(code), keccak256(code));
        ended(Start::new(code).run(bytecode, &mut destinations).1)
    };
    for _ in 0..2 {
        assert_eq!(run_code(&[PUSH1, 4, JUMP, PUSH1, JUMPDEST]), InstructionResult::InvalidJump);
        assert_eq!(run_code(&[PUSH1, 4, JUMP, PUSH0, JUMPDEST]), InstructionResult::Stop);
    }
}

/// revm gives a hash to every code of the input. If it did not, jumps would have to be judged all the same.
#[test]
fn a_code_without_a_hash_is_searched_for_its_own_frame() {
    for (target, end) in [(3, InstructionResult::Stop), (1, InstructionResult::InvalidJump)] {
        let code = ExtBytecode::new(of_input(&[PUSH1, target, JUMP, JUMPDEST]));
        let (_, action) = Start::new(vec![]).run(code, &mut Lasting::default());
        assert_eq!(ended(action), end);
    }
}

#[test]
#[should_panic(expected = "no room for a stack")]
fn a_stack_without_room_is_refused() {
    Words::of(&mut Stack::invalid());
}
