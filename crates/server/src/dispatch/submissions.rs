//! Proofs handed in: each is verified once, however often it is submitted, and none is left without a verdict.

use super::{
    JobError, Jobs,
    queue::{Rank, Sender},
};
use crate::{
    artifacts::ArtifactError,
    clock::Timestamp,
    store::{Precedence, StoreError, Submitted},
};
use futures::StreamExt;
use protocol::{ArtifactRef, JobId, Submit, Verdict};
use std::{
    sync::PoisonError,
    time::{Duration, Instant},
};
use tokio::sync::watch;

/// Of the proofs that a server left without a verdict, so many at most are in the queue at the same time.
const LEFT_AT_ONCE: usize = 4;

/// How long a submission is held open for its verdict.
const VERDICT_PATIENCE: Duration = Duration::from_secs(20);

impl Jobs {
    /// Judges a proof that `sender` hands in, and whose bytes have been uploaded. Returns [`Verdict::Pending`] if that takes
    /// long, or longer than `wait`; submitting the same again joins the check under way.
    ///
    /// # Errors
    /// [`JobError::ProofMissing`], [`JobError::WrongLength`] or [`JobError::Busy`] before anything is recorded; other errors
    /// leave the submission open.
    pub async fn submit(
        &self,
        job: JobId,
        submit: Submit,
        wait: Option<Duration>,
        sender: Sender,
    ) -> Result<Verdict, JobError> {
        let this = self.clone();
        let wait = wait.map_or(VERDICT_PATIENCE, |wait| wait.min(VERDICT_PATIENCE));
        // A task of its own: a client that hangs up does not stop what has begun.
        let task = self.0.tasks.spawn(async move {
            let mut verdict = match this.open(job, submit, sender, Admission::IfRoom).await? {
                Opened::Judged(verdict) => return Ok(verdict),
                Opened::Verifying(verdict) => verdict,
            };
            match tokio::time::timeout(wait, verdict.wait_for(Option::is_some)).await {
                Ok(Ok(verdict)) => verdict.clone().ok_or(JobError::NotVerified),
                Ok(Err(_gave_up)) => Err(JobError::NotVerified),
                Err(_elapsed) => Ok(Verdict::Pending { retry_after_ms: 1_000 }),
            }
        });
        task.await.unwrap_or(Err(JobError::NotVerified))
    }

    /// Writes a proof down, unless it is already, and has it verified.
    pub(super) async fn open(
        &self,
        job: JobId,
        submit: Submit,
        sender: Sender,
        admission: Admission,
    ) -> Result<Opened, JobError> {
        if let Some(running) = self.verifying(job, &submit) {
            return Ok(Opened::Verifying(running));
        }
        self.check_upload(&submit.proof).await?;
        // ORDER: a place in the queue before the proof is written down: what was accepted is verified.
        let rank = match self.0.store.precedence(job, &submit).await? {
            Precedence::Judged => None,
            Precedence::Live => Some(Rank::Live(submit.lease)),
            Precedence::Late => Some(Rank::Late),
            Precedence::Stranger => Some(Rank::Stranger),
        };
        let ticket = match (rank, admission) {
            (None, _) => None,
            (Some(rank), Admission::IfRoom) => {
                Some(self.0.queue.admit(sender, rank, Instant::now())?)
            }
            (Some(rank), Admission::Always) => Some(self.0.queue.admit_again(sender, rank)),
        };
        let submitted = self.0.store.submit(job, &submit, self.now().await?).await?;
        let wanted = match self.noted(submitted) {
            Submitted::Judged(verdict) => return Ok(Opened::Judged(verdict)),
            Submitted::Verify(wanted) => wanted,
        };
        let ticket = ticket.unwrap_or_else(|| self.0.queue.admit_again(sender, Rank::Late));
        let key = (job, submit.lease, submit.proof.sha256);
        let mut verifying = self.0.verifying.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = verifying.get(&key) {
            return Ok(Opened::Verifying(running.clone()));
        }
        let (tell, verdict) = watch::channel(None);
        verifying.insert(key, verdict.clone());
        let this = self.clone();
        self.0.tasks.spawn(async move {
            let verified = this.verify(job, &submit, wanted, &ticket).await;
            // ORDER: no longer under way before anybody hears how it ended, and may hand it in again.
            this.0.verifying.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
            match verified {
                Ok(found) => drop(tell.send(Some(found))),
                Err(JobError::NotVerified) if this.0.stopping.is_cancelled() => {}
                Err(JobError::ProofMissing(_)) => {}
                Err(error) => {
                    tracing::error!(code = "submission_unjudged", %job, %error, "submission could not be judged")
                }
            }
        });
        Ok(Opened::Verifying(verdict))
    }

