//! Opcodes and precompiles with operands near 2^16, 2^31, 2^32, 2^64 and 2^256.

use super::{
    Case,
    code::{Code, ECHO, WORKER, op},
    power,
    scene::{Scene, TRANSACTION_GAS, contract},
    tuple,
};
use alloy_primitives::{B256, U256};
use std::slice;

/// The cases of all opcodes and precompiles.
pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for op in ops() {
        for gas in op.gas {
            let scene = op.rules.scene().worker(op.code.clone()).drive(*gas, &op.tuples, &op.blobs);
            let name = format!("{}, {gas} gas", op.name);
            cases.push(scene.room_for_all().with_operands(name, &op.tuples));
        }
        for gas in HIGH_GAS {
            if op.high.is_empty() {
                continue;
            }
            let scene = Scene::prague().worker(op.code.clone()).single(gas, &op.high);
            let name = format!("{}, transactions of {} gas", op.name, power(gas));
            cases.push(scene.room_for_all().with_operands(name, &op.high));
        }
        // A refused tuple ends its block, so that each has its own.
        for gas in ABSURD_GAS {
            for operands in &op.alone {
                let mut scene = Scene::prague().worker(op.code.clone());
                scene.parent.gas_limit = gas;
                let name = format!("{} of {}, {} gas", op.name, tuple(operands), power(gas));
                cases.push(scene.single(gas, slice::from_ref(operands)).case(name));
            }
        }
    }
    cases.extend(far_jumps());
    cases.extend(block_hashes());
    cases.extend(nested());
    cases
}

/// Gas of transactions that hold one tuple of operands, under Prague. They can pay for 3, 24 and 47 MB of memory.
const HIGH_GAS: [u64; 3] = [TRANSACTION_GAS, program::bound::ORDINARY_GAS, u32::MAX as u64];
/// Gas that no chain allows: enough for more memory than the program allows, and the most that a block can have.
const ABSURD_GAS: [u64; 2] = [1 << 34, (1 << 63) - 1];
/// Gas of an opcode that does little: too little for memory of 2^16 bytes, and enough for it.
const LITTLE: &[u64] = &[5_000, 50_000];
/// Gas for opcodes of which one run takes more than that.
const MORE: &[u64] = &[50_000, 1_000_000];

/// An opcode or a precompile, and the operands to try it with.
struct Op {
    name: String,
    rules: Rules,
    /// The worker's code.
    code: Vec<u8>,
    gas: &'static [u64],
    tuples: Vec<Vec<U256>>,
    /// Tuples that are also tried with [`HIGH_GAS`].
    high: Vec<Vec<U256>>,
    /// Tuples that are also tried with [`ABSURD_GAS`], each in a block of its own.
    alone: Vec<Vec<U256>>,
    /// The blobs that the transaction carries.
    blobs: Vec<B256>,
}

#[derive(Clone, Copy)]
enum Rules {
    Osaka,
    Prague,
}

impl Rules {
    fn scene(self) -> Scene {
        match self {
            Self::Osaka => Scene::osaka(),
            Self::Prague => Scene::prague(),
        }
    }
}

impl Op {
    fn new(name: &str, code: Code, tuples: Vec<Vec<U256>>) -> Self {
        Self {
            name: name.into(),
            rules: Rules::Osaka,
            code: code.0,
            gas: LITTLE,
            tuples,
            high: Vec::new(),
            alone: Vec::new(),
            blobs: Vec::new(),
        }
    }

    fn gas(self, gas: &'static [u64]) -> Self {
        Self { gas, ..self }
    }

    /// Tries these tuples with much gas too.
    fn high(self, high: Vec<Vec<U256>>) -> Self {
        let main = high.iter().filter(|operands| operands.iter().all(is_main_edge));
        Self { alone: main.cloned().collect(), high, ..self }
    }
}

