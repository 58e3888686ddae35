//! Proofs that prove nothing, and bytes that are no proofs, are refused.

use std::process::Command;

use proptest::prelude::*;
use risc0_zkvm::{Digest, FakeReceipt, InnerReceipt, MaybePruned, Receipt, ReceiptClaim};
use verifier::{
    EXEC_PROGRAM_ID, Kind, MAX_PROOF, MAX_PUBLIC_VALUES, Policy, RISC0_PROGRAM_ID, System,
    Verified, VerifyError, risc0, verify,
};

const PROGRAM: [u8; 32] = [7; 32];
const VALUES: &[u8] = b"the public values";

const ACCEPT_EXEC: Policy = Policy { danger_accept_exec: true, danger_accept_dev_mode: false };
const ACCEPT_DEV_MODE: Policy = Policy { danger_accept_exec: false, danger_accept_dev_mode: true };
const ACCEPT_ALL: Policy = Policy { danger_accept_exec: true, danger_accept_dev_mode: true };

/// A proof in our format; see the documentation of `verifier::risc0`.
fn envelope(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut proof = b"L2R0\x01".to_vec();
    proof.push(kind);
    proof.extend(PROGRAM);
    proof.extend(u32::try_from(VALUES.len()).expect("short").to_le_bytes());
    proof.extend(VALUES);
    proof.extend(body);
    proof
}

fn seal(words: u32) -> Vec<u8> {
    let mut seal = words.to_le_bytes().to_vec();
    seal.extend((0..words).flat_map(u32::to_le_bytes));
    seal
}

fn risc0(proof: &[u8], policy: &Policy) -> Result<Verified, VerifyError> {
    verify(System::Risc0, PROGRAM, proof, policy)
}

#[test]
fn an_exec_proof_is_refused_unless_the_policy_accepts_it() {
    for policy in [Policy::default(), ACCEPT_DEV_MODE] {
        let refused = verify(System::Exec, EXEC_PROGRAM_ID, VALUES, &policy);
        assert_eq!(refused, Err(VerifyError::ExecRefused));
    }
    let accepted = verify(System::Exec, EXEC_PROGRAM_ID, VALUES, &ACCEPT_EXEC);
    let expected = Verified { public_values: VALUES.to_vec(), kind: Kind::Exec, cycles: None };
    assert_eq!(accepted, Ok(expected));
}

#[test]
fn an_exec_proof_is_of_no_program_image() {
    let refused = verify(System::Exec, PROGRAM, VALUES, &ACCEPT_ALL);
    let expected = VerifyError::WrongProgram { expected: PROGRAM, found: EXEC_PROGRAM_ID };
    assert_eq!(refused, Err(expected));
}

#[test]
fn an_exec_proof_is_not_a_risc0_proof() {
    assert!(matches!(
        verify(System::Risc0, EXEC_PROGRAM_ID, VALUES, &ACCEPT_ALL),
        Err(VerifyError::Malformed { .. })
    ));
}

#[test]
fn a_dev_mode_proof_is_refused_unless_the_policy_accepts_it() {
    let proof = envelope(0, &[]);
    for policy in [Policy::default(), ACCEPT_EXEC] {
        assert_eq!(risc0(&proof, &policy), Err(VerifyError::DevModeRefused));
    }
    let expected = Verified { public_values: VALUES.to_vec(), kind: Kind::DevMode, cycles: None };
    assert_eq!(risc0(&proof, &ACCEPT_DEV_MODE), Ok(expected));
}

#[test]
fn the_environment_cannot_make_a_dev_mode_proof_acceptable() {
    let test = std::env::current_exe().expect("a test has an executable");
    let output = Command::new(test)
        .args([
            "--exact",
            "a_dev_mode_proof_is_refused_unless_the_policy_accepts_it",
            "seals_that_prove_nothing_are_refused",
        ])
        .env("RISC0_DEV_MODE", "1")
        .output()
        .expect("the test runs again");
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(told.contains("2 passed; 0 failed"), "{told}");
}

#[test]
fn a_dev_mode_receipt_encodes_to_the_documented_bytes() {
    let claim = ReceiptClaim::ok(Digest::from(PROGRAM), MaybePruned::Value(VALUES.to_vec()));
    let inner = InnerReceipt::Fake(FakeReceipt::new(claim));
    let receipt = Receipt::new(inner, VALUES.to_vec());
    assert_eq!(risc0::encode(PROGRAM, &receipt), Ok(envelope(0, &[])));
}

#[test]
fn a_proof_of_another_program_is_refused() {
    let refused = verify(System::Risc0, [8; 32], &envelope(0, &[]), &ACCEPT_ALL);
    let expected = VerifyError::WrongProgram { expected: [8; 32], found: PROGRAM };
    assert_eq!(refused, Err(expected.clone()));
    assert!(expected.to_string().contains("0x0707"), "{expected}");
}

#[test]
fn a_revoked_program_is_refused_by_name_as_a_proof_and_as_what_is_asked_for() {
    for revoked in verifier::REVOKED {
        let expected = VerifyError::Revoked { program_id: revoked.id, reason: revoked.reason };
        let mut proof = envelope(0, &[]);
        for system in [System::Exec, System::Risc0] {
            assert_eq!(verify(system, revoked.id, &proof, &ACCEPT_ALL), Err(expected.clone()));
        }
        proof[6..38].copy_from_slice(&revoked.id);
        assert_eq!(risc0(&proof, &ACCEPT_ALL), Err(expected));
    }
}

