//! From a lease to a proof on disk: fetches the input, proves it, keeps the proof. What a client that was killed had begun is
//! taken over, and a prover that fails again and again gets no more jobs.

use super::{Worker, hand_in::Owed, heartbeat::Beat, shared::blocking};
use crate::{
    JobInfo, Phase,
    api::CallError,
    exec::panic_text,
    journal::{Claim, Entry, JournalError, is_disk_full},
    prover::{Cancel, PartFiles, PartWork, ProveError, Prover},
    pulse::{Pulse, believed},
    trace,
};
use futures::{StreamExt, stream::FuturesUnordered};
use opentelemetry::trace::{Span as _, Status as SpanStatus};
use protocol::{ArtifactRef, ErrorCode, FailureClass, Progress, ProofKind, Response};
use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::Duration,
};
use tokio::{
    sync::{oneshot, watch},
    time::Instant,
};

/// A job is given back when so many clients, one after the other in this folder, were killed while they had it: it may be
/// what kills them.
const MAX_BEGUN: u32 = 3;

/// Pause before a proof is written to a full disk again.
const DISK_PAUSE: Duration = Duration::from_secs(2);

/// The fastest heartbeat a server may ask for, and the slowest.
const BEATS: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(60)];

impl Worker {
    /// Finds out what the last client in this folder was killed with. The server gives it to us again when we ask, unless it
    /// is of another prover: then it goes back.
    pub(super) async fn take_over(&mut self) {
        let journal = self.shared.journal.clone();
        let Ok(Some(claim)) = blocking(move || journal.claimed()).await else { return };
        let prover = &self.shared.prover;
        if claim.system == prover.system() && prover.makes(claim.program_id, claim.kind) {
            tracing::info!(job = %claim.job, begun = claim.begun, "job found that a killed client had begun");
            // Asked first, or the job would wait for its lease to run out.
            let lender = self.shared.server_index(Some(&claim.server));
            for (server_index, server) in self.shared.servers.iter().enumerate() {
                match lender {
                    Some(lender) if lender != server_index => server.comes_last(),
                    _ => server.comes_first(),
                }
            }
            self.claim = Some(Claim { begun: claim.begun.saturating_add(1), ..claim });
            return;
        }
        self.give_back(&claim, "the client was started again with another prover").await;
    }

    /// Gives back a job that was not finished, through nobody's fault.
    pub(super) async fn give_back(&mut self, claim: &Claim, why: &str) {
        if let Some(server_index) = self.shared.server_index(Some(&claim.server)) {
            let class = FailureClass::Cancelled;
            self.shared.report(server_index, claim.job, claim.lease, class, why.into()).await;
        }
        self.unclaim().await;
    }