/// Every opcode that takes an offset, a length, an index, a shift or an exponent, one after the other.
fn ops() -> Vec<Op> {
    let memory = || Code::default().fill();
    // The first operand ends on the top of the stack.
    let with = |code: Code, operands: usize| (0..operands).rev().fold(code, Code::operand);
    // Opcodes that leave nothing on the stack get a zero there.
    let nothing = |code: Code, ops: &[u8]| code.ops(ops).push(0).finish();
    let mut all = Vec::new();

    let alone = || near().into_iter().map(|operand| vec![operand]).collect::<Vec<_>>();
    let high_alone = || high().into_iter().map(|operand| vec![operand]).collect::<Vec<_>>();
    let value = U256::MAX / U256::from(3);
    let then = |tuples: Vec<Vec<U256>>, last: U256| -> Vec<Vec<U256>> {
        tuples.into_iter().map(|tuple| [tuple, vec![last]].concat()).collect()
    };
    all.push(
        Op::new("MLOAD", with(memory(), 1).ops(&[op::MLOAD]).finish(), alone()).high(high_alone()),
    );
    for (name, opcode) in [("MSTORE", op::MSTORE), ("MSTORE8", op::MSTORE8)] {
        all.push(
            Op::new(name, nothing(with(memory(), 2), &[opcode]), then(alone(), value))
                .high(then(high_alone(), value)),
        );
    }
    all.push(
        Op::new("KECCAK256", with(memory(), 2).ops(&[op::KECCAK256]).finish(), pairs())
            .high(high_pairs()),
    );
    for opcode in op::LOG0..=op::LOG0 + 4 {
        let topics = opcode - op::LOG0;
        let code = (0..topics).fold(memory(), |code, topic| code.push(U256::from(topic) + value));
        all.push(
            Op::new(&format!("LOG{topics}"), nothing(with(code, 2), &[opcode]), pairs())
                .high(if topics == 0 { high_pairs() } else { Vec::new() }),
        );
    }
    for (name, opcode) in [("RETURN", op::RETURN), ("REVERT", op::REVERT)] {
        all.push(Op::new(name, with(memory(), 2).ops(&[opcode]), pairs()).high(high_pairs()));
    }

    // Operands of copies: destination, source, length.
    let copies = [
        ("MCOPY", op::MCOPY),
        ("CALLDATACOPY", op::CALLDATACOPY),
        ("CODECOPY", op::CODECOPY),
        ("RETURNDATACOPY", op::RETURNDATACOPY),
    ];
    for (name, opcode) in copies {
        let code = with(memory().return_something(), 3);
        all.push(Op::new(name, nothing(code, &[opcode]), triples()).high(high_triples()));
    }
    for (name, address) in [("EXTCODECOPY", ECHO), ("EXTCODECOPY of itself", WORKER)] {
        let code = with(memory(), 3).push_address(address);
        all.push(Op::new(name, nothing(code, &[op::EXTCODECOPY]), triples()).high(high_triples()));
    }
    all.push(Op::new("CALLDATALOAD", with(memory(), 1).ops(&[op::CALLDATALOAD]).finish(), alone()));

    // Numbers: the second operand is what is shifted, raised or taken from.
    let patterns = [U256::ONE, value, !value, U256::MAX, U256::ONE << 255];
    let numbers = || {
        let with_patterns = |first: U256| patterns.map(|second| vec![first, second]);
        // A shift that is reduced modulo its width shows only near the width.
        let near_width = [7u64, 8, 15, 16, 30, 63, 64, 127, 128, 255, 256, 257].map(U256::from);
        near().into_iter().chain(near_width).flat_map(with_patterns).collect::<Vec<_>>()
    };
    for (name, opcode) in [
        ("BYTE", op::BYTE),
        ("SHL", op::SHL),
        ("SHR", op::SHR),
        ("SAR", op::SAR),
        ("SIGNEXTEND", op::SIGNEXTEND),
    ] {
        all.push(Op::new(name, with(memory(), 2).ops(&[opcode]).finish(), numbers()).gas(&[5_000]));
    }
    let powers = [0u64, 1, 2, 3, 256].map(U256::from);
    let exponents = near().into_iter().flat_map(|exponent| {
        powers.into_iter().chain(patterns).map(move |base| vec![base, exponent])
    });
    all.push(Op::new("EXP", with(memory(), 2).ops(&[op::EXP]).finish(), exponents.collect()));

    all.push(Op {
        blobs: [1, 2].map(versioned).into(),
        ..Op::new("BLOBHASH", with(memory(), 1).ops(&[op::BLOBHASH]).finish(), alone())
            .gas(&[5_000])
    });
    all.extend(jumps());
    all.extend(calls());
    all.extend(creations());
    all.extend(precompiles());
    all
}

