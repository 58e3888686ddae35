//! The interpreter: our loop for the instructions that run most, revm's functions for all others.
//!
//! * What an instruction means, costs and refuses is what revm says, fork by fork; the tests compare both, opcode by opcode.
//! * What the loop has at hand (stack, gas, memory, place in the code) is written back before revm's functions run, and read
//!   again afterwards.
//! * An instruction of ours that needs more memory than the frame has pays for it and makes it, unless it lies so far away that it
//!   is left to revm.
//! * Nothing is read or written without a check beside it: words of the stack by [`Words`], bytes of the memory by
//!   [`Window`], the code as a slice.

use crate::code::{Destinations, Search, is_unsearched};
use alloy_primitives::U256;
use core::mem::MaybeUninit;
use revm::{
    bytecode::opcode::*,
    interpreter::{
        CallInput, GasTable, Host, InstructionContext, InstructionResult, InstructionTable,
        Interpreter, InterpreterAction, STACK_LIMIT, SharedMemory, Stack,
        interpreter::{EthInterpreter, ExtBytecode},
        interpreter_types::{Jumps as _, LoopControl as _, MemoryTr as _, RuntimeFlag as _},
    },
};

/// Gas of the instructions of ours, which no fork has changed.
mod cost {
    pub(super) const BASE: u16 = 2;
    pub(super) const VERY_LOW: u16 = 3;
    pub(super) const LOW: u16 = 5;
    pub(super) const MID: u16 = 8;
    pub(super) const HIGH: u16 = 10;
    pub(super) const JUMPDEST: u16 = 1;
    /// Of a word of memory; and by what the square of all words is divided.
    pub(super) const MEMORY: usize = 3;
    pub(super) const MEMORY_DIVISOR: usize = 512;
}

/// The product of two numbers modulo a third one, which is not zero.
pub type Product = fn(&U256, &U256, &U256) -> U256;

/// What lasts from block to block.
#[derive(Debug, Default)]
pub(crate) struct Lasting {
    pub(crate) destinations: Destinations,
    /// The machine's own way to multiply, if it has one.
    pub(crate) product: Option<Product>,
}

/// What is to be known beyond the frame.
pub(crate) struct Around<'a> {
    pub(crate) lasting: &'a mut Lasting,
    /// Whether every jump checks how much memory a guest would have taken.
    #[cfg(feature = "std")]
    pub(crate) watch_heap: bool,
}

/// Runs a frame until it ends or calls, as [`Interpreter::run_plain`] does.
pub(crate) fn run<H: Host>(
    interpreter: &mut Interpreter<EthInterpreter>,
    table: &InstructionTable<EthInterpreter, H>,
    gas_table: &GasTable,
    host: &mut H,
    around: Around<'_>,
) -> InterpreterAction {
    let end = steps(interpreter, table, gas_table, host, around);
    if interpreter.bytecode.action().is_none() {
        interpreter.halt(end);
    }
    interpreter.take_next_action()
}

