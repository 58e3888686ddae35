//! The pinned guest in RISC Zero's executor: it gives the same result as the native program, at a known cost.

use client::{Cancel, PERMUTATION_CYCLES, Progress, ProveError, Prover};
use devnode::{Chain, Kind, Traffic, TrafficConfig, genesis};
use expect_test::expect_file;
use program::phase::Phase;
use program::senders::Hint;
use prover_risc0::{Config, Risc0Prover, measure};
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

/// Inputs of the first blocks of a dev chain, all in one batch.
fn batch(kinds: &[Kind], blocks: u64, per_block: usize) -> Vec<u8> {
    let mut chain = Chain::new(&genesis::dev()).unwrap();
    let config = TrafficConfig { seed: 1, per_block, kinds: kinds.to_vec(), stop_after: None };
    let mut traffic = Traffic::new(config);
    for _ in 0..blocks {
        traffic.fill(&mut chain).unwrap();
        chain.mine(chain.head().timestamp + 2).unwrap();
    }
    let (input, pre_state_root) = chain.input(1..=blocks).unwrap();
    input.encode(pre_state_root).unwrap()
}

/// Cycle counts are exact. A change of this table is a change of what a proof costs: say why in the commit.
#[test]
fn the_guest_agrees_with_the_native_program_at_known_cost() {
    let mixed = inputs(&Kind::ALL, 3, 8);
    let mut rows = vec![
        ("one transfer".to_owned(), inputs(&[Kind::Transfer], 1, 1).remove(0)),
        ("deployment".to_owned(), mixed[0].clone()),
        ("mixed".to_owned(), mixed[2].clone()),
        ("precompiles".to_owned(), inputs(&[Kind::Precompile], 1, 8).remove(0)),
    ];
    rows.extend(
        [1, 2, 4, 8, 16]
            .map(|blocks| (format!("tokens, {blocks} blocks"), batch(&[Kind::Token], blocks, 8))),
    );
    let mut table = String::from(
        "# What generated blocks cost\n\nWritten by `UPDATE_EXPECT=1 cargo nextest run --release -p l2 -p prover-risc0 \
         --features l2/build_zkvm -E 'test(at_known_cost)'`, which\nfails when a figure moves. User cycles, by phase in \
         the last columns.\n\n| input | gas | user | total | all in / gas | price / gas | keccak | SHA-256 | big integers | in software |",
    );
    for phase in Phase::ALL {
        table += &format!(" {} |", phase.name());
    }
    table += &format!(" outside |\n|{}\n", "---|".repeat(11 + Phase::ALL.len()));
    for (name, input) in rows {
        let outcome = program::run_detailed(&input).unwrap();
        let measured = measure(None, &input, 20, None).unwrap();
        assert_eq!(measured.public_values, outcome.statement.abi_encode(), "{name}");
        // A change that disconnects an accelerator shows here, by name.
        for (accelerator, calls) in [
            ("keccak", measured.keccak_permutations),
            ("SHA-256", measured.sha256_calls),
            ("big-integer (secp256k1)", measured.bigint_calls),
        ] {
            assert!(calls > 0, "{name}: nothing went through the {accelerator} accelerator");
        }
        let gas: u64 = outcome.blocks.iter().map(|block| block.gas_used).sum();
        let all_in = (measured.total + measured.keccak_cycles()) as f64 / gas as f64;
        let permutations = measured.keccak_permutations * PERMUTATION_CYCLES;
        let price = (measured.total + permutations) as f64 / gas as f64;
        table += &format!(
            "| {name} | {gas} | {} | {} | {all_in:.1} | {price:.1} | {} | {} | {} | {} |",
            measured.user,
            measured.total,
            measured.keccak_permutations,
            measured.sha256_calls,
            measured.bigint_calls,
            measured.software_calls.values().sum::<u64>(),
        );
        for (_, cycles) in &measured.phases {
            table += &format!(" {} |", cycles.user);
        }
        table += &format!(" {} |\n", measured.outside.user);
    }
    expect_file!["../../../docs/cycles.md"].assert_eq(&table);
}

