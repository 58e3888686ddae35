//! Proofs that were rejected, and are submitted again.

use crate::fake::{Echo, Fake, Manners, config, start, until};
use client::{
    Config,
    resubmit::{Error, resubmit},
};
use protocol::Verdict;
use std::{collections::BTreeSet, fs, path::Path, sync::atomic::Ordering, time::Duration};

fn left(dir: &Path, folder: &str) -> usize {
    fs::read_dir(dir.join("client").join(folder)).unwrap().count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proof_of_a_job_that_no_server_knows_is_kept_and_can_be_submitted_again() {
    let dir = tempfile::tempdir().unwrap();
    let server = Fake::start(1, Manners { jobs: 1, forgets: true, ..Manners::default() }).await;
    let config = Config { keep_unknown: Duration::ZERO, ..config(dir.path(), &[&server.url]) };
    let client = start(config.clone(), &Echo::new(0)).await;
    until("it is put aside", || client.status().rejected == 1).await;
    let running = resubmit(&config, |_| {}).await.unwrap_err();
    assert!(running.to_string().contains("is used by another client"), "{running}");
    client.stop().await;
    assert_eq!((left(dir.path(), "proofs"), left(dir.path(), "rejected")), (0, 2));

    // Not yet.
    let mut told = Vec::new();
    let counts = resubmit(&config, |proof| told.push(proof)).await.unwrap();
    assert_eq!((counts.gone, counts.kept), (0, 1));
    let error = told[0].verdict.as_ref().unwrap_err();
    assert!(error.contains("NoSuchJob"), "{error}");
    assert!(told[0].reason.contains("NoSuchJob"), "{}", told[0].reason);
    assert_eq!(left(dir.path(), "rejected"), 2);

    // The server was rebuilt, and knows its jobs again.
    server.change(|manners| manners.forgets = false);
    let mut told = Vec::new();
    let counts = resubmit(&config, |proof| told.push(proof)).await.unwrap();
    assert_eq!((counts.gone, counts.kept), (1, 0));
    assert_eq!(told[0].verdict, Ok(Verdict::Accepted));
    assert_eq!(left(dir.path(), "rejected"), 0);
    assert_eq!(server.accepted(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proof_is_offered_again_until_a_rebuilt_server_knows_its_job() {
    let dir = tempfile::tempdir().unwrap();
    let manners = || Manners { jobs: 1, forgets: true, ..Manners::default() };
    let servers = [Fake::start(1, manners()).await, Fake::start(2, manners()).await];
    servers[1].change(|manners| manners.jobs = 0);
    let urls = [servers[0].url.as_str(), &servers[1].url];
    let max_back_off = Duration::from_millis(100);
    let config = Config { max_back_off, ..config(dir.path(), &urls) };
    let prover = Echo::new(0);
    let client = start(config.clone(), &prover).await;
    until("nobody knew it a few times", || servers[0].seen().unknown.load(Ordering::SeqCst) > 5)
        .await;
    // The proof itself was sent once: whether anybody knows the job is asked first.
    let uploads = servers.iter().map(|server| server.seen().uploads.load(Ordering::SeqCst));
    assert_eq!(uploads.sum::<u64>(), 1);
    assert_eq!(client.status().rejected, 0);
    // It survives the client, too.
    client.stop().await;
    assert_eq!((left(dir.path(), "proofs"), left(dir.path(), "rejected")), (2, 0));
    let client = start(config, &prover).await;
    servers[0].change(|manners| manners.forgets = false);
    until("it is accepted", || servers[0].accepted() == 1).await;
    until("it is forgotten", || client.status().accepted == 1).await;
    client.stop().await;
    assert_eq!((left(dir.path(), "proofs"), left(dir.path(), "rejected")), (0, 0));
    assert_eq!(prover.proven.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_disowns_what_it_lends_starves_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let evil = Manners { jobs: 10_000, forgets: true, ..Manners::default() };
    let servers = [
        Fake::start(1, evil).await,
        Fake::start(2, Manners { jobs: 30, ..Manners::default() }).await,
    ];
    let config = config(dir.path(), &[&servers[0].url, &servers[1].url]);
    let client = start(config, &Echo::new(0)).await;
    until("the other's jobs are proved", || servers[1].accepted() == 30).await;
    let lent = servers[0].seen().unknown.load(Ordering::SeqCst);
    assert!(lent < 200, "{lent} messages about jobs that it does not know");
    client.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_proof_is_not_sent_again_while_another_server_is_down() {
    let dir = tempfile::tempdir().unwrap();
    let server = Fake::start(1, Manners { jobs: 1, forgets: true, ..Manners::default() }).await;
    let max_back_off = Duration::from_millis(100);
    let config = Config {
        max_back_off,
        patience: Duration::from_millis(200),
        ..config(dir.path(), &[&server.url, "http://127.0.0.1:9"])
    };
    let client = start(config.clone(), &Echo::new(0)).await;
    let asked = || server.seen().unknown.load(Ordering::SeqCst);
    until("it was asked a few times", || asked() > 5).await;
    client.stop().await;
    let before = asked();
    let client = start(config, &Echo::new(0)).await;
    until("it is asked again", || asked() > before + 3).await;
    client.stop().await;
    assert_eq!(server.seen().uploads.load(Ordering::SeqCst), 1);
    assert_eq!(left(dir.path(), "proofs"), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proof_that_the_disk_loses_gives_its_job_back() {
    let dir = tempfile::tempdir().unwrap();
    let silent = BTreeSet::from(["upload"]);
    let manners = Manners { jobs: 1, silent, ..Manners::default() };
    let server = Fake::start(1, manners).await;
    let max_back_off = Duration::from_millis(100);
    let silence = Duration::from_millis(300);
    let config = Config { max_back_off, silence, ..config(dir.path(), &[&server.url]) };
    let prover = Echo::new(0);
    let client = start(config, &prover).await;
    let proofs = || fs::read_dir(dir.path().join("client/proofs")).unwrap().flatten();
    until("a proof waits", || proofs().count() == 2).await;
    for (file, damaged) in proofs().map(|file| file.path()).zip([false, true]) {
        if file.extension().is_some_and(|extension| extension == "proof") {
            match damaged {
                true => fs::write(&file, b"other").unwrap(),
                false => fs::remove_file(&file).unwrap(),
            }
        }
    }
    until("its job goes back", || !server.seen().fails.lock().unwrap().is_empty()).await;
    server.change(|manners| manners.silent.clear());
    until("it is proved again", || server.accepted() == 1).await;
    client.stop().await;
    assert_eq!(prover.proven.load(Ordering::SeqCst), 2);
    assert_eq!(left(dir.path(), "proofs"), 0);
}

#[tokio::test]
async fn a_folder_that_is_not_there_is_not_made() {
    let dir = tempfile::tempdir().unwrap();
    let error = resubmit(&config(dir.path(), &["http://127.0.0.1:9"]), |_| {}).await.unwrap_err();
    assert!(matches!(error, Error::NoFolder(_)), "{error}");
    assert!(!dir.path().join("client").exists());
}
