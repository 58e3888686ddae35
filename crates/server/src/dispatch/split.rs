//! Proofs in parts: jobs are divided, missing parts are added, and the last part's proof becomes the job's.
//!
//! [`next_steps`] decides; everything here may be cut at any instant and is done again by whoever leads next.

use super::{JobError, Jobs, queue::Sender, submissions::Admission};
use crate::{
    jobs::{
        batch::WantedPart,
        parts::{Run, Stage, Step, next_steps, rest},
    },
    observe::metrics,
    store::splits::{PartRow, Split, Undivided},
};
use futures::future::BoxFuture;
use protocol::{ArtifactRef, JobId, PartWork, ProofKind, Submit};
use std::{
    fmt,
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::watch;
use verifier::Plan;

/// Runs the program on an input, in segments of at most 2 to this power cycles, and returns the encoded [`Plan`] of the run. Blocks.
#[derive(Clone)]
pub struct Planner(Arc<PlannerFn>);

type PlannerFn = dyn Fn(&[u8], u32) -> Result<Vec<u8>, String> + Send + Sync;

impl Planner {
    /// A planner that calls `plan`.
    pub fn new(
        plan: impl Fn(&[u8], u32) -> Result<Vec<u8>, String> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(plan))
    }
}

impl fmt::Debug for Planner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Planner")
    }
}

/// When nothing happens, it is looked so often whether something is to be done.
const LOOK: Duration = Duration::from_secs(1);

/// A part is given to another client when its own takes so many times as long as the crew would ...
const PATIENCE: f64 = 4.0;

/// ... or so many times as long as it would by its own speed, if nobody waits for it ...
const LONG_PATIENCE: f64 = 16.0;

/// ... and at least so long.
const SHORTEST_PATIENCE: Duration = Duration::from_secs(120);

/// What a batch of keccak permutations, and what a join, takes as long as, in cycles of a segment (docs/benchmarks.md#proofs-in-parts).
const KECCAK_CYCLES: f64 = 400_000.0;
const JOIN_CYCLES: f64 = 100_000.0;

/// As long as no part was proved, clients are expected to prove so many cycles a second: a slow machine without a GPU.
const UNKNOWN_SPEED: f64 = 1_000.0;

/// The size of segments where no client says what it can hold.
const SEGMENT_PO2: u32 = 20;

/// Divides jobs and looks after their parts.
#[derive(Clone, Debug)]
pub struct Splitter {
    /// The jobs.
    pub jobs: Jobs,
    /// Makes the plans.
    pub planner: Planner,
    /// The size of segments; left out: what the clients can hold.
    pub segment_po2: Option<u32>,
    /// A run with fewer segments is not divided.
    pub least_segments: u32,
    /// Of several servers on one database, the one that leads does it.
    pub leads: watch::Receiver<bool>,
    /// When the server started.
    pub started: Instant,
    /// Within so long after that, every client that lives is heard.
    pub patience: Duration,
}

impl Splitter {
    /// Divides jobs, until the server stops.
    pub async fn divide(self) {
        self.repeat(true).await;
    }

    /// Looks after the parts, until the server stops.
    pub async fn look_after(self) {
        self.repeat(false).await;
    }

