//! Jobs: what clients may do with them, step by step.
//!
//! [`state`](crate::jobs::state) decides, [`store`](crate::store) remembers in a [`database`](crate::database) that other
//! servers ([`peers`]) may share, and [`Jobs`] is what the rest of the server talks to. A proof is acknowledged only after
//! it is durable and verified.

pub mod peers;

use crate::{
    artifacts::{ArtifactError, Artifacts},
    clock::Timestamp,
    database::News,
    jobs::{
        batch::{NewBatch, Target, Tip, Wanted},
        standing::Deed,
        state::Refused,
        verification,
    },
    observe::traces,
    store::{JobStore, Offer, StoreError, Submitted, Superseded},
};
use protocol::{
    Advice, ArtifactId, ArtifactRef, Capability, ClientId, Fail, Heartbeat, JobId, LeaseId, NoWork,
    NoWorkReason, Progress, ProofData, ProofSystem, Request, Response, Submit, Verdict,
};
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};
use tokio::sync::{Notify, Semaphore, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use verifier::Policy;

/// A request for work names at most so many capabilities.
const MAX_CAPABILITIES: usize = 16;

/// How long a submission is held open for its verdict.
const VERDICT_PATIENCE: Duration = Duration::from_secs(20);

/// Why a client's wish is not granted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JobError {
    /// The request makes no sense.
    #[error("{0}")]
    Malformed(String),
    /// The proof's bytes are not here.
    #[error("the proof has not been uploaded: PUT artifact {0} first")]
    ProofMissing(ArtifactId),
    /// The artifact is here, but of another length than announced.
    #[error("artifact {sha256} has {found} bytes, not {announced}")]
    WrongLength {
        /// The artifact.
        sha256: ArtifactId,
        /// The length announced.
        announced: u64,
        /// Its length.
        found: u64,
    },
    /// The jobs could not be read or written, or the event does not apply.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The artifacts could not be read or written.
    #[error(transparent)]
    Artifacts(#[from] ArtifactError),
    /// Verifying was given up; the submission stays open.
    #[error("the proof could not be verified now; submit it again")]
    NotVerified,
}

/// What clients may do with jobs. Clones share everything.
#[derive(Clone, Debug)]
pub struct Jobs(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: JobStore,
    artifacts: Artifacts,
    rules: JobsConfig,
    /// Notified whenever a job may have become ready.
    ready: Notify,
    /// Notified whenever a job left the ready ones, so that another may be prepared.
    taken: Notify,
    /// What live leases last said.
    progress: Mutex<HashMap<LeaseId, Progress>>,
    /// Proofs being verified, so that submitting twice verifies once.
    verifying: Mutex<HashMap<Verifying, watch::Receiver<Option<Verdict>>>>,
    permits: Semaphore,
    /// Whether an operator wants the leases to end.
    draining: AtomicBool,
    tasks: TaskTracker,
    stopping: CancellationToken,
}

type Verifying = (JobId, LeaseId, ArtifactId);

/// What the jobs' keeper has to know.
#[derive(Clone, Copy, Debug)]
pub struct JobsConfig {
    /// How long a lease runs without a heartbeat.
    pub lease: Duration,
    /// How often clients are told to send one.
    pub heartbeat: Duration,
    /// The longest time a request is held open.
    pub max_wait: Duration,
    /// Proofs verified at the same time.
    pub verify_threads: usize,
    /// The longest proof that can be uploaded, in bytes.
    pub max_proof_bytes: u64,
    /// Which proofs that prove nothing are accepted.
    pub policy: Policy,
}

impl Jobs {
    /// Takes charge of the jobs in `store`. Requests for work are answered at once when `stopping` is cancelled.
    pub fn new(
        store: JobStore,
        artifacts: Artifacts,
        rules: JobsConfig,
        stopping: CancellationToken,
    ) -> Self {
        Self(Arc::new(Inner {
            store,
            artifacts,
            rules,
            ready: Notify::new(),
            taken: Notify::new(),
            progress: Mutex::default(),
            verifying: Mutex::default(),
            permits: Semaphore::new(rules.verify_threads),
            draining: AtomicBool::new(false),
            tasks: TaskTracker::new(),
            stopping,
        }))
    }

    /// Where the jobs are kept.
    pub fn store(&self) -> &JobStore {
        &self.0.store
    }

    /// The time that counts for leases.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn now(&self) -> Result<Timestamp, StoreError> {
        self.0.store.now().await
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
                if let Err(error) = this.submit(job, submit).await {
                    tracing::warn!(code = "submission_unjudged", %job, %error, "open submission could not be verified");
                }
            });
        }
        Ok(())
    }

    /// Wakes those who wait for `news`, whichever server made it.
    pub fn wake(&self, news: News) {
        match news {
            News::Ready => self.0.ready.notify_waiters(),
            News::Taken => self.0.taken.notify_waiters(),
        }
    }

    /// Waits until no proof is being verified, then closes the store.
    pub async fn close(&self) {
        self.0.tasks.close();
        self.0.tasks.wait().await;
        self.0.store.close().await;
    }

    /// Takes in a batch and its job.
    ///
    /// # Errors
    /// [`StoreError::Unlinked`] if it does not continue the last one.
    pub async fn enqueue(&self, batch: &NewBatch, target: &Target) -> Result<JobId, StoreError> {
        let job = self.0.store.enqueue(batch, target, self.now().await?).await?;
        tracing::info!(%job, blocks = %batch.blocks, "job enqueued");
        self.0.ready.notify_waiters();
        Ok(job)
    }

    /// Takes every batch with a block from `from` on off the chain, because a reorg did so with the blocks: see
    /// [`JobStore::supersede`]. Clients that prove them are told to stop.
    ///
    /// # Errors
    /// [`StoreError::TipMoved`] or [`StoreError::Final`].
    pub async fn supersede(&self, from: u64, tip: Option<Tip>) -> Result<Superseded, StoreError> {
        let done = self.0.store.supersede(from, tip, self.now().await?).await?;
        let leases = done.leases.len();
        tracing::warn!(code = "reorg", from, batches = done.batches, leases, "batches superseded");
        for lease in &done.leases {
            self.forget(*lease);
        }
        self.0.taken.notify_waiters();
        Ok(done)
    }

    /// Waits until a job left the ready ones.
    pub async fn taken(&self) {
        self.0.taken.notified().await;
    }

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
            let (reason, wake) = match self
                .0
                .store
                .lease(request.client, &usable, lease, asked, now)
                .await?
            {
                Offer::Job(leased) => {
                    self.0.taken.notify_waiters();
                    tracing::info!(job = %leased.job, client = %request.client, blocks = %leased.blocks, "lease granted");
                    // Otherwise the client asks again for what it has.
                    if leased.lease.id == lease {
                        self.0.store.metrics().leased(leased.target.system, begun.elapsed());
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
            Err(StoreError::Refused { .. }) => {
                progress(None);
                Ok(Advice::Lost)
            }
            Err(other) => Err(other.into()),
        }
    }

    /// Judges a proof whose bytes have been uploaded. Returns [`Verdict::Pending`] if that takes long; submitting the
    /// same again joins the check under way.
    ///
    /// # Errors
    /// [`JobError::ProofMissing`] or [`JobError::WrongLength`] before anything is recorded; other errors leave the
    /// submission open.
    pub async fn submit(&self, job: JobId, submit: Submit) -> Result<Verdict, JobError> {
        let this = self.clone();
        // A task of its own: a client that hangs up does not stop what has begun.
        let task = self.0.tasks.spawn(async move { this.submit_to_end(job, submit).await });
        task.await.unwrap_or(Err(JobError::NotVerified))
    }

    async fn submit_to_end(&self, job: JobId, submit: Submit) -> Result<Verdict, JobError> {
        self.check_upload(&submit.proof).await?;
        let wanted = match self.0.store.submit(job, &submit, self.now().await?).await? {
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
        match tokio::time::timeout(VERDICT_PATIENCE, verdict.wait_for(Option::is_some)).await {
            Ok(Ok(verdict)) => verdict.clone().ok_or(JobError::NotVerified),
            Ok(Err(_gave_up)) => Err(JobError::NotVerified),
            Err(_elapsed) => Ok(Verdict::Pending { retry_after_ms: 1_000 }),
        }
    }

    /// Takes a lease back from a client that could not do it.
    ///
    /// # Errors
    /// [`JobError::Store`] if the lease is not the job's.
    pub async fn fail(&self, job: JobId, fail: &Fail) -> Result<(), JobError> {
        self.0.store.fail(job, fail, self.now().await?).await?;
        self.0.store.metrics().failed(fail.class);
        let class = opentelemetry::KeyValue::new("class", fail.class.name());
        traces::happened(job, "fail", SystemTime::now(), [class], Some(fail.class.name().into()));
        tracing::warn!(code = "client_failed", %job, client = %fail.client, class = %fail.class, message = ?fail.message, "client failed");
        self.forget(fail.lease);
        self.0.ready.notify_waiters();
        Ok(())
    }

    /// Gives a dead job fresh budgets.
    ///
    /// # Errors
    /// [`JobError::Store`] if it is not dead.
    pub async fn requeue(&self, job: JobId) -> Result<(), JobError> {
        self.0.store.requeue(job, self.now().await?).await?;
        self.0.ready.notify_waiters();
        Ok(())
    }

    /// Gives a job up; its client is told to stop.
    ///
    /// # Errors
    /// [`JobError::Store`] if it is proved.
    pub async fn cancel(&self, job: JobId) -> Result<(), JobError> {
        Ok(self.0.store.cancel(job, self.now().await?).await?)
    }

    /// Serves a job earlier or later than its age says.
    ///
    /// # Errors
    /// [`JobError::Malformed`] if the priority is not from -100 to 100.
    pub async fn prioritise(&self, job: JobId, priority: i32) -> Result<(), JobError> {
        if !(-100..=100).contains(&priority) {
            return Err(JobError::Malformed(format!(
                "a priority is a number from -100 to 100, not {priority}"
            )));
        }
        Ok(self.0.store.prioritise(job, priority).await?)
    }

    /// What an operator decides about a client.
    ///
    /// # Errors
    /// [`JobError::Store`] if nobody knows the client.
    pub async fn decide(&self, client: ClientId, deed: Deed) -> Result<(), JobError> {
        self.0.store.decide(client, deed, self.now().await?).await?;
        tracing::info!(%client, ?deed, "an operator decided about a client");
        self.0.ready.notify_waiters();
        Ok(())
    }

    /// Grants no more leases, or grants them again; until the next start.
    pub fn drain(&self, on: bool) {
        self.0.draining.store(on, Ordering::Relaxed);
        tracing::info!(on, "draining");
        self.0.ready.notify_waiters();
    }

    /// Whether it grants no leases, because an operator said so or the server stops.
    pub fn drains(&self) -> bool {
        self.0.draining.load(Ordering::Relaxed) || self.0.stopping.is_cancelled()
    }

    /// The newest jobs, oldest of them first, with what their clients last said.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn summaries(&self) -> Result<Vec<protocol::JobSummary>, StoreError> {
        let mut jobs = self.0.store.jobs().await?;
        let held = self.0.store.held().await?;
        let progress = self.0.progress.lock().unwrap_or_else(PoisonError::into_inner);
        for job in &mut jobs {
            let lease = held.iter().find(|(id, _)| *id == job.job).map(|(_, lease)| lease);
            job.progress = lease.and_then(|lease| progress.get(lease)).copied();
        }
        Ok(jobs)
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

    async fn verify(
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
        self.0.store.metrics().verified(system, begun.elapsed());
        let reason = checked.as_ref().err().map(ToString::to_string);
        traces::happened(job, "verify", begun_at, [], reason);
        let checked_at = SystemTime::now();
        let cycles = checked.as_ref().ok().copied().flatten();
        let valid = checked.map(drop).map_err(|reason| reason.to_string());
        let verdict = self.0.store.judge(job, submit, valid, self.now().await?).await?;
        if verdict == Verdict::Accepted {
            // It is accepted whether or not this succeeds: the next proof tells as much.
            if let Some(cycles) = cycles
                && let Err(error) = self.0.store.learn(job, cycles).await
            {
                tracing::info!(%job, %error, "what the proof cost was not noted");
            }
            self.0.store.metrics().proved(system, &effort);
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

    fn forget(&self, lease: LeaseId) {
        self.0.progress.lock().unwrap_or_else(PoisonError::into_inner).remove(&lease);
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
