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
//! * A client that keeps a job for longer than it may loses it like one that fell silent, however often it was heard.
//! * Blame goes by parties: the token under which a lease was granted, or the client where no tokens are asked for. One party
//!   alone does not kill a job soon, however many clients it makes up.
//!   * A job is given up when [`Rules::max_failures`] parties have failed on it, or after [`REPEATS`] times as many failures.
//!   * A job on which clients of two parties fell silent, one after the other, is not sent round the fleet: it is quarantined.
//!     Those of one party may fall silent [`REPEATS`] times [`Rules::max_lost`] times.
//!
//! ```text
//! ready --lease--> leased --submit--> verifying --verified--> proved
//!   ^                |  expire / fail     | rejected
//!   +----------------+--------------------+
//! leased --budget spent, second party lost--> dead --requeue--> ready
//! any but proved and cancelled --cancel--> dead
//! any --supersede--> superseded --revive--> ready, proved or dead, as it was
//! ```

use super::party::Party;
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
    /// The parties that failed, each once.
    pub failed_by: Vec<Party>,
    /// Clients that fell silent.
    pub lost: u32,
    /// The last of those.
    pub lost_to: Option<ClientId>,
    /// Its party.
    pub lost_by: Option<Party>,
}

impl Job {
    /// A job that nobody has tried, ready at `now`.
    pub const fn new(now: Timestamp) -> Self {
        Self {
            state: State::Ready,
            not_before: now,
            failures: 0,
            failed_by: Vec::new(),
            lost: 0,
            lost_to: None,
            lost_by: None,
        }
    }
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
    /// Who is responsible for that client.
    pub party: Party,
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

    /// Whether its client has had the job for too long.
    fn too_long(&self, now: Timestamp, rules: &Rules) -> bool {
        self.since + rules.max_hold < now
    }
}

/// What can happen to a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A client asks for work. `lease` names the new lease, if there is one.
    Lease {
        /// Who asks.
        client: ClientId,
        /// Who is responsible for it.
        party: Party,
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
    /// The proof handed in under `lease` is lost, through no fault of its client.
    ProofLost {
        /// The lease under which it was made.
        lease: LeaseId,
    },
    /// The input is lost, so that nobody can work under `lease`. It is made anew meanwhile.
    InputLost {
        /// The lease.
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
    /// How long a client may have a job, however often it is heard.
    pub max_hold: Duration,
    /// Parties that fail on a job until it is given up.
    pub max_failures: u32,
    /// Clients of one party that fall silent on a job until it is given up: [`REPEATS`] times as many.
    pub max_lost: u32,
    /// Rejected proofs in a row until a client is quarantined.
    pub max_rejected: u32,
    /// Leases that clients without an accepted proof may hold together under one token.
    pub max_newcomers: u32,
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
    /// No client has the job.
    #[error("no client has it now")]
    NotLeased,
    /// Its client is quarantined: the job was taken back.
    #[error("its client is quarantined, so the job was taken back")]
    Quarantined,
    /// Its client has had the job for too long, however often it was heard.
    #[error("the client had the job for longer than max_hold")]
    HeldTooLong,
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
    /// An operator has cancelled it before.
    #[error("the job was cancelled already")]
    Cancelled,
    /// Another client has it than the one that was meant.
    #[error("another client has it now than the one that was named")]
    OtherClient,
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

        (Ready, Event::Lease { client, party, lease }) if job.not_before <= now => {
            to(Leased(Lease {
                id: *lease,
                client: *client,
                party: *party,
                since: now,
                expires_at: now + rules.lease,
                heard: None,
                handed: 1,
            }))
        }
        // A client that lost the answer asks twice and gets the same lease.
        (Leased(held), Event::Lease { client, .. }) if held.client == *client => {
            let handed = held.handed.saturating_add(1);
            to(Leased(Lease { handed, ..renewed(held, now, rules) }))
        }
        (_, Event::Lease { .. }) => Err(Refused::NotReady),

        (Leased(held), Event::Abandon { client, asked })
            if held.client == *client && held.abandoned(*asked) =>
        {
            Ok(lost(job, held, rules))
        }
        (_, Event::Abandon { .. }) => Err(Refused::NotAbandoned),

        (Leased(held), Event::Heartbeat { lease })
            if held.id == *lease && held.too_long(now, rules) =>
        {
            Err(Refused::HeldTooLong)
        }
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

        // The server's fault: it costs neither the job nor its client anything.
        (Verifying(held), Event::ProofLost { lease }) if held.id == *lease => to(Ready),
        (Proved, Event::ProofLost { .. }) => Err(Refused::Proved),
        (_, Event::ProofLost { .. }) => Err(Refused::NotTheLease),
        (Leased(held), Event::InputLost { lease }) if held.id == *lease => {
            Ok(Job { state: Ready, not_before: now + INPUT_REST, ..job.clone() })
        }
        (Proved, Event::InputLost { .. }) => Err(Refused::Proved),
        (_, Event::InputLost { .. }) => Err(Refused::NotTheLease),

        (Leased(held), Event::Fail { lease, class }) if held.id == *lease => {
            Ok(failed(job, held.party, *class, now, rules))
        }
        (Proved, Event::Fail { .. }) => Err(Refused::Proved),
        (_, Event::Fail { .. }) => Err(Refused::NotTheLease),

        (Leased(held), Event::Expire) if held.expires_at < now || held.too_long(now, rules) => {
            Ok(lost(job, held, rules))
        }
        (_, Event::Expire) => Err(Refused::NotExpired),

        // Not longer either: the clock of the server before may have been ahead.
        (Leased(held), Event::ServerRestarted) => {
            to(Leased(Lease { expires_at: now + rules.lease, ..held.clone() }))
        }
        (_, Event::ServerRestarted) => Ok(job.clone()),

        (Dead(_), Event::Requeue) => Ok(Job::new(now)),
        (_, Event::Requeue) => Err(Refused::NotDead),

        (Proved, Event::Cancel) => Err(Refused::Proved),
        (Dead(DeadCause::Cancelled), Event::Cancel) => Err(Refused::Cancelled),
        (_, Event::Cancel) => to(Dead(DeadCause::Cancelled)),
    }
}

