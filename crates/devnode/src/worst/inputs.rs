//! Expensive inputs for each precompile.

use crate::traffic::precompiles;
use alloy_primitives::{Address, U256, hex};
use rand::{Rng, SeedableRng, rngs::StdRng};
use revm::precompile::Precompiles;

/// An opening of a polynomial of EIP-4844's test vectors: versioned hash, z, y, commitment, proof.
const KZG: [u8; 192] = hex!(
    "01e798154708fe7789429634053cbf9f99b619f9f084048927333fce637f549b"
    "73eda753299d7d483339d80809a1d80553bda402fffe5bfeffffffff00000000"
    "1522a4a7f34e1ea350ae07c29c96c7e79655aa926122e95fe69fcbd932ca49e9"
    "8f59a8d2a1a625a17f3fea0fe5eb8c896db3764f3185481bc22f91b4aaffcca25f26936857bc3a7c2539ea8ec3a952b7"
    "a62ad71d14c5719385c0686f1871430475bf3a00f0aa3f7b8dd99a9abc2160744faf0070725e00b60ad9a026a15b1a8c"
);

/// Gas of a call with an input that the precompile answers.
pub(super) fn gas(precompile: Address, input: &[u8]) -> u64 {
    host(precompile, input).1
}

fn host(precompile: Address, input: &[u8]) -> (Vec<u8>, u64) {
    let precompile = Precompiles::osaka().get(&precompile).expect("it is a precompile");
    let output = precompile.execute(input, u64::MAX, 0).expect("the input is answered");
    assert!(output.is_success(), "the input is answered");
    (output.bytes.to_vec(), output.gas_used)
}

fn at(number: u16) -> Address {
    Address::from_word(U256::from(number).into())
}

/// Name, precompile and input of each case.
pub(super) fn all() -> Vec<(String, Address, Vec<u8>)> {
    let rng = &mut StdRng::seed_from_u64(1);
    let mut cases = Vec::new();
    let mut add = |name: &str, number: u16, input: Vec<u8>| {
        cases.push((name.to_owned(), at(number), input));
    };
    add("ecrecover", 1, precompiles::input(1, rng));
    for (name, number) in [("SHA-256", 2), ("RIPEMD-160", 3), ("identity", 4)] {
        for length in [0, 32, 1_024, 24_576] {
            add(&format!("{name} of {length}"), number, random(rng, length));
        }
    }
    modexp(&mut add, rng);
    let bn254 = |rng: &mut StdRng| host(at(7), &precompiles::input(7, rng)).0;
    add("BN254 addition", 6, [bn254(rng), bn254(rng)].concat());
    add("BN254 multiplication", 7, [bn254(rng), vec![0xff; 32]].concat());
    let second = precompiles::input(8, rng)[64..192].to_vec();
    for pairs in [1, 2, 16] {
        let input = (0..pairs).flat_map(|_| [bn254(rng), second.clone()].concat()).collect();
        add(&format!("BN254 pairing of {pairs}"), 8, input);
    }
    for rounds in [12u32, 10_000] {
        let mut input = random(rng, 213);
        input[..4].copy_from_slice(&rounds.to_be_bytes());
        input[212] = 1;
        add(&format!("BLAKE2F, {rounds} rounds"), 9, input);
    }
    add("KZG point evaluation", 0xa, KZG.to_vec());
    let first = |rng: &mut StdRng| host(at(0x10), &precompiles::input(0x10, rng)).0;
    let second = |rng: &mut StdRng| host(at(0x11), &precompiles::input(0x11, rng)).0;
    add("BLS12-381 G1 addition", 0xb, [first(rng), first(rng)].concat());
    add("BLS12-381 G2 addition", 0xd, [second(rng), second(rng)].concat());
    for count in [1, 16] {
        let terms = |point: &dyn Fn(&mut StdRng) -> Vec<u8>, rng: &mut StdRng| {
            (0..count).flat_map(|_| [point(rng), vec![0xff; 32]].concat()).collect()
        };
        add(&format!("BLS12-381 G1 sum of {count} products"), 0xc, terms(&first, rng));
        add(&format!("BLS12-381 G2 sum of {count} products"), 0xe, terms(&second, rng));
        let pairs = (0..count).flat_map(|_| [first(rng), second(rng)].concat()).collect();
        add(&format!("BLS12-381 pairing of {count}"), 0xf, pairs);
    }
    add("BLS12-381 map to G1", 0x10, precompiles::input(0x10, rng));
    add("BLS12-381 map to G2", 0x11, precompiles::input(0x11, rng));
    add("P-256", 0x100, precompiles::input(0x100, rng));
    cases
}

/// Operands for which price and work differ most.
fn modexp(add: &mut impl FnMut(&str, u16, Vec<u8>), rng: &mut StdRng) {
    for (name, length, exponent, even) in [
        ("1 byte, exponent 1 byte", 1, vec![0xff], false),
        ("32 bytes, exponent 1 byte", 32, vec![0xff], false),
        ("32 bytes, exponent 32 bytes", 32, vec![0xff; 32], false),
        ("32 bytes, exponent 32 bytes, even", 32, vec![0xff; 32], true),
        ("33 bytes, exponent 2 bytes", 33, vec![0xff; 2], false),
        ("128 bytes, exponent 3 bytes", 128, vec![1, 0, 1], false),
        ("256 bytes, exponent 3 bytes", 256, vec![1, 0, 1], false),
        ("256 bytes, exponent 3 bytes, even", 256, vec![1, 0, 1], true),
        ("1,024 bytes, exponent 1 byte", 1_024, vec![0xff], false),
        ("1,024 bytes, exponent 1 byte, even", 1_024, vec![0xff], true),
        ("1,024 bytes, exponent 0", 1_024, vec![], false),
    ] {
        let mut input: Vec<u8> = [length, exponent.len(), length]
            .into_iter()
            .flat_map(|length| U256::from(length).to_be_bytes::<32>())
            .collect();
        input.extend(random(rng, length));
        input.extend(exponent);
        let mut modulus = random(rng, length);
        modulus[0] |= 0x80;
        modulus[length - 1] = if even { 2 } else { modulus[length - 1] | 1 };
        input.extend(modulus);
        add(&format!("modexp of {name}"), 5, input);
    }
}

fn random(rng: &mut StdRng, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    rng.fill(bytes.as_mut_slice());
    bytes
}
