//! Intake: new L2 blocks become jobs.
//!
//! * No block is skipped: the next batch starts right after the last one enqueued, whatever else happens.
//! * Each batch continues the one before by hash. After a reorg, what it took away is superseded as soon as the new branch
//!   has shown a valid block. A node that shares no block with what was enqueued, or none that is new enough, halts the
//!   intake until it takes that back.
//! * What is more than the program takes at once is made of fewer blocks. A single block that is halts the intake.
//! * An input is durable before its job is.
//! * Of several servers on one database, one follows the node, and another takes over when it goes.
//! * Only so many jobs are prepared ahead, and only so many inputs at once: the node's head may run away, our disk and our
//!   memory may not.

use crate::{
    artifacts::{ArtifactError, Artifacts},
    data_folder::{NoRoom, Space},
    dispatch::Jobs,
    jobs::{
        batch::{NewBatch, Target, Tip, Unlinked, follows},
        cost::Experience,
    },
    observe::traces,
    store::StoreError,
};
use alloy_primitives::{Address, B256, keccak256};
use async_trait::async_trait;
use bytes::Bytes;
use program::Bound;
use protocol::{BlockRange, IntakeStatus};
use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::{sync::watch, time::Instant};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use witness::Sketch;

/// Any error, where only its text matters.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Where batches come from: an L2 node, whose blocks have been executed here before they are handed out.
#[async_trait]
pub trait BatchSource: Send + Sync + 'static {
    /// Number of the newest block.
    async fn head(&self) -> Result<u64, BoxError>;

    /// The block with this number, as it is said to be; `None` if there is none.
    async fn block(&self, number: u64) -> Result<Option<Sketch>, BoxError>;

    /// Returns when there may be a newer block. It may as well never return: the head is asked for now and then anyway.
    async fn news(&self) {
        std::future::pending().await
    }

    /// The blocks `blocks`, executed, with the program's input that repeats the execution and says that `beneficiary` may
    /// claim the reward. Blocks that are beyond a [`Bound`] of the program are a [`witness::Error`] that says so.
    async fn prepare(
        &self,
        blocks: BlockRange,
        beneficiary: Address,
    ) -> Result<PreparedBatch, BoxError>;
}

/// Blocks that have been executed here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreparedBatch {
    /// The blocks.
    pub blocks: BlockRange,
    /// Hash of the block before the first.
    pub parent_hash: B256,
    /// Hash of the last block.
    pub last_hash: B256,
    /// The statement's ABI bytes: what a proof must commit to.
    pub statement: Vec<u8>,
    /// The program's input.
    pub input: Vec<u8>,
    /// Gas used by the blocks.
    pub gas_used: u64,
    /// Transactions in the blocks.
    pub transactions: u64,
    /// What a proof is expected to cost, in cycles: see [`witness::cost::estimate`].
    pub estimated_cycles: u64,
}

#[async_trait]
impl BatchSource for witness::Nodes {
    async fn head(&self) -> Result<u64, BoxError> {
        Ok(witness::Nodes::head(self).await?)
    }

    async fn block(&self, number: u64) -> Result<Option<Sketch>, BoxError> {
        Ok(witness::Nodes::block(self, number).await?)
    }

    async fn news(&self) {
        witness::Nodes::news(self).await;
    }

    async fn prepare(
        &self,
        blocks: BlockRange,
        beneficiary: Address,
    ) -> Result<PreparedBatch, BoxError> {
        let (first, last) = (blocks.first(), blocks.last());
        let prepared = witness::Nodes::prepare(self, first, last, beneficiary).await?;
        let statement = &prepared.statement;
        Ok(PreparedBatch {
            blocks: BlockRange::new(statement.first_number, statement.last_number)?,
            parent_hash: statement.parent_hash,
            last_hash: statement.last_hash,
            statement: statement.abi_encode(),
            gas_used: prepared.blocks.iter().map(|block| block.gas_used).sum(),
            transactions: prepared.blocks.iter().map(|block| block.transactions as u64).sum(),
            estimated_cycles: prepared.estimated_cycles,
            input: prepared.input,
        })
    }
}

