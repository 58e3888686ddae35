//! `l2-prover bench server`: what the Prover Server's job engine takes and gives.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use alloy_primitives::{B256, keccak256};
use anyhow::{Context as _, ensure};
use clap::Args;
use client::memory;
use protocol::{
    ArtifactRef, BlockRange, Capability, ClientId, LeaseId, ProofData, ProofKind, ProofSystem,
    Request, Submit, Verdict,
};
use serde::Serialize;
use server::clock::Timestamp;
use server::jobs::crew::{Crew, Share};
use server::jobs::parts::{Run, Step, next_steps, rest};
use server::jobs::{NewBatch, Party, Rules, Target};
use server::store::{JobStore, Leased, Offer, Submitted};
use server::{Config, DatabaseUrl, Running, Server};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::output::{Output, thousands};

/// `l2-prover bench server`
#[derive(Debug, Args)]
pub(crate) struct BenchServer {
    /// Numbers of clients that ask for work as fast as they can
    #[arg(long, value_delimiter = ',', default_value = "1,100,1000", value_name = "N,...")]
    pub clients: Vec<u64>,
    /// How long each number of clients works
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=600), value_name = "SECONDS")]
    pub seconds: u64,
    /// Open jobs with which a server starts
    #[arg(long, default_value_t = 100_000, value_name = "N")]
    pub jobs: u64,
    /// Clients that wait for work, each on a connection of its own. The process opens two files for each of them
    #[arg(long, default_value_t = 400, value_name = "N")]
    pub waiting: usize,
    /// Pages of the dashboard that are open while an operator decides something again and again
    #[arg(long, default_value_t = 100, value_name = "N")]
    pub pages: usize,
    /// An empty PostgreSQL database, `postgres://USER@HOST/DATABASE`, for the clients' jobs instead of SQLite; nothing but
    /// the load is measured then
    #[arg(long, value_name = "URL")]
    pub database: Option<String>,
}

const TARGET: Target =
    Target { system: ProofSystem::Exec, program_id: B256::ZERO, kind: ProofKind::Composite };

/// Clients that pull an input at the same time, and the input's length.
const PULLING: (usize, usize) = (50, 100 << 20);

/// The lease under which a client dies.
const LEASE: Duration = Duration::from_secs(2);

/// Runs the command.
pub(super) async fn run(
    args: BenchServer,
    output: &Output,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    for clients in &args.clients {
        ensure!(!shutdown.is_cancelled(), "interrupted");
        output.report(&load(&args, *clients).await?)?;
    }
    output.report(&in_parts(args.database.as_deref()).await?)?;
    if args.database.is_none() {
        output.report(&cold_start(args.jobs).await?)?;
        output.report(&death().await?)?;
        output.report(&waiting(args.waiting).await?)?;
        output.report(&watched(args.pages).await?)?;
    }
    Ok(())
}

/// So many one-block batches, the first of which continues `parent`.
fn batches(parent: u64, count: u64) -> Vec<NewBatch> {
    let hash = |number: u64| keccak256(number.to_be_bytes());
    let batch = |number: u64| {
        let mut statement = [hash(number - 1), hash(number)].concat();
        statement.resize(448, 0);
        NewBatch {
            blocks: BlockRange::new(number, number).expect("one block"),
            parent_hash: hash(number - 1),
            last_hash: hash(number),
            statement_digest: keccak256(&statement),
            statement,
            input: ArtifactRef::of(b"nobody reads it"),
            gas_used: 0,
            transactions: 0,
            estimated_cycles: 0,
            deposits: None,
        }
    };
    (parent + 1..=parent + count).map(batch).collect()
}

/// Enqueues batches, not all in one transaction: nobody does that.
async fn enqueue(store: &JobStore, batches: &[NewBatch]) -> anyhow::Result<()> {
    for some in batches.chunks(500) {
        store.enqueue_all(some, &TARGET.into(), store.now().await?).await?;
    }
    Ok(())
}

async fn open(folder: &Path, database: Option<&str>) -> anyhow::Result<JobStore> {
    let config = Config::default();
    let rules = Rules {
        lease: config.lease,
        max_hold: config.max_hold,
        max_failures: config.max_failures,
        max_lost: config.max_lost,
        max_rejected: config.max_rejected,
        max_newcomers: config.max_newcomers,
    };
    Ok(match database {
        Some(url) => JobStore::connect(&DatabaseUrl::new(url.to_owned()), rules).await?,
        None => JobStore::open(&folder.join("jobs.sqlite"), rules).await?,
    })
}

