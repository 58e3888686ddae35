//! What was found out, for scripts and for people.

use serde::Serialize;
use std::fmt;

/// What was found out about a node.
#[derive(Clone, Debug, Serialize)]
pub struct Checkup {
    /// The node: scheme, host and port of its URL.
    pub node: String,
    /// Whether its blocks can be prepared.
    pub usable: bool,
    /// What was looked at, in the order of looking.
    pub checks: Vec<Check>,
    /// What preparing the examined block costs in each way.
    pub costs: Vec<Cost>,
}

/// One thing that was looked at.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// What it is.
    pub subject: &'static str,
    /// How it stands.
    pub verdict: Verdict,
    /// What was found.
    pub found: String,
    /// What to change, if anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

/// How something stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// As it should be.
    Good,
    /// Something is missing, and blocks can be prepared without.
    Fair,
    /// Blocks cannot be prepared, or not those of the chain config.
    Bad,
}

/// What preparing a block costs.
#[derive(Clone, Debug, Serialize)]
pub struct Cost {
    /// Where the witness comes from: `debug_executionWitness`, `eth_getProof`, or `any`, which is what a server does by default.
    pub way: &'static str,
    /// The block.
    pub block: u64,
    /// Calls to the node; each call of a batch counts.
    pub calls: u64,
    /// From the first question to the executed input, in milliseconds.
    pub milliseconds: u128,
    /// Length of the input.
    pub input_bytes: usize,
}

impl Checkup {
    pub(super) fn note(
        &mut self,
        subject: &'static str,
        verdict: Verdict,
        found: String,
        advice: Option<&str>,
    ) {
        let advice = advice.map(str::to_owned);
        self.checks.push(Check { subject, verdict, found, advice });
    }

    pub(super) fn good(&mut self, subject: &'static str, found: String) {
        self.note(subject, Verdict::Good, found, None);
    }
}

/// A line for each check, with the advice below it, then the costs and the outcome.
impl fmt::Display for Checkup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.node)?;
        for Check { subject, verdict, found, advice } in &self.checks {
            let verdict = match verdict {
                Verdict::Good => "good",
                Verdict::Fair => "fair",
                Verdict::Bad => "BAD",
            };
            writeln!(f, "  {verdict:<4}  {subject:<9}  {found}")?;
            if let Some(advice) = advice {
                writeln!(f, "{:19}-> {advice}", "")?;
            }
        }
        for Cost { way, block, calls, milliseconds, input_bytes } in &self.costs {
            writeln!(
                f,
                "  block {block} by {way}: {calls} calls, {milliseconds} ms, {input_bytes} bytes of input"
            )?;
        }
        f.write_str(match self.usable {
            true => "its blocks can be prepared",
            false => "its blocks can NOT be prepared",
        })
    }
}
