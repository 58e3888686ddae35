//! Golden files: how version 1 of the prover protocol writes each message. A released file is never changed.

use alloy_primitives::B256;
use client::process::{
    Identity,
    messages::{Assignment, Hello, Message, Outcome, Work},
};
use client::prover::{PartFiles, PartWork};
use client::{Cycles, FailureClass, Measurement, PhaseCycles, Progress, ProofKind, ProofSystem};
use protocol::ArtifactRef;
use serde::{Serialize, de::DeserializeOwned};
use std::{fmt::Debug, fs, path::PathBuf};

/// Checks that `message` is written as the file says and that the file is read as `message`.
fn check<M: Serialize + DeserializeOwned + PartialEq + Debug>(name: &str, message: &M) {
    let path = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap())
        .join("tests/golden/prover-v1")
        .join(format!("{name}.json"));
    let written = serde_json::to_string_pretty(message).unwrap() + "\n";
    if std::env::var_os("UPDATE_GOLDEN").is_some() && !path.exists() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, &written).unwrap();
    }
    let golden = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    assert_eq!(written, golden, "{name}");
    assert_eq!(&serde_json::from_str::<M>(&golden).unwrap(), message, "{name}");
}

#[test]
fn version_1_is_spoken_as_it_always_was() {
    let hello = Hello { protocol: 1, name: "l2-prover-risc0".into(), version: "0.1.0".into() };
    check("hello", &Message::Hello(hello));
    let input = PathBuf::from("/data/inputs/7");
    let public_values = PathBuf::from("/tmp/a/public-values");
    let (kind, proof) = (ProofKind::Succinct, "/data/scratch/proof".into());
    let measure = Work::Measure {
        input: input.clone(),
        public_values: public_values.clone(),
        program: Some("/data/program.bin".into()),
        profile: Some("/data/profile.pb".into()),
    };
    let part = |work, proofs: &[&str]| PartFiles {
        work,
        segment_po2: 20,
        plan: "/data/inputs/8".into(),
        proofs: proofs.iter().map(PathBuf::from).collect(),
    };
    let prove_part =
        |part| Work::ProvePart { input: input.clone(), part, proof: "/data/scratch/proof".into() };
    let plan = Work::Plan { input: input.clone(), segment_po2: 20, plan: "/tmp/a/plan".into() };
    let segments = prove_part(part(PartWork::Segments { first: 3, end: 7 }, &[]));
    let finish = prove_part(part(PartWork::Finish, &["/data/inputs/9", "/data/inputs/10"]));
    for (name, work) in [
        ("assignment_plan", plan),
        ("assignment_prove_part", segments),
        ("assignment_prove_part_finish", finish),
        ("assignment_identify", Work::Identify),
        ("assignment_prove", Work::Prove { input: input.clone(), kind, proof }),
        ("assignment_execute", Work::Execute { input, public_values }),
        ("assignment_measure", measure),
        ("assignment_self_test", Work::SelfTest),
    ] {
        check(name, &Assignment { protocol: 1, parent: 4711, work });
    }

    check("progress", &Message::Progress(Progress::Segment { done: 1, total: 2 }));
    let artifact = ArtifactRef::of(b"bytes");
    let identity = Identity {
        system: ProofSystem::Risc0,
        program_id: B256::repeat_byte(0xab),
        aggregate_id: None,
        lacks: Vec::new(),
        kinds: vec![ProofKind::Composite, ProofKind::Succinct],
        danger: Some("dev mode".into()),
        segment_po2: None,
        engine: None,
    };
    let kinds = vec![ProofKind::Part, ProofKind::Composite, ProofKind::Succinct];
    let sharing = Identity { kinds, segment_po2: Some(20), danger: None, ..identity.clone() };
    let engine = Some("risc0 3.1.0-rc.1 cpu".into());
    let named = Identity { engine, ..sharing.clone() };
    let kinds = vec![ProofKind::Succinct, ProofKind::Aggregate];
    let aggregate_id = Some(B256::repeat_byte(0xa6));
    let folding = Identity {
        lacks: vec![(ProofKind::Groth16, "docker does not work here".into())],
        kinds,
        aggregate_id,
        ..named.clone()
    };
    let cycles = Cycles { user: 1, total: 2, segments: 3, keccak_permutations: Some(4) };
    let measurement = Measurement {
        public_values: Vec::new(),
        user: 1,
        paging: 2,
        total: 3,
        segments: 4,
        keccak_permutations: 5,
        keccak_cycles: 6,
        sha256_calls: 7,
        bigint_calls: 8,
        software_calls: [(9, 10)].into(),
        phases: vec![("input".into(), PhaseCycles { user: 11, paging: 12 })],
    };
    for (name, result) in [
        ("done_identity", Outcome::Identity(identity)),
        ("done_identity_parts", Outcome::Identity(sharing)),
        ("done_identity_engine", Outcome::Identity(named)),
        ("done_identity_folding", Outcome::Identity(folding)),
        ("done_proof", Outcome::Proof(artifact)),
        ("done_planned", Outcome::Planned(artifact)),
        ("done_executed", Outcome::Executed { public_values: artifact, cycles: Some(cycles) }),
        ("done_measured", Outcome::Measured { public_values: artifact, measurement }),
        ("done_healthy", Outcome::Healthy),
    ] {
        check(name, &Message::Done { result, peak_memory_bytes: Some(1 << 30) });
    }
    let failed = Message::Failed { class: FailureClass::GuestPanic, detail: "it is odd".into() };
    check("failed", &failed);
}

#[test]
fn a_later_version_may_add_fields_and_phases() {
    let hello = r#"{"hello":{"protocol":2,"name":"x","version":"9","more":1}}"#;
    let hello: Message = serde_json::from_str(hello).unwrap();
    assert!(matches!(hello, Message::Hello(Hello { protocol: 2, .. })), "{hello:?}");
    let progress = r#"{"progress":{"phase":"dancing","with":"stars"}}"#;
    let progress: Message = serde_json::from_str(progress).unwrap();
    assert_eq!(progress, Message::Progress(Progress::Other));
    let done = r#"{"done":{"result":"healthy","more":{}}}"#;
    let done: Message = serde_json::from_str(done).unwrap();
    assert_eq!(done, Message::Done { result: Outcome::Healthy, peak_memory_bytes: None });
}
