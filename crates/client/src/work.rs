//! The client's round: hand in what is finished, ask for a job, fetch, prove, keep, hand in.

use crate::{
    Config, JobInfo, Phase, Status,
    api::{Api, CallError},
    exec::panic_text,
    journal::{Entry, Journal, JournalError},
    prover::{Cancel, ProveError, Prover},
};
use protocol::{
    Advice, ArtifactRef, Capability, ErrorCode, Fail, FailureClass, Heartbeat, JobId, LeaseId,
    NoWorkReason, Progress, ProofData, Request, Response, Submit, Verdict,
};
use std::{io, path::PathBuf, sync::Arc, thread, time::Duration};
use tokio::{
    runtime,
    sync::{oneshot, watch},
};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Attempts to tell the server of a failure; after that the lease just runs out.
const FAIL_ATTEMPTS: u32 = 3;

/// What a client is made of.
pub struct Worker {
    config: Config,
    api: Api,
    journal: Arc<Journal>,
    prover: Arc<dyn Prover>,
    status: watch::Sender<Status>,
    stopping: CancellationToken,
    beats: Beats,
    /// Set when the server says that no more jobs are to be asked for.
    drained: Cancel,
}

impl Worker {
    /// Puts a client together.
    pub fn new(
        config: Config,
        api: Api,
        beats: Beats,
        journal: Arc<Journal>,
        prover: Arc<dyn Prover>,
        status: watch::Sender<Status>,
        stopping: CancellationToken,
    ) -> Self {
        Self { config, api, journal, prover, status, stopping, beats, drained: Cancel::new() }
    }

    /// Works until it is stopped.
    pub async fn run(mut self) {
        let stopping = self.stopping.clone();
        let mut failures = 0;
        while !stopping.is_cancelled() {
            match self.round().await {
                Ok(()) => failures = 0,
                Err(error) => {
                    tracing::warn!(%error, "no luck; trying again");
                    let phase = Phase::Unreachable { error: error.to_string() };
                    self.status.send_modify(|status| status.phase = phase);
                    self.pause(back_off(failures, self.config.max_back_off, rand::random())).await;
                    failures = failures.saturating_add(1);
                }
            }
        }
        self.status.send_modify(|status| status.phase = Phase::Stopped);
    }

