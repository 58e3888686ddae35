//! What the store refuses, and what it could not do.

use crate::{
    database::DatabaseError,
    jobs::{
        batch::{Tip, Unlinked},
        settlement::Rollup,
        state::Refused,
    },
};
use protocol::{ArtifactId, BlockRange, ClientId, JobId};

/// Why the store could not do it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// There is no such job.
    #[error("there is no job {0}")]
    NoSuchJob(JobId),
    /// No such client has ever asked for work.
    #[error("there is no client {0}")]
    NoSuchClient(ClientId),
    /// The event does not apply to the job.
    #[error("job {job}: {refused}")]
    Refused {
        /// The job.
        job: JobId,
        /// Why.
        refused: Refused,
    },
    /// The proof was submitted, but is not any more: another server found its bytes lost.
    #[error("proof {proof} of job {job} was lost before it was judged: submit it again")]
    NotSubmitted {
        /// The job.
        job: JobId,
        /// The proof.
        proof: ArtifactId,
    },
    /// The batch does not continue the last one.
    #[error(transparent)]
    Unlinked(#[from] Unlinked),
    /// A reorg would take blocks away that are final.
    #[error(
        "a reorg from block {from} on would take away the batch of blocks {batch}, which the node has called final: it has \
         another chain; give it back its chain, or use another data_dir"
    )]
    Final {
        /// The first block of the reorg.
        from: u64,
        /// The newest final batch.
        batch: BlockRange,
    },
    /// Another server changed the chain of batches meanwhile.
    #[error("the chain of batches ends at {found:?} now, not at {expected:?}: look again")]
    TipMoved {
        /// Where the caller saw its end.
        expected: Option<Tip>,
        /// Where it ends.
        found: Option<Tip>,
    },
    /// Another process settles there now.
    #[error("another process sends to the contract {0} now")]
    NotTheSettler(Rollup),
    /// The database could not do it.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}
