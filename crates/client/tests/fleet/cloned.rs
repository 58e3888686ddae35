//! Names of clients, and copies of their folders.

use crate::fake::{Echo, Fake, Manners, config, start, until};
use client::Client;
use protocol::NoWorkReason;
use std::{sync::atomic::Ordering, time::Duration};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_whose_folder_was_copied_stops_asking_and_names_the_folder() {
    let dir = tempfile::tempdir().unwrap();
    let reason = NoWorkReason::AnotherInstance;
    let server = Fake::start(1, Manners { jobs: 0, reason, ..Manners::default() }).await;
    let config = client::Config { wait: Duration::ZERO, ..config(dir.path(), &[&server.url]) };
    let client = start(config, &Echo::new(0)).await;
    until("it says so", || client.status().fatal.is_some()).await;
    let error = client.status().fatal.unwrap();
    let folder = dir.path().join("client").display().to_string();
    assert!(error.contains(&folder) && error.contains("client-id"), "{error}");
    server.change(|manners| manners.jobs = 1);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(server.seen().requests.load(Ordering::SeqCst) <= 2);
    client.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_says_who_it_is_and_each_start_is_another_instance() {
    let dir = tempfile::tempdir().unwrap();
    let server = Fake::start(1, Manners::default()).await;
    let named = Some("rack 7".to_owned());
    let named = client::Config { name: named, ..config(dir.path(), &[&server.url]) };
    for config in [config(dir.path(), &[&server.url]), named.clone()] {
        let before = server.seen().origins.lock().unwrap().len();
        let client = start(config, &Echo::new(0)).await;
        until("it asks", || server.seen().origins.lock().unwrap().len() > before).await;
        client.stop().await;
    }
    let origins = server.seen().origins.lock().unwrap().clone();
    let (first, last) = (&origins[0], &origins[origins.len() - 1]);
    assert_eq!((&first.name, &last.name[..]), (&first.host, "rack 7"));
    assert_eq!(first.host, last.host);
    assert_ne!(first.instance, last.instance);

    let config = client::Config { name: Some("two\nlines".into()), ..named };
    let error = Client::start(config, Echo::new(0)).await.unwrap_err().to_string();
    assert!(error.contains("setting name"), "{error}");
}
