//! What a proof will cost, before it is made.
//!
//! A native run counts instructions, precompile calls and bytes ([`program::Counts`]); the cycles that the
//! zkVM will take are almost linear in them. The coefficients were fitted to measured blocks with
//! `scripts/fit_cost.py`.

use program::Counts;
use std::{collections::BTreeMap, sync::LazyLock};

/// Cycles for each unit of a named count, for RISC Zero. docs/benchmarks.md says how well the model fits.
static RISC0: LazyLock<BTreeMap<String, f64>> = LazyLock::new(|| {
    serde_json::from_str(include_str!("cost/risc0.json")).expect("the file is checked in")
});

/// Expected total cycles of a proof by RISC Zero in segments of 2^20, which determine a prover's time and price. They do not
/// include the rows of the keccak circuit.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a sum of what is not negative; far too large is too large"
)]
pub fn estimate(counts: &Counts) -> u64 {
    let cycles: f64 =
        counts.features().map(|(name, value)| coefficient(&name) * value as f64).sum();
    cycles as u64
}

/// Cycles for one unit of this count.
fn coefficient(name: &str) -> f64 {
    let known = RISC0.get(name).copied();
    // Most opcodes cost about the same. For precompiles, gas is a better measure than the number of calls.
    let is_opcode = !name.contains(' ');
    known.or(is_opcode.then_some(RISC0["instruction"])).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_model_does_not_name_is_an_instruction_or_nothing() {
        assert_eq!(coefficient("ADD"), RISC0["instruction"]);
        assert!(coefficient("KECCAK256") > coefficient("MUL"));
        assert!(coefficient("MUL") > coefficient("ADD"));
        assert_eq!(coefficient("CALL gas"), 0.0);
        assert_eq!(coefficient("precompile 0x1"), 0.0);
        assert!(coefficient("precompile 0x1 gas") > 1.0);
        assert!(coefficient("node bytes") > 1.0);
    }
}