// A function of its own, so that what the loop has at hand is in registers.
#[inline(never)]
fn steps<H: Host>(
    interpreter: &mut Interpreter<EthInterpreter>,
    table: &InstructionTable<EthInterpreter, H>,
    gas_table: &GasTable,
    host: &mut H,
    around: Around<'_>,
) -> InstructionResult {
    // A second owner, so that the slices live while the interpreter changes.
    let owner = interpreter.bytecode.bytes();
    let code: &[u8] = &owner;
    // What is still to be executed, in order. It takes fewer registers than a place in the code.
    let mut rest = code[interpreter.bytecode.pc()..].iter();
    let mut gas = Fuel::of(interpreter.gas.remaining());
    let mut stack = Words::of(&mut interpreter.stack);
    let mut memory = Window::of(&mut interpreter.memory);
    let Lasting { destinations, product } = around.lasting;
    let (mut jumps, product) = (JumpsOf::Unknown(destinations), *product);

    let end = 'run: loop {
        macro_rules! end {
            ($result:ident) => {
                break 'run InstructionResult::$result
            };
        }
        macro_rules! pay {
            ($cost:ident) => {
                if !gas.pay(cost::$cost) {
                    end!(OutOfGas)
                }
            };
        }
        macro_rules! top {
            () => {
                match stack.top() {
                    Some(top) => top,
                    None => end!(StackUnderflow),
                }
            };
        }
        macro_rules! push {
            ($value:expr) => {
                match stack.push() {
                    Some(free) => {
                        free.write($value);
                    }
                    None => end!(StackOverflow),
                }
            };
        }
        // Takes one word from the stack; `change` makes the one below it the result.
        macro_rules! binary {
            ($cost:ident, $change:expr) => {{
                pay!($cost);
                match stack.two() {
                    Some((first, second)) => $change(first, second),
                    None => end!(StackUnderflow),
                }
            }};
        }
        // Whether it holds; the place for that is then the topmost word.
        macro_rules! compare {
            ($holds:expr) => {
                binary!(VERY_LOW, |a: &U256, b: &mut U256| $holds(a, b))
            };
        }
        macro_rules! bitwise {
            ($change:expr) => {
                binary!(VERY_LOW, |a: &U256, b: &mut U256| {
                    let (a, b) = (a.as_limbs(), limbs_mut(b));
                    for i in 0..4 {
                        $change(&mut b[i], a[i]);
                    }
                })
            };
        }
        macro_rules! jump {
            ($target:expr) => {{
                #[cfg(feature = "std")]
                if around.watch_heap && crate::heap::check().is_err() {
                    end!(MemoryLimitOOG)
                }
                match $target {
                    // The instruction there is done with this one.
                    Some(target) if jumps.is_destination(&mut interpreter.bytecode, target) => {
                        pay!(JUMPDEST);
                        rest = code[target + 1..].iter();
                    }
                    _ => end!(InvalidJump),
                }
            }};
        }
        macro_rules! push_bytes {
            ($len:literal) => {{
                pay!(VERY_LOW);
                match rest.as_slice().split_first_chunk::<$len>() {
                    Some((bytes, after)) => {
                        push!(from_big_endian(bytes));
                        rest = after.iter();
                    }
                    None => {
                        push!(from_big_endian(&cut_off::<$len>(rest.as_slice())));
                        rest = [].iter();
                    }
                }
            }};
        }

        macro_rules! duplicate {
            ($above:literal) => {{
                pay!(VERY_LOW);
                // revm's name for it, whichever limit it is.
                if !stack.duplicate($above) {
                    end!(StackOverflow)
                }
            }};
        }
        macro_rules! swap {
            ($below:literal) => {{
                pay!(VERY_LOW);
                if !stack.swap($below) {
                    end!(StackUnderflow)
                }
            }};
        }

        // After the end of a code comes STOP, as the yellow paper has it.
        let Some(&opcode) = rest.next() else { break 'run after_code() };
        'ours: {
            // The word of memory at an offset. What lies far away is left to revm.
            macro_rules! bytes_at {
                ($offset:expr) => {{
                    let Some(offset) = index($offset) else { break 'ours };
                    if !memory.has(offset) {
                        match grow(interpreter, gas, offset) {
                            Some(Ok(left)) => gas = left,
                            Some(Err(end)) => break 'run end,
                            None => break 'ours,
                        }
                        memory = Window::of(&mut interpreter.memory);
                    }
                    match memory.bytes(offset) {
                        Some(bytes) => bytes,
                        None => break 'ours,
                    }
                }};
            }

            let holds = 'compared: {
                match opcode {
                    STOP => end!(Stop),
                    ADD => binary!(VERY_LOW, add),
                    SUB => binary!(VERY_LOW, subtract),
                    MUL => binary!(LOW, multiply),
                    DIV => binary!(LOW, divide),
                    MULMOD => {
                        pay!(MID);
                        let Some(product) = product else { break 'ours };
                        let Some([a, b]) = stack.peek() else { end!(StackUnderflow) };
                        stack.pop();
                        match stack.two() {
                            Some((_, modulus)) if is_zero(modulus) => {}
                            Some((_, modulus)) => *modulus = product(a, b, modulus),
                            None => end!(StackUnderflow),
                        }
                    }
                    LT => break 'compared compare!(is_less),
                    GT => break 'compared compare!(|a, b| is_less(b, a)),
                    SLT => break 'compared compare!(is_less_signed),
                    SGT => break 'compared compare!(|a, b| is_less_signed(b, a)),
                    EQ => break 'compared compare!(|a: &U256, b: &U256| halves(a) == halves(b)),
                    ISZERO => {
                        pay!(VERY_LOW);
                        break 'compared is_zero(top!());
                    }
                    AND => bitwise!(|b: &mut u64, a: u64| *b &= a),
                    OR => bitwise!(|b: &mut u64, a: u64| *b |= a),
                    XOR => bitwise!(|b: &mut u64, a: u64| *b ^= a),
                    NOT => {
                        pay!(VERY_LOW);
                        limbs_mut(top!()).iter_mut().for_each(|limb| *limb = !*limb);
                    }
                    SHL => binary!(VERY_LOW, |shift: &U256, word: &mut U256| match index(shift) {
                        Some(shift) if shift < 256 => shift_left(word, shift),
                        _ => *word = U256::ZERO,
                    }),
                    SHR => binary!(VERY_LOW, |shift: &U256, word: &mut U256| match index(shift) {
                        Some(shift) if shift < 256 => shift_right(word, shift),
                        _ => *word = U256::ZERO,
                    }),
                    ADDRESS => {
                        pay!(BASE);
                        push!(from_big_endian(interpreter.input.target_address.as_ref()));
                    }
                    CALLER => {
                        pay!(BASE);
                        push!(from_big_endian(interpreter.input.caller_address.as_ref()));
                    }
                    CALLVALUE => {
                        pay!(BASE);
                        push!(interpreter.input.call_value);
                    }
                    CALLDATALOAD => {
                        pay!(VERY_LOW);
                        let (top, input) = (top!(), &interpreter.input.input);
                        // ORDER: an empty input may have a range that no memory has.
                        *top = match index(top).filter(|offset| *offset < input.len()) {
                            None => U256::ZERO,
                            Some(offset) => {
                                let word = {
                                    let input =
                                        &input.as_bytes_memory(&interpreter.memory)[offset..];
                                    match input.first_chunk::<32>() {
                                        Some(bytes) => from_big_endian(bytes),
                                        None => from_big_endian(&cut_off::<32>(input)),
                                    }
                                };
                                if let CallInput::SharedBuffer(_) = input {
                                    memory = Window::of(&mut interpreter.memory);
                                }
                                word
                            }
                        };
                    }
                    CALLDATASIZE => {
                        pay!(BASE);
                        push!(U256::from(interpreter.input.input.len()));
                    }
                    RETURNDATASIZE => {
                        pay!(BASE);
                        push!(U256::from(interpreter.return_data.0.len()));
                    }
                    POP => {
                        pay!(BASE);
                        if stack.pop().is_none() {
                            end!(StackUnderflow)
                        }
                    }
                    MLOAD => {
                        pay!(VERY_LOW);
                        let top = top!();
                        let bytes = bytes_at!(top);
                        *top = from_big_endian(bytes);
                    }
                    MSTORE => {
                        pay!(VERY_LOW);
                        let Some([offset, word]) = stack.peek() else { end!(StackUnderflow) };
                        let bytes = bytes_at!(offset);
                        write_big_endian(word, bytes);
                        stack.pop();
                        stack.pop();
                    }
                    JUMP => {
                        pay!(MID);
                        let Some(target) = stack.pop() else { end!(StackUnderflow) };
                        jump!(index(target));
                    }
                    JUMPI => {
                        pay!(HIGH);
                        let Some([target, condition]) = stack.peek() else { end!(StackUnderflow) };
                        stack.pop();
                        stack.pop();
                        if !is_zero(condition) {
                            jump!(index(target));
                        }
                    }
                    PC => {
                        pay!(BASE);
                        push!(U256::from(code.len() - rest.len() - 1));
                    }
                    GAS => {
                        pay!(BASE);
                        push!(U256::from(gas.total()));
                    }
                    JUMPDEST => pay!(JUMPDEST),
                    PUSH1 => match rest.as_slice() {
                        [small, ADD, after @ ..] => {
                            pay!(VERY_LOW);
                            if stack.is_full() {
                                end!(StackOverflow)
                            }
                            pay!(VERY_LOW);
                            add_small(*small, top!());
                            rest = after.iter();
                        }
                        _ => push_bytes!(1),
                    },
                    PUSH2 => match rest.as_slice() {
                        // Most jumps go to where a push right before them says: both in one step.
                        [high, low, jump @ (JUMP | JUMPI), after @ ..] => {
                            pay!(VERY_LOW);
                            if stack.is_full() {
                                end!(StackOverflow)
                            }
                            let target = Some(usize::from(u16::from_be_bytes([*high, *low])));
                            if *jump == JUMP {
                                pay!(MID);
                                jump!(target);
                            } else {
                                pay!(HIGH);
                                let Some(condition) = stack.pop() else { end!(StackUnderflow) };
                                rest = after.iter();
                                if !is_zero(condition) {
                                    jump!(target);
                                }
                            }
                        }
                        _ => push_bytes!(2),
                    },
                    PUSH3 => push_bytes!(3),
                    PUSH4 => push_bytes!(4),
                    PUSH8 => push_bytes!(8),
                    PUSH16 => push_bytes!(16),
                    PUSH20 => push_bytes!(20),
                    PUSH32 => push_bytes!(32),
                    // One by one, as all below: rustc makes a comparison of a range, and a table of the others.
                    PUSH5 | PUSH6 | PUSH7 | PUSH9 | PUSH10 | PUSH11 | PUSH12 | PUSH13 | PUSH14
                    | PUSH15 | PUSH17 | PUSH18 | PUSH19 | PUSH21 | PUSH22 | PUSH23 | PUSH24
                    | PUSH25 | PUSH26 | PUSH27 | PUSH28 | PUSH29 | PUSH30 | PUSH31 => {
                        pay!(VERY_LOW);
                        let len = usize::from(opcode - PUSH0);
                        let bytes = rest.as_slice();
                        push!(operand(bytes, len));
                        rest = bytes.get(len..).unwrap_or_default().iter();
                    }
                    DUP1 => duplicate!(0),
                    DUP2 => duplicate!(1),
                    DUP3 => duplicate!(2),
                    DUP4 => duplicate!(3),
                    DUP5 => duplicate!(4),
                    DUP6 => duplicate!(5),
                    DUP7 => duplicate!(6),
                    DUP8 => duplicate!(7),
                    DUP9 => duplicate!(8),
                    DUP10 => duplicate!(9),
                    DUP11 => duplicate!(10),
                    DUP12 => duplicate!(11),
                    DUP13 => duplicate!(12),
                    DUP14 => duplicate!(13),
                    DUP15 => duplicate!(14),
                    DUP16 => duplicate!(15),
                    SWAP1 => swap!(1),
                    SWAP2 => swap!(2),
                    SWAP3 => swap!(3),
                    SWAP4 => swap!(4),
                    SWAP5 => swap!(5),
                    SWAP6 => swap!(6),
                    SWAP7 => swap!(7),
                    SWAP8 => swap!(8),
                    SWAP9 => swap!(9),
                    SWAP10 => swap!(10),
                    SWAP11 => swap!(11),
                    SWAP12 => swap!(12),
                    SWAP13 => swap!(13),
                    SWAP14 => swap!(14),
                    SWAP15 => swap!(15),
                    SWAP16 => swap!(16),
                    // The last of all: with it each of 256 bytes has its place in the table, and none is compared before.
                    SELFDESTRUCT if interpreter.runtime_flag.is_static() => {
                        if !gas.pay(gas_table[usize::from(SELFDESTRUCT)]) {
                            end!(OutOfGas)
                        }
                        end!(StateChangeDuringStaticCall)
                    }
                    _ => {
                        if !gas.pay(gas_table[usize::from(opcode)]) {
                            end!(OutOfGas)
                        }
                        break 'ours;
                    }
                }
                continue 'run;
            };
            // What follows is most often a jump if it holds: all in one step.
            match rest.as_slice() {
                [PUSH2, high, low, JUMPI, after @ ..] => {
                    pay!(VERY_LOW);
                    if stack.is_full() {
                        end!(StackOverflow)
                    }
                    pay!(HIGH);
                    stack.pop();
                    rest = after.iter();
                    if holds {
                        jump!(Some(usize::from(u16::from_be_bytes([*high, *low]))));
                    }
                }
                _ => *top!() = truth(holds),
            }
            continue 'run;
        }
        // What revm's function does, with all that it may look at or change written back.
        interpreter.gas.set_remaining(gas.total());
        stack.write_back(&mut interpreter.stack);
        interpreter.bytecode.absolute_jump(code.len() - rest.len());
        let context = InstructionContext { interpreter: &mut *interpreter, host: &mut *host };
        if let Err(end) = table[usize::from(opcode)].execute(context) {
            return end;
        }
        rest = code[interpreter.bytecode.pc()..].iter();
        gas = Fuel::of(interpreter.gas.remaining());
        stack = Words::of(&mut interpreter.stack);
        memory = Window::of(&mut interpreter.memory);
    };
    // What else a frame leaves that has ended here, nobody looks at.
    interpreter.gas.set_remaining(gas.total());
    end
}

