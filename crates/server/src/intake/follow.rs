//! The loop: asks for the node's head, notices reorgs, and enqueues one batch after the other.

use super::{
    Intake, Progress,
    batching::{Ahead, Waiting},
    error::{IntakeError, may_lag},
    finality::Finality,
    reorg::{Anchor, Reorg},
    source::BatchSource,
    stranded,
    trouble::{Trouble, Verdict},
};
use crate::{dispatch::peers::NodeHealth, jobs::batch::NewBatch, observe::traces};
use bytes::Bytes;
use protocol::{BlockRange, IntakeStatus, messages::readable};
use std::time::{Duration, Instant, SystemTime};
use tokio_util::sync::CancellationToken;

/// How often a server that does not lead asks its node whether it could.
const PROBE: Duration = Duration::from_secs(2);

pub(super) enum Step {
    /// A batch was enqueued; there may be more.
    Enqueued,
    /// All blocks have jobs.
    AtHead,
    /// Enough jobs are ready.
    Full,
}

/// What the intake remembers from one step to the next, while it leads.
#[derive(Default)]
struct Underway {
    ahead: Ahead,
    waiting: Option<Waiting>,
    /// Not known before the first step.
    stranded: Option<stranded::Queue>,
    finality: Finality,
}

impl<S: BatchSource> Intake<S> {
    /// Runs until `shutdown`. What fails is tried again: a block is never skipped.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let mut failures = 0;
        let mut underway = Underway::default();
        let mut trouble = Trouble::default();
        let mut head_failed = false;
        loop {
            if !*self.leads.borrow() {
                underway = Underway::default();
                // What its node said last is of no use while another server follows its own.
                let progress = Progress { status: IntakeStatus::Standby, head: None };
                self.progress.send_replace(progress);
                let rest = trouble.rest(head_failed);
                let mut leads = self.leads.clone();
                tokio::select! {
                    biased;
                    () = shutdown.cancelled() => return,
                    leads = leads.wait_for(|leads| *leads) => if leads.is_err() { return },
                    () = self.probe(rest) => {}
                }
                tracing::info!("this server follows the node now");
            }
            if self.jobs.switches().paused.is_some() {
                underway = Underway::default();
                // How far behind the node it falls is to be seen meanwhile.
                let Some(head) = shutdown.run_until_cancelled(self.source.head()).await else {
                    return;
                };
                if let Ok(head) = head {
                    self.saw(head);
                }
                tokio::select! {
                    biased;
                    () = shutdown.cancelled() => return,
                    () = self.jobs.taken() => {}
                    () = tokio::time::sleep(self.poll_interval) => {}
                }
                continue;
            }
            let begun = Instant::now();
            let step = tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                step = self.step(&mut underway) => step,
            };
            let now = Instant::now();
            let verdict = match &step {
                Ok(_) => {
                    trouble.over(now);
                    Verdict::Again
                }
                Err(error) => trouble.is(error, begun, now),
            };
            head_failed = matches!(step, Err(IntakeError::Head(_)));
            self.says(trouble.health());
            let pause = match &step {
                Ok(Step::Enqueued) => Duration::ZERO,
                Ok(Step::AtHead | Step::Full) => self.poll_interval,
                // Of several servers that lost one node, not all at once.
                Err(_) => self
                    .poll_interval
                    .max(Duration::from_millis(250) * 2u32.pow(failures))
                    .min(Duration::from_secs(10))
                    .mul_f64(rand::random_range(0.75..1.25))
                    .min(trouble.look_within(now).unwrap_or(Duration::MAX)),
            };
            if step.is_err() {
                underway.ahead.clear();
            }
            failures = if step.is_err() { (failures + 1).min(6) } else { 0 };
            self.tell(&step, verdict, &mut trouble);
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
                () = self.jobs.taken(), if matches!(step, Ok(Step::Full)) => {}
                () = self.source.news(), if matches!(step, Ok(Step::AtHead)) => {}
                // Another server's node may be better: then there is no point in waiting.
                Ok(()) = self.leads.changed(), if step.is_err() => {}
            }
        }
    }

    /// Asks the node, after a rest, whether this server could follow it, and again and again. Never ends.
    async fn probe(&self, rest: Duration) {
        let mut since = Instant::now();
        if !rest.is_zero() {
            self.says(NodeHealth::FailsSince(since));
            tokio::time::sleep(rest).await;
        }
        let mut failing = false;
        loop {
            let asked = Instant::now();
            let answers = self.source.head().await;
            match &answers {
                Ok(_) => self.says(NodeHealth::Answers),
                Err(error) => {
                    if !std::mem::replace(&mut failing, true) {
                        since = asked;
                        tracing::info!(%error, "this server's node does not answer, so it could not follow it");
                    }
                    self.says(NodeHealth::FailsSince(since));
                }
            }
            failing &= answers.is_err();
            tokio::time::sleep(
                PROBE.max(self.poll_interval).mul_f64(rand::random_range(0.75..1.25)),
            )
            .await;
        }
    }

    fn saw(&self, head: u64) {
        self.progress.send_if_modified(|progress| progress.head.replace(head) != Some(head));
    }

    fn says(&self, health: NodeHealth) {
        self.node.send_if_modified(|before| std::mem::replace(before, health) != health);
    }

    /// Enqueues the next batch, if there is one and room for it.
    async fn step(&self, underway: &mut Underway) -> Result<Step, IntakeError> {
        let Underway { ahead, waiting, stranded, finality } = underway;
        let head = self.source.head().await.map_err(IntakeError::Head)?;
        self.saw(head);
        let Anchor { tip, reorg } = self.anchor(head).await?;
        let first = tip.as_ref().map_or(self.start_block, |tip| tip.last.saturating_add(1));
        if let Some(Reorg { first: gone, last }) = reorg {
            ahead.clear();
            // ORDER: the new branch shows valid blocks before anything of the old one is given up.
            let blocks = BlockRange::new(first, gone.last).expect("a batch has a block");
            let prepared = self.prepare(blocks).await;
            let prepared = self.fitting(prepared, ahead).await?;
            self.follows(&tip, &prepared)?;
            if prepared.last_hash == gone.last_hash {
                // Whoever said otherwise is asked last from now on, if there is another node.
                self.source.any_has(gone.last, gone.last_hash).await;
                return Err(IntakeError::Contradiction { block: gone.last });
            }
            self.jobs.supersede(first, Some(last)).await?;
        } else if let Some(tip) = tip {
            self.finalize(finality, head, tip).await?;
        }
        if let Some(step) = self.rescue(stranded).await? {
            return Ok(step);
        }
        let Some(asked) = self.due(first, head, waiting).await? else { return Ok(Step::AtHead) };
        let ready = self.jobs.store().ready(self.jobs.targets()).await?;
        if ready >= self.ready_jobs {
            return Ok(Step::Full);
        }
        self.space.for_new()?;
        let seen = SystemTime::now();
        self.prepare_ahead(ahead, asked, head, self.ready_jobs - ready);
        let prepared = match ahead.pop_front() {
            Some((blocks, task)) if blocks == asked => {
                let prepared = task.await.expect("preparing a batch does not panic");
                self.checked(asked, prepared)
            }
            _ => self.prepare(asked).await,
        };
        let prepared = self.fitting(prepared, ahead).await?;
        let mut prepared = self.cut(prepared, ahead).await?;
        let deposits = self.place_deposits(&mut prepared, &tip).await?;
        let prepared_at = SystemTime::now();
        // Before the input is written: a node on another chain must not fill the disk.
        let mut batch = NewBatch { deposits, ..self.follows(&tip, &prepared)? };
        // ORDER: the input is durable before the jobs that name it.
        let input = Bytes::from(prepared.input);
        batch.input = self.artifacts.put(input.clone()).await?;
        for job in self.jobs.enqueue(&batch).await? {
            traces::enqueued(job, batch.blocks.to_string(), seen, prepared_at);
        }
        self.artifacts.put_again(batch.input.sha256, input).await?;
        Ok(Step::Enqueued)
    }

    fn tell(&self, step: &Result<Step, IntakeError>, verdict: Verdict, trouble: &mut Trouble) {
        // Part of it may be a node's own words.
        let text = |error: &IntakeError| readable(&error.to_string());
        let status = match step {
            Ok(Step::Enqueued | Step::AtHead) => IntakeStatus::Following,
            Ok(Step::Full) => IntakeStatus::Full,
            Err(error) if verdict == Verdict::Halted => IntakeStatus::Halted { error: text(error) },
            Err(error) => IntakeStatus::Retrying { error: text(error) },
        };
        self.progress.send_if_modified(|progress| {
            let news = progress.status != status;
            progress.status = status;
            news
        });
        let Err(error) = step else { return };
        let code = match (verdict, error) {
            (Verdict::Halted, IntakeError::Bound { .. }) => "block_beyond_bound",
            (Verdict::Halted, _) => "intake_halted",
            (Verdict::Again, error) if may_lag(error) => "node_lags",
            (Verdict::Again, _) => "intake_failed",
        };
        if !trouble.news(code, error) {
            return;
        }
        match code {
            "block_beyond_bound" => {
                tracing::error!(code = "block_beyond_bound", %error, "intake halted")
            }
            "intake_halted" => tracing::error!(code = "intake_halted", %error, "intake halted"),
            "node_lags" => {
                tracing::warn!(code = "node_lags", %error, "the node contradicts what it said before; trying again")
            }
            _ => tracing::warn!(code = "intake_failed", %error, "intake failed; trying again"),
        }
    }
}
