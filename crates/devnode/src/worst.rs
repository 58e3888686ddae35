//! Blocks that an attacker would make: each does one thing as often as its gas allows.
//!
//! * A case is a contract with a loop; one transaction calls it, and the loop ends when little gas is left.
//! * Every opcode of Osaka has a case, with operands that are expensive to compute with, and so has every precompile.
//! * State is small here. Real blocks show how much more an access to a trie as deep as mainnet's costs.

mod inputs;

use crate::{Chain, ChainError, PoolError, Transaction, accounts, genesis, traffic};
use alloy_consensus::TxLegacy;
use alloy_genesis::GenesisAccount;
use alloy_primitives::{Address, B256, Bytes, U256, address};
use revm::bytecode::opcode;
use std::collections::BTreeMap;

/// The contract with the loop.
const RUNNER: Address = address!("00000000000000000000000000000000000c0de5");
/// Accounts from this number on exist, each with a code of its own of [`CODE_LENGTH`] bytes.
const FIRST_CONTRACT: u64 = 0x1_0000_0000;
/// The longest code (EIP-170).
const CODE_LENGTH: usize = 0x6000;
/// Contracts and slots that exist: a loop that visits them all takes more gas than a transaction has.
const EXISTING: u64 = 512;
/// Maximum gas of a loop's body, unless one round takes more.
const BODY_GAS: u64 = 20_000;
/// Maximum length of a loop's body, in bytes.
const BODY_BYTES: usize = 12_000;

/// A block that does one thing.
#[derive(Clone, Debug)]
pub struct WorstCase {
    /// What it does: an opcode or a precompile, and with what.
    pub name: String,
    /// Runs once: fills stack and memory.
    setup: Vec<u8>,
    /// Runs again and again.
    round: Round,
    /// Gas of one round, or more than that.
    round_gas: u64,
    calldata: Bytes,
    alloc: BTreeMap<Address, GenesisAccount>,
}

/// One round of a loop.
#[derive(Clone, Debug)]
enum Round {
    Code(Vec<u8>),
    /// `PUSH2 next, JUMP, next: JUMPDEST`: it has to know its position. With a condition if `true`.
    Jump(bool),
}

impl WorstCase {
    fn new(name: impl Into<String>, setup: Vec<u8>, round: Vec<u8>, round_gas: u64) -> Self {
        Self {
            name: name.into(),
            setup,
            round: Round::Code(round),
            round_gas,
            calldata: Bytes::new(),
            alloc: BTreeMap::new(),
        }
    }

    /// Every case.
    pub fn all() -> Vec<Self> {
        let mut cases = vec![Self::new("nothing", Vec::new(), vec![opcode::JUMPDEST], 1)];
        cases.extend(stack_cases());
        cases.extend(memory_cases());
        cases.extend(state_cases());
        cases.extend(
            inputs::all()
                .into_iter()
                .map(|(name, precompile, input)| Self::precompile(&name, precompile, input)),
        );
        cases
    }

    /// Calls `precompile` with `input`, which lies in memory.
    fn precompile(name: &str, precompile: Address, input: Vec<u8>) -> Self {
        let length = input.len() as u64;
        let mut setup = Vec::new();
        push(&mut setup, length);
        setup.extend([opcode::PUSH0, opcode::PUSH0, opcode::CALLDATACOPY]);
        let mut round = vec![opcode::PUSH0, opcode::PUSH0];
        push(&mut round, length);
        round.push(opcode::PUSH0);
        push_word(&mut round, precompile.into_word().into());
        round.extend([opcode::GAS, opcode::STATICCALL, opcode::POP]);
        let gas = inputs::gas(precompile, &input);
        Self { calldata: input.into(), ..Self::new(name, setup, round, gas + 120) }
    }

