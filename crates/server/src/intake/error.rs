//! Why a batch is not enqueued, and which of the reasons need somebody to look.

use super::source::BoxError;
use crate::{
    artifacts::ArtifactError, data_folder::NoRoom, jobs::batch::Unlinked, store::StoreError,
};
use program::Bound;
use protocol::BlockRange;

/// Why a batch is not enqueued.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IntakeError {
    /// The node could not say its head.
    #[error("L2 node did not say its newest block: {0}")]
    Head(#[source] BoxError),
    /// The blocks could not be prepared.
    #[error("blocks {blocks} could not be prepared: {}", witness::with_causes(.error.as_ref()))]
    Prepare {
        /// The blocks.
        blocks: BlockRange,
        /// Why.
        #[source]
        error: BoxError,
    },
    /// A single block is more than the program takes.
    #[error(
        "block {block} cannot be proven: {bound}; no block is skipped: none after it is proven"
    )]
    Bound {
        /// The block.
        block: u64,
        /// What it is beyond.
        #[source]
        bound: Bound,
    },
    /// Other blocks were prepared than asked for.
    #[error("blocks {asked} were asked for, but blocks {found} were prepared")]
    OtherBlocks {
        /// The blocks asked for.
        asked: BlockRange,
        /// The blocks prepared.
        found: BlockRange,
    },
    /// The first batch does not begin with the chain, which has a bridge.
    #[error(
        "it is not known after which deposits block {block} comes, and the chain has a bridge: set deposits_start to the link \
         of the chain of deposits before it"
    )]
    DepositsStart {
        /// The block.
        block: u64,
    },
    /// The node said that a block is gone, and then gave that block.
    #[error("L2 node said another hash of block {block} than that of the block it then gave")]
    Contradiction {
        /// The block.
        block: u64,
    },
    /// The node's chain is shorter than what has been enqueued.
    #[error(
        "L2 node is at block {head}, but blocks up to {last} have been enqueued: it lost blocks or is another node; give it \
         back its chain, or use another data_dir"
    )]
    Behind {
        /// The node's newest block.
        head: u64,
        /// The last block enqueued.
        last: u64,
    },
    /// The disk is too full for new batches.
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
    /// Jobs could not be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The input could not be stored.
    #[error("input could not be stored: {0}")]
    Artifacts(#[from] ArtifactError),
}

/// Whether the node contradicts what has been enqueued, or a block cannot be proven: then somebody has to look.
pub(super) fn halts(error: &IntakeError) -> bool {
    matches!(
        error,
        IntakeError::Behind { .. }
            | IntakeError::Bound { .. }
            | IntakeError::Store(
                StoreError::Unlinked(Unlinked::Parent { .. }) | StoreError::Final { .. }
            )
    )
}

/// Whether a node that only lags may cause it: then it counts when it persists.
pub(super) fn may_lag(error: &IntakeError) -> bool {
    halts(error) && !matches!(error, IntakeError::Bound { .. })
}

/// Whether another node might do better.
pub(super) fn blames_node(error: &IntakeError) -> bool {
    matches!(
        error,
        IntakeError::Head(_)
            | IntakeError::Prepare { .. }
            | IntakeError::OtherBlocks { .. }
            | IntakeError::Contradiction { .. }
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use witness::{Error, ErrorSource};

    #[test]
    fn what_is_missing_is_said() {
        let culprit = ErrorSource::Node("http://node.example".into());
        let missing = program::Error::MissingHeader { number: 5 };
        let error = Box::new(Error::Incomplete { culprit, block: 7, missing });
        let blocks = BlockRange::new(7, 7).expect("a block");
        let text = IntakeError::Prepare { blocks, error }.to_string();
        let said = program::Error::MissingHeader { number: 5 }.to_string();
        assert!(text.contains("block 7 in L2 node") && text.ends_with(&said), "{text}");
    }
}
