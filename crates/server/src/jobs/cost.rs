//! What proofs cost: what one took, and what the latest teach about the next.

use std::time::Duration;

/// What an accepted proof took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProvingCost {
    /// From the lease to the submission, if they belong together.
    pub time: Option<Duration>,
    /// Gas used by the batch.
    pub gas: u64,
    /// Cycles that the proof was expected to cost. 0: not known.
    pub cycles: u64,
}

/// What proofs turned out to cost, beside what had been expected: the latest in the middle of the road.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CostCorrection {
    expected: u64,
    proven: u64,
}

impl CostCorrection {
    /// Fewer proofs, or smaller ones, tell nothing: the last segment of each is padded.
    const ENOUGH: usize = 5;
    const LARGE: u64 = 1 << 24;
    /// A proof counts for no more than this many times what was expected: its client chose how much padding to prove, and
    /// could otherwise make batches as short as it likes.
    const MOST: u64 = 4;

    /// Of proofs, as pairs of what was expected and what was proven.
    pub(crate) fn of(mut proofs: Vec<(u64, u64)>) -> Self {
        proofs.retain(|&(expected, proven)| expected > 0 && proven >= Self::LARGE);
        for (expected, proven) in &mut proofs {
            *proven = (*proven).min(expected.saturating_mul(Self::MOST));
        }
        // The median: one odd block changes little.
        proofs.sort_by(|&(e1, p1), &(e2, p2)| {
            (u128::from(p1) * u128::from(e2)).cmp(&(u128::from(p2) * u128::from(e1)))
        });
        match proofs.get(proofs.len() / 2) {
            Some(&(expected, proven)) if proofs.len() >= Self::ENOUGH => Self { expected, proven },
            _ => Self { expected: 1, proven: 1 },
        }
    }

    /// What `cycles` expected by the model will be, judging by it.
    pub fn correct(&self, cycles: u64) -> u64 {
        let corrected = u128::from(cycles) * u128::from(self.proven) / u128::from(self.expected);
        u64::try_from(corrected).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cost_correction_is_the_median_and_padding_makes_it_no_more_than_fourfold() {
        let proofs = |factors: [u64; 5]| {
            CostCorrection::of(factors.map(|factor| (20_000_000, factor * 10_000_000)).into())
        };
        assert_eq!(proofs([2, 3, 3, 4, 900]).correct(1_000), 1_500, "one odd block changes little");
        assert_eq!(proofs([2, 900, 900, 900, 900]).correct(1_000), 4_000);
        assert_eq!(proofs([u64::MAX / 10_000_000; 5]).correct(u64::MAX), u64::MAX);
    }
}