/// How a frame ends behind the end of its code. A function, so that LLVM knows that it is rare.
#[cold]
#[inline(never)]
const fn after_code() -> InstructionResult {
    InstructionResult::Stop
}

/// The jump destinations of a frame's code.
enum JumpsOf<'a> {
    /// Nobody has jumped yet.
    Unknown(&'a mut Destinations),
    /// They are in the code's own table.
    InTable,
    /// They are searched for, and kept for the next frame.
    Kept(&'a mut Search),
    /// They are searched for, for this frame.
    Own(Search),
}

impl<'a> JumpsOf<'a> {
    #[inline(always)]
    fn is_destination(&mut self, code: &mut ExtBytecode, target: usize) -> bool {
        matches!(self, Self::Kept(search) if search.has_found(target)) || self.ask(code, target)
    }

    #[inline(never)]
    fn ask(&mut self, code: &mut ExtBytecode, target: usize) -> bool {
        if let Self::Unknown(_) = self {
            self.look(code);
        }
        match self {
            Self::Kept(search) => search.is_destination(code.original_byte_slice(), target),
            Self::Own(search) => search.is_destination(code.original_byte_slice(), target),
            Self::InTable | Self::Unknown(_) => code.is_valid_legacy_jump(target),
        }
    }

    fn look(&mut self, code: &ExtBytecode) {
        let known = core::mem::replace(self, Self::InTable);
        if is_unsearched(code) {
            *self = match (known, code.hash()) {
                // SOUNDNESS: what was found belongs to the code with this hash.
                (Self::Unknown(all), Some(hash)) => Self::Kept(all.of(hash)),
                _ => Self::Own(Search::default()),
            };
        }
    }
}

/// Gas that is left: 31 bits to count with, and what goes beyond them.
#[derive(Clone, Copy)]
struct Fuel {
    /// Never negative, but while something is paid.
    left: i32,
    rest: u64,
}

impl Fuel {
    fn of(gas: u64) -> Self {
        let left = i32::try_from(gas).unwrap_or(i32::MAX);
        Self { left, rest: gas - u64::from(left.cast_unsigned()) }
    }

    fn total(self) -> u64 {
        self.rest + u64::from(self.left.cast_unsigned())
    }

    /// Pays this much, if there is as much; if not, nothing is left.
    #[inline(always)]
    fn pay(&mut self, cost: u16) -> bool {
        // SOUNDNESS: gas never wraps. What is left was not negative, so it is above -2^16.
        let owed = Self { left: self.left.wrapping_sub(i32::from(cost)), ..*self };
        *self = owed;
        if owed.left >= 0 {
            return true;
        }
        let settled = owed.settle();
        *self = settled.unwrap_or(Self { left: 0, rest: 0 });
        settled.is_some()
    }

    /// Pays from the rest what was counted below zero, if there is as much.
    #[cold]
    #[inline(never)]
    fn settle(self) -> Option<Self> {
        self.rest.checked_sub(u64::from(self.left.unsigned_abs())).map(Self::of)
    }
}

/// The words of a stack.
struct Words {
    bottom: *mut U256,
    /// Behind the topmost word.
    end: *mut U256,
}

#[expect(
    unsafe_code,
    reason = "a slice has no room to grow; every function checks before it reads or writes"
)]
impl Words {
    fn of(stack: &mut Stack) -> Self {
        let words = stack.data_mut();
        // SOUNDNESS: the room that `push` and `duplicate` write to.
        assert!(
            words.capacity() >= STACK_LIMIT && words.len() <= STACK_LIMIT,
            "no room for a stack"
        );
        let bottom = words.as_mut_ptr();
        // SAFETY: the vector has so many words.
        Self { bottom, end: unsafe { bottom.add(words.len()) } }
    }

