//! Golden files: what version 1 of each message looks like. A released file is never changed.

use alloy_primitives::B256;
use protocol::{
    Advice, ApiError, ArtifactRef, BlockRange, Capability, ErrorCode, Fail, FailAck, FailureClass,
    Gpu, Heartbeat, HeartbeatAck, NoWork, NoWorkReason, Origin, Part, PartWork, Progress,
    ProofData, ProofKind, ProofSystem, Request, Response, Submit, SubmitAck, Verdict,
};
use serde::{Serialize, de::DeserializeOwned};
use std::{fmt::Debug, fs, path::PathBuf};

/// Checks that `message` is written as the file says and that the file is read as `message`.
fn check<M: Serialize + DeserializeOwned + PartialEq + Debug>(name: &str, message: &M) {
    let path = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap())
        .join("tests/golden/v1")
        .join(format!("{name}.json"));
    let written = serde_json::to_string_pretty(message).unwrap() + "\n";
    if std::env::var_os("UPDATE_GOLDEN").is_some() && !path.exists() {
        fs::write(&path, &written).unwrap();
    }
    let golden = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    assert_eq!(written, golden, "{name}");
    assert_eq!(&serde_json::from_str::<M>(&golden).unwrap(), message, "{name}");
    // A later version may add a field.
    let mut more: serde_json::Value = serde_json::from_str(&golden).unwrap();
    more["a_field_of_version_9"] = true.into();
    assert_eq!(&serde_json::from_value::<M>(more).unwrap(), message, "{name}");
}

#[test]
fn version_1_is_spoken_as_it_always_was() {
    let client = "000102030405060708090a0b0c0d0e0f".parse().unwrap();
    let lease = "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff".parse().unwrap();
    let program_id = B256::repeat_byte(0xab);
    let capabilities = vec![Capability::new(ProofSystem::Risc0, program_id, false)];
    let request = Request { client, capabilities, wait_ms: 30_000, origin: None };
    check("request", &ProofData::Request(request.clone()));
    let instance = "101112131415161718191a1b1c1d1e1f".parse().unwrap();
    let origin = Some(Origin { instance, name: "rack 7".into(), host: "prover-7".into() });
    check("request_named", &ProofData::Request(Request { origin, ..request.clone() }));
    let kinds = vec![ProofKind::Part, ProofKind::Composite, ProofKind::Succinct];
    let helps = Capability { kinds, segment_po2: Some(20), ..request.capabilities[0].clone() };
    check(
        "request_for_parts",
        &ProofData::Request(Request { capabilities: vec![helps.clone()], ..request.clone() }),
    );
    let gpu = |name: &str, memory_bytes| Gpu { name: name.into(), memory_bytes };
    let described = Capability {
        engine: Some("risc0 3.1.0-rc.1 cuda".into()),
        memory_bytes: Some(64 << 30),
        gpus: vec![gpu("NVIDIA L4", 23_034 << 20), gpu("NVIDIA L4", 23_034 << 20)],
        ..helps
    };
    check(
        "request_described",
        &ProofData::Request(Request { capabilities: vec![described], ..request }),
    );
    let response = Response {
        job: "a0a1a2a3a4a5a6a7a8a9aaabacadaeaf".parse().unwrap(),
        lease,
        ttl_ms: 60_000,
        heartbeat_ms: 15_000,
        block_numbers: BlockRange::new(7, 9).unwrap(),
        system: ProofSystem::Risc0,
        program_id,
        kind: ProofKind::Composite,
        prover_inputs: ArtifactRef::of(b"input"),
        max_proof_bytes: None,
        traceparent: None,
        part: None,
    };
    check("response", &ProofData::Response(response.clone()));
    let max_proof_bytes = Some(1 << 30);
    let limited = Response { max_proof_bytes, ..response };
    check("response_limited", &ProofData::Response(limited.clone()));
    let traceparent = Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into());
    check("response_traced", &ProofData::Response(Response { traceparent, ..limited.clone() }));
    let proofs = vec![ArtifactRef::of(b"segments 0..4"), ArtifactRef::of(b"segments 4..6")];
    let part =
        |work, proofs| Some(Part { work, segment_po2: 20, plan: ArtifactRef::of(b"plan"), proofs });
    for (name, work, proofs) in [
        ("response_segments", PartWork::Segments { first: 4, end: 6 }, Vec::new()),
        ("response_join", PartWork::Join { first: 0, end: 6 }, proofs.clone()),
        ("response_finish", PartWork::Finish, proofs),
    ] {
        let part = part(work, proofs);
        let response = Response { kind: ProofKind::Part, part, ..limited.clone() };
        check(name, &ProofData::Response(response));
    }
    let reason = NoWorkReason::NothingReady;
    check("no_work", &ProofData::NoWork(NoWork { reason, retry_after_ms: 1_000 }));
    let reason = NoWorkReason::AnotherInstance;
    check("no_work_another_instance", &ProofData::NoWork(NoWork { reason, retry_after_ms: 1_000 }));
    check(
        "submit",
        &ProofData::Submit(Submit {
            client,
            lease,
            system: ProofSystem::Risc0,
            program_id,
            kind: ProofKind::Succinct,
            proof: ArtifactRef::of(b"proof"),
        }),
    );
    for (name, verdict) in [
        ("submit_ack_accepted", Verdict::Accepted),
        ("submit_ack_duplicate", Verdict::Duplicate),
        ("submit_ack_superseded", Verdict::Superseded),
        ("submit_ack_rejected", Verdict::Rejected { reason: "proves another statement".into() }),
        ("submit_ack_pending", Verdict::Pending { retry_after_ms: 500 }),
    ] {
        check(name, &ProofData::SubmitAck(SubmitAck { verdict }));
    }
    let progress = Some(Progress::Segment { done: 3, total: 12 });
    let beat = Heartbeat { client, lease, progress, instance: None };
    check("heartbeat", &ProofData::Heartbeat(beat.clone()));
    let instance = Some(instance);
    check("heartbeat_of_instance", &ProofData::Heartbeat(Heartbeat { instance, ..beat }));
    for (name, advice) in [
        ("heartbeat_ack_continue", Advice::Continue),
        ("heartbeat_ack_cancel", Advice::Cancel),
        ("heartbeat_ack_drain", Advice::Drain),
        ("heartbeat_ack_lost", Advice::Lost),
    ] {
        check(name, &ProofData::HeartbeatAck(HeartbeatAck { advice }));
    }
    let class = FailureClass::OutOfMemory;
    check("fail", &ProofData::Fail(Fail { client, lease, class, message: "9 GB wanted".into() }));
    check("fail_ack", &ProofData::FailAck(FailAck {}));
    check(
        "error",
        &ApiError {
            code: ErrorCode::NoSuchJob,
            message: "there is no job 00".into(),
            retryable: false,
            retry_after_ms: None,
        },
    );
}

