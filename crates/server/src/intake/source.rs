//! Where batches come from: an L2 node, whose blocks have been executed here before they are handed out.

use crate::jobs::batch::DepositLinks;
use alloy_primitives::{Address, B256};
use async_trait::async_trait;
use program::Statement;
use protocol::BlockRange;
use witness::{HeaderSummary, Withdrawal, cost::Estimate};

/// Any error, where only its text matters.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Where batches come from: an L2 node, whose blocks have been executed here before they are handed out.
#[async_trait]
pub trait BatchSource: Send + Sync + 'static {
    /// Number of the newest block.
    async fn head(&self) -> Result<u64, BoxError>;

    /// The block with this number, as it is said to be; `None` if there is none.
    async fn block(&self, number: u64) -> Result<Option<HeaderSummary>, BoxError>;

    /// Number of the newest block that is said to be final; `None` if none is, or the node does not know what that is.
    async fn finalized(&self) -> Result<Option<u64>, BoxError>;

    /// Whether anybody who can be asked has the block with this number and hash, if whoever answered [`block`](Self::block) has not.
    async fn any_has(&self, _number: u64, _hash: B256) -> bool {
        false
    }

    /// Returns when there may be a newer block. It may as well never return: the head is asked for now and then anyway.
    async fn news(&self) {
        std::future::pending().await
    }

    /// The blocks `blocks`, executed, with the program's input that repeats the execution and says that `beneficiary` may
    /// claim the reward. Blocks that are beyond a [`Bound`](program::Bound) of the program are a [`witness::Error`] that says so.
    async fn prepare(
        &self,
        blocks: BlockRange,
        beneficiary: Address,
    ) -> Result<PreparedBatch, BoxError>;

    /// Executes an input that was stored earlier, and returns the statement's ABI bytes: what a proof by the program of today
    /// would commit to. An error if the program cannot read the input, or refuses it.
    async fn restate(&self, input: Vec<u8>) -> Result<Vec<u8>, BoxError>;
}

/// Blocks that have been executed here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreparedBatch {
    /// The blocks.
    pub blocks: BlockRange,
    /// Hash of the block before the first.
    pub parent_hash: B256,
    /// Hash of the last block.
    pub last_hash: B256,
    /// The statement's ABI bytes: what a proof must commit to.
    pub statement: Vec<u8>,
    /// The program's input.
    pub input: Vec<u8>,
    /// Gas used by the blocks.
    pub gas_used: u64,
    /// Transactions in the blocks.
    pub transactions: u64,
    /// What a proof is expected to take: see [`witness::cost::estimate`].
    pub estimate: Estimate,
    /// The deposits that the blocks consume, in order, if their chain has a bridge. Which link of the chain of deposits they come after is
    /// said when the batch is enqueued.
    pub deposits: Option<Vec<Withdrawal>>,
}

impl PreparedBatch {
    /// Has the deposits come after the link `start`, in the input and in the statement. None if the chain has no bridge.
    pub(super) fn place_deposits(
        &mut self,
        start: B256,
    ) -> Result<Option<DepositLinks>, program::Error> {
        let Some(deposits) = &self.deposits else { return Ok(None) };
        let mut statement = Statement::abi_decode(&self.statement)?;
        let end = witness::place_deposits(&mut self.input, &mut statement, deposits, start)?;
        self.statement = statement.abi_encode();
        Ok(Some(DepositLinks { start, end }))
    }
}

#[async_trait]
impl BatchSource for witness::Nodes {
    async fn head(&self) -> Result<u64, BoxError> {
        Ok(witness::Nodes::head(self).await?)
    }

    async fn block(&self, number: u64) -> Result<Option<HeaderSummary>, BoxError> {
        Ok(witness::Nodes::block(self, number).await?)
    }

    async fn any_has(&self, number: u64, hash: B256) -> bool {
        witness::Nodes::any_has(self, number, hash).await
    }

    async fn finalized(&self) -> Result<Option<u64>, BoxError> {
        Ok(witness::Nodes::finalized(self).await?)
    }

    async fn news(&self) {
        witness::Nodes::news(self).await;
    }

    async fn prepare(
        &self,
        blocks: BlockRange,
        beneficiary: Address,
    ) -> Result<PreparedBatch, BoxError> {
        let (first, last) = (blocks.first(), blocks.last());
        let prepared = witness::Nodes::prepare(self, first, last, beneficiary).await?;
        let statement = &prepared.statement;
        Ok(PreparedBatch {
            blocks: BlockRange::new(statement.first_number, statement.last_number)?,
            parent_hash: statement.parent_hash,
            last_hash: statement.last_hash,
            statement: statement.abi_encode(),
            gas_used: prepared.blocks.iter().map(|block| block.gas_used).sum(),
            transactions: prepared.blocks.iter().map(|block| block.transactions as u64).sum(),
            estimate: prepared.estimate,
            deposits: prepared.deposits,
            input: prepared.input,
        })
    }

    async fn restate(&self, input: Vec<u8>) -> Result<Vec<u8>, BoxError> {
        let run = tokio::task::spawn_blocking(move || program::run(&input));
        Ok(run.await??.abi_encode())
    }
}
