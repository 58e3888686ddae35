//! Every accelerated operation in the guest against an independent implementation on the host.
//!
//! A contract feeds inputs to precompiles and keeps a hash over all their answers in its storage. The dev chain
//! executes the block with the host's cryptography (libsecp256k1, blst, c-kzg, arkworks, RustCrypto); the guest
//! executes it with its own. If they differ in one bit of one answer, the guest computes another state root and
//! refuses the block.
//!
//! | operation | in the guest | on the host |
//! |---|---|---|
//! | keccak | RISC Zero's circuit | tiny-keccak's permutation |
//! | `MULMOD` | RISC Zero's circuit | ruint |
//! | ecrecover | ours, on `risc0-crypto`'s fields and curve | libsecp256k1 |
//! | senders | the same, in one sum: `senders.rs` beside this file | libsecp256k1 |
//! | P-256 | `risc0-crypto-evm` | RustCrypto `p256` |
//! | SHA-256 | RISC Zero's circuit | RustCrypto `sha2` |
//! | modexp | `risc0-crypto-evm` | `aurora-engine-modexp` |
//! | BN254 addition, multiplication | `risc0-crypto-evm` | arkworks |
//! | BLS12-381 G1 | `risc0-crypto` | blst |
//! | BLS12-381 G2, pairings | ours, on RISC Zero's circuit: `pairing.rs` beside this file tests the formulas | blst, arkworks |
//! | BLS12-381 maps | arkworks' formulas on a field whose products are the circuit's | blst |
//! | KZG | ours, on the rows above | c-kzg |

use alloy_consensus::{EthereumTxEnvelope, SignableTransaction, TxLegacy};
use alloy_genesis::GenesisAccount;
use alloy_primitives::{Address, U256, address};
use alloy_signer::SignerSync;
use alloy_signer_local::PrivateKeySigner;
use ark_ec::AffineRepr as _;
use ark_ff::{BigInteger as _, PrimeField as _};
use client::prover::{PartFiles, PartWork};
use client::{Cancel, Prover};
use devnode::{Chain, accounts, genesis};
use expect_test::expect_file;
use num_bigint::BigUint;
use p256::ecdsa::signature::hazmat::PrehashSigner;
use prover_risc0::{Config, Risc0Prover};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use revm::precompile::Precompiles;
use sha2::Digest as _;
use verifier::Plan;

const RUNNER: Address = address!("00000000000000000000000000000000000c0de5");

/// The contract: its calldata is a list of (precompile, length, gas, input), three words and bytes. It keeps
/// `hash = keccak(hash, success, length of the answer, answer)` over all of them, and stores it in slot 0.
///
/// Memory: 0 the hash, 0x20 success, 0x40 length of the answer, 0x60 input, then the answer.
#[rustfmt::skip]
const CODE: &[u8] = &[
    0x5f,                                                       // pointer = 0
    0x5b, 0x80, 0x36, 0x11, 0x15, 0x60, 0x3e, 0x57,             // 1: leave unless pointer < calldatasize
    0x80, 0x60, 0x20, 0x01, 0x35,                               // length = calldata[pointer + 32]
    0x80, 0x82, 0x60, 0x60, 0x01, 0x60, 0x60, 0x37,             // calldatacopy(0x60, pointer + 96, length)
    0x5f, 0x5f, 0x82, 0x60, 0x60, 0x85, 0x35,                   // staticcall(calldata[pointer + 64],
    0x86, 0x60, 0x40, 0x01, 0x35, 0xfa, 0x60, 0x20, 0x52,       //   calldata[pointer], 0x60, length, 0, 0)
    0x3d, 0x60, 0x40, 0x52, 0x3d, 0x5f, 0x60, 0x60, 0x3e,       // the answer, and its length
    0x3d, 0x60, 0x60, 0x01, 0x5f, 0x20, 0x5f, 0x52,             // hash all of it
    0x01, 0x60, 0x60, 0x01, 0x60, 0x01, 0x56,                   // pointer += 96 + length
    0x5b, 0x5f, 0x51, 0x5f, 0x55, 0x00,                         // 0x3e: store the hash
];

/// Maximum calldata of one transaction, in bytes: calldata costs up to 40 gas a byte (EIP-7623).
const MAX_DATA: usize = 150_000;
/// Maximum gas that the precompiles of one transaction get.
const MAX_GAS: u64 = 9_000_000;

/// Calls of one precompile.
struct Calls {
    precompile: Address,
    inputs: Vec<Vec<u8>>,
}

