//! Artifacts that the server lost or that its disk damaged: nobody is blamed, and what can be made again is.

use crate::{
    common::{Chain, Echo, artifact_file, client_config, config, http, serve, until},
    store::{RULES, client, lease, submit},
};
use client::{Client, Phase};
use protocol::{ArtifactRef, JobState};
use server::{Config, store::JobStore};
use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_input_that_is_lost_or_damaged_is_made_again_and_nobody_is_blamed() {
    let (dir, chain) = (tempfile::tempdir().unwrap(), Chain::new(2));
    let config = config(dir.path());
    let server = serve(config.clone(), &chain).await;
    let status = async || server.status().await.unwrap();
    until("the jobs are there", async || status().await.counts.ready == 2).await;
    let inputs: Vec<_> = status().await.jobs.iter().map(|job| job.prover_inputs).collect();
    std::fs::remove_file(artifact_file(&config, &inputs[0].sha256)).unwrap();
    let mut bytes = std::fs::read(artifact_file(&config, &inputs[1].sha256)).unwrap();
    bytes[5] ^= 1;
    std::fs::write(artifact_file(&config, &inputs[1].sha256), bytes).unwrap();

    let echo = Arc::new(Echo::default());
    let prover = client_config(dir.path(), "a", &server.url());
    let prover = Client::start(prover, echo.clone()).await.unwrap();
    until("all is proved", async || status().await.counts.proved == 2).await;
    let status = status().await;
    for job in &status.jobs {
        assert_eq!((job.failures, job.lost), (0, 0), "{job:?}");
    }
    assert_eq!(status.clients[0].rests_until, None);
    assert_eq!(echo.proven.lock().unwrap().len(), 2);
    prover.stop().await;
    server.stop().await;
    let checked = server::fsck::run(&config).await.unwrap();
    assert_eq!(checked.findings.len(), 0, "{:?}", checked.findings);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_input_that_the_node_cannot_make_again_leaves_its_job_waiting() {
    let (dir, chain) = (tempfile::tempdir().unwrap(), Chain::new(1));
    let config = config(dir.path());
    let server = serve(config.clone(), &chain).await;
    let job = async || server.status().await.unwrap().jobs.first().cloned();
    until("the job is there", async || job().await.is_some()).await;
    let input = job().await.unwrap().prover_inputs;
    std::fs::remove_file(artifact_file(&config, &input.sha256)).unwrap();
    // The block is another one now: what the node has is of another statement.
    let beneficiary = chain.hash(1);
    chain.fork(1, "another", 1);
    assert_ne!(chain.hash(1), beneficiary);
    let prover = client_config(dir.path(), "a", &server.url());
    let prover = Client::start(prover, Arc::new(Echo::default())).await.unwrap();
    until("it is known", async || {
        job()
            .await
            .is_some_and(|job| job.last_error.is_some_and(|error| error.contains("lost the input")))
    })
    .await;
    let waits = job().await.unwrap();
    assert!(waits.state != JobState::Dead && waits.failures == 0, "{waits:?}");
    assert!(!artifact_file(&config, &input.sha256).exists());
    prover.stop().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proof_that_is_lost_before_it_is_verified_frees_its_job() {
    let (dir, chain) = (tempfile::tempdir().unwrap(), Chain::new(2));
    let config = config(dir.path());
    let server = serve(config.clone(), &chain).await;
    until("there are jobs", async || server.status().await.unwrap().counts.ready == 2).await;
    server.stop().await;

    // What a server does before it dies; then the disk loses one proof and damages the other.
    let store = JobStore::open(&config.data_dir.join("jobs.sqlite"), RULES).await.unwrap();
    let now = store.now().await.unwrap();
    let mut jobs = Vec::new();
    for n in [1, 2] {
        let leased = lease(&store, n, now).await.unwrap();
        // The exec proof of a block of this chain is its input, which is stored.
        let bytes = if n == 1 { vec![1; 9] } else { chain.statement(leased.blocks) };
        let proof = submit(&leased, &bytes);
        drop(store.submit(leased.job, &proof, now).await.unwrap());
        assert_eq!(proof.client, client(n));
        jobs.push((leased.job, proof, bytes));
    }
    store.close().await;
    let damaged = artifact_file(&config, &jobs[1].1.proof.sha256);
    std::fs::create_dir_all(damaged.parent().unwrap()).unwrap();
    std::fs::write(&damaged, vec![7; jobs[1].2.len()]).unwrap();

    chain.down.store(true, Ordering::SeqCst);
    let server = serve(config.clone(), &chain).await;
    until("both are ready", async || server.status().await.unwrap().counts.ready == 2).await;
    assert!(server.status().await.unwrap().jobs.iter().all(|job| job.failures + job.lost == 0));
    assert!(!damaged.exists(), "what is damaged is not taken for the upload that makes up for it");

    // The client still has its proof: it is asked for the bytes, and accepted.
    let (job, proof, bytes) = jobs.swap_remove(1);
    let submit = async || {
        let path = protocol::paths::submit(&job);
        let message = protocol::ProofData::Submit(proof.clone());
        http().post(format!("{}{path}", server.url())).json(&message).send().await.unwrap()
    };
    let error: protocol::ApiError = submit().await.json().await.unwrap();
    assert!(error.code == protocol::ErrorCode::NoSuchArtifact && error.retryable, "{error:?}");
    let path = protocol::paths::artifact(&ArtifactRef::of(&bytes).sha256);
    let upload = http().put(format!("{}{path}", server.url())).body(bytes).send().await.unwrap();
    assert_eq!(upload.status(), 201);
    let accepted = r#"{"type":"SubmitAck","verdict":"accepted"}"#;
    assert_eq!(submit().await.text().await.unwrap(), accepted);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proof_finished_while_its_server_was_rebuilt_is_used_by_itself() {
    let (dir, chain) = (tempfile::tempdir().unwrap(), Chain::new(1));
    let settings = config(dir.path());
    let server = serve(settings.clone(), &chain).await;
    let echo = Arc::new(Echo { takes: Duration::from_millis(500), ..Echo::default() });
    let prover = client_config(dir.path(), "a", &server.url());
    let kept = prover.data_dir.join("proofs");
    let prover = Client::start(prover, echo.clone()).await.unwrap();
    until("it proves", async || matches!(prover.status().phase, Phase::Proving(_))).await;
    let port = server.addr().port();
    server.stop().await;
    std::fs::remove_dir_all(&settings.data_dir).unwrap();

    // The new one finds no node at first: it knows no job.
    let away = Chain::new(0);
    let rebuilt = Config { listen_port: port, ..settings };
    let server = serve(rebuilt, &away).await;
    until("it is finished", async || std::fs::read_dir(&kept).unwrap().count() == 2).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(prover.status().rejected, 0);
    away.head.store(1, Ordering::SeqCst);
    until("it is proved", async || server.status().await.unwrap().counts.proved == 1).await;
    until("the client forgets it", async || std::fs::read_dir(&kept).unwrap().count() == 0).await;
    assert_eq!(echo.proven.lock().unwrap().len(), 1, "nothing was proven twice");
    prover.stop().await;
    server.stop().await;
}
