//! Prover Clients as an operator runs them, and what becomes of their jobs when something goes wrong.

use std::path::Path;
use std::process::Command;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use protocol::Status;

use crate::common::{PATIENCE, Service, json_lines, rpc, run, status_when, text};
use crate::proxy::{self, Step, Then};

/// A node with so many blocks, a server that wants exec proofs of them, and a folder.
struct Place {
    folder: tempfile::TempDir,
    endpoint: String,
    /// The node's URL.
    node: String,
    _node: Service,
    _server: Service,
}

impl Place {
    async fn new(blocks: u64, lease: &str) -> Self {
        let (process, started) =
            Service::start(&["node", "--node-port", "0", "--block-time", "1h"]);
        let node = text(&started, "node");
        for _ in 0..blocks {
            rpc(&node, "evm_mine").await;
        }
        let folder = tempfile::tempdir().expect("temporary folder");
        let data = folder.path().join("server").display().to_string();
        let (server, started) = Service::start(&[
            "server",
            "--prover",
            "exec",
            "--danger-accept-exec",
            "--lease",
            lease,
            "--rpc-url",
            &node,
            "--listen-port",
            "0",
            "--data-dir",
            &data,
        ]);
        let endpoint = text(&started, "server");
        Self { folder, endpoint, node, _node: process, _server: server }
    }

    fn client(&self, name: &str, server: &str, more: &[&str]) -> Service {
        let data = self.folder.path().join(name).display().to_string();
        let mut arguments =
            vec!["client", "--prover", "exec", "--server", server, "--data-dir", &data];
        arguments.extend(more);
        Service::start(&arguments).0
    }
}

#[tokio::test]
async fn a_killed_proving_process_costs_a_failure_and_not_the_client() {
    let place = Place::new(150, "60s").await;
    let client = place.client("a", &place.endpoint, &[]);
    let failed = |status: &Status| status.jobs.iter().any(|job| job.failures > 0);
    let status = hunt(&client, "-KILL", async || {
        // A process that had said its last word lost nothing by dying: the hunt goes on.
        tokio::time::sleep(Duration::from_millis(100)).await;
        Some(status_when(&place.endpoint, |_| true).await).filter(failed)
    })
    .await;
    let job = status.jobs.iter().find(|job| job.failures > 0).expect("one failed");
    let error = job.last_error.clone().expect("it says why");
    assert!(error.contains("out_of_memory") && error.contains("SIGKILL"), "{error}");
    // The same client, when it has rested, proves the same job.
    let id = job.job;
    let proved = |status: &Status| {
        status.jobs.iter().any(|job| job.job == id && job.state == protocol::JobState::Proved)
    };
    status_when(&place.endpoint, proved).await;
}

