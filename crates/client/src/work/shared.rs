//! What the parts of a client share: settings, servers, the folder, the proofs that are owed.

use super::servers::Server;
use crate::{
    Config, Phase, Status,
    journal::{Entry, Journal, JournalError},
    metrics::Metrics,
    prover::Prover,
    pulse::back_off,
};
use protocol::{
    Capability, Fail, FailureClass, InstanceId, JobId, LeaseId, Origin, ProofKind, Request,
    Response,
};
use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::{Notify, oneshot, watch};
use tokio_util::sync::CancellationToken;

/// Attempts to tell a server of a failure; after that the lease just runs out.
const FAIL_ATTEMPTS: u32 = 3;

/// How long those may take: a server that is gone shall not keep us.
const FAIL_PATIENCE: Duration = Duration::from_secs(5);

/// So many leases are remembered after their proofs were judged.
const MOST_JUDGED: usize = 32;

/// How a client is told to end.
#[derive(Clone, Debug)]
pub(crate) struct Stop {
    /// No more jobs; the one at hand may be finished. Cancelled with `now`.
    pub draining: CancellationToken,
    /// Nothing more; the job at hand goes back.
    pub now: CancellationToken,
}

/// See the module.
pub(crate) struct Shared {
    pub(super) config: Config,
    pub(super) servers: Vec<Server>,
    pub(super) journal: Arc<Journal>,
    pub(super) prover: Arc<dyn Prover>,
    pub(super) status: watch::Sender<Status>,
    pub(super) metrics: Metrics,
    pub(super) stop: Stop,
    /// This process.
    pub(super) origin: Origin,
    /// Something happened that may let a server be asked for work.
    pub(super) changed: Notify,
    /// Cancelled when the client has no job at hand any more and asks for no other.
    pub(super) leaving: CancellationToken,
    leases: Mutex<Leases>,
    /// Set when a server that did not know a job has jobs again: proofs that nobody knew are offered to it.
    pub(super) relearnt: watch::Sender<()>,
}

/// Jobs that this client has, wants or had.
#[derive(Default)]
struct Leases {
    /// Set while the client has nothing to prove: where the first job goes that a server lends it.
    wanted: Option<oneshot::Sender<(usize, Response)>>,
    /// Of the job at hand.
    current: Option<LeaseId>,
    /// Of proofs that are not judged yet.
    owed: HashMap<LeaseId, Debt>,
    /// Of the latest proofs that are.
    judged: VecDeque<LeaseId>,
}

/// A proof that is not judged yet.
#[derive(Debug)]
struct Debt {
    job: JobId,
    /// Which of our servers lent the job.
    home: Option<usize>,
    /// Every server that may be the lender has been tried.
    tried: bool,
    /// The lender has it, and is verifying it.
    submitted: bool,
    /// These servers do not know the job.
    strangers: HashSet<usize>,
}

/// What becomes of a job that a server lends us.
pub(super) enum Lent {
    /// Somebody waits for it.
    Taken,
    /// It is one that we have already, or have proven.
    Known,
    /// Nobody wants it: it has to go back.
    Unwanted(Box<Response>),
}

impl Shared {
    /// What the parts of a client share.
    pub(crate) fn new(
        config: Config,
        servers: Vec<Server>,
        journal: Arc<Journal>,
        prover: Arc<dyn Prover>,
        status: watch::Sender<Status>,
        metrics: Metrics,
        stop: Stop,
    ) -> Self {
        let host = crate::config::host_name();
        let name = config.name.clone().unwrap_or_else(|| host.clone());
        let instance = InstanceId::from_bytes(rand::random());
        Self {
            origin: Origin { instance, name, host },
            config,
            servers,
            journal,
            prover,
            status,
            metrics,
            stop,
            changed: Notify::new(),
            leaving: CancellationToken::new(),
            leases: Mutex::default(),
            relearnt: watch::Sender::new(()),
        }
    }

    /// A request for work, which the server may hold open for `wait`.
    pub(super) fn request(&self, wait: Duration) -> Request {
        let prover = &*self.prover;
        let hardware = prover.hardware();
        let capable = |program_id, kinds: Vec<ProofKind>| Capability {
            system: prover.system(),
            program_id,
            mocked: prover.danger().is_some(),
            kinds,
            segment_po2: prover.segment_po2(),
            engine: prover.engine(),
            memory_bytes: hardware.memory_bytes,
            gpus: hardware.gpus.clone(),
        };
        // Proofs are folded by a program of its own.
        let programs = std::iter::once(prover.program_id())
            .chain(prover.aggregate_id().filter(|folds| *folds != prover.program_id()));
        let capabilities = programs.map(|program_id| {
            let all = prover.kinds().into_iter();
            capable(program_id, all.filter(|kind| prover.makes(program_id, *kind)).collect())
        });
        Request {
            client: self.journal.client(),
            capabilities: capabilities.filter(|able| !able.kinds.is_empty()).collect(),
            wait_ms: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
            origin: Some(self.origin.clone()),
        }
    }

    /// Which of our servers has this address.
    pub(super) fn server_index(&self, address: Option<&str>) -> Option<usize> {
        self.servers.iter().position(|server| Some(server.api.server()) == address)
    }

    /// Says what the client does, unless it is busy with a job: then that is what it does.
    pub(super) fn show(&self, phase: Phase) {
        self.status.send_if_modified(|status| {
            let quiet = matches!(
                status.phase,
                Phase::Idle(_) | Phase::Unreachable { .. } | Phase::Submitting { .. }
            );
            if quiet {
                status.phase = phase;
            }
            quiet
        });
    }

