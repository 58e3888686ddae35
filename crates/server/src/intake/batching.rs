//! Batches: when one is full, how several are prepared ahead, and what is cut from one that is too much.

use super::{
    Intake,
    error::IntakeError,
    policy::proving_cycles,
    source::{BatchSource, BoxError, PreparedBatch},
};
use crate::{
    jobs::batch::{DepositLinks, NewBatch, Tip, follows},
    store::StoreError,
};
use alloy_primitives::keccak256;
use protocol::BlockRange;
use std::collections::VecDeque;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

/// Batches that are being prepared, in order.
pub(super) type Ahead = VecDeque<(BlockRange, AbortOnDropHandle<Result<PreparedBatch, BoxError>>)>;

/// A batch that is not full yet.
pub(super) struct Waiting {
    pub(super) first: u64,
    pub(super) since: Instant,
    /// The first block whose gas has not been counted.
    pub(super) next: u64,
    /// Of the blocks before.
    pub(super) gas: u64,
}

impl<S: BatchSource> Intake<S> {
    /// The next batch, if it is full, or has waited long enough.
    pub(super) async fn due(
        &self,
        first: u64,
        head: u64,
        waiting: &mut Option<Waiting>,
    ) -> Result<Option<BlockRange>, IntakeError> {
        let full = first.saturating_add(self.policy.blocks - 1);
        if full <= head {
            return Ok(BlockRange::new(first, full).ok());
        }
        if first > head {
            return Ok(None);
        }
        let waiting = match waiting {
            Some(waiting) if waiting.first == first => waiting,
            _ => waiting.insert(Waiting { first, since: Instant::now(), next: first, gas: 0 }),
        };
        if let Some(most) = self.policy.gas {
            while waiting.gas <= most && waiting.next <= head {
                let block = self.source.block(waiting.next).await.map_err(IntakeError::Head)?;
                // A reorg took it. What was counted of the old branch may close the batch early; `cut` keeps the limit.
                let Some(block) = block else { return Ok(None) };
                waiting.gas = waiting.gas.saturating_add(block.gas_used);
                waiting.next += 1;
            }
            if waiting.gas > most {
                // The last one counted belongs to the next batch, unless it is all there is.
                let last = waiting.next.saturating_sub(2).clamp(first, head);
                return Ok(BlockRange::new(first, last).ok());
            }
        }
        let waited = self.policy.age.is_some_and(|age| waiting.since.elapsed() >= age);
        Ok(waited.then(|| BlockRange::new(first, head).ok()).flatten())
    }

    /// Makes sure that `asked` is being prepared, and as many full batches after it as there may be.
    pub(super) fn prepare_ahead(&self, ahead: &mut Ahead, asked: BlockRange, head: u64, room: u64) {
        if ahead.front().is_some_and(|(blocks, _)| *blocks != asked) {
            ahead.clear();
        }
        let room = usize::try_from(room).unwrap_or(usize::MAX).min(self.prepare_ahead.max(1));
        while ahead.len() < room {
            let first = ahead.back().map_or(asked.first(), |(blocks, _)| blocks.last() + 1);
            let last = match ahead.is_empty() {
                true => asked.last(),
                false => first.saturating_add(self.policy.blocks - 1),
            };
            let Some(blocks) = BlockRange::new(first, last).ok().filter(|_| last <= head) else {
                break;
            };
            let (source, beneficiary) = (self.source.clone(), self.beneficiary);
            let task = tokio::spawn(async move { source.prepare(blocks, beneficiary).await });
            ahead.push_back((blocks, AbortOnDropHandle::new(task)));
        }
    }

    pub(super) async fn prepare(&self, asked: BlockRange) -> Result<PreparedBatch, IntakeError> {
        self.checked(asked, self.source.prepare(asked, self.beneficiary).await)
    }

    pub(super) fn checked(
        &self,
        asked: BlockRange,
        prepared: Result<PreparedBatch, BoxError>,
    ) -> Result<PreparedBatch, IntakeError> {
        let prepared = prepared.map_err(|error| IntakeError::Prepare { blocks: asked, error })?;
        match prepared.blocks == asked {
            true => Ok(prepared),
            false => Err(IntakeError::OtherBlocks { asked, found: prepared.blocks }),
        }
    }

