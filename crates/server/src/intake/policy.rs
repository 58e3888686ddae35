//! When a batch is full, and what of it is too much.

use super::source::PreparedBatch;
use crate::jobs::cost::CostCorrection;
use protocol::PERMUTATION_CYCLES;
use std::time::Duration;

/// When a batch is full: whichever comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchPolicy {
    /// So many blocks.
    pub blocks: u64,
    /// A batch of several blocks is made shorter until its proof is expected to take no more proving cycles.
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
            ("cycles", proving_cycles(batch, lately) > self.cycles),
            ("gas", self.gas.is_some_and(|most| batch.gas_used > most)),
            ("bytes", self.bytes.is_some_and(|most| batch.input.len() as u64 > most)),
        ]
        .into_iter()
        .find_map(|(what, exceeded)| exceeded.then_some(what))
    }
}

/// What a proof of `batch` is expected to cost: cycles, as proofs have shown them lately, and permutations, which no proof shows.
pub(super) fn proving_cycles(batch: &PreparedBatch, lately: &CostCorrection) -> u64 {
    let permutations = batch.estimate.permutations.saturating_mul(PERMUTATION_CYCLES);
    lately.correct(batch.estimate.cycles).saturating_add(permutations)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::B256;
    use protocol::BlockRange;
    use witness::cost::Estimate;

    #[test]
    fn permutations_count_beside_cycles_whatever_proofs_have_shown() {
        let policy =
            BatchPolicy { blocks: 4, cycles: 2_000_000, gas: None, bytes: None, age: None };
        let batch = |cycles, permutations| PreparedBatch {
            blocks: BlockRange::new(1, 2).unwrap(),
            parent_hash: B256::ZERO,
            last_hash: B256::ZERO,
            statement: Vec::new(),
            input: Vec::new(),
            gas_used: 0,
            transactions: 0,
            estimate: Estimate { cycles, permutations },
            deposits: None,
        };
        let nothing = CostCorrection::of(Vec::new());
        // 1,470 of them cost 999,600 cycles.
        assert_eq!(policy.exceeded(&batch(1_000_000, 1_470), &nothing), None);
        assert_eq!(policy.exceeded(&batch(1_000_000, 1_471), &nothing), Some("cycles"));
        assert_eq!(policy.exceeded(&batch(u64::MAX, u64::MAX), &nothing), Some("cycles"));
        // Proofs took twice the cycles; of permutations they say nothing.
        let twice = CostCorrection::of(vec![(20_000_000, 40_000_000); 5]);
        assert_eq!(policy.exceeded(&batch(500_200, 1_470), &twice), None);
        assert_eq!(policy.exceeded(&batch(500_201, 1_470), &twice), Some("cycles"));
    }
}
