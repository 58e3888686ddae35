//! Prover Clients as an operator runs them, and what becomes of their jobs when something goes wrong.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use protocol::Status;

use crate::common::{Service, rpc, status_when, text};

/// A node with so many blocks, a server that wants exec proofs of them, and a folder.
struct Place {
    folder: tempfile::TempDir,
    endpoint: String,
    _node: Service,
    _server: Service,
}

impl Place {
    async fn new(blocks: u64, lease: &str) -> Self {
        let (node, started) = Service::start(&["node", "--node-port", "0", "--block-time", "1h"]);
        let node_url = text(&started, "node");
        for _ in 0..blocks {
            rpc(&node_url, "evm_mine").await;
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
            &node_url,
            "--listen-port",
            "0",
            "--data-dir",
            &data,
        ]);
        let endpoint = text(&started, "server");
        Self { folder, endpoint, _node: node, _server: server }
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
    assert!(error.contains("timeout") && error.contains("no progress for 4s"), "{error}");
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

fn children(parent: u32) -> Vec<u32> {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{parent}/task")) else { return vec![] };
    let read = |thread: std::fs::DirEntry| std::fs::read_to_string(thread.path().join("children"));
    let texts = threads.flatten().filter_map(|thread| read(thread).ok());
    texts
        .flat_map(|text| text.split_whitespace().flat_map(str::parse).collect::<Vec<_>>())
        .collect()
}

fn state(process: u32) -> Option<char> {
    let stat = std::fs::read_to_string(Path::new("/proc").join(process.to_string()).join("stat"));
    stat.ok()?.rsplit_once(") ")?.1.chars().next()
}