    /// Notes that this job is at hand, for a client that comes after us.
    async fn note(&mut self, server_index: usize, job: &Response) -> Result<Claim, NotProved> {
        let claim = match self.claim.take() {
            // The server may have counted the killed client as lost and made another lease.
            Some(claim) if claim.job == job.job => Claim { lease: job.lease, ..claim },
            _ => Claim {
                server: self.shared.servers[server_index].api.server().to_owned(),
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
        let (journal, noted) = (self.shared.journal.clone(), claim.clone());
        self.claim = Some(claim.clone());
        blocking(move || journal.claim(&noted))
            .await
            .map_err(|error| NotProved::Fetch(disk(error)))?;
        Ok(claim)
    }

    pub(super) async fn unclaim(&mut self) {
        self.claim = None;
        let journal = self.shared.journal.clone();
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
        // A server of an earlier version knows no kinds, and may lend what this prover does not make.
        let kinds = self.shared.prover.kinds();
        if !kinds.contains(&job.kind) || (job.kind == ProofKind::Part) != job.part.is_some() {
            let names: Vec<_> = kinds.iter().map(ToString::to_string).collect();
            let (kind, made) = (job.kind, names.join(" and "));
            let error = format!(
                "it lends {kind} jobs, and this client's prover makes {made} proofs: run the server with --kind {made}, or another prover"
            );
            self.shared.rest(server_index, &error);
            self.shared.status.send_modify(|status| {
                status.phase = Phase::Idle(None);
                status.last_error = Some(error.clone());
            });
            let class = FailureClass::Cancelled;
            self.shared.report(server_index, job.job, job.lease, class, error).await;
            self.unclaim().await;
            return Ok(());
        }
        let mut info = JobInfo {
            job: job.job,
            blocks: job.block_numbers,
            input_len: job.prover_inputs.len,
            progress: None,
        };
        self.shared.status.send_modify(|status| status.phase = Phase::Downloading(info));
        tracing::info!(job = %job.job, blocks = %job.block_numbers, "job taken");

        let cancel = Cancel::new();
        let (progress, watching) = watch::channel(None);
        let servers = self.shared.servers.iter().enumerate();
        let others = servers.filter(|(other, _)| *other != server_index);
        let server = &self.shared.servers[server_index];
        let beat = Beat {
            lender: server.beats.clone(),
            others: others.map(|(_, server)| server.beats.clone()).collect(),
            client: self.shared.journal.client(),
            instance: self.shared.origin.instance,
            job: job.job,
            lease: job.lease,
            cancel: cancel.clone(),
            drained: server.drained.clone(),
        };
        // Two heartbeats at least before the lease runs out, whatever interval the server names.
        let half = Duration::from_millis(job.ttl_ms / 2);
        let every = Duration::from_millis(job.heartbeat_ms).min(half);
        let every = believed(every, BEATS[0], BEATS[1], 0);
        let beats = self.beats.keep(beat, every, watching);
        let finished = self.fetch_and_prove(server_index, &job, &mut info, &cancel, progress).await;
        let failure = match finished {
            // The lease is kept until the proof is judged: uploading may take its time.
            Ok(entry) => {
                self.shared.servers[server_index].recovered();
                self.breaker.proved();
                self.shared.status.send_modify(|status| status.phase = Phase::Idle(None));
                self.shared.owe(&entry, Some(server_index));
                let owed = Owed::new(entry, job.max_proof_bytes, Some(beats));
                // If the lane has ended, so does the client: the proof is on disk.
                let _ended = self.lanes[server_index].send(owed).await;
                return Ok(());
            }
            Err(failure) => failure,
        };
        drop(beats);
        let (class, message, full) = match failure {
            NotProved::Prove(error) => {
                self.shared.servers[server_index].recovered();
                // A prover that has no room for its files says so in words of its own.
                let full = says_disk_full(&error) || self.shared.room().is_err();
                (error.class(), error.to_string(), full && error.class() != FailureClass::Cancelled)
            }
            NotProved::Fetch(error) => {
                let full = matches!(&error, CallError::Disk(error) if is_disk_full(error));
                if !matches!(error, CallError::Disk(_)) {
                    self.shared.avoid(server_index, &error);
                }
                if error.retryable() {
                    // Nobody is to blame, and another client may have more luck.
                    let phase = Phase::Unreachable { error: error.to_string() };
                    self.shared.status.send_modify(|status| status.phase = phase);
                    let class = FailureClass::Cancelled;
                    let report = error.to_string();
                    self.shared.report(server_index, job.job, job.lease, class, report).await;
                    self.unclaim().await;
                    return Ok(());
                }
                (fetch_class(&error), error.to_string(), full)
            }
            NotProved::Deadly(clients) => (
                FailureClass::ClientInternal,
                format!(
                    "{clients} clients were killed while they had this job; the kernel's log may say why"
                ),
                false,
            ),
        };
        // Every class but one counts against the job, which can do nothing about this client's disk.
        let (class, message) = match full {
            true => (FailureClass::Cancelled, format!("the client's disk is full: {message}")),
            false => (class, message),
        };
        tracing::warn!(code = "job_not_proved", job = %job.job, %class, %message, "job not proved");
        self.shared.status.send_modify(|status| {
            status.phase = Phase::Idle(None);
            status.failed += 1;
            status.last_error = Some(message.clone());
        });
        self.shared.metrics.failed(class);
        if full {
            self.disk_full(&message);
        } else {
            self.breaker.failed(class);
            self.open_breaker(&message);
        }
        self.shared.report(server_index, job.job, job.lease, class, message).await;
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
        let prover = &self.shared.prover;
        if job.system != prover.system() || !prover.makes(job.program_id, job.kind) {
            let error = format!("the job asks for {} program {}", job.system, job.program_id);
            return Err(NotProved::Fetch(CallError::Refused(protocol::ApiError {
                code: ErrorCode::Other,
                message: error,
                retryable: false,
                retry_after_ms: None,
            })));
        }
        let claim = self.note(server_index, job).await?;
        let path = self.shared.journal.input_path(&job.job);
        let trace = job.traceparent.as_deref();
        let download = trace::span(trace, "download");
        let fetched = tokio::select! {
            () = self.shared.stop.now.cancelled() => {
                cancel.set();
                return Err(NotProved::Prove(ProveError::Cancelled));
            }
            fetched = self.fetch_all(server_index, job, &path) => fetched,
        };
        let part = fetched.map_err(NotProved::Fetch)?;
        drop(download);
        let (mut span, begun) = (trace::span(trace, "prove"), Instant::now());
        self.shared.status.send_modify(|status| status.phase = Phase::Proving(*info));
        let proof = self.prove(job, path, part, info, cancel, progress).await;
        if let (Some(span), Err(error)) = (&mut span, &proof) {
            span.set_status(SpanStatus::error(error.class().name()));
        }
        drop(span);
        let proof = proof.map_err(NotProved::Prove)?;
        self.shared.metrics.proved(begun.elapsed());
        // ORDER: on disk before the server hears of it: from here on no crash loses the proof.
        let proof: Arc<[u8]> = proof.into();
        let entry = loop {
            let (journal, claim, proof) =
                (self.shared.journal.clone(), claim.clone(), proof.clone());
            let error = match blocking(move || journal.keep(&claim, &proof)).await {
                Ok(entry) => break entry,
                Err(error) => error,
            };
            // A full disk may have room again; a proof is worth the wait.
            tracing::error!(code = "proof_not_written", job = %job.job, %error, "finished proof cannot be written; trying again");
            self.shared.status.send_modify(|status| status.last_error = Some(error.to_string()));
            if self.shared.stop.now.is_cancelled() {
                return Err(NotProved::Prove(ProveError::Cancelled));
            }
            // Not cut short by draining: it is what the grace time is for.
            let _stopped = tokio::time::timeout(DISK_PAUSE, self.shared.stop.now.cancelled()).await;
        };
        self.claim = None;
        tracing::info!(job = %job.job, proof = %entry.submit.proof.sha256, "proof finished");
        Ok(entry)
    }

    /// Downloads what the job needs: its input, or the files of its part.
    async fn fetch_all(
        &self,
        lender: usize,
        job: &Response,
        path: &Path,
    ) -> Result<Option<PartFiles>, CallError> {
        let Some(part) = &job.part else {
            self.fetch(lender, &job.prover_inputs, path).await?;
            return Ok(None);
        };
        if matches!(part.work, PartWork::Segments { .. } | PartWork::Keccak { .. }) {
            self.fetch(lender, &job.prover_inputs, path).await?;
        }
        let plan = path.with_extension("plan");
        self.fetch(lender, &part.plan, &plan).await?;
        let mut proofs = Vec::with_capacity(part.proofs.len());
        for (number, proof) in part.proofs.iter().enumerate() {
            let path = path.with_extension(format!("proof-{number}"));
            self.fetch(lender, proof, &path).await?;
            proofs.push(path);
        }
        Ok(Some(PartFiles { work: part.work, segment_po2: part.segment_po2, plan, proofs }))
    }

    /// Downloads an artifact from the server that lent the job. While that one gives no sign of life, the others are asked too: the
    /// bytes are named by their hash.
    async fn fetch(
        &self,
        lender: usize,
        artifact: &ArtifactRef,
        path: &Path,
    ) -> Result<(), CallError> {
        let shared = &self.shared;
        let others = (0..shared.servers.len()).filter(|server_index| *server_index != lender);
        let mut next = std::iter::once(lender).chain(others);
        let download = |server_index: usize, pulse: Pulse| async move {
            let part = path.with_extension(format!("from-{server_index}"));
            let api = &shared.servers[server_index].api;
            let fetched = api.download(artifact, &part, &pulse).await;
            (server_index, part, fetched)
        };
        let (mut running, mut pulse) = (FuturesUnordered::new(), Pulse::default());
        running.extend(next.next().map(|lender| download(lender, pulse.clone())));
        let mut failed = None;
        let (part, fetched) = loop {
            tokio::select! {
                biased;
                Some((server_index, part, fetched)) = running.next() => match fetched {
                    Ok(()) => break (part, Ok(())),
                    // What the lender says counts, and what it says for good ends the attempt.
                    Err(error) if server_index == lender => match error.retryable() {
                        true => failed = Some(error),
                        false => break (part, Err(error)),
                    },
                    Err(error) => tracing::debug!(%error, "another server does not have it"),
                },
                () = pulse.stalled(shared.config.patience) => match next.next() {
                    Some(server_index) => {
                        pulse = Pulse::default();
                        running.push(download(server_index, pulse.clone()));
                    }
                    None => pulse.expect_within(shared.config.silence),
                },
            }
            if running.is_empty() {
                let Some(server_index) = next.next() else {
                    let error = failed.expect("the lender was asked first and has failed");
                    return Err(error);
                };
                pulse = Pulse::default();
                running.push(download(server_index, pulse.clone()));
            }
        };
        fetched?;
        Ok(tokio::fs::rename(part, path).await?)
    }

    /// Proves on a thread of its own, and passes progress on meanwhile.
    async fn prove(
        &self,
        job: &Response,
        input: PathBuf,
        part: Option<PartFiles>,
        info: &mut JobInfo,
        cancel: &Cancel,
        progress: watch::Sender<Option<Progress>>,
    ) -> Result<Vec<u8>, ProveError> {
        let (prover, flag, kind) = (self.shared.prover.clone(), cancel.clone(), job.kind);
        let mut seen = progress.subscribe();
        let (tell, done) = oneshot::channel();
        let prove = move || {
            let report = |step| {
                progress.send_replace(Some(step));
            };
            let once = || match &part {
                Some(part) => prover.prove_part(&input, part, &flag, &report),
                None => prover.prove_file(&input, kind, &flag, &report),
            };
            let work = part.as_ref().map(|part| part.work);
            let prove = std::panic::AssertUnwindSafe(|| prove_within_memory(&*prover, work, once));
            let result = std::panic::catch_unwind(prove)
                .unwrap_or_else(|panic| Err(ProveError::Failed(panic_text(&*panic).into())));
            // The files are not needed twice: a client that dies fetches them anew.
            let others = part.iter().flat_map(|part| part.proofs.iter().chain([&part.plan]));
            for file in others.chain([&input]) {
                let _gone = std::fs::remove_file(file);
            }
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
                    self.shared.status.send_modify(|status| status.phase = Phase::Proving(*info));
                }
                () = self.shared.stop.now.cancelled(), if !stopped => {
                    stopped = true;
                    cancel.set();
                }
            }
        };
        // The thread has sent its result: it is at its end.
        let _ended = thread.join();
        result
    }