#[test]
fn what_is_not_a_message_is_refused() {
    for (text, error) in [
        (r#"{"type":"Payment"}"#, "unknown variant `Payment`"),
        (r#"{"client":"00"}"#, "missing field `type`"),
        (
            r#"{"type":"Request","client":"../../x","capabilities":[]}"#,
            "a client id must be 32 lower-case hexadecimal",
        ),
        ("[]", "missing field `type`"),
    ] {
        let found = serde_json::from_str::<ProofData>(text).unwrap_err().to_string();
        assert!(found.contains(error), "{text}: {found}");
    }
}

#[test]
fn names_added_by_a_later_version_are_understood_as_other() {
    assert_eq!(
        serde_json::from_str::<FailureClass>(r#""moon_phase""#).unwrap(),
        FailureClass::ClientInternal
    );
    assert_eq!(
        serde_json::from_str::<NoWorkReason>(r#""moon_phase""#).unwrap(),
        NoWorkReason::Other
    );
    assert_eq!(serde_json::from_str::<ErrorCode>(r#""moon_phase""#).unwrap(), ErrorCode::Other);
    let progress: Progress = serde_json::from_str(r#"{"phase":"aligning","left":3}"#).unwrap();
    assert_eq!(progress, Progress::Other);
}

#[test]
fn a_request_is_served_for_the_proof_systems_that_are_known() {
    let id = format!("0x{}", "07".repeat(32));
    let request = |capabilities: serde_json::Value| {
        serde_json::from_value::<Request>(serde_json::json!({
            "client": "00112233445566778899aabbccddeeff",
            "capabilities": capabilities,
        }))
    };
    let later = serde_json::json!({"system": "sp9", "program_id": "of another form"});
    let known = serde_json::json!({"system": "risc0", "program_id": id});
    let both = request(serde_json::json!([later, known])).unwrap();
    assert_eq!(both.capabilities.len(), 1);
    assert_eq!(both.capabilities[0].system, ProofSystem::Risc0);
    assert!(request(serde_json::json!([later])).unwrap().capabilities.is_empty());
    // What is known must still be right.
    let wrong = serde_json::json!([later, {"system": "risc0", "program_id": "0x12"}]);
    assert!(request(wrong).is_err());
    assert!(request(serde_json::json!([{"program_id": id}])).is_err());
}

#[test]
fn every_failure_class_is_named_as_it_is_written() {
    for class in FailureClass::ALL {
        assert_eq!(serde_json::to_value(class).unwrap(), class.name());
    }
}

#[test]
fn a_text_of_a_client_has_no_character_that_is_not_seen() {
    use protocol::messages::{bounded, readable};
    // Format characters, those that nothing is drawn for, and directions of writing; a name of these alone is none.
    let unseen = [
        '\0',
        '\u{1b}',
        '\u{ad}',
        '\u{34f}',
        '\u{61c}',
        '\u{115f}',
        '\u{180e}',
        '\u{200b}',
        '\u{200d}',
        '\u{200f}',
        '\u{202e}',
        '\u{2060}',
        '\u{2066}',
        '\u{3164}',
        '\u{fe0f}',
        '\u{feff}',
        '\u{ffa0}',
        '\u{fffa}',
        '\u{e0041}',
        '\u{e01ef}',
    ];
    for c in unseen {
        assert_eq!(bounded(&format!("prover{c}-1")), "prover-1", "{c:?}");
        assert_eq!(readable(&format!("line 1{c}\n\tline 2")), "line 1\n\tline 2", "{c:?}");
    }
    for name in ["", " ", "\u{a0}\u{2003}\u{3000}", "\u{2800}", &unseen.iter().collect::<String>()]
    {
        assert_eq!(bounded(name), "", "{name:?}");
    }
    for name in [
        "rack 7, GPU 2 \u{fc}",
        "\u{30de}\u{30b7}\u{30f3}",
        "\u{645}\u{639}\u{627}\u{644}\u{62c}",
        "\u{1f980}",
    ] {
        assert_eq!(bounded(name), name);
    }
}
