//! A Prover Server that misbehaves as told, and a prover that costs nothing.

use alloy_primitives::B256;
use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::{Path, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response as Answer},
    routing::{get, post},
};
use client::{
    Cancel, Client, Execution, Progress, ProofKind, ProofSystem, ProveError, Prover, Running,
};
use protocol::{
    Advice, ApiError, ArtifactRef, BlockRange, ErrorCode, Fail, FailAck, Heartbeat, HeartbeatAck,
    JobId, LeaseId, NoWork, NoWorkReason, Origin, ProofData, Request, Response, Submit, SubmitAck,
    Verdict,
};
use std::{
    collections::{BTreeSet, HashMap},
    path::Path as FilePath,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::net::TcpListener;

/// What a server does.
#[derive(Clone)]
pub(crate) struct Manners {
    /// Its jobs.
    pub jobs: u64,
    /// It takes so long to answer a request for work.
    pub slow: Duration,
    /// It never answers these: `request`, `download`, `upload`, `submit`, `heartbeat`.
    pub silent: BTreeSet<&'static str>,
    /// It says so in each `NoWork`.
    pub no_work_ms: u64,
    /// Why it has no work.
    pub reason: NoWorkReason,
    /// Proofs are pending for so long.
    pub verifies: Duration,
    /// It says so in each `Pending`.
    pub pending_ms: u64,
    /// What it says of each lease.
    pub ttl_ms: u64,
    pub heartbeat_ms: u64,
    /// It does not know its jobs any more.
    pub forgets: bool,
    /// It refuses requests for work with this, in words of a proxy.
    pub refuses: Option<(StatusCode, &'static str)>,
    /// Its inputs.
    pub input: Vec<u8>,
    /// A download ends after so many bytes.
    pub cut: Option<usize>,
    /// It supports ranges.
    pub ranges: bool,
}

impl Default for Manners {
    fn default() -> Self {
        Self {
            jobs: 0,
            slow: Duration::ZERO,
            silent: BTreeSet::new(),
            no_work_ms: 200,
            reason: NoWorkReason::NothingReady,
            verifies: Duration::ZERO,
            pending_ms: 100,
            ttl_ms: 60_000,
            heartbeat_ms: 15_000,
            forgets: false,
            refuses: None,
            input: b"input".to_vec(),
            cut: None,
            ranges: false,
        }
    }
}

/// What a server has seen.
#[derive(Default)]
pub(crate) struct Seen {
    pub requests: AtomicU64,
    pub heartbeats: AtomicU64,
    pub submits: AtomicU64,
    pub uploads: AtomicU64,
    /// Messages about jobs that it does not know.
    pub unknown: AtomicU64,
    pub fails: Mutex<Vec<Fail>>,
    /// Times at which proofs were accepted.
    pub accepted: Mutex<Vec<Instant>>,
    /// Requests for work from a client that was at work.
    pub abandoned: AtomicU64,
    /// Who asked for work.
    pub origins: Mutex<Vec<Origin>>,
    /// What downloads asked for.
    pub ranges: Mutex<Vec<Option<String>>>,
}

struct Inner {
    name: u8,
    manners: Mutex<Manners>,
    seen: Seen,
    /// Jobs lent so far; the last of them is leased and was heard, or handed in.
    lent: AtomicU64,
    leased: Mutex<Option<(u64, bool)>>,
    first_submits: Mutex<HashMap<JobId, Instant>>,
}

/// A server that runs until the test ends.
#[derive(Clone)]
pub(crate) struct Fake {
    pub url: String,
    inner: Arc<Inner>,
}

impl Fake {
    pub(crate) async fn start(name: u8, manners: Manners) -> Self {
        let inner = Arc::new(Inner {
            name,
            manners: Mutex::new(manners),
            seen: Seen::default(),
            lent: AtomicU64::new(0),
            leased: Mutex::new(None),
            first_submits: Mutex::default(),
        });
        let router = Router::new()
            .route("/v1/request", post(request))
            .route("/v1/artifacts/{id}", get(download).put(upload))
            .route("/v1/jobs/{job}/{deed}", post(deed))
            .with_state(inner.clone());
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, inner }
    }

    pub(crate) fn seen(&self) -> &Seen {
        &self.inner.seen
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut Manners)) {
        change(&mut self.inner.manners.lock().unwrap());
    }

    pub(crate) fn accepted(&self) -> usize {
        self.inner.seen.accepted.lock().unwrap().len()
    }
}

impl Inner {
    fn manners(&self) -> Manners {
        self.manners.lock().unwrap().clone()
    }