    /// One job, or one pause.
    async fn round(&mut self) -> Result<(), CallError> {
        let journal = self.journal.clone();
        let open = blocking(move || journal.open_entries()).await.map_err(disk)?;
        for entry in open {
            self.hand_in(&entry, None).await?;
            if self.stopping.is_cancelled() {
                return Ok(());
            }
        }
        if self.drained.is_set() {
            self.stopping.cancelled().await;
            return Ok(());
        }
        let request = Request {
            client: self.journal.client(),
            capabilities: vec![Capability {
                system: self.prover.system(),
                program_id: self.prover.program_id(),
                mocked: self.prover.danger().is_some(),
            }],
            wait_ms: u64::try_from(self.config.wait.as_millis()).unwrap_or(u64::MAX),
        };
        let answer = tokio::select! {
            () = self.stopping.cancelled() => return Ok(()),
            answer = self.api.request(request) => answer?,
        };
        match answer {
            ProofData::Response(job) => self.work_on(job).await,
            ProofData::NoWork(no_work) => {
                if no_work.reason != NoWorkReason::NothingReady {
                    tracing::info!(reason = ?no_work.reason, "server has no job for this client");
                }
                self.status.send_modify(|status| status.phase = Phase::Idle(Some(no_work.reason)));
                self.pause(
                    Duration::from_millis(no_work.retry_after_ms).min(self.config.max_back_off),
                )
                .await;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Fetches, proves, keeps and hands in. Failures are reported to the server.
    async fn work_on(&mut self, job: Response) -> Result<(), CallError> {
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
            api: self.beats.api.clone(),
            client: self.journal.client(),
            job: job.job,
            lease: job.lease,
            cancel: cancel.clone(),
            drained: self.drained.clone(),
        };
        let beating =
            self.beats.keep(beat, Duration::from_millis(job.heartbeat_ms.max(1)), watching);
        let finished = self.fetch_and_prove(&job, &mut info, &cancel, progress).await;
        let (class, message) = match finished {
            Ok(entry) => {
                // The lease is kept until the proof is judged: uploading may take its time.
                let handed_in = self.hand_in(&entry, job.max_proof_bytes).await;
                drop(beating);
                return handed_in;
            }
            Err(NotProved::Prove(error)) => (error.class(), error.to_string()),
            // Asking again gets the same lease, and the input is fetched again.
            Err(NotProved::Fetch(error)) if error.retryable() => return Err(error),
            Err(NotProved::Fetch(error)) => (fetch_class(&error), error.to_string()),
        };
        drop(beating);
        tracing::warn!(job = %job.job, %class, %message, "job not proved");
        self.status.send_modify(|status| {
            status.phase = Phase::Idle(None);
            status.failed += 1;
            status.last_error = Some(message.clone());
        });
        self.report(job.job, job.lease, class, message).await;
        Ok(())
    }

    async fn fetch_and_prove(
        &self,
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
        let path = self.journal.input_path(&job.job);
        let fetched = tokio::select! {
            () = self.stopping.cancelled() => {
                cancel.set();
                return Err(NotProved::Prove(ProveError::Cancelled));
            }
            fetched = self.api.download(&job.prover_inputs, &path) => fetched,
        };
        fetched.map_err(NotProved::Fetch)?;
        self.status.send_modify(|status| status.phase = Phase::Proving(*info));
        let proof =
            self.prove(job, path, info, cancel, progress).await.map_err(NotProved::Prove)?;
        let entry = Entry {
            job: job.job,
            submit: Submit {
                client: self.journal.client(),
                lease: job.lease,
                system: job.system,
                program_id: job.program_id,
                kind: job.kind,
                proof: ArtifactRef::of(&proof),
            },
        };
        // ORDER: on disk before the server hears of it: from here on no crash loses the proof.
        let proof: Arc<[u8]> = proof.into();
        loop {
            let (journal, kept, proof) = (self.journal.clone(), entry.clone(), proof.clone());
            let Err(error) = blocking(move || journal.keep(&kept, &proof)).await else { break };
            // A full disk may have room again; a proof is worth the wait.
            tracing::error!(job = %job.job, %error, "finished proof cannot be written; trying again");
            self.status.send_modify(|status| status.last_error = Some(error.to_string()));
            if self.stopping.is_cancelled() {
                return Err(NotProved::Prove(ProveError::Cancelled));
            }
            self.pause(Duration::from_secs(2)).await;
        }
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
                () = self.stopping.cancelled(), if !stopped => {
                    stopped = true;
                    cancel.set();
                }
            }
        };
        // The thread has sent its result: it is at its end.
        let _ended = thread.join();
        result
    }

