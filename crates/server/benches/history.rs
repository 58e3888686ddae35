//! What a server takes and gives that has run for years: the longest answers to what people and clients ask, and what garbage
//! collection costs those who wait.
//!
//! `cargo bench --bench history -- [JOBS] [postgres://USER@HOST/EMPTY_DATABASE]`

use alloy_primitives::{B256, keccak256};
use protocol::{
    ArtifactRef, BlockRange, Capability, ClientId, CollectGarbage, Fail, FailureClass, Garbage,
    ProofData, ProofKind, ProofSystem, Request, paths,
};
use server::{
    Config, DatabaseUrl, Running, Server,
    jobs::{NewBatch, Rules, Target},
    store::JobStore,
};
use sqlx::{AssertSqlSafe, Executor as _};
use std::{
    error::Error,
    path::Path,
    time::{Duration, Instant},
};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const TARGET: Target =
    Target { system: ProofSystem::Exec, program_id: B256::ZERO, kind: ProofKind::Composite };

/// Each question is asked so often.
const ASKED: usize = 20;

/// So many artifacts are removed.
const GARBAGE: u32 = 10_000;

#[expect(clippy::print_stdout, reason = "it says what it measured")]
fn main() -> Result<()> {
    // cargo adds `--bench`.
    let args: Vec<_> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let jobs = args.first().map_or(Ok(1_000_000), |jobs| jobs.parse())?;
    let database = args.get(1).map(|url| DatabaseUrl::new(url.clone()));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    println!("{}", runtime.block_on(run(database.as_ref(), jobs))?);
    Ok(())
}

/// Measures a server with `jobs` settled jobs.
async fn run(database: Option<&DatabaseUrl>, jobs: u64) -> Result<String> {
    let folder = tempfile::tempdir()?;
    let rules = Rules {
        lease: Duration::from_secs(60),
        max_failures: 3,
        max_lost: 5,
        max_rejected: 3,
        max_newcomers: 64,
        max_hold: Duration::from_secs(86_400),
    };
    let store = match database {
        Some(url) => JobStore::connect(url, rules).await?,
        None => JobStore::open(&folder.path().join("jobs.sqlite"), rules).await?,
    };
    if store.tip().await?.is_some() {
        return Err("the database has jobs already: name an empty one".into());
    }
    settle(&store, database, jobs).await?;
    for some in batches(jobs, 20_000).chunks(500) {
        store.enqueue_all(some, &TARGET.into(), store.now().await?).await?;
    }
    store.close().await;

    let config = Config {
        listen_port: 0,
        data_dir: folder.path().to_owned(),
        database: database.cloned(),
        system: TARGET.system,
        danger_accept_exec: true,
        ..Config::default()
    };
    let begun = Instant::now();
    let server = Server::start(config, None::<witness::Nodes>).await?;
    // The server has chosen the cryptography that both use.
    let http = reqwest::Client::new();
    longest(&http, &server, &[paths::STATUS.into()], 1).await?;
    let mut said = format!(
        "{}, {jobs} settled jobs and 20000 ready ones\nstart {:?}\n",
        if database.is_some() { "PostgreSQL" } else { "SQLite" },
        begun.elapsed()
    );
    for (what, paths) in [
        ("status", vec![paths::STATUS.into()]),
        ("jobs, the newest", vec![paths::JOBS.into()]),
        ("jobs, a page far down", vec![format!("{}?before={}", paths::JOBS, jobs / 2)]),
        ("jobs, proved", vec![format!("{}?state=proved", paths::JOBS)]),
        (
            "jobs, dead or failed",
            vec![format!("{}?state=dead", paths::JOBS), format!("{}?troubled=true", paths::JOBS)],
        ),
        (
            "jobs of 500 blocks",
            vec![format!("{}?first={}&last={}", paths::JOBS, jobs / 3, jobs / 3 + 500)],
        ),
        (
            "jobs of half the blocks",
            vec![format!("{}?first=1&last={}&state=ready", paths::JOBS, jobs / 2)],
        ),
        ("metrics", vec![paths::METRICS.into()]),
        ("clients", vec![paths::CLIENTS.into()]),
        ("proofs", vec![format!("{}?after={}", paths::PROOFS, jobs / 2)]),
    ] {
        said += &format!("{what}: {:?}\n", longest(&http, &server, &paths, ASKED).await?);
    }
    for n in 0..GARBAGE {
        put(folder.path(), &n.to_be_bytes())?;
    }
    let (gc, leases) = collect(&http, &server).await?;
    said += &format!(
        "gc of {GARBAGE} artifacts: {gc:?}; a request for work meanwhile: {:?} (median), {:?} (p99 of {})\n",
        leases[leases.len() / 2],
        leases[leases.len() * 99 / 100],
        leases.len()
    );
    server.stop().await;
    Ok(said)
}

/// So many one-block batches, the first of which continues `parent`.
fn batches(parent: u64, count: u64) -> Vec<NewBatch> {
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

fn hash(number: u64) -> B256 {
    keccak256(number.to_be_bytes())
}

/// The longest time of an answer to one of the questions.
async fn longest(
    http: &reqwest::Client,
    server: &Running,
    paths: &[String],
    times: usize,
) -> Result<Duration> {
    let mut longest = Duration::ZERO;
    for path in paths {
        for _ in 0..times {
            let begun = Instant::now();
            let answer = http.get(format!("{}{path}", server.url())).send().await?;
            answer.error_for_status()?.bytes().await?;
            longest = longest.max(begun.elapsed());
        }
    }
    Ok(longest)
}

/// Stores an artifact as a server does, without its `fsync`: nothing here has to last.
fn put(folder: &Path, bytes: &[u8]) -> Result<()> {
    let name = ArtifactRef::of(bytes).sha256.to_string();
    let folder = folder.join("artifacts").join(&name[..2]);
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join(name), bytes)?;
    Ok(())
}

