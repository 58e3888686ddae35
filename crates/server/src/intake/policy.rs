//! When a batch is full, and what of it is too much.

use super::source::PreparedBatch;
use crate::jobs::cost::CostCorrection;
use std::time::Duration;

/// When a batch is full: whichever comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchPolicy {
    /// So many blocks.
    pub blocks: u64,
    /// A batch of several blocks is made shorter until its proof is expected to take no more cycles.
    pub cycles: u64,
    /// Likewise, until its blocks use no more gas.
    pub gas: Option<u64>,
    /// Likewise, until its input has no more bytes.
    pub bytes: Option<u64>,
    /// A batch waits no longer for more blocks.
    pub age: Option<Duration>,
}

impl BatchPolicy {
    /// What of `batch` is too much, if anything.
    pub(super) fn exceeded(
        &self,
        batch: &PreparedBatch,
        lately: &CostCorrection,
    ) -> Option<&'static str> {
        [
            ("cycles", lately.correct(batch.estimated_cycles) > self.cycles),
            ("gas", self.gas.is_some_and(|most| batch.gas_used > most)),
            ("bytes", self.bytes.is_some_and(|most| batch.input.len() as u64 > most)),
        ]
        .into_iter()
        .find_map(|(what, exceeded)| exceeded.then_some(what))
    }
}
