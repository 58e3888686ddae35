//! Counts natively what a run does. The cost of a proof is estimated from these counts.
//!
//! Counting uses revm's inspector, and with it revm's interpreter instead of ours. It takes somewhat longer than
//! [`crate::run_detailed`] and changes no result: a server that counts judges proofs by an interpreter that is not the guest's.

use crate::{Error, Outcome, batch, input::InputRef};
use revm::{
    Inspector,
    bytecode::OpCode,
    interpreter::{
        CallInputs, CallOutcome, FrameInput, Interpreter, InterpreterAction, InterpreterTypes,
        interpreter_types::{Jumps, LoopControl as _},
    },
};
use std::{cell::RefCell, collections::BTreeMap};

/// How often something was used, and for how much gas.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Uses {
    /// Number of uses.
    pub count: u64,
    /// Gas. For an instruction that calls or creates, without the gas that it passes on.
    pub gas: u64,
}

impl Uses {
    fn add(&mut self, gas: u64) {
        self.count += 1;
        self.gas += gas;
    }
}

/// What a run did.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct Counts {
    /// Blocks.
    pub blocks: u64,
    /// Transactions.
    pub transactions: u64,
    /// Bytes of the blocks' RLP.
    pub block_bytes: u64,
    /// Bytes of the ancestors' headers.
    pub header_bytes: u64,
    /// Contract codes in the witness.
    pub codes: u64,
    /// Bytes of these codes.
    pub code_bytes: u64,
    /// Bytes of the witness' trie nodes.
    pub node_bytes: u64,
    /// Bytes of the trie nodes that changed and so were hashed anew.
    pub new_node_bytes: u64,
    /// Addresses and words that were hashed, once each: keys of tries, and what goes into bloom filters.
    pub keys: u64,
    /// Those of `keys` that were hashed for a bloom filter.
    pub bloom_keys: u64,
    /// Instructions by opcode.
    pub opcodes: BTreeMap<u8, Uses>,
    /// Calls of precompiles by the last two bytes of their addresses.
    pub precompiles: BTreeMap<u16, Uses>,
}

impl Counts {
    /// All counts as named numbers, for a model that is linear in them.
    pub fn features(&self) -> impl Iterator<Item = (String, u64)> + '_ {
        let sizes = [
            ("blocks", self.blocks),
            ("transactions", self.transactions),
            ("block bytes", self.block_bytes),
            ("header bytes", self.header_bytes),
            ("codes", self.codes),
            ("code bytes", self.code_bytes),
            ("node bytes", self.node_bytes),
            ("new node bytes", self.new_node_bytes),
            ("keys", self.keys),
            ("bloom keys", self.bloom_keys),
        ];
        let opcodes = self.opcodes.iter().map(|(opcode, uses)| {
            (OpCode::new(*opcode).map_or("unknown", OpCode::as_str).to_owned(), uses)
        });
        let precompiles =
            self.precompiles.iter().map(|(number, uses)| (format!("precompile {number:#x}"), uses));
        let uses = opcodes
            .chain(precompiles)
            .flat_map(|(name, uses)| [(format!("{name} gas"), uses.gas), (name, uses.count)]);
        sizes.into_iter().map(|(name, value)| (name.to_owned(), value)).chain(uses)
    }
}

thread_local! {
    static COUNTS: RefCell<Option<Counts>> = const { RefCell::new(None) };
}

/// Whether this thread is counting.
pub(crate) fn counting() -> bool {
    COUNTS.with_borrow(Option::is_some)
}

fn with_counts(work: impl FnOnce(&mut Counts)) {
    COUNTS.with_borrow_mut(|counts| counts.as_mut().map(work));
}

/// Counts a changed trie node of so many bytes.
pub(crate) fn new_node(bytes: usize) {
    with_counts(|counts| counts.new_node_bytes += bytes as u64);
}

/// Counts an address or a word that is hashed.
pub(crate) fn key() {
    with_counts(|counts| counts.keys += 1);
}

/// Counts keys as hashed for a bloom filter.
pub(crate) fn bloom_keys(keys: usize) {
    with_counts(|counts| counts.bloom_keys += keys as u64);
}

/// [`crate::run_detailed`], counted.
///
/// # Errors
/// As [`crate::run`].
pub fn run_counted(input: &[u8]) -> Result<(Outcome, Counts), Error> {
    let sizes = InputRef::decode(input)?;
    let bytes = |items: &[&[u8]]| items.iter().map(|item| item.len() as u64).sum();
    let counts = Counts {
        blocks: sizes.blocks.len() as u64,
        block_bytes: bytes(&sizes.blocks),
        header_bytes: bytes(&sizes.headers),
        codes: sizes.codes.len() as u64,
        code_bytes: sizes.codes.iter().map(|code| code.len as u64).sum(),
        node_bytes: (sizes.accounts.len() + sizes.storages.len()) as u64,
        ..Counts::default()
    };
    COUNTS.set(Some(counts));
    let outcome = batch::run_detailed(input);
    let mut counts = COUNTS.take().expect("it was set above");
    let outcome = outcome?;
    counts.transactions = outcome.blocks.iter().map(|block| block.transactions as u64).sum();
    Ok((outcome, counts))
}

/// An inspector that adds what the EVM does to this thread's counts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tap {
    opcode: u8,
    gas: u64,
}

impl<CTX, IT: InterpreterTypes> Inspector<CTX, IT> for Tap {
    fn step(&mut self, interpreter: &mut Interpreter<IT>, _: &mut CTX) {
        *self = Self { opcode: interpreter.bytecode.opcode(), gas: interpreter.gas.remaining() };
    }

    fn step_end(&mut self, interpreter: &mut Interpreter<IT>, _: &mut CTX) {
        // Gas that is passed on to a frame comes back, or is spent there.
        let handed_on = match interpreter.bytecode.action() {
            Some(InterpreterAction::NewFrame(FrameInput::Call(call))) => call.gas_limit,
            Some(InterpreterAction::NewFrame(FrameInput::Create(create))) => create.gas_limit(),
            _ => 0,
        };
        let gas = self.gas.saturating_sub(interpreter.gas.remaining() + handed_on);
        with_counts(|counts| counts.opcodes.entry(self.opcode).or_default().add(gas));
    }

    fn call_end(&mut self, _: &mut CTX, inputs: &CallInputs, outcome: &mut CallOutcome) {
        if outcome.was_precompile_called {
            let [.., high, low] = inputs.bytecode_address.0.0;
            let gas = outcome.result.gas.total_gas_spent();
            let number = u16::from_be_bytes([high, low]);
            with_counts(|counts| counts.precompiles.entry(number).or_default().add(gas));
        }
    }
}