    /// Uploads and submits a kept proof until the server has judged it. It is kept otherwise. `most` is the server's limit
    /// in bytes, if it is known.
    async fn hand_in(&self, entry: &Entry, most: Option<u64>) -> Result<(), CallError> {
        let len = entry.submit.proof.len;
        self.status.send_modify(|status| status.phase = Phase::Submitting { job: entry.job });
        let path = self.journal.proof_path(entry);
        let mut failures = 0;
        let mut uploaded = false;
        let verdict = loop {
            if self.stopping.is_cancelled() {
                return Ok(());
            }
            let attempt = async {
                // A body that is too long may be cut off before the server has said so: do not begin with it.
                if let Some(most) = most.filter(|most| len > *most) {
                    return Err(CallError::ProofTooLarge { len, most });
                }
                if !uploaded {
                    self.api.upload(&entry.submit.proof, &path).await?;
                }
                self.api.submit(&entry.job, entry.submit.clone()).await
            };
            let attempt = tokio::select! {
                () = self.stopping.cancelled() => return Ok(()),
                attempt = attempt => attempt,
            };
            match attempt {
                Ok(Verdict::Pending { retry_after_ms }) => {
                    uploaded = true;
                    self.pause(Duration::from_millis(retry_after_ms)).await;
                }
                Ok(verdict) => break verdict,
                Err(error) if error.retryable() || matches!(error, CallError::Disk(_)) => {
                    tracing::warn!(job = %entry.job, %error, "proof not handed in yet; it is kept");
                    uploaded = false;
                    let text = error.to_string();
                    self.status
                        .send_modify(|status| status.phase = Phase::Unreachable { error: text });
                    self.pause(back_off(failures, self.config.max_back_off, rand::random())).await;
                    failures = failures.saturating_add(1);
                }
                // The server does not know the job, say. Asking again cannot help; the proof is kept all the same.
                Err(error) => {
                    let reason = error.to_string();
                    if error.too_large() {
                        let (lease, class) = (entry.submit.lease, FailureClass::ProofTooLarge);
                        self.report(entry.job, lease, class, reason.clone()).await;
                    }
                    break Verdict::Rejected { reason };
                }
            }
        };
        self.settle(entry, &verdict).await.map_err(disk)
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
                Verdict::Duplicate => status.duplicate += 1,
                _ => status.accepted += 1,
            }
        });
        match (verdict, aside) {
            (Verdict::Rejected { reason }, Some(path)) => {
                tracing::error!(job = %entry.job, %reason, kept = %path.display(), "proof rejected");
            }
            _ => tracing::info!(job = %entry.job, ?verdict, "proof acknowledged"),
        }
        Ok(())
    }

    async fn report(&self, job: JobId, lease: LeaseId, class: FailureClass, message: String) {
        let fail = Fail { client: self.journal.client(), lease, class, message };
        // A server that is gone shall not keep us; the lease runs out by itself.
        let _given_up =
            tokio::time::timeout(Duration::from_secs(10), self.try_report(job, fail)).await;
    }

    async fn try_report(&self, job: JobId, fail: Fail) {
        for attempt in 0..FAIL_ATTEMPTS {
            match self.api.fail(&job, fail.clone()).await {
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

    async fn pause(&self, pause: Duration) {
        tokio::select! {
            () = self.stopping.cancelled() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

enum NotProved {
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

/// A pause before the next attempt: doubling from a quarter second, and random (`dice`) between its half and its whole so
/// that clients do not come back all at once.
fn back_off(failures: u32, most: Duration, dice: u16) -> Duration {
    let full = (Duration::from_millis(250) * (1 << failures.min(16))).min(most);
    full.mul_f64(0.5 + 0.5 * f64::from(dice) / f64::from(u16::MAX))
}

fn disk(error: JournalError) -> CallError {
    CallError::Disk(io::Error::other(error))
}

async fn blocking<T: Send + 'static, E: Send + 'static>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, E> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// Heartbeats, from a thread, a runtime and connections of their own: neither proving nor a busy runtime delays them.
pub struct Beats {
    api: Api,
    runtime: runtime::Handle,
    _stop: DropGuard,
}

struct Beat {
    api: Api,
    client: protocol::ClientId,
    job: JobId,
    lease: LeaseId,
    cancel: Cancel,
    drained: Cancel,
}

impl Beats {
    /// Starts the thread. `api` must be used for nothing else.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn start(api: Api) -> io::Result<Self> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let (handle, stop) = (runtime.handle().clone(), CancellationToken::new());
        let stopped = stop.clone();
        thread::Builder::new()
            .name("heartbeat".into())
            .spawn(move || runtime.block_on(stopped.cancelled()))?;
        Ok(Self { api, runtime: handle, _stop: stop.drop_guard() })
    }

    /// Keeps the lease alive until the guard is dropped. Cancels when the server says so.
    fn keep(
        &self,
        beat: Beat,
        every: Duration,
        progress: watch::Receiver<Option<Progress>>,
    ) -> DropGuard {
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        self.runtime
            .spawn(async move { stopped.run_until_cancelled(beat.run(every, progress)).await });
        stop.drop_guard()
    }
}

impl Beat {
    async fn run(self, every: Duration, progress: watch::Receiver<Option<Progress>>) {
        let mut pause = every;
        while !self.cancel.is_set() {
            tokio::time::sleep(pause).await;
            let step = *progress.borrow();
            pause = match self.once(step).await {
                Ok(()) => every,
                // A server that does not answer may have missed it: the next one comes sooner.
                Err(error) => {
                    tracing::warn!(job = %self.job, %error, "heartbeat failed");
                    (every / 4).min(Duration::from_secs(2))
                }
            };
        }
    }

    async fn once(&self, progress: Option<Progress>) -> Result<(), CallError> {
        let advice = self
            .api
            .heartbeat(&self.job, Heartbeat { client: self.client, lease: self.lease, progress })
            .await;
        match advice {
            Ok(Advice::Continue) => {}
            Ok(Advice::Drain) => self.drained.set(),
            Ok(advice @ (Advice::Cancel | Advice::Lost)) => {
                tracing::warn!(job = %self.job, ?advice, "server says stop");
                self.cancel.set();
            }
            // The server does not know the job any more.
            Err(error) if !error.retryable() => self.cancel.set(),
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_with_jitter_up_to_the_most() {
        let most = Duration::from_secs(30);
        assert_eq!(back_off(0, most, u16::MAX), Duration::from_millis(250));
        assert_eq!(back_off(0, most, 0), Duration::from_millis(125));
        assert_eq!(back_off(3, most, u16::MAX), Duration::from_secs(2));
        assert_eq!(back_off(u32::MAX, most, u16::MAX), most);
    }
}