/// A blob's versioned hash (EIP-4844).
fn versioned(byte: u8) -> B256 {
    let mut hash = B256::repeat_byte(byte);
    hash[0] = 1;
    hash
}

/// Jumps to valid destinations, and to numbers that equal them when truncated to fewer bits.
fn jumps() -> Vec<Op> {
    let code = |conditional: bool| {
        let start = Code::default().fill();
        match conditional {
            false => start.operand(0).ops(&[op::JUMP]),
            true => start.operand(1).operand(0).ops(&[op::JUMPI]).push(1).finish(),
        }
    };
    let destination = |conditional: bool| U256::from(code(conditional).0.len());
    let land = |conditional: bool| code(conditional).ops(&[op::JUMPDEST]).push(2).finish();
    let targets = |conditional: bool| {
        let there = destination(conditional);
        let same = [8, 16, 31, 32, 63, 64, 128, 255].map(|bits| there + (U256::ONE << bits));
        let beside = [there, there - U256::ONE, there + U256::ONE];
        near().into_iter().chain(beside).chain(same)
    };
    let conditions = [0u64, 1].map(U256::from).into_iter().chain([8, 32, 64, 255].map(bit));
    vec![
        Op::new("JUMP", land(false), targets(false).map(|target| vec![target]).collect()),
        Op::new(
            "JUMPI",
            land(true),
            targets(true)
                .flat_map(|target| conditions.clone().map(move |condition| vec![target, condition]))
                .collect(),
        ),
    ]
}

fn bit(bit: usize) -> U256 {
    U256::ONE << bit
}

/// Calls with odd gas, and with arguments and results anywhere in memory.
fn calls() -> Vec<Op> {
    let kinds: [(&str, u8, bool); 4] = [
        ("CALL", op::CALL, true),
        ("CALLCODE", op::CALLCODE, true),
        ("DELEGATECALL", op::DELEGATECALL, false),
        ("STATICCALL", op::STATICCALL, false),
    ];
    let zero = U256::ZERO;
    // Gas, value, offset and length of the arguments, offset and length of the result.
    let all_gas = U256::MAX;
    let gas = near().into_iter().map(|gas| vec![gas, zero, zero, U256::from(32), zero, zero]);
    let values = near().into_iter().map(|value| vec![all_gas, value, zero, zero, zero, zero]);
    let arguments =
        pairs().into_iter().map(|pair| vec![all_gas, zero, pair[0], pair[1], zero, zero]);
    let results =
        pairs().into_iter().map(|pair| vec![all_gas, zero, zero, U256::from(64), pair[0], pair[1]]);
    let few = [U256::ONE, bit(31), bit(32) - U256::ONE, bit(32), bit(64) - U256::ONE];
    let both = few.into_iter().flat_map(|a| {
        few.into_iter().flat_map(move |b| {
            few.into_iter().flat_map(move |c| {
                few.into_iter().map(move |d| vec![all_gas, U256::ZERO, a, b, c, d])
            })
        })
    });
    let high = high_pairs().into_iter().flat_map(|pair| {
        [
            vec![all_gas, zero, pair[0], pair[1], zero, zero],
            vec![all_gas, zero, zero, U256::from(64), pair[0], pair[1]],
        ]
    });
    let tuples: Vec<_> = gas.chain(values).chain(arguments).chain(results).chain(both).collect();
    let high: Vec<_> = high.collect();
    kinds
        .into_iter()
        .map(|(name, opcode, has_value)| {
            let code = [5, 4, 3, 2].into_iter().fold(Code::default().fill(), Code::operand);
            let code = if has_value { code.operand(1) } else { code };
            let code = code.push_address(ECHO).operand(0).ops(&[opcode]).finish();
            let high = if opcode == op::CALL { high.clone() } else { Vec::new() };
            Op::new(name, code, tuples.clone()).high(high)
        })
        .collect()
}

