//! The result of a run: counts by network, and every failure by name.

use crate::fixture::NotRun;
use serde::Serialize;
use std::collections::BTreeMap;

/// The result of a run.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Networks whose tests were run, by name.
    pub networks: BTreeMap<String, Counts>,
    /// Tests that were not run, by reason.
    pub skipped: BTreeMap<String, u64>,
    /// Files that were skipped because they hold no tests.
    pub not_tests: Vec<NoTests>,
    /// Every failure.
    pub failures: Vec<Failed>,
}

/// A file that holds no tests.
#[derive(Clone, Debug, Serialize)]
pub struct NoTests {
    /// Its path.
    pub path: String,
    /// What is wrong with it, and where.
    pub reason: String,
}

/// Tests of one network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Number of tests that passed.
    pub passed: u64,
    /// Number of tests that failed.
    pub failed: u64,
    /// Number of blocks in the tests that passed.
    pub blocks: u64,
}

/// A test that failed.
#[derive(Clone, Debug, Serialize)]
pub struct Failed {
    /// Its network.
    pub network: String,
    /// Its name, as the fixture has it.
    pub test: String,
    /// What went wrong.
    pub reason: String,
}

impl Report {
    /// All networks together.
    pub fn total(&self) -> Counts {
        self.networks.values().fold(Counts::default(), |sum, counts| sum.plus(counts))
    }

    pub(crate) fn passed(&mut self, network: &str, blocks: u64) {
        let counts = self.networks.entry(network.into()).or_default();
        counts.passed += 1;
        counts.blocks += blocks;
    }

    pub(crate) fn failed(&mut self, network: &str, test: String, reason: String) {
        self.networks.entry(network.into()).or_default().failed += 1;
        self.failures.push(Failed { network: network.into(), test, reason });
    }

    pub(crate) fn skipped(&mut self, network: &str, reason: NotRun) {
        let reason = match reason {
            NotRun::BeforeTheMerge => reason.to_string(),
            _ => format!("{network}: {reason}"),
        };
        *self.skipped.entry(reason).or_default() += 1;
    }

    pub(crate) fn not_tests(&mut self, path: String, reason: &serde_json::Error) {
        self.not_tests.push(NoTests { path, reason: reason.to_string() });
    }

    pub(crate) fn merge(&mut self, other: Self) {
        for (network, counts) in other.networks {
            let sum = self.networks.entry(network).or_default();
            *sum = sum.plus(&counts);
        }
        for (reason, count) in other.skipped {
            *self.skipped.entry(reason).or_default() += count;
        }
        self.not_tests.extend(other.not_tests);
        self.not_tests.sort_by(|a, b| a.path.cmp(&b.path));
        self.failures.extend(other.failures);
        self.failures.sort_by(|a, b| (&a.network, &a.test).cmp(&(&b.network, &b.test)));
    }
}

impl Counts {
    fn plus(&self, other: &Self) -> Self {
        Self {
            passed: self.passed + other.passed,
            failed: self.failed + other.failed,
            blocks: self.blocks + other.blocks,
        }
    }
}
