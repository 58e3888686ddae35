//! Proofs handed in: each is verified once, however often it is submitted, and none is left without a verdict.

use super::{JobError, Jobs};
use crate::{
    artifacts::ArtifactError,
    clock::Timestamp,
    store::{StoreError, Submitted},
};
use protocol::{ArtifactRef, JobId, Submit, Verdict};
use std::{sync::PoisonError, time::Duration};
use tokio::sync::watch;

/// How long a submission is held open for its verdict.
const VERDICT_PATIENCE: Duration = Duration::from_secs(20);

impl Jobs {
    /// Judges a proof whose bytes have been uploaded. Returns [`Verdict::Pending`] if that takes long, or longer than `wait`;
    /// submitting the same again joins the check under way.
    ///
    /// # Errors
    /// [`JobError::ProofMissing`] or [`JobError::WrongLength`] before anything is recorded; other errors leave the
    /// submission open.
    pub async fn submit(
        &self,
        job: JobId,
        submit: Submit,
        wait: Option<Duration>,
    ) -> Result<Verdict, JobError> {
        let this = self.clone();
        let wait = wait.map_or(VERDICT_PATIENCE, |wait| wait.min(VERDICT_PATIENCE));
        // A task of its own: a client that hangs up does not stop what has begun.
        let task = self.0.tasks.spawn(async move { this.submit_to_end(job, submit, wait).await });
        task.await.unwrap_or(Err(JobError::NotVerified))
    }

    async fn submit_to_end(
        &self,
        job: JobId,
        submit: Submit,
        wait: Duration,
    ) -> Result<Verdict, JobError> {
        self.check_upload(&submit.proof).await?;
        let submitted = self.0.store.submit(job, &submit, self.now().await?).await?;
        let wanted = match self.noted(submitted) {
            Submitted::Judged(verdict) => return Ok(verdict),
            Submitted::Verify(wanted) => wanted,
        };
        let mut verdict = {
            let key = (job, submit.lease, submit.proof.sha256);
            let mut verifying = self.0.verifying.lock().unwrap_or_else(PoisonError::into_inner);
            match verifying.get(&key) {
                Some(running) => running.clone(),
                None => {
                    let (tell, verdict) = watch::channel(None);
                    verifying.insert(key, verdict.clone());
                    let this = self.clone();
                    self.0.tasks.spawn(async move {
                        match this.verify(job, &submit, wanted).await {
                            Ok(found) => drop(tell.send(Some(found))),
                            Err(error) => {
                                tracing::error!(code = "submission_unjudged", %job, %error, "submission could not be judged")
                            }
                        }
                        this.0
                            .verifying
                            .lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .remove(&key);
                    });
                    verdict
                }
            }
        };
        match tokio::time::timeout(wait, verdict.wait_for(Option::is_some)).await {
            Ok(Ok(verdict)) => verdict.clone().ok_or(JobError::NotVerified),
            Ok(Err(_gave_up)) => Err(JobError::NotVerified),
            Err(_elapsed) => Ok(Verdict::Pending { retry_after_ms: 1_000 }),
        }
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
        self.judge_left(now).await
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
            let judged = async {
                let now = self.now().await?;
                let before = Timestamp(now.0.saturating_sub(crate::clock::millis(patience)));
                self.judge_left(before).await
            };
            if let Err(error) = judged.await {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(
                    code = "submissions_unread",
                    error,
                    "open submissions could not be read"
                );
            }
        }
    }

    async fn judge_left(&self, before: Timestamp) -> Result<(), StoreError> {
        for (job, submit) in self.0.store.unjudged(before).await? {
            let this = self.clone();
            self.0.tasks.spawn(async move {
                if let Err(error) = this.submit(job, submit, None).await {
                    tracing::warn!(code = "submission_unjudged", %job, %error, "open submission could not be verified");
                }
            });
        }
        Ok(())
    }
}
