//! A client's standing: what it may expect after what it did, and after what an operator decided.

use super::state::{Rules, back_off};
use crate::clock::Timestamp;

/// What a client may expect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Failures and rejected proofs since its last accepted one.
    pub strikes: u32,
    /// Rejected proofs since then.
    pub rejected: u32,
    /// It gets no job before this time.
    pub rests_until: Timestamp,
    /// It gets no job until an operator releases it.
    pub quarantined: bool,
    /// It finishes what it has and gets no other job until an operator releases it.
    pub draining: bool,
}

/// What bears on a client's standing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StandingEvent {
    /// Its proof was accepted.
    Proved,
    /// It gave a job back because of a failure.
    Failed,
    /// Its proof was rejected.
    Rejected,
    /// An operator lets it finish and then rest.
    Drain,
    /// An operator gives it no more jobs.
    Quarantine,
    /// An operator trusts it again.
    Release,
}

impl StandingEvent {
    /// As it is recorded.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Proved => "proved",
            Self::Failed => "failed",
            Self::Rejected => "rejected",
            Self::Drain => "drain",
            Self::Quarantine => "quarantine",
            Self::Release => "release",
        }
    }
}

/// What becomes of a client's standing.
pub fn judge(standing: &Standing, deed: StandingEvent, now: Timestamp, rules: &Rules) -> Standing {
    let struck = |rejected: u32| {
        let strikes = standing.strikes.saturating_add(1);
        Standing { strikes, rejected, rests_until: now + back_off(strikes), ..*standing }
    };
    match deed {
        StandingEvent::Proved => {
            Standing { strikes: 0, rejected: 0, rests_until: Timestamp(0), ..*standing }
        }
        StandingEvent::Failed => struck(standing.rejected),
        StandingEvent::Rejected => {
            let struck = struck(standing.rejected.saturating_add(1));
            // An honest client has no rejected proof to show, so it takes few to see that one is broken.
            let quarantined = struck.quarantined || struck.rejected >= rules.max_rejected;
            Standing { quarantined, ..struck }
        }
        StandingEvent::Drain => Standing { draining: true, ..*standing },
        StandingEvent::Quarantine => Standing { quarantined: true, ..*standing },
        StandingEvent::Release => Standing::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobs::state::tests::RULES;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_client_in_quarantine_stays_there_until_it_is_released(deeds in prop::collection::vec(0..5usize, 0..40)) {
            let deeds = deeds.into_iter().map(|n| [StandingEvent::Proved, StandingEvent::Failed, StandingEvent::Rejected, StandingEvent::Drain, StandingEvent::Quarantine][n]);
            let (mut standing, mut in_a_row) = (Standing::default(), 0);
            for (n, deed) in deeds.enumerate() {
                let now = Timestamp(1_000 * n as u64);
                let after = judge(&standing, deed, now, &RULES);
                match deed {
                    StandingEvent::Rejected => in_a_row += 1,
                    StandingEvent::Proved => in_a_row = 0,
                    _ => {}
                }
                let expected = standing.quarantined || deed == StandingEvent::Quarantine || in_a_row >= RULES.max_rejected;
                prop_assert_eq!(after.quarantined, expected);
                prop_assert!(!standing.draining || after.draining);
                prop_assert_eq!(after.rests_until > now, matches!(deed, StandingEvent::Failed | StandingEvent::Rejected) || (deed != StandingEvent::Proved && standing.rests_until > now));
                standing = after;
            }
            prop_assert_eq!(judge(&standing, StandingEvent::Release, Timestamp(0), &RULES), Standing::default());
        }
    }
}