    async fn silence(&self, at: &str) {
        if self.manners().silent.contains(at) {
            std::future::pending::<()>().await;
        }
    }

    fn job(&self, n: u64) -> JobId {
        let mut id = [self.name; 16];
        id[..8].copy_from_slice(&n.to_be_bytes());
        JobId::from_bytes(id)
    }

    fn response(&self, n: u64) -> ProofData {
        let manners = self.manners();
        let mut lease = [self.name; 16];
        lease[8..].copy_from_slice(&n.to_be_bytes());
        ProofData::Response(Response {
            job: self.job(n),
            lease: LeaseId::from_bytes(lease),
            ttl_ms: manners.ttl_ms,
            heartbeat_ms: manners.heartbeat_ms,
            block_numbers: BlockRange::new(n, n).unwrap(),
            system: ProofSystem::Exec,
            program_id: B256::ZERO,
            kind: ProofKind::Composite,
            prover_inputs: ArtifactRef::of(&manners.input),
            max_proof_bytes: None,
            traceparent: None,
            part: None,
        })
    }

    /// As the real server: the same lease again for a client that was not heard on it.
    fn lend(&self) -> Option<ProofData> {
        let mut leased = self.leased.lock().unwrap();
        if let Some((n, heard)) = *leased {
            if !heard {
                return Some(self.response(n));
            }
            self.seen.abandoned.fetch_add(1, Ordering::SeqCst);
        }
        let n = self.lent.load(Ordering::SeqCst) + 1;
        if n > self.manners().jobs {
            return None;
        }
        self.lent.store(n, Ordering::SeqCst);
        *leased = Some((n, false));
        Some(self.response(n))
    }
}

fn refuse(status: StatusCode, code: ErrorCode) -> Answer {
    let message = "no".to_owned();
    let error = ApiError { code, message, retryable: false, retry_after_ms: None };
    (status, Json(error)).into_response()
}

