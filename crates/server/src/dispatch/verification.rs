//! One proof is verified on a thread of its own when its turn comes, judged, and acknowledged when that is durable.

use super::{JobError, Jobs, queue::Ticket};
use crate::{
    artifacts::ArtifactError,
    jobs::{
        batch::{Wanted, WantedPart},
        cost::ProvingCost,
        verification,
    },
    observe::traces,
    store::StoreError,
};
use protocol::{ArtifactId, ArtifactRef, JobId, PartWork, Submit, Verdict};
use std::time::{Instant, SystemTime};

impl Jobs {
    pub(super) async fn verify(
        &self,
        job: JobId,
        submit: &Submit,
        wanted: Wanted,
        ticket: &Ticket,
    ) -> Result<Verdict, JobError> {
        let _permit = tokio::select! {
            biased;
            // It is written down: the next start goes on with it.
            () = self.0.stopping.cancelled() => return Err(JobError::NotVerified),
            permit = ticket.turn() => permit,
        };
        let proof = match self.0.artifacts.read(submit.proof.sha256).await {
            Err(error @ (ArtifactError::Missing(_) | ArtifactError::Damaged(_))) => {
                self.lose_proof(job, submit, &error).await?;
                return Err(JobError::ProofMissing(submit.proof.sha256));
            }
            other => other?,
        };
        let plan = match &wanted.part {
            Some(part) => match self.plan_of(part).await {
                Ok(plan) => Some(plan),
                Err(
                    error @ (JobError::Artifacts(
                        ArtifactError::Missing(_) | ArtifactError::Damaged(_),
                    )
                    | JobError::Plan { .. }),
                ) => {
                    self.plan_lost(part.of.parent, part.plan, &error).await?;
                    return Err(JobError::NotVerified);
                }
                Err(error) => return Err(error),
            },
            None => None,
        };
        let part = wanted.part.clone();
        let (policy, message) = (self.0.rules.policy, submit.clone());
        let (effort, system, kind) = (wanted.effort, wanted.target.system, wanted.target.kind);
        let (begun, begun_at) = (Instant::now(), SystemTime::now());
        let checked = tokio::task::spawn_blocking(move || {
            verification::check(&wanted, plan.as_ref(), &message, &proof, &policy)
        })
        .await;
        let checked = verification::outcome(checked);
        self.0.metrics.verified(system, begun.elapsed());
        let reason = checked.as_ref().err().map(ToString::to_string);
        traces::happened(job, "verify", begun_at, [], reason);
        let checked_at = SystemTime::now();
        let cycles = checked.as_ref().ok().copied().flatten();
        let judged = self.0.store.judge(job, submit, checked.map(drop), self.now().await?).await;
        let judged = judged.map_err(|error| match error {
            StoreError::NotSubmitted { proof, .. } => JobError::ProofMissing(proof),
            error => error.into(),
        })?;
        let verdict = self.noted(judged);
        let valid = !matches!(verdict, Verdict::Rejected { .. });
        self.0.queue.judged(ticket, valid, Instant::now());
        if verdict == Verdict::Accepted {
            // What is made of proofs says nothing about how fast blocks are proven.
            let speed = match kind.is_made_of_proofs() {
                true => None,
                false => speed_of(part.as_ref(), cycles, &effort),
            };
            // It is accepted whether or not this succeeds: the next proof tells as much.
            if (cycles.is_some() || speed.is_some())
                && let Err(error) =
                    self.0.store.record_shown(job, submit.client, cycles, speed).await
            {
                tracing::info!(%job, %error, "what the proof cost was not noted");
            }
            match part {
                // Its gas counted when its batches were proved.
                None if kind.is_made_of_proofs() => {
                    self.0.proved.notify_one();
                }
                None => {
                    self.0.metrics.proved(system, &effort);
                    self.0.proved.notify_one();
                }
                Some(part) => {
                    self.part_proved(submit, &part, effort.time);
                    // If it fails, whoever looks after the parts does it.
                    if part.of.work == PartWork::Finish
                        && let Some((_, whole)) = self.0.store.finished(part.of.parent).await?
                        && let Err(error) = self.whole_proved(part.of.parent, whole).await
                    {
                        tracing::info!(job = %part.of.parent, %error, "the proof of the last part was not handed in at once");
                    }
                }
            }
            traces::happened(job, "accept", checked_at, [], None);
        }
        match &verdict {
            Verdict::Rejected { reason } => {
                tracing::warn!(code = "proof_rejected", %job, client = %submit.client, proof = %submit.proof.sha256, %reason, "proof rejected");
            }
            verdict => tracing::info!(%job, client = %submit.client, ?verdict, "proof verified"),
        }
        self.forget(submit.lease);
        self.0.line.news();
        Ok(verdict)
    }