impl Calls {
    fn new(precompile: u16, inputs: impl IntoIterator<Item = Vec<u8>>) -> Self {
        let mut address = Address::ZERO;
        address[18..].copy_from_slice(&precompile.to_be_bytes());
        Self { precompile: address, inputs: inputs.into_iter().collect() }
    }

    /// Runs one call on the host.
    fn host(precompile: Address, input: &[u8]) -> Option<(Vec<u8>, u64)> {
        let precompile = Precompiles::osaka().get(&precompile).expect("it is a precompile");
        let output = precompile.execute(input, u64::MAX, 0).ok()?;
        output.is_success().then(|| (output.bytes.to_vec(), output.gas_used))
    }

    /// A chain whose last block makes all the calls, and how many of them succeed.
    fn chain(&self) -> (Chain, usize) {
        let mut chain = chain_with(CODE.to_vec());
        let (mut succeeded, mut data, mut gas) = (0, Vec::new(), 0);
        for input in &self.inputs {
            let answer = Self::host(self.precompile, input);
            succeeded += usize::from(answer.is_some());
            // A failed call consumes all the gas that it is given.
            let needed = answer.map_or(200_000, |(_, used)| used + 1);
            if !data.is_empty() && (data.len() + input.len() > MAX_DATA || gas + needed > MAX_GAS) {
                send(&mut chain, std::mem::take(&mut data));
                gas = 0;
            }
            data.extend(self.precompile.into_word());
            data.extend(U256::from(input.len()).to_be_bytes::<32>());
            data.extend(U256::from(needed).to_be_bytes::<32>());
            data.extend(input);
            gas += needed;
        }
        send(&mut chain, data);
        mine(&mut chain);
        (chain, succeeded)
    }
}

/// A chain on which [`RUNNER`] has this code.
fn chain_with(code: Vec<u8>) -> Chain {
    let mut genesis = genesis::dev();
    genesis.gas_limit = 10_000_000_000;
    let account = GenesisAccount { code: Some(code.into()), ..Default::default() };
    genesis.alloc.insert(RUNNER, account);
    Chain::new(&genesis).unwrap()
}

/// Mines a block of what was sent.
fn mine(chain: &mut Chain) {
    chain.mine(chain.head().timestamp + 2).unwrap();
    assert!(chain.pool().is_empty(), "a transaction was left out");
    let mined = chain.block(1).unwrap();
    assert!(mined.receipts.iter().all(|receipt| receipt.success), "a transaction failed");
}

fn send(chain: &mut Chain, data: Vec<u8>) {
    let signer = accounts::signer(0);
    let unsigned = TxLegacy {
        chain_id: Some(chain.config().chain_id),
        nonce: chain.next_nonce(&signer.address()),
        gas_price: 10_000_000_000,
        gas_limit: 16_777_216,
        to: RUNNER.into(),
        value: U256::ZERO,
        input: data.into(),
    };
    let signature = signer.sign_hash_sync(&unsigned.signature_hash()).unwrap();
    chain.submit(EthereumTxEnvelope::Legacy(unsigned.into_signed(signature))).unwrap();
}

/// Runs the calls in the guest, which refuses the block if its answers differ from the host's. Their cost is exact and
/// is kept in a file; `UPDATE_EXPECT=1` writes it.
fn check(name: &str, calls: &Calls, expected_to_succeed: usize) {
    let (chain, succeeded) = calls.chain();
    assert_eq!(succeeded, expected_to_succeed, "{name}: calls that succeed");
    check_block(name, &chain, calls.inputs.len(), succeeded);
}

/// The same for the block of a chain, with `count` calls in it.
fn check_block(name: &str, chain: &Chain, count: usize, succeeded: usize) {
    let (input, root) = chain.input(1..=1).unwrap();
    let input = input.encode(root).unwrap();
    let prover = Risc0Prover::new(Config::default()).unwrap();
    let execution = prover.execute(&input).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(execution.public_values, program::run(&input).unwrap().abi_encode(), "{name}");
    // A change that disconnects the operation from its accelerator shows here, by name.
    let user = execution.cycles.unwrap().user;
    let cost = format!(
        "{name}: {count} calls, {succeeded} succeed; {user} user cycles, {} a call\n",
        user / count as u64
    );
    let file = format!("cycles/{}.txt", name.to_lowercase().replace(' ', "-"));
    expect_file![file].assert_eq(&cost);
}

fn rng() -> StdRng {
    StdRng::seed_from_u64(4844)
}

