//! Whether a server can do its work, for load balancers and orchestrators.

use crate::{artifacts::Artifacts, dispatch::Jobs};
use protocol::{Check, IntakeStatus, Readiness};
use std::time::Duration;

/// A part that answers more slowly is not ready.
const PATIENCE: Duration = Duration::from_secs(5);

/// Checks the parts that clients depend on. Answers to strangers name the part; the log says what is wrong with it.
pub async fn check(jobs: &Jobs, artifacts: &Artifacts, intake: &IntakeStatus) -> Readiness {
    let database = tokio::time::timeout(PATIENCE, jobs.store().ready(jobs.targets()));
    let writing = tokio::time::timeout(PATIENCE, artifacts.probe());
    let (database, writing) = tokio::join!(database, writing);
    let database = flatten(database);
    let writing = flatten(writing);
    for (part, error) in [("database", &database), ("artifacts", &writing)] {
        if let Some(error) = error {
            tracing::warn!(code = "not_ready", part, %error, "a part of the server does not work");
        }
    }
    let checks = [
        ("database", database.map(|_| "it does not answer")),
        ("artifacts", writing.map(|_| "the folder cannot be written")),
        (
            "intake",
            matches!(intake, IntakeStatus::Halted { .. })
                .then_some("it is halted: the node contradicts what has been enqueued"),
        ),
        (
            "clock",
            jobs.store()
                .database()
                .clock_ahead()
                .map(|_| "the database knows times in the future: see l2-prover correct-clock"),
        ),
        ("leases", jobs.stops().then_some("the server stops: it grants none")),
    ];
    let checks = checks.map(|(name, problem)| Check {
        name: name.into(),
        ok: problem.is_none(),
        problem: problem.map(Into::into),
    });
    Readiness { ready: checks.iter().all(|check| check.ok), checks: checks.into() }
}

fn flatten<T, E: std::fmt::Display>(
    answer: Result<Result<T, E>, tokio::time::error::Elapsed>,
) -> Option<String> {
    match answer {
        Ok(Ok(_)) => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(elapsed) => Some(elapsed.to_string()),
    }
}
