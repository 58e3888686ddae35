//! Real receipts are accepted: of dev blocks, a succinct and a composite one, and of a block of Ethereum. Receipts that differ a little
//! are refused.
//!
//! `fixtures/NAME.proof` is what `l2-prover prove --kind KIND --segment-po2 20` wrote; `fixtures/NAME.json` says which program
//! it proves and which public values, as hexadecimal text. `mainnet-22615247` was made of `blocks/1-22615247.json.zst` on an NVIDIA H200,
//! by the program that was pinned before.

use std::fs;
use std::path::Path;
use std::thread;

use verifier::{Kind, Policy, System, Verified, VerifyError, verify};

const NOTHING_ACCEPTED: Policy =
    Policy { danger_accept_exec: false, danger_accept_dev_mode: false };

/// Bytes before the journal: magic, version, kind, program id, journal length.
const HEADER: usize = 4 + 1 + 1 + 32 + 4;

struct Fixture {
    proof: Vec<u8>,
    program_id: [u8; 32],
    public_values: Vec<u8>,
}

impl Fixture {
    fn read() -> Self {
        Self::named("dev-block")
    }

    fn named(name: &str) -> Self {
        let folder =
            Path::new(&std::env::var_os("CARGO_MANIFEST_DIR").unwrap()).join("tests/fixtures");
        let proof =
            fs::read(folder.join(format!("{name}.proof"))).expect("the proof is checked in");
        let about =
            fs::read(folder.join(format!("{name}.json"))).expect("its description is checked in");
        let about: serde_json::Value = serde_json::from_slice(&about).expect("it is JSON");
        let bytes = |name: &str| {
            let text = about[name].as_str().expect("it is text");
            hex::decode(text.trim_start_matches("0x")).expect("it is hexadecimal")
        };
        Self {
            proof,
            program_id: bytes("program_id").try_into().expect("it has 32 bytes"),
            public_values: bytes("public_values"),
        }
    }

    fn verify(&self, proof: &[u8]) -> Result<Verified, VerifyError> {
        verify(System::Risc0, self.program_id, proof, &NOTHING_ACCEPTED)
    }

    /// Panics unless every one of `positions` is bound: a flip of any of its bits, and of all, is refused.
    fn refuses_flips_at(&self, positions: &[usize]) {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        thread::scope(|scope| {
            for part in positions.chunks(positions.len().div_ceil(threads)) {
                scope.spawn(move || {
                    let mut proof = self.proof.clone();
                    for &at in part {
                        // A different bit at each position, and sometimes all of them.
                        let flip = [1, 2, 4, 8, 16, 32, 64, 128, 255][at % 9];
                        proof[at] ^= flip;
                        assert!(self.verify(&proof).is_err(), "byte {at} is not bound");
                        proof[at] ^= flip;
                    }
                });
            }
        });
    }
}

#[test]
fn a_real_proof_verifies() {
    let fixture = Fixture::read();
    let expected = Verified {
        public_values: fixture.public_values.clone(),
        kind: Kind::Succinct,
        cycles: None,
    };
    assert_eq!(fixture.verify(&fixture.proof), Ok(expected));
}

/// 26 transactions, 22 segments and 10 batches of keccak permutations, proven on a GPU.
#[test]
fn a_real_proof_of_a_block_of_ethereum_verifies() {
    let fixture = Fixture::named("mainnet-22615247");
    let public_values = fixture.public_values.clone();
    let expected = Verified { public_values, kind: Kind::Succinct, cycles: None };
    assert_eq!(fixture.verify(&fixture.proof), Ok(expected));
    let block = "0497f69549701d578c67a43951f9e4fcb92b1691b9f6bbdfa63a17bc41d3971e";
    assert!(hex::encode(&fixture.public_values).contains(block), "it is not of this block");
}

#[test]
fn a_real_composite_proof_verifies_and_shows_its_cycles() {
    let fixture = Fixture::named("dev-block.composite");
    let public_values = fixture.public_values.clone();
    let expected = Verified { public_values, kind: Kind::Composite, cycles: Some(1 << 20) };
    assert_eq!(fixture.verify(&fixture.proof), Ok(expected));
    for end in [fixture.proof.len() - 1, fixture.proof.len() / 2] {
        let refused = fixture.verify(&fixture.proof[..end]);
        assert!(matches!(refused, Err(VerifyError::Malformed { .. })), "{refused:?}");
    }
}

#[test]
fn flipped_bytes_of_a_composite_proof_are_refused() {
    let fixture = Fixture::named("dev-block.composite");
    // Segments, the words of the only seal, its version, the globals: then what the cycles are read from.
    let rows_po2 = HEADER + fixture.public_values.len() + 4 + 4 + 4 + 90 * 4;
    assert_eq!(fixture.proof[rows_po2], 20);
    let sample = (0..fixture.proof.len()).step_by(5003);
    fixture.refuses_flips_at(&sample.chain(rows_po2..rows_po2 + 4).collect::<Vec<_>>());
}

