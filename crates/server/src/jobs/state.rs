//! A job's life and a client's standing, as two pure functions.
//!
//! * A job has at most one live lease.
//! * A lease that is not renewed in time is ignored; nobody has to clean it up. Until another client gets the job, its
//!   client may still renew it.
//! * The lease id is the authority over heartbeat and failure. A valid proof needs none: it is taken from anyone, even
//!   for a job that was given up.
//! * Only [`Event::Verified`] proves a job, and a proved job never changes again, unless a reorg takes its blocks away.
//! * A client that asks for work has nothing at hand: if it was heard on a lease before, it died on that job, and its loss
//!   counts like that of one that fell silent. If it was not, it lost our answer, and gets the same lease again.
//! * A job on which two clients fell silent, one after the other, is not sent round the fleet: it is quarantined.
//!
//! ```text
//! ready --lease--> leased --submit--> verifying --verified--> proved
//!   ^                |  expire / fail     | rejected
//!   +----------------+--------------------+
//! leased --budget spent, second client lost--> dead --requeue--> ready
//! any but proved --cancel--> dead
//! any --supersede--> superseded --revive--> ready, proved or dead, as it was
//! ```

use crate::clock::Timestamp;
use protocol::{ClientId, DeadCause, FailureClass, JobState, LeaseId};
use std::time::Duration;

/// What decides about a job's next step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// Where it is in its life.
    pub state: State,
    /// Nobody gets it before this time.
    pub not_before: Timestamp,
    /// Failures reported by clients.
    pub failures: u32,
    /// Clients that fell silent.
    pub lost: u32,
    /// The last of those.
    pub lost_to: Option<ClientId>,
}

/// Where a job is in its life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Waiting for a client.
    Ready,
    /// A client has it, or had it until its lease ran out.
    Leased(Lease),
    /// The client that has it handed in a proof, which is being verified. The lease does not run out meanwhile.
    Verifying(Lease),
    /// Done.
    Proved,
    /// Given up.
    Dead(DeadCause),
    /// A reorg took its blocks off the chain; this is what it comes back to with them.
    Superseded(Outcome),
}

/// What has come of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing yet.
    Open,
    /// A proof.
    Proved,
    /// It was given up.
    Dead(DeadCause),
}

/// A client's claim on a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The lease's name.
    pub id: LeaseId,
    /// Who has it.
    pub client: ClientId,
    /// When it was granted.
    pub since: Timestamp,
    /// When it runs out, if it is not renewed.
    pub expires_at: Timestamp,
    /// When its client was last heard on it.
    pub heard: Option<Timestamp>,
    /// How often it was handed out.
    pub handed: u32,
}

/// A client that asks so often for the same lease, and is never heard on it, does not lose answers: it dies on the job.
pub const MAX_HANDED: u32 = 8;

impl Lease {
    /// Whether a client that `asked` for work has given up what it began under this lease.
    fn abandoned(&self, asked: Timestamp) -> bool {
        // An answer may be lost, and a question may wait here until its client has long been at work on the answer to
        // its next one.
        let worked = self.heard.is_some_and(|heard| heard < asked);
        worked || self.expires_at < asked || (self.handed >= MAX_HANDED && self.heard.is_none())
    }
}

/// What can happen to a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A client asks for work. `lease` names the new lease, if there is one.
    Lease {
        /// Who asks.
        client: ClientId,
        /// The name for a new lease.
        lease: LeaseId,
    },
    /// The client that has it asks for work: it may have died on it.
    Abandon {
        /// Who asks.
        client: ClientId,
        /// Since when.
        asked: Timestamp,
    },
    /// A client is still at it.
    Heartbeat {
        /// Its lease.
        lease: LeaseId,
    },
    /// A durable proof arrived.
    Submit {
        /// The lease under which it was made, living or not.
        lease: LeaseId,
    },
    /// A proof of the job's statement was verified.
    Verified,
    /// The proof made under `lease` is not valid.
    Rejected {
        /// The lease under which it was made.
        lease: LeaseId,
    },
    /// A client gives up.
    Fail {
        /// Its lease.
        lease: LeaseId,
        /// Why.
        class: FailureClass,
    },
    /// Someone noticed that the lease ran out.
    Expire,
    /// The server starts again: it could not hear heartbeats meanwhile.
    ServerRestarted,
    /// An operator gives the job fresh budgets.
    Requeue,
    /// An operator does not want the proof any more.
    Cancel,
    /// A reorg took its blocks off the chain.
    Supersede,
    /// Another brought them back.
    Revive,
}

