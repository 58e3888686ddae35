//! Proofs of consecutive batches, folded into one: what comes of them is what one batch of all blocks would state.

use client::prover::ProofKind;
use client::{Cancel, ExecProver, FailureClass, ProveError, Prover};
use devnode::{Chain, Kind, Traffic, TrafficConfig, genesis};
use prover_risc0::{Config, Risc0Prover};
use verifier::bundle::{self, Member};
use verifier::{Policy, RISC0_AGGREGATE_ID, RISC0_PROGRAM_ID, System, verify};

const ACCEPT_ALL: Policy = Policy { danger_accept_exec: true, danger_accept_dev_mode: true };

fn prover() -> Risc0Prover {
    Risc0Prover::new(Config { segment_po2: 18, dev_mode: true }).unwrap()
}

/// A dev chain of four blocks, with transfers in the second.
fn chain() -> Chain {
    let mut chain = Chain::new(&genesis::dev()).unwrap();
    for block in 1..=4 {
        if block == 2 {
            let kinds = vec![Kind::Transfer];
            let config = TrafficConfig { seed: 1, per_block: 3, kinds, stop_after: None };
            Traffic::new(config).fill(&mut chain).unwrap();
        }
        chain.mine(chain.head().timestamp + 2).unwrap();
    }
    chain
}

/// What a proof of these blocks commits to, and the proof.
fn proven(
    chain: &Chain,
    blocks: std::ops::RangeInclusive<u64>,
    by: &dyn Prover,
) -> (Vec<u8>, Vec<u8>) {
    let (input, root) = chain.input(blocks).unwrap();
    let input = input.encode(root).unwrap();
    let proof = by.prove(&input, ProofKind::Succinct, &Cancel::new(), &|_| {}).unwrap();
    (program::run(&input).unwrap().abi_encode(), proof)
}