    /// Has a job divided anew whose plan is gone or damaged: nobody can check its parts.
    pub(super) async fn plan_lost(
        &self,
        job: JobId,
        plan: ArtifactRef,
        error: &JobError,
    ) -> Result<(), JobError> {
        tracing::error!(code = "plan_lost", %job, %error, "the plan of a job's parts is lost; the job is divided anew");
        self.make_room_for(plan.sha256).await?;
        self.0.store.divide_again(job, self.now().await?).await?;
        self.0.parts_changed.notify_waiters();
        Ok(())
    }

    /// Removes what is left of an artifact that is damaged: otherwise the bytes that make up for it would not be stored.
    pub(super) async fn make_room_for(&self, artifact: ArtifactId) -> Result<(), JobError> {
        match self.0.artifacts.delete(artifact).await {
            Ok(()) | Err(ArtifactError::Missing(_)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Closes an open submission whose bytes are gone or damaged. That is the server's fault: the job is ready for others, and
    /// a client that submits the proof again is asked for its bytes.
    pub(super) async fn lose_proof(
        &self,
        job: JobId,
        submit: &Submit,
        error: &(dyn std::error::Error + Send + Sync),
    ) -> Result<(), JobError> {
        let proof = submit.proof.sha256;
        if let Err(ArtifactError::Damaged(_)) = self.0.artifacts.read(proof).await {
            self.make_room_for(proof).await?;
        }
        if self.0.store.lose_proof(job, submit, self.now().await?).await? {
            tracing::error!(
                code = "proof_lost", %job, client = %submit.client, %proof, %error,
                "a proof that was handed in is lost before it was verified; the job is ready again"
            );
            self.forget(submit.lease);
            self.0.line.news();
        }
        Ok(())
    }
}

/// How many cycles a second a proof shows that its client proves: of a part that is a range of segments, or of a whole batch, of which
/// the proof may show the cycles (`shown`), or they are estimated.
fn speed_of(part: Option<&WantedPart>, shown: Option<u64>, effort: &ProvingCost) -> Option<u64> {
    let millis = u64::try_from(effort.time?.as_millis()).unwrap_or(u64::MAX).max(1);
    let cycles = match part {
        Some(part) => part.segment_cycles()?,
        None => shown.unwrap_or(effort.cycles),
    };
    Some(cycles.saturating_mul(1_000) / millis).filter(|speed| *speed > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::PartOf;
    use std::time::Duration;

    #[test]
    fn a_client_is_as_fast_as_its_proof_shows() {
        let effort = |seconds| ProvingCost {
            time: Some(Duration::from_secs(seconds)),
            gas: 0,
            cycles: 3 << 20,
        };
        assert_eq!(speed_of(None, None, &effort(2)), Some(3 << 19), "estimated");
        assert_eq!(speed_of(None, Some(1 << 20), &effort(2)), Some(1 << 19), "shown by the proof");
        let late = ProvingCost { time: None, ..effort(2) };
        assert_eq!(speed_of(None, None, &late), None, "nobody knows how long a late proof took");
        assert_eq!(speed_of(None, Some(0), &effort(2)), None);
        let part = |work| WantedPart {
            of: PartOf { parent: JobId::from_bytes([1; 16]), work },
            plan: ArtifactRef::of(b"plan"),
            segment_po2: 20,
        };
        let segments = part(PartWork::Segments { first: 4, end: 8 });
        assert_eq!(speed_of(Some(&segments), None, &effort(4)), Some(1 << 20));
        assert_eq!(speed_of(Some(&part(PartWork::Finish)), None, &effort(4)), None);
        let huge = WantedPart { segment_po2: u32::MAX, ..segments };
        assert!(speed_of(Some(&huge), None, &effort(1)).is_some());
    }
}
