//! A chain and a prover that cost nothing: a block's input is its statement, and its exec proof is its input.

use alloy_primitives::{Address, B256, keccak256};
use async_trait::async_trait;
use client::{BoxError, Cancel, Execution, Progress, ProofKind, ProofSystem, ProveError, Prover};
use program::Bound;
use protocol::{ArtifactId, BlockRange, ClientId, ProofData};
use server::{
    BatchSource, Config, PreparedBatch, Running, Server,
    tokens::{NewToken, Role, TokenId, Tokens},
};
use sqlx::{AssertSqlSafe, ConnectOptions, sqlite::SqliteConnectOptions};
use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use witness::{ErrorSource, HeaderSummary, MissingNode, cost::Estimate};

/// A chain whose blocks are determined by its name and their numbers.
#[derive(Clone)]
pub(crate) struct Chain {
    pub name: Arc<Mutex<&'static str>>,
    /// Blocks before this one are those of the chain `main`.
    pub forks_at: Arc<AtomicU64>,
    pub head: Arc<AtomicU64>,
    /// The newest block that it calls final; 0: none.
    pub finalized: Arc<AtomicU64>,
    /// How often it was asked what is final.
    pub asked: Arc<AtomicU64>,
    /// It says another hash of this one block.
    pub lies_of: Arc<AtomicU64>,
    /// It says other hashes than those of its blocks.
    pub lies: Arc<AtomicBool>,
    /// Another node has what this one denies.
    pub elsewhere: Arc<AtomicBool>,
    /// It does not answer.
    pub down: Arc<AtomicBool>,
    /// Every other time that it is asked for its head, a backend answers that is so many blocks behind.
    pub lags: Arc<AtomicU64>,
    /// How often it was asked for its head.
    pub looked: Arc<AtomicU64>,
    /// Whether blocks are more than the program takes.
    pub too_much: fn(BlockRange) -> bool,
    /// A block that needs a trie node which is not shown; 0: none.
    pub lacks: Arc<AtomicU64>,
    /// Whether its program reads inputs that were stored earlier.
    pub reads: bool,
}

impl Chain {
    pub(crate) fn new(head: u64) -> Self {
        let name = Arc::new(Mutex::new("main"));
        let head = Arc::new(AtomicU64::new(head));
        Self {
            name,
            forks_at: Arc::default(),
            finalized: Arc::default(),
            asked: Arc::default(),
            lies_of: Arc::default(),
            head,
            lies: Arc::default(),
            elsewhere: Arc::default(),
            down: Arc::default(),
            lags: Arc::default(),
            looked: Arc::default(),
            too_much: |_| false,
            lacks: Arc::default(),
            reads: true,
        }
    }

    /// A reorg: from block `from` on it is the chain `name`, up to `head`.
    pub(crate) fn fork(&self, from: u64, name: &'static str, head: u64) {
        self.forks_at.store(from, Ordering::SeqCst);
        *self.name.lock().unwrap() = name;
        self.head.store(head, Ordering::SeqCst);
    }

    pub(crate) fn hash(&self, number: u64) -> B256 {
        let forked = number >= self.forks_at.load(Ordering::SeqCst);
        let name = if forked { *self.name.lock().unwrap() } else { "main" };
        keccak256(format!("{name} {number}"))
    }

    /// 448 bytes, as an honest statement has.
    pub(crate) fn statement(&self, blocks: BlockRange) -> Vec<u8> {
        let mut words = vec![self.hash(blocks.first() - 1), self.hash(blocks.last())];
        words.resize(14, B256::ZERO);
        words.concat()
    }

    pub(crate) fn prepared(&self, blocks: BlockRange) -> PreparedBatch {
        PreparedBatch {
            blocks,
            parent_hash: self.hash(blocks.first() - 1),
            last_hash: self.hash(blocks.last()),
            statement: self.statement(blocks),
            input: self.statement(blocks),
            gas_used: 21_000 * (blocks.last() - blocks.first() + 1),
            transactions: 1,
            // A thousand cycles for each block, a million for those divisible by five.
            estimate: Estimate {
                cycles: (blocks.first()..=blocks.last())
                    .map(|block| if block % 5 == 0 { 1_000_000 } else { 1_000 })
                    .sum(),
                permutations: 0,
            },
            deposits: None,
        }
    }
}

#[async_trait]
impl BatchSource for Chain {
    async fn head(&self) -> Result<u64, BoxError> {
        if self.down.load(Ordering::SeqCst) {
            return Err("the node is unreachable".into());
        }
        let odd = self.looked.fetch_add(1, Ordering::SeqCst) % 2;
        Ok(self.head.load(Ordering::SeqCst) - odd * self.lags.load(Ordering::SeqCst))
    }

