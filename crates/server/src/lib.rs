//! The Prover Server: turns L2 blocks into jobs, leases them to Prover Clients, and accepts a proof when it has verified it.
//!
//! What must stay true:
//! * It trusts nothing that a client says: a proof counts when `verifier` accepts it for the program id and the statement
//!   that the server computed itself.
//! * Killing it at any instant loses no enqueued batch and no acknowledged proof: whatever it answered is on disk.
//! * No block is skipped.
//!
//! # Example
//!
//! A server without a node: clients can talk to it, and it hands out the jobs that its database already has. With a
//! [`BatchSource`], such as `witness::Nodes`, it follows a node.
//!
//! ```
//! use server::{Config, Server};
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! let config = Config {
//!     listen_port: 0, // any free port
//!     data_dir: folder.path().join("server"),
//!     ..Config::default()
//! };
//! let running = Server::start(config, None::<witness::Nodes>).await?;
//! println!("clients find it at {}", running.url());
//! assert_eq!(running.status().await?.counts.ready, 0);
//! running.stop().await;
//! # Ok(())
//! # }
//! ```

pub mod access;
pub mod artifacts;
pub mod clock;
pub mod config;
pub mod dashboard;
pub mod data_folder;
pub mod database;
pub mod dispatch;
mod error;
pub mod http;
pub mod intake;
pub mod jobs;
pub mod maintenance;
pub mod observe;
pub mod parts;
pub mod store;

pub use access::tokens;
pub use config::{Config, InvalidConfig};
pub use database::DatabaseUrl;
pub use error::Error;
pub use http::tls;
pub use intake::{BatchSource, PreparedBatch};
pub use maintenance::{backup, beside, clock as correct_clock, fsck, migrate};
pub use observe::traces;

use access::gate::Gate;
use artifacts::{Artifacts, Place, Sharing};
use dashboard::feed::Feed;
use data_folder::Space;
pub use dispatch::Planner;
use dispatch::{
    Folder, Jobs, JobsConfig, Splitter,
    peers::{Leadership, NodeHealth, Peers},
};
use http::{connection, limits::Limiter, look::Looker, router, service::Service};
use intake::{BatchPolicy, Intake, Progress, Repair};
use jobs::state::Rules;
use maintenance::upkeep::Upkeep;
use parts::Parts;
use protocol::{ArtifactId, IntakeStatus};
use std::{
    fs::File,
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};
use store::{JobStore, Retention, StoreError};
use tls::Tls;
use tokens::Tokens;
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;

/// How long open connections may take to end when the server stops.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// Starts servers.
#[derive(Debug)]
pub struct Server;

impl Server {
    /// Starts a server: opens its folder, resumes its jobs, listens, and follows `source` if there is one.
    ///
    /// # Errors
    /// Everything that can be known at the start: a setting, the folder, the database, the address.
    pub async fn start<S: BatchSource>(
        config: Config,
        source: Option<S>,
    ) -> Result<Running, Error> {
        Self::start_with(config, source, None).await
    }

    /// As [`start`](Self::start). `planner` executes the program as clients do, which the setting `split` needs.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn start_with<S: BatchSource>(
        config: Config,
        source: Option<S>,
        planner: Option<Planner>,
    ) -> Result<Running, Error> {
        config.check()?;
        let planner = planner.filter(|_| config.split);
        if config.split && planner.is_none() {
            return Err(Error::NoPlanner);
        }
        // Already there if this is not the first server: it is the same one then, or what the program chose.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let tls = Tls::new(&config)?;
        if tls.is_none() && !config.listen_ip.is_loopback() {
            tracing::warn!(
                code = "no_tls",
                "no TLS: whoever can listen on the network reads tokens and inputs (see tls_cert, tls_key)"
            );
        }
        let sharing = match config.database {
            None => Sharing::Alone,
            Some(_) => Sharing::Shared,
        };
        let lock = data_folder::lock(&config.data_dir, sharing)?;
        let addr = SocketAddr::new(config.listen_ip, config.listen_port);
        // Before the database is touched: the commonest mistake is a server that runs already.
        let listener = TcpListener::bind(addr).await.map_err(|source| match source.kind() {
            io::ErrorKind::AddrInUse => Error::AddressInUse(addr),
            _ => Error::Listen { addr, source },
        })?;
        let addr = listener.local_addr().map_err(|source| Error::Listen { addr, source })?;

        let place = config.artifacts_place();
        let artifacts = Artifacts::open(&place, config.max_artifact_bytes)?;
        let rules = Rules {
            lease: config.lease,
            max_hold: config.max_hold,
            max_failures: config.max_failures,
            max_lost: config.max_lost,
            max_rejected: config.max_rejected,
            max_newcomers: config.max_newcomers,
        };
        let store = match &config.database {
            None => {
                Box::pin(JobStore::open(&config.data_dir.join(data_folder::JOBS), rules)).await?
            }
            Some(url) => {
                let store = Box::pin(JobStore::connect(url, rules)).await?;
                same_artifacts(&store, &artifacts, &place, url).await?;
                store
            }
        };
        let store = store.dividing(config.split).folding(config.folding());
        let gate = Gate::new(&config, Tokens::of(store.database())).await?;
        let space = Space::new(&config);
        let stopping = CancellationToken::new();
        let jobs_config = JobsConfig {
            targets: config.targets(),
            folding: config.folding(),
            lease: config.lease,
            heartbeat: config.heartbeat,
            max_wait: config.max_wait,
            verify_threads: config.verify_threads,
            max_proof_bytes: config.max_artifact_bytes,
            policy: verifier::Policy {
                danger_accept_exec: config.danger_accept_exec,
                danger_accept_dev_mode: config.danger_accept_dev_mode,
            },
        };
        for (name, on) in [
            ("danger_accept_exec", config.danger_accept_exec),
            ("danger_accept_dev_mode", config.danger_accept_dev_mode),
            ("danger_listen_without_auth", config.danger_listen_without_auth),
        ] {
            if on {
                tracing::warn!(code = "danger", setting = name, "a dangerous setting is on");
            }
        }
        let peers = match &config.database {
            None => None,
            Some(url) => Some(store.database().ok(Box::pin(Peers::join(url)).await)?),
        };
        let jobs = Jobs::new(store, artifacts.clone(), jobs_config, stopping.clone());
        // Another server that runs has heard the heartbeats meanwhile, and may be verifying what is open.
        if peers.as_ref().is_none_or(Peers::alone) {
            jobs.resume().await?;
        }
        jobs.report_set_aside().await?;
        let (leading, leads) = watch::channel(peers.is_none());
        let leadership = Leadership::new(leads.clone(), peers.is_some());
        // Without a node it leads only if no other server could.
        let (node, health) = watch::channel(match source {
            Some(_) => NodeHealth::Unknown,
            None => NodeHealth::FailsSince(Instant::now()),
        });
        let mut parts = Parts::new(stopping.clone());
        parts.start("verifying", jobs.clone().judge_left_behind());
        jobs.look_at_switches().await?;
        parts.start("switches", jobs.clone().watch_switches());
        parts.start("waiting", jobs.clone().call_waiting());
        parts.start("integrity", integrity(jobs.store().clone(), stopping.clone()));
        if let Some(mut peers) = peers {
            jobs.store().database().ok(peers.welcome().await)?;
            let (jobs, leadership) = (jobs.clone(), leadership.clone());
            let run = peers.run(jobs, leading, leadership, health, stopping.clone());
            parts.start("peers", run);
        }

        match planner {
            Some(planner) => {
                let splitter = Splitter {
                    jobs: jobs.clone(),
                    planner,
                    segment_po2: config.split_segment_po2,
                    least_segments: config.split_least_segments,
                    leads: leads.clone(),
                    started: Instant::now(),
                    patience: config.lease,
                };
                parts.start("dividing", splitter.clone().divide());
                parts.start("parts", splitter.look_after());
            }
            None => {
                let whole = jobs.store().lend_all_whole(jobs.now().await?).await?;
                if whole > 0 {
                    tracing::info!(
                        jobs = whole,
                        "jobs that were to be proven in parts are lent whole, since the setting split is off"
                    );
                }
            }
        }

        let folding = config.folding();
        if !folding.is_empty() {
            let folder = Folder { jobs: jobs.clone(), folding, leads: leads.clone() };
            parts.start("folding", folder.run());
        }

        let upkeep = Upkeep {
            jobs: jobs.clone(),
            artifacts: artifacts.clone(),
            garbage_age: config.garbage_age,
            retention: config
                .keep_jobs
                .map(|age| Retention { age, until_delivered: config.keep_until_delivered }),
            leads: leads.clone(),
        };
        parts.start("upkeep", upkeep.run(stopping.clone()));

        let next = jobs.store().tip().await?.map(|tip| tip.last.saturating_add(1));
        if let Some(next) = next.filter(|next| config.first_block > *next) {
            tracing::warn!(
                code = "first_block_ignored",
                first_block = config.first_block,
                next,
                "blocks have jobs already, so the next one follows them; first_block counts in a new data_dir"
            );
        }
        let (progress, watching) =
            watch::channel(Progress { status: IntakeStatus::Off, head: None });
        if let Some(source) = source {
            progress.send_modify(|progress| progress.status = IntakeStatus::Following);
            let (source, beneficiary) = (Arc::new(source), config.beneficiary.unwrap_or_default());
            let repair = Repair {
                source: source.clone(),
                jobs: jobs.clone(),
                artifacts: artifacts.clone(),
                beneficiary,
            };
            parts.start("repair", repair.run(stopping.clone()));
            let intake = Intake {
                source,
                jobs: jobs.clone(),
                artifacts: artifacts.clone(),
                beneficiary,
                start_block: config.first_block,
                policy: BatchPolicy {
                    blocks: config.batch_blocks,
                    cycles: config.max_batch_cycles,
                    gas: config.max_batch_gas,
                    bytes: config.max_batch_bytes,
                    age: config.max_batch_age,
                },
                deposits_start: config.deposits_start,
                max_reorg_blocks: config.max_reorg_blocks,
                prepare_ahead: config.prepare_ahead,
                ready_jobs: config.ready_jobs,
                poll_interval: config.poll_interval,
                space: space.clone(),
                leads,
                node,
                progress,
            };
            parts.start("intake", intake.run(stopping.clone()));
        }
        let (secure, limiter) = (tls.is_some(), Limiter::new(config.limits));
        parts.start("auth", gate.clone().run(stopping.clone()));
        parts.start("limits", limiter.clone().run(stopping.clone()));
        if let Some(tls) = tls.clone() {
            parts.start("tls", tls.run(stopping.clone()));
        }
        let feed = Feed::new(config.limits.streams, stopping.clone());
        let service = Service::new(
            jobs,
            artifacts.clone(),
            watching,
            leadership,
            gate,
            tls.clone(),
            limiter,
            space,
            parts.crashed(),
            feed.clone(),
        );
        let looker = Looker::new(service.clone());
        parts.start("dashboard", feed.run(move || looker.clone().look()));
        let router = router::router(service.clone());
        let http =
            tokio::spawn(connection::serve(listener, router, tls, config.limits, stopping.clone()));
        let needs_token = config.auth == config::Auth::Required;
        tracing::info!(%addr, needs_token, "server started");
        Ok(Running { addr, secure, service, artifacts, stopping, parts, http, _lock: lock })
    }
}

