//! A client whose disk is full.

use crate::fake::{Echo, Fake, Manners, config, start, until};
use client::Phase;
use protocol::FailureClass;
use std::{sync::atomic::Ordering, time::Duration};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_without_room_asks_for_no_work_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let server = Fake::start(1, Manners { jobs: 1, ..Manners::default() }).await;
    let config = client::Config { min_free_bytes: u64::MAX, ..config(dir.path(), &[&server.url]) };
    let client = start(config, &Echo::new(0)).await;
    until("it says so", || matches!(client.status().phase, Phase::Broken { .. })).await;
    let Phase::Broken { error } = client.status().phase else { panic!("{:?}", client.status()) };
    assert!(error.contains("bytes free") && error.contains("min_free_bytes"), "{error}");
    assert_eq!(server.seen().requests.load(Ordering::SeqCst), 0);
    client.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_costs_the_job_nothing_and_the_client_waits_for_room() {
    let dir = tempfile::tempdir().unwrap();
    let server = Fake::start(1, Manners { jobs: 1, ..Manners::default() }).await;
    let prover = Echo::new(0);
    prover.disk_full.store(true, Ordering::SeqCst);
    let broken_pause = Duration::from_millis(100);
    let config = client::Config { broken_pause, ..config(dir.path(), &[&server.url]) };
    let client = start(config, &prover).await;
    until("it has tested itself", || prover.tests.load(Ordering::SeqCst) >= 2).await;
    let fails = server.seen().fails.lock().unwrap().clone();
    assert_eq!(fails.len(), 1, "one attempt was enough: {fails:?}");
    assert_eq!(fails[0].class, FailureClass::Cancelled, "it does not count against the job");
    assert!(fails[0].message.contains("the client's disk is full"), "{}", fails[0].message);
    prover.disk_full.store(false, Ordering::SeqCst);
    until("it is proved", || server.accepted() == 1).await;
    client.stop().await;
}
