//! Intake: new L2 blocks become jobs.
//!
//! * No block is skipped: the next batch starts right after the last one enqueued, whatever else happens.
//! * Each batch continues the one before by hash. After a reorg, what it took away is superseded as soon as the new branch
//!   has shown a valid block. A node that shares no block with what was enqueued, or none that is new enough, halts the
//!   intake until it takes that back.
//! * What the node calls final stays: a reorg beneath that halts the intake too.
//! * What is more than the program takes at once is made of fewer blocks. A single block that is halts the intake.
//! * An input is durable before its jobs are.
//! * If the server came to want other proofs than before, batches that nothing proves any more get new jobs first.
//! * Of several servers on one database, one follows the node. Another takes over when it goes, or when its node fails and the
//!   other's does not.
//! * Only so many jobs are prepared ahead, and only so many inputs at once: the node's head may run away, our disk and our
//!   memory may not.

mod batching;
mod error;
mod finality;
mod follow;
mod policy;
mod reorg;
mod repair;
mod source;
mod stranded;
mod trouble;

pub use error::IntakeError;
pub use policy::BatchPolicy;
pub use repair::Repair;
pub use source::{BatchSource, BoxError, PreparedBatch};

use crate::{
    artifacts::Artifacts,
    data_folder::Space,
    dispatch::{Jobs, peers::NodeHealth},
};
use alloy_primitives::{Address, B256};
use protocol::IntakeStatus;
use std::{sync::Arc, time::Duration};
use tokio::sync::watch;

/// Follows a node's head and enqueues the jobs of every batch.
#[derive(Debug)]
pub struct Intake<S> {
    /// The node.
    pub source: Arc<S>,
    /// Where the jobs go.
    pub jobs: Jobs,
    /// Where the inputs go.
    pub artifacts: Artifacts,
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
    /// The link of the chain of deposits before the first block, if the chain has a bridge.
    pub deposits_start: Option<B256>,
    /// Inputs are prepared until so many jobs are ready for one of the proofs wanted.
    pub ready_jobs: u64,
    /// How often the node is asked.
    pub poll_interval: Duration,
    /// Where there must be room for a new batch.
    pub space: Space,
    /// Whether this server follows the node: of several on one database, one does.
    pub leads: watch::Receiver<bool>,
    /// Where the intake says how the node does, so that the server with the better node follows it.
    pub node: watch::Sender<NodeHealth>,
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