#[test]
fn seals_that_prove_nothing_are_refused() {
    let mut recursion = [0; 32 + 1 + 8 * 32].to_vec();
    recursion.extend(seal(60_000));
    let mut one_segment = 1_u32.to_le_bytes().to_vec();
    one_segment.extend(seal(60_000));
    one_segment.push(0);
    let mut assuming = 1_u32.to_le_bytes().to_vec();
    assuming.extend(seal(60_000));
    assuming.push(1);
    assuming.extend([0; 64]);
    assuming.extend(&recursion);
    let mut empty_seal = [0; 32 + 1 + 8 * 32].to_vec();
    empty_seal.extend(seal(0));
    for (kind, body) in [(2, recursion), (2, empty_seal), (1, one_segment), (1, assuming)] {
        let refused = risc0(&envelope(kind, &body), &ACCEPT_ALL);
        assert!(matches!(refused, Err(VerifyError::Invalid(_))), "{refused:?}");
    }
}

#[test]
fn a_seal_that_makes_the_verifier_panic_is_refused() {
    // One segment, whose seal has not even a version.
    let body = [&1_u32.to_le_bytes()[..], &seal(0), &[0]].concat();
    let refused = risc0(&envelope(1, &body), &ACCEPT_ALL);
    assert_eq!(refused, Err(VerifyError::Invalid("the verifier panicked".to_owned())));
}

#[test]
fn a_composite_proof_of_no_segments_is_refused() {
    let refused = risc0(&envelope(1, &[0; 5]), &ACCEPT_ALL);
    assert!(
        matches!(refused, Err(VerifyError::Malformed { what: "no segments", .. })),
        "{refused:?}"
    );
}

#[test]
fn every_truncation_and_every_extension_is_refused() {
    let proof = envelope(0, &[]);
    for end in 0..proof.len() {
        let refused = risc0(&proof[..end], &ACCEPT_ALL);
        assert!(matches!(refused, Err(VerifyError::Malformed { .. })), "{end}: {refused:?}");
    }
    let refused = risc0(&envelope(0, &[0]), &ACCEPT_ALL);
    assert!(matches!(refused, Err(VerifyError::Malformed { .. })), "{refused:?}");
}

#[test]
fn lengths_beyond_the_proof_are_refused_without_allocating() {
    for body in [[0xff; 4].to_vec(), [&[1, 0, 0, 0][..], &[0xff; 4]].concat()] {
        let refused = risc0(&envelope(1, &body), &ACCEPT_ALL);
        assert!(matches!(refused, Err(VerifyError::Malformed { .. })), "{refused:?}");
    }
}

#[test]
fn too_many_public_values_are_refused() {
    assert_eq!(MAX_PUBLIC_VALUES, 65_536);
    let judged = |count| verify(System::Exec, EXEC_PROGRAM_ID, &vec![0; count], &ACCEPT_ALL);
    assert!(judged(MAX_PUBLIC_VALUES).is_ok());
    for size in [MAX_PUBLIC_VALUES + 1, MAX_PUBLIC_VALUES + 2] {
        let limit = MAX_PUBLIC_VALUES;
        let expected = VerifyError::TooLarge { what: "public values", size, limit };
        assert_eq!(judged(size), Err(expected));
    }
}

#[test]
fn a_proof_beyond_the_limit_is_not_looked_at() {
    assert_eq!(MAX_PROOF, 1 << 30);
    // Never written to, so that it takes no memory.
    let proof = vec![0; MAX_PROOF + 2];
    for (size, what) in
        [(MAX_PROOF, "public values"), (MAX_PROOF + 1, "proof"), (MAX_PROOF + 2, "proof")]
    {
        match verify(System::Exec, EXEC_PROGRAM_ID, &proof[..size], &ACCEPT_ALL) {
            Err(VerifyError::TooLarge { what: found, .. }) => assert_eq!(found, what, "{size}"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn systems_and_kinds_have_the_names_that_messages_use() {
    for (name, system, program_id) in
        [("exec", System::Exec, EXEC_PROGRAM_ID), ("risc0", System::Risc0, RISC0_PROGRAM_ID)]
    {
        assert_eq!((system.to_string().as_str(), name.parse()), (name, Ok(system)));
        assert_eq!(system.program_id(), program_id);
    }
    let unknown = "sp1".parse::<System>().expect_err("there is none").to_string();
    assert_eq!(unknown, r#"unknown proof system "sp1": use exec or risc0"#);
    let kinds =
        [Kind::Exec, Kind::DevMode, Kind::Composite, Kind::Succinct].map(|kind| kind.to_string());
    assert_eq!(kinds, ["exec", "dev mode", "composite", "succinct"]);
}

proptest! {
    #[test]
    fn no_bytes_are_a_proof_or_a_panic(kind in 0_u8..4, body in proptest::collection::vec(any::<u8>(), 0..2000)) {
        prop_assert!(risc0(&body, &ACCEPT_ALL).is_err());
        prop_assert!(risc0(&envelope(kind, &body), &Policy::default()).is_err());
    }
}
