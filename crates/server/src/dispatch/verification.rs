//! One proof is verified on a thread of its own, judged, and acknowledged when that is durable.

use super::{JobError, Jobs};
use crate::{
    jobs::{batch::Wanted, verification},
    observe::traces,
};
use protocol::{JobId, Submit, Verdict};
use std::time::{Instant, SystemTime};

impl Jobs {
    pub(super) async fn verify(
        &self,
        job: JobId,
        submit: &Submit,
        wanted: Wanted,
    ) -> Result<Verdict, JobError> {
        let _permit = self.0.permits.acquire().await.map_err(|_closed| JobError::NotVerified)?;
        let proof = self.0.artifacts.read(submit.proof.sha256).await?;
        let (policy, message) = (self.0.rules.policy, submit.clone());
        let (effort, system) = (wanted.effort, wanted.target.system);
        let (begun, begun_at) = (Instant::now(), SystemTime::now());
        let checked = tokio::task::spawn_blocking(move || {
            verification::check(&wanted, &message, &proof, &policy)
        })
        .await;
        let checked = verification::outcome(checked);
        self.0.metrics.verified(system, begun.elapsed());
        let reason = checked.as_ref().err().map(ToString::to_string);
        traces::happened(job, "verify", begun_at, [], reason);
        let checked_at = SystemTime::now();
        let cycles = checked.as_ref().ok().copied().flatten();
        let judged = self.0.store.judge(job, submit, checked.map(drop), self.now().await?).await?;
        let verdict = self.noted(judged);
        if verdict == Verdict::Accepted {
            // It is accepted whether or not this succeeds: the next proof tells as much.
            if let Some(cycles) = cycles
                && let Err(error) = self.0.store.record_proven_cycles(job, cycles).await
            {
                tracing::info!(%job, %error, "what the proof cost was not noted");
            }
            self.0.metrics.proved(system, &effort);
            traces::happened(job, "accept", checked_at, [], None);
        }
        match &verdict {
            Verdict::Rejected { reason } => {
                tracing::warn!(code = "proof_rejected", %job, client = %submit.client, proof = %submit.proof.sha256, %reason, "proof rejected");
            }
            verdict => tracing::info!(%job, client = %submit.client, ?verdict, "proof verified"),
        }
        self.forget(submit.lease);
        self.0.ready.notify_waiters();
        Ok(verdict)
    }
}