fn bytes(rng: &mut StdRng, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    rng.fill(bytes.as_mut_slice());
    bytes
}

fn word(value: U256) -> [u8; 32] {
    value.to_be_bytes()
}

/// Lengths around every boundary of a hash function's blocks, then random ones.
fn messages(rng: &mut StdRng, block: usize) -> Vec<Vec<u8>> {
    let around = [0, 1, 2, 3, 4, 5, 31, 32, 33];
    let blocks = (1..4).flat_map(|blocks| (blocks * block - 10)..(blocks * block + 3));
    let edges: Vec<usize> = around.into_iter().chain(blocks).chain([50_000]).collect();
    let random: Vec<usize> = (0..1_000).map(|_| rng.random_range(0..300)).collect();
    edges.into_iter().chain(random).map(|length| bytes(rng, length)).collect()
}

#[test]
fn keccak() {
    // The identity precompile returns its input, whose hash goes into the contract's.
    let inputs = messages(&mut rng(), 136 - 96);
    let count = inputs.len();
    check("keccak", &Calls::new(4, inputs), count);
}

#[test]
fn sha256() {
    let inputs = messages(&mut rng(), 64);
    let count = inputs.len();
    check("SHA-256", &Calls::new(2, inputs), count);
}

#[test]
fn ecrecover() {
    let order = U256::from_str_radix(
        "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141",
        16,
    )
    .unwrap();
    let mut rng = rng();
    let mut inputs = Vec::new();
    for _ in 0..1_000 {
        let signer = PrivateKeySigner::from_slice(&bytes(&mut rng, 32)).unwrap();
        let hash: [u8; 32] = rng.random();
        let signature = signer.sign_hash_sync(&hash.into()).unwrap();
        // Half of them with a high s, which the precompile allows.
        let (mut s, mut odd) = (signature.s(), signature.v());
        if rng.random() {
            (s, odd) = (order - s, !odd);
        }
        let v = word(U256::from(27 + u8::from(odd)));
        inputs.push([hash, v, word(signature.r()), word(s)].concat());
    }
    let honest = inputs[0].clone();
    let with = |at: usize, value: U256| {
        let mut input = honest.clone();
        input[32 * at..32 * (at + 1)].copy_from_slice(&word(value));
        input
    };
    let (one, max) = (U256::from(1), U256::MAX);
    for at in [2, 3] {
        for value in [U256::ZERO, one, order - one, order, order + one, max] {
            inputs.push(with(at, value));
        }
    }
    // No point of the curve has this x; a message of zero; other parities.
    inputs.extend([with(2, U256::from(5)), with(0, U256::ZERO), with(0, order), with(0, max)]);
    inputs.extend([0, 1, 26, 29, 30, 255].map(|v| with(1, U256::from(v))));
    inputs.push(with(1, U256::from(27) << 8));
    inputs.extend([vec![], vec![0; 128], vec![0xff; 128], honest[..127].to_vec()]);
    inputs.push([honest.as_slice(), &[1; 64]].concat());
    // A signature that recovers nothing is answered with nothing, not with a failure.
    let count = inputs.len();
    check("ecrecover", &Calls::new(1, inputs), count);
}

#[test]
fn p256() {
    let mut rng = rng();
    let mut inputs = Vec::new();
    for _ in 0..1_000 {
        let key = loop {
            if let Ok(key) = p256::ecdsa::SigningKey::from_slice(&bytes(&mut rng, 32)) {
                break key;
            }
        };
        let hash: [u8; 32] = rng.random();
        let signature: p256::ecdsa::Signature = key.sign_prehash(&hash).unwrap();
        let point = key.verifying_key().to_encoded_point(false);
        inputs.push([&hash, &signature.to_bytes()[..], &point.as_bytes()[1..]].concat());
    }
    let honest = inputs[0].clone();
    let order = U256::from_str_radix(
        "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551",
        16,
    )
    .unwrap();
    for at in 0..5 {
        for value in [U256::ZERO, U256::from(1), order - U256::from(1), order, U256::MAX] {
            let mut input = honest.clone();
            input[32 * at..32 * (at + 1)].copy_from_slice(&word(value));
            inputs.push(input);
        }
    }
    inputs.extend([vec![], vec![0; 160], honest[..159].to_vec(), [honest, vec![0]].concat()]);
    let count = inputs.len();
    check("P-256", &Calls::new(0x100, inputs), count);
}

