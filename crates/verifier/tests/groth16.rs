//! A Groth16 proof that contracts verify: RISC Zero's recorded one, and that every byte of it is bound.
//!
//! The receipt is the one with which RISC Zero tests its contracts (crate risc0-ethereum-contracts 3.0.1, test/TestReceiptV3_0.sol, Apache-2.0),
//! without the selector 73c457ba of its verifier on mainnet.

use verifier::{Kind, Policy, System, VerifyError, seal, verify};

const PROGRAM: &str = "11d264ed8dfdee222b820f0278e4d7f55d4b69a5472253a471c102265a91ea1a";
const JOURNAL: &[u8] = b"just a simple receipt";
const SEAL: &str = "2ccb718fd9092cc11546eeded62a44d3ed274076dd3ec154fae8739f3432050b2005be2c5dbe6c08bfd04b30601a462540962bc26a2f38c5cfc0a4d76d8f1b8015e690a1b230081234867edeedb2f98bcdf33d0471c2aa5e8db63b72333f871527eb5d1fcf0a7af50fb8f42e8699e2c4eda3cd93f4e2a930096ae78e38bea4020c5c3d963dc453b4b302170e47c0cf53382255143c8fcef474d8b6eaaa8daaaf092c2f650809a3afbd122ef128cb882c2de7a6ccddd2e544b645fa3fedf6bcc92e09be04876a07778231fd5b93305d35fd8af23f040a11682a8c64130370804f28f07a76fa538755276e42c04b5f7eb97b04b68b65fa50e3181a0452069a3667";

fn program() -> [u8; 32] {
    hex::decode(PROGRAM).unwrap().try_into().unwrap()
}

fn proof(journal: &[u8], seal: &[u8]) -> Vec<u8> {
    let length = u32::try_from(journal.len()).unwrap().to_le_bytes();
    [&b"L2R0\x01\x03"[..], &program(), &length, journal, seal].concat()
}

fn refused(proof: &[u8]) -> VerifyError {
    verify(System::Risc0, program(), proof, &Policy::default()).expect_err("it is refused")
}

#[test]
fn the_recorded_receipt_holds() {
    let proof = proof(JOURNAL, &hex::decode(SEAL).unwrap());
    let verified = verify(System::Risc0, program(), &proof, &Policy::default()).unwrap();
    assert_eq!((verified.kind, &verified.public_values[..]), (Kind::Groth16, JOURNAL));
    let other = verify(System::Risc0, [7; 32], &proof, &Policy::default());
    assert!(matches!(other, Err(VerifyError::WrongProgram { .. })));
}

/// What a contract takes: the recorded call began with the selector of mainnet's verifier, which is this version's too.
#[test]
fn a_contract_takes_the_selector_and_the_seal() {
    let good = proof(JOURNAL, &hex::decode(SEAL).unwrap());
    let taken = seal(System::Risc0, program(), &good).unwrap().unwrap();
    assert_eq!(hex::encode(taken), format!("73c457ba{SEAL}"));
    assert!(seal(System::Risc0, [7; 32], &good).is_err(), "of another program");
    assert!(seal(System::Risc0, program(), &good[..good.len() - 1]).is_err());
    assert_eq!(seal(System::Exec, program(), JOURNAL), Ok(None));
    // RISC Zero's mock verifier takes the digest of the claim. This one is what its own crate computes for the receipt above.
    let mut mocked = good[..good.len() - 256].to_vec();
    mocked[5] = 0;
    let taken = seal(System::Risc0, program(), &mocked).unwrap().unwrap();
    assert_eq!((taken.len(), &taken[..4]), (36, &[0xff; 4][..]));
    mocked[5] = 2;
    assert!(seal(System::Risc0, program(), &mocked).is_err(), "not even a succinct one");
}

#[test]
fn no_byte_of_it_can_be_another() {
    let good = proof(JOURNAL, &hex::decode(SEAL).unwrap());
    for at in 0..good.len() {
        for bit in [1, 0x40, 0x80] {
            let mut bad = good.clone();
            bad[at] ^= bit;
            refused(&bad);
        }
    }
    for length in [good.len() - 1, good.len() - 32, 0] {
        refused(&good[..length]);
    }
    refused(&[&good[..], &[0]].concat());
}

#[test]
fn a_receipt_of_another_program_or_journal_is_refused() {
    let seal = hex::decode(SEAL).unwrap();
    assert!(matches!(refused(&proof(b"just another receipt", &seal)), VerifyError::Invalid(_)));
    let mut other = proof(JOURNAL, &seal);
    other[6..38].copy_from_slice(&[7; 32]);
    let verified = verify(System::Risc0, [7; 32], &other, &Policy::default());
    assert!(matches!(verified, Err(VerifyError::Invalid(_))), "{verified:?}");
}

/// A coordinate plus the modulus is the same number, and would be a second encoding.
#[test]
fn a_coordinate_has_one_encoding() {
    let modulus = "30644e72e131a029b85045b68181585d97816a916871ca8d3c208c16d87cfd47";
    let (modulus, seal) = (hex::decode(modulus).unwrap(), hex::decode(SEAL).unwrap());
    for coordinate in 0..8 {
        let mut twice = seal.clone();
        let mut carry = 0;
        for at in (0..32).rev() {
            let sum = u16::from(twice[32 * coordinate + at]) + u16::from(modulus[at]) + carry;
            twice[32 * coordinate + at] = sum.to_le_bytes()[0];
            carry = sum >> 8;
        }
        let error = refused(&proof(JOURNAL, &twice)).to_string();
        assert_eq!(error, "the proof is invalid: a coordinate is not reduced");
    }
    for zeros in [&[0; 256][..], &[&[0; 64], &seal[64..]].concat()] {
        refused(&proof(JOURNAL, zeros));
    }
}