    /// Asks for no more work if the prover has failed too often.
    fn open_breaker(&mut self, error: &str) {
        let Some(pause) = self.breaker.open() else { return };
        tracing::error!(
            code = "prover_broken", %error, test_in = ?pause,
            "this prover fails again and again; it asks for no more work until a self-test has passed"
        );
        self.test_at = Some(Instant::now() + pause);
        self.shared
            .status
            .send_modify(|status| status.phase = Phase::Broken { error: error.into() });
    }

    /// Asks for no work if the disk has no room for it. Returns whether that is so.
    pub(super) fn no_room(&mut self) -> bool {
        let room = self.shared.room();
        if let Err(error) = &room {
            self.disk_full(&error.to_string());
        }
        room.is_err()
    }

    /// Asks for no more work until a self-test has written a file.
    fn disk_full(&mut self, error: &str) {
        self.breaker.trip();
        let pause = self.breaker.open().unwrap_or_default();
        tracing::error!(
            code = "client_disk_full", %error, test_in = ?pause,
            "the disk of the client's folder is full; it asks for no work until there is room"
        );
        self.test_at = Some(Instant::now() + pause);
        self.shared.status.send_modify(|status| {
            status.last_error = Some(error.into());
            status.phase = Phase::Broken { error: error.into() };
        });
    }