/// Has the garbage removed while a client takes jobs and gives them back: how long that took, and each request for work.
async fn collect(http: &reqwest::Client, server: &Running) -> Result<(Duration, Vec<Duration>)> {
    let url = format!("{}{}", server.url(), paths::GARBAGE);
    let asked = CollectGarbage { older_than_ms: 0, dry_run: false };
    let request = http.post(url).json(&asked).timeout(Duration::from_secs(3_600));
    let begun = Instant::now();
    let collecting =
        tokio::spawn(
            async move { request.send().await?.error_for_status()?.json::<Garbage>().await },
        );
    let client = ClientId::from_bytes([7; 16]);
    let capability = Capability::new(TARGET.system, TARGET.program_id, true);
    let request = Request { client, capabilities: vec![capability], wait_ms: 0, origin: None };
    let request = ProofData::Request(request);
    let mut took = Vec::new();
    while !collecting.is_finished() || took.is_empty() {
        let asked = Instant::now();
        let answer = http.post(format!("{}{}", server.url(), paths::REQUEST)).json(&request);
        let answer: ProofData = answer.send().await?.error_for_status()?.json().await?;
        took.push(asked.elapsed());
        let ProofData::Response(leased) = answer else {
            return Err(format!("there was no job: {answer:?}").into());
        };
        let class = FailureClass::Cancelled;
        let fail =
            ProofData::Fail(Fail { client, lease: leased.lease, class, message: String::new() });
        let url = format!("{}{}", server.url(), paths::fail(&leased.job));
        http.post(url).json(&fail).send().await?.error_for_status()?;
    }
    let (garbage, collected) = (collecting.await??, begun.elapsed());
    if garbage.removed < GARBAGE.into() {
        return Err(format!("not all garbage was removed: {garbage:?}").into());
    }
    took.sort_unstable();
    Ok((collected, took))
}

/// Writes `jobs` settled jobs into an empty database, each with its batch, lease and proof, faster than a server would.
async fn settle(store: &JobStore, database: Option<&DatabaseUrl>, jobs: u64) -> Result<()> {
    // `len` bytes for each number.
    let bytes = |len: usize, number: &str| match database {
        Some(_) => format!("convert_to(lpad(({number})::TEXT, {len}, '0'), 'UTF8')"),
        None => format!("CAST(printf('%0{len}d', {number}) AS BLOB)"),
    };
    let hex: String = hash(jobs).iter().map(|byte| format!("{byte:02x}")).collect();
    let (last, zeros) = match database {
        Some(_) => (format!("decode('{hex}', 'hex')"), "decode(repeat('00', 32), 'hex')"),
        None => (format!("x'{hex}'"), "zeroblob(32)"),
    };
    let n =
        format!("WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {jobs})");
    let statements = [
        format!(
            "{n} INSERT INTO batches (first, last, parent_hash, last_hash, statement, statement_digest, input, input_len, gas_used,
             transactions, created_at, final) SELECT n, n, {}, CASE WHEN n = {jobs} THEN {last} ELSE {} END, {}, {}, {}, 1, 0, 0, 1000 + n, 1 FROM n",
            bytes(32, "n - 1"), bytes(32, "n"), bytes(448, "n"), bytes(32, "n"), bytes(32, "n"),
        ),
        format!(
            "{n} INSERT INTO clients (id, first_seen, last_seen) SELECT {}, 0, 1 FROM n WHERE n <= 5000",
            bytes(16, "n")
        ),
        format!(
            "INSERT INTO jobs (id, batch, system, program_id, kind, state, not_before, failures, lost, created_at, due, finished_at,
             proof, proof_len, proved_by) SELECT {}, id, 'exec', {zeros}, 'composite', 'proved', 0, 0, 0, created_at, created_at,
             created_at + 500, {}, 1000, {} FROM batches",
            bytes(16, "first"), bytes(32, "first + 500000000"), bytes(16, "first % 100"),
        ),
        "INSERT INTO leases (id, job, client, granted_at, ended_at, outcome)
         SELECT id, id, proved_by, created_at + 1, created_at + 500, 'proved' FROM jobs".to_owned(),
        "INSERT INTO submissions (job, lease, proof, proof_len, client, system, program_id, kind, received_at, verdict)
         SELECT id, id, proof, 1000, proved_by, system, program_id, kind, created_at + 400, 'accepted' FROM jobs".to_owned(),
    ];
    // A row that is counted a million times in one transaction is a million versions of it for PostgreSQL.
    let (before, after) = match database {
        Some(_) => {
            ("ALTER TABLE jobs DISABLE TRIGGER USER", "ALTER TABLE jobs ENABLE TRIGGER USER")
        }
        None => ("SELECT 1", "SELECT 1"),
    };
    let count = "INSERT INTO job_counts SELECT 0, system, program_id, kind, state, superseded, count(*) FROM jobs
        GROUP BY system, program_id, kind, state, superseded";
    let mut statements = Vec::from(statements);
    statements.insert(0, before.to_owned());
    statements.push(after.to_owned());
    if database.is_some() {
        statements.push(count.to_owned());
    }
    for sql in statements {
        let mut tx = store.database().begin().await?;
        tx.execute(AssertSqlSafe(sql)).await?;
        tx.commit().await?;
    }
    if database.is_some() {
        store.database().readers().execute("ANALYZE").await?;
    }
    Ok(())
}