/// The numbers by which the rules go.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// How long a lease runs without a heartbeat.
    pub lease: Duration,
    /// Failures until a job is given up.
    pub max_failures: u32,
    /// Silent clients until a job is given up.
    pub max_lost: u32,
    /// Rejected proofs in a row until a client is quarantined.
    pub max_rejected: u32,
}

/// Why an event does not apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Another client has it, or it is not ready.
    #[error("the job is not to be had now")]
    NotReady,
    /// The lease is not the job's.
    #[error("the lease is not the job's live one")]
    NotTheLease,
    /// The lease has not run out.
    #[error("the lease has not run out")]
    NotExpired,
    /// The client may still be at it.
    #[error("the lease was not given up")]
    NotAbandoned,
    /// The job is proved.
    #[error("the job is proved already")]
    Proved,
    /// The job is dead.
    #[error("the job was given up")]
    Dead,
    /// The job's blocks are not on the chain.
    #[error("a reorg took the job's blocks off the chain")]
    Superseded,
    /// The job's blocks are on the chain.
    #[error("the job's blocks are on the chain already")]
    NotSuperseded,
    /// Only a dead job can be requeued.
    #[error("only a job that was given up can be requeued")]
    NotDead,
}

/// What becomes of `job` when `event` happens at `now`.
///
/// # Errors
/// [`Refused`] if the event does not apply; the job stays as it is.
pub fn next(job: &Job, event: &Event, now: Timestamp, rules: &Rules) -> Result<Job, Refused> {
    use State::{Dead, Leased, Proved, Ready, Superseded, Verifying};
    let to = |state| Ok(Job { state, ..job.clone() });
    match (&job.state, event) {
        (Superseded(Outcome::Open), Event::Revive) => to(Ready),
        (Superseded(Outcome::Proved), Event::Revive) => to(Proved),
        (Superseded(Outcome::Dead(cause)), Event::Revive) => to(Dead(*cause)),
        (_, Event::Revive) => Err(Refused::NotSuperseded),
        (Superseded(_), Event::Supersede) => Ok(job.clone()),
        (state, Event::Supersede) => to(Superseded(state.outcome())),

        // A proof that is finished when its blocks are gone is kept, in case they come back; the job stays superseded.
        (Superseded(Outcome::Proved), Event::Submit { .. } | Event::Verified) => {
            Err(Refused::Superseded)
        }
        (Superseded(_), Event::Submit { .. }) => Ok(job.clone()),
        (Superseded(_), Event::Verified) => to(Superseded(Outcome::Proved)),
        (Superseded(_), Event::ServerRestarted) => Ok(job.clone()),
        (Superseded(_), _) => Err(Refused::Superseded),

        (Ready, Event::Lease { client, lease }) if job.not_before <= now => to(Leased(Lease {
            id: *lease,
            client: *client,
            since: now,
            expires_at: now + rules.lease,
            heard: None,
            handed: 1,
        })),
        // A client that lost the answer asks twice and gets the same lease.
        (Leased(held), Event::Lease { client, .. }) if held.client == *client => {
            let handed = held.handed.saturating_add(1);
            to(Leased(Lease { handed, ..renewed(held, now, rules) }))
        }
        (_, Event::Lease { .. }) => Err(Refused::NotReady),

        (Leased(held), Event::Abandon { client, asked })
            if held.client == *client && held.abandoned(*asked) =>
        {
            Ok(lost(job, held.client, rules))
        }
        (_, Event::Abandon { .. }) => Err(Refused::NotAbandoned),

        (Leased(held), Event::Heartbeat { lease }) if held.id == *lease => {
            to(Leased(Lease { heard: Some(now), ..renewed(held, now, rules) }))
        }
        (Verifying(held), Event::Heartbeat { lease }) if held.id == *lease => Ok(job.clone()),
        (Proved, Event::Heartbeat { .. }) => Err(Refused::Proved),
        (Dead(_), Event::Heartbeat { .. }) => Err(Refused::Dead),
        (_, Event::Heartbeat { .. }) => Err(Refused::NotTheLease),

        (Leased(held), Event::Submit { lease }) if held.id == *lease => to(Verifying(held.clone())),
        (Proved, Event::Submit { .. }) => Err(Refused::Proved),
        // A late proof changes nothing until it is verified: anyone can claim to have one.
        (_, Event::Submit { .. }) => Ok(job.clone()),

        (Proved, Event::Verified) => Err(Refused::Proved),
        (_, Event::Verified) => to(Proved),

        (Verifying(held), Event::Rejected { lease }) if held.id == *lease => to(Ready),
        (Proved, Event::Rejected { .. }) => Err(Refused::Proved),
        (_, Event::Rejected { .. }) => Err(Refused::NotTheLease),

        (Leased(held), Event::Fail { lease, class }) if held.id == *lease => {
            Ok(failed(job, *class, now, rules))
        }
        (Proved, Event::Fail { .. }) => Err(Refused::Proved),
        (_, Event::Fail { .. }) => Err(Refused::NotTheLease),

        (Leased(held), Event::Expire) if held.expires_at < now => Ok(lost(job, held.client, rules)),
        (_, Event::Expire) => Err(Refused::NotExpired),

        // Not longer either: the clock of the server before may have been ahead.
        (Leased(held), Event::ServerRestarted) => {
            to(Leased(Lease { expires_at: now + rules.lease, ..held.clone() }))
        }
        (_, Event::ServerRestarted) => Ok(job.clone()),

        (Dead(_), Event::Requeue) => {
            Ok(Job { state: Ready, not_before: now, failures: 0, lost: 0, lost_to: None })
        }
        (_, Event::Requeue) => Err(Refused::NotDead),

        (Proved, Event::Cancel) => Err(Refused::Proved),
        (_, Event::Cancel) => to(Dead(DeadCause::Cancelled)),
    }
}

