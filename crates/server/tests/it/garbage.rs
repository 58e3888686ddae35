//! Bytes that are no proofs, handed in by somebody who has no lease: they stand before nobody, and cost their sender time.

use crate::common::{Chain, Echo, client_config, config, http, serve, until};
use client::Client;
use protocol::{
    ApiError, ArtifactRef, ClientId, ErrorCode, LeaseId, ProofData, ProofKind, ProofSystem, Submit,
    SubmitAck, Verdict,
};
use std::{sync::Arc, time::Duration};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_without_a_lease_is_slowed_down_and_real_proofs_are_not() {
    let (dir, chain) = (tempfile::tempdir().unwrap(), Chain::new(3));
    let server = serve(config(dir.path()), &chain).await;
    until("there are jobs", async || server.status().await.unwrap().counts.ready == 3).await;
    let jobs = server.status().await.unwrap().jobs;
    let http = http();
    let hand_in = async |job: &protocol::JobSummary, bytes: Vec<u8>| {
        let proof = ArtifactRef::of(&bytes);
        let path = protocol::paths::artifact(&proof.sha256);
        http.put(format!("{}{path}", server.url())).body(bytes).send().await.unwrap();
        let submit = ProofData::Submit(Submit {
            client: ClientId::from_bytes(rand::random()),
            lease: LeaseId::from_bytes(rand::random()),
            system: ProofSystem::Exec,
            program_id: alloy_primitives::B256::ZERO,
            kind: ProofKind::Composite,
            proof,
        });
        let path = protocol::paths::submit(&job.job);
        http.post(format!("{}{path}", server.url())).json(&submit).send().await.unwrap()
    };
    let verdict = async |answer: reqwest::Response| match answer.json().await.unwrap() {
        ProofData::SubmitAck(SubmitAck { verdict }) => verdict,
        other => panic!("{other:?}"),
    };
    let first = hand_in(&jobs[0], b"garbage 0".to_vec()).await;
    assert!(matches!(verdict(first).await, Verdict::Rejected { .. }));
    // 100 more: hardly one is looked at, and the sender hears when to try again.
    let mut refused = 0;
    for n in 1..=100 {
        let answer = hand_in(&jobs[0], format!("garbage {n}").into_bytes()).await;
        if answer.status() == 429 {
            refused += 1;
            assert!(answer.headers().contains_key("retry-after"));
            let error: ApiError = answer.json().await.unwrap();
            assert!(error.code == ErrorCode::RateLimited && error.retryable, "{error:?}");
        }
    }
    assert!(refused >= 90, "{refused}");

    // Meanwhile a client from the same address works with leases, and notices nothing.
    let prover = client_config(dir.path(), "a", &server.url());
    let prover = Client::start(prover, Arc::new(Echo::default())).await.unwrap();
    until("two are proved", async || server.status().await.unwrap().counts.proved >= 2).await;
    prover.stop().await;
    server.stop().await;

    // A valid proof needs no lease: when its sender has waited, it is taken.
    let (dir, chain) = (tempfile::tempdir().unwrap(), Chain::new(1));
    let server = serve(config(dir.path()), &chain).await;
    until("there is a job", async || server.status().await.unwrap().counts.ready == 1).await;
    let job = &server.status().await.unwrap().jobs[0];
    let hand_in = async |bytes: Vec<u8>| {
        let proof = ArtifactRef::of(&bytes);
        let path = protocol::paths::artifact(&proof.sha256);
        http.put(format!("{}{path}", server.url())).body(bytes).send().await.unwrap();
        let submit = ProofData::Submit(Submit {
            client: ClientId::from_bytes([1; 16]),
            lease: LeaseId::from_bytes([1; 16]),
            system: ProofSystem::Exec,
            program_id: alloy_primitives::B256::ZERO,
            kind: ProofKind::Composite,
            proof,
        });
        let path = protocol::paths::submit(&job.job);
        http.post(format!("{}{path}", server.url())).json(&submit).send().await.unwrap()
    };
    assert_eq!(hand_in(b"garbage".to_vec()).await.status(), 200);
    let proof = chain.statement(job.block_numbers);
    until("its time has come", async || {
        let answer = hand_in(proof.clone()).await;
        let wait = answer.status() == 429;
        if wait {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        !wait && verdict(answer).await == Verdict::Accepted
    })
    .await;
    server.stop().await;
}