#[tokio::test]
async fn two_provers_work_under_one_name_and_one_that_is_killed_loses_nothing() {
    let place = Place::new(150, "60s").await;
    let mut client = place.client("a", &place.endpoint, &["--provers", "2", "--name", "rack 7"]);
    let deadline = Instant::now() + PATIENCE;
    while children(client.id()).len() < 2 {
        assert!(Instant::now() < deadline, "two never proved at once");
    }
    let failed = |status: &Status| status.jobs.iter().any(|job| job.failures > 0);
    hunt(&client, "-KILL", async || {
        tokio::time::sleep(Duration::from_millis(100)).await;
        Some(status_when(&place.endpoint, |_| true).await).filter(failed)
    })
    .await;
    let status = status_when(&place.endpoint, |status| status.counts.proved == 150).await;
    let names: Vec<_> = status.clients.iter().map(|client| client.name.as_deref()).collect();
    assert_eq!(names, [Some("rack 7"); 2]);
    assert!(status.clients.iter().all(|client| client.proved > 0), "{:?}", status.clients);
    let proofs: u64 = status.clients.iter().map(|client| client.proved + client.rejected).sum();
    assert_eq!(proofs, 150);
    assert_eq!(client.terminate(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_with_fewer_provers_than_before_hands_in_what_they_have_left() {
    let place = Place::new(2, "60s").await;
    let (tell, reached) = mpsc::channel();
    let proxy = proxy::start(&place.endpoint, move |now| {
        if now != Step::Uploading {
            return Then::PassOn;
        }
        // Later ones come when the test has seen enough.
        let _ = tell.send(());
        Then::Hang
    });
    let mut client = place.client("a", &proxy, &["--provers", "2"]);
    for _ in 0..2 {
        tokio::task::block_in_place(|| reached.recv_timeout(PATIENCE).expect("it comes there"));
    }
    client.kill();
    let left = |folder: &str| {
        let folder = place.folder.path().join("a").join(folder);
        std::fs::read_dir(folder).expect("a folder").count()
    };
    assert_eq!((left("proofs"), left("prover-2/proofs")), (2, 2), "proof and message of each");
    let _client = place.client("a", &place.endpoint, &[]);
    let status = status_when(&place.endpoint, |status| status.counts.proved == 2).await;
    for job in &status.jobs {
        assert_eq!((job.failures, job.lost), (0, 0), "{job:?}");
    }
    assert!(status.clients.iter().all(|client| client.proved == 1), "{:?}", status.clients);
    assert_eq!(left("prover-2/proofs"), 0);
}

#[tokio::test]
async fn a_stopped_proving_process_keeps_its_lease_until_it_is_given_up_as_hung() {
    let place = Place::new(150, "1s").await;
    let client = place.client("a", &place.endpoint, &["--stall-limit", "4s"]);
    hunt(&client, "-STOP", async || {
        tokio::time::sleep(Duration::from_millis(50)).await;
        children(client.id()).iter().any(|child| state(*child) == Some('T')).then_some(())
    })
    .await;
    let stopped = Instant::now();
    let status =
        status_when(&place.endpoint, |status| status.jobs.iter().any(|job| job.failures > 0)).await;
    assert!(stopped.elapsed() > Duration::from_secs(2), "it was given up early");
    let job = status.jobs.iter().find(|job| job.failures > 0).expect("one failed");
    assert_eq!(job.lost, 0, "heartbeats kept the lease for longer than it runs");
    let error = job.last_error.clone().expect("it says why");
    // It may have been stopped before its first word.
    let hung = ["no progress for 4s", "did not say within 4s that it is a prover executable"];
    assert!(error.contains("timeout") && hung.iter().any(|hung| error.contains(hung)), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_killed_at_any_step_goes_on_where_it_was() {
    let place = Place::new(0, "60s").await;
    let steps = [
        Step::Leased,
        Step::HalfDownloaded,
        Step::Downloaded,
        Step::Uploading,
        Step::Uploaded,
        Step::Judged,
    ];
    for (step, goal) in steps.into_iter().zip(1..) {
        rpc(&place.node, "evm_mine").await;
        let (tell, reached) = mpsc::channel();
        let mut once = Some(tell);
        let proxy = proxy::start(&place.endpoint, move |now| match &once {
            Some(tell) if now == step => {
                tell.send(()).expect("the test waits");
                once = None;
                // The input has to arrive, so that the process which proves it is met.
                if step == Step::Downloaded { Then::PassOn } else { Then::Hang }
            }
            _ => Then::PassOn,
        });
        let mut client = place.client("a", &proxy, &[]);
        tokio::task::block_in_place(|| reached.recv_timeout(PATIENCE).expect("it comes there"));
        if step == Step::Downloaded {
            while children(client.id()).is_empty() {}
        }
        client.kill();
        let mut client = place.client("a", &place.endpoint, &[]);
        let status = status_when(&place.endpoint, |status| status.counts.proved == goal).await;
        assert_eq!(client.terminate(), Some(0));
        for job in &status.jobs {
            assert_eq!((job.failures, job.lost), (0, 0), "killed at {step:?}: {job:?}");
        }
    }
    let status = status_when(&place.endpoint, |_| true).await;
    assert_eq!((status.clients[0].proved, status.clients[0].rejected), (6, 0));
    // The last client may have been stopped before it had heard of its last proof, and forgets it now.
    let _client = place.client("a", &place.endpoint, &[]);
    let left = |folder: &str| {
        std::fs::read_dir(place.folder.path().join("a").join(folder)).expect("a folder").count()
    };
    let deadline = Instant::now() + PATIENCE;
    while left("proofs") > 0 && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!((left("proofs"), left("rejected"), left("scratch")), (0, 0, 0));
    assert!(!place.folder.path().join("a/claim.json").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_sigterm_ends_a_client_at_once_and_keeps_its_proof() {
    let place = Place::new(1, "60s").await;
    let (tell, reached) = mpsc::channel();
    let proxy = proxy::start(&place.endpoint, move |now| {
        if now != Step::Uploading {
            return Then::PassOn;
        }
        tell.send(()).expect("the test waits");
        Then::Hang
    });
    let mut client = place.client("a", &proxy, &["--grace", "1h"]);
    tokio::task::block_in_place(|| reached.recv_timeout(PATIENCE).expect("it comes there"));
    client.signal();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(state(client.id()).is_some_and(|state| state != 'Z'), "it has an hour's grace");
    assert_eq!(client.terminate(), Some(130));
    let proofs = place.folder.path().join("a/proofs");
    assert_eq!(std::fs::read_dir(proofs).expect("a folder").count(), 2, "proof and message");
    let _client = place.client("a", &place.endpoint, &[]);
    let status = status_when(&place.endpoint, |status| status.counts.proved == 1).await;
    assert_eq!((status.jobs[0].lost, status.jobs[0].failures), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_kills_every_client_goes_back() {
    let place = Place::new(1, "60s").await;
    for _ in 0..3 {
        let (tell, reached) = mpsc::channel();
        let proxy = proxy::start(&place.endpoint, move |now| {
            if now != Step::HalfDownloaded {
                return Then::PassOn;
            }
            tell.send(()).expect("the test waits");
            Then::Hang
        });
        let mut client = place.client("a", &proxy, &[]);
        tokio::task::block_in_place(|| reached.recv_timeout(PATIENCE).expect("it comes there"));
        client.kill();
    }
    let _client = place.client("a", &place.endpoint, &[]);
    let failed = |status: &Status| status.jobs.iter().any(|job| job.failures > 0);
    let status = status_when(&place.endpoint, failed).await;
    let job = &status.jobs[0];
    let error = job.last_error.clone().unwrap_or_default();
    assert!(error.contains("3 clients were killed while they had this job"), "{job:?}");
    assert!(error.contains("client_internal"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_a_clients_folder_is_noticed_and_one_of_the_two_stops() {
    let place = Place::new(1, "60s").await;
    let mut original = place.client("a", &place.endpoint, &[]);
    status_when(&place.endpoint, |status| status.counts.proved == 1).await;
    std::fs::create_dir(place.folder.path().join("b")).expect("a folder");
    let id = |name: &str| place.folder.path().join(name).join("client-id");
    std::fs::copy(id("a"), id("b")).expect("the id can be copied");
    let mut copy = place.client("b", &place.endpoint, &[]);
    // The original asks again when its request has been held open for as long as it may.
    let code = original.ended("although a copy of it runs", Duration::from_secs(60));
    assert_eq!(code, Some(1));
    rpc(&place.node, "evm_mine").await;
    status_when(&place.endpoint, |status| status.counts.proved == 2).await;
    assert_eq!(copy.terminate(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn rejected_proofs_are_submitted_again() {
    let place = Place::new(1, "60s").await;
    let (tell, reached) = mpsc::channel();
    let proxy = proxy::start(&place.endpoint, move |now| {
        if now != Step::Uploading {
            return Then::PassOn;
        }
        tell.send(()).expect("the test waits");
        Then::Hang
    });
    let mut client = place.client("a", &proxy, &[]);
    tokio::task::block_in_place(|| reached.recv_timeout(PATIENCE).expect("it comes there"));
    client.kill();
    let folder = place.folder.path().join("a");
    for file in std::fs::read_dir(folder.join("proofs")).expect("a folder") {
        let file = file.expect("an entry").path();
        let aside = folder.join("rejected").join(file.file_name().expect("a name"));
        if file.extension().is_some_and(|extension| extension == "json") {
            let text = std::fs::read(&file).expect("an entry");
            let mut entry: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
            entry["reason"] = "the job was revoked".into();
            std::fs::write(&file, entry.to_string()).expect("a file");
        }
        std::fs::rename(file, aside).expect("the same disk");
    }
    let data = folder.display().to_string();
    let again = ["client", "resubmit", "--data-dir", &data, "--server", &place.endpoint, "--json"];
    let output = tokio::task::block_in_place(|| run(&again));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = json_lines(&output.stdout);
    assert_eq!(lines[0]["reason"], "the job was revoked", "{lines:?}");
    assert_eq!(lines[0]["verdict"]["verdict"], "accepted", "{lines:?}");
    assert_eq!(lines[1], serde_json::json!({"event": "done", "gone": 1, "kept": 0}));
    status_when(&place.endpoint, |status| status.counts.proved == 1).await;
    assert_eq!(std::fs::read_dir(folder.join("rejected")).expect("a folder").count(), 0);
}

/// Sends `signal` to one proving process after the other, until `done` says what came of it.
async fn hunt<T>(client: &Service, signal: &str, mut done: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(120);
    while Instant::now() < deadline {
        if let Some(child) = children(client.id()).first() {
            // It may have ended in the meantime.
            let _ = Command::new("kill").args([signal, &child.to_string()]).output();
            if let Some(outcome) = done().await {
                return outcome;
            }
        }
    }
    panic!("no proving process was met in time");
}

/// Child processes that run a program of their own. A copy of the parent that has not got there yet must not be stopped:
/// the parent waits for it, as nobody but this test could make it do.
fn children(parent: u32) -> Vec<u32> {
    let command = |process: u32| std::fs::read(format!("/proc/{process}/cmdline")).ok();
    let own = command(parent);
    let Ok(threads) = std::fs::read_dir(format!("/proc/{parent}/task")) else { return vec![] };
    let read = |thread: std::fs::DirEntry| std::fs::read_to_string(thread.path().join("children"));
    let texts = threads.flatten().filter_map(|thread| read(thread).ok());
    texts
        .flat_map(|text| text.split_whitespace().flat_map(str::parse).collect::<Vec<_>>())
        .filter(|child| command(*child) != own)
        .collect()
}

fn state(process: u32) -> Option<char> {
    let stat = std::fs::read_to_string(Path::new("/proc").join(process.to_string()).join("stat"));
    stat.ok()?.rsplit_once(") ")?.1.chars().next()
}