    /// Tells the vector how many words there are.
    fn write_back(&self, stack: &mut Stack) {
        // SAFETY: the vector is where these words are, and the words below `end` were written to.
        unsafe { stack.data_mut().set_len(self.len()) }
    }

    #[inline(always)]
    fn len(&self) -> usize {
        // SAFETY: both point into the vector, and `end` is never below.
        unsafe { self.end.offset_from_unsigned(self.bottom) }
    }

    /// Whether there are at least `count` words.
    #[inline(always)]
    fn has(&self, count: usize) -> bool {
        (self.end as usize).wrapping_sub(self.bottom as usize) >= count * size_of::<U256>()
    }

    #[inline(always)]
    fn is_full(&self) -> bool {
        self.has(STACK_LIMIT)
    }

    #[inline(always)]
    fn top(&mut self) -> Option<&mut U256> {
        // SOUNDNESS: a word that is not there is an underflow. So in all that follow.
        // SAFETY: there is one.
        self.has(1).then(|| unsafe { &mut *self.end.sub(1) })
    }

    /// The two topmost words, the uppermost first.
    #[inline(always)]
    fn peek<'a>(&self) -> Option<[&'a U256; 2]> {
        // SAFETY: there are two, and a popped word stays where it was until something is pushed. No caller keeps them longer.
        self.has(2).then(|| unsafe { [&*self.end.sub(1), &*self.end.sub(2)] })
    }

    /// Takes the topmost word off. It stays where it was until something is pushed.
    #[inline(always)]
    fn pop<'a>(&mut self) -> Option<&'a U256> {
        if !self.has(1) {
            return None;
        }
        // SAFETY: there is one.
        unsafe {
            self.end = self.end.sub(1);
            Some(&*self.end)
        }
    }

    /// Takes the topmost word off, and gives it with the one below it.
    #[inline(always)]
    fn two(&mut self) -> Option<(&U256, &mut U256)> {
        if !self.has(2) {
            return None;
        }
        // SAFETY: there are two.
        unsafe {
            self.end = self.end.sub(1);
            Some((&*self.end, &mut *self.end.sub(1)))
        }
    }

    /// Puts one more word on, which the caller has to write to.
    #[inline(always)]
    fn push(&mut self) -> Option<&mut MaybeUninit<U256>> {
        // SOUNDNESS: a stack never has more than 1,024 words.
        if self.is_full() {
            return None;
        }
        // SAFETY: there is room, which `of` has made sure of.
        unsafe {
            let free = &mut *self.end.cast();
            self.end = self.end.add(1);
            Some(free)
        }
    }

    /// Puts the word with `above` words above it on top once more.
    #[inline(always)]
    fn duplicate(&mut self, above: usize) -> bool {
        // SOUNDNESS: both limits of the stack.
        if self.is_full() || !self.has(above + 1) {
            return false;
        }
        // SAFETY: the word is there, and so is the room.
        unsafe {
            *self.end = *self.end.sub(above + 1);
            self.end = self.end.add(1);
        }
        true
    }

    /// Swaps the topmost word with the one `below` words below it.
    #[inline(always)]
    fn swap(&mut self, below: usize) -> bool {
        if !self.has(below + 1) {
            return false;
        }
        // SAFETY: both are there. They are read before they are written, limb by limb.
        let (one, other) = unsafe { (self.end.sub(1), self.end.sub(below + 1)) };
        for limb in 0..4 {
            // SAFETY: a word has four limbs.
            unsafe {
                let (one, other) = (one.cast::<u64>().add(limb), other.cast::<u64>().add(limb));
                let (of_one, of_other) = (*one, *other);
                *one = of_other;
                *other = of_one;
            }
        }
        true
    }
}

