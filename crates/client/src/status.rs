//! What a client is doing, for whoever watches it.

use protocol::{BlockRange, ClientId, JobId, NoWorkReason, Progress, ProofSystem};

/// Where a client is in its round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Asking for work; there was none lately, for this reason.
    Idle(Option<NoWorkReason>),
    /// The server cannot be reached; it is tried again.
    Unreachable {
        /// What went wrong.
        error: String,
    },
    /// Fetching a job's input.
    Downloading(JobInfo),
    /// Proving.
    Proving(JobInfo),
    /// A proof is on disk and on its way to the server.
    Submitting {
        /// The job.
        job: JobId,
    },
    /// The prover has failed too often; it is tested after a pause.
    Broken {
        /// What failed last.
        error: String,
    },
    /// Stopped.
    Stopped,
}

/// A job at hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JobInfo {
    /// The job.
    pub job: JobId,
    /// Its blocks.
    pub blocks: BlockRange,
    /// Length of its input in bytes.
    pub input_len: u64,
    /// How far the prover is.
    pub progress: Option<Progress>,
}

/// A snapshot of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The client.
    pub client: ClientId,
    /// Its proof system.
    pub system: ProofSystem,
    /// Where it is in its round.
    pub phase: Phase,
    /// Proofs accepted since the start.
    pub accepted: u64,
    /// Proofs that came second, since the start.
    pub duplicate: u64,
    /// Proofs rejected since the start.
    pub rejected: u64,
    /// Jobs given back since the start.
    pub failed: u64,
    /// The last failure or rejection.
    pub last_error: Option<String>,
    /// Why this client asks for no more work and has to be stopped by its owner.
    pub fatal: Option<String>,
}