/// A job whose input is lost rests for so long, unless the input is there again sooner.
pub const INPUT_REST: Duration = Duration::from_secs(60);

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

/// One party may fail on a job, or fall silent, so many times as often as several may: a fleet under one token learns at last
/// that a job cannot be proved, and whoever makes up clients has to try for long.
pub const REPEATS: u32 = 4;

/// The client of lease `held` died on the job, or fell silent.
fn lost(job: &Job, held: &Lease, rules: &Rules) -> Job {
    let lost = job.lost.saturating_add(1);
    let state = match job.lost_by {
        // A client whose token was replaced is no second client.
        Some(other) if other != held.party && job.lost_to != Some(held.client) => {
            State::Dead(DeadCause::Quarantined)
        }
        _ if lost < rules.max_lost.saturating_mul(REPEATS) => State::Ready,
        _ => State::Dead(DeadCause::Budget),
    };
    let (lost_to, lost_by) = (Some(held.client), Some(held.party));
    Job { state, lost, lost_to, lost_by, ..job.clone() }
}

/// The same lease, running anew. A lease never gets shorter.
fn renewed(lease: &Lease, now: Timestamp, rules: &Rules) -> Lease {
    Lease { expires_at: lease.expires_at.max(now + rules.lease), ..lease.clone() }
}

fn failed(job: &Job, party: Party, class: FailureClass, now: Timestamp, rules: &Rules) -> Job {
    // Whoever was told to stop is not to blame, and neither is the job.
    if class == FailureClass::Cancelled {
        return Job { state: State::Ready, ..job.clone() };
    }
    // Even a failure that no retry could cure takes the whole budget to kill a job: the server has executed the input
    // itself, so one client that calls it unprovable is more likely broken than right.
    let failures = job.failures.saturating_add(1);
    let mut failed_by = job.failed_by.clone();
    if !failed_by.contains(&party) {
        failed_by.push(party);
    }
    let parties = u32::try_from(failed_by.len()).unwrap_or(u32::MAX);
    let spent =
        parties >= rules.max_failures || failures >= rules.max_failures.saturating_mul(REPEATS);
    let state = if spent { State::Dead(DeadCause::Budget) } else { State::Ready };
    Job { state, failures, failed_by, not_before: now + back_off(failures), ..job.clone() }
}

#[cfg(test)]
pub(crate) mod tests;
