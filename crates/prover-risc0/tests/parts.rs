//! Proofs in parts: the plan, each kind of part, the proof that comes of them, and what is refused.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use client::prover::{PartFiles, PartWork, ProofKind};
use client::{Cancel, ExecProver, FailureClass, Progress, ProofSystem, ProveError, Prover};
use devnode::{Chain, Kind, Traffic, TrafficConfig, genesis};
use prover_risc0::{Config, Risc0Prover};
use verifier::{Claim, Plan, Policy, RISC0_PROGRAM_ID, System, VerifyError, verify, verify_part};

const DEV_MODE: Policy = Policy { danger_accept_exec: false, danger_accept_dev_mode: true };
const ACCEPT_ALL: Policy = Policy { danger_accept_exec: true, danger_accept_dev_mode: true };

/// The input of the first block of a dev chain, with so many transfers.
fn input(transfers: usize) -> Vec<u8> {
    let mut chain = Chain::new(&genesis::dev()).unwrap();
    let kinds = vec![Kind::Transfer];
    let config = TrafficConfig { seed: 1, per_block: transfers, kinds, stop_after: None };
    if transfers > 0 {
        Traffic::new(config).fill(&mut chain).unwrap();
    }
    chain.mine(chain.head().timestamp + 2).unwrap();
    let (input, root) = chain.input(1..=1).unwrap();
    input.encode(root).unwrap()
}

/// A run that several clients prove: its files, and a prover.
struct Shared {
    folder: tempfile::TempDir,
    prover: Box<dyn Prover>,
    plan: Plan,
}

impl Shared {
    fn new(input: &[u8], segment_po2: u32) -> Self {
        let config = Config { segment_po2, dev_mode: true };
        Self::by(Box::new(Risc0Prover::new(config).unwrap()), input, segment_po2)
    }

