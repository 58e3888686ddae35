//! What the endpoints call.

use super::{health, limits::Limiter, tls::Tls};
use crate::{
    access::gate::Gate,
    artifacts::Artifacts,
    clock::Timestamp,
    dashboard::feed::Feed,
    data_folder::{NoRoom, Room, Space},
    dispatch::{JobError, Jobs, peers::Leadership},
    intake::Progress,
    jobs::settlement::{Rollup, Settled},
    maintenance::gc,
    observe::metrics::{self, Here, Metrics},
    parts::Crashed,
    store::{Actor, StoreError},
};
use protocol::{CollectGarbage, Garbage, Readiness, SettlementStatus, Status};
use std::time::Duration;
use tokio::sync::watch;

/// The running parts of a server. Clones share them.
#[derive(Clone, Debug)]
pub struct Service {
    jobs: Jobs,
    artifacts: Artifacts,
    intake: watch::Receiver<Progress>,
    leadership: Leadership,
    gate: Gate,
    tls: Option<Tls>,
    limiter: Limiter,
    space: Space,
    crashed: Crashed,
    feed: Feed,
}

impl Service {
    /// Puts the parts together.
    #[expect(clippy::too_many_arguments, reason = "it is made once, of all there is")]
    pub fn new(
        jobs: Jobs,
        artifacts: Artifacts,
        intake: watch::Receiver<Progress>,
        leadership: Leadership,
        gate: Gate,
        tls: Option<Tls>,
        limiter: Limiter,
        space: Space,
        crashed: Crashed,
        feed: Feed,
    ) -> Self {
        Self { jobs, artifacts, intake, leadership, gate, tls, limiter, space, crashed, feed }
    }

    /// Who may come in.
    pub fn gate(&self) -> &Gate {
        &self.gate
    }

    /// How much of it.
    pub fn limiter(&self) -> &Limiter {
        &self.limiter
    }

    /// What the dashboard shows.
    pub fn feed(&self) -> &Feed {
        &self.feed
    }

    /// Room on the disk for an upload of so many bytes; 0 if nobody has said how many.
    ///
    /// # Errors
    /// [`NoRoom`] if there is none.
    pub async fn room(&self, bytes: u64) -> Result<Room, NoRoom> {
        let space = self.space.clone();
        let room = tokio::task::spawn_blocking(move || space.reserve(bytes)).await;
        room.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
    }

    /// The part of the server that crashed, if one did: then it lives no more.
    pub fn crashed(&self) -> Option<&'static str> {
        *self.crashed.borrow()
    }

    /// The jobs.
    pub fn jobs(&self) -> &Jobs {
        &self.jobs
    }

    /// The artifacts.
    pub fn artifacts(&self) -> &Artifacts {
        &self.artifacts
    }

    /// Removes artifacts that nothing needs any more: see [`gc::collect`].
    ///
    /// # Errors
    /// Those of [`gc::collect`].
    pub async fn collect_garbage(
        &self,
        asked: &CollectGarbage,
        by: &Actor,
    ) -> Result<Garbage, JobError> {
        let age = Duration::from_millis(asked.older_than_ms);
        let store = self.jobs.store();
        let garbage = gc::collect(store, &self.artifacts, age, asked.dry_run).await?;
        if !asked.dry_run {
            gc::record(store, &garbage, by, self.jobs.now().await?).await?;
        }
        tracing::info!(?garbage, %by, "garbage collected, or counted");
        Ok(garbage)
    }

    /// Lets another server of the database follow its node instead of this one.
    ///
    /// # Errors
    /// [`JobError::NotHandedOver`] if none can; [`JobError::Store`] if the database fails.
    pub async fn hand_over(&self, by: &Actor) -> Result<(), JobError> {
        self.leadership.hand_over().await?;
        let (store, now) = (self.jobs.store(), self.jobs.now().await?);
        store.note(by, "hand over", "the intake".into(), None, now).await?;
        tracing::info!(%by, "an operator let another server follow its node");
        Ok(())
    }

    /// What is counted.
    pub fn metrics(&self) -> &Metrics {
        self.jobs.metrics()
    }

    /// What is counted, and how things stand, in the OpenMetrics text format.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn metrics_text(&self) -> Result<String, StoreError> {
        let (now, targets) = (self.jobs.now().await?, self.jobs.targets());
        let figures = self.jobs.store().figures(targets, now, metrics::ALIVE).await?;
        let Progress { status, head } = self.intake.borrow().clone();
        let seconds = |at: Timestamp| i64::try_from(at.0 / 1_000).unwrap_or(i64::MAX);
        let here = Here {
            proofs_waiting: self.jobs.proofs_waiting(),
            requests_waiting: self.jobs.requests_waiting(),
            jobs_without_prover: self.jobs.without_prover(&figures.unheld),
            token_expires: self.gate.next_expiry().map_or(0, seconds),
            certificate_expires: self.tls.as_ref().map_or(0, Tls::expires_at),
        };
        Ok(self.metrics().text(&figures, &here, &status, head))
    }

    /// Whether the server can do its work.
    pub async fn readiness(&self) -> Readiness {
        let intake = self.intake.borrow().status.clone();
        health::check(&self.jobs, &self.artifacts, &intake).await
    }

    /// A snapshot for people.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn status(&self) -> Result<Status, StoreError> {
        let now = self.jobs.now().await?;
        let (store, targets) = (self.jobs.store(), self.jobs.targets());
        let Progress { status: intake, head } = self.intake.borrow().clone();
        Ok(Status {
            now: now.0,
            intake,
            head,
            last_enqueued: store.tip().await?.map(|tip| tip.last),
            proved_through: store.proved_through(targets).await?,
            finalized: store.finalized().await?,
            counts: store.counts(targets).await?,
            jobs: self.jobs.summaries().await?,
            clients: store.clients(now).await?,
            draining_since: self.jobs.switches().draining.map(|since| since.0),
            paused_since: self.jobs.switches().paused.map(|since| since.0),
            settlements: store.settled_on().await?.into_iter().map(settlement).collect(),
        })
    }
}

fn settlement((rollup, settled): (Rollup, Settled)) -> SettlementStatus {
    SettlementStatus {
        l1_chain_id: rollup.chain_id,
        rollup: rollup.address.to_string(),
        settled: settled.settled,
        finalized: settled.finalized,
        balance_gwei: settled.balance_gwei,
        waiting_since: settled.waiting_since.map(|since| since.0),
        alarm: settled.alarm,
        seen_at: settled.seen_at.map(|at| at.0),
    }
}