    /// A chain of one block after genesis, whose transaction spends about `gas` on this case, or more if one round
    /// and the calldata take more.
    ///
    /// # Errors
    /// If the transaction is refused: `gas` is more than a transaction may have.
    pub fn chain(&self, gas: u64) -> Result<Chain, WorstError> {
        // Calldata takes at most 40 gas a byte (EIP-7623).
        let least = 100_000 + 40 * self.calldata.len() as u64 + self.round_gas * 5 / 4;
        let gas = gas.max(least);
        let mut genesis = genesis::dev();
        genesis.gas_limit = 60_000_000;
        let account = GenesisAccount { code: Some(self.code().into()), ..Default::default() };
        genesis.alloc.insert(RUNNER, account);
        genesis.alloc.extend(self.alloc.clone());
        let mut chain = Chain::new(&genesis).expect("the dev genesis can be started");
        chain.submit(self.transaction(gas))?;
        chain.mine(chain.head().timestamp + 2)?;
        Ok(chain)
    }

    fn transaction(&self, gas_limit: u64) -> Transaction {
        let unsigned = TxLegacy {
            chain_id: Some(genesis::DEV_CHAIN_ID),
            nonce: 0,
            gas_price: 10 * genesis::DEV_BASE_FEE,
            gas_limit,
            to: RUNNER.into(),
            value: U256::ZERO,
            input: self.calldata.clone(),
        };
        traffic::sign(unsigned, &accounts::signer(0))
    }

    /// `setup, loop: JUMPDEST, rounds, loop again if the gas left is enough for the rounds, STOP`.
    fn code(&self) -> Vec<u8> {
        let mut code = self.setup.clone();
        let start = code.len() as u64;
        code.push(opcode::JUMPDEST);
        let mut spent = 0;
        while spent == 0 || (spent + self.round_gas < BODY_GAS && code.len() < BODY_BYTES) {
            match &self.round {
                Round::Code(round) => code.extend(round),
                Round::Jump(conditional) => {
                    if *conditional {
                        code.push(opcode::CALLER);
                    }
                    let next = code.len() as u64 + 4;
                    code.push(opcode::PUSH2);
                    code.extend(&next.to_be_bytes()[6..]);
                    code.push(if *conditional { opcode::JUMPI } else { opcode::JUMP });
                    code.push(opcode::JUMPDEST);
                }
            }
            spent += self.round_gas;
        }
        push(&mut code, spent + 200);
        code.extend([opcode::GAS, opcode::GT]);
        push(&mut code, start);
        code.extend([opcode::JUMPI, opcode::STOP]);
        code
    }

    fn with_contracts(mut self) -> Self {
        self.alloc = (0..EXISTING)
            .map(|index| {
                // STOP, then bytes that differ: no code is shared, and the jump analysis looks at every byte.
                let mut code = vec![opcode::JUMPDEST; CODE_LENGTH];
                code[0] = opcode::STOP;
                code[1..9].copy_from_slice(&index.to_be_bytes());
                let account = GenesisAccount { code: Some(code.into()), ..Default::default() };
                (Address::from_word(U256::from(FIRST_CONTRACT + index).into()), account)
            })
            .collect();
        self
    }

    /// Fills the runner's storage slots 0 to [`EXISTING`].
    fn with_slots(mut self) -> Self {
        let slots = (0..EXISTING).map(|slot| (U256::from(slot).into(), B256::repeat_byte(0xab)));
        let storage = Some(slots.collect());
        let account =
            GenesisAccount { code: Some(self.code().into()), storage, ..Default::default() };
        self.alloc.insert(RUNNER, account);
        self
    }
}

