//! Servers that take connections and do not answer, or too late.

use crate::fake::{Echo, Fake, Manners, black_hole, config, start, until};
use protocol::FailureClass;
use std::{
    collections::BTreeSet,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_black_hole_beside_a_good_server_costs_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (hole, _listener) = black_hole().await;
    let good = Fake::start(1, Manners { jobs: 50, ..Manners::default() }).await;
    let client = start(config(dir.path(), &[&hole, &good.url]), &Echo::new(10)).await;
    let took = until("all is proved", || good.accepted() == 50).await;
    assert!(took < Duration::from_secs(20), "{took:?}");
    assert_eq!(good.seen().abandoned.load(Ordering::SeqCst), 0);
    client.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_falls_silent_with_a_job_keeps_no_work_of_another_waiting() {
    for at in ["download", "upload", "submit"] {
        let dir = tempfile::tempdir().unwrap();
        let jobs = Manners { jobs: 1, silent: BTreeSet::from([at]), ..Manners::default() };
        let silent = Fake::start(1, jobs).await;
        let good = Fake::start(2, Manners::default()).await;
        let prover = Echo::new(0);
        let config = client::Config {
            patience: Duration::from_millis(500),
            silence: Duration::from_secs(5),
            ..config(dir.path(), &[&silent.url, &good.url])
        };
        let client = start(config, &prover).await;
        until("the silent one has lent its job", || {
            silent.seen().requests.load(Ordering::SeqCst) > 0
        })
        .await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        good.change(|manners| (manners.jobs, manners.input) = (3, b"another".to_vec()));
        let took = until("the other one has its proofs", || good.accepted() == 3).await;
        // The input can be had from nobody else: its job is given up after the silence.
        let most = if at == "download" { 8 } else { 4 };
        assert!(took < Duration::from_secs(most), "{at}: {took:?}");
        silent.change(|manners| manners.silent.clear());
        until("the silent one has its proof in the end", || silent.accepted() == 1).await;
        assert_eq!(silent.seen().abandoned.load(Ordering::SeqCst), 0, "{at}");
        client.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_input_comes_from_another_server_while_the_lender_is_silent() {
    let dir = tempfile::tempdir().unwrap();
    let jobs = Manners { jobs: 1, silent: BTreeSet::from(["download"]), ..Manners::default() };
    let silent = Fake::start(1, jobs).await;
    let twin = Fake::start(2, Manners::default()).await;
    let patience = Duration::from_millis(500);
    let config = client::Config { patience, ..config(dir.path(), &[&silent.url, &twin.url]) };
    let client = start(config, &Echo::new(0)).await;
    let took = until("it is proved", || silent.accepted() == 1).await;
    assert!(took < Duration::from_secs(5), "{took:?}");
    client.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_that_a_slow_server_grants_too_late_goes_back() {
    let dir = tempfile::tempdir().unwrap();
    let slow = Manners { jobs: 1, slow: Duration::from_millis(1_500), ..Manners::default() };
    let slow = Fake::start(1, slow).await;
    let good = Fake::start(2, Manners { jobs: 1, ..Manners::default() }).await;
    let prover = Echo::new(3_000);
    let client = start(config(dir.path(), &[&slow.url, &good.url]), &prover).await;
    until("the late lease is given back", || !slow.seen().fails.lock().unwrap().is_empty()).await;
    assert_eq!(prover.proven.load(Ordering::SeqCst), 0, "while the other job is being proven");
    assert_eq!(slow.seen().fails.lock().unwrap()[0].class, FailureClass::Cancelled);
    until("both are proved", || good.accepted() + slow.accepted() == 2).await;
    client.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_of_one_server_is_found_at_once_while_another_holds_its_answer() {
    let dir = tempfile::tempdir().unwrap();
    let idle = Fake::start(1, Manners::default()).await;
    let good = Fake::start(2, Manners::default()).await;
    let prover = Echo::new(0);
    let client = start(config(dir.path(), &[&idle.url, &good.url]), &prover).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    for jobs in 1..=5 {
        good.change(|manners| manners.jobs = jobs);
        let took = until("it is proved", || good.accepted() as u64 == jobs).await;
        assert!(took < Duration::from_secs(1), "{took:?}");
        tokio::time::sleep(Duration::from_millis(600)).await;
    }
    client.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_stops_while_servers_are_silent() {
    let dir = tempfile::tempdir().unwrap();
    let (hole, _listener) = black_hole().await;
    let silent = BTreeSet::from(["upload"]);
    let silent = Fake::start(1, Manners { jobs: 1, silent, ..Manners::default() }).await;
    let prover = Echo::new(0);
    let client = start(config(dir.path(), &[&silent.url, &hole]), &prover).await;
    until("it is proven", || prover.proven.load(Ordering::SeqCst) == 1).await;
    let begun = Instant::now();
    client.stop().await;
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    let kept = std::fs::read_dir(dir.path().join("client/proofs")).unwrap().count();
    assert_eq!(kept, 2, "the proof and its message");
}
