//! What a transaction did besides its answer: durable facts, for whoever counts and logs them.

use crate::jobs::outcome::{LeaseOutcome, RecordedVerdict};
use protocol::{ClientId, JobId};

/// An answer of the store, and what became durable with it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Done<T> {
    /// The answer.
    pub value: T,
    /// What happened.
    pub facts: Vec<Fact>,
}

/// Something that happened for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fact {
    /// A client lost its lease.
    LeaseLost {
        /// On this job.
        job: JobId,
        /// The client.
        client: ClientId,
        /// How.
        outcome: LeaseOutcome,
    },
    /// A verdict was recorded.
    Judged(RecordedVerdict),
}