    async fn any_has(&self, number: u64, hash: B256) -> bool {
        self.elsewhere.load(Ordering::SeqCst) && self.hash(number) == hash
    }

    async fn block(&self, number: u64) -> Result<Option<HeaderSummary>, BoxError> {
        let head = self.head.load(Ordering::SeqCst);
        // Where another node has what this one denies, it denies the first block too.
        let from = if self.elsewhere.load(Ordering::SeqCst) { 0 } else { 1 };
        let lies = number > from && self.lies.load(Ordering::SeqCst)
            || number == self.lies_of.load(Ordering::SeqCst);
        let hash = if lies { B256::ZERO } else { self.hash(number) };
        Ok((number <= head).then_some(HeaderSummary { hash, gas_used: 21_000 }))
    }

    async fn prepare(
        &self,
        blocks: BlockRange,
        beneficiary: Address,
    ) -> Result<PreparedBatch, BoxError> {
        if (self.too_much)(blocks) {
            let reason = Bound::Heap { bytes: 4 << 30, limit: 3 << 30 }.into();
            let culprit = ErrorSource::Node("http://node.example".into());
            return Err(witness::Error::Refused { culprit, block: blocks.first(), reason }.into());
        }
        let lacks = self.lacks.load(Ordering::SeqCst);
        if blocks.first() <= lacks && lacks <= blocks.last() {
            let node = ErrorSource::Node("http://node.example".into());
            let missing = MissingNode { owner: None, path: "12ab".into(), hash: B256::ZERO };
            let missing = Box::new(missing);
            return Err(witness::Error::UnknownNode { node, block: lacks, missing, more: 0 }.into());
        }
        let mut prepared = self.prepared(blocks);
        for bytes in [&mut prepared.statement, &mut prepared.input] {
            bytes[428..].copy_from_slice(beneficiary.as_slice());
        }
        Ok(prepared)
    }

    async fn finalized(&self) -> Result<Option<u64>, BoxError> {
        let finalized = self.finalized.load(Ordering::SeqCst);
        self.asked.fetch_add(1, Ordering::SeqCst);
        Ok(Some(finalized).filter(|number| *number > 0))
    }

    async fn restate(&self, input: Vec<u8>) -> Result<Vec<u8>, BoxError> {
        if self.reads {
            Ok(input)
        } else {
            Err("expected the magic bytes of another version".into())
        }
    }
}

/// Says that an input is its own exec proof, after a while.
#[derive(Default)]
pub(crate) struct Echo {
    pub takes: Duration,
    /// The statement is another one than asked for.
    pub lies: bool,
    /// Every attempt fails, and every self-test too.
    pub broken: AtomicBool,
    /// Self-tests made.
    pub tests: AtomicU64,
    /// Bytes that make the proof longer.
    pub padding: usize,
    /// It makes succinct proofs alone.
    pub succinct_only: bool,
    /// What it says that it runs on.
    pub hardware: client::Hardware,
    /// Inputs proven, in order.
    pub proven: Mutex<Vec<Vec<u8>>>,
}

impl Prover for Echo {
    fn hardware(&self) -> client::Hardware {
        self.hardware.clone()
    }

    fn kinds(&self) -> Vec<ProofKind> {
        match self.succinct_only {
            true => vec![ProofKind::Succinct],
            false => vec![ProofKind::Composite, ProofKind::Succinct],
        }
    }

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
        _kind: ProofKind,
        cancel: &Cancel,
        progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<Vec<u8>, ProveError> {
        progress(Progress::Segment { done: 0, total: 1 });
        self.check()?;
        let begun = std::time::Instant::now();
        while begun.elapsed() < self.takes {
            cancel.check()?;
            std::thread::sleep(Duration::from_millis(5));
        }
        self.proven.lock().unwrap().push(input.to_vec());
        let mut proof = input.to_vec();
        proof[0] ^= u8::from(self.lies);
        proof.resize(proof.len() + self.padding, 0);
        Ok(proof)
    }

    fn self_test(&self) -> Result<(), ProveError> {
        self.tests.fetch_add(1, Ordering::SeqCst);
        self.check()
    }

    fn execute(&self, input: &[u8]) -> Result<Execution, ProveError> {
        Ok(Execution { public_values: input.to_vec(), cycles: None })
    }
}

impl Echo {
    fn check(&self) -> Result<(), ProveError> {
        let fire = || ProveError::Failed("the GPU is on fire".into());
        if self.broken.load(Ordering::SeqCst) { Err(fire()) } else { Ok(()) }
    }
}

