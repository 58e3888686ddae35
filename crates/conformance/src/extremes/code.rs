//! The contracts of the cases: a worker that executes one opcode with operands from its calldata, and a driver
//! that calls it with one tuple of operands after the other and logs each result.

use alloy_primitives::{Address, U256, address};

/// The opcodes that the cases use, by their usual names.
pub(super) mod op {
    pub(crate) const STOP: u8 = 0x00;
    pub(crate) const SUB: u8 = 0x03;
    pub(crate) const EXP: u8 = 0x0a;
    pub(crate) const SIGNEXTEND: u8 = 0x0b;
    pub(crate) const LT: u8 = 0x10;
    pub(crate) const BYTE: u8 = 0x1a;
    pub(crate) const SHL: u8 = 0x1b;
    pub(crate) const SHR: u8 = 0x1c;
    pub(crate) const SAR: u8 = 0x1d;
    pub(crate) const KECCAK256: u8 = 0x20;
    pub(crate) const CALLDATALOAD: u8 = 0x35;
    pub(crate) const CALLDATASIZE: u8 = 0x36;
    pub(crate) const CALLDATACOPY: u8 = 0x37;
    pub(crate) const CODECOPY: u8 = 0x39;
    pub(crate) const EXTCODECOPY: u8 = 0x3c;
    pub(crate) const RETURNDATASIZE: u8 = 0x3d;
    pub(crate) const RETURNDATACOPY: u8 = 0x3e;
    pub(crate) const BLOCKHASH: u8 = 0x40;
    pub(crate) const BLOBHASH: u8 = 0x49;
    pub(crate) const POP: u8 = 0x50;
    pub(crate) const MLOAD: u8 = 0x51;
    pub(crate) const MSTORE: u8 = 0x52;
    pub(crate) const MSTORE8: u8 = 0x53;
    pub(crate) const JUMP: u8 = 0x56;
    pub(crate) const JUMPI: u8 = 0x57;
    pub(crate) const MSIZE: u8 = 0x59;
    pub(crate) const GAS: u8 = 0x5a;
    pub(crate) const JUMPDEST: u8 = 0x5b;
    pub(crate) const MCOPY: u8 = 0x5e;
    pub(crate) const PUSH0: u8 = 0x5f;
    pub(crate) const DUP2: u8 = 0x81;
    pub(crate) const DUP3: u8 = 0x82;
    pub(crate) const SWAP1: u8 = 0x90;
    pub(crate) const LOG0: u8 = 0xa0;
    pub(crate) const CREATE: u8 = 0xf0;
    pub(crate) const CALL: u8 = 0xf1;
    pub(crate) const CALLCODE: u8 = 0xf2;
    pub(crate) const RETURN: u8 = 0xf3;
    pub(crate) const DELEGATECALL: u8 = 0xf4;
    pub(crate) const CREATE2: u8 = 0xf5;
    pub(crate) const STATICCALL: u8 = 0xfa;
    pub(crate) const REVERT: u8 = 0xfd;
}

/// The contract that is called with tuples and passes each to the worker.
pub(super) const DRIVER: Address = address!("00000000000000000000000000000000000d0000");
/// The contract that executes the opcode.
pub(super) const WORKER: Address = address!("00000000000000000000000000000000000e0000");
/// A contract that returns its calldata.
pub(super) const ECHO: Address = address!("00000000000000000000000000000000000f0000");
/// The identity precompile.
const IDENTITY: u64 = 4;

/// Length of what the driver logs for a tuple: gas spent, success, length of the returned data and its first
/// bytes.
pub(super) const LOG_LENGTH: usize = 96 + RETURNED;
const RETURNED: usize = 128;

/// Bytecode under construction.
#[derive(Clone, Debug, Default)]
pub(super) struct Code(pub(super) Vec<u8>);

impl Code {
    pub(super) fn ops(mut self, ops: &[u8]) -> Self {
        self.0.extend(ops);
        self
    }

    /// The shortest push of a number.
    pub(super) fn push(mut self, value: impl TryInto<U256, Error: core::fmt::Debug>) -> Self {
        let value: U256 = value.try_into().expect("a number that is pushed fits a word");
        let bytes = value.to_be_bytes_trimmed_vec();
        self.0.push(op::PUSH0 + u8::try_from(bytes.len()).expect("a word has 32 bytes"));
        self.0.extend(bytes);
        self
    }