    /// The check of a proof that is under way, if it is.
    fn verifying(&self, job: JobId, submit: &Submit) -> Option<Running> {
        let verifying = self.0.verifying.lock().unwrap_or_else(PoisonError::into_inner);
        verifying.get(&(job, submit.lease, submit.proof.sha256)).cloned()
    }

    async fn check_upload(&self, proof: &ArtifactRef) -> Result<(), JobError> {
        let found = match self.0.artifacts.len(proof.sha256).await {
            Err(ArtifactError::Missing(id)) => return Err(JobError::ProofMissing(id)),
            other => other?,
        };
        if found != proof.len {
            return Err(JobError::WrongLength {
                sha256: proof.sha256,
                announced: proof.len,
                found,
            });
        }
        Ok(())
    }

    /// Goes on after a start of the only server: leases that lived run anew, proofs that were being verified are verified.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn resume(&self) -> Result<(), StoreError> {
        let now = self.now().await?;
        self.0.store.restart(now).await?;
        let left = self.0.store.unjudged(now).await?;
        let this = self.clone();
        self.0.tasks.spawn(async move { this.judge_left(left).await });
        Ok(())
    }

    /// Verifies, now and again, what a server began to verify and did not finish. Runs until the server stops.
    pub async fn judge_left_behind(self) {
        let patience = self.0.rules.lease;
        loop {
            tokio::select! {
                biased;
                () = self.0.stopping.cancelled() => return,
                () = tokio::time::sleep(patience) => {}
            }
            let left = async {
                let now = self.now().await?;
                let before = Timestamp(now.0.saturating_sub(crate::clock::millis(patience)));
                self.0.store.unjudged(before).await
            };
            match left.await {
                Ok(left) => self.judge_left(left).await,
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(
                        code = "submissions_unread",
                        error,
                        "open submissions could not be read"
                    );
                }
            }
        }
    }

    /// Verifies what was left without a verdict, a few at a time: there may be any number.
    async fn judge_left(&self, left: Vec<(JobId, Submit)>) {
        let stopping = self.0.stopping.clone();
        let left = futures::stream::iter(left).take_until(stopping.cancelled_owned());
        left.for_each_concurrent(LEFT_AT_ONCE, async |(job, submit)| {
            let sender = Sender::of(&submit.client);
            let opened = self.open(job, submit.clone(), sender, Admission::Always).await;
            let failed = match opened {
                Ok(Opened::Judged(_)) => None,
                // How it ended is said by whoever verifies it.
                Ok(Opened::Verifying(mut verdict)) => {
                    let _ended = verdict.wait_for(Option::is_some).await;
                    None
                }
                Err(error @ (JobError::ProofMissing(_) | JobError::WrongLength { .. })) => {
                    self.lose_proof(job, &submit, &error).await.err()
                }
                Err(error) => Some(error),
            };
            if let Some(error) = failed {
                tracing::warn!(code = "submission_unjudged", %job, %error, "open submission could not be verified");
            }
        })
        .await;
    }
}

/// Whether a proof may be refused because too many wait.
#[derive(Clone, Copy, Debug)]
pub(super) enum Admission {
    /// It may: nothing has been promised.
    IfRoom,
    /// It was written down before.
    Always,
}

type Running = watch::Receiver<Option<Verdict>>;

/// A proof that was handed in.
pub(super) enum Opened {
    /// Its verdict is known.
    Judged(Verdict),
    /// It is being verified, or waits for its turn.
    Verifying(Running),
}
