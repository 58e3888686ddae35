//! From a proof on disk to a verdict, while the next job is proven.
//!
//! * Each server has a lane for the proofs of its jobs: one that takes its time with a verdict delays no other server's proofs.
//! * A proof goes to the server that lent the job or, while that one gives no sign of life, also to others that know the job.
//! * Proofs wait on disk; a client that was killed finds them there.

use super::shared::{Shared, blocking};
use crate::{
    Phase,
    api::CallError,
    journal::{Entry, JournalError},
    pulse::{Pulse, back_off, believed},
    trace,
};
use futures::{StreamExt, stream::FuturesUnordered};
use protocol::{Advice, ErrorCode, FailureClass, Heartbeat, Verdict};
use std::{sync::Arc, time::Duration};
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::{CancellationToken, DropGuard};

/// How long a server may hold the first submission open. Until it has answered, it takes a request for work for the end of the job.
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// How long it may hold the next ones open.
const NEXT_WAIT: Duration = Duration::from_secs(20);

/// A proof whose verdict is pending is submitted again at the earliest after so long, doubling with each time ...
const PENDING_FLOOR: Duration = Duration::from_millis(500);

/// ... up to this.
const LONGEST_FLOOR: Duration = Duration::from_secs(8);

/// A proof whose job no server knows is offered again after so many times the longest pause at most.
const UNKNOWN_PAUSES: u32 = 4;

/// A proof that waits for its verdict.
pub(super) struct Owed {
    pub(super) entry: Entry,
    /// The lender's limit in bytes, if it is known.
    pub(super) most: Option<u64>,
    /// Keeps its lease alive.
    _beats: Option<DropGuard>,
    due: Instant,
    attempts: u32,
    /// Servers are asked whether they know its job before it is sent: none did, or it lay on disk when the client started.
    unknown: bool,
}

/// So many proofs of one lane are kept whose job no server knows.
const MOST_UNKNOWN: usize = 100;

/// What became of a proof that was offered to the servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Offered {
    Judged,
    /// There is no verdict, and it is kept.
    Kept,
    /// It is kept too, but no server knows its job.
    Unknown,
}

impl Owed {
    /// One that was not tried yet.
    pub(super) fn new(entry: Entry, most: Option<u64>, beats: Option<DropGuard>) -> Self {
        let unknown = beats.is_none();
        Self { entry, most, _beats: beats, due: Instant::now(), attempts: 0, unknown }
    }
}

/// Hands the proofs of one server's jobs in, one after the other.
pub(super) struct Lane {
    pub(super) shared: Arc<Shared>,
    /// The server; none for proofs whose lender is not known any more.
    pub(super) home: Option<usize>,
    pub(super) waiting: Vec<Owed>,
    pub(super) more: mpsc::Receiver<Owed>,
    /// No more proofs come: a last attempt, then the end.
    pub(super) last: CancellationToken,
}

impl Lane {
    /// Works until it is stopped.
    pub(super) async fn run(mut self) {
        let now = self.shared.stop.now.clone();
        let mut relearnt = self.shared.relearnt.subscribe();
        while !now.is_cancelled() {
            let last = self.last.is_cancelled();
            while let Ok(owed) = self.more.try_recv() {
                self.waiting.push(owed);
            }
            self.hand_all_in(last).await;
            if last {
                return;
            }
            let due = self.waiting.iter().map(|owed| owed.due).min();
            let due = due.unwrap_or_else(|| Instant::now() + self.shared.config.silence);
            tokio::select! {
                Some(owed) = self.more.recv() => self.waiting.push(owed),
                Ok(()) = relearnt.changed() => {
                    let unknown = self.waiting.iter_mut().filter(|owed| owed.unknown);
                    unknown.for_each(|owed| owed.due = Instant::now());
                }
                () = self.last.cancelled() => {}
                () = now.cancelled() => {}
                () = tokio::time::sleep_until(due) => {}
            }
        }
    }

    /// Hands in what is due, or everything.
    async fn hand_all_in(&mut self, all: bool) {
        let mut index = 0;
        while index < self.waiting.len() && !self.shared.stop.now.is_cancelled() {
            if !all && self.waiting[index].due > Instant::now() {
                index += 1;
                continue;
            }
            let offered = self.hand_in(&self.waiting[index], all).await.unwrap_or_else(|error| {
                tracing::error!(code = "folder_unusable", %error, "the client's folder cannot be used; trying again");
                self.shared.status.send_modify(|status| status.last_error = Some(error.to_string()));
                Offered::Kept
            });
            if offered == Offered::Judged {
                // Its heartbeats end here.
                let _judged = self.waiting.remove(index);
                continue;
            }
            let owed = &mut self.waiting[index];
            let unknown = offered == Offered::Unknown;
            if unknown && !owed.unknown {
                (owed.unknown, owed.attempts) = (true, 0);
            }
            let most = self.shared.config.max_back_off * if unknown { UNKNOWN_PAUSES } else { 1 };
            let pause = back_off(owed.attempts, most, rand::random());
            (owed.due, owed.attempts) = (Instant::now() + pause, owed.attempts.saturating_add(1));
            index += 1;
        }
    }

