//! Requests for work, and what their clients say while they work: heartbeats and failures.

use super::{JobError, Jobs};
use crate::{
    artifacts::ArtifactError,
    jobs::{
        batch::Target,
        crew::{self, Share},
        party::Party,
        state::Refused,
    },
    observe::traces,
    store::{Offer, StoreError},
};
use protocol::{
    Advice, Capability, Fail, FailureClass, Heartbeat, JobId, LeaseId, NoWork, NoWorkReason,
    Progress, ProofData, ProofKind, ProofSystem, Request, Response,
};
use std::{
    sync::PoisonError,
    time::{Duration, Instant, SystemTime},
};
use verifier::Policy;

/// A request for work names at most so many capabilities.
const MAX_CAPABILITIES: usize = 16;

/// That a client was heard is written down again after so long: well within the time for which it counts as alive.
const HEARD_LATELY: Duration = Duration::from_secs(45);

/// A client that gets no work for now looks so often whether that changed at another server.
const BARRED_LOOK: Duration = Duration::from_secs(10);

impl Jobs {
    /// Answers a request for work, for which `party` is responsible, with `Response` or `NoWork`, as soon as there is a job or the client's patience ends.
    ///
    /// # Errors
    /// [`JobError`] if the request makes no sense or the database fails.
    pub async fn request(&self, request: &Request, party: Party) -> Result<ProofData, JobError> {
        if request.capabilities.len() > MAX_CAPABILITIES {
            return Err(JobError::Malformed(format!(
                "a request names at most {MAX_CAPABILITIES} capabilities"
            )));
        }
        if let Some(origin) = &request.origin {
            let (new, latest) = {
                let instances = self.0.instances.lock();
                let mut instances = instances.unwrap_or_else(PoisonError::into_inner);
                let new = instances.is_new((request.client, party), origin.instance);
                (new, instances.is_latest((request.client, party), origin.instance))
            };
            let changed = latest && {
                let said = self.0.descriptions.lock();
                let mut said = said.unwrap_or_else(PoisonError::into_inner);
                said.is_new(request.client, &request.capabilities)
            };
            if new || changed {
                let name = if origin.name.is_empty() { &origin.host } else { &origin.name };
                let now = self.now().await?;
                let store = &self.0.store;
                let note = store.describe_client(request.client, name, &request.capabilities, now);
                Box::pin(note).await?;
            }
            if !latest {
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
        let kinds_of = |able: &Capability| {
            let of = (able.system, able.program_id);
            able.kinds.iter().map(move |kind| (of.0, of.1, *kind)).collect::<Vec<_>>()
        };
        let kinds: Vec<_> = usable.iter().flat_map(kinds_of).collect();
        // Only who can prove parts of what is wanted, and hold some segments, helps.
        let helps = usable.iter().find(|able| {
            let wanted = |target: &Target| {
                (target.system, target.program_id) == (able.system, able.program_id)
            };
            able.makes(ProofKind::Part)
                && able.segment_po2.is_none_or(|po2| po2 >= *crew::SIZES.start())
                && self.targets().iter().any(wanted)
        });
        // ORDER: in the line before the first look, or a job that becomes ready in between is missed.
        let mut place = self.0.line.join(request.client, kinds.clone());
        let mut now = asked;
        loop {
            let mut changed = std::pin::pin!(self.0.changed.notified());
            changed.as_mut().enable();
            if self.drains() {
                return Ok(no_work(NoWorkReason::Draining, Duration::from_secs(1)));
            }
            // Boxed, so that who only waits keeps no room for them.
            let look = Box::pin(self.0.store.look(request.client, &usable, now)).await?;
            let lease = LeaseId::from_bytes(rand::random());
            let offer = match look.nothing(now) {
                Some(offer) => {
                    if look.last_seen.is_none_or(|seen| now.after(seen) > HEARD_LATELY) {
                        self.0.line.heard(request.client);
                    }
                    offer
                }
                None => {
                    let store = &self.0.store;
                    let share = match helps {
                        Some(_) => self.crew(|crew| crew.share(request.client, now)),
                        None => Share::ALL,
                    };
                    let leasing =
                        store.lease(request.client, party, &usable, lease, share, asked, now);
                    self.noted(Box::pin(leasing).await?)
                }
            };
            if matches!(offer, Offer::Job(_) | Offer::Nothing { .. }) {
                // ORDER: of the crew before it counts as able, or a job is lent whole because nobody seems to help.
                if let Some(able) = helps {
                    self.crew(|crew| crew.heard(request.client, able.segment_po2, now));
                }
                self.able(&kinds);
            }
            let (reason, wake, barred) = match offer {
                Offer::Job(leased) => {
                    place.served();
                    self.0.taken.notify_waiters();
                    tracing::info!(job = %leased.job, client = %request.client, blocks = %leased.blocks, "lease granted");
                    // Otherwise the client asks again for what it has.
                    if leased.lease.id == lease {
                        self.0.metrics.leased(leased.target.system, begun.elapsed());
                    }
                    // What it did not take of a part is another one's.
                    if leased.part.is_some() {
                        self.0.line.news();
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
                        part: leased.part,
                    }));
                }
                Offer::Draining => (NoWorkReason::Draining, None, true),
                Offer::Quarantined => (NoWorkReason::Quarantined, None, true),
                Offer::Resting { until } => (NoWorkReason::Resting, Some(until), true),
                Offer::Nothing { for_others: true, next } => {
                    (NoWorkReason::NotCapable, next, false)
                }
                Offer::Nothing { for_others: false, next } => {
                    (NoWorkReason::NothingReady, next, false)
                }
            };
            if now >= deadline {
                let soon = wake.map_or(Duration::from_secs(1), |wake| wake.after(now));
                return Ok(no_work(
                    reason,
                    soon.clamp(Duration::from_millis(100), Duration::from_secs(30)),
                ));
            }
            let until = if barred {
                place.aside();
                let look_again = now + BARRED_LOOK;
                deadline.min(wake.map_or(look_again, |wake| wake.min(look_again)))
            } else {
                place.again();
                self.0.line.expect(wake);
                deadline.min(now + HEARD_LATELY)
            };
            tokio::select! {
                () = place.called() => {}
                () = changed => {}
                () = tokio::time::sleep(until.after(now).max(Duration::from_millis(10))) => {}
                () = self.0.stopping.cancelled() => {}
            }
            now = self.now().await?;
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
        let now = self.now().await?;
        match self.0.store.heartbeat(job, beat.lease, now).await {
            Ok(standing) => {
                // The lease is its client's secret, so nobody else can pretend to be another process of it.
                if let Some(instance) = beat.instance {
                    let holders = self.0.holders.lock();
                    let mut holders = holders.unwrap_or_else(PoisonError::into_inner);
                    if !holders.is_latest(beat.lease, instance) {
                        tracing::warn!(code = "folder_cloned", client = %beat.client, %job, "two processes work under one lease; the earlier one is told to stop");
                        return Ok(Advice::Lost);
                    }
                }
                progress(beat.progress);
                self.crew(|crew| crew.heard_again(beat.client, now));
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
                if refused == Refused::HeldTooLong {
                    let taken = self.0.store.take_back(job, beat.lease, self.now().await?);
                    self.noted(taken.await?);
                }
                if matches!(refused, Refused::Quarantined | Refused::HeldTooLong) {
                    self.0.line.news();
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
        let blames_input =
            matches!(fail.class, FailureClass::InputMissing | FailureClass::InputCorrupt);
        if blames_input && self.lost_input_of(job, fail).await? {
            return Ok(());
        }
        self.0.store.fail(job, fail, self.now().await?).await?;
        self.0.metrics.failed(fail.class);
        let class = opentelemetry::KeyValue::new("class", fail.class.name());
        traces::happened(job, "fail", SystemTime::now(), [class], Some(fail.class.name().into()));
        tracing::warn!(code = "client_failed", %job, client = %fail.client, class = %fail.class, message = ?fail.message, "client failed");
        self.forget(fail.lease);
        self.0.line.news();
        Ok(())
    }
}

impl Jobs {
    /// Whether a client is right that the job's input is missing or damaged. Then nobody is to blame, the job rests, and the
    /// input is made again.
    async fn lost_input_of(&self, job: JobId, fail: &Fail) -> Result<bool, JobError> {
        let batch = self.0.store.input_of(job).await?;
        // Only who has the job makes the server read so much.
        if batch.lease != Some(fail.lease) {
            return Ok(false);
        }
        let error = match self.0.artifacts.read(batch.input.sha256).await {
            Ok(_) => return self.lost_part_of(job, fail).await,
            Err(error @ (ArtifactError::Missing(_) | ArtifactError::Damaged(_))) => error,
            Err(error) => return Err(error.into()),
        };
        if batch.kind.is_made_of_proofs() {
            self.bundle_lost(job, fail, batch.input.sha256, &error).await?;
            return Ok(true);
        }
        self.0.store.input_lost(job, fail, self.now().await?).await?;
        tracing::error!(code = "input_lost", %job, blocks = %batch.blocks, %error, "a job's input is lost; it is made again from the node");
        self.forget(fail.lease);
        self.0.lost_inputs.lock().unwrap_or_else(PoisonError::into_inner).insert(job);
        self.0.input_lost.notify_one();
        Ok(true)
    }
}

impl Jobs {
    /// Whether the plan of a part, or a proof that it is made of, is missing or damaged. Then nobody is to blame, and that is made again.
    async fn lost_part_of(&self, job: JobId, fail: &Fail) -> Result<bool, JobError> {
        let Some((parent, plan, proofs)) = self.0.store.made_so_far(job).await? else {
            return Ok(false);
        };
        let lost = |read: Result<Vec<u8>, ArtifactError>| match read {
            Ok(_) => Ok(None),
            Err(error @ (ArtifactError::Missing(_) | ArtifactError::Damaged(_))) => Ok(Some(error)),
            Err(error) => Err(JobError::from(error)),
        };
        let now = self.now().await?;
        if let Some(error) = lost(self.0.artifacts.read(plan.sha256).await)? {
            self.0.store.input_lost(job, fail, now).await?;
            self.plan_lost(parent, plan, &error.into()).await?;
            self.forget(fail.lease);
            return Ok(true);
        }
        let mut any = false;
        for (part, proof) in proofs {
            let Some(error) = lost(self.0.artifacts.read(proof.sha256).await)? else { continue };
            tracing::error!(code = "part_lost", job = %parent, %part, %error, "the proof of a part is lost; it is made again");
            if !any {
                self.0.store.input_lost(job, fail, now).await?;
            }
            any = true;
            self.make_room_for(proof.sha256).await?;
            self.0.store.forget_part(parent, part, now).await?;
        }
        if any {
            self.forget(fail.lease);
            self.0.parts_changed.notify_waiters();
        }
        Ok(any)
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
