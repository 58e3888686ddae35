//! The running node: one chain, a JSON-RPC server in front of it, and a clock.

use crate::{Chain, ChainError, DepositError, GenesisError, Traffic, TrafficConfig, genesis, rpc};
use alloy_eips::eip4895::Withdrawal;
use alloy_genesis::Genesis;
use alloy_rlp::Encodable;
use jsonrpsee::server::{Server, ServerConfig, ServerHandle};
use program::ChainConfig;
use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::{sync::watch, task::JoinHandle, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

/// Maximum length of a request or answer, in bytes: witnesses of full blocks are some tens of megabytes in
/// hexadecimal.
const MAX_BODY: u32 = 256 << 20;

/// When blocks are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mining {
    /// One block for each submitted transaction, at once.
    OnDemand,
    /// One block every `period`.
    Interval {
        /// Time between blocks; the blocks' timestamps differ by at least a second.
        period: Duration,
        /// Whether to make a block when there are no transactions for it.
        empty_blocks: bool,
    },
}

/// How to run a [`DevNode`].
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the JSON-RPC server listens. Port 0 takes any free port.
    pub listen: SocketAddr,
    /// The first block: [`genesis::dev`] or [`genesis::read`].
    pub genesis: Genesis,
    /// When blocks are made.
    pub mining: Mining,
    /// Transactions to generate before each block of the clock and of [`Running::mine`].
    pub traffic: Option<TrafficConfig>,
    /// Block file, so that the chain continues after a restart. Without one, the chain ends with the node.
    pub blocks: Option<PathBuf>,
}

impl Default for Config {
    /// The dev chain on port 8545 of this machine, a block for each transaction, no generated traffic.
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8545)),
            genesis: genesis::dev(),
            mining: Mining::OnDemand,
            traffic: None,
            blocks: None,
        }
    }
}

/// Why a node did not start or did not make a block.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The genesis is wrong.
    #[error(transparent)]
    Genesis(#[from] GenesisError),
    /// Another program listens on the address.
    #[error("address {0} is already in use: stop the program that uses it, or choose another port")]
    AddressInUse(SocketAddr),
    /// The server cannot listen there for another reason.
    #[error("failed to listen on {0}")]
    Listen(SocketAddr, #[source] io::Error),
    /// A block interval of zero.
    #[error("block interval is zero: choose a longer one, or on-demand blocks")]
    ZeroInterval,
    /// A block could not be made.
    #[error("failed to make a block")]
    Mine(#[from] ChainError),
    /// The block file cannot be used.
    #[error("failed to use block file {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        #[source]
        source: io::Error,
    },
    /// The file holds blocks of another chain.
    #[error("block file {} does not fit the genesis: move it away to begin anew", path.display())]
    Blocks {
        /// The file.
        path: PathBuf,
        /// What is wrong with the first block that does not fit.
        #[source]
        error: Box<ChainError>,
    },
}

/// The node: see [`DevNode::start`].
#[derive(Debug)]
pub struct DevNode;

impl DevNode {
    /// Starts a node. It runs until [`Running::stop`], or until the [`Running`] is dropped.
    ///
    /// # Errors
    /// [`Error`]: the genesis is refused, or the address cannot be listened on.
    pub async fn start(config: Config) -> Result<Running, Error> {
        if matches!(config.mining, Mining::Interval { period, .. } if period.is_zero()) {
            return Err(Error::ZeroInterval);
        }
        let mut chain = Chain::new(&config.genesis)?;
        let log = config.blocks.as_deref().map(|path| BlockLog::open(path, &mut chain));
        let shared = Arc::new(Shared {
            chain_config: chain.config().clone(),
            head: watch::Sender::new(chain.head().number),
            chain: RwLock::new(chain),
            traffic: Mutex::new(config.traffic.map(Traffic::new)),
            mining: config.mining,
            log: Mutex::new(log.transpose()?),
        });
        let listen = |error: io::Error| match error.kind() {
            io::ErrorKind::AddrInUse => Error::AddressInUse(config.listen),
            _ => Error::Listen(config.listen, error),
        };
        let limits = ServerConfig::builder()
            .max_request_body_size(MAX_BODY)
            .max_response_body_size(MAX_BODY)
            .build();
        let server =
            Server::builder().set_config(limits).build(config.listen).await.map_err(listen)?;
        let addr = server.local_addr().map_err(listen)?;
        let server = server.start(rpc::module(shared.clone()));
        let shutdown = CancellationToken::new();
        let clock = match config.mining {
            Mining::OnDemand => None,
            Mining::Interval { period, empty_blocks } => {
                let clock = clock(shared.clone(), period, empty_blocks, shutdown.clone());
                Some(tokio::spawn(clock))
            }
        };
        info!(%addr, chain_id = shared.chain_config.chain_id, "dev node started");
        Ok(Running { shared, addr, server, clock, shutdown: shutdown.drop_guard() })
    }
}

/// A node that runs.
#[derive(Debug)]
pub struct Running {
    shared: Arc<Shared>,
    addr: SocketAddr,
    server: ServerHandle,
    clock: Option<JoinHandle<()>>,
    shutdown: tokio_util::sync::DropGuard,
}

impl Running {
    /// Where the JSON-RPC server listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The URL of the JSON-RPC server; with `ws://` in place of `http://` it speaks WebSocket.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// The rules of the chain.
    pub fn chain_config(&self) -> &ChainConfig {
        &self.shared.chain_config
    }

    /// The chain, for reading. No block is made while the guard is held: drop it before any await.
    pub fn chain(&self) -> RwLockReadGuard<'_, Chain> {
        self.shared.read()
    }

    /// The head's number, and every change of it.
    pub fn heads(&self) -> watch::Receiver<u64> {
        self.shared.heads()
    }

    /// Makes `count` blocks now, empty ones too, each with the configured traffic.
    ///
    /// # Errors
    /// [`Error::Mine`]; the blocks made before stay.
    pub async fn mine(&self, count: u64) -> Result<(), Error> {
        let shared = self.shared.clone();
        let work = move || (0..count).try_for_each(|_| shared.tick(true));
        Ok(tokio::task::spawn_blocking(work).await.expect("making blocks does not panic")?)
    }

    /// Takes a deposit on L1 into the queue of the next blocks: [`Chain::deposit`].
    ///
    /// # Errors
    /// [`DepositError`]
    pub fn deposit(&self, deposit: Withdrawal) -> Result<(), DepositError> {
        self.shared.write().deposit(deposit)
    }

    /// Whether the traffic has ended (also if none was configured).
    pub fn traffic_is_done(&self) -> bool {
        self.shared.traffic().as_ref().is_none_or(Traffic::is_done)
    }

    /// Stops the clock and the server and waits for both.
    pub async fn stop(self) {
        drop(self.shutdown);
        if let Some(clock) = self.clock {
            clock.await.expect("the clock does not panic");
        }
        // An error means that the server has stopped already.
        let _ = self.server.stop();
        self.server.stopped().await;
        info!(addr = %self.addr, "dev node stopped");
    }
}