    /// Hands a kept proof in, to the server that lent the job or to another one that knows it. The proof
    /// is kept unless it was judged. Servers that rest are left out, unless `all` are to be tried.
    async fn hand_in(&self, owed: &Owed, all: bool) -> Result<Offered, JournalError> {
        let (shared, entry) = (&self.shared, &owed.entry);
        shared.show(Phase::Submitting { job: entry.job });
        let servers = shared.servers.len();
        let others = (0..servers).filter(|server_index| Some(*server_index) != self.home);
        let rested = |server_index: &usize| {
            all || shared.servers[*server_index].rests_until() <= Instant::now()
        };
        let mut next = self.home.into_iter().chain(others).filter(rested);
        let (mut running, mut pulse) = (FuturesUnordered::new(), Pulse::default());
        let (mut strangers, mut more, mut stalled) = (0, true, false);
        let mut disowned = false;
        loop {
            // One more server is asked when none is being asked, or the one that was asked last gives no sign of life.
            if more && (running.is_empty() || stalled) {
                match next.next() {
                    Some(server_index) => {
                        pulse = Pulse::default();
                        running.push(self.attempt(server_index, owed, pulse.clone()));
                    }
                    None => more = false,
                }
                stalled = false;
            }
            if running.is_empty() {
                break;
            }
            let (server_index, attempt) = tokio::select! {
                biased;
                () = shared.stop.now.cancelled() => return Ok(Offered::Kept),
                Some(attempt) = running.next() => attempt,
                () = pulse.stalled(shared.config.patience), if more => {
                    stalled = true;
                    continue;
                }
            };
            let lender = self.may_be_lender(server_index);
            let verdict = match attempt {
                Ok(verdict) => verdict,
                Err(CallError::Refused(error)) if error.code == ErrorCode::NoSuchJob => {
                    shared.is_stranger(entry, server_index);
                    strangers += 1;
                    if self.home == Some(server_index) {
                        disowned = true;
                        // Otherwise it would lend us the next before another server is asked.
                        if !owed.unknown {
                            shared.disowned(server_index);
                        }
                    }
                    if strangers < servers {
                        continue;
                    }
                    let (journal, kept) = (shared.journal.clone(), entry.clone());
                    let kept_for = blocking(move || journal.kept_for(&kept)).await?;
                    let kept = self.waiting.iter().filter(|owed| owed.unknown).count();
                    if kept_for < shared.config.keep_unknown && kept <= MOST_UNKNOWN {
                        if owed.attempts == 0 {
                            tracing::warn!(code = "job_unknown", job = %entry.job, "no server knows the job of this proof; it is kept, and offered again");
                        }
                        return Ok(Offered::Unknown);
                    }
                    Verdict::Rejected { reason: error.to_string() }
                }
                Err(error) if error.retryable() || matches!(error, CallError::Disk(_)) => {
                    let (journal, kept) = (shared.journal.clone(), entry.clone());
                    if !blocking(move || Ok::<_, JournalError>(journal.is_whole(&kept))).await? {
                        self.lost(entry).await?;
                        return Ok(Offered::Judged);
                    }
                    tracing::warn!(code = "proof_kept", job = %entry.job, "proof not handed in yet; it is kept");
                    shared.avoid(server_index, &error);
                    continue;
                }
                Err(error) => {
                    let reason = error.to_string();
                    if lender && error.too_large() {
                        let (lease, class) = (entry.submit.lease, FailureClass::ProofTooLarge);
                        let reason = reason.clone();
                        shared.report(server_index, entry.job, lease, class, reason).await;
                    }
                    Verdict::Rejected { reason }
                }
            };
            // What another server holds against it does not count before the lender has seen it.
            if lender || strangers == servers || !matches!(verdict, Verdict::Rejected { .. }) {
                self.settle(entry, &verdict).await?;
                return Ok(Offered::Judged);
            }
        }
        shared.is_tried(entry);
        Ok(if disowned { Offered::Unknown } else { Offered::Kept })
    }

