//! From a lease to a proof on disk: fetches the input, proves it, keeps the proof. What a client that was killed had begun is
//! taken over, and a prover that fails again and again gets no more jobs.

use super::{Worker, blocking, heartbeat::Beat};
use crate::{
    JobInfo, Phase,
    api::CallError,
    exec::panic_text,
    journal::{Claim, Entry, JournalError},
    prover::{Cancel, ProveError},
    trace,
};
use opentelemetry::trace::{Span as _, Status as SpanStatus};
use protocol::{ErrorCode, FailureClass, LeaseId, Progress, Response};
use std::{io, path::PathBuf, sync::Arc, thread, time::Duration};
use tokio::{
    sync::{oneshot, watch},
    time::Instant,
};

/// A job is given back when so many clients, one after the other in this folder, were killed while they had it: it may be
/// what kills them.
const MAX_BEGUN: u32 = 3;

/// Pause before a proof is written to a full disk again.
const DISK_PAUSE: Duration = Duration::from_secs(2);

/// The fastest heartbeat a server may ask for.
const FASTEST_BEAT: Duration = Duration::from_millis(50);

impl Worker {
    /// Finds out what the last client in this folder was killed with. The server gives it to us again when we ask, unless it
    /// is of another prover: then it goes back.
    pub(super) async fn take_over(&mut self) {
        let journal = self.journal.clone();
        let Ok(Some(claim)) = blocking(move || journal.claimed()).await else { return };
        if (claim.system, claim.program_id) == (self.prover.system(), self.prover.program_id()) {
            tracing::info!(job = %claim.job, begun = claim.begun, "job found that a killed client had begun");
            if let Some(server_index) = self.server_index(Some(&claim.server)) {
                // Asked first, or the job would wait for its lease to run out.
                self.servers.swap(0, server_index);
            }
            self.claim = Some(Claim { begun: claim.begun.saturating_add(1), ..claim });
            return;
        }
        self.give_back(&claim, "the client was started again with another prover").await;
    }

    /// Gives back a job that was not finished, through nobody's fault.
    pub(super) async fn give_back(&mut self, claim: &Claim, why: &str) {
        if let Some(server_index) = self.server_index(Some(&claim.server)) {
            let class = FailureClass::Cancelled;
            self.report(server_index, claim.job, claim.lease, class, why.into()).await;
        }
        self.unclaim().await;
    }

    /// Notes that this job is at hand, for a client that comes after us.
    async fn note(&mut self, server_index: usize, job: &Response) -> Result<Claim, NotProved> {
        let claim = match self.claim.take() {
            // The server may have counted the killed client as lost and made another lease.
            Some(claim) if claim.job == job.job => Claim { lease: job.lease, ..claim },
            _ => Claim {
                server: self.servers[server_index].api.server().to_owned(),
                job: job.job,
                lease: job.lease,
                system: job.system,
                program_id: job.program_id,
                kind: job.kind,
                begun: 1,
                traceparent: job.traceparent.clone(),
            },
        };
        if claim.begun > MAX_BEGUN {
            return Err(NotProved::Deadly(claim.begun - 1));
        }
        let (journal, noted) = (self.journal.clone(), claim.clone());
        self.claim = Some(claim.clone());
        blocking(move || journal.claim(&noted))
            .await
            .map_err(|error| NotProved::Fetch(disk(error)))?;
        Ok(claim)
    }

    pub(super) async fn unclaim(&mut self) {
        self.claim = None;
        let journal = self.journal.clone();
        if let Err(error) = blocking(move || journal.unclaim()).await {
            tracing::warn!(code = "claim_not_removed", %error, "claim cannot be removed");
        }
    }

