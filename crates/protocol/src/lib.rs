//! What goes over the wire between the Prover Server and its clients: plain data, no I/O.
//!
//! * The four [`ProofData`] messages `Request`, `Response`, `Submit` and `SubmitAck` are the core and are never renamed.
//! * Everything here is version 1, served below [`paths::V1`]. Fields are added, never changed; unknown fields are
//!   ignored by whoever reads a message.
//! * An id or a range that has been read is valid: what cannot be is refused while it is parsed.

pub mod error;
pub mod ids;
pub mod messages;
pub mod paths;
pub mod status;

pub use error::{ApiError, ErrorCode};
pub use ids::{
    ArtifactId, ArtifactRef, BlockRange, ClientId, InvalidId, InvalidRange, JobId, LeaseId,
};
pub use messages::{
    Advice, Capability, Fail, FailAck, FailureClass, Heartbeat, HeartbeatAck, NoWork, NoWorkReason,
    Progress, ProofData, ProofKind, ProofSystem, Request, Response, Submit, SubmitAck, UnknownName,
    Verdict,
};
pub use status::{
    Check, ClientSummary, CollectGarbage, Counts, DeadCause, Garbage, IntakeStatus, JobHistory,
    JobState, JobSummary, LeaseSummary, Priority, Readiness, Status, SubmittedProof,
};
