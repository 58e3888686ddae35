//! Finality: batches whose blocks the node calls final stay on the chain of batches.
//!
//! * A batch becomes final if it ends at or before the newest final block, and the node has its last block, by that hash.
//! * A node that calls no block final, or does not know what that is, is fine: then nothing becomes final.
//! * The node is trusted here, but only to its own harm: one that lies about finality halts the intake at its next reorg, and
//!   makes nobody accept a false proof.

use super::{
    Intake,
    source::{BatchSource, BoxError},
};
use crate::{jobs::batch::Tip, store::StoreError};
use alloy_primitives::B256;
use tokio::time::Instant;

/// The node is asked at most once in so many polls.
const POLLS: u32 = 20;

/// What is remembered of the node's answers.
#[derive(Debug, Default)]
pub(super) struct Finality {
    asked: Option<Instant>,
    /// The node's newest block and the end of the chain of batches, when it was asked.
    about: Option<(u64, Tip)>,
    /// The end of what is final, as far as this server has seen to that.
    through: Option<Tip>,
    doubt: Option<Doubt>,
}

/// Why the node is not believed that blocks are final.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum Doubt {
    /// It does not have the block.
    #[error("L2 node calls block {finalized} final, but its newest is {head}")]
    Beyond {
        /// The block.
        finalized: u64,
        /// The node's newest.
        head: u64,
    },
    /// It has another block than the one that was enqueued.
    #[error(
        "L2 node calls block {finalized} final, but block {block} was enqueued as {expected}, and the node has {}",
        found.map_or("none".to_owned(), |hash| hash.to_string())
    )]
    Other {
        /// What it calls final.
        finalized: u64,
        /// The last block of a batch.
        block: u64,
        /// Its hash, when it was enqueued.
        expected: B256,
        /// The node's.
        found: Option<B256>,
    },
}

impl<S: BatchSource> Intake<S> {
    /// Asks the node what is final, now and then, and notes what follows from it. `head` is the node's newest block, and `tip`
    /// the end of the chain of batches, which the node still has.
    pub(super) async fn finalize(
        &self,
        finality: &mut Finality,
        head: u64,
        tip: Tip,
    ) -> Result<(), StoreError> {
        let lately = |asked: Instant| asked.elapsed() < self.poll_interval * POLLS;
        if finality.about == Some((head, tip)) || finality.asked.is_some_and(lately) {
            return Ok(());
        }
        (finality.asked, finality.about) = (Some(Instant::now()), Some((head, tip)));
        let finalized = match self.source.finalized().await {
            Ok(Some(finalized)) => finalized,
            Ok(None) => {
                tracing::debug!("the node calls no block final");
                return Ok(());
            }
            Err(error) => {
                tracing::debug!(%error, "the node does not say what is final");
                return Ok(());
            }
        };
        // A node may get ahead of what it said, and its head may be followed at a distance.
        let within = finalized.min(head);
        let Some(end) = self.jobs.store().end_before(within).await? else { return Ok(()) };
        let doubt = match self.doubt(finalized, head, end).await {
            Ok(doubt) => doubt,
            Err(error) => {
                tracing::debug!(%error, "the node does not show what it calls final");
                return Ok(());
            }
        };
        if doubt.is_none() && finality.through != Some(end) {
            self.jobs.finalize(end).await?;
            finality.through = Some(end);
        }
        if finality.doubt != doubt {
            if let Some(doubt) = &doubt {
                tracing::warn!(code = "finality_refused", error = %doubt, "nothing becomes final");
            }
            finality.doubt = doubt;
        }
        Ok(())
    }

    /// Why the batch that ends at `end` is not final, although the node says so of `finalized`.
    async fn doubt(&self, finalized: u64, head: u64, end: Tip) -> Result<Option<Doubt>, BoxError> {
        if finalized > head && self.source.block(finalized).await?.is_none() {
            return Ok(Some(Doubt::Beyond { finalized, head }));
        }
        let found = self.source.block(end.last).await?.map(|block| block.hash);
        let (block, expected) = (end.last, end.last_hash);
        let same = found == Some(expected);
        Ok((!same).then_some(Doubt::Other { finalized, block, expected, found }))
    }
}