/// A running server. Dropping it without [`stop`](Self::stop) leaves its tasks to the runtime.
#[derive(Debug)]
pub struct Running {
    addr: SocketAddr,
    secure: bool,
    service: Service,
    artifacts: Artifacts,
    stopping: CancellationToken,
    parts: Parts,
    http: JoinHandle<()>,
    _lock: File,
}

impl Running {
    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Where clients find it.
    pub fn url(&self) -> String {
        format!("{}://{}", if self.secure { "https" } else { "http" }, self.addr)
    }

    /// A snapshot of what it does.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn status(&self) -> Result<protocol::Status, StoreError> {
        self.service.status().await
    }

    /// Its jobs and artifacts, for whoever settles what is proven.
    pub fn beside(&self) -> (JobStore, Artifacts) {
        (self.service.jobs().store().clone(), self.artifacts.clone())
    }

    /// Requests for work that it holds open.
    pub fn requests_waiting(&self) -> u64 {
        self.service.jobs().requests_waiting()
    }

    /// Waits until a part of the server crashes, and returns its name. The others still run, but the server cannot do its work: stop it.
    /// Waits for ever if none does.
    pub async fn crashed(&self) -> &'static str {
        let mut crashed = self.parts.crashed();
        match crashed.wait_for(Option::is_some).await {
            Ok(part) => part.unwrap_or_default(),
            Err(_) => std::future::pending().await,
        }
    }

    /// Stops: no new requests, the ones under way end or are cut, proofs being verified are judged.
    pub async fn stop(mut self) {
        self.stopping.cancel();
        self.parts.join().await;
        match tokio::time::timeout(STOP_PATIENCE, &mut self.http).await {
            Ok(ended) => parts::report("http", &ended),
            Err(_elapsed) => self.http.abort(),
        }
        self.service.jobs().close().await;
        tracing::info!(addr = %self.addr, "server stopped");
    }
}

/// Looks at a large database while the server works. If it is damaged, this ends before the server stops, which ends the process.
async fn integrity(store: JobStore, stopping: CancellationToken) {
    let checked = stopping.run_until_cancelled(store.database().check_large()).await;
    match checked {
        Some(Err(error)) => {
            let error = &error as &dyn std::error::Error;
            tracing::error!(
                code = "database_damaged",
                error,
                "the database is damaged, or cannot be read"
            );
        }
        Some(Ok(())) | None => stopping.cancelled().await,
    }
}

/// Makes sure that all servers on the database have the same artifacts: place and database know one name.
async fn same_artifacts(
    store: &JobStore,
    artifacts: &Artifacts,
    place: &Place,
    url: &DatabaseUrl,
) -> Result<(), Error> {
    // ORDER: the place has its name before the database knows it.
    let name = artifacts.name(ArtifactId::from_bytes(rand::random()).to_string()).await?;
    if store.artifact_folder(&name).await? == name {
        Ok(())
    } else {
        Err(Error::OtherArtifacts { place: place.to_string(), database: url.to_string() })
    }
}