/// The memory of a frame as it is until revm's functions run.
struct Window {
    start: *mut u8,
    len: usize,
}

#[expect(
    unsafe_code,
    reason = "borrowed anew for each word, memory costs twice as much; each function checks the length"
)]
impl Window {
    fn of(memory: &mut SharedMemory) -> Self {
        let mut memory = memory.context_memory_mut();
        Self { start: memory.as_mut_ptr(), len: memory.len() }
    }

    /// Whether the frame has the 32 bytes at `offset`.
    #[inline(always)]
    fn has(&self, offset: usize) -> bool {
        // SOUNDNESS: no access beyond the frame's memory.
        self.len >= 32 && offset <= self.len - 32
    }

    /// The 32 bytes at `offset`, if the frame has them.
    #[inline(always)]
    fn bytes(&mut self, offset: usize) -> Option<&mut [u8; 32]> {
        if !self.has(offset) {
            return None;
        }
        // SAFETY: all 32 are below `len`, and nothing else has changed the memory since.
        Some(unsafe { &mut *self.start.add(offset).cast() })
    }
}

/// Pays for the memory up to the end of the word at `offset`, which the frame does not have yet, and makes it. `None` if the
/// offset is so far away that it is left to revm.
#[inline(never)]
fn grow(
    interpreter: &mut Interpreter<EthInterpreter>,
    gas: Fuel,
    offset: usize,
) -> Option<Result<Fuel, InstructionResult>> {
    /// So that nothing below is more than 32 bits.
    const FAR: usize = 1 << 19;
    if offset >= FAR {
        return None;
    }
    let words = (offset + 32).div_ceil(32);
    // ORDER: as in revm's `resize_memory`.
    if interpreter.memory.limit_reached(words) {
        return Some(Err(InstructionResult::MemoryLimitOOG));
    }
    // SOUNDNESS: what all memory of the frame costs, less what was paid for it before.
    let all = cost::MEMORY * words + words * words / cost::MEMORY_DIVISOR;
    let more = interpreter.gas.memory_mut().set_words_num(words, all as u64);
    let Some(left) = more.and_then(|more| gas.total().checked_sub(more)) else {
        return Some(Err(InstructionResult::MemoryOOG));
    };
    interpreter.memory.resize(32 * words);
    Some(Ok(Fuel::of(left)))
}