#[test]
fn modexp() {
    let mut rng = rng();
    let call = |base: &[u8], exponent: &[u8], modulus: &[u8]| {
        let lengths = [base, exponent, modulus].map(|part| word(U256::from(part.len())));
        [&lengths.concat(), base, exponent, modulus].concat()
    };
    let edges: [Vec<u8>; 8] = [
        vec![],
        vec![0],
        vec![1],
        vec![2],
        vec![0xff; 32],
        vec![0; 33],
        [vec![0; 31], vec![3]].concat(),
        [vec![1], vec![0; 32]].concat(),
    ];
    let mut inputs = Vec::new();
    for base in &edges {
        for exponent in &edges {
            inputs.extend(edges.iter().map(|modulus| call(base, exponent, modulus)));
        }
    }
    for _ in 0..1_000 {
        let longest = *[1usize, 4, 32, 33, 64].choose(&mut rng).unwrap();
        let [base, exponent, modulus] = [longest, longest.min(32), longest]
            .map(|longest| rng.random_range(0..=longest))
            .map(|length| bytes(&mut rng, length));
        inputs.push(call(&base, &exponent, &modulus));
    }
    // RSA verification, the largest operands that Osaka allows, and lengths that it does not.
    for length in [128, 256, 512, 1024] {
        let [base, mut modulus] = [bytes(&mut rng, length), bytes(&mut rng, length)];
        inputs.push(call(&base, &[1, 0, 1], &modulus));
        modulus[length - 1] &= 0xfe;
        inputs.push(call(&base, &[3], &modulus));
    }
    inputs.push(call(&[1; 1025], &[1], &[3]));
    inputs.push([word(U256::MAX), word(U256::MAX), word(U256::MAX)].concat());
    let count = inputs.len();
    check("modexp", &Calls::new(5, inputs), count - 2);
}

/// `MULMOD` is an opcode: the contract's code has the numbers, and keeps a hash over all products. A block of it, and how
/// many there are.
fn products() -> (Chain, usize) {
    use revm::bytecode::opcode::*;
    let mut rng = rng();
    let one = U256::from(1);
    let mut numbers = vec![U256::ZERO, U256::MAX, U256::MAX - one];
    for bits in [0, 1, 32, 128, 192, 255] {
        numbers.extend([one << bits, (one << bits) - one, rng.random::<U256>() >> (255 - bits)]);
    }
    let mut code = Vec::new();
    let mut count = 0;
    for modulus in &numbers {
        for (index, a) in numbers.iter().enumerate() {
            for b in &numbers[index..] {
                for number in [modulus, b, a] {
                    code.push(PUSH32);
                    code.extend(word(*number));
                }
                code.extend([
                    MULMOD, PUSH1, 32, MSTORE, PUSH1, 64, PUSH0, KECCAK256, PUSH0, MSTORE,
                ]);
                count += 1;
            }
        }
    }
    code.extend([PUSH0, MLOAD, PUSH0, SSTORE, STOP]);
    let mut chain = chain_with(code);
    send(&mut chain, Vec::new());
    mine(&mut chain);
    (chain, count)
}

#[test]
fn mulmod() {
    let (chain, count) = products();
    check_block("MULMOD", &chain, count, count);
}

/// The circuit is made for numbers below the modulus. That it proves products of any numbers, only a proof can show: of a
/// segment in the middle, which is full of them.
///
/// ```text
/// cargo nextest run --release -p l2 -p prover-risc0 --features l2/build_zkvm --run-ignored only -E 'test(a_real_proof_of_products)'
/// ```
#[test]
#[ignore = "proves for minutes"]
fn a_real_proof_of_products() {
    prove_the_middle(&products().0);
}

/// Proves a segment in the middle of a chain's first block.
fn prove_the_middle(chain: &Chain) {
    const PO2: u32 = 16;
    let (input, root) = chain.input(1..=1).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (input_file, plan_file) = (folder.path().join("input"), folder.path().join("plan"));
    std::fs::write(&input_file, input.encode(root).unwrap()).unwrap();
    let prover = Risc0Prover::new(Config { segment_po2: PO2, dev_mode: false }).unwrap();
    let plan = prover.plan(&input_file, PO2).unwrap();
    let middle = Plan::decode(&plan).unwrap().segments() / 2;
    std::fs::write(&plan_file, plan).unwrap();
    let work = PartWork::Segments { first: middle, end: middle + 1 };
    let files = PartFiles { work, segment_po2: PO2, plan: plan_file, proofs: vec![] };
    prover.prove_part(&input_file, &files, &Cancel::new(), &|_| {}).unwrap();
}