    fn by(prover: Box<dyn Prover>, input: &[u8], segment_po2: u32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("input"), input).unwrap();
        let plan = prover.plan(&folder.path().join("input"), segment_po2).unwrap();
        fs::write(folder.path().join("plan"), &plan).unwrap();
        Self { folder, prover, plan: Plan::decode(&plan).unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn files(&self, work: PartWork, proofs: &[&str]) -> PartFiles {
        PartFiles {
            work,
            segment_po2: self.plan.segment_po2,
            plan: self.path("plan"),
            proofs: proofs.iter().map(|name| self.path(name)).collect(),
        }
    }

    fn prove(&self, part: &PartFiles) -> Result<Vec<u8>, ProveError> {
        self.prover.prove_part(&self.path("input"), part, &Cancel::new(), &|_| {})
    }

    /// Makes a part and keeps its proof under its name.
    fn make(&self, work: PartWork, proofs: &[&str]) -> String {
        let proof = self.prove(&self.files(work, proofs)).unwrap();
        fs::write(self.path(&work.to_string()), proof).unwrap();
        work.to_string()
    }

    /// Verifies the proof of a part.
    fn verify(&self, claim: &Claim, proof: &[u8], policy: &Policy) -> Result<(), VerifyError> {
        let system = self.system();
        verify_part(system, system.program_id(), &self.plan, claim, proof, policy)
    }

    fn system(&self) -> System {
        if self.prover.system() == ProofSystem::Exec { System::Exec } else { System::Risc0 }
    }

    fn proof(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }

    fn refused(&self, work: PartWork, proofs: &[&str]) -> String {
        let refused = self.prove(&self.files(work, proofs)).unwrap_err();
        assert_eq!(refused.class(), FailureClass::BackendFailed, "{refused}");
        refused.to_string()
    }
}

/// Splits `0..end` into pieces that are powers of two, each from a multiple of it on, of at most `most`.
fn pieces(end: u32, most: u32) -> Vec<(u32, u32)> {
    let (mut first, mut pieces) = (0, Vec::new());
    while first < end {
        let mut length = most;
        while !first.is_multiple_of(length) || first + length > end {
            length /= 2;
        }
        pieces.push((first, first + length));
        first += length;
    }
    pieces
}

fn names(names: &[String]) -> Vec<&str> {
    names.iter().map(String::as_str).collect()
}

#[test]
fn several_clients_make_one_proof() {
    make_one_proof(&Shared::new(&input(200), 20));
}

#[test]
fn several_clients_make_one_proof_that_proves_nothing_without_a_zkvm() {
    let run = Shared::by(Box::new(ExecProver), &input(1), 16);
    let (segments, batches) = (run.plan.segments(), run.plan.batches());
    assert!((3..=20).contains(&segments), "{segments} segments");
    assert!((2..=6).contains(&batches), "{batches} batches");
    make_one_proof(&run);
}

fn make_one_proof(run: &Shared) {
    let (segments, batches) = (run.plan.segments(), run.plan.batches());
    assert!(segments >= 3 && batches >= 2, "{segments} segments, {batches} batches");
    let third = segments / 3;
    let ranges = [(0, third), (third, 2 * third), (2 * third, segments)];
    let parts = ranges.map(|(first, end)| run.make(PartWork::Segments { first, end }, &[]));
    for ((first, end), part) in ranges.into_iter().zip(&parts) {
        let claim = Claim::Segments(first..end);
        assert_eq!(run.verify(&claim, &run.proof(part), &ACCEPT_ALL), Ok(()));
        let refused = run.verify(&claim, &run.proof(part), &Policy::default());
        let expected = [VerifyError::DevModeRefused, VerifyError::ExecRefused];
        assert!(refused.is_err_and(|refused| expected.contains(&refused)));
    }
    let joined = PartWork::Join { first: 0, end: 2 * third };
    let joined = run.make(joined, &[&parts[0], &parts[1]]);
    let mut united = String::new();
    for most in [1, 2] {
        let keccak: Vec<String> = pieces(batches, most)
            .into_iter()
            .map(|(first, end)| run.make(PartWork::Keccak { first, end }, &[]))
            .collect();
        united = run.make(PartWork::Unite { end: batches }, &names(&keccak));
        let whole = run.make(PartWork::Finish, &[&joined, &parts[2], &united]);
        let whole = run.proof(&whole);
        let system = run.system();
        let verified = verify(system, system.program_id(), &whole, &ACCEPT_ALL).unwrap();
        assert_eq!(verified.public_values, run.plan.public_values);
        let one =
            run.prover.prove_file(&run.path("input"), ProofKind::Succinct, &Cancel::new(), &|_| {});
        assert_eq!(whole, one.unwrap(), "it is the proof that one client would have made");
    }

    // What does not fit together.
    let all = PartWork::Join { first: 0, end: segments };
    let incomplete = "do not make up segments";
    for proofs in [
        vec![parts[0].as_str(), &parts[2], &parts[1]],
        vec![&parts[0], &parts[1]],
        vec![&parts[0], &parts[1], &parts[1], &parts[2]],
        vec![&parts[0], &parts[1], &parts[2], &united],
        vec![],
    ] {
        let refused = run.refused(all, &proofs);
        assert!(refused.contains(incomplete), "{refused}");
    }
    let short = run.refused(PartWork::Finish, &[&joined, &parts[2]]);
    assert!(short.contains("do not make up keccak"), "{short}");
    let beyond = PartWork::Segments { first: segments - 1, end: segments + 1 };
    let beyond = run.refused(beyond, &[]);
    assert!(beyond.contains("there is no part segments"), "{beyond}");

    // A proof that was touched is found out before it is used, wherever it was.
    let proof = run.proof(&parts[0]);
    for at in 0..proof.len() {
        let mut proof = proof.clone();
        proof[at] ^= 1 << (at % 8);
        fs::write(run.path("touched"), &proof).unwrap();
        run.refused(PartWork::Join { first: 0, end: 2 * third }, &["touched", &parts[1]]);
    }
}

#[test]
fn parts_of_another_run_are_refused() {
    let run = Shared::new(&input(1), 17);
    let others = [Shared::new(&input(2), 17), Shared::new(&input(1), 16)];
    let work = PartWork::Segments { first: 0, end: 2 };
    let part = run.proof(&run.make(work, &[]));
    for other in &others {
        // The other's plan with this input: nothing is proven.
        fs::write(run.path("other plan"), other.plan.encode()).unwrap();
        let mut files = run.files(work, &[]);
        files.plan = run.path("other plan");
        let refused = run.prove(&files).unwrap_err();
        assert_eq!(refused.class(), FailureClass::BackendFailed);
        let (text, mine) = (refused.to_string(), run.plan.segment_po2);
        if other.plan.segment_po2 == mine {
            assert!(text.contains("has other segments than the server's"), "{text}");
        } else {
            assert!(text.contains("segments of 2^17 cycles, and its plan of 2^16"), "{text}");
        }
        // Its part, for this run.
        let theirs = other.proof(&other.make(work, &[]));
        let claim = Claim::Segments(0..2);
        let check = |plan: &Plan, proof: &[u8]| {
            verify_part(System::Risc0, RISC0_PROGRAM_ID, plan, &claim, proof, &DEV_MODE)
        };
        assert_eq!(check(&run.plan, &part), Ok(()));
        assert!(matches!(check(&run.plan, &theirs), Err(VerifyError::Invalid(_))));
        assert!(matches!(check(&other.plan, &part), Err(VerifyError::Invalid(_))));
    }
    // A plan that is none, and one whose segments are of another size than the part says.
    fs::write(run.path("no plan"), b"L2PL").unwrap();
    let none = PartFiles { plan: run.path("no plan"), ..run.files(work, &[]) };
    assert_eq!(run.prove(&none).unwrap_err().class(), FailureClass::BackendFailed);
    let other_size = PartFiles { segment_po2: 18, ..run.files(work, &[]) };
    assert_eq!(run.prove(&other_size).unwrap_err().class(), FailureClass::BackendFailed);
}

#[test]
fn a_prover_makes_no_parts_with_segments_that_are_too_large_for_it() {
    let run = Shared::new(&input(0), 18);
    let smaller = Risc0Prover::new(Config { segment_po2: 17, dev_mode: true }).unwrap();
    assert_eq!(smaller.segment_po2(), Some(17));
    let files = run.files(PartWork::Segments { first: 0, end: 1 }, &[]);
    let refused = smaller.prove_part(&run.path("input"), &files, &Cancel::new(), &|_| {});
    let refused = refused.unwrap_err();
    assert_eq!(refused.class(), FailureClass::BackendUnavailable);
    let text = "segments of 2^18 cycles, and this prover is set up for at most 2^17";
    assert!(refused.to_string().contains(text), "{refused}");
    for po2 in [0, 15, 23, 40] {
        let refused = smaller.plan(&run.path("input"), po2).unwrap_err();
        assert_eq!(refused.class(), FailureClass::BackendUnavailable, "{refused}");
    }
}

#[test]
fn a_part_says_how_far_it_is_and_can_be_cancelled() {
    let run = Shared::new(&input(0), 17);
    let files = run.files(PartWork::Segments { first: 1, end: 3 }, &[]);
    let steps = Mutex::new(Vec::new());
    let progress = |step| steps.lock().unwrap().push(step);
    run.prover.prove_part(&run.path("input"), &files, &Cancel::new(), &progress).unwrap();
    let steps = steps.into_inner().unwrap();
    assert!(
        matches!(
            steps[..],
            [Progress::Executed { segments: 2, total_cycles: 262_144, later_steps: Some(3), .. }]
        ),
        "{steps:?}"
    );
    let cancel = Cancel::new();
    cancel.set();
    let refused = run.prover.prove_part(&run.path("input"), &files, &cancel, &|_| {});
    assert!(matches!(refused, Err(ProveError::Cancelled)));
    let unplanned = run.prover.prove(&[], ProofKind::Part, &Cancel::new(), &|_| {});
    assert!(matches!(unplanned, Err(ProveError::Unavailable(_))));
}

/// CPU seconds of this process and all its threads so far.
fn cpu_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let (_, fields) = stat.rsplit_once(')').unwrap();
    let ticks = |index: usize| -> f64 { fields.split(' ').nth(index).unwrap().parse().unwrap() };
    (ticks(12) + ticks(13)) / 100.0
}