/// A word as an offset or a count, if it has at most 32 bits. What has more is larger than anything here.
#[inline(always)]
fn index(word: &U256) -> Option<usize> {
    let [low, rest @ ..] = halves(word);
    let rest = rest.iter().fold(0, |all, half| all | half);
    (rest == 0).then_some(low as usize)
}

/// The first `N` bytes, with zeros for those after the end of `data`.
#[inline(never)]
fn cut_off<const N: usize>(data: &[u8]) -> [u8; N] {
    core::array::from_fn(|i| data.get(i).copied().unwrap_or_default())
}

/// The operand of a push: the first `len` bytes, with zeros for those after the end of `code`.
#[inline(never)]
fn operand(code: &[u8], len: usize) -> U256 {
    let Some(bytes) = code.get(..len) else {
        return from_big_endian(&cut_off::<32>(code)) >> (8 * (32 - len));
    };
    let (first, fours) = bytes.as_rchunks::<4>();
    let mut words = [0; 8];
    for (word, four) in words.iter_mut().zip(fours.iter().rev()) {
        *word = four_bytes(*four);
    }
    if let Some(word) = words.get_mut(fours.len()) {
        *word = first.iter().fold(0, |all, byte| all << 8 | u32::from(*byte));
    }
    from_halves(words)
}