/// Settings under which exec proofs are asked for and accepted.
pub(crate) fn config(dir: &Path) -> Config {
    Config {
        listen_port: 0,
        data_dir: dir.join("server"),
        system: ProofSystem::Exec,
        poll_interval: Duration::from_millis(20),
        danger_accept_exec: true,
        ..Config::default()
    }
}

pub(crate) async fn serve(config: Config, chain: &Chain) -> Running {
    Server::start(config, Some(chain.clone())).await.unwrap()
}

pub(crate) fn client_config(dir: &Path, name: &str, url: &str) -> client::Config {
    client::Config {
        servers: vec![url.into()],
        data_dir: dir.join(name),
        wait: Duration::from_secs(5),
        max_back_off: Duration::from_millis(200),
        ..client::Config::default()
    }
}

/// Waits until `done` says so, for at most a minute.
pub(crate) async fn until(what: &str, mut done: impl AsyncFnMut() -> bool) {
    for _ in 0..3_000 {
        if done().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("it never came true that {what}");
}

/// A token of the server in `config`, and what its owner keeps. The server may run.
pub(crate) async fn token(config: &Config, role: Role) -> (TokenId, String) {
    let new = NewToken {
        name: role.name().into(),
        role,
        client: None,
        certificate: None,
        lifetime: None,
    };
    let tokens = Tokens::open(&config.data_dir, None).await.unwrap();
    let (token, shown) = tokens.create(&new).await.unwrap();
    tokens.close().await;
    (token.id, shown.unwrap().text())
}

/// An HTTP client of the test's own.
pub(crate) fn http() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    // It speaks plain HTTP: the system's authorities are not read.
    reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap()
}

/// A client whose hands a test moves.
pub(crate) struct Hand {
    pub url: String,
    pub client: ClientId,
    pub http: reqwest::Client,
}

impl Hand {
    pub(crate) fn new(url: &str, n: u8) -> Self {
        Self { url: url.into(), client: ClientId::from_bytes([n; 16]), http: http() }
    }

    pub(crate) async fn post(&self, path: &str, message: ProofData) -> ProofData {
        let post = self.http.post(format!("{}{path}", self.url)).json(&message);
        post.send().await.unwrap().json().await.unwrap()
    }
}

/// Every row of every table of the server's SQLite database, as text.
pub(crate) async fn everything(config: &Config) -> String {
    let options = SqliteConnectOptions::new().filename(config.data_dir.join("jobs.sqlite"));
    let mut db = options.connect().await.unwrap();
    let tables = sqlx::query_scalar(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name",
    );
    let tables: Vec<String> = tables.fetch_all(&mut db).await.unwrap();
    let mut text = String::new();
    for table in tables {
        let columns = sqlx::query_scalar("SELECT name FROM pragma_table_info($1)").bind(&table);
        let columns: Vec<String> = columns.fetch_all(&mut db).await.unwrap();
        let row: Vec<_> = columns.iter().map(|column| format!("quote(\"{column}\")")).collect();
        let rows = format!("SELECT {} FROM \"{table}\" ORDER BY 1", row.join(" || ',' || "));
        let rows: Vec<String> =
            sqlx::query_scalar(AssertSqlSafe(rows)).fetch_all(&mut db).await.unwrap();
        text.push_str(&format!("{table}\n{}\n", rows.join("\n")));
    }
    text
}

/// A connection without HTTP's manners.
pub(crate) async fn raw(running: &Running) -> tokio::net::TcpStream {
    tokio::net::TcpStream::connect(running.addr()).await.unwrap()
}

/// Reads what comes until the other side closes or cuts the connection.
pub(crate) async fn to_end(stream: &mut tokio::net::TcpStream) -> String {
    let mut bytes = Vec::new();
    let end = tokio::io::AsyncReadExt::read_to_end(stream, &mut bytes);
    // A cut connection ends with an error; what came before is kept.
    let _ = tokio::time::timeout(Duration::from_secs(60), end).await.expect("it is closed");
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Waits until no upload that was refused or cut is left among the artifacts of the server of [`config`].
pub(crate) async fn nothing_is_half_stored(dir: &Path) {
    let folders = std::fs::read_dir(dir.join("server/artifacts")).unwrap();
    let folders: Vec<_> = folders.map(|folder| folder.unwrap().path()).collect();
    let half = |folder: &PathBuf| {
        let files = std::fs::read_dir(folder).into_iter().flatten().map(Result::unwrap);
        files.filter(|file| file.file_name().to_string_lossy().contains('#')).count()
    };
    until("nothing is half stored", async || folders.iter().map(half).sum::<usize>() == 0).await;
}

/// Where a server with these settings has an artifact.
pub(crate) fn artifact_file(config: &Config, id: &ArtifactId) -> PathBuf {
    let name = id.to_string();
    config.data_dir.join("artifacts").join(&name[..2]).join(&name)
}
