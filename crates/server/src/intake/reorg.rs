//! Reorgs: what of the chain of batches the node still has, and what it no longer has.

use super::{Intake, error::IntakeError, source::BatchSource};
use crate::{
    jobs::batch::{Tip, Unlinked},
    store::StoreError,
};
use alloy_primitives::B256;

/// The end of the chain of batches, as far as the node still has it.
pub(super) struct Anchor {
    pub(super) tip: Option<Tip>,
    pub(super) reorg: Option<Reorg>,
}

/// What the node no longer has.
pub(super) struct Reorg {
    /// The end of the first batch that is gone.
    pub(super) first: Tip,
    /// The end of the last one.
    pub(super) last: Tip,
}

impl<S: BatchSource> Intake<S> {
    /// What of the chain of batches the node still has. Of several nodes, one that has them all is enough.
    pub(super) async fn anchor(&self, head: u64) -> Result<Anchor, IntakeError> {
        let anchor = self.first_anchor(head).await;
        if let Err(IntakeError::Behind { .. } | IntakeError::Store(StoreError::Unlinked(_))) =
            &anchor
            && let Some(tip) = self.jobs.store().tip().await?
            && self.source.any_has(tip.last, tip.last_hash).await
        {
            return Ok(Anchor { tip: Some(tip), reorg: None });
        }
        anchor
    }

    /// What of it the node still has that answers first.
    async fn first_anchor(&self, head: u64) -> Result<Anchor, IntakeError> {
        let Some(tip) = self.jobs.store().tip().await? else {
            return Ok(Anchor { tip: None, reorg: None });
        };
        let behind = IntakeError::Behind { head, last: tip.last };
        let (mut gone, mut other): (Option<Tip>, Option<B256>) = (None, None);
        let mut below = head.min(tip.last);
        while let Some(end) = self.jobs.store().end_before(below).await? {
            if tip.last - end.last > self.max_reorg_blocks {
                break;
            }
            match self.source.block(end.last).await.map_err(IntakeError::Head)? {
                None => return Err(behind),
                Some(block) if block.hash == end.last_hash => {
                    return match gone {
                        _ if end == tip => Ok(Anchor { tip: Some(tip), reorg: None }),
                        Some(first) => {
                            Ok(Anchor { tip: Some(end), reorg: Some(Reorg { first, last: tip }) })
                        }
                        None => Err(behind),
                    };
                }
                Some(found) if end == tip => other = Some(found.hash),
                Some(_) => {}
            }
            gone = Some(end);
            below = end.last.saturating_sub(1);
        }
        Err(match other {
            Some(found) => {
                let first = tip.last.saturating_add(1);
                let expected = tip.last_hash;
                StoreError::from(Unlinked::Parent { first, expected, found }).into()
            }
            None => behind,
        })
    }
}