/// Follows a node's head and enqueues a job for every batch.
pub struct Intake<S> {
    /// The node.
    pub source: Arc<S>,
    /// Where the jobs go.
    pub jobs: Jobs,
    /// Where the inputs go.
    pub artifacts: Artifacts,
    /// The proof wanted of each batch.
    pub target: Target,
    /// Who may claim the rewards of the proofs; zero means nobody.
    pub beneficiary: Address,
    /// The first block, if nothing has been enqueued yet.
    pub start_block: u64,
    /// When a batch is full.
    pub policy: BatchPolicy,
    /// A reorg of more blocks halts the intake.
    pub max_reorg_blocks: u64,
    /// Batches that are prepared at the same time.
    pub prepare_ahead: usize,
    /// Inputs are prepared until so many jobs are ready.
    pub ready_jobs: u64,
    /// How often the node is asked.
    pub poll_interval: Duration,
    /// Where there must be room for a new batch.
    pub space: Space,
    /// Whether this server follows the node: of several on one database, one does.
    pub leads: watch::Receiver<bool>,
    /// Where the intake says what it does.
    pub progress: watch::Sender<Progress>,
}

/// When a batch is full: whichever comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchPolicy {
    /// So many blocks.
    pub blocks: u64,
    /// A batch of several blocks is made shorter until its proof is expected to take no more cycles.
    pub cycles: u64,
    /// Likewise, until its blocks use no more gas.
    pub gas: Option<u64>,
    /// Likewise, until its input has no more bytes.
    pub bytes: Option<u64>,
    /// A batch waits no longer for more blocks.
    pub age: Option<Duration>,
}

impl BatchPolicy {
    /// What of `batch` is too much, if anything.
    fn exceeded(&self, batch: &PreparedBatch, lately: &Experience) -> Option<&'static str> {
        [
            ("cycles", lately.correct(batch.estimated_cycles) > self.cycles),
            ("gas", self.gas.is_some_and(|most| batch.gas_used > most)),
            ("bytes", self.bytes.is_some_and(|most| batch.input.len() as u64 > most)),
        ]
        .into_iter()
        .find_map(|(what, exceeded)| exceeded.then_some(what))
    }
}

/// Batches that are being prepared, in order.
type Ahead = VecDeque<(BlockRange, AbortOnDropHandle<Result<PreparedBatch, BoxError>>)>;

/// A batch that is not full yet.
struct Waiting {
    first: u64,
    since: Instant,
    /// The first block whose gas has not been counted.
    next: u64,
    /// Of the blocks before.
    gas: u64,
}

/// The end of the chain of batches, as far as the node still has it.
struct Anchor {
    tip: Option<Tip>,
    reorg: Option<Reorg>,
}

/// What the node no longer has.
struct Reorg {
    /// The end of the first batch that is gone.
    first: Tip,
    /// The end of the last one.
    last: Tip,
}

/// What the intake does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// In a word.
    pub status: IntakeStatus,
    /// The newest block heard of.
    pub head: Option<u64>,
}

/// Why a batch is not enqueued.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IntakeError {
    /// The node could not say its head.
    #[error("L2 node did not say its newest block: {0}")]
    Head(#[source] BoxError),
    /// The blocks could not be prepared.
    #[error("blocks {blocks} could not be prepared: {error}")]
    Prepare {
        /// The blocks.
        blocks: BlockRange,
        /// Why.
        #[source]
        error: BoxError,
    },
    /// A single block is more than the program takes.
    #[error(
        "block {block} cannot be proven: {bound}; no block is skipped: none after it is proven"
    )]
    Bound {
        /// The block.
        block: u64,
        /// What it is beyond.
        #[source]
        bound: Bound,
    },
    /// Other blocks were prepared than asked for.
    #[error("blocks {asked} were asked for, but blocks {found} were prepared")]
    OtherBlocks {
        /// The blocks asked for.
        asked: BlockRange,
        /// The blocks prepared.
        found: BlockRange,
    },
    /// The node said that a block is gone, and then gave that block.
    #[error("L2 node said another hash of block {block} than that of the block it then gave")]
    Contradiction {
        /// The block.
        block: u64,
    },
    /// The node's chain is shorter than what has been enqueued.
    #[error(
        "L2 node is at block {head}, but blocks up to {last} have been enqueued: it lost blocks or is another node; give it \
         back its chain, or use another data_dir"
    )]
    Behind {
        /// The node's newest block.
        head: u64,
        /// The last block enqueued.
        last: u64,
    },
    /// The disk is too full for new batches.
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
    /// Jobs could not be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The input could not be stored.
    #[error("input could not be stored: {0}")]
    Artifacts(#[from] ArtifactError),
}