/// What clients get that ask as fast as they can, and prove in no time.
#[derive(Debug, Serialize)]
struct Load {
    database: &'static str,
    clients: u64,
    /// Jobs leased, and their proofs acknowledged, per second.
    jobs_per_second: u64,
    /// Of a request for work, in microseconds.
    lease_p50: u64,
    /// The same; one of a hundred takes longer.
    lease_p99: u64,
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |us: u64| us as f64 / 1_000.0;
        write!(
            f,
            "{}, {} clients: {} jobs/s leased and acknowledged; a request for work takes {:.1} ms (median), {:.1} ms (p99)",
            self.database,
            thousands(self.clients),
            thousands(self.jobs_per_second),
            ms(self.lease_p50),
            ms(self.lease_p99)
        )
    }
}

async fn load(args: &BenchServer, clients: u64) -> anyhow::Result<Load> {
    let folder = tempfile::tempdir().context("failed to make a temporary folder")?;
    let store = open(folder.path(), args.database.as_deref()).await?;
    let tip = store.tip().await?.map_or(0, |tip| tip.last);
    // More than can be proved in the time.
    let jobs = batches(tip, args.seconds * 4_000);
    enqueue(&store, &jobs).await?;
    let (proved, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let mut working = JoinSet::new();
    for _ in 0..clients {
        working.spawn(work(store.clone(), proved.clone(), stop.clone()));
    }
    // What comes first is not what comes on the average.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (begun, before) = (Instant::now(), proved.load(Ordering::Relaxed));
    tokio::time::sleep(Duration::from_secs(args.seconds)).await;
    let (took, after) = (begun.elapsed(), proved.load(Ordering::Relaxed));
    stop.store(true, Ordering::Relaxed);
    let asked = requests(working).await?;
    ensure!(!asked.is_empty(), "no request was answered in {} s", args.seconds);
    store.close().await;
    Ok(Load {
        database: if args.database.is_some() { "PostgreSQL" } else { "SQLite" },
        clients,
        jobs_per_second: (after - before) * 1_000 / u64::try_from(took.as_millis())?.max(1),
        lease_p50: asked[asked.len() / 2],
        lease_p99: asked[asked.len() * 99 / 100],
    })
}

/// Takes jobs and hands in proofs until it is stopped; returns how long each request for work took.
async fn work(
    store: JobStore,
    proved: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
) -> anyhow::Result<Vec<u64>> {
    let client = ClientId::from_bytes(rand_id());
    let able = [Capability::new(TARGET.system, TARGET.program_id, true)];
    let mut took = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let (begun, now) = (Instant::now(), store.now().await?);
        let lease = LeaseId::from_bytes(rand_id());
        let Offer::Job(leased) = store
            .lease(client, Party::Client(client), &able, lease, Share::ALL, now, now)
            .await?
            .value
        else {
            anyhow::bail!("the jobs ran out: fewer --seconds, or more jobs");
        };
        took.push(u64::try_from(begun.elapsed().as_micros())?);
        hand_in(&store, client, &leased, now).await?;
        proved.fetch_add(1, Ordering::Relaxed);
    }
    Ok(took)
}

/// Hands in a proof for what was leased, which is accepted.
async fn hand_in(
    store: &JobStore,
    client: ClientId,
    leased: &Leased,
    now: Timestamp,
) -> anyhow::Result<()> {
    let submit = Submit {
        client,
        lease: leased.lease.id,
        system: leased.target.system,
        program_id: leased.target.program_id,
        kind: leased.target.kind,
        proof: ArtifactRef::of(leased.lease.id.as_bytes()),
    };
    let Submitted::Verify(_) = store.submit(leased.job, &submit, now).await?.value else {
        anyhow::bail!("it was proved before");
    };
    let verdict = store.judge(leased.job, &submit, Ok(()), now).await?.value;
    ensure!(verdict == Verdict::Accepted, "the proof was not accepted: {verdict:?}");
    Ok(())
}

/// How long each request of these clients took, which end: the shortest first.
async fn requests(mut working: JoinSet<anyhow::Result<Vec<u64>>>) -> anyhow::Result<Vec<u64>> {
    let mut asked = Vec::new();
    while let Some(one) = working.join_next().await {
        asked.extend(one.context("a client panicked")??);
    }
    asked.sort_unstable();
    Ok(asked)
}

