//! What the server answers instead of a message when it refuses.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A refusal: what is wrong, and whether asking again can help.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, thiserror::Error)]
#[error("{message} ({code:?})")]
pub struct ApiError {
    /// What is wrong, for programs.
    pub code: ErrorCode,
    /// What is wrong and what to do, for people.
    pub message: String,
    /// Whether the same request may succeed later.
    pub retryable: bool,
    /// If so: ask again after this many milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

/// Reasons for which the server refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ErrorCode {
    /// The body or the path could not be understood.
    Malformed,
    /// The body is a message that this endpoint does not take, or that this version does not know.
    UnknownMessage,
    /// The body is larger than the server allows.
    TooLarge,
    /// The uploaded bytes do not have the hash or the length that was announced.
    HashMismatch,
    /// The caller presents no valid token and no registered certificate.
    Unauthenticated,
    /// The caller's token does not allow this.
    Forbidden,
    /// Too many requests, uploads or connections: ask again later.
    RateLimited,
    /// The body did not arrive in time.
    TooSlow,
    /// The server's disk is too full for it.
    DiskFull,
    /// There is no such endpoint.
    NoSuchEndpoint,
    /// There is no such job.
    NoSuchJob,
    /// No such client has ever asked for work.
    NoSuchClient,
    /// There is no such artifact: upload it first.
    NoSuchArtifact,
    /// The lease is not the job's live lease.
    LeaseLost,
    /// The job is not in a state in which this can be done.
    WrongState,
    /// The server cannot do it now.
    Unavailable,
    /// The server failed; its log says why.
    Internal,
    /// A code this version does not know.
    #[serde(other)]
    Other,
}
