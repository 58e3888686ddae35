//! Inputs that are lost or damaged are made again of what the node has.
//!
//! * The new input is of the same statement as the old one, or it is not used.
//! * While that does not succeed, the job rests, and each client that gets it nevertheless and has no input makes the next attempt.

use super::source::{BatchSource, BoxError};
use crate::{
    artifacts::{ArtifactError, Artifacts},
    dispatch::Jobs,
    jobs::batch::DepositLinks,
    store::StoreError,
};
use alloy_primitives::Address;
use bytes::Bytes;
use program::Statement;
use protocol::{BlockRange, JobId};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Makes lost inputs again.
#[derive(Debug)]
pub struct Repair<S> {
    /// The node.
    pub source: Arc<S>,
    /// Where it is heard which inputs are lost.
    pub jobs: Jobs,
    /// Where the inputs go.
    pub artifacts: Artifacts,
    /// Who may claim the rewards of the proofs, if a statement does not say.
    pub beneficiary: Address,
}

/// Why an input is not made again.
#[derive(Debug, thiserror::Error)]
enum RepairError {
    /// The node does not give the blocks.
    #[error("blocks {blocks} could not be prepared: {error}")]
    Prepare {
        /// The blocks.
        blocks: BlockRange,
        /// Why.
        error: BoxError,
    },
    /// The blocks are others now, or the chain's rules or the program are.
    #[error("blocks {0} make another statement now than when they were enqueued")]
    OtherStatement(BlockRange),
    /// Jobs could not be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The input could not be stored.
    #[error("input could not be stored: {0}")]
    Artifacts(#[from] ArtifactError),
}

impl<S: BatchSource> Repair<S> {
    /// Runs until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) {
        while let Some(job) = shutdown.run_until_cancelled(self.jobs.lost_input()).await {
            let Some(made) = shutdown.run_until_cancelled(self.make_again(job)).await else {
                return;
            };
            match made {
                Ok(()) => tracing::info!(%job, "a lost input was made again"),
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::error!(code = "input_not_made_again", %job, error, "a lost input cannot be made again now; its job rests");
                }
            }
        }
    }

    async fn make_again(&self, job: JobId) -> Result<(), RepairError> {
        let lost = self.jobs.store().input_of(job).await?;
        match self.artifacts.read(lost.input.sha256).await {
            // Another job of the batch had it made.
            Ok(_) => return Ok(()),
            Err(ArtifactError::Missing(_) | ArtifactError::Damaged(_)) => {}
            Err(error) => return Err(error.into()),
        }
        let blocks = lost.blocks;
        // What was promised then, even if it is promised to somebody else today.
        let beneficiary = Statement::abi_decode(&lost.statement)
            .map_or(self.beneficiary, |statement| statement.beneficiary);
        let prepared = self.source.prepare(blocks, beneficiary).await;
        let mut prepared = prepared.map_err(|error| RepairError::Prepare { blocks, error })?;
        if let Some(DepositLinks { start, .. }) = lost.deposits {
            prepared
                .place_deposits(start)
                .map_err(|error| RepairError::Prepare { blocks, error: error.into() })?;
        }
        // SOUNDNESS: the new input is of exactly the statement that was stored, with which its proofs are compared.
        if prepared.statement != lost.statement {
            return Err(RepairError::OtherStatement(blocks));
        }
        // ORDER: the input is durable before the batch names it.
        let bytes = Bytes::from(prepared.input);
        let input = self.artifacts.put(bytes.clone()).await?;
        self.jobs.replace_input(&lost, input).await?;
        Ok(self.artifacts.put_again(input.sha256, bytes).await?)
    }
}