/// Neither a job nor a client rests for longer.
pub const LONGEST_REST: Duration = Duration::from_secs(600);

/// How long a job or a client rests after its `n`-th failure in a row: doubling from 5 s up to [`LONGEST_REST`].
pub fn back_off(n: u32) -> Duration {
    Duration::from_secs(5 << n.saturating_sub(1).min(7)).min(LONGEST_REST)
}

/// By how much each step of priority makes a job older than it is.
const AGE_OF_A_STEP: Duration = Duration::from_secs(600);

/// Ready jobs are served by this time, earliest first: when they were enqueued, made earlier or later by their priority.
///
/// So an urgent job overtakes what was enqueued in the ten minutes, times its priority, before it, and none waits for ever.
pub fn due(created_at: Timestamp, priority: i32) -> Timestamp {
    let shift = crate::clock::millis(AGE_OF_A_STEP).saturating_mul(priority.unsigned_abs().into());
    Timestamp(if priority < 0 {
        created_at.0.saturating_add(shift)
    } else {
        created_at.0.saturating_sub(shift)
    })
}

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
pub enum Deed {
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

/// What becomes of a client's standing.
pub fn judge(standing: &Standing, deed: Deed, now: Timestamp, rules: &Rules) -> Standing {
    let struck = |rejected: u32| {
        let strikes = standing.strikes.saturating_add(1);
        Standing { strikes, rejected, rests_until: now + back_off(strikes), ..*standing }
    };
    match deed {
        Deed::Proved => {
            Standing { strikes: 0, rejected: 0, rests_until: Timestamp(0), ..*standing }
        }
        Deed::Failed => struck(standing.rejected),
        Deed::Rejected => {
            let struck = struck(standing.rejected.saturating_add(1));
            // An honest client has no rejected proof to show, so it takes few to see that one is broken.
            let quarantined = struck.quarantined || struck.rejected >= rules.max_rejected;
            Standing { quarantined, ..struck }
        }
        Deed::Drain => Standing { draining: true, ..*standing },
        Deed::Quarantine => Standing { quarantined: true, ..*standing },
        Deed::Release => Standing::default(),
    }
}

impl State {
    /// The state's public name.
    pub fn name(&self) -> JobState {
        match self {
            Self::Ready => JobState::Ready,
            Self::Leased(_) => JobState::Leased,
            Self::Verifying(_) => JobState::Verifying,
            Self::Proved => JobState::Proved,
            Self::Dead(_) => JobState::Dead,
            Self::Superseded(_) => JobState::Superseded,
        }
    }