/// What the clients get that prove one batch in parts, of one segment each, in no time.
#[derive(Debug, Serialize)]
struct InParts {
    database: &'static str,
    clients: u64,
    /// Parts that were leased and proved: the segments, and the joins of their proofs.
    parts: usize,
    /// From the first to the last of them.
    milliseconds: u128,
    /// Of a request for work that was answered with a part, in microseconds.
    lease_p50: u64,
    /// The same; one of a hundred takes longer.
    lease_p99: u64,
}

impl fmt::Display for InParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |us: u64| us as f64 / 1_000.0;
        write!(
            f,
            "{}, {} clients on one batch in {} parts, {:.1} s: a request for work takes {:.1} ms (median), {:.1} ms (p99)",
            self.database,
            thousands(self.clients),
            thousands(self.parts as u64),
            self.milliseconds as f64 / 1_000.0,
            ms(self.lease_p50),
            ms(self.lease_p99)
        )
    }
}

/// Clients at work on one batch, and its segments.
const CREW: (u64, u32) = (64, 1_000);

async fn in_parts(database: Option<&str>) -> anyhow::Result<InParts> {
    let folder = tempfile::tempdir().context("failed to make a temporary folder")?;
    let store = open(folder.path(), database).await?.dividing(true);
    let tip = store.tip().await?.map_or(0, |tip| tip.last);
    let target = Target { kind: ProofKind::Succinct, ..TARGET };
    let run = Run { segments: CREW.1, keccak: 0 };
    let now = store.now().await?;
    let [job] = store.enqueue(&batches(tip, 1)[0], &target.into(), now).await?[..] else {
        anyhow::bail!("one batch is one job");
    };
    store.divide(job, ArtifactRef::of(b"nobody reads it"), 20, run, now).await?;

    let (begun, stop) = (Instant::now(), Arc::new(AtomicBool::new(false)));
    let changed = Arc::new(Notify::new());
    let mut working = JoinSet::new();
    for _ in 0..CREW.0 {
        working.spawn(work_on_parts(store.clone(), changed.clone(), stop.clone()));
    }
    let crew = usize::try_from(CREW.0)?;
    // As the server does: when a part was proved, and not without a rest.
    while store.finished(job).await?.is_none() {
        let looked = Instant::now();
        ensure!(begun.elapsed() < Duration::from_secs(300), "not proved in five minutes");
        let states: Vec<_> = store.parts(job).await?.into_iter().map(|part| part.state).collect();
        for step in next_steps(run, &states, crew, 4 * crew) {
            match step {
                Step::Add(work) => drop(store.add_part(job, work, store.now().await?).await?),
                other => anyhow::bail!("nothing goes wrong here, but {other:?} is to be done"),
            }
        }
        tokio::time::sleep(rest(looked.elapsed())).await;
        let _ = tokio::time::timeout(Duration::from_secs(1), changed.notified()).await;
    }
    let milliseconds = begun.elapsed().as_millis();
    stop.store(true, Ordering::Relaxed);
    let asked = requests(working).await?;
    let segments = store.parts(job).await?;
    let proved = segments.iter().filter(|part| part.proof.is_some()).count();
    ensure!(proved == asked.len(), "{} parts were leased, and {proved} proved", asked.len());
    store.close().await;
    Ok(InParts {
        database: if database.is_some() { "PostgreSQL" } else { "SQLite" },
        clients: CREW.0,
        parts: proved,
        milliseconds,
        lease_p50: asked[asked.len() / 2],
        lease_p99: asked[asked.len() * 99 / 100],
    })
}

/// Takes parts and hands in proofs until it is stopped; returns how long each request took that got a part.
async fn work_on_parts(
    store: JobStore,
    changed: Arc<Notify>,
    stop: Arc<AtomicBool>,
) -> anyhow::Result<Vec<u64>> {
    let client = ClientId::from_bytes(rand_id());
    let able = [Capability {
        kinds: vec![ProofKind::Part],
        ..Capability::new(TARGET.system, TARGET.program_id, true)
    }];
    // So slow beside another one that its share is one segment.
    let mut crew = Crew::default();
    let other = ClientId::from_bytes(rand_id());
    for (client, cycles) in [(client, 1), (other, 1 << 40)] {
        crew.heard(client, None, store.now().await?);
        crew.proved(client, cycles, Duration::from_secs(1));
    }
    let mut took = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let (begun, now) = (Instant::now(), store.now().await?);
        let (lease, party) = (LeaseId::from_bytes(rand_id()), Party::Client(client));
        let offer = store.lease(client, party, &able, lease, crew.share(client, now), now, now);
        let Offer::Job(leased) = offer.await?.value else {
            tokio::time::sleep(Duration::from_millis(5)).await;
            continue;
        };
        took.push(u64::try_from(begun.elapsed().as_micros())?);
        hand_in(&store, client, &leased, now).await?;
        changed.notify_one();
    }
    Ok(took)
}