/// RISC Zero's verifier accepts this receipt, but the program is not to be trusted.
#[test]
fn a_real_proof_of_a_revoked_program_is_refused_with_the_reason() {
    let fixture = Fixture::named("revoked");
    let reason = verifier::REVOKED.iter().find(|revoked| revoked.id == fixture.program_id);
    let reason = reason.expect("its program is revoked").reason;
    let refused = fixture.verify(&fixture.proof);
    assert_eq!(refused, Err(VerifyError::Revoked { program_id: fixture.program_id, reason }));
    let asked =
        verify(System::Risc0, verifier::RISC0_PROGRAM_ID, &fixture.proof, &NOTHING_ACCEPTED);
    assert_eq!(asked, Err(VerifyError::Revoked { program_id: fixture.program_id, reason }));
}

#[test]
fn every_flipped_byte_up_to_the_seal_is_refused() {
    let fixture = Fixture::read();
    let seal = HEADER + fixture.public_values.len() + 32 + 1 + 8 * 32;
    fixture.refuses_flips_at(&(0..seal + 4).collect::<Vec<_>>());
}

#[test]
fn flipped_bytes_of_the_seal_are_refused() {
    let fixture = Fixture::read();
    let seal = HEADER + fixture.public_values.len() + 32 + 1 + 8 * 32 + 4;
    let end = fixture.proof.len();
    // The globals at the seal's start, then a sample: a prime stride meets every position within a word.
    let globals = seal..seal + 33 * 4;
    let sample = (seal..end).step_by(1009);
    let positions: Vec<_> = globals.chain(sample).chain([end - 1]).collect();
    fixture.refuses_flips_at(&positions);
}

#[test]
#[ignore = "verifies a quarter of a million proofs: an hour"]
fn every_flipped_byte_of_the_seal_is_refused() {
    let fixture = Fixture::read();
    let seal = HEADER + fixture.public_values.len() + 32 + 1 + 8 * 32 + 4;
    fixture.refuses_flips_at(&(seal..fixture.proof.len()).collect::<Vec<_>>());
}

#[test]
fn another_image_id_is_refused() {
    for name in ["dev-block", "dev-block.composite"] {
        let fixture = Fixture::named(name);
        let mut other = fixture.program_id;
        other[31] ^= 1;
        let refused = verify(System::Risc0, other, &fixture.proof, &NOTHING_ACCEPTED);
        assert!(matches!(refused, Err(VerifyError::WrongProgram { .. })), "{refused:?}");

        // Nor does it help to rewrite the name in the envelope.
        let mut renamed = fixture.proof.clone();
        renamed[6..38].copy_from_slice(&other);
        let refused = verify(System::Risc0, other, &renamed, &NOTHING_ACCEPTED);
        assert!(matches!(refused, Err(VerifyError::Invalid(_))), "{refused:?}");
    }
}

#[test]
fn an_assumption_that_is_not_proven_is_refused() {
    let fixture = Fixture::named("dev-block.composite");
    let words = HEADER + fixture.public_values.len() + 4;
    let words = fixture.proof[words..words + 4].try_into().expect("4 bytes");
    let assumptions =
        HEADER + fixture.public_values.len() + 8 + 4 * u32::from_le_bytes(words) as usize;
    assert_eq!(fixture.proof[assumptions], 1, "the keccak accelerator's");
    // Left out, or claimed and not proven: its claim, the recursion programs it names, the proof of it.
    let mut without = fixture.proof[..=assumptions].to_vec();
    without[assumptions] = 0;
    let refused = fixture.verify(&without);
    assert!(matches!(refused, Err(VerifyError::Invalid(_))), "{refused:?}");
    let seal = assumptions + 1 + 64 + 32 + 1 + 8 * 32 + 4;
    let sample = (seal..fixture.proof.len()).step_by(40_009);
    let positions = (assumptions + 1..seal).step_by(31).chain(seal..seal + 8);
    fixture.refuses_flips_at(&positions.chain(sample).collect::<Vec<_>>());
}

#[test]
fn segments_that_are_repeated_or_added_are_refused() {
    let fixture = Fixture::named("dev-block.composite");
    let count = HEADER + fixture.public_values.len();
    let words = fixture.proof[count + 4..count + 8].try_into().expect("4 bytes");
    let end = count + 8 + 4 * u32::from_le_bytes(words) as usize;
    // The same segment before itself: with the memory root that it begins with, or with one that it does not.
    for root in [[0; 32], fixture.program_id] {
        let (before, after) = (&fixture.proof[..count], &fixture.proof[count + 4..]);
        let first = &fixture.proof[count + 4..end];
        let proof = [before, &2_u32.to_le_bytes(), first, &root, after].concat();
        let refused = fixture.verify(&proof);
        assert!(matches!(refused, Err(VerifyError::Invalid(_))), "{refused:?}");
    }
}

#[test]
fn a_shorter_or_longer_proof_is_refused() {
    let fixture = Fixture::read();
    let proof = &fixture.proof;
    for proof in
        [&proof[..proof.len() - 1], &proof[..proof.len() - 4], &[proof, &[0; 4][..]].concat()]
    {
        let refused = fixture.verify(proof);
        assert!(matches!(refused, Err(VerifyError::Malformed { .. })), "{refused:?}");
    }
}
