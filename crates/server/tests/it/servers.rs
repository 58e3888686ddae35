//! One client and several servers, some of which are none.

use crate::common::{Chain, Echo, artifact_file, client_config, config, serve, until};
use axum::{Router, body::Body, routing::any};
use client::{Client, Phase};
use std::{sync::Arc, time::Duration};
use tokio::net::TcpListener;

fn echo(takes_ms: u64) -> Arc<Echo> {
    Arc::new(Echo { takes: Duration::from_millis(takes_ms), ..Echo::default() })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_servers_are_worked_for_in_turn() {
    let dir = tempfile::tempdir().unwrap();
    let (here, there) = (Chain::new(4), Chain::new(4));
    *there.name.lock().unwrap() = "another";
    let a = serve(config(&dir.path().join("here")), &here).await;
    let b = serve(config(&dir.path().join("there")), &there).await;
    let prover = echo(30);
    let config = client::Config {
        servers: vec![a.url(), b.url()],
        ..client_config(dir.path(), "client", "")
    };
    let client = Client::start(config, prover.clone()).await.unwrap();
    until("both have all they want", async || {
        a.status().await.unwrap().counts.proved == 4 && b.status().await.unwrap().counts.proved == 4
    })
    .await;
    let proven = prover.proven.lock().unwrap().clone();
    assert_eq!(proven.len(), 8, "nothing was proven twice");
    let first_half = proven[..4].iter().filter(|input| {
        (1..=4).any(|n| **input == here.statement(protocol::BlockRange::new(n, n).unwrap()))
    });
    assert_eq!(first_half.count(), 2, "neither server has to wait for the other to be done");
    client.stop().await;
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proof_goes_to_another_server_that_knows_the_job() {
    let dir = tempfile::tempdir().unwrap();
    let chain = Chain::new(1);
    let stranger = Chain::new(0);
    let lender = serve(config(&dir.path().join("a")), &chain).await;
    let stranger = serve(config(&dir.path().join("b")), &stranger).await;
    let twin = serve(config(&dir.path().join("c")), &chain).await;
    let prover = echo(500);
    let config = client::Config {
        servers: vec![lender.url(), stranger.url(), twin.url()],
        ..client_config(dir.path(), "client", "")
    };
    let client = Client::start(config, prover.clone()).await.unwrap();
    until("it proves", async || matches!(client.status().phase, Phase::Proving(_))).await;
    lender.stop().await;
    until("the twin has the proof", async || twin.status().await.unwrap().counts.proved == 1).await;
    assert_eq!(prover.proven.lock().unwrap().len(), 1, "it was proven once");
    until("the client knows", async || client.status().accepted == 1).await;
    let left = std::fs::read_dir(dir.path().join("client/proofs")).unwrap().count();
    assert_eq!(left, 0);
    client.stop().await;
    stranger.stop().await;
    twin.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_that_answer_garbage_do_not_stop_the_client() {
    let dir = tempfile::tempdir().unwrap();
    let endless = || {
        let pieces = futures::stream::repeat_with(|| Ok::<_, std::io::Error>(vec![b' '; 65_536]));
        Body::from_stream(pieces)
    };
    let response = protocol::ProofData::Response(protocol::Response {
        job: protocol::JobId::from_bytes([1; 16]),
        lease: protocol::LeaseId::from_bytes([2; 16]),
        ttl_ms: 0,
        heartbeat_ms: 0,
        block_numbers: protocol::BlockRange::new(1, 1).unwrap(),
        system: client::ProofSystem::Risc0,
        program_id: alloy_primitives::B256::ZERO,
        kind: client::ProofKind::Composite,
        prover_inputs: protocol::ArtifactRef::of(b"nothing"),
        max_proof_bytes: Some(0),
        traceparent: None,
        part: None,
    });
    let absurd = serde_json::to_string(&response).unwrap();
    let ack = r#"{"type":"FailAck"}"#;
    let mut servers = Vec::new();
    for router in [
        Router::new().fallback(async || "<html>It works!</html>"),
        Router::new().fallback(async move || endless()),
        Router::new().fallback(async || (axum::http::StatusCode::BAD_GATEWAY, "<html>")),
        Router::new().fallback(async move || ack),
        Router::new().route("/v1/request", any(async move || absurd)).fallback(async move || ack),
    ] {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        servers.push(format!("http://{}", listener.local_addr().unwrap()));
        tokio::spawn(async move { axum::serve(listener, router).await });
    }
    // Accepts, and never says a word.
    let silent = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    servers.push(format!("http://{}", silent.local_addr().unwrap()));
    let server = serve(config(dir.path()), &Chain::new(5)).await;
    servers.push(server.url());

    let config = client::Config {
        servers,
        wait: Duration::from_millis(500),
        silence: Duration::from_secs(1),
        ..client_config(dir.path(), "client", "")
    };
    let client = Client::start(config, echo(0)).await.unwrap();
    until("all is proved", async || server.status().await.unwrap().counts.proved == 5).await;
    until("the client knows", async || client.status().accepted == 5).await;
    client.stop().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_a_client_cannot_go_on_with_goes_back_when_it_stops() {
    let dir = tempfile::tempdir().unwrap();
    let chain = Chain::new(1);
    let server = serve(config(dir.path()), &chain).await;
    until("the job is there", async || server.status().await.unwrap().counts.ready == 1).await;
    // The server's disk fails: the client gets the job, and tries to fetch the input again and again.
    let input = server.status().await.unwrap().jobs[0].prover_inputs.sha256;
    let input = artifact_file(&config(dir.path()), &input);
    std::fs::remove_file(&input).unwrap();
    let folder = input.parent().unwrap();
    std::fs::remove_dir(folder).unwrap();
    std::fs::write(folder, "no folder").unwrap();
    let client =
        Client::start(client_config(dir.path(), "a", &server.url()), echo(0)).await.unwrap();
    until("it has tried", async || matches!(client.status().phase, Phase::Unreachable { .. }))
        .await;
    client.stop().await;
    let job = &server.status().await.unwrap().jobs[0];
    assert_eq!((job.state, job.failures, job.lost), (protocol::JobState::Ready, 0, 0));
    assert!(!dir.path().join("a/claim.json").exists());
    server.stop().await;
}
