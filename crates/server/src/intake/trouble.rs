//! Trouble with the node that comes and goes: when it counts, and that it is said once.
//!
//! Behind one URL there may be several backends, one of which lags: its answers contradict what the others said, now and
//! again, for as long as nobody looks. That is no reorg, and not the end of the chain.

use super::error::{IntakeError, blames_node, halts, may_lag};
use crate::{dispatch::peers::NodeHealth, jobs::state::back_off};
use std::{
    collections::HashSet,
    mem::Discriminant,
    time::{Duration, Instant},
};

/// A node that contradicts what has been enqueued halts the intake if it does so for so long.
const PERSISTS: Duration = Duration::from_secs(10);

/// And in so many looks, with none between them that found nothing wrong.
const LOOKS: u32 = 3;

/// Trouble is over when there was none for so long. Then the next is said again.
const CALM: Duration = Duration::from_secs(60);

/// What is remembered of it.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    /// Since when every look failed because of the node.
    fails_since: Option<Instant>,
    /// Since when, and in how many looks, the node has contradicted what was enqueued.
    contradicts: Option<(Instant, u32)>,
    /// When something failed last.
    last: Option<Instant>,
    /// What has been said of it.
    said: HashSet<(&'static str, Discriminant<IntakeError>)>,
    /// How often this server had the lead while its node answered, and could do nothing with it.
    in_vain: u32,
}

/// What the intake does about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Tries again.
    Again,
    /// Tries again, and somebody has to look.
    Halted,
}

impl Trouble {
    /// A step went well.
    pub(super) fn over(&mut self, now: Instant) {
        (self.fails_since, self.contradicts, self.in_vain) = (None, None, 0);
        if self.last.is_some_and(|last| now - last >= CALM) {
            self.said.clear();
            self.last = None;
        }
    }

    /// A step that began at `begun` failed.
    pub(super) fn is(&mut self, error: &IntakeError, begun: Instant, now: Instant) -> Verdict {
        self.last = Some(now);
        match blames_node(error) {
            true => drop(self.fails_since.get_or_insert(begun)),
            false => self.fails_since = None,
        }
        if !halts(error) {
            self.contradicts = None;
            return Verdict::Again;
        }
        if !may_lag(error) {
            return Verdict::Halted;
        }
        let (since, looks) = self.contradicts.get_or_insert((now, 0));
        *looks += 1;
        match *looks >= LOOKS && now - *since >= PERSISTS {
            true => Verdict::Halted,
            false => Verdict::Again,
        }
    }

    /// When to look again at the latest, if the node contradicts what was enqueued and that does not count yet.
    pub(super) fn look_within(&self, now: Instant) -> Option<Duration> {
        let (since, looks) = self.contradicts?;
        let left = PERSISTS.saturating_sub(now - since);
        (!left.is_zero() || looks < LOOKS).then_some(left.max(Duration::from_millis(250)))
    }

    /// Whether an error with this code has not been said yet.
    pub(super) fn news(&mut self, code: &'static str, error: &IntakeError) -> bool {
        self.said.insert((code, std::mem::discriminant(error)))
    }

    /// What it says of the node.
    pub(super) fn health(&self) -> NodeHealth {
        self.fails_since.map_or(NodeHealth::Answers, NodeHealth::FailsSince)
    }

    /// The lead went to another server. How long this one does not stand for it again: its node may answer, and yet not give
    /// what the intake needs.
    pub(super) fn rest(&mut self, by_head: bool) -> Duration {
        let failed = self.fails_since.take().is_some();
        self.contradicts = None;
        if !failed || by_head {
            return Duration::ZERO;
        }
        self.in_vain = self.in_vain.saturating_add(1);
        (back_off(self.in_vain) * 6).mul_f64(rand::random_range(0.75..1.25))
    }
}

#[cfg(test)]
mod tests {
    use super::{
        Verdict::{Again, Halted},
        *,
    };
    use program::Bound;

    fn behind() -> IntakeError {
        IntakeError::Behind { head: 90, last: 100 }
    }

    #[test]
    fn a_lagging_backend_halts_nothing_and_a_node_that_lost_its_chain_does() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        // Every other look goes to the backend that lags.
        let mut trouble = Trouble::default();
        let mut said = 0;
        for second in 0..60 {
            match second % 2 {
                0 => {
                    assert_eq!(trouble.is(&behind(), at(second), at(second)), Again);
                    said += u32::from(trouble.news("intake_failed", &behind()));
                }
                _ => trouble.over(at(second)),
            }
        }
        assert_eq!(said, 1, "once for the whole episode");
        trouble.over(at(200));
        assert!(trouble.news("intake_failed", &behind()), "a new episode");

        // All looks say the same.
        let mut trouble = Trouble::default();
        let verdicts = [0, 1, 2, 9, 10, 11].map(|s| trouble.is(&behind(), at(s), at(s)));
        assert_eq!(verdicts, [Again, Again, Again, Again, Halted, Halted]);
        // Long ago is not enough: the machine may have slept.
        let mut trouble = Trouble::default();
        let verdicts = [0, 100, 101].map(|s| trouble.is(&behind(), at(s), at(s)));
        assert_eq!(verdicts, [Again, Again, Halted]);
        // What no node can mend halts at once.
        let bound = Bound::Heap { bytes: 2, limit: 1 };
        assert_eq!(trouble.is(&IntakeError::Bound { block: 1, bound }, at(0), at(0)), Halted);
    }

    #[test]
    fn a_node_fails_since_the_first_look_that_failed_and_answers_when_one_did_not() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut trouble = Trouble::default();
        assert_eq!(trouble.health(), NodeHealth::Answers);
        let down = IntakeError::Head("connection refused".into());
        for second in 1..5 {
            trouble.is(&down, at(second), at(second));
            assert_eq!(trouble.health(), NodeHealth::FailsSince(at(1)));
        }
        trouble.over(at(6));
        assert_eq!(trouble.health(), NodeHealth::Answers);
        // The node answers, but has no witness: this server does not stand for leader again at once, and each time later.
        let rests = [1, 2, 3].map(|second| {
            trouble.is(&down, at(second), at(second));
            trouble.rest(false)
        });
        assert!(rests[0] > Duration::from_secs(20) && rests[2] > rests[0] * 2, "{rests:?}");
        trouble.is(&down, at(9), at(9));
        assert_eq!(trouble.rest(true), Duration::ZERO, "whether it answers is asked anyway");
    }
}
