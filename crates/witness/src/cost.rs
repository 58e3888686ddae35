//! What a proof will cost, before it is made.
//!
//! A native run counts instructions, precompile calls and bytes ([`program::Counts`]); the cycles that the zkVM will take
//! are close to linear in them. The coefficients were fitted to measured blocks with `scripts/fit_cost.py`.

use program::Counts;
use std::{collections::BTreeMap, sync::LazyLock};

/// Cycles for each of a named number, for RISC Zero. How well it fits stands in docs/benchmarks.md.
static RISC0: LazyLock<BTreeMap<String, f64>> = LazyLock::new(|| {
    serde_json::from_str(include_str!("cost/risc0.json")).expect("the file is checked in")
});

/// Expected total cycles of a proof by RISC Zero in segments of 2^20: what a prover's time and price go by. The keccak
/// circuit's rows are not among them.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a sum of what is not negative; far too large is too large"
)]
pub fn estimate(counts: &Counts) -> u64 {
    let cycles: f64 = counts
        .features()
        .filter_map(|(name, value)| RISC0.get(&family(name)).map(|each| each * value as f64))
        .sum();
    cycles as u64
}

/// PUSH1 to PUSH32 are one instruction here, and so on.
fn family(name: String) -> String {
    let (opcode, unit) = match name.split_once(' ') {
        Some((opcode, "gas")) => (opcode, " gas"),
        None => (name.as_str(), ""),
        Some(_) => return name,
    };
    let stem = opcode.trim_end_matches(|letter: char| letter.is_ascii_digit());
    match stem {
        "PUSH" | "DUP" | "SWAP" | "LOG" => format!("{stem}{unit}"),
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opcodes_of_a_family_are_one() {
        for (name, one) in [
            ("PUSH32", "PUSH"),
            ("LOG4 gas", "LOG gas"),
            ("KECCAK256 gas", "KECCAK256 gas"),
            ("MSTORE8", "MSTORE8"),
            ("node bytes", "node bytes"),
            ("precompile 0x9 gas", "precompile 0x9 gas"),
        ] {
            assert_eq!(family(name.into()), one);
        }
    }
}
