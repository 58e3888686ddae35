//! Intake: new L2 blocks become jobs.
//!
//! * No block is skipped: the next batch starts right after the last one enqueued, whatever else happens.
//! * Each batch continues the one before by hash. A node that says otherwise halts the intake until it takes it back.
//! * An input is durable before its job is.
//! * Of several servers on one database, one follows the node, and another takes over when it goes.
//! * Only so many jobs are prepared ahead: the node's head may run away, our disk may not.

use crate::{
    artifacts::{ArtifactError, Artifacts},
    disk::{NoRoom, Space},
    jobs::{Jobs, NewBatch, StoreError, Target, Unlinked},
};
use alloy_primitives::{B256, keccak256};
use async_trait::async_trait;
use bytes::Bytes;
use protocol::{BlockRange, IntakeStatus};
use std::time::{Duration, SystemTime};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Any error, where only its text matters.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Where batches come from: an L2 node, whose blocks have been executed here before they are handed out.
#[async_trait]
pub trait BatchSource: Send + Sync + 'static {
    /// Number of the newest block.
    async fn head(&self) -> Result<u64, BoxError>;

    /// The blocks `blocks`, executed, with the program's input that repeats the execution.
    async fn prepare(&self, blocks: BlockRange) -> Result<PreparedBatch, BoxError>;
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
impl BatchSource for witness::Node {
    async fn head(&self) -> Result<u64, BoxError> {
        Ok(witness::Node::head(self).await?)
    }

    async fn prepare(&self, blocks: BlockRange) -> Result<PreparedBatch, BoxError> {
        let prepared = witness::Node::prepare(self, blocks.first(), blocks.last()).await?;
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
    pub source: S,
    /// Where the jobs go.
    pub jobs: Jobs,
    /// Where the inputs go.
    pub artifacts: Artifacts,
    /// The proof wanted of each batch.
    pub target: Target,
    /// The first block, if nothing has been enqueued yet.
    pub start_block: u64,
    /// Blocks in a batch.
    pub batch_blocks: u64,
    /// A batch of several blocks is made shorter until it is expected to cost no more.
    pub max_batch_cycles: u64,
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
    /// Other blocks were prepared than asked for.
    #[error("blocks {asked} were asked for, but blocks {found} were prepared")]
    OtherBlocks {
        /// The blocks asked for.
        asked: BlockRange,
        /// The blocks prepared.
        found: BlockRange,
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
        loop {
            if !*self.leads.borrow() {
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
                step = self.step() => step,
            };
            let pause = match &step {
                Ok(Step::Enqueued) => Duration::ZERO,
                Ok(Step::AtHead | Step::Full) => self.poll_interval,
                Err(_) => self
                    .poll_interval
                    .max(Duration::from_millis(250) * 2u32.pow(failures))
                    .min(Duration::from_secs(10)),
            };
            failures = if step.is_err() { (failures + 1).min(6) } else { 0 };
            self.tell(&step);
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
                () = self.jobs.taken(), if matches!(step, Ok(Step::Full)) => {}
            }
        }
    }

    /// Enqueues the next batch, if there is one and room for it.
    async fn step(&self) -> Result<Step, IntakeError> {
        let head = self.source.head().await.map_err(IntakeError::Head)?;
        self.progress.send_if_modified(|progress| progress.head.replace(head) != Some(head));
        let tip = self.jobs.store().tip().await?;
        if let Some(tip) = &tip
            && head < tip.last
        {
            return Err(IntakeError::Behind { head, last: tip.last });
        }
        let first = tip.as_ref().map_or(self.start_block, |tip| tip.last.saturating_add(1));
        let last = first.saturating_add(self.batch_blocks - 1);
        if last > head {
            return Ok(Step::AtHead);
        }
        if self.jobs.store().ready().await? >= self.ready_jobs {
            return Ok(Step::Full);
        }
        self.space.for_new()?;
        let seen = SystemTime::now();
        let mut asked = BlockRange::new(first, last).expect("a batch has at least one block");
        let prepared = loop {
            let prepared = self.source.prepare(asked).await;
            let prepared =
                prepared.map_err(|error| IntakeError::Prepare { blocks: asked, error })?;
            if prepared.blocks != asked {
                return Err(IntakeError::OtherBlocks { asked, found: prepared.blocks });
            }
            let cycles = prepared.estimated_cycles;
            if cycles <= self.max_batch_cycles {
                break prepared;
            }
            // Somebody may fill a block with the dearest there is. It delays its own proof, and no neighbour's.
            if asked.first() == asked.last() {
                tracing::warn!(
                    code = "dear_block",
                    block = asked.first(),
                    cycles,
                    limit = self.max_batch_cycles,
                    "a block is expected to cost more than a batch may; it is a batch by itself"
                );
                break prepared;
            }
            let half = asked.first() + (asked.last() - asked.first()) / 2;
            asked = BlockRange::new(first, half).expect("half a batch has a block");
        };
        let mut batch = NewBatch {
            blocks: asked,
            parent_hash: prepared.parent_hash,
            last_hash: prepared.last_hash,
            statement_digest: keccak256(&prepared.statement),
            statement: prepared.statement,
            input: protocol::ArtifactRef::of(&[]),
            gas_used: prepared.gas_used,
            transactions: prepared.transactions,
            estimated_cycles: prepared.estimated_cycles,
        };
        let prepared_at = SystemTime::now();
        // Before the input is written: a node on another chain must not fill the disk.
        if let Some(tip) = &tip {
            crate::jobs::store::follows(tip, &batch).map_err(StoreError::from)?;
        }
        // ORDER: the input is durable before the job that names it.
        let input = Bytes::from(prepared.input);
        batch.input = self.artifacts.put(input.clone()).await?;
        let job = self.jobs.enqueue(&batch, &self.target).await?;
        crate::traces::enqueued(job, asked.to_string(), seen, prepared_at);
        // One stored long ago may have been removed as garbage just before it was needed again.
        if let Err(ArtifactError::Missing(_)) = self.artifacts.len(batch.input.sha256).await {
            self.artifacts.put(input).await?;
        }
        Ok(Step::Enqueued)
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
                    IntakeStatus::Halted { error } => {
                        tracing::error!(code = "intake_halted", %error, "intake halted")
                    },
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

/// Whether the node contradicts what has been enqueued: then somebody has to look.
fn halts(error: &IntakeError) -> bool {
    matches!(
        error,
        IntakeError::Behind { .. }
            | IntakeError::Store(StoreError::Unlinked(Unlinked::Parent { .. }))
    )
}
