//! The Prover Client: takes a job from the Prover Server, proves it, hands the proof in, and starts again.
//!
//! What must stay true:
//! * A finished proof is on disk before the server hears of it, and stays there until the server has judged it, across
//!   restarts of either side.
//! * A thread that proving cannot starve sends the heartbeats.
//! * The client names no proof system: that is a [`Prover`]. A [`ProverProcess`] is one that proves in a process of its own.
//!
//! # Example
//!
//! A prover of one's own: it tells how long each proof took, and leaves the rest to another one. The client starts although its
//! server cannot be reached yet; it keeps asking.
//!
//! ```
//! use client::{
//!     Cancel, Client, Config, ExecProver, Execution, Progress, ProofKind, ProofSystem, ProveError, Prover,
//! };
//! use std::{sync::Arc, time::{Duration, Instant}};
//!
//! struct Timed<P>(P);
//!
//! impl<P: Prover> Prover for Timed<P> {
//!     fn system(&self) -> ProofSystem {
//!         self.0.system()
//!     }
//!
//!     fn program_id(&self) -> alloy_primitives::B256 {
//!         self.0.program_id()
//!     }
//!
//!     fn danger(&self) -> Option<&str> {
//!         self.0.danger()
//!     }
//!
//!     fn prove(
//!         &self,
//!         input: &[u8],
//!         kind: ProofKind,
//!         cancel: &Cancel,
//!         progress: &(dyn Fn(Progress) + Send + Sync),
//!     ) -> Result<Vec<u8>, ProveError> {
//!         let started = Instant::now();
//!         let proof = self.0.prove(input, kind, cancel, progress)?;
//!         println!("{kind} proof of {} bytes in {:?}", proof.len(), started.elapsed());
//!         Ok(proof)
//!     }
//!
//!     fn execute(&self, input: &[u8]) -> Result<Execution, ProveError> {
//!         self.0.execute(input)
//!     }
//! }
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let prover = Timed(ExecProver);
//! prover.self_test()?;
//! assert!(matches!(prover.execute(b"no input at all"), Err(ProveError::BadInput(_))));
//!
//! # let folder = tempfile::tempdir()?;
//! let config = Config {
//!     servers: vec!["http://127.0.0.1:9".into()],
//!     data_dir: folder.path().join("client"),
//!     ..Config::default()
//! };
//! let client = Client::start(config, Arc::new(prover)).await?;
//! assert_eq!(client.status().accepted, 0);
//! // Lets the proof at hand, if there is one, take another minute.
//! client.drain(Duration::from_secs(60)).await;
//! # Ok(())
//! # }
//! ```

pub mod access;
pub mod api;
mod breaker;
pub mod config;
mod exec;
pub mod journal;
pub mod memory;
pub mod metrics;
pub mod process;
pub mod prover;
mod pulse;
pub mod resubmit;
pub mod status;
mod trace;
mod work;

pub use access::{Access, Secret};
pub use config::Config;
pub use exec::ExecProver;
pub use process::ProverProcess;
pub use protocol::PERMUTATION_CYCLES;
pub use prover::{
    BoxError, Cancel, Cycles, Execution, FailureClass, Gpu, Hardware, Measurement, PhaseCycles,
    Progress, ProofKind, ProofSystem, ProveError, Prover,
};
pub use status::{JobInfo, Phase, Status};

use api::Api;
use journal::{Journal, JournalError};
use metrics::Metrics;
use protocol::ClientId;
use std::{io, sync::Arc, time::Duration};
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use work::{Heartbeats, Server, Shared, Stop, Worker};

/// Why a client does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The server's address is not one.
    #[error("setting servers has {server:?}, which is no address of a Prover Server: {detail}")]
    Server {
        /// The setting's value.
        server: String,
        /// What is wrong with it.
        detail: String,
    },
    /// There is no server to work for.
    #[error("setting servers is empty: name a Prover Server")]
    NoServer,
    /// The client's name cannot be used.
    #[error(
        "setting name is no name of a client: write 1 to 64 characters, none of them a control character"
    )]
    Name,
    /// The folder cannot be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The system gives no thread.
    #[error("cannot start the heartbeat thread: {0}")]
    Thread(#[source] io::Error),
}

/// Starts clients.
#[derive(Debug)]
pub struct Client;

impl Client {
    /// Starts a client, which proves with `prover` until it is stopped. The server need not be reachable yet.
    ///
    /// # Errors
    /// A wrong address, or a folder that cannot be used.
    pub async fn start(config: Config, prover: Arc<dyn Prover>) -> Result<Running, Error> {
        let journal = Journal::open(&config.data_dir, ClientId::from_bytes(rand::random()))?;
        let metrics = Metrics::new(prover.system());
        start(config, journal, prover, metrics)
    }

