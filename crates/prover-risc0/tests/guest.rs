//! The pinned guest in RISC Zero's executor: it says what the native program says, and what it costs is known.

use client::{Cancel, Progress, ProveError, Prover};
use devnode::{Chain, Kind, Traffic, TrafficConfig, genesis};
use expect_test::expect;
use prover_risc0::{Config, Risc0Prover};
use verifier::{Policy, RISC0_PROGRAM_ID, System, VerifyError};

/// Inputs of the first `blocks` blocks of a dev chain with this traffic, one for each block.
fn inputs(kinds: &[Kind], blocks: u64, per_block: usize) -> Vec<Vec<u8>> {
    let mut chain = Chain::new(&genesis::dev()).unwrap();
    let config = TrafficConfig { seed: 1, per_block, kinds: kinds.to_vec(), stop_after: None };
    let mut traffic = Traffic::new(config);
    (1..=blocks)
        .map(|number| {
            traffic.fill(&mut chain).unwrap();
            chain.mine(chain.head().timestamp + 2).unwrap();
            let (input, pre_state_root) = chain.input(number..=number).unwrap();
            input.encode(pre_state_root).unwrap()
        })
        .collect()
}

fn prover(dev_mode: bool) -> Risc0Prover {
    Risc0Prover::new(Config { dev_mode, ..Config::default() }).unwrap()
}

/// Cycle counts are exact. A change of this table is a change of what a proof costs: say why in the commit.
#[test]
fn the_guest_agrees_with_the_native_program_at_known_cost() {
    let mut table = String::from("block         user cycles  keccak permutations\n");
    let transfers = inputs(&[Kind::Transfer], 1, 1);
    let mixed = inputs(&Kind::ALL, 3, 8);
    for (name, input) in
        [("one transfer", &transfers[0]), ("deployment", &mixed[0]), ("mixed", &mixed[2])]
    {
        let execution = prover(false).execute(input).unwrap();
        assert_eq!(execution.public_values, program::run(input).unwrap().abi_encode(), "{name}");
        let cycles = execution.cycles.unwrap();
        let permutations = cycles.keccak_permutations.unwrap();
        table += &format!("{name:<12} {:>12} {permutations:>20}\n", cycles.user);
    }
    expect![[r#"
        block         user cycles  keccak permutations
        one transfer       655292                   74
        deployment       11459296                  537
        mixed             5721022                  775
    "#]]
    .assert_eq(&table);
}

#[test]
fn an_input_that_the_program_refuses_has_no_proof() {
    let mut input = inputs(&[Kind::Transfer], 1, 1).remove(0);
    // The last node of the last storage trie or account trie: its hash no longer fits.
    let last = input.len() - 5;
    input[last] ^= 1;
    let native = program::run(&input).unwrap_err();
    for dev_mode in [false, true] {
        let refused = prover(dev_mode).prove(
            &input,
            client::prover::ProofKind::Succinct,
            &Cancel::new(),
            &|_: Progress| {},
        );
        match refused {
            Err(ProveError::BadInput(reason)) => {
                assert!(reason.contains(&native.to_string()), "{reason}, natively {native}");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_dev_mode_proof_is_refused_unless_it_is_asked_for() {
    let input = inputs(&[Kind::Transfer], 1, 1).remove(0);
    let proof = prover(true)
        .prove(&input, client::prover::ProofKind::Succinct, &Cancel::new(), &|_: Progress| {})
        .unwrap();
    let verify =
        |policy: &Policy| verifier::verify(System::Risc0, RISC0_PROGRAM_ID, &proof, policy);
    assert_eq!(verify(&Policy::default()), Err(VerifyError::DevModeRefused));
    let accepted = verify(&Policy { danger_accept_dev_mode: true, ..Policy::default() }).unwrap();
    assert_eq!(accepted.public_values, program::run(&input).unwrap().abi_encode());
}
