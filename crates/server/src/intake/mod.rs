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

mod batching;
mod error;
mod reorg;
mod source;

pub use batching::BatchPolicy;
pub use error::IntakeError;
pub use source::{BatchSource, BoxError, PreparedBatch};

use crate::{
    artifacts::{ArtifactError, Artifacts},
    data_folder::Space,
    dispatch::Jobs,
    jobs::batch::Target,
    observe::traces,
};
use alloy_primitives::Address;
use batching::{Ahead, Waiting};
use bytes::Bytes;
use error::halts;
use protocol::{BlockRange, IntakeStatus};
use reorg::{Anchor, Reorg};
use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

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

/// What the intake does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// In a word.
    pub status: IntakeStatus,
    /// The newest block heard of.
    pub head: Option<u64>,
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