/// As `u32::from_be_bytes`, for which LLVM first puts the bytes together the other way round on this machine.
#[inline(always)]
fn four_bytes([a, b, c, d]: [u8; 4]) -> u32 {
    u32::from(a) << 24 | u32::from(b) << 16 | u32::from(c) << 8 | u32::from(d)
}

#[inline(always)]
fn from_big_endian<const N: usize>(bytes: &[u8; N]) -> U256 {
    let byte = |i: usize| if i < N { bytes[N - 1 - i] } else { 0 };
    from_halves(core::array::from_fn(|i| {
        four_bytes([byte(4 * i + 3), byte(4 * i + 2), byte(4 * i + 1), byte(4 * i)])
    }))
}

#[inline(always)]
fn write_big_endian(word: &U256, bytes: &mut [u8; 32]) {
    for (i, half) in halves(word).into_iter().enumerate() {
        for at in 0..4 {
            bytes[31 - 4 * i - at] = half.to_le_bytes()[at];
        }
    }
}

#[inline(always)]
fn truth(holds: bool) -> U256 {
    U256::from_limbs([u64::from(holds), 0, 0, 0])
}

#[inline(always)]
fn is_zero(word: &U256) -> bool {
    halves(word).iter().fold(0, |all, half| all | half) == 0
}

/// A word as 32-bit halves of its limbs, the lowest first.
#[expect(clippy::cast_possible_truncation, reason = "a half is what is asked for")]
#[inline(always)]
fn halves(word: &U256) -> [u32; 8] {
    core::array::from_fn(|i| (word.as_limbs()[i / 2] >> (32 * (i % 2))) as u32)
}

#[inline(always)]
fn from_halves(halves: [u32; 8]) -> U256 {
    let limb = |i: usize| u64::from(halves[2 * i]) | u64::from(halves[2 * i + 1]) << 32;
    U256::from_limbs(core::array::from_fn(limb))
}

#[expect(
    unsafe_code,
    reason = "ruint's only way to change limbs; all 256 bits of a word are its own"
)]
#[inline(always)]
fn limbs_mut(word: &mut U256) -> &mut [u64; 4] {
    // SAFETY: no bit of 256 is outside of the type.
    unsafe { word.as_limbs_mut() }
}

#[inline(always)]
fn add(a: &U256, b: &mut U256) {
    chain(a, b, u32::overflowing_add);
}

