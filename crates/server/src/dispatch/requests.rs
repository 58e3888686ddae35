//! Requests for work, and what their clients say while they work: heartbeats and failures.

use super::{JobError, Jobs};
use crate::{
    jobs::state::Refused,
    observe::traces,
    store::{Offer, StoreError},
};
use protocol::{
    Advice, Capability, Fail, Heartbeat, JobId, LeaseId, NoWork, NoWorkReason, Progress, ProofData,
    ProofSystem, Request, Response,
};
use std::{
    sync::PoisonError,
    time::{Duration, Instant, SystemTime},
};
use verifier::Policy;

/// A request for work names at most so many capabilities.
const MAX_CAPABILITIES: usize = 16;

impl Jobs {
    /// Answers a request for work with `Response` or `NoWork`, as soon as there is a job or the client's patience ends.
    ///
    /// # Errors
    /// [`JobError`] if the request makes no sense or the database fails.
    pub async fn request(&self, request: &Request) -> Result<ProofData, JobError> {
        if request.capabilities.len() > MAX_CAPABILITIES {
            return Err(JobError::Malformed(format!(
                "a request names at most {MAX_CAPABILITIES} capabilities"
            )));
        }
        if let Some(origin) = &request.origin {
            let instances = self.0.instances.lock();
            let mut instances = instances.unwrap_or_else(PoisonError::into_inner);
            if !instances.is_latest(request.client, origin.instance) {
                tracing::warn!(code = "folder_cloned", client = %request.client, name = ?origin.name, host = ?origin.host, "two processes use one client's id; the earlier one is told to stop");
                return Ok(no_work(NoWorkReason::AnotherInstance, Duration::from_secs(30)));
            }
        }
        let (begun, asked_at) = (Instant::now(), SystemTime::now());
        let policy = self.0.rules.policy;
        let (mut usable, mut refused) = (Vec::new(), None);
        for capability in &request.capabilities {
            match refusal(capability, &policy) {
                None => usable.push(capability.clone()),
                Some(reason) => refused = Some(reason),
            }
        }
        if usable.is_empty()
            && let Some(reason) = refused
        {
            return Ok(ProofData::NoWork(NoWork { reason, retry_after_ms: 30_000 }));
        }
        let asked = self.now().await?;
        let deadline = asked + Duration::from_millis(request.wait_ms).min(self.0.rules.max_wait);
        loop {
            if self.drains() {
                return Ok(no_work(NoWorkReason::Draining, Duration::from_secs(1)));
            }
            // ORDER: listen before looking, or a job that becomes ready in between is missed.
            let mut ready = std::pin::pin!(self.0.ready.notified());
            ready.as_mut().enable();
            let now = self.now().await?;
            let lease = LeaseId::from_bytes(rand::random());
            let leasing = self.0.store.lease(request.client, &usable, lease, asked, now);
            let (reason, wake) = match self.noted(leasing.await?) {
                Offer::Job(leased) => {
                    self.0.taken.notify_waiters();
                    tracing::info!(job = %leased.job, client = %request.client, blocks = %leased.blocks, "lease granted");
                    // Otherwise the client asks again for what it has.
                    if leased.lease.id == lease {
                        self.0.metrics.leased(leased.target.system, begun.elapsed());
                    }
                    let client = request.client.to_string();
                    let traceparent = traces::leased(leased.job, client, asked_at);
                    return Ok(ProofData::Response(Response {
                        job: leased.job,
                        lease: leased.lease.id,
                        ttl_ms: crate::clock::millis(self.0.rules.lease),
                        heartbeat_ms: crate::clock::millis(self.0.rules.heartbeat),
                        block_numbers: leased.blocks,
                        system: leased.target.system,
                        program_id: leased.target.program_id,
                        kind: leased.target.kind,
                        prover_inputs: leased.input,
                        max_proof_bytes: Some(self.0.rules.max_proof_bytes),
                        traceparent,
                    }));
                }
                Offer::Draining => (NoWorkReason::Draining, None),
                Offer::Quarantined => (NoWorkReason::Quarantined, None),
                Offer::Resting { until } => (NoWorkReason::Resting, Some(until)),
                Offer::Nothing { for_others: true, next } => (NoWorkReason::NotCapable, next),
                Offer::Nothing { for_others: false, next } => (NoWorkReason::NothingReady, next),
            };
            if now >= deadline {
                let soon = wake.map_or(Duration::from_secs(1), |wake| wake.after(now));
                return Ok(no_work(
                    reason,
                    soon.clamp(Duration::from_millis(100), Duration::from_secs(30)),
                ));
            }
            let wake = wake.map_or(deadline, |wake| wake.min(deadline)).after(now);
            tokio::select! {
                () = ready => {}
                () = tokio::time::sleep(wake.max(Duration::from_millis(10))) => {}
                () = self.0.stopping.cancelled() => {}
            }
        }
    }

    /// Keeps a lease alive and says what to do.
    ///
    /// # Errors
    /// [`JobError::Store`] if the database fails. A lease that is gone is an answer, not an error.
    pub async fn heartbeat(&self, job: JobId, beat: &Heartbeat) -> Result<Advice, JobError> {
        let progress = |set: Option<Progress>| {
            let mut all = self.0.progress.lock().unwrap_or_else(PoisonError::into_inner);
            match set {
                Some(progress) => all.insert(beat.lease, progress),
                None => all.remove(&beat.lease),
            };
        };
        match self.0.store.heartbeat(job, beat.lease, self.now().await?).await {
            Ok(standing) => {
                progress(beat.progress);
                // A server that stops or drains comes back: its clients go on proving meanwhile.
                Ok(if standing.draining { Advice::Drain } else { Advice::Continue })
            }
            Err(StoreError::Refused {
                refused: Refused::Proved | Refused::Dead | Refused::Superseded,
                ..
            }) => {
                progress(None);
                Ok(Advice::Cancel)
            }
            Err(StoreError::Refused { refused, .. }) => {
                progress(None);
                if refused == Refused::Quarantined {
                    self.0.ready.notify_waiters();
                }
                Ok(Advice::Lost)
            }
            Err(other) => Err(other.into()),
        }
    }

    /// Takes a lease back from a client that could not do it.
    ///
    /// # Errors
    /// [`JobError::Store`] if the lease is not the job's.
    pub async fn fail(&self, job: JobId, fail: &Fail) -> Result<(), JobError> {
        self.0.store.fail(job, fail, self.now().await?).await?;
        self.0.metrics.failed(fail.class);
        let class = opentelemetry::KeyValue::new("class", fail.class.name());
        traces::happened(job, "fail", SystemTime::now(), [class], Some(fail.class.name().into()));
        tracing::warn!(code = "client_failed", %job, client = %fail.client, class = %fail.class, message = ?fail.message, "client failed");
        self.forget(fail.lease);
        self.0.ready.notify_waiters();
        Ok(())
    }
}

/// Why no job may be given to a client with `capability`, if its proofs would be refused anyway.
fn refusal(capability: &Capability, policy: &Policy) -> Option<NoWorkReason> {
    let believed = match capability.system {
        ProofSystem::Exec => policy.danger_accept_exec,
        _ => !capability.mocked || policy.danger_accept_dev_mode,
    };
    if verifier::check_not_revoked(&capability.program_id.0).is_err() {
        Some(NoWorkReason::ProgramRevoked)
    } else if !believed {
        Some(NoWorkReason::MockedProofsRefused)
    } else {
        None
    }
}

fn no_work(reason: NoWorkReason, retry_after: Duration) -> ProofData {
    ProofData::NoWork(NoWork { reason, retry_after_ms: crate::clock::millis(retry_after) })
}