/// Contracts made of code anywhere in memory.
fn creations() -> Vec<Op> {
    let zero = U256::ZERO;
    // Value, offset of the code, length.
    let values = near().into_iter().map(|value| vec![value, zero, zero]);
    let codes = pairs().into_iter().map(|pair| vec![zero, pair[0], pair[1]]);
    // The limit of EIP-3860.
    let limit = [49_151u64, 49_152, 49_153].map(|length| vec![zero, zero, U256::from(length)]);
    let tuples: Vec<_> = values.chain(codes).chain(limit).collect();
    let high = high_pairs().into_iter().map(|pair| vec![zero, pair[0], pair[1]]);
    let code = |code: Code, opcode: u8| {
        [2, 1, 0].into_iter().fold(code, Code::operand).ops(&[opcode]).finish()
    };
    vec![
        Op::new("CREATE", code(Code::default().fill(), op::CREATE), tuples.clone())
            .gas(&[50_000, 200_000])
            .high(high.clone().collect()),
        Op::new("CREATE2", code(Code::default().fill().push(7), op::CREATE2), tuples)
            .gas(&[50_000, 200_000])
            .high(high.collect()),
    ]
}

/// Every precompile with odd lengths of its input, modexp with odd numbers in it, and Blake2's rounds.
fn precompiles() -> Vec<Op> {
    let call = |code: Code, address: u64| {
        // The length of the input is on the top of the stack.
        code.push(128)
            .push(0)
            .ops(&[op::DUP3])
            .push(0)
            .push(address)
            .ops(&[op::GAS, op::STATICCALL])
            .finish()
    };
    let steps = [64u64, 80, 96, 128, 160, 192, 213, 256, 288, 384, 512, 1024].map(U256::from);
    let around = steps.into_iter().flat_map(|at| [at - U256::ONE, at, at + U256::ONE]);
    let lengths: Vec<_> = near().into_iter().chain(around).map(|length| vec![length]).collect();
    let mut all: Vec<_> = (1..=0x11)
        .chain([0x100])
        .map(|address| {
            // Hash functions are given bytes; arithmetic is given zeros: points at infinity, among others.
            let start = if address <= 4 { Code::default().fill() } else { Code::default() };
            let code = call(start.operand(0), address);
            Op::new(&format!("precompile {address:#x}"), code, lengths.clone()).gas(MORE)
        })
        .collect();

    let lengths = [0u64, 1, 32, 33, 1_024, 1_025, 1 << 16, 1 << 31, (1 << 32) - 1, 1 << 32];
    let lengths = lengths.map(U256::from).into_iter().chain([bit(64) - U256::ONE, U256::MAX]);
    let tuples: Vec<_> = lengths
        .clone()
        .flat_map(|base| {
            let lengths = lengths.clone();
            lengths.clone().flat_map(move |exponent| {
                lengths.clone().map(move |modulus| vec![base, exponent, modulus])
            })
        })
        .collect();
    let code = (0..3).fold(Code::default(), |code, index| {
        code.operand(index).push(U256::from(32 * index)).ops(&[op::MSTORE])
    });
    let code = (3..6).fold(code, |code, index| {
        code.push(U256::MAX / U256::from(2 * index + 1))
            .push(U256::from(32 * index))
            .ops(&[op::MSTORE])
    });
    let code = call(code.push(192), 5);
    // More than the program allows memory for, or nothing to compute.
    let (zero, one) = (U256::ZERO, U256::ONE);
    let long = [bit(26) + one, bit(31), bit(32) - one, bit(32), bit(64) - one, U256::MAX];
    let alone = long.into_iter().flat_map(|long| {
        [vec![one, long, one], vec![long, zero, one], vec![one, zero, long], vec![zero, long, zero]]
    });
    let modexp = |name: &str| {
        let op = Op::new(&format!("modexp of {name}"), Code(code.0.clone()), tuples.clone());
        op.gas(&[50_000, 500_000])
    };
    all.push(modexp("Osaka"));
    all.push(Op { rules: Rules::Prague, alone: alone.collect(), ..modexp("Prague") });

    // The number of rounds: big-endian, in the first four bytes.
    let code = Code::default().operand(0).push(224).ops(&[op::SHL]).push(0).ops(&[op::MSTORE]);
    let rounds = [0u64, 1, 12, (1 << 16) - 1, 1 << 16, (1 << 31) - 1, 1 << 31, (1 << 32) - 1];
    let rounds = rounds.map(|rounds| vec![U256::from(rounds)]).into();
    all.push(Op::new("rounds of Blake2", call(code.push(213), 9), rounds).gas(&[50_000, 500_000]));
    all
}