    pub(super) fn push_address(self, address: Address) -> Self {
        self.push(U256::from_be_slice(address.as_slice()))
    }

    /// Pushes word `index` of the calldata.
    pub(super) fn operand(self, index: usize) -> Self {
        self.push(U256::from(32 * index)).ops(&[op::CALLDATALOAD])
    }

    /// Fills the first two words of memory, so that reads there do not give zero.
    pub(super) fn fill(self) -> Self {
        self.push(PATTERN).push(0).ops(&[op::MSTORE]).push(!PATTERN).push(32).ops(&[op::MSTORE])
    }

    /// Returns the top of the stack, the size of memory, its last word and its first.
    pub(super) fn finish(self) -> Self {
        self.ops(&[op::MSIZE])
            .push(32)
            .ops(&[op::DUP2, op::SUB, op::MLOAD])
            .push(0)
            .ops(&[op::MLOAD])
            .push(0)
            .ops(&[op::MSTORE])
            .push(32)
            .ops(&[op::MSTORE])
            .push(64)
            .ops(&[op::MSTORE])
            .push(96)
            .ops(&[op::MSTORE])
            .push(128)
            .push(0)
            .ops(&[op::RETURN])
    }

    /// Calls the identity precompile on the first two words, so that there is returned data.
    pub(super) fn return_something(self) -> Self {
        self.push(0).push(0).push(64).push(0).push(IDENTITY).ops(&[
            op::GAS,
            op::STATICCALL,
            op::POP,
        ])
    }
}

/// Bytes that all differ from their neighbours, and whose first is no opcode that creates something.
const PATTERN: U256 = U256::from_be_bytes([
    0x5f, 0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef, 0xfe, 0xdc, 0xba, 0x98, 0x76, 0x54, 0x32,
    0x10, 0x0f, 0x1e, 0x2d, 0x3c, 0x4b, 0x5a, 0x69, 0x78, 0x87, 0x96, 0xa5, 0xb4, 0xc3, 0xd2, 0xe1,
]);

/// Calls the worker with `gas` for each tuple of `width` operands in the calldata, and logs each result.
///
/// ```text
/// memory: gas spent, success, length of the returned data, its first bytes, the tuple
/// ```
pub(super) fn driver(gas: u64, width: usize) -> Vec<u8> {
    let tuple = 32 * width;
    // Only the offset of the tuple stays on the stack in the loop.
    let start = Code::default().push(0);
    let at = start.0.len();
    start
        .ops(&[op::JUMPDEST])
        // Clears the place of the returned data.
        .push(U256::from(RETURNED))
        .ops(&[op::CALLDATASIZE])
        .push(96)
        .ops(&[op::CALLDATACOPY])
        .push(U256::from(tuple))
        .ops(&[op::DUP2])
        .push(U256::from(LOG_LENGTH))
        .ops(&[op::CALLDATACOPY, op::GAS])
        .push(U256::from(RETURNED))
        .push(96)
        .push(U256::from(tuple))
        .push(U256::from(LOG_LENGTH))
        .push(0)
        .push_address(WORKER)
        .push(gas)
        .ops(&[op::CALL, op::SWAP1, op::GAS, op::SWAP1, op::SUB])
        .push(0)
        .ops(&[op::MSTORE])
        .push(32)
        .ops(&[op::MSTORE, op::RETURNDATASIZE])
        .push(64)
        .ops(&[op::MSTORE])
        .push(U256::from(LOG_LENGTH))
        .push(0)
        .ops(&[op::LOG0])
        .push(U256::from(tuple))
        .ops(&[0x01, op::CALLDATASIZE, op::DUP2, op::LT])
        .push(U256::from(at))
        .ops(&[op::JUMPI, op::STOP])
        .0
}

/// Returns the calldata.
pub(super) fn echo() -> Vec<u8> {
    Code::default()
        .ops(&[op::CALLDATASIZE])
        .push(0)
        .push(0)
        .ops(&[op::CALLDATACOPY, op::CALLDATASIZE])
        .push(0)
        .ops(&[op::RETURN])
        .0
}
