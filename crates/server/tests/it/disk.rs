//! A disk that fills up: what is new waits, what is under way may end.

use crate::common::{Chain, client_config, config, http, serve, until};
use protocol::{ApiError, ArtifactId, ErrorCode, IntakeStatus};
use server::{Config, config::Limits};
use std::sync::{Arc, atomic::Ordering};

/// More than any disk has.
const ENDLESS: u64 = 1 << 60;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn below_the_watermark_no_batch_is_taken_in_but_proofs_are() {
    let (dir, chain) = (tempfile::tempdir().unwrap(), Chain::new(1));
    let config = config(dir.path());
    let running = serve(config.clone(), &chain).await;
    until("there is a job", async || running.status().await.unwrap().counts.ready == 1).await;
    running.stop().await;

    // The disk is full now, but for what is reserved.
    chain.head.store(5, Ordering::SeqCst);
    let limits = Limits { min_free_bytes: ENDLESS, ..Limits::default() };
    let running = serve(Config { limits, ..config.clone() }, &chain).await;
    until("the intake waits", async || {
        let status = running.status().await.unwrap().intake;
        matches!(status, IntakeStatus::Retrying { error } if error.contains("data folder has"))
    })
    .await;
    let echo = Arc::new(crate::common::Echo::default());
    let client = client_config(dir.path(), "a", &running.url());
    let client = client::Client::start(client, echo).await.unwrap();
    until("the job is proved", async || running.status().await.unwrap().counts.proved == 1).await;
    assert_eq!(running.status().await.unwrap().last_enqueued, Some(1));
    client.stop().await;
    running.stop().await;

    // Not even the reserve is left.
    let limits = Limits { reserved_free_bytes: ENDLESS, ..limits };
    let running = serve(Config { limits, ..config.clone() }, &chain).await;
    let url = format!("{}/v1/artifacts/{}", running.url(), ArtifactId::of(b"proof"));
    let answer = http().put(&url).body("proof").send().await.unwrap();
    assert_eq!(answer.status(), 507);
    let error: ApiError = answer.json().await.unwrap();
    assert!(error.code == ErrorCode::DiskFull && error.retryable, "{error:?}");
    assert_eq!(http().get(&url).send().await.unwrap().status(), 404);
    running.stop().await;

    // Somebody made room.
    let running = serve(config, &chain).await;
    until("all blocks are in", async || running.status().await.unwrap().last_enqueued == Some(5))
        .await;
    running.stop().await;
}