#[test]
fn an_input_that_the_program_refuses_has_no_proof() {
    let mut input = inputs(&[Kind::Transfer], 1, 1).remove(0);
    // The last node of the last storage trie or account trie: its hash no longer fits.
    let last = input.len() - 5;
    input[last] ^= 1;
    let native = program::run(&input).unwrap_err();
    // Dev mode first: if the guest did commit to something, a real proof would take minutes.
    for dev_mode in [true, false] {
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
fn a_sender_that_the_host_makes_up_has_no_proof() {
    let mut chain = Chain::new(&genesis::dev()).unwrap();
    let config =
        TrafficConfig { seed: 5, per_block: 6, kinds: Kind::ALL.to_vec(), stop_after: None };
    Traffic::new(config).fill(&mut chain).unwrap();
    chain.mine(chain.head().timestamp + 2).unwrap();
    let (input, root) = chain.input(1..=1).unwrap();
    let guest = prover(false);
    let run = |hints: &[Hint]| {
        let input = input.encode_with_hints(root, hints).unwrap();
        let native = program::run(&input).map(|statement| statement.abi_encode());
        match (native, guest.execute(&input)) {
            (Ok(native), Ok(execution)) => {
                assert_eq!(execution.public_values, native);
                Ok(execution.cycles.unwrap().user)
            }
            (Err(native), Err(ProveError::BadInput(reason))) => {
                assert!(reason.contains(&native.to_string()), "{reason}, natively {native}");
                Err(native)
            }
            (native, guest) => panic!("natively {native:?}, in the guest {guest:?}"),
        }
    };
    let honest = input.hints();
    let cycles = run(&honest).unwrap();
    // A forged key, a stranger's, none, one off the curve; a key and a y of the nonce point from elsewhere.
    let stranger = honest.iter().find(|hint| hint[..64] != honest[0][..64]).unwrap();
    for index in [0, honest.len() - 1] {
        let was = honest[index];
        let other = if was[..64] == stranger[..64] { honest[0] } else { *stranger };
        let mut off_curve = was;
        off_curve[63] ^= 1;
        for forged in [other, [0; 96], [0xff; 96], off_curve] {
            let mut hints = honest.clone();
            hints[index] = forged;
            let refused = run(&hints);
            assert_eq!(refused, Err(program::Error::SenderHint { number: 1, index }));
        }
    }
    // A wrong nonce point shows nothing: senders are recovered, which takes longer.
    let mut hints = honest.clone();
    hints[0][95] ^= 1;
    assert!(run(&hints).unwrap() > cycles);
}

/// About one in this many inputs of [`conformance::extremes`] runs in the zkVM.
const EXTREMES: u64 = 12;
/// Maximum gas of a block that the zkVM executes in seconds, in the memory that it has.
const MOST_GAS: u64 = 500_000_000;

#[test]
fn what_a_hostile_prover_would_try_comes_to_the_same_in_the_guest() {
    let guest = prover(false);
    let mut ran = 0;
    for case in conformance::extremes::spread(EXTREMES) {
        let native = program::run_detailed(&case.input);
        let gas = |outcome: &program::Outcome| -> u64 {
            outcome.blocks.iter().map(|block| block.gas_used).sum()
        };
        if native.as_ref().is_ok_and(|outcome| gas(outcome) > MOST_GAS) {
            continue;
        }
        ran += 1;
        match (native, guest.execute(&case.input)) {
            (Ok(outcome), Ok(execution)) => {
                let native = outcome.statement.abi_encode();
                assert_eq!(execution.public_values, native, "{}", case.name);
            }
            (Err(error), Err(ProveError::BadInput(reason))) => {
                assert!(reason.contains(&error.to_string()), "{}: {reason}", case.name);
            }
            (native, guest) => panic!("{}: natively {native:?}, but {guest:?}", case.name),
        }
    }
    assert!(ran > 40, "the spread has shrunk to {ran} inputs");
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