/// Multiples of BN254's generator.
fn bn254_point(rng: &mut StdRng) -> Vec<u8> {
    let generator = [word(U256::from(1)), word(U256::from(2))].concat();
    let input = [generator, bytes(rng, 32)].concat();
    Calls::host(Address::with_last_byte(7), &input).unwrap().0
}

/// The generator of BN254's second group as EIP-197 writes it: imaginary parts first.
const BN254_G2: [&str; 4] = [
    "198e9393920d483a7260bfb731fb5d25f1aa493335a9e71297e485b7aef312c2",
    "1800deef121f1e76426a00665e5c4479674322d4f75edadd46debd5cd992f6ed",
    "090689d0585ff075ec9e99ad690c3395bc4b313370b38ef355acdadcd122975b",
    "12c85ea5db8c6deb4aab71808dcb408fe3d1e7690c43d37b4ce6cc0166fa7daa",
];

fn bn254_prime() -> U256 {
    let prime = "30644e72e131a029b85045b68181585d97816a916871ca8d3c208c16d87cfd47";
    U256::from_str_radix(prime, 16).unwrap()
}

/// Special points of BN254: infinity, the generator, two that are not on the curve, three whose coordinates are not
/// below the prime.
fn bn254_edges() -> ([Vec<u8>; 3], [Vec<u8>; 5]) {
    let prime = bn254_prime();
    let (one, two) = (U256::from(1), U256::from(2));
    let point = |x, y| [word(x), word(y)].concat();
    (
        [vec![0; 64], point(one, two), point(one, prime - two)],
        [
            point(one, one),
            point(U256::ZERO, one),
            point(prime, U256::ZERO),
            point(prime + one, two),
            point(U256::MAX, U256::MAX),
        ],
    )
}

#[test]
fn bn254_addition() {
    let mut rng = rng();
    let (good, bad) = bn254_edges();
    let mut inputs: Vec<Vec<u8>> =
        (0..1_000).map(|_| [bn254_point(&mut rng), bn254_point(&mut rng)].concat()).collect();
    let twice = inputs[0][..64].repeat(2);
    inputs.extend([twice, vec![], vec![0; 128], inputs[0][..64].to_vec()]);
    for a in &good {
        inputs.extend(good.iter().map(|b| [a.as_slice(), b].concat()));
    }
    let count = inputs.len();
    for point in &bad {
        inputs.push([point.as_slice(), &good[1]].concat());
        inputs.push([good[0].as_slice(), point].concat());
    }
    check("BN254 addition", &Calls::new(6, inputs), count);
}

#[test]
fn bn254_multiplication() {
    let mut rng = rng();
    let (good, bad) = bn254_edges();
    let order = U256::from_str_radix(
        "30644e72e131a029b85045b68181585d2833e84879b9709143e1f593f0000001",
        16,
    )
    .unwrap();
    let one = U256::from(1);
    let mut inputs: Vec<Vec<u8>> =
        (0..1_000).map(|_| [bn254_point(&mut rng), bytes(&mut rng, 32)].concat()).collect();
    for point in &good {
        for scalar in [U256::ZERO, one, order - one, order, order + one, U256::MAX] {
            inputs.push([point.as_slice(), &word(scalar)].concat());
        }
    }
    inputs.extend([vec![], good[1].clone()]);
    let count = inputs.len();
    inputs.extend(bad.map(|point| [point.as_slice(), &word(one)].concat()));
    check("BN254 multiplication", &Calls::new(7, inputs), count);
}

/// A G1 point of BLS12-381 as EIP-2537 encodes it.
fn g1(rng: &mut StdRng) -> Vec<u8> {
    let field = [vec![0; 17], bytes(rng, 47)].concat();
    Calls::host(Address::with_last_byte(0x10), &field).unwrap().0
}

/// A G2 point of BLS12-381 as EIP-2537 encodes it.
fn g2(rng: &mut StdRng) -> Vec<u8> {
    let field = [vec![0; 17], bytes(rng, 47), vec![0; 17], bytes(rng, 47)].concat();
    Calls::host(Address::with_last_byte(0x11), &field).unwrap().0
}

