//! Proofs that were put aside, submitted once more: after a server was rebuilt, say, or a verdict was revoked.

use crate::{
    Config,
    api::{Api, CallError},
    journal::{Aside, Journal, JournalError},
    pulse::{Pulse, believed},
};
use protocol::{ArtifactRef, ClientId, JobId, LeaseId, Submit, Verdict};
use std::{path::PathBuf, time::Duration};

/// How long a server may hold a submission open.
const WAIT: Duration = Duration::from_secs(20);

/// A proof whose verdict is pending is submitted again at the earliest after so long.
const PENDING_FLOOR: Duration = Duration::from_secs(1);

/// So many times a proof is submitted until there is a verdict.
const ATTEMPTS: u32 = 15;

/// Why no proof can be submitted again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no such folder.
    #[error("there is no folder {} of a Prover Client: name the one it was started with", .0.display())]
    NoFolder(PathBuf),
    /// The server's address is not one.
    #[error("{server:?} is no address of a Prover Server: {detail}")]
    Server {
        /// The address.
        server: String,
        /// What is wrong with it.
        detail: String,
    },
    /// The folder cannot be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// What became of one proof.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resubmitted {
    /// Its job.
    pub job: JobId,
    /// The proof.
    pub proof: ArtifactRef,
    /// Why it had been put aside.
    pub reason: String,
    /// The verdict, or why there is none. The proof leaves the folder unless it is rejected or has no verdict.
    pub verdict: Result<Verdict, String>,
}

/// How many proofs were submitted again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// They were accepted, or are not needed: they have left the folder.
    pub gone: usize,
    /// They are still in the folder.
    pub kept: usize,
}

/// Submits the proofs in `rejected/` of the client's folder again, to the server that lent their jobs first and then to the others.
/// No client may run in the folder. Tells `report` of each proof.
///
/// # Errors
/// [`Error`]. What a server says of a proof is none.
pub async fn resubmit(
    config: &Config,
    mut report: impl FnMut(Resubmitted),
) -> Result<Counts, Error> {
    if !config.data_dir.is_dir() {
        return Err(Error::NoFolder(config.data_dir.clone()));
    }
    let api = |server: &String| {
        let wrong = |detail| Error::Server { server: server.clone(), detail };
        Api::new(config, server).map_err(wrong)
    };
    let servers: Vec<_> = config.servers.iter().map(api).collect::<Result<_, _>>()?;
    let journal = Journal::open(&config.data_dir, ClientId::from_bytes(rand::random()))?;
    let mut counts = Counts::default();
    for mut aside in journal.aside()? {
        let verdict = submit(config, &servers, &journal, &aside).await;
        let report_of = Resubmitted {
            job: aside.entry.job,
            proof: aside.entry.submit.proof,
            reason: aside.reason.clone(),
            verdict: verdict.as_ref().map(Clone::clone).map_err(ToString::to_string),
        };
        match verdict {
            Ok(Verdict::Accepted | Verdict::Duplicate | Verdict::Superseded) => {
                journal.discard(&aside)?;
                counts.gone += 1;
            }
            Ok(Verdict::Rejected { reason }) => {
                aside.reason = reason;
                journal.put_down(&aside)?;
                counts.kept += 1;
            }
            Ok(Verdict::Pending { .. }) | Err(_) => counts.kept += 1,
        }
        report(report_of);
    }
    Ok(counts)
}

/// Asks one server after the other, until one has a verdict.
async fn submit(
    config: &Config,
    servers: &[Api],
    journal: &Journal,
    aside: &Aside,
) -> Result<Verdict, CallError> {
    let lender = |api: &&Api| Some(api.server()) == aside.entry.server.as_deref();
    let (first, others): (Vec<_>, Vec<_>) = servers.iter().partition(lender);
    let mut outcome = Err(CallError::Refused(protocol::ApiError {
        code: protocol::ErrorCode::Other,
        message: "no server was named".into(),
        retryable: false,
        retry_after_ms: None,
    }));
    // A server that hangs keeps the proof from no other.
    let patience = if servers.len() > 1 { config.patience } else { config.silence };
    for api in first.into_iter().chain(others) {
        let pulse = Pulse::default();
        outcome = tokio::select! {
            outcome = submit_to(api, journal, aside, &pulse) => outcome,
            () = pulse.stalled(patience) => Err(api.silent()),
        };
        if outcome.is_ok() {
            break;
        }
    }
    outcome
}

async fn submit_to(
    api: &Api,
    journal: &Journal,
    aside: &Aside,
    pulse: &Pulse,
) -> Result<Verdict, CallError> {
    // The same proof under the same lease gets the same verdict for ever, and a valid proof needs none.
    let submit =
        Submit { lease: LeaseId::from_bytes(rand::random()), ..aside.entry.submit.clone() };
    api.upload(&submit.proof, &journal.aside_path(&aside.entry), pulse).await?;
    let mut verdict = Verdict::Pending { retry_after_ms: 0 };
    for _ in 0..ATTEMPTS {
        pulse.expect_within(WAIT);
        verdict = api.submit(&aside.entry.job, submit.clone(), WAIT).await?;
        let Verdict::Pending { retry_after_ms } = verdict else { break };
        let said = Duration::from_millis(retry_after_ms);
        let pause = believed(said, PENDING_FLOOR, WAIT, rand::random());
        pulse.expect_within(pause);
        tokio::time::sleep(pause).await;
    }
    Ok(verdict)
}