    /// What has come of the job, whether its blocks are on the chain or not.
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::Ready | Self::Leased(_) | Self::Verifying(_) => Outcome::Open,
            Self::Proved => Outcome::Proved,
            Self::Dead(cause) => Outcome::Dead(*cause),
            Self::Superseded(outcome) => *outcome,
        }
    }

    /// Why the job was given up, if it was.
    pub fn cause(&self) -> Option<DeadCause> {
        match self.outcome() {
            Outcome::Dead(cause) => Some(cause),
            Outcome::Open | Outcome::Proved => None,
        }
    }

    /// The lease, if there is one.
    pub fn lease(&self) -> Option<&Lease> {
        match self {
            Self::Leased(lease) | Self::Verifying(lease) => Some(lease),
            _ => None,
        }
    }
}

/// A client died on the job, or fell silent.
fn lost(job: &Job, client: ClientId, rules: &Rules) -> Job {
    let lost = job.lost.saturating_add(1);
    let state = match job.lost_to {
        Some(other) if other != client => State::Dead(DeadCause::Quarantined),
        _ if lost < rules.max_lost => State::Ready,
        _ => State::Dead(DeadCause::Budget),
    };
    Job { state, lost, lost_to: Some(client), ..job.clone() }
}

/// The same lease, running anew. A lease never gets shorter.
fn renewed(lease: &Lease, now: Timestamp, rules: &Rules) -> Lease {
    Lease { expires_at: lease.expires_at.max(now + rules.lease), ..lease.clone() }
}