#[test]
fn bls12_381_additions_and_maps() {
    let mut rng = rng();
    let mut sums = |point: &dyn Fn(&mut StdRng) -> Vec<u8>, length: usize| {
        let mut inputs: Vec<Vec<u8>> =
            (0..1_000).map(|_| [point(&mut rng), point(&mut rng)].concat()).collect();
        let honest = inputs[0][..length].to_vec();
        inputs.extend([vec![0; 2 * length], honest.repeat(2)]);
        inputs.push([vec![0; length], honest.clone()].concat());
        let good = inputs.len();
        // Not on the curve, not below the prime, too short, too long.
        let mut off = honest.repeat(2);
        off[length - 1] ^= 1;
        let mut large = honest.repeat(2);
        large[16..64].fill(0xff);
        inputs.extend([off, large, vec![], honest.clone(), honest.repeat(3)]);
        (inputs, good)
    };
    let (inputs, good) = sums(&g1, 128);
    check("BLS12-381 G1 addition", &Calls::new(0x0b, inputs), good);
    let (inputs, good) = sums(&g2, 256);
    check("BLS12-381 G2 addition", &Calls::new(0x0d, inputs), good);
    for (name, precompile, fields) in
        [("BLS12-381 map to G1", 0x10, 1), ("BLS12-381 map to G2", 0x11, 2)]
    {
        let mut inputs: Vec<Vec<u8>> = (0..50)
            .map(|_| {
                (0..fields).flat_map(|_| [vec![0; 17], bytes(&mut rng, 47)].concat()).collect()
            })
            .collect();
        inputs.push(vec![0; 64 * fields]);
        if fields == 1 {
            for element in MAPPED_TO_INFINITY {
                let element: ark_bls12_381::Fq =
                    BigUint::parse_bytes(element.as_bytes(), 16).unwrap().into();
                inputs.extend([element, -element].map(coordinate));
            }
        }
        let good = inputs.len();
        inputs.extend([vec![0xff; 64 * fields], vec![0; 64 * fields - 1]]);
        check(name, &Calls::new(precompile, inputs), good);
    }
}

/// Field elements that EIP-2537 maps to the kernel of the isogeny to the first group's curve, and so to infinity. Their
/// negatives are all others.
const MAPPED_TO_INFINITY: [&str; 8] = [
    "1377c0192d99508a317127abf17c64205c7aad448380027efb47ae73ea231dbd6ecd3f2841b63d309c35bb8fd13e48f0",
    "0a2605e5991fcf3e63728a7a1468d79bacaa5f23f3816aadcd38efdd330c6d4f5bbf450f92156e0e23e16e3252bcd042",
    "0854a3cb180882d5b1efc1c3cc5b3fb33b27cb739f1389986ca46e1c5cb5010d8a06fd781c63074868f316d95b8f8405",
    "0a3bf00221e169b850c5268c3d1edd576732060760bc0c00ed0311dee8588b18130822d3027f8d142802d784ea194fca",
    "146850b3bdc2495ed73bb803dfaa951a88abff0acb5c7aeac52b48f3c808e87ce3885b98ce916e17caef21a6cbc6b598",
    "0ec1d2551f80abe70136a7f42e52133ebddf9b619a88147ae422a98e57581f2b0961dc019c74599f12a1b5513649a2e8",
    "0a92437e90bc473049ab549b4c4a145feb4fb5cd39f7ee85c11fa62a8f5317220b398be420ca5d8364d460f6ee1efd29",
    "10683009c00edc5676a3d43b8b5ae8a68e75a32954f6a502e6acc1c11ed49bcaa7c843871e887ce9839920c2ff0f732f",
];

/// A coordinate of BLS12-381 as EIP-2537 encodes it.
fn coordinate(number: ark_bls12_381::Fq) -> Vec<u8> {
    [vec![0; 16], number.into_bigint().to_bytes_be()].concat()
}

/// Points of BLS12-381's curve that are not in the first group, of the order 3 among them, and of its twist that are not in
/// the second.
fn outside() -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    use ark_bls12_381::{Fq, Fq2, G1Affine, G2Affine};
    let ones = (0..).filter_map(|x| G1Affine::get_point_from_x_unchecked(Fq::from(x), x % 4 == 0));
    let twos = (0..).filter_map(|x| {
        let x2 = Fq2::new(x.into(), (x * x).into());
        G2Affine::get_point_from_x_unchecked(x2, x % 4 == 0)
    });
    let bytes1 = |point: G1Affine| [point.x, point.y].map(coordinate).concat();
    let bytes2 =
        |point: G2Affine| [point.x.c0, point.x.c1, point.y.c0, point.y.c1].map(coordinate).concat();
    (ones.map(bytes1).take(5).collect(), twos.map(bytes2).take(5).collect())
}