    /// Tries whether the prover works again.
    pub(super) async fn self_test(&mut self) {
        let (tell, done) = oneshot::channel();
        let prover = self.shared.prover.clone();
        let (journal, room) = (self.shared.journal.clone(), self.shared.config.min_free_bytes);
        let test = move || {
            let test = std::panic::AssertUnwindSafe(|| {
                journal.self_test(room).map_err(|error| ProveError::Unavailable(error.into()))?;
                prover.self_test()
            });
            let result = std::panic::catch_unwind(test)
                .unwrap_or_else(|panic| Err(ProveError::Failed(panic_text(&*panic).into())));
            let _nobody_waits = tell.send(result);
        };
        let started = thread::Builder::new().name("self-test".into()).spawn(test);
        let result = match started {
            Err(error) => Err(ProveError::unavailable(error)),
            // A thread that is left behind goes with the process.
            Ok(_thread) => tokio::select! {
                () = self.shared.stop.draining.cancelled() => return,
                result = done => result
                    .unwrap_or_else(|_| Err(ProveError::Failed("the self-test vanished".into()))),
            },
        };
        self.breaker.tested(result.is_ok());
        self.test_at = None;
        match result {
            Ok(()) => {
                tracing::info!(code = "prover_recovered", "self-test passed; one job is tried");
                self.shared.status.send_modify(|status| status.phase = Phase::Idle(None));
            }
            Err(error) => self.open_breaker(&error.to_string()),
        }
    }
}

