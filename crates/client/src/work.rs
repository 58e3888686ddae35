//! The client's round: hand in what is finished, ask for a job, fetch, prove, keep, hand in.

use crate::{
    Config, JobInfo, Phase, Status,
    api::{Api, CallError},
    breaker::Breaker,
    exec::panic_text,
    journal::{Claim, Entry, Journal, JournalError},
    metrics::Metrics,
    prover::{Cancel, ProveError, Prover},
    trace,
};
use opentelemetry::trace::{Span as _, Status as SpanStatus};
use protocol::{
    Advice, Capability, ErrorCode, Fail, FailureClass, Heartbeat, JobId, LeaseId, NoWorkReason,
    Progress, ProofData, Request, Response, Verdict,
};
use std::{io, path::PathBuf, sync::Arc, thread, time::Duration};
use tokio::{
    runtime,
    sync::{oneshot, watch},
    time::Instant,
};
use tokio_util::sync::{CancellationToken, DropGuard};

/// A job is given back when so many clients, one after the other in this folder, were killed while they had it: it may be
/// what kills them.
const MAX_BEGUN: u32 = 3;

/// Attempts to tell the server of a failure; after that the lease just runs out.
const FAIL_ATTEMPTS: u32 = 3;

/// How long a client that stops waits for a server to say whether it has lent it something.
const LEAVE_PATIENCE: Duration = Duration::from_secs(3);

/// Pause before a proof is written to a full disk again.
const DISK_PAUSE: Duration = Duration::from_secs(2);

/// The fastest heartbeat a server may ask for.
const FASTEST_BEAT: Duration = Duration::from_millis(50);

/// A server to work for.
pub struct Server {
    api: Api,
    /// For heartbeats, whose thread needs connections of its own.
    beats: Api,
    /// Calls in a row to which it gave no sensible answer.
    failures: u32,
    /// It is left alone until then.
    next: Instant,
    /// Set when it says that no more jobs are to be asked for.
    drained: Cancel,
}

/// How a client is told to end.
#[derive(Clone, Debug)]
pub struct Stop {
    /// No more jobs; the one at hand may be finished. Cancelled with `now`.
    pub draining: CancellationToken,
    /// Nothing more; the job at hand goes back.
    pub now: CancellationToken,
}

/// What a client is made of.
pub struct Worker {
    config: Config,
    servers: Vec<Server>,
    journal: Arc<Journal>,
    prover: Arc<dyn Prover>,
    status: watch::Sender<Status>,
    metrics: Metrics,
    stop: Stop,
    beats: Beats,
    /// The job at hand, and before that the one which the last client in this folder was killed with.
    claim: Option<Claim>,
    /// Leases that are kept alive.
    held: Vec<(LeaseId, DropGuard)>,
    /// Open if the prover cannot be trusted with a job now.
    breaker: Breaker,
    /// While it is open: when to test the prover.
    test_at: Option<Instant>,
}

impl Server {
    /// A server reached through `api`, and through `beats` for heartbeats only.
    pub fn new(api: Api, beats: Api) -> Self {
        Self { api, beats, failures: 0, next: Instant::now(), drained: Cancel::new() }
    }
}

impl Worker {
    /// Puts a client together.
    #[expect(clippy::too_many_arguments, reason = "they are its parts")]
    pub fn new(
        config: Config,
        servers: Vec<Server>,
        beats: Beats,
        journal: Arc<Journal>,
        prover: Arc<dyn Prover>,
        status: watch::Sender<Status>,
        metrics: Metrics,
        stop: Stop,
    ) -> Self {
        Self {
            breaker: Breaker::new(config.broken_failures, config.broken_pause),
            test_at: None,
            config,
            servers,
            journal,
            prover,
            status,
            metrics,
            stop,
            beats,
            claim: None,
            held: Vec::new(),
        }
    }

    /// Works until it is stopped.
    pub async fn run(mut self) {
        self.take_over().await;
        while !self.stop.draining.is_cancelled() {
            if let Err(error) = self.round().await {
                tracing::error!(code = "folder_unusable", %error, "the client's folder cannot be used; trying again");
                self.status.send_modify(|status| status.last_error = Some(error.to_string()));
                self.pause(self.config.max_back_off).await;
            }
        }
        // A job whose input could not be fetched, say: another client shall have it at once.
        if let Some(claim) = self.claim.take() {
            self.give_back(&claim, "the client was stopped").await;
        }
        self.status.send_modify(|status| status.phase = Phase::Stopped);
    }

