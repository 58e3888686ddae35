//! What a proof will cost, before it is made.
//!
//! A native run counts instructions, precompile calls and bytes ([`program::Counts`]); the cycles and permutations that the
//! zkVM will take are almost linear in them. The coefficients were fitted to measured blocks with
//! `scripts/fit_cost.py`.

use program::Counts;
use std::{collections::BTreeMap, sync::LazyLock};

/// What one unit of a named count takes in RISC Zero. docs/benchmarks.md says how well the model fits.
#[derive(serde::Deserialize)]
struct Model {
    cycles: BTreeMap<String, f64>,
    permutations: BTreeMap<String, f64>,
}

static RISC0: LazyLock<Model> = LazyLock::new(|| {
    serde_json::from_str(include_str!("cost/risc0.json")).expect("the file is checked in")
});

/// What a proof by RISC Zero is expected to take, which determines a prover's time and price.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Estimate {
    /// Total cycles in segments of 2^20.
    pub cycles: u64,
    /// Keccak permutations, which have a circuit of their own.
    pub permutations: u64,
}

/// What a proof of a batch is expected to take.
pub fn estimate(counts: &Counts) -> Estimate {
    let sum = |coefficient: fn(&str) -> f64| -> f64 {
        counts.features().map(|(name, value)| coefficient(&name) * value as f64).sum()
    };
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a sum of what is not negative; far too large is too large"
    )]
    let whole = |sum: f64| sum as u64;
    Estimate { cycles: whole(sum(cycles)), permutations: whole(sum(permutations)) }
}

/// Cycles for one unit of this count.
fn cycles(name: &str) -> f64 {
    let known = RISC0.cycles.get(name).copied();
    // Most opcodes cost about the same. For precompiles, gas is a better measure than the number of calls.
    let is_opcode =
        name.starts_with(|first: char| first.is_ascii_uppercase()) && !name.contains(' ');
    known.or(is_opcode.then_some(RISC0.cycles["instruction"])).unwrap_or_default()
}

/// Permutations for one unit of this count.
fn permutations(name: &str) -> f64 {
    RISC0.permutations.get(name).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_model_does_not_name_is_an_instruction_or_nothing() {
        assert_eq!(cycles("ADD"), RISC0.cycles["instruction"]);
        assert!(cycles("KECCAK256") > cycles("MUL"));
        assert!(cycles("MUL") > cycles("ADD"));
        assert_eq!(cycles("CALL gas"), 0.0);
        assert_eq!(cycles("precompile 0x1"), 0.0);
        assert_eq!(cycles("codes"), 0.0);
        // Of a log with four topics, gas says how much data there is.
        assert!(cycles("LOG4") + 1_875.0 * cycles("LOG4 gas") > 1_000.0);
        assert!(cycles("precompile 0x1 gas") > 1.0);
        assert!(cycles("node bytes") > 1.0);
        // A permutation absorbs 136 bytes.
        assert!((0.005..0.02).contains(&permutations("code bytes")));
        assert_eq!(permutations("ADD"), 0.0);
        assert_eq!(permutations("keys"), 1.0);
    }
}