/// A new client's request for work.
fn ask_for_work(wait_ms: u64) -> ProofData {
    let (system, program_id) = (TARGET.system, TARGET.program_id);
    ProofData::Request(Request {
        client: ClientId::from_bytes(rand_id()),
        capabilities: vec![Capability::new(system, program_id, true)],
        wait_ms,
        origin: None,
    })
}

/// Sixteen bytes that no other call of this process gives.
fn rand_id() -> [u8; 16] {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let hash =
        keccak256([number.to_be_bytes(), u64::from(std::process::id()).to_be_bytes()].concat());
    let mut id = [0; 16];
    id.copy_from_slice(&hash[..16]);
    id
}

async fn serve(folder: &Path, lease: Duration) -> anyhow::Result<Running> {
    Ok(Server::start(config(folder, lease), None::<witness::Nodes>).await?)
}

fn config(folder: &Path, lease: Duration) -> Config {
    Config {
        listen_port: 0,
        data_dir: folder.to_owned(),
        system: TARGET.system,
        danger_accept_exec: true,
        lease,
        heartbeat: lease / 4,
        ..Config::default()
    }
}

/// A server that starts with many open jobs.
#[derive(Debug, Serialize)]
struct ColdStart {
    jobs: u64,
    /// Until it has answered the first question for its status, in milliseconds.
    milliseconds: u128,
    /// The process's largest resident set meanwhile, in bytes.
    memory: Option<u64>,
    /// The same while clients pull inputs of 100 MiB; they are in this process too.
    memory_pulling: Option<u64>,
    /// How many clients that are.
    pulling: usize,
}

impl fmt::Display for ColdStart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: Option<u64>| bytes.map_or("?".into(), |bytes| (bytes >> 20).to_string());
        write!(
            f,
            "{} open jobs: started in {} ms, {} MiB of memory; {} MiB while {} clients pull 100 MiB each",
            thousands(self.jobs),
            self.milliseconds,
            mib(self.memory),
            mib(self.memory_pulling),
            self.pulling
        )
    }
}

async fn cold_start(jobs: u64) -> anyhow::Result<ColdStart> {
    let folder = tempfile::tempdir().context("failed to make a temporary folder")?;
    let store = open(folder.path(), None).await?;
    enqueue(&store, &batches(0, jobs)).await?;
    store.close().await;
    memory::reset_peak();
    let begun = Instant::now();
    let server = serve(folder.path(), Duration::from_secs(60)).await?;
    let status: protocol::Status =
        reqwest::get(format!("{}{}", server.url(), protocol::paths::STATUS)).await?.json().await?;
    let milliseconds = begun.elapsed().as_millis();
    ensure!(status.counts.ready == jobs, "{:?}", status.counts);
    let peak = memory::peak();

    let input = vec![7; PULLING.1];
    let url = format!("{}/v1/artifacts/{}", server.url(), ArtifactRef::of(&input).sha256);
    let http = reqwest::Client::new();
    http.put(&url).body(input).send().await?.error_for_status()?;
    memory::reset_peak();
    let mut pulling = JoinSet::new();
    for _ in 0..PULLING.0 {
        let request = http.get(&url);
        pulling.spawn(async move {
            let (mut answer, mut len) = (request.send().await?.error_for_status()?, 0);
            while let Some(piece) = answer.chunk().await? {
                len += piece.len();
            }
            Ok::<_, reqwest::Error>(len)
        });
    }
    while let Some(len) = pulling.join_next().await {
        ensure!(len.context("a client panicked")?? == PULLING.1, "an input was cut");
    }
    let memory_pulling = memory::peak();
    server.stop().await;
    Ok(ColdStart { jobs, milliseconds, memory: peak, memory_pulling, pulling: PULLING.0 })
}