    /// Cuts a batch in half until it is within the bounds of the program, and has no block that needs a trie node which no
    /// node shows: what comes before that block is proven meanwhile.
    pub(super) async fn fitting(
        &self,
        mut prepared: Result<PreparedBatch, IntakeError>,
        ahead: &mut Ahead,
    ) -> Result<PreparedBatch, IntakeError> {
        while let Err(IntakeError::Prepare { blocks, error }) = &prepared
            && let Some(error) = error.downcast_ref::<witness::Error>()
            && (error.bound().is_some() || error.lacks_trie_node())
        {
            let Some(half) = first_half(*blocks) else {
                let block = blocks.first();
                return match error.bound() {
                    Some(bound) => Err(IntakeError::Bound { block, bound }),
                    None => prepared,
                };
            };
            tracing::info!(%blocks, %error, "a batch cannot be prepared as a whole; it is cut");
            ahead.clear();
            prepared = self.prepare(half).await;
        }
        prepared
    }

    /// Cuts a batch in half until nothing of it is too much.
    pub(super) async fn cut(
        &self,
        mut prepared: PreparedBatch,
        ahead: &mut Ahead,
    ) -> Result<PreparedBatch, IntakeError> {
        let lately = self.jobs.store().cost_correction().await?;
        while let Some(what) = self.policy.exceeded(&prepared, &lately) {
            // Somebody may fill a block with the dearest there is. It delays its own proof, and no neighbour's.
            let Some(half) = first_half(prepared.blocks) else {
                tracing::warn!(
                    code = "dear_block",
                    block = prepared.blocks.first(),
                    cycles = proving_cycles(&prepared, &lately),
                    gas = prepared.gas_used,
                    bytes = prepared.input.len(),
                    exceeded = what,
                    "a block is more than a batch may be; it is a batch by itself"
                );
                break;
            };
            ahead.clear();
            prepared = self.prepare(half).await?;
        }
        Ok(prepared)
    }

    /// The batch, without its input, if it continues `tip`.
    pub(super) fn follows(
        &self,
        tip: &Option<Tip>,
        prepared: &PreparedBatch,
    ) -> Result<NewBatch, IntakeError> {
        let batch = NewBatch {
            blocks: prepared.blocks,
            parent_hash: prepared.parent_hash,
            last_hash: prepared.last_hash,
            statement_digest: keccak256(&prepared.statement),
            statement: prepared.statement.clone(),
            input: protocol::ArtifactRef::of(&[]),
            gas_used: prepared.gas_used,
            transactions: prepared.transactions,
            estimated_cycles: prepared.estimate.cycles,
            deposits: None,
        };
        if let Some(tip) = tip {
            follows(tip, &batch).map_err(StoreError::from)?;
        }
        Ok(batch)
    }

    /// Has a batch's deposits come after those of the batch that ends with `tip`, or of the first of all.
    pub(super) async fn place_deposits(
        &self,
        prepared: &mut PreparedBatch,
        tip: &Option<Tip>,
    ) -> Result<Option<DepositLinks>, IntakeError> {
        if prepared.deposits.is_none() {
            return Ok(None);
        }
        let block = prepared.blocks.first();
        let start = match tip {
            Some(tip) => self.jobs.store().deposits_after(tip.last).await?,
            // Before the first block there are no deposits.
            None if block <= 1 => Some(self.deposits_start.unwrap_or_default()),
            None => self.deposits_start,
        };
        let start = start.ok_or(IntakeError::DepositsStart { block })?;
        prepared
            .place_deposits(start)
            .map_err(|error| IntakeError::Prepare { blocks: prepared.blocks, error: error.into() })
    }
}

/// The first half of several blocks.
fn first_half(blocks: BlockRange) -> Option<BlockRange> {
    let (first, last) = (blocks.first(), blocks.last());
    (first < last)
        .then(|| BlockRange::new(first, first + (last - first) / 2))
        .map(|half| half.expect("half of several blocks has a block"))
}
