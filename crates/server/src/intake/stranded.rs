//! Batches that nothing proves any more, since the server came to want other proofs: they get new jobs.
//!
//! * All of them, oldest first, back to the first batch on the chain: no block is skipped.
//! * Only so many at a time: they count towards the limit of ready jobs like every other.
//! * A batch whose stored input the program of today cannot repeat is left alone, and counted: its job would fail for ever.

use super::{Intake, error::IntakeError, follow::Step, source::BatchSource};
use crate::{artifacts::ArtifactError, store::Stranded};
use std::collections::VecDeque;

/// Batches that nothing proves any more, as far as they have not been looked at.
#[derive(Debug)]
pub(super) struct Queue {
    waiting: VecDeque<Stranded>,
    /// How many were left alone so far.
    unreadable: u64,
    /// The first block of the first of those, and the last block of the last.
    blocks: Option<(u64, u64)>,
}

impl<S: BatchSource> Intake<S> {
    /// Gives the next such batch its jobs, if there is one; `None` if there are no more.
    pub(super) async fn rescue(
        &self,
        queue: &mut Option<Queue>,
    ) -> Result<Option<Step>, IntakeError> {
        let queue = match queue {
            Some(queue) => queue,
            None => {
                let stranded = self.jobs.store().stranded(self.jobs.targets()).await?;
                queue.insert(Queue { waiting: stranded.into(), unreadable: 0, blocks: None })
            }
        };
        while let Some(next) = queue.waiting.front() {
            if self.jobs.store().ready(self.jobs.targets()).await? >= self.ready_jobs {
                return Ok(Some(Step::Full));
            }
            if self.repeats(next).await? {
                self.jobs.rescue(next).await?;
                queue.waiting.pop_front();
                return Ok(Some(Step::Enqueued));
            }
            let (first, _) = queue.blocks.unwrap_or((next.blocks.first(), 0));
            queue.blocks = Some((first, next.blocks.last()));
            queue.unreadable += 1;
            queue.waiting.pop_front();
        }
        if let Some((first, last)) = queue.blocks.take() {
            tracing::warn!(
                code = "old_inputs",
                batches = queue.unreadable,
                first,
                last,
                "batches without a proof have inputs that this version cannot read, and are left alone: run a client of the \
                 version that made them, or have the blocks proven from a new data_dir"
            );
        }
        Ok(None)
    }

    /// Whether the program of today makes of the batch's stored input what is stated of the batch.
    async fn repeats(&self, batch: &Stranded) -> Result<bool, IntakeError> {
        let input = match self.artifacts.read(batch.input.sha256).await {
            Ok(input) => input,
            Err(ArtifactError::Missing(_) | ArtifactError::Damaged(_)) => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        Ok(match self.source.restate(input).await {
            Ok(statement) => statement == batch.statement,
            Err(error) => {
                tracing::debug!(blocks = %batch.blocks, %error, "a stored input cannot be repeated");
                false
            }
        })
    }
}
