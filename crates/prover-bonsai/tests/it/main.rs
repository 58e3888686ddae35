//! The client of an engine against a scripted one that fails in every way that was seen of engines (docs/engines.md), and in
//! some that were not. Its receipts are real proofs of the pinned program.

mod engine;
mod faults;
mod receipts;
mod restarts;
mod tls;
mod trust;

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use alloy_primitives::B256;
use client::prover::{Cancel, Execution, Progress, ProofKind, ProofSystem};
use client::{ProveError, Prover};
use prover_bonsai::{BonsaiProver, Config};

use engine::Engine;
use receipts::Real;

/// What is proven in all tests: what runs the program here is told that it yields the statement of the real proof.
const INPUT: &[u8] = b"an input";

/// Runs nothing: knows the statement.
struct Known(Vec<u8>);

impl Prover for Known {
    fn system(&self) -> ProofSystem {
        ProofSystem::Exec
    }

    fn program_id(&self) -> B256 {
        B256::ZERO
    }

    fn danger(&self) -> Option<&str> {
        Some("test")
    }

    fn prove(
        &self,
        _: &[u8],
        _: ProofKind,
        _: &Cancel,
        _: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<Vec<u8>, ProveError> {
        Err(ProveError::Failed("it proves nothing".into()))
    }

    fn execute(&self, input: &[u8]) -> Result<Execution, ProveError> {
        match input {
            b"refused" => Err(ProveError::BadInput("the program refuses it".to_owned())),
            _ => Ok(Execution { public_values: self.0.clone(), cycles: None }),
        }
    }
}

/// Hasty: what takes minutes in life takes milliseconds here.
fn hasty(url: &str, sessions: &Path) -> Config {
    Config {
        poll_min: Duration::from_millis(10),
        poll_max: Duration::from_millis(40),
        progress_deadline: Duration::from_secs(20),
        patience: Duration::from_secs(10),
        answer_timeout: Duration::from_secs(5),
        transfer_timeout: Duration::from_secs(5),
        ..Config::new(url.parse().expect("a URL"), sessions.join("sessions"))
    }
}

/// A prover on an engine, with a folder of its own.
struct Bench {
    folder: tempfile::TempDir,
    real: Real,
    config: Config,
}

impl Bench {
    fn new(engine: &Engine) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let config = hasty(&engine.url(), folder.path());
        Self { folder, real: Real::dev_block(), config }
    }

    fn prover(&self) -> BonsaiProver {
        let local = Arc::new(Known(self.real.statement.clone()));
        BonsaiProver::with_local(self.config.clone(), local).expect("it can be used so")
    }

    fn prove(&self) -> Result<Vec<u8>, ProveError> {
        self.prover().prove(INPUT, ProofKind::Succinct, &Cancel::new(), &|_| {})
    }

    /// Panics unless it is proven, with the very proof that is checked in.
    fn proves(&self) {
        let proof = self.prove().unwrap_or_else(|error| panic!("{error}"));
        assert!(proof == self.real.proof, "it is another proof");
        assert_eq!(self.kept(), 0, "the session is forgotten");
    }

    /// The text of the failure.
    fn fails(&self) -> String {
        let error = self.prove().expect_err("there is no proof");
        format!("{}: {error}", error.class())
    }

    /// Notes of sessions in the folder.
    fn kept(&self) -> usize {
        let files = fs::read_dir(&self.config.sessions).expect("the folder is there");
        let paths = files.map(|file| file.expect("a file").path());
        paths.filter(|path| path.extension().is_some_and(|is| is == "json")).count()
    }
}

fn dev_receipt() -> Vec<u8> {
    Real::dev_block().sent()
}

#[track_caller]
fn contains(text: &str, all: &[&str]) {
    for words in all {
        assert!(text.contains(words), "{words:?} is missing: {text}");
    }
}

#[test]
fn a_proof_takes_program_input_session_receipt_and_no_more() {
    let engine = Engine::new(dev_receipt());
    let bench = Bench::new(&engine);
    let phases = Mutex::new(Vec::new());
    let progress = |phase| phases.lock().unwrap().push(phase);
    let proof = bench.prover().prove(INPUT, ProofKind::Succinct, &Cancel::new(), &progress);
    assert!(proof.unwrap() == bench.real.proof);
    let phases = phases.into_inner().unwrap();
    assert!(phases.contains(&Progress::Segment { done: 2, total: 3 }), "{phases:?}");

    let id = alloy_primitives::hex::encode(verifier::RISC0_PROGRAM_ID);
    engine.memory(|memory| {
        let expected = [
            format!("GET /images/upload/{id}"),
            format!("PUT /images/upload/{id}"),
            "GET /inputs/upload".to_owned(),
            "PUT /inputs/upload/input-1".to_owned(),
            "POST /sessions/create".to_owned(),
            "GET /sessions/status/s1".to_owned(),
            "GET /sessions/status/s1".to_owned(),
            "GET /sessions/status/s1".to_owned(),
            "GET /receipts/stark/receipt/s1".to_owned(),
        ];
        // In particular none of the paths on which r0vm's handlers panic.
        assert_eq!(memory.lines(), expected);
        assert_eq!(memory.inputs["input-1"][..], *b"\x08\0\0\0an input");
        let binary = risc0_binfmt::compute_image_id(&memory.programs[&id]).unwrap();
        assert_eq!(binary.as_bytes(), verifier::RISC0_PROGRAM_ID);
        let create: serde_json::Value = serde_json::from_slice(&memory.calls[4].body).unwrap();
        let expected = serde_json::json!({
            "img": id,
            "input": "input-1",
            "assumptions": [],
            "execute_only": false,
            "exec_cycle_limit": null,
            "proof_mode": "succinct",
        });
        assert_eq!(create, expected);
        assert_eq!(memory.calls[0].headers["x-risc0-version"], "3.0.6");
        assert!(!memory.calls[0].headers.contains_key("x-api-key"));
    });

    // The second time the engine has the program.
    bench.proves();
    assert_eq!(engine.memory(|memory| memory.count("PUT /images")), 1);
}

#[test]
fn what_no_engine_can_prove_is_not_sent_to_one() {
    let engine = Engine::new(dev_receipt());
    let bench = Bench::new(&engine);
    let prove = |input, kind| {
        let error = bench.prover().prove(input, kind, &Cancel::new(), &|_| {}).unwrap_err();
        format!("{}: {error}", error.class())
    };
    contains(&prove(b"refused", ProofKind::Succinct), &["guest_panic", "the program refuses it"]);
    contains(&prove(INPUT, ProofKind::Composite), &["backend_unavailable", "--kind succinct"]);
    assert_eq!(engine.memory(|memory| memory.calls.len()), 0);
    // The program is run here, also when it is not to be proven.
    let execution = bench.prover().execute(INPUT).unwrap();
    assert_eq!(execution.public_values, bench.real.statement);
    assert_eq!(engine.memory(|memory| memory.calls.len()), 0);
}

#[test]
fn a_self_test_asks_the_engine() {
    let mut engine = Engine::new(dev_receipt());
    let bench = Bench::new(&engine);
    bench.prover().self_test().unwrap();
    assert_eq!(engine.memory(|memory| memory.calls.len()), 1);
    engine.go();
    let error = bench.prover().self_test().unwrap_err().to_string();
    contains(&error, &["engine http://127.0.0.1", "cannot be reached", "start it"]);
}