    /// A server says that another process uses this client's id: this one asks for no more work, and hands in what it has.
    pub(super) fn another_instance(&self, server: &str) {
        let folder = self.config.data_dir.display();
        let error = format!(
            "another process works under the id of this client, says {server}: probably a copy of the folder {folder}. \
             Give each client a folder of its own, and delete the file client-id in the copy"
        );
        if self.stop.draining.is_cancelled() {
            return;
        }
        tracing::warn!(code = "folder_cloned", %error, "this client stops");
        self.status.send_modify(|status| {
            status.last_error = Some(error.clone());
            status.fatal = Some(error);
        });
        self.stop.draining.cancel();
    }

    fn leases(&self) -> MutexGuard<'_, Leases> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the folder's disk has room for a job.
    pub(super) fn room(&self) -> Result<(), JournalError> {
        self.journal.room(self.config.min_free_bytes)
    }

    /// From now on the first job that a server lends us is wanted.
    pub(super) fn want(&self) -> oneshot::Receiver<(usize, Response)> {
        let (tell, lent) = oneshot::channel();
        self.leases().wanted = Some(tell);
        lent
    }

    /// From now on no job is wanted.
    pub(super) fn want_none(&self) {
        self.leases().wanted = None;
    }

    /// A server has lent us a job.
    pub(super) fn lent(&self, server_index: usize, job: Response) -> Lent {
        let mut leases = self.leases();
        // A server that was rebuilt lends a job whose proof we have: it need not wait until the proof is due again.
        if leases.owed.values().any(|debt| debt.job == job.job && !debt.strangers.is_empty()) {
            self.relearnt.send_replace(());
        }
        // Servers that share a database lend the same job, and a lender does not know of a proof that is on its way.
        let known = leases.current == Some(job.lease)
            || leases.judged.contains(&job.lease)
            || leases.owed.values().any(|debt| debt.job == job.job);
        if known {
            return Lent::Known;
        }
        let lease = job.lease;
        let wanted = leases.wanted.take();
        if wanted.is_some_and(|tell| tell.send((server_index, job.clone())).is_ok()) {
            leases.current = Some(lease);
            return Lent::Taken;
        }
        Lent::Unwanted(Box::new(job))
    }

    /// There is no job at hand any more.
    pub(super) fn at_hand_no_more(&self) {
        self.leases().current = None;
    }

    /// A proof of a job that the server `home` lent is on disk.
    pub(super) fn owe(&self, entry: &Entry, home: Option<usize>) {
        let debt = Debt {
            job: entry.job,
            home,
            tried: false,
            submitted: false,
            strangers: HashSet::new(),
        };
        let mut leases = self.leases();
        leases.owed.insert(entry.submit.lease, debt);
        leases.current = leases.current.filter(|current| *current != entry.submit.lease);
    }

    fn noted(&self, entry: &Entry, note: impl FnOnce(&mut Debt)) {
        if let Some(debt) = self.leases().owed.get_mut(&entry.submit.lease) {
            note(debt);
        }
        self.changed.notify_one();
    }

    /// A server does not know the job of this proof.
    pub(super) fn is_stranger(&self, entry: &Entry, server_index: usize) {
        self.noted(entry, |debt| debt.strangers.extend([server_index]));
    }

    /// The lender has this proof, and does not count on its lease any more.
    pub(super) fn is_submitted(&self, entry: &Entry) {
        self.noted(entry, |debt| debt.submitted = true);
    }

    /// All servers were tried with this proof.
    pub(super) fn is_tried(&self, entry: &Entry) {
        self.noted(entry, |debt| debt.tried = true);
    }

    /// This proof is not there any more: its job may be lent to us again.
    pub(super) fn is_lost(&self, entry: &Entry) {
        self.leases().owed.remove(&entry.submit.lease);
        self.changed.notify_one();
    }

    /// This proof was judged.
    pub(super) fn is_judged(&self, entry: &Entry) {
        let mut leases = self.leases();
        leases.owed.remove(&entry.submit.lease);
        leases.judged.push_back(entry.submit.lease);
        if leases.judged.len() > MOST_JUDGED {
            leases.judged.pop_front();
        }
        drop(leases);
        self.changed.notify_one();
    }

    /// Whether a server may be asked for work. One that lent us a job takes a request for the end of that job, until it has the
    /// proof. A server that shares its database does the same; whether one does is known when it was asked about the job.
    pub(super) fn may_ask(&self, server_index: usize) -> bool {
        self.leases().owed.values().all(|debt| {
            let unknown = debt.home.is_none() && debt.tried;
            debt.submitted || unknown || debt.strangers.contains(&server_index)
        })
    }

    /// Tells a server that a job is not proved, if it can be told within a few seconds.
    pub(super) async fn report(
        &self,
        server_index: usize,
        job: JobId,
        lease: LeaseId,
        class: FailureClass,
        message: String,
    ) {
        let fail = Fail { client: self.journal.client(), lease, class, message };
        let report = self.try_report(server_index, job, fail);
        let _given_up = tokio::time::timeout(FAIL_PATIENCE, report).await;
    }

    async fn try_report(&self, server_index: usize, job: JobId, fail: Fail) {
        for attempt in 0..FAIL_ATTEMPTS {
            match self.servers[server_index].api.fail(&job, fail.clone()).await {
                Err(error) if error.retryable() => {
                    let pause = back_off(attempt, Duration::from_secs(2), rand::random());
                    tokio::time::sleep(pause.max(error.retry_after().unwrap_or_default())).await;
                }
                Err(error) => {
                    return tracing::debug!(%job, %error, "server does not take the failure");
                }
                Ok(()) => return,
            }
        }
    }
}

/// Runs what blocks on a thread for that.
pub(super) async fn blocking<T: Send + 'static, E: Send + 'static>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, E> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
