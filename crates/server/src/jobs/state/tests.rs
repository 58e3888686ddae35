//! What holds on every walk through a job's life.

use super::*;
use proptest::prelude::*;

pub(crate) const RULES: Rules = Rules {
    lease: Duration::from_secs(60),
    max_hold: Duration::from_secs(86_400),
    max_failures: 3,
    max_lost: 5,
    max_rejected: 3,
    max_newcomers: 64,
};
const FRESH: Job = Job::new(Timestamp(0));

fn lease_id(n: u8) -> LeaseId {
    LeaseId::from_bytes([n; 16])
}

fn client(n: u8) -> ClientId {
    ClientId::from_bytes([n; 16])
}

/// Two clients have one token.
fn party(client: u8) -> Party {
    Party::Token((client / 2).into())
}

fn event() -> impl Strategy<Value = Event> {
    let class = prop_oneof![
        Just(FailureClass::Cancelled),
        Just(FailureClass::GuestPanic),
        Just(FailureClass::OutOfMemory),
    ];
    prop_oneof![
        // A lease id is random, so each client here has ids of its own.
        4 => (0..6u8, 0..4u8).prop_map(|(c, n)| Event::Lease { client: client(c), party: party(c), lease: lease_id(c * 16 + n) }),
        2 => (0..6u8, 0..2_000_000u64).prop_map(|(c, asked)| Event::Abandon { client: client(c), asked: Timestamp(asked) }),
        3 => (0..96u8).prop_map(|n| Event::Heartbeat { lease: lease_id(n) }),
        2 => (0..96u8).prop_map(|n| Event::Submit { lease: lease_id(n) }),
        1 => Just(Event::Verified),
        2 => (0..96u8).prop_map(|n| Event::Rejected { lease: lease_id(n) }),
        1 => (0..96u8).prop_map(|n| Event::ProofLost { lease: lease_id(n) }),
        1 => (0..96u8).prop_map(|n| Event::InputLost { lease: lease_id(n) }),
        2 => (0..96u8, class).prop_map(|(n, class)| Event::Fail { lease: lease_id(n), class }),
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
        Event::ProofLost { .. } => Event::ProofLost { lease: held },
        Event::InputLost { .. } => Event::InputLost { lease: held },
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
                    Event::Fail { lease, .. } | Event::InputLost { lease } => *lease == held.id,
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
                let own = event == Event::Rejected { lease: held.id } || event == Event::ProofLost { lease: held.id };
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
            if let Event::Heartbeat { lease } | Event::Fail { lease, .. } | Event::Submit { lease } | Event::Rejected { lease }
                | Event::ProofLost { lease } | Event::InputLost { lease } = &event
                && job.state.lease().is_none_or(|held| held.id != *lease)
            {
                prop_assert_eq!(&after, &job);
            }
            // Budgets are kept, and only spending one kills a job.
            prop_assert!(after.state.outcome() != Outcome::Open
                || (after.failed_by.len() < 3 && after.failures < 12 && after.lost < 20));
            let once = after.failed_by.iter().enumerate().all(|(at, party)| !after.failed_by[..at].contains(party));
            prop_assert!(once && after.failed_by.len() <= after.failures as usize);
            if let (State::Dead(cause), true) = (&after.state, after.state.outcome() != job.state.outcome()) {
                let deserved = match cause {
                    DeadCause::Budget => after.failed_by.len() == 3 || after.failures == 12 || after.lost == 20,
                    DeadCause::Quarantined => matches!(event, Event::Expire | Event::Abandon { .. })
                        && after.lost_to != job.lost_to && after.lost_by != job.lost_by && job.lost_by.is_some(),
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
        (None, RULES.max_lost * REPEATS),
        (Some(FailureClass::OutOfMemory), RULES.max_failures * REPEATS),
        (Some(FailureClass::GuestPanic), RULES.max_failures * REPEATS),
    ] {
        let (mut job, mut now) = (FRESH, Timestamp(0));
        let mut attempts = 0;
        while job.state != State::Dead(DeadCause::Budget) {
            now = now.max(job.not_before);
            attempts += 1;
            let lease = lease_id(u8::try_from(attempts).unwrap());
            job = next(
                &job,
                &Event::Lease { client: client(0), party: party(0), lease },
                now,
                &RULES,
            )
            .unwrap();
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
        let lease = Event::Lease { client: client(n), party: party(n), lease: lease_id(n) };
        let job = next(job, &lease, now, &RULES).unwrap();
        next(&job, &Event::Expire, now + Duration::from_millis(60_001), &RULES).unwrap()
    };
    let once = silent(&FRESH, 1);
    assert_eq!(once.state, State::Ready);
    let again = silent(&Job { not_before: Timestamp(0), ..once.clone() }, 1);
    assert_eq!(again.state, State::Ready, "the same one again may be a bad client");
    assert_eq!(
        silent(&once, 0).state,
        State::Ready,
        "the token of the first may have made up the second"
    );
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
        next(
            &job,
            &Event::Lease { client: client(1), party: party(1), lease: lease_id(9) },
            now,
            &RULES,
        )
    };
    let lease = Event::Lease { client: client(1), party: party(1), lease: lease_id(1) };
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
        (State::Dead(DeadCause::Budget), RULES.max_lost * REPEATS * MAX_HANDED)
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
                (Held(by), Event::InputLost { lease }) if by == name(lease) => &[Waiting],
                (Checked(by), Event::ProofLost { lease }) if by == name(lease) => &[Waiting],
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

}

#[test]
fn a_job_dies_by_the_failures_of_three_parties() {
    let failed = |job: &Job, client: ClientId, party| {
        let (now, lease) = (job.not_before, lease_id(1));
        let job = next(job, &Event::Lease { client, party, lease }, now, &RULES).unwrap();
        let class = FailureClass::GuestPanic;
        next(&job, &Event::Fail { lease, class }, now, &RULES).unwrap()
    };
    let (mut job, mut failures) = (FRESH, 0);
    for (n, party) in [(1, 0), (2, 0), (3, 1), (4, 0), (5, 1), (6, 2)] {
        assert_eq!((&job.state, job.failures), (&State::Ready, failures));
        failures += 1;
        job = failed(&job, client(n), Party::Token(party));
    }
    assert_eq!(job.failed_by, [0, 1, 2].map(Party::Token));
    assert_eq!((job.state, job.failures), (State::Dead(DeadCause::Budget), 6));
}

#[test]
fn a_client_told_to_stop_costs_the_job_nothing() {
    let lease = lease_id(1);
    let job = next(
        &FRESH,
        &Event::Lease { client: client(0), party: party(0), lease },
        Timestamp(0),
        &RULES,
    )
    .unwrap();
    let class = FailureClass::Cancelled;
    assert_eq!(next(&job, &Event::Fail { lease, class }, Timestamp(9), &RULES), Ok(FRESH));
}

#[test]
fn rest_doubles_up_to_ten_minutes() {
    let seconds: Vec<u64> = [0, 1, 2, 3, 7, 8, 1000].map(|n| back_off(n).as_secs()).to_vec();
    assert_eq!(seconds, [5, 5, 10, 20, 320, 600, 600]);
}
