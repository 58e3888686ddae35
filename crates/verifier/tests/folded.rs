//! A real folded proof of the three real proofs beside it: it holds, each byte of it is bound, and it holds no earlier than when those
//! proofs have resolved its conditions.

use verifier::{
    Kind, Policy, RISC0_AGGREGATE_ID, RISC0_PROGRAM_ID, System, VerifyError, verify, verify_pinned,
};

fn proof(name: &str) -> Vec<u8> {
    let file = format!("{}/tests/fixtures/{name}.proof", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(file).expect("it is checked in")
}

/// The program that the three prove, and the one that folded them.
fn programs() -> [[u8; 32]; 2] {
    ["dev-block-2", "folded"].map(|name| proof(name)[6..38].try_into().expect("32 bytes"))
}

fn verified(program_id: [u8; 32], proof: &[u8]) -> Result<Vec<u8>, VerifyError> {
    let verified = verify(System::Risc0, program_id, proof, &Policy::default())?;
    assert_eq!(verified.kind, Kind::Succinct);
    Ok(verified.public_values)
}

#[test]
fn a_real_folded_proof_states_what_its_proofs_state_together() {
    let [program, aggregate] = programs();
    let [first, second, third] = ["dev-block-1", "dev-block-2", "dev-block-3"]
        .map(|name| verified(program, &proof(name)).unwrap());
    let whole = verified(aggregate, &proof("folded")).unwrap();
    let word = |of: &[u8], at: usize| of[32 * at..32 * at + 32].to_vec();
    for at in 0..14 {
        let expected = match at {
            // The hash, the number and the state after the last block, and its time.
            3 | 5 | 7 | 11 => &third,
            _ => &first,
        };
        assert_eq!(word(&whole, at), word(expected, at), "word {at}");
    }
    // Each begins with the hash and the state with which the one before it ended.
    for (before, after) in [(&first, &second), (&second, &third)] {
        assert_eq!((word(before, 3), word(before, 7)), (word(after, 2), word(after, 6)));
    }
}

#[test]
fn it_is_of_its_own_program() {
    let [program, aggregate] = programs();
    let refused = verified(program, &proof("folded"));
    assert!(matches!(refused, Err(VerifyError::WrongProgram { .. })), "{refused:?}");
    let refused = verified(aggregate, &proof("dev-block-2"));
    assert!(matches!(refused, Err(VerifyError::WrongProgram { .. })), "{refused:?}");
    // Whoever takes what is pinned is told which it is, and takes nothing else.
    let pinned = |name| verify_pinned(System::Risc0, &proof(name), &Policy::default());
    for (name, program) in [("dev-block", RISC0_PROGRAM_ID), ("folded", RISC0_AGGREGATE_ID)] {
        assert_eq!(pinned(name).unwrap().0, program);
    }
    let found = proof("mainnet-22615247")[6..38].try_into().expect("32 bytes");
    let refused = pinned("mainnet-22615247");
    assert_eq!(refused, Err(VerifyError::WrongProgram { expected: RISC0_PROGRAM_ID, found }));
    // Passed off as the other one.
    let mut posing = proof("dev-block-2");
    posing[6..38].copy_from_slice(&aggregate);
    assert!(matches!(verified(aggregate, &posing), Err(VerifyError::Invalid(_))));
}

#[test]
fn what_is_conditional_on_other_proofs_proves_nothing() {
    let [_, aggregate] = programs();
    let conditional = proof("folded-conditional");
    assert_eq!(conditional[..38], proof("folded")[..38], "the same program and kind");
    let refused = verified(aggregate, &conditional);
    assert!(matches!(refused, Err(VerifyError::Invalid(_))), "{refused:?}");
}

#[test]
fn no_byte_of_it_can_be_another() {
    let [_, aggregate] = programs();
    let good = proof("folded");
    // All of the envelope and of the statement, and samples of the seal, which is long.
    let all = (0..800).chain((800..good.len()).step_by(7_919)).chain([good.len() - 1]);
    for at in all {
        let mut bad = good.clone();
        bad[at] ^= 1;
        assert!(verified(aggregate, &bad).is_err(), "byte {at}");
    }
}
