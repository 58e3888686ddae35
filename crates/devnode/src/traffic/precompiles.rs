//! Inputs that each precompile accepts.

use alloy_primitives::{Address, B256, Bytes, U256, hex};
use alloy_signer::SignerSync;
use rand::{Rng, rngs::StdRng};

/// The precompiles' numbers, Frontier to Osaka.
pub(crate) const NUMBERS: [u64; 18] =
    [1, 2, 3, 4, 5, 6, 7, 8, 9, 0xa, 0xb, 0xc, 0xd, 0xe, 0xf, 0x10, 0x11, 0x100];

/// The BLS12-381 generator of G1: two coordinates of 64 bytes.
const BLS_G1: [u8; 128] = hex!(
    "0000000000000000000000000000000017f1d3a73197d7942695638c4fa9ac0fc3688c4f9774b905a14e3a3f171bac586c55e83ff97a1aeffb3af00adb22c6bb"
    "0000000000000000000000000000000008b3f481e3aaa0f1a09e30ed741d8ae4fcf5e095d5d00af600db18cb2c04b3edd03cc744a2888ae40caa232946c5e7e1"
);
/// e(P, Q) e(-P, Q) = 1 on bn254, P and Q the generators.
const BN_PAIRING: [u8; 384] = hex!(
    "0000000000000000000000000000000000000000000000000000000000000001"
    "0000000000000000000000000000000000000000000000000000000000000002"
    "198e9393920d483a7260bfb731fb5d25f1aa493335a9e71297e485b7aef312c2"
    "1800deef121f1e76426a00665e5c4479674322d4f75edadd46debd5cd992f6ed"
    "090689d0585ff075ec9e99ad690c3395bc4b313370b38ef355acdadcd122975b"
    "12c85ea5db8c6deb4aab71808dcb408fe3d1e7690c43d37b4ce6cc0166fa7daa"
    "0000000000000000000000000000000000000000000000000000000000000001"
    "30644e72e131a029b85045b68181585d97816a916871ca8d3c208c16d87cfd45"
    "198e9393920d483a7260bfb731fb5d25f1aa493335a9e71297e485b7aef312c2"
    "1800deef121f1e76426a00665e5c4479674322d4f75edadd46debd5cd992f6ed"
    "090689d0585ff075ec9e99ad690c3395bc4b313370b38ef355acdadcd122975b"
    "12c85ea5db8c6deb4aab71808dcb408fe3d1e7690c43d37b4ce6cc0166fa7daa"
);
/// A P-256 signature: hash, r, s, x, y.
const P256: [u8; 160] = hex!(
    "4cee90eb86eaa050036147a12d49004b6b9c72bd725d39d4785011fe190f0b4d"
    "a73bd4903f0ce3b639bbbf6e8e80d16931ff4bcf5993d58468e8fb19086e8cac"
    "36dbcd03009df8c59286b162af3bd7fcc0450c9aa81be5d10d312af6c66b1d60"
    "4aebd3099c618202fcfe16ae7770b0c49ab5eadf74b754204a3bb6060e44eff3"
    "7618b065f9832de4ca6ca971a7a1adc826d0f7c00181a5fb2ddf79ae00b4e10e"
);
/// Versioned hash of the commitment to the zero polynomial (the point at infinity).
const KZG_ZERO_HASH: [u8; 32] =
    hex!("010657f37554c781402a22917dee2f75def7ab966d7b770905398eba3c444014");

/// A precompile and an input that it accepts.
pub(crate) fn random_call(rng: &mut StdRng) -> (Address, Bytes) {
    let number = NUMBERS[rng.random_range(0..NUMBERS.len())];
    (Address::from_word(B256::from(U256::from(number))), input(number, rng).into())
}

/// An input that precompile `number` accepts and answers with at least one byte.
pub(crate) fn input(number: u64, rng: &mut StdRng) -> Vec<u8> {
    match number {
        1 => {
            let signer = crate::accounts::signer(rng.random_range(0..10));
            let hash = B256::from(rng.random::<[u8; 32]>());
            let signature =
                signer.sign_hash_sync(&hash).expect("signing with a local key cannot fail");
            let v = U256::from(27 + u8::from(signature.v()));
            words(&[hash.into(), v, signature.r(), signature.s()])
        }
        5 => {
            let length = rng.random_range(1..=64usize);
            let mut input = words(&[U256::from(length), U256::from(length), U256::from(length)]);
            input.extend(bytes(rng, 3 * length));
            // Makes the modulus odd, so that it is not zero.
            *input.last_mut().expect("the input is not empty") |= 1;
            input
        }
        6 => words(&[1, 2, 1, 2].map(U256::from)),
        7 => words(&[U256::from(1), U256::from(2), U256::from(rng.random::<u128>())]),
        8 => BN_PAIRING.to_vec(),
        9 => {
            let mut input = bytes(rng, 213);
            input[..4].copy_from_slice(&rng.random_range(0..64u32).to_be_bytes());
            input[212] = rng.random_range(0..2);
            input
        }
        0xa => {
            let infinity = [&[0xc0][..], &[0; 47]].concat();
            let z = U256::from(rng.random::<u128>());
            [&KZG_ZERO_HASH[..], &words(&[z, U256::ZERO]), &infinity, &infinity].concat()
        }
        0xb => [BLS_G1, BLS_G1].concat(),
        0xc => [&BLS_G1[..], &bytes(rng, 32)].concat(),
        0xd => vec![0; 512],
        0xe => [vec![0; 256], bytes(rng, 32)].concat(),
        0xf => [&BLS_G1[..], &[0; 256]].concat(),
        0x10 => field_element(rng),
        0x11 => [field_element(rng), field_element(rng)].concat(),
        0x100 => P256.to_vec(),
        // SHA-256, RIPEMD-160 and identity accept any input.
        _ => {
            let length = rng.random_range(1..=300);
            bytes(rng, length)
        }
    }
}

fn words(words: &[U256]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes::<32>()).collect()
}

fn bytes(rng: &mut StdRng, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    rng.fill(&mut bytes[..]);
    bytes
}

/// A 64-byte element of BLS12-381's field, far below the modulus.
fn field_element(rng: &mut StdRng) -> Vec<u8> {
    [vec![0; 24], bytes(rng, 40)].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Chain, accounts, genesis};
    use alloy_rpc_types_eth::TransactionRequest;
    use rand::SeedableRng;

    #[test]
    fn every_precompile_answers_its_inputs() {
        let chain = Chain::new(&genesis::dev()).unwrap();
        let rng = &mut StdRng::seed_from_u64(1);
        for number in NUMBERS {
            for _ in 0..3 {
                let request = TransactionRequest::default()
                    .from(accounts::addresses()[0])
                    .to(Address::from_word(B256::from(U256::from(number))))
                    .input(Bytes::from(input(number, rng)).into())
                    .gas_limit(1_000_000);
                let output = chain.call(chain.block(0).unwrap(), request, None);
                assert!(
                    output.as_ref().is_ok_and(|output| !output.is_empty()),
                    "{number:#x}: {output:?}"
                );
            }
        }
    }
}
