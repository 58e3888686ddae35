//! Chaos: the real processes, and something that kills, stops, cuts or starves them. Whatever it was, in the end every block
//! is proven once and `fsck` is content.
//!
//! `make chaos` goes on for longer: it sets `CHAOS`, the number of rounds of what is done again and again.

mod database_killed;
mod disk_full;
mod killed_at_a_step;
mod killed_at_any_time;
mod postgres;
mod stopped;

use std::path::Path;
use std::time::Duration;

use protocol::{DeadCause, JobState, Status};

use crate::common::{Service, rpc, run, status_when, text};
use postgres::Database;

/// How often something is done: `usual`, or what `CHAOS` says.
fn rounds(usual: u64) -> u64 {
    std::env::var("CHAOS").map_or(usual, |rounds| rounds.parse().expect("CHAOS is a number"))
}

/// A node, a server that may be killed and started again, and a folder for all of them.
struct Arena {
    folder: tempfile::TempDir,
    node: String,
    _node: Service,
    lease: &'static str,
    port: String,
    database: Option<Database>,
    settings: Option<std::path::PathBuf>,
    server: Option<Service>,
}

impl Arena {
    /// With SQLite, or with a PostgreSQL of its own; `None` if that is not installed.
    async fn new(lease: &'static str, database: bool) -> Option<Self> {
        let database = match database {
            true => Some(Database::start()?),
            false => None,
        };
        let (process, started) =
            Service::start(&["node", "--node-port", "0", "--block-time", "1h"]);
        let node = text(&started, "node");
        // Free now, and ours from the server's start on.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("bound").port().to_string();
        drop(listener);
        let folder = tempfile::tempdir().expect("temporary folder");
        let mut arena = Self {
            folder,
            node,
            _node: process,
            lease,
            port,
            database,
            settings: None,
            server: None,
        };
        arena.start_server();
        Some(arena)
    }

    fn data(&self) -> String {
        self.folder.path().join("server").display().to_string()
    }

    fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    fn start_server(&mut self) {
        let (data, url) = (self.data(), self.database.as_ref().map(Database::url));
        let mut arguments = vec!["server", "--prover", "exec", "--danger-accept-exec"];
        arguments.extend(["--lease", self.lease, "--rpc-url", &self.node]);
        arguments.extend(["--listen-port", &self.port, "--data-dir", &data]);
        if let Some(url) = &url {
            arguments.extend(["--database", url]);
        }
        let settings = self.settings.as_ref().map(|file| file.display().to_string());
        if let Some(settings) = &settings {
            arguments.extend(["--config", settings]);
        }
        self.server = Some(Service::start(&arguments).0);
    }

    /// `kill -9`, and up again.
    fn kill_server(&mut self) {
        self.server.as_mut().expect("it runs").kill();
        self.start_server();
    }

    async fn mine(&self, blocks: u64) {
        for _ in 0..blocks {
            rpc(&self.node, "evm_mine").await;
        }
    }

    fn client(&self, name: &str, server: &str) -> Service {
        let data = self.folder.path().join(name).display().to_string();
        Service::start(&["client", "--prover", "exec", "--server", server, "--data-dir", &data]).0
    }

    /// Every block is proven, once, and what is on the disk is in order.
    async fn finish(mut self, blocks: u64) -> Status {
        let status = loop {
            let done = |status: &Status| status.proved_through == Some(blocks);
            let status =
                status_when(&self.endpoint(), |status| done(status) || status.counts.dead > 0)
                    .await;
            if done(&status) {
                break status;
            }
            // Two clients were killed while they had it: an operator knows that it was not the job's fault.
            for job in status.jobs.iter().filter(|job| job.state == JobState::Dead) {
                assert_eq!(job.cause, Some(DeadCause::Quarantined), "{job:?}");
                let requeue = format!("{}/v1/jobs/{}/requeue", self.endpoint(), job.job);
                let answer = reqwest::Client::new().post(requeue).send().await;
                answer.and_then(reqwest::Response::error_for_status).expect("it is requeued");
            }
        };
        assert!(status.jobs.iter().all(|job| job.state == JobState::Proved), "{status:#?}");
        assert_eq!((status.counts.proved, status.counts.dead), (blocks, 0));
        assert_eq!(status.clients.iter().map(|client| client.rejected).sum::<u64>(), 0);
        assert_eq!(self.server.as_mut().expect("it runs").terminate(), Some(0));
        let (data, url) = (self.data(), self.database.as_ref().map(Database::url));
        let mut arguments = vec!["fsck", "--data-dir", &data];
        if let Some(url) = &url {
            arguments.extend(["--database", url]);
        }
        let fsck = run(&arguments);
        assert!(fsck.status.success(), "{}", String::from_utf8_lossy(&fsck.stdout));
        status
    }
}

/// A pause between two blows: never the same, and decided by `round`.
fn pause(round: u64) -> Duration {
    Duration::from_millis(50 + round.wrapping_mul(7_919) % 700)
}

fn signal(process: u32, signal: &str) {
    let mut kill = std::process::Command::new("kill");
    let sent = kill.args([signal, &process.to_string()]).status().expect("there is a kill");
    assert!(sent.success(), "{signal} to {process}");
}

/// Whether this is Linux and we are root, or says why `what` is skipped.
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
fn may_mount(at: &Path, size: &str, what: &str) -> bool {
    let mut mount = std::process::Command::new("mount");
    mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(at);
    let mounted = mount.output().is_ok_and(|output| output.status.success());
    if !mounted {
        eprintln!("skipped: {what} needs root, to mount a small file system");
    }
    mounted
}