fn bundled(proofs: &[&(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let member = |(public_values, proof): &&'_ (Vec<u8>, Vec<u8>)| -> Vec<u8> {
        let deposits = [[0; 32]; 2];
        bundle::encode(&[Member { public_values, deposits, proof }]).unwrap()[9..].to_vec()
    };
    let count = u32::try_from(proofs.len()).unwrap().to_le_bytes();
    let members: Vec<u8> = proofs.iter().flat_map(member).collect();
    [&b"L2BU\x01"[..], &count, &members].concat()
}

fn folded(by: &dyn Prover, bundle: &[u8]) -> Result<Vec<u8>, ProveError> {
    by.prove(bundle, ProofKind::Aggregate, &Cancel::new(), &|_| {})
}

#[test]
fn folded_proofs_state_what_one_batch_of_all_blocks_would() {
    let chain = chain();
    for (by, system) in [(&prover() as &dyn Prover, System::Risc0), (&ExecProver, System::Exec)] {
        let parts =
            [proven(&chain, 1..=1, by), proven(&chain, 2..=3, by), proven(&chain, 4..=4, by)];
        let (whole, _) = proven(&chain, 1..=4, by);
        let proof = folded(by, &bundled(&parts.each_ref())).unwrap();
        let verified = verify(system, system.aggregate_id(), &proof, &ACCEPT_ALL).unwrap();
        assert_eq!(verified.public_values, whole, "{system}");
        // One batch alone states the same as its own proof.
        let one = folded(by, &bundled(&[&parts[1]])).unwrap();
        let verified = verify(system, system.aggregate_id(), &one, &ACCEPT_ALL).unwrap();
        assert_eq!(verified.public_values, parts[1].0, "{system}");
    }
}

#[test]
fn a_folded_proof_is_none_of_the_program_and_the_other_way_round() {
    let by = prover();
    let part = proven(&chain(), 1..=1, &by);
    let proof = folded(&by, &bundled(&[&part])).unwrap();
    assert!(verify(System::Risc0, RISC0_PROGRAM_ID, &proof, &ACCEPT_ALL).is_err());
    assert!(verify(System::Risc0, RISC0_AGGREGATE_ID, &part.1, &ACCEPT_ALL).is_err());
    assert!(verify(System::Risc0, RISC0_AGGREGATE_ID, &proof, &Policy::default()).is_err());
    // What is folded is no proof of the program, and is not folded again.
    let again = (part.0, proof);
    let refused = folded(&by, &bundled(&[&again])).unwrap_err();
    assert!(refused.to_string().contains("proof 0 of the bundle is refused"), "{refused}");
}

#[test]
fn proofs_that_do_not_make_up_a_chain_are_refused_in_words() {
    let chain = chain();
    let mut other = Chain::new(&genesis::dev()).unwrap();
    other.mine(other.head().timestamp + 3).unwrap();
    for by in [&prover() as &dyn Prover, &ExecProver] {
        let [one, two, three] = [1, 2, 3].map(|block| proven(&chain, block..=block, by));
        let foreign = proven(&other, 1..=1, by);
        let swapped_proof = (one.0.clone(), two.1.clone());
        let mut damaged = two.clone();
        let at = damaged.1.len() - 1;
        damaged.1[at] ^= 1;
        damaged.1.truncate(at);
        for (bundle, says) in [
            (bundled(&[]), "0 statements cannot be folded"),
            (
                bundled(&[&one, &three]),
                "batch 1 does not continue the one before it: its parent hash differs",
            ),
            (bundled(&[&two, &one]), "batch 1 does not continue the one before it"),
            (bundled(&[&one, &one]), "batch 1 does not continue the one before it"),
            (bundled(&[&foreign, &two]), "batch 1 does not continue the one before it"),
            (bundled(&[&swapped_proof, &two]), "another statement than the bundle says"),
            (bundled(&[&one, &damaged]), ""),
            (bundled(&[&one])[..100].to_vec(), "malformed"),
            (b"L2P4".to_vec(), "not a bundle of proofs"),
        ] {
            let refused = folded(by, &bundle).unwrap_err();
            assert_eq!(refused.class(), FailureClass::GuestPanic, "{refused}");
            assert!(refused.to_string().contains(says), "{refused}: {says}");
        }
    }
}

/// The chain whose first three blocks the proofs that are checked in are of, and what `verifier`'s `dev-block.json` says that the first
/// states: it has one transfer; the other two are empty.
fn checked_in() -> (Vec<u8>, Chain) {
    let about = include_str!("../../verifier/tests/fixtures/dev-block.json");
    let (_, text) = about.split_once("\"public_values\": \"0x").unwrap();
    let first = hex::decode(text.split('"').next().unwrap()).unwrap();
    let begun = program::Statement::abi_decode(&first).unwrap().last_timestamp;
    let mut chain = Chain::new(&genesis::dev()).unwrap();
    let kinds = vec![Kind::Transfer];
    let config = TrafficConfig { seed: 1, per_block: 1, kinds, stop_after: None };
    Traffic::new(config).fill(&mut chain).unwrap();
    for block in 0..3 {
        chain.mine(begun + 2 * block).unwrap();
    }
    (first, chain)
}

/// What a proof that is checked in states, of whichever program it says that it is.
fn values(name: &str) -> Vec<u8> {
    let file = format!("{}/../verifier/tests/fixtures/{name}.proof", env!("CARGO_MANIFEST_DIR"));
    let proof = std::fs::read(file).unwrap();
    let program_id = proof[6..38].try_into().unwrap();
    verify(System::Risc0, program_id, &proof, &Policy::default()).unwrap().public_values
}

fn input(chain: &Chain, blocks: std::ops::RangeInclusive<u64>) -> Vec<u8> {
    let (input, root) = chain.input(blocks).unwrap();
    input.encode(root).unwrap()
}

#[test]
fn the_proofs_that_are_checked_in_are_of_one_chain_and_folded() {
    let (first, chain) = checked_in();
    let stated = |blocks| program::run(&input(&chain, blocks)).unwrap().abi_encode();
    assert_eq!(first, stated(1..=1));
    assert_eq!(first, values("dev-block"));
    for block in 1..=3 {
        let values = values(&format!("dev-block-{block}"));
        assert_eq!(values, stated(block..=block), "block {block}");
    }
    assert_eq!(values("folded"), stated(1..=3));
}

/// Writes the inputs of the three blocks into the folder INPUTS, for `l2-prover prove`.
#[test]
#[ignore = "only to make the proofs that are checked in"]
fn the_inputs_of_the_proofs_that_are_checked_in() {
    let folder = std::path::PathBuf::from(std::env::var_os("INPUTS").expect("INPUTS is a folder"));
    let (first, chain) = checked_in();
    assert_eq!(first, program::run(&input(&chain, 1..=1)).unwrap().abi_encode());
    for block in 1..=3 {
        let name = format!("dev-block-{block}.input");
        std::fs::write(folder.join(name), input(&chain, block..=block)).unwrap();
    }
}