    /// Starts a client with several provers, each of which works on a job of its own. To a server each is a client with an id of its
    /// own, and all have the same name. Below the folder of the client each has one of its own: [`journal::folder`]. They count
    /// together: each [`Running`] has the same metrics.
    ///
    /// # Errors
    /// As [`start`](Self::start). Then none is running.
    pub async fn start_all(
        config: Config,
        provers: Vec<Arc<dyn Prover>>,
    ) -> Result<Vec<Running>, Error> {
        let mut journals = Vec::new();
        for (number, _) in (1..).zip(&provers) {
            let folder = journal::folder(&config.data_dir, number);
            journals.push(Journal::open(&folder, ClientId::from_bytes(rand::random()))?);
        }
        let Some(first) = journals.first() else { return Ok(Vec::new()) };
        for number in journal::others(&config.data_dir)? {
            if number as usize > provers.len() {
                let proofs = first.adopt(&journal::folder(&config.data_dir, number))?;
                if proofs > 0 {
                    tracing::info!(
                        prover = number,
                        proofs,
                        "proofs found of a prover that there is no more"
                    );
                }
            }
        }
        let metrics = Metrics::new(provers[0].system());
        let mut all = Vec::new();
        for ((number, prover), journal) in (1..).zip(provers).zip(journals) {
            let data_dir = journal::folder(&config.data_dir, number);
            let config = Config { data_dir, ..config.clone() };
            match start(config, journal, prover, metrics.clone()) {
                Ok(running) => all.push(running),
                Err(error) => {
                    futures::future::join_all(all.into_iter().map(Running::stop)).await;
                    return Err(error);
                }
            }
        }
        Ok(all)
    }
}

/// Starts a prover of a client in its folder.
fn start(
    config: Config,
    journal: Journal,
    prover: Arc<dyn Prover>,
    metrics: Metrics,
) -> Result<Running, Error> {
    if config.name.as_deref().is_some_and(|name| !config::is_name(name)) {
        return Err(Error::Name);
    }
    let api = |server: &String| {
        Api::new(&config, server).map_err(|detail| Error::Server { server: server.clone(), detail })
    };
    let servers: Vec<_> = config
        .servers
        .iter()
        .map(|server| Ok(Server::new(api(server)?, api(server)?)))
        .collect::<Result<_, Error>>()?;
    if servers.is_empty() {
        return Err(Error::NoServer);
    }
    let beats = Heartbeats::start().map_err(Error::Thread)?;
    if let Some(danger) = prover.danger() {
        tracing::warn!(code = "danger", danger, "this client's proofs prove nothing");
    }
    let client = journal.client();
    let (status, watching) = watch::channel(Status {
        client,
        system: prover.system(),
        phase: Phase::Idle(None),
        accepted: 0,
        duplicate: 0,
        rejected: 0,
        failed: 0,
        last_error: None,
        fatal: None,
    });
    let now = CancellationToken::new();
    let stop = Stop { draining: now.child_token(), now };
    let shared = Shared::new(
        config,
        servers,
        Arc::new(journal),
        prover,
        status,
        metrics.clone(),
        stop.clone(),
    );
    let worker = Worker::new(shared, beats);
    tracing::info!(%client, "client started");
    Ok(Running { stop, worker: tokio::spawn(worker.run()), watching, metrics })
}

/// A running client. Dropping it without [`stop`](Self::stop) leaves its tasks to the runtime.
#[derive(Debug)]
pub struct Running {
    stop: Stop,
    worker: JoinHandle<()>,
    watching: watch::Receiver<Status>,
    metrics: Metrics,
}

impl Running {
    /// What the client does now.
    pub fn status(&self) -> Status {
        self.watching.borrow().clone()
    }

    /// What the client has counted.
    pub fn metrics(&self) -> Metrics {
        self.metrics.clone()
    }

    /// Follows what the client does.
    pub fn watch(&self) -> watch::Receiver<Status> {
        self.watching.clone()
    }

    /// Stops: proving is cancelled and the job given back; a finished proof is handed in at the next start.
    pub async fn stop(self) {
        self.drain(Duration::ZERO).await;
    }

    /// Stops when the job at hand is finished and handed in, but after `grace` at the latest: then as [`stop`](Self::stop).
    pub async fn drain(mut self, grace: Duration) {
        self.stop.draining.cancel();
        let ended = match tokio::time::timeout(grace, &mut self.worker).await {
            Ok(ended) => ended,
            Err(_elapsed) => {
                self.stop.now.cancel();
                self.worker.await
            }
        };
        if let Err(error) = ended {
            tracing::error!(code = "client_crashed", %error, "client crashed");
        }
    }
}