/// Proves an empty dev block in parts, really, or the file `input` in the folder that the variable `PARTS` names, and prints what each step
/// takes. It writes its files to that folder, and takes up from there what an earlier call has proven. Those in `crates/verifier/tests/fixtures` are from
///
/// ```text
/// PARTS=FOLDER cargo nextest run --release -p l2 -p prover-risc0 --features l2/build_zkvm --test parts \
///     --run-ignored only --no-capture -E 'test(a_real_proof_in_parts)'
/// ```
#[test]
#[ignore = "proves for half an hour"]
#[expect(clippy::print_stdout, reason = "it is run to see what each step takes")]
fn a_real_proof_in_parts() {
    let folder = PathBuf::from(std::env::var_os("PARTS").expect("PARTS names a folder"));
    fs::create_dir_all(&folder).unwrap();
    let (input_file, plan_file) = (folder.join("input"), folder.join("part.plan"));
    if !input_file.exists() {
        fs::write(&input_file, input(0)).unwrap();
    }
    // The largest segments of which there are two at least.
    let prover = |segment_po2| Risc0Prover::new(Config { segment_po2, dev_mode: false }).unwrap();
    let planned = |po2| Plan::decode(&prover(po2).plan(&input_file, po2).unwrap()).unwrap();
    let plan = (16..=20).rev().map(planned).find(|plan| plan.segments() >= 2).unwrap();
    let (segment_po2, segments, batches) = (plan.segment_po2, plan.segments(), plan.batches());
    println!("{segments} segments of at most 2^{segment_po2}, {batches} batches");
    fs::write(&plan_file, plan.encode()).unwrap();
    let prover = prover(segment_po2);
    let part = |work: PartWork, name: &str, proofs: Vec<PathBuf>| -> PathBuf {
        let file = folder.join(name);
        if !file.exists() {
            let plan = plan_file.clone();
            let files = PartFiles { work, segment_po2, plan, proofs };
            let before = Mutex::new(cpu_seconds());
            let progress = |step| {
                let now = cpu_seconds();
                let took = now - std::mem::replace(&mut *before.lock().unwrap(), now);
                println!("{work}: {step:?} after {took:.1} CPU s");
            };
            let proof = prover.prove_part(&input_file, &files, &Cancel::new(), &progress);
            fs::write(&file, proof.unwrap()).unwrap();
        }
        file
    };
    let mut proofs = vec![
        part(PartWork::Segments { first: segments - 1, end: segments }, "part-last.proof", vec![]),
        part(PartWork::Keccak { first: 0, end: batches }, "part-keccak.proof", vec![]),
    ];
    let first = PartWork::Segments { first: 0, end: segments - 1 };
    proofs.insert(0, part(first, "part-first.proof", vec![]));
    let whole = part(PartWork::Finish, "whole.proof", proofs);
    let whole = fs::read(Path::new(&whole)).unwrap();
    let verified = verify(System::Risc0, RISC0_PROGRAM_ID, &whole, &Policy::default()).unwrap();
    assert_eq!(verified.public_values, plan.public_values);
}
