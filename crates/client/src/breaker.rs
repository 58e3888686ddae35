//! When a client stops trusting its own machine.
//!
//! Proofs that fail one after the other for reasons of the machine open the breaker: no more jobs. After a pause a
//! self-test is made; when it passes, one job is tried. Each time that this is not enough the pause gets longer.

use protocol::FailureClass;
use std::time::Duration;

/// The longest pause before a self-test.
const LONGEST: Duration = Duration::from_secs(30 * 60);

/// Counts failures. See the module.
#[derive(Debug)]
pub(crate) struct Breaker {
    /// It opens after so many failures in a row.
    limit: u32,
    /// The first pause.
    pause: Duration,
    failures: u32,
    /// Self-tests since the last proof.
    tests: u32,
}

impl Breaker {
    /// One that opens after `limit` failures in a row, at least one.
    pub(crate) fn new(limit: u32, pause: Duration) -> Self {
        Self { limit: limit.max(1), pause, failures: 0, tests: 0 }
    }

    /// A proof was made.
    pub(crate) fn proved(&mut self) {
        (self.failures, self.tests) = (0, 0);
    }

    /// There is no proof, for this reason.
    pub(crate) fn failed(&mut self, class: FailureClass) {
        if is_ours(class) {
            self.failures = self.failures.saturating_add(1);
        }
    }

    /// It opens, whatever came before.
    pub(crate) fn trip(&mut self) {
        self.failures = self.failures.max(self.limit);
    }

    /// A self-test was made. If it passed, one job may be tried.
    pub(crate) fn tested(&mut self, passed: bool) {
        self.tests = self.tests.saturating_add(1);
        if passed {
            self.failures = self.limit - 1;
        }
    }

    /// How long to wait before the next self-test, if the breaker is open.
    pub(crate) fn open(&self) -> Option<Duration> {
        let longer = self.pause.saturating_mul(1 << self.tests.min(16));
        (self.failures >= self.limit).then_some(longer.min(LONGEST))
    }
}

/// Whether a failure is the machine's: neither the input's, nor the server's, nor wanted.
fn is_ours(class: FailureClass) -> bool {
    matches!(
        class,
        FailureClass::OutOfMemory
            | FailureClass::BackendUnavailable
            | FailureClass::BackendFailed
            | FailureClass::Timeout
            | FailureClass::ClientInternal
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use FailureClass::{Cancelled, GuestPanic, InputCorrupt, OutOfMemory, Timeout};

    const PAUSE: Duration = Duration::from_secs(60);

    #[test]
    fn it_opens_after_failures_in_a_row_that_are_the_machines() {
        let mut breaker = Breaker::new(3, PAUSE);
        for class in [OutOfMemory, GuestPanic, Cancelled, InputCorrupt, Timeout] {
            breaker.failed(class);
            assert_eq!(breaker.open(), None, "{class}");
        }
        breaker.failed(OutOfMemory);
        assert_eq!(breaker.open(), Some(PAUSE));

        breaker.proved();
        assert_eq!(breaker.open(), None);
        breaker.failed(OutOfMemory);
        breaker.failed(OutOfMemory);
        assert_eq!(breaker.open(), None);
    }

    #[test]
    fn after_a_self_test_one_failure_opens_it_again_for_longer() {
        let mut breaker = Breaker::new(2, PAUSE);
        breaker.failed(Timeout);
        breaker.failed(Timeout);
        breaker.tested(false);
        assert_eq!(breaker.open(), Some(2 * PAUSE));
        breaker.tested(true);
        assert_eq!(breaker.open(), None);
        breaker.failed(Timeout);
        assert_eq!(breaker.open(), Some(4 * PAUSE));
        for _ in 0..100 {
            breaker.tested(false);
        }
        assert_eq!(breaker.open(), Some(LONGEST));
        breaker.tested(true);
        breaker.proved();
        breaker.failed(Timeout);
        breaker.failed(Timeout);
        assert_eq!(breaker.open(), Some(PAUSE), "a proof makes good for everything");
    }
}