    /// Fetches, proves, keeps and hands in. Failures are reported to the server.
    pub(super) async fn work_on(
        &mut self,
        server_index: usize,
        job: Response,
    ) -> Result<(), JournalError> {
        let mut info = JobInfo {
            job: job.job,
            blocks: job.block_numbers,
            input_len: job.prover_inputs.len,
            progress: None,
        };
        self.status.send_modify(|status| status.phase = Phase::Downloading(info));
        tracing::info!(job = %job.job, blocks = %job.block_numbers, "job taken");

        let cancel = Cancel::new();
        let (progress, watching) = watch::channel(None);
        let beat = Beat {
            api: self.servers[server_index].beats.clone(),
            client: self.journal.client(),
            job: job.job,
            lease: job.lease,
            cancel: cancel.clone(),
            drained: self.servers[server_index].drained.clone(),
        };
        let every = Duration::from_millis(job.heartbeat_ms).max(FASTEST_BEAT);
        self.held.push((job.lease, self.beats.keep(beat, every, watching)));
        let finished = self.fetch_and_prove(server_index, &job, &mut info, &cancel, progress).await;
        let (class, message) = match finished {
            // The lease is kept until the proof is judged: uploading may take its time.
            Ok(entry) => {
                self.servers[server_index].failures = 0;
                self.breaker.proved();
                return self.hand_in(&entry, job.max_proof_bytes).await.map(drop);
            }
            Err(NotProved::Prove(error)) => {
                self.servers[server_index].failures = 0;
                (error.class(), error.to_string())
            }
            Err(NotProved::Fetch(error)) => {
                self.avoid(server_index, &error);
                if error.retryable() {
                    // Nobody is to blame, and another client may have more luck.
                    self.let_go(job.lease);
                    let class = FailureClass::Cancelled;
                    self.report(server_index, job.job, job.lease, class, error.to_string()).await;
                    self.unclaim().await;
                    return Ok(());
                }
                (fetch_class(&error), error.to_string())
            }
            Err(NotProved::Deadly(clients)) => (
                FailureClass::ClientInternal,
                format!(
                    "{clients} clients were killed while they had this job; the kernel's log may say why"
                ),
            ),
        };
        self.let_go(job.lease);
        tracing::warn!(code = "job_not_proved", job = %job.job, %class, %message, "job not proved");
        self.status.send_modify(|status| {
            status.phase = Phase::Idle(None);
            status.failed += 1;
            status.last_error = Some(message.clone());
        });
        self.metrics.failed(class);
        self.breaker.failed(class);
        self.open_breaker(&message);
        self.report(server_index, job.job, job.lease, class, message).await;
        self.unclaim().await;
        Ok(())
    }

    async fn fetch_and_prove(
        &mut self,
        server_index: usize,
        job: &Response,
        info: &mut JobInfo,
        cancel: &Cancel,
        progress: watch::Sender<Option<Progress>>,
    ) -> Result<Entry, NotProved> {
        if job.system != self.prover.system() || job.program_id != self.prover.program_id() {
            let error = format!("the job asks for {} program {}", job.system, job.program_id);
            return Err(NotProved::Fetch(CallError::Refused(protocol::ApiError {
                code: ErrorCode::Other,
                message: error,
                retryable: false,
                retry_after_ms: None,
            })));
        }
        let claim = self.note(server_index, job).await?;
        let path = self.journal.input_path(&job.job);
        let trace = job.traceparent.as_deref();
        let download = trace::span(trace, "download");
        let fetched = tokio::select! {
            () = self.stop.now.cancelled() => {
                cancel.set();
                return Err(NotProved::Prove(ProveError::Cancelled));
            }
            fetched = self.servers[server_index].api.download(&job.prover_inputs, &path) => fetched,
        };
        fetched.map_err(NotProved::Fetch)?;
        drop(download);
        let (mut span, begun) = (trace::span(trace, "prove"), Instant::now());
        self.status.send_modify(|status| status.phase = Phase::Proving(*info));
        let proof = self.prove(job, path, info, cancel, progress).await;
        if let (Some(span), Err(error)) = (&mut span, &proof) {
            span.set_status(SpanStatus::error(error.class().name()));
        }
        drop(span);
        let proof = proof.map_err(NotProved::Prove)?;
        self.metrics.proved(begun.elapsed());
        // ORDER: on disk before the server hears of it: from here on no crash loses the proof.
        let proof: Arc<[u8]> = proof.into();
        let entry = loop {
            let (journal, claim, proof) = (self.journal.clone(), claim.clone(), proof.clone());
            let error = match blocking(move || journal.keep(&claim, &proof)).await {
                Ok(entry) => break entry,
                Err(error) => error,
            };
            // A full disk may have room again; a proof is worth the wait.
            tracing::error!(code = "proof_not_written", job = %job.job, %error, "finished proof cannot be written; trying again");
            self.status.send_modify(|status| status.last_error = Some(error.to_string()));
            if self.stop.now.is_cancelled() {
                return Err(NotProved::Prove(ProveError::Cancelled));
            }
            // Not cut short by draining: it is what the grace time is for.
            let _stopped = tokio::time::timeout(DISK_PAUSE, self.stop.now.cancelled()).await;
        };
        self.claim = None;
        tracing::info!(job = %job.job, proof = %entry.submit.proof.sha256, "proof finished");
        Ok(entry)
    }