/// Clients that wait for work, of which there is none.
#[derive(Debug, Serialize)]
struct Waiting {
    clients: usize,
    /// The process's largest resident set, in bytes, before they came.
    before: Option<u64>,
    /// The same while they wait; their ends of the connections are in this process too.
    memory: Option<u64>,
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: Option<u64>| bytes.map_or("?".into(), |bytes| (bytes >> 20).to_string());
        write!(
            f,
            "{} clients wait for work: {} MiB of memory, {} MiB before they came",
            thousands(self.clients as u64),
            mib(self.memory),
            mib(self.before)
        )
    }
}

async fn waiting(clients: usize) -> anyhow::Result<Waiting> {
    let folder = tempfile::tempdir().context("failed to make a temporary folder")?;
    let mut config = config(folder.path(), Duration::from_secs(60));
    config.limits.connections = clients + 10;
    config.limits.connections_per_address = clients + 10;
    config.limits.requests_open = clients + 10;
    config.limits.requests_at_once = u32::try_from(clients + 10)?.try_into()?;
    config.max_wait = Duration::from_secs(600);
    let server = Server::start(config, None::<witness::Nodes>).await?;
    memory::reset_peak();
    let before = memory::peak();
    let mut connections = Vec::with_capacity(clients);
    for _ in 0..clients {
        let body = serde_json::to_string(&ask_for_work(600_000))?;
        let request = format!(
            "POST /v1/request HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            server.addr(),
            body.len()
        );
        let mut connection = TcpStream::connect(server.addr()).await?;
        connection.write_all(request.as_bytes()).await?;
        connections.push(connection);
    }
    let begun = Instant::now();
    while server.requests_waiting() < clients as u64 {
        ensure!(
            begun.elapsed() < Duration::from_secs(120),
            "not all clients were heard in two minutes"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // Each is written down, and its turn comes and goes.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let memory = memory::peak();
    ensure!(server.requests_waiting() == clients as u64, "clients went");
    drop(connections);
    server.stop().await;
    Ok(Waiting { clients, before, memory })
}

/// A client that dies, and another that waits for its job.
#[derive(Debug, Serialize)]
struct Death {
    /// Of the job, in milliseconds.
    lease: u128,
    /// From the client's last word until the other has the job, in milliseconds.
    milliseconds: u128,
}

impl fmt::Display for Death {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "a dead client's job was leased again {} ms after its last word, under leases of {} ms",
            self.milliseconds, self.lease
        )
    }
}

async fn death() -> anyhow::Result<Death> {
    let folder = tempfile::tempdir().context("failed to make a temporary folder")?;
    let store = open(folder.path(), None).await?;
    store.enqueue_all(&batches(0, 1), &TARGET.into(), store.now().await?).await?;
    store.close().await;
    let server = serve(folder.path(), LEASE).await?;
    let (http, url) = (reqwest::Client::new(), format!("{}/v1/request", server.url()));
    let ask = || async {
        let answer = http.post(&url).json(&ask_for_work(30_000)).send().await?.json().await?;
        ensure!(matches!(answer, ProofData::Response(_)), "no job: {answer:?}");
        Ok(Instant::now())
    };
    let last_word = ask().await?;
    let leased_again = ask().await?;
    server.stop().await;
    let milliseconds = leased_again.duration_since(last_word).as_millis();
    Ok(Death { lease: LEASE.as_millis(), milliseconds })
}

/// Pages of the dashboard that are open.
#[derive(Debug, Serialize)]
struct Watched {
    pages: usize,
    /// What an operator decided meanwhile, one after the other.
    decisions: usize,
    /// From the operator's request until a page has heard of it, in microseconds.
    news_p50: u64,
    /// The same; one of a hundred takes longer.
    news_p99: u64,
    /// CPU time of this process in milliseconds for each second, while nothing happens; the pages' ends of the connections are in it too.
    cpu_quiet: Option<u64>,
    /// The same while the operator decides.
    cpu_busy: Option<u64>,
}

impl fmt::Display for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |micros: u64| micros / 1000;
        let cpu = |ms: Option<u64>| ms.map_or("?".into(), |ms| ms.to_string());
        write!(
            f,
            "{} pages of the dashboard hear of a decision after {} ms (median), {} ms (p99 of {}); {} ms of CPU time a second meanwhile, {} ms while nothing happens",
            self.pages,
            ms(self.news_p50),
            ms(self.news_p99),
            self.pages * self.decisions,
            cpu(self.cpu_busy),
            cpu(self.cpu_quiet)
        )
    }
}