#[inline(always)]
fn add_small(a: u8, b: &mut U256) {
    let mut carry = u64::from(a);
    for limb in limbs_mut(b) {
        let (sum, carries) = limb.overflowing_add(carry);
        *limb = sum;
        if !carries {
            break;
        }
        carry = 1;
    }
}

#[inline(always)]
fn subtract(a: &U256, b: &mut U256) {
    chain(a, b, u32::overflowing_sub);
}

/// Puts `step` of both, from the lowest halves to the highest with what is carried over, into `b`.
#[inline(always)]
fn chain(a: &U256, b: &mut U256, step: impl Fn(u32, u32) -> (u32, bool)) {
    let mut carry = false;
    let (a, mut result) = (halves(a), halves(b));
    for i in 0..8 {
        let (half, first) = step(a[i], result[i]);
        let (half, second) = step(half, u32::from(carry));
        (result[i], carry) = (half, first | second);
    }
    *b = from_halves(result);
}

#[inline(always)]
fn is_less(a: &U256, b: &U256) -> bool {
    let (a, b) = (halves(a), halves(b));
    for i in (0..8).rev() {
        if a[i] != b[i] {
            return a[i] < b[i];
        }
    }
    false
}

/// As numbers in two's complement.
#[inline(always)]
fn is_less_signed(a: &U256, b: &U256) -> bool {
    let [high_a, high_b] = [a, b].map(|word| halves(word)[7].cast_signed());
    if high_a != high_b { high_a < high_b } else { is_less(a, b) }
}

/// `word` times 2^`shift`; `shift` is less than 256.
#[inline(never)]
fn shift_left(word: &mut U256, shift: usize) {
    let mut all = [0; 16];
    all[8..].copy_from_slice(&halves(word));
    let (halves, bits) = (7 - shift / 32, shift % 32);
    let from: &[u32; 9] = all[halves..].first_chunk().expect("at most seven before nine");
    *word = match bits {
        0 => from_halves(core::array::from_fn(|i| from[i + 1])),
        _ => from_halves(core::array::from_fn(|i| from[i + 1] << bits | from[i] >> (32 - bits))),
    };
}

/// `word` over 2^`shift`; `shift` is less than 256.
#[inline(never)]
fn shift_right(word: &mut U256, shift: usize) {
    // No more than eight zeros: for nine LLVM calls `memset`.
    let mut all = [0; 16];
    all[..8].copy_from_slice(&halves(word));
    let (halves, bits) = (shift / 32, shift % 32);
    let from: &[u32; 9] = all[halves..].first_chunk().expect("at most seven before nine");
    *word = match bits {
        0 => from_halves(core::array::from_fn(|i| from[i])),
        _ => from_halves(core::array::from_fn(|i| from[i] >> bits | from[i + 1] << (32 - bits))),
    };
}

#[expect(clippy::cast_possible_truncation, reason = "a half is what is asked for")]
#[inline(never)]
fn multiply(a: &U256, b: &mut U256) {
    let ([a0, a1, a2, a3], [b0, b1, b2, b3]) = (*a.as_limbs(), *b.as_limbs());
    // Most numbers are amounts. Such a product is less than 2^256, and no sum of its parts more than 2^128.
    if a2 | a3 | b2 | b3 != 0 {
        *b = a.wrapping_mul(*b);
        return;
    }
    let product = |a, b| u128::from(a) * u128::from(b);
    let parts = |all: u128| [all as u64, (all >> 64) as u64].map(u128::from);
    let ([low, carry], [low_1, high_1], [low_2, high_2]) =
        (parts(product(a0, b0)), parts(product(a0, b1)), parts(product(a1, b0)));
    let [middle, carry] = parts(carry + low_1 + low_2);
    let [third, fourth] = parts(product(a1, b1).wrapping_add(high_1 + high_2 + carry));
    *b = U256::from_limbs([low, middle, third, fourth].map(|limb| limb as u64));
}

#[inline(never)]
fn divide(a: &U256, b: &mut U256) {
    if is_zero(b) {
        return;
    }
    // Most often an old way to shift.
    let low = b.as_limbs().iter().position(|limb| *limb != 0).unwrap_or_default();
    let limb = b.as_limbs()[low];
    if b.as_limbs()[low + 1..].iter().all(|limb| *limb == 0) && limb & (limb - 1) == 0 {
        *b = *a;
        return shift_right(b, 64 * low + limb.trailing_zeros() as usize);
    }
    *b = a.wrapping_div(*b);
}

#[cfg(test)]
mod tests;
