//! Inputs that a hostile prover would invent: operands, gas and headers at the limits of every width.
//!
//! The prover chooses the chain config, the parent's header and the pre-state, which need not resemble those of any real
//! chain. revm counts offsets and lengths in `usize`, which has 64 bits in a test and 32 in the guest. So every
//! opcode and precompile that takes an offset, a length, an index, a jump target, a shift or an exponent gets operands
//! near 2^16, 2^31, 2^32, 2^64 and 2^256, with little gas and with much, and headers go to the ends of their fields.
//!
//! * [`cases`] gives the same inputs on every machine, unless the executor itself differs: it makes the blocks.
//! * [`Case::line`] is the outcome of a case. `tests/extremes.txt` has all lines, and every build must give them:
//!   64 bits, and 32 bits with and without overflow checks (`cargo xtask test32`).

mod code;
mod encodings;
mod fields;
mod operands;
mod scene;

use alloy_primitives::U256;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// An input at the limit of what can be encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// What is extreme about it, as named in the table.
    pub name: String,
    /// The encoded input.
    pub input: Vec<u8>,
    /// What its operands did, a character for each; empty if the case is not about operands.
    pub marks: Marks,
}

/// What each tuple of operands did when the block was made, in the order of the tuples.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// For each tuple, a character for its result and its gas: a lower case letter or a digit if it succeeded, an upper
    /// case letter if it did not.
    pub text: String,
    /// The tuples, as named in a table.
    pub tuples: Vec<String>,
}

impl Case {
    /// The case in one line: its name, what the program says, and what the operands did.
    pub fn line(&self) -> String {
        let outcome = outcome(&self.input);
        match self.marks.text.is_empty() {
            true => format!("{}: {outcome}", self.name),
            false => format!("{}: {outcome}; {}", self.name, self.marks.text),
        }
    }
}

/// Every case, in the order of the table.
pub fn cases() -> Vec<Case> {
    [operands::cases(), fields::cases(), encodings::cases()].concat()
}

/// About one case in `sample`, chosen by the hash of its name, so that the choice is always the same.
pub fn spread(sample: u64) -> impl Iterator<Item = Case> {
    cases().into_iter().filter(move |case| crate::is_in_sample(&case.name, sample))
}

/// The program's outcome for an encoded input: gas and statement, or the reason for its refusal.
///
/// A panic is an outcome too, so that a table can show it; no input may cause one.
pub fn outcome(input: &[u8]) -> String {
    match catch_unwind(AssertUnwindSafe(|| program::run_detailed(input))) {
        Ok(Ok(outcome)) => {
            let gas: u64 = outcome.blocks.iter().map(|block| block.gas_used).sum();
            let digest = outcome.statement.digest();
            format!("{gas} gas, {}", alloy_primitives::hex::encode(&digest[..6]))
        }
        Ok(Err(error)) => format!("refused: {error}"),
        Err(_) => PANICKED.into(),
    }
}

/// The [`outcome`] of an input on which the program panics.
pub const PANICKED: &str = "panicked";

/// A number in readable form, if it is near a power of two: `2^32-1`.
fn power(number: impl TryInto<U256, Error: std::fmt::Debug>) -> String {
    let number: U256 = number.try_into().expect("a number of a case fits a word");
    for bits in [256usize, 255, 128, 64, 63, 53, 34, 32, 31, 30, 26, 24, 16] {
        // 2^256 is 0 here, and numbers below it wrap around.
        let edge = if bits == 256 { U256::ZERO } else { U256::ONE << bits };
        let (above, below) = (number.wrapping_sub(edge), edge.wrapping_sub(number));
        match bits {
            ..256 if above.is_zero() => return format!("2^{bits}"),
            ..256 if above <= U256::from(1_024) => return format!("2^{bits}+{above}"),
            17.. if !below.is_zero() && below <= U256::from(1_024) => {
                return format!("2^{bits}-{below}");
            }
            16 if below == U256::ONE => return format!("2^{bits}-1"),
            _ => {}
        }
    }
    number.to_string()
}

/// Operands in readable form.
fn tuple(operands: &[U256]) -> String {
    operands.iter().map(|operand| power(*operand)).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_near_powers_of_two_are_written_as_such() {
        let one = U256::ONE;
        let written = [U256::MAX, one << 255, (one << 64) - one, (one << 32) + U256::from(32)];
        assert_eq!(tuple(&written), "2^256-1 2^255 2^64-1 2^32+32");
        let plain = [U256::ZERO, U256::from(33), U256::from(65_500), U256::from(65_535)];
        assert_eq!(tuple(&plain), "0 33 65500 2^16-1");
    }
}
