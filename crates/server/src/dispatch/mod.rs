//! Jobs: what clients may do with them, step by step.
//!
//! [`state`](crate::jobs::state) decides, [`store`](crate::store) remembers in a [`database`](crate::database) that other
//! servers ([`peers`]) may share, and [`Jobs`] is what the rest of the server talks to. A proof is acknowledged only after
//! it is durable and verified.

mod error;
mod fold;
mod instances;
mod line;
mod operators;
pub mod peers;
mod queue;
mod requests;
mod split;
mod submissions;
mod verification;

pub use error::JobError;
pub use fold::Folder;
pub use queue::{Busy, Sender};
pub use split::{Planner, Splitter};

use crate::{
    artifacts::Artifacts,
    clock::Timestamp,
    database::Notification,
    jobs::{
        Party,
        batch::{NewBatch, Target, Targets, Tip},
        crew::Crew,
        fold::Folding,
    },
    observe::metrics::{self, Metrics},
    store::{BatchInput, Done, Fact, JobStore, StoreError, Stranded, Superseded, Switches},
};
use instances::{Descriptions, Instances};
use line::{Kind, Line};
use protocol::{
    ArtifactId, ArtifactRef, BlockRange, ClientId, JobId, LeaseId, Progress, ProofKind, Verdict,
};
use queue::Queue;
use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::{Notify, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use verifier::Policy;

/// What clients may do with jobs. Clones share everything.
#[derive(Clone, Debug)]
pub struct Jobs(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: JobStore,
    artifacts: Artifacts,
    metrics: Metrics,
    rules: JobsConfig,
    /// Those who wait for a job.
    line: Line,
    /// Notified whenever something changed for all who wait for a job.
    changed: Notify,
    /// Notified whenever a job left the ready ones, so that another may be prepared.
    taken: Notify,
    /// What live leases last said.
    progress: Mutex<HashMap<LeaseId, Progress>>,
    /// Proofs being verified, so that submitting twice verifies once.
    verifying: Mutex<HashMap<Verifying, watch::Receiver<Option<Verdict>>>>,
    queue: Queue,
    /// When a client asked last that can prove something that is wanted.
    able: Mutex<HashMap<Kind, Instant>>,
    /// The clients that prove parts.
    crew: Mutex<Crew>,
    /// Something happened to a part, or there is a job to be divided.
    parts_changed: Notify,
    /// Notified when a proof of a batch was accepted, which may be folded with others.
    proved: Notify,
    /// Something that was folded may have to be folded anew.
    refold: AtomicBool,
    /// The processes that work under each client's id, apart for each token: anybody can name a client.
    instances: Mutex<Instances<(ClientId, Party)>>,
    /// What clients said of themselves.
    descriptions: Mutex<Descriptions>,
    /// Jobs whose inputs are lost.
    lost_inputs: Mutex<BTreeSet<JobId>>,
    /// Notified when there is one more.
    input_lost: Notify,
    /// The processes that work under each lease.
    holders: Mutex<Instances<LeaseId>>,
    /// What operators have turned on.
    switches: Mutex<Switches>,
    tasks: TaskTracker,
    stopping: CancellationToken,
}

type Verifying = (JobId, LeaseId, ArtifactId);

/// What the jobs' keeper has to know.
#[derive(Clone, Debug)]
pub struct JobsConfig {
    /// The proofs that are wanted of every batch.
    pub targets: Targets,
    /// What they are folded into, if they are.
    pub folding: Vec<Folding>,
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
        let queue = Queue::new(rules.verify_threads);
        Self(Arc::new(Inner {
            store,
            artifacts,
            metrics: Metrics::new(),
            rules,
            line: Line::default(),
            changed: Notify::new(),
            taken: Notify::new(),
            progress: Mutex::default(),
            verifying: Mutex::default(),
            instances: Mutex::default(),
            descriptions: Mutex::default(),
            lost_inputs: Mutex::default(),
            input_lost: Notify::new(),
            holders: Mutex::default(),
            queue,
            able: Mutex::default(),
            crew: Mutex::default(),
            parts_changed: Notify::new(),
            proved: Notify::new(),
            refold: AtomicBool::default(),
            switches: Mutex::default(),
            tasks: TaskTracker::new(),
            stopping,
        }))
    }

    /// Where the jobs are kept.
    pub fn store(&self) -> &JobStore {
        &self.0.store
    }

    /// The proofs that are wanted of every batch.
    pub fn targets(&self) -> &Targets {
        &self.0.rules.targets
    }

    /// What is counted.
    pub fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// Proofs that wait to be verified, or are.
    pub fn proofs_waiting(&self) -> u64 {
        self.0.queue.len()
    }

    /// Requests for work that are held open.
    pub fn requests_waiting(&self) -> u64 {
        self.0.line.len()
    }

    /// How many of these jobs no client has asked for lately.
    pub fn without_prover(&self, unheld: &[(Target, u64)]) -> u64 {
        let able = self.0.able.lock().unwrap_or_else(PoisonError::into_inner);
        let asked = |target: &Target| {
            let at = able.get(&(target.system, target.program_id, target.kind));
            at.is_some_and(|at| at.elapsed() < metrics::ALIVE)
        };
        unheld.iter().filter(|(target, _)| !asked(target)).map(|(_, jobs)| jobs).sum()
    }

    /// Looks at the crew, or changes it.
    fn crew<T>(&self, with: impl FnOnce(&mut Crew) -> T) -> T {
        with(&mut self.0.crew.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What the wanted proofs ask for, the parts of those that are made of parts, and what they are folded into.
    fn wanted_kinds(&self) -> Vec<Kind> {
        let kinds = |target: &Target| {
            [target.kind, ProofKind::Part].map(|kind| (target.system, target.program_id, kind))
        };
        let folded = self.0.rules.folding.iter().map(|it| &it.into);
        let folded = folded.map(|it| (it.system, it.program_id, it.kind));
        self.targets().iter().flat_map(kinds).chain(folded).collect()
    }

    /// Notes that a client asks that can prove jobs of these kinds.
    fn able(&self, kinds: &[Kind]) {
        let wanted = self.wanted_kinds();
        let wanted = |kind: &&Kind| wanted.contains(kind);
        let mut able = self.0.able.lock().unwrap_or_else(PoisonError::into_inner);
        able.extend(kinds.iter().filter(wanted).map(|kind| (*kind, Instant::now())));
    }

    /// Counts and logs what became durable, and hands on the answer.
    fn noted<T>(&self, done: Done<T>) -> T {
        for fact in done.facts {
            match fact {
                Fact::LeaseLost { job, client, outcome } => {
                    self.0.metrics.lease_expired();
                    let outcome = outcome.name();
                    tracing::warn!(code = "lease_expired", %job, %client, outcome, "lease lost");
                }
                Fact::Judged(verdict) => self.0.metrics.judged(verdict),
            }
        }
        done.value
    }

    /// The time that counts for leases.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn now(&self) -> Result<Timestamp, StoreError> {
        self.0.store.now().await
    }

    /// Wakes those who wait for `news`, whichever server made it.
    pub fn wake(&self, news: Notification) {
        match news {
            Notification::Ready => self.0.line.news(),
            Notification::Taken => self.0.taken.notify_waiters(),
        }
    }

    /// Waits until no proof is being verified, then closes the store.
    pub async fn close(&self) {
        self.0.tasks.close();
        self.0.tasks.wait().await;
        self.0.store.close().await;
    }

    /// Takes in a batch and a job on it for each proof that is wanted: see [`JobStore::enqueue`].
    ///
    /// # Errors
    /// [`StoreError::Unlinked`] if it does not continue the last one.
    pub async fn enqueue(&self, batch: &NewBatch) -> Result<Vec<JobId>, StoreError> {
        let jobs = self.0.store.enqueue(batch, self.targets(), self.now().await?).await?;
        self.enqueued(&jobs, batch.blocks);
        Ok(jobs)
    }

    /// Adds the jobs that a batch lacks which nothing proves any more: see [`JobStore::rescue`].
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn rescue(&self, batch: &Stranded) -> Result<Vec<JobId>, StoreError> {
        let jobs = self.0.store.rescue(batch, self.targets(), self.now().await?).await?;
        self.enqueued(&jobs, batch.blocks);
        Ok(jobs)
    }

    fn enqueued(&self, jobs: &[JobId], blocks: BlockRange) {
        for job in jobs {
            tracing::info!(%job, %blocks, "job enqueued");
        }
        self.0.parts_changed.notify_waiters();
        self.0.line.news();
    }

    /// Says how many jobs are set aside, if there are any.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn report_set_aside(&self) -> Result<(), StoreError> {
        let (targets, jobs) = self.0.store.set_aside(self.targets()).await?;
        if jobs > 0 {
            let targets: Vec<_> = targets
                .iter()
                .map(|target| format!("{} {} {}", target.system, target.program_id, target.kind))
                .collect();
            tracing::warn!(
                code = "jobs_set_aside",
                jobs,
                targets = targets.join(", "),
                "jobs ask for proofs that are no longer wanted, and are set aside: run a client of the version that makes \
                 these proofs, or give the jobs up (l2-prover jobs cancel --set-aside)"
            );
        }
        Ok(())
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
        self.0.refold.store(true, Ordering::SeqCst);
        self.0.taken.notify_waiters();
        Ok(done)
    }

    /// Notes that the node has called the blocks up to `end` final: see [`JobStore::finalize`].
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn finalize(&self, end: Tip) -> Result<(), StoreError> {
        let batches = self.0.store.finalize(end).await?;
        if batches > 0 {
            tracing::info!(batches, block = end.last, "batches are final");
        }
        Ok(())
    }

    /// Waits until the input of a job is lost.
    pub async fn lost_input(&self) -> JobId {
        loop {
            let job = self.0.lost_inputs.lock().unwrap_or_else(PoisonError::into_inner).pop_first();
            match job {
                Some(job) => return job,
                None => self.0.input_lost.notified().await,
            }
        }
    }

    /// Puts another input of the same statement in the place of one that is lost: see [`JobStore::replace_input`].
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn replace_input(
        &self,
        lost: &BatchInput,
        input: ArtifactRef,
    ) -> Result<(), StoreError> {
        self.0.store.replace_input(lost, input, self.now().await?).await?;
        self.0.line.news();
        Ok(())
    }

    /// Waits until a job left the ready ones.
    pub async fn taken(&self) {
        self.0.taken.notified().await;
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

    fn forget(&self, lease: LeaseId) {
        self.0.progress.lock().unwrap_or_else(PoisonError::into_inner).remove(&lease);
    }
}
