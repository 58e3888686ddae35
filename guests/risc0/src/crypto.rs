//! RISC Zero's accelerators behind the hooks that the program's dependencies offer.
//!
//! * `alloy_primitives::keccak256` is in [`crate::keccak`].
//! * revm's precompiles call [`Accelerated`]; what it leaves to revm's own software is marked, for the meter to count.
//! * EIP-7702 authorities are recovered by [`Accelerated`] as alloy's crypto provider; so are senders if
//!   [`crate::senders`] finds that the host's claims about them are not all true.

use std::sync::Arc;

use crate::{bls12_381, bn254, secp256k1};
use alloy_consensus::crypto::{
    RecoveryError,
    backend::{CryptoProvider, install_default_provider},
};
use alloy_primitives::{Address, U256, keccak256};
use program::phase::software_call;
use revm::precompile::bls12_381::{G1Point, G1PointScalar, G2Point, G2PointScalar};
use revm::precompile::{Crypto, DefaultCrypto, PrecompileHalt, install_crypto};
use risc0_bigint2::field::modmul_256;
use risc0_crypto_evm as risc0;

/// Installs every hook. Panics if one is already taken.
pub fn install() {
    assert!(install_crypto(Accelerated), "precompile crypto is already installed");
    install_default_provider(Arc::new(Accelerated))
        .expect("nothing installed a provider before main");
}

/// Curves, modular exponentiation and SHA-256 by RISC Zero's circuits.
#[derive(Debug)]
struct Accelerated;

impl Crypto for Accelerated {
    fn sha256(&self, input: &[u8]) -> [u8; 32] {
        sha256(input)
    }

    fn bn254_g1_add(&self, p1: &[u8], p2: &[u8]) -> Result<[u8; 64], PrecompileHalt> {
        risc0::bn254_g1_add(p1, p2).ok_or(PrecompileHalt::Bn254AffineGFailedToCreate)
    }

    fn bn254_g1_mul(&self, point: &[u8], scalar: &[u8]) -> Result<[u8; 64], PrecompileHalt> {
        risc0::bn254_g1_mul(point, scalar).ok_or(PrecompileHalt::Bn254AffineGFailedToCreate)
    }

    fn secp256k1_ecrecover(
        &self,
        signature: &[u8; 64],
        recovery_id: u8,
        message: &[u8; 32],
    ) -> Result<[u8; 32], PrecompileHalt> {
        let signer = recover(signature, recovery_id, message)
            .ok_or(PrecompileHalt::Secp256k1RecoverFailed)?;
        Ok(signer.into_word().0)
    }

    fn modexp(
        &self,
        base: &[u8],
        exponent: &[u8],
        modulus: &[u8],
    ) -> Result<Vec<u8>, PrecompileHalt> {
        // The accelerator knows operands up to its modulus' width class; anything else is software.
        match risc0::modexp(base, exponent, modulus) {
            Some(power) => Ok(power),
            None => {
                software_call::<0x605>();
                DefaultCrypto.modexp(base, exponent, modulus)
            }
        }
    }

    fn bn254_pairing_check(&self, pairs: &[(&[u8], &[u8])]) -> Result<bool, PrecompileHalt> {
        bn254::pairing_check(pairs)
    }

    fn verify_kzg_proof(
        &self,
        z: &[u8; 32],
        y: &[u8; 32],
        commitment: &[u8; 48],
        proof: &[u8; 48],
    ) -> Result<(), PrecompileHalt> {
        match bls12_381::verify_kzg(commitment, z, y, proof) {
            Some(true) => Ok(()),
            _ => Err(PrecompileHalt::BlobVerifyKzgProofFailed),
        }
    }

    fn bls12_381_g1_add(&self, a: G1Point, b: G1Point) -> Result<[u8; 96], PrecompileHalt> {
        bls12_381::add(&a, &b)
    }

    fn bls12_381_g1_msm(
        &self,
        pairs: &mut dyn Iterator<Item = Result<G1PointScalar, PrecompileHalt>>,
    ) -> Result<[u8; 96], PrecompileHalt> {
        bls12_381::multiply_and_add(pairs)
    }

    fn bls12_381_g2_add(&self, a: G2Point, b: G2Point) -> Result<[u8; 192], PrecompileHalt> {
        bls12_381::add2(&a, &b)
    }

    fn bls12_381_g2_msm(
        &self,
        pairs: &mut dyn Iterator<Item = Result<G2PointScalar, PrecompileHalt>>,
    ) -> Result<[u8; 192], PrecompileHalt> {
        bls12_381::multiply_and_add2(pairs)
    }

    fn bls12_381_pairing_check(
        &self,
        pairs: &[(G1Point, G2Point)],
    ) -> Result<bool, PrecompileHalt> {
        bls12_381::pairing_check(pairs)
    }

    fn bls12_381_fp_to_g1(&self, fp: &[u8; 48]) -> Result<[u8; 96], PrecompileHalt> {
        bls12_381::map(fp)
    }

    fn bls12_381_fp2_to_g2(&self, fp2: ([u8; 48], [u8; 48])) -> Result<[u8; 192], PrecompileHalt> {
        bls12_381::map2(&fp2)
    }

    fn secp256r1_verify_signature(
        &self,
        message: &[u8; 32],
        signature: &[u8; 64],
        key: &[u8; 64],
    ) -> bool {
        risc0::secp256r1_verify(message, signature, key)
    }
}

/// `a` times `b` modulo `modulus`, which is not zero.
pub fn product(a: &U256, b: &U256, modulus: &U256) -> U256 {
    let words = |number: &U256| bytemuck::cast::<[u64; 4], [u32; 8]>(*number.as_limbs());
    let mut product = [0; 8];
    // SOUNDNESS: the library's function checks that what the circuit gives is reduced.
    modmul_256(&words(a), &words(b), &words(modulus), &mut product);
    U256::from_limbs(bytemuck::cast(product))
}

/// SHA-256 by RISC Zero's circuit.
pub(crate) fn sha256(input: &[u8]) -> [u8; 32] {
    risc0::sha256(input)
}

/// Recovery ids above 1, which no transaction and no precompile has, name a point whose x is above the order.
fn recover(signature: &[u8; 64], id: u8, message: &[u8; 32]) -> Option<Address> {
    match id {
        0 | 1 => secp256k1::recover(signature, id, message),
        _ => risc0::secp256k1_ecrecover(signature, id, message),
    }
}

impl CryptoProvider for Accelerated {
    fn recover_signer_unchecked(
        &self,
        signature: &[u8; 65],
        message: &[u8; 32],
    ) -> Result<Address, RecoveryError> {
        let (&parity, signature) = signature.split_last().expect("65 bytes");
        let signature = signature.try_into().expect("64 bytes");
        recover(signature, parity, message).ok_or_else(RecoveryError::new)
    }

    fn verify_and_compute_signer_unchecked(
        &self,
        key: &[u8; 65],
        signature: &[u8; 64],
        message: &[u8; 32],
    ) -> Result<Address, RecoveryError> {
        // SOUNDNESS: a signature is valid for a key exactly if some parity recovers that key from it.
        let signer = Address::from_slice(&keccak256(&key[1..])[12..]);
        (0..=3)
            .any(|parity| recover(signature, parity, message) == Some(signer))
            .then_some(signer)
            .ok_or_else(RecoveryError::new)
    }
}