/// A case could not be made into a block.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WorstError {
    /// The transaction was refused.
    #[error(transparent)]
    Refused(#[from] PoolError),
    /// The block could not be made.
    #[error(transparent)]
    Chain(#[from] ChainError),
}

fn push(code: &mut Vec<u8>, value: u64) {
    push_word(code, U256::from(value));
}

/// An opcode of a family that starts with `first`.
fn nth(first: u8, n: usize) -> u8 {
    first + u8::try_from(n).expect("no family has more than 33")
}

/// The shortest PUSH of `value`.
fn push_word(code: &mut Vec<u8>, value: U256) {
    let bytes = value.to_be_bytes_trimmed_vec();
    code.push(nth(opcode::PUSH0, bytes.len()));
    code.extend(bytes);
}

/// Operands of 256 bits: dividends just above what a short quotient would need, and a modulus with its top bit set.
fn wide() -> [U256; 3] {
    [
        U256::MAX - U256::from(0x1234_5678_9abc_def0_u64),
        U256::MAX / U256::from(3) - U256::from(7),
        U256::MAX / U256::from(7) * U256::from(5) + U256::from(1),
    ]
}

/// `operands` are what the opcode takes, the top of the stack first.
fn on_stack(name: &str, code: u8, operands: &[U256], gas: u64) -> WorstCase {
    let mut setup = Vec::new();
    for operand in operands.iter().rev() {
        push_word(&mut setup, *operand);
    }
    let count = operands.len();
    let mut round = match count {
        0 => Vec::new(),
        count => vec![nth(opcode::DUP1, count - 1); count],
    };
    round.push(code);
    round.push(opcode::POP);
    WorstCase::new(name, setup, round, gas + 3 * count as u64 + 2)
}

fn stack_cases() -> Vec<WorstCase> {
    let [a, b, m] = wide();
    let (short, small) = (b >> 64, U256::from(200));
    let mut cases: Vec<_> = [
        ("ADD", opcode::ADD, vec![a, b], 3),
        ("MUL", opcode::MUL, vec![a, b], 5),
        ("SUB", opcode::SUB, vec![a, b], 3),
        ("DIV, 256 by 192 bits", opcode::DIV, vec![a, short], 5),
        ("DIV, 256 by 128 bits", opcode::DIV, vec![a, b >> 128], 5),
        ("DIV, 256 by 64 bits", opcode::DIV, vec![a, b >> 192], 5),
        ("SDIV", opcode::SDIV, vec![a >> 1, short], 5),
        ("MOD", opcode::MOD, vec![a, short], 5),
        ("SMOD", opcode::SMOD, vec![a >> 1, short], 5),
        ("ADDMOD", opcode::ADDMOD, vec![a, b, m], 8),
        ("ADDMOD, modulus of 192 bits", opcode::ADDMOD, vec![a, b, m >> 64], 8),
        ("MULMOD", opcode::MULMOD, vec![a, b, m], 8),
        ("MULMOD, modulus of 192 bits", opcode::MULMOD, vec![a, b, m >> 64], 8),
        ("EXP, exponent of 1 byte", opcode::EXP, vec![a, U256::from(255)], 60),
        ("EXP, exponent of 32 bytes", opcode::EXP, vec![a, U256::MAX], 1_610),
        ("SIGNEXTEND", opcode::SIGNEXTEND, vec![U256::from(15), a], 5),
        ("LT", opcode::LT, vec![a, b], 3),
        ("GT", opcode::GT, vec![a, b], 3),
        ("SLT", opcode::SLT, vec![a, b], 3),
        ("SGT", opcode::SGT, vec![a, b], 3),
        ("EQ", opcode::EQ, vec![a, a], 3),
        ("ISZERO", opcode::ISZERO, vec![U256::ZERO], 3),
        ("AND", opcode::AND, vec![a, b], 3),
        ("OR", opcode::OR, vec![a, b], 3),
        ("XOR", opcode::XOR, vec![a, b], 3),
        ("NOT", opcode::NOT, vec![a], 3),
        ("BYTE", opcode::BYTE, vec![U256::from(17), a], 3),
        ("SHL", opcode::SHL, vec![small, a], 3),
        ("SHR", opcode::SHR, vec![small, a], 3),
        ("SAR", opcode::SAR, vec![small, a], 3),
        ("CLZ", opcode::CLZ, vec![a >> 200], 5),
        ("ADDRESS", opcode::ADDRESS, vec![], 2),
        ("ORIGIN", opcode::ORIGIN, vec![], 2),
        ("CALLER", opcode::CALLER, vec![], 2),
        ("CALLVALUE", opcode::CALLVALUE, vec![], 2),
        ("CALLDATALOAD", opcode::CALLDATALOAD, vec![U256::from(1)], 3),
        ("CALLDATASIZE", opcode::CALLDATASIZE, vec![], 2),
        ("CODESIZE", opcode::CODESIZE, vec![], 2),
        ("GASPRICE", opcode::GASPRICE, vec![], 2),
        ("RETURNDATASIZE", opcode::RETURNDATASIZE, vec![], 2),
        ("BLOCKHASH", opcode::BLOCKHASH, vec![U256::ZERO], 20),
        ("COINBASE", opcode::COINBASE, vec![], 2),
        ("TIMESTAMP", opcode::TIMESTAMP, vec![], 2),
        ("NUMBER", opcode::NUMBER, vec![], 2),
        ("PREVRANDAO", opcode::DIFFICULTY, vec![], 2),
        ("GASLIMIT", opcode::GASLIMIT, vec![], 2),
        ("CHAINID", opcode::CHAINID, vec![], 2),
        ("SELFBALANCE", opcode::SELFBALANCE, vec![], 5),
        ("BASEFEE", opcode::BASEFEE, vec![], 2),
        ("BLOBHASH", opcode::BLOBHASH, vec![U256::ZERO], 3),
        ("BLOBBASEFEE", opcode::BLOBBASEFEE, vec![], 2),
        ("PC", opcode::PC, vec![], 2),
        ("MSIZE", opcode::MSIZE, vec![], 2),
        ("GAS", opcode::GAS, vec![], 2),
        ("PUSH0", opcode::PUSH0, vec![], 2),
    ]
    .into_iter()
    .map(|(name, code, operands, gas)| on_stack(name, code, &operands, gas))
    .collect();
    let mut full = Vec::new();
    (0..16).for_each(|_| push_word(&mut full, a));
    for size in 1..=32u8 {
        let mut round = vec![opcode::PUSH0 + size];
        round.extend(vec![0xa5; usize::from(size)]);
        round.push(opcode::POP);
        cases.push(WorstCase::new(format!("PUSH{size}"), Vec::new(), round, 5));
    }
    for depth in 1..=16u8 {
        let round = vec![opcode::DUP1 + depth - 1, opcode::POP];
        cases.push(WorstCase::new(format!("DUP{depth}"), full.clone(), round, 5));
        let mut deeper = full.clone();
        push(&mut deeper, 1);
        let round = vec![opcode::SWAP1 + depth - 1];
        cases.push(WorstCase::new(format!("SWAP{depth}"), deeper, round, 3));
    }
    for (name, conditional, gas) in [("JUMP", false, 12), ("JUMPI", true, 16)] {
        let mut case = WorstCase::new(name, Vec::new(), Vec::new(), gas);
        case.round = Round::Jump(conditional);
        cases.push(case);
    }
    cases
}

/// Memory up to here is paid for before the loop.
const MEMORY: u64 = 0x8000;

fn memory_cases() -> Vec<WorstCase> {
    let word = U256::MAX / U256::from(3);
    let mut expand = Vec::new();
    push(&mut expand, MEMORY);
    expand.extend([opcode::MLOAD, opcode::POP]);
    let mut cases = Vec::new();
    // `operands`: the top of the stack first.
    let mut add = |name: String, code: u8, operands: &[U256], pops: bool, gas: u64| {
        let mut round = Vec::new();
        operands.iter().rev().for_each(|operand| push_word(&mut round, *operand));
        round.push(code);
        round.extend(pops.then_some(opcode::POP));
        let gas = gas + 3 * operands.len() as u64 + 2;
        cases.push(WorstCase::new(name, expand.clone(), round, gas));
    };
    let number = U256::from::<u64>;
    for (kind, at) in [("", 64), (", across words", 77)] {
        add(format!("MLOAD{kind}"), opcode::MLOAD, &[number(at)], true, 3);
        add(format!("MSTORE{kind}"), opcode::MSTORE, &[number(at), word], false, 3);
        add(format!("MSTORE8{kind}"), opcode::MSTORE8, &[number(at), word], false, 3);
    }
    for length in [0u64, 1, 32, 136, 1_024, 24_576] {
        let words = length.div_ceil(32);
        let (to, from, size) = (number(3), number(65), number(length));
        let copy = 3 + 3 * words;
        add(format!("KECCAK256 of {length}"), opcode::KECCAK256, &[to, size], true, 30 + 6 * words);
        add(
            format!("CALLDATACOPY of {length}"),
            opcode::CALLDATACOPY,
            &[to, from, size],
            false,
            copy,
        );
        add(format!("CODECOPY of {length}"), opcode::CODECOPY, &[to, from, size], false, copy);
        add(format!("MCOPY of {length}"), opcode::MCOPY, &[to, from, size], false, copy);
        let own = U256::from_be_bytes(RUNNER.into_word().0);
        add(
            format!("EXTCODECOPY of {length}"),
            opcode::EXTCODECOPY,
            &[own, to, from, size],
            false,
            97 + copy,
        );
        for topics in [0u8, 4] {
            let mut operands = vec![to, size];
            operands.extend(vec![word; usize::from(topics)]);
            let gas = 375 * (1 + u64::from(topics)) + 8 * length;
            add(format!("LOG{topics} of {length}"), opcode::LOG0 + topics, &operands, false, gas);
        }
    }
    let zero = U256::ZERO;
    add("RETURNDATACOPY of 0".into(), opcode::RETURNDATACOPY, &[number(3), zero, zero], false, 3);
    let lengths = [0u64, 0xc000].map(|length| (length, 37_000 + 11 * length.div_ceil(32)));
    for (length, gas) in lengths {
        add(
            format!("CREATE of {length}"),
            opcode::CREATE,
            &[zero, zero, number(length)],
            true,
            gas,
        );
    }
    for (length, gas) in lengths {
        // A salt that is never repeated: the gas that is left.
        let mut round = vec![opcode::GAS];
        push(&mut round, length);
        round.extend([opcode::PUSH0, opcode::PUSH0, opcode::CREATE2, opcode::POP]);
        cases.push(WorstCase::new(format!("CREATE2 of {length}"), Vec::new(), round, gas));
    }
    cases
}

fn state_cases() -> Vec<WorstCase> {
    // A counter on top of the stack: `access` takes a copy of it, and leaves one word or none.
    let visit = |name: &str, access: &[u8], gas: u64, first: u64| {
        let mut setup = Vec::new();
        push(&mut setup, first);
        let mut round = vec![opcode::DUP1];
        round.extend(access);
        round.extend([opcode::PUSH1, 1, opcode::ADD]);
        WorstCase::new(name, setup, round, gas + 20)
    };
    let call = |code: u8, words: usize| {
        let mut call = vec![opcode::PUSH0; words];
        call.extend([nth(opcode::DUP1, words), opcode::GAS, code, opcode::POP, opcode::POP]);
        // The counter was duplicated for the call; the called address is below its operands.
        call
    };
    let pop = |code: u8| vec![code, opcode::POP];
    let absent = 1 << 40;
    let mut cases = vec![
        visit("BALANCE, cold, no account", &pop(opcode::BALANCE), 2_600, absent),
        visit("EXTCODEHASH, cold, no account", &pop(opcode::EXTCODEHASH), 2_600, absent),
        visit("SLOAD, cold, empty", &pop(opcode::SLOAD), 2_100, absent),
        visit("SLOAD, cold", &pop(opcode::SLOAD), 2_100, 0).with_slots(),
        visit("SSTORE, new slot", &[opcode::DUP1, opcode::SSTORE], 22_100, absent),
        visit("SSTORE, cold, changed", &[opcode::DUP1, opcode::SSTORE], 5_000, 1).with_slots(),
        visit("SSTORE, cold, cleared", &[opcode::PUSH0, opcode::SWAP1, opcode::SSTORE], 5_000, 1)
            .with_slots(),
        visit("TLOAD", &pop(opcode::TLOAD), 100, 0),
        visit("TSTORE", &[opcode::DUP1, opcode::TSTORE], 100, 0),
        visit("BALANCE, cold", &pop(opcode::BALANCE), 2_600, FIRST_CONTRACT).with_contracts(),
        visit("EXTCODEHASH, cold", &pop(opcode::EXTCODEHASH), 2_600, FIRST_CONTRACT)
            .with_contracts(),
        visit("EXTCODESIZE of 24,576, cold", &pop(opcode::EXTCODESIZE), 2_600, FIRST_CONTRACT)
            .with_contracts(),
        visit("CALL of a code of 24,576, cold", &call(opcode::CALL, 5), 2_600, FIRST_CONTRACT)
            .with_contracts(),
        visit("CALL, cold, no account", &call(opcode::CALL, 5), 2_600, absent),
    ];
    let fixed = |value: u64| {
        let mut code = Vec::new();
        push(&mut code, value);
        code
    };
    for (name, code, gas) in [
        ("BALANCE, warm", opcode::BALANCE, 100),
        ("EXTCODESIZE, warm", opcode::EXTCODESIZE, 100),
        ("EXTCODEHASH, warm", opcode::EXTCODEHASH, 100),
    ] {
        let round = [&fixed(FIRST_CONTRACT)[..], &pop(code)].concat();
        cases.push(WorstCase::new(name, Vec::new(), round, gas + 2_600).with_contracts());
    }
    for (name, code, words) in [
        ("CALL, warm", opcode::CALL, 5),
        ("CALLCODE, warm", opcode::CALLCODE, 5),
        ("DELEGATECALL, warm", opcode::DELEGATECALL, 4),
        ("STATICCALL, warm", opcode::STATICCALL, 4),
    ] {
        let round = [&fixed(FIRST_CONTRACT)[..], &call(code, words)].concat();
        cases.push(WorstCase::new(name, Vec::new(), round, 2_750).with_contracts());
    }
    let slot = |name: &str, access: &[u8]| {
        let round = [&fixed(1)[..], access].concat();
        WorstCase::new(name, Vec::new(), round, 2_300).with_slots()
    };
    cases.push(slot("SLOAD, warm", &pop(opcode::SLOAD)));
    cases.push(slot("SSTORE, warm", &[opcode::GAS, opcode::SWAP1, opcode::SSTORE]));
    // A contract that returns, reverts or destroys itself at once; its caller continues.
    for (name, code) in [
        ("RETURN of 24,576", &[0x61, 0x60, 0, 0x5f, opcode::RETURN][..]),
        ("REVERT of 24,576", &[0x61, 0x60, 0, 0x5f, opcode::REVERT]),
        ("INVALID", &[opcode::INVALID]),
        ("SELFDESTRUCT", &[opcode::ADDRESS, opcode::SELFDESTRUCT]),
    ] {
        let mut round = vec![opcode::PUSH0; 5];
        push(&mut round, FIRST_CONTRACT - 1);
        // The callee gets enough gas to do its work and no more: INVALID takes all.
        push(&mut round, 10_000);
        round.extend([opcode::CALL, opcode::POP]);
        let mut case = WorstCase::new(name, Vec::new(), round, 12_700);
        let callee = GenesisAccount { code: Some(code.to_vec().into()), ..Default::default() };
        let callee_at = Address::from_word(U256::from(FIRST_CONTRACT - 1).into());
        case.alloc.insert(callee_at, callee);
        cases.push(case);
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_case_spends_its_gas() {
        let mut names = HashSet::new();
        for case in WorstCase::all() {
            assert!(names.insert(case.name.clone()), "{} is there twice", case.name);
            let chain =
                case.chain(150_000).unwrap_or_else(|error| panic!("{}: {error}", case.name));
            let mined = chain.block(1).unwrap();
            assert!(mined.receipts[0].success, "{}: the transaction failed", case.name);
            let used = mined.block.header.gas_used;
            let refunds = case.name.starts_with("SSTORE");
            assert!(refunds || used > 75_000 + case.round_gas / 2, "{} used {used} gas", case.name);
        }
    }

    #[test]
    fn every_opcode_has_a_case() {
        let cases = WorstCase::all();
        let cased: HashSet<&str> = cases
            .iter()
            .filter_map(|case| case.name.split([' ', ',']).next())
            .map(|name| if name == "PREVRANDAO" { "DIFFICULTY" } else { name })
            .collect();
        for info in opcode::OPCODE_INFO.iter().flatten() {
            let name = info.name();
            // Opcodes that end a case, that nearly every case contains, or that no rules before Amsterdam have.
            let elsewhere = [
                "STOP", "POP", "JUMPDEST", "LOG1", "LOG2", "LOG3", "DUPN", "SWAPN", "EXCHANGE",
                "SLOTNUM",
            ];
            assert!(cased.contains(name) || elsewhere.contains(&name), "{name} has no case");
        }
    }
}