/// What the clock and the RPC handlers share.
#[derive(Debug)]
pub(crate) struct Shared {
    chain: RwLock<Chain>,
    chain_config: ChainConfig,
    traffic: Mutex<Option<Traffic>>,
    mining: Mining,
    head: watch::Sender<u64>,
    log: Mutex<Option<BlockLog>>,
}

impl Shared {
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Chain> {
        // The chain is changed only after everything that can fail: a panic leaves it whole.
        self.chain.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, Chain> {
        self.chain.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn heads(&self) -> watch::Receiver<u64> {
        self.head.subscribe()
    }

    fn traffic(&self) -> MutexGuard<'_, Option<Traffic>> {
        self.traffic.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A transaction has entered the pool.
    pub(crate) fn submitted(&self) {
        if self.mining == Mining::OnDemand
            && let Err(error) = self.mine_now()
        {
            error!(%error, "block could not be made");
        }
    }

    /// Makes a block of the transactions in the pool.
    pub(crate) fn mine_now(&self) -> Result<(), ChainError> {
        self.mine(&mut self.write())
    }

    /// Fills the pool with traffic and makes a block, unless it would be empty and empty blocks are off.
    fn tick(&self, empty_blocks: bool) -> Result<(), ChainError> {
        let mut chain = self.write();
        if let Some(traffic) = self.traffic().as_mut()
            && let Err(error) = traffic.fill(&mut chain)
        {
            warn!(%error, "traffic was refused");
        }
        if empty_blocks || chain.has_ready() { self.mine(&mut chain) } else { Ok(()) }
    }

    fn mine(&self, chain: &mut Chain) -> Result<(), ChainError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
        let mined = chain.mine(now.max(chain.head().timestamp + 1))?;
        // ORDER: nobody hears of a block before it is on the disk.
        if let Some(log) = &mut *self.log.lock().unwrap_or_else(PoisonError::into_inner) {
            log.append(&mined.block).map_err(ChainError::File)?;
        }
        let (number, hash) = (mined.block.header.number, mined.hash);
        let transactions = mined.block.body.transactions.len();
        info!(number, %hash, transactions, gas_used = mined.block.header.gas_used, "block made");
        self.head.send_replace(number);
        Ok(())
    }
}

/// The block file: the RLP of the blocks, one after another.
#[derive(Debug)]
struct BlockLog(File);

impl BlockLog {
    /// Opens the file, creating it if it is missing, and imports its blocks into `chain`. The last one is
    /// dropped if it is truncated.
    fn open(path: &Path, chain: &mut Chain) -> Result<Self, Error> {
        let fail = |source| Error::File { path: path.into(), source };
        let mut file = File::options();
        let mut file =
            file.create(true).truncate(false).read(true).write(true).open(path).map_err(fail)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(fail)?;
        let mut rest = bytes.as_slice();
        while let Ok(header) = alloy_rlp::Header::decode(&mut &*rest)
            && let Some((block, after)) = rest.split_at_checked(header.length_with_payload())
        {
            chain
                .import(block)
                .map_err(|error| Error::Blocks { path: path.into(), error: error.into() })?;
            rest = after;
        }
        let whole = (bytes.len() - rest.len()) as u64;
        file.set_len(whole).and_then(|()| file.seek(SeekFrom::Start(whole))).map_err(fail)?;
        Ok(Self(file))
    }

    fn append(&mut self, block: &impl Encodable) -> io::Result<()> {
        self.0.write_all(&alloy_rlp::encode(block))?;
        self.0.sync_data()
    }
}

async fn clock(
    shared: Arc<Shared>,
    period: Duration,
    empty_blocks: bool,
    shutdown: CancellationToken,
) {
    let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + period, period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let shared = shared.clone();
        let block = tokio::task::spawn_blocking(move || shared.tick(empty_blocks));
        if let Err(error) = block.await.expect("making blocks does not panic") {
            error!(%error, "block could not be made");
        }
    }
}
