//! What the endpoints call.

use crate::{
    artifacts::Artifacts,
    health,
    intake::Progress,
    jobs::{Jobs, StoreError},
    metrics::{self, Metrics},
};
use protocol::{Readiness, Status};
use tokio::sync::watch;

/// The running parts of a server. Clones share them.
#[derive(Clone, Debug)]
pub struct Service {
    jobs: Jobs,
    artifacts: Artifacts,
    intake: watch::Receiver<Progress>,
}

impl Service {
    /// Puts the parts together.
    pub fn new(jobs: Jobs, artifacts: Artifacts, intake: watch::Receiver<Progress>) -> Self {
        Self { jobs, artifacts, intake }
    }

    /// The jobs.
    pub fn jobs(&self) -> &Jobs {
        &self.jobs
    }

    /// The artifacts.
    pub fn artifacts(&self) -> &Artifacts {
        &self.artifacts
    }

    /// What is counted.
    pub fn metrics(&self) -> &Metrics {
        self.jobs.store().metrics()
    }

    /// What is counted, and how things stand, in the OpenMetrics text format.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn metrics_text(&self) -> Result<String, StoreError> {
        let figures = self.jobs.store().figures(self.jobs.now().await?, metrics::ALIVE).await?;
        Ok(self.metrics().text(&figures, &self.intake.borrow()))
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
        let store = self.jobs.store();
        let Progress { status: intake, head } = self.intake.borrow().clone();
        Ok(Status {
            now: now.0,
            intake,
            head,
            last_enqueued: store.tip().await?.map(|tip| tip.last),
            proved_through: store.proved_through().await?,
            counts: store.counts().await?,
            jobs: self.jobs.summaries().await?,
            clients: store.clients(now).await?,
        })
    }
}