    /// Divides jobs, or looks after their parts, whenever something has changed.
    async fn repeat(&self, divides: bool) {
        let inner = &self.jobs.0;
        let mut took = Duration::ZERO;
        loop {
            let changed = inner.parts_changed.notified();
            tokio::pin!(changed);
            // ORDER: before it is done, so that what changes meanwhile is heard.
            changed.as_mut().enable();
            tokio::select! {
                biased;
                () = inner.stopping.cancelled() => return,
                () = tokio::time::sleep(rest(took)) => {}
            }
            let begun = Instant::now();
            let done = if divides { self.divide_next().await } else { self.look_at_all().await };
            if let Err(error) = done {
                report(&error);
            }
            took = begun.elapsed();
            tokio::select! {
                biased;
                () = inner.stopping.cancelled() => return,
                () = changed => {}
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    async fn divide_next(&self) -> Result<(), JobError> {
        if !*self.leads.borrow() {
            return Ok(());
        }
        let (jobs, store) = (&self.jobs, self.jobs.store());
        let Some(job) = store.undivided().await? else { return Ok(()) };
        let now = jobs.now().await?;
        // ORDER: first who is able, then who helps: whoever helps is one of the crew before it counts as able.
        let able = jobs.is_able(&(job.target.system, job.target.program_id, ProofKind::Succinct));
        let crew = jobs.crew(|crew| crew.len(now));
        if crew == 0 {
            // Somebody asks who can only prove it whole.
            if able {
                store.lend_whole(job.job, now).await?;
                jobs.0.line.news();
            }
            return Ok(());
        }
        // Enough for everybody who may ask.
        if store.ready_parts().await? > crew as u64 {
            return Ok(());
        }
        let held = jobs.crew(|crew| crew.segment_po2(now));
        let segment_po2 = self.segment_po2.or(held).unwrap_or(SEGMENT_PO2);
        if !jobs.crew(|crew| crew.holds(segment_po2, now)) {
            tracing::warn!(code = "segments_too_large", job = %job.job, segment_po2, "no client can hold segments of this size; the job is lent whole");
            store.lend_whole(job.job, now).await?;
            jobs.0.line.news();
            return Ok(());
        }
        match self.plan(&job, segment_po2).await? {
            Ok((plan, run)) if run.segments >= self.least_segments => {
                store.divide(job.job, plan, segment_po2, run, jobs.now().await?).await?;
                tracing::info!(job = %job.job, segments = run.segments, keccak = run.keccak, segment_po2, "job divided into parts");
            }
            Ok((_, run)) => {
                tracing::info!(job = %job.job, segments = run.segments, "job is too small to be divided; it is lent whole");
                store.lend_whole(job.job, jobs.now().await?).await?;
            }
            Err(error) => {
                tracing::warn!(code = "split_failed", job = %job.job, %error, "the job cannot be divided; it is lent whole");
                store.lend_whole(job.job, jobs.now().await?).await?;
            }
        }
        jobs.0.parts_changed.notify_waiters();
        jobs.0.line.news();
        Ok(())
    }

    /// The plan of a job's run, which is durable, and what it consists of; or why there is none.
    async fn plan(
        &self,
        job: &Undivided,
        segment_po2: u32,
    ) -> Result<Result<(ArtifactRef, Run), String>, JobError> {
        let input = match self.jobs.0.artifacts.read(job.input.sha256).await {
            Ok(input) => input,
            Err(error) => return Ok(Err(error.to_string())),
        };
        let planner = self.planner.clone();
        let planned = tokio::task::spawn_blocking(move || (planner.0)(&input, segment_po2)).await;
        let bytes = match planned {
            Ok(Ok(bytes)) => bytes,
            Ok(Err(error)) => return Ok(Err(error)),
            Err(panic) => return Ok(Err(panic.to_string())),
        };
        let plan = match Plan::decode(&bytes) {
            Ok(plan) if plan.segment_po2 == segment_po2 => plan,
            Ok(plan) => return Ok(Err(format!("a plan with segments of 2^{}", plan.segment_po2))),
            Err(error) => return Ok(Err(error.to_string())),
        };
        // Otherwise the whole would be refused in the end, after all its parts were proven.
        if plan.public_values != job.statement {
            return Ok(
                Err("the run ends with another statement than this server's own".to_owned()),
            );
        }
        let run = Run {
            segments: plan.segments(),
            keccak: u32::try_from(plan.keccak.len()).unwrap_or(u32::MAX),
        };
        Ok(Ok((self.jobs.0.artifacts.put(bytes).await?, run)))
    }

    async fn look_at_all(&self) -> Result<(), JobError> {
        if !*self.leads.borrow() {
            return Ok(());
        }
        let (jobs, store) = (&self.jobs, self.jobs.store());
        store.drop_orphans(jobs.now().await?).await?;
        for split in store.splits().await? {
            // One that cannot be looked after keeps no other from it.
            if let Err(error) = self.look_at(&split).await {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(code = "parts_failed", job = %split.job, error, "the parts of a job could not be looked after; trying again");
            }
        }
        Ok(())
    }

    async fn look_at(&self, split: &Split) -> Result<(), JobError> {
        let (jobs, store) = (&self.jobs, self.jobs.store());
        let now = jobs.now().await?;
        let parts = store.parts(split.job).await?;
        if split.over {
            for part in parts.iter().filter(|part| part.state.stage.is_open()) {
                store.drop_part(part.id, now).await?;
            }
            return Ok(());
        }
        if let Some((part, proof)) = store.finished(split.job).await? {
            return match jobs.whole_proved(split.job, proof).await {
                Err(JobError::ProofMissing(_) | JobError::WrongLength { .. }) => {
                    Ok(store.forget_part(split.job, part, now).await?)
                }
                other => other,
            };
        }
        // ORDER: as above.
        let whole = jobs.whole_is_asked_for(&parts);
        let (crew, keccak_parts, held) = jobs.crew(|crew| {
            (crew.len(now), crew.keccak_parts(now), crew.holds(split.segment_po2, now))
        });
        let at_work = parts.iter().any(|part| part.state.stage == Stage::Held);
        // Who helped before the server started anew may not have asked yet.
        if !at_work && !held && self.started.elapsed() > self.patience {
            if crew > 0 {
                tracing::warn!(code = "segments_too_large", job = %split.job, segment_po2 = split.segment_po2, "no client can hold the segments of a job's parts; it is divided anew");
                store.divide_again(split.job, now).await?;
            } else if whole {
                tracing::warn!(code = "no_helpers", job = %split.job, "no client asks for parts any more; the job is lent whole");
                store.lend_whole(split.job, now).await?;
            }
            return Ok(());
        }
        let crew = crew.max(1);
        let states: Vec<_> = parts.iter().map(|part| part.state).collect();
        let steps = next_steps(split.run, &states, crew, keccak_parts);
        if steps.is_empty() {
            return self.hurry(split, &parts).await;
        }
        for step in steps {
            match step {
                Step::Add(work) => {
                    if store.add_part(split.job, work, now).await? {
                        tracing::info!(job = %split.job, part = %work, "part added");
                    }
                }
                Step::Again(work) => {
                    if let Some(part) = parts.iter().find(|part| part.state.work == work) {
                        tracing::warn!(code = "part_tried_again", job = %split.job, part = %work, tried = part.state.tried, "a part was given up, and is tried again");
                        store.try_part_again(part.id, now).await?;
                    }
                }
                Step::Cancel(work) => {
                    if let Some(part) = parts.iter().find(|part| part.state.work == work) {
                        store.drop_part(part.id, now).await?;
                    }
                }
                Step::Dissolve => {
                    tracing::warn!(code = "part_given_up", job = %split.job, "a part was given up again and again; the job is lent whole");
                    store.lend_whole(split.job, now).await?;
                    break;
                }
            }
        }
        jobs.0.line.news();
        Ok(())
    }

    /// Gives parts to others whose clients take far longer than the crew would, sooner if somebody waits.
    async fn hurry(&self, split: &Split, parts: &[PartRow]) -> Result<(), JobError> {
        let (jobs, store) = (&self.jobs, self.jobs.store());
        let ready = parts.iter().any(|part| part.state.stage == Stage::Ready);
        let idle = !ready && jobs.requests_waiting() > 0;
        let now = jobs.now().await?;
        for part in parts {
            let Some((client, since)) = part.held else { continue };
            let (its, usual) = jobs.crew(|crew| (crew.speed(client), crew.usual(now)));
            // Who waits could have it done at the usual speed; otherwise a slow client has the time that it needs.
            let (patience, speed) = match usual.filter(|_| idle) {
                Some(usual) => (PATIENCE, usual),
                None => (LONG_PATIENCE, its.unwrap_or(UNKNOWN_SPEED)),
            };
            let (first, end) = part.state.work.range();
            let range = f64::from((end - first).max(1));
            let cycles = match part.state.work {
                PartWork::Segments { .. } => range * 2f64.powi(split.segment_po2.cast_signed()),
                PartWork::Keccak { .. } => range * KECCAK_CYCLES,
                PartWork::Join { .. } | PartWork::Unite { .. } => range * JOIN_CYCLES,
                PartWork::Finish => f64::from(split.run.segments) * JOIN_CYCLES,
            };
            let patience = Duration::from_secs_f64((patience * cycles / speed).min(1e9))
                .max(SHORTEST_PATIENCE);
            if now.after(since) > patience
                && let Some(lease) = store.lend_again(part.id, now).await?
            {
                tracing::warn!(code = "part_slow", job = %part.id, part = %part.state.work, %client, "a client takes too long for its part, which is lent again");
                jobs.forget(lease);
                jobs.0.line.news();
            }
        }
        Ok(())
    }
}

impl Jobs {
    /// The plan that a part is checked against.
    pub(super) async fn plan_of(&self, part: &WantedPart) -> Result<Plan, JobError> {
        let bytes = self.0.artifacts.read(part.plan.sha256).await?;
        Plan::decode(&bytes).map_err(|error| JobError::Plan { job: part.of.parent, error })
    }

    /// Notes that a part was proved.
    pub(super) fn part_proved(&self, submit: &Submit, part: &WantedPart, took: Option<Duration>) {
        if let (Some(cycles), Some(took)) = (part.segment_cycles(), took) {
            self.crew(|crew| crew.proved(submit.client, cycles, took));
        }
        self.0.parts_changed.notify_waiters();
    }

    /// Hands in the proof of a job's last part as that of the job itself.
    pub(super) fn whole_proved(
        &self,
        job: JobId,
        proof: Submit,
    ) -> BoxFuture<'_, Result<(), JobError>> {
        let sender = Sender::of(&proof.client);
        // Boxed, since verifying the last part comes back here.
        Box::pin(async move { self.open(job, proof, sender, Admission::Always).await.map(drop) })
    }

    /// Whether somebody asks lately for whole jobs of the kind whose parts these are.
    fn whole_is_asked_for(&self, parts: &[PartRow]) -> bool {
        let target = parts.first().map(|part| part.target);
        target.is_some_and(|target| {
            self.is_able(&(target.system, target.program_id, ProofKind::Succinct))
        })
    }

    /// Whether a client has asked lately that proves this.
    fn is_able(&self, kind: &super::Kind) -> bool {
        let able = self.0.able.lock().unwrap_or_else(PoisonError::into_inner);
        able.get(kind).is_some_and(|at| at.elapsed() < metrics::ALIVE)
    }
}

fn report(error: &JobError) {
    let error = error as &dyn std::error::Error;
    tracing::warn!(
        code = "parts_failed",
        error,
        "parts of proofs could not be looked after; trying again"
    );
}
