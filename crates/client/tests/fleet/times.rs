//! Servers that say nonsense about time, by mistake or on purpose.

use crate::fake::{Echo, Fake, Manners, config, start, until};
use axum::http::StatusCode;
use std::{sync::atomic::Ordering, time::Duration};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_verdict_that_is_pending_for_ever_costs_few_requests_and_no_work_of_another() {
    let dir = tempfile::tempdir().unwrap();
    let pending =
        Manners { jobs: 1, verifies: 3_600 * SECOND, pending_ms: 0, ..Manners::default() };
    let pending = Fake::start(1, pending).await;
    let good = Fake::start(2, Manners { jobs: 10, ..Manners::default() }).await;
    let client = start(config(dir.path(), &[&pending.url, &good.url]), &Echo::new(0)).await;
    until("the good one has its proofs", || good.accepted() == 10).await;
    until("the first proof is pending", || pending.seen().submits.load(Ordering::SeqCst) > 0).await;
    tokio::time::sleep(5 * SECOND).await;
    let submits = pending.seen().submits.load(Ordering::SeqCst);
    assert!((2..=6).contains(&submits), "{submits} in 5 s");
    client.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_of_four_milliseconds_costs_few_heartbeats() {
    let dir = tempfile::tempdir().unwrap();
    for (ttl_ms, heartbeat_ms) in [(4, 1), (0, 0), (4, u64::MAX)] {
        let hasty = Manners { jobs: 1, ttl_ms, heartbeat_ms, ..Manners::default() };
        let hasty = Fake::start(1, hasty).await;
        let client = start(config(dir.path(), &[&hasty.url]), &Echo::new(2_000)).await;
        until("it is proved", || hasty.accepted() == 1).await;
        let beats = hasty.seen().heartbeats.load(Ordering::SeqCst);
        assert!((3..=12).contains(&beats), "{beats} in 2 s");
        client.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_heartbeat_interval_beyond_the_lease_does_not_lose_it() {
    let dir = tempfile::tempdir().unwrap();
    let lazy = Manners { jobs: 1, ttl_ms: 1_000, heartbeat_ms: u64::MAX, ..Manners::default() };
    let lazy = Fake::start(1, lazy).await;
    let client = start(config(dir.path(), &[&lazy.url]), &Echo::new(2_200)).await;
    until("it is proved", || lazy.accepted() == 1).await;
    let beats = lazy.seen().heartbeats.load(Ordering::SeqCst);
    assert!(beats >= 3, "{beats} in 2.2 s");
    client.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_work_and_ask_at_once_costs_few_requests() {
    let dir = tempfile::tempdir().unwrap();
    let empty = Fake::start(1, Manners { no_work_ms: 0, ..Manners::default() }).await;
    let config = client::Config { wait: Duration::ZERO, ..config(dir.path(), &[&empty.url]) };
    let client = start(config, &Echo::new(0)).await;
    tokio::time::sleep(3 * SECOND).await;
    let requests = empty.seen().requests.load(Ordering::SeqCst);
    assert!((4..=14).contains(&requests), "{requests} in 3 s");
    client.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_wants_to_be_left_alone_is_left_alone() {
    for status in [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE] {
        let dir = tempfile::tempdir().unwrap();
        let refuses = Some((status, "3"));
        let busy = Fake::start(1, Manners { jobs: 1, refuses, ..Manners::default() }).await;
        let client = start(config(dir.path(), &[&busy.url]), &Echo::new(0)).await;
        tokio::time::sleep(Duration::from_millis(2_500)).await;
        assert_eq!(busy.seen().requests.load(Ordering::SeqCst), 1, "{status}");
        busy.change(|manners| manners.refuses = None);
        let took = until("it is asked again", || busy.accepted() == 1).await;
        assert!(took < 3 * SECOND, "{took:?}");
        client.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_job_is_proven_while_the_verdict_is_pending() {
    let dir = tempfile::tempdir().unwrap();
    let manners = Manners { jobs: 2, verifies: 4 * SECOND, ..Manners::default() };
    let server = Fake::start(1, manners).await;
    let prover = Echo::new(500);
    let client = start(config(dir.path(), &[&server.url]), &prover).await;
    until("both are proven", || prover.proven.load(Ordering::SeqCst) == 2).await;
    assert_eq!(server.accepted(), 0, "no verdict has been given");
    until("both are accepted", || server.accepted() == 2).await;
    assert_eq!(server.seen().abandoned.load(Ordering::SeqCst), 0);
    until("the client knows", || client.status().accepted == 2).await;
    client.stop().await;
}