    /// The client's disk has lost a proof, or damaged it: the job goes back.
    async fn lost(&self, entry: &Entry) -> Result<(), JournalError> {
        let shared = &self.shared;
        tracing::error!(code = "entry_damaged", job = %entry.job, "a kept proof is not on the client's disk any more, or is damaged; its job goes back");
        let (journal, gone) = (shared.journal.clone(), entry.clone());
        blocking(move || journal.forget(&gone)).await?;
        if let Some(server_index) = self.home {
            let (lease, class) = (entry.submit.lease, FailureClass::Cancelled);
            let why = "the client's disk lost the proof".to_owned();
            shared.report(server_index, entry.job, lease, class, why).await;
        }
        shared.is_lost(entry);
        Ok(())
    }

    /// Whether this server lent the jobs of this lane, or any may have.
    fn may_be_lender(&self, server_index: usize) -> bool {
        self.home.is_none_or(|home| home == server_index)
    }

    /// Uploads a proof to one server and submits it until it is judged.
    async fn attempt(
        &self,
        server_index: usize,
        owed: &Owed,
        pulse: Pulse,
    ) -> (usize, Result<Verdict, CallError>) {
        let lender = self.may_be_lender(server_index);
        let attempt = async {
            let (client, lease) = (owed.entry.submit.client, owed.entry.submit.lease);
            // Whether a submission is the end of the lease.
            let mut ends = lender;
            if !lender || owed.unknown {
                // Asks whether it knows the job: the proof may be long.
                let instance = Some(self.shared.origin.instance);
                let beat = Heartbeat { client, lease, progress: None, instance };
                let api = &self.shared.servers[server_index].api;
                let advice = api.heartbeat(&owed.entry.job, beat).await?;
                ends |= matches!(advice, Advice::Continue | Advice::Drain);
                pulse.beat();
            }
            self.submit(server_index, owed, ends, &pulse).await
        };
        (server_index, attempt.await)
    }

    async fn submit(
        &self,
        server_index: usize,
        owed: &Owed,
        ends: bool,
        pulse: &Pulse,
    ) -> Result<Verdict, CallError> {
        let (entry, shared) = (&owed.entry, &self.shared);
        let (api, len) = (&shared.servers[server_index].api, entry.submit.proof.len);
        let lender = self.may_be_lender(server_index);
        // A body that is too long may be cut off before the server has said so: do not begin with it.
        if let Some(most) = owed.most.filter(|most| lender && len > *most) {
            return Err(CallError::ProofTooLarge { len, most });
        }
        // Ends with the verdict.
        let _span = trace::span(entry.traceparent.as_deref(), "submit");
        api.upload(&entry.submit.proof, &shared.journal.proof_path(entry), pulse).await?;
        let (mut wait, mut floor) = (FIRST_WAIT, PENDING_FLOOR);
        loop {
            match api.submit(&entry.job, entry.submit.clone(), wait).await? {
                Verdict::Pending { retry_after_ms } => {
                    if ends {
                        shared.is_submitted(entry);
                    }
                    let said = Duration::from_millis(retry_after_ms);
                    let pause = believed(said, floor, shared.config.max_back_off, rand::random());
                    (wait, floor) = (NEXT_WAIT, (2 * floor).min(LONGEST_FLOOR));
                    pulse.expect_within(pause + wait);
                    tokio::time::sleep(pause).await;
                }
                verdict => {
                    shared.servers[server_index].judged();
                    return Ok(verdict);
                }
            }
        }
    }

    /// Does with a kept proof what the verdict says.
    async fn settle(&self, entry: &Entry, verdict: &Verdict) -> Result<(), JournalError> {
        let shared = &self.shared;
        let (journal, kept, judged) = (shared.journal.clone(), entry.clone(), verdict.clone());
        let aside = blocking(move || match &judged {
            Verdict::Rejected { reason } => journal.put_aside(&kept, reason).map(Some),
            _ => journal.forget(&kept).map(|()| None),
        })
        .await?;
        shared.show(Phase::Idle(None));
        shared.status.send_modify(|status| match verdict {
            Verdict::Rejected { reason } => {
                status.rejected += 1;
                status.last_error = Some(format!("proof rejected: {reason}"));
            }
            Verdict::Duplicate | Verdict::Superseded => status.duplicate += 1,
            _ => status.accepted += 1,
        });
        shared.metrics.judged(verdict);
        match (verdict, aside) {
            (Verdict::Rejected { reason }, Some(path)) => {
                tracing::error!(code = "proof_rejected", job = %entry.job, %reason, kept = %path.display(), "proof rejected");
            }
            _ => tracing::info!(job = %entry.job, ?verdict, "proof acknowledged"),
        }
        shared.is_judged(entry);
        Ok(())
    }
}