/// Jumps in a code that is longer than 2^16 bytes, which only a made-up state has.
fn far_jumps() -> Vec<Case> {
    const FAR: usize = (1 << 16) + 5;
    let mut code = Code::default().fill().operand(0).ops(&[op::JUMP]).0;
    code.resize(FAR, op::STOP);
    let code = Code(code).ops(&[op::JUMPDEST]).push(3).finish().0;
    let there = U256::from(FAR);
    let same = [0, 31, 32, 63, 64, 255].map(|bits| there + bit(bits));
    let tuples: Vec<_> = near()
        .into_iter()
        .chain([there, there - U256::ONE, there - bit(16)])
        .chain(same)
        .map(|target| vec![target])
        .collect();
    let scene = Scene::osaka().worker(code).drive(50_000, &tuples, &[]).room_for_all();
    vec![scene.with_operands("JUMP in a code longer than 2^16, 50000 gas".into(), &tuples)]
}

/// `BLOCKHASH` in blocks with high numbers. Blocks between the parent and 256 blocks back need headers.
fn block_hashes() -> Vec<Case> {
    let code = Code::default().fill().operand(0).ops(&[op::BLOCKHASH]).finish().0;
    [1_000, (1 << 16) + 1_000, (1 << 31) + 1_000, (1 << 32) + 1_000, u64::MAX - 1_000, u64::MAX]
        .into_iter()
        .map(|number| {
            let near_number = [number, number - 1, number - 257, number.saturating_add(1)];
            let below = |offset| U256::from(number) - U256::from(offset);
            let tuples: Vec<_> = near()
                .into_iter()
                .chain(near_number.map(U256::from))
                .filter(|asked| !(below(256)..=below(2)).contains(asked))
                .map(|asked| vec![asked])
                .collect();
            let mut scene = Scene::osaka().worker(code.clone()).drive(5_000, &tuples, &[]);
            scene.parent.number = number - 1;
            let name = format!("BLOCKHASH in block {}, 5000 gas", power(number));
            scene.room_for_all().with_operands(name, &tuples)
        })
        .collect()
}