    /// Finds out what the last client in this folder was killed with. The server gives it to us again when we ask, unless it
    /// is of another prover: then it goes back.
    async fn take_over(&mut self) {
        let journal = self.journal.clone();
        let Ok(Some(claim)) = blocking(move || journal.claimed()).await else { return };
        if (claim.system, claim.program_id) == (self.prover.system(), self.prover.program_id()) {
            tracing::info!(job = %claim.job, begun = claim.begun, "job found that a killed client had begun");
            if let Some(turn) = self.turn_of(Some(&claim.server)) {
                // Asked first, or the job would wait for its lease to run out.
                self.servers.swap(0, turn);
            }
            self.claim = Some(Claim { begun: claim.begun.saturating_add(1), ..claim });
            return;
        }
        self.give_back(&claim, "the client was started again with another prover").await;
    }

    /// Gives back a job that was not finished, through nobody's fault.
    async fn give_back(&mut self, claim: &Claim, why: &str) {
        if let Some(turn) = self.turn_of(Some(&claim.server)) {
            let class = FailureClass::Cancelled;
            self.report(turn, claim.job, claim.lease, class, why.into()).await;
        }
        self.unclaim().await;
    }

    /// Notes that this job is at hand, for a client that comes after us.
    async fn note(&mut self, turn: usize, job: &Response) -> Result<Claim, NotProved> {
        let claim = match self.claim.take() {
            // The server may have counted the killed client as lost and made another lease.
            Some(claim) if claim.job == job.job => Claim { lease: job.lease, ..claim },
            _ => Claim {
                server: self.servers[turn].api.server().to_owned(),
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

    async fn unclaim(&mut self) {
        self.claim = None;
        let journal = self.journal.clone();
        if let Err(error) = blocking(move || journal.unclaim()).await {
            tracing::warn!(code = "claim_not_removed", %error, "claim cannot be removed");
        }
    }

    /// Hands in what is finished; then one job, or one question, or one pause.
    async fn round(&mut self) -> Result<(), JournalError> {
        let journal = self.journal.clone();
        let mut owed = Vec::new();
        for entry in blocking(move || journal.open_entries()).await? {
            if !self.hand_in(&entry, None).await? {
                owed.push(self.turn_of(entry.server.as_deref()));
            }
            if self.stop.draining.is_cancelled() {
                return Ok(());
            }
        }
        if let Some(test_at) = self.test_at {
            let pause = test_at.saturating_duration_since(Instant::now());
            self.pause(pause.min(self.config.max_back_off)).await;
            if !pause.is_zero() {
                return Ok(());
            }
            self.self_test().await;
            return Ok(());
        }
        // A server whose job we have proven would lend us the same one again.
        let askable = |(turn, server): &(usize, &Server)| {
            let owed = owed.iter().any(|lender| lender.is_none_or(|lender| lender == *turn));
            !owed && !server.drained.is_set()
        };
        let asked = self.servers.iter().enumerate().filter(askable);
        let now = Instant::now();
        match asked.min_by_key(|(_, server)| server.next).map(|(turn, server)| (turn, server.next))
        {
            Some((turn, next)) if next <= now => self.ask(turn).await,
            _ => {
                let soon = self.servers.iter().map(|server| server.next).filter(|next| *next > now);
                match soon.min() {
                    Some(next) => self.pause(next.duration_since(now)).await,
                    None => self.pause(self.config.max_back_off).await,
                }
                Ok(())
            }
        }
    }

    /// Asks one server for a job, and works on it.
    async fn ask(&mut self, turn: usize) -> Result<(), JournalError> {
        let wait = self.config.wait / u32::try_from(self.servers.len()).unwrap_or(u32::MAX);
        let request = Request {
            client: self.journal.client(),
            capabilities: vec![Capability {
                system: self.prover.system(),
                program_id: self.prover.program_id(),
                mocked: self.prover.danger().is_some(),
            }],
            wait_ms: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
        };
        let answer = tokio::select! {
            () = self.stop.draining.cancelled() => {
                self.leave(turn, request).await;
                return Ok(());
            }
            answer = self.servers[turn].api.request(request.clone()) => answer,
        };
        match answer {
            Ok(ProofData::Response(job)) => {
                let worked = self.work_on(turn, job).await;
                // The others come first now.
                let server = &mut self.servers[turn];
                server.next = server.next.max(Instant::now());
                return worked;
            }
            Ok(ProofData::NoWork(no_work)) => {
                let (server, reason) = (&mut self.servers[turn], no_work.reason);
                if reason != NoWorkReason::NothingReady {
                    let server = server.api.server();
                    tracing::info!(server, ?reason, "server has no job for this client");
                }
                self.status.send_modify(|status| status.phase = Phase::Idle(Some(reason)));
                let pause = Duration::from_millis(no_work.retry_after_ms);
                server.failures = 0;
                server.next = Instant::now() + pause.min(self.config.max_back_off);
            }
            Ok(_) => {}
            Err(error) => self.avoid(turn, &error),
        }
        Ok(())
    }

    /// Gives back what the server may have lent us in the moment in which we stopped listening.
    async fn leave(&self, turn: usize, request: Request) {
        let request = self.servers[turn].api.request(Request { wait_ms: 0, ..request });
        if let Ok(Ok(ProofData::Response(job))) =
            tokio::time::timeout(LEAVE_PATIENCE, request).await
        {
            let why = "the client was stopped".to_owned();
            self.report(turn, job.job, job.lease, FailureClass::Cancelled, why).await;
        }
    }

    /// Asks for no more work if the prover has failed too often.
    fn mind(&mut self, error: &str) {
        let Some(pause) = self.breaker.open() else { return };
        tracing::error!(
            code = "prover_broken", %error, test_in = ?pause,
            "this prover fails again and again; it asks for no more work until a self-test has passed"
        );
        self.test_at = Some(Instant::now() + pause);
        self.status.send_modify(|status| status.phase = Phase::Broken { error: error.into() });
    }

    /// Tries whether the prover works again.
    async fn self_test(&mut self) {
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
            Err(error) => self.mind(&error.to_string()),
        }
    }

    /// Leaves a server alone for a while, longer each time.
    fn avoid(&mut self, turn: usize, error: &CallError) {
        let server = &mut self.servers[turn];
        tracing::warn!(
            code = "server_unusable",
            server = server.api.server(),
            %error,
            "no luck; trying again"
        );
        let pause = back_off(server.failures, self.config.max_back_off, rand::random());
        server.next = Instant::now() + pause;
        server.failures = server.failures.saturating_add(1);
        let phase = Phase::Unreachable { error: error.to_string() };
        self.status.send_modify(|status| status.phase = phase);
    }

    /// Which of our servers has this address.
    fn turn_of(&self, address: Option<&str>) -> Option<usize> {
        self.servers.iter().position(|server| Some(server.api.server()) == address)
    }

    /// Fetches, proves, keeps and hands in. Failures are reported to the server.
    async fn work_on(&mut self, turn: usize, job: Response) -> Result<(), JournalError> {
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
            api: self.servers[turn].beats.clone(),
            client: self.journal.client(),
            job: job.job,
            lease: job.lease,
            cancel: cancel.clone(),
            drained: self.servers[turn].drained.clone(),
        };
        let every = Duration::from_millis(job.heartbeat_ms).max(FASTEST_BEAT);
        self.held.push((job.lease, self.beats.keep(beat, every, watching)));
        let finished = self.fetch_and_prove(turn, &job, &mut info, &cancel, progress).await;
        let (class, message) = match finished {
            // The lease is kept until the proof is judged: uploading may take its time.
            Ok(entry) => {
                self.servers[turn].failures = 0;
                self.breaker.proved();
                return self.hand_in(&entry, job.max_proof_bytes).await.map(drop);
            }
            Err(NotProved::Prove(error)) => {
                self.servers[turn].failures = 0;
                (error.class(), error.to_string())
            }
            Err(NotProved::Fetch(error)) => {
                self.avoid(turn, &error);
                if error.retryable() {
                    // Nobody is to blame, and another client may have more luck.
                    self.let_go(job.lease);
                    let class = FailureClass::Cancelled;
                    self.report(turn, job.job, job.lease, class, error.to_string()).await;
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
        self.mind(&message);
        self.report(turn, job.job, job.lease, class, message).await;
        self.unclaim().await;
        Ok(())
    }

    /// Sends no more heartbeats for a lease.
    fn let_go(&mut self, lease: LeaseId) {
        self.held.retain(|(held, _)| *held != lease);
    }

    async fn fetch_and_prove(
        &mut self,
        turn: usize,
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
        let claim = self.note(turn, job).await?;
        let path = self.journal.input_path(&job.job);
        let trace = job.traceparent.as_deref();
        let download = trace::span(trace, "download");
        let fetched = tokio::select! {
            () = self.stop.now.cancelled() => {
                cancel.set();
                return Err(NotProved::Prove(ProveError::Cancelled));
            }
            fetched = self.servers[turn].api.download(&job.prover_inputs, &path) => fetched,
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

    /// Hands a kept proof in, to the server that lent the job or to another one that knows it. `most` is the former's limit
    /// in bytes, if it is known. Returns whether the proof was judged; it is kept otherwise.
    async fn hand_in(&mut self, entry: &Entry, most: Option<u64>) -> Result<bool, JournalError> {
        self.status.send_modify(|status| status.phase = Phase::Submitting { job: entry.job });
        let home = self.turn_of(entry.server.as_deref());
        let others = (0..self.servers.len()).filter(|turn| Some(*turn) != home);
        let mut strangers = 0;
        for turn in home.into_iter().chain(others) {
            if self.servers[turn].next > Instant::now() {
                continue;
            }
            let lender = home.is_none_or(|home| home == turn);
            let attempt = async {
                if !lender {
                    // Asks whether it knows the job: the proof may be long.
                    let (client, lease) = (entry.submit.client, entry.submit.lease);
                    let beat = Heartbeat { client, lease, progress: None };
                    self.servers[turn].api.heartbeat(&entry.job, beat).await?;
                }
                self.submit(turn, entry, most.filter(|_| lender)).await
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
                    self.avoid(turn, &error);
                    continue;
                }
                Err(error) => {
                    let reason = error.to_string();
                    if lender && error.too_large() {
                        let (lease, class) = (entry.submit.lease, FailureClass::ProofTooLarge);
                        self.report(turn, entry.job, lease, class, reason.clone()).await;
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
        turn: usize,
        entry: &Entry,
        most: Option<u64>,
    ) -> Result<Verdict, CallError> {
        let (api, len) = (&self.servers[turn].api, entry.submit.proof.len);
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

    async fn report(
        &self,
        turn: usize,
        job: JobId,
        lease: LeaseId,
        class: FailureClass,
        message: String,
    ) {
        let fail = Fail { client: self.journal.client(), lease, class, message };
        // A server that is gone shall not keep us; the lease runs out by itself.
        let _given_up =
            tokio::time::timeout(Duration::from_secs(10), self.try_report(turn, job, fail)).await;
    }

    async fn try_report(&self, turn: usize, job: JobId, fail: Fail) {
        for attempt in 0..FAIL_ATTEMPTS {
            match self.servers[turn].api.fail(&job, fail.clone()).await {
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
            () = self.stop.draining.cancelled() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

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

/// Heartbeats, from a thread and a runtime of their own, and through connections of their own: neither proving nor a busy runtime delays them.
pub struct Beats {
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
    /// Starts the thread.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn start() -> io::Result<Self> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let (handle, stop) = (runtime.handle().clone(), CancellationToken::new());
        let stopped = stop.clone();
        thread::Builder::new()
            .name("heartbeat".into())
            .spawn(move || runtime.block_on(stopped.cancelled()))?;
        Ok(Self { runtime: handle, _stop: stop.drop_guard() })
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
                    tracing::warn!(code = "heartbeat_failed", job = %self.job, %error, "heartbeat failed");
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
                tracing::warn!(code = "told_to_stop", job = %self.job, ?advice, "server says stop");
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