    /// Proves on a thread of its own, and passes progress on meanwhile.
    async fn prove(
        &self,
        job: &Response,
        input: PathBuf,
        info: &mut JobInfo,
        cancel: &Cancel,
        progress: watch::Sender<Option<Progress>>,
    ) -> Result<Vec<u8>, ProveError> {
        let (prover, flag, kind) = (self.prover.clone(), cancel.clone(), job.kind);
        let mut seen = progress.subscribe();
        let (tell, done) = oneshot::channel();
        let prove = move || {
            let report = |step| {
                progress.send_replace(Some(step));
            };
            let prove =
                std::panic::AssertUnwindSafe(|| prover.prove_file(&input, kind, &flag, &report));
            let result = std::panic::catch_unwind(prove)
                .unwrap_or_else(|panic| Err(ProveError::Failed(panic_text(&*panic).into())));
            // The file is not needed twice: a client that dies fetches it anew.
            let _gone = std::fs::remove_file(&input);
            let _nobody_waits = tell.send(result);
        };
        let thread = thread::Builder::new().name("prove".into()).spawn(prove);
        let thread = thread.map_err(|error| ProveError::Unavailable(error.into()))?;
        let mut done = std::pin::pin!(done);
        let mut stopped = false;
        let result = loop {
            tokio::select! {
                result = &mut done => {
                    break result.unwrap_or_else(|_| Err(ProveError::Failed("the proving thread vanished".into())));
                }
                Ok(()) = seen.changed() => {
                    info.progress = *seen.borrow_and_update();
                    self.status.send_modify(|status| status.phase = Phase::Proving(*info));
                }
                () = self.stop.now.cancelled(), if !stopped => {
                    stopped = true;
                    cancel.set();
                }
            }
        };
        // The thread has sent its result: it is at its end.
        let _ended = thread.join();
        result
    }

    /// Sends no more heartbeats for a lease.
    pub(super) fn let_go(&mut self, lease: LeaseId) {
        self.held.retain(|(held, _)| *held != lease);
    }

    /// Asks for no more work if the prover has failed too often.
    fn open_breaker(&mut self, error: &str) {
        let Some(pause) = self.breaker.open() else { return };
        tracing::error!(
            code = "prover_broken", %error, test_in = ?pause,
            "this prover fails again and again; it asks for no more work until a self-test has passed"
        );
        self.test_at = Some(Instant::now() + pause);
        self.status.send_modify(|status| status.phase = Phase::Broken { error: error.into() });
    }

    /// Tries whether the prover works again.
    pub(super) async fn self_test(&mut self) {
        let (tell, done) = oneshot::channel();
        let prover = self.prover.clone();
        let test = move || {
            let test = std::panic::AssertUnwindSafe(|| prover.self_test());
            let result = std::panic::catch_unwind(test)
                .unwrap_or_else(|panic| Err(ProveError::Failed(panic_text(&*panic).into())));
            let _nobody_waits = tell.send(result);
        };
        let started = thread::Builder::new().name("self-test".into()).spawn(test);
        let result = match started {
            Err(error) => Err(ProveError::unavailable(error)),
            // A thread that is left behind goes with the process.
            Ok(_thread) => tokio::select! {
                () = self.stop.draining.cancelled() => return,
                result = done => result
                    .unwrap_or_else(|_| Err(ProveError::Failed("the self-test vanished".into()))),
            },
        };
        self.breaker.tested(result.is_ok());
        self.test_at = None;
        match result {
            Ok(()) => {
                tracing::info!(code = "prover_recovered", "self-test passed; one job is tried");
                self.status.send_modify(|status| status.phase = Phase::Idle(None));
            }
            Err(error) => self.open_breaker(&error.to_string()),
        }
    }
}

/// Why a job was not proved.
enum NotProved {
    /// So many clients were killed while they had the job.
    Deadly(u32),
    Fetch(CallError),
    Prove(ProveError),
}

fn fetch_class(error: &CallError) -> FailureClass {
    match error {
        CallError::Refused(refused) if refused.code == ErrorCode::NoSuchArtifact => {
            FailureClass::InputMissing
        }
        CallError::Refused(_) => FailureClass::UnsupportedProgram,
        CallError::Corrupt(_) => FailureClass::InputCorrupt,
        CallError::Disk(_) | CallError::TooLarge { .. } => FailureClass::ClientInternal,
        _ => FailureClass::BackendUnavailable,
    }
}

fn disk(error: JournalError) -> CallError {
    CallError::Disk(io::Error::other(error))
}