/// A contract that touches memory at its operand and calls itself with all gas, as deep as possible.
fn nested() -> Vec<Case> {
    // Each frame passes its operand on and returns its depth: what its callee returned, plus one.
    let code = Code::default()
        .operand(0)
        .push(0)
        .ops(&[op::MSTORE])
        .push(1)
        .operand(0)
        .ops(&[op::MSTORE8])
        .push(32)
        .push(32)
        .push(32)
        .push(0)
        .push(0)
        .push_address(WORKER)
        .ops(&[op::GAS, op::CALL, op::POP])
        .push(32)
        .ops(&[op::MLOAD])
        .push(1)
        .ops(&[0x01])
        .push(0)
        .ops(&[op::MSTORE])
        .push(32)
        .push(0)
        .ops(&[op::RETURN])
        .0;
    let offsets = [64, (1 << 12) - 1, 1 << 15, (1 << 16) - 1, 1 << 16].map(U256::from);
    let tuples: Vec<_> = offsets
        .into_iter()
        .chain([bit(31), bit(32) - U256::ONE, bit(32), bit(64)])
        .map(|offset| vec![offset])
        .collect();
    HIGH_GAS
        .into_iter()
        .map(|gas| {
            let mut scene = Scene::prague();
            scene.accounts.insert(WORKER, contract(&code));
            let name = format!("calls in calls, transactions of {} gas", power(gas));
            scene.single(gas, &tuples).room_for_all().with_operands(name, &tuples)
        })
        .collect()
}

/// Operands near the edges.
fn near() -> Vec<U256> {
    let one = U256::ONE;
    let word = U256::from(32);
    let mut all = [0u64, 1, 31, 32, 33].map(U256::from).to_vec();
    for bits in [16, 31, 32, 64] {
        let edge = bit(bits);
        all.extend([edge - word, edge - one, edge, edge + one, edge + word]);
    }
    all.extend([bit(255), U256::MAX - U256::from(31), U256::MAX]);
    all
}

/// The edges alone, for opcodes that take several.
fn edges() -> Vec<U256> {
    let mut all = [0u64, 1, 32].map(U256::from).to_vec();
    let one = U256::ONE;
    all.extend([bit(16), bit(31), bit(32) - U256::from(32), bit(32) - one, bit(32)]);
    all.extend([bit(64) - one, U256::MAX]);
    all
}

/// Offset and length.
fn pairs() -> Vec<Vec<U256>> {
    let all = near();
    all.iter().flat_map(|a| all.iter().map(|b| vec![*a, *b])).collect()
}

/// Destination, source, length.
fn triples() -> Vec<Vec<U256>> {
    let all = edges();
    all.iter()
        .flat_map(|a| all.iter().flat_map(|b| edges().into_iter().map(|c| vec![*a, *b, c])))
        .collect()
}

/// Edges between which much gas makes a difference: it pays for up to 2^24 bytes.
fn high() -> Vec<U256> {
    let one = U256::ONE;
    let mut all = vec![bit(16), bit(24) - one, bit(26), bit(31)];
    all.extend([bit(32) - U256::from(32), bit(32) - one, bit(32), bit(64) - one, U256::MAX]);
    all
}

/// Whether an operand is not an edge, or is one of the edges to try with more gas than any chain has.
fn is_main_edge(operand: &U256) -> bool {
    let edges = [bit(24) - U256::ONE, bit(26), bit(31), bit(32), bit(64) - U256::ONE];
    *operand <= U256::from(64) || edges.contains(operand)
}

/// Offset and length: far, long, and both, so that the sum is truncated.
fn high_pairs() -> Vec<Vec<U256>> {
    let short = U256::from(32);
    let far = high().into_iter().map(|far| vec![far, short]);
    let long = high().into_iter().map(|long| vec![U256::ZERO, long]);
    far.chain(long).chain([vec![bit(31), bit(31)], vec![bit(64) - U256::ONE; 2]]).collect()
}

/// Destination, source, length: each of them far.
fn high_triples() -> Vec<Vec<U256>> {
    let (zero, short) = (U256::ZERO, U256::from(32));
    high()
        .into_iter()
        .flat_map(|far| [vec![far, zero, short], vec![zero, far, short], vec![zero, zero, far]])
        .collect()
}
