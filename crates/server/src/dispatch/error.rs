//! Why a message is refused.

use super::{peers::NotHandedOver, queue::Busy};
use crate::{artifacts::ArtifactError, database::DatabaseError, store::StoreError};
use protocol::{ArtifactId, JobId};

/// Why a client's wish is not granted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JobError {
    /// The request makes no sense.
    #[error("{0}")]
    Malformed(String),
    /// The proof's bytes are not here.
    #[error("the proof has not been uploaded: PUT artifact {0} first")]
    ProofMissing(ArtifactId),
    /// The artifact is here, but of another length than announced.
    #[error("artifact {sha256} has {found} bytes, not {announced}")]
    WrongLength {
        /// The artifact.
        sha256: ArtifactId,
        /// The length announced.
        announced: u64,
        /// Its length.
        found: u64,
    },
    /// The jobs could not be read or written, or the event does not apply.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The artifacts could not be read or written.
    #[error(transparent)]
    Artifacts(#[from] ArtifactError),
    /// Nothing was recorded: the proof has to be handed in again.
    #[error(transparent)]
    Busy(#[from] Busy),
    /// No other server follows the node.
    #[error(transparent)]
    NotHandedOver(#[from] NotHandedOver),
    /// The plan of a run is not what this server writes.
    #[error("the plan of job {job} cannot be read: {error}")]
    Plan {
        /// The job that is proven in parts.
        job: JobId,
        /// What is wrong with it.
        error: verifier::VerifyError,
    },
    /// Verifying was given up; the submission stays open.
    #[error("the proof could not be verified now; submit it again")]
    NotVerified,
}

impl From<DatabaseError> for JobError {
    fn from(error: DatabaseError) -> Self {
        Self::Store(error.into())
    }
}