#[test]
fn bls12_381_multiplications() {
    let mut rng = rng();
    let (ones, twos) = outside();
    for (name, precompile, length, random, point, outside) in [
        (
            "BLS12-381 G1 multiplication",
            0x0c,
            128,
            1_000,
            &g1 as &dyn Fn(&mut StdRng) -> Vec<u8>,
            ones,
        ),
        ("BLS12-381 G2 multiplication", 0x0e, 256, 50, &g2, twos),
    ] {
        let mut inputs: Vec<Vec<u8>> =
            (0..random).map(|_| [point(&mut rng), bytes(&mut rng, 32)].concat()).collect();
        inputs.push([inputs[0].clone(), inputs[1].clone()].concat());
        inputs.push([vec![0; length], bytes(&mut rng, 32)].concat());
        inputs.push([inputs[0][..length].to_vec(), vec![0; 32]].concat());
        let good = inputs.len();
        let mut off = inputs[0].clone();
        off[length - 1] ^= 1;
        inputs.extend([off, vec![], vec![0; length]]);
        inputs.extend(
            outside.into_iter().map(|point| [point, word(U256::from(1)).to_vec()].concat()),
        );
        check(name, &Calls::new(precompile, inputs), good);
    }
}

/// The negative of a point whose coordinates are numbers of `size` bytes each.
fn negative(point: &[u8], prime: &BigUint, size: usize) -> Vec<u8> {
    let (x, y) = point.split_at(point.len() / 2);
    let minus = y.chunks_exact(size).flat_map(|number| {
        let number = BigUint::from_bytes_be(number);
        let bytes = if number == BigUint::ZERO { number } else { prime - number }.to_bytes_be();
        [vec![0; size - bytes.len()], bytes].concat()
    });
    [x.to_vec(), minus.collect()].concat()
}