async fn request(State(server): State<Arc<Inner>>, Json(message): Json<ProofData>) -> Answer {
    let ProofData::Request(Request { wait_ms, origin, .. }) = message else {
        panic!("{message:?}")
    };
    server.seen.origins.lock().unwrap().extend(origin);
    server.seen.requests.fetch_add(1, Ordering::SeqCst);
    server.silence("request").await;
    let manners = server.manners();
    if let Some((status, retry_after)) = manners.refuses {
        return (status, [(header::RETRY_AFTER, retry_after)], "<html>busy").into_response();
    }
    tokio::time::sleep(manners.slow).await;
    let deadline = Instant::now() + Duration::from_millis(wait_ms);
    loop {
        if let Some(response) = server.lend() {
            return Json(response).into_response();
        }
        if Instant::now() >= deadline {
            let (reason, retry_after_ms) = (manners.reason, manners.no_work_ms);
            return Json(ProofData::NoWork(NoWork { reason, retry_after_ms })).into_response();
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn download(State(server): State<Arc<Inner>>, headers: HeaderMap) -> Answer {
    let range = headers.get(header::RANGE).map(|range| range.to_str().unwrap().to_owned());
    server.seen.ranges.lock().unwrap().push(range.clone());
    server.silence("download").await;
    let manners = server.manners();
    let from = range.filter(|_| manners.ranges).map_or(0, |range| {
        range.strip_prefix("bytes=").unwrap().strip_suffix('-').unwrap().parse().unwrap()
    });
    let (input, len) = (manners.input, from);
    let rest = input[from..].to_vec();
    let body = match manners.cut {
        Some(cut) if cut < rest.len() => {
            let piece = Ok(Bytes::from(rest[..cut].to_vec()));
            let pieces = [piece, Err(std::io::Error::other("cut"))];
            // The pause lets the first piece go before the connection breaks.
            let pieces = futures::StreamExt::then(futures::stream::iter(pieces), async |piece| {
                if piece.is_err() {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                piece
            });
            Body::from_stream(pieces)
        }
        _ => Body::from(rest),
    };
    if len == 0 {
        return body.into_response();
    }
    let range = format!("bytes {len}-{}/{}", input.len() - 1, input.len());
    (StatusCode::PARTIAL_CONTENT, [(header::CONTENT_RANGE, range)], body).into_response()
}

async fn upload(State(server): State<Arc<Inner>>, body: Bytes) -> StatusCode {
    drop(body);
    server.seen.uploads.fetch_add(1, Ordering::SeqCst);
    server.silence("upload").await;
    StatusCode::CREATED
}

async fn deed(
    State(server): State<Arc<Inner>>,
    Path((job, deed)): Path<(String, String)>,
    Json(message): Json<ProofData>,
) -> Answer {
    let job: JobId = job.parse().unwrap();
    let mine = (1..=server.lent.load(Ordering::SeqCst)).any(|n| server.job(n) == job);
    server.silence(&deed).await;
    let manners = server.manners();
    if !mine || manners.forgets {
        server.seen.unknown.fetch_add(1, Ordering::SeqCst);
        return refuse(StatusCode::NOT_FOUND, ErrorCode::NoSuchJob);
    }
    let answer = match message {
        ProofData::Heartbeat(Heartbeat { .. }) => {
            server.seen.heartbeats.fetch_add(1, Ordering::SeqCst);
            if let Some((_, heard)) = &mut *server.leased.lock().unwrap() {
                *heard = true;
            }
            ProofData::HeartbeatAck(HeartbeatAck { advice: Advice::Continue })
        }
        ProofData::Fail(fail) => {
            server.seen.fails.lock().unwrap().push(fail);
            server.lent.fetch_sub(1, Ordering::SeqCst);
            *server.leased.lock().unwrap() = None;
            ProofData::FailAck(FailAck {})
        }
        ProofData::Submit(Submit { .. }) => {
            server.seen.submits.fetch_add(1, Ordering::SeqCst);
            *server.leased.lock().unwrap() = None;
            let first =
                *server.first_submits.lock().unwrap().entry(job).or_insert_with(Instant::now);
            let verdict = match first.elapsed() < manners.verifies {
                true => Verdict::Pending { retry_after_ms: manners.pending_ms },
                false => {
                    server.seen.accepted.lock().unwrap().push(Instant::now());
                    Verdict::Accepted
                }
            };
            ProofData::SubmitAck(SubmitAck { verdict })
        }
        other => panic!("{other:?}"),
    };
    Json(answer).into_response()
}

/// The address of a server that takes connections and never says a word, for as long as the listener lives.
pub(crate) async fn black_hole() -> (String, TcpListener) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    (format!("http://{}", listener.local_addr().unwrap()), listener)
}

/// Says that an input is its own proof, after a while.
#[derive(Default)]
pub(crate) struct Echo {
    pub takes: Duration,
    pub proven: AtomicU64,
    /// The disk is full for it.
    pub disk_full: AtomicBool,
    pub tests: AtomicU64,
}

impl Echo {
    pub(crate) fn new(takes_ms: u64) -> Arc<Self> {
        Arc::new(Self { takes: Duration::from_millis(takes_ms), ..Self::default() })
    }

    fn check(&self) -> Result<(), ProveError> {
        match self.disk_full.load(Ordering::SeqCst) {
            true => Err(ProveError::Failed("write: No space left on device (os error 28)".into())),
            false => Ok(()),
        }
    }
}

impl Prover for Echo {
    fn system(&self) -> ProofSystem {
        ProofSystem::Exec
    }

    fn program_id(&self) -> B256 {
        B256::ZERO
    }

    fn danger(&self) -> Option<&'static str> {
        Some("exec")
    }

    fn prove(
        &self,
        input: &[u8],
        _: ProofKind,
        cancel: &Cancel,
        _: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<Vec<u8>, ProveError> {
        self.check()?;
        let begun = Instant::now();
        while begun.elapsed() < self.takes {
            if cancel.is_set() {
                return Err(ProveError::Cancelled);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        self.proven.fetch_add(1, Ordering::SeqCst);
        Ok(input.to_vec())
    }

    fn execute(&self, _: &[u8]) -> Result<Execution, ProveError> {
        Err(ProveError::Cancelled)
    }

    fn self_test(&self) -> Result<(), ProveError> {
        self.tests.fetch_add(1, Ordering::SeqCst);
        self.check()
    }
}

pub(crate) fn config(dir: &FilePath, servers: &[&str]) -> client::Config {
    client::Config {
        servers: servers.iter().map(|server| (*server).to_owned()).collect(),
        data_dir: dir.join("client"),
        min_free_bytes: 0,
        ..client::Config::default()
    }
}

pub(crate) async fn start(config: client::Config, prover: &Arc<Echo>) -> Running {
    Client::start(config, prover.clone()).await.unwrap()
}

/// Waits until `done` says so, for at most a minute. Returns how long that took.
pub(crate) async fn until(what: &str, mut done: impl FnMut() -> bool) -> Duration {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(60) {
        if done() {
            return begun.elapsed();
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it never came true that {what}");
}
