//! From a proof on disk to a verdict, and failures that are reported to a server.

use super::{Worker, blocking, servers::back_off};
use crate::{
    Phase,
    api::CallError,
    journal::{Entry, JournalError},
    trace,
};
use protocol::{ErrorCode, Fail, FailureClass, Heartbeat, JobId, LeaseId, Verdict};
use std::time::Duration;
use tokio::time::Instant;

/// Attempts to tell the server of a failure; after that the lease just runs out.
const FAIL_ATTEMPTS: u32 = 3;

impl Worker {
    /// Hands a kept proof in, to the server that lent the job or to another one that knows it. `most` is the former's limit
    /// in bytes, if it is known. Returns whether the proof was judged; it is kept otherwise.
    pub(super) async fn hand_in(
        &mut self,
        entry: &Entry,
        most: Option<u64>,
    ) -> Result<bool, JournalError> {
        self.status.send_modify(|status| status.phase = Phase::Submitting { job: entry.job });
        let home = self.server_index(entry.server.as_deref());
        let others = (0..self.servers.len()).filter(|server_index| Some(*server_index) != home);
        let mut strangers = 0;
        for server_index in home.into_iter().chain(others) {
            if self.servers[server_index].next > Instant::now() {
                continue;
            }
            let lender = home.is_none_or(|home| home == server_index);
            let attempt = async {
                if !lender {
                    // Asks whether it knows the job: the proof may be long.
                    let (client, lease) = (entry.submit.client, entry.submit.lease);
                    let beat = Heartbeat { client, lease, progress: None };
                    self.servers[server_index].api.heartbeat(&entry.job, beat).await?;
                }
                self.submit(server_index, entry, most.filter(|_| lender)).await
            };
            let attempt = tokio::select! {
                () = self.stop.now.cancelled() => return Ok(false),
                attempt = attempt => attempt,
            };
            let verdict = match attempt {
                Ok(verdict) => verdict,
                Err(CallError::Refused(error)) if error.code == ErrorCode::NoSuchJob => {
                    strangers += 1;
                    // Asking again cannot help if nobody knows it; the proof is kept all the same.
                    if strangers < self.servers.len() {
                        continue;
                    }
                    Verdict::Rejected { reason: error.to_string() }
                }
                Err(error) if error.retryable() || matches!(error, CallError::Disk(_)) => {
                    tracing::warn!(code = "proof_kept", job = %entry.job, "proof not handed in yet; it is kept");
                    self.avoid(server_index, &error);
                    continue;
                }
                Err(error) => {
                    let reason = error.to_string();
                    if lender && error.too_large() {
                        let (lease, class) = (entry.submit.lease, FailureClass::ProofTooLarge);
                        self.report(server_index, entry.job, lease, class, reason.clone()).await;
                    }
                    Verdict::Rejected { reason }
                }
            };
            // What another server holds against it does not count before the lender has seen it.
            if lender
                || strangers == self.servers.len()
                || !matches!(verdict, Verdict::Rejected { .. })
            {
                self.settle(entry, &verdict).await?;
                self.let_go(entry.submit.lease);
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Uploads a proof and submits it until it is judged.
    async fn submit(
        &self,
        server_index: usize,
        entry: &Entry,
        most: Option<u64>,
    ) -> Result<Verdict, CallError> {
        let (api, len) = (&self.servers[server_index].api, entry.submit.proof.len);
        // A body that is too long may be cut off before the server has said so: do not begin with it.
        if let Some(most) = most.filter(|most| len > *most) {
            return Err(CallError::ProofTooLarge { len, most });
        }
        // Ends with the verdict.
        let _span = trace::span(entry.traceparent.as_deref(), "submit");
        api.upload(&entry.submit.proof, &self.journal.proof_path(entry)).await?;
        loop {
            match api.submit(&entry.job, entry.submit.clone()).await? {
                Verdict::Pending { retry_after_ms } => {
                    let pause = Duration::from_millis(retry_after_ms);
                    tokio::time::sleep(pause.min(self.config.max_back_off)).await;
                }
                verdict => return Ok(verdict),
            }
        }
    }

    /// Does with a kept proof what the verdict says.
    async fn settle(&self, entry: &Entry, verdict: &Verdict) -> Result<(), JournalError> {
        let (journal, kept, judged) = (self.journal.clone(), entry.clone(), verdict.clone());
        let aside = blocking(move || match &judged {
            Verdict::Rejected { reason } => journal.put_aside(&kept, reason).map(Some),
            _ => journal.forget(&kept).map(|()| None),
        })
        .await?;
        self.status.send_modify(|status| {
            status.phase = Phase::Idle(None);
            match verdict {
                Verdict::Rejected { reason } => {
                    status.rejected += 1;
                    status.last_error = Some(format!("proof rejected: {reason}"));
                }
                Verdict::Duplicate | Verdict::Superseded => status.duplicate += 1,
                _ => status.accepted += 1,
            }
        });
        self.metrics.judged(verdict);
        match (verdict, aside) {
            (Verdict::Rejected { reason }, Some(path)) => {
                tracing::error!(code = "proof_rejected", job = %entry.job, %reason, kept = %path.display(), "proof rejected");
            }
            _ => tracing::info!(job = %entry.job, ?verdict, "proof acknowledged"),
        }
        Ok(())
    }

    pub(super) async fn report(
        &self,
        server_index: usize,
        job: JobId,
        lease: LeaseId,
        class: FailureClass,
        message: String,
    ) {
        let fail = Fail { client: self.journal.client(), lease, class, message };
        // A server that is gone shall not keep us; the lease runs out by itself.
        let _given_up =
            tokio::time::timeout(Duration::from_secs(10), self.try_report(server_index, job, fail))
                .await;
    }

    async fn try_report(&self, server_index: usize, job: JobId, fail: Fail) {
        for attempt in 0..FAIL_ATTEMPTS {
            match self.servers[server_index].api.fail(&job, fail.clone()).await {
                Err(error) if error.retryable() => {
                    tokio::time::sleep(back_off(attempt, Duration::from_secs(2), rand::random()))
                        .await;
                }
                Err(error) => {
                    return tracing::debug!(%job, %error, "server does not take the failure");
                }
                Ok(()) => return,
            }
        }
    }
}