/// Proves with `once`. If memory runs out over segments, the prover makes smaller ones from then on, and a whole proof is begun again.
/// The segments of a part are the job's: that goes back, and the server lends this client no more of that size.
fn prove_within_memory(
    prover: &dyn Prover,
    work: Option<PartWork>,
    once: impl Fn() -> Result<Vec<u8>, ProveError>,
) -> Result<Vec<u8>, ProveError> {
    loop {
        let result = once();
        let Err(ProveError::OutOfMemory(error)) = &result else { return result };
        if !matches!(work, None | Some(PartWork::Segments { .. })) {
            return result;
        }
        let Some(segment_po2) = prover.shrink_segments() else { return result };
        tracing::warn!(
            code = "segments_smaller", segment_po2, %error,
            "memory ran out; this prover makes segments half as large until it is started again"
        );
        if work.is_some() {
            return result;
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

/// Whether a prover failed because it could not write.
fn says_disk_full(error: &ProveError) -> bool {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    let mut full = false;
    while let Some(error) = cause {
        full |= error.downcast_ref().is_some_and(is_disk_full);
        full |= error.to_string().contains("No space left on device");
        cause = error.source();
    }
    full
}

fn disk(error: JournalError) -> CallError {
    match error {
        JournalError::Io { path, source } => {
            CallError::Disk(io::Error::new(source.kind(), format!("{}: {source}", path.display())))
        }
        other => CallError::Disk(io::Error::other(other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prover::{Execution, ProofSystem};
    use std::sync::atomic::{AtomicU32, Ordering};

    /// Has segments of this size, which it can make smaller.
    struct Segments(AtomicU32);

    impl Prover for Segments {
        fn system(&self) -> ProofSystem {
            ProofSystem::Exec
        }

        fn program_id(&self) -> alloy_primitives::B256 {
            alloy_primitives::B256::ZERO
        }

        fn danger(&self) -> Option<&str> {
            None
        }

        fn prove(
            &self,
            _: &[u8],
            _: ProofKind,
            _: &Cancel,
            _: &(dyn Fn(Progress) + Send + Sync),
        ) -> Result<Vec<u8>, ProveError> {
            Err(ProveError::Cancelled)
        }

        fn execute(&self, _: &[u8]) -> Result<Execution, ProveError> {
            Err(ProveError::Cancelled)
        }

        fn shrink_segments(&self) -> Option<u32> {
            Some(self.0.fetch_sub(1, Ordering::Relaxed) - 1).filter(|po2| *po2 >= 16)
        }
    }

    #[test]
    fn a_part_goes_back_and_only_one_of_segments_makes_later_ones_smaller() {
        let starves = || Err(ProveError::OutOfMemory("out of memory".into()));
        for (work, tries, left) in [
            (None, 3, 15),
            (Some(PartWork::Segments { first: 0, end: 1 }), 1, 17),
            (Some(PartWork::Finish), 1, 18),
        ] {
            let (prover, tried) = (Segments(AtomicU32::new(18)), AtomicU32::new(0));
            let once = || {
                tried.fetch_add(1, Ordering::Relaxed);
                starves()
            };
            let error = prove_within_memory(&prover, work, once).unwrap_err();
            assert_eq!(error.class(), FailureClass::OutOfMemory);
            assert_eq!((tried.into_inner(), prover.0.into_inner()), (tries, left), "{work:?}");
        }
        let prover = Segments(AtomicU32::new(18));
        let failed = || Err(ProveError::Failed("the GPU is on fire".into()));
        assert!(prove_within_memory(&prover, None, failed).is_err());
        assert_eq!(prover.0.into_inner(), 18, "no other failure does");
    }
}