fn failed(job: &Job, class: FailureClass, now: Timestamp, rules: &Rules) -> Job {
    // Whoever was told to stop is not to blame, and neither is the job.
    if class == FailureClass::Cancelled {
        return Job { state: State::Ready, ..job.clone() };
    }
    // Even a failure that no retry could cure takes the whole budget to kill a job: the server has executed the input
    // itself, so one client that calls it unprovable is more likely broken than right.
    let failures = job.failures.saturating_add(1);
    let state =
        if failures < rules.max_failures { State::Ready } else { State::Dead(DeadCause::Budget) };
    Job { state, failures, not_before: now + back_off(failures), ..job.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RULES: Rules =
        Rules { lease: Duration::from_secs(60), max_failures: 3, max_lost: 5, max_rejected: 3 };
    const FRESH: Job =
        Job { state: State::Ready, not_before: Timestamp(0), failures: 0, lost: 0, lost_to: None };

    fn lease_id(n: u8) -> LeaseId {
        LeaseId::from_bytes([n; 16])
    }

    fn client(n: u8) -> ClientId {
        ClientId::from_bytes([n; 16])
    }

    fn event() -> impl Strategy<Value = Event> {
        let class = prop_oneof![
            Just(FailureClass::Cancelled),
            Just(FailureClass::GuestPanic),
            Just(FailureClass::OutOfMemory),
        ];
        prop_oneof![
            // A lease id is random, so each client here has ids of its own.
            4 => (0..3u8, 0..4u8).prop_map(|(c, n)| Event::Lease { client: client(c), lease: lease_id(c * 16 + n) }),
            2 => (0..3u8, 0..2_000_000u64).prop_map(|(c, asked)| Event::Abandon { client: client(c), asked: Timestamp(asked) }),
            3 => (0..48u8).prop_map(|n| Event::Heartbeat { lease: lease_id(n) }),
            2 => (0..48u8).prop_map(|n| Event::Submit { lease: lease_id(n) }),
            1 => Just(Event::Verified),
            2 => (0..48u8).prop_map(|n| Event::Rejected { lease: lease_id(n) }),
            2 => (0..48u8, class).prop_map(|(n, class)| Event::Fail { lease: lease_id(n), class }),
            3 => Just(Event::Expire),
            1 => Just(Event::ServerRestarted),
            1 => Just(Event::Requeue),
            1 => Just(Event::Cancel),
            1 => Just(Event::Supersede),
            2 => Just(Event::Revive),
        ]
    }

    /// An event aimed at the lease the job has, so that the interesting arrows are taken often.
    fn aimed(event: Event, job: &Job, aim: bool) -> Event {
        let (Some(held), true) = (job.state.lease(), aim) else { return event };
        let held = held.id;
        match event {
            Event::Heartbeat { .. } => Event::Heartbeat { lease: held },
            Event::Submit { .. } => Event::Submit { lease: held },
            Event::Rejected { .. } => Event::Rejected { lease: held },
            Event::Fail { class, .. } => Event::Fail { lease: held, class },
            other => other,
        }
    }

    proptest! {
        #[test]
        fn every_walk_keeps_the_promises(steps in prop::collection::vec((event(), 0..90_000u64, any::<bool>()), 1..60)) {
            let (mut job, mut now) = (FRESH, Timestamp(0));
            for (event, pause, aim) in steps {
                now = now + Duration::from_millis(pause);
                let event = aimed(event, &job, aim);
                let Ok(after) = next(&job, &event, now, &RULES) else { continue };

                // A proof is never lost again, and nothing but a verified one proves a job.
                let (had, has) = (job.state.outcome() == Outcome::Proved, after.state.outcome() == Outcome::Proved);
                prop_assert!(!had || has);
                prop_assert!(!has || had || event == Event::Verified);
                prop_assert!(job.state != State::Proved || event == Event::Supersede || after == job);
                // A reorg takes a job's blocks away or brings them back; what was done for them stays.
                let (gone, goes) = (job.state.name() == JobState::Superseded, after.state.name() == JobState::Superseded);
                match event {
                    Event::Supersede => prop_assert!(goes),
                    Event::Revive => prop_assert!(gone && !goes),
                    _ => prop_assert_eq!(gone, goes),
                }
                if matches!(event, Event::Supersede | Event::Revive) {
                    prop_assert_eq!((job.state.outcome(), job.failures, job.lost), (after.state.outcome(), after.failures, after.lost));
                }

                // A live lease is taken from its client by the client itself, a verdict or a proof; never by another.
                if let State::Leased(held) = &job.state
                    && held.expires_at >= now
                {
                    let kept = after.state.lease().is_some_and(|l| l.id == held.id && l.client == held.client);
                    let own = match &event {
                        Event::Fail { lease, .. } => *lease == held.id,
                        // Not by a question that is older than its work.
                        Event::Abandon { client, asked } => *client == held.client
                            && (held.expires_at < *asked
                                || held.heard.map_or(held.handed >= MAX_HANDED, |heard| heard < *asked)),
                        _ => false,
                    };
                    prop_assert!(kept || own || matches!(event, Event::Verified | Event::Cancel | Event::Supersede), "{event:?}");
                }
                // A proof being verified keeps its client's place whatever the time.
                if let State::Verifying(held) = &job.state {
                    let kept = after.state == job.state;
                    let own = event == Event::Rejected { lease: held.id };
                    prop_assert!(kept || own || matches!(event, Event::Verified | Event::Cancel | Event::Supersede));
                }
                // No lease shrinks, none is granted for less than the full time.
                if let (Some(new), true) = (after.state.lease(), matches!(after.state, State::Leased(_))) {
                    let old = job.state.lease().filter(|old| old.id == new.id).map_or(Timestamp(0), |old| old.expires_at);
                    prop_assert!(new.expires_at >= old);
                    if matches!(event, Event::Lease { .. } | Event::Heartbeat { .. } | Event::ServerRestarted) {
                        prop_assert!(new.expires_at >= now + RULES.lease);
                    }
                }
                // A stranger's lease id changes nothing.
                if let Event::Heartbeat { lease } | Event::Fail { lease, .. } | Event::Submit { lease } | Event::Rejected { lease } = &event
                    && job.state.lease().is_none_or(|held| held.id != *lease)
                {
                    prop_assert_eq!(&after, &job);
                }
                // Budgets are kept, and only spending one kills a job.
                prop_assert!(after.state.outcome() != Outcome::Open
                    || (after.failures < RULES.max_failures && after.lost < RULES.max_lost));
                if let (State::Dead(cause), true) = (&after.state, after.state.outcome() != job.state.outcome()) {
                    let deserved = match cause {
                        DeadCause::Budget => after.failures == RULES.max_failures || after.lost == RULES.max_lost,
                        DeadCause::Quarantined => matches!(event, Event::Expire | Event::Abandon { .. }) && after.lost_to != job.lost_to,
                        DeadCause::Cancelled => event == Event::Cancel,
                        _ => false,
                    };
                    prop_assert!(deserved, "{cause:?} after {event:?}");
                }
                job = after;
            }
        }

        #[test]
        fn a_valid_proof_is_never_thrown_away(steps in prop::collection::vec((event(), 0..90_000u64, any::<bool>()), 0..40)) {
            let (mut job, mut now) = (FRESH, Timestamp(0));
            for (event, pause, aim) in steps {
                now = now + Duration::from_millis(pause);
                job = next(&job, &aimed(event, &job, aim), now, &RULES).unwrap_or(job);
            }
            let proved = next(&job, &Event::Verified, now, &RULES).unwrap_or(job);
            let back = next(&proved, &Event::Revive, now, &RULES).unwrap_or(proved);
            prop_assert_eq!(back.state, State::Proved);
        }
    }

    #[test]
    fn a_job_ends_in_a_bounded_number_of_attempts() {
        for (spend, budget) in [
            (None, RULES.max_lost),
            (Some(FailureClass::OutOfMemory), RULES.max_failures),
            (Some(FailureClass::GuestPanic), RULES.max_failures),
        ] {
            let (mut job, mut now) = (FRESH, Timestamp(0));
            let mut attempts = 0;
            while job.state != State::Dead(DeadCause::Budget) {
                now = now.max(job.not_before);
                attempts += 1;
                let lease = lease_id(u8::try_from(attempts).unwrap());
                job = next(&job, &Event::Lease { client: client(0), lease }, now, &RULES).unwrap();
                now = now + Duration::from_millis(60_001);
                let end = spend.map_or(Event::Expire, |class| Event::Fail { lease, class });
                job = next(&job, &end, now, &RULES).unwrap();
            }
            assert_eq!(attempts, budget);
            let requeued = next(&job, &Event::Requeue, now, &RULES).unwrap();
            assert_eq!(requeued, Job { not_before: now, ..FRESH });
        }
    }

    #[test]
    fn a_job_that_two_clients_fell_silent_on_waits_for_an_operator() {
        let silent = |job: &Job, n: u8| {
            let now = Timestamp(u64::from(n) * 100_000);
            let lease = Event::Lease { client: client(n), lease: lease_id(n) };
            let job = next(job, &lease, now, &RULES).unwrap();
            next(&job, &Event::Expire, now + Duration::from_millis(60_001), &RULES).unwrap()
        };
        let once = silent(&FRESH, 1);
        assert_eq!(once.state, State::Ready);
        let again = silent(&Job { not_before: Timestamp(0), ..once.clone() }, 1);
        assert_eq!(again.state, State::Ready, "the same one again may be a bad client");
        let job = silent(&once, 2);
        assert_eq!(job.state, State::Dead(DeadCause::Quarantined));
        let requeued = next(&job, &Event::Requeue, Timestamp(7), &RULES).unwrap();
        assert_eq!(requeued, Job { not_before: Timestamp(7), ..FRESH });
    }

    #[test]
    fn a_client_that_lost_the_answer_keeps_its_lease_and_one_that_died_on_the_job_does_not() {
        let at = |seconds: u64| Timestamp(1_000 * seconds);
        let ask = |job: &Job, asked, now| {
            let job = next(job, &Event::Abandon { client: client(1), asked }, now, &RULES)
                .unwrap_or(job.clone());
            next(&job, &Event::Lease { client: client(1), lease: lease_id(9) }, now, &RULES)
        };
        let lease = Event::Lease { client: client(1), lease: lease_id(1) };
        let job = next(&FRESH, &lease, at(10), &RULES).unwrap();
        let again = ask(&job, at(20), at(20)).unwrap();
        assert_eq!((again.lost, again.state.lease().unwrap().id), (0, lease_id(1)));
        let heard = next(&again, &Event::Heartbeat { lease: lease_id(1) }, at(30), &RULES).unwrap();
        // A question that waited here while its client had asked again and gone to work.
        let late = ask(&heard, at(5), at(35)).unwrap();
        assert_eq!((late.lost, late.state.lease().unwrap().id), (0, lease_id(1)));
        let died = ask(&heard, at(35), at(35)).unwrap();
        assert_eq!((died.lost, died.state.lease().unwrap().id), (1, lease_id(9)));

        // One that dies before its first heartbeat is found out too.
        let (mut job, mut asked) = (job, 0);
        while !matches!(job.state, State::Dead(_)) {
            asked += 1;
            job = ask(&job, at(50), at(50)).unwrap_or_else(|_| {
                next(&job, &Event::Abandon { client: client(1), asked: at(50) }, at(50), &RULES)
                    .unwrap()
            });
        }
        assert_eq!(
            (job.state, asked),
            (State::Dead(DeadCause::Budget), RULES.max_lost * MAX_HANDED)
        );
    }

    /// A job's life in the fewest words: what an operator would draw on a napkin.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Napkin {
        Waiting,
        Held(u8),
        Checked(u8),
        Done,
        Gone,
        Off(bool),
    }

    proptest! {
        #[test]
        fn it_is_what_one_draws_on_a_napkin(steps in prop::collection::vec((event(), 0..90_000u64, any::<bool>()), 1..80)) {
            use Napkin::{Checked, Done, Gone, Held, Off, Waiting};
            let (mut job, mut now, mut drawn) = (FRESH, Timestamp(0), Waiting);
            let name = |lease: &LeaseId| lease.as_bytes()[0];
            for (event, pause, aim) in steps {
                now = now + Duration::from_millis(pause);
                let event = aimed(event, &job, aim);
                let after = next(&job, &event, now, &RULES);
                // When is the clock's business; that it is one of these, the drawing's.
                let may: &[Napkin] = match (drawn, &event) {
                    (Off(proved), Event::Supersede) => &[Off(proved)],
                    (_, Event::Supersede) => &[Off(drawn == Done)],
                    (Off(_), Event::Verified) => &[Off(true)],
                    (Off(true), Event::Revive) => &[Done],
                    (Off(false), Event::Revive) => &[Waiting, Gone],
                    (Off(_), _) => &[drawn],
                    (Done, _) | (_, Event::Verified) => &[Done],
                    (_, Event::Cancel) => &[Gone],
                    (Gone, Event::Requeue) => &[Waiting],
                    (Waiting, Event::Lease { lease, .. }) => &[Waiting, Held(name(lease))],
                    (Held(by), Event::Submit { lease }) if by == name(lease) => &[Checked(by)],
                    (Held(by), Event::Fail { lease, .. }) if by == name(lease) => &[Waiting, Gone],
                    (Checked(by), Event::Rejected { lease }) if by == name(lease) => &[Waiting],
                    (Held(by), Event::Expire | Event::Abandon { .. }) => &[Held(by), Waiting, Gone],
                    (same, _) => &[same],
                };
                job = after.unwrap_or(job);
                drawn = match &job.state {
                    State::Ready => Waiting,
                    State::Leased(held) => Held(name(&held.id)),
                    State::Verifying(held) => Checked(name(&held.id)),
                    State::Proved => Done,
                    State::Dead(_) => Gone,
                    State::Superseded(outcome) => Off(*outcome == Outcome::Proved),
                };
                prop_assert!(may.contains(&drawn), "{event:?} led to {drawn:?}, not to one of {may:?}");
            }
        }

        #[test]
        fn an_urgent_job_overtakes_and_no_job_waits_for_ever(age in 0..1u64 << 40, priority in -100..=100i32) {
            let (old, new) = (Timestamp(1 << 41), Timestamp((1 << 41) + age));
            let ahead = due(new, priority) < due(old, 0);
            prop_assert_eq!(ahead, i64::try_from(age).unwrap() < i64::from(priority) * 600_000);
        }

        #[test]
        fn a_client_in_quarantine_stays_there_until_it_is_released(deeds in prop::collection::vec(0..5usize, 0..40)) {
            let deeds = deeds.into_iter().map(|n| [Deed::Proved, Deed::Failed, Deed::Rejected, Deed::Drain, Deed::Quarantine][n]);
            let (mut standing, mut in_a_row) = (Standing::default(), 0);
            for (n, deed) in deeds.enumerate() {
                let now = Timestamp(1_000 * n as u64);
                let after = judge(&standing, deed, now, &RULES);
                match deed {
                    Deed::Rejected => in_a_row += 1,
                    Deed::Proved => in_a_row = 0,
                    _ => {}
                }
                let expected = standing.quarantined || deed == Deed::Quarantine || in_a_row >= RULES.max_rejected;
                prop_assert_eq!(after.quarantined, expected);
                prop_assert!(!standing.draining || after.draining);
                prop_assert_eq!(after.rests_until > now, matches!(deed, Deed::Failed | Deed::Rejected) || (deed != Deed::Proved && standing.rests_until > now));
                standing = after;
            }
            prop_assert_eq!(judge(&standing, Deed::Release, Timestamp(0), &RULES), Standing::default());
        }
    }

    #[test]
    fn a_client_told_to_stop_costs_the_job_nothing() {
        let lease = lease_id(1);
        let job =
            next(&FRESH, &Event::Lease { client: client(0), lease }, Timestamp(0), &RULES).unwrap();
        let class = FailureClass::Cancelled;
        assert_eq!(next(&job, &Event::Fail { lease, class }, Timestamp(9), &RULES), Ok(FRESH));
    }

    #[test]
    fn rest_doubles_up_to_ten_minutes() {
        let seconds: Vec<u64> = [0, 1, 2, 3, 7, 8, 1000].map(|n| back_off(n).as_secs()).to_vec();
        assert_eq!(seconds, [5, 5, 10, 20, 320, 600, 600]);
    }
}