/// Calls of both pairings, and how many succeed.
fn pairing_calls() -> [(&'static str, Calls, usize); 2] {
    let mut rng = rng();
    // Infinity pairs with everything; the rest of the edge values are official tests, which run in the guest too.
    let mut inputs = vec![vec![], vec![0; 192], vec![0; 384]];
    let prime = BigUint::from_bytes_be(&word(bn254_prime()));
    let generator = BN254_G2.map(|word| U256::from_str_radix(word, 16).unwrap());
    let generator: Vec<u8> = generator.into_iter().flat_map(word).collect();
    for _ in 0..10 {
        let (one, other) = (bn254_point(&mut rng), bn254_point(&mut rng));
        // A point and its negative cancel out; two other points do not, nor does one.
        for second in [negative(&one, &prime, 32), other] {
            inputs.push([one.as_slice(), &generator, &second, &generator].concat());
        }
        let second = negative(&generator, &prime, 32);
        inputs.push([one.as_slice(), &generator, &one, &second].concat());
    }
    inputs.push([bn254_point(&mut rng).as_slice(), &generator].concat());
    inputs.push([vec![0; 64], generator.clone(), inputs[3].clone()].concat());
    let good = inputs.len();
    let mut off = inputs[3].clone();
    off[191] ^= 1;
    inputs.extend([off, vec![0xff; 192], vec![0; 191]]);
    // On the twist, but not in the group.
    let twos = (0..).filter_map(|x| {
        let x = ark_bn254::Fq2::new(x.into(), (x + 1).into());
        ark_bn254::G2Affine::get_point_from_x_unchecked(x, true)
    });
    for two in twos.take(5) {
        let numbers = [two.x.c1, two.x.c0, two.y.c1, two.y.c0];
        let two = numbers.map(|number| number.into_bigint().to_bytes_be()).concat();
        inputs.push([bn254_point(&mut rng), two].concat());
    }
    let bn254 = ("BN254 pairing", Calls::new(8, inputs), good);

    let prime = BigUint::from(ark_bls12_381::Fq::MODULUS);
    let mut inputs = vec![vec![0; 384], [g1(&mut rng), g2(&mut rng)].concat()];
    for _ in 0..5 {
        let (one, two, other) = (g1(&mut rng), g2(&mut rng), g2(&mut rng));
        let (minus_one, minus_two) = (negative(&one, &prime, 64), negative(&two, &prime, 64));
        inputs.push([one.as_slice(), &two, &minus_one, &two].concat());
        inputs.push([one.as_slice(), &two, &one, &minus_two].concat());
        inputs.push([one.as_slice(), &two, &minus_one, &other].concat());
        inputs.push([&[0; 128], two.as_slice(), &one, &[0; 256]].concat());
    }
    let good = inputs.len();
    inputs.extend([vec![], vec![0xff; 384], vec![0; 383]]);
    let (ones, twos) = outside();
    inputs.extend(ones.into_iter().map(|one| [one, g2(&mut rng)].concat()));
    inputs.extend(twos.into_iter().map(|two| [g1(&mut rng), two].concat()));
    [bn254, ("BLS12-381 pairing", Calls::new(0x0f, inputs), good)]
}

#[test]
fn pairings() {
    for (name, calls, good) in pairing_calls() {
        check(name, &calls, good);
    }
}

/// That the circuit for products in a quadratic field is used as it can be proven, only a proof can show: of a segment in the
/// middle, which is full of them.
///
/// ```text
/// cargo nextest run --release -p l2 -p prover-risc0 --features l2/build_zkvm --run-ignored only -E 'test(a_real_proof_of_pairings)'
/// ```
#[test]
#[ignore = "proves for minutes"]
fn a_real_proof_of_pairings() {
    for (_, calls, _) in pairing_calls() {
        prove_the_middle(&calls.chain().0);
    }
}

#[test]
fn kzg() {
    let settings = c_kzg::ethereum_kzg_settings(0);
    let mut rng = rng();
    let mut blob = [0; c_kzg::BYTES_PER_BLOB];
    for field in blob.chunks_exact_mut(32) {
        rng.fill(&mut field[1..]);
    }
    let blob = c_kzg::Blob::new(blob);
    let commitment = settings.blob_to_kzg_commitment(&blob).unwrap().to_bytes();
    let call = |z: &[u8], y: &[u8], commitment: &[u8], proof: &[u8]| {
        let mut hash: [u8; 32] = sha2::Sha256::digest(commitment).into();
        hash[0] = 1;
        [hash.as_slice(), z, y, commitment, proof].concat()
    };
    let z = [vec![0], bytes(&mut rng, 31)].concat();
    let point = c_kzg::Bytes32::from_bytes(&z).unwrap();
    let (proof, y) = settings.compute_kzg_proof(&blob, &point).unwrap();
    let honest = call(&z, y.as_slice(), commitment.as_slice(), proof.to_bytes().as_slice());
    // A changed hash, point, value, commitment and proof.
    let wrong = [1, 63, 95, 143, 191].map(|at| {
        let mut input = honest.clone();
        input[at] ^= 1;
        input
    });
    let mut inputs = vec![honest.clone()];
    // The polynomials 0 and 1: infinity and the generator, and as a proof infinity.
    let infinity = [vec![0xc0], vec![0; 47]].concat();
    // Without the zeros that EIP-2537 puts before it.
    let x_of = |x| coordinate(x)[16..].to_vec();
    let mut one = x_of(ark_bls12_381::G1Affine::generator().x);
    // The generator's y is the smaller root.
    one[0] |= 0x80;
    let [zero_word, one_word] = [U256::ZERO, U256::from(1)].map(word);
    let order = U256::from_be_slice(&ark_bls12_381::Fr::MODULUS.to_bytes_be());
    for z in [U256::ZERO, U256::from(1), order - U256::from(1)].map(word) {
        inputs.push(call(&z, &zero_word, &infinity, &infinity));
        inputs.push(call(&z, &one_word, &one, &infinity));
    }
    let good = inputs.len();
    inputs.extend(wrong);
    for z in [order, U256::MAX].map(word) {
        inputs.push(call(&z, &zero_word, &infinity, &infinity));
        inputs.push(call(&zero_word, &z, &infinity, &infinity));
    }
    inputs.push(call(&z, &one_word, &infinity, &infinity));
    inputs.push(call(&z, &zero_word, &infinity, &one));
    // Every choice of the three flags, over coordinates of points and of none, of the group and not.
    let others = [0, 1, 4].map(|x| x_of(x.into()));
    for bytes in [infinity.clone(), one.clone()].into_iter().chain(others) {
        for flags in 0..8 {
            let mut point = bytes.clone();
            point[0] = point[0] & 0x1f | flags << 5;
            if point != infinity && point != one {
                inputs.push(call(&z, &one_word, &point, &infinity));
                inputs.push(call(&z, &one_word, &infinity, &point));
            }
        }
    }
    inputs.extend([vec![], honest[..191].to_vec(), vec![0xff; 192]]);
    check("KZG point evaluation", &Calls::new(0x0a, inputs), good);
}