/// So often the operator decides, and so much time is between that.
const DECISIONS: (usize, Duration) = (100, Duration::from_millis(300));

/// How long nothing happens.
const QUIET: Duration = Duration::from_secs(10);

async fn watched(pages: usize) -> anyhow::Result<Watched> {
    let folder = tempfile::tempdir().context("failed to make a temporary folder")?;
    let mut config = config(folder.path(), Duration::from_secs(60));
    config.limits.connections = pages + 10;
    config.limits.connections_per_address = pages + 10;
    (config.limits.streams, config.limits.streams_per_caller) = (pages, pages);
    config.limits.requests_open = pages + 10;
    config.limits.requests_at_once = u32::try_from(pages + 10)?.try_into()?;
    let server = Server::start(config, None::<witness::Nodes>).await?;
    let http = reqwest::Client::new();
    let (heard, mut news) = tokio::sync::mpsc::unbounded_channel();
    let mut open = JoinSet::new();
    for _ in 0..pages {
        let page = http.get(format!("{}/v1/events", server.url())).send().await?;
        open.spawn(listen(page.error_for_status()?, heard.clone()));
    }
    // What each page is told at first.
    all(&mut news, pages, false).await?;

    let begun = (Instant::now(), cpu_time());
    tokio::time::sleep(QUIET).await;
    let cpu_quiet = per_second(begun);
    let (begun, mut took) = ((Instant::now(), cpu_time()), Vec::new());
    for decision in 0..DECISIONS.0 {
        let paused = decision % 2 == 0;
        let method = if paused { reqwest::Method::POST } else { reqwest::Method::DELETE };
        let asked = Instant::now();
        http.request(method, format!("{}/v1/pause", server.url()))
            .send()
            .await?
            .error_for_status()?;
        for at in all(&mut news, pages, paused).await? {
            took.push(u64::try_from(at.duration_since(asked).as_micros())?);
        }
        tokio::time::sleep(DECISIONS.1).await;
    }
    let cpu_busy = per_second(begun);
    open.abort_all();
    server.stop().await;
    took.sort_unstable();
    Ok(Watched {
        pages,
        decisions: DECISIONS.0,
        news_p50: took[took.len() / 2],
        news_p99: took[took.len() * 99 / 100],
        cpu_quiet,
        cpu_busy,
    })
}

/// Says of each event on a page's stream that tells whether the intake is paused, when it came and what it says.
async fn listen(
    mut page: reqwest::Response,
    heard: tokio::sync::mpsc::UnboundedSender<(Instant, bool)>,
) -> anyhow::Result<()> {
    const SAYS: &str = "\"paused_since\":";
    let mut text = String::new();
    while let Some(piece) = page.chunk().await? {
        let came = Instant::now();
        text.push_str(std::str::from_utf8(&piece)?);
        while let Some(end) = text.find("\n\n") {
            if let Some(at) = text[..end].find(SAYS) {
                heard.send((came, !text[at + SAYS.len()..].starts_with("null")))?;
            }
            text.drain(..end + 2);
        }
    }
    anyhow::bail!("the server ended a stream")
}

/// When each page heard that the intake is paused, or is not.
async fn all(
    news: &mut tokio::sync::mpsc::UnboundedReceiver<(Instant, bool)>,
    pages: usize,
    paused: bool,
) -> anyhow::Result<Vec<Instant>> {
    let mut heard = Vec::with_capacity(pages);
    while heard.len() < pages {
        let next = tokio::time::timeout(Duration::from_secs(60), news.recv()).await;
        let (at, is) =
            next.context("a page heard nothing for a minute")?.context("all streams ended")?;
        if is == paused {
            heard.push(at);
        }
    }
    Ok(heard)
}

/// CPU time of this process so far, of all threads.
fn cpu_time() -> Option<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The fields after the command's name, which may hold blanks: utime and stime, in hundredths of a second.
    let fields: Vec<_> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: u64 = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    Some(Duration::from_millis(ticks * 10))
}

/// Milliseconds of CPU time for each second since then.
fn per_second((at, cpu): (Instant, Option<Duration>)) -> Option<u64> {
    let spent = cpu_time()?.checked_sub(cpu?)?.as_millis();
    u64::try_from(spent * 1000 / at.elapsed().as_millis().max(1)).ok()
}