enum Step {
    /// A batch was enqueued; there may be more.
    Enqueued,
    /// All blocks have jobs.
    AtHead,
    /// Enough jobs are ready.
    Full,
}

impl<S: BatchSource> Intake<S> {
    /// Runs until `shutdown`. What fails is tried again: a block is never skipped.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let mut failures = 0;
        let mut ahead = Ahead::new();
        let mut waiting = None;
        loop {
            if !*self.leads.borrow() {
                ahead.clear();
                self.progress.send_modify(|progress| progress.status = IntakeStatus::Standby);
                tokio::select! {
                    biased;
                    () = shutdown.cancelled() => return,
                    leads = self.leads.wait_for(|leads| *leads) => if leads.is_err() { return },
                }
                tracing::info!("this server follows the node now");
            }
            let step = tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                step = self.step(&mut ahead, &mut waiting) => step,
            };
            let pause = match &step {
                Ok(Step::Enqueued) => Duration::ZERO,
                Ok(Step::AtHead | Step::Full) => self.poll_interval,
                // Of several servers that lost one node, not all at once.
                Err(_) => self
                    .poll_interval
                    .max(Duration::from_millis(250) * 2u32.pow(failures))
                    .min(Duration::from_secs(10))
                    .mul_f64(rand::random_range(0.75..1.25)),
            };
            if step.is_err() {
                ahead.clear();
            }
            failures = if step.is_err() { (failures + 1).min(6) } else { 0 };
            self.tell(&step);
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
                () = self.jobs.taken(), if matches!(step, Ok(Step::Full)) => {}
                () = self.source.news(), if matches!(step, Ok(Step::AtHead)) => {}
            }
        }
    }

    /// Enqueues the next batch, if there is one and room for it.
    async fn step(
        &self,
        ahead: &mut Ahead,
        waiting: &mut Option<Waiting>,
    ) -> Result<Step, IntakeError> {
        let head = self.source.head().await.map_err(IntakeError::Head)?;
        self.progress.send_if_modified(|progress| progress.head.replace(head) != Some(head));
        let Anchor { tip, reorg } = self.anchor(head).await?;
        let first = tip.as_ref().map_or(self.start_block, |tip| tip.last.saturating_add(1));
        if let Some(Reorg { first: gone, last }) = reorg {
            ahead.clear();
            // ORDER: the new branch shows valid blocks before anything of the old one is given up.
            let blocks = BlockRange::new(first, gone.last).expect("a batch has a block");
            let prepared = self.prepare(blocks).await;
            let prepared = self.fitting(prepared, ahead).await?;
            self.follows(&tip, &prepared)?;
            if prepared.last_hash == gone.last_hash {
                return Err(IntakeError::Contradiction { block: gone.last });
            }
            self.jobs.supersede(first, Some(last)).await?;
        }
        let Some(asked) = self.due(first, head, waiting).await? else { return Ok(Step::AtHead) };
        let ready = self.jobs.store().ready().await?;
        if ready >= self.ready_jobs {
            return Ok(Step::Full);
        }
        self.space.for_new()?;
        let seen = SystemTime::now();
        self.prepare_ahead(ahead, asked, head, self.ready_jobs - ready);
        let prepared = match ahead.pop_front() {
            Some((blocks, task)) if blocks == asked => {
                let prepared = task.await.expect("preparing a batch does not panic");
                self.checked(asked, prepared)
            }
            _ => self.prepare(asked).await,
        };
        let prepared = self.fitting(prepared, ahead).await?;
        let prepared = self.cut(prepared, ahead).await?;
        let prepared_at = SystemTime::now();
        // Before the input is written: a node on another chain must not fill the disk.
        let mut batch = self.follows(&tip, &prepared)?;
        // ORDER: the input is durable before the job that names it.
        let input = Bytes::from(prepared.input);
        batch.input = self.artifacts.put(input.clone()).await?;
        let job = self.jobs.enqueue(&batch, &self.target).await?;
        traces::enqueued(job, batch.blocks.to_string(), seen, prepared_at);
        // One stored long ago may have been removed as garbage just before it was needed again.
        if let Err(ArtifactError::Missing(_)) = self.artifacts.len(batch.input.sha256).await {
            self.artifacts.put(input).await?;
        }
        Ok(Step::Enqueued)
    }

    /// What of the chain of batches the node still has.
    async fn anchor(&self, head: u64) -> Result<Anchor, IntakeError> {
        let Some(tip) = self.jobs.store().tip().await? else {
            return Ok(Anchor { tip: None, reorg: None });
        };
        let behind = IntakeError::Behind { head, last: tip.last };
        let (mut gone, mut other): (Option<Tip>, Option<B256>) = (None, None);
        let mut below = head.min(tip.last);
        while let Some(end) = self.jobs.store().end_before(below).await? {
            if tip.last - end.last > self.max_reorg_blocks {
                break;
            }
            match self.source.block(end.last).await.map_err(IntakeError::Head)? {
                None => return Err(behind),
                Some(block) if block.hash == end.last_hash => {
                    return match gone {
                        _ if end == tip => Ok(Anchor { tip: Some(tip), reorg: None }),
                        Some(first) => {
                            Ok(Anchor { tip: Some(end), reorg: Some(Reorg { first, last: tip }) })
                        }
                        None => Err(behind),
                    };
                }
                Some(found) if end == tip => other = Some(found.hash),
                Some(_) => {}
            }
            gone = Some(end);
            below = end.last.saturating_sub(1);
        }
        Err(match other {
            Some(found) => {
                let first = tip.last.saturating_add(1);
                let expected = tip.last_hash;
                StoreError::from(Unlinked::Parent { first, expected, found }).into()
            }
            None => behind,
        })
    }

    /// The next batch, if it is full, or has waited long enough.
    async fn due(
        &self,
        first: u64,
        head: u64,
        waiting: &mut Option<Waiting>,
    ) -> Result<Option<BlockRange>, IntakeError> {
        let full = first.saturating_add(self.policy.blocks - 1);
        if full <= head {
            return Ok(BlockRange::new(first, full).ok());
        }
        if first > head {
            return Ok(None);
        }
        let waiting = match waiting {
            Some(waiting) if waiting.first == first => waiting,
            _ => waiting.insert(Waiting { first, since: Instant::now(), next: first, gas: 0 }),
        };
        if let Some(most) = self.policy.gas {
            while waiting.gas <= most && waiting.next <= head {
                let block = self.source.block(waiting.next).await.map_err(IntakeError::Head)?;
                // A reorg took it. What was counted of the old branch may close the batch early; `cut` keeps the limit.
                let Some(block) = block else { return Ok(None) };
                waiting.gas = waiting.gas.saturating_add(block.gas_used);
                waiting.next += 1;
            }
            if waiting.gas > most {
                // The last one counted belongs to the next batch, unless it is all there is.
                let last = waiting.next.saturating_sub(2).clamp(first, head);
                return Ok(BlockRange::new(first, last).ok());
            }
        }
        let waited = self.policy.age.is_some_and(|age| waiting.since.elapsed() >= age);
        Ok(waited.then(|| BlockRange::new(first, head).ok()).flatten())
    }

    /// Makes sure that `asked` is being prepared, and as many full batches after it as there may be.
    fn prepare_ahead(&self, ahead: &mut Ahead, asked: BlockRange, head: u64, room: u64) {
        if ahead.front().is_some_and(|(blocks, _)| *blocks != asked) {
            ahead.clear();
        }
        let room = usize::try_from(room).unwrap_or(usize::MAX).min(self.prepare_ahead.max(1));
        while ahead.len() < room {
            let first = ahead.back().map_or(asked.first(), |(blocks, _)| blocks.last() + 1);
            let last = match ahead.is_empty() {
                true => asked.last(),
                false => first.saturating_add(self.policy.blocks - 1),
            };
            let Some(blocks) = BlockRange::new(first, last).ok().filter(|_| last <= head) else {
                break;
            };
            let (source, beneficiary) = (self.source.clone(), self.beneficiary);
            let task = tokio::spawn(async move { source.prepare(blocks, beneficiary).await });
            ahead.push_back((blocks, AbortOnDropHandle::new(task)));
        }
    }

    async fn prepare(&self, asked: BlockRange) -> Result<PreparedBatch, IntakeError> {
        self.checked(asked, self.source.prepare(asked, self.beneficiary).await)
    }

    fn checked(
        &self,
        asked: BlockRange,
        prepared: Result<PreparedBatch, BoxError>,
    ) -> Result<PreparedBatch, IntakeError> {
        let prepared = prepared.map_err(|error| IntakeError::Prepare { blocks: asked, error })?;
        match prepared.blocks == asked {
            true => Ok(prepared),
            false => Err(IntakeError::OtherBlocks { asked, found: prepared.blocks }),
        }
    }

    /// Cuts a batch in half until it is within the bounds of the program.
    async fn fitting(
        &self,
        mut prepared: Result<PreparedBatch, IntakeError>,
        ahead: &mut Ahead,
    ) -> Result<PreparedBatch, IntakeError> {
        while let Err(IntakeError::Prepare { blocks, error }) = &prepared
            && let Some(bound) = error.downcast_ref().and_then(witness::Error::bound)
        {
            let block = blocks.first();
            let half = first_half(*blocks).ok_or(IntakeError::Bound { block, bound })?;
            tracing::info!(%blocks, %bound, "a batch is more than the program takes; it is cut");
            ahead.clear();
            prepared = self.prepare(half).await;
        }
        prepared
    }

    /// Cuts a batch in half until nothing of it is too much.
    async fn cut(
        &self,
        mut prepared: PreparedBatch,
        ahead: &mut Ahead,
    ) -> Result<PreparedBatch, IntakeError> {
        let lately = self.jobs.store().experience().await?;
        while let Some(what) = self.policy.exceeded(&prepared, &lately) {
            // Somebody may fill a block with the dearest there is. It delays its own proof, and no neighbour's.
            let Some(half) = first_half(prepared.blocks) else {
                tracing::warn!(
                    code = "dear_block",
                    block = prepared.blocks.first(),
                    cycles = lately.correct(prepared.estimated_cycles),
                    gas = prepared.gas_used,
                    bytes = prepared.input.len(),
                    exceeded = what,
                    "a block is more than a batch may be; it is a batch by itself"
                );
                break;
            };
            ahead.clear();
            prepared = self.prepare(half).await?;
        }
        Ok(prepared)
    }

    /// The batch, without its input, if it continues `tip`.
    fn follows(
        &self,
        tip: &Option<Tip>,
        prepared: &PreparedBatch,
    ) -> Result<NewBatch, IntakeError> {
        let batch = NewBatch {
            blocks: prepared.blocks,
            parent_hash: prepared.parent_hash,
            last_hash: prepared.last_hash,
            statement_digest: keccak256(&prepared.statement),
            statement: prepared.statement.clone(),
            input: protocol::ArtifactRef::of(&[]),
            gas_used: prepared.gas_used,
            transactions: prepared.transactions,
            estimated_cycles: prepared.estimated_cycles,
        };
        if let Some(tip) = tip {
            follows(tip, &batch).map_err(StoreError::from)?;
        }
        Ok(batch)
    }

    fn tell(&self, step: &Result<Step, IntakeError>) {
        let status = match step {
            Ok(Step::Enqueued | Step::AtHead) => IntakeStatus::Following,
            Ok(Step::Full) => IntakeStatus::Full,
            Err(error) if halts(error) => IntakeStatus::Halted { error: error.to_string() },
            Err(error) => IntakeStatus::Retrying { error: error.to_string() },
        };
        self.progress.send_if_modified(|progress| {
            let news = progress.status != status;
            if news {
                match &status {
                    IntakeStatus::Halted { error } if matches!(step, Err(IntakeError::Bound { .. })) => {
                        tracing::error!(code = "block_beyond_bound", %error, "intake halted")
                    }
                    IntakeStatus::Halted { error } => {
                        tracing::error!(code = "intake_halted", %error, "intake halted")
                    }
                    IntakeStatus::Retrying { error } => {
                        tracing::warn!(code = "intake_failed", %error, "intake failed; trying again")
                    }
                    _ => {}
                }
                progress.status = status;
            }
            news
        });
    }
}

/// The first half of several blocks.
fn first_half(blocks: BlockRange) -> Option<BlockRange> {
    let (first, last) = (blocks.first(), blocks.last());
    (first < last)
        .then(|| BlockRange::new(first, first + (last - first) / 2))
        .map(|half| half.expect("half of several blocks has a block"))
}

/// Whether the node contradicts what has been enqueued, or a block cannot be proven: then somebody has to look.
fn halts(error: &IntakeError) -> bool {
    matches!(
        error,
        IntakeError::Behind { .. }
            | IntakeError::Bound { .. }
            | IntakeError::Store(StoreError::Unlinked(Unlinked::Parent { .. }))
    )
}
